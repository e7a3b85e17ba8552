/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calling a peer, again where it was lost, or waiting for one: one connection at a time. */
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "net/socket.h"

#define RECONNECT_MS     1000
#define RECONNECT_MS_MAX 3600000

bool vc_link_socket_enter(struct vc_link_socket *link)
{
	pthread_mutex_lock(&link->turn);
	if (!link->closing)
		return true;
	pthread_mutex_unlock(&link->turn);
	return false;
}

void vc_link_socket_leave(struct vc_link_socket *link)
{
	pthread_mutex_unlock(&link->turn);
}

void vc_link_socket_end(struct vc_link_socket *link)
{
	pthread_mutex_lock(&link->turn);
	link->closing = true;
	pthread_mutex_unlock(&link->turn);
}

static void later(struct vc_link_socket *link)
{
	if (link->again_ns)
		vc_timer_arm(link->timer, vc_clock_now(link->env->clock) + link->again_ns);
}

/* The watch's descriptor is a connection now, or nothing. */
static int take_fd(struct vc_link_socket *link)
{
	int fd = link->fd;

	vc_watch_free(link->watch);
	link->watch = NULL;
	link->fd = -1;
	return fd;
}

static void hand_over(struct vc_link_socket *link, int fd)
{
	int on = 1;

	/* of no use, and refused, where it is not TCP */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	link->connected(link->ctx, fd, link->datagrams);
}

/* ---- calling ---- */

/* An attempt has come to its end. */
static void called(struct vc_link_socket *link)
{
	int error = 0, fd = take_fd(link);
	socklen_t length = sizeof error;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 || error) {
		vc_log(link->env->log, VCORE_LOG_INFO, "net=socket: the peer does not answer: %s", strerror(error));
		close(fd);
		later(link);
		return;
	}
	hand_over(link, fd);
}

static void call_event(void *ctx, uint32_t events)
{
	struct vc_link_socket *link = ctx;

	if (!vc_link_socket_enter(link))
		return;
	called(link);
	vc_link_socket_leave(link);
}

/* A datagram socket stays bound between attempts: that is how two that call each other meet. */
static int new_socket(struct vc_link_socket *link)
{
	int type = (link->datagrams ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK;
	int fd = socket(link->address.any.sa_family, type, 0), r;

	if (fd < 0)
		return vc_fail_errno(errno, "a socket for net=socket");
	if (link->datagrams && bind(fd, &link->local.any, vc_address_length(&link->local)) < 0) {
		r = vc_fail_errno(errno, "property local: cannot bind %s", link->local.un.sun_path);
		close(fd);
		return r;
	}
	link->bound = link->datagrams;
	return fd;
}

/* A connection, or one under way (link->fd, and a watch). */
static int try_to_call(struct vc_link_socket *link)
{
	int fd = link->fd >= 0 ? link->fd : new_socket(link), r;

	if (fd < 0)
		return fd;
	link->fd = -1;
	if (connect(fd, &link->address.any, vc_address_length(&link->address)) == 0) {
		hand_over(link, fd);
		return 0;
	}
	r = errno == EINPROGRESS ? 0 : vc_fail_errno(errno, "net=socket: cannot connect");
	if (!r || link->datagrams)
		link->fd = fd;
	if (!r)
		r = vc_watch_new(link->env->loop, fd, EPOLLOUT, call_event, link, &link->watch);
	else if (!link->datagrams)
		close(fd);
	return r;
}

static void call(void *ctx)
{
	struct vc_link_socket *link = ctx;

	if (!vc_link_socket_enter(link))
		return;
	if (try_to_call(link) < 0)
		later(link);
	vc_link_socket_leave(link);
}

/* ---- waiting ---- */

static void accept_event(void *ctx, uint32_t events)
{
	struct vc_link_socket *link = ctx;
	int fd;

	if (!vc_link_socket_enter(link))
		return;
	fd = accept4(link->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0) {
		vc_watch_set_events(link->watch, 0);
		hand_over(link, fd);
	}
	vc_link_socket_leave(link);
}

static int wait_for_call(struct vc_link_socket *link)
{
	int fd = vc_address_listen("net=socket", &link->address, 1);

	if (fd < 0)
		return fd;
	link->fd = fd;
	return vc_watch_new(link->env->loop, fd, EPOLLIN, accept_event, link, &link->watch);
}

void vc_link_socket_lost(struct vc_link_socket *link)
{
	if (link->listens)
		vc_watch_set_events(link->watch, EPOLLIN);
	else if (!link->given)
		later(link);
}

/* ---- a connection that the program made ---- */

static int take_given(struct vc_link_socket *link, uint64_t number)
{
	int type, fd = fcntl((int)number, F_DUPFD_CLOEXEC, 0);
	socklen_t length = sizeof type;

	if (fd < 0)
		return vc_fail_errno(errno, "property fd: descriptor %d", (int)number);
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0 || (type != SOCK_STREAM && type != SOCK_DGRAM)) {
		close(fd);
		return vc_fail(EINVAL, "property fd: descriptor %d is not a stream or datagram socket", (int)number);
	}
	link->given = true;
	link->datagrams = type == SOCK_DGRAM;
	hand_over(link, fd);
	return 0;
}

