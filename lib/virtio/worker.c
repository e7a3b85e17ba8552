/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who calls notify: a watch on the vm's loop that serves all queues of a device, or a thread for one queue. */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/error.h"
#include "core/thread.h"
#include "virtio/device_priv.h"

static void serve_queue(struct vc_virtio *v, uint32_t n)
{
	struct vc_virtq *q = &v->queues[n];

	if (!v->ops->notify || !atomic_load(&q->active) || vc_virtio_is_broken(v))
		return;
	atomic_store_explicit(&q->in_notify, true, memory_order_relaxed);
	v->ops->notify(v->ctx, q);
	atomic_store_explicit(&q->in_notify, false, memory_order_relaxed);
}

static void serve(struct vc_worker *w)
{
	for (uint32_t i = 0; i * 64 < w->count; i++) {
		/* a full barrier: what was asked for from here on is asked for anew */
		uint64_t asked = atomic_exchange(&w->asked[i], 0);

		for (; asked; asked &= asked - 1)
			serve_queue(w->v, w->first + i * 64 + (uint32_t)__builtin_ctzll(asked));
	}
}

static bool is_asked(struct vc_worker *w)
{
	uint64_t any = 0;

	for (uint32_t i = 0; i * 64 < w->count; i++)
		any |= atomic_load(&w->asked[i]);
	return any != 0;
}

/* Caller holds the lock, which is given up meanwhile. */
static void serve_unlocked(struct vc_worker *w)
{
	w->serving = true;
	w->server = pthread_self();
	pthread_mutex_unlock(&w->lock);
	serve(w);
	pthread_mutex_lock(&w->lock);
	w->serving = false;
	pthread_cond_broadcast(&w->changed);
}

/* The descriptor was signalled. Caller holds the lock. */
static void rung(struct vc_worker *w)
{
	/* by the kernel it says nothing of the queue, and to look at one in vain costs little */
	for (uint32_t i = 0; i < w->count && w->running && atomic_load(&w->rings); i++)
		atomic_fetch_or(&w->asked[i / 64], 1ull << i % 64);
}

static void on_loop(void *ctx, uint32_t events)
{
	struct vc_worker *w = ctx;
	uint64_t count;

	/* empty when somebody else's turn has served us */
	if (read(w->fd, &count, sizeof count) < 0)
		return;
	pthread_mutex_lock(&w->lock);
	rung(w);
	if (w->running)
		serve_unlocked(w);
	pthread_mutex_unlock(&w->lock);
}

/* Caller holds the lock, which is given up meanwhile. */
static void wait_unlocked(struct vc_worker *w)
{
	uint64_t count;

	pthread_mutex_unlock(&w->lock);
	while (read(w->fd, &count, sizeof count) < 0 && errno == EINTR)
		;
	pthread_mutex_lock(&w->lock);
	rung(w);
}

static void *on_thread(void *ctx)
{
	struct vc_worker *w = ctx;

	pthread_mutex_lock(&w->lock);
	while (!w->quit) {
		if (w->running && is_asked(w))
			serve_unlocked(w);
		else
			wait_unlocked(w);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static int begin(struct vc_worker *w, bool thread)
{
	int r;

	w->fd = eventfd(0, EFD_CLOEXEC | (thread ? 0 : EFD_NONBLOCK));
	if (w->fd < 0)
		return vc_fail_errno(errno, "%s: cannot make an eventfd", w->v->ops->type);
	if (!thread) {
		r = vc_watch_new(w->v->env->loop, w->fd, EPOLLIN, on_loop, w, &w->watch);
	} else {
		r = vc_thread_new(&w->thread, on_thread, w);
		r = r ? vc_fail_errno(r, "%s: cannot make a thread for queue %u", w->v->ops->type, w->first) : 0;
	}
	if (r < 0)
		close(w->fd);
	return r;
}

static void signal_worker(struct vc_worker *w)
{
	const uint64_t one = 1;

	/* fails only when the counter is full: signalled already */
	while (write(w->fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

int vc_worker_init(struct vc_worker *w, struct vc_virtio *v, uint32_t first, uint32_t count, bool thread)
{
	int r;

	*w = (struct vc_worker){.v = v, .first = first, .count = count};
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->changed, NULL);
	r = begin(w, thread);
	if (r < 0) {
		pthread_cond_destroy(&w->changed);
		pthread_mutex_destroy(&w->lock);
	}
	return r;
}

void vc_worker_fini(struct vc_worker *w)
{
	if (w->watch) {
		vc_watch_free(w->watch);
	} else {
		pthread_mutex_lock(&w->lock);
		w->quit = true;
		pthread_mutex_unlock(&w->lock);
		signal_worker(w);
		pthread_join(w->thread, NULL);
	}
	close(w->fd);
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->lock);
}

void vc_worker_start(struct vc_worker *w)
{
	pthread_mutex_lock(&w->lock);
	/* what was asked for while nobody served would never be signalled again */
	for (uint32_t i = 0; i * 64 < w->count; i++)
		atomic_store(&w->asked[i], 0);
	w->running = true;
	pthread_mutex_unlock(&w->lock);
}

void vc_worker_stop(struct vc_worker *w)
{
	pthread_mutex_lock(&w->lock);
	w->running = false;
	while (w->serving && !pthread_equal(w->server, pthread_self()))
		pthread_cond_wait(&w->changed, &w->lock);
	pthread_mutex_unlock(&w->lock);
}

void vc_worker_ask(struct vc_worker *w, uint32_t n)
{
	uint32_t at = n - w->first;

	/* a full barrier, so that the worker finds what made us ask */
	if (atomic_fetch_or(&w->asked[at / 64], 1ull << at % 64) >> at % 64 & 1)
		return;
	signal_worker(w);
}

void vc_virtio_doorbell(struct vc_virtio *v, unsigned n, const struct vc_ioeventfd *where, bool add)
{
	struct vc_worker *w = v->worker_count == 1 ? v->workers : &v->workers[n];
	struct vc_ioeventfd e = *where;

	if (!v->env->doorbell)
		return;
	e.fd = n < v->served_count ? v->served[n].bell : w->fd;
	if (add && n >= v->served_count)
		atomic_store(&w->rings, true);
	if (v->env->doorbell(v->env->machine_ctx, &e, add) < 0 && add)
		vc_log(v->env->log, VCORE_LOG_DEBUG, "%s: queue %u without a doorbell in the kernel", v->ops->type, n);
}
