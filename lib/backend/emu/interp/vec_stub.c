/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stubs: host code that executes one guest instruction.
 *
 * A stub depends on the instruction's opcode, form, length and immediate only: its registers are always the same ones
 * (reg: number 0, vvvv: 1, r/m: 2, fourth operand: 3; general registers: RAX), and its memory operand is [RDX]. So
 * there are few of them, and the code of a whole guest fits in some pages.
 *
 * Arguments arrive as in the System V ABI: RDI reg, RSI vvvv, RDX r/m, RCX vcpu, R8 extra, R9 emu_vec_state. No stub
 * raises SIGFPE: SSE instructions run with all exceptions masked (vec.c sees to that), x87 exceptions would be raised
 * by a following waiting instruction, and there is none.
 */
#include "backend/emu/codemap.h"
#include "backend/emu/decode/x87_rows.h"
#include "backend/emu/interp/vec.h"

enum { RAX = 0, RCX = 1, RDX = 2, RSI = 6, RDI = 7, R8 = 8, R9 = 9, R10 = 10, R11 = 11 };
enum { OP_REG = 0, OP_VVVV = 1, OP_RM = 2, OP_EXTRA = 3 };

#define MAX_STUB       192u
#define MAX_GENERATION ((1u << (32 - EMU_STUB_UNIT_BITS)) - 1)

#define MXCSR_AT      ((uint32_t)offsetof(struct emu_vcpu, s.xsave.mxcsr))
#define FCW_AT        ((uint32_t)offsetof(struct emu_vcpu, s.xsave.fcw))
#define FSW_AT        ((uint32_t)offsetof(struct emu_vcpu, s.xsave.fsw))
#define XMM_AT        ((uint32_t)offsetof(struct emu_vcpu, s.xsave.xmm))
#define AFLAGS_AT     ((uint32_t)offsetof(struct emu_vcpu, aflags))
#define HOST_MXCSR_AT ((uint8_t)offsetof(struct emu_vec_state, host_mxcsr))
#define HOST_FCW_AT   ((uint8_t)offsetof(struct emu_vec_state, host_fcw))
#define OUT_FSW_AT    ((uint8_t)offsetof(struct emu_vec_state, fsw))

/* What a stub is made from; the fields that matter are its key. */
struct recipe {
	const struct emu_opdesc *desc;
	enum emu_stub_kind kind;
	uint8_t map, opcode, pp, modrm; /* modrm: x87, or the digit in its place */
	bool vex, w, l, memory;
	uint16_t imm;
};

struct code {
	uint8_t *p;
};

static void put8(struct code *o, unsigned byte)
{
	*o->p++ = (uint8_t)byte;
}

static void put32(struct code *o, uint32_t value)
{
	vc_st32(o->p, value);
	o->p += 4;
}

static void put(struct code *o, const void *bytes, unsigned count)
{
	memcpy(o->p, bytes, count);
	o->p += count;
}
#define PUT(o, ...)                             \
	do {                                        \
		const uint8_t bytes_[] = {__VA_ARGS__}; \
		put(o, bytes_, sizeof bytes_);          \
	} while (0)

/* ModRM for [base], [base + disp8], [base + disp32]; base is none of RSP, RBP, R12, R13, and its REX.B or VEX.B is the
 * caller's matter. */
static void at(struct code *o, unsigned reg, unsigned base)
{
	put8(o, (reg & 7) << 3 | (base & 7));
}

static void at8(struct code *o, unsigned reg, unsigned base, uint8_t disp)
{
	put8(o, 0x40 | (reg & 7) << 3 | (base & 7));
	put8(o, disp);
}

static void at32(struct code *o, unsigned reg, unsigned base, uint32_t disp)
{
	put8(o, 0x80 | (reg & 7) << 3 | (base & 7));
	put32(o, disp);
}

