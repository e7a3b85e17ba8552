/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Integer instructions: the guest's own encoding with other registers and another memory operand. */
#include "backend/emu/jit/trans.h"

/* How the operands of an encoding are used. */
struct form {
	bool reg;     /* ModRM.reg is a general register */
	bool vvvv;    /* VEX.vvvv is one */
	bool rm_dest; /* r/m is the destination */
};

static struct form form_of(const struct emu_insn *n)
{
	switch (n->desc->enc) {
	case EMU_ENC_RM_REG:
	case EMU_ENC_RM_REG_IMM:
	case EMU_ENC_RM_REG_CL:
	case EMU_ENC_M_REG:
		return (struct form){.reg = true, .rm_dest = true};
	case EMU_ENC_REG_RM:
	case EMU_ENC_REG_RM_IMM:
	case EMU_ENC_REG_M:
		return (struct form){.reg = true};
	case EMU_ENC_VEX_REG_VVVV_RM:
	case EMU_ENC_VEX_REG_RM_VVVV:
		return (struct form){.reg = true, .vvvv = true};
	case EMU_ENC_VEX_VVVV_RM:
		return (struct form){.vvvv = true};
	default:
		return (struct form){.rm_dest = true};
	}
}

/* What is encoded by ModRM as it stands. */
static bool by_modrm(const struct emu_insn *n)
{
	switch (n->op) {
	case EMU_ADD ... EMU_MOV:
	case EMU_XCHG:
	case EMU_INC:
	case EMU_DEC:
	case EMU_NEG:
	case EMU_NOT:
	case EMU_MUL:
	case EMU_IMUL1:
	case EMU_IMUL2:
	case EMU_IMUL3:
	case EMU_ROL ... EMU_SHRD:
	case EMU_BT ... EMU_POPCNT:
	case EMU_MOVZX:
	case EMU_MOVSX:
	case EMU_XADD:
	case EMU_CMPXCHG:
	case EMU_CMPXCHG8B:
	case EMU_CMPXCHG16B:
	case EMU_SETCC:
	case EMU_CMOVCC:
	case EMU_MOVBE:
	case EMU_CRC32:
	case EMU_ANDN ... EMU_ADOX:
	case EMU_MOVNTI:
		return n->prefixes & EMU_P_MODRM;
	default:
		return false;
	}
}

static bool is_byte_operand(const struct emu_insn *n, bool rm)
{
	if (rm && n->desc->attr & EMU_A_SRC8)
		return true;
	return n->opsize == 1;
}
static bool is_high(const struct emu_insn *n, bool byte, unsigned reg)
{
	return byte && !(n->prefixes & EMU_P_REX) && reg >= 4 && reg < 8;
}

/* AH to BH need an encoding without REX. */
static bool has_high(const struct emu_insn *n)
{
	struct form f = form_of(n);

	return (f.reg && is_high(n, is_byte_operand(n, false), n->reg)) ||
	       (!(n->prefixes & EMU_P_MEM) && is_high(n, is_byte_operand(n, true), n->rm));
}
static bool high_is_encodable(const struct emu_insn *n)
{
	struct form f = form_of(n);

	if (n->prefixes & EMU_P_MEM)
		return true; /* see with_high() */
	if (n->prefixes & EMU_P_VEX || n->opsize == 8)
		return false;
	if (f.reg && !is_byte_operand(n, false) && (jit_home(n->reg) == H_NONE || jit_home(n->reg) >= 8))
		return false;
	return true;
}

/* Registers that are in memory need scratch registers, of which there are two, or one beside a memory operand. */
static bool fits_scratch(const struct emu_insn *n)
{
	struct form f = form_of(n);
	unsigned wanted = (f.reg && jit_home(n->reg) == H_NONE) + (f.vvvv && jit_home(n->reg2) == H_NONE);

	if (n->prefixes & EMU_P_MEM)
		return wanted <= 1;
	return wanted + (jit_home(n->rm & 15) == H_NONE) <= 2;
}

