/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a front-end asks for. Nothing that it says is believed. */
#include <stdio.h>
#include <unistd.h>
#include <virtcore/error.h>

#include "core/clock.h"
#include "core/error.h"
#include "core/util.h"
#include "vhost/backend.h"

#define PROTOCOL_OFFERED (VC_VHOST_P_MQ | VC_VHOST_P_REPLY_ACK | VC_VHOST_P_CONFIG | VC_VHOST_P_RESET_DEVICE)

struct state {
	uint32_t index, value;
};

struct addresses {
	uint32_t index, flags;
	uint64_t descriptors, used, available, log;
};

struct config {
	uint32_t offset, size, flags;
	uint8_t data[VC_VHOST_BACKEND_CONFIG_MAX];
};

enum { TABLE_HEADER = 8, LOG_WRITES = 1 /* flag of SET_VRING_ADDR */ };

/* A request: what belongs to it, and what is done. */
struct request {
	uint32_t least, most; /* bytes of payload */
	bool answers;         /* the answer is in the message then */
	int (*serve)(struct vcore_vhost_user *s, struct vc_vhost_message *m);
};

static int answer_u64(struct vc_vhost_message *m, uint64_t value)
{
	vc_st64(m->payload, value);
	m->size = sizeof value;
	return 0;
}

/* The descriptor of the message is the caller's; -1: it has none. */
static int take_fd(struct vc_vhost_message *m)
{
	int fd = m->fd_count ? m->fds[0] : -1;

	if (m->fd_count)
		m->fds[0] = m->fds[--m->fd_count];
	return fd;
}

/* NULL, with the sentence set: there is none. */
static struct vc_vhost_backend_ring *find_ring(struct vcore_vhost_user *s, uint32_t index)
{
	if (index < s->ring_count)
		return &s->rings[index];
	vc_fail(EPROTO, "ring %u: there are %u", index, s->ring_count);
	return NULL;
}

/* The ring of a message that tells how one is to be, which nobody changes under the device's hands. Likewise. */
static struct vc_vhost_backend_ring *find_resting(struct vcore_vhost_user *s, uint32_t index)
{
	struct vc_vhost_backend_ring *ring = find_ring(s, index);

	if (!ring || !ring->live)
		return ring;
	vc_fail(EPROTO, "ring %u is under way", index);
	return NULL;
}

/* ---- what both are ---- */

static int get_features(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	return answer_u64(m, vc_vhost_backend_features(s));
}

static int set_features(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	uint64_t features = vc_ld64(m->payload), extra = features & ~vc_vhost_backend_features(s);

	if (extra)
		return vc_fail(EPROTO, "features %#llx: %#llx are not offered", (unsigned long long)features,
		               (unsigned long long)extra);
	if (features != s->features && vc_virtio_status(s->v))
		return vc_fail(EPROTO, "features %#llx come while rings are under way", (unsigned long long)features);
	s->features = features;
	return 0;
}

static int get_protocol_features(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	return answer_u64(m, PROTOCOL_OFFERED);
}

static int set_protocol_features(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	uint64_t features = vc_ld64(m->payload);

	if (features & ~(uint64_t)PROTOCOL_OFFERED)
		return vc_fail(EPROTO, "protocol features %#llx: offered are %#llx", (unsigned long long)features,
		               (unsigned long long)PROTOCOL_OFFERED);
	s->protocol = features;
	return 0;
}

static int get_queue_num(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	return answer_u64(m, s->ring_count / s->kind->counts_as);
}

static int do_nothing(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	return 0;
}

static int set_mem_table(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	struct vc_vhost_wire_region regions[VC_VHOST_BACKEND_REGIONS_MAX];
	uint32_t count = vc_ld32(m->payload);

	if (count > VC_VHOST_BACKEND_REGIONS_MAX || count != m->fd_count ||
	    m->size < TABLE_HEADER + count * sizeof regions[0])
		return vc_fail(EPROTO, "%u regions in %u bytes with %u descriptors: expected at most %d, each with its own",
		               count, m->size, m->fd_count, VC_VHOST_BACKEND_REGIONS_MAX);
	memcpy(regions, m->payload + TABLE_HEADER, count * sizeof regions[0]);
	return vc_vhost_backend_set_memory(s, regions, m->fds, count);
}

/* ---- configuration ---- */

