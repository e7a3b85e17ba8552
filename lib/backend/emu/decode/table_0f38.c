/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Integer and system instructions of the three-byte maps: SDM vol. 2 appendix A, tables, and those with a
 * VEX prefix. Opcodes that are not named here belong to the vector tables; legacy 0F3A holds nothing else.
 */
#include "backend/emu/decode/rows.h"

/* clang-format off */

/* 66 is an operand size here, F2 another instruction; F3 has no meaning. */
#define MOVBE(enc, attr) DESC(MOVBE, "movbe", enc, NONE, attr, MOVBE, 0, 0, 0)
static const struct emu_opdesc rows_f0[4] = {
	MOVBE(REG_M, WO), MOVBE(REG_M, WO),
	[EMU_PP_F2] = DESC(CRC32, "crc32", REG_RM, NONE, RMW | EMU_A_NO16 | EMU_A_SRC8, SSE42, 0, 0, 0),
};
/* CRC32 of a word, doubleword or quadword: opsize is the source's; the destination is 64-bit with REX.W, else 32-bit. */
static const struct emu_opdesc rows_f1[4] = {
	MOVBE(M_REG, WO), MOVBE(M_REG, WO),
	[EMU_PP_F2] = DESC(CRC32, "crc32", REG_RM, NONE, RMW, SSE42, 0, 0, 0),
};
static const struct emu_opdesc rows_f6[4] = {
	[EMU_PP_66] = DESC(ADCX, "adcx", REG_RM, NONE, RMW | EMU_A_NO16, ADX, FC, FC, 0),
	[EMU_PP_F3] = DESC(ADOX, "adox", REG_RM, NONE, RMW | EMU_A_NO16, ADX, FO, FO, 0),
};
static const struct emu_opdesc rows_82[4] = {
	[EMU_PP_66] = DESC(INVPCID, "invpcid", REG_M, NONE, RO | EMU_A_NATIVE | END | CPL0, INVPCID, 0, 0, 0),
};

const struct emu_slot emu_map_0f38[256] = {
	[0x82] = TABLE(PP, rows_82),
	[0xf0] = TABLE(PP, rows_f0),
	[0xf1] = TABLE(PP, rows_f1),
	[0xf6] = TABLE(PP, rows_f6),
};

#define VEX(op, name, enc, imm, f, wr, un)                                                                             \
	DESC(op, name, enc, imm, WO | EMU_A_VEX | EMU_A_VEX_L0, f, 0, wr, un)
static const struct emu_opdesc vex_f2[4] = {
	[EMU_PP_NONE] = VEX(ANDN, "andn", VEX_REG_VVVV_RM, NONE, BMI1, FC | FZ | FS | FO, FP | FA),
};
/* Group 17. */
static const struct emu_opdesc vex_f3[64] = {
	[1] = VEX(BLSR, "blsr", VEX_VVVV_RM, NONE, BMI1, FC | FZ | FS | FO, FP | FA),
	[2] = VEX(BLSMSK, "blsmsk", VEX_VVVV_RM, NONE, BMI1, FC | FZ | FS | FO, FP | FA),
	[3] = VEX(BLSI, "blsi", VEX_VVVV_RM, NONE, BMI1, FC | FZ | FS | FO, FP | FA),
	[8 + 1] = VEX(BLSR, "blsr", VEX_VVVV_RM, NONE, BMI1, FC | FZ | FS | FO, FP | FA),
	[8 + 2] = VEX(BLSMSK, "blsmsk", VEX_VVVV_RM, NONE, BMI1, FC | FZ | FS | FO, FP | FA),
	[8 + 3] = VEX(BLSI, "blsi", VEX_VVVV_RM, NONE, BMI1, FC | FZ | FS | FO, FP | FA),
};
static const struct emu_opdesc vex_f5[4] = {
	[EMU_PP_NONE] = VEX(BZHI, "bzhi", VEX_REG_RM_VVVV, NONE, BMI2, FC | FZ | FS | FO, FP | FA),
	[EMU_PP_F3] = VEX(PEXT, "pext", VEX_REG_VVVV_RM, NONE, BMI2, 0, 0),
	[EMU_PP_F2] = VEX(PDEP, "pdep", VEX_REG_VVVV_RM, NONE, BMI2, 0, 0),
};
static const struct emu_opdesc vex_f6[4] = {
	[EMU_PP_F2] = VEX(MULX, "mulx", VEX_REG_VVVV_RM, NONE, BMI2, 0, 0),
};
static const struct emu_opdesc vex_f7[4] = {
	[EMU_PP_NONE] = VEX(BEXTR, "bextr", VEX_REG_RM_VVVV, NONE, BMI1, FC | FZ | FO, FP | FA | FS),
	[EMU_PP_66] = VEX(SHLX, "shlx", VEX_REG_RM_VVVV, NONE, BMI2, 0, 0),
	[EMU_PP_F3] = VEX(SARX, "sarx", VEX_REG_RM_VVVV, NONE, BMI2, 0, 0),
	[EMU_PP_F2] = VEX(SHRX, "shrx", VEX_REG_RM_VVVV, NONE, BMI2, 0, 0),
};
static const struct emu_opdesc vex_rorx[4] = {
	[EMU_PP_F2] = DESC(RORX, "rorx", REG_RM_IMM, U8, WO | EMU_A_VEX | EMU_A_VEX_L0 | EMU_A_VEX_NOVVVV, BMI2, 0, 0, 0),
};

const struct emu_slot emu_map_vex_0f38[256] = {
	[0xf2] = TABLE(PP, vex_f2),
	[0xf3] = TABLE(GROUP_PP, vex_f3),
	[0xf5] = TABLE(PP, vex_f5),
	[0xf6] = TABLE(PP, vex_f6),
	[0xf7] = TABLE(PP, vex_f7),
};

const struct emu_slot emu_map_vex_0f3a[256] = {
	[0xf0] = TABLE(PP, vex_rorx),
};
/* clang-format on */