/* VEX prefix of three bytes; vvvv 0 stands for "none" too, as both are 1111b. */
static void vex3(struct code *o, unsigned map, unsigned base, bool w, unsigned vvvv, bool l, unsigned pp)
{
	put8(o, 0xc4);
	put8(o, 0xc0 | (base < 8 ? 0x20 : 0) | map);
	put8(o, (unsigned)w << 7 | (~vvvv & 15) << 3 | (unsigned)l << 2 | pp);
}

static void prefix_pp(struct code *o, unsigned pp)
{
	static const uint8_t bytes[] = {0, 0x66, 0xf3, 0xf2};

	if (pp)
		put8(o, bytes[pp]);
}

/* ---- loads and stores of guest registers ---- */

static void move_xmm(struct code *o, const struct recipe *r, bool store, unsigned n, unsigned base)
{
	if (r->vex)
		vex3(o, EMU_MAP_0F, base, false, 0, false, EMU_PP_NONE);
	else if (base >= 8)
		PUT(o, 0x41, 0x0f);
	else
		put8(o, 0x0f);
	put8(o, store ? 0x29 : 0x28); /* MOVAPS */
	at(o, n, base);
}

static void load_xmm(struct code *o, const struct recipe *r, unsigned n, unsigned base)
{
	move_xmm(o, r, false, n, base);
	if (r->l) { /* VINSERTF128 ymm, ymm, [base + VEC_YMM_HI], 1 */
		vex3(o, EMU_MAP_0F3A, base, false, n, true, EMU_PP_66);
		put8(o, 0x18);
		at32(o, n, base, VEC_YMM_HI);
		put8(o, 1);
	}
}

static void store_xmm(struct code *o, const struct recipe *r, unsigned n, unsigned base)
{
	move_xmm(o, r, true, n, base);
	if (!r->vex)
		return;
	if (r->l) { /* VEXTRACTF128 [base + VEC_YMM_HI], ymm, 1 */
		vex3(o, EMU_MAP_0F3A, base, false, 0, true, EMU_PP_66);
		put8(o, 0x19);
		at32(o, n, base, VEC_YMM_HI);
		put8(o, 1);
		return;
	}
	PUT(o, 0xc5, 0xd8, 0x57, 0xe4); /* VXORPS xmm4, xmm4, xmm4 */
	vex3(o, EMU_MAP_0F, base, false, 0, false, EMU_PP_NONE);
	put8(o, 0x29);
	at32(o, 4, base, VEC_YMM_HI);
}

static void load(struct code *o, const struct recipe *r, unsigned file, unsigned n, unsigned base)
{
	switch (file) {
	case EMU_VR_XMM:
		load_xmm(o, r, n, base);
		break;
	case EMU_VR_MMX:
		PUT(o, 0x0f, 0x6f); /* MOVQ */
		at(o, n, base);
		break;
	case EMU_VR_GPR:
		PUT(o, 0x48, 0x8b);
		at(o, RAX, base);
		break;
	}
}

static void store(struct code *o, const struct recipe *r, unsigned file, unsigned n, unsigned base)
{
	switch (file) {
	case EMU_VR_XMM:
		store_xmm(o, r, n, base);
		break;
	case EMU_VR_MMX: /* the exponent of the x87 register below becomes all ones */
		PUT(o, 0x0f, 0x7f);
		at(o, n, base);
		PUT(o, 0x66, 0xc7);
		at8(o, 0, base, 8);
		PUT(o, 0xff, 0xff);
		break;
	case EMU_VR_GPR:
		PUT(o, 0x48, 0x89);
		at(o, RAX, base);
		break;
	}
}

/* aflags = the host's arithmetic flags. `vcpu`: register that points to the vcpu. */
static void store_flags(struct code *o, unsigned vcpu)
{
	PUT(o, 0x9c, 0x58, 0x25); /* PUSHFQ; POP rax; AND eax, imm32 */
	put32(o, VC_FLAGS_ARITH);
	if (vcpu >= 8)
		put8(o, 0x41);
	put8(o, 0x89);
	at32(o, RAX, vcpu, AFLAGS_AT);
}

