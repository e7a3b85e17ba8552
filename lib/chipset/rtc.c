/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * MC146818 real-time clock with 128 bytes of CMOS RAM.
 *
 * The time of day is guest time plus an offset: at power-on, reset and load the host's CLOCK_REALTIME (UTC), corrected
 * by what the guest has set since. While register B's SET or the divider chain's reset stops the clock, the time
 * registers keep their values. The flags of register C are brought up to date when somebody looks; a timer runs only
 * for interrupts that are enabled and not yet pending.
 */
#include <stdlib.h>
#include <time.h>

#include "chipset/chip.h"
#include "chipset/dev_state.h"
#include "chipset/rtc_time.h"
#include "core/error.h"
#include "core/util.h"

#define RTC_GSI       8u
#define RTC_PORT      0x70u
#define STATE_VERSION 1u
#define RAM_SIZE      128u
#define NS            1000000000u
#define DAY           86400

#define A_UIP         0x80u
#define A_DIVIDER(a)  ((a) >> 4 & 7)
#define A_RATE(a)     ((a)&0xf)
#define A_DEFAULT     0x26u /* 32.768 kHz crystal, 1024 Hz periodic rate */
#define DIVIDER_32KHZ 2u
#define C_IRQF        0x80u
#define C_FLAGS       0x70u /* PF, AF, UF at the places of their enable bits in B */
#define D_VALID       0x80u
#define CRYSTAL_HZ    32768u
/* The update cycle takes 1984 us, and UIP tells of it 244 us before. */
#define UPDATE_NS (1984000u + 244000u)
/* Out of its reset the divider chain needs half a second to the first update. */
#define CHAIN_START_NS 500000000u

/* CMOS bytes as a PC BIOS keeps them */
enum {
	CMOS_EQUIPMENT = 0x14,
	CMOS_BASE_KB = 0x15,
	CMOS_EXTENDED_KB = 0x17,
	CMOS_CHECKED_FIRST = 0x10,
	CMOS_CHECKED_LAST = 0x2d,
	CMOS_CHECKSUM = 0x2e,
	CMOS_EXTENDED_KB2 = 0x30,
	CMOS_ABOVE_16M = 0x34,
	CMOS_ABOVE_4G = 0x5b,
	CMOS_CPUS = 0x5f,
};

struct rtc {
	struct vc_env *env;
	struct vc_timer *timer;
	struct vc_line line;
	pthread_mutex_t lock;  /* protects what follows, and orders changes of the line */
	uint8_t ram[RAM_SIZE]; /* A without UIP; C without IRQF */
	uint8_t index;
	int64_t offset_s; /* time of day = guest time + offset_ns + offset_s */
	uint32_t offset_ns;
	int64_t second;  /* flags are up to date to this second */
	uint64_t period; /* ... and to this multiple of the periodic rate */
};

struct rtc_state {
	uint32_t version;
	uint32_t offset_ns;
	int64_t offset_s; /* to the host's time of day */
	uint8_t ram[RAM_SIZE];
	uint8_t index, level, pad[6];
};

/* Time of day as seconds and nanoseconds. */
struct moment {
	int64_t s;
	uint32_t ns;
};

static struct moment add(int64_t s, uint64_t ns)
{
	return (struct moment){s + (int64_t)(ns / NS), (uint32_t)(ns % NS)};
}

static struct moment time_at(const struct rtc *rtc, uint64_t now)
{
	return add(rtc->offset_s + (int64_t)(now / NS), now % NS + rtc->offset_ns);
}

/* Make the time of day at `now` be `m`. */
static void set_time(struct rtc *rtc, uint64_t now, struct moment m)
{
	rtc->offset_ns = (uint32_t)((m.ns + NS - now % NS) % NS);
	rtc->offset_s = 0;
	rtc->offset_s = m.s - time_at(rtc, now).s;
	rtc->second = m.s;
}

static struct moment host_time(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (struct moment){t.tv_sec, (uint32_t)t.tv_nsec};
}

static bool divider_runs(const struct rtc *rtc)
{
	return A_DIVIDER(rtc->ram[RTC_A]) == DIVIDER_32KHZ;
}

static bool is_running(const struct rtc *rtc)
{
	return divider_runs(rtc) && !(rtc->ram[RTC_B] & RTC_B_SET);
}

/* Length of the periodic interrupt in crystal ticks; rates 1 and 2 are those of 8 and 9; 0: off. */
static uint64_t period_ticks(const struct rtc *rtc)
{
	unsigned rate = A_RATE(rtc->ram[RTC_A]);

	if (!rate || !divider_runs(rtc))
		return 0;
	return 1ull << (rate < 3 ? rate + 6 : rate - 1);
}

