/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Socket device (5.10): streams between the guest and unix sockets of the host.
 *
 * Connections live as long as the driver does not begin anew. A saved state has none: whoever loads it tells the guest
 * so with a transport reset event (5.10.6.7), while those of the vm that was saved go on.
 */
#include "virtio/vsock.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <virtcore/error.h>

#include "chipset/dev_state.h"
#include "virtio/device_priv.h"
#include "virtio/types.h"

#define F_STREAM (1ull << 0)

enum { STATE_VERSION = 1, EVENT_TRANSPORT_RESET = 0, PORT_DIGITS = sizeof "_4294967295" - 1, QUEUE_SIZE = 256 };

struct vsock_state {
	uint32_t version, pad;
};

/* ---- queues ---- */

static bool may_give(struct vc_vsock *vs)
{
	bool may;

	pthread_mutex_lock(&vs->lock);
	may = vc_vsock_may_give(vs);
	pthread_mutex_unlock(&vs->lock);
	return may;
}

/* True: the chain is gone. */
static bool give(struct vc_vsock *vs, struct vc_virtq_chain *chain)
{
	uint32_t n = 0;

	if (chain->in_bytes <= sizeof(struct vc_vsock_header)) {
		vc_virtio_broken(vs->v, "a buffer to receive of %u bytes", chain->in_bytes);
		vc_virtq_push(chain, 0);
		return true;
	}
	pthread_mutex_lock(&vs->lock);
	n = vc_vsock_give_packet(vs, chain);
	pthread_mutex_unlock(&vs->lock);
	if (n)
		vc_virtq_push(chain, n);
	else
		vc_virtq_unpop(chain);
	return n;
}

static void receive(struct vc_vsock *vs, struct vc_virtq *q)
{
	struct vc_virtq_chain *chain;

	do {
		vc_virtq_notify_off(q);
		while (may_give(vs) && vc_virtq_pop(q, &chain) > 0)
			give(vs, chain);
		vc_virtq_flush(q);
		/* with nothing to say nobody cares for further buffers */
	} while (may_give(vs) && vc_virtq_notify_on(q));
}

static bool may_take(struct vc_vsock *vs)
{
	bool may;

	pthread_mutex_lock(&vs->lock);
	may = vc_vsock_may_take(vs);
	pthread_mutex_unlock(&vs->lock);
	return may;
}

static void transmit(struct vc_vsock *vs, struct vc_virtq *q)
{
	struct vc_virtq_chain *chain;
	bool may = true;

	do {
		vc_virtq_notify_off(q);
		while ((may = may_take(vs)) && vc_virtq_pop(q, &chain) > 0) {
			pthread_mutex_lock(&vs->lock);
			vc_vsock_take_packet(vs, chain);
			pthread_mutex_unlock(&vs->lock);
			vc_virtq_push(chain, 0);
		}
		vc_virtq_flush(q);
	} while (may && vc_virtq_notify_on(q));
}

/* Notifications stay on: there is hardly ever anything to say. */
static void send_event(struct vc_vsock *vs, struct vc_virtq *q)
{
	static const uint32_t event = EVENT_TRANSPORT_RESET;
	struct vc_virtq_chain *chain;
	bool wanted;

	pthread_mutex_lock(&vs->lock);
	wanted = vs->event;
	pthread_mutex_unlock(&vs->lock);
	if (!wanted || vc_virtq_pop(q, &chain) <= 0)
		return;
	vc_virtq_push(chain, (uint32_t)vc_iov_from_buffer(chain->in, chain->in_count, 0, &event, sizeof event));
	vc_virtq_flush(q);
	pthread_mutex_lock(&vs->lock);
	vs->event = false;
	pthread_mutex_unlock(&vs->lock);
}

static void vsock_notify(void *ctx, struct vc_virtq *q)
{
	static void (*const served[VC_VSOCK_QUEUES])(struct vc_vsock * vs, struct vc_virtq * q) = {
	    [VC_VSOCK_RXQ] = receive,
	    [VC_VSOCK_TXQ] = transmit,
	    [VC_VSOCK_EVENTQ] = send_event,
	};

	served[vc_virtq_index(q)](ctx, q);
}

/* The kernel has the others. */
static void kernel_notify(void *ctx, struct vc_virtq *q)
{
	if (vc_virtq_index(q) == VC_VSOCK_EVENTQ)
		send_event(ctx, q);
}

static void kernel_called(void *ctx)
{
	struct vc_vsock *vs = ctx;

	vs->env->kernel->called(vs->kernel);
}

/* ---- the loop ---- */

