/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* BT BTS BTR BTC, BSF BSR TZCNT LZCNT POPCNT CRC32, and LAHF SAHF CLC STC CMC CLD STD NOP and hints. */
#include "backend/emu/interp/flags.h"

#define WIDTHS(M, ...) M(__VA_ARGS__, 16) M(__VA_ARGS__, 32) M(__VA_ARGS__, 64)

static inline void set_carry(struct emu_vcpu *c, bool carry)
{
	c->aflags = (c->aflags & ~VC_FLAG_CF) | (carry ? VC_FLAG_CF : 0);
}

/*
 * ---- BT and its like. The bit is within the operand; with a register as offset, memory is addressed far beyond it.
 * ----
 */
INTERP_INLINE uint64_t bit_none(uint64_t v, uint64_t bit)
{
	return v;
}
INTERP_INLINE uint64_t bit_set(uint64_t v, uint64_t bit)
{
	return v | bit;
}
INTERP_INLINE uint64_t bit_reset(uint64_t v, uint64_t bit)
{
	return v & ~bit;
}
INTERP_INLINE uint64_t bit_complement(uint64_t v, uint64_t bit)
{
	return v ^ bit;
}

/* Linear address of the operand that holds bit `offset` of the bit string at i's memory operand. */
#define BIT_LINEAR(bits)                                                                                               \
	static uint64_t bit_linear_##bits(struct emu_vcpu *c, const struct interp_op *i, int##bits##_t offset, bool write) \
	{                                                                                                                  \
		int64_t bytes = (offset >> __builtin_ctz(bits)) * (int64_t)(bits / 8);                                         \
		uint64_t ea = interp_ea(c, i) + (uint64_t)bytes;                                                               \
		ea = i->seg & 0x20 ? ea : i->seg & 0x10 ? (uint32_t)ea : (uint16_t)ea;                                         \
		return interp_linear_segmented(c, i, ea, bits / 8, write ? VCORE_ACCESS_WRITE : VCORE_ACCESS_READ);            \
	}
BIT_LINEAR(16)
BIT_LINEAR(32)
BIT_LINEAR(64)

