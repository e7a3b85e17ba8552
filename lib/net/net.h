/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Network backings: where a NIC's frames go to and come from. A frontend (virtio-net, e1000e) opens one and is its
 * user.
 *
 * A frame travels with a virtio_net_hdr (virtio 1.2, 5.1.6) that tells of checksums and segmentation still to be done.
 * Who has no use for that asks for plain frames by its offloads and gets only those: vc_net_plain() does the work in
 * software.
 */
#ifndef VC_NET_NET_H
#define VC_NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "chipset/chipset.h"
#include "core/props.h"

#define VC_NET_FRAME_MAX (65535u + 14 + 4) /* with segmentation offloads */

/* struct virtio_net_hdr, without num_buffers */
struct vc_net_hdr {
	uint8_t flags;    /* 1: NEEDS_CSUM, 2: DATA_VALID */
	uint8_t gso_type; /* 0 none, 1 TCPv4, 3 UDP, 4 TCPv6, 5 UDP_L4; | 0x80 ECN */
	uint16_t hdr_len, gso_size, csum_start, csum_offset;
};

struct vc_net_frame {
	struct vc_net_hdr hdr;
	const struct iovec *iov; /* host memory, from the Ethernet header on; may be another guest's: read once */
	unsigned iov_count;
	uint32_t length; /* bytes in iov */
};

/* What the receiver of frames can take beyond plain ones of 1518 bytes. */
#define VC_NET_CSUM (1u << 0) /* NEEDS_CSUM: partial checksums */
#define VC_NET_TSO4 (1u << 1)
#define VC_NET_TSO6 (1u << 2)
#define VC_NET_ECN  (1u << 3)
#define VC_NET_UFO  (1u << 4)
#define VC_NET_USO  (1u << 5)

/* May who takes `can_take` (VC_NET_*) have a frame with that header? Else vc_net_plain() comes before. */
static inline bool vc_net_passes(const struct vc_net_hdr *hdr, uint32_t can_take)
{
	static const uint32_t gso[8] = {[1] = VC_NET_TSO4, [3] = VC_NET_UFO, [4] = VC_NET_TSO6, [5] = VC_NET_USO};
	uint32_t need;

	if (!hdr->flags && !hdr->gso_type)
		return true;
	need = VC_NET_CSUM | gso[hdr->gso_type & 7] | (hdr->gso_type & 0x80 ? VC_NET_ECN : 0);
	return (can_take & need) == need;
}

/* The frontend, as its backing sees it. Any thread, no lock held; calls for one queue do not overlap. */
struct vc_net_user {
	/*
	 * Frames for the guest, in order. Returns how many were taken; fewer: there is no room. The backing then either
	 * drops the rest (switch) or keeps them and waits for vc_net_room(). The memory is the backing's, valid during the
	 * call.
	 */
	unsigned (*receive)(void *ctx, unsigned queue, const struct vc_net_frame *frames, unsigned count);
	/* vc_net_send() on that queue may take more now. Does not block, and calls nothing of vc_net. NULL: never asked
	 * for. */
	void (*sendable)(void *ctx, unsigned queue);
	/* The carrier came or went. NULL allowed. */
	void (*link)(void *ctx, bool up);
	void *ctx;
	uint32_t queues;
	uint8_t mac[6]; /* as configured: hints for a switch */
};

struct vc_net;
/*
 * spec: properties of the NIC whose keys the backing knows; "net" names the kind ("user", "tap", "socket", "switch",
 * "none"). The user is copied. 0 or -errno with a message. Nothing is delivered before vc_net_start().
 */
int vc_net_open(struct vc_env *env, struct vc_props *props, const struct vc_net_user *user, struct vc_net **net);
/* Returns once no callback of the user runs. NULL is allowed. */
void vc_net_close(struct vc_net *net);
void vc_net_start(struct vc_net *net);
/* As close, but it can be started again. No vc_net_room() or vc_net_send() runs meanwhile. */
void vc_net_stop(struct vc_net *net);

/*
 * Frames from the guest; returns how many are done with. Those the backing cannot take are dropped, as on a wire; but
 * where a user has `sendable` a switch leaves the last ones to be sent again for a while, and tells when. Any thread;
 * one at a time a queue.
 */
