/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lib/bus: regions, dispatch, splitting, ioeventfds, removal against running callbacks, interrupt lines. */
#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include <virtcore/error.h>

#include "bus/bus.h"
#include "bus/irq.h"
#include "core/error.h"
#include "core/util.h"

static struct vc_gate gate;
static struct vc_buses buses;
static struct vc_pass pass;

/* A device that notes the last access and answers with a pattern of its offset. */
struct probe {
	struct vcore_io last;
	uint64_t written;
	int reads, writes, resets;
	_Atomic int destroyed;

	int number;
	bool was_inside;
	void (*during)(struct probe *);
	struct vc_dev *dev;
	int result;
};

static int sequence[16], sequence_length;

static void on_read(void *ctx, struct vcore_io *io)
{
	struct probe *p = ctx;

	p->reads++;
	p->last = *io;
	p->was_inside |= atomic_load(&pass.inside) != 0;
	io->data = 0x8877665544332200ull + io->offset;
	if (p->during)
		p->during(p);
}

static void on_write(void *ctx, struct vcore_io *io)
{
	struct probe *p = ctx;

	p->writes++;
	p->last = *io;
	p->written = io->data;
	if (p->during)
		p->during(p);
}

static void on_reset(void *ctx)
{
	struct probe *p = ctx;

	p->resets++;
	sequence[sequence_length++ % 16] = p->number;
	if (p->during)
		p->during(p);
}

static void on_destroy(void *ctx)
{
	struct probe *p = ctx;

	atomic_fetch_add(&p->destroyed, 1);
	sequence[sequence_length++ % 16] = p->number;
}

static const struct vcore_device_ops probe_ops = {
    .size = sizeof probe_ops, .read = on_read, .write = on_write, .reset = on_reset, .destroy = on_destroy};

static void setup(void)
{
	ck_assert_int_eq(vc_gate_init(&gate), 0);
	ck_assert_int_eq(vc_buses_init(&buses, &gate), 0);
	vc_gate_add(&gate, &pass, NULL, NULL);
	vc_gate_enter(&pass);
	sequence_length = 0;
}

static void teardown(void)
{
	vc_gate_leave(&pass);
	vc_gate_remove(&gate, &pass);
	vc_buses_fini(&buses);
	vc_gate_fini(&gate);
}

static void add_probe(struct probe *p, const char *name, enum vcore_bus bus, uint64_t start, uint64_t length)
{
	ck_assert_int_eq(vc_dev_add(&buses, name, &probe_ops, p, &p->dev), 0);
	ck_assert_int_eq(vc_dev_add_region(&buses, &pass, p->dev, bus, start, length), 0);
}

static bool message_has(const char *text)
{
	return strstr(vcore_error_message(), text) != NULL;
}

static struct vcore_io access_of(enum vcore_bus bus, uint64_t address, uint32_t width, bool write, uint64_t data)
{
	return (struct vcore_io){.bus = bus, .address = address, .width = width, .is_write = write, .data = data};
}

static bool read_at(enum vcore_bus bus, uint64_t address, uint32_t width, uint64_t *data)
{
	struct vcore_io io = access_of(bus, address, width, false, 0x1111);
	bool r = vc_bus_dispatch(&buses, &pass, &io);

	*data = io.data;
	ck_assert_uint_eq(pass.inside, 1);
	return r;
}

static bool write_at(enum vcore_bus bus, uint64_t address, uint32_t width, uint64_t data)
{
	struct vcore_io io = access_of(bus, address, width, true, data);
	bool r = vc_bus_dispatch(&buses, &pass, &io);

	ck_assert_uint_eq(pass.inside, 1);
	return r;
}

