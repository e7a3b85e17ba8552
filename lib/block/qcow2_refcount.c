/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How many point to each cluster of the file; finding free ones, giving them back. */
#include <stdlib.h>

#include "block/qcow2.h"

/* ---- entries of all widths ---- */

static uint64_t get_narrow(const uint8_t *block, uint64_t index, unsigned order)
{
	unsigned width = 1u << order, per_byte = 8 / width;

	return block[index / per_byte] >> (index % per_byte * width) & ((1u << width) - 1);
}

static void set_narrow(uint8_t *block, uint64_t index, unsigned order, uint64_t value)
{
	unsigned width = 1u << order, per_byte = 8 / width, shift = (unsigned)(index % per_byte) * width;
	uint8_t *byte = &block[index / per_byte];

	*byte = (uint8_t)((*byte & ~(((1u << width) - 1) << shift)) | value << shift);
}

static uint64_t get_count(const void *data, uint64_t index, unsigned order)
{
	const uint8_t *block = data;

	switch (order) {
	case 3:
		return block[index];
	case 4:
		return be16toh(vc_ld16(block + 2 * index));
	case 5:
		return be32toh(vc_ld32(block + 4 * index));
	case 6:
		return be64toh(vc_ld64(block + 8 * index));
	default:
		return get_narrow(block, index, order);
	}
}

static void set_count(void *data, uint64_t index, unsigned order, uint64_t value)
{
	uint8_t *block = data;

	switch (order) {
	case 3:
		block[index] = (uint8_t)value;
		break;
	case 4:
		vc_st16(block + 2 * index, htobe16((uint16_t)value));
		break;
	case 5:
		vc_st32(block + 4 * index, htobe32((uint32_t)value));
		break;
	case 6:
		vc_st64(block + 8 * index, htobe64(value));
		break;
	default:
		set_narrow(block, index, order, value);
	}
}

/* ---- refcount blocks ---- */

/* *block NULL: there is none, all counts are 0. */
static int get_block(struct qcow2 *q, uint64_t cluster, struct qcow2_table **block)
{
	uint64_t index = cluster >> qcow2_refblock_bits(q), offset;
	int r;

	*block = NULL;
	if (index >= q->reftable.count)
		return 0;
	offset = qcow2_entry(&q->reftable, index);
	if (!offset)
		return 0;
	if (offset & (q->cluster_size - 1) || offset >> q->cluster_bits >= q->limit)
		return qcow2_corrupt(q, "refcount block %llu is at %#llx", (unsigned long long)index,
		                     (unsigned long long)offset);
	r = qcow2_cache_get(&q->refcount_cache, offset, block);
	return r;
}

int qcow2_refcount(struct qcow2 *q, uint64_t cluster, uint64_t *count)
{
	struct qcow2_table *block;
	int r = get_block(q, cluster, &block);

	*count =
	    !r && block ? get_count(block->data, cluster & ((1ull << qcow2_refblock_bits(q)) - 1), q->refcount_order) : 0;
	return r;
}

int qcow2_set_refcount(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
	struct qcow2_table *block;
	int r = get_block(q, cluster, &block);

	if (r)
		return r;
	if (!block)
		return qcow2_corrupt(q, "cluster %llu has no refcount", (unsigned long long)cluster);
	set_count(block->data, cluster & ((1ull << qcow2_refblock_bits(q)) - 1), q->refcount_order, count);
	qcow2_cache_dirty(&q->refcount_cache, block);
	return 0;
}

/* ---- allocation ---- */

/* Clusters beyond the end of the file that may count as used: a crash leaves some, all the others are a trap. */
enum { MAX_BEYOND = 1 << 24 };

struct run {
	uint64_t start, length;
	bool ended; /* by a cluster that is in use, and long enough */
};

/* The part of the search that lies in one refcount block. */
static void search_block(const struct qcow2 *q, const struct qcow2_table *block, uint64_t cluster, uint64_t min,
                         uint64_t max, struct run *run)
{
	uint64_t mask = (1ull << qcow2_refblock_bits(q)) - 1;

	do {
		if (!block || !get_count(block->data, cluster & mask, q->refcount_order))
			run->length++;
		else if (run->length >= min)
			run->ended = true;
		else
			*run = (struct run){.start = cluster + 1};
		cluster++;
	} while (cluster & mask && run->length < max && !run->ended);
}

static int search(struct qcow2 *q, uint64_t min, uint64_t max, struct run *run)
{
	uint64_t mask = (1ull << qcow2_refblock_bits(q)) - 1;

	*run = (struct run){.start = q->free_hint};
	while (run->length < max && !run->ended) {
		uint64_t cluster = run->start + run->length;
		struct qcow2_table *block;
		int r = get_block(q, cluster, &block);

		if (r)
			return r;
		if (cluster + max >= QCOW2_OFFSET_MASK >> q->cluster_bits)
			return -EFBIG;
		if (cluster > atomic_load(&q->limit) + max + MAX_BEYOND)
			return qcow2_corrupt(q, "clusters far beyond its end are in use");
		/* a run that is long enough need not go on into a block that is not there yet */
		if (!block && run->length >= min && !(cluster & mask))
			return 0;
		search_block(q, block, cluster, min, max, run);
	}
	return 0;
}

