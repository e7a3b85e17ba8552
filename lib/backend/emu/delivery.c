/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One event through the interrupt vector or descriptor table (SDM vol. 3, 6.10-6.14, 20.1-20.3; INT n in vol. 2). */
#include "backend/emu/event.h"
#include "backend/emu/segment.h"
#include "backend/emu/vcpu.h"

/* ---- real mode and the 8086 table of VME ---- */

void emu_deliver_ivt(struct emu_vcpu *c, uint64_t table, const struct emu_event *e, uint64_t clear)
{
	struct emu_stack st = emu_stack_current(c);
	uint32_t vector = emu_ld32(c, table + e->vector * 4u);

	c->sys->trap_flag_spent = true;
	emu_stack_push(c, &st, 2, e->rflags);
	emu_stack_push(c, &st, 2, c->s.seg[VC_CS].selector);
	emu_stack_push(c, &st, 2, e->rip);
	emu_stack_commit(c, &st);
	emu_segment_8086(c, &c->s.seg[VC_CS], vector >> 16);
	c->s.rip = vector & 0xffff;
	emu_set_rflags(c, emu_rflags(c) & ~clear);
	emu_mode_changed(c);
}

static void deliver_real(struct emu_vcpu *c, const struct emu_event *e)
{
	if (e->vector * 4u + 3 > c->s.idtr.limit)
		emu_raise_error(c, VC_GP, e->vector * 8u + 2);
	emu_deliver_ivt(c, c->s.idtr.base, e, VC_FLAG_IF | VC_FLAG_TF | VC_FLAG_AC | VC_FLAG_RF);
}

/* ---- through a gate ---- */

/* The gate of an event: its descriptor, checked. entry: 8 bytes, 16 in long mode. */
static uint64_t read_gate(struct emu_vcpu *c, const struct emu_event *e, unsigned entry, uint32_t types, uint64_t *high)
{
	uint32_t error = e->vector * 8u + 2; /* IDT */
	uint64_t linear = c->s.idtr.base + e->vector * entry;
	uint64_t gate;

	if (e->vector * entry + entry - 1 > c->s.idtr.limit)
		emu_raise_error(c, VC_GP, error);
	gate = emu_ld_system(c, c->long_mode ? linear : (uint32_t)linear, 8);
	*high = entry == 16 ? emu_ld_system(c, linear + 8, 8) : 0;
	if (emu_desc_s(gate) || !(types >> emu_desc_type(gate) & 1))
		emu_raise_error(c, VC_GP, error);
	if (e->soft && emu_desc_dpl(gate) < c->cpl)
		emu_raise_error(c, VC_GP, error);
	if (!emu_desc_present(gate))
		emu_raise_error(c, VC_NP, error);
	return gate;
}

/* The handler's code segment, with its new privilege level as selector RPL. */
static void handler_segment(struct emu_vcpu *c, uint16_t selector, struct vc_segment *cs)
{
	uint32_t error = emu_selector_error(selector);
	struct emu_desc d;
	unsigned cpl;

	if (emu_selector_null(selector))
		emu_raise_error(c, VC_GP, 0);
	emu_desc_get(c, selector, VC_GP, &d);
	if (!emu_desc_is_code(d.raw) || emu_desc_dpl(d.raw) > c->cpl)
		emu_raise_error(c, VC_GP, error);
	if (c->long_mode && (!emu_desc_l(d.raw) || emu_desc_db(d.raw)))
		emu_raise_error(c, VC_GP, error);
	if (!emu_desc_present(d.raw))
		emu_raise_error(c, VC_NP, error);
	cpl = emu_desc_is_conforming(d.raw) ? c->cpl : emu_desc_dpl(d.raw);
	if (emu_virtual_8086(c) && cpl)
		emu_raise_error(c, VC_GP, error);
	emu_desc_touch(c, &d);
	emu_segment_fill(cs, (uint16_t)(error | cpl), d.raw);
}

static void enter_handler(struct emu_vcpu *c, const struct vc_segment *cs, uint64_t rip, bool interrupt_gate)
{
	uint64_t clear = VC_FLAG_TF | VC_FLAG_NT | VC_FLAG_RF | VC_FLAG_VM | (interrupt_gate ? VC_FLAG_IF : 0);

	c->s.seg[VC_CS] = *cs;
	c->s.rip = rip;
	c->s.rflags &= ~clear;
	emu_mode_changed(c);
}

/* The stack of the new privilege level: its segment in *ss, with every check. */
static struct emu_stack inner_stack(struct emu_vcpu *c, unsigned cpl, struct vc_segment *ss)
{
	uint16_t selector;
	uint32_t sp;
	struct emu_desc d;

	emu_tss_stack(c, cpl, &selector, &sp);
	if (emu_selector_null(selector))
		emu_raise_error(c, VC_TS, 0);
	emu_desc_get(c, selector, VC_TS, &d);
	emu_desc_check_stack(c, selector, d.raw, cpl, VC_TS);
	emu_desc_touch(c, &d);
	emu_segment_fill(ss, selector, d.raw);
	return emu_stack_at(ss, sp, emu_selector_error(selector), true);
}