START_TEST(test_dispatch)
{
	static struct probe p, q; /* the teardown still calls their destroy */
	uint64_t data;

	add_probe(&p, "p", VCORE_BUS_PIO, 0x3f8, 8);
	add_probe(&q, "q", VCORE_BUS_MMIO, 0xd0000000, 0x1000);
	ck_assert_int_eq(vc_dev_add_region(&buses, &pass, p.dev, VCORE_BUS_MMIO, 0xd0001000, 0x1000), 0);
	ck_assert(read_at(VCORE_BUS_PIO, 0x3fa, 1, &data));
	ck_assert_uint_eq(data, 0x02); /* cut to the width */
	ck_assert_uint_eq(p.last.offset, 2);
	ck_assert_uint_eq(p.last.address, 0x3fa);
	ck_assert_uint_eq(p.last.size, sizeof(struct vcore_io));
	ck_assert(!p.was_inside);
	ck_assert(read_at(VCORE_BUS_MMIO, 0xd0000ff8, 8, &data));
	ck_assert_uint_eq(data, 0x8877665544332200ull + 0xff8);
	ck_assert(write_at(VCORE_BUS_MMIO, 0xd0001004, 4, 0x12345678));
	ck_assert_uint_eq(p.written, 0x12345678);
	ck_assert_uint_eq(p.last.offset, 4);
	ck_assert_uint_eq(p.last.bus, VCORE_BUS_MMIO);
	ck_assert(!read_at(VCORE_BUS_PIO, 0x3f7, 1, &data));
	ck_assert(!read_at(VCORE_BUS_PIO, 0x400, 1, &data));
	ck_assert_uint_eq(data, 0x1111); /* nobody: left alone */
	ck_assert(!write_at(VCORE_BUS_PIO, 0xffff, 4, 1));
	ck_assert(!read_at(VCORE_BUS_MMIO, UINT64_MAX, 8, &data));
	ck_assert(!read_at(VCORE_BUS_HYPERCALL, 1, 8, &data));
	ck_assert_uint_eq(vc_buses_accesses(&buses, VCORE_BUS_PIO), 1);
	ck_assert_uint_eq(vc_buses_accesses(&buses, VCORE_BUS_MMIO), 2);
	/* from a thread without a pass */
	struct vcore_io io = access_of(VCORE_BUS_PIO, 0x3f9, 1, false, 0);
	vc_gate_leave(&pass);
	ck_assert(vc_bus_dispatch(&buses, NULL, &io));
	ck_assert_uint_eq(io.data, 1);
	io = access_of(VCORE_BUS_PIO, 0x80, 1, false, 0);
	ck_assert(!vc_bus_dispatch(&buses, NULL, &io));
	vc_gate_enter(&pass);
}
END_TEST

static void leave_alone(void *ctx, struct vcore_io *io) {}

START_TEST(test_missing_callbacks)
{
	struct {
		uint32_t size, pad;
		void *read;
	} old = {.size = sizeof old, .read = (void *)leave_alone};
	const struct vcore_device_ops empty = {.size = sizeof empty};
	struct vc_dev *dev;
	uint64_t data;

	ck_assert_int_eq(vc_dev_add(&buses, "none", &empty, NULL, &dev), 0);
	ck_assert_int_eq(vc_dev_add_region(&buses, &pass, dev, VCORE_BUS_PIO, 0x10, 4), 0);
	ck_assert(read_at(VCORE_BUS_PIO, 0x10, 2, &data));
	ck_assert_uint_eq(data, 0xffff);
	ck_assert(write_at(VCORE_BUS_PIO, 0x10, 2, 1));
	/* compiled against an older header: write and all behind it are NULL whatever lies there */
	ck_assert_int_eq(vc_dev_add(&buses, "old", (const struct vcore_device_ops *)&old, NULL, &dev), 0);
	ck_assert_ptr_null(dev->ops.write);
	ck_assert_ptr_null(dev->ops.destroy);
	ck_assert_int_eq(vc_dev_add_region(&buses, &pass, dev, VCORE_BUS_PIO, 0x20, 4), 0);
	ck_assert(read_at(VCORE_BUS_PIO, 0x20, 4, &data));
	ck_assert_uint_eq(data, 0xffffffff); /* a register that says nothing floats */
	ck_assert_int_eq(vc_dev_add(&buses, "bad", &(struct vcore_device_ops){0}, NULL, &dev), -EINVAL);
	ck_assert_int_eq(vc_dev_add(&buses, "bad", NULL, NULL, &dev), -EINVAL);
	ck_assert_int_eq(vc_dev_add(&buses, "a name that is longer than the field for it", &empty, NULL, &dev), 0);
	ck_assert_uint_eq(strlen(dev->type), sizeof dev->type - 1);
	ck_assert_int_eq(vc_dev_add(&buses, "no handle wanted", &empty, NULL, NULL), 0);
}
END_TEST

