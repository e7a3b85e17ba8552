/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Packed virtqueues (2.8). */
#include <errno.h>

#include "virtio/queue.h"

/* A descriptor's last 8 bytes: length, buffer ID, flags. The event suppression areas: offset and wrap counter, flags.
 */
enum { DESC_REST = 8, DESC_FLAGS = 14, EVENT_OFFSET = 0, EVENT_FLAGS = 2, AREA_BYTES = 4 };
enum { EVENT_ENABLE = 0, EVENT_DISABLE = 1, EVENT_DESC = 2, EVENT_WRAP = 1 << 15 };

static uint32_t area_length(uint32_t size, enum vc_area_kind kind)
{
	return kind == VC_AREA_DESC ? size * VC_DESC_BYTES : AREA_BYTES;
}

static uint8_t *desc_at(const struct vc_virtq *q, uint32_t at)
{
	return q->areas[VC_AREA_DESC].hva + at * VC_DESC_BYTES;
}

/* Does a descriptor with these flags belong to the device, in a lap with that wrap counter? */
static bool is_available(uint16_t flags, bool wrap)
{
	return !!(flags & VC_DESC_AVAIL) == wrap && !!(flags & VC_DESC_USED) != wrap;
}

static int available(struct vc_virtq *q)
{
	return is_available(vc_ring_ld16(desc_at(q, q->avail) + DESC_FLAGS), q->avail_wrap);
}

static void advance(uint16_t *at, bool *wrap, uint16_t size, uint16_t count)
{
	*at += count;
	if (*at >= size) {
		*at -= size;
		*wrap = !*wrap;
	}
}

static int fail_chain(struct vc_virtq *q, const struct vc_chain *chain, const char *what)
{
	vc_virtio_broken(q->v, "queue %u: the chain at %u of %u %s", q->index, chain->position, q->size, what);
	return -EPROTO;
}

static int pop(struct vc_virtq *q, struct vc_chain *chain)
{
	uint16_t at = q->avail;
	bool wrap = q->avail_wrap;
	struct vc_desc desc;

	chain->position = at;
	chain->position_wrap = wrap;
	do {
		const uint8_t *p = desc_at(q, at);
		uint64_t rest = vc_guest_ld64(p + DESC_REST);
		int r;

		desc = (struct vc_desc){vc_guest_ld64(p), (uint32_t)rest, (uint16_t)(rest >> 48)};
		if (vc_unlikely(chain->descs == q->size))
			return fail_chain(q, chain, "has more descriptors than the ring");
		if (vc_unlikely(!is_available(desc.flags, wrap)))
			return fail_chain(q, chain, "goes on with a descriptor that is not available");
		r = desc.flags & VC_DESC_INDIRECT ? vc_chain_add_indirect(q, chain, &desc) : vc_chain_add(q, chain, &desc);
		if (r < 0)
			return r;
		chain->descs++;
		chain->id = (uint16_t)(rest >> 32); /* the last one's counts */
		advance(&at, &wrap, q->size, 1);
	} while (desc.flags & VC_DESC_NEXT);
	q->avail = at;
	q->avail_wrap = wrap;
	return 0;
}

static void push(struct vc_virtq *q, const struct vc_chain *chain, uint32_t written)
{
	uint16_t flags = (uint16_t)((q->used_wrap ? VC_DESC_AVAIL | VC_DESC_USED : 0) | (written ? VC_DESC_WRITE : 0));
	uint8_t *p = desc_at(q, q->used);

	vc_st32(p + DESC_REST, written);
	vc_st16(p + DESC_REST + 4, chain->id);
	vc_ring_st16(p + DESC_FLAGS, flags);
	advance(&q->used, &q->used_wrap, q->size, chain->descs);
	q->unshown += chain->descs;
}

static void wrote_used(const struct vc_virtq *q)
{
	const struct vc_area *area = &q->areas[VC_AREA_DESC];
	uint32_t count = q->unshown < q->size ? q->unshown : q->size;
	uint32_t head = count < (uint32_t)q->size - q->shown ? count : (uint32_t)q->size - q->shown;

	vc_area_wrote(area, q->shown * VC_DESC_BYTES, head * VC_DESC_BYTES);
	vc_area_wrote(area, 0, (count - head) * VC_DESC_BYTES);
}

/* Does what was used since the last flush pass the descriptor that the driver asks for? (2.8.10) */
static bool passes_event(const struct vc_virtq *q, uint16_t event, uint16_t count)
{
	uint16_t offset = event & (uint16_t)~EVENT_WRAP;

	if (!!(event & EVENT_WRAP) != q->used_wrap)
		offset -= q->size;
	return vc_need_event(offset, q->used, (uint16_t)(q->used - count));
}

static bool flush(struct vc_virtq *q)
{
	const uint8_t *driver = q->areas[VC_AREA_DRIVER].hva;
	uint16_t count = q->unshown, flags;

	wrote_used(q);
	q->shown = q->used;
	q->unshown = 0;
	atomic_thread_fence(memory_order_seq_cst); /* the flags are seen before we look whether the driver sleeps */
	flags = vc_ring_ld16(driver + EVENT_FLAGS) & 3;
	if (flags == EVENT_DESC && q->event_idx)
		return passes_event(q, vc_ring_ld16(driver + EVENT_OFFSET), count);
	return flags != EVENT_DISABLE;
}

static void set_notify(struct vc_virtq *q, bool on)
{
	const struct vc_area *area = &q->areas[VC_AREA_DEVICE];
	uint16_t flags = !on ? EVENT_DISABLE : q->event_idx ? EVENT_DESC : EVENT_ENABLE;

	if (flags == EVENT_DESC)
		vc_ring_st16(area->hva + EVENT_OFFSET, (uint16_t)(q->avail | (q->avail_wrap ? EVENT_WRAP : 0)));
	vc_ring_st16(area->hva + EVENT_FLAGS, flags);
	vc_area_wrote(area, 0, AREA_BYTES);
}

const struct vc_ring_ops vc_packed_ops = {
    .area_length = area_length,
    .align = {16, 4, 4},
    .written = {true, false, true},
    .available = available,
    .pop = pop,
    .push = push,
    .flush = flush,
    .set_notify = set_notify,
};
