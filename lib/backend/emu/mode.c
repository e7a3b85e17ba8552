/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What decoding, addressing and translation derive from the architectural state. */
#include "backend/emu/jit/jit.h"
#include "backend/emu/mmu/mmu.h"
#include "backend/emu/vcpu.h"

#define SEG_CODE       0x8u /* type bit 3 */
#define SEG_EXPAND     0x4u /* data: expand-down */
#define SEG_WRITE_READ 0x2u /* data: writable; code: readable */

static uint8_t stack_size(const struct emu_vcpu *c)
{
	if (c->mode == EMU_MODE_64)
		return 8;
	return c->s.seg[VC_SS].attr & VC_SEG_DB ? 4 : 2;
}

/* A segment whose offsets are linear addresses and need no check. */
static bool is_flat(const struct vc_segment *seg)
{
	unsigned type = VC_SEG_TYPE(seg->attr);

	if (seg->unusable || seg->base || seg->limit != UINT32_MAX ||
	    (seg->attr & (VC_SEG_P | VC_SEG_S)) != (VC_SEG_P | VC_SEG_S))
		return false;
	/* Code segments cannot be written: nothing to check only where nothing is written, which the flag does not tell. */
	return !(type & SEG_CODE) && !(type & SEG_EXPAND) && (type & SEG_WRITE_READ);
}

static uint8_t flat_segments(const struct emu_vcpu *c)
{
	uint8_t flat = 0;

	/* SDM vol. 1, 3.4.2.1: bases of ES, CS, SS and DS are taken as 0 and limits are not checked. */
	if (c->mode == EMU_MODE_64)
		return 1u << VC_ES | 1u << VC_CS | 1u << VC_SS | 1u << VC_DS;
	for (unsigned i = 0; i < VC_SEG_COUNT; i++)
		flat |= (uint8_t)(is_flat(&c->s.seg[i]) << i);
	return flat;
}

void emu_mode_changed(struct emu_vcpu *c)
{
	const struct vc_cpu_state *s = &c->s;
	bool v86 = s->rflags & VC_FLAG_VM;

	c->protected_mode = (s->cr0 & VC_CR0_PE) && !v86;
	c->long_mode = s->efer & VC_EFER_LMA;
	if (c->long_mode && (s->seg[VC_CS].attr & VC_SEG_L))
		c->mode = EMU_MODE_64;
	else
		c->mode = s->seg[VC_CS].attr & VC_SEG_DB ? EMU_MODE_32 : EMU_MODE_16;
	/* The DPL of SS is the CPL wherever there is one (SDM vol. 3, 24.4.1); CS.RPL is not after a mere switch to
	 * protected mode. */
	c->cpl = v86 ? 3 : s->cr0 & VC_CR0_PE ? VC_SEG_DPL(s->seg[VC_SS].attr) : 0;
	c->stack_size = stack_size(c);
	c->flat = flat_segments(c);
	c->mode_key =
	    c->mode | c->protected_mode << 2 | c->long_mode << 3 | c->cpl << 4 | (c->stack_size / 4) << 6 | c->flat << 8;
	emu_mmu_mode_changed(c);
	if (c->jit)
		jit_mode_changed(c);
}
