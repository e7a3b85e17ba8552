/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A snapshot to a file. */
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/crc32c.h"
#include "core/io.h"
#include "vm/snapshot_codec.h"
#include "vm/snapshot_file.h"

struct saving {
	const struct vcore_snapshot *s;
	struct vcore_snapshot_save_options o;
	const char *path;
	char *temporary;
	int fd;
	uint64_t at; /* in the file */
	uint64_t done, total;
	uint8_t *chunk, *packed;
	struct vc_sections_out sections;
};

/* What a slot's region is made of. */
struct region {
	const struct vc_image *image;
	bool based;
	uint32_t runs, chunks;
	uint64_t length;
	struct vc_run *run;
	uint8_t *table; /* VC_SNAP_CHUNK_BYTES a chunk */
};

static bool is_compressed(const struct saving *w)
{
	return w->o.flags & VCORE_SNAPSHOT_ZSTD;
}

static int write_at(struct saving *w, const void *data, size_t length, uint64_t at)
{
	int r = vc_pwrite_all(w->fd, data, length, at);

	return r < 0 ? vc_fail_errno(-r, "writing %zu bytes of \"%s\"", length, w->path) : 0;
}

/* ---- which pages ---- */

const struct vc_snapshot_slot *vc_snapshot_slot_like(const struct vcore_snapshot *s,
                                                     const struct vc_snapshot_slot *slot)
{
	for (uint32_t i = 0; i < s->slots; i++)
		if (s->slot[i].gpa == slot->gpa && s->slot[i].length == slot->length)
			return &s->slot[i];
	return NULL;
}

static int take_runs(struct region *region, const uint64_t *changed, uint64_t pages)
{
	uint64_t gap, page = 0, length;
	uint32_t runs = vc_image_count_runs(changed, pages, &gap);

	region->run = calloc(runs + 1, sizeof *region->run);
	if (!region->run)
		return vc_fail(ENOMEM, "no memory for %u runs of pages", runs);
	for (; (length = vc_image_next_run(changed, pages, gap, &page)); page += length) {
		region->run[region->runs++] = (struct vc_run){page, length};
		region->length += length * VC_PAGE_SIZE;
	}
	return 0;
}

static int find_difference(struct region *region, const struct vc_snapshot_slot *base)
{
	uint64_t pages = region->image->length / VC_PAGE_SIZE, *changed = calloc((pages + 63) / 64, 8);
	int r;

	if (!changed)
		return vc_fail(ENOMEM, "no memory for a bitmap of %llu pages", (unsigned long long)pages);
	region->based = true;
	r = vc_image_compare(region->image, base->image, changed);
	if (r >= 0)
		r = take_runs(region, changed, pages);
	free(changed);
	return r;
}

static int plan_region(const struct saving *w, const struct vc_snapshot_slot *slot, struct region *region)
{
	const struct vc_snapshot_slot *base = w->o.parent ? vc_snapshot_slot_like(w->o.parent, slot) : NULL;
	int r = 0;

	*region = (struct region){.image = slot->image};
	if (base) {
		r = find_difference(region, base);
	} else {
		region->run = malloc(sizeof *region->run);
		if (!region->run)
			return vc_fail(ENOMEM, "no memory for a run of pages");
		region->run[region->runs++] = (struct vc_run){0, slot->length / VC_PAGE_SIZE};
		region->length = slot->length;
	}
	region->chunks = (uint32_t)((region->length + VC_SNAP_CHUNK - 1) / VC_SNAP_CHUNK);
	region->table = malloc((size_t)region->chunks * VC_SNAP_CHUNK_BYTES + 1);
	return r < 0 || region->table ? r : vc_fail(ENOMEM, "no memory for %u chunks", region->chunks);
}

static void drop_region(struct region *region)
{
	free(region->run);
	free(region->table);
}

/* ---- memory ---- */

/* A place among the runs. */
struct cursor {
	uint32_t run;
	uint64_t page; /* in the run */
};

/* The next `length` bytes of the region; 0: all of them are zeroes. */
static int read_chunk(const struct region *region, struct cursor *c, uint8_t *chunk, uint64_t length)
{
	int any = 0;

	for (uint64_t at = 0; at < length;) {
		const struct vc_run *run = &region->run[c->run];
		uint64_t pages = run->count - c->page, wanted = (length - at) / VC_PAGE_SIZE,
		         n = pages < wanted ? pages : wanted;
		int r = vc_image_read(region->image, (run->page + c->page) * VC_PAGE_SIZE, chunk + at, n * VC_PAGE_SIZE);

		if (r < 0)
			return r;
		any |= r;
		at += n * VC_PAGE_SIZE;
		c->page += n;
		if (c->page == run->count)
			*c = (struct cursor){c->run + 1, 0};
	}
	return any;
}

