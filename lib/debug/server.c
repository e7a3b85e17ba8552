/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The stub's thread: accepts gdb, reads packets, sends replies, and tells gdb when a vcpu stops or the vm ends. */
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <virtcore/gdb.h>

#include "core/address.h"
#include "core/thread.h"
#include "debug/debug.h"

#define DEFAULT_ADDRESS "127.0.0.1:1234"

struct vcore_gdb {
	struct vc_gdb *session;
	union vc_address address;
	pthread_t thread;
	int quit_fd; /* eventfd: readable for ever once the stub is to end */
	int wake_fd; /* eventfd: a vcpu stopped */
	int listen_fd;
	int client; /* -1: no gdb is there */
	bool no_ack;
	bool leaving; /* gdb has detached: all that is left is that it closes the connection */
	size_t sent;  /* bytes of the last frame, to be sent again when gdb says so */
	char frame[VC_RSP_FRAME_MAX];
	struct vc_rsp_in in;
	struct vc_rsp_out reply;
};

/* ---- sending ---- */

static void let_go(struct vcore_gdb *s)
{
	if (s->leaving)
		return;
	s->leaving = true;
	vc_gdb_detach(s->session);
	vc_log(&s->session->vm->log, VCORE_LOG_INFO, "gdb is gone");
}

static void drop_client(struct vcore_gdb *s)
{
	if (s->client < 0)
		return;
	close(s->client);
	s->client = -1;
	let_go(s);
}

/* Wait until gdb takes more. False: the stub is to end. */
static bool wait_writable(struct vcore_gdb *s)
{
	struct pollfd fds[] = {{s->client, POLLOUT, 0}, {s->quit_fd, POLLIN, 0}};

	while (poll(fds, 2, -1) < 0)
		if (errno != EINTR)
			return false;
	return !fds[1].revents;
}

/* All of it, or the client is gone. */
static void send_bytes(struct vcore_gdb *s, const char *bytes, size_t length)
{
	while (length > 0 && s->client >= 0) {
		ssize_t n = send(s->client, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0) {
			bytes += n;
			length -= (size_t)n;
		} else if (n == 0 || (errno != EINTR && (errno != EAGAIN || !wait_writable(s)))) {
			drop_client(s);
		}
	}
}

static void send_reply(struct vcore_gdb *s)
{
	s->sent = vc_rsp_frame(&s->reply, s->frame);
	send_bytes(s, s->frame, s->sent);
}

/* ---- receiving ---- */

static void serve_packet(struct vcore_gdb *s)
{
	struct vc_gdb *g = s->session;

	if (!s->no_ack)
		send_bytes(s, "+", 1);
	if (s->client < 0 || s->leaving || g->running) /* nothing is due while vcpus run */
		return;
	switch (vc_gdb_packet(g, s->in.payload, s->in.length, &s->reply)) {
	case VC_GDB_REPLY:
		send_reply(s);
		break;
	case VC_GDB_SILENT:
		break;
	case VC_GDB_NO_ACK:
		send_reply(s);
		s->no_ack = true;
		break;
	case VC_GDB_DETACH:
		send_reply(s);
		let_go(s);
		break;
	case VC_GDB_LEAVE:
		let_go(s);
		break;
	}
}

static void serve_event(struct vcore_gdb *s, enum vc_rsp_event event)
{
	switch (event) {
	case VC_RSP_PACKET:
		serve_packet(s);
		break;
	case VC_RSP_BAD:
		if (!s->no_ack)
			send_bytes(s, "-", 1);
		break;
	case VC_RSP_NAK:
		if (!s->no_ack)
			send_bytes(s, s->frame, s->sent);
		break;
	case VC_RSP_BREAK:
		if (s->session->running) {
			vc_gdb_interrupt(s->session, &s->reply);
			send_reply(s);
		}
		break;
	case VC_RSP_ACK:
	case VC_RSP_NOTHING:
		break;
	}
}

static void serve_client(struct vcore_gdb *s)
{
	uint8_t bytes[4096];
	ssize_t n = recv(s->client, bytes, sizeof bytes, MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		drop_client(s);
		return;
	}
	for (ssize_t i = 0; i < n && s->client >= 0; i++)
		serve_event(s, vc_rsp_feed(&s->in, bytes[i]));
}

static void serve_stop(struct vcore_gdb *s)
{
	uint64_t count;
	bool woken = read(s->wake_fd, &count, sizeof count) > 0;

	if (woken && s->session->running && vc_gdb_stopped(s->session, &s->reply))
		send_reply(s);
}

static void serve_end(struct vcore_gdb *s)
{
	vc_gdb_ended(s->session, &s->reply);
	send_reply(s);
}

/* ---- gdb comes ---- */

