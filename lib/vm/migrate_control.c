/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a vm knows of its migration: state, cancelling, the thread on which it is done for the monitor. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/thread.h"
#include "vm/migrate_arrival.h"
#include "vm/migrate_sending.h"

#define EVENT_NS 250000000u /* between events that only tell how far it is */

static const char *const state_names[] = {
    [VCORE_MIGRATE_NONE] = "none",
    [VCORE_MIGRATE_SETUP] = "setup",
    [VCORE_MIGRATE_ACTIVE] = "active",
    [VCORE_MIGRATE_STOPPED] = "stopped",
    [VCORE_MIGRATE_COMPLETED] = "completed",
    [VCORE_MIGRATE_FAILED] = "failed",
    [VCORE_MIGRATE_CANCELED] = "canceled",
    [VCORE_MIGRATE_UNDECIDED] = "undecided",
    [VCORE_MIGRATE_POSTCOPY] = "postcopy",
    [VCORE_MIGRATE_LOST] = "lost",
    [VCORE_MIGRATE_INTERRUPTED] = "interrupted",
    [VCORE_MIGRATE_RECOVERING] = "recovering",
};

const char *vcore_migrate_state_name(uint32_t state)
{
	return state < VC_ARRAY_SIZE(state_names) ? state_names[state] : "?";
}

/* ---- the one that is ---- */

/* Caller holds the lock. */
static int may_enter(const struct vc_migration *m, const char *who)
{
	if (m->sending)
		return vc_fail(EALREADY, "%s: the vm is being migrated already", who);
	return m->closed ? vc_fail(ECANCELED, "the migration was cancelled") : 0;
}

/* Caller holds the lock. */
static int enter(struct vc_migration *m, bool postcopy, int *cancel_fd)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return vc_fail_errno(errno, "an eventfd for a migration");
	m->cancel_fd = *cancel_fd = fd;
	m->sending = true;
	m->may_postcopy = postcopy;
	m->postcopy = false;
	return 0;
}

static int refuse_kept(void)
{
	return vc_fail(EBUSY, "vcore_migrate_send: the vm's migration was interrupted: vcore_migrate_recover(), or "
	                      "vcore_migrate_cancel() to give it up");
}

int vc_migrate_enter(struct vcore_vm *vm, bool postcopy, int *cancel_fd)
{
	int r;

	pthread_mutex_lock(&vm->lock);
	r = may_enter(&vm->migration, "vcore_migrate_send");
	if (r >= 0 && vm->migration.kept)
		r = refuse_kept();
	if (r >= 0)
		r = enter(&vm->migration, postcopy, cancel_fd);
	pthread_mutex_unlock(&vm->lock);
	return r;
}

