/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * HPET (IA-PC HPET specification 1.0a): a 64-bit counter at 100 MHz, three comparators, all of them able to be
 * periodic.
 *
 * A comparator is kept as the guest time of its next match. Without FSB delivery; outside legacy replacement the
 * comparators may use GSI 20 to 23.
 */
#include <stdlib.h>

#include "chipset/chip.h"
#include "chipset/dev_state.h"
#include "core/error.h"
#include "core/util.h"

#define TIMERS        3u
#define MMIO_LENGTH   0x400u
#define STATE_VERSION 1u
#define NS_PER_TICK   10u
#define NEVER         UINT64_MAX

#define REG_CAPABILITIES  0x000u
#define REG_CONFIGURATION 0x010u
#define REG_STATUS        0x020u
#define REG_COUNTER       0x0f0u
#define REG_TIMERS        0x100u /* 0x20 apart: configuration, comparator */
#define REG_TIMER_SIZE    0x20u
#define TIMER_CONFIG      0x00u
#define TIMER_COMPARATOR  0x08u

/* Period in fs; vendor; legacy replacement, 64 bit, number of the last timer, revision. */
#define CAPABILITIES \
	((uint64_t)NS_PER_TICK * 1000000 << 32 | 0x8086u << 16 | 1u << 15 | 1u << 13 | (TIMERS - 1) << 8 | 1u)

#define CONFIG_ENABLE 1u
#define CONFIG_LEGACY 2u

#define TN_LEVEL      0x0002u
#define TN_ENABLE     0x0004u
#define TN_PERIODIC   0x0008u
#define TN_SET_VALUE  0x0040u
#define TN_32BIT      0x0100u
#define TN_ROUTE(cfg) ((cfg) >> 9 & 0x1f)
#define TN_ROUTE_MASK 0x3e00u
#define TN_WRITABLE   (TN_LEVEL | TN_ENABLE | TN_PERIODIC | TN_SET_VALUE | TN_32BIT | TN_ROUTE_MASK)
#define TN_READ_ONLY  0x30u /* periodic and 64-bit capable */
#define FIRST_ROUTE   20u
#define ROUTES        4u
#define TN_ROUTE_CAP  ((uint64_t)((1u << ROUTES) - 1) << (32 + FIRST_ROUTE))

/* A guest that programs a shorter period gets its interrupts coalesced, and does not keep the loop's thread busy. */
#define SHORTEST_PERIOD_NS 20000u

/* Also its saved form: no padding. */
struct comparator {
	uint64_t config; /* writable bits */
	uint64_t value;
	uint64_t period;
	uint64_t due; /* guest ns of the next match; NEVER */
};

/* Lines of timers 0 and 1 in legacy replacement, then the routes. */
enum { LINE_LEGACY0, LINE_LEGACY1, LINE_ROUTES, LINES = LINE_ROUTES + ROUTES };

struct hpet {
	struct vc_env *env;
	struct vc_timer *timer;
	struct vc_line line[LINES];
	pthread_mutex_t lock; /* protects what follows, and orders changes of the lines */
	uint64_t config, status;
	uint64_t counter; /* at guest time `since`; runs on from there when enabled */
	uint64_t since;
	struct comparator comparator[TIMERS];
};

struct hpet_state {
	uint32_t version, lines; /* levels */
	uint64_t config, status, counter, since;
	struct comparator comparator[TIMERS];
};

static uint64_t counter_at(const struct hpet *h, uint64_t now)
{
	return (h->config & CONFIG_ENABLE) && now > h->since ? h->counter + (now - h->since) / NS_PER_TICK : h->counter;
}

/* Where timer n's interrupt goes; NULL: nowhere. */
static struct vc_line *line_of(struct hpet *h, unsigned n)
{
	unsigned route = TN_ROUTE(h->comparator[n].config);

	if ((h->config & CONFIG_LEGACY) && n < 2)
		return &h->line[LINE_LEGACY0 + n];
	if (route < FIRST_ROUTE || route >= FIRST_ROUTE + ROUTES)
		return NULL;
	return &h->line[LINE_ROUTES + route - FIRST_ROUTE];
}

static void update_levels(struct hpet *h)
{
	bool level[LINES] = {false};

	for (unsigned n = 0; n < TIMERS; n++) {
		uint64_t config = h->comparator[n].config;
		struct vc_line *line = line_of(h, n);
		if (line && (config & TN_ENABLE) && (config & TN_LEVEL) && (h->status >> n & 1))
			level[line - h->line] = true;
	}
	for (unsigned i = 0; i < LINES; i++)
		vc_line_set(&h->line[i], level[i]);
}

