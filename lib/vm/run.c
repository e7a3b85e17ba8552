/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Running a vm: the library's vcpu threads, pause, resume, stop, wait, reset. */
#include "vm/vm.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "core/thread.h"
#include "vm/migrate.h"

/* The vcpu that the calling thread executes, in a callback; NULL: none. */
static struct vcore_vcpu *own_vcpu(struct vcore_vm *vm)
{
	for (uint32_t i = 0; i < vm->bvm.vcpus; i++)
		if (atomic_load(&vm->vcpus[i].executing) && pthread_equal(atomic_load(&vm->vcpus[i].runner), pthread_self()))
			return &vm->vcpus[i];
	return NULL;
}

bool vc_vm_is_own_thread(struct vcore_vm *vm)
{
	return own_vcpu(vm) != NULL;
}

static int no_vm(const char *function)
{
	return vc_fail(EINVAL, "%s: no vm given", function);
}

static void request_all(struct vcore_vm *vm, uint32_t bits)
{
	for (uint32_t i = 0; i < vm->bvm.vcpus; i++)
		vc_bvcpu_request(&vm->vcpus[i].b, bits);
}

/* ---- guest time ---- */

static void clock_changed(struct vcore_vm *vm)
{
	vc_loop_clock_changed(vm->loop);
	if (vm->bvm.ops->clock_changed)
		vm->bvm.ops->clock_changed(&vm->bvm);
}

void vc_vm_stop_time(struct vcore_vm *vm)
{
	if (vm->time_stands)
		return;
	vm->time_stands = true;
	vc_clock_stop(&vm->clock);
	clock_changed(vm);
}

void vc_vm_start_time(struct vcore_vm *vm)
{
	if (!vm->time_stands || vm->debug_stands)
		return;
	vm->time_stands = false;
	vc_clock_start(&vm->clock);
	clock_changed(vm);
}

/* A clone's time goes on with its first instruction, and its loop is driven from there on. Caller holds the lock. */
int vc_vm_give_birth(struct vcore_vm *vm)
{
	int r = vm->newborn ? vc_loop_begin(vm->loop) : 0;

	if (r < 0 || !vm->newborn)
		return r;
	vm->newborn = false;
	vc_vm_start_time(vm);
	return 0;
}

/* A vm that is held is paused once its last thread has parked. Caller holds the lock. */
static void settle_pause(struct vcore_vm *vm)
{
	if (!vm->hold || vm->threads_in || vm->state != VCORE_VM_RUNNING || vm->ending)
		return;
	vm->state = VCORE_VM_PAUSED;
	vc_vm_stop_time(vm);
	vc_vm_tell(vm, &(struct vc_vm_event){.kind = VC_EVENT_PAUSED});
}

/* ---- how a vm ends ---- */

void vc_vm_end(struct vcore_vm *vm, const struct vcore_exit *exit)
{
	pthread_mutex_lock(&vm->lock);
	if (!vm->ending) {
		vm->ending = true;
		vm->final = *exit;
		if (vm->state == VCORE_VM_PAUSED)
			vm->state = VCORE_VM_RUNNING;
		if (!vm->claimed)
			vc_vm_start_time(vm);
		pthread_cond_broadcast(&vm->changed);
		vc_vm_tell(vm, &(struct vc_vm_event){.kind = VC_EVENT_ENDED, .exit = &vm->final});
	}
	pthread_mutex_unlock(&vm->lock);
	request_all(vm, VC_REQ_PAUSE);
}

static void end_with(void *ctx, enum vcore_exit_reason reason, uint32_t code)
{
	struct vcore_exit exit = {.size = sizeof exit, .reason = reason, .code = code};
	struct vcore_vcpu *v = own_vcpu(ctx);

	exit.vcpu = v ? v->b.index : 0;
	vc_vm_end(ctx, &exit);
}

