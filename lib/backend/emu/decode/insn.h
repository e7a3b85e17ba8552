/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A decoded x86 instruction: what the one decoder yields, for the interpreter and the translator alike.
 *
 * The decoder is pure: bytes and a mode in, a struct out; it knows no vcpu. It is driven by tables of struct
 * emu_opdesc.
 */
#ifndef VC_EMU_INSN_H
#define VC_EMU_INSN_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu/cpuid.h"

/*
 * What an instruction does. Forms of one operation (register/memory, widths) share an op; EMU_VEC and EMU_X87 stand for
 * all vector and x87 instructions, which run as host instructions.
 */
#define EMU_OPS(X)                                                                                                     \
	X(INVALID)                                                                                                         \
	X(ADD)                                                                                                             \
	X(OR)                                                                                                              \
	X(ADC)                                                                                                             \
	X(SBB) X(AND) X(SUB) X(XOR) X(CMP) X(TEST) X(MOV) X(LEA) X(XCHG) X(PUSH) X(POP) X(INC) X(DEC) X(NEG) X(NOT) X(MUL) \
	    X(IMUL1) X(IMUL2) X(IMUL3) X(DIV) X(IDIV) X(ROL) X(ROR) X(RCL) X(RCR) X(SHL) X(SHR) X(SAR) X(SHLD) X(SHRD)     \
	        X(BT) X(BTS) X(BTR) X(BTC) X(BSF) X(BSR) X(TZCNT) X(LZCNT) X(POPCNT) X(MOVZX)                              \
	            X(MOVSX) /* also MOVSXD */ X(CBW) /* CBW CWDE CDQE */ X(CWD) /* CWD CDQ CQO */ X(BSWAP) X(XADD)        \
	                X(CMPXCHG) X(CMPXCHG8B) X(CMPXCHG16B) X(SETCC) X(CMOVCC) X(JCC) X(JMP) X(JMP_IND) X(CALL)          \
	                    X(CALL_IND) X(RET) X(RETF) X(JMP_FAR) X(CALL_FAR) X(JMP_FAR_IND) X(CALL_FAR_IND) X(INT3)       \
	                        X(INT1) X(INT) X(INTO) X(IRET) X(LOOP) X(LOOPE) X(LOOPNE) X(JCXZ) X(ENTER) X(LEAVE)        \
	                            X(PUSHA) X(POPA) X(PUSHF) X(POPF) X(LAHF) X(SAHF) X(CLC) X(STC) X(CMC) X(CLI) X(STI)   \
	                                X(CLD) X(STD) X(NOP) X(PAUSE) X(HLT) X(MOVS) X(CMPS) X(STOS) X(LODS) X(SCAS)       \
	                                    X(INS) X(OUTS) X(IN) X(OUT) X(XLAT) X(AAA) X(AAS) X(AAM) X(AAD) X(DAA) X(DAS)  \
	                                        X(BOUND) X(ARPL) X(SALC) X(MOVBE) X(CRC32) X(ANDN) X(BEXTR) X(BLSI)        \
	                                            X(BLSMSK) X(BLSR) X(BZHI) X(MULX) X(PDEP) X(PEXT) X(RORX) X(SARX)      \
	                                                X(SHLX) X(SHRX) X(ADCX) X(ADOX) X(RDRAND) X(RDSEED) X(MOVNTI)      \
	                                                    X(LDS) /* LDS LES LFS LGS LSS: segment in `reg2` */            \
	    X(MOV_FROM_SREG) X(MOV_TO_SREG) X(PUSH_SREG) X(POP_SREG) X(MOV_FROM_CR) X(MOV_TO_CR) X(MOV_FROM_DR)            \
	        X(MOV_TO_DR) X(LGDT) X(LIDT) X(SGDT) X(SIDT) X(LLDT) X(SLDT) X(LTR) X(STR) X(LMSW) X(SMSW) X(LAR) X(LSL)   \
	            X(VERR) X(VERW) X(CLTS) X(INVD) X(WBINVD) X(INVLPG) X(INVPCID) X(SYSCALL) X(SYSRET) X(SYSENTER)        \
	                X(SYSEXIT) X(RDMSR) X(WRMSR) X(RDTSC) X(RDTSCP) X(RDPMC) X(CPUID) X(RSM) X(MONITOR) X(MWAIT)       \
	                    X(SWAPGS) X(XGETBV) X(XSETBV) X(FXSAVE) X(FXRSTOR) X(XSAVE) X(XRSTOR) X(XSAVEOPT) X(XSAVEC)    \
	                        X(XSAVES) X(XRSTORS) X(LDMXCSR) X(STMXCSR) X(FWAIT) X(CLFLUSH) X(PREFETCH) X(LFENCE)       \
	                            X(MFENCE) X(SFENCE) X(RDFSBASE) X(RDGSBASE) X(WRFSBASE) X(WRGSBASE) X(RDPID) X(CLAC)   \
	                                X(STAC) X(VMCALL) X(VMMCALL) X(RDPKRU) X(WRPKRU) X(UD) X(X87) X(VEC)

