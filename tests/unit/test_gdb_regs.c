/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Registers as gdb has them, of an architectural state and back. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/util.h"
#include "debug/regs.h"

static struct vc_cpu_state state;
static uint8_t value[VC_GDB_REG_BYTES_MAX];

static unsigned number_of(const char *name)
{
	for (unsigned i = 0; i < vc_gdb_reg_count(true); i++)
		if (!strcmp(vc_gdb_regs[i].name, name))
			return i;
	ck_abort_msg("no register %s", name);
	return 0;
}

static uint64_t get(const char *name)
{
	vc_gdb_reg_get(&state, number_of(name), value);
	return vc_ld64(value);
}

/* Returns what vc_gdb_reg_set() does; *general as it leaves it. */
static int set(const char *name, uint64_t number, bool *general)
{
	uint8_t bytes[VC_GDB_REG_BYTES_MAX] = {0};

	*general = true;
	vc_st64(bytes, number);
	return vc_gdb_reg_set(&state, number_of(name), bytes, general);
}

static void fresh(void)
{
	memset(&state, 0, sizeof state);
	vc_cpu_state_reset(&state, true);
	vc_cpu_state_long64(&state, 0x1000);
}

START_TEST(general_registers)
{
	static const char *const in_gdbs_order[] = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp",
	                                            "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
	static const uint8_t in_ours[] = {VC_RAX, VC_RBX, VC_RCX, VC_RDX, VC_RSI, VC_RDI, VC_RBP, VC_RSP};
	bool general;

	fresh();
	for (unsigned i = 0; i < 16; i++) {
		ck_assert_str_eq(vc_gdb_regs[i].name, in_gdbs_order[i]);
		ck_assert_int_eq(set(in_gdbs_order[i], 0xfedc000000000000u + i, &general), 0);
		ck_assert(general);
		ck_assert_uint_eq(get(in_gdbs_order[i]), 0xfedc000000000000u + i);
		ck_assert_uint_eq(state.gpr[i < 8 ? in_ours[i] : i], 0xfedc000000000000u + i);
	}
	ck_assert_int_eq(set("rip", 0x123456789abc, &general), 0);
	ck_assert(general);
	ck_assert_uint_eq(state.rip, 0x123456789abc);
	ck_assert_int_eq(set("eflags", 0x246, &general), 0);
	ck_assert(general);
	ck_assert_uint_eq(state.rflags, 0x246);
	ck_assert_str_eq(vc_gdb_regs[VC_GDB_RBP].name, "rbp");
	ck_assert_str_eq(vc_gdb_regs[VC_GDB_RSP].name, "rsp");
	ck_assert_str_eq(vc_gdb_regs[VC_GDB_RIP].name, "rip");
}
END_TEST

START_TEST(system_registers)
{
	bool general;

	fresh();
	ck_assert_uint_eq(get("cr0"), state.cr0);
	ck_assert_uint_eq(get("efer"), state.efer);
	ck_assert_int_eq(set("cr3", 0x7000, &general), 0);
	ck_assert(!general);
	ck_assert_uint_eq(state.cr3, 0x7000);
	ck_assert_int_eq(set("gs_base", 0xffff888000000000u, &general), 0);
	ck_assert_uint_eq(state.seg[VC_GS].base, 0xffff888000000000u);
	ck_assert_int_eq(set("fs_base", 0x7f0000001000, &general), 0);
	ck_assert_uint_eq(state.seg[VC_FS].base, 0x7f0000001000);
	ck_assert_int_eq(set("k_gs_base", 5, &general), 0);
	ck_assert_uint_eq(state.kernel_gs_base, 5);
	/* the value it has is no change */
	ck_assert_int_eq(set("cr3", 0x7000, &general), 0);
	ck_assert(general);
}
END_TEST

START_TEST(selectors)
{
	bool general;

	fresh();
	state.seg[VC_DS].selector = 0x10;
	ck_assert_uint_eq(get("ds"), 0x10);
	/* in protected mode a selector is nothing without its descriptor */
	ck_assert_int_eq(set("ds", 0x10, &general), 0);
	ck_assert(general);
	ck_assert_int_eq(set("ds", 0x18, &general), -EINVAL);
	ck_assert_uint_eq(state.seg[VC_DS].selector, 0x10);
	vc_cpu_state_flat_real(&state);
	ck_assert_int_eq(set("ds", 0xb800, &general), 0);
	ck_assert(!general);
	ck_assert_uint_eq(state.seg[VC_DS].selector, 0xb800);
	ck_assert_uint_eq(state.seg[VC_DS].base, 0xb8000);
}
END_TEST

/* Components that the XSAVE area does not hold have their initial values, not the bytes that lie there. */
START_TEST(initial_components)
{
	bool general;

	fresh();
	memset(&state.xsave, 0xa5, 512);
	memset(state.xsave.ymm_hi, 0xa5, sizeof state.xsave.ymm_hi);
	state.xsave.mxcsr = 0x1f80;
	state.xsave.xstate_bv = 0;
	ck_assert_uint_eq(get("fctrl"), 0x37f);
	ck_assert_uint_eq(get("fstat"), 0);
	ck_assert_uint_eq(get("ftag"), 0xffff);
	ck_assert_uint_eq(get("st0"), 0);
	ck_assert_uint_eq(get("mxcsr"), 0x1f80);
	state.xsave.xstate_bv = VC_XSTATE_X87;
	ck_assert_uint_eq(get("xmm3"), 0);
	ck_assert_uint_eq(get("ymm3h"), 0);
	/* a write makes the rest of its component initial as well, and only that one */
	memset(&state.xsave, 0xa5, 512);
	state.xsave.xstate_bv = 0;
	ck_assert_int_eq(set("xmm1", 77, &general), 0);
	ck_assert(!general);
	ck_assert_uint_eq(state.xsave.xstate_bv, VC_XSTATE_SSE);
	ck_assert_uint_eq(vc_ld64(state.xsave.xmm[1]), 77);
	ck_assert_uint_eq(vc_ld64(state.xsave.xmm[2]), 0);
	ck_assert_int_eq(set("ymm15h", 99, &general), 0);
	ck_assert_uint_eq(state.xsave.xstate_bv, VC_XSTATE_SSE | VC_XSTATE_AVX);
	ck_assert_uint_eq(vc_ld64(state.xsave.ymm_hi[15]), 99);
	ck_assert_uint_eq(vc_ld64(state.xsave.ymm_hi[0]), 0);
}
END_TEST

