/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>

#include "block/qcow2.h"

static int read_packed_part(struct qcow2 *q, uint64_t entry, uint64_t within, const struct vc_span *span)
{
	uint8_t *cluster = malloc(q->cluster_size);
	int r = cluster ? qcow2_read_packed(q, entry, cluster) : -ENOMEM;

	if (!r)
		vc_span_fill(span, cluster + within);
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
