/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside of the switch: ports and VLANs (switch_port.c), the path of a frame (switch.c), names (switch_names.c). */
#ifndef VC_NET_SWITCH_H
#define VC_NET_SWITCH_H

#include <pthread.h>
#include <virtcore/switch.h>

#include "core/gate.h"
#include "net/mac_table.h"
#include "net/net_priv.h"
#include "net/switch_names.h"

enum {
	SWITCH_PORTS_MAX = MAC_TABLE_PORTS,
	SWITCH_FILTER_MAX = 64,
	SWITCH_BATCH = 64,
	SWITCH_VECTORS = 1024 + SWITCH_BATCH, /* one frame of a full chain fits */
	SWITCH_VLANS = 4096,
};

struct vcore_switch {
	_Atomic uint32_t refs;
	/*
	 * Whoever forwards frames is inside. Ports and their filters change in an exclusive section.
	 */
	struct vc_gate gate;
	pthread_mutex_t lock; /* also held where `ports` changes: protects it for those who only look. Before the gate */
	struct switch_port *ports[SWITCH_PORTS_MAX];
	uint32_t port_end; /* no port from here on */
	struct vc_mac_table table;
};

/* Frames on their way to one port: with a copy of the header that was looked at, the rest still where the sender has
 * it.
 */
struct switch_batch {
	struct switch_port *to; /* NULL: it is empty */
	unsigned count, vectors;
	struct vc_net_frame frames[SWITCH_BATCH];
	struct iovec iov[SWITCH_VECTORS];
	uint8_t headers[SWITCH_BATCH][ETH_HEADER + ETH_TAG_LENGTH];
};

struct switch_queue {
	struct vc_pass pass;
	struct switch_batch batch; /* of who sends on this queue */
};

struct switch_port {
	struct vcore_switch *sw;
	struct vc_net *net;
	uint32_t index;
	/* These change in an exclusive section. */
	uint16_t vlan;                      /* of untagged frames; constant */
	uint64_t tagged[SWITCH_VLANS / 64]; /* bitmap of those that go in and out with a tag */
	bool promiscuous, all_multicast;
	uint32_t filter_count;
	uint64_t filter[SWITCH_FILTER_MAX]; /* addresses as in vc_mac_key, VLAN 0 */

	pthread_mutex_t storm_lock; /* protects the next three */
	uint64_t storm_rate;        /* flooded frames a second that may come in; 0: any number */
	uint64_t storm_tokens;
	uint64_t storm_at; /* ns */
	_Atomic uint64_t in_dropped;
	uint32_t queue_count;
	struct switch_queue queues[];
};

static inline bool switch_port_in_vlan(const struct switch_port *port, uint16_t vlan)
{
	return vlan == port->vlan || port->tagged[vlan / 64] >> (vlan % 64) & 1;
}

/* switch.c */
void switch_forward(struct switch_port *from, unsigned queue, const struct vc_net_frame *frames, unsigned count);

#endif
