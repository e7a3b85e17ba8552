/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A socket to somebody who takes frames: over a stream each with its length in front as 4 big-endian bytes (passt,
 * `qemu -netdev stream`), or a Unix datagram each.
 *
 * Callbacks of the loop alone make, read and end connections. Whoever sends puts frames into a bounded buffer and
 * writes what the socket takes at once; the loop writes the rest.
 */
#include "net/socket.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <virtcore/error.h>

enum {
	PREFIX = 4,
	RX_SIZE = 256 << 10,
	TX_SIZE = 512 << 10,
	RX_BATCH = 64,
	RX_TURNS = 4, /* buffers filled in one go: others want the loop's thread, too */
};

struct socket_net {
	struct vc_net *net;
	struct vc_link_socket link;
	/* These change with link.turn held. */
	struct vc_watch *watch; /* of the connection */
	bool kept;              /* frames wait for room */
	size_t rx_used;
	uint8_t rx[RX_SIZE];

	pthread_mutex_t lock; /* protects all below; and is held where the watch's events change */
	int fd;               /* of the connection; -1: there is none */
	bool datagrams;
	bool reading, writing; /* what the watch waits for */
	size_t tx_start, tx_used;
	uint8_t tx[TX_SIZE];
};

/* Under the lock. */
static void update_events(struct socket_net *s)
{
	if (s->watch)
		vc_watch_set_events(s->watch, (s->reading ? EPOLLIN : 0) | (s->writing ? EPOLLOUT : 0));
}

/* ---- out ---- */

/* Under the lock. The bytes that one system call takes: all, or one datagram. */
static const uint8_t *tx_next(struct socket_net *s, size_t *length)
{
	const uint8_t *next = s->tx + s->tx_start;

	*length = s->tx_used - s->tx_start;
	if (!s->datagrams)
		return next;
	*length = vc_ldbe32(next);
	return next + PREFIX;
}

/* Under the lock. Errors are left to the loop's thread, which sees them when it reads. */
static void tx_flush(struct socket_net *s)
{
	while (s->tx_start < s->tx_used) {
		size_t length;
		const uint8_t *next = tx_next(s, &length);
		ssize_t n = send(s->fd, next, length, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS))
			break;
		if (s->datagrams)
			s->tx_start += PREFIX + length; /* one that fails is lost */
		else if (n >= 0)
			s->tx_start += (size_t)n;
		else
			s->tx_start = s->tx_used;
	}
	if (s->tx_start == s->tx_used)
		s->tx_start = s->tx_used = 0;
	if (s->writing != (s->tx_used > 0)) {
		s->writing = s->tx_used > 0;
		update_events(s);
	}
}

/* Under the lock. */
static bool tx_put(struct socket_net *s, const struct vc_net_frame *frame)
{
	if (TX_SIZE - s->tx_used < PREFIX + frame->length) {
		tx_flush(s);
		memmove(s->tx, s->tx + s->tx_start, s->tx_used - s->tx_start);
		s->tx_used -= s->tx_start;
		s->tx_start = 0;
	}
	if (TX_SIZE - s->tx_used < PREFIX + frame->length)
		return false;
	vc_stbe32(s->tx + s->tx_used, frame->length);
	s->tx_used += PREFIX;
	for (unsigned i = 0; i < frame->iov_count; i++) {
		memcpy(s->tx + s->tx_used, frame->iov[i].iov_base, frame->iov[i].iov_len);
		s->tx_used += frame->iov[i].iov_len;
	}
	return true;
}

static unsigned socket_send(void *ctx, unsigned queue, const struct vc_net_frame *frames, unsigned count)
{
	struct socket_net *s = ctx;
	unsigned sent = 0;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; s->fd >= 0 && i < count; i++)
		sent += tx_put(s, &frames[i]);
	pthread_mutex_unlock(&s->lock);
	return count - sent;
}

static void socket_flush(void *ctx, unsigned queue)
{
	struct socket_net *s = ctx;

	pthread_mutex_lock(&s->lock);
	if (s->fd >= 0 && s->tx_used)
		tx_flush(s);
	pthread_mutex_unlock(&s->lock);
}

/* ---- in: on the loop's thread ---- */

/* The frames that are whole, at most a batch. Returns how many, and where they end; -1: the peer breaks the rules. */
static int rx_split(const struct socket_net *s, size_t at, struct vc_net_frame *frames, struct iovec *iov, size_t *ends)
{
	int count = 0;

	while (count < RX_BATCH && s->rx_used - at >= PREFIX) {
		uint32_t length = vc_ldbe32(s->rx + at);

		if (length < ETH_HEADER || length > VC_NET_FRAME_MAX)
			return count ? count : -1; /* those before it are good */
		if (s->rx_used - at - PREFIX < length)
			break;
		iov[count] = (struct iovec){(void *)(uintptr_t)(s->rx + at + PREFIX), length};
		frames[count] = (struct vc_net_frame){.iov = &iov[count], .iov_count = 1, .length = length};
		at += PREFIX + length;
		ends[count++] = at;
	}
	return count;
}

/* Hand over what has come. False: the peer breaks the rules. */
static bool rx_deliver(struct socket_net *s)
{
	struct vc_net_frame frames[RX_BATCH];
	struct iovec iov[RX_BATCH];
	size_t ends[RX_BATCH], at = 0;
	int count;

	while ((count = rx_split(s, at, frames, iov, ends)) > 0) {
		unsigned done = vc_net_deliver(s->net, 0, frames, (unsigned)count, true);

		at = done ? ends[done - 1] : at;
		s->kept = done < (unsigned)count;
		if (s->kept)
			break;
	}
	memmove(s->rx, s->rx + at, s->rx_used - at);
	s->rx_used -= at;
	return count >= 0;
}

