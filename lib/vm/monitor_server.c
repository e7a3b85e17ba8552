/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The monitor's thread: accepts clients, cuts what they send into lines, and sends answers and events. */
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <virtcore/monitor.h>

#include "core/address.h"
#include "core/thread.h"
#include "vm/monitor.h"

#define ACCEPT_AGAIN_MS 1000 /* after the process had no descriptor left */

struct client {
	int fd; /* -1: the place is free */
	struct vc_mon_session session;
	bool skipping; /* the line was too long: nothing of it counts until its end */
	bool ended;    /* it sends no more: gone as soon as it has its answers */
	char *in;      /* VC_MON_LINE_MAX bytes */
	size_t in_length;
	char *out;
	size_t out_sent, out_length, out_room;
};

struct vcore_monitor {
	struct vcore_vm *vm;
	struct vc_observer observer;
	union vc_address address;
	pthread_t thread;
	_Atomic bool alone; /* nobody joins the thread: it frees all */
	bool accept_later;
	int quit_fd; /* eventfd: readable for ever once the monitor is to end */
	int wake_fd; /* eventfd: there are events */
	int listen_fd;
	struct client clients[VC_MON_CLIENTS_MAX];

	pthread_mutex_t lock; /* protects the following; after the vm's locks */
	struct vc_mon_event events[VC_MON_EVENTS_MAX];
	uint32_t event_count, events_lost;
};

/* ---- sending ---- */

static void drop(struct client *c)
{
	close(c->fd);
	free(c->in);
	free(c->out);
	*c = (struct client){.fd = -1};
}

static bool waits(const struct client *c)
{
	return c->out_sent < c->out_length;
}

static void send_out(struct client *c)
{
	while (waits(c)) {
		ssize_t n = send(c->fd, c->out + c->out_sent, c->out_length - c->out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0) {
			c->out_sent += (size_t)n;
		} else if (n < 0 && errno == EAGAIN) {
			return;
		} else if (n == 0 || errno != EINTR) {
			drop(c);
			return;
		}
	}
	c->out_sent = c->out_length = 0;
}

/* Room for that many more bytes in the queue. */
static bool make_room(struct client *c, size_t length)
{
	size_t room = c->out_room ? c->out_room : 4096;
	char *grown;

	if (c->out_sent) {
		memmove(c->out, c->out + c->out_sent, c->out_length - c->out_sent);
		c->out_length -= c->out_sent;
		c->out_sent = 0;
	}
	while (room - c->out_length < length)
		room *= 2;
	if (room == c->out_room)
		return true;
	grown = realloc(c->out, room);
	if (!grown)
		return false;
	c->out = grown;
	c->out_room = room;
	return true;
}

static void queue_text(struct client *c, const char *text, size_t length)
{
	/* without memory the client is gone: it could not tell what it has missed */
	if (!make_room(c, length + 2)) {
		drop(c);
		return;
	}
	memcpy(c->out + c->out_length, text, length);
	memcpy(c->out + c->out_length + length, "\r\n", 2);
	c->out_length += length + 2;
}

/* Takes the object. */
static void queue(struct client *c, struct json_object *object)
{
	size_t length = 0;
	const char *text = object ? json_object_to_json_string_length(object, JSON_C_TO_STRING_PLAIN, &length) : NULL;

	if (text)
		queue_text(c, text, length);
	json_object_put(object);
}

/* ---- events ---- */