static void machine_poweroff(void *ctx)
{
	end_with(ctx, VCORE_EXIT_POWEROFF, 0);
}

static void machine_reset(void *ctx)
{
	end_with(ctx, VCORE_EXIT_RESET, 0);
}

static void machine_debug_exit(void *ctx, uint32_t code)
{
	end_with(ctx, VCORE_EXIT_DEBUG_EXIT, code);
}

static void machine_pause(void *ctx)
{
	struct vcore_vm *vm = ctx;
	bool running;

	pthread_mutex_lock(&vm->lock);
	running = vm->state == VCORE_VM_RUNNING && !vm->ending;
	vm->hold |= running;
	settle_pause(vm);
	pthread_mutex_unlock(&vm->lock);
	if (running)
		request_all(vm, VC_REQ_PAUSE);
}

static void machine_panic(void *ctx, const char *message)
{
	struct vcore_exit exit = {.size = sizeof exit, .reason = VCORE_EXIT_CRASH, .crash = VCORE_CRASH_PANIC};

	snprintf(exit.message, sizeof exit.message, "%s", message);
	vc_vm_end(ctx, &exit);
}

const struct vc_machine_ops vc_vm_machine_ops = {
    .poweroff = machine_poweroff,
    .reset = machine_reset,
    .debug_exit = machine_debug_exit,
    .panic = machine_panic,
    .slot_off = vc_vm_slot_off,
    .wanted = vc_vm_wanted,
    .block_error = vc_vm_block_error,
    .pause = machine_pause,
    .tell = vc_vm_tell_of_device,
};

/* ---- one stay in the backend ---- */

/* A host that breaks under the guest is the guest's crash, with the host's sentence. */
static void crash_from_error(struct vcore_exit *exit, int error)
{
	exit->reason = VCORE_EXIT_CRASH;
	exit->crash = VCORE_CRASH_INTERNAL;
	snprintf(exit->message, sizeof exit->message, "%s (error %d)", vcore_error_message(), -error);
}

void vc_vcpu_execute(struct vcore_vcpu *v, struct vcore_exit *exit)
{
	const struct vcore_exit *lost = atomic_load(&v->vm->lost);
	int r;

	if (lost) {
		*exit = *lost;
		return;
	}
	atomic_store(&v->runner, pthread_self());
	atomic_store(&v->executing, 1);
	r = v->vm->bvm.ops->run(&v->b, exit);
	atomic_store(&v->executing, 0);
	exit->vcpu = v->b.index;
	if (r < 0)
		crash_from_error(exit, r);
}

/* ---- the library's threads ---- */

static bool is_held(const struct vcore_vcpu *v)
{
	return v->vm->hold || v->vm->throttled || v->vm->starting || v->debug_hold || !atomic_load(&v->present);
}

/* Park while the vm or the vcpu is held. False: the vm ends. */
static bool may_run(struct vcore_vcpu *v)
{
	struct vcore_vm *vm = v->vm;
	bool go;

	pthread_mutex_lock(&vm->lock);
	if (is_held(v) && !vm->ending) {
		v->parked = true;
		vm->threads_in--;
		settle_pause(vm);
		pthread_cond_broadcast(&vm->changed);
		while (is_held(v) && !vm->ending)
			pthread_cond_wait(&vm->changed, &vm->lock);
		v->parked = false;
		vm->threads_in++;
	}
	go = !vm->ending;
	pthread_mutex_unlock(&vm->lock);
	return go;
}

static void thread_ends(struct vcore_vcpu *v)
{
	static const uint64_t one = 1;
	struct vcore_vm *vm = v->vm;
	bool signalled = true;

	pthread_mutex_lock(&vm->lock);
	v->parked = true;
	vc_vcpu_thread_used(v);
	atomic_store(&v->thread_id, 0);
	if (--vm->threads_in == 0 && vm->ending) {
		vm->state = VCORE_VM_EXITED;
		signalled = write(vm->exit_fd, &one, sizeof one) == sizeof one;
	}
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
	if (!signalled)
		vc_log(&vm->log, VCORE_LOG_ERROR, "vcore_vm_fd(): signalling failed");
}

