/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A split virtqueue of our own making, on which a back-end serves chains that were popped from the guest's.
 *
 * The ring lies in memory that is shared with the back-end, which may write all over it: what is read from there is
 * checked, and what matters is kept here. No lock is taken.
 */
#ifndef VC_VHOST_RING_H
#define VC_VHOST_RING_H

#include "vhost/table.h"
#include "virtio/virtio.h"

enum { VC_VHOST_RING_MAX = 1024 };

struct vc_vhost_ring {
	uint32_t size; /* entries, a power of 2 */
	uint8_t *desc, *avail, *used;
	bool event_idx;
	uint16_t shown, taken, kicked; /* avail's index, used's, and the former at the last kick; free running */
	uint16_t free, free_head;      /* descriptors */
	uint32_t in_flight;            /* chains */
	uint64_t sequence;             /* of chains */
	uint16_t next[VC_VHOST_RING_MAX];
	struct {
		struct vc_virtq_chain *chain; /* that starts here; NULL: none does */
		uint64_t sequence;
	} heads[VC_VHOST_RING_MAX];
};

/* Bytes of shared memory that a ring of that size takes, a multiple of pages. */
uint64_t vc_vhost_ring_bytes(uint32_t size);
void vc_vhost_ring_init(struct vc_vhost_ring *ring, uint32_t size, uint8_t *memory);
/* For a back-end that is new to it: empty again, but that the chains in flight are put anew, the oldest first. */
void vc_vhost_ring_restart(struct vc_vhost_ring *ring, const struct vc_vhost_table *table, bool event_idx);
/* Nothing is in flight any more: whoever popped the chains has taken them back. */
void vc_vhost_ring_clear(struct vc_vhost_ring *ring);
/* 1; 0: no room for now; -EFAULT: it lies in memory that the back-end does not have; -E2BIG: there never is room. */
int vc_vhost_ring_put(struct vc_vhost_ring *ring, const struct vc_vhost_table *table, struct vc_virtq_chain *chain);
/* Show what was put; true: the back-end wants to be kicked. */
bool vc_vhost_ring_show(struct vc_vhost_ring *ring);
/* The next chain that the back-end is done with: 1; 0: none; -EPROTO with a sentence. */
int vc_vhost_ring_get(struct vc_vhost_ring *ring, struct vc_virtq_chain **chain, uint32_t *written);

#endif
