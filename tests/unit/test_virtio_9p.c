/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtio-9p with a small client of its own: files, names and attributes; and a client that wants out of its directory,
 * or sends what is no message. */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <virtcore/error.h>

#include "platform_env.h"
#include "virtio/p9.h"
#include "virtio/types.h"
#include "virtio_driver.h"

enum {
	STATFS = 8,
	LOPEN = 12,
	LCREATE = 14,
	SYMLINK = 16,
	MKNOD = 18,
	RENAME = 20,
	READLINK = 22,
	GETATTR = 24,
	SETATTR = 26,
	XATTRWALK = 30,
	XATTRCREATE = 32,
	READDIR = 40,
	FSYNC = 50,
	LOCK = 52,
	GETLOCK = 54,
	LINK = 70,
	MKDIR = 72,
	RENAMEAT = 74,
	UNLINKAT = 76,
	VERSION = 100,
	ATTACH = 104,
	FLUSH = 108,
	WALK = 110,
	READ = 116,
	WRITE = 118,
	CLUNK = 120,
	REMOVE = 122,
	ROOM = 600 << 10,
	ROOT = 1, /* fid */
};

static struct platform_env p;
static struct vdrv d;
static struct vdrv_queue q;
static char dir[64];
static uint64_t out_gpa, in_gpa;
static uint8_t *out, *in;

static int create(const char *text)
{
	struct vc_props *props;
	struct vc_dev *dev;
	int r;

	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	r = vc_virtio_9p_type.create(&p.env, props, &dev);
	if (!r)
		r = vc_props_finish(props, "virtio-9p");
	vc_props_free(props);
	return r;
}

/* ---- the client ---- */

/* A message as it is; returns the answer's type, or the negative errno of Rlerror. */
static int send_raw(uint32_t length)
{
	uint32_t n = vdrv_do(&q, (struct vdrv_buf[]){{out_gpa, length, false}, {in_gpa, ROOM, true}}, 2);

	if (n < 7)
		return 0;
	ck_assert_uint_eq(vc_ld32(in), n);
	ck_assert_uint_eq(vc_ld16(in + 5), vc_ld16(out + 5));
	return in[4] == 7 ? -(int)vc_ld32(in + 7) : in[4];
}

static void put(uint32_t *at, uint64_t value, uint32_t bytes)
{
	memcpy(out + *at, &value, bytes);
	*at += bytes;
}

/* Of the letters b, w, d, q (1, 2, 4, 8 bytes), s (string); data: n bytes that lie behind already. 0, or -errno. */
static int call_data(uint32_t data, int type, const char *form, va_list args)
{
	uint32_t at = 7;
	int r;

	for (; *form; form++) {
		const char *text = *form == 's' ? va_arg(args, const char *) : NULL;

		if (text) {
			put(&at, strlen(text), 2);
			memcpy(out + at, text, strlen(text));
			at += (uint32_t)strlen(text);
		} else if (*form == 'q') {
			put(&at, va_arg(args, uint64_t), 8);
		} else {
			put(&at, va_arg(args, unsigned), *form == 'b' ? 1 : *form == 'w' ? 2 : 4);
		}
	}
	at += data;
	vc_st32(out, at);
	out[4] = (uint8_t)type;
	vc_st16(out + 5, (uint16_t)(type * 3));
	r = send_raw(at);
	ck_assert(r < 0 || r == type + 1);
	return r < 0 ? r : 0;
}

static int call(int type, const char *form, ...)
{
	va_list args;
	int r;

	va_start(args, form);
	r = call_data(0, type, form, args);
	va_end(args);
	return r;
}

static int call_write(uint32_t length, const char *form, ...)
{
	va_list args;
	int r;

	va_start(args, form);
	r = call_data(length, WRITE, form, args);
	va_end(args);
	return r;
}

static void begin(const char *more)
{
	char text[256];

	platform_init(&p, VC_MIB(4));
	strcpy(dir, "/tmp/9p-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(text, sizeof text, "mkdir %s/in %s/out && echo hello >%s/in/file && echo secret >%s/out/secret", dir, dir,
	         dir, dir);
	ck_assert_int_eq(system(text), 0);
	snprintf(text, sizeof text, "tag=share,path=%s/in%s", dir, more);
	ck_assert_int_eq(create(text), 0);
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	ck_assert_uint_eq(vdrv_config(&d, 0, 2), 5);
	ck_assert_uint_eq(vdrv_config(&d, 2, 4), 0x72616873);
	vdrv_queue(&d, &q, 0, 16);
	vdrv_start(&d);
	out_gpa = vdrv_alloc(&d, ROOM, 16);
	in_gpa = vdrv_alloc(&d, ROOM, 16);
	out = vdrv_ptr(&d, out_gpa);
	in = vdrv_ptr(&d, in_gpa);
	ck_assert_int_eq(call(STATFS, "d", ROOT), -EPROTO);
	ck_assert_int_eq(call(VERSION, "ds", 1 << 20, "9P2000.L"), 0);
	ck_assert_uint_eq(vc_ld32(in + 7), VC_P9_MSIZE_MAX);
	ck_assert_int_eq(call(ATTACH, "ddssd", ROOT, ~0u, "user", "", 0), 0);
	ck_assert_uint_eq(in[7], 0x80);
}

