/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What both formats of virtqueues have in common: memory, popping and pushing, notifications. */
#include "virtio/queue.h"

#include <errno.h>
#include <stdlib.h>

#include "virtio/device_priv.h"

/* ---- pins ---- */

static struct vc_pin *new_pin(struct vc_virtq *q)
{
	struct vc_pin *pin = q->spare_pins;

	if (!pin)
		return malloc(sizeof *pin);
	q->spare_pins = pin->next;
	return pin;
}

static void spare_pin(struct vc_virtq *q, struct vc_pin *pin)
{
	pin->next = q->spare_pins;
	q->spare_pins = pin;
}

struct vc_pin *vc_virtq_pin_slow(struct vc_virtq *q, uint64_t gpa)
{
	struct vc_pin *pin;
	struct vc_slot *slot;

	for (pin = q->pins; pin; pin = pin->next)
		if (gpa - pin->gpa < pin->length)
			return q->last = pin;
	pin = new_pin(q);
	if (!pin)
		return NULL;
	slot = vc_mem_pin(q->mem, gpa);
	if (!slot) {
		spare_pin(q, pin);
		return NULL;
	}
	*pin = (struct vc_pin){
	    .slot = slot,
	    .hva = slot->hva,
	    .gpa = slot->gpa,
	    .length = slot->length,
	    .writable = (slot->flags & VCORE_MEM_W) && !slot->host_readonly,
	    .next = q->pins,
	};
	return q->last = q->pins = pin;
}

/* A pin that is in no list, and that nobody uses. */
void vc_virtq_pin_free(struct vc_virtq *q, struct vc_pin *pin)
{
	vc_mem_unpin(pin->slot);
	spare_pin(q, pin);
}

/* Forget the pins that are not used; all: those that are as well, they go with their last user. */
static void forget_pins(struct vc_virtq *q, bool all)
{
	struct vc_pin **at = &q->pins;

	q->last = NULL;
	while (*at) {
		struct vc_pin *pin = *at;

		if (pin->users && !all) {
			at = &pin->next;
			continue;
		}
		*at = pin->next;
		pin->stale = true;
		if (!pin->users)
			vc_virtq_pin_free(q, pin);
	}
}

bool vc_virtq_read_memory(struct vc_virtq *q, uint64_t gpa, void *buffer, uint32_t length)
{
	uint8_t *to = buffer;

	while (length) {
		const struct vc_pin *pin = vc_virtq_pin(q, gpa);
		uint64_t piece = length;

		if (!pin)
			return false;
		if (piece > pin->length - (gpa - pin->gpa))
			piece = pin->length - (gpa - pin->gpa);
		memcpy(to, pin->hva + (gpa - pin->gpa), piece);
		to += piece;
		gpa += piece;
		length -= (uint32_t)piece;
	}
	return true;
}

bool vc_virtq_read(struct vc_virtq *q, uint64_t address, void *buffer, uint32_t length)
{
	return q->endpoint ? vc_virtq_read_translated(q, address, buffer, length)
	                   : vc_virtq_read_memory(q, address, buffer, length);
}

/* ---- areas ---- */

static void close_areas(struct vc_virtq *q)
{
	for (unsigned i = 0; i < VC_AREA_COUNT; i++) {
		struct vc_area *area = &q->areas[i];

		if (area->pin)
			vc_pin_put(q, area->pin);
		area->pin = NULL;
		area->hva = NULL;
		if (vc_unlikely(q->endpoint != NULL))
			vc_area_let_go(area);
	}
	q->open = false;
}

static bool map_area(struct vc_virtq *q, struct vc_area *area, bool written)
{
	struct vc_pin *pin;

	if (q->endpoint && !vc_area_translate(q, area, written))
		return false;
	pin = vc_virtq_pin(q, area->gpa);
	if (!pin || area->length > pin->length - (area->gpa - pin->gpa) || (written && !pin->writable))
		return false;
	pin->users++;
	area->pin = pin;
	area->hva = pin->hva + (area->gpa - pin->gpa);
	return true;
}

