/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The network of the process itself by libslirp: the guest sees a router with DHCP, DNS and NAT; no privilege is
 * needed.
 *
 * libslirp runs under one lock, on the threads that send and on the loop's. What it has for the guest is put aside and
 * delivered by the loop's thread, without the lock.
 */
#include "net/user.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { ASIDE_SIZE = 512 << 10, BATCH = 64, PREFIX = 4, NS_PER_MS = 1000000 };

/* Frames that wait for the guest: each its length and its bytes. */
struct aside {
	size_t start, end;
	uint8_t data[ASIDE_SIZE];
};

struct user {
	struct vc_net *net;
	struct vc_watch *watch; /* of epoll_fd */
	struct vc_timer *timer; /* libslirp wants to be asked again */
	_Atomic bool posted;    /* a turn is on its way */
	struct aside *leaving;  /* the loop's: what the guest is given now */

	pthread_mutex_t lock; /* protects all below, and libslirp; held where `watch` and `timer` are used */
	bool closing;         /* they are not used any more, and nothing is posted */
	Slirp *slirp;
	struct aside *waiting; /* what libslirp adds to */
	/* What libslirp wants to know of descriptors, for the next turn. */
	struct pollfd *polls;
	nfds_t poll_count, poll_space;
	/* The same ones are in epoll_fd, so that the loop wakes; watched[fd]: the events there, 0: it is not in. */
	int epoll_fd;
	uint32_t *watched;
	int watched_space;
};

/* ---- descriptors: under the lock ---- */

static const struct {
	int slirp;
	short poll;
	uint32_t epoll;
} event_rows[] = {
    {SLIRP_POLL_IN, POLLIN, EPOLLIN},    {SLIRP_POLL_OUT, POLLOUT, EPOLLOUT}, {SLIRP_POLL_PRI, POLLPRI, EPOLLPRI},
    {SLIRP_POLL_ERR, POLLERR, EPOLLERR}, {SLIRP_POLL_HUP, POLLHUP, EPOLLHUP},
};

static bool watched_space(struct user *u, int fd)
{
	int space = u->watched_space ? u->watched_space : 64;
	uint32_t *watched;

	if (fd < u->watched_space)
		return true;
	while (space <= fd)
		space *= 2;
	watched = realloc(u->watched, (size_t)space * sizeof *watched);
	if (!watched)
		return false;
	memset(watched + u->watched_space, 0, (size_t)(space - u->watched_space) * sizeof *watched);
	u->watched = watched;
	u->watched_space = space;
	return true;
}

static void watch(struct user *u, int fd, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.fd = fd};

	if (!watched_space(u, fd) || u->watched[fd] == events)
		return;
	/* a descriptor that was closed has left the set by itself */
	if (!events)
		epoll_ctl(u->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	else if (epoll_ctl(u->epoll_fd, EPOLL_CTL_MOD, fd, &e) < 0)
		epoll_ctl(u->epoll_fd, EPOLL_CTL_ADD, fd, &e);
	u->watched[fd] = events;
}

static int add_poll(int fd, int events, void *opaque)
{
	struct user *u = opaque;
	uint32_t epoll = 0;
	short poll = 0;

	if (u->poll_count == u->poll_space) {
		nfds_t space = u->poll_space ? u->poll_space * 2 : 64;
		struct pollfd *polls = realloc(u->polls, space * sizeof *polls);

		if (!polls)
			return -1;
		u->polls = polls;
		u->poll_space = space;
	}
	for (size_t i = 0; i < VC_ARRAY_SIZE(event_rows); i++) {
		poll |= events & event_rows[i].slirp ? event_rows[i].poll : 0;
		epoll |= events & event_rows[i].slirp ? event_rows[i].epoll : 0;
	}
	watch(u, fd, epoll);
	u->polls[u->poll_count] = (struct pollfd){.fd = fd, .events = poll};
	return (int)u->poll_count++;
}

static int get_revents(int index, void *opaque)
{
	struct user *u = opaque;
	int events = 0;

	if (index < 0 || (nfds_t)index >= u->poll_count)
		return 0;
	for (size_t i = 0; i < VC_ARRAY_SIZE(event_rows); i++)
		events |= u->polls[index].revents & event_rows[i].poll ? event_rows[i].slirp : 0;
	return events;
}

/* Ask libslirp anew what it waits for. */
static void refill(struct user *u)
{
	nfds_t old_count = u->poll_count;
	struct pollfd *old = u->polls;
	uint32_t timeout = UINT32_MAX;

	u->polls = NULL;
	u->poll_count = u->poll_space = 0;
	slirp_pollfds_fill(u->slirp, &timeout, add_poll, u);
	for (nfds_t i = 0; i < old_count; i++)
		old[i].events = 0;
	for (nfds_t i = 0; i < old_count; i++) {
		nfds_t n = 0;

		while (n < u->poll_count && u->polls[n].fd != old[i].fd)
			n++;
		if (n == u->poll_count)
			watch(u, old[i].fd, 0);
	}
	free(old);
	if (timeout != UINT32_MAX)
		vc_timer_arm(u->timer, vc_clock_now(u->net->env->clock) + (uint64_t)timeout * NS_PER_MS);
}

