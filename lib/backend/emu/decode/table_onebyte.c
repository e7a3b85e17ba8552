/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one-byte opcode map: SDM vol. 2 appendix A, table A-2, and the groups of table A-6. */
#include "backend/emu/decode/rows.h"

/* clang-format off */

/* The six encodings that ADD, OR ... CMP share at 8 * n. */
#define ALU(base, op, name, to_rm, to_reg, rd, wr, un)                                                                 \
	[(base) + 0] = MODRM(DESC(op, name, RM_REG, NONE, BYTE | (to_rm), NONE, rd, wr, un)),                              \
	[(base) + 1] = MODRM(DESC(op, name, RM_REG, NONE, (to_rm), NONE, rd, wr, un)),                                     \
	[(base) + 2] = MODRM(DESC(op, name, REG_RM, NONE, BYTE | (to_reg), NONE, rd, wr, un)),                             \
	[(base) + 3] = MODRM(DESC(op, name, REG_RM, NONE, (to_reg), NONE, rd, wr, un)),                                    \
	[(base) + 4] = ROW(DESC(op, name, ACC_IMM, 8, BYTE | (to_reg), NONE, rd, wr, un)),                                 \
	[(base) + 5] = ROW(DESC(op, name, ACC_IMM, Z, (to_reg), NONE, rd, wr, un))

#define GROUP1(table, immediate, byte)                                                                                 \
	static const struct emu_opdesc table[8] = {                                                                        \
		DESC(ADD, "add", RM_IMM, immediate, (byte) | RMW | LOCK, NONE, 0, FALL, 0),                                    \
		DESC(OR, "or", RM_IMM, immediate, (byte) | RMW | LOCK, NONE, 0, FNOTA, FA),                                    \
		DESC(ADC, "adc", RM_IMM, immediate, (byte) | RMW | LOCK, NONE, FC, FALL, 0),                                   \
		DESC(SBB, "sbb", RM_IMM, immediate, (byte) | RMW | LOCK, NONE, FC, FALL, 0),                                   \
		DESC(AND, "and", RM_IMM, immediate, (byte) | RMW | LOCK, NONE, 0, FNOTA, FA),                                  \
		DESC(SUB, "sub", RM_IMM, immediate, (byte) | RMW | LOCK, NONE, 0, FALL, 0),                                    \
		DESC(XOR, "xor", RM_IMM, immediate, (byte) | RMW | LOCK, NONE, 0, FNOTA, FA),                                  \
		DESC(CMP, "cmp", RM_IMM, immediate, (byte) | RO, NONE, 0, FALL, 0),                                            \
	}
GROUP1(group1_eb_ib, 8, BYTE);
GROUP1(group1_eb_ib_old, 8, BYTE | NO64);
GROUP1(group1_ev_iz, Z, 0);
GROUP1(group1_ev_ib, 8, 0);

/*
 * Shifts and rotates. By one, OF is defined; by other counts it is not. By a count of zero no flag changes, so with a count
 * that the row does not know, the old flags are read as well. /6 is SAL, another encoding of SHL.
 */
#define GROUP2(table, enc, immediate, byte, rot_rd, shift_rd, rot_wr, shift_wr, rot_un, shift_un)                      \
	static const struct emu_opdesc table[8] = {                                                                        \
		DESC(ROL, "rol", enc, immediate, (byte) | RMW, NONE, rot_rd, rot_wr, rot_un),                                  \
		DESC(ROR, "ror", enc, immediate, (byte) | RMW, NONE, rot_rd, rot_wr, rot_un),                                  \
		DESC(RCL, "rcl", enc, immediate, (byte) | RMW, NONE, (rot_rd) | FC, rot_wr, rot_un),                           \
		DESC(RCR, "rcr", enc, immediate, (byte) | RMW, NONE, (rot_rd) | FC, rot_wr, rot_un),                           \
		DESC(SHL, "shl", enc, immediate, (byte) | RMW, NONE, shift_rd, shift_wr, shift_un),                            \
		DESC(SHR, "shr", enc, immediate, (byte) | RMW, NONE, shift_rd, shift_wr, shift_un),                            \
		DESC(SHL, "shl", enc, immediate, (byte) | RMW, NONE, shift_rd, shift_wr, shift_un),                            \
		DESC(SAR, "sar", enc, immediate, (byte) | RMW, NONE, shift_rd, shift_wr, shift_un),                            \
	}
