/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who is inside guest code, and how to hold everybody out of it for a moment.
 *
 * Every vcpu has a pass. A thread is `inside` while it executes guest code or uses pointers into guest memory or tables
 * that only an exclusive section changes; it steps out around callbacks, waits and exits. An exclusive section begins
 * once nobody else is inside and keeps them out until it ends: memory slots and bus maps change only there.
 */
#ifndef VC_CORE_GATE_H
#define VC_CORE_GATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define VC_GATE_COUNTS 3 /* what they count is for lib/bus to say */

struct vc_gate {
	pthread_mutex_t lock; /* protects what follows; closed is written under it */
	pthread_cond_t changed;
	struct vc_pass *passes;
	pthread_t owner;
	struct vc_pass *stepped_out; /* the owner's own pass, if it was inside: it enters again at the end */
	unsigned depth;              /* nesting of the owner; 0: nobody holds it */
	_Atomic uint32_t closed;     /* 1: enter must take the slow way */
	bool light;                  /* entering and leaving have no barrier of their own: see vc_gate_fence() */
};

struct vc_pass {
	_Atomic uint32_t inside; /* written by the holder, or by its thread in vc_gate_begin() */
	/* Written by the holder: the device or hook whose callback it runs (NULL: none), and on which thread. */
	_Atomic(void *) busy;
	_Atomic(pthread_t) thread;
	/* Written by the holder alone, without locked additions: see vc_gate_counted(). */
	_Atomic uint64_t counts[VC_GATE_COUNTS];
	struct vc_gate *gate;
	struct vc_pass *next;
	void (*kick)(void *ctx); /* makes the holder leave soon; called with gate->lock held; must not block */
	void *ctx;
};

int vc_gate_init(struct vc_gate *gate);
void vc_gate_fini(struct vc_gate *gate);
void vc_gate_add(struct vc_gate *gate, struct vc_pass *pass, void (*kick)(void *), void *ctx);
void vc_gate_remove(struct vc_gate *gate, struct vc_pass *pass);

/* Does a pass have `busy` set to what? mine: and that on the calling thread. */
bool vc_gate_busy(struct vc_gate *gate, const void *what, bool mine);

/* One of the counts of all passes together. */
uint64_t vc_gate_counted(struct vc_gate *gate, unsigned which);

void vc_gate_enter_slow(struct vc_pass *pass);
void vc_gate_leave_slow(struct vc_pass *pass);

/*
 * A barrier between what the caller has stored and what it loads then, and with gate->light in every thread that has a
 * pass: who asks something of passes (are you inside? are you busy?) stores first, has this done, and looks.
 */
void vc_gate_fence(const struct vc_gate *gate);

static inline void vc_gate_store(struct vc_pass *pass, uint32_t inside)
{
	if (__builtin_expect(pass->gate->light, 1)) {
		atomic_store_explicit(&pass->inside, inside, memory_order_release);
		atomic_signal_fence(memory_order_seq_cst);
	} else {
		atomic_store(&pass->inside, inside);
	}
}

/* Step in; waits while somebody else has an exclusive section. */
static inline void vc_gate_enter(struct vc_pass *pass)
{
	vc_gate_store(pass, 1);
	if (__builtin_expect(atomic_load(&pass->gate->closed), 0))
		vc_gate_enter_slow(pass);
}

static inline void vc_gate_leave(struct vc_pass *pass)
{
	vc_gate_store(pass, 0);
	if (__builtin_expect(atomic_load(&pass->gate->closed), 0))
		vc_gate_leave_slow(pass);
}

/* Somebody wants the gate: a long-running holder should leave and enter again. */
static inline bool vc_gate_wanted(const struct vc_pass *pass)
{
	return atomic_load_explicit(&pass->gate->closed, memory_order_relaxed);
}

/*
 * Exclusive section. Nests in one thread. self: the caller's own pass, which counts as outside until the end if it is
 * inside; NULL when the caller has none. Two threads that want it take turns, each counted as outside while it waits.
 * Lock order: the gate comes first. Whoever holds a lock that is taken inside an exclusive section neither begins one
 * nor enters.
 */
void vc_gate_begin(struct vc_gate *gate, struct vc_pass *self);
void vc_gate_end(struct vc_gate *gate, struct vc_pass *self);

#endif
