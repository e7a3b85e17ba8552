/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GPU device: requests of the control and the cursor queue (5.7.6.7). All are done when they are answered. */
#include <stdlib.h>

#include "core/util.h"
#include "virtio/gpu.h"

#define FLAG_FENCE 1u

enum { SCANOUTS_MAX = 16, EDID_ROOM = 1024 };

struct header {
	uint32_t type, flags;
	uint64_t fence;
	uint32_t context;
	uint32_t ring; /* and padding */
};

/* Requests, behind the header. */
struct create_2d {
	uint32_t resource, format, width, height;
};
struct resource_only {
	uint32_t resource, pad;
};
struct set_scanout {
	struct vcore_rect rect;
	uint32_t scanout, resource;
};
struct flush {
	struct vcore_rect rect;
	uint32_t resource, pad;
};
struct transfer {
	struct vcore_rect rect;
	uint64_t offset;
	uint32_t resource, pad;
};
struct attach {
	uint32_t resource, entries; /* which follow */
};
struct get_edid {
	uint32_t scanout, pad;
};
struct cursor {
	uint32_t scanout;
	int32_t x, y;
	uint32_t pad;
	uint32_t resource, hot_x, hot_y, pad2;
};

struct mode {
	struct vcore_rect rect;
	uint32_t enabled, flags;
};

/* One request while it runs. */
struct call {
	const struct vc_virtq_chain *chain;
	union {
		struct create_2d create_2d;
		struct resource_only resource_only;
		struct set_scanout set_scanout;
		struct flush flush;
		struct transfer transfer;
		struct attach attach;
		struct get_edid get_edid;
		struct cursor cursor;
	} request;
	struct {
		struct header header;
		union {
			struct mode modes[SCANOUTS_MAX];
			struct {
				uint32_t size, pad;
				uint8_t bytes[EDID_ROOM];
			} edid;
		} u;
	} answer;
	size_t length; /* of the answer behind its header */
};

/* ---- requests; with the lock ---- */

static enum vgpu_answer get_display_info(struct vgpu *gpu, struct call *call)
{
	call->length = sizeof call->answer.u.modes;
	call->answer.u.modes[0] = (struct mode){{0, 0, gpu->width, gpu->height}, 1, 0};
	return VGPU_OK_DISPLAY_INFO;
}

static enum vgpu_answer get_edid(struct vgpu *gpu, struct call *call)
{
	if (call->request.get_edid.scanout)
		return VGPU_ERR_SCANOUT;
	call->length = sizeof call->answer.u.edid;
	call->answer.u.edid.size = VGPU_EDID_BYTES;
	vgpu_make_edid(call->answer.u.edid.bytes, gpu->width, gpu->height);
	return VGPU_OK_EDID;
}

static enum vgpu_answer create_2d(struct vgpu *gpu, struct call *call)
{
	const struct create_2d *c = &call->request.create_2d;

	return vgpu_create(gpu, c->resource, c->format, c->width, c->height);
}

static enum vgpu_answer unref(struct vgpu *gpu, struct call *call)
{
	struct vgpu_resource *r = vgpu_find(gpu, call->request.resource_only.resource);

	if (!r)
		return VGPU_ERR_RESOURCE;
	vgpu_unref(gpu, r);
	return VGPU_OK;
}

static enum vgpu_answer attach_backing(struct vgpu *gpu, struct call *call)
{
	struct vgpu_resource *r = vgpu_find(gpu, call->request.attach.resource);
	uint32_t entries = call->request.attach.entries;
	size_t bytes = entries * sizeof(struct vgpu_entry), at = sizeof(struct header) + sizeof(struct attach);
	struct vgpu_entry *backing;
	enum vgpu_answer answer;

	if (!r)
		return VGPU_ERR_RESOURCE;
	if (!entries || entries > VGPU_ENTRIES_MAX || call->chain->out_bytes < at + bytes)
		return VGPU_ERR_PARAMETER;
	backing = malloc(bytes);
	if (!backing)
		return VGPU_ERR_OUT_OF_MEMORY;
	vc_iov_to_buffer(call->chain->out, call->chain->out_count, at, backing, bytes);
	answer = vgpu_attach(gpu, r, backing, entries);
	if (answer != VGPU_OK)
		free(backing);
	return answer;
}

static enum vgpu_answer detach_backing(struct vgpu *gpu, struct call *call)
{
	struct vgpu_resource *r = vgpu_find(gpu, call->request.resource_only.resource);

	if (!r)
		return VGPU_ERR_RESOURCE;
	if (!r->backing)
		return VGPU_ERR_UNSPEC;
	vgpu_detach(gpu, r);
	return VGPU_OK;
}

static enum vgpu_answer set_scanout(struct vgpu *gpu, struct call *call)
{
	const struct set_scanout *s = &call->request.set_scanout;
	struct vgpu_resource *r = s->resource ? vgpu_find(gpu, s->resource) : NULL;

	if (s->scanout)
		return VGPU_ERR_SCANOUT;
	if (s->resource && !r)
		return VGPU_ERR_RESOURCE;
	return vgpu_show(gpu, r, &s->rect);
}

static enum vgpu_answer flush(struct vgpu *gpu, struct call *call)
{
	const struct flush *f = &call->request.flush;
	struct vgpu_resource *r = vgpu_find(gpu, f->resource);

	if (!r)
		return VGPU_ERR_RESOURCE;
	if (!vc_rect_within(&f->rect, r->width, r->height))
		return VGPU_ERR_PARAMETER;
	vgpu_flush(gpu, r, &f->rect);
	return VGPU_OK;
}

