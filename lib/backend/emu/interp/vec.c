/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* MMX, SSE and AVX instructions: checks, operands, the stub, SIMD floating-point exceptions. */
#include <stdlib.h>
#include <xmmintrin.h>

#include "backend/emu/interp/vec.h"

/* ---- what comes before the instruction ---- */

void emu_vec_refuse_sse(struct emu_vcpu *c)
{
	bool disabled = (c->s.cr0 & VC_CR0_EM) || !(c->s.cr4 & VC_CR4_OSFXSR);

	emu_raise(c, disabled ? VC_UD : VC_NM);
}

void emu_vec_refuse_vex(struct emu_vcpu *c)
{
	uint64_t needed = VC_XSTATE_SSE | VC_XSTATE_AVX;
	bool disabled = !(c->s.cr4 & VC_CR4_OSXSAVE) || (c->s.xcr0 & needed) != needed;

	emu_raise(c, disabled ? VC_UD : VC_NM);
}

void emu_vec_check_mmx(struct emu_vcpu *c)
{
	if (c->s.cr0 & VC_CR0_EM)
		emu_raise(c, VC_UD);
	emu_x87_check(c);
}

/* MMX registers: SDM vol. 3, tables 23-3 and 23-4. With XMM registers as well, SSE must be enabled too. */
static void check_row(struct emu_vcpu *c, const struct emu_insn *i)
{
	const struct emu_vec *vec = &i->desc->vec;
	bool xmm = vec->reg_file == EMU_VR_XMM || vec->rm_file == EMU_VR_XMM;

	if (xmm || !(vec->roles & EMU_V_MMX_X87))
		emu_vec_check(c, i);
	if (vec->roles & EMU_V_MMX_X87)
		emu_vec_check_mmx(c);
}

/* ---- operands ---- */

static inline unsigned memory_size(const struct emu_insn *i)
{
	unsigned size = i->desc->vec.mem;

	return size ? size : i->prefixes & EMU_P_VEX_L ? 32 : 16;
}

static inline uint64_t memory_operand(struct emu_vcpu *c, const struct emu_insn *i, unsigned size,
                                      enum vcore_access access)
{
	uint64_t linear = emu_vec_linear(c, i, size, access);

	if (vc_unlikely((i->desc->vec.roles & EMU_V_ALIGNED) && (linear & (size - 1))))
		emu_raise_error(c, VC_GP, 0);
	return linear;
}

static void *register_operand(struct emu_vcpu *c, unsigned file, unsigned n)
{
	switch (file) {
	case EMU_VR_XMM:
		return emu_vec_xmm(c, n);
	case EMU_VR_MMX:
		return c->s.xsave.st[n & 7];
	default:
		return &c->s.gpr[n & 15];
	}
}

/* XMM0, or the register in imm8[7:4]; outside 64-bit mode its highest bit is ignored. */
static inline void *extra_operand(struct emu_vcpu *c, const struct emu_insn *i)
{
	if (i->desc->vec.roles & EMU_V_IS4)
		return emu_vec_xmm(c, (i->imm >> 4) & (emu_vec_registers(c) - 1));
	return emu_vec_xmm(c, 0);
}

struct operands {
	void *reg, *vvvv, *rm, *extra;
};

static inline void run_stub(struct emu_vcpu *c, const struct emu_insn *i, const struct operands *o)
{
	emu_stub_of(c, i, EMU_STUB_VEC)(o->reg, o->vvvv, o->rm, c, o->extra, c->vec);
}

/* ---- SIMD floating-point exceptions ---- */

/* What an instruction with EMU_V_FP can write, for taking it back. */
struct undo {
	uint8_t *where;
	unsigned file;
	uint8_t low[16], high[16];
	uint32_t aflags;
};

static void undo_note(struct undo *u, const struct emu_vcpu *c, const struct emu_insn *i, const struct operands *o)
{
	const struct emu_vec *vec = &i->desc->vec;
	bool to_rm = vec->roles & EMU_V_RM_W;

	u->where = to_rm ? o->rm : o->reg;
	u->file = to_rm ? vec->rm_file : vec->reg_file;
	u->aflags = c->aflags;
	if (to_rm && (i->prefixes & EMU_P_MEM))
		u->file = EMU_VR_NONE; /* scratch */
	if (u->file == EMU_VR_NONE)
		return;
	memcpy(u->low, u->where, u->file == EMU_VR_GPR ? 8 : 16);
	if (u->file == EMU_VR_XMM)
		memcpy(u->high, u->where + VEC_YMM_HI, 16);
}

static void undo_all(const struct undo *u, struct emu_vcpu *c)
{
	c->aflags = u->aflags;
	if (u->file == EMU_VR_NONE)
		return;
	memcpy(u->where, u->low, u->file == EMU_VR_GPR ? 8 : 16);
	if (u->file == EMU_VR_XMM)
		memcpy(u->where + VEC_YMM_HI, u->high, 16);
}

