/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Far jumps, calls and returns: direct, through call gates, to tasks (SDM vol. 2: JMP, CALL, RET; vol. 3, 5.8). */
#include "backend/emu/system.h"

/* ---- real and virtual-8086 mode ---- */

enum emu_next emu_jump_8086(struct emu_vcpu *c, uint16_t selector, uint64_t rip)
{
	/* The limit of CS does not change in real mode, and is always 64 KiB in virtual-8086 mode. */
	emu_check_rip(c, &c->s.seg[VC_CS], rip);
	emu_segment_8086(c, &c->s.seg[VC_CS], selector);
	c->s.rip = rip;
	emu_mode_changed(c);
	return EMU_JUMP;
}

/* ---- protected mode ---- */

/* Where a far transfer goes. */
struct target {
	struct vc_segment cs;
	uint64_t rip;
};

static void enter(struct emu_vcpu *c, const struct target *t)
{
	c->s.seg[VC_CS] = t->cs;
	c->s.rip = t->rip;
	emu_mode_changed(c);
}

/* A code segment that JMP or CALL names directly: the privilege level stays. */
static void direct_target(struct emu_vcpu *c, uint16_t selector, struct emu_desc *d, uint64_t rip, struct target *t)
{
	uint32_t error = emu_selector_error(selector);
	unsigned dpl = emu_desc_dpl(d->raw);

	if (c->long_mode && emu_desc_l(d->raw) && emu_desc_db(d->raw))
		emu_raise_error(c, VC_GP, error);
	if (emu_desc_is_conforming(d->raw) ? dpl > c->cpl : (selector & 3u) > c->cpl || dpl != c->cpl)
		emu_raise_error(c, VC_GP, error);
	if (!emu_desc_present(d->raw))
		emu_raise_error(c, VC_NP, error);
	emu_segment_fill(&t->cs, (uint16_t)(error | c->cpl), d->raw);
	t->rip = rip;
	emu_check_rip(c, &t->cs, rip);
	emu_desc_touch(c, d);
	t->cs.attr |= EMU_TYPE_ACCESSED;
}

/* The code segment and address that a call gate names; d becomes the code segment's descriptor. */
static void gate_target(struct emu_vcpu *c, uint16_t selector, uint64_t gate, uint64_t high, bool call,
                        struct emu_desc *d, struct target *t)
{
	uint16_t cs = gate >> 16 & 0xffff;
	uint32_t error = emu_selector_error(cs);
	unsigned dpl, cpl = c->cpl;

	if (emu_desc_dpl(gate) < c->cpl || emu_desc_dpl(gate) < (selector & 3u))
		emu_raise_error(c, VC_GP, emu_selector_error(selector));
	if (!emu_desc_present(gate))
		emu_raise_error(c, VC_NP, emu_selector_error(selector));
	if (emu_selector_null(cs))
		emu_raise_error(c, VC_GP, 0);
	emu_desc_get(c, cs, VC_GP, d);
	dpl = emu_desc_dpl(d->raw);
	if (!emu_desc_is_code(d->raw) || dpl > c->cpl)
		emu_raise_error(c, VC_GP, error);
	if (c->long_mode && (!emu_desc_l(d->raw) || emu_desc_db(d->raw)))
		emu_raise_error(c, VC_GP, error);
	if (!emu_desc_is_conforming(d->raw)) {
		if (!call && dpl != c->cpl)
			emu_raise_error(c, VC_GP, error);
		cpl = dpl;
	}
	if (!emu_desc_present(d->raw))
		emu_raise_error(c, VC_NP, error);
	emu_segment_fill(&t->cs, (uint16_t)(error | cpl), d->raw);
	t->rip = (gate & 0xffff) | (emu_desc_type(gate) & 8 ? gate >> 32 & 0xffff0000u : 0) | high << 32;
	emu_check_rip(c, &t->cs, t->rip);
	emu_desc_touch(c, d);
	t->cs.attr |= EMU_TYPE_ACCESSED;
}

/* What a far pointer's selector names. */
enum kind { CODE, CALL_GATE, TASK };

/* Finds out; for a task the switch is done. high: upper half of a 64-bit gate. */
static enum kind resolve(struct emu_vcpu *c, uint16_t selector, enum emu_task_reason reason, uint64_t next,
                         struct emu_desc *d, uint64_t *high)
{
	uint32_t error = emu_selector_error(selector);
	unsigned type;

