/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A cable that leads nowhere. */
#include "net/net_priv.h"

static unsigned none_send(void *ctx, unsigned queue, const struct vc_net_frame *frames, unsigned count)
{
	return 0;
}

static void none_close(void *ctx) {}

static const struct vc_net_ops none_ops = {.send = none_send, .close = none_close};

static int none_open(struct vc_env *env, struct vc_props *props, struct vc_net *net)
{
	net->ops = &none_ops;
	net->native = VC_NET_OFFLOADS_ALL;
	net->rx_queues = net->user.queues;
	return 0;
}

const struct vc_net_kind vc_net_none_kind = {
    .name = "none",
    .summary = "no network: what is sent vanishes",
    .open = none_open,
};
