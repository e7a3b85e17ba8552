/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* FXSAVE, FXRSTOR, the XSAVE family and MXCSR: SDM vol. 1, 10.5 and chapter 13. */
#include "backend/emu/interp/vec.h"

#define LEGACY_SIZE 512u
#define HEADER_AT   512u
#define AREA_AT     576u /* end of the header: extended components; AVX is the first in either format */
#define AVX_SIZE    256u
#define COMPACTED   (1ull << 63)
#define COMPONENTS  (VC_XSTATE_X87 | VC_XSTATE_SSE | VC_XSTATE_AVX)

/* Places in the legacy region. */
enum { MXCSR_AT = 24, ST_AT = 32, XMM_AT = 160 };

static bool all_zero(const void *p, unsigned size)
{
	const uint8_t *bytes = p;
	uint64_t sum = 0;

	for (unsigned n = 0; n < size; n += 8)
		sum |= vc_ld64(bytes + n);
	return !sum;
}

/* What INIT configuration means: SDM vol. 1, 13.6. MXCSR does not count. */
uint64_t emu_vec_xinuse(const struct emu_vcpu *c)
{
	const struct vc_xsave *x = &c->s.xsave;
	uint64_t used = 0;

	if (x->fcw != FCW_DEFAULT || x->fsw || x->ftw || x->fop || x->fip || x->fdp || !all_zero(x->st, sizeof x->st))
		used |= VC_XSTATE_X87;
	if (!all_zero(x->xmm, sizeof x->xmm))
		used |= VC_XSTATE_SSE;
	if (!all_zero(x->ymm_hi, sizeof x->ymm_hi))
		used |= VC_XSTATE_AVX;
	return used;
}

/* ---- components to and from the live state ---- */

static void init_x87(struct vc_xsave *x)
{
	emu_x87_init(x);
	memset(x->st, 0, sizeof x->st);
}

static void init_component(struct emu_vcpu *c, uint64_t component)
{
	struct vc_xsave *x = &c->s.xsave;
	unsigned registers = emu_vec_registers(c);

	if (component == VC_XSTATE_X87)
		init_x87(x);
	else
		memset(component == VC_XSTATE_SSE ? x->xmm : x->ymm_hi, 0, 16 * registers);
}

/* FCW ... FDP and ST(0)-ST(7) into a legacy region. wide: 64-bit FIP and FDP (REX.W). */
static void put_x87(const struct vc_xsave *x, uint8_t *legacy, bool wide)
{
	vc_st16(legacy, x->fcw);
	vc_st16(legacy + 2, x->fsw);
	vc_st16(legacy + 4, x->ftw);
	vc_st16(legacy + 6, x->fop & 0x7ff);
	/* without REX.W, FCS and FDS are in the upper halves: they read as zero */
	vc_st64(legacy + 8, wide ? x->fip : (uint32_t)x->fip);
	vc_st64(legacy + 16, wide ? x->fdp : (uint32_t)x->fdp);
	for (unsigned n = 0; n < 8; n++) {
		memcpy(legacy + ST_AT + 16 * n, x->st[n], 10);
		memset(legacy + ST_AT + 16 * n + 10, 0, 6);
	}
}

static void get_x87(struct vc_xsave *x, const uint8_t *legacy, bool wide)
{
	x->fcw = emu_x87_cw(vc_ld16(legacy));
	x->fsw = vc_ld16(legacy + 2);
	x->ftw = legacy[4];
	x->fop = vc_ld16(legacy + 6) & 0x7ff;
	x->fip = wide ? vc_ld64(legacy + 8) : vc_ld32(legacy + 8);
	x->fdp = wide ? vc_ld64(legacy + 16) : vc_ld32(legacy + 16);
	for (unsigned n = 0; n < 8; n++) {
		memcpy(x->st[n], legacy + ST_AT + 16 * n, 10);
		memset(x->st[n] + 10, 0, 6);
	}
	emu_x87_summarize(x);
}

static void put_mxcsr(const struct vc_xsave *x, uint8_t *legacy)
{
	vc_st32(legacy + MXCSR_AT, x->mxcsr);
	vc_st32(legacy + MXCSR_AT + 4, MXCSR_VALID);
}

