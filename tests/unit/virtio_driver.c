/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "virtio_driver.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/util.h"

enum { NEXT = 1, WRITE = 2, INDIRECT = 4, AVAIL = 1 << 7, USED = 1 << 15, WRAP = 1 << 15, NONE = 0xffff };

static void die(const char *what)
{
	fprintf(stderr, "virtio driver: %s\n", what);
	abort();
}

/* ---- registers ---- */

static uint64_t access_mmio(struct vdrv *d, uint32_t reg, unsigned width, bool write, uint64_t data)
{
	struct vcore_io io = {.size = sizeof io,
	                      .bus = VCORE_BUS_MMIO,
	                      .address = d->base + reg,
	                      .width = width,
	                      .data = data,
	                      .is_write = write};

	if (d->pci)
		return vdrv_pci_access(d, reg, width, write, data);
	if (!vc_bus_dispatch(d->env->buses, NULL, &io))
		die("nobody answers at the device's address");
	return io.data;
}

uint32_t vdrv_read(struct vdrv *d, uint32_t reg)
{
	return (uint32_t)access_mmio(d, reg, 4, false, 0);
}

void vdrv_write(struct vdrv *d, uint32_t reg, uint32_t value)
{
	access_mmio(d, reg, 4, true, value);
}

uint64_t vdrv_config(struct vdrv *d, uint32_t offset, unsigned width)
{
	return access_mmio(d, VDRV_CONFIG + offset, width, false, 0);
}

void vdrv_set_config(struct vdrv *d, uint32_t offset, unsigned width, uint64_t value)
{
	access_mmio(d, VDRV_CONFIG + offset, width, true, value);
}

uint8_t vdrv_status(struct vdrv *d)
{
	return (uint8_t)vdrv_read(d, VDRV_STATUS);
}

void vdrv_attach(struct vdrv *d, struct vc_env *env, uint64_t heap)
{
	*d = (struct vdrv){.env = env, .heap = heap};
	for (struct vc_dev *dev = env->buses->devices; dev; dev = dev->next) {
		bool mmio = dev->hid && !strcmp(dev->hid, "LNRO0005");

		if (mmio)
			d->pci = false;
		if (mmio || vdrv_pci_attach(d, dev))
			d->dev = dev;
	}
	if (!d->dev)
		die("there is no virtio device");
	if (!d->pci)
		d->base = d->dev->base;
	if (!d->pci && (vdrv_read(d, 0) != 0x74726976 || vdrv_read(d, 4) != 2))
		die("magic or version is wrong");
	vdrv_reset(d);
	vdrv_write(d, VDRV_STATUS, VC_VIRTIO_S_ACKNOWLEDGE);
	vdrv_write(d, VDRV_STATUS, VC_VIRTIO_S_ACKNOWLEDGE | VC_VIRTIO_S_DRIVER);
}

void vdrv_reset(struct vdrv *d)
{
	vdrv_write(d, VDRV_STATUS, 0);
	if (vdrv_status(d))
		die("a reset left a status");
}

bool vdrv_negotiate(struct vdrv *d, uint64_t wanted)
{
	uint64_t offered = 0;

	for (uint32_t half = 0; half < 2; half++) {
		vdrv_write(d, VDRV_DEVICE_FEATURES_SEL, half);
		offered |= (uint64_t)vdrv_read(d, VDRV_DEVICE_FEATURES) << 32 * half;
	}
	d->features = offered & wanted;
	for (uint32_t half = 0; half < 2; half++) {
		vdrv_write(d, VDRV_DRIVER_FEATURES_SEL, half);
		vdrv_write(d, VDRV_DRIVER_FEATURES, (uint32_t)(d->features >> 32 * half));
	}
	vdrv_write(d, VDRV_STATUS, vdrv_status(d) | VC_VIRTIO_S_FEATURES_OK);
	return vdrv_status(d) & VC_VIRTIO_S_FEATURES_OK;
}

void vdrv_start(struct vdrv *d)
{
	vdrv_write(d, VDRV_STATUS, vdrv_status(d) | VC_VIRTIO_S_DRIVER_OK);
	if (!(vdrv_status(d) & VC_VIRTIO_S_DRIVER_OK))
		die("the device refuses DRIVER_OK");
}