/* ---- towards the guest: on the loop's thread ---- */

static unsigned next_frames(const struct aside *a, struct vc_net_frame *frames, struct iovec *iov)
{
	size_t at = a->start;
	unsigned count = 0;

	while (count < BATCH && at < a->end) {
		uint32_t length = vc_ld32(a->data + at);

		iov[count] = (struct iovec){(void *)(uintptr_t)(a->data + at + PREFIX), length};
		/* libslirp has just made the checksums */
		frames[count] = (struct vc_net_frame){
		    .hdr.flags = NET_HDR_DATA_VALID, .iov = &iov[count], .iov_count = 1, .length = length};
		count++;
		at += PREFIX + length;
	}
	return count;
}

/* False: the rest waits for room. */
static bool deliver(struct user *u)
{
	struct vc_net_frame frames[BATCH];
	struct iovec iov[BATCH];
	struct aside *a = u->leaving;
	unsigned count;

	while ((count = next_frames(a, frames, iov)) > 0) {
		unsigned done = vc_net_deliver(u->net, 0, frames, count, true);

		for (unsigned i = 0; i < done; i++)
			a->start += PREFIX + frames[i].length;
		if (done < count)
			return false;
	}
	return true;
}

/* Deliver all that there is. */
static bool deliver_all(struct user *u)
{
	for (;;) {
		struct aside *empty;
		bool more;

		if (!deliver(u))
			return false;
		empty = u->leaving;
		empty->start = empty->end = 0;
		pthread_mutex_lock(&u->lock);
		more = u->waiting->end > 0;
		u->leaving = u->waiting;
		u->waiting = empty;
		pthread_mutex_unlock(&u->lock);
		if (!more)
			return true;
	}
}

/* Let libslirp do what it can do now. */
static void poll_slirp(struct user *u)
{
	pthread_mutex_lock(&u->lock);
	if (!u->closing && u->slirp) {
		poll(u->polls, u->poll_count, 0);
		slirp_pollfds_poll(u->slirp, 0, get_revents, u);
		refill(u);
	}
	pthread_mutex_unlock(&u->lock);
}

static void turn(void *ctx)
{
	struct user *u = ctx;
	bool room;

	atomic_store(&u->posted, false);
	room = deliver_all(u);
	if (room) {
		poll_slirp(u);
		room = deliver_all(u);
	}
	/* without room the peers wait: nothing is read for them until user_resume() */
	pthread_mutex_lock(&u->lock);
	if (!u->closing)
		vc_watch_set_events(u->watch, room ? EPOLLIN : 0);
	pthread_mutex_unlock(&u->lock);
}

static void user_event(void *ctx, uint32_t events)
{
	turn(ctx);
}

/* Under the lock. */
static void post_turn(struct user *u)
{
	if (!u->closing && !atomic_exchange(&u->posted, true) && vc_loop_post(u->net->env->loop, turn, u) < 0)
		atomic_store(&u->posted, false);
}

/* ---- what libslirp calls: under the lock ---- */

static ssize_t send_packet(const void *data, size_t length, void *opaque)
{
	struct user *u = opaque;
	struct aside *a = u->waiting;

	if (length < ETH_HEADER || length > VC_NET_FRAME_MAX || ASIDE_SIZE - a->end < PREFIX + length)
		return (ssize_t)length; /* lost, as on a wire */
	vc_st32(a->data + a->end, (uint32_t)length);
	memcpy(a->data + a->end + PREFIX, data, length);
	a->end += PREFIX + length;
	return (ssize_t)length;
}

static void guest_error(const char *message, void *opaque)
{
	struct user *u = opaque;

	vc_log(u->net->env->log, VCORE_LOG_DEBUG, "net=user: the guest is wrong: %s", message);
}

static int64_t clock_get_ns(void *opaque)
{
	struct user *u = opaque;

	return (int64_t)vc_clock_now(u->net->env->clock);
}

static void forget_fd(int fd, void *opaque)
{
	watch(opaque, fd, 0);
}

static void notify(void *opaque)
{
	post_turn(opaque);
}

struct user_timer {
	struct user *user;
	struct vc_timer *timer;
	SlirpTimerId id;
	void *opaque;
};

static void timer_fired(void *ctx)
{
	struct user_timer *t = ctx;

	pthread_mutex_lock(&t->user->lock);
	if (!t->user->closing && t->user->slirp)
		slirp_handle_timer(t->user->slirp, t->id, t->opaque);
	post_turn(t->user);
	pthread_mutex_unlock(&t->user->lock);
}