/* ---- MMX, SSE, AVX ---- */

/* Non-temporal moves as the ordinary ones: guest memory is write-back memory that other vcpus look at. */
static void temporal(struct recipe *r)
{
	static const struct {
		uint8_t map, pp, opcode, to_map, to_pp, to_opcode;
	} moves[] = {
	    {EMU_MAP_0F, EMU_PP_NONE, 0x2b, EMU_MAP_0F, EMU_PP_NONE, 0x29},
	    {EMU_MAP_0F, EMU_PP_66, 0x2b, EMU_MAP_0F, EMU_PP_66, 0x29},
	    {EMU_MAP_0F, EMU_PP_F3, 0x2b, EMU_MAP_0F, EMU_PP_F3, 0x11},
	    {EMU_MAP_0F, EMU_PP_F2, 0x2b, EMU_MAP_0F, EMU_PP_F2, 0x11},
	    {EMU_MAP_0F, EMU_PP_NONE, 0xe7, EMU_MAP_0F, EMU_PP_NONE, 0x7f},
	    {EMU_MAP_0F, EMU_PP_66, 0xe7, EMU_MAP_0F, EMU_PP_66, 0x7f},
	    {EMU_MAP_0F38, EMU_PP_66, 0x2a, EMU_MAP_0F, EMU_PP_66, 0x6f},
	};

	for (unsigned n = 0; n < VC_ARRAY_SIZE(moves); n++) {
		if (r->map != moves[n].map || r->pp != moves[n].pp || r->opcode != moves[n].opcode)
			continue;
		r->map = moves[n].to_map;
		r->pp = moves[n].to_pp;
		r->opcode = moves[n].to_opcode;
		return;
	}
}

static void put_vec_instruction(struct code *o, const struct recipe *r, unsigned reg, unsigned rm)
{
	bool uses_vvvv = r->desc->vec.roles & (EMU_V_VVVV_R | EMU_V_VVVV_W);

	if (r->vex) {
		vex3(o, r->map, RDX, r->w, uses_vvvv ? OP_VVVV : 0, r->l, r->pp);
	} else {
		prefix_pp(o, r->pp);
		if (r->w)
			put8(o, 0x48);
		put8(o, 0x0f);
		if (r->map != EMU_MAP_0F)
			put8(o, r->map == EMU_MAP_0F38 ? 0x38 : 0x3a);
	}
	put8(o, r->opcode);
	if (r->memory)
		at(o, reg, RDX);
	else
		put8(o, 0xc0 | reg << 3 | rm);
	if (r->desc->imm != EMU_IMM_NONE)
		put8(o, r->imm & 0xff);
	if (r->desc->imm == EMU_IMM_8_8)
		put8(o, r->imm >> 8);
}

/* Put the host's MXCSR control bits back, if they differ; its flags are the callee's to change. */
static void restore_mxcsr(struct code *o)
{
	PUT(o, 0x0f, 0xae); /* STMXCSR [guest] */
	at32(o, 3, RCX, MXCSR_AT);
	put8(o, 0x8b); /* MOV eax, [guest] */
	at32(o, RAX, RCX, MXCSR_AT);
	PUT(o, 0x41, 0x33); /* XOR eax, [host] */
	at8(o, RAX, R9, HOST_MXCSR_AT);
	put8(o, 0xa9); /* TEST eax, imm32 */
	put32(o, ~MXCSR_FLAGS);
	PUT(o, 0x74, 5);          /* JZ over */
	PUT(o, 0x41, 0x0f, 0xae); /* LDMXCSR [host] */
	at8(o, 2, R9, HOST_MXCSR_AT);
}

