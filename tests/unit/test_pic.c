/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "chip_fixture.h"

#define MASTER 0x20
#define SLAVE  0xa0

static struct vc_pic *pic;
static bool intr;
static unsigned intr_changes;

static void on_intr(void *ctx, bool level)
{
	intr = level;
	intr_changes++;
}

static void init_chip(uint16_t port, uint8_t base, uint8_t icw3, uint8_t icw4)
{
	out8(port, 0x11);
	out8(port + 1, base);
	out8(port + 1, icw3);
	out8(port + 1, icw4);
}

static void start(uint8_t icw4)
{
	intr = false;
	intr_changes = 0;
	ck_assert_int_eq(vc_pic_new(&fx.env, on_intr, NULL, &pic), 0);
	init_chip(MASTER, 0x30, 4, icw4);
	init_chip(SLAVE, 0x38, 2, icw4);
}

static void pulse(unsigned pin)
{
	vc_pic_set(pic, pin, true);
	vc_pic_set(pic, pin, false);
}

static uint8_t read_isr(uint16_t port)
{
	out8(port, 0x0b);
	return in8(port);
}

static uint8_t read_irr(uint16_t port)
{
	out8(port, 0x0a);
	return in8(port);
}

START_TEST(edges_stay_until_acknowledged)
{
	start(1);
	ck_assert(!vc_pic_pending(pic));
	pulse(3);
	ck_assert(vc_pic_pending(pic) && intr);
	ck_assert_uint_eq(read_irr(MASTER), 0x08);
	ck_assert_int_eq(vc_pic_accept(pic), 0x33);
	ck_assert(!vc_pic_pending(pic) && !intr);
	ck_assert_uint_eq(read_irr(MASTER), 0);
	ck_assert_uint_eq(read_isr(MASTER), 0x08);
	/* the same level again blocks itself */
	pulse(3);
	ck_assert(!vc_pic_pending(pic));
	out8(MASTER, 0x20);
	ck_assert(vc_pic_pending(pic));
	/* a line that stays high makes one edge */
	ck_assert_int_eq(vc_pic_accept(pic), 0x33);
	out8(MASTER, 0x20);
	vc_pic_set(pic, 3, true);
	ck_assert_int_eq(vc_pic_accept(pic), 0x33);
	out8(MASTER, 0x20);
	vc_pic_set(pic, 3, true);
	ck_assert(!vc_pic_pending(pic));
}
END_TEST

START_TEST(priorities_and_nesting)
{
	start(1);
	pulse(5);
	pulse(1);
	ck_assert_int_eq(vc_pic_accept(pic), 0x31);
	ck_assert(!vc_pic_pending(pic));
	pulse(0);
	ck_assert_int_eq(vc_pic_accept(pic), 0x30);
	ck_assert_uint_eq(read_isr(MASTER), 0x03);
	out8(MASTER, 0x20); /* non-specific: the highest */
	ck_assert_uint_eq(read_isr(MASTER), 0x02);
	out8(MASTER, 0x61); /* specific */
	ck_assert_uint_eq(read_isr(MASTER), 0);
	ck_assert_int_eq(vc_pic_accept(pic), 0x35);
}
END_TEST

START_TEST(mask)
{
	start(1);
	out8(MASTER + 1, 0xff);
	pulse(4);
	ck_assert(!vc_pic_pending(pic));
	ck_assert_uint_eq(in8(MASTER + 1), 0xff);
	ck_assert_uint_eq(read_irr(MASTER), 0x10);
	out8(MASTER + 1, 0xef);
	ck_assert(vc_pic_pending(pic));
	ck_assert_int_eq(vc_pic_accept(pic), 0x34);
}
END_TEST

