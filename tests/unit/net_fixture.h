/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A backing without a NIC: a loop that the test drives, and a user that keeps what it receives. */
#ifndef NET_FIXTURE_H
#define NET_FIXTURE_H

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <virtcore/error.h>

#include "net/net.h"
#include "net/switch_names.h"
#include "platform_env.h"

enum { NET_KEEP_MAX = 4096 };

struct net_frame {
	struct vc_net_hdr hdr;
	uint32_t length;
	uint8_t *data;
};

struct net_user {
	struct vc_net *net;
	unsigned room; /* how many more it takes */
	unsigned count;
	struct net_frame frames[NET_KEEP_MAX];
	unsigned links, sendables;
	bool holds; /* it waits for room elsewhere; set before it is opened */
};

static inline unsigned net_user_receive(void *ctx, unsigned queue, const struct vc_net_frame *frames, unsigned count)
{
	struct net_user *u = ctx;
	unsigned n = count < u->room ? count : u->room;

	for (unsigned i = 0; i < n; i++) {
		struct net_frame *f = &u->frames[u->count];
		uint32_t at = 0;

		ck_assert_uint_lt(u->count, NET_KEEP_MAX);
		*f = (struct net_frame){frames[i].hdr, frames[i].length, malloc(frames[i].length)};
		for (unsigned v = 0; v < frames[i].iov_count; v++) {
			memcpy(f->data + at, frames[i].iov[v].iov_base, frames[i].iov[v].iov_len);
			at += (uint32_t)frames[i].iov[v].iov_len;
		}
		ck_assert_uint_eq(at, f->length);
		u->count++;
	}
	u->room -= n;
	return n;
}

static inline void net_user_sendable(void *ctx, unsigned queue)
{
	((struct net_user *)ctx)->sendables++;
}

static inline void net_user_link(void *ctx, bool up)
{
	((struct net_user *)ctx)->links++;
}

/* Opens a backing of these properties for it. mac: its last byte. */
static inline int net_user_try(struct platform_env *p, struct net_user *u, const char *text, uint8_t mac)
{
	struct vc_net_user user = {.receive = net_user_receive,
	                           .sendable = u->holds ? net_user_sendable : NULL,
	                           .link = net_user_link,
	                           .ctx = u,
	                           .queues = 1,
	                           .mac = {0x52, 0, 0, 0, 0, mac}};
	struct vc_props *props;
	int r;

	*u = (struct net_user){.holds = u->holds};
	u->room = NET_KEEP_MAX;
	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	r = vc_net_open(&p->env, props, &user, &u->net);
	if (!r) {
		r = vc_props_finish(props, "test");
		if (r < 0)
			vc_net_close(u->net);
	}
	vc_props_free(props);
	return r;
}

static inline void net_user_open(struct platform_env *p, struct net_user *u, const char *text, uint8_t mac)
{
	ck_assert_msg(net_user_try(p, u, text, mac) == 0, "%s", vcore_error_message());
	vc_net_start(u->net);
}

static inline void net_user_forget(struct net_user *u)
{
	while (u->count)
		free(u->frames[--u->count].data);
}

static inline void net_user_close(struct net_user *u)
{
	vc_net_close(u->net);
	net_user_forget(u);
}

static inline void net_user_send(struct net_user *u, const void *data, uint32_t length)
{
	struct iovec iov = {(void *)(uintptr_t)data, length};
	struct vc_net_frame frame = {.iov = &iov, .iov_count = 1, .length = length};

	vc_net_send(u->net, 0, &frame, 1);
}

/* From here on a thread of the library drives the loop, until platform_fini(). */
static inline void net_loop_thread(struct platform_env *p)
{
	vc_loop_free(p->env.loop);
	ck_assert_int_eq(vc_loop_new(&p->clock, true, &p->env.loop), 0);
}

#endif
