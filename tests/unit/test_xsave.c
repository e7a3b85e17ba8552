/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* FXSAVE, FXRSTOR and the XSAVE family: against the host where ring 3 may execute them, and by the manual's rules. */
#include "vec_harness.h"

#define AREA 1024u /* offset of the operand */

static const uint8_t i_fxsave[] = {0x48, 0x0f, 0xae, 0x03}, i_fxrstor[] = {0x48, 0x0f, 0xae, 0x0b},
                     i_xsave[] = {0x48, 0x0f, 0xae, 0x23}, i_xrstor[] = {0x48, 0x0f, 0xae, 0x2b},
                     i_xsaveopt[] = {0x48, 0x0f, 0xae, 0x33}, i_xsavec[] = {0x48, 0x0f, 0xc7, 0x23},
                     i_xsaves[] = {0x48, 0x0f, 0xc7, 0x2b}, i_xrstors[] = {0x48, 0x0f, 0xc7, 0x1b},
                     i_ldmxcsr[] = {0x0f, 0xae, 0x13}, i_stmxcsr[] = {0x0f, 0xae, 0x1b},
                     i_fxsave32[] = {0x0f, 0xae, 0x03}, i_vldmxcsr[] = {0xc5, 0xf8, 0xae, 0x13};
#define EMULATE(bytes) emulate(bytes, sizeof(bytes))

static void setup(void)
{
	harness_setup();
	native_setup();
}

/* Random, with some components in their initial configuration. */
static void some_state(void)
{
	struct vc_xsave *x = &cpu->s.xsave;

	random_state();
	if (below(2)) {
		x->fcw = FCW_DEFAULT;
		x->fsw = x->ftw = 0;
		memset(x->st, 0, sizeof x->st);
	}
	if (below(2))
		memset(x->xmm, 0, sizeof x->xmm);
	if (below(2))
		memset(x->ymm_hi, 0, sizeof x->ymm_hi);
	if (below(2))
		x->mxcsr = MXCSR_DEFAULT;
	/* no more than our components: the host may have others */
	cpu->s.gpr[VC_RAX] = below(8);
	cpu->s.gpr[VC_RDX] = 0;
	cpu->s.gpr[VC_RBX] = (uintptr_t)memory + AREA;
	set_tlb(below(2));
}

static void good_header(uint8_t *area, bool compacted)
{
	uint64_t components = below(8);

	memset(area + 512, 0, 64);
	if (compacted) {
		vc_st64(area + 520, components | 1ull << 63);
		vc_st64(area + 512, components & below(8));
	} else {
		vc_st64(area + 512, components);
	}
	vc_st32(area + 24, (uint32_t)rnd() & MXCSR_VALID);
	vc_st16(area, FCW_DEFAULT);
	vc_st16(area + 2, (uint16_t)(rnd() & (FSW_CC | FSW_TOP | FSW_FLAGS)));
	memset(area + 6, 0, 18); /* FOP, FIP, FDP: nothing to compare */
	for (unsigned n = 0; n < 8; n++)
		random_st(area + 32 + 16 * n);
}

static void compare(const char *name, const uint8_t *bytes, unsigned length, bool compacted)
{
	static uint8_t before[MEMORY_SIZE], natively[MEMORY_SIZE];

	for (unsigned n = 0; n < 120; n++) {
		some_state();
		random_bytes(before, sizeof before);
		good_header(before + AREA, compacted);
		memcpy(memory, before, MEMORY_SIZE);
		int sig = run_native(bytes, length);
		ck_assert_msg(sig == 0, "%s: signal %d natively", name, sig);
		memcpy(natively, memory, MEMORY_SIZE);
		memcpy(memory, before, MEMORY_SIZE);
		int vector = emulate(bytes, length);
		ck_assert_msg(vector == -1, "%s: vector %d", name, vector);
		const char *text = difference(0xffff);
		ck_assert_msg(!text, "%s: %s", name, text);
		/* MXCSR_MASK tells which bits the processor has: the host's may have more */
		vc_st32(natively + AREA + 28, 0);
		vc_st32(memory + AREA + 28, 0);
		/* an assertion takes some microseconds, and there are millions of bytes */
		unsigned at = 0;
		while (at < MEMORY_SIZE - 1 && memory[at] == natively[at])
			at++;
		ck_assert_msg(memory[at] == natively[at], "%s: byte %u of the area is %#x, natively %#x", name, at - AREA,
		              memory[at], natively[at]);
	}
}
#define COMPARE(bytes, compacted) compare(#bytes, bytes, sizeof(bytes), compacted)

