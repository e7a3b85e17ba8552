/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vhost/user.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <virtcore/error.h>

#include "core/address.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/util.h"
#include "vhost/message.h"
#include "vhost/protocol.h"

#define PROTOCOL_KNOWN                                                                                          \
	(VC_VHOST_P_MQ | VC_VHOST_P_REPLY_ACK | VC_VHOST_P_BACKEND_REQ | VC_VHOST_P_CONFIG | VC_VHOST_P_MEM_SLOTS | \
	 VC_VHOST_P_STATUS)

/* ---- asking and telling ---- */

/* What the layer below said of it, with the request and the socket. */
static int fail_request(const struct vc_vhost_user *u, uint32_t request, int r)
{
	char reason[256];

	snprintf(reason, sizeof reason, "%s", vcore_error_message());
	return vc_fail(-r, "vhost-user %s: %s: %s", u->path, vc_vhost_request_name(request), reason);
}

static uint64_t deadline(const struct vc_vhost_user *u)
{
	return vc_host_ns() + u->timeout_ms * 1000000ull;
}

static struct vc_vhost_message message(uint32_t request, const void *payload, uint32_t size)
{
	struct vc_vhost_message m = {.request = request, .flags = VC_VHOST_VERSION, .size = size};

	if (size)
		memcpy(m.payload, payload, size);
	return m;
}

static int receive_answer(struct vc_vhost_user *u, uint32_t request, void *answer, uint32_t size, uint64_t until)
{
	struct vc_vhost_message m;
	int r = vc_vhost_receive(u->fd, &m, until);

	if (r < 0)
		return r;
	vc_vhost_close_fds(&m); /* no answer that we ask for has any */
	if (m.request != request || !(m.flags & VC_VHOST_REPLY))
		return vc_fail(EPROTO, "the back-end answers with message %u, flags %#x", m.request, m.flags);
	if (m.size != size)
		return vc_fail(EPROTO, "the back-end answers with %u bytes: expected %u", m.size, size);
	memcpy(answer, m.payload, size);
	return 0;
}

/* A request that has an answer, of exactly that size. */
static int ask(struct vc_vhost_user *u, const struct vc_vhost_message *m, void *answer, uint32_t size)
{
	uint64_t until = deadline(u);
	int r = vc_vhost_send(u->fd, m, until);

	if (r >= 0)
		r = receive_answer(u, m->request, answer, size, until);
	return r < 0 ? fail_request(u, m->request, r) : 0;
}

static int ask_u64(struct vc_vhost_user *u, uint32_t request, uint64_t *value)
{
	struct vc_vhost_message m = message(request, NULL, 0);

	return ask(u, &m, value, sizeof *value);
}

/* A request that has none of its own: with REPLY_ACK the back-end says whether it has done it. */
static int tell(struct vc_vhost_user *u, struct vc_vhost_message *m)
{
	uint64_t refused = 0;
	int r;

	if (!(u->protocol & VC_VHOST_P_REPLY_ACK)) {
		r = vc_vhost_send(u->fd, m, deadline(u));
		return r < 0 ? fail_request(u, m->request, r) : 0;
	}
	m->flags |= VC_VHOST_NEED_REPLY;
	r = ask(u, m, &refused, sizeof refused);
	if (r >= 0 && refused)
		r = vc_fail(EREMOTEIO, "vhost-user %s: %s: the back-end refuses (%llu)", u->path,
		            vc_vhost_request_name(m->request), (unsigned long long)refused);
	return r;
}

static int tell_u64(struct vc_vhost_user *u, uint32_t request, uint64_t value)
{
	struct vc_vhost_message m = message(request, &value, sizeof value);

	return tell(u, &m);
}

int vc_vhost_user_settle(struct vc_vhost_user *u)
{
	uint64_t ignored;

	return u->protocol & VC_VHOST_P_REPLY_ACK ? 0 : ask_u64(u, VC_VHOST_GET_FEATURES, &ignored);
}

/* ---- the beginning and the end ---- */

static int open_backend_channel(struct vc_vhost_user *u)
{
	struct vc_vhost_message m = message(VC_VHOST_SET_BACKEND_REQ_FD, NULL, 0);
	int pair[2], r;

	if (!(u->protocol & VC_VHOST_P_BACKEND_REQ))
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return vc_fail_errno(errno, "vhost-user %s: a pair of sockets", u->path);
	m.fds[0] = pair[1];
	m.fd_count = 1;
	r = tell(u, &m);
	close(pair[1]);
	u->backend_fd = pair[0];
	return r;
}

