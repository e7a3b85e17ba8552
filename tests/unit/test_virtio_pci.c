/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Virtio over PCI: identity, capabilities, the common structure, doorbells, MSI-X and INTx, the window in configuration
 * space, state. */
#include "platform_env.h"

#include <sys/eventfd.h>

#include "virtio/served.h"
#include "virtio/types.h"
#include "virtio_driver.h"

enum { DESC = 32, QUEUES = 3, CONFIG_SIZE = 20, MSIX_CAP = 0x11, MSIX_ON = 0x8000, NONE = 0xffff };

/* A device whose queues give back what comes, with its index as the length written. */
struct echo {
	struct vc_virtio *v;
	uint8_t config[CONFIG_SIZE];
	unsigned notified[QUEUES], destroyed;
};

static struct platform_env p;
static struct vdrv d;
static struct vdrv_queue q;
static struct echo echo;
static uint32_t last_message;
static unsigned messages;

static int take_message(void *ctx, uint64_t address, uint32_t data)
{
	(void)ctx;
	(void)address;
	last_message = data;
	messages++;
	return 0;
}

static const struct vc_irq_sink sink = {.set = platform_set, .msi = take_message};

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
	struct echo *e = ctx;
	struct vc_virtq_chain *chain;
	unsigned n = vc_virtq_index(queue);

	e->notified[n]++;
	while (vc_virtq_pop(queue, &chain) > 0)
		vc_virtq_push(chain, n);
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
    .config_size = CONFIG_SIZE,
    .config_read = echo_config_read,
    .config_write = echo_config_write,
    .notify = echo_notify,
    .destroy = echo_destroy,
};

/* Who sends messages in place of the loop. */
static struct {
	int fd;
	uint32_t data;
	unsigned added, removed;
	bool refuse;
} route;

static int set_route(void *ctx, const struct vc_irq_route *wanted, bool add)
{
	ck_assert_uint_eq(wanted->address, 0xfee00000);
	ck_assert_int_eq(wanted->gsi, -1);
	if (add && route.refuse)
		return -ENOSPC;
	if (!add) {
		ck_assert_int_eq(wanted->fd, route.fd);
		ck_assert_uint_eq(wanted->data, route.data);
	}
	route.fd = add ? wanted->fd : -1;
	route.data = wanted->data;
	*(add ? &route.added : &route.removed) += 1;
	return 0;
}

static int add_with(const char *text, const struct vc_virtio_ops *ops, uint32_t queues)
{
	struct vc_virtio_config config = {.ops = ops, .ctx = &echo, .queues = queues};
	struct vc_props *props;
	struct vc_dev *dev;
	int r;

	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	r = vc_virtio_add(&p.env, props, &config, &echo.v, &dev);
	vc_props_free(props);
	return r;
}

static void setup(void)
{
	memset(&echo, 0, sizeof echo);
	messages = 0;
	platform_init(&p, VC_MIB(4));
	p.irqs = (struct vc_irqs){&sink, &p};
	ck_assert_int_eq(vc_pci_host_new(&p.env), 0);
	ck_assert_int_eq(add_with("", &echo_ops, QUEUES), 0);
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(d.pci);
}

/* Its first queue is served by somebody else. */
static void setup_served(void)
{
	struct vc_virtio_config served = {.ops = &echo_ops, .ctx = &echo, .queues = QUEUES, .served = 1};
	struct vc_props *props;
	struct vc_dev *dev;

	memset(&echo, 0, sizeof echo);
	messages = 0;
	platform_init(&p, VC_MIB(4));
	p.irqs = (struct vc_irqs){&sink, &p};
	p.env.irqfd = set_route;
	ck_assert_int_eq(vc_pci_host_new(&p.env), 0);
	ck_assert_int_eq(vc_props_parse("", &props), 0);
	ck_assert_int_eq(vc_virtio_add(&p.env, props, &served, &echo.v, &dev), 0);
	vc_props_free(props);
	vdrv_attach(&d, &p.env, VDRV_HEAP);
}

