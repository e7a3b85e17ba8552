/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* IRET in every mode (SDM vol. 2: IRET; vol. 3, 20.2-20.3), and what it shares with RETF. */
#include "backend/emu/system.h"

void emu_return_code(struct emu_vcpu *c, uint16_t selector, struct emu_desc *d)
{
	uint32_t error = emu_selector_error(selector);
	unsigned rpl = selector & 3;

	if (emu_selector_null(selector))
		emu_raise_error(c, VC_GP, 0);
	emu_desc_get(c, selector, VC_GP, d);
	if (!emu_desc_is_code(d->raw) || rpl < c->cpl)
		emu_raise_error(c, VC_GP, error);
	if (c->long_mode && emu_desc_l(d->raw) && emu_desc_db(d->raw))
		emu_raise_error(c, VC_GP, error);
	if (emu_desc_is_conforming(d->raw) ? emu_desc_dpl(d->raw) > rpl : emu_desc_dpl(d->raw) != rpl)
		emu_raise_error(c, VC_GP, error);
	if (!emu_desc_present(d->raw))
		emu_raise_error(c, VC_NP, error);
	emu_desc_touch(c, d);
}

void emu_return_stack(struct emu_vcpu *c, uint16_t selector, const struct vc_segment *cs, struct vc_segment *ss)
{
	unsigned cpl = cs->selector & 3;
	struct emu_desc d;

	if (emu_selector_null(selector)) {
		if (!emu_segment_is_64(c, cs) || cpl == 3)
			emu_raise_error(c, VC_GP, 0);
		emu_segment_null(ss, selector, cpl);
		return;
	}
	emu_desc_get(c, selector, VC_GP, &d);
	emu_desc_check_stack(c, selector, d.raw, cpl, VC_GP);
	emu_desc_touch(c, &d);
	emu_segment_fill(ss, selector, d.raw);
}

/* ---- real and virtual-8086 mode ---- */

/* Flags that an IRET never changes there. */
#define KEPT_REAL (VC_FLAG_VM | VC_FLAG_VIF | VC_FLAG_VIP)
#define KEPT_V86  (KEPT_REAL | VC_FLAG_IOPL)
#define FLAGS_ALL 0x3f7fd7u /* that exist */

static void set_flags(struct emu_vcpu *c, uint64_t image, uint64_t changed)
{
	uint64_t old = emu_rflags(c);

	emu_set_rflags(c, (image & changed & FLAGS_ALL) | (old & ~changed));
	emu_flags_popped(c, old);
}

void emu_set_vme_flags(struct emu_vcpu *c, uint16_t image)
{
	uint64_t changed = 0xffff & ~(uint64_t)(VC_FLAG_IOPL | VC_FLAG_IF);

	c->s.rflags = (c->s.rflags & ~(uint64_t)VC_FLAG_VIF) | (image & VC_FLAG_IF ? VC_FLAG_VIF : 0);
	set_flags(c, image, changed | VC_FLAG_RF);
}

void emu_check_vme_flags(struct emu_vcpu *c, uint16_t image)
{
	if (image & VC_FLAG_TF || (image & VC_FLAG_IF && c->s.rflags & VC_FLAG_VIP))
		emu_raise_error(c, VC_GP, 0);
}

static enum emu_next iret_8086(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct emu_stack st = emu_stack_current(c);
	bool v86 = emu_virtual_8086(c), vme = v86 && emu_iopl(c) < 3;
	uint64_t rip, image, kept = v86 ? KEPT_V86 : KEPT_REAL;
	uint16_t selector;

	if (vme && (!(c->s.cr4 & VC_CR4_VME) || i->opsize != 2))
		emu_raise_error(c, VC_GP, 0);
	rip = emu_stack_pop(c, &st, i->opsize);
	selector = (uint16_t)emu_stack_pop(c, &st, i->opsize);
	image = emu_stack_pop(c, &st, i->opsize);
	emu_check_rip(c, &c->s.seg[VC_CS], rip);
	if (vme)
		emu_check_vme_flags(c, (uint16_t)image);
	emu_stack_commit(c, &st);
	emu_jump_8086(c, selector, rip);
	if (vme)
		emu_set_vme_flags(c, (uint16_t)image);
	else
		set_flags(c, image, (i->opsize == 2 ? 0xffff | VC_FLAG_RF : FLAGS_ALL) & ~kept);
	return EMU_JUMP;
}

/* ---- protected and long mode ---- */