static int agree_on_protocol(struct vc_vhost_user *u)
{
	uint64_t offered;
	int r;

	if (!(u->features & VC_VHOST_F_PROTOCOL))
		return 0;
	r = ask_u64(u, VC_VHOST_GET_PROTOCOL_FEATURES, &offered);
	if (r < 0)
		return r;
	/* before both have said so, nothing is acknowledged */
	r = tell_u64(u, VC_VHOST_SET_PROTOCOL_FEATURES, offered & PROTOCOL_KNOWN);
	u->protocol = offered & PROTOCOL_KNOWN;
	return r;
}

static int begin(struct vc_vhost_user *u)
{
	struct vc_vhost_message owner = message(VC_VHOST_SET_OWNER, NULL, 0);
	int r = ask_u64(u, VC_VHOST_GET_FEATURES, &u->features);

	if (r >= 0)
		r = agree_on_protocol(u);
	if (r >= 0)
		r = tell(u, &owner);
	if (r >= 0 && (u->protocol & VC_VHOST_P_MQ))
		r = ask_u64(u, VC_VHOST_GET_QUEUE_NUM, &u->queues);
	if (r >= 0 && (u->protocol & VC_VHOST_P_MEM_SLOTS))
		r = ask_u64(u, VC_VHOST_GET_MAX_MEM_SLOTS, &u->slots);
	return r < 0 ? r : open_backend_channel(u);
}

int vc_vhost_user_begin(struct vc_vhost_user *u, int fd)
{
	int r;

	u->fd = fd;
	u->backend_fd = -1;
	u->features = u->protocol = 0;
	u->queues = VC_VHOST_DEFAULT_QUEUES;
	u->slots = VC_VHOST_REGIONS_MAX;
	r = begin(u);
	if (r < 0)
		vc_vhost_user_close(u);
	return r;
}

int vc_vhost_user_connect(struct vc_vhost_user *u)
{
	union vc_address address;
	int fd, r = vc_address_unix("vhost-user", u->path, &address);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return vc_fail_errno(errno, "vhost-user %s: a socket", u->path);
	if (connect(fd, &address.any, vc_address_length(&address)) < 0) {
		r = vc_fail_errno(errno, "vhost-user %s: no back-end serves this socket", u->path);
		close(fd);
		return r;
	}
	return vc_vhost_user_begin(u, fd);
}

void vc_vhost_user_close(struct vc_vhost_user *u)
{
	if (u->fd >= 0)
		close(u->fd);
	if (u->backend_fd >= 0)
		close(u->backend_fd);
	u->fd = u->backend_fd = -1;
}

void vc_vhost_user_hang_up(struct vc_vhost_user *u)
{
	if (u->fd >= 0)
		shutdown(u->fd, SHUT_RDWR);
}

int vc_vhost_user_set_features(struct vc_vhost_user *u, uint64_t features)
{
	return tell_u64(u, VC_VHOST_SET_FEATURES, features);
}

int vc_vhost_user_set_status(struct vc_vhost_user *u, uint8_t status)
{
	return u->protocol & VC_VHOST_P_STATUS ? tell_u64(u, VC_VHOST_SET_STATUS, status) : 0;
}

/* ---- memory ---- */

static struct vc_vhost_wire_region wire_region(const struct vc_vhost_region *r)
{
	return (struct vc_vhost_wire_region){r->gpa, r->length, r->address, r->offset};
}

int vc_vhost_user_set_memory(struct vc_vhost_user *u, const struct vc_vhost_region *regions, unsigned count)
{
	struct vc_vhost_message m = message(VC_VHOST_SET_MEM_TABLE, NULL, 0);
	uint32_t at = 8;
	int r;

	vc_st32(m.payload, count);
	for (unsigned i = 0; i < count; i++, at += (uint32_t)sizeof(struct vc_vhost_wire_region)) {
		struct vc_vhost_wire_region wire = wire_region(&regions[i]);

		memcpy(m.payload + at, &wire, sizeof wire);
		m.fds[m.fd_count++] = regions[i].fd;
	}
	m.size = at;
	r = tell(u, &m);
	return r < 0 ? r : vc_vhost_user_settle(u);
}

static int tell_region(struct vc_vhost_user *u, uint32_t request, const struct vc_vhost_region *region, int fd)
{
	struct vc_vhost_message m = message(request, NULL, 0);
	struct vc_vhost_wire_region wire = wire_region(region);
	int r;

	m.size = 8 + sizeof wire;
	memcpy(m.payload + 8, &wire, sizeof wire);
	if (fd >= 0)
		m.fds[m.fd_count++] = fd;
	r = tell(u, &m);
	return r < 0 ? r : vc_vhost_user_settle(u);
}

int vc_vhost_user_add_region(struct vc_vhost_user *u, const struct vc_vhost_region *region)
{
	return tell_region(u, VC_VHOST_ADD_MEM_REG, region, region->fd);
}

int vc_vhost_user_remove_region(struct vc_vhost_user *u, const struct vc_vhost_region *region)
{
	return tell_region(u, VC_VHOST_REM_MEM_REG, region, -1);
}