static void put_vec(struct code *o, const struct recipe *r)
{
	const struct emu_vec *vec = &r->desc->vec;
	unsigned roles = vec->roles;
	/* with an implicit XMM0, that register is not free for ModRM.reg */
	unsigned reg = vec->reg_file == EMU_VR_NONE ? r->modrm : roles & EMU_V_XMM0 ? OP_VVVV : OP_REG;
	unsigned rm = vec->rm_file == EMU_VR_GPR ? RAX : OP_RM;

	if (roles & EMU_V_REG_R)
		load(o, r, vec->reg_file, reg, RDI);
	if (roles & EMU_V_VVVV_R)
		load_xmm(o, r, OP_VVVV, RSI);
	if ((roles & EMU_V_RM_R) && !r->memory)
		load(o, r, vec->rm_file, rm, RDX);
	if (roles & (EMU_V_XMM0 | EMU_V_IS4))
		load_xmm(o, r, roles & EMU_V_XMM0 ? 0 : OP_EXTRA, R8);
	if (roles & EMU_V_FP) {
		PUT(o, 0x0f, 0xae); /* LDMXCSR [guest] */
		at32(o, 2, RCX, MXCSR_AT);
	}
	put_vec_instruction(o, r, reg, rm);
	if (roles & EMU_V_FLAGS)
		store_flags(o, RCX);
	if (roles & EMU_V_REG_W)
		store(o, r, vec->reg_file, reg, RDI);
	if (roles & EMU_V_VVVV_W)
		store_xmm(o, r, OP_VVVV, RSI);
	if ((roles & EMU_V_RM_W) && !r->memory)
		store(o, r, vec->rm_file, rm, RDX);
	if (roles & EMU_V_FP)
		restore_mxcsr(o);
	if (vec->reg_file == EMU_VR_MMX || vec->rm_file == EMU_VR_MMX)
		PUT(o, 0x0f, 0x77); /* EMMS */
	if (r->l)
		PUT(o, 0xc5, 0xf8, 0x77); /* VZEROUPPER */
	put8(o, 0xc3);
}

/*
 * PCMPESTRM and its three sisters: extra is the general registers, of which RAX and RDX are read and RCX is written.
 * The legacy encoding serves VEX too, but for the upper half of YMM0.
 */
static void put_string(struct code *o, const struct recipe *r)
{
	bool to_index = r->opcode & 1;

	PUT(o, 0x49, 0x89, 0xd2);             /* MOV r10, rdx */
	PUT(o, 0x49, 0x89, 0xcb);             /* MOV r11, rcx */
	PUT(o, 0x49, 0x8b, 0x00);             /* MOV rax, [r8 + 8 * VC_RAX] */
	PUT(o, 0x49, 0x8b, 0x50, 8 * VC_RDX); /* MOV rdx, [r8 + 8 * VC_RDX] */
	PUT(o, 0x0f, 0x28);                   /* MOVAPS xmm1, [rdi] */
	at(o, OP_VVVV, RDI);
	PUT(o, 0x41, 0x0f, 0x10); /* MOVUPS xmm2, [r10] */
	at(o, OP_RM, R10);
	put8(o, 0x66);
	if (r->w)
		put8(o, 0x48);
	PUT(o, 0x0f, 0x3a, r->opcode, 0xc0 | OP_VVVV << 3 | OP_RM, (uint8_t)r->imm);
	if (to_index)
		PUT(o, 0x49, 0x89, 0x48, 8 * VC_RCX); /* MOV [r8 + 8 * VC_RCX], rcx */
	store_flags(o, R11);
	if (!to_index) {
		PUT(o, 0x41, 0x0f, 0x29); /* MOVAPS [guest's XMM0], xmm0 */
		at32(o, 0, R11, XMM_AT);
		if (r->vex) {
			PUT(o, 0x0f, 0x57, 0xdb); /* XORPS xmm3, xmm3 */
			PUT(o, 0x41, 0x0f, 0x29);
			at32(o, 3, R11, XMM_AT + VEC_YMM_HI);
		}
	}
	put8(o, 0xc3);
}

