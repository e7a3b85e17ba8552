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

/* The mandatory prefix that selects a row (VEX.pp has the same numbers). F2 and F3 beat 66; of F2 and F3 the last wins. */
enum { EMU_PP_NONE = 0, EMU_PP_66 = 1, EMU_PP_F3 = 2, EMU_PP_F2 = 3 };

/* Opcode maps, as VEX.mmmmm counts them. */
enum { EMU_MAP_ONE = 0, EMU_MAP_0F = 1, EMU_MAP_0F38 = 2, EMU_MAP_0F3A = 3 };

/*
 * The MMX, SSE or AVX row of an opcode in maps 1 to 3; NULL when there is none. vex_w and vex_l are REX.W and 0 for legacy
 * encodings. The whole ModRM byte is given, as rows differ by register and memory form (MOVLPS/MOVHLPS) and by reg (shift
 * groups); for an opcode without ModRM (EMMS) it is 0xC0.
 *
 * The immediate is the row's imm kind (EMU_IMM_U8 or EMU_IMM_NONE, EMU_IMM_8_8). The caller checks feature,
 * EMU_V_MEM_ONLY, EMU_V_REG_ONLY and the EMU_A_VEX_* attributes.
 */
const struct emu_opdesc *emu_vec_lookup(unsigned map, uint8_t opcode, unsigned pp, bool vex, bool vex_w, bool vex_l,
                                        uint8_t modrm);

/* The row of an x87 instruction: opcode D8-DF. NULL: reserved, #UD. */
const struct emu_opdesc *emu_x87_lookup(uint8_t opcode, uint8_t modrm);

#endif