static void *timer_new(SlirpTimerId id, void *cb_opaque, void *opaque)
{
	struct user_timer *t = calloc(1, sizeof *t);
	struct user *u = opaque;

	if (!t)
		return NULL;
	*t = (struct user_timer){.user = u, .id = id, .opaque = cb_opaque};
	if (vc_timer_new(u->net->env->loop, timer_fired, t, &t->timer) < 0) {
		free(t);
		return NULL;
	}
	return t;
}

/* Only from slirp_cleanup(), which runs without the lock. */
static void timer_free(void *timer, void *opaque)
{
	struct user_timer *t = timer;

	if (!t)
		return;
	vc_timer_free(t->timer);
	free(t);
}

static void timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
	struct user_timer *t = timer;

	if (t && expire_ms >= 0)
		vc_timer_arm(t->timer, (uint64_t)expire_ms * NS_PER_MS);
}

static const SlirpCb callbacks = {
    .send_packet = send_packet,
    .guest_error = guest_error,
    .clock_get_ns = clock_get_ns,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = forget_fd,
    .unregister_poll_fd = forget_fd,
    .notify = notify,
    .timer_new_opaque = timer_new,
};

/* ---- the backing ---- */

static unsigned user_send(void *ctx, unsigned queue, const struct vc_net_frame *frames, unsigned count)
{
	struct user *u = ctx;
	uint8_t copy[USER_FRAME_MAX];
	unsigned sent = 0;

	pthread_mutex_lock(&u->lock);
	for (unsigned i = 0; i < count; i++) {
		uint32_t at = 0;

		if (frames[i].length > sizeof copy)
			continue;
		for (unsigned v = 0; v < frames[i].iov_count; v++) {
			memcpy(copy + at, frames[i].iov[v].iov_base, frames[i].iov[v].iov_len);
			at += (uint32_t)frames[i].iov[v].iov_len;
		}
		slirp_input(u->slirp, copy, (int)at);
		sent++;
	}
	pthread_mutex_unlock(&u->lock);
	return count - sent;
}

static void user_flush(void *ctx, unsigned queue)
{
	struct user *u = ctx;

	pthread_mutex_lock(&u->lock);
	post_turn(u);
	pthread_mutex_unlock(&u->lock);
}

static void user_resume(void *ctx, unsigned queue)
{
	turn(ctx);
}

static void user_close(void *ctx)
{
	struct user *u = ctx;

	pthread_mutex_lock(&u->lock);
	u->closing = true;
	pthread_mutex_unlock(&u->lock);
	vc_loop_cancel_post(u->net->env->loop, turn, u);
	vc_timer_free(u->timer);
	vc_watch_free(u->watch);
	if (u->slirp)
		slirp_cleanup(u->slirp);
	if (u->epoll_fd >= 0)
		close(u->epoll_fd);
	pthread_mutex_destroy(&u->lock);
	free(u->waiting);
	free(u->leaving);
	free(u->polls);
	free(u->watched);
	free(u);
}

static const struct vc_net_ops user_ops = {
    .send = user_send,
    .flush = user_flush,
    .resume = user_resume,
    .close = user_close,
};

static int make_parts(struct user *u, struct vc_env *env)
{
	int r;

	u->waiting = calloc(1, sizeof *u->waiting);
	u->leaving = calloc(1, sizeof *u->leaving);
	u->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (!u->waiting || !u->leaving || u->epoll_fd < 0)
		return vc_fail(ENOMEM, "no memory or descriptor for net=user");
	r = vc_timer_new(env->loop, turn, u, &u->timer);
	return r < 0 ? r : vc_watch_new(env->loop, u->epoll_fd, 0, user_event, u, &u->watch);
}

static int user_open(struct vc_env *env, struct vc_props *props, struct vc_net *net)
{
	struct user *u = calloc(1, sizeof *u);
	Slirp *slirp = NULL;
	int r;

	if (!u)
		return vc_fail(ENOMEM, "no memory for net=user");
	u->net = net;
	u->epoll_fd = -1;
	pthread_mutex_init(&u->lock, NULL);
	net->ops = &user_ops;
	net->ctx = u;
	r = make_parts(u, env);
	if (r >= 0)
		r = user_slirp_new(props, &callbacks, u, &slirp);
	/* its timers may have fired already */
	pthread_mutex_lock(&u->lock);
	u->slirp = slirp;
	post_turn(u);
	pthread_mutex_unlock(&u->lock);
	if (r < 0)
		user_close(u);
	return r;
}

const struct vc_net_kind vc_net_user_kind = {
    .name = "user",
    .summary = "the process's own network by libslirp: DHCP, DNS, NAT",
    .open = user_open,
};
