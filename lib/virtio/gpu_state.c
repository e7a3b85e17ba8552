/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GPU device: its state. Behind the first struct come the cursor's pixels, then the resources, each with its backing
 * and its pixels. */
#include <stdlib.h>

#include "chipset/dev_state.h"
#include "virtio/gpu.h"

#define STATE_VERSION 1u

struct gpu_state {
	uint32_t version, events;
	uint32_t width, height;
	uint32_t resources, shown;
	struct vcore_rect window;
	int32_t cursor_x, cursor_y;
	uint32_t cursor_hot_x, cursor_hot_y;
	uint32_t cursor_visible, pad;
};

struct resource_state {
	uint32_t id, format, width, height, entries, pad;
};

static size_t pixel_bytes(const struct resource_state *s)
{
	return (size_t)s->width * s->height * VC_PIXEL_BYTES;
}

static void put(uint8_t **at, const void *data, size_t length)
{
	if (length)
		memcpy(*at, data, length);
	*at += length;
}

/* ---- saving; with the lock ---- */

static size_t state_bytes(const struct vgpu *gpu)
{
	size_t bytes = sizeof(struct gpu_state) + VC_CURSOR_PIXELS * VC_PIXEL_BYTES;

	for (unsigned i = 0; i < VGPU_BUCKETS; i++)
		for (const struct vgpu_resource *r = gpu->buckets[i]; r; r = r->next)
			bytes += sizeof(struct resource_state) + r->entries * sizeof r->backing[0] +
			         (size_t)r->width * r->height * VC_PIXEL_BYTES;
	return bytes;
}

static void save_resource(uint8_t **at, const struct vgpu_resource *r)
{
	struct resource_state state = {
	    .id = r->id, .format = r->format, .width = r->width, .height = r->height, .entries = r->entries};

	put(at, &state, sizeof state);
	put(at, r->backing, r->entries * sizeof r->backing[0]);
	put(at, r->pixels, pixel_bytes(&state));
}

static void save(struct vgpu *gpu, uint8_t *at)
{
	struct vcore_cursor cursor = {.size = sizeof cursor};
	uint32_t pixels[VC_CURSOR_PIXELS];
	struct gpu_state state = {
	    .version = STATE_VERSION,
	    .events = gpu->events,
	    .width = gpu->width,
	    .height = gpu->height,
	    .resources = gpu->resources,
	    .shown = gpu->shown,
	    .window = gpu->window,
	    .cursor_x = gpu->cursor.x,
	    .cursor_y = gpu->cursor.y,
	    .cursor_hot_x = gpu->cursor.hot_x,
	    .cursor_hot_y = gpu->cursor.hot_y,
	    .cursor_visible = gpu->cursor.visible,
	};

	vcore_display_get_cursor(gpu->display, &cursor, pixels);
	put(&at, &state, sizeof state);
	put(&at, pixels, sizeof pixels);
	for (unsigned i = 0; i < VGPU_BUCKETS; i++)
		for (const struct vgpu_resource *r = gpu->buckets[i]; r; r = r->next)
			save_resource(&at, r);
}

int64_t vgpu_save(void *ctx, void *buffer, size_t length)
{
	struct vgpu *gpu = ctx;
	size_t bytes;

	pthread_mutex_lock(&gpu->lock);
	bytes = state_bytes(gpu);
	if (buffer && length >= bytes)
		save(gpu, buffer);
	pthread_mutex_unlock(&gpu->lock);
	if (buffer && length < bytes)
		return vc_fail(ENOSPC, "a buffer of %zu bytes is too small for a device state of %zu", length, bytes);
	return (int64_t)bytes;
}

/* ---- loading; with the lock ---- */

struct in {
	const uint8_t *data;
	size_t left;
};

/* The next bytes; NULL: there are not so many. */
static const uint8_t *take(struct in *in, size_t length)
{
	const uint8_t *data = in->data;

	if (length > in->left)
		return NULL;
	in->data += length;
	in->left -= length;
	return data;
}