static void end(void)
{
	char text[128];

	platform_fini(&p);
	snprintf(text, sizeof text, "rm -rf %s", dir);
	ck_assert_int_eq(system(text), 0);
}

static int walk(unsigned from, unsigned to, const char *name)
{
	return call(WALK, "ddws", from, to, 1, name);
}

static const char *host(const char *name)
{
	static char path[256];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	return path;
}

/* The Rread or Rreaddir that has just come holds these bytes. */
static void expect_data(const char *text)
{
	ck_assert_uint_eq(vc_ld32(in + 7), strlen(text));
	ck_assert_mem_eq(in + 11, text, strlen(text));
}

/* ---- tests ---- */

START_TEST(files)
{
	static const char *const forms[] = {"", ",packed=on", ",worker=loop"};
	struct stat st;

	begin(forms[_i]);
	ck_assert_int_eq(walk(ROOT, 2, "file"), 0);
	ck_assert_uint_eq(vc_ld16(in + 7), 1);
	ck_assert_int_eq(call(READ, "dqd", 2, 0ull, 100), -EBADF);
	ck_assert_int_eq(call(LOPEN, "dd", 2, O_RDONLY), 0);
	ck_assert_int_eq(call(LOPEN, "dd", 2, O_RDONLY), -EINVAL);
	ck_assert_int_eq(call(READ, "dqd", 2, 0ull, 100), 0);
	expect_data("hello\n");
	ck_assert_int_eq(call(READ, "dqd", 2, 3ull, 2), 0);
	expect_data("lo");
	ck_assert_int_eq(call_write(5, "dqd", 2, 0ull, 5), -EBADF);
	ck_assert_int_eq(call(CLUNK, "d", 2), 0);
	ck_assert_int_eq(call(CLUNK, "d", 2), -EBADF);
	/* one of its own, read-only for the next who opens it */
	ck_assert_int_eq(call(WALK, "ddw", ROOT, 2, 0), 0);
	ck_assert_int_eq(call(LCREATE, "dsddd", 2, "new", O_RDWR | O_CREAT | O_EXCL, 04444, 0), 0);
	ck_assert_int_eq(stat(host("in/new"), &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0444);
	for (uint32_t i = 0; i < 500000; i++)
		out[23 + i] = (uint8_t)(i * 7 + i / 251);
	ck_assert_int_eq(call_write(500000, "dqd", 2, 1000ull, 500000), 0);
	ck_assert_uint_eq(vc_ld32(in + 7), 500000);
	ck_assert_int_eq(call(FSYNC, "dd", 2, 0), 0);
	ck_assert_int_eq(call(FSYNC, "d", 2), 0);
	memset(in, 0, ROOM);
	ck_assert_int_eq(call(READ, "dqd", 2, 1000ull, ~0u), 0);
	ck_assert_uint_eq(vc_ld32(in + 7), 500000);
	for (uint32_t i = 0; i < 500000; i++)
		if (in[11 + i] != (uint8_t)(i * 7 + i / 251))
			ck_abort_msg("byte %u is wrong", i);
	/* size by the open one, then times */
	ck_assert_int_eq(call(SETATTR, "dddddqqqqq", 2, 8, 0, 0, 0, 7ull, 0ull, 0ull, 0ull, 0ull), 0);
	ck_assert_int_eq(call(SETATTR, "dddddqqqqq", 2, 0x1b1, 0640, 0, 0, 0ull, 5ull, 0ull, 6ull, 7ull), 0);
	ck_assert_int_eq(call(GETATTR, "dq", 2, 0x7ffull), 0);
	ck_assert_uint_eq(vc_ld64(in + 7), 0x7ff);
	ck_assert_int_eq(stat(host("in/new"), &st), 0);
	ck_assert_int_eq(st.st_size, 7);
	ck_assert(st.st_mtim.tv_sec == 6 && st.st_mtim.tv_nsec == 7 && st.st_atim.tv_sec == 5);
	ck_assert_uint_eq(st.st_mode & 07777, 0640);
	ck_assert_uint_eq(vc_ld32(in + 28), st.st_mode);
	ck_assert_uint_eq(vc_ld64(in + 56), 7);
	/* somebody was faster: opened all the same, unless that was ruled out */
	ck_assert_int_eq(call(WALK, "ddw", ROOT, 3, 0), 0);
	ck_assert_int_eq(call(LCREATE, "dsddd", 3, "new", O_WRONLY | O_EXCL, 0600, 0), -EEXIST);
	ck_assert_int_eq(call(LCREATE, "dsddd", 3, "new", O_WRONLY | O_TRUNC, 0600, 0), 0);
	ck_assert_int_eq(call(REMOVE, "d", 3), 0);
	ck_assert_int_eq(call(CLUNK, "d", 3), -EBADF);
	ck_assert_int_eq(stat(host("in/new"), &st), -1);
	/* one that is gone is still there for who has it open */
	ck_assert_int_eq(call_write(3, "dqd", 2, 0ull, 3), 0);
	ck_assert_int_eq(call(REMOVE, "d", 2), -ENOENT);
	end();
}
END_TEST

START_TEST(names)
{
	struct stat st;
	char target[32];
	unsigned seen = 0;
	uint64_t offset = 0;

	begin("");
	ck_assert_int_eq(call(MKDIR, "dsdd", ROOT, "a", 0755, 0), 0);
	ck_assert_int_eq(walk(ROOT, 2, "a"), 0);
	ck_assert_int_eq(call(MKDIR, "dsdd", 2, "b", 0755, 0), 0);
	ck_assert_int_eq(call(MKNOD, "dsdddd", 2, "plain", S_IFREG | 0600, 0, 0, 0), 0);
	ck_assert_int_eq(call(MKNOD, "dsdddd", 2, "device", S_IFCHR | 0600, 1, 3, 0), -EPERM);
	ck_assert_int_eq(call(MKNOD, "dsdddd", 2, "pipe", S_IFIFO | 0600, 0, 0, 0), -EPERM);
	ck_assert_int_eq(call(SYMLINK, "dssd", 2, "link", "/etc/passwd", 0), 0);
	ck_assert_uint_eq(in[7], 0x02);
	ck_assert_int_eq(readlink(host("in/a/link"), target, sizeof target), 11);
	ck_assert_int_eq(walk(2, 3, "link"), 0);
	ck_assert_int_eq(call(READLINK, "d", 3), 0);
	ck_assert_mem_eq(in + 9, "/etc/passwd", 11);
	ck_assert_int_eq(call(READLINK, "d", 2), -EINVAL);
	/* a walk of some names; one that ends early makes no fid */
	ck_assert_int_eq(call(WALK, "ddwsss", ROOT, 4, 3, "a", "b", ".."), 0);
	ck_assert_uint_eq(vc_ld16(in + 7), 3);
	ck_assert_int_eq(call(WALK, "ddwss", ROOT, 5, 2, "a", "nothing"), 0);
	ck_assert_uint_eq(vc_ld16(in + 7), 1);
	ck_assert_int_eq(call(CLUNK, "d", 5), -EBADF);
	ck_assert_int_eq(call(WALK, "ddwss", ROOT, 5, 2, "nothing", "a"), -ENOENT);
	/* all entries, a few a time */
	ck_assert_int_eq(call(LOPEN, "dd", 4, O_RDONLY | O_DIRECTORY), 0);
	for (;;) {
		uint32_t length, at = 11;

		ck_assert_int_eq(call(READDIR, "dqd", 4, offset, 70), 0);
		length = vc_ld32(in + 7);
		if (!length)
			break;
		for (; at < 11 + length; seen++) {
			offset = vc_ld64(in + at + 13);
			at += 24 + vc_ld16(in + at + 22);
		}
		ck_assert_uint_eq(at, 11 + length);
	}
	ck_assert_uint_eq(seen, 5); /* . .. b link plain */
	ck_assert_int_eq(call(READDIR, "dqd", 4, 0ull, 10), -EINVAL);
	ck_assert_int_eq(call(READDIR, "dqd", 4, 1ull << 63, 1000), -EBADF);
	/* links, names that change, and what is still called as it was found */
	ck_assert_int_eq(walk(2, 6, "plain"), 0);
	ck_assert_int_eq(call(LINK, "dds", ROOT, 6, "second"), 0);
	ck_assert_int_eq(call(RENAME, "dds", 6, ROOT, "third"), 0);
	ck_assert_int_eq(call(RENAMEAT, "dsds", ROOT, "third", 2, "fourth"), 0);
	ck_assert_int_eq(call(RENAME, "dds", 6, ROOT, "fifth"), -ENOENT);
	ck_assert_int_eq(stat(host("in/a/fourth"), &st), 0);
	ck_assert_uint_eq(st.st_nlink, 2);
	ck_assert_int_eq(call(UNLINKAT, "dsd", 2, "b", 0), -EISDIR);
	ck_assert_int_eq(call(UNLINKAT, "dsd", 2, "b", 0x200), 0);
	ck_assert_int_eq(call(UNLINKAT, "dsd", ROOT, "second", 0), 0);
	ck_assert_int_eq(call(REMOVE, "d", 6), -ENOENT);
	ck_assert_int_eq(call(RENAME, "dds", ROOT, 2, "root"), -EBUSY);
	ck_assert_int_eq(call(STATFS, "d", 2), 0);
	ck_assert_int_eq(call(LOCK, "dbdqqds", 4, 1, 0, 0ull, 0ull, 1, "me"), 0);
	ck_assert_int_eq(call(GETLOCK, "dbqqds", 4, 1, 3ull, 4ull, 5, "me"), 0);
	ck_assert_uint_eq(in[7], 2);
	ck_assert_int_eq(call(XATTRWALK, "dds", 2, 9, "user.x"), -EOPNOTSUPP);
	ck_assert_int_eq(call(XATTRCREATE, "dsqd", 2, "user.x", 1ull, 0), -EOPNOTSUPP);
	ck_assert_int_eq(call(FLUSH, "w", 1), 0);
	end();
}
END_TEST

/* Links, dots, slashes, and directories that are exchanged under a client lead nowhere else. */
START_TEST(escapes)
{
	static const char *const bad[] = {"", ".", "/", "a/b", "../out", "/etc"};
	struct stat st, root;

	begin("");
	ck_assert_int_eq(stat(host("in"), &root), 0);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(bad); i++) {
		ck_assert_int_eq(walk(ROOT, 2, bad[i]), -EINVAL);
		ck_assert_int_eq(call(MKDIR, "dsdd", ROOT, bad[i], 0755, 0), -EINVAL);
		ck_assert_int_eq(call(UNLINKAT, "dsd", ROOT, bad[i], 0), -EINVAL);
		ck_assert_int_eq(call(RENAMEAT, "dsds", ROOT, "file", ROOT, bad[i]), -EINVAL);
	}
	ck_assert_int_eq(call(RENAMEAT, "dsds", ROOT, "..", ROOT, "x"), -EINVAL);
	ck_assert_int_eq(call(LCREATE, "dsddd", ROOT, "..", O_RDWR, 0600, 0), -EINVAL);
	/* up from the root is the root */
	ck_assert_int_eq(call(WALK, "ddwss", ROOT, 2, 2, "..", ".."), 0);
	ck_assert_uint_eq(vc_ld16(in + 7), 2);
	ck_assert_uint_eq(vc_ld64(in + 9 + 13 + 5), root.st_ino);
	ck_assert_int_eq(call(WALK, "ddwss", ROOT, 3, 2, "..", "out"), 0);
	ck_assert_uint_eq(vc_ld16(in + 7), 1);
	/* links of the guest's are not followed */
	ck_assert_int_eq(call(SYMLINK, "dssd", ROOT, "up", "../out", 0), 0);
	ck_assert_int_eq(call(SYMLINK, "dssd", ROOT, "secret", host("out/secret"), 0), 0);
	ck_assert_int_eq(walk(ROOT, 3, "secret"), 0);
	ck_assert_int_eq(call(LOPEN, "dd", 3, O_RDONLY), -ELOOP);
	ck_assert_int_eq(call(SETATTR, "dddddqqqqq", 3, 8, 0, 0, 0, 0ull, 0ull, 0ull, 0ull, 0ull), -ELOOP);
	ck_assert_int_eq(call(SETATTR, "dddddqqqqq", 3, 1, 0777, 0, 0, 0ull, 0ull, 0ull, 0ull, 0ull), -EOPNOTSUPP);
	ck_assert_int_eq(call(SETATTR, "dddddqqqqq", 3, 0x1b0, 0, 0, 0, 0ull, 1ull, 0ull, 1ull, 0ull), 0);
	ck_assert_int_eq(stat(host("out/secret"), &st), 0);
	ck_assert(st.st_size == 7 && st.st_mtim.tv_sec > 1);
	ck_assert_int_eq(call(WALK, "ddwss", ROOT, 4, 2, "up", "secret"), 0);
	ck_assert_uint_eq(vc_ld16(in + 7), 1);
	ck_assert_int_eq(walk(ROOT, 4, "up"), 0);
	ck_assert_int_eq(walk(4, 5, "secret"), -ENOTDIR);
	ck_assert_int_eq(walk(4, 5, ".."), -ENOTDIR);
	ck_assert_int_eq(call(MKDIR, "dsdd", 4, "x", 0755, 0), -ENOTDIR);
	ck_assert_int_eq(call(LCREATE, "dsddd", 2, "secret", O_RDWR | O_TRUNC, 0600, 0), -ELOOP);
	ck_assert_int_eq(call(LINK, "dds", ROOT, 3, "hard"), 0);
	ck_assert_int_eq(lstat(host("in/hard"), &st), 0);
	ck_assert(S_ISLNK(st.st_mode));
	/* a directory becomes a link between two requests: the fid is still the directory */
	ck_assert_int_eq(call(MKDIR, "dsdd", ROOT, "d", 0755, 0), 0);
	ck_assert_int_eq(walk(ROOT, 6, "d"), 0);
	ck_assert_int_eq(call(RENAMEAT, "dsds", ROOT, "d", ROOT, "e"), 0);
	ck_assert_int_eq(call(SYMLINK, "dssd", ROOT, "d", "../out", 0), 0);
	ck_assert_int_eq(walk(6, 7, "secret"), -ENOENT);
	ck_assert_int_eq(call(MKDIR, "dsdd", 6, "x", 0755, 0), 0);
	ck_assert_int_eq(stat(host("in/e/x"), &st), 0);
	ck_assert_int_eq(stat(host("out/x"), &st), -1);
	ck_assert_int_eq(call(REMOVE, "d", 6), -ESTALE);
	/* the host moves a directory out: the guest may look at what it has, but not go up from there */
	ck_assert_int_eq(call(WALK, "ddwss", ROOT, 6, 2, "e", "x"), 0);
	ck_assert_int_eq(rename(host("in/e"), "/tmp/9p-moved"), 0);
	ck_assert_int_eq(walk(6, 7, ".."), -EACCES);
	ck_assert_int_eq(system("rm -r /tmp/9p-moved"), 0);
	/* pipes and sockets of the host are not opened */
	ck_assert_int_eq(mkfifo(host("in/pipe"), 0600), 0);
	ck_assert_int_eq(walk(ROOT, 8, "pipe"), 0);
	ck_assert_int_eq(call(LOPEN, "dd", 8, O_RDONLY), -EACCES);
	end();
}
END_TEST

