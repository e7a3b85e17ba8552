/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory slots of every kind, refusals, changes while the guest runs, addresses, dirty log. */
#include "api.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define GPA 0x400000u
#define LEN 0x4000u

static const struct vcore_memory_options *kind(uint32_t kind)
{
	static struct vcore_memory_options o;

	o = (struct vcore_memory_options){.size = sizeof o, .kind = kind, .fd = -1};
	return &o;
}

/* The guest adds 1 to a byte of the slot. */
static void guest_increments(vcore_vm *vm, uint32_t gpa)
{
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE,
	         CODE_BYTES(0xfe, 0x05, gpa & 0xff, gpa >> 8 & 0xff, gpa >> 16 & 0xff, gpa >> 24 & 0xff, 0xf4));
	api_run(vm, VCORE_EXIT_HALT);
}

static int file_of(size_t length)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)length), 0);
	return fd;
}

START_TEST(kinds)
{
	vcore_vm *vm = api_vm(_i, 1);

	for (uint32_t k = VCORE_MEMORY_ANON; k <= VCORE_MEMORY_POINTER; k++) {
		struct vcore_memory_options o = *kind(k);
		struct vcore_slot_info info = {.size = sizeof info};
		uint8_t byte = 41, *own = NULL, *file;
		vcore_slot *slot = NULL;
		int fd = file_of(2 * LEN);

		if (k == VCORE_MEMORY_FILE || k == VCORE_MEMORY_PRIVATE_FILE) {
			o.fd = fd;
			o.offset = LEN;
		} else if (k == VCORE_MEMORY_POINTER) {
			own = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			o.pointer = own;
		}
		OK(vcore_memory_add(vm, GPA, LEN, VCORE_MEM_RWX, &o, &slot));
		OK(vcore_memory_get_info(slot, &info));
		ck_assert(info.gpa == GPA && info.length == LEN && info.kind == k && info.hva);
		ck_assert_int_eq(info.fd >= 0, k != VCORE_MEMORY_ANON && k != VCORE_MEMORY_POINTER);
		ck_assert_int_ne(info.fd, fd); /* duplicated */
		ck_assert_uint_eq(info.offset, o.offset);
		OK(vcore_memory_write(vm, GPA + 0x1003, &byte, 1));
		guest_increments(vm, GPA + 0x1003);
		OK(vcore_memory_read(vm, GPA + 0x1003, &byte, 1));
		ck_assert_uint_eq(byte, 42);
		ck_assert_uint_eq(((uint8_t *)info.hva)[0x1003], 42);
		if (own)
			ck_assert_uint_eq(own[0x1003], 42);
		file = mmap(NULL, 2 * LEN, PROT_READ, MAP_SHARED, fd, 0);
		ck_assert_uint_eq(file[LEN + 0x1003], k == VCORE_MEMORY_FILE ? 42 : 0);
		munmap(file, 2 * LEN);
		close(fd);
		OK(vcore_memory_remove(slot));
		REFUSED(vcore_memory_read(vm, GPA, &byte, 1), EFAULT, "0x400000");
		if (own) {
			own[0] = 1; /* still the caller's */
			munmap(own, LEN);
		}
	}
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(attributes)
{
	static const uint32_t flags[] = {VCORE_MEM_THP,     VCORE_MEM_PREALLOC, VCORE_MEM_MERGEABLE, VCORE_MEM_LOCKED,
	                                 VCORE_MEM_HUGE_2M, VCORE_MEM_HUGE_1G,  VCORE_MEM_LOG_DIRTY};
	vcore_vm *vm = api_vm(_i, 1);

	for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
		struct vcore_slot_info info = {.size = sizeof info};
		vcore_slot *slot = NULL;
		int r = vcore_memory_add(vm, 1u << 30, flags[i] == VCORE_MEM_HUGE_1G ? 1u << 30 : RAM, VCORE_MEM_RWX | flags[i],
		                         NULL, &slot);

		/* what the host does not have is refused with a sentence */
		if (r < 0) {
			ck_assert(r == -ENOMEM || r == -EPERM || (r == -EINVAL && flags[i] == VCORE_MEM_MERGEABLE));
			ck_assert_ptr_nonnull(strstr(vcore_error_message(), "memory"));
			continue;
		}
		OK(vcore_memory_get_info(slot, &info));
		ck_assert_uint_eq(info.flags, VCORE_MEM_RWX | flags[i]);
		guest_increments(vm, 1u << 30);
		OK(vcore_memory_remove(slot));
	}
	vcore_vm_unref(vm);
}
END_TEST

