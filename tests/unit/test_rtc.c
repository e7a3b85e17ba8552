/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <time.h>

#include "chip_fixture.h"
#include "chipset/rtc_time.h"

#define NS 1000000000ull

static uint8_t get(uint8_t index)
{
	out8(0x70, index);
	return in8(0x71);
}

static void put(uint8_t index, uint8_t value)
{
	out8(0x70, index);
	out8(0x71, value);
}

static void start(void)
{
	ck_assert_int_eq(vc_rtc_new(&fx.env, 3ull << 30, 5ull << 30), 0);
	fx_set_time(NS);
}

/* Sets date and time as an operating system does, in BCD and 24 hours: afterwards half a second is left to the first
 * update. */
static void set_clock(const uint8_t bcd[7])
{
	static const uint8_t regs[7] = {RTC_CENTURY, RTC_YEAR, RTC_MONTH, RTC_DAY, RTC_HOURS, RTC_MINUTES, RTC_SECONDS};
	uint8_t b = get(RTC_B);

	put(RTC_B, b | RTC_B_SET);
	put(RTC_A, 0x70 | 6);
	for (unsigned i = 0; i < 7; i++)
		put(regs[i], bcd[i]);
	put(RTC_B, b);
	put(RTC_A, 0x26);
}

START_TEST(host_time)
{
	time_t before = time(NULL);

	start();
	uint8_t ram[128];
	for (unsigned i = 0; i < sizeof ram; i++)
		ram[i] = get((uint8_t)i);
	int64_t seconds = vc_rtc_to_seconds(ram);
	ck_assert_int_ge(seconds, before);
	ck_assert_int_le(seconds, time(NULL) + 2);
	ck_assert_uint_eq(ram[RTC_B], 0x02);
	ck_assert_uint_eq(ram[RTC_A] & 0x7f, 0x26);
	ck_assert_uint_eq(ram[RTC_D], 0x80);
	ck_assert_uint_eq(in8(0x70), 0xff);
}
END_TEST

START_TEST(set_and_run)
{
	start();
	set_clock((uint8_t[]){0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59});
	ck_assert_uint_eq(get(RTC_SECONDS), 0x59);
	ck_assert_uint_eq(get(RTC_WEEKDAY), 6); /* a Friday */
	fx_set_time(NS + NS / 2 - 1);
	ck_assert_uint_eq(get(RTC_SECONDS), 0x59);
	fx_set_time(NS + NS / 2);
	ck_assert_uint_eq(get(RTC_SECONDS), 0x00);
	ck_assert_uint_eq(get(RTC_MINUTES), 0x00);
	ck_assert_uint_eq(get(RTC_HOURS), 0x00);
	ck_assert_uint_eq(get(RTC_DAY), 0x01);
	ck_assert_uint_eq(get(RTC_MONTH), 0x01);
	ck_assert_uint_eq(get(RTC_YEAR), 0x00);
	ck_assert_uint_eq(get(RTC_CENTURY), 0x20);
	ck_assert_uint_eq(get(RTC_WEEKDAY), 7);
	/* February of a leap year */
	set_clock((uint8_t[]){0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x59});
	fx_advance(NS, NS);
	ck_assert_uint_eq(get(RTC_DAY), 0x29);
}
END_TEST

START_TEST(formats)
{
	start();
	set_clock((uint8_t[]){0x20, 0x21, 0x11, 0x30, 0x13, 0x45, 0x56});
	put(RTC_B, RTC_B_24H | RTC_B_BINARY);
	ck_assert_uint_eq(get(RTC_HOURS), 13);
	ck_assert_uint_eq(get(RTC_MINUTES), 45);
	ck_assert_uint_eq(get(RTC_YEAR), 21);
	ck_assert_uint_eq(get(RTC_CENTURY), 20);
	put(RTC_B, 0);
	ck_assert_uint_eq(get(RTC_HOURS), 0x81); /* 1 pm */
	put(RTC_HOURS, 0x12);
	put(RTC_B, RTC_B_24H);
	ck_assert_uint_eq(get(RTC_HOURS), 0x00);
	put(RTC_B, RTC_B_BINARY);
	put(RTC_HOURS, 0x80 | 12);
	put(RTC_B, RTC_B_24H);
	ck_assert_uint_eq(get(RTC_HOURS), 0x12);
	/* nonsense is a time too */
	for (unsigned i = 0; i < 10; i++)
		if (vc_rtc_is_time(i))
			put((uint8_t)i, 0xff);
	put(RTC_CENTURY, 0xff);
	get(RTC_SECONDS);
}
END_TEST

