/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lib/core: guest clock and event loop, driven by its own thread and by the program. */
#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <unistd.h>

#include "core/error.h"
#include "core/loop.h"
#include "core/util.h"

#define MS 1000000ull

static struct vc_clock clock_;
static struct vc_loop *loop;

static void setup_program(void)
{
	vc_clock_init(&clock_);
	ck_assert_int_eq(vc_loop_new(&clock_, false, &loop), 0);
}

static void setup_thread(void)
{
	vc_clock_init(&clock_);
	ck_assert_int_eq(vc_loop_new(&clock_, true, &loop), 0);
}

static void teardown(void)
{
	vc_loop_free(loop);
}

static void nap(uint64_t ns)
{
	struct timespec t = {.tv_nsec = (long)ns};

	nanosleep(&t, NULL);
}

/* ---- clock ---- */

START_TEST(test_clock)
{
	struct vc_clock c;
	uint64_t t;

	vc_clock_init(&c);
	t = vc_clock_now(&c);
	ck_assert_uint_lt(t, 1000 * MS);
	vc_clock_set(&c, 77 * MS);
	ck_assert_uint_ge(vc_clock_now(&c), 77 * MS);
	vc_clock_stop(&c);
	t = vc_clock_now(&c);
	nap(2 * MS);
	ck_assert_uint_eq(vc_clock_now(&c), t);
	vc_clock_stop(&c); /* again: no change */
	ck_assert_uint_eq(vc_clock_now(&c), t);
	ck_assert_uint_eq(vc_clock_to_host(&c, t), UINT64_MAX);
	vc_clock_set(&c, 5);
	ck_assert_uint_eq(vc_clock_now(&c), 5);
	vc_clock_start(&c);
	vc_clock_start(&c);
	t = vc_clock_now(&c);
	ck_assert_uint_ge(t, 5);
	ck_assert_uint_lt(t, 1000 * MS);
	ck_assert_uint_ge(vc_clock_to_host(&c, t + MS), vc_host_ns() - 1000 * MS);
	ck_assert_uint_eq(vc_clock_to_host(&c, UINT64_MAX), UINT64_MAX);
	/* guest time far ahead of the host's: the host moment lies before its boot */
	vc_clock_set(&c, 1ull << 62);
	ck_assert_uint_eq(vc_clock_to_host(&c, 0), 0);
	ck_assert_uint_eq(vc_muldiv64(UINT64_MAX, 10, 20), UINT64_MAX / 2);
	ck_assert_uint_eq(vc_muldiv64(UINT64_MAX, 3, 2), UINT64_MAX);
}
END_TEST

/* ---- timers, program mode ---- */

static int order[64], fired;

static void note(void *ctx)
{
	order[fired++] = (int)(intptr_t)ctx;
}

static void run_until(int count, uint64_t limit_ms)
{
	uint64_t end = vc_host_ns() + limit_ms * MS;

	while (fired < count && vc_host_ns() < end)
		ck_assert_int_ge(vc_loop_run(loop, 50 * (int64_t)MS), 0);
}

START_TEST(test_timer_order)
{
	struct vc_timer *t[8];
	const int at[8] = {5, 1, 7, 3, 3, 0, 6, 2}; /* ms; two equal: in order of arming */
	const int want[8] = {5, 1, 7, 3, 4, 0, 6, 2};
	uint64_t now = vc_clock_now(&clock_);

	fired = 0;
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(vc_timer_new(loop, note, (void *)(intptr_t)i, &t[i]), 0);
	for (int i = 0; i < 8; i++)
		vc_timer_arm(t[i], now + (uint64_t)at[i] * 2 * MS);
	run_until(8, 2000);
	ck_assert_int_eq(fired, 8);
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(order[i], want[i]);
	ck_assert_uint_ge(vc_clock_now(&clock_), now + 14 * MS);
	ck_assert_int_eq(vc_loop_run(loop, 0), 0); /* one shot each */
	for (int i = 0; i < 8; i++)
		vc_timer_free(t[i]);
	vc_timer_free(NULL);
}
END_TEST

