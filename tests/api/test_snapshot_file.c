/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots in files: there and back, incremental and compressed ones, refusals. */
#include "snapshot_file.h"

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

/* Saved on one backend, it goes on on another. */
START_TEST(other_backends)
{
	vcore_vm *vm = make_vm(_i), *twin;
	vcore_snapshot *s = take(vm), *back;

	OK(vcore_snapshot_save(s, path, NULL));
	back = load(path, NULL);
	for (int i = 0; i < api_backend_count(); i++) {
		struct vcore_clone_options o = {.size = sizeof o, .backend = api_backend(i)};
		int r = vcore_snapshot_clone(back, &o, &twin);

		if (r == -ENOTSUP) {
			printf("%s\n", vcore_error_message());
			continue;
		}
		OK(r);
		api_run(twin, VCORE_EXIT_HALT);
		ck_assert_uint_eq(api_rax(twin), 2);
		vcore_vm_unref(twin);
	}
	vcore_snapshot_unref(s);
	vcore_snapshot_unref(back);
	vcore_vm_unref(vm);
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
	EACH(tcase, other_backends);
	EACH(tcase, chain);
	EACH(tcase, chain_zstd);
	EACH(tcase, incremental_of_loaded);
	EACH(tcase, parents);
	EACH(tcase, progress);
	EACH(tcase, refused);
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
