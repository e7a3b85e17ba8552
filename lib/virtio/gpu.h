/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * GPU device (5.7), 2D: what its files share. The driver makes resources, pictures in memory of the host; copies to
 * them from its own memory; and has one scanout show a part of one of them. What it flushes is drawn into the display.
 */
#ifndef VC_VIRTIO_GPU_H
#define VC_VIRTIO_GPU_H

#include "device/display.h"
#include "virtio/virtio.h"

enum { VGPU_CONTROLQ, VGPU_CURSORQ, VGPU_QUEUES };
enum {
	VGPU_RESOURCES_MAX = 4096,
	VGPU_BUCKETS = 64,
	VGPU_ENTRIES_MAX = 16384, /* of a resource's backing */
	VGPU_SIDE_MAX = 16384,    /* pixels of a resource */
	VGPU_EDID_BYTES = 128,
};

/* Types of answers (5.7.6.7) */
enum vgpu_answer {
	VGPU_OK = 0x1100,
	VGPU_OK_DISPLAY_INFO = 0x1101,
	VGPU_OK_EDID = 0x1104,
	VGPU_ERR_UNSPEC = 0x1200,
	VGPU_ERR_OUT_OF_MEMORY = 0x1201,
	VGPU_ERR_SCANOUT = 0x1202,
	VGPU_ERR_RESOURCE = 0x1203,
	VGPU_ERR_PARAMETER = 0x1205,
};

/* A piece of the driver's memory, as the driver gives it. */
struct vgpu_entry {
	uint64_t address; /* as the driver addresses memory */
	uint32_t length, pad;
};

struct vgpu_resource {
	struct vgpu_resource *next; /* of its bucket */
	uint32_t id, width, height;
	uint32_t format; /* as the driver knows it */
	const struct vc_pixel_format *pixel;
	uint8_t *pixels;
	struct vgpu_entry *backing;
	uint32_t entries;
	uint64_t backing_length;
};

struct vgpu {
	struct vc_env *env;
	struct vc_virtio *v;
	vcore_display *display;
	uint64_t memory_max; /* bytes */
	_Atomic uint64_t commands, refused;
	pthread_mutex_t lock;   /* protects all below; before the display's */
	uint32_t events;        /* events_read of the configuration */
	uint32_t width, height; /* of the monitor */
	uint64_t memory;        /* bytes that resources take, with what belongs to them */
	uint32_t resources;
	struct vgpu_resource *buckets[VGPU_BUCKETS];
	uint32_t shown;           /* the scanout's resource; 0: none */
	struct vcore_rect window; /* what of it is shown */
	struct vcore_cursor cursor;
};

/* For lib/vm: of a device's frontend; the device's own reference. */
vcore_display *vgpu_display(void *frontend);

/* ---- gpu_command.c ---- */

void vgpu_notify(void *ctx, struct vc_virtq *q);

/* ---- gpu_resource.c: all with the lock ---- */

/* NULL: there is none. 0 is none's. */
struct vgpu_resource *vgpu_find(const struct vgpu *gpu, uint32_t id);
enum vgpu_answer vgpu_create(struct vgpu *gpu, uint32_t id, uint32_t format, uint32_t width, uint32_t height);
void vgpu_unref(struct vgpu *gpu, struct vgpu_resource *r);
/* The entries are the resource's in case of success. */
enum vgpu_answer vgpu_attach(struct vgpu *gpu, struct vgpu_resource *r, struct vgpu_entry *backing, uint32_t entries);
void vgpu_detach(struct vgpu *gpu, struct vgpu_resource *r);
/* From the backing, where it begins at offset. */
enum vgpu_answer vgpu_transfer(struct vgpu *gpu, struct vgpu_resource *r, const struct vcore_rect *rect,
                               uint64_t offset);
/* Show a part of it; NULL: nothing. */
enum vgpu_answer vgpu_show(struct vgpu *gpu, struct vgpu_resource *r, const struct vcore_rect *window);
/* Draw what of the rectangle is shown. */
void vgpu_flush(struct vgpu *gpu, const struct vgpu_resource *r, const struct vcore_rect *rect);
/* The cursor, with a new picture out of a resource of its size, or NULL. */
void vgpu_show_cursor(struct vgpu *gpu, const struct vgpu_resource *r);
/* All resources go, nothing is shown. */
void vgpu_clear(struct vgpu *gpu);

/* ---- gpu_edid.c ---- */

void vgpu_make_edid(uint8_t edid[VGPU_EDID_BYTES], uint32_t width, uint32_t height);

/* ---- gpu_state.c ---- */

int64_t vgpu_save(void *ctx, void *buffer, size_t length);
int vgpu_load(void *ctx, const void *buffer, size_t length);

#endif
