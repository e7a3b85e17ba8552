/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bytes of a unix stream socket with descriptors beside them, until a deadline: messages between processes. */
#ifndef VC_CORE_CHANNEL_H
#define VC_CORE_CHANNEL_H

#include <stddef.h>
#include <stdint.h>

enum { VC_CHANNEL_FDS_MAX = 16 /* beside one message */ };

struct vc_channel {
	int fd;           /* non-blocking or not */
	const char *peer; /* at the other end, for messages: "the back-end" */
};

/* Descriptors that came. */
struct vc_channel_fds {
	int *fds;
	unsigned count, max; /* max: room; what comes beyond is closed, and an error */
};

/*
 * All of these return 0 or -errno with a sentence: -ETIMEDOUT when it is not done at host time deadline_ns,
 * -ECONNRESET when the peer closes.
 */
int vc_channel_send(const struct vc_channel *c, const void *data, size_t length, const int *fds, unsigned count,
                    uint64_t deadline_ns);
/* What came beside is the caller's then, also on failure. -EPROTO: more than there is room for. */
int vc_channel_receive(const struct vc_channel *c, void *to, size_t length, struct vc_channel_fds *fds,
                       uint64_t deadline_ns);
void vc_channel_close_fds(struct vc_channel_fds *fds);
/* Until one of two can be read, or has ended: bit 0 for fd, bit 1 for other (-1: none). */
int vc_channel_wait(const struct vc_channel *c, int other, uint64_t deadline_ns);

#endif