START_TEST(test_timer_heap)
{
	enum { N = 500 };
	struct vc_timer *t[N];
	uint32_t seed = 1;
	int alive = 0;

	/* many, armed, re-armed and cancelled at random: exactly those due fire at every step */
	static uint64_t due[N];
	fired = 0;
	for (int i = 0; i < N; i++)
		ck_assert_int_eq(vc_timer_new(loop, note, NULL, &t[i]), 0);
	vc_clock_set(&clock_, 0);
	vc_clock_stop(&clock_);
	for (int k = 0; k < 5000; k++) {
		seed = seed * 1664525 + 1013904223;
		int i = (int)((seed >> 8) % N);
		if (seed >> 30) {
			due[i] = 1 + (seed >> 12) % 1000;
			vc_timer_arm(t[i], due[i]);
		} else {
			due[i] = 0;
			vc_timer_cancel(t[i]);
		}
	}
	for (int i = 0; i < N; i++)
		alive += due[i] != 0;
	int total = 0;
	for (uint64_t now = 50; now <= 1000; now += 50) {
		int want = 0;
		for (int i = 0; i < N; i++)
			want += due[i] > now - 50 && due[i] <= now;
		vc_clock_set(&clock_, now);
		fired = 0;
		ck_assert_int_lt(want, (int)VC_ARRAY_SIZE(order));
		/* stopped, so the timerfd is off: a posted call makes it look */
		ck_assert_int_eq(vc_loop_post(loop, note, NULL), 0);
		ck_assert_int_eq(vc_loop_run(loop, 0), want + 1);
		total += want;
	}
	ck_assert_int_eq(total, alive);
	for (int i = 0; i < N; i++)
		vc_timer_free(t[i]);
}
END_TEST

struct again {
	struct vc_timer *timer;
	int count;
	uint64_t deadline;
};

static void arm_again(void *ctx)
{
	struct again *a = ctx;

	a->count++;
	vc_timer_arm(a->timer, a->deadline);
}

START_TEST(test_past_deadline_does_not_starve)
{
	struct again a = {.deadline = 0};
	struct vc_timer *t;

	fired = 0;
	ck_assert_int_eq(vc_timer_new(loop, arm_again, &a, &a.timer), 0);
	ck_assert_int_eq(vc_timer_new(loop, note, NULL, &t), 0);
	vc_timer_arm(a.timer, 0);
	vc_timer_arm(t, 1);
	ck_assert_int_eq(vc_loop_post(loop, note, NULL), 0);
	ck_assert_int_eq(vc_loop_run(loop, 100 * (int64_t)MS), 3);
	ck_assert_int_eq(a.count, 1); /* once a turn */
	ck_assert_int_eq(fired, 2);
	ck_assert_int_eq(vc_loop_run(loop, 1000 * (int64_t)MS), 1); /* the next at once */
	ck_assert_int_eq(a.count, 2);
	vc_timer_free(a.timer);
	vc_timer_free(t);
}
END_TEST

START_TEST(test_rearm_and_cancel)
{
	struct vc_timer *t;
	uint64_t now = vc_clock_now(&clock_);

	fired = 0;
	ck_assert_int_eq(vc_timer_new(loop, note, NULL, &t), 0);
	vc_timer_arm(t, now + MS);
	vc_timer_arm(t, now + 20 * MS); /* later: the first expiry of the descriptor serves nothing */
	run_until(1, 1000);
	ck_assert_int_eq(fired, 1);
	ck_assert_uint_ge(vc_clock_now(&clock_), now + 20 * MS);
	vc_timer_arm(t, UINT64_MAX); /* never */
	ck_assert_int_eq(vc_loop_run(loop, (int64_t)MS), 0);
	vc_timer_arm(t, 0);
	vc_timer_cancel(t);
	vc_timer_cancel(t);
	ck_assert_int_eq(vc_loop_run(loop, (int64_t)MS), 0);
	ck_assert_int_eq(fired, 1);
	vc_timer_arm(t, 0);
	vc_timer_free(t); /* armed */
	ck_assert_int_eq(vc_loop_run(loop, (int64_t)MS), 0);
}
END_TEST

