/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Virtqueues and the common half: what broken drivers do, slots that go away, status, features, queue reset, state. */
#include "platform_env.h"
#include "virtio_driver.h"
#include "virtio_echo.h"

enum { NEXT = 1, WRITE = 2, INDIRECT = 4, SIZE = 16, RAM = 0x100000 };

static struct platform_env p;
static struct vdrv d;
static struct vdrv_queue q;
static struct echo echo;
static unsigned destroyed;

static void begin(const char *text, uint64_t features, uint32_t queues)
{
	memset(&echo, 0, sizeof echo);
	destroyed = 0;
	echo.destroyed = &destroyed;
	platform_init(&p, RAM);
	ck_assert_int_eq(echo_add(&echo, &p.env, text, queues, NULL), 0);
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&d, features));
	vdrv_queue(&d, &q, 0, SIZE);
	vdrv_start(&d);
	vdrv_settle(&d);
}

static void end(void)
{
	platform_fini(&p);
	ck_assert_uint_eq(destroyed, 1);
}

static bool is_broken(void)
{
	return vdrv_status(&d) & VC_VIRTIO_S_NEEDS_RESET;
}

/* ---- broken drivers ---- */

struct bad_desc {
	uint64_t gpa;
	uint32_t length;
	uint16_t flags, next;
};

static void put_desc(uint8_t *table, unsigned i, const struct bad_desc *b)
{
	vc_st64(table + i * 16, b->gpa);
	vc_st32(table + i * 16 + 8, b->length);
	vc_st16(table + i * 16 + 12, b->flags);
	vc_st16(table + i * 16 + 14, b->next);
}

/* A split queue: descriptors from 0 on, and if table is set those of an indirect table that descriptor 0 names. */
static const struct bad_chain {
	const char *what;
	struct bad_desc descs[4];
	struct bad_desc table[4];
	uint16_t head;
	bool no_indirect;
} bad_chains[] = {
    {"head out of range", {{0x1000, 16, 0, 0}}, .head = SIZE},
    {"head far out of range", {{0x1000, 16, 0, 0}}, .head = 0xffff},
    {"next out of range", {{0x1000, 16, NEXT, SIZE}}},
    {"cycle of one", {{0x1000, 16, NEXT, 0}}},
    {"cycle of two", {{0x1000, 16, NEXT, 1}, {0x2000, 16, NEXT, 0}}},
    {"empty descriptor", {{0x1000, 0, 0, 0}}},
    {"readable after writable", {{0x1000, 16, NEXT | WRITE, 1}, {0x2000, 16, 0, 0}}},
    {"nowhere", {{RAM, 1, 0, 0}}},
    {"runs out of memory", {{RAM - 16, 17, WRITE, 0}}},
    {"far out", {{0xfffffffffffffff0ull, 0x20, WRITE, 0}}},
    {"read-only memory", {{0x200000, 16, WRITE, 0}}},
    {"longer than 4 GiB", {{0x40000000, 0x80000000, NEXT, 1}, {0x40000000, 0x80000000, 0, 0}}},
    {"indirect, not negotiated", {{0x1000, 16, INDIRECT, 0}}, .no_indirect = true},
    {"indirect with next", {{0, 16, INDIRECT | NEXT, 1}, {0x2000, 16, 0, 0}}, {{0x1000, 16, 0, 0}}},
    {"indirect in indirect", {{0, 16, INDIRECT, 0}}, {{0x1000, 16, INDIRECT, 0}}},
    {"indirect of half an entry", {{0, 24, INDIRECT, 0}}, {{0x1000, 16, 0, 0}}},
    {"indirect of nothing", {{0, 0, INDIRECT, 0}}, {{0x1000, 16, 0, 0}}},
    {"indirect of too many", {{0, 16 * 1025, INDIRECT, 0}}, {{0x1000, 16, 0, 0}}},
    {"indirect next out of range", {{0, 32, INDIRECT, 0}}, {{0x1000, 16, NEXT, 2}}},
    {"indirect cycle", {{0, 32, INDIRECT, 0}}, {{0x1000, 16, NEXT, 1}, {0x1000, 16, NEXT, 0}}},
    {"indirect table nowhere", {{RAM, 16, INDIRECT, 0}}},
    {"indirect table runs out of memory", {{RAM - 16, 64, INDIRECT, 0}}},
};

