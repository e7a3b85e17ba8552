/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Persistent memory device (5.19): a file as a memory slot, and a queue on which the driver asks for what it has
 * written to be safe. A thread of the queue's own does that: it may take long.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/file.h"
#include "chipset/dev_state.h"
#include "virtio/types.h"
#include "virtio/virtio.h"

enum { REQUEST_FLUSH = 0, DONE_OK = 0, DONE_FAILED = 1, STATE_VERSION = 1 };

/* Linux takes no smaller unit into its map of memory; and a place that shares no section of that map with RAM. */
#define UNIT  VC_MIB(2)
#define ALIGN VC_GIB(1)

struct pmem_config {
	uint64_t start, size;
};

struct pmem_state {
	uint32_t version, pad;
	struct pmem_config config;
};

struct pmem {
	struct vc_env *env;
	struct vc_virtio *v;
	struct pmem_config config;
	struct vc_slot *slot; /* NULL: not yet */
	int fd;
	bool shared;
	_Atomic uint64_t flushes;
};

/* ---- requests, on the queue's worker ---- */

static bool flush(struct pmem *pmem)
{
	atomic_fetch_add_explicit(&pmem->flushes, 1, memory_order_relaxed);
	if (!pmem->shared || fdatasync(pmem->fd) == 0)
		return true;
	vc_log(pmem->env->log, VCORE_LOG_ERROR, "virtio-pmem: the file cannot be written: %s", strerror(errno));
	return false;
}

static void serve(struct pmem *pmem, struct vc_virtq_chain *chain)
{
	uint32_t request, answer = DONE_FAILED;

	if (vc_iov_to_buffer(chain->out, chain->out_count, 0, &request, sizeof request) == sizeof request &&
	    request == REQUEST_FLUSH && flush(pmem))
		answer = DONE_OK;
	vc_virtq_push(chain, (uint32_t)vc_iov_from_buffer(chain->in, chain->in_count, 0, &answer, sizeof answer));
}

static void pmem_notify(void *ctx, struct vc_virtq *q)
{
	struct vc_virtq_chain *chain;

	do {
		vc_virtq_notify_off(q);
		while (vc_virtq_pop(q, &chain) > 0) {
			serve(ctx, chain);
			vc_virtq_flush(q);
		}
	} while (vc_virtq_notify_on(q));
}

/* ---- the device ---- */

static void pmem_config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
	const struct pmem *pmem = ctx;

	memcpy(data, (const uint8_t *)&pmem->config + offset, length);
}

