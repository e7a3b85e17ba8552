/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Block device (5.2): properties, features, configuration. */
#include "virtio/blk.h"

#include <errno.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/error.h"
#include "core/util.h"
#include "virtio/types.h"

/* Configuration space (5.2.4). */
struct blk_config {
	uint64_t capacity; /* in sectors of 512 bytes */
	uint32_t size_max, seg_max;
	uint16_t cylinders;
	uint8_t heads, sectors;
	uint32_t blk_size;
	uint8_t physical_block_exp, alignment_offset;
	uint16_t min_io_size;
	uint32_t opt_io_size;
	uint8_t writeback, unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
	uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap, unused1[3];
	uint32_t end[0];
};
_Static_assert(offsetof(struct blk_config, end) == 60, "the specification's layout");

enum { MAX_QUEUES = 64, MIN_QUEUE_SIZE = 4, SEG_MAX = 254, ALIGNMENT = 65536 /* of discards that give space back */ };

/* ---- the driver's view ---- */

static uint64_t blk_features(void *ctx)
{
	const struct blk *blk = ctx;
	uint64_t features = 1ull << BLK_F_SEG_MAX | 1ull << BLK_F_BLK_SIZE | 1ull << BLK_F_TOPOLOGY;

	if (vc_block_read_only(blk->block))
		features |= 1ull << BLK_F_RO;
	else if (blk->discard)
		features |= 1ull << BLK_F_DISCARD | 1ull << BLK_F_WRITE_ZEROES;
	if (!blk->write_through)
		features |= 1ull << BLK_F_FLUSH;
	if (blk->size_max)
		features |= 1ull << BLK_F_SIZE_MAX;
	if (blk->queue_count > 1)
		features |= 1ull << BLK_F_MQ;
	return features;
}

static void blk_config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
	const struct blk *blk = ctx;
	uint32_t physical = vc_block_sector_size(blk->block) / blk->block_size;
	struct blk_config config = {
	    .capacity = vc_block_size(blk->block) / BLK_SECTOR,
	    .size_max = blk->size_max,
	    /* besides header and status */
	    .seg_max = blk->queue_size - 2 < SEG_MAX ? blk->queue_size - 2 : SEG_MAX,
	    .blk_size = blk->block_size,
	    .physical_block_exp = physical > 1 ? (uint8_t)__builtin_ctz(physical) : 0,
	    .min_io_size = 1,
	    .writeback = !blk->write_through,
	    .num_queues = (uint16_t)blk->queue_count,
	    .max_discard_sectors = BLK_MAX_SECTORS,
	    .max_discard_seg = BLK_MAX_RANGES,
	    .discard_sector_alignment = ALIGNMENT / BLK_SECTOR,
	    .max_write_zeroes_sectors = BLK_MAX_SECTORS,
	    .max_write_zeroes_seg = BLK_MAX_RANGES,
	    .write_zeroes_may_unmap = 1,
	};

	memcpy(data, (uint8_t *)&config + offset, length);
}

static void blk_stop(void *ctx)
{
	struct blk *blk = ctx;

	for (uint32_t i = 0; i < blk->queue_count; i++)
		blk_queue_drain(&blk->queues[i]);
}

static unsigned blk_statistics(void *ctx, struct vc_stat stats[VC_STATS_MAX])
{
	static const struct {
		const char *name;
		size_t offset;
	} counters[] = {
	    {"reads", offsetof(struct blk_counters, reads)},
	    {"read_bytes", offsetof(struct blk_counters, read_bytes)},
	    {"writes", offsetof(struct blk_counters, writes)},
	    {"write_bytes", offsetof(struct blk_counters, write_bytes)},
	    {"flushes", offsetof(struct blk_counters, flushes)},
	    {"discards", offsetof(struct blk_counters, discards)},
	};
	static const char *const errors[VC_BLOCK_OPS] = {
	    [VC_BLOCK_READ] = "read_errors",
	    [VC_BLOCK_WRITE] = "write_errors",
	    [VC_BLOCK_FLUSH] = "flush_errors",
	    [VC_BLOCK_DISCARD] = "discard_errors",
	    [VC_BLOCK_WRITE_ZEROES] = "write_zeroes_errors",
	};
	struct blk *blk = ctx;
	unsigned count = 0;

	stats[count++] = (struct vc_stat){"size", vc_block_size(blk->block)};
	for (unsigned n = 0; n < VC_ARRAY_SIZE(counters); n++) {
		uint64_t sum = 0;

		for (uint32_t i = 0; i < blk->queue_count; i++)
			sum += atomic_load_explicit((_Atomic uint64_t *)((char *)&blk->queues[i].counters + counters[n].offset),
			                            memory_order_relaxed);
		stats[count++] = (struct vc_stat){counters[n].name, sum};
	}
	for (unsigned op = 0; op < VC_BLOCK_OPS; op++)
		stats[count++] = (struct vc_stat){errors[op], atomic_load(&blk->errors[op])};
	return count;
}

