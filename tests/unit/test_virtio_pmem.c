/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtio-pmem: a file as memory, shared or not, flushes, what is refused. */
#include <fcntl.h>
#include <sys/stat.h>
#include <virtcore/error.h>

#include "platform_env.h"
#include "virtio/types.h"
#include "virtio_driver.h"

#define SIZE VC_MIB(4)

static struct platform_env p;
static struct vdrv d;
static struct vdrv_queue q;
static struct vc_dev *dev;
static char path[] = "/tmp/virtcore-pmem-XXXXXX";

static int create(const char *more)
{
	struct vc_props *props;
	char text[160];
	int r;

	snprintf(text, sizeof text, "image=%s%s", path, more);
	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	r = vc_virtio_pmem_type.create(&p.env, props, &dev);
	if (!r)
		r = vc_props_finish(props, "virtio-pmem");
	vc_props_free(props);
	return r;
}

static void make_file(uint64_t size)
{
	int fd;

	strcpy(path, "/tmp/virtcore-pmem-XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	ck_assert_int_eq(pwrite(fd, "first", 5, 0), 5);
	close(fd);
}

static void begin(const char *more)
{
	platform_init(&p, VC_MIB(4));
	make_file(SIZE);
	ck_assert_int_eq(create(more), 0);
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	vdrv_queue(&d, &q, 0, 16);
	vdrv_start(&d);
}

static void end(void)
{
	platform_fini(&p);
	unlink(path);
}

static uint32_t flush(uint32_t type)
{
	uint64_t request = vdrv_alloc(&d, 4, 4), answer = vdrv_alloc(&d, 4, 4);

	vc_st32(vdrv_ptr(&d, request), type);
	vc_st32(vdrv_ptr(&d, answer), 77);
	ck_assert_uint_eq(vdrv_do(&q, (struct vdrv_buf[]){{request, 4, false}, {answer, 4, true}}, 2), 4);
	return vc_ld32(vdrv_ptr(&d, answer));
}

static void file_says(const char *expected)
{
	char text[8] = "";
	int fd = open(path, O_RDONLY);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pread(fd, text, 5, 0), 5);
	ck_assert_str_eq(text, expected);
	close(fd);
}

/* Whether it is shared or not, and by which worker it is served. */
START_TEST(file)
{
	static const char *const more[] = {"", ",worker=loop", ",share=off", ",share=off,worker=loop"};
	uint64_t start;
	struct stat st;
	char text[8] = "";

	begin(more[_i]);
	start = vdrv_config(&d, 0, 8);
	ck_assert_uint_eq(start, VC_GIB(4));
	ck_assert_uint_eq(vdrv_config(&d, 8, 8), SIZE);
	ck_assert_int_eq(vc_mem_read(&p.mem, start, text, 5), 0);
	ck_assert_str_eq(text, "first");
	ck_assert_int_eq(vc_mem_write(&p.mem, start, "other", 5), 0);
	ck_assert_uint_eq(flush(0), 0);
	ck_assert_uint_eq(flush(1), 1);
	file_says(_i < 2 ? "other" : "first");
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert((st.st_blocks * 512 >= (long)SIZE) == (_i < 2));
	/* nobody throws the guest's storage away */
	ck_assert_int_eq(vc_mem_discard(&p.mem, start, SIZE), 0);
	ck_assert_int_eq(vc_mem_read(&p.mem, start, text, 5), 0);
	ck_assert_str_eq(text, "other");
	ck_assert_uint_eq(p.mem.count, 2);
	ck_assert_int_eq(vc_dev_remove(&p.buses, NULL, dev), 0);
	ck_assert_uint_eq(p.mem.count, 1);
	ck_assert_ptr_null(p.mem.ranges);
	end();
}
END_TEST

START_TEST(hostile)
{
	uint64_t gpa;

	begin("");
	gpa = vdrv_alloc(&d, 64, 4);
	/* too short a request; none; no room for the answer */
	ck_assert_uint_eq(vdrv_do(&q, (struct vdrv_buf[]){{gpa, 3, false}, {gpa + 8, 4, true}}, 2), 4);
	ck_assert_uint_eq(vc_ld32((uint8_t *)vdrv_ptr(&d, gpa + 8)), 1);
	ck_assert_uint_eq(vdrv_do(&q, (struct vdrv_buf[]){{gpa + 8, 2, true}}, 1), 2);
	ck_assert_uint_eq(vdrv_do(&q, (struct vdrv_buf[]){{gpa, 4, false}}, 1), 0);
	ck_assert_uint_eq(flush(0), 0);
	end();
}
END_TEST

START_TEST(state)
{
	uint8_t saved[4096];
	int64_t size;

	begin(",worker=loop");
	size = dev->ops.save(dev->ctx, saved, sizeof saved);
	ck_assert_int_gt(size, 0);
	ck_assert_int_eq(dev->ops.load(dev->ctx, saved, (size_t)size), 0);
	ck_assert_uint_eq(flush(0), 0);
	ck_assert_int_eq(vc_dev_remove(&p.buses, NULL, dev), 0);
	ck_assert_int_eq(create(",memory_addr=8G"), 0);
	ck_assert_int_eq(dev->ops.load(dev->ctx, saved, (size_t)size), -EINVAL);
	end();
}
END_TEST

static void refuse(const char *more, int error, const char *sentence)
{
	ck_assert_int_eq(create(more), -error);
	ck_assert_msg(strstr(vcore_error_message(), sentence), "%s", vcore_error_message());
}

START_TEST(refused)
{
	struct vc_props *props;

	platform_init(&p, VC_MIB(4));
	make_file(SIZE + 4096);
	refuse("", EINVAL, "2 MiB");
	ck_assert_int_eq(truncate(path, SIZE), 0);
	refuse(",memory_addr=4K", EINVAL, "multiple");
	refuse(",memory_addr=2M", EEXIST, "taken");
	refuse(",share=perhaps", EINVAL, "share");
	refuse(",transport=no", EINVAL, "transport");
	ck_assert_ptr_null(p.mem.ranges);
	ck_assert_uint_eq(p.mem.count, 1);
	/* one writer */
	ck_assert_int_eq(create(""), 0);
	refuse("", EAGAIN, "locked");
	refuse(",share=off", EAGAIN, "locked");
	unlink(path);
	refuse("", ENOENT, path);
	ck_assert_int_eq(vc_props_parse("", &props), 0);
	ck_assert_int_eq(vc_virtio_pmem_type.create(&p.env, props, &dev), -EINVAL);
	vc_props_free(props);
	platform_fini(&p);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("virtio-pmem");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, file, 0, 4);
	tcase_add_test(tc, hostile);
	tcase_add_test(tc, state);
	tcase_add_test(tc, refused);
	return platform_run("virtio-pmem", tc);
}