static void *vcpu_thread(void *arg)
{
	struct vcore_vcpu *v = arg;
	char name[16];

	snprintf(name, sizeof name, "vcpu%u", v->b.index);
	pthread_setname_np(pthread_self(), name);
	atomic_store(&v->thread_id, (uint32_t)gettid());
	vc_vcpu_find_place(v);
	while (may_run(v)) {
		struct vcore_exit exit = {.size = sizeof exit};

		vc_vcpu_execute(v, &exit);
		/* a kick has nobody to return to here; a pause request is answered by may_run() */
		if (exit.reason != VCORE_EXIT_NONE && exit.reason != VCORE_EXIT_KICKED && !vc_vm_debug_takes(v, &exit))
			vc_vm_end(v->vm, &exit);
	}
	thread_ends(v);
	return NULL;
}

/* Called by the last user of the vm, or with the vm claimed. */
static void join_threads(struct vcore_vm *vm)
{
	for (uint32_t i = 0; i < vm->bvm.vcpus; i++) {
		struct vcore_vcpu *v = &vm->vcpus[i];

		if (!v->has_thread)
			continue;
		pthread_join(v->thread, NULL);
		v->has_thread = false;
	}
}

void vc_vm_join(struct vcore_vm *vm)
{
	end_with(vm, VCORE_EXIT_STOPPED, 0);
	join_threads(vm);
}

/* ---- who may use the vcpus ---- */

/* Give a vcpu that nobody runs a new owner; waits for a state function. */
bool vc_vcpu_take_over(struct vcore_vcpu *v, enum vc_owner owner, uint32_t *found)
{
	uint32_t none = VC_OWNER_NONE;
	bool taken;

	pthread_mutex_lock(&v->state_lock);
	taken = atomic_compare_exchange_strong(&v->owner, &none, owner);
	pthread_mutex_unlock(&v->state_lock);
	*found = none;
	return taken;
}

/* All vcpus get that owner, or none does. */
static bool take_all(struct vcore_vm *vm, enum vc_owner owner)
{
	uint32_t found;

	for (uint32_t i = 0; i < vm->bvm.vcpus; i++) {
		if (vc_vcpu_take_over(&vm->vcpus[i], owner, &found))
			continue;
		while (i-- > 0)
			atomic_store(&vm->vcpus[i].owner, VC_OWNER_NONE);
		return false;
	}
	return true;
}

int vc_vm_claim(struct vcore_vm *vm, const char *who)
{
	int r = 0;

	pthread_mutex_lock(&vm->lock);
	if (vm->state == VCORE_VM_RUNNING)
		r = vc_fail(EBUSY, "%s: the vm runs: pause it, or stop it and wait", who);
	else if (vm->claimed)
		r = vc_fail(EBUSY, "%s: the vm is being started, booted or reset already", who);
	else if (vm->state == VCORE_VM_CREATED && !take_all(vm, VC_OWNER_CLAIM))
		r = vc_fail(EBUSY, "%s: a vcpu is in use by the program", who);
	else
		vm->claimed = true;
	pthread_mutex_unlock(&vm->lock);
	return r;
}

void vc_vm_release(struct vcore_vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->claimed = false;
	if (vm->state != VCORE_VM_PAUSED && !vm->newborn)
		vc_vm_start_time(vm);
	for (uint32_t i = 0; i < vm->bvm.vcpus; i++)
		if (atomic_load(&vm->vcpus[i].owner) == VC_OWNER_CLAIM)
			atomic_store(&vm->vcpus[i].owner, VC_OWNER_NONE);
	pthread_mutex_unlock(&vm->lock);
}

