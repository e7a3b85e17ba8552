/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a device is plugged in that another program's guest drives: interrupts and kicks by eventfd, rings. */
#include "vhost/backend.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "core/error.h"
#include "core/util.h"

#define BIT(n) (1ull << (n))

/* The front-end has the control queue of a NIC: what needs one is not ours to offer. */
#define NET_CONTROL (BIT(2) | BIT(17) | BIT(18) | BIT(19) | BIT(20) | BIT(21) | BIT(22) | BIT(23) | BIT(57) | BIT(60))

const struct vc_vhost_served_kind *vc_vhost_served_kind(const char *type)
{
	static const struct vc_vhost_served_kind kinds[] = {
	    {"virtio-blk", 0, 1, 0},
	    {"virtio-net", NET_CONTROL, 2, 1},
	    {"virtio-console", 0, 1, 0},
	    {"virtio-rng", 0, 1, 0},
	};

	for (unsigned i = 0; i < VC_ARRAY_SIZE(kinds); i++)
		if (!strcmp(type, kinds[i].type))
			return &kinds[i];
	return NULL;
}

/* ---- the device's transport ---- */

static void interrupt(void *ctx, unsigned n)
{
	struct vcore_vhost_user *s = ctx;
	struct vc_vhost_backend_ring *ring = &s->rings[n];
	const uint64_t one = 1;

	if (n >= s->ring_count)
		return;
	pthread_mutex_lock(&ring->lock);
	/* fails only when the counter is full: signalled already */
	while (ring->call >= 0 && write(ring->call, &one, sizeof one) < 0 && errno == EINTR)
		;
	pthread_mutex_unlock(&ring->lock);
}

static void config_interrupt(void *ctx)
{
	vc_vhost_backend_tell_config(ctx);
}

static void destroy(void *ctx)
{
	struct vcore_vhost_user *s = ctx;

	vc_virtio_free(s->v);
	s->v = NULL;
}

static int add(struct vc_env *env, struct vc_props *props, const struct vc_virtio_config *config,
               uint64_t ring_features, struct vc_virtio **out, struct vc_dev **dev)
{
	static const struct vcore_device_ops ops = {.size = sizeof ops, .destroy = destroy};
	struct vcore_vhost_user *s = VC_CONTAINER_OF(env, struct vcore_vhost_user, env);
	const struct vc_virtio_transport transport = {interrupt, config_interrupt, NULL, s, true};
	struct vc_virtio_config copy = *config;
	uint16_t sizes[VC_VHOST_BACKEND_QUEUES_MAX + 1];
	int r = 0;

	for (uint32_t i = 0; i < VC_ARRAY_SIZE(sizes); i++)
		sizes[i] = VC_VIRTQ_MAX_SIZE;
	copy.sizes = config->sizes ? config->sizes : sizes;
	s->ring_count = config->queues - s->kind->own;
	if (config->queues <= s->kind->own)
		r = vc_fail(EINVAL, "%u queues: expected more than %u", config->queues, s->kind->own);
	else if (s->ring_count > VC_VHOST_BACKEND_QUEUES_MAX)
		r = vc_fail(EINVAL, "%u queues: expected at most %d", s->ring_count, VC_VHOST_BACKEND_QUEUES_MAX);
	if (r < 0)
		config->ops->destroy(config->ctx);
	else
		r = vc_virtio_new(env, &copy, ring_features & ~VC_VIRTIO_F_RING_RESET, &transport, &s->v);
	if (r < 0)
		return r;
	*out = s->v;
	return vc_dev_add(env->buses, config->ops->type, &ops, s, dev);
}

const struct vc_virtio_host vc_vhost_backend_host = {add, VC_VIRTQ_MAX_SIZE};

uint64_t vc_vhost_backend_features(const struct vcore_vhost_user *s)
{
	return (vc_virtio_device_features(s->v) & ~s->kind->hidden) | VC_VHOST_F_PROTOCOL | VC_VHOST_F_LOG_ALL;
}

/* ---- descriptors ---- */

static bool is_eventfd(int fd)
{
	char link[40], name[32];
	ssize_t n;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, name, sizeof name - 1);
	name[n > 0 ? n : 0] = '\0';
	return !strcmp(name, "anon_inode:[eventfd]");
}

/* A pipe or file in its place would let a front-end make us wait. */
static int check_eventfd(const struct vc_vhost_backend_ring *ring, int fd)
{
	int flags;

	if (fd < 0)
		return 0;
	flags = fcntl(fd, F_GETFL);
	if (is_eventfd(fd) && flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0)
		return 0;
	close(fd);
	return vc_fail(EINVAL, "the descriptor for ring %u is no eventfd", ring->index);
}

