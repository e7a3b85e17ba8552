/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The task-state segment and hardware task switches (SDM vol. 3, chapter 7). */
#include "backend/emu/event.h"
#include "backend/emu/mmu/mmu.h"
#include "backend/emu/segment.h"
#include "backend/emu/vcpu.h"

/* Order of the selectors in a TSS; a 16-bit one ends behind DS. */
static const uint8_t seg_order[] = {VC_ES, VC_CS, VC_SS, VC_DS, VC_FS, VC_GS};

/* Where things are in a TSS. */
struct layout {
	uint8_t size; /* least limit + 1 */
	uint8_t word; /* bytes of a register */
	uint8_t ip, flags, gpr, seg, ldt;
	uint8_t seg_step, segs;
};
static const struct layout layout16 = {0x2c, 2, 0x0e, 0x10, 0x12, 0x22, 0x2a, 2, 4};
static const struct layout layout32 = {0x68, 4, 0x20, 0x24, 0x28, 0x48, 0x60, 4, 6};
#define TSS32_CR3  0x1c
#define TSS32_TRAP 0x64

#define DR7_LOCAL 0x155u /* L0-L3, LE */

static const struct layout *layout_of(unsigned type)
{
	return type & 8 ? &layout32 : &layout16;
}

/* ---- stacks ---- */

static uint64_t tss_linear(const struct emu_vcpu *c, uint32_t offset)
{
	uint64_t linear = c->s.tr.base + offset;

	return c->long_mode ? linear : (uint32_t)linear;
}

void emu_tss_stack(struct emu_vcpu *c, unsigned cpl, uint16_t *ss, uint32_t *sp)
{
	unsigned word = layout_of(VC_SEG_TYPE(c->s.tr.attr))->word;
	uint32_t offset = word + cpl * word * 2;

	if (offset + word + 1 > c->s.tr.limit)
		emu_raise_error(c, VC_TS, emu_selector_error(c->s.tr.selector));
	*sp = (uint32_t)emu_ld_system(c, tss_linear(c, offset), word);
	*ss = (uint16_t)emu_ld_system(c, tss_linear(c, offset + word), 2);
}

uint64_t emu_tss_stack64(struct emu_vcpu *c, unsigned entry)
{
	uint32_t offset = 4 + 8 * entry;
	uint64_t rsp;

	if (offset + 7 > c->s.tr.limit)
		emu_raise_error(c, VC_TS, emu_selector_error(c->s.tr.selector));
	rsp = emu_ld_system(c, tss_linear(c, offset), 8);
	if (!emu_canonical(c, rsp))
		emu_raise_error(c, VC_SSF, 0);
	return rsp;
}

/* ---- task switch ---- */

void emu_task_gate(struct emu_vcpu *c, uint64_t gate, uint16_t *selector, struct emu_desc *d)
{
	uint32_t error;
	unsigned type;

	*selector = gate >> 16 & 0xffff;
	error = emu_selector_error(*selector);
	if (*selector & 4)
		emu_raise_error(c, VC_GP, error);
	emu_desc_get(c, *selector, VC_GP, d);
	type = emu_desc_type(d->raw);
	if (emu_desc_s(d->raw) || (type != EMU_TSS16 && type != EMU_TSS32))
		emu_raise_error(c, VC_GP, error);
	if (!emu_desc_present(d->raw))
		emu_raise_error(c, VC_NP, error);
}

/* The state a TSS holds. */
struct task {
	uint32_t cr3, rip, rflags;
	uint32_t gpr[8];
	uint16_t seg[VC_SEG_COUNT], ldt;
	bool trap;
};

static void read_task(struct emu_vcpu *c, uint32_t base, const struct layout *l, struct task *t)
{
	memset(t, 0, sizeof *t);
	if (l == &layout32) {
		t->cr3 = (uint32_t)emu_ld_super(c, base + TSS32_CR3, 4);
		t->trap = emu_ld_super(c, base + TSS32_TRAP, 2) & 1;
	}
	t->rip = (uint32_t)emu_ld_super(c, base + l->ip, l->word);
	t->rflags = (uint32_t)emu_ld_super(c, base + l->flags, l->word);
	for (unsigned n = 0; n < 8; n++)
		t->gpr[n] = (uint32_t)emu_ld_super(c, base + l->gpr + n * l->word, l->word);
	for (unsigned n = 0; n < l->segs; n++)
		t->seg[seg_order[n]] = (uint16_t)emu_ld_super(c, base + l->seg + n * l->seg_step, 2);
	t->ldt = (uint16_t)emu_ld_super(c, base + l->ldt, 2);
}

