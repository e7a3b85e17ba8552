/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtio-balloon: memory goes back to the host, of every kind, and reads as zeroes; statistics, hinting, reporting. */
#include <sys/mman.h>

#include "platform_env.h"
#include "virtio/balloon.h"
#include "virtio/types.h"
#include "virtio_driver.h"

enum { INFLATE, DEFLATE, STATS, HINT, REPORT, QUEUES, PAGES = 64 };

static const uint64_t area = 0x1000000; /* a slot of its own, to be given back */

static struct platform_env p;
static struct vdrv d;
static struct vdrv_queue q[QUEUES];
static struct vc_slot *slot;
static struct vc_balloon *balloon;
static unsigned wrote; /* bytes that a backend was told of */

static void count_written(void *ctx, struct vc_slot *s, uint64_t gpa, uint64_t length)
{
	wrote += s == slot ? length : 0;
}

static const struct vc_mem_listener listener = {.written = count_written};

static int create(const char *text)
{
	struct vc_props *props;
	struct vc_dev *dev;
	int r;

	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	r = vc_virtio_balloon_type.create(&p.env, props, &dev);
	if (!r)
		r = vc_props_finish(props, "virtio-balloon");
	if (!r)
		balloon = dev->frontend;
	vc_props_free(props);
	return r;
}

static void begin(const char *text, enum vcore_memory_kind kind, uint64_t features)
{
	const struct vcore_memory_options o = {.size = sizeof o, .kind = kind, .fd = -1};

	platform_init(&p, VC_MIB(4));
	p.mem.listener = &listener;
	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, area, PAGES * VC_PAGE_SIZE, VCORE_MEM_RWX, &o, &slot), 0);
	memset(slot->hva, 0xaa, slot->length);
	wrote = 0;
	ck_assert_int_eq(create(text), 0);
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&d, features));
}

static void start(unsigned queues)
{
	for (unsigned i = 0; i < queues; i++)
		vdrv_queue(&d, &q[i], i, 16);
	vdrv_start(&d);
	vdrv_settle(&d);
}

static unsigned resident(void)
{
	unsigned char in[PAGES];
	unsigned count = 0;

	ck_assert_int_eq(mincore(slot->hva, slot->length, in), 0);
	for (unsigned i = 0; i < PAGES; i++)
		count += in[i] & 1;
	return count;
}

static void put_pages(unsigned queue, const uint32_t *pages, unsigned count)
{
	uint64_t gpa = vdrv_alloc(&d, 4 * count, 4);
	uint32_t *pfns = vdrv_ptr(&d, gpa);

	for (unsigned i = 0; i < count; i++)
		pfns[i] = (uint32_t)(area / VC_PAGE_SIZE) + pages[i];
	vdrv_do(&q[queue], &(struct vdrv_buf){gpa, 4 * count, false}, 1);
}

START_TEST(inflate)
{
	static const uint32_t pages[] = {5, 6, 7, 20, 19, 18, 40, 42, 41, 63, 0};
	bool gone[PAGES] = {false};
	struct vcore_balloon_stats stats;

	begin("target=44K", _i ? VCORE_MEMORY_MEMFD : VCORE_MEMORY_ANON, ~0ull);
	start(QUEUES);
	ck_assert_uint_eq(vdrv_config(&d, 0, 4), 11);
	ck_assert_uint_eq(resident(), PAGES);
	put_pages(INFLATE, pages, VC_ARRAY_SIZE(pages));
	ck_assert_uint_eq(resident(), PAGES - VC_ARRAY_SIZE(pages));
	ck_assert_uint_eq(wrote, VC_ARRAY_SIZE(pages) * VC_PAGE_SIZE);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(pages); i++)
		gone[pages[i]] = true;
	for (unsigned i = 0; i < PAGES; i++)
		ck_assert_uint_eq(slot->hva[i * VC_PAGE_SIZE + 99], gone[i] ? 0 : 0xaa);
	vdrv_set_config(&d, 4, 4, 11);
	vc_balloon_get_stats(balloon, &stats);
	ck_assert_uint_eq(stats.actual, 11 * VC_PAGE_SIZE);
	ck_assert_uint_eq(stats.target, 11 * VC_PAGE_SIZE);
	ck_assert_uint_eq(stats.discarded, 11 * VC_PAGE_SIZE);
	put_pages(DEFLATE, pages, 3);
	vdrv_take_isr(&d);
	ck_assert_int_eq(vc_balloon_set_target(balloon, VC_MIB(1) + 5), 0);
	ck_assert_uint_eq(vdrv_take_isr(&d), 2);
	ck_assert_uint_eq(vdrv_config(&d, 0, 4), 256);
	ck_assert_int_eq(vc_balloon_set_target(balloon, 1ull << 50), -EINVAL);
	ck_assert_uint_eq(vdrv_status(&d) & VC_VIRTIO_S_NEEDS_RESET, 0);
	platform_fini(&p);
}
END_TEST

