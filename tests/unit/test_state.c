/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <virtcore/error.h>

#include "core/util.h"
#include "cpu/state.h"

static struct vc_cpu_state s;

START_TEST(test_reset)
{
	memset(&s, 0xa5, sizeof s);
	vc_cpu_state_reset(&s, true);
	ck_assert_uint_eq(s.seg[VC_CS].selector, 0xf000);
	ck_assert_uint_eq(s.seg[VC_CS].base + s.rip, 0xfffffff0);
	ck_assert_uint_eq(s.seg[VC_CS].limit, 0xffff);
	ck_assert_uint_eq(s.seg[VC_DS].selector, 0);
	ck_assert_uint_eq(s.rflags, 2);
	ck_assert_uint_eq(s.cr0, 0x60000010);
	ck_assert_uint_eq(s.dr6, 0xffff0ff0);
	ck_assert_uint_eq(s.dr7, 0x400);
	ck_assert_uint_eq(s.xcr0, 1);
	ck_assert_uint_eq(s.apic_base, 0xfee00900);
	ck_assert_uint_eq(s.pat, 0x0007040600070406);
	ck_assert_uint_eq(s.idtr.limit, 0xffff);
	ck_assert_uint_eq(s.xsave.fcw, 0x40);
	ck_assert_uint_eq(s.xsave.ftw, 0xff);
	ck_assert_uint_eq(s.xsave.mxcsr, 0x1f80);
	ck_assert_uint_eq(s.xsave.xstate_bv, 3);
	ck_assert_uint_eq(s.mp_state, VC_MP_RUNNABLE);
	ck_assert_uint_eq(s.gpr[VC_RAX] | s.gpr[VC_RSP] | s.lstar | s.tsc_offset | s.exception_pending | s.shadow_sti, 0);
	ck_assert_int_eq(vc_cpu_state_check(&s), 0);

	vc_cpu_state_reset(&s, false);
	ck_assert_uint_eq(s.apic_base, 0xfee00800);
	ck_assert_uint_eq(s.mp_state, VC_MP_WAIT_SIPI);
	ck_assert_int_eq(vc_cpu_state_check(&s), 0);
}
END_TEST

START_TEST(test_init_keeps)
{
	vc_cpu_state_reset(&s, true);
	vc_cpu_state_long64(&s, 0x1000);
	s.xsave.xmm[3][0] = 7;
	s.xsave.fcw = 0x27f;
	s.xcr0 = 7;
	s.lstar = 0xffffffff81000000;
	s.tsc_offset = 5;
	s.cr0 |= VC_CR0_CD;
	s.nmi_masked = s.shadow_sti = s.exception_pending = 1;
	vc_cpu_state_init(&s);
	ck_assert_uint_eq(s.xsave.xmm[3][0], 7);
	ck_assert_uint_eq(s.xsave.fcw, 0x27f);
	ck_assert_uint_eq(s.xcr0, 7);
	ck_assert_uint_eq(s.lstar, 0xffffffff81000000);
	ck_assert_uint_eq(s.tsc_offset, 5);
	ck_assert_uint_eq(s.cr0, VC_CR0_CD | VC_CR0_ET);
	ck_assert_uint_eq(s.efer | s.cr3 | s.cr4 | s.nmi_masked | s.shadow_sti | s.exception_pending, 0);
	ck_assert_uint_eq(s.rip, 0xfff0);
	ck_assert_uint_eq(s.mp_state, VC_MP_RUNNABLE); /* the bootstrap processor runs */
	ck_assert_int_eq(vc_cpu_state_check(&s), 0);

	vc_cpu_state_reset(&s, false);
	s.mp_state = VC_MP_HALTED;
	vc_cpu_state_init(&s);
	ck_assert_uint_eq(s.mp_state, VC_MP_WAIT_SIPI);
}
END_TEST

START_TEST(test_sipi)
{
	vc_cpu_state_reset(&s, false);
	vc_cpu_state_sipi(&s, 0x9f);
	ck_assert_uint_eq(s.seg[VC_CS].selector, 0x9f00);
	ck_assert_uint_eq(s.seg[VC_CS].base, 0x9f000);
	ck_assert_uint_eq(s.rip, 0);
	ck_assert_uint_eq(s.mp_state, VC_MP_RUNNABLE);
	ck_assert_int_eq(vc_cpu_state_check(&s), 0);
}
END_TEST