START_TEST(test_against_host)
{
	COMPARE(i_fxsave, false);
	COMPARE(i_fxrstor, false);
	COMPARE(i_xsave, false);
	COMPARE(i_xsaveopt, false);
	COMPARE(i_xsavec, false);
	COMPARE(i_xrstor, false);
	COMPARE(i_xrstor, true);
	COMPARE(i_stmxcsr, false);
}
END_TEST

/* What is saved comes back, in either format and with any mask. */
START_TEST(test_round_trip)
{
	static const struct {
		const uint8_t *save, *restore;
	} pairs[] = {{i_xsave, i_xrstor}, {i_xsaveopt, i_xrstor}, {i_xsavec, i_xrstor}, {i_xsaves, i_xrstors}};

	for (unsigned n = 0; n < 120; n++) {
		some_state();
		cpu->s.gpr[VC_RAX] = 7;
		cpu->s.xsave.fip = rnd();
		cpu->s.xsave.fdp = rnd();
		cpu->s.xsave.fop = (uint16_t)below(0x800);
		struct vc_xsave old = cpu->s.xsave;
		memset(memory + AREA, 0, 832);
		ck_assert_int_eq(emulate(pairs[n % 4].save, 4), -1);
		random_state();
		cpu->s.gpr[VC_RBX] = (uintptr_t)memory + AREA;
		cpu->s.gpr[VC_RAX] = 7;
		cpu->s.gpr[VC_RDX] = 0;
		ck_assert_int_eq(emulate(pairs[n % 4].restore, 4), -1);
		ck_assert_int_eq(memcmp(&old, &cpu->s.xsave, 512), 0);
		ck_assert_int_eq(memcmp(old.ymm_hi, cpu->s.xsave.ymm_hi, 256), 0);
	}
}
END_TEST

static void fresh(void)
{
	some_state();
	cpu->s.gpr[VC_RAX] = 7;
	cpu->s.gpr[VC_RDX] = 0;
	memset(memory, 0, MEMORY_SIZE);
	vc_st16(memory + AREA, FCW_DEFAULT);
	vc_st32(memory + AREA + 24, MXCSR_DEFAULT);
}

START_TEST(test_mxcsr)
{
	fresh();
	vc_st32(memory + AREA, 0xbf3f);
	ck_assert_int_eq(EMULATE(i_ldmxcsr), -1);
	ck_assert_uint_eq(cpu->s.xsave.mxcsr, 0xbf3f);
	cpu->s.xsave.mxcsr = 0x1fa5;
	ck_assert_int_eq(EMULATE(i_stmxcsr), -1);
	ck_assert_uint_eq(vc_ld32(memory + AREA), 0x1fa5);
	ck_assert_uint_eq(memory[AREA + 4], 0);
	vc_st32(memory + AREA, 0x9f80);
	ck_assert_int_eq(EMULATE(i_vldmxcsr), -1);
	ck_assert_uint_eq(cpu->s.xsave.mxcsr, 0x9f80);
}
END_TEST

