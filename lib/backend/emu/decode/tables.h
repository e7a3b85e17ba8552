/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The opcode tables and how a row is found: private to the decoder.
 *
 * Integer and system instructions are looked up first; every opcode of maps 1 to 3 that is not one of them goes to
 * emu_vec_lookup(), and D8-DF go to emu_x87_lookup().
 */
#ifndef VC_EMU_TABLES_H
#define VC_EMU_TABLES_H

#include "backend/emu/decode/insn.h"

/* The mandatory prefix that selects a row (VEX.pp has the same numbers). F2 and F3 beat 66; of F2 and F3 the last wins.
 */
enum { EMU_PP_NONE = 0, EMU_PP_66 = 1, EMU_PP_F3 = 2, EMU_PP_F2 = 3 };

/* Opcode maps, as VEX.mmmmm counts them. */
enum { EMU_MAP_ONE = 0, EMU_MAP_0F = 1, EMU_MAP_0F38 = 2, EMU_MAP_0F3A = 3 };

/* Attributes that only the decoder looks at: the free bits of struct emu_opdesc.attr. */
enum {
	EMU_A_NO16 = 1u << 24,      /* operand size 4 or 8, whatever 66 (so all VEC rows and all VEX instructions) */
	EMU_A_NOW = 1u << 25,       /* REX.W makes 4, not 8 (so all x87 rows) */
	EMU_A_NATIVE = 1u << 26,    /* operand size 8 in 64-bit mode, 4 elsewhere */
	EMU_A_WORD = 1u << 27,      /* operand size 2 */
	EMU_A_NP = 1u << 28,        /* #UD with 66, F2 or F3 */
	EMU_A_FEATURE64 = 1u << 29, /* the feature is needed in 64-bit mode only */
};

/*
 * The MMX, SSE or AVX row of an opcode in maps 1 to 3; NULL when there is none. vex_w and vex_l are REX.W and 0 for
 * legacy encodings. The whole ModRM byte is given, as rows differ by register and memory form (MOVLPS/MOVHLPS) and by
 * reg (shift groups); for an opcode without ModRM (EMMS) it is 0xC0.
 *
 * The immediate is the row's imm kind (EMU_IMM_U8 or EMU_IMM_NONE, EMU_IMM_8_8). The caller checks feature,
 * EMU_V_MEM_ONLY, EMU_V_REG_ONLY and the EMU_A_VEX_* attributes, and for VEX 0F38 90-93 (gathers) that there is a SIB
 * byte with three different registers; emu_insn.index is then the vector register, 4 included.
 */
const struct emu_opdesc *emu_vec_lookup(unsigned map, uint8_t opcode, unsigned pp, bool vex, bool vex_w, bool vex_l,
                                        uint8_t modrm);

/* The row of an x87 instruction: opcode D8-DF. NULL: reserved, #UD. */
const struct emu_opdesc *emu_x87_lookup(uint8_t opcode, uint8_t modrm);

#endif
