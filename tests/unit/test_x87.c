/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* x87: every instruction of D8-DF on random stacks, with masked and unmasked exceptions, against the host CPU executing
 * the same bytes. */
#include "vec_harness.h"

#include "backend/emu/decode/x87_rows.h"

#define ROUNDS 150

static void setup(void)
{
	harness_setup();
	native_setup();
}

/* Memory that suits any operand: floats of three sizes, integers, packed decimals. */
static void random_memory(uint8_t *p)
{
	random_bytes(p, 256);
	if (below(3) == 0)
		random_st(p);
	if (below(4) == 0)
		for (unsigned n = 0; n < 10; n++)
			p[n] = (uint8_t)(below(10) << 4 | below(10));
}

/* An environment that can be loaded: no pending exception, no reserved precision. */
static void make_environment(uint8_t *p, bool small)
{
	unsigned unit = small ? 2 : 4;

	vc_st16(p, (uint16_t)(0x37f | below(4) << 10));
	vc_st16(p + unit, (uint16_t)(rnd() & (FSW_CC | FSW_TOP | FSW_FLAGS)));
	vc_st16(p + 2 * unit, (uint16_t)rnd());
	for (unsigned n = 0; n < 8; n++) {
		uint8_t st[16];
		random_st(st);
		memcpy(p + (small ? 14 : 28) + 10 * n, st, 10);
	}
}

/* FIP, FDP and the selectors in what FNSTENV and FNSAVE wrote: makes of processors differ. */
static void hide_pointers(uint8_t *p, bool small)
{
	memset(p + (small ? 6 : 12), 0, small ? 8 : 16);
}

/* Without the condition codes that the manual leaves undefined, which one make of processor or another changes. */
static uint16_t defined_fsw(const struct emu_opdesc *row)
{
	switch (row->vec.reg_file) {
	case EMU_X87_COMPARE:
	case EMU_X87_LDENV:
	case EMU_X87_RSTOR:
	case EMU_X87_SAVE:
	case EMU_X87_INIT:
		return 0xffff;
	case EMU_X87_WHOLE:
		return row->name[1] == 'x' || row->name[1] == 'p' ? 0xffff : (uint16_t)(~FSW_CC | FSW_C1);
	case EMU_X87_FREE:
	case EMU_X87_NOP:
	case EMU_X87_LDCW:
	case EMU_X87_STCW:
	case EMU_X87_STSW:
	case EMU_X87_STSW_AX:
	case EMU_X87_STENV:
	case EMU_X87_CLEX:
	case EMU_X87_COMPARE_FLAGS:
	case EMU_X87_CMOV:
		return (uint16_t)~FSW_CC;
	default:
		return (uint16_t)(~FSW_CC | FSW_C1);
	}
}

static void unmask(struct vc_xsave *x)
{
	x->fcw &= (uint16_t) ~(rnd() & FSW_FLAGS);
	x->fsw &= (uint16_t)(x->fcw | ~FSW_FLAGS); /* none pending */
}

static void compare_once(const struct emu_opdesc *row, const uint8_t *bytes, unsigned length, bool unmasked)
{
	static uint8_t before[MEMORY_SIZE], natively[MEMORY_SIZE];
	bool environment = row->vec.mem == 0xff, small = bytes[0] == 0x66;
	uint8_t *operand = before + 512 + below(64);

	random_state();
	if (unmasked)
		unmask(&cpu->s.xsave);
	random_memory(operand);
	if (environment && (row->vec.roles & EMU_V_RM_R))
		make_environment(operand, small);
	cpu->s.gpr[VC_RBX] = (uintptr_t)memory + (uintptr_t)(operand - before);
	cpu->s.rip = 0x1000;
	set_tlb(below(2));

	memcpy(memory, before, MEMORY_SIZE);
	int sig = run_native(bytes, length);
	ck_assert_msg(sig == 0, "%s: signal %d natively", row->name, sig);
	memcpy(natively, memory, MEMORY_SIZE);
	memcpy(memory, before, MEMORY_SIZE);
	struct vc_xsave old = cpu->s.xsave;
	int vector = emulate(bytes, length);
	ck_assert_msg(vector == -1, "%s: vector %d", row->name, vector);
	if (environment && (row->vec.roles & EMU_V_RM_W)) {
		hide_pointers(memory + (operand - before), small);
		hide_pointers(natively + (operand - before), small);
	}
	const char *text = difference(defined_fsw(row));
	ck_assert_msg(!text, "%s: %s: %s (fcw %#x fsw %#x ftw %#x)", row->name, hex(bytes, length), text, old.fcw, old.fsw,
	              old.ftw);
	ck_assert_msg(memcmp(memory, natively, MEMORY_SIZE) == 0, "%s: %s: memory differs (fcw %#x fsw %#x ftw %#x)",
	              row->name, hex(bytes, length), old.fcw, old.fsw, old.ftw);
}

