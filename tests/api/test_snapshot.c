/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots, clones, going back: what is the same, what is shared, what is refused. */
#include "api.h"

#include <dirent.h>

#define COUNT 0x5000u

/* inc dword [COUNT]; hlt; jmp to the inc */
static const uint8_t counting[] = {0xff, 0x05, 0x00, 0x50, 0x00, 0x00, 0xf4, 0xeb, 0xf7};

static vcore_vm *counter(int backend)
{
	vcore_vm *vm = api_vm(backend, 1);

	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, counting, sizeof counting);
	return vm;
}

static uint32_t count_on(vcore_vm *vm, unsigned times)
{
	while (times-- > 0)
		api_run(vm, VCORE_EXIT_HALT);
	return api_word(vm, COUNT);
}

static vcore_snapshot *take(vcore_vm *vm)
{
	vcore_snapshot *s = NULL;

	OK(vcore_snapshot_take(vm, &s));
	ck_assert_ptr_nonnull(s);
	return s;
}

static vcore_vm *clone_of(vcore_snapshot *s)
{
	vcore_vm *vm = NULL;

	OK(vcore_snapshot_clone(s, NULL, &vm));
	ck_assert_uint_eq(api_state(vm), VCORE_VM_CREATED);
	return vm;
}

START_TEST(clones_go_their_own_way)
{
	vcore_vm *vm = counter(_i), *a, *b;
	vcore_snapshot *s;

	count_on(vm, 3);
	s = take(vm);
	a = clone_of(s);
	b = clone_of(s);
	ck_assert_uint_eq(count_on(vm, 4), 7);
	ck_assert_uint_eq(api_word(a, COUNT), 3);
	ck_assert_uint_eq(count_on(a, 1), 4);
	vcore_vm_unref(vm);
	vcore_snapshot_unref(s);
	/* neither depends on the original or the snapshot */
	ck_assert_uint_eq(count_on(b, 2), 5);
	ck_assert_uint_eq(count_on(a, 1), 5);
	vcore_vm_unref(a);
	vcore_vm_unref(b);
}
END_TEST

START_TEST(back_again_and_again)
{
	vcore_vm *vm = counter(_i);
	vcore_snapshot *s;
	uint64_t rip;

	count_on(vm, 2);
	s = take(vm);
	rip = api_rip(vm);
	for (unsigned n = 0; n < 1000; n++) {
		ck_assert_uint_eq(count_on(vm, 1 + n % 3), 3 + n % 3);
		OK(vcore_vm_reset_to(vm, s));
		ck_assert_uint_eq(api_word(vm, COUNT), 2);
		ck_assert_uint_eq(api_rip(vm), rip);
	}
	vcore_snapshot_unref(s);
	vcore_vm_unref(vm);
}
END_TEST

/* Pages here and there, written by the program: a later snapshot has just those, and both can be gone back to. */
START_TEST(chain)
{
	vcore_vm *vm = counter(_i), *twin;
	vcore_snapshot *s[8];
	struct vcore_snapshot_info info = {.size = sizeof info};

	for (uint32_t n = 0; n < 8; n++) {
		uint64_t page = 0x20000 + n * 0x3000;

		OK(vcore_memory_write(vm, page, &n, sizeof n));
		count_on(vm, 1);
		s[n] = take(vm);
		OK(vcore_snapshot_get_info(s[n], &info));
		ck_assert_uint_eq(info.memory, RAM);
		ck_assert_uint_eq(info.vcpus, 1);
		/* the stack's, the counter's, the one written, and what the CPU marked */
		if (n)
			ck_assert_uint_le(info.memory_copied, 16 * 4096);
	}
	for (unsigned turn = 0; turn < 20; turn++) {
		unsigned n = turn * 5 % 8;

		OK(vcore_vm_reset_to(vm, s[n]));
		ck_assert_uint_eq(api_word(vm, COUNT), n + 1);
		for (uint32_t k = 0; k < 8; k++)
			ck_assert_uint_eq(api_word(vm, 0x20000 + k * 0x3000), k <= n ? k : 0);
		ck_assert_uint_eq(count_on(vm, 1), n + 2);
	}
	twin = clone_of(s[5]);
	for (unsigned n = 0; n < 8; n++)
		vcore_snapshot_unref(s[n]);
	ck_assert_uint_eq(api_word(twin, 0x20000 + 5 * 0x3000), 5);
	ck_assert_uint_eq(api_word(twin, 0x20000 + 6 * 0x3000), 0);
	ck_assert_uint_eq(count_on(twin, 3), 9);
	vcore_vm_unref(twin);
	vcore_vm_unref(vm);
}
END_TEST