/* Bytes that are touched are resident, and no others; more than the host has may be there. */
START_TEST(statistics)
{
	struct vcore_memory_stats stats = {.size = sizeof stats}, whole = stats, later = stats;
	vcore_vm *vm = api_vm(_i, 1);
	vcore_slot *slot;

	OK(vcore_memory_add(vm, 1ull << 32, 1ull << 35, VCORE_MEM_RWX, kind(VCORE_MEMORY_MEMFD), &slot));
	OK(vcore_memory_get_stats(slot, &stats));
	ck_assert_uint_eq(stats.total, 1ull << 35);
	ck_assert_uint_eq(stats.resident + stats.swapped + stats.locked + stats.ballooned, 0);
	OK(vcore_vm_memory_stats(vm, &whole));
	ck_assert_uint_eq(whole.total, (1ull << 35) + RAM);
	for (unsigned i = 0; i < 10; i++)
		OK(vcore_memory_write(vm, (1ull << 32) + i * 0x40000000ull, "x", 1));
	OK(vcore_memory_get_stats(slot, &stats));
	ck_assert_uint_eq(stats.resident + stats.swapped, 10 * 4096);
	OK(vcore_vm_memory_stats(vm, &later));
	ck_assert_uint_ge(later.resident + later.swapped, whole.resident + 10 * 4096);
	OK(vcore_memory_remove(slot));
	REFUSED(vcore_vm_memory_stats(NULL, &stats), EINVAL, "needed");
	REFUSED(vcore_memory_get_stats(NULL, &stats), EINVAL, "needed");
	stats.size = 2;
	REFUSED(vcore_vm_memory_stats(vm, &stats), EINVAL, "needed");
	vcore_vm_unref(vm);
}
END_TEST

static int count_calls(void *ctx, uint64_t done, uint64_t total)
{
	unsigned *calls = ctx;

	++*calls;
	return done > total;
}

START_TEST(of_the_machine)
{
	unsigned calls = 0;
	struct vcore_options o = {.size = sizeof o,
	                          .machine = VCORE_MACHINE_MICROVM,
	                          .backend = api_backend(_i),
	                          .memory = 64 << 20,
	                          .memory_flags = VCORE_MEM_PREALLOC,
	                          .memory_threads = 2,
	                          .memory_progress = count_calls,
	                          .memory_progress_ctx = &calls};
	struct vcore_memory_stats stats = {.size = sizeof stats};
	vcore_vm *vm;

	OK(vcore_vm_new(&o, &vm));
	ck_assert_uint_ge(calls, 2);
	OK(vcore_vm_memory_stats(vm, &stats));
	ck_assert_uint_eq(stats.resident + stats.swapped, 64 << 20);
	vcore_vm_unref(vm);
	o.memory_numa = "bind:x";
	REFUSED(vcore_vm_new(&o, &vm), EINVAL, "numa is 'bind:x'");
	o.memory_numa = NULL;
	o.memory_threads = 65;
	REFUSED(vcore_vm_new(&o, &vm), EINVAL, "prealloc_threads is 65");
}
END_TEST

