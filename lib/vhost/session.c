/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A connection to a back-end, from its first request to its end, and the next one. All with h->lock. */
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vhost/vhost.h"

static void lock_queues(struct vc_vhost *h)
{
	for (uint32_t i = 0; i < h->queue_count; i++)
		pthread_mutex_lock(&h->queues[i].lock);
}

static void unlock_queues(struct vc_vhost *h)
{
	for (uint32_t i = h->queue_count; i-- > 0;)
		pthread_mutex_unlock(&h->queues[i].lock);
}

static bool is_set_up(struct vc_vhost_queue *queue)
{
	bool is;

	pthread_mutex_lock(&queue->lock);
	is = queue->q != NULL;
	pthread_mutex_unlock(&queue->lock);
	return is;
}

static bool is_live(struct vc_vhost_queue *queue)
{
	bool is;

	pthread_mutex_lock(&queue->lock);
	is = queue->live;
	pthread_mutex_unlock(&queue->lock);
	return is;
}

/* ---- memory ---- */

/* With all queues' locks. A map with memory that cannot be shared is not followed: the guest's buffers are refused. */
static int refresh_table(struct vc_vhost *h)
{
	uint64_t version = atomic_load(&h->env->mem->version);
	int r = vc_vhost_table_refresh(&h->table, h->env->mem, &h->user);

	if (r == -EINVAL) {
		vc_log(h->env->log, VCORE_LOG_WARN, "%s", vcore_error_message());
		r = 0;
	}
	atomic_store(&h->version, version);
	return r;
}

static int give_memory(struct vc_vhost *h)
{
	int r;

	lock_queues(h);
	r = refresh_table(h);
	if (r >= 0)
		r = vc_vhost_table_give(&h->table, &h->user);
	unlock_queues(h);
	return r;
}

/* What has gone is let go of now; what has come is given when the driver starts the device. */
static void follow_idle(struct vc_vhost *h)
{
	int r;

	lock_queues(h);
	r = refresh_table(h);
	unlock_queues(h);
	if (r < 0)
		vc_vhost_session_fail(h);
}

void vc_vhost_session_follow_memory(void *ctx)
{
	struct vc_vhost *h = ctx;

	pthread_mutex_lock(&h->lock);
	if (!h->closing && h->started && h->user.fd >= 0)
		for (uint32_t i = 0; i < h->queue_count; i++)
			vc_virtio_wake(h->v, i);
	else if (!h->closing)
		follow_idle(h);
	pthread_mutex_unlock(&h->lock);
}

int vc_vhost_session_update_memory(struct vc_vhost *h)
{
	int r;

	if (h->user.protocol & VC_VHOST_P_MEM_SLOTS)
		return give_memory(h);
	r = vc_vhost_session_stop(h);
	return r < 0 ? r : vc_vhost_session_start(h);
}

/* ---- queues ---- */

/* What the back-end shall be to the driver: the type's features, and the rings as we like them. */
static uint64_t features_for(const struct vc_vhost *h)
{
	uint64_t driver = vc_virtio_features(h->v) & h->kind->features & h->user.features;

	return driver | VC_VIRTIO_F_VERSION_1 | (h->user.features & (VC_VIRTIO_F_EVENT_IDX | VC_VHOST_F_PROTOCOL));
}

static int start_queue(struct vc_vhost *h, struct vc_vhost_queue *queue)
{
	struct vc_vhost_ring *ring = &queue->ring;
	struct vc_vhost_vring vring = {
	    .index = queue->index,
	    .size = ring->size,
	    .desc = (uintptr_t)ring->desc,
	    .avail = (uintptr_t)ring->avail,
	    .used = (uintptr_t)ring->used,
	    .kick = queue->kick,
	    .call = queue->call,
	};
	int r;

	pthread_mutex_lock(&queue->lock);
	vc_vhost_ring_restart(ring, &h->table, h->user.features & VC_VIRTIO_F_EVENT_IDX);
	vc_vhost_ring_show(ring);
	pthread_mutex_unlock(&queue->lock);
	r = vc_vhost_user_start_vring(&h->user, &vring);
	return r < 0 ? r : vc_vhost_user_enable_vring(&h->user, queue->index, vc_vhost_is_enabled(queue));
}

