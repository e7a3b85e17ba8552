/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The controller of vcpus that come and go, with either way of telling; general-purpose events. */
#include "chip_fixture.h"

#include "core/util.h"

enum { BASE = VC_CPU_HOTPLUG_BASE, SELECT = BASE, FLAGS = BASE + 4, COMMAND = BASE + 5, DATA = BASE + 8 };
enum { GPE_STATUS = VC_GPE_BASE, GPE_ENABLE = VC_GPE_BASE + 2, SCI = 9 };

static struct vc_cpu_hotplug *hotplug;
static unsigned changes, last_index;
static bool last_present;

static void changed(void *ctx, uint32_t index, bool present)
{
	changes++;
	last_index = index;
	last_present = present;
}

/* Two of five are there. */
static void start(struct vc_acpi_pm *pm)
{
	struct vc_cpu_hotplug_config config = {.present = 2, .max = 5, .pm = pm, .changed = changed};

	changes = 0;
	ck_assert_int_eq(vc_cpu_hotplug_new(&fx.env, &config, &hotplug), 0);
}

static uint8_t flags_of(uint32_t index)
{
	out_wide(SELECT, 4, index);
	return in8(FLAGS);
}

START_TEST(registers)
{
	start(NULL);
	for (uint32_t i = 0; i < 5; i++)
		ck_assert_uint_eq(flags_of(i), i < 2);
	/* nobody there */
	for (uint32_t i = 5; i; i <<= 1) {
		ck_assert_uint_eq(flags_of(i), 0);
		out8(FLAGS, 0xff);
	}
	ck_assert_uint_eq(changes, 0);
	ck_assert_uint_eq(in_wide(SELECT, 4), 0);
	/* the APIC's ID */
	out_wide(SELECT, 4, 3);
	out8(COMMAND, 3);
	ck_assert_uint_eq(in_wide(DATA, 4), 3);
	out8(COMMAND, 1);
	ck_assert_uint_eq(in_wide(DATA, 4), 0);
	out8(COMMAND, 200);
	out_wide(DATA, 4, 0x12345678);
	out_wide(FLAGS, 2, 0xffff);
	out8(SELECT + 1, 7);
	ck_assert_uint_eq(changes, 0);
}
END_TEST

START_TEST(comes_and_goes)
{
	start(NULL);
	vc_cpu_hotplug_insert(hotplug, 3);
	vc_cpu_hotplug_request(hotplug, 1);
	ck_assert(fx.level[SCI]);
	out_wide(SELECT, 4, 2);
	out8(COMMAND, 0);
	ck_assert_uint_eq(in_wide(DATA, 4), 3);
	ck_assert_uint_eq(in8(FLAGS), 3);
	out8(FLAGS, 2);
	ck_assert_uint_eq(in8(FLAGS), 1);
	ck_assert(fx.level[SCI]);
	out8(COMMAND, 0);
	ck_assert_uint_eq(in_wide(DATA, 4), 1);
	ck_assert_uint_eq(in8(FLAGS), 5);
	out8(FLAGS, 4);
	ck_assert(!fx.level[SCI]);
	/* without an event the selection stays */
	out8(COMMAND, 0);
	ck_assert_uint_eq(in_wide(DATA, 4), 1);
	ck_assert_uint_eq(changes, 0);
	out8(FLAGS, 8);
	ck_assert_uint_eq(changes, 1);
	ck_assert_uint_eq(last_index, 1);
	ck_assert(!last_present);
	ck_assert_uint_eq(in8(FLAGS), 0);
	/* once */
	out8(FLAGS, 8);
	ck_assert_uint_eq(changes, 1);
	/* the first stays */
	out_wide(SELECT, 4, 0);
	out8(FLAGS, 8);
	ck_assert_uint_eq(changes, 1);
	ck_assert_uint_eq(in8(FLAGS), 1);
	vc_cpu_hotplug_take(hotplug, 3);
	ck_assert_uint_eq(flags_of(3), 0);
}
END_TEST

