/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The time registers of an MC146818 and what they mean. */
#ifndef VC_CHIPSET_RTC_TIME_H
#define VC_CHIPSET_RTC_TIME_H

#include <stdbool.h>
#include <stdint.h>

/* Indices into the CMOS RAM */
enum {
	RTC_SECONDS = 0x00,
	RTC_SECONDS_ALARM = 0x01,
	RTC_MINUTES = 0x02,
	RTC_MINUTES_ALARM = 0x03,
	RTC_HOURS = 0x04,
	RTC_HOURS_ALARM = 0x05,
	RTC_WEEKDAY = 0x06,
	RTC_DAY = 0x07,
	RTC_MONTH = 0x08,
	RTC_YEAR = 0x09,
	RTC_A = 0x0a,
	RTC_B = 0x0b,
	RTC_C = 0x0c,
	RTC_D = 0x0d,
	RTC_CENTURY = 0x32,
};

#define RTC_B_SET    0x80u
#define RTC_B_PIE    0x40u
#define RTC_B_AIE    0x20u
#define RTC_B_UIE    0x10u
#define RTC_B_BINARY 0x04u
#define RTC_B_24H    0x02u

/* Is it one of the registers that hold the time of day or the date? */
bool vc_rtc_is_time(unsigned index);
/* Fill the time registers with a time (seconds since 1970, UTC) in the format that register B chooses. */
void vc_rtc_from_seconds(uint8_t *ram, int64_t seconds);
/* What the time registers say; impossible fields are carried over into the next larger one. */
int64_t vc_rtc_to_seconds(const uint8_t *ram);
/* Does the alarm match in this second? */
bool vc_rtc_alarm_matches(const uint8_t *ram, int64_t seconds);

#endif
