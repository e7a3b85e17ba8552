/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What of a queue is in flight, kept in memory that outlives this process, for who serves the queue after it
 * (vhost-user, "Inflight I/O tracking").
 *
 * It is written there in an order in which every store may be the last. Others can write there as well: it is read but
 * when the queue is taken up, and checked. A packed queue's descriptors are overwritten while others are in flight, so
 * that theirs are kept with them.
 */
#include <errno.h>
#include <stdlib.h>

#include "virtio/device_priv.h"

enum {
	AREA_VERSION = 8,
	AREA_SIZE = 10,
	VERSION = 1, /* 0: nobody has used it yet */
	NONE = 0xffff,
	WRAP = 1 << 15,

	SPLIT_BATCH = 12, /* the entry that was used last, to which older ones are linked */
	SPLIT_USED = 14,  /* the used ring's index, of which all is noted */
	SPLIT_ENTRIES = 16,
	SPLIT_BYTES = 16,

	PACKED_PUSHED = 12, /* the first entry of the chain that is being used; NONE: none is */
	PACKED_USED = 16,   /* position, with the wrap counter */
	PACKED_OLD = 18,    /* the same before that chain */
	PACKED_ENTRIES = 32,
	PACKED_BYTES = 32,

	/* of an entry; those of a split queue have the first two and, elsewhere, a counter */
	ENTRY_BUSY = 0,
	SPLIT_NEXT = 6,
	ENTRY_NEXT = 2,
	ENTRY_COUNT = 6,
	ENTRY_COUNTER = 8,
	ENTRY_ID = 16,
	ENTRY_FLAGS = 18,
	ENTRY_LENGTH = 20,
	ENTRY_ADDRESS = 24,
};

uint64_t vc_virtq_inflight_bytes(bool packed, uint32_t size)
{
	return VC_ALIGN_UP((uint64_t)(packed ? PACKED_ENTRIES + size * PACKED_BYTES : SPLIT_ENTRIES + size * SPLIT_BYTES),
	                   64u);
}

static uint8_t *entry_at(const struct vc_virtq *q, uint32_t n)
{
	return q->inflight.at + (q->packed ? PACKED_ENTRIES + n * PACKED_BYTES : SPLIT_ENTRIES + n * SPLIT_BYTES);
}

/* After all that was stored before. */
static void store8(uint8_t *p, uint8_t value)
{
	atomic_store_explicit((_Atomic uint8_t *)p, value, memory_order_release);
}

static bool is_busy(const struct vc_virtq *q, uint32_t n)
{
	return atomic_load_explicit((_Atomic uint8_t *)entry_at(q, n) + ENTRY_BUSY, memory_order_relaxed);
}

/* ---- while it is served ---- */

static void note_split(struct vc_virtq *q, struct vc_chain *chain)
{
	uint8_t *entry = entry_at(q, chain->id);

	chain->entry = chain->id;
	vc_st64(entry + ENTRY_COUNTER, q->inflight.counter++);
	store8(entry + ENTRY_BUSY, 1);
}

/* One descriptor of the ring for an entry of its own. */
static uint16_t note_descriptor(struct vc_virtq *q, uint32_t position)
{
	const uint8_t *desc = q->areas[VC_AREA_DESC].hva + position % q->size * VC_DESC_BYTES;
	uint64_t rest = vc_guest_ld64(desc + 8);
	uint16_t n = q->inflight.free[--q->inflight.free_count];
	uint8_t *entry = entry_at(q, n);

	vc_st64(entry + ENTRY_ADDRESS, vc_guest_ld64(desc));
	vc_st32(entry + ENTRY_LENGTH, (uint32_t)rest);
	vc_st16(entry + ENTRY_ID, (uint16_t)(rest >> 32));
	vc_st16(entry + ENTRY_FLAGS, (uint16_t)(rest >> 48));
	return n;
}

static void note_packed(struct vc_virtq *q, struct vc_chain *chain)
{
	struct vc_inflight *f = &q->inflight;
	uint16_t last = NONE;

	for (uint32_t i = chain->descs; i-- > 0;) {
		uint16_t n = note_descriptor(q, chain->position + i);

		f->next[n] = last;
		vc_st16(entry_at(q, n) + ENTRY_NEXT, last);
		last = n;
	}
	chain->entry = last;
	vc_st16(entry_at(q, last) + ENTRY_COUNT, chain->descs);
	vc_st64(entry_at(q, last) + ENTRY_COUNTER, f->counter++);
	store8(entry_at(q, last) + ENTRY_BUSY, 1);
}

