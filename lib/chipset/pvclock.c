/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The pages of KVM's paravirtual clock (Linux Documentation/virt/kvm/x86/msr.rst). A reader looks at `version` before
 * and after: odd, or changed in between, means try again. So it becomes odd before the rest is written and even after
 * it.
 */
#include <stdatomic.h>

#include "chipset/chipset.h"
#include "core/error.h"
#include "core/util.h"

struct vcpu_time_info {
	uint32_t version, pad0;
	uint64_t tsc_timestamp, system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags, pad[2];
};

struct wall_clock {
	uint32_t version, sec, nsec;
};

struct steal_time {
	uint64_t steal;
	uint32_t version, flags;
	uint8_t preempted, pad8[3];
	uint32_t pad[11];
};

_Static_assert(sizeof(struct vcpu_time_info) == 32 && sizeof(struct wall_clock) == 12 &&
                   sizeof(struct steal_time) == 64,
               "layouts shared with guests");

/*
 * Writes a struct of `length` bytes that holds its version at `version_offset`: the bytes in front of and behind the
 * version in between the two writes of it.
 */
static int write_versioned(struct vc_mem *mem, uint64_t gpa, const void *data, size_t length, size_t version_offset)
{
	const uint8_t *bytes = data;
	const size_t behind = version_offset + sizeof(uint32_t);
	uint32_t version;
	int r = vc_mem_read(mem, gpa + version_offset, &version, sizeof version);

	if (r)
		return r;
	version = (version | 1) + (version & 1 ? 2 : 0); /* odd, and not what it was */
	r = vc_mem_write(mem, gpa + version_offset, &version, sizeof version);
	atomic_thread_fence(memory_order_seq_cst);
	if (!r && version_offset)
		r = vc_mem_write(mem, gpa, bytes, version_offset);
	if (!r)
		r = vc_mem_write(mem, gpa + behind, bytes + behind, length - behind);
	atomic_thread_fence(memory_order_seq_cst);
	version++;
	return r ? r : vc_mem_write(mem, gpa + version_offset, &version, sizeof version);
}

/*
 * Factors that make nanoseconds of TSC ticks: ((ticks << shift) * mul) >> 32, a negative shift to the right. mul gets
 * its highest bit set, for the most precision.
 */
static void tsc_scale(uint64_t tsc_khz, uint32_t *mul, int8_t *shift)
{
	uint64_t ns = 1000000, ticks = tsc_khz; /* a millisecond in both */

	*shift = 0;
	while (ns >= ticks) {
		ticks <<= 1;
		++*shift;
	}
	while (2 * ns < ticks) {
		ns <<= 1;
		--*shift;
	}
	*mul = (uint32_t)(((unsigned __int128)ns << 32) / ticks);
}

int vc_pvclock_write_system_time(struct vc_mem *mem, uint64_t gpa, const struct vc_pvclock_time *time, uint8_t flags)
{
	struct vcpu_time_info info = {.tsc_timestamp = time->tsc, .system_time = time->guest_ns, .flags = flags};

	/* Beyond these the loops of tsc_scale() would shift bits out; no TSC comes near. */
	if (!time->tsc_khz || time->tsc_khz >> 40)
		return vc_fail(EINVAL, "a TSC of %llu kHz has no kvmclock", (unsigned long long)time->tsc_khz);
	tsc_scale(time->tsc_khz, &info.tsc_to_system_mul, &info.tsc_shift);
	return write_versioned(mem, gpa, &info, sizeof info, offsetof(struct vcpu_time_info, version));
}

int vc_pvclock_write_wall_clock(struct vc_mem *mem, uint64_t gpa, const struct vc_pvclock_time *time)
{
	struct wall_clock clock = {.sec = (uint32_t)(time->wall_ns / 1000000000),
	                           .nsec = (uint32_t)(time->wall_ns % 1000000000)};

	return write_versioned(mem, gpa, &clock, sizeof clock, offsetof(struct wall_clock, version));
}

int vc_pvclock_write_steal(struct vc_mem *mem, uint64_t gpa, uint64_t steal_ns, bool preempted)
{
	struct steal_time steal = {.steal = steal_ns, .preempted = preempted};

	return write_versioned(mem, gpa, &steal, sizeof steal, offsetof(struct steal_time, version));
}
