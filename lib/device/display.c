/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "device/display.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/error.h"
#include "core/notice.h"
#include "core/util.h"

struct vcore_display {
	_Atomic uint32_t refs;
	struct vc_notice notice;
	pthread_mutex_t device;           /* held during request; protects ops and ctx. Before the device's locks */
	const struct vc_display_ops *ops; /* NULL: the device is gone */
	void *ctx;
	pthread_mutex_t lock; /* protects all below. After the device's locks */
	uint32_t width, height;
	uint32_t wanted_width, wanted_height;
	uint64_t generation;
	uint8_t *pixels; /* width * height; NULL: nothing is shown */
	struct vcore_cursor cursor;
	uint32_t cursor_pixels[VC_CURSOR_PIXELS];
	uint32_t news; /* VCORE_DISPLAY_*, to be told */
	struct vcore_rect changed;
};

/* ---- being told ---- */

static void deliver(void *owner)
{
	vcore_display *display = vcore_display_ref(owner);
	struct vcore_display_event event = {.size = sizeof event};
	vc_notice_fn fn;
	void *ctx;

	if (vc_notice_begin(&display->notice, &fn, &ctx)) {
		pthread_mutex_lock(&display->lock);
		event.flags = display->news;
		event.changed = display->changed;
		display->news = 0;
		display->changed = (struct vcore_rect){0};
		pthread_mutex_unlock(&display->lock);
		((vcore_display_fn)fn)(ctx, display, &event);
		vc_notice_end(&display->notice);
	}
	vcore_display_unref(display);
}

/* The smallest that holds both; one may be empty. Caller holds the lock. */
static void grow_changed(vcore_display *display, const struct vcore_rect *r)
{
	struct vcore_rect *c = &display->changed;
	uint32_t right = c->x + c->width, bottom = c->y + c->height;

	if (!c->width) {
		*c = *r;
		return;
	}
	right = right > r->x + r->width ? right : r->x + r->width;
	bottom = bottom > r->y + r->height ? bottom : r->y + r->height;
	c->x = c->x < r->x ? c->x : r->x;
	c->y = c->y < r->y ? c->y : r->y;
	c->width = right - c->x;
	c->height = bottom - c->y;
}

void vcore_display_set_callback(vcore_display *display, vcore_display_fn fn, void *ctx)
{
	vc_notice_set(&display->notice, (vc_notice_fn)fn, ctx);
}

/* ---- for the device ---- */

int vc_display_new(struct vc_loop *loop, const struct vc_display_ops *ops, void *ctx, uint32_t width, uint32_t height,
                   vcore_display **out)
{
	vcore_display *display = calloc(1, sizeof *display);

	if (!display)
		return vc_fail(ENOMEM, "no memory for a display");
	atomic_store(&display->refs, 1);
	display->ops = ops;
	display->ctx = ctx;
	display->wanted_width = width;
	display->wanted_height = height;
	pthread_mutex_init(&display->device, NULL);
	pthread_mutex_init(&display->lock, NULL);
	vc_notice_init(&display->notice, loop, deliver, display);
	*out = display;
	return 0;
}

void vc_display_close(vcore_display *display)
{
	if (!display)
		return;
	pthread_mutex_lock(&display->device);
	display->ops = NULL;
	pthread_mutex_unlock(&display->device);
	vc_notice_close(&display->notice);
	vc_display_resize(display, 0, 0);
	vcore_display_unref(display);
}

void vc_display_set_wanted(vcore_display *display, uint32_t width, uint32_t height)
{
	pthread_mutex_lock(&display->lock);
	display->wanted_width = width;
	display->wanted_height = height;
	pthread_mutex_unlock(&display->lock);
}

