/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Running one vcpu on the program's thread. */
#include "vm/vm.h"

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

/* The vcpu becomes the calling thread's, which waits for a debugger that holds it. */
static bool take_for_program(struct vcore_vcpu *v, uint32_t *found, int *error)
{
	struct vcore_vm *vm = v->vm;
	bool taken;

	pthread_mutex_lock(&vm->lock);
	while (v->debug_hold && !vm->ending && atomic_load(&v->owner) == VC_OWNER_NONE)
		pthread_cond_wait(&vm->changed, &vm->lock);
	taken = vc_vcpu_take_over(v, VC_OWNER_PROGRAM, found);
	*error = taken ? vc_vm_give_birth(vm) : 0;
	pthread_mutex_unlock(&vm->lock);
	return taken;
}

static int absent(const struct vcore_vcpu *v)
{
	return vc_fail(ENODEV, "vcore_vcpu_run: vcpu %u is not plugged in (vcore_vcpu_plug())", v->b.index);
}

static int busy_running(const struct vcore_vcpu *v, uint32_t owner)
{
	return vc_fail(EBUSY, "vcore_vcpu_run: vcpu %u is %s", v->b.index,
	               owner == VC_OWNER_THREAD  ? "run by the library (the vm was started)"
	               : owner == VC_OWNER_CLAIM ? "being booted or reset"
	                                         : "run by another thread");
}

int vcore_vcpu_run(vcore_vcpu *v, int64_t timeout_ns, struct vcore_exit *out)
{
	struct vcore_exit exit;
	struct vc_timer *timer = NULL;
	uint32_t owner;
	int r;

	if (!v || vc_struct_in(&exit, sizeof exit, out) < 0)
		return vc_fail(EINVAL, "vcore_vcpu_run: a vcpu and an exit with its size set are needed");
	if (!atomic_load(&v->present))
		return absent(v);
	if (!take_for_program(v, &owner, &r))
		return busy_running(v, owner);
	if (r >= 0)
		r = arm_timeout(v, timeout_ns, &timer);
	while (r >= 0 && !take_final(v, &exit)) {
		vc_vm_debug_wait(v);
		vc_vcpu_execute(v, &exit);
		if (vc_vm_debug_takes(v, &exit))
			exit = (struct vcore_exit){.size = sizeof exit};
		else if (exit.reason != VCORE_EXIT_NONE)
			break;
	}
	vc_timer_free(timer);
	/* one that came too late must not end a later run */
	atomic_fetch_and(&v->b.requests, ~(uint32_t)VC_REQ_TIMEOUT);
	atomic_store(&v->owner, VC_OWNER_NONE);
	vc_vm_debug_left(v);
	if (r < 0)
		return r;
	exit.size = sizeof exit;
	vc_struct_out(out, &exit, sizeof exit);
	return 0;
}

void vcore_vcpu_kick(vcore_vcpu *v)
{
	int saved = errno; /* of whatever a signal handler interrupted */

	if (v)
		vc_bvcpu_request(&v->b, VC_REQ_KICK);
	errno = saved;
}
