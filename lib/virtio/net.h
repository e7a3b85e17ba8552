/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside virtio-net (5.1): the device (net.c), its queues (net_rx.c, net_tx.c, net_control.c), flows (net_rss.c). */
#ifndef VC_VIRTIO_NET_H
#define VC_VIRTIO_NET_H

#include <pthread.h>

#include "core/error.h"
#include "core/util.h"
#include "net/net.h"
#include "virtio/served.h"

/* Feature bits (5.1.3) */
#define VNET_F_CSUM           (1ull << 0)
#define VNET_F_GUEST_CSUM     (1ull << 1)
#define VNET_F_CTRL_OFFLOADS  (1ull << 2)
#define VNET_F_MTU            (1ull << 3)
#define VNET_F_MAC            (1ull << 5)
#define VNET_F_GUEST_TSO4     (1ull << 7)
#define VNET_F_GUEST_TSO6     (1ull << 8)
#define VNET_F_GUEST_ECN      (1ull << 9)
#define VNET_F_GUEST_UFO      (1ull << 10)
#define VNET_F_HOST_TSO4      (1ull << 11)
#define VNET_F_HOST_TSO6      (1ull << 12)
#define VNET_F_HOST_ECN       (1ull << 13)
#define VNET_F_HOST_UFO       (1ull << 14)
#define VNET_F_MRG_RXBUF      (1ull << 15)
#define VNET_F_STATUS         (1ull << 16)
#define VNET_F_CTRL_VQ        (1ull << 17)
#define VNET_F_CTRL_RX        (1ull << 18)
#define VNET_F_CTRL_VLAN      (1ull << 19)
#define VNET_F_CTRL_RX_EXTRA  (1ull << 20)
#define VNET_F_GUEST_ANNOUNCE (1ull << 21)
#define VNET_F_MQ             (1ull << 22)
#define VNET_F_CTRL_MAC       (1ull << 23)
#define VNET_F_GUEST_USO4     (1ull << 54)
#define VNET_F_GUEST_USO6     (1ull << 55)
#define VNET_F_HOST_USO       (1ull << 56)
#define VNET_F_HASH_REPORT    (1ull << 57)
#define VNET_F_RSS            (1ull << 60)

/* What GUEST_OFFLOADS_SET may name. */
#define VNET_GUEST_OFFLOADS                                                                            \
	(VNET_F_GUEST_CSUM | VNET_F_GUEST_TSO4 | VNET_F_GUEST_TSO6 | VNET_F_GUEST_ECN | VNET_F_GUEST_UFO | \
	 VNET_F_GUEST_USO4 | VNET_F_GUEST_USO6)

enum {
	VNET_PAIRS_MAX = 32,
	VNET_MACS_MAX = 64,
	VNET_VLANS = 4096,
	VNET_KEY_MAX = 40,
	VNET_TABLE_MAX = 128,
	VNET_HASHED_MAX = 36,   /* bytes: two IPv6 addresses and two ports */
	VNET_HASH_TYPES = 0x3f, /* IPv4, TCPv4, UDPv4, IPv6, TCPv6, UDPv6 (5.1.6.4.3.1) */

	VNET_HEADER = 12,
	VNET_HEADER_LEGACY = 10, /* (5.1.6.1) */
	VNET_HEADER_HASH = 20,

	VNET_S_LINK_UP = 1,
	VNET_S_ANNOUNCE = 2,
};

/* Configuration space (5.1.4) */
struct vnet_config {
	uint8_t mac[6];
	uint16_t status, pairs, mtu;
	uint32_t speed;
	uint8_t duplex, key_max;
	uint16_t table_max;
	uint32_t hash_types;
} __attribute__((packed));

/* Modes of reception (5.1.6.5.1), as bits. */
enum {
	VNET_PROMISC = 1 << 0,
	VNET_ALLMULTI = 1 << 1,
	VNET_ALLUNI = 1 << 2,
	VNET_NOMULTI = 1 << 3,
	VNET_NOUNI = 1 << 4,
	VNET_NOBCAST = 1 << 5,
	VNET_RX_MODES = 0x3f,
};