/* The status bit is set even when the interrupt is not enabled (2.3.6), but in level mode only. */
static void fire(struct hpet *h, unsigned n)
{
	uint64_t config = h->comparator[n].config;
	struct vc_line *line = line_of(h, n);

	if (config & TN_LEVEL) {
		h->status |= 1ull << n;
	} else if (line && (config & TN_ENABLE) && !vc_line_level(line)) {
		vc_line_set(line, true);
		vc_line_set(line, false);
	}
}

static bool is_periodic(const struct comparator *c)
{
	return (c->config & TN_PERIODIC) && c->period;
}

/* c has matched at c->due: the next match. Missed periods count as one interrupt. */
static void rearm(struct comparator *c, uint64_t now)
{
	uint64_t step = is_periodic(c) ? c->period : 0, ns;

	if (!step && (c->config & TN_32BIT)) /* the low half comes round again (2.3.9.2.1) */
		ns = (uint64_t)NS_PER_TICK << 32;
	else if (!step || __builtin_mul_overflow(step, (uint64_t)NS_PER_TICK, &ns))
		ns = 0;

	if (!ns) {
		c->value += step;
		c->due = NEVER;
		return;
	}
	uint64_t times = (now - c->due) / ns + 1;
	c->value += step * times;
	if (c->config & TN_32BIT)
		c->value = (uint32_t)c->value;
	if (__builtin_add_overflow(c->due, times * ns, &c->due))
		c->due = NEVER;
}

/* Does everything that is due, and arms for what comes next. Under lock; flush afterwards. */
static void update(struct hpet *h)
{
	uint64_t now = vc_clock_now(h->env->clock), next = NEVER;

	for (unsigned n = 0; n < TIMERS; n++) {
		struct comparator *c = &h->comparator[n];
		if (c->due <= now) {
			fire(h, n);
			rearm(c, now);
		}
		uint64_t at = c->due;
		if (is_periodic(c) && c->period < SHORTEST_PERIOD_NS / NS_PER_TICK && at < now + SHORTEST_PERIOD_NS)
			at = now + SHORTEST_PERIOD_NS;
		if (at < next)
			next = at;
	}
	update_levels(h);
	if (next != NEVER)
		vc_timer_arm(h->timer, next);
}

static void flush(struct hpet *h)
{
	for (unsigned i = 0; i < LINES; i++)
		vc_line_flush(&h->line[i]);
}

/* After a change of the counter or the comparator: when they meet. What lies behind a 64-bit counter is never reached.
 */
static void schedule(struct hpet *h, unsigned n, uint64_t now)
{
	struct comparator *c = &h->comparator[n];
	uint64_t distance = c->value - counter_at(h, now), ns;

	c->due = NEVER;
	if (!(h->config & CONFIG_ENABLE))
		return;
	if (c->config & TN_32BIT)
		distance = (uint32_t)distance;
	/* Counted from the last tick, so that the match falls on one. */
	uint64_t tick = now > h->since ? now - (now - h->since) % NS_PER_TICK : h->since;
	if (!__builtin_mul_overflow(distance, (uint64_t)NS_PER_TICK, &ns) && !__builtin_add_overflow(tick, ns, &ns))
		c->due = ns;
}

static void schedule_all(struct hpet *h, uint64_t now)
{
	for (unsigned n = 0; n < TIMERS; n++)
		schedule(h, n, now);
}

static uint64_t read_comparator(const struct hpet *h, unsigned n, unsigned reg)
{
	const struct comparator *c = &h->comparator[n];

	switch (reg) {
	case TIMER_CONFIG:
		return c->config | TN_READ_ONLY | TN_ROUTE_CAP;
	case TIMER_COMPARATOR:
		return c->value;
	default:
		return 0;
	}
}

static uint64_t read64(const struct hpet *h, unsigned reg)
{
	unsigned n = (reg - REG_TIMERS) / REG_TIMER_SIZE;

	switch (reg) {
	case REG_CAPABILITIES:
		return CAPABILITIES;
	case REG_CONFIGURATION:
		return h->config;
	case REG_STATUS:
		return h->status;
	case REG_COUNTER:
		return counter_at(h, vc_clock_now(h->env->clock));
	}
	return reg >= REG_TIMERS && n < TIMERS ? read_comparator(h, n, reg % REG_TIMER_SIZE) : 0;
}