#define BY_ONE 0, 0, FC | FO, FNOTA, 0, FA
#define BY_ANY FC | FO, FALL, FC, FC | FP | FZ | FS, FO, FA | FO
#define GROUP2_(...) GROUP2(__VA_ARGS__)
GROUP2_(group2_eb_ib, RM_IMM, U8, BYTE, BY_ANY);
GROUP2_(group2_ev_ib, RM_IMM, U8, 0, BY_ANY);
GROUP2_(group2_eb_1, RM_1, NONE, BYTE, BY_ONE);
GROUP2_(group2_ev_1, RM_1, NONE, 0, BY_ONE);
GROUP2_(group2_eb_cl, RM_CL, NONE, BYTE, BY_ANY);
GROUP2_(group2_ev_cl, RM_CL, NONE, 0, BY_ANY);

/* /1 of group 3 is another encoding of TEST. */
#define GROUP3(table, immediate, byte)                                                                                 \
	static const struct emu_opdesc table[8] = {                                                                        \
		DESC(TEST, "test", RM_IMM, immediate, (byte) | RO, NONE, 0, FNOTA, FA),                                        \
		DESC(TEST, "test", RM_IMM, immediate, (byte) | RO, NONE, 0, FNOTA, FA),                                        \
		DESC(NOT, "not", RM, NONE, (byte) | RMW | LOCK, NONE, 0, 0, 0),                                                \
		DESC(NEG, "neg", RM, NONE, (byte) | RMW | LOCK, NONE, 0, FALL, 0),                                             \
		DESC(MUL, "mul", RM, NONE, (byte) | RO, NONE, 0, FC | FO, FP | FA | FZ | FS),                                  \
		DESC(IMUL1, "imul", RM, NONE, (byte) | RO, NONE, 0, FC | FO, FP | FA | FZ | FS),                               \
		DESC(DIV, "div", RM, NONE, (byte) | RO, NONE, 0, 0, FALL),                                                     \
		DESC(IDIV, "idiv", RM, NONE, (byte) | RO, NONE, 0, 0, FALL),                                                   \
	}
GROUP3(group3_eb, 8, BYTE);
GROUP3(group3_ev, Z, 0);

static const struct emu_opdesc group4[8] = {
	DESC(INC, "inc", RM, NONE, BYTE | RMW | LOCK, NONE, 0, FNOTC, 0),
	DESC(DEC, "dec", RM, NONE, BYTE | RMW | LOCK, NONE, 0, FNOTC, 0),
};

static const struct emu_opdesc group5[8] = {
	DESC(INC, "inc", RM, NONE, RMW | LOCK, NONE, 0, FNOTC, 0),
	DESC(DEC, "dec", RM, NONE, RMW | LOCK, NONE, 0, FNOTC, 0),
	MOVE(CALL_IND, "call", RM, NONE, RO | F64 | END | PUSHES),
	DESC(CALL_FAR_IND, "call", M, NONE, RO | END | PUSHES, NONE, FALL, 0, 0),
	MOVE(JMP_IND, "jmp", RM, NONE, RO | F64 | END),
	DESC(JMP_FAR_IND, "jmp", M, NONE, RO | END, NONE, FALL, 0, 0),
	MOVE(PUSH, "push", RM, NONE, RO | D64 | PUSHES),
};

