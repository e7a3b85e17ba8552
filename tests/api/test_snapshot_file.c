/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots in files: there and back, incremental and compressed ones, and every way to spoil one. */
#include "api.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE  4096u
#define DATA  0x40000u /* of the tests; the code is below, page tables above */
#define PAGES 64u

static char directory[64], path[96], other[96];

static void make_directory(void)
{
	snprintf(directory, sizeof directory, "/tmp/virtcore-snapshot.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(path, sizeof path, "%s/one", directory);
	snprintf(other, sizeof other, "%s/two", directory);
}

/* Nothing but these two is there. */
static void remove_directory(void)
{
	unlink(path);
	unlink(other);
	ck_assert_int_eq(rmdir(directory), 0);
}

/* A guest that counts in EAX and at DATA, halting after each. */
static vcore_vm *make_vm(int backend)
{
	vcore_vm *vm = api_vm(backend, 1);

	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE,
	         CODE_BYTES(0x40, 0xff, 0x05, 0x00, 0x00, 0x04, 0x00, 0xf4, 0xeb, 0xf6));
	api_run(vm, VCORE_EXIT_HALT);
	return vm;
}

/* All of its memory. */
static uint8_t *memory_of(vcore_vm *vm)
{
	uint8_t *bytes = malloc(RAM);

	OK(vcore_memory_read(vm, 0, bytes, RAM));
	return bytes;
}

static void write_page(vcore_vm *vm, uint32_t page, uint32_t value)
{
	uint32_t words[PAGE / 4];

	for (uint32_t i = 0; i < PAGE / 4; i++)
		words[i] = value ? value * 2654435761u + i * i : 0;
	OK(vcore_memory_write(vm, DATA + page * PAGE, words, PAGE));
}

static vcore_snapshot *take(vcore_vm *vm)
{
	vcore_snapshot *s;

	OK(vcore_snapshot_take(vm, &s));
	return s;
}

static vcore_vm *clone_of(vcore_snapshot *s)
{
	vcore_vm *vm;

	OK(vcore_snapshot_clone(s, NULL, &vm));
	return vm;
}

static int save_with(vcore_snapshot *s, const char *to, uint32_t flags, vcore_snapshot *parent)
{
	struct vcore_snapshot_save_options o = {.size = sizeof o, .flags = flags, .parent = parent};

	return vcore_snapshot_save(s, to, &o);
}

static int load_with(const char *from, uint32_t flags, vcore_snapshot *parent, vcore_snapshot **s)
{
	struct vcore_snapshot_load_options o = {.size = sizeof o, .flags = flags, .parent = parent};

	return vcore_snapshot_load(from, &o, s);
}

static vcore_snapshot *load(const char *from, vcore_snapshot *parent)
{
	vcore_snapshot *s;

	OK(load_with(from, 0, parent, &s));
	return s;
}

/* A clone of the snapshot has this memory, and counts on from there. */
static void check_clone(vcore_snapshot *s, const uint8_t *memory, uint64_t count)
{
	vcore_vm *twin = clone_of(s);
	uint8_t *there = memory_of(twin);

	ck_assert(!memcmp(there, memory, RAM));
	ck_assert_uint_eq(api_rax(twin), count);
	api_run(twin, VCORE_EXIT_HALT);
	ck_assert_uint_eq(api_rax(twin), count + 1);
	free(there);
	vcore_vm_unref(twin);
}

static struct stat stat_of(const char *file)
{
	struct stat st;

	ck_assert_int_eq(stat(file, &st), 0);
	return st;
}

static void check_same(vcore_snapshot *a, vcore_snapshot *b)
{
	struct vcore_snapshot_info x = {.size = sizeof x}, y = {.size = sizeof y};

	OK(vcore_snapshot_get_info(a, &x));
	OK(vcore_snapshot_get_info(b, &y));
	ck_assert_mem_eq(x.id, y.id, sizeof x.id);
	ck_assert_uint_eq(x.machine, y.machine);
	ck_assert_uint_eq(x.backend, y.backend);
	ck_assert_uint_eq(x.vcpus, y.vcpus);
	ck_assert_uint_eq(x.devices, y.devices);
	ck_assert_uint_eq(x.slots, y.slots);
	ck_assert_uint_eq(x.memory, y.memory);
	ck_assert_uint_eq(x.time_ns, y.time_ns);
}