static int reopen(struct vc_virtq *q, uint64_t version)
{
	static const char *const names[VC_AREA_COUNT] = {"descriptors", "driver's area", "device's area"};

	close_areas(q);
	if (version != q->version)
		forget_pins(q, true);
	q->version = version;
	for (unsigned i = 0; i < VC_AREA_COUNT; i++) {
		if (map_area(q, &q->areas[i], vc_ring_ops(q)->written[i]))
			continue;
		vc_virtio_broken(q->v, "queue %u: the %s at [%#llx, +%#x) do not lie in one slot of memory, or one piece of it",
		                 q->index, names[i], (unsigned long long)q->areas[i].address, q->areas[i].length);
		close_areas(q);
		return -EPROTO;
	}
	q->open = true;
	return 0;
}

/* Before every use of the rings. */
static inline int open_queue(struct vc_virtq *q)
{
	uint64_t version = atomic_load_explicit(&q->mem->version, memory_order_acquire);

	if (vc_unlikely(vc_virtio_is_broken(q->v)))
		return -EPROTO;
	return vc_likely(q->open && version == q->version) ? 0 : reopen(q, version);
}

/* Nothing to do for now: memory that is removed meanwhile must not stay because of us. */
static void rest(struct vc_virtq *q)
{
	close_areas(q);
	forget_pins(q, false);
}

/* ---- setup ---- */

void vc_virtq_init(struct vc_virtq *q, struct vc_virtio *v, struct vc_mem *mem, uint32_t index, uint32_t size_max)
{
	*q = (struct vc_virtq){.v = v, .mem = mem, .index = index, .size_max = size_max, .setup.size = size_max};
	vc_virtq_rewind(q);
}

void vc_virtq_fini(struct vc_virtq *q)
{
	vc_replay_clear(q);
	free(q->inflight.next);
	while (q->spare_pins) {
		struct vc_pin *pin = q->spare_pins;

		q->spare_pins = pin->next;
		free(pin);
	}
}

static bool area_valid(const struct vc_virtq *q, const struct vc_virtq_setup *setup, enum vc_area_kind kind)
{
	const uint64_t gpas[VC_AREA_COUNT] = {setup->descriptors, setup->driver, setup->device};
	const struct vc_ring_ops *ops = vc_virtio_has(q->v, VC_VIRTIO_F_RING_PACKED) ? &vc_packed_ops : &vc_split_ops;

	return VC_IS_ALIGNED(gpas[kind], (uint64_t)ops->align[kind]);
}

bool vc_virtq_setup_valid(struct vc_virtq *q, const struct vc_virtq_setup *s)
{
	bool packed = vc_virtio_has(q->v, VC_VIRTIO_F_RING_PACKED);
	bool size_valid = s->size && s->size <= q->size_max && (packed || !(s->size & (s->size - 1)));

	if (!size_valid)
		vc_virtio_broken(q->v, "queue %u: size %u: expected at most %u%s", q->index, s->size, q->size_max,
		                 packed ? "" : " and a power of 2");
	if (packed && size_valid && (q->avail >= s->size || q->used >= s->size)) {
		vc_virtio_broken(q->v, "queue %u: it begins at %u of %u", q->index, q->avail, s->size);
		return false;
	}
	for (unsigned i = 0; size_valid && i < VC_AREA_COUNT; i++) {
		if (area_valid(q, s, i))
			continue;
		vc_virtio_broken(q->v, "queue %u: rings at %#llx, %#llx, %#llx are not aligned", q->index,
		                 (unsigned long long)s->descriptors, (unsigned long long)s->driver,
		                 (unsigned long long)s->device);
		return false;
	}
	return size_valid;
}

void vc_virtq_rewind(struct vc_virtq *q)
{
	vc_replay_clear(q);
	vc_inflight_forget(q);
	q->avail = q->seen = q->used = q->shown = q->unshown = q->descs = 0;
	q->avail_wrap = q->used_wrap = true;
	q->notify = true;
	q->starved = false;
	q->sequence = 0;
}

