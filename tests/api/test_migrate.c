/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Live migration: to another process, and over a connection that somebody spoils. */
#include "migrating.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the other side: a process, made before there are threads ---- */

struct peer {
	pid_t pid;
	int fd;     /* ours */
	int its_fd; /* in the parent only until it is given away */
	int report; /* what became of it */
};

struct report {
	int result;
	uint32_t before, after; /* the count when it came, and later */
	char error[200];
};

static void receive(int backend, int fd, int to)
{
	struct vcore_migrate_receive_options o = {.size = sizeof o, .fd = fd, .timeout_ms = 10000};
	struct report report = {0};
	vcore_vm *vm;

	report.result = vcore_migrate_receive(&o, &vm);
	snprintf(report.error, sizeof report.error, "%s", report.result < 0 ? vcore_error_message() : "");
	close(fd);
	if (report.result >= 0) {
		report.before = api_word(vm, COUNT);
		OK(vcore_vm_start(vm));
		report.after = goes_on(vm, report.before);
		vcore_vm_unref(vm);
	} else {
		ck_assert_ptr_null(vm);
	}
	if (write(to, &report, sizeof report) < 0)
		_exit(1);
}

static void make_peer(struct peer *p, int backend)
{
	int s[2], pipes[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	ck_assert_int_eq(pipe(pipes), 0);
	fflush(stdout);
	p->pid = fork();
	ck_assert_int_ge(p->pid, 0);
	if (!p->pid) {
		close(s[0]);
		close(pipes[0]);
		receive(backend, s[1], pipes[1]);
		exit(0); /* where a sanitizer looks for leaks */
	}
	close(s[1]);
	close(pipes[1]);
	p->fd = s[0];
	p->report = pipes[0];
}

static struct report end_peer(struct peer *p)
{
	struct report report;
	int status;

	ck_assert_int_eq(read(p->report, &report, sizeof report), sizeof report);
	close(p->report);
	close(p->fd);
	ck_assert_int_eq(waitpid(p->pid, &status, 0), p->pid);
	ck_assert_int_eq(status, 0);
	return report;
}

START_TEST(to_another_process)
{
	struct vcore_migrate_options o = {.size = sizeof o, .flags = VCORE_MIGRATE_AUTO_CONVERGE};
	struct vcore_exit exit = {.size = sizeof exit};
	struct vcore_migrate_info info;
	struct report report;
	struct peer peer;
	uint32_t count;
	vcore_vm *vm;

	make_peer(&peer, _i);
	vm = writing(_i);
	ck_assert_uint_eq(info_of(vm).state, VCORE_MIGRATE_NONE);
	OK(vcore_vm_start(vm));
	goes_on(vm, 0);
	o.fd = peer.fd;
	OK(vcore_migrate_send(vm, &o));
	OK(vcore_vm_wait(vm, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_MIGRATED);
	count = api_word(vm, COUNT);
	api_pause_ms(5);
	ck_assert_uint_eq(api_word(vm, COUNT), count);
	report = end_peer(&peer);
	ck_assert_msg(report.result == 0, "%s", report.error);
	ck_assert_uint_eq(report.before, count);
	ck_assert_uint_ge(report.after, count + 10);
	info = info_of(vm);
	ck_assert_uint_eq(info.state, VCORE_MIGRATE_COMPLETED);
	ck_assert_uint_eq(info.memory, RAM);
	ck_assert_uint_ge(info.rounds, 2);
	ck_assert_uint_gt(info.downtime_ns, 0);
	ck_assert_uint_le(info.downtime_ns, info.total_ns);
	ck_assert_str_eq(info.error, "");
	vcore_vm_unref(vm);
}
END_TEST

/* ---- a connection that somebody spoils ---- */

enum spoil { CUT, STALL, ALTER };

struct proxy {
	int in, out; /* the source's and the destination's side */
	enum spoil how;
	bool backwards; /* what the destination says */
	uint64_t at;    /* byte */
	pthread_t thread;
};

/* What one direction has; false: it has ended, or is to. */
static bool pass(struct proxy *p, int from, int to, uint64_t *passed, bool spoilt)
{
	uint8_t buffer[4096];
	ssize_t n = recv(from, buffer, sizeof buffer, 0);
	bool here = spoilt && n > 0 && p->at < *passed + (uint64_t)n && p->at >= *passed;

	if (n <= 0)
		return false;
	if (here && p->how == ALTER)
		buffer[p->at - *passed] ^= 0x10;
	if (here && p->how != ALTER)
		n = (ssize_t)(p->at - *passed);
	*passed += (uint64_t)n;
	for (ssize_t done = 0, k; done < n; done += k)
		if ((k = send(to, buffer + done, (size_t)(n - done), MSG_NOSIGNAL)) <= 0)
			return false;
	/* one that stalls keeps both sides connected until they have had enough */
	return !here || p->how == ALTER || p->how == STALL;
}

static void *run_proxy(void *ctx)
{
	struct proxy *p = ctx;
	uint64_t passed[2] = {0};
	bool stalled = false;

	for (bool on = true; on;) {
		struct pollfd fds[] = {{p->in, stalled ? 0 : POLLIN, 0}, {p->out, stalled ? 0 : POLLIN, 0}};

		poll(fds, 2, 100);
		if (stalled) {
			on = !((fds[0].revents | fds[1].revents) & POLLHUP);
			continue;
		}
		if (fds[0].revents)
			on = pass(p, p->in, p->out, &passed[0], !p->backwards);
		if (on && fds[1].revents)
			on = pass(p, p->out, p->in, &passed[1], p->backwards);
		stalled = p->how == STALL && passed[p->backwards] == p->at;
	}
	close(p->in);
	close(p->out);
	return NULL;
}

static void *receive_here(void *ctx)
{
	struct vcore_migrate_receive_options o = {.size = sizeof o, .fd = *(int *)ctx, .timeout_ms = 300};
	vcore_vm *vm = NULL;

	vcore_migrate_receive(&o, &vm);
	return vm;
}

/* Exactly one side has the guest, which goes on. True: that is the other side. */
static bool spoilt(int backend, enum spoil how, bool backwards, uint64_t at)
{
	struct vcore_migrate_options o = {.size = sizeof o, .timeout_ms = 500, .flags = VCORE_MIGRATE_AUTO_CONVERGE};
	struct proxy p = {.how = how, .backwards = backwards, .at = at};
	vcore_vm *vm = writing(backend);
	int source[2], destination[2], r;
	pthread_t receiver;
	void *result;
	uint32_t count;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, source), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, destination), 0);
	p.in = source[1];
	p.out = destination[0];
	OK(vcore_vm_start(vm));
	goes_on(vm, 0);
	ck_assert_int_eq(pthread_create(&p.thread, NULL, run_proxy, &p), 0);
	ck_assert_int_eq(pthread_create(&receiver, NULL, receive_here, &destination[1]), 0);
	o.fd = source[0];
	r = vcore_migrate_send(vm, &o);
	close(source[0]);
	pthread_join(receiver, &result);
	close(destination[1]);
	pthread_join(p.thread, NULL);
	count = api_word(vm, COUNT);
	if (r == -ENOTRECOVERABLE) {
		/* the test knows what the connection cannot tell */
		ck_assert_uint_eq(api_state(vm), VCORE_VM_PAUSED);
		ck_assert_uint_eq(info_of(vm).state, VCORE_MIGRATE_UNDECIDED);
		if (!result)
			OK(vcore_vm_resume(vm));
	} else {
		ck_assert_msg((r == 0) == (result != NULL), "source %d, destination %p at %llu", r, result,
		              (unsigned long long)at);
	}
	if (result) {
		vcore_vm_unref(vm);
		vm = result;
		ck_assert_uint_eq(api_word(vm, COUNT), count);
		OK(vcore_vm_start(vm));
	} else {
		ck_assert_uint_eq(api_state(vm), VCORE_VM_RUNNING);
	}
	goes_on(vm, count);
	vcore_vm_unref(vm);
	return result != NULL;
}

