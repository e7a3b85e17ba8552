/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guest's TSC for translated code: a straight line through the host's, which is true for a millisecond, when the
 * clock is asked again. All vcpus have the same line, so that no guest sees its TSCs differ. It never runs backwards:
 * what was too fast is made good by running slower.
 */
#include <cpuid.h>
#include <fcntl.h>
#include <unistd.h>
#include <x86intrin.h>

#include "backend/emu/vcpu.h"

#define LONG_LOOK \
	1000u /* host ticks between two looks that have the clock's reading between them: it is not known well */

/* Invariant, and what the host keeps its own time by. */
bool emu_tsc_is_steady(void)
{
	unsigned a, b, c, d;
	char name[8] = "";
	int fd;

	if (!__get_cpuid(0x80000007, &a, &b, &c, &d) || !(d & 1u << 8))
		return false;
	fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, name, sizeof name - 1) < 0)
		name[0] = '\0';
	close(fd);
	return !strcmp(name, "tsc\n");
}

static uint64_t along(const struct emu_tsc_line *l, uint64_t host)
{
	return l->guest + (uint64_t)((unsigned __int128)(host - l->host) * l->ratio >> 32);
}

/* How many guest ticks a host tick is, from two readings of the clock at least 10 ms apart. */
static void measure(struct emu_tsc_line *l, uint64_t host, uint64_t guest, uint64_t khz, int64_t clock_offset)
{
	if (!l->first_host || l->clock_offset != clock_offset || guest - l->first_guest > 1000 * khz) {
		l->first_host = host;
		l->first_guest = guest;
		if (l->clock_offset != clock_offset)
			l->ratio = 0;
		l->clock_offset = clock_offset;
	} else if (guest - l->first_guest > 10 * khz && host > l->first_host) {
		l->ratio = (uint64_t)(((unsigned __int128)(guest - l->first_guest) << 32) / (host - l->first_host));
	}
}

/* The line begins anew at (host, guest), or as near as it may: expected is where it was on the way to. */
static void anchor(struct emu_tsc_line *l, uint64_t host, uint64_t guest, uint64_t expected, uint64_t khz)
{
	uint64_t ahead = expected - guest;

	l->host = host;
	l->guest = guest;
	if ((int64_t)ahead > 0 && ahead < khz) {
		l->guest = expected;
		l->ratio -= l->ratio >> 18;
	}
}

uint64_t emu_tsc_look(struct emu_vcpu *c)
{
	struct emu_vm *e = c->bvm->priv;
	struct emu_tsc_line *l;
	uint64_t before, after, guest, khz = c->bvm->tsc_khz;
	int64_t offset;

	if (c->bvm->ops != &vc_backend_emu || !e->tsc.steady)
		return emu_tsc(c);
	l = &e->tsc;
	pthread_mutex_lock(&l->lock);
	offset = atomic_load(&c->bvm->env.clock->offset);
	before = __rdtsc();
	guest = emu_tsc(c) - c->s.tsc_offset;
	after = __rdtsc();
	c->tsc_span[0] = c->tsc_span[1] = 0;
	if (after - before < LONG_LOOK) {
		uint64_t host = before + (after - before) / 2, expected = l->guest ? along(l, host) : guest;

		measure(l, host, guest, khz, offset);
		if (l->ratio) {
			anchor(l, host, guest, expected, khz);
			guest = l->guest;
			c->tsc_host = l->host;
			c->tsc_guest = l->guest + c->s.tsc_offset;
			c->tsc_ratio = l->ratio;
			c->tsc_span[0] = (uint64_t)(((unsigned __int128)khz << 32) / l->ratio);
			c->tsc_span[1] = c->s.cr4 & VC_CR4_TSD ? 0 : c->tsc_span[0];
		} else {
			l->guest = 0;
		}
	} else if (l->ratio && l->guest && l->clock_offset == offset && along(l, after) > guest) {
		guest = along(l, after);
	}
	pthread_mutex_unlock(&l->lock);
	return guest + c->s.tsc_offset;
}
