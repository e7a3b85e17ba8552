/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The socket device's side of the host. A host's program connects to the device's unix socket and sends "CONNECT
 * port\n"; once the guest has accepted it reads "OK port\n" with the port that the guest sees. What the guest connects
 * to, at port P of the host, is the unix socket of the same name with _P behind it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/error.h"
#include "core/util.h"
#include "virtio/vsock.h"

enum {
	EVENTS_MAX = 32,
	PIECES = 16, /* of a chain in one call */
	PORT_FIRST = 1 << 30,
	BACKLOG = 128,
	RETRY_NS = 100000000,
};
#define LISTENER UINT64_MAX /* key in the epoll set; connections have slot and generation */

/* ---- connections ---- */

static uint32_t free_slot(const struct vc_vsock *vs)
{
	uint32_t slot = 0;

	while (slot < VC_VSOCK_CONNECTIONS && vs->slots[slot])
		slot++;
	return slot;
}

struct vc_vsock_conn *vc_vsock_new(struct vc_vsock *vs, int fd, enum vc_vsock_conn_state state)
{
	uint32_t slot = free_slot(vs);
	struct vc_vsock_conn *conn = slot < VC_VSOCK_CONNECTIONS ? calloc(1, sizeof *conn) : NULL;

	if (!conn) {
		close(fd);
		return NULL;
	}
	conn->vs = vs;
	conn->fd = fd;
	conn->state = state;
	conn->slot = slot;
	conn->generation = vs->generation++;
	vs->slots[slot] = conn;
	vs->connections++;
	if (state == VC_VSOCK_HELLO) {
		vs->hello_count++;
		TAILQ_INSERT_TAIL(&vs->hellos, conn, order);
	}
	return conn;
}

static void watch_events(struct vc_vsock_conn *conn, bool on, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.u64 = conn->slot | (uint64_t)conn->generation << 32};
	int op = !on ? EPOLL_CTL_DEL : conn->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (on == conn->watched && (!on || events == conn->events))
		return;
	if (epoll_ctl(conn->vs->epoll, op, conn->fd, &e) < 0 && on) {
		/* the host has no room for it */
		conn->hung_up = conn->readable = true;
		on = false;
	}
	conn->watched = on;
	conn->events = events;
}

void vc_vsock_close(struct vc_vsock_conn *conn)
{
	if (conn->fd < 0)
		return;
	watch_events(conn, false, 0);
	close(conn->fd);
	conn->fd = -1;
	free(conn->buffer);
	conn->buffer = NULL;
}

static void leave_hello(struct vc_vsock_conn *conn)
{
	TAILQ_REMOVE(&conn->vs->hellos, conn, order);
	conn->vs->hello_count--;
}

void vc_vsock_free(struct vc_vsock_conn *conn)
{
	struct vc_vsock *vs = conn->vs;

	if (conn->state == VC_VSOCK_HELLO)
		leave_hello(conn);
	else
		LIST_REMOVE(conn, by_ports);
	if (conn->ready)
		TAILQ_REMOVE(&vs->ready, conn, order);
	vc_vsock_close(conn);
	vs->slots[conn->slot] = NULL;
	vs->connections--;
	free(conn);
	vc_vsock_set_listening(vs, vs->running);
}

void vc_vsock_drop_all(struct vc_vsock *vs)
{
	for (uint32_t i = 0; i < VC_VSOCK_CONNECTIONS; i++)
		if (vs->slots[i])
			vc_vsock_free(vs->slots[i]);
	vs->reset_count = 0;
	vs->tx_waits = false;
}

static bool wants_read(const struct vc_vsock_conn *conn)
{
	if (conn->state != VC_VSOCK_CONNECTED)
		return conn->state == VC_VSOCK_HELLO;
	return !conn->readable && !(conn->host_closed & VC_VSOCK_NO_SEND) && !(conn->guest_closed & VC_VSOCK_NO_RECEIVE);
}

void vc_vsock_watch(struct vc_vsock_conn *conn)
{
	uint32_t events = (wants_read(conn) ? EPOLLIN : 0) | (conn->came != conn->forwarded ? EPOLLOUT : 0);

	if (conn->fd >= 0)
		watch_events(conn, !conn->hung_up, events);
}

