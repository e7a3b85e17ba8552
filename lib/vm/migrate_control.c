/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a vm knows of its migration: state, cancelling, the thread on which it is done for the monitor. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/thread.h"
#include "vm/migrate.h"

#define EVENT_NS 250000000u /* between events that only tell how far it is */

static const char *const state_names[] = {
    [VCORE_MIGRATE_NONE] = "none",           [VCORE_MIGRATE_SETUP] = "setup",
    [VCORE_MIGRATE_ACTIVE] = "active",       [VCORE_MIGRATE_STOPPED] = "stopped",
    [VCORE_MIGRATE_COMPLETED] = "completed", [VCORE_MIGRATE_FAILED] = "failed",
    [VCORE_MIGRATE_CANCELED] = "canceled",   [VCORE_MIGRATE_UNDECIDED] = "undecided",
    [VCORE_MIGRATE_POSTCOPY] = "postcopy",   [VCORE_MIGRATE_LOST] = "lost",
};

const char *vcore_migrate_state_name(uint32_t state)
{
	return state < VC_ARRAY_SIZE(state_names) ? state_names[state] : "?";
}

/* ---- the one that is ---- */

int vc_migrate_enter(struct vcore_vm *vm, bool postcopy, int *cancel_fd)
{
	struct vc_migration *m = &vm->migration;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), r = 0;

	if (fd < 0)
		return vc_fail_errno(errno, "an eventfd for a migration");
	pthread_mutex_lock(&vm->lock);
	if (m->sending)
		r = vc_fail(EALREADY, "vcore_migrate_send: the vm is being migrated already");
	else if (m->closed)
		r = vc_fail(ECANCELED, "the migration was cancelled");
	else
		m->cancel_fd = fd;
	m->sending |= r >= 0;
	if (r >= 0) {
		m->may_postcopy = postcopy;
		m->postcopy = false;
	}
	pthread_mutex_unlock(&vm->lock);
	if (r < 0)
		close(fd);
	*cancel_fd = fd;
	return r;
}

void vc_migrate_leave(struct vcore_vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	close(vm->migration.cancel_fd);
	vm->migration.sending = false;
	pthread_mutex_unlock(&vm->lock);
}

/* Caller holds the lock. */
static void publish(struct vcore_vm *vm, const struct vcore_migrate_info *info)
{
	struct vc_vm_event event = {.kind = VC_EVENT_MIGRATION, .action = vcore_migrate_state_name(info->state)};
	uint64_t now = vc_host_ns();
	bool changed = vm->migration.info.state != info->state;

	vm->migration.info = *info;
	if (!changed)
		event = (struct vc_vm_event){.kind = VC_EVENT_MIGRATING, .migration = info};
	if (changed || (info->state == VCORE_MIGRATE_ACTIVE && now - vm->migration.told >= EVENT_NS)) {
		vc_vm_tell(vm, &event);
		vm->migration.told = now;
	}
}

void vc_migrate_publish(struct vcore_vm *vm, const struct vcore_migrate_info *info)
{
	pthread_mutex_lock(&vm->lock);
	publish(vm, info);
	pthread_mutex_unlock(&vm->lock);
}

bool vc_migrate_wants_postcopy(struct vcore_vm *vm)
{
	bool wants;

	pthread_mutex_lock(&vm->lock);
	wants = vm->migration.postcopy;
	pthread_mutex_unlock(&vm->lock);
	return wants;
}

int vcore_migrate_postcopy(vcore_vm *vm)
{
	bool sending, may;

	if (!vm)
		return vc_fail(EINVAL, "vcore_migrate_postcopy: no vm given");
	pthread_mutex_lock(&vm->lock);
	sending = vm->migration.sending;
	may = vm->migration.may_postcopy;
	vm->migration.postcopy |= sending && may;
	pthread_mutex_unlock(&vm->lock);
	if (!sending)
		return vc_fail(ENOENT, "vcore_migrate_postcopy: the vm is not being migrated");
	return may ? 0 : vc_fail(EINVAL, "vcore_migrate_postcopy: the migration was begun without VCORE_MIGRATE_POSTCOPY");
}

