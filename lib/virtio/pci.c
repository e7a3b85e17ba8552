/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Virtio over PCI (4.1): registers in one BAR, MSI-X in another, INTx where the driver wants no MSI-X; those of the
 * legacy interface, where it is wanted, in a third.
 */
#include <stdlib.h>

#include "bus/iommu.h"
#include "chipset/dev_state.h"
#include "virtio/pci_priv.h"

enum {
	VENDOR = 0x1af4,
	DEVICE_BASE = 0x1040,
	SUBSYSTEM = 0x1100, /* 0x40 at least, where there is no legacy interface (4.1.2.1); else the virtio device ID */
	REVISION = 1,       /* 0 with one */

	LEGACY_BAR = 0,
	MSIX_BAR = 1,
	REGISTERS_BAR = 4,
	/* Parts of the latter */
	COMMON_AT = 0x0000,
	ISR_AT = 0x1000,
	CONFIG_AT = 0x2000,
	NOTIFY_AT = 0x3000, /* a doubleword of its own for every queue */
	NOTIFY_STEP = 4,
	PART_LENGTH = 0x1000,
	BAR_LENGTH = 0x4000,

	/* Vendor-specific capabilities (4.1.4), offsets behind ID and link */
	CAP_VENDOR = 0x09,
	CAP_LENGTH = 0,
	CAP_TYPE = 1,
	CAP_BAR = 2,
	CAP_OFFSET = 6,
	CAP_SIZE = 10,
	CAP_EXTRA = 14, /* multiplier of the doorbells, or the window's data */
	CAP_SHORT = 14,
	CAP_LONG = 18,
	CAPS_MAX = 5,

	TYPE_COMMON = 1,
	TYPE_NOTIFY = 2,
	TYPE_ISR = 3,
	TYPE_CONFIG = 4,
	TYPE_WINDOW = 5, /* registers through configuration space, before the BAR is enabled */

	ISR_QUEUE = 1,
	ISR_CONFIG = 2,
};

/* ---- interrupts ---- */

static void change_isr(struct vc_virtio_pci *p, uint32_t set, uint32_t clear)
{
	struct vc_pci_function *f = vc_pci_function_of(p->dev);

	pthread_mutex_lock(&p->lock);
	p->regs.isr = (p->regs.isr & ~clear) | set;
	vc_pci_irq_set(f, p->regs.isr != 0);
	pthread_mutex_unlock(&p->lock);
	vc_pci_irq_flush(f);
}

uint32_t vc_virtio_pci_take_isr(struct vc_virtio_pci *p)
{
	struct vc_pci_function *f = vc_pci_function_of(p->dev);
	uint32_t isr;

	pthread_mutex_lock(&p->lock);
	isr = p->regs.isr;
	p->regs.isr = 0;
	vc_pci_irq_set(f, false);
	pthread_mutex_unlock(&p->lock);
	vc_pci_irq_flush(f);
	return isr;
}

/* With MSI-X on and no vector the driver wants no interrupt (4.1.4.3.1). */
static void interrupt_by(struct vc_virtio_pci *p, const uint16_t *vector, uint32_t isr)
{
	uint16_t to;

	pthread_mutex_lock(&p->lock);
	to = *vector;
	pthread_mutex_unlock(&p->lock);
	if (!vc_pci_msi_send(vc_pci_function_of(p->dev), to))
		change_isr(p, isr, 0);
}

static void interrupt(void *ctx, unsigned n)
{
	struct vc_virtio_pci *p = ctx;

	interrupt_by(p, &p->queue_vector[n], ISR_QUEUE);
}

static void config_interrupt(void *ctx)
{
	struct vc_virtio_pci *p = ctx;

	interrupt_by(p, &p->regs.config_vector, ISR_CONFIG);
}

static bool message(void *ctx, unsigned n, uint64_t *address, uint32_t *data)
{
	struct vc_virtio_pci *p = ctx;
	uint16_t vector;

	pthread_mutex_lock(&p->lock);
	vector = p->queue_vector[n];
	pthread_mutex_unlock(&p->lock);
	return vc_pci_message(vc_pci_function_of(p->dev), vector, address, data);
}

static void message_changed(void *ctx, uint32_t vector)
{
	vc_virtio_route(((struct vc_virtio_pci *)ctx)->v);
}

/* ---- the BAR ---- */

static uint64_t read_registers(struct vc_virtio_pci *p, uint32_t at, uint32_t width)
{
	uint64_t value = 0;

	if (at < ISR_AT)
		return vc_virtio_pci_read_common(p, at, width);
	if (at == ISR_AT)
		return vc_virtio_pci_take_isr(p);
	if (at >= CONFIG_AT && at - CONFIG_AT < PART_LENGTH)
		vc_virtio_config_read(p->v, at - CONFIG_AT, &value, width);
	return value;
}

