/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A display: what a display device has shown, kept for the host. The device draws into it and owns one reference; it
 * has locks of its own that come before the display's.
 */
#ifndef VC_DEVICE_DISPLAY_H
#define VC_DEVICE_DISPLAY_H

#include <virtcore/display.h>

#include "core/loop.h"

#define VC_PIXEL_BYTES   4u
#define VC_CURSOR_PIXELS ((uint32_t)VCORE_CURSOR_SIZE * VCORE_CURSOR_SIZE)

struct vc_display_ops {
	/* The host would like another size, which is in range. Any thread. */
	void (*request)(void *ctx, uint32_t width, uint32_t height);
};

/* Which byte of a pixel of 4 is which. */
struct vc_pixel_format {
	uint8_t red, green, blue;
	int8_t alpha; /* -1: none */
};

/* A picture in memory. */
struct vc_pixels {
	const uint8_t *data;
	size_t stride;
	const struct vc_pixel_format *format;
};

/* Shows nothing yet. width, height: what is wanted until somebody asks for another size. */
int vc_display_new(struct vc_loop *loop, const struct vc_display_ops *ops, void *ctx, uint32_t width, uint32_t height,
                   vcore_display **display);
/* The device goes, with its reference. On return no request runs or will. NULL is allowed. */
void vc_display_close(vcore_display *display);
/* What the guest is asked for, as it says when its state was loaded. */
void vc_display_set_wanted(vcore_display *display, uint32_t width, uint32_t height);
/* Another size, black; 0, 0: nothing is shown. -ENOMEM: the picture stays. */
int vc_display_resize(vcore_display *display, uint32_t width, uint32_t height);
/* Copy pixels to a rectangle that lies within the picture; what lies beyond is left out. */
void vc_display_draw(vcore_display *display, const struct vcore_rect *to, const struct vc_pixels *from);
/* size and generation are not looked at. pixels NULL: as they are, else VC_CURSOR_PIXELS as the public call gives them.
 */
void vc_display_set_cursor(vcore_display *display, const struct vcore_cursor *cursor, const uint32_t *pixels);
/* To blue, green, red, 0xff or opacity. */
void vc_pixels_convert(uint8_t *to, const uint8_t *from, size_t count, const struct vc_pixel_format *format);

static inline bool vc_rect_within(const struct vcore_rect *r, uint32_t width, uint32_t height)
{
	return r->width && r->height && r->x <= width && r->width <= width - r->x && r->y <= height &&
	       r->height <= height - r->y;
}

/* What two rectangles have in common; false: nothing. */
static inline bool vc_rect_common(const struct vcore_rect *a, const struct vcore_rect *b, struct vcore_rect *out)
{
	uint32_t left = a->x > b->x ? a->x : b->x, top = a->y > b->y ? a->y : b->y;
	uint64_t right_a = (uint64_t)a->x + a->width, right_b = (uint64_t)b->x + b->width;
	uint64_t bottom_a = (uint64_t)a->y + a->height, bottom_b = (uint64_t)b->y + b->height;
	uint64_t right = right_a < right_b ? right_a : right_b, bottom = bottom_a < bottom_b ? bottom_a : bottom_b;

	if (left >= right || top >= bottom)
		return false;
	*out = (struct vcore_rect){left, top, (uint32_t)(right - left), (uint32_t)(bottom - top)};
	return true;
}

#endif
