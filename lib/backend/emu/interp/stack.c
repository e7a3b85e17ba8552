/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PUSH POP LEAVE, and the stack in any mode. RSP changes only when nothing can fault any more. */
#include "backend/emu/interp/interp.h"

uint64_t interp_load(struct emu_vcpu *c, uint64_t linear, unsigned size)
{
	return interp_ld(c, linear, size * 8);
}
void interp_store(struct emu_vcpu *c, uint64_t linear, unsigned size, uint64_t value)
{
	interp_st(c, linear, size * 8, value);
}

static bool canonical(const struct emu_vcpu *c, uint64_t linear)
{
	unsigned unused = c->s.cr4 & VC_CR4_LA57 ? 7 : 16;
	return (uint64_t)((int64_t)(linear << unused) >> unused) == linear;
}

uint64_t interp_segment_linear(struct emu_vcpu *c, unsigned seg, uint64_t offset, unsigned size,
                               enum vcore_access access)
{
	if (c->mode == EMU_MODE_64) {
		/* elsewhere the TLB's slow path raises #GP; only here the segment is known */
		if (seg == VC_SS && vc_unlikely(!canonical(c, offset)))
			emu_raise_error(c, VC_SSF, 0);
		return seg >= VC_FS ? offset + c->s.seg[seg].base : offset;
	}
	return c->flat >> seg & 1 ? offset : emu_seg_linear(c, (enum vc_sreg)seg, offset, size, access);
}

uint64_t interp_linear_segmented(struct emu_vcpu *c, const struct interp_op *i, uint64_t offset, unsigned size,
                                 enum vcore_access access)
{
	return interp_segment_linear(c, i->seg & 7, offset, size, access);
}

uint64_t interp_stack_linear(struct emu_vcpu *c, uint64_t rsp, unsigned size, enum vcore_access access)
{
	return interp_segment_linear(c, VC_SS, rsp & interp_stack_mask(c), size, access);
}

void interp_push(struct emu_vcpu *c, unsigned size, uint64_t value)
{
	uint64_t rsp = c->s.gpr[VC_RSP] - size;
	interp_store(c, interp_stack_linear(c, rsp, size, VCORE_ACCESS_WRITE), size, value);
	interp_set_rsp(c, rsp);
}

uint64_t interp_peek(struct emu_vcpu *c, unsigned size, unsigned skip)
{
	return interp_load(c, interp_stack_linear(c, c->s.gpr[VC_RSP] + skip, size, VCORE_ACCESS_READ), size);
}

/*
 * Handlers come for a flat stack segment with pointer and operand of 64 bits, and of 32 bits, and for everything else:
 * then op.reg is the operand's size. A register operand is op.rm.
 */
