/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ADD OR ADC SBB AND SUB XOR CMP TEST in every width and with every kind of operand, and comparisons fused with the
 * branch behind them.
 */
#include "backend/emu/interp/flags.h"

/* X(name, width, assembly before it) for the eight operations in one width */
#define ALU_WRITING(X, bits) \
	X(add, bits, "")         \
	X(or, bits, "")          \
	X(adc, bits, FLAGS_LOAD_CF) X(sbb, bits, FLAGS_LOAD_CF) X(and, bits, "") X(sub, bits, "") X(xor, bits, "")
#define ALU_READING(X, bits) X(cmp, bits, "") X(test, bits, "")
#define ALU_WIDTHS(M, X)     M(X, 8) M(X, 16) M(X, 32) M(X, 64)

/* alu_<op><bits>(): the operation on values; lock_<op><bits>(): on memory, atomically. */
#define ALU_VALUE(op, bits, before)                                                                                   \
	INTERP_INLINE uint##bits##_t alu_##op##bits(struct emu_vcpu *c, uint##bits##_t a, uint##bits##_t b)               \
	{                                                                                                                 \
		uint32_t f;                                                                                                   \
		__asm__(before #op " %[b],%[a]" FLAGS_TAKE : [a] "+r"(a), "=&a"(f) : [b] "r"(b), [in] "m"(c->aflags) : "cc"); \
		c->aflags = flags_of(f);                                                                                      \
		return a;                                                                                                     \
	}
#define ALU_LOCKED(op, bits, before)                                                  \
	INTERP_INLINE void lock_##op##bits(struct emu_vcpu *c, void *p, uint##bits##_t b) \
	{                                                                                 \
		uint32_t f;                                                                   \
		__asm__ volatile(before "lock " #op " %[b],%[m]" FLAGS_TAKE                   \
		                 : [m] "+m"(*(emu_mem##bits *)p), "=&a"(f)                    \
		                 : [b] "r"(b), [in] "m"(c->aflags)                            \
		                 : "cc", "memory");                                           \
		c->aflags = flags_of(f);                                                      \
	}
ALU_WIDTHS(ALU_WRITING, ALU_VALUE)
ALU_WIDTHS(ALU_READING, ALU_VALUE)
ALU_WIDTHS(ALU_WRITING, ALU_LOCKED)

/* d = reg, s = r/m. The handler of kind ANY comes first: the fast ones continue there. */
#define ALU_REG_RM(op, bits, kind)                                                                     \
	INTERP_HANDLER(op##_reg_rm_##bits##_##kind)                                                        \
	{                                                                                                  \
		uint64_t v;                                                                                    \
		if (!interp_read(c, i, INTERP_##kind, bits, &v))                                               \
			return op##_reg_rm_##bits##_ANY(c, i);                                                     \
		interp_set(c, i->reg, bits,                                                                    \
		           alu_##op##bits(c, (uint##bits##_t)interp_get(c, i->reg, bits), (uint##bits##_t)v)); \
		INTERP_NEXT;                                                                                   \
	}
/* d = r/m, s = SOURCE */
#define ALU_RM(op, bits, form, SOURCE, kind)                                                \
	INTERP_HANDLER(op##_rm_##form##_##bits##_##kind)                                        \
	{                                                                                       \
		struct interp_rmw m;                                                                \
		uint64_t v;                                                                         \
		if (!interp_rmw_begin(c, i, INTERP_##kind, bits, &m, &v))                           \
			return op##_rm_##form##_##bits##_ANY(c, i);                                     \
		if (INTERP_##kind == INTERP_LOCK && m.p)                                            \
			lock_##op##bits(c, m.p, (uint##bits##_t)(SOURCE));                              \
		else                                                                                \
			interp_rmw_end(c, INTERP_##kind, bits, &m,                                      \
			               alu_##op##bits(c, (uint##bits##_t)v, (uint##bits##_t)(SOURCE))); \
		INTERP_NEXT;                                                                        \
	}
/* CMP and TEST only read. */
#define ALU_RO(op, bits, form, FIRST, SECOND, kind)                           \
	INTERP_HANDLER(op##_##form##_##bits##_##kind)                             \
	{                                                                         \
		uint64_t v;                                                           \
		if (!interp_read(c, i, INTERP_##kind, bits, &v))                      \
			return op##_##form##_##bits##_ANY(c, i);                          \
		alu_##op##bits(c, (uint##bits##_t)(FIRST), (uint##bits##_t)(SECOND)); \
		INTERP_NEXT;                                                          \
	}
#define ALU_WRITING_HANDLERS(op, bits, before)               \
	ALU_REG_RM(op, bits, ANY)                                \
	ALU_REG_RM(op, bits, REG)                                \
	ALU_REG_RM(op, bits, BD)                                 \
	ALU_REG_RM(op, bits, BIS)                                \
	ALU_REG_RM(op, bits, A32)                                \
	ALU_RM(op, bits, reg, interp_get(c, i->reg, bits), ANY)  \
	ALU_RM(op, bits, reg, interp_get(c, i->reg, bits), BD)   \
	ALU_RM(op, bits, reg, interp_get(c, i->reg, bits), BIS)  \
	ALU_RM(op, bits, reg, interp_get(c, i->reg, bits), A32)  \
	ALU_RM(op, bits, reg, interp_get(c, i->reg, bits), LOCK) \
	ALU_RM(op, bits, imm, i->imm, ANY)                       \
	ALU_RM(op, bits, imm, i->imm, REG)                       \
	ALU_RM(op, bits, imm, i->imm, BD)                        \
	ALU_RM(op, bits, imm, i->imm, BIS)                       \
	ALU_RM(op, bits, imm, i->imm, A32)                       \
	ALU_RM(op, bits, imm, i->imm, LOCK)
#define ALU_RO_KINDS(op, bits, form, FIRST, SECOND) \
	ALU_RO(op, bits, form, FIRST, SECOND, ANY)      \
	ALU_RO(op, bits, form, FIRST, SECOND, BD)       \
	ALU_RO(op, bits, form, FIRST, SECOND, BIS)      \
	ALU_RO(op, bits, form, FIRST, SECOND, A32)
#define ALU_READING_HANDLERS(op, bits, before)                     \
	ALU_RO_KINDS(op, bits, reg_rm, interp_get(c, i->reg, bits), v) \
	ALU_RO(op, bits, reg_rm, interp_get(c, i->reg, bits), v, REG)  \
	ALU_RO_KINDS(op, bits, rm_reg, v, interp_get(c, i->reg, bits)) \
	ALU_RO_KINDS(op, bits, rm_imm, v, i->imm)                      \
	ALU_RO(op, bits, rm_imm, v, i->imm, REG)
ALU_WIDTHS(ALU_WRITING, ALU_WRITING_HANDLERS)
ALU_WIDTHS(ALU_READING, ALU_READING_HANDLERS)

/*
 * Per operation, form and width: the handlers of all kinds. The register form of r/m, reg is that of reg, r/m with
 * the registers exchanged.
 */
enum { FORM_REG_RM, FORM_RM_REG, FORM_RM_IMM, FORMS };
#define ROW(name, reg, lock)                                                                               \
	{                                                                                                      \
		[INTERP_REG] = reg, [INTERP_BD] = name##_BD, [INTERP_BIS] = name##_BIS, [INTERP_A32] = name##_A32, \
		[INTERP_ANY] = name##_ANY, [INTERP_LOCK] = lock                                                    \
	}
#define WRITING_ROW(op, bits)                                                                         \
	{                                                                                                 \
		[FORM_REG_RM] = ROW(op##_reg_rm_##bits, op##_reg_rm_##bits##_REG, NULL),                      \
		[FORM_RM_REG] = ROW(op##_rm_reg_##bits, op##_reg_rm_##bits##_REG, op##_rm_reg_##bits##_LOCK), \
		[FORM_RM_IMM] = ROW(op##_rm_imm_##bits, op##_rm_imm_##bits##_REG, op##_rm_imm_##bits##_LOCK), \
	}
#define READING_ROW(op, bits)                                                    \
	{                                                                            \
		[FORM_REG_RM] = ROW(op##_reg_rm_##bits, op##_reg_rm_##bits##_REG, NULL), \
		[FORM_RM_REG] = ROW(op##_rm_reg_##bits, op##_reg_rm_##bits##_REG, NULL), \
		[FORM_RM_IMM] = ROW(op##_rm_imm_##bits, op##_rm_imm_##bits##_REG, NULL), \
	}
#define WRITING_ROWS(op)                                                                  \
	{                                                                                     \
		WRITING_ROW(op, 8), WRITING_ROW(op, 16), WRITING_ROW(op, 32), WRITING_ROW(op, 64) \
	}
#define READING_ROWS(op)                                                                  \
	{                                                                                     \
		READING_ROW(op, 8), READING_ROW(op, 16), READING_ROW(op, 32), READING_ROW(op, 64) \
	}

static const interp_fn alu_handlers[][4][FORMS][INTERP_KINDS] = {
    [EMU_ADD - EMU_ADD] = WRITING_ROWS(add),   [EMU_OR - EMU_ADD] = WRITING_ROWS(or),
    [EMU_ADC - EMU_ADD] = WRITING_ROWS(adc),   [EMU_SBB - EMU_ADD] = WRITING_ROWS(sbb),
    [EMU_AND - EMU_ADD] = WRITING_ROWS(and),   [EMU_SUB - EMU_ADD] = WRITING_ROWS(sub),
    [EMU_XOR - EMU_ADD] = WRITING_ROWS(xor),   [EMU_CMP - EMU_ADD] = READING_ROWS(cmp),
    [EMU_TEST - EMU_ADD] = READING_ROWS(test),
};

interp_fn interp_select_alu(const struct emu_insn *n, enum interp_kind kind)
{
	unsigned form;
	switch (n->desc->enc) {
	case EMU_ENC_REG_RM:
		form = FORM_REG_RM;
		break;
	case EMU_ENC_RM_REG:
		form = FORM_RM_REG;
		break;
	case EMU_ENC_RM_IMM:
	case EMU_ENC_ACC_IMM:
		form = FORM_RM_IMM;
		break;
	default:
		return NULL;
	}
	return alu_handlers[n->op - EMU_ADD][__builtin_ctz(n->opsize)][form][kind];
}

/*
 * CMP or TEST of registers, or of a register and a constant, together with the conditional jump that follows. The jump
 * stays in its page, so it cannot fault. disp is its target, head.len that of both instructions.
 */
#define FUSED(op, bits, form, SECOND, cc)                                                             \
	INTERP_HANDLER(op##_##form##_##bits##_j##cc)                                                      \
	{                                                                                                 \
		uint##bits##_t a = (uint##bits##_t)interp_get(c, i->reg, bits), b = (uint##bits##_t)(SECOND); \
		uint32_t f;                                                                                   \
		bool taken;                                                                                   \
		__asm__(#op " %[b],%[a]" FLAGS_TAKE : "=&a"(f), "=@cc" #cc(taken) : [a] "r"(a), [b] "r"(b));  \
		c->aflags = flags_of(f);                                                                      \
		INTERP_BRANCH(c, i, taken, taken ? i->disp : i->head.offset + i->head.len);                   \
	}
#define CONDITIONS(M, ...)                                                                                         \
	M(__VA_ARGS__, o)                                                                                              \
	M(__VA_ARGS__, no)                                                                                             \
	M(__VA_ARGS__, c)                                                                                              \
	M(__VA_ARGS__, nc)                                                                                             \
	M(__VA_ARGS__, z)                                                                                              \
	M(__VA_ARGS__, nz) M(__VA_ARGS__, be) M(__VA_ARGS__, a) M(__VA_ARGS__, s) M(__VA_ARGS__, ns) M(__VA_ARGS__, p) \
	    M(__VA_ARGS__, np) M(__VA_ARGS__, l) M(__VA_ARGS__, ge) M(__VA_ARGS__, le) M(__VA_ARGS__, g)
#define FUSED_WIDTH(op, bits)                                   \
	CONDITIONS(FUSED, op, bits, rr, interp_get(c, i->rm, bits)) \
	CONDITIONS(FUSED, op, bits, ri, i->imm)
FUSED_WIDTH(cmp, 8)
FUSED_WIDTH(cmp, 32)
FUSED_WIDTH(cmp, 64)
FUSED_WIDTH(test, 8)
FUSED_WIDTH(test, 32)
FUSED_WIDTH(test, 64)

#define FUSED_NAME(op, form, bits, cc) op##_##form##_##bits##_j##cc,
#define FUSED_ROW(op, bits)                      \
	{                                            \
		{CONDITIONS(FUSED_NAME, op, rr, bits)},  \
		{                                        \
			CONDITIONS(FUSED_NAME, op, ri, bits) \
		}                                        \
	}
static const interp_fn fused_handlers[2][4][2][16] = {
    {[0] = FUSED_ROW(cmp, 8), [2] = FUSED_ROW(cmp, 32), [3] = FUSED_ROW(cmp, 64)},
    {[0] = FUSED_ROW(test, 8), [2] = FUSED_ROW(test, 32), [3] = FUSED_ROW(test, 64)},
};

interp_fn interp_select_fused(const struct emu_insn *n, unsigned condition)
{
	bool imm = n->desc->enc == EMU_ENC_RM_IMM || n->desc->enc == EMU_ENC_ACC_IMM;
	if ((n->op != EMU_CMP && n->op != EMU_TEST) || n->prefixes & EMU_P_MEM)
		return NULL;
	return fused_handlers[n->op == EMU_TEST][__builtin_ctz(n->opsize)][imm][condition];
}

uint32_t interp_compare(uint64_t a, uint64_t b, unsigned size)
{
	unsigned shift = 64 - size * 8; /* aligned to the top, only AF is not that of the narrow operands */
	uint32_t f;
	a <<= shift;
	b <<= shift;
	uint64_t low_a = a >> shift & 15, low_b = b >> shift & 15;
	__asm__("cmpq %[b],%[a]" FLAGS_TAKE : "=&a"(f) : [a] "r"(a), [b] "r"(b) : "cc");
	f = flags_of(f) & ~(VC_FLAG_AF | VC_FLAG_PF);
	return f | (low_a < low_b ? VC_FLAG_AF : 0) |
	       (__builtin_parity((uint8_t)((a >> shift) - (b >> shift))) ? 0 : VC_FLAG_PF);
}