/* ---- there and back ---- */

START_TEST(round_trip)
{
	vcore_vm *vm = make_vm(_i);
	vcore_snapshot *s, *back;
	uint8_t *memory;

	write_page(vm, 3, 5);
	s = take(vm);
	memory = memory_of(vm);
	vcore_vm_unref(vm);
	OK(vcore_snapshot_save(s, path, NULL));
	back = load(path, NULL);
	check_same(s, back);
	vcore_snapshot_unref(s);
	check_clone(back, memory, 1);
	/* it writes to what is its own */
	check_clone(back, memory, 1);
	/* zeroes are holes */
	ck_assert_int_gt(stat_of(path).st_size, RAM);
	ck_assert_int_lt(stat_of(path).st_blocks * 512, RAM / 4);
	ck_assert_uint_eq(stat_of(path).st_mode & 0777, 0600);
	vcore_snapshot_unref(back);
	OK(load_with(path, VCORE_SNAPSHOT_NO_VERIFY, NULL, &back));
	unlink(path);
	check_clone(back, memory, 1);
	vcore_snapshot_unref(back);
	free(memory);
}
END_TEST

START_TEST(zstd)
{
	vcore_vm *vm = make_vm(_i);
	vcore_snapshot *s, *back;
	uint8_t *memory;

	write_page(vm, 1, 7);
	write_page(vm, 300, 8);
	s = take(vm);
	if (save_with(s, path, VCORE_SNAPSHOT_ZSTD, NULL) == -ENOTSUP) {
		printf("this build has no zstd\n");
	} else {
		memory = memory_of(vm);
		back = load(path, NULL);
		ck_assert_int_lt(stat_of(path).st_size, RAM / 4);
		check_same(s, back);
		/* it is done with the file */
		ck_assert_int_eq(truncate(path, 0), 0);
		check_clone(back, memory, 1);
		vcore_snapshot_unref(back);
		free(memory);
	}
	vcore_snapshot_unref(s);
	vcore_vm_unref(vm);
}
END_TEST

/* A file is replaced whole, also under those who have mapped it. */
START_TEST(replace)
{
	vcore_vm *vm = make_vm(_i);
	vcore_snapshot *first = take(vm), *second, *back, *again;
	uint8_t *memory = memory_of(vm);

	OK(save_with(first, path, VCORE_SNAPSHOT_SYNC, NULL));
	back = load(path, NULL);
	write_page(vm, 0, 1);
	api_run(vm, VCORE_EXIT_HALT);
	second = take(vm);
	OK(vcore_snapshot_save(second, path, NULL));
	check_clone(back, memory, 1);
	free(memory);
	memory = memory_of(vm);
	again = load(path, NULL);
	check_clone(again, memory, 2);
	vcore_snapshot_unref(first);
	vcore_snapshot_unref(second);
	vcore_snapshot_unref(back);
	vcore_snapshot_unref(again);
	vcore_vm_unref(vm);
	free(memory);
}
END_TEST

/* A snapshot of a snapshot's clone, saved again, and one of it gone back to. */
START_TEST(again)
{
	vcore_vm *vm = make_vm(_i), *twin;
	vcore_snapshot *s = take(vm), *back, *third;
	uint8_t *memory;

	OK(vcore_snapshot_save(s, path, NULL));
	back = load(path, NULL);
	twin = clone_of(back);
	write_page(twin, 9, 9);
	api_run(twin, VCORE_EXIT_HALT);
	memory = memory_of(twin);
	third = take(twin);
	OK(vcore_snapshot_save(third, other, NULL));
	vcore_snapshot_unref(third);
	third = load(other, NULL);
	check_clone(third, memory, 2);
	OK(vcore_vm_reset_to(twin, back));
	ck_assert_uint_eq(api_rax(twin), 1);
	OK(vcore_vm_reset_to(twin, third));
	ck_assert_uint_eq(api_rax(twin), 2);
	vcore_vm_unref(twin);
	vcore_vm_unref(vm);
	vcore_snapshot_unref(s);
	vcore_snapshot_unref(back);
	vcore_snapshot_unref(third);
	free(memory);
}
END_TEST

/* ---- incremental files ---- */

