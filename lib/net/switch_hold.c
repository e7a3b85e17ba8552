/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Back-pressure: a frame for one receiver that has no room stays in its sender's queue, and with it all that come
 * behind, until there is room or the receiver's credit is used up; then it is dropped and counted. No frame is kept
 * here, and no thread waits.
 */
#include "net/switch.h"

enum { LEAST = 8 /* this part of all is too little to begin with */ };

static void try_again(struct switch_queue *q)
{
	struct vc_net *net = q->port->net;

	if (atomic_exchange(&q->held, 0))
		net->user.sendable(net->user.ctx, (unsigned)(q - q->port->queues));
}

static void on_timer(void *ctx)
{
	try_again(ctx);
}

int switch_hold_init(struct switch_queue *q, struct switch_port *port)
{
	q->port = port;
	pthread_mutex_init(&q->credit_lock, NULL);
	return vc_timer_new(port->net->env->loop, on_timer, q, &q->timer);
}

void switch_hold_fini(struct switch_queue *q)
{
	vc_timer_free(q->timer);
	if (q->port)
		pthread_mutex_destroy(&q->credit_lock);
}

/* Caller holds the lock. */
static void account(struct switch_queue *q, uint64_t now)
{
	uint64_t elapsed, hold = q->port->hold;

	/* others may have come later, and been here first */
	if (now <= q->credit_at)
		return;
	elapsed = now - q->credit_at;
	if (atomic_load_explicit(&q->full, memory_order_relaxed))
		q->credit -= elapsed < q->credit ? elapsed : q->credit;
	else
		q->credit = elapsed / 2 < hold - q->credit ? q->credit + elapsed / 2 : hold;
	q->credit_at = now;
}

uint64_t switch_may_hold(struct switch_queue *receiver, uint64_t now_ns)
{
	uint64_t credit;

	pthread_mutex_lock(&receiver->credit_lock);
	account(receiver, now_ns);
	atomic_store_explicit(&receiver->full, true, memory_order_relaxed);
	credit = receiver->credit;
	pthread_mutex_unlock(&receiver->credit_lock);
	return credit > receiver->port->hold / LEAST ? credit : 0;
}

void switch_has_taken(struct switch_queue *receiver, uint64_t now_ns)
{
	if (vc_likely(!atomic_load_explicit(&receiver->full, memory_order_relaxed)))
		return;
	pthread_mutex_lock(&receiver->credit_lock);
	account(receiver, now_ns);
	atomic_store_explicit(&receiver->full, false, memory_order_relaxed);
	pthread_mutex_unlock(&receiver->credit_lock);
}

void switch_hold(struct switch_queue *q, struct switch_port *to, unsigned queue, uint64_t ns)
{
	struct vc_env *env = q->port->net->env;

	vc_timer_arm(q->timer, vc_clock_now(env->clock) + ns);
	atomic_store(&q->held, to->index + 1);
	/* room that came before that was seen would not be told of */
	if (!atomic_load(&to->net->queues[queue].waiting))
		try_again(q);
}

void switch_release(struct vcore_switch *sw, const struct switch_port *to)
{
	for (uint32_t i = 0; i < sw->port_end; i++) {
		struct switch_port *port = sw->ports[i];

		for (uint32_t n = 0; port && n < port->queue_count; n++)
			if (atomic_load(&port->queues[n].held) == to->index + 1)
				try_again(&port->queues[n]);
	}
}
