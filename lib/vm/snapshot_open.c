/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A snapshot from a file, which may be anybody's: nothing in it is believed. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/crc32c.h"
#include "core/io.h"
#include "vm/snapshot_codec.h"
#include "vm/snapshot_file.h"

#define SECTIONS_MAX VC_GIB(1) /* more than states and tables of the largest vm */

struct loading {
	struct vcore_snapshot_load_options o;
	const char *path;
	struct vc_image_file *file;
	uint64_t length;
	uint32_t flags;
	uint8_t *sections, *chunk, *packed;
	uint32_t zeroes; /* checksum of a whole chunk of them */
	uint64_t at;     /* where the next region begins */
	struct vc_sections in;
	struct vcore_snapshot *s;
};

/* What a section MEMS says. */
struct region {
	uint64_t offset, stored, length;
	uint32_t runs, chunks;
	bool based;
	struct vc_run run[VC_IMAGE_RUNS];
	const uint8_t *table; /* VC_SNAP_CHUNK_BYTES a chunk */
};

static int read_at(const struct loading *l, void *buffer, size_t length, uint64_t at)
{
	int r = vc_pread_all(l->file->fd, buffer, length, at);

	return r < 0 ? vc_fail_errno(-r, "reading %zu bytes at %#llx", length, (unsigned long long)at) : 0;
}

/* ---- head and sections ---- */

static int check_head(struct loading *l, const uint8_t *head)
{
	uint64_t length = vc_ld64(head + VC_SNAP_HEAD_LENGTH);

	if (memcmp(head + VC_SNAP_HEAD_MAGIC, VC_SNAP_MAGIC, 8) != 0)
		return vc_fail(EINVAL, "it is no snapshot: it does not begin as one does");
	if (vc_ld32(head + VC_SNAP_HEAD_VERSION) != VC_SNAP_VERSION)
		return vc_fail(EINVAL, "its format is of version %u, this library knows %u",
		               vc_ld32(head + VC_SNAP_HEAD_VERSION), VC_SNAP_VERSION);
	if (vc_ld32(head + VC_SNAP_HEAD_CRC) != vc_crc32c(0, head, VC_SNAP_HEAD_CRC))
		return vc_fail(EINVAL, "it was altered: the checksum of its head is wrong");
	for (size_t i = VC_SNAP_HEAD_CRC + 4; i < VC_PAGE_SIZE; i++)
		if (head[i])
			return vc_fail(EINVAL, "it was altered: there is something behind its head");
	if (length != l->length)
		return vc_fail(EINVAL, "it was cut off or has grown: it has %llu bytes, its head says %llu",
		               (unsigned long long)l->length, (unsigned long long)length);
	l->flags = vc_ld32(head + VC_SNAP_HEAD_FLAGS);
	if (l->flags & ~VC_SNAP_ZSTD)
		return vc_fail(EINVAL, "its flags are %#x, this library knows %#x", l->flags, VC_SNAP_ZSTD);
	return l->flags & VC_SNAP_ZSTD && !vc_snapshot_pack_room(VC_SNAP_CHUNK) ? -ENOTSUP : 0;
}

/* They are what the file ends with. */
static int read_sections(struct loading *l, const uint8_t *head)
{
	uint64_t at = vc_ld64(head + VC_SNAP_HEAD_SECTIONS), length = vc_ld64(head + VC_SNAP_HEAD_SECTIONS_LENGTH);
	int r;

	if (at < VC_PAGE_SIZE || at > l->length || length != l->length - at || length > SECTIONS_MAX)
		return vc_fail(EINVAL, "its sections are [%#llx, +%#llx) of %#llx bytes", (unsigned long long)at,
		               (unsigned long long)length, (unsigned long long)l->length);
	l->sections = malloc(length + 1);
	if (!l->sections)
		return vc_fail(ENOMEM, "no memory for %llu bytes of sections", (unsigned long long)length);
	r = read_at(l, l->sections, length, at);
	if (r >= 0)
		r = vc_sections_open(&l->in, l->sections, length);
	if (r >= 0 && l->in.length != length)
		r = vc_fail(EINVAL, "its sections have %zu bytes of %llu", l->in.length, (unsigned long long)length);
	l->length = at; /* of what the regions may be in */
	return r;
}

