/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Header, header extensions, and the two tables that are wholly in memory. Every number in them is somebody else's. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/qcow2.h"

enum {
	EXT_END = 0,
	EXT_BACKING_FORMAT = 0xe2792aca,

	MIN_CLUSTER_BITS = 9,
	MAX_CLUSTER_BITS = 21,
	MAX_BACKING_NAME = 1023,
	MAX_FORMAT_NAME = 32,
	MAX_REFCOUNT_ORDER = 6,
};

static uint32_t get32(const uint8_t *header, unsigned at)
{
	return be32toh(vc_ld32(header + at));
}

static uint64_t get64(const uint8_t *header, unsigned at)
{
	return be64toh(vc_ld64(header + at));
}

/* ---- tables ---- */

int qcow2_load_array(struct qcow2 *q, const char *name, uint64_t offset, uint64_t count, struct qcow2_array *array)
{
	const char *path = q->block->path;
	int r;

	*array = (struct qcow2_array){.offset = offset, .count = count, .dirty_first = UINT64_MAX};
	if (offset & (q->cluster_size - 1) || offset > INT64_MAX - 8 * count || (count && !offset))
		return vc_fail(EINVAL, "%s: the %s table is at %#llx, where none can be", path, name,
		               (unsigned long long)offset);
	/* a sector too much rather than one of a bytes' length */
	array->entries = calloc(1, VC_ALIGN_UP(8 * count + 1, VC_BLOCK_SECTOR));
	if (!array->entries)
		return vc_fail(ENOMEM, "%s: no memory for the %s table", path, name);
	r = vc_file_pread(q->file, offset, array->entries, 8 * count);
	return r ? vc_fail_errno(-r, "%s: reading the %s table", path, name) : 0;
}

void qcow2_set_entry(struct qcow2_array *array, uint64_t index, uint64_t value)
{
	array->entries[index] = htobe64(value);
	if (array->dirty_first >= array->dirty_end)
		array->dirty_end = 0, array->dirty_first = UINT64_MAX;
	if (index < array->dirty_first)
		array->dirty_first = index;
	if (index >= array->dirty_end)
		array->dirty_end = index + 1;
}

int qcow2_write_array(struct qcow2 *q, struct qcow2_array *array)
{
	uint64_t first = array->dirty_first;
	int r = vc_file_pwrite(q->file, array->offset + 8 * first, array->entries + first, 8 * (array->dirty_end - first));

	if (!r)
		array->dirty_first = UINT64_MAX;
	return r;
}

int qcow2_corrupt(struct qcow2 *q, const char *format, ...)
{
	uint8_t bytes[8];
	char text[200];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (!atomic_exchange(&q->corrupt, true) && q->version >= 3 && !q->file->read_only &&
	    !vc_file_pread(q->file, QCOW2_H_INCOMPATIBLE, bytes, sizeof bytes)) {
		vc_st64(bytes, vc_ld64(bytes) | htobe64(QCOW2_INCOMPAT_CORRUPT));
		/* it is a hint for the next one who opens it; failing to leave it changes nothing here */
		(void)!vc_file_pwrite(q->file, QCOW2_H_INCOMPATIBLE, bytes, sizeof bytes);
	}
	return vc_fail(EIO, "%s: is corrupt: %s", q->block->path, text);
}

/* ---- header ---- */

/* By name, as far as QEMU's document knows them. */
static int check_features(struct qcow2 *q, uint64_t bits)
{
	static const char *const names[] = {"dirty refcounts", "corrupt", "an external data file", "a compression type",
	                                    "extended L2 entries"};
	enum { COMPRESSION = 3 };
	uint64_t known = QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT | 1ull << COMPRESSION;
	const char *path = q->block->path;
	unsigned bit;

	if (bits & ~known) {
		bit = (unsigned)__builtin_ctzll(bits & ~known);
		return vc_fail(ENOTSUP, "%s: needs incompatible feature bit %u (%s), which this library does not have", path,
		               bit, bit < VC_ARRAY_SIZE(names) ? names[bit] : "unknown");
	}
	if (bits & QCOW2_INCOMPAT_CORRUPT && !q->block->read_only)
		return vc_fail(EIO, "%s: is marked as corrupt: open it for reading only, or repair it with \"qemu-img check\"",
		               path);
	q->dirty = bits & QCOW2_INCOMPAT_DIRTY;
	return 0;
}

