/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The life of a device that a back-end serves. */
#include "vhost/vhost.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/address.h"

/* ---- the driver's view ---- */

uint64_t vc_vhost_features(void *ctx)
{
	return ((struct vc_vhost *)ctx)->offered;
}

static void set_queues(struct vc_vhost *h, bool started)
{
	for (uint32_t i = 0; i < h->queue_count; i++) {
		struct vc_vhost_queue *queue = &h->queues[i];

		pthread_mutex_lock(&queue->lock);
		queue->q = started ? vc_virtio_queue(h->v, i) : NULL;
		queue->live = queue->stopping = false;
		vc_vhost_ring_clear(&queue->ring);
		pthread_mutex_unlock(&queue->lock);
	}
}

void vc_vhost_start(void *ctx)
{
	struct vc_vhost *h = ctx;

	pthread_mutex_lock(&h->lock);
	set_queues(h, true);
	h->started = true;
	if (h->user.fd >= 0 && vc_vhost_session_start(h) < 0)
		vc_vhost_session_fail(h);
	vc_vhost_session_tell_config(h);
	pthread_mutex_unlock(&h->lock);
}

static uint64_t deadline(const struct vc_vhost *h)
{
	return vc_host_ns() + h->user.timeout_ms * 1000000ull;
}

/* Without h->lock: the loop has to be able to take back chains, and to find the back-end gone. */
static int drain(struct vc_vhost *h)
{
	uint64_t until = deadline(h);
	bool done = true;

	for (uint32_t i = 0; i < h->queue_count; i++)
		done &= vc_vhost_drain(&h->queues[i], h->kind->waits ? until : 0);
	return done || !h->kind->waits
	           ? 0
	           : vc_fail(ETIMEDOUT, "vhost-user %s: requests are not done within %u ms", h->path, h->user.timeout_ms);
}

void vc_vhost_stop(void *ctx)
{
	struct vc_vhost *h = ctx;
	int r = drain(h);

	pthread_mutex_lock(&h->lock);
	h->started = false;
	if (r >= 0 && h->user.fd >= 0)
		r = vc_vhost_session_stop(h);
	if (r < 0)
		vc_vhost_session_fail(h);
	set_queues(h, false);
	pthread_mutex_unlock(&h->lock);
}

static bool has_slots(struct vc_vhost *h)
{
	bool has;

	pthread_mutex_lock(&h->lock);
	has = h->user.protocol & VC_VHOST_P_MEM_SLOTS;
	pthread_mutex_unlock(&h->lock);
	return has;
}

static void go_on(struct vc_vhost *h)
{
	for (uint32_t i = 0; i < h->queue_count; i++) {
		struct vc_vhost_queue *queue = &h->queues[i];

		pthread_mutex_lock(&queue->lock);
		queue->stopping = false;
		pthread_mutex_unlock(&queue->lock);
		vc_virtio_wake(h->v, i);
	}
}

/* The memory map has changed since the back-end was told of it. On a worker. */
static void update_memory(struct vc_vhost *h)
{
	bool whole = !has_slots(h); /* the table is given as a whole, between requests */
	int r = whole ? drain(h) : 0;

	pthread_mutex_lock(&h->lock);
	if (r >= 0 && h->started && h->user.fd >= 0 && atomic_load(&h->version) != atomic_load(&h->env->mem->version))
		r = vc_vhost_session_update_memory(h);
	if (r < 0)
		vc_vhost_session_fail(h);
	pthread_mutex_unlock(&h->lock);
	if (whole)
		go_on(h);
}

void vc_vhost_notify(void *ctx, struct vc_virtq *q)
{
	struct vc_vhost *h = ctx;
	struct vc_vhost_queue *queue = &h->queues[vc_virtq_index(q)];
	int r;

	while ((r = vc_vhost_relay(queue)) == -ESTALE)
		update_memory(h);
	if (r >= 0)
		return;
	pthread_mutex_lock(&h->lock);
	vc_vhost_session_fail(h);
	pthread_mutex_unlock(&h->lock);
}

