/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Instructions too rare for handlers of their own form: ENTER PUSHA POPA, CMPXCHG8B CMPXCHG16B, XLAT, decimal
 * arithmetic, SALC, and MOV with an absolute 64-bit address. s.rip is the instruction's own address.
 */
#include "backend/emu/interp/flags.h"

static uint64_t operand_linear(struct emu_vcpu *c, const struct emu_insn *i, unsigned size, enum vcore_access access)
{
	return interp_segment_linear(c, i->seg, emu_effective_address(c, i), size, access);
}

/* ---- stack ---- */

static enum emu_next enter(struct emu_vcpu *c, const struct emu_insn *i)
{
	unsigned size = i->opsize, level = i->imm2 & 31;
	uint64_t rsp = c->s.gpr[VC_RSP], rbp = c->s.gpr[VC_RBP], frame;
	rsp -= size;
	interp_store(c, interp_stack_linear(c, rsp, size, VCORE_ACCESS_WRITE), size, rbp);
	frame = rsp;
	for (unsigned k = 1; k < level; k++) {
		uint64_t outer;
		rbp -= size;
		outer = interp_load(c, interp_stack_linear(c, rbp, size, VCORE_ACCESS_READ), size);
		rsp -= size;
		interp_store(c, interp_stack_linear(c, rsp, size, VCORE_ACCESS_WRITE), size, outer);
	}
	if (level) {
		rsp -= size;
		interp_store(c, interp_stack_linear(c, rsp, size, VCORE_ACCESS_WRITE), size, frame);
	}
	rsp -= i->imm;
	/* the new top of the stack must be writable (SDM, ENTER) */
	uint64_t top = interp_stack_linear(c, rsp, size, VCORE_ACCESS_WRITE);
	emu_check_alignment(c, top, size);
	emu_probe(c, top, size, true);
	/* RBP becomes the frame pointer, as wide as the operand, of which only the stack pointer's width counts */
	interp_set(c, INTERP_GPR(VC_RBP), size * 8, frame & interp_stack_mask(c));
	interp_set_rsp(c, rsp);
	return EMU_NEXT;
}

static enum emu_next pusha(struct emu_vcpu *c, const struct emu_insn *i)
{
	unsigned size = i->opsize;
	uint64_t rsp = c->s.gpr[VC_RSP];
	for (unsigned r = VC_RAX; r <= VC_RDI; r++) {
		rsp -= size;
		interp_store(c, interp_stack_linear(c, rsp, size, VCORE_ACCESS_WRITE), size, c->s.gpr[r]);
	}
	interp_set_rsp(c, rsp);
	return EMU_NEXT;
}

static enum emu_next popa(struct emu_vcpu *c, const struct emu_insn *i)
{
	unsigned size = i->opsize;
	uint64_t value[8];
	for (unsigned k = 0; k < 8; k++)
		value[k] = interp_peek(c, size, k * size);
	for (unsigned k = 0; k < 8; k++)
		if (VC_RDI - k != VC_RSP)
			interp_set(c, INTERP_GPR(VC_RDI - k), size * 8, value[k]);
	interp_set_rsp(c, c->s.gpr[VC_RSP] + 8 * size);
	return EMU_NEXT;
}

/* ---- CMPXCHG8B, CMPXCHG16B: only ZF changes; memory is always written ---- */

static void set_zero(struct emu_vcpu *c, bool zero)
{
	c->aflags = (c->aflags & ~VC_FLAG_ZF) | (zero ? VC_FLAG_ZF : 0);
}

