/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Split virtqueues (2.7). */
#include <errno.h>

#include "virtio/queue.h"

/* Both rings: flags, index, entries, event index. */
enum { RING_FLAGS = 0, RING_INDEX = 2, RING_ENTRIES = 4, NO_NOTIFY = 1, NO_INTERRUPT = 1 };

static uint32_t area_length(uint32_t size, enum vc_area_kind kind)
{
	static const uint8_t entry[VC_AREA_COUNT] = {VC_DESC_BYTES, 2, 8};

	return size * entry[kind] + (kind == VC_AREA_DESC ? 0 : RING_ENTRIES + 2);
}

static uint8_t *avail_at(const struct vc_virtq *q, uint32_t at)
{
	return q->areas[VC_AREA_DRIVER].hva + at;
}

static uint8_t *used_at(const struct vc_virtq *q, uint32_t at)
{
	return q->areas[VC_AREA_DEVICE].hva + at;
}

static int available(struct vc_virtq *q)
{
	uint16_t index;

	if (q->avail != q->seen)
		return 1;
	index = vc_ring_ld16(avail_at(q, RING_INDEX));
	if (vc_unlikely((uint16_t)(index - q->avail) > q->size)) {
		vc_virtio_broken(q->v, "queue %u: available index jumps from %u to %u in a ring of %u", q->index, q->avail,
		                 index, q->size);
		return -EPROTO;
	}
	q->seen = index;
	return q->avail != index;
}

int vc_split_read_chain(struct vc_virtq *q, struct vc_chain *chain, uint16_t head)
{
	const uint8_t *table = q->areas[VC_AREA_DESC].hva;
	uint32_t at = head;
	int r;

	for (uint32_t n = 1; at < q->size; n++) {
		const uint8_t *p = table + at * VC_DESC_BYTES;
		uint64_t rest = vc_guest_ld64(p + 8);
		struct vc_desc desc = {vc_guest_ld64(p), (uint32_t)rest, (uint16_t)(rest >> 32)};

		if (vc_unlikely(n > q->size)) {
			vc_virtio_broken(q->v, "queue %u: the chain at %u has more than %u descriptors", q->index, head, q->size);
			return -EPROTO;
		}
		chain->descs = (uint16_t)n;
		r = desc.flags & VC_DESC_INDIRECT ? vc_chain_add_indirect(q, chain, &desc) : vc_chain_add(q, chain, &desc);
		if (r < 0 || !(desc.flags & VC_DESC_NEXT))
			return r;
		at = (uint16_t)(rest >> 48);
	}
	vc_virtio_broken(q->v, "queue %u: the chain at %u refers to descriptor %u of %u", q->index, head, at, q->size);
	return -EPROTO;
}

static int pop(struct vc_virtq *q, struct vc_chain *chain)
{
	uint32_t slot = q->avail & (q->size - 1u);
	int r;

	chain->position = q->avail;
	chain->id = vc_ring_ld16(avail_at(q, RING_ENTRIES + 2 * slot));
	r = vc_split_read_chain(q, chain, chain->id);
	if (r >= 0)
		q->avail++;
	return r;
}

static void push(struct vc_virtq *q, const struct vc_chain *chain, uint32_t written)
{
	uint8_t *entry = used_at(q, RING_ENTRIES + 8 * (q->used & (q->size - 1u)));

	vc_st64(entry, chain->id | (uint64_t)written << 32);
	q->used++;
	q->unshown++;
}

/* The entries that were filled since the last flush, and the index. */
static void wrote_used(const struct vc_virtq *q)
{
	const struct vc_area *area = &q->areas[VC_AREA_DEVICE];
	uint32_t first = q->shown & (q->size - 1u), count = q->unshown < q->size ? q->unshown : q->size;
	uint32_t head = count < q->size - first ? count : q->size - first;

	vc_area_wrote(area, RING_ENTRIES + 8 * first, 8 * head);
	vc_area_wrote(area, RING_ENTRIES, 8 * (count - head));
	vc_area_wrote(area, RING_INDEX, 2);
}

static bool flush(struct vc_virtq *q)
{
	uint16_t old = q->shown;

	vc_ring_st16(used_at(q, RING_INDEX), q->used);
	wrote_used(q);
	q->shown = q->used;
	q->unshown = 0;
	atomic_thread_fence(memory_order_seq_cst); /* the index is seen before we look whether the driver sleeps */
	if (q->event_idx)
		return vc_need_event(vc_ring_ld16(avail_at(q, RING_ENTRIES + 2u * q->size)), q->used, old);
	return !(vc_ring_ld16(avail_at(q, RING_FLAGS)) & NO_INTERRUPT);
}

static void set_notify(struct vc_virtq *q, bool on)
{
	uint32_t at = q->event_idx ? RING_ENTRIES + 8u * q->size : RING_FLAGS;

	/* with event indices the one that was asked for last lies behind: that is as good as off */
	if (q->event_idx && !on)
		return;
	vc_ring_st16(used_at(q, at), q->event_idx ? q->avail : on ? 0 : NO_NOTIFY);
	vc_area_wrote(&q->areas[VC_AREA_DEVICE], at, 2);
}

const struct vc_ring_ops vc_split_ops = {
    .area_length = area_length,
    .align = {16, 2, 4},
    .written = {false, false, true},
    .available = available,
    .pop = pop,
    .push = push,
    .flush = flush,
    .set_notify = set_notify,
};
