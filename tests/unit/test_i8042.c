/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Keyboard controller: what boot code and operating systems ask of it. */
#include "device/device.h"
#include "platform_env.h"

static struct platform_env p;

static void setup(void)
{
	struct vc_props *props;
	struct vc_dev *dev;

	platform_init(&p, 0);
	ck_assert_int_eq(vc_props_parse(NULL, &props), 0);
	ck_assert_int_eq(vc_i8042_type.create(&p.env, props, &dev), 0);
	vc_props_free(props);
}

static void teardown(void)
{
	platform_fini(&p);
}

static uint8_t status(void)
{
	return (uint8_t)platform_in(&p, 0x64, 1);
}

static void command(uint8_t byte)
{
	platform_out(&p, 0x64, 1, byte);
}

static void data(uint8_t byte)
{
	platform_out(&p, 0x60, 1, byte);
}

/* The next byte, which must be there. */
static uint8_t take(void)
{
	ck_assert_msg(status() & 1, "the output buffer is empty");
	return (uint8_t)platform_in(&p, 0x60, 1);
}

static void write_ctr(uint8_t value)
{
	command(0x60);
	ck_assert(status() & 0x08);
	data(value);
	ck_assert(!(status() & 0x08));
}

START_TEST(controller)
{
	ck_assert_uint_eq(status(), 0x14); /* system flag, not locked */
	command(0xaa);
	ck_assert_uint_eq(take(), 0x55);
	command(0xab);
	ck_assert_uint_eq(take(), 0x00);
	command(0xa9);
	ck_assert_uint_ne(take(), 0x00); /* no mouse */
	command(0xc0);
	ck_assert_uint_eq(take(), 0x80);
	write_ctr(0x47);
	command(0x20);
	ck_assert_uint_eq(take(), 0x47);
	command(0xad);
	command(0x20);
	ck_assert_uint_eq(take(), 0x57);
	command(0xae);
	command(0x20);
	ck_assert_uint_eq(take(), 0x47);
	/* its RAM */
	command(0x7f);
	data(0x5a);
	command(0x3f);
	ck_assert_uint_eq(take(), 0x5a);
	ck_assert_uint_eq(status() & 1, 0);
}
END_TEST

START_TEST(output_port)
{
	command(0xd0);
	ck_assert_uint_eq(take() & 0x03, 0x03);
	command(0xd1);
	data(0xdd); /* A20 off */
	command(0xd0);
	ck_assert_uint_eq(take() & 0x03, 0x01);
	command(0xdf);
	command(0xd0);
	ck_assert_uint_eq(take() & 0x03, 0x03);
	command(0xdd);
	command(0xd0);
	ck_assert_uint_eq(take() & 0x03, 0x01);
	ck_assert_uint_eq(p.resets, 0);
	command(0xd1);
	data(0xde);
	ck_assert_uint_eq(p.resets, 1);
}
END_TEST

START_TEST(pulse_reset)
{
	command(0xff);
	command(0xfd);
	ck_assert_uint_eq(p.resets, 0);
	command(0xfe);
	ck_assert_uint_eq(p.resets, 1);
	command(0xf0);
	ck_assert_uint_eq(p.resets, 2);
}
END_TEST

START_TEST(keyboard)
{
	write_ctr(0x04); /* no translation, no interrupt */
	data(0xff);
	ck_assert_uint_eq(take(), 0xfa);
	ck_assert_uint_eq(take(), 0xaa);
	data(0xf2);
	ck_assert_uint_eq(take(), 0xfa);
	ck_assert_uint_eq(take(), 0xab);
	ck_assert_uint_eq(take(), 0x83);
	data(0xed);
	ck_assert_uint_eq(take(), 0xfa);
	data(0x07);
	ck_assert_uint_eq(take(), 0xfa);
	data(0xee);
	ck_assert_uint_eq(take(), 0xee);
	data(0xf0);
	ck_assert_uint_eq(take(), 0xfa);
	data(0x00);
	ck_assert_uint_eq(take(), 0xfa);
	ck_assert_uint_eq(take(), 0x02);
	data(0xfe); /* again */
	ck_assert_uint_eq(take(), 0x02);
	data(0x07); /* no command */
	ck_assert_uint_eq(take(), 0xfe);
	/* a command in place of an argument */
	data(0xed);
	ck_assert_uint_eq(take(), 0xfa);
	data(0xf4);
	ck_assert_uint_eq(take(), 0xfa);
	data(0x01);
	ck_assert_uint_eq(take(), 0xfe);
	ck_assert_uint_eq(p.edges[1], 0);
	write_ctr(0x44);
	data(0xf2);
	ck_assert_uint_eq(take(), 0xfa);
	ck_assert_uint_eq(take(), 0xab);
	ck_assert_uint_eq(take(), 0x41);
}
END_TEST