int vc_virtq_activate(struct vc_virtq *q)
{
	const uint64_t gpas[VC_AREA_COUNT] = {q->setup.descriptors, q->setup.driver, q->setup.device};

	q->size = (uint16_t)q->setup.size;
	q->packed = vc_virtio_has(q->v, VC_VIRTIO_F_RING_PACKED);
	q->event_idx = vc_virtio_has(q->v, VC_VIRTIO_F_EVENT_IDX);
	q->indirect = vc_virtio_has(q->v, VC_VIRTIO_F_INDIRECT_DESC);
	q->chains = calloc(q->size, sizeof q->chains[0]);
	if (!q->chains)
		return -ENOMEM;
	q->free_chains = NULL;
	for (uint32_t i = q->size; i-- > 0;) {
		q->chains[i].next = q->free_chains;
		q->free_chains = &q->chains[i];
	}
	for (unsigned i = 0; i < VC_AREA_COUNT; i++)
		q->areas[i] =
		    (struct vc_area){.gpa = gpas[i], .address = gpas[i], .length = vc_ring_ops(q)->area_length(q->size, i)};
	q->endpoint = vc_virtio_endpoint(q->v);
	q->cache = (struct vc_iommu_cache){0};
	q->seen = q->avail;
	atomic_store(&q->active, true);
	return 0;
}

void vc_virtq_deactivate(struct vc_virtq *q)
{
	if (!atomic_load(&q->active))
		return;
	for (uint32_t i = 0; i < q->size; i++)
		if (q->chains[i].busy)
			vc_virtq_drop(&q->chains[i].c);
	rest(q);
	atomic_store(&q->active, false);
	while (q->free_bigs) {
		struct vc_big *big = q->free_bigs;

		q->free_bigs = big->next;
		free(big);
	}
	q->bigs = 0;
	q->free_chains = NULL;
	free(q->chains);
	q->chains = NULL;
}

/* ---- for frontends ---- */

unsigned vc_virtq_index(const struct vc_virtq *q)
{
	return q->index;
}

struct vc_virtio *vc_virtq_device(const struct vc_virtq *q)
{
	return q->v;
}

/* With event indices the driver has to be told that we have seen everything, or it would not notify again. */
static int look_again(struct vc_virtq *q)
{
	vc_ring_ops(q)->set_notify(q, true);
	atomic_thread_fence(memory_order_seq_cst); /* seen before we look, or the driver's last chain would be lost */
	return vc_ring_ops(q)->available(q);
}

static int is_available(struct vc_virtq *q)
{
	int r = vc_virtq_has_again(q) ? 1 : vc_ring_ops(q)->available(q);

	if (vc_likely(r))
		return r;
	if (q->notify && q->event_idx)
		r = look_again(q);
	if (!r)
		rest(q);
	return r;
}

int vc_virtq_count_descs(struct vc_virtq *q, const struct vc_chain *chain)
{
	q->descs += chain->descs;
	if (vc_likely(q->descs <= q->size))
		return 0;
	vc_virtio_broken(q->v, "queue %u: %u descriptors are in flight in a ring of %u", q->index, q->descs, q->size);
	return -EPROTO;
}

static int fill_chain(struct vc_virtq *q, struct vc_chain *chain)
{
	int r;

	if (vc_unlikely(vc_virtq_has_again(q)))
		return q->replay ? vc_replay_pop(q, chain) : vc_inflight_pop(q, chain);
	r = vc_ring_ops(q)->pop(q, chain);
	if (r >= 0)
		r = vc_virtq_count_descs(q, chain);
	if (vc_unlikely(q->inflight.at != NULL) && r >= 0)
		vc_inflight_popped(q, chain);
	return r;
}

int vc_virtq_pop(struct vc_virtq *q, struct vc_virtq_chain **out)
{
	struct vc_chain *chain;
	int r = open_queue(q);

	if (r >= 0)
		r = is_available(q);
	if (r <= 0)
		return r;
	chain = vc_chain_take(q);
	if (vc_unlikely(!chain)) {
		vc_virtio_broken(q->v, "queue %u: more than %u chains are in flight", q->index, q->size);
		return -EPROTO;
	}
	r = fill_chain(q, chain);
	if (vc_unlikely(r < 0)) {
		vc_chain_free(q, chain);
		return r == -EAGAIN ? 0 : r;
	}
	chain->c.out = chain->iov;
	chain->c.in = chain->iov + chain->c.out_count;
	chain->out_count = chain->c.out_count;
	*out = &chain->c;
	return 1;
}

