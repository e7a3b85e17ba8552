/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GPU device: resources, where they come from and where they go. */
#include <stdlib.h>

#include "core/error.h"
#include "core/util.h"
#include "virtio/gpu.h"

/* Formats (5.7.6.8), named by the order of the bytes in memory. */
static const struct {
	uint32_t format;
	struct vc_pixel_format pixel;
} formats[] = {
    {1, {.blue = 0, .green = 1, .red = 2, .alpha = 3}},    /* B8G8R8A8 */
    {2, {.blue = 0, .green = 1, .red = 2, .alpha = -1}},   /* B8G8R8X8 */
    {3, {.blue = 3, .green = 2, .red = 1, .alpha = 0}},    /* A8R8G8B8 */
    {4, {.blue = 3, .green = 2, .red = 1, .alpha = -1}},   /* X8R8G8B8 */
    {67, {.blue = 2, .green = 1, .red = 0, .alpha = 3}},   /* R8G8B8A8 */
    {68, {.blue = 1, .green = 2, .red = 3, .alpha = -1}},  /* X8B8G8R8 */
    {121, {.blue = 1, .green = 2, .red = 3, .alpha = 0}},  /* A8B8G8R8 */
    {134, {.blue = 2, .green = 1, .red = 0, .alpha = -1}}, /* R8G8B8X8 */
};

static const struct vc_pixel_format *find_format(uint32_t format)
{
	for (size_t i = 0; i < VC_ARRAY_SIZE(formats); i++)
		if (formats[i].format == format)
			return &formats[i].pixel;
	return NULL;
}

/* ---- resources ---- */

static uint64_t stride_of(const struct vgpu_resource *r)
{
	return (uint64_t)r->width * VC_PIXEL_BYTES;
}

/* What a resource takes without its backing. */
static uint64_t bytes_of(const struct vgpu_resource *r)
{
	return sizeof *r + stride_of(r) * r->height;
}

struct vgpu_resource *vgpu_find(const struct vgpu *gpu, uint32_t id)
{
	struct vgpu_resource *r = gpu->buckets[id % VGPU_BUCKETS];

	while (r && r->id != id)
		r = r->next;
	return r;
}

enum vgpu_answer vgpu_create(struct vgpu *gpu, uint32_t id, uint32_t format, uint32_t width, uint32_t height)
{
	struct vgpu_resource model = {
	    .id = id, .width = width, .height = height, .format = format, .pixel = find_format(format)};
	struct vgpu_resource *r, **end = &gpu->buckets[id % VGPU_BUCKETS];

	if (!id || vgpu_find(gpu, id))
		return VGPU_ERR_RESOURCE;
	if (!model.pixel || !width || width > VGPU_SIDE_MAX || !height || height > VGPU_SIDE_MAX)
		return VGPU_ERR_PARAMETER;
	if (gpu->resources == VGPU_RESOURCES_MAX || bytes_of(&model) > gpu->memory_max - gpu->memory)
		return VGPU_ERR_OUT_OF_MEMORY;
	r = malloc(sizeof *r);
	model.pixels = calloc((size_t)width * height, VC_PIXEL_BYTES);
	if (!r || !model.pixels) {
		free(model.pixels);
		free(r);
		return VGPU_ERR_OUT_OF_MEMORY;
	}
	*r = model;
	while (*end)
		end = &(*end)->next;
	*end = r;
	gpu->memory += bytes_of(r);
	gpu->resources++;
	return VGPU_OK;
}

void vgpu_unref(struct vgpu *gpu, struct vgpu_resource *r)
{
	struct vgpu_resource **p = &gpu->buckets[r->id % VGPU_BUCKETS];

	if (gpu->shown == r->id)
		vgpu_show(gpu, NULL, NULL);
	vgpu_detach(gpu, r);
	while (*p != r)
		p = &(*p)->next;
	*p = r->next;
	gpu->memory -= bytes_of(r);
	gpu->resources--;
	free(r->pixels);
	free(r);
}

void vgpu_clear(struct vgpu *gpu)
{
	for (unsigned i = 0; i < VGPU_BUCKETS; i++)
		while (gpu->buckets[i])
			vgpu_unref(gpu, gpu->buckets[i]);
	if (gpu->cursor.visible) {
		gpu->cursor = (struct vcore_cursor){0};
		vc_display_set_cursor(gpu->display, &gpu->cursor, NULL);
	}
}

/* ---- backing ---- */