int vc_display_resize(vcore_display *display, uint32_t width, uint32_t height)
{
	uint8_t *pixels = width && height ? calloc((size_t)width * height, VC_PIXEL_BYTES) : NULL, *old;

	if (width && height && !pixels)
		return vc_fail(ENOMEM, "no memory for a picture of %ux%u", width, height);
	pthread_mutex_lock(&display->lock);
	old = display->pixels;
	display->pixels = pixels;
	display->width = width;
	display->height = height;
	display->generation++;
	display->news |= VCORE_DISPLAY_RESIZED;
	display->changed = (struct vcore_rect){0, 0, width, height};
	pthread_mutex_unlock(&display->lock);
	free(old);
	vc_notice_raise(&display->notice);
	return 0;
}

void vc_pixels_convert(uint8_t *to, const uint8_t *from, size_t count, const struct vc_pixel_format *format)
{
	if (format->blue == 0 && format->green == 1 && format->red == 2) {
		uint32_t opaque = format->alpha < 0 ? 0xff000000u : 0;

		for (size_t i = 0; i < count * VC_PIXEL_BYTES; i += VC_PIXEL_BYTES)
			vc_st32(to + i, vc_ld32(from + i) | opaque);
		return;
	}
	for (size_t i = 0; i < count; i++, to += VC_PIXEL_BYTES, from += VC_PIXEL_BYTES) {
		to[0] = from[format->blue];
		to[1] = from[format->green];
		to[2] = from[format->red];
		to[3] = format->alpha < 0 ? 0xff : from[format->alpha];
	}
}

void vc_display_draw(vcore_display *display, const struct vcore_rect *to, const struct vc_pixels *from)
{
	struct vc_pixel_format format = *from->format;
	struct vcore_rect r;

	format.alpha = -1;
	pthread_mutex_lock(&display->lock);
	if (vc_rect_common(to, &(struct vcore_rect){0, 0, display->width, display->height}, &r)) {
		for (uint32_t y = 0; y < r.height; y++)
			vc_pixels_convert(display->pixels + ((size_t)(r.y + y) * display->width + r.x) * VC_PIXEL_BYTES,
			                  from->data + y * from->stride, r.width, &format);
		display->generation++;
		display->news |= VCORE_DISPLAY_DRAWN;
		grow_changed(display, &r);
	}
	pthread_mutex_unlock(&display->lock);
	vc_notice_raise(&display->notice);
}

void vc_display_set_cursor(vcore_display *display, const struct vcore_cursor *cursor, const uint32_t *pixels)
{
	pthread_mutex_lock(&display->lock);
	display->cursor = (struct vcore_cursor){.visible = cursor->visible,
	                                        .x = cursor->x,
	                                        .y = cursor->y,
	                                        .hot_x = cursor->hot_x,
	                                        .hot_y = cursor->hot_y,
	                                        .generation = display->cursor.generation + 1};
	if (pixels)
		memcpy(display->cursor_pixels, pixels, sizeof display->cursor_pixels);
	display->news |= VCORE_DISPLAY_CURSOR;
	pthread_mutex_unlock(&display->lock);
	vc_notice_raise(&display->notice);
}

/* ---- for the program ---- */

vcore_display *vcore_display_ref(vcore_display *display)
{
	atomic_fetch_add(&display->refs, 1);
	return display;
}

void vcore_display_unref(vcore_display *display)
{
	if (!display || atomic_fetch_sub(&display->refs, 1) != 1)
		return;
	vc_notice_fini(&display->notice);
	pthread_mutex_destroy(&display->lock);
	pthread_mutex_destroy(&display->device);
	free(display->pixels);
	free(display);
}

/* Caller holds the lock. */
static struct vcore_display_info info_of(const vcore_display *display)
{
	return (struct vcore_display_info){.width = display->width,
	                                   .height = display->height,
	                                   .stride = display->width * VC_PIXEL_BYTES,
	                                   .format = VCORE_PIXEL_XRGB8888,
	                                   .wanted_width = display->wanted_width,
	                                   .wanted_height = display->wanted_height,
	                                   .generation = display->generation};
}