/* Reserved bits and misplaced areas are #GP(0), and change nothing. */
START_TEST(test_general_protection)
{
	static const struct {
		const uint8_t *bytes;
		unsigned at;
		uint64_t value;
	} cases[] = {
	    {i_xrstor, 512, 8},              /* XSTATE_BV: a component that XCR0 lacks */
	    {i_xrstor, 520, 4},              /* XCOMP_BV without bit 63 */
	    {i_xrstor, 528, 1},              /* reserved */
	    {i_xrstor, 24, 0x10000},         /* MXCSR */
	    {i_xrstor, 520, 1ull << 63 | 8}, /* compacted: not in XCR0 */
	    {i_xrstors, 520, 0},             /* XRSTORS: compacted only */
	    {i_fxrstor, 24, 0x20000},
	    {i_ldmxcsr, 0, 0x10000},
	};
	static const uint8_t *const aligned[] = {i_xsave,  i_xrstor,  i_xsaveopt, i_xsavec,
	                                         i_xsaves, i_xrstors, i_fxsave,   i_fxrstor};
	struct vc_xsave old;

	for (unsigned n = 0; n < VC_ARRAY_SIZE(cases); n++) {
		fresh();
		vc_st64(memory + AREA + cases[n].at, cases[n].value);
		old = cpu->s.xsave;
		ck_assert_msg(emulate(cases[n].bytes, cases[n].bytes == i_ldmxcsr ? 3 : 4) == VC_GP, "case %u", n);
		ck_assert_uint_eq(raised_error, 0);
		ck_assert_int_eq(memcmp(&old, &cpu->s.xsave, sizeof old), 0);
	}
	for (unsigned n = 0; n < VC_ARRAY_SIZE(aligned); n++) {
		fresh();
		cpu->s.gpr[VC_RBX] += 8;
		ck_assert_int_eq(emulate(aligned[n], 4), VC_GP);
	}
	/* in the compacted format, XSTATE_BV must be within XCOMP_BV */
	fresh();
	vc_st64(memory + AREA + 512, 4);
	vc_st64(memory + AREA + 520, 1ull << 63 | 3);
	ck_assert_int_eq(EMULATE(i_xrstor), VC_GP);
	/* a CPU without XSAVEC does not know it */
	fresh();
	vc_st64(memory + AREA + 520, 1ull << 63 | 7);
	vc_feature_put(&bvcpu.cpuid.features, VC_F_XSAVEC, false);
	ck_assert_int_eq(EMULATE(i_xrstor), VC_GP);
	vc_feature_put(&bvcpu.cpuid.features, VC_F_XSAVEC, true);
	ck_assert_int_eq(EMULATE(i_xrstor), -1);
}
END_TEST

START_TEST(test_enabling)
{
	fresh();
	cpu->cpl = 3;
	ck_assert_int_eq(EMULATE(i_xsaves), VC_GP);
	ck_assert_int_eq(EMULATE(i_xrstors), VC_GP);
	cpu->s.cr0 |= VC_CR0_TS;
	ck_assert_int_eq(EMULATE(i_xsave), VC_NM);
	ck_assert_int_eq(EMULATE(i_fxsave), VC_NM);
	ck_assert_int_eq(EMULATE(i_ldmxcsr), VC_NM);
	ck_assert_int_eq(EMULATE(i_vldmxcsr), VC_NM);
	cpu->s.cr0 = (cpu->s.cr0 & ~(uint64_t)VC_CR0_TS) | VC_CR0_EM;
	ck_assert_int_eq(EMULATE(i_fxsave), VC_NM);
	ck_assert_int_eq(EMULATE(i_ldmxcsr), VC_UD);
	ck_assert_int_eq(EMULATE(i_xsave), -1);
	cpu->s.cr4 &= ~(uint64_t)VC_CR4_OSXSAVE;
	ck_assert_int_eq(EMULATE(i_xsave), VC_UD);
	ck_assert_int_eq(EMULATE(i_xsaves), VC_UD);
}
END_TEST