/* ---- x87 ---- */

/* If the guest's control word is not the host's, load the one or the other. */
static void switch_fcw(struct code *o, bool to_guest)
{
	PUT(o, 0x0f, 0xb7); /* MOVZX eax, word [guest] */
	at32(o, RAX, RCX, FCW_AT);
	PUT(o, 0x66, 0x41, 0x3b); /* CMP ax, [host] */
	at8(o, RAX, R9, HOST_FCW_AT);
	if (to_guest) {
		PUT(o, 0x74, 6, 0xd9); /* JE over; FLDCW [guest] */
		at32(o, 5, RCX, FCW_AT);
	} else {
		PUT(o, 0x74, 4, 0x41, 0xd9); /* JE over; FLDCW [host] */
		at8(o, 5, R9, HOST_FCW_AT);
	}
}

/* The host's exception flags are sticky: clear them unless the guest has all those that are set. FNCLEX is slow. */
static void clear_exceptions(struct code *o)
{
	PUT(o, 0x44, 0x0f, 0xb7); /* MOVZX r8d, word [guest's FSW] */
	at32(o, R8, RCX, FSW_AT);
	PUT(o, 0xdf, 0xe0);            /* FNSTSW ax */
	PUT(o, 0x41, 0xf7, 0xd0);      /* NOT r8d */
	PUT(o, 0x83, 0xe0, FSW_FLAGS); /* AND eax, FSW_FLAGS */
	PUT(o, 0x44, 0x85, 0xc0);      /* TEST eax, r8d */
	PUT(o, 0x74, 2, 0xdb, 0xe2);   /* JZ over; FNCLEX */
}

/* The form of a numeric instruction that leaves the stack's depth alone, with ST(1) for ST(i) and [RDX] for memory. */
static void put_x87_instruction(struct code *o, const struct recipe *r)
{
	const struct emu_vec *vec = &r->desc->vec;
	unsigned opcode = r->opcode, digit = r->modrm >> 3 & 7;
	bool st_i = (vec->roles & EMU_V_RM_R) && !(opcode == 0xd9);

	if (r->memory) {
		if (vec->reg_file == EMU_X87_COMPARE)
			digit = 2; /* FCOMP as FCOM */
		PUT(o, opcode, digit << 3 | RDX);
		return;
	}
	if (vec->reg_file == EMU_X87_COMPARE && st_i) {
		if (opcode == 0xda || opcode == 0xdd)
			PUT(o, 0xdd, 0xe1); /* FUCOM */
		else
			PUT(o, 0xd8, 0xd1); /* FCOM */
	} else if (vec->reg_file == EMU_X87_COMPARE_FLAGS) {
		PUT(o, 0xdb, 0xc1 | digit << 3);
	} else if (st_i) { /* FADDP as FADD ST(i), ST(0) */
		PUT(o, opcode == 0xde ? 0xdc : opcode, 0xc1 | digit << 3);
	} else {
		PUT(o, opcode, r->modrm);
	}
}