/* ---- which queues ---- */

void vc_vhost_enable(struct vc_vhost_queue *queue, bool on)
{
	struct vc_vhost *h = queue->h;
	bool tell;

	pthread_mutex_lock(&h->lock);
	pthread_mutex_lock(&queue->lock);
	tell = queue->live && queue->enabled != on;
	queue->enabled = on;
	pthread_mutex_unlock(&queue->lock);
	if (tell && vc_vhost_user_enable_vring(&h->user, queue->index, on) < 0)
		vc_vhost_session_fail(h);
	pthread_mutex_unlock(&h->lock);
}

bool vc_vhost_is_enabled(struct vc_vhost_queue *queue)
{
	bool is;

	pthread_mutex_lock(&queue->lock);
	is = queue->enabled;
	pthread_mutex_unlock(&queue->lock);
	return is;
}

/* ---- configuration ---- */

void vc_vhost_get_config(struct vc_vhost *h, void *config, uint32_t length)
{
	pthread_rwlock_rdlock(&h->config_lock);
	memcpy(config, h->config, length);
	pthread_rwlock_unlock(&h->config_lock);
}

void vc_vhost_set_config(struct vc_vhost *h, uint32_t offset, const void *data, uint32_t length)
{
	int r = 0;

	pthread_mutex_lock(&h->lock);
	if (h->user.fd >= 0) {
		r = vc_vhost_user_set_config(&h->user, offset, data, length);
		if (r >= 0)
			r = vc_vhost_session_read_config(h);
		vc_vhost_session_tell_config(h);
	}
	if (r == -EREMOTEIO)
		vc_log(h->env->log, VCORE_LOG_INFO, "%s", vcore_error_message());
	else if (r < 0)
		vc_vhost_session_fail(h);
	pthread_mutex_unlock(&h->lock);
}

unsigned vc_vhost_statistics(void *ctx, struct vc_stat stats[VC_STATS_MAX])
{
	struct vc_vhost *h = ctx;
	uint64_t requests = 0, in_flight = 0;

	for (uint32_t i = 0; i < h->queue_count; i++) {
		struct vc_vhost_queue *queue = &h->queues[i];

		pthread_mutex_lock(&queue->lock);
		requests += queue->ring.sequence;
		in_flight += queue->ring.in_flight;
		pthread_mutex_unlock(&queue->lock);
	}
	stats[0] = (struct vc_stat){"requests", requests};
	stats[1] = (struct vc_stat){"in_flight", in_flight};
	stats[2] = (struct vc_stat){"connections", atomic_load(&h->connections)};
	return 3;
}

/* ---- making ---- */

struct settings {
	const char *socket;
	bool listen;
	uint64_t wait_ms, reconnect_ms, timeout_ms, queue_size;
};

static int read_settings(struct vc_props *props, const char *type, struct settings *s)
{
	int r;

	s->socket = vc_props_string(props, "socket", NULL);
	if (!s->socket)
		return vc_fail(EINVAL, "%s: property socket is missing: expected the path of the back-end's unix socket", type);
	r = vc_props_bool(props, "listen", false, &s->listen);
	if (r >= 0)
		r = vc_props_u64(props, "wait_ms", 30000, 0, 3600000, &s->wait_ms);
	if (r >= 0)
		r = vc_props_u64(props, "reconnect_ms", 1000, 0, 3600000, &s->reconnect_ms);
	if (r >= 0)
		r = vc_props_u64(props, "timeout_ms", 5000, 1, 3600000, &s->timeout_ms);
	if (r >= 0)
		r = vc_props_u64(props, "queue_size", 256, 32, VC_VIRTQ_MAX_SIZE, &s->queue_size);
	if (r >= 0 && s->queue_size & (s->queue_size - 1))
		r = vc_fail(EINVAL, "property queue_size=%llu: expected a power of 2", (unsigned long long)s->queue_size);
	return r;
}

