/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Post-copy whose connection is lost is taken up again over another one. */
#include "postcopying.h"

#include <sys/socket.h>
#include <unistd.h>

/* ---- another connection ---- */

struct recovery {
	struct relay relay;
	vcore_vm *from;
	int source, destination, sent, received;
	char why[256], why_not[256];
	pthread_t sender;
};

static void *recover_source(void *ctx)
{
	struct recovery *r = ctx;
	struct vcore_migrate_recover_options o = {.size = sizeof o, .fd = r->source, .timeout_ms = 20000};

	r->sent = vcore_migrate_recover(r->from, &o);
	snprintf(r->why, sizeof r->why, "%s", r->sent < 0 ? vcore_error_message() : "");
	close(r->source);
	return NULL;
}

/* Returns when the destination has it. */
static void recover(struct recovery *r, struct move *m, vcore_vm *to)
{
	struct vcore_migrate_recover_options o = {.size = sizeof o, .timeout_ms = 20000};

	r->from = m->from;
	r->relay.gone = true;
	relay_start(&r->relay, &r->source, &r->destination);
	o.fd = r->destination;
	ck_assert_int_eq(pthread_create(&r->sender, NULL, recover_source, r), 0);
	r->received = vcore_migrate_recover(to, &o);
	snprintf(r->why_not, sizeof r->why_not, "%s", r->received < 0 ? vcore_error_message() : "");
	close(r->destination);
}

static void end_recovery(struct recovery *r)
{
	pthread_join(r->sender, NULL);
	relay_end(&r->relay);
}

/* ---- what all begin and end with ---- */

/* The guest runs on the other side, both of which have heard that the connection is cut. */
static void begin_cut(struct move *m, int backend)
{
	move_begin(m, backend);
	pthread_join(m->receiver, NULL);
	ck_assert_msg(m->received == 0, "%s", m->why_not);
	OK(vcore_vm_start(m->to));
	move_end_sending(m);
	ck_assert_int_eq(m->sent, -ENOLINK);
	move_until_state(m->to, VCORE_MIGRATE_INTERRUPTED);
	ck_assert_uint_eq(migrating_info(m->from).state, VCORE_MIGRATE_INTERRUPTED);
	ck_assert_str_ne(migrating_info(m->from).error, "");
	ck_assert_uint_gt(migrating_info(m->from).remaining, 0);
}

/* All of it has arrived, and the source has ended. */
static void arrived(struct move *m)
{
	struct vcore_exit exit = {.size = sizeof exit};

	OK(vcore_vm_wait(m->from, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_MIGRATED);
	ck_assert_uint_eq(migrating_info(m->from).state, VCORE_MIGRATE_COMPLETED);
	ck_assert_uint_eq(migrating_info(m->from).remaining, 0);
	ck_assert_str_eq(migrating_info(m->from).error, "");
	move_until_state(m->to, VCORE_MIGRATE_COMPLETED);
	ck_assert_str_eq(migrating_info(m->to).error, "");
	vcore_vm_unref(m->from);
	postcopying_check(m->to);
	migrating_goes_on(m->to, 0);
	vcore_vm_unref(m->to);
}

/* ---- it works ---- */

/* Where the connection is cut: between frames, and within one. */
static const struct relay cuts[] = {{.kind = PAGES_FRAME},
                                    {.kind = PAGES_FRAME, .nth = 5},
                                    {.kind = PAGES_FRAME, .nth = 5, .part = 20},
                                    {.kind = PAGES_FRAME, .nth = 11, .part = 5000}};

START_TEST(recovered)
{
	for (unsigned n = 0; n < sizeof cuts / sizeof cuts[0]; n++) {
		struct move m = {.relay = cuts[n]};
		struct recovery r = {.relay = {.kind = UINT32_MAX}};

		begin_cut(&m, _i);
		recover(&r, &m, m.to);
		ck_assert_msg(r.received == 0, "%s", r.why_not);
		end_recovery(&r);
		ck_assert_msg(r.sent == 0, "%s", r.why);
		arrived(&m);
	}
}
END_TEST

/* As often as it takes, whatever the connections before were like. */
START_TEST(recovered_twice)
{
	struct move m = {.relay = cuts[1], .o = {.flags = VCORE_MIGRATE_DELTA}};
	struct recovery r[3] = {{.relay = cuts[2]}, {.relay = cuts[3]}, {.relay = {.kind = UINT32_MAX}}};

	migrating_connect(&m.more, 2);
	begin_cut(&m, _i);
	for (unsigned n = 0; n < 3; n++) {
		recover(&r[n], &m, m.to);
		ck_assert_msg(r[n].received == 0, "%s", r[n].why_not);
		end_recovery(&r[n]);
		ck_assert_int_eq(r[n].sent, n < 2 ? -ENOLINK : 0);
		if (n < 2)
			move_until_state(m.to, VCORE_MIGRATE_INTERRUPTED);
	}
	migrating_close(m.more.source, m.more.count);
	migrating_close(m.more.destination, m.more.count);
	arrived(&m);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("postcopy_recover");
	TCase *t = tcase_create("postcopy_recover");

	tcase_set_timeout(t, 60);
	EACH(t, recovered);
	EACH(t, recovered_twice);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return postcopying_main(suite());
}
