/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 9P device: a directory of the host for the guest, by 9P2000.L. What is made there belongs to who runs the library, or
 * to the guest's users. */
#include "virtio/p9.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/error.h"
#include "core/util.h"
#include "virtio/device_priv.h"
#include "virtio/types.h"

#define F_MOUNT_TAG (1ull << 0)

enum { TAG_MAX = 31, CONFIG_SIZE = 2 + TAG_MAX };

static void p9_notify(void *ctx, struct vc_virtq *q)
{
	struct vc_p9 *p9 = ctx;
	struct vc_virtq_chain *chain;

	do {
		vc_virtq_notify_off(q);
		while (vc_virtq_pop(q, &chain) > 0) {
			uint32_t n = vc_p9_run(p9, chain);

			if (!n)
				vc_virtio_broken(p9->v, "a message of %u bytes with room for an answer of %u", chain->out_bytes,
				                 chain->in_bytes);
			atomic_fetch_add_explicit(&p9->requests, 1, memory_order_relaxed);
			vc_virtq_push(chain, n);
			vc_virtq_flush(q);
		}
		vc_virtq_flush(q);
	} while (vc_virtq_notify_on(q));
}

static uint64_t p9_features(void *ctx)
{
	return F_MOUNT_TAG;
}

static void p9_config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
	memcpy(data, ((struct vc_p9 *)ctx)->config + offset, length);
}

static void p9_stop(void *ctx)
{
	struct vc_p9 *p9 = ctx;

	if (vc_virtio_is_pausing(p9->v))
		return;
	vc_p9_fid_free_all(p9);
	p9->msize = 0;
}

static int64_t p9_save(void *ctx, void *buffer, size_t length)
{
	return vc_p9_save(ctx, buffer, length);
}

static int p9_load(void *ctx, const void *buffer, size_t length)
{
	return vc_p9_load(ctx, buffer, length);
}

static unsigned p9_statistics(void *ctx, struct vc_stat stats[VC_STATS_MAX])
{
	struct vc_p9 *p9 = ctx;

	stats[0] = (struct vc_stat){"requests", atomic_load(&p9->requests)};
	stats[1] = (struct vc_stat){"read_bytes", atomic_load(&p9->read)};
	stats[2] = (struct vc_stat){"written_bytes", atomic_load(&p9->written)};
	return 3;
}

static void p9_destroy(void *ctx)
{
	struct vc_p9 *p9 = ctx;

	vc_p9_fid_free_all(p9);
	vc_p9_node_put(p9->root);
	if (p9->proc >= 0)
		close(p9->proc);
	free(p9->config);
	free(p9);
}

static const struct vc_virtio_ops p9_ops = {
    .type = "virtio-9p",
    .id = VC_VIRTIO_9P,
    .pci_class = 0x018000,
    .legacy_device = 0x1009,
    .config_size = CONFIG_SIZE,
    .in_order = true,
    .features = p9_features,
    .config_read = p9_config_read,
    .stop = p9_stop,
    .notify = p9_notify,
    .save = p9_save,
    .load = p9_load,
    .statistics = p9_statistics,
    .destroy = p9_destroy,
};

/* ---- making ---- */

static int set_tag(struct vc_p9 *p9, const char *tag)
{
	size_t length = tag ? strlen(tag) : 0;

	if (!length || length > TAG_MAX)
		return vc_fail(EINVAL, "virtio-9p: tag=%s: expected a name of 1 to %d characters", tag ? tag : "", TAG_MAX);
	p9->config = calloc(1, CONFIG_SIZE + 1);
	if (!p9->config)
		return vc_fail(ENOMEM, "no memory for a virtio-9p");
	vc_st16(p9->config, (uint16_t)length);
	memcpy(p9->config + 2, tag, length);
	return 0;
}

static int open_directory(struct vc_p9 *p9, const char *path)
{
	int fd;

	if (!path)
		return vc_fail(EINVAL, "virtio-9p: property path is missing: expected a directory");
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return vc_fail_errno(errno, "virtio-9p: the directory %s", path);
	p9->root = vc_p9_node_new(fd);
	if (!p9->root || fstat(fd, &p9->root_stat) < 0)
		return vc_fail(ENOMEM, "no memory for a virtio-9p");
	p9->proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return p9->proc < 0 ? vc_fail_errno(errno, "virtio-9p: /proc/self/fd") : 0;
}

static int set_up(struct vc_p9 *p9, struct vc_props *props)
{
	int r = set_tag(p9, vc_props_string(props, "tag", NULL));

	if (r >= 0)
		r = open_directory(p9, vc_props_string(props, "path", NULL));
	if (r >= 0)
		r = vc_props_bool(props, "readonly", false, &p9->readonly);
	return r < 0 ? r : vc_props_bool(props, "guest_owners", false, &p9->guest_owners);
}

static int p9_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	struct vc_p9 *p9 = calloc(1, sizeof *p9);
	struct vc_virtio_config config = {.ops = &p9_ops, .ctx = p9, .queues = 1, .worker_threads = true};
	int r;

	if (!p9)
		return vc_fail(ENOMEM, "no memory for a virtio-9p");
	p9->proc = -1;
	r = set_up(p9, props);
	if (r < 0) {
		p9_destroy(p9);
		return r;
	}
	return vc_virtio_add(env, props, &config, &p9->v, dev);
}

const struct vc_device_type vc_virtio_9p_type = {
    .name = "virtio-9p",
    .summary = "a directory of the host, served by a thread unless worker=loop",
    .properties =
        "tag        name by which the guest mounts it: mount -t 9p -o trans=virtio,version=9p2000.L TAG DIRECTORY\n"
        "path       the directory\n"
        "readonly   on: the guest changes nothing (off)\n"
        "guest_owners  on: what the guest makes belongs to its users, where the library may give it away; off: to who\n"
        "           runs the library (off)\n" VC_VIRTIO_PROPERTIES,
    .create = p9_create,
};