int vc_vsock_connect(const struct vc_vsock *vs, uint32_t port)
{
	struct sockaddr_un to = vs->address;
	size_t length = strlen(to.sun_path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	snprintf(to.sun_path + length, sizeof to.sun_path - length, "_%u", port);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
		return fd;
	close(fd);
	return -ECONNREFUSED;
}

/* ---- data ---- */

/* The host's program sends no more; where it has closed it does not read either. */
static void end_of_input(struct vc_vsock_conn *conn, bool both)
{
	conn->readable = false;
	conn->host_closed |= both ? VC_VSOCK_NEITHER : VC_VSOCK_NO_SEND;
	vc_vsock_say(conn, VC_VSOCK_OP_SHUTDOWN);
}

uint32_t vc_vsock_read(struct vc_vsock_conn *conn, const struct vc_virtq_chain *chain, uint32_t at, uint32_t room)
{
	struct iovec piece[PIECES];
	struct msghdr m = {.msg_iov = piece,
	                   .msg_iovlen = vc_iov_slice(chain->in, chain->in_count, at, room, piece, PIECES)};
	ssize_t n = recvmsg(conn->fd, &m, MSG_DONTWAIT);

	if (n > 0)
		return (uint32_t)n;
	if (n < 0 && (errno == EAGAIN || errno == EINTR) && !conn->hung_up)
		conn->readable = errno == EINTR;
	else
		end_of_input(conn, n < 0 || conn->hung_up);
	return 0;
}

/* The guest hears of room before it has run out of it. */
static void forward(struct vc_vsock_conn *conn, uint32_t n)
{
	conn->forwarded += n;
	conn->vs->sent += n;
	if (conn->forwarded - conn->told >= VC_VSOCK_BUFFER / 2)
		vc_vsock_say(conn, VC_VSOCK_OP_CREDIT_UPDATE);
}

/* What the host's program will never read vanishes. */
static void stop_writing(struct vc_vsock_conn *conn)
{
	conn->host_closed |= VC_VSOCK_NO_RECEIVE;
	vc_vsock_say(conn, VC_VSOCK_OP_SHUTDOWN);
	forward(conn, conn->came - conn->forwarded);
}

static uint32_t send_pieces(struct vc_vsock_conn *conn, struct iovec *piece, unsigned count)
{
	struct msghdr m = {.msg_iov = piece, .msg_iovlen = count};
	ssize_t n = sendmsg(conn->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		stop_writing(conn);
	return n > 0 ? (uint32_t)n : 0;
}

/* Pieces of the ring: from a count of bytes on, at most length bytes. */
static unsigned ring_pieces(const struct vc_vsock_conn *conn, uint32_t from, uint32_t length, struct iovec piece[2])
{
	uint32_t at = from % VC_VSOCK_BUFFER, first = VC_VSOCK_BUFFER - at;

	piece[0] = (struct iovec){conn->buffer + at, length < first ? length : first};
	piece[1] = (struct iovec){conn->buffer, length < first ? 0 : length - first};
	return 2;
}

static void keep(struct vc_vsock_conn *conn, const struct vc_virtq_chain *chain, uint32_t at, uint32_t length)
{
	struct iovec piece[2];

	if (!conn->buffer)
		conn->buffer = malloc(VC_VSOCK_BUFFER);
	if (!conn->buffer) {
		vc_vsock_kill(conn);
		return;
	}
	ring_pieces(conn, conn->came, length, piece);
	vc_iov_to_buffer(chain->out, chain->out_count, at, piece[0].iov_base, piece[0].iov_len);
	vc_iov_to_buffer(chain->out, chain->out_count, at + piece[0].iov_len, piece[1].iov_base, piece[1].iov_len);
	conn->came += length;
}

void vc_vsock_write(struct vc_vsock_conn *conn, const struct vc_virtq_chain *chain, uint32_t at, uint32_t length)
{
	struct iovec piece[PIECES];
	uint32_t n = 0;

	if (conn->came == conn->forwarded && length && !(conn->host_closed & VC_VSOCK_NO_RECEIVE))
		n = send_pieces(conn, piece, vc_iov_slice(chain->out, chain->out_count, at, length, piece, PIECES));
	if (conn->host_closed & VC_VSOCK_NO_RECEIVE)
		n = length;
	conn->came += n;
	forward(conn, n);
	if (n < length)
		keep(conn, chain, at + n, length - n);
}

static void drain(struct vc_vsock_conn *conn)
{
	struct iovec piece[2];
	uint32_t length = conn->came - conn->forwarded;

	if (!length)
		return;
	forward(conn, send_pieces(conn, piece, ring_pieces(conn, conn->forwarded, length, piece)));
	if (conn->came != conn->forwarded)
		return;
	free(conn->buffer);
	conn->buffer = NULL;
	vc_vsock_pass_shutdown(conn);
}

void vc_vsock_pass_shutdown(struct vc_vsock_conn *conn)
{
	if (conn->guest_closed & VC_VSOCK_NO_RECEIVE) {
		conn->readable = false;
		shutdown(conn->fd, SHUT_RD);
	}
	if (conn->came != conn->forwarded)
		return;
	if (conn->guest_closed & VC_VSOCK_NO_SEND)
		shutdown(conn->fd, SHUT_WR);
	if (conn->guest_closed == VC_VSOCK_NEITHER)
		vc_vsock_kill(conn);
}

/* ---- host's programs that connect ---- */

void vc_vsock_welcome(struct vc_vsock_conn *conn)
{
	char text[32];
	int n = snprintf(text, sizeof text, "OK %u\n", conn->host_port);

	conn->state = VC_VSOCK_CONNECTED;
	if (send(conn->fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) != n)
		vc_vsock_kill(conn);
}

/* "CONNECT port\n" */
static bool parse_hello(const char *text, uint32_t *port)
{
	static const char word[] = "CONNECT ";
	char *end;
	unsigned long n;

	if (strncmp(text, word, sizeof word - 1))
		return false;
	text += sizeof word - 1;
	n = strtoul(text, &end, 10);
	*port = (uint32_t)n;
	return *text >= '0' && *text <= '9' && n < UINT32_MAX && *end == '\n' && !end[1];
}

static uint32_t free_port(struct vc_vsock *vs, uint32_t guest_port)
{
	do
		vs->next_port = vs->next_port < PORT_FIRST || vs->next_port == INT32_MAX ? PORT_FIRST : vs->next_port + 1;
	while (vc_vsock_find(vs, vs->next_port, guest_port));
	return vs->next_port;
}

static void end_hello(struct vc_vsock_conn *conn)
{
	uint32_t port;

	conn->hello[conn->hello_length] = 0;
	if (!parse_hello(conn->hello, &port)) {
		vc_vsock_free(conn);
		return;
	}
	leave_hello(conn);
	conn->state = VC_VSOCK_REQUESTED;
	vc_vsock_name(conn, free_port(conn->vs, port), port);
	vc_vsock_say(conn, VC_VSOCK_OP_REQUEST);
	vc_vsock_watch(conn);
}

/* Its line, and nothing of what follows that. */
static void read_hello(struct vc_vsock_conn *conn)
{
	char *at = conn->hello + conn->hello_length, *newline;
	ssize_t n = recv(conn->fd, at, sizeof conn->hello - 1 - conn->hello_length, MSG_DONTWAIT | MSG_PEEK);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	newline = n > 0 ? memchr(at, '\n', (size_t)n) : NULL;
	if (newline)
		n = newline + 1 - at;
	if (n <= 0 || recv(conn->fd, at, (size_t)n, MSG_DONTWAIT) != n) {
		vc_vsock_free(conn);
		return;
	}
	conn->hello_length += (uint32_t)n;
	if (newline)
		end_hello(conn);
	else if (conn->hello_length == sizeof conn->hello - 1)
		vc_vsock_free(conn);
}

static void greet(struct vc_vsock *vs, int fd)
{
	struct vc_vsock_conn *conn;

	if (vs->hello_count == VC_VSOCK_HELLOS || vs->connections == VC_VSOCK_CONNECTIONS)
		vc_vsock_free(TAILQ_FIRST(&vs->hellos));
	conn = vc_vsock_new(vs, fd, VC_VSOCK_HELLO);
	if (!conn)
		return;
	vc_vsock_watch(conn);
	if (!conn->watched)
		vc_vsock_free(conn);
}

/* A descriptor is short: the others wait for a while. */
static void accept_later(struct vc_vsock *vs)
{
	vc_vsock_set_listening(vs, false);
	vc_timer_arm(vs->retry, vc_clock_now(vs->env->clock) + RETRY_NS);
}

/* With no connection to spare the others wait until one has ended. */
static void accept_some(struct vc_vsock *vs)
{
	for (unsigned i = 0; i < BACKLOG; i++) {
		int fd;

		if (vs->connections == VC_VSOCK_CONNECTIONS && !vs->hello_count) {
			vc_vsock_set_listening(vs, false);
			return;
		}
		fd = accept4(vs->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			greet(vs, fd);
		} else {
			if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
				accept_later(vs);
			return;
		}
	}
}

static int bind_listener(struct vc_vsock *vs)
{
	const struct sockaddr *address = (struct sockaddr *)&vs->address;

	if (bind(vs->listener, address, sizeof vs->address) < 0)
		return vc_fail_errno(errno, "virtio-vsock: the socket %s", vs->address.sun_path);
	vs->bound = true;
	if (listen(vs->listener, BACKLOG) < 0)
		return vc_fail_errno(errno, "virtio-vsock: listening at %s", vs->address.sun_path);
	return 0;
}

int vc_vsock_listen(struct vc_vsock *vs)
{
	vs->epoll = epoll_create1(EPOLL_CLOEXEC);
	vs->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (vs->epoll < 0 || vs->listener < 0)
		return vc_fail_errno(errno, "virtio-vsock: cannot make its descriptors");
	return bind_listener(vs);
}

void vc_vsock_set_listening(struct vc_vsock *vs, bool on)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = LISTENER};

	if (on == vs->listening)
		return;
	if (epoll_ctl(vs->epoll, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, vs->listener, &e) >= 0)
		vs->listening = on;
}