static bool is_wide(const struct emu_vcpu *c, const struct emu_insn *i)
{
	return c->mode == EMU_MODE_64 && (i->prefixes & EMU_P_W);
}

/* The operand's address. */
static uint64_t area(struct emu_vcpu *c, const struct emu_insn *i, unsigned size, unsigned alignment, bool write)
{
	uint64_t linear = emu_vec_linear(c, i, size, write ? VCORE_ACCESS_WRITE : VCORE_ACCESS_READ);

	if (linear & (alignment - 1))
		emu_raise_error(c, VC_GP, 0);
	return linear;
}

/* ---- FXSAVE, FXRSTOR ---- */

static void check_fx(struct emu_vcpu *c)
{
	if (c->s.cr0 & (VC_CR0_EM | VC_CR0_TS))
		emu_raise(c, VC_NM);
}

static enum emu_next fxsave(struct emu_vcpu *c, const struct emu_insn *i)
{
	const struct vc_xsave *x = &c->s.xsave;
	uint8_t buffer[LEGACY_SIZE];
	unsigned xmm_size = 16 * emu_vec_registers(c);

	check_fx(c);
	uint64_t linear = area(c, i, LEGACY_SIZE, 16, true);
	put_x87(x, buffer, is_wide(c, i));
	put_mxcsr(x, buffer);
	memcpy(buffer + XMM_AT, x->xmm, xmm_size);
	/* the rest is not written: some of it belongs to software */
	emu_st_bytes(c, linear, buffer, XMM_AT + xmm_size);
	return EMU_NEXT;
}

static enum emu_next fxrstor(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct vc_xsave *x = &c->s.xsave;
	uint8_t buffer[LEGACY_SIZE];

	check_fx(c);
	emu_ld_bytes(c, area(c, i, LEGACY_SIZE, 16, false), buffer, LEGACY_SIZE);
	if (vc_ld32(buffer + MXCSR_AT) & ~MXCSR_VALID)
		emu_raise_error(c, VC_GP, 0);
	get_x87(x, buffer, is_wide(c, i));
	x->mxcsr = vc_ld32(buffer + MXCSR_AT);
	memcpy(x->xmm, buffer + XMM_AT, 16 * emu_vec_registers(c));
	return EMU_NEXT;
}

/* ---- the XSAVE family ---- */

static void check_xsave(struct emu_vcpu *c)
{
	if (!(c->s.cr4 & VC_CR4_OSXSAVE))
		emu_raise(c, VC_UD);
	if (c->s.cr0 & VC_CR0_TS)
		emu_raise(c, VC_NM);
}

static void check_xsaves(struct emu_vcpu *c)
{
	if (!(c->s.cr4 & VC_CR4_OSXSAVE))
		emu_raise(c, VC_UD);
	if (c->cpl != 0)
		emu_raise_error(c, VC_GP, 0);
	check_xsave(c);
}

static uint64_t requested(const struct emu_vcpu *c)
{
	return (c->s.gpr[VC_RDX] << 32 | (uint32_t)c->s.gpr[VC_RAX]) & c->s.xcr0 & COMPONENTS;
}

static unsigned area_size(uint64_t components)
{
	return components & VC_XSTATE_AVX ? AREA_AT + AVX_SIZE : AREA_AT;
}

/* Writes the components `save` at linear; the caller has probed the area. mxcsr: also without SSE state. */
static void write_components(struct emu_vcpu *c, const struct emu_insn *i, uint64_t linear, uint64_t save, bool mxcsr)
{
	const struct vc_xsave *x = &c->s.xsave;
	uint8_t buffer[LEGACY_SIZE];
	unsigned size = 16 * emu_vec_registers(c);

	put_x87(x, buffer, is_wide(c, i));
	put_mxcsr(x, buffer);
	if (save & VC_XSTATE_X87) {
		emu_st_bytes(c, linear, buffer, MXCSR_AT);
		emu_st_bytes(c, linear + ST_AT, buffer + ST_AT, XMM_AT - ST_AT);
	}
	if (mxcsr)
		emu_st_bytes(c, linear + MXCSR_AT, buffer + MXCSR_AT, 8);
	if (save & VC_XSTATE_SSE)
		emu_st_bytes(c, linear + XMM_AT, x->xmm, size);
	if (save & VC_XSTATE_AVX)
		emu_st_bytes(c, linear + AREA_AT, x->ymm_hi, size);
}