	*high = 0;
	if (emu_selector_null(selector))
		emu_raise_error(c, VC_GP, 0);
	emu_desc_get(c, selector, VC_GP, d);
	if (emu_desc_is_code(d->raw))
		return CODE;
	type = emu_desc_type(d->raw);
	if (emu_desc_s(d->raw) || (c->long_mode && type != EMU_CALL32))
		emu_raise_error(c, VC_GP, error);
	if (type == EMU_CALL32 || type == EMU_CALL16) {
		if (c->long_mode)
			*high = emu_desc_get_high(c, selector, d) & 0xffffffffu;
		return CALL_GATE;
	}
	if (type != EMU_TASK_GATE && type != EMU_TSS16 && type != EMU_TSS32)
		emu_raise_error(c, VC_GP, error);
	if (emu_desc_dpl(d->raw) < c->cpl || emu_desc_dpl(d->raw) < (selector & 3u))
		emu_raise_error(c, VC_GP, error);
	/* A TSS lies in the GDT only. */
	if (type != EMU_TASK_GATE && selector & 4)
		emu_raise_error(c, VC_GP, error);
	if (!emu_desc_present(d->raw))
		emu_raise_error(c, VC_NP, error);
	if (type == EMU_TASK_GATE)
		emu_task_gate(c, d->raw, &selector, d);
	emu_task_switch(c, selector, d, reason, next, NULL);
	return TASK;
}

static enum emu_next jump(struct emu_vcpu *c, const struct emu_insn *i, uint16_t selector, uint64_t rip)
{
	struct target t;
	struct emu_desc d;
	uint64_t high;

	if (!c->protected_mode)
		return emu_jump_8086(c, selector, rip);
	switch (resolve(c, selector, EMU_TASK_JMP, emu_next_rip(c, i), &d, &high)) {
	case CODE:
		direct_target(c, selector, &d, rip, &t);
		break;
	case CALL_GATE:
		gate_target(c, selector, d.raw, high, false, &d, &t);
		break;
	default:
		return EMU_JUMP;
	}
	enter(c, &t);
	return EMU_JUMP;
}

/* ---- CALL ---- */

/* CALL on the current stack. */
static void call_same(struct emu_vcpu *c, unsigned size, uint64_t next, const struct target *t)
{
	struct emu_stack st = emu_stack_current(c);

	emu_stack_reserve(c, &st, 2 * size);
	emu_stack_push(c, &st, size, c->s.seg[VC_CS].selector);
	emu_stack_push(c, &st, size, next);
	emu_stack_commit(c, &st);
	enter(c, t);
}

/* Through a 16- or 32-bit gate to an inner level: parameters are copied from the old stack. */
static void call_inner(struct emu_vcpu *c, uint64_t gate, uint64_t next, const struct target *t)
{
	unsigned cpl = t->cs.selector & 3, size = emu_desc_type(gate) & 8 ? 4 : 2;
	unsigned parameters = gate >> 32 & 31;
	struct emu_stack old = emu_stack_current(c), st;
	struct vc_segment ss;
	struct emu_desc d;
	uint16_t selector;
	uint32_t sp;

	emu_tss_stack(c, cpl, &selector, &sp);
	if (emu_selector_null(selector))
		emu_raise_error(c, VC_TS, 0);
	emu_desc_get(c, selector, VC_TS, &d);
	emu_desc_check_stack(c, selector, d.raw, cpl, VC_TS);
	emu_desc_touch(c, &d);
	emu_segment_fill(&ss, selector, d.raw);
	st = emu_stack_at(&ss, sp, emu_selector_error(selector), true);
	emu_stack_reserve(c, &st, (4 + parameters) * size);
	emu_stack_push(c, &st, size, c->s.seg[VC_SS].selector);
	emu_stack_push(c, &st, size, c->s.gpr[VC_RSP]);
	for (unsigned n = parameters; n-- > 0;)
		emu_stack_push(c, &st, size, emu_stack_peek(c, &old, n * size, size));
	emu_stack_push(c, &st, size, c->s.seg[VC_CS].selector);
	emu_stack_push(c, &st, size, next);
	c->s.seg[VC_SS] = ss;
	c->s.gpr[VC_RSP] = st.sp;
	enter(c, t);
}

static void call_inner_long(struct emu_vcpu *c, uint64_t next, const struct target *t)
{
	unsigned cpl = t->cs.selector & 3;
	uint64_t rsp = c->s.gpr[VC_RSP] & (c->mode == EMU_MODE_64 ? ~0ull : 0xffffffffu);
	struct emu_stack st = emu_stack_at(NULL, emu_tss_stack64(c, cpl), 0, true);

	emu_stack_push(c, &st, 8, c->s.seg[VC_SS].selector);
	emu_stack_push(c, &st, 8, rsp);
	emu_stack_push(c, &st, 8, c->s.seg[VC_CS].selector);
	emu_stack_push(c, &st, 8, next);
	emu_segment_null(&c->s.seg[VC_SS], (uint16_t)cpl, cpl);
	c->s.gpr[VC_RSP] = st.sp;
	enter(c, t);
}