/* ---- */

static int read_addresses(struct vc_link_socket *link, const char *peer, const char *local)
{
	int r;

	if (!peer)
		return vc_fail(EINVAL, "net=socket needs a property socket=ADDRESS or fd=N");
	r = vc_address_parse("property socket:", peer, &link->address);
	if (r < 0 || !local)
		return r;
	link->datagrams = true;
	if (link->listens || link->address.any.sa_family != AF_UNIX)
		return vc_fail(EINVAL, "property local: only a Unix datagram socket that calls its peer has one");
	link->local.un.sun_family = AF_UNIX;
	if (!*local || strlen(local) >= sizeof link->local.un.sun_path)
		return vc_fail(EINVAL, "property local is \"%.80s\": expected a path of 1 to %zu bytes", local,
		               sizeof link->local.un.sun_path - 1);
	memcpy(link->local.un.sun_path, local, strlen(local) + 1);
	return 0;
}

/* With the turn. */
static int open_link(struct vc_link_socket *link, struct vc_props *props)
{
	const char *peer = vc_props_string(props, "socket", NULL), *local = vc_props_string(props, "local", NULL);
	bool patient = vc_props_string(props, "reconnect", NULL);
	uint64_t fd, reconnect;
	int r;

	r = vc_props_u64(props, "fd", UINT64_MAX, 0, INT32_MAX, &fd);
	if (r >= 0)
		r = vc_props_bool(props, "listen", false, &link->listens);
	if (r >= 0)
		r = vc_props_u64(props, "reconnect", RECONNECT_MS, 0, RECONNECT_MS_MAX, &reconnect);
	if (r < 0)
		return r;
	link->again_ns = reconnect * 1000000;
	if (fd != UINT64_MAX)
		return take_given(link, fd);
	r = read_addresses(link, peer, local);
	if (r >= 0)
		r = vc_timer_new(link->env->loop, call, link, &link->timer);
	if (r < 0)
		return r;
	if (link->listens)
		return wait_for_call(link);
	r = try_to_call(link);
	/* who asked for new attempts need not have the peer there already */
	if (r < 0 && patient && link->again_ns) {
		later(link);
		return 0;
	}
	return r;
}

int vc_link_socket_open(struct vc_env *env, struct vc_props *props,
                        void (*connected)(void *ctx, int fd, bool datagrams), void *ctx, struct vc_link_socket *link)
{
	int r;

	*link = (struct vc_link_socket){.env = env, .connected = connected, .ctx = ctx, .fd = -1};
	pthread_mutex_init(&link->turn, NULL);
	pthread_mutex_lock(&link->turn);
	r = open_link(link, props);
	pthread_mutex_unlock(&link->turn);
	return r;
}

void vc_link_socket_close(struct vc_link_socket *link)
{
	vc_timer_free(link->timer);
	vc_watch_free(link->watch);
	if (link->fd >= 0)
		close(link->fd);
	if (link->fd >= 0 && link->listens)
		vc_address_unlisten(&link->address);
	if (link->bound)
		unlink(link->local.un.sun_path);
	pthread_mutex_destroy(&link->turn);
}
