/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "chipset/rtc_time.h"

#include <time.h>

#define PM       0x80u
#define ANY_TIME 0xc0u /* an alarm byte from here on matches always */

/* Years that the registers can hold. */
#define FIRST_SECOND (-62167219200ll) /* 0000-01-01 */
#define LAST_SECOND  253402300799ll   /* 9999-12-31 23:59:59 */

bool vc_rtc_is_time(unsigned index)
{
	const uint64_t regs = 1ull << RTC_SECONDS | 1ull << RTC_MINUTES | 1ull << RTC_HOURS | 1ull << RTC_WEEKDAY |
	                      1ull << RTC_DAY | 1ull << RTC_MONTH | 1ull << RTC_YEAR | 1ull << RTC_CENTURY;

	return index < 64 && (regs >> index & 1);
}

static uint8_t encode(const uint8_t *ram, int value)
{
	return (uint8_t)(ram[RTC_B] & RTC_B_BINARY ? value : value / 10 << 4 | value % 10);
}

static int decode(const uint8_t *ram, uint8_t value)
{
	return ram[RTC_B] & RTC_B_BINARY ? value : (value >> 4) * 10 + (value & 0xf);
}

/* 12, 1 ... 11 with a flag for the afternoon, unless register B chooses 24 hours. */
static uint8_t encode_hour(const uint8_t *ram, int hour)
{
	if (ram[RTC_B] & RTC_B_24H)
		return encode(ram, hour);
	return encode(ram, (hour + 11) % 12 + 1) | (hour >= 12 ? PM : 0);
}

static int decode_hour(const uint8_t *ram, uint8_t value)
{
	if (ram[RTC_B] & RTC_B_24H)
		return decode(ram, value);
	return decode(ram, value & ~PM) % 12 + (value & PM ? 12 : 0);
}

void vc_rtc_from_seconds(uint8_t *ram, int64_t seconds)
{
	time_t t = seconds < FIRST_SECOND ? FIRST_SECOND : seconds > LAST_SECOND ? LAST_SECOND : seconds;
	struct tm tm;

	if (!gmtime_r(&t, &tm))
		return;
	ram[RTC_SECONDS] = encode(ram, tm.tm_sec);
	ram[RTC_MINUTES] = encode(ram, tm.tm_min);
	ram[RTC_HOURS] = encode_hour(ram, tm.tm_hour);
	ram[RTC_WEEKDAY] = encode(ram, tm.tm_wday + 1);
	ram[RTC_DAY] = encode(ram, tm.tm_mday);
	ram[RTC_MONTH] = encode(ram, tm.tm_mon + 1);
	ram[RTC_YEAR] = encode(ram, (tm.tm_year + 1900) % 100);
	ram[RTC_CENTURY] = encode(ram, (tm.tm_year + 1900) / 100);
}

int64_t vc_rtc_to_seconds(const uint8_t *ram)
{
	struct tm tm = {
	    .tm_sec = decode(ram, ram[RTC_SECONDS]),
	    .tm_min = decode(ram, ram[RTC_MINUTES]),
	    .tm_hour = decode_hour(ram, ram[RTC_HOURS]),
	    .tm_mday = decode(ram, ram[RTC_DAY]),
	    .tm_mon = decode(ram, ram[RTC_MONTH]) - 1,
	    .tm_year = decode(ram, ram[RTC_CENTURY]) * 100 + decode(ram, ram[RTC_YEAR]) - 1900,
	};

	return timegm(&tm);
}

static bool alarm_byte_matches(uint8_t alarm, uint8_t now)
{
	return alarm >= ANY_TIME || alarm == now;
}

bool vc_rtc_alarm_matches(const uint8_t *ram, int64_t seconds)
{
	int64_t of_day = seconds % 86400;

	if (of_day < 0)
		of_day += 86400;
	return alarm_byte_matches(ram[RTC_SECONDS_ALARM], encode(ram, (int)(of_day % 60))) &&
	       alarm_byte_matches(ram[RTC_MINUTES_ALARM], encode(ram, (int)(of_day / 60 % 60))) &&
	       alarm_byte_matches(ram[RTC_HOURS_ALARM], encode_hour(ram, (int)(of_day / 3600)));
}