START_TEST(hostile)
{
	static char name[300];

	begin(",worker=loop");
	/* sizes that are wrong, and messages cut off anywhere */
	for (uint32_t size = 0; size < 7; size++) {
		vc_st32(out, size);
		out[4] = CLUNK;
		ck_assert_int_eq(send_raw(20), -EPROTO);
	}
	vc_st32(out, 21);
	ck_assert_int_eq(send_raw(20), -EPROTO);
	for (int type = 0; type < 256; type++)
		for (uint32_t size = 7; size < 40; size++) {
			memset(out + 7, type & 1 ? 0xff : 0, 64);
			vc_st32(out, size);
			out[4] = (uint8_t)type;
			if (type != VERSION && type != ATTACH && type != FLUSH)
				ck_assert_int_ne(send_raw(size), 0);
		}
	ck_assert_int_eq(call(VERSION, "ds", 8192, "9P2000.L"), 0);
	ck_assert_int_eq(call(ATTACH, "ddssd", ROOT, ~0u, "user", "", 0), 0);
	ck_assert_int_eq(call(ATTACH, "ddssd", ROOT, ~0u, "user", "", 0), -EBADF);
	/* fids and counts */
	ck_assert_int_eq(walk(77, 2, "file"), -EBADF);
	ck_assert_int_eq(walk(ROOT, 2, "file"), 0);
	ck_assert_int_eq(walk(ROOT, 2, "file"), -EINVAL);
	ck_assert_int_eq(call(WALK, "ddw", ROOT, 3, 17), -EINVAL);
	ck_assert_int_eq(call(WALK, "ddws", ROOT, 3, 3, "file"), -EINVAL);
	ck_assert_int_eq(call(LOPEN, "dd", 2, 3), -EINVAL);
	ck_assert_int_eq(call(LOPEN, "dd", 2, O_RDWR), 0);
	ck_assert_int_eq(call_write(4, "dqd", 2, 0ull, 5), -EINVAL);
	ck_assert_int_eq(call_write(4, "dqd", 2, ~0ull, 4), -EBADF);
	ck_assert_int_lt(call_write(4, "dqd", 2, (uint64_t)INT64_MAX, 4), 0);
	ck_assert_int_eq(call(READ, "dqd", 2, 0ull, ~0u), 0);
	expect_data("hello\n");
	ck_assert_int_eq(call_write(9000, "dqd", 2, 0ull, 9000), -EPROTO);
	memset(name, 'x', sizeof name - 1);
	ck_assert_int_eq(walk(ROOT, 3, name), -ENAMETOOLONG);
	/* a version ends all fids; another protocol the session */
	ck_assert_int_eq(call(VERSION, "ds", 8192, "9P2000.L"), 0);
	ck_assert_int_eq(call(CLUNK, "d", 2), -EBADF);
	ck_assert_int_eq(call(VERSION, "ds", 100, "9P2000.L"), -EINVAL);
	ck_assert_int_eq(call(VERSION, "ds", 8192, "9P2000"), 0);
	ck_assert_mem_eq(in + 13, "unknown", 7);
	ck_assert_int_eq(call(ATTACH, "ddssd", ROOT, ~0u, "user", "", 0), -EPROTO);
	/* no room for any answer */
	ck_assert(vdrv_add(&q, (struct vdrv_buf[]){{out_gpa, 7, false}, {in_gpa, 5, true}}, 2, &p));
	vdrv_kick(&q);
	vdrv_settle(&d);
	ck_assert(vdrv_status(&d) & VC_VIRTIO_S_NEEDS_RESET);
	end();
}
END_TEST