bool jit_integer_native(const struct emu_insn *n)
{
	if (n->op == EMU_DIV || n->op == EMU_IDIV)
		return n->opsize >= 4;
	if (n->op == EMU_LEA)
		return n->opsize >= 4;
	if (by_modrm(n)) {
		if (has_high(n) && !high_is_encodable(n))
			return false;
		if (n->op >= EMU_BT && n->op <= EMU_BTC && n->opsize == 2)
			return false;
		return fits_scratch(n);
	}
	switch (n->op) {
	case EMU_ADD ... EMU_TEST:
		return n->desc->enc == EMU_ENC_ACC_IMM;
	case EMU_MOV:
		if (n->desc->enc == EMU_ENC_OREG_IMM)
			return n->opsize != 1 || n->prefixes & EMU_P_REX || n->reg < 4 || n->reg >= 8;
		return n->desc->enc == EMU_ENC_ACC_MOFFS || n->desc->enc == EMU_ENC_MOFFS_ACC;
	case EMU_INC:
	case EMU_DEC:
	case EMU_XCHG:
	case EMU_CBW:
	case EMU_CWD:
	case EMU_BSWAP:
	case EMU_CLC:
	case EMU_STC:
	case EMU_CMC:
	case EMU_LAHF:
	case EMU_SAHF:
	case EMU_NOP:
	case EMU_PREFETCH:
	case EMU_LFENCE:
	case EMU_MFENCE:
	case EMU_SFENCE:
		return true;
	default:
		return false;
	}
}

/* ---- encoding ---- */

static void set_prefixes(const struct emu_insn *n, struct host_insn *h)
{
	bool vex = n->prefixes & EMU_P_VEX;

	h->vex = vex;
	h->map = n->map;
	h->opcode = n->map == 0 && n->opcode == 0x82 ? 0x80 : n->opcode; /* 82 does not exist in 64-bit mode */
	h->lock = n->prefixes & EMU_P_LOCK;
	if (vex) {
		h->w = n->prefixes & EMU_P_W && n->opsize == 8;
		h->pp = n->prefixes & EMU_P_66 ? 0x66 : n->prefixes & EMU_P_REP ? 0xf3 : n->prefixes & EMU_P_REPNE ? 0xf2 : 0;
		return;
	}
	h->w = n->opsize == 8;
	h->opsize = n->opsize == 2;
	/* mandatory prefixes of the integer instructions: POPCNT, TZCNT, LZCNT, CRC32, ADOX, ADCX */
	switch (n->op) {
	case EMU_POPCNT:
	case EMU_TZCNT:
	case EMU_LZCNT:
	case EMU_ADOX:
		h->pp = 0xf3;
		break;
	case EMU_CRC32:
		h->pp = 0xf2;
		h->opsize = n->prefixes & EMU_P_66 && n->opsize == 2;
		break;
	case EMU_ADCX:
		h->pp = 0x66;
		break;
	default:
		break;
	}
}

static void set_immediate(const struct emu_insn *n, struct host_insn *h)
{
	h->imm = n->imm;
	switch (n->desc->imm) {
	case EMU_IMM_8:
	case EMU_IMM_U8:
		h->imm_size = 1;
		break;
	case EMU_IMM_Z:
		h->imm_size = n->opsize == 2 ? 2 : 4;
		break;
	default:
		break;
	}
}

static bool writes_reg(const struct emu_insn *n)
{
	struct form f = form_of(n);

	if (!f.reg)
		return false;
	if (f.rm_dest)
		return n->op == EMU_XCHG || n->op == EMU_XADD;
	return !(n->desc->attr & EMU_A_RO);
}
static bool writes_rm(const struct emu_insn *n)
{
	struct form f = form_of(n);

	if (n->op == EMU_MUL || n->op == EMU_IMUL1)
		return false;
	return f.rm_dest && !(n->desc->attr & EMU_A_RO);
}