void vc_inflight_popped(struct vc_virtq *q, struct vc_chain *chain)
{
	if (q->packed)
		note_packed(q, chain);
	else
		note_split(q, chain);
}

static void let_go(struct vc_virtq *q, const struct vc_chain *chain)
{
	struct vc_inflight *f = &q->inflight;
	uint16_t n = chain->entry;

	store8(entry_at(q, n) + ENTRY_BUSY, 0);
	for (uint32_t i = 0; q->packed && i < chain->descs; i++, n = f->next[n])
		f->free[f->free_count++] = n;
}

void vc_inflight_unpopped(struct vc_virtq *q, const struct vc_chain *chain)
{
	let_go(q, chain);
}

static uint16_t position_of(uint16_t at, bool wrap)
{
	return (uint16_t)(at | (wrap ? WRAP : 0));
}

void vc_inflight_pushing(struct vc_virtq *q, const struct vc_chain *chain)
{
	struct vc_inflight *f = &q->inflight;

	if (q->packed) {
		vc_st16(f->at + PACKED_OLD, position_of(q->used, q->used_wrap));
		vc_ring_st16(f->at + PACKED_PUSHED, chain->entry);
		return;
	}
	f->next[chain->entry] = f->batch;
	vc_st16(entry_at(q, chain->entry) + SPLIT_NEXT, f->batch);
	f->batch = chain->entry;
	vc_ring_st16(f->at + SPLIT_BATCH, chain->entry);
}

/* A packed queue's driver sees it now; a split one's when the index moves. */
void vc_inflight_pushed(struct vc_virtq *q, const struct vc_chain *chain)
{
	if (!q->packed)
		return;
	let_go(q, chain);
	vc_ring_st16(q->inflight.at + PACKED_USED, position_of(q->used, q->used_wrap));
	vc_ring_st16(q->inflight.at + PACKED_PUSHED, NONE);
}

void vc_inflight_flushed(struct vc_virtq *q, uint32_t count)
{
	uint16_t n = q->inflight.batch;

	if (q->packed)
		return;
	for (uint32_t i = 0; i < count; i++, n = q->inflight.next[n])
		store8(entry_at(q, n) + ENTRY_BUSY, 0);
	vc_ring_st16(q->inflight.at + SPLIT_USED, q->used);
}

/* ---- taking up what another has left ---- */

static int fail(struct vc_virtq *q, const char *what)
{
	vc_virtio_broken(q->v, "queue %u: what is in flight cannot be so: %s", q->index, what);
	return -EPROTO;
}

/* What the driver was shown at last, but not noted yet: is done. */
static int finish_split(struct vc_virtq *q, uint16_t used)
{
	struct vc_inflight *f = &q->inflight;
	uint16_t n = vc_ring_ld16(f->at + SPLIT_BATCH), count = (uint16_t)(used - vc_ring_ld16(f->at + SPLIT_USED));

	if (count > q->size)
		return fail(q, "more has been used than there is");
	for (; count && n < q->size; count--) {
		store8(entry_at(q, n) + ENTRY_BUSY, 0);
		n = vc_ring_ld16(entry_at(q, n) + SPLIT_NEXT);
	}
	vc_ring_st16(f->at + SPLIT_USED, used);
	return count ? fail(q, "an entry is linked to none") : 0;
}

static int recover_split(struct vc_virtq *q)
{
	uint16_t used;

	if (vc_mem_read(q->mem, q->setup.device + 2, &used, sizeof used) < 0)
		return fail(q, "there is no used ring");
	q->used = q->shown = used;
	return finish_split(q, used);
}

static void advance(struct vc_virtq *q, uint32_t from, uint32_t count, uint16_t *at, bool *wrap)
{
	uint32_t to = (from & (WRAP - 1u)) + count;

	*wrap = !!(from & WRAP) != (to >= q->size);
	*at = (uint16_t)(to % q->size);
}

