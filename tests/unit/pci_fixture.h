/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A PCI bus with functions that count what they see, and a guest that accesses them. */
#ifndef PCI_FIXTURE_H
#define PCI_FIXTURE_H

#include <virtcore/error.h>

#include "platform_env.h"

enum {
	COMMAND = 4,
	STATUS = 6,
	BAR0 = 0x10,
	IO = 1,
	MEMORY = 2,
	MASTER = 4,
	INTX_OFF = 0x400,
	MSIX_ON = 0x8000,
	MSIX_MASK = 0x4000,
};

/* What a device under test saw. */
struct probe {
	unsigned reads, writes, resets, destroys, config_reads, config_writes;
	uint32_t bar, config_offset, config_value;
	uint64_t offset, data;
	uint32_t own_state;
};

static struct platform_env p;
static struct probe probe;
static uint64_t message_address;
static uint32_t message_data;
static unsigned messages;

static inline void set_level(void *ctx, unsigned gsi, bool level)
{
	(void)ctx;
	p.edges[gsi] += level && !p.level[gsi];
	p.level[gsi] = level;
}

static int take_message(void *ctx, uint64_t address, uint32_t data)
{
	(void)ctx;
	message_address = address;
	message_data = data;
	messages++;
	return 0;
}

static const struct vc_irq_sink sink = {.set = set_level, .msi = take_message};

/* ---- a device ---- */

static void probe_read(void *ctx, uint32_t bar, struct vcore_io *io)
{
	struct probe *d = ctx;

	d->reads++;
	d->bar = bar;
	d->offset = io->offset;
	io->data = 0x1122334455667788;
}

static void probe_write(void *ctx, uint32_t bar, struct vcore_io *io)
{
	struct probe *d = ctx;

	d->writes++;
	d->bar = bar;
	d->offset = io->offset;
	d->data = io->data;
}

static void probe_config_read(void *ctx, uint32_t offset, uint32_t width, uint32_t *value)
{
	struct probe *d = ctx;

	(void)width;
	d->config_reads++;
	d->config_offset = offset;
	if (offset >= VC_PCI_CAPABILITIES + 2)
		*value ^= 0x80;
}

static void probe_config_write(void *ctx, uint32_t offset, uint32_t width, uint32_t value)
{
	struct probe *d = ctx;

	(void)width;
	d->config_writes++;
	d->config_offset = offset;
	d->config_value = value;
}

static void probe_reset(void *ctx)
{
	((struct probe *)ctx)->resets++;
}

static int64_t probe_save(void *ctx, void *buffer, size_t length)
{
	if (buffer && length < 4)
		return -ENOSPC;
	if (buffer)
		memcpy(buffer, &((struct probe *)ctx)->own_state, 4);
	return 4;
}

static int probe_load(void *ctx, const void *buffer, size_t length)
{
	if (length != 4)
		return -EINVAL;
	memcpy(&((struct probe *)ctx)->own_state, buffer, 4);
	return 0;
}

static void probe_destroy(void *ctx)
{
	((struct probe *)ctx)->destroys++;
}

static const struct vcore_pci_ops probe_ops = {
    .size = sizeof probe_ops,
    .read = probe_read,
    .write = probe_write,
    .config_read = probe_config_read,
    .config_write = probe_config_write,
    .reset = probe_reset,
    .save = probe_save,
    .load = probe_load,
    .destroy = probe_destroy,
};

static const struct vcore_pci_ops no_ops = {.size = sizeof no_ops};

static const uint8_t vendor_data[6] = {8, 0x11, 0x22, 0x33, 0x44, 0x55};
static const uint8_t vendor_writable[6] = {0, 0, 0xff, 0, 0, 0};
static const struct vcore_pci_capability vendor = {
    .id = 9, .length = 6, .data = vendor_data, .writable = vendor_writable};