/* ---- the program's view ---- */

int vc_blk_resize(struct blk *blk, uint64_t bytes)
{
	int r = vc_block_resize(blk->block, bytes);

	if (r >= 0)
		vc_virtio_config_changed(blk->v);
	return r;
}

/* Of several at the same time one. */
static bool is_time_to_tell(struct blk *blk, enum vc_block_op op)
{
	uint64_t last = atomic_load(&blk->told_ns[op]), now = vc_host_ns();

	return (!last || now - last >= BLK_TELL_NS) && atomic_compare_exchange_strong(&blk->told_ns[op], &last, now);
}

static void on_error(void *ctx, enum vc_block_op op, uint64_t offset, int error)
{
	struct blk *blk = ctx;
	const struct vc_machine_ops *machine = blk->env->machine;
	const struct vcore_block_error e = {
	    .size = sizeof e,
	    .operation = (uint32_t)op,
	    .offset = offset,
	    .errors = atomic_fetch_add(&blk->errors[op], error != EOPNOTSUPP) + 1,
	    .error = error,
	    .image = vc_block_path(blk->block),
	};
	char text[128];

	/* the driver learns that there is no such operation, which is no fault */
	if (error == EOPNOTSUPP || !is_time_to_tell(blk, op))
		return;
	vc_log(blk->env->log, VCORE_LOG_WARN, "virtio-blk: %s: %s at %llu: %s (error %llu of its kind)", e.image,
	       vc_block_op_names[op], (unsigned long long)offset, strerror_r(error, text, sizeof text),
	       (unsigned long long)e.errors);
	if (machine && machine->block_error)
		machine->block_error(blk->env->machine_ctx, blk, &e);
}

/* ---- making ---- */

static void blk_destroy(void *ctx)
{
	struct blk *blk = ctx;

	vc_block_close(blk->block);
	for (uint32_t i = 0; blk->queues && i < blk->queue_count; i++)
		blk_queue_fini(&blk->queues[i]);
	free(blk->queues);
	free(blk);
}

static const struct vc_virtio_ops blk_ops = {
    .type = "virtio-blk",
    .id = VC_VIRTIO_BLK,
    .pci_class = 0x018000,
    .legacy_device = 0x1001,
    .config_size = offsetof(struct blk_config, end),
    .features = blk_features,
    .config_read = blk_config_read,
    .stop = blk_stop,
    .notify = blk_notify,
    .statistics = blk_statistics,
    .destroy = blk_destroy,
};

static int read_cache(struct vc_props *props, enum vc_block_cache *cache)
{
	static const char *const names[] = {
	    [VC_BLOCK_WRITEBACK] = "writeback",
	    [VC_BLOCK_WRITETHROUGH] = "writethrough",
	    [VC_BLOCK_DIRECT] = "direct",
	    [VC_BLOCK_UNSAFE] = "unsafe",
	};
	const char *text = vc_props_string(props, "cache", "writeback");

	for (unsigned i = 0; i < VC_ARRAY_SIZE(names); i++) {
		if (!strcmp(names[i], text)) {
			*cache = (enum vc_block_cache)i;
			return 0;
		}
	}
	return vc_fail(EINVAL, "property cache=%s: expected writeback, writethrough, direct or unsafe", text);
}

static int read_image(struct vc_props *props, struct vc_block_options *image)
{
	bool lock = true;
	uint64_t threads;
	int r;

	image->path = vc_props_string(props, "image", NULL);
	image->format = vc_props_string(props, "format", NULL);
	image->snapshot = vc_props_string(props, "snapshot", NULL);
	image->aio = vc_props_string(props, "aio", NULL);
	if (!image->path)
		return vc_fail(EINVAL, "virtio-blk: property image is missing: expected the path of a file");
	r = vc_props_bool(props, "readonly", false, &image->read_only);
	if (r >= 0)
		r = vc_props_bool(props, "overlay", false, &image->overlay);
	if (r >= 0)
		r = vc_props_bool(props, "lock", true, &lock);
	if (r >= 0)
		r = vc_props_u64(props, "threads", 4, 1, 64, &threads);
	if (r < 0)
		return r;
	image->no_lock = !lock;
	image->threads = (uint32_t)threads;
	return read_cache(props, &image->cache);
}

static bool power_of_2(uint64_t value)
{
	return !(value & (value - 1));
}