/* XSAVE writes all that was asked for, XSAVEOPT leaves out what is in its initial configuration. */
static enum emu_next save_standard(struct emu_vcpu *c, const struct emu_insn *i, bool optimized)
{
	uint64_t rfbm = requested(c), used = emu_vec_xinuse(c) & rfbm;

	check_xsave(c);
	uint64_t linear = area(c, i, area_size(rfbm), 64, true);
	emu_probe(c, linear, area_size(rfbm), true);
	uint64_t old = emu_ld64(c, linear + HEADER_AT);
	write_components(c, i, linear, optimized ? used : rfbm, rfbm & (VC_XSTATE_SSE | VC_XSTATE_AVX));
	emu_st64(c, linear + HEADER_AT, (old & ~rfbm) | used);
	return EMU_NEXT;
}

static enum emu_next xsave(struct emu_vcpu *c, const struct emu_insn *i)
{
	return save_standard(c, i, false);
}

static enum emu_next xsaveopt(struct emu_vcpu *c, const struct emu_insn *i)
{
	return save_standard(c, i, true);
}

/* No supervisor component exists (IA32_XSS is zero), so XSAVES differs from XSAVEC in its privilege only. */
static enum emu_next save_compacted(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint64_t rfbm = requested(c), used = emu_vec_xinuse(c) & rfbm;
	uint64_t linear = area(c, i, area_size(rfbm), 64, true);

	/* the compacted format has MXCSR with SSE state only: changed, it makes that worth saving (SDM vol. 1, 13.10) */
	if (c->s.xsave.mxcsr != MXCSR_DEFAULT)
		used |= rfbm & VC_XSTATE_SSE;
	emu_probe(c, linear, area_size(rfbm), true);
	write_components(c, i, linear, used, used & VC_XSTATE_SSE);
	emu_st64(c, linear + HEADER_AT, used);
	emu_st64(c, linear + HEADER_AT + 8, rfbm | COMPACTED);
	return EMU_NEXT;
}

static enum emu_next xsavec(struct emu_vcpu *c, const struct emu_insn *i)
{
	check_xsave(c);
	return save_compacted(c, i);
}

static enum emu_next xsaves(struct emu_vcpu *c, const struct emu_insn *i)
{
	check_xsaves(c);
	return save_compacted(c, i);
}

/* Reserved bits of the header: SDM vol. 1, 13.8 and 13.12. */
static bool header_good(const struct emu_vcpu *c, const uint8_t *header, bool need_compacted)
{
	uint64_t xstate_bv = vc_ld64(header), xcomp_bv = vc_ld64(header + 8), allowed = c->s.xcr0 & COMPONENTS;

	if (!(xcomp_bv & COMPACTED))
		return !need_compacted && !(xstate_bv & ~allowed) && xcomp_bv == 0 && vc_ld64(header + 16) == 0;
	if (!need_compacted && !vc_feature_has(&c->bvcpu->cpuid.features, VC_F_XSAVEC))
		return false;
	return !(xcomp_bv & ~(allowed | COMPACTED)) && !(xstate_bv & ~xcomp_bv) && all_zero(header + 16, 48);
}

