/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Segment registers, their bases, and the instructions that only look at descriptors. */
#include "backend/emu/system.h"

/* ---- loads and stores ---- */

/* After SS was loaded, nothing interrupts before the end of the next instruction. */
static void shadow(struct emu_vcpu *c, unsigned seg)
{
	if (seg == VC_SS) {
		c->s.shadow_mov_ss = 1;
		c->attention = true;
	}
}

enum emu_next emu_sys_mov_from_sreg(struct emu_vcpu *c, const struct emu_insn *i)
{
	if (i->reg >= VC_SEG_COUNT)
		emu_raise(c, VC_UD);
	emu_store_rm16(c, i, c->s.seg[i->reg].selector);
	return EMU_NEXT;
}

enum emu_next emu_sys_mov_to_sreg(struct emu_vcpu *c, const struct emu_insn *i)
{
	if (i->reg == VC_CS || i->reg >= VC_SEG_COUNT)
		emu_raise(c, VC_UD);
	emu_load_sreg(c, i->reg, emu_rm16(c, i));
	shadow(c, i->reg);
	return EMU_NEXT;
}

enum emu_next emu_sys_push_sreg(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct emu_stack st = emu_stack_current(c);
	uint16_t selector = c->s.seg[i->reg].selector;

	if (i->stacksize == 4) {
		/* With 32 bits the upper half of the stack slot is not written (SDM vol. 2: PUSH, on recent processors). */
		st.sp -= 2;
		emu_stack_push(c, &st, 2, selector);
	} else {
		emu_stack_push(c, &st, i->stacksize, selector);
	}
	emu_stack_commit(c, &st);
	return EMU_NEXT;
}

enum emu_next emu_sys_pop_sreg(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct emu_stack st = emu_stack_current(c);

	emu_load_sreg(c, i->reg, (uint16_t)emu_stack_pop(c, &st, i->stacksize));
	/* POP SS: the size of the stack it was popped from counts. */
	emu_stack_commit(c, &st);
	shadow(c, i->reg);
	return EMU_NEXT;
}

enum emu_next emu_sys_lds(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint64_t offset = emu_load_operand(c, i, 0, i->opsize);

	emu_load_sreg(c, i->reg2, (uint16_t)emu_load_operand(c, i, i->opsize, 2));
	emu_set_gpr(c, i->reg, i->opsize, offset);
	return EMU_NEXT;
}

/* ---- bases ---- */

static enum emu_next read_base(struct emu_vcpu *c, const struct emu_insn *i, enum vc_sreg seg)
{
	if (!(c->s.cr4 & VC_CR4_FSGSBASE))
		emu_raise(c, VC_UD);
	emu_set_gpr(c, i->rm, i->opsize, c->s.seg[seg].base);
	return EMU_NEXT;
}

static enum emu_next write_base(struct emu_vcpu *c, const struct emu_insn *i, enum vc_sreg seg)
{
	uint64_t base = c->s.gpr[i->rm] & vc_width_mask(i->opsize);

	if (!(c->s.cr4 & VC_CR4_FSGSBASE))
		emu_raise(c, VC_UD);
	if (!emu_canonical_register(c, base))
		emu_raise_error(c, VC_GP, 0);
	c->s.seg[seg].base = base;
	return EMU_NEXT;
}

enum emu_next emu_sys_rdfsbase(struct emu_vcpu *c, const struct emu_insn *i)
{
	return read_base(c, i, VC_FS);
}
enum emu_next emu_sys_rdgsbase(struct emu_vcpu *c, const struct emu_insn *i)
{
	return read_base(c, i, VC_GS);
}
enum emu_next emu_sys_wrfsbase(struct emu_vcpu *c, const struct emu_insn *i)
{
	return write_base(c, i, VC_FS);
}
enum emu_next emu_sys_wrgsbase(struct emu_vcpu *c, const struct emu_insn *i)
{
	return write_base(c, i, VC_GS);
}

enum emu_next emu_sys_swapgs(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint64_t base = c->s.seg[VC_GS].base;

	emu_require_cpl0(c);
	c->s.seg[VC_GS].base = c->s.kernel_gs_base;
	c->s.kernel_gs_base = base;
	return EMU_NEXT;
}

/* ---- looking at descriptors ---- */

static enum emu_next set_zf(struct emu_vcpu *c, bool on)
{
	c->aflags = (c->aflags & ~VC_FLAG_ZF) | (on ? VC_FLAG_ZF : 0);
	return EMU_NEXT;
}

/*
 * The descriptor of the selector in r/m; false when it may not be looked at from here: null, outside its table, above
 * this privilege, or a system descriptor whose type is not in the set (a bit each).
 */
static bool visible(struct emu_vcpu *c, const struct emu_insn *i, uint32_t system_types, struct emu_desc *d)
{
	uint16_t selector;

	emu_require_protected(c);
	selector = emu_rm16(c, i);
	if (emu_selector_null(selector) || !emu_desc_find(c, selector, d))
		return false;
	if (!emu_desc_s(d->raw) && !(system_types >> emu_desc_type(d->raw) & 1))
		return false;
	if (emu_desc_is_conforming(d->raw))
		return true;
	return emu_desc_dpl(d->raw) >= c->cpl && emu_desc_dpl(d->raw) >= (selector & 3u);
}

/* Types that LSL knows; LAR knows gates too. */
static uint32_t sized_types(const struct emu_vcpu *c)
{
	uint32_t types = 1u << EMU_LDT | 1u << EMU_TSS32 | 1u << (EMU_TSS32 | EMU_TYPE_BUSY);

	return c->long_mode ? types : types | 1u << EMU_TSS16 | 1u << (EMU_TSS16 | EMU_TYPE_BUSY);
}

enum emu_next emu_sys_lar(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint32_t gates = 1u << EMU_CALL32 | (c->long_mode ? 0 : 1u << EMU_CALL16 | 1u << EMU_TASK_GATE);
	struct emu_desc d;

	if (!visible(c, i, sized_types(c) | gates, &d))
		return set_zf(c, false);
	emu_set_gpr(c, i->reg, i->opsize, d.raw >> 32 & (i->opsize == 2 ? 0xff00 : 0xffff00));
	return set_zf(c, true);
}

enum emu_next emu_sys_lsl(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct emu_desc d;

	if (!visible(c, i, sized_types(c), &d))
		return set_zf(c, false);
	emu_set_gpr(c, i->reg, i->opsize, emu_desc_limit(d.raw));
	return set_zf(c, true);
}

enum emu_next emu_sys_verr(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct emu_desc d;

	return set_zf(c, visible(c, i, 0, &d) && (!emu_desc_is_code(d.raw) || emu_desc_type(d.raw) & EMU_TYPE_READABLE));
}

enum emu_next emu_sys_verw(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct emu_desc d;

	return set_zf(c, visible(c, i, 0, &d) && emu_desc_is_writable_data(d.raw));
}

enum emu_next emu_sys_arpl(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint16_t rpl = c->s.gpr[i->reg] & 3, selector;
	uint64_t linear = 0;

	emu_require_protected(c);
	if (emu_has_memory(i)) {
		linear = emu_operand_linear(c, i, 0, 2, VCORE_ACCESS_WRITE);
		selector = emu_ld16(c, linear);
	} else {
		selector = (uint16_t)c->s.gpr[i->rm];
	}
	if ((selector & 3) >= rpl)
		return set_zf(c, false);
	selector = (uint16_t)((selector & ~3) | rpl);
	if (emu_has_memory(i))
		emu_st16(c, linear, selector);
	else
		emu_set_gpr(c, i->rm, 2, selector);
	return set_zf(c, true);
}