static void put_x87(struct code *o, const struct recipe *r)
{
	const struct emu_vec *vec = &r->desc->vec;
	bool reads_sti = (vec->roles & EMU_V_RM_R) && !r->memory;
	unsigned depth = 0;

	clear_exceptions(o);
	switch_fcw(o, true);
	if (reads_sti) {
		PUT(o, 0xdb, 0x28 | RSI); /* FLD tbyte [rsi] */
		depth++;
	}
	if (vec->roles & EMU_V_REG_R) {
		PUT(o, 0xdb, 0x28 | RDI);
		depth++;
	}
	put_x87_instruction(o, r);
	if (vec->reg_file == EMU_X87_PUSH)
		depth++;
	/* FYL2X and its like have no form that does not pop, nor have some stores */
	if (vec->reg_file == EMU_X87_STORE || r->opcode == 0xd9)
		depth -= vec->rm_file;
	if (r->desc->flags_written)
		store_flags(o, RCX);
	PUT(o, 0x41, 0xdd); /* FNSTSW [out] */
	at8(o, 7, R9, OUT_FSW_AT);
	if ((vec->roles & EMU_V_REG_W) || vec->reg_file == EMU_X87_PUSH) {
		PUT(o, 0xdb, 0x38 | RDI); /* FSTP tbyte [rdi] */
		depth--;
	}
	if ((vec->roles & EMU_V_RM_W) && !r->memory) { /* ST(i) is the last one on the stack */
		for (; depth > 1; depth--)
			PUT(o, 0xdd, 0xd8);
		PUT(o, 0xdb, 0x38 | RSI);
		depth--;
	}
	for (; depth > 0; depth--)
		PUT(o, 0xdd, 0xd8); /* FSTP st(0) */
	switch_fcw(o, false);
	put8(o, 0xc3);
}

/*
 * On the whole state, with the guest's own control word: the instruction does what it does on the guest's CPU, down to
 * stack faults and results of unmasked exceptions. FNSAVE does not wait, so a pending exception is recorded and not
 * raised; it leaves an empty stack.
 */
static void put_x87_whole(struct code *o, const struct recipe *r)
{
	PUT(o, 0xdd, 0x20 | RDI); /* FRSTOR [rdi] */
	if (r->desc->flags_read) {
		put8(o, 0x8b); /* MOV eax, [aflags]; PUSH rax; POPFQ */
		at32(o, RAX, RCX, AFLAGS_AT);
		PUT(o, 0x50, 0x9d);
	}
	if (r->memory)
		PUT(o, r->opcode, (r->modrm & 0x38) | RDX);
	else
		PUT(o, r->opcode, r->modrm);
	if (r->desc->flags_written)
		store_flags(o, RCX);
	PUT(o, 0xdd, 0x30 | RSI); /* FNSAVE [rsi] */
	PUT(o, 0x41, 0xd9);       /* FLDCW [host] */
	at8(o, 5, R9, HOST_FCW_AT);
	put8(o, 0xc3);
}

/* ---- the cache ---- */

static struct recipe recipe_vec(const struct emu_vcpu *c, const struct emu_insn *i, enum emu_stub_kind kind)
{
	const struct emu_vec_row *row = emu_vec_row_of(i->desc);
	const struct emu_vec *vec = &row->desc.vec;
	bool general = vec->reg_file == EMU_VR_GPR || vec->rm_file == EMU_VR_GPR;
	struct recipe r = {
	    .desc = i->desc,
	    .kind = kind,
	    .map = i->map,
	    .opcode = row->opcode,
	    .pp = row->pp,
	    .modrm = row->digit & 7,
	    .vex = i->prefixes & EMU_P_VEX,
	    .memory = i->prefixes & EMU_P_MEM,
	    .imm = row->desc.imm == EMU_IMM_NONE ? 0 : (uint16_t)i->imm,
	};

	/*
	 * W and L only where they mean something, or the host might refuse the stub. W selects the size of a general
	 * register (of a conversion's, of PCMPESTRx's lengths), or the operation. The fourth operand has a fixed number.
	 */
	if (kind == EMU_STUB_STRING ||
	    (general && (row->desc.attr & (EMU_A_VEX_W0 | EMU_A_VEX_W1) || (vec->roles & EMU_V_FP))))
		r.w = (i->prefixes & EMU_P_W) && c->mode == EMU_MODE_64;
	else
		r.w = row->desc.attr & EMU_A_VEX_W1;
	r.l = (i->prefixes & EMU_P_VEX_L) && (vec->mem == 0 || (row->desc.attr & EMU_A_VEX_L1));
	if (vec->roles & EMU_V_IS4)
		r.imm = (uint16_t)(OP_EXTRA << 4 | (i->imm & 15));
	if (row->desc.imm == EMU_IMM_8_8)
		r.imm = (uint16_t)((i->imm & 0xff) | i->imm2 << 8);
	temporal(&r);
	return r;
}

