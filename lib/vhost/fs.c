/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* File system device (5.11) that a back-end serves: FUSE requests; its configuration is the tag and how many queues. */
#include "core/util.h"
#include "vhost/types.h"
#include "vhost/vhost.h"

enum { TAG_BYTES = 36, HIGH_PRIORITY_QUEUES = 1 };

struct fs_config {
	char tag[TAG_BYTES]; /* padded with zeroes, not terminated */
	uint32_t queues;
} __attribute__((packed));

static void fs_config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
	struct vc_vhost *h = ctx;
	struct fs_config config = {.queues = h->queue_count - HIGH_PRIORITY_QUEUES};

	memcpy(config.tag, h->tag, sizeof config.tag);
	memcpy(data, (uint8_t *)&config + offset, length);
}

static const struct vc_virtio_ops fs_ops = {
    .type = "vhost-user-fs",
    .id = VC_VIRTIO_FS,
    .pci_class = 0x018000,
    .config_size = sizeof(struct fs_config),
    .features = vc_vhost_features,
    .config_read = fs_config_read,
    .start = vc_vhost_start,
    .stop = vc_vhost_stop,
    .notify = vc_vhost_notify,
    .statistics = vc_vhost_statistics,
    .destroy = vc_vhost_free,
};

static const struct vc_vhost_kind fs_kind = {.ops = &fs_ops, .waits = true};

static int fs_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	const char *tag = vc_props_string(props, "tag", NULL);
	struct vc_vhost *h = NULL;
	uint64_t queues;
	int r = vc_props_u64(props, "queues", 1, 1, VC_VHOST_QUEUES_MAX - HIGH_PRIORITY_QUEUES, &queues);

	if (r < 0)
		return r;
	if (!tag || !*tag || strlen(tag) > TAG_BYTES)
		return vc_fail(EINVAL, "vhost-user-fs: property tag is \"%.80s\": expected 1 to %d characters", tag ? tag : "",
		               TAG_BYTES);
	r = vc_vhost_new(env, props, &fs_kind, (uint32_t)queues + HIGH_PRIORITY_QUEUES, &h);
	if (r < 0)
		return r;
	memcpy(h->tag, tag, strlen(tag));
	return vc_vhost_add(h, 0, props, dev);
}

const struct vc_device_type vc_vhost_user_fs_type = {
    .name = "vhost-user-fs",
    .summary = "directory that another process serves (virtiofs)",
    .properties = VC_VHOST_PROPERTIES "tag          what the guest mounts: mount -t virtiofs TAG DIR\n"
                                      "queues       of requests, 1 to 63 (1)\n" VC_VIRTIO_PROPERTIES,
    .create = fs_create,
    .shares_memory = true,
};
