/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From guest addresses to places in the file: L1 and L2 tables. */
#include <stdlib.h>

#include "block/qcow2.h"

static enum qcow2_kind kind_of(const struct qcow2 *q, uint64_t entry)
{
	if (entry & QCOW2_COMPRESSED)
		return QCOW2_PACKED;
	/* version 2 has no such flag */
	if (entry & QCOW2_ZERO && q->version >= 3)
		return QCOW2_ZEROED;
	return entry & QCOW2_OFFSET_MASK ? QCOW2_DATA : QCOW2_UNALLOCATED;
}

/* A cluster for data or a table: where one can be? */
static bool valid_cluster(const struct qcow2 *q, uint64_t offset)
{
	return !(offset & (q->cluster_size - 1)) && offset >> q->cluster_bits < q->limit;
}

static bool continues(const struct qcow2 *q, const struct qcow2_extent *extent, uint64_t first, uint64_t entry,
                      uint64_t clusters)
{
	if (kind_of(q, entry) != extent->kind || extent->kind == QCOW2_PACKED)
		return false;
	return extent->kind != QCOW2_DATA || entry == first + (clusters << q->cluster_bits);
}

/* Reads the L2 table from offset's entry on. False: an entry cannot be. */
static bool decode(const struct qcow2 *q, const uint64_t *l2, uint64_t offset, uint64_t length,
                   struct qcow2_extent *extent)
{
	uint64_t index = qcow2_l2_index(q, offset), within = offset & (q->cluster_size - 1);
	uint64_t entry = be64toh(l2[index]), entries = 1ull << q->l2_bits, clusters = 1;

	extent->kind = kind_of(q, entry);
	extent->in_place = entry & QCOW2_COPIED;
	extent->host = extent->kind == QCOW2_PACKED ? entry : (entry & QCOW2_OFFSET_MASK) + within;
	while (clusters << q->cluster_bits < within + length && index + clusters < entries &&
	       continues(q, extent, entry, be64toh(l2[index + clusters]), clusters))
		clusters++;
	extent->length = (clusters << q->cluster_bits) - within;
	if (extent->length > length)
		extent->length = length;
	if (extent->kind != QCOW2_DATA)
		return true;
	return valid_cluster(q, entry & QCOW2_OFFSET_MASK) &&
	       valid_cluster(q, (entry & QCOW2_OFFSET_MASK) + ((clusters - 1) << q->cluster_bits));
}

/* Without a table nothing is allocated. table_lock or meta_lock held; 0 with *l2 0 for that. */
static int l2_offset(const struct qcow2 *q, uint64_t offset, uint64_t *l2)
{
	uint64_t index = qcow2_l1_index(q, offset);

	*l2 = index < q->l1.count ? qcow2_entry(&q->l1, index) & QCOW2_OFFSET_MASK : 0;
	return valid_cluster(q, *l2) ? 0 : -EIO;
}

static uint64_t to_end_of_table(const struct qcow2 *q, uint64_t offset, uint64_t length)
{
	uint64_t span = 1ull << (q->cluster_bits + q->l2_bits), rest = span - (offset & (span - 1));

	return length < rest ? length : rest;
}

static int lookup_loaded(struct qcow2 *q, uint64_t offset, uint64_t length, struct qcow2_extent *extent)
{
	uint64_t at, *l2;
	int r;

	pthread_mutex_lock(&q->table_lock);
	r = l2_offset(q, offset, &at);
	if (!r && at) {
		l2 = qcow2_cache_peek(&q->l2_cache, at);
		r = l2 && decode(q, l2, offset, length, extent) ? 0 : -EAGAIN;
	}
	pthread_mutex_unlock(&q->table_lock);
	return r ? -EAGAIN : 0;
}

int qcow2_lookup(struct qcow2 *q, uint64_t offset, uint64_t length, bool may_load, struct qcow2_extent *extent)
{
	struct qcow2_table *l2;
	uint64_t at;
	int r;

	*extent = (struct qcow2_extent){.kind = QCOW2_UNALLOCATED, .length = to_end_of_table(q, offset, length)};
	r = lookup_loaded(q, offset, length, extent);
	if (!r || !may_load)
		return r;
	pthread_mutex_lock(&q->meta_lock);
	r = l2_offset(q, offset, &at);
	if (r)
		r = qcow2_corrupt(q, "the L2 table of guest address %#llx is at %#llx", (unsigned long long)offset,
		                  (unsigned long long)at);
	else if (at)
		r = qcow2_cache_get(&q->l2_cache, at, &l2);
	if (!r && at && !decode(q, l2->data, offset, length, extent))
		r = qcow2_corrupt(q, "guest address %#llx is at %#llx", (unsigned long long)offset,
		                  (unsigned long long)extent->host);
	pthread_mutex_unlock(&q->meta_lock);
	return r;
}

/* What the old table had, into the new one. */
static int copy_l2(struct qcow2 *q, uint64_t old, uint64_t new, struct qcow2_table **out)
{
	struct qcow2_table *table;
	uint64_t *copy = malloc(q->cluster_size);
	int r = copy ? qcow2_cache_get(&q->l2_cache, old, &table) : -ENOMEM;

	/* the one may make room for the other */
	if (!r)
		memcpy(copy, table->data, q->cluster_size);
	if (!r)
		r = qcow2_cache_new(&q->l2_cache, new, &table);
	if (!r) {
		pthread_mutex_lock(&q->table_lock);
		memcpy(table->data, copy, q->cluster_size);
		pthread_mutex_unlock(&q->table_lock);
		*out = table;
		r = qcow2_free_later(q, old, 1);
	}
	free(copy);
	return r;
}

/* A table of its own in the place of none, or of one that a snapshot has as well. */
static int new_l2(struct qcow2 *q, uint64_t index, uint64_t old, struct qcow2_table **out)
{
	uint64_t host, count;
	bool fresh;
	int r = qcow2_allocate(q, 1, 1, &host, &count, &fresh);

	if (r)
		return r;
	r = old ? copy_l2(q, old, host, out) : qcow2_cache_new(&q->l2_cache, host, out);
	if (r) {
		qcow2_unallocate(q, host, 1);
		return r;
	}
	pthread_mutex_lock(&q->table_lock);
	qcow2_set_entry(&q->l1, index, host | QCOW2_COPIED);
	pthread_mutex_unlock(&q->table_lock);
	return 0;
}

int qcow2_l2_for_write(struct qcow2 *q, uint64_t offset, struct qcow2_table **table)
{
	uint64_t index = qcow2_l1_index(q, offset), at, entry;

	if (atomic_load(&q->corrupt))
		return -EIO;
	if (index >= q->l1.count)
		return -EINVAL;
	entry = qcow2_entry(&q->l1, index);
	if (l2_offset(q, offset, &at))
		return qcow2_corrupt(q, "the L2 table of guest address %#llx is at %#llx", (unsigned long long)offset,
		                     (unsigned long long)at);
	if (at && entry & QCOW2_COPIED)
		return qcow2_cache_get(&q->l2_cache, at, table);
	return new_l2(q, index, at, table);
}
