/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The 0F map: SDM vol. 2 appendix A, table A-3, and the groups of table A-6. Opcodes that are not named here belong to
 * the vector tables.
 */
#include "backend/emu/decode/rows.h"

/* clang-format off */

static const struct emu_opdesc group6[8] = {
	MOVE(SLDT, "sldt", RM, NONE, WO | EMU_A_RM_W16 | EMU_A_PROT),
	MOVE(STR, "str", RM, NONE, WO | EMU_A_RM_W16 | EMU_A_PROT),
	MOVE(LLDT, "lldt", RM, NONE, RO | EMU_A_WORD | EMU_A_RM_W16 | EMU_A_PROT | CPL0),
	MOVE(LTR, "ltr", RM, NONE, RO | EMU_A_WORD | EMU_A_RM_W16 | EMU_A_PROT | CPL0),
	DESC(VERR, "verr", RM, NONE, RO | EMU_A_WORD | EMU_A_RM_W16 | EMU_A_PROT, NONE, 0, FZ, 0),
	DESC(VERW, "verw", RM, NONE, RO | EMU_A_WORD | EMU_A_RM_W16 | EMU_A_PROT, NONE, 0, FZ, 0),
};

#define SMSW_ROW MOVE(SMSW, "smsw", RM, NONE, WO | EMU_A_RM_W16)
#define LMSW_ROW MOVE(LMSW, "lmsw", RM, NONE, RO | EMU_A_WORD | EMU_A_RM_W16 | END | CPL0)
#define REGISTERS(reg) [8 + ((reg) << 3)]
static const struct emu_opdesc group7[8 + 64] = {
	MOVE(SGDT, "sgdt", M, NONE, WO | F64),
	MOVE(SIDT, "sidt", M, NONE, WO | F64),
	MOVE(LGDT, "lgdt", M, NONE, RO | F64 | CPL0),
	MOVE(LIDT, "lidt", M, NONE, RO | F64 | CPL0),
	[4] = SMSW_ROW,
	[6] = LMSW_ROW,
	[7] = MOVE(INVLPG, "invlpg", M, NONE, END | CPL0),
	REGISTERS(4) = SMSW_ROW, SMSW_ROW, SMSW_ROW, SMSW_ROW, SMSW_ROW, SMSW_ROW, SMSW_ROW, SMSW_ROW,
	REGISTERS(6) = LMSW_ROW, LMSW_ROW, LMSW_ROW, LMSW_ROW, LMSW_ROW, LMSW_ROW, LMSW_ROW, LMSW_ROW,
	[8 + 0x01] = DESC(VMCALL, "vmcall", NONE, NONE, NP | END, NONE, FALL, 0, 0),
	[8 + 0x08] = DESC(MONITOR, "monitor", NONE, NONE, NP, MONITOR, 0, 0, 0),
	[8 + 0x09] = DESC(MWAIT, "mwait", NONE, NONE, NP | END, MONITOR, 0, 0, 0),
	[8 + 0x0a] = DESC(CLAC, "clac", NONE, NONE, NP | END, SMAP, 0, 0, 0),
	[8 + 0x0b] = DESC(STAC, "stac", NONE, NONE, NP | END, SMAP, 0, 0, 0),
	[8 + 0x10] = DESC(XGETBV, "xgetbv", NONE, NONE, NP, XSAVE, 0, 0, 0),
	[8 + 0x11] = DESC(XSETBV, "xsetbv", NONE, NONE, NP | END | CPL0, XSAVE, 0, 0, 0),
	[8 + 0x19] = DESC(VMMCALL, "vmmcall", NONE, NONE, NP | END, NONE, FALL, 0, 0),
	[8 + 0x2e] = DESC(RDPKRU, "rdpkru", NONE, NONE, NP, PKU, 0, 0, 0),
	[8 + 0x2f] = DESC(WRPKRU, "wrpkru", NONE, NONE, NP | END, PKU, 0, 0, 0),
	[8 + 0x38] = MOVE(SWAPGS, "swapgs", NONE, NONE, EMU_A_ONLY64 | CPL0),
	[8 + 0x39] = DESC(RDTSCP, "rdtscp", NONE, NONE, 0, RDTSCP, 0, 0, 0),
};

/* Group 8: the bit number is an immediate. */
static const struct emu_opdesc group8[8] = {
	[4] = DESC(BT, "bt", RM_IMM, U8, RO, NONE, 0, FC, FP | FA | FS | FO),
	DESC(BTS, "bts", RM_IMM, U8, RMW | LOCK, NONE, 0, FC, FP | FA | FS | FO),
	DESC(BTR, "btr", RM_IMM, U8, RMW | LOCK, NONE, 0, FC, FP | FA | FS | FO),
	DESC(BTC, "btc", RM_IMM, U8, RMW | LOCK, NONE, 0, FC, FP | FA | FS | FO),
};