/* RSP as an operand, not as an address. */
static bool names_rsp(const struct emu_insn *n)
{
	struct form f = form_of(n);

	return (f.reg && n->reg == VC_RSP && !is_high(n, is_byte_operand(n, false), n->reg)) ||
	       (f.vvvv && n->reg2 == VC_RSP) ||
	       (!(n->prefixes & EMU_P_MEM) && n->rm == VC_RSP && !is_high(n, is_byte_operand(n, true), n->rm));
}

static void flags_before(struct jit_trans *t)
{
	const struct emu_insn *n = t->n;
	uint8_t behind = t->seen[t->i + 1];

	if (jit_flags_needed(n, behind) ||
	    ((n->desc->flags_written | n->desc->flags_undefined) && behind & ~jit_flags_killed(n)))
		jit_want_flags(t);
}
static void flags_behind(struct jit_trans *t)
{
	if (t->n->desc->flags_written | t->n->desc->flags_undefined)
		jit_set_flags(t);
}

/* Guest register g, in `scratch` when it is one of those in memory; without a load if it is there already. */
static unsigned get_cached(struct jit_trans *t, unsigned g, unsigned scratch)
{
	if (scratch == H_R10 && t->cached == g)
		return H_R10;
	if (scratch == H_R10 && jit_home(g) == H_NONE)
		t->cached = EMU_REG_NONE;
	return jit_get(t, g, scratch);
}

/* The other direction of an instruction from register to r/m, as an instruction from r/m to register. */
static bool reverse(const struct emu_insn *n, uint8_t *opcode)
{
	if (n->map || n->desc->enc != EMU_ENC_RM_REG)
		return false;
	if (n->op != EMU_MOV && !(n->op >= EMU_ADD && n->op <= EMU_CMP))
		return false;
	*opcode = (uint8_t)(n->opcode | 2);
	return true;
}

/*
 * A source that is in memory, as a memory operand: [rsp + disp] in place of a load. Also a full-width MOV to there.
 * False: it is done with scratch registers.
 */
static bool from_memory(struct jit_trans *t, struct host_insn *h, struct form f)
{
	const struct emu_insn *n = t->n;
	bool rm_is_there = jit_home(n->rm) == H_NONE && t->cached != n->rm;
	bool reg_is_there = f.reg && jit_home(n->reg) == H_NONE && t->cached != n->reg;
	struct host_mem m;

	/* BT of memory reaches beyond the operand */
	if (f.vvvv || h->vex || (n->op >= EMU_BT && n->op <= EMU_BTC) || n->op == EMU_XCHG || n->op == EMU_XADD ||
	    n->op == EMU_CMPXCHG)
		return false;
	if (rm_is_there && !(f.reg && jit_home(n->reg) == H_NONE) &&
	    (!writes_rm(n) || (n->op == EMU_MOV && n->opsize == 8 && f.reg))) {
		m = jit_field(GPR_AT(n->rm));
		if (f.reg)
			h->reg = (uint8_t)jit_home(n->reg);
	} else if (reg_is_there && jit_home(n->rm) != H_NONE && reverse(n, &h->opcode)) {
		m = jit_field(GPR_AT(n->reg));
		h->reg = (uint8_t)jit_home(n->rm);
		h->byte_reg = h->byte_rm;
	} else {
		return false;
	}
	h->mem = &m;
	flags_before(t);
	jit_encode(&t->a, h);
	flags_behind(t);
	return true;
}