START_TEST(refusals)
{
	struct vcore_memory_options o = *kind(9), unsized = {0};
	struct vcore_vm_info before = {.size = sizeof before}, after = {.size = sizeof after};
	static uint8_t room[2 * 4096];
	vcore_vm *vm = api_vm(_i, 1);
	vcore_slot *slot = NULL;
	int fd = file_of(LEN);

	OK(vcore_vm_get_info(vm, &before));
	REFUSED(vcore_memory_add(NULL, GPA, LEN, VCORE_MEM_RWX, NULL, &slot), EINVAL, "no vm");
	REFUSED(vcore_memory_add(vm, GPA + 1, LEN, VCORE_MEM_RWX, NULL, &slot), EINVAL, "0x400001");
	REFUSED(vcore_memory_add(vm, GPA, LEN + 1, VCORE_MEM_RWX, NULL, &slot), EINVAL, "0x4001");
	REFUSED(vcore_memory_add(vm, GPA, 0, VCORE_MEM_RWX, NULL, &slot), EINVAL, "empty");
	REFUSED(vcore_memory_add(vm, GPA, LEN, VCORE_MEM_RWX | VCORE_MEM_HUGE_2M, NULL, &slot), EINVAL, "0x200000");
	REFUSED(vcore_memory_add(vm, 1ull << 52, LEN, VCORE_MEM_RWX, NULL, &slot), EINVAL, "0x10000000000000");
	REFUSED(vcore_memory_add(vm, (1ull << 52) - 4096, LEN, VCORE_MEM_RWX, NULL, &slot), EINVAL, "end of at most");
	REFUSED(vcore_memory_add(vm, 0xfffffffffffff000, LEN, VCORE_MEM_RWX, NULL, &slot), EINVAL, "0xfffffffffffff000");
	REFUSED(vcore_memory_add(vm, GPA, LEN, VCORE_MEM_W, NULL, &slot), EINVAL, "flags are 0x2");
	REFUSED(vcore_memory_add(vm, GPA, LEN, VCORE_MEM_RWX | 1u << 31, NULL, &slot), EINVAL, "0x80000007");
	REFUSED(vcore_memory_add(vm, GPA, LEN, VCORE_MEM_RWX, &o, &slot), EINVAL, "kind is 9");
	REFUSED(vcore_memory_add(vm, GPA, LEN, VCORE_MEM_RWX, &unsized, &slot), EINVAL, "size");
	REFUSED(vcore_memory_add(vm, RAM - 4096, LEN, VCORE_MEM_RWX, NULL, &slot), EEXIST,
	        "[0x1ff000, +0x4000) overlaps slot [0, +");
	o.kind = VCORE_MEMORY_POINTER;
	REFUSED(vcore_memory_add(vm, GPA, LEN, VCORE_MEM_RWX, &o, &slot), EINVAL, "memory");
	o.pointer = room + 1;
	REFUSED(vcore_memory_add(vm, GPA, 4096, VCORE_MEM_RWX, &o, &slot), EINVAL, "memory");
	o.kind = VCORE_MEMORY_FILE;
	REFUSED(vcore_memory_add(vm, GPA, LEN, VCORE_MEM_RWX, &o, &slot), EBADF, "-1");
	o.fd = fd;
	o.offset = 12;
	REFUSED(vcore_memory_add(vm, GPA, LEN, VCORE_MEM_RWX, &o, &slot), EINVAL, "0xc");
	o.offset = 4096;
	REFUSED(vcore_memory_add(vm, GPA, LEN, VCORE_MEM_RWX, &o, &slot), EINVAL, "file has");
	REFUSED(vcore_memory_remove(NULL), EINVAL, "no slot");
	ck_assert_ptr_null(slot);
	OK(vcore_vm_get_info(vm, &after));
	ck_assert_uint_eq(before.slots, after.slots);
	ck_assert_uint_eq(before.memory, after.memory);
	close(fd);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(copies)
{
	uint8_t in[0x3000], out[sizeof in];
	uint64_t gpa = 0;
	void *pointer = NULL;
	vcore_vm *vm = api_vm(_i, 1);

	for (size_t i = 0; i < sizeof in; i++)
		in[i] = (uint8_t)(i * 7 + i / 256);
	/* across two neighbours */
	OK(vcore_memory_add(vm, GPA, 0x2000, VCORE_MEM_RWX, NULL, NULL));
	OK(vcore_memory_add(vm, GPA + 0x2000, 0x2000, VCORE_MEM_RX, NULL, NULL));
	OK(vcore_memory_write(vm, GPA + 0x800, in, sizeof in));
	OK(vcore_memory_read(vm, GPA + 0x800, out, sizeof out));
	ck_assert_mem_eq(in, out, sizeof in);
	OK(vcore_memory_read(vm, GPA, NULL, 0));
	/* nothing is written when not all can be */
	REFUSED(vcore_memory_write(vm, GPA + 0x3fff, "ab", 2), EFAULT, "0x404000");
	OK(vcore_memory_read(vm, GPA + 0x3fff, out, 1));
	ck_assert_uint_eq(out[0], 0);
	REFUSED(vcore_memory_read(vm, UINT64_MAX - 1, out, 8), EFAULT, "0xfffffffffffffffe");
	REFUSED(vcore_memory_read(vm, GPA, NULL, 1), EINVAL, "buffer");
	OK(vcore_memory_hva(vm, GPA + 0x1000, 0x1000, &pointer));
	ck_assert_mem_eq(pointer, in + 0x800, 0x1000);
	OK(vcore_memory_gpa(vm, (uint8_t *)pointer + 5, &gpa));
	ck_assert_uint_eq(gpa, GPA + 0x1005);
	REFUSED(vcore_memory_hva(vm, GPA + 0x1000, 0x1001, &pointer), EFAULT, "one memory slot");
	REFUSED(vcore_memory_hva(vm, GPA + 0x1000, SIZE_MAX, &pointer), EFAULT, "one memory slot");
	REFUSED(vcore_memory_gpa(vm, in, &gpa), EFAULT, "in no memory slot");
	vcore_vm_unref(vm);
}
END_TEST

/* Guest writes to a read-only slot are MMIO accesses; its memory stays as it is. */
START_TEST(read_only)
{
	struct vcore_exit exit;
	uint32_t value = 0x11223344, mode = 0;
	vcore_vm *vm = api_vm(_i, 1);

	OK(vcore_memory_add(vm, GPA, LEN, VCORE_MEM_RX, NULL, NULL));
	OK(vcore_memory_write(vm, GPA, &value, sizeof value));
	/* mov eax, [GPA]; mov [GPA], ecx; hlt */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xa1, 0, 0, 0x40, 0, 0x89, 0x0d, 0, 0, 0x40, 0, 0xf4));
	exit = api_run(vm, VCORE_EXIT_MMIO);
	ck_assert(exit.address == GPA && exit.is_write && exit.width == 4);
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(api_rax(vm), value);
	OK(vcore_memory_read(vm, GPA, &mode, sizeof mode));
	ck_assert_uint_eq(mode, value);
	vcore_vm_unref(vm);
}
END_TEST