/* That the base is the one the file was made with. */
static int check_base(struct loading *l)
{
	static const uint8_t none[sizeof l->s->id];
	const uint8_t *id;
	size_t length;
	int r = vc_sections_take(&l->in, VC_SNAP_BASE, VC_SNAP_SECTION_VERSION, &id, &length);

	if (r < 0)
		return r;
	if (length != sizeof none)
		return vc_fail(EINVAL, "the id of its base has %zu bytes, expected %zu", length, sizeof none);
	if (!memcmp(id, none, sizeof none)) {
		l->o.parent = NULL;
		return 0;
	}
	if (!l->o.parent)
		return vc_fail(EINVAL, "it is incremental: the snapshot that it was saved relative to is needed as its parent");
	if (memcmp(id, l->o.parent->id, sizeof none) != 0)
		return vc_fail(EINVAL,
		               "it was saved relative to another snapshot than the parent that is given: that one's id "
		               "begins with %02x%02x%02x%02x, the parent's with %02x%02x%02x%02x",
		               id[0], id[1], id[2], id[3], l->o.parent->id[0], l->o.parent->id[1], l->o.parent->id[2],
		               l->o.parent->id[3]);
	return 0;
}

/* ---- regions ---- */

static int take_runs(struct region *g, const uint8_t *table, uint64_t pages)
{
	uint64_t from = 0, sum = 0;

	for (uint32_t i = 0; i < g->runs; i++, table += VC_SNAP_RUN_BYTES) {
		struct vc_run run = {vc_ld64(table), vc_ld64(table + 8)};

		if (!run.count || run.page < from || run.page > pages || run.count > pages - run.page)
			return vc_fail(EINVAL, "run %u is pages [%#llx, +%#llx): expected some from %#llx to %#llx", i,
			               (unsigned long long)run.page, (unsigned long long)run.count, (unsigned long long)from,
			               (unsigned long long)pages);
		g->run[i] = run;
		from = run.page + run.count;
		sum += run.count;
	}
	if (sum * VC_PAGE_SIZE != g->length || (!g->based && sum != pages))
		return vc_fail(EINVAL, "the region has %#llx bytes, its runs %#llx, the slot %#llx",
		               (unsigned long long)g->length, (unsigned long long)(sum * VC_PAGE_SIZE),
		               (unsigned long long)(pages * VC_PAGE_SIZE));
	return 0;
}

/* What a chunk takes in the file. */
static uint32_t stored_of(const struct region *g, uint32_t chunk)
{
	return vc_ld32(g->table + (size_t)chunk * VC_SNAP_CHUNK_BYTES + 4);
}

static uint64_t length_of(const struct region *g, uint32_t chunk)
{
	uint64_t left = g->length - chunk * VC_SNAP_CHUNK;

	return left < VC_SNAP_CHUNK ? left : VC_SNAP_CHUNK;
}

static int check_chunks(const struct loading *l, const struct region *g)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < g->chunks; i++) {
		uint32_t stored = stored_of(g, i);

		if (l->flags & VC_SNAP_ZSTD ? stored > vc_snapshot_pack_room(VC_SNAP_CHUNK) : stored != length_of(g, i))
			return vc_fail(EINVAL, "chunk %u takes %u bytes in the file", i, stored);
		sum += stored;
	}
	return sum == g->stored ? 0
	                        : vc_fail(EINVAL, "the chunks take %#llx bytes in the file, the region %#llx",
	                                  (unsigned long long)sum, (unsigned long long)g->stored);
}