/* ---- what is ready ---- */

static struct vc_vsock_conn *conn_of_key(const struct vc_vsock *vs, uint64_t key)
{
	struct vc_vsock_conn *conn = (uint32_t)key < VC_VSOCK_CONNECTIONS ? vs->slots[(uint32_t)key] : NULL;

	return conn && conn->generation == key >> 32 && conn->fd >= 0 ? conn : NULL;
}

/* Both directions are closed: nothing can be written, but there may be something to read. */
static void hang_up(struct vc_vsock_conn *conn)
{
	conn->hung_up = true;
	if (conn->state == VC_VSOCK_REQUESTED) {
		vc_vsock_kill(conn);
		return;
	}
	stop_writing(conn);
	if (!(conn->guest_closed & VC_VSOCK_NO_RECEIVE) && !(conn->host_closed & VC_VSOCK_NO_SEND))
		conn->readable = true;
	else
		end_of_input(conn, true);
	vc_vsock_pass_shutdown(conn);
}

static void serve_conn(struct vc_vsock_conn *conn, uint32_t events)
{
	if (conn->state == VC_VSOCK_HELLO) {
		read_hello(conn);
		return;
	}
	if (events & EPOLLOUT)
		drain(conn);
	if (conn->state != VC_VSOCK_DEAD && (events & EPOLLIN) && wants_read(conn))
		conn->readable = true;
	if (conn->state != VC_VSOCK_DEAD && (events & (EPOLLHUP | EPOLLERR)))
		hang_up(conn);
	if (conn->readable)
		vc_vsock_ready(conn);
	vc_vsock_watch(conn);
}

void vc_vsock_serve(struct vc_vsock *vs)
{
	struct epoll_event events[EVENTS_MAX];
	int count = epoll_wait(vs->epoll, events, EVENTS_MAX, 0);

	for (int i = 0; i < count; i++) {
		struct vc_vsock_conn *conn = conn_of_key(vs, events[i].data.u64);

		if (events[i].data.u64 == LISTENER)
			accept_some(vs);
		else if (conn)
			serve_conn(conn, events[i].events);
	}
}
