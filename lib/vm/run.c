/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Running a vm: the library's vcpu threads, pause, resume, stop, wait, reset; and one vcpu on the program's thread. */
#include "vm/vm.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

bool vc_vm_is_own_thread(struct vcore_vm *vm)
{
	for (uint32_t i = 0; i < vm->bvm.vcpus; i++)
		if (atomic_load(&vm->vcpus[i].executing) && pthread_equal(atomic_load(&vm->vcpus[i].runner), pthread_self()))
			return true;
	return false;
}

static void request_all(struct vcore_vm *vm, uint32_t bits)
{
	for (uint32_t i = 0; i < vm->bvm.vcpus; i++)
		vc_bvcpu_request(&vm->vcpus[i].b, bits);
}

/* ---- how a vm ends ---- */

void vc_vm_end(struct vcore_vm *vm, const struct vcore_exit *exit)
{
	pthread_mutex_lock(&vm->lock);
	if (!vm->ending) {
		vm->ending = true;
		vm->final = *exit;
		pthread_cond_broadcast(&vm->changed);
	}
	pthread_mutex_unlock(&vm->lock);
	request_all(vm, VC_REQ_PAUSE);
}

static void end_with(void *ctx, enum vcore_exit_reason reason, uint32_t code)
{
	struct vcore_exit exit = {.size = sizeof exit, .reason = reason, .code = code};

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
};

/* ---- guest time ---- */

static void clock_changed(struct vcore_vm *vm)
{
	vc_loop_clock_changed(vm->loop);
	if (vm->bvm.ops->clock_changed)
		vm->bvm.ops->clock_changed(&vm->bvm);
}

/* ---- one stay in the backend ---- */

/* A host that breaks under the guest is the guest's crash, with the host's sentence. */
static void crash_from_error(struct vcore_exit *exit, int error)
{
	exit->reason = VCORE_EXIT_CRASH;
	exit->crash = VCORE_CRASH_INTERNAL;
	snprintf(exit->message, sizeof exit->message, "%s (error %d)", vcore_error_message(), -error);
}

static void execute(struct vcore_vcpu *v, struct vcore_exit *exit)
{
	int r;

	atomic_store(&v->runner, pthread_self());
	atomic_store(&v->executing, 1);
	r = v->vm->bvm.ops->run(&v->b, exit);
	atomic_store(&v->executing, 0);
	exit->vcpu = v->b.index;
	if (r < 0)
		crash_from_error(exit, r);
}

/* ---- the library's threads ---- */