static void compare_all(bool unmasked)
{
	unsigned tested = 0;

	for (unsigned opcode = 0xd8; opcode <= 0xdf; opcode++) {
		for (unsigned modrm = 0; modrm < 256; modrm++) {
			const struct emu_opdesc *row = emu_x87_lookup((uint8_t)opcode, (uint8_t)modrm);
			/* memory: [rbx] only */
			if (!row || (modrm < 0xc0 && (modrm & 0xc7) != 3))
				continue;
			uint8_t bytes[3] = {0x66, (uint8_t)opcode, (uint8_t)modrm};
			for (unsigned n = 0; n < ROUNDS; n++)
				compare_once(row, bytes + 1, 2, unmasked);
			if (row->vec.mem == 0xff)
				for (unsigned n = 0; n < ROUNDS; n++)
					compare_once(row, bytes, 3, unmasked);
			tested++;
		}
	}
	printf("x87 encodings: %u, exceptions %s, %u runs each\n", tested, unmasked ? "unmasked" : "masked", ROUNDS);
}

START_TEST(test_masked)
{
	compare_all(false);
}
END_TEST

START_TEST(test_unmasked)
{
	compare_all(true);
}
END_TEST

/* ---- exceptions ---- */

static const uint8_t i_fadd[] = {0xd8, 0xc1}, i_fnstcw[] = {0xd9, 0x3b}, i_fwait[] = {0x9b}, i_fnclex[] = {0xdb, 0xe2},
                     i_fldcw[] = {0xd9, 0x2b}, i_paddb[] = {0x0f, 0xfc, 0xca}, i_fdivp[] = {0xde, 0xf9},
                     i_fstp[] = {0xdd, 0x1b}, i_fnsave[] = {0xdd, 0x33};

static void plain_state(void)
{
	struct vc_xsave *x = &cpu->s.xsave;

	memset(x, 0, sizeof *x);
	x->fcw = FCW_DEFAULT;
	x->ftw = 0xff;
	x->mxcsr = MXCSR_DEFAULT;
	cpu->s.gpr[VC_RBX] = (uintptr_t)memory;
	set_tlb(true);
}

/* An unmasked exception waits for the next waiting instruction. */
START_TEST(test_pending)
{
	struct vc_xsave *x = &cpu->s.xsave;

	plain_state();
	x->st[0][9] = x->st[1][9] = 0;
	vc_st16(x->st[1] + 8, 0x3fff);
	vc_st64(x->st[1], 1ull << 63);
	x->fcw = FCW_DEFAULT & ~4;                 /* zero divide */
	ck_assert_int_eq(emulate(i_fdivp, 2), -1); /* 1 / 0: not popped, not written */
	ck_assert_uint_eq(x->ftw, 0xff);
	ck_assert_uint_eq(x->fsw & (FSW_ES | FSW_BUSY | FSW_TOP | 4), FSW_ES | FSW_BUSY | 4);
	ck_assert_uint_eq(vc_ld64(x->st[1]), 1ull << 63);
	ck_assert_int_eq(emulate(i_fadd, 2), VC_MF);
	ck_assert_int_eq(emulate(i_fwait, 1), VC_MF);
	ck_assert_int_eq(emulate(i_fldcw, 2), VC_MF);
	ck_assert_int_eq(emulate(i_paddb, 3), VC_MF);
	ck_assert_int_eq(emulate(i_fnstcw, 2), -1);
	ck_assert_uint_eq(vc_ld16(memory), FCW_DEFAULT & ~4);
	ck_assert_int_eq(emulate(i_fnclex, 2), -1);
	ck_assert_int_eq(emulate(i_fwait, 1), -1);
	ck_assert_uint_eq(x->fsw & (FSW_ES | FSW_BUSY), 0);
	/* unmasking an old flag makes it pending */
	x->fcw = FCW_DEFAULT;
	x->fsw = 0x20;
	vc_st16(memory, FCW_DEFAULT & ~0x20);
	ck_assert_int_eq(emulate(i_fldcw, 2), -1);
	ck_assert_uint_eq(x->fsw, 0x20 | FSW_ES | FSW_BUSY);
	ck_assert_int_eq(emulate(i_fadd, 2), VC_MF);
}
END_TEST