/* Called by the vm, on any thread and with its locks held. */
static void told(struct vc_observer *observer, const struct vc_vm_event *event)
{
	static const uint64_t one = 1;
	struct vcore_monitor *m = VC_CONTAINER_OF(observer, struct vcore_monitor, observer);
	struct vc_mon_event *e;

	pthread_mutex_lock(&m->lock);
	if (m->event_count == VC_MON_EVENTS_MAX) {
		m->events_lost++;
	} else {
		e = &m->events[m->event_count++];
		*e = (struct vc_mon_event){.kind = event->kind,
		                           .device = event->device,
		                           .vcpu = event->vcpu,
		                           .action = event->action,
		                           .size = event->size};
		gettimeofday(&e->time, NULL);
		if (event->type)
			memcpy(e->type, event->type, strnlen(event->type, sizeof e->type - 1));
		if (event->exit)
			e->exit = *event->exit;
		if (event->block) {
			e->block = *event->block;
			e->block.image = NULL;
		}
		if (event->migration)
			e->migration = *event->migration;
	}
	pthread_mutex_unlock(&m->lock);
	while (write(m->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

/* Takes the object. A client that does not read is not waited for. */
static void send_event(struct vcore_monitor *m, struct json_object *event)
{
	for (unsigned i = 0; i < VC_MON_CLIENTS_MAX; i++) {
		struct client *c = &m->clients[i];

		if (c->fd < 0 || !c->session.ready)
			continue;
		if (c->out_length - c->out_sent > VC_MON_QUEUE_MAX) {
			vc_log(&m->vm->log, VCORE_LOG_WARN, "monitor: a client that does not read is dropped");
			drop(c);
			continue;
		}
		queue(c, json_object_get(event));
	}
	json_object_put(event);
}

static bool next_event(struct vcore_monitor *m, struct vc_mon_event *event)
{
	bool found;

	pthread_mutex_lock(&m->lock);
	found = m->event_count > 0;
	if (found) {
		*event = m->events[0];
		memmove(m->events, m->events + 1, --m->event_count * sizeof *m->events);
	}
	pthread_mutex_unlock(&m->lock);
	return found;
}

static void serve_events(struct vcore_monitor *m)
{
	struct vc_mon_event event;
	uint64_t count;
	uint32_t lost;

	while (read(m->wake_fd, &count, sizeof count) < 0 && errno == EINTR)
		;
	while (next_event(m, &event))
		send_event(m, vc_mon_event(&event));
	pthread_mutex_lock(&m->lock);
	lost = m->events_lost;
	m->events_lost = 0;
	pthread_mutex_unlock(&m->lock);
	if (lost)
		send_event(m, vc_mon_events_lost(lost));
	for (unsigned i = 0; i < VC_MON_CLIENTS_MAX; i++)
		if (m->clients[i].fd >= 0)
			send_out(&m->clients[i]);
}

/* ---- receiving ---- */

/* What is left when a line was taken. */
static void take_off(struct client *c, size_t length)
{
	c->in_length -= length;
	memmove(c->in, c->in + length, c->in_length);
}

/* The next whole line, answered. False: there is none. */
static bool serve_line(struct client *c)
{
	char *end = memchr(c->in, '\n', c->in_length);
	size_t length;

	if (!end) {
		if (c->in_length < VC_MON_LINE_MAX)
			return false;
		c->in_length = 0;
		if (!c->skipping)
			queue(c, vc_mon_error("ProtocolError", "the line is too long: expected at most %d bytes",
			                      VC_MON_LINE_MAX - 1));
		c->skipping = true;
		return false;
	}
	length = (size_t)(end - c->in);
	*end = '\0';
	if (!c->skipping)
		queue(c, vc_mon_answer(&c->session, c->in, length));
	c->skipping = false;
	if (c->fd >= 0)
		take_off(c, length + 1);
	return c->fd >= 0;
}

/* Lines are answered one by one, each after the one before was read. */
static void serve_lines(struct vcore_monitor *m, struct client *c)
{
	while (c->fd >= 0 && !waits(c) && serve_line(c)) {
		/* what the command has brought about is told before the next one */
		serve_events(m);
		if (c->fd >= 0)
			send_out(c);
	}
	if (c->fd >= 0)
		send_out(c);
	if (c->fd >= 0 && c->ended && !waits(c))
		drop(c);
}

static void receive(struct client *c)
{
	ssize_t n = recv(c->fd, c->in + c->in_length, VC_MON_LINE_MAX - c->in_length, MSG_DONTWAIT);

	if (n > 0)
		c->in_length += (size_t)n;
	else if (n == 0)
		c->ended = true;
	else if (errno != EAGAIN && errno != EINTR)
		drop(c);
}

static void serve_client(struct vcore_monitor *m, struct client *c, short events)
{
	/* POLLHUP: both directions are closed, nobody would read an answer */
	if (events & (POLLERR | POLLHUP | POLLNVAL)) {
		drop(c);
		return;
	}
	if (events & POLLOUT)
		send_out(c);
	if (c->fd >= 0 && (events & POLLIN))
		receive(c);
	if (c->fd >= 0)
		serve_lines(m, c);
}

/* ---- clients come ---- */

static void refuse(int fd)
{
	static const char text[] =
	    "{\"error\":{\"class\":\"Busy\",\"desc\":\"the monitor has all the clients it takes\"}}\r\n";

	/* as much as goes without waiting */
	if (send(fd, text, sizeof text - 1, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
		shutdown(fd, SHUT_WR);
	close(fd);
}

static void welcome(struct vcore_monitor *m, int fd)
{
	struct client *c = m->clients, *end = c + VC_MON_CLIENTS_MAX;
	char *in = malloc(VC_MON_LINE_MAX);

	while (c < end && c->fd >= 0)
		c++;
	if (!in || c == end) {
		free(in);
		refuse(fd);
		return;
	}
	*c = (struct client){.fd = fd, .session = {.vm = m->vm}, .in = in};
	queue(c, vc_mon_greeting());
	if (c->fd >= 0)
		send_out(c);
}

static void serve_listener(struct vcore_monitor *m)
{
	int fd = accept4(m->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0)
		welcome(m, fd);
	else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
		m->accept_later = true;
}

/* ---- the thread ---- */

enum { QUIT, WAKE, LISTEN, CLIENTS, COUNT = CLIENTS + VC_MON_CLIENTS_MAX };

static void watch(struct vcore_monitor *m, struct pollfd *fds)
{
	fds[QUIT] = (struct pollfd){m->quit_fd, POLLIN, 0};
	fds[WAKE] = (struct pollfd){m->wake_fd, POLLIN, 0};
	fds[LISTEN] = (struct pollfd){m->accept_later ? -1 : m->listen_fd, POLLIN, 0};
	for (unsigned i = 0; i < VC_MON_CLIENTS_MAX; i++) {
		const struct client *c = &m->clients[i];

		fds[CLIENTS + i] = (struct pollfd){c->fd, waits(c) ? POLLOUT : c->ended ? 0 : POLLIN, 0};
	}
}

static void destroy(struct vcore_monitor *m);

static void *serve(void *arg)
{
	struct vcore_monitor *m = arg;
	struct pollfd fds[COUNT];
	uint64_t told_to;

	pthread_setname_np(pthread_self(), "monitor");
	do {
		watch(m, fds);
		if (poll(fds, COUNT, m->accept_later ? ACCEPT_AGAIN_MS : -1) < 0)
			continue;
		m->accept_later = false;
		if (fds[WAKE].revents)
			serve_events(m);
		for (unsigned i = 0; i < VC_MON_CLIENTS_MAX; i++)
			/* an event may have cost the client its place */
			if (fds[CLIENTS + i].revents && m->clients[i].fd == fds[CLIENTS + i].fd && m->clients[i].fd >= 0)
				serve_client(m, &m->clients[i], fds[CLIENTS + i].revents);
		if (fds[LISTEN].revents)
			serve_listener(m);
	} while (!fds[QUIT].revents);
	serve_events(m);
	/* the read orders what follows behind the write by vcore_monitor_free(), which names the descriptor closed here */
	while (read(m->quit_fd, &told_to, sizeof told_to) < 0 && errno == EINTR)
		;
	if (atomic_load(&m->alone))
		destroy(m);
	return NULL;
}

/* ---- birth and death ---- */

static void destroy(struct vcore_monitor *m)
{
	vc_vm_unobserve(m->vm, &m->observer);
	for (unsigned i = 0; i < VC_MON_CLIENTS_MAX; i++)
		if (m->clients[i].fd >= 0)
			drop(&m->clients[i]);
	if (m->listen_fd >= 0) {
		close(m->listen_fd);
		vc_address_unlisten(&m->address);
	}
	if (m->wake_fd >= 0)
		close(m->wake_fd);
	if (m->quit_fd >= 0)
		close(m->quit_fd);
	pthread_mutex_destroy(&m->lock);
	vcore_vm_unref(m->vm);
	free(m);
}

static int make(struct vcore_monitor *m, const char *path, uint32_t flags)
{
	int r = vc_address_unix("the monitor", path, &m->address);

	if (r < 0)
		return r;
	m->quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->quit_fd < 0 || m->wake_fd < 0)
		return vc_fail_errno(errno, "an eventfd for the monitor");
	if (flags & VCORE_MONITOR_REPLACE)
		vc_address_unlisten_stale(&m->address);
	m->listen_fd = r = vc_address_listen("the monitor", &m->address, VC_MON_CLIENTS_MAX);
	if (r < 0)
		return r;
	vc_vm_observe(m->vm, &m->observer);
	r = vc_thread_new(&m->thread, serve, m);
	return r ? vc_fail_errno(EAGAIN, "no thread for the monitor (error %d)", r) : 0;
}

int vcore_monitor_new(vcore_vm *vm, const char *path, uint32_t flags, vcore_monitor **monitor)
{
	struct vcore_monitor *m;
	int r;

	if (!vm || !path || !monitor)
		return vc_fail(EINVAL, "vcore_monitor_new: a vm, a path and a place for the monitor are needed");
	*monitor = NULL;
	if (flags & ~VCORE_MONITOR_REPLACE)
		return vc_fail(EINVAL, "vcore_monitor_new: flags are %#x: expected 0 or %#x", flags, VCORE_MONITOR_REPLACE);
	m = calloc(1, sizeof *m);
	if (!m)
		return vc_fail(ENOMEM, "no memory for the monitor");
	m->vm = vcore_vm_ref(vm);
	m->observer.told = told;
	m->quit_fd = m->wake_fd = m->listen_fd = -1;
	for (unsigned i = 0; i < VC_MON_CLIENTS_MAX; i++)
		m->clients[i].fd = -1;
	pthread_mutex_init(&m->lock, NULL);
	r = make(m, path, flags);
	if (r < 0) {
		destroy(m);
		return r;
	}
	*monitor = m;
	return 0;
}

/* A command may wait for these threads: they do not wait for the monitor's. */
static bool must_not_join(const struct vcore_monitor *m)
{
	return pthread_equal(m->thread, pthread_self()) || vc_vm_is_own_thread(m->vm) || vc_loop_is_self(m->vm->loop);
}

void vcore_monitor_free(vcore_monitor *m)
{
	static const uint64_t one = 1;
	pthread_t thread;
	bool join;

	if (!m)
		return;
	join = !must_not_join(m);
	thread = m->thread;
	atomic_store(&m->alone, !join);
	if (!join)
		pthread_detach(thread);
	/* from here on a thread that is alone may have freed all */
	while (write(m->quit_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
	if (!join)
		return;
	pthread_join(thread, NULL);
	destroy(m);
}
