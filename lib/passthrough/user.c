/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "passthrough/user_priv.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include <virtcore/error.h>

#include "core/address.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/util.h"

static const char *const names[] = {
    [VC_VFIO_USER_VERSION] = "VERSION",
    [VC_VFIO_USER_DMA_MAP] = "DMA_MAP",
    [VC_VFIO_USER_DMA_UNMAP] = "DMA_UNMAP",
    [VC_VFIO_USER_GET_INFO] = "DEVICE_GET_INFO",
    [VC_VFIO_USER_GET_REGION_INFO] = "DEVICE_GET_REGION_INFO",
    [VC_VFIO_USER_GET_IRQ_INFO] = "DEVICE_GET_IRQ_INFO",
    [VC_VFIO_USER_SET_IRQS] = "DEVICE_SET_IRQS",
    [VC_VFIO_USER_REGION_READ] = "REGION_READ",
    [VC_VFIO_USER_REGION_WRITE] = "REGION_WRITE",
    [VC_VFIO_USER_RESET] = "DEVICE_RESET",
};

/* ---- asking ---- */

/* What the layer below said of it, with the request and the socket. */
static int fail_request(const struct vc_vfio_user *u, const char *request, int r)
{
	char reason[256];

	snprintf(reason, sizeof reason, "%s", vcore_error_message());
	return vc_fail(-r, "vfio-user %s: %s: %s", u->path, request, reason);
}

void vc_vfio_user_hang_up(struct vc_vfio_user *u)
{
	atomic_store(&u->broken, true);
	shutdown(u->main.fd, SHUT_RDWR);
	if (u->twin.fd >= 0)
		shutdown(u->twin.fd, SHUT_RDWR);
}

int vc_vfio_user_bad_reply(struct vc_vfio_user *u, uint16_t command, int r)
{
	vc_vfio_user_hang_up(u);
	return fail_request(u, names[command], r);
}

static uint64_t deadline(const struct vc_vfio_user *u)
{
	return vc_host_ns() + u->timeout_ms * 1000000ull;
}

static int send_request(struct vc_vfio_user *u, const struct vc_vfio_user_request *q, uint64_t until)
{
	u->out.header = (struct vc_vfio_user_header){.id = ++u->id, .command = q->command};
	if (q->length)
		memcpy(u->out.payload, q->payload, q->length);
	if (q->data_length)
		memcpy(u->out.payload + q->length, q->data, q->data_length);
	return vc_vfio_user_send(&u->main, &u->out.header, q->length + q->data_length, q->fds, q->fd_count, until);
}

static bool is_command(const struct vc_vfio_user_inbox *in)
{
	return !(in->header->flags & VC_VFIO_USER_TYPE);
}

/* The next reply; commands that come before are answered. */
static int receive_reply(struct vc_vfio_user *u, uint64_t until)
{
	int r;

	for (;;) {
		r = vc_channel_wait(&u->main, u->twin.fd, until);
		if (r >= 0 && r & 2 && vc_vfio_user_serve_twin(u) < 0)
			return vc_fail(EPROTO, "the server's own channel has ended");
		if (r >= 0 && r & 1) {
			r = vc_vfio_user_receive(&u->main, &u->in, until);
			if (r >= 0 && !is_command(&u->in))
				return 0;
			if (r >= 0)
				r = vc_vfio_user_answer(u, &u->main, &u->in, until);
		}
		if (r < 0)
			return r;
		/* it may have more to ask than time to reply */
		if (vc_host_ns() >= until)
			return vc_fail(ETIMEDOUT, "the server does not answer in time");
	}
}

/* -EREMOTEIO: the server says no. */
static int check_reply(const struct vc_vfio_user *u, const struct vc_vfio_user_request *q)
{
	const struct vc_vfio_user_header *h = u->in.header;

	if (h->id != u->id || h->command != q->command)
		return vc_fail(EPROTO, "the server replies to message %u, command %u: expected %u, %u", h->id, h->command,
		               u->id, q->command);
	if (!(h->flags & VC_VFIO_USER_ERROR))
		return 0;
	return h->error && h->error < 4096 ? vc_fail(EREMOTEIO, "the server refuses: %s", strerror((int)h->error))
	                                   : vc_fail(EREMOTEIO, "the server refuses");
}

int vc_vfio_user_ask(struct vc_vfio_user *u, const struct vc_vfio_user_request *q, uint32_t least)
{
	uint64_t until = deadline(u);
	int r;

	if (atomic_load(&u->broken))
		return vc_fail(ENOTCONN, "vfio-user %s: the server is gone", u->path);
	r = send_request(u, q, until);
	if (r >= 0)
		r = receive_reply(u, until);
	if (r >= 0) {
		r = check_reply(u, q);
		if (r >= 0 && u->in.length < least)
			r = vc_fail(EPROTO, "the server replies with %u bytes: expected at least %u", u->in.length, least);
		if (r < 0)
			vc_vfio_user_inbox_close_fds(&u->in);
	}
	if (r >= 0)
		return 0;
	if (r != -EREMOTEIO)
		vc_vfio_user_hang_up(u);
	return fail_request(u, names[q->command], r);
}

int vc_vfio_user_ask_plain(struct vc_vfio_user *u, const struct vc_vfio_user_request *q, void *reply, uint32_t length)
{
	int r;

	pthread_mutex_lock(&u->lock);
	r = vc_vfio_user_ask(u, q, length);
	if (r >= 0) {
		vc_vfio_user_inbox_close_fds(&u->in);
		if (length)
			memcpy(reply, u->in.payload, length);
	}
	pthread_mutex_unlock(&u->lock);
	return r;
}