START_TEST(test_device_not_available)
{
	plain_state();
	cpu->s.cr0 |= VC_CR0_TS;
	ck_assert_int_eq(emulate(i_fadd, 2), VC_NM);
	ck_assert_int_eq(emulate(i_fnstcw, 2), VC_NM);
	ck_assert_int_eq(emulate(i_paddb, 3), VC_NM);
	ck_assert_int_eq(emulate(i_fwait, 1), VC_NM);
	cpu->s.cr0 &= ~(uint64_t)VC_CR0_MP;
	ck_assert_int_eq(emulate(i_fwait, 1), -1);
	cpu->s.cr0 = (cpu->s.cr0 & ~(uint64_t)VC_CR0_TS) | VC_CR0_EM;
	ck_assert_int_eq(emulate(i_fadd, 2), VC_NM);
	ck_assert_int_eq(emulate(i_paddb, 3), VC_UD);
}
END_TEST

/* A store that faults leaves the stack and the status alone. */
START_TEST(test_fault_commits_nothing)
{
	struct vc_xsave old;

	for (unsigned n = 0; n < 2; n++) {
		random_state();
		cpu->s.xsave.ftw = 0xff;
		cpu->s.gpr[VC_RBX] = (uintptr_t)memory + 4090;
		set_tlb(false);
		fault_from = memory + 4096;
		fault_to = memory + 8192;
		old = cpu->s.xsave;
		ck_assert_int_eq(emulate(n ? i_fnsave : i_fstp, 2), VC_PF);
		ck_assert_int_eq(memcmp(&old, &cpu->s.xsave, sizeof old), 0);
	}
}
END_TEST

/* 16-bit and 32-bit, protected and real-address formats are what FLDENV reads back. */
START_TEST(test_environment_formats)
{
	static const uint8_t i_fnstenv[] = {0x66, 0xd9, 0x33}, i_fldenv[] = {0x66, 0xd9, 0x23};
	struct vc_xsave *x = &cpu->s.xsave;

	for (unsigned n = 0; n < 4; n++) {
		bool small = n & 1;
		cpu->protected_mode = !(n & 2);
		random_state();
		cpu->s.gpr[VC_RBX] = (uintptr_t)memory;
		x->fip = 0x4321;
		x->fdp = 0x8765;
		x->fop = n & 2 || !small ? 0x5a5 : 0;
		struct vc_xsave old = *x;
		memset(memory, 0xee, 64);
		ck_assert_int_eq(emulate(i_fnstenv + !small, small ? 3 : 2), -1);
		ck_assert_uint_eq(memory[small ? 14 : 28], 0xee);
		ck_assert_uint_eq(memory[small ? 13 : 27], n == 0 || n == 1 ? (small ? 0 : 0xff) : 0);
		x->fip = x->fdp = x->fop = x->ftw = x->fsw = 0;
		emu_x87_set_top(x, emu_x87_top(&old) + 3);
		ck_assert_int_eq(emulate(i_fldenv + !small, small ? 3 : 2), -1);
		ck_assert_uint_eq(x->fip, old.fip);
		ck_assert_uint_eq(x->fdp, old.fdp);
		ck_assert_uint_eq(x->fop, old.fop);
		ck_assert_uint_eq(x->ftw, old.ftw);
		ck_assert_uint_eq(x->fsw, old.fsw);
	}
}
END_TEST

/* FIP, FDP, FOP are the guest's. */
START_TEST(test_pointers)
{
	plain_state();
	cpu->s.rip = 0x123456789abcull;
	ck_assert_int_eq(emulate(i_fstp, 2), -1);
	ck_assert_uint_eq(cpu->s.xsave.fip, 0x123456789abcull);
	ck_assert_uint_eq(cpu->s.xsave.fdp, (uintptr_t)memory);
	ck_assert_uint_eq(cpu->s.xsave.fop, 0x51b);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("x87");
	TCase *tc = tcase_create("x87");

	tcase_add_checked_fixture(tc, setup, harness_teardown);
	tcase_set_timeout(tc, 100);
	tcase_add_test(tc, test_masked);
	tcase_add_test(tc, test_unmasked);
	tcase_add_test(tc, test_pending);
	tcase_add_test(tc, test_device_not_available);
	tcase_add_test(tc, test_fault_commits_nothing);
	tcase_add_test(tc, test_environment_formats);
	tcase_add_test(tc, test_pointers);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