START_TEST(many_fids)
{
	uint32_t n = 2;
	int r;

	begin("");
	while (n < 5000 && !(r = call(WALK, "ddw", ROOT, n, 0)))
		n++;
	ck_assert_int_eq(r, -EMFILE);
	ck_assert_uint_eq(n, VC_P9_FIDS + 1);
	ck_assert_int_eq(call(CLUNK, "d", 2), 0);
	ck_assert_int_eq(call(WALK, "ddw", ROOT, n, 0), 0);
	vdrv_reset(&d);
	end();
}
END_TEST

START_TEST(readonly)
{
	begin(",readonly=on");
	ck_assert_int_eq(walk(ROOT, 2, "file"), 0);
	ck_assert_int_eq(call(LOPEN, "dd", 2, O_RDWR), -EROFS);
	ck_assert_int_eq(call(LOPEN, "dd", 2, O_RDONLY | O_TRUNC), -EROFS);
	ck_assert_int_eq(call(LOPEN, "dd", 2, O_RDONLY), 0);
	ck_assert_int_eq(call_write(1, "dqd", 2, 0ull, 1), -EROFS);
	ck_assert_int_eq(call(READ, "dqd", 2, 0ull, 100), 0);
	expect_data("hello\n");
	ck_assert_int_eq(call(MKDIR, "dsdd", ROOT, "a", 0755, 0), -EROFS);
	ck_assert_int_eq(call(REMOVE, "d", 2), -EROFS);
	ck_assert_int_eq(call(SETATTR, "dddddqqqqq", 2, 8, 0, 0, 0, 0ull, 0ull, 0ull, 0ull, 0ull), -EROFS);
	end();
}
END_TEST

