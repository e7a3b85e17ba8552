/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside one LAPIC: requests, priorities, acceptance, EOI, errors, local interrupt sources (SDM vol. 3, 10.5 and 10.8).
 */
#include "chipset/lapic_priv.h"

/* Highest vector in one of the three 256-bit registers; -1: none. */
static int highest(const struct vc_lapic *l, unsigned reg)
{
	for (int i = 7; i >= 0; i--) {
		uint32_t word = atomic_load_explicit(&l->reg[reg + i], memory_order_acquire);
		if (word)
			return i * 32 + 31 - __builtin_clz(word);
	}
	return -1;
}

static bool test_bit(const struct vc_lapic *l, unsigned reg, uint8_t vector)
{
	return lapic_get(l, reg + vector / 32) >> (vector % 32) & 1;
}

static void set_bit(struct vc_lapic *l, unsigned reg, uint8_t vector)
{
	atomic_fetch_or(&l->reg[reg + vector / 32], 1u << (vector % 32));
}

/* True when it was set. */
static bool clear_bit(struct vc_lapic *l, unsigned reg, uint8_t vector)
{
	uint32_t bit = 1u << (vector % 32);

	return atomic_fetch_and(&l->reg[reg + vector / 32], ~bit) & bit;
}

/* 10.8.3.1 */
uint32_t lapic_ppr(const struct vc_lapic *l)
{
	uint32_t tpr = lapic_get(l, APIC_TPR);
	int isr = highest(l, APIC_ISR);

	return isr >= 0 && (uint32_t)(isr & 0xf0) > (tpr & 0xf0) ? (uint32_t)(isr & 0xf0) : tpr;
}

/* 10.6.2.4 */
uint32_t lapic_apr(const struct vc_lapic *l)
{
	uint32_t tpr = lapic_get(l, APIC_TPR);
	int irr = highest(l, APIC_IRR), isr = highest(l, APIC_ISR);
	uint32_t irr_class = irr < 0 ? 0 : irr & 0xf0, isr_class = isr < 0 ? 0 : isr & 0xf0;

	if ((tpr & 0xf0) >= irr_class && (tpr & 0xf0) > isr_class)
		return tpr;
	return irr_class > isr_class ? irr_class : isr_class;
}

void lapic_request(struct vc_lapic *l, uint8_t vector, bool level_triggered)
{
	if (level_triggered)
		set_bit(l, APIC_TMR, vector);
	else
		clear_bit(l, APIC_TMR, vector);
	set_bit(l, APIC_IRR, vector);
	atomic_fetch_or(&l->irr_words, 1u << (vector / 32));
	lapic_notify(l, VC_LAPIC_IRQ, 0);
}

int vc_lapic_pending(const struct vc_lapic *lapic)
{
	if (!atomic_load_explicit(&lapic->irr_words, memory_order_acquire) || !lapic_is_on(lapic))
		return -1;
	int vector = highest(lapic, APIC_IRR);
	return vector >= 0 && (uint32_t)(vector & 0xf0) > (lapic_ppr(lapic) & 0xf0) ? vector : -1;
}

int vc_lapic_accept(struct vc_lapic *lapic)
{
	int vector = vc_lapic_pending(lapic);

	if (vector < 0)
		return -1;
	unsigned word = vector / 32;
	set_bit(lapic, APIC_ISR, vector);
	clear_bit(lapic, APIC_IRR, vector);
	if (!atomic_load(&lapic->reg[APIC_IRR + word])) {
		/* A request that comes between the two sets both the register and the summary: look again behind it. */
		atomic_fetch_and(&lapic->irr_words, ~(1u << word));
		if (atomic_load(&lapic->reg[APIC_IRR + word]))
			atomic_fetch_or(&lapic->irr_words, 1u << word);
	}
	return vector;
}

void lapic_priority_lowered(struct vc_lapic *l)
{
	if (vc_lapic_pending(l) >= 0)
		lapic_notify(l, VC_LAPIC_IRQ, 0);
}

/* A level-triggered LINT0 in fixed mode behaves as a pin of the IOAPIC does. */
static void eoi_lint0(struct vc_lapic *l, uint8_t vector)
{
	uint32_t lvt = lapic_get(l, APIC_LVT_LINT0);

	if (!(lvt & LVT_REMOTE_IRR) || (lvt & LVT_VECTOR) != vector)
		return;
	atomic_fetch_and(&l->reg[APIC_LVT_LINT0], ~LVT_REMOTE_IRR);
	lapic_lint_changed(l, 0);
}

void vc_lapic_eoi(struct vc_lapic *lapic)
{
	int vector = highest(lapic, APIC_ISR);

	if (vector < 0)
		return; /* the end of a spurious interrupt */
	clear_bit(lapic, APIC_ISR, vector);
	if (test_bit(lapic, APIC_TMR, vector)) {
		eoi_lint0(lapic, vector);
		if (!(lapic_get(lapic, APIC_SVR) & SVR_SUPPRESS_EOI) && lapic->all->config.eoi)
			lapic->all->config.eoi(lapic->all->config.ctx, vector);
	}
	lapic_priority_lowered(lapic);
}