static bool cancel(struct vcore_vm *vm, bool for_good)
{
	static const uint64_t one = 1;
	bool there;

	pthread_mutex_lock(&vm->lock);
	vm->migration.closed |= for_good;
	/* the counter of an eventfd that is full says the same */
	there = vm->migration.sending && (write(vm->migration.cancel_fd, &one, sizeof one) > 0 || errno == EAGAIN);
	pthread_mutex_unlock(&vm->lock);
	return there;
}

int vcore_migrate_cancel(vcore_vm *vm)
{
	if (!vm)
		return vc_fail(EINVAL, "vcore_migrate_cancel: no vm given");
	return cancel(vm, false) ? 0 : vc_fail(ENOENT, "vcore_migrate_cancel: the vm is not being migrated");
}

int vcore_migrate_get_info(vcore_vm *vm, struct vcore_migrate_info *out)
{
	struct vcore_migrate_info info;

	if (!vm || !out || out->size < sizeof out->size)
		return vc_fail(EINVAL, "vcore_migrate_get_info: a vm and an info with its size set are needed");
	pthread_mutex_lock(&vm->lock);
	info = vm->migration.info;
	pthread_mutex_unlock(&vm->lock);
	vc_struct_out(out, &info, sizeof info);
	return 0;
}

/* ---- on a thread of the vm's ---- */

struct job {
	struct vcore_vm *vm;
	struct vcore_migrate_options options;
	char address[];
};

static void *run_job(void *ctx)
{
	struct job *job = ctx;
	struct vc_migration *m = &job->vm->migration;
	int r = vcore_migrate_send(job->vm, &job->options);

	pthread_mutex_lock(&job->vm->lock);
	/* what becomes of it is in the info, unless it was not even begun */
	if (r < 0 && !m->sending && m->info.state == VCORE_MIGRATE_SETUP) {
		struct vcore_migrate_info info = m->info;

		info.state = VCORE_MIGRATE_FAILED;
		snprintf(info.error, sizeof info.error, "%s", vcore_error_message());
		publish(job->vm, &info);
	}
	m->thread_done = true;
	pthread_mutex_unlock(&job->vm->lock);
	free(job);
	return NULL;
}

/* Caller holds the lock. 0 or a positive errno. */
static int new_thread(struct vcore_vm *vm, struct job *job)
{
	static const struct vcore_migrate_info setup = {.size = sizeof setup, .state = VCORE_MIGRATE_SETUP};
	struct vc_migration *m = &vm->migration;
	int r;

	if (m->sending || (m->has_thread && !m->thread_done))
		return EALREADY;
	if (m->has_thread) /* at its end, and wants no lock any more */
		pthread_join(m->thread, NULL);
	m->thread_done = false;
	r = vc_thread_new(&m->thread, run_job, job);
	m->has_thread = r == 0;
	/* who asks next is not told how the one before ended */
	if (!r)
		publish(vm, &setup);
	return r;
}

int vc_migrate_start(struct vcore_vm *vm, const struct vcore_migrate_options *options)
{
	size_t length = strlen(options->address) + 1;
	struct vcore_migrate_options checked;
	struct job *job;
	int r = vc_migrate_check(vm, options, &checked);

	if (r < 0)
		return r;
	job = malloc(sizeof *job + length);
	if (!job)
		return vc_fail(ENOMEM, "no memory for a migration");
	job->vm = vm;
	job->options = *options;
	job->options.address = memcpy(job->address, options->address, length);
	pthread_mutex_lock(&vm->lock);
	r = new_thread(vm, job);
	pthread_mutex_unlock(&vm->lock);
	if (r)
		free(job);
	return r ? vc_fail_errno(r, "a migration cannot be begun") : 0;
}

void vc_migrate_fini(struct vcore_vm *vm)
{
	cancel(vm, true);
	if (vm->migration.has_thread)
		pthread_join(vm->migration.thread, NULL);
}