/* Back to CREATED after all threads are gone, in a claimed vm. */
static void forget_exit(struct vcore_vm *vm)
{
	uint64_t count;
	bool cleared;

	pthread_mutex_lock(&vm->lock);
	/* who waited for this end is given it before it is forgotten */
	if (vm->state != VCORE_VM_CREATED)
		vm->state = VCORE_VM_EXITED;
	pthread_cond_broadcast(&vm->changed);
	while (vm->waiters)
		pthread_cond_wait(&vm->changed, &vm->lock);
	vm->state = VCORE_VM_CREATED;
	vm->ending = false;
	vm->hold = false;
	/* the eventfd may be empty already */
	cleared = read(vm->exit_fd, &count, sizeof count) >= 0 || errno == EAGAIN;
	for (uint32_t i = 0; i < vm->bvm.vcpus; i++)
		atomic_store(&vm->vcpus[i].owner, VC_OWNER_CLAIM);
	pthread_mutex_unlock(&vm->lock);
	if (!cleared)
		vc_log(&vm->log, VCORE_LOG_ERROR, "vcore_vm_fd(): clearing failed");
}

/* ---- starting ---- */

int vc_vcpu_make_thread(struct vcore_vcpu *v)
{
	struct vcore_vm *vm = v->vm;
	int r;

	v->parked = false;
	v->placing = true;
	r = vc_thread_new(&v->thread, vcpu_thread, v);
	v->has_thread = !r;
	v->parked = r != 0;
	vm->threads_in += !r;
	if (r)
		v->placing = false;
	return r;
}

/* A thread for each vcpu that is there. Caller holds the lock. 0 or a positive errno. */
static int make_threads(struct vcore_vm *vm)
{
	int r = 0;

	vm->place_error = 0;
	vm->starting = true;
	for (uint32_t i = 0; !r && i < vm->bvm.vcpus; i++)
		if (atomic_load(&vm->vcpus[i].present))
			r = vc_vcpu_make_thread(&vm->vcpus[i]);
	for (uint32_t i = 0; i < vm->bvm.vcpus; i++)
		while (vm->vcpus[i].placing && vc_place_is_set(&vm->vcpus[i].place))
			pthread_cond_wait(&vm->changed, &vm->lock);
	vm->starting = false;
	pthread_cond_broadcast(&vm->changed);
	return r;
}

static int check_startable(struct vcore_vm *vm)
{
	if (vm->state == VCORE_VM_EXITED)
		return vc_fail(EBUSY, "vcore_vm_start: the vm has exited: vcore_vm_reset() it first");
	if (vm->state != VCORE_VM_CREATED)
		return vc_fail(EBUSY, "vcore_vm_start: the vm runs already");
	if (vm->claimed || !take_all(vm, VC_OWNER_THREAD))
		return vc_fail(EBUSY, "vcore_vm_start: a vcpu is in use by the program");
	return 0;
}

/* Nobody owns the vcpus after all. */
static void give_up(struct vcore_vm *vm)
{
	for (uint32_t i = 0; i < vm->bvm.vcpus; i++)
		atomic_store(&vm->vcpus[i].owner, VC_OWNER_NONE);
}

int vcore_vm_start(vcore_vm *vm)
{
	bool misplaced = false;
	int r, error = 0;

	if (!vm)
		return no_vm("vcore_vm_start");
	pthread_mutex_lock(&vm->lock);
	r = check_startable(vm);
	if (r >= 0 && (r = vc_vm_give_birth(vm)) < 0)
		give_up(vm);
	if (r >= 0) {
		vm->state = VCORE_VM_RUNNING;
		vm->threads_in = 0;
		/* the lock is held: no thread gets past may_run() before all exist */
		error = make_threads(vm);
		misplaced = !error && vm->place_error;
		error = misplaced ? -vm->place_error : error;
		/* those that exist end without having executed anything */
		if (error && !vm->ending)
			vm->final = (struct vcore_exit){.size = sizeof vm->final, .reason = VCORE_EXIT_STOPPED};
		vm->ending |= error != 0;
		vm->claimed = error != 0;
	}
	pthread_mutex_unlock(&vm->lock);
	if (r < 0 || !error)
		return r;
	join_threads(vm);
	forget_exit(vm);
	vc_vm_release(vm);
	if (misplaced)
		return vc_fail(error, "vcore_vm_start: %s", vm->place_message);
	return vc_fail_errno(EAGAIN, "vcore_vm_start: no thread for a vcpu (error %d)", error);
}

