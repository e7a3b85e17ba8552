/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Chains on their way between the guest's queue and the ring that the back-end serves. */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "vhost/vhost.h"

static void kick(const struct vc_vhost_queue *queue)
{
	const uint64_t one = 1;

	/* fails only when the counter is full: signalled already */
	while (write(queue->kick, &one, sizeof one) < 0 && errno == EINTR)
		;
}

/* With the queue's lock, as all up to vc_vhost_relay(). */
static int take_back(struct vc_vhost_queue *queue)
{
	struct vc_virtq_chain *chain;
	uint32_t written;
	int r;

	while ((r = vc_vhost_ring_get(&queue->ring, &chain, &written)) > 0)
		vc_virtq_push(chain, written);
	return r;
}

static void refuse(struct vc_vhost_queue *queue, struct vc_virtq_chain *chain, int r)
{
	struct vc_virtio *v = vc_virtq_device(queue->q);

	if (r == -E2BIG)
		vc_virtio_broken(v, "queue %u: a chain of %u buffers: expected at most %u", queue->index,
		                 chain->out_count + chain->in_count, queue->ring.size);
	else
		vc_virtio_broken(v, "queue %u: a buffer lies in memory that is not shared with the back-end", queue->index);
	vc_virtq_drop(chain);
}

/* The back-end knows the memory map as it is. */
static bool is_current(const struct vc_vhost *h)
{
	return atomic_load(&h->env->mem->version) == atomic_load(&h->version);
}

/* Puts what the driver has made available on the ring, as far as there is room. */
static int hand_over(struct vc_vhost_queue *queue)
{
	struct vc_vhost *h = queue->h;
	struct vc_virtq_chain *chain;

	while (vc_virtq_pop(queue->q, &chain) > 0) {
		int r = is_current(h) ? vc_vhost_ring_put(&queue->ring, &h->table, chain) : -ESTALE;

		if (r > 0)
			continue;
		if (r == 0 || r == -ESTALE)
			vc_virtq_unpop(chain);
		else
			refuse(queue, chain, r);
		return r == -ESTALE ? r : 0;
	}
	return 0;
}

static int relay(struct vc_vhost_queue *queue)
{
	int r = take_back(queue);

	if (r >= 0 && !queue->stopping)
		r = is_current(queue->h) ? hand_over(queue) : -ESTALE;
	if (vc_vhost_ring_show(&queue->ring))
		kick(queue);
	vc_virtq_flush(queue->q);
	if (!queue->ring.in_flight)
		pthread_cond_broadcast(&queue->idle);
	return r;
}

int vc_vhost_relay(struct vc_vhost_queue *queue)
{
	int r = 0;

	pthread_mutex_lock(&queue->lock);
	if (queue->q && queue->live)
		r = relay(queue);
	pthread_mutex_unlock(&queue->lock);
	return r;
}

int vc_vhost_relay_end(struct vc_vhost_queue *queue)
{
	int r = 0;

	pthread_mutex_lock(&queue->lock);
	if (queue->q) {
		r = take_back(queue);
		vc_virtq_flush(queue->q);
	}
	queue->live = false;
	pthread_cond_broadcast(&queue->idle);
	pthread_mutex_unlock(&queue->lock);
	return r;
}

bool vc_vhost_drain(struct vc_vhost_queue *queue, uint64_t deadline_ns)
{
	struct timespec until = {(time_t)(deadline_ns / 1000000000), (long)(deadline_ns % 1000000000)};
	bool done;
	int r = 0;

	pthread_mutex_lock(&queue->lock);
	queue->stopping = true;
	while (r == 0 && queue->q && queue->live && queue->ring.in_flight)
		r = pthread_cond_timedwait(&queue->idle, &queue->lock, &until);
	done = !queue->q || !queue->live || !queue->ring.in_flight;
	pthread_mutex_unlock(&queue->lock);
	return done;
}

/* ---- the back-end calls ---- */

static void on_call(void *ctx, uint32_t events)
{
	struct vc_vhost_queue *queue = ctx;
	struct vc_vhost *h = queue->h;
	uint64_t count;
	int r;

	if (read(queue->call, &count, sizeof count) < 0)
		return;
	r = vc_vhost_relay(queue);
	/* the worker may wait until this loop has had all back; this loop may not */
	if (r == -ESTALE)
		vc_virtio_wake(h->v, queue->index);
	if (r == -EPROTO) {
		pthread_mutex_lock(&h->lock);
		vc_vhost_session_fail(h);
		pthread_mutex_unlock(&h->lock);
	}
}

int vc_vhost_queue_init(struct vc_vhost_queue *queue, struct vc_vhost *h, uint32_t index, uint8_t *ring)
{
	pthread_condattr_t attr;

	queue->h = h;
	queue->index = index;
	queue->enabled = true;
	pthread_mutex_init(&queue->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&queue->idle, &attr);
	pthread_condattr_destroy(&attr);
	vc_vhost_ring_init(&queue->ring, h->ring_size, ring);
	queue->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	queue->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (queue->kick < 0 || queue->call < 0)
		return vc_fail_errno(errno, "vhost-user %s: eventfds of queue %u", h->path, index);
	return vc_watch_new(h->loop, queue->call, EPOLLIN, on_call, queue, &queue->watch);
}

void vc_vhost_queue_fini(struct vc_vhost_queue *queue)
{
	vc_watch_free(queue->watch);
	if (queue->kick >= 0)
		close(queue->kick);
	if (queue->call >= 0)
		close(queue->call);
	pthread_cond_destroy(&queue->idle);
	pthread_mutex_destroy(&queue->lock);
}