/* With REX.W the decoder takes emu_row_cmpxchg16b instead. */
#define CMPXCHG8B_ROW DESC(CMPXCHG8B, "cmpxchg8b", M, NONE, RMW | LOCK | EMU_A_NO16, CX8, 0, FZ, 0)
const struct emu_opdesc emu_row_cmpxchg16b =
	DESC(CMPXCHG16B, "cmpxchg16b", M, NONE, RMW | LOCK | EMU_A_NO16, CX16, 0, FZ, 0);

#define PP(prefix, mod3, reg) [(prefix) * 16 + (mod3) * 8 + (reg)]
#define RDRAND_ROW DESC(RDRAND, "rdrand", RM, NONE, WO, RDRAND, 0, FALL, 0)
#define RDSEED_ROW DESC(RDSEED, "rdseed", RM, NONE, WO, RDSEED, 0, FALL, 0)
static const struct emu_opdesc group9[64] = {
	PP(EMU_PP_NONE, 0, 1) = CMPXCHG8B_ROW,
	PP(EMU_PP_66, 0, 1) = CMPXCHG8B_ROW,
	PP(EMU_PP_F3, 0, 1) = CMPXCHG8B_ROW,
	PP(EMU_PP_F2, 0, 1) = CMPXCHG8B_ROW,
	PP(EMU_PP_NONE, 0, 3) = DESC(XRSTORS, "xrstors", M, NONE, RO | EMU_A_NO16 | CPL0, XSAVES, 0, 0, 0),
	PP(EMU_PP_NONE, 0, 4) = DESC(XSAVEC, "xsavec", M, NONE, WO | EMU_A_NO16, XSAVEC, 0, 0, 0),
	PP(EMU_PP_NONE, 0, 5) = DESC(XSAVES, "xsaves", M, NONE, WO | EMU_A_NO16 | CPL0, XSAVES, 0, 0, 0),
	PP(EMU_PP_NONE, 1, 6) = RDRAND_ROW,
	PP(EMU_PP_66, 1, 6) = RDRAND_ROW,
	PP(EMU_PP_NONE, 1, 7) = RDSEED_ROW,
	PP(EMU_PP_66, 1, 7) = RDSEED_ROW,
	PP(EMU_PP_F3, 1, 7) = DESC(RDPID, "rdpid", RM, NONE, WO | EMU_A_NATIVE, RDPID, 0, 0, 0),
};

#define FSGSBASE(op, name, attr) DESC(op, name, RM, NONE, (attr) | EMU_A_ONLY64 | EMU_A_NO16, FSGSBASE, 0, 0, 0)
static const struct emu_opdesc group15[64] = {
	PP(EMU_PP_NONE, 0, 0) = DESC(FXSAVE, "fxsave", M, NONE, WO | EMU_A_NO16, FXSR, 0, 0, 0),
	PP(EMU_PP_NONE, 0, 1) = DESC(FXRSTOR, "fxrstor", M, NONE, RO | EMU_A_NO16, FXSR, 0, 0, 0),
	PP(EMU_PP_NONE, 0, 2) = DESC(LDMXCSR, "ldmxcsr", M, NONE, RO | EMU_A_NO16 | EMU_A_NOW, SSE, 0, 0, 0),
	PP(EMU_PP_NONE, 0, 3) = DESC(STMXCSR, "stmxcsr", M, NONE, WO | EMU_A_NO16 | EMU_A_NOW, SSE, 0, 0, 0),
	PP(EMU_PP_NONE, 0, 4) = DESC(XSAVE, "xsave", M, NONE, WO | EMU_A_NO16, XSAVE, 0, 0, 0),
	PP(EMU_PP_NONE, 0, 5) = DESC(XRSTOR, "xrstor", M, NONE, RO | EMU_A_NO16, XSAVE, 0, 0, 0),
	PP(EMU_PP_NONE, 0, 6) = DESC(XSAVEOPT, "xsaveopt", M, NONE, WO | EMU_A_NO16, XSAVEOPT, 0, 0, 0),
	PP(EMU_PP_NONE, 0, 7) = DESC(CLFLUSH, "clflush", M, NONE, BYTE | RO, CLFSH, 0, 0, 0),
	PP(EMU_PP_66, 0, 6) = DESC(CLFLUSH, "clwb", M, NONE, BYTE | RO, CLWB, 0, 0, 0),
	PP(EMU_PP_66, 0, 7) = DESC(CLFLUSH, "clflushopt", M, NONE, BYTE | RO, CLFLUSHOPT, 0, 0, 0),
	/* the processor ignores ModRM.rm of fences */
	PP(EMU_PP_NONE, 1, 5) = DESC(LFENCE, "lfence", NONE, NONE, 0, SSE2, 0, 0, 0),
	PP(EMU_PP_NONE, 1, 6) = DESC(MFENCE, "mfence", NONE, NONE, 0, SSE2, 0, 0, 0),
	PP(EMU_PP_NONE, 1, 7) = DESC(SFENCE, "sfence", NONE, NONE, 0, SSE, 0, 0, 0),
	PP(EMU_PP_F3, 1, 0) = FSGSBASE(RDFSBASE, "rdfsbase", WO),
	PP(EMU_PP_F3, 1, 1) = FSGSBASE(RDGSBASE, "rdgsbase", WO),
	PP(EMU_PP_F3, 1, 2) = FSGSBASE(WRFSBASE, "wrfsbase", RO),
	PP(EMU_PP_F3, 1, 3) = FSGSBASE(WRGSBASE, "wrgsbase", RO),
};

