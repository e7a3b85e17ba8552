/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The APIC timer (SDM vol. 3, 10.5.4). The bus clock is 1 GHz, so that a count with divider 1 is a nanosecond of guest
 * time.
 *
 * A running timer is one number: the guest time of its next expiry. Nothing is ever cancelled while the lock is held (a
 * cancel waits for the callback, the callback for the lock): a callback that finds nothing due goes back to sleep.
 */
#include "chipset/lapic_priv.h"

/* A guest that asks for a shorter period gets its ticks coalesced, and does not keep the loop's thread busy. */
#define SHORTEST_PERIOD_NS 20000u

static uint64_t now_ns(const struct vc_lapic *l)
{
	return vc_clock_now(l->all->config.clock);
}

/* Figure 10-10: bits 3, 1 and 0 give 2, 4 ... 128, 1. */
static unsigned divide_shift(const struct vc_lapic *l)
{
	uint32_t tdcr = lapic_get(l, APIC_TDCR);

	return (((tdcr & 3) | (tdcr & 8) >> 1) + 1) & 7;
}

static unsigned timer_mode(const struct vc_lapic *l)
{
	return LVT_TIMER_MODE(lapic_get(l, APIC_LVT_TIMER));
}

static uint64_t period_ns(const struct vc_lapic *l)
{
	return (uint64_t)lapic_get(l, APIC_TMICT) << divide_shift(l);
}

static void arm(struct vc_lapic *l, uint64_t now)
{
	uint64_t at = l->deadline;

	if (at == LAPIC_NEVER)
		return;
	if (timer_mode(l) == TIMER_PERIODIC && at < now + SHORTEST_PERIOD_NS && period_ns(l) < SHORTEST_PERIOD_NS)
		at = now + SHORTEST_PERIOD_NS;
	vc_timer_arm(l->timer, at);
}

static uint64_t tsc_at(const struct vc_lapic *l, uint64_t ns)
{
	return vc_muldiv64(ns, l->all->config.tsc_khz, 1000000) + l->tsc_offset;
}

/* First nanosecond at which the guest's TSC, seen from `now`, has reached `tsc`. */
static uint64_t tsc_to_ns(const struct vc_lapic *l, uint64_t tsc, uint64_t now)
{
	uint64_t khz = l->all->config.tsc_khz, current = tsc_at(l, now), ticks;

	if (tsc <= current)
		return now;
	/* The TSC wraps together with the offset, the distance does not; an absolute tick keeps rounding out of it. */
	if (__builtin_add_overflow(current - l->tsc_offset, tsc - current, &ticks))
		return LAPIC_NEVER;
	unsigned __int128 ns = ((unsigned __int128)ticks * 1000000 + khz - 1) / khz;
	return ns >= LAPIC_NEVER ? LAPIC_NEVER : (uint64_t)ns;
}

static void start_deadline(struct vc_lapic *l)
{
	uint64_t now = now_ns(l);

	l->deadline = l->tsc_deadline ? tsc_to_ns(l, l->tsc_deadline, now) : LAPIC_NEVER;
	arm(l, now);
}

static uint32_t count_left(const struct vc_lapic *l, uint64_t now)
{
	unsigned mode = timer_mode(l);
	uint64_t period = period_ns(l), left = 0;

	if (l->deadline == LAPIC_NEVER || mode > TIMER_PERIODIC || !period)
		return 0;
	if (l->deadline > now)
		left = l->deadline - now;
	else if (mode == TIMER_PERIODIC) /* the callback is late */
		left = period - (now - l->deadline) % period;
	return (uint32_t)((left + (1u << divide_shift(l)) - 1) >> divide_shift(l));
}

/* Moves the timer past an expiry; true when there was one. Missed periods count as one, as they would in the IRR. */
static bool expire(struct vc_lapic *l, uint64_t now)
{
	uint64_t period = period_ns(l);

	if (l->deadline == LAPIC_NEVER || l->deadline > now)
		return false;
	if (timer_mode(l) == TIMER_PERIODIC && period)
		l->deadline += ((now - l->deadline) / period + 1) * period;
	else
		l->deadline = LAPIC_NEVER;
	l->tsc_deadline = 0;
	return true;
}

static void on_timer(void *ctx)
{
	struct vc_lapic *l = ctx;

	pthread_mutex_lock(&l->lock);
	uint64_t now = now_ns(l);
	bool fired = expire(l, now);
	arm(l, now);
	pthread_mutex_unlock(&l->lock);
	if (fired)
		lapic_local_event(l, APIC_LVT_TIMER);
}

