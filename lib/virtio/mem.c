/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory device (5.15): a region of which the driver plugs blocks in and out.
 *
 * Blocks are counted in the device; what backs them are slots of a coarser grain, one a chunk of the region, that are
 * there while any of their blocks is plugged. So pages of a chunk that is not in use are nowhere: neither a guest that
 * touches them nor one that names them to another device makes the host allocate memory. A block that leaves a chunk
 * that stays is discarded: that needs no change of the memory map, which would cost every vcpu its translations. The
 * last one's slot goes, but after it has been discarded too, for requests in flight and address spaces in other
 * processes may hold the slot a while.
 */
#include "virtio/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <virtcore/error.h>

#include "chipset/dev_state.h"
#include "virtio/types.h"
#include "virtio/virtio.h"

#define F_UNPLUGGED_INACCESSIBLE (1ull << 1)

enum { PLUG = 0, UNPLUG = 1, UNPLUG_ALL = 2, STATE = 3, REQUESTS = 4 };
enum { ACK = 0, NACK = 1, BUSY = 2, REFUSED = 3 };
enum { PLUGGED = 0, UNPLUGGED = 1, MIXED = 2 };

enum { STATE_VERSION = 1, CHUNKS_MAX = 64 };
#define CHUNK_MIN  VC_MIB(128) /* what Linux adds at a time */
#define ALIGN      VC_GIB(1)
#define BLOCK_MIN  VC_MIB(2)
#define REGION_MAX (1ull << 44)

/* 5.15.4 */
struct mem_config {
	uint64_t block_size;
	uint16_t node_id;
	uint8_t pad[6];
	uint64_t addr, region_size, usable_region_size, plugged_size, requested_size;
};

/* 5.15.6 */
struct request {
	uint16_t type, pad[3];
	uint64_t addr;
	uint16_t blocks, pad2[3];
};
struct answer {
	uint16_t type, pad[3], state;
};

/* Of saved state; the bitmap of plugged blocks follows. */
struct mem_state {
	uint32_t version, pad;
	uint64_t addr, region_size, block_size, requested_size;
};

struct vc_vmem {
	struct vc_env *env;
	struct vc_virtio *v;
	struct vc_dev *dev;
	pthread_mutex_t lock; /* protects config */
	struct mem_config config;
	/* belong to the queue's worker, and while it stands to who stopped it */
	uint64_t chunk;
	uint64_t *plugged; /* a bit a block */
};

/* ---- blocks ---- */

/* Constant, unlike the rest of config. */
static uint64_t blocks_of(const struct vc_vmem *m)
{
	return m->config.region_size / m->config.block_size;
}

static size_t bitmap_bytes(const struct vc_vmem *m)
{
	return (size_t)((blocks_of(m) + 63) / 64 * 8);
}

static uint64_t count_plugged(const struct vc_vmem *m, uint64_t first, uint64_t count)
{
	uint64_t plugged = 0, end = first + count, next;

	for (uint64_t i = first; i < end; i = next) {
		uint64_t word = m->plugged[i / 64] >> i % 64;

		next = VC_ALIGN_DOWN(i, 64) + 64;
		if (next > end)
			word &= (1ull << (end - i)) - 1;
		plugged += (uint64_t)__builtin_popcountll(word);
	}
	return plugged;
}

static void mark(struct vc_vmem *m, uint64_t first, uint64_t count, bool plugged)
{
	for (uint64_t i = first; i < first + count; i++) {
		if (plugged)
			m->plugged[i / 64] |= 1ull << i % 64;
		else
			m->plugged[i / 64] &= ~(1ull << i % 64);
	}
}

/* ---- chunks ---- */

static uint64_t chunk_length(const struct vc_vmem *m, uint64_t n)
{
	uint64_t left = m->config.region_size - n * m->chunk;

	return left < m->chunk ? left : m->chunk;
}