enum vgpu_answer vgpu_attach(struct vgpu *gpu, struct vgpu_resource *r, struct vgpu_entry *backing, uint32_t entries)
{
	uint64_t bytes = (uint64_t)entries * sizeof backing[0];

	if (r->backing)
		return VGPU_ERR_UNSPEC;
	if (bytes > gpu->memory_max - gpu->memory)
		return VGPU_ERR_OUT_OF_MEMORY;
	r->backing = backing;
	r->entries = entries;
	for (uint32_t i = 0; i < entries; i++)
		r->backing_length += backing[i].length;
	gpu->memory += bytes;
	return VGPU_OK;
}

void vgpu_detach(struct vgpu *gpu, struct vgpu_resource *r)
{
	gpu->memory -= (uint64_t)r->entries * sizeof r->backing[0];
	free(r->backing);
	r->backing = NULL;
	r->entries = 0;
	r->backing_length = 0;
}

/* A place in a backing, which only moves on. */
struct place {
	const struct vgpu_resource *r;
	uint32_t entry;
	uint64_t start; /* of the entry, from the backing's begin */
};

/* Bytes of the backing, which has them. False: they are not memory. */
static bool read_backing(struct vc_virtio *v, struct place *p, uint64_t at, uint8_t *to, uint64_t length)
{
	while (length) {
		const struct vgpu_entry *e = &p->r->backing[p->entry];
		uint64_t skip = at - p->start, n;

		if (skip >= e->length) {
			p->start += e->length;
			p->entry++;
			continue;
		}
		n = e->length - skip < length ? e->length - skip : length;
		if (e->address > UINT64_MAX - skip || vc_virtio_dma_read(v, e->address + skip, to, n) < 0)
			return false;
		at += n;
		to += n;
		length -= n;
	}
	return true;
}

enum vgpu_answer vgpu_transfer(struct vgpu *gpu, struct vgpu_resource *r, const struct vcore_rect *rect,
                               uint64_t offset)
{
	uint64_t stride = stride_of(r), row = (uint64_t)rect->width * VC_PIXEL_BYTES;
	struct place place = {.r = r};
	uint64_t needed;

	if (!vc_rect_within(rect, r->width, r->height))
		return VGPU_ERR_PARAMETER;
	needed = stride * (rect->height - 1) + row;
	if (!r->backing)
		return VGPU_ERR_UNSPEC;
	if (offset > r->backing_length || needed > r->backing_length - offset)
		return VGPU_ERR_PARAMETER;
	for (uint32_t y = 0; y < rect->height; y++)
		if (!read_backing(gpu->v, &place, offset + y * stride,
		                  r->pixels + (rect->y + y) * stride + (uint64_t)rect->x * VC_PIXEL_BYTES, row))
			return VGPU_ERR_UNSPEC;
	return VGPU_OK;
}

/* ---- the scanout ---- */

void vgpu_flush(struct vgpu *gpu, const struct vgpu_resource *r, const struct vcore_rect *rect)
{
	struct vc_pixels pixels = {.stride = stride_of(r), .format = r->pixel};
	struct vcore_rect part;

	if (r->id != gpu->shown || !vc_rect_common(rect, &gpu->window, &part))
		return;
	pixels.data = r->pixels + part.y * pixels.stride + (uint64_t)part.x * VC_PIXEL_BYTES;
	part.x -= gpu->window.x;
	part.y -= gpu->window.y;
	vc_display_draw(gpu->display, &part, &pixels);
}

enum vgpu_answer vgpu_show(struct vgpu *gpu, struct vgpu_resource *r, const struct vcore_rect *window)
{
	static const struct vcore_rect nothing;

	window = r ? window : &nothing;
	if (r && !vc_rect_within(window, r->width, r->height))
		return VGPU_ERR_PARAMETER;
	if ((window->width != gpu->window.width || window->height != gpu->window.height) &&
	    vc_display_resize(gpu->display, window->width, window->height) < 0)
		return VGPU_ERR_OUT_OF_MEMORY;
	gpu->shown = r ? r->id : 0;
	gpu->window = *window;
	/* the driver flushes only what it changes */
	if (r)
		vgpu_flush(gpu, r, window);
	return VGPU_OK;
}

void vgpu_show_cursor(struct vgpu *gpu, const struct vgpu_resource *r)
{
	uint32_t pixels[VC_CURSOR_PIXELS];

	if (r)
		vc_pixels_convert((uint8_t *)pixels, r->pixels, VC_CURSOR_PIXELS, r->pixel);
	vc_display_set_cursor(gpu->display, &gpu->cursor, r ? pixels : NULL);
}