START_TEST(test_regions)
{
	static struct probe p;
	uint64_t data;

	add_probe(&p, "first", VCORE_BUS_PIO, 0x100, 0x10);
	const uint64_t lap[][2] = {{0x100, 0x10}, {0xff, 2}, {0x10f, 1}, {0x105, 1}, {0, 0x10000}};
	for (size_t i = 0; i < VC_ARRAY_SIZE(lap); i++) {
		struct vc_dev *dev;
		ck_assert_int_eq(vc_dev_add(&buses, "second", &probe_ops, &p, &dev), 0);
		ck_assert_int_eq(vc_dev_add_region(&buses, &pass, dev, VCORE_BUS_PIO, lap[i][0], lap[i][1]), -EEXIST);
		ck_assert(message_has("first") && message_has("second"));
		ck_assert_int_eq(vc_dev_remove(&buses, &pass, dev), 0);
	}
	ck_assert_int_eq(vc_dev_add_region(&buses, &pass, p.dev, VCORE_BUS_PIO, 0x110, 0), -EINVAL);
	ck_assert_int_eq(vc_dev_add_region(&buses, &pass, p.dev, VCORE_BUS_PIO, 0x10000, 1), -EINVAL);
	ck_assert_int_eq(vc_dev_add_region(&buses, &pass, p.dev, VCORE_BUS_PIO, 0xffff, 2), -EINVAL);
	ck_assert_int_eq(vc_dev_add_region(&buses, &pass, p.dev, VCORE_BUS_PIO, 0xffff, UINT64_MAX), -EINVAL);
	ck_assert_int_eq(vc_dev_add_region(&buses, &pass, p.dev, VCORE_BUS_MMIO, 1ull << 52, 1), -EINVAL);
	ck_assert_int_eq(vc_dev_add_region(&buses, &pass, p.dev, (enum vcore_bus)3, 0, 1), -EINVAL);
	ck_assert_int_eq(vc_dev_remove_region(&buses, &pass, p.dev, (enum vcore_bus)3, 0), -EINVAL);
	ck_assert_int_eq(vc_dev_add_region(&buses, &pass, p.dev, VCORE_BUS_PIO, 0xffff, 1), 0);
	ck_assert_int_eq(vc_dev_add_region(&buses, &pass, p.dev, VCORE_BUS_HYPERCALL, UINT64_MAX, 1), 0);
	ck_assert(read_at(VCORE_BUS_PIO, 0xffff, 1, &data));
	ck_assert(write_at(VCORE_BUS_HYPERCALL, UINT64_MAX, 8, 0));
	ck_assert_int_eq(vc_dev_remove_region(&buses, &pass, p.dev, VCORE_BUS_PIO, 0xffff), 0);
	ck_assert_int_eq(vc_dev_remove_region(&buses, &pass, p.dev, VCORE_BUS_PIO, 0xffff), -ENOENT);
	ck_assert(!read_at(VCORE_BUS_PIO, 0xffff, 1, &data));
	ck_assert(read_at(VCORE_BUS_PIO, 0x100, 1, &data));
	/* many, added in no order */
	for (uint64_t i = 0; i < 97; i++)
		ck_assert_int_eq(vc_dev_add_region(&buses, &pass, p.dev, VCORE_BUS_MMIO, i * 31 % 97 * 64, 32), 0);
	for (uint64_t a = 0; a < 97 * 64; a++) {
		ck_assert_int_eq(read_at(VCORE_BUS_MMIO, a, 1, &data), a % 64 < 32);
		if (a % 64 < 32)
			ck_assert_uint_eq(p.last.offset, a % 64);
	}
}
END_TEST

