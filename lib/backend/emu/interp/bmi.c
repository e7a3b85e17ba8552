/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * BMI1, BMI2 and ADX. In C: a guest's CPU may have them when the host's has not. The first source of three-operand
 * forms, VEX.vvvv, is at op.imm.
 */
#include "backend/emu/interp/flags.h"

#define BOTH(M, name) M(name, 32, REG) M(name, 64, REG) M(name, 32, ANY) M(name, 64, ANY)

INTERP_INLINE uint64_t ones(unsigned bits)
{
	return bits == 64 ? ~0ull : (1ull << bits) - 1;
}

/* CF as given, ZF and SF by the result, OF clear; AF and PF, undefined, are cleared. */
INTERP_INLINE void result_flags(struct emu_vcpu *c, uint64_t result, unsigned bits, bool carry)
{
	c->aflags = (carry ? VC_FLAG_CF : 0) | (result ? 0 : VC_FLAG_ZF) | (result >> (bits - 1) & 1 ? VC_FLAG_SF : 0);
}

/* ---- destination = f(vvvv `x`, r/m `y`), with flags by `carry` ---- */
INTERP_INLINE uint64_t andn_of(uint64_t x, uint64_t y, unsigned bits, bool *carry)
{
	*carry = false;
	return ~x & y;
}
INTERP_INLINE uint64_t blsr_of(uint64_t x, uint64_t y, unsigned bits, bool *carry)
{
	*carry = y == 0;
	return y & (y - 1);
}
INTERP_INLINE uint64_t blsmsk_of(uint64_t x, uint64_t y, unsigned bits, bool *carry)
{
	*carry = y == 0;
	return y ^ (y - 1);
}
INTERP_INLINE uint64_t blsi_of(uint64_t x, uint64_t y, unsigned bits, bool *carry)
{
	*carry = y != 0;
	return y & -y;
}
INTERP_INLINE uint64_t bzhi_of(uint64_t x, uint64_t y, unsigned bits, bool *carry)
{
	unsigned n = x & 0xff;
	*carry = n >= bits;
	return *carry ? y : y & ones(n);
}
INTERP_INLINE uint64_t bextr_of(uint64_t x, uint64_t y, unsigned bits, bool *carry)
{
	unsigned start = x & 0xff, length = x >> 8 & 0xff;
	*carry = false;
	y = start < bits ? (y & ones(bits)) >> start : 0;
	return length < bits ? y & ones(length) : y;
}
#define WITH_FLAGS(name, bits, kind)                                                             \
	INTERP_HANDLER(name##_##bits##_##kind)                                                       \
	{                                                                                            \
		uint64_t y, result;                                                                      \
		bool carry;                                                                              \
		interp_read(c, i, INTERP_##kind, bits, &y);                                              \
		result = name##_of(interp_get(c, (unsigned)i->imm, bits), y, bits, &carry) & ones(bits); \
		interp_set(c, BLS_##name ? (unsigned)i->imm : i->reg, bits, result);                     \
		result_flags(c, result, bits, carry);                                                    \
		INTERP_NEXT;                                                                             \
	}
/* BLSR, BLSMSK, BLSI: VEX.vvvv is the destination. */
enum { BLS_andn = 0, BLS_bzhi = 0, BLS_bextr = 0, BLS_blsr = 1, BLS_blsmsk = 1, BLS_blsi = 1 };
BOTH(WITH_FLAGS, andn)
BOTH(WITH_FLAGS, blsr)
BOTH(WITH_FLAGS, blsmsk)
BOTH(WITH_FLAGS, blsi)
BOTH(WITH_FLAGS, bzhi)
BOTH(WITH_FLAGS, bextr)

/* ---- without flags ---- */
INTERP_INLINE uint64_t pdep_of(uint64_t x, uint64_t mask, unsigned bits)
{
	uint64_t result = 0;
	for (; mask; mask &= mask - 1, x >>= 1)
		if (x & 1)
			result |= mask & -mask;
	return result;
}
INTERP_INLINE uint64_t pext_of(uint64_t x, uint64_t mask, unsigned bits)
{
	uint64_t result = 0;
	for (uint64_t bit = 1; mask; mask &= mask - 1, bit <<= 1)
		if (x & mask & -mask)
			result |= bit;
	return result;
}
INTERP_INLINE uint64_t shlx_of(uint64_t x, uint64_t y, unsigned bits)
{
	return y << (x & (bits - 1));
}
INTERP_INLINE uint64_t shrx_of(uint64_t x, uint64_t y, unsigned bits)
{
	return y >> (x & (bits - 1));
}
INTERP_INLINE uint64_t sarx_of(uint64_t x, uint64_t y, unsigned bits)
{
	int64_t v = bits == 32 ? (int32_t)y : (int64_t)y;
	return (uint64_t)(v >> (x & (bits - 1)));
}
#define NO_FLAGS(name, bits, kind)                                                              \
	INTERP_HANDLER(name##_##bits##_##kind)                                                      \
	{                                                                                           \
		uint64_t y;                                                                             \
		interp_read(c, i, INTERP_##kind, bits, &y);                                             \
		interp_set(c, i->reg, bits, name##_of(interp_get(c, (unsigned)i->imm, bits), y, bits)); \
		INTERP_NEXT;                                                                            \
	}
BOTH(NO_FLAGS, pdep)
BOTH(NO_FLAGS, pext)
BOTH(NO_FLAGS, shlx)
BOTH(NO_FLAGS, shrx)
BOTH(NO_FLAGS, sarx)

/* RORX: the count is an immediate. */
#define RORX(name, bits, kind)                                                \
	INTERP_HANDLER(name##_##bits##_##kind)                                    \
	{                                                                         \
		uint64_t y;                                                           \
		unsigned n = i->imm & (bits - 1);                                     \
		interp_read(c, i, INTERP_##kind, bits, &y);                           \
		interp_set(c, i->reg, bits, y >> n | y << ((bits - n) & (bits - 1))); \
		INTERP_NEXT;                                                          \
	}
BOTH(RORX, rorx)

/* MULX: low half to VEX.vvvv, then high half to reg, so that it wins when they are one register. */
#define MULX(name, bits, kind)                                                                      \
	INTERP_HANDLER(name##_##bits##_##kind)                                                          \
	{                                                                                               \
		uint64_t y;                                                                                 \
		interp_read(c, i, INTERP_##kind, bits, &y);                                                 \
		unsigned __int128 product = (unsigned __int128)interp_get(c, INTERP_GPR(VC_RDX), bits) * y; \
		interp_set(c, (unsigned)i->imm, bits, (uint64_t)product);                                   \
		interp_set(c, i->reg, bits, (uint64_t)(product >> bits));                                   \
		INTERP_NEXT;                                                                                \
	}
BOTH(MULX, mulx)

/* ADCX, ADOX: addition with CF, with OF, as the only flag. */
#define ADX(name, bits, kind)                                                                                     \
	INTERP_HANDLER(name##_##bits##_##kind)                                                                        \
	{                                                                                                             \
		uint64_t y;                                                                                               \
		interp_read(c, i, INTERP_##kind, bits, &y);                                                               \
		unsigned __int128 sum = (unsigned __int128)interp_get(c, i->reg, bits) + y + !!(c->aflags & FLAG_##name); \
		interp_set(c, i->reg, bits, (uint64_t)sum);                                                               \
		c->aflags = (c->aflags & ~FLAG_##name) | (sum >> bits & 1 ? FLAG_##name : 0);                             \
		INTERP_NEXT;                                                                                              \
	}
#define FLAG_adcx VC_FLAG_CF
#define FLAG_adox VC_FLAG_OF
BOTH(ADX, adcx)
BOTH(ADX, adox)

interp_fn interp_select_bmi(const struct emu_insn *n, enum interp_kind kind)
{
#define ROW(op)                      \
	{                                \
		{op##_32_REG, op##_32_ANY},  \
		{                            \
			op##_64_REG, op##_64_ANY \
		}                            \
	}
	static const interp_fn handlers[][2][2] = {
	    [EMU_ANDN - EMU_ANDN] = ROW(andn),     [EMU_BEXTR - EMU_ANDN] = ROW(bextr), [EMU_BLSI - EMU_ANDN] = ROW(blsi),
	    [EMU_BLSMSK - EMU_ANDN] = ROW(blsmsk), [EMU_BLSR - EMU_ANDN] = ROW(blsr),   [EMU_BZHI - EMU_ANDN] = ROW(bzhi),
	    [EMU_MULX - EMU_ANDN] = ROW(mulx),     [EMU_PDEP - EMU_ANDN] = ROW(pdep),   [EMU_PEXT - EMU_ANDN] = ROW(pext),
	    [EMU_RORX - EMU_ANDN] = ROW(rorx),     [EMU_SARX - EMU_ANDN] = ROW(sarx),   [EMU_SHLX - EMU_ANDN] = ROW(shlx),
	    [EMU_SHRX - EMU_ANDN] = ROW(shrx),     [EMU_ADCX - EMU_ANDN] = ROW(adcx),   [EMU_ADOX - EMU_ANDN] = ROW(adox),
	};
	return handlers[n->op - EMU_ANDN][n->opsize == 8][kind != INTERP_REG];
}