START_TEST(broken_chain)
{
	const struct bad_chain *bad = &bad_chains[_i];
	uint64_t table;

	begin(bad->no_indirect ? "indirect=off" : "", ~0ull, 1);
	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, 0x200000, 0x1000, VCORE_MEM_RX, NULL, NULL), 0);
	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, 0x40000000, 0x80000000ull, VCORE_MEM_RWX, NULL, NULL), 0);
	table = vdrv_alloc(&d, 4096, 16);
	/* a table that runs out of memory goes on with its first entry */
	put_desc(vdrv_ptr(&d, RAM - 16), 0, &(struct bad_desc){0x1000, 16, NEXT, 1});
	for (unsigned i = 0; i < 4; i++) {
		struct bad_desc desc = bad->descs[i];

		if (bad->table[0].length && desc.flags & INDIRECT)
			desc.gpa = table;
		put_desc(q.desc, i, &desc);
		put_desc(vdrv_ptr(&d, table), i, &bad->table[i]);
	}
	vc_st16(q.driver + 4, bad->head);
	vc_st16(q.driver + 2, 1);
	vdrv_take_isr(&d);
	vdrv_write(&d, VDRV_QUEUE_NOTIFY, 0);
	vdrv_settle(&d);
	ck_assert_msg(is_broken(), "%s was taken", bad->what);
	ck_assert_uint_eq(vdrv_take_isr(&d), 2);
	ck_assert_uint_eq(echo.count, 0);
	ck_assert_ptr_nonnull(strstr(p.last_log, "virtio-echo"));
	/* nothing moves until it is reset, and then everything does */
	vdrv_write(&d, VDRV_QUEUE_NOTIFY, 0);
	vdrv_settle(&d);
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	vdrv_queue(&d, &q, 0, SIZE);
	vdrv_start(&d);
	ck_assert(vdrv_add(&q, &(struct vdrv_buf){0x1000, 16, true}, 1, &q));
	vdrv_kick(&q);
	vdrv_settle(&d);
	ck_assert_uint_eq(echo.count, 1);
	end();
}
END_TEST

START_TEST(broken_index)
{
	begin("", ~0ull, 1);
	vc_st16(q.driver + 2, SIZE + 1);
	vdrv_write(&d, VDRV_QUEUE_NOTIFY, 0);
	vdrv_settle(&d);
	ck_assert(is_broken());
	end();
}
END_TEST

/* The same descriptors are made available again and again, and never come back. */
START_TEST(broken_reuse)
{
	begin("event_idx=off", ~0ull, 1);
	put_desc(q.desc, 0, &(struct bad_desc){0x1000, 16, 0, 0});
	for (unsigned lap = 1; lap < 4 && !is_broken(); lap++) {
		vc_st16(q.driver + 2, (uint16_t)(lap * SIZE));
		vdrv_write(&d, VDRV_QUEUE_NOTIFY, 0);
		vdrv_settle(&d);
		ck_assert_uint_eq(echo.count, SIZE);
	}
	ck_assert(is_broken());
	end();
}
END_TEST

static const struct {
	const char *what;
	struct bad_desc descs[3]; /* `next` is the buffer ID's place taken by flags: here next means nothing */
	unsigned count;
} bad_packed[] = {
    {"empty", {{0x1000, 0, 0, 0}}, 1},
    {"readable after writable", {{0x1000, 16, NEXT | WRITE, 0}, {0x1000, 16, 0, 0}}, 2},
    {"goes on with what is not available", {{0x1000, 16, NEXT, 0}}, 1},
    {"indirect with next", {{0x1000, 16, NEXT | INDIRECT, 0}, {0x1000, 16, 0, 0}}, 2},
    {"indirect of half an entry", {{0x1000, 8, INDIRECT, 0}}, 1},
    {"nowhere", {{RAM, 8, 0, 0}}, 1},
};