bool vc_lapic_pv_eoi_allowed(const struct vc_lapic *lapic)
{
	int vector = highest(lapic, APIC_ISR);

	if (vector < 0 || test_bit(lapic, APIC_TMR, vector) || highest(lapic, APIC_IRR) >= 0)
		return false;
	for (unsigned i = 0; i < 8; i++) {
		uint32_t word = lapic_get(lapic, APIC_ISR + i);
		if (i == (unsigned)vector / 32)
			word &= ~(1u << (vector % 32));
		if (word)
			return false;
	}
	return true;
}

void lapic_error(struct vc_lapic *l, uint32_t bit)
{
	atomic_fetch_or(&l->errors, bit);
	uint32_t lvt = lapic_get(l, APIC_LVT_ERROR);
	if (lvt & LVT_MASKED)
		return;
	if ((lvt & LVT_VECTOR) < 16)
		atomic_fetch_or(&l->errors, ESR_RECEIVE_ILLEGAL_VECTOR);
	else
		lapic_request(l, lvt & LVT_VECTOR, false);
}

/* Fixed delivery of a LINT pin; only LINT0 may be level-triggered (10.5.1). */
static void lint_fixed(struct vc_lapic *l, unsigned reg, uint32_t lvt)
{
	bool level = reg == APIC_LVT_LINT0 && (lvt & LVT_LEVEL);

	if (level && (atomic_fetch_or(&l->reg[reg], LVT_REMOTE_IRR) & LVT_REMOTE_IRR))
		return; /* the last one was not ended yet */
	lapic_request(l, lvt & LVT_VECTOR, level);
}

void lapic_local_event(struct vc_lapic *l, unsigned reg)
{
	static const enum vc_lapic_event events[8] = {
	    [DM_SMI] = VC_LAPIC_SMI,
	    [DM_NMI] = VC_LAPIC_NMI,
	    [DM_INIT] = VC_LAPIC_INIT,
	    [DM_EXTINT] = VC_LAPIC_EXTINT,
	};
	uint32_t lvt = lapic_get(l, reg);
	unsigned delivery = LVT_DELIVERY(lvt); /* reads 0 where the register has no such field */

	if (lvt & LVT_MASKED)
		return;
	if (delivery == DM_FIXED) {
		if ((lvt & LVT_VECTOR) < 16)
			lapic_error(l, ESR_RECEIVE_ILLEGAL_VECTOR);
		else if (reg == APIC_LVT_LINT0 || reg == APIC_LVT_LINT1)
			lint_fixed(l, reg, lvt);
		else
			lapic_request(l, lvt & LVT_VECTOR, false);
	} else if (events[delivery] != VC_LAPIC_IRQ) {
		lapic_notify(l, events[delivery], 0);
	}
}

/* A rising edge of a LINT pin. */
static void lint_raised(struct vc_lapic *l, unsigned pin)
{
	if (lapic_is_on(l))
		lapic_local_event(l, APIC_LVT_LINT0 + pin);
	else /* without an APIC the pins are INTR and NMI (10.4.3) */
		lapic_notify(l, pin ? VC_LAPIC_NMI : VC_LAPIC_EXTINT, 0);
}

void vc_lapics_set_lint(struct vc_lapics *lapics, unsigned pin, bool level)
{
	if (pin > 1)
		return;
	for (unsigned i = 0; i < lapics->config.count; i++) {
		struct vc_lapic *l = &lapics->lapic[i];
		if (!level)
			/* INTR dropped: an ExtINT message that asked for it has been served. */
			atomic_fetch_and(&l->pins, ~(PIN_LINT(pin) | (pin ? 0 : PIN_EXTINT_MESSAGE)));
		else if (!(atomic_fetch_or(&l->pins, PIN_LINT(pin)) & PIN_LINT(pin)))
			lint_raised(l, pin);
	}
}

void lapic_lint_changed(struct vc_lapic *l, unsigned pin)
{
	uint32_t lvt = lapic_get(l, APIC_LVT_LINT0 + pin);

	if (pin || !(atomic_load(&l->pins) & PIN_LINT(0)) || (lvt & LVT_MASKED))
		return;
	/* Only levels are still there to be seen. */
	if (LVT_DELIVERY(lvt) == DM_EXTINT || (LVT_DELIVERY(lvt) == DM_FIXED && (lvt & LVT_LEVEL)))
		lapic_local_event(l, APIC_LVT_LINT0);
}

bool vc_lapic_accepts_pic(const struct vc_lapic *lapic)
{
	uint32_t lvt = lapic_get(lapic, APIC_LVT_LINT0);

	if (!lapic_is_on(lapic) || (atomic_load(&lapic->pins) & PIN_EXTINT_MESSAGE))
		return true;
	return !(lvt & LVT_MASKED) && LVT_DELIVERY(lvt) == DM_EXTINT;
}
