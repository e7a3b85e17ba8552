/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Descriptor-table and task registers. */
#include "backend/emu/system.h"

/* CR4.UMIP keeps user code from seeing where the tables are. */
static void require_no_umip(struct emu_vcpu *c)
{
	if (c->cpl && c->s.cr4 & VC_CR4_UMIP)
		emu_raise_error(c, VC_GP, 0);
}

static unsigned base_size(const struct emu_vcpu *c)
{
	return c->mode == EMU_MODE_64 ? 8 : 4;
}

static enum emu_next load_table(struct emu_vcpu *c, const struct emu_insn *i, struct vc_table *table)
{
	uint64_t base;
	uint16_t limit;

	emu_require_cpl0(c);
	limit = (uint16_t)emu_load_operand(c, i, 0, 2);
	base = emu_load_operand(c, i, 2, base_size(c));
	if (c->mode != EMU_MODE_64 && i->opsize == 2)
		base &= 0xffffff;
	if (c->mode == EMU_MODE_64 && !emu_canonical_register(c, base))
		emu_raise_error(c, VC_GP, 0);
	table->base = base;
	table->limit = limit;
	return EMU_NEXT;
}

static enum emu_next store_table(struct emu_vcpu *c, const struct emu_insn *i, const struct vc_table *table)
{
	uint64_t linear;
	unsigned size = base_size(c);

	require_no_umip(c);
	linear = emu_operand_linear(c, i, 2, size, VCORE_ACCESS_WRITE);
	emu_probe(c, linear, size, true);
	emu_store_linear(c, emu_operand_linear(c, i, 0, 2, VCORE_ACCESS_WRITE), 2, table->limit);
	emu_store_linear(c, linear, size, table->base);
	return EMU_NEXT;
}

enum emu_next emu_sys_lgdt(struct emu_vcpu *c, const struct emu_insn *i)
{
	return load_table(c, i, &c->s.gdtr);
}
enum emu_next emu_sys_lidt(struct emu_vcpu *c, const struct emu_insn *i)
{
	return load_table(c, i, &c->s.idtr);
}
enum emu_next emu_sys_sgdt(struct emu_vcpu *c, const struct emu_insn *i)
{
	return store_table(c, i, &c->s.gdtr);
}
enum emu_next emu_sys_sidt(struct emu_vcpu *c, const struct emu_insn *i)
{
	return store_table(c, i, &c->s.idtr);
}

static enum emu_next store_selector(struct emu_vcpu *c, const struct emu_insn *i, const struct vc_segment *seg)
{
	emu_require_protected(c);
	require_no_umip(c);
	emu_store_rm16(c, i, seg->selector);
	return EMU_NEXT;
}

enum emu_next emu_sys_sldt(struct emu_vcpu *c, const struct emu_insn *i)
{
	return store_selector(c, i, &c->s.ldtr);
}
enum emu_next emu_sys_str(struct emu_vcpu *c, const struct emu_insn *i)
{
	return store_selector(c, i, &c->s.tr);
}

/* A system segment in the GDT whose type is in the set (a bit each); in long mode its descriptor has 16 bytes. */
static void system_segment(struct emu_vcpu *c, uint16_t selector, uint32_t types, struct emu_desc *d, uint64_t *base)
{
	uint32_t error = emu_selector_error(selector);

	if (selector & 4)
		emu_raise_error(c, VC_GP, error);
	emu_desc_get(c, selector, VC_GP, d);
	if (emu_desc_s(d->raw) || !(types >> emu_desc_type(d->raw) & 1))
		emu_raise_error(c, VC_GP, error);
	*base = emu_desc_base(d->raw);
	if (c->long_mode)
		*base = emu_desc_base64(d->raw, emu_desc_get_high(c, selector, d));
	if (!emu_desc_present(d->raw))
		emu_raise_error(c, VC_NP, error);
	if (c->long_mode && !emu_canonical_register(c, *base))
		emu_raise_error(c, VC_GP, error);
}

enum emu_next emu_sys_lldt(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint16_t selector;
	struct emu_desc d;
	uint64_t base;

	emu_require_protected(c);
	emu_require_cpl0(c);
	selector = emu_rm16(c, i);
	if (emu_selector_null(selector)) {
		emu_segment_null(&c->s.ldtr, selector, 0);
		return EMU_NEXT;
	}
	system_segment(c, selector, 1u << EMU_LDT, &d, &base);
	emu_segment_fill(&c->s.ldtr, selector, d.raw);
	c->s.ldtr.base = base;
	return EMU_NEXT;
}

enum emu_next emu_sys_ltr(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint16_t selector;
	struct emu_desc d;
	uint64_t base;

	emu_require_protected(c);
	emu_require_cpl0(c);
	selector = emu_rm16(c, i);
	if (emu_selector_null(selector))
		emu_raise_error(c, VC_GP, 0);
	system_segment(c, selector, 1u << EMU_TSS32 | (c->long_mode ? 0 : 1u << EMU_TSS16), &d, &base);
	/* Another vcpu may have been quicker. */
	if (emu_desc_change_type(c, d.linear, EMU_TYPE_BUSY, 0) & EMU_TYPE_BUSY)
		emu_raise_error(c, VC_GP, emu_selector_error(selector));
	emu_segment_fill(&c->s.tr, selector, d.raw);
	c->s.tr.base = base;
	c->s.tr.attr |= EMU_TYPE_BUSY;
	return EMU_NEXT;
}
