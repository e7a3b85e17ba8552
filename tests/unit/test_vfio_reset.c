/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether a reset that several devices share may be: all are the vm's, and none but its own is in use. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <virtcore/error.h>

#include "passthrough/vfio_reset.h"

static struct vc_vfio_members all;
static struct vc_vfio_member self, other;

static void begin(void)
{
	vc_vfio_members_init(&all);
	self = (struct vc_vfio_member){.address = "0000:01:00.0", .group = 7};
	other = (struct vc_vfio_member){.address = "0000:01:00.1", .group = 8, .quiet = true};
	vc_vfio_join(&all, &self);
	vc_vfio_join(&all, &other);
}

static void end(void)
{
	vc_vfio_leave(&self);
	vc_vfio_leave(&other);
	vc_vfio_leave(&other);
	ck_assert_ptr_null(all.first);
	vc_vfio_members_fini(&all);
}

static void refuse(const struct vc_vfio_affected *affected, unsigned count, const char *text)
{
	ck_assert_int_eq(vc_vfio_check_affected(&self, affected, count), -ENOTSUP);
	ck_assert_msg(strstr(vcore_error_message(), text), "'%s' in '%s'", text, vcore_error_message());
}

START_TEST(checks)
{
	const struct vc_vfio_affected affected[] = {{"0000:01:00.0", true},
	                                            {"0000:01:00.1", true},
	                                            {"0000:01:00.2", true},
	                                            {"0000:01:00.3", false},
	                                            {"0000:01:00.4", false}};
	struct vc_vfio_affected many[64];

	/* one that is in a group of ours, and in nobody's hands, may be */
	ck_assert_int_eq(vc_vfio_check_affected(&self, affected, 3), 0);
	refuse(affected, 5, "reset of 0000:01:00.3, 0000:01:00.4 as well: expected");
	other.quiet = false;
	refuse(affected, 3, "reset of 0000:01:00.1 as well, which the guest uses");
	/* its own use is no hindrance */
	other.quiet = true;
	self.quiet = false;
	ck_assert_int_eq(vc_vfio_check_affected(&self, affected, 3), 0);
	/* more names than a sentence holds */
	for (unsigned i = 0; i < 64; i++)
		many[i] = affected[4];
	refuse(many, 64, "0000:01:00.4, 0000:01:00.4");
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("vfio-reset");
	Suite *suite = suite_create("vfio-reset");
	SRunner *runner = srunner_create(suite);
	int failed;

	suite_add_tcase(suite, cases);
	tcase_add_checked_fixture(cases, begin, end);
	tcase_add_test(cases, checks);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