/* Pages that are nowhere break the driver; of a ROM and of the program's own memory nothing is taken. */
START_TEST(hostile)
{
	static uint8_t own[4 * VC_PAGE_SIZE] __attribute__((aligned(4096)));
	const struct vcore_memory_options o = {.size = sizeof o, .kind = VCORE_MEMORY_POINTER, .pointer = own, .fd = -1};
	struct vc_slot *rom;

	begin("", VCORE_MEMORY_ANON, ~0ull);
	start(QUEUES);
	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, area + 0x100000, VC_PAGE_SIZE, VCORE_MEM_RX, NULL, &rom), 0);
	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, area + 0x101000, sizeof own, VCORE_MEM_RWX, &o, NULL), 0);
	memset(own, 1, sizeof own);
	memset(rom->hva, 1, VC_PAGE_SIZE);
	put_pages(INFLATE, (const uint32_t[]){0x100, 0x101, 0x102}, 3);
	ck_assert_uint_eq(own[100], 1);
	ck_assert_uint_eq(rom->hva[100], 1);
	ck_assert_uint_eq(vdrv_status(&d) & VC_VIRTIO_S_NEEDS_RESET, 0);
	ck_assert(vdrv_add(&q[INFLATE], &(struct vdrv_buf){0x2000, 4, false}, 1, &q));
	*(uint32_t *)vdrv_ptr(&d, 0x2000) = 0xffffffff;
	vdrv_kick(&q[INFLATE]);
	vdrv_settle(&d);
	ck_assert(vdrv_status(&d) & VC_VIRTIO_S_NEEDS_RESET);
	platform_fini(&p);
}
END_TEST

START_TEST(report)
{
	begin("", _i ? VCORE_MEMORY_MEMFD : VCORE_MEMORY_ANON, _i ? ~0ull : ~(uint64_t)0xa);
	/* without statistics and hinting the queue moves up */
	start(_i ? QUEUES : 3);
	vdrv_do(&q[_i ? REPORT : 2],
	        (struct vdrv_buf[]){{area, 8 * VC_PAGE_SIZE, true}, {area + 0x10000 + 100, 2 * VC_PAGE_SIZE, true}}, 2);
	ck_assert_uint_eq(resident(), PAGES - 9); /* only whole pages */
	ck_assert_uint_eq(slot->hva[0x10000 + 4095], 0xaa);
	ck_assert_uint_eq(slot->hva[0x10000 + 4096], 0);
	platform_fini(&p);
}
END_TEST

