/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The legacy interface of virtio over PCI, as a driver from before virtio 1.0 uses it. */
#include "platform_env.h"
#include "virtio/types.h"
#include "virtio/virtio.h"

enum {
	QUEUES = 2,
	SIZE = 256,
	CONFIG_SIZE = 60,
	RING = 0x10000, /* descriptors; the driver's area follows, the device's is at the next page */
	AVAIL = RING + 16 * SIZE,
	USED = RING + 0x2000,
	BUFFER = 0x20000,
	FEATURE = 1 << 5,
	MSIX_ON = 0x8000,
};

struct echo {
	struct vc_virtio *v;
	uint8_t config[CONFIG_SIZE];
	unsigned destroyed;
};

static struct platform_env p;
static struct echo echo;
static unsigned devfn;
static uint16_t bar;
static uint32_t last_message;

static int take_message(void *ctx, uint64_t address, uint32_t data)
{
	(void)ctx;
	(void)address;
	last_message = data;
	return 0;
}

static const struct vc_irq_sink sink = {.set = platform_set, .msi = take_message};

static uint64_t echo_features(void *ctx)
{
	(void)ctx;
	return FEATURE | 1ull << 40;
}

static void echo_config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
	memcpy(data, ((struct echo *)ctx)->config + offset, length);
}

static void echo_config_write(void *ctx, uint32_t offset, const void *data, uint32_t length)
{
	memcpy(((struct echo *)ctx)->config + offset, data, length);
}

static void echo_notify(void *ctx, struct vc_virtq *queue)
{
	struct vc_virtq_chain *chain;

	(void)ctx;
	while (vc_virtq_pop(queue, &chain) > 0) {
		memset(chain->in[0].iov_base, 0x5a, chain->in[0].iov_len);
		vc_virtq_push(chain, chain->in_bytes);
	}
	vc_virtq_flush(queue);
}

static void echo_destroy(void *ctx)
{
	((struct echo *)ctx)->destroyed++;
}

static const struct vc_virtio_ops echo_ops = {
    .type = "echo",
    .id = VC_VIRTIO_BLK,
    .pci_class = 0x018000,
    .legacy_device = 0x1001,
    .config_size = CONFIG_SIZE,
    .features = echo_features,
    .config_read = echo_config_read,
    .config_write = echo_config_write,
    .notify = echo_notify,
    .destroy = echo_destroy,
};

static int add(const char *text, const struct vc_virtio_ops *ops)
{
	struct vc_virtio_config config = {.ops = ops, .ctx = &echo, .queues = QUEUES};
	struct vc_props *props;
	struct vc_dev *dev;
	int r;

	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	r = vc_virtio_add(&p.env, props, &config, &echo.v, &dev);
	vc_props_free(props);
	return r;
}

static uint64_t config(uint32_t offset, unsigned width)
{
	return vc_pci_config_read(p.env.pci, 0, devfn, offset, width);
}

static uint32_t port(uint32_t at, unsigned width, bool write, uint32_t data)
{
	struct vcore_io io = {
	    .size = sizeof io, .bus = VCORE_BUS_PIO, .address = bar + at, .width = width, .data = data, .is_write = write};

	ck_assert(vc_bus_dispatch(&p.buses, NULL, &io));
	return (uint32_t)io.data;
}

static uint32_t in(uint32_t at, unsigned width)
{
	return port(at, width, false, 0);
}

static void out(uint32_t at, unsigned width, uint32_t value)
{
	port(at, width, true, value);
}

static void setup(void)
{
	memset(&echo, 0, sizeof echo);
	last_message = 0;
	platform_init(&p, VC_MIB(4));
	p.irqs = (struct vc_irqs){&sink, &p};
	ck_assert_int_eq(vc_pci_host_new(&p.env), 0);
	ck_assert_int_eq(add("legacy=on", &echo_ops), 0);
	devfn = VC_PCI_DEVFN(1, 0);
	vc_pci_config_write(p.env.pci, 0, devfn, 4, 2, 7);
	ck_assert_uint_eq(config(0x10, 4) & 3, 1);
	bar = (uint16_t)(config(0x10, 4) & ~3u);
	ck_assert_uint_ne(bar, 0);
}

