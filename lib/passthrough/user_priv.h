/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between user.c and the files beside it. */
#ifndef VC_PASSTHROUGH_USER_PRIV_H
#define VC_PASSTHROUGH_USER_PRIV_H

#include "passthrough/user.h"

/* What is asked: a struct, and data behind it. */
struct vc_vfio_user_request {
	uint16_t command;
	const void *payload, *data;
	uint32_t length, data_length; /* together at most VC_VFIO_USER_PAYLOAD_MAX */
	const int *fds;
	unsigned fd_count;
};

/*
 * With u->lock. The reply's payload, of at least `least` bytes, is in u->in then, and its descriptors, which the caller
 * takes or closes.
 */
int vc_vfio_user_ask(struct vc_vfio_user *u, const struct vc_vfio_user_request *q, uint32_t least);
/* A request whose reply brings no descriptors; `reply` is filled from the reply's payload. Takes the lock. */
int vc_vfio_user_ask_plain(struct vc_vfio_user *u, const struct vc_vfio_user_request *q, void *reply, uint32_t length);
/* The reply is none that there can be: the connection is broken. What was wrong, by vc_fail(), to r. */
int vc_vfio_user_bad_reply(struct vc_vfio_user *u, uint16_t command, int r);

/* ---- user_serve.c ---- */

/* Answer one command that is in the inbox, on the channel it came from. Its descriptors are closed. */
int vc_vfio_user_answer(struct vc_vfio_user *u, const struct vc_channel *c, struct vc_vfio_user_inbox *in,
                        uint64_t deadline_ns);

/* ---- user_version.c, or user_version_plain.c in a library without JSON ---- */

/* What we say of ourselves: JSON text. */
extern const char vc_vfio_user_capabilities[];
/* limits are the defaults before; length is not 0. -EPROTO with a sentence. */
int vc_vfio_user_read_capabilities(const char *text, size_t length, struct vc_vfio_user_limits *limits);

#endif