START_TEST(test_stopped_clock)
{
	uint64_t due = vc_clock_now(&clock_) + 3600000 * MS;
	struct vc_timer *t;

	fired = 0;
	ck_assert_int_eq(vc_timer_new(loop, note, NULL, &t), 0);
	vc_timer_arm(t, due);
	vc_clock_stop(&clock_);
	vc_clock_set(&clock_, due - 5 * MS); /* by a clock that runs it could be due before it is looked at */
	vc_loop_clock_changed(loop);
	ck_assert_int_eq(vc_loop_run(loop, 20 * (int64_t)MS), 0);
	ck_assert_int_eq(fired, 0);
	uint64_t before = vc_clock_now(&clock_);
	vc_clock_start(&clock_);
	vc_loop_clock_changed(loop);
	run_until(1, 1000);
	ck_assert_int_eq(fired, 1);
	ck_assert_uint_ge(vc_clock_now(&clock_), before);
	/* time set forward makes it due, set back puts it off */
	vc_timer_arm(t, vc_clock_now(&clock_) + 3600000 * MS);
	vc_clock_set(&clock_, vc_clock_now(&clock_) + 3600000 * MS);
	vc_loop_clock_changed(loop);
	run_until(2, 1000);
	ck_assert_int_eq(fired, 2);
	vc_clock_set(&clock_, 0);
	vc_loop_clock_changed(loop);
	vc_timer_arm(t, 1000 * MS);
	ck_assert_int_eq(vc_loop_run(loop, (int64_t)MS), 0);
	vc_timer_free(t);
}
END_TEST

struct pair {
	struct vc_timer *self, *other;
	struct vc_watch *watch;
	int runs;
};

static void free_both(void *ctx)
{
	struct pair *p = ctx;

	p->runs++;
	vc_timer_free(p->other); /* due in this very turn */
	vc_timer_free(p->self);
	vc_watch_free(p->watch); /* readable in this very turn */
}

static void never_watch(void *ctx, uint32_t events)
{
	++*(int *)ctx;
}

START_TEST(test_cancel_from_callback)
{
	struct pair p = {0};
	int pipes[2], seen = 0;

	fired = 0;
	ck_assert_int_eq(pipe(pipes), 0);
	ck_assert_int_eq(write(pipes[1], "x", 1), 1);
	ck_assert_int_eq(vc_timer_new(loop, free_both, &p, &p.self), 0);
	ck_assert_int_eq(vc_timer_new(loop, note, NULL, &p.other), 0);
	ck_assert_int_eq(vc_watch_new(loop, pipes[0], EPOLLIN, never_watch, &seen, &p.watch), 0);
	vc_timer_arm(p.self, 0);
	vc_timer_arm(p.other, 1);
	ck_assert_int_eq(vc_loop_run(loop, 100 * (int64_t)MS), 1);
	ck_assert_int_eq(vc_loop_run(loop, (int64_t)MS), 0);
	ck_assert_int_eq(p.runs, 1);
	ck_assert_int_eq(fired, 0);
	ck_assert_int_eq(seen, 0);
	close(pipes[0]);
	close(pipes[1]);
}
END_TEST

/* ---- watches ---- */

struct reader {
	struct vc_watch *watch;
	int fd, calls, eof;
	char data[16];
	uint32_t events;
};

static void on_readable(void *ctx, uint32_t events)
{
	struct reader *r = ctx;
	ssize_t n = read(r->fd, r->data, sizeof r->data);

	r->calls++;
	r->events = events;
	if (n <= 0) {
		r->eof++;
		ck_assert_int_eq(vc_watch_set_events(r->watch, 0), 0);
	}
}

