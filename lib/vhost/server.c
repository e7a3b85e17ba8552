/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A back-end as the program makes it: the device with its surroundings, and the socket where front-ends connect. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <virtcore/error.h>

#include "core/error.h"
#include "core/util.h"
#include "device/device.h"
#include "vhost/backend.h"

#define ACCEPT_AGAIN_NS 1000000000ull /* after the process had no descriptor left */

/* ---- connections: on the loop ---- */

static void heed_listener(void *ctx)
{
	struct vcore_vhost_user *s = ctx;

	if (s->listen_watch)
		vc_watch_set_events(s->listen_watch, EPOLLIN);
}

static void hang_up(struct vcore_vhost_user *s)
{
	if (s->fd < 0)
		return;
	vc_watch_free(s->watch);
	s->watch = NULL;
	vc_vhost_backend_reset(s);
	close(s->fd);
	s->fd = -1;
	heed_listener(s);
}

static void on_message(void *ctx, uint32_t events)
{
	struct vcore_vhost_user *s = ctx;
	int r = vc_vhost_backend_serve(s);

	if (r >= 0)
		return;
	if (r == -ECONNRESET)
		vc_log(&s->log, VCORE_LOG_INFO, "vhost-user %s: the front-end is gone", s->kind->type);
	else
		vc_log(&s->log, VCORE_LOG_WARN, "vhost-user %s: the front-end is turned out: %s", s->kind->type,
		       vcore_error_message());
	hang_up(s);
}

/* Takes fd over, also on failure. */
static int connect_to(struct vcore_vhost_user *s, int fd)
{
	int r = vc_watch_new(s->loop, fd, 0, on_message, s, &s->watch);

	if (r < 0) {
		close(fd);
		return r;
	}
	s->fd = fd;
	return vc_watch_set_events(s->watch, EPOLLIN);
}

static void on_listener(void *ctx, uint32_t events)
{
	struct vcore_vhost_user *s = ctx;
	int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return;
	/* one at a time: others wait */
	vc_watch_set_events(s->listen_watch, 0);
	if (fd >= 0 && connect_to(s, fd) >= 0) {
		vc_log(&s->log, VCORE_LOG_INFO, "vhost-user %s: a front-end is there", s->kind->type);
		return;
	}
	vc_log(&s->log, VCORE_LOG_WARN, "vhost-user %s: a front-end cannot be accepted", s->kind->type);
	vc_timer_arm(s->again, vc_clock_now(&s->clock) + ACCEPT_AGAIN_NS);
}

/* ---- the socket ---- */

static int listen_at(struct vcore_vhost_user *s, const char *path)
{
	int r = vc_address_unix("vhost-user", path, &s->address);

	if (r < 0)
		return r;
	vc_address_unlisten_stale(&s->address);
	s->listener = r = vc_address_listen("vhost-user", &s->address, 4);
	s->named = r >= 0;
	return r;
}

/* A listening socket, or a connection. */
static int take_socket(struct vcore_vhost_user *s, const char *number)
{
	char *end;
	long n = strtol(number, &end, 10);
	int fd, listens = 0;
	socklen_t size = sizeof listens;

	if (*number < '0' || *number > '9' || *end || n > INT32_MAX)
		return vc_fail(EINVAL, "vhost-user socket fd:%.40s: expected the number of a descriptor", number);
	fd = fcntl((int)n, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return vc_fail_errno(errno, "vhost-user socket fd:%ld", n);
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0 || fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0) {
		int r = vc_fail_errno(errno, "vhost-user socket fd:%ld", n);

		close(fd);
		return r;
	}
	if (!listens)
		return connect_to(s, fd);
	s->listener = fd;
	return 0;
}

static int open_socket(struct vcore_vhost_user *s, const char *socket)
{
	int r = strncmp(socket, "fd:", 3) ? listen_at(s, socket) : take_socket(s, socket + 3);

	if (r < 0 || s->listener < 0)
		return r;
	r = vc_timer_new(s->loop, heed_listener, s, &s->again);
	if (r >= 0)
		r = vc_watch_new(s->loop, s->listener, 0, on_listener, s, &s->listen_watch);
	heed_listener(s);
	return r;
}

/* ---- the device ---- */

static int make_device(struct vcore_vhost_user *s, const char *properties)
{
	const struct vc_device_type *type = vc_device_type_find(s->kind->type);
	struct vc_props *props;
	int r = vc_props_parse(properties, &props);

	if (r < 0)
		return r;
	r = type->create(&s->env, props, &s->dev);
	if (r >= 0)
		r = vc_props_finish(props, type->name);
	vc_props_free(props);
	return r;
}