START_TEST(by_event)
{
	struct vc_acpi_pm *pm;

	ck_assert_int_eq(vc_acpi_pm_new(&fx.env, VC_PM_BASE, &pm), 0);
	start(pm);
	vc_cpu_hotplug_insert(hotplug, 4);
	ck_assert_uint_eq(in_wide(GPE_STATUS, 2), 1 << VC_GPE_CPU);
	ck_assert(!fx.level[SCI]);
	out_wide(GPE_ENABLE, 2, 1 << VC_GPE_CPU);
	ck_assert(fx.level[SCI]);
	out_wide(GPE_STATUS, 2, 1 << VC_GPE_CPU);
	ck_assert(!fx.level[SCI]);
	vc_cpu_hotplug_request(hotplug, 4);
	ck_assert(fx.level[SCI]);
	out8(GPE_STATUS, 0xff);
	ck_assert_uint_eq(in_wide(GPE_STATUS, 4), 1 << VC_GPE_CPU << 16);
	/* the last one has a byte of its own */
	vc_acpi_pm_gpe(pm, 15);
	ck_assert_uint_eq(in8(GPE_STATUS + 1), 0x80);
	out_wide(GPE_STATUS, 4, 0x80008000);
	ck_assert_uint_eq(in_wide(GPE_STATUS, 4), 0x80000000);
	fx_load_hostile("acpi-pm");
	vc_buses_reset(&fx.buses);
	ck_assert_uint_eq(in_wide(GPE_STATUS, 4), 0);
}
END_TEST

START_TEST(reset)
{
	start(NULL);
	vc_cpu_hotplug_insert(hotplug, 3);
	vc_buses_reset(&fx.buses);
	ck_assert(!fx.level[SCI]);
	ck_assert_uint_eq(flags_of(3), 1);
	ck_assert_uint_eq(flags_of(2), 0);
}
END_TEST

START_TEST(state)
{
	uint8_t *saved;
	size_t size;

	start(NULL);
	vc_cpu_hotplug_insert(hotplug, 3);
	vc_cpu_hotplug_take(hotplug, 1);
	out_wide(SELECT, 4, 2);
	saved = fx_save("acpi-cpu-hotplug", &size);
	vc_cpu_hotplug_take(hotplug, 3);
	vc_cpu_hotplug_insert(hotplug, 1);
	ck_assert_int_eq(fx_load("acpi-cpu-hotplug", saved, size), 0);
	ck_assert_uint_eq(changes, 4);
	ck_assert_uint_eq(in_wide(DATA, 4), 2);
	ck_assert_uint_eq(flags_of(1), 0);
	ck_assert_uint_eq(flags_of(3), 3);
	fx_load_hostile("acpi-cpu-hotplug");
	/* of another machine; without the first */
	vc_st32(saved + 4, 6);
	ck_assert_int_eq(fx_load("acpi-cpu-hotplug", saved, size), -EINVAL);
	vc_st32(saved + 4, 5);
	saved[24] = 0;
	ck_assert_int_eq(fx_load("acpi-cpu-hotplug", saved, size), -EINVAL);
	free(saved);
}
END_TEST

/* Whatever the guest does, the first vcpu stays, and nobody comes whom the host has not plugged in. */
START_TEST(hostile)
{
	uint32_t seed = 1;

	start(NULL);
	for (unsigned i = 0; i < 200000; i++) {
		uint16_t port;
		unsigned width;

		seed = seed * 1664525 + 1013904223;
		width = 1u << (seed >> 30) % 3;
		port = (uint16_t)(BASE + (seed >> 20) % (VC_CPU_HOTPLUG_LENGTH + 1 - width));
		if (seed & 0x1000)
			out_wide(port, width, seed & 0x2000 ? seed >> 8 & 7 : seed);
		else
			in_wide(port, width);
		if (changes && last_present)
			break;
	}
	ck_assert(!last_present);
	ck_assert_uint_eq(flags_of(0), 1);
	for (uint32_t i = 2; i < 5; i++)
		ck_assert_uint_eq(flags_of(i), 0);
	fx_load_hostile("acpi-cpu-hotplug");
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_test(tc, registers);
	tcase_add_test(tc, comes_and_goes);
	tcase_add_test(tc, by_event);
	tcase_add_test(tc, reset);
	tcase_add_test(tc, state);
	tcase_add_test(tc, hostile);
}

int main(void)
{
	return fx_main("cpu_hotplug", add_tests);
}
