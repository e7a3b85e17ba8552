/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Power-on, INIT and flat states of a vcpu, and whether a state given from outside is one that a CPU can be in. */
#include "cpu/state.h"

#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "core/util.h"

/* Descriptor cache attributes: present, system or not, type. */
#define ATTR_DATA    (VC_SEG_P | VC_SEG_S | 0x3u) /* read/write, accessed */
#define ATTR_CODE    (VC_SEG_P | VC_SEG_S | 0xbu) /* execute/read, accessed */
#define ATTR_LDT     (VC_SEG_P | 0x2u)
#define ATTR_BUSYTSS (VC_SEG_P | 0xbu)

#define RESET_VECTOR_BASE 0xffff0000u
#define APIC_BASE_RESET   0xfee00000u
#define APIC_BASE_BSP     0x100u
#define APIC_BASE_X2APIC  0x400u
#define APIC_BASE_ENABLE  0x800u

#define FCW_RESET    0x0040u
#define FCW_INIT     0x037fu
#define MXCSR_RESET  0x1f80u
#define MXCSR_MASK   0xffffu
#define PAT_RESET    0x0007040600070406ull
#define DR6_RESET    0xffff0ff0u
#define DR7_RESET    0x400u
#define FAST_STRINGS 1u /* IA32_MISC_ENABLE[0] */
#define CR0_RESET    (VC_CR0_CD | VC_CR0_NW | VC_CR0_ET)
#define EDX_RESET    0x600u /* "000n06xxH": family 6 */

static struct vc_segment segment(uint16_t selector, uint64_t base, uint32_t limit, uint32_t attr)
{
	return (struct vc_segment){.selector = selector, .base = base, .limit = limit, .attr = (uint16_t)attr};
}

/* ---- reset, INIT, SIPI ---- */

/* What RESET and INIT set alike: SDM vol. 3 table 10-1. */
static void init_common(struct vc_cpu_state *s, bool bsp)
{
	memset(s->gpr, 0, sizeof s->gpr);
	s->gpr[VC_RDX] = EDX_RESET;
	s->rip = 0xfff0;
	s->rflags = 2;
	for (int n = 0; n < VC_SEG_COUNT; n++)
		s->seg[n] = segment(0, 0, 0xffff, ATTR_DATA);
	s->seg[VC_CS] = segment(0xf000, RESET_VECTOR_BASE, 0xffff, ATTR_CODE);
	s->ldtr = segment(0, 0, 0xffff, ATTR_LDT);
	s->tr = segment(0, 0, 0xffff, ATTR_BUSYTSS);
	s->gdtr = s->idtr = (struct vc_table){.limit = 0xffff};
	s->cr2 = s->cr3 = s->cr4 = s->cr8 = 0;
	s->efer = 0;
	memset(s->dr, 0, sizeof s->dr);
	s->dr6 = DR6_RESET;
	s->dr7 = DR7_RESET;

	s->mp_state = bsp ? VC_MP_RUNNABLE : VC_MP_WAIT_SIPI;
	s->sipi_vector = 0;
	s->shadow_sti = s->shadow_mov_ss = 0;
	s->nmi_masked = s->nmi_pending = 0;
	s->exception_pending = s->exception_vector = s->exception_has_error = 0;
	s->exception_error = 0;
	s->interrupt_injected = s->interrupt_vector = s->interrupt_soft = 0;
}

/* The area names both components: x87 after RESET is not in its XRSTOR initial state (FCW 0040H). */
static void reset_xsave(struct vc_xsave *area, uint16_t fcw)
{
	memset(area, 0, sizeof *area);
	area->fcw = fcw;
	area->ftw = fcw == FCW_RESET ? 0xff : 0; /* RESET: tag word 5555H, all zero; FNINIT: all empty */
	area->mxcsr = MXCSR_RESET;
	area->mxcsr_mask = MXCSR_MASK;
	area->xstate_bv = VC_XSTATE_X87 | VC_XSTATE_SSE;
}

void vc_cpu_state_reset(struct vc_cpu_state *s, bool bsp)
{
	memset(s, 0, sizeof *s);
	init_common(s, bsp);
	s->cr0 = CR0_RESET;
	s->xcr0 = VC_XSTATE_X87;
	s->apic_base = APIC_BASE_RESET | APIC_BASE_ENABLE | (bsp ? APIC_BASE_BSP : 0);
	s->pat = PAT_RESET;
	s->misc_enable = FAST_STRINGS;
	reset_xsave(&s->xsave, FCW_RESET);
}