static void write_registers(struct vc_virtio_pci *p, uint32_t at, uint32_t width, uint64_t value)
{
	if (at >= NOTIFY_AT) {
		vc_virtio_kick(p->v, (at - NOTIFY_AT) / NOTIFY_STEP);
	} else if (at >= CONFIG_AT) {
		vc_virtio_config_write(p->v, at - CONFIG_AT, &value, width);
	} else if (at < ISR_AT) {
		vc_virtio_pci_write_common(p, at, width, value);
	}
}

static void set_doorbells(struct vc_virtio_pci *p, uint64_t bar, bool add)
{
	for (uint32_t n = 0; bar && n < p->queues; n++)
		vc_virtio_doorbell(
		    p->v, n, &(struct vc_ioeventfd){.bus = VCORE_BUS_MMIO, .address = bar + NOTIFY_AT + n * NOTIFY_STEP}, add);
}

/* No BAR lies at 0. */
static void bar_moved(void *ctx, uint32_t bar, uint64_t at)
{
	struct vc_virtio_pci *p = ctx;

	if (bar != REGISTERS_BAR)
		return;
	set_doorbells(p, p->bells_at, false);
	p->bells_at = at == UINT64_MAX ? 0 : at;
	set_doorbells(p, p->bells_at, true);
}

static void bar_read(void *ctx, uint32_t bar, struct vcore_io *io)
{
	io->data = bar == LEGACY_BAR ? vc_virtio_pci_read_legacy(ctx, (uint32_t)io->offset, io->width)
	                             : read_registers(ctx, (uint32_t)io->offset, io->width);
}

static void bar_write(void *ctx, uint32_t bar, struct vcore_io *io)
{
	if (bar == LEGACY_BAR)
		vc_virtio_pci_write_legacy(ctx, (uint32_t)io->offset, io->width, io->data);
	else
		write_registers(ctx, (uint32_t)io->offset, io->width, io->data);
}

/* ---- the window in configuration space (4.1.4.9) ---- */

/* Where it looks; false: at nothing. */
static bool window_target(struct vc_virtio_pci *p, uint32_t offset, uint32_t *at, uint32_t *width)
{
	uint8_t cap[CAP_LONG];

	if (offset != p->window + 2 + CAP_EXTRA)
		return false;
	vc_pci_own_config(vc_pci_function_of(p->dev), p->window + 2, cap, sizeof cap);
	*at = vc_ld32(cap + CAP_OFFSET);
	*width = vc_ld32(cap + CAP_SIZE);
	return cap[CAP_BAR] == REGISTERS_BAR && (*width == 1 || *width == 2 || *width == 4) && *at < BAR_LENGTH &&
	       VC_IS_ALIGNED(*at, *width);
}

static void config_read(void *ctx, uint32_t offset, uint32_t width, uint32_t *value)
{
	struct vc_virtio_pci *p = ctx;
	uint32_t at, length;

	if (window_target(p, offset, &at, &length))
		*value = (uint32_t)(read_registers(p, at, length) & vc_width_mask(width));
}

static void config_write(void *ctx, uint32_t offset, uint32_t width, uint32_t value)
{
	struct vc_virtio_pci *p = ctx;
	uint32_t at, length;

	if (window_target(p, offset, &at, &length))
		write_registers(p, at, length, value & vc_width_mask(length));
}

/* ---- the device ---- */

static void pci_reset(void *ctx)
{
	struct vc_virtio_pci *p = ctx;

	vc_virtio_pci_reset(p);
	vc_virtio_vm_reset(p->v);
}

static int64_t pci_save(void *ctx, void *buffer, size_t length)
{
	struct vc_virtio_pci *p = ctx;
	size_t own = sizeof p->regs + p->queues * sizeof *p->queue_vector;
	int64_t rest;

	if (buffer && length < own)
		return vc_fail(ENOSPC, "a buffer of %zu bytes is too small for a virtio device", length);
	/* first, for it may interrupt */
	rest = vc_virtio_save(p->v, buffer ? (uint8_t *)buffer + own : NULL, buffer ? length - own : 0);
	if (rest < 0)
		return rest;
	if (buffer) {
		pthread_mutex_lock(&p->lock);
		memcpy(buffer, &p->regs, sizeof p->regs);
		memcpy((uint8_t *)buffer + sizeof p->regs, p->queue_vector, own - sizeof p->regs);
		pthread_mutex_unlock(&p->lock);
	}
	return (int64_t)own + rest;
}