START_TEST(hinting)
{
	uint64_t command;

	begin("", VCORE_MEMORY_ANON, ~0ull);
	ck_assert_int_eq(vc_balloon_reclaim(balloon), 0);
	start(QUEUES);
	command = vdrv_alloc(&d, 4, 4);
	ck_assert_uint_eq(vdrv_config(&d, 8, 4), 2);
	/* an old command is over: its pages are still in use */
	vc_st32(vdrv_ptr(&d, command), 7);
	vdrv_do(&q[HINT], &(struct vdrv_buf){command, 4, false}, 1);
	vdrv_do(&q[HINT], &(struct vdrv_buf){area, VC_PAGE_SIZE, true}, 1);
	ck_assert_uint_eq(resident(), PAGES);
	vc_st32(vdrv_ptr(&d, command), 2);
	vdrv_do(&q[HINT], &(struct vdrv_buf){command, 4, false}, 1);
	vdrv_do(&q[HINT], &(struct vdrv_buf){area, 16 * VC_PAGE_SIZE, true}, 1);
	ck_assert_uint_eq(resident(), PAGES - 16);
	vdrv_take_isr(&d);
	vc_st32(vdrv_ptr(&d, command), 0);
	vdrv_do(&q[HINT], &(struct vdrv_buf){command, 4, false}, 1);
	ck_assert_uint_eq(vdrv_take_isr(&d) & 2, 2);
	ck_assert_uint_eq(vdrv_config(&d, 8, 4), 1);
	vdrv_do(&q[HINT], &(struct vdrv_buf){area + 0x20000, VC_PAGE_SIZE, true}, 1);
	ck_assert_uint_eq(resident(), PAGES - 16);
	platform_fini(&p);
}
END_TEST

static void put_stat(uint8_t *at, uint16_t tag, uint64_t value)
{
	vc_st16(at, tag);
	vc_st64(at + 2, value);
}

START_TEST(statistics)
{
	static uint8_t state[1 << 14];
	struct vcore_balloon_stats stats;
	struct vc_dev *dev;
	uint64_t gpa;
	uint8_t *list;
	int64_t size;

	begin("", VCORE_MEMORY_ANON, ~0ull);
	start(QUEUES);
	dev = p.buses.devices;
	gpa = vdrv_alloc(&d, 64, 2);
	list = vdrv_ptr(&d, gpa);
	put_stat(list, 4, 12345);
	put_stat(list + 10, 99, 1);
	put_stat(list + 20, 0, 7);
	ck_assert(vdrv_add(&q[STATS], &(struct vdrv_buf){gpa, 34, false}, 1, &p));
	vdrv_kick(&q[STATS]);
	vdrv_settle(&d);
	ck_assert_ptr_null(vdrv_get(&q[STATS], NULL));
	for (uint64_t turn = 1; turn < 5; turn++) {
		vc_balloon_get_stats(balloon, &stats);
		ck_assert_uint_eq(stats.updates, turn);
		ck_assert_uint_eq(stats.free_memory, turn == 1 ? 12345 : turn);
		ck_assert_uint_eq(stats.swap_in, 7);
		ck_assert_uint_eq(stats.total_memory, UINT64_MAX);
		/* that has asked for new ones */
		ck_assert_ptr_eq(vdrv_wait(&q[STATS], NULL), &p);
		put_stat(list, 4, turn + 1);
		ck_assert(vdrv_add(&q[STATS], &(struct vdrv_buf){gpa, 34, false}, 1, &p));
		ck_assert(vdrv_kick(&q[STATS]));
		vdrv_settle(&d);
	}
	size = dev->ops.save(dev->ctx, state, sizeof state);
	ck_assert_int_gt(size, 0);
	ck_assert_int_eq(dev->ops.load(dev->ctx, state, (size_t)size), 0);
	vdrv_settle(&d);
	vc_balloon_get_stats(balloon, &stats);
	ck_assert_uint_eq(stats.free_memory, 5);
	ck_assert_ptr_eq(vdrv_wait(&q[STATS], NULL), &p);
	platform_fini(&p);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("virtio-balloon");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, inflate, 0, 2);
	tcase_add_test(tc, hostile);
	tcase_add_loop_test(tc, report, 0, 2);
	tcase_add_test(tc, hinting);
	tcase_add_test(tc, statistics);
	return platform_run("virtio-balloon", tc);
}