/* Changed, emptied, untouched and far away pages. */
static void change(vcore_vm *vm, uint32_t round)
{
	for (uint32_t i = 0; i < PAGES; i += 3)
		write_page(vm, (i + round) % PAGES, round + i);
	write_page(vm, round + 1, 0);
	write_page(vm, 200 + round, round);
	api_run(vm, VCORE_EXIT_HALT);
}

static void check_chain(int backend, uint32_t flags)
{
	char file[5][128];
	vcore_vm *vm = make_vm(backend);
	vcore_snapshot *parent = take(vm), *next;
	uint8_t *memory;

	snprintf(file[0], sizeof file[0], "%s/0", directory);
	OK(save_with(parent, file[0], flags, NULL));
	for (uint32_t i = 1; i < 5; i++) {
		change(vm, i);
		next = take(vm);
		snprintf(file[i], sizeof file[i], "%s/%u", directory, i);
		OK(save_with(next, file[i], flags, parent));
		ck_assert_int_lt(stat_of(file[i]).st_size, RAM / 4);
		vcore_snapshot_unref(parent);
		parent = next;
	}
	memory = memory_of(vm);
	vcore_snapshot_unref(parent);
	vcore_vm_unref(vm);

	parent = NULL;
	for (uint32_t i = 0; i < 5; i++) {
		next = load(file[i], parent);
		unlink(file[i]);
		vcore_snapshot_unref(parent);
		parent = next;
	}
	check_clone(parent, memory, 5);
	vcore_snapshot_unref(parent);
	free(memory);
}

START_TEST(chain)
{
	check_chain(_i, 0);
}
END_TEST

START_TEST(chain_zstd)
{
	vcore_vm *vm = make_vm(_i);
	vcore_snapshot *s = take(vm);
	int r = save_with(s, path, VCORE_SNAPSHOT_ZSTD, NULL);

	vcore_snapshot_unref(s);
	vcore_vm_unref(vm);
	if (r != -ENOTSUP)
		check_chain(_i, VCORE_SNAPSHOT_ZSTD);
}
END_TEST