/* ---- waiting, pausing, stopping ---- */

static void deadline_in(int64_t timeout_ns, struct timespec *ts)
{
	uint64_t at = vc_host_ns() + (uint64_t)timeout_ns;

	ts->tv_sec = (time_t)(at / 1000000000u);
	ts->tv_nsec = (long)(at % 1000000000u);
}

int vcore_vm_wait(vcore_vm *vm, int64_t timeout_ns, struct vcore_exit *exit)
{
	struct timespec until;
	int r = 0;

	if (!vm || (exit && exit->size < sizeof exit->size))
		return vc_fail(EINVAL, "vcore_vm_wait: a vm, and an exit with its size set or NULL, are needed");
	if (vc_vm_is_own_thread(vm) || vc_loop_is_self(vm->loop))
		return vc_fail(EDEADLK, "vcore_vm_wait: called from one of the vm's own threads");
	if (timeout_ns >= 0)
		deadline_in(timeout_ns, &until);
	pthread_mutex_lock(&vm->lock);
	vm->waiters++;
	if (vm->state == VCORE_VM_CREATED)
		r = vc_fail(EINVAL, "vcore_vm_wait: the vm was never started");
	while (!r && vm->state != VCORE_VM_EXITED) {
		if (timeout_ns < 0)
			pthread_cond_wait(&vm->changed, &vm->lock);
		else if (pthread_cond_timedwait(&vm->changed, &vm->lock, &until) == ETIMEDOUT && vm->state != VCORE_VM_EXITED)
			r = vc_fail(ETIMEDOUT, "vcore_vm_wait: the vm still runs after %lld ns", (long long)timeout_ns);
	}
	if (!r && exit)
		vc_struct_out(exit, &vm->final, sizeof vm->final);
	if (--vm->waiters == 0)
		pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
	return r;
}