static const struct emu_opdesc group11_eb[8] = { MOVE(MOV, "mov", RM_IMM, 8, BYTE | WO) };
static const struct emu_opdesc group11_ev[8] = { MOVE(MOV, "mov", RM_IMM, Z, WO) };
static const struct emu_opdesc group1a[8] = { MOVE(POP, "pop", RM, NONE, WO | D64 | PUSHES) };

static const struct emu_opdesc rows_90[3] = {
	MOVE(NOP, "nop", NONE, NONE, 0),
	MOVE(PAUSE, "pause", NONE, NONE, 0),
	MOVE(XCHG, "xchg", ACC_OREG, NONE, RMW),
};

static const struct emu_opdesc rows_63[2] = {
	DESC(ARPL, "arpl", RM_REG, NONE, RMW | EMU_A_WORD | EMU_A_PROT, NONE, 0, FZ, 0),
	MOVE(MOVSX, "movsxd", REG_RM, NONE, WO | EMU_A_SRC32),
};

#define PREFIX(bits, segment) { .kind = EMU_SLOT_PREFIX, .prefix = (bits), .seg = (segment) }
#define X87 { .kind = EMU_SLOT_X87, .modrm = true }

#define PUSH_SEG(attr)    ROW(MOVE(PUSH_SREG, "push", SREG, NONE, RO | PUSHES | (attr)))
#define POP_SEG(attr)     ROW(MOVE(POP_SREG, "pop", SREG, NONE, WO | PUSHES | END | (attr)))
#define INC_REG           ROW(DESC(INC, "inc", OREG, NONE, RMW, NONE, 0, FNOTC, 0))
#define DEC_REG           ROW(DESC(DEC, "dec", OREG, NONE, RMW, NONE, 0, FNOTC, 0))
#define PUSH_REG          ROW(MOVE(PUSH, "push", OREG, NONE, RO | D64 | PUSHES))
#define POP_REG           ROW(MOVE(POP, "pop", OREG, NONE, WO | D64 | PUSHES))
#define XCHG_REG          ROW(MOVE(XCHG, "xchg", ACC_OREG, NONE, RMW))
#define MOV_REG8          ROW(MOVE(MOV, "mov", OREG_IMM, 8, BYTE | WO))
#define MOV_REG           ROW(MOVE(MOV, "mov", OREG_IMM, V, WO))
#define JCC8(cc, name, flags) [0x70 + (cc)] = ROW(DESC(JCC, "j" name, REL, 8, F64 | END, NONE, flags, 0, 0)),