static void emit_registers(struct jit_trans *t, struct host_insn *h)
{
	const struct emu_insn *n = t->n;
	struct form f = form_of(n);
	unsigned next = H_R10;

	h->byte_reg = f.reg && is_byte_operand(n, false);
	h->byte_rm = is_byte_operand(n, true);
	if (has_high(n)) {
		/* the same bytes: neither operand moves */
		h->byte_reg = h->byte_rm = false;
		h->reg = f.reg ? n->reg : (n->modrm >> 3 & 7);
		h->rm = n->rm;
		flags_before(t);
		jit_encode(&t->a, h);
		flags_behind(t);
		return;
	}
	h->reg = n->modrm >> 3 & 7;
	if (from_memory(t, h, f))
		return;
	if (f.reg) {
		h->reg = (uint8_t)get_cached(t, n->reg, next);
		if (h->reg == next)
			next = H_R11;
	}
	if (f.vvvv) {
		if (f.reg && n->reg2 == n->reg) {
			h->vvvv = h->reg;
		} else {
			h->vvvv = (uint8_t)jit_get(t, n->reg2, next);
			if (h->vvvv == next)
				next = H_R11;
		}
	}
	if (f.reg && n->rm == n->reg)
		h->rm = h->reg;
	else if (f.vvvv && n->rm == n->reg2)
		h->rm = h->vvvv;
	else
		h->rm = (uint8_t)(next == H_R10 ? get_cached(t, n->rm, next) : jit_get(t, n->rm, next));
	flags_before(t);
	jit_encode(&t->a, h);
	flags_behind(t);
	if (writes_rm(n))
		jit_put_back(t, n->rm, h->rm);
	if (writes_reg(n))
		jit_put_back(t, n->reg, h->reg);
	if (f.vvvv && (n->op == EMU_MULX || n->desc->enc == EMU_ENC_VEX_VVVV_RM))
		jit_put_back(t, n->reg2, h->vvvv);
	t->cached = f.vvvv ? EMU_REG_NONE : f.reg && h->reg == H_R10 ? n->reg : h->rm == H_R10 ? n->rm : t->cached;
}

/* AH to BH beside a memory operand, which may need REX: by way of R10. */
static void with_high(struct jit_trans *t, struct host_insn *h)
{
	struct jit_asm *a = &t->a;
	unsigned reg = t->n->reg - 4u;

	jit_spoil_flags(t, t->seen[t->i]);
	jit_mov_rr(a, true, H_R10, reg);
	jit_shift_imm(a, 5, true, H_R10, 8);
	h->reg = H_R10;
	flags_before(t);
	jit_encode(a, h);
	flags_behind(t);
	if (!writes_reg(t->n))
		return;
	JIT_PUT(a, 0x86, 0xc4 | (uint8_t)(reg << 3 | reg)); /* XCHG low, high */
	JIT_PUT(a, 0x41, 0x8a, 0xc2 | (uint8_t)(reg << 3)); /* MOV low, r10b */
	JIT_PUT(a, 0x86, 0xc4 | (uint8_t)(reg << 3 | reg));
}

static void emit_memory(struct jit_trans *t, struct host_insn *h)
{
	const struct emu_insn *n = t->n;
	struct form f = form_of(n);
	struct jit_access x = jit_operand(t, n);
	bool reg_scratch = f.reg && jit_home(n->reg) == H_NONE, vvvv_scratch = f.vvvv && jit_home(n->reg2) == H_NONE;
	struct host_mem m;

	x.size = jit_mem_size(n);
	x.write = f.rm_dest && !(n->desc->attr & EMU_A_RO) && n->op != EMU_MUL && n->op != EMU_IMUL1;
	x.aligned = n->op == EMU_CMPXCHG16B;
	if (n->op >= EMU_BT && n->op <= EMU_BTC && f.reg) {
		x.bit_base = n->reg;
		x.bit_size = n->opsize;
		x.simple = false;
	}
	m = jit_access(t, &x, reg_scratch || vvvv_scratch || x.bit_base >= 0 || has_high(n));
	h->mem = &m;
	h->byte_reg = f.reg && is_byte_operand(n, false);
	if (has_high(n)) {
		with_high(t, h);
		return;
	}
	h->reg = n->modrm >> 3 & 7;
	if (f.reg)
		h->reg = (uint8_t)jit_get(t, n->reg, H_R10);
	if (f.vvvv)
		h->vvvv = (uint8_t)jit_get(t, n->reg2, H_R10);
	if (x.bit_base >= 0) { /* the address has been moved: the rest of the offset is in the operand */
		jit_mov_rr(&t->a, true, H_R10, h->reg);
		jit_alu_imm(&t->a, H_AND, false, H_R10, n->opsize * 8 - 1);
		h->reg = H_R10;
	}
	flags_before(t);
	jit_encode(&t->a, h);
	flags_behind(t);
	if (x.bit_base >= 0)
		return;
	if (writes_reg(n))
		jit_put_back(t, n->reg, h->reg);
	if (f.vvvv && (n->op == EMU_MULX || n->desc->enc == EMU_ENC_VEX_VVVV_RM))
		jit_put_back(t, n->reg2, h->vvvv);
}