static void update_seconds(struct rtc *rtc, uint64_t now)
{
	int64_t s = time_at(rtc, now).s, from = rtc->second;

	rtc->second = s;
	if (s <= from)
		return;
	rtc->ram[RTC_C] |= RTC_B_UIE;
	/* In a day every alarm has had its time. */
	for (from = from < s - DAY ? s - DAY : from; from < s && !(rtc->ram[RTC_C] & RTC_B_AIE); from++)
		if (vc_rtc_alarm_matches(rtc->ram, from + 1))
			rtc->ram[RTC_C] |= RTC_B_AIE;
}

static void update_period(struct rtc *rtc, uint64_t now)
{
	uint64_t length = period_ticks(rtc);

	if (!length)
		return;
	uint64_t period = vc_ns_to_ticks(now, CRYSTAL_HZ) / length;
	if (period != rtc->period)
		rtc->ram[RTC_C] |= RTC_B_PIE;
	rtc->period = period;
}

/* An interrupt that is enabled and not yet pending needs the timer. */
static bool is_awaited(const struct rtc *rtc, uint8_t which)
{
	return rtc->ram[RTC_B] & ~rtc->ram[RTC_C] & which;
}

static void arm(struct rtc *rtc, uint64_t now)
{
	uint64_t at = UINT64_MAX, length = period_ticks(rtc);

	if (is_running(rtc) && is_awaited(rtc, RTC_B_UIE | RTC_B_AIE))
		at = now + NS - time_at(rtc, now).ns;
	if (length && is_awaited(rtc, RTC_B_PIE)) {
		uint64_t next = vc_ticks_to_ns((rtc->period + 1) * length, CRYSTAL_HZ);
		at = next < at ? next : at;
	}
	if (at != UINT64_MAX)
		vc_timer_arm(rtc->timer, at);
}

/* Brings flags and line up to date. Under lock; flush afterwards. */
static void update(struct rtc *rtc, uint64_t now)
{
	if (is_running(rtc))
		update_seconds(rtc, now);
	update_period(rtc, now);
	vc_line_set(&rtc->line, rtc->ram[RTC_B] & rtc->ram[RTC_C] & C_FLAGS);
	arm(rtc, now);
}

static void on_timer(void *ctx)
{
	struct rtc *rtc = ctx;

	pthread_mutex_lock(&rtc->lock);
	update(rtc, vc_clock_now(rtc->env->clock));
	pthread_mutex_unlock(&rtc->lock);
	vc_line_flush(&rtc->line);
}

/* While the clock runs the registers follow from the time; then they are the time. */
static void refresh(struct rtc *rtc, uint64_t now)
{
	if (is_running(rtc))
		vc_rtc_from_seconds(rtc->ram, time_at(rtc, now).s);
}

static uint8_t read_a(const struct rtc *rtc, uint64_t now)
{
	bool uip = is_running(rtc) && time_at(rtc, now).ns >= NS - UPDATE_NS;

	return rtc->ram[RTC_A] | (uip ? A_UIP : 0);
}

static uint8_t read_c(struct rtc *rtc)
{
	uint8_t value = rtc->ram[RTC_C];

	if (value & rtc->ram[RTC_B] & C_FLAGS)
		value |= C_IRQF;
	rtc->ram[RTC_C] = 0;
	return value;
}

static uint8_t read_data(struct rtc *rtc, uint64_t now)
{
	switch (rtc->index) {
	case RTC_A:
		return read_a(rtc, now);
	case RTC_C:
		return read_c(rtc);
	}
	if (vc_rtc_is_time(rtc->index))
		refresh(rtc, now);
	return rtc->ram[rtc->index];
}

/* Registers A and B may stop the clock and start it again. */
static void write_control(struct rtc *rtc, uint8_t value, uint64_t now)
{
	bool ran = is_running(rtc), chain_ran = divider_runs(rtc);
	uint32_t ns = time_at(rtc, now).ns;

	refresh(rtc, now);
	if (rtc->index == RTC_A) {
		rtc->ram[RTC_A] = value & ~A_UIP;
		rtc->period = period_ticks(rtc) ? vc_ns_to_ticks(now, CRYSTAL_HZ) / period_ticks(rtc) : 0;
	} else {
		/* SET takes the update interrupt away */
		rtc->ram[RTC_B] = value & RTC_B_SET ? value & ~RTC_B_UIE : value;
	}
	if (!chain_ran && divider_runs(rtc))
		set_time(rtc, now, (struct moment){time_at(rtc, now).s, CHAIN_START_NS});
	if (!ran && is_running(rtc))
		set_time(rtc, now, (struct moment){vc_rtc_to_seconds(rtc->ram), chain_ran ? ns : time_at(rtc, now).ns});
}