/* ---- connecting ---- */

/* The descriptors that came with the reply are ours, or closed. */
static int take_twin(struct vc_vfio_user *u)
{
	int at = u->limits.twin;

	if (at >= 0 && (unsigned)at >= u->in.fd_count)
		return vc_fail(EPROTO, "the server's twin socket is descriptor %d of %u", at, u->in.fd_count);
	if (at < 0)
		return 0;
	u->twin.fd = u->in.fds[at];
	u->in.fds[at] = u->in.fds[--u->in.fd_count];
	return vc_vfio_user_inbox_init(&u->twin_in);
}

static int read_version(struct vc_vfio_user *u)
{
	struct vc_vfio_user_version version;
	int r = 0;

	memcpy(&version, u->in.payload, sizeof version);
	if (version.major != VC_VFIO_USER_MAJOR || version.minor > VC_VFIO_USER_MINOR)
		return vc_fail(EPROTO, "the server speaks version %u.%u: expected %d.%d", version.major, version.minor,
		               VC_VFIO_USER_MAJOR, VC_VFIO_USER_MINOR);
	if (u->in.length > sizeof version)
		r = vc_vfio_user_read_capabilities((const char *)u->in.payload + sizeof version, u->in.length - sizeof version,
		                                   &u->limits);
	return r < 0 ? r : take_twin(u);
}

static int negotiate(struct vc_vfio_user *u)
{
	struct vc_vfio_user_version version = {VC_VFIO_USER_MAJOR, VC_VFIO_USER_MINOR};
	struct vc_vfio_user_request q = {
	    .command = VC_VFIO_USER_VERSION,
	    .payload = &version,
	    .length = sizeof version,
	    .data = vc_vfio_user_capabilities,
	    .data_length = (uint32_t)strlen(vc_vfio_user_capabilities) + 1,
	};
	int r;

	pthread_mutex_lock(&u->lock);
	r = vc_vfio_user_ask(u, &q, sizeof version);
	if (r >= 0) {
		r = read_version(u);
		vc_vfio_user_inbox_close_fds(&u->in);
		if (r < 0)
			r = vc_vfio_user_bad_reply(u, q.command, r);
	}
	pthread_mutex_unlock(&u->lock);
	return r;
}

int vc_vfio_user_begin(struct vc_vfio_user *u, int fd)
{
	int r;

	u->main = (struct vc_channel){fd, "the server"};
	u->twin = (struct vc_channel){-1, "the server"};
	u->limits = (struct vc_vfio_user_limits){1, VC_VFIO_USER_DATA_MAX, -1};
	u->id = 0;
	u->in = u->twin_in = (struct vc_vfio_user_inbox){0};
	atomic_init(&u->broken, false);
	pthread_mutex_init(&u->lock, NULL);
	pthread_mutex_init(&u->twin_lock, NULL);
	r = vc_vfio_user_inbox_init(&u->in);
	if (r >= 0)
		r = negotiate(u);
	if (r < 0)
		vc_vfio_user_close(u);
	return r;
}

int vc_vfio_user_connect(struct vc_vfio_user *u)
{
	union vc_address address;
	int fd, r = vc_address_unix("vfio-user", u->path, &address);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return vc_fail_errno(errno, "vfio-user %s: a socket", u->path);
	if (connect(fd, &address.any, vc_address_length(&address)) < 0) {
		r = vc_fail_errno(errno, "vfio-user %s: no server is there", u->path);
		close(fd);
		return r;
	}
	return vc_vfio_user_begin(u, fd);
}

void vc_vfio_user_close(struct vc_vfio_user *u)
{
	close(u->main.fd);
	if (u->twin.fd >= 0)
		close(u->twin.fd);
	u->main.fd = u->twin.fd = -1;
	if (u->in.header)
		vc_vfio_user_inbox_fini(&u->in);
	if (u->twin_in.header)
		vc_vfio_user_inbox_fini(&u->twin_in);
	pthread_mutex_destroy(&u->lock);
	pthread_mutex_destroy(&u->twin_lock);
}

/* ---- what the server asks while nobody waits ---- */

static bool is_readable(struct vc_channel *c)
{
	char byte;

	/* the end can be read too */
	return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || (errno != EAGAIN && errno != EINTR);
}

static int serve(struct vc_vfio_user *u, struct vc_channel *c, struct vc_vfio_user_inbox *in)
{
	uint64_t until = deadline(u);
	int r;

	if (!is_readable(c))
		return 0;
	r = vc_vfio_user_receive(c, in, until);
	if (r >= 0 && !is_command(in)) {
		vc_vfio_user_inbox_close_fds(in);
		r = vc_fail(EPROTO, "the server replies to what nobody asked");
	}
	if (r >= 0)
		r = vc_vfio_user_answer(u, c, in, until);
	if (r >= 0)
		return 0;
	vc_vfio_user_hang_up(u);
	return fail_request(u, "a command of the server's", r);
}

int vc_vfio_user_serve(struct vc_vfio_user *u)
{
	int r;

	pthread_mutex_lock(&u->lock);
	r = serve(u, &u->main, &u->in);
	pthread_mutex_unlock(&u->lock);
	return r;
}

int vc_vfio_user_serve_twin(struct vc_vfio_user *u)
{
	int r;

	pthread_mutex_lock(&u->twin_lock);
	r = serve(u, &u->twin, &u->twin_in);
	pthread_mutex_unlock(&u->twin_lock);
	return r;
}
