/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The local APIC in the kernel to and from the state that lib/chipset speaks; SPLIT and FULL. */
#include "backend/kvm/kvm.h"

/* Offsets in the page (SDM vol. 3, table 10-1) */
#define REG_ID        0x20u
#define REG_ISR       0x100u
#define REG_IRR       0x200u
#define REG_LVT_TIMER 0x320u
#define REG_TMICT     0x380u
#define REG_TMCCT     0x390u

#define BASE_X2APIC      0x400u
#define LVT_MASKED       0x10000u
#define LVT_MODE         0x60000u
#define LVT_ONE_SHOT     0u
#define LVT_TSC_DEADLINE 0x40000u
#define X2APIC_ID_SHIFT  24 /* where the kernel has the ID in both modes, unless asked for 32-bit IDs */

_Static_assert(sizeof(struct kvm_lapic_state) == sizeof((struct vc_lapic_state){0}.regs), "the page of both");

static bool has_vector(const uint8_t *regs, uint32_t first, uint8_t vector)
{
	return vc_ld32(regs + first + vector / 32 * 16) >> (vector % 32) & 1;
}

/*
 * A count that ended while the vcpu was outside waits there for the next run, where nobody sees it. Better an
 * interrupt too many than a guest that waits for ever.
 */
static bool may_have_expired(const uint8_t *regs)
{
	uint32_t lvt = vc_ld32(regs + REG_LVT_TIMER);
	uint8_t vector = (uint8_t)lvt;

	return (lvt & (LVT_MASKED | LVT_MODE)) == LVT_ONE_SHOT && vc_ld32(regs + REG_TMICT) && !vc_ld32(regs + REG_TMCCT) &&
	       !has_vector(regs, REG_IRR, vector) && !has_vector(regs, REG_ISR, vector);
}

/*
 * SPLIT: a vcpu may have ended an interrupt and been stopped before the kernel told the library's IOAPIC. Where no
 * local APIC has a vector any more, its pins need no EOI; if one comes later yet, that asks an asserted line again.
 */
void kvm_settle(struct vc_bvm *vm)
{
	uint8_t busy[256] = {0};
	struct kvm_lapic_state page;
	uint64_t address;
	uint32_t data;
	bool level;

	if (vm->irqchip != VCORE_IRQCHIP_SPLIT || !vm->ioapic)
		return;
	for (uint32_t i = 0; i < vm->vcpus; i++) {
		if (kvm_ioctl_p(kvm_of(vm->vcpu[i])->fd, KVM_GET_LAPIC, &page) < 0)
			return;
		for (unsigned vector = 0; vector < 256; vector++)
			busy[vector] |= has_vector((const uint8_t *)page.regs, REG_IRR, (uint8_t)vector) ||
			                has_vector((const uint8_t *)page.regs, REG_ISR, (uint8_t)vector);
	}
	for (unsigned pin = 0; pin < VC_GSI_COUNT; pin++) {
		vc_ioapic_pin_msi(vm->ioapic, pin, &address, &data, &level);
		if (level && !busy[data & 0xff])
			vc_ioapic_eoi(vm->ioapic, (uint8_t)data);
	}
}

int kvm_get_lapic(struct vc_bvcpu *v, struct vc_lapic_state *state)
{
	struct kvm_vcpu *k = kvm_of(v);
	struct kvm_lapic_state page;
	struct kvm_sregs sregs;

	if (kvm_ioctl_p(k->fd, KVM_GET_LAPIC, &page) < 0 || kvm_ioctl_p(k->fd, KVM_GET_SREGS, &sregs) < 0)
		return vc_fail_errno(errno, "KVM_GET_LAPIC of vcpu %u", v->index);
	memset(state, 0, sizeof *state);
	state->version = VC_LAPIC_STATE_VERSION;
	state->base = sregs.apic_base;
	memcpy(state->regs, page.regs, sizeof state->regs);
	if (state->base & BASE_X2APIC)
		vc_st32(state->regs + REG_ID, vc_ld32(state->regs + REG_ID) >> X2APIC_ID_SHIFT);
	if (may_have_expired(state->regs))
		vc_st32(state->regs + REG_TMCCT, 1);
	state->tsc_deadline = kvm_get_deadline(v);
	return 0;
}

int kvm_set_lapic(struct vc_bvcpu *v, const struct vc_lapic_state *state)
{
	struct kvm_vcpu *k = kvm_of(v);
	struct kvm_lapic_state page;

	if (state->version != VC_LAPIC_STATE_VERSION)
		return vc_fail(EINVAL, "LAPIC state has version %u, not %u", state->version, VC_LAPIC_STATE_VERSION);
	memcpy(page.regs, state->regs, sizeof page.regs);
	if (state->base & BASE_X2APIC)
		vc_st32((uint8_t *)page.regs + REG_ID, vc_ld32(state->regs + REG_ID) << X2APIC_ID_SHIFT);
	if (kvm_ioctl_p(k->fd, KVM_SET_LAPIC, &page) < 0)
		return vc_fail_errno(errno, "KVM_SET_LAPIC of vcpu %u", v->index);
	kvm_set_deadline(v,
	                 (vc_ld32(state->regs + REG_LVT_TIMER) & LVT_MODE) == LVT_TSC_DEADLINE ? state->tsc_deadline : 0);
	return 0;
}
