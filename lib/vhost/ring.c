/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vhost/ring.h"

#include <stdlib.h>

#include "core/error.h"
#include "virtio/queue.h"

/* Both rings: flags, index, entries, event index (2.7.6, 2.7.8). */
enum { RING_FLAGS = 0, RING_INDEX = 2, RING_ENTRIES = 4, NO_NOTIFY = 1, NONE = 0xffff };

static uint32_t desc_bytes(uint32_t size)
{
	return size * VC_DESC_BYTES;
}

static uint32_t avail_bytes(uint32_t size)
{
	return VC_ALIGN_UP(RING_ENTRIES + 2 * size + 2, 16u);
}

static uint32_t used_bytes(uint32_t size)
{
	return RING_ENTRIES + 8 * size + 2;
}

uint64_t vc_vhost_ring_bytes(uint32_t size)
{
	return VC_ALIGN_UP((uint64_t)desc_bytes(size) + avail_bytes(size) + used_bytes(size), VC_PAGE_SIZE);
}

static void rewind_ring(struct vc_vhost_ring *ring)
{
	memset(ring->desc, 0, vc_vhost_ring_bytes(ring->size));
	ring->shown = ring->taken = ring->kicked = 0;
	ring->free = (uint16_t)ring->size;
	ring->free_head = 0;
	ring->in_flight = 0;
	for (uint32_t i = 0; i < ring->size; i++) {
		ring->next[i] = (uint16_t)(i + 1 < ring->size ? i + 1 : NONE);
		ring->heads[i].chain = NULL;
	}
}

void vc_vhost_ring_init(struct vc_vhost_ring *ring, uint32_t size, uint8_t *memory)
{
	ring->size = size;
	ring->desc = memory;
	ring->avail = memory + desc_bytes(size);
	ring->used = ring->avail + avail_bytes(size);
	rewind_ring(ring);
}

void vc_vhost_ring_clear(struct vc_vhost_ring *ring)
{
	rewind_ring(ring);
}

/* ---- giving chains to the back-end ---- */

static void put_desc(struct vc_vhost_ring *ring, uint16_t at, uint64_t gpa, uint32_t length, uint16_t flags)
{
	uint8_t *desc = ring->desc + at * VC_DESC_BYTES;

	vc_st64(desc, gpa);
	vc_st64(desc + 8, length | (uint64_t)flags << 32 | (uint64_t)(flags & VC_DESC_NEXT ? ring->next[at] : 0) << 48);
}

/* The n-th piece of a chain. */
static const struct iovec *piece_of(const struct vc_virtq_chain *chain, uint32_t n)
{
	return n < chain->out_count ? &chain->out[n] : &chain->in[n - chain->out_count];
}

/* Into the free descriptors, in the order in which they are linked. */
static int fill(struct vc_vhost_ring *ring, const struct vc_vhost_table *table, const struct vc_virtq_chain *chain,
                uint16_t *after)
{
	uint32_t count = chain->out_count + chain->in_count;
	uint16_t at = ring->free_head;

	for (uint32_t n = 0; n < count; n++) {
		const struct iovec *piece = piece_of(chain, n);
		uint16_t flags = (uint16_t)((n >= chain->out_count ? VC_DESC_WRITE : 0) | (n + 1 < count ? VC_DESC_NEXT : 0));
		uint64_t gpa;

		if (!vc_vhost_table_gpa(table, piece->iov_base, piece->iov_len, &gpa))
			return -EFAULT;
		put_desc(ring, at, gpa, (uint32_t)piece->iov_len, flags);
		*after = at;
		at = ring->next[at];
	}
	return 0;
}

static void make_available(struct vc_vhost_ring *ring, struct vc_virtq_chain *chain, uint64_t sequence, uint16_t last)
{
	uint16_t head = ring->free_head;

	ring->free_head = ring->next[last];
	ring->next[last] = NONE;
	ring->free -= (uint16_t)(chain->out_count + chain->in_count);
	ring->heads[head].chain = chain;
	ring->heads[head].sequence = sequence;
	ring->in_flight++;
	vc_st16(ring->avail + RING_ENTRIES + 2 * (ring->shown & (ring->size - 1)), head);
	ring->shown++;
}