START_TEST(test_flat)
{
	vc_cpu_state_reset(&s, true);
	s.gpr[VC_RBX] = 42;
	vc_cpu_state_flat_real(&s);
	ck_assert_uint_eq(s.seg[VC_CS].base, 0);
	ck_assert(!(s.cr0 & (VC_CR0_PE | VC_CR0_PG)));
	ck_assert_int_eq(vc_cpu_state_check(&s), 0);

	vc_cpu_state_flat32(&s);
	ck_assert(s.cr0 & VC_CR0_PE && !(s.cr0 & VC_CR0_PG));
	ck_assert(s.seg[VC_CS].attr & VC_SEG_DB);
	ck_assert_uint_eq(s.seg[VC_SS].limit, 0xffffffff);
	ck_assert_int_eq(vc_cpu_state_check(&s), 0);

	vc_cpu_state_long64(&s, 0x123000);
	ck_assert(s.cr0 & VC_CR0_PG && s.cr4 & VC_CR4_PAE && s.efer & VC_EFER_LMA && s.seg[VC_CS].attr & VC_SEG_L);
	ck_assert_uint_eq(s.cr3, 0x123000);
	ck_assert_uint_eq(s.gpr[VC_RBX], 42);
	ck_assert_uint_eq(s.xsave.fcw, 0x37f);
	ck_assert_int_eq(vc_cpu_state_check(&s), 0);

	/* and back */
	vc_cpu_state_flat_real(&s);
	ck_assert_uint_eq(s.efer | s.cr3 | s.cr4, 0);
	ck_assert_int_eq(vc_cpu_state_check(&s), 0);
}
END_TEST

/* ---- impossible states: each breaks one thing of a good one, and must be named ---- */

static void pg_without_pe(void)
{
	s.cr0 &= ~(uint64_t)VC_CR0_PE;
}
static void nw_without_cd(void)
{
	s.cr0 |= VC_CR0_NW;
}
static void cr0_high(void)
{
	s.cr0 |= 1ull << 32;
}
static void cr0_reserved(void)
{
	s.cr0 |= 1u << 7;
}
static void cr3_high(void)
{
	s.cr3 |= 1ull << 52;
}
static void cr4_reserved(void)
{
	s.cr4 |= 1u << 15;
}
static void cr8_high(void)
{
	s.cr8 = 16;
}
static void efer_reserved(void)
{
	s.efer |= 2;
}
static void lma_without_pg(void)
{
	s.cr0 &= ~(uint64_t)VC_CR0_PG;
}
static void lma_without_lme(void)
{
	s.efer &= ~(uint64_t)VC_EFER_LME;
}
static void no_lma(void)
{
	s.efer &= ~(uint64_t)VC_EFER_LMA;
}
static void no_pae(void)
{
	s.cr4 &= ~(uint64_t)VC_CR4_PAE;
}
static void l_and_d(void)
{
	s.seg[VC_CS].attr |= VC_SEG_DB;
}
static void vm86(void)
{
	s.rflags |= VC_FLAG_VM;
}
static void rflags_bit1(void)
{
	s.rflags = 0;
}
static void rflags_reserved(void)
{
	s.rflags |= 1u << 3;
}
static void xcr0_zero(void)
{
	s.xcr0 = 0;
}
static void xcr0_avx(void)
{
	s.xcr0 = 5;
}
static void xcr0_unknown(void)
{
	s.xcr0 = 0xe7;
}
static void dr7_high(void)
{
	s.dr7 |= 1ull << 32;
}
static void x2apic_off(void)
{
	s.apic_base = 0xfee00400;
}
static void apic_reserved(void)
{
	s.apic_base |= 1;
}
static void pat_type(void)
{
	s.pat = 2;
}
static void mxcsr_reserved(void)
{
	s.xsave.mxcsr = 1u << 16;
}
static void compacted(void)
{
	s.xsave.xcomp_bv = 1ull << 63;
}
static void header_reserved(void)
{
	s.xsave.header_reserved[5] = 1;
}
static void mp_state(void)
{
	s.mp_state = 9;
}
static void bad_exception(void)
{
	s.exception_pending = 1, s.exception_vector = 32;
}
static void rip_not_canonical(void)
{
	s.rip = 1ull << 47;
}
static void gs_not_canonical(void)
{
	s.seg[VC_GS].base = 0x0100000000000000; /* more than 57 bits */
}
static void lstar_not_canonical(void)
{
	s.lstar = 0xf0f0000000000000;
}
static void wide_base(void)
{
	s.seg[VC_DS].base = 1ull << 32;
}
static void attr_reserved(void)
{
	s.seg[VC_DS].attr |= 0x100;
}
static void limit_granular(void)
{
	s.seg[VC_DS].limit = 0xfff00000;
}
static void limit_bytes(void)
{
	s.tr.limit = 0x100000;
}