/* The dynamic fields of the current TSS. */
static void save_task(struct emu_vcpu *c, const struct layout *l, uint64_t rip, uint64_t rflags)
{
	uint32_t base = (uint32_t)c->s.tr.base;

	emu_st_super(c, base + l->ip, l->word, rip);
	emu_st_super(c, base + l->flags, l->word, rflags);
	for (unsigned n = 0; n < 8; n++)
		emu_st_super(c, base + l->gpr + n * l->word, l->word, c->s.gpr[n]);
	for (unsigned n = 0; n < l->segs; n++)
		emu_st_super(c, base + l->seg + n * l->seg_step, 2, c->s.seg[seg_order[n]].selector);
}

/* ---- loading the new task; faults from here on belong to it (SDM vol. 3, table 7-1) ---- */

static void load_ldt(struct emu_vcpu *c, uint16_t selector)
{
	uint32_t error = emu_selector_error(selector);
	struct emu_desc d;

	emu_segment_null(&c->s.ldtr, selector, 0);
	if (emu_selector_null(selector))
		return;
	if (selector & 4)
		emu_raise_error(c, VC_TS, error);
	emu_desc_get(c, selector, VC_TS, &d);
	if (emu_desc_s(d.raw) || emu_desc_type(d.raw) != EMU_LDT || !emu_desc_present(d.raw))
		emu_raise_error(c, VC_TS, error);
	emu_segment_fill(&c->s.ldtr, selector, d.raw);
}

static void load_code(struct emu_vcpu *c, uint16_t selector)
{
	uint32_t error = emu_selector_error(selector);
	unsigned rpl = selector & 3;
	struct emu_desc d;

	if (emu_selector_null(selector))
		emu_raise_error(c, VC_TS, error);
	emu_desc_get(c, selector, VC_TS, &d);
	if (!emu_desc_is_code(d.raw) ||
	    (emu_desc_is_conforming(d.raw) ? emu_desc_dpl(d.raw) > rpl : emu_desc_dpl(d.raw) != rpl))
		emu_raise_error(c, VC_TS, error);
	if (!emu_desc_present(d.raw))
		emu_raise_error(c, VC_NP, error);
	emu_desc_touch(c, &d);
	emu_segment_fill(&c->s.seg[VC_CS], selector, d.raw);
}

static void load_stack(struct emu_vcpu *c, uint16_t selector, unsigned cpl)
{
	struct emu_desc d;

	if (emu_selector_null(selector))
		emu_raise_error(c, VC_TS, emu_selector_error(selector));
	emu_desc_get(c, selector, VC_TS, &d);
	emu_desc_check_stack(c, selector, d.raw, cpl, VC_TS);
	emu_desc_touch(c, &d);
	emu_segment_fill(&c->s.seg[VC_SS], selector, d.raw);
}

static void load_data(struct emu_vcpu *c, enum vc_sreg seg, uint16_t selector, unsigned cpl)
{
	uint32_t error = emu_selector_error(selector);
	struct emu_desc d;

	if (emu_selector_null(selector))
		return;
	emu_desc_get(c, selector, VC_TS, &d);
	if (!emu_desc_s(d.raw) || (emu_desc_is_code(d.raw) && !(emu_desc_type(d.raw) & EMU_TYPE_READABLE)))
		emu_raise_error(c, VC_TS, error);
	if (!emu_desc_is_conforming(d.raw) && (emu_desc_dpl(d.raw) < cpl || emu_desc_dpl(d.raw) < (selector & 3u)))
		emu_raise_error(c, VC_TS, error);
	if (!emu_desc_present(d.raw))
		emu_raise_error(c, VC_NP, error);
	emu_desc_touch(c, &d);
	emu_segment_fill(&c->s.seg[seg], selector, d.raw);
}

static void load_segments(struct emu_vcpu *c, const struct task *t)
{
	static const uint8_t data[] = {VC_ES, VC_DS, VC_FS, VC_GS};
	unsigned cpl = t->seg[VC_CS] & 3;

	load_ldt(c, t->ldt);
	if (t->rflags & VC_FLAG_VM) {
		for (unsigned n = 0; n < VC_SEG_COUNT; n++)
			emu_segment_v86(&c->s.seg[n], t->seg[n]);
		emu_mode_changed(c);
		return;
	}
	load_code(c, t->seg[VC_CS]);
	load_stack(c, t->seg[VC_SS], cpl);
	/* With CS and SS in place the new privilege level holds. */
	emu_mode_changed(c);
	for (unsigned n = 0; n < VC_ARRAY_SIZE(data); n++)
		load_data(c, data[n], t->seg[data[n]], cpl);
	emu_mode_changed(c);
}

