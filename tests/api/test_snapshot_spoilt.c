/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots' files of which something was altered or cut off. */
#include "snapshot_file.h"

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
	for (uint64_t at = f.sections; at < f.length; at += at < f.sections + 96 ? 1 : 41)
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
		for (uint64_t at = PAGE; at < f.sections; at += 11) {
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

int main(void)
{
	Suite *suite = suite_create("spoilt snapshots");
	TCase *tcase = tcase_create("spoilt snapshots");

	tcase_add_checked_fixture(tcase, make_directory, remove_directory);
	tcase_set_timeout(tcase, 60);
	EACH(tcase, altered);
	EACH(tcase, altered_zstd);
	EACH(tcase, cut);
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