static void put_packed(unsigned at, const struct bad_desc *b)
{
	vc_st64(q.desc + at * 16, b->gpa);
	vc_st32(q.desc + at * 16 + 8, b->length);
	vc_st16(q.desc + at * 16 + 12, 0);
	vc_st16(q.desc + at * 16 + 14, (uint16_t)(b->flags | 0x80));
}

START_TEST(broken_packed)
{
	begin("packed=on", ~0ull, 1);
	for (unsigned i = 0; i < bad_packed[_i].count; i++)
		put_packed(i, &bad_packed[_i].descs[i]);
	vdrv_write(&d, VDRV_QUEUE_NOTIFY, 0);
	vdrv_settle(&d);
	ck_assert_msg(is_broken(), "%s was taken", bad_packed[_i].what);
	end();
}
END_TEST

START_TEST(broken_packed_cycle)
{
	begin("packed=on", ~0ull, 1);
	for (unsigned i = 0; i < SIZE; i++)
		put_packed(i, &(struct bad_desc){0x1000, 16, NEXT, 0});
	vdrv_write(&d, VDRV_QUEUE_NOTIFY, 0);
	vdrv_settle(&d);
	ck_assert(is_broken());
	end();
}
END_TEST

static void setup_queue(uint32_t size, uint64_t desc, uint64_t driver, uint64_t device)
{
	const uint64_t gpas[3] = {desc, driver, device};
	const uint32_t regs[3] = {VDRV_QUEUE_DESC, VDRV_QUEUE_DRIVER, VDRV_QUEUE_DEVICE};

	vdrv_write(&d, VDRV_QUEUE_SEL, 1);
	vdrv_write(&d, VDRV_QUEUE_SIZE, size);
	for (unsigned i = 0; i < 3; i++) {
		vdrv_write(&d, regs[i], (uint32_t)gpas[i]);
		vdrv_write(&d, regs[i] + 4, (uint32_t)(gpas[i] >> 32));
	}
	vdrv_write(&d, VDRV_QUEUE_READY, 1);
}

/* Queues that cannot be: of wrong size, not aligned, nowhere, or where the device must not write. */
START_TEST(broken_setup)
{
	static const struct {
		uint32_t size;
		uint64_t desc, driver, device;
	} bad[] = {
	    {0, 0x1000, 0x2000, 0x3000},          {24, 0x1000, 0x2000, 0x3000},
	    {512, 0x1000, 0x2000, 0x3000},        {16, 0x1008, 0x2000, 0x3000},
	    {16, 0x1000, 0x2001, 0x3000},         {16, 0x1000, 0x2000, 0x3002},
	    {16, RAM - 16, 0x2000, 0x3000},       {16, 0x1000, RAM, 0x3000},
	    {16, 0x1000, 0x2000, 1ull << 50},     {16, 0x1000, 0x2000, 0x00200000},
	    {16, 0x1000, UINT64_MAX - 1, 0x3000},
	};

	begin("", ~0ull, 2);
	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, 0x200000, 0x1000, VCORE_MEM_RX, NULL, NULL), 0);
	setup_queue(bad[_i].size, bad[_i].desc, bad[_i].driver, bad[_i].device);
	vdrv_write(&d, VDRV_QUEUE_NOTIFY, 1);
	vdrv_settle(&d);
	ck_assert(is_broken());
	end();
}
END_TEST

/* ---- memory that goes away ---- */