/* Group 16 and the P group: hints. What is reserved among them, and every register form, is a NOP. */
#define HINT MOVE(NOP, "nop", RM, NONE, 0)
#define HINTS HINT, HINT, HINT, HINT, HINT, HINT, HINT, HINT
static const struct emu_opdesc group16[16] = {
	MOVE(PREFETCH, "prefetchnta", M, NONE, BYTE | RO),
	MOVE(PREFETCH, "prefetcht0", M, NONE, BYTE | RO),
	MOVE(PREFETCH, "prefetcht1", M, NONE, BYTE | RO),
	MOVE(PREFETCH, "prefetcht2", M, NONE, BYTE | RO),
	HINT, HINT, HINT, HINT,
	HINTS,
};
#define PREFETCH_ROW MOVE(PREFETCH, "prefetch", M, NONE, BYTE | RO)
static const struct emu_opdesc group_p[16] = {
	PREFETCH_ROW,
	MOVE(PREFETCH, "prefetchw", M, NONE, BYTE | RO),
	MOVE(PREFETCH, "prefetchwt1", M, NONE, BYTE | RO),
	PREFETCH_ROW, PREFETCH_ROW, PREFETCH_ROW, PREFETCH_ROW, PREFETCH_ROW,
	HINTS,
};
#define HINT_SLOT MODRM(HINT)

static const struct emu_opdesc rows_popcnt[4] = {
	[EMU_PP_F3] = DESC(POPCNT, "popcnt", REG_RM, NONE, WO, POPCNT, 0, FALL, 0),
};
#define BSF_ROW DESC(BSF, "bsf", REG_RM, NONE, RMW, NONE, 0, FZ, FC | FP | FA | FS | FO)
#define BSR_ROW DESC(BSR, "bsr", REG_RM, NONE, RMW, NONE, 0, FZ, FC | FP | FA | FS | FO)
static const struct emu_opdesc rows_bc[4] = {
	BSF_ROW, BSF_ROW, DESC(TZCNT, "tzcnt", REG_RM, NONE, WO, BMI1, 0, FC | FZ, FP | FA | FS | FO), BSF_ROW,
};
static const struct emu_opdesc rows_bd[4] = {
	BSR_ROW, BSR_ROW, DESC(LZCNT, "lzcnt", REG_RM, NONE, WO, LZCNT, 0, FC | FZ, FP | FA | FS | FO), BSR_ROW,
};

#define SHIFT_DOUBLE(op, name, enc, imm)                                                                               \
	MODRM(DESC(op, name, enc, imm, RMW, NONE, FALL, FC | FP | FZ | FS, FA | FO))
#define BIT(op, name, attr) MODRM(DESC(op, name, RM_REG, NONE, attr, NONE, 0, FC, FP | FA | FS | FO))
#define LOAD_FAR(name, attr) MODRM(MOVE(LDS, name, REG_M, NONE, WO | (attr)))
#define BSWAP ROW(MOVE(BSWAP, "bswap", OREG, NONE, RMW))
#define CMOV(cc, name, flags) [0x40 + (cc)] = MODRM(DESC(CMOVCC, "cmov" name, REG_RM, NONE, RMW, CMOV, flags, 0, 0)),
#define JCC(cc, name, flags)  [0x80 + (cc)] = ROW(DESC(JCC, "j" name, REL, Z, F64 | END, NONE, flags, 0, 0)),
#define SET(cc, name, flags)  [0x90 + (cc)] = MODRM(DESC(SETCC, "set" name, RM, NONE, BYTE | WO, NONE, flags, 0, 0)),
#define UNDEFINED4 UNDEFINED, UNDEFINED, UNDEFINED, UNDEFINED

