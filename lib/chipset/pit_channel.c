/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The six modes of an 8254 counter (Intel 231164, "Mode definitions"). A written count is loaded at the next tick. */
#include "chipset/pit_channel.h"

enum { ACCESS_LOW = 1, ACCESS_HIGH = 2, ACCESS_BOTH = 3 };

/* Modes 0 and 4 begin by the write of a count, 1 and 5 by the gate, 2 and 3 repeat. */
static bool is_triggered(const struct vc_pit_channel *c)
{
	return c->mode == 1 || c->mode == 5;
}

static bool is_repeating(const struct vc_pit_channel *c)
{
	return c->mode == 2 || c->mode == 3;
}

/* Ticks that OUT of mode 3 is high; an odd count gives the longer half to high. */
static int64_t high_half(uint32_t count)
{
	return (count + 1) / 2;
}

static int64_t elapsed(const struct vc_pit_channel *c, int64_t tick)
{
	switch (c->phase) {
	case VC_PIT_FROZEN:
		return c->frozen;
	case VC_PIT_RUNNING:
		return tick > c->start ? tick - c->start : 0;
	default:
		return 0;
	}
}

static uint32_t from_bcd(uint32_t v)
{
	return (v & 0xf) + (v >> 4 & 0xf) * 10 + (v >> 8 & 0xf) * 100 + (v >> 12 & 0xf) * 1000;
}

static uint32_t to_bcd(uint32_t v)
{
	return v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 % 10 << 12;
}

/* The counting element, as the guest would read it. */
static uint16_t counting_element(const struct vc_pit_channel *c, int64_t tick)
{
	int64_t e = elapsed(c, tick), n = c->count, value;

	if (c->mode == 2) {
		value = n - e % n;
	} else if (c->mode == 3) { /* goes down by two, twice a period, from an even number */
		e %= n;
		if (e >= high_half(c->count))
			e -= high_half(c->count);
		value = (n & ~(int64_t)1) - 2 * e;
	} else { /* goes on below zero */
		int64_t modulus = c->bcd ? 10000 : 65536;
		value = (n - e) % modulus;
		if (value < 0)
			value += modulus;
	}
	return (uint16_t)(c->bcd ? to_bcd((uint32_t)value) : (uint32_t)value);
}

bool vc_pit_out(const struct vc_pit_channel *c, int64_t tick)
{
	int64_t e = elapsed(c, tick), n = c->count;
	bool idle = c->phase < VC_PIT_FROZEN || (c->phase == VC_PIT_RUNNING && tick < c->start);

	if (idle)
		return c->mode != 0;
	switch (c->mode) {
	case 0:
	case 1:
		return e >= n;
	case 2:
		return c->phase == VC_PIT_FROZEN || n == 1 || e % n != n - 1;
	case 3:
		return c->phase == VC_PIT_FROZEN || e % n < high_half(c->count);
	default:
		return e != n;
	}
}

void vc_pit_channel_reset(struct vc_pit_channel *c, bool gate)
{
	*c =
	    (struct vc_pit_channel){.reload = VC_PIT_NEVER, .count = 65536, .mode = 3, .access = ACCESS_BOTH, .gate = gate};
}

bool vc_pit_channel_is_valid(const struct vc_pit_channel *c)
{
	return c->start >= -VC_PIT_LAST_TICK && c->start <= VC_PIT_LAST_TICK && c->frozen >= 0 &&
	       c->frozen <= VC_PIT_LAST_TICK && c->count >= 1 && c->count <= 65536 && c->next_count <= 65536 &&
	       c->mode <= 5 && c->access >= ACCESS_LOW && c->access <= ACCESS_BOTH && c->bcd < 2 && c->gate < 2 &&
	       c->phase <= VC_PIT_RUNNING && c->write_high_next < 2 && c->read_high_next < 2 && c->latched < 2 &&
	       c->status_latched < 2 &&
	       (c->reload == VC_PIT_NEVER || (c->reload >= 0 && c->reload <= VC_PIT_LAST_TICK && c->next_count &&
	                                      c->start <= c->reload && is_repeating(c) && c->phase == VC_PIT_RUNNING));
}

/* The end of the current period; in mode 3 of the current half. */
static int64_t next_boundary(const struct vc_pit_channel *c, int64_t tick)
{
	int64_t e = elapsed(c, tick), n = c->count, period = e - e % n;

	if (c->mode == 3 && e % n < high_half(c->count))
		return c->start + period + high_half(c->count);
	return c->start + period + n;
}

void vc_pit_advance(struct vc_pit_channel *c, int64_t tick)
{
	if (c->reload == VC_PIT_NEVER || tick < c->reload)
		return;
	bool in_low_half = c->mode == 3 && (c->reload - c->start) % c->count != 0;
	c->start = c->reload;
	c->count = c->next_count;
	if (in_low_half)
		c->start -= high_half(c->count);
	c->next_count = 0;
	c->reload = VC_PIT_NEVER;
}

static void start(struct vc_pit_channel *c, uint32_t count, int64_t tick)
{
	c->count = count;
	c->next_count = 0;
	c->reload = VC_PIT_NEVER;
	c->frozen = 0;
	c->start = tick + 1;
	c->phase = c->gate || is_triggered(c) ? VC_PIT_RUNNING : VC_PIT_FROZEN;
}