static void teardown(void)
{
	platform_fini(&p);
	ck_assert_uint_eq(echo.destroyed, 1);
}

static uint64_t config(uint32_t offset, unsigned width)
{
	return vc_pci_config_read(p.env.pci, 0, d.devfn, offset, width);
}

static void set_config(uint32_t offset, unsigned width, uint64_t value)
{
	vc_pci_config_write(p.env.pci, 0, d.devfn, offset, width, value);
}

static uint64_t access_at(uint64_t address, unsigned width, bool write, uint64_t data)
{
	struct vcore_io io = {
	    .size = sizeof io, .bus = VCORE_BUS_MMIO, .address = address, .width = width, .data = data, .is_write = write};

	ck_assert(vc_bus_dispatch(&p.buses, NULL, &io));
	return io.data;
}

static uint64_t get(uint32_t at, unsigned width)
{
	return access_at(d.base + d.common + at, width, false, 0);
}

static void put(uint32_t at, unsigned width, uint64_t value)
{
	access_at(d.base + d.common + at, width, true, value);
}

/* Offset of the n-th capability with that ID. */
static unsigned capability(unsigned id, unsigned n)
{
	unsigned at = (unsigned)config(0x34, 1);

	while (at && (config(at, 1) != id || n-- > 0))
		at = (unsigned)config(at + 1, 1);
	return at;
}

static void start(void)
{
	ck_assert(vdrv_negotiate(&d, VC_VIRTIO_F_VERSION_1));
	vdrv_queue(&d, &q, 1, 16);
	vdrv_start(&d);
}

/* One buffer through queue 1. */
static void round_trip(void)
{
	uint64_t buffer = vdrv_alloc(&d, 64, 16);

	ck_assert_uint_eq(vdrv_do(&q, &(struct vdrv_buf){buffer, 64, true}, 1), 1);
}

static void enable_msix(void)
{
	uint64_t table = config(0x14, 4);

	for (unsigned i = 0; i < QUEUES + 1; i++) {
		access_at(table + 16 * i, 8, true, 0xfee00000);
		access_at(table + 16 * i + 8, 8, true, 0x40 + i);
	}
	set_config(capability(MSIX_CAP, 0) + 2, 2, MSIX_ON);
}

START_TEST(identity)
{
	static const uint8_t types[] = {1, 2, 3, 4, 5};

	ck_assert_uint_eq(config(0, 4), 0x10421af4);
	ck_assert_uint_eq(config(8, 4), 0x01800001);
	ck_assert_uint_eq(config(0x2c, 2), 0x1af4);
	ck_assert_uint_ge(config(0x2e, 2), 0x40);
	ck_assert_uint_eq(config(0x3d, 1), 1);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(types); i++) {
		unsigned at = capability(9, i), length = (unsigned)config(at + 2, 1);

		ck_assert_uint_eq(config(at + 3, 1), types[i]);
		ck_assert_uint_eq(length, types[i] == 2 || types[i] == 5 ? 20 : 16);
		if (types[i] != 5)
			ck_assert_uint_eq(config(at + 4, 1), 4);
		if (types[i] == 4)
			ck_assert_uint_eq(config(at + 12, 4), CONFIG_SIZE);
	}
	ck_assert_uint_eq(config(capability(MSIX_CAP, 0) + 2, 2), QUEUES);
}
END_TEST