/* More pages, far apart, than an image may have extents. */
START_TEST(scattered)
{
	struct vcore_options o = {.size = sizeof o, .memory = 32u << 20};
	vcore_vm *vm = api_vm_with(_i, &o), *twin;
	vcore_snapshot *first, *second;

	first = take(vm);
	for (uint32_t page = 1; page < 8192; page += 2)
		OK(vcore_memory_write(vm, page * 4096, &page, sizeof page));
	second = take(vm);
	twin = clone_of(second);
	OK(vcore_vm_reset_to(vm, first));
	for (uint32_t page = 0; page < 8192; page++) {
		ck_assert_uint_eq(api_word(twin, page * 4096), page % 2 ? page : 0);
		ck_assert_uint_eq(api_word(vm, page * 4096), 0);
	}
	vcore_snapshot_unref(first);
	vcore_snapshot_unref(second);
	vcore_vm_unref(twin);
	vcore_vm_unref(vm);
}
END_TEST

/* Code that was executed is what it was. */
START_TEST(code_goes_back)
{
	/* mov $1, %eax; hlt; jmp back */
	uint8_t code[] = {0xb8, 1, 0, 0, 0, 0xf4, 0xeb, 0xf8};
	vcore_vm *vm = api_vm(_i, 1);
	vcore_snapshot *s;

	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, code, sizeof code);
	api_run(vm, VCORE_EXIT_HALT);
	s = take(vm);
	for (unsigned n = 0; n < 10; n++) {
		code[1] = 2;
		OK(vcore_memory_write(vm, CODE, code, sizeof code));
		api_run(vm, VCORE_EXIT_HALT);
		ck_assert_uint_eq(api_rax(vm), 2);
		OK(vcore_vm_reset_to(vm, s));
		api_run(vm, VCORE_EXIT_HALT);
		ck_assert_uint_eq(api_rax(vm), 1);
	}
	vcore_snapshot_unref(s);
	vcore_vm_unref(vm);
}
END_TEST

/* Guest time goes on from where it was, and stands in a clone until that is run. */
START_TEST(time_goes_on)
{
	struct vcore_snapshot_info snapshot = {.size = sizeof snapshot};
	struct vcore_vm_info info = {.size = sizeof info};
	vcore_vm *vm = counter(_i), *twin;
	vcore_snapshot *s;

	api_pause_ms(20);
	s = take(vm);
	OK(vcore_snapshot_get_info(s, &snapshot));
	ck_assert_uint_ge(snapshot.time_ns, 20000000);
	twin = clone_of(s);
	api_pause_ms(5);
	OK(vcore_vm_get_info(twin, &info));
	ck_assert_uint_eq(info.time_ns, snapshot.time_ns);
	count_on(twin, 1);
	OK(vcore_vm_get_info(twin, &info));
	ck_assert_uint_gt(info.time_ns, snapshot.time_ns);
	vcore_snapshot_unref(s);
	vcore_vm_unref(twin);
	vcore_vm_unref(vm);
}
END_TEST

/* ---- the program's own devices ---- */

struct box {
	uint32_t value;
	bool savable;
};

static void box_write(void *ctx, struct vcore_io *io)
{
	((struct box *)ctx)->value = (uint32_t)io->data;
}

static int64_t box_save(void *ctx, void *buffer, size_t length)
{
	struct box *box = ctx;

	if (!box->savable)
		return -ENOTSUP;
	if (buffer)
		memcpy(buffer, &box->value, sizeof box->value);
	return sizeof box->value;
}

static int box_load(void *ctx, const void *buffer, size_t length)
{
	memcpy(&((struct box *)ctx)->value, buffer, sizeof(uint32_t));
	return length == sizeof(uint32_t) ? 0 : -EINVAL;
}

static const struct vcore_device_ops box_ops = {
    .size = sizeof box_ops, .write = box_write, .save = box_save, .load = box_load};

