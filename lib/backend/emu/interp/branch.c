/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Near JMP, Jcc, CALL, RET, LOOP, JCXZ. A direct branch inside its page goes by the block's links; every other one
 * looks its target up.
 *
 * In a 64-bit or flat 32-bit code segment with full-sized operands the fast handlers are used. The others cut the
 * target to the operand's size (op.rm, in bytes) and check it against the segment's limit.
 */
#include "backend/emu/interp/flags.h"
#include "backend/emu/mmu/mmu.h"

/* Where the block of i's instruction goes on behind it. */
#define BEHIND(i) ((i)->head.offset + (i)->head.len)

static uint64_t next_rip(const struct emu_vcpu *c, const struct interp_op *i)
{
	return (c->block_rip + BEHIND(i)) & c->ip_mask;
}
/* Target of a direct branch, cut to the operand size. */
static uint64_t target_of(const struct emu_vcpu *c, const struct interp_op *i)
{
	return (c->block_rip + (uint64_t)(int64_t)i->disp) & vc_width_mask(i->rm);
}

void interp_check_target(struct emu_vcpu *c, const struct interp_op *i, uint64_t rip)
{
	bool bad;
	if (c->mode == EMU_MODE_64) {
		unsigned unused = c->s.cr4 & VC_CR4_LA57 ? 7 : 16;
		bad = (uint64_t)((int64_t)(rip << unused) >> unused) != rip;
	} else {
		bad = rip > c->s.seg[VC_CS].limit;
	}
	if (bad) {
		c->cur = &i->head;
		emu_raise_error(c, VC_GP, 0);
	}
}
/* The same for 64-bit and flat 32-bit code, where a 48-bit address is always right. */
INTERP_INLINE void check_flat_target(struct emu_vcpu *c, const struct interp_op *i, uint64_t rip)
{
	if (vc_unlikely((rip + (1ull << 47)) >> 48))
		interp_check_target(c, i, rip);
}

interp_ret interp_goto(struct emu_vcpu *c, uint64_t rip)
{
	const struct emu_mmu *m = c->mmu;
	const struct emu_itlb_entry *f = &m->itlb[(rip >> 12) & (EMU_ITLB_SIZE - 1)];
	struct interp_block *b;
	uint64_t gpa = f->gpa | (rip & (VC_PAGE_SIZE - 1));
	if (vc_unlikely(interp_wanted(c) || f->tag != ((rip & VC_PAGE_MASK) ^ m->fetch_context[rip >> 63]) ||
	                !c->interp->linear_is_rip))
		return interp_enter_slow(c, rip);
	b = c->interp->hash[interp_hash(gpa, c->interp_key)];
	if (vc_unlikely(!b || b->gpa != gpa || b->key != c->interp_key || !interp_block_current(b)))
		return interp_enter_slow(c, rip);
	c->block_rip = rip;
	c->icount += b->insns;
	INTERP_GO(c, b->op);
}