/* The chain that was being used: has the driver been shown it? Its place in the ring is not as the driver left it. */
static int finish_packed(struct vc_virtq *q, uint16_t first, uint16_t *used)
{
	uint16_t old = vc_ring_ld16(q->inflight.at + PACKED_OLD), at = old & (WRAP - 1), flags, count;
	bool wrap = old & WRAP;

	if (first >= q->size || at >= q->size)
		return fail(q, "an entry or a place that there is not");
	count = vc_ring_ld16(entry_at(q, first) + ENTRY_COUNT);
	if (!count || count > q->size)
		return fail(q, "a chain of that length");
	if (vc_mem_read(q->mem, q->setup.descriptors + at * VC_DESC_BYTES + 14, &flags, sizeof flags) < 0)
		return fail(q, "there is no ring");
	*used = old;
	if (!!(flags & VC_DESC_AVAIL) == wrap && !!(flags & VC_DESC_USED) != wrap)
		return 0;
	store8(entry_at(q, first) + ENTRY_BUSY, 0);
	advance(q, old, count, &at, &wrap);
	*used = position_of(at, wrap);
	return 0;
}

static int recover_packed(struct vc_virtq *q)
{
	struct vc_inflight *f = &q->inflight;
	uint16_t used = vc_ring_ld16(f->at + PACKED_USED), first = vc_ring_ld16(f->at + PACKED_PUSHED);
	int r = first == NONE ? 0 : finish_packed(q, first, &used);

	if (r < 0 || (used & (WRAP - 1)) >= q->size)
		return r < 0 ? r : fail(q, "a place that there is not");
	vc_ring_st16(f->at + PACKED_USED, used);
	vc_ring_st16(f->at + PACKED_PUSHED, NONE);
	advance(q, used, 0, &q->used, &q->used_wrap);
	q->shown = q->used;
	return 0;
}

struct found {
	uint64_t counter;
	uint16_t entry;
};

static int by_age(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return (x->counter > y->counter) - (x->counter < y->counter);
}

/* The first entries of what is in flight, the oldest first. */
static int find_busy(struct vc_virtq *q)
{
	struct vc_inflight *f = &q->inflight;
	struct found *found = calloc(q->size, sizeof *found);

	if (!found)
		return fail(q, "there is no memory for it");
	f->again_count = f->again_at = 0;
	for (uint32_t n = 0; n < q->size; n++)
		if (is_busy(q, n))
			found[f->again_count++] = (struct found){vc_guest_ld64(entry_at(q, n) + ENTRY_COUNTER), (uint16_t)n};
	qsort(found, f->again_count, sizeof *found, by_age);
	for (uint32_t i = 0; i < f->again_count; i++)
		f->again[i] = found[i].entry;
	f->counter = f->again_count ? found[f->again_count - 1].counter + 1 : 0;
	free(found);
	return 0;
}

/* Links of what is in flight are taken over; all other entries are free. */
static int find_free(struct vc_virtq *q)
{
	struct vc_inflight *f = &q->inflight;
	uint32_t total = 0;

	f->free_count = 0;
	for (uint32_t n = 0; n < q->size; n++)
		f->next[n] = (uint16_t)n; /* of nobody */
	for (uint32_t i = 0; i < f->again_count; i++) {
		uint16_t n = f->again[i], count = vc_ring_ld16(entry_at(q, n) + ENTRY_COUNT);

		f->lengths[i] = count;
		total += count;
		if (!count || total > q->size)
			return fail(q, "more descriptors than the ring has");
		for (; count; count--) {
			uint16_t next = vc_ring_ld16(entry_at(q, n) + ENTRY_NEXT);

			if (f->next[n] != n || next == n || (count > 1 && next >= q->size))
				return fail(q, "an entry of two chains, or of none");
			f->next[n] = next;
			n = next;
		}
	}
	for (uint32_t n = q->size; n-- > 0;)
		if (f->next[n] == n)
			f->free[f->free_count++] = (uint16_t)n;
	advance(q, position_of(q->used, q->used_wrap), total, &q->avail, &q->avail_wrap);
	q->descs = (uint16_t)total;
	return 0;
}