static int check_config(const struct vc_vhost_message *m, const struct config *c)
{
	if (c->size > sizeof c->data || c->offset > sizeof c->data - c->size || m->size != VC_VHOST_CONFIG_HEADER + c->size)
		return vc_fail(EPROTO, "configuration [%u, +%u) in %u bytes: expected at most %zu", c->offset, c->size, m->size,
		               sizeof c->data);
	return 0;
}

static int get_config(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	struct config c;
	int r;

	memcpy(&c, m->payload, VC_VHOST_CONFIG_HEADER);
	r = check_config(m, &c);
	if (r >= 0)
		vc_virtio_config_read(s->v, c.offset, m->payload + VC_VHOST_CONFIG_HEADER, c.size);
	return r;
}

static int set_config(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	struct config c;
	int r;

	memcpy(&c, m->payload, VC_VHOST_CONFIG_HEADER);
	r = check_config(m, &c);
	if (r >= 0)
		vc_virtio_config_write(s->v, c.offset, m->payload + VC_VHOST_CONFIG_HEADER, c.size);
	return r;
}

/* ---- rings ---- */

static struct state state_of(const struct vc_vhost_message *m)
{
	return (struct state){vc_ld32(m->payload), vc_ld32(m->payload + 4)};
}

static int set_vring_num(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	struct state state = state_of(m);
	struct vc_vhost_backend_ring *ring = find_resting(s, state.index);

	if (!ring)
		return -EPROTO;
	if (!state.value || state.value > vc_virtq_size_max(s->v, state.index) || (state.value & (state.value - 1)))
		return vc_fail(EPROTO, "ring %u of size %u: expected a power of 2 up to %u", state.index, state.value,
		               vc_virtq_size_max(s->v, state.index));
	ring->setup.size = state.value;
	return 0;
}

static int set_vring_addr(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	struct vc_vhost_backend_ring *ring;
	struct addresses a;
	int r;

	memcpy(&a, m->payload, sizeof a);
	ring = find_resting(s, a.index);
	if (!ring)
		return -EPROTO;
	if (a.flags & LOG_WRITES)
		return vc_fail(EPROTO, "ring %u: a log of writes is not offered", a.index);
	r = vc_vhost_backend_translate(s, a.descriptors, &ring->setup.descriptors);
	if (r >= 0)
		r = vc_vhost_backend_translate(s, a.available, &ring->setup.driver);
	if (r >= 0)
		r = vc_vhost_backend_translate(s, a.used, &ring->setup.device);
	if (r >= 0)
		ring->setup.ready = true;
	return r;
}

static int set_vring_base(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	struct state state = state_of(m);
	struct vc_vhost_backend_ring *ring = find_resting(s, state.index);

	if (!ring)
		return -EPROTO;
	if (state.value > UINT16_MAX)
		return vc_fail(EPROTO, "ring %u begins at %u: expected at most %u", state.index, state.value, UINT16_MAX);
	ring->position = (uint16_t)state.value;
	return 0;
}

static int stop_ring(struct vc_vhost_backend_ring *ring)
{
	int r;

	ring->started = false;
	r = vc_vhost_backend_update(ring);
	return r < 0 ? r : vc_vhost_backend_set_kick(ring, -1);
}

static int get_vring_base(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	struct vc_vhost_backend_ring *ring = find_ring(s, vc_ld32(m->payload));
	int r = ring ? stop_ring(ring) : -EPROTO;

	if (r >= 0)
		vc_st32(m->payload + 4, ring->position);
	return r;
}

static int set_vring_kick(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	uint64_t value = vc_ld64(m->payload);
	struct vc_vhost_backend_ring *ring = find_ring(s, value & 0xff);
	int r;

	if (!ring)
		return -EPROTO;
	if ((value & VC_VHOST_VRING_NO_FD) || m->fd_count != 1)
		return vc_fail(EPROTO, "ring %u is to be polled: expected a descriptor", ring->index);
	if (!ring->setup.ready || !ring->setup.size)
		return vc_fail(EPROTO, "ring %u is started without size and addresses", ring->index);
	r = vc_vhost_backend_set_kick(ring, take_fd(m));
	if (r < 0)
		return r;
	ring->started = true;
	/* who knows no protocol features knows no SET_VRING_ENABLE */
	if (!(s->features & VC_VHOST_F_PROTOCOL))
		ring->enabled = true;
	return vc_vhost_backend_update(ring);
}

static int set_vring_call(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	uint64_t value = vc_ld64(m->payload);
	struct vc_vhost_backend_ring *ring = find_ring(s, value & 0xff);

	if (!ring)
		return -EPROTO;
	return vc_vhost_backend_set_call(ring, value & VC_VHOST_VRING_NO_FD ? -1 : take_fd(m));
}