static void write_time(struct rtc *rtc, uint8_t value, uint64_t now)
{
	refresh(rtc, now);
	rtc->ram[rtc->index] = value;
	if (is_running(rtc))
		set_time(rtc, now, (struct moment){vc_rtc_to_seconds(rtc->ram), time_at(rtc, now).ns});
}

static void write_data(struct rtc *rtc, uint8_t value, uint64_t now)
{
	if (rtc->index == RTC_A || rtc->index == RTC_B)
		write_control(rtc, value, now);
	else if (vc_rtc_is_time(rtc->index))
		write_time(rtc, value, now);
	else if (rtc->index != RTC_C && rtc->index != RTC_D)
		rtc->ram[rtc->index] = value;
}

static uint8_t read8(void *ctx, uint64_t port)
{
	struct rtc *rtc = ctx;

	/* The index register is for writing. */
	return port == RTC_PORT ? 0xff : read_data(rtc, vc_clock_now(rtc->env->clock));
}

static void write8(void *ctx, uint64_t port, uint8_t value)
{
	struct rtc *rtc = ctx;

	if (port == RTC_PORT)
		rtc->index = value & (RAM_SIZE - 1); /* bit 7 masks NMIs on a PC; nothing here raises them by that way */
	else
		write_data(rtc, value, vc_clock_now(rtc->env->clock));
}

static void rtc_read(void *ctx, struct vcore_io *io)
{
	struct rtc *rtc = ctx;

	pthread_mutex_lock(&rtc->lock);
	update(rtc, vc_clock_now(rtc->env->clock));
	vc_chip_read_bytes(io, read8, rtc);
	update(rtc, vc_clock_now(rtc->env->clock));
	pthread_mutex_unlock(&rtc->lock);
	vc_line_flush(&rtc->line);
}

static void rtc_write(void *ctx, struct vcore_io *io)
{
	struct rtc *rtc = ctx;

	pthread_mutex_lock(&rtc->lock);
	update(rtc, vc_clock_now(rtc->env->clock));
	vc_chip_write_bytes(io, write8, rtc);
	update(rtc, vc_clock_now(rtc->env->clock));
	pthread_mutex_unlock(&rtc->lock);
	vc_line_flush(&rtc->line);
}

/*
 * The RESET pin takes interrupts away; time and CMOS have a battery. A clock that was stopped is started again, as a
 * BIOS would: a machine may be without one.
 */
static void rtc_reset(void *ctx)
{
	struct rtc *rtc = ctx;

	pthread_mutex_lock(&rtc->lock);
	uint64_t now = vc_clock_now(rtc->env->clock);
	bool ran = is_running(rtc);
	refresh(rtc, now);
	rtc->ram[RTC_A] = A_DEFAULT;
	rtc->ram[RTC_B] &= RTC_B_BINARY | RTC_B_24H;
	if (!ran)
		set_time(rtc, now, (struct moment){vc_rtc_to_seconds(rtc->ram), time_at(rtc, now).ns});
	update(rtc, now);
	rtc->ram[RTC_C] = 0;
	rtc->index = 0;
	pthread_mutex_unlock(&rtc->lock);
	vc_line_flush(&rtc->line);
}

