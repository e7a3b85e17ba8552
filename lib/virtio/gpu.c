/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GPU device (5.7), 2D with EDID: one scanout, whose picture is the host's to read. */
#include "virtio/gpu.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/error.h"
#include "core/util.h"
#include "virtio/types.h"

#define F_EDID        (1ull << 1)
#define EVENT_DISPLAY 1u

struct gpu_config {
	uint32_t events_read, events_clear, num_scanouts, num_capsets;
};

vcore_display *vgpu_display(void *frontend)
{
	return ((struct vgpu *)frontend)->display;
}

/* The guest asks what has changed. */
static void gpu_request(void *ctx, uint32_t width, uint32_t height)
{
	struct vgpu *gpu = ctx;

	pthread_mutex_lock(&gpu->lock);
	gpu->width = width;
	gpu->height = height;
	gpu->events |= EVENT_DISPLAY;
	pthread_mutex_unlock(&gpu->lock);
	vc_virtio_config_changed(gpu->v);
}

static const struct vc_display_ops display_ops = {.request = gpu_request};

static uint64_t gpu_features(void *ctx)
{
	return F_EDID;
}

static void gpu_config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
	struct vgpu *gpu = ctx;
	struct gpu_config config = {.num_scanouts = 1};

	pthread_mutex_lock(&gpu->lock);
	config.events_read = gpu->events;
	pthread_mutex_unlock(&gpu->lock);
	memcpy(data, (const uint8_t *)&config + offset, length);
}

static void gpu_config_write(void *ctx, uint32_t offset, const void *data, uint32_t length)
{
	struct vgpu *gpu = ctx;

	if (offset != offsetof(struct gpu_config, events_clear) || length != sizeof(uint32_t))
		return;
	pthread_mutex_lock(&gpu->lock);
	gpu->events &= ~vc_ld32(data);
	pthread_mutex_unlock(&gpu->lock);
}

/* What the driver made goes with it; the monitor stays. */
static void gpu_reset(void *ctx)
{
	struct vgpu *gpu = ctx;

	pthread_mutex_lock(&gpu->lock);
	vgpu_clear(gpu);
	gpu->events = 0;
	pthread_mutex_unlock(&gpu->lock);
}

static unsigned gpu_statistics(void *ctx, struct vc_stat stats[VC_STATS_MAX])
{
	struct vgpu *gpu = ctx;

	stats[0] = (struct vc_stat){"commands", atomic_load(&gpu->commands)};
	stats[1] = (struct vc_stat){"refused", atomic_load(&gpu->refused)};
	pthread_mutex_lock(&gpu->lock);
	stats[2] = (struct vc_stat){"resources", gpu->resources};
	stats[3] = (struct vc_stat){"memory", gpu->memory};
	pthread_mutex_unlock(&gpu->lock);
	return 4;
}

static void gpu_destroy(void *ctx)
{
	struct vgpu *gpu = ctx;

	if (gpu->display)
		vgpu_clear(gpu);
	vc_display_close(gpu->display);
	pthread_mutex_destroy(&gpu->lock);
	free(gpu);
}

static const struct vc_virtio_ops gpu_ops = {
    .type = "virtio-gpu",
    .id = VC_VIRTIO_GPU,
    .pci_class = 0x038000,
    .config_size = sizeof(struct gpu_config),
    .in_order = true,
    .features = gpu_features,
    .config_read = gpu_config_read,
    .config_write = gpu_config_write,
    .reset = gpu_reset,
    .notify = vgpu_notify,
    .save = vgpu_save,
    .load = vgpu_load,
    .statistics = gpu_statistics,
    .destroy = gpu_destroy,
};

static int set_up(struct vgpu *gpu, struct vc_props *props)
{
	uint64_t width, height;
	int r = vc_props_u64(props, "width", 1280, VCORE_DISPLAY_MIN, VCORE_DISPLAY_MAX, &width);

	if (r >= 0)
		r = vc_props_u64(props, "height", 800, VCORE_DISPLAY_MIN, VCORE_DISPLAY_MAX, &height);
	if (r >= 0)
		r = vc_props_u64(props, "memory", VC_MIB(256), VC_MIB(1), VC_GIB(16), &gpu->memory_max);
	if (r < 0)
		return r;
	gpu->width = (uint32_t)width;
	gpu->height = (uint32_t)height;
	return vc_display_new(gpu->env->loop, &display_ops, gpu, gpu->width, gpu->height, &gpu->display);
}

static int gpu_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	static const uint16_t sizes[VGPU_QUEUES] = {[VGPU_CONTROLQ] = 256, [VGPU_CURSORQ] = 16};
	struct vgpu *gpu = calloc(1, sizeof *gpu);
	struct vc_virtio_config config = {.ops = &gpu_ops, .ctx = gpu, .queues = VGPU_QUEUES, .sizes = sizes};
	int r;

	if (!gpu)
		return vc_fail(ENOMEM, "no memory for a virtio-gpu");
	gpu->env = env;
	pthread_mutex_init(&gpu->lock, NULL);
	r = set_up(gpu, props);
	if (r < 0) {
		gpu_destroy(gpu);
		return r;
	}
	return vc_virtio_add(env, props, &config, &gpu->v, dev);
}

const struct vc_device_type vc_virtio_gpu_type = {
    .name = "virtio-gpu",
    .summary = "graphics card whose picture the host reads (screendump)",
    .properties = "width      of the monitor in pixels, 32 to 4095 (1280)\n"
                  "height     likewise (800)\n"
                  "memory     bytes that the guest's pictures may take on the host (256M)\n" VC_VIRTIO_PROPERTIES,
    .create = gpu_create,
};