/* A component outside XCR0 is neither saved nor restored; 32-bit code sees eight registers. */
START_TEST(test_masks_and_modes)
{
	struct vc_xsave old;

	fresh();
	memset(cpu->s.xsave.ymm_hi, 0x11, 256);
	cpu->s.xcr0 = 3;
	cpu->s.gpr[VC_RAX] = cpu->s.gpr[VC_RDX] = ~0ull;
	memset(memory + AREA + 576, 0xcc, 256);
	ck_assert_int_eq(EMULATE(i_xsave), -1);
	ck_assert_uint_eq(memory[AREA + 576], 0xcc);
	ck_assert_uint_eq(vc_ld64(memory + AREA + 512) & 4, 0);
	ck_assert_int_eq(EMULATE(i_xrstor), -1);
	ck_assert_uint_eq(cpu->s.xsave.ymm_hi[3][3], 0x11);

	fresh();
	memset(cpu->s.xsave.xmm, 0x22, 256);
	memset(memory + AREA, 0xcc, 832);
	cpu->mode = EMU_MODE_32;
	cpu->s.gpr[VC_RBX] = (uintptr_t)memory + AREA;
	cpu->flat = 0; /* 32-bit offsets: the segment's base makes up for the rest */
	cpu->s.seg[VC_DS].base = ((uintptr_t)memory + AREA) & ~0xffffffffull;
	cpu->s.xsave.fip = 0x1234567890abcdefull;
	old = cpu->s.xsave;
	ck_assert_int_eq(EMULATE(i_fxsave32), -1);
	ck_assert_uint_eq(vc_ld64(memory + AREA + 8), 0x90abcdef);
	ck_assert_uint_eq(memory[AREA + 160 + 127], 0x22);
	ck_assert_uint_eq(memory[AREA + 160 + 128], 0xcc);
	ck_assert_int_eq(memcmp(&old, &cpu->s.xsave, sizeof old), 0);
}
END_TEST

START_TEST(test_fault_commits_nothing)
{
	static const uint8_t *const all[] = {i_xsave, i_xrstor, i_xsaveopt, i_xsavec, i_xsaves, i_fxsave, i_fxrstor};

	for (unsigned n = 0; n < VC_ARRAY_SIZE(all); n++) {
		static uint8_t before[MEMORY_SIZE];
		fresh();
		set_tlb(false);
		cpu->s.gpr[VC_RBX] = (uintptr_t)memory + 4096 - (n < 5 ? 640 : 256);
		memset(cpu->s.xsave.ymm_hi, 0x33, 256);
		uint8_t *area = memory + 4096 - (n < 5 ? 640 : 256);
		vc_st64(area + 512, 7);
		memcpy(before, memory, MEMORY_SIZE);
		fault_from = memory + 4096;
		fault_to = memory + MEMORY_SIZE;
		struct vc_xsave old = cpu->s.xsave;
		ck_assert_msg(emulate(all[n], 4) == VC_PF, "case %u", n);
		ck_assert_int_eq(memcmp(&old, &cpu->s.xsave, sizeof old), 0);
		ck_assert_int_eq(memcmp(before, memory, MEMORY_SIZE), 0);
	}
}
END_TEST

/* The area at the border to other backends. */
START_TEST(test_state_in_out)
{
	struct vc_xsave *x = &cpu->s.xsave;

	fresh();
	random_bytes(x->ymm_hi, 256);
	x->xstate_bv = VC_XSTATE_SSE;
	x->fsw = 0x3800;
	struct vc_xsave old = *x;
	emu_vec_state_in(cpu);
	ck_assert_uint_eq(x->fcw, FCW_DEFAULT);
	ck_assert_uint_eq(x->fsw | x->ftw | vc_ld64(x->st[0]) | vc_ld64(x->ymm_hi[0]), 0);
	ck_assert_int_eq(memcmp(x->xmm, old.xmm, 256), 0);
	x->xstate_bv = 0;
	emu_vec_state_out(cpu);
	ck_assert_uint_eq(x->xstate_bv, VC_XSTATE_X87 | VC_XSTATE_SSE);
	x->ymm_hi[5][5] = 1;
	emu_vec_state_out(cpu);
	ck_assert_uint_eq(x->xstate_bv, 7);
	ck_assert_uint_eq(x->xcomp_bv, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("xsave");
	TCase *tc = tcase_create("xsave");

	tcase_add_checked_fixture(tc, setup, harness_teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_against_host);
	tcase_add_test(tc, test_round_trip);
	tcase_add_test(tc, test_mxcsr);
	tcase_add_test(tc, test_general_protection);
	tcase_add_test(tc, test_enabling);
	tcase_add_test(tc, test_masks_and_modes);
	tcase_add_test(tc, test_fault_commits_nothing);
	tcase_add_test(tc, test_state_in_out);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