static void load(struct vc_pit_channel *c, uint32_t value, int64_t tick)
{
	uint32_t count = c->bcd ? from_bcd(value) : value;

	if (!count)
		count = c->bcd ? 10000 : 65536;
	if (is_triggered(c)) {
		c->next_count = count;
		if (c->phase == VC_PIT_IDLE)
			c->phase = VC_PIT_READY;
	} else if (is_repeating(c) && c->phase == VC_PIT_RUNNING) {
		c->next_count = count;
		c->reload = next_boundary(c, tick);
	} else {
		start(c, count, tick);
	}
}

void vc_pit_control(struct vc_pit_channel *c, uint8_t value)
{
	c->mode = value >> 1 & 7;
	if (c->mode > 5)
		c->mode &= 3; /* the top bit does not matter in modes 2 and 3 */
	c->access = value >> 4 & 3;
	c->bcd = value & 1;
	c->phase = VC_PIT_IDLE;
	c->next_count = 0;
	c->reload = VC_PIT_NEVER;
	c->write_high_next = 0;
	c->read_high_next = 0;
	c->latched = 0;
	c->status_latched = 0;
}

void vc_pit_write(struct vc_pit_channel *c, uint8_t value, int64_t tick)
{
	if (c->access == ACCESS_LOW) {
		load(c, value, tick);
	} else if (c->access == ACCESS_HIGH) {
		load(c, (uint32_t)value << 8, tick);
	} else if (!c->write_high_next) {
		c->write_low = value;
		c->write_high_next = 1;
		if (c->mode == 0)
			c->phase = VC_PIT_IDLE; /* the first byte stops the count */
	} else {
		c->write_high_next = 0;
		load(c, (uint32_t)value << 8 | c->write_low, tick);
	}
}

uint8_t vc_pit_read(struct vc_pit_channel *c, int64_t tick)
{
	if (c->status_latched) {
		c->status_latched = 0;
		return c->status;
	}
	uint16_t value = c->latched ? c->latch : counting_element(c, tick);
	bool high = c->access == ACCESS_HIGH || (c->access == ACCESS_BOTH && c->read_high_next);
	if (c->access == ACCESS_BOTH)
		c->read_high_next ^= 1;
	if (!c->read_high_next)
		c->latched = 0;
	return (uint8_t)(high ? value >> 8 : value);
}

void vc_pit_latch_count(struct vc_pit_channel *c, int64_t tick)
{
	if (c->latched)
		return;
	c->latch = counting_element(c, tick);
	c->latched = 1;
}

/* Null count: what was written has not reached the counting element yet. */
static bool is_null_count(const struct vc_pit_channel *c, int64_t tick)
{
	return c->phase == VC_PIT_IDLE || c->next_count || (c->phase == VC_PIT_RUNNING && tick < c->start);
}

void vc_pit_latch_status(struct vc_pit_channel *c, int64_t tick)
{
	if (c->status_latched)
		return;
	c->status =
	    (uint8_t)(vc_pit_out(c, tick) << 7 | is_null_count(c, tick) << 6 | c->access << 4 | c->mode << 1 | c->bcd);
	c->status_latched = 1;
}

static void gate_rose(struct vc_pit_channel *c, int64_t tick)
{
	if (c->phase == VC_PIT_IDLE)
		return;
	if (is_triggered(c) || is_repeating(c)) {
		start(c, c->next_count ? c->next_count : c->count, tick);
	} else if (c->phase == VC_PIT_FROZEN) {
		c->start = tick - c->frozen;
		c->phase = VC_PIT_RUNNING;
	}
}

static void gate_fell(struct vc_pit_channel *c, int64_t tick)
{
	if (c->phase != VC_PIT_RUNNING || is_triggered(c))
		return;
	c->frozen = elapsed(c, tick);
	c->reload = VC_PIT_NEVER; /* a waiting count is taken when the gate rises */
	c->phase = VC_PIT_FROZEN;
}

void vc_pit_set_gate(struct vc_pit_channel *c, bool gate, int64_t tick)
{
	if (c->gate == gate)
		return;
	c->gate = gate;
	if (gate)
		gate_rose(c, tick);
	else
		gate_fell(c, tick);
}

bool vc_pit_is_periodic(const struct vc_pit_channel *c)
{
	return is_repeating(c) && c->phase == VC_PIT_RUNNING;
}

static int64_t rise_after(const struct vc_pit_channel *c, int64_t after)
{
	int64_t rise;

	if (c->phase != VC_PIT_RUNNING)
		return VC_PIT_NEVER;
	if (is_repeating(c))
		return c->start + (after < c->start ? 1 : (after - c->start) / c->count + 1) * c->count;
	rise = c->start + c->count + (c->mode >= 4); /* a strobe ends a tick later */
	return rise > after ? rise : VC_PIT_NEVER;
}

int64_t vc_pit_next_rise(const struct vc_pit_channel *c, int64_t after)
{
	int64_t rise = rise_after(c, after);

	if (c->reload != VC_PIT_NEVER && rise > c->reload) {
		struct vc_pit_channel then = *c;
		vc_pit_advance(&then, c->reload);
		rise = rise_after(&then, after > c->reload ? after : c->reload);
	}
	return rise;
}