/* What the driver has set by the control queue: all of it is saved. Numbers are checked where they come in. */
struct vnet_control {
	uint8_t mac[6];
	uint8_t rx_modes;
	uint8_t announce; /* 0 or 1: the driver is asked to */
	uint16_t pairs;   /* in use */
	/* The first unicast entries of macs are unicast addresses, the next multicast. 1 in *_all: there were too many. */
	uint8_t unicast, multicast, unicast_all, multicast_all;
	uint8_t macs[VNET_MACS_MAX][6];
	uint64_t vlans[VNET_VLANS / 64];
	uint64_t offloads; /* of VNET_GUEST_OFFLOADS */
	/* RSS and hash reports */
	uint32_t hash_types;
	uint8_t rss; /* 0 or 1: the table says where frames go */
	uint8_t key_length;
	uint16_t table_mask, unclassified;
	uint16_t table[VNET_TABLE_MAX];
	uint8_t key[VNET_KEY_MAX];
};

/* Toeplitz hashing of one key: what each value of each byte adds. */
struct vnet_toeplitz {
	uint32_t of[VNET_HASHED_MAX][256];
};

struct vnet_pair {
	/* The receiving queue's user: several queues of the backing may lead here. After vnet.lock */
	pthread_mutex_t rx_lock;
	struct vc_virtq *rx;                 /* NULL: the driver has not set it up; constant while the backing runs */
	_Atomic uint64_t too_long, filtered; /* frames */
};

struct vnet {
	struct vc_env *env;
	struct vc_net *net;
	struct vc_kernel *kernel;      /* serves the queues but that of control; NULL: we do */
	uint32_t native;               /* kernel: VC_NET_* that the backing takes from it */
	_Atomic(struct vc_virtio *) v; /* NULL while it is being made */
	uint32_t pairs;
	uint16_t mtu; /* 0: not told */

	/* constant while the driver runs */
	uint32_t header, control_queue;
	bool merge;
	uint32_t tx_offloads; /* VC_NET_* that the driver may ask for */

	/*
	 * Protects mac, control and toeplitz. Written by the control queue's worker, and while the device is stopped.
	 * Frames are received with it held for reading: never held where the backing is called.
	 */
	pthread_rwlock_t lock;
	uint8_t mac[6]; /* of the card: the driver's when it is reset */
	bool renewed;   /* the card's is another one than the driver has; it is told that one */
	struct vnet_control control;
	struct vnet_toeplitz toeplitz;
	struct vnet_pair pair[];
};

/* Of a device of that type: its backing. */
struct vc_net *vnet_backing(void *frontend);

/* net.c: property mac, or a random address. */
int vnet_read_mac(struct vc_props *props, uint8_t mac[6]);
/*
 * Another address for a device of that type; NULL: a random one, locally administered. The driver that runs finds it in
 * the configuration space and goes on with its own until it is reset or sets one: frames for that are still let in. Any
 * thread. 0 or -errno
 */
int vnet_set_mac(void *frontend, const uint8_t *mac);
/* Make the backing do as `control` says. */
void vnet_apply(struct vnet *n);

/* net_tx.c, net_rx.c, net_control.c */
void vnet_send(struct vnet *n, struct vc_virtq *q);
void vnet_sendable(void *ctx, unsigned queue);
unsigned vnet_receive(void *ctx, unsigned queue, const struct vc_net_frame *frames, unsigned count);
void vnet_serve_control(struct vnet *n, struct vc_virtq *q);
/* One command, copied out of guest memory, of at least 2 bytes; false: refused, nothing has changed. */
bool vnet_command(struct vnet *n, uint64_t features, const uint8_t *text, uint32_t length);
/* As a driver finds it that has just negotiated these features. */
void vnet_control_reset(struct vnet *n, uint64_t features);
/* Whether saved state can be: every number in it within bounds. */
bool vnet_control_valid(const struct vnet *n, const struct vnet_control *c);

/* net_rss.c */
struct vnet_hash {
	uint32_t value;
	uint16_t report; /* what it was made of (5.1.6.4.4); 0: none */
};
void vnet_toeplitz_set(struct vnet_toeplitz *t, const uint8_t *key, unsigned length);
/* Over a frame whose first bytes are given. */
struct vnet_hash vnet_hash(const struct vnet_toeplitz *t, uint32_t types, const uint8_t *head, uint32_t length);

#endif
