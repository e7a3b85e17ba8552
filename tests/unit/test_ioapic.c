/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "chip_fixture.h"

#define BASE  0xfec00000u
#define LEVEL 0x8000u
#define MASK  0x10000u

static struct vc_ioapic *io;
static unsigned sent;
static uint64_t last_address;
static uint32_t last_data;
static unsigned changes[24];

static int deliver(void *ctx, uint64_t address, uint32_t data)
{
	sent++;
	last_address = address;
	last_data = data;
	/* delivery holds no lock: looking at the IOAPIC from here must not hang */
	uint64_t a;
	uint32_t d;
	bool level;
	vc_ioapic_pin_msi(io, 0, &a, &d, &level);
	return 0;
}

static void on_change(void *ctx, unsigned pin)
{
	changes[pin]++;
}

static uint32_t get(uint8_t reg)
{
	mmio_write(BASE, 4, reg);
	return (uint32_t)mmio_read(BASE + 0x10, 4);
}

static void put(uint8_t reg, uint32_t value)
{
	mmio_write(BASE, 4, reg);
	mmio_write(BASE + 0x10, 4, value);
}

static void start(void)
{
	sent = 0;
	memset(changes, 0, sizeof changes);
	ck_assert_int_eq(vc_ioapic_new(&fx.env, BASE, 2, deliver, NULL, &io), 0);
}

START_TEST(registers)
{
	start();
	ck_assert_uint_eq(get(0), 2u << 24);
	ck_assert_uint_eq(get(1), 0x00170020);
	ck_assert_uint_eq(get(2), 2u << 24);
	put(0, 0xffffffff);
	ck_assert_uint_eq(get(0), 0x0f000000);
	ck_assert_uint_eq(get(2), 0x0f000000);
	put(1, 0);
	ck_assert_uint_eq(get(1), 0x00170020);
	for (unsigned pin = 0; pin < 24; pin++) {
		ck_assert_uint_eq(get(0x10 + pin * 2), MASK);
		ck_assert_uint_eq(get(0x11 + pin * 2), 0);
	}
	/* status and remote IRR are read-only; polarity is kept */
	put(0x10, 0xffffffff);
	ck_assert_uint_eq(get(0x10), 0x1afff);
	put(0x11, 0xffffffff);
	ck_assert_uint_eq(get(0x11), 0xfffe0000);
	ck_assert_uint_eq(get(0x40), 0); /* behind the last pin */
	put(0x40, 1);
	put(0xff, 1);
	ck_assert_uint_eq(get(0xff), 0);
	ck_assert_uint_eq(mmio_read(BASE, 4), 0xff);
	ck_assert_uint_eq(mmio_read(BASE + 0x20, 4), 0);
}
END_TEST

START_TEST(edge)
{
	start();
	put(0x13, 3u << 24);
	vc_ioapic_set(io, 1, true); /* masked: lost */
	put(0x12, 0x51);
	ck_assert_uint_eq(sent, 0);
	vc_ioapic_set(io, 1, true);
	ck_assert_uint_eq(sent, 0);
	vc_ioapic_set(io, 1, false);
	vc_ioapic_set(io, 1, true);
	ck_assert_uint_eq(sent, 1);
	ck_assert_uint_eq(last_address, 0xfee03000);
	ck_assert_uint_eq(last_data, 0x51);
	vc_ioapic_set(io, 1, true);
	ck_assert_uint_eq(sent, 1);
	vc_ioapic_eoi(io, 0x51);
	ck_assert_uint_eq(sent, 1);
	vc_ioapic_set(io, 24, true);
	vc_ioapic_set(io, 1000, true);
}
END_TEST

START_TEST(level_and_eoi)
{
	start();
	put(0x30, 0x60 | LEVEL);
	vc_ioapic_set(io, 16, true);
	ck_assert_uint_eq(sent, 1);
	ck_assert_uint_eq(last_data, 0xc060);
	ck_assert_uint_eq(get(0x30), 0x60 | LEVEL | 0x4000);
	/* while the remote IRR is set nothing more is sent */
	vc_ioapic_set(io, 16, false);
	vc_ioapic_set(io, 16, true);
	ck_assert_uint_eq(sent, 1);
	vc_ioapic_eoi(io, 0x61); /* another vector */
	ck_assert_uint_eq(sent, 1);
	vc_ioapic_eoi(io, 0x60); /* the line is still up */
	ck_assert_uint_eq(sent, 2);
	vc_ioapic_set(io, 16, false);
	mmio_write(BASE + 0x40, 4, 0x60); /* EOI register */
	ck_assert_uint_eq(sent, 2);
	ck_assert_uint_eq(get(0x30), 0x60 | LEVEL);
	/* a level on a masked pin waits for the mask */
	put(0x30, 0x60 | LEVEL | MASK);
	vc_ioapic_set(io, 16, true);
	ck_assert_uint_eq(sent, 2);
	put(0x30, 0x60 | LEVEL);
	ck_assert_uint_eq(sent, 3);
	/* EOI while masked: remembered */
	put(0x30, 0x60 | LEVEL | MASK);
	ck_assert_uint_eq(get(0x30), 0x60 | LEVEL | MASK | 0x4000);
	vc_ioapic_eoi(io, 0x60);
	ck_assert_uint_eq(sent, 3);
	ck_assert_uint_eq(get(0x30), 0x60 | LEVEL | MASK);
	put(0x30, 0x60 | LEVEL);
	ck_assert_uint_eq(sent, 4);
	/* a visit to edge mode clears the remote IRR */
	put(0x30, 0x60 | MASK);
	ck_assert_uint_eq(get(0x30), 0x60 | MASK);
	put(0x30, 0x60 | LEVEL);
	ck_assert_uint_eq(sent, 5);
}
END_TEST

