/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Intel syntax, in the dialect of objdump -M intel. For traces and reports.
 *
 * A name in the tables may hold variants, "cbw/cwde/cdqe": for operand sizes 2, 4, 8 (JCXZ: address sizes).
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "backend/emu/decode/tables.h"
#include "core/util.h"
#include "cpu/state.h"

struct text {
	char *next;
	size_t left;   /* bytes from next to the end of the buffer, the terminator included */
	bool operands; /* one was written: the next needs a comma */
};

static void put(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct text *t, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(t->next, t->left, format, args);
	va_end(args);
	if (n > 0) {
		size_t used = (size_t)n < t->left ? (size_t)n : t->left - 1;

		t->next += used;
		t->left -= used;
	}
}

static void separate(struct text *t)
{
	put(t, t->operands ? "," : " ");
	t->operands = true;
}

/* ---- registers ---- */

static const char *const names64[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
static const char *const names32[8] = {"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"};
static const char *const names16[8] = {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di"};
static const char *const names8[8] = {"al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil"};
static const char *const names8_legacy[8] = {"al", "cl", "dl", "bl", "ah", "ch", "dh", "bh"};
static const char *const segments[8] = {"es", "cs", "ss", "ds", "fs", "gs", "?", "?"};

static void put_gpr(struct text *t, const struct emu_insn *insn, unsigned reg, unsigned size)
{
	const char *const *low = size == 8   ? names64
	                         : size == 4 ? names32
	                         : size == 2 ? names16
	                                     : (insn->prefixes & (EMU_P_REX | EMU_P_VEX) ? names8 : names8_legacy);

	if (reg < 8)
		put(t, "%s", low[reg]);
	else
		put(t, "%s%s", names64[reg & 15], size == 8 ? "" : size == 4 ? "d" : size == 2 ? "w" : "b");
}

static void put_gpr_operand(struct text *t, const struct emu_insn *insn, unsigned reg, unsigned size)
{
	separate(t);
	put_gpr(t, insn, reg, size);
}

/* ---- memory ---- */

static const char *size_word(unsigned size)
{
	switch (size) {
	case 1:
		return "BYTE PTR ";
	case 2:
		return "WORD PTR ";
	case 4:
		return "DWORD PTR ";
	case 6:
		return "FWORD PTR ";
	case 8:
		return "QWORD PTR ";
	case 10:
		return "TBYTE PTR ";
	case 16:
		return "XMMWORD PTR ";
	case 32:
		return "YMMWORD PTR ";
	default:
		return "";
	}
}

/* size: 0 for none to be shown. */
static void put_memory(struct text *t, const struct emu_insn *insn, unsigned size)
{
	bool absolute = insn->base == EMU_REG_NONE && insn->index == EMU_REG_NONE;
	uint64_t disp = (uint64_t)(int64_t)insn->disp & vc_width_mask(insn->addrsize);

	separate(t);
	put(t, "%s", size_word(size));
	if (insn->prefixes & EMU_P_SEG || absolute)
		put(t, "%s:", segments[insn->seg & 7]);
	if (absolute) {
		put(t, "0x%" PRIx64, disp);
		return;
	}
	put(t, "[");
	if (insn->base == EMU_REG_RIP)
		put(t, insn->addrsize == 8 ? "rip" : "eip");
	else if (insn->base != EMU_REG_NONE)
		put_gpr(t, insn, insn->base, insn->addrsize);
	if (insn->index != EMU_REG_NONE) {
		put(t, insn->base == EMU_REG_NONE ? "" : "+");
		put_gpr(t, insn, insn->index, insn->addrsize);
		if (insn->addrsize != 2)
			put(t, "*%u", 1u << insn->scale);
	}
	if (insn->base == EMU_REG_NONE || insn->base == EMU_REG_RIP || insn->modrm >= 0x40)
		put(t, insn->disp < 0 ? "-0x%" PRIx64 : "+0x%" PRIx64,
		    (uint64_t)(insn->disp < 0 ? -(int64_t)insn->disp : insn->disp));
	put(t, "]");
}

/* ModRM.rm of an integer instruction: memory or general register of `size` bytes. */
static void put_rm(struct text *t, const struct emu_insn *insn, unsigned size)
{
	if (insn->prefixes & EMU_P_MEM)
		put_memory(t, insn, insn->desc->attr & EMU_A_RM_W16 ? 2 : size);
	else
		put_gpr_operand(t, insn, insn->rm, size);
}

/* Size of the source of a widening instruction, else the operand size. */
static unsigned source_size(const struct emu_insn *insn)
{
	uint32_t attr = insn->desc->attr;

	if (attr & EMU_A_SRC8)
		return 1;
	if (attr & EMU_A_SRC16)
		return 2;
	return attr & EMU_A_SRC32 && insn->opsize > 4 ? 4 : insn->opsize;
}

/* What size word a memory-only operand carries. */
static unsigned plain_memory_size(const struct emu_insn *insn)
{
	switch (insn->op) {
	case EMU_CALL_FAR_IND:
	case EMU_JMP_FAR_IND:
	case EMU_LDS:
		return insn->opsize + 2;
	case EMU_CMPXCHG8B:
		return 8;
	case EMU_CMPXCHG16B:
		return 16;
	case EMU_LDMXCSR:
	case EMU_STMXCSR:
		return 4;
	case EMU_MOVBE:
	case EMU_MOVNTI:
		return insn->opsize;
	case EMU_INVLPG:
		return 1;
	default:
		return insn->opsize == 1 ? 1 : 0;
	}
}

/* ---- other operands ---- */

static void put_immediate(struct text *t, uint64_t value, unsigned size)
{
	separate(t);
	put(t, "0x%" PRIx64, value & vc_width_mask(size));
}

static void put_immediates(struct text *t, const struct emu_insn *insn)
{
	switch (insn->desc->imm) {
	case EMU_IMM_NONE:
		break;
	case EMU_IMM_ENTER:
	case EMU_IMM_8_8:
		put_immediate(t, insn->imm, 2);
		put_immediate(t, insn->imm2, 1);
		break;
	case EMU_IMM_U8:
	case EMU_IMM_16:
		put_immediate(t, insn->imm, 2);
		break;
	default:
		put_immediate(t, insn->imm, insn->opsize);
	}
}

static void put_word(struct text *t, const char *word)
{
	separate(t);
	put(t, "%s", word);
}

static void put_special_register(struct text *t, const struct emu_insn *insn)
{
	bool control = insn->op == EMU_MOV_FROM_CR || insn->op == EMU_MOV_TO_CR;

	separate(t);
	put(t, "%s%u", control ? "cr" : "dr", insn->reg);
}

static void put_moffs(struct text *t, const struct emu_insn *insn)
{
	separate(t);
	put(t, "%s%s:0x%" PRIx64, size_word(insn->opsize), segments[insn->seg & 7], insn->imm);
}

static void put_target(struct text *t, const struct emu_insn *insn, uint64_t rip)
{
	uint64_t mask = insn->opsize == 8 ? ~0ull : vc_width_mask(insn->opsize);

	separate(t);
	put(t, "0x%" PRIx64, (rip + insn->len + insn->imm) & mask);
}

/* IN, OUT, by DX: the only implied operands that are shown. */
static void put_implied(struct text *t, const struct emu_insn *insn)
{
	if (insn->op == EMU_IN) {
		put_gpr_operand(t, insn, VC_RAX, insn->opsize);
		put_word(t, "dx");
	} else if (insn->op == EMU_OUT) {
		put_word(t, "dx");
		put_gpr_operand(t, insn, VC_RAX, insn->opsize);
	}
}

/* ---- vectors, x87 ---- */

static void put_vector_register(struct text *t, const struct emu_insn *insn, unsigned file, unsigned reg)
{
	separate(t);
	if (file == EMU_VR_GPR)
		put_gpr(t, insn, reg, insn->opsize);
	else if (file == EMU_VR_MMX)
		put(t, "mm%u", reg & 7);
	else
		put(t, "%cmm%u", insn->prefixes & EMU_P_VEX_L ? 'y' : 'x', reg);
}

static void put_vector_rm(struct text *t, const struct emu_insn *insn)
{
	const struct emu_vec *vec = &insn->desc->vec;

	if (!(insn->prefixes & EMU_P_MEM))
		put_vector_register(t, insn, vec->rm_file, insn->rm);
	else
		put_memory(t, insn, vec->mem ? vec->mem : insn->prefixes & EMU_P_VEX_L ? 32 : 16);
}

static void put_vector(struct text *t, const struct emu_insn *insn)
{
	const struct emu_vec *vec = &insn->desc->vec;
	bool uses_rm = vec->roles & (EMU_V_RM_R | EMU_V_RM_W);
	bool store = vec->roles & EMU_V_RM_W && !(vec->roles & EMU_V_REG_W);

	if (uses_rm && store)
		put_vector_rm(t, insn);
	if (vec->roles & EMU_V_VVVV_W)
		put_vector_register(t, insn, EMU_VR_XMM, insn->reg2);
	if (vec->roles & (EMU_V_REG_R | EMU_V_REG_W))
		put_vector_register(t, insn, vec->reg_file, insn->reg);
	if (vec->roles & EMU_V_VVVV_R && !(vec->roles & EMU_V_VVVV_W))
		put_vector_register(t, insn, EMU_VR_XMM, insn->reg2);
	if (uses_rm && !store)
		put_vector_rm(t, insn);
	if (vec->roles & EMU_V_IS4)
		put_vector_register(t, insn, EMU_VR_XMM, (insn->imm >> 4) & 15);
	else
		put_immediates(t, insn);
}

/* Whether a register form names a stack register: not FNOP, FCHS, FNINIT, FCOMPP, FUCOMPP, FNSTSW AX and the like. */
static bool x87_names_st(const struct emu_insn *insn)
{
	switch (insn->opcode) {
	case 0xd9:
		return insn->modrm < 0xd0;
	case 0xda:
		return insn->modrm != 0xe9;
	case 0xdb:
		return (insn->modrm & 0xf8) != 0xe0;
	case 0xde:
		return insn->modrm != 0xd9;
	case 0xdf:
		return insn->modrm != 0xe0;
	default:
		return true;
	}
}

static void put_x87(struct text *t, const struct emu_insn *insn)
{
	if (insn->prefixes & EMU_P_MEM) {
		put_memory(t, insn, insn->desc->vec.mem);
	} else if (x87_names_st(insn)) {
		separate(t);
		put(t, "st(%u)", insn->modrm & 7u);
	}
}

/* ---- the whole ---- */

static void put_name(struct text *t, const struct emu_insn *insn)
{
	unsigned size = insn->op == EMU_JCXZ ? insn->addrsize : insn->opsize;
	unsigned skip = strchr(insn->desc->name, '/') ? (size == 8 ? 2 : size == 4 ? 1 : 0) : 0;
	const char *name = insn->desc->name;

	if (insn->prefixes & EMU_P_LOCK)
		put(t, "lock ");
	if (insn->desc->attr & EMU_A_REP && insn->prefixes & (EMU_P_REP | EMU_P_REPNE)) {
		bool compares = insn->op == EMU_CMPS || insn->op == EMU_SCAS;

		put(t, "%s ", insn->prefixes & EMU_P_REPNE ? "repnz" : compares ? "repz" : "rep");
	}
	while (skip-- > 0)
		name = strchr(name, '/') + 1;
	put(t, "%.*s", (int)strcspn(name, "/"), name);
	if (insn->opsize == 8 &&
	    (insn->op == EMU_FXSAVE || insn->op == EMU_FXRSTOR || (insn->op >= EMU_XSAVE && insn->op <= EMU_XRSTORS)))
		put(t, "64");
}

static void put_operands(struct text *t, const struct emu_insn *insn, uint64_t rip)
{
	unsigned size = insn->opsize;

	switch ((enum emu_enc)insn->desc->enc) {
	case EMU_ENC_NONE:
		put_implied(t, insn);
		break;
	case EMU_ENC_STR: /* the name says it all */
		break;
	case EMU_ENC_RM_REG:
	case EMU_ENC_RM_REG_IMM:
	case EMU_ENC_RM_REG_CL:
		put_rm(t, insn, size);
		put_gpr_operand(t, insn, insn->reg, size);
		if (insn->desc->enc == EMU_ENC_RM_REG_CL)
			put_word(t, "cl");
		put_immediates(t, insn);
		break;
	case EMU_ENC_REG_RM:
	case EMU_ENC_REG_RM_IMM:
		put_gpr_operand(t, insn, insn->reg, insn->op == EMU_CRC32 ? (insn->prefixes & EMU_P_W ? 8 : 4) : size);
		put_rm(t, insn, source_size(insn));
		put_immediates(t, insn);
		break;
	case EMU_ENC_RM_IMM:
	case EMU_ENC_RM:
	case EMU_ENC_RM_1:
	case EMU_ENC_RM_CL:
		put_rm(t, insn, size);
		if (insn->desc->enc == EMU_ENC_RM_CL)
			put_word(t, "cl");
		else if (insn->desc->enc == EMU_ENC_RM_1)
			put_word(t, "1");
		put_immediates(t, insn);
		break;
	case EMU_ENC_ACC_IMM:
		if (insn->op == EMU_OUT)
			put_immediates(t, insn);
		put_gpr_operand(t, insn, VC_RAX, size);
		if (insn->op != EMU_OUT)
			put_immediates(t, insn);
		break;
	case EMU_ENC_OREG:
	case EMU_ENC_OREG_IMM:
		put_gpr_operand(t, insn, insn->reg, size);
		put_immediates(t, insn);
		break;
	case EMU_ENC_ACC_OREG:
		put_gpr_operand(t, insn, insn->reg, size);
		put_gpr_operand(t, insn, VC_RAX, size);
		break;
	case EMU_ENC_IMM:
		put_immediates(t, insn);
		break;
	case EMU_ENC_REL:
		put_target(t, insn, rip);
		break;
	case EMU_ENC_ACC_MOFFS:
		put_gpr_operand(t, insn, VC_RAX, size);
		put_moffs(t, insn);
		break;
	case EMU_ENC_MOFFS_ACC:
		put_moffs(t, insn);
		put_gpr_operand(t, insn, VC_RAX, size);
		break;
	case EMU_ENC_FAR:
		separate(t);
		put(t, "0x%x:0x%" PRIx64, insn->imm2, insn->imm);
		break;
	case EMU_ENC_M:
		put_memory(t, insn, plain_memory_size(insn));
		break;
	case EMU_ENC_REG_M:
		put_gpr_operand(t, insn, insn->reg, size);
		put_memory(t, insn, plain_memory_size(insn));
		break;
	case EMU_ENC_M_REG:
		put_memory(t, insn, plain_memory_size(insn));
		put_gpr_operand(t, insn, insn->reg, size);
		break;
	case EMU_ENC_SREG_RM:
		put_word(t, segments[insn->reg & 7]);
		put_rm(t, insn, 4);
		break;
	case EMU_ENC_RM_SREG:
		put_rm(t, insn, size);
		put_word(t, segments[insn->reg & 7]);
		break;
	case EMU_ENC_SREG:
		put_word(t, segments[insn->reg & 7]);
		break;
	case EMU_ENC_CR_R:
		put_special_register(t, insn);
		put_gpr_operand(t, insn, insn->rm, size);
		break;
	case EMU_ENC_R_CR:
		put_gpr_operand(t, insn, insn->rm, size);
		put_special_register(t, insn);
		break;
	case EMU_ENC_VEX_REG_VVVV_RM:
		put_gpr_operand(t, insn, insn->reg, size);
		put_gpr_operand(t, insn, insn->reg2, size);
		put_rm(t, insn, size);
		break;
	case EMU_ENC_VEX_REG_RM_VVVV:
		put_gpr_operand(t, insn, insn->reg, size);
		put_rm(t, insn, size);
		put_gpr_operand(t, insn, insn->reg2, size);
		break;
	case EMU_ENC_VEX_VVVV_RM:
		put_gpr_operand(t, insn, insn->reg2, size);
		put_rm(t, insn, size);
		break;
	case EMU_ENC_X87:
		put_x87(t, insn);
		break;
	case EMU_ENC_VEC:
		put_vector(t, insn);
		break;
	}
}

const char *emu_disassemble(const struct emu_insn *insn, uint64_t rip, char *buffer, unsigned length)
{
	struct text t = {.next = buffer, .left = length};

	if (length == 0)
		return buffer;
	buffer[0] = '\0';
	if (insn->op == EMU_INVALID) {
		put(&t, "(bad)");
		return buffer;
	}
	put_name(&t, insn);
	put_operands(&t, insn, rip);
	return buffer;
}

const char *emu_op_name(enum emu_op op)
{
	static const char *const names[] = {
#define X(name) #name,
	    EMU_OPS(X)
#undef X
	};

	return (unsigned)op < VC_ARRAY_SIZE(names) ? names[op] : "?";
}
