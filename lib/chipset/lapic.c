/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* LAPIC registers as the guest sees them: the xAPIC page, the x2APIC MSRs, IA32_APIC_BASE (SDM vol. 3, 10.4 and 10.12).
 */
#include "chipset/lapic_priv.h"

#include "core/error.h"
#include "core/util.h"

#define MSR_APIC_BASE    0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC       0x800u
#define MSR_X2APIC_LAST  0x8ffu

/* Bits 7:0, 9 and those beyond the largest physical address are reserved. */
#define APIC_BASE_RESERVED 0xfff00000000002ffull

/* Version 0x14, six LVT registers, EOI broadcast suppression (10.4.8). */
#define VERSION_VALUE 0x01050014u

#define ICR_DELIVERY_STATUS 0x1000u
#define DFR_ONES            0x0fffffffu
#define LVT_READ_ONLY       0x5000u

/* What may be done with a register by which way. */
enum { READ = 1, WRITE = 2, MSR_READ = 4, MSR_WRITE = 8, ALL = 15 };

/* clang-format off */
static const uint8_t access_rights[APIC_REG_COUNT] = {
	[APIC_ID]          = READ | WRITE | MSR_READ, /* the write has no effect: the ID is fixed */
	[APIC_VERSION]     = READ | WRITE | MSR_READ,
	[APIC_TPR]         = ALL,
	[APIC_APR]         = READ | WRITE,
	[APIC_PPR]         = READ | WRITE | MSR_READ,
	[APIC_EOI]         = READ | WRITE | MSR_WRITE,
	[APIC_RRD]         = READ | WRITE,
	[APIC_LDR]         = READ | WRITE | MSR_READ,
	[APIC_DFR]         = READ | WRITE,
	[APIC_SVR]         = ALL,
	[APIC_ISR ... APIC_IRR + 7] = READ | WRITE | MSR_READ,
	[APIC_ESR]         = ALL,
	[APIC_ICR]         = ALL,
	[APIC_ICR2]        = READ | WRITE,
	[APIC_LVT_TIMER ... APIC_TMICT] = ALL,
	[APIC_TMCCT]       = READ | WRITE | MSR_READ,
	[APIC_TDCR]        = ALL,
	[APIC_SELF_IPI]    = MSR_WRITE,
};

const uint32_t lapic_writable[APIC_REG_COUNT] = {
	[APIC_TPR]         = 0xff,
	[APIC_LDR]         = 0xff000000,
	[APIC_DFR]         = 0xf0000000,
	[APIC_SVR]         = 0x13ff,
	[APIC_ICR]         = 0xccfff & ~ICR_DELIVERY_STATUS,
	[APIC_ICR2]        = 0xff000000,
	[APIC_LVT_TIMER]   = 0x700ff,
	[APIC_LVT_THERMAL] = 0x107ff,
	[APIC_LVT_PMC]     = 0x107ff,
	[APIC_LVT_LINT0]   = 0x1a7ff,
	[APIC_LVT_LINT1]   = 0x1a7ff,
	[APIC_LVT_ERROR]   = 0x100ff,
	[APIC_TMICT]       = 0xffffffff,
	[APIC_TDCR]        = 0xb,
	[APIC_SELF_IPI]    = 0xff,
};
/* clang-format on */

uint32_t lapic_id_register(const struct vc_lapic *l)
{
	return lapic_is_x2apic(l) ? l->index : l->index << 24;
}

/* 10.12.10.2: in x2APIC mode the logical ID follows from the ID. */
uint32_t lapic_ldr(const struct vc_lapic *l)
{
	return lapic_is_x2apic(l) ? (l->index >> 4) << 16 | 1u << (l->index & 0xf) : lapic_get(l, APIC_LDR);
}

static uint32_t read_register(struct vc_lapic *l, unsigned reg)
{
	switch (reg) {
	case APIC_ID:
		return lapic_id_register(l);
	case APIC_VERSION:
		return VERSION_VALUE;
	case APIC_APR:
		return lapic_apr(l);
	case APIC_PPR:
		return lapic_ppr(l);
	case APIC_LDR:
		return lapic_ldr(l);
	case APIC_TMCCT:
		return lapic_timer_count(l);
	default:
		return lapic_get(l, reg);
	}
}