START_TEST(two_pins_one_vector)
{
	start();
	put(0x30, 0x70 | LEVEL);
	put(0x32, 0x70 | LEVEL);
	vc_ioapic_set(io, 16, true);
	vc_ioapic_set(io, 17, true);
	ck_assert_uint_eq(sent, 2);
	vc_ioapic_eoi(io, 0x70);
	ck_assert_uint_eq(sent, 4);
}
END_TEST

START_TEST(messages)
{
	uint64_t address;
	uint32_t data;
	bool level;

	start();
	ck_assert(!vc_ioapic_pin_msi(io, 5, &address, &data, &level));
	ck_assert(!vc_ioapic_pin_msi(io, 24, &address, &data, &level));
	put(0x1b, 0xa5u << 24);
	put(0x1a, 0x33 | 0x800 | 1 << 8 | LEVEL); /* lowest priority, logical */
	ck_assert(vc_ioapic_pin_msi(io, 5, &address, &data, &level));
	ck_assert_uint_eq(address, 0xfeea500c);
	ck_assert_uint_eq(data, 0xc133);
	ck_assert(level);
	put(0x1a, 4 << 8); /* NMI, edge */
	ck_assert(vc_ioapic_pin_msi(io, 5, &address, &data, &level));
	ck_assert_uint_eq(address, 0xfeea5000);
	ck_assert_uint_eq(data, 0x400);
	ck_assert(!level);
	/* level-triggered NMI has no EOI, so no remote IRR either */
	put(0x1a, 4 << 8 | LEVEL);
	vc_ioapic_set(io, 5, true);
	ck_assert_uint_eq(get(0x1a), 4 << 8 | LEVEL);
	/* extended destination */
	put(0x1b, 0x01u << 24 | 0x7fu << 17);
	ck_assert(vc_ioapic_pin_msi(io, 5, &address, &data, &level));
	ck_assert_uint_eq(address, 0xfee01fe0);
}
END_TEST

START_TEST(change_callback)
{
	start();
	vc_ioapic_on_change(io, on_change, NULL);
	put(0x10, 0x30);
	put(0x11, 0);
	put(0x3e, 0x30);
	put(0, 0);
	ck_assert_uint_eq(changes[0], 2);
	ck_assert_uint_eq(changes[23], 1);
	vc_buses_reset(&fx.buses);
	ck_assert_uint_eq(changes[0], 3);
	ck_assert_uint_eq(changes[7], 1);
	ck_assert_uint_eq(get(0), 2u << 24);
}
END_TEST

START_TEST(state)
{
	size_t size;

	start();
	put(0x30, 0x60 | LEVEL);
	put(0x31, 1u << 24);
	vc_ioapic_set(io, 16, true);
	uint8_t *saved = fx_save("ioapic", &size);
	vc_ioapic_set(io, 16, false);
	vc_buses_reset(&fx.buses);
	ck_assert_int_eq(fx_load("ioapic", saved, size), 0);
	ck_assert_uint_eq(sent, 1);
	ck_assert_uint_eq(get(0x30), 0x60 | LEVEL | 0x4000);
	vc_ioapic_eoi(io, 0x60); /* the line was up */
	ck_assert_uint_eq(sent, 2);
	free(saved);
	fx_load_hostile("ioapic");
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_test(tc, registers);
	tcase_add_test(tc, edge);
	tcase_add_test(tc, level_and_eoi);
	tcase_add_test(tc, two_pins_one_vector);
	tcase_add_test(tc, messages);
	tcase_add_test(tc, change_callback);
	tcase_add_test(tc, state);
}

int main(void)
{
	return fx_main("ioapic", add_tests);
}