uint32_t vdrv_take_isr(struct vdrv *d)
{
	uint32_t isr = vdrv_read(d, VDRV_ISR);

	vdrv_write(d, VDRV_ACK, isr);
	return isr;
}

/* ---- memory ---- */

void *vdrv_ptr(struct vdrv *d, uint64_t gpa)
{
	void *p;

	vc_mem_rdlock(d->env->mem);
	p = vc_mem_ptr(d->env->mem, gpa, 1);
	vc_mem_unlock(d->env->mem);
	if (!p)
		die("the guest's memory is too small");
	return p;
}

uint64_t vdrv_alloc(struct vdrv *d, uint64_t length, uint64_t align)
{
	uint64_t gpa = VC_ALIGN_UP(d->heap, align);

	d->heap = gpa + length;
	vdrv_ptr(d, d->heap - 1);
	memset(vdrv_ptr(d, gpa), 0, length);
	return gpa;
}

/* ---- queues ---- */

static void write_address(struct vdrv *d, uint32_t reg, uint64_t gpa)
{
	vdrv_write(d, reg, (uint32_t)gpa);
	vdrv_write(d, reg + 4, (uint32_t)(gpa >> 32));
}

static void make_rings(struct vdrv_queue *q)
{
	uint32_t size = q->size;

	q->desc_gpa = vdrv_alloc(q->d, size * 16, 16);
	q->driver_gpa = vdrv_alloc(q->d, q->packed ? 4 : 6 + 2 * size, 4);
	q->device_gpa = vdrv_alloc(q->d, q->packed ? 4 : 6 + 8 * size, 4);
	q->desc = vdrv_ptr(q->d, q->desc_gpa);
	q->driver = vdrv_ptr(q->d, q->driver_gpa);
	q->device = vdrv_ptr(q->d, q->device_gpa);
	if (q->use_indirect) {
		q->tables_gpa = vdrv_alloc(q->d, (uint64_t)size * VDRV_TABLE * 16, 16);
		q->tables = vdrv_ptr(q->d, q->tables_gpa);
	}
}

void vdrv_queue(struct vdrv *d, struct vdrv_queue *q, uint32_t index, uint32_t size)
{
	*q = (struct vdrv_queue){.d = d, .index = index, .size = (uint16_t)size, .free = (uint16_t)size};
	q->packed = d->features & VC_VIRTIO_F_RING_PACKED;
	q->event_idx = d->features & VC_VIRTIO_F_EVENT_IDX;
	q->use_indirect = d->features & VC_VIRTIO_F_INDIRECT_DESC;
	q->avail_wrap = q->used_wrap = true;
	q->interrupts = true;
	for (uint32_t i = 0; i < size; i++)
		q->next[i] = (uint16_t)(i + 1 < size ? i + 1 : NONE);
	make_rings(q);
	vdrv_write(d, VDRV_QUEUE_SEL, index);
	if (size > vdrv_read(d, VDRV_QUEUE_SIZE_MAX) || vdrv_read(d, VDRV_QUEUE_READY))
		die("the queue is not there, smaller, or in use");
	vdrv_write(d, VDRV_QUEUE_SIZE, size);
	write_address(d, VDRV_QUEUE_DESC, q->desc_gpa);
	write_address(d, VDRV_QUEUE_DRIVER, q->driver_gpa);
	write_address(d, VDRV_QUEUE_DEVICE, q->device_gpa);
	vdrv_write(d, VDRV_QUEUE_READY, 1);
	if (!vdrv_read(d, VDRV_QUEUE_READY))
		die("the device refuses the queue");
}

static uint16_t load16(const uint8_t *p)
{
	return atomic_load_explicit((const _Atomic uint16_t *)p, memory_order_acquire);
}

static void store16(uint8_t *p, uint16_t value)
{
	atomic_store_explicit((_Atomic uint16_t *)p, value, memory_order_release);
}