START_TEST(slot_removed)
{
	const uint64_t gpa = 0x400000;
	struct vc_slot *slot, *again;
	uint32_t written;

	begin("", ~0ull, 1);
	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, gpa, 0x4000, VCORE_MEM_RWX, NULL, &slot), 0);
	ck_assert(vdrv_add(&q, &(struct vdrv_buf){gpa + 100, 1000, true}, 1, &q));
	vdrv_kick(&q);
	vdrv_settle(&d);
	ck_assert_uint_eq(echo.count, 1);
	vc_mem_remove(&p.mem, NULL, slot);
	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, gpa, 0x1000, VCORE_MEM_RWX, NULL, &again), 0);
	/* still the old memory */
	memset(echo.held[0]->in[0].iov_base, 0x55, 1000);
	ck_assert_uint_eq(*(uint8_t *)vdrv_ptr(&d, gpa + 100), 0);
	echo_done(&echo, 0, 1000);
	vc_virtq_flush(vc_virtio_queue(echo.v, 0));
	ck_assert_ptr_eq(vdrv_get(&q, &written), &q);
	ck_assert_uint_eq(written, 1000);
	/* and now the new */
	ck_assert(vdrv_add(&q, &(struct vdrv_buf){gpa + 100, 1000, true}, 1, &q));
	vdrv_kick(&q);
	vdrv_settle(&d);
	memset(echo.held[0]->in[0].iov_base, 0x55, 1000);
	ck_assert_uint_eq(*(uint8_t *)vdrv_ptr(&d, gpa + 100), 0x55);
	ck_assert_uint_eq(atomic_load(&again->pins), 2);
	echo_done(&echo, 0, 1000);
	vc_virtq_flush(vc_virtio_queue(echo.v, 0));
	/* a queue at rest keeps nobody's memory */
	ck_assert_uint_eq(atomic_load(&again->pins), 1);
	end();
}
END_TEST

START_TEST(rings_removed)
{
	const uint64_t gpa = 0x400000;
	struct vc_slot *slot;

	begin("", ~0ull, 2);
	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, gpa, 0x4000, VCORE_MEM_RWX, NULL, &slot), 0);
	setup_queue(16, gpa, gpa + 0x1000, gpa + 0x2000);
	vdrv_settle(&d);
	ck_assert(!is_broken());
	vc_mem_remove(&p.mem, NULL, slot);
	vdrv_write(&d, VDRV_QUEUE_NOTIFY, 1);
	vdrv_settle(&d);
	ck_assert(is_broken());
	end();
}
END_TEST

/* What the device writes is in the dirty log: buffers, and the used ring. */
START_TEST(dirty_log)
{
	uint64_t bitmap[RAM / 4096 / 64], expected[RAM / 4096 / 64] = {0}, buffer, pages[3];
	struct vc_slot *slot;

	begin("", ~0ull, 1);
	slot = vc_mem_find(&p.mem, 0);
	buffer = vdrv_alloc(&d, 0x3000, 4096);
	ck_assert_int_eq(vc_mem_log_dirty(&p.mem, NULL, slot, VC_LOG_PROGRAM, true), 0);
	ck_assert(vdrv_add(&q, &(struct vdrv_buf){buffer + 0xff0, 0x1000, true}, 1, &q));
	vdrv_kick(&q);
	vdrv_settle(&d);
	echo_done(&echo, 0, 0x20);
	vc_virtq_flush(vc_virtio_queue(echo.v, 0));
	ck_assert_int_ge(vc_mem_get_dirty(&p.mem, NULL, slot, VC_LOG_PROGRAM, bitmap, sizeof bitmap), 3);
	pages[0] = buffer / 4096;
	pages[1] = pages[0] + 1;
	pages[2] = q.device_gpa / 4096;
	for (unsigned i = 0; i < 3; i++)
		expected[pages[i] / 64] |= 1ull << pages[i] % 64;
	ck_assert_mem_eq(bitmap, expected, sizeof bitmap);
	end();
}
END_TEST

/* ---- chains ---- */

START_TEST(many_segments)
{
	static struct vdrv_buf bufs[VDRV_TABLE];
	uint64_t gpa;

	begin(_i ? "packed=on" : "", ~0ull, 1);
	gpa = vdrv_alloc(&d, VDRV_TABLE * 64, 16);
	for (unsigned i = 0; i < VDRV_TABLE; i++)
		bufs[i] = (struct vdrv_buf){gpa + i * 64, 64, i >= 20};
	for (unsigned i = 0; i < SIZE; i++)
		ck_assert(vdrv_add(&q, bufs, VDRV_TABLE, &bufs[i]));
	vdrv_kick(&q);
	vdrv_settle(&d);
	ck_assert_uint_eq(echo.count, SIZE);
	ck_assert_uint_eq(echo.held[0]->out_count, 20);
	ck_assert_uint_eq(echo.held[0]->in_bytes, 44 * 64);
	while (echo.count)
		echo_done(&echo, 0, 1);
	vc_virtq_flush(vc_virtio_queue(echo.v, 0));
	for (unsigned i = 0; i < SIZE; i++)
		ck_assert_ptr_eq(vdrv_get(&q, NULL), &bufs[i]);
	end();
}
END_TEST

