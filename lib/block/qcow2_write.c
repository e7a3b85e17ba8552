/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writing: in place, or into new clusters that take the old ones' place once their data is written. */
#include <stdlib.h>

#include "block/qcow2.h"

enum { FREED_MAX = 4096 }; /* runs of freed clusters that wait for a flush, before one is made for them */

/* Does nothing but zeroes lie there? "Don't know" is no. */
static bool reads_as_zeroes(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	const struct vc_block *backing = q->block->backing;
	struct qcow2_extent extent;

	if (qcow2_lookup(q, offset, length, true, &extent) || extent.length < length)
		return false;
	return extent.kind == QCOW2_ZEROED ||
	       (extent.kind == QCOW2_UNALLOCATED && (!backing || offset >= vc_block_size(backing)));
}

/* New clusters, not yet anywhere in the tables. */
struct fresh_clusters {
	uint64_t guest, host, count;
	bool zero; /* they read as zeroes */
};

/* The part of a new cluster that the request does not write. */
static int copy_old(struct qcow2 *q, const struct fresh_clusters *new, uint64_t guest, uint64_t length)
{
	struct iovec iov = {NULL, length};
	int r;

	if (!length || (new->zero &&reads_as_zeroes(q, guest, length)))
		return 0;
	iov.iov_base = malloc(length);
	if (!iov.iov_base)
		return -ENOMEM;
	r = qcow2_read(q, guest, &(struct vc_span){&iov, 1, 0, length});
	if (!r)
		r = vc_file_pwrite(q->file, new->host + (guest - new->guest), iov.iov_base, length);
	free(iov.iov_base);
	return r;
}

static int fill(struct qcow2 *q, const struct fresh_clusters *new, uint64_t offset, const struct vc_span *span)
{
	uint64_t end = new->guest + (new->count << q->cluster_bits);
	int r = copy_old(q, new, new->guest, offset - new->guest);

	if (!r)
		r = vc_file_write(q->file, new->host + (offset - new->guest), span);
	return r ? r : copy_old(q, new, offset + span->length, end - offset - span->length);
}

static bool in_place(uint64_t entry)
{
	return entry & QCOW2_COPIED && !(entry & (QCOW2_COMPRESSED | QCOW2_ZERO)) && entry & QCOW2_OFFSET_MASK;
}

/* meta_lock held: new clusters for as many of the wanted ones as need some, and are found in a row. */
static int allocate(struct qcow2 *q, uint64_t wanted, struct fresh_clusters *new)
{
	struct qcow2_table *l2;
	uint64_t index = qcow2_l2_index(q, new->guest), count = 0;
	int r = qcow2_l2_for_write(q, new->guest, &l2);

	if (r)
		return r;
	while (count < wanted && index + count < 1ull << q->l2_bits && !in_place(be64toh(l2->data[index + count])))
		count++;
	return qcow2_allocate(q, 1, count, &new->host, &new->count, &new->zero);
}

/* meta_lock held: the tables point to the new clusters from here on. */
static int link_clusters(struct qcow2 *q, const struct fresh_clusters *new)
{
	struct qcow2_table *l2;
	uint64_t index = qcow2_l2_index(q, new->guest);
	int r = qcow2_l2_for_write(q, new->guest, &l2);

	for (uint64_t i = 0; i < new->count && !r; i++) {
		uint64_t old = be64toh(l2->data[index + i]);

		qcow2_cache_set(&q->l2_cache, l2, index + i, (new->host + (i << q->cluster_bits)) | QCOW2_COPIED);
		/* without memory to remember them they are lost, not wrong */
		(void)!qcow2_free_entry_later(q, old);
	}
	if (!r && q->freed_count > FREED_MAX)
		r = qcow2_flush_locked(q);
	return r;
}

static int write_new(struct qcow2 *q, uint64_t offset, const struct vc_span *span, uint64_t *done)
{
	struct fresh_clusters new = {.guest = VC_ALIGN_DOWN(offset, q->cluster_size)};
	uint64_t within = offset - new.guest;
	struct vc_span part;
	int r;

	pthread_mutex_lock(&q->meta_lock);
	r = allocate(q, qcow2_clusters(q, within + span->length), &new);
	pthread_mutex_unlock(&q->meta_lock);
	if (r)
		return r;
	*done = (new.count << q->cluster_bits) - within;
	if (*done > span->length)
		*done = span->length;
	part = vc_span_part(span, 0, *done);
	r = fill(q, &new, offset, &part);
	pthread_mutex_lock(&q->meta_lock);
	if (r)
		qcow2_unallocate(q, new.host, new.count);
	else
		r = link_clusters(q, &new);
	pthread_mutex_unlock(&q->meta_lock);
	return r;
}

int qcow2_write(struct qcow2 *q, uint64_t offset, const struct vc_span *span)
{
	uint64_t done;

	if (atomic_load(&q->corrupt))
		return -EIO;
	for (size_t at = 0; at < span->length; at += done) {
		struct vc_span rest = vc_span_part(span, at, span->length - at);
		struct qcow2_extent extent;
		int r = qcow2_lookup(q, offset + at, rest.length, true, &extent);

		if (r)
			return r;
		if (extent.kind == QCOW2_DATA && extent.in_place) {
			done = rest.length = extent.length;
			r = vc_file_write(q->file, extent.host, &rest);
		} else {
			r = write_new(q, offset + at, &rest, &done);
		}
		if (r)
			return r;
	}
	return 0;
}