START_TEST(test_split)
{
	static struct probe p, q; /* the teardown still calls their destroy */
	uint64_t data;

	add_probe(&p, "p", VCORE_BUS_PIO, 0x100, 2);
	add_probe(&q, "q", VCORE_BUS_PIO, 0x103, 1);
	/* 0x100 0x101 answer with their offset, 0x102 is empty, 0x103 is q */
	ck_assert(read_at(VCORE_BUS_PIO, 0x100, 4, &data));
	ck_assert_uint_eq(data, 0x00ff0100);
	ck_assert_int_eq(p.reads, 2);
	ck_assert_int_eq(q.reads, 1);
	ck_assert_uint_eq(q.last.width, 1);
	ck_assert(write_at(VCORE_BUS_PIO, 0x101, 4, 0x44332211));
	ck_assert_uint_eq(p.written, 0x11);
	ck_assert_uint_eq(q.written, 0x33);
	/* starting where nobody is */
	ck_assert(read_at(VCORE_BUS_PIO, 0xfe, 4, &data));
	ck_assert_uint_eq(data, 0x0100ffff);
	ck_assert(read_at(VCORE_BUS_PIO, 0x102, 2, &data));
	ck_assert_uint_eq(data, 0x00ff);
	ck_assert(!read_at(VCORE_BUS_PIO, 0xfc, 4, &data));
	ck_assert(!read_at(VCORE_BUS_PIO, 0x102, 1, &data));
	/* without a pass, and at the end of the ports */
	struct vcore_io io = access_of(VCORE_BUS_PIO, 0x101, 4, false, 0);
	vc_gate_leave(&pass);
	ck_assert(vc_bus_dispatch(&buses, NULL, &io));
	ck_assert_uint_eq(io.data, 0xff00ff01);
	vc_gate_enter(&pass);
	ck_assert_int_eq(vc_dev_add_region(&buses, &pass, p.dev, VCORE_BUS_PIO, 0xffff, 1), 0);
	ck_assert(read_at(VCORE_BUS_PIO, 0xffff, 4, &data));
	ck_assert_uint_eq(data, 0xffffff00);
	ck_assert_int_eq(vc_dev_add_region(&buses, &pass, p.dev, VCORE_BUS_MMIO, 0x1000, 4), 0);
	ck_assert(read_at(VCORE_BUS_MMIO, 0xffd, 8, &data));
	ck_assert_uint_eq(data, 0xff03020100ffffff);
}
END_TEST

START_TEST(test_hypercall)
{
	static struct probe p;
	struct vcore_io io = access_of(VCORE_BUS_HYPERCALL, 7, 8, false, 0);

	add_probe(&p, "p", VCORE_BUS_HYPERCALL, 7, 1);
	io.args[3] = 4;
	ck_assert(vc_bus_dispatch(&buses, &pass, &io)); /* not split for its width, and a write whatever it says */
	ck_assert_int_eq(p.writes, 1);
	ck_assert_uint_eq(p.last.args[3], 4);
	ck_assert(!write_at(VCORE_BUS_HYPERCALL, 6, 8, 0));
	ck_assert(!write_at(VCORE_BUS_HYPERCALL, 8, 8, 0));
}
END_TEST

/* ---- ioeventfd ---- */

static uint64_t take(int fd)
{
	uint64_t n = 0;

	return read(fd, &n, sizeof n) == sizeof n ? n : 0;
}

START_TEST(test_ioeventfd)
{
	static struct probe p;
	int fd = eventfd(0, EFD_NONBLOCK);
	struct vc_ioeventfd e = {
	    .address = 0x100, .bus = VCORE_BUS_MMIO, .width = 4, .has_match = true, .match = 5, .fd = fd};
	uint64_t data;

	add_probe(&p, "p", VCORE_BUS_MMIO, 0x100, 0x10);
	ck_assert_int_eq(vc_ioeventfd_add(&buses, &pass, &e), 0);
	ck_assert_int_eq(vc_ioeventfd_add(&buses, &pass, &e), -EEXIST);
	e.match = 6;
	ck_assert_int_eq(vc_ioeventfd_add(&buses, &pass, &e), 0);
	e.has_match = false;
	ck_assert_int_eq(vc_ioeventfd_add(&buses, &pass, &e), -EEXIST); /* a 5 would signal both */
	e.width = 2;
	ck_assert_int_eq(vc_ioeventfd_add(&buses, &pass, &e), 0);
	ck_assert(write_at(VCORE_BUS_MMIO, 0x100, 4, 0xdead00000005)); /* upper garbage is no part of it */
	ck_assert(write_at(VCORE_BUS_MMIO, 0x100, 4, 6));
	ck_assert_int_eq(p.writes, 0);
	ck_assert_uint_eq(take(fd), 2);
	ck_assert(write_at(VCORE_BUS_MMIO, 0x100, 4, 7)); /* other value: the device */
	ck_assert(write_at(VCORE_BUS_MMIO, 0x100, 1, 5)); /* other width */
	ck_assert(write_at(VCORE_BUS_MMIO, 0x104, 4, 5)); /* other address */
	ck_assert(read_at(VCORE_BUS_MMIO, 0x100, 4, &data));
	ck_assert_int_eq(p.writes, 3);
	ck_assert_int_eq(p.reads, 1);
	ck_assert_uint_eq(take(fd), 0);
	ck_assert(write_at(VCORE_BUS_MMIO, 0x100, 2, 99));
	ck_assert_uint_eq(take(fd), 1);
	e = (struct vc_ioeventfd){.address = 0x40, .bus = VCORE_BUS_PIO, .fd = fd};
	ck_assert_int_eq(vc_ioeventfd_add(&buses, &pass, &e), 0); /* no device there, any width */
	ck_assert(write_at(VCORE_BUS_PIO, 0x40, 4, 1));
	ck_assert(write_at(VCORE_BUS_PIO, 0x40, 1, 1));
	ck_assert(!write_at(VCORE_BUS_MMIO, 0x40, 1, 1));
	ck_assert(!read_at(VCORE_BUS_PIO, 0x40, 1, &data));
	ck_assert_uint_eq(take(fd), 2);
	ck_assert_int_eq(vc_ioeventfd_remove(&buses, &pass, &e), 0);
	ck_assert_int_eq(vc_ioeventfd_remove(&buses, &pass, &e), -ENOENT);
	ck_assert(!write_at(VCORE_BUS_PIO, 0x40, 4, 1));
	e = (struct vc_ioeventfd){.address = 0x100, .bus = VCORE_BUS_MMIO, .width = 4, .has_match = true, .match = 5};
	ck_assert_int_eq(vc_ioeventfd_remove(&buses, &pass, &e), 0);
	ck_assert(write_at(VCORE_BUS_MMIO, 0x100, 4, 5));
	ck_assert_int_eq(p.writes, 4);
	close(fd);
	ck_assert(write_at(VCORE_BUS_MMIO, 0x100, 4, 6)); /* it has its own descriptor */
	ck_assert_int_eq(p.writes, 4);
}
END_TEST