int vc_migrate_enter_again(struct vcore_vm *vm, struct vc_mig_sending **kept, int *cancel_fd)
{
	int r;

	pthread_mutex_lock(&vm->lock);
	r = may_enter(&vm->migration, "vcore_migrate_recover");
	if (r >= 0)
		r = enter(&vm->migration, false, cancel_fd);
	*kept = r >= 0 ? vm->migration.kept : NULL;
	if (*kept)
		vm->migration.kept = NULL;
	pthread_mutex_unlock(&vm->lock);
	return r;
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

bool vc_migrate_try_publish(struct vcore_vm *vm, const struct vcore_migrate_info *info)
{
	if (pthread_mutex_trylock(&vm->lock))
		return false;
	publish(vm, info);
	pthread_mutex_unlock(&vm->lock);
	return true;
}

void vc_migrate_move(struct vcore_vm *vm, uint32_t from, uint32_t to, const char *error)
{
	struct vcore_migrate_info info;

	pthread_mutex_lock(&vm->lock);
	info = vm->migration.info;
	info.state = to;
	snprintf(info.error, sizeof info.error, "%s", error);
	if (vm->migration.info.state == from)
		publish(vm, &info);
	pthread_mutex_unlock(&vm->lock);
}

void vc_migrate_leave(struct vcore_vm *vm, const struct vcore_migrate_info *info, struct vc_mig_sending *kept)
{
	struct vc_migration *m = &vm->migration;

	pthread_mutex_lock(&vm->lock);
	close(m->cancel_fd);
	m->sending = false;
	m->kept = kept;
	/* who hears of it may begin another one */
	m->thread_done |= m->has_thread && pthread_equal(m->thread, pthread_self());
	if (info)
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

/* *kept: what was interrupted, which is the caller's then. */
static bool cancel(struct vcore_vm *vm, bool for_good, struct vc_mig_sending **kept)
{
	static const uint64_t one = 1;
	bool there;

	pthread_mutex_lock(&vm->lock);
	vm->migration.closed |= for_good;
	/* the counter of an eventfd that is full says the same */
	there = vm->migration.sending && (write(vm->migration.cancel_fd, &one, sizeof one) > 0 || errno == EAGAIN);
	*kept = vm->migration.kept;
	vm->migration.kept = NULL;
	pthread_mutex_unlock(&vm->lock);
	return there;
}

/* Nobody knows any more what the guest was to become. */
static void give_up(struct vcore_vm *vm, struct vc_mig_sending *kept)
{
	struct vcore_migrate_info info = {.size = sizeof info};

	vc_mig_sending_drop(kept);
	vcore_migrate_get_info(vm, &info);
	info.state = VCORE_MIGRATE_LOST;
	vc_migrate_publish(vm, &info);
}

int vcore_migrate_cancel(vcore_vm *vm)
{
	struct vc_mig_sending *kept;

	if (!vm)
		return vc_fail(EINVAL, "vcore_migrate_cancel: no vm given");
	if (cancel(vm, false, &kept))
		return 0;
	if (kept)
		give_up(vm, kept);
	else if (!vc_arrival_abandon(vm->arrival))
		return vc_fail(ENOENT, "vcore_migrate_cancel: the vm is not being migrated");
	return 0;
}

void vc_migrate_decide(struct vcore_vm *vm)
{
	struct vc_mig_sending *kept = NULL;

	pthread_mutex_lock(&vm->lock);
	if (vm->migration.info.state == VCORE_MIGRATE_UNDECIDED) {
		kept = vm->migration.kept;
		vm->migration.kept = NULL;
	}
	pthread_mutex_unlock(&vm->lock);
	if (kept)
		vc_mig_sending_drop(kept);
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

/* One of the two has its options. */
struct job {
	struct vcore_vm *vm;
	int (*run)(struct job *job);
	union {
		struct vcore_migrate_options send;
		struct vcore_migrate_recover_options recover;
	} options;
	char address[];
};

static int run_send(struct job *job)
{
	return vcore_migrate_send(job->vm, &job->options.send);
}

static int run_recover(struct job *job)
{
	return vcore_migrate_recover(job->vm, &job->options.recover);
}

static void *run_job(void *ctx)
{
	struct job *job = ctx;
	struct vc_migration *m = &job->vm->migration;
	int r = job->run(job);

	pthread_mutex_lock(&job->vm->lock);
	/* what becomes of it is in the info, unless it was not even begun */
	if (r < 0 && !m->sending && m->info.state == VCORE_MIGRATE_SETUP) {
		struct vcore_migrate_info info = m->info;

		info.state = VCORE_MIGRATE_FAILED;
		snprintf(info.error, sizeof info.error, "%s", vcore_error_message());
		publish(job->vm, &info);
	}
	m->thread_done |= m->has_thread && pthread_equal(m->thread, pthread_self());
	pthread_mutex_unlock(&job->vm->lock);
	free(job);
	return NULL;
}

/* The thread of one that is at its end. */
static void join_ended(struct vcore_vm *vm)
{
	struct vc_migration *m = &vm->migration;
	pthread_t thread = {0};
	bool ended;

	pthread_mutex_lock(&vm->lock);
	ended = m->has_thread && m->thread_done;
	if (ended) {
		thread = m->thread;
		m->has_thread = false;
	}
	pthread_mutex_unlock(&vm->lock);
	if (ended)
		pthread_join(thread, NULL);
}

/* Caller holds the lock. 0 or a positive errno. */
static int new_thread(struct vcore_vm *vm, struct job *job)
{
	struct vc_migration *m = &vm->migration;
	int r;

	if (m->sending || m->has_thread)
		return EALREADY;
	m->thread_done = false;
	r = vc_thread_new(&m->thread, run_job, job);
	m->has_thread = r == 0;
	return r;
}

/* Frees the job if it is not begun. setup: what is told of it until it says so itself; NULL: nothing */
static int start_job(struct vcore_vm *vm, struct job *job, const struct vcore_migrate_info *setup)
{
	int r;

	job->vm = vm;
	join_ended(vm);
	pthread_mutex_lock(&vm->lock);
	r = new_thread(vm, job);
	/* who asks next is not told how the one before ended */
	if (!r && setup)
		publish(vm, setup);
	pthread_mutex_unlock(&vm->lock);
	if (r)
		free(job);
	return r ? vc_fail_errno(r, "a migration cannot be begun") : 0;
}

static struct job *new_job(int (*run)(struct job *job), const char *address)
{
	size_t length = strlen(address) + 1;
	struct job *job = malloc(sizeof *job + length);

	if (!job) {
		vc_fail(ENOMEM, "no memory for a migration");
		return NULL;
	}
	job->run = run;
	memcpy(job->address, address, length);
	return job;
}

static bool is_kept(struct vcore_vm *vm)
{
	bool kept;

	pthread_mutex_lock(&vm->lock);
	kept = vm->migration.kept;
	pthread_mutex_unlock(&vm->lock);
	return kept;
}

int vc_migrate_start(struct vcore_vm *vm, const struct vcore_migrate_options *options)
{
	static const struct vcore_migrate_info setup = {.size = sizeof setup, .state = VCORE_MIGRATE_SETUP};
	struct vcore_migrate_options checked;
	struct job *job;
	int r = vc_migrate_check(vm, options, &checked);

	if (r < 0)
		return r;
	if (is_kept(vm))
		return refuse_kept();
	job = new_job(run_send, options->address);
	if (!job)
		return -ENOMEM;
	job->options.send = *options;
	job->options.send.address = job->address;
	return start_job(vm, job, &setup);
}

int vc_migrate_start_recovery(struct vcore_vm *vm, const struct vcore_migrate_recover_options *options)
{
	struct job *job;

	if (!is_kept(vm) && !vm->arrival)
		return vc_fail(ENOENT, "the vm has no migration that was interrupted");
	job = new_job(run_recover, options->address);
	if (!job)
		return -ENOMEM;
	job->options.recover = *options;
	job->options.recover.address = job->address;
	return start_job(vm, job, NULL);
}

void vc_migrate_fini(struct vcore_vm *vm)
{
	struct vc_mig_sending *kept;

	cancel(vm, true, &kept);
	if (vm->migration.has_thread)
		pthread_join(vm->migration.thread, NULL);
	/* what its thread has left behind */
	kept = kept ? kept : vm->migration.kept;
	if (kept)
		vc_mig_sending_drop(kept);
}
