/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Registers of real devices that other real devices of the same vm can be let reach by DMA (peer to peer): who has
 * which, where the guest has them, and who is to be told.
 */
#ifndef VC_PASSTHROUGH_PEERS_H
#define VC_PASSTHROUGH_PEERS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define VC_PEER_REGISTERS_MAX 60u

struct vc_peer_registers {
	uint64_t gpa, length; /* multiples of 4096 */
	void *hva;
	uint32_t flags; /* VC_PHYSICAL_READ, _WRITE */
};

struct vc_peers {
	pthread_mutex_t lock; /* held over every change, with what is told of it; protects first */
	struct vc_peer *first;
	pthread_mutex_t list_lock; /* protects registers and count of all, and first, which is written with both */
	_Atomic uint64_t version;  /* grows with every change of registers */
};

/* Embedded in its owner's struct; constant while it has joined but for next, count and registers. */
struct vc_peer {
	const char *name;
	void *ctx;
	/* What others may reach of it now: how many. With vc_peers.lock held. */
	unsigned (*list)(void *ctx, struct vc_peer_registers registers[VC_PEER_REGISTERS_MAX]);
	/* Those of others are other ones: what is gone must not be reached any more when it returns. With vc_peers.lock
	 * held. NULL: it reaches none. */
	void (*changed)(void *ctx);
	bool joined;
	struct vc_peer *next;
	unsigned count;
	struct vc_peer_registers registers[VC_PEER_REGISTERS_MAX];
};

void vc_peers_init(struct vc_peers *peers);
/* All have left. */
void vc_peers_fini(struct vc_peers *peers);
/* At first it has no registers. */
void vc_peers_join(struct vc_peers *peers, struct vc_peer *peer);
/* Nothing of it is called when this returns. One that has not joined: nothing. */
void vc_peers_leave(struct vc_peers *peers, struct vc_peer *peer);
/* Ask it for its list, and tell the others. One that has not joined: nothing. */
void vc_peers_update(struct vc_peers *peers, struct vc_peer *peer);
/* Registers of all but this one, with the name of whose they are; an error ends it. Any thread. */
int vc_peers_each(struct vc_peers *peers, const struct vc_peer *but,
                  int (*fn)(void *ctx, const char *name, const struct vc_peer_registers *registers), void *ctx);

#endif
