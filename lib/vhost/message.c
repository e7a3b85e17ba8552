/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vhost/message.h"

#include "core/channel.h"
#include "core/error.h"

enum { HEADER = 12 };

_Static_assert(offsetof(struct vc_vhost_message, payload) == HEADER, "header and payload as they are sent");

static struct vc_channel channel_of(int fd)
{
	return (struct vc_channel){fd, "the peer"};
}

int vc_vhost_send(int fd, const struct vc_vhost_message *m, uint64_t deadline_ns)
{
	struct vc_channel c = channel_of(fd);

	return vc_channel_send(&c, m, HEADER + m->size, m->fds, m->fd_count, deadline_ns);
}

void vc_vhost_close_fds(struct vc_vhost_message *m)
{
	struct vc_channel_fds fds = {m->fds, m->fd_count, VC_VHOST_FDS_MAX};

	vc_channel_close_fds(&fds);
	m->fd_count = 0;
}

static int receive_bytes(int fd, struct vc_vhost_message *m, void *to, size_t length, uint64_t deadline_ns)
{
	struct vc_channel c = channel_of(fd);
	struct vc_channel_fds fds = {m->fds, m->fd_count, VC_VHOST_FDS_MAX};
	int r = vc_channel_receive(&c, to, length, &fds, deadline_ns);

	m->fd_count = fds.count;
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