static void teardown(void)
{
	platform_fini(&p);
	ck_assert_uint_eq(echo.destroyed, 1);
}

static void put(uint64_t gpa, const void *data, size_t length)
{
	ck_assert_int_eq(vc_mem_write(&p.mem, gpa, data, length), 0);
}

/* As Linux does: acknowledge, features, the queue, go. */
static void start(uint32_t features)
{
	out(18, 1, 0);
	out(18, 1, VC_VIRTIO_S_ACKNOWLEDGE | VC_VIRTIO_S_DRIVER);
	out(4, 4, features);
	out(14, 2, 1);
	out(8, 4, RING >> 12);
	out(18, 1, VC_VIRTIO_S_ACKNOWLEDGE | VC_VIRTIO_S_DRIVER | VC_VIRTIO_S_DRIVER_OK);
}

/* A buffer of 64 bytes through queue 1, the n-th since the start. */
static void round_trip(uint16_t n)
{
	struct {
		uint64_t gpa;
		uint32_t length;
		uint16_t flags, next;
	} desc = {BUFFER, 64, 2, 0};
	uint16_t index = n + 1, used = 0, head = 0;
	uint8_t byte = 0;

	ck_assert_int_eq(vc_mem_fill(&p.mem, BUFFER, 0, 64), 0);
	put(RING, &desc, sizeof desc);
	put(AVAIL + 4 + 2 * n, &head, 2);
	put(AVAIL + 2, &index, 2);
	out(16, 2, 1);
	platform_settle(&p);
	ck_assert_int_eq(vc_mem_read(&p.mem, USED + 2, &used, 2), 0);
	ck_assert_uint_eq(used, index);
	ck_assert_int_eq(vc_mem_read(&p.mem, BUFFER + 63, &byte, 1), 0);
	ck_assert_uint_eq(byte, 0x5a);
}

START_TEST(identity)
{
	ck_assert_uint_eq(config(0, 4), 0x10011af4);
	ck_assert_uint_eq(config(8, 1), 0);
	ck_assert_uint_eq(config(0x2e, 2), VC_VIRTIO_BLK);
	/* the modern structures are there as well */
	ck_assert_uint_ne(config(0x34, 1), 0);
	/* 128 ports */
	vc_pci_config_write(p.env.pci, 0, devfn, 0x10, 4, UINT32_MAX);
	ck_assert_uint_eq(config(0x10, 4), 0xffffff81);
}
END_TEST

START_TEST(registers)
{
	/* bits of the first half alone, and ANY_LAYOUT */
	ck_assert_uint_eq(in(0, 4), 1 << 29 | 1 << 28 | 1 << 27 | FEATURE);
	out(4, 4, FEATURE | 1 << 27);
	ck_assert_uint_eq(in(4, 4), FEATURE);
	out(14, 2, 1);
	ck_assert_uint_eq(in(14, 2), 1);
	ck_assert_uint_eq(in(12, 2), SIZE);
	ck_assert_uint_eq(in(8, 4), 0);
	/* a queue that is not there */
	out(14, 2, QUEUES);
	ck_assert_uint_eq(in(12, 2), 0);
	out(8, 4, 1);
	ck_assert_uint_eq(in(8, 4), 0);
	/* widths that a register has not */
	ck_assert_uint_eq(in(12, 4), 0);
	ck_assert_uint_eq(in(0, 1), 0);
	out(14, 1, 0);
	ck_assert_uint_eq(in(14, 2), QUEUES);
	out(18, 4, 1);
	ck_assert_uint_eq(in(18, 1), 0);
	/* FEATURES_OK is not for these drivers to see */
	start(FEATURE);
	ck_assert_uint_eq(in(18, 1), 7);
	ck_assert_uint_eq(vc_virtio_status(echo.v), 15);
	ck_assert_uint_eq(vc_virtio_features(echo.v), FEATURE);
	ck_assert_uint_eq(in(8, 4), RING >> 12);
	out(18, 1, 0);
	ck_assert_uint_eq(in(18, 1), 0);
	ck_assert_uint_eq(in(8, 4), 0);
}
END_TEST