START_TEST(test_ioeventfd_refusals)
{
	const struct vc_ioeventfd bad[] = {
	    {.bus = VCORE_BUS_HYPERCALL, .fd = 0},
	    {.bus = 77, .fd = 0},
	    {.bus = VCORE_BUS_PIO, .width = 3, .fd = 0},
	    {.bus = VCORE_BUS_PIO, .width = 8, .fd = 0},
	    {.bus = VCORE_BUS_MMIO, .width = 16, .fd = 0},
	    {.bus = VCORE_BUS_PIO, .address = 0x10000, .fd = 0},
	    {.bus = VCORE_BUS_PIO, .address = 0xffff, .width = 2, .fd = 0},
	    {.bus = VCORE_BUS_MMIO, .address = UINT64_MAX, .fd = 0},
	    {.bus = VCORE_BUS_MMIO, .width = 1, .has_match = true, .match = 256, .fd = 0},
	};
	const struct vc_ioeventfd closed = {.bus = VCORE_BUS_MMIO, .fd = -1};

	for (size_t i = 0; i < VC_ARRAY_SIZE(bad); i++) {
		ck_assert_int_eq(vc_ioeventfd_add(&buses, &pass, &bad[i]), -EINVAL);
		ck_assert_int_eq(vc_ioeventfd_remove(&buses, &pass, &bad[i]), -EINVAL);
	}
	ck_assert_int_eq(vc_ioeventfd_add(&buses, &pass, &closed), -EBADF);
	ck_assert_uint_eq(buses.ioeventfd_count, 0);
}
END_TEST

/* ---- removal ---- */

static void remove_self(struct probe *p)
{
	p->result = vc_dev_remove(&buses, NULL, p->dev);
}

static struct probe victim;

static void remove_victim(struct probe *p)
{
	p->result = vc_dev_remove(&buses, &pass, victim.dev); /* the pass is outside here */
	p->during = NULL;
}

static void add_newcomer(struct probe *p)
{
	victim = (struct probe){0};
	p->result = vc_dev_add(&buses, "new", &probe_ops, &victim, &victim.dev);
	if (!p->result)
		p->result = vc_dev_add_region(&buses, NULL, victim.dev, VCORE_BUS_PIO, 0x90, 1);
	p->during = NULL;
}

