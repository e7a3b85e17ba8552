/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lib/core: messages, log lines, structs that cross the border. */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <virtcore/error.h>

#include "core/error.h"
#include "core/log.h"
#include "core/util.h"

START_TEST(test_message)
{
	ck_assert_str_eq(vcore_error_message(), "");
	ck_assert_int_eq(vc_fail(EINVAL, "width is %d: expected 1 to %d", 3, 8), -EINVAL);
	ck_assert_str_eq(vcore_error_message(), "width is 3: expected 1 to 8");
	ck_assert_int_eq(vc_fail_errno(ENOENT, "open %s", "/x"), -ENOENT);
	ck_assert_str_eq(vcore_error_message(), "open /x: No such file or directory");
}
END_TEST

START_TEST(test_message_quotes_itself)
{
	vc_fail(EIO, "inner");
	vc_fail(EIO, "outer: %s", vcore_error_message());
	ck_assert_str_eq(vcore_error_message(), "outer: inner");
}
END_TEST

START_TEST(test_message_is_cut)
{
	char longer[2000];

	memset(longer, 'x', sizeof longer - 1);
	longer[sizeof longer - 1] = 0;
	vc_fail(EIO, "%s", longer);
	ck_assert_uint_gt(strlen(vcore_error_message()), 400);
	ck_assert_uint_lt(strlen(vcore_error_message()), 1000);
	vc_fail_errno(EIO, "%s", longer);
	ck_assert_uint_lt(strlen(vcore_error_message()), 1000);
	vc_fail(EIO, "short");
	ck_assert_str_eq(vcore_error_message(), "short");
}
END_TEST

static void *other_thread(void *arg)
{
	*(bool *)arg = !strcmp(vcore_error_message(), "");
	vc_fail(EIO, "theirs");
	return NULL;
}

START_TEST(test_message_is_of_the_thread)
{
	pthread_t thread;
	bool was_empty = false;

	vc_fail(EIO, "ours");
	ck_assert_int_eq(pthread_create(&thread, NULL, other_thread, &was_empty), 0);
	pthread_join(thread, NULL);
	ck_assert(was_empty);
	ck_assert_str_eq(vcore_error_message(), "ours");
}
END_TEST

struct lines {
	int count;
	enum vcore_log_level level;
	char last[1024];
};

static void take_line(void *ctx, enum vcore_log_level level, const char *message)
{
	struct lines *lines = ctx;

	lines->count++;
	lines->level = level;
	snprintf(lines->last, sizeof lines->last, "%s", message);
}

static int evaluated(int *count)
{
	return ++*count;
}

START_TEST(test_log)
{
	struct lines lines = {0};
	struct vc_log log = {.fn = take_line, .ctx = &lines, .level = VCORE_LOG_INFO}, none = {.level = VCORE_LOG_TRACE};
	int count = 0;

	vc_log(&log, VCORE_LOG_INFO, "took %s\n", "emu");
	ck_assert_int_eq(lines.count, 1);
	ck_assert_int_eq(lines.level, VCORE_LOG_INFO);
	ck_assert_str_eq(lines.last, "took emu");
	vc_log(&log, VCORE_LOG_DEBUG, "%d", evaluated(&count));
	vc_log(&none, VCORE_LOG_ERROR, "%d", evaluated(&count));
	vc_log(NULL, VCORE_LOG_ERROR, "%d", evaluated(&count));
	ck_assert_int_eq(lines.count, 1);
	ck_assert_int_eq(count, 0);
}
END_TEST

struct now {
	uint32_t size;
	uint32_t a;
	uint64_t b, c;
};

START_TEST(test_struct_in)
{
	struct now mine, theirs = {.size = sizeof theirs, .a = 1, .b = 2, .c = 3};
	struct {
		struct now now;
		uint64_t newer;
	} future = {.now = theirs, .newer = 4};

	ck_assert_int_eq(vc_struct_in(&mine, sizeof mine, &theirs), 0);
	ck_assert_mem_eq(&mine, &theirs, sizeof mine);
	/* an older caller: what he does not know is zero, and what lies behind his struct is not read */
	struct {
		uint32_t size, a;
		uint64_t b;
	} *old = malloc(sizeof *old);
	old->size = sizeof *old;
	old->a = 7;
	old->b = 8;
	memset(&mine, 0xff, sizeof mine);
	ck_assert_int_eq(vc_struct_in(&mine, sizeof mine, old), 0);
	ck_assert_uint_eq(mine.a, 7);
	ck_assert_uint_eq(mine.b, 8);
	ck_assert_uint_eq(mine.c, 0);
	ck_assert_uint_eq(mine.size, sizeof mine);
	free(old);
	/* a newer one */
	future.now.size = sizeof future;
	ck_assert_int_eq(vc_struct_in(&mine, sizeof mine, &future), 0);
	ck_assert_uint_eq(mine.c, 3);
	ck_assert_uint_eq(mine.size, sizeof mine);
	/* and wrong ones */
	theirs.size = 0;
	ck_assert_int_eq(vc_struct_in(&mine, sizeof mine, &theirs), -EINVAL);
	theirs.size = 3;
	ck_assert_int_eq(vc_struct_in(&mine, sizeof mine, &theirs), -EINVAL);
	ck_assert_int_eq(vc_struct_in(&mine, sizeof mine, NULL), -EINVAL);
}
END_TEST

START_TEST(test_struct_out)
{
	struct now mine = {.size = 99, .a = 1, .b = 2, .c = 3}, theirs;
	uint64_t future[4] = {sizeof future, ~0ull, ~0ull, ~0ull};

	memset(&theirs, 0xff, sizeof theirs);
	theirs.size = 16;
	ck_assert_int_eq(vc_struct_out(&theirs, &mine, sizeof mine), 0);
	ck_assert_uint_eq(theirs.size, 16);
	ck_assert_uint_eq(theirs.b, 2);
	ck_assert_uint_eq(theirs.c, UINT64_MAX);
	ck_assert_int_eq(vc_struct_out(future, &mine, sizeof mine), 0);
	ck_assert_uint_eq((uint32_t)future[0], sizeof future);
	ck_assert_uint_eq(future[2], 3);
	ck_assert_uint_eq(future[3], 0);
	theirs.size = 1;
	ck_assert_int_eq(vc_struct_out(&theirs, &mine, sizeof mine), -EINVAL);
	ck_assert_int_eq(vc_struct_out(NULL, &mine, sizeof mine), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("error");
	TCase *c = tcase_create("core");

	tcase_add_test(c, test_message);
	tcase_add_test(c, test_message_quotes_itself);
	tcase_add_test(c, test_message_is_cut);
	tcase_add_test(c, test_message_is_of_the_thread);
	tcase_add_test(c, test_log);
	tcase_add_test(c, test_struct_in);
	tcase_add_test(c, test_struct_out);
	suite_add_tcase(suite, c);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