void vc_cpu_state_init(struct vc_cpu_state *s)
{
	uint64_t caching = s->cr0 & (VC_CR0_CD | VC_CR0_NW); /* INIT leaves these alone */

	init_common(s, s->apic_base & APIC_BASE_BSP);
	s->cr0 = caching | VC_CR0_ET;
}

void vc_cpu_state_sipi(struct vc_cpu_state *s, uint8_t vector)
{
	s->seg[VC_CS] = segment((uint16_t)(vector << 8), (uint64_t)vector << 12, 0xffff, ATTR_CODE);
	s->rip = 0;
	s->sipi_vector = vector;
	s->mp_state = VC_MP_RUNNABLE;
}

/* ---- flat modes ---- */

/* What all flat modes share; FPU and SSE are left ready for compiled code, as an operating system would. */
static void flat_common(struct vc_cpu_state *s, struct vc_segment code, struct vc_segment data)
{
	for (int n = 0; n < VC_SEG_COUNT; n++)
		s->seg[n] = data;
	s->seg[VC_CS] = code;
	s->ldtr = (struct vc_segment){.unusable = 1};
	s->tr = segment(0, 0, 0xffff, ATTR_BUSYTSS);
	s->gdtr = s->idtr = (struct vc_table){.limit = 0xffff};
	s->rip = 0;
	s->gpr[VC_RSP] = 0;
	s->rflags = 2;
	s->cr3 = 0;
	s->cr4 = 0;
	s->efer = 0;
	s->mp_state = VC_MP_RUNNABLE;
	reset_xsave(&s->xsave, FCW_INIT);
}

void vc_cpu_state_flat_real(struct vc_cpu_state *s)
{
	flat_common(s, segment(0, 0, 0xffff, ATTR_CODE), segment(0, 0, 0xffff, ATTR_DATA));
	s->idtr.limit = 0x3ff;
	s->cr0 = VC_CR0_ET;
}

void vc_cpu_state_flat32(struct vc_cpu_state *s)
{
	flat_common(s, segment(0x08, 0, 0xffffffff, ATTR_CODE | VC_SEG_G | VC_SEG_DB),
	            segment(0x10, 0, 0xffffffff, ATTR_DATA | VC_SEG_G | VC_SEG_DB));
	s->cr0 = VC_CR0_PE | VC_CR0_MP | VC_CR0_ET | VC_CR0_NE;
	s->cr4 = VC_CR4_OSFXSR | VC_CR4_OSXMMEXCPT;
}

void vc_cpu_state_long64(struct vc_cpu_state *s, uint64_t cr3)
{
	flat_common(s, segment(0x08, 0, 0xffffffff, ATTR_CODE | VC_SEG_G | VC_SEG_L),
	            segment(0x10, 0, 0xffffffff, ATTR_DATA | VC_SEG_G | VC_SEG_DB));
	s->cr0 = VC_CR0_PE | VC_CR0_MP | VC_CR0_ET | VC_CR0_NE | VC_CR0_PG;
	s->cr3 = cr3;
	s->cr4 = VC_CR4_PAE | VC_CR4_OSFXSR | VC_CR4_OSXMMEXCPT;
	s->efer = VC_EFER_LME | VC_EFER_LMA;
}

/* ---- is this a state a CPU can be in? ---- */

#define CR0_DEFINED                                                                                            \
	((uint64_t)VC_CR0_PE | VC_CR0_MP | VC_CR0_EM | VC_CR0_TS | VC_CR0_ET | VC_CR0_NE | VC_CR0_WP | VC_CR0_AM | \
	 VC_CR0_NW | VC_CR0_CD | VC_CR0_PG)
#define CR4_DEFINED                                                                                                   \
	((uint64_t)VC_CR4_VME | VC_CR4_PVI | VC_CR4_TSD | VC_CR4_DE | VC_CR4_PSE | VC_CR4_PAE | VC_CR4_MCE | VC_CR4_PGE | \
	 VC_CR4_PCE | VC_CR4_OSFXSR | VC_CR4_OSXMMEXCPT | VC_CR4_UMIP | VC_CR4_LA57 | VC_CR4_FSGSBASE | VC_CR4_PCIDE |    \
	 VC_CR4_OSXSAVE | VC_CR4_SMEP | VC_CR4_SMAP | VC_CR4_PKE)