static bool chunk_in_use(const struct vc_vmem *m, uint64_t n)
{
	return count_plugged(m, n * m->chunk / m->config.block_size, chunk_length(m, n) / m->config.block_size) > 0;
}

/* Looked up each time, for whoever restores the vm's memory puts slots there, or takes them away. */
static struct vc_slot *slot_of(const struct vc_vmem *m, uint64_t n)
{
	uint64_t gpa = m->config.addr + n * m->chunk;
	struct vc_slot *slot;

	vc_mem_rdlock(m->env->mem);
	slot = vc_mem_find(m->env->mem, gpa);
	if (slot && (slot->gpa != gpa || slot->length != chunk_length(m, n)))
		slot = NULL;
	vc_mem_unlock(m->env->mem);
	return slot;
}

static int add_slot(struct vc_vmem *m, uint64_t n)
{
	const struct vcore_memory_options o = {.size = sizeof o, .kind = m->env->ram.kind, .fd = -1};
	/* blocks get their pages as the guest uses them */
	uint32_t flags = VCORE_MEM_RWX | (m->env->ram.flags & ~(uint32_t)VCORE_MEM_PREALLOC);

	return vc_mem_add(m->env->mem, NULL, m->config.addr + n * m->chunk, chunk_length(m, n), flags, &o, NULL);
}

/* Slots as the bitmap wants them. Those that cannot be had make it fail; none is removed too many. */
static int match_slots(struct vc_vmem *m)
{
	int r = 0;

	for (uint64_t n = 0; n * m->chunk < m->config.region_size; n++) {
		struct vc_slot *slot = slot_of(m, n);
		bool used = chunk_in_use(m, n);

		if (used && !slot && r >= 0)
			r = add_slot(m, n);
		else if (!used && slot)
			vc_mem_remove(m->env->mem, NULL, slot);
	}
	return r;
}

/* ---- plugging ---- */

static void set_plugged_size(struct vc_vmem *m, uint64_t size)
{
	const struct vc_machine_ops *machine = m->env->machine;
	const struct vc_machine_event event = {
	    .kind = VC_MACHINE_MEMORY_SIZE, .device = m->dev ? m->dev->id : 0, .size = size};
	bool changed;

	pthread_mutex_lock(&m->lock);
	changed = m->config.plugged_size != size;
	m->config.plugged_size = size;
	pthread_mutex_unlock(&m->lock);
	if (changed && machine && machine->tell)
		machine->tell(m->env->machine_ctx, &event);
}

static struct mem_config get_config(struct vc_vmem *m)
{
	struct mem_config config;

	pthread_mutex_lock(&m->lock);
	config = m->config;
	pthread_mutex_unlock(&m->lock);
	return config;
}

/* The slots have been discarded or are new. */
static void unplug_blocks(struct vc_vmem *m, uint64_t first, uint64_t count)
{
	uint64_t size = m->config.block_size;

	vc_mem_discard(m->env->mem, m->config.addr + first * size, count * size);
	mark(m, first, count, false);
	match_slots(m);
}

static uint16_t plug(struct vc_vmem *m, uint64_t first, uint64_t count)
{
	struct mem_config config = get_config(m);
	uint64_t size = count * config.block_size;

	if (count_plugged(m, first, count))
		return REFUSED;
	if (size > config.requested_size || config.plugged_size > config.requested_size - size)
		return NACK;
	mark(m, first, count, true);
	if (match_slots(m) < 0) {
		vc_log(m->env->log, VCORE_LOG_WARN, "virtio-mem: %s", vcore_error_message());
		mark(m, first, count, false);
		match_slots(m);
		return BUSY;
	}
	set_plugged_size(m, config.plugged_size + size);
	return ACK;
}

static uint16_t unplug(struct vc_vmem *m, uint64_t first, uint64_t count)
{
	struct mem_config config = get_config(m);

	if (count_plugged(m, first, count) != count)
		return REFUSED;
	unplug_blocks(m, first, count);
	set_plugged_size(m, config.plugged_size - count * config.block_size);
	return ACK;
}