/* Heads, contents, and what lies between, from the first byte to behind the last. */
START_TEST(cut_and_altered)
{
	static const uint64_t forth[] = {0,   3,    31,   32,   47,    48,     60,     80,
	                                 200, 1500, 5000, 9000, 40000, 150000, 270000, 300000};
	/* READY, LOADED and RUNS are 32 bytes each */
	static const uint64_t back[] = {0, 20, 31, 32, 50, 63, 64, 80, 95};

	for (int how = CUT; how <= ALTER; how += ALTER - CUT) {
		for (unsigned n = 0; n < sizeof forth / sizeof forth[0]; n++)
			spoilt(_i, how, false, forth[n]);
		for (unsigned n = 0; n < sizeof back / sizeof back[0]; n++)
			ck_assert_int_eq(spoilt(_i, how, true, back[n]), back[n] >= 64);
	}
	/* nothing was spoilt */
	ck_assert(spoilt(_i, CUT, false, UINT64_MAX));
}
END_TEST

START_TEST(stalled)
{
	spoilt(_i, STALL, false, 20);
	spoilt(_i, STALL, false, 20000);
	ck_assert(!spoilt(_i, STALL, true, 10));
	ck_assert(!spoilt(_i, STALL, true, 40));
	ck_assert(spoilt(_i, STALL, true, 70));
}
END_TEST

