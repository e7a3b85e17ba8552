/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lib/memory: slots, backings, copies, dirty log. */
#include <check.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/mempolicy.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <virtcore/error.h>

#include "core/error.h"
#include "core/util.h"
#include "memory/memory.h"

static struct vc_gate gate;
static struct vc_mem mem;

static void setup(void)
{
	ck_assert_int_eq(vc_gate_init(&gate), 0);
	ck_assert_int_eq(vc_mem_init(&mem, &gate), 0);
}

static void teardown(void)
{
	vc_mem_fini(&mem);
	vc_gate_fini(&gate);
}

static int add(uint64_t gpa, uint64_t length, uint32_t flags, struct vc_slot **slot)
{
	return vc_mem_add(&mem, NULL, gpa, length, flags, NULL, slot);
}

static void remove_slot(struct vc_slot *slot)
{
	vc_mem_remove(&mem, NULL, slot);
}

static bool message_has(const char *text)
{
	return strstr(vcore_error_message(), text) != NULL;
}

/* Pages of a mapping that are in memory. */
static uint64_t resident(const struct vc_slot *slot)
{
	uint64_t pages = slot->length / VC_PAGE_SIZE, count = 0;
	unsigned char *in = malloc(pages);

	ck_assert_int_eq(mincore(slot->hva, slot->length, in), 0);
	for (uint64_t i = 0; i < pages; i++)
		count += in[i] & 1;
	free(in);
	return count;
}

