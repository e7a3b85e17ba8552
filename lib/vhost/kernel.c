/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The life of queues that vhost in the host's kernel serves. */
#include "vhost/kernel.h"

#include <linux/vhost.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <virtcore/error.h>

#include "core/error.h"
#include "core/util.h"
#include "virtio/queue.h"

enum { USED_HEAD = 4, USED_ENTRY = 8, USED_TAIL = 2, AVAIL_ENTRY = 2, PACKET_MAX = 128 << 10 };

struct vc_kernel {
	struct vc_env *env;
	const char *type; /* for messages */
	uint64_t features;
	uint64_t own_features; /* that the driver does not see */
	bool blind;            /* of what it writes into buffers it logs nothing: vhost-vsock */
	struct vc_mem_watcher watcher;
	uint32_t count;

	/* Protects all below. Its holder may take mem's lock, but never enters the gate; after the watchers' lock. */
	pthread_mutex_t lock;
	struct vc_virtio *v; /* while the driver is there; else NULL */
	bool link_down;
	bool running; /* the kernel serves */
	struct vc_kernel_table table;
	struct {
		struct vc_kernel_device device;
		struct vc_kernel_ring rings[VC_KERNEL_RINGS];
		bool set_up[VC_KERNEL_RINGS];
	} devices[];
};

/* ---- with the lock ---- */

/* Emulated vcpus must not go on with code that they have translated from there. */
static bool is_logged(const struct vc_kernel *k)
{
	return k->env->mem->want_pages || vc_kernel_table_is_logged(&k->table);
}

static int set_features(struct vc_kernel *k, bool logged)
{
	uint64_t features = (vc_virtio_features(k->v) & k->features) | VC_VIRTIO_F_VERSION_1 | k->own_features |
	                    (logged ? 1ull << VHOST_F_LOG_ALL : 0);
	int r = 0;

	for (uint32_t i = 0; r >= 0 && i < k->count; i++)
		r = vc_kernel_set_features(&k->devices[i].device, features);
	return r;
}

static int set_memory(struct vc_kernel *k)
{
	int r = is_logged(k) ? vc_kernel_table_make_log(&k->table) : 0;

	for (uint32_t i = 0; r >= 0 && i < k->count; i++)
		r = vc_kernel_set_memory(&k->devices[i].device, &k->table);
	return r;
}

static uint64_t used_bytes(const struct vc_kernel_ring *ring)
{
	return USED_HEAD + (uint64_t)ring->queue.size * USED_ENTRY + USED_TAIL;
}

static int find_ring(struct vc_kernel *k, struct vc_kernel_ring *ring, uint32_t index)
{
	const struct vc_served_queue *q = &ring->queue;

	ring->descriptors = vc_kernel_table_find(&k->table, q->descriptors, (uint64_t)q->size * VC_DESC_BYTES);
	ring->driver = vc_kernel_table_find(&k->table, q->driver, USED_HEAD + (uint64_t)q->size * AVAIL_ENTRY + USED_TAIL);
	ring->device = vc_kernel_table_find(&k->table, q->device, used_bytes(ring));
	return ring->descriptors && ring->driver && ring->device
	           ? 0
	           : vc_fail(EFAULT, "queue %u: the rings at %#llx, %#llx, %#llx do not each lie in one slot of memory",
	                     index, (unsigned long long)q->descriptors, (unsigned long long)q->driver,
	                     (unsigned long long)q->device);
}

/* A socket device works with both or none. */
static bool is_complete(const struct vc_kernel *k, uint32_t i)
{
	return k->devices[i].device.tap >= 0 || (k->devices[i].set_up[0] && k->devices[i].set_up[1]);
}

static int set_rings(struct vc_kernel *k)
{
	int r = 0;

	for (uint32_t i = 0; r >= 0 && i < k->count; i++) {
		for (unsigned n = 0; r >= 0 && n < VC_KERNEL_RINGS; n++) {
			struct vc_kernel_ring *ring = &k->devices[i].rings[n];

			if (!k->devices[i].set_up[n])
				continue;
			r = find_ring(k, ring, k->devices[i].device.first + n);
			if (r >= 0)
				r = vc_kernel_set_ring(&k->devices[i].device, n, ring);
		}
	}
	return r;
}

static int run_all(struct vc_kernel *k, bool on)
{
	int r = 0;

	for (uint32_t i = 0; i < k->count; i++) {
		for (unsigned n = 0; n < VC_KERNEL_RINGS; n++) {
			int one = k->devices[i].set_up[n] && is_complete(k, i) ? vc_kernel_run(&k->devices[i].device, n, on) : 0;

			r = r < 0 ? r : one;
		}
	}
	return r;
}