static enum emu_next cmpxchg8b(struct emu_vcpu *c, const struct emu_insn *i)
{
	bool locked = i->prefixes & EMU_P_LOCK, equal;
	uint64_t linear = operand_linear(c, i, 8, VCORE_ACCESS_WRITE);
	uint64_t expected = (uint32_t)c->s.gpr[VC_RAX] | c->s.gpr[VC_RDX] << 32;
	uint64_t desired = (uint32_t)c->s.gpr[VC_RBX] | c->s.gpr[VC_RCX] << 32, old = expected;
	void *p = emu_rmw_ptr(c, linear, 8);
	if (p) {
		__asm__ volatile("lock cmpxchgq %[desired],%[m]"
		                 : "+a"(old), [m] "+m"(*(emu_mem64 *)p), "=@ccz"(equal)
		                 : [desired] "r"(desired)
		                 : "memory");
	} else {
		old = emu_rmw_slow_begin(c, linear, 8, locked);
		equal = old == expected;
		emu_rmw_slow_end(c, linear, 8, equal ? desired : old, locked);
	}
	set_zero(c, equal);
	if (!equal) {
		c->s.gpr[VC_RAX] = (uint32_t)old;
		c->s.gpr[VC_RDX] = old >> 32;
	}
	return EMU_NEXT;
}

static enum emu_next cmpxchg16b(struct emu_vcpu *c, const struct emu_insn *i)
{
	bool locked = i->prefixes & EMU_P_LOCK, equal;
	uint64_t linear = operand_linear(c, i, 16, VCORE_ACCESS_WRITE), low = c->s.gpr[VC_RAX], high = c->s.gpr[VC_RDX];
	void *p;
	if (linear & 15)
		emu_raise_error(c, VC_GP, 0);
	p = emu_rmw_ptr(c, linear, 16);
	if (p) {
		__asm__ volatile("lock cmpxchg16b %[m]"
		                 : "+a"(low), "+d"(high), [m] "+m"(*(struct { emu_mem64 half[2]; } *)p), "=@ccz"(equal)
		                 : "b"(c->s.gpr[VC_RBX]), "c"(c->s.gpr[VC_RCX])
		                 : "memory");
	} else {
		/* both halves are in one page, so the second cannot fault behind the first */
		low = emu_rmw_slow_begin(c, linear, 8, locked);
		high = emu_load_slow(c, linear + 8, 8);
		equal = low == c->s.gpr[VC_RAX] && high == c->s.gpr[VC_RDX];
		emu_store_slow(c, linear + 8, 8, equal ? c->s.gpr[VC_RCX] : high);
		emu_rmw_slow_end(c, linear, 8, equal ? c->s.gpr[VC_RBX] : low, locked);
	}
	set_zero(c, equal);
	if (!equal) {
		c->s.gpr[VC_RAX] = low;
		c->s.gpr[VC_RDX] = high;
	}
	return EMU_NEXT;
}

/* ---- bytes ---- */

static enum emu_next xlat(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint64_t offset = (c->s.gpr[VC_RBX] + (uint8_t)c->s.gpr[VC_RAX]) & vc_width_mask(i->addrsize);
	interp_set(c, INTERP_GPR(VC_RAX), 8,
	           interp_load(c, interp_segment_linear(c, i->seg, offset, 1, VCORE_ACCESS_READ), 1));
	return EMU_NEXT;
}

static enum emu_next salc(struct emu_vcpu *c, const struct emu_insn *i)
{
	interp_set(c, INTERP_GPR(VC_RAX), 8, c->aflags & VC_FLAG_CF ? 0xff : 0);
	return EMU_NEXT;
}

static enum emu_next mov_moffs(struct emu_vcpu *c, const struct emu_insn *i)
{
	bool load = i->desc->enc == EMU_ENC_ACC_MOFFS;
	uint64_t linear =
	    interp_segment_linear(c, i->seg, i->imm, i->opsize, load ? VCORE_ACCESS_READ : VCORE_ACCESS_WRITE);
	if (load)
		interp_set(c, INTERP_GPR(VC_RAX), i->opsize * 8u, interp_load(c, linear, i->opsize));
	else
		interp_store(c, linear, i->opsize, c->s.gpr[VC_RAX]);
	return EMU_NEXT;
}