static void write_configuration(struct hpet *h, uint64_t value, uint64_t now)
{
	uint64_t config = value & (CONFIG_ENABLE | CONFIG_LEGACY);
	bool toggles = (config ^ h->config) & CONFIG_ENABLE;

	if (toggles) {
		h->counter = counter_at(h, now);
		h->since = now;
	}
	h->config = config;
	atomic_store(&h->env->legacy_replaced, h->config & CONFIG_LEGACY);
	if (toggles)
		schedule_all(h, now);
}

static void write_timer_config(struct hpet *h, unsigned n, uint64_t value, uint64_t now)
{
	struct comparator *c = &h->comparator[n];
	unsigned route = TN_ROUTE(value);

	/* 2.3.8: a route that is not offered does not stick. */
	if (route < FIRST_ROUTE || route >= FIRST_ROUTE + ROUTES)
		value = (value & ~(uint64_t)TN_ROUTE_MASK) | (c->config & TN_ROUTE_MASK);
	c->config = value & TN_WRITABLE;
	if (!(c->config & TN_LEVEL))
		h->status &= ~(1ull << n);
	if (c->config & TN_32BIT) {
		c->value = (uint32_t)c->value;
		c->period = (uint32_t)c->period;
	}
	schedule(h, n, now);
}

/*
 * 2.3.9.2.2: in periodic mode a write sets the period, and the comparator itself only while SET_VALUE is set, which the
 * write clears. mask: the half that is written.
 */
static void write_timer_comparator(struct hpet *h, unsigned n, uint64_t value, uint64_t mask, uint64_t now)
{
	struct comparator *c = &h->comparator[n];
	bool sets_value = !(c->config & TN_PERIODIC) || (c->config & TN_SET_VALUE);

	if (c->config & TN_32BIT)
		mask &= 0xffffffff;
	if (c->config & TN_PERIODIC)
		c->period = (c->period & ~mask) | (value & mask);
	c->config &= ~(uint64_t)TN_SET_VALUE;
	if (sets_value) {
		c->value = (c->value & ~mask) | (value & mask);
		schedule(h, n, now);
	}
}

/* value is in place; mask tells which half of the register is written. */
static void write64(struct hpet *h, unsigned reg, uint64_t value, uint64_t mask)
{
	uint64_t now = vc_clock_now(h->env->clock), merged = (read64(h, reg) & ~mask) | (value & mask);
	unsigned n = (reg - REG_TIMERS) / REG_TIMER_SIZE;

	switch (reg) {
	case REG_CONFIGURATION:
		write_configuration(h, merged, now);
		return;
	case REG_STATUS:
		h->status &= ~(value & mask);
		return;
	case REG_COUNTER:
		h->counter = merged;
		h->since = now;
		schedule_all(h, now);
		return;
	}
	if (reg < REG_TIMERS || n >= TIMERS)
		return;
	if (reg % REG_TIMER_SIZE == TIMER_CONFIG)
		write_timer_config(h, n, merged, now);
	else if (reg % REG_TIMER_SIZE == TIMER_COMPARATOR)
		write_timer_comparator(h, n, value, mask, now);
}

static void hpet_read(void *ctx, struct vcore_io *io)
{
	struct hpet *h = ctx;

	pthread_mutex_lock(&h->lock);
	update(h);
	io->data = read64(h, io->offset & ~7u) >> (io->offset & 7) * 8;
	pthread_mutex_unlock(&h->lock);
	flush(h);
}

static void hpet_write(void *ctx, struct vcore_io *io)
{
	struct hpet *h = ctx;
	unsigned shift = (io->offset & 7) * 8;

	if (io->width < 4 || (io->offset & (io->width - 1)))
		return; /* 2.1: 32- and 64-bit accesses, aligned */
	pthread_mutex_lock(&h->lock);
	update(h); /* what the old programming did until now */
	bool was_legacy = h->config & CONFIG_LEGACY;
	write64(h, io->offset & ~7u, io->data << shift, vc_width_mask(io->width) << shift);
	update(h);
	bool takes_over = !was_legacy && (h->config & CONFIG_LEGACY);
	pthread_mutex_unlock(&h->lock);
	if (takes_over) {
		/* PIT and RTC are cut off and cannot lower what they have raised. */
		vc_irq_set(h->env->irqs, 0, false);
		vc_irq_set(h->env->irqs, 8, false);
	}
	flush(h);
}