/* Every buffer that the driver has on the ring: which of them have been written only the kernel knows. */
static void wrote_buffers(struct vc_kernel *k, const struct vc_kernel_ring *ring, const struct vc_slot *slot,
                          void (*wrote)(struct vc_slot *slot, uint64_t gpa, uint64_t length))
{
	for (uint32_t i = 0; i < ring->queue.size; i++) {
		const uint8_t *at = (const uint8_t *)ring->descriptors + i * VC_DESC_BYTES;
		uint64_t gpa = vc_guest_ld64(at), rest = vc_guest_ld64(at + 8);
		uint32_t length = (uint32_t)rest < PACKET_MAX ? (uint32_t)rest : PACKET_MAX;

		if ((rest >> 32 & VC_DESC_WRITE) && length)
			vc_kernel_table_tell(&k->table, slot, gpa, length, wrote);
	}
}

/* What the kernel has written into rings it does not log: they are few pages. */
static void wrote_rings(struct vc_kernel *k, const struct vc_slot *slot,
                        void (*wrote)(struct vc_slot *slot, uint64_t gpa, uint64_t length))
{
	for (uint32_t i = 0; i < k->count; i++) {
		for (unsigned n = 0; n < VC_KERNEL_RINGS; n++) {
			const struct vc_kernel_ring *ring = &k->devices[i].rings[n];

			if (!k->devices[i].set_up[n])
				continue;
			vc_kernel_table_tell(&k->table, slot, ring->queue.device, used_bytes(ring), wrote);
			if (k->blind)
				wrote_buffers(k, ring, slot, wrote);
		}
	}
}

/* How far it has come is known then: of a queue that fails to say so, that it has come nowhere. */
static void halt(struct vc_kernel *k)
{
	if (!k->running)
		return;
	if (run_all(k, false) < 0)
		vc_log(k->env->log, VCORE_LOG_WARN, "%s: %s", k->type, vcore_error_message());
	k->running = false;
	for (uint32_t i = 0; i < k->count; i++)
		for (unsigned n = 0; n < VC_KERNEL_RINGS; n++)
			if (k->devices[i].set_up[n] &&
			    vc_kernel_get_base(&k->devices[i].device, n, &k->devices[i].rings[n].queue.base) < 0)
				vc_log(k->env->log, VCORE_LOG_WARN, "%s: %s", k->type, vcore_error_message());
	vc_kernel_table_fetch(&k->table, NULL, vc_mem_wrote);
	wrote_rings(k, NULL, vc_mem_wrote);
}

static void ring_bells(struct vc_kernel *k)
{
	for (uint32_t i = 0; i < k->count; i++)
		for (unsigned n = 0; n < VC_KERNEL_RINGS; n++)
			if (k->devices[i].set_up[n])
				vc_virtio_kick(k->v, k->devices[i].device.first + n);
}

static int go(struct vc_kernel *k)
{
	int r = vc_kernel_table_make(&k->table, k->env->mem);

	if (r >= 0)
		r = set_memory(k);
	if (r >= 0)
		r = set_features(k, is_logged(k));
	if (r >= 0)
		r = set_rings(k);
	if (r >= 0 && !k->link_down) {
		r = run_all(k, true);
		k->running = true;
	}
	if (r < 0)
		halt(k);
	else if (k->running)
		/* what waits there already */
		ring_bells(k);
	return r;
}

/* ---- followers of the memory map ---- */

static void follow_memory(void *ctx)
{
	struct vc_kernel *k = ctx;
	struct vc_virtio *v;
	int r = 0;

	pthread_mutex_lock(&k->lock);
	v = k->v;
	if (v && k->table.version != atomic_load(&k->env->mem->version)) {
		halt(k);
		r = go(k);
	}
	if (r < 0)
		vc_virtio_broken(v, "%s", vcore_error_message());
	pthread_mutex_unlock(&k->lock);
}

static void on_memory(void *ctx)
{
	struct vc_kernel *k = ctx;

	/* without memory for the post it serves the old map until the next change */
	vc_loop_post(k->env->loop, follow_memory, k);
}

static void on_logs(void *ctx)
{
	struct vc_kernel *k = ctx;

	pthread_mutex_lock(&k->lock);
	if (k->running && (set_memory(k) < 0 || set_features(k, is_logged(k)) < 0)) {
		vc_log(k->env->log, VCORE_LOG_WARN, "%s: %s", k->type, vcore_error_message());
		halt(k);
	}
	pthread_mutex_unlock(&k->lock);
}

static void on_sync(void *ctx, struct vc_slot *slot)
{
	struct vc_kernel *k = ctx;

	pthread_mutex_lock(&k->lock);
	if (k->running) {
		/* with translated code about, the log is told where that can be looked for: when an interrupt is due */
		if (!k->env->mem->want_pages)
			vc_kernel_table_fetch(&k->table, slot, vc_mem_mark_dirty);
		wrote_rings(k, slot, vc_mem_mark_dirty);
	}
	pthread_mutex_unlock(&k->lock);
}

/* ---- for frontends ---- */

static uint64_t kernel_features(const struct vc_kernel *k)
{
	return k->features;
}