static void unplug_all(struct vc_vmem *m)
{
	uint64_t blocks = blocks_of(m), count;

	for (uint64_t first = 0; first < blocks; first += count) {
		uint64_t plugged = count_plugged(m, first, 1);

		for (count = 1; first + count < blocks && count_plugged(m, first + count, 1) == plugged;)
			count++;
		if (plugged)
			vc_mem_discard(m->env->mem, m->config.addr + first * m->config.block_size, count * m->config.block_size);
	}
	memset(m->plugged, 0, bitmap_bytes(m));
	match_slots(m);
	set_plugged_size(m, 0);
}

static uint16_t ask_state(const struct vc_vmem *m, uint64_t first, uint64_t count)
{
	uint64_t plugged = count_plugged(m, first, count);

	return plugged == count ? PLUGGED : plugged ? MIXED : UNPLUGGED;
}

/* ---- requests ---- */

/* The blocks that a request names. */
static bool find_blocks(const struct vc_vmem *m, const struct request *request, uint64_t *first)
{
	uint64_t at = request->addr - m->config.addr;

	if (request->addr < m->config.addr || !VC_IS_ALIGNED(at, m->config.block_size) || !request->blocks)
		return false;
	*first = at / m->config.block_size;
	return *first < blocks_of(m) && request->blocks <= blocks_of(m) - *first;
}

static void obey(struct vc_vmem *m, const struct request *request, struct answer *answer)
{
	uint64_t first;

	if (request->type == UNPLUG_ALL) {
		unplug_all(m);
		return;
	}
	if (request->type >= REQUESTS || !find_blocks(m, request, &first))
		answer->type = REFUSED;
	else if (request->type == PLUG)
		answer->type = plug(m, first, request->blocks);
	else if (request->type == UNPLUG)
		answer->type = unplug(m, first, request->blocks);
	else
		answer->state = ask_state(m, first, request->blocks);
}

static void mem_notify(void *ctx, struct vc_virtq *q)
{
	struct vc_vmem *m = ctx;
	struct vc_virtq_chain *chain;

	do {
		vc_virtq_notify_off(q);
		while (vc_virtq_pop(q, &chain) > 0) {
			struct answer answer = {.type = ACK};
			struct request request;

			if (chain->in_bytes < sizeof answer ||
			    vc_iov_to_buffer(chain->out, chain->out_count, 0, &request, sizeof request) < sizeof request) {
				vc_virtio_broken(m->v, "a request of %u bytes with room for %u", chain->out_bytes, chain->in_bytes);
				vc_virtq_drop(chain);
				return;
			}
			obey(m, &request, &answer);
			vc_iov_from_buffer(chain->in, chain->in_count, 0, &answer, sizeof answer);
			vc_virtq_push(chain, sizeof answer);
			vc_virtq_flush(q);
		}
	} while (vc_virtq_notify_on(q));
}

/* ---- at run time ---- */

int vc_vmem_resize(struct vc_vmem *m, uint64_t bytes)
{
	if (!VC_IS_ALIGNED(bytes, m->config.block_size) || bytes > m->config.region_size)
		return vc_fail(EINVAL, "virtio-mem: a size of %#llx: expected a multiple of %#llx, at most %#llx",
		               (unsigned long long)bytes, (unsigned long long)m->config.block_size,
		               (unsigned long long)m->config.region_size);
	pthread_mutex_lock(&m->lock);
	m->config.requested_size = bytes;
	pthread_mutex_unlock(&m->lock);
	vc_virtio_config_changed(m->v);
	return 0;
}

void vc_vmem_get_info(struct vc_vmem *m, struct vcore_virtio_mem_info *info)
{
	struct mem_config config = get_config(m);

	*info = (struct vcore_virtio_mem_info){
	    .address = config.addr,
	    .region_size = config.region_size,
	    .block_size = config.block_size,
	    .requested_size = config.requested_size,
	    .plugged_size = config.plugged_size,
	};
}