static void restore(struct emu_vcpu *c, const struct emu_insn *i, bool need_compacted)
{
	struct vc_xsave *x = &c->s.xsave;
	uint8_t buffer[AREA_AT + AVX_SIZE];
	uint64_t rfbm = requested(c), linear = area(c, i, AREA_AT, 64, false);
	unsigned size = 16 * emu_vec_registers(c);

	emu_ld_bytes(c, linear, buffer, AREA_AT);
	const uint8_t *header = buffer + HEADER_AT;
	if (!header_good(c, header, need_compacted))
		emu_raise_error(c, VC_GP, 0);
	uint64_t load = vc_ld64(header) & rfbm;
	bool compacted = vc_ld64(header + 8) & COMPACTED;
	if (load & VC_XSTATE_AVX)
		emu_ld_bytes(c, linear + AREA_AT, buffer + AREA_AT, size);

	/* the compacted format has MXCSR with SSE state; in the standard one it is loaded with SSE or AVX, in use or not */
	bool load_mxcsr = compacted ? load & VC_XSTATE_SSE : rfbm & (VC_XSTATE_SSE | VC_XSTATE_AVX);
	uint32_t mxcsr = vc_ld32(buffer + MXCSR_AT);
	if (load_mxcsr && (mxcsr & ~MXCSR_VALID))
		emu_raise_error(c, VC_GP, 0);

	for (uint64_t component = VC_XSTATE_X87; component <= VC_XSTATE_AVX; component <<= 1)
		if (rfbm & ~load & component)
			init_component(c, component);
	if (load & VC_XSTATE_X87)
		get_x87(x, buffer, is_wide(c, i));
	if (load & VC_XSTATE_SSE)
		memcpy(x->xmm, buffer + XMM_AT, size);
	if (load & VC_XSTATE_AVX)
		memcpy(x->ymm_hi, buffer + AREA_AT, size);
	if (load_mxcsr)
		x->mxcsr = mxcsr;
	else if (compacted && (rfbm & VC_XSTATE_SSE))
		x->mxcsr = MXCSR_DEFAULT;
}

static enum emu_next xrstor(struct emu_vcpu *c, const struct emu_insn *i)
{
	check_xsave(c);
	restore(c, i, false);
	return EMU_NEXT;
}

static enum emu_next xrstors(struct emu_vcpu *c, const struct emu_insn *i)
{
	check_xsaves(c);
	restore(c, i, true);
	return EMU_NEXT;
}

/* ---- MXCSR ---- */

static enum emu_next ldmxcsr(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint32_t value;

	emu_vec_check(c, i);
	value = emu_ld32(c, emu_vec_linear(c, i, 4, VCORE_ACCESS_READ));
	if (value & ~MXCSR_VALID)
		emu_raise_error(c, VC_GP, 0);
	c->s.xsave.mxcsr = value;
	return EMU_NEXT;
}

static enum emu_next stmxcsr(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_vec_check(c, i);
	emu_st32(c, emu_vec_linear(c, i, 4, VCORE_ACCESS_WRITE), c->s.xsave.mxcsr);
	return EMU_NEXT;
}

emu_system_fn emu_xsave_handler(enum emu_op op)
{
	switch (op) {
	case EMU_FXSAVE:
		return fxsave;
	case EMU_FXRSTOR:
		return fxrstor;
	case EMU_XSAVE:
		return xsave;
	case EMU_XRSTOR:
		return xrstor;
	case EMU_XSAVEOPT:
		return xsaveopt;
	case EMU_XSAVEC:
		return xsavec;
	case EMU_XSAVES:
		return xsaves;
	case EMU_XRSTORS:
		return xrstors;
	case EMU_LDMXCSR:
		return ldmxcsr;
	case EMU_STMXCSR:
		return stmxcsr;
	default:
		return NULL;
	}
}

/* ---- the state at the vcpu's border ---- */

void emu_vec_state_in(struct emu_vcpu *c)
{
	struct vc_xsave *x = &c->s.xsave;
	uint64_t initial = ~x->xstate_bv;

	if (initial & VC_XSTATE_X87)
		init_x87(x);
	if (initial & VC_XSTATE_SSE)
		memset(x->xmm, 0, sizeof x->xmm);
	if (initial & VC_XSTATE_AVX)
		memset(x->ymm_hi, 0, sizeof x->ymm_hi);
	x->fcw = emu_x87_cw(x->fcw);
	x->fop &= 0x7ff;
	x->mxcsr &= MXCSR_VALID;
	for (unsigned n = 0; n < 8; n++)
		memset(x->st[n] + 10, 0, 6);
	emu_x87_summarize(x);
}

/* x87 and SSE are always marked, so that no reader takes their initial values for ours; AVX when it may be restored. */
void emu_vec_state_out(struct emu_vcpu *c)
{
	struct vc_xsave *x = &c->s.xsave;

	x->xstate_bv = VC_XSTATE_X87 | VC_XSTATE_SSE | (emu_vec_xinuse(c) & VC_XSTATE_AVX);
	x->xcomp_bv = 0;
	x->mxcsr_mask = MXCSR_VALID;
}