START_TEST(test_watch)
{
	struct reader r = {0};
	struct pollfd p = {.fd = vc_loop_fd(loop), .events = POLLIN};
	int pipes[2];

	ck_assert_int_eq(pipe(pipes), 0);
	r.fd = pipes[0];
	ck_assert_int_eq(vc_watch_new(loop, r.fd, EPOLLIN, on_readable, &r, &r.watch), 0);
	ck_assert_int_eq(poll(&p, 1, 0), 0);
	ck_assert_int_eq(vc_loop_run(loop, 0), 0);
	ck_assert_int_eq(write(pipes[1], "abc", 3), 3);
	ck_assert_int_eq(poll(&p, 1, 0), 1);
	ck_assert_int_eq(vc_loop_run(loop, -1), 1);
	ck_assert_str_eq(r.data, "abc");
	ck_assert_uint_eq(r.events & EPOLLIN, EPOLLIN);
	ck_assert_int_eq(vc_watch_set_events(r.watch, 0), 0);
	ck_assert_int_eq(write(pipes[1], "d", 1), 1);
	ck_assert_int_eq(vc_loop_run(loop, (int64_t)MS), 0);
	ck_assert_int_eq(vc_watch_set_events(r.watch, EPOLLIN), 0);
	ck_assert_int_eq(vc_loop_run(loop, -1), 1);
	close(pipes[1]);
	ck_assert_int_eq(vc_loop_run(loop, -1), 1);
	ck_assert_int_eq(r.eof, 1);
	ck_assert_int_eq(vc_loop_run(loop, (int64_t)MS), 0); /* no events wanted: the hang-up is not told for ever */
	struct vc_watch *bad;
	ck_assert_int_eq(vc_watch_new(loop, -1, EPOLLIN, on_readable, &r, &bad), -EBADF);
	ck_assert_ptr_null(bad);
	vc_watch_free(r.watch);
	vc_watch_free(NULL);
	close(pipes[0]);
}
END_TEST

START_TEST(test_watch_always_ready)
{
	/* neither /dev/null nor a regular file can be polled by epoll */
	struct reader null = {.fd = open("/dev/null", O_RDONLY)}, file = {.fd = open("/proc/self/exe", O_RDONLY)};
	struct pollfd p = {.fd = vc_loop_fd(loop), .events = POLLIN};

	ck_assert_int_eq(vc_watch_new(loop, null.fd, EPOLLIN, on_readable, &null, &null.watch), 0);
	ck_assert_int_eq(vc_watch_new(loop, file.fd, EPOLLIN, on_readable, &file, &file.watch), 0);
	ck_assert_int_eq(poll(&p, 1, 0), 1);
	ck_assert_int_eq(vc_loop_run(loop, -1), 2);
	ck_assert_int_eq(null.eof, 1);
	ck_assert_mem_eq(file.data, "\177ELF", 4);
	ck_assert_int_eq(poll(&p, 1, 0), 1);
	ck_assert_int_eq(vc_loop_run(loop, -1), 1);
	ck_assert_int_eq(file.calls, 2);
	ck_assert_int_eq(null.calls, 1);
	vc_watch_free(file.watch);
	vc_loop_run(loop, 0); /* the wake-up left over */
	ck_assert_int_eq(poll(&p, 1, 0), 0);
	vc_watch_free(null.watch);
	close(null.fd);
	close(file.fd);
}
END_TEST

/* ---- posts and driving ---- */

static void post_again(void *ctx)
{
	++*(int *)ctx;
	ck_assert_int_eq(vc_loop_post(loop, post_again, ctx), 0);
}

START_TEST(test_posts)
{
	int count = 0;
	struct pollfd p = {.fd = vc_loop_fd(loop), .events = POLLIN};

	fired = 0;
	for (intptr_t i = 0; i < 5; i++)
		ck_assert_int_eq(vc_loop_post(loop, note, (void *)i), 0);
	vc_loop_cancel_post(loop, note, (void *)2);
	vc_loop_cancel_post(loop, note, (void *)4); /* the last */
	ck_assert_int_eq(vc_loop_post(loop, note, (void *)9), 0);
	ck_assert_int_eq(poll(&p, 1, 0), 1);
	ck_assert_int_eq(vc_loop_run(loop, -1), 4);
	const int want[] = {0, 1, 3, 9};
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(order[i], want[i]);
	ck_assert_int_eq(vc_loop_post(loop, post_again, &count), 0);
	ck_assert_int_eq(vc_loop_run(loop, -1), 1);
	ck_assert_int_eq(vc_loop_run(loop, -1), 1);
	ck_assert_int_eq(count, 2);
	vc_loop_cancel_post(loop, post_again, &count);
	vc_loop_run(loop, 0);
	ck_assert_int_eq(count, 2);
	ck_assert_int_eq(vc_loop_post(loop, note, NULL), 0); /* dropped by free */
}
END_TEST

