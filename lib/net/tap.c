/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A tap interface of the host: its frames. The loop's thread reads, each sender writes. */
#include "net/tap.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
	HEADER_SIZE = sizeof(struct vc_net_hdr),
	BUFFER_SIZE = 256 << 10,
	BATCH = 64,
	TURNS = 4, /* batches in one go: others want the loop's thread, too */
	VECTORS_MAX = 1024,
};

struct tap_queue {
	struct tap *tap;
	unsigned index;
	struct vc_watch *watch;
	/* All below is the loop's. frames[done..count) wait for room. */
	unsigned count, done;
	struct vc_net_frame frames[BATCH];
	struct iovec iov[BATCH];
	uint8_t buffer[BUFFER_SIZE];
};

struct tap {
	struct vc_net *net;
	struct tap_if host;
	struct tap_queue *queues;
};

/* ---- out ---- */

static bool write_frame(const struct tap *tap, int fd, const struct vc_net_frame *frame)
{
	struct iovec iov[VECTORS_MAX];
	unsigned count = 0;
	size_t length = frame->length;
	ssize_t n;

	if (frame->iov_count >= VECTORS_MAX)
		return false;
	if (tap->host.has_header) {
		iov[count++] = (struct iovec){(void *)(uintptr_t)&frame->hdr, HEADER_SIZE};
		length += HEADER_SIZE;
	}
	memcpy(iov + count, frame->iov, frame->iov_count * sizeof *iov);
	do
		n = writev(fd, iov, (int)(count + frame->iov_count));
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)length;
}

static unsigned tap_send(void *ctx, unsigned queue, const struct vc_net_frame *frames, unsigned count)
{
	struct tap *tap = ctx;
	unsigned sent = 0;

	for (unsigned i = 0; i < count; i++)
		sent += write_frame(tap, tap->host.fds[queue], &frames[i]);
	return count - sent;
}

/* ---- in: on the loop's thread ---- */

/* One frame into the buffer from `at` on; returns where the next one may go, or 0. */
static size_t read_frame(struct tap_queue *q, size_t at)
{
	struct tap *tap = q->tap;
	struct vc_net_frame *frame = &q->frames[q->count];
	size_t header = tap->host.has_header ? HEADER_SIZE : 0;
	ssize_t n = read(tap->host.fds[q->index], q->buffer + at, header + VC_NET_FRAME_MAX);

	if (n < (ssize_t)header)
		return 0;
	*frame = (struct vc_net_frame){.iov = &q->iov[q->count], .iov_count = 1, .length = (uint32_t)((size_t)n - header)};
	memcpy(&frame->hdr, q->buffer + at, header);
	q->iov[q->count++] = (struct iovec){q->buffer + at + header, frame->length};
	return at + (size_t)n;
}

static void fill(struct tap_queue *q)
{
	size_t at = 0, next;

	q->count = q->done = 0;
	while (q->count < BATCH && BUFFER_SIZE - at >= HEADER_SIZE + VC_NET_FRAME_MAX && (next = read_frame(q, at)))
		at = next;
}

/* False: the rest waits for room. */
static bool deliver(struct tap_queue *q)
{
	if (q->done < q->count)
		q->done += vc_net_deliver(q->tap->net, q->index, q->frames + q->done, q->count - q->done, true);
	return q->done == q->count;
}

static void read_some(struct tap_queue *q)
{
	for (unsigned turn = 0; turn < TURNS; turn++) {
		if (!deliver(q)) {
			vc_watch_set_events(q->watch, 0);
			return;
		}
		fill(q);
		if (!q->count)
			return;
	}
	if (!deliver(q))
		vc_watch_set_events(q->watch, 0);
}

static void tap_event(void *ctx, uint32_t events)
{
	struct tap_queue *q = ctx;

	read_some(q);
	if (events & (EPOLLERR | EPOLLHUP) && !(events & EPOLLIN) && !q->count) { /* the interface is gone */
		vc_watch_set_events(q->watch, 0);
		vc_net_set_carrier(q->tap->net, false);
	}
}

static void tap_resume(void *ctx, unsigned queue)
{
	struct tap *tap = ctx;
	struct tap_queue *q = &tap->queues[queue];

	if (deliver(q))
		vc_watch_set_events(q->watch, EPOLLIN);
}

/* ---- */

static void tap_set_offloads(void *ctx, uint32_t offloads)
{
	struct tap *tap = ctx;

	tap_if_set_offloads(&tap->host, offloads);
}

static void tap_close(void *ctx)
{
	struct tap *tap = ctx;

	for (uint32_t i = 0; tap->queues && i < tap->host.count; i++)
		vc_watch_free(tap->queues[i].watch);
	tap_if_close(&tap->host);
	free(tap->queues);
	free(tap);
}

static bool tap_descriptors(void *ctx, int *fds)
{
	const struct tap *tap = ctx;

	memcpy(fds, tap->host.fds, tap->host.count * sizeof *fds);
	return tap->host.has_header;
}

/* Nobody reads here any more. */
static int tap_lend(void *ctx)
{
	struct tap *tap = ctx;

	for (uint32_t i = 0; i < tap->host.count; i++) {
		vc_watch_free(tap->queues[i].watch);
		tap->queues[i].watch = NULL;
	}
	return tap_if_widen_header(&tap->host);
}

static void tap_use_queues(void *ctx, unsigned count)
{
	struct tap *tap = ctx;

	tap_if_use_queues(&tap->host, count);
}

static const struct vc_net_ops tap_ops = {
    .send = tap_send,
    .resume = tap_resume,
    .set_offloads = tap_set_offloads,
    .descriptors = tap_descriptors,
    .lend = tap_lend,
    .use_queues = tap_use_queues,
    .close = tap_close,
};

static int make_queues(struct tap *tap, struct vc_env *env)
{
	int r = 0;

	tap->queues = calloc(tap->host.count, sizeof *tap->queues);
	if (!tap->queues)
		return vc_fail(ENOMEM, "no memory for the queues of a tap");
	for (uint32_t i = 0; r >= 0 && i < tap->host.count; i++) {
		struct tap_queue *q = &tap->queues[i];

		q->tap = tap;
		q->index = i;
		r = vc_watch_new(env->loop, tap->host.fds[i], EPOLLIN, tap_event, q, &q->watch);
	}
	return r;
}

static int tap_open(struct vc_env *env, struct vc_props *props, struct vc_net *net)
{
	struct tap *tap = calloc(1, sizeof *tap);
	int r;

	if (!tap)
		return vc_fail(ENOMEM, "no memory for a tap");
	tap->net = net;
	net->ops = &tap_ops;
	net->ctx = tap;
	r = tap_if_open(props, net->user.queues, &tap->host);
	net->native = tap->host.native;
	net->rx_queues = tap->host.count;
	if (r >= 0)
		r = make_queues(tap, env);
	if (r < 0) {
		tap_close(tap);
		return r;
	}
	vc_log(env->log, VCORE_LOG_INFO, "net=tap: interface %s", tap->host.name);
	return 0;
}

const struct vc_net_kind vc_net_tap_kind = {
    .name = "tap",
    .summary = "a tap interface of the host",
    .open = tap_open,
};