enum emu_op {
#define X(name) EMU_##name,
	EMU_OPS(X)
#undef X
	    EMU_OP_COUNT
};

/* Where operands are. d: destination, s: source. */
enum emu_enc {
	EMU_ENC_NONE,
	EMU_ENC_RM_REG, /* d = r/m, s = reg */
	EMU_ENC_REG_RM, /* d = reg, s = r/m */
	EMU_ENC_RM_IMM, /* d = r/m, s = imm */
	EMU_ENC_REG_RM_IMM,
	EMU_ENC_RM_REG_IMM, /* SHLD/SHRD imm */
	EMU_ENC_RM_REG_CL,
	EMU_ENC_RM,      /* one operand r/m */
	EMU_ENC_RM_1,    /* shift by one */
	EMU_ENC_RM_CL,   /* shift by CL */
	EMU_ENC_ACC_IMM, /* AL/AX/EAX/RAX, imm */
	EMU_ENC_OREG,    /* register in the opcode's low 3 bits: `reg` */
	EMU_ENC_OREG_IMM,
	EMU_ENC_ACC_OREG, /* XCHG rAX, r */
	EMU_ENC_IMM,
	EMU_ENC_REL,       /* relative branch: imm */
	EMU_ENC_ACC_MOFFS, /* d = accumulator, s = [imm] */
	EMU_ENC_MOFFS_ACC,
	EMU_ENC_FAR,   /* imm = offset, imm2 = selector */
	EMU_ENC_M,     /* memory only: a register form is #UD */
	EMU_ENC_REG_M, /* d = reg, s = memory only */
	EMU_ENC_M_REG,
	EMU_ENC_STR, /* string: rSI/rDI implied */
	EMU_ENC_SREG_RM,
	EMU_ENC_RM_SREG, /* segment register in `reg` */
	EMU_ENC_SREG,    /* PUSH/POP segment: `reg` */
	EMU_ENC_CR_R,
	EMU_ENC_R_CR,            /* control or debug register in `reg`, general one in `rm`; mod is ignored */
	EMU_ENC_VEX_REG_VVVV_RM, /* ANDN, PDEP, PEXT, MULX: d = reg, s = vvvv, r/m */
	EMU_ENC_VEX_REG_RM_VVVV, /* BEXTR, BZHI, SHLX...: d = reg, s = r/m, vvvv */
	EMU_ENC_VEX_VVVV_RM,     /* BLSI...: d = vvvv, s = r/m */
	EMU_ENC_X87,
	EMU_ENC_VEC, /* see struct emu_opdesc.vec */
};

enum emu_imm {
	EMU_IMM_NONE,
	EMU_IMM_8,     /* sign-extended to operand size */
	EMU_IMM_U8,    /* zero-extended */
	EMU_IMM_16,    /* RET n */
	EMU_IMM_Z,     /* 16, or 32 sign-extended */
	EMU_IMM_V,     /* 16, 32 or 64: MOV r, imm */
	EMU_IMM_MOFFS, /* address size */
	EMU_IMM_FAR,   /* z offset, then 16-bit selector */
	EMU_IMM_ENTER, /* 16 then 8 */
	EMU_IMM_8_8,   /* two bytes: EXTRQ/INSERTQ */
};

