/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Post-copy whose connection is lost is taken up again over another one. */
#include "monitor_client.h"
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

/* ---- another migration's ---- */

START_TEST(mistaken)
{
	struct move m[2] = {{.relay = cuts[1]}, {.relay = cuts[1]}};
	struct recovery wrong = {.relay = {.kind = UINT32_MAX}};

	for (unsigned n = 0; n < 2; n++)
		begin_cut(&m[n], _i);
	recover(&wrong, &m[0], m[1].to);
	end_recovery(&wrong);
	ck_assert_int_eq(wrong.received, -EPROTO);
	ck_assert_msg(strstr(wrong.why_not, "another migration"), "%s", wrong.why_not);
	ck_assert_int_eq(wrong.sent, -EREMOTEIO);
	ck_assert_msg(strstr(wrong.why, "another migration"), "%s", wrong.why);
	ck_assert_uint_eq(migrating_info(m[0].from).state, VCORE_MIGRATE_INTERRUPTED);
	ck_assert_uint_eq(migrating_info(m[1].to).state, VCORE_MIGRATE_INTERRUPTED);
	ck_assert_msg(strstr(migrating_info(m[1].to).error, "another"), "%s", migrating_info(m[1].to).error);
	/* which has changed nothing */
	for (unsigned n = 0; n < 2; n++) {
		struct recovery right = {.relay = {.kind = UINT32_MAX}};

		recover(&right, &m[n], m[n].to);
		ck_assert_msg(right.received == 0, "%s", right.why_not);
		end_recovery(&right);
		ck_assert_msg(right.sent == 0, "%s", right.why);
		arrived(&m[n]);
	}
}
END_TEST

START_TEST(refused)
{
	struct vcore_migrate_recover_options o = {.size = sizeof o, .fd = -1};
	struct move m = {.relay = cuts[1]};
	vcore_vm *vm = api_vm(_i, 1);
	int pair[2];

	REFUSED(vcore_migrate_recover(NULL, &o), EINVAL, "a vm");
	REFUSED(vcore_migrate_recover(vm, &o), EINVAL, "neither an address");
	o.flags = 1;
	o.address = "unix:/nowhere/at-all";
	REFUSED(vcore_migrate_recover(vm, &o), EINVAL, "flags");
	o.flags = 0;
	REFUSED(vcore_migrate_recover(vm, &o), ENOENT, "interrupted");
	vcore_vm_unref(vm);
	begin_cut(&m, _i);
	REFUSED(vcore_migrate_recover(m.from, &o), ENOENT, "connecting");
	ck_assert_uint_eq(migrating_info(m.from).state, VCORE_MIGRATE_INTERRUPTED);
	ck_assert_msg(strstr(migrating_info(m.from).error, "connecting"), "%s", migrating_info(m.from).error);
	REFUSED(vcore_migrate_recover(m.to, &o), ENOENT, "");
	ck_assert_uint_eq(migrating_info(m.to).state, VCORE_MIGRATE_INTERRUPTED);
	/* one that is no source at all, or has gone already */
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	o.address = NULL;
	o.fd = pair[1];
	ck_assert_int_eq(send(pair[0], "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n", 36, 0), 36);
	REFUSED(vcore_migrate_recover(m.to, &o), EPROTO, "no frame");
	close(pair[0]);
	REFUSED(vcore_migrate_recover(m.to, &o), ECONNRESET, "");
	REFUSED(vcore_migrate_recover(m.from, &o), EPIPE, "");
	close(pair[1]);
	vcore_vm_unref(m.from);
	vcore_vm_unref(m.to);
}
END_TEST

/* ---- it is given up ---- */

static void *wait_for_source(void *ctx)
{
	struct vcore_migrate_recover_options o = {.size = sizeof o};
	struct recovery *r = ctx;
	char address[64];

	snprintf(address, sizeof address, "unix:/tmp/virtcore-recover-%d", (int)getpid());
	o.address = address;
	r->received = vcore_migrate_recover(r->from, &o);
	return NULL;
}