/* ---- queues ---- */

struct vring_state {
	uint32_t index, value;
};

static int tell_state(struct vc_vhost_user *u, uint32_t request, uint32_t index, uint32_t value)
{
	struct vring_state state = {index, value};
	struct vc_vhost_message m = message(request, &state, sizeof state);

	return tell(u, &m);
}

static int tell_addresses(struct vc_vhost_user *u, const struct vc_vhost_vring *v)
{
	struct {
		uint32_t index, flags;
		uint64_t desc, used, avail, log;
	} addresses = {v->index, 0, v->desc, v->used, v->avail, 0};
	struct vc_vhost_message m = message(VC_VHOST_SET_VRING_ADDR, &addresses, sizeof addresses);

	return tell(u, &m);
}

static int tell_fd(struct vc_vhost_user *u, uint32_t request, uint32_t index, int fd)
{
	uint64_t value = index | (fd < 0 ? VC_VHOST_VRING_NO_FD : 0);
	struct vc_vhost_message m = message(request, &value, sizeof value);

	if (fd >= 0)
		m.fds[m.fd_count++] = fd;
	return tell(u, &m);
}

int vc_vhost_user_start_vring(struct vc_vhost_user *u, const struct vc_vhost_vring *v)
{
	int r = tell_state(u, VC_VHOST_SET_VRING_NUM, v->index, v->size);

	if (r >= 0)
		r = tell_state(u, VC_VHOST_SET_VRING_BASE, v->index, 0);
	if (r >= 0)
		r = tell_addresses(u, v);
	if (r >= 0)
		r = tell_fd(u, VC_VHOST_SET_VRING_CALL, v->index, v->call);
	/* it is started by this one */
	return r < 0 ? r : tell_fd(u, VC_VHOST_SET_VRING_KICK, v->index, v->kick);
}

int vc_vhost_user_enable_vring(struct vc_vhost_user *u, uint32_t index, bool on)
{
	return u->features & VC_VHOST_F_PROTOCOL ? tell_state(u, VC_VHOST_SET_VRING_ENABLE, index, on) : 0;
}

int vc_vhost_user_stop_vring(struct vc_vhost_user *u, uint32_t index)
{
	struct vring_state state = {index, 0}, answer = {0};
	struct vc_vhost_message m = message(VC_VHOST_GET_VRING_BASE, &state, sizeof state);
	int r = ask(u, &m, &answer, sizeof answer);

	if (r >= 0 && answer.index != index)
		r = vc_fail(EPROTO, "vhost-user %s: GET_VRING_BASE of queue %u: the answer is about queue %u", u->path, index,
		            answer.index);
	return r;
}

/* ---- configuration ---- */

struct config {
	uint32_t offset, size, flags;
	uint8_t data[VC_VHOST_CONFIG_MAX];
};

int vc_vhost_user_get_config(struct vc_vhost_user *u, void *data, uint32_t length)
{
	struct config config = {.size = length}, answer;
	struct vc_vhost_message m = message(VC_VHOST_GET_CONFIG, &config, VC_VHOST_CONFIG_HEADER + length);
	int r = ask(u, &m, &answer, VC_VHOST_CONFIG_HEADER + length);

	if (r < 0)
		return r;
	if (answer.offset || answer.size != length)
		return vc_fail(EPROTO, "vhost-user %s: GET_CONFIG: %u bytes at %u: expected %u at 0", u->path, answer.size,
		               answer.offset, length);
	memcpy(data, answer.data, length);
	return 0;
}

int vc_vhost_user_set_config(struct vc_vhost_user *u, uint32_t offset, const void *data, uint32_t length)
{
	struct config config = {.offset = offset, .size = length};
	struct vc_vhost_message m;

	memcpy(config.data, data, length);
	m = message(VC_VHOST_SET_CONFIG, &config, VC_VHOST_CONFIG_HEADER + length);
	return tell(u, &m);
}

/* ---- the back-end's own channel ---- */

int vc_vhost_user_serve_backend(struct vc_vhost_user *u)
{
	struct vc_vhost_message m;
	uint64_t refused;
	int changed, r = vc_vhost_receive(u->backend_fd, &m, deadline(u));

	if (r < 0)
		return r;
	vc_vhost_close_fds(&m); /* nothing that we do has a use for any */
	changed = m.request == VC_VHOST_BACKEND_CONFIG_CHANGE;
	if (!(m.flags & VC_VHOST_NEED_REPLY))
		return changed;
	refused = !changed;
	m = message(m.request, &refused, sizeof refused);
	m.flags |= VC_VHOST_REPLY;
	r = vc_vhost_send(u->backend_fd, &m, deadline(u));
	return r < 0 ? r : changed;
}