START_TEST(test_remove)
{
	static struct probe p = {.during = remove_self, .result = 1}, q;
	uint64_t data;

	add_probe(&p, "p", VCORE_BUS_PIO, 0x80, 1);
	/* its own callbacks: on a vcpu, on another thread, in a reset */
	ck_assert(read_at(VCORE_BUS_PIO, 0x80, 1, &data));
	ck_assert_int_eq(p.result, -EDEADLK);
	ck_assert(message_has("p"));
	p.result = 1;
	vc_gate_leave(&pass);
	struct vcore_io io = access_of(VCORE_BUS_PIO, 0x80, 1, true, 0);
	ck_assert(vc_bus_dispatch(&buses, NULL, &io));
	ck_assert_int_eq(p.result, -EDEADLK);
	p.result = 1;
	vc_buses_reset(&buses);
	ck_assert_int_eq(p.result, -EDEADLK);
	ck_assert_int_eq(p.destroyed, 0);
	vc_gate_enter(&pass);
	/* from the callback of another device */
	p.during = add_newcomer;
	ck_assert(read_at(VCORE_BUS_PIO, 0x80, 1, &data));
	ck_assert_int_eq(p.result, 0);
	ck_assert(read_at(VCORE_BUS_PIO, 0x90, 1, &data));
	p.during = remove_victim;
	ck_assert(read_at(VCORE_BUS_PIO, 0x80, 1, &data));
	ck_assert_int_eq(p.result, 0);
	ck_assert_int_eq(victim.destroyed, 1);
	ck_assert(!read_at(VCORE_BUS_PIO, 0x90, 1, &data));
	/* by a thread that is inside: it is so again afterwards */
	ck_assert_int_eq(vc_dev_remove(&buses, &pass, p.dev), 0);
	ck_assert_uint_eq(pass.inside, 1);
	ck_assert_int_eq(p.destroyed, 1);
	add_probe(&q, "q", VCORE_BUS_PIO, 0x80, 1);
}
END_TEST

START_TEST(test_order)
{
	static struct probe p[4];
	const int want[] = {0, 1, 3, 3, 1, 0};

	for (int i = 0; i < 4; i++) {
		p[i].number = i;
		add_probe(&p[i], "p", VCORE_BUS_PIO, (uint64_t)i, 1);
	}
	ck_assert_int_eq(vc_dev_remove(&buses, &pass, p[2].dev), 0);
	sequence_length = 0;
	vc_buses_reset(&buses);
	teardown();
	setup(); /* resets sequence_length only */
	for (int i = 0; i < 6; i++)
		ck_assert_int_eq(sequence[i], want[i]);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(p[i].destroyed, 1);
}
END_TEST

static void remove_older(void *ctx)
{
	struct probe *p = ctx;

	atomic_fetch_add(&p->destroyed, 1);
	vc_dev_remove(&buses, NULL, victim.dev);
}

START_TEST(test_destroy_may_remove)
{
	const struct vcore_device_ops ops = {.size = sizeof ops, .destroy = remove_older};
	static struct probe p;

	victim = (struct probe){0};
	add_probe(&victim, "child", VCORE_BUS_PIO, 0, 1);
	ck_assert_int_eq(vc_dev_add(&buses, "parent", &ops, &p, NULL), 0);
	teardown();
	ck_assert_int_eq(p.destroyed, 1);
	ck_assert_int_eq(victim.destroyed, 1);
	setup();
}
END_TEST

/* ---- removal against running callbacks ---- */

#define RUNNERS 3

struct runner {
	struct vc_pass pass;
	pthread_t thread;
	bool with_pass;
	uint64_t hits;
};

struct fleeting {
	_Atomic int running;
	_Atomic int gone;
	uint64_t last[RUNNERS]; /* plain: touched after free() if removal came back too early */
};

static _Atomic uint32_t stop, wrong;

static void fleeting_access(void *ctx, struct vcore_io *io)
{
	struct fleeting *f = ctx;

	atomic_fetch_add(&f->running, 1);
	if (io->args[0] < RUNNERS)
		f->last[io->args[0]] = io->data;
	if (io->data % 64 == 0)
		sched_yield();
	if (atomic_load(&f->gone))
		atomic_fetch_add(&wrong, 1);
	atomic_fetch_sub(&f->running, 1);
}

static void fleeting_destroy(void *ctx)
{
	struct fleeting *f = ctx;

	atomic_store(&f->gone, 1);
	if (atomic_load(&f->running))
		atomic_fetch_add(&wrong, 1);
	free(f);
}

static const struct vcore_device_ops fleeting_ops = {
    .size = sizeof fleeting_ops, .read = fleeting_access, .write = fleeting_access, .destroy = fleeting_destroy};

static struct runner runners[RUNNERS];

static void *run_accesses(void *arg)
{
	struct runner *r = arg;
	struct vc_pass *mine = r->with_pass ? &r->pass : NULL;

	if (mine)
		vc_gate_enter(mine);
	for (uint64_t i = 0; !atomic_load(&stop); i++) {
		struct vcore_io io = access_of(VCORE_BUS_MMIO, 0x1000, 4, true, i & 0xffff);
		io.args[0] = (uint64_t)(r - runners);
		r->hits += vc_bus_dispatch(&buses, mine, &io);
		if (mine && vc_gate_wanted(mine)) {
			vc_gate_leave(mine);
			vc_gate_enter(mine);
		}
		if (!mine)
			sched_yield();
	}
	if (mine)
		vc_gate_leave(mine);
	return NULL;
}