/* Registers of the new task; segment registers hold their selectors but no descriptors yet. */
static void load_registers(struct emu_vcpu *c, const struct layout *l, const struct task *t, uint64_t cr3)
{
	const uint32_t flags = 0x3f7fd7;
	unsigned cpl = t->rflags & VC_FLAG_VM ? 3 : t->seg[VC_CS] & 3;

	for (unsigned n = 0; n < 8; n++) {
		if (l == &layout32)
			c->s.gpr[n] = t->gpr[n];
		else
			c->s.gpr[n] = (c->s.gpr[n] & 0xffff0000u) | t->gpr[n];
	}
	c->s.rip = t->rip;
	c->in_block = false;
	emu_set_rflags(c, t->rflags & flags);
	for (unsigned n = 0; n < VC_SEG_COUNT; n++)
		emu_segment_null(&c->s.seg[n], t->seg[n], n == VC_SS || n == VC_CS ? cpl : 0);
	c->s.cr0 |= VC_CR0_TS;
	if (c->s.dr7 & DR7_LOCAL) {
		c->s.dr7 &= ~(uint64_t)DR7_LOCAL;
		emu_debug_changed(c);
	}
	if (cr3 != c->s.cr3) {
		uint64_t old = c->s.cr3;
		c->s.cr3 = cr3;
		emu_mmu_cr3_written(c, old, false);
	}
	emu_mode_changed(c);
}

static void push_error(struct emu_vcpu *c, const struct layout *l, const struct emu_event *event)
{
	struct emu_stack st;

	if (!event || !event->has_error)
		return;
	st = emu_stack_current(c);
	emu_stack_push(c, &st, l->word, event->error);
	emu_stack_commit(c, &st);
}

void emu_task_switch(struct emu_vcpu *c, uint16_t selector, const struct emu_desc *d, enum emu_task_reason reason,
                     uint64_t next_rip, const struct emu_event *event)
{
	const struct layout *old = layout_of(VC_SEG_TYPE(c->s.tr.attr));
	const struct layout *new = layout_of(emu_desc_type(d->raw));
	const bool nests = reason == EMU_TASK_CALL || reason == EMU_TASK_EVENT;
	const uint16_t old_selector = c->s.tr.selector;
	const uint32_t base = emu_desc_base(d->raw);
	uint64_t rflags = event ? event->rflags : emu_rflags(c);
	uint64_t cr3 = c->s.cr3;
	struct emu_desc old_desc;
	struct task t;

	/* Everything that may still fault in the old task; writing its TSS twice does no harm. */
	if (emu_desc_limit(d->raw) < new->size - 1u)
		emu_raise_error(c, VC_TS, emu_selector_error(selector));
	if (c->s.tr.limit < old->size - 1u)
		emu_raise_error(c, VC_TS, emu_selector_error(old_selector));
	emu_desc_get(c, old_selector, VC_TS, &old_desc);
	read_task(c, base, new, &t);
	if (new == &layout32 && c->s.cr0 &VC_CR0_PG) {
		cr3 = t.cr3;
		if (c->s.cr4 & VC_CR4_PAE && !emu_mmu_load_pdptes(c, cr3))
			emu_raise_error(c, VC_TS, emu_selector_error(selector));
	}
	if (reason == EMU_TASK_IRET)
		rflags &= ~(uint64_t)VC_FLAG_NT;
	save_task(c, old, next_rip, rflags);
	if (nests) {
		emu_st_super(c, base, 2, old_selector);
		t.rflags |= VC_FLAG_NT;
	} else {
		emu_desc_change_type(c, old_desc.linear, 0, 0); /* faults here, before the new one is marked */
	}
	if (reason != EMU_TASK_IRET)
		emu_desc_change_type(c, d->linear, EMU_TYPE_BUSY, 0);
	if (!nests)
		emu_desc_change_type(c, old_desc.linear, 0, EMU_TYPE_BUSY);

	emu_segment_fill(&c->s.tr, selector, d->raw);
	c->s.tr.attr |= EMU_TYPE_BUSY;
	load_registers(c, new, &t, cr3);
	load_segments(c, &t);
	emu_check_rip(c, &c->s.seg[VC_CS], c->s.rip);
	push_error(c, new, event);
	c->attention = true;
	if (t.trap)
		emu_raise_debug(c, EMU_DR6_BT, true);
}
