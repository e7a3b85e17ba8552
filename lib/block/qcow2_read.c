/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>

#include "block/qcow2.h"

static bool read_unpacked(struct qcow2_unpacked *u, uint64_t entry, uint64_t within, const struct vc_span *span)
{
	bool found = false;

	pthread_mutex_lock(&u->lock);
	for (unsigned i = 0; i < QCOW2_UNPACKED && !found; i++) {
		found = u->entries[i] == entry;
		if (found)
			vc_span_fill(span, u->clusters[i] + within);
	}
	pthread_mutex_unlock(&u->lock);
	return found;
}

/* Takes the place of the oldest; returns that one's memory. */
static uint8_t *keep_unpacked(struct qcow2_unpacked *u, uint64_t entry, uint8_t *cluster)
{
	uint8_t *old;

	pthread_mutex_lock(&u->lock);
	old = u->clusters[u->next];
	u->clusters[u->next] = cluster;
	u->entries[u->next] = entry;
	u->next = (u->next + 1) % QCOW2_UNPACKED;
	pthread_mutex_unlock(&u->lock);
	return old;
}

static int read_packed_part(struct qcow2 *q, uint64_t entry, uint64_t within, const struct vc_span *span)
{
	uint8_t *cluster;
	int r;

	if (read_unpacked(&q->unpacked, entry, within, span))
		return 0;
	cluster = malloc(q->cluster_size);
	r = cluster ? qcow2_read_packed(q, entry, cluster) : -ENOMEM;
	if (!r) {
		vc_span_fill(span, cluster + within);
		cluster = keep_unpacked(&q->unpacked, entry, cluster);
	}
	free(cluster);
	return r;
}

static int read_extent(struct qcow2 *q, uint64_t offset, const struct qcow2_extent *extent, const struct vc_span *span)
{
	switch (extent->kind) {
	case QCOW2_DATA:
		return vc_file_read(q->file, extent->host, span);
	case QCOW2_PACKED:
		return read_packed_part(q, extent->host, offset & (q->cluster_size - 1), span);
	case QCOW2_UNALLOCATED:
		if (q->block->backing)
			return vc_block_read_backing(q->block->backing, offset, span);
		break;
	case QCOW2_ZEROED:
		break;
	}
	vc_span_zero(span);
	return 0;
}

int qcow2_read(struct qcow2 *q, uint64_t offset, const struct vc_span *span)
{
	struct qcow2_extent extent;

	for (size_t at = 0; at < span->length; at += extent.length) {
		struct vc_span part;
		int r = qcow2_lookup(q, offset + at, span->length - at, true, &extent);

		if (r)
			return r;
		part = vc_span_part(span, at, extent.length);
		r = read_extent(q, offset + at, &extent, &part);
		if (r)
			return r;
	}
	return 0;
}
