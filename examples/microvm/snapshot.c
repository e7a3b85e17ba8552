/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm: saving the vm to a file, and going on from one. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "microvm.h"

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int fail(const char *option, const char *path)
{
	fprintf(stderr, "microvm: --%s %s: %s\n", option, path, vcore_error_message());
	return STATUS_ERROR;
}

void save_snapshot(vcore_vm *vm, const char *path)
{
	struct vcore_snapshot_info info = {.size = sizeof info};
	vcore_snapshot *snapshot;
	double from = now(), taken;
	int r = vcore_snapshot_take(vm, &snapshot);

	taken = now();
	if (r >= 0) {
		r = vcore_snapshot_save(snapshot, path, NULL);
		vcore_snapshot_get_info(snapshot, &info);
		vcore_snapshot_unref(snapshot);
	}
	if (r < 0)
		fail("snapshot-save", path);
	else
		fprintf(stderr, "microvm: %s: a snapshot of %" PRIu64 " MiB, taken in %.1f ms, saved in %.1f ms%s\n", path,
		        info.memory >> 20, (taken - from) * 1e3, (now() - taken) * 1e3, isatty(STDERR_FILENO) ? "\r" : "");
}

/* What a device of the snapshot is given in place of what it had. */
struct overrides {
	const struct settings *s;
	struct console *console;
	bool had_uart, used[MAX_DEVICES];
	bool console_failed;
	char uart[4200];
};

/* The first serial port is the console: what it was connected to has gone with the other process. */
static const char *console_properties(struct overrides *o)
{
	o->had_uart = true;
	switch (console_open(o->console, o->s->serial ? o->s->serial : "stdio", o->uart, sizeof o->uart)) {
	case 0:
		break;
	case 1:
		snprintf(o->uart, sizeof o->uart, "input=null,output=null");
		break;
	default:
		o->console_failed = true;
		return NULL;
	}
	return o->uart;
}

/* The next --device of that type. */
static const char *properties(void *ctx, uint32_t index, const char *type, const char *given)
{
	struct overrides *o = ctx;

	if (!strcmp(type, "uart") && !o->had_uart)
		return console_properties(o);
	for (unsigned i = 0; i < o->s->device_count; i++) {
		const char *device = o->s->devices[i];
		size_t n = strcspn(device, ",");

		if (o->used[i] || strlen(type) != n || strncmp(device, type, n) != 0)
			continue;
		o->used[i] = true;
		return device[n] ? device + n + 1 : "";
	}
	return NULL;
}

static struct vcore_clone_options clone_options(struct overrides *o)
{
	return (struct vcore_clone_options){
	    .size = sizeof(struct vcore_clone_options),
	    .backend = o->s->vm.backend,
	    .engine = o->s->vm.engine,
	    .log = o->s->vm.log,
	    .log_level = o->s->vm.log_level,
	    .properties = properties,
	    .ctx = o,
	};
}

/* What was made of it, from that place. -1 to go on, else the exit status. */
static int finish(const struct overrides *o, int r, const char *option, const char *place)
{
	if (o->console_failed)
		return STATUS_USAGE;
	if (r < 0)
		return fail(option, place);
	for (unsigned i = 0; i < o->s->device_count; i++)
		if (!o->used[i]) {
			fprintf(stderr, "microvm: --device %s: %s has no such device, or no further one\n", o->s->devices[i],
			        place);
			return STATUS_USAGE;
		}
	return -1;
}

int restore_vm(const struct settings *s, struct console *console, vcore_vm **vm)
{
	struct vcore_snapshot_load_options options = {.size = sizeof options,
	                                              .flags = s->no_verify ? VCORE_SNAPSHOT_NO_VERIFY : 0};
	struct overrides o = {.s = s, .console = console};
	struct vcore_clone_options clone = clone_options(&o);
	vcore_snapshot *snapshot;
	int status;

	if (vcore_snapshot_load(s->restore, &options, &snapshot) < 0)
		return fail("restore", s->restore);
	status = finish(&o, vcore_snapshot_clone(snapshot, &clone, vm), "restore", s->restore);
	vcore_snapshot_unref(snapshot);
	return status;
}

struct incoming {
	struct progress progress;
	struct vcore_migrate_info last;
};

static int show_incoming(void *ctx, const struct vcore_migrate_info *info)
{
	struct incoming *in = ctx;

	in->last = *info;
	progress_show(&in->progress, info);
	return 0;
}

int take_vm_in(const struct settings *s, struct console *console, vcore_vm **vm)
{
	struct overrides o = {.s = s, .console = console};
	struct vcore_clone_options clone = clone_options(&o);
	struct incoming in = {0};
	struct vcore_migrate_receive_options options = {
	    .size = sizeof options, .address = s->incoming, .clone = &clone, .progress = show_incoming, .ctx = &in};
	int r = vcore_migrate_receive(&options, vm);

	in.last.state = r < 0 ? VCORE_MIGRATE_FAILED : VCORE_MIGRATE_COMPLETED;
	if (in.last.memory)
		progress_show(&in.progress, &in.last);
	return finish(&o, r, "incoming", s->incoming);
}
