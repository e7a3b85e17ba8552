/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Control registers, and the TLB and XCR0 instructions beside them (SDM vol. 3, 2.5-2.6, 4.1, 4.10.4). */
#include "backend/emu/mmu/mmu.h"
#include "backend/emu/system.h"
#include "chipset/lapic.h"

static void gp0(struct emu_vcpu *c) __attribute__((noreturn));
static void gp0(struct emu_vcpu *c)
{
	emu_raise_error(c, VC_GP, 0);
}

/* PAE paging outside long mode: its four top entries are read when CR3 or certain bits are written. */
static bool uses_pdptes(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	return cr0 & VC_CR0_PG && cr4 & VC_CR4_PAE && !(efer & VC_EFER_LME);
}

/* ---- CR0 ---- */

#define CR0_BITS                                                                                                \
	((uint64_t)(VC_CR0_PE | VC_CR0_MP | VC_CR0_EM | VC_CR0_TS | VC_CR0_ET | VC_CR0_NE | VC_CR0_WP | VC_CR0_AM | \
	            VC_CR0_NW | VC_CR0_CD | VC_CR0_PG))

static void check_paging_on(struct emu_vcpu *c, uint64_t cr0)
{
	if (c->s.efer & VC_EFER_LME) {
		bool tss16 = !c->s.tr.unusable && !(VC_SEG_TYPE(c->s.tr.attr) & 8);
		/* SDM vol. 3, 9.8.5 */
		if (!(c->s.cr4 & VC_CR4_PAE) || c->s.seg[VC_CS].attr & VC_SEG_L || tss16)
			gp0(c);
	}
}

static void check_paging_off(struct emu_vcpu *c)
{
	if (c->mode == EMU_MODE_64 || c->s.cr4 & VC_CR4_PCIDE)
		gp0(c);
}

static void write_cr0(struct emu_vcpu *c, uint64_t value)
{
	uint64_t old = c->s.cr0, changed;

	if (value >> 32)
		gp0(c);
	value = (value & CR0_BITS) | VC_CR0_ET;
	changed = value ^ old;
	if ((value & VC_CR0_PG && !(value & VC_CR0_PE)) || (value & VC_CR0_NW && !(value & VC_CR0_CD)))
		gp0(c);
	if (changed & VC_CR0_PG) {
		if (value & VC_CR0_PG)
			check_paging_on(c, value);
		else
			check_paging_off(c);
	}
	if (changed & (VC_CR0_PG | VC_CR0_CD | VC_CR0_NW) && uses_pdptes(value, c->s.cr4, c->s.efer) &&
	    !emu_mmu_load_pdptes(c, c->s.cr3))
		gp0(c);
	c->s.cr0 = value;
	if (changed & VC_CR0_PG) {
		bool lma = value & VC_CR0_PG && c->s.efer & VC_EFER_LME;
		c->s.efer = (c->s.efer & ~(uint64_t)VC_EFER_LMA) | (lma ? VC_EFER_LMA : 0);
	}
	if (changed & (VC_CR0_PG | VC_CR0_PE | VC_CR0_WP))
		emu_tlb_flush_all(c);
	if (changed)
		emu_mode_changed(c);
}

enum emu_next emu_sys_lmsw(struct emu_vcpu *c, const struct emu_insn *i)
{
	const uint64_t bits = VC_CR0_PE | VC_CR0_MP | VC_CR0_EM | VC_CR0_TS;

	emu_require_cpl0(c);
	/* PE can be set, never cleared. */
	write_cr0(c, (c->s.cr0 & (~bits | VC_CR0_PE)) | (emu_rm16(c, i) & bits));
	return EMU_NEXT;
}

enum emu_next emu_sys_smsw(struct emu_vcpu *c, const struct emu_insn *i)
{
	if (c->cpl && c->s.cr4 & VC_CR4_UMIP)
		gp0(c);
	emu_store_rm16(c, i, c->s.cr0);
	return EMU_NEXT;
}

enum emu_next emu_sys_clts(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_require_cpl0(c);
	if (c->s.cr0 & VC_CR0_TS) {
		c->s.cr0 &= ~(uint64_t)VC_CR0_TS;
		emu_mode_changed(c);
	}
	return EMU_NEXT;
}