START_TEST(set_freezes)
{
	start();
	set_clock((uint8_t[]){0x20, 0x21, 0x11, 0x30, 0x13, 0x45, 0x10});
	put(RTC_B, 0x82);
	get(RTC_C);
	fx_advance(10 * NS, NS);
	ck_assert_uint_eq(get(RTC_SECONDS), 0x10);
	ck_assert_uint_eq(get(RTC_A), 0x26); /* no UIP */
	ck_assert_uint_eq(get(RTC_C), 0x40); /* the divider chain goes on: the periodic flag alone */
	put(RTC_B, 0x92);                    /* SET takes UIE away */
	ck_assert_uint_eq(get(RTC_B), 0x82);
	put(RTC_B, 0x02);
	ck_assert_uint_eq(get(RTC_SECONDS), 0x10);
	fx_advance(NS, NS);
	ck_assert_uint_eq(get(RTC_SECONDS), 0x11);
}
END_TEST

START_TEST(update_in_progress)
{
	start();
	set_clock((uint8_t[]){0x20, 0x21, 0x11, 0x30, 0x13, 0x45, 0x10});
	uint64_t boundary = NS + NS / 2;
	fx_set_time(boundary - 2228001);
	ck_assert_uint_eq(get(RTC_A) & 0x80, 0);
	fx_set_time(boundary - 2228000);
	ck_assert_uint_eq(get(RTC_A) & 0x80, 0x80);
	fx_set_time(boundary - 1);
	ck_assert_uint_eq(get(RTC_A) & 0x80, 0x80);
	ck_assert_uint_eq(get(RTC_SECONDS), 0x10);
	fx_set_time(boundary);
	ck_assert_uint_eq(get(RTC_A) & 0x80, 0);
	ck_assert_uint_eq(get(RTC_SECONDS), 0x11);
	put(RTC_A, 0xa6); /* UIP is read-only */
	ck_assert_uint_eq(get(RTC_A), 0x26);
}
END_TEST

START_TEST(update_interrupt)
{
	start();
	set_clock((uint8_t[]){0x20, 0x21, 0x11, 0x30, 0x13, 0x45, 0x10});
	get(RTC_C);
	put(RTC_B, 0x12);
	fx_set_time(NS + NS / 2 - 1);
	ck_assert(!fx.level[8]);
	fx_set_time(NS + NS / 2);
	ck_assert(fx.level[8]);
	fx_advance(3 * NS, NS);
	ck_assert_uint_eq(fx.rises[8], 1); /* nobody looked at C */
	ck_assert_uint_eq(get(RTC_C) & 0x90, 0x90);
	ck_assert(!fx.level[8]);
	ck_assert_uint_eq(get(RTC_C), 0);
	fx_advance(NS, NS / 10);
	ck_assert_uint_eq(fx.rises[8], 2);
	/* the flag is set without the interrupt, and enabling it later raises */
	get(RTC_C);
	put(RTC_B, 0x02);
	fx_advance(NS, NS);
	ck_assert(!fx.level[8]);
	put(RTC_B, 0x12);
	ck_assert(fx.level[8]);
}
END_TEST

START_TEST(alarm_interrupt)
{
	start();
	set_clock((uint8_t[]){0x20, 0x21, 0x11, 0x30, 0x13, 0x45, 0x10});
	put(RTC_HOURS_ALARM, 0x13);
	put(RTC_MINUTES_ALARM, 0x46);
	put(RTC_SECONDS_ALARM, 0x05);
	get(RTC_C);
	put(RTC_B, 0x22);
	fx_set_time(NS + NS / 2 + 53 * NS);
	ck_assert(!fx.level[8]);
	fx_set_time(NS + NS / 2 + 54 * NS);
	ck_assert(fx.level[8]);
	ck_assert_uint_eq(get(RTC_C) & 0xa0, 0xa0);
	/* any hour, any minute: once a minute */
	put(RTC_HOURS_ALARM, 0xc0);
	put(RTC_MINUTES_ALARM, 0xff);
	unsigned before = fx.rises[8];
	for (unsigned i = 0; i < 600; i++) {
		fx_advance(NS, NS);
		get(RTC_C);
	}
	ck_assert_uint_eq(fx.rises[8], before + 10);
	/* passed while nobody looked, more than a day ago */
	put(RTC_B, 0x02);
	fx_set_time(vc_clock_now(&fx.clock) + 100000 * NS);
	ck_assert_uint_eq(get(RTC_C) & 0x20, 0x20);
	put(RTC_SECONDS_ALARM, 0x77); /* never */
	fx_set_time(vc_clock_now(&fx.clock) + 100000 * NS);
	ck_assert_uint_eq(get(RTC_C) & 0x20, 0);
}
END_TEST

