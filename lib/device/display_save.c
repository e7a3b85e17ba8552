/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A display's picture as a file: PPM, and PNG (ISO/IEC 15948) where there is zlib. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "config.h"
#include "core/error.h"
#include "core/util.h"
#include "device/display.h"

#ifdef VC_HAVE_ZLIB
#include <zlib.h>
#endif

struct picture {
	uint32_t width, height;
	uint8_t *pixels;
};

/* The whole picture, which may get another size while we look. */
static int take_picture(vcore_display *display, struct picture *picture)
{
	struct vcore_display_info info = {.size = sizeof info};
	int r;

	do {
		size_t length;

		r = vcore_display_get_info(display, &info);
		if (r < 0)
			return r;
		length = (size_t)info.stride * info.height;
		picture->pixels = malloc(length + !length);
		if (!picture->pixels)
			return vc_fail(ENOMEM, "no memory for a picture of %ux%u", info.width, info.height);
		r = vcore_display_copy(display, NULL, picture->pixels, length, 0, &info);
		if (r < 0)
			free(picture->pixels);
	} while (r == -ENOSPC);
	picture->width = info.width;
	picture->height = info.height;
	return r;
}

/* Red, green, blue of a row. */
static void put_row(uint8_t *to, const struct picture *picture, uint32_t y)
{
	const uint8_t *from = picture->pixels + (size_t)y * picture->width * VC_PIXEL_BYTES;

	for (uint32_t x = 0; x < picture->width; x++, to += 3, from += VC_PIXEL_BYTES) {
		to[0] = from[2];
		to[1] = from[1];
		to[2] = from[0];
	}
}

/* The bytes of a file; NULL: no memory. */
static uint8_t *make_ppm(const struct picture *picture, size_t *length)
{
	size_t row = 3 * (size_t)picture->width, rows = row * picture->height;
	uint8_t *file = malloc(40 + rows);
	int head;

	if (!file)
		return NULL;
	head = snprintf((char *)file, 40, "P6\n%u %u\n255\n", picture->width, picture->height);
	for (uint32_t y = 0; y < picture->height; y++)
		put_row(file + head + y * row, picture, y);
	*length = (size_t)head + rows;
	return file;
}

#ifdef VC_HAVE_ZLIB
static void put_be32(uint8_t *to, uint32_t value)
{
	vc_st32(to, __builtin_bswap32(value));
}

/* Length, type, data, check sum; the data may lie where it belongs already. Returns the chunk's end. */
static uint8_t *put_chunk(uint8_t *to, const char *type, const void *data, uint32_t length)
{
	put_be32(to, length);
	memcpy(to + 4, type, 4);
	if (data && data != to + 8)
		memcpy(to + 8, data, length);
	put_be32(to + 8 + length, (uint32_t)crc32(0, to + 4, length + 4));
	return to + 12 + length;
}

static uint8_t *make_png(const struct picture *picture, size_t *length)
{
	static const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
	uint8_t header[13] = {[8] = 8 /* bits */, [9] = 2 /* red, green, blue */}, *file, *rows, *at;
	size_t row = 1 + 3 * (size_t)picture->width;
	uLongf packed = compressBound((uLong)(row * picture->height));

	rows = malloc(row * picture->height);
	file = malloc(sizeof signature + 3 * 12 + sizeof header + packed);
	if (!rows || !file) {
		free(rows);
		free(file);
		return NULL;
	}
	for (uint32_t y = 0; y < picture->height; y++) {
		rows[y * row] = 0; /* no filter */
		put_row(rows + y * row + 1, picture, y);
	}
	put_be32(header, picture->width);
	put_be32(header + 4, picture->height);
	memcpy(file, signature, sizeof signature);
	at = put_chunk(file + sizeof signature, "IHDR", header, sizeof header);
	/* cannot fail but for memory */
	if (compress2(at + 8, &packed, rows, (uLong)(row * picture->height), Z_BEST_SPEED) != Z_OK) {
		free(rows);
		free(file);
		return NULL;
	}
	at = put_chunk(at, "IDAT", at + 8, (uint32_t)packed);
	at = put_chunk(at, "IEND", NULL, 0);
	*length = (size_t)(at - file);
	free(rows);
	return file;
}
#else
#define make_png NULL
#endif

static int write_file(const char *path, const uint8_t *data, size_t length)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), e = 0;

	if (fd < 0)
		return vc_fail_errno(errno, "cannot make %s", path);
	while (length && !e) {
		ssize_t n = write(fd, data, length);

		if (n < 0 && errno != EINTR)
			e = errno;
		data += n > 0 ? n : 0;
		length -= n > 0 ? (size_t)n : 0;
	}
	if (close(fd) < 0 && !e)
		e = errno;
	return e ? vc_fail_errno(e, "cannot write %s", path) : 0;
}

int vcore_display_save(vcore_display *display, const char *path, enum vcore_picture format)
{
	static uint8_t *(*const makers[])(const struct picture *,
	                                  size_t *) = {[VCORE_PICTURE_PPM] = make_ppm, [VCORE_PICTURE_PNG] = make_png};
	struct picture picture;
	uint8_t *file;
	size_t length;
	int r;

	if (!display || !path)
		return vc_fail(EINVAL, "vcore_display_save: a display and a path are needed");
	if ((uint32_t)format >= VC_ARRAY_SIZE(makers))
		return vc_fail(EINVAL, "vcore_display_save: format %d: expected 0 (PPM) or 1 (PNG)", (int)format);
	if (!makers[format])
		return vc_fail(ENOTSUP, "vcore_display_save: this library was built without zlib: no PNG");
	r = take_picture(display, &picture);
	if (r < 0)
		return r;
	file = makers[format](&picture, &length);
	free(picture.pixels);
	if (!file)
		return vc_fail(ENOMEM, "no memory for a picture of %ux%u", picture.width, picture.height);
	r = write_file(path, file, length);
	free(file);
	return r;
}