static int64_t pmem_save(void *ctx, void *buffer, size_t length)
{
	const struct pmem *pmem = ctx;
	const struct pmem_state state = {.version = STATE_VERSION, .config = pmem->config};

	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int pmem_load(void *ctx, const void *buffer, size_t length)
{
	const struct pmem *pmem = ctx;
	struct pmem_state state;
	int r = vc_dev_state_in("virtio-pmem", STATE_VERSION, &state, sizeof state, buffer, length);

	if (r < 0)
		return r;
	return memcmp(&state.config, &pmem->config, sizeof state.config) ? -EINVAL : 0;
}

static unsigned pmem_statistics(void *ctx, struct vc_stat stats[VC_STATS_MAX])
{
	struct pmem *pmem = ctx;

	stats[0] = (struct vc_stat){"flushes", atomic_load(&pmem->flushes)};
	return 1;
}

static void pmem_destroy(void *ctx)
{
	struct pmem *pmem = ctx;

	if (pmem->slot)
		vc_mem_remove(pmem->env->mem, NULL, pmem->slot);
	if (pmem->config.start)
		vc_mem_unreserve(pmem->env->mem, pmem->config.start);
	if (pmem->fd >= 0)
		close(pmem->fd);
	free(pmem);
}

static const struct vc_virtio_ops pmem_ops = {
    .type = "virtio-pmem",
    .id = VC_VIRTIO_PMEM,
    .pci_class = 0x058000,
    .config_size = sizeof(struct pmem_config),
    .in_order = true,
    .config_read = pmem_config_read,
    .notify = pmem_notify,
    .save = pmem_save,
    .load = pmem_load,
    .statistics = pmem_statistics,
    .destroy = pmem_destroy,
};

/* ---- making ---- */

/* A hole that cannot be filled when the guest writes there would be a SIGBUS for the program. */
static int fill_holes(const struct pmem *pmem, const char *path)
{
	if (fallocate(pmem->fd, 0, 0, (off_t)pmem->config.size) == 0)
		return 0;
	return vc_fail_errno(errno, "virtio-pmem: room on the file system for all of %s (sparse=on goes without)", path);
}

static int open_image(struct pmem *pmem, const char *path, bool sparse)
{
	struct stat st;
	int r;

	if (!path)
		return vc_fail(EINVAL, "virtio-pmem: property image is missing: expected a file");
	pmem->fd = open(path, (pmem->shared ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (pmem->fd < 0 || fstat(pmem->fd, &st) < 0)
		return vc_fail_errno(errno, "virtio-pmem: %s", path);
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 || !VC_IS_ALIGNED((uint64_t)st.st_size, UNIT))
		return vc_fail(EINVAL, "virtio-pmem: %s has %lld bytes: expected a file of a multiple of 2 MiB", path,
		               (long long)st.st_size);
	pmem->config.size = (uint64_t)st.st_size;
	r = vc_file_lock(pmem->fd, path, pmem->shared);
	return r >= 0 && pmem->shared && !sparse ? fill_holes(pmem, path) : r;
}

static int add_slot(struct pmem *pmem, uint64_t gpa)
{
	const struct vcore_memory_options o = {
	    .size = sizeof o, .kind = pmem->shared ? VCORE_MEMORY_FILE : VCORE_MEMORY_PRIVATE_FILE, .fd = pmem->fd};
	int r = vc_mem_reserve(pmem->env->mem, pmem->config.size, gpa ? UNIT : ALIGN, false, &gpa);

	if (r < 0)
		return r;
	pmem->config.start = gpa;
	r = vc_mem_add(pmem->env->mem, NULL, gpa, pmem->config.size, VCORE_MEM_RWX, &o, &pmem->slot);
	if (r >= 0)
		atomic_store(&pmem->slot->keep, true);
	return r;
}

static int set_up(struct pmem *pmem, struct vc_props *props)
{
	uint64_t gpa = 0;
	bool sparse = false;
	int r = vc_props_bool(props, "share", true, &pmem->shared);

	if (r >= 0)
		r = vc_props_bool(props, "sparse", false, &sparse);
	if (r >= 0)
		r = vc_props_u64(props, "memory_addr", 0, 0, 1ull << 52, &gpa);
	if (r >= 0)
		r = open_image(pmem, vc_props_string(props, "image", NULL), sparse);
	return r < 0 ? r : add_slot(pmem, gpa);
}

static int pmem_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	struct pmem *pmem = calloc(1, sizeof *pmem);
	struct vc_virtio_config config = {.ops = &pmem_ops, .ctx = pmem, .queues = 1, .worker_threads = true};
	int r;

	if (!pmem)
		return vc_fail(ENOMEM, "no memory for a virtio-pmem");
	pmem->env = env;
	pmem->fd = -1;
	r = set_up(pmem, props);
	if (r < 0) {
		pmem_destroy(pmem);
		return r;
	}
	return vc_virtio_add(env, props, &config, &pmem->v, dev);
}

const struct vc_device_type vc_virtio_pmem_type = {
    .name = "virtio-pmem",
    .summary = "a file as persistent memory, served by a thread unless worker=loop",
    .properties =
        "image      the file, raw, a multiple of 2 MiB; nobody may shorten it meanwhile\n"
        "share      on: writes go to the file; off: they are lost when the vm ends (on)\n"
        "sparse     on: holes of the file are filled when they are written: the program gets a SIGBUS if the "
        "file system is full then (off)\n"
        "memory_addr  guest-physical address of the memory (the first free one above RAM)\n" VC_VIRTIO_PROPERTIES,
    .create = pmem_create,
};
