/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PCI functions: configuration space, BARs sized and moved, INTx shared, MSI and MSI-X, state, and a guest that writes
 * what it should not. */
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

static void set_level(void *ctx, unsigned gsi, bool level)
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

static const struct vcore_pci_description full = {
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

static struct vc_dev *add(const struct vcore_pci_description *d, struct probe *ctx)
{
	struct vc_dev *dev;
	int r = vc_pci_add(p.env.pci, d, ctx ? &probe_ops : &no_ops, ctx, &dev);

	ck_assert_msg(r == 0, "%s", vcore_error_message());
	return dev;
}

static void refuse(const struct vcore_pci_description *d, int error, const char *text)
{
	struct probe mine = {0};
	struct vc_dev *dev;

	ck_assert_int_eq(vc_pci_add(p.env.pci, d, &probe_ops, &mine, &dev), -error);
	ck_assert_msg(strstr(vcore_error_message(), text), "'%s' in '%s'", text, vcore_error_message());
	ck_assert_uint_eq(mine.destroys, 1);
}

/* ---- a guest ---- */

static uint64_t get(unsigned device, uint32_t offset, unsigned width)
{
	return vc_pci_config_read(p.env.pci, 0, VC_PCI_DEVFN(device, 0), offset, width);
}

static void put(unsigned device, uint32_t offset, unsigned width, uint64_t value)
{
	vc_pci_config_write(p.env.pci, 0, VC_PCI_DEVFN(device, 0), offset, width, value);
}

static bool touch(enum vcore_bus bus, uint64_t address, unsigned width, bool is_write, uint64_t *data)
{
	struct vcore_io io = {
	    .size = sizeof io, .bus = bus, .address = address, .width = width, .is_write = is_write, .data = *data};
	bool taken = vc_bus_dispatch(&p.buses, NULL, &io);

	*data = io.data;
	return taken;
}

static bool peek(uint64_t address, unsigned width, uint64_t *data)
{
	*data = 0;
	return touch(VCORE_BUS_MMIO, address, width, false, data);
}

static void poke(uint64_t address, unsigned width, uint64_t data)
{
	ck_assert(touch(VCORE_BUS_MMIO, address, width, true, &data));
}

static uint32_t peek32(uint64_t address)
{
	uint64_t data;

	ck_assert(peek(address, 4, &data));
	return (uint32_t)data;
}

static uint64_t bar(unsigned device, unsigned n)
{
	uint32_t low = (uint32_t)get(device, BAR0 + 4 * n, 4);

	if (low & 1)
		return low & ~3u;
	return low & 4 ? (get(device, BAR0 + 4 * n, 8) & ~15ull) : low & ~15u;
}

/* The offset of a capability; 0: none. */
static unsigned capability(unsigned device, unsigned id)
{
	unsigned at = (unsigned)get(device, 0x34, 1);

	while (at && get(device, at, 1) != id)
		at = (unsigned)get(device, at + 1, 1);
	return at;
}

static void setup(void)
{
	memset(&probe, 0, sizeof probe);
	messages = 0;
	platform_init(&p, 0);
	p.irqs = (struct vc_irqs){&sink, NULL};
	ck_assert_int_eq(vc_pci_host_new(&p.env), 0);
	vc_pci_set_window64(p.env.pci, (struct vc_pci_window){1ull << 40, 1ull << 40});
}

static void teardown(void)
{
	platform_fini(&p);
}

/* ---- */

static void assert_intx(struct vc_pci_function *f, bool level)
{
	vc_pci_irq_set(f, level);
	vc_pci_irq_flush(f);
}

START_TEST(header)
{
	add(&full, &probe);
	ck_assert_uint_eq(get(1, 0, 4), 0x56781234);
	ck_assert_uint_eq(get(1, 8, 4), 0x02800007);
	ck_assert_uint_eq(get(1, 0x2c, 4), 0xef01abcd);
	ck_assert_uint_eq(get(1, 0x0c, 4), 0);
	ck_assert_uint_eq(get(1, STATUS, 2), 0x0010);
	ck_assert_uint_eq(get(1, 0x3c, 2), 0x0100 | 17);
	/* what is not writable stays */
	for (uint32_t at = 0; at < VC_PCI_CONFIG_SIZE; at += 4)
		if (at < BAR0 || at > 0x24)
			put(1, at, 4, 0xffffffff);
	ck_assert_uint_eq(get(1, 0, 4), 0x56781234);
	ck_assert_uint_eq(get(1, COMMAND, 2), IO | MEMORY | MASTER | INTX_OFF);
	ck_assert_uint_eq(get(1, STATUS, 2), 0x0010);
	ck_assert_uint_eq(get(1, 0x0c, 4), 0xff);
	ck_assert_uint_eq(get(1, 0x2c, 4), 0xef01abcd);
	ck_assert_uint_eq(get(1, 0x3c, 2), 0x01ff);
	ck_assert_uint_eq(get(1, 0x100, 4), 0);
	/* accesses of any kind */
	ck_assert_uint_eq(get(1, 1, 2), 0x7812);
	ck_assert_uint_eq(get(1, 0, 8), 0x0010040756781234);
	ck_assert_uint_eq(get(1, 0xffe, 4), 0xffff0000);
	ck_assert_uint_eq(get(1, 0xfffffffe, 4) & 0xffff, 0xffff);
	put(1, 0xffd, 8, UINT64_MAX);
	ck_assert_uint_eq(vc_pci_config_read(p.env.pci, 1, 8, 0, 4), 0xffffffff);
	ck_assert_uint_eq(vc_pci_config_read(p.env.pci, 0, 1000, 0, 4), 0xffffffff);
}
END_TEST

START_TEST(addresses)
{
	struct vcore_pci_description d = {.size = sizeof d, .vendor = 1};

	for (unsigned i = 1; i < 32; i++)
		add(&d, NULL);
	refuse(&d, ENOSPC, "32 device numbers");
	d.address = "3.1";
	add(&d, NULL);
	refuse(&d, EEXIST, "3.1 is taken");
	ck_assert_uint_eq(get(3, 0x0e, 1), 0x80);
	ck_assert_uint_eq(get(4, 0x0e, 1), 0);
	ck_assert_uint_eq(vc_pci_config_read(p.env.pci, 0, VC_PCI_DEVFN(3, 1), 0x0e, 1), 0);
	static const char *const wrong[] = {
	    "", "x", "32", "1.8", "-1", "1.", "1.1.1", "1 ", " 1", "99999999999999999999", "1.-1"};
	for (unsigned i = 0; i < VC_ARRAY_SIZE(wrong); i++) {
		d.address = wrong[i];
		refuse(&d, EINVAL, "expected device or device.function");
	}
}
END_TEST

START_TEST(function_before_device)
{
	struct vcore_pci_description d = {.size = sizeof d, .vendor = 1, .address = "0x1f.7"};

	refuse(&d, EINVAL, "only where function 0 is");
	d.address = "31";
	add(&d, NULL);
	d.address = "0x1f.7";
	add(&d, NULL);
	ck_assert_uint_eq(vc_pci_config_read(p.env.pci, 0, 255, 0, 2), 1);
}
END_TEST

START_TEST(wrong_descriptions)
{
	struct vcore_pci_description d = full;

#define WRONG(change, text) \
	d = full;               \
	change;                 \
	refuse(&d, EINVAL, text)
	WRONG(d.vendor = 0xffff, "0xffff");
	WRONG(d.class_code = 0x1000000, "class code");
	WRONG(d.interrupt_pin = 5, "pin 5");
	WRONG(d.msix_vectors = 2049, "2049");
	WRONG(d.msi_vectors = 3, "3 MSI");
	WRONG(d.msi_vectors = 64, "64 MSI");
	WRONG(d.bars[0].size = 0x3000, "0x3000");
	WRONG(d.bars[0].size = 8, "0x8");
	WRONG(d.bars[0].size = 1ull << 32, "BAR 0");
	WRONG(d.bars[0].flags = 0x10, "flags");
	WRONG(d.bars[0].flags = VCORE_PCI_BAR_64, "two registers");
	WRONG(d.bars[1].size = 512, "BAR 1");
	WRONG(d.bars[1].flags |= VCORE_PCI_BAR_PREFETCH, "prefetchable");
	WRONG(d.bars[5] = d.bars[2], "two registers");
	WRONG(d.bars[0].flags = VCORE_PCI_BAR_MSIX; d.msix_vectors = 0, "no MSI-X vectors");
	WRONG(d.bars[0].flags = VCORE_PCI_BAR_MSIX; d.msix_vectors = 2048, "take");
	WRONG(d.bars[4].size = 16; d.bars[5].size = 16, "no BAR is free");
	WRONG(d.capabilities = NULL, "no array");
	WRONG(d.capability_count = 0; d.size = 3, "size field");
	struct vcore_pci_capability many[25];
	for (unsigned i = 0; i < VC_ARRAY_SIZE(many); i++)
		many[i] = vendor;
	WRONG(d.capabilities = many; d.capability_count = 25, "more than 192");
	WRONG(d.capabilities = many; d.capability_count = 24, "more than 192");
	WRONG(many[0].data = NULL; d.capabilities = many, "no data");
#undef WRONG
	d = full;
	d.bars[0].size = VC_GIB(2);
	refuse(&d, ENOSPC, "BAR 0");
}
END_TEST

START_TEST(sizing)
{
	add(&full, &probe);
	/* decoding is off, all have an address */
	ck_assert_uint_eq(bar(1, 0), VC_PCI_MEMORY_BASE);
	ck_assert_uint_eq(get(1, BAR0, 4), VC_PCI_MEMORY_BASE);
	ck_assert_uint_eq(get(1, BAR0 + 4, 4), VC_PCI_PORTS_BASE | 1);
	ck_assert_uint_eq(get(1, BAR0 + 8, 8), 1ull << 40 | 4);
	ck_assert_uint_eq(bar(1, 5), VC_PCI_MEMORY_BASE + 0x2000); /* MSI-X */
	ck_assert_uint_eq(get(1, BAR0 + 16, 4), 0);
	for (unsigned i = 0; i < 6; i++)
		put(1, BAR0 + 4 * i, 4, 0xffffffff);
	ck_assert_uint_eq(get(1, BAR0, 4), 0xffffe000);
	ck_assert_uint_eq(get(1, BAR0 + 4, 4), 0xffffffc1);
	ck_assert_uint_eq(get(1, BAR0 + 8, 4), 0xffff0004);
	ck_assert_uint_eq(get(1, BAR0 + 12, 4), 0xffffffff);
	ck_assert_uint_eq(get(1, BAR0 + 16, 4), 0);
	ck_assert_uint_eq(get(1, BAR0 + 20, 4), 0xfffff000);
	/* the next one lies elsewhere, moved registers or not */
	add(&full, NULL);
	ck_assert_uint_eq(bar(2, 0), VC_PCI_MEMORY_BASE + 0x4000);
	ck_assert_uint_eq(bar(2, 1), VC_PCI_PORTS_BASE + 64);
	ck_assert_uint_eq(bar(2, 2), (1ull << 40) + 0x10000);
	/* a reset puts them back */
	vc_buses_reset(&p.buses);
	ck_assert_uint_eq(bar(1, 0), VC_PCI_MEMORY_BASE);
	ck_assert_uint_eq(get(1, COMMAND, 2), 0);
	ck_assert_uint_eq(probe.resets, 1);
}
END_TEST

START_TEST(no_window64)
{
	vc_pci_set_window64(p.env.pci, (struct vc_pci_window){0});
	add(&full, &probe);
	ck_assert_uint_eq(bar(1, 2), VC_PCI_MEMORY_BASE + 0x10000);
}
END_TEST

START_TEST(decoding)
{
	struct vc_dev *dev = add(&full, &probe);
	uint64_t data = 0, memory, wide;
	struct vcore_pci_info info;

	memory = bar(1, 0);
	wide = bar(1, 2);
	ck_assert(!peek(memory, 4, &data));
	ck_assert(!touch(VCORE_BUS_PIO, VC_PCI_PORTS_BASE, 1, false, &data));
	put(1, COMMAND, 2, MEMORY);
	ck_assert(!touch(VCORE_BUS_PIO, VC_PCI_PORTS_BASE, 1, false, &data));
	ck_assert_uint_eq(peek32(memory + 0x1ffc), 0x55667788);
	ck_assert_uint_eq(probe.bar, 0);
	ck_assert_uint_eq(probe.offset, 0x1ffc);
	poke(wide + 0xfff8, 8, 0x123456789abcdef);
	ck_assert_uint_eq(probe.bar, 2);
	ck_assert_uint_eq(probe.offset, 0xfff8);
	ck_assert_uint_eq(probe.data, 0x123456789abcdef);
	put(1, COMMAND, 2, IO);
	ck_assert(!peek(memory, 4, &data));
	ck_assert(touch(VCORE_BUS_PIO, VC_PCI_PORTS_BASE + 63, 1, false, &data));
	ck_assert_uint_eq(data, 0x88);
	ck_assert_uint_eq(probe.bar, 1);
	vc_pci_get_info(vc_pci_function_of(dev), &info);
	ck_assert_uint_eq(info.device, 1);
	ck_assert_uint_eq(info.gsi, 17);
	ck_assert_uint_eq(info.bars[0], UINT64_MAX);
	ck_assert_uint_eq(info.bars[1], VC_PCI_PORTS_BASE);
	ck_assert_uint_eq(info.command, IO);
}
END_TEST

START_TEST(moving)
{
	uint64_t data, wide;

	add(&full, &probe);
	put(1, COMMAND, 2, MEMORY | IO);
	put(1, BAR0, 4, 0xf8000000);
	ck_assert(!peek(VC_PCI_MEMORY_BASE, 4, &data));
	ck_assert_uint_eq(peek32(0xf8001000), 0x55667788);
	ck_assert_uint_eq(probe.offset, 0x1000);
	/* half by half, through a place in between */
	wide = bar(1, 2);
	put(1, BAR0 + 12, 4, 0x180);
	ck_assert(!peek(wide, 4, &data));
	ck_assert_uint_eq(peek32(0x18000000000), 0x55667788);
	put(1, BAR0 + 8, 4, 0x12340000);
	ck_assert_uint_eq(peek32(0x18012340000), 0x55667788);
	put(1, BAR0 + 4, 4, 0xd000);
	ck_assert(touch(VCORE_BUS_PIO, 0xd03f, 1, false, &data));
	/* where nothing can be */
	put(1, BAR0, 4, 0);
	ck_assert(!peek(0, 4, &data));
	put(1, BAR0 + 4, 4, 0xffff0000);
	ck_assert(!touch(VCORE_BUS_PIO, 0, 1, false, &data));
	ck_assert(!touch(VCORE_BUS_PIO, 0xd000, 1, false, &data));
	put(1, BAR0 + 12, 4, 0xffffffff);
	put(1, BAR0 + 8, 4, 0xffffffff);
	ck_assert(!peek(0x18012340000, 4, &data));
	/* and back again */
	put(1, BAR0, 4, VC_PCI_MEMORY_BASE);
	ck_assert_uint_eq(peek32(VC_PCI_MEMORY_BASE), 0x55667788);
}
END_TEST

START_TEST(overlapping)
{
	uint64_t data;
	struct probe second = {0};
	struct vcore_pci_description d = {.size = sizeof d, .vendor = 2, .bars = {{.size = 0x1000}}};

	add(&full, &probe);
	add(&d, &second);
	put(1, COMMAND, 2, MEMORY);
	put(2, COMMAND, 2, MEMORY);
	/* onto the first one's BAR, onto the ECAM: it does not answer, the other does */
	put(2, BAR0, 4, VC_PCI_MEMORY_BASE + 0x1000);
	ck_assert_uint_eq(peek32(VC_PCI_MEMORY_BASE + 0x1000), 0x55667788);
	ck_assert_uint_eq(second.reads, 0);
	ck_assert_uint_eq(probe.reads, 1);
	/* the first goes: the second is there */
	put(1, COMMAND, 2, 0);
	ck_assert_uint_eq(peek32(VC_PCI_MEMORY_BASE + 0x1000), 0x55667788);
	ck_assert_uint_eq(second.reads, 1);
	put(1, COMMAND, 2, MEMORY);
	ck_assert(!peek(VC_PCI_MEMORY_BASE, 4, &data));
	put(2, BAR0, 4, VC_PCI_ECAM_BASE);
	ck_assert_uint_eq(peek32(VC_PCI_ECAM_BASE), 0x0d578086);
	ck_assert_uint_eq(peek32(VC_PCI_MEMORY_BASE), 0x55667788);
}
END_TEST

START_TEST(own_capability)
{
	unsigned at;

	add(&full, &probe);
	at = capability(1, 9);
	ck_assert_uint_eq(at, VC_PCI_CAPABILITIES);
	ck_assert_uint_eq(get(1, at + 2, 2), 0x1188);
	ck_assert_uint_gt(probe.config_reads, 0);
	ck_assert_uint_eq(probe.config_offset, at + 2);
	put(1, at + 4, 4, 0xaabbccdd);
	ck_assert_uint_eq(probe.config_writes, 1);
	ck_assert_uint_eq(probe.config_offset, at + 4);
	ck_assert_uint_eq(probe.config_value, 0xaabbccdd);
	ck_assert_uint_eq(get(1, at + 4, 4), (0x554433dd ^ 0x80));
	/* not beside it */
	probe.config_reads = probe.config_writes = 0;
	put(1, at + 8, 4, 0);
	put(1, 0x3c, 4, 0);
	get(1, 0x3c, 4);
	get(1, at + 8, 4);
	ck_assert_uint_eq(probe.config_reads + probe.config_writes, 0);
	vc_buses_reset(&p.buses);
	ck_assert_uint_eq(get(1, at + 4, 4), (0x55443322 ^ 0x80));
}
END_TEST

START_TEST(intx)
{
	struct vcore_pci_description d = {.size = sizeof d, .vendor = 2, .interrupt_pin = 1, .address = "5"};
	struct vc_pci_function *a = vc_pci_function_of(add(&full, &probe)), *b = vc_pci_function_of(add(&d, NULL)), *c;
	struct vc_dev *gone;

	/* devices 1 and 5 share GSI 17 */
	assert_intx(a, true);
	ck_assert(p.level[17]);
	assert_intx(b, true);
	assert_intx(a, false);
	ck_assert(p.level[17]);
	ck_assert_uint_eq(get(1, STATUS, 2) & 8, 0);
	ck_assert_uint_eq(get(5, STATUS, 2) & 8, 8);
	put(5, COMMAND, 2, INTX_OFF);
	ck_assert(!p.level[17]);
	ck_assert_uint_eq(get(5, STATUS, 2) & 8, 8);
	put(5, COMMAND, 2, 0);
	ck_assert(p.level[17]);
	vc_buses_reset(&p.buses);
	ck_assert(!p.level[17]);
	/* INTD of device 6; one that goes takes its level along */
	d.address = "6";
	d.interrupt_pin = 4;
	gone = add(&d, NULL);
	c = vc_pci_function_of(gone);
	assert_intx(c, true);
	ck_assert(p.level[17]);
	assert_intx(b, true);
	ck_assert_int_eq(vc_dev_remove(&p.buses, NULL, gone), 0);
	ck_assert(p.level[17]);
	assert_intx(b, false);
	ck_assert(!p.level[17]);
	ck_assert_uint_eq(get(6, 0, 4), 0xffffffff);
	ck_assert_uint_eq(p.edges[16] + p.edges[18] + p.edges[19], 0);
}
END_TEST

START_TEST(no_pin)
{
	struct vcore_pci_description d = {.size = sizeof d, .vendor = 2};

	assert_intx(vc_pci_function_of(add(&d, NULL)), true);
	ck_assert_uint_eq(p.edges[16] + p.edges[17] + p.edges[18] + p.edges[19], 0);
	ck_assert_uint_eq(get(1, STATUS, 2), 0);
	put(1, COMMAND, 2, 0xffff);
	ck_assert_uint_eq(get(1, COMMAND, 2), IO | MEMORY | MASTER);
}
END_TEST

static void put_vector(uint64_t table, unsigned vector, uint64_t address, uint32_t data, uint32_t control)
{
	poke(table + vector * 16, 8, address);
	poke(table + vector * 16 + 8, 4, data);
	poke(table + vector * 16 + 12, 4, control);
}

START_TEST(msix)
{
	struct vc_pci_function *f = vc_pci_function_of(add(&full, &probe));
	unsigned cap = capability(1, 0x11);
	uint64_t table, pba;

	ck_assert_uint_ne(cap, 0);
	ck_assert_uint_eq(get(1, cap + 2, 2), 69);
	ck_assert_uint_eq(get(1, cap + 4, 4), 5);
	ck_assert_uint_eq(get(1, cap + 8, 4), 0x800 | 5);
	table = bar(1, 5);
	pba = table + 0x800;
	put(1, COMMAND, 2, MEMORY | MASTER);
	/* masked after reset; unaligned and narrow writes do nothing */
	ck_assert_uint_eq(peek32(table + 69 * 16 + 12), 1);
	poke(table, 2, 0xffff);
	poke(table + 1, 4, 0xffffffff);
	poke(table + 4, 8, UINT64_MAX);
	ck_assert_uint_eq(peek32(table), 0);
	ck_assert_uint_eq(peek32(table + 8), 0);
	put_vector(table, 3, 0xfee01007, 0x41, 0xfffffffe);
	ck_assert_uint_eq(peek32(table + 48), 0xfee01004);
	ck_assert_uint_eq(peek32(table + 60), 0);
	/* beyond the table, and the pending bits, there is nothing to write */
	poke(table + 70 * 16, 4, 0xffffffff);
	ck_assert_uint_eq(peek32(table + 70 * 16), 0);
	poke(pba, 8, UINT64_MAX);
	ck_assert_uint_eq(peek32(pba), 0);
	poke(table + 0xff8, 8, UINT64_MAX);
	ck_assert_uint_eq(peek32(table + 0xffc), 0);
	ck_assert_uint_eq(probe.reads + probe.writes, 0);

	/* off: INTx */
	ck_assert(!vc_pci_msi_send(f, 3));
	put(1, cap + 2, 2, MSIX_ON);
	ck_assert(vc_pci_msi_send(f, 3));
	ck_assert_uint_eq(messages, 1);
	ck_assert_uint_eq(message_address, 0xfee01004);
	ck_assert_uint_eq(message_data, 0x41);
	ck_assert(vc_pci_msi_send(f, 70));
	ck_assert(vc_pci_msi_send(f, UINT32_MAX));
	ck_assert_uint_eq(messages, 1);
	/* masked, one by one and all */
	ck_assert(vc_pci_msi_send(f, 69));
	ck_assert_uint_eq(peek32(pba + 8), 1u << 5);
	put(1, cap + 2, 2, MSIX_ON | MSIX_MASK);
	vc_pci_msi_send(f, 3);
	vc_pci_msi_send(f, 3);
	ck_assert_uint_eq(messages, 1);
	ck_assert_uint_eq(peek32(pba), 1u << 3);
	put_vector(table, 69, 0xfee02000, 0x42, 0);
	ck_assert_uint_eq(messages, 1);
	put(1, cap + 2, 2, MSIX_ON);
	ck_assert_uint_eq(messages, 3); /* both, once */
	ck_assert_uint_eq(message_data, 0x42);
	ck_assert_uint_eq(peek32(pba), 0);
	ck_assert_uint_eq(peek32(pba + 8), 0);
	/* no bus master, no message */
	put(1, COMMAND, 2, MEMORY);
	vc_pci_msi_send(f, 3);
	ck_assert_uint_eq(messages, 3);
	put(1, COMMAND, 2, MEMORY | MASTER);
	ck_assert_uint_eq(messages, 4);
	/* INTx is silent meanwhile */
	assert_intx(f, true);
	ck_assert(!p.level[17]);
	put(1, cap + 2, 2, 0);
	ck_assert(p.level[17]);
	/* an address that is no interrupt's */
	put(1, cap + 2, 2, MSIX_ON);
	put_vector(table, 3, 0x1000, 1, 0);
	ck_assert(vc_pci_msi_send(f, 3));
	ck_assert_uint_eq(messages, 4);
}
END_TEST

START_TEST(msix_sizes)
{
	struct vcore_pci_description d = {.size = sizeof d, .vendor = 2, .msix_vectors = 2048};
	uint64_t data;

	d.bars[0].flags = VCORE_PCI_BAR_MSIX | VCORE_PCI_BAR_64;
	add(&d, &probe);
	put(1, COMMAND, 2, MEMORY);
	put(1, BAR0, 4, 0xffffffff);
	ck_assert_uint_eq(get(1, BAR0, 4), 0xffff0004);
	put(1, BAR0, 4, 0);
	ck_assert_uint_eq(get(1, capability(1, 0x11) + 8, 4), 0x8000);
	ck_assert(peek(bar(1, 0) + 2047 * 16 + 8, 8, &data));
	ck_assert_uint_eq(data, 1ull << 32);
	ck_assert(peek(bar(1, 0) + 0x8000 + 248, 8, &data));
	ck_assert_uint_eq(data, 0);
}
END_TEST

START_TEST(msi)
{
	struct vcore_pci_description d = {.size = sizeof d, .vendor = 2, .msi_vectors = 4, .interrupt_pin = 1};
	struct vc_pci_function *f = vc_pci_function_of(add(&d, &probe));
	unsigned cap = capability(1, 5);

	ck_assert_uint_eq(get(1, cap + 2, 2), 0x0184);
	ck_assert_uint_eq(vc_pci_vectors(f), 4);
	put(1, COMMAND, 2, MASTER);
	put(1, cap + 4, 8, 0xfee03003);
	put(1, cap + 12, 4, 0xffff0053);
	ck_assert(!vc_pci_msi_send(f, 0));
	put(1, cap + 2, 2, 0x0001 | 2 << 4);
	vc_pci_msi_send(f, 3);
	ck_assert_uint_eq(message_address, 0xfee03000);
	ck_assert_uint_eq(message_data, 0x53);
	vc_pci_msi_send(f, 1);
	ck_assert_uint_eq(message_data, 0x51);
	/* masked */
	put(1, cap + 16, 4, 0xffffffff);
	ck_assert_uint_eq(get(1, cap + 16, 4), 0xf);
	vc_pci_msi_send(f, 2);
	ck_assert_uint_eq(messages, 2);
	ck_assert_uint_eq(get(1, cap + 20, 4), 4);
	put(1, cap + 20, 4, 0);
	ck_assert_uint_eq(get(1, cap + 20, 4), 4);
	put(1, cap + 16, 4, 0);
	ck_assert_uint_eq(messages, 3);
	ck_assert_uint_eq(message_data, 0x52);
	/* more vectors than there are, then only one */
	put(1, cap + 2, 2, 0x0001 | 7 << 4);
	vc_pci_msi_send(f, 7);
	ck_assert_uint_eq(message_data, 0x53);
	put(1, cap + 2, 2, 0x0001);
	vc_pci_msi_send(f, 2);
	ck_assert_uint_eq(message_data, 0x53);
	ck_assert_uint_eq(messages, 5);
}
END_TEST

START_TEST(state)
{
	static uint8_t saved[16384], wrong[16384];
	struct vc_dev *dev = add(&full, &probe);
	struct vc_pci_function *f = vc_pci_function_of(dev);
	unsigned cap = capability(1, 0x11);
	int64_t length;

	put(1, COMMAND, 2, MEMORY | MASTER);
	put(1, BAR0, 4, 0xf9000000);
	put(1, cap + 2, 2, MSIX_ON);
	put_vector(bar(1, 5), 3, 0xfee01000, 0x41, 1);
	vc_pci_msi_send(f, 3);
	assert_intx(f, true);
	probe.own_state = 0xcafe;
	length = dev->ops.save(f, NULL, 0);
	ck_assert_int_gt(length, 4096);
	ck_assert_int_le(length, (int64_t)sizeof saved);
	ck_assert_int_lt(dev->ops.save(f, saved, (size_t)length - 1), 0);
	ck_assert_int_lt(dev->ops.save(f, saved, 100), 0);
	ck_assert_int_eq(dev->ops.save(f, saved, sizeof saved), length);
	vc_buses_reset(&p.buses);
	probe.own_state = 0;
	ck_assert_int_eq(dev->ops.load(f, saved, (size_t)length), 0);
	ck_assert_uint_eq(probe.own_state, 0xcafe);
	ck_assert_uint_eq(peek32(0xf9000000), 0x55667788);
	ck_assert_uint_eq(get(1, STATUS, 2) & 8, 8);
	ck_assert_uint_eq(messages, 0);
	poke(bar(1, 5) + 60, 4, 0);
	ck_assert_uint_eq(messages, 1);
	ck_assert_uint_eq(message_data, 0x41);
	/* what is not a state of this function */
	ck_assert_int_eq(dev->ops.load(f, saved, (size_t)length + 1), -EINVAL);
	ck_assert_int_eq(dev->ops.load(f, saved, (size_t)length - 1), -EINVAL);
	ck_assert_int_eq(dev->ops.load(f, saved, 3), -EINVAL);
	static const struct {
		unsigned at;
		uint8_t flip;
	} flips[] = {{0, 1},
	             {4, 1},
	             {8, 2},
	             {12, 1},
	             {16, 1},
	             {16 + 0x10, 1},
	             {16 + 0x41, 4},
	             {16 + 4096, 1},
	             {16 + 4096 + 12, 2},
	             {16 + 4096 + 70 * 16 + 15, 0x80}};
	for (unsigned i = 0; i < VC_ARRAY_SIZE(flips); i++) {
		memcpy(wrong, saved, (size_t)length);
		wrong[flips[i].at] ^= flips[i].flip;
		ck_assert_msg(dev->ops.load(f, wrong, (size_t)length) == -EINVAL, "flip at %u", flips[i].at);
	}
}
END_TEST

START_TEST(removal)
{
	struct vc_dev *dev = add(&full, &probe);
	uint64_t data;

	put(1, COMMAND, 2, MEMORY);
	ck_assert_int_eq(vc_dev_remove(&p.buses, NULL, dev), 0);
	ck_assert_uint_eq(probe.destroys, 1);
	ck_assert(!peek(VC_PCI_MEMORY_BASE, 4, &data));
	ck_assert_uint_eq(get(1, 0, 4), 0xffffffff);
	ck_assert_ptr_null(vc_pci_function_of(p.buses.devices));
	/* its place and its addresses are free again */
	add(&full, &probe);
	ck_assert_uint_eq(bar(1, 0), VC_PCI_MEMORY_BASE);
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("pci");

	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, header);
	tcase_add_test(cases, addresses);
	tcase_add_test(cases, function_before_device);
	tcase_add_test(cases, wrong_descriptions);
	tcase_add_test(cases, sizing);
	tcase_add_test(cases, no_window64);
	tcase_add_test(cases, decoding);
	tcase_add_test(cases, moving);
	tcase_add_test(cases, overlapping);
	tcase_add_test(cases, own_capability);
	tcase_add_test(cases, intx);
	tcase_add_test(cases, no_pin);
	tcase_add_test(cases, msix);
	tcase_add_test(cases, msix_sizes);
	tcase_add_test(cases, msi);
	tcase_add_test(cases, state);
	tcase_add_test(cases, removal);
	return platform_run("pci", cases);
}
