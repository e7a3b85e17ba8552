/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a vcpu has used and done. */
#include "vm/vm.h"

#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* Nanoseconds that a thread has run and waited for a CPU: /proc/PID/task/TID/schedstat. Zeros where there is none. */
static void read_schedstat(uint32_t thread_id, uint64_t *run, uint64_t *wait)
{
	char path[64], text[128];
	unsigned long long ran = 0, waited = 0;
	ssize_t n;
	int fd;

	*run = *wait = 0;
	snprintf(path, sizeof path, "/proc/self/task/%u/schedstat", thread_id);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	if (sscanf(text, "%llu %llu", &ran, &waited) == 2) {
		*run = ran;
		*wait = waited;
	}
}

/* Of a thread that exists: its clock is there without /proc. */
static void thread_used(const struct vcore_vcpu *v, uint64_t *run, uint64_t *wait)
{
	struct timespec t;
	clockid_t clock;

	read_schedstat(atomic_load(&v->thread_id), run, wait);
	if (pthread_getcpuclockid(v->thread, &clock) == 0 && clock_gettime(clock, &t) == 0)
		*run = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void vc_vcpu_thread_used(struct vcore_vcpu *v)
{
	uint64_t run, wait;

	thread_used(v, &run, &wait);
	v->run_ns += run;
	v->steal_ns += wait;
}

static uint64_t counter(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

int vcore_vcpu_get_stats(vcore_vcpu *v, struct vcore_vcpu_stats *out)
{
	struct vcore_vcpu_stats stats = {.size = sizeof stats};
	const _Atomic uint64_t *left;

	if (!v || !out || out->size < sizeof out->size)
		return vc_fail(EINVAL, "vcore_vcpu_get_stats: a vcpu and stats with their size set are needed");
	pthread_mutex_lock(&v->vm->lock);
	stats.present = atomic_load(&v->present);
	stats.thread_id = atomic_load(&v->thread_id);
	/* the lock keeps the thread from ending */
	if (stats.thread_id)
		thread_used(v, &stats.run_ns, &stats.steal_ns);
	stats.run_ns += v->run_ns;
	stats.steal_ns += v->steal_ns;
	pthread_mutex_unlock(&v->vm->lock);
	left = v->b.left;
	stats.halts = counter(&left[VC_LEFT_HALT]);
	stats.halted_ns = counter(&v->b.halted_ns);
	stats.exits = counter(&v->b.exits);
	stats.pio = counter(&left[VC_LEFT_PIO]);
	stats.mmio = counter(&left[VC_LEFT_MMIO]);
	stats.hypercalls = counter(&left[VC_LEFT_HYPERCALL]);
	stats.requests = counter(&left[VC_LEFT_REQUEST]);
	stats.debug = counter(&left[VC_LEFT_DEBUG]);
	stats.others = counter(&left[VC_LEFT_OTHER]);
	stats.interrupts = counter(&v->b.interrupts);
	stats.instructions = counter(&v->b.instructions);
	stats.emulated = counter(&v->b.emulated);
	vc_struct_out(out, &stats, sizeof stats);
	return 0;
}
