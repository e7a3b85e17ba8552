/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the refcounts themselves are: new blocks, a larger table. */
#include <stdlib.h>

#include "block/qcow2.h"

static void note_used(struct qcow2 *q, uint64_t end)
{
	if (q->end != UINT64_MAX && end > q->end)
		q->end = end;
	if (end > q->limit)
		q->limit = end;
}

/* A block lies in the first cluster that it counts: until it is there, that one is free. */
static int make_block(struct qcow2 *q, uint64_t index)
{
	uint64_t cluster = index << qcow2_refblock_bits(q);
	struct qcow2_table *block;
	int r;

	if (!cluster)
		return qcow2_corrupt(q, "it has no refcounts");
	r = qcow2_cache_new(&q->refcount_cache, cluster << q->cluster_bits, &block);
	if (r)
		return r;
	qcow2_set_entry(&q->reftable, index, cluster << q->cluster_bits);
	note_used(q, cluster + 1);
	r = qcow2_set_refcount(q, cluster, 1);
	return r ? r : 1;
}

/* What a larger table needs: it begins with the first cluster that the old one has no place for. */
struct growth {
	uint64_t start, blocks, table_clusters, entries;
};

static int plan(const struct qcow2 *q, uint64_t index, struct growth *g)
{
	uint64_t wanted = index + 1 + (index + 1) / 2 + 2, per_block = 1ull << qcow2_refblock_bits(q);

	g->start = q->reftable.count << qcow2_refblock_bits(q);
	g->blocks = 0;
	do {
		g->blocks++;
		if (wanted < q->reftable.count + g->blocks)
			wanted = q->reftable.count + g->blocks;
		g->table_clusters = qcow2_clusters(q, 8 * wanted);
	} while (g->blocks << qcow2_refblock_bits(q) < g->blocks + g->table_clusters && g->blocks < per_block << 20);
	g->entries = g->table_clusters << (q->cluster_bits - 3);
	return 8 * g->entries <= QCOW2_MAX_REFTABLE ? 0 : -EFBIG;
}

static int make_blocks(struct qcow2 *q, const struct growth *g, struct qcow2_array *table)
{
	uint64_t first = q->reftable.count;
	struct qcow2_array old = q->reftable;
	struct qcow2_table *block;
	int r = 0;

	/* their counts are looked up through the new table */
	q->reftable = *table;
	note_used(q, g->start + g->blocks + g->table_clusters);
	for (uint64_t i = 0; i < g->blocks && !r; i++) {
		qcow2_set_entry(&q->reftable, first + i, (g->start + i) << q->cluster_bits);
		r = qcow2_cache_new(&q->refcount_cache, (g->start + i) << q->cluster_bits, &block);
	}
	for (uint64_t i = 0; i < g->blocks + g->table_clusters && !r; i++)
		r = qcow2_set_refcount(q, g->start + i, 1);
	*table = q->reftable;
	q->reftable = old;
	return r;
}

/* The new table is complete on the disk before the header points to it. */
static int write_table(struct qcow2 *q, struct qcow2_array *table)
{
	uint8_t field[12];
	int r = qcow2_cache_write(&q->refcount_cache);

	table->dirty_first = 0;
	table->dirty_end = table->count;
	if (!r)
		r = qcow2_write_array(q, table);
	if (!r)
		r = vc_file_flush(q->file);
	vc_st64(field, htobe64(table->offset));
	vc_st32(field + 8, htobe32((uint32_t)(table->count >> (q->cluster_bits - 3))));
	if (!r)
		r = vc_file_pwrite(q->file, QCOW2_H_REFTABLE_OFFSET, field, sizeof field);
	return r ? r : vc_file_flush(q->file);
}

static int grow_table(struct qcow2 *q, uint64_t index)
{
	struct qcow2_array old = q->reftable, table = {.dirty_first = UINT64_MAX};
	struct growth g;
	int r = plan(q, index, &g);

	if (r)
		return r;
	table.count = g.entries;
	table.offset = (g.start + g.blocks) << q->cluster_bits;
	table.entries = calloc(1, 8 * g.entries);
	if (!table.entries)
		return -ENOMEM;
	memcpy(table.entries, old.entries, 8 * old.count);
	r = make_blocks(q, &g, &table);
	if (!r)
		r = write_table(q, &table);
	if (r) {
		for (uint64_t i = 0; i < g.blocks; i++)
			qcow2_cache_drop(&q->refcount_cache, (g.start + i) << q->cluster_bits);
		free(table.entries);
		return r;
	}
	q->reftable = table;
	free(old.entries);
	qcow2_unallocate(q, old.offset, qcow2_clusters(q, 8 * old.count));
	return 1;
}

int qcow2_need_refblock(struct qcow2 *q, uint64_t index)
{
	if (index >= q->reftable.count)
		return grow_table(q, index);
	return qcow2_entry(&q->reftable, index) ? 0 : make_block(q, index);
}
