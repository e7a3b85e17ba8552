/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtio-blk: every kind of request, in all forms of queues and through all engines; what drivers must not do; another
 * size while it runs; a host that fails. */
#include <fcntl.h>
#include <sys/stat.h>
#include <virtcore/error.h>

#include "platform_env.h"
#include "virtio/blk.h"
#include "virtio/types.h"
#include "virtio_driver.h"

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2 };
enum { DISK = 1 << 20, RAM = 8 << 20 };

static struct platform_env p;
static struct vdrv d;
static struct vdrv_queue q;
static struct vc_dev *dev;
static uint64_t header, data; /* guest addresses; status behind the header */
static char path[64];

static int create(const char *text)
{
	struct vc_props *props;
	int r;

	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	dev = NULL;
	r = vc_virtio_blk_type.create(&p.env, props, &dev);
	if (!r)
		r = vc_props_finish(props, "virtio-blk");
	vc_props_free(props);
	return r;
}

static void make_image(void)
{
	int fd;

	snprintf(path, sizeof path, "test_virtio_blk.XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, DISK), 0);
	close(fd);
}

static void attach(void)
{
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	vdrv_queue(&d, &q, 0, 64);
	vdrv_start(&d);
	header = vdrv_alloc(&d, 32, 16);
	data = vdrv_alloc(&d, 65536, 512);
}

static void begin(const char *properties)
{
	char text[256];

	platform_init(&p, RAM);
	make_image();
	snprintf(text, sizeof text, "image=%s,%s", path, properties);
	ck_assert_msg(create(text) == 0, "%s: %s", text, vcore_error_message());
	attach();
}

static void end(void)
{
	platform_fini(&p);
	unlink(path);
}

static uint8_t *host(uint64_t gpa)
{
	return vdrv_ptr(&d, gpa);
}

/* One request with `length` bytes of data; the status. */
static uint8_t request(uint32_t type, uint64_t sector, uint32_t length, bool to_driver)
{
	struct vdrv_buf bufs[3] = {{header, 16, false}};
	unsigned n = 1;

	vc_st32(host(header), type);
	vc_st64(host(header) + 8, sector);
	*host(header + 16) = 0xff;
	if (length)
		bufs[n++] = (struct vdrv_buf){data, length, to_driver};
	bufs[n++] = (struct vdrv_buf){header + 16, 1, true};
	vdrv_do(&q, bufs, n);
	return *host(header + 16);
}

static void range(unsigned n, uint64_t sector, uint32_t sectors, uint32_t flags)
{
	vc_st64(host(data) + 16 * n, sector);
	vc_st32(host(data) + 16 * n + 8, sectors);
	vc_st32(host(data) + 16 * n + 12, flags);
}

static void fill(uint8_t byte, uint32_t length)
{
	memset(host(data), byte, length);
}

static bool holds(uint8_t byte, uint32_t length)
{
	for (uint32_t i = 0; i < length; i++) {
		if (host(data)[i] != byte)
			return false;
	}
	return true;
}

static uint8_t status(void)
{
	return vdrv_status(&d);
}

static const char *const forms[] = {"aio=threads",
                                    "packed=on",
                                    "event_idx=off,indirect=off",
                                    "cache=writethrough,worker=thread",
                                    "cache=unsafe,overlay=on",
                                    "overlay=on,packed=on,worker=thread",
                                    "threads=1,queue_size=64,queues=3"};

START_TEST(requests)
{
	begin(forms[_i]);
	ck_assert_uint_eq(vdrv_config(&d, 0, 8), DISK / 512);
	fill(0x5a, 65536);
	ck_assert_uint_eq(request(T_OUT, 8, 65536, false), OK);
	fill(0, 65536);
	ck_assert_uint_eq(request(T_IN, 8, 65536, true), OK);
	ck_assert(holds(0x5a, 65536));
	ck_assert_uint_eq(request(T_FLUSH, 0, 0, false), OK);
	/* the end of the disk */
	ck_assert_uint_eq(request(T_OUT, DISK / 512 - 1, 512, false), OK);
	ck_assert_uint_eq(request(T_OUT, DISK / 512 - 1, 1024, false), IOERR);
	ck_assert_uint_eq(request(T_IN, DISK / 512, 512, true), IOERR);
	ck_assert_uint_eq(request(T_IN, UINT64_MAX, 512, true), IOERR);
	ck_assert_uint_eq(request(T_IN, 1ull << 55, 512, true), IOERR);
	/* parts of sectors */
	ck_assert_uint_eq(request(T_IN, 0, 100, true), IOERR);
	ck_assert_uint_eq(request(T_OUT, 0, 513, false), IOERR);
	/* nothing at all is nothing wrong */
	ck_assert_uint_eq(request(T_IN, 0, 0, true), OK);
	ck_assert_uint_eq(request(99, 0, 512, true), UNSUPP);
	ck_assert_uint_eq(request(T_IN, 9, 512, true), OK);
	ck_assert(holds(0x5a, 512));
	end();
}
END_TEST

START_TEST(zeroes_and_discards)
{
	begin(forms[_i]);
	fill(0x11, 65536);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_uint_eq(request(T_OUT, i * 128, 65536, false), OK);
	range(0, 1, 100, 0);
	range(1, 128, 128, 1);
	ck_assert_uint_eq(request(T_WRITE_ZEROES, 0, 32, false), OK);
	ck_assert_uint_eq(request(T_IN, 0, 65536, true), OK);
	ck_assert(host(data)[511] == 0x11 && host(data)[512] == 0 && host(data)[101 * 512 - 1] == 0 &&
	          host(data)[101 * 512] == 0x11);
	ck_assert_uint_eq(request(T_IN, 128, 65536, true), OK);
	ck_assert(holds(0, 65536));
	range(0, 256, 128, 0);
	ck_assert_uint_eq(request(T_DISCARD, 0, 16, false), OK);
	ck_assert_uint_eq(request(T_IN, 384, 65536, true), OK);
	ck_assert(holds(0x11, 65536));
	/* wrong ones */
	range(0, 0, 8, 1);
	ck_assert_uint_eq(request(T_DISCARD, 0, 16, false), UNSUPP);
	range(0, 0, 8, 2);
	ck_assert_uint_eq(request(T_WRITE_ZEROES, 0, 16, false), UNSUPP);
	range(0, DISK / 512 - 4, 8, 0);
	ck_assert_uint_eq(request(T_DISCARD, 0, 16, false), IOERR);
	range(0, UINT64_MAX, UINT32_MAX, 0);
	ck_assert_uint_eq(request(T_WRITE_ZEROES, 0, 16, false), IOERR);
	ck_assert_uint_eq(request(T_DISCARD, 0, 15, false), IOERR);
	ck_assert_uint_eq(request(T_DISCARD, 0, 0, false), IOERR);
	ck_assert_uint_eq(request(T_DISCARD, 0, 33 * 16, false), IOERR);
	end();
}
END_TEST

/* The host's file gets smaller. */
START_TEST(discard_reaches_host)
{
	struct stat before, after;

	begin("aio=threads");
	for (unsigned i = 0; i < 16; i++) {
		fill(0x77, 65536);
		ck_assert_uint_eq(request(T_OUT, i * 128, 65536, false), OK);
	}
	ck_assert_int_eq(stat(path, &before), 0);
	range(0, 0, DISK / 512, 0);
	ck_assert_uint_eq(request(T_DISCARD, 0, 16, false), OK);
	ck_assert_int_eq(stat(path, &after), 0);
	ck_assert_int_lt(after.st_blocks, before.st_blocks / 2);
	end();
	begin("aio=threads,discard=off");
	range(0, 0, 8, 0);
	ck_assert_uint_eq(request(T_DISCARD, 0, 16, false), UNSUPP);
	ck_assert(!(d.features & 1ull << BLK_F_DISCARD));
	end();
}
END_TEST

START_TEST(identity)
{
	begin("aio=threads,serial=disk-0815,block_size=4096,readonly=on");
	fill(0xff, 64);
	ck_assert_uint_eq(request(T_GET_ID, 0, 20, true), OK);
	ck_assert_str_eq((char *)host(data), "disk-0815");
	ck_assert_uint_eq(request(T_GET_ID, 0, 4, true), OK);
	ck_assert_uint_eq(host(data)[20], 0xff);
	ck_assert_uint_eq(vdrv_config(&d, 20, 4), 4096);
	ck_assert(d.features & 1ull << BLK_F_RO);
	ck_assert_uint_eq(request(T_OUT, 0, 512, false), IOERR);
	ck_assert_uint_eq(request(T_IN, 0, 512, true), OK);
	range(0, 0, 8, 0);
	ck_assert_uint_eq(request(T_WRITE_ZEROES, 0, 16, false), UNSUPP);
	end();
}
END_TEST

/* Header, data and status cut into the smallest pieces, across each other. */
START_TEST(odd_layouts)
{
	struct vdrv_buf bufs[40];
	unsigned n = 0;

	begin(_i ? "aio=threads,packed=on" : "aio=threads");
	fill(0x3c, 1024);
	vc_st32(host(header), T_OUT);
	vc_st64(host(header) + 8, 4);
	/* 16 of the header one by one, but the last with the first of the data behind it */
	for (; n < 15; n++)
		bufs[n] = (struct vdrv_buf){header + n, 1, false};
	memcpy(host(data + 4096), host(header + 15), 1);
	memset(host(data + 4097), 0x3c, 512);
	bufs[n++] = (struct vdrv_buf){data + 4096, 2, false};
	bufs[n++] = (struct vdrv_buf){data + 4098, 510, false};
	bufs[n++] = (struct vdrv_buf){data + 4608, 1, false};
	bufs[n++] = (struct vdrv_buf){header + 16, 1, true};
	*host(header + 16) = 0xff;
	vdrv_do(&q, bufs, n);
	ck_assert_uint_eq(*host(header + 16), OK);
	/* the status at the end of the data's buffer */
	vc_st32(host(header), T_IN);
	fill(0xee, 514);
	vdrv_do(&q, (struct vdrv_buf[]){{header, 16, false}, {data, 200, true}, {data + 200, 313, true}}, 3);
	ck_assert(holds(0x3c, 512));
	ck_assert_uint_eq(host(data)[512], OK);
	ck_assert_uint_eq(host(data)[513], 0xee);
	end();
}
END_TEST

/* Without a whole header, or without a status, there is no answer but NEEDS_RESET; a reset mends all. */
START_TEST(broken_drivers)
{
	static const struct {
		uint32_t out, in;
	} bad[] = {{15, 1}, {16, 0}, {600, 0}, {0, 600}};

	begin("aio=threads");
	for (unsigned i = 0; i < VC_ARRAY_SIZE(bad); i++) {
		struct vdrv_buf bufs[2];
		unsigned n = 0;

		if (bad[i].out)
			bufs[n++] = (struct vdrv_buf){data, bad[i].out, false};
		if (bad[i].in)
			bufs[n++] = (struct vdrv_buf){data, bad[i].in, true};
		vdrv_add(&q, bufs, n, &q);
		vdrv_kick(&q);
		vdrv_settle(&d);
		ck_assert(status() & VC_VIRTIO_S_NEEDS_RESET);
		vdrv_reset(&d);
		attach();
		fill(1, 512);
		ck_assert_uint_eq(request(T_OUT, 0, 512, false), OK);
	}
	end();
}
END_TEST

/* Many at a time, in any order; a reset in the middle waits for them. */
START_TEST(many)
{
	enum { COUNT = 20 };
	struct vdrv_buf bufs[3];
	uint64_t headers;

	begin(forms[_i]);
	headers = vdrv_alloc(&d, COUNT * 32, 16);
	for (unsigned turn = 0; turn < 20; turn++) {
		for (unsigned i = 0; i < COUNT; i++) {
			uint64_t at = headers + 32 * i;

			vc_st32(host(at), turn % 2 ? T_IN : T_OUT);
			vc_st64(host(at) + 8, i * 8 + turn);
			*host(at + 16) = 0xff;
			bufs[0] = (struct vdrv_buf){at, 16, false};
			bufs[1] = (struct vdrv_buf){data + i * 2048, 2048, turn % 2};
			bufs[2] = (struct vdrv_buf){at + 16, 1, true};
			ck_assert(vdrv_add(&q, bufs, 3, host(at)));
		}
		vdrv_kick(&q);
		if (turn == 19) {
			vdrv_reset(&d);
			break;
		}
		for (unsigned i = 0; i < COUNT; i++) {
			uint8_t *token = vdrv_wait(&q, NULL);

			ck_assert_uint_eq(token[16], OK);
		}
	}
	end();
}
END_TEST

/* One after the other, without or with waiting for the answers: whatever the device makes of it, all of them come. */
START_TEST(in_a_row)
{
	enum { COUNT = 20, ROUNDS = 100 };
	uint64_t headers;

	begin(_i ? "worker=thread" : "worker=loop");
	q.interrupts = true;
	headers = vdrv_alloc(&d, COUNT * 32, 16);
	for (unsigned turn = 0; turn < ROUNDS; turn++) {
		bool waits = turn % 32 > 16;

		for (unsigned i = 0; i < COUNT; i++) {
			uint64_t at = headers + 32 * i;
			struct vdrv_buf bufs[3] = {{at, 16, false}, {data + i * 512, 512, true}, {at + 16, 1, true}};

			vc_st32(host(at), T_IN);
			vc_st64(host(at) + 8, i);
			*host(at + 16) = 0xff;
			ck_assert(vdrv_add(&q, bufs, 3, host(at)));
			vdrv_kick(&q);
			if (waits)
				ck_assert_uint_eq(((uint8_t *)vdrv_wait(&q, NULL))[16], OK);
		}
		for (unsigned i = 0; !waits && i < COUNT; i++)
			ck_assert_uint_eq(((uint8_t *)vdrv_wait(&q, NULL))[16], OK);
	}
	end();
}
END_TEST

START_TEST(resize)
{
	begin("aio=threads");
	vdrv_take_isr(&d);
	ck_assert_int_eq(vc_blk_resize(dev->frontend, 2 * DISK), 0);
	ck_assert_uint_eq(vdrv_config(&d, 0, 8), 2 * DISK / 512);
	ck_assert_uint_eq(vdrv_take_isr(&d) & 2, 2);
	fill(9, 512);
	ck_assert_uint_eq(request(T_OUT, 2 * DISK / 512 - 1, 512, false), OK);
	ck_assert_int_eq(vc_blk_resize(dev->frontend, DISK), 0);
	ck_assert_uint_eq(request(T_OUT, 2 * DISK / 512 - 1, 512, false), IOERR);
	ck_assert_int_eq(vc_blk_resize(dev->frontend, 1000), -EINVAL);
	end();
}
END_TEST

/* A file without room: the guest sees an I/O error, the host a line in the log, and it goes on. */
START_TEST(host_errors)
{
	int full = open("/dev/full", O_RDWR | O_CLOEXEC);
	char text[64];
	unsigned length;

	begin("aio=threads");
	/* nothing can be written behind the end any more: the file's descriptor is one that we find and replace */
	ck_assert_int_ge(full, 0);
	for (int fd = 3; fd < 64; fd++) {
		char link[64];
		ssize_t n;

		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		n = readlink(link, text, sizeof text);
		length = (unsigned)strlen(path);
		if (n > (ssize_t)length && !memcmp(text + n - length, path, length))
			ck_assert_int_eq(dup2(full, fd), fd);
	}
	p.last_log[0] = '\0';
	ck_assert_uint_eq(request(T_OUT, 0, 512, false), IOERR);
	ck_assert(strstr(p.last_log, "write at 0"));
	ck_assert_uint_eq(request(T_IN, 0, 512, true), OK);
	close(full);
	end();
}
END_TEST

START_TEST(refusals)
{
	static const char *const bad[] = {"queues=0",     "queues=65",        "queue_size=100",
	                                  "queue_size=2", "block_size=600",   "cache=sometimes",
	                                  "format=vmdk",  "aio=paper",        "serial=123456789012345678901",
	                                  "threads=0",    "readonly=perhaps", "snapshot=one",
	                                  "nonsense=1"};
	char text[256];

	platform_init(&p, RAM);
	make_image();
	ck_assert_int_eq(create(""), -EINVAL);
	ck_assert_int_eq(create("image=/nonexistent/disk"), -ENOENT);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof text, "image=%s,%s", path, bad[i]);
		ck_assert_msg(create(text) == -EINVAL, "%s", text);
		if (dev)
			vc_dev_remove(&p.buses, NULL, dev);
	}
	/* a second writer */
	snprintf(text, sizeof text, "image=%s", path);
	ck_assert_int_eq(create(text), 0);
	ck_assert_int_eq(create(text), -EAGAIN);
	end();
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("virtio-blk");

	tcase_add_loop_test(t, requests, 0, VC_ARRAY_SIZE(forms));
	tcase_add_loop_test(t, zeroes_and_discards, 0, VC_ARRAY_SIZE(forms));
	tcase_add_test(t, discard_reaches_host);
	tcase_add_test(t, identity);
	tcase_add_loop_test(t, odd_layouts, 0, 2);
	tcase_add_test(t, broken_drivers);
	tcase_add_loop_test(t, many, 0, VC_ARRAY_SIZE(forms));
	tcase_add_loop_test(t, in_a_row, 0, 2);
	tcase_add_test(t, resize);
	tcase_add_test(t, host_errors);
	tcase_add_test(t, refusals);
	return platform_run("virtio-blk", t);
}
