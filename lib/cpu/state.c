/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Power-on, INIT, SIPI and flat states; and which states no CPU can be in. */
#include "cpu/state.h"

#include <string.h>

#include "core/error.h"

#define ATTR_REAL_CODE 0x9b   /* present, code, readable, accessed */
#define ATTR_REAL_DATA 0x93   /* present, data, writable, accessed */
#define ATTR_CODE32    0xc09b /* ... 4 KiB granularity, 32-bit */
#define ATTR_DATA32    0xc093
#define ATTR_CODE64    0xa09b
#define ATTR_LDT       0x82
#define ATTR_TSS_BUSY  0x8b

static struct vc_segment segment(uint16_t selector, uint64_t base, uint32_t limit, uint16_t attr)
{
	return (struct vc_segment){.base = base, .limit = limit, .selector = selector, .attr = attr};
}

/* What RESET and INIT have in common, SDM vol. 3 table 10-1 (9-1 in older editions). */
static void reset_common(struct vc_cpu_state *s)
{
	memset(s->gpr, 0, sizeof s->gpr);
	s->gpr[VC_RDX] = 0x600; /* family 6 */
	s->rip = 0xfff0;
	s->rflags = 2;
	for (int i = 0; i < VC_SEG_COUNT; i++)
		s->seg[i] = segment(0, 0, 0xffff, ATTR_REAL_DATA);
	s->seg[VC_CS] = segment(0xf000, 0xffff0000, 0xffff, ATTR_REAL_CODE);
	s->ldtr = segment(0, 0, 0xffff, ATTR_LDT);
	s->tr = segment(0, 0, 0xffff, ATTR_TSS_BUSY);
	s->gdtr = (struct vc_table){.limit = 0xffff};
	s->idtr = (struct vc_table){.limit = 0xffff};
	s->cr2 = s->cr3 = s->cr4 = s->cr8 = 0;
	s->efer = 0;
	memset(s->dr, 0, sizeof s->dr);
	s->dr6 = 0xffff0ff0;
	s->dr7 = 0x400;
	s->shadow_sti = s->shadow_mov_ss = 0;
	s->nmi_masked = s->nmi_pending = 0;
	s->exception_pending = s->interrupt_injected = 0;
}

void vc_cpu_state_reset(struct vc_cpu_state *s, bool bsp)
{
	memset(s, 0, sizeof *s);
	reset_common(s);
	s->cr0 = VC_CR0_CD | VC_CR0_NW | VC_CR0_ET;
	s->xcr0 = VC_XSTATE_X87;
	s->apic_base = 0xfee00800 | (bsp ? 0x100 : 0);
	s->pat = 0x0007040600070406;
	s->misc_enable = 1; /* fast strings */
	s->xsave.fcw = 0x40;
	s->xsave.mxcsr = 0x1f80;
	/* FTW of the FXSAVE form: 0 is all empty. RESET leaves the tags valid, but every BIOS and kernel runs FNINIT first
	 */
	s->mp_state = bsp ? VC_MP_RUNNABLE : VC_MP_WAIT_SIPI;
}

void vc_cpu_state_init(struct vc_cpu_state *s)
{
	/* CD and NW stay as they were */
	uint64_t cr0 = (s->cr0 & (VC_CR0_CD | VC_CR0_NW)) | VC_CR0_ET;

	reset_common(s);
	s->cr0 = cr0;
	s->mp_state = VC_MP_WAIT_SIPI;
}

void vc_cpu_state_sipi(struct vc_cpu_state *s, uint8_t vector)
{
	s->seg[VC_CS] = segment((uint16_t)(vector << 8), (uint64_t)vector << 12, 0xffff, ATTR_REAL_CODE);
	s->rip = 0;
	s->mp_state = VC_MP_RUNNABLE;
}

static void flat(struct vc_cpu_state *s, struct vc_segment code, struct vc_segment data)
{
	for (int i = 0; i < VC_SEG_COUNT; i++)
		s->seg[i] = data;
	s->seg[VC_CS] = code;
	s->efer = 0;
	s->cr3 = s->cr4 = 0;
	s->rflags = 2;
	s->mp_state = VC_MP_RUNNABLE;
}

void vc_cpu_state_flat_real(struct vc_cpu_state *s)
{
	flat(s, segment(0, 0, 0xffff, ATTR_REAL_CODE), segment(0, 0, 0xffff, ATTR_REAL_DATA));
	s->cr0 = VC_CR0_ET;
	s->idtr = (struct vc_table){.limit = 0x3ff};
}

void vc_cpu_state_flat32(struct vc_cpu_state *s)
{
	flat(s, segment(0x08, 0, 0xffffffff, ATTR_CODE32), segment(0x10, 0, 0xffffffff, ATTR_DATA32));
	s->cr0 = VC_CR0_PE | VC_CR0_ET;
}

