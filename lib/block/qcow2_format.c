/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A new version 3 image: header, refcount table, one refcount block, L1 table, one after the other. */
#include <stdlib.h>
#include <unistd.h>

#include "block/qcow2.h"

enum {
	CLUSTER_BITS = 16,
	CLUSTER = 1 << CLUSTER_BITS,
	REFCOUNT_ORDER = 4,
	HEADER_LENGTH = 104,
	EXT_BACKING_FORMAT = 0xe2792aca,

	REFTABLE_AT = 1, /* in clusters */
	REFBLOCK_AT = 2,
	L1_AT = 3,
};

static void put32(uint8_t *at, uint32_t value)
{
	vc_st32(at, htobe32(value));
}

static void put64(uint8_t *at, uint64_t value)
{
	vc_st64(at, htobe64(value));
}

static void put_backing(uint8_t *header, const char *backing, const char *format)
{
	size_t at = HEADER_LENGTH, length = strlen(format);

	put32(header + at, EXT_BACKING_FORMAT);
	put32(header + at + 4, (uint32_t)length);
	memcpy(header + at + 8, format, length);
	/* behind an end of extensions, which is all zeroes */
	at += 8 + VC_ALIGN_UP(length, 8) + 8;
	put64(header + QCOW2_H_BACKING_OFFSET, at);
	put32(header + QCOW2_H_BACKING_SIZE, (uint32_t)strlen(backing));
	memcpy(header + at, backing, strlen(backing));
}

static void put_header(uint8_t *header, uint64_t size, uint64_t l1_entries)
{
	put32(header + QCOW2_H_MAGIC, QCOW2_MAGIC);
	put32(header + QCOW2_H_VERSION, 3);
	put32(header + QCOW2_H_CLUSTER_BITS, CLUSTER_BITS);
	put64(header + QCOW2_H_SIZE, size);
	put32(header + QCOW2_H_L1_SIZE, (uint32_t)l1_entries);
	put64(header + QCOW2_H_L1_OFFSET, (uint64_t)L1_AT << CLUSTER_BITS);
	put64(header + QCOW2_H_REFTABLE_OFFSET, (uint64_t)REFTABLE_AT << CLUSTER_BITS);
	put32(header + QCOW2_H_REFTABLE_CLUSTERS, 1);
	put32(header + QCOW2_H_REFCOUNT_ORDER, REFCOUNT_ORDER);
	put32(header + QCOW2_H_LENGTH, HEADER_LENGTH);
}

int vc_qcow2_format(struct vc_file *file, uint64_t size, const char *backing, const char *backing_format)
{
	uint64_t l1_span = (uint64_t)CLUSTER * (CLUSTER / 8), entries = size / l1_span + !!(size % l1_span);
	uint64_t l1_clusters = (8 * entries + CLUSTER - 1) / CLUSTER, clusters;
	uint8_t *start;
	int r;

	if (8 * entries > QCOW2_MAX_L1_BYTES)
		return vc_fail(EFBIG, "%s: %llu bytes are too many for a qcow2 image", file->path, (unsigned long long)size);
	if (backing && strlen(backing) > 1023)
		return vc_fail(EINVAL, "%s: the path of the backing file has more than 1023 bytes", file->path);
	/* even a disk of no size has a place for its table */
	clusters = L1_AT + (l1_clusters ? l1_clusters : 1);
	start = calloc(L1_AT, CLUSTER);
	if (!start)
		return vc_fail(ENOMEM, "%s: no memory for a new image", file->path);
	put_header(start, size, entries);
	if (backing)
		put_backing(start, backing, backing_format);
	put64(start + REFTABLE_AT * CLUSTER, (uint64_t)REFBLOCK_AT << CLUSTER_BITS);
	for (uint64_t i = 0; i < clusters; i++)
		vc_st16(start + REFBLOCK_AT * CLUSTER + 2 * i, htobe16(1));
	r = ftruncate(file->fd, (off_t)(clusters << CLUSTER_BITS)) < 0 ? -errno : 0;
	if (!r)
		r = vc_file_pwrite(file, 0, start, (size_t)L1_AT * CLUSTER);
	if (!r)
		r = vc_file_flush(file);
	free(start);
	return r ? vc_fail_errno(-r, "%s: writing a new image", file->path) : 0;
}
