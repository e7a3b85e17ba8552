/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "chip_fixture.h"

#define HZ 1193182ull

/* First nanosecond of a tick of the PIT's clock. */
static uint64_t tick_ns(uint64_t tick)
{
	return (tick * 1000000000 + HZ - 1) / HZ;
}

static void at_tick(uint64_t tick)
{
	fx_set_time(tick_ns(tick));
}

static void start(void)
{
	ck_assert_int_eq(vc_pit_new(&fx.env), 0);
	at_tick(1000);
}

/* Control word and 16-bit count of a channel. */
static void program(unsigned channel, unsigned mode, uint16_t count)
{
	out8(0x43, (uint8_t)(channel << 6 | 0x30 | mode << 1));
	out8((uint16_t)(0x40 + channel), (uint8_t)count);
	out8((uint16_t)(0x40 + channel), (uint8_t)(count >> 8));
}

static uint16_t count_of(unsigned channel)
{
	out8(0x43, (uint8_t)(channel << 6));
	uint8_t low = in8((uint16_t)(0x40 + channel));
	return (uint16_t)(low | in8((uint16_t)(0x40 + channel)) << 8);
}

static bool out2(void)
{
	return in8(0x61) & 0x20;
}

static void gate2(bool up)
{
	out8(0x61, up);
}

START_TEST(mode0)
{
	start();
	in8(0x61);
	ck_assert_uint_eq(fx.rises[0], 0);
	program(0, 0, 100);
	ck_assert(!fx.level[0]);
	at_tick(1001);
	ck_assert_uint_eq(count_of(0), 100);
	at_tick(1041);
	ck_assert_uint_eq(count_of(0), 60);
	at_tick(1100);
	ck_assert_uint_eq(count_of(0), 1);
	ck_assert(!fx.level[0]);
	at_tick(1101); /* N + 1 ticks after the write */
	ck_assert(fx.level[0]);
	ck_assert_uint_eq(fx.rises[0], 1);
	at_tick(1103);
	ck_assert_uint_eq(count_of(0), 0xfffe); /* goes on */
	at_tick(200000);
	ck_assert_uint_eq(fx.rises[0], 1);
	/* the first byte of a new count stops and lowers, the second starts */
	out8(0x40, 50);
	ck_assert(!fx.level[0]);
	at_tick(300000);
	ck_assert(!fx.level[0]);
	out8(0x40, 0);
	at_tick(300050);
	ck_assert(!fx.level[0]);
	at_tick(300051);
	ck_assert(fx.level[0]);
}
END_TEST

START_TEST(mode0_gate)
{
	start();
	gate2(true);
	program(2, 0, 100);
	at_tick(1051);
	ck_assert_uint_eq(count_of(2), 50);
	gate2(false);
	at_tick(5000);
	ck_assert_uint_eq(count_of(2), 50);
	ck_assert(!out2());
	gate2(true);
	at_tick(5049);
	ck_assert(!out2());
	at_tick(5050);
	ck_assert(out2());
	gate2(false); /* no effect on OUT */
	ck_assert(out2());
}
END_TEST

START_TEST(mode1)
{
	start();
	gate2(false);
	program(2, 1, 10);
	ck_assert(out2());
	at_tick(2000);
	ck_assert(out2());
	gate2(true);
	ck_assert(out2());
	at_tick(2001);
	ck_assert(!out2());
	at_tick(2010);
	ck_assert(!out2());
	at_tick(2011);
	ck_assert(out2());
	/* a trigger in the pulse makes it longer; a count written in it waits for the next trigger */
	gate2(false);
	gate2(true);
	at_tick(2015);
	out8(0x42, 20);
	out8(0x42, 0);
	at_tick(2018);
	gate2(false);
	ck_assert(!out2());
	gate2(true);
	at_tick(2038);
	ck_assert(!out2());
	at_tick(2039);
	ck_assert(out2());
}
END_TEST

START_TEST(mode2)
{
	start();
	gate2(true);
	program(2, 2, 10);
	ck_assert(out2());
	at_tick(1001);
	ck_assert_uint_eq(count_of(2), 10);
	at_tick(1009);
	ck_assert_uint_eq(count_of(2), 2);
	ck_assert(out2());
	at_tick(1010);
	ck_assert_uint_eq(count_of(2), 1);
	ck_assert(!out2());
	at_tick(1011);
	ck_assert_uint_eq(count_of(2), 10);
	ck_assert(out2());
	/* a new count takes over at the end of the period */
	at_tick(1013);
	out8(0x42, 4);
	out8(0x42, 0);
	at_tick(1020);
	ck_assert(!out2());
	at_tick(1021);
	ck_assert_uint_eq(count_of(2), 4);
	at_tick(1024);
	ck_assert(!out2());
	/* a low gate raises OUT at once and the next rise begins anew */
	gate2(false);
	ck_assert(out2());
	at_tick(3000);
	ck_assert_uint_eq(count_of(2), 1);
	gate2(true);
	at_tick(3001);
	ck_assert_uint_eq(count_of(2), 4);
	at_tick(3004);
	ck_assert(!out2());
}
END_TEST

