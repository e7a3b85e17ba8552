/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between net.c and the kinds of backings. */
#ifndef VC_NET_NET_PRIV_H
#define VC_NET_NET_PRIV_H

#include <pthread.h>

#include "core/error.h"
#include "core/util.h"
#include "net/net.h"
#include "net/packet.h"

#define VC_NET_OFFLOADS_ALL (VC_NET_CSUM | VC_NET_TSO4 | VC_NET_TSO6 | VC_NET_ECN | VC_NET_UFO | VC_NET_USO)

/* What a kind does; every callback but close and one of send and offer may be NULL. ctx is vc_net.ctx. */
struct vc_net_ops {
	/*
	 * As vc_net_send(); frames are checked, and ask for nothing beyond vc_net.native. Queues may overlap. Returns how
	 * many were dropped.
	 */
	unsigned (*send)(void *ctx, unsigned queue, const struct vc_net_frame *frames, unsigned count);
	/*
	 * In its place, of a kind that may leave frames to the user: returns how many are done with. may_hold: the user has
	 * `sendable`, to be called when there is reason to try again.
	 */
	unsigned (*offer)(void *ctx, unsigned queue, const struct vc_net_frame *frames, unsigned count, bool may_hold);
	/* All frames of one vc_net_send() have come. */
	void (*flush)(void *ctx, unsigned queue);
	/* There is room again after vc_net_deliver() had kept frames back. On the loop's thread. */
	void (*resume)(void *ctx, unsigned queue);
	/* What may come with less work for others; the rest is done by vc_net_deliver() anyhow. */
	void (*set_offloads)(void *ctx, uint32_t offloads);
	void (*set_filter)(void *ctx, bool promiscuous, bool all_multicast, const uint8_t (*macs)[6], unsigned count);
	/* As vc_net_descriptors(): has_header; vc_net_lend(); vc_net_use_queues(). All three or none. */
	bool (*descriptors)(void *ctx, int *fds);
	int (*lend)(void *ctx);
	void (*use_queues)(void *ctx, unsigned count);
	/* Frees ctx. Returns once it delivers no more. */
	void (*close)(void *ctx);
};

struct vc_pcap;

/* One direction's counters. Each has one writer at a time. */
struct vc_net_count {
	_Atomic uint64_t frames, bytes, dropped;
};

struct vc_net_queue {
	struct vc_net *net;
	struct vc_net_count tx, rx;
	/*
	 * Held while the user receives: deliveries of one queue do not overlap, and vc_net_stop() waits for them. Protects
	 * rx_scratch, and rx against a second writer.
	 */
	pthread_mutex_t receiving;
	_Atomic bool waiting;             /* frames are kept back until there is room */
	uint8_t *tx_scratch, *rx_scratch; /* VC_NET_FRAME_MAX each, for vc_net_plain() */
};

struct vc_net {
	struct vc_env *env;
	struct vc_net_user user;
	const struct vc_net_kind *kind;
	struct vc_pcap *pcap; /* NULL: no capture */
	_Atomic bool running; /* changes with all queues' `receiving` held */
	/* Set by the kind's open. */
	const struct vc_net_ops *ops;
	void *ctx;
	uint32_t native;    /* VC_NET_*: work that it can pass on undone */
	uint32_t rx_queues; /* on how many it delivers */
	_Atomic bool carrier;

	_Atomic bool cable;        /* vc_net_set_link() */
	_Atomic uint32_t offloads; /* of the guest */
	struct vc_net_queue queues[];
};

/*
 * Frames for the guest; from any thread. Returns how many are done with. keep: the others stay with the caller, whose
 * resume is called; else they are dropped, and all are done with. Before start and after stop all are dropped.
 */
unsigned vc_net_deliver(struct vc_net *net, unsigned queue, const struct vc_net_frame *frames, unsigned count,
                        bool keep);
void vc_net_set_carrier(struct vc_net *net, bool up);

/* Whether the header fits the frame as far as can be said without a look into it. */
static inline bool vc_net_hdr_valid(const struct vc_net_frame *frame)
{
	const struct vc_net_hdr *hdr = &frame->hdr;
	uint8_t type = hdr->gso_type & (uint8_t)~NET_GSO_ECN;

	if (frame->length < ETH_HEADER || frame->length > VC_NET_FRAME_MAX)
		return false;
	if (hdr->flags & NET_HDR_NEEDS_CSUM && hdr->csum_start + hdr->csum_offset + 2u > frame->length)
		return false;
	return !hdr->gso_type || (hdr->flags & NET_HDR_NEEDS_CSUM && hdr->gso_size && type <= NET_GSO_UDP_L4 &&
	                          (type == NET_GSO_TCPV4 || type >= NET_GSO_UDP));
}

/* Capture: pcap.c. */
int vc_pcap_open(const char *path, struct vc_pcap **pcap);
void vc_pcap_close(struct vc_pcap *pcap); /* NULL is allowed */
void vc_pcap_write(struct vc_pcap *pcap, const struct vc_net_frame *frames, unsigned count);

extern const struct vc_net_kind vc_net_none_kind, vc_net_socket_kind, vc_net_switch_kind, vc_net_tap_kind,
    vc_net_user_kind;

#endif