/* As root the files are given away, else they stay the library's. */
static void owned(const char *name, uid_t user, gid_t group)
{
	bool may = geteuid() == 0;
	struct stat st;

	ck_assert_int_eq(lstat(host(name), &st), 0);
	ck_assert_uint_eq(st.st_uid, may ? user : geteuid());
	ck_assert_uint_eq(st.st_gid, may ? group : getegid());
}

START_TEST(owners)
{
	begin(",guest_owners=on");
	ck_assert_int_eq(call(ATTACH, "ddssd", 2, ~0u, "", "", 1234), 0);
	ck_assert_int_eq(walk(2, 3, "file"), 0);
	ck_assert_int_eq(call(MKDIR, "dsdd", 2, "a", 0755, 77), 0);
	ck_assert_int_eq(call(MKNOD, "dsdddd", 2, "b", S_IFREG | 0644, 0, 0, 78), 0);
	ck_assert_int_eq(call(SYMLINK, "dssd", 2, "c", "file", 79), 0);
	ck_assert_int_eq(call(WALK, "ddw", 2, 4, 0), 0);
	ck_assert_int_eq(call(LCREATE, "dsddd", 4, "d", O_RDWR, 0644, 80), 0);
	owned("in/a", 1234, 77);
	owned("in/b", 1234, 78);
	owned("in/c", 1234, 79);
	owned("in/d", 1234, 80);
	/* what is there already stays whose it is, also through a link */
	ck_assert_int_eq(call(WALK, "ddw", 2, 5, 0), 0);
	ck_assert_int_eq(call(LCREATE, "dsddd", 5, "file", O_RDWR, 0644, 80), 0);
	owned("in/file", geteuid(), getegid());
	/* nobody has attached as somebody */
	ck_assert_int_eq(call(ATTACH, "ddssd", 6, ~0u, "", "", ~0u), 0);
	ck_assert_int_eq(call(MKDIR, "dsdd", 6, "e", 0755, 77), 0);
	owned("in/e", geteuid(), getegid());
	ck_assert_int_eq(call(ATTACH, "dd", 7, ~0u), -EINVAL);
	ck_assert_int_eq((int)p.buses.devices->ops.save(p.buses.devices->ctx, NULL, 0), -ENOTSUP);
	end();
}
END_TEST