/* ---- CR3 ---- */

#define CR3_NO_FLUSH (1ull << 63)

static void write_cr3(struct emu_vcpu *c, uint64_t value)
{
	uint64_t old = c->s.cr3;
	bool no_flush = false;

	if (c->s.cr4 & VC_CR4_PCIDE && value & CR3_NO_FLUSH) {
		no_flush = true;
		value &= ~CR3_NO_FLUSH;
	}
	if (c->long_mode && value >> c->bvcpu->cpuid.phys_bits)
		gp0(c);
	if (uses_pdptes(c->s.cr0, c->s.cr4, c->s.efer) && !emu_mmu_load_pdptes(c, value))
		gp0(c);
	c->s.cr3 = value;
	emu_mmu_cr3_written(c, old, no_flush);
}

/* ---- CR4 ---- */

/* Bits that may be set, and the feature that brings each. */
static const struct {
	uint32_t bits;
	enum vc_feature feature;
} cr4_bits[] = {
    {VC_CR4_VME | VC_CR4_PVI, VC_F_VME},
    {VC_CR4_TSD, VC_F_TSC},
    {VC_CR4_DE, VC_F_DE},
    {VC_CR4_PSE, VC_F_PSE},
    {VC_CR4_PAE, VC_F_PAE},
    {VC_CR4_MCE, VC_F_MCE},
    {VC_CR4_PGE, VC_F_PGE},
    {VC_CR4_PCE, VC_F_NONE},
    {VC_CR4_OSFXSR, VC_F_FXSR},
    {VC_CR4_OSXMMEXCPT, VC_F_SSE},
    {VC_CR4_UMIP, VC_F_UMIP},
    {VC_CR4_LA57, VC_F_LA57},
    {VC_CR4_FSGSBASE, VC_F_FSGSBASE},
    {VC_CR4_PCIDE, VC_F_PCID},
    {VC_CR4_OSXSAVE, VC_F_XSAVE},
    {VC_CR4_SMEP, VC_F_SMEP},
    {VC_CR4_SMAP, VC_F_SMAP},
};

static uint64_t cr4_mask(const struct emu_vcpu *c)
{
	uint64_t mask = 0;

	for (unsigned n = 0; n < VC_ARRAY_SIZE(cr4_bits); n++) {
		if (cr4_bits[n].feature == VC_F_NONE || emu_has(c, cr4_bits[n].feature))
			mask |= cr4_bits[n].bits;
	}
	return mask;
}

static void write_cr4(struct emu_vcpu *c, uint64_t value)
{
	const uint64_t paging =
	    VC_CR4_PSE | VC_CR4_PAE | VC_CR4_PGE | VC_CR4_SMEP | VC_CR4_SMAP | VC_CR4_PCIDE | VC_CR4_LA57;
	uint64_t changed = value ^ c->s.cr4;

	if (value & ~cr4_mask(c))
		gp0(c);
	if (c->long_mode && (!(value & VC_CR4_PAE) || changed & VC_CR4_LA57))
		gp0(c);
	if (changed & value & VC_CR4_PCIDE && (!c->long_mode || c->s.cr3 & 0xfff))
		gp0(c);
	if (changed & (VC_CR4_PAE | VC_CR4_PGE | VC_CR4_PSE | VC_CR4_SMEP) && uses_pdptes(c->s.cr0, value, c->s.efer)) {
		uint64_t old = c->s.cr4;
		bool good;

		c->s.cr4 = value;
		good = emu_mmu_load_pdptes(c, c->s.cr3);
		if (!good) {
			c->s.cr4 = old;
			gp0(c);
		}
	}
	c->s.cr4 = value;
	emu_tsc_changed(c);
	if (changed & paging)
		emu_tlb_flush_all(c);
	if (changed)
		emu_mode_changed(c);
}

/* ---- CR8 ---- */

static uint64_t read_cr8(const struct emu_vcpu *c)
{
	return c->bvcpu->lapic ? vc_lapic_get_cr8(c->bvcpu->lapic) : c->s.cr8;
}

static void write_cr8(struct emu_vcpu *c, uint64_t value)
{
	if (value & ~0xfull)
		gp0(c);
	c->s.cr8 = value;
	if (c->bvcpu->lapic) {
		vc_lapic_set_cr8(c->bvcpu->lapic, (uint8_t)value);
		c->attention = true;
	}
}