/* It is kicked, whatever waits for it on the ring. */
static void go_live(struct vc_vhost_queue *queue)
{
	const uint64_t one = 1;

	pthread_mutex_lock(&queue->lock);
	queue->live = queue->q != NULL;
	pthread_mutex_unlock(&queue->lock);
	while (write(queue->kick, &one, sizeof one) < 0 && errno == EINTR)
		;
	vc_virtio_wake(queue->h->v, queue->index);
}

int vc_vhost_session_start(struct vc_vhost *h)
{
	int r = vc_vhost_user_set_features(&h->user, features_for(h));

	if (r >= 0)
		r = give_memory(h);
	for (uint32_t i = 0; r >= 0 && i < h->queue_count; i++)
		if (is_set_up(&h->queues[i]))
			r = start_queue(h, &h->queues[i]);
	if (r >= 0)
		r = vc_vhost_user_set_status(&h->user, VC_VIRTIO_S_ACKNOWLEDGE | VC_VIRTIO_S_DRIVER | VC_VIRTIO_S_FEATURES_OK |
		                                           VC_VIRTIO_S_DRIVER_OK);
	/* a kick that comes before the queue is enabled may be lost */
	if (r >= 0)
		r = vc_vhost_user_settle(&h->user);
	for (uint32_t i = 0; r >= 0 && i < h->queue_count; i++)
		if (is_set_up(&h->queues[i]))
			go_live(&h->queues[i]);
	return r;
}

int vc_vhost_session_stop(struct vc_vhost *h)
{
	int r = 0;

	for (uint32_t i = 0; r >= 0 && i < h->queue_count; i++) {
		struct vc_vhost_queue *queue = &h->queues[i];

		if (!is_live(queue))
			continue;
		r = vc_vhost_user_stop_vring(&h->user, i);
		if (r >= 0)
			r = vc_vhost_user_enable_vring(&h->user, i, false);
		if (r >= 0)
			r = vc_vhost_relay_end(queue);
	}
	return r < 0 ? r : vc_vhost_user_set_status(&h->user, 0);
}

/* ---- the configuration ---- */

int vc_vhost_session_read_config(struct vc_vhost *h)
{
	uint8_t config[VC_VHOST_CONFIG_MAX];
	int r;

	if (!h->kind->config_size)
		return 0;
	if (!(h->user.protocol & VC_VHOST_P_CONFIG))
		return vc_fail(ENOTSUP, "vhost-user %s: the back-end tells no configuration: it serves no %s", h->path,
		               h->kind->ops->type);
	r = vc_vhost_user_get_config(&h->user, config, h->kind->config_size);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&h->config_lock);
	h->config_changed |= memcmp(h->config, config, h->kind->config_size) != 0;
	memcpy(h->config, config, h->kind->config_size);
	pthread_rwlock_unlock(&h->config_lock);
	return 0;
}

void vc_vhost_session_tell_config(struct vc_vhost *h)
{
	if (h->started && h->config_changed) {
		h->config_changed = false;
		vc_virtio_config_changed(h->v);
	}
}

static void on_backend(void *ctx, uint32_t events)
{
	struct vc_vhost *h = ctx;
	int r;

	pthread_mutex_lock(&h->lock);
	if (!h->closing && h->user.backend_fd >= 0) {
		r = vc_vhost_user_serve_backend(&h->user);
		if (r > 0)
			r = vc_vhost_session_read_config(h);
		if (r < 0) {
			vc_watch_set_events(h->backend_watch, 0);
			vc_vhost_session_fail(h);
		}
		vc_vhost_session_tell_config(h);
	}
	pthread_mutex_unlock(&h->lock);
}

/* ---- connections ---- */

void vc_vhost_session_fail(struct vc_vhost *h)
{
	vc_log(h->env->log, VCORE_LOG_WARN, "%s: %s", h->kind->ops->type, vcore_error_message());
	vc_vhost_user_hang_up(&h->user);
	for (uint32_t i = 0; i < h->queue_count; i++) {
		struct vc_vhost_queue *queue = &h->queues[i];

		pthread_mutex_lock(&queue->lock);
		queue->live = false;
		pthread_cond_broadcast(&queue->idle);
		pthread_mutex_unlock(&queue->lock);
	}
}