static void push_frame(struct emu_vcpu *c, struct emu_stack *st, unsigned size, const struct emu_event *e)
{
	emu_stack_push(c, st, size, e->rflags);
	emu_stack_push(c, st, size, c->s.seg[VC_CS].selector);
	emu_stack_push(c, st, size, e->rip);
	if (e->has_error)
		emu_stack_push(c, st, size, e->error);
}

/* Protected mode: 16- and 32-bit interrupt and trap gates. */
static void deliver_gate(struct emu_vcpu *c, const struct emu_event *e, uint64_t gate)
{
	static const uint8_t v86_order[] = {VC_GS, VC_FS, VC_DS, VC_ES};
	bool v86 = emu_virtual_8086(c);
	unsigned size = emu_desc_type(gate) & 8 ? 4 : 2;
	uint32_t rip = (uint32_t)(gate & 0xffff) | (size == 4 ? (uint32_t)(gate >> 32 & 0xffff0000u) : 0);
	unsigned count = 3 + e->has_error;
	struct vc_segment cs, ss;
	struct emu_stack st;

	handler_segment(c, gate >> 16 & 0xffff, &cs);
	if ((cs.selector & 3) < c->cpl) {
		st = inner_stack(c, cs.selector & 3, &ss);
		count += v86 ? 6 : 2;
		emu_stack_reserve(c, &st, count * size);
		emu_check_rip(c, &cs, rip);
		for (unsigned n = 0; v86 && n < VC_ARRAY_SIZE(v86_order); n++)
			emu_stack_push(c, &st, size, c->s.seg[v86_order[n]].selector);
		emu_stack_push(c, &st, size, c->s.seg[VC_SS].selector);
		emu_stack_push(c, &st, size, c->s.gpr[VC_RSP]);
		push_frame(c, &st, size, e);
		c->s.seg[VC_SS] = ss;
		c->s.gpr[VC_RSP] = st.sp;
		for (unsigned n = 0; v86 && n < VC_ARRAY_SIZE(v86_order); n++)
			emu_segment_null(&c->s.seg[v86_order[n]], 0, 0);
	} else {
		st = emu_stack_current(c);
		emu_stack_reserve(c, &st, count * size);
		emu_check_rip(c, &cs, rip);
		push_frame(c, &st, size, e);
		emu_stack_commit(c, &st);
	}
	enter_handler(c, &cs, rip, !(emu_desc_type(gate) & 1));
}

static void deliver_protected(struct emu_vcpu *c, const struct emu_event *e)
{
	const uint32_t types =
	    1u << EMU_TASK_GATE | 1u << EMU_INT16 | 1u << EMU_TRAP16 | 1u << EMU_INT32 | 1u << EMU_TRAP32;
	uint64_t high, gate = read_gate(c, e, 8, types, &high);

	if (emu_desc_type(gate) == EMU_TASK_GATE) {
		uint16_t selector;
		struct emu_desc tss;

		emu_task_gate(c, gate, &selector, &tss);
		emu_task_switch(c, selector, &tss, EMU_TASK_EVENT, e->rip, e);
	} else {
		deliver_gate(c, e, gate);
	}
}

/* Long mode (SDM vol. 3, 6.14): SS:RSP is always pushed, on a 16-byte boundary; the stack may come from the IST. */
static void deliver_long(struct emu_vcpu *c, const struct emu_event *e)
{
	uint64_t high, gate = read_gate(c, e, 16, 1u << EMU_INT32 | 1u << EMU_TRAP32, &high);
	uint64_t rip = (gate & 0xffff) | (gate >> 32 & 0xffff0000u) | high << 32;
	unsigned ist = gate >> 32 & 7;
	struct vc_segment cs;
	struct emu_stack st;
	uint64_t rsp = c->s.gpr[VC_RSP] & (c->mode == EMU_MODE_64 ? ~0ull : 0xffffffffu);
	unsigned cpl;
	bool inner;

	handler_segment(c, gate >> 16 & 0xffff, &cs);
	cpl = cs.selector & 3;
	inner = cpl < c->cpl;
	st = emu_stack_at(NULL, rsp, 0, inner);
	if (ist)
		st.sp = emu_tss_stack64(c, 3 + ist);
	else if (inner)
		st.sp = emu_tss_stack64(c, cpl);
	emu_check_rip(c, &cs, rip);
	st.sp &= ~15ull;
	emu_stack_push(c, &st, 8, c->s.seg[VC_SS].selector);
	emu_stack_push(c, &st, 8, rsp);
	push_frame(c, &st, 8, e);
	if (inner)
		emu_segment_null(&c->s.seg[VC_SS], (uint16_t)cpl, cpl);
	c->s.gpr[VC_RSP] = st.sp;
	enter_handler(c, &cs, rip, emu_desc_type(gate) == EMU_INT32);
}

void emu_deliver(struct emu_vcpu *c, const struct emu_event *e)
{
	c->sys->trap_flag_spent = true;
	if (c->long_mode)
		deliver_long(c, e);
	else if (c->s.cr0 & VC_CR0_PE)
		deliver_protected(c, e);
	else
		deliver_real(c, e);
}
