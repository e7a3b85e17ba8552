/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a front-end asks for. Nothing that it says is believed. */
#include <stdio.h>
#include <unistd.h>
#include <virtcore/error.h>

#include "core/clock.h"
#include "core/error.h"
#include "core/util.h"
#include "vhost/backend.h"

#define PROTOCOL_OFFERED                                                                                        \
	(VC_VHOST_P_MQ | VC_VHOST_P_LOG_SHMFD | VC_VHOST_P_REPLY_ACK | VC_VHOST_P_BACKEND_REQ | VC_VHOST_P_CONFIG | \
	 VC_VHOST_P_INFLIGHT | VC_VHOST_P_RESET_DEVICE | VC_VHOST_P_MEM_SLOTS | VC_VHOST_P_STATUS)

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

struct area {
	uint64_t length, offset;
};

enum { INFLIGHT_BYTES = 20 /* QEMU sends the padding as well */, INFLIGHT_PADDED = 24 };
enum { TABLE_HEADER = 8, REGION_BYTES = TABLE_HEADER + sizeof(struct vc_vhost_wire_region) };

/* A request: what belongs to it, and what is done. */
struct request {
	uint32_t least, most; /* bytes of payload */
	bool answers;         /* the answer is in the message then */
	int (*serve)(struct vcore_vhost_user *s, struct vc_vhost_message *m);
	bool gives; /* and with it are descriptors */
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
	if ((features ^ s->features) & ~VC_VHOST_F_LOG_ALL && vc_virtio_status(s->v))
		return vc_fail(EPROTO, "features %#llx come while rings are under way", (unsigned long long)features);
	s->features = features;
	atomic_store(&s->logging, features & VC_VHOST_F_LOG_ALL);
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
	struct vc_vhost_wire_region regions[VC_VHOST_REGIONS_MAX];
	uint32_t count = vc_ld32(m->payload);

	if (count > VC_VHOST_REGIONS_MAX || count != m->fd_count || m->size < TABLE_HEADER + count * sizeof regions[0])
		return vc_fail(EPROTO, "%u regions in %u bytes with %u descriptors: expected at most %d, each with its own",
		               count, m->size, m->fd_count, VC_VHOST_REGIONS_MAX);
	memcpy(regions, m->payload + TABLE_HEADER, count * sizeof regions[0]);
	return vc_vhost_backend_set_memory(s, regions, m->fds, count);
}

static int get_max_mem_slots(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	return answer_u64(m, VC_VHOST_BACKEND_SLOTS_MAX);
}

static int add_mem_reg(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	struct vc_vhost_wire_region region;

	memcpy(&region, m->payload + TABLE_HEADER, sizeof region);
	return m->fd_count == 1 ? vc_vhost_backend_add_region(s, &region, m->fds[0])
	                        : vc_fail(EPROTO, "%u descriptors: expected one", m->fd_count);
}

static int rem_mem_reg(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	struct vc_vhost_wire_region region;

	memcpy(&region, m->payload + TABLE_HEADER, sizeof region);
	return vc_vhost_backend_remove_region(s, &region);
}

static int set_log_base(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	struct area area;
	int r;

	memcpy(&area, m->payload, sizeof area);
	if (!(s->protocol & VC_VHOST_P_LOG_SHMFD) || m->fd_count != 1)
		return vc_fail(EPROTO,
		               "a log in the front-end's own memory: expected a descriptor, and protocol feature LOG_SHMFD");
	r = vc_vhost_backend_set_log(s, m->fds[0], area.offset, area.length);
	return r < 0 ? r : answer_u64(m, 0);
}

static struct vc_vhost_wire_inflight inflight_of(const struct vc_vhost_message *m)
{
	struct vc_vhost_wire_inflight inflight = {0};

	memcpy(&inflight, m->payload, INFLIGHT_BYTES);
	return inflight;
}

static int get_inflight_fd(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	struct vc_vhost_wire_inflight inflight = inflight_of(m);
	int fd = vc_vhost_backend_new_inflight(s, &inflight);

	vc_vhost_close_fds(m);
	if (fd < 0)
		return fd;
	memcpy(m->payload, &inflight, INFLIGHT_BYTES);
	m->fds[m->fd_count++] = fd;
	return 0;
}

static int set_inflight_fd(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	struct vc_vhost_wire_inflight inflight = inflight_of(m);

	return m->fd_count == 1 ? vc_vhost_backend_set_inflight(s, &inflight, m->fds[0])
	                        : vc_fail(EPROTO, "%u descriptors: expected one", m->fd_count);
}