int vcore_display_get_info(vcore_display *display, struct vcore_display_info *out)
{
	struct vcore_display_info info;

	if (!display || !out || out->size < sizeof out->size)
		return vc_fail(EINVAL, "vcore_display_get_info: a display, and an info with its size set, are needed");
	pthread_mutex_lock(&display->lock);
	info = info_of(display);
	pthread_mutex_unlock(&display->lock);
	return vc_struct_out(out, &info, sizeof info);
}

/* Can that be copied? stride: 0 becomes what it means. Caller holds the lock. */
static int check_copy(const vcore_display *display, const struct vcore_rect *r, size_t length, size_t *stride)
{
	size_t row = (size_t)r->width * VC_PIXEL_BYTES;

	if (!display->pixels)
		return vc_fail(ENODATA, "the guest shows nothing");
	if (!vc_rect_within(r, display->width, display->height))
		return vc_fail(ERANGE, "a part of %ux%u at %u,%u: expected one of the picture, which is %ux%u", r->width,
		               r->height, r->x, r->y, display->width, display->height);
	*stride = *stride ? *stride : row;
	if (*stride < row)
		return vc_fail(EINVAL, "a stride of %zu bytes: expected %zu, a row, or more", *stride, row);
	if (length < row || (length - row) / *stride < r->height - 1)
		return vc_fail(ENOSPC, "a buffer of %zu bytes is too small for %u rows of %zu", length, r->height, *stride);
	return 0;
}

int vcore_display_copy(vcore_display *display, const struct vcore_rect *rect, void *buffer, size_t length,
                       size_t stride, struct vcore_display_info *out)
{
	struct vcore_display_info info;
	struct vcore_rect r;
	int e;

	if (!display || !buffer || (out && out->size < sizeof out->size))
		return vc_fail(EINVAL, "vcore_display_copy: a display, a buffer, and an info with its size set, are needed");
	pthread_mutex_lock(&display->lock);
	info = info_of(display);
	r = rect ? *rect : (struct vcore_rect){0, 0, info.width, info.height};
	e = check_copy(display, &r, length, &stride);
	for (uint32_t y = 0; e >= 0 && y < r.height; y++)
		memcpy((uint8_t *)buffer + y * stride,
		       display->pixels + ((size_t)(r.y + y) * display->width + r.x) * VC_PIXEL_BYTES,
		       (size_t)r.width * VC_PIXEL_BYTES);
	pthread_mutex_unlock(&display->lock);
	return e >= 0 && out ? vc_struct_out(out, &info, sizeof info) : e;
}

int vcore_display_request_size(vcore_display *display, uint32_t width, uint32_t height)
{
	int r = 0;

	if (!display || width < VCORE_DISPLAY_MIN || width > VCORE_DISPLAY_MAX || height < VCORE_DISPLAY_MIN ||
	    height > VCORE_DISPLAY_MAX)
		return vc_fail(EINVAL, "a display of %ux%u: expected %d to %d either way", width, height, VCORE_DISPLAY_MIN,
		               VCORE_DISPLAY_MAX);
	pthread_mutex_lock(&display->device);
	if (display->ops) {
		vc_display_set_wanted(display, width, height);
		display->ops->request(display->ctx, width, height);
	} else {
		r = vc_fail(ENODEV, "the device of the display is gone");
	}
	pthread_mutex_unlock(&display->device);
	return r;
}

int vcore_display_get_cursor(vcore_display *display, struct vcore_cursor *out, uint32_t *pixels)
{
	struct vcore_cursor cursor;

	if (!display || !out || out->size < sizeof out->size)
		return vc_fail(EINVAL, "vcore_display_get_cursor: a display, and a cursor with its size set, are needed");
	pthread_mutex_lock(&display->lock);
	cursor = display->cursor;
	if (pixels)
		memcpy(pixels, display->cursor_pixels, sizeof display->cursor_pixels);
	pthread_mutex_unlock(&display->lock);
	return vc_struct_out(out, &cursor, sizeof cursor);
}
