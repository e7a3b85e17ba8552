/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm run: makes the vm, lets the command run, and ends as it has ended. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"

#define CMDLINE "console=ttyS0 panic=-1"

int not_run(struct outcome *o, int status, const char *format, ...)
{
	va_list args;

	o->kind = RUN_NOT_RUN;
	o->value = status;
	va_start(args, format);
	vsnprintf(o->text, sizeof o->text, format, args);
	va_end(args);
	return -1;
}

static int fail_by_library(struct outcome *o)
{
	return not_run(o, RUN_FAILED, "%s", vcore_error_message());
}

/* A comma in a property's value is doubled. */
static void escape(char *to, size_t room, const char *from)
{
	size_t used = 0;

	for (; *from && used + 2 < room; from++) {
		to[used++] = *from;
		if (*from == ',')
			to[used++] = ',';
	}
	to[used] = '\0';
}

static int add_devices(vcore_vm *vm, const struct run_settings *s, struct outcome *o)
{
	char path[8192], text[8300];

	escape(path, sizeof path, s->rootfs);
	snprintf(text, sizeof text, "transport=mmio,tag=" ROOT_TAG ",path=%s,%s", path,
	         s->writable ? "guest_owners=on" : "readonly=on");
	if (vcore_device_add(vm, "virtio-9p", text, NULL) < 0)
		return fail_by_library(o);
	if (s->network && vcore_device_add(vm, "virtio-net", "transport=mmio,net=user", NULL) < 0)
		return fail_by_library(o);
	return 0;
}

static int boot(vcore_vm *vm, const struct run_settings *s, const struct guest_kernel *kernel, struct outcome *o)
{
	struct vcore_boot_options options = {.size = sizeof options, .kernel = kernel->image};
	struct archive archive = {0};
	char cmdline[2048];
	int r = make_initrd(s, kernel, &archive, o);

	/* one that is too long is the library's to refuse */
	snprintf(cmdline, sizeof cmdline, CMDLINE "%s %s", s->verbose ? "" : " quiet", s->cmdline);
	options.cmdline = cmdline;
	options.initrd_data = archive.data;
	options.initrd_length = archive.length;
	if (r >= 0 && vcore_boot(vm, &options) < 0)
		r = fail_by_library(o);
	free(archive.data);
	return r;
}

static void run_in(vcore_vm *vm, const struct run_settings *s, int signals, const struct guest_kernel *kernel,
                   struct outcome *o)
{
	struct session *session = NULL;

	if (add_devices(vm, s, o) < 0 || !(session = session_new(vm, s, signals, o)) || boot(vm, s, kernel, o) < 0) {
		session_free(session);
		return;
	}
	if (vcore_vm_start(vm) < 0) {
		fail_by_library(o);
	} else {
		session_run(session, o);
		vcore_vm_stop(vm);
		vcore_vm_wait(vm, -1, NULL);
	}
	session_free(session);
}

static void run(const struct run_settings *s, int signals, struct outcome *o)
{
	struct guest_kernel kernel;
	vcore_vm *vm;

	if (find_kernel(s, &kernel, o) < 0)
		return;
	if (vcore_vm_new(&s->vm, &vm) < 0) {
		fail_by_library(o);
	} else {
		run_in(vm, s, signals, &kernel, o);
		vcore_vm_unref(vm);
	}
	free_kernel(&kernel);
}

/* A sentence may have several lines; the program that reads wants one. */
static void tell_program(int fd, const struct outcome *o)
{
	static const char *const words[] = {
	    [RUN_EXITED] = "exited", [RUN_KILLED] = "killed", [RUN_TIMED_OUT] = "timeout", [RUN_NOT_RUN] = "failed"};
	char text[sizeof o->text];

	snprintf(text, sizeof text, "%s", o->kind == RUN_NOT_RUN ? o->text : "");
	for (char *c = text; *c; c++)
		if (*c == '\n')
			*c = ' ';
	dprintf(fd, "%s %d %s\n", words[o->kind], o->value, text);
}

static int status_of(const struct outcome *o)
{
	switch (o->kind) {
	case RUN_KILLED:
		return RUN_SIGNAL + o->value;
	case RUN_TIMED_OUT:
		return RUN_TIMEOUT;
	default:
		return o->value;
	}
}

int run_main(int argc, char **argv)
{
	struct run_settings s = {
	    .vm = {.size = sizeof s.vm, .machine = VCORE_MACHINE_MICROVM, .memory = 512 << 20, .log = print_log},
	    .cwd = "/",
	    .user = "0",
	    .hostname = DEFAULT_HOSTNAME,
	    .cmdline = "",
	    .status_fd = -1,
	};
	struct outcome outcome = {.kind = RUN_NOT_RUN, .value = RUN_FAILED};
	int status = parse_run_options(argc, argv, &s), signals;

	if (status >= 0)
		return status ? RUN_FAILED : 0;
	s.vm.log_level = s.verbose ? VCORE_LOG_INFO : VCORE_LOG_WARN;
	signals = watch_signals(s.tty);
	run(&s, signals, &outcome);
	close(signals);
	if (s.status_fd >= 0)
		tell_program(s.status_fd, &outcome);
	else if (outcome.kind == RUN_NOT_RUN)
		fprintf(stderr, "microvm: %s\n", outcome.text);
	else if (outcome.kind == RUN_TIMED_OUT)
		fprintf(stderr, "microvm: time-out\n");
	return status_of(&outcome);
}