static int set_backend_req_fd(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	vc_vhost_backend_set_channel(s, take_fd(m));
	return 0;
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
	if (!state.value || state.value > vc_virtq_size_max(s->v, state.index) ||
	    (state.value & (state.value - 1) && !(s->features & VC_VIRTIO_F_RING_PACKED)))
		return vc_fail(EPROTO, "ring %u of size %u: expected a power of 2 up to %u", state.index, state.value,
		               vc_virtq_size_max(s->v, state.index));
	ring->setup.size = state.value;
	return 0;
}

/* Whether what is written to the ring itself is logged (a.flags, a.log) goes without saying: all is. */
static int set_vring_addr(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	struct vc_vhost_backend_ring *ring;
	struct vc_virtq_setup setup = {.ready = true};
	struct addresses a;
	int r;

	memcpy(&a, m->payload, sizeof a);
	ring = find_ring(s, a.index);
	if (!ring)
		return -EPROTO;
	r = vc_vhost_backend_translate(s, a.descriptors, &setup.descriptors);
	if (r >= 0)
		r = vc_vhost_backend_translate(s, a.available, &setup.driver);
	if (r >= 0)
		r = vc_vhost_backend_translate(s, a.used, &setup.device);
	if (r < 0)
		return r;
	if (ring->live && (setup.descriptors != ring->setup.descriptors || setup.driver != ring->setup.driver ||
	                   setup.device != ring->setup.device))
		return vc_fail(EPROTO, "ring %u is under way elsewhere", a.index);
	setup.size = ring->setup.size;
	ring->setup = setup;
	return 0;
}

static int set_vring_base(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	struct state state = state_of(m);
	struct vc_vhost_backend_ring *ring = find_resting(s, state.index);

	if (!ring)
		return -EPROTO;
	if (state.value > UINT16_MAX && !(s->features & VC_VIRTIO_F_RING_PACKED))
		return vc_fail(EPROTO, "ring %u begins at %u: expected at most %u", state.index, state.value, UINT16_MAX);
	ring->position = state.value;
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

/* ---- status ---- */

static int get_status(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	return answer_u64(m, s->status | (vc_virtio_status(s->v) & VC_VIRTIO_S_NEEDS_RESET));
}

static int set_status(struct vcore_vhost_user *s, struct vc_vhost_message *m)
{
	uint64_t status = vc_ld64(m->payload);

	if (status > UINT8_MAX)
		return vc_fail(EPROTO, "status %#llx: expected a byte", (unsigned long long)status);
	s->status = (uint8_t)status;
	return status ? 0 : reset_device(s, m);
}

/* ---- dispatch ---- */

static const struct request requests[VC_VHOST_REQUESTS] = {
    [VC_VHOST_GET_FEATURES] = {0, 0, true, get_features},
    [VC_VHOST_SET_FEATURES] = {8, 8, false, set_features},
    [VC_VHOST_SET_OWNER] = {0, 0, false, do_nothing},
    [VC_VHOST_RESET_OWNER] = {0, 0, false, do_nothing},
    [VC_VHOST_SET_MEM_TABLE] = {TABLE_HEADER, VC_VHOST_PAYLOAD_MAX, false, set_mem_table},
    [VC_VHOST_SET_LOG_BASE] = {sizeof(struct area), sizeof(struct area), true, set_log_base},
    [VC_VHOST_SET_LOG_FD] = {0, 8, false, do_nothing},
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
    [VC_VHOST_SET_BACKEND_REQ_FD] = {0, 8, false, set_backend_req_fd},
    [VC_VHOST_GET_CONFIG] = {VC_VHOST_CONFIG_HEADER, sizeof(struct config), true, get_config},
    [VC_VHOST_SET_CONFIG] = {VC_VHOST_CONFIG_HEADER, sizeof(struct config), false, set_config},
    [VC_VHOST_GET_INFLIGHT_FD] = {INFLIGHT_BYTES, INFLIGHT_PADDED, true, get_inflight_fd, true},
    [VC_VHOST_SET_INFLIGHT_FD] = {INFLIGHT_BYTES, INFLIGHT_PADDED, false, set_inflight_fd},
    [VC_VHOST_RESET_DEVICE] = {0, 0, false, reset_device},
    [VC_VHOST_GET_MAX_MEM_SLOTS] = {0, 0, true, get_max_mem_slots},
    [VC_VHOST_ADD_MEM_REG] = {REGION_BYTES, REGION_BYTES, false, add_mem_reg},
    [VC_VHOST_REM_MEM_REG] = {REGION_BYTES, REGION_BYTES, false, rem_mem_reg},
    [VC_VHOST_SET_STATUS] = {8, 8, false, set_status},
    [VC_VHOST_GET_STATUS] = {0, 0, true, get_status},
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
	if (!request->gives)
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