/* Every ring has room for some more descriptors than a queue has entries: those may have indirect tables. */
static int make_rings(struct vc_vhost *h, uint32_t queues)
{
	h->ring_size = h->queue_size * 4 < VC_VHOST_RING_MAX ? h->queue_size * 4 : VC_VHOST_RING_MAX;
	h->rings_length = queues * vc_vhost_ring_bytes(h->ring_size);
	h->rings_fd = memfd_create("virtcore-vhost", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (h->rings_fd < 0 || ftruncate(h->rings_fd, (off_t)h->rings_length) < 0 ||
	    fcntl(h->rings_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return vc_fail_errno(errno, "vhost-user %s: a memfd for the rings", h->path);
	h->rings = mmap(NULL, h->rings_length, PROT_READ | PROT_WRITE, MAP_SHARED, h->rings_fd, 0);
	if (h->rings == MAP_FAILED) {
		h->rings = NULL;
		return vc_fail_errno(errno, "vhost-user %s: memory for the rings", h->path);
	}
	return 0;
}

static int make_queues(struct vc_vhost *h, uint32_t count)
{
	int r = 0;

	h->queues = calloc(count, sizeof h->queues[0]);
	if (!h->queues)
		return vc_fail(ENOMEM, "no memory for a %s", h->kind->ops->type);
	while (r >= 0 && h->queue_count < count) {
		uint32_t n = h->queue_count++;

		r = vc_vhost_queue_init(&h->queues[n], h, n, h->rings + n * vc_vhost_ring_bytes(h->ring_size));
	}
	return r;
}

static int make_table(struct vc_vhost *h)
{
	int r = vc_vhost_table_init(
	    &h->table, &(struct vc_vhost_region){VC_VHOST_RINGS_GPA, h->rings_length, (uintptr_t)h->rings, 0, h->rings_fd});

	/* now, for who has private memory is to know before the guest starts */
	return r < 0 ? r : vc_vhost_table_refresh(&h->table, h->env->mem, &h->user);
}

static int make_loop(struct vc_vhost *h)
{
	int r;

	vc_clock_init(&h->clock);
	r = vc_loop_new(&h->clock, true, &h->loop);
	return r < 0 ? r : vc_timer_new(h->loop, vc_vhost_session_again, h, &h->again);
}

static void on_memory(void *ctx)
{
	struct vc_vhost *h = ctx;

	/* without memory for the post the next request finds the change */
	vc_loop_post(h->loop, vc_vhost_session_follow_memory, h);
}

/* What the back-end has is to be known before the driver comes. */
static int await_backend(struct vc_vhost *h, uint64_t wait_ms)
{
	struct pollfd p = {.fd = h->listener, .events = POLLIN};
	uint64_t now = vc_host_ns(), until = now + wait_ms * 1000000;
	int n;

	do {
		n = poll(&p, 1, now < until ? (int)((until - now + 999999) / 1000000) : 0);
		now = vc_host_ns();
	} while (n < 0 && errno == EINTR);
	return n > 0 ? 0
	             : vc_fail(ETIMEDOUT, "vhost-user %s: no back-end has connected within %llu ms (property wait_ms)",
	                       h->path, (unsigned long long)wait_ms);
}

static int make_listener(struct vc_vhost *h, uint64_t wait_ms)
{
	union vc_address address;
	int r = vc_address_unix("vhost-user", h->path, &address);

	if (r < 0)
		return r;
	vc_address_unlisten_stale(&address);
	h->listener = vc_address_listen("vhost-user", &address, 1);
	if (h->listener < 0)
		return h->listener;
	r = await_backend(h, wait_ms);
	return r < 0 ? r : vc_watch_new(h->loop, h->listener, 0, vc_vhost_session_accept, h, &h->listen_watch);
}

static void free_listener(struct vc_vhost *h)
{
	union vc_address address;

	vc_watch_free(h->listen_watch);
	if (h->listener < 0)
		return;
	close(h->listener);
	if (vc_address_unix("vhost-user", h->path, &address) >= 0)
		vc_address_unlisten(&address);
}

static int make(struct vc_vhost *h, uint32_t queues, const struct settings *s)
{
	int r = make_rings(h, queues);

	if (r >= 0)
		r = make_loop(h);
	if (r >= 0)
		r = make_queues(h, queues);
	if (r >= 0)
		r = make_table(h);
	if (r >= 0 && s->listen)
		r = make_listener(h, s->wait_ms);
	if (r < 0)
		return r;
	pthread_mutex_lock(&h->lock);
	r = vc_vhost_session_open(h);
	h->offered = h->kind->features & h->user.features;
	h->config_changed = false;
	if (r >= 0) {
		h->watcher = (struct vc_mem_watcher){.changed = on_memory, .ctx = h};
		vc_mem_watch(h->env->mem, &h->watcher);
	}
	pthread_mutex_unlock(&h->lock);
	return r;
}

int vc_vhost_new(struct vc_env *env, struct vc_props *props, const struct vc_vhost_kind *kind, uint32_t queues,
                 struct vc_vhost **out)
{
	struct settings s;
	struct vc_vhost *h;
	int r = read_settings(props, kind->ops->type, &s);

	if (r < 0)
		return r;
	h = calloc(1, sizeof *h);
	if (!h)
		return vc_fail(ENOMEM, "no memory for a %s", kind->ops->type);
	h->env = env;
	h->kind = kind;
	h->reconnect_ns = s.reconnect_ms * 1000000;
	h->queue_size = (uint32_t)s.queue_size;
	h->rings_fd = h->listener = -1;
	pthread_mutex_init(&h->lock, NULL);
	pthread_rwlock_init(&h->config_lock, NULL);
	h->path = strdup(s.socket);
	h->user = (struct vc_vhost_user){.path = h->path, .timeout_ms = (uint32_t)s.timeout_ms, .fd = -1, .backend_fd = -1};
	r = h->path ? make(h, queues, &s) : vc_fail(ENOMEM, "no memory for a %s", kind->ops->type);
	if (r < 0)
		vc_vhost_free(h);
	else
		*out = h;
	return r;
}

void vc_vhost_free(void *ctx)
{
	struct vc_vhost *h = ctx;

	if (!h)
		return;
	pthread_mutex_lock(&h->lock);
	h->closing = true;
	pthread_mutex_unlock(&h->lock);
	vc_mem_unwatch(h->env->mem, &h->watcher);
	/* callbacks that wait for the lock leave all this alone now */
	if (h->loop)
		vc_loop_cancel_post(h->loop, vc_vhost_session_follow_memory, h);
	free_listener(h);
	vc_watch_free(h->watch);
	vc_watch_free(h->backend_watch);
	for (uint32_t i = 0; i < h->queue_count; i++)
		vc_vhost_queue_fini(&h->queues[i]);
	vc_timer_free(h->again);
	vc_loop_free(h->loop);
	vc_vhost_user_close(&h->user);
	if (h->table.entries)
		vc_vhost_table_fini(&h->table);
	if (h->rings)
		munmap(h->rings, h->rings_length);
	if (h->rings_fd >= 0)
		close(h->rings_fd);
	pthread_rwlock_destroy(&h->config_lock);
	pthread_mutex_destroy(&h->lock);
	free(h->queues);
	free(h->path);
	free(h);
}

int vc_vhost_add(struct vc_vhost *h, uint32_t own_queues, struct vc_props *props, struct vc_dev **dev)
{
	uint16_t sizes[VC_VHOST_QUEUES_MAX + VC_VHOST_OWN_QUEUES_MAX];

	for (uint32_t i = 0; i < h->queue_count + own_queues; i++)
		sizes[i] = (uint16_t)h->queue_size;
	return vc_virtio_add(h->env, props,
	                     &(struct vc_virtio_config){
	                         .ops = h->kind->ops, .ctx = h, .queues = h->queue_count + own_queues, .sizes = sizes},
	                     &h->v, dev);
}