/* VCVTPS2PH knows no flush-to-zero: did it leave a denormal half-precision number? */
static bool wrote_denormal_half(const struct emu_insn *i, const struct operands *o)
{
	const uint8_t *result = o->rm;

	if (i->map != EMU_MAP_0F3A || i->opcode != 0x1d)
		return false;
	for (unsigned n = 0; n < i->desc->vec.mem; n += 2) {
		uint16_t half = vc_ld16(result + n) & 0x7fff;
		if (half && half < 0x400)
			return true;
	}
	return false;
}

/*
 * With an exception unmasked the stub still runs with all of them masked, on clear flags; then the flags tell. An
 * exception found before the result is computed hides those after it (SDM vol. 1, 11.5.2). Unmasked underflow needs no
 * inexact result, which masked underflow does: flush-to-zero, which acts on any tiny result, finds it. PE is that of
 * the masked result: with an unmasked overflow or underflow it may be set where a result of unbounded exponent would
 * have been exact, and DPPS and DPPD show the flags of all their stages.
 */
static void run_unmasked(struct emu_vcpu *c, const struct emu_insn *i, const struct operands *o)
{
	uint32_t *mxcsr = &c->s.xsave.mxcsr;
	const uint32_t saved = *mxcsr;
	uint32_t unmasked = ~(saved >> 7) & MXCSR_FLAGS, clean = (saved | MXCSR_MASKS) & ~MXCSR_FLAGS, flags = 0;
	struct undo undo = {0};

	undo_note(&undo, c, i, o);
	if (unmasked & MXCSR_UE) {
		clean &= ~MXCSR_FTZ; /* it has an effect with underflow masked only */
		*mxcsr = clean | MXCSR_FTZ;
		run_stub(c, i, o);
		flags = *mxcsr & MXCSR_UE;
		undo_all(&undo, c);
	}
	*mxcsr = clean;
	run_stub(c, i, o);
	flags |= *mxcsr & MXCSR_FLAGS;
	if ((unmasked & MXCSR_UE) && wrote_denormal_half(i, o))
		flags |= MXCSR_UE;
	if (flags & unmasked & MXCSR_PRE)
		flags &= MXCSR_PRE;
	*mxcsr = saved | flags;
	if (!(flags & unmasked))
		return;
	undo_all(&undo, c);
	emu_raise(c, c->s.cr4 & VC_CR4_OSXMMEXCPT ? VC_XM : VC_UD);
}

static inline void run(struct emu_vcpu *c, const struct emu_insn *i, const struct operands *o)
{
	if ((i->desc->vec.roles & EMU_V_FP) && vc_unlikely(~c->s.xsave.mxcsr & MXCSR_MASKS))
		run_unmasked(c, i, o);
	else
		run_stub(c, i, o);
}

/* ---- instructions whose operands are XMM or YMM registers and memory ---- */

static inline struct operands xmm_operands(struct emu_vcpu *c, const struct emu_insn *i)
{
	return (struct operands){
	    .reg = emu_vec_xmm(c, i->reg),
	    .vvvv = emu_vec_xmm(c, i->reg2),
	    .extra = extra_operand(c, i),
	};
}

static inline enum emu_next run_registers(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct operands o = xmm_operands(c, i);

	o.rm = emu_vec_xmm(c, i->rm);
	run(c, i, &o);
	return EMU_NEXT;
}

static inline enum emu_next run_load(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct operands o = xmm_operands(c, i);
	unsigned size = memory_size(i);

	o.rm = emu_vec_load(c, memory_operand(c, i, size, VCORE_ACCESS_READ), size);
	run(c, i, &o);
	return EMU_NEXT;
}

/* The stub writes in place where that may be done; else the store is probed first, as nothing may change before a
 * fault. */
static inline void store_operand(struct emu_vcpu *c, const struct emu_insn *i, struct operands *o, unsigned size,
                                 uint64_t linear)
{
	const struct emu_tlb_entry *e = emu_tlb_at(c, linear);

	if (vc_likely(e->write == emu_tag(c, linear + size - 1)) && !(i->desc->vec.roles & EMU_V_FP)) {
		o->rm = (void *)(linear + e->addend);
		run_stub(c, i, o);
		return;
	}
	emu_vec_check_alignment(c, linear, size);
	emu_probe(c, linear, size, true);
	o->rm = c->vec->scratch;
	run(c, i, o);
	emu_st_bytes(c, linear, c->vec->scratch, size);
}

static inline enum emu_next run_store(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct operands o = xmm_operands(c, i);
	unsigned size = memory_size(i);

	store_operand(c, i, &o, size, memory_operand(c, i, size, VCORE_ACCESS_WRITE));
	return EMU_NEXT;
}

static enum emu_next sse_registers(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_vec_check_sse(c);
	return run_registers(c, i);
}

static enum emu_next sse_load(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_vec_check_sse(c);
	return run_load(c, i);
}

static enum emu_next sse_store(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_vec_check_sse(c);
	return run_store(c, i);
}