/* One read. 1: there may be more; 0: not now; -1: the connection is over. */
static int rx_stream(struct socket_net *s)
{
	ssize_t n = recv(s->fd, s->rx + s->rx_used, RX_SIZE - s->rx_used, MSG_DONTWAIT);

	if (n > 0) {
		s->rx_used += (size_t)n;
		return 1;
	}
	return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) ? 0 : -1;
}

/* As many datagrams as fit, each given a length in front as on a stream. */
static int rx_datagrams(struct socket_net *s)
{
	for (unsigned n_read = 0; n_read < RX_BATCH && RX_SIZE - s->rx_used >= PREFIX + VC_NET_FRAME_MAX; n_read++) {
		uint8_t *to = s->rx + s->rx_used;
		ssize_t n = recv(s->fd, to + PREFIX, VC_NET_FRAME_MAX, MSG_DONTWAIT | MSG_TRUNC);

		/* the peer of a datagram socket may come and go */
		if (n < 0)
			return 0;
		if (n < ETH_HEADER || n > (ssize_t)VC_NET_FRAME_MAX)
			continue;
		vc_stbe32(to, (uint32_t)n);
		s->rx_used += PREFIX + (size_t)n;
	}
	return 1;
}

static void disconnect(struct socket_net *s, const char *why)
{
	int fd = s->fd;

	pthread_mutex_lock(&s->lock);
	s->fd = -1;
	s->tx_start = s->tx_used = 0;
	s->reading = s->writing = false;
	pthread_mutex_unlock(&s->lock);
	vc_watch_free(s->watch);
	s->watch = NULL;
	close(fd);
	s->rx_used = 0;
	s->kept = false;
	vc_log(s->net->env->log, VCORE_LOG_INFO, "net=socket: %s", why);
	vc_net_set_carrier(s->net, false);
	vc_link_socket_lost(&s->link);
}

/* Wait for more to read only when all that came has been taken. */
static void set_reading(struct socket_net *s, bool reading)
{
	pthread_mutex_lock(&s->lock);
	if (s->reading != reading) {
		s->reading = reading;
		update_events(s);
	}
	pthread_mutex_unlock(&s->lock);
}

static void rx_run(struct socket_net *s)
{
	int more = 1;

	for (unsigned turn = 0; turn < RX_TURNS && more > 0 && !s->kept; turn++) {
		more = s->datagrams ? rx_datagrams(s) : rx_stream(s);
		if (!rx_deliver(s)) {
			disconnect(s, "the peer sent a frame of an impossible length");
			return;
		}
	}
	if (more < 0)
		disconnect(s, "the peer has closed the connection");
	else
		set_reading(s, !s->kept);
}

static void socket_event(void *ctx, uint32_t events)
{
	struct socket_net *s = ctx;

	if (!vc_link_socket_enter(&s->link))
		return;
	if (events & EPOLLOUT)
		socket_flush(s, 0);
	if (events & ~(uint32_t)EPOLLOUT && !s->kept)
		rx_run(s);
	vc_link_socket_leave(&s->link);
}

static void go_on(struct socket_net *s)
{
	s->kept = false;
	if (!rx_deliver(s))
		disconnect(s, "the peer sent a frame of an impossible length");
	else
		set_reading(s, !s->kept);
}

static void socket_resume(void *ctx, unsigned queue)
{
	struct socket_net *s = ctx;

	if (!vc_link_socket_enter(&s->link))
		return;
	if (s->fd >= 0)
		go_on(s);
	vc_link_socket_leave(&s->link);
}

/* ---- the connection ---- */

/* A connection has come about; fd is ours now. */
static void connected(void *ctx, int fd, bool datagrams)
{
	struct socket_net *s = ctx;
	int r;

	pthread_mutex_lock(&s->lock);
	s->fd = fd;
	s->datagrams = datagrams;
	s->reading = true;
	r = vc_watch_new(s->net->env->loop, fd, EPOLLIN, socket_event, s, &s->watch);
	pthread_mutex_unlock(&s->lock);
	vc_net_set_carrier(s->net, true);
	if (r < 0)
		disconnect(s, vcore_error_message());
}

static void socket_close(void *ctx)
{
	struct socket_net *s = ctx;

	vc_link_socket_end(&s->link);
	vc_watch_free(s->watch);
	vc_link_socket_close(&s->link);
	if (s->fd >= 0)
		close(s->fd);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static const struct vc_net_ops socket_ops = {
    .send = socket_send,
    .flush = socket_flush,
    .resume = socket_resume,
    .close = socket_close,
};

static int socket_open(struct vc_env *env, struct vc_props *props, struct vc_net *net)
{
	struct socket_net *s = calloc(1, sizeof *s);
	int r;

	if (!s)
		return vc_fail(ENOMEM, "no memory for a socket backing");
	s->net = net;
	s->fd = -1;
	pthread_mutex_init(&s->lock, NULL);
	atomic_store(&net->carrier, false);
	net->ops = &socket_ops;
	net->ctx = s;
	r = vc_link_socket_open(env, props, connected, s, &s->link);
	if (r < 0)
		socket_close(s);
	return r;
}

const struct vc_net_kind vc_net_socket_kind = {
    .name = "socket",
    .summary = "a stream socket with a 4-byte length before each frame (passt, qemu -netdev stream), or datagrams",
    .open = socket_open,
};
