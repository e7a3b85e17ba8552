/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vhost/message.h"

#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"

enum { HEADER = 12 };

_Static_assert(offsetof(struct vc_vhost_message, payload) == HEADER, "header and payload as they are sent");

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(VC_VHOST_FDS_MAX * sizeof(int))];
};

/* 0: fd can be used. */
static int wait_for(int fd, short events, uint64_t deadline_ns)
{
	struct pollfd p = {.fd = fd, .events = events};
	int r;

	do {
		uint64_t now = vc_host_ns(), left = deadline_ns > now ? (deadline_ns - now + 999999) / 1000000 : 0;

		r = poll(&p, 1, left > INT32_MAX ? INT32_MAX : (int)left);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return vc_fail_errno(errno, "waiting for the peer");
	return r ? 0 : vc_fail(ETIMEDOUT, "the peer does not answer in time");
}

static bool is_again(int error)
{
	return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

static int fail_socket(int error)
{
	if (error == EPIPE || error == ECONNRESET)
		return vc_fail(ECONNRESET, "the peer has closed the connection");
	return vc_fail_errno(error, "the peer's socket");
}

/* ---- sending ---- */

static void attach_fds(struct msghdr *header, union control *control, const struct vc_vhost_message *m)
{
	struct cmsghdr *c;

	memset(control, 0, sizeof *control);
	header->msg_control = control->bytes;
	header->msg_controllen = CMSG_SPACE(m->fd_count * sizeof(int));
	c = CMSG_FIRSTHDR(header);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(m->fd_count * sizeof(int));
	memcpy(CMSG_DATA(c), m->fds, m->fd_count * sizeof(int));
}

int vc_vhost_send(int fd, const struct vc_vhost_message *m, uint64_t deadline_ns)
{
	size_t length = HEADER + m->size, sent = 0;
	int r = 0;

	while (r >= 0 && sent < length) {
		struct iovec iov = {(uint8_t *)(uintptr_t)m + sent, length - sent};
		struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
		union control control;
		ssize_t n;

		/* they go with the first byte */
		if (!sent && m->fd_count)
			attach_fds(&header, &control, m);
		n = sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0)
			sent += (size_t)n;
		else if (is_again(errno))
			r = wait_for(fd, POLLOUT, deadline_ns);
		else
			r = fail_socket(errno);
	}
	return r;
}

/* ---- receiving ---- */

void vc_vhost_close_fds(struct vc_vhost_message *m)
{
	for (unsigned i = 0; i < m->fd_count; i++)
		close(m->fds[i]);
	m->fd_count = 0;
}

/* All that came is ours now, wanted or not. */
static int take_fds(struct msghdr *header, struct vc_vhost_message *m)
{
	int r = header->msg_flags & MSG_CTRUNC ? -EPROTO : 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
		unsigned count = c->cmsg_len > CMSG_LEN(0) ? (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int)) : 0;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (unsigned i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (m->fd_count < VC_VHOST_FDS_MAX) {
				m->fds[m->fd_count++] = fd;
				continue;
			}
			close(fd);
			r = -EPROTO;
		}
	}
	return r < 0 ? vc_fail(EPROTO, "the peer sends more than %d descriptors", VC_VHOST_FDS_MAX) : 0;
}

static int receive_bytes(int fd, struct vc_vhost_message *m, void *to, size_t length, uint64_t deadline_ns)
{
	size_t got = 0;
	int r = 0;

	while (r >= 0 && got < length) {
		struct iovec iov = {(uint8_t *)to + got, length - got};
		union control control;
		struct msghdr header = {
		    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
		ssize_t n = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

		if (n < 0) {
			r = is_again(errno) ? wait_for(fd, POLLIN, deadline_ns) : fail_socket(errno);
			continue;
		}
		got += (size_t)n;
		r = take_fds(&header, m);
		if (r >= 0 && !n)
			r = vc_fail(ECONNRESET, "the peer has closed the connection");
	}
	return r;
}

static int receive(int fd, struct vc_vhost_message *m, uint64_t deadline_ns)
{
	int r = receive_bytes(fd, m, m, HEADER, deadline_ns);

	if (r < 0)
		return r;
	if ((m->flags & VC_VHOST_VERSION_MASK) != VC_VHOST_VERSION)
		return vc_fail(EPROTO, "the peer sends a message of version %u: expected %d", m->flags & VC_VHOST_VERSION_MASK,
		               VC_VHOST_VERSION);
	if (m->size > VC_VHOST_PAYLOAD_MAX)
		return vc_fail(EPROTO, "the peer sends a message of %u bytes: expected at most %d", m->size,
		               VC_VHOST_PAYLOAD_MAX);
	return receive_bytes(fd, m, m->payload, m->size, deadline_ns);
}

int vc_vhost_receive(int fd, struct vc_vhost_message *m, uint64_t deadline_ns)
{
	int r;

	m->fd_count = 0;
	r = receive(fd, m, deadline_ns);
	if (r < 0)
		vc_vhost_close_fds(m);
	return r;
}