bool vc_virtq_waiting(struct vc_virtq *q)
{
	return !q->starved && open_queue(q) >= 0 && (vc_virtq_has_again(q) || vc_ring_ops(q)->available(q) > 0);
}

static struct vc_chain *chain_of(struct vc_virtq_chain *c)
{
	return VC_CONTAINER_OF(c, struct vc_chain, c);
}

uint64_t vc_virtq_in_gpa(const struct vc_virtq_chain *c, unsigned n)
{
	const struct vc_chain *chain = VC_CONTAINER_OF(c, struct vc_chain, c);

	return chain->segs[chain->out_count + n].gpa;
}

/* The device has written so much from the start of what it may write. */
static void wrote_chain(const struct vc_chain *chain, uint32_t written)
{
	for (uint32_t i = chain->out_count; i < chain->count && written; i++) {
		const struct vc_seg *seg = &chain->segs[i];
		uint32_t piece = written < seg->length ? written : seg->length;

		vc_mem_wrote(seg->pin->slot, seg->gpa, piece);
		written -= piece;
	}
}

static void put_used(struct vc_virtq *q, const struct vc_chain *chain, uint32_t written)
{
	if (vc_unlikely(q->inflight.at != NULL))
		vc_inflight_pushing(q, chain);
	vc_ring_ops(q)->push(q, chain, written);
	if (vc_unlikely(q->inflight.at != NULL))
		vc_inflight_pushed(q, chain);
}

void vc_virtq_push(struct vc_virtq_chain *c, uint32_t written)
{
	struct vc_chain *chain = chain_of(c);
	struct vc_virtq *q = c->queue;

	/* before the driver can see it: it may execute what was read from a disk */
	wrote_chain(chain, written);
	q->descs -= chain->descs;
	if (vc_likely(open_queue(q) >= 0))
		put_used(q, chain, written);
	vc_chain_free(q, chain);
}

void vc_virtq_unpop(struct vc_virtq_chain *c)
{
	struct vc_chain *chain = chain_of(c);
	struct vc_virtq *q = c->queue;

	if (chain->replay && vc_replay_keep(q, chain) < 0)
		vc_virtio_broken(q->v, "queue %u: no memory for a chain", q->index);
	if (!chain->replay) {
		q->avail = chain->position;
		q->avail_wrap = chain->position_wrap;
		q->descs -= chain->descs;
		if (q->inflight.at)
			vc_inflight_unpopped(q, chain);
	}
	vc_chain_free(q, chain);
}

void vc_virtq_drop(struct vc_virtq_chain *c)
{
	struct vc_chain *chain = chain_of(c);
	struct vc_virtq *q = c->queue;

	if (!vc_virtio_is_pausing(q->v))
		q->descs -= chain->descs;
	else if (vc_replay_keep(q, chain) < 0)
		vc_virtio_broken(q->v, "queue %u: no memory for a chain", q->index);
	vc_chain_free(q, chain);
}

void vc_virtq_flush(struct vc_virtq *q)
{
	uint32_t count = q->unshown;
	bool shown = count && open_queue(q) >= 0, interrupt = shown && vc_ring_ops(q)->flush(q);

	if (vc_unlikely(q->inflight.at != NULL) && shown)
		vc_inflight_flushed(q, count);
	if (!q->busy && !atomic_load_explicit(&q->in_notify, memory_order_relaxed))
		rest(q);
	if (interrupt)
		vc_virtio_interrupt(q->v, q->index);
}

void vc_virtq_notify_off(struct vc_virtq *q)
{
	if (!q->notify)
		return;
	q->notify = false;
	if (open_queue(q) >= 0)
		vc_ring_ops(q)->set_notify(q, false);
}

bool vc_virtq_notify_on(struct vc_virtq *q)
{
	int r = open_queue(q);

	q->notify = true;
	if (r >= 0)
		r = look_again(q);
	if (r >= 0 && vc_virtq_has_again(q))
		r = 1;
	if (q->starved) /* give_big() wakes */
		r = 0;
	if (!r)
		rest(q);
	return r > 0;
}