static int add_box(void *ctx, vcore_vm *vm)
{
	return vcore_io_add(vm, VCORE_BUS_PIO, 0x500, 4, &box_ops, ctx, NULL);
}

START_TEST(own_device)
{
	/* mov $0x500, %dx; inc %eax; out %eax, %dx; hlt; jmp to the inc */
	static const uint8_t code[] = {0x66, 0xba, 0x00, 0x05, 0x40, 0xef, 0xf4, 0xeb, 0xfb};
	struct box first = {.savable = true}, other = {.savable = true};
	struct vcore_clone_options o = {.size = sizeof o, .ctx = &other, .prepare = add_box};
	vcore_vm *vm = api_vm(_i, 1), *twin = NULL;
	vcore_snapshot *s;

	OK(add_box(&first, vm));
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, code, sizeof code);
	api_run(vm, VCORE_EXIT_HALT);
	api_run(vm, VCORE_EXIT_HALT);
	s = take(vm);
	REFUSED(vcore_snapshot_clone(s, NULL, &twin), EINVAL, "custom");
	ck_assert_ptr_null(twin);
	OK(vcore_snapshot_clone(s, &o, &twin));
	ck_assert_uint_eq(other.value, 2);
	api_run(twin, VCORE_EXIT_HALT);
	ck_assert_uint_eq(other.value, 3);
	ck_assert_uint_eq(first.value, 2);
	first.value = 77;
	OK(vcore_vm_reset_to(vm, s));
	ck_assert_uint_eq(first.value, 2);
	vcore_snapshot_unref(s);
	vcore_vm_unref(twin);
	vcore_vm_unref(vm);
}
END_TEST

/* ---- refusals ---- */

START_TEST(refusals)
{
	static const struct vcore_device_ops plain = {.size = sizeof plain};
	struct box box = {.savable = false};
	vcore_vm *vm = counter(_i), *other = api_vm(_i, 2), *twin;
	vcore_snapshot *s = NULL;
	vcore_device *device;
	vcore_slot *slot;

	REFUSED(vcore_snapshot_take(NULL, &s), EINVAL, "vm");
	REFUSED(vcore_snapshot_take(vm, NULL), EINVAL, "place");
	OK(vcore_io_add(vm, VCORE_BUS_PIO, 0x600, 1, &plain, NULL, &device));
	REFUSED(vcore_snapshot_take(vm, &s), ENOTSUP, "custom");
	ck_assert_ptr_null(s);
	OK(vcore_device_remove(device));
	OK(vcore_io_add(vm, VCORE_BUS_PIO, 0x600, 1, &box_ops, &box, &device));
	REFUSED(vcore_snapshot_take(vm, &s), ENOTSUP, "custom");
	OK(vcore_device_remove(device));
	s = take(vm);
	REFUSED(vcore_vm_reset_to(other, s), EINVAL, "2 vcpus");
	OK(vcore_memory_add(vm, 0x1000000, 4096, VCORE_MEM_RWX, NULL, &slot));
	REFUSED(vcore_vm_reset_to(vm, s), EINVAL, "0x1000000");
	OK(vcore_memory_remove(slot));
	OK(vcore_vm_reset_to(vm, s));
	OK(vcore_io_add(vm, VCORE_BUS_PIO, 0x600, 1, &box_ops, &box, &device));
	REFUSED(vcore_vm_reset_to(vm, s), EINVAL, "custom");
	REFUSED(vcore_snapshot_clone(s, &(struct vcore_clone_options){0}, &twin), EINVAL, "size");
	REFUSED(vcore_snapshot_clone(
	            s, &(struct vcore_clone_options){.size = sizeof(struct vcore_clone_options), .flags = 8}, &twin),
	        EINVAL, "flags");
	vcore_snapshot_unref(s);
	vcore_snapshot_unref(NULL);
	vcore_vm_unref(vm);
	vcore_vm_unref(other);
}
END_TEST

/* ---- started vms ---- */

/* inc dword [COUNT]; jmp back */
static const uint8_t spinning[] = {0xff, 0x05, 0x00, 0x50, 0x00, 0x00, 0xeb, 0xf8};

static void until_more(vcore_vm *vm, uint32_t than)
{
	while (api_word(vm, COUNT) <= than)
		api_pause_ms(1);
}