/* ---- zeroes and discards ---- */

enum change { TO_ZEROES, TO_ZEROES_UNMAPPED, TO_NOTHING, CUT_OFF };

/* What becomes of an entry. */
static uint64_t changed(const struct qcow2 *q, uint64_t entry, enum change change)
{
	uint64_t offset = entry & QCOW2_COMPRESSED ? 0 : entry & QCOW2_OFFSET_MASK;
	uint64_t none = q->block->backing ? QCOW2_ZERO : 0;

	/* beyond the end of the disk nothing is seen; growing looks after what lies below */
	if (change == CUT_OFF)
		return 0;
	/* there a discarded cluster would show what the backing file has */
	if (change == TO_NOTHING && q->version < 3 && q->block->backing)
		return entry;
	if (change == TO_NOTHING)
		return offset || entry & QCOW2_COMPRESSED ? none : entry;
	if (change == TO_ZEROES && q->version >= 3 && offset && entry & QCOW2_COPIED)
		return offset | QCOW2_COPIED | QCOW2_ZERO;
	return !entry ? none : entry == QCOW2_ZERO ? entry : none;
}

/* meta_lock held; the clusters lie in one L2 table. */
static int change_clusters(struct qcow2 *q, uint64_t guest, uint64_t count, enum change change)
{
	uint64_t index = qcow2_l2_index(q, guest);
	struct qcow2_table *l2;
	int r;

	/* nothing is there, and nothing shows through */
	if (!(qcow2_entry(&q->l1, qcow2_l1_index(q, guest)) & QCOW2_OFFSET_MASK) &&
	    (change == TO_NOTHING || change == CUT_OFF || !q->block->backing))
		return 0;
	r = qcow2_l2_for_write(q, guest, &l2);
	for (uint64_t i = 0; i < count && !r; i++) {
		uint64_t old = be64toh(l2->data[index + i]), new = changed(q, old, change);

		if (new == old)
			continue;
		if (!(new &QCOW2_OFFSET_MASK))
			r = qcow2_free_entry_later(q, old);
		if (!r)
			qcow2_cache_set(&q->l2_cache, l2, index + i, new);
	}
	if (!r && q->freed_count > FREED_MAX)
		r = qcow2_flush_locked(q);
	return r;
}

static int change_range(struct qcow2 *q, uint64_t guest, uint64_t end, enum change change)
{
	uint64_t table_span = 1ull << (q->cluster_bits + q->l2_bits);
	int r = atomic_load(&q->corrupt) ? -EIO : 0;

	while (guest < end && !r) {
		uint64_t stop = VC_ALIGN_DOWN(guest, table_span) + table_span;

		stop = stop < end ? stop : end;
		pthread_mutex_lock(&q->meta_lock);
		r = change_clusters(q, guest, (stop - guest) >> q->cluster_bits, change);
		pthread_mutex_unlock(&q->meta_lock);
		guest = stop;
	}
	return r;
}

static int write_zero_data(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	size_t most = VC_KIB(64);
	struct iovec iov = {calloc(1, most), most};
	int r = iov.iov_base ? 0 : -ENOMEM;

	while (length && !r) {
		size_t n = length < most ? length : most;

		if (!reads_as_zeroes(q, offset, n))
			r = qcow2_write(q, offset, &(struct vc_span){&iov, 1, 0, n});
		offset += n;
		length -= n;
	}
	free(iov.iov_base);
	return r;
}

/* The whole clusters of a range; a last one that the disk has only in part is whole. False: there is none. */
static bool whole_clusters(const struct qcow2 *q, uint64_t offset, uint64_t end, uint64_t *first, uint64_t *last)
{
	*first = VC_ALIGN_UP(offset, q->cluster_size);
	*last = end == vc_block_size(q->block) ? VC_ALIGN_UP(end, q->cluster_size) : VC_ALIGN_DOWN(end, q->cluster_size);
	return *first < *last;
}

int qcow2_zero(struct qcow2 *q, uint64_t offset, uint64_t length, bool may_unmap)
{
	uint64_t end = offset + length, first, last;
	int r;

	if (!whole_clusters(q, offset, end, &first, &last) || (q->version < 3 && q->block->backing))
		return write_zero_data(q, offset, length);
	r = write_zero_data(q, offset, first - offset);
	if (!r)
		r = change_range(q, first, last, may_unmap ? TO_ZEROES_UNMAPPED : TO_ZEROES);
	return r || last >= end ? r : write_zero_data(q, last, end - last);
}

int qcow2_discard(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	uint64_t first, last;

	return whole_clusters(q, offset, offset + length, &first, &last) ? change_range(q, first, last, TO_NOTHING) : 0;
}

int qcow2_cut_off(struct qcow2 *q, uint64_t size)
{
	return change_range(q, VC_ALIGN_UP(size, q->cluster_size), VC_ALIGN_UP(vc_block_size(q->block), q->cluster_size),
	                    CUT_OFF);
}