/* ADD and SUB of an immediate to RSP whose flags nobody wants, but for a fault: only noted. */
static bool move_rsp(struct jit_trans *t)
{
	const struct emu_insn *n = t->n;
	int64_t by = (int64_t)n->imm;

	if (!jit_is_rsp_move(n) || jit_live_behind(t) || !jit_rsp_may_lag(t))
		return false;
	by = t->delta + (n->op == EMU_SUB ? -by : by);
	if (by < -(1 << 28) || by > 1 << 28)
		return false;
	t->delta = (int32_t)by;
	t->flags = JIT_FL_MEMORY; /* older ones, which it overwrites */
	t->only_noted = true;
	return true;
}

/* What neither uses R10 but for operands, nor leaves the copy in it out of date. */
bool jit_keeps_cached(const struct emu_insn *n)
{
	return by_modrm(n) && !(n->prefixes & EMU_P_MEM) && n->op != EMU_DIV && n->op != EMU_IDIV && n->op != EMU_MUL &&
	       n->op != EMU_IMUL1 && n->op != EMU_XCHG && n->op != EMU_XADD && n->op != EMU_CMPXCHG;
}

static void emit_by_modrm(struct jit_trans *t)
{
	const struct emu_insn *n = t->n;
	struct host_insn h = {0};

	if (move_rsp(t))
		return;
	if (names_rsp(n))
		jit_settle_rsp(t);
	set_prefixes(n, &h);
	set_immediate(n, &h);
	if (n->op == EMU_MOVNTI) {
		h.map = 0;
		h.opcode = 0x89;
	}
	if (n->prefixes & EMU_P_MEM)
		emit_memory(t, &h);
	else
		emit_registers(t, &h);
	if (names_rsp(n) && jit_writes_gpr(n, VC_RSP))
		jit_forget_group(t, VC_RSP);
}

/* ---- LEA ---- */

static void emit_lea(struct jit_trans *t)
{
	const struct emu_insn *n = t->n;
	struct jit_access x = jit_operand(t, n);
	unsigned to = jit_home(n->reg), base, index;

	x.seg = VC_DS;
	if (n->reg == VC_RSP && n->base == VC_RSP && n->index == EMU_REG_NONE && n->opsize == 8 && !x.address32 &&
	    x.disp + t->delta == (int32_t)(x.disp + t->delta)) {
		t->delta += (int32_t)x.disp;
		return;
	}
	if (n->reg == VC_RSP) {
		jit_settle_rsp(t);
		jit_forget_group(t, VC_RSP);
	}
	base = x.base < 16 ? jit_home(x.base) : H_NONE;
	index = x.index < 16 ? jit_home(x.index) : H_NONE;
	if (to != H_NONE && x.base < 16 && base != H_NONE && (x.index == EMU_REG_NONE || index != H_NONE)) {
		jit_lea(&t->a, n->opsize == 8 && !x.address32, to,
		        (struct host_mem){.base = (uint8_t)base,
		                          .index = (uint8_t)index,
		                          .scale = x.scale,
		                          .disp = (int32_t)x.disp + (x.base == VC_RSP ? t->delta : 0)});
		return;
	}
	if (x.base < 16 && base == H_NONE && x.index < 16 && index == H_NONE)
		jit_lose_addend(t);
	jit_effective(t, &x, H_R10);
	if (to == H_NONE) {
		if (n->opsize == 4)
			jit_mov_rr(&t->a, false, H_R10, H_R10);
		jit_store(&t->a, true, jit_field(GPR_AT(n->reg)), H_R10);
	} else {
		jit_mov_rr(&t->a, n->opsize == 8, to, H_R10);
	}
}