START_TEST(common)
{
	ck_assert_uint_eq(get(18, 2), QUEUES);
	put(0, 4, 7);
	ck_assert_uint_eq(get(0, 4), 7);
	ck_assert_uint_eq(get(4, 4), 0);
	put(0, 4, 1);
	ck_assert_uint_eq(get(4, 4) & 1, 1); /* VERSION_1 */
	put(8, 4, 9);
	put(12, 4, 0xffffffff);
	ck_assert_uint_eq(get(12, 4), 0);
	put(22, 2, 2);
	ck_assert_uint_eq(get(24, 2), 256);
	ck_assert_uint_eq(get(30, 2), 2);
	put(DESC, 4, 0x1000);
	put(DESC + 4, 4, 2);
	ck_assert_uint_eq(get(DESC, 8), 0x200001000);
	put(DESC + 8, 8, 0x300002000);
	ck_assert_uint_eq(get(DESC + 12, 4), 3);
	/* vectors there are, and others */
	put(26, 2, QUEUES);
	ck_assert_uint_eq(get(26, 2), QUEUES);
	put(26, 2, QUEUES + 1);
	ck_assert_uint_eq(get(26, 2), NONE);
	put(16, 2, 0);
	ck_assert_uint_eq(get(16, 2), 0);
	put(16, 2, 0x1234);
	ck_assert_uint_eq(get(16, 2), NONE);
	/* a queue that is not there */
	put(22, 2, QUEUES);
	ck_assert_uint_eq(get(24, 2), 0);
	ck_assert_uint_eq(get(26, 2), NONE);
	put(24, 2, 8);
	put(26, 2, 1);
	put(28, 2, 1);
	put(58, 2, 1);
	ck_assert_uint_eq(get(28, 2), 0);
	/* widths that a field has not, and what is behind the last */
	put(22, 2, 1);
	put(22, 4, 0);
	put(22, 1, 0);
	put(20, 4, 0);
	ck_assert_uint_eq(get(22, 2), 1);
	ck_assert_uint_eq(get(22, 4), 0);
	ck_assert_uint_eq(get(23, 2), 0);
	ck_assert_uint_eq(get(56, 8), 0);
	ck_assert_uint_eq(get(60, 4), 0);
	put(60, 4, 1);
	put(0xff8, 8, 1);
	ck_assert_uint_eq(get(0xff8, 8), 0);
	/* a reset */
	put(20, 1, 0);
	ck_assert_uint_eq(get(22, 2), 0);
	ck_assert_uint_eq(get(0, 4), 0);
}
END_TEST

START_TEST(device_config)
{
	for (unsigned i = 0; i < CONFIG_SIZE; i++)
		echo.config[i] = (uint8_t)i;
	ck_assert_uint_eq(vdrv_config(&d, 4, 4), 0x07060504);
	vdrv_set_config(&d, 8, 2, 0xaabb);
	ck_assert_uint_eq(echo.config[8], 0xbb);
	ck_assert_uint_eq(vdrv_config(&d, 16, 8), 0x13121110);
	vdrv_set_config(&d, 0xff8, 8, UINT64_MAX);
	ck_assert_uint_eq(vdrv_config(&d, 0xff8, 8), 0);
}
END_TEST

START_TEST(doorbells)
{
	uint32_t last = 0x4000 - 4;

	start();
	round_trip();
	ck_assert_uint_gt(echo.notified[1], 0);
	ck_assert_uint_eq(echo.notified[0] + echo.notified[2], 0);
	/* of queues that are not there, or not set up */
	access_at(d.base + last, 4, true, 1);
	access_at(d.base + d.notify + 4 * QUEUES, 2, true, 0);
	access_at(d.base + d.notify, 2, true, 1);
	platform_settle(&p);
	ck_assert_uint_eq(echo.notified[0] + echo.notified[2], 0);
	ck_assert_uint_eq(access_at(d.base + d.notify, 4, false, 0), 0);
}
END_TEST

START_TEST(intx)
{
	start();
	round_trip();
	ck_assert(p.level[17]);
	ck_assert_uint_eq(vdrv_take_isr(&d), 1);
	ck_assert(!p.level[17]);
	vc_virtio_config_changed(echo.v);
	ck_assert(p.level[17]);
	ck_assert_uint_eq(vdrv_take_isr(&d), 2);
	round_trip();
	vdrv_reset(&d);
	ck_assert(!p.level[17]);
	ck_assert_uint_eq(vdrv_take_isr(&d), 0);
	ck_assert_uint_eq(messages, 0);
}
END_TEST