static int kernel_start(struct vc_kernel *k, struct vc_virtio *v)
{
	int r;

	pthread_mutex_lock(&k->lock);
	k->v = v;
	for (uint32_t i = 0; i < k->count; i++)
		for (unsigned n = 0; n < VC_KERNEL_RINGS; n++)
			k->devices[i].set_up[n] = vc_served_get(v, k->devices[i].device.first + n, &k->devices[i].rings[n].queue);
	r = go(k);
	if (r < 0) {
		k->v = NULL;
		vc_kernel_table_drop(&k->table);
	}
	pthread_mutex_unlock(&k->lock);
	return r;
}

static void kernel_stop(struct vc_kernel *k)
{
	pthread_mutex_lock(&k->lock);
	halt(k);
	for (uint32_t i = 0; k->v && i < k->count; i++)
		for (unsigned n = 0; n < VC_KERNEL_RINGS; n++)
			if (k->devices[i].set_up[n])
				vc_served_set_base(k->v, k->devices[i].device.first + n, k->devices[i].rings[n].queue.base);
	k->v = NULL;
	vc_kernel_table_drop(&k->table);
	pthread_mutex_unlock(&k->lock);
}

static void kernel_set_link(struct vc_kernel *k, bool up)
{
	int r = 0;

	pthread_mutex_lock(&k->lock);
	k->link_down = !up;
	if (!up)
		halt(k);
	else if (k->v && !k->running)
		r = go(k);
	if (r < 0)
		vc_virtio_broken(k->v, "%s", vcore_error_message());
	pthread_mutex_unlock(&k->lock);
}

static void kernel_called(struct vc_kernel *k)
{
	pthread_mutex_lock(&k->lock);
	if (k->running && k->env->mem->want_pages) {
		vc_kernel_table_fetch(&k->table, NULL, vc_mem_wrote);
		wrote_rings(k, NULL, vc_mem_wrote);
	}
	pthread_mutex_unlock(&k->lock);
}

static void kernel_free(struct vc_kernel *k)
{
	if (!k)
		return;
	vc_mem_unwatch(k->env->mem, &k->watcher);
	vc_loop_cancel_post(k->env->loop, follow_memory, k);
	vc_kernel_table_drop(&k->table);
	for (uint32_t i = 0; i < k->count; i++)
		vc_kernel_close(&k->devices[i].device);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

/* ---- making ---- */

static struct vc_kernel *new_kernel(struct vc_env *env, const char *type, uint32_t count)
{
	struct vc_kernel *k = calloc(1, sizeof *k + count * sizeof k->devices[0]);

	if (!k) {
		vc_fail(ENOMEM, "no memory for a %s", type);
		return NULL;
	}
	k->env = env;
	k->type = type;
	pthread_mutex_init(&k->lock, NULL);
	return k;
}

static int finish(struct vc_kernel *k, int r, struct vc_kernel **out)
{
	struct vc_kernel_table t = {0};

	/* now, for whoever has too many slots is to know before the guest starts */
	if (r >= 0)
		r = vc_kernel_table_make(&t, k->env->mem);
	vc_kernel_table_drop(&t);
	if (r < 0) {
		kernel_free(k);
		return r;
	}
	k->features = k->devices[0].device.features;
	k->watcher =
	    (struct vc_mem_watcher){.changed = on_memory, .logs_changed = on_logs, .sync_dirty = on_sync, .ctx = k};
	vc_mem_watch(k->env->mem, &k->watcher);
	*out = k;
	return 0;
}

static int kernel_net(struct vc_env *env, const int *taps, uint32_t pairs, bool has_header, struct vc_kernel **out)
{
	struct vc_kernel *k = new_kernel(env, "vhost-net", pairs);
	int r = 0;

	if (!k)
		return -ENOMEM;
	k->own_features = has_header ? 0 : 1ull << VHOST_NET_F_VIRTIO_NET_HDR;
	while (r >= 0 && k->count < pairs) {
		struct vc_kernel_device *d = &k->devices[k->count].device;

		d->first = VC_KERNEL_RINGS * k->count;
		r = vc_kernel_open_net(d, taps[k->count]);
		k->count++;
	}
	return finish(k, r, out);
}

static int kernel_vsock(struct vc_env *env, uint64_t cid, struct vc_kernel **out)
{
	struct vc_kernel *k = new_kernel(env, "vhost-vsock", 1);

	if (!k)
		return -ENOMEM;
	k->count = 1;
	k->blind = true;
	return finish(k, vc_kernel_open_vsock(&k->devices[0].device, cid), out);
}

const struct vc_kernel_ops vc_vhost_kernel = {
    .net = kernel_net,
    .vsock = kernel_vsock,
    .features = kernel_features,
    .start = kernel_start,
    .stop = kernel_stop,
    .set_link = kernel_set_link,
    .called = kernel_called,
    .free = kernel_free,
};