/* ---- DIV, IDIV: nothing may reach the host that raises #DE ---- */

static void emit_divide(struct jit_trans *t)
{
	const struct emu_insn *n = t->n;
	struct jit_asm *a = &t->a;
	bool w = n->opsize == 8;
	unsigned divisor;

	jit_spoil_flags(t, EMU_FL_ALL); /* it may fault */
	if (n->prefixes & EMU_P_MEM) {
		struct jit_access x = jit_operand(t, n);
		struct host_mem m;

		x.size = n->opsize;
		m = jit_access(t, &x, false);
		jit_load(a, w, H_R10, m);
		divisor = H_R10;
	} else {
		if (n->rm == VC_RSP)
			jit_settle_rsp(t);
		divisor = jit_get(t, n->rm, H_R10);
	}
	jit_lose_addend(t);
	if (n->op == EMU_DIV) { /* the quotient fits when the upper half is below the divisor */
		jit_op_rr(a, 0x3b, w, H_RDX, divisor);
		jit_bail_if(t, H_AE);
	} else { /* the usual case: a sign-extended dividend, and a divisor that is neither 0 nor -1 */
		jit_mov_rr(a, w, H_R11, H_RAX);
		jit_shift_imm(a, 7, w, H_R11, n->opsize * 8 - 1);
		jit_op_rr(a, 0x3b, w, H_R11, H_RDX);
		jit_bail_if(t, H_NE);
		jit_lea(a, w, H_R11, (struct host_mem){.base = (uint8_t)divisor, .index = H_NONE, .disp = 1});
		jit_alu_imm(a, H_CMP, w, H_R11, 1);
		jit_bail_if(t, H_BE);
	}
	jit_encode(a, &(struct host_insn){.opcode = 0xf7, .w = w, .reg = n->op == EMU_DIV ? 6 : 7, .rm = (uint8_t)divisor});
	jit_set_flags(t);
}

/* ---- the rest ---- */

static void emit_oreg(struct jit_trans *t)
{
	const struct emu_insn *n = t->n;
	struct host_insn h = {.opsize = n->opsize == 2, .w = n->opsize == 8};
	struct jit_asm *a = &t->a;
	unsigned r;

	if (n->reg == VC_RSP) {
		jit_settle_rsp(t);
		jit_forget_group(t, VC_RSP);
	}
	if (n->op == EMU_MOV) {
		r = jit_home(n->reg) == H_NONE ? H_R10 : jit_home(n->reg);
		if (n->opsize >= 4) {
			jit_mov_imm64(a, r, n->imm);
		} else {
			r = jit_get(t, n->reg, H_R10);
			h.opcode = n->opsize == 1 ? 0xc6 : 0xc7;
			h.byte_rm = n->opsize == 1;
			h.rm = (uint8_t)r;
			h.imm = n->imm;
			h.imm_size = n->opsize;
			jit_encode(a, &h);
		}
		jit_put_back(t, n->reg, r);
		return;
	}
	r = jit_get(t, n->reg, H_R10);
	h.rm = (uint8_t)r;
	switch (n->op) {
	case EMU_INC:
	case EMU_DEC:
		h.opcode = 0xff;
		h.reg = n->op == EMU_DEC;
		flags_before(t);
		jit_encode(a, &h);
		flags_behind(t);
		break;
	case EMU_XCHG:
		h.opcode = 0x87;
		h.reg = H_RAX;
		jit_encode(a, &h);
		break;
	default: /* BSWAP */
		if (n->opsize == 8)
			jit_put8(a, 0x48 | (r >= 8));
		else if (r >= 8)
			jit_put8(a, 0x41);
		JIT_PUT(a, 0x0f, 0xc8 | (r & 7));
		break;
	}
	jit_put_back(t, n->reg, r);
}