/* More long chains than the device has room for: the others wait until there is some. */
START_TEST(starved)
{
	static struct vdrv_buf bufs[VDRV_TABLE];
	struct vdrv_queue long_queue;
	unsigned first;

	begin(_i ? "packed=on" : "", ~0ull, 2);
	vdrv_queue(&d, &long_queue, 1, 128);
	for (unsigned i = 0; i < VDRV_TABLE; i++)
		bufs[i] = (struct vdrv_buf){0x1000 + i, 1, false};
	for (unsigned i = 0; i < 128; i++)
		ck_assert(vdrv_add(&long_queue, bufs, VDRV_TABLE, &bufs[0]));
	vdrv_kick(&long_queue);
	vdrv_settle(&d);
	first = echo.count;
	ck_assert_uint_gt(first, 0);
	ck_assert_uint_lt(first, 128);
	while (echo.count)
		echo_done(&echo, 0, 0);
	vc_virtq_flush(vc_virtio_queue(echo.v, 1));
	vdrv_settle(&d);
	ck_assert_uint_eq(echo.count, 128 - first);
	end();
}
END_TEST

START_TEST(unpop)
{
	struct vc_virtq *dq;
	unsigned marks[3];

	begin(_i & 1 ? "packed=on" : "", ~0ull, 1);
	for (unsigned i = 0; i < 3; i++)
		ck_assert(vdrv_add(&q, (struct vdrv_buf[]){{0x1000 + i, 16, false}, {0x2000, 16, true}}, 2, &marks[i]));
	vdrv_kick(&q);
	vdrv_settle(&d);
	dq = vc_virtio_queue(echo.v, 0);
	vc_virtq_unpop(echo.held[--echo.count]);
	vc_virtq_unpop(echo.held[--echo.count]);
	echo_notify(&echo, dq);
	ck_assert_uint_eq(echo.count, 3);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_ptr_eq(echo.held[i]->out[0].iov_base, vdrv_ptr(&d, 0x1000 + i));
	end();
}
END_TEST

/* ---- the common half ---- */

START_TEST(features)
{
	struct vdrv other;

	begin("packed=on", ~0ull, 1);
	/* bits that are not offered, and no VERSION_1 */
	vdrv_reset(&d);
	vdrv_write(&d, VDRV_STATUS, 3);
	vdrv_write(&d, VDRV_DRIVER_FEATURES_SEL, 1);
	vdrv_write(&d, VDRV_DRIVER_FEATURES, 0x80000001);
	vdrv_write(&d, VDRV_STATUS, 11);
	ck_assert_uint_eq(vdrv_status(&d), 3);
	vdrv_write(&d, VDRV_DRIVER_FEATURES, 0);
	vdrv_write(&d, VDRV_STATUS, 11);
	ck_assert_uint_eq(vdrv_status(&d), 3);
	/* DRIVER_OK without FEATURES_OK */
	vdrv_write(&d, VDRV_STATUS, 7);
	ck_assert_uint_eq(vdrv_status(&d), 3);
	ck_assert_uint_eq(echo.starts, 1);
	/* the device itself refuses */
	echo.refuse = -EINVAL;
	vdrv_attach(&other, &p.env, VDRV_HEAP);
	ck_assert(!vdrv_negotiate(&other, ~0ull));
	echo.refuse = 0;
	ck_assert(vdrv_negotiate(&other, ~0ull));
	/* too late to change anything */
	vdrv_write(&d, VDRV_DRIVER_FEATURES, 0);
	ck_assert_uint_eq(vc_virtio_driver_features(echo.v), vc_virtio_features(echo.v));
	end();
}
END_TEST