static void kicked(void *ctx, uint32_t events)
{
	struct vc_vhost_backend_ring *ring = ctx;
	uint64_t count;

	if (read(ring->kick, &count, sizeof count) == sizeof count && ring->live)
		vc_virtio_kick(ring->server->v, ring->index);
}

int vc_vhost_backend_set_kick(struct vc_vhost_backend_ring *ring, int fd)
{
	int r = check_eventfd(ring, fd);

	if (r < 0)
		return r;
	vc_watch_free(ring->watch);
	ring->watch = NULL;
	if (ring->kick >= 0)
		close(ring->kick);
	ring->kick = fd;
	return fd < 0 ? 0 : vc_watch_new(ring->server->loop, fd, EPOLLIN, kicked, ring, &ring->watch);
}

int vc_vhost_backend_set_call(struct vc_vhost_backend_ring *ring, int fd)
{
	int r = check_eventfd(ring, fd), old;

	if (r < 0)
		return r;
	pthread_mutex_lock(&ring->lock);
	old = ring->call;
	ring->call = fd;
	pthread_mutex_unlock(&ring->lock);
	if (old >= 0)
		close(old);
	return 0;
}

/* ---- rings ---- */

void vc_vhost_backend_init(struct vcore_vhost_user *s)
{
	for (uint32_t i = 0; i < VC_VHOST_BACKEND_QUEUES_MAX; i++) {
		s->rings[i] = (struct vc_vhost_backend_ring){.server = s, .index = i, .kick = -1, .call = -1};
		pthread_mutex_init(&s->rings[i].lock, NULL);
	}
}

/* The first ring that is live is the driver's coming. */
static int start_device(struct vcore_vhost_user *s)
{
	struct vc_virtio *v = s->v;

	if (vc_virtio_status(v) & VC_VIRTIO_S_DRIVER_OK)
		return 0;
	vc_virtio_set_status(v, VC_VIRTIO_S_ACKNOWLEDGE | VC_VIRTIO_S_DRIVER);
	vc_virtio_set_driver_features(v, s->features & ~(VC_VHOST_F_PROTOCOL | VC_VHOST_F_LOG_ALL));
	vc_virtio_set_status(v, vc_virtio_status(v) | VC_VIRTIO_S_FEATURES_OK);
	if (!(vc_virtio_status(v) & VC_VIRTIO_S_FEATURES_OK))
		return vc_fail(EPROTO, "the device refuses the features %#llx", (unsigned long long)s->features);
	vc_virtio_set_status(v, vc_virtio_status(v) | VC_VIRTIO_S_DRIVER_OK);
	return 0;
}

static bool any_live(const struct vcore_vhost_user *s)
{
	for (uint32_t i = 0; i < s->ring_count; i++)
		if (s->rings[i].live)
			return true;
	return false;
}

static int take_up(struct vc_vhost_backend_ring *ring)
{
	struct vc_virtio *v = ring->server->v;
	int r = start_device(ring->server);

	if (r < 0)
		return r;
	vc_virtq_set_position(v, ring->index, ring->position);
	ring->live = true;
	vc_virtq_set_setup(v, ring->index, &ring->setup);
	/* what was used just before another back-end ended may not have been told */
	if (ring->server->inflight.at)
		interrupt(ring->server, ring->index);
	return 0;
}

static void let_go(struct vc_vhost_backend_ring *ring)
{
	struct vc_virtio *v = ring->server->v;

	ring->live = false;
	ring->position = vc_virtq_take_position(v, ring->index);
	if (!any_live(ring->server))
		vc_virtio_set_status(v, 0);
}

int vc_vhost_backend_update(struct vc_vhost_backend_ring *ring)
{
	bool wanted = ring->started && ring->enabled;

	if (wanted == ring->live)
		return 0;
	if (wanted)
		return take_up(ring);
	let_go(ring);
	return 0;
}

void vc_vhost_backend_reset(struct vcore_vhost_user *s)
{
	for (uint32_t i = 0; i < s->ring_count; i++) {
		struct vc_vhost_backend_ring *ring = &s->rings[i];

		if (ring->live)
			let_go(ring);
		vc_vhost_backend_set_kick(ring, -1);
		vc_vhost_backend_set_call(ring, -1);
		ring->setup = (struct vc_virtq_setup){0};
		ring->position = 0;
		ring->started = ring->enabled = false;
	}
	vc_vhost_backend_drop_inflight(s);
	vc_vhost_backend_drop_memory(s);
	vc_vhost_backend_set_log(s, -1, 0, 0);
	vc_vhost_backend_set_channel(s, -1);
	atomic_store(&s->logging, false);
	s->features = s->protocol = 0;
	s->status = 0;
}