static const struct vcore_pci_description full __attribute__((unused)) = {
    .size = sizeof full,
    .vendor = 0x1234,
    .device = 0x5678,
    .class_code = 0x028000,
    .subsystem_vendor = 0xabcd,
    .subsystem = 0xef01,
    .revision = 7,
    .interrupt_pin = 1,
    .msix_vectors = 70,
    .capabilities = &vendor,
    .capability_count = 1,
    .bars = {{.size = 0x2000}, {.size = 64, .flags = VCORE_PCI_BAR_IO}, {.size = 0x10000, .flags = VCORE_PCI_BAR_64}},
};

static inline struct vc_dev *add(const struct vcore_pci_description *d, struct probe *ctx)
{
	struct vc_dev *dev;
	int r = vc_pci_add(p.env.pci, d, ctx ? &probe_ops : &no_ops, ctx, &dev);

	ck_assert_msg(r == 0, "%s", vcore_error_message());
	return dev;
}

static inline void refuse(const struct vcore_pci_description *d, int error, const char *text)
{
	struct probe mine = {0};
	struct vc_dev *dev;

	ck_assert_int_eq(vc_pci_add(p.env.pci, d, &probe_ops, &mine, &dev), -error);
	ck_assert_msg(strstr(vcore_error_message(), text), "'%s' in '%s'", text, vcore_error_message());
	ck_assert_uint_eq(mine.destroys, 1);
}

/* ---- a guest ---- */

static inline uint64_t get(unsigned device, uint32_t offset, unsigned width)
{
	return vc_pci_config_read(p.env.pci, 0, VC_PCI_DEVFN(device, 0), offset, width);
}

static inline void put(unsigned device, uint32_t offset, unsigned width, uint64_t value)
{
	vc_pci_config_write(p.env.pci, 0, VC_PCI_DEVFN(device, 0), offset, width, value);
}

static inline bool touch(enum vcore_bus bus, uint64_t address, unsigned width, bool is_write, uint64_t *data)
{
	struct vcore_io io = {
	    .size = sizeof io, .bus = bus, .address = address, .width = width, .is_write = is_write, .data = *data};
	bool taken = vc_bus_dispatch(&p.buses, NULL, &io);

	*data = io.data;
	return taken;
}

static inline bool peek(uint64_t address, unsigned width, uint64_t *data)
{
	*data = 0;
	return touch(VCORE_BUS_MMIO, address, width, false, data);
}

static inline void poke(uint64_t address, unsigned width, uint64_t data)
{
	ck_assert(touch(VCORE_BUS_MMIO, address, width, true, &data));
}

static inline uint32_t peek32(uint64_t address)
{
	uint64_t data;

	ck_assert(peek(address, 4, &data));
	return (uint32_t)data;
}

static inline uint64_t bar(unsigned device, unsigned n)
{
	uint32_t low = (uint32_t)get(device, BAR0 + 4 * n, 4);

	if (low & 1)
		return low & ~3u;
	return low & 4 ? (get(device, BAR0 + 4 * n, 8) & ~15ull) : low & ~15u;
}

/* The offset of a capability; 0: none. */
static inline unsigned capability(unsigned device, unsigned id)
{
	unsigned at = (unsigned)get(device, 0x34, 1);

	while (at && get(device, at, 1) != id)
		at = (unsigned)get(device, at + 1, 1);
	return at;
}

static inline void setup(void)
{
	memset(&probe, 0, sizeof probe);
	messages = 0;
	platform_init(&p, 0);
	p.irqs = (struct vc_irqs){&sink, NULL};
	ck_assert_int_eq(vc_pci_host_new(&p.env), 0);
	vc_pci_set_window64(p.env.pci, (struct vc_pci_window){1ull << 40, 1ull << 40});
}

static inline void teardown(void)
{
	platform_fini(&p);
}

static inline void assert_intx(struct vc_pci_function *f, bool level)
{
	vc_pci_irq_set(f, level);
	vc_pci_irq_flush(f);
}

static inline void put_vector(uint64_t table, unsigned vector, uint64_t address, uint32_t data, uint32_t control)
{
	poke(table + vector * 16, 8, address);
	poke(table + vector * 16 + 8, 4, data);
	poke(table + vector * 16 + 12, 4, control);
}

#endif
