/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The handshake. A holder stores `inside` and then loads `closed`; a beginner stores `closed` and then loads every
 * `inside`; all four are sequentially consistent, so at least one of the two sees the other. `closed` changes only
 * under the lock: what is decided there about it stays true until the lock is given up.
 *
 * Where the host has membarrier() the one of them that comes as often as callbacks do and decides least, the store of a
 * leaver, has no barrier: the beginner has the kernel execute one in every thread of the process, between its own store
 * and its loads. A leaver whose store comes too late for the loads then sees `closed`, and wakes the beginner.
 */
#include "core/gate.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/error.h"

static bool membarrier(int command)
{
	return !syscall(SYS_membarrier, command, 0, 0);
}

int vc_gate_init(struct vc_gate *gate)
{
	int r;

	*gate = (struct vc_gate){.light = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)};
	r = pthread_mutex_init(&gate->lock, NULL);
	if (r)
		return vc_fail_errno(r, "cannot make the gate's lock");
	r = pthread_cond_init(&gate->changed, NULL);
	if (r) {
		pthread_mutex_destroy(&gate->lock);
		return vc_fail_errno(r, "cannot make the gate's condition");
	}
	return 0;
}

void vc_gate_fini(struct vc_gate *gate)
{
	pthread_cond_destroy(&gate->changed);
	pthread_mutex_destroy(&gate->lock);
}

void vc_gate_add(struct vc_gate *gate, struct vc_pass *pass, void (*kick)(void *), void *ctx)
{
	*pass = (struct vc_pass){.gate = gate, .kick = kick, .ctx = ctx};
	pthread_mutex_lock(&gate->lock);
	pass->next = gate->passes;
	gate->passes = pass;
	pthread_mutex_unlock(&gate->lock);
}

void vc_gate_remove(struct vc_gate *gate, struct vc_pass *pass)
{
	pthread_mutex_lock(&gate->lock);
	for (struct vc_pass **p = &gate->passes; *p; p = &(*p)->next)
		if (*p == pass) {
			*p = pass->next;
			break;
		}
	/* somebody may wait for this pass to leave */
	pthread_cond_broadcast(&gate->changed);
	pthread_mutex_unlock(&gate->lock);
}

/* The caller holds the lock. */
static bool owned_by_me(const struct vc_gate *gate)
{
	return gate->depth && pthread_equal(gate->owner, pthread_self());
}

static bool somebody_inside(const struct vc_gate *gate)
{
	for (struct vc_pass *p = gate->passes; p; p = p->next)
		if (atomic_load(&p->inside))
			return true;
	return false;
}

bool vc_gate_busy(struct vc_gate *gate, const void *what, bool mine)
{
	bool found = false;

	pthread_mutex_lock(&gate->lock);
	for (struct vc_pass *p = gate->passes; p && !found; p = p->next) {
		/* `busy` was written before `inside`: having loaded that one we see a `busy` at least as new. */
		(void)atomic_load(&p->inside);
		found = atomic_load_explicit(&p->busy, memory_order_acquire) == what &&
		        (!mine || pthread_equal(atomic_load_explicit(&p->thread, memory_order_relaxed), pthread_self()));
	}
	pthread_mutex_unlock(&gate->lock);
	return found;
}

uint64_t vc_gate_counted(struct vc_gate *gate, unsigned which)
{
	uint64_t sum = 0;

	pthread_mutex_lock(&gate->lock);
	for (struct vc_pass *p = gate->passes; p; p = p->next)
		sum += atomic_load_explicit(&p->counts[which], memory_order_relaxed);
	pthread_mutex_unlock(&gate->lock);
	return sum;
}

void vc_gate_enter_slow(struct vc_pass *pass)
{
	struct vc_gate *gate = pass->gate;

	pthread_mutex_lock(&gate->lock);
	while (atomic_load(&gate->closed) && !owned_by_me(gate)) {
		atomic_store(&pass->inside, 0);
		pthread_cond_broadcast(&gate->changed);
		pthread_cond_wait(&gate->changed, &gate->lock);
	}
	atomic_store(&pass->inside, 1);
	pthread_mutex_unlock(&gate->lock);
}

void vc_gate_leave_slow(struct vc_pass *pass)
{
	struct vc_gate *gate = pass->gate;

	pthread_mutex_lock(&gate->lock);
	pthread_cond_broadcast(&gate->changed);
	pthread_mutex_unlock(&gate->lock);
}

/* heard: who leaves will say so. Else the program has had the system call forbidden since, and we must look. */
static void wait_for_leavers(struct vc_gate *gate, bool heard)
{
	struct timespec soon;

	if (heard) {
		pthread_cond_wait(&gate->changed, &gate->lock);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &soon);
	soon.tv_nsec += 1000000;
	soon.tv_sec += soon.tv_nsec / 1000000000;
	soon.tv_nsec %= 1000000000;
	pthread_cond_timedwait(&gate->changed, &gate->lock, &soon);
}

void vc_gate_begin(struct vc_gate *gate, struct vc_pass *self)
{
	bool was_inside = false, heard = true;

	pthread_mutex_lock(&gate->lock);
	if (owned_by_me(gate)) {
		gate->depth++;
		pthread_mutex_unlock(&gate->lock);
		return;
	}
	if (self && atomic_load(&self->inside)) {
		was_inside = true;
		atomic_store(&self->inside, 0);
		pthread_cond_broadcast(&gate->changed);
	}
	while (gate->depth)
		pthread_cond_wait(&gate->changed, &gate->lock);
	gate->depth = 1;
	gate->owner = pthread_self();
	gate->stepped_out = was_inside ? self : NULL;
	atomic_store(&gate->closed, 1);
	if (gate->light)
		heard = membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
	for (struct vc_pass *p = gate->passes; p; p = p->next)
		if (p->kick && atomic_load(&p->inside))
			p->kick(p->ctx);
	while (somebody_inside(gate))
		wait_for_leavers(gate, heard);
	pthread_mutex_unlock(&gate->lock);
}

void vc_gate_end(struct vc_gate *gate, struct vc_pass *self)
{
	bool again = false;

	pthread_mutex_lock(&gate->lock);
	if (--gate->depth == 0) {
		again = self && self == gate->stepped_out;
		gate->stepped_out = NULL;
		atomic_store(&gate->closed, 0);
		pthread_cond_broadcast(&gate->changed);
	}
	pthread_mutex_unlock(&gate->lock);
	if (again)
		vc_gate_enter(self);
}