static void write_tpr(struct vc_lapic *l, uint32_t value)
{
	uint32_t before = lapic_get(l, APIC_TPR);

	lapic_put(l, APIC_TPR, value);
	if (value < before)
		lapic_priority_lowered(l);
}

/* 10.4.7.2: while software has disabled the APIC, every LVT register is masked. */
static void write_svr(struct vc_lapic *l, uint32_t value)
{
	lapic_put(l, APIC_SVR, value);
	if (!(value & SVR_ENABLED))
		for (unsigned reg = APIC_LVT_TIMER; reg <= APIC_LVT_ERROR; reg++)
			atomic_fetch_or(&l->reg[reg], LVT_MASKED);
}

static void write_lint(struct vc_lapic *l, unsigned reg, uint32_t value)
{
	uint32_t keep = 0;

	/* The remote IRR has a meaning only while the pin is a fixed level interrupt. */
	if ((value & LVT_LEVEL) && LVT_DELIVERY(value) == DM_FIXED)
		keep = lapic_get(l, reg) & LVT_REMOTE_IRR;
	lapic_put(l, reg, value | keep);
	lapic_lint_changed(l, reg - APIC_LVT_LINT0);
}

/* value has been reduced to the writable bits; not for ICR and the x2APIC-only registers. */
static void write_register(struct vc_lapic *l, unsigned reg, uint32_t value)
{
	if (reg >= APIC_LVT_TIMER && reg <= APIC_LVT_ERROR && !(lapic_get(l, APIC_SVR) & SVR_ENABLED))
		value |= LVT_MASKED;

	switch (reg) {
	case APIC_TPR:
		write_tpr(l, value);
		break;
	case APIC_EOI:
		vc_lapic_eoi(l);
		break;
	case APIC_DFR:
		lapic_put(l, reg, value | DFR_ONES);
		break;
	case APIC_SVR:
		write_svr(l, value);
		break;
	case APIC_ESR: /* 10.5.3: a write makes the errors since the last one readable */
		lapic_put(l, reg, atomic_exchange(&l->errors, 0));
		break;
	case APIC_LVT_TIMER:
		lapic_timer_set_lvt(l, value);
		break;
	case APIC_LVT_LINT0:
	case APIC_LVT_LINT1:
		write_lint(l, reg, value);
		break;
	case APIC_TMICT:
		lapic_timer_set_count(l, value);
		break;
	case APIC_TDCR:
		lapic_timer_set_divide(l, value);
		break;
	default:
		if (lapic_writable[reg])
			lapic_put(l, reg, value);
	}
}

uint32_t vc_lapic_mmio_read(struct vc_lapic *lapic, uint32_t offset)
{
	unsigned reg = offset >> 4;

	if (!lapic_is_on(lapic) || lapic_is_x2apic(lapic))
		return 0xffffffff;
	if (reg >= APIC_REG_COUNT || !(access_rights[reg] & READ)) {
		lapic_error(lapic, ESR_ILLEGAL_REGISTER);
		return 0;
	}
	/* Registers are 4 bytes wide and 16 bytes apart. */
	return offset & 0xc ? 0 : read_register(lapic, reg) >> ((offset & 3) * 8);
}

void vc_lapic_mmio_write(struct vc_lapic *lapic, uint32_t offset, uint32_t value)
{
	unsigned reg = offset >> 4;

	if (!lapic_is_on(lapic) || lapic_is_x2apic(lapic) || (offset & 0xf))
		return;
	if (reg >= APIC_REG_COUNT || !(access_rights[reg] & WRITE)) {
		lapic_error(lapic, ESR_ILLEGAL_REGISTER);
		return;
	}
	value &= lapic_writable[reg];
	if (reg == APIC_ICR) {
		lapic_put(lapic, reg, value);
		lapic_send_icr(lapic, value, lapic_get(lapic, APIC_ICR2) >> 24);
	} else {
		write_register(lapic, reg, value);
	}
}

