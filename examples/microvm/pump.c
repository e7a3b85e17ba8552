/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pump.h"

#include <errno.h>
#include <limits.h>
#include <unistd.h>

void pump_init(struct pump *p, int from, int to)
{
	p->from = from;
	p->to = to;
	p->taken = 0;
	p->length = UINT64_MAX;
	p->closed = false;
	p->at = p->have = 0;
}

bool pump_ended(const struct pump *p)
{
	return p->from < 0 || p->taken >= p->length;
}

bool pump_done(const struct pump *p)
{
	return pump_ended(p) && !p->have;
}

void pump_prepare(const struct pump *p, struct pollfd fds[2])
{
	fds[0] = (struct pollfd){!pump_ended(p) && !p->have ? p->from : -1, POLLIN, 0};
	/* also with nothing to write: that the reader has gone shows without that */
	fds[1] = (struct pollfd){p->closed ? -1 : p->to, p->have ? POLLOUT : 0, 0};
}

static void take(struct pump *p)
{
	uint64_t left = p->length - p->taken;
	ssize_t n = read(p->from, p->buffer, left < PUMP_BUFFER ? (size_t)left : PUMP_BUFFER);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		p->from = -1;
		return;
	}
	p->taken += (uint64_t)n;
	p->at = 0;
	p->have = p->closed ? 0 : (size_t)n;
}

static void close_sink(struct pump *p)
{
	p->closed = true;
	p->have = 0;
}

/* No more than poll promises of a pipe, so that writing to one in blocking mode does not wait. */
static void give(struct pump *p)
{
	ssize_t n = write(p->to, p->buffer + p->at, p->have < PIPE_BUF ? p->have : PIPE_BUF);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		close_sink(p);
		return;
	}
	p->at += (size_t)n;
	p->have -= (size_t)n;
}

void pump_run(struct pump *p, const struct pollfd fds[2])
{
	if (fds[0].fd >= 0 && fds[0].revents)
		take(p);
	if (fds[1].fd < 0)
		return;
	if (fds[1].revents & (POLLERR | POLLHUP | POLLNVAL))
		close_sink(p);
	else if (p->have && fds[1].revents & POLLOUT)
		give(p);
}