START_TEST(test_removal_race)
{
	static struct probe other;

	vc_gate_leave(&pass);
	add_probe(&other, "other", VCORE_BUS_MMIO, 0x2000, 4);
	atomic_store(&stop, 0);
	for (int i = 0; i < RUNNERS; i++) {
		runners[i] = (struct runner){.with_pass = i != 0};
		vc_gate_add(&gate, &runners[i].pass, NULL, NULL);
	}
	for (int i = 0; i < RUNNERS; i++)
		ck_assert_int_eq(pthread_create(&runners[i].thread, NULL, run_accesses, &runners[i]), 0);
	/* longer on a machine so busy that no runner got to run */
	for (int i = 0; i < 400 || (!vc_buses_accesses(&buses, VCORE_BUS_MMIO) && i < 1000000); i++) {
		struct fleeting *f = calloc(1, sizeof *f);
		struct vc_dev *dev;

		ck_assert_int_eq(vc_dev_add(&buses, "fleeting", &fleeting_ops, f, &dev), 0);
		ck_assert_int_eq(vc_dev_add_region(&buses, NULL, dev, VCORE_BUS_MMIO, 0x1000, 4), 0);
		for (int k = 0; k < 20; k++)
			sched_yield();
		/* now and then from inside the gate, as a vcpu's thread might */
		if (i % 4 == 0)
			vc_gate_enter(&pass);
		ck_assert_int_eq(vc_dev_remove(&buses, i % 4 ? NULL : &pass, dev), 0);
		if (i % 4 == 0)
			vc_gate_leave(&pass);
	}
	atomic_store(&stop, 1);
	for (int i = 0; i < RUNNERS; i++)
		pthread_join(runners[i].thread, NULL);
	ck_assert_uint_eq(wrong, 0);
	uint64_t hits = 0;
	for (int i = 0; i < RUNNERS; i++)
		hits += runners[i].hits;
	ck_assert_uint_gt(hits, 0);
	ck_assert_uint_eq(vc_buses_accesses(&buses, VCORE_BUS_MMIO), hits);
	for (int i = 0; i < RUNNERS; i++)
		vc_gate_remove(&gate, &runners[i].pass);
	vc_gate_enter(&pass);
}
END_TEST

/* A callback that is held up: removal must not come back before it ends. */
static _Atomic int in_callback, release_callback, removed;

static void held_up(void *ctx, struct vcore_io *io)
{
	atomic_store(&in_callback, 1);
	while (!atomic_load(&release_callback))
		sched_yield();
	if (atomic_load(&removed))
		atomic_fetch_add(&wrong, 1);
}

static void *remove_it(void *arg)
{
	if (vc_dev_remove(&buses, NULL, arg))
		atomic_fetch_add(&wrong, 1);
	atomic_store(&removed, 1);
	return NULL;
}

static void *access_it(void *arg)
{
	struct vc_pass *mine = arg;
	struct vcore_io io = access_of(VCORE_BUS_PIO, 0x70, 1, true, 0);

	if (mine)
		vc_gate_enter(mine);
	vc_bus_dispatch(&buses, mine, &io);
	if (mine)
		vc_gate_leave(mine);
	return NULL;
}