START_TEST(cascade)
{
	start(1);
	pulse(14);
	pulse(9);
	ck_assert_uint_eq(read_irr(MASTER), 0x04);
	ck_assert_uint_eq(read_irr(SLAVE), 0x42);
	ck_assert_int_eq(vc_pic_accept(pic), 0x39);
	ck_assert_uint_eq(read_isr(MASTER), 0x04);
	ck_assert_uint_eq(read_isr(SLAVE), 0x02);
	ck_assert(!vc_pic_pending(pic));
	out8(SLAVE, 0x20);
	ck_assert(!vc_pic_pending(pic)); /* the master has IR2 in service */
	out8(MASTER, 0x20);
	ck_assert_int_eq(vc_pic_accept(pic), 0x3e);
	/* masters' IR3 is below the slave, IR1 above */
	pulse(3);
	ck_assert(!vc_pic_pending(pic));
	pulse(1);
	ck_assert_int_eq(vc_pic_accept(pic), 0x31);
	/* pin 2 is the cascade, not a line */
	vc_pic_set(pic, 2, true);
	ck_assert_uint_eq(read_irr(MASTER) & 4, 0);
	vc_pic_set(pic, 16, true);
}
END_TEST

START_TEST(special_fully_nested)
{
	start(1 | 0x10);
	pulse(12);
	ck_assert_int_eq(vc_pic_accept(pic), 0x3c);
	pulse(13);
	ck_assert(!vc_pic_pending(pic)); /* lower inside the slave */
	pulse(8);
	ck_assert_int_eq(vc_pic_accept(pic), 0x38); /* higher: the master lets it through */
	ck_assert_uint_eq(read_isr(SLAVE), 0x11);
}
END_TEST

START_TEST(spurious)
{
	start(1);
	/* master: nothing is there */
	ck_assert_int_eq(vc_pic_accept(pic), 0x37);
	ck_assert_uint_eq(read_isr(MASTER), 0);
	/* slave: its request is masked after it has told the master */
	pulse(10);
	out8(SLAVE + 1, 0xff);
	ck_assert_int_eq(vc_pic_accept(pic), 0x3f);
	ck_assert_uint_eq(read_isr(MASTER), 0x04);
	ck_assert_uint_eq(read_isr(SLAVE), 0);
}
END_TEST

START_TEST(auto_eoi_and_rotation)
{
	start(1 | 2);
	pulse(6);
	ck_assert_int_eq(vc_pic_accept(pic), 0x36);
	ck_assert_uint_eq(read_isr(MASTER), 0);
	out8(MASTER, 0x80); /* rotate in AEOI */
	pulse(3);
	ck_assert_int_eq(vc_pic_accept(pic), 0x33);
	pulse(3);
	pulse(4);
	ck_assert_int_eq(vc_pic_accept(pic), 0x34); /* 3 is now the lowest */
	ck_assert_int_eq(vc_pic_accept(pic), 0x33);
	out8(MASTER, 0x00);
	pulse(5);
	pulse(3);
	ck_assert_int_eq(vc_pic_accept(pic), 0x35); /* 3 is still the lowest */
	ck_assert_int_eq(vc_pic_accept(pic), 0x33);
}
END_TEST

START_TEST(rotation_commands)
{
	start(1);
	out8(MASTER, 0xc4); /* set priority: 4 is the lowest */
	pulse(4);
	pulse(0);
	pulse(5);
	ck_assert_int_eq(vc_pic_accept(pic), 0x35);
	out8(MASTER, 0xa0); /* rotate on non-specific EOI: 5 is the lowest */
	ck_assert_uint_eq(read_isr(MASTER), 0);
	ck_assert_int_eq(vc_pic_accept(pic), 0x30);
	pulse(6);
	ck_assert_int_eq(vc_pic_accept(pic), 0x36);
	out8(MASTER, 0xe6); /* rotate on specific EOI */
	ck_assert_uint_eq(read_isr(MASTER), 0x01);
	out8(MASTER, 0x40); /* no operation */
	ck_assert_uint_eq(read_isr(MASTER), 0x01);
}
END_TEST

START_TEST(special_mask)
{
	start(1);
	pulse(3);
	ck_assert_int_eq(vc_pic_accept(pic), 0x33);
	pulse(6);
	ck_assert(!vc_pic_pending(pic));
	out8(MASTER + 1, 0x08);
	out8(MASTER, 0x68);
	ck_assert(vc_pic_pending(pic)); /* what is masked blocks nobody */
	ck_assert_int_eq(vc_pic_accept(pic), 0x36);
	out8(MASTER, 0x20); /* does not reach the masked one */
	ck_assert_uint_eq(read_isr(MASTER), 0x08);
	out8(MASTER, 0x20);
	ck_assert_uint_eq(read_isr(MASTER), 0x08);
	out8(MASTER, 0x48);
	out8(MASTER, 0x20);
	ck_assert_uint_eq(read_isr(MASTER), 0);
}
END_TEST