/* Park while the vm is held. False: the vm ends. */
static bool may_run(struct vcore_vcpu *v)
{
	struct vcore_vm *vm = v->vm;
	bool go;

	pthread_mutex_lock(&vm->lock);
	if (vm->hold && !vm->ending) {
		v->parked = true;
		vm->threads_in--;
		pthread_cond_broadcast(&vm->changed);
		while (vm->hold && !vm->ending)
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
	struct vcore_vm *vm = v->vm;

	pthread_mutex_lock(&vm->lock);
	v->parked = true;
	if (--vm->threads_in == 0 && vm->ending) {
		uint64_t one = 1;

		vm->state = VCORE_VM_EXITED;
		/* the counter of a fresh eventfd takes it, so this cannot fail */
		if (write(vm->exit_fd, &one, sizeof one) < 0)
			vc_log(&vm->log, VCORE_LOG_ERROR, "vcore_vm_fd(): signalling failed");
	}
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
}

static void *vcpu_thread(void *arg)
{
	struct vcore_vcpu *v = arg;
	char name[16];

	snprintf(name, sizeof name, "vcpu%u", v->b.index);
	pthread_setname_np(pthread_self(), name);
	while (may_run(v)) {
		struct vcore_exit exit = {.size = sizeof exit};

		execute(v, &exit);
		/* a kick has nobody to return to here; a pause request is answered by may_run() */
		if (exit.reason != VCORE_EXIT_NONE && exit.reason != VCORE_EXIT_KICKED)
			vc_vm_end(v->vm, &exit);
	}
	thread_ends(v);
	return NULL;
}

static void join_threads(struct vcore_vm *vm)
{
	for (uint32_t i = 0; i < vm->bvm.vcpus; i++) {
		struct vcore_vcpu *v = &vm->vcpus[i];

		if (!v->has_thread)
			continue;
		pthread_join(v->thread, NULL);
		v->has_thread = false;
		atomic_store(&v->owner, VC_OWNER_NONE);
	}
}

void vc_vm_join(struct vcore_vm *vm)
{
	end_with(vm, VCORE_EXIT_STOPPED, 0);
	join_threads(vm);
}

/* Claim all vcpus for threads. */
static int claim_all(struct vcore_vm *vm)
{
	for (uint32_t i = 0; i < vm->bvm.vcpus; i++) {
		uint32_t none = VC_OWNER_NONE;

		if (atomic_compare_exchange_strong(&vm->vcpus[i].owner, &none, VC_OWNER_THREAD))
			continue;
		while (i-- > 0)
			atomic_store(&vm->vcpus[i].owner, VC_OWNER_NONE);
		return vc_fail(EBUSY, "vcore_vm_start: a vcpu is in use by the program");
	}
	return 0;
}

/* Back to CREATED after all threads are gone. */
static void forget_exit(struct vcore_vm *vm)
{
	uint64_t count;

	pthread_mutex_lock(&vm->lock);
	vm->state = VCORE_VM_CREATED;
	vm->ending = false;
	vm->hold = false;
	/* empties the eventfd, which may be empty already */
	if (read(vm->exit_fd, &count, sizeof count) < 0 && errno != EAGAIN)
		vc_log(&vm->log, VCORE_LOG_ERROR, "vcore_vm_fd(): clearing failed");
	pthread_mutex_unlock(&vm->lock);
}

int vcore_vm_start(vcore_vm *vm)
{
	int r;

	pthread_mutex_lock(&vm->lock);
	if (vm->state != VCORE_VM_CREATED) {
		pthread_mutex_unlock(&vm->lock);
		return vm->state == VCORE_VM_EXITED
		           ? vc_fail(EBUSY, "vcore_vm_start: the vm has exited: vcore_vm_reset() it first")
		           : vc_fail(EBUSY, "vcore_vm_start: the vm runs already");
	}
	r = claim_all(vm);
	if (r < 0) {
		pthread_mutex_unlock(&vm->lock);
		return r;
	}
	vm->state = VCORE_VM_RUNNING;
	vm->hold = true; /* until every thread exists */
	vm->threads_in = vm->bvm.vcpus;
	for (uint32_t i = 0; i < vm->bvm.vcpus; i++) {
		struct vcore_vcpu *v = &vm->vcpus[i];

		v->parked = false;
		r = pthread_create(&v->thread, NULL, vcpu_thread, v);
		if (r) {
			vm->threads_in -= vm->bvm.vcpus - i;
			break;
		}
		v->has_thread = true;
	}
	vm->hold = false;
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
	if (!r)
		return 0;
	vc_vm_join(vm);
	forget_exit(vm);
	for (uint32_t i = 0; i < vm->bvm.vcpus; i++)
		atomic_store(&vm->vcpus[i].owner, VC_OWNER_NONE);
	return vc_fail_errno(EAGAIN, "vcore_vm_start: no thread for a vcpu");
}

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

	if (exit && exit->size < sizeof exit->size)
		return vc_fail(EINVAL, "vcore_vm_wait: exit.size is not set");
	if (vc_vm_is_own_thread(vm) || vc_loop_is_self(vm->loop))
		return vc_fail(EDEADLK, "vcore_vm_wait: called from one of the vm's own threads");
	if (timeout_ns >= 0)
		deadline_in(timeout_ns, &until);
	pthread_mutex_lock(&vm->lock);
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
	pthread_mutex_unlock(&vm->lock);
	return r;
}

