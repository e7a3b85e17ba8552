/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The vector part of the interpreter: x87, MMX, SSE and AVX instructions run on the host CPU.
 *
 *   vec_stub.c     host code for an instruction, its cache
 *   vec.c          MMX, SSE, AVX: checks, operands, SIMD exceptions
 *   vec_special.c  those that no stub can run alone: gathers, masked moves, string comparisons, VZEROALL, EMMS
 *   vec_x87.c      x87 numeric instructions and moves
 *   vec_x87_env.c  x87 control and environment
 *   vec_xsave.c    FXSAVE, XSAVE and their like, MXCSR
 *
 * The live state is s.xsave, in the format of FXSAVE: st[] counts from the top of the stack (so a push or pop moves all
 * eight), ftw has a bit for each physical register. A stub loads what its instruction reads from there, executes it,
 * and stores what it writes.
 */
#ifndef VC_EMU_VEC_H
#define VC_EMU_VEC_H

#include "backend/emu/decode/vec_rows.h"
#include "backend/emu/emu.h"
#include "backend/emu/mmu/access.h"

/* MXCSR */
#define MXCSR_FLAGS   0x003fu
#define MXCSR_PRE     0x0007u /* invalid, denormal, zero divide: found before the result is computed */
#define MXCSR_OE      0x0008u
#define MXCSR_UE      0x0010u
#define MXCSR_PE      0x0020u
#define MXCSR_MASKS   0x1f80u
#define MXCSR_UM      0x0800u
#define MXCSR_FTZ     0x8000u
#define MXCSR_VALID   0xffffu
#define MXCSR_DEFAULT 0x1f80u
/* x87 control and status words */
#define FCW_DEFAULT 0x037fu
#define FSW_FLAGS   0x003fu
#define FSW_ES      0x0080u
#define FSW_C1      0x0200u
#define FSW_CC      0x4700u
#define FSW_TOP     0x3800u
#define FSW_BUSY    0x8000u

struct emu_vec_state;

/*
 * A stub. reg, vvvv, rm: where those registers live, or the memory operand (rm). extra: the fourth register operand,
 * XMM0 or the general registers. For x87: reg is ST(0), vvvv is ST(i); for EMU_STUB_X87_WHOLE they are images for
 * FRSTOR and FNSAVE.
 */
typedef void (*emu_vec_stub)(void *reg, void *vvvv, void *rm, struct emu_vcpu *c, void *extra, struct emu_vec_state *v);

enum emu_stub_kind { EMU_STUB_VEC, EMU_STUB_STRING, EMU_STUB_X87, EMU_STUB_X87_WHOLE };

#define EMU_STUB_SLOTS 2048u

struct emu_vec_state {
	/* read and written by stubs */
	uint32_t host_mxcsr;
	uint16_t host_fcw;
	uint16_t fsw;                                     /* x87: the status word that the instruction left */
	uint8_t scratch[64] __attribute__((aligned(64))); /* memory operands that cannot be used in place */
	/* the code: one object mapped twice, never writable and executable at one address */
	uint8_t *write, *execute;
	uint32_t used;                  /* bytes */
	uint32_t generation;            /* of the contents; part of a handle */
	uint64_t keys[EMU_STUB_SLOTS];  /* open addressing; 0: free */
	uint16_t units[EMU_STUB_SLOTS]; /* where the stub is */
	uint32_t count;
};

/* ---- vec_stub.c ---- */
int emu_stub_new(struct emu_vec_state *v);
void emu_stub_free(struct emu_vec_state *v);
/* The handle of the stub for i, made if need be. Good until the cache is flushed. */
uint32_t emu_stub_handle(struct emu_vcpu *c, const struct emu_insn *i, enum emu_stub_kind kind);

#define EMU_STUB_UNIT      16u
#define EMU_STUB_UNIT_BITS 13
#define EMU_STUB_CODE_SIZE (EMU_STUB_UNIT << EMU_STUB_UNIT_BITS)

static inline emu_vec_stub emu_stub_at(const struct emu_vec_state *v, uint32_t handle)
{
	return (emu_vec_stub)(v->execute + (handle & ((1u << EMU_STUB_UNIT_BITS) - 1)) * EMU_STUB_UNIT);
}
/* The stub that was prepared when i was decoded, or made again after a flush. */
static inline emu_vec_stub emu_stub_of(struct emu_vcpu *c, const struct emu_insn *i, enum emu_stub_kind kind)
{
	const struct emu_vec_state *v = c->vec;

	if (vc_unlikely(i->stub >> EMU_STUB_UNIT_BITS != v->generation))
		return emu_stub_at(v, emu_stub_handle(c, i, kind));
	return emu_stub_at(v, i->stub);
}

/* ---- operands ---- */
/* In the segment of i. SS is never taken for flat: only here it is known that a bad address is #SS, not #GP. */
static inline uint64_t emu_vec_segment_linear(struct emu_vcpu *c, const struct emu_insn *i, uint64_t offset,
                                              unsigned size, enum vcore_access access)
{
	if (vc_likely(c->flat >> i->seg & 1) && i->seg != VC_SS)
		return offset;
	return emu_seg_linear(c, i->seg, offset, size, access);
}
/* Linear address of the memory operand. */
static inline uint64_t emu_vec_linear(struct emu_vcpu *c, const struct emu_insn *i, unsigned size,
                                      enum vcore_access access)
{
	return emu_vec_segment_linear(c, i, emu_effective_address(c, i), size, access);
}
/*
 * SDM vol. 3, table 6-7. For vectors #AC may or may not come (vol. 2, MOVUPS); here as AMD's processors have it: by
 * size, and for 32 bytes by 16. The 10 bytes of the x87 are aligned to 8.
 */