int lapic_timer_init(struct vc_lapic *l)
{
	l->deadline = LAPIC_NEVER;
	return vc_timer_new(l->all->config.loop, on_timer, l, &l->timer);
}

uint32_t lapic_timer_count(struct vc_lapic *l)
{
	pthread_mutex_lock(&l->lock);
	uint32_t count = count_left(l, now_ns(l));
	pthread_mutex_unlock(&l->lock);
	return count;
}

uint32_t lapic_timer_to_come(struct vc_lapic *l)
{
	pthread_mutex_lock(&l->lock);
	uint32_t count = count_left(l, now_ns(l));
	if (!count && l->deadline != LAPIC_NEVER && timer_mode(l) == TIMER_ONE_SHOT)
		count = 1;
	pthread_mutex_unlock(&l->lock);
	return count;
}

void lapic_timer_set_count(struct vc_lapic *l, uint32_t count)
{
	pthread_mutex_lock(&l->lock);
	/* 10.5.4.1: in TSC-deadline mode writes of the initial count are ignored. */
	if (timer_mode(l) != TIMER_TSC_DEADLINE) {
		uint64_t now = now_ns(l);
		lapic_put(l, APIC_TMICT, count);
		l->deadline = count && timer_mode(l) <= TIMER_PERIODIC ? now + period_ns(l) : LAPIC_NEVER;
		arm(l, now);
	}
	pthread_mutex_unlock(&l->lock);
}

void lapic_timer_set_divide(struct vc_lapic *l, uint32_t divide)
{
	pthread_mutex_lock(&l->lock);
	uint64_t now = now_ns(l);
	uint32_t left = count_left(l, now);
	lapic_put(l, APIC_TDCR, divide);
	if (left) {
		l->deadline = now + ((uint64_t)left << divide_shift(l));
		arm(l, now);
	}
	pthread_mutex_unlock(&l->lock);
}

void lapic_timer_set_lvt(struct vc_lapic *l, uint32_t lvt)
{
	pthread_mutex_lock(&l->lock);
	unsigned before = timer_mode(l), after = LVT_TIMER_MODE(lvt);
	lapic_put(l, APIC_LVT_TIMER, lvt);
	/* 10.5.4.1: a change between TSC-deadline and the other modes disarms; 3 is reserved and counts nothing. */
	if (before != after && (before >= TIMER_TSC_DEADLINE || after >= TIMER_TSC_DEADLINE)) {
		lapic_put(l, APIC_TMICT, 0);
		l->deadline = LAPIC_NEVER;
		l->tsc_deadline = 0;
	}
	pthread_mutex_unlock(&l->lock);
}

void lapic_timer_stop(struct vc_lapic *l)
{
	pthread_mutex_lock(&l->lock);
	l->deadline = LAPIC_NEVER;
	l->tsc_deadline = 0;
	pthread_mutex_unlock(&l->lock);
}

uint64_t lapic_timer_get_deadline(struct vc_lapic *l)
{
	pthread_mutex_lock(&l->lock);
	uint64_t tsc = l->tsc_deadline;
	pthread_mutex_unlock(&l->lock);
	return tsc;
}

void lapic_timer_set_deadline(struct vc_lapic *l, uint64_t tsc)
{
	pthread_mutex_lock(&l->lock);
	if (timer_mode(l) == TIMER_TSC_DEADLINE) {
		l->tsc_deadline = tsc;
		start_deadline(l);
	}
	pthread_mutex_unlock(&l->lock);
}

void vc_lapic_set_tsc_offset(struct vc_lapic *lapic, uint64_t offset)
{
	pthread_mutex_lock(&lapic->lock);
	lapic->tsc_offset = offset;
	if (lapic->tsc_deadline)
		start_deadline(lapic);
	pthread_mutex_unlock(&lapic->lock);
}

void lapic_timer_resume(struct vc_lapic *l, uint32_t count, uint64_t tsc_deadline)
{
	pthread_mutex_lock(&l->lock);
	uint64_t now = now_ns(l);
	l->deadline = LAPIC_NEVER;
	l->tsc_deadline = 0;
	if (timer_mode(l) == TIMER_TSC_DEADLINE) {
		l->tsc_deadline = tsc_deadline;
		start_deadline(l);
	} else if (timer_mode(l) <= TIMER_PERIODIC && lapic_get(l, APIC_TMICT) && count) {
		if (count > lapic_get(l, APIC_TMICT))
			count = lapic_get(l, APIC_TMICT);
		l->deadline = now + ((uint64_t)count << divide_shift(l));
		arm(l, now);
	}
	pthread_mutex_unlock(&l->lock);
}
