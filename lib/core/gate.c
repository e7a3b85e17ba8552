/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The handshake. A holder stores `inside` and then loads `closed`; a beginner stores `closed` and then loads every
 * `inside`; all four are sequentially consistent, so at least one of the two sees the other. `closed` changes only
 * under the lock: what is decided there about it stays true until the lock is given up.
 *
 * Where the host has membarrier() the holder's stores, which come with every callback, have no barrier behind them. The
 * beginner, who comes seldom, has the kernel execute one in every thread of the process instead, between its own store
 * and its loads: what a holder stored before is visible then, and what it loads later is what the beginner stored.
 */
#include "core/gate.h"

#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"

static bool membarrier(int command)
{
	return !syscall(SYS_membarrier, command, 0, 0);
}

void vc_gate_fence(const struct vc_gate *gate)
{
	uint64_t start;

	atomic_thread_fence(memory_order_seq_cst);
	if (!gate->light || membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED))
		return;
	/* It was there when the gate was made; a filter of the program's has forbidden it since. No CPU keeps a store to
	 * itself for so long. */
	start = vc_host_ns();
	while (vc_host_ns() - start < 1000000)
		sched_yield();
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

void vc_gate_begin(struct vc_gate *gate, struct vc_pass *self)
{
	bool was_inside = false;

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
	vc_gate_fence(gate);
	for (struct vc_pass *p = gate->passes; p; p = p->next)
		if (p->kick && atomic_load(&p->inside))
			p->kick(p->ctx);
	while (somebody_inside(gate))
		pthread_cond_wait(&gate->changed, &gate->lock);
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
