/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The vcpu of backend emu: its making, and its state in and out. */
#include <stdlib.h>
#include <sys/mman.h>

#include "backend/emu/hook.h"
#include "backend/emu/jit/jit.h"
#include "backend/emu/lockstep.h"
#include "backend/emu/mmu/mmu.h"
#include "backend/emu/promote/promote.h"
#include "backend/emu/vcpu.h"

enum { MSR_APIC_BASE = 0x1b, MSR_TSC_DEADLINE = 0x6e0 };

/* ---- making ---- */

static bool emu_host_has_avx(void)
{
	return __builtin_cpu_supports("avx");
}

int emu_vcpu_new(struct vc_bvcpu *v, struct emu_vcpu **vcpu)
{
	uint8_t *memory = vc_pages_new(EMU_JIT_STACK + sizeof(struct emu_vcpu));
	struct emu_vcpu *c;
	int r;

	if (!memory)
		return vc_fail(ENOMEM, "no memory for vcpu %u", v->index);
	c = (struct emu_vcpu *)(void *)(memory + EMU_JIT_STACK);
	/* not in a vcpu that executes an instruction for another backend */
	c->jit = v->vm->ops == &vc_backend_emu && v->vm->priv ? ((struct emu_vm *)v->vm->priv)->jit : NULL;
	c->jit_mode_key = ~0u;
	c->jit_host_avx = emu_host_has_avx();
	if (c->jit)
		jit_forget_paths(c);
	c->bvcpu = v;
	c->bvm = v->vm;
	c->requests = &v->requests;
	c->sys = calloc(1, sizeof *c->sys);
	r = c->sys ? emu_mmu_new(c) : vc_fail(ENOMEM, "no memory for vcpu %u", v->index);
	if (r >= 0)
		r = emu_vec_new(c);
	if (r >= 0)
		r = interp_new(c);
	if (r >= 0 && c->jit)
		r = promote_new(c);
	if (r < 0) {
		emu_vcpu_free(c);
		return r;
	}
	atomic_store(&c->sys->injected, -1);
	*vcpu = c;
	return 0;
}

void emu_vcpu_free(struct emu_vcpu *c)
{
	if (!c)
		return;
	promote_free(c);
	emu_lockstep_free(c);
	if (c->interp)
		interp_free(c);
	if (c->vec)
		emu_vec_free(c);
	emu_mmu_free(c);
	if (c->sys)
		free(c->sys->done);
	free(c->sys);
	vc_pages_free((uint8_t *)c - EMU_JIT_STACK, EMU_JIT_STACK + sizeof *c);
}

int emu_backend_vcpu_create(struct vc_bvcpu *v)
{
	struct emu_vcpu *c;
	int r = emu_vcpu_new(v, &c);

	if (r < 0)
		return r;
	vc_cpu_state_reset(&c->s, v->index == 0);
	emu_set_state(c, &c->s);
	if (v->vm->engine == VCORE_ENGINE_LOCKSTEP)
		r = emu_lockstep_new(c, emu_lockstep_translator());
	if (r < 0) {
		emu_vcpu_free(c);
		return r;
	}
	v->priv = c;
	return 0;
}

void emu_backend_vcpu_destroy(struct vc_bvcpu *v)
{
	emu_vcpu_free(emu_of(v));
	v->priv = NULL;
}

/* ---- state ---- */

/* Not every mode can be entered from every other one (SDM vol. 3, 10.12.5): by way of disabled and xAPIC then. */
static void set_apic_base(struct vc_lapic *lapic, uint64_t base)
{
	if (vc_lapic_base(lapic) == base || vc_lapic_msr_write(lapic, MSR_APIC_BASE, base) >= 0)
		return;
	vc_lapic_msr_write(lapic, MSR_APIC_BASE, base & ~(uint64_t)(EMU_APIC_ENABLE | EMU_APIC_X2));
	vc_lapic_msr_write(lapic, MSR_APIC_BASE, base & ~(uint64_t)EMU_APIC_X2);
	vc_lapic_msr_write(lapic, MSR_APIC_BASE, base);
}

