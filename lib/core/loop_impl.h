/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside the event loop: what loop.c and loop_timer.c share. Every function here is called with the loop's lock held.
 */
#ifndef VC_CORE_LOOP_IMPL_H
#define VC_CORE_LOOP_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/loop.h"

#define VC_NS_PER_S 1000000000u
#define VC_UNARMED  UINT32_MAX

struct vc_timer {
	struct vc_loop *loop;
	vc_loop_fn fn;
	void *ctx;
	uint64_t deadline; /* guest ns */
	uint64_t sequence; /* of arming: equal deadlines fire in that order */
	uint32_t index;    /* in the heap, or UNARMED */
	uint32_t cancels;  /* threads in vc_timer_cancel(): until they are through, arming has no effect */
};

struct vc_watch {
	struct vc_loop *loop;
	vc_watch_fn fn;
	void *ctx;
	uint64_t key; /* never used again, so an event that was fetched before the watch went is recognised as stale */
	int fd;
	uint32_t events;
	bool always; /* epoll refuses it (regular file, /dev/null): it is always ready */
};

struct vc_post {
	struct vc_post *next;
	vc_loop_fn fn;
	void *ctx;
	uint64_t sequence;
};

struct vc_loop {
	struct vc_clock *clock;
	bool own_thread, deferred; /* deferred: under lock */
	int epoll_fd, wake_fd, timer_fd;
	_Atomic uintptr_t driver; /* pthread_self() of the thread inside the loop; 0: none */

	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t done;  /* a callback has ended */
	bool thread_started, stop;
	pthread_t thread;
	bool serving;        /* in a turn: the timerfd will be programmed at its end */
	const void *running; /* timer, watch or post whose callback runs */
	uint32_t holds;      /* vc_loop_hold() without vc_loop_release(): nothing is called */
	const struct vc_post *running_post;

	struct vc_timer **heap; /* binary heap by deadline, then sequence */
	uint32_t armed, timers, heap_space;
	uint64_t sequence;   /* of the last timer armed or call posted */
	uint64_t turn_now;   /* guest time at which the turn began */
	uint64_t programmed; /* host ns the timerfd is set to; UINT64_MAX: off */

	struct vc_watch **watches; /* sorted by key */
	uint32_t watch_count, watch_space;
	uint32_t always_ready; /* watches with `always` and events */
	uint64_t next_key;

	struct vc_post *posts, **posts_end;
};

/* ---- loop.c ---- */
/* Start the thread of a loop that has one, if that was not done yet. */
int vc_loop_start_thread(struct vc_loop *loop);
/* Wait until the callback of `what` may be over, unless this is that callback. True: the lock was given up meanwhile.
 */
bool vc_loop_wait_callback(struct vc_loop *loop, const void *what);

/* ---- loop_timer.c ---- */
/* Host ns of the earliest timer; UINT64_MAX: none. */
uint64_t vc_loop_next_expiry(const struct vc_loop *loop);
/* Set the timerfd to the earliest timer. Setting it also takes back an expiry. */
void vc_loop_program(struct vc_loop *loop);
/* Take the next timer of this turn out of the heap: due at turn_now and armed no later than `limit`; NULL: none. */
struct vc_timer *vc_loop_take_due(struct vc_loop *loop, uint64_t limit);

#endif