static void emit_acc(struct jit_trans *t)
{
	const struct emu_insn *n = t->n;
	struct host_insn h = {.opsize = n->opsize == 2, .w = n->opsize == 8};

	if (n->desc->enc == EMU_ENC_ACC_IMM) {
		set_immediate(n, &h);
		/* the ModRM form, which needs no other bytes */
		h.opcode = n->op == EMU_TEST ? 0xf6 : 0x80;
		h.opcode |= n->opsize != 1;
		h.reg = n->op == EMU_TEST ? 0 : (uint8_t)(n->op == EMU_CMP ? 7 : n->opcode >> 3);
		flags_before(t);
		jit_encode(&t->a, &h);
		flags_behind(t);
	} else {
		struct jit_access x = jit_operand(t, n);
		struct host_mem m;

		x.size = n->opsize;
		x.write = n->desc->enc == EMU_ENC_MOFFS_ACC;
		m = jit_access(t, &x, false);
		h.mem = &m;
		h.opcode = (uint8_t)((x.write ? 0x88 : 0x8a) | (n->opsize != 1));
		jit_encode(&t->a, &h);
	}
}

static void emit_plain(struct jit_trans *t)
{
	static const struct {
		uint16_t op;
		uint8_t length, bytes[3];
	} plain[] = {
	    {EMU_CLC, 1, {0xf8}},
	    {EMU_STC, 1, {0xf9}},
	    {EMU_CMC, 1, {0xf5}},
	    {EMU_LAHF, 1, {0x9f}},
	    {EMU_SAHF, 1, {0x9e}},
	    {EMU_LFENCE, 3, {0x0f, 0xae, 0xe8}},
	    {EMU_MFENCE, 3, {0x0f, 0xae, 0xf0}},
	    {EMU_SFENCE, 3, {0x0f, 0xae, 0xf8}},
	};

	flags_before(t);
	for (unsigned k = 0; k < VC_ARRAY_SIZE(plain); k++)
		if (plain[k].op == t->n->op)
			jit_put(&t->a, plain[k].bytes, plain[k].length);
	if (t->n->op == EMU_CBW || t->n->op == EMU_CWD) {
		if (t->n->opsize == 2)
			jit_put8(&t->a, 0x66);
		else if (t->n->opsize == 8)
			jit_put8(&t->a, 0x48);
		jit_put8(&t->a, t->n->op == EMU_CBW ? 0x98 : 0x99);
	}
	flags_behind(t);
}

bool jit_emit_integer(struct jit_trans *t)
{
	const struct emu_insn *n = t->n;

	if (!jit_integer_native(n))
		return false;
	if (n->op == EMU_LEA) {
		emit_lea(t);
	} else if (n->op == EMU_DIV || n->op == EMU_IDIV) {
		emit_divide(t);
	} else if (by_modrm(n)) {
		emit_by_modrm(t);
	} else {
		switch (n->desc->enc) {
		case EMU_ENC_OREG:
		case EMU_ENC_OREG_IMM:
		case EMU_ENC_ACC_OREG:
			emit_oreg(t);
			break;
		case EMU_ENC_ACC_IMM:
		case EMU_ENC_ACC_MOFFS:
		case EMU_ENC_MOFFS_ACC:
			emit_acc(t);
			break;
		default:
			emit_plain(t);
		}
	}
	return true;
}