#define BIT_REG(op, change, form, OFFSET, bits)                                         \
	INTERP_HANDLER(op##_##form##_##bits##_REG)                                          \
	{                                                                                   \
		uint64_t v = interp_get(c, i->rm, bits), bit = 1ull << ((OFFSET) & (bits - 1)); \
		if (#op[2]) /* not BT */                                                        \
			interp_set(c, i->rm, bits, change(v, bit));                                 \
		set_carry(c, v &bit);                                                           \
		INTERP_NEXT;                                                                    \
	}
#define BIT_MEM(op, change, form, OFFSET, LINEAR, bits, kind)                    \
	INTERP_HANDLER(op##_##form##_##bits##_##kind)                                \
	{                                                                            \
		unsigned n = (OFFSET) & (bits - 1);                                      \
		uint64_t v, bit = 1ull << n;                                             \
		c->cur = &i->head;                                                       \
		uint64_t linear = LINEAR;                                                \
		if (!#op[2]) {                                                           \
			v = interp_ld(c, linear, bits);                                      \
		} else {                                                                 \
			struct interp_rmw m;                                                 \
			interp_rmw_begin_at(c, INTERP_##kind, bits, linear, &m, &v);         \
			if (INTERP_##kind == INTERP_LOCK && m.p) {                           \
				bool old;                                                        \
				__asm__ volatile("lock " #op BIT_SUFFIX_##bits " %[n],%[m]"      \
				                 : [m] "+m"(*(emu_mem##bits *)m.p), "=@ccc"(old) \
				                 : [n] "r"((uint##bits##_t)n)                    \
				                 : "memory");                                    \
				v = old ? bit : 0;                                               \
			} else {                                                             \
				interp_rmw_end(c, INTERP_##kind, bits, &m, change(v, bit));      \
			}                                                                    \
		}                                                                        \
		set_carry(c, v &bit);                                                    \
		INTERP_NEXT;                                                             \
	}
#define BIT_SUFFIX_16 "w"
#define BIT_SUFFIX_32 "l"
#define BIT_SUFFIX_64 "q"
#define BITS(op, change, bits)                                                                  \
	BIT_REG(op, change, imm, i->imm, bits)                                                      \
	BIT_REG(op, change, reg, interp_get(c, i->reg, bits), bits)                                 \
	BIT_MEM(op, change, imm, i->imm, interp_linear(c, i, bits / 8, BIT_ACCESS_##op), bits, ANY) \
	BIT_MEM(op, change, reg, interp_get(c, i->reg, bits), BIT_STRING_##op(bits), bits, ANY)
#define BITS_LOCKED(op, change, bits)                                                               \
	BIT_MEM(op, change, imm, i->imm, interp_linear(c, i, bits / 8, VCORE_ACCESS_WRITE), bits, LOCK) \
	BIT_MEM(op, change, reg, interp_get(c, i->reg, bits), BIT_STRING_##op(bits), bits, LOCK)
#define BIT_ACCESS_bt           VCORE_ACCESS_READ
#define BIT_ACCESS_bts          VCORE_ACCESS_WRITE
#define BIT_ACCESS_btr          VCORE_ACCESS_WRITE
#define BIT_ACCESS_btc          VCORE_ACCESS_WRITE
#define BIT_STRING(bits, write) bit_linear_##bits(c, i, (int##bits##_t)interp_get(c, i->reg, bits), write)
#define BIT_STRING_bt(bits)     BIT_STRING(bits, false)
#define BIT_STRING_bts(bits)    BIT_STRING(bits, true)
#define BIT_STRING_btr(bits)    BIT_STRING(bits, true)
#define BIT_STRING_btc(bits)    BIT_STRING(bits, true)
WIDTHS(BITS, bt, bit_none)
WIDTHS(BITS, bts, bit_set)
WIDTHS(BITS, btr, bit_reset)
WIDTHS(BITS, btc, bit_complement)
WIDTHS(BITS_LOCKED, bts, bit_set)
WIDTHS(BITS_LOCKED, btr, bit_reset)
WIDTHS(BITS_LOCKED, btc, bit_complement)

static interp_fn select_bt(const struct emu_insn *n, enum interp_kind kind)
{
#define BT_ROW(op, bits, lock)                                                         \
	{                                                                                  \
		{op##_imm_##bits##_REG, op##_imm_##bits##_ANY, lock(op##_imm_##bits##_LOCK)},  \
		{                                                                              \
			op##_reg_##bits##_REG, op##_reg_##bits##_ANY, lock(op##_reg_##bits##_LOCK) \
		}                                                                              \
	}
#define BT_ROWS(op, lock)                                                \
	{                                                                    \
		BT_ROW(op, 16, lock), BT_ROW(op, 32, lock), BT_ROW(op, 64, lock) \
	}
#define PRESENT(name) name
#define ABSENT(name)  NULL
	static const interp_fn handlers[4][3][2][3] = {BT_ROWS(bt, ABSENT), BT_ROWS(bts, PRESENT), BT_ROWS(btr, PRESENT),
	                                               BT_ROWS(btc, PRESENT)};
	return handlers[n->op - EMU_BT][__builtin_ctz(n->opsize) - 1][n->desc->enc != EMU_ENC_RM_IMM][kind == INTERP_REG ? 0
	                                                                                              : kind == INTERP_LOCK
	                                                                                                  ? 2
	                                                                                                  : 1];
}

/* ---- scans and counts ---- */
/*
 * BSF and BSR of 0 leave the destination alone, as every CPU does: the host's own instruction, with the old value in
 * its register.
 */
#define SCAN(op, bits, kind)                                       \
	INTERP_HANDLER(op##_##bits##_##kind)                           \
	{                                                              \
		uint64_t v, d = INTERP_AT(uint64_t, c, i->reg);            \
		uint32_t f;                                                \
		interp_read(c, i, INTERP_##kind, bits, &v);                \
		__asm__(#op " %[v]," SCAN_REGISTER_##bits "[d]" FLAGS_TAKE \
		        : [d] "+r"(d), "=&a"(f)                            \
		        : [v] "r"((uint##bits##_t)v)                       \
		        : "cc");                                           \
		INTERP_AT(uint64_t, c, i->reg) = d;                        \
		c->aflags = flags_of(f);                                   \
		INTERP_NEXT;                                               \
	}
#define SCAN_REGISTER_16 "%w"
#define SCAN_REGISTER_32 "%k"
#define SCAN_REGISTER_64 "%q"

/*
 * TZCNT, LZCNT: CF: the source was 0; ZF: the result is. POPCNT: ZF only. In C, for a guest's CPU may have them when
 * the host's has not.
 */
INTERP_INLINE uint64_t tzcnt_of(uint64_t v, unsigned bits)
{
	return v ? (unsigned)__builtin_ctzll(v) : bits;
}
INTERP_INLINE uint64_t lzcnt_of(uint64_t v, unsigned bits)
{
	return v ? (unsigned)__builtin_clzll(v) - (64 - bits) : bits;
}
INTERP_INLINE uint64_t popcnt_of(uint64_t v, unsigned bits)
{
	return (unsigned)__builtin_popcountll(v);
}
INTERP_INLINE uint32_t zero_flags(uint32_t old, uint64_t v, uint64_t result)
{
	return (old & ~(VC_FLAG_CF | VC_FLAG_ZF)) | (v ? 0 : VC_FLAG_CF) | (result ? 0 : VC_FLAG_ZF);
}
#define tzcnt_flags(v, result)  zero_flags(c->aflags, v, result)
#define lzcnt_flags(v, result)  zero_flags(c->aflags, v, result)
#define popcnt_flags(v, result) ((v) ? 0 : VC_FLAG_ZF)
#define COUNT(op, bits, kind)                       \
	INTERP_HANDLER(op##_##bits##_##kind)            \
	{                                               \
		uint64_t v, result;                         \
		interp_read(c, i, INTERP_##kind, bits, &v); \
		result = op##_of(v, bits);                  \
		c->aflags = op##_flags(v, result);          \
		interp_set(c, i->reg, bits, result);        \
		INTERP_NEXT;                                \
	}
#define BOTH(M, op) M(op, 16, REG) M(op, 32, REG) M(op, 64, REG) M(op, 16, ANY) M(op, 32, ANY) M(op, 64, ANY)
BOTH(SCAN, bsf)
BOTH(SCAN, bsr)
BOTH(COUNT, tzcnt)
BOTH(COUNT, lzcnt)
BOTH(COUNT, popcnt)

static interp_fn select_scan(const struct emu_insn *n, enum interp_kind kind)
{
#define SCAN_ROW(op)                                            \
	{                                                           \
		{op##_16_REG, op##_16_ANY}, {op##_32_REG, op##_32_ANY}, \
		{                                                       \
			op##_64_REG, op##_64_ANY                            \
		}                                                       \
	}
	static const interp_fn handlers[][3][2] = {
	    [EMU_BSF - EMU_BSF] = SCAN_ROW(bsf),       [EMU_BSR - EMU_BSF] = SCAN_ROW(bsr),
	    [EMU_TZCNT - EMU_BSF] = SCAN_ROW(tzcnt),   [EMU_LZCNT - EMU_BSF] = SCAN_ROW(lzcnt),
	    [EMU_POPCNT - EMU_BSF] = SCAN_ROW(popcnt),
	};
	return handlers[n->op - EMU_BSF][__builtin_ctz(n->opsize) - 1][kind != INTERP_REG];
}

/*
 * ---- CRC32: polynomial 0x1EDC6F41, reflected; four bits at a time. The destination is written as 32 bits, so zero-
 * extended. ----
 */
static uint32_t crc32c(uint32_t crc, uint64_t v, unsigned bits)
{
	static const uint32_t nibble[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
	                                    0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
	                                    0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
	for (; bits; bits -= 4, v >>= 4)
		crc = crc >> 4 ^ nibble[(crc ^ v) & 15];
	return crc;
}
#define CRC32(unused, bits, kind)                                                        \
	INTERP_HANDLER(crc32_##bits##_##kind)                                                \
	{                                                                                    \
		uint64_t v;                                                                      \
		interp_read(c, i, INTERP_##kind, bits, &v);                                      \
		interp_set(c, i->reg, 32, crc32c((uint32_t)interp_get(c, i->reg, 32), v, bits)); \
		INTERP_NEXT;                                                                     \
	}
BOTH(CRC32, )
CRC32(, 8, REG)
CRC32(, 8, ANY)

interp_fn interp_select_bit(const struct emu_insn *n, enum interp_kind kind)
{
	static const interp_fn crc32[4][2] = {{crc32_8_REG, crc32_8_ANY},
	                                      {crc32_16_REG, crc32_16_ANY},
	                                      {crc32_32_REG, crc32_32_ANY},
	                                      {crc32_64_REG, crc32_64_ANY}};
	if (n->op >= EMU_BT && n->op <= EMU_BTC)
		return select_bt(n, kind);
	if (n->op == EMU_CRC32)
		return crc32[n->desc->attr & EMU_A_SRC8 ? 0 : __builtin_ctz(n->opsize)][kind != INTERP_REG];
	return select_scan(n, kind);
}

/* ---- flags by themselves, and what does nothing ---- */
INTERP_HANDLER(clc)
{
	c->aflags &= ~VC_FLAG_CF;
	INTERP_NEXT;
}
INTERP_HANDLER(stc)
{
	c->aflags |= VC_FLAG_CF;
	INTERP_NEXT;
}
INTERP_HANDLER(cmc)
{
	c->aflags ^= VC_FLAG_CF;
	INTERP_NEXT;
}
INTERP_HANDLER(cld)
{
	c->s.rflags &= ~(uint64_t)VC_FLAG_DF;
	INTERP_NEXT;
}
INTERP_HANDLER(std)
{
	c->s.rflags |= VC_FLAG_DF;
	INTERP_NEXT;
}
INTERP_HANDLER(lahf)
{
	interp_set(c, 1, 8, (c->aflags & 0xd5) | 2);
	INTERP_NEXT;
}
INTERP_HANDLER(sahf)
{
	c->aflags = (c->aflags & VC_FLAG_OF) | (interp_get(c, 1, 8) & 0xd5);
	INTERP_NEXT;
}
INTERP_HANDLER(nop)
{
	INTERP_NEXT;
}
INTERP_HANDLER(fence)
{
	atomic_thread_fence(memory_order_seq_cst);
	INTERP_NEXT;
}

interp_fn interp_select_flags(const struct emu_insn *n, enum interp_kind kind)
{
	switch (n->op) {
	case EMU_CLC:
		return clc;
	case EMU_STC:
		return stc;
	case EMU_CMC:
		return cmc;
	case EMU_CLD:
		return cld;
	case EMU_STD:
		return std;
	case EMU_LAHF:
		return lahf;
	case EMU_SAHF:
		return sahf;
	case EMU_LFENCE:
	case EMU_MFENCE:
	case EMU_SFENCE:
		return fence;
	case EMU_NOP:
	case EMU_PREFETCH:
		return nop;
	default:
		return NULL;
	}
}
