/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages of the vhost-user protocol on a unix socket: a header, a payload, descriptors beside it. */
#ifndef VC_VHOST_MESSAGE_H
#define VC_VHOST_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

enum {
	VC_VHOST_PAYLOAD_MAX = 512, /* more than any message has that we know */
	VC_VHOST_FDS_MAX = 8,

	VC_VHOST_VERSION = 1, /* flags, bits 0 and 1 */
	VC_VHOST_VERSION_MASK = 3,
	VC_VHOST_REPLY = 4,
	VC_VHOST_NEED_REPLY = 8,
};

struct vc_vhost_message {
	uint32_t request, flags, size; /* size: of the payload */
	uint8_t payload[VC_VHOST_PAYLOAD_MAX];
	int fds[VC_VHOST_FDS_MAX];
	unsigned fd_count;
};

/*
 * Both return 0 or -errno with a sentence: -ETIMEDOUT when it is not done at host time deadline_ns, -ECONNRESET when
 * the peer closes, -EPROTO when what comes is no message. fd is non-blocking.
 */
int vc_vhost_send(int fd, const struct vc_vhost_message *m, uint64_t deadline_ns);
/* The message's descriptors are the caller's then; on failure there are none. */
int vc_vhost_receive(int fd, struct vc_vhost_message *m, uint64_t deadline_ns);
void vc_vhost_close_fds(struct vc_vhost_message *m);

#endif