static struct recipe recipe_x87(const struct emu_insn *i, enum emu_stub_kind kind)
{
	struct recipe r = {
	    .desc = i->desc,
	    .kind = kind,
	    .opcode = i->opcode,
	    .modrm = i->modrm,
	    .memory = i->prefixes & EMU_P_MEM,
	};

	if (r.memory)
		r.modrm &= 0x38;
	else if (kind == EMU_STUB_X87 && (i->desc->vec.roles & EMU_V_RM_R) && i->opcode != 0xd9)
		r.modrm &= 0xf8; /* ST(i) is an argument */
	return r;
}

/* Never 0. */
static uint64_t key_of(const struct recipe *r)
{
	return 1ull << 63 | (uint64_t)r->kind << 48 | (uint64_t)r->map << 44 | (uint64_t)r->pp << 40 |
	       (uint64_t)r->vex << 39 | (uint64_t)r->w << 38 | (uint64_t)r->l << 37 | (uint64_t)r->memory << 36 |
	       (uint64_t)r->opcode << 24 | (uint64_t)r->modrm << 16 | r->imm;
}

static void put_stub(struct code *o, const struct recipe *r)
{
	static void (*const writers[])(struct code *, const struct recipe *) = {
	    [EMU_STUB_VEC] = put_vec,
	    [EMU_STUB_STRING] = put_string,
	    [EMU_STUB_X87] = put_x87,
	    [EMU_STUB_X87_WHOLE] = put_x87_whole,
	};

	writers[r->kind](o, r);
}

/* Handles in use become invalid with the generation. The last generation is never flushed: see emu_stub_handle(). */
static void flush(struct emu_vec_state *v)
{
	memset(v->keys, 0, sizeof v->keys);
	v->count = 0;
	v->used = EMU_STUB_UNIT;
	if (v->generation < MAX_GENERATION)
		v->generation++;
}

uint32_t emu_stub_handle(struct emu_vcpu *c, const struct emu_insn *i, enum emu_stub_kind kind)
{
	struct emu_vec_state *v = c->vec;
	struct recipe r = kind < EMU_STUB_X87 ? recipe_vec(c, i, kind) : recipe_x87(i, kind);
	uint64_t key = key_of(&r);
	struct code o;

	if (v->used + MAX_STUB > EMU_STUB_CODE_SIZE || v->count >= EMU_STUB_SLOTS * 3 / 4)
		flush(v);
	uint32_t slot = (uint32_t)((key * 0x9e3779b97f4a7c15ull) >> 40) % EMU_STUB_SLOTS;
	while (v->keys[slot] && v->keys[slot] != key)
		slot = (slot + 1) % EMU_STUB_SLOTS;
	if (!v->keys[slot]) {
		o.p = v->write + v->used;
		put_stub(&o, &r);
		v->keys[slot] = key;
		v->units[slot] = (uint16_t)(v->used / EMU_STUB_UNIT);
		v->count++;
		v->used = VC_ALIGN_UP((uint32_t)(o.p - v->write), EMU_STUB_UNIT);
	}
	/* a handle of the last generation would outlive a flush: give one that is never taken for valid */
	uint32_t generation = v->generation < MAX_GENERATION ? v->generation : 0;
	return generation << EMU_STUB_UNIT_BITS | v->units[slot];
}

int emu_stub_new(struct emu_vec_state *v)
{
	int r = emu_codemap_new("vector code", EMU_STUB_CODE_SIZE, &v->write, &v->execute);

	if (r >= 0)
		flush(v);
	return r;
}

void emu_stub_free(struct emu_vec_state *v)
{
	emu_codemap_free(v->write, v->execute, EMU_STUB_CODE_SIZE);
}