static uint8_t state[1 << 16];
static size_t state_size;

static void save_all(void)
{
	struct vc_dev *dev = p.buses.devices;
	int64_t size = dev->ops.save(dev->ctx, NULL, 0);

	ck_assert_msg(size > 0 && size <= (int64_t)sizeof state, "%s", vcore_error_message());
	ck_assert_int_eq(dev->ops.save(dev->ctx, state, (size_t)size - 1), -ENOSPC);
	ck_assert_int_eq(dev->ops.save(dev->ctx, state, sizeof state), size);
	state_size = (size_t)size;
}

static int load_all(void)
{
	struct vc_dev *dev = p.buses.devices;

	return dev->ops.load(dev->ctx, state, state_size);
}

static void run(const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	ck_assert_int_eq(system(text), 0);
}

static void refuses_to(int r, int error, const char *text)
{
	ck_assert_msg(r == -error && strstr(vcore_error_message(), text), "%d: %s", r, vcore_error_message());
}

/* Mounted, with files and directories open: all of it goes on where it is loaded. */
START_TEST(saved)
{
	begin("");
	ck_assert_int_eq(call(MKDIR, "dsdd", ROOT, "a", 0755, 0), 0);
	ck_assert_int_eq(walk(ROOT, 2, "file"), 0);
	ck_assert_int_eq(call(LOPEN, "dd", 2, O_RDONLY), 0);
	ck_assert_int_eq(walk(ROOT, 3, "a"), 0);
	ck_assert_int_eq(call(LCREATE, "dsddd", 3, "new", O_RDWR, 0644, 0), 0);
	ck_assert_int_eq(walk(ROOT, 4, "a"), 0);
	ck_assert_int_eq(call(LOPEN, "dd", 4, O_RDONLY | O_DIRECTORY), 0);
	ck_assert_int_eq(walk(ROOT, 5, "a"), 0);
	/* a name that the guest's own walk would not give: the host has moved it */
	run("mv %s/in/a %s/in/b", dir, dir);
	save_all();
	vdrv_reset(&d);
	ck_assert_int_eq(load_all(), 0);
	ck_assert_int_eq(call(READ, "dqd", 2, 0ull, 100), 0);
	expect_data("hello\n");
	ck_assert_int_eq(call_write(1, "dqd", 2, 0ull, 1), -EBADF);
	memcpy(out + 23, "abc", 3);
	ck_assert_int_eq(call_write(3, "dqd", 3, 0ull, 3), 0);
	ck_assert_int_eq(call(READ, "dqd", 3, 0ull, 100), 0);
	expect_data("abc");
	run("test $(cat %s/in/b/new) = abc", dir);
	ck_assert_int_eq(call(READDIR, "dqd", 4, 0ull, 1000), 0);
	ck_assert_uint_gt(vc_ld32(in + 7), 0);
	ck_assert_int_eq(walk(5, 6, "new"), 0);
	ck_assert_int_eq(call(REMOVE, "d", 6), 0);
	ck_assert_int_ne(access(host("in/b/new"), F_OK), 0);
	ck_assert_int_eq(walk(ROOT, 7, "file"), 0);
	ck_assert_int_eq(call(MKDIR, "dsdd", ROOT, "c", 0755, 0), 0);
	end();
}
END_TEST

