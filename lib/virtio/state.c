/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Saving and loading the common half: status, features, where the rings are and how far they are, chains in flight. */
#include <errno.h>
#include <stdlib.h>

#include "chipset/dev_state.h"
#include "virtio/device_priv.h"

#define STATE_VERSION 1u

struct device_state {
	uint32_t version, queues;
	uint64_t features, driver_features;
	uint32_t generation;
	uint8_t status, broken, pad[2];
	uint64_t frontend; /* bytes of the frontend's state, which comes last */
};

struct queue_state {
	uint64_t descriptors, driver, device;
	uint32_t size;
	uint16_t avail, used, shown, unshown;
	uint8_t ready, avail_wrap, used_wrap, notify;
	uint32_t replays;
	uint64_t sequence;
};

struct replay_state {
	uint64_t sequence;
	uint32_t count, out_count;
	uint16_t id, descs;
	uint32_t pad;
};

struct seg_state {
	uint64_t address;
	uint32_t length, pad;
};

/* ---- saving ---- */

/* Counts bytes; writes them where there is room. */
struct out {
	uint8_t *buffer;
	size_t length, at;
};

static void put(struct out *out, const void *data, size_t size)
{
	if (out->buffer && out->at <= out->length && size <= out->length - out->at)
		memcpy(out->buffer + out->at, data, size);
	out->at += size;
}

static void save_replay(struct out *out, const struct vc_replay *r)
{
	struct replay_state state = {
	    .sequence = r->sequence, .count = r->count, .out_count = r->out_count, .id = r->id, .descs = r->descs};

	put(out, &state, sizeof state);
	for (uint32_t i = 0; i < r->count; i++) {
		struct seg_state seg = {r->segs[i].address, r->segs[i].length, 0};

		put(out, &seg, sizeof seg);
	}
}

static void save_queue(struct out *out, const struct vc_virtq *q)
{
	struct queue_state state = {
	    .descriptors = q->setup.descriptors,
	    .driver = q->setup.driver,
	    .device = q->setup.device,
	    .size = q->setup.size,
	    .avail = q->avail,
	    .used = q->used,
	    .shown = q->shown,
	    .unshown = q->unshown,
	    .ready = q->setup.ready,
	    .avail_wrap = q->avail_wrap,
	    .used_wrap = q->used_wrap,
	    .notify = q->notify,
	    .sequence = q->sequence,
	};

	for (const struct vc_replay *r = q->replay; r; r = r->next)
		state.replays++;
	put(out, &state, sizeof state);
	for (const struct vc_replay *r = q->replay; r; r = r->next)
		save_replay(out, r);
}

/* With the turn, stopped. */
static int64_t save(struct vc_virtio *v, struct out *out)
{
	int64_t frontend = v->ops->save ? v->ops->save(v->ctx, NULL, 0) : 0;
	struct device_state state = {
	    .version = STATE_VERSION,
	    .queues = v->queue_count,
	    .features = atomic_load(&v->features),
	    .driver_features = atomic_load(&v->driver_features),
	    .generation = atomic_load(&v->generation),
	    .status = atomic_load(&v->status),
	    .broken = atomic_load(&v->broken),
	    .frontend = (uint64_t)frontend,
	};
	size_t end;

	if (frontend < 0)
		return frontend;
	put(out, &state, sizeof state);
	for (uint32_t i = 0; i < v->queue_count; i++)
		save_queue(out, &v->queues[i]);
	end = out->at + (size_t)frontend;
	if (!out->buffer)
		return (int64_t)end;
	if (end > out->length)
		return vc_fail(ENOSPC, "a buffer of %zu bytes is too small for a device state of %zu", out->length, end);
	if (frontend)
		frontend = v->ops->save(v->ctx, out->buffer + out->at, (size_t)frontend);
	return frontend < 0 ? frontend : (int64_t)out->at + frontend;
}

int64_t vc_virtio_save(struct vc_virtio *v, void *buffer, size_t length)
{
	struct out out = {buffer, length, 0};
	bool was_started;
	int64_t r;

	vc_virtio_take_turn(v);
	was_started = vc_virtio_pause(v);
	r = save(v, &out);
	if (was_started)
		vc_virtio_start(v);
	vc_virtio_give_turn(v);
	return r;
}

/* ---- loading ---- */

struct in {
	const uint8_t *data;
	size_t left;
};

static bool take(struct in *in, void *data, size_t size)
{
	if (size > in->left)
		return false;
	memcpy(data, in->data, size);
	in->data += size;
	in->left -= size;
	return true;
}