/* ---- the device ---- */

static uint64_t mem_features(void *ctx)
{
	return F_UNPLUGGED_INACCESSIBLE;
}

/* A driver that reads what is not plugged would find all ones there. */
static int mem_negotiated(void *ctx, uint64_t features)
{
	return features & F_UNPLUGGED_INACCESSIBLE ? 0 : -ENOTSUP;
}

static void mem_config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
	struct mem_config config = get_config(ctx);

	memcpy(data, (const uint8_t *)&config + offset, length);
}

static int64_t mem_save(void *ctx, void *buffer, size_t length)
{
	struct vc_vmem *m = ctx;
	struct mem_config config = get_config(m);
	const struct mem_state state = {
	    .version = STATE_VERSION,
	    .addr = config.addr,
	    .region_size = config.region_size,
	    .block_size = config.block_size,
	    .requested_size = config.requested_size,
	};
	int64_t r = buffer ? vc_dev_state_out(buffer, length, &state, sizeof state) : (int64_t)sizeof state;

	if (r >= 0 && buffer && length < sizeof state + bitmap_bytes(m))
		return vc_fail(ENOSPC, "virtio-mem: a buffer of %zu bytes is too small", length);
	if (r >= 0 && buffer)
		memcpy((uint8_t *)buffer + sizeof state, m->plugged, bitmap_bytes(m));
	return r < 0 ? r : r + (int64_t)bitmap_bytes(m);
}

static int check_state(const struct vc_vmem *m, const struct mem_state *s, const uint8_t *bits, size_t length)
{
	uint64_t blocks = blocks_of(m);

	if (s->addr != m->config.addr || s->region_size != m->config.region_size || s->block_size != m->config.block_size ||
	    s->requested_size > s->region_size || !VC_IS_ALIGNED(s->requested_size, s->block_size) ||
	    length != bitmap_bytes(m))
		return -EINVAL;
	return blocks % 64 && vc_ld64(bits + length - 8) >> blocks % 64 ? -EINVAL : 0;
}

static int mem_load(void *ctx, const void *buffer, size_t length)
{
	struct vc_vmem *m = ctx;
	const uint8_t *bits = (const uint8_t *)buffer + sizeof(struct mem_state);
	struct mem_state state;
	int r;

	if (length < sizeof state)
		return -EINVAL;
	r = vc_dev_state_in("virtio-mem", STATE_VERSION, &state, sizeof state, buffer, sizeof state);
	if (r >= 0)
		r = check_state(m, &state, bits, length - sizeof state);
	if (r < 0)
		return r;
	memcpy(m->plugged, bits, bitmap_bytes(m));
	r = match_slots(m);
	if (r < 0)
		unplug_all(m);
	pthread_mutex_lock(&m->lock);
	m->config.requested_size = state.requested_size;
	pthread_mutex_unlock(&m->lock);
	set_plugged_size(m, count_plugged(m, 0, blocks_of(m)) * state.block_size);
	return r;
}

static void mem_reset(void *ctx)
{
	unplug_all(ctx);
}

static unsigned mem_statistics(void *ctx, struct vc_stat stats[VC_STATS_MAX])
{
	struct mem_config config = get_config(ctx);

	stats[0] = (struct vc_stat){"requested", config.requested_size};
	stats[1] = (struct vc_stat){"plugged", config.plugged_size};
	return 2;
}

static void mem_destroy(void *ctx)
{
	struct vc_vmem *m = ctx;

	if (m->config.addr) {
		memset(m->plugged, 0, bitmap_bytes(m));
		match_slots(m);
		vc_mem_unreserve(m->env->mem, m->config.addr);
	}
	pthread_mutex_destroy(&m->lock);
	free(m->plugged);
	free(m);
}