/* ---- Jcc, JMP ---- */
#define JCC(n)                                                   \
	INTERP_HANDLER(jcc_near_##n)                                 \
	{                                                            \
		bool taken = interp_condition(c, n);                     \
		INTERP_BRANCH(c, i, taken, taken ? i->disp : BEHIND(i)); \
	}
#define SIXTEEN(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)
SIXTEEN(JCC)
INTERP_HANDLER(jmp_near)
{
	INTERP_BRANCH(c, i, 1, i->disp);
}

/* To another page, or in a segment with a limit. imm: condition. */
static interp_ret branch_if(struct emu_vcpu *c, const struct interp_op *i, bool taken)
{
	uint64_t rip = next_rip(c, i);
	if (taken) {
		rip = target_of(c, i);
		interp_check_target(c, i, rip);
	}
	return interp_goto(c, rip);
}
INTERP_HANDLER(jcc_far)
{
	return branch_if(c, i, interp_condition(c, (unsigned)i->imm));
}
INTERP_HANDLER(jmp_far)
{
	return branch_if(c, i, true);
}

/* ---- LOOP, JCXZ: the counter is as wide as addresses ---- */
static inline unsigned count_bits(const struct interp_op *i)
{
	return 16u << (i->seg >> 4);
}
static bool count_down(struct emu_vcpu *c, const struct interp_op *i)
{
	uint64_t n = interp_get(c, INTERP_GPR(VC_RCX), count_bits(i)) - 1;
	interp_set(c, INTERP_GPR(VC_RCX), count_bits(i), n);
	return n & vc_width_mask(count_bits(i) / 8);
}
/* The target is checked before the counter changes. */
#define LOOP(name, ALSO)                                               \
	INTERP_HANDLER(name)                                               \
	{                                                                  \
		uint64_t n = interp_get(c, INTERP_GPR(VC_RCX), count_bits(i)); \
		if (n != 1 && (ALSO))                                          \
			interp_check_target(c, i, target_of(c, i));                \
		bool more = count_down(c, i);                                  \
		return branch_if(c, i, more && (ALSO));                        \
	}
LOOP(loop, true)
LOOP(loope, c->aflags &VC_FLAG_ZF)
LOOP(loopne, !(c->aflags & VC_FLAG_ZF))
INTERP_HANDLER(jcxz)
{
	return branch_if(c, i, !interp_get(c, INTERP_GPR(VC_RCX), count_bits(i)));
}

/* ---- CALL ---- */
INTERP_HANDLER(call_any)
{
	uint64_t rip = target_of(c, i);
	c->cur = &i->head;
	interp_check_target(c, i, rip);
	interp_push(c, i->rm, next_rip(c, i));
	return interp_goto(c, rip);
}
/* Push 64 bits; false: not in the TLB. */
INTERP_INLINE bool push64(struct emu_vcpu *c, uint64_t v)
{
	uint64_t rsp = c->s.gpr[VC_RSP] - 8;
	const struct emu_tlb_entry *e = emu_tlb_at(c, rsp);
	if (vc_unlikely(e->write != emu_tag(c, rsp + 7)))
		return false;
	interp_mem_set((void *)(rsp + e->addend), 64, v);
	c->s.gpr[VC_RSP] = rsp;
	return true;
}
INTERP_HANDLER(call_near_64)
{
	if (!push64(c, c->block_rip + BEHIND(i)))
		return call_any(c, i);
	INTERP_BRANCH(c, i, 1, i->disp);
}
INTERP_HANDLER(call_far_64)
{
	uint64_t rip = c->block_rip + (uint64_t)(int64_t)i->disp;
	check_flat_target(c, i, rip);
	if (!push64(c, c->block_rip + BEHIND(i)))
		return call_any(c, i);
	return interp_goto(c, rip);
}

/* ---- indirect JMP, CALL; op.reg: operand size ---- */
static uint64_t read_target(struct emu_vcpu *c, const struct interp_op *i, bool memory)
{
	uint64_t rip;
	c->cur = &i->head;
	rip =
	    memory ? interp_load(c, interp_linear(c, i, i->reg, VCORE_ACCESS_READ), i->reg) : INTERP_AT(uint64_t, c, i->rm);
	rip &= vc_width_mask(i->reg);
	interp_check_target(c, i, rip);
	return rip;
}
INTERP_HANDLER(jmp_ind_reg)
{
	return interp_goto(c, read_target(c, i, false));
}
INTERP_HANDLER(jmp_ind_mem)
{
	return interp_goto(c, read_target(c, i, true));
}
static interp_ret call_ind(struct emu_vcpu *c, const struct interp_op *i, bool memory)
{
	uint64_t rip = read_target(c, i, memory);
	interp_push(c, i->reg, next_rip(c, i));
	return interp_goto(c, rip);
}
INTERP_HANDLER(call_ind_reg)
{
	return call_ind(c, i, false);
}
INTERP_HANDLER(call_ind_mem)
{
	return call_ind(c, i, true);
}
INTERP_HANDLER(jmp_ind_reg_64)
{
	uint64_t rip = INTERP_AT(uint64_t, c, i->rm);
	check_flat_target(c, i, rip);
	return interp_goto(c, rip);
}
INTERP_HANDLER(call_ind_reg_64)
{
	uint64_t rip = INTERP_AT(uint64_t, c, i->rm);
	check_flat_target(c, i, rip);
	if (!push64(c, c->block_rip + BEHIND(i)))
		return call_ind_reg(c, i);
	return interp_goto(c, rip);
}

/* ---- RET; imm: bytes to drop, op.reg: operand size ---- */
INTERP_HANDLER(ret_any)
{
	uint64_t rip;
	c->cur = &i->head;
	rip = interp_peek(c, i->reg, 0);
	interp_check_target(c, i, rip);
	interp_set_rsp(c, c->s.gpr[VC_RSP] + i->reg + i->imm);
	return interp_goto(c, rip);
}
INTERP_HANDLER(ret_64)
{
	uint64_t rip, rsp = c->s.gpr[VC_RSP];
	const struct emu_tlb_entry *e = emu_tlb_at(c, rsp);
	if (vc_unlikely(e->read != emu_tag(c, rsp + 7)))
		return ret_any(c, i);
	rip = interp_mem_get((void *)(rsp + e->addend), 64);
	check_flat_target(c, i, rip);
	c->s.gpr[VC_RSP] = rsp + 8 + i->imm;
	return interp_goto(c, rip);
}

interp_fn interp_select_branch(const struct emu_vcpu *c, const struct emu_insn *n, enum interp_kind kind, bool near)
{
#define JCC_NAME(k) jcc_near_##k,
	static const interp_fn jcc_near[16] = {SIXTEEN(JCC_NAME)};
	bool memory = kind != INTERP_REG, full = c->mode == EMU_MODE_64 && n->opsize == 8;
	switch (n->op) {
	case EMU_JCC:
		return near ? jcc_near[n->reg2 & 15] : jcc_far;
	case EMU_JMP:
		return near ? jmp_near : jmp_far;
	case EMU_LOOP:
		return loop;
	case EMU_LOOPE:
		return loope;
	case EMU_LOOPNE:
		return loopne;
	case EMU_JCXZ:
		return jcxz;
	case EMU_CALL:
		return !full ? call_any : near ? call_near_64 : call_far_64;
	case EMU_JMP_IND:
		return memory ? jmp_ind_mem : full ? jmp_ind_reg_64 : jmp_ind_reg;
	case EMU_CALL_IND:
		return memory ? call_ind_mem : full ? call_ind_reg_64 : call_ind_reg;
	case EMU_RET:
		return full ? ret_64 : ret_any;
	default:
		return NULL;
	}
}