START_TEST(config)
{
	uint32_t generation;

	begin("", ~0ull, 1);
	echo.config = 0x11223344;
	ck_assert_uint_eq(vdrv_config(&d, 0, 4), 0x11223344);
	ck_assert_uint_eq(vdrv_config(&d, 1, 2), 0x2233);
	ck_assert_uint_eq(vdrv_config(&d, 2, 8), 0x1122);
	ck_assert_uint_eq(vdrv_config(&d, 4, 4), 0);
	vdrv_set_config(&d, 3, 4, 0xffffff55);
	ck_assert_uint_eq(echo.config, 0x55223344);
	vdrv_take_isr(&d);
	generation = vdrv_read(&d, VDRV_GENERATION);
	vc_virtio_config_changed(echo.v);
	ck_assert_uint_ne(vdrv_read(&d, VDRV_GENERATION), generation);
	ck_assert(p.level[d.dev->gsi]);
	ck_assert_uint_eq(vdrv_take_isr(&d), 2);
	ck_assert(!p.level[d.dev->gsi]);
	/* odd accesses do nothing */
	vdrv_set_config(&d, VDRV_STATUS - VDRV_CONFIG, 1, 0);
	ck_assert_uint_eq(vdrv_config(&d, VDRV_STATUS - VDRV_CONFIG, 2), 0);
	ck_assert_uint_eq(vdrv_status(&d), 15);
	end();
}
END_TEST

START_TEST(queue_reset)
{
	struct vdrv_queue other;

	begin(_i ? "packed=on" : "", ~0ull, 2);
	vdrv_queue(&d, &other, 1, SIZE);
	ck_assert(vdrv_add(&other, &(struct vdrv_buf){0x1000, 16, true}, 1, &other));
	vdrv_kick(&other);
	ck_assert(vdrv_add(&q, &(struct vdrv_buf){0x1000, 16, true}, 1, &q));
	vdrv_kick(&q);
	vdrv_settle(&d);
	ck_assert_uint_eq(echo.count, 2);
	vdrv_write(&d, VDRV_QUEUE_SEL, 0);
	vdrv_write(&d, VDRV_QUEUE_RESET, 1);
	ck_assert_uint_eq(vdrv_read(&d, VDRV_QUEUE_RESET), 0);
	ck_assert_uint_eq(vdrv_read(&d, VDRV_QUEUE_READY), 0);
	vdrv_settle(&d);
	ck_assert_ptr_null(vc_virtio_queue(echo.v, 0));
	/* the other queue's chain is still there */
	ck_assert_uint_eq(echo.count, 1);
	echo_done(&echo, 0, 3);
	vc_virtq_flush(vc_virtio_queue(echo.v, 1));
	ck_assert_ptr_eq(vdrv_get(&other, NULL), &other);
	vdrv_queue(&d, &q, 0, 8);
	ck_assert(vdrv_add(&q, &(struct vdrv_buf){0x1000, 16, true}, 1, &q));
	vdrv_kick(&q);
	vdrv_settle(&d);
	ck_assert_uint_eq(echo.count, 1);
	end();
}
END_TEST