static void sockets_ready(void *ctx, uint32_t events)
{
	struct vc_vsock *vs = ctx;

	pthread_mutex_lock(&vs->lock);
	if (vs->running)
		vc_vsock_serve(vs);
	pthread_mutex_unlock(&vs->lock);
}

static void retry_accept(void *ctx)
{
	struct vc_vsock *vs = ctx;

	pthread_mutex_lock(&vs->lock);
	if (vs->running)
		vc_vsock_set_listening(vs, true);
	pthread_mutex_unlock(&vs->lock);
}

/* ---- the device ---- */

static uint64_t vsock_features(void *ctx)
{
	return F_STREAM;
}

static void vsock_config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
	memcpy(data, (const uint8_t *)&((struct vc_vsock *)ctx)->cid + offset, length);
}

static void vsock_start(void *ctx)
{
	struct vc_vsock *vs = ctx;

	pthread_mutex_lock(&vs->lock);
	vs->running = true;
	vc_vsock_set_listening(vs, true);
	pthread_mutex_unlock(&vs->lock);
	vc_watch_set_events(vs->watch, EPOLLIN);
}

/* While the device only pauses, to be saved, its connections wait. */
static void vsock_stop(void *ctx)
{
	struct vc_vsock *vs = ctx;

	vc_watch_set_events(vs->watch, 0);
	pthread_mutex_lock(&vs->lock);
	vs->running = false;
	if (!vc_virtio_is_pausing(vs->v)) {
		vc_vsock_set_listening(vs, false);
		vc_vsock_drop_all(vs);
		vs->event = false;
	}
	pthread_mutex_unlock(&vs->lock);
}

static void kernel_start(void *ctx)
{
	struct vc_vsock *vs = ctx;

	if (vs->env->kernel->start(vs->kernel, vs->v) < 0)
		vc_virtio_broken(vs->v, "%s", vcore_error_message());
}

static void kernel_stop(void *ctx)
{
	struct vc_vsock *vs = ctx;

	vs->env->kernel->stop(vs->kernel);
	if (vc_virtio_is_pausing(vs->v))
		return;
	pthread_mutex_lock(&vs->lock);
	vs->event = false;
	pthread_mutex_unlock(&vs->lock);
}