START_TEST(test_refusals)
{
	const struct {
		uint64_t gpa, length;
		uint32_t flags;
		int error;
	} bad[] = {
	    {0x1000, 0, VCORE_MEM_RWX, -EINVAL},
	    {0x1001, 0x1000, VCORE_MEM_RWX, -EINVAL},
	    {0x1000, 0x1800, VCORE_MEM_RWX, -EINVAL},
	    {0x1000, 0x1000, VCORE_MEM_W, -EINVAL},
	    {0x1000, 0x1000, 0, -EINVAL},
	    {0x1000, 0x1000, VCORE_MEM_R | 1u << 30, -EINVAL},
	    {0x1000, 0x1000, VCORE_MEM_R | VCORE_MEM_HUGE_2M, -EINVAL},
	    {0, VC_GIB(1), VCORE_MEM_R | VCORE_MEM_HUGE_2M | VCORE_MEM_HUGE_1G, -EINVAL},
	    {VC_MIB(2), VC_GIB(1), VCORE_MEM_R | VCORE_MEM_HUGE_1G, -EINVAL},
	    {(1ull << 52) - 0x1000, 0x2000, VCORE_MEM_RWX, -EINVAL},
	    {1ull << 52, 0x1000, VCORE_MEM_RWX, -EINVAL},
	    {UINT64_MAX - 0xfff, 0x1000, VCORE_MEM_RWX, -EINVAL},
	    {0x1000, UINT64_MAX - 0xfff, VCORE_MEM_RWX, -EINVAL},
	};
	for (size_t i = 0; i < VC_ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(add(bad[i].gpa, bad[i].length, bad[i].flags, NULL), bad[i].error);
	ck_assert_uint_eq(mem.count, 0);
	ck_assert_int_eq(add((1ull << 52) - 0x1000, 0x1000, VCORE_MEM_RWX, NULL), 0);
	mem.gpa_limit = 1ull << 36;
	ck_assert_int_eq(add(1ull << 36, 0x1000, VCORE_MEM_RWX, NULL), -EINVAL);
	ck_assert(message_has("0x1000000000"));
}
END_TEST

START_TEST(test_overlap)
{
	const uint64_t lap[][2] = {{0x10000, 0x4000}, {0xf000, 0x2000},  {0x13000, 0x1000},
	                           {0x10000, 0x1000}, {0x11000, 0x1000}, {0x0, 0x100000}};

	ck_assert_int_eq(add(0x10000, 0x4000, VCORE_MEM_RWX, NULL), 0);
	for (size_t i = 0; i < VC_ARRAY_SIZE(lap); i++) {
		char mine[32];
		snprintf(mine, sizeof mine, "[%#llx, +%#llx)", (unsigned long long)lap[i][0], (unsigned long long)lap[i][1]);
		ck_assert_int_eq(add(lap[i][0], lap[i][1], VCORE_MEM_RWX, NULL), -EEXIST);
		ck_assert(message_has(mine));
		ck_assert(message_has("[0x10000, +0x4000)"));
	}
	ck_assert_int_eq(add(0xf000, 0x1000, VCORE_MEM_RWX, NULL), 0);
	ck_assert_int_eq(add(0x14000, 0x1000, VCORE_MEM_RWX, NULL), 0);
	ck_assert_uint_eq(mem.count, 3);
}
END_TEST

START_TEST(test_ids_and_look_up)
{
	struct vc_slot *slot[20], *extra;
	uint64_t version = mem.version;
	bool seen[20] = {false};

	for (int i = 0; i < 20; i++) /* neither ascending nor descending */
		ck_assert_int_eq(add((uint64_t)(i * 7 % 20) * 0x4000, 0x2000, VCORE_MEM_RWX, &slot[i]), 0);
	ck_assert_uint_gt(mem.version, version);
	for (int i = 0; i < 20; i++) {
		ck_assert_uint_lt(slot[i]->id, 20);
		ck_assert(!seen[slot[i]->id]);
		seen[slot[i]->id] = true;
	}
	for (uint32_t i = 1; i < mem.count; i++)
		ck_assert_uint_lt(mem.slots[i - 1]->gpa, mem.slots[i]->gpa);
	for (int i = 0; i < 20; i++) {
		uint64_t gpa = slot[i]->gpa;
		ck_assert_ptr_eq(vc_mem_find(&mem, gpa), slot[i]);
		ck_assert_ptr_eq(vc_mem_find(&mem, gpa + 0x1fff), slot[i]);
		ck_assert_ptr_null(vc_mem_find(&mem, gpa + 0x2000));
		ck_assert_ptr_eq(vc_mem_ptr(&mem, gpa + 8, 0x1ff8), slot[i]->hva + 8);
		ck_assert_ptr_null(vc_mem_ptr(&mem, gpa + 8, 0x1ff9));
		ck_assert_ptr_null(vc_mem_ptr(&mem, gpa + 8, UINT64_MAX));
	}
	ck_assert_ptr_null(vc_mem_find(&mem, UINT64_MAX));
	uint32_t id7 = slot[7]->id, id3 = slot[3]->id;
	remove_slot(slot[7]);
	remove_slot(slot[3]);
	ck_assert_int_eq(add(0x1000000, 0x1000, VCORE_MEM_RWX, &extra), 0);
	ck_assert_uint_eq(extra->id, id3 < id7 ? id3 : id7);
	mem.max_slots = 20;
	ck_assert_int_eq(add(0x2000000, 0x1000, VCORE_MEM_RWX, NULL), 0);
	ck_assert_int_eq(add(0x3000000, 0x1000, VCORE_MEM_RWX, NULL), -ENOSPC);
	ck_assert(message_has("20"));
}
END_TEST

START_TEST(test_nothing_is_committed)
{
	struct vc_slot *slot, *now;
	const struct vcore_memory_options memfd = {.size = sizeof memfd, .kind = VCORE_MEMORY_MEMFD};

	/* far more than the host has */
	mem.want_pages = true;
	ck_assert_int_eq(add(0, VC_GIB(512), VCORE_MEM_RWX, &slot), 0);
	ck_assert_ptr_nonnull(slot->pages);
	ck_assert_uint_eq(slot->pages[VC_GIB(512) / 4096 - 1].code_mask, 0);
	ck_assert_uint_eq((uintptr_t)slot->hva % VC_MIB(2), 0);
	remove_slot(slot);
	mem.want_pages = false;
	ck_assert_int_eq(add(0x1000, VC_MIB(8), VCORE_MEM_RWX, &slot), 0);
	ck_assert_ptr_null(slot->pages);
	ck_assert_uint_eq(resident(slot), 0);
	ck_assert_uint_eq((uintptr_t)slot->hva % VC_MIB(2), 0x1000); /* as the guest address */
	ck_assert_int_eq(add(VC_MIB(16), VC_MIB(4), VCORE_MEM_RWX | VCORE_MEM_PREALLOC | VCORE_MEM_THP, &now), 0);
	ck_assert_uint_eq(resident(now), VC_MIB(4) / 4096);
	remove_slot(now);
	ck_assert_int_eq(vc_mem_add(&mem, NULL, VC_MIB(16), VC_MIB(4), VCORE_MEM_RWX | VCORE_MEM_PREALLOC, &memfd, &now),
	                 0);
	ck_assert_uint_eq(resident(now), VC_MIB(4) / 4096);
}
END_TEST

START_TEST(test_memfd)
{
	const struct vcore_memory_options o = {.size = sizeof o, .kind = VCORE_MEMORY_MEMFD};
	struct vc_slot *slot;
	uint8_t byte = 0;

	ck_assert_int_eq(vc_mem_add(&mem, NULL, 0, VC_MIB(4), VCORE_MEM_RWX, &o, &slot), 0);
	ck_assert_int_ge(slot->fd, 0);
	ck_assert_int_eq(vc_mem_write(&mem, 0x3000, "Z", 1), 0);
	ck_assert_int_eq(pread(slot->fd, &byte, 1, 0x3000), 1);
	ck_assert_uint_eq(byte, 'Z');
	/* whoever gets the descriptor cannot pull the memory from under us */
	ck_assert_int_eq(ftruncate(slot->fd, 0), -1);
	ck_assert_uint_eq(fcntl(slot->fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	int fd = slot->fd;
	remove_slot(slot);
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
}
END_TEST

static int make_file(int flags, size_t length)
{
	char path[] = "/tmp/virtcore-test-XXXXXX";
	int fd = mkstemp(path), again;

	ck_assert_int_ge(fd, 0);
	for (size_t at = 0; at < length; at += 0x1000)
		ck_assert_int_eq(pwrite(fd, "file", 4, (off_t)at), 4);
	ck_assert_int_eq(ftruncate(fd, (off_t)length), 0);
	again = open(path, flags | O_CLOEXEC);
	ck_assert_int_ge(again, 0);
	close(fd);
	unlink(path);
	return again;
}

START_TEST(test_file)
{
	struct vcore_memory_options o = {
	    .size = sizeof o, .kind = VCORE_MEMORY_FILE, .fd = make_file(O_RDWR, 0x4800), .offset = 0x1000};
	struct vc_slot *slot;
	char text[5] = "";

	/* 0x3000 + the last, partly filled page */
	ck_assert_int_eq(vc_mem_add(&mem, NULL, 0x10000, 0x4000, VCORE_MEM_RWX | VCORE_MEM_PREALLOC, &o, &slot), 0);
	ck_assert_int_ne(slot->fd, o.fd);
	ck_assert_int_eq(vc_mem_read(&mem, 0x13000, text, 4), 0);
	ck_assert_str_eq(text, "file");
	ck_assert_int_eq(vc_mem_write(&mem, 0x10000, "mem!", 4), 0);
	ck_assert_int_eq(pread(o.fd, text, 4, 0x1000), 4);
	ck_assert_str_eq(text, "mem!");
	ck_assert_int_eq(vc_mem_add(&mem, NULL, 0x20000, 0x5000, VCORE_MEM_RWX, &o, NULL), -EINVAL);
	o.offset = 0x800;
	ck_assert_int_eq(vc_mem_add(&mem, NULL, 0x20000, 0x1000, VCORE_MEM_RWX, &o, NULL), -EINVAL);
	o.offset = UINT64_MAX - 0xfff;
	ck_assert_int_eq(vc_mem_add(&mem, NULL, 0x20000, 0x1000, VCORE_MEM_RWX, &o, NULL), -EINVAL);
	o.offset = 0;
	ck_assert_int_eq(vc_mem_add(&mem, NULL, VC_MIB(2), VC_MIB(2), VCORE_MEM_RWX | VCORE_MEM_HUGE_2M, &o, NULL),
	                 -EINVAL);
	close(o.fd);
	ck_assert_int_eq(vc_mem_add(&mem, NULL, 0x20000, 0x1000, VCORE_MEM_RWX, &o, NULL), -EBADF);
	ck_assert_int_eq(vc_mem_read(&mem, 0x12000, text, 4), 0); /* our own descriptor lives on */
}
END_TEST

START_TEST(test_private_file)
{
	struct vcore_memory_options o = {
	    .size = sizeof o, .kind = VCORE_MEMORY_PRIVATE_FILE, .fd = make_file(O_RDONLY, 0x2000)};
	char text[5] = "";

	/* populating must neither change nor lose what is in the file */
	ck_assert_int_eq(vc_mem_add(&mem, NULL, 0, 0x2000, VCORE_MEM_RWX | VCORE_MEM_PREALLOC, &o, NULL), 0);
	ck_assert_int_eq(vc_mem_read(&mem, 0x1000, text, 4), 0);
	ck_assert_str_eq(text, "file");
	ck_assert_int_eq(vc_mem_write(&mem, 0x1000, "mine", 4), 0);
	ck_assert_int_eq(pread(o.fd, text, 4, 0x1000), 4);
	ck_assert_str_eq(text, "file");
	ck_assert_int_eq(vc_mem_read(&mem, 0x1000, text, 4), 0);
	ck_assert_str_eq(text, "mine");
	close(o.fd);
}
END_TEST

START_TEST(test_read_only)
{
	struct vcore_memory_options o = {.size = sizeof o, .kind = VCORE_MEMORY_FILE, .fd = make_file(O_RDONLY, 0x2000)};
	struct vc_slot *slot;

	/* a guest's ROM: the host may fill it */
	ck_assert_int_eq(add(0, 0x1000, VCORE_MEM_RX, &slot), 0);
	ck_assert(!slot->host_readonly);
	ck_assert_int_eq(vc_mem_write(&mem, 0, "rom", 3), 0);
	ck_assert_mem_eq(slot->hva, "rom", 3);
	/* a file that was opened for reading cannot be RAM, but ROM, which the host must not write either */
	ck_assert_int_eq(vc_mem_add(&mem, NULL, 0x1000, 0x2000, VCORE_MEM_RWX, &o, NULL), -EACCES);
	ck_assert_int_eq(vc_mem_add(&mem, NULL, 0x1000, 0x2000, VCORE_MEM_RX | VCORE_MEM_PREALLOC, &o, &slot), 0);
	ck_assert(slot->host_readonly);
	ck_assert_int_eq(vc_mem_write(&mem, 0x1000, "x", 1), -EFAULT);
	ck_assert_int_eq(vc_mem_write(&mem, 0xfff, "xy", 2), -EFAULT);
	ck_assert_int_eq(vc_mem_fill(&mem, 0x1800, 0, 1), -EFAULT);
	ck_assert_uint_eq(((uint8_t *)vc_mem_ptr(&mem, 0xfff, 1))[0], 0); /* nothing was written */
	ck_assert_mem_eq(vc_mem_ptr(&mem, 0x2000, 4), "file", 4);
	close(o.fd);
}
END_TEST

START_TEST(test_pointer)
{
	uint8_t *own = aligned_alloc(4096, 0x4000);
	struct vcore_memory_options o = {.size = sizeof o, .kind = VCORE_MEMORY_POINTER, .pointer = own};
	struct vc_slot *slot;

	memset(own, 0x5a, 0x4000);
	ck_assert_int_eq(vc_mem_add(&mem, NULL, 0, 0x4000, VCORE_MEM_RWX | VCORE_MEM_PREALLOC, &o, &slot), 0);
	ck_assert_ptr_eq(vc_mem_ptr(&mem, 0x10, 1), own + 0x10);
	for (int i = 0; i < 0x4000; i++)
		ck_assert_uint_eq(own[i], 0x5a);
	remove_slot(slot);
	own[0x3fff] = 1; /* still there */
	o.pointer = own + 16;
	ck_assert_int_eq(vc_mem_add(&mem, NULL, 0, 0x1000, VCORE_MEM_RWX, &o, NULL), -EINVAL);
	o.pointer = NULL;
	ck_assert_int_eq(vc_mem_add(&mem, NULL, 0, 0x1000, VCORE_MEM_RWX, &o, NULL), -EINVAL);
	o.pointer = (void *)(UINTPTR_MAX - 0xfff);
	ck_assert_int_eq(vc_mem_add(&mem, NULL, 0, 0x2000, VCORE_MEM_RWX, &o, NULL), -EINVAL);
	o.pointer = own;
	ck_assert_int_eq(vc_mem_add(&mem, NULL, 0, VC_MIB(2), VCORE_MEM_RWX | VCORE_MEM_HUGE_2M, &o, NULL), -EINVAL);
	o.kind = 5;
	ck_assert_int_eq(vc_mem_add(&mem, NULL, 0, 0x1000, VCORE_MEM_RWX, &o, NULL), -EINVAL);
	/* options of an older caller: pointer and all behind it are not there */
	o.size = 8;
	o.kind = VCORE_MEMORY_ANON;
	ck_assert_int_eq(vc_mem_add(&mem, NULL, 0, 0x1000, VCORE_MEM_RWX, &o, NULL), 0);
	o.size = 0;
	ck_assert_int_eq(vc_mem_add(&mem, NULL, 0x1000, 0x1000, VCORE_MEM_RWX, &o, NULL), -EINVAL);
	ck_assert_uint_eq(mem.count, 1);
	free(own);
}
END_TEST

START_TEST(test_attributes)
{
	struct rlimit none = {0, 0};
	struct vc_slot *slot;
	int r = add(0, 0x10000, VCORE_MEM_RWX | VCORE_MEM_LOCKED, &slot);

	if (!r) {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* their mlock does nothing */
		ck_assert_uint_eq(resident(slot), 16);
#endif
		remove_slot(slot);
	} else {
		ck_assert(r == -EPERM || r == -ENOMEM);
	}
	if (geteuid()) {
		setrlimit(RLIMIT_MEMLOCK, &none);
		r = add(0, 0x10000, VCORE_MEM_RWX | VCORE_MEM_LOCKED, NULL);
		ck_assert(r == -EPERM || r == -ENOMEM);
		ck_assert(message_has("RLIMIT_MEMLOCK"));
	}
	r = add(0, VC_MIB(4), VCORE_MEM_RWX | VCORE_MEM_MERGEABLE | VCORE_MEM_THP, &slot);
	ck_assert(r == 0 || message_has("KSM"));
}
END_TEST

static long hugepages(const char *what)
{
	char path[128], text[32] = "0";
	int fd;

	snprintf(path, sizeof path, "/sys/kernel/mm/hugepages/hugepages-2048kB/%s", what);
	fd = open(path, O_RDONLY);
	if (fd >= 0) {
		ck_assert_int_gt(read(fd, text, sizeof text - 1), 0);
		close(fd);
	}
	return atol(text);
}

START_TEST(test_huge_pages)
{
	const struct vcore_memory_options memfd = {.size = sizeof memfd, .kind = VCORE_MEMORY_MEMFD};
	struct vc_slot *slot;

	/* more than any host has: said at once, not by a SIGBUS later */
	ck_assert_int_eq(add(0, VC_GIB(4096), VCORE_MEM_RWX | VCORE_MEM_HUGE_2M, NULL), -ENOMEM);
	ck_assert(message_has("2048 KiB"));
	ck_assert_int_eq(vc_mem_add(&mem, NULL, 0, VC_GIB(4096), VCORE_MEM_RWX | VCORE_MEM_HUGE_1G, &memfd, NULL), -ENOMEM);
	ck_assert_uint_eq(mem.count, 0);
	if (hugepages("free_hugepages") - hugepages("resv_hugepages") < 2)
		return;
	ck_assert_int_eq(add(0, VC_MIB(2), VCORE_MEM_RWX | VCORE_MEM_HUGE_2M | VCORE_MEM_PREALLOC, &slot), 0);
	ck_assert_int_eq(vc_mem_fill(&mem, 0, 0xaa, VC_MIB(2)), 0);
	remove_slot(slot);
	ck_assert_int_eq(vc_mem_add(&mem, NULL, 0, VC_MIB(2), VCORE_MEM_RWX | VCORE_MEM_HUGE_2M, &memfd, &slot), 0);
	ck_assert_int_eq(vc_mem_write(&mem, VC_MIB(2) - 1, "x", 1), 0);
}
END_TEST

/* ---- populating ---- */

struct seen {
	unsigned calls;
	uint64_t last, end_at;
	pthread_t thread;
};

static int see(void *ctx, uint64_t done, uint64_t total)
{
	struct seen *seen = ctx;

	ck_assert(pthread_equal(pthread_self(), seen->thread));
	ck_assert_uint_ge(done, seen->last);
	ck_assert_uint_le(done, total);
	seen->calls++;
	seen->last = done;
	return seen->end_at && done >= seen->end_at;
}

static int add_now(uint64_t length, uint32_t kind, uint32_t threads, struct seen *seen, struct vc_slot **slot)
{
	const struct vcore_memory_options o = {
	    .size = sizeof o, .kind = kind, .prealloc_threads = threads, .progress = see, .progress_ctx = seen};

	seen->thread = pthread_self();
	return vc_mem_add(&mem, NULL, 0, length, VCORE_MEM_RWX | VCORE_MEM_PREALLOC, &o, slot);
}

static void populate_all(void)
{
	const uint64_t length = VC_MIB(40) + VC_PAGE_SIZE;

	for (uint32_t kind = VCORE_MEMORY_ANON; kind <= VCORE_MEMORY_MEMFD; kind++)
		for (uint32_t threads = 0; threads <= 4; threads++) {
			struct seen seen = {0};
			struct vc_slot *slot;

			ck_assert_int_eq(add_now(length, kind, threads, &seen, &slot), 0);
			ck_assert_uint_eq(resident(slot), length / VC_PAGE_SIZE);
			ck_assert_uint_eq(seen.last, length);
			ck_assert_uint_ge(seen.calls, 1);
			remove_slot(slot);
		}
}

START_TEST(test_populate)
{
	struct seen seen = {0};

	populate_all();
	ck_assert_int_eq(add_now(VC_MIB(1), VCORE_MEMORY_ANON, 65, &seen, NULL), -EINVAL);
	ck_assert(message_has("prealloc_threads is 65"));
	/* at the first word of it, and at the last */
	seen = (struct seen){.end_at = 1};
	ck_assert_int_eq(add_now(VC_MIB(64), VCORE_MEMORY_ANON, 1, &seen, NULL), -ECANCELED);
	ck_assert_uint_eq(seen.calls, 1);
	seen = (struct seen){.end_at = VC_MIB(64)};
	ck_assert_int_eq(add_now(VC_MIB(64), VCORE_MEMORY_ANON, 2, &seen, NULL), -ECANCELED);
	ck_assert(message_has("cancelled"));
	ck_assert_uint_eq(mem.count, 0);
}
END_TEST

/* A kernel before 5.14, as far as that can be played: madvise() knows no advice above 21. */
static bool forbid_populate(void)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
	    BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 21, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {VC_ARRAY_SIZE(code), code};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

START_TEST(test_populate_by_touching)
{
	/* for the rest of the process, which is this test's own */
	const char *fork_mode = getenv("CK_FORK");

	if ((fork_mode && !strcmp(fork_mode, "no")) || !forbid_populate())
		return;
	ck_assert_int_eq(madvise(NULL, 0, 23), -1);
	populate_all();
}
END_TEST

/* ---- NUMA ---- */

static int add_numa(const char *numa, uint32_t kind, struct vc_slot **slot)
{
	const struct vcore_memory_options o = {.size = sizeof o, .kind = kind, .numa = numa};

	return vc_mem_add(&mem, NULL, 0, VC_MIB(4), VCORE_MEM_RWX | VCORE_MEM_PREALLOC, &o, slot);
}

START_TEST(test_numa)
{
	static const struct {
		const char *text;
		int mode;
	} good[] = {{"bind:0", MPOL_BIND}, {"interleave:0", MPOL_INTERLEAVE}, {"preferred:0", MPOL_PREFERRED}};
	static const char *const wrong[] = {"",         "bind",    "bind:",   "bind:x", "bind:1024",
	                                    "bind:1-0", "local:0", "bind:0,", "bin:0"};

	for (size_t i = 0; i < VC_ARRAY_SIZE(wrong); i++) {
		ck_assert_int_eq(add_numa(wrong[i], VCORE_MEMORY_ANON, NULL), -EINVAL);
		ck_assert(message_has("expected bind, interleave"));
	}
	for (uint32_t kind = VCORE_MEMORY_ANON; kind <= VCORE_MEMORY_MEMFD; kind++)
		for (size_t i = 0; i < VC_ARRAY_SIZE(good); i++) {
			struct vc_slot *slot;
			int mode = -1, r = add_numa(good[i].text, kind, &slot);

			if (r == -ENOTSUP || r == -EPERM) {
				printf("SKIP: %s\n", vcore_error_message());
				return;
			}
			ck_assert_msg(r == 0, "%s", vcore_error_message());
			ck_assert_int_eq(syscall(SYS_get_mempolicy, &mode, NULL, 0, slot->hva, MPOL_F_ADDR), 0);
			ck_assert_int_eq(mode, good[i].mode);
			remove_slot(slot);
		}
	ck_assert_int_eq(add_numa("bind:1023", VCORE_MEMORY_ANON, NULL), -EINVAL);
	ck_assert(message_has("has_memory"));
	ck_assert_uint_eq(mem.count, 0);
}
END_TEST

/* ---- what it takes ---- */

static struct vcore_memory_stats usage_of(struct vc_slot *slot)
{
	struct vcore_memory_stats stats = {0};

	ck_assert_int_eq(vc_mem_usage(&slot, 1, &stats), 0);
	return stats;
}

START_TEST(test_usage)
{
	const struct vcore_memory_options memfd = {.size = sizeof memfd, .kind = VCORE_MEMORY_MEMFD};
	struct vcore_memory_stats stats, both[2] = {{0}};
	struct vc_slot *slot, *beside, *shared, *pair[2];
	uint8_t *again;

	/* side by side in the guest, and likely so in the host */
	ck_assert_int_eq(add(0, VC_MIB(1), VCORE_MEM_RWX, &slot), 0);
	ck_assert_int_eq(add(VC_MIB(1), VC_MIB(1), VCORE_MEM_RWX | VCORE_MEM_PREALLOC, &beside), 0);
	stats = usage_of(slot);
	ck_assert_uint_eq(stats.total, VC_MIB(1));
	ck_assert_uint_eq(stats.shared, 0);
	ck_assert_int_eq(vc_mem_fill(&mem, 0, 1, 5 * VC_PAGE_SIZE), 0);
	pair[0] = slot;
	pair[1] = beside;
	ck_assert_int_eq(vc_mem_usage(pair, 2, both), 0);
	ck_assert_uint_ge(both[0].resident + both[1].resident, VC_MIB(1) + 4 * VC_PAGE_SIZE);
	ck_assert_uint_le(both[0].resident + both[1].resident, VC_MIB(2));

	ck_assert_int_eq(vc_mem_add(&mem, NULL, VC_MIB(4), VC_MIB(1), VCORE_MEM_RWX, &memfd, &shared), 0);
	ck_assert_uint_eq(usage_of(shared).resident, 0);
	ck_assert_int_eq(vc_mem_fill(&mem, VC_MIB(4), 1, 8 * VC_PAGE_SIZE), 0);
	ck_assert_uint_eq(usage_of(shared).resident, 8 * VC_PAGE_SIZE);
	ck_assert_uint_eq(usage_of(shared).shared, 0);
	again = mmap(NULL, VC_MIB(1), PROT_READ, MAP_SHARED | MAP_POPULATE, shared->fd, 0);
	ck_assert_ptr_ne(again, MAP_FAILED);
	ck_assert_uint_ge(usage_of(shared).shared, 8 * VC_PAGE_SIZE);
	munmap(again, VC_MIB(1));
	ck_assert_int_eq(vc_mem_discard(&mem, VC_MIB(4), VC_MIB(1)), 0);
	ck_assert_uint_eq(usage_of(shared).resident, 0);
}
END_TEST

START_TEST(test_usage_huge)
{
	struct vcore_memory_stats stats;
	struct vc_slot *slot;

	if (hugepages("free_hugepages") - hugepages("resv_hugepages") >= 2) {
		ck_assert_int_eq(add(0, VC_MIB(4), VCORE_MEM_RWX | VCORE_MEM_HUGE_2M | VCORE_MEM_PREALLOC, &slot), 0);
		stats = usage_of(slot);
		ck_assert_uint_eq(stats.resident, VC_MIB(4));
		ck_assert_uint_eq(stats.huge, VC_MIB(4));
		remove_slot(slot);
	}
	/* the host may have no large page at hand */
	ck_assert_int_eq(add(0, VC_MIB(8), VCORE_MEM_RWX | VCORE_MEM_THP | VCORE_MEM_PREALLOC, &slot), 0);
	stats = usage_of(slot);
	ck_assert_uint_eq(stats.resident, VC_MIB(8));
	ck_assert_uint_le(stats.huge, VC_MIB(8));
	ck_assert_uint_eq(stats.huge % VC_MIB(2), 0);
	printf("transparent huge pages: %llu of 8 MiB\n", (unsigned long long)stats.huge >> 20);
}
END_TEST

START_TEST(test_copies)
{
	uint8_t out[0x3000], in[0x3000];

	ck_assert_int_eq(add(0x1000, 0x1000, VCORE_MEM_RWX, NULL), 0);
	ck_assert_int_eq(add(0x2000, 0x2000, VCORE_MEM_RX, NULL), 0);
	ck_assert_int_eq(add(0x5000, 0x1000, VCORE_MEM_RWX, NULL), 0);
	for (size_t i = 0; i < sizeof in; i++)
		in[i] = (uint8_t)(i * 7);
	ck_assert_int_eq(vc_mem_write(&mem, 0x1000, in, sizeof in), 0);
	ck_assert_int_eq(vc_mem_read(&mem, 0x1000, out, sizeof out), 0);
	ck_assert_mem_eq(in, out, sizeof in);
	/* a hole: nothing moves, its first address is named */
	memset(out, 0xee, sizeof out);
	ck_assert_int_eq(vc_mem_read(&mem, 0x3f00, out, 0x1200), -EFAULT);
	ck_assert(message_has("0x4000"));
	ck_assert_uint_eq(out[0], 0xee);
	ck_assert_int_eq(vc_mem_write(&mem, 0x3f00, out, 0x1200), -EFAULT);
	ck_assert_int_eq(vc_mem_read(&mem, 0x3f00, out, 1), 0);
	ck_assert_uint_eq(out[0], in[0x2f00]);
	ck_assert_int_eq(vc_mem_fill(&mem, 0x1ff0, 0x77, 0x20), 0);
	ck_assert_int_eq(vc_mem_read(&mem, 0x1fef, out, 0x22), 0);
	ck_assert_uint_eq(out[0], in[0xfef]);
	ck_assert_uint_eq(out[1], 0x77);
	ck_assert_uint_eq(out[0x20], 0x77);
	ck_assert_uint_eq(out[0x21], in[0x1010]);
	ck_assert_int_eq(vc_mem_read(&mem, UINT64_MAX, out, 2), -EFAULT);
	ck_assert_int_eq(vc_mem_read(&mem, 0x1000, out, UINT64_MAX), -EFAULT);
	ck_assert_int_eq(vc_mem_read(&mem, 0x999999, NULL, 0), 0);
}
END_TEST

/* ---- the backend's ear ---- */

struct ear {
	int adds, removes, logs_on, logs_off, syncs, refuse_add, refuse_log, in_table_at_add;
	uint64_t written_gpa, written_length;
	bool outside_section;
};

static void check_section(struct ear *e)
{
	if (!atomic_load(&gate.closed))
		e->outside_section = true;
}

static int on_add(void *ctx, struct vc_slot *slot)
{
	struct ear *e = ctx;

	check_section(e);
	e->adds++;
	e->in_table_at_add += vc_mem_find(&mem, slot->gpa) != NULL;
	return e->refuse_add ? vc_fail(e->refuse_add, "no") : 0;
}

static void on_remove(void *ctx, struct vc_slot *slot)
{
	struct ear *e = ctx;

	check_section(e);
	e->removes++;
	slot->hva[0] = 1; /* the memory is still there */
}

static int on_log(void *ctx, struct vc_slot *slot, bool enable)
{
	struct ear *e = ctx;

	check_section(e);
	ck_assert_ptr_nonnull((void *)atomic_load(&slot->dirty));
	*(enable ? &e->logs_on : &e->logs_off) += 1;
	return e->refuse_log ? vc_fail(e->refuse_log, "no") : 0;
}

static int on_sync(void *ctx, struct vc_slot *slot)
{
	struct ear *e = ctx;

	check_section(e);
	e->syncs++;
	vc_mem_mark_dirty(slot, slot->gpa + 5 * 4096, 1); /* what the backend knew */
	return 0;
}

static void on_written(void *ctx, struct vc_slot *slot, uint64_t gpa, uint64_t length)
{
	struct ear *e = ctx;

	e->written_gpa = gpa;
	e->written_length = length;
}

static const struct vc_mem_listener listener = {
    .add = on_add, .remove = on_remove, .log_dirty = on_log, .sync_dirty = on_sync, .written = on_written};

START_TEST(test_listener)
{
	struct ear e = {0};
	struct vc_slot *slot;

	mem.listener = &listener;
	mem.listener_ctx = &e;
	ck_assert_int_eq(add(0, 0x10000, VCORE_MEM_RWX, &slot), 0);
	ck_assert_int_eq(e.adds, 1);
	ck_assert_int_eq(e.in_table_at_add, 0);
	e.refuse_add = ENOSPC;
	ck_assert_int_eq(add(0x10000, 0x1000, VCORE_MEM_RWX, NULL), -ENOSPC);
	ck_assert_uint_eq(mem.count, 1);
	e.refuse_add = 0;
	e.refuse_log = ENOTSUP;
	ck_assert_int_eq(add(0x10000, 0x1000, VCORE_MEM_RWX | VCORE_MEM_LOG_DIRTY, NULL), -ENOTSUP);
	ck_assert_uint_eq(mem.count, 1);
	ck_assert_int_eq(e.removes, 1);
	ck_assert_int_eq(vc_mem_log_dirty(&mem, NULL, slot, VC_LOG_PROGRAM, true), -ENOTSUP);
	ck_assert_ptr_null((void *)slot->dirty);
	e.refuse_log = 0;
	ck_assert_int_eq(vc_mem_write(&mem, 0x123, "abc", 3), 0);
	ck_assert_uint_eq(e.written_gpa, 0x123);
	ck_assert_uint_eq(e.written_length, 3);
	remove_slot(slot);
	ck_assert_int_eq(e.removes, 2);
	ck_assert(!e.outside_section);
	mem.listener = NULL;
}
END_TEST

START_TEST(test_dirty_log)
{
	struct ear e = {0};
	struct vc_slot *slot;
	uint64_t bits[3];
	uint8_t unaligned[1 + sizeof bits];

	mem.listener = &listener;
	mem.listener_ctx = &e;
	ck_assert_int_eq(add(0x100000, 150 * 4096, VCORE_MEM_RWX, &slot), 0);
	vc_mem_mark_dirty(slot, 0x100000, 4096); /* off: no effect */
	ck_assert_int_eq(vc_mem_get_dirty(&mem, NULL, slot, VC_LOG_PROGRAM, bits, sizeof bits), -EINVAL);
	ck_assert_int_eq(vc_mem_log_dirty(&mem, NULL, slot, VC_LOG_PROGRAM, true), 0);
	ck_assert_int_eq(vc_mem_log_dirty(&mem, NULL, slot, VC_LOG_PROGRAM, true), 0);
	ck_assert_int_eq(e.logs_on, 1);
	ck_assert_int_eq(vc_mem_get_dirty(&mem, NULL, slot, VC_LOG_PROGRAM, bits, 16), -EINVAL);
	ck_assert_int_eq(vc_mem_get_dirty(&mem, NULL, slot, VC_LOG_PROGRAM, NULL, 100), -EINVAL);
	ck_assert_int_eq(e.syncs, 0);
	vc_mem_mark_dirty(slot, 0x100000, 0);
	ck_assert_int_eq(vc_mem_write(&mem, 0x100fff, "ab", 2), 0);                 /* pages 0, 1 */
	ck_assert_int_eq(vc_mem_fill(&mem, 0x100000 + 62 * 4096, 1, 70 * 4096), 0); /* 62-131 */
	vc_mem_mark_dirty(slot, 0x100000 + 149 * 4096 + 4095, 1);                   /* the last */
	ck_assert_int_eq(vc_mem_get_dirty(&mem, NULL, slot, VC_LOG_PROGRAM, bits, sizeof bits), 2 + 1 + 70 + 1);
	ck_assert_uint_eq(bits[0], 3ull << 62 | 1 << 5 | 3);
	ck_assert_uint_eq(bits[1], UINT64_MAX);
	ck_assert_uint_eq(bits[2], 0xf | 1ull << (149 - 128));
	ck_assert_int_eq(e.syncs, 1);
	/* cleared but for what the backend tells anew; the place need not be aligned */
	ck_assert_int_eq(vc_mem_get_dirty(&mem, NULL, slot, VC_LOG_PROGRAM, unaligned + 1, sizeof bits), 1);
	ck_assert_uint_eq(vc_ld64(unaligned + 1), 1 << 5);
	ck_assert_int_eq(vc_mem_log_dirty(&mem, NULL, slot, VC_LOG_PROGRAM, false), 0);
	ck_assert_int_eq(vc_mem_log_dirty(&mem, NULL, slot, VC_LOG_PROGRAM, false), 0);
	ck_assert_int_eq(e.logs_off, 1);
	ck_assert_int_eq(vc_mem_get_dirty(&mem, NULL, slot, VC_LOG_PROGRAM, bits, sizeof bits), -EINVAL);
	ck_assert_int_eq(add(0, 0x1000, VCORE_MEM_RWX | VCORE_MEM_LOG_DIRTY, &slot), 0);
	ck_assert_int_eq(e.logs_on, 2);
	ck_assert_int_eq(vc_mem_write(&mem, 0, "x", 1), 0);
	mem.listener = NULL;
	ck_assert_int_eq(vc_mem_get_dirty(&mem, NULL, slot, VC_LOG_PROGRAM, bits, sizeof bits), 1);
	ck_assert(!e.outside_section);
}
END_TEST

/* ---- threads: writers from outside, a vcpu inside, changes of the map ---- */

static _Atomic uint32_t stop, wrong;

static void *write_always(void *arg)
{
	uint64_t value = 0;

	while (!atomic_load(&stop)) {
		uint64_t back = 0;
		value++;
		/* slot 0 is always there, the other one comes and goes */
		if (vc_mem_write(&mem, 0x100, &value, 8) || vc_mem_read(&mem, 0x100, &back, 8) || back != value)
			atomic_fetch_add(&wrong, 1);
		vc_mem_fill(&mem, 0x800000, 1, 0x1000);
	}
	return NULL;
}

static void *look_inside(void *arg)
{
	struct vc_pass *pass = arg;

	vc_gate_enter(pass);
	while (!atomic_load(&stop)) {
		uint8_t *p = vc_mem_ptr(&mem, 0x801000, 8);
		if (p)
			((volatile uint8_t *)p)[64] = 1;
		if (!vc_mem_ptr(&mem, 0x2000, 8))
			atomic_fetch_add(&wrong, 1);
		if (vc_gate_wanted(pass)) {
			vc_gate_leave(pass);
			vc_gate_enter(pass);
		}
	}
	vc_gate_leave(pass);
	return NULL;
}

START_TEST(test_threads)
{
	struct vc_slot *fixed, *slot;
	struct vc_pass pass;
	pthread_t writer, vcpu;
	uint64_t bits[4];

	atomic_store(&stop, 0);
	vc_gate_add(&gate, &pass, NULL, NULL);
	ck_assert_int_eq(add(0, 0x10000, VCORE_MEM_RWX, &fixed), 0);
	ck_assert_int_eq(pthread_create(&writer, NULL, write_always, NULL), 0);
	ck_assert_int_eq(pthread_create(&vcpu, NULL, look_inside, &pass), 0);
	for (int i = 0; i < 300; i++) {
		ck_assert_int_eq(add(0x800000, 0x2000, VCORE_MEM_RWX, &slot), 0);
		ck_assert_int_eq(vc_mem_log_dirty(&mem, NULL, fixed, VC_LOG_PROGRAM, true), 0);
		ck_assert_int_ge(vc_mem_get_dirty(&mem, NULL, fixed, VC_LOG_PROGRAM, bits, sizeof bits), 0);
		ck_assert_int_eq(vc_mem_log_dirty(&mem, NULL, fixed, VC_LOG_PROGRAM, false), 0);
		remove_slot(slot);
	}
	atomic_store(&stop, 1);
	pthread_join(writer, NULL);
	pthread_join(vcpu, NULL);
	ck_assert_uint_eq(wrong, 0);
	vc_gate_remove(&gate, &pass);
}
END_TEST

/* A pin keeps memory that was removed; its last one lets it go. */
START_TEST(test_pins)
{
	struct vc_slot *slot, *pinned;
	uint64_t version;

	ck_assert_int_eq(add(0x10000, 0x4000, VCORE_MEM_RWX, &slot), 0);
	ck_assert_ptr_null(vc_mem_pin(&mem, 0xffff));
	ck_assert_ptr_null(vc_mem_pin(&mem, 0x14000));
	pinned = vc_mem_pin(&mem, 0x13fff);
	ck_assert_ptr_eq(pinned, slot);
	ck_assert_ptr_eq(vc_mem_pin(&mem, 0x10000), slot);
	version = atomic_load(&mem.version);
	remove_slot(slot);
	ck_assert_uint_ne(atomic_load(&mem.version), version);
	ck_assert_ptr_null(vc_mem_pin(&mem, 0x10000));
	memset(pinned->hva, 0x55, pinned->length);
	vc_mem_wrote(pinned, 0x10000, 0x4000);
	vc_mem_unpin(pinned);
	ck_assert_uint_eq(pinned->hva[0x3fff], 0x55);
	vc_mem_unpin(pinned);
}
END_TEST

START_TEST(test_discard)
{
	struct vc_slot *slot, *rom;

	ck_assert_int_eq(add(0, 0x8000, VCORE_MEM_RWX | VCORE_MEM_LOG_DIRTY, &slot), 0);
	ck_assert_int_eq(add(0x8000, 0x1000, VCORE_MEM_RX, &rom), 0);
	memset(slot->hva, 1, 0x8000);
	memset(rom->hva, 1, 0x1000);
	ck_assert_int_eq(vc_mem_discard(&mem, 0x1800, 0x7800), 0);
	ck_assert_uint_eq(resident(slot), 2);
	ck_assert_uint_eq(slot->hva[0x1fff], 1);
	ck_assert_uint_eq(slot->hva[0x2000], 0);
	ck_assert_uint_eq(rom->hva[0], 1);
	ck_assert_int_eq(vc_mem_discard(&mem, 0x8000, 0x1001), -EFAULT);
	ck_assert(message_has("0x9000"));
}
END_TEST

/* The guest's storage is not thrown away. */
START_TEST(test_keep)
{
	struct vc_slot *slot;

	ck_assert_int_eq(add(0, VC_MIB(1), VCORE_MEM_RWX, &slot), 0);
	slot->hva[5] = 1;
	atomic_store(&slot->keep, true);
	ck_assert_int_eq(vc_mem_discard(&mem, 0, VC_MIB(1)), 0);
	ck_assert_uint_eq(slot->hva[5], 1);
	atomic_store(&slot->keep, false);
	ck_assert_int_eq(vc_mem_discard(&mem, 0, VC_MIB(1)), 0);
	ck_assert_uint_eq(slot->hva[5], 0);
}
END_TEST

START_TEST(test_ranges)
{
	const uint64_t one = VC_GIB(1);
	uint64_t a = 0, b = 0, c = VC_GIB(7), d = 0;

	ck_assert_int_eq(add(VC_GIB(4), one / 2, VCORE_MEM_RWX, NULL), 0);
	ck_assert_int_eq(vc_mem_reserve(&mem, one, one, true, &a), 0);
	ck_assert_uint_eq(a, VC_GIB(5));
	/* in the gap before it, which a larger one does not fit in */
	ck_assert_int_eq(vc_mem_reserve(&mem, one / 4, VC_MIB(2), false, &b), 0);
	ck_assert_uint_eq(b, VC_GIB(4) + one / 2);
	ck_assert_int_eq(vc_mem_reserve(&mem, one, one, false, &c), 0);
	ck_assert_int_eq(vc_mem_reserve(&mem, 2 * one, one, false, &d), 0);
	ck_assert_uint_eq(d, VC_GIB(8));
	ck_assert_int_eq(vc_mem_reserve(&mem, one, one, false, &c), -EEXIST);
	c = VC_GIB(5) + one - VC_MIB(2);
	ck_assert_int_eq(vc_mem_reserve(&mem, VC_MIB(2), VC_MIB(2), false, &c), -EEXIST);
	c = 4096;
	ck_assert_int_eq(vc_mem_reserve(&mem, one, one, false, &c), -EINVAL);
	mem.place_end = VC_GIB(11);
	c = 0;
	ck_assert_int_eq(vc_mem_reserve(&mem, 2 * one, one, false, &c), -ENOSPC);
	ck_assert_int_eq(vc_mem_reserve(&mem, ~0ull, one, false, &c), -ENOSPC);
	c = VC_GIB(10);
	ck_assert_int_eq(vc_mem_reserve(&mem, 2 * one, one, false, &c), -EINVAL);
	ck_assert_int_eq(vc_mem_reserve(&mem, one, one, false, &c), 0);
	/* what is given up can be had again */
	vc_mem_unreserve(&mem, a);
	vc_mem_unreserve(&mem, 77);
	b = 0;
	ck_assert_int_eq(vc_mem_reserve(&mem, one, one, false, &b), 0);
	ck_assert_uint_eq(b, a);
	mem.place_end = 0;
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("memory");
	TCase *c = tcase_create("memory");

	tcase_set_timeout(c, 60);
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, test_refusals);
	tcase_add_test(c, test_overlap);
	tcase_add_test(c, test_ids_and_look_up);
	tcase_add_test(c, test_nothing_is_committed);
	tcase_add_test(c, test_memfd);
	tcase_add_test(c, test_file);
	tcase_add_test(c, test_private_file);
	tcase_add_test(c, test_read_only);
	tcase_add_test(c, test_pointer);
	tcase_add_test(c, test_attributes);
	tcase_add_test(c, test_huge_pages);
	tcase_add_test(c, test_populate);
	tcase_add_test(c, test_populate_by_touching);
	tcase_add_test(c, test_numa);
	tcase_add_test(c, test_usage);
	tcase_add_test(c, test_usage_huge);
	tcase_add_test(c, test_copies);
	tcase_add_test(c, test_listener);
	tcase_add_test(c, test_dirty_log);
	tcase_add_test(c, test_threads);
	tcase_add_test(c, test_pins);
	tcase_add_test(c, test_discard);
	tcase_add_test(c, test_keep);
	tcase_add_test(c, test_ranges);
	suite_add_tcase(suite, c);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