/* What the popped image may change: by the privilege level before the return. */
static uint64_t changeable(const struct emu_vcpu *c, unsigned size)
{
	uint64_t mask = VC_FLAGS_ARITH | VC_FLAG_TF | VC_FLAG_DF | VC_FLAG_NT;

	if (size > 2)
		mask |= VC_FLAG_RF | VC_FLAG_AC | VC_FLAG_ID;
	if (c->cpl <= emu_iopl(c))
		mask |= VC_FLAG_IF;
	if (!c->cpl)
		mask |= VC_FLAG_IOPL | (size > 2 ? VC_FLAG_VIF | VC_FLAG_VIP : 0);
	return mask;
}

static enum emu_next task_return(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint32_t base = (uint32_t)c->s.tr.base, error;
	uint16_t selector;
	struct emu_desc d;

	if (c->long_mode)
		emu_raise_error(c, VC_GP, 0);
	selector = (uint16_t)emu_ld_system(c, base, 2);
	error = emu_selector_error(selector);
	if (selector & 4)
		emu_raise_error(c, VC_TS, error);
	emu_desc_get(c, selector, VC_TS, &d);
	if (emu_desc_s(d.raw) || (emu_desc_type(d.raw) & ~8u) != (EMU_TSS16 | EMU_TYPE_BUSY))
		emu_raise_error(c, VC_TS, error);
	if (!emu_desc_present(d.raw))
		emu_raise_error(c, VC_NP, error);
	emu_task_switch(c, selector, &d, EMU_TASK_IRET, emu_next_rip(c, i), NULL);
	return EMU_JUMP;
}

/* To virtual-8086 mode, from CPL 0. */
static enum emu_next return_v86(struct emu_vcpu *c, struct emu_stack *st, uint32_t rip, uint16_t selector,
                                uint32_t image)
{
	static const uint8_t order[] = {VC_ES, VC_DS, VC_FS, VC_GS};
	uint32_t sp = (uint32_t)emu_stack_pop(c, st, 4);
	uint16_t seg[VC_SEG_COUNT];

	seg[VC_CS] = selector;
	seg[VC_SS] = (uint16_t)emu_stack_pop(c, st, 4);
	for (unsigned n = 0; n < VC_ARRAY_SIZE(order); n++)
		seg[order[n]] = (uint16_t)emu_stack_pop(c, st, 4);
	if (rip > 0xffff)
		emu_raise_error(c, VC_GP, 0);
	for (unsigned n = 0; n < VC_SEG_COUNT; n++)
		emu_segment_v86(&c->s.seg[n], seg[n]);
	c->s.gpr[VC_RSP] = sp;
	c->s.rip = rip;
	set_flags(c, image, FLAGS_ALL);
	emu_mode_changed(c);
	return EMU_JUMP;
}

enum emu_next emu_sys_iret(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct emu_stack st;
	unsigned size = i->opsize, cpl;
	uint64_t rip, image, mask, sp;
	uint16_t selector;
	struct vc_segment cs, ss;
	struct emu_desc d;

	/* NMIs are unblocked even when the instruction faults (SDM vol. 3, 6.7.1). */
	if (vc_unlikely(c->s.nmi_masked)) {
		c->s.nmi_masked = 0;
		c->attention = true;
	}
	if (!c->protected_mode)
		return iret_8086(c, i);
	if (vc_unlikely(c->s.rflags & VC_FLAG_NT))
		return task_return(c, i);

	st = emu_stack_current(c);
	rip = emu_stack_pop(c, &st, size);
	selector = (uint16_t)emu_stack_pop(c, &st, size);
	image = emu_stack_pop(c, &st, size);
	if (image & VC_FLAG_VM && !c->cpl && size == 4 && !c->long_mode)
		return return_v86(c, &st, (uint32_t)rip, selector, (uint32_t)image);

	emu_return_code(c, selector, &d);
	emu_segment_fill(&cs, selector, d.raw);
	cpl = selector & 3;
	mask = changeable(c, size);
	if (cpl == c->cpl && c->mode != EMU_MODE_64) {
		emu_check_rip(c, &cs, rip);
		emu_stack_commit(c, &st);
	} else {
		sp = emu_stack_pop(c, &st, size);
		emu_return_stack(c, (uint16_t)emu_stack_pop(c, &st, size), &cs, &ss);
		emu_check_rip(c, &cs, rip);
		st = emu_stack_at(emu_segment_is_64(c, &cs) ? NULL : &ss, sp, 0, false);
		emu_stack_commit(c, &st);
		c->s.seg[VC_SS] = ss;
		if (cpl != c->cpl)
			emu_segments_demote(c, cpl);
	}
	c->s.seg[VC_CS] = cs;
	c->s.rip = rip;
	image = (image & mask) | (emu_rflags(c) & ~mask);
	if (image & VC_FLAG_TF || (image & VC_FLAG_IF && c->interrupt_waiting))
		c->attention = true;
	emu_set_rflags(c, image);
	emu_mode_changed(c);
	return EMU_JUMP;
}