START_TEST(periodic_interrupt)
{
	start();
	put(RTC_A, 0x26); /* 1024 Hz */
	get(RTC_C);
	put(RTC_B, 0x42);
	unsigned before = fx.rises[8];
	for (unsigned i = 0; i < 10000; i++) {
		fx_advance(NS / 10000, NS / 10000);
		if (fx.level[8])
			ck_assert_uint_eq(get(RTC_C) & 0xc0, 0xc0);
	}
	ck_assert_uint_ge(fx.rises[8] - before, 1023);
	ck_assert_uint_le(fx.rises[8] - before, 1025);
	put(RTC_A, 0x21); /* as rate 8: 256 Hz */
	get(RTC_C);
	before = fx.rises[8];
	for (unsigned i = 0; i < 1000; i++) {
		fx_advance(NS / 1000, NS / 1000);
		get(RTC_C);
	}
	ck_assert_uint_ge(fx.rises[8] - before, 255);
	ck_assert_uint_le(fx.rises[8] - before, 257);
	put(RTC_A, 0x20); /* off */
	get(RTC_C);
	fx_advance(NS, NS);
	ck_assert_uint_eq(get(RTC_C) & 0x40, 0);
}
END_TEST

START_TEST(cmos)
{
	start();
	ck_assert_uint_eq(get(0x15) | get(0x16) << 8, 640);
	ck_assert_uint_eq(get(0x17) | get(0x18) << 8, 0xffff);
	ck_assert_uint_eq(get(0x30) | get(0x31) << 8, 0xffff);
	ck_assert_uint_eq(get(0x34) | get(0x35) << 8, ((3u << 30) - (16u << 20)) >> 16);
	ck_assert_uint_eq(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16, (5ull << 30) >> 16);
	ck_assert_uint_eq(get(0x5f), 3);
	unsigned sum = 0;
	for (unsigned i = 0x10; i <= 0x2d; i++)
		sum += get((uint8_t)i);
	ck_assert_uint_eq(get(0x2e) << 8 | get(0x2f), sum);
	put(0x0f, 0x0a);
	put(0x7f, 0x55);
	vc_buses_reset(&fx.buses);
	ck_assert_uint_eq(get(0x0f), 0x0a); /* there is a battery */
	ck_assert_uint_eq(get(0xff), 0x55); /* bit 7 is not part of the index */
	put(RTC_C, 0xff);
	put(RTC_D, 0);
	ck_assert_uint_eq(get(RTC_D), 0x80);
	/* 16 bits at 0x70: index, then data */
	out_wide(0x70, 2, 0x4240);
	ck_assert_uint_eq(get(0x40), 0x42);
}
END_TEST

START_TEST(small_memory)
{
	ck_assert_int_eq(vc_rtc_new(&fx.env, 8ull << 20, 0), 0);
	ck_assert_uint_eq(get(0x17) | get(0x18) << 8, 7 * 1024);
	ck_assert_uint_eq(get(0x34) | get(0x35) << 8, 0);
	ck_assert_uint_eq(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16, 0);
}
END_TEST

START_TEST(reset)
{
	start();
	set_clock((uint8_t[]){0x20, 0x21, 0x11, 0x30, 0x13, 0x45, 0x10});
	put(RTC_B, 0x72);
	fx_advance(2 * NS, NS);
	ck_assert(fx.level[8]);
	put(RTC_B, 0xf2);
	vc_buses_reset(&fx.buses);
	ck_assert(!fx.level[8]);
	ck_assert_uint_eq(get(RTC_B), 0x02);
	ck_assert_uint_eq(get(RTC_SECONDS), 0x12);
	fx_advance(NS, NS);
	ck_assert_uint_eq(get(RTC_SECONDS), 0x13);
}
END_TEST

START_TEST(state)
{
	size_t size;

	start();
	/* an hour and some ahead of the host */
	put(RTC_B, 0x06);
	uint8_t hour = get(RTC_HOURS);
	put(RTC_HOURS, (hour + 1) % 24);
	put(0x40, 0x42);
	put(RTC_B, 0x16);
	fx_advance(NS, NS);
	ck_assert(fx.level[8]);
	uint8_t *saved = fx_save("rtc", &size);
	vc_buses_reset(&fx.buses);
	put(RTC_B, 0x06);
	put(RTC_HOURS, hour);
	put(0x40, 0);
	unsigned before = fx.rises[8];
	ck_assert_int_eq(fx_load("rtc", saved, size), 0);
	ck_assert_uint_eq(get(0x40), 0x42);
	uint8_t loaded = get(RTC_HOURS);
	ck_assert(loaded == (hour + 1) % 24 || loaded == (hour + 2) % 24);
	ck_assert_uint_eq(get(RTC_C) & 0x90, 0x90);
	fx_advance(NS, NS / 10);
	ck_assert_uint_eq(fx.rises[8], before + 1);
	free(saved);
	fx_load_hostile("rtc");
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_test(tc, host_time);
	tcase_add_test(tc, set_and_run);
	tcase_add_test(tc, formats);
	tcase_add_test(tc, set_freezes);
	tcase_add_test(tc, update_in_progress);
	tcase_add_test(tc, update_interrupt);
	tcase_add_test(tc, alarm_interrupt);
	tcase_add_test(tc, periodic_interrupt);
	tcase_add_test(tc, cmos);
	tcase_add_test(tc, small_memory);
	tcase_add_test(tc, reset);
	tcase_add_test(tc, state);
}

int main(void)
{
	return fx_main("rtc", add_tests);
}