/* ---- giving up ---- */

static int no_more(void *ctx, const struct vcore_migrate_info *info)
{
	return info->rounds >= 2;
}

static void *cancel_it(void *ctx)
{
	while (info_of(ctx).state != VCORE_MIGRATE_ACTIVE)
		api_pause_ms(1);
	OK(vcore_migrate_cancel(ctx));
	return NULL;
}

START_TEST(given_up)
{
	/* what it writes cannot be sent in a microsecond, however often it is tried */
	struct vcore_migrate_options o = {.size = sizeof o, .downtime_us = 1};
	vcore_vm *vm = writing(_i);
	pthread_t receiver, other;
	void *result;

	REFUSED(vcore_migrate_cancel(vm), ENOENT, "not being migrated");
	OK(vcore_vm_start(vm));
	goes_on(vm, 0);
	for (int way = 0; way < 3; way++) {
		static const int errors[] = {ECANCELED, ECANCELED, ETIMEDOUT};
		int s[2];

		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
		ck_assert_int_eq(pthread_create(&receiver, NULL, receive_here, &s[1]), 0);
		o.fd = s[0];
		o.progress = way == 0 ? no_more : NULL;
		o.max_time_ms = way == 2 ? 50 : 0;
		if (way == 1)
			ck_assert_int_eq(pthread_create(&other, NULL, cancel_it, vm), 0);
		ck_assert_int_eq(vcore_migrate_send(vm, &o), -errors[way]);
		if (way == 1)
			pthread_join(other, NULL);
		close(s[0]);
		pthread_join(receiver, &result);
		close(s[1]);
		ck_assert_ptr_null(result);
		ck_assert_uint_eq(info_of(vm).state, way == 2 ? VCORE_MIGRATE_FAILED : VCORE_MIGRATE_CANCELED);
		ck_assert_str_ne(info_of(vm).error, "");
		goes_on(vm, api_word(vm, COUNT));
	}
	vcore_vm_unref(vm);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("migrate");
	TCase *t = tcase_create("migrate");

	tcase_set_timeout(t, 60);
	EACH(t, to_another_process);
	EACH(t, cut_and_altered);
	EACH(t, stalled);
	EACH(t, given_up);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return api_main(suite());
}