static enum vgpu_answer transfer(struct vgpu *gpu, struct call *call)
{
	const struct transfer *t = &call->request.transfer;
	struct vgpu_resource *r = vgpu_find(gpu, t->resource);

	return r ? vgpu_transfer(gpu, r, &t->rect, t->offset) : VGPU_ERR_RESOURCE;
}

static enum vgpu_answer update_cursor(struct vgpu *gpu, struct call *call)
{
	const struct cursor *c = &call->request.cursor;
	struct vgpu_resource *r = c->resource ? vgpu_find(gpu, c->resource) : NULL;

	if (c->scanout)
		return VGPU_ERR_SCANOUT;
	if (c->resource && !r)
		return VGPU_ERR_RESOURCE;
	if (c->hot_x >= VCORE_CURSOR_SIZE || c->hot_y >= VCORE_CURSOR_SIZE ||
	    (r && (r->width != VCORE_CURSOR_SIZE || r->height != VCORE_CURSOR_SIZE)))
		return VGPU_ERR_PARAMETER;
	gpu->cursor =
	    (struct vcore_cursor){.visible = r != NULL, .x = c->x, .y = c->y, .hot_x = c->hot_x, .hot_y = c->hot_y};
	vgpu_show_cursor(gpu, r);
	return VGPU_OK;
}

/* Only the position counts. */
static enum vgpu_answer move_cursor(struct vgpu *gpu, struct call *call)
{
	const struct cursor *c = &call->request.cursor;

	if (c->scanout)
		return VGPU_ERR_SCANOUT;
	gpu->cursor.x = c->x;
	gpu->cursor.y = c->y;
	vgpu_show_cursor(gpu, NULL);
	return VGPU_OK;
}

/* ---- the queues ---- */

static const struct command {
	uint32_t queue, type, length; /* behind the header */
	enum vgpu_answer (*run)(struct vgpu *gpu, struct call *call);
} commands[] = {
    {VGPU_CONTROLQ, 0x0100, 0, get_display_info},
    {VGPU_CONTROLQ, 0x0101, sizeof(struct create_2d), create_2d},
    {VGPU_CONTROLQ, 0x0102, sizeof(struct resource_only), unref},
    {VGPU_CONTROLQ, 0x0103, sizeof(struct set_scanout), set_scanout},
    {VGPU_CONTROLQ, 0x0104, sizeof(struct flush), flush},
    {VGPU_CONTROLQ, 0x0105, sizeof(struct transfer), transfer},
    {VGPU_CONTROLQ, 0x0106, sizeof(struct attach), attach_backing},
    {VGPU_CONTROLQ, 0x0107, sizeof(struct resource_only), detach_backing},
    {VGPU_CONTROLQ, 0x010a, sizeof(struct get_edid), get_edid},
    {VGPU_CURSORQ, 0x0300, sizeof(struct cursor), update_cursor},
    {VGPU_CURSORQ, 0x0301, sizeof(struct cursor), move_cursor},
};

static const struct command *find_command(uint32_t queue, uint32_t type)
{
	for (size_t i = 0; i < VC_ARRAY_SIZE(commands); i++)
		if (commands[i].queue == queue && commands[i].type == type)
			return &commands[i];
	return NULL;
}

static enum vgpu_answer obey(struct vgpu *gpu, const struct command *command, struct call *call)
{
	const struct vc_virtq_chain *chain = call->chain;
	enum vgpu_answer answer;

	if (!command)
		return VGPU_ERR_UNSPEC;
	if (vc_iov_to_buffer(chain->out, chain->out_count, sizeof(struct header), &call->request, command->length) <
	    command->length)
		return VGPU_ERR_PARAMETER;
	pthread_mutex_lock(&gpu->lock);
	answer = command->run(gpu, call);
	pthread_mutex_unlock(&gpu->lock);
	return answer;
}

/* How much was written. */
static uint32_t serve(struct vgpu *gpu, uint32_t queue, const struct vc_virtq_chain *chain)
{
	struct call call = {.chain = chain};
	struct header header, *answer = &call.answer.header;

	if (vc_iov_to_buffer(chain->out, chain->out_count, 0, &header, sizeof header) < sizeof header) {
		vc_virtio_broken(gpu->v, "a request of %u bytes: expected %zu, the header, or more", chain->out_bytes,
		                 sizeof header);
		return 0;
	}
	atomic_fetch_add_explicit(&gpu->commands, 1, memory_order_relaxed);
	answer->type = obey(gpu, find_command(queue, header.type), &call);
	if (answer->type >= VGPU_ERR_UNSPEC) {
		atomic_fetch_add_explicit(&gpu->refused, 1, memory_order_relaxed);
		call.length = 0;
	}
	if (header.flags & FLAG_FENCE) {
		answer->flags = FLAG_FENCE;
		answer->fence = header.fence;
		answer->context = header.context;
	}
	return (uint32_t)vc_iov_from_buffer(chain->in, chain->in_count, 0, &call.answer, sizeof header + call.length);
}

void vgpu_notify(void *ctx, struct vc_virtq *q)
{
	struct vgpu *gpu = ctx;
	struct vc_virtq_chain *chain;

	do {
		vc_virtq_notify_off(q);
		while (vc_virtq_pop(q, &chain) > 0)
			vc_virtq_push(chain, serve(gpu, vc_virtq_index(q), chain));
		vc_virtq_flush(q);
	} while (vc_virtq_notify_on(q));
}