/* Attributes of an opcode. */
enum {
	EMU_A_BYTE = 1u << 0,    /* operand size 1 */
	EMU_A_D64 = 1u << 1,     /* 64-bit mode: default operand size 64 (push, pop...) */
	EMU_A_F64 = 1u << 2,     /* 64-bit mode: operand size forced to 64 (near branches) */
	EMU_A_LOCK = 1u << 3,    /* LOCK allowed with a memory destination */
	EMU_A_NO64 = 1u << 4,    /* #UD in 64-bit mode */
	EMU_A_ONLY64 = 1u << 5,  /* #UD outside 64-bit mode */
	EMU_A_END = 1u << 6,     /* ends a block: control transfer, or changes mode, mapping or interrupt flag */
	EMU_A_REP = 1u << 7,     /* REP means repetition */
	EMU_A_PROT = 1u << 8,    /* #UD in real and virtual-8086 mode */
	EMU_A_CPL0 = 1u << 9,    /* #GP(0) unless CPL 0: the handler checks too */
	EMU_A_RM_W16 = 1u << 10, /* memory operand is 16-bit whatever the operand size (MOV from sreg, SLDT...) */
	EMU_A_SRC8 = 1u << 11,   /* MOVZX/MOVSX/CRC32: source is a byte */
	EMU_A_SRC16 = 1u << 12,  /* ... a word */
	EMU_A_SRC32 = 1u << 13,  /* MOVSXD */
	EMU_A_RMW = 1u << 14,    /* destination is read and written */
	EMU_A_WO = 1u << 15,     /* destination is only written (MOV, SETcc...) */
	EMU_A_RO = 1u << 16,     /* "destination" is only read (CMP, TEST, PUSH) */
	EMU_A_VEX = 1u << 17,    /* only with VEX */
	EMU_A_VEX_L0 = 1u << 18, /* VEX.L must be 0 */
	EMU_A_VEX_L1 = 1u << 19, /* ... must be 1 */
	EMU_A_VEX_W0 = 1u << 20,
	EMU_A_VEX_W1 = 1u << 21,
	EMU_A_VEX_NOVVVV = 1u << 22, /* VEX.vvvv must be 1111b */
	EMU_A_STACK = 1u << 23,      /* uses the stack */
};

/* Arithmetic flags as 6 bits, for liveness. */
enum { EMU_FL_C = 1, EMU_FL_P = 2, EMU_FL_A = 4, EMU_FL_Z = 8, EMU_FL_S = 16, EMU_FL_O = 32, EMU_FL_ALL = 63 };

/* Roles of the operands of an EMU_VEC row: which register files, read or written. */
enum {
	EMU_VR_NONE = 0,
	EMU_VR_XMM,
	EMU_VR_MMX,
	EMU_VR_GPR, /* register file of ModRM.reg / r/m register form */
};
enum {
	EMU_V_REG_R = 1u << 0,
	EMU_V_REG_W = 1u << 1, /* ModRM.reg */
	EMU_V_RM_R = 1u << 2,
	EMU_V_RM_W = 1u << 3, /* ModRM.r/m */
	EMU_V_VVVV_R = 1u << 4,
	EMU_V_VVVV_W = 1u << 5,   /* VEX.vvvv, an XMM/YMM register */
	EMU_V_IS4 = 1u << 6,      /* imm8[7:4] is an XMM/YMM register, read */
	EMU_V_XMM0 = 1u << 7,     /* reads XMM0 implicitly */
	EMU_V_FLAGS = 1u << 8,    /* writes the arithmetic flags */
	EMU_V_MEM_ONLY = 1u << 9, /* register form is #UD */
	EMU_V_REG_ONLY = 1u << 10,
	EMU_V_ALIGNED =
	    1u << 11, /* legacy SSE: memory operand must be aligned to its size, #GP(0) otherwise (also VMOVAPS, MOVNT) */
	EMU_V_SPECIAL = 1u << 12, /* needs code of its own: gather, masked move, MASKMOVDQU, PCMPxSTRx, VZERO*, EMMS */
	EMU_V_FP = 1u << 13,      /* may raise SIMD floating-point exceptions */
	EMU_V_MMX_X87 = 1u << 14, /* enters MMX state: x87 tag word, TOP */
	EMU_V_NO_REG_MERGE = 1u << 15,
};
struct emu_vec {
	uint16_t roles;            /* EMU_V_* */
	uint8_t reg_file, rm_file; /* EMU_VR_* */
	uint8_t mem;               /* bytes of the memory operand; 0: by VEX.L (16 or 32); 0xff: special */
};