int vcore_vm_pause(vcore_vm *vm)
{
	bool started, running;

	if (!vm)
		return no_vm("vcore_vm_pause");
	if (vc_vm_is_own_thread(vm))
		return vc_fail(EDEADLK, "vcore_vm_pause: called from a vcpu's own callback");
	pthread_mutex_lock(&vm->lock);
	started = vm->state != VCORE_VM_CREATED;
	running = vm->state == VCORE_VM_RUNNING;
	vm->hold |= running;
	pthread_mutex_unlock(&vm->lock);
	if (!started)
		return vc_fail(EINVAL, "vcore_vm_pause: the vm was never started");
	if (!running)
		return 0;
	request_all(vm, VC_REQ_PAUSE);
	pthread_mutex_lock(&vm->lock);
	while (vm->hold && vm->threads_in > 0)
		pthread_cond_wait(&vm->changed, &vm->lock);
	settle_pause(vm);
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

void vc_vm_throttle(struct vcore_vm *vm, bool on)
{
	pthread_mutex_lock(&vm->lock);
	vm->throttled = on;
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
	if (on)
		request_all(vm, VC_REQ_PAUSE);
}

int vcore_vm_resume(vcore_vm *vm)
{
	int r = 0;

	if (!vm)
		return no_vm("vcore_vm_resume");
	vc_migrate_decide(vm);
	pthread_mutex_lock(&vm->lock);
	if (vm->state != VCORE_VM_PAUSED) {
		r = vc_fail(EINVAL, "vcore_vm_resume: the vm is not paused");
	} else if (vm->migration.kept) {
		r = vc_fail(EBUSY, "vcore_vm_resume: the vm has run on the other side of its migration, which was "
		                   "interrupted: vcore_migrate_recover(), or vcore_migrate_cancel() to give it up");
	} else if (vm->claimed) {
		r = vc_fail(EBUSY, "vcore_vm_resume: the vm is being booted or reset");
	} else {
		vm->hold = false;
		vm->state = VCORE_VM_RUNNING;
		vc_vm_start_time(vm);
		pthread_cond_broadcast(&vm->changed);
		vc_vm_tell(vm, &(struct vc_vm_event){.kind = VC_EVENT_RESUMED});
	}
	pthread_mutex_unlock(&vm->lock);
	return r;
}

int vcore_vm_stop(vcore_vm *vm)
{
	bool started;

	if (!vm)
		return no_vm("vcore_vm_stop");
	pthread_mutex_lock(&vm->lock);
	started = vm->state != VCORE_VM_CREATED;
	pthread_mutex_unlock(&vm->lock);
	if (!started)
		return vc_fail(EINVAL, "vcore_vm_stop: the vm was never started");
	end_with(vm, VCORE_EXIT_STOPPED, 0);
	return 0;
}

static int reset_parts(struct vcore_vm *vm)
{
	int r;

	vc_vm_forget_leaving(vm);
	vc_buses_reset(&vm->buses);
	r = vc_vcpus_reset(vm);
	if (r >= 0 && vm->bvm.ops->reset)
		r = vm->bvm.ops->reset(&vm->bvm);
	return r < 0 ? r : vc_boot_again(vm);
}

int vc_vm_claim_ended(struct vcore_vm *vm, const char *who, bool ended_too)
{
	bool ended, paused;
	int r = vc_vm_claim(vm, who);

	if (r < 0)
		return r;
	pthread_mutex_lock(&vm->lock);
	paused = vm->state == VCORE_VM_PAUSED;
	ended = !paused && (vm->ending || vm->state == VCORE_VM_EXITED);
	pthread_mutex_unlock(&vm->lock);
	if (ended && !ended_too) {
		vc_vm_release(vm);
		return vc_fail(EBUSY, "%s: the vm has ended: it is the program's to reset and start anew", who);
	}
	if (ended) {
		join_threads(vm);
		forget_exit(vm);
	}
	return 0;
}

int vc_vm_reset(struct vcore_vm *vm, bool ended_too)
{
	int r = vc_vm_claim_ended(vm, "vcore_vm_reset", ended_too);

	if (r < 0)
		return r;
	r = reset_parts(vm);
	if (r >= 0)
		vc_vm_tell(vm, &(struct vc_vm_event){.kind = VC_EVENT_RESET});
	vc_vm_release(vm);
	return r;
}

int vcore_vm_reset(vcore_vm *vm)
{
	return vm ? vc_vm_reset(vm, true) : no_vm("vcore_vm_reset");
}

int vcore_vm_fd(vcore_vm *vm)
{
	return vm ? vm->exit_fd : no_vm("vcore_vm_fd");
}

int vcore_vm_loop_fd(vcore_vm *vm)
{
	if (!vm)
		return no_vm("vcore_vm_loop_fd");
	if (vm->loop_mode != VCORE_LOOP_PROGRAM)
		return vc_fail(EINVAL, "vcore_vm_loop_fd: the library's own thread drives this vm's event loop");
	return vc_loop_fd(vm->loop);
}

int vcore_vm_loop_run(vcore_vm *vm, int64_t timeout_ns)
{
	if (!vm)
		return no_vm("vcore_vm_loop_run");
	if (vm->loop_mode != VCORE_LOOP_PROGRAM)
		return vc_fail(EINVAL, "vcore_vm_loop_run: the library's own thread drives this vm's event loop");
	return vc_loop_run(vm->loop, timeout_ns);
}
