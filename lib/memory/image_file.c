/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Images from and to files: what is in them, how two differ, one made of another and a file. */
#include <stdlib.h>
#include <unistd.h>

#include "core/error.h"
#include "core/io.h"
#include "core/util.h"
#include "memory/image_priv.h"

#define CHUNK VC_KIB(256) /* read at once */

/* ---- reading ---- */

static int read_extent(const struct vc_image_file *file, uint64_t offset, uint8_t *buffer, uint64_t length)
{
	off_t data = lseek(file->fd, (off_t)offset, SEEK_DATA);
	int r;

	if ((data < 0 && errno == ENXIO) || data >= (off_t)(offset + length)) {
		memset(buffer, 0, length);
		return 0;
	}
	r = vc_pread_all(file->fd, buffer, length, offset);
	return r < 0 ? vc_fail_errno(-r, "reading %#llx bytes of an image", (unsigned long long)length) : 1;
}

int vc_image_read(const struct vc_image *image, uint64_t at, void *buffer, uint64_t length)
{
	uint64_t page = at / VC_PAGE_SIZE, last = (at + length) / VC_PAGE_SIZE;
	int any = 0;

	for (uint32_t i = 0; i < image->count && image->extent[i].page < last; i++) {
		const struct vc_extent *e = &image->extent[i];
		uint64_t start = e->page > page ? e->page : page, end = e->page + e->count < last ? e->page + e->count : last;
		int r;

		if (start >= end)
			continue;
		r = read_extent(e->file, e->offset + (start - e->page) * VC_PAGE_SIZE,
		                (uint8_t *)buffer + (start - page) * VC_PAGE_SIZE, (end - start) * VC_PAGE_SIZE);
		if (r < 0)
			return r;
		any |= r;
	}
	return any;
}

/* ---- comparing ---- */

struct comparison {
	const struct vc_image *a, *b;
	uint64_t *changed;
	uint8_t *buffer; /* 2 * CHUNK */
};

static int compare_chunk(struct comparison *c, uint64_t page, uint64_t count)
{
	uint8_t *a = c->buffer, *b = c->buffer + CHUNK;
	int in_a = vc_image_read(c->a, page * VC_PAGE_SIZE, a, count * VC_PAGE_SIZE);
	int in_b = in_a < 0 ? in_a : vc_image_read(c->b, page * VC_PAGE_SIZE, b, count * VC_PAGE_SIZE);

	if (in_b < 0)
		return in_b;
	for (uint64_t i = 0; (in_a || in_b) && i < count; i++)
		if (memcmp(a + i * VC_PAGE_SIZE, b + i * VC_PAGE_SIZE, VC_PAGE_SIZE) != 0)
			c->changed[(page + i) / 64] |= 1ull << ((page + i) % 64);
	return 0;
}

static int compare_range(struct comparison *c, uint64_t page, uint64_t end)
{
	int r = 0;

	for (uint64_t count; r >= 0 && page < end; page += count) {
		count = end - page < CHUNK / VC_PAGE_SIZE ? end - page : CHUNK / VC_PAGE_SIZE;
		r = compare_chunk(c, page, count);
	}
	return r;
}

static uint64_t place(const struct vc_extent *e, uint64_t page)
{
	return e->offset + (page - e->page) * VC_PAGE_SIZE;
}

int vc_image_compare(const struct vc_image *a, const struct vc_image *b, uint64_t *changed)
{
	struct comparison c = {a, b, changed, malloc(2 * CHUNK)};
	uint64_t page = 0;
	int r = 0;

	if (!c.buffer)
		return vc_fail(ENOMEM, "no memory to compare images");
	for (uint32_t i = 0, j = 0; r >= 0 && i < a->count && j < b->count;) {
		const struct vc_extent *x = &a->extent[i], *y = &b->extent[j];
		uint64_t x_end = x->page + x->count, y_end = y->page + y->count, end = x_end < y_end ? x_end : y_end;

		if (x->file != y->file || place(x, page) != place(y, page))
			r = compare_range(&c, page, end);
		i += x_end == end;
		j += y_end == end;
		page = end;
	}
	free(c.buffer);
	return r;
}

/* ---- making ---- */

/* A copy of many extents that has one. */
static int flatten(const struct vc_image *image, struct vc_image **out)
{
	uint8_t *buffer = malloc(CHUNK);
	struct vc_image_file *file;
	int r = buffer ? vc_image_memfd(image->length, &file) : vc_fail(ENOMEM, "no memory to copy an image");

	if (r < 0) {
		free(buffer);
		return r;
	}
	for (uint64_t at = 0; r >= 0 && at < image->length; at += CHUNK) {
		uint64_t length = image->length - at < CHUNK ? image->length - at : CHUNK;
		int any = r = vc_image_read(image, at, buffer, length);

		for (uint64_t i = 0; any > 0 && r >= 0 && i < length; i += VC_PAGE_SIZE)
			if (!vc_is_zero(buffer + i, VC_PAGE_SIZE))
				r = vc_pwrite_all(file->fd, buffer + i, VC_PAGE_SIZE, at + i);
	}
	if (r >= 0)
		r = vc_image_of_file(file, 0, image->length, out);
	else
		r = vc_fail_errno(-r, "copying an image of %#llx bytes", (unsigned long long)image->length);
	vc_image_file_unref(file);
	free(buffer);
	return r;
}

int vc_image_patch(const struct vc_image *base, const struct vc_run *run, uint32_t runs, struct vc_image_file *file,
                   uint64_t offset, struct vc_image **out)
{
	struct vc_image *image = vc_image_new(base->length, base->count + 2 * runs);
	uint64_t done = 0;
	int r = 0;

	if (!image)
		return -ENOMEM;
	for (uint32_t i = 0; i < runs; i++) {
		vc_image_append_base(image, base, done, run[i].page);
		vc_image_append(image, run[i].page, run[i].count, file, offset);
		offset += run[i].count * VC_PAGE_SIZE;
		done = run[i].page + run[i].count;
	}
	vc_image_append_base(image, base, done, base->length / VC_PAGE_SIZE);
	if (image->count <= VC_IMAGE_EXTENTS) {
		*out = image;
		return 0;
	}
	r = flatten(image, out);
	vc_image_unref(image);
	return r;
}
