/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ACPI PM block, sleep registers of hardware-reduced ACPI. */
#include "chip_fixture.h"

#define BASE VC_PM_BASE
#define SCI  9

static struct vc_acpi_pm *pm;

static void start(void)
{
	ck_assert_int_eq(vc_acpi_pm_new(&fx.env, BASE, &pm), 0);
}

START_TEST(timer)
{
	start();
	ck_assert_uint_eq(in_wide(BASE + 8, 4), 0);
	fx_set_time(1000000000);
	ck_assert_uint_eq(in_wide(BASE + 8, 4), 3579545);
	fx_set_time(1000000000ull * 3600);
	ck_assert_uint_eq(in_wide(BASE + 8, 4), (uint32_t)(3579545ull * 3600));
	ck_assert_uint_eq(in8(BASE + 9), (uint8_t)(3579545ull * 3600 >> 8));
	out_wide(BASE + 8, 4, 0);
	ck_assert_uint_eq(in_wide(BASE + 8, 4), (uint32_t)(3579545ull * 3600));
}
END_TEST

START_TEST(timer_carry)
{
	/* first ns at which bit 31 changes */
	uint64_t carry = ((1000000000ull << 31) + 3579544) / 3579545;

	start();
	out_wide(BASE + 2, 2, 1);
	fx_set_time(carry - 1);
	ck_assert(!fx.level[SCI]);
	ck_assert_uint_eq(in_wide(BASE, 2), 0);
	fx_set_time(carry);
	ck_assert(fx.level[SCI]);
	ck_assert_uint_eq(in_wide(BASE, 2), 1);
	out_wide(BASE, 2, 1);
	ck_assert(!fx.level[SCI]);
	fx_set_time(carry * 2);
	ck_assert(fx.level[SCI]);
}
END_TEST

START_TEST(power_button)
{
	start();
	vc_acpi_pm_power_button(pm);
	ck_assert_uint_eq(in_wide(BASE, 2), 0x100);
	ck_assert(!fx.level[SCI]);
	out_wide(BASE + 2, 2, 0xffff);
	ck_assert_uint_eq(in_wide(BASE + 2, 2), 0x721);
	ck_assert(fx.level[SCI]);
	/* bytes: only ones of the right byte clear */
	out8(BASE, 0xff);
	ck_assert(fx.level[SCI]);
	out8(BASE + 1, 0x01);
	ck_assert(!fx.level[SCI]);
	/* 32 bits: status and enable together */
	vc_acpi_pm_power_button(pm);
	ck_assert_uint_eq(in_wide(BASE, 4), 0x07210100);
	out_wide(BASE, 4, 0x01000100);
	ck_assert_uint_eq(in_wide(BASE, 4), 0x01000000);
	ck_assert_uint_eq(fx.rises[SCI], 2);
}
END_TEST

START_TEST(control)
{
	start();
	ck_assert_uint_eq(in_wide(BASE + 4, 2), 1);
	out_wide(BASE + 4, 2, 0);
	ck_assert_uint_eq(in_wide(BASE + 4, 2), 1); /* SCI_EN stays */
	out_wide(BASE + 4, 2, 3 << 10 | 1 << 13);
	ck_assert_uint_eq(fx.poweroffs, 0); /* S3 is not there */
	out_wide(BASE + 4, 2, 5 << 10);
	ck_assert_uint_eq(fx.poweroffs, 0);
	ck_assert_uint_eq(in_wide(BASE + 4, 2), 5 << 10 | 1);
	out_wide(BASE + 4, 2, 5 << 10 | 1 << 13);
	ck_assert_uint_eq(fx.poweroffs, 1);
	ck_assert_uint_eq(in_wide(BASE + 4, 2), 5 << 10 | 1); /* SLP_EN reads as 0 */
	out8(BASE + 5, 0x34);                                 /* a byte does too */
	ck_assert_uint_eq(fx.poweroffs, 2);
	out8(BASE + 4, 0);
	ck_assert_uint_eq(fx.poweroffs, 2);
}
END_TEST

START_TEST(pm_state)
{
	size_t size;

	start();
	out_wide(BASE + 2, 2, 0x100);
	vc_acpi_pm_power_button(pm);
	uint8_t *saved = fx_save("acpi-pm", &size);
	vc_buses_reset(&fx.buses);
	ck_assert(!fx.level[SCI]);
	ck_assert_uint_eq(in_wide(BASE, 4), 0);
	ck_assert_int_eq(fx_load("acpi-pm", saved, size), 0);
	ck_assert_uint_eq(in_wide(BASE, 4), 0x01000100);
	fx_irq_set(&fx, SCI, true); /* as the controllers' own state says */
	out_wide(BASE, 2, 0x100);
	ck_assert(!fx.level[SCI]);
	free(saved);
	fx_load_hostile("acpi-pm");
}
END_TEST

START_TEST(reduced)
{
	ck_assert_int_eq(vc_acpi_reduced_new(&fx.env, VC_GED_BASE), 0);
	ck_assert_uint_eq(in8(VC_GED_BASE + VC_GED_SLEEP_STATUS), 0);
	out8(VC_GED_BASE + VC_GED_SLEEP_CONTROL, 5 << 2);
	ck_assert_uint_eq(fx.poweroffs, 0);
	ck_assert_uint_eq(in8(VC_GED_BASE), 5 << 2);
	out8(VC_GED_BASE, 3 << 2 | 0x20);
	ck_assert_uint_eq(fx.poweroffs, 0);
	out8(VC_GED_BASE, 5 << 2 | 0x20);
	ck_assert_uint_eq(fx.poweroffs, 1);
	ck_assert_uint_eq(in8(VC_GED_BASE), 5 << 2);
	out8(VC_GED_BASE + VC_GED_RESET, 0x41);
	ck_assert_uint_eq(fx.resets, 0);
	out8(VC_GED_BASE + VC_GED_RESET, VC_GED_RESET_VALUE);
	ck_assert_uint_eq(fx.resets, 1);
	ck_assert_uint_eq(in8(VC_GED_BASE + VC_GED_RESET), 0);
	fx_load_hostile("acpi-reduced");
	vc_buses_reset(&fx.buses);
	ck_assert_uint_eq(in8(VC_GED_BASE), 0);
}
END_TEST

START_TEST(taken_addresses)
{
	struct vc_acpi_pm *second = NULL;

	start();
	ck_assert_int_eq(vc_acpi_pm_new(&fx.env, BASE + 4, &second), -EEXIST);
	ck_assert_ptr_null(second);
	ck_assert_int_eq(vc_acpi_reduced_new(&fx.env, BASE + 4), -EEXIST);
	ck_assert_uint_eq(in_wide(BASE + 4, 2), 1);
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_test(tc, timer);
	tcase_add_test(tc, timer_carry);
	tcase_add_test(tc, power_button);
	tcase_add_test(tc, control);
	tcase_add_test(tc, pm_state);
	tcase_add_test(tc, reduced);
	tcase_add_test(tc, taken_addresses);
}

int main(void)
{
	return fx_main("pm", add_tests);
}
