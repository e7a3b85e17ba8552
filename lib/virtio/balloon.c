/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory balloon device (5.5): inflating, deflating, statistics, free page hinting and reporting. Pages go back to the
 * host as soon as the driver names them; deflating needs nothing, for memory comes back when it is touched.
 */
#include "virtio/balloon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "chipset/dev_state.h"
#include "virtio/types.h"
#include "virtio/virtio.h"

#define F_STATS_VQ       (1ull << 1)
#define F_DEFLATE_ON_OOM (1ull << 2)
#define F_FREE_PAGE_HINT (1ull << 3)
#define F_PAGE_REPORTING (1ull << 5)

enum { PAGE_SHIFT = 12, PFNS = 256, STATE_VERSION = 1 };
/* Values of free_page_hint_cmd_id (5.5.6.5) */
enum { HINT_STOP = 0, HINT_DONE = 1, HINT_FIRST = 2 };

struct balloon_config {
	uint32_t num_pages, actual, hint_cmd, poison_val;
};

/* Statistics as the driver sends them: tags from 0 on, in the order of the public struct. */
enum { STATS = 10, STAT_BYTES = 10 };

struct balloon_state {
	uint32_t version;
	struct balloon_config config;
	uint32_t next_hint;
	uint8_t hinting, pad[3];
	uint64_t updates;
	uint64_t stats[STATS];
};

struct vc_balloon {
	struct vc_env *env;
	struct vc_virtio *v;
	uint64_t offered;
	_Atomic uint64_t discarded;
	_Atomic bool refresh; /* new statistics are wanted */
	pthread_mutex_t lock; /* protects state */
	struct balloon_state state;
};

/* ---- giving memory back ---- */

/* The driver names memory; a broken one names what it has not. */
static void discard(struct vc_balloon *balloon, uint64_t gpa, uint64_t length)
{
	if (vc_mem_discard(balloon->env->mem, gpa, length) < 0)
		vc_virtio_broken(balloon->v, "pages [%#llx, +%#llx) are not memory", (unsigned long long)gpa,
		                 (unsigned long long)length);
	else
		atomic_fetch_add_explicit(&balloon->discarded, length, memory_order_relaxed);
}

/* Neighbours, in either direction, go together. */
static void discard_pages(struct vc_balloon *balloon, const uint32_t *pfns, size_t count)
{
	uint64_t start = 0, end = 0;

	for (size_t i = 0; i < count; i++) {
		uint64_t gpa = (uint64_t)pfns[i] << PAGE_SHIFT;

		if (gpa == end) {
			end += VC_PAGE_SIZE;
		} else if (gpa + VC_PAGE_SIZE == start) {
			start = gpa;
		} else {
			discard(balloon, start, end - start);
			start = gpa;
			end = gpa + VC_PAGE_SIZE;
		}
	}
	discard(balloon, start, end - start);
}

static void inflate(struct vc_balloon *balloon, const struct vc_virtq_chain *chain)
{
	uint32_t pfns[PFNS];
	size_t at = 0, n;

	while ((n = vc_iov_to_buffer(chain->out, chain->out_count, at, pfns, sizeof pfns)) >= sizeof pfns[0]) {
		discard_pages(balloon, pfns, n / sizeof pfns[0]);
		at += n;
	}
}

/* Memory that is free lies in the chain's own buffers. */
static void discard_chain(struct vc_balloon *balloon, const struct vc_virtq_chain *chain)
{
	for (uint32_t i = 0; i < chain->in_count; i++)
		discard(balloon, vc_virtq_in_gpa(chain, i), chain->in[i].iov_len);
}

/* ---- hinting ---- */

/* The driver says with which command the pages that follow have to do. */
static void hint_command(struct vc_balloon *balloon, uint32_t command)
{
	bool done;

	pthread_mutex_lock(&balloon->lock);
	balloon->state.hinting = command >= HINT_FIRST && command == balloon->state.config.hint_cmd;
	done = command == HINT_STOP && balloon->state.config.hint_cmd >= HINT_FIRST;
	if (done) /* the driver may use those pages again */
		balloon->state.config.hint_cmd = HINT_DONE;
	pthread_mutex_unlock(&balloon->lock);
	if (done)
		vc_virtio_config_changed(balloon->v);
}

