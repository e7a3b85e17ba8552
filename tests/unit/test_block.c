/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disk images without qemu-img: what the interface promises, engines, caches, locks, ranges, images that somebody has
 * broken on purpose. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <virtcore/error.h>

#include "block/block.h"
#include "block/qcow2.h"

enum { MIB = 1 << 20, CLUSTER = 65536 };

static char directory[] = "test_block.XXXXXX";
static uint8_t data[4 * MIB], back[4 * MIB];

static void setup(void)
{
	strcpy(directory + strlen(directory) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(directory));
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 7 + i / 509);
}

static void teardown(void)
{
	char command[64];

	snprintf(command, sizeof command, "rm -rf %s", directory);
	ck_assert_int_eq(system(command), 0);
}

static const char *file(const char *name)
{
	static char paths[4][64];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof paths[0], "%s/%s", directory, name);
	return path;
}

static struct vc_block *open_with(struct vc_block_options o, const char *name)
{
	struct vc_block *block = NULL;
	int r;

	o.path = file(name);
	r = vc_block_open(&o, &block);
	ck_assert_msg(r == 0, "%s: %s", name, vcore_error_message());
	return block;
}

static int refusal(struct vc_block_options o, const char *name)
{
	struct vc_block *block;

	o.path = file(name);
	return vc_block_open(&o, &block);
}