struct emu_opdesc {
	const char *name; /* mnemonic, lower case, for disassembly */
	uint16_t op;      /* enum emu_op */
	uint8_t enc, imm;
	uint32_t attr;
	uint8_t feature;                                    /* enum vc_feature that must be in the CPU model, else #UD */
	uint8_t flags_read, flags_written, flags_undefined; /* EMU_FL_* */
	struct emu_vec vec;
};

enum {
	EMU_P_REP = 1u << 0,   /* F3 */
	EMU_P_REPNE = 1u << 1, /* F2 */
	EMU_P_LOCK = 1u << 2,
	EMU_P_66 = 1u << 3,
	EMU_P_67 = 1u << 4,
	EMU_P_REX = 1u << 5, /* any REX: SPL BPL SIL DIL instead of AH CH DH BH */
	EMU_P_W = 1u << 6,   /* REX.W or VEX.W */
	EMU_P_VEX = 1u << 7,
	EMU_P_VEX_L = 1u << 8,
	EMU_P_MODRM = 1u << 9,
	EMU_P_MEM = 1u << 10, /* ModRM names memory */
	EMU_P_SEG = 1u << 11, /* explicit segment override */
	                      /* VEX.pp sets EMU_P_66, EMU_P_REP or EMU_P_REPNE as the prefix it stands for would */
};

#define EMU_REG_NONE 0xffu
#define EMU_REG_RIP  16u

struct emu_insn {
	void *fn; /* for the engine */
	const struct emu_opdesc *desc;
	uint64_t imm; /* sign- or zero-extended as its kind says */
	int32_t disp;
	uint32_t stub;     /* for the vector part: its host code */
	uint16_t op;       /* = desc->op */
	uint16_t prefixes; /* EMU_P_* */
	uint16_t imm2;     /* far selector, ENTER level */
	uint16_t offset;   /* for the engine: from the start of its block */
	uint8_t len;
	uint8_t map; /* 0: one byte, 1: 0F, 2: 0F38, 3: 0F3A */
	uint8_t opcode;
	uint8_t modrm; /* raw */
	uint8_t reg,
	    rm;       /* with REX/VEX extensions; rm: register form. 8-bit legacy high registers: 4-7 without EMU_P_REX */
	uint8_t reg2; /* condition code of Jcc/SETcc/CMOVcc; segment of LDS...; vvvv of VEX */
	uint8_t base, index, scale; /* memory: EMU_REG_NONE, EMU_REG_RIP; scale is log2 */
	uint8_t seg;                /* effective segment of the memory operand (string source) */
	uint8_t opsize;             /* 1, 2, 4, 8 */
	uint8_t addrsize;           /* 2, 4, 8 */
	uint8_t stacksize;          /* operand size on the stack for stack instructions; 0 otherwise */
};

/* What of the vcpu's mode decoding depends on. */
enum emu_mode { EMU_MODE_16 = 0, EMU_MODE_32 = 1, EMU_MODE_64 = 2 };
struct emu_decode_mode {
	uint8_t mode;                          /* enum emu_mode: CS.D and CS.L */
	bool protected_mode;                   /* CR0.PE and not VM86 */
	const struct vc_feature_set *features; /* NULL: all */
};

enum {
	EMU_DECODE_OK = 0,
	EMU_DECODE_MORE = 1,     /* `length` bytes are not enough */
	EMU_DECODE_UD = 2,       /* #UD; insn->len is what was consumed */
	EMU_DECODE_TOO_LONG = 3, /* over 15 bytes: #GP(0) */
};

/* Decode one instruction from at most `length` bytes. Never reads beyond; never fails otherwise. */
int emu_decode(const uint8_t *bytes, unsigned length, const struct emu_decode_mode *mode, struct emu_insn *insn);

/* Intel syntax into buffer; rip: address of the instruction. Returns buffer. */
const char *emu_disassemble(const struct emu_insn *insn, uint64_t rip, char *buffer, unsigned length);
const char *emu_op_name(enum emu_op op);

#endif