START_TEST(not_saved)
{
	begin("");
	ck_assert_int_eq(walk(ROOT, 2, "file"), 0);
	ck_assert_int_eq(call(LOPEN, "dd", 2, O_RDONLY), 0);
	save_all();
	/* gone, another kind of thing, and a link in its place */
	run("mv %s/in/file %s/out/", dir, dir);
	refuses_to(load_all(), ENOENT, "\"file\"");
	run("mkdir %s/in/file", dir);
	refuses_to(load_all(), ESTALE, "\"file\"");
	run("rmdir %s/in/file && ln -s ../out/secret %s/in/file", dir, dir);
	refuses_to(load_all(), ESTALE, "\"file\"");
	run("rm %s/in/file && mv %s/out/file %s/in/", dir, dir, dir);
	ck_assert_int_eq(load_all(), 0);
	/* what is removed, or has left the directory, has no name to be found by */
	run("mv %s/in/file %s/out/", dir, dir);
	refuses_to((int)p.buses.devices->ops.save(p.buses.devices->ctx, NULL, 0), EBUSY, "/out/file, which is not in");
	run("rm %s/out/file", dir);
	refuses_to((int)p.buses.devices->ops.save(p.buses.devices->ctx, NULL, 0), EBUSY, "which is removed");
	ck_assert_int_eq(call(READ, "dqd", 2, 0ull, 100), 0);
	expect_data("hello\n");
	ck_assert_int_eq(call(CLUNK, "d", 2), 0);
	save_all();
	ck_assert_int_eq(load_all(), 0);
	ck_assert_int_eq(walk(ROOT, 2, "nothing"), -ENOENT);
	end();
}
END_TEST