START_TEST(interrupts)
{
	write_ctr(0x05);
	data(0xff);
	ck_assert(p.level[1]);
	ck_assert_uint_eq(p.edges[1], 1);
	take();
	/* every byte has an edge of its own */
	ck_assert(p.level[1]);
	ck_assert_uint_eq(p.edges[1], 2);
	take();
	ck_assert(!p.level[1]);
}
END_TEST

START_TEST(held_off)
{
	data(0xee);
	take();
	command(0xd2);
	data(0x99);
	ck_assert_uint_eq(take(), 0x99);
	data(0xff); /* fa is at 0x60, aa waits */
	command(0xad);
	ck_assert_uint_eq(take(), 0xfa);
	ck_assert_uint_eq(status() & 1, 0);
	command(0x20); /* the controller may still answer */
	ck_assert_uint_eq(take() & 0x10, 0x10);
	command(0xae);
	ck_assert_uint_eq(take(), 0xaa);
}
END_TEST

START_TEST(flood)
{
	/* more commands than anybody reads answers of */
	for (unsigned i = 0; i < 1000; i++) {
		data(0xff);
		data(0xf2);
		command(0x20);
		command((uint8_t)(i & 0xdf));
		data((uint8_t)i);
	}
	for (unsigned i = 0; i < 64; i++)
		platform_in(&p, 0x60, 1);
	ck_assert_uint_eq(status() & 1, 0);
}
END_TEST

START_TEST(state)
{
	uint8_t saved[128];
	size_t length;

	platform_check_load(&p);
	write_ctr(0x05);
	data(0xff);
	length = platform_save(&p, saved, sizeof saved);
	vc_buses_reset(&p.buses);
	ck_assert_uint_eq(status() & 1, 0);
	ck_assert(!p.level[1]);
	ck_assert_int_eq(platform_load(&p, saved, length), 0);
	ck_assert(p.level[1]);
	ck_assert_uint_eq(take(), 0xfa);
	ck_assert_uint_eq(take(), 0xaa);
	/* whatever a snapshot holds, nothing breaks */
	for (size_t at = 4; at < length; at++) {
		for (unsigned value = 0; value < 256; value += 5) {
			uint8_t bad[128];

			memcpy(bad, saved, length);
			bad[at] = (uint8_t)value;
			if (platform_load(&p, bad, length) < 0)
				continue;
			data(0xed);
			data(0x00);
			command(0x20);
			platform_in(&p, 0x60, 1);
		}
	}
}
END_TEST

START_TEST(ctrl_alt_del)
{
	static const uint8_t set1[] = {0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d};
	static const uint8_t set2[] = {0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14};
	struct vc_dev *dev = p.buses.devices;

	while (strcmp(dev->type, "i8042") != 0)
		dev = dev->next;
	ck_assert_int_eq(vc_i8042_ctrl_alt_del(dev->ctx), 0);
	for (size_t i = 0; i < sizeof set1; i++)
		ck_assert_uint_eq(take(), set1[i]);
	ck_assert_uint_eq(status() & 1, 0);
	write_ctr(0x04);
	ck_assert_int_eq(vc_i8042_ctrl_alt_del(dev->ctx), 0);
	ck_assert_int_eq(vc_i8042_ctrl_alt_del(dev->ctx), -EAGAIN);
	for (size_t i = 0; i < sizeof set2; i++)
		ck_assert_uint_eq(take(), set2[i]);
	ck_assert_uint_eq(status() & 1, 0);
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("i8042");

	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, controller);
	tcase_add_test(cases, output_port);
	tcase_add_test(cases, pulse_reset);
	tcase_add_test(cases, keyboard);
	tcase_add_test(cases, interrupts);
	tcase_add_test(cases, held_off);
	tcase_add_test(cases, flood);
	tcase_add_test(cases, ctrl_alt_del);
	tcase_add_test(cases, state);
	return platform_run("i8042", cases);
}