static void on_timer(void *ctx)
{
	struct hpet *h = ctx;

	pthread_mutex_lock(&h->lock);
	update(h);
	pthread_mutex_unlock(&h->lock);
	flush(h);
}

static void reset_registers(struct hpet *h)
{
	h->config = h->status = h->counter = h->since = 0;
	for (unsigned n = 0; n < TIMERS; n++)
		h->comparator[n] = (struct comparator){.value = UINT64_MAX, .due = NEVER};
	atomic_store(&h->env->legacy_replaced, false);
}

static void hpet_reset(void *ctx)
{
	struct hpet *h = ctx;

	pthread_mutex_lock(&h->lock);
	reset_registers(h);
	update(h);
	pthread_mutex_unlock(&h->lock);
	flush(h);
}

static int64_t hpet_save(void *ctx, void *buffer, size_t length)
{
	struct hpet *h = ctx;
	struct hpet_state state = {.version = STATE_VERSION};

	pthread_mutex_lock(&h->lock);
	state.config = h->config;
	state.status = h->status;
	state.counter = h->counter;
	state.since = h->since;
	memcpy(state.comparator, h->comparator, sizeof state.comparator);
	for (unsigned i = 0; i < LINES; i++)
		state.lines |= (uint32_t)vc_line_level(&h->line[i]) << i;
	pthread_mutex_unlock(&h->lock);
	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int check_state(const struct hpet_state *state)
{
	if ((state->config & ~(uint64_t)(CONFIG_ENABLE | CONFIG_LEGACY)) || state->status >> TIMERS ||
	    state->lines >> LINES)
		return vc_fail(EINVAL, "hpet: state has configuration %#llx, status %#llx, lines %#x",
		               (unsigned long long)state->config, (unsigned long long)state->status, state->lines);
	for (unsigned n = 0; n < TIMERS; n++) {
		const struct comparator *c = &state->comparator[n];
		if ((c->config & ~(uint64_t)TN_WRITABLE) ||
		    ((c->config & TN_32BIT) && (c->value > UINT32_MAX || c->period > UINT32_MAX)))
			return vc_fail(EINVAL, "hpet: state of timer %u is impossible", n);
	}
	return 0;
}

static int hpet_load(void *ctx, const void *buffer, size_t length)
{
	struct hpet *h = ctx;
	struct hpet_state state;
	int r = vc_dev_state_in("hpet", STATE_VERSION, &state, sizeof state, buffer, length);

	if (r < 0)
		return r;
	r = check_state(&state);
	if (r < 0)
		return r;
	pthread_mutex_lock(&h->lock);
	h->config = state.config;
	h->status = state.status;
	h->counter = state.counter;
	h->since = state.since;
	memcpy(h->comparator, state.comparator, sizeof h->comparator);
	atomic_store(&h->env->legacy_replaced, h->config & CONFIG_LEGACY);
	for (unsigned i = 0; i < LINES; i++)
		vc_line_restore(&h->line[i], state.lines >> i & 1);
	update(h);
	pthread_mutex_unlock(&h->lock);
	flush(h);
	return 0;
}

static void hpet_destroy(void *ctx)
{
	struct hpet *h = ctx;

	vc_timer_free(h->timer);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

static const struct vcore_device_ops hpet_ops = {
    .size = sizeof hpet_ops,
    .read = hpet_read,
    .write = hpet_write,
    .reset = hpet_reset,
    .save = hpet_save,
    .load = hpet_load,
    .destroy = hpet_destroy,
};

int vc_hpet_new(struct vc_env *env)
{
	struct hpet *h = calloc(1, sizeof *h);

	if (!h)
		return vc_fail(ENOMEM, "no memory for the HPET");
	h->env = env;
	pthread_mutex_init(&h->lock, NULL);
	vc_line_init(&h->line[LINE_LEGACY0], env->irqs, 0, NULL);
	vc_line_init(&h->line[LINE_LEGACY1], env->irqs, 8, NULL);
	for (unsigned i = 0; i < ROUTES; i++)
		vc_line_init(&h->line[LINE_ROUTES + i], env->irqs, FIRST_ROUTE + i, NULL);
	reset_registers(h);
	int r = vc_timer_new(env->loop, on_timer, h, &h->timer);
	if (r < 0) {
		hpet_destroy(h);
		return r;
	}
	return vc_chip_add(env, "hpet", &hpet_ops, h, &(struct vc_chip_region){VCORE_BUS_MMIO, VC_HPET_BASE, MMIO_LENGTH},
	                   1);
}