START_TEST(x87_tags)
{
	/* value by value of the stack: 1.0, 0.0, infinity, denormal, unnormal */
	static const uint8_t values[5][10] = {{0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f},
	                                      {0},
	                                      {0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x7f},
	                                      {1, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	                                      {1, 0, 0, 0, 0, 0, 0, 0, 1, 0}};
	bool general;

	fresh();
	state.xsave.xstate_bv = VC_XSTATE_X87;
	state.xsave.fsw = 3 << 11; /* TOP: st0 is register 3 */
	state.xsave.ftw = 0xf8;    /* registers 3 to 7 are in use */
	for (unsigned i = 0; i < 5; i++)
		memcpy(state.xsave.st[i], values[i], 10);
	/* registers 7 to 0: special, special, special, zero, valid, empty, empty, empty */
	ck_assert_uint_eq(get("ftag"), 2u << 14 | 2 << 12 | 2 << 10 | 1 << 8 | 0 << 6 | 0x3f);
	ck_assert_int_eq(set("ftag", 0xffff, &general), 0);
	ck_assert_uint_eq(state.xsave.ftw, 0);
	ck_assert_int_eq(set("ftag", 0x3ffc, &general), 0);
	ck_assert_uint_eq(state.xsave.ftw, 0x81);
	ck_assert(!general);
	state.xsave.fip = 0x123456789abcdef0;
	ck_assert_uint_eq(get("fioff"), 0x9abcdef0);
	ck_assert_uint_eq(get("fiseg"), 0x5678);
	ck_assert_uint_eq(vc_gdb_reg_size(number_of("st7")), 10);
}
END_TEST

START_TEST(what_is_read_can_be_written)
{
	struct vc_cpu_state other;
	bool general = true;

	fresh();
	for (unsigned i = 0; i < sizeof state.xsave.xmm; i++)
		((uint8_t *)state.xsave.xmm)[i] = (uint8_t)(i * 7);
	state.xsave.xstate_bv = VC_XSTATE_X87 | VC_XSTATE_SSE | VC_XSTATE_AVX;
	state.gpr[VC_R9] = 0x99;
	other = state;
	for (unsigned i = 0; i < vc_gdb_reg_count(true); i++) {
		vc_gdb_reg_get(&state, i, value);
		ck_assert_int_eq(vc_gdb_reg_set(&state, i, value, &general), 0);
	}
	ck_assert(general);
	ck_assert_mem_eq(&state, &other, sizeof state);
	/* and into a CPU that has nothing of it */
	fresh();
	for (unsigned i = 0; i < vc_gdb_reg_count(true); i++) {
		vc_gdb_reg_get(&other, i, value);
		ck_assert_int_eq(vc_gdb_reg_set(&state, i, value, &general), 0);
	}
	ck_assert(!general);
	ck_assert_mem_eq(&state.xsave.xmm, &other.xsave.xmm, sizeof state.xsave.xmm);
	ck_assert_uint_eq(state.gpr[VC_R9], 0x99);
}
END_TEST

static unsigned count_of(const char *text, const char *word)
{
	unsigned n = 0;

	for (; (text = strstr(text, word)); text++)
		n++;
	return n;
}

START_TEST(description)
{
	static char text[VC_GDB_DESCRIPTION_MAX];
	size_t n = vc_gdb_describe(true, text);

	ck_assert_uint_eq(n, strlen(text));
	ck_assert_uint_lt(n, VC_GDB_DESCRIPTION_MAX - 1);
	ck_assert_uint_eq(count_of(text, "<reg "), vc_gdb_reg_count(true));
	ck_assert_uint_eq(count_of(text, "<feature "), count_of(text, "</feature>"));
	ck_assert_ptr_nonnull(strstr(text, "org.gnu.gdb.i386.avx"));
	ck_assert_str_eq(text + n - 9, "</target>");
	n = vc_gdb_describe(false, text);
	ck_assert_uint_eq(count_of(text, "<reg "), vc_gdb_reg_count(false));
	ck_assert_uint_eq(vc_gdb_reg_count(true) - vc_gdb_reg_count(false), 16);
	ck_assert_ptr_null(strstr(text, "ymm"));
	ck_assert_uint_eq(vc_gdb_reg_size(vc_gdb_reg_count(true)), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gdb registers");
	TCase *tcase = tcase_create("registers");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_test(tcase, general_registers);
	tcase_add_test(tcase, system_registers);
	tcase_add_test(tcase, selectors);
	tcase_add_test(tcase, initial_components);
	tcase_add_test(tcase, x87_tags);
	tcase_add_test(tcase, what_is_read_can_be_written);
	tcase_add_test(tcase, description);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