#define EFER_DEFINED ((uint64_t)VC_EFER_SCE | VC_EFER_LME | VC_EFER_LMA | VC_EFER_NXE)
#define RFLAGS_DEFINED                                                                                              \
	((uint64_t)VC_FLAGS_ARITH | 2 | VC_FLAG_TF | VC_FLAG_IF | VC_FLAG_DF | VC_FLAG_IOPL | VC_FLAG_NT | VC_FLAG_RF | \
	 VC_FLAG_VM | VC_FLAG_AC | VC_FLAG_VIF | VC_FLAG_VIP | VC_FLAG_ID)
#define XCR0_DEFINED       ((uint64_t)VC_XSTATE_X87 | VC_XSTATE_SSE | VC_XSTATE_AVX)
#define SEG_ATTR_DEFINED   0xf0ffu
#define APIC_BASE_RESERVED 0x2ffu /* bits 7:0 and 9; 8 is BSP */
#define HIGH_32            0xffffffff00000000ull
#define ABOVE_52           0xfff0000000000000ull

/* A value, and the bits of it that must be clear. */
struct reserved {
	const char *name;
	uint64_t value, bits;
};

static int check_reserved(const struct vc_cpu_state *s)
{
	const struct reserved all[] = {
	    {"CR0", s->cr0, ~CR0_DEFINED},
	    {"CR3", s->cr3, ABOVE_52},
	    {"CR4", s->cr4, ~CR4_DEFINED},
	    {"CR8", s->cr8, ~0xfull},
	    {"EFER", s->efer, ~EFER_DEFINED},
	    {"RFLAGS", s->rflags, ~RFLAGS_DEFINED},
	    {"XCR0", s->xcr0, ~XCR0_DEFINED},
	    {"DR6", s->dr6, HIGH_32},
	    {"DR7", s->dr7, HIGH_32},
	    {"IA32_APIC_BASE", s->apic_base, APIC_BASE_RESERVED & ~APIC_BASE_BSP},
	    {"MXCSR", s->xsave.mxcsr, ~(uint64_t)MXCSR_MASK},
	    {"XCOMP_BV", s->xsave.xcomp_bv, ~0ull}, /* standard format only */
	};

	for (size_t n = 0; n < VC_ARRAY_SIZE(all); n++)
		if (all[n].value & all[n].bits)
			return vc_fail(EINVAL, "%s is 0x%" PRIx64 ": bits 0x%" PRIx64 " must be 0", all[n].name, all[n].value,
			               all[n].value & all[n].bits);
	for (size_t n = 0; n < VC_ARRAY_SIZE(s->xsave.header_reserved); n++)
		if (s->xsave.header_reserved[n])
			return vc_fail(EINVAL, "a reserved field of the XSAVE header is not 0");
	for (unsigned n = 0; n < 8; n++) {
		unsigned type = (s->pat >> (n * 8)) & 0xff;

		if (type > 7 || type == 2 || type == 3)
			return vc_fail(EINVAL, "IA32_PAT is 0x%" PRIx64 ": %u is no memory type", s->pat, type);
	}
	return 0;
}

/* What two registers say together. */
static int check_modes(const struct vc_cpu_state *s)
{
	bool paging = s->cr0 & VC_CR0_PG, lme = s->efer & VC_EFER_LME, lma = s->efer & VC_EFER_LMA;
	bool v86 = s->rflags & VC_FLAG_VM;
	const struct {
		bool wrong;
		const char *sentence;
	} rules[] = {
	    {paging && !(s->cr0 & VC_CR0_PE), "CR0.PG is set without CR0.PE"},
	    {s->cr0 & VC_CR0_NW && !(s->cr0 & VC_CR0_CD), "CR0.NW is set without CR0.CD"},
	    {lma && !paging, "EFER.LMA is set without CR0.PG"},
	    {lma && !lme, "EFER.LMA is set without EFER.LME"},
	    {lme && paging && !lma, "EFER.LME and CR0.PG are set, so EFER.LMA must be"},
	    {lma && !(s->cr4 & VC_CR4_PAE), "EFER.LMA is set without CR4.PAE"},
	    {s->cr4 & VC_CR4_PCIDE && !lma, "CR4.PCIDE is set outside IA-32e mode"},
	    {lma && s->seg[VC_CS].attr & VC_SEG_L && s->seg[VC_CS].attr & VC_SEG_DB, "CS.L and CS.D are both set"},
	    {v86 && !(s->cr0 & VC_CR0_PE), "RFLAGS.VM is set without CR0.PE"},
	    {v86 && lma, "RFLAGS.VM is set in IA-32e mode"},
	    {!(s->rflags & 2), "bit 1 of RFLAGS must be 1"},
	    {!(s->xcr0 & VC_XSTATE_X87), "XCR0 must enable x87 (bit 0)"},
	    {s->xcr0 & VC_XSTATE_AVX && !(s->xcr0 & VC_XSTATE_SSE), "XCR0 enables AVX without SSE"},
	    {s->apic_base & APIC_BASE_X2APIC && !(s->apic_base & APIC_BASE_ENABLE),
	     "IA32_APIC_BASE enables x2APIC mode without the APIC"},
	    {s->mp_state > VC_MP_UNINITIALIZED, "mp_state is none of enum vc_mp_state"},
	    {s->exception_pending && s->exception_vector > 31, "the pending exception has no vector below 32"},
	};

	for (size_t n = 0; n < VC_ARRAY_SIZE(rules); n++)
		if (rules[n].wrong)
			return vc_fail(EINVAL, "%s", rules[n].sentence);
	return 0;
}