static const struct {
	void (*spoil)(void);
	const char *word; /* of the message */
} impossible[] = {
    {pg_without_pe, "CR0.PE"},
    {nw_without_cd, "CR0.CD"},
    {cr0_high, "CR0"},
    {cr0_reserved, "CR0"},
    {cr3_high, "CR3"},
    {cr4_reserved, "CR4"},
    {cr8_high, "CR8"},
    {efer_reserved, "EFER"},
    {lma_without_pg, "LMA"},
    {lma_without_lme, "LME"},
    {no_lma, "LMA"},
    {no_pae, "PAE"},
    {l_and_d, "CS.L"},
    {vm86, "VM"},
    {rflags_bit1, "RFLAGS"},
    {rflags_reserved, "RFLAGS"},
    {xcr0_zero, "XCR0"},
    {xcr0_avx, "XCR0"},
    {xcr0_unknown, "XCR0"},
    {dr7_high, "DR7"},
    {x2apic_off, "x2APIC"},
    {apic_reserved, "APIC_BASE"},
    {pat_type, "PAT"},
    {mxcsr_reserved, "MXCSR"},
    {compacted, "XCOMP_BV"},
    {header_reserved, "XSAVE"},
    {mp_state, "mp_state"},
    {bad_exception, "exception"},
    {rip_not_canonical, "RIP"},
    {gs_not_canonical, "GS"},
    {lstar_not_canonical, "LSTAR"},
    {wide_base, "DS"},
    {attr_reserved, "DS"},
    {limit_granular, "DS"},
    {limit_bytes, "TR"},
};

START_TEST(test_impossible)
{
	vc_cpu_state_reset(&s, true);
	vc_cpu_state_long64(&s, 0x1000);
	ck_assert_int_eq(vc_cpu_state_check(&s), 0);
	impossible[_i].spoil();
	ck_assert_int_eq(vc_cpu_state_check(&s), -EINVAL);
	ck_assert_msg(strstr(vcore_error_message(), impossible[_i].word) != NULL, "case %d: '%s' does not name %s", _i,
	              vcore_error_message(), impossible[_i].word);
}
END_TEST

START_TEST(test_unusual_but_possible)
{
	vc_cpu_state_reset(&s, true);
	s.seg[VC_DS].limit = 0xffffffff; /* big real mode */
	s.seg[VC_DS].attr |= VC_SEG_G;
	ck_assert_int_eq(vc_cpu_state_check(&s), 0);

	s.cr0 |= VC_CR0_PE; /* between MOV CR0 and the far jump */
	ck_assert_int_eq(vc_cpu_state_check(&s), 0);
	s.efer = VC_EFER_LME; /* before paging is on */
	ck_assert_int_eq(vc_cpu_state_check(&s), 0);

	vc_cpu_state_flat32(&s);
	s.rflags |= VC_FLAG_VM;
	ck_assert_int_eq(vc_cpu_state_check(&s), 0);

	vc_cpu_state_long64(&s, 0x1000);
	s.seg[VC_FS].base = 0xff00000000000000; /* WRFSBASE takes it on a CPU with LA57, whatever the paging mode */
	ck_assert_int_eq(vc_cpu_state_check(&s), 0);
	s.rip = 0xff00000000000000;
	ck_assert_int_eq(vc_cpu_state_check(&s), -EINVAL);
	s.cr4 |= VC_CR4_LA57;
	ck_assert_int_eq(vc_cpu_state_check(&s), 0);
	s.seg[VC_DS] = (struct vc_segment){.unusable = 1, .attr = 0xf00, .limit = 5};
	ck_assert_int_eq(vc_cpu_state_check(&s), 0);
	s.cr3 |= 0xfff;
	s.cr4 |= VC_CR4_PCIDE;
	ck_assert_int_eq(vc_cpu_state_check(&s), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("state");
	TCase *tc = tcase_create("state");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, test_reset);
	tcase_add_test(tc, test_init_keeps);
	tcase_add_test(tc, test_sipi);
	tcase_add_test(tc, test_flat);
	tcase_add_loop_test(tc, test_impossible, 0, VC_ARRAY_SIZE(impossible));
	tcase_add_test(tc, test_unusual_but_possible);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
