/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libslirp from properties: user_config.c. */
#ifndef VC_NET_USER_H
#define VC_NET_USER_H

#include <slirp/libslirp.h>

#include "net/net_priv.h"

enum { USER_FRAME_MAX = 9018 }; /* no larger one comes from a guest that does no segmentation of its own */

/* Properties hostfwd, restrict, subnet, hostname, ipv6. */
int user_slirp_new(struct vc_props *props, const SlirpCb *callbacks, void *opaque, Slirp **slirp);

#endif