/* ---- MOV ---- */

/* CR0, CR2, CR3, CR4 and, in 64-bit mode, CR8 exist. */
static void require_cr(struct emu_vcpu *c, unsigned cr)
{
	bool exists = cr == 0 || (cr >= 2 && cr <= 4) || cr == 8;

	if (!exists)
		emu_raise(c, VC_UD);
	emu_require_cpl0(c);
}

enum emu_next emu_sys_mov_from_cr(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint64_t value;

	require_cr(c, i->reg);
	switch (i->reg) {
	case 0:
		value = c->s.cr0;
		break;
	case 2:
		value = c->s.cr2;
		break;
	case 3:
		value = c->s.cr3;
		break;
	case 4:
		value = c->s.cr4;
		break;
	default:
		value = read_cr8(c);
	}
	c->s.gpr[i->rm] = c->mode == EMU_MODE_64 ? value : (uint32_t)value;
	return EMU_NEXT;
}

enum emu_next emu_sys_mov_to_cr(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint64_t value = c->s.gpr[i->rm];

	require_cr(c, i->reg);
	if (c->mode != EMU_MODE_64)
		value = (uint32_t)value;
	switch (i->reg) {
	case 0:
		write_cr0(c, value);
		break;
	case 2:
		c->s.cr2 = value;
		break;
	case 3:
		write_cr3(c, value);
		break;
	case 4:
		write_cr4(c, value);
		break;
	default:
		write_cr8(c, value);
	}
	return EMU_NEXT;
}

/* ---- TLB ---- */

enum emu_next emu_sys_invlpg(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint64_t linear = emu_effective_address(c, i);

	emu_require_cpl0(c);
	if (c->mode != EMU_MODE_64)
		linear = (uint32_t)(linear + c->s.seg[i->seg].base);
	else if (i->seg >= VC_FS)
		linear += c->s.seg[i->seg].base;
	/* One that is not canonical translates nothing. */
	if (emu_canonical(c, linear))
		emu_tlb_flush_page(c, linear);
	return EMU_NEXT;
}

enum emu_next emu_sys_invpcid(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint64_t type = c->s.gpr[i->reg], pcid, linear;

	/* Not in virtual-8086 mode either, where CPL is 3. */
	emu_require_cpl0(c);
	if (c->mode != EMU_MODE_64)
		type = (uint32_t)type;
	pcid = emu_load_operand(c, i, 0, 8);
	linear = emu_load_operand(c, i, 8, 8);
	if (type > 3 || pcid >> 12)
		gp0(c);
	if (type == 0 && !emu_canonical_register(c, linear))
		gp0(c);
	if (type < 2 && pcid && !(c->s.cr4 & VC_CR4_PCIDE))
		gp0(c);
	emu_mmu_invpcid(c, type, pcid, linear);
	return EMU_NEXT;
}

/* ---- XCR0 ---- */

enum emu_next emu_sys_xgetbv(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint32_t index = (uint32_t)c->s.gpr[VC_RCX];

	if (!(c->s.cr4 & VC_CR4_OSXSAVE))
		emu_raise(c, VC_UD);
	if (index == 0)
		emu_set_edx_eax(c, c->s.xcr0);
	else if (index == 1 && emu_has(c, VC_F_XGETBV1))
		emu_set_edx_eax(c, c->s.xcr0 & emu_vec_xinuse(c));
	else
		gp0(c);
	return EMU_NEXT;
}

enum emu_next emu_sys_xsetbv(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint64_t value = emu_edx_eax(c);

	if (!(c->s.cr4 & VC_CR4_OSXSAVE))
		emu_raise(c, VC_UD);
	emu_require_cpl0(c);
	if ((uint32_t)c->s.gpr[VC_RCX] || !(value & VC_XSTATE_X87) ||
	    value & ~vc_cpuid_xcr0_mask(&c->bvcpu->cpuid.features))
		gp0(c);
	if (value & VC_XSTATE_AVX && !(value & VC_XSTATE_SSE))
		gp0(c);
	c->s.xcr0 = value;
	emu_mode_changed(c);
	return EMU_NEXT;
}