static const struct vc_virtio_ops mem_ops = {
    .type = "virtio-mem",
    .id = VC_VIRTIO_MEM,
    .pci_class = 0x058000,
    .config_size = sizeof(struct mem_config),
    .in_order = true,
    .features = mem_features,
    .negotiated = mem_negotiated,
    .config_read = mem_config_read,
    .notify = mem_notify,
    .save = mem_save,
    .load = mem_load,
    .vm_reset = mem_reset,
    .statistics = mem_statistics,
    .destroy = mem_destroy,
};

/* ---- making ---- */

static int read_sizes(struct vc_vmem *m, struct vc_props *props, uint64_t *gpa)
{
	const uint32_t flags = m->env->ram.flags;
	uint64_t least = flags & VCORE_MEM_HUGE_1G ? VC_GIB(1) : BLOCK_MIN, block, size, requested;
	int r = vc_props_u64(props, "block_size", least, least, VC_GIB(64), &block);

	if (r >= 0)
		r = vc_props_u64(props, "size", 0, 0, REGION_MAX, &size);
	if (r >= 0)
		r = vc_props_u64(props, "requested", 0, 0, REGION_MAX, &requested);
	if (r >= 0)
		r = vc_props_u64(props, "memory_addr", 0, 0, 1ull << 52, gpa);
	if (r < 0)
		return r;
	if (block & (block - 1))
		return vc_fail(EINVAL, "property block_size=%#llx: expected a power of 2", (unsigned long long)block);
	if (!size || !VC_IS_ALIGNED(size, block))
		return vc_fail(EINVAL, "property size=%#llx: expected a multiple of %#llx, and not 0", (unsigned long long)size,
		               (unsigned long long)block);
	if (requested > size || !VC_IS_ALIGNED(requested, block))
		return vc_fail(EINVAL, "property requested=%#llx: expected a multiple of %#llx, at most %#llx",
		               (unsigned long long)requested, (unsigned long long)block, (unsigned long long)size);
	m->config.block_size = block;
	m->config.region_size = m->config.usable_region_size = size;
	m->config.requested_size = requested;
	return 0;
}

static int set_up(struct vc_vmem *m, struct vc_props *props)
{
	uint64_t gpa = 0;
	int r = read_sizes(m, props, &gpa);

	if (r < 0)
		return r;
	m->chunk = m->config.block_size > CHUNK_MIN ? m->config.block_size : CHUNK_MIN;
	while (m->chunk * CHUNKS_MAX < m->config.region_size)
		m->chunk *= 2;
	m->plugged = calloc(1, bitmap_bytes(m));
	if (!m->plugged)
		return vc_fail(ENOMEM, "no memory for a virtio-mem");
	r = vc_mem_reserve(m->env->mem, m->config.region_size, gpa ? m->config.block_size : ALIGN, true, &gpa);
	if (r >= 0)
		m->config.addr = gpa;
	return r;
}

static int mem_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	struct vc_vmem *m = calloc(1, sizeof *m);
	struct vc_virtio_config config = {.ops = &mem_ops, .ctx = m, .queues = 1, .worker_threads = true};
	int r;

	if (!m)
		return vc_fail(ENOMEM, "no memory for a virtio-mem");
	m->env = env;
	pthread_mutex_init(&m->lock, NULL);
	r = set_up(m, props);
	if (r < 0) {
		mem_destroy(m);
		return r;
	}
	r = vc_virtio_add(env, props, &config, &m->v, dev);
	if (r >= 0)
		m->dev = *dev;
	return r;
}

const struct vc_device_type vc_virtio_mem_type = {
    .name = "virtio-mem",
    .summary = "memory that the guest gets and gives back as it runs, served by a thread unless worker=loop",
    .properties =
        "size       bytes of the region: the most there can be\n"
        "requested  bytes that there should be now (0)\n"
        "block_size the unit (2M, or the host's huge pages); from 128M on a guest cannot touch what is not plugged\n"
        "memory_addr  guest-physical address of the region (the first free one above RAM)\n" VC_VIRTIO_PROPERTIES,
    .create = mem_create,
};