static enum emu_next vex_registers(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_vec_check_vex(c);
	return run_registers(c, i);
}

static enum emu_next vex_load(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_vec_check_vex(c);
	return run_load(c, i);
}

static enum emu_next vex_store(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_vec_check_vex(c);
	return run_store(c, i);
}

/* ---- instructions with MMX or general registers ---- */

static enum emu_next any_files(struct emu_vcpu *c, const struct emu_insn *i)
{
	const struct emu_vec *vec = &i->desc->vec;
	struct operands o = {
	    .reg = register_operand(c, vec->reg_file, i->reg),
	    .vvvv = emu_vec_xmm(c, i->reg2),
	};
	unsigned size = memory_size(i);
	uint64_t linear = 0;

	check_row(c, i);
	if (!(i->prefixes & EMU_P_MEM)) {
		o.rm = register_operand(c, vec->rm_file, i->rm);
	} else if (vec->roles & EMU_V_RM_W) {
		linear = memory_operand(c, i, size, VCORE_ACCESS_WRITE);
		if (vec->roles & EMU_V_MMX_X87) {
			emu_vec_check_alignment(c, linear, size);
			emu_probe(c, linear, size, true);
		}
	} else {
		o.rm = emu_vec_load(c, memory_operand(c, i, size, VCORE_ACCESS_READ), size);
	}
	if (vec->roles & EMU_V_MMX_X87)
		emu_x87_enter_mmx(&c->s.xsave);
	if ((i->prefixes & EMU_P_MEM) && (vec->roles & EMU_V_RM_W))
		store_operand(c, i, &o, size, linear);
	else
		run(c, i, &o);
	return EMU_NEXT;
}

/* ---- decoding, life ---- */

static bool only_xmm(const struct emu_insn *i)
{
	const struct emu_vec *vec = &i->desc->vec;
	bool memory = i->prefixes & EMU_P_MEM;

	if (vec->roles & EMU_V_MMX_X87)
		return false;
	return vec->reg_file != EMU_VR_GPR && vec->reg_file != EMU_VR_MMX && (memory || vec->rm_file == EMU_VR_XMM);
}

static emu_system_fn plain_handler(const struct emu_insn *i)
{
	bool vex = i->prefixes & EMU_P_VEX;

	if (!only_xmm(i))
		return any_files;
	if (!(i->prefixes & EMU_P_MEM))
		return vex ? vex_registers : sse_registers;
	if (i->desc->vec.roles & EMU_V_RM_W)
		return vex ? vex_store : sse_store;
	return vex ? vex_load : sse_load;
}

/* Outside 64-bit mode VEX.W does not widen a general register: VMOVQ is VMOVD. */
static void narrow(const struct emu_vcpu *c, struct emu_insn *i)
{
	const struct emu_vec *vec = &i->desc->vec;
	const struct emu_vec_row *row = emu_vec_row_of(i->desc);

	if (c->mode == EMU_MODE_64 || !(i->desc->attr & EMU_A_VEX_W1) ||
	    !(vec->reg_file == EMU_VR_GPR || vec->rm_file == EMU_VR_GPR))
		return;
	i->desc = emu_vec_lookup(i->map, i->opcode, row->pp, true, false, i->prefixes & EMU_P_VEX_L, i->modrm);
	i->prefixes &= (uint16_t)~EMU_P_W;
}

static emu_system_fn vec_handler(struct emu_vcpu *c, struct emu_insn *i)
{
	narrow(c, i);
	if (i->desc->vec.roles & EMU_V_SPECIAL)
		return emu_vec_special_handler(c, i);
	i->stub = emu_stub_handle(c, i, EMU_STUB_VEC);
	return plain_handler(i);
}

emu_system_fn emu_vec_handler(struct emu_vcpu *c, struct emu_insn *i)
{
	if (i->op == EMU_VEC)
		return vec_handler(c, i);
	if (i->op == EMU_X87 || i->op == EMU_FWAIT)
		return emu_x87_handler(c, i);
	return emu_xsave_handler(i->op);
}

void emu_vec_enter(struct emu_vcpu *c)
{
	c->vec->host_mxcsr = _mm_getcsr();
	__asm__ volatile("fnstcw %0" : "=m"(c->vec->host_fcw));
}

int emu_vec_new(struct emu_vcpu *c)
{
	int err;

	c->vec = aligned_alloc(64, VC_ALIGN_UP(sizeof *c->vec, 64));
	if (!c->vec)
		return vc_fail(ENOMEM, "no memory for the vector state of a vcpu");
	memset(c->vec, 0, sizeof *c->vec);
	err = emu_stub_new(c->vec);
	if (err) {
		free(c->vec);
		c->vec = NULL;
		return err;
	}
	emu_vec_enter(c);
	return 0;
}

void emu_vec_free(struct emu_vcpu *c)
{
	if (!c->vec)
		return;
	emu_stub_free(c->vec);
	free(c->vec);
	c->vec = NULL;
}
