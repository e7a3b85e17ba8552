/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Refcounts counted anew, for an image whose last writer put them off (lazy refcounts) and did not come back. Until
 * they are on the disk, the image stays marked.
 */
#include <stdlib.h>

#include "block/qcow2.h"

#define MAX_TABLES VC_GIB(4) /* bytes of tables that are gone through: all may lead to the same one, over and over */

enum { MAX_CLUSTERS = 1 << 24 /* 64 MiB of counters */ };

struct census {
	struct qcow2 *q;
	uint64_t clusters;
	uint32_t *counts;
	uint64_t *table; /* one cluster, for an L2 table */
	uint64_t read;   /* bytes of tables */
};

static int refuse(const struct qcow2 *q, const char *what)
{
	return vc_fail(EUCLEAN,
	               "%s: its refcounts were not written when it was last used (lazy refcounts), and %s: repair it with "
	               "\"qemu-img check -r all\"",
	               q->block->path, what);
}

static int count(struct census *c, uint64_t offset, uint64_t length)
{
	uint64_t first = offset >> c->q->cluster_bits, last;

	if (!length)
		return 0;
	if (offset > INT64_MAX - length)
		return refuse(c->q, "its tables point beyond its end");
	last = (offset + length - 1) >> c->q->cluster_bits;
	if (last >= c->clusters)
		return refuse(c->q, "its tables point beyond its end");
	for (uint64_t i = first; i <= last; i++)
		c->counts[i]++;
	return 0;
}

static int count_table(struct census *c, uint64_t offset, uint64_t length)
{
	c->read += length;
	return c->read > MAX_TABLES ? refuse(c->q, "it is too large to count them while opening it")
	                            : count(c, offset, length);
}

static int count_entry(struct census *c, uint64_t entry)
{
	uint64_t offset = entry & QCOW2_OFFSET_MASK, length = offset ? c->q->cluster_size : 0;

	if (entry & QCOW2_COMPRESSED) {
		qcow2_packed_place(c->q, entry, &offset, &length);
		/* its last sector may be cut off by the end of the file */
		if (offset >> c->q->cluster_bits < c->clusters && offset + length > c->clusters << c->q->cluster_bits)
			length = (c->clusters << c->q->cluster_bits) - offset;
	}
	return count(c, offset, length);
}

static int count_l2(struct census *c, uint64_t offset)
{
	uint64_t entries = 1ull << c->q->l2_bits;
	int r = count_table(c, offset, c->q->cluster_size);

	if (r)
		return r;
	r = vc_file_pread(c->q->file, offset, c->table, c->q->cluster_size);
	if (r)
		return vc_fail_errno(-r, "%s: reading its tables", c->q->block->path);
	for (uint64_t i = 0; i < entries && !r; i++)
		r = count_entry(c, be64toh(c->table[i]));
	return r;
}

static int count_l1(struct census *c, const struct qcow2_array *l1)
{
	int r = count_table(c, l1->offset, 8 * l1->count);

	for (uint64_t i = 0; i < l1->count && !r; i++) {
		uint64_t offset = qcow2_entry(l1, i) & QCOW2_OFFSET_MASK;

		r = offset ? count_l2(c, offset) : 0;
	}
	return r;
}

static int count_snapshots(struct census *c)
{
	uint64_t at = c->q->snapshot_offset;
	struct qcow2_snapshot s;
	struct qcow2_array l1;
	int r = 0;

	for (uint32_t i = 0; i < c->q->snapshot_count && !r; i++) {
		r = qcow2_next_snapshot(c->q, &at, &s);
		if (!r && s.l1_count > QCOW2_MAX_L1_BYTES / 8)
			r = refuse(c->q, "a snapshot is too large");
		if (r)
			return r;
		r = qcow2_load_array(c->q, "snapshot's L1", s.l1_offset, s.l1_count, &l1);
		if (!r)
			r = count_l1(c, &l1);
		free(l1.entries);
	}
	return r ? r : count(c, c->q->snapshot_offset, at - c->q->snapshot_offset);
}

static int count_refcounts(struct census *c)
{
	const struct qcow2_array *table = &c->q->reftable;
	int r = count(c, table->offset, 8 * table->count);

	for (uint64_t i = 0; i < table->count && !r; i++) {
		uint64_t offset = qcow2_entry(table, i);

		r = offset ? count(c, offset, c->q->cluster_size) : 0;
	}
	return r;
}

static int take_census(struct census *c)
{
	int r = count(c, 0, c->q->cluster_size);

	if (!r)
		r = count_refcounts(c);
	if (!r)
		r = count_l1(c, &c->q->l1);
	return r ? r : count_snapshots(c);
}

static int correct(struct census *c)
{
	uint64_t width = 1ull << c->q->refcount_order, most = width >= 32 ? UINT32_MAX : (1ull << width) - 1, old;
	int r = 0;

	for (uint64_t i = 0; i < c->clusters && !r; i++) {
		if (c->counts[i] > most)
			return refuse(c->q, "more point to a cluster than it can count");
		r = qcow2_refcount(c->q, i, &old);
		if (!r && old != c->counts[i])
			r = qcow2_set_refcount(c->q, i, c->counts[i]);
	}
	if (!r)
		r = qcow2_flush_locked(c->q);
	return r ? refuse(c->q, "they cannot be written") : 0;
}

static int clear_mark(struct qcow2 *q)
{
	uint8_t field[8];
	int r = vc_file_pread(q->file, QCOW2_H_INCOMPATIBLE, field, sizeof field);

	vc_st64(field, vc_ld64(field) & ~htobe64(QCOW2_INCOMPAT_DIRTY));
	if (!r)
		r = vc_file_pwrite(q->file, QCOW2_H_INCOMPATIBLE, field, sizeof field);
	if (!r)
		r = vc_file_flush(q->file);
	return r ? vc_fail_errno(-r, "%s: writing its header", q->block->path) : 0;
}

int qcow2_repair(struct qcow2 *q)
{
	struct census c = {.q = q, .clusters = atomic_load(&q->limit)};
	int r;

	if (c.clusters > MAX_CLUSTERS)
		return refuse(q, "it is too large to count them while opening it");
	c.counts = calloc(c.clusters, sizeof c.counts[0]);
	c.table = malloc(q->cluster_size);
	r = c.counts && c.table ? take_census(&c) : vc_fail(ENOMEM, "%s: no memory to count refcounts", q->block->path);
	pthread_mutex_lock(&q->meta_lock);
	if (!r)
		r = correct(&c);
	if (!r)
		r = clear_mark(q);
	pthread_mutex_unlock(&q->meta_lock);
	free(c.counts);
	free(c.table);
	return r;
}
