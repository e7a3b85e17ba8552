/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Virtio over MMIO (4.2), version 2: a page of registers and one interrupt line, found through ACPI. */
#include <errno.h>
#include <stdlib.h>

#include "bus/line.h"
#include "chipset/dev_state.h"
#include "virtio/virtio.h"

/* Registers (4.2.2) */
enum {
	REG_MAGIC = 0x000,
	REG_VERSION = 0x004,
	REG_DEVICE_ID = 0x008,
	REG_VENDOR_ID = 0x00c,
	REG_DEVICE_FEATURES = 0x010,
	REG_DEVICE_FEATURES_SEL = 0x014,
	REG_DRIVER_FEATURES = 0x020,
	REG_DRIVER_FEATURES_SEL = 0x024,
	REG_QUEUE_SEL = 0x030,
	REG_QUEUE_SIZE_MAX = 0x034,
	REG_QUEUE_SIZE = 0x038,
	REG_QUEUE_READY = 0x044,
	REG_QUEUE_NOTIFY = 0x050,
	REG_INTERRUPT_STATUS = 0x060,
	REG_INTERRUPT_ACK = 0x064,
	REG_STATUS = 0x070,
	REG_QUEUE_DESC = 0x080, /* low half, and the high one 4 bytes on; likewise the next two */
	REG_QUEUE_DRIVER = 0x090,
	REG_QUEUE_DEVICE = 0x0a0,
	REG_SHM_LENGTH = 0x0b0,
	REG_SHM_END = 0x0c0,
	REG_QUEUE_RESET = 0x0c0,
	REG_GENERATION = 0x0fc,
	REG_CONFIG = 0x100,
};

enum { MAGIC = 0x74726976, VERSION = 2, VENDOR = 0x76637276, ISR_QUEUE = 1, ISR_CONFIG = 2, STATE_VERSION = 1 };

/* Where devices go that are not told: below the ECAM of PCI. */
#define BASE_FIRST 0xdff00000ull
#define BASE_LAST  0xdffff000ull
#define LENGTH     0x1000ull

/* What a saved state begins with. */
struct mmio_state {
	uint32_t version;
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	uint32_t isr;
};

struct mmio {
	struct vc_virtio *v;
	uint64_t base; /* of the registers; 0: they have no place yet */
	struct vc_line line;
	_Atomic uint32_t device_features_sel, driver_features_sel, queue_sel;
	pthread_mutex_t lock; /* protects isr, and the line's level; innermost */
	uint32_t isr;
};

/* ---- interrupts ---- */

static void change_isr(struct mmio *m, uint32_t set, uint32_t clear)
{
	pthread_mutex_lock(&m->lock);
	m->isr = (m->isr & ~clear) | set;
	vc_line_set(&m->line, m->isr != 0);
	pthread_mutex_unlock(&m->lock);
	vc_line_flush(&m->line);
}

static uint32_t get_isr(struct mmio *m)
{
	uint32_t isr;

	pthread_mutex_lock(&m->lock);
	isr = m->isr;
	pthread_mutex_unlock(&m->lock);
	return isr;
}

static void interrupt(void *ctx, unsigned n)
{
	change_isr(ctx, ISR_QUEUE, 0);
}

static void config_interrupt(void *ctx)
{
	change_isr(ctx, ISR_CONFIG, 0);
}

/* ---- registers ---- */

static uint32_t read_queue(struct mmio *m, uint32_t n, uint32_t reg)
{
	struct vc_virtq_setup setup;

	vc_virtq_get_setup(m->v, n, &setup);
	return reg == REG_QUEUE_READY ? setup.ready : vc_virtq_size_max(m->v, n);
}

static uint32_t read_register(struct mmio *m, uint32_t reg)
{
	switch (reg) {
	case REG_MAGIC:
		return MAGIC;
	case REG_VERSION:
		return VERSION;
	case REG_DEVICE_ID:
		return vc_virtio_ops(m->v)->id;
	case REG_VENDOR_ID:
		return VENDOR;
	case REG_DEVICE_FEATURES:
		return vc_virtio_features_half(vc_virtio_device_features(m->v), m->device_features_sel);
	case REG_QUEUE_SIZE_MAX:
	case REG_QUEUE_READY:
		return read_queue(m, m->queue_sel, reg);
	case REG_INTERRUPT_STATUS:
		return get_isr(m);
	case REG_STATUS:
		return vc_virtio_status(m->v);
	case REG_GENERATION:
		return vc_virtio_generation(m->v);
	default:
		/* no shared memory region has a length of all ones */
		return reg >= REG_SHM_LENGTH && reg < REG_SHM_END ? UINT32_MAX : 0;
	}
}