/* Regions are one behind the other. */
static int check_place(struct loading *l, const struct region *g)
{
	if (g->offset != l->at || g->stored > l->length - l->at)
		return vc_fail(EINVAL, "the region is [%#llx, +%#llx) of the file: expected it at %#llx, before %#llx",
		               (unsigned long long)g->offset, (unsigned long long)g->stored, (unsigned long long)l->at,
		               (unsigned long long)l->length);
	l->at += g->stored;
	return 0;
}

static int take_region(struct loading *l, const struct vc_snapshot_slot *slot, struct region *g)
{
	const uint8_t *data;
	size_t length;
	int r = vc_sections_take(&l->in, VC_SNAP_MEMORY, VC_SNAP_SECTION_VERSION, &data, &length);

	if (r < 0)
		return r;
	if (length < VC_SNAP_MEM_TABLES)
		return vc_fail(EINVAL, "its description has %zu bytes, expected at least %u", length, VC_SNAP_MEM_TABLES);
	g->offset = vc_ld64(data + VC_SNAP_MEM_OFFSET);
	g->stored = vc_ld64(data + VC_SNAP_MEM_STORED);
	g->length = vc_ld64(data + VC_SNAP_MEM_LENGTH);
	g->based = vc_ld32(data + VC_SNAP_MEM_BASED);
	g->runs = vc_ld32(data + VC_SNAP_MEM_RUNS);
	g->chunks = vc_ld32(data + VC_SNAP_MEM_CHUNKS);
	if (g->runs > VC_IMAGE_RUNS || g->length > slot->length || !VC_IS_ALIGNED(g->length, VC_PAGE_SIZE) ||
	    g->chunks != (g->length + VC_SNAP_CHUNK - 1) / VC_SNAP_CHUNK ||
	    length !=
	        VC_SNAP_MEM_TABLES + (uint64_t)g->runs * VC_SNAP_RUN_BYTES + (uint64_t)g->chunks * VC_SNAP_CHUNK_BYTES)
		return vc_fail(EINVAL, "its description of %zu bytes says %#llx bytes in %u runs and %u chunks", length,
		               (unsigned long long)g->length, g->runs, g->chunks);
	g->table = data + VC_SNAP_MEM_TABLES + (size_t)g->runs * VC_SNAP_RUN_BYTES;
	r = take_runs(g, data + VC_SNAP_MEM_TABLES, slot->length / VC_PAGE_SIZE);
	if (r >= 0)
		r = check_chunks(l, g);
	return r < 0 ? r : check_place(l, g);
}

/* data: as it is in the file; any: not all of it are zeroes, whose checksum is looked up. */
static int check_sum(const struct loading *l, const struct region *g, uint32_t chunk, const uint8_t *data, bool any)
{
	uint32_t expected = vc_ld32(g->table + (size_t)chunk * VC_SNAP_CHUNK_BYTES), stored = stored_of(g, chunk), sum;

	if (l->o.flags & VCORE_SNAPSHOT_NO_VERIFY)
		return 0;
	sum = any || stored != VC_SNAP_CHUNK ? vc_crc32c(0, data, stored) : l->zeroes;
	return sum == expected
	           ? 0
	           : vc_fail(EINVAL, "chunk %u was altered: its checksum is %#x, expected %#x", chunk, sum, expected);
}

/* ---- memory that is not compressed is mapped ---- */

static int verify(struct loading *l, const struct region *g)
{
	struct vc_image *all;
	int r;

	if (l->o.flags & VCORE_SNAPSHOT_NO_VERIFY || !g->length)
		return 0;
	r = vc_image_of_file(l->file, g->offset, g->length, &all);
	if (r < 0)
		return r;
	for (uint32_t i = 0; r >= 0 && i < g->chunks; i++) {
		r = vc_image_read(all, i * VC_SNAP_CHUNK, l->chunk, length_of(g, i));
		if (r >= 0)
			r = check_sum(l, g, i, l->chunk, r);
	}
	vc_image_unref(all);
	return r;
}

