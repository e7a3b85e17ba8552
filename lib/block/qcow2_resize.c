/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Another size of the disk: nobody else uses the image meanwhile. */
#include <stdlib.h>

#include "block/qcow2.h"

static int write_size(struct qcow2 *q, uint64_t size)
{
	uint64_t field = htobe64(size);
	int r = vc_file_pwrite(q->file, QCOW2_H_SIZE, &field, sizeof field);

	return r ? r : vc_file_flush(q->file);
}

/* The header names the new table once that is on the disk; what the old one was in is free then. */
static int replace_l1(struct qcow2 *q, struct qcow2_array *table)
{
	struct qcow2_array old = q->l1;
	uint8_t field[12];
	int r = qcow2_flush_locked(q);

	memcpy(table->entries, old.entries, 8 * old.count);
	table->dirty_first = 0;
	table->dirty_end = table->count;
	if (!r)
		r = qcow2_write_array(q, table);
	if (!r)
		r = vc_file_flush(q->file);
	vc_st32(field, htobe32((uint32_t)table->count));
	vc_st64(field + 4, htobe64(table->offset));
	if (!r)
		r = vc_file_pwrite(q->file, QCOW2_H_L1_SIZE, field, sizeof field);
	if (!r)
		r = vc_file_flush(q->file);
	if (r)
		return r;
	pthread_mutex_lock(&q->table_lock);
	q->l1 = *table;
	pthread_mutex_unlock(&q->table_lock);
	free(old.entries);
	qcow2_unallocate(q, old.offset, qcow2_clusters(q, 8 * old.count));
	return 0;
}

/* meta_lock held */
static int grow_l1(struct qcow2 *q, uint64_t entries)
{
	uint64_t clusters = qcow2_clusters(q, 8 * entries), count;
	struct qcow2_array table = {.dirty_first = UINT64_MAX};
	bool fresh;
	int r;

	if (entries > QCOW2_MAX_L1_BYTES / 8)
		return -EFBIG;
	table.count = entries;
	table.entries = calloc(1, 8 * entries);
	if (!table.entries)
		return -ENOMEM;
	r = qcow2_allocate(q, clusters, clusters, &table.offset, &count, &fresh);
	if (!r) {
		r = replace_l1(q, &table);
		if (r)
			qcow2_unallocate(q, table.offset, clusters);
	}
	if (r)
		free(table.entries);
	return r;
}

/* What is new reads as zeroes, whatever the last cluster or the backing file has there. */
static int grow(struct qcow2 *q, uint64_t old, uint64_t size)
{
	uint64_t entries = qcow2_l1_index(q, size - 1) + 1, seen = VC_ALIGN_UP(old, q->cluster_size);
	int r = 0;

	pthread_mutex_lock(&q->meta_lock);
	if (entries > q->l1.count)
		r = grow_l1(q, entries);
	pthread_mutex_unlock(&q->meta_lock);
	if (r)
		return r;
	if (q->block->backing && vc_block_size(q->block->backing) > seen)
		seen = vc_block_size(q->block->backing);
	if (seen > size)
		seen = size;
	atomic_store(&q->block->size, size);
	r = seen > old ? qcow2_zero(q, old, seen - old, true) : 0;
	if (!r)
		r = qcow2_flush(q);
	if (!r)
		r = write_size(q, size);
	if (r)
		atomic_store(&q->block->size, old);
	return r;
}

static int shrink(struct qcow2 *q, uint64_t size)
{
	int r = qcow2_cut_off(q, size);

	if (!r)
		r = write_size(q, size);
	if (r)
		return r;
	atomic_store(&q->block->size, size);
	return qcow2_flush(q);
}

int qcow2_resize(struct qcow2 *q, uint64_t size)
{
	uint64_t old = vc_block_size(q->block);
	int r;

	if (q->snapshot_count && q->version < 3)
		return vc_fail(ENOTSUP, "%s: a version 2 image with snapshots keeps its size", q->block->path);
	r = size > old ? grow(q, old, size) : shrink(q, size);
	return r ? vc_fail_errno(-r, "%s: resizing from %llu to %llu bytes", q->block->path, (unsigned long long)old,
	                         (unsigned long long)size)
	         : 0;
}