static void write_queue(struct mmio *m, uint32_t n, uint32_t reg, uint32_t value)
{
	struct vc_virtq_setup s;

	vc_virtq_get_setup(m->v, n, &s);
	if (reg == REG_QUEUE_SIZE)
		s.size = value;
	else if (reg == REG_QUEUE_READY)
		s.ready = value & 1;
	else if (reg >= REG_QUEUE_DESC && reg < REG_QUEUE_DEVICE + 8 && !(reg & 8))
		vc_virtq_set_half(&s, (reg - REG_QUEUE_DESC) / 16, reg & 4, value);
	else
		return;
	vc_virtq_set_setup(m->v, n, &s);
}

static void write_status(struct mmio *m, uint32_t value)
{
	vc_virtio_set_status(m->v, (uint8_t)value);
	if (!(value & 0xff))
		change_isr(m, 0, UINT32_MAX);
}

static void write_register(struct mmio *m, uint32_t reg, uint32_t value)
{
	switch (reg) {
	case REG_DEVICE_FEATURES_SEL:
		m->device_features_sel = value;
		break;
	case REG_DRIVER_FEATURES:
		vc_virtio_set_driver_half(m->v, m->driver_features_sel, value);
		break;
	case REG_DRIVER_FEATURES_SEL:
		m->driver_features_sel = value;
		break;
	case REG_QUEUE_SEL:
		m->queue_sel = value;
		break;
	case REG_QUEUE_NOTIFY:
		vc_virtio_kick(m->v, value);
		break;
	case REG_INTERRUPT_ACK:
		change_isr(m, 0, value);
		break;
	case REG_STATUS:
		write_status(m, value);
		break;
	case REG_QUEUE_RESET:
		if (value & 1)
			vc_virtq_reset(m->v, m->queue_sel);
		break;
	default:
		write_queue(m, m->queue_sel, reg, value);
	}
}

/* ---- the device ---- */

static void mmio_read(void *ctx, struct vcore_io *io)
{
	struct mmio *m = ctx;
	uint32_t at = (uint32_t)io->offset;

	io->data = 0;
	if (at >= REG_CONFIG)
		vc_virtio_config_read(m->v, at - REG_CONFIG, &io->data, io->width);
	else if (io->width == 4 && VC_IS_ALIGNED(at, 4u))
		io->data = read_register(m, at);
}

static void mmio_write(void *ctx, struct vcore_io *io)
{
	struct mmio *m = ctx;
	uint32_t at = (uint32_t)io->offset;

	if (at >= REG_CONFIG)
		vc_virtio_config_write(m->v, at - REG_CONFIG, &io->data, io->width);
	else if (io->width == 4 && VC_IS_ALIGNED(at, 4u))
		write_register(m, at, (uint32_t)io->data);
}

static void mmio_reset(void *ctx)
{
	struct mmio *m = ctx;

	write_status(m, 0);
	m->device_features_sel = m->driver_features_sel = m->queue_sel = 0;
}

static void mmio_vm_reset(void *ctx)
{
	struct mmio *m = ctx;

	mmio_reset(m);
	vc_virtio_vm_reset(m->v);
}

static int64_t mmio_save(void *ctx, void *buffer, size_t length)
{
	struct mmio *m = ctx;
	struct mmio_state state;
	/* first, for it may interrupt */
	int64_t rest = length < sizeof state && buffer
	                   ? vc_fail(ENOSPC, "a buffer of %zu bytes is too small for a virtio device", length)
	                   : vc_virtio_save(m->v, buffer ? (uint8_t *)buffer + sizeof state : NULL, length - sizeof state);

	if (rest < 0)
		return rest;
	state =
	    (struct mmio_state){STATE_VERSION, m->device_features_sel, m->driver_features_sel, m->queue_sel, get_isr(m)};
	vc_dev_state_out(buffer, length, &state, sizeof state);
	return (int64_t)sizeof state + rest;
}