static void hint(struct vc_balloon *balloon, const struct vc_virtq_chain *chain)
{
	uint32_t command;
	bool hinting;

	if (vc_iov_to_buffer(chain->out, chain->out_count, 0, &command, sizeof command) == sizeof command)
		hint_command(balloon, command);
	pthread_mutex_lock(&balloon->lock);
	hinting = balloon->state.hinting;
	pthread_mutex_unlock(&balloon->lock);
	if (hinting)
		discard_chain(balloon, chain);
}

int vc_balloon_reclaim(struct vc_balloon *balloon)
{
	if (!vc_virtio_has(balloon->v, F_FREE_PAGE_HINT))
		return vc_fail(ENOTSUP, "virtio-balloon: no driver that hints at free pages has started");
	pthread_mutex_lock(&balloon->lock);
	balloon->state.config.hint_cmd = balloon->state.next_hint++;
	if (balloon->state.next_hint < HINT_FIRST)
		balloon->state.next_hint = HINT_FIRST;
	pthread_mutex_unlock(&balloon->lock);
	vc_virtio_config_changed(balloon->v);
	return 0;
}

/* ---- statistics ---- */

static void read_stats(struct vc_balloon *balloon, const struct vc_virtq_chain *chain)
{
	uint8_t entry[STAT_BYTES];

	pthread_mutex_lock(&balloon->lock);
	balloon->state.updates++;
	for (size_t at = 0;
	     vc_iov_to_buffer(chain->out, chain->out_count, at, entry, sizeof entry) == sizeof entry && at < STATS * 4096;
	     at += sizeof entry)
		if (vc_ld16(entry) < STATS)
			balloon->state.stats[vc_ld16(entry)] = vc_ld64(entry + 2);
	pthread_mutex_unlock(&balloon->lock);
}

/*
 * The driver sends statistics when its last buffer comes back, so one always lies in the queue: it is popped again when
 * new ones are wanted. Seen once, it is read once, but for a device that was saved meanwhile.
 */
static void serve_stats(struct vc_balloon *balloon, struct vc_virtq *q)
{
	struct vc_virtq_chain *chain;

	while (vc_virtq_pop(q, &chain) > 0) {
		if (!atomic_exchange(&balloon->refresh, false)) {
			read_stats(balloon, chain);
			vc_virtq_unpop(chain);
			break;
		}
		vc_virtq_push(chain, 0);
	}
	vc_virtq_flush(q);
}

/* ---- queues ---- */

enum role { INFLATE, DEFLATE, STATISTICS, HINT, REPORT, ROLES };

/*
 * Queues of features that were not negotiated are left out, and the others move up: so do Linux on MMIO and QEMU, other
 * than 5.5.2 has it.
 */
static enum role role_of(const struct vc_balloon *balloon, uint32_t n)
{
	static const uint64_t needs[ROLES] = {0, 0, F_STATS_VQ, F_FREE_PAGE_HINT, F_PAGE_REPORTING};
	uint64_t features = vc_virtio_features(balloon->v);

	for (enum role role = INFLATE; role < ROLES; role++)
		if (!(needs[role] & ~features) && n-- == 0)
			return role;
	return ROLES;
}

/* By index, for wake; the number of queues when there is none. */
static uint32_t queue_of(const struct vc_balloon *balloon, enum role role)
{
	uint32_t n = 0;

	while (n < ROLES && role_of(balloon, n) != role)
		n++;
	return n;
}

static void serve(struct vc_balloon *balloon, enum role role, const struct vc_virtq_chain *chain)
{
	if (role == INFLATE)
		inflate(balloon, chain);
	else if (role == HINT)
		hint(balloon, chain);
	else if (role == REPORT)
		discard_chain(balloon, chain);
}

static void balloon_notify(void *ctx, struct vc_virtq *q)
{
	struct vc_balloon *balloon = ctx;
	enum role role = role_of(balloon, vc_virtq_index(q));
	struct vc_virtq_chain *chain;

	if (role == STATISTICS) {
		serve_stats(balloon, q);
		return;
	}
	do {
		vc_virtq_notify_off(q);
		while (vc_virtq_pop(q, &chain) > 0) {
			serve(balloon, role, chain);
			vc_virtq_push(chain, 0);
		}
		vc_virtq_flush(q);
	} while (vc_virtq_notify_on(q));
}

