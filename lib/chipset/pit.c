/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * 8254 programmable interval timer (Intel 231164) and port 0x61 of a PC.
 *
 * Nothing counts: a channel remembers at which tick of the 1.193182 MHz clock its count was loaded, and everything a
 * guest can see follows from the tick of guest time it looks at. Ticks are absolute, so that periods do not drift.
 *
 * Channel 0 drives GSI 0. If the loop's thread is late for several periods, the guest gets one interrupt for them.
 */
#include <stdlib.h>

#include "chipset/chip.h"
#include "chipset/chip_state.h"
#include "chipset/dev_state.h"
#include "core/error.h"
#include "core/util.h"

#define PIT_PORT     0x40u
#define CONTROL_PORT 0x43u
#define SYSTEM_PORT  0x61u

/* Port 0x61 */
#define SYS_WRITABLE 0x0fu
#define SYS_REFRESH  0x10u
#define SYS_OUT2     0x20u
/* Channel 1 of a PC divides by 18: a refresh every 15 us. */
#define REFRESH_TICKS 18u

#define READ_BACK           3u
#define READ_BACK_NO_COUNT  0x20u
#define READ_BACK_NO_STATUS 0x10u

/* A guest that programs a shorter period gets its interrupts coalesced, and does not keep the loop's thread busy. */
#define SHORTEST_PERIOD_NS 20000u

struct pit {
	struct vc_env *env;
	struct vc_timer *timer;
	struct vc_line line;
	pthread_mutex_t lock; /* protects what follows, and orders changes of the line */
	struct vc_pit_channel channel[3];
	uint8_t system;      /* what was written to port 0x61 */
	int64_t edges_until; /* rising edges of OUT0 up to this tick have been sent */
};

static int64_t tick_now(const struct pit *pit)
{
	return (int64_t)vc_ns_to_ticks(vc_clock_now(pit->env->clock), VC_PIT_HZ);
}

/* Sends the edges of OUT0 since the last look, brings the line to its level, arms for the next edge. Under lock; flush
 * afterwards. */
static void update(struct pit *pit, int64_t tick)
{
	struct vc_pit_channel *c = &pit->channel[0];

	if (vc_pit_next_rise(c, pit->edges_until) <= tick) {
		vc_line_set(&pit->line, false);
		vc_line_set(&pit->line, true);
	}
	if (pit->edges_until < tick)
		pit->edges_until = tick;
	vc_pit_advance(c, tick);
	vc_line_set(&pit->line, vc_pit_out(c, tick));

	int64_t next = vc_pit_next_rise(c, pit->edges_until);
	if (next == VC_PIT_NEVER)
		return;
	uint64_t at = vc_ticks_to_ns((uint64_t)next, VC_PIT_HZ),
	         earliest = vc_clock_now(pit->env->clock) + SHORTEST_PERIOD_NS;
	if (vc_pit_is_periodic(c) && at < earliest)
		at = earliest;
	vc_timer_arm(pit->timer, at);
}

static void on_timer(void *ctx)
{
	struct pit *pit = ctx;

	pthread_mutex_lock(&pit->lock);
	update(pit, tick_now(pit));
	pthread_mutex_unlock(&pit->lock);
	vc_line_flush(&pit->line);
}

static void read_back(struct pit *pit, uint8_t value, int64_t tick)
{
	for (unsigned n = 0; n < 3; n++) {
		if (!(value >> (n + 1) & 1))
			continue;
		if (!(value & READ_BACK_NO_COUNT))
			vc_pit_latch_count(&pit->channel[n], tick);
		if (!(value & READ_BACK_NO_STATUS))
			vc_pit_latch_status(&pit->channel[n], tick);
	}
}

static void write_control(struct pit *pit, uint8_t value, int64_t tick)
{
	unsigned n = value >> 6;

	if (n == READ_BACK)
		read_back(pit, value, tick);
	else if (!(value & 0x30))
		vc_pit_latch_count(&pit->channel[n], tick);
	else
		vc_pit_control(&pit->channel[n], value);
}

static uint8_t read_system(struct pit *pit, int64_t tick)
{
	uint8_t value = pit->system;

	if (tick / REFRESH_TICKS & 1)
		value |= SYS_REFRESH;
	if (vc_pit_out(&pit->channel[2], tick))
		value |= SYS_OUT2;
	return value;
}

static uint8_t read8(void *ctx, uint64_t port)
{
	struct pit *pit = ctx;
	int64_t tick = tick_now(pit);

	for (unsigned n = 0; n < 3; n++)
		vc_pit_advance(&pit->channel[n], tick);
	if (port == SYSTEM_PORT)
		return read_system(pit, tick);
	if (port >= CONTROL_PORT)
		return 0xff; /* the control word cannot be read */
	return vc_pit_read(&pit->channel[port - PIT_PORT], tick);
}