unsigned vc_net_send(struct vc_net *net, unsigned queue, const struct vc_net_frame *frames, unsigned count);
/* There is room for received frames again. */
void vc_net_room(struct vc_net *net, unsigned queue);
/* What the guest can take (VC_NET_*), and so what the backing may deliver. Before start: none. */
void vc_net_set_offloads(struct vc_net *net, uint32_t offloads);
/* What the backing can take from the guest: what it offers the driver as device features. Never less than none. */
uint32_t vc_net_offloads(const struct vc_net *net);
/* On how many of the user's queues it delivers, from 0 on. Sent may be on all of them. */
uint32_t vc_net_max_queues(const struct vc_net *net);
bool vc_net_link(const struct vc_net *net);
/* The administrator pulls the cable (monitor): no frame passes. */
void vc_net_set_link(struct vc_net *net, bool up);
/* Which frames the guest wants at all: a switch need not send others. count 0 and promiscuous false: broadcast only. */
void vc_net_set_filter(struct vc_net *net, bool promiscuous, bool all_multicast, const uint8_t (*macs)[6],
                       unsigned count);

/*
 * What somebody else, such as the kernel's vhost, may have the frames from: a descriptor a queue, which stay the
 * backing's; has_header: a virtio_net_hdr of 12 bytes will go before each frame; *native: VC_NET_*, what it takes from
 * the guest then. -ENOTSUP with a sentence: it has no such descriptors.
 */
int vc_net_descriptors(struct vc_net *net, int *fds, bool *has_header, uint32_t *native);
/* They are somebody else's now, for good, in place of start; offloads and the queues in use are told still. */
int vc_net_lend(struct vc_net *net);
/* Of a lent backing: frames come on the first so many queues alone. */
void vc_net_use_queues(struct vc_net *net, unsigned count);

struct vc_net_counters {
	uint64_t tx_frames, tx_bytes, tx_dropped, rx_frames, rx_bytes, rx_dropped;
};
void vc_net_get_counters(const struct vc_net *net, struct vc_net_counters *counters);

/* Kinds: a file and a row each in kinds.c. */
struct vc_net_kind {
	const char *name, *summary;
	int (*open)(struct vc_env *env, struct vc_props *props, struct vc_net *net);
};
extern const struct vc_net_kind *const vc_net_kinds[]; /* NULL-terminated */

/* The help of every NIC has this: the properties that vc_net_open() reads. */
#define VC_NET_PROPERTIES                                                                                    \
	"net         where frames go: none, switch, socket, tap, user (none)\n"                                  \
	"pcap        file that all frames are written to\n"                                                      \
	"switch      switch: its name, as the vm knows it\n"                                                     \
	"vlan        switch: VLAN of untagged frames (1); alone, an access port\n"                               \
	"trunk       switch: VLANs that pass tagged: all, none, 10:20-29 (all; with vlan: none)\n"               \
	"storm       switch: broadcast, multicast and unknown frames a second that may come in (any number)\n"   \
	"hold        switch: ms that senders wait when this card has no room, before frames are dropped (10)\n"  \
	"socket      socket: the peer's address, unix:PATH or tcp:HOST:PORT with a numeric host\n"               \
	"listen      socket: on: wait there for the peer (off)\n"                                                \
	"local       socket: path of our own end: Unix datagrams\n"                                              \
	"reconnect   socket: milliseconds until a lost peer is called again (1000; 0: never)\n"                  \
	"fd          socket, tap: descriptors of what is connected already: 3, or 3:4 for the queues of a tap\n" \
	"ifname      tap: name of the interface, made where it does not exist (the kernel's choice)\n"           \
	"bridge      tap: bridge that it becomes a port of\n"                                                    \
	"vnet_hdr    tap: off: without offloads (on)\n"                                                          \
	"hostfwd     user: ports of the host that lead to the guest, tcp:127.0.0.1:2222-:22;udp:...\n"           \
	"restrict    user: on: the guest reaches nothing but what is forwarded (off)\n"                          \
	"subnet      user: .2 is the router, .3 the name server, .15 the guest (10.0.2.0/24)\n"                  \
	"hostname    user: what DHCP calls the guest\n"                                                          \
	"ipv6        user: off: IPv4 alone (on)\n"

/*
 * Turn a frame with work left to be done into plain ones: checksum filled in, segmented. each is called for every one,
 * in order. False: the header contradicts the frame, which is to be dropped. scratch: VC_NET_FRAME_MAX bytes.
 */
bool vc_net_plain(const struct vc_net_frame *frame, uint32_t can_take, uint8_t *scratch,
                  void (*each)(void *ctx, const struct vc_net_frame *plain), void *ctx);

#endif