START_TEST(a_queue)
{
	start(FEATURE);
	round_trip(0);
	ck_assert(p.level[17]);
	ck_assert_uint_eq(in(19, 1), 1);
	ck_assert(!p.level[17]);
	ck_assert_uint_eq(in(19, 1), 0);
	round_trip(1);
	/* given back, and given anew */
	out(8, 4, 0);
	ck_assert_uint_eq(in(8, 4), 0);
	ck_assert_int_eq(vc_mem_fill(&p.mem, RING, 0, 0x4000), 0);
	out(8, 4, RING >> 12);
	round_trip(0);
}
END_TEST

/* One that the device does not offer: it does not work, and does no harm. */
START_TEST(wrong_features)
{
	start(FEATURE | 1);
	ck_assert_uint_eq(in(8, 4), 0);
	ck_assert_uint_eq(vc_virtio_status(echo.v) & VC_VIRTIO_S_DRIVER_OK, 0);
	start(0);
	round_trip(0);
}
END_TEST

START_TEST(no_memory_there)
{
	start(FEATURE);
	out(14, 2, 0);
	out(8, 4, UINT32_MAX);
	out(16, 2, 0);
	platform_settle(&p);
	ck_assert_uint_ne(vc_virtio_status(echo.v) & VC_VIRTIO_S_NEEDS_RESET, 0);
	start(FEATURE);
	round_trip(0);
}
END_TEST

/* With MSI-X on there are two vectors in front of the device's configuration. */
START_TEST(message_interrupts)
{
	uint64_t table = config(0x14, 4);

	for (unsigned i = 0; i < CONFIG_SIZE; i++)
		echo.config[i] = (uint8_t)i;
	ck_assert_uint_eq(in(20, 4), 0x03020100);
	ck_assert_uint_eq(in(20 + CONFIG_SIZE - 1, 1), CONFIG_SIZE - 1);
	ck_assert_uint_eq(in(20 + CONFIG_SIZE, 1), 0);
	for (unsigned i = 0; i < QUEUES + 1; i++) {
		struct vcore_io io = {.size = sizeof io,
		                      .bus = VCORE_BUS_MMIO,
		                      .address = table + 16 * i,
		                      .width = 8,
		                      .data = 0xfee00000,
		                      .is_write = 1};

		ck_assert(vc_bus_dispatch(&p.buses, NULL, &io));
		io.address += 8;
		io.data = 0x40 + i;
		ck_assert(vc_bus_dispatch(&p.buses, NULL, &io));
	}
	for (unsigned at = (unsigned)config(0x34, 1); at; at = (unsigned)config(at + 1, 1))
		if (config(at, 1) == 0x11)
			vc_pci_config_write(p.env.pci, 0, devfn, at + 2, 2, MSIX_ON);
	ck_assert_uint_eq(in(24, 4), 0x03020100);
	out(24 + 8, 1, 0xab);
	ck_assert_uint_eq(echo.config[8], 0xab);
	start(FEATURE);
	ck_assert_uint_eq(in(22, 2), 0xffff);
	out(22, 2, 2);
	out(20, 2, 1);
	ck_assert_uint_eq(in(22, 2), 2);
	ck_assert_uint_eq(in(20, 2), 1);
	out(20, 2, QUEUES + 1);
	ck_assert_uint_eq(in(20, 2), 0xffff);
	round_trip(0);
	ck_assert_uint_eq(last_message, 0x42);
	ck_assert(!p.level[17]);
}
END_TEST

START_TEST(refusals)
{
	struct vc_virtio_ops modern = echo_ops;

	modern.legacy_device = 0;
	ck_assert_int_eq(add("legacy=on", &modern), -ENOTSUP);
	ck_assert_int_eq(add("legacy=perhaps", &echo_ops), -EINVAL);
	ck_assert_uint_eq(echo.destroyed, 2);
	echo.destroyed = 0;
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("virtio_pci_legacy");

	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, identity);
	tcase_add_test(cases, registers);
	tcase_add_test(cases, a_queue);
	tcase_add_test(cases, wrong_features);
	tcase_add_test(cases, no_memory_there);
	tcase_add_test(cases, message_interrupts);
	tcase_add_test(cases, refusals);
	return platform_run("virtio_pci_legacy", cases);
}
