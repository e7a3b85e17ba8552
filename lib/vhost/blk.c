/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Block device (5.2) that a back-end serves: its configuration is the back-end's, but for the number of queues. */
#include "virtio/blk.h"
#include "core/util.h"
#include "vhost/types.h"
#include "vhost/vhost.h"

enum { BLK_F_GEOMETRY = 4, BLK_F_CONFIG_WCE = 11, CONFIG_BYTES = 60, WRITEBACK_AT = 32, QUEUES_AT = 34 };

#define FEATURES                                                                                        \
	(1ull << BLK_F_SIZE_MAX | 1ull << BLK_F_SEG_MAX | 1ull << BLK_F_GEOMETRY | 1ull << BLK_F_RO |       \
	 1ull << BLK_F_BLK_SIZE | 1ull << BLK_F_FLUSH | 1ull << BLK_F_TOPOLOGY | 1ull << BLK_F_CONFIG_WCE | \
	 1ull << BLK_F_MQ | 1ull << BLK_F_DISCARD | 1ull << BLK_F_WRITE_ZEROES)

static uint64_t blk_features(void *ctx)
{
	struct vc_vhost *h = ctx;
	uint64_t features = vc_vhost_features(h);

	return h->queue_count > 1 ? features : features & ~(1ull << BLK_F_MQ);
}

static void blk_config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
	struct vc_vhost *h = ctx;
	uint8_t config[CONFIG_BYTES];

	vc_vhost_get_config(h, config, sizeof config);
	vc_st16(config + QUEUES_AT, (uint16_t)h->queue_count);
	memcpy(data, config + offset, length);
}

/* The driver may choose the cache's mode, nothing else. */
static void blk_config_write(void *ctx, uint32_t offset, const void *data, uint32_t length)
{
	struct vc_vhost *h = ctx;

	if (offset == WRITEBACK_AT && length == 1 && vc_virtio_has(h->v, 1ull << BLK_F_CONFIG_WCE))
		vc_vhost_set_config(h, offset, data, length);
}

static const struct vc_virtio_ops blk_ops = {
    .type = "vhost-user-blk",
    .id = VC_VIRTIO_BLK,
    .pci_class = 0x018000,
    .config_size = CONFIG_BYTES,
    .features = blk_features,
    .config_read = blk_config_read,
    .config_write = blk_config_write,
    .start = vc_vhost_start,
    .stop = vc_vhost_stop,
    .notify = vc_vhost_notify,
    .statistics = vc_vhost_statistics,
    .destroy = vc_vhost_free,
};

static const struct vc_vhost_kind blk_kind = {
    .ops = &blk_ops,
    .features = FEATURES,
    .config_size = CONFIG_BYTES,
    .waits = true,
};

static int blk_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	struct vc_vhost *h = NULL;
	uint64_t queues;
	int r = vc_props_u64(props, "queues", 1, 1, VC_VHOST_QUEUES_MAX, &queues);

	if (r >= 0)
		r = vc_vhost_new(env, props, &blk_kind, (uint32_t)queues, &h);
	return r < 0 ? r : vc_vhost_add(h, 0, props, dev);
}

const struct vc_device_type vc_vhost_user_blk_type = {
    .name = "vhost-user-blk",
    .summary = "disk that another process serves",
    .properties = VC_VHOST_PROPERTIES "queues       1 to 64 (1)\n" VC_VIRTIO_PROPERTIES,
    .create = blk_create,
    .shares_memory = true,
};