/* In another process: from a loaded parent, a clone's snapshot relative to it. */
START_TEST(incremental_of_loaded)
{
	vcore_vm *vm = make_vm(_i), *twin;
	vcore_snapshot *s = take(vm), *parent, *late;
	uint8_t *memory;

	OK(vcore_snapshot_save(s, path, NULL));
	parent = load(path, NULL);
	twin = clone_of(parent);
	change(twin, 2);
	memory = memory_of(twin);
	late = take(twin);
	OK(save_with(late, other, 0, parent));
	vcore_snapshot_unref(late);
	ck_assert_int_lt(stat_of(other).st_size, RAM / 4);
	/* the parent that it is loaded with is the one that was saved */
	late = load(other, s);
	check_clone(late, memory, 2);
	vcore_snapshot_unref(late);
	/* nothing changed */
	OK(save_with(parent, other, 0, s));
	late = load(other, s);
	free(memory);
	memory = memory_of(vm);
	check_clone(late, memory, 1);
	vcore_snapshot_unref(late);
	free(memory);
	vcore_snapshot_unref(parent);
	vcore_snapshot_unref(s);
	vcore_vm_unref(twin);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(parents)
{
	vcore_vm *vm = make_vm(_i);
	vcore_snapshot *first = take(vm), *second, *none;

	change(vm, 1);
	second = take(vm);
	OK(save_with(second, path, 0, first));
	REFUSED(load_with(path, 0, NULL, &none), EINVAL, "incremental");
	REFUSED(load_with(path, 0, second, &none), EINVAL, "another snapshot than the parent");
	ck_assert_ptr_null(none);
	/* one that needs none */
	OK(save_with(second, path, 0, NULL));
	OK(load_with(path, 0, first, &none));
	vcore_snapshot_unref(none);
	vcore_snapshot_unref(first);
	vcore_snapshot_unref(second);
	vcore_vm_unref(vm);
}
END_TEST

/* ---- spoilt files ---- */

struct file {
	int fd;
	uint64_t length, sections;
};

/* A saved one, open to be spoilt. */
static struct file saved(vcore_snapshot *s, uint32_t flags)
{
	struct file f = {.fd = -1};

	OK(save_with(s, path, flags, NULL));
	f.fd = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(f.fd, 0);
	f.length = (uint64_t)stat_of(path).st_size;
	ck_assert_int_eq(pread(f.fd, &f.sections, 8, 16), 8);
	return f;
}

static uint8_t byte_at(const struct file *f, uint64_t at)
{
	uint8_t byte;

	ck_assert_int_eq(pread(f->fd, &byte, 1, (off_t)at), 1);
	return byte;
}

/* Another byte there is noticed, or with NO_VERIFY not looked at. */
static void flip(const struct file *f, uint64_t at, bool memory)
{
	uint8_t byte = byte_at(f, at), wrong = byte ^ (uint8_t)(1u << (at * 5 % 8));
	vcore_snapshot *s;
	int r;

	ck_assert_int_eq(pwrite(f->fd, &wrong, 1, (off_t)at), 1);
	r = load_with(path, 0, NULL, &s);
	ck_assert_msg(r == -EINVAL || r == -EIO, "byte %#llx of %#llx: %d, %s", (unsigned long long)at,
	              (unsigned long long)f->length, r, vcore_error_message());
	ck_assert_ptr_nonnull(strstr(vcore_error_message(), path));
	r = load_with(path, VCORE_SNAPSHOT_NO_VERIFY, NULL, &s);
	ck_assert_int_eq(r >= 0, memory);
	vcore_snapshot_unref(s);
	ck_assert_int_eq(pwrite(f->fd, &byte, 1, (off_t)at), 1);
}

START_TEST(altered)
{
	vcore_vm *vm = make_vm(_i);
	vcore_snapshot *s, *back;
	struct file f;

	write_page(vm, 3, 5);
	s = take(vm);
	f = saved(s, 0);
	for (uint64_t at = 0; at < 64; at++)
		flip(&f, at, false);
	flip(&f, 64, false);
	flip(&f, PAGE - 1, false);
	for (uint64_t at = PAGE; at < f.sections; at += 61 * 1024 + 7)
		flip(&f, at, true);
	flip(&f, PAGE + DATA + 3 * PAGE + 77, true);
	flip(&f, f.sections - 1, true);
	for (uint64_t at = f.sections; at < f.length; at += at < f.sections + 256 ? 1 : 13)
		flip(&f, at, false);
	flip(&f, f.length - 1, false);
	back = load(path, NULL);
	vcore_snapshot_unref(back);
	close(f.fd);
	vcore_snapshot_unref(s);
	vcore_vm_unref(vm);
}
END_TEST

/* Without its checksum a compressed chunk may go unnoticed, or not be unpacked; the host is none the worse for it. */
START_TEST(altered_zstd)
{
	vcore_vm *vm = make_vm(_i);
	vcore_snapshot *s, *back;
	struct file f;

	write_page(vm, 3, 5);
	s = take(vm);
	if (save_with(s, path, VCORE_SNAPSHOT_ZSTD, NULL) >= 0) {
		f = saved(s, VCORE_SNAPSHOT_ZSTD);
		for (uint64_t at = PAGE; at < f.sections; at += 3) {
			uint8_t byte = byte_at(&f, at), wrong = byte ^ (uint8_t)(1u << (at % 8));

			ck_assert_int_eq(pwrite(f.fd, &wrong, 1, (off_t)at), 1);
			ck_assert_int_lt(load_with(path, 0, NULL, &back), 0);
			load_with(path, VCORE_SNAPSHOT_NO_VERIFY, NULL, &back);
			vcore_snapshot_unref(back);
			ck_assert_int_eq(pwrite(f.fd, &byte, 1, (off_t)at), 1);
		}
		close(f.fd);
	}
	vcore_snapshot_unref(s);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(cut)
{
	vcore_vm *vm = make_vm(_i);
	vcore_snapshot *s = take(vm), *none;
	struct file f = saved(s, 0);
	const uint64_t cuts[] = {f.length - 1,
	                         f.length - 8,
	                         f.sections + 33,
	                         f.sections + 32,
	                         f.sections + 31,
	                         f.sections + 1,
	                         f.sections,
	                         f.sections - 1,
	                         f.sections / 2,
	                         PAGE + 1,
	                         PAGE,
	                         PAGE - 1,
	                         64,
	                         63,
	                         8,
	                         1,
	                         0};

	/* a byte too many */
	ck_assert_int_eq(ftruncate(f.fd, (off_t)f.length + 1), 0);
	REFUSED(load_with(path, VCORE_SNAPSHOT_NO_VERIFY, NULL, &none), EINVAL, "has grown");
	for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
		ck_assert_int_eq(ftruncate(f.fd, (off_t)cuts[i]), 0);
		REFUSED(load_with(path, VCORE_SNAPSHOT_NO_VERIFY, NULL, &none), EINVAL, "cut off");
		ck_assert_ptr_null(none);
	}
	close(f.fd);
	vcore_snapshot_unref(s);
	vcore_vm_unref(vm);
}
END_TEST

/* ---- refusals ---- */

static int give_up(void *ctx, uint64_t done, uint64_t total)
{
	uint64_t *last = ctx;

	ck_assert_uint_eq(total, RAM);
	ck_assert_uint_gt(done, *last);
	*last = done;
	return done > RAM / 2;
}

static int go_on(void *ctx, uint64_t done, uint64_t total)
{
	*(uint64_t *)ctx = done;
	return 0;
}

START_TEST(progress)
{
	vcore_vm *vm = make_vm(_i);
	vcore_snapshot *s = take(vm), *back;
	uint64_t done = 0;
	struct vcore_snapshot_save_options o = {.size = sizeof o, .progress = go_on, .ctx = &done};

	OK(vcore_snapshot_save(s, path, &o));
	ck_assert_uint_eq(done, RAM);
	done = 0;
	o.progress = give_up;
	REFUSED(vcore_snapshot_save(s, path, &o), ECANCELED, "cancelled");
	/* what was there still is; remove_directory() finds that nothing else is */
	back = load(path, NULL);
	vcore_snapshot_unref(back);
	vcore_snapshot_unref(s);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(refused)
{
	struct vcore_snapshot_save_options so = {0};
	struct vcore_snapshot_load_options lo = {0};
	vcore_vm *vm = make_vm(_i);
	vcore_snapshot *s = take(vm), *none;
	char nowhere[128];

	REFUSED(vcore_snapshot_save(NULL, path, NULL), EINVAL, "needed");
	REFUSED(vcore_snapshot_save(s, NULL, NULL), EINVAL, "needed");
	REFUSED(vcore_snapshot_save(s, "", NULL), EINVAL, "needed");
	REFUSED(vcore_snapshot_save(s, path, &so), EINVAL, "options.size");
	REFUSED(save_with(s, path, 64, NULL), EINVAL, "0x40");
	REFUSED(save_with(s, path, VCORE_SNAPSHOT_NO_VERIFY, NULL), EINVAL, "flags");
	snprintf(nowhere, sizeof nowhere, "%s/no/where", directory);
	REFUSED(save_with(s, nowhere, 0, NULL), ENOENT, nowhere);
	REFUSED(save_with(s, directory, 0, NULL), EISDIR, directory);

	REFUSED(vcore_snapshot_load(NULL, NULL, &none), EINVAL, "needed");
	REFUSED(vcore_snapshot_load(path, NULL, NULL), EINVAL, "needed");
	REFUSED(vcore_snapshot_load(path, &lo, &none), EINVAL, "options.size");
	REFUSED(load_with(path, 1, NULL, &none), EINVAL, "flags");
	REFUSED(load_with(path, 0, NULL, &none), ENOENT, path);
	REFUSED(load_with(directory, 0, NULL, &none), EINVAL, "no regular file");
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	REFUSED(load_with(path, 0, NULL, &none), EINVAL, "no regular file");
	REFUSED(load_with("/proc/self/exe", 0, NULL, &none), EINVAL, "no snapshot");
	vcore_snapshot_unref(s);
	vcore_vm_unref(vm);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("snapshot files");
	TCase *tcase = tcase_create("snapshot files");

	tcase_add_checked_fixture(tcase, make_directory, remove_directory);
	tcase_set_timeout(tcase, 60);
	EACH(tcase, round_trip);
	EACH(tcase, zstd);
	EACH(tcase, replace);
	EACH(tcase, again);
	EACH(tcase, chain);
	EACH(tcase, chain_zstd);
	EACH(tcase, incremental_of_loaded);
	EACH(tcase, parents);
	EACH(tcase, altered);
	EACH(tcase, altered_zstd);
	EACH(tcase, cut);
	EACH(tcase, progress);
	EACH(tcase, refused);
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