void vc_cpu_state_long64(struct vc_cpu_state *s, uint64_t cr3)
{
	flat(s, segment(0x08, 0, 0xffffffff, ATTR_CODE64), segment(0x10, 0, 0xffffffff, ATTR_DATA32));
	s->cr0 = VC_CR0_PG | VC_CR0_PE | VC_CR0_MP | VC_CR0_NE | VC_CR0_ET;
	s->cr3 = cr3;
	s->cr4 = VC_CR4_PAE | VC_CR4_OSFXSR | VC_CR4_OSXMMEXCPT;
	s->efer = VC_EFER_LME | VC_EFER_LMA | VC_EFER_SCE | VC_EFER_NXE;
}

/* ---- checks ---- */

static bool canonical(uint64_t address, uint64_t cr4)
{
	unsigned bits = cr4 & VC_CR4_LA57 ? 57 : 48;

	return (uint64_t)((int64_t)(address << (64 - bits)) >> (64 - bits)) == address;
}

static int check_control(const struct vc_cpu_state *s)
{
	bool paging = s->cr0 & VC_CR0_PG, lme = s->efer & VC_EFER_LME, lma = s->efer & VC_EFER_LMA;

	if (s->cr0 >> 32)
		return vc_fail(EINVAL, "CR0 is %#llx: expected 0 in bits 63:32", (unsigned long long)s->cr0);
	if (paging && !(s->cr0 & VC_CR0_PE))
		return vc_fail(EINVAL, "CR0 is %#llx: PG without PE", (unsigned long long)s->cr0);
	if ((s->cr0 & VC_CR0_NW) && !(s->cr0 & VC_CR0_CD))
		return vc_fail(EINVAL, "CR0 is %#llx: NW without CD", (unsigned long long)s->cr0);
	if (lma != (lme && paging))
		return vc_fail(EINVAL, "EFER is %#llx with CR0.PG %d: expected LMA = LME and PG", (unsigned long long)s->efer,
		               paging);
	if (lma && !(s->cr4 & VC_CR4_PAE))
		return vc_fail(EINVAL, "CR4 is %#llx: long mode without PAE", (unsigned long long)s->cr4);
	if ((s->cr4 & VC_CR4_PCIDE) && !lma)
		return vc_fail(EINVAL, "CR4 is %#llx: PCIDE outside long mode", (unsigned long long)s->cr4);
	if (s->cr8 > 15)
		return vc_fail(EINVAL, "CR8 is %#llx: expected 0 to 15", (unsigned long long)s->cr8);
	if (!(s->xcr0 & VC_XSTATE_X87) || ((s->xcr0 & VC_XSTATE_AVX) && !(s->xcr0 & VC_XSTATE_SSE)))
		return vc_fail(EINVAL, "XCR0 is %#llx: expected x87, and SSE with AVX", (unsigned long long)s->xcr0);
	return 0;
}

static int check_segments(const struct vc_cpu_state *s)
{
	uint16_t cs = s->seg[VC_CS].attr;

	if ((cs & VC_SEG_L) && (cs & VC_SEG_DB) && (s->efer & VC_EFER_LMA))
		return vc_fail(EINVAL, "CS attributes are %#x: L and D/B together", cs);
	if ((s->rflags & VC_FLAG_VM) && (s->efer & VC_EFER_LMA))
		return vc_fail(EINVAL, "RFLAGS is %#llx: VM in long mode", (unsigned long long)s->rflags);
	if ((s->efer & VC_EFER_LMA) && (!canonical(s->seg[VC_FS].base, s->cr4) || !canonical(s->seg[VC_GS].base, s->cr4) ||
	                                !canonical(s->kernel_gs_base, s->cr4)))
		return vc_fail(EINVAL, "a base of FS or GS is not canonical");
	if ((s->efer & VC_EFER_LMA) && (cs & VC_SEG_L) && !canonical(s->rip, s->cr4))
		return vc_fail(EINVAL, "RIP is %#llx: not canonical", (unsigned long long)s->rip);
	return 0;
}

int vc_cpu_state_check(const struct vc_cpu_state *s)
{
	int r = check_control(s);

	if (r >= 0)
		r = check_segments(s);
	if (r >= 0 && s->mp_state > VC_MP_UNINITIALIZED)
		r = vc_fail(EINVAL, "mp_state is %u: expected 0 to %d", s->mp_state, VC_MP_UNINITIALIZED);
	if (r >= 0 && s->xsave.mxcsr & 0xffff0000)
		r = vc_fail(EINVAL, "MXCSR is %#x: reserved bits are set", s->xsave.mxcsr);
	return r;
}