void emu_set_state(struct emu_vcpu *c, const struct vc_cpu_state *state)
{
	struct vc_lapic *lapic = c->bvcpu->lapic;

	if (state == &c->s || state->rip != c->s.rip)
		emu_hook_forget(c);
	if (state != &c->s)
		c->s = *state;
	emu_set_rflags(c, c->s.rflags);
	c->in_block = false;
	c->attention = true;
	/* Without interrupt controllers nobody can start a vcpu but the program, by running it. */
	if (c->bvm->irqchip == VCORE_IRQCHIP_NONE && c->s.mp_state >= VC_MP_WAIT_SIPI)
		c->s.mp_state = VC_MP_RUNNABLE;
	if (c->bvm->irqchip == VCORE_IRQCHIP_NONE && c->s.interrupt_injected) {
		atomic_store(&c->sys->injected, c->s.interrupt_vector);
		c->s.interrupt_injected = 0;
	}
	if (lapic) {
		set_apic_base(lapic, c->s.apic_base);
		c->s.apic_base = vc_lapic_base(lapic);
		vc_lapic_set_cr8(lapic, (uint8_t)c->s.cr8);
		vc_lapic_set_tsc_offset(lapic, c->s.tsc_offset);
		if (c->s.tsc_deadline)
			vc_lapic_msr_write(lapic, MSR_TSC_DEADLINE, c->s.tsc_deadline);
	}
	emu_vec_state_in(c);
	emu_mmu_state_changed(c);
	emu_mode_changed(c);
	emu_debug_changed(c);
}

void emu_get_state(struct emu_vcpu *c, struct vc_cpu_state *state)
{
	struct vc_lapic *lapic = c->bvcpu->lapic;
	int injected = atomic_load(&c->sys->injected);

	emu_vec_state_out(c);
	*state = c->s;
	state->rip = emu_rip(c);
	state->rflags = emu_rflags(c);
	if (injected >= 0 && !state->interrupt_injected) {
		state->interrupt_injected = 1;
		state->interrupt_vector = (uint8_t)injected;
	}
	if (lapic) {
		state->cr8 = vc_lapic_get_cr8(lapic);
		state->apic_base = vc_lapic_base(lapic);
		if (vc_lapic_msr_read(lapic, MSR_TSC_DEADLINE, &state->tsc_deadline) < 0)
			state->tsc_deadline = 0;
	}
}

int emu_backend_get_state(struct vc_bvcpu *v, struct vc_cpu_state *state)
{
	emu_get_state(emu_of(v), state);
	return 0;
}

int emu_backend_set_state(struct vc_bvcpu *v, const struct vc_cpu_state *state)
{
	struct emu_vcpu *c = emu_of(v);

	/* Inside, so that no slot change flushes the TLB at the same moment. */
	vc_gate_enter(&v->pass);
	if (state->rip != c->s.rip)
		emu_bus_forget(c);
	emu_set_state(c, state);
	vc_gate_leave(&v->pass);
	return 0;
}

/* What the guest has ended in its memory only; what it has not, it ends by a write then. */
void emu_backend_settle(struct vc_bvm *vm)
{
	for (uint32_t i = 0; i < vm->vcpus; i++)
		if (vm->vcpu[i]->lapic)
			emu_pv_eoi_collect(emu_of(vm->vcpu[i]));
}

int emu_backend_reset(struct vc_bvm *vm)
{
	for (uint32_t i = 0; i < vm->vcpus; i++) {
		struct emu_vcpu *c = emu_of(vm->vcpu[i]);

		emu_bus_forget(c);
		c->sys->db_pending = 0;
		c->sys->pv_eoi_set = false;
		atomic_store(&c->sys->kicked, 0);
		atomic_store(&c->sys->injected, -1);
	}
	return 0;
}

int emu_backend_interrupt(struct vc_bvcpu *v, uint8_t vector)
{
	int32_t none = -1;

	if (!atomic_compare_exchange_strong(&emu_of(v)->sys->injected, &none, vector))
		return vc_fail(EBUSY, "vcpu %u: an interrupt is pending already", v->index);
	vc_bvcpu_request(v, VC_REQ_IRQ);
	return 0;
}

/* ---- for other backends ---- */

int vc_emu_step(struct vc_bvcpu *vcpu, struct vc_cpu_state *state)
{
	struct vcore_exit exit = {.size = sizeof exit};
	struct emu_vcpu *c;
	enum emu_stop stop;
	bool alive = true;
	int r = emu_vcpu_new(vcpu, &c);

	if (r < 0)
		return r;
	c->exit = &exit;
	c->sys->never_leave = true;
	emu_set_state(c, state);
	emu_vec_enter(c);
	c->stepping = true;
	stop = interp_run(c);
	if (stop == EMU_STOP_EXCEPTION)
		alive = emu_deliver_exception(c);
	if (alive)
		emu_get_state(c, state);
	else
		r = vc_fail(EFAULT, "the emulated instruction ends in a triple fault");
	emu_vcpu_free(c);
	if (r >= 0)
		atomic_fetch_add_explicit(&vcpu->emulated, 1, memory_order_relaxed);
	return r;
}