START_TEST(msix)
{
	enable_msix();
	start();
	/* no vector: no interrupt */
	round_trip();
	vc_virtio_config_changed(echo.v);
	ck_assert_uint_eq(messages, 0);
	put(22, 2, 1);
	put(26, 2, 2);
	put(16, 2, 3);
	round_trip();
	ck_assert_uint_eq(messages, 1);
	ck_assert_uint_eq(last_message, 0x42);
	vc_virtio_config_changed(echo.v);
	ck_assert_uint_eq(last_message, 0x43);
	ck_assert_uint_eq(messages, 2);
	ck_assert(!p.level[17]);
	ck_assert_uint_eq(vdrv_take_isr(&d), 0);
}
END_TEST

/* A served queue's interrupt is the kernel's while there is a message for it, and else the loop's. */
START_TEST(routes)
{
	struct vc_served_queue served;
	uint64_t control;

	platform_fini(&p);
	setup_served();
	control = config(0x14, 4) + 16 * 2 + 12;
	enable_msix();
	ck_assert(vdrv_negotiate(&d, ~0ull));
	vdrv_queue(&d, &q, 0, 64);
	vdrv_start(&d);
	ck_assert(vc_served_get(echo.v, 0, &served));
	ck_assert_uint_eq(route.added, 0);
	put(22, 2, 0);
	put(26, 2, 2);
	ck_assert_uint_eq(route.added, 1);
	ck_assert_int_eq(route.fd, served.call);
	ck_assert_uint_eq(route.data, 0x42);
	/* nobody here reads what is the kernel's */
	ck_assert_int_eq(eventfd_write(served.call, 1), 0);
	vdrv_settle(&d);
	ck_assert_uint_eq(messages, 0);
	/* masked: it comes to us, and waits */
	access_at(control, 4, true, 1);
	ck_assert_uint_eq(route.removed, 1);
	vdrv_settle(&d);
	ck_assert_uint_eq(messages, 0);
	access_at(control, 4, true, 0);
	ck_assert_uint_eq(messages, 1);
	ck_assert_uint_eq(last_message, 0x42);
	ck_assert_uint_eq(route.added, 2);
	/* another message */
	access_at(control - 4, 4, true, 0x77);
	ck_assert_uint_eq(route.data, 0x77);
	ck_assert_uint_eq(route.added, route.removed + 1);
	/* the vector, bus mastering, MSI-X as a whole, a refusal */
	put(26, 2, NONE);
	ck_assert_uint_eq(route.added, route.removed);
	put(26, 2, 2);
	set_config(4, 2, 2);
	ck_assert_uint_eq(route.added, route.removed);
	set_config(4, 2, 6);
	ck_assert_uint_eq(route.added, route.removed + 1);
	set_config(capability(MSIX_CAP, 0) + 2, 2, 0);
	ck_assert_uint_eq(route.added, route.removed);
	route.refuse = true;
	set_config(capability(MSIX_CAP, 0) + 2, 2, MSIX_ON);
	ck_assert_uint_eq(route.added, route.removed);
	ck_assert_int_eq(eventfd_write(served.call, 1), 0);
	vdrv_settle(&d);
	ck_assert_uint_eq(messages, 2);
	ck_assert_uint_eq(last_message, 0x77);
	/* a reset, and the end */
	route.refuse = false;
	put(26, 2, 2);
	vc_buses_reset(&p.buses);
	ck_assert_uint_eq(route.added, route.removed);
}
END_TEST