static void try_later(struct vc_vhost *h)
{
	if (h->listener >= 0)
		vc_watch_set_events(h->listen_watch, EPOLLIN);
	else if (h->reconnect_ns)
		vc_timer_arm(h->again, vc_clock_now(&h->clock) + h->reconnect_ns);
}

/* On the loop. */
static void close_session(struct vc_vhost *h)
{
	vc_watch_free(h->watch);
	vc_watch_free(h->backend_watch);
	h->watch = h->backend_watch = NULL;
	vc_vhost_user_close(&h->user);
	vc_vhost_table_forget(&h->table);
}

static void on_hang_up(void *ctx, uint32_t events)
{
	struct vc_vhost *h = ctx;

	pthread_mutex_lock(&h->lock);
	if (!h->closing) {
		vc_log(h->env->log, VCORE_LOG_WARN, "%s: the back-end of %s is gone%s", h->kind->ops->type, h->path,
		       h->reconnect_ns || h->listener >= 0 ? ": the guest waits for the next one" : "");
		/* before the table is empty: a chain that looks for its memory there would break the device */
		for (uint32_t i = 0; i < h->queue_count; i++)
			vc_vhost_relay_end(&h->queues[i]);
		lock_queues(h);
		close_session(h);
		unlock_queues(h);
		try_later(h);
	}
	pthread_mutex_unlock(&h->lock);
}

static int check_session(const struct vc_vhost *h)
{
	uint32_t wanted = h->queue_count / (h->kind->queues_counted_as ? h->kind->queues_counted_as : 1);
	uint64_t missing = (h->offered | VC_VIRTIO_F_VERSION_1) & ~h->user.features;

	if (missing)
		return vc_fail(ENOTSUP, "vhost-user %s: the back-end has not the features %#llx", h->path,
		               (unsigned long long)missing);
	if (h->user.queues < wanted)
		return vc_fail(ENOTSUP, "vhost-user %s: the back-end serves %llu queues: expected %u", h->path,
		               (unsigned long long)h->user.queues, wanted);
	return 0;
}

static int accept_backend(struct vc_vhost *h)
{
	int fd = accept4(h->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	return fd < 0 ? vc_fail_errno(errno, "vhost-user %s: no back-end has connected", h->path)
	              : vc_vhost_user_begin(&h->user, fd);
}

int vc_vhost_session_open(struct vc_vhost *h)
{
	int r = h->listener >= 0 ? accept_backend(h) : vc_vhost_user_connect(&h->user);

	if (r < 0)
		return r;
	atomic_fetch_add(&h->connections, 1);
	r = check_session(h);
	if (r >= 0)
		r = vc_vhost_session_read_config(h);
	if (r >= 0)
		r = vc_watch_new(h->loop, h->user.fd, EPOLLRDHUP, on_hang_up, h, &h->watch);
	if (r >= 0 && h->user.backend_fd >= 0)
		r = vc_watch_new(h->loop, h->user.backend_fd, EPOLLIN, on_backend, h, &h->backend_watch);
	/* a watch goes on the loop only */
	if (r < 0 && h->watch)
		vc_vhost_user_hang_up(&h->user);
	else if (r < 0)
		vc_vhost_user_close(&h->user);
	return r;
}

static void come_back(struct vc_vhost *h)
{
	int r = vc_vhost_session_open(h);

	if (r < 0) {
		vc_log(h->env->log, h->absent ? VCORE_LOG_DEBUG : VCORE_LOG_INFO, "%s", vcore_error_message());
		h->absent = true;
		try_later(h);
		return;
	}
	h->absent = false;
	vc_log(h->env->log, VCORE_LOG_INFO, "%s: the back-end of %s is there again", h->kind->ops->type, h->path);
	if (h->started && vc_vhost_session_start(h) < 0)
		vc_vhost_session_fail(h);
	vc_vhost_session_tell_config(h);
}

void vc_vhost_session_accept(void *ctx, uint32_t events)
{
	struct vc_vhost *h = ctx;

	/* whoever else calls waits until this one is gone */
	vc_watch_set_events(h->listen_watch, 0);
	vc_vhost_session_again(h);
}

void vc_vhost_session_again(void *ctx)
{
	struct vc_vhost *h = ctx;

	pthread_mutex_lock(&h->lock);
	if (!h->closing && h->user.fd < 0)
		come_back(h);
	pthread_mutex_unlock(&h->lock);
}
