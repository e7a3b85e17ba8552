/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Compressed clusters, for reading: deflate without a header, or one zstd frame. */
#include <stdlib.h>

#include "block/qcow2.h"
#include "config.h"

#ifdef VC_HAVE_ZLIB
#include <zlib.h>
#endif
#ifdef VC_HAVE_ZSTD
#include <zstd.h>
#endif

enum { WINDOW_BITS = 12, SECTOR_BITS = 9 };

void qcow2_packed_place(const struct qcow2 *q, uint64_t entry, uint64_t *offset, uint64_t *length)
{
	unsigned shift = 62 - (q->cluster_bits - 8);
	uint64_t sectors = (entry >> shift & ((1ull << (q->cluster_bits - 8)) - 1)) + 1;

	*offset = entry & ((1ull << shift) - 1);
	*length = (sectors << SECTOR_BITS) - (*offset & (VC_BLOCK_SECTOR - 1));
}

static int inflate_cluster(const void *from, size_t length, void *to, size_t size)
{
#ifdef VC_HAVE_ZLIB
	z_stream stream = {.next_in = (void *)from, .avail_in = (uInt)length, .next_out = to, .avail_out = (uInt)size};
	int r;

	if (inflateInit2(&stream, -WINDOW_BITS) != Z_OK)
		return -ENOMEM;
	/* what follows the stream in its last sector is not ours */
	r = inflate(&stream, Z_FINISH);
	inflateEnd(&stream);
	return (r == Z_STREAM_END || r == Z_BUF_ERROR) && !stream.avail_out ? 0 : -EIO;
#else
	return -ENOTSUP;
#endif
}

static int unpack_zstd(const void *from, size_t length, void *to, size_t size)
{
#ifdef VC_HAVE_ZSTD
	ZSTD_DCtx *context = ZSTD_createDCtx();
	ZSTD_inBuffer in = {from, length, 0};
	ZSTD_outBuffer out = {to, size, 0};
	bool moves = true;
	size_t r = 1;

	if (!context)
		return -ENOMEM;
	while (r && !ZSTD_isError(r) && out.pos < size && moves) {
		size_t before = in.pos + out.pos;

		r = ZSTD_decompressStream(context, &out, &in);
		moves = in.pos + out.pos != before;
	}
	ZSTD_freeDCtx(context);
	return !ZSTD_isError(r) && out.pos == size ? 0 : -EIO;
#else
	return -ENOTSUP;
#endif
}

int qcow2_read_packed(struct qcow2 *q, uint64_t entry, void *cluster)
{
	uint64_t offset, length;
	void *packed;
	int r;

	qcow2_packed_place(q, entry, &offset, &length);
	packed = malloc(length);
	if (!packed)
		return -ENOMEM;
	r = vc_file_pread(q->file, offset, packed, length);
	if (!r && q->compression == QCOW2_ZSTD)
		r = unpack_zstd(packed, length, cluster, q->cluster_size);
	else if (!r)
		r = inflate_cluster(packed, length, cluster, q->cluster_size);
	free(packed);
	return r;
}