static int set_vring_enable(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	struct state state = state_of(m);
	struct vc_vhost_backend_ring *ring = find_ring(s, state.index);

	if (!ring)
		return -EPROTO;
	ring->enabled = state.value != 0;
	return vc_vhost_backend_update(ring);
}

static int reset_device(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	int r = 0;

	for (uint32_t i = 0; r >= 0 && i < s->ring_count; i++) {
		s->rings[i].enabled = false;
		r = stop_ring(&s->rings[i]);
	}
	return r;
}

/* ---- dispatch ---- */

static const struct request requests[VC_VHOST_REQUESTS] = {
    [VC_VHOST_GET_FEATURES] = {0, 0, true, get_features},
    [VC_VHOST_SET_FEATURES] = {8, 8, false, set_features},
    [VC_VHOST_SET_OWNER] = {0, 0, false, do_nothing},
    [VC_VHOST_RESET_OWNER] = {0, 0, false, do_nothing},
    [VC_VHOST_SET_MEM_TABLE] = {TABLE_HEADER, VC_VHOST_PAYLOAD_MAX, false, set_mem_table},
    [VC_VHOST_SET_VRING_NUM] = {8, 8, false, set_vring_num},
    [VC_VHOST_SET_VRING_ADDR] = {40, 40, false, set_vring_addr},
    [VC_VHOST_SET_VRING_BASE] = {8, 8, false, set_vring_base},
    [VC_VHOST_GET_VRING_BASE] = {8, 8, true, get_vring_base},
    [VC_VHOST_SET_VRING_KICK] = {8, 8, false, set_vring_kick},
    [VC_VHOST_SET_VRING_CALL] = {8, 8, false, set_vring_call},
    [VC_VHOST_SET_VRING_ERR] = {8, 8, false, do_nothing},
    [VC_VHOST_GET_PROTOCOL_FEATURES] = {0, 0, true, get_protocol_features},
    [VC_VHOST_SET_PROTOCOL_FEATURES] = {8, 8, false, set_protocol_features},
    [VC_VHOST_GET_QUEUE_NUM] = {0, 0, true, get_queue_num},
    [VC_VHOST_SET_VRING_ENABLE] = {8, 8, false, set_vring_enable},
    [VC_VHOST_GET_CONFIG] = {VC_VHOST_CONFIG_HEADER, sizeof(struct config), true, get_config},
    [VC_VHOST_SET_CONFIG] = {VC_VHOST_CONFIG_HEADER, sizeof(struct config), false, set_config},
    [VC_VHOST_RESET_DEVICE] = {0, 0, false, reset_device},
};
_Static_assert(sizeof(struct addresses) == 40, "as it is sent");

static uint64_t deadline(void)
{
	return vc_host_ns() + VC_VHOST_BACKEND_MESSAGE_MS * 1000000ull;
}

static int reply(struct vcore_vhost_user *s, struct vc_vhost_message *m, const struct request *request)
{
	bool acknowledge = (m->flags & VC_VHOST_NEED_REPLY) && (s->protocol & VC_VHOST_P_REPLY_ACK);

	if (!request->answers && !acknowledge)
		return 0;
	if (!request->answers)
		answer_u64(m, 0);
	m->flags = VC_VHOST_VERSION | VC_VHOST_REPLY;
	return vc_vhost_send(s->fd, m, deadline());
}

static int serve(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	const struct request *request = m->request < VC_VHOST_REQUESTS ? &requests[m->request] : NULL;
	int r;

	if (!request || !request->serve)
		return vc_fail(EPROTO, "there is no such request");
	if (m->size < request->least || m->size > request->most)
		return vc_fail(EPROTO, "%u bytes: expected %u to %u", m->size, request->least, request->most);
	r = request->serve(s, m);
	vc_vhost_close_fds(m);
	return r < 0 ? r : reply(s, m, request);
}

int vc_vhost_backend_serve(struct vcore_vhost_user *s)
{
	struct vc_vhost_message m;
	char reason[256];
	int r = vc_vhost_receive(s->fd, &m, deadline());

	if (r < 0)
		return r;
	r = serve(s, &m);
	vc_vhost_close_fds(&m);
	if (r >= 0)
		return 0;
	snprintf(reason, sizeof reason, "%s", vcore_error_message());
	return vc_fail(-r, "request %u, %s: %s", m.request, vc_vhost_request_name(m.request), reason);
}