START_TEST(of_a_running_vm)
{
	vcore_vm *vm = api_vm(_i, 1), *twin;
	vcore_snapshot *s;
	uint32_t at;

	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, spinning, sizeof spinning);
	OK(vcore_vm_start(vm));
	until_more(vm, 1000);
	for (unsigned n = 0; n < 20; n++) {
		s = take(vm);
		ck_assert_uint_eq(api_state(vm), VCORE_VM_RUNNING);
		twin = clone_of(s);
		at = api_word(twin, COUNT);
		OK(vcore_vm_start(twin));
		until_more(twin, at);
		until_more(vm, at);
		OK(vcore_vm_pause(twin));
		OK(vcore_vm_reset_to(twin, s));
		ck_assert_uint_eq(api_state(twin), VCORE_VM_PAUSED);
		ck_assert_uint_eq(api_word(twin, COUNT), at);
		OK(vcore_vm_resume(twin));
		until_more(twin, at);
		OK(vcore_vm_reset_to(twin, s));
		until_more(twin, at);
		vcore_vm_unref(twin);
		vcore_snapshot_unref(s);
	}
	OK(vcore_vm_stop(vm));
	OK(vcore_vm_wait(vm, LONG, NULL));
	REFUSED(vcore_snapshot_take(vm, &s), EBUSY, "ended");
	vcore_vm_unref(vm);
}
END_TEST

static unsigned entries(const char *directory)
{
	DIR *d = opendir(directory);
	unsigned count = 0;

	while (readdir(d))
		count++;
	closedir(d);
	return count;
}

#define PF_EXITING 4u /* of linux/sched.h */

/* Threads, but those that have ended: whoever joined one may see it here for a moment yet. */
static unsigned threads_alive(void)
{
	DIR *d = opendir("/proc/self/task");
	unsigned count = 0;

	for (struct dirent *e; (e = readdir(d));) {
		char name[300], line[512] = "", *rest;
		unsigned flags = PF_EXITING;
		FILE *f;

		snprintf(name, sizeof name, "/proc/self/task/%s/stat", e->d_name);
		f = fopen(name, "r");
		if (!f)
			continue;
		rest = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
		fclose(f);
		if (rest && sscanf(rest, ") %*c %*d %*d %*d %*d %*d %u", &flags) == 1)
			count += !(flags & PF_EXITING);
	}
	closedir(d);
	return count;
}

START_TEST(nothing_is_left)
{
	vcore_vm *vm = counter(_i), *twin[20];
	vcore_snapshot *s = take(vm);
	unsigned fds = 0, threads = 0;

	for (unsigned round = 0; round < 10; round++) {
		for (unsigned n = 0; n < 20; n++) {
			twin[n] = clone_of(s);
			ck_assert_uint_eq(count_on(twin[n], 2), 2);
		}
		for (unsigned n = 0; n < 20; n++)
			vcore_vm_unref(twin[n]);
		if (round == 0) {
			fds = entries("/proc/self/fd");
			threads = threads_alive();
		}
	}
	ck_assert_uint_le(entries("/proc/self/fd"), fds);
	ck_assert_uint_gt(threads, 0);
	ck_assert_uint_le(threads_alive(), threads);
	vcore_snapshot_unref(s);
	vcore_vm_unref(vm);
}
END_TEST

/* A vm of which many are taken keeps no more of them than its memory is made of. */
START_TEST(none_piles_up)
{
	vcore_vm *vm = counter(_i);
	unsigned most = entries("/proc/self/fd") + 600;

	for (uint32_t n = 0; n < 900; n++) {
		OK(vcore_memory_write(vm, 0x40000 + n * 7 % 256 * 4096, &n, sizeof n));
		vcore_snapshot_unref(take(vm));
		ck_assert_uint_le(entries("/proc/self/fd"), most);
	}
	vcore_vm_unref(vm);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("snapshot");
	TCase *tc = tcase_create("all");

	tcase_set_timeout(tc, 120);
	EACH(tc, clones_go_their_own_way);
	EACH(tc, back_again_and_again);
	EACH(tc, chain);
	EACH(tc, scattered);
	EACH(tc, code_goes_back);
	EACH(tc, time_goes_on);
	EACH(tc, own_device);
	EACH(tc, refusals);
	EACH(tc, of_a_running_vm);
	EACH(tc, nothing_is_left);
	EACH(tc, none_piles_up);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	return api_main(suite());
}
