/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Deltas of pages: the same again, and a peer's that are none. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <virtcore/error.h>

#include "core/util.h"
#include "vm/migrate_delta.h"

static uint8_t was[VC_PAGE_SIZE], is[VC_PAGE_SIZE], delta[VC_PAGE_SIZE], page[VC_PAGE_SIZE];
static uint32_t seed = 1;

static uint32_t random_number(void)
{
	seed = seed * 1664525 + 1013904223;
	return seed >> 8;
}

/* The page as it was becomes what it is. */
static int32_t round_trip(void)
{
	int32_t length = vc_mig_delta_encode(was, is, delta, sizeof delta);
	uint8_t *copy;

	if (length < 0)
		return length;
	/* of its own size: a look behind its end is seen */
	copy = malloc((size_t)length + 1);
	ck_assert_ptr_nonnull(copy);
	memcpy(copy, delta, (size_t)length);
	memcpy(page, was, sizeof page);
	ck_assert_int_eq(vc_mig_delta_apply(page, copy, (uint32_t)length), 0);
	ck_assert_mem_eq(page, is, sizeof page);
	free(copy);
	return length;
}

START_TEST(test_there_and_back)
{
	memset(was, 0x55, sizeof was);
	memcpy(is, was, sizeof is);
	ck_assert_int_eq(round_trip(), 0);
	/* a piece */
	is[0] = 1;
	ck_assert_int_eq(round_trip(), 10);
	is[0] = was[0];
	is[100] = 1;
	ck_assert_int_eq(round_trip(), 10);
	/* behind more than a piece can leave out: 255, 255, 1 */
	is[100] = was[100];
	is[4095] = 1;
	ck_assert_int_eq(round_trip(), 2 + 2 + 10);
	/* all of it; all but two words: 255, 255 */
	memset(is, 0xaa, sizeof is);
	ck_assert_int_eq(round_trip(), -1);
	memcpy(is, was, 16);
	ck_assert_int_eq(round_trip(), 2 * 2 + 4080);
	for (unsigned n = 0; n < 3000; n++) {
		memcpy(is, was, sizeof is);
		for (uint32_t changes = random_number() % 200; changes; changes--)
			is[random_number() % sizeof is] = (uint8_t)random_number();
		ck_assert_int_ge(round_trip(), 0);
	}
}
END_TEST

START_TEST(test_room)
{
	memset(was, 0, sizeof was);
	memset(is, 0, sizeof is);
	is[8] = 1;
	ck_assert_int_eq(vc_mig_delta_encode(was, is, delta, 10), 10);
	for (uint32_t room = 0; room < 10; room++)
		ck_assert_int_eq(vc_mig_delta_encode(was, is, delta, room), -1);
}
END_TEST

static void refused(uint32_t length)
{
	uint8_t *copy = malloc(length + 1);

	ck_assert_ptr_nonnull(copy);
	memcpy(copy, delta, length);
	ck_assert_int_eq(vc_mig_delta_apply(page, copy, length), -EPROTO);
	ck_assert_str_ne(vcore_error_message(), "");
	free(copy);
}

START_TEST(test_no_delta)
{
	memset(delta, 1, sizeof delta);
	/* an odd byte, a piece that is cut off */
	refused(1);
	for (uint32_t length = 2; length < 10; length++)
		refused(length);
	ck_assert_int_eq(vc_mig_delta_apply(page, delta, 10), 0);
	/* beyond the page: by what stays, by what is new */
	for (uint32_t n = 0; n < 3; n++) {
		delta[2 * n] = n < 2 ? 255 : 3;
		delta[2 * n + 1] = 0;
	}
	refused(6);
	delta[4] = 2;
	ck_assert_int_eq(vc_mig_delta_apply(page, delta, 6), 0);
	delta[5] = 1;
	refused(14);
	delta[4] = 1;
	ck_assert_int_eq(vc_mig_delta_apply(page, delta, 14), 0);
	/* any bytes: no harm */
	for (unsigned n = 0; n < 3000; n++) {
		uint32_t length = random_number() % 300;

		for (uint32_t i = 0; i < length; i++)
			delta[i] = (uint8_t)(random_number() % (n % 2 ? 256 : 4));
		vc_mig_delta_apply(page, delta, length);
	}
}
END_TEST

START_TEST(test_cache)
{
	struct vc_mig_cache c = {0};

	ck_assert_ptr_null(vc_mig_cache_find(&c, 0, 0));
	ck_assert_int_eq(vc_mig_cache_init(&c, 3 * VC_PAGE_SIZE + 100, 2), 0);
	ck_assert_uint_eq(c.places, 3);
	memset(is, 1, sizeof is);
	vc_mig_cache_put(&c, 0, 5, is);
	ck_assert_mem_eq(vc_mig_cache_find(&c, 0, 5), is, sizeof is);
	ck_assert_ptr_null(vc_mig_cache_find(&c, 1, 5));
	ck_assert_ptr_null(vc_mig_cache_find(&c, 0, 6));
	/* another one in its place */
	vc_mig_cache_put(&c, 0, 2, was);
	ck_assert_ptr_null(vc_mig_cache_find(&c, 0, 5));
	vc_mig_cache_drop(&c, 0, 5);
	ck_assert_ptr_nonnull(vc_mig_cache_find(&c, 0, 2));
	vc_mig_cache_drop(&c, 0, 2);
	ck_assert_ptr_null(vc_mig_cache_find(&c, 0, 2));
	vc_mig_cache_fini(&c);
	/* of no page: nothing is kept */
	ck_assert_int_eq(vc_mig_cache_init(&c, 100, 1), 0);
	vc_mig_cache_put(&c, 0, 0, is);
	ck_assert_ptr_null(vc_mig_cache_find(&c, 0, 0));
	vc_mig_cache_fini(&c);
	ck_assert_int_eq(vc_mig_cache_init(&c, 1ull << 62, 1), -ENOMEM);
	vc_mig_cache_fini(&c);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("migrate_delta");
	TCase *t = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_test(t, test_there_and_back);
	tcase_add_test(t, test_room);
	tcase_add_test(t, test_no_delta);
	tcase_add_test(t, test_cache);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
