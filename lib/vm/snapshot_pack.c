/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Compression of memory, in snapshots' files and in migrations. */
#include "config.h"
#include "vm/snapshot_file.h"

#ifdef VC_HAVE_ZSTD
#include <zstd.h>

#define LEVEL 1 /* several hundred MB a second, and most of what higher ones gain */

int64_t vc_snapshot_pack(const void *data, size_t length, void *to, size_t room)
{
	size_t n = ZSTD_compress(to, room, data, length, LEVEL);

	return ZSTD_isError(n) ? vc_fail(EIO, "zstd: %s", ZSTD_getErrorName(n)) : (int64_t)n;
}

int64_t vc_snapshot_unpack(const void *data, size_t length, void *to, size_t room)
{
	size_t n = ZSTD_decompress(to, room, data, length);

	return ZSTD_isError(n) ? vc_fail(EIO, "zstd: %s", ZSTD_getErrorName(n)) : (int64_t)n;
}

size_t vc_snapshot_pack_room(size_t length)
{
	return ZSTD_compressBound(length);
}

#else

static int64_t no_zstd(void)
{
	return vc_fail(ENOTSUP, "this build of libvirtcore has no zstd: nothing can be compressed");
}

int64_t vc_snapshot_pack(const void *data, size_t length, void *to, size_t room)
{
	return no_zstd();
}

int64_t vc_snapshot_unpack(const void *data, size_t length, void *to, size_t room)
{
	return no_zstd();
}

size_t vc_snapshot_pack_room(size_t length)
{
	no_zstd();
	return 0;
}
#endif
