/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/clock.h"

#include <time.h>

#define RUNNING UINT64_MAX

uint64_t vc_host_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void vc_clock_init(struct vc_clock *clock)
{
	atomic_init(&clock->frozen_at, RUNNING);
	atomic_init(&clock->offset, -(int64_t)vc_host_ns());
}

/* A reader that a stop and a start overtake would add a stale offset to a fresh host time: it looks twice. */
uint64_t vc_clock_now(const struct vc_clock *clock)
{
	for (;;) {
		uint64_t frozen = atomic_load(&clock->frozen_at);
		if (frozen != RUNNING)
			return frozen;
		int64_t offset = atomic_load(&clock->offset);
		uint64_t now = vc_host_ns() + (uint64_t)offset;
		if (atomic_load(&clock->frozen_at) == RUNNING && atomic_load(&clock->offset) == offset)
			return now;
	}
}

void vc_clock_set(struct vc_clock *clock, uint64_t guest_ns)
{
	if (atomic_load(&clock->frozen_at) != RUNNING)
		atomic_store(&clock->frozen_at, guest_ns);
	else
		atomic_store(&clock->offset, (int64_t)(guest_ns - vc_host_ns()));
}

void vc_clock_stop(struct vc_clock *clock)
{
	if (atomic_load(&clock->frozen_at) == RUNNING)
		atomic_store(&clock->frozen_at, vc_clock_now(clock));
}

void vc_clock_start(struct vc_clock *clock)
{
	uint64_t frozen = atomic_load(&clock->frozen_at);

	if (frozen == RUNNING)
		return;
	atomic_store(&clock->offset, (int64_t)(frozen - vc_host_ns()));
	atomic_store(&clock->frozen_at, RUNNING);
}

uint64_t vc_clock_to_host(const struct vc_clock *clock, uint64_t guest_ns)
{
	if (atomic_load(&clock->frozen_at) != RUNNING)
		return UINT64_MAX;
	__int128 host = (__int128)guest_ns - atomic_load(&clock->offset);
	if (host < 0)
		return 0;
	return host > UINT64_MAX ? UINT64_MAX : (uint64_t)host;
}
