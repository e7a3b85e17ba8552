/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For a debugger (lib/debug): holds vcpus one by one, beside the program's pause, and is given the DEBUG exits. */
#include <stdlib.h>

#include "config.h"
#include "vm/vm.h"

int vc_vm_debug_begin(struct vcore_vm *vm, struct vc_debugger *debugger)
{
	struct vc_debugger *none = NULL;

	return atomic_compare_exchange_strong(&vm->debugger, &none, debugger)
	           ? 0
	           : vc_fail(EBUSY, "the vm has a debugger already");
}

void vc_vm_debug_end(struct vcore_vm *vm)
{
	vc_vm_debug_release(vm, NULL, NULL);
	pthread_mutex_lock(&vm->lock);
	atomic_store(&vm->debugger, NULL);
	pthread_mutex_unlock(&vm->lock);
}

/* Not executing, and not about to while it is held. Caller holds the lock. */
static bool is_out(const struct vcore_vcpu *v)
{
	switch (atomic_load(&v->owner)) {
	case VC_OWNER_THREAD:
		return v->parked;
	case VC_OWNER_PROGRAM:
		return v->debug_waits;
	default:
		return true;
	}
}

static bool all_out(const struct vcore_vm *vm)
{
	for (uint32_t i = 0; i < vm->bvm.vcpus; i++)
		if (!is_out(&vm->vcpus[i]))
			return false;
	return true;
}

void vc_vm_debug_hold(struct vcore_vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	for (uint32_t i = 0; i < vm->bvm.vcpus; i++)
		vm->vcpus[i].debug_hold = true;
	for (uint32_t i = 0; i < vm->bvm.vcpus; i++)
		if (!is_out(&vm->vcpus[i]))
			vc_bvcpu_request(&vm->vcpus[i].b, VC_REQ_PAUSE);
	while (!all_out(vm))
		pthread_cond_wait(&vm->changed, &vm->lock);
	/* where the program runs the vcpus it may use them now: their time goes on */
	if (vm->state != VCORE_VM_CREATED) {
		vm->debug_stands = true;
		vc_vm_stop_time(vm);
	}
	pthread_mutex_unlock(&vm->lock);
}

void vc_vm_debug_release(struct vcore_vm *vm, bool (*goes)(void *ctx, uint32_t vcpu), void *ctx)
{
	pthread_mutex_lock(&vm->lock);
	for (uint32_t i = 0; i < vm->bvm.vcpus; i++)
		vm->vcpus[i].debug_hold = goes && !goes(ctx, i);
	vm->debug_stands = false;
	if (vm->state != VCORE_VM_PAUSED && !vm->claimed)
		vc_vm_start_time(vm);
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
}

bool vc_vm_debug_takes(struct vcore_vcpu *v, const struct vcore_exit *exit)
{
	struct vcore_vm *vm = v->vm;
	struct vc_debugger *debugger;

	if (exit->reason != VCORE_EXIT_DEBUG)
		return false;
	pthread_mutex_lock(&vm->lock);
	debugger = atomic_load(&vm->debugger);
	if (debugger) {
		v->debug_hold = true;
		debugger->stopped(debugger, v->b.index, exit);
	}
	pthread_mutex_unlock(&vm->lock);
	return debugger != NULL;
}

void vc_vm_debug_wait(struct vcore_vcpu *v)
{
	struct vcore_vm *vm = v->vm;

	if (!atomic_load(&vm->debugger))
		return;
	pthread_mutex_lock(&vm->lock);
	if (v->debug_hold && !vm->ending) {
		v->debug_waits = true;
		pthread_cond_broadcast(&vm->changed);
		while (v->debug_hold && !vm->ending)
			pthread_cond_wait(&vm->changed, &vm->lock);
		v->debug_waits = false;
	}
	pthread_mutex_unlock(&vm->lock);
}

void vc_vm_debug_left(struct vcore_vcpu *v)
{
	struct vcore_vm *vm = v->vm;

	if (!atomic_load(&vm->debugger))
		return;
	pthread_mutex_lock(&vm->lock);
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
}

/* ---- exceptions that a DEBUG exit took from the guest ---- */

/* DR6 beside the four breakpoints: BD, BS, BT */
#define DR6_CAUSES 0xe00fu

/* Not every KVM finds the return address of an INT3 that is injected: there the interpreter executes it. */
static bool must_interpret(const struct vcore_vcpu *v, const struct vcore_exit *exit)
{
#ifdef VC_HAVE_EMU
	return exit->exception == VC_BP && v->vm->bvm.ops->id != VCORE_BACKEND_EMU;
#else
	return false;
#endif
}

static int interpret(struct vcore_vcpu *v, struct vc_cpu_state *state)
{
#ifdef VC_HAVE_EMU
	int r;

	vc_gate_enter(&v->b.pass);
	r = vc_emu_step(&v->b, state);
	vc_gate_leave(&v->b.pass);
	return r;
#else
	return 0;
#endif
}

/* For delivery at the next run. INT3: RIP is still its own, as the backends have it. */
static void raise_exception(struct vc_cpu_state *state, const struct vcore_exit *exit)
{
	state->exception_pending = 1;
	state->exception_vector = (uint8_t)exit->exception;
	state->exception_has_error = 0;
	state->exception_error = 0;
	if (exit->exception == VC_DB)
		state->dr6 |= exit->dr6 & DR6_CAUSES;
}

int vc_vcpu_give_back(struct vcore_vcpu *v, const struct vcore_exit *exit)
{
	struct vc_cpu_state *state = malloc(sizeof *state);
	int r = state ? vc_vcpu_load(v, state) : vc_fail(ENOMEM, "no memory for a vcpu's state");

	if (r >= 0) {
		/* one that is a triple fault is left to the backend, whose exit tells of it */
		if (!must_interpret(v, exit) || interpret(v, state) < 0)
			raise_exception(state, exit);
		r = vc_vcpu_store(v, state);
	}
	free(state);
	return r;
}
