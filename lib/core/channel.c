/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/channel.h"

#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(VC_CHANNEL_FDS_MAX * sizeof(int))];
};

/* How many of those can be used. */
static int wait_for(const struct vc_channel *c, struct pollfd *polls, nfds_t count, uint64_t deadline_ns)
{
	int r;

	do {
		uint64_t now = vc_host_ns(), left = deadline_ns > now ? (deadline_ns - now + 999999) / 1000000 : 0;

		r = poll(polls, count, left > INT32_MAX ? INT32_MAX : (int)left);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return vc_fail_errno(errno, "waiting for %s", c->peer);
	return r ? r : vc_fail(ETIMEDOUT, "%s does not answer in time", c->peer);
}

int vc_channel_wait(const struct vc_channel *c, int other, uint64_t deadline_ns)
{
	struct pollfd polls[] = {{.fd = c->fd, .events = POLLIN}, {.fd = other, .events = POLLIN}};
	int r = wait_for(c, polls, 2, deadline_ns);

	return r < 0 ? r : (polls[0].revents != 0) | (polls[1].revents != 0) << 1;
}

static int wait_until(const struct vc_channel *c, short events, uint64_t deadline_ns)
{
	struct pollfd p = {.fd = c->fd, .events = events};
	int r = wait_for(c, &p, 1, deadline_ns);

	return r < 0 ? r : 0;
}

static bool is_again(int error)
{
	return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

static int fail_socket(const struct vc_channel *c, int error)
{
	if (error == EPIPE || error == ECONNRESET)
		return vc_fail(ECONNRESET, "%s has closed the connection", c->peer);
	return vc_fail_errno(error, "the socket of %s", c->peer);
}

/* ---- sending ---- */

static void attach_fds(struct msghdr *header, union control *control, const int *fds, unsigned count)
{
	struct cmsghdr *c;

	memset(control, 0, sizeof *control);
	header->msg_control = control->bytes;
	header->msg_controllen = CMSG_SPACE(count * sizeof(int));
	c = CMSG_FIRSTHDR(header);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(c), fds, count * sizeof(int));
}

int vc_channel_send(const struct vc_channel *c, const void *data, size_t length, const int *fds, unsigned count,
                    uint64_t deadline_ns)
{
	size_t sent = 0;
	int r = 0;

	if (count > VC_CHANNEL_FDS_MAX)
		return vc_fail(EINVAL, "%u descriptors beside a message: expected at most %d", count, VC_CHANNEL_FDS_MAX);
	while (r >= 0 && sent < length) {
		struct iovec iov = {(uint8_t *)(uintptr_t)data + sent, length - sent};
		struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
		union control control;
		ssize_t n;

		/* they go with the first byte */
		if (!sent && count)
			attach_fds(&header, &control, fds, count);
		n = sendmsg(c->fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0)
			sent += (size_t)n;
		else if (is_again(errno))
			r = wait_until(c, POLLOUT, deadline_ns);
		else
			r = fail_socket(c, errno);
	}
	return r;
}

/* ---- receiving ---- */

void vc_channel_close_fds(struct vc_channel_fds *fds)
{
	for (unsigned i = 0; i < fds->count; i++)
		close(fds->fds[i]);
	fds->count = 0;
}

/* All that came is ours now, wanted or not. */
static int take_fds(const struct vc_channel *channel, struct msghdr *header, struct vc_channel_fds *fds)
{
	int r = header->msg_flags & MSG_CTRUNC ? -EPROTO : 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
		unsigned count = c->cmsg_len > CMSG_LEN(0) ? (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int)) : 0;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (unsigned i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (fds->count < fds->max) {
				fds->fds[fds->count++] = fd;
				continue;
			}
			close(fd);
			r = -EPROTO;
		}
	}
	return r < 0 ? vc_fail(EPROTO, "%s sends more than %u descriptors", channel->peer, fds->max) : 0;
}

int vc_channel_receive(const struct vc_channel *c, void *to, size_t length, struct vc_channel_fds *fds,
                       uint64_t deadline_ns)
{
	size_t got = 0;
	int r = 0;

	while (r >= 0 && got < length) {
		struct iovec iov = {(uint8_t *)to + got, length - got};
		union control control;
		struct msghdr header = {
		    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
		ssize_t n = recvmsg(c->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

		if (n < 0) {
			r = is_again(errno) ? wait_until(c, POLLIN, deadline_ns) : fail_socket(c, errno);
			continue;
		}
		got += (size_t)n;
		r = take_fds(c, &header, fds);
		if (r >= 0 && !n)
			r = vc_fail(ECONNRESET, "%s has closed the connection", c->peer);
	}
	return r;
}
