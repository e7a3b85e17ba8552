/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The tap interface of the host, apart from its frames: tap_if.c. */
#ifndef VC_NET_TAP_H
#define VC_NET_TAP_H

#include "net/net_priv.h"

enum { TAP_QUEUES_MAX = 64 };

struct tap_if {
	char name[16];
	int fds[TAP_QUEUES_MAX]; /* ours, non-blocking; -1 behind the last */
	uint32_t count;
	uint32_t used;   /* the first so many are attached */
	bool has_header; /* a virtio_net_hdr of 10 bytes goes before each frame */
	uint32_t native; /* VC_NET_*: what it takes undone */
};

/* Properties ifname, fd, bridge, mtu, vnet_hdr. On failure nothing is left behind. */
int tap_if_open(struct vc_props *props, uint32_t queues, struct tap_if *tap);
void tap_if_close(struct tap_if *tap);
/* The header before each frame is that of VERSION_1, 12 bytes, from now on. */
int tap_if_widen_header(const struct tap_if *tap);
/* The kernel gives frames to the first so many queues alone. */
void tap_if_use_queues(struct tap_if *tap, uint32_t count);
/* What may come undone. */
void tap_if_set_offloads(const struct tap_if *tap, uint32_t offloads);

#endif