static void welcome(struct vcore_gdb *s, int client)
{
	int on = 1;

	if (s->address.any.sa_family != AF_UNIX)
		setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	s->client = client;
	s->no_ack = s->leaving = false;
	s->sent = 0;
	memset(&s->in, 0, offsetof(struct vc_rsp_in, payload));
	vc_log(&s->session->vm->log, VCORE_LOG_INFO, "gdb is here");
	vc_gdb_attach(s->session);
}

static void serve_listener(struct vcore_gdb *s)
{
	int client = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (client < 0)
		return;
	if (s->client >= 0)
		close(client);
	else
		welcome(s, client);
}

/* ---- the thread ---- */

static void *serve(void *arg)
{
	struct vcore_gdb *s = arg;
	enum { QUIT, WAKE, LISTEN, CLIENT, END, COUNT };

	pthread_setname_np(pthread_self(), "gdb");
	for (;;) {
		struct pollfd fds[COUNT] = {[QUIT] = {s->quit_fd, POLLIN, 0},
		                            [WAKE] = {s->wake_fd, POLLIN, 0},
		                            [LISTEN] = {s->listen_fd, POLLIN, 0},
		                            [CLIENT] = {s->client, POLLIN, 0},
		                            /* stays readable: of interest only to a gdb that waits */
		                            [END] = {s->session->running ? vcore_vm_fd(s->session->vm) : -1, POLLIN, 0}};

		if (poll(fds, COUNT, -1) < 0)
			continue;
		if (fds[WAKE].revents)
			serve_stop(s);
		if (fds[END].revents && s->session->running)
			serve_end(s);
		if (fds[QUIT].revents)
			break;
		if (fds[CLIENT].revents && s->client >= 0)
			serve_client(s);
		if (fds[LISTEN].revents)
			serve_listener(s);
	}
	drop_client(s);
	return NULL;
}

static int make_thread(struct vcore_gdb *s)
{
	int r = vc_thread_new(&s->thread, serve, s);

	return r ? vc_fail_errno(EAGAIN, "no thread for the gdb stub (error %d)", r) : 0;
}

/* ---- birth and death ---- */

static void destroy(struct vcore_gdb *s)
{
	if (s->session)
		vc_gdb_free(s->session);
	if (s->listen_fd >= 0) {
		close(s->listen_fd);
		vc_address_unlisten(&s->address);
	}
	if (s->wake_fd >= 0)
		close(s->wake_fd);
	if (s->quit_fd >= 0)
		close(s->quit_fd);
	free(s);
}

static int make(struct vcore_gdb *s, vcore_vm *vm, const struct vcore_gdb_options *o)
{
	int r = vc_address_parse("gdb", o->address ? o->address : DEFAULT_ADDRESS, &s->address);

	if (r < 0)
		return r;
	s->quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->quit_fd < 0 || s->wake_fd < 0)
		return vc_fail_errno(errno, "an eventfd for the gdb stub");
	r = vc_gdb_new(vm, s->wake_fd, &s->session);
	if (r < 0)
		return r;
	s->listen_fd = r = vc_address_listen("gdb", &s->address, 1);
	if (r < 0)
		return r;
	if (o->wait)
		vc_gdb_attach(s->session);
	return make_thread(s);
}

int vcore_gdb_new(vcore_vm *vm, const struct vcore_gdb_options *options, vcore_gdb **gdb)
{
	struct vcore_gdb_options o = {.size = sizeof o};
	struct vcore_gdb *s;
	int r;

	if (!vm || !gdb || (options && vc_struct_in(&o, sizeof o, options) < 0))
		return vc_fail(EINVAL,
		               "vcore_gdb_new: a vm, options with their size set or NULL, and a place for the stub are needed");
	*gdb = NULL;
	if (vc_vm_is_own_thread(vm))
		return vc_fail(EDEADLK, "vcore_gdb_new: called from one of the vm's own vcpus");
	s = calloc(1, sizeof *s);
	if (!s)
		return vc_fail(ENOMEM, "no memory for the gdb stub");
	s->quit_fd = s->wake_fd = s->listen_fd = s->client = -1;
	r = make(s, vm, &o);
	if (r < 0) {
		destroy(s);
		return r;
	}
	*gdb = s;
	return 0;
}

int vcore_gdb_address(vcore_gdb *s, char *text, size_t length)
{
	if (!s || !text || !length)
		return vc_fail(EINVAL, "vcore_gdb_address: a stub and a place for the text are needed");
	return vc_address_show(s->listen_fd, text, length);
}

void vcore_gdb_free(vcore_gdb *s)
{
	static const uint64_t one = 1;

	if (!s)
		return;
	while (write(s->quit_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
	pthread_join(s->thread, NULL);
	destroy(s);
}
