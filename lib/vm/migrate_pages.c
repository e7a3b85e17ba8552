/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pages of memory as frames of a connection. */
#include <stdlib.h>

#include "vm/migrate.h"
#include "vm/snapshot_file.h"

#define FRAME_BYTES (VC_MIG_TABLE_BYTES + VC_MIG_CONTENTS_BYTES)
/* With a limit of bandwidth, so many frames a second at least: the other side does not wait for ever. */
#define FRAMES_A_SECOND 10u

static void count(_Atomic uint64_t *counter, uint64_t n)
{
	/* only this thread writes it */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

static uint64_t counted(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

int vc_mig_channel_init(struct vc_mig_channel *c, struct vc_mig_memory *memory, uint64_t cache_bytes)
{
	uint64_t pages = c->bandwidth / FRAMES_A_SECOND / VC_PAGE_SIZE;

	c->memory = memory;
	c->pages_max = !c->bandwidth || pages > VC_MIG_PAGES ? VC_MIG_PAGES : pages ? (uint32_t)pages : 1;
	c->frame = malloc(FRAME_BYTES);
	if (c->features & VC_MIG_ZSTD)
		c->packed = malloc(FRAME_BYTES);
	if (!c->frame || ((c->features & VC_MIG_ZSTD) && !c->packed))
		return vc_fail(ENOMEM, "migration: no memory for a frame");
	return c->features & VC_MIG_DELTA ? vc_mig_cache_init(&c->cache, cache_bytes / c->ways, c->ways) : 0;
}

void vc_mig_channel_fini(struct vc_mig_channel *c)
{
	vc_mig_stream_close(&c->stream);
	vc_mig_cache_fini(&c->cache);
	free(c->frame);
	free(c->packed);
}

void vc_mig_channel_add_counts(struct vc_mig_channel *c, struct vc_mig_counts *counts)
{
	counts->pages += counted(&c->pages);
	counts->zero_pages += counted(&c->zero_pages);
	counts->delta_pages += counted(&c->delta_pages);
	counts->saved += counted(&c->saved);
	counts->looked_at += counted(&c->looked_at);
	counts->bytes += counted(&c->stream.bytes_out);
}

/* ---- frames ---- */

/* The table stands before its contents, packed if that is shorter. */
static int send_frame(struct vc_mig_channel *c, uint32_t table)
{
	int64_t packed = -1;

	if (c->packed && c->contents)
		packed = vc_snapshot_pack(c->frame + table, c->contents, c->packed + table, c->contents);
	if (packed < 0)
		return vc_mig_send(&c->stream, VC_MIG_PAGES_FRAME, c->runs, c->frame, table + c->contents);
	memcpy(c->packed, c->frame, table);
	count(&c->saved, c->contents - (uint64_t)packed);
	return vc_mig_send(&c->stream, VC_MIG_PACKED, c->runs, c->packed, table + (uint32_t)packed);
}

static int keep_bandwidth(struct vc_mig_channel *c)
{
	uint64_t bytes = counted(&c->stream.bytes_out) - c->slice_bytes;

	if (!c->bandwidth)
		return 0;
	return vc_mig_wait_until(&c->stream, c->slice_begin + vc_muldiv64(bytes, 1000000000, c->bandwidth));
}

static int flush(struct vc_mig_channel *c)
{
	uint32_t table = c->runs * VC_MIG_RUN_BYTES;
	int r;

	if (!c->runs)
		return 0;
	/* the contents were put behind a full table */
	memmove(c->frame + table, c->frame + VC_MIG_TABLE_BYTES, c->contents);
	r = send_frame(c, table);
	c->runs = c->contents = c->frame_pages = 0;
	if (r >= 0 && c->after_frame)
		r = c->after_frame(c->ctx);
	/* sending does not look at it unless it has to wait */
	if (r >= 0)
		r = vc_mig_look_up(&c->stream);
	return r < 0 ? r : keep_bandwidth(c);
}

/* The page goes to the last run, or begins one. */
static void add_page(struct vc_mig_channel *c, uint32_t slot, uint64_t page, uint32_t kind)
{
	uint8_t *last = c->runs ? c->frame + (c->runs - 1) * VC_MIG_RUN_BYTES : NULL;
	const uint32_t kinds = VC_MIG_ZEROES | VC_MIG_DELTAS;
	uint32_t pages = last ? vc_ld32(last + 4) : 0;

	if (last && vc_ld32(last) == slot && (pages & kinds) == kind && vc_ld64(last + 8) + (pages & ~kinds) == page) {
		vc_st32(last + 4, pages + 1);
		return;
	}
	last = c->frame + c->runs++ * VC_MIG_RUN_BYTES;
	vc_st32(last, slot);
	vc_st32(last + 4, kind | 1);
	vc_st64(last + 8, page);
}

/*
 * Contents at the frame's end become a delta if that is shorter, and are remembered. Their length; 0: what the other
 * side has is the same.
 */
static uint32_t shorten(struct vc_mig_channel *c, uint32_t slot, uint64_t page, uint8_t *contents)
{
	uint8_t delta[VC_PAGE_SIZE - 4], *was = vc_mig_cache_find(&c->cache, slot, page);
	int32_t length = was ? vc_mig_delta_encode(was, contents, delta, sizeof delta) : -1;

	if (length)
		vc_mig_cache_put(&c->cache, slot, page, contents);
	if (length < 0)
		return VC_PAGE_SIZE;
	count(&c->delta_pages, 1);
	count(&c->saved, VC_PAGE_SIZE - (length ? (uint64_t)length + 2 : 0));
	if (!length)
		return 0;
	vc_st16(contents, (uint16_t)length);
	memcpy(contents + 2, delta, (size_t)length);
	return (uint32_t)length + 2;
}

static void add_zero_page(struct vc_mig_channel *c, uint32_t index, uint64_t page)
{
	const uint8_t *sent = c->memory->slot[index].sent;

	count(&c->zero_pages, 1);
	vc_mig_cache_drop(&c->cache, index, page);
	if (sent[page / 8] >> (page % 8) & 1)
		add_page(c, index, page, VC_MIG_ZEROES);
}

static int send_page(struct vc_mig_channel *c, uint32_t index, uint64_t page)
{
	struct vc_mig_slot *s = &c->memory->slot[index];
	uint8_t *copy = c->frame + VC_MIG_TABLE_BYTES + c->contents;
	uint32_t length;

	/* the guest may write it at this moment: then its copy is of no worth, and it comes again */
	memcpy(copy, s->slot->hva + page * VC_PAGE_SIZE, VC_PAGE_SIZE);
	count(&c->looked_at, 1);
	if (vc_is_zero(copy, VC_PAGE_SIZE)) {
		add_zero_page(c, index, page);
	} else {
		count(&c->pages, 1);
		length = shorten(c, index, page, copy);
		if (length)
			add_page(c, index, page, length < VC_PAGE_SIZE ? VC_MIG_DELTAS : 0);
		s->sent[page / 8] |= (uint8_t)(1u << (page % 8));
		c->contents += length;
		c->frame_pages += length != 0;
	}
	return c->runs == VC_MIG_RUNS || c->frame_pages == c->pages_max ? flush(c) : 0;
}

uint64_t vc_mig_channel_own(const struct vc_mig_channel *c, uint64_t word, uint64_t bits)
{
	uint64_t own = 0;

	if (!bits || c->ways == 1)
		return bits;
	for (uint32_t group = 0; group < 8; group++)
		if ((word * 8 + group) % c->ways == c->index)
			own |= 0xffull << (8 * group);
	return bits & own;
}

/* 1: it was enough before the end. */
static int send_slot(struct vc_mig_channel *c, uint32_t index)
{
	const struct vc_mig_slot *s = &c->memory->slot[index];
	int r = 0;

	for (uint64_t w = 0; r >= 0 && w < (s->pages + 63) / 64; w++) {
		c->end_slot = index;
		c->end_page = w * 64;
		if (atomic_load_explicit(&c->memory->enough, memory_order_relaxed))
			return 1;
		for (uint64_t bits = vc_mig_channel_own(c, w, s->todo[w]); r >= 0 && bits; bits &= bits - 1)
			r = send_page(c, index, w * 64 + (uint64_t)__builtin_ctzll(bits));
	}
	return r;
}

int vc_mig_channel_send(struct vc_mig_channel *c)
{
	uint32_t i;
	int r = 0;

	c->slice_begin = vc_host_ns();
	c->slice_bytes = counted(&c->stream.bytes_out);
	for (i = 0; r == 0 && i < c->memory->count; i++)
		r = send_slot(c, i);
	if (r == 0)
		c->end_slot = i;
	return r < 0 ? r : flush(c);
}
