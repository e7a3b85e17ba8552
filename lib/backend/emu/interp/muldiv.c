/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* MUL IMUL DIV IDIV. */
#include "backend/emu/interp/flags.h"

#define FORMS(M, ...) M(__VA_ARGS__, REG) M(__VA_ARGS__, ANY)

/* rDX:rAX = rAX * r/m (AX = AL * r/m). The result is moved away from RAX before the flags are taken into it. */
#define MUL(op, suffix, bits, kind)                                \
	INTERP_HANDLER(op##_##bits##_##kind)                           \
	{                                                              \
		uint64_t v, a = c->s.gpr[VC_RAX], low, high;               \
		interp_read(c, i, INTERP_##kind, bits, &v);                \
		__asm__(#op suffix " %[v]\n\tmovq %%rax,%[low]" FLAGS_TAKE \
		        : "+&a"(a), [low] "=&r"(low), "=&d"(high)          \
		        : [v] "r"((uint##bits##_t)v)                       \
		        : "cc");                                           \
		if (bits == 8)                                             \
			interp_set(c, INTERP_GPR(VC_RAX), 16, low);            \
		else {                                                     \
			interp_set(c, INTERP_GPR(VC_RAX), bits, low);          \
			interp_set(c, INTERP_GPR(VC_RDX), bits, high);         \
		}                                                          \
		c->aflags = flags_of((uint32_t)a);                         \
		INTERP_NEXT;                                               \
	}
FORMS(MUL, mul, "b", 8)
FORMS(MUL, mul, "w", 16)
FORMS(MUL, mul, "l", 32)
FORMS(MUL, mul, "q", 64)
FORMS(MUL, imul, "b", 8)
FORMS(MUL, imul, "w", 16)
FORMS(MUL, imul, "l", 32)
FORMS(MUL, imul, "q", 64)

/* reg = FIRST * r/m */
#define IMUL(name, FIRST, bits, kind)                                                                     \
	INTERP_HANDLER(name##_##bits##_##kind)                                                                \
	{                                                                                                     \
		uint64_t v;                                                                                       \
		uint32_t f;                                                                                       \
		interp_read(c, i, INTERP_##kind, bits, &v);                                                       \
		uint##bits##_t a = (uint##bits##_t)(FIRST);                                                       \
		__asm__("imul %[v],%[a]" FLAGS_TAKE : [a] "+r"(a), "=&a"(f) : [v] "r"((uint##bits##_t)v) : "cc"); \
		interp_set(c, i->reg, bits, a);                                                                   \
		c->aflags = flags_of(f);                                                                          \
		INTERP_NEXT;                                                                                      \
	}
#define IMULS(bits) FORMS(IMUL, imul2, interp_get(c, i->reg, bits), bits) FORMS(IMUL, imul3, i->imm, bits)
IMULS(16)
IMULS(32)
IMULS(64)

/*
 * Division is tested for #DE first: the host must never see one. The dividend is rDX:rAX (AX for bytes) as one number;
 * flags, all undefined afterwards, stay as they are.
 */
#define DIVIDE(bits, unsigned_wide, signed_wide, kind)                                                               \
	INTERP_HANDLER(div_##bits##_##kind)                                                                              \
	{                                                                                                                \
		uint64_t v;                                                                                                  \
		interp_read(c, i, INTERP_##kind, bits, &v);                                                                  \
		unsigned_wide dividend = (unsigned_wide)dividend_##bits(c), quotient = v ? dividend / (unsigned_wide)v : 0;  \
		if (!v || quotient >> bits) {                                                                                \
			c->cur = &i->head;                                                                                       \
			emu_raise(c, VC_DE);                                                                                     \
		}                                                                                                            \
		set_quotient_##bits(c, (uint64_t)quotient, (uint64_t)(dividend % (unsigned_wide)v));                         \
		INTERP_NEXT;                                                                                                 \
	}                                                                                                                \
	INTERP_HANDLER(idiv_##bits##_##kind)                                                                             \
	{                                                                                                                \
		uint64_t v;                                                                                                  \
		interp_read(c, i, INTERP_##kind, bits, &v);                                                                  \
		signed_wide dividend = (signed_wide)(int##bits##_t)(dividend_##bits(c) >> bits) * ((signed_wide)1 << bits) + \
		                       (signed_wide)(uint##bits##_t)dividend_##bits(c);                                      \
		signed_wide divisor = (int##bits##_t)v;                                                                      \
		/* the least dividend by -1 would overflow the wide type itself */                                           \
		bool fits = divisor && !(divisor == -1 && dividend <= -((signed_wide)1 << (bits - 1)));                      \
		signed_wide quotient = fits ? dividend / divisor : 0;                                                        \
		if (!fits || quotient != (int##bits##_t)quotient) {                                                          \
			c->cur = &i->head;                                                                                       \
			emu_raise(c, VC_DE);                                                                                     \
		}                                                                                                            \
		set_quotient_##bits(c, (uint64_t)quotient, (uint64_t)(dividend % divisor));                                  \
		INTERP_NEXT;                                                                                                 \
	}

INTERP_INLINE uint16_t dividend_8(const struct emu_vcpu *c)
{
	return (uint16_t)c->s.gpr[VC_RAX];
}
INTERP_INLINE void set_quotient_8(struct emu_vcpu *c, uint64_t quotient, uint64_t remainder)
{
	interp_set(c, INTERP_GPR(VC_RAX), 16, (quotient & 0xff) | (remainder & 0xff) << 8);
}
#define PAIR(bits, wide)                                                                              \
	INTERP_INLINE wide dividend_##bits(const struct emu_vcpu *c)                                      \
	{                                                                                                 \
		return (wide)(uint##bits##_t)c->s.gpr[VC_RDX] << bits | (uint##bits##_t)c->s.gpr[VC_RAX];     \
	}                                                                                                 \
	INTERP_INLINE void set_quotient_##bits(struct emu_vcpu *c, uint64_t quotient, uint64_t remainder) \
	{                                                                                                 \
		interp_set(c, INTERP_GPR(VC_RAX), bits, quotient);                                            \
		interp_set(c, INTERP_GPR(VC_RDX), bits, remainder);                                           \
	}
PAIR(16, uint32_t)
PAIR(32, uint64_t)
FORMS(DIVIDE, 8, uint32_t, int32_t)
FORMS(DIVIDE, 16, uint64_t, int64_t)
FORMS(DIVIDE, 32, uint64_t, int64_t)

/* 64 bits: the host's DIV on magnitudes, as a 128-bit division by the compiler's helper takes many times as long. */
INTERP_INLINE uint64_t divide_128(uint64_t high, uint64_t low, uint64_t divisor, uint64_t *remainder)
{
	__asm__("divq %[v]" : "+a"(low), "+d"(high) : [v] "r"(divisor) : "cc");
	*remainder = high;
	return low;
}
static bool divide_signed(uint64_t high, uint64_t low, uint64_t divisor, uint64_t *quotient, uint64_t *remainder)
{
	bool negative = high >> 63, differ = negative != (divisor >> 63);
	uint64_t q, r;
	if (negative) {
		low = -low;
		high = ~high + !low;
	}
	if (divisor >> 63)
		divisor = -divisor;
	if (high >= divisor)
		return false;
	q = divide_128(high, low, divisor, &r);
	if (q > INT64_MAX + (uint64_t)differ)
		return false;
	*quotient = differ ? -q : q;
	*remainder = negative ? -r : r;
	return true;
}
#define DIVIDE_64(kind)                                                                                    \
	INTERP_HANDLER(div_64_##kind)                                                                          \
	{                                                                                                      \
		uint64_t v;                                                                                        \
		interp_read(c, i, INTERP_##kind, 64, &v);                                                          \
		if (c->s.gpr[VC_RDX] >= v) {                                                                       \
			c->cur = &i->head;                                                                             \
			emu_raise(c, VC_DE);                                                                           \
		}                                                                                                  \
		c->s.gpr[VC_RAX] = divide_128(c->s.gpr[VC_RDX], c->s.gpr[VC_RAX], v, &c->s.gpr[VC_RDX]);           \
		INTERP_NEXT;                                                                                       \
	}                                                                                                      \
	INTERP_HANDLER(idiv_64_##kind)                                                                         \
	{                                                                                                      \
		uint64_t v;                                                                                        \
		interp_read(c, i, INTERP_##kind, 64, &v);                                                          \
		if (!divide_signed(c->s.gpr[VC_RDX], c->s.gpr[VC_RAX], v, &c->s.gpr[VC_RAX], &c->s.gpr[VC_RDX])) { \
			c->cur = &i->head;                                                                             \
			emu_raise(c, VC_DE);                                                                           \
		}                                                                                                  \
		INTERP_NEXT;                                                                                       \
	}
DIVIDE_64(REG)
DIVIDE_64(ANY)

interp_fn interp_select_muldiv(const struct emu_insn *n, enum interp_kind kind)
{
#define ROW(op)                                                                           \
	{                                                                                     \
		{op##_8_REG, op##_8_ANY}, {op##_16_REG, op##_16_ANY}, {op##_32_REG, op##_32_ANY}, \
		{                                                                                 \
			op##_64_REG, op##_64_ANY                                                      \
		}                                                                                 \
	}
#define ROW16(op)                                                       \
	{                                                                   \
		{NULL}, {op##_16_REG, op##_16_ANY}, {op##_32_REG, op##_32_ANY}, \
		{                                                               \
			op##_64_REG, op##_64_ANY                                    \
		}                                                               \
	}
	static const interp_fn handlers[][4][2] = {
	    [EMU_MUL - EMU_MUL] = ROW(mul),       [EMU_IMUL1 - EMU_MUL] = ROW(imul), [EMU_IMUL2 - EMU_MUL] = ROW16(imul2),
	    [EMU_IMUL3 - EMU_MUL] = ROW16(imul3), [EMU_DIV - EMU_MUL] = ROW(div),    [EMU_IDIV - EMU_MUL] = ROW(idiv),
	};
	return handlers[n->op - EMU_MUL][__builtin_ctz(n->opsize)][kind != INTERP_REG];
}
