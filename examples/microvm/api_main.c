/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm --api-sock: the process, from the first request to the end of the vm that they start. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "api.h"

#define METRICS_SECONDS 60

enum { WATCH_VM, WATCH_SIGNALS, WATCH_INPUT, WATCH_METRICS, WATCH_TIMEOUT, WATCHES };

static int make_timer(double first, double then)
{
	struct itimerspec time = {
	    .it_value = {(time_t)first, (long)((first - (double)(time_t)first) * 1e9)},
	    .it_interval = {(time_t)then, 0},
	};
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	if (fd >= 0)
		timerfd_settime(fd, 0, &time, NULL);
	return fd;
}

static bool drain(int fd)
{
	uint64_t count;

	return read(fd, &count, sizeof count) == sizeof count;
}

/* The vm, once it was started; NULL. */
static vcore_vm *started_vm(struct api *api)
{
	vcore_vm *vm;

	pthread_mutex_lock(&api->lock);
	vm = api->started ? api->vm : NULL;
	pthread_mutex_unlock(&api->lock);
	return vm;
}

static void flush(struct api *api)
{
	struct api_reply reply = {0};

	pthread_mutex_lock(&api->lock);
	if (api->metrics.fd >= 0)
		api_write_metrics(api, &reply);
	pthread_mutex_unlock(&api->lock);
	json_object_put(reply.body);
}

/* Until the vm has ended, or is to end. Returns true on time-out. */
static bool attend(struct api *api, int signals)
{
	struct pollfd fds[WATCHES] = {
	    [WATCH_VM] = {api->event, POLLIN},
	    [WATCH_SIGNALS] = {signals, POLLIN},
	    [WATCH_INPUT] = {-1, POLLIN},
	    [WATCH_METRICS] = {make_timer(METRICS_SECONDS, METRICS_SECONDS), POLLIN},
	    [WATCH_TIMEOUT] = {api->settings->timeout > 0 ? make_timer(api->settings->timeout, 0) : -1, POLLIN},
	};
	struct signalfd_siginfo info;
	bool timed_out = false, ended = false;
	vcore_vm *vm = NULL;

	while (!ended) {
		if (vm)
			fds[WATCH_INPUT].fd = api->console->reading ? STDIN_FILENO : -1;
		if (poll(fds, WATCHES, -1) < 0)
			continue;
		if (fds[WATCH_VM].revents & POLLIN && vm) {
			ended = true;
		} else if (fds[WATCH_VM].revents & POLLIN && drain(api->event)) {
			vm = started_vm(api);
			if (vm)
				fds[WATCH_VM].fd = vcore_vm_fd(vm);
		}
		if (fds[WATCH_METRICS].revents & POLLIN && drain(fds[WATCH_METRICS].fd))
			flush(api);
		timed_out |= fds[WATCH_TIMEOUT].revents & POLLIN && drain(fds[WATCH_TIMEOUT].fd);
		if ((fds[WATCH_SIGNALS].revents & POLLIN && read(signals, &info, sizeof info) > 0) ||
		    (fds[WATCH_INPUT].revents & (POLLIN | POLLHUP) && console_input(api->console)) ||
		    fds[WATCH_TIMEOUT].revents & POLLIN) {
			ended |= !vm;
			vcore_vm_stop(vm);
		}
	}
	close(fds[WATCH_METRICS].fd);
	if (fds[WATCH_TIMEOUT].fd >= 0)
		close(fds[WATCH_TIMEOUT].fd);
	return timed_out;
}

static int fail(const char *what, struct api_reply *reply)
{
	fprintf(stderr, "microvm: %s: %s\n", what, reply->body ? api_string(reply->body, "fault_message") : "failed");
	json_object_put(reply->body);
	return STATUS_ERROR;
}

/* What the command line says for the API. -1 to go on. */
static int apply(struct api *api)
{
	const struct settings *s = api->settings;
	const struct {
		const char *value, *path, *member, *option;
	} rows[] = {
	    {s->api_log, "/logger", "log_path", "--log-path"},
	    {s->api_level, "/logger", "level", "--level"},
	    {s->api_metrics, "/metrics", "metrics_path", "--metrics-path"},
	};
	struct api_reply reply = {0};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct json_object *body;
		const char *text;

		if (!rows[i].value)
			continue;
		body = json_object_new_object();
		json_object_object_add(body, rows[i].member, json_object_new_string(rows[i].value));
		text = json_object_to_json_string(body);
		api_handle(api, "PUT", rows[i].path, text, strlen(text), &reply);
		json_object_put(body);
		if (reply.status >= 400)
			return fail(rows[i].option, &reply);
	}
	if (s->api_metadata) {
		char *text = read_config(s->api_metadata);

		if (!text)
			return STATUS_ERROR;
		api_handle(api, "PUT", "/mmds", text, strlen(text), &reply);
		free(text);
		if (reply.status >= 400)
			return fail("--metadata", &reply);
	}
	if (s->api_file && !api_load_config(api, s->api_file, &reply))
		return fail(s->api_file, &reply);
	return -1;
}

/* As Firecracker does: a guest that reboots ends the process, and well. */
static int status_of(vcore_vm *vm, bool timed_out)
{
	struct vcore_exit exit = {.size = sizeof exit};

	if (!vm)
		return timed_out ? STATUS_TIMEOUT : STATUS_STOPPED;
	if (vcore_vm_wait(vm, -1, &exit) < 0)
		return STATUS_ERROR;
	return exit.reason == VCORE_EXIT_RESET && !timed_out ? STATUS_POWEROFF : report(&exit, timed_out);
}

int api_main(struct settings *s, struct console *console, int signals)
{
	struct api api;
	struct api_http *http = NULL;
	int status = STATUS_ERROR;
	bool timed_out;

	if (api_init(&api, s, console) < 0)
		fprintf(stderr, "microvm: no memory for the API\n");
	else
		status = apply(&api);
	if (status < 0 && !s->no_api && api_http_start(&api, s->api_sock, &http) < 0)
		status = STATUS_ERROR;
	if (status < 0) {
		timed_out = attend(&api, signals);
		api_http_stop(http);
		flush(&api);
		status = status_of(started_vm(&api), timed_out);
		if (s->stats && api.vm)
			print_stats(api.vm);
	}
	api_fini(&api);
	return status;
}