static int64_t rtc_save(void *ctx, void *buffer, size_t length)
{
	struct rtc *rtc = ctx;
	struct rtc_state state = {.version = STATE_VERSION};

	pthread_mutex_lock(&rtc->lock);
	uint64_t now = vc_clock_now(rtc->env->clock);
	struct moment guest = time_at(rtc, now), host = host_time();
	struct moment ahead = add(guest.s - host.s - 1, (uint64_t)guest.ns + NS - host.ns);
	update(rtc, now);
	refresh(rtc, now);
	state.offset_s = ahead.s;
	state.offset_ns = ahead.ns;
	memcpy(state.ram, rtc->ram, sizeof state.ram);
	state.index = rtc->index;
	state.level = vc_line_level(&rtc->line);
	pthread_mutex_unlock(&rtc->lock);
	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int rtc_load(void *ctx, const void *buffer, size_t length)
{
	/* Years 0 to 9999 around any host time: no sum of them overflows. */
	const int64_t limit = (int64_t)1 << 40;
	struct rtc *rtc = ctx;
	struct rtc_state state;
	int r = vc_dev_state_in("rtc", STATE_VERSION, &state, sizeof state, buffer, length);

	if (r < 0)
		return r;
	if (state.index >= RAM_SIZE || state.level > 1 || state.offset_ns >= NS || state.offset_s > limit ||
	    state.offset_s < -limit || (state.ram[RTC_A] & A_UIP) || (state.ram[RTC_C] & ~C_FLAGS))
		return vc_fail(EINVAL, "rtc: state has index %u, offset %lld s + %u ns, registers A %#x, C %#x", state.index,
		               (long long)state.offset_s, state.offset_ns, state.ram[RTC_A], state.ram[RTC_C]);
	pthread_mutex_lock(&rtc->lock);
	uint64_t now = vc_clock_now(rtc->env->clock);
	struct moment host = host_time();
	memcpy(rtc->ram, state.ram, sizeof rtc->ram);
	rtc->index = state.index;
	set_time(rtc, now, add(host.s + state.offset_s, (uint64_t)host.ns + state.offset_ns));
	rtc->period = period_ticks(rtc) ? vc_ns_to_ticks(now, CRYSTAL_HZ) / period_ticks(rtc) : 0;
	vc_line_restore(&rtc->line, state.level);
	update(rtc, now);
	pthread_mutex_unlock(&rtc->lock);
	vc_line_flush(&rtc->line);
	return 0;
}

static void rtc_destroy(void *ctx)
{
	struct rtc *rtc = ctx;

	vc_timer_free(rtc->timer);
	pthread_mutex_destroy(&rtc->lock);
	free(rtc);
}

static const struct vcore_device_ops rtc_ops = {
    .size = sizeof rtc_ops,
    .read = rtc_read,
    .write = rtc_write,
    .reset = rtc_reset,
    .save = rtc_save,
    .load = rtc_load,
    .destroy = rtc_destroy,
};

static uint16_t clamp16(uint64_t value)
{
	return value > UINT16_MAX ? UINT16_MAX : (uint16_t)value;
}

static uint64_t beyond(uint64_t size, uint64_t start)
{
	return size > start ? size - start : 0;
}

static void fill_cmos(struct rtc *rtc, uint64_t low_memory, uint64_t high_memory)
{
	uint64_t above_4g = high_memory >> 16;
	uint16_t sum = 0;

	rtc->ram[RTC_A] = A_DEFAULT;
	rtc->ram[RTC_B] = RTC_B_24H;
	rtc->ram[RTC_D] = D_VALID;
	rtc->ram[CMOS_EQUIPMENT] = 0x06; /* coprocessor, PS/2 mouse */
	vc_st16(&rtc->ram[CMOS_BASE_KB], 640);
	vc_st16(&rtc->ram[CMOS_EXTENDED_KB], clamp16(beyond(low_memory, VC_MIB(1)) >> 10));
	vc_st16(&rtc->ram[CMOS_EXTENDED_KB2], clamp16(beyond(low_memory, VC_MIB(1)) >> 10));
	vc_st16(&rtc->ram[CMOS_ABOVE_16M], clamp16(beyond(low_memory, VC_MIB(16)) >> 16));
	if (above_4g > 0xffffff)
		above_4g = 0xffffff;
	for (unsigned i = 0; i < 3; i++)
		rtc->ram[CMOS_ABOVE_4G + i] = (uint8_t)(above_4g >> (i * 8));
	rtc->ram[CMOS_CPUS] = (uint8_t)(atomic_load(&rtc->env->vcpus_present) - 1);
	for (unsigned i = CMOS_CHECKED_FIRST; i <= CMOS_CHECKED_LAST; i++)
		sum += rtc->ram[i];
	rtc->ram[CMOS_CHECKSUM] = (uint8_t)(sum >> 8);
	rtc->ram[CMOS_CHECKSUM + 1] = (uint8_t)sum;
}

int vc_rtc_new(struct vc_env *env, uint64_t low_memory, uint64_t high_memory)
{
	struct rtc *rtc = calloc(1, sizeof *rtc);

	if (!rtc)
		return vc_fail(ENOMEM, "no memory for the RTC");
	rtc->env = env;
	pthread_mutex_init(&rtc->lock, NULL);
	vc_line_init(&rtc->line, env->irqs, RTC_GSI, &env->legacy_replaced);
	fill_cmos(rtc, low_memory, high_memory);
	set_time(rtc, vc_clock_now(env->clock), host_time());
	int r = vc_timer_new(env->loop, on_timer, rtc, &rtc->timer);
	if (r < 0) {
		rtc_destroy(rtc);
		return r;
	}
	return vc_chip_add(env, "rtc", &rtc_ops, rtc, &(struct vc_chip_region){VCORE_BUS_PIO, RTC_PORT, 2}, 1);
}