static int read_version3(struct qcow2 *q, const uint8_t *header, uint32_t *length)
{
	uint64_t incompatible = get64(header, QCOW2_H_INCOMPATIBLE);
	const char *path = q->block->path;
	int r = check_features(q, incompatible);

	if (r)
		return r;
	q->refcount_order = get32(header, QCOW2_H_REFCOUNT_ORDER);
	*length = get32(header, QCOW2_H_LENGTH);
	if (q->refcount_order > MAX_REFCOUNT_ORDER)
		return vc_fail(EINVAL, "%s: refcounts of 2^%u bits: expected at most 64", path, q->refcount_order);
	if (*length < QCOW2_H_COMPRESSION || *length > q->cluster_size || *length % 8)
		return vc_fail(EINVAL, "%s: a header of %u bytes", path, *length);
	if (*length > QCOW2_H_COMPRESSION)
		q->compression = header[QCOW2_H_COMPRESSION];
	if (q->compression > QCOW2_ZSTD)
		return vc_fail(ENOTSUP, "%s: compression type %u: expected 0 (zlib) or 1 (zstd)", path, q->compression);
	return 0;
}

/* What the autoclear bits stand for (dirty bitmaps) would no longer be true once we write. */
static int clear_autoclear(struct qcow2 *q, const uint8_t *header)
{
	uint64_t zero = 0;
	int r = 0;

	if (q->version >= 3 && get64(header, QCOW2_H_AUTOCLEAR) && !q->block->read_only)
		r = vc_file_pwrite(q->file, QCOW2_H_AUTOCLEAR, &zero, sizeof zero);
	return r ? vc_fail_errno(-r, "%s: writing its header", q->block->path) : 0;
}

static int read_basics(struct qcow2 *q, const uint8_t *header, uint32_t *length)
{
	const char *path = q->block->path;

	q->version = get32(header, QCOW2_H_VERSION);
	if (get32(header, QCOW2_H_MAGIC) != QCOW2_MAGIC)
		return vc_fail(EINVAL, "%s: is not a qcow2 image", path);
	if (q->version != 2 && q->version != 3)
		return vc_fail(ENOTSUP, "%s: qcow2 version %u: expected 2 or 3", path, q->version);
	q->cluster_bits = get32(header, QCOW2_H_CLUSTER_BITS);
	if (q->cluster_bits < MIN_CLUSTER_BITS || q->cluster_bits > MAX_CLUSTER_BITS)
		return vc_fail(EINVAL, "%s: clusters of 2^%u bytes: expected 512 to 2 MiB", path, q->cluster_bits);
	q->cluster_size = 1ull << q->cluster_bits;
	q->l2_bits = q->cluster_bits - 3;
	q->refcount_order = 4;
	*length = QCOW2_H_V2_LENGTH;
	if (get32(header, QCOW2_H_CRYPT))
		return vc_fail(ENOTSUP, "%s: is encrypted, which this library does not support", path);
	return q->version == 2 ? 0 : read_version3(q, header, length);
}