/* Pages of zeroes stay holes. */
static int write_sparse(struct saving *w, const uint8_t *chunk, uint64_t length)
{
	int r = 0;

	for (uint64_t from = 0, to; r >= 0 && from < length; from = to) {
		bool zero = vc_is_zero(chunk + from, VC_PAGE_SIZE);

		for (to = from + VC_PAGE_SIZE; to < length && vc_is_zero(chunk + to, VC_PAGE_SIZE) == zero;)
			to += VC_PAGE_SIZE;
		if (!zero)
			r = write_at(w, chunk + from, to - from, w->at + from);
	}
	return r;
}

static int write_packed(struct saving *w, const uint8_t *chunk, uint64_t length)
{
	int64_t n = vc_snapshot_pack(chunk, length, w->packed, vc_snapshot_pack_room(VC_SNAP_CHUNK));
	int r = n < 0 ? (int)n : write_at(w, w->packed, (size_t)n, w->at);

	return r < 0 ? r : (int)n;
}

/* Bytes in the file. */
static int64_t write_chunk(struct saving *w, uint64_t length, bool any)
{
	int r;

	if (is_compressed(w))
		return any && !vc_is_zero(w->chunk, length) ? write_packed(w, w->chunk, length) : 0;
	r = any ? write_sparse(w, w->chunk, length) : 0;
	return r < 0 ? r : (int64_t)length;
}

static int tell_progress(struct saving *w, uint64_t more)
{
	w->done += more;
	if (!w->o.progress || w->o.progress(w->o.ctx, w->done, w->total) == 0)
		return 0;
	return vc_fail(ECANCELED, "saving \"%s\" was cancelled after %llu of %llu bytes", w->path,
	               (unsigned long long)w->done, (unsigned long long)w->total);
}

static int write_region(struct saving *w, struct region *region)
{
	struct cursor cursor = {0, 0};
	int r = 0;

	for (uint32_t i = 0; r >= 0 && i < region->chunks; i++) {
		uint64_t left = region->length - i * VC_SNAP_CHUNK, length = left < VC_SNAP_CHUNK ? left : VC_SNAP_CHUNK;
		int any = read_chunk(region, &cursor, w->chunk, length);
		int64_t stored = any < 0 ? any : write_chunk(w, length, any);

		if (stored < 0)
			return (int)stored;
		vc_st32(region->table + (size_t)i * VC_SNAP_CHUNK_BYTES,
		        vc_crc32c(0, is_compressed(w) ? w->packed : w->chunk, (size_t)stored));
		vc_st32(region->table + (size_t)i * VC_SNAP_CHUNK_BYTES + 4, (uint32_t)stored);
		w->at += (uint64_t)stored;
		r = tell_progress(w, length);
	}
	return r;
}

static int describe_region(struct saving *w, const struct region *region, uint64_t offset)
{
	size_t runs = (size_t)region->runs * VC_SNAP_RUN_BYTES, chunks = (size_t)region->chunks * VC_SNAP_CHUNK_BYTES;
	uint8_t *to =
	    vc_sections_add(&w->sections, VC_SNAP_MEMORY, VC_SNAP_SECTION_VERSION, VC_SNAP_MEM_TABLES + runs + chunks);

	if (!to)
		return -ENOMEM;
	vc_st64(to + VC_SNAP_MEM_OFFSET, offset);
	vc_st64(to + VC_SNAP_MEM_STORED, w->at - offset);
	vc_st64(to + VC_SNAP_MEM_LENGTH, region->length);
	vc_st32(to + VC_SNAP_MEM_BASED, region->based);
	vc_st32(to + VC_SNAP_MEM_RUNS, region->runs);
	vc_st32(to + VC_SNAP_MEM_CHUNKS, region->chunks);
	to += VC_SNAP_MEM_TABLES;
	for (uint32_t i = 0; i < region->runs; i++, to += VC_SNAP_RUN_BYTES) {
		vc_st64(to, region->run[i].page);
		vc_st64(to + 8, region->run[i].count);
	}
	memcpy(to, region->table, chunks);
	return 0;
}

static int write_memory(struct saving *w)
{
	struct region *region = calloc(w->s->slots + 1, sizeof *region);
	int r = region ? 0 : vc_fail(ENOMEM, "no memory for %u slots", w->s->slots);

	for (uint32_t i = 0; r >= 0 && i < w->s->slots; i++) {
		r = plan_region(w, &w->s->slot[i], &region[i]);
		w->total += region[i].length;
	}
	w->at = VC_PAGE_SIZE;
	for (uint32_t i = 0; r >= 0 && i < w->s->slots; i++) {
		uint64_t offset = w->at;

		r = write_region(w, &region[i]);
		if (r >= 0)
			r = describe_region(w, &region[i], offset);
	}
	for (uint32_t i = 0; region && i < w->s->slots; i++)
		drop_region(&region[i]);
	free(region);
	return r;
}

/* ---- the file ---- */

