/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Firecracker's API: where log lines and figures go. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "api.h"

static const char *const names[] = {"", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"};

/* A file or a named pipe; nobody waits for a reader of the latter. -1 with the reply set. */
static int open_output(const char *path, const char *what, struct api_reply *reply)
{
	int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);

	if (fd < 0)
		api_fault(reply, "%s: %.200s: %s", what, path, strerror(errno));
	return fd;
}

/* One write a line. A pipe that nobody empties loses lines. */
static bool put_line(int fd, const char *text, size_t length)
{
	struct iovec iov[] = {{(void *)(uintptr_t)text, length}, {"\n", 1}};

	return writev(fd, iov, 2) == (ssize_t)length + 1;
}

void api_log_line(void *ctx, enum vcore_log_level level, const char *message)
{
	struct api *api = ctx;
	struct timespec now;
	struct tm tm;
	char text[1024], day[32];
	size_t used;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
	pthread_mutex_lock(&api->log_lock);
	if (!api->log.off && level <= api->log.level) {
		used = (size_t)snprintf(text, sizeof text, "%s.%09ld [%s:main%s%s%s] %s", day, now.tv_nsec, api->id,
		                        api->log.show_level ? ":" : "", api->log.show_level ? names[level] : "",
		                        api->log.show_origin ? ":microvm" : "", message);
		if (used > sizeof text - 1)
			used = sizeof text - 1;
		/* what a client has sent may be in it: it stays one line */
		for (size_t i = 0; i < used; i++)
			if ((unsigned char)text[i] < ' ')
				text[i] = '?';
		put_line(api->log.fd >= 0 ? api->log.fd : STDERR_FILENO, text, used);
	}
	pthread_mutex_unlock(&api->log_lock);
}

static const struct {
	const char *name;
	enum vcore_log_level level;
} levels[] = {
    {"Error", VCORE_LOG_ERROR}, {"Warning", VCORE_LOG_WARN}, {"Warn", VCORE_LOG_WARN},
    {"Info", VCORE_LOG_INFO},   {"Debug", VCORE_LOG_DEBUG},  {"Trace", VCORE_LOG_TRACE},
};

static void set_level(struct api_log *log, const char *level)
{
	log->off = !strcasecmp(level, "Off");
	for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
		if (!strcasecmp(levels[i].name, level))
			log->level = levels[i].level;
}

void api_put_logger(struct api *api, const struct api_handler *handler, const struct api_call *call,
                    struct api_reply *reply)
{
	const char *path = api_string(call->body, "log_path"), *level = api_string(call->body, "level");
	int fd = path ? open_output(path, "Logger error", reply) : -1;

	if (path && fd < 0)
		return;
	pthread_mutex_lock(&api->log_lock);
	if (fd >= 0) {
		if (api->log.fd >= 0)
			close(api->log.fd);
		api->log.fd = fd;
		/* as Firecracker's, once it has a file */
		api->log.level = VCORE_LOG_INFO;
	}
	if (level)
		set_level(&api->log, level);
	api->log.show_level = api_bool(call->body, "show_level", api->log.show_level);
	api->log.show_origin = api_bool(call->body, "show_log_origin", api->log.show_origin);
	pthread_mutex_unlock(&api->log_lock);
	json_object_object_add(api->config, handler->section, json_object_get(call->body));
}

/* ---- figures ---- */

void api_put_metrics(struct api *api, const struct api_handler *handler, const struct api_call *call,
                     struct api_reply *reply)
{
	int fd;

	if (api->metrics.fd >= 0) {
		api_fault(reply, "Cannot initialize the metrics system due to bad user input: it is initialized already");
		return;
	}
	fd = open_output(api_string(call->body, "metrics_path"), "Cannot initialize the metrics system", reply);
	if (fd < 0)
		return;
	api->metrics.fd = fd;
	json_object_object_add(api->config, handler->section, json_object_get(call->body));
}

static struct json_object *vm_figures(vcore_vm *vm)
{
	struct vcore_vm_info info = {.size = sizeof info};
	struct json_object *figures = json_object_new_object();

	if (!vm || vcore_vm_get_info(vm, &info) < 0)
		return figures;
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = {
	    {"time_us", info.time_ns / 1000},
	    {"exits", info.exits},
	    {"pio", info.pio},
	    {"mmio", info.mmio},
	    {"hypercalls", info.hypercalls},
	    {"interrupts", info.interrupts},
	    {"instructions", info.instructions},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		json_object_object_add(figures, rows[i].name, json_object_new_uint64(rows[i].value));
	return figures;
}

bool api_write_metrics(struct api *api, struct api_reply *reply)
{
	struct json_object *line, *requests, *wanted = api_member(api->config, "metrics");
	struct timespec now;
	const char *text;
	size_t length;

	if (api->metrics.fd < 0)
		return api_fault(reply, "Flush metrics error: no metrics_path was given by PUT /metrics");
	line = json_object_new_object();
	requests = json_object_new_object();
	clock_gettime(CLOCK_REALTIME, &now);
	json_object_object_add(line, "utc_timestamp_ms",
	                       json_object_new_int64((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000));
	if (api_bool(wanted, "emit_id", false))
		json_object_object_add(line, "id", json_object_new_string(api->id));
	json_object_object_add(requests, "count", json_object_new_uint64(api->metrics.requests));
	json_object_object_add(requests, "fails", json_object_new_uint64(api->metrics.faults));
	json_object_object_add(line, "api_requests", requests);
	json_object_object_add(line, "vm", vm_figures(api->vm));
	if (api_member(wanted, "properties"))
		json_object_object_add(line, "properties", json_object_get(api_member(wanted, "properties")));
	text = json_object_to_json_string_length(line, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &length);
	if (!put_line(api->metrics.fd, text, length))
		api_fault(reply, "Flush metrics error: the line of figures cannot be written");
	json_object_put(line);
	return reply->status < 400;
}