static void call_gate(struct emu_vcpu *c, uint16_t selector, struct emu_desc *d, uint64_t high, uint64_t next)
{
	uint64_t gate = d->raw;
	struct target t;

	gate_target(c, selector, gate, high, true, d, &t);
	if ((t.cs.selector & 3) == c->cpl)
		call_same(c, c->long_mode ? 8 : emu_desc_type(gate) & 8 ? 4 : 2, next, &t);
	else if (c->long_mode)
		call_inner_long(c, next, &t);
	else
		call_inner(c, gate, next, &t);
}

static enum emu_next call_8086(struct emu_vcpu *c, const struct emu_insn *i, uint16_t selector, uint64_t rip)
{
	struct emu_stack st = emu_stack_current(c);

	emu_check_rip(c, &c->s.seg[VC_CS], rip);
	emu_stack_reserve(c, &st, 2u * i->opsize);
	emu_stack_push(c, &st, i->opsize, c->s.seg[VC_CS].selector);
	emu_stack_push(c, &st, i->opsize, emu_next_rip(c, i));
	emu_stack_commit(c, &st);
	return emu_jump_8086(c, selector, rip);
}

static enum emu_next call(struct emu_vcpu *c, const struct emu_insn *i, uint16_t selector, uint64_t rip)
{
	uint64_t next = emu_next_rip(c, i), high;
	struct target t;
	struct emu_desc d;

	if (!c->protected_mode)
		return call_8086(c, i, selector, rip);
	switch (resolve(c, selector, EMU_TASK_CALL, next, &d, &high)) {
	case CODE:
		direct_target(c, selector, &d, rip, &t);
		call_same(c, i->opsize, next, &t);
		break;
	case CALL_GATE:
		call_gate(c, selector, &d, high, next);
		break;
	default:
		break;
	}
	return EMU_JUMP;
}

/* ---- RET ---- */

/* Code segment of RETF's selector. */
static void return_segment(struct emu_vcpu *c, uint16_t selector, uint64_t rip, struct target *t)
{
	struct emu_desc d;

	emu_return_code(c, selector, &d);
	emu_segment_fill(&t->cs, selector, d.raw);
	t->rip = rip;
}

static void return_outer(struct emu_vcpu *c, unsigned size, unsigned release, struct emu_stack *st, struct target *t)
{
	unsigned cpl = t->cs.selector & 3;
	struct vc_segment ss;
	struct emu_stack out;
	uint64_t sp;

	st->sp = (st->sp & ~st->mask) | ((st->sp + release) & st->mask);
	sp = emu_stack_pop(c, st, size);
	emu_return_stack(c, (uint16_t)emu_stack_pop(c, st, size), &t->cs, &ss);
	emu_check_rip(c, &t->cs, t->rip);
	out = emu_stack_at(emu_segment_is_64(c, &t->cs) ? NULL : &ss, sp, 0, false);
	out.sp = sp + release;
	c->s.seg[VC_SS] = ss;
	emu_stack_commit(c, &out);
	enter(c, t);
	emu_segments_demote(c, cpl);
	emu_mode_changed(c);
}

enum emu_next emu_sys_retf(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct emu_stack st = emu_stack_current(c);
	unsigned size = i->opsize, release = (uint16_t)i->imm;
	uint64_t rip = emu_stack_pop(c, &st, size);
	uint16_t selector = (uint16_t)emu_stack_pop(c, &st, size);
	struct target t;

	if (!c->protected_mode) {
		emu_check_rip(c, &c->s.seg[VC_CS], rip);
		st.sp += release;
		emu_stack_commit(c, &st);
		return emu_jump_8086(c, selector, rip);
	}
	return_segment(c, selector, rip, &t);
	if ((selector & 3) > c->cpl) {
		return_outer(c, size, release, &st, &t);
		return EMU_JUMP;
	}
	emu_check_rip(c, &t.cs, rip);
	st.sp += release;
	emu_stack_commit(c, &st);
	enter(c, &t);
	return EMU_JUMP;
}

/* ---- the instructions ---- */

static uint64_t far_offset(struct emu_vcpu *c, const struct emu_insn *i, uint16_t *selector)
{
	uint64_t rip = emu_load_operand(c, i, 0, i->opsize);

	*selector = (uint16_t)emu_load_operand(c, i, i->opsize, 2);
	return rip;
}

enum emu_next emu_sys_jmp_far(struct emu_vcpu *c, const struct emu_insn *i)
{
	return jump(c, i, i->imm2, i->imm & vc_width_mask(i->opsize));
}

enum emu_next emu_sys_jmp_far_ind(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint16_t selector;
	uint64_t rip = far_offset(c, i, &selector);

	return jump(c, i, selector, rip);
}

enum emu_next emu_sys_call_far(struct emu_vcpu *c, const struct emu_insn *i)
{
	return call(c, i, i->imm2, i->imm & vc_width_mask(i->opsize));
}

enum emu_next emu_sys_call_far_ind(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint16_t selector;
	uint64_t rip = far_offset(c, i, &selector);

	return call(c, i, selector, rip);
}