/* 1: a block had to be made, which may have taken a cluster of the run. */
static int need_blocks(struct qcow2 *q, const struct run *run)
{
	uint64_t last = (run->start + run->length - 1) >> qcow2_refblock_bits(q);

	for (uint64_t index = run->start >> qcow2_refblock_bits(q); index <= last; index++) {
		int r = qcow2_need_refblock(q, index);

		if (r)
			return r;
	}
	return 0;
}

int qcow2_allocate(struct qcow2 *q, uint64_t min, uint64_t max, uint64_t *host, uint64_t *count, bool *fresh)
{
	struct run run;
	int r;

	do {
		r = search(q, min, max, &run);
		if (!r)
			r = need_blocks(q, &run);
	} while (r == 1);
	if (r)
		return r;
	if (!run.start)
		return qcow2_corrupt(q, "its header counts as free");
	for (uint64_t i = 0; i < run.length; i++) {
		r = qcow2_set_refcount(q, run.start + i, 1);
		if (r)
			return r;
	}
	/* whoever wants one takes the first that is free; whoever wants many may have left some out */
	if (min == 1 || run.start == q->free_hint)
		q->free_hint = run.start + run.length;
	*fresh = run.start >= q->end;
	if (q->end != UINT64_MAX && run.start + run.length > q->end)
		q->end = run.start + run.length;
	if (run.start + run.length > q->limit)
		q->limit = run.start + run.length;
	*host = run.start << q->cluster_bits;
	*count = run.length;
	return 0;
}

static void note_free(struct qcow2 *q, uint64_t cluster)
{
	if (cluster < q->free_hint)
		q->free_hint = cluster;
	qcow2_cache_drop(&q->l2_cache, cluster << q->cluster_bits);
	qcow2_cache_drop(&q->refcount_cache, cluster << q->cluster_bits);
}

/* What fails here leaves clusters that nothing uses. */
void qcow2_unallocate(struct qcow2 *q, uint64_t host, uint64_t count)
{
	for (uint64_t cluster = host >> q->cluster_bits; count; cluster++, count--) {
		if (!qcow2_set_refcount(q, cluster, 0))
			note_free(q, cluster);
	}
}

/* ---- freeing ---- */

static int grow_freed(struct qcow2 *q)
{
	uint32_t room = q->freed_room ? 2 * q->freed_room : 64;
	struct qcow2_freed *freed = realloc(q->freed, room * sizeof *freed);

	if (!freed)
		return -ENOMEM;
	q->freed = freed;
	q->freed_room = room;
	return 0;
}

int qcow2_free_later(struct qcow2 *q, uint64_t host, uint64_t count)
{
	uint64_t cluster = host >> q->cluster_bits;
	struct qcow2_freed *last = q->freed_count ? &q->freed[q->freed_count - 1] : NULL;
	int r = 0;

	if (last && last->cluster + last->count == cluster) {
		last->count += count;
		return 0;
	}
	if (q->freed_count == q->freed_room)
		r = grow_freed(q);
	if (!r)
		q->freed[q->freed_count++] = (struct qcow2_freed){cluster, count};
	return r;
}

int qcow2_free_entry_later(struct qcow2 *q, uint64_t entry)
{
	uint64_t offset = entry & QCOW2_OFFSET_MASK, length = q->cluster_size;

	if (entry & QCOW2_COMPRESSED) {
		qcow2_packed_place(q, entry, &offset, &length);
		length += offset & (q->cluster_size - 1);
		offset = VC_ALIGN_DOWN(offset, q->cluster_size);
	}
	return offset ? qcow2_free_later(q, offset, qcow2_clusters(q, length)) : 0;
}

/* The space of clusters that are free now goes back to the host. */
static int give_back(struct qcow2 *q, uint64_t first, uint64_t count)
{
	return count ? vc_file_discard(q->file, first << q->cluster_bits, count << q->cluster_bits) : 0;
}

static int apply_run(struct qcow2 *q, const struct qcow2_freed *run)
{
	uint64_t unused = 0, cluster = run->cluster, count;
	int r = 0;

	for (; cluster < run->cluster + run->count && !r; cluster++) {
		r = qcow2_refcount(q, cluster, &count);
		if (!r && !count)
			r = qcow2_corrupt(q, "cluster %llu is in use and counts as free", (unsigned long long)cluster);
		if (!r)
			r = qcow2_set_refcount(q, cluster, count - 1);
		if (r)
			break;
		if (count == 1) {
			note_free(q, cluster);
			unused++;
			continue;
		}
		r = give_back(q, cluster - unused, unused);
		unused = 0;
	}
	return r ? r : give_back(q, cluster - unused, unused);
}

int qcow2_apply_freed(struct qcow2 *q)
{
	int r = 0;

	for (uint32_t i = 0; i < q->freed_count && !r; i++)
		r = apply_run(q, &q->freed[i]);
	q->freed_count = 0;
	return r;
}