START_TEST(window)
{
	unsigned cap = capability(9, 4), data = cap + 16;

	set_config(4, 2, 0); /* the BAR answers nowhere */
	ck_assert_uint_eq(config(cap + 3, 1), 5);
	set_config(cap + 4, 1, 4);
	set_config(cap + 8, 4, d.common + 18);
	set_config(cap + 12, 4, 2);
	ck_assert_uint_eq(config(data, 2), QUEUES);
	set_config(cap + 8, 4, d.common + 22);
	set_config(data, 2, 2);
	ck_assert_uint_eq(config(data, 2), 2);
	set_config(cap + 8, 4, d.config + 4);
	set_config(cap + 12, 4, 4);
	set_config(data, 4, 0x55667788);
	ck_assert_uint_eq(echo.config[4], 0x88);
	/* elsewhere, odd, too long */
	static const struct {
		uint32_t bar, offset, length;
	} wrong[] = {{1, 0, 4}, {4, 2, 4}, {4, 0x4000, 4}, {4, 0xfffffffc, 4}, {4, 0, 3}, {4, 0, 8}, {4, 0, 0}};
	for (unsigned i = 0; i < VC_ARRAY_SIZE(wrong); i++) {
		set_config(cap + 4, 1, wrong[i].bar);
		set_config(cap + 8, 4, wrong[i].offset);
		set_config(cap + 12, 4, wrong[i].length);
		set_config(data, 4, UINT32_MAX);
		ck_assert_uint_eq(config(data, 4), 0);
	}
}
END_TEST

START_TEST(state)
{
	static uint8_t saved[32768];
	const struct vcore_device_ops *ops = &d.dev->ops;
	int64_t length;

	enable_msix();
	start();
	put(22, 2, 1);
	put(26, 2, 2);
	round_trip();
	length = ops->save(d.dev->ctx, NULL, 0);
	ck_assert_int_gt(length, 0);
	ck_assert_int_le(length, (int64_t)sizeof saved);
	ck_assert_int_eq(ops->save(d.dev->ctx, saved, sizeof saved), length);
	ck_assert_int_lt(ops->save(d.dev->ctx, saved, (size_t)length - 1), 0);
	vc_buses_reset(&p.buses);
	ck_assert_int_eq(ops->load(d.dev->ctx, saved, (size_t)length), 0);
	ck_assert_uint_eq(vdrv_status(&d), 15);
	round_trip();
	ck_assert_uint_eq(messages, 2);
	ck_assert_uint_eq(last_message, 0x42);
	for (int64_t cut = 1; cut < length; cut += 61)
		ck_assert_int_lt(ops->load(d.dev->ctx, saved, (size_t)(length - cut)), 0);
}
END_TEST

START_TEST(refusals)
{
	struct vc_virtio_ops big = echo_ops;

	big.config_size = 4097;
	ck_assert_int_eq(add_with("", &big, 1), -E2BIG);
	ck_assert_int_eq(add_with("addr=1", &echo_ops, 1), -EEXIST);
	ck_assert_int_eq(add_with("addr=99", &echo_ops, 1), -EINVAL);
	ck_assert_int_eq(add_with("", &echo_ops, 1025), -EINVAL);
	ck_assert_int_eq(add_with("addr=0x1f", &echo_ops, 1024), 0);
	ck_assert_uint_eq(vc_pci_config_read(p.env.pci, 0, VC_PCI_DEVFN(31, 0), 0, 4), 0x10421af4);
	p.env.pci = NULL;
	ck_assert_int_eq(add_with("transport=pci", &echo_ops, 1), -ENOTSUP);
	ck_assert_uint_eq(echo.destroyed, 5);
	echo.destroyed = (unsigned)-1; /* two are still there */
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("virtio_pci");

	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, identity);
	tcase_add_test(cases, common);
	tcase_add_test(cases, device_config);
	tcase_add_test(cases, doorbells);
	tcase_add_test(cases, intx);
	tcase_add_test(cases, msix);
	tcase_add_test(cases, window);
	tcase_add_test(cases, state);
	tcase_add_test(cases, refusals);
	tcase_add_test(cases, routes);
	return platform_run("virtio_pci", cases);
}