static void set_options(struct vcore_vhost_user *s, const struct vcore_vhost_user_options *o)
{
	s->log = (struct vc_log){o->log, o->log_ctx, (enum vcore_log_level)o->log_level};
	s->allow_unsealed = o->allow_unsealed != 0;
	s->env = (struct vc_env){
	    .buses = &s->buses,
	    .mem = &s->mem,
	    .loop = s->loop,
	    .clock = &s->clock,
	    .log = &s->log,
	    .switches = &s->switches,
	    .virtio_host = &vc_vhost_backend_host,
	};
}

static int make(struct vcore_vhost_user *s, const char *properties, const char *socket,
                const struct vcore_vhost_user_options *o)
{
	int r = vc_loop_new(&s->clock, true, &s->loop);

	if (r < 0)
		return r;
	/* so that it is not driven before all is there */
	vc_loop_hold(s->loop);
	set_options(s, o);
	/* rings of other programs' own may lie anywhere */
	s->mem.gpa_limit = 1ull << 63;
	s->mem.listener = &vc_vhost_backend_listener;
	s->mem.listener_ctx = s;
	if (o->switch_name)
		r = vc_switch_names_add(&s->switches, o->switch_name, o->sw);
	if (r >= 0)
		r = make_device(s, properties);
	if (r >= 0)
		r = open_socket(s, socket);
	vc_loop_release(s->loop);
	return r;
}

/* NULL: no memory. */
static struct vcore_vhost_user *new_server(void)
{
	struct vcore_vhost_user *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->fd = s->listener = s->channel = -1;
	pthread_mutex_init(&s->channel_lock, NULL);
	vc_gate_init(&s->gate);
	vc_clock_init(&s->clock);
	vc_mem_init(&s->mem, &s->gate);
	vc_buses_init(&s->buses, &s->gate);
	vc_switch_names_init(&s->switches);
	vc_vhost_backend_init(s);
	return s;
}

int vcore_vhost_user_serve(const char *type, const char *properties, const char *socket,
                           const struct vcore_vhost_user_options *options, vcore_vhost_user **out)
{
	struct vcore_vhost_user_options o = {.size = sizeof o};
	const struct vc_vhost_served_kind *kind;
	struct vcore_vhost_user *s;
	int r;

	if (!type || !socket || !out || (options && vc_struct_in(&o, sizeof o, options) < 0))
		return vc_fail(EINVAL, "vcore_vhost_user_serve: a type, a socket and options with their size set are needed");
	if (!o.sw != !o.switch_name)
		return vc_fail(EINVAL, "vcore_vhost_user_serve: options.sw and options.switch_name go together");
	kind = vc_vhost_served_kind(type);
	if (!kind)
		return vc_fail(ENOENT,
		               "device type \"%.40s\" cannot be served: expected virtio-blk, virtio-net, virtio-console "
		               "or virtio-rng",
		               type);
	s = new_server();
	if (!s)
		return vc_fail(ENOMEM, "no memory for a vhost-user back-end");
	s->kind = kind;
	r = make(s, properties, socket, &o);
	if (r < 0)
		vcore_vhost_user_free(s);
	else
		*out = s;
	return r < 0 ? r : 0;
}

vcore_device *vcore_vhost_user_device(vcore_vhost_user *s)
{
	return s ? (vcore_device *)s->dev : NULL;
}

static void close_listener(struct vcore_vhost_user *s)
{
	vc_watch_free(s->listen_watch);
	s->listen_watch = NULL;
	vc_timer_free(s->again);
	if (s->listener >= 0)
		close(s->listener);
	if (s->named)
		vc_address_unlisten(&s->address);
}

void vcore_vhost_user_free(vcore_vhost_user *s)
{
	if (!s)
		return;
	if (s->loop) {
		vc_loop_hold(s->loop);
		close_listener(s);
		hang_up(s);
		vc_loop_release(s->loop);
	}
	vc_buses_fini(&s->buses);
	vc_loop_free(s->loop);
	vc_mem_fini(&s->mem);
	vc_switch_names_fini(&s->switches);
	for (uint32_t i = 0; i < VC_VHOST_BACKEND_QUEUES_MAX; i++)
		pthread_mutex_destroy(&s->rings[i].lock);
	pthread_mutex_destroy(&s->channel_lock);
	vc_gate_fini(&s->gate);
	free(s);
}