static void run_nested(void *ctx)
{
	*(int *)ctx = vc_loop_run(loop, 0);
	ck_assert(vc_loop_is_self(loop));
}

static void on_signal(int s) {}

START_TEST(test_run)
{
	int r = 0;
	uint64_t start = vc_host_ns();
	struct sigaction sa = {.sa_handler = on_signal};
	struct itimerval it = {.it_value.tv_usec = 20000, .it_interval.tv_usec = 20000}, off = {0};

	ck_assert_int_eq(vc_loop_run(loop, 3 * (int64_t)MS), 0);
	ck_assert_uint_ge(vc_host_ns() - start, 3 * MS);
	ck_assert(!vc_loop_is_self(loop));
	ck_assert_int_eq(vc_loop_post(loop, run_nested, &r), 0);
	ck_assert_int_eq(vc_loop_run(loop, -1), 1);
	ck_assert_int_eq(r, -EBUSY);
	/* a signal ends an endless wait */
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &it, NULL);
	ck_assert_int_eq(vc_loop_run(loop, -1), 0);
	setitimer(ITIMER_REAL, &off, NULL);
}
END_TEST

/* ---- own thread ---- */

static _Atomic int entered, left, go;

static void slow(void *ctx)
{
	atomic_fetch_add(&entered, 1);
	while (!atomic_load(&go))
		sched_yield();
	nap(2 * MS);
	atomic_fetch_add(&left, 1);
	if (ctx)
		vc_timer_arm(*(struct vc_timer **)ctx, 0); /* tries to live on */
}

static void wait_for(_Atomic int *what, int count)
{
	for (int i = 0; i < 5000 && atomic_load(what) < count; i++)
		nap(MS);
	ck_assert_int_ge(atomic_load(what), count);
}

static void reset_counts(void)
{
	atomic_store(&entered, 0);
	atomic_store(&left, 0);
	atomic_store(&go, 0);
}

static void *let_go(void *arg)
{
	nap(5 * MS);
	atomic_store(&go, 1);
	return NULL;
}

/* A callback that ran has ended by now, whether the caller or the helper was first. */
static void all_left(void)
{
	ck_assert_int_eq(atomic_load(&left), atomic_load(&entered));
}

/* Nor does it run again. */
static void stays_away(void)
{
	int before = atomic_load(&entered);

	nap(5 * MS);
	ck_assert_int_eq(atomic_load(&entered), before);
}

START_TEST(test_thread_cancel_waits)
{
	struct vc_timer *t;
	pthread_t helper;

	reset_counts();
	ck_assert_int_eq(vc_loop_run(loop, 0), -EINVAL);
	ck_assert_int_eq(vc_loop_fd(loop), -EINVAL);
	ck_assert_int_eq(vc_timer_new(loop, slow, &t, &t), 0);
	vc_timer_arm(t, 0);
	wait_for(&entered, 1);
	ck_assert_int_eq(pthread_create(&helper, NULL, let_go, NULL), 0);
	vc_timer_cancel(t);
	all_left();
	stays_away(); /* it had armed itself again before cancel came back */
	pthread_join(helper, NULL);
	vc_timer_free(t);
}
END_TEST

static void slow_watch(void *ctx, uint32_t events)
{
	slow(NULL);
}

START_TEST(test_thread_watch_free_waits)
{
	struct vc_watch *w;
	pthread_t helper;
	int pipes[2];

	reset_counts();
	ck_assert_int_eq(pipe(pipes), 0);
	ck_assert_int_eq(vc_watch_new(loop, pipes[0], EPOLLIN, slow_watch, NULL, &w), 0);
	ck_assert_int_eq(write(pipes[1], "x", 1), 1);
	wait_for(&entered, 1);
	ck_assert_int_eq(pthread_create(&helper, NULL, let_go, NULL), 0);
	vc_watch_free(w);
	all_left();
	stays_away();
	pthread_join(helper, NULL);
	close(pipes[0]);
	close(pipes[1]);
}
END_TEST