static inline void emu_vec_check_alignment(struct emu_vcpu *c, uint64_t linear, unsigned size)
{
	emu_check_alignment(c, linear, size == 10 ? 8 : size < 16 ? size : 16);
}
/* The bytes at linear: in place, or a copy in scratch. Good until the next access. */
static inline void *emu_vec_load(struct emu_vcpu *c, uint64_t linear, unsigned size)
{
	const struct emu_tlb_entry *e = emu_tlb_at(c, linear);

	if (vc_likely(e->read == emu_tag(c, linear + size - 1)))
		return (void *)(linear + e->addend);
	emu_vec_check_alignment(c, linear, size);
	emu_ld_bytes(c, linear, c->vec->scratch, size);
	return c->vec->scratch;
}
/* Of a vector register in the live state; the upper half of a YMM register is VEC_YMM_HI bytes on. */
#define VEC_YMM_HI (offsetof(struct vc_xsave, ymm_hi) - offsetof(struct vc_xsave, xmm))
static inline void *emu_vec_xmm(struct emu_vcpu *c, unsigned n)
{
	return c->s.xsave.xmm[n & 15];
}
/* Registers that the mode gives: 8 or 16. */
static inline unsigned emu_vec_registers(const struct emu_vcpu *c)
{
	return c->mode == EMU_MODE_64 ? 16 : 8;
}

/* ---- checks that come before an instruction: SDM vol. 2, 2.4 ---- */
void emu_vec_refuse_sse(struct emu_vcpu *c) __attribute__((noreturn, cold));
void emu_vec_refuse_vex(struct emu_vcpu *c) __attribute__((noreturn, cold));
static inline void emu_vec_check_sse(struct emu_vcpu *c)
{
	if (vc_unlikely((c->s.cr0 & (VC_CR0_EM | VC_CR0_TS)) | (~c->s.cr4 & VC_CR4_OSFXSR)))
		emu_vec_refuse_sse(c);
}
static inline void emu_vec_check_vex(struct emu_vcpu *c)
{
	if (vc_unlikely((c->s.cr0 & VC_CR0_TS) | (~c->s.cr4 & VC_CR4_OSXSAVE) |
	                (~c->s.xcr0 & (VC_XSTATE_SSE | VC_XSTATE_AVX))))
		emu_vec_refuse_vex(c);
}
/* CR0.EM, CR0.TS and pending x87 exceptions, for an instruction with MMX registers. */
void emu_vec_check_mmx(struct emu_vcpu *c);
/* By the encoding of i. */
static inline void emu_vec_check(struct emu_vcpu *c, const struct emu_insn *i)
{
	if (i->prefixes & EMU_P_VEX)
		emu_vec_check_vex(c);
	else
		emu_vec_check_sse(c);
}

/* ---- vec_special.c ---- */
emu_system_fn emu_vec_special_handler(struct emu_vcpu *c, struct emu_insn *i);

/* ---- vec_x87.c, vec_x87_env.c ---- */
emu_system_fn emu_x87_handler(struct emu_vcpu *c, struct emu_insn *i);
emu_system_fn emu_x87_control_handler(const struct emu_insn *i);
/* An unmasked exception waits. */
static inline bool emu_x87_pending(const struct vc_xsave *x)
{
	return x->fsw & ~x->fcw & FSW_FLAGS;
}
/* What every waiting x87 instruction checks first: #NM, #MF. */
static inline void emu_x87_check(struct emu_vcpu *c)
{
	if (vc_unlikely(c->s.cr0 & (VC_CR0_EM | VC_CR0_TS)))
		emu_raise(c, VC_NM);
	if (vc_unlikely(emu_x87_pending(&c->s.xsave)))
		emu_raise(c, VC_MF);
}
/* Makes ES and B agree with flags and masks. */
static inline void emu_x87_summarize(struct vc_xsave *x)
{
	x->fsw &= (uint16_t) ~(FSW_ES | FSW_BUSY);
	if (emu_x87_pending(x))
		x->fsw |= FSW_ES | FSW_BUSY;
}
static inline unsigned emu_x87_top(const struct vc_xsave *x)
{
	return x->fsw >> 11 & 7;
}
/* Make `top` the top of the stack; the registers stay where they are, so st[] turns. */
void emu_x87_set_top(struct vc_xsave *x, unsigned top);
/* Enter MMX state: TOP 0, every register in use. */
static inline void emu_x87_enter_mmx(struct vc_xsave *x)
{
	if (vc_unlikely(x->fsw & FSW_TOP))
		emu_x87_set_top(x, 0);
	x->ftw = 0xff;
}
/* The tag word of FNSTENV. */
uint16_t emu_x87_tags(const struct vc_xsave *x);
void emu_x87_set_tags(struct vc_xsave *x, uint16_t tags);
/* Control word as the processor keeps it. */
static inline uint16_t emu_x87_cw(uint16_t cw)
{
	return (cw & 0x1f7f) | 0x40;
}
void emu_x87_init(struct vc_xsave *x);

/* ---- vec_xsave.c ---- */
emu_system_fn emu_xsave_handler(enum emu_op op);

#endif