/* A state that somebody else has made. */
START_TEST(hostile_state)
{
	static uint8_t good[sizeof state];
	size_t own;

	begin("");
	ck_assert_int_eq(walk(ROOT, 2, "file"), 0);
	save_all();
	memcpy(good, state, sizeof good);
	/* the last record: number, flags, type, length, "file" */
	own = state_size - 20;
	if (memcmp(state + own + 16, "file", 4)) /* the root's comes last */
		own -= 16;
	ck_assert_mem_eq(state + own + 16, "file", 4);
	memcpy(state + own + 16, "../o", 4);
	ck_assert_int_lt(load_all(), 0);
	memcpy(state + own + 16, "/etc", 4); /* counts from the directory */
	ck_assert_int_lt(load_all(), 0);
	memcpy(state + own + 16, "fi\0e", 4);
	ck_assert_int_eq(load_all(), -EINVAL);
	memcpy(state, good, sizeof good);
	vc_st32(state + own + 12, 0xffffffff);
	ck_assert_int_eq(load_all(), -EINVAL);
	memcpy(state, good, sizeof good);
	vc_st32(state + own, ROOT); /* twice the same */
	ck_assert_int_eq(load_all(), -EINVAL);
	memcpy(state, good, sizeof good);
	vc_st32(state + own + 4, O_CREAT | O_TRUNC);
	ck_assert_int_eq(load_all(), -EINVAL);
	memcpy(state, good, sizeof good);
	for (size_t cut = 1; cut < 60; cut++) {
		state_size--;
		ck_assert_int_eq(load_all(), -EINVAL);
	}
	state_size += 59;
	ck_assert_int_eq(load_all(), 0);
	ck_assert_int_eq(call(LOPEN, "dd", 2, O_RDONLY), 0);
	end();
}
END_TEST

START_TEST(refusals)
{
	static const char *const bad[] = {"path=/tmp", "tag=x", "tag=,path=/tmp", "tag=x,path=/tmp,readonly=perhaps",
	                                  "tag=12345678901234567890123456789012,path=/tmp"};

	platform_init(&p, VC_MIB(1));
	for (unsigned i = 0; i < VC_ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(create(bad[i]), -EINVAL);
	ck_assert_int_eq(create("tag=x,path=/nowhere"), -ENOENT);
	ck_assert_int_eq(create("tag=x,path=/etc/passwd"), -ENOTDIR);
	platform_fini(&p);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("virtio-9p");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, files, 0, 3);
	tcase_add_test(tc, names);
	tcase_add_test(tc, escapes);
	tcase_add_test(tc, hostile);
	tcase_add_test(tc, many_fids);
	tcase_add_test(tc, readonly);
	tcase_add_test(tc, owners);
	tcase_add_test(tc, saved);
	tcase_add_test(tc, not_saved);
	tcase_add_test(tc, hostile_state);
	tcase_add_test(tc, refusals);
	return platform_run("virtio-9p", tc);
}