/* Code that the program changes is executed as changed. */
START_TEST(written_code)
{
	vcore_vm *vm = api_vm(_i, 1);

	for (unsigned i = 1; i < 20; i++) {
		struct vcore_regs regs = {.size = sizeof regs, .rip = CODE, .rflags = 2};

		if (i == 1)
			api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xb8, 1, 0, 0, 0, 0xf4)); /* mov eax, i; hlt */
		OK(vcore_memory_write(vm, CODE + 1, &i, 4));
		OK(vcore_vcpu_set_regs(vcore_vm_vcpu(vm, 0), &regs));
		api_run(vm, VCORE_EXIT_HALT);
		ck_assert_uint_eq(api_rax(vm), i);
	}
	vcore_vm_unref(vm);
}
END_TEST

/* Slots come and go under a guest that writes to them; what it writes where none is, vanishes. */
START_TEST(changes_while_running)
{
	struct vcore_options o = {.vcpus = 2, .memory = RAM, .unhandled = VCORE_UNHANDLED_IGNORE};
	vcore_vm *vm = api_vm_with(_i, &o);

	for (uint32_t i = 0; i < 2; i++) /* inc dword [GPA]; inc dword [0x5000]; jmp */
		api_load(vm, i, VCORE_MODE_PROTECTED32, CODE,
		         CODE_BYTES(0xff, 0x05, 0, 0, 0x40, 0, 0xff, 0x05, 0, 0x50, 0, 0, 0xeb, 0xf2));
	OK(vcore_vm_start(vm));
	for (int round = 0; round < 60; round++) {
		uint32_t value = 0;
		vcore_slot *slot;

		OK(vcore_memory_add(vm, GPA, LEN, VCORE_MEM_RWX, NULL, &slot));
		for (int i = 0; i < 10000 && !value && round % 8 == 0; i++) {
			api_pause_ms(1);
			OK(vcore_memory_read(vm, GPA, &value, sizeof value));
		}
		ck_assert(value || round % 8);
		OK(vcore_memory_remove(slot));
	}
	OK(vcore_vm_stop(vm));
	OK(vcore_vm_wait(vm, LONG, NULL));
	vcore_vm_unref(vm);
}
END_TEST

static void remove_slot(struct api_device *d, struct vcore_io *io)
{
	OK(vcore_memory_remove(d->hook_ctx));
	OK(vcore_memory_add(vcore_vcpu_vm(io->vcpu), GPA + 0x10000, LEN, VCORE_MEM_RWX, NULL, NULL));
}

START_TEST(changes_from_a_callback)
{
	vcore_vm *vm = api_vm(_i, 1);
	struct api_device d = {.hook = remove_slot};
	vcore_slot *slot;

	OK(vcore_memory_add(vm, GPA, LEN, VCORE_MEM_RWX, NULL, &slot));
	d.hook_ctx = slot;
	OK(vcore_io_add(vm, VCORE_BUS_PIO, 0x10, 1, &api_device_ops, &d, NULL));
	/* inc dword [GPA]; out 0x10, al; inc dword [GPA + 0x10000]; mov eax, [GPA]; hlt */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE,
	         CODE_BYTES(0xff, 0x05, 0, 0, 0x40, 0, 0xe6, 0x10, 0xff, 0x05, 0, 0, 0x41, 0, 0xa1, 0, 0, 0x40, 0, 0xf4));
	ck_assert_uint_eq(api_run(vm, VCORE_EXIT_MMIO).address, GPA);
	vcore_vm_unref(vm);
}
END_TEST

