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
	bool flooded;           /* they go to others as well */
	unsigned count, vectors;
	struct vc_net_frame frames[SWITCH_BATCH];
	unsigned index[SWITCH_BATCH]; /* which of the sender's each is */
	struct iovec iov[SWITCH_VECTORS];
	uint8_t headers[SWITCH_BATCH][ETH_HEADER + ETH_TAG_LENGTH];
};

struct switch_queue {
	struct switch_port *port;
	/* of who sends on this queue */
	struct vc_pass pass;
	struct switch_batch batch;
	_Atomic uint32_t held;  /* who sends waits for room at port held - 1; 0: it does not wait */
	struct vc_timer *timer; /* has it try again at the latest */
	/*
	 * As a receiver: what time its senders may wait for it. It is used up while they do, and comes back at half the
	 * speed, so that a guest that takes little keeps others waiting for a third of the time at the most.
	 */
	_Atomic bool full;
	pthread_mutex_t credit_lock; /* protects the next two, and changes of full */
	uint64_t credit, credit_at;  /* ns */
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
	uint64_t hold; /* ns that senders wait for room here; 0: frames are dropped at once. Constant */
	uint32_t queue_count;
	struct switch_queue queues[];
};

static inline bool switch_port_in_vlan(const struct switch_port *port, uint16_t vlan)
{
	return vlan == port->vlan || port->tagged[vlan / 64] >> (vlan % 64) & 1;
}

/* switch.c: as vc_net_ops.offer */
unsigned switch_forward(struct switch_port *from, unsigned queue, const struct vc_net_frame *frames, unsigned count,
                        bool may_hold);

/* switch_hold.c: senders that wait for a receiver without room. */
int switch_hold_init(struct switch_queue *q, struct switch_port *port);
void switch_hold_fini(struct switch_queue *q);
/* The receiver has refused a frame: how long may its senders wait? Inside the gate, as the next two. */
uint64_t switch_may_hold(struct switch_queue *receiver, uint64_t now_ns);
/* The receiver has taken frames. */
void switch_has_taken(struct switch_queue *receiver, uint64_t now_ns);
/* From now on who sends on q waits for that port, whose queue it is; so long at the most. */
void switch_hold(struct switch_queue *q, struct switch_port *to, unsigned queue, uint64_t ns);
/* Those that wait for a port try again. Caller holds the switch's lock, or the port is gone from it. */
void switch_release(struct vcore_switch *sw, const struct switch_port *to);

#endif
