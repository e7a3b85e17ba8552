/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PCI configuration ports: the host bridge, empty slots, odd accesses, the reset register among them. */
#include "platform_env.h"

static struct platform_env p;

static void setup(void)
{
	platform_init(&p, 0);
	ck_assert_int_eq(vc_pci_host_new(&p.env), 0);
}

static void teardown(void)
{
	platform_fini(&p);
}

static void point(uint32_t bus, uint32_t device, uint32_t function, uint32_t offset)
{
	platform_out(&p, 0xcf8, 4, 0x80000000 | bus << 16 | device << 11 | function << 8 | offset);
}

START_TEST(host_bridge)
{
	point(0, 0, 0, 0);
	ck_assert_uint_eq(platform_in(&p, 0xcf8, 4), 0x80000000);
	ck_assert_uint_eq(platform_in(&p, 0xcfc, 2), 0x8086);
	ck_assert_uint_eq(platform_in(&p, 0xcfe, 2), 0x0d57);
	ck_assert_uint_eq(platform_in(&p, 0xcfc, 4), 0x0d578086);
	point(0, 0, 0, 8);
	ck_assert_uint_eq(platform_in(&p, 0xcfc, 4), 0x06000000);
	ck_assert_uint_eq(platform_in(&p, 0xcff, 1), 0x06);
	point(0, 0, 0, 0x0c);
	ck_assert_uint_eq(platform_in(&p, 0xcfe, 1), 0); /* one function, type 0 header */
	point(0, 0, 0, 0x10);
	platform_out(&p, 0xcfc, 4, 0xffffffff);
	ck_assert_uint_eq(platform_in(&p, 0xcfc, 4), 0); /* no BAR */
}
END_TEST

START_TEST(empty_slots)
{
	point(0, 1, 0, 0);
	ck_assert_uint_eq(platform_in(&p, 0xcfc, 4), 0xffffffff);
	ck_assert_uint_eq(platform_in(&p, 0xcfd, 1), 0xff);
	point(0, 0, 1, 0);
	ck_assert_uint_eq(platform_in(&p, 0xcfc, 2), 0xffff);
	point(1, 0, 0, 0);
	ck_assert_uint_eq(platform_in(&p, 0xcfc, 4), 0xffffffff);
	platform_out(&p, 0xcfc, 4, 0x12345678);
	/* not enabled */
	platform_out(&p, 0xcf8, 4, 0);
	ck_assert_uint_eq(platform_in(&p, 0xcfc, 4), 0xffffffff);
}
END_TEST

START_TEST(writable_bits)
{
	point(0, 0, 0, 4);
	platform_out(&p, 0xcfc, 2, 0xffff);
	ck_assert_uint_eq(platform_in(&p, 0xcfc, 2), 0x0007);
	point(0, 0, 0, 0);
	platform_out(&p, 0xcfc, 4, 0);
	ck_assert_uint_eq(platform_in(&p, 0xcfc, 4), 0x0d578086);
	/* an unaligned access that reaches past the end of configuration space */
	point(0, 0, 0, 0xfc);
	ck_assert_uint_eq(platform_in(&p, 0xcff, 1), 0);
}
END_TEST

START_TEST(address_register)
{
	platform_out(&p, 0xcf8, 4, 0xffffffff);
	ck_assert_uint_eq(platform_in(&p, 0xcf8, 4), 0x80fffffc);
	/* anything but 32 bits is not for this register */
	platform_out(&p, 0xcf8, 2, 0);
	platform_out(&p, 0xcf8, 1, 0);
	platform_out(&p, 0xcfa, 2, 0);
	ck_assert_uint_eq(platform_in(&p, 0xcf8, 4), 0x80fffffc);
	ck_assert_uint_eq(platform_in(&p, 0xcf8, 2), 0xffff);
	ck_assert_uint_eq(p.resets, 0);
}
END_TEST

START_TEST(reset_register)
{
	platform_out(&p, 0xcf9, 1, 0x02);
	ck_assert_uint_eq(p.resets, 0);
	ck_assert_uint_eq(platform_in(&p, 0xcf9, 1), 0x02);
	platform_out(&p, 0xcf9, 1, 0x06);
	ck_assert_uint_eq(p.resets, 1);
	/* only 0 to 1 counts */
	platform_out(&p, 0xcf9, 1, 0x0e);
	ck_assert_uint_eq(p.resets, 1);
	vc_buses_reset(&p.buses);
	ck_assert_uint_eq(platform_in(&p, 0xcf9, 1), 0);
	platform_out(&p, 0xcf9, 1, 0x04);
	ck_assert_uint_eq(p.resets, 2);
}
END_TEST

START_TEST(ecam)
{
	struct vcore_io io = {.size = sizeof io, .bus = VCORE_BUS_MMIO, .address = VC_PCI_ECAM_BASE + 8, .width = 4};

	ck_assert(vc_bus_dispatch(&p.buses, NULL, &io));
	ck_assert_uint_eq(io.data, 0x06000000);
	io.address = VC_PCI_ECAM_BASE + 0x100;
	ck_assert(vc_bus_dispatch(&p.buses, NULL, &io));
	ck_assert_uint_eq(io.data, 0); /* no extended capability */
	/* the next function's space begins behind 4096 bytes */
	io.address = VC_PCI_ECAM_BASE + 0xfff;
	ck_assert(vc_bus_dispatch(&p.buses, NULL, &io));
	ck_assert_uint_eq(io.data, 0xffffff00);
	io.address = VC_PCI_ECAM_BASE + VC_PCI_ECAM_SIZE - 4;
	ck_assert(vc_bus_dispatch(&p.buses, NULL, &io));
	ck_assert_uint_eq(io.data, 0xffffffff);
}
END_TEST

START_TEST(state)
{
	uint8_t saved[64];
	size_t length;

	platform_check_load(&p);
	point(0, 0, 0, 4);
	length = platform_save(&p, saved, sizeof saved);
	vc_buses_reset(&p.buses);
	ck_assert_uint_eq(platform_in(&p, 0xcf8, 4), 0);
	ck_assert_int_eq(platform_load(&p, saved, length), 0);
	ck_assert_uint_eq(platform_in(&p, 0xcf8, 4), 0x80000004);
	/* bits that no register has */
	for (unsigned at = 4; at < 12; at += 4) {
		saved[at] ^= 0x81;
		ck_assert_int_eq(platform_load(&p, saved, length), -EINVAL);
		saved[at] ^= 0x81;
	}
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("pci_host");

	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, host_bridge);
	tcase_add_test(cases, empty_slots);
	tcase_add_test(cases, writable_bits);
	tcase_add_test(cases, address_register);
	tcase_add_test(cases, reset_register);
	tcase_add_test(cases, ecam);
	tcase_add_test(cases, state);
	return platform_run("pci_host", cases);
}
