/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* io_uring: requests go in from any thread, one thread takes completions out and tells. */
#include <liburing.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "block/aio.h"
#include "core/error.h"

enum { ENTRIES = 256 };

struct vc_uring {
	struct io_uring ring;
	pthread_mutex_t lock; /* protects the submission queue */
	/* Submissions are collected while it is not 0. Read under lock: whoever takes it down sends afterwards. */
	_Atomic unsigned plugged;
	/* Written before a request is sent, read after it came back: the kernel orders the two, the language does not know.
	 */
	_Atomic unsigned sent;
	_Atomic bool stuck; /* the kernel did not take all that was sent: to be tried again after a completion */
	void (*fallback)(void *ctx, struct vc_aio_request *request);
	void *ctx;
	pthread_t thread;
};

/* A request that was cut short, or that the kernel would not take, is done again by a thread: it may be repeated. */
static void complete(struct vc_uring *ring, struct vc_aio_request *request, int result)
{
	bool again = result == -EAGAIN || result == -EINTR || result == -EOPNOTSUPP || result == -EINVAL;

	if (again || (result >= 0 && (uint64_t)result != request->length))
		ring->fallback(ring->ctx, request);
	else
		request->done(request, result < 0 ? result : 0);
}

/* With the lock held. */
static void send_all(struct vc_uring *ring)
{
	int r;

	do
		r = io_uring_submit(&ring->ring);
	while (r == -EAGAIN || r == -EINTR);
	atomic_store(&ring->stuck, io_uring_sq_ready(&ring->ring) != 0);
}

static void send_stuck(struct vc_uring *ring)
{
	pthread_mutex_lock(&ring->lock);
	send_all(ring);
	pthread_mutex_unlock(&ring->lock);
}

/* A completion without a request ends the thread. */
static void *reap(void *arg)
{
	struct vc_uring *ring = arg;
	struct io_uring_cqe *cqe;

	pthread_setname_np(pthread_self(), "virtcore-uring");
	for (;;) {
		struct vc_aio_request *request;
		int result;

		if (io_uring_wait_cqe(&ring->ring, &cqe))
			continue;
		request = io_uring_cqe_get_data(cqe);
		atomic_load_explicit(&ring->sent, memory_order_acquire);
		result = cqe->res;
		io_uring_cqe_seen(&ring->ring, cqe);
		if (!request)
			return NULL;
		if (atomic_load_explicit(&ring->stuck, memory_order_relaxed))
			send_stuck(ring);
		complete(ring, request, result);
	}
}

/* With the lock held: a free entry, after sending what fills the queue. */
static struct io_uring_sqe *get_entry(struct vc_uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);

	if (!sqe) {
		send_all(ring);
		sqe = io_uring_get_sqe(&ring->ring);
	}
	return sqe;
}

void vc_uring_submit(struct vc_uring *ring, struct vc_aio_request *request)
{
	struct io_uring_sqe *sqe;

	pthread_mutex_lock(&ring->lock);
	sqe = get_entry(ring);
	if (sqe && request->op == VC_BLOCK_READ)
		io_uring_prep_readv(sqe, request->file->fd, request->iov, request->iov_count, request->offset);
	else if (sqe)
		io_uring_prep_writev(sqe, request->file->fd, request->iov, request->iov_count, request->offset);
	if (sqe) {
		io_uring_sqe_set_data(sqe, request);
		atomic_fetch_add_explicit(&ring->sent, 1, memory_order_release);
		if (!atomic_load(&ring->plugged))
			send_all(ring);
	}
	pthread_mutex_unlock(&ring->lock);
	if (!sqe)
		ring->fallback(ring->ctx, request);
}

void vc_uring_plug(struct vc_uring *ring)
{
	atomic_fetch_add(&ring->plugged, 1);
}

void vc_uring_unplug(struct vc_uring *ring)
{
	atomic_fetch_sub(&ring->plugged, 1);
	pthread_mutex_lock(&ring->lock);
	if (io_uring_sq_ready(&ring->ring))
		send_all(ring);
	pthread_mutex_unlock(&ring->lock);
}

static int start(struct vc_uring *ring)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&ring->thread, NULL, reap, ring);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

int vc_uring_new(void (*fallback)(void *ctx, struct vc_aio_request *request), void *ctx, struct vc_uring **out)
{
	struct vc_uring *ring = calloc(1, sizeof *ring);
	int r;

	if (!ring)
		return vc_fail(ENOMEM, "no memory for io_uring");
	r = -io_uring_queue_init(ENTRIES, &ring->ring, 0);
	if (r) {
		free(ring);
		return vc_fail_errno(r, "io_uring: the host does not allow it");
	}
	/* without it completions that do not fit get lost (before Linux 5.5) */
	r = ring->ring.features & IORING_FEAT_NODROP ? start(ring) : ENOSYS;
	if (r) {
		io_uring_queue_exit(&ring->ring);
		free(ring);
		return vc_fail_errno(r, "io_uring");
	}
	pthread_mutex_init(&ring->lock, NULL);
	ring->fallback = fallback;
	ring->ctx = ctx;
	*out = ring;
	return 0;
}

void vc_uring_free(struct vc_uring *ring)
{
	struct io_uring_sqe *sqe;

	if (!ring)
		return;
	pthread_mutex_lock(&ring->lock);
	sqe = get_entry(ring);
	io_uring_prep_nop(sqe);
	io_uring_sqe_set_data(sqe, NULL);
	send_all(ring);
	pthread_mutex_unlock(&ring->lock);
	pthread_join(ring->thread, NULL);
	io_uring_queue_exit(&ring->ring);
	pthread_mutex_destroy(&ring->lock);
	free(ring);
}