/* ---- at run time ---- */

int vc_balloon_set_target(struct vc_balloon *balloon, uint64_t bytes)
{
	if (bytes >> PAGE_SHIFT > UINT32_MAX)
		return vc_fail(EINVAL, "virtio-balloon: a target of %llu bytes: expected less than 16 TiB",
		               (unsigned long long)bytes);
	pthread_mutex_lock(&balloon->lock);
	balloon->state.config.num_pages = (uint32_t)(bytes >> PAGE_SHIFT);
	pthread_mutex_unlock(&balloon->lock);
	vc_virtio_config_changed(balloon->v);
	return 0;
}

uint64_t vc_balloon_actual(struct vc_balloon *balloon)
{
	uint64_t actual;

	pthread_mutex_lock(&balloon->lock);
	actual = (uint64_t)balloon->state.config.actual << PAGE_SHIFT;
	pthread_mutex_unlock(&balloon->lock);
	return actual;
}

void vc_balloon_get_stats(struct vc_balloon *balloon, struct vcore_balloon_stats *out)
{
	const struct balloon_state *s = &balloon->state;

	pthread_mutex_lock(&balloon->lock);
	*out = (struct vcore_balloon_stats){
	    .target = (uint64_t)s->config.num_pages << PAGE_SHIFT,
	    .actual = (uint64_t)s->config.actual << PAGE_SHIFT,
	    .discarded = atomic_load(&balloon->discarded),
	    .updates = s->updates,
	    .swap_in = s->stats[0],
	    .swap_out = s->stats[1],
	    .major_faults = s->stats[2],
	    .minor_faults = s->stats[3],
	    .free_memory = s->stats[4],
	    .total_memory = s->stats[5],
	    .available_memory = s->stats[6],
	    .disk_caches = s->stats[7],
	    .hugetlb_allocations = s->stats[8],
	    .hugetlb_failures = s->stats[9],
	};
	pthread_mutex_unlock(&balloon->lock);
	if (vc_virtio_has(balloon->v, F_STATS_VQ)) {
		atomic_store(&balloon->refresh, true);
		vc_virtio_wake(balloon->v, queue_of(balloon, STATISTICS));
	}
}

/* ---- the device ---- */

static uint64_t balloon_features(void *ctx)
{
	return ((struct vc_balloon *)ctx)->offered;
}

/* A driver begins with an empty balloon. */
static int balloon_negotiated(void *ctx, uint64_t features)
{
	struct vc_balloon *balloon = ctx;

	pthread_mutex_lock(&balloon->lock);
	balloon->state.config.actual = 0;
	balloon->state.config.hint_cmd = HINT_STOP;
	balloon->state.hinting = false;
	memset(balloon->state.stats, 0xff, sizeof balloon->state.stats);
	pthread_mutex_unlock(&balloon->lock);
	return 0;
}

static void balloon_config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
	struct vc_balloon *balloon = ctx;

	pthread_mutex_lock(&balloon->lock);
	memcpy(data, (const uint8_t *)&balloon->state.config + offset, length);
	pthread_mutex_unlock(&balloon->lock);
}

/* Only `actual` is the driver's. */
static void balloon_config_write(void *ctx, uint32_t offset, const void *data, uint32_t length)
{
	struct vc_balloon *balloon = ctx;

	if (offset != offsetof(struct balloon_config, actual) || length != sizeof balloon->state.config.actual)
		return;
	pthread_mutex_lock(&balloon->lock);
	balloon->state.config.actual = vc_ld32(data);
	pthread_mutex_unlock(&balloon->lock);
}

static unsigned balloon_statistics(void *ctx, struct vc_stat stats[VC_STATS_MAX])
{
	struct vc_balloon *balloon = ctx;

	pthread_mutex_lock(&balloon->lock);
	stats[0] = (struct vc_stat){"target", (uint64_t)balloon->state.config.num_pages << PAGE_SHIFT};
	stats[1] = (struct vc_stat){"actual", (uint64_t)balloon->state.config.actual << PAGE_SHIFT};
	pthread_mutex_unlock(&balloon->lock);
	stats[2] = (struct vc_stat){"discarded", atomic_load(&balloon->discarded)};
	return 3;
}