START_TEST(mode3)
{
	start();
	gate2(true);
	program(2, 3, 10);
	at_tick(1001);
	ck_assert_uint_eq(count_of(2), 10);
	at_tick(1005);
	ck_assert_uint_eq(count_of(2), 2);
	ck_assert(out2());
	at_tick(1006);
	ck_assert_uint_eq(count_of(2), 10);
	ck_assert(!out2());
	at_tick(1010);
	ck_assert(!out2());
	at_tick(1011);
	ck_assert(out2());
	/* an odd count is high for one tick more; it takes over at the end of the half */
	at_tick(1012);
	out8(0x42, 7);
	out8(0x42, 0);
	at_tick(1015);
	ck_assert(out2());
	at_tick(1016);
	ck_assert(!out2());
	ck_assert_uint_eq(count_of(2), 6);
	at_tick(1018);
	ck_assert(!out2());
	for (unsigned i = 0; i < 4; i++) {
		at_tick(1019 + i);
		ck_assert(out2());
		ck_assert_uint_eq(count_of(2), 6 - 2 * i);
	}
	at_tick(1023);
	ck_assert(!out2());
}
END_TEST

START_TEST(mode4_and_5)
{
	start();
	gate2(true);
	program(2, 4, 5);
	ck_assert(out2());
	at_tick(1005);
	ck_assert(out2());
	at_tick(1006);
	ck_assert(!out2());
	at_tick(1007);
	ck_assert(out2());
	program(2, 5, 5);
	at_tick(1020);
	ck_assert(out2());
	gate2(false);
	gate2(true);
	at_tick(1025);
	ck_assert(out2());
	at_tick(1026);
	ck_assert(!out2());
	at_tick(1027);
	ck_assert(out2());
}
END_TEST

START_TEST(mode4_interrupts)
{
	start();
	program(0, 4, 5000);
	unsigned before = fx.rises[0];
	fx_advance(20000000, 100000);
	ck_assert_uint_eq(fx.rises[0], before + 1);
	ck_assert_uint_ge(fx.rose_at[0], tick_ns(6002));
	ck_assert_uint_le(fx.rose_at[0], tick_ns(6002) + 100000);
}
END_TEST

START_TEST(periodic_without_drift)
{
	start();
	program(0, 2, 11932); /* 100 Hz */
	unsigned before = fx.rises[0];
	for (unsigned i = 1; i <= 1000; i++) {
		uint64_t tick = 1001 + 11932ull * i;
		fx_set_time(tick_ns(tick) - 1);
		ck_assert_uint_eq(fx.rises[0], before + i - 1);
		fx_set_time(tick_ns(tick));
		ck_assert_uint_eq(fx.rises[0], before + i);
	}
	ck_assert(fx.level[0]); /* OUT is high most of the time */
}
END_TEST

START_TEST(missed_periods_are_one)
{
	start();
	program(0, 3, 1193);
	unsigned before = fx.rises[0];
	at_tick(1001 + 1193 * 50 + 600);
	ck_assert_uint_eq(fx.rises[0], before + 1);
	at_tick(1001 + 1193 * 51 - 1);
	ck_assert_uint_eq(fx.rises[0], before + 1);
	at_tick(1001 + 1193 * 51); /* in phase again */
	ck_assert_uint_eq(fx.rises[0], before + 2);
}
END_TEST

START_TEST(short_period_is_bearable)
{
	start();
	program(0, 2, 2);
	unsigned before = fx.rises[0];
	fx_advance(1000000, 1000);
	ck_assert_uint_ge(fx.rises[0] - before, 10);
	ck_assert_uint_le(fx.rises[0] - before, 60);
	program(0, 2, 1);
	fx_advance(1000000, 1000);
	program(0, 3, 1);
	fx_advance(1000000, 1000);
}
END_TEST

START_TEST(bcd_and_byte_access)
{
	start();
	gate2(true);
	out8(0x43, 0xb1); /* channel 2, both bytes, mode 0, BCD */
	out8(0x42, 0x00);
	out8(0x42, 0x10);
	at_tick(1001);
	ck_assert_uint_eq(count_of(2), 0x1000);
	at_tick(1002);
	ck_assert_uint_eq(count_of(2), 0x0999);
	out8(0x42, 0x00);
	out8(0x42, 0x00); /* 10000 */
	at_tick(1004);
	ck_assert_uint_eq(count_of(2), 0x9999);
	at_tick(1003 + 10000);
	ck_assert(out2());
	out8(0x43, 0xa0); /* high byte only, mode 0 */
	out8(0x42, 0x02);
	at_tick(11004 + 0x101);
	ck_assert_uint_eq(in8(0x42), 0x00);
	at_tick(11004 + 0x100);
	ck_assert_uint_eq(in8(0x42), 0x01);
	out8(0x43, 0x90); /* low byte only */
	out8(0x42, 0x80);
	uint64_t now = 11004 + 0x100;
	at_tick(now + 1 + 0x10);
	ck_assert_uint_eq(in8(0x42), 0x70);
	/* digits that are none */
	out8(0x43, 0xb5);
	out8(0x42, 0xff);
	out8(0x42, 0xff);
	in8(0x42);
}
END_TEST

