/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who is inside guest code, and how to hold everybody out of it for a moment.
 *
 * Every vcpu has a pass. A thread is `inside` while it executes guest code or uses pointers into guest memory or tables
 * that only an exclusive section changes; it steps out around callbacks, waits and exits. An exclusive section begins once
 * nobody else is inside and keeps them out until it ends: memory slots and bus maps change only there.
 */
#ifndef VC_CORE_GATE_H
#define VC_CORE_GATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct vc_gate {
	pthread_mutex_t lock; /* protects owner, depth, waiting and the passes' list */
	pthread_cond_t changed;
	struct vc_pass *passes;
	pthread_t owner;
	unsigned depth;        /* nesting of the owner; 0: nobody holds it */
	_Atomic uint32_t closed; /* 1: enter must take the slow way */
};

struct vc_pass {
	_Atomic uint32_t inside;
	struct vc_gate *gate;
	struct vc_pass *next;
	void (*kick)(void *ctx); /* makes the holder leave soon; called with gate->lock held; must not block */
	void *ctx;
};

int vc_gate_init(struct vc_gate *gate);
void vc_gate_fini(struct vc_gate *gate);
void vc_gate_add(struct vc_gate *gate, struct vc_pass *pass, void (*kick)(void *), void *ctx);
void vc_gate_remove(struct vc_gate *gate, struct vc_pass *pass);

void vc_gate_enter_slow(struct vc_pass *pass);
void vc_gate_leave_slow(struct vc_pass *pass);

/* Step in; waits while somebody else has an exclusive section. */
static inline void vc_gate_enter(struct vc_pass *pass)
{
	atomic_store(&pass->inside, 1);
	if (__builtin_expect(atomic_load(&pass->gate->closed), 0))
		vc_gate_enter_slow(pass);
}

static inline void vc_gate_leave(struct vc_pass *pass)
{
	atomic_store_explicit(&pass->inside, 0, memory_order_release);
	if (__builtin_expect(atomic_load(&pass->gate->closed), 0))
		vc_gate_leave_slow(pass);
}

/* Somebody wants the gate: a long-running holder should leave and enter again. */
static inline bool vc_gate_wanted(const struct vc_pass *pass)
{
	return atomic_load_explicit(&pass->gate->closed, memory_order_relaxed);
}

/*
 * Exclusive section. Nests in one thread. self: the caller's own pass when it is inside (it counts as outside until the end),
 * else NULL. Two threads that want it take turns, each counted as outside while it waits.
 */
void vc_gate_begin(struct vc_gate *gate, struct vc_pass *self);
void vc_gate_end(struct vc_gate *gate, struct vc_pass *self);

#endif