static int use_file(struct loading *l, const struct region *g, struct vc_image_file **file, uint64_t *offset)
{
	int r = verify(l, g);

	if (r < 0)
		return r;
	if (!VC_IS_ALIGNED(g->offset, VC_PAGE_SIZE))
		return vc_fail(EINVAL, "the region begins at %#llx: expected a whole page", (unsigned long long)g->offset);
	*file = vc_image_file_ref(l->file);
	*offset = g->offset;
	return 0;
}

/* ---- compressed memory goes into a memfd ---- */

static int unpack_chunk(struct loading *l, const struct region *g, uint32_t chunk, uint64_t from)
{
	uint64_t length = length_of(g, chunk);
	uint32_t stored = stored_of(g, chunk);
	int64_t n = (int64_t)length;
	int r = 0;

	memset(l->chunk, 0, length);
	if (stored)
		r = read_at(l, l->packed, stored, from);
	if (r >= 0)
		r = check_sum(l, g, chunk, l->packed, true);
	if (r >= 0 && stored)
		n = vc_snapshot_unpack(l->packed, stored, l->chunk, length);
	if (r < 0 || n < 0)
		return r < 0 ? r : (int)n;
	return n == (int64_t)length ? 0
	                            : vc_fail(EINVAL, "chunk %u has %lld bytes, expected %llu", chunk, (long long)n,
	                                      (unsigned long long)length);
}

static int put_chunk(const struct vc_image_file *file, const uint8_t *data, uint64_t length, uint64_t at)
{
	int r = 0;

	for (uint64_t i = 0; r >= 0 && i < length; i += VC_PAGE_SIZE)
		if (!vc_is_zero(data + i, VC_PAGE_SIZE))
			r = vc_pwrite_all(file->fd, data + i, VC_PAGE_SIZE, at + i);
	return r < 0 ? vc_fail_errno(-r, "decompressing memory") : 0;
}

static int unpack(struct loading *l, const struct region *g, struct vc_image_file **file, uint64_t *offset)
{
	uint64_t from = g->offset;
	int r;

	if (!l->packed)
		l->packed = malloc(vc_snapshot_pack_room(VC_SNAP_CHUNK));
	r = l->packed ? vc_image_memfd(g->length, file) : vc_fail(ENOMEM, "no memory to decompress a snapshot");
	if (r < 0)
		return r;
	for (uint32_t i = 0; r >= 0 && i < g->chunks; i++) {
		r = unpack_chunk(l, g, i, from);
		if (r >= 0 && stored_of(g, i))
			r = put_chunk(*file, l->chunk, length_of(g, i), i * VC_SNAP_CHUNK);
		from += stored_of(g, i);
	}
	*offset = 0;
	if (r < 0)
		vc_image_file_unref(*file);
	return r;
}

/* ---- all of it ---- */

static int make_image(const struct vc_snapshot_slot *base, const struct region *g, struct vc_image_file *file,
                      uint64_t offset, struct vc_image **image)
{
	if (!g->based)
		return vc_image_of_file(file, offset, g->length, image);
	return vc_image_patch(base->image, g->run, g->runs, file, offset, image);
}

static int load_region(struct loading *l, struct vc_snapshot_slot *slot, struct region *g)
{
	const struct vc_snapshot_slot *base = NULL;
	struct vc_image_file *file = NULL;
	uint64_t offset = 0;
	int r = take_region(l, slot, g);

	if (r < 0)
		return r;
	if (g->based && (!l->o.parent || !(base = vc_snapshot_slot_like(l->o.parent, slot))))
		return vc_fail(EINVAL, "its other pages are of a parent that has no such slot");
	r = l->flags & VC_SNAP_ZSTD ? unpack(l, g, &file, &offset) : use_file(l, g, &file, &offset);
	if (r < 0)
		return r;
	r = make_image(base, g, file, offset, &slot->image);
	vc_image_file_unref(file);
	return r;
}