static int check_state(const struct vc_virtio_pci *p, const struct pci_regs *regs, const uint8_t *vectors)
{
	bool good = !(regs->isr & ~(uint32_t)(ISR_QUEUE | ISR_CONFIG)) &&
	            (regs->config_vector < p->vectors || regs->config_vector == VC_VIRTIO_PCI_NO_VECTOR);

	for (uint32_t i = 0; i < p->queues; i++) {
		uint16_t vector = vc_ld16(vectors + 2 * i);

		good &= vector < p->vectors || vector == VC_VIRTIO_PCI_NO_VECTOR;
	}
	return good ? 0 : vc_fail(EINVAL, "the saved state of a %s holds bits that its registers have not", p->dev->type);
}

static int pci_load(void *ctx, const void *buffer, size_t length)
{
	struct vc_virtio_pci *p = ctx;
	const uint8_t *vectors = (const uint8_t *)buffer + sizeof p->regs;
	size_t own = sizeof p->regs + p->queues * sizeof *p->queue_vector;
	struct pci_regs regs;
	int r;

	if (length < own)
		return vc_fail(EINVAL, "the saved state of a %s has %zu bytes, expected more", p->dev->type, length);
	r = vc_dev_state_in(p->dev->type, VC_VIRTIO_PCI_VERSION, &regs, sizeof regs, buffer, sizeof regs);
	if (r >= 0)
		r = check_state(p, &regs, vectors);
	if (r < 0)
		return r;
	vc_virtio_set_status(p->v, 0);
	pthread_mutex_lock(&p->lock);
	p->regs = regs; /* INTx the function has loaded */
	memcpy(p->queue_vector, vectors, own - sizeof regs);
	pthread_mutex_unlock(&p->lock);
	vc_virtio_route(p->v);
	return vc_virtio_load(p->v, (const uint8_t *)buffer + own, length - own);
}

static void pci_free(struct vc_virtio_pci *p)
{
	pthread_mutex_destroy(&p->lock);
	free(p->queue_vector);
	free(p);
}

static void pci_destroy(void *ctx)
{
	struct vc_virtio_pci *p = ctx;

	set_doorbells(p, p->bells_at, false);
	vc_virtio_free(p->v);
	pci_free(p);
}

static const struct vcore_pci_ops pci_ops = {
    .size = sizeof pci_ops,
    .read = bar_read,
    .write = bar_write,
    .config_read = config_read,
    .config_write = config_write,
    .reset = pci_reset,
    .save = pci_save,
    .load = pci_load,
    .destroy = pci_destroy,
};

/* ---- making ---- */

struct capabilities {
	struct vcore_pci_capability list[CAPS_MAX];
	uint8_t data[CAPS_MAX][CAP_LONG];
	unsigned count;
	uint32_t next; /* offset of the one to come */
};

static void add_capability(struct capabilities *c, uint8_t type, uint32_t offset, uint32_t size)
{
	uint8_t *data = c->data[c->count];
	uint8_t length = type == TYPE_NOTIFY || type == TYPE_WINDOW ? CAP_LONG : CAP_SHORT;

	data[CAP_LENGTH] = length + 2;
	data[CAP_TYPE] = type;
	data[CAP_BAR] = type == TYPE_WINDOW ? 0 : REGISTERS_BAR;
	vc_st32(data + CAP_OFFSET, offset);
	vc_st32(data + CAP_SIZE, size);
	if (type == TYPE_NOTIFY)
		vc_st32(data + CAP_EXTRA, NOTIFY_STEP);
	c->list[c->count++] = (struct vcore_pci_capability){.id = CAP_VENDOR, .length = length, .data = data};
	c->next += length + 2u;
}

static void describe_capabilities(struct vc_virtio_pci *p, struct capabilities *c)
{
	static const uint8_t window_writable[CAP_LONG] = {
	    [CAP_BAR] = 0xff, [CAP_OFFSET... CAP_OFFSET + 3] = 0xff, [CAP_SIZE... CAP_SIZE + 3] = 0xff};
	uint32_t config_size = vc_virtio_ops(p->v)->config_size;

	c->next = VC_PCI_CAPABILITIES;
	add_capability(c, TYPE_COMMON, COMMON_AT, VC_VIRTIO_PCI_COMMON_LENGTH);
	add_capability(c, TYPE_NOTIFY, NOTIFY_AT, p->queues * NOTIFY_STEP);
	add_capability(c, TYPE_ISR, ISR_AT, 1);
	if (config_size)
		add_capability(c, TYPE_CONFIG, CONFIG_AT, config_size);
	p->window = c->next;
	add_capability(c, TYPE_WINDOW, 0, 0);
	c->list[c->count - 1].writable = window_writable;
}

