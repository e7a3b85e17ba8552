/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ROL ROR RCL RCR SHL SHR SAR SHLD SHRD. A masked count of 0 changes neither flags nor value (a 32-bit register is
 * still zero-extended).
 */
#include "backend/emu/interp/flags.h"

#define WIDTHS(M, ...)   M(__VA_ARGS__, 8) M(__VA_ARGS__, 16) M(__VA_ARGS__, 32) M(__VA_ARGS__, 64)
#define COUNT_MASK(bits) ((bits) == 64 ? 63 : 31)

/* Rotates keep PF AF ZF SF, so all flags are loaded before. */
#define SHIFT_VALUE(op, before, bits)                                                                                 \
	INTERP_INLINE uint##bits##_t op##_value##bits(struct emu_vcpu *c, uint##bits##_t a, uint8_t count)                \
	{                                                                                                                 \
		uint32_t f;                                                                                                   \
		if (!(count & COUNT_MASK(bits)))                                                                              \
			return a;                                                                                                 \
		__asm__(before #op " %%cl,%[a]" FLAGS_TAKE : [a] "+r"(a), "=&a"(f) : "c"(count), [in] "m"(c->aflags) : "cc"); \
		c->aflags = flags_of(f);                                                                                      \
		return a;                                                                                                     \
	}
WIDTHS(SHIFT_VALUE, rol, FLAGS_LOAD_ALL)
WIDTHS(SHIFT_VALUE, ror, FLAGS_LOAD_ALL)
WIDTHS(SHIFT_VALUE, rcl, FLAGS_LOAD_ALL)
WIDTHS(SHIFT_VALUE, rcr, FLAGS_LOAD_ALL)
WIDTHS(SHIFT_VALUE, shl, "")
WIDTHS(SHIFT_VALUE, shr, "")
WIDTHS(SHIFT_VALUE, sar, "")

#define SHIFT(op, form, COUNT, bits, kind)                                                         \
	INTERP_HANDLER(op##_##form##_##bits##_##kind)                                                  \
	{                                                                                              \
		struct interp_rmw m;                                                                       \
		uint64_t v;                                                                                \
		uint8_t count = (uint8_t)(COUNT);                                                          \
		interp_rmw_begin(c, i, INTERP_##kind, bits, &m, &v);                                       \
		interp_rmw_end(c, INTERP_##kind, bits, &m, op##_value##bits(c, (uint##bits##_t)v, count)); \
		INTERP_NEXT;                                                                               \
	}
#define SHIFT_FORMS(op, bits)                  \
	SHIFT(op, imm, i->imm, bits, REG)          \
	SHIFT(op, imm, i->imm, bits, ANY)          \
	SHIFT(op, cl, c->s.gpr[VC_RCX], bits, REG) \
	SHIFT(op, cl, c->s.gpr[VC_RCX], bits, ANY)
#define SHIFT_OP(M, op) M(op, 8) M(op, 16) M(op, 32) M(op, 64)
SHIFT_OP(SHIFT_FORMS, rol)
SHIFT_OP(SHIFT_FORMS, ror)
SHIFT_OP(SHIFT_FORMS, rcl)
SHIFT_OP(SHIFT_FORMS, rcr)
SHIFT_OP(SHIFT_FORMS, shl)
SHIFT_OP(SHIFT_FORMS, shr)
SHIFT_OP(SHIFT_FORMS, sar)

/*
 * SHLD, SHRD: the count is masked as for shifts; 16-bit counts over 16 are undefined and are what the host makes of
 * them.
 */
#define DOUBLE(op, form, COUNT, bits, kind)                                                                    \
	INTERP_HANDLER(op##_##form##_##bits##_##kind)                                                              \
	{                                                                                                          \
		struct interp_rmw m;                                                                                   \
		uint64_t v;                                                                                            \
		uint8_t count = (uint8_t)(COUNT);                                                                      \
		uint##bits##_t b = (uint##bits##_t)interp_get(c, i->reg, bits);                                        \
		interp_rmw_begin(c, i, INTERP_##kind, bits, &m, &v);                                                   \
		uint##bits##_t a = (uint##bits##_t)v;                                                                  \
		if (count & COUNT_MASK(bits)) {                                                                        \
			uint32_t f;                                                                                        \
			__asm__(#op " %%cl,%[b],%[a]" FLAGS_TAKE : [a] "+r"(a), "=&a"(f) : [b] "r"(b), "c"(count) : "cc"); \
			c->aflags = flags_of(f);                                                                           \
		}                                                                                                      \
		interp_rmw_end(c, INTERP_##kind, bits, &m, a);                                                         \
		INTERP_NEXT;                                                                                           \
	}
#define DOUBLE_FORMS(op, bits)                  \
	DOUBLE(op, imm, i->imm, bits, REG)          \
	DOUBLE(op, imm, i->imm, bits, ANY)          \
	DOUBLE(op, cl, c->s.gpr[VC_RCX], bits, REG) \
	DOUBLE(op, cl, c->s.gpr[VC_RCX], bits, ANY)
#define DOUBLE_OP(op) DOUBLE_FORMS(op, 16) DOUBLE_FORMS(op, 32) DOUBLE_FORMS(op, 64)
DOUBLE_OP(shld)
DOUBLE_OP(shrd)

/* [by CL][memory] */
#define SHIFT_ROW(op, bits)                             \
	{                                                   \
		{op##_imm_##bits##_REG, op##_imm_##bits##_ANY}, \
		{                                               \
			op##_cl_##bits##_REG, op##_cl_##bits##_ANY  \
		}                                               \
	}
#define SHIFT_ROWS(op)                                                            \
	{                                                                             \
		SHIFT_ROW(op, 8), SHIFT_ROW(op, 16), SHIFT_ROW(op, 32), SHIFT_ROW(op, 64) \
	}
#define DOUBLE_ROWS(op)                                                   \
	{                                                                     \
		{{NULL}}, SHIFT_ROW(op, 16), SHIFT_ROW(op, 32), SHIFT_ROW(op, 64) \
	}
static const interp_fn shift_handlers[][4][2][2] = {
    [EMU_ROL - EMU_ROL] = SHIFT_ROWS(rol),    [EMU_ROR - EMU_ROL] = SHIFT_ROWS(ror),
    [EMU_RCL - EMU_ROL] = SHIFT_ROWS(rcl),    [EMU_RCR - EMU_ROL] = SHIFT_ROWS(rcr),
    [EMU_SHL - EMU_ROL] = SHIFT_ROWS(shl),    [EMU_SHR - EMU_ROL] = SHIFT_ROWS(shr),
    [EMU_SAR - EMU_ROL] = SHIFT_ROWS(sar),    [EMU_SHLD - EMU_ROL] = DOUBLE_ROWS(shld),
    [EMU_SHRD - EMU_ROL] = DOUBLE_ROWS(shrd),
};

interp_fn interp_select_shift(const struct emu_insn *n, enum interp_kind kind)
{
	bool by_cl = n->desc->enc == EMU_ENC_RM_CL || n->desc->enc == EMU_ENC_RM_REG_CL;
	if (kind == INTERP_LOCK)
		return NULL;
	return shift_handlers[n->op - EMU_ROL][__builtin_ctz(n->opsize)][by_cl][kind != INTERP_REG];
}