START_TEST(latch_and_read_back)
{
	start();
	gate2(true);
	program(2, 2, 1000);
	at_tick(1101);
	out8(0x43, 0x80);
	at_tick(1201);
	out8(0x43, 0x80); /* ignored: one is latched */
	ck_assert_uint_eq(in8(0x42), 900 & 0xff);
	ck_assert_uint_eq(in8(0x42), 900 >> 8);
	ck_assert_uint_eq(in8(0x42), 800 & 0xff); /* live again */
	ck_assert_uint_eq(in8(0x42), 800 >> 8);
	/* read-back of status and count: status comes first */
	out8(0x43, 0xc8);
	at_tick(1301);
	ck_assert_uint_eq(in8(0x42), 0xb4); /* OUT, both bytes, mode 2 */
	ck_assert_uint_eq(in8(0x42), 800 & 0xff);
	ck_assert_uint_eq(in8(0x42), 800 >> 8);
	/* null count: a control word, a count not yet loaded */
	out8(0x43, 0xb6);
	out8(0x43, 0xe8);
	ck_assert_uint_eq(in8(0x42), 0xf6);
	out8(0x42, 100);
	out8(0x42, 0);
	out8(0x43, 0xe8);
	ck_assert_uint_eq(in8(0x42), 0xf6);
	at_tick(1302);
	out8(0x43, 0xe8);
	ck_assert_uint_eq(in8(0x42), 0xb6);
	/* several channels at once */
	program(0, 0, 0);
	out8(0x43, 0xea);
	ck_assert_uint_eq(in8(0x40), 0x70);
	ck_assert_uint_eq(in8(0x42), 0xb6);
	ck_assert_uint_eq(in8(0x43), 0xff);
}
END_TEST

START_TEST(port_61)
{
	start();
	out8(0x61, 0xff);
	ck_assert_uint_eq(in8(0x61) & 0xcf, 0x0f);
	/* the refresh bit toggles every 15 us */
	unsigned toggles = 0;
	bool last = in8(0x61) & 0x10;
	for (unsigned i = 0; i < 15000; i++) {
		fx_set_time(vc_clock_now(&fx.clock) + 1000);
		bool now = in8(0x61) & 0x10;
		toggles += now != last;
		last = now;
	}
	ck_assert_uint_ge(toggles, 990);
	ck_assert_uint_le(toggles, 998);
}
END_TEST

START_TEST(hpet_cuts_off)
{
	start();
	program(0, 2, 1193);
	fx_advance(10000000, 500000);
	unsigned before = fx.rises[0];
	atomic_store(&fx.env.legacy_replaced, true);
	fx_advance(10000000, 500000);
	ck_assert_uint_eq(fx.rises[0], before);
	atomic_store(&fx.env.legacy_replaced, false);
	fx_advance(10000000, 500000);
	ck_assert_uint_ge(fx.rises[0], before + 9);
}
END_TEST

START_TEST(state)
{
	size_t size;

	start();
	program(0, 2, 1193);
	gate2(true);
	program(2, 3, 5000);
	at_tick(3001);
	uint16_t count = count_of(2);
	uint8_t *saved = fx_save("pit", &size);
	vc_buses_reset(&fx.buses);
	unsigned before = fx.rises[0];
	at_tick(10000);
	ck_assert_uint_eq(fx.rises[0], before);
	vc_clock_set(&fx.clock, tick_ns(3001));
	ck_assert_int_eq(fx_load("pit", saved, size), 0);
	ck_assert_uint_eq(count_of(2), count);
	ck_assert_uint_eq(in8(0x61) & 1, 1);
	before = fx.rises[0];
	at_tick(1001 + 1193 * 2);
	ck_assert_uint_eq(fx.rises[0], before + 1);
	free(saved);
	fx_load_hostile("pit");
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_test(tc, mode0);
	tcase_add_test(tc, mode0_gate);
	tcase_add_test(tc, mode1);
	tcase_add_test(tc, mode2);
	tcase_add_test(tc, mode3);
	tcase_add_test(tc, mode4_and_5);
	tcase_add_test(tc, mode4_interrupts);
	tcase_add_test(tc, periodic_without_drift);
	tcase_add_test(tc, missed_periods_are_one);
	tcase_add_test(tc, short_period_is_bearable);
	tcase_add_test(tc, bcd_and_byte_access);
	tcase_add_test(tc, latch_and_read_back);
	tcase_add_test(tc, port_61);
	tcase_add_test(tc, hpet_cuts_off);
	tcase_add_test(tc, state);
}

int main(void)
{
	return fx_main("pit", add_tests);
}