static int mmio_load(void *ctx, const void *buffer, size_t length)
{
	struct mmio *m = ctx;
	struct mmio_state state;
	int r;

	if (length < sizeof state)
		return vc_fail(EINVAL, "the saved state of a virtio device has %zu bytes, expected more", length);
	r = vc_dev_state_in(vc_virtio_ops(m->v)->type, STATE_VERSION, &state, sizeof state, buffer, sizeof state);
	if (r < 0)
		return r;
	if (state.isr & ~(uint32_t)(ISR_QUEUE | ISR_CONFIG))
		return vc_fail(EINVAL, "the saved state of a %s has interrupts %#x", vc_virtio_ops(m->v)->type, state.isr);
	mmio_reset(m);
	m->device_features_sel = state.device_features_sel;
	m->driver_features_sel = state.driver_features_sel;
	m->queue_sel = state.queue_sel;
	pthread_mutex_lock(&m->lock);
	m->isr = state.isr;
	vc_line_restore(&m->line, state.isr != 0);
	pthread_mutex_unlock(&m->lock);
	return vc_virtio_load(m->v, (const uint8_t *)buffer + sizeof state, length - sizeof state);
}

static void set_doorbells(struct mmio *m, bool add)
{
	for (uint32_t n = 0; m->base && n < vc_virtio_queues(m->v); n++)
		vc_virtio_doorbell(m->v, n,
		                   &(struct vc_ioeventfd){.bus = VCORE_BUS_MMIO,
		                                          .address = m->base + REG_QUEUE_NOTIFY,
		                                          .width = 4,
		                                          .has_match = true,
		                                          .match = n},
		                   add);
}

static void mmio_destroy(void *ctx)
{
	struct mmio *m = ctx;

	set_doorbells(m, false);
	vc_virtio_free(m->v);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

static const struct vcore_device_ops mmio_ops = {
    .size = sizeof mmio_ops,
    .read = mmio_read,
    .write = mmio_write,
    .reset = mmio_vm_reset,
    .save = mmio_save,
    .load = mmio_load,
    .destroy = mmio_destroy,
};

/* ---- making ---- */

struct config {
	uint64_t addr, irq; /* 0: to be found */
};

static int read_config(struct vc_props *props, struct config *config)
{
	int r = vc_props_u64(props, "addr", 0, LENGTH, (1ull << 52) - LENGTH, &config->addr);

	return r < 0 ? r : vc_props_u64(props, "irq", 0, 1, VC_GSI_COUNT - 1, &config->irq);
}

/* At its address, or at the first that is free. */
static int add_region(struct vc_env *env, struct vc_dev *dev, uint64_t *addr)
{
	int r = -EEXIST;

	if (*addr)
		return vc_dev_add_region(env->buses, NULL, dev, VCORE_BUS_MMIO, *addr, LENGTH);
	for (uint64_t at = BASE_FIRST; r == -EEXIST && at <= BASE_LAST; at += LENGTH) {
		r = vc_dev_add_region(env->buses, NULL, dev, VCORE_BUS_MMIO, at, LENGTH);
		*addr = at;
	}
	return r;
}

static int plug_in(struct vc_env *env, struct mmio *m, struct vc_dev *dev, struct config *config)
{
	int gsi = vc_dev_take_gsi(env->buses, dev, (uint32_t)config->irq), r;

	if (gsi < 0)
		return gsi;
	vc_line_init(&m->line, env->irqs, (unsigned)gsi, NULL);
	r = add_region(env, dev, &config->addr);
	if (r < 0)
		return r;
	vc_dev_announce(env->buses, dev, "LNRO0005", VCORE_BUS_MMIO, config->addr, LENGTH);
	m->base = config->addr;
	set_doorbells(m, true);
	return 0;
}

int vc_virtio_mmio_add(struct vc_env *env, struct vc_props *props, const struct vc_virtio_config *config,
                       uint64_t ring_features, struct vc_virtio **out, struct vc_dev **dev)
{
	struct mmio *m = calloc(1, sizeof *m);
	struct vc_virtio_transport transport = {interrupt, config_interrupt, NULL, m};
	struct config place;
	int r = m ? read_config(props, &place) : vc_fail(ENOMEM, "no memory for a %s", config->ops->type);

	if (r < 0)
		config->ops->destroy(config->ctx);
	else
		r = vc_virtio_new(env, config, ring_features, &transport, &m->v);
	if (r < 0) {
		free(m);
		return r;
	}
	pthread_mutex_init(&m->lock, NULL);
	*out = m->v;
	r = vc_dev_add(env->buses, config->ops->type, &mmio_ops, m, dev);
	if (r < 0)
		return r; /* m has been destroyed */
	r = plug_in(env, m, *dev, &place);
	if (r < 0)
		vc_dev_remove(env->buses, NULL, *dev);
	return r;
}
