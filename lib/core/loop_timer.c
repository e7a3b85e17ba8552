/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Timers of the event loop: a heap, and the timerfd that follows its top. */
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>

#include "core/error.h"
#include "core/loop_impl.h"

uint64_t vc_loop_next_expiry(const struct vc_loop *loop)
{
	return loop->armed ? vc_clock_to_host(loop->clock, loop->heap[0]->deadline) : UINT64_MAX;
}

void vc_loop_program(struct vc_loop *loop)
{
	uint64_t at = vc_loop_next_expiry(loop);
	struct itimerspec t = {0};

	if (at != UINT64_MAX) {
		t.it_value.tv_sec = (time_t)(at / VC_NS_PER_S);
		t.it_value.tv_nsec = (long)(at % VC_NS_PER_S);
		if (!at)
			t.it_value.tv_nsec = 1; /* zero would turn it off */
	}
	loop->programmed = at;
	timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &t, NULL);
}

/* ---- the heap ---- */

static bool earlier(const struct vc_timer *a, const struct vc_timer *b)
{
	return a->deadline != b->deadline ? a->deadline < b->deadline : a->sequence < b->sequence;
}

static void heap_put(struct vc_loop *loop, uint32_t i, struct vc_timer *t)
{
	loop->heap[i] = t;
	t->index = i;
}

/* Put t, whose place is the hole at i, where it belongs. */
static void heap_settle(struct vc_loop *loop, uint32_t i, struct vc_timer *t)
{
	while (i && earlier(t, loop->heap[(i - 1) / 2])) {
		heap_put(loop, i, loop->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	for (uint32_t child; (child = 2 * i + 1) < loop->armed; i = child) {
		if (child + 1 < loop->armed && earlier(loop->heap[child + 1], loop->heap[child]))
			child++;
		if (!earlier(loop->heap[child], t))
			break;
		heap_put(loop, i, loop->heap[child]);
	}
	heap_put(loop, i, t);
}

static void heap_remove(struct vc_loop *loop, struct vc_timer *t)
{
	uint32_t i = t->index;

	if (i == VC_UNARMED)
		return;
	struct vc_timer *last = loop->heap[--loop->armed];
	if (last != t)
		heap_settle(loop, i, last);
	t->index = VC_UNARMED;
}

/*
 * A timer that arms itself again for the past gets the turn's time as its deadline and a later sequence: so it stands
 * behind all others that are due, and waits for the next turn.
 */
struct vc_timer *vc_loop_take_due(struct vc_loop *loop, uint64_t limit)
{
	struct vc_timer *t = loop->armed ? loop->heap[0] : NULL;

	if (!t || t->deadline > loop->turn_now || t->sequence > limit)
		return NULL;
	heap_remove(loop, t);
	return t;
}

/* ---- timers ---- */

int vc_timer_new(struct vc_loop *loop, vc_loop_fn fn, void *ctx, struct vc_timer **out)
{
	struct vc_timer *t = malloc(sizeof *t);
	int r = 0;

	if (!t)
		return vc_fail(ENOMEM, "no memory for a timer");
	*t = (struct vc_timer){.loop = loop, .fn = fn, .ctx = ctx, .index = VC_UNARMED};
	pthread_mutex_lock(&loop->lock);
	if (loop->timers == loop->heap_space) {
		/* room for every timer, so that arming cannot fail */
		uint32_t space = loop->heap_space ? loop->heap_space * 2 : 8;
		struct vc_timer **heap = realloc(loop->heap, space * sizeof *heap);
		if (heap) {
			loop->heap = heap;
			loop->heap_space = space;
		} else {
			r = vc_fail(ENOMEM, "no memory for %u timers", space);
		}
	}
	if (!r)
		r = vc_loop_start_thread(loop);
	if (!r)
		loop->timers++;
	pthread_mutex_unlock(&loop->lock);
	if (r < 0) {
		free(t);
		return r;
	}
	*out = t;
	return 0;
}

void vc_timer_arm(struct vc_timer *t, uint64_t deadline_ns)
{
	struct vc_loop *loop = t->loop;

	pthread_mutex_lock(&loop->lock);
	if (t->cancels) {
		pthread_mutex_unlock(&loop->lock);
		return;
	}
	heap_remove(loop, t);
	/* see vc_loop_take_due() */
	t->deadline = loop->serving && deadline_ns < loop->turn_now ? loop->turn_now : deadline_ns;
	t->sequence = ++loop->sequence;
	heap_settle(loop, loop->armed++, t);
	if (!loop->serving && t->index == 0 && vc_loop_next_expiry(loop) < loop->programmed)
		vc_loop_program(loop);
	pthread_mutex_unlock(&loop->lock);
}

void vc_timer_cancel(struct vc_timer *t)
{
	struct vc_loop *loop = t->loop;

	pthread_mutex_lock(&loop->lock);
	t->cancels++;
	heap_remove(loop, t);
	while (vc_loop_wait_callback(loop, t))
		;
	t->cancels--;
	pthread_mutex_unlock(&loop->lock);
}

void vc_timer_free(struct vc_timer *t)
{
	if (!t)
		return;
	vc_timer_cancel(t);
	pthread_mutex_lock(&t->loop->lock);
	t->loop->timers--;
	pthread_mutex_unlock(&t->loop->lock);
	free(t);
}