/* Cancelling ends a recovery that has found nobody; then the migration. */
START_TEST(given_up)
{
	struct vcore_migrate_recover_options o = {.size = sizeof o, .address = "unix:/nowhere/at-all"};
	struct recovery r = {0};
	struct vcore_exit exit = {.size = sizeof exit};
	struct move m = {.relay = cuts[1]};
	pthread_t waiting;

	begin_cut(&m, _i);
	r.from = m.to;
	ck_assert_int_eq(pthread_create(&waiting, NULL, wait_for_source, &r), 0);
	move_until_state(m.to, VCORE_MIGRATE_RECOVERING);
	OK(vcore_migrate_cancel(m.to));
	pthread_join(waiting, NULL);
	ck_assert_int_eq(r.received, -ECANCELED);
	ck_assert_uint_eq(migrating_info(m.to).state, VCORE_MIGRATE_INTERRUPTED);
	OK(vcore_migrate_cancel(m.from));
	ck_assert_uint_eq(migrating_info(m.from).state, VCORE_MIGRATE_LOST);
	REFUSED(vcore_migrate_recover(m.from, &o), ENOENT, "interrupted");
	OK(vcore_migrate_cancel(m.to));
	OK(vcore_vm_wait(m.to, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_CRASH);
	ck_assert_msg(strstr(exit.message, "given up"), "%s", exit.message);
	vcore_vm_unref(m.from);
	vcore_vm_unref(m.to);
}
END_TEST

/* The destination is dropped while it waits for memory, with or without somebody who waits for the source; or ends. */
enum end { DROPPED, STOPPED, STOPPED_WAITING, ENDS };

START_TEST(ended)
{
	for (enum end end = 0; end < ENDS; end++) {
		struct recovery r = {.relay = {.kind = UINT32_MAX}};
		struct vcore_exit exit = {.size = sizeof exit};
		struct move m = {.relay = cuts[1]};
		pthread_t waiting;

		begin_cut(&m, _i);
		r.from = m.to;
		if (end == STOPPED_WAITING) {
			ck_assert_int_eq(pthread_create(&waiting, NULL, wait_for_source, &r), 0);
			move_until_state(m.to, VCORE_MIGRATE_RECOVERING);
		}
		if (end != DROPPED) {
			OK(vcore_vm_stop(m.to));
			OK(vcore_vm_wait(m.to, LONG, &exit));
			ck_assert_uint_eq(exit.reason, VCORE_EXIT_STOPPED);
		}
		if (end == STOPPED_WAITING) {
			pthread_join(waiting, NULL);
			ck_assert_int_eq(r.received, -ECANCELED);
		}
		vcore_vm_unref(m.to);
		vcore_vm_unref(m.from);
	}
}
END_TEST

/* ---- a vcpu that waits for what may never come ---- */

/*
 * Some hosts' KVM emulates the guest, and does not give up waiting for what its own accesses need, whatever signal
 * comes.
 */
static bool never_gives_up(int backend)
{
	return api_is_poor_kvm(backend, "stopping a vcpu that waits for memory");
}

/* The guest stands: its count does not change. */
static void until_stands(vcore_vm *vm)
{
	struct vcore_vm_info info = {.size = sizeof info};
	uint64_t last;

	do {
		OK(vcore_vm_get_info(vm, &info));
		last = info.instructions;
		api_pause_ms(5);
		OK(vcore_vm_get_info(vm, &info));
	} while (info.instructions != last);
}

START_TEST(paused)
{
	struct recovery r = {.relay = {.kind = UINT32_MAX}};
	/* nothing but what is asked for */
	struct move m = {.relay = cuts[0]};
	static uint8_t pages[3 * 4096];

	if (never_gives_up(_i))
		return;
	begin_cut(&m, _i);
	until_stands(m.to);
	for (unsigned n = 0; n < 3; n++) {
		OK(vcore_vm_pause(m.to));
		ck_assert_uint_eq(api_state(m.to), VCORE_VM_PAUSED);
		OK(vcore_vm_resume(m.to));
		ck_assert_uint_eq(api_state(m.to), VCORE_VM_RUNNING);
	}
	/* nor does the program wait */
	REFUSED(vcore_memory_read(m.to, MORE + MORE_BYTES - sizeof pages, pages, sizeof pages), EAGAIN, "interrupted");
	REFUSED(vcore_memory_write(m.to, MORE + MORE_BYTES - sizeof pages, pages, sizeof pages), EAGAIN, "interrupted");
	recover(&r, &m, m.to);
	ck_assert_msg(r.received == 0, "%s", r.why_not);
	end_recovery(&r);
	arrived(&m);
}
END_TEST

static void *run_vcpu(void *ctx)
{
	struct vcore_exit exit = {.size = sizeof exit};
	struct recovery *r = ctx;

	OK(vcore_vcpu_run(vcore_vm_vcpu(r->from, 0), -1, &exit));
	r->received = (int)exit.reason;
	return NULL;
}

/* One that the program runs. */
START_TEST(kicked)
{
	struct move m = {.relay = {.kind = PAGES_FRAME}};
	struct vcore_exit exit = {.size = sizeof exit};
	struct recovery r = {.relay = {.kind = UINT32_MAX}}, run = {0};
	pthread_t runner;

	if (never_gives_up(_i))
		return;
	move_begin(&m, _i);
	pthread_join(m.receiver, NULL);
	ck_assert_msg(m.received == 0, "%s", m.why_not);
	move_end_sending(&m);
	move_until_state(m.to, VCORE_MIGRATE_INTERRUPTED);
	OK(vcore_vcpu_run(vcore_vm_vcpu(m.to, 0), 1000000, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_TIMEOUT);
	run.from = m.to;
	ck_assert_int_eq(pthread_create(&runner, NULL, run_vcpu, &run), 0);
	api_pause_ms(2);
	vcore_vcpu_kick(vcore_vm_vcpu(m.to, 0));
	pthread_join(runner, NULL);
	ck_assert_int_eq(run.received, VCORE_EXIT_KICKED);
	recover(&r, &m, m.to);
	ck_assert_msg(r.received == 0, "%s", r.why_not);
	end_recovery(&r);
	OK(vcore_vm_start(m.to));
	arrived(&m);
}
END_TEST

/* ---- the handover itself ---- */

/* Nobody knows whether the other side runs: that it answers says so. */
START_TEST(decided)
{
	struct recovery r = {.relay = {.kind = UINT32_MAX}};
	struct move m = {.relay = {.kind = UINT32_MAX, .mute = RUNS_FRAME}};

	move_begin(&m, _i);
	pthread_join(m.receiver, NULL);
	ck_assert_msg(m.received == 0, "%s", m.why_not);
	OK(vcore_vm_start(m.to));
	move_end_sending(&m);
	ck_assert_int_eq(m.sent, -ENOTRECOVERABLE);
	ck_assert_uint_eq(migrating_info(m.from).state, VCORE_MIGRATE_UNDECIDED);
	move_until_state(m.to, VCORE_MIGRATE_INTERRUPTED);
	recover(&r, &m, m.to);
	ck_assert_msg(r.received == 0, "%s", r.why_not);
	end_recovery(&r);
	ck_assert_msg(r.sent == 0, "%s", r.why);
	arrived(&m);
}
END_TEST

/* All is there, but the source has not heard of it. */
START_TEST(unheard)
{
	struct recovery r = {.relay = {.kind = UINT32_MAX}};
	struct move m = {.relay = {.kind = UINT32_MAX, .mute = WHOLE_FRAME}};

	move_begin(&m, _i);
	pthread_join(m.receiver, NULL);
	ck_assert_msg(m.received == 0, "%s", m.why_not);
	OK(vcore_vm_start(m.to));
	move_end_sending(&m);
	ck_assert_int_eq(m.sent, -ENOLINK);
	move_until_state(m.to, VCORE_MIGRATE_COMPLETED);
	recover(&r, &m, m.to);
	ck_assert_msg(r.received == 0, "%s", r.why_not);
	end_recovery(&r);
	ck_assert_msg(r.sent == 0, "%s", r.why);
	arrived(&m);
}
END_TEST

/* ---- as the monitors' clients ask for it ---- */

static void watch(struct line *line, vcore_vm *vm, const char *name, vcore_monitor **monitor)
{
	char path[64];

	snprintf(path, sizeof path, "/tmp/virtcore-recover-%s-%d", name, (int)getpid());
	unlink(path); /* of an earlier process of that number */
	OK(vcore_monitor_new(vm, path, 0, monitor));
	client_call(line, path);
}

/* A command, whose answer may come behind its events: whether it comes to that state or to another one. */
static bool comes_to(struct line *l, const char *request, const char *state, const char *other)
{
	bool answered = false, is = false, is_other = false;

	transmit(l->fd, request, strlen(request));
	transmit(l->fd, "\n", 1);
	while (!answered || (!is && !is_other)) {
		const char *text = receive(l);

		ck_assert_msg(!strstr(text, "\"error\":{") && strcmp(text, "closed"), "%s", text);
		answered |= strstr(text, "\"return\"") != NULL;
		is |= strstr(text, state) != NULL;
		is_other |= strstr(text, other) != NULL;
	}
	return is;
}

START_TEST(by_monitor)
{
	static struct line from, to;
	struct move m = {.relay = cuts[1]};
	vcore_monitor *monitor[2];
	char request[200];

	begin_cut(&m, _i);
	watch(&from, m.from, "from", &monitor[0]);
	watch(&to, m.to, "to", &monitor[1]);
	command(&from, "query-migrate", "\"status\":\"interrupted\"");
	snprintf(request, sizeof request,
	         "{\"execute\":\"migrate-recover\",\"arguments\":{\"uri\":\"unix:/tmp/virtcore-recover-%d\"}}",
	         (int)getpid());
	/* nobody listens yet */
	ck_assert(!comes_to(&from, request, "postcopy", "interrupted"));
	comes_to(&to, request, "recovering", "recovering");
	/* it says so before it listens */
	while (!comes_to(&from, request, "postcopy", "interrupted"))
		;
	until_says(&from, "\"status\":\"completed\"");
	until_says(&to, "\"status\":\"completed\"");
	for (unsigned n = 0; n < 2; n++) {
		close(n ? to.fd : from.fd);
		vcore_monitor_free(monitor[n]);
	}
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
	EACH(t, mistaken);
	EACH(t, refused);
	EACH(t, given_up);
	EACH(t, ended);
	EACH(t, paused);
	EACH(t, kicked);
	EACH(t, decided);
	EACH(t, unheard);
	EACH(t, by_monitor);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return postcopying_main(suite());
}