int vc_vhost_ring_put(struct vc_vhost_ring *ring, const struct vc_vhost_table *table, struct vc_virtq_chain *chain)
{
	uint32_t count = chain->out_count + chain->in_count;
	uint16_t last = NONE;
	int r;

	if (count > ring->size || !count)
		return -E2BIG;
	if (count > ring->free)
		return 0;
	r = fill(ring, table, chain, &last);
	if (r < 0)
		return r;
	make_available(ring, chain, ring->sequence++, last);
	return 1;
}

bool vc_vhost_ring_show(struct vc_vhost_ring *ring)
{
	uint16_t old = ring->kicked;

	if (old == ring->shown)
		return false;
	vc_ring_st16(ring->avail + RING_INDEX, ring->shown);
	ring->kicked = ring->shown;
	atomic_thread_fence(memory_order_seq_cst); /* the index is seen before we look whether the back-end sleeps */
	if (ring->event_idx)
		return vc_need_event(vc_ring_ld16(ring->used + RING_ENTRIES + 8 * ring->size), ring->shown, old);
	return !(vc_ring_ld16(ring->used + RING_FLAGS) & NO_NOTIFY);
}

/* ---- having them back ---- */

static void free_descs(struct vc_vhost_ring *ring, uint16_t head, uint32_t count)
{
	uint16_t last = head;

	while (ring->next[last] != NONE)
		last = ring->next[last];
	ring->next[last] = ring->free_head;
	ring->free_head = head;
	ring->free += (uint16_t)count;
}

/* Ask to be called at the next one; true: there is one already. */
static bool ask_call(struct vc_vhost_ring *ring)
{
	if (!ring->event_idx)
		return false;
	/* not a store and a fence, for which the thread sanitizer has no words: it is seen before we look again */
	atomic_exchange((_Atomic uint16_t *)(void *)(ring->avail + RING_ENTRIES + 2 * ring->size), ring->taken);
	return vc_ring_ld16(ring->used + RING_INDEX) != ring->taken;
}

int vc_vhost_ring_get(struct vc_vhost_ring *ring, struct vc_virtq_chain **chain, uint32_t *written)
{
	uint16_t index = vc_ring_ld16(ring->used + RING_INDEX);
	uint64_t entry;
	uint32_t id;

	if (index == ring->taken && !ask_call(ring))
		return 0;
	entry = vc_guest_ld64(ring->used + RING_ENTRIES + 8 * (ring->taken & (ring->size - 1)));
	id = (uint32_t)entry;
	if (id >= ring->size || !ring->heads[id].chain)
		return vc_fail(EPROTO, "the back-end uses a descriptor that is not in flight: %u of %u", id, ring->size);
	*chain = ring->heads[id].chain;
	*written = (uint32_t)(entry >> 32);
	if (*written > (*chain)->in_bytes)
		*written = (*chain)->in_bytes;
	ring->heads[id].chain = NULL;
	free_descs(ring, (uint16_t)id, (*chain)->out_count + (*chain)->in_count);
	ring->taken++;
	ring->in_flight--;
	return 1;
}

/* ---- another back-end ---- */

struct kept {
	struct vc_virtq_chain *chain;
	uint64_t sequence;
};

static int by_age(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;

	return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

void vc_vhost_ring_restart(struct vc_vhost_ring *ring, const struct vc_vhost_table *table, bool event_idx)
{
	struct kept kept[VC_VHOST_RING_MAX];
	uint32_t count = 0;

	for (uint32_t i = 0; i < ring->size; i++)
		if (ring->heads[i].chain)
			kept[count++] = (struct kept){ring->heads[i].chain, ring->heads[i].sequence};
	qsort(kept, count, sizeof kept[0], by_age);
	rewind_ring(ring);
	ring->event_idx = event_idx;
	for (uint32_t i = 0; i < count; i++) {
		uint16_t last = NONE;

		/* the slots are pinned by the chains; one that has left the map meanwhile makes its requests fail */
		if (fill(ring, table, kept[i].chain, &last) >= 0)
			make_available(ring, kept[i].chain, kept[i].sequence, last);
		else
			vc_virtq_push(kept[i].chain, 0);
	}
}