static int read_tables(struct qcow2 *q, const uint8_t *header, const struct vc_block_options *options)
{
	const char *path = q->block->path;
	uint64_t size = get64(header, QCOW2_H_SIZE), l1_count = get32(header, QCOW2_H_L1_SIZE);
	uint64_t l1_offset = get64(header, QCOW2_H_L1_OFFSET);
	uint64_t reftable = (uint64_t)get32(header, QCOW2_H_REFTABLE_CLUSTERS) << q->cluster_bits;
	int r;

	q->snapshot_count = get32(header, QCOW2_H_SNAPSHOT_COUNT);
	q->snapshot_offset = get64(header, QCOW2_H_SNAPSHOT_OFFSET);
	if (options->snapshot) {
		r = qcow2_find_snapshot(q, options->snapshot, &l1_offset, &l1_count, &size);
		if (r)
			return r;
	}
	if (size > INT64_MAX || l1_count > QCOW2_MAX_L1_BYTES / 8)
		return vc_fail(EINVAL, "%s: %llu bytes with an L1 table of %llu entries", path, (unsigned long long)size,
		               (unsigned long long)l1_count);
	/* a last part of a sector is of no use to a disk */
	size = VC_ALIGN_DOWN(size, VC_BLOCK_SECTOR);
	if (size && qcow2_l1_index(q, size - 1) >= l1_count)
		return vc_fail(EINVAL, "%s: an L1 table of %llu entries is too short for %llu bytes", path,
		               (unsigned long long)l1_count, (unsigned long long)size);
	if (reftable > QCOW2_MAX_REFTABLE)
		return vc_fail(EINVAL, "%s: a refcount table of %llu bytes: expected at most 8 MiB", path,
		               (unsigned long long)reftable);
	r = qcow2_load_array(q, "L1", l1_offset, l1_count, &q->l1);
	/* who only reads needs no refcounts */
	if (!r && !q->block->read_only)
		r = qcow2_load_array(q, "refcount", get64(header, QCOW2_H_REFTABLE_OFFSET), reftable / 8, &q->reftable);
	atomic_store(&q->block->size, size);
	return r;
}

/* ---- backing file ---- */

/* The format of the backing file, if an extension says; "" otherwise. */
static int read_extensions(struct qcow2 *q, uint64_t at, uint64_t end, char format[MAX_FORMAT_NAME])
{
	uint8_t head[8];

	format[0] = '\0';
	while (at + sizeof head <= end) {
		int r = vc_file_pread(q->file, at, head, sizeof head);
		uint32_t type = get32(head, 0), length = get32(head, 4);

		if (r)
			return vc_fail_errno(-r, "%s: reading its header extensions", q->block->path);
		at += sizeof head;
		if (type == EXT_END)
			return 0;
		if (length > end - at)
			return vc_fail(EINVAL, "%s: header extension %#x of %u bytes leaves the header", q->block->path, type,
			               length);
		if (type == EXT_BACKING_FORMAT) {
			if (length >= MAX_FORMAT_NAME)
				return vc_fail(EINVAL, "%s: a name of a format of %u bytes", q->block->path, length);
			r = vc_file_pread(q->file, at, format, length);
			format[length] = '\0';
			if (r)
				return vc_fail_errno(-r, "%s: reading its header extensions", q->block->path);
		}
		at += VC_ALIGN_UP((uint64_t)length, 8);
	}
	return 0;
}

static int open_backing(struct qcow2 *q, const uint8_t *header, uint32_t length, const struct vc_block_options *options)
{
	uint64_t offset = get64(header, QCOW2_H_BACKING_OFFSET);
	uint32_t size = get32(header, QCOW2_H_BACKING_SIZE);
	char name[MAX_BACKING_NAME + 1], format[MAX_FORMAT_NAME];
	int r;

	if (!offset || q->block->backing)
		return 0;
	if (!size || size > MAX_BACKING_NAME || offset > q->cluster_size || size > q->cluster_size - offset)
		return vc_fail(EINVAL, "%s: the name of its backing file, %u bytes at %#llx, leaves the header", q->block->path,
		               size, (unsigned long long)offset);
	r = vc_file_pread(q->file, offset, name, size);
	name[size] = '\0';
	if (r)
		return vc_fail_errno(-r, "%s: reading the name of its backing file", q->block->path);
	if (!strncmp(name, "json:", 5) || (strstr(name, "://") && name[0] != '/'))
		return vc_fail(ENOTSUP, "%s: backing file \"%s\": expected the path of a file", q->block->path, name);
	r = read_extensions(q, length, offset, format);
	return r ? r : vc_block_open_backing(q->block, name, format, options, &q->block->backing);
}

int qcow2_read_header(struct qcow2 *q, const struct vc_block_options *options)
{
	uint8_t header[QCOW2_H_MAX];
	uint32_t length = 0;
	int r = vc_file_pread(q->file, 0, header, sizeof header);

	if (r)
		return vc_fail_errno(-r, "%s: reading its header", q->block->path);
	r = read_basics(q, header, &length);
	if (!r)
		r = read_tables(q, header, options);
	if (!r)
		r = open_backing(q, header, length, options);
	return r ? r : clear_autoclear(q, header);
}
