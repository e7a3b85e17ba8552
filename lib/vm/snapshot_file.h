/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A snapshot's file. All numbers are little-endian; what is not said to be in use is 0.
 *
 *   head      the first page: 0 magic "\x89VCSNAP\n", 8 u32 version (1), 12 u32 flags (bit 0: memory is compressed with
 *             zstd), 16 u64 where the sections are, 24 u64 their length, 32 u64 length of the file, 60 u32 CRC-32C of
 *             bytes 0 to 59
 *   memory    a region a slot. One that is not compressed begins at a page, holds its pages one after the other, and
 *             has holes for pages of zeroes
 *   sections  as in sections.h, up to the end of the file:
 *     SNAP    what vc_snapshot_encode() gives
 *     BASE    16 bytes: the id of the snapshot of which unchanged pages are; all 0: none, the file is complete
 *     MEMS    one for each slot of the header, in that order: 0 u64 where its region is, 8 u64 its length in the file,
 *             16 u64 its length without compression, 24 u32 whether other pages are the base's (1) or there are none
 *             (0), 28 u32 number of runs, 32 u32 number of chunks; from 40 on for each run u64 first page and
 *             u64 number of pages: where in the slot the region's pages are; then for each chunk, which is 1 MiB of
 *             the region or its rest, u32 CRC-32C of it as it is in the file and u32 its length there. A compressed
 *             chunk is one zstd frame, and of length 0 when all of it are zeroes
 */
#ifndef VC_VM_SNAPSHOT_FILE_H
#define VC_VM_SNAPSHOT_FILE_H

#include "vm/sections.h"
#include "vm/snapshot.h"

#define VC_SNAP_MAGIC   "\x89VCSNAP\n"
#define VC_SNAP_VERSION 1u
#define VC_SNAP_ZSTD    1u /* in flags */
#define VC_SNAP_CHUNK   VC_MIB(1)

enum {
	VC_SNAP_HEAD_MAGIC = 0,
	VC_SNAP_HEAD_VERSION = 8,
	VC_SNAP_HEAD_FLAGS = 12,
	VC_SNAP_HEAD_SECTIONS = 16,
	VC_SNAP_HEAD_SECTIONS_LENGTH = 24,
	VC_SNAP_HEAD_LENGTH = 32,
	VC_SNAP_HEAD_CRC = 60,
};

#define VC_SNAP_SNAPSHOT VC_SECTION_KIND('S', 'N', 'A', 'P')
#define VC_SNAP_BASE     VC_SECTION_KIND('B', 'A', 'S', 'E')
#define VC_SNAP_MEMORY   VC_SECTION_KIND('M', 'E', 'M', 'S')
/* Each of these has changed so often. */
#define VC_SNAP_SECTION_VERSION 1u

enum {
	VC_SNAP_MEM_OFFSET = 0,
	VC_SNAP_MEM_STORED = 8,
	VC_SNAP_MEM_LENGTH = 16,
	VC_SNAP_MEM_BASED = 24,
	VC_SNAP_MEM_RUNS = 28,
	VC_SNAP_MEM_CHUNKS = 32,
	VC_SNAP_MEM_TABLES = 40,
	VC_SNAP_RUN_BYTES = 16,
	VC_SNAP_CHUNK_BYTES = 8,
};

/* The slot of another snapshot at the same place, from which an incremental file can go out; NULL: there is none. */
const struct vc_snapshot_slot *vc_snapshot_slot_like(const struct vcore_snapshot *snapshot,
                                                     const struct vc_snapshot_slot *slot);

/* snapshot_pack.c: a chunk as a zstd frame. Bytes; -EIO no such frame, or no room; -ENOTSUP */
int64_t vc_snapshot_pack(const void *data, size_t length, void *to, size_t room);
int64_t vc_snapshot_unpack(const void *data, size_t length, void *to, size_t room);
/* What packing needs at most; 0 with a sentence: a build without zstd. */
size_t vc_snapshot_pack_room(size_t length);

#endif