START_TEST(test_removal_waits)
{
	const struct vcore_device_ops ops = {.size = sizeof ops, .write = held_up};
	const struct timespec nap = {.tv_nsec = 5000000};
	struct vc_pass mine;
	struct vc_dev *dev;
	pthread_t accessor, remover;
	uint64_t data;

	atomic_store(&in_callback, 0);
	atomic_store(&release_callback, 0);
	atomic_store(&removed, 0);
	vc_gate_leave(&pass);
	vc_gate_add(&gate, &mine, NULL, NULL);
	ck_assert_int_eq(vc_dev_add(&buses, "slow", &ops, NULL, &dev), 0);
	ck_assert_int_eq(vc_dev_add_region(&buses, NULL, dev, VCORE_BUS_PIO, 0x70, 2), 0);
	ck_assert_int_eq(pthread_create(&accessor, NULL, access_it, _i ? &mine : NULL), 0);
	while (!atomic_load(&in_callback))
		sched_yield();
	ck_assert_int_eq(pthread_create(&remover, NULL, remove_it, dev), 0);
	/* once its regions are gone, it waits */
	for (bool there = true; there;) {
		vc_gate_enter(&pass);
		there = buses.map[VCORE_BUS_PIO]->count != 0;
		vc_gate_leave(&pass);
		nanosleep(&nap, NULL);
	}
	ck_assert_int_eq(atomic_load(&removed), 0);
	/* it can neither be removed a second time nor get new regions, and the others go on */
	ck_assert_int_eq(vc_dev_remove(&buses, NULL, dev), -EALREADY);
	ck_assert_int_eq(vc_dev_add_region(&buses, NULL, dev, VCORE_BUS_PIO, 0x70, 1), -ENODEV);
	vc_gate_enter(&pass);
	ck_assert(!read_at(VCORE_BUS_PIO, 0x70, 1, &data));
	vc_gate_leave(&pass);
	vc_buses_reset(&buses);
	atomic_store(&release_callback, 1);
	pthread_join(accessor, NULL);
	pthread_join(remover, NULL);
	ck_assert_int_eq(atomic_load(&removed), 1);
	ck_assert_uint_eq(wrong, 0);
	vc_gate_remove(&gate, &mine);
	vc_gate_enter(&pass);
}
END_TEST

/* ---- interrupts ---- */

struct lines {
	int changes;
	unsigned gsi;
	bool level;
	uint64_t address;
	uint32_t data;
};

static void line_set(void *ctx, unsigned gsi, bool level)
{
	struct lines *l = ctx;

	l->changes++;
	l->gsi = gsi;
	l->level = level;
}

static int message_sent(void *ctx, uint64_t address, uint32_t data)
{
	struct lines *l = ctx;

	l->address = address;
	l->data = data;
	return data == 666 ? vc_fail(EIO, "refused") : 0;
}

START_TEST(test_interrupts)
{
	const struct vc_irq_sink sink = {.set = line_set, .msi = message_sent};
	struct lines lines = {0};
	struct vc_irqs irqs = {.sink = &sink, .ctx = &lines}, none = {0};

	ck_assert_int_eq(vc_irq_set(&irqs, 23, true), 0);
	ck_assert_uint_eq(lines.gsi, 23);
	ck_assert(lines.level);
	ck_assert_int_eq(vc_irq_set(&irqs, 24, true), -EINVAL);
	ck_assert_int_eq(vc_irq_pulse(&irqs, 4), 0);
	ck_assert_int_eq(lines.changes, 3);
	ck_assert(!lines.level);
	ck_assert_int_eq(vc_irq_pulse(&irqs, UINT32_MAX), -EINVAL);
	ck_assert_int_eq(vc_msi_send(&irqs, 0xfee01000, 0x4031), 0);
	ck_assert_uint_eq(lines.address, 0xfee01000);
	ck_assert_uint_eq(lines.data, 0x4031);
	ck_assert_int_eq(vc_msi_send(&irqs, 0xfee01000, 666), -EIO);
	ck_assert_int_eq(vc_msi_send(&irqs, 0xfef00000, 1), -EINVAL);
	ck_assert_int_eq(vc_msi_send(&irqs, 0x1fee00000, 1), -EINVAL);
	ck_assert_int_eq(vc_irq_set(&none, 1, true), -ENOTSUP);
	ck_assert_int_eq(vc_irq_pulse(&none, 1), -ENOTSUP);
	ck_assert_int_eq(vc_msi_send(&none, 0xfee00000, 1), -ENOTSUP);
	ck_assert_int_eq(vc_irq_set(&none, 99, true), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("bus");
	TCase *c = tcase_create("bus");

	tcase_set_timeout(c, 60);
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, test_dispatch);
	tcase_add_test(c, test_missing_callbacks);
	tcase_add_test(c, test_regions);
	tcase_add_test(c, test_split);
	tcase_add_test(c, test_hypercall);
	tcase_add_test(c, test_ioeventfd);
	tcase_add_test(c, test_ioeventfd_refusals);
	tcase_add_test(c, test_remove);
	tcase_add_test(c, test_order);
	tcase_add_test(c, test_destroy_may_remove);
	tcase_add_test(c, test_removal_race);
	tcase_add_loop_test(c, test_removal_waits, 0, 2);
	tcase_add_test(c, test_interrupts);
	suite_add_tcase(suite, c);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