static enum vgpu_answer load_backing(struct vgpu *gpu, struct vgpu_resource *r, const uint8_t *data, uint32_t entries)
{
	size_t bytes = entries * sizeof(struct vgpu_entry);
	struct vgpu_entry *backing = malloc(bytes);
	enum vgpu_answer answer;

	if (!backing)
		return VGPU_ERR_OUT_OF_MEMORY;
	memcpy(backing, data, bytes);
	answer = vgpu_attach(gpu, r, backing, entries);
	if (answer != VGPU_OK)
		free(backing);
	return answer;
}

static bool load_resource(struct vgpu *gpu, struct in *in)
{
	const uint8_t *data = take(in, sizeof(struct resource_state)), *backing;
	struct resource_state state;
	struct vgpu_resource *r;

	if (!data)
		return false;
	memcpy(&state, data, sizeof state);
	if (state.entries > VGPU_ENTRIES_MAX ||
	    vgpu_create(gpu, state.id, state.format, state.width, state.height) != VGPU_OK)
		return false;
	r = vgpu_find(gpu, state.id);
	backing = take(in, state.entries * sizeof(struct vgpu_entry));
	data = take(in, pixel_bytes(&state));
	if (!backing || !data || (state.entries && load_backing(gpu, r, backing, state.entries) != VGPU_OK))
		return false;
	memcpy(r->pixels, data, pixel_bytes(&state));
	return true;
}

static bool is_size(uint32_t pixels)
{
	return pixels >= VCORE_DISPLAY_MIN && pixels <= VCORE_DISPLAY_MAX;
}

static bool load_scanout(struct vgpu *gpu, const struct gpu_state *state, const uint8_t *cursor)
{
	struct vgpu_resource *shown = state->shown ? vgpu_find(gpu, state->shown) : NULL;
	uint32_t pixels[VC_CURSOR_PIXELS];

	if (!shown != !state->shown || vgpu_show(gpu, shown, &state->window) != VGPU_OK)
		return false;
	gpu->events = state->events;
	gpu->width = state->width;
	gpu->height = state->height;
	gpu->cursor = (struct vcore_cursor){.visible = state->cursor_visible,
	                                    .x = state->cursor_x,
	                                    .y = state->cursor_y,
	                                    .hot_x = state->cursor_hot_x,
	                                    .hot_y = state->cursor_hot_y};
	memcpy(pixels, cursor, sizeof pixels);
	vc_display_set_cursor(gpu->display, &gpu->cursor, pixels);
	vc_display_set_wanted(gpu->display, gpu->width, gpu->height);
	return true;
}

static bool load(struct vgpu *gpu, struct in *in)
{
	const uint8_t *data = take(in, sizeof(struct gpu_state)), *cursor = take(in, VC_CURSOR_PIXELS * VC_PIXEL_BYTES);
	struct gpu_state state;

	if (!data || !cursor)
		return false;
	memcpy(&state, data, sizeof state);
	if (state.version != STATE_VERSION || !is_size(state.width) || !is_size(state.height) || state.events > 1 ||
	    state.cursor_visible > 1 || state.cursor_hot_x >= VCORE_CURSOR_SIZE || state.cursor_hot_y >= VCORE_CURSOR_SIZE)
		return false;
	for (uint32_t i = 0; i < state.resources; i++)
		if (!load_resource(gpu, in))
			return false;
	return !in->left && load_scanout(gpu, &state, cursor);
}

int vgpu_load(void *ctx, const void *buffer, size_t length)
{
	struct vgpu *gpu = ctx;
	struct in in = {buffer, length};
	bool good;

	pthread_mutex_lock(&gpu->lock);
	vgpu_clear(gpu);
	good = load(gpu, &in);
	pthread_mutex_unlock(&gpu->lock);
	return good ? 0 : vc_fail(EINVAL, "the saved state of a virtio-gpu holds what it cannot be in");
}