static int begin_sections(struct saving *w)
{
	static const uint8_t none[sizeof w->s->id];
	uint8_t *data, *to;
	size_t length;
	int r = vc_snapshot_encode(w->s, &data, &length);

	if (r < 0)
		return r;
	to = vc_sections_add(&w->sections, VC_SNAP_SNAPSHOT, VC_SNAP_SECTION_VERSION, length);
	if (to)
		memcpy(to, data, length);
	free(data);
	to = vc_sections_add(&w->sections, VC_SNAP_BASE, VC_SNAP_SECTION_VERSION, sizeof none);
	if (to)
		memcpy(to, w->o.parent ? w->o.parent->id : none, sizeof none);
	return to ? 0 : -ENOMEM;
}

static int end_sections(struct saving *w)
{
	uint8_t head[VC_PAGE_SIZE] = {0}, *data;
	size_t length;
	int r = vc_sections_end(&w->sections, &data, &length);

	if (r < 0)
		return r;
	memcpy(head + VC_SNAP_HEAD_MAGIC, VC_SNAP_MAGIC, 8);
	vc_st32(head + VC_SNAP_HEAD_VERSION, VC_SNAP_VERSION);
	vc_st32(head + VC_SNAP_HEAD_FLAGS, is_compressed(w) ? VC_SNAP_ZSTD : 0);
	vc_st64(head + VC_SNAP_HEAD_SECTIONS, w->at);
	vc_st64(head + VC_SNAP_HEAD_SECTIONS_LENGTH, length);
	vc_st64(head + VC_SNAP_HEAD_LENGTH, w->at + length);
	vc_st32(head + VC_SNAP_HEAD_CRC, vc_crc32c(0, head, VC_SNAP_HEAD_CRC));
	r = write_at(w, data, length, w->at);
	free(data);
	return r < 0 ? r : write_at(w, head, sizeof head, 0);
}

static int sync_directory(const char *path)
{
	char *copy = strdup(path);
	int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1, r = 0;

	if (fd < 0 || fsync(fd) < 0)
		r = vc_fail_errno(errno, "syncing the directory of \"%s\"", path);
	if (fd >= 0)
		close(fd);
	free(copy);
	return r;
}

/* It gets its name when it is whole. */
static int finish(struct saving *w)
{
	bool sync = w->o.flags & VCORE_SNAPSHOT_SYNC;

	if (sync && fsync(w->fd) < 0)
		return vc_fail_errno(errno, "syncing \"%s\"", w->path);
	if (rename(w->temporary, w->path) < 0)
		return vc_fail_errno(errno, "renaming \"%s\" to \"%s\"", w->temporary, w->path);
	free(w->temporary);
	w->temporary = NULL;
	return sync ? sync_directory(w->path) : 0;
}

static int open_temporary(struct saving *w)
{
	if (asprintf(&w->temporary, "%s.XXXXXX", w->path) < 0) {
		w->temporary = NULL;
		return vc_fail(ENOMEM, "no memory for a file name");
	}
	w->fd = mkostemp(w->temporary, O_CLOEXEC);
	if (w->fd >= 0)
		return 0;
	free(w->temporary);
	w->temporary = NULL;
	return vc_fail_errno(errno, "a temporary file beside \"%s\"", w->path);
}

static int save(struct saving *w)
{
	int r = begin_sections(w);

	if (r >= 0)
		r = open_temporary(w);
	if (r >= 0)
		r = write_memory(w);
	if (r >= 0)
		r = end_sections(w);
	return r < 0 ? r : finish(w);
}

static void clean_up(struct saving *w)
{
	if (w->temporary)
		unlink(w->temporary);
	if (w->fd >= 0)
		close(w->fd);
	vc_sections_drop(&w->sections);
	free(w->temporary);
	free(w->chunk);
	free(w->packed);
}

int vcore_snapshot_save(vcore_snapshot *s, const char *path, const struct vcore_snapshot_save_options *options)
{
	const uint32_t known = VCORE_SNAPSHOT_ZSTD | VCORE_SNAPSHOT_SYNC;
	struct saving w = {.s = s, .o = {.size = sizeof w.o}, .path = path, .fd = -1};
	int r;

	if (!s || !path || !path[0])
		return vc_fail(EINVAL, "vcore_snapshot_save: a snapshot and a path are needed");
	if (options && vc_struct_in(&w.o, sizeof w.o, options) < 0)
		return vc_fail(EINVAL, "vcore_snapshot_save: options.size is not set");
	if (w.o.flags & ~known)
		return vc_fail(EINVAL, "vcore_snapshot_save: flags are %#x: expected bits of %#x", w.o.flags, known);
	if (is_compressed(&w) && !vc_snapshot_pack_room(VC_SNAP_CHUNK))
		return -ENOTSUP;
	w.chunk = malloc(VC_SNAP_CHUNK);
	w.packed = malloc(is_compressed(&w) ? vc_snapshot_pack_room(VC_SNAP_CHUNK) : 1);
	r = w.chunk && w.packed ? save(&w) : vc_fail(ENOMEM, "no memory to save a snapshot");
	clean_up(&w);
	return r;
}