#define PUSH(name, VALUE)                \
	INTERP_HANDLER(name##_any)           \
	{                                    \
		c->cur = &i->head;               \
		interp_push(c, i->reg, VALUE);   \
		INTERP_NEXT;                     \
	}                                    \
	PUSH_FLAT(name, VALUE, 64, uint64_t) \
	PUSH_FLAT(name, VALUE, 32, uint32_t)
#define PUSH_FLAT(name, VALUE, bits, type)                           \
	INTERP_HANDLER(name##_##bits)                                    \
	{                                                                \
		uint64_t rsp = (type)(c->s.gpr[VC_RSP] - bits / 8);          \
		const struct emu_tlb_entry *e = emu_tlb_at(c, rsp);          \
		if (vc_unlikely(e->write != emu_tag(c, rsp + bits / 8 - 1))) \
			return name##_any(c, i);                                 \
		interp_mem_set((void *)(rsp + e->addend), bits, VALUE);      \
		c->s.gpr[VC_RSP] = rsp;                                      \
		INTERP_NEXT;                                                 \
	}
PUSH(push_reg, INTERP_AT(uint64_t, c, i->rm))
PUSH(push_imm, i->imm)

static uint64_t read_sized(struct emu_vcpu *c, const struct interp_op *i, unsigned size)
{
	return interp_load(c, interp_linear(c, i, size, VCORE_ACCESS_READ), size);
}
INTERP_HANDLER(push_mem)
{
	c->cur = &i->head;
	interp_push(c, i->reg, read_sized(c, i, i->reg));
	INTERP_NEXT;
}

INTERP_HANDLER(pop_reg_any)
{
	uint64_t v;
	c->cur = &i->head;
	v = interp_peek(c, i->reg, 0);
	interp_set_rsp(c, c->s.gpr[VC_RSP] + i->reg);
	interp_set(c, i->rm, i->reg * 8u, v);
	INTERP_NEXT;
}
#define POP_FLAT(bits, type)                                                             \
	INTERP_HANDLER(pop_reg_##bits)                                                       \
	{                                                                                    \
		uint64_t rsp = (type)c->s.gpr[VC_RSP];                                           \
		const struct emu_tlb_entry *e = emu_tlb_at(c, rsp);                              \
		if (vc_unlikely(e->read != emu_tag(c, rsp + bits / 8 - 1)))                      \
			return pop_reg_any(c, i);                                                    \
		c->s.gpr[VC_RSP] = (type)(rsp + bits / 8);                                       \
		INTERP_AT(uint64_t, c, i->rm) = interp_mem_get((void *)(rsp + e->addend), bits); \
		INTERP_NEXT;                                                                     \
	}
POP_FLAT(64, uint64_t)
POP_FLAT(32, uint32_t)

/* POP to memory addresses with the incremented RSP (SDM), which a fault of the store must not leave behind. */
INTERP_HANDLER(pop_mem)
{
	uint64_t v, old = c->s.gpr[VC_RSP], incremented, offset;
	c->cur = &i->head;
	v = interp_peek(c, i->reg, 0);
	interp_set_rsp(c, old + i->reg);
	incremented = c->s.gpr[VC_RSP];
	offset = interp_offset(c, i);
	c->s.gpr[VC_RSP] = old;
	interp_store(c, interp_linear_segmented(c, i, offset, i->reg, VCORE_ACCESS_WRITE), i->reg, v);
	c->s.gpr[VC_RSP] = incremented;
	INTERP_NEXT;
}

INTERP_HANDLER(leave_any)
{
	uint64_t frame = c->s.gpr[VC_RBP], v;
	c->cur = &i->head;
	v = interp_load(c, interp_stack_linear(c, frame, i->reg, VCORE_ACCESS_READ), i->reg);
	interp_set_rsp(c, frame + i->reg);
	interp_set(c, INTERP_GPR(VC_RBP), i->reg * 8u, v);
	INTERP_NEXT;
}
INTERP_HANDLER(leave_64)
{
	uint64_t frame = c->s.gpr[VC_RBP];
	const struct emu_tlb_entry *e = emu_tlb_at(c, frame);
	if (vc_unlikely(e->read != emu_tag(c, frame + 7)))
		return leave_any(c, i);
	c->s.gpr[VC_RBP] = interp_mem_get((void *)(frame + e->addend), 64);
	c->s.gpr[VC_RSP] = frame + 8;
	INTERP_NEXT;
}

interp_fn interp_select_stack(const struct emu_vcpu *c, const struct emu_insn *n, enum interp_kind kind)
{
	static const interp_fn push_reg[3] = {push_reg_any, push_reg_32, push_reg_64},
	                       push_imm[3] = {push_imm_any, push_imm_32, push_imm_64},
	                       pop_reg[3] = {pop_reg_any, pop_reg_32, pop_reg_64},
	                       leave[3] = {leave_any, leave_any, leave_64};
	bool flat = c->flat >> VC_SS & 1 && c->stack_size == n->opsize;
	unsigned form = !flat || n->opsize == 2 ? 0 : n->opsize == 8 ? 2 : 1;
	switch (n->op) {
	case EMU_PUSH:
		return n->desc->enc == EMU_ENC_IMM ? push_imm[form] : kind == INTERP_REG ? push_reg[form] : push_mem;
	case EMU_POP:
		return kind == INTERP_REG ? pop_reg[form] : pop_mem;
	case EMU_LEAVE:
		return leave[form];
	default:
		return NULL;
	}
}