static int check_segments(const struct vc_cpu_state *s)
{
	static const char *const names[] = {"ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"};

	for (unsigned n = 0; n < VC_ARRAY_SIZE(names); n++) {
		const struct vc_segment *seg = n < VC_SEG_COUNT ? &s->seg[n] : n == VC_SEG_COUNT ? &s->ldtr : &s->tr;

		if (seg->unusable || !(seg->attr & VC_SEG_P))
			continue;
		if (seg->attr & ~SEG_ATTR_DEFINED)
			return vc_fail(EINVAL, "%s attributes are 0x%x: bits 11:8 must be 0", names[n], seg->attr);
		if (seg->attr & VC_SEG_G ? (seg->limit & 0xfff) != 0xfff : seg->limit > 0xfffff)
			return vc_fail(EINVAL, "%s limit 0x%x (in bytes) does not fit granularity %d", names[n], seg->limit,
			               !!(seg->attr & VC_SEG_G));
	}
	return 0;
}

static bool canonical(uint64_t address, bool la57)
{
	unsigned shift = la57 ? 64 - 57 : 64 - 48;

	return (uint64_t)((int64_t)(address << shift) >> shift) == address;
}

static int check_canonical(const struct vc_cpu_state *s)
{
	bool la57 = s->cr4 & VC_CR4_LA57, in_64bit = s->efer & VC_EFER_LMA && s->seg[VC_CS].attr & VC_SEG_L;
	const struct {
		const char *name;
		uint64_t value;
	} all[] = {
	    {"FS.base", s->seg[VC_FS].base},
	    {"GS.base", s->seg[VC_GS].base},
	    {"LDTR.base", s->ldtr.unusable ? 0 : s->ldtr.base},
	    {"TR.base", s->tr.base},
	    {"GDTR.base", s->gdtr.base},
	    {"IDTR.base", s->idtr.base},
	    {"IA32_LSTAR", s->lstar},
	    {"IA32_CSTAR", s->cstar},
	    {"IA32_KERNEL_GS_BASE", s->kernel_gs_base},
	    {"IA32_SYSENTER_ESP", s->sysenter_esp},
	    {"IA32_SYSENTER_EIP", s->sysenter_eip},
	};
	static const uint8_t narrow[] = {VC_ES, VC_CS, VC_SS, VC_DS};

	/* RIP by the paging mode; the others by what a CPU can have at most, as the instructions that load them check it */
	if (in_64bit && !canonical(s->rip, la57))
		return vc_fail(EINVAL, "RIP is 0x%" PRIx64 ", not a canonical address", s->rip);
	for (size_t n = 0; n < VC_ARRAY_SIZE(all); n++)
		if (!canonical(all[n].value, true))
			return vc_fail(EINVAL, "%s is 0x%" PRIx64 ", not a canonical address", all[n].name, all[n].value);
	for (size_t n = 0; n < VC_ARRAY_SIZE(narrow); n++)
		if (!s->seg[narrow[n]].unusable && s->seg[narrow[n]].base & HIGH_32)
			return vc_fail(EINVAL, "the base of ES, CS, SS and DS has 32 bits");
	if (!in_64bit && s->rip & HIGH_32)
		return vc_fail(EINVAL, "RIP is 0x%" PRIx64 " outside 64-bit mode", s->rip);
	return 0;
}

int vc_cpu_state_check(const struct vc_cpu_state *s)
{
	int r = check_reserved(s);

	if (r == 0)
		r = check_modes(s);
	if (r == 0)
		r = check_segments(s);
	return r == 0 ? check_canonical(s) : r;
}