static int read_device(struct vc_props *props, struct blk *blk)
{
	const char *serial = vc_props_string(props, "serial", "");
	uint64_t queues, queue_size, block_size, size_max;
	int r = vc_props_bool(props, "discard", true, &blk->discard);

	if (r >= 0)
		r = vc_props_u64(props, "queues", 1, 1, MAX_QUEUES, &queues);
	if (r >= 0)
		r = vc_props_u64(props, "queue_size", 256, MIN_QUEUE_SIZE, VC_VIRTQ_MAX_SIZE, &queue_size);
	if (r >= 0)
		r = vc_props_u64(props, "block_size", BLK_SECTOR, BLK_SECTOR, VC_PAGE_SIZE, &block_size);
	if (r >= 0)
		r = vc_props_u64(props, "size_max", 0, 0, UINT32_MAX, &size_max);
	if (r < 0)
		return r;
	if (!power_of_2(queue_size) || !power_of_2(block_size))
		return vc_fail(EINVAL, "virtio-blk: queue_size=%llu, block_size=%llu: expected powers of 2",
		               (unsigned long long)queue_size, (unsigned long long)block_size);
	if (strlen(serial) > BLK_SERIAL)
		return vc_fail(EINVAL, "virtio-blk: serial=%s: expected at most %d characters", serial, BLK_SERIAL);
	memcpy(blk->serial, serial, strlen(serial));
	blk->queue_count = (uint32_t)queues;
	blk->queue_size = (uint32_t)queue_size;
	blk->block_size = (uint32_t)block_size;
	blk->size_max = (uint32_t)size_max;
	return 0;
}

static int make_queues(struct blk *blk)
{
	uint32_t wanted = blk->queue_count;

	blk->queue_count = 0;
	blk->queues = calloc(wanted, sizeof blk->queues[0]);
	if (!blk->queues)
		return vc_fail(ENOMEM, "no memory for a virtio-blk");
	for (; blk->queue_count < wanted; blk->queue_count++) {
		int r = blk_queue_init(&blk->queues[blk->queue_count], blk);

		if (r < 0)
			return r;
	}
	return 0;
}

static int make(struct blk *blk, struct vc_props *props)
{
	struct vc_block_options image = {0};
	int r = read_image(props, &image);

	if (r >= 0)
		r = read_device(props, blk);
	if (r < 0) {
		blk->queue_count = 0;
		return r;
	}
	image.ignore_discard = !blk->discard;
	blk->write_through = image.cache == VC_BLOCK_WRITETHROUGH;
	r = make_queues(blk);
	if (r >= 0)
		r = vc_block_open(&image, &blk->block);
	if (r >= 0)
		vc_block_on_error(blk->block, on_error, blk);
	return r;
}

static int blk_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	struct blk *blk = calloc(1, sizeof *blk);
	uint16_t sizes[MAX_QUEUES];
	int r;

	if (!blk)
		return vc_fail(ENOMEM, "no memory for a virtio-blk");
	blk->env = env;
	r = make(blk, props);
	if (r < 0) {
		blk_destroy(blk);
		return r;
	}
	for (uint32_t i = 0; i < blk->queue_count; i++)
		sizes[i] = (uint16_t)blk->queue_size;
	r = vc_virtio_add(
	    env, props, &(struct vc_virtio_config){.ops = &blk_ops, .ctx = blk, .queues = blk->queue_count, .sizes = sizes},
	    &blk->v, dev);
	return r; /* on failure blk has been destroyed */
}

const struct vc_device_type vc_virtio_blk_type = {
    .name = "virtio-blk",
    .summary = "disk",
    .properties = "image      path of a file or block device; null:SIZE for none\n"
                  "format     raw or qcow2 (what the file looks like)\n"
                  "readonly   on: nothing is written (off)\n"
                  "overlay    on: what is written is kept until the vm ends, elsewhere (off)\n"
                  "snapshot   ID or name of an internal snapshot to read\n"
                  "cache      writeback, writethrough, direct or unsafe (writeback)\n"
                  "aio        io_uring or threads (what the host has)\n"
                  "threads    of disk I/O, 1 to 64 (4)\n"
                  "lock       off: the file is not locked against other writers (on)\n"
                  "discard    off: space is never given back to the host (on)\n"
                  "serial     up to 20 characters (none)\n"
                  "queues     1 to 64 (1)\n"
                  "queue_size entries of each, a power of 2 from 4 to 1024 (256)\n"
                  "block_size logical block size, 512 to 4096 (512)\n"
                  "size_max   largest segment of a request (no limit)\n" VC_VIRTIO_PROPERTIES,
    .create = blk_create,
};