static void make_raw(const char *name, uint64_t size)
{
	int fd = open(file(name), O_RDWR | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

static void poke(const char *name, uint64_t offset, const void *bytes, size_t length)
{
	int fd = open(file(name), O_RDWR);

	ck_assert_int_eq(pwrite(fd, bytes, length, (off_t)offset), (ssize_t)length);
	close(fd);
}

static void poke32(const char *name, uint64_t offset, uint32_t value)
{
	value = htobe32(value);
	poke(name, offset, &value, sizeof value);
}

static void poke64(const char *name, uint64_t offset, uint64_t value)
{
	value = htobe64(value);
	poke(name, offset, &value, sizeof value);
}

static int rd(struct vc_block *b, uint64_t offset, size_t length)
{
	return vc_block_rw(b, VC_BLOCK_READ, offset, back, length);
}

static int wr(struct vc_block *b, uint64_t offset, size_t length)
{
	return vc_block_rw(b, VC_BLOCK_WRITE, offset, data, length);
}

static bool zeroes(size_t length)
{
	for (size_t i = 0; i < length; i++) {
		if (back[i])
			return false;
	}
	return true;
}

/* Every format, cache and engine. */
static const struct {
	const char *format;
	enum vc_block_cache cache;
	const char *aio;
} kinds[] = {
    {"raw", VC_BLOCK_WRITEBACK, "threads"}, {"raw", VC_BLOCK_WRITEBACK, NULL},
    {"raw", VC_BLOCK_WRITETHROUGH, NULL},   {"raw", VC_BLOCK_UNSAFE, NULL},
    {"qcow2", VC_BLOCK_WRITEBACK, NULL},    {"qcow2", VC_BLOCK_WRITEBACK, "threads"},
    {"qcow2", VC_BLOCK_WRITETHROUGH, NULL}, {"qcow2", VC_BLOCK_UNSAFE, "threads"},
    {"raw", VC_BLOCK_DIRECT, NULL},         {"qcow2", VC_BLOCK_DIRECT, "threads"},
};

static struct vc_block *open_kind(unsigned n)
{
	struct vc_block_options o = {.path = file("disk"), .cache = kinds[n].cache, .aio = kinds[n].aio};
	struct vc_block *block = NULL;

	if (!strcmp(kinds[n].format, "raw")) {
		make_raw("disk", 3 * MIB);
		o.format = "raw";
	} else {
		ck_assert_int_eq(vc_block_create(file("disk"), 3 * MIB, NULL, NULL), 0);
	}
	o.path = file("disk");
	/* a file system without O_DIRECT */
	if (vc_block_open(&o, &block) == -EINVAL && o.cache == VC_BLOCK_DIRECT)
		return NULL;
	ck_assert_ptr_nonnull(block);
	return block;
}

START_TEST(contract)
{
	struct vc_block *b = open_kind((unsigned)_i);

	if (!b)
		return;
	ck_assert_str_eq(vc_block_format(b), kinds[_i].format);
	ck_assert_uint_eq(vc_block_size(b), 3 * MIB);
	ck_assert_int_eq(rd(b, 0, 3 * MIB), 0);
	ck_assert(zeroes(3 * MIB));
	ck_assert_int_eq(wr(b, 512, 2 * MIB), 0);
	ck_assert_int_eq(rd(b, 0, 3 * MIB), 0);
	ck_assert(zeroes(512));
	ck_assert_mem_eq(back + 512, data, 2 * MIB);
	ck_assert_int_eq(vc_block_rw(b, VC_BLOCK_FLUSH, 0, NULL, 0), 0);
	/* zeroes in the middle of a cluster, and over many */
	ck_assert_int_eq(vc_block_rw(b, VC_BLOCK_WRITE_ZEROES, 1024, NULL, 512), 0);
	ck_assert_int_eq(vc_block_rw(b, VC_BLOCK_WRITE_ZEROES, 100 * 512, NULL, MIB), 0);
	ck_assert_int_eq(rd(b, 0, 3 * MIB), 0);
	ck_assert_mem_eq(back + 512, data, 512);
	ck_assert_mem_eq(back + 1536, data + 1024, 98 * 512 - 1024);
	ck_assert_mem_eq(back + 100 * 512 + MIB, data + 99 * 512 + MIB, 1024);
	memmove(back, back + 100 * 512, MIB);
	ck_assert(zeroes(MIB));
	ck_assert_int_eq(vc_block_rw(b, VC_BLOCK_DISCARD, 0, NULL, 3 * MIB), 0);
	/* what is not there, or not whole */
	ck_assert_int_eq(rd(b, 3 * MIB, 512), -EINVAL);
	ck_assert_int_eq(rd(b, 3 * MIB - 512, 1024), -EINVAL);
	ck_assert_int_eq(rd(b, 100, 512), -EINVAL);
	ck_assert_int_eq(wr(b, 0, 100), -EINVAL);
	ck_assert_int_eq(wr(b, UINT64_MAX - 511, 512), -EINVAL);
	/* another size */
	ck_assert_int_eq(wr(b, 3 * MIB - 512, 512), 0);
	ck_assert_int_eq(vc_block_resize(b, 2 * MIB), 0);
	ck_assert_int_eq(rd(b, 2 * MIB, 512), -EINVAL);
	ck_assert_int_eq(vc_block_resize(b, 4 * MIB), 0);
	ck_assert_int_eq(rd(b, 2 * MIB, 2 * MIB), 0);
	ck_assert(zeroes(2 * MIB));
	ck_assert_int_eq(vc_block_resize(b, 1), -EINVAL);
	ck_assert_int_eq(wr(b, 2 * MIB, MIB), 0);
	vc_block_close(b);
	b = open_with((struct vc_block_options){.read_only = true, .format = kinds[_i].format}, "disk");
	ck_assert_uint_eq(vc_block_size(b), 4 * MIB);
	ck_assert_int_eq(rd(b, 2 * MIB, MIB), 0);
	ck_assert_mem_eq(back, data, MIB);
	ck_assert_int_eq(wr(b, 0, 512), -EROFS);
	ck_assert_int_eq(vc_block_resize(b, MIB), -EROFS);
	vc_block_close(b);
}
END_TEST

START_TEST(null_image)
{
	struct vc_block_options o = {.path = "null:3M"};
	struct vc_block *b;

	ck_assert_int_eq(vc_block_open(&o, &b), 0);
	ck_assert_uint_eq(vc_block_size(b), 3 * MIB);
	ck_assert_int_eq(wr(b, 0, 512), 0);
	ck_assert_int_eq(rd(b, 0, 512), 0);
	ck_assert(zeroes(512));
	vc_block_close(b);
	for (const char *const *bad = (const char *const[]){"null:", "null:5", "null:1Q", "null:99999999T", NULL}; *bad;
	     bad++) {
		o.path = *bad;
		ck_assert_int_eq(vc_block_open(&o, &b), -EINVAL);
	}
}
END_TEST

START_TEST(overlays)
{
	struct vc_block *b;
	struct stat before, after;

	make_raw("base", MIB + 512);
	poke("base", 0, data, MIB);
	ck_assert_int_eq(vc_block_create(file("middle"), 0, "base", "raw"), 0);
	ck_assert_int_eq(vc_block_create(file("top"), 2 * MIB, "middle", NULL), 0);
	ck_assert_int_eq(vc_block_create(file("top"), 2 * MIB, "middle", NULL), -EEXIST);
	b = open_with((struct vc_block_options){0}, "top");
	ck_assert_int_eq(rd(b, 0, 2 * MIB), 0);
	ck_assert_mem_eq(back, data, MIB);
	memmove(back, back + MIB, MIB);
	ck_assert(zeroes(MIB));
	ck_assert_int_eq(wr(b, 1024, 512), 0);
	ck_assert_int_eq(rd(b, 0, CLUSTER), 0);
	ck_assert_mem_eq(back, data, 1024);
	ck_assert_mem_eq(back + 1024, data, 512);
	ck_assert_mem_eq(back + 1536, data + 1536, CLUSTER - 1536);
	/* what is beneath does not show through zeroes, nor through a disk that shrank and grew */
	ck_assert_int_eq(vc_block_rw(b, VC_BLOCK_WRITE_ZEROES, 0, NULL, 2 * CLUSTER), 0);
	ck_assert_int_eq(rd(b, 0, 2 * CLUSTER), 0);
	ck_assert(zeroes(2 * CLUSTER));
	ck_assert_int_eq(vc_block_resize(b, 3 * CLUSTER + 512), 0);
	ck_assert_int_eq(vc_block_resize(b, 2 * MIB), 0);
	ck_assert_int_eq(rd(b, 0, MIB), 0);
	ck_assert_mem_eq(back + 2 * CLUSTER, data + 2 * CLUSTER, CLUSTER + 512);
	memmove(back, back + 3 * CLUSTER + 512, MIB - 3 * CLUSTER - 512);
	ck_assert(zeroes(MIB - 3 * CLUSTER - 512));
	vc_block_close(b);

	/* one that vanishes */
	ck_assert_int_eq(stat(file("top"), &before), 0);
	b = open_with((struct vc_block_options){.overlay = true}, "top");
	ck_assert_int_eq(wr(b, 0, MIB), 0);
	ck_assert_int_eq(rd(b, 0, MIB), 0);
	ck_assert_mem_eq(back, data, MIB);
	vc_block_close(b);
	ck_assert_int_eq(stat(file("top"), &after), 0);
	ck_assert(!memcmp(&before.st_mtim, &after.st_mtim, sizeof before.st_mtim));
}
END_TEST

/* A guest must not choose the format of its disk the next time. */
START_TEST(guessed_raw)
{
	struct vc_block *b;

	make_raw("disk", MIB);
	b = open_with((struct vc_block_options){0}, "disk");
	ck_assert_str_eq(vc_block_format(b), "raw");
	memcpy(data, "QFI\xfb", 4);
	ck_assert_int_eq(wr(b, 0, 512), -EPERM);
	ck_assert_int_eq(wr(b, 512, 512), 0);
	vc_block_close(b);
	b = open_with((struct vc_block_options){.format = "raw"}, "disk");
	ck_assert_int_eq(wr(b, 0, 512), 0);
	vc_block_close(b);
}
END_TEST

START_TEST(locks)
{
	struct vc_block *b, *c;

	make_raw("disk", MIB);
	b = open_with((struct vc_block_options){.format = "raw"}, "disk");
	ck_assert_int_eq(refusal((struct vc_block_options){.format = "raw"}, "disk"), -EAGAIN);
	ck_assert_int_eq(refusal((struct vc_block_options){.format = "raw", .read_only = true}, "disk"), -EAGAIN);
	c = open_with((struct vc_block_options){.format = "raw", .no_lock = true}, "disk");
	vc_block_close(c);
	vc_block_close(b);
	b = open_with((struct vc_block_options){.format = "raw", .read_only = true}, "disk");
	c = open_with((struct vc_block_options){.format = "raw", .overlay = true}, "disk");
	ck_assert_int_eq(refusal((struct vc_block_options){.format = "raw"}, "disk"), -EAGAIN);
	vc_block_close(c);
	vc_block_close(b);
}
END_TEST

/* ---- images that somebody has broken ---- */

START_TEST(broken_headers)
{
	static const struct {
		uint64_t offset, value;
		unsigned width;
		int error;
	} broken[] = {
	    {QCOW2_H_VERSION, 1, 4, ENOTSUP},
	    {QCOW2_H_VERSION, 4, 4, ENOTSUP},
	    {QCOW2_H_CLUSTER_BITS, 8, 4, EINVAL},
	    {QCOW2_H_CLUSTER_BITS, 22, 4, EINVAL},
	    {QCOW2_H_CLUSTER_BITS, UINT32_MAX, 4, EINVAL},
	    {QCOW2_H_CRYPT, 1, 4, ENOTSUP},
	    {QCOW2_H_SIZE, UINT64_MAX, 8, EINVAL},
	    {QCOW2_H_SIZE, 1ull << 60, 8, EINVAL},
	    {QCOW2_H_L1_SIZE, 0, 4, EINVAL},
	    {QCOW2_H_L1_SIZE, UINT32_MAX, 4, EINVAL},
	    {QCOW2_H_L1_OFFSET, 0, 8, EINVAL},
	    {QCOW2_H_L1_OFFSET, 512, 8, EINVAL},
	    {QCOW2_H_L1_OFFSET, UINT64_MAX & ~(CLUSTER - 1ull), 8, EINVAL},
	    {QCOW2_H_REFTABLE_OFFSET, 1, 8, EINVAL},
	    {QCOW2_H_REFTABLE_CLUSTERS, UINT32_MAX, 4, EINVAL},
	    {QCOW2_H_BACKING_OFFSET, 1ull << 40, 8, EINVAL},
	    {QCOW2_H_BACKING_OFFSET, 104, 8, EINVAL},
	    {QCOW2_H_INCOMPATIBLE, 1ull << 4, 8, ENOTSUP},
	    {QCOW2_H_INCOMPATIBLE, 1ull << 63, 8, ENOTSUP},
	    {QCOW2_H_INCOMPATIBLE, QCOW2_INCOMPAT_CORRUPT, 8, EIO},
	    {QCOW2_H_REFCOUNT_ORDER, 7, 4, EINVAL},
	    {QCOW2_H_LENGTH, 8, 4, EINVAL},
	    {QCOW2_H_LENGTH, UINT32_MAX, 4, EINVAL},
	};

	for (unsigned i = 0; i < VC_ARRAY_SIZE(broken); i++) {
		int r;

		unlink(file("disk"));
		ck_assert_int_eq(vc_block_create(file("disk"), MIB, NULL, NULL), 0);
		if (broken[i].width == 4)
			poke32("disk", broken[i].offset, (uint32_t)broken[i].value);
		else
			poke64("disk", broken[i].offset, broken[i].value);
		r = refusal((struct vc_block_options){0}, "disk");
		ck_assert_msg(r == -broken[i].error, "row %u: %d, %s", i, r, vcore_error_message());
	}
}
END_TEST

static unsigned errors;

static void count_error(void *ctx, enum vc_block_op op, uint64_t offset, int error)
{
	errors++;
}

/* Tables that point anywhere: an I/O error, the image is marked, and nothing is written any more. */
START_TEST(broken_tables)
{
	static const struct {
		uint64_t offset, value;
	} broken[] = {
	    {3 * CLUSTER, 1ull << 50 | QCOW2_COPIED},            /* L1: beyond the file */
	    {3 * CLUSTER, (CLUSTER + 512) | QCOW2_COPIED},       /* not aligned */
	    {4 * CLUSTER, 1ull << 54 | QCOW2_COPIED},            /* L2: data beyond the file */
	    {4 * CLUSTER, (5 * CLUSTER + 512) | QCOW2_COPIED},   /* not aligned */
	    {4 * CLUSTER, QCOW2_COMPRESSED | ((1ull << 61) - 1)} /* compressed data at the end of the world */
	};
	uint8_t bit;

	for (unsigned i = 0; i < VC_ARRAY_SIZE(broken); i++) {
		struct vc_block *b;
		int fd;

		unlink(file("disk"));
		ck_assert_int_eq(vc_block_create(file("disk"), MIB, NULL, NULL), 0);
		b = open_with((struct vc_block_options){0}, "disk");
		ck_assert_int_eq(wr(b, 0, CLUSTER), 0);
		vc_block_close(b);
		poke64("disk", broken[i].offset, broken[i].value);
		b = open_with((struct vc_block_options){.aio = "threads"}, "disk");
		errors = 0;
		vc_block_on_error(b, count_error, NULL);
		ck_assert_int_lt(rd(b, 0, 512), 0);
		if (broken[i].value & QCOW2_COMPRESSED) {
			vc_block_close(b);
			continue;
		}
		ck_assert_int_eq(rd(b, CLUSTER / 2, 512), -EIO);
		ck_assert_int_eq(wr(b, 2 * CLUSTER, 512), -EIO);
		ck_assert_int_eq(vc_block_rw(b, VC_BLOCK_FLUSH, 0, NULL, 0), -EIO);
		ck_assert_uint_ge(errors, 3);
		vc_block_close(b);
		fd = open(file("disk"), O_RDONLY);
		ck_assert_int_eq(pread(fd, &bit, 1, QCOW2_H_INCOMPATIBLE + 7), 1);
		close(fd);
		ck_assert_uint_eq(bit, QCOW2_INCOMPAT_CORRUPT);
		ck_assert_int_eq(refusal((struct vc_block_options){0}, "disk"), -EIO);
		vc_block_close(open_with((struct vc_block_options){.read_only = true}, "disk"));
	}
}
END_TEST

/* Refcounts that say what is not so: no cluster is given out twice because of them, or the image is marked. */
START_TEST(broken_refcounts)
{
	struct vc_block *b;

	ck_assert_int_eq(vc_block_create(file("disk"), MIB, NULL, NULL), 0);
	poke64("disk", CLUSTER, 1ull << 52);
	b = open_with((struct vc_block_options){0}, "disk");
	ck_assert_int_eq(wr(b, 0, 512), -EIO);
	vc_block_close(b);
	unlink(file("disk"));
	ck_assert_int_eq(vc_block_create(file("disk"), MIB, NULL, NULL), 0);
	poke64("disk", CLUSTER, 0);
	b = open_with((struct vc_block_options){0}, "disk");
	ck_assert_int_eq(wr(b, 0, 512), -EIO);
	vc_block_close(b);
	unlink(file("disk"));
	ck_assert_int_eq(vc_block_create(file("disk"), MIB, NULL, NULL), 0);
	poke("disk", 2 * CLUSTER, "\0\0", 2);
	b = open_with((struct vc_block_options){0}, "disk");
	ck_assert_int_eq(wr(b, 0, 512), -EIO);
	vc_block_close(b);
}
END_TEST

START_TEST(chains)
{
	struct vc_block *b;
	char name[16], below[16];

	/* a loop over two */
	ck_assert_int_eq(vc_block_create(file("a"), MIB, NULL, NULL), 0);
	ck_assert_int_eq(vc_block_create(file("b"), MIB, "a", "qcow2"), 0);
	ck_assert_int_eq(rename(file("b"), file("c")), 0);
	ck_assert_int_eq(vc_block_create(file("b"), MIB, "c", "qcow2"), 0);
	ck_assert_int_eq(rename(file("b"), file("a")), 0);
	ck_assert_int_eq(refusal((struct vc_block_options){0}, "a"), -ELOOP);
	ck_assert_int_eq(refusal((struct vc_block_options){.overlay = true}, "c"), -ELOOP);
	/* too many */
	ck_assert_int_eq(vc_block_create(file("0"), MIB, NULL, NULL), 0);
	for (unsigned i = 1; i < 70; i++) {
		snprintf(name, sizeof name, "%u", i);
		snprintf(below, sizeof below, "%u", i - 1);
		if (vc_block_create(file(name), MIB, below, "qcow2") == -ELOOP) {
			ck_assert_uint_ge(i, 60);
			break;
		}
		ck_assert_uint_lt(i, 66);
	}
	b = open_with((struct vc_block_options){0}, "40");
	ck_assert_int_eq(wr(b, 0, CLUSTER), 0);
	vc_block_close(b);
	b = open_with((struct vc_block_options){.read_only = true}, "60");
	ck_assert_int_eq(rd(b, 0, CLUSTER), 0);
	ck_assert_mem_eq(back, data, CLUSTER);
	vc_block_close(b);
	/* one that is not there, or not a file */
	ck_assert_int_eq(vc_block_create(file("x"), MIB, "nowhere", NULL), -ENOENT);
	ck_assert_int_eq(vc_block_create(file("x"), MIB, "/dev/null", NULL), -EINVAL);
}
END_TEST

/* ---- ranges ---- */

static struct vc_range *granted[8];
static unsigned granted_count;

static void note(struct vc_range *range)
{
	granted[granted_count++] = range;
}

START_TEST(ranges)
{
	struct vc_ranges all;
	struct vc_range r[6];

	granted_count = 0;
	vc_ranges_init(&all, note);
	ck_assert(vc_ranges_acquire(&all, &r[0], 0, 4, false));
	ck_assert(vc_ranges_acquire(&all, &r[1], 2, 8, false));
	ck_assert(!vc_ranges_acquire(&all, &r[2], 4, 5, true));
	ck_assert(vc_ranges_acquire(&all, &r[3], 9, 9, true));
	/* would fit in now, but not before the one that waits */
	ck_assert(!vc_ranges_acquire(&all, &r[4], 5, 6, false));
	ck_assert(!vc_ranges_acquire(&all, &r[5], 0, UINT64_MAX, true));
	vc_ranges_release(&all, &r[0]);
	ck_assert_uint_eq(granted_count, 0);
	vc_ranges_release(&all, &r[1]);
	ck_assert(granted_count == 1 && granted[0] == &r[2]);
	vc_ranges_release(&all, &r[2]);
	ck_assert(granted_count == 2 && granted[1] == &r[4]);
	vc_ranges_release(&all, &r[4]);
	ck_assert_uint_eq(granted_count, 2);
	vc_ranges_release(&all, &r[3]);
	ck_assert(granted_count == 3 && granted[2] == &r[5]);
	vc_ranges_release(&all, &r[5]);
	vc_ranges_fini(&all);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("block");
	TCase *t = tcase_create("block");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, contract, 0, VC_ARRAY_SIZE(kinds));
	tcase_add_test(t, null_image);
	tcase_add_test(t, overlays);
	tcase_add_test(t, guessed_raw);
	tcase_add_test(t, locks);
	tcase_add_test(t, broken_headers);
	tcase_add_test(t, broken_tables);
	tcase_add_test(t, broken_refcounts);
	tcase_add_test(t, chains);
	tcase_add_test(t, ranges);
	suite_add_tcase(suite, t);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
