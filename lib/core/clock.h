/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Guest time: host monotonic time plus an offset; stands still while the vm is paused. */
#ifndef VC_CORE_CLOCK_H
#define VC_CORE_CLOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct vc_clock {
	_Atomic int64_t offset;     /* guest ns = host monotonic ns + offset */
	_Atomic uint64_t frozen_at; /* guest ns while stopped; UINT64_MAX while running */
};

uint64_t vc_host_ns(void); /* CLOCK_MONOTONIC */

/* Guest time starts at 0, running. */
void vc_clock_init(struct vc_clock *clock);
uint64_t vc_clock_now(const struct vc_clock *clock);
void vc_clock_set(struct vc_clock *clock, uint64_t guest_ns);
void vc_clock_stop(struct vc_clock *clock);
void vc_clock_start(struct vc_clock *clock);
/* Host monotonic ns at which guest time will be guest_ns; UINT64_MAX while stopped. */
uint64_t vc_clock_to_host(const struct vc_clock *clock, uint64_t guest_ns);

/* a * b / c without overflow of the intermediate; saturates at UINT64_MAX. */
static inline uint64_t vc_muldiv64(uint64_t a, uint64_t b, uint64_t c)
{
	unsigned __int128 r = (unsigned __int128)a * b / c;
	return r > UINT64_MAX ? UINT64_MAX : (uint64_t)r;
}

#endif
