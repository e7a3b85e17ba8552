/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* MOV MOVZX MOVSX LEA CMOVcc SETcc CBW CWD BSWAP MOVBE MOVNTI: data goes from one place to another, flags stay. */
#include "backend/emu/interp/flags.h"

#define WIDTHS(M, ...)       M(__VA_ARGS__, 8) M(__VA_ARGS__, 16) M(__VA_ARGS__, 32) M(__VA_ARGS__, 64)
#define MEMORY_KINDS(M, ...) M(__VA_ARGS__, ANY) M(__VA_ARGS__, BD) M(__VA_ARGS__, BIS) M(__VA_ARGS__, A32)

/* ---- MOV ---- */
#define LOAD(name, bits, kind)                           \
	INTERP_HANDLER(name##_##bits##_##kind)               \
	{                                                    \
		uint64_t v;                                      \
		if (!interp_read(c, i, INTERP_##kind, bits, &v)) \
			return name##_##bits##_ANY(c, i);            \
		interp_set(c, i->reg, bits, v);                  \
		INTERP_NEXT;                                     \
	}
#define STORE(name, SOURCE, bits, kind)                       \
	INTERP_HANDLER(name##_##bits##_##kind)                    \
	{                                                         \
		if (!interp_write(c, i, INTERP_##kind, bits, SOURCE)) \
			return name##_##bits##_ANY(c, i);                 \
		INTERP_NEXT;                                          \
	}
#define MOVES(unused, bits)                                       \
	MEMORY_KINDS(LOAD, load, bits)                                \
	LOAD(load, bits, REG)                                         \
	MEMORY_KINDS(STORE, store, interp_get(c, i->reg, bits), bits) \
	MEMORY_KINDS(STORE, store_imm, i->imm, bits)                  \
	STORE(store_imm, i->imm, bits, REG)
WIDTHS(MOVES, )

/* MOVZX, MOVSX and MOVSXD: from a narrower r/m. */
#define EXTEND(name, to, type, bits, kind)               \
	INTERP_HANDLER(name##_##to##_##bits##_##kind)        \
	{                                                    \
		uint64_t v;                                      \
		if (!interp_read(c, i, INTERP_##kind, bits, &v)) \
			return name##_##to##_##bits##_ANY(c, i);     \
		interp_set(c, i->reg, to, (uint64_t)(type)v);    \
		INTERP_NEXT;                                     \
	}
#define EXTENDS(name, to, type, bits) MEMORY_KINDS(EXTEND, name, to, type, bits) EXTEND(name, to, type, bits, REG)
EXTENDS(movzx, 16, uint8_t, 8)
EXTENDS(movzx, 64, uint8_t, 8)
EXTENDS(movzx, 64, uint16_t, 16)
EXTENDS(movsx, 16, int8_t, 8)
EXTENDS(movsx, 32, int8_t, 8)
EXTENDS(movsx, 64, int8_t, 8)
EXTENDS(movsx, 32, int16_t, 16)
EXTENDS(movsx, 64, int16_t, 16)
EXTENDS(movsx, 64, int32_t, 32)

/* ---- LEA ---- */
#define LEA(bits, kind, EA)              \
	INTERP_HANDLER(lea_##bits##_##kind)  \
	{                                    \
		interp_set(c, i->reg, bits, EA); \
		INTERP_NEXT;                     \
	}
#define LEAS(bits)                                       \
	LEA(bits, BD, interp_linear_fast(c, i, INTERP_BD))   \
	LEA(bits, BIS, interp_linear_fast(c, i, INTERP_BIS)) \
	LEA(bits, ANY, interp_offset(c, i))
LEAS(16)
LEAS(32)
LEAS(64)

/* ---- MOVBE, BSWAP ---- */
INTERP_INLINE uint64_t swapped(uint64_t v, unsigned bits)
{
	return __builtin_bswap64(v) >> (64 - bits);
}
#define SWAPS(bits)                                                                       \
	INTERP_HANDLER(movbe_load_##bits)                                                     \
	{                                                                                     \
		uint64_t v;                                                                       \
		interp_read(c, i, INTERP_ANY, bits, &v);                                          \
		interp_set(c, i->reg, bits, swapped(v, bits));                                    \
		INTERP_NEXT;                                                                      \
	}                                                                                     \
	INTERP_HANDLER(movbe_store_##bits)                                                    \
	{                                                                                     \
		interp_write(c, i, INTERP_ANY, bits, swapped(interp_get(c, i->reg, bits), bits)); \
		INTERP_NEXT;                                                                      \
	}
SWAPS(16)
SWAPS(32)
SWAPS(64)
/* BSWAP of a 16-bit register is undefined; CPUs make it zero. */
INTERP_HANDLER(bswap_16)
{
	interp_set(c, i->rm, 16, 0);
	INTERP_NEXT;
}
INTERP_HANDLER(bswap_32)
{
	interp_set(c, i->rm, 32, swapped(interp_get(c, i->rm, 32), 32));
	INTERP_NEXT;
}
INTERP_HANDLER(bswap_64)
{
	interp_set(c, i->rm, 64, swapped(interp_get(c, i->rm, 64), 64));
	INTERP_NEXT;
}

/* ---- CBW CWDE CDQE, CWD CDQ CQO ---- */
#define CONVERT(name, to, from, REGISTER, EXPRESSION)                    \
	INTERP_HANDLER(name)                                                 \
	{                                                                    \
		int##from##_t a = (int##from##_t)c->s.gpr[VC_RAX];               \
		interp_set(c, INTERP_GPR(REGISTER), to, (uint64_t)(EXPRESSION)); \
		INTERP_NEXT;                                                     \
	}
CONVERT(cbw, 16, 8, VC_RAX, a)
CONVERT(cwde, 32, 16, VC_RAX, a)
CONVERT(cdqe, 64, 32, VC_RAX, a)
CONVERT(cwd, 16, 16, VC_RDX, a >> 15)
CONVERT(cdq, 32, 32, VC_RDX, a >> 31)
CONVERT(cqo, 64, 64, VC_RDX, a >> 63)

/* ---- CMOVcc, SETcc: imm is the condition ---- */
#define CMOV(bits, kind)                                                              \
	INTERP_HANDLER(cmov_##bits##_##kind)                                              \
	{                                                                                 \
		uint64_t v; /* memory is read whatever the condition */                       \
		interp_read(c, i, INTERP_##kind, bits, &v);                                   \
		uint64_t old = interp_get(c, i->reg, bits);                                   \
		interp_set(c, i->reg, bits, interp_condition(c, (unsigned)i->imm) ? v : old); \
		INTERP_NEXT;                                                                  \
	}
CMOV(16, ANY)
CMOV(32, ANY)
CMOV(64, ANY)
CMOV(16, REG)
INTERP_HANDLER(setcc_ANY)
{
	interp_write(c, i, INTERP_ANY, 8, interp_condition(c, (unsigned)i->imm));
	INTERP_NEXT;
}
#define BY_CONDITION(n)                                                         \
	INTERP_HANDLER(setcc_##n)                                                   \
	{                                                                           \
		interp_set(c, i->rm, 8, interp_condition(c, n));                        \
		INTERP_NEXT;                                                            \
	}                                                                           \
	INTERP_HANDLER(cmov_32_##n)                                                 \
	{                                                                           \
		uint64_t v = interp_get(c, i->rm, 32), old = interp_get(c, i->reg, 32); \
		interp_set(c, i->reg, 32, interp_condition(c, n) ? v : old);            \
		INTERP_NEXT;                                                            \
	}                                                                           \
	INTERP_HANDLER(cmov_64_##n)                                                 \
	{                                                                           \
		uint64_t v = interp_get(c, i->rm, 64), old = interp_get(c, i->reg, 64); \
		interp_set(c, i->reg, 64, interp_condition(c, n) ? v : old);            \
		INTERP_NEXT;                                                            \
	}
#define SIXTEEN(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)
SIXTEEN(BY_CONDITION)

/* ---- selection ---- */
#define ROW(name)                                                                                                \
	{                                                                                                            \
		[INTERP_BD] = name##_BD, [INTERP_BIS] = name##_BIS, [INTERP_A32] = name##_A32, [INTERP_ANY] = name##_ANY \
	}
#define ROW_REG(name, reg)                                                                                 \
	{                                                                                                      \
		[INTERP_REG] = reg, [INTERP_BD] = name##_BD, [INTERP_BIS] = name##_BIS, [INTERP_A32] = name##_A32, \
		[INTERP_ANY] = name##_ANY                                                                          \
	}
typedef const interp_fn by_kind[INTERP_KINDS];
/* A register is stored by loading it: the operands are exchanged when the operation is made. */
static by_kind loads[4] = {ROW_REG(load_8, load_8_REG), ROW_REG(load_16, load_16_REG), ROW_REG(load_32, load_32_REG),
                           ROW_REG(load_64, load_64_REG)};
static by_kind stores[4] = {ROW_REG(store_8, load_8_REG), ROW_REG(store_16, load_16_REG),
                            ROW_REG(store_32, load_32_REG), ROW_REG(store_64, load_64_REG)};
static by_kind stores_imm[4] = {ROW_REG(store_imm_8, store_imm_8_REG), ROW_REG(store_imm_16, store_imm_16_REG),
                                ROW_REG(store_imm_32, store_imm_32_REG), ROW_REG(store_imm_64, store_imm_64_REG)};

static interp_fn select_mov(const struct emu_insn *n, enum interp_kind kind)
{
	unsigned width = (unsigned)__builtin_ctz(n->opsize);
	switch (n->desc->enc) {
	case EMU_ENC_REG_RM:
	case EMU_ENC_ACC_MOFFS:
		return loads[width][kind];
	case EMU_ENC_RM_REG:
	case EMU_ENC_M_REG: /* MOVNTI */
	case EMU_ENC_MOFFS_ACC:
		return stores[width][kind];
	case EMU_ENC_RM_IMM:
	case EMU_ENC_OREG_IMM:
		return stores_imm[width][kind];
	default:
		return NULL;
	}
}

static interp_fn select_extend(const struct emu_insn *n, enum interp_kind kind)
{
	/* [destination][source]; to 32 bits MOVZX does the same as to 64; equal widths are a MOV */
	static by_kind movzx[4][4] = {
	    [1] = {ROW_REG(movzx_16_8, movzx_16_8_REG), ROW_REG(load_16, load_16_REG)},
	    [2] = {ROW_REG(movzx_64_8, movzx_64_8_REG), ROW_REG(movzx_64_16, movzx_64_16_REG)},
	    [3] = {ROW_REG(movzx_64_8, movzx_64_8_REG), ROW_REG(movzx_64_16, movzx_64_16_REG)},
	};
	static by_kind movsx[4][4] = {
	    [1] = {ROW_REG(movsx_16_8, movsx_16_8_REG), ROW_REG(load_16, load_16_REG), ROW_REG(load_16, load_16_REG)},
	    [2] = {ROW_REG(movsx_32_8, movsx_32_8_REG), ROW_REG(movsx_32_16, movsx_32_16_REG),
	           ROW_REG(load_32, load_32_REG)},
	    [3] = {ROW_REG(movsx_64_8, movsx_64_8_REG), ROW_REG(movsx_64_16, movsx_64_16_REG),
	           ROW_REG(movsx_64_32, movsx_64_32_REG)},
	};
	unsigned source = n->desc->attr & EMU_A_SRC8 ? 0 : n->desc->attr & EMU_A_SRC16 ? 1 : 2;
	return (n->op == EMU_MOVZX ? movzx : movsx)[__builtin_ctz(n->opsize)][source][kind];
}

static interp_fn select_condition(const struct emu_insn *n, enum interp_kind kind)
{
#define SETCC(k)   setcc_##k,
#define CMOV_32(k) cmov_32_##k,
#define CMOV_64(k) cmov_64_##k,
	static const interp_fn setcc[16] = {SIXTEEN(SETCC)}, cmov_32[16] = {SIXTEEN(CMOV_32)},
	                       cmov_64[16] = {SIXTEEN(CMOV_64)};
	static const interp_fn memory[4] = {NULL, cmov_16_ANY, cmov_32_ANY, cmov_64_ANY};
	unsigned condition = n->reg2 & 15;
	if (n->op == EMU_SETCC)
		return kind == INTERP_REG ? setcc[condition] : setcc_ANY;
	if (kind != INTERP_REG)
		return memory[__builtin_ctz(n->opsize)];
	return n->opsize == 2 ? cmov_16_REG : n->opsize == 4 ? cmov_32[condition] : cmov_64[condition];
}

interp_fn interp_select_move(const struct emu_insn *n, enum interp_kind kind)
{
	static const interp_fn lea[4][3] = {[1] = {lea_16_BD, lea_16_BIS, lea_16_ANY},
	                                    [2] = {lea_32_BD, lea_32_BIS, lea_32_ANY},
	                                    [3] = {lea_64_BD, lea_64_BIS, lea_64_ANY}};
	static const interp_fn movbe[4][2] = {[1] = {movbe_load_16, movbe_store_16},
	                                      [2] = {movbe_load_32, movbe_store_32},
	                                      [3] = {movbe_load_64, movbe_store_64}};
	static const interp_fn bswap[4] = {NULL, bswap_16, bswap_32, bswap_64};
	static const interp_fn cbws[4] = {NULL, cbw, cwde, cdqe}, cwds[4] = {NULL, cwd, cdq, cqo};
	unsigned width = (unsigned)__builtin_ctz(n->opsize);
	switch (n->op) {
	case EMU_MOV:
	case EMU_MOVNTI:
		return select_mov(n, kind);
	case EMU_MOVZX:
	case EMU_MOVSX:
		return select_extend(n, kind);
	case EMU_LEA: /* of no segment: what counts is the address size */
		return lea[width][n->addrsize != 8 ? 2 : n->index != EMU_REG_NONE];
	case EMU_SETCC:
	case EMU_CMOVCC:
		return select_condition(n, kind);
	case EMU_BSWAP:
		return bswap[width];
	case EMU_MOVBE:
		return movbe[width][n->desc->enc != EMU_ENC_REG_M];
	case EMU_CBW:
		return cbws[width];
	case EMU_CWD:
		return cwds[width];
	default:
		return NULL;
	}
}