int vcore_vm_pause(vcore_vm *vm)
{
	if (vc_vm_is_own_thread(vm))
		return vc_fail(EDEADLK, "vcore_vm_pause: called from a vcpu's own callback");
	pthread_mutex_lock(&vm->lock);
	if (vm->state == VCORE_VM_CREATED) {
		pthread_mutex_unlock(&vm->lock);
		return vc_fail(EINVAL, "vcore_vm_pause: the vm was never started");
	}
	if (vm->state != VCORE_VM_RUNNING) {
		pthread_mutex_unlock(&vm->lock);
		return 0;
	}
	vm->hold = true;
	pthread_mutex_unlock(&vm->lock);
	request_all(vm, VC_REQ_PAUSE);
	pthread_mutex_lock(&vm->lock);
	while (vm->hold && vm->threads_in > 0)
		pthread_cond_wait(&vm->changed, &vm->lock);
	if (vm->hold && vm->state == VCORE_VM_RUNNING) {
		vm->state = VCORE_VM_PAUSED;
		vc_clock_stop(&vm->clock);
		clock_changed(vm);
	}
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

int vcore_vm_resume(vcore_vm *vm)
{
	int r = 0;

	pthread_mutex_lock(&vm->lock);
	if (vm->state == VCORE_VM_PAUSED) {
		vm->state = VCORE_VM_RUNNING;
		vm->hold = false;
		vc_clock_start(&vm->clock);
		clock_changed(vm);
		pthread_cond_broadcast(&vm->changed);
	} else {
		r = vc_fail(EINVAL, "vcore_vm_resume: the vm is not paused");
	}
	pthread_mutex_unlock(&vm->lock);
	return r;
}

int vcore_vm_stop(vcore_vm *vm)
{
	bool started, paused;

	pthread_mutex_lock(&vm->lock);
	started = vm->state != VCORE_VM_CREATED;
	paused = vm->state == VCORE_VM_PAUSED;
	if (paused) {
		vc_clock_start(&vm->clock);
		clock_changed(vm);
	}
	pthread_mutex_unlock(&vm->lock);
	if (!started)
		return vc_fail(EINVAL, "vcore_vm_stop: the vm was never started");
	end_with(vm, VCORE_EXIT_STOPPED, 0);
	return 0;
}

int vcore_vm_reset(vcore_vm *vm)
{
	enum vcore_vm_state state;
	int r;

	pthread_mutex_lock(&vm->lock);
	state = vm->state;
	pthread_mutex_unlock(&vm->lock);
	if (state == VCORE_VM_RUNNING)
		return vc_fail(EBUSY, "vcore_vm_reset: the vm runs: pause it, or stop it and wait");
	if (state != VCORE_VM_PAUSED) {
		join_threads(vm);
		forget_exit(vm);
	}
	vc_buses_reset(&vm->buses);
	r = vc_vcpus_reset(vm);
	if (r >= 0 && vm->bvm.ops->reset)
		r = vm->bvm.ops->reset(&vm->bvm);
	if (r >= 0)
		r = vc_boot_again(vm);
	return r;
}

int vcore_vm_fd(vcore_vm *vm)
{
	return vm->exit_fd;
}

int vcore_vm_loop_fd(vcore_vm *vm)
{
	if (vm->loop_mode != VCORE_LOOP_PROGRAM)
		return vc_fail(EINVAL, "vcore_vm_loop_fd: the library's own thread drives this vm's event loop");
	return vc_loop_fd(vm->loop);
}

int vcore_vm_loop_run(vcore_vm *vm, int64_t timeout_ns)
{
	if (vm->loop_mode != VCORE_LOOP_PROGRAM)
		return vc_fail(EINVAL, "vcore_vm_loop_run: the library's own thread drives this vm's event loop");
	return vc_loop_run(vm->loop, timeout_ns);
}

/* ---- one vcpu on the program's thread ---- */

static void timed_out(void *ctx)
{
	struct vcore_vcpu *v = ctx;

	vc_bvcpu_request(&v->b, VC_REQ_TIMEOUT);
}

/* A timer in host time: guest time may stand still, and the program may be the one who drives the vm's own loop. */
static int arm_timeout(struct vcore_vcpu *v, int64_t timeout_ns, struct vc_timer **timer)
{
	struct vcore_vm *vm = v->vm;
	int r = 0;

	*timer = NULL;
	atomic_fetch_and(&v->b.requests, ~(uint32_t)VC_REQ_TIMEOUT);
	if (timeout_ns < 0)
		return 0;
	if (timeout_ns == 0) {
		vc_bvcpu_request(&v->b, VC_REQ_TIMEOUT);
		return 0;
	}
	pthread_mutex_lock(&vm->lock);
	if (!vm->timeouts)
		r = vc_loop_new(&vm->host_clock, true, &vm->timeouts);
	pthread_mutex_unlock(&vm->lock);
	if (r < 0 || (r = vc_timer_new(vm->timeouts, timed_out, v, timer)) < 0)
		return r;
	vc_timer_arm(*timer, vc_clock_now(&vm->host_clock) + (uint64_t)timeout_ns);
	return 0;
}

/* What a device asked for the vm as a whole becomes this vcpu's exit. */
static bool take_final(struct vcore_vcpu *v, struct vcore_exit *exit)
{
	struct vcore_vm *vm = v->vm;
	bool taken;

	pthread_mutex_lock(&vm->lock);
	taken = vm->ending;
	if (taken) {
		*exit = vm->final;
		exit->vcpu = v->b.index;
	}
	pthread_mutex_unlock(&vm->lock);
	return taken;
}

int vcore_vcpu_run(vcore_vcpu *v, int64_t timeout_ns, struct vcore_exit *out)
{
	struct vcore_exit exit;
	struct vc_timer *timer;
	uint32_t none = VC_OWNER_NONE;
	int r;

	if (!v || vc_struct_in(&exit, sizeof exit, out) < 0)
		return vc_fail(EINVAL, "vcore_vcpu_run: a vcpu and an exit with its size set are needed");
	if (!atomic_compare_exchange_strong(&v->owner, &none, VC_OWNER_PROGRAM))
		return vc_fail(EBUSY, "vcore_vcpu_run: vcpu %u is run by %s", v->b.index,
		               none == VC_OWNER_THREAD ? "the library (the vm was started)" : "another thread");
	r = arm_timeout(v, timeout_ns, &timer);
	while (r >= 0 && !take_final(v, &exit)) {
		execute(v, &exit);
		if (exit.reason != VCORE_EXIT_NONE)
			break;
	}
	vc_timer_free(timer);
	atomic_store(&v->owner, VC_OWNER_NONE);
	if (r < 0)
		return r;
	exit.size = sizeof exit;
	vc_struct_out(out, &exit, sizeof exit);
	return 0;
}

void vcore_vcpu_kick(vcore_vcpu *v)
{
	vc_bvcpu_request(&v->b, VC_REQ_KICK);
}