/* What nobody has used before begins where the queue does. */
static void begin(struct vc_virtq *q)
{
	uint8_t *at = q->inflight.at;

	if (q->packed) {
		vc_st16(at + PACKED_USED, position_of(q->used, q->used_wrap));
		vc_st16(at + PACKED_PUSHED, NONE);
	} else {
		vc_st16(at + SPLIT_USED, q->used);
	}
	for (uint32_t n = 0; n < q->size; n++)
		store8(entry_at(q, n) + ENTRY_BUSY, 0);
	vc_st16(at + AREA_SIZE, q->size);
	vc_ring_st16(at + AREA_VERSION, VERSION);
}

int vc_inflight_take_up(struct vc_virtq *q)
{
	int r;

	q->packed = vc_virtio_has(q->v, VC_VIRTIO_F_RING_PACKED);
	q->size = (uint16_t)q->setup.size;
	if (q->size > q->inflight.size)
		return fail(q, "there is no room for so many");
	if (vc_ring_ld16(q->inflight.at + AREA_VERSION) != VERSION)
		begin(q);
	else if (vc_ring_ld16(q->inflight.at + AREA_SIZE) != q->size)
		return fail(q, "the queue had another size");
	r = q->packed ? recover_packed(q) : recover_split(q);
	if (r >= 0)
		r = find_busy(q);
	if (r < 0)
		return r;
	if (q->inflight.again_count)
		vc_log(q->v->env->log, VCORE_LOG_INFO, "%s: queue %u: %u requests were in flight: they are done again",
		       q->v->ops->type, q->index, q->inflight.again_count);
	if (q->packed)
		return find_free(q);
	q->avail = q->seen = (uint16_t)(q->used + q->inflight.again_count);
	return 0;
}

/* ---- popping it again ---- */

static int add(struct vc_virtq *q, struct vc_chain *chain, const struct vc_desc *desc)
{
	return desc->flags & VC_DESC_INDIRECT ? vc_chain_add_indirect(q, chain, desc) : vc_chain_add(q, chain, desc);
}

static int pop_packed(struct vc_virtq *q, struct vc_chain *chain, uint32_t count)
{
	uint16_t n = chain->entry;

	for (uint32_t i = 0; i < count; i++, n = q->inflight.next[n]) {
		const uint8_t *entry = entry_at(q, n);
		uint64_t rest = vc_guest_ld64(entry + ENTRY_ID); /* id, flags, length */
		struct vc_desc desc = {vc_guest_ld64(entry + ENTRY_ADDRESS), (uint32_t)(rest >> 32), (uint16_t)(rest >> 16)};
		int r = add(q, chain, &desc);

		if (r < 0)
			return r;
		chain->id = (uint16_t)rest; /* the last one's counts */
	}
	chain->descs = (uint16_t)count;
	return 0;
}

int vc_inflight_pop(struct vc_virtq *q, struct vc_chain *chain)
{
	struct vc_inflight *f = &q->inflight;
	int r;

	chain->entry = f->again[f->again_at];
	chain->id = chain->entry;
	chain->replay = true;
	r = q->packed ? pop_packed(q, chain, f->lengths[f->again_at]) : vc_split_read_chain(q, chain, chain->id);
	if (r >= 0 && !q->packed)
		r = vc_virtq_count_descs(q, chain);
	if (r >= 0)
		f->again_at++;
	return r;
}

/* ---- making ---- */

void vc_inflight_forget(struct vc_virtq *q)
{
	q->inflight.again_count = q->inflight.again_at = 0;
}

static void set(struct vc_virtq *q, uint8_t *at, uint32_t size)
{
	struct vc_inflight *f = &q->inflight;
	uint16_t *arrays = at ? calloc(size, 4 * sizeof *arrays) : NULL;

	free(f->next);
	*f = (struct vc_inflight){0};
	if (!arrays)
		return;
	*f = (struct vc_inflight){
	    .at = at,
	    .size = (uint16_t)size,
	    .next = arrays,
	    .free = arrays + size,
	    .again = arrays + 2 * size,
	    .lengths = arrays + 3 * size,
	};
}

int vc_virtq_set_inflight(struct vc_virtio *v, unsigned n, uint8_t *at, uint32_t size)
{
	struct vc_virtq *q = &v->queues[n];
	bool done;

	vc_virtio_take_turn(v);
	done = !q->setup.ready;
	if (done)
		set(q, at, size);
	done &= !at || q->inflight.at;
	vc_virtio_give_turn(v);
	return done ? 0 : -ENOMEM;
}