static int read_x2apic(struct vc_lapic *l, unsigned reg, uint64_t *value)
{
	if (!lapic_is_x2apic(l) || reg >= APIC_REG_COUNT || !(access_rights[reg] & MSR_READ))
		return -EINVAL;
	*value = read_register(l, reg);
	if (reg == APIC_ICR)
		*value |= (uint64_t)lapic_get(l, APIC_ICR2) << 32;
	return 0;
}

static int write_x2apic_icr(struct vc_lapic *l, uint64_t value)
{
	uint32_t low = (uint32_t)value & ~ICR_DELIVERY_STATUS;

	if (low & ~lapic_writable[APIC_ICR])
		return -EINVAL;
	lapic_put(l, APIC_ICR, low);
	lapic_put(l, APIC_ICR2, value >> 32);
	lapic_send_icr(l, low, value >> 32);
	return 0;
}

static int write_x2apic(struct vc_lapic *l, unsigned reg, uint64_t value)
{
	if (!lapic_is_x2apic(l) || reg >= APIC_REG_COUNT || !(access_rights[reg] & MSR_WRITE))
		return -EINVAL;
	if (reg == APIC_ICR)
		return write_x2apic_icr(l, value);
	/* Status bits come back when a guest modifies what it read, and are no error. */
	if (reg >= APIC_LVT_TIMER && reg <= APIC_LVT_ERROR)
		value &= ~(uint64_t)LVT_READ_ONLY;
	if (value & ~(uint64_t)lapic_writable[reg])
		return -EINVAL;
	if (reg == APIC_SELF_IPI)
		lapic_send_self(l, value);
	else
		write_register(l, reg, value);
	return 0;
}

/* Figure 10-27: from disabled to xAPIC to x2APIC, and from each of them to disabled. */
static int write_base(struct vc_lapic *l, uint64_t value)
{
	uint64_t before = lapic_base(l);
	bool on = value & APIC_BASE_EN, x2apic = value & APIC_BASE_EXTD;
	bool was_on = before & APIC_BASE_EN, was_x2apic = before & APIC_BASE_EXTD;

	if ((value & APIC_BASE_RESERVED) || (x2apic && !on) || (x2apic && !was_on) || (was_x2apic && on && !x2apic))
		return -EINVAL;
	atomic_store(&l->base, value);
	/* 10.4.3: what is enabled again starts as after power-up. */
	if (was_on && !on)
		vc_lapic_reset(l, true);
	return 0;
}

int vc_lapic_msr_read(struct vc_lapic *lapic, uint32_t msr, uint64_t *value)
{
	if (msr == MSR_APIC_BASE)
		*value = lapic_base(lapic);
	else if (msr == MSR_TSC_DEADLINE)
		*value = lapic_timer_get_deadline(lapic);
	else if (msr >= MSR_X2APIC && msr <= MSR_X2APIC_LAST)
		return read_x2apic(lapic, msr - MSR_X2APIC, value);
	else
		return -EINVAL;
	return 0;
}

int vc_lapic_msr_write(struct vc_lapic *lapic, uint32_t msr, uint64_t value)
{
	if (msr == MSR_APIC_BASE)
		return write_base(lapic, value);
	if (msr >= MSR_X2APIC && msr <= MSR_X2APIC_LAST)
		return write_x2apic(lapic, msr - MSR_X2APIC, value);
	if (msr != MSR_TSC_DEADLINE)
		return -EINVAL;
	lapic_timer_set_deadline(lapic, value);
	return 0;
}

uint64_t vc_lapic_base(const struct vc_lapic *lapic)
{
	return lapic_base(lapic);
}

uint8_t vc_lapic_get_cr8(const struct vc_lapic *lapic)
{
	return lapic_get(lapic, APIC_TPR) >> 4 & 0xf;
}

void vc_lapic_set_cr8(struct vc_lapic *lapic, uint8_t cr8)
{
	write_tpr(lapic, (cr8 & 0xf) << 4);
}