/* ---- decimal arithmetic (SDM vol. 2: the operation sections) ---- */

/* PF, ZF, SF of a byte. */
static uint32_t byte_flags(uint8_t v)
{
	return (v ? 0 : VC_FLAG_ZF) | (v & 0x80 ? VC_FLAG_SF : 0) | (__builtin_parity(v) ? 0 : VC_FLAG_PF);
}

static uint8_t al(const struct emu_vcpu *c)
{
	return (uint8_t)c->s.gpr[VC_RAX];
}
static void set_al(struct emu_vcpu *c, uint8_t v)
{
	interp_set(c, INTERP_GPR(VC_RAX), 8, v);
}
static void set_ax(struct emu_vcpu *c, unsigned v)
{
	interp_set(c, INTERP_GPR(VC_RAX), 16, v);
}
static bool low_digit_overflows(const struct emu_vcpu *c)
{
	return (al(c) & 15) > 9 || c->aflags & VC_FLAG_AF;
}

static enum emu_next daa_das(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint8_t old = al(c), v = old;
	int sign = i->op == EMU_DAA ? 1 : -1;
	uint32_t flags = 0;
	if (low_digit_overflows(c)) {
		flags |= VC_FLAG_AF;
		/* DAS borrows out of AL when it is below 6 */
		if (c->aflags & VC_FLAG_CF || (sign < 0 && old < 6))
			flags |= VC_FLAG_CF;
		v = (uint8_t)(v + sign * 6);
	}
	if (old > 0x99 || c->aflags & VC_FLAG_CF) {
		v = (uint8_t)(v + sign * 0x60);
		flags |= VC_FLAG_CF;
	}
	set_al(c, v);
	c->aflags = flags | byte_flags(v);
	return EMU_NEXT;
}

static enum emu_next aaa_aas(struct emu_vcpu *c, const struct emu_insn *i)
{
	unsigned ax = (uint16_t)c->s.gpr[VC_RAX];
	bool adjust = low_digit_overflows(c);
	if (adjust)
		ax = i->op == EMU_AAA ? ax + 0x106 : ax - 0x106;
	set_ax(c, ax & 0xff0f);
	c->aflags = (c->aflags & ~(VC_FLAG_AF | VC_FLAG_CF)) | (adjust ? VC_FLAG_AF | VC_FLAG_CF : 0);
	return EMU_NEXT;
}

static enum emu_next aam(struct emu_vcpu *c, const struct emu_insn *i)
{
	unsigned base = i->imm & 0xff, v = al(c);
	if (!base)
		emu_raise(c, VC_DE);
	set_ax(c, v / base << 8 | v % base);
	c->aflags = byte_flags(al(c));
	return EMU_NEXT;
}

static enum emu_next aad(struct emu_vcpu *c, const struct emu_insn *i)
{
	unsigned ax = (uint16_t)c->s.gpr[VC_RAX];
	set_ax(c, (ax + (ax >> 8) * (i->imm & 0xff)) & 0xff);
	c->aflags = byte_flags(al(c));
	return EMU_NEXT;
}

emu_system_fn interp_select_rare(const struct emu_insn *n)
{
	switch (n->op) {
	case EMU_ENTER:
		return enter;
	case EMU_PUSHA:
		return pusha;
	case EMU_POPA:
		return popa;
	case EMU_CMPXCHG8B:
		return cmpxchg8b;
	case EMU_CMPXCHG16B:
		return cmpxchg16b;
	case EMU_XLAT:
		return xlat;
	case EMU_SALC:
		return salc;
	case EMU_MOV:
		return mov_moffs;
	case EMU_DAA:
	case EMU_DAS:
		return daa_das;
	case EMU_AAA:
	case EMU_AAS:
		return aaa_aas;
	case EMU_AAM:
		return aam;
	case EMU_AAD:
		return aad;
	default:
		return NULL;
	}
}