static int64_t vsock_save(void *ctx, void *buffer, size_t length)
{
	struct vsock_state state = {.version = STATE_VERSION};

	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int vsock_load(void *ctx, const void *buffer, size_t length)
{
	struct vc_vsock *vs = ctx;
	struct vsock_state state;
	int r = vc_dev_state_in("virtio-vsock", STATE_VERSION, &state, sizeof state, buffer, length);

	pthread_mutex_lock(&vs->lock);
	vs->event = r >= 0;
	pthread_mutex_unlock(&vs->lock);
	return r;
}

static unsigned vsock_statistics(void *ctx, struct vc_stat stats[VC_STATS_MAX])
{
	struct vc_vsock *vs = ctx;

	pthread_mutex_lock(&vs->lock);
	stats[0] = (struct vc_stat){"connections", vs->connections};
	stats[1] = (struct vc_stat){"sent_bytes", vs->sent};
	stats[2] = (struct vc_stat){"received_bytes", vs->received};
	pthread_mutex_unlock(&vs->lock);
	return 3;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void vsock_destroy(void *ctx)
{
	struct vc_vsock *vs = ctx;

	vc_watch_free(vs->watch);
	vc_timer_free(vs->retry);
	if (vs->kernel)
		vs->env->kernel->free(vs->kernel);
	if (vs->bound)
		unlink(vs->address.sun_path);
	close_fd(vs->listener);
	close_fd(vs->epoll);
	pthread_mutex_destroy(&vs->lock);
	free(vs);
}

static const struct vc_virtio_ops vsock_ops = {
    .type = "virtio-vsock",
    .id = VC_VIRTIO_VSOCK,
    .pci_class = 0x028000,
    .config_size = sizeof(uint64_t),
    .in_order = true,
    .features = vsock_features,
    .config_read = vsock_config_read,
    .start = vsock_start,
    .stop = vsock_stop,
    .notify = vsock_notify,
    .save = vsock_save,
    .load = vsock_load,
    .statistics = vsock_statistics,
    .destroy = vsock_destroy,
};

static uint64_t kernel_features(void *ctx)
{
	const struct vc_vsock *vs = ctx;

	return vs->env->kernel->features(vs->kernel) & F_STREAM;
}

static unsigned kernel_statistics(void *ctx, struct vc_stat stats[VC_STATS_MAX])
{
	return vc_served_statistics(((struct vc_vsock *)ctx)->v, stats);
}

static const struct vc_virtio_ops kernel_ops = {
    .type = "virtio-vsock",
    .id = VC_VIRTIO_VSOCK,
    .pci_class = 0x028000,
    .config_size = sizeof(uint64_t),
    .features = kernel_features,
    .config_read = vsock_config_read,
    .start = kernel_start,
    .stop = kernel_stop,
    .notify = kernel_notify,
    .called = kernel_called,
    .save = vsock_save,
    .load = vsock_load,
    .statistics = kernel_statistics,
    .destroy = vsock_destroy,
};

/* ---- making ---- */

/* In a directory the sockets are called vsock and vsock_P. */
static int set_path(struct vc_vsock *vs, const char *path)
{
	size_t room = sizeof vs->address.sun_path - PORT_DIGITS;
	struct stat st;
	bool directory;

	if (!path || !*path)
		return vc_fail(EINVAL, "virtio-vsock: property path is missing: expected a directory, or the path of a socket");
	directory = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
	vs->address.sun_family = AF_UNIX;
	if ((size_t)snprintf(vs->address.sun_path, room, "%s%s", path, directory ? "/vsock" : "") >= room)
		return vc_fail(ENAMETOOLONG, "virtio-vsock: path=%s: expected less than %zu bytes", path, room);
	return 0;
}

static int use_kernel(struct vc_vsock *vs, struct vc_props *props)
{
	int r = vc_kernel_check_rings(vs->env, props);

	if (r >= 0 && !vs->env->kernel)
		r = vc_fail(ENOTSUP, "property vhost: nobody makes use of the kernel's vhost here");
	return r < 0 ? r : vs->env->kernel->vsock(vs->env, vs->cid, &vs->kernel);
}

static int set_up(struct vc_vsock *vs, struct vc_props *props)
{
	enum vc_kernel_wish wish = VC_KERNEL_OFF;
	int r = vc_props_u64(props, "cid", 3, 3, UINT32_MAX - 1, &vs->cid);

	if (r >= 0)
		r = vc_kernel_read_wish(props, &wish);
	if (r >= 0 && wish != VC_KERNEL_OFF) {
		r = use_kernel(vs, props);
		if (r < 0)
			r = vc_kernel_fall_back(vs->env, "virtio-vsock", wish, r);
	}
	/* host's programs reach the guest by sockets of the kernel's then; a path is for where they cannot */
	vc_props_string(props, "path", NULL);
	if (vs->kernel)
		return r;
	if (r >= 0)
		r = set_path(vs, vc_props_string(props, "path", NULL));
	if (r >= 0)
		r = vc_timer_new(vs->env->loop, retry_accept, vs, &vs->retry);
	if (r >= 0)
		r = vc_vsock_listen(vs);
	return r < 0 ? r : vc_watch_new(vs->env->loop, vs->epoll, 0, sockets_ready, vs, &vs->watch);
}

static int vsock_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	static const uint16_t sizes[VC_VSOCK_QUEUES] = {QUEUE_SIZE, QUEUE_SIZE, 16};
	struct vc_vsock *vs = calloc(1, sizeof *vs);
	struct vc_virtio_config config = {.ops = &vsock_ops, .ctx = vs, .queues = VC_VSOCK_QUEUES, .sizes = sizes};
	int r;

	if (!vs)
		return vc_fail(ENOMEM, "no memory for a virtio-vsock");
	vs->env = env;
	vs->epoll = vs->listener = -1;
	pthread_mutex_init(&vs->lock, NULL);
	TAILQ_INIT(&vs->ready);
	TAILQ_INIT(&vs->hellos);
	r = set_up(vs, props);
	if (r < 0) {
		vsock_destroy(vs);
		return r;
	}
	if (vs->kernel) {
		config.ops = &kernel_ops;
		config.served = VC_VSOCK_EVENTQ;
	}
	return vc_virtio_add(env, props, &config, &vs->v, dev);
}

const struct vc_device_type vc_virtio_vsock_type = {
    .name = "virtio-vsock",
    .summary = "sockets between the guest and the host's unix sockets",
    .properties =
        "cid        context ID of the guest, from 3 on (3)\n"
        "path       unix socket where the host's programs connect and say CONNECT port; port P of the host (CID 2) is\n"
        "           the unix socket PATH_P; of a directory: DIRECTORY/vsock and "
        "DIRECTORY/vsock_P; with vhost the host's programs use AF_VSOCK\n" VC_KERNEL_PROPERTIES VC_VIRTIO_PROPERTIES,
    .create = vsock_create,
};
