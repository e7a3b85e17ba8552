/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * SSE and AVX instructions, on the host's registers. A block makes sure once that the guest's registers are there; they
 * are not while the guest may not use them (CR0.TS, CR4, XCR0) or has unmasked an exception: then the interpreter has
 * the block. MMX, x87 and what needs more than an instruction (gathers, masked moves) goes through the interpreter's
 * functions.
 */
#include "backend/emu/decode/vec_rows.h"
#include "backend/emu/jit/trans.h"

static bool is_vzero(const struct emu_insn *n)
{
	return n->map == EMU_MAP_0F && n->opcode == 0x77 && n->prefixes & EMU_P_VEX;
}
/* PCMPESTRM and its like: implicit operands, all of which are where they should be. */
static bool is_string(const struct emu_insn *n)
{
	return n->map == EMU_MAP_0F3A && n->opcode >= 0x60 && n->opcode <= 0x63;
}

bool jit_vector_native(const struct emu_insn *n)
{
	const struct emu_vec *vec = &n->desc->vec;

	if (n->op != EMU_VEC)
		return false;
	if (is_vzero(n))
		return true;
	if (vec->roles & EMU_V_MMX_X87 || vec->reg_file == EMU_VR_MMX || vec->rm_file == EMU_VR_MMX ||
	    n->desc->imm == EMU_IMM_8_8)
		return false;
	/* outside 64-bit mode, W of a general register is ignored */
	if (n->prefixes & EMU_P_VEX && n->desc->attr & EMU_A_VEX_W1 && n->addrsize != 8 &&
	    (vec->reg_file == EMU_VR_GPR || vec->rm_file == EMU_VR_GPR))
		return false;
	return !(vec->roles & EMU_V_SPECIAL) || is_string(n);
}

/* The guest's vector registers are in the host's from here on. */
static void make_ready(struct jit_trans *t, bool avx)
{
	struct host_mem live = jit_field(FIELD(vec_live));
	struct jit_cold *c;

	if (t->vec_ready && (t->vec_avx || !avx))
		return;
	jit_spoil_for_check(t);
	jit_lose_addend(t);
	c = jit_cold(t, JIT_COLD_VEC);
	c->write = avx;
	jit_encode(&t->a,
	           &(struct host_insn){
	               .opcode = 0x80, .reg = H_CMP, .mem = &live, .imm = avx ? JIT_VEC_AVX : JIT_VEC_SSE, .imm_size = 1});
	c->from = jit_jcc(&t->a, H_B);
	c->back = jit_here(&t->a);
	t->vec_ready = true;
	t->vec_avx |= avx;
}

static void set_encoding(const struct jit_trans *t, const struct emu_insn *n, struct host_insn *h)
{
	static const uint8_t prefix[4] = {[EMU_PP_NONE] = 0, [EMU_PP_66] = 0x66, [EMU_PP_F3] = 0xf3, [EMU_PP_F2] = 0xf2};
	const struct emu_vec_row *row = emu_vec_row_of(n->desc);

	h->vex = n->prefixes & EMU_P_VEX;
	h->pp = prefix[row->pp];
	/* outside 64-bit mode W does not widen a general register */
	h->w =
	    n->prefixes & EMU_P_W &&
	    (t->long_mode || !(n->desc->vec.reg_file == EMU_VR_GPR || n->desc->vec.rm_file == EMU_VR_GPR || is_string(n)));
	h->l = n->prefixes & EMU_P_VEX_L;
	h->map = n->map;
	h->opcode = n->opcode;
	h->vvvv = n->desc->vec.roles & (EMU_V_VVVV_R | EMU_V_VVVV_W) ? n->reg2 : 0;
	if (n->desc->imm != EMU_IMM_NONE) {
		/* the register in imm8[7:4] has three bits outside 64-bit mode */
		h->imm = n->imm & (n->desc->vec.roles & EMU_V_IS4 && !t->long_mode ? 0x7f : 0xff);
		h->imm_size = 1;
	}
}

static bool names_rsp(const struct emu_insn *n)
{
	const struct emu_vec *vec = &n->desc->vec;

	return (vec->reg_file == EMU_VR_GPR && n->reg == VC_RSP) ||
	       (vec->rm_file == EMU_VR_GPR && !(n->prefixes & EMU_P_MEM) && n->rm == VC_RSP);
}

static void emit(struct jit_trans *t)
{
	const struct emu_insn *n = t->n;
	const struct emu_vec *vec = &n->desc->vec;
	bool reg_gpr = vec->reg_file == EMU_VR_GPR, rm_gpr = vec->rm_file == EMU_VR_GPR && !(n->prefixes & EMU_P_MEM);
	struct host_insn h = {0};
	struct host_mem m;

	if (names_rsp(n)) {
		jit_settle_rsp(t);
		jit_forget_group(t, VC_RSP);
	}
	set_encoding(t, n, &h);
	h.reg = vec->reg_file == EMU_VR_NONE ? n->modrm >> 3 & 7 : n->reg;
	h.rm = n->rm;
	if (n->prefixes & EMU_P_MEM) {
		struct jit_access x = jit_operand(t, n);

		x.size = jit_mem_size(n);
		x.write = vec->roles & EMU_V_RM_W;
		x.aligned = vec->roles & EMU_V_ALIGNED;
		m = jit_access(t, &x, reg_gpr && jit_home(n->reg) == H_NONE);
		h.mem = &m;
	} else if (rm_gpr) {
		h.rm = (uint8_t)jit_get(t, n->rm, H_R11);
	}
	if (reg_gpr)
		h.reg = (uint8_t)jit_get(t, n->reg, H_R10);
	if (vec->roles & EMU_V_FLAGS)
		jit_set_flags(t);
	jit_encode(&t->a, &h);
	if (reg_gpr && vec->roles & EMU_V_REG_W)
		jit_put_back(t, n->reg, h.reg);
	if (rm_gpr && vec->roles & EMU_V_RM_W)
		jit_put_back(t, n->rm, h.rm);
}

bool jit_emit_vector(struct jit_trans *t)
{
	const struct emu_insn *n = t->n;

	if (!jit_vector_native(n))
		return false;
	make_ready(t, n->prefixes & EMU_P_VEX);
	if (is_vzero(n))
		JIT_PUT(&t->a, 0xc5, n->prefixes & EMU_P_VEX_L ? 0xfc : 0xf8, 0x77);
	else
		emit(t);
	return true;
}