static bool need_event(uint16_t event, uint16_t new, uint16_t old)
{
	return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

/* Both formats: address, length; then flags and next, or ID and flags. */
static void put_desc(uint8_t *p, const struct vdrv_buf *buf, uint16_t a, uint16_t b)
{
	vc_st64(p, buf->gpa);
	vc_st64(p + 8, buf->length | (uint64_t)a << 32 | (uint64_t)b << 48);
}

static uint16_t buf_flags(const struct vdrv_buf *bufs, unsigned i, unsigned count)
{
	return (uint16_t)((bufs[i].write ? WRITE : 0) | (i + 1 < count ? NEXT : 0));
}

/* The table of an ID; returns the buffer that describes it. */
static struct vdrv_buf fill_table(struct vdrv_queue *q, uint16_t id, const struct vdrv_buf *bufs, unsigned count)
{
	uint32_t at = id * VDRV_TABLE * 16u;

	for (unsigned i = 0; i < count; i++) {
		uint16_t flags = buf_flags(bufs, i, count), next = (uint16_t)(i + 1);

		if (q->packed)
			put_desc(q->tables + at + i * 16, &bufs[i], 0, flags & WRITE);
		else
			put_desc(q->tables + at + i * 16, &bufs[i], flags, next);
	}
	return (struct vdrv_buf){q->tables_gpa + at, count * 16, false};
}

static uint16_t take_id(struct vdrv_queue *q)
{
	uint16_t id = q->free_head;

	q->free_head = q->next[id];
	return id;
}

static void add_split(struct vdrv_queue *q, const struct vdrv_buf *bufs, unsigned count, uint16_t extra, uint16_t head)
{
	uint16_t at = head;

	for (unsigned i = 0; i < count; i++) {
		uint16_t flags = buf_flags(bufs, i, count) | extra;
		uint16_t next = i + 1 < count ? take_id(q) : 0;

		put_desc(q->desc + at * 16u, &bufs[i], flags, next);
		/* chained through `next` until it is free again */
		if (i + 1 < count)
			q->next[at] = next;
		else
			q->next[at] = NONE;
		at = next;
	}
	vc_st16(q->driver + 4 + 2u * (q->avail & (q->size - 1)), head);
	q->avail++;
	store16(q->driver + 2, q->avail);
}

static void add_packed(struct vdrv_queue *q, const struct vdrv_buf *bufs, unsigned count, uint16_t extra, uint16_t id)
{
	uint8_t *first = q->desc + q->avail * 16u;
	uint16_t first_flags = 0;

	for (unsigned i = 0; i < count; i++) {
		uint8_t *p = q->desc + q->avail * 16u;
		uint16_t flags = (uint16_t)(buf_flags(bufs, i, count) | extra | (q->avail_wrap ? AVAIL : USED));

		vc_st64(p, bufs[i].gpa);
		vc_st32(p + 8, bufs[i].length);
		vc_st16(p + 12, id);
		if (p == first)
			first_flags = flags;
		else
			store16(p + 14, flags);
		if (++q->avail == q->size) {
			q->avail = 0;
			q->avail_wrap = !q->avail_wrap;
		}
	}
	q->added += (uint16_t)count;
	store16(first + 14, first_flags);
}

bool vdrv_add(struct vdrv_queue *q, const struct vdrv_buf *bufs, unsigned count, void *token)
{
	bool indirect = q->use_indirect && q->tables && count > 1;
	uint16_t descs = (uint16_t)(indirect ? 1 : count), id;
	struct vdrv_buf table;

	if (q->free < descs || q->free_head == NONE)
		return false;
	if (indirect && count > VDRV_TABLE)
		die("too many buffers for an indirect table");
	id = take_id(q);
	if (indirect)
		table = fill_table(q, id, bufs, count);
	q->tokens[id] = token;
	q->descs[id] = descs;
	q->free -= descs;
	if (q->packed)
		add_packed(q, indirect ? &table : bufs, descs, indirect ? INDIRECT : 0, id);
	else
		add_split(q, indirect ? &table : bufs, descs, indirect ? INDIRECT : 0, id);
	return true;
}

static bool wants_kick_packed(struct vdrv_queue *q)
{
	uint16_t flags = load16(q->device + 2) & 3, event = load16(q->device), offset = event & (uint16_t)~WRAP;

	if (flags != 2)
		return flags == 0;
	if (!!(event & WRAP) != q->avail_wrap)
		offset -= q->size;
	return need_event(offset, q->avail, (uint16_t)(q->avail - q->added));
}

bool vdrv_kick(struct vdrv_queue *q)
{
	bool wanted;

	atomic_thread_fence(memory_order_seq_cst);
	if (q->packed)
		wanted = wants_kick_packed(q);
	else if (q->event_idx)
		wanted = need_event(load16(q->device + 4 + 8u * q->size), q->avail, q->kicked);
	else
		wanted = !(load16(q->device) & 1);
	q->kicked = q->avail;
	q->added = 0;
	if (wanted)
		vdrv_write(q->d, VDRV_QUEUE_NOTIFY, q->index);
	return wanted;
}

static bool get_split(struct vdrv_queue *q, uint32_t *id, uint32_t *written)
{
	const uint8_t *entry = q->device + 4 + 8u * (q->used & (q->size - 1));

	if (load16(q->device + 2) == q->used)
		return false;
	*id = vc_ld32(entry);
	*written = vc_ld32(entry + 4);
	q->used++;
	return true;
}

static bool get_packed(struct vdrv_queue *q, uint32_t *id, uint32_t *written)
{
	const uint8_t *p = q->desc + q->used * 16u;
	uint16_t flags = load16(p + 14);

	if (!!(flags & AVAIL) != q->used_wrap || !!(flags & USED) != q->used_wrap)
		return false;
	*id = vc_ld16(p + 12);
	*written = vc_ld32(p + 8);
	if (*id >= q->size || !q->tokens[*id])
		die("the device used an ID that is not in flight");
	q->used += q->descs[*id];
	if (q->used >= q->size) {
		q->used -= q->size;
		q->used_wrap = !q->used_wrap;
	}
	return true;
}

/* Ask for an interrupt at the next used chain. */
static void ask_interrupt(struct vdrv_queue *q)
{
	if (q->packed && q->event_idx) {
		store16(q->driver, (uint16_t)(q->used | (q->used_wrap ? WRAP : 0)));
		store16(q->driver + 2, 2);
	} else if (q->packed) {
		store16(q->driver + 2, 0);
	} else if (q->event_idx) {
		store16(q->driver + 4 + 2u * q->size, q->used);
	} else {
		store16(q->driver, 0);
	}
	atomic_thread_fence(memory_order_seq_cst);
}

void vdrv_interrupts(struct vdrv_queue *q, bool on)
{
	q->interrupts = on;
	if (on)
		ask_interrupt(q);
	else if (q->packed)
		store16(q->driver + 2, 1);
	else if (!q->event_idx)
		store16(q->driver, 1);
	else /* as far behind as it can be */
		store16(q->driver + 4 + 2u * q->size, (uint16_t)(q->used - 1));
}

static bool get_any(struct vdrv_queue *q, uint32_t *id, uint32_t *written)
{
	return q->packed ? get_packed(q, id, written) : get_split(q, id, written);
}

void *vdrv_get(struct vdrv_queue *q, uint32_t *written)
{
	uint32_t id, length;
	uint16_t last;
	void *token;

	if (!get_any(q, &id, &length)) {
		if (!q->interrupts || !q->event_idx)
			return NULL;
		ask_interrupt(q);
		if (!get_any(q, &id, &length))
			return NULL;
	}
	if (id >= q->size || !q->tokens[id])
		die("the device used a chain that is not in flight");
	token = q->tokens[id];
	q->tokens[id] = NULL;
	q->free += q->descs[id];
	last = (uint16_t)id;
	while (!q->packed && q->next[last] != NONE)
		last = q->next[last];
	q->next[last] = q->free_head;
	q->free_head = (uint16_t)id;
	if (written)
		*written = length;
	return token;
}

void vdrv_settle(struct vdrv *d)
{
	while (vc_loop_run(d->env->loop, 0) > 0)
		;
}

void *vdrv_wait(struct vdrv_queue *q, uint32_t *written)
{
	uint64_t end = vc_host_ns() + 20000000000ull;
	void *token;

	while (!(token = vdrv_get(q, written))) {
		if (vc_host_ns() > end)
			die("the device does not answer");
		vc_loop_run(q->d->env->loop, 1000000);
	}
	return token;
}

uint32_t vdrv_do(struct vdrv_queue *q, const struct vdrv_buf *bufs, unsigned count)
{
	uint32_t written;

	if (!vdrv_add(q, bufs, count, q))
		die("the queue is full");
	vdrv_kick(q);
	if (vdrv_wait(q, &written) != q)
		die("another chain came back");
	return written;
}