static int64_t balloon_save(void *ctx, void *buffer, size_t length)
{
	struct vc_balloon *balloon = ctx;
	struct balloon_state state;

	pthread_mutex_lock(&balloon->lock);
	state = balloon->state;
	pthread_mutex_unlock(&balloon->lock);
	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int balloon_load(void *ctx, const void *buffer, size_t length)
{
	struct vc_balloon *balloon = ctx;
	struct balloon_state state;
	int r = vc_dev_state_in("virtio-balloon", STATE_VERSION, &state, sizeof state, buffer, length);

	if (r >= 0 && (state.hinting > 1 || state.next_hint < HINT_FIRST))
		r = vc_fail(EINVAL, "the saved state of a virtio-balloon holds what it cannot be in");
	if (r < 0)
		return r;
	pthread_mutex_lock(&balloon->lock);
	balloon->state = state;
	pthread_mutex_unlock(&balloon->lock);
	return 0;
}

static void balloon_destroy(void *ctx)
{
	struct vc_balloon *balloon = ctx;

	pthread_mutex_destroy(&balloon->lock);
	free(balloon);
}

static const struct vc_virtio_ops balloon_ops = {
    .type = "virtio-balloon",
    .id = VC_VIRTIO_BALLOON,
    .pci_class = 0x00ff00,
    .legacy_device = 0x1002,
    .config_size = sizeof(struct balloon_config),
    .untranslated = true, /* it speaks of pages of the guest's memory; Linux's driver would refuse */
    .in_order = true,
    .features = balloon_features,
    .negotiated = balloon_negotiated,
    .config_read = balloon_config_read,
    .config_write = balloon_config_write,
    .notify = balloon_notify,
    .save = balloon_save,
    .load = balloon_load,
    .statistics = balloon_statistics,
    .destroy = balloon_destroy,
};

static int read_features(struct vc_props *props, uint64_t *features)
{
	static const struct {
		const char *key;
		uint64_t feature;
	} rows[] = {{"deflate_on_oom", F_DEFLATE_ON_OOM}, {"reporting", F_PAGE_REPORTING}};
	int r = 0;
	bool on;

	*features = F_STATS_VQ | F_FREE_PAGE_HINT;
	for (unsigned i = 0; r >= 0 && i < VC_ARRAY_SIZE(rows); i++) {
		r = vc_props_bool(props, rows[i].key, true, &on);
		*features |= on ? rows[i].feature : 0;
	}
	return r;
}

static int balloon_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	struct vc_balloon *balloon = calloc(1, sizeof *balloon);
	struct vc_virtio_config config = {.ops = &balloon_ops, .ctx = balloon, .queues = ROLES};
	uint64_t target;
	int r = balloon ? read_features(props, &balloon->offered) : vc_fail(ENOMEM, "no memory for a virtio-balloon");

	if (r >= 0)
		r = vc_props_u64(props, "target", 0, 0, (uint64_t)UINT32_MAX << PAGE_SHIFT, &target);
	if (r < 0) {
		free(balloon);
		return r;
	}
	balloon->env = env;
	balloon->state = (struct balloon_state){
	    .version = STATE_VERSION, .config.num_pages = (uint32_t)(target >> PAGE_SHIFT), .next_hint = HINT_FIRST};
	memset(balloon->state.stats, 0xff, sizeof balloon->state.stats);
	pthread_mutex_init(&balloon->lock, NULL);
	return vc_virtio_add(env, props, &config, &balloon->v, dev);
}

const struct vc_device_type vc_virtio_balloon_type = {
    .name = "virtio-balloon",
    .summary = "memory that the guest gives back to the host",
    .properties = "target     bytes to be in the balloon (0)\n"
                  "reporting  on: free pages go back to the host as the guest reports them (on)\n"
                  "deflate_on_oom  on: the guest takes memory out when it runs out of it (on)\n" VC_VIRTIO_PROPERTIES,
    .create = balloon_create,
};