static int plug_in(struct vc_env *env, struct vc_virtio_pci *p, const char *address, struct vc_dev **dev)
{
	const struct vc_virtio_ops *ops = vc_virtio_ops(p->v);
	struct capabilities caps = {0};
	struct vcore_pci_description d = {
	    .size = sizeof d,
	    .vendor = VENDOR,
	    .device = (uint16_t)(DEVICE_BASE + ops->id),
	    .class_code = ops->pci_class,
	    .subsystem_vendor = VENDOR,
	    .subsystem = SUBSYSTEM,
	    .revision = REVISION,
	    .interrupt_pin = 1,
	    .msix_vectors = (uint16_t)p->vectors,
	    .type = ops->type,
	    .address = address,
	};
	int r;

	describe_capabilities(p, &caps);
	d.capabilities = caps.list;
	d.capability_count = (uint16_t)caps.count;
	d.bars[MSIX_BAR].flags = VCORE_PCI_BAR_MSIX;
	if (p->legacy) {
		d.device = ops->legacy_device;
		d.subsystem = (uint16_t)ops->id;
		d.revision = 0;
		d.bars[LEGACY_BAR] =
		    (struct vcore_pci_bar){.size = vc_virtio_pci_legacy_length(ops), .flags = VCORE_PCI_BAR_IO};
	}
	d.bars[REGISTERS_BAR] =
	    (struct vcore_pci_bar){.size = BAR_LENGTH, .flags = VCORE_PCI_BAR_64 | VCORE_PCI_BAR_PREFETCH};
	r = vc_pci_add(env->pci, &d, &pci_ops, p, &p->dev); /* on failure p has been destroyed */
	if (r < 0)
		return r;
	vc_pci_on_move(vc_pci_function_of(p->dev), bar_moved);
	if (vc_pci_endpoint(vc_pci_function_of(p->dev)))
		vc_virtio_set_endpoint(p->v, vc_pci_endpoint(vc_pci_function_of(p->dev)));
	vc_pci_on_message(vc_pci_function_of(p->dev), message_changed);
	*dev = p->dev;
	return 0;
}

static bool is_translated(const struct vc_env *env, const struct vc_virtio_config *config)
{
	return !config->ops->untranslated && vc_pci_iommu(env->pci);
}

/* Before the common half exists. */
static int prepare(struct vc_env *env, const struct vc_virtio_config *config, bool legacy, struct vc_virtio_pci **out)
{
	struct vc_virtio_pci *p;

	if (legacy && !config->ops->legacy_device)
		return vc_fail(ENOTSUP, "property legacy=on: there is no legacy interface of a %s", config->ops->type);
	if (!env->pci)
		return vc_fail(ENOTSUP, "property transport=pci: this machine has no PCI");
	if (legacy && is_translated(env, config))
		return vc_fail(ENOTSUP, "property legacy=on: drivers from before virtio 1.0 know of no IOMMU, and here is one");
	if (config->ops->config_size > PART_LENGTH)
		return vc_fail(E2BIG, "%s: %u bytes of configuration: expected at most %d", config->ops->type,
		               config->ops->config_size, PART_LENGTH);
	p = calloc(1, sizeof *p);
	if (p)
		p->queue_vector = malloc(config->queues * sizeof *p->queue_vector);
	if (!p || !p->queue_vector) {
		free(p);
		return vc_fail(ENOMEM, "no memory for a %s", config->ops->type);
	}
	p->legacy = legacy;
	p->queues = config->queues;
	p->vectors = config->queues + 1; /* one for the configuration */
	p->regs = (struct pci_regs){.version = VC_VIRTIO_PCI_VERSION, .config_vector = VC_VIRTIO_PCI_NO_VECTOR};
	memset(p->queue_vector, 0xff, config->queues * sizeof *p->queue_vector);
	pthread_mutex_init(&p->lock, NULL);
	*out = p;
	return 0;
}

int vc_virtio_pci_add(struct vc_env *env, struct vc_props *props, const struct vc_virtio_config *config,
                      uint64_t ring_features, struct vc_virtio **out, struct vc_dev **dev)
{
	const char *address = vc_props_string(props, "addr", NULL);
	struct vc_virtio_transport transport = {
	    .interrupt = interrupt, .config_interrupt = config_interrupt, .message = message};
	struct vc_virtio_pci *p = NULL;
	bool legacy = false;
	int r = vc_props_bool(props, "legacy", false, &legacy);

	if (r >= 0)
		r = prepare(env, config, legacy, &p);
	if (r < 0) {
		config->ops->destroy(config->ctx);
		return r;
	}
	transport.ctx = p;
	if (is_translated(env, config))
		ring_features |= VC_VIRTIO_F_ACCESS_PLATFORM;
	transport.legacy = legacy;
	r = vc_virtio_new(env, config, ring_features, &transport, &p->v);
	if (r < 0) {
		pci_free(p);
		return r;
	}
	*out = p->v;
	return plug_in(env, p, address, dev);
}
