/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Vcpus that come and go while the vm runs. All that there may be exist from the beginning; one that is not present
 * executes nothing: its thread, if it ever had one, is parked.
 */
#include "vm/vm.h"

#include <stdlib.h>

uint32_t vc_vm_present(struct vcore_vm *vm)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < vm->bvm.vcpus; i++)
		count += atomic_load(&vm->vcpus[i].present);
	return count;
}

/* Caller holds the lock. */
static void set_present(struct vcore_vcpu *v, bool present)
{
	struct vcore_vm *vm = v->vm;

	atomic_store(&v->present, present);
	atomic_store(&vm->bvm.env.vcpus_present, vc_vm_present(vm));
	pthread_cond_broadcast(&vm->changed);
	vc_vm_tell(vm, &(struct vc_vm_event){.kind = present ? VC_EVENT_VCPU_PLUGGED : VC_EVENT_VCPU_UNPLUGGED,
	                                     .vcpu = v->b.index});
}

/* In a started vm a vcpu needs a thread, and that its place. Caller holds the lock, which is let go of meanwhile. */
static int need_thread(struct vcore_vcpu *v)
{
	struct vcore_vm *vm = v->vm;
	int r;

	if (v->has_thread || vm->ending || (vm->state != VCORE_VM_RUNNING && vm->state != VCORE_VM_PAUSED))
		return 0;
	vm->place_error = 0;
	r = vc_vcpu_make_thread(v);
	if (r)
		return vc_fail_errno(EAGAIN, "no thread for vcpu %u (error %d)", v->b.index, r);
	while (v->placing)
		pthread_cond_wait(&vm->changed, &vm->lock);
	/* the thread stays, parked, for another try */
	return vm->place_error ? vc_fail(-vm->place_error, "%s", vm->place_message) : 0;
}

/* Its own thread's, or the program's, must be out of the backend. Caller holds the lock. */
static int await_out(struct vcore_vcpu *v)
{
	switch (atomic_load(&v->owner)) {
	case VC_OWNER_THREAD:
		while (!v->parked)
			pthread_cond_wait(&v->vm->changed, &v->vm->lock);
		return 0;
	case VC_OWNER_PROGRAM:
		return vc_fail(EBUSY, "vcore_vcpu_plug: vcpu %u is still inside vcore_vcpu_run()", v->b.index);
	default:
		return 0;
	}
}

static int power_on(struct vcore_vcpu *v)
{
	struct vc_cpu_state *state = malloc(sizeof *state);
	int r;

	if (!state)
		return vc_fail(ENOMEM, "no memory for a vcpu's state");
	vc_cpu_state_reset(state, false);
	atomic_fetch_and(&v->b.requests, (uint32_t)VC_REQ_KICK);
	if (v->b.lapic)
		vc_lapic_reset(v->b.lapic, false);
	r = v->vm->bvm.ops->set_state(&v->b, state);
	if (r >= 0 && v->vm->bvm.ops->vcpu_reset)
		r = v->vm->bvm.ops->vcpu_reset(&v->b);
	free(state);
	return r;
}

/* Caller holds the lock. */
static int check_pluggable(const struct vcore_vcpu *v)
{
	if (v->vm->claimed)
		return vc_fail(EBUSY, "vcore_vcpu_plug: the vm is being started, booted or reset");
	if (atomic_load(&v->present))
		return vc_fail(EEXIST, "vcore_vcpu_plug: vcpu %u is plugged in already", v->b.index);
	return 0;
}

/* Caller holds the lock. What waits lets go of it, and somebody else may be quicker. */
static int plug(struct vcore_vcpu *v)
{
	int r = check_pluggable(v);

	if (r < 0 || (r = await_out(v)) < 0 || (r = need_thread(v)) < 0)
		return r;
	r = check_pluggable(v);
	if (r >= 0)
		r = power_on(v);
	if (r >= 0)
		set_present(v, true);
	return r;
}

int vcore_vcpu_plug(vcore_vcpu *v)
{
	int r;

	if (!v)
		return vc_fail(EINVAL, "vcore_vcpu_plug: no vcpu given");
	if (vc_vm_is_own_thread(v->vm))
		return vc_fail(EDEADLK, "vcore_vcpu_plug: called from a vcpu's own callback");
	pthread_mutex_lock(&v->vm->lock);
	r = plug(v);
	pthread_mutex_unlock(&v->vm->lock);
	if (r >= 0)
		vc_cpu_hotplug_insert(v->vm->cpu_hotplug, v->b.index);
	return r;
}

int vcore_vcpu_unplug(vcore_vcpu *v)
{
	struct vcore_vm *vm;
	bool now;
	int r = 0;

	if (!v || v->b.index == 0)
		return vc_fail(EINVAL, v ? "vcore_vcpu_unplug: vcpu 0 is the one that boots: it stays"
		                         : "vcore_vcpu_unplug: no vcpu given");
	vm = v->vm;
	if (!vm->cpu_hotplug)
		return vc_fail(ENOTSUP, "vcore_vcpu_unplug: the vm was made without room for vcpus (options.max_vcpus)");
	pthread_mutex_lock(&vm->lock);
	now = vm->state == VCORE_VM_CREATED && atomic_load(&v->owner) == VC_OWNER_NONE && !atomic_load(&vm->booted);
	if (!atomic_load(&v->present))
		r = vc_fail(ENODEV, "vcore_vcpu_unplug: vcpu %u is not plugged in", v->b.index);
	else if (now)
		set_present(v, false);
	pthread_mutex_unlock(&vm->lock);
	if (r < 0)
		return r;
	if (now)
		vc_cpu_hotplug_take(vm->cpu_hotplug, v->b.index);
	else
		vc_cpu_hotplug_request(vm->cpu_hotplug, v->b.index);
	return 0;
}

void vc_vcpu_changed(void *ctx, uint32_t index, bool present)
{
	struct vcore_vm *vm = ctx;
	struct vcore_vcpu *v = &vm->vcpus[index];

	pthread_mutex_lock(&vm->lock);
	if (atomic_load(&v->present) != present) {
		if (present && need_thread(v) < 0)
			vc_log(&vm->log, VCORE_LOG_ERROR, "%s", vcore_error_message());
		set_present(v, present);
	}
	pthread_mutex_unlock(&vm->lock);
	if (!present)
		vc_bvcpu_request(&v->b, atomic_load(&v->owner) == VC_OWNER_PROGRAM ? VC_REQ_KICK : VC_REQ_PAUSE);
}