/* ---- dirty log ---- */

#define PAGES 130
static uint64_t bitmap[(PAGES + 63) / 64];
static const uint8_t some[100];

static bool dirty(unsigned page)
{
	return bitmap[page / 64] >> (page % 64) & 1;
}

START_TEST(dirty_log)
{
	vcore_vm *vm = api_vm(_i, 1);
	vcore_slot *slot;

	OK(vcore_memory_add(vm, GPA, PAGES * 4096, VCORE_MEM_RWX, NULL, &slot));
	REFUSED(vcore_memory_get_dirty(slot, bitmap, sizeof bitmap), EINVAL, "off");
	guest_increments(vm, GPA + 5 * 4096);
	OK(vcore_memory_log_dirty(slot, true));
	OK(vcore_memory_log_dirty(slot, true));
	REFUSED(vcore_memory_get_dirty(slot, bitmap, sizeof bitmap - 1), EINVAL, "expected 24");
	REFUSED(vcore_memory_get_dirty(slot, NULL, sizeof bitmap), EINVAL, "bitmap");
	ck_assert_int_eq(vcore_memory_get_dirty(slot, bitmap, sizeof bitmap), 0);
	for (int round = 0; round < 3; round++) {
		guest_increments(vm, GPA + 5 * 4096);
		guest_increments(vm, GPA + 129 * 4096);
		OK(vcore_memory_write(vm, GPA + 63 * 4096 + 4000, some, sizeof some)); /* two pages, by the host */
		ck_assert_int_eq(vcore_memory_get_dirty(slot, bitmap, sizeof bitmap), 4);
		ck_assert(dirty(5) && dirty(129) && dirty(63) && dirty(64) && !dirty(6) && !dirty(0));
		ck_assert_int_eq(vcore_memory_get_dirty(slot, bitmap, sizeof bitmap), 0);
	}
	OK(vcore_memory_log_dirty(slot, false));
	REFUSED(vcore_memory_get_dirty(slot, bitmap, sizeof bitmap), EINVAL, "off");
	OK(vcore_memory_remove(slot));
	/* from the start, and removed with the log on */
	OK(vcore_memory_add(vm, GPA, PAGES * 4096, VCORE_MEM_RWX | VCORE_MEM_LOG_DIRTY, NULL, &slot));
	guest_increments(vm, GPA + 7 * 4096);
	ck_assert_int_eq(vcore_memory_get_dirty(slot, bitmap, sizeof bitmap), 1);
	ck_assert(dirty(7));
	OK(vcore_memory_remove(slot));
	vcore_vm_unref(vm);
}
END_TEST

/* No write is lost between two fetches of a running guest: every value it stored last is on a page told since. */
START_TEST(dirty_log_while_running)
{
	uint32_t seen = 0, now = 0, missed = 0;
	vcore_vm *vm = api_vm(_i, 1);
	vcore_slot *slot;

	OK(vcore_memory_add(vm, GPA, PAGES * 4096, VCORE_MEM_RWX | VCORE_MEM_LOG_DIRTY, NULL, &slot));
	/* inc dword [GPA]; jmp */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xff, 0x05, 0, 0, 0x40, 0, 0xeb, 0xf8));
	OK(vcore_vm_start(vm));
	for (int i = 0; i < 100; i++) {
		int64_t pages;

		api_pause_ms(1);
		OK(vcore_vm_pause(vm));
		OK(vcore_memory_read(vm, GPA, &now, sizeof now));
		pages = vcore_memory_get_dirty(slot, bitmap, sizeof bitmap);
		missed += now != seen && pages != 1;
		seen = now;
		OK(vcore_vm_resume(vm));
	}
	ck_assert_uint_eq(missed, 0);
	ck_assert_uint_gt(seen, 0);
	vcore_vm_unref(vm);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("memory");
	TCase *tcase = tcase_create("memory");

	tcase_set_timeout(tcase, 60);
	EACH(tcase, kinds);
	EACH(tcase, attributes);
	EACH(tcase, statistics);
	EACH(tcase, of_the_machine);
	EACH(tcase, refusals);
	EACH(tcase, copies);
	EACH(tcase, read_only);
	EACH(tcase, written_code);
	EACH(tcase, changes_while_running);
	EACH(tcase, changes_from_a_callback);
	EACH(tcase, dirty_log);
	EACH(tcase, dirty_log_while_running);
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