const struct emu_slot emu_map_one[256] = {
	ALU(0x00, ADD, "add", RMW | LOCK, RMW, 0, FALL, 0),
	[0x06] = PUSH_SEG(NO64), [0x07] = POP_SEG(NO64),
	ALU(0x08, OR, "or", RMW | LOCK, RMW, 0, FNOTA, FA),
	[0x0e] = PUSH_SEG(NO64), [0x0f] = { .kind = EMU_SLOT_0F },
	ALU(0x10, ADC, "adc", RMW | LOCK, RMW, FC, FALL, 0),
	[0x16] = PUSH_SEG(NO64), [0x17] = POP_SEG(NO64),
	ALU(0x18, SBB, "sbb", RMW | LOCK, RMW, FC, FALL, 0),
	[0x1e] = PUSH_SEG(NO64), [0x1f] = POP_SEG(NO64),
	ALU(0x20, AND, "and", RMW | LOCK, RMW, 0, FNOTA, FA),
	[0x26] = PREFIX(EMU_P_SEG, VC_ES),
	[0x27] = ROW(DESC(DAA, "daa", NONE, NONE, NO64, NONE, FC | FA, FALL & ~FO, FO)),
	ALU(0x28, SUB, "sub", RMW | LOCK, RMW, 0, FALL, 0),
	[0x2e] = PREFIX(EMU_P_SEG, VC_CS),
	[0x2f] = ROW(DESC(DAS, "das", NONE, NONE, NO64, NONE, FC | FA, FALL & ~FO, FO)),
	ALU(0x30, XOR, "xor", RMW | LOCK, RMW, 0, FNOTA, FA),
	[0x36] = PREFIX(EMU_P_SEG, VC_SS),
	[0x37] = ROW(DESC(AAA, "aaa", NONE, NONE, NO64, NONE, FA, FC | FA, FP | FZ | FS | FO)),
	ALU(0x38, CMP, "cmp", RO, RO, 0, FALL, 0),
	[0x3e] = PREFIX(EMU_P_SEG, VC_DS),
	[0x3f] = ROW(DESC(AAS, "aas", NONE, NONE, NO64, NONE, FA, FC | FA, FP | FZ | FS | FO)),

	/* in 64-bit mode these 16 are REX, which the decoder sees before it looks here */
	[0x40] = INC_REG, INC_REG, INC_REG, INC_REG, INC_REG, INC_REG, INC_REG, INC_REG,
	[0x48] = DEC_REG, DEC_REG, DEC_REG, DEC_REG, DEC_REG, DEC_REG, DEC_REG, DEC_REG,
	[0x50] = PUSH_REG, PUSH_REG, PUSH_REG, PUSH_REG, PUSH_REG, PUSH_REG, PUSH_REG, PUSH_REG,
	[0x58] = POP_REG, POP_REG, POP_REG, POP_REG, POP_REG, POP_REG, POP_REG, POP_REG,

	[0x60] = ROW(MOVE(PUSHA, "pushaw/pusha", NONE, NONE, NO64 | PUSHES)),
	[0x61] = ROW(MOVE(POPA, "popaw/popa", NONE, NONE, NO64 | PUSHES)),
	[0x62] = MODRM(MOVE(BOUND, "bound", REG_M, NONE, RO | NO64)), /* EVEX in 64-bit mode, which no CPU model has */
	[0x63] = TABLE(MODE, rows_63),
	[0x64] = PREFIX(EMU_P_SEG, VC_FS),
	[0x65] = PREFIX(EMU_P_SEG, VC_GS),
	[0x66] = PREFIX(EMU_P_66, 0),
	[0x67] = PREFIX(EMU_P_67, 0),
	[0x68] = ROW(MOVE(PUSH, "push", IMM, Z, RO | D64 | PUSHES)),
	[0x69] = MODRM(DESC(IMUL3, "imul", REG_RM_IMM, Z, WO, NONE, 0, FC | FO, FP | FA | FZ | FS)),
	[0x6a] = ROW(MOVE(PUSH, "push", IMM, 8, RO | D64 | PUSHES)),
	[0x6b] = MODRM(DESC(IMUL3, "imul", REG_RM_IMM, 8, WO, NONE, 0, FC | FO, FP | FA | FZ | FS)),
	[0x6c] = ROW(MOVE(INS, "insb", STR, NONE, BYTE | WO | EMU_A_REP)),
	[0x6d] = ROW(MOVE(INS, "insw/insd", STR, NONE, WO | EMU_A_REP | EMU_A_NOW)),
	[0x6e] = ROW(MOVE(OUTS, "outsb", STR, NONE, BYTE | RO | EMU_A_REP)),
	[0x6f] = ROW(MOVE(OUTS, "outsw/outsd", STR, NONE, RO | EMU_A_REP | EMU_A_NOW)),

	FOR_EACH_CONDITION(JCC8)

	[0x80] = TABLE(GROUP, group1_eb_ib),
	[0x81] = TABLE(GROUP, group1_ev_iz),
	[0x82] = TABLE(GROUP, group1_eb_ib_old),
	[0x83] = TABLE(GROUP, group1_ev_ib),
	[0x84] = MODRM(DESC(TEST, "test", RM_REG, NONE, BYTE | RO, NONE, 0, FNOTA, FA)),
	[0x85] = MODRM(DESC(TEST, "test", RM_REG, NONE, RO, NONE, 0, FNOTA, FA)),
	[0x86] = MODRM(MOVE(XCHG, "xchg", RM_REG, NONE, BYTE | RMW | LOCK)),
	[0x87] = MODRM(MOVE(XCHG, "xchg", RM_REG, NONE, RMW | LOCK)),
	[0x88] = MODRM(MOVE(MOV, "mov", RM_REG, NONE, BYTE | WO)),
	[0x89] = MODRM(MOVE(MOV, "mov", RM_REG, NONE, WO)),
	[0x8a] = MODRM(MOVE(MOV, "mov", REG_RM, NONE, BYTE | WO)),
	[0x8b] = MODRM(MOVE(MOV, "mov", REG_RM, NONE, WO)),
	[0x8c] = MODRM(MOVE(MOV_FROM_SREG, "mov", RM_SREG, NONE, WO | EMU_A_RM_W16)),
	[0x8d] = MODRM(MOVE(LEA, "lea", REG_M, NONE, WO)),
	[0x8e] = MODRM(MOVE(MOV_TO_SREG, "mov", SREG_RM, NONE, WO | END | EMU_A_WORD | EMU_A_RM_W16)),
	[0x8f] = TABLE(GROUP, group1a), /* reg != 0 is XOP, which no CPU model has */

	[0x90] = { .kind = EMU_SLOT_NOP90, .rows = rows_90 },
	[0x91] = XCHG_REG, XCHG_REG, XCHG_REG, XCHG_REG, XCHG_REG, XCHG_REG, XCHG_REG,
	[0x98] = ROW(MOVE(CBW, "cbw/cwde/cdqe", NONE, NONE, RMW)),
	[0x99] = ROW(MOVE(CWD, "cwd/cdq/cqo", NONE, NONE, WO)),
	[0x9a] = ROW(DESC(CALL_FAR, "call", FAR, FAR, NO64 | END | PUSHES, NONE, FALL, 0, 0)),
	[0x9b] = ROW(MOVE(FWAIT, "fwait", NONE, NONE, 0)),
	[0x9c] = ROW(DESC(PUSHF, "pushf", NONE, NONE, D64 | PUSHES, NONE, FALL, 0, 0)),
	[0x9d] = ROW(DESC(POPF, "popf", NONE, NONE, D64 | PUSHES | END, NONE, 0, FALL, 0)),
	[0x9e] = ROW(DESC(SAHF, "sahf", NONE, NONE, BYTE | EMU_A_FEATURE64, LAHF, 0, FALL & ~FO, 0)),
	[0x9f] = ROW(DESC(LAHF, "lahf", NONE, NONE, BYTE | EMU_A_FEATURE64, LAHF, FALL & ~FO, 0, 0)),

	[0xa0] = ROW(MOVE(MOV, "mov", ACC_MOFFS, MOFFS, BYTE | WO)),
	[0xa1] = ROW(MOVE(MOV, "mov", ACC_MOFFS, MOFFS, WO)),
	[0xa2] = ROW(MOVE(MOV, "mov", MOFFS_ACC, MOFFS, BYTE | WO)),
	[0xa3] = ROW(MOVE(MOV, "mov", MOFFS_ACC, MOFFS, WO)),
	[0xa4] = ROW(MOVE(MOVS, "movsb", STR, NONE, BYTE | WO | EMU_A_REP)),
	[0xa5] = ROW(MOVE(MOVS, "movsw/movsd/movsq", STR, NONE, WO | EMU_A_REP)),
	/* REP CMPS and REP SCAS with a count of zero leave the flags as they are */
	[0xa6] = ROW(DESC(CMPS, "cmpsb", STR, NONE, BYTE | RO | EMU_A_REP, NONE, FALL, FALL, 0)),
	[0xa7] = ROW(DESC(CMPS, "cmpsw/cmpsd/cmpsq", STR, NONE, RO | EMU_A_REP, NONE, FALL, FALL, 0)),
	[0xa8] = ROW(DESC(TEST, "test", ACC_IMM, 8, BYTE | RO, NONE, 0, FNOTA, FA)),
	[0xa9] = ROW(DESC(TEST, "test", ACC_IMM, Z, RO, NONE, 0, FNOTA, FA)),
	[0xaa] = ROW(MOVE(STOS, "stosb", STR, NONE, BYTE | WO | EMU_A_REP)),
	[0xab] = ROW(MOVE(STOS, "stosw/stosd/stosq", STR, NONE, WO | EMU_A_REP)),
	[0xac] = ROW(MOVE(LODS, "lodsb", STR, NONE, BYTE | WO | EMU_A_REP)),
	[0xad] = ROW(MOVE(LODS, "lodsw/lodsd/lodsq", STR, NONE, WO | EMU_A_REP)),
	[0xae] = ROW(DESC(SCAS, "scasb", STR, NONE, BYTE | RO | EMU_A_REP, NONE, FALL, FALL, 0)),
	[0xaf] = ROW(DESC(SCAS, "scasw/scasd/scasq", STR, NONE, RO | EMU_A_REP, NONE, FALL, FALL, 0)),

	[0xb0] = MOV_REG8, MOV_REG8, MOV_REG8, MOV_REG8, MOV_REG8, MOV_REG8, MOV_REG8, MOV_REG8,
	[0xb8] = MOV_REG, MOV_REG, MOV_REG, MOV_REG, MOV_REG, MOV_REG, MOV_REG, MOV_REG,

	[0xc0] = TABLE(GROUP, group2_eb_ib),
	[0xc1] = TABLE(GROUP, group2_ev_ib),
	[0xc2] = ROW(MOVE(RET, "ret", IMM, 16, F64 | END | PUSHES)),
	[0xc3] = ROW(MOVE(RET, "ret", NONE, NONE, F64 | END | PUSHES)),
	[0xc4] = { .kind = EMU_SLOT_VEX3, .rows = (const struct emu_opdesc[]){ MOVE(LDS, "les", REG_M, NONE, WO | NO64 | END) } },
	[0xc5] = { .kind = EMU_SLOT_VEX2, .rows = (const struct emu_opdesc[]){ MOVE(LDS, "lds", REG_M, NONE, WO | NO64 | END) } },
	[0xc6] = TABLE(GROUP, group11_eb),
	[0xc7] = TABLE(GROUP, group11_ev),
	[0xc8] = ROW(MOVE(ENTER, "enter", IMM, ENTER, D64 | PUSHES)),
	[0xc9] = ROW(MOVE(LEAVE, "leave", NONE, NONE, D64 | PUSHES)),
	[0xca] = ROW(MOVE(RETF, "retf", IMM, 16, END | PUSHES)),
	[0xcb] = ROW(MOVE(RETF, "retf", NONE, NONE, END | PUSHES)),
	[0xcc] = ROW(DESC(INT3, "int3", NONE, NONE, END, NONE, FALL, 0, 0)),
	[0xcd] = ROW(DESC(INT, "int", IMM, U8, END, NONE, FALL, 0, 0)),
	[0xce] = ROW(DESC(INTO, "into", NONE, NONE, NO64 | END, NONE, FALL, 0, 0)),
	[0xcf] = ROW(DESC(IRET, "iretw/iret/iretq", NONE, NONE, END | PUSHES, NONE, FALL, FALL, 0)),

	[0xd0] = TABLE(GROUP, group2_eb_1),
	[0xd1] = TABLE(GROUP, group2_ev_1),
	[0xd2] = TABLE(GROUP, group2_eb_cl),
	[0xd3] = TABLE(GROUP, group2_ev_cl),
	[0xd4] = ROW(DESC(AAM, "aam", IMM, U8, BYTE | NO64, NONE, 0, FP | FZ | FS, FC | FA | FO)),
	[0xd5] = ROW(DESC(AAD, "aad", IMM, U8, BYTE | NO64, NONE, 0, FP | FZ | FS, FC | FA | FO)),
	[0xd6] = ROW(DESC(SALC, "salc", NONE, NONE, BYTE | NO64, NONE, FC, 0, 0)),
	[0xd7] = ROW(MOVE(XLAT, "xlat", NONE, NONE, BYTE | WO)),
	[0xd8] = X87, X87, X87, X87, X87, X87, X87, X87,

	[0xe0] = ROW(DESC(LOOPNE, "loopne", REL, 8, F64 | END, NONE, FZ, 0, 0)),
	[0xe1] = ROW(DESC(LOOPE, "loope", REL, 8, F64 | END, NONE, FZ, 0, 0)),
	[0xe2] = ROW(MOVE(LOOP, "loop", REL, 8, F64 | END)),
	[0xe3] = ROW(MOVE(JCXZ, "jcxz/jecxz/jrcxz", REL, 8, F64 | END)),
	[0xe4] = ROW(MOVE(IN, "in", ACC_IMM, U8, BYTE | WO)),
	[0xe5] = ROW(MOVE(IN, "in", ACC_IMM, U8, WO | EMU_A_NOW)),
	[0xe6] = ROW(MOVE(OUT, "out", ACC_IMM, U8, BYTE | RO)),
	[0xe7] = ROW(MOVE(OUT, "out", ACC_IMM, U8, RO | EMU_A_NOW)),
	[0xe8] = ROW(MOVE(CALL, "call", REL, Z, F64 | END | PUSHES)),
	[0xe9] = ROW(MOVE(JMP, "jmp", REL, Z, F64 | END)),
	[0xea] = ROW(DESC(JMP_FAR, "jmp", FAR, FAR, NO64 | END, NONE, FALL, 0, 0)),
	[0xeb] = ROW(MOVE(JMP, "jmp", REL, 8, F64 | END)),
	[0xec] = ROW(MOVE(IN, "in", NONE, NONE, BYTE | WO)),
	[0xed] = ROW(MOVE(IN, "in", NONE, NONE, WO | EMU_A_NOW)),
	[0xee] = ROW(MOVE(OUT, "out", NONE, NONE, BYTE | RO)),
	[0xef] = ROW(MOVE(OUT, "out", NONE, NONE, RO | EMU_A_NOW)),

	[0xf0] = PREFIX(EMU_P_LOCK, 0),
	[0xf1] = ROW(DESC(INT1, "int1", NONE, NONE, END, NONE, FALL, 0, 0)),
	[0xf2] = PREFIX(EMU_P_REPNE, 0),
	[0xf3] = PREFIX(EMU_P_REP, 0),
	[0xf4] = ROW(MOVE(HLT, "hlt", NONE, NONE, END | CPL0)),
	[0xf5] = ROW(DESC(CMC, "cmc", NONE, NONE, 0, NONE, FC, FC, 0)),
	[0xf6] = TABLE(GROUP, group3_eb),
	[0xf7] = TABLE(GROUP, group3_ev),
	[0xf8] = ROW(DESC(CLC, "clc", NONE, NONE, 0, NONE, 0, FC, 0)),
	[0xf9] = ROW(DESC(STC, "stc", NONE, NONE, 0, NONE, 0, FC, 0)),
	[0xfa] = ROW(MOVE(CLI, "cli", NONE, NONE, END)),
	[0xfb] = ROW(MOVE(STI, "sti", NONE, NONE, END)),
	[0xfc] = ROW(MOVE(CLD, "cld", NONE, NONE, 0)),
	[0xfd] = ROW(MOVE(STD, "std", NONE, NONE, 0)),
	[0xfe] = TABLE(GROUP, group4),
	[0xff] = TABLE(GROUP, group5),
};
/* clang-format on */