const struct emu_slot emu_map_0f[256] = {
	[0x00] = TABLE(GROUP, group6),
	[0x01] = TABLE(GROUP_RM, group7),
	[0x02] = MODRM(DESC(LAR, "lar", REG_RM, NONE, RMW | EMU_A_RM_W16 | EMU_A_PROT, NONE, 0, FZ, 0)),
	[0x03] = MODRM(DESC(LSL, "lsl", REG_RM, NONE, RMW | EMU_A_RM_W16 | EMU_A_PROT, NONE, 0, FZ, 0)),
	[0x04] = UNDEFINED,
	[0x05] = ROW(DESC(SYSCALL, "syscall", NONE, NONE, END, SYSCALL, FALL, FALL, 0)),
	[0x06] = ROW(MOVE(CLTS, "clts", NONE, NONE, END | CPL0)),
	[0x07] = ROW(DESC(SYSRET, "sysretd/sysretd/sysretq", NONE, NONE, END | CPL0, SYSCALL, 0, FALL, 0)),
	[0x08] = ROW(MOVE(INVD, "invd", NONE, NONE, CPL0)),
	[0x09] = ROW(MOVE(WBINVD, "wbinvd", NONE, NONE, CPL0)), /* F3: WBNOINVD, which older CPUs take as WBINVD */
	[0x0a] = UNDEFINED,
	[0x0b] = ROW(MOVE(UD, "ud2", NONE, NONE, END)),
	[0x0c] = UNDEFINED,
	[0x0d] = TABLE(GROUP_MOD, group_p),
	[0x0e] = UNDEFINED, UNDEFINED, /* 3DNow! */
	[0x18] = TABLE(GROUP_MOD, group16),
	[0x19] = HINT_SLOT, HINT_SLOT, HINT_SLOT, HINT_SLOT, HINT_SLOT, HINT_SLOT, HINT_SLOT,
	[0x20] = MODRM(MOVE(MOV_FROM_CR, "mov", R_CR, NONE, WO | EMU_A_NATIVE | CPL0)),
	[0x21] = MODRM(MOVE(MOV_FROM_DR, "mov", R_CR, NONE, WO | EMU_A_NATIVE | CPL0)),
	[0x22] = MODRM(MOVE(MOV_TO_CR, "mov", CR_R, NONE, WO | EMU_A_NATIVE | CPL0 | END)),
	[0x23] = MODRM(MOVE(MOV_TO_DR, "mov", CR_R, NONE, WO | EMU_A_NATIVE | CPL0 | END)),
	[0x24] = UNDEFINED4,
	[0x30] = ROW(DESC(WRMSR, "wrmsr", NONE, NONE, END | CPL0, MSR, 0, 0, 0)),
	[0x31] = ROW(DESC(RDTSC, "rdtsc", NONE, NONE, 0, TSC, 0, 0, 0)),
	[0x32] = ROW(DESC(RDMSR, "rdmsr", NONE, NONE, CPL0, MSR, 0, 0, 0)),
	[0x33] = ROW(MOVE(RDPMC, "rdpmc", NONE, NONE, 0)),
	[0x34] = ROW(DESC(SYSENTER, "sysenter", NONE, NONE, END, SEP, FALL, 0, 0)),
	[0x35] = ROW(DESC(SYSEXIT, "sysexitd/sysexitd/sysexitq", NONE, NONE, END | CPL0, SEP, 0, 0, 0)),
	[0x36] = UNDEFINED, UNDEFINED,
	[0x39] = UNDEFINED,
	[0x3b] = UNDEFINED, UNDEFINED4,
	FOR_EACH_CONDITION(CMOV)
	[0x77] = { .kind = EMU_SLOT_VEC_PLAIN },
	[0x7a] = UNDEFINED, UNDEFINED,
	FOR_EACH_CONDITION(JCC)
	FOR_EACH_CONDITION(SET)
	[0xa0] = ROW(MOVE(PUSH_SREG, "push", SREG, NONE, RO | D64 | PUSHES)),
	[0xa1] = ROW(MOVE(POP_SREG, "pop", SREG, NONE, WO | D64 | PUSHES | END)),
	[0xa2] = ROW(MOVE(CPUID, "cpuid", NONE, NONE, 0)),
	[0xa3] = BIT(BT, "bt", RO),
	[0xa4] = SHIFT_DOUBLE(SHLD, "shld", RM_REG_IMM, U8),
	[0xa5] = SHIFT_DOUBLE(SHLD, "shld", RM_REG_CL, NONE),
	[0xa6] = UNDEFINED, UNDEFINED,
	[0xa8] = ROW(MOVE(PUSH_SREG, "push", SREG, NONE, RO | D64 | PUSHES)),
	[0xa9] = ROW(MOVE(POP_SREG, "pop", SREG, NONE, WO | D64 | PUSHES | END)),
	[0xaa] = ROW(DESC(RSM, "rsm", NONE, NONE, END, NONE, 0, FALL, 0)),
	[0xab] = BIT(BTS, "bts", RMW | LOCK),
	[0xac] = SHIFT_DOUBLE(SHRD, "shrd", RM_REG_IMM, U8),
	[0xad] = SHIFT_DOUBLE(SHRD, "shrd", RM_REG_CL, NONE),
	[0xae] = TABLE(GROUP_PP, group15),
	[0xaf] = MODRM(DESC(IMUL2, "imul", REG_RM, NONE, RMW, NONE, 0, FC | FO, FP | FA | FZ | FS)),
	[0xb0] = MODRM(DESC(CMPXCHG, "cmpxchg", RM_REG, NONE, BYTE | RMW | LOCK, NONE, 0, FALL, 0)),
	[0xb1] = MODRM(DESC(CMPXCHG, "cmpxchg", RM_REG, NONE, RMW | LOCK, NONE, 0, FALL, 0)),
	[0xb2] = LOAD_FAR("lss", END),
	[0xb3] = BIT(BTR, "btr", RMW | LOCK),
	[0xb4] = LOAD_FAR("lfs", END),
	[0xb5] = LOAD_FAR("lgs", END),
	[0xb6] = MODRM(MOVE(MOVZX, "movzx", REG_RM, NONE, WO | EMU_A_SRC8)),
	[0xb7] = MODRM(MOVE(MOVZX, "movzx", REG_RM, NONE, WO | EMU_A_SRC16)),
	[0xb8] = TABLE(PP, rows_popcnt),
	[0xb9] = MODRM(MOVE(UD, "ud1", REG_RM, NONE, END)),
	[0xba] = TABLE(GROUP, group8),
	[0xbb] = BIT(BTC, "btc", RMW | LOCK),
	[0xbc] = TABLE(PP_OLD, rows_bc),
	[0xbd] = TABLE(PP_OLD, rows_bd),
	[0xbe] = MODRM(MOVE(MOVSX, "movsx", REG_RM, NONE, WO | EMU_A_SRC8)),
	[0xbf] = MODRM(MOVE(MOVSX, "movsx", REG_RM, NONE, WO | EMU_A_SRC16)),
	[0xc0] = MODRM(DESC(XADD, "xadd", RM_REG, NONE, BYTE | RMW | LOCK, NONE, 0, FALL, 0)),
	[0xc1] = MODRM(DESC(XADD, "xadd", RM_REG, NONE, RMW | LOCK, NONE, 0, FALL, 0)),
	[0xc3] = MODRM(DESC(MOVNTI, "movnti", M_REG, NONE, WO | NP | EMU_A_NO16, SSE2, 0, 0, 0)),
	[0xc7] = TABLE(GROUP_PP, group9),
	[0xc8] = BSWAP, BSWAP, BSWAP, BSWAP, BSWAP, BSWAP, BSWAP, BSWAP,
	[0xff] = MODRM(MOVE(UD, "ud0", REG_RM, NONE, END)),
};

/* VLDMXCSR and VSTMXCSR; the rest of VEX.0F is vectors. */
static const struct emu_opdesc group15_vex[64] = {
	PP(EMU_PP_NONE, 0, 2) =
		DESC(LDMXCSR, "vldmxcsr", M, NONE, RO | EMU_A_VEX | EMU_A_VEX_L0 | EMU_A_VEX_NOVVVV | EMU_A_NOW, AVX, 0, 0, 0),
	PP(EMU_PP_NONE, 0, 3) =
		DESC(STMXCSR, "vstmxcsr", M, NONE, WO | EMU_A_VEX | EMU_A_VEX_L0 | EMU_A_VEX_NOVVVV | EMU_A_NOW, AVX, 0, 0, 0),
};

const struct emu_slot emu_map_vex_0f[256] = {
	[0x77] = { .kind = EMU_SLOT_VEC_PLAIN },
	[0xae] = TABLE(GROUP_PP, group15_vex),
};
/* clang-format on */