static int load_memory(struct loading *l)
{
	struct region *g = malloc(sizeof *g);
	int r = g ? 0 : vc_fail(ENOMEM, "no memory for a region");

	l->at = VC_PAGE_SIZE;
	for (uint32_t i = 0; r >= 0 && i < l->s->slots; i++) {
		r = load_region(l, &l->s->slot[i], g);
		if (r < 0)
			r = vc_fail(-r, "slot %u: %s", i, vcore_error_message());
	}
	free(g);
	if (r >= 0 && l->at != l->length)
		r = vc_fail(EINVAL, "its memory ends at %#llx, its sections begin at %#llx", (unsigned long long)l->at,
		            (unsigned long long)l->length);
	return r;
}

static int load_all(struct loading *l)
{
	uint8_t head[VC_PAGE_SIZE];
	const uint8_t *data;
	size_t length;
	int r;

	if (l->length < sizeof head)
		return vc_fail(EINVAL, "it was cut off, or is no snapshot: it has %llu bytes", (unsigned long long)l->length);
	r = read_at(l, head, sizeof head, 0);
	if (r >= 0)
		r = check_head(l, head);
	if (r >= 0)
		r = read_sections(l, head);
	if (r >= 0)
		r = vc_sections_take(&l->in, VC_SNAP_SNAPSHOT, VC_SNAP_SECTION_VERSION, &data, &length);
	if (r >= 0)
		r = vc_snapshot_decode(data, length, &l->s);
	if (r >= 0)
		r = check_base(l);
	if (r >= 0)
		r = load_memory(l);
	return r < 0 ? r : vc_sections_close(&l->in);
}

static int open_file(struct loading *l)
{
	struct stat st;
	/* a FIFO or a device would keep us waiting */
	int fd = open(l->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return vc_fail_errno(errno, "opening it");
	l->file = vc_image_file_new(fd);
	if (!l->file)
		return -ENOMEM;
	if (fstat(fd, &st) < 0)
		return vc_fail_errno(errno, "looking at it");
	if (!S_ISREG(st.st_mode))
		return vc_fail(EINVAL, "it is no regular file");
	l->length = (uint64_t)st.st_size;
	return 0;
}

static int load(struct loading *l)
{
	int r = open_file(l);

	l->chunk = calloc(1, VC_SNAP_CHUNK);
	if (r >= 0 && !l->chunk)
		r = vc_fail(ENOMEM, "no memory to load a snapshot");
	if (r >= 0 && !(l->o.flags & VCORE_SNAPSHOT_NO_VERIFY))
		l->zeroes = vc_crc32c(0, l->chunk, VC_SNAP_CHUNK);
	if (r >= 0)
		r = load_all(l);
	vc_image_file_unref(l->file);
	free(l->sections);
	free(l->chunk);
	free(l->packed);
	if (r >= 0)
		return 0;
	vcore_snapshot_unref(l->s);
	return vc_fail(-r, "snapshot \"%s\": %s", l->path, vcore_error_message());
}

int vcore_snapshot_load(const char *path, const struct vcore_snapshot_load_options *options, vcore_snapshot **out)
{
	struct loading l = {.o = {.size = sizeof l.o}, .path = path};
	int r;

	if (!path || !out)
		return vc_fail(EINVAL, "vcore_snapshot_load: a path and a place for the snapshot are needed");
	*out = NULL;
	if (options && vc_struct_in(&l.o, sizeof l.o, options) < 0)
		return vc_fail(EINVAL, "vcore_snapshot_load: options.size is not set");
	if (l.o.flags & ~(uint32_t)VCORE_SNAPSHOT_NO_VERIFY)
		return vc_fail(EINVAL, "vcore_snapshot_load: flags are %#x: expected 0 or %#x", l.o.flags,
		               VCORE_SNAPSHOT_NO_VERIFY);
	r = load(&l);
	if (r >= 0)
		*out = l.s;
	return r;
}