START_TEST(test_thread_cancel_post_waits)
{
	pthread_t helper;

	reset_counts();
	ck_assert_int_eq(vc_loop_post(loop, slow, NULL), 0);
	wait_for(&entered, 1);
	ck_assert_int_eq(vc_loop_post(loop, slow, NULL), 0);
	ck_assert_int_eq(pthread_create(&helper, NULL, let_go, NULL), 0);
	vc_loop_cancel_post(loop, slow, NULL);
	all_left();
	pthread_join(helper, NULL);
	stays_away();
}
END_TEST

static void count(void *ctx)
{
	atomic_fetch_add((_Atomic int *)ctx, 1);
}

static void *hammer(void *arg)
{
	struct vc_timer *t = arg;

	for (int i = 0; i < 3000; i++) {
		if (i % 3)
			vc_timer_arm(t, i % 5 ? vc_clock_now(&clock_) + (uint64_t)(i % 7) * 1000 : 0);
		else
			vc_timer_cancel(t);
	}
	return NULL;
}

START_TEST(test_thread_hammer)
{
	_Atomic int hits = 0, posted = 0;
	struct vc_timer *t[3];
	pthread_t thread[3];

	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(vc_timer_new(loop, count, &hits, &t[i]), 0);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, hammer, t[i]), 0);
	for (int i = 0; i < 500; i++)
		ck_assert_int_eq(vc_loop_post(loop, count, &posted), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	wait_for(&posted, 500);
	int before = atomic_load(&hits);
	vc_timer_arm(t[0], vc_clock_now(&clock_) + MS);
	wait_for(&hits, before + 1);
	for (int i = 0; i < 3; i++)
		vc_timer_free(t[i]);
}
END_TEST

START_TEST(test_thread_wakes_for_earlier)
{
	_Atomic int hits = 0;
	struct vc_timer *late, *soon;

	ck_assert_int_eq(vc_timer_new(loop, count, &hits, &late), 0);
	ck_assert_int_eq(vc_timer_new(loop, count, &hits, &soon), 0);
	vc_timer_arm(late, vc_clock_now(&clock_) + 3600000 * MS);
	nap(3 * MS); /* the thread sleeps by now */
	vc_timer_arm(soon, vc_clock_now(&clock_) + MS);
	wait_for(&hits, 1);
	ck_assert_int_eq(atomic_load(&hits), 1);
	vc_timer_free(late);
	vc_timer_free(soon);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("loop");
	TCase *plain = tcase_create("clock"), *c = tcase_create("program"), *t = tcase_create("thread");

	tcase_add_test(plain, test_clock);
	tcase_add_checked_fixture(c, setup_program, teardown);
	tcase_add_test(c, test_timer_order);
	tcase_add_test(c, test_timer_heap);
	tcase_add_test(c, test_past_deadline_does_not_starve);
	tcase_add_test(c, test_rearm_and_cancel);
	tcase_add_test(c, test_stopped_clock);
	tcase_add_test(c, test_cancel_from_callback);
	tcase_add_test(c, test_watch);
	tcase_add_test(c, test_watch_always_ready);
	tcase_add_test(c, test_posts);
	tcase_add_test(c, test_run);
	tcase_set_timeout(t, 30);
	tcase_add_checked_fixture(t, setup_thread, teardown);
	tcase_add_test(t, test_thread_cancel_waits);
	tcase_add_test(t, test_thread_watch_free_waits);
	tcase_add_test(t, test_thread_cancel_post_waits);
	tcase_add_test(t, test_thread_hammer);
	tcase_add_test(t, test_thread_wakes_for_earlier);
	suite_add_tcase(suite, plain);
	suite_add_tcase(suite, c);
	suite_add_tcase(suite, t);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