static void write8(void *ctx, uint64_t port, uint8_t value)
{
	struct pit *pit = ctx;
	int64_t tick = tick_now(pit);

	for (unsigned n = 0; n < 3; n++)
		vc_pit_advance(&pit->channel[n], tick);
	if (port == SYSTEM_PORT) {
		pit->system = value & SYS_WRITABLE;
		vc_pit_set_gate(&pit->channel[2], value & VC_PIT_GATE2, tick);
	} else if (port == CONTROL_PORT) {
		write_control(pit, value, tick);
	} else if (port < CONTROL_PORT) {
		vc_pit_write(&pit->channel[port - PIT_PORT], value, tick);
	}
}

static void pit_read(void *ctx, struct vcore_io *io)
{
	struct pit *pit = ctx;

	pthread_mutex_lock(&pit->lock);
	update(pit, tick_now(pit));
	vc_chip_read_bytes(io, read8, pit);
	pthread_mutex_unlock(&pit->lock);
	vc_line_flush(&pit->line);
}

static void pit_write(void *ctx, struct vcore_io *io)
{
	struct pit *pit = ctx;

	pthread_mutex_lock(&pit->lock);
	update(pit, tick_now(pit)); /* what the old programming did until now */
	vc_chip_write_bytes(io, write8, pit);
	update(pit, tick_now(pit));
	pthread_mutex_unlock(&pit->lock);
	vc_line_flush(&pit->line);
}

static void reset_channels(struct pit *pit)
{
	for (unsigned n = 0; n < 3; n++)
		vc_pit_channel_reset(&pit->channel[n], n != 2);
	pit->system = 0;
}

static void pit_reset(void *ctx)
{
	struct pit *pit = ctx;

	pthread_mutex_lock(&pit->lock);
	reset_channels(pit);
	update(pit, tick_now(pit));
	pthread_mutex_unlock(&pit->lock);
	vc_line_flush(&pit->line);
}

static int64_t pit_save(void *ctx, void *buffer, size_t length)
{
	struct pit *pit = ctx;
	struct vc_pit_state state = {.version = VC_PIT_STATE_VERSION};

	pthread_mutex_lock(&pit->lock);
	state.system = pit->system;
	state.level = vc_line_level(&pit->line);
	state.edges_until = pit->edges_until;
	memcpy(state.channel, pit->channel, sizeof state.channel);
	pthread_mutex_unlock(&pit->lock);
	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int pit_load(void *ctx, const void *buffer, size_t length)
{
	struct pit *pit = ctx;
	struct vc_pit_state state;
	int r = vc_dev_state_in("pit", VC_PIT_STATE_VERSION, &state, sizeof state, buffer, length);

	if (r < 0)
		return r;
	for (unsigned n = 0; n < 3; n++)
		if (!vc_pit_channel_is_valid(&state.channel[n]))
			return vc_fail(EINVAL, "pit: state of channel %u is impossible", n);
	if ((state.system & ~SYS_WRITABLE) || state.level > 1 || state.edges_until < 0 ||
	    state.edges_until > VC_PIT_LAST_TICK)
		return vc_fail(EINVAL, "pit: state of port 0x61 or of the output is impossible");
	pthread_mutex_lock(&pit->lock);
	pit->system = state.system;
	pit->edges_until = state.edges_until;
	memcpy(pit->channel, state.channel, sizeof state.channel);
	vc_line_restore(&pit->line, state.level);
	update(pit, tick_now(pit));
	pthread_mutex_unlock(&pit->lock);
	vc_line_flush(&pit->line);
	return 0;
}

static void pit_destroy(void *ctx)
{
	struct pit *pit = ctx;

	vc_timer_free(pit->timer);
	pthread_mutex_destroy(&pit->lock);
	free(pit);
}

static const struct vcore_device_ops pit_ops = {
    .size = sizeof pit_ops,
    .read = pit_read,
    .write = pit_write,
    .reset = pit_reset,
    .save = pit_save,
    .load = pit_load,
    .destroy = pit_destroy,
};

int vc_pit_new(struct vc_env *env)
{
	static const struct vc_chip_region regions[] = {
	    {VCORE_BUS_PIO, PIT_PORT, 4},
	    {VCORE_BUS_PIO, SYSTEM_PORT, 1},
	};
	struct pit *pit = calloc(1, sizeof *pit);

	if (!pit)
		return vc_fail(ENOMEM, "no memory for the PIT");
	pit->env = env;
	pthread_mutex_init(&pit->lock, NULL);
	vc_line_init(&pit->line, env->irqs, 0, &env->legacy_replaced);
	reset_channels(pit);
	vc_line_restore(&pit->line, true); /* OUT0 begins high, and that is no edge */
	int r = vc_timer_new(env->loop, on_timer, pit, &pit->timer);
	if (r < 0) {
		pit_destroy(pit);
		return r;
	}
	return vc_chip_add(env, "pit", &pit_ops, pit, regions, VC_ARRAY_SIZE(regions));
}