/* Flipped bits in a saved state are refused or taken, and do no harm. */
START_TEST(hostile_state)
{
	static uint8_t good[1 << 14], bad[1 << 14];
	struct vc_dev *dev;
	uint32_t seed = 1;
	int64_t size;

	begin(_i ? "packed=on" : "", ~0ull, 2);
	dev = p.buses.devices;
	for (unsigned i = 0; i < 5; i++)
		ck_assert(vdrv_add(&q, (struct vdrv_buf[]){{0x1000, 16, false}, {0x2000, 16, true}}, 2, &q));
	vdrv_kick(&q);
	vdrv_settle(&d);
	size = dev->ops.save(dev->ctx, good, sizeof good);
	ck_assert_int_gt(size, 0);
	ck_assert_int_eq(dev->ops.save(dev->ctx, bad, (size_t)size - 1), -ENOSPC);
	ck_assert_int_eq(dev->ops.load(dev->ctx, good, 10), -EINVAL);
	ck_assert_int_eq(dev->ops.load(dev->ctx, good, (size_t)size - 1), -EINVAL);
	ck_assert_int_eq(dev->ops.load(dev->ctx, good, (size_t)size + 1), -EINVAL);
	for (unsigned i = 0; i < 3000; i++) {
		memcpy(bad, good, (size_t)size);
		for (unsigned n = 0; n < 1 + i % 4; n++) {
			seed = seed * 1664525 + 1013904223;
			bad[4 + (seed >> 8) % ((size_t)size - 4)] ^= (uint8_t)(1u << (seed >> 29));
		}
		dev->ops.load(dev->ctx, bad, (size_t)size);
		vdrv_settle(&d);
		while (echo.count) {
			vc_virtq_push(echo.held[--echo.count], 1);
			vc_virtq_flush(vc_virtio_queue(echo.v, 0));
		}
	}
	ck_assert_int_eq(dev->ops.load(dev->ctx, good, (size_t)size), 0);
	vdrv_settle(&d);
	ck_assert_uint_eq(echo.count, 5);
	end();
}
END_TEST

START_TEST(vm_reset)
{
	begin("", ~0ull, 1);
	ck_assert(vdrv_add(&q, &(struct vdrv_buf){0x1000, 16, true}, 1, &q));
	vdrv_kick(&q);
	vdrv_settle(&d);
	vc_virtio_config_changed(echo.v);
	vc_buses_reset(&p.buses);
	ck_assert_uint_eq(vdrv_status(&d), 0);
	ck_assert_uint_eq(echo.stops, 1);
	ck_assert_uint_eq(echo.count, 0);
	ck_assert(!p.level[d.dev->gsi]);
	end();
}
END_TEST

/* A failed add has destroyed the device. */
START_TEST(failed_add)
{
	const uint16_t odd = 100;

	platform_init(&p, RAM);
	memset(&echo, 0, sizeof echo);
	ck_assert_int_eq(echo_add(&echo, &p.env, "worker=7", 1, NULL), -EINVAL);
	ck_assert_int_eq(echo_add(&echo, &p.env, "", 0, NULL), -EINVAL);
	ck_assert_int_eq(echo_add(&echo, &p.env, "", 1025, NULL), -EINVAL);
	ck_assert_int_eq(echo_add(&echo, &p.env, "", 1, &odd), -EINVAL);
	ck_assert_int_eq(echo_add(&echo, &p.env, "addr=0x1000", 1, NULL), 0);
	ck_assert_int_eq(echo_add(&echo, &p.env, "addr=0x1000", 1, NULL), -EEXIST);
	ck_assert_uint_eq(echo.destroys, 5);
	platform_fini(&p);
	ck_assert_uint_eq(echo.destroys, 6);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("virtqueue");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, broken_chain, 0, VC_ARRAY_SIZE(bad_chains));
	tcase_add_test(tc, broken_index);
	tcase_add_test(tc, broken_reuse);
	tcase_add_loop_test(tc, broken_packed, 0, VC_ARRAY_SIZE(bad_packed));
	tcase_add_test(tc, broken_packed_cycle);
	tcase_add_loop_test(tc, broken_setup, 0, 11);
	tcase_add_test(tc, slot_removed);
	tcase_add_test(tc, rings_removed);
	tcase_add_test(tc, dirty_log);
	tcase_add_loop_test(tc, many_segments, 0, 2);
	tcase_add_loop_test(tc, starved, 0, 2);
	tcase_add_loop_test(tc, unpop, 0, 2);
	tcase_add_test(tc, features);
	tcase_add_test(tc, config);
	tcase_add_loop_test(tc, queue_reset, 0, 2);
	tcase_add_loop_test(tc, hostile_state, 0, 2);
	tcase_add_test(tc, vm_reset);
	tcase_add_test(tc, failed_add);
	return platform_run("virtqueue", tc);
}