static bool load_segs(struct in *in, struct vc_replay *r)
{
	struct seg_state seg;

	for (uint32_t i = 0; i < r->count; i++) {
		if (!take(in, &seg, sizeof seg) || !seg.length)
			return false;
		r->segs[i].address = seg.address;
		r->segs[i].length = seg.length;
	}
	return true;
}

static int load_replay(struct in *in, struct vc_virtq *q)
{
	struct replay_state state;
	struct vc_replay *r;

	if (!take(in, &state, sizeof state) || !state.count || state.count > VC_VIRTQ_MAX_SIZE ||
	    state.out_count > state.count || !state.descs || state.descs > q->setup.size - q->descs ||
	    state.sequence >= q->sequence || state.count > in->left / sizeof(struct seg_state))
		return -EINVAL;
	r = vc_replay_new(state.count);
	if (!r)
		return -ENOMEM;
	r->sequence = state.sequence;
	r->out_count = state.out_count;
	r->id = state.id;
	r->descs = state.descs;
	if (!load_segs(in, r)) {
		free(r);
		return -EINVAL;
	}
	vc_replay_insert(q, r);
	q->descs += state.descs;
	return 0;
}

/* Can a queue be there? A packed one counts positions, a split one entries. */
static bool position_valid(const struct vc_virtq *q, const struct queue_state *s, bool packed)
{
	if (s->avail_wrap > 1 || s->used_wrap > 1 || s->ready > 1 || s->notify > 1 || s->unshown > s->size)
		return false;
	if (packed)
		return s->avail < s->size && s->used < s->size && s->shown < s->size;
	return !(s->size & (s->size - 1)) && (uint16_t)(s->avail - s->used) <= s->size &&
	       (uint16_t)(s->used - s->shown) == s->unshown;
}

static int load_queue(struct in *in, struct vc_virtq *q, bool packed)
{
	struct queue_state s;
	int r = 0;

	if (!take(in, &s, sizeof s) || !s.size || s.size > q->size_max || (s.ready && !position_valid(q, &s, packed)))
		return -EINVAL;
	q->setup = (struct vc_virtq_setup){s.size, s.descriptors, s.driver, s.device, s.ready};
	q->avail = s.avail;
	q->used = s.used;
	q->shown = s.shown;
	q->unshown = s.unshown;
	q->avail_wrap = s.avail_wrap;
	q->used_wrap = s.used_wrap;
	q->notify = s.notify;
	q->sequence = s.sequence;
	if (s.ready && !vc_virtq_setup_valid(q, &q->setup))
		return -EINVAL;
	while (r >= 0 && s.replays-- > 0)
		r = load_replay(in, q);
	return r;
}

static int load(struct vc_virtio *v, struct in *in)
{
	struct device_state s;
	int r = 0;

	if (!take(in, &s, sizeof s) || s.version != STATE_VERSION || s.queues != v->queue_count || s.broken > 1 ||
	    (s.features & ~vc_virtio_device_features(v)) || (s.features && s.features != s.driver_features) ||
	    ((s.status & VC_VIRTIO_S_DRIVER_OK) && !(s.status & VC_VIRTIO_S_FEATURES_OK)) ||
	    !(s.status & VC_VIRTIO_S_FEATURES_OK) != !s.features)
		return -EINVAL;
	atomic_store(&v->features, s.features);
	atomic_store(&v->driver_features, s.driver_features);
	atomic_store(&v->generation, s.generation);
	if (s.features && v->ops->negotiated)
		r = v->ops->negotiated(v->ctx, s.features);
	for (uint32_t i = 0; r >= 0 && i < v->queue_count; i++)
		r = load_queue(in, &v->queues[i], s.features & VC_VIRTIO_F_RING_PACKED);
	if (r >= 0 && in->left != s.frontend)
		r = -EINVAL;
	if (r >= 0 && v->ops->load)
		r = v->ops->load(v->ctx, in->data, in->left);
	else if (r >= 0 && in->left)
		r = -EINVAL;
	if (r < 0)
		return r;
	atomic_store(&v->status, s.status);
	atomic_store(&v->broken, s.broken);
	v->start_later = (s.status & VC_VIRTIO_S_DRIVER_OK) && !s.broken;
	if (v->start_later && !v->held) {
		v->start_later = false;
		vc_virtio_start(v);
	}
	return 0;
}

int vc_virtio_load(struct vc_virtio *v, const void *buffer, size_t length)
{
	struct in in = {buffer, length};
	int r;

	vc_virtio_take_turn(v);
	vc_virtio_clear(v);
	r = load(v, &in);
	if (r < 0)
		vc_virtio_clear(v);
	vc_virtio_give_turn(v);
	return r >= 0         ? 0
	       : r == -EINVAL ? vc_fail(EINVAL, "the saved state of a %s holds what the device cannot be in", v->ops->type)
	                      : r;
}