START_TEST(poll)
{
	start(1);
	out8(MASTER, 0x0c);
	ck_assert_uint_eq(in8(MASTER), 0);
	pulse(6);
	out8(MASTER, 0x0c);
	ck_assert_uint_eq(in8(MASTER), 0x86);
	ck_assert_uint_eq(read_isr(MASTER), 0x40);
	ck_assert_uint_eq(in8(MASTER), 0x40); /* one read only */
	pulse(11);
	out8(SLAVE, 0x0c);
	ck_assert_uint_eq(in8(SLAVE + 1), 0x83);
	ck_assert_uint_eq(read_isr(SLAVE), 0x08);
	ck_assert_uint_eq(read_irr(MASTER), 0);
}
END_TEST

START_TEST(level_triggered)
{
	start(1);
	out8(0x4d0, 0xff);
	out8(0x4d1, 0xff);
	ck_assert_uint_eq(in8(0x4d0), 0xf8);
	ck_assert_uint_eq(in8(0x4d1), 0xde);
	ck_assert_uint_eq(in_wide(0x4d0, 2), 0xdef8);
	vc_pic_set(pic, 11, true);
	ck_assert_int_eq(vc_pic_accept(pic), 0x3b);
	out8(SLAVE, 0x20);
	out8(MASTER, 0x20);
	ck_assert_int_eq(vc_pic_accept(pic), 0x3b); /* still high */
	vc_pic_set(pic, 11, false);
	out8(SLAVE, 0x20);
	out8(MASTER, 0x20);
	ck_assert(!vc_pic_pending(pic));
	vc_pic_set(pic, 5, true);
	ck_assert(vc_pic_pending(pic));
	vc_pic_set(pic, 5, false);
	ck_assert(!vc_pic_pending(pic) && !intr);
}
END_TEST

START_TEST(initialisation)
{
	start(1);
	out8(MASTER + 1, 0xaa);
	pulse(0);
	ck_assert_int_eq(vc_pic_accept(pic), 0x30);
	/* ICW1 clears masks and service; single mode takes no ICW3, no ICW4 was asked for */
	out8(MASTER, 0x12);
	ck_assert_uint_eq(in8(MASTER + 1), 0);
	ck_assert_uint_eq(in8(MASTER), 0);
	out8(MASTER + 1, 0x57);
	out8(MASTER + 1, 0xfe); /* OCW1 already */
	ck_assert_uint_eq(in8(MASTER + 1), 0xfe);
	pulse(0);
	ck_assert_int_eq(vc_pic_accept(pic), 0x50);
	/* 16-bit write: both ports of the chip */
	out_wide(MASTER, 2, 0x5520);
	ck_assert_uint_eq(in8(MASTER + 1), 0x55);
	ck_assert_uint_eq(read_isr(MASTER), 0);
}
END_TEST

START_TEST(state)
{
	size_t size;

	start(1);
	out8(0x4d0, 0x20);
	vc_pic_set(pic, 5, true);
	pulse(12);
	uint8_t *saved = fx_save("pic", &size);
	ck_assert_int_eq(vc_pic_accept(pic), 0x3c);
	vc_buses_reset(&fx.buses);
	ck_assert(!vc_pic_pending(pic) && !intr);
	ck_assert_int_eq(fx_load("pic", saved, size), 0);
	ck_assert(intr);
	ck_assert_int_eq(vc_pic_accept(pic), 0x3c);
	free(saved);
	fx_load_hostile("pic");
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_test(tc, edges_stay_until_acknowledged);
	tcase_add_test(tc, priorities_and_nesting);
	tcase_add_test(tc, mask);
	tcase_add_test(tc, cascade);
	tcase_add_test(tc, special_fully_nested);
	tcase_add_test(tc, spurious);
	tcase_add_test(tc, auto_eoi_and_rotation);
	tcase_add_test(tc, rotation_commands);
	tcase_add_test(tc, special_mask);
	tcase_add_test(tc, poll);
	tcase_add_test(tc, level_triggered);
	tcase_add_test(tc, initialisation);
	tcase_add_test(tc, state);
}

int main(void)
{
	return fx_main("pic", add_tests);
}
