/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* x87: every instruction of D8-DF on random stacks, with masked and unmasked exceptions, against the host CPU executing the same bytes. */
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

/* Condition codes that the manual leaves undefined and that one processor or another changes. */
static uint16_t defined_fsw(const struct emu_opdesc *row)
{
	return 0xffff;
}

static void unmask(struct vc_xsave *x)
{
	x->fcw &= (uint16_t)~(rnd() & FSW_FLAGS);
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
	ck_assert_msg(!text, "%s: %s: %s (fcw %#x fsw %#x ftw %#x)", row->name, hex(bytes, length), text, old.fcw, old.fsw, old.ftw);
	ck_assert_msg(memcmp(memory, natively, MEMORY_SIZE) == 0, "%s: %s: memory differs (fcw %#x fsw %#x ftw %#x)", row->name,
	              hex(bytes, length), old.fcw, old.fsw, old.ftw);
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

int main(void)
{
	Suite *suite = suite_create("x87");
	TCase *tc = tcase_create("x87");

	tcase_add_checked_fixture(tc, setup, harness_teardown);
	tcase_set_timeout(tc, 100);
	tcase_add_test(tc, test_masked);
	tcase_add_test(tc, test_unmasked);
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
