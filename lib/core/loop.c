/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One epoll set: an eventfd that wakes it, a timerfd for the earliest timer, and the watches. The timerfd is programmed
 * by whoever arms an earlier timer, so that arming does not wake the loop's thread; while a turn is served it is left
 * alone and programmed once at the turn's end.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "core/error.h"
#include "core/loop_impl.h"
#include "core/thread.h"
#include "core/util.h"

#define TURN_MAX  32 /* descriptors served in a turn */
#define KEY_WAKE  0  /* keys of the epoll set; watches have numbers from KEY_WATCH on */
#define KEY_TIMER 1
#define KEY_WATCH 2

/* ---- the descriptors ---- */

static void wake(struct vc_loop *loop)
{
	uint64_t one = 1;

	/* fails only when the counter is full, and then the loop is awake anyway */
	while (write(loop->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

/* ---- running callbacks ---- */

bool vc_loop_is_self(const struct vc_loop *loop)
{
	return atomic_load_explicit(&loop->driver, memory_order_relaxed) == (uintptr_t)pthread_self();
}

static void callback_begin(struct vc_loop *loop, const void *what)
{
	loop->running = what;
	pthread_mutex_unlock(&loop->lock);
}

static void callback_end(struct vc_loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	loop->running = NULL;
	loop->running_post = NULL;
	pthread_cond_broadcast(&loop->done);
}

void vc_loop_hold(struct vc_loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	loop->holds++;
	while (loop->running && !vc_loop_is_self(loop))
		pthread_cond_wait(&loop->done, &loop->lock);
	pthread_mutex_unlock(&loop->lock);
}

void vc_loop_release(struct vc_loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	loop->holds--;
	pthread_cond_broadcast(&loop->done);
	pthread_mutex_unlock(&loop->lock);
}

/* Before it is decided what to call next. */
static void wait_released(struct vc_loop *loop)
{
	while (loop->holds)
		pthread_cond_wait(&loop->done, &loop->lock);
}

/* ---- a turn ---- */

/* Every timer that is due now, once. */
static int serve_timers(struct vc_loop *loop, uint64_t limit)
{
	struct vc_timer *t;
	int served = 0;

	loop->turn_now = vc_clock_now(loop->clock);
	while (wait_released(loop), (t = vc_loop_take_due(loop, limit))) {
		vc_loop_fn fn = t->fn;
		void *ctx = t->ctx;

		callback_begin(loop, t);
		fn(ctx);
		callback_end(loop);
		served++;
	}
	return served;
}

static struct vc_watch *find_watch(const struct vc_loop *loop, uint64_t key)
{
	uint32_t low = 0, high = loop->watch_count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		if (loop->watches[mid]->key < key)
			low = mid + 1;
		else
			high = mid;
	}
	return low < loop->watch_count && loop->watches[low]->key == key ? loop->watches[low] : NULL;
}

static int serve_watch(struct vc_loop *loop, struct vc_watch *w, uint32_t events)
{
	vc_watch_fn fn = w->fn;
	void *ctx = w->ctx;

	callback_begin(loop, w);
	fn(ctx, events);
	callback_end(loop);
	return 1;
}

static int serve_events(struct vc_loop *loop, const struct epoll_event *events, int count)
{
	int served = 0;

	for (int i = 0; i < count; i++) {
		wait_released(loop);
		struct vc_watch *w = find_watch(loop, events[i].data.u64);
		/* an earlier callback may have changed its mind about this one; errors and hang-ups are always told */
		uint32_t wanted = w && w->events ? events[i].events & (w->events | EPOLLERR | EPOLLHUP) : 0;
		if (wanted)
			served += serve_watch(loop, w, wanted);
	}
	return served;
}

static int serve_always_ready(struct vc_loop *loop)
{
	uint64_t limit = loop->next_key;
	int served = 0;

	for (uint64_t key = KEY_WATCH; loop->always_ready && key < limit; key++) {
		/* callbacks may remove any watch: look up the next key that is still there */
		wait_released(loop);
		uint32_t i = 0;
		while (i < loop->watch_count && loop->watches[i]->key < key)
			i++;
		if (i == loop->watch_count)
			break;
		struct vc_watch *w = loop->watches[i];
		key = w->key;
		if (key < limit && w->always && w->events)
			served += serve_watch(loop, w, w->events & (EPOLLIN | EPOLLOUT));
	}
	return served;
}

/* Those posted before the turn; what they post waits for the next one. */
static int serve_posts(struct vc_loop *loop, uint64_t limit)
{
	int served = 0;

	while (wait_released(loop), loop->posts && loop->posts->sequence <= limit) {
		struct vc_post *p = loop->posts;

		loop->posts = p->next;
		if (!loop->posts)
			loop->posts_end = &loop->posts;
		loop->running_post = p;
		callback_begin(loop, p);
		p->fn(p->ctx);
		callback_end(loop);
		free(p);
		served++;
	}
	return served;
}

/* Serve what is ready, waiting at most timeout_ms for it. The caller is the driver. */
static int serve_turn(struct vc_loop *loop, int timeout_ms)
{
	struct epoll_event events[TURN_MAX];
	int count = epoll_wait(loop->epoll_fd, events, TURN_MAX, timeout_ms);
	bool fired = false;
	int served = 0;

	pthread_mutex_lock(&loop->lock);
	loop->serving = true;
	for (int i = 0; i < count; i++) {
		uint64_t n;
		if (events[i].data.u64 == KEY_TIMER)
			fired = true;
		else if (events[i].data.u64 == KEY_WAKE && read(loop->wake_fd, &n, sizeof n) < 0)
			continue; /* somebody else read it: the same to us */
	}
	uint64_t limit = loop->sequence;
	served += serve_timers(loop, limit);
	served += serve_events(loop, events, count);
	served += serve_always_ready(loop);
	served += serve_posts(loop, limit);
	loop->serving = false;
	if (fired || vc_loop_next_expiry(loop) < loop->programmed)
		vc_loop_program(loop);
	if (loop->posts || loop->always_ready)
		wake(loop);
	pthread_mutex_unlock(&loop->lock);
	return served;
}

static void *loop_thread(void *arg)
{
	struct vc_loop *loop = arg;
	bool stop = false;

	pthread_setname_np(pthread_self(), "virtcore-loop");
	atomic_store(&loop->driver, (uintptr_t)pthread_self());
	while (!stop) {
		serve_turn(loop, -1);
		pthread_mutex_lock(&loop->lock);
		stop = loop->stop;
		pthread_mutex_unlock(&loop->lock);
	}
	return NULL;
}

int vc_loop_start_thread(struct vc_loop *loop)
{
	int r;

	if (!loop->own_thread || loop->thread_started || loop->deferred)
		return 0;
	r = vc_thread_new(&loop->thread, loop_thread, loop);
	if (r)
		return vc_fail_errno(r, "cannot start the event loop's thread");
	loop->thread_started = true;
	return 0;
}

void vc_loop_defer(struct vc_loop *loop)
{
	loop->deferred = true;
}

int vc_loop_begin(struct vc_loop *loop)
{
	bool used;
	int r;

	pthread_mutex_lock(&loop->lock);
	loop->deferred = false;
	used = loop->timers || loop->watch_count || loop->posts;
	r = used ? vc_loop_start_thread(loop) : 0;
	pthread_mutex_unlock(&loop->lock);
	return r;
}

/* ---- the loop ---- */

static int open_descriptors(struct vc_loop *loop)
{
	struct epoll_event e = {.events = EPOLLIN};

	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (loop->epoll_fd < 0 || loop->wake_fd < 0 || loop->timer_fd < 0)
		return vc_fail_errno(errno, "cannot open the event loop's descriptors");
	e.data.u64 = KEY_WAKE;
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &e) < 0)
		return vc_fail_errno(errno, "cannot watch the event loop's eventfd");
	e.data.u64 = KEY_TIMER;
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->timer_fd, &e) < 0)
		return vc_fail_errno(errno, "cannot watch the event loop's timerfd");
	return 0;
}

static void close_descriptors(struct vc_loop *loop)
{
	const int fds[] = {loop->epoll_fd, loop->wake_fd, loop->timer_fd};

	for (size_t i = 0; i < VC_ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

int vc_loop_new(struct vc_clock *clock, bool own_thread, struct vc_loop **out)
{
	struct vc_loop *loop = calloc(1, sizeof *loop);
	int r;

	if (!loop)
		return vc_fail(ENOMEM, "no memory for an event loop");
	loop->clock = clock;
	loop->own_thread = own_thread;
	loop->epoll_fd = loop->wake_fd = loop->timer_fd = -1;
	loop->programmed = UINT64_MAX;
	loop->next_key = KEY_WATCH;
	loop->posts_end = &loop->posts;
	r = open_descriptors(loop);
	if (r < 0)
		goto fail;
	r = pthread_mutex_init(&loop->lock, NULL);
	if (r) {
		r = vc_fail_errno(r, "cannot make the event loop's lock");
		goto fail;
	}
	r = pthread_cond_init(&loop->done, NULL);
	if (r) {
		r = vc_fail_errno(r, "cannot make the event loop's condition");
		pthread_mutex_destroy(&loop->lock);
		goto fail;
	}
	*out = loop;
	return 0;
fail:
	close_descriptors(loop);
	free(loop);
	return r;
}

void vc_loop_free(struct vc_loop *loop)
{
	if (!loop)
		return;
	pthread_mutex_lock(&loop->lock);
	loop->stop = true;
	pthread_mutex_unlock(&loop->lock);
	if (loop->thread_started) {
		wake(loop);
		pthread_join(loop->thread, NULL);
	}
	for (struct vc_post *p = loop->posts, *next; p; p = next) {
		next = p->next;
		free(p);
	}
	free(loop->heap);
	free(loop->watches);
	close_descriptors(loop);
	pthread_cond_destroy(&loop->done);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

int vc_loop_fd(struct vc_loop *loop)
{
	if (loop->own_thread)
		return vc_fail(EINVAL, "a thread of the library drives this event loop");
	return loop->epoll_fd;
}

/* Wait until the set is ready or host time `until` (UINT64_MAX: for ever) has come. False: a signal came first. */
static bool wait_ready(struct vc_loop *loop, uint64_t until)
{
	struct pollfd p = {.fd = loop->epoll_fd, .events = POLLIN};
	struct timespec t, *limit = NULL;

	if (until != UINT64_MAX) {
		uint64_t now = vc_host_ns(), rest = until > now ? until - now : 0;
		t = (struct timespec){.tv_sec = (time_t)(rest / VC_NS_PER_S), .tv_nsec = (long)(rest % VC_NS_PER_S)};
		limit = &t;
	}
	return ppoll(&p, 1, limit, NULL) >= 0;
}

int vc_loop_run(struct vc_loop *loop, int64_t timeout_ns)
{
	uintptr_t nobody = 0;
	uint64_t until = UINT64_MAX;
	int served;

	if (loop->own_thread)
		return vc_fail(EINVAL, "a thread of the library drives this event loop");
	if (!atomic_compare_exchange_strong(&loop->driver, &nobody, (uintptr_t)pthread_self()))
		return vc_fail(EBUSY, "the event loop is being driven already");
	if (timeout_ns >= 0)
		until = vc_host_ns() + (uint64_t)timeout_ns;
	do {
		bool signalled = !wait_ready(loop, until);
		served = serve_turn(loop, 0);
		if (signalled)
			break;
	} while (!served && vc_host_ns() < until);
	atomic_store(&loop->driver, 0);
	return served;
}

void vc_loop_clock_changed(struct vc_loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	loop->turn_now = 0;
	vc_loop_program(loop);
	pthread_mutex_unlock(&loop->lock);
}

bool vc_loop_wait_callback(struct vc_loop *loop, const void *what)
{
	if (loop->running != what || vc_loop_is_self(loop))
		return false;
	pthread_cond_wait(&loop->done, &loop->lock);
	return true;
}

/* ---- watches ---- */

/* Make the epoll set agree with what the watch wants. No events: out of it, for a hang-up would be told all the same.
 */
static int apply_events(struct vc_watch *w, uint32_t events)
{
	struct vc_loop *loop = w->loop;
	struct epoll_event e = {.events = events, .data.u64 = w->key};
	int op = !events ? EPOLL_CTL_DEL : w->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (!w->always && (events || w->events) && epoll_ctl(loop->epoll_fd, op, w->fd, &e) < 0) {
		if (errno != EPERM)
			return vc_fail_errno(errno, "cannot watch descriptor %d", w->fd);
		w->always = true;
	}
	if (w->always) {
		loop->always_ready += !!events;
		loop->always_ready -= !!w->events;
		if (events)
			wake(loop);
	}
	w->events = events;
	return 0;
}

static int append_watch(struct vc_loop *loop, struct vc_watch *w)
{
	if (loop->watch_count == loop->watch_space) {
		uint32_t space = loop->watch_space ? loop->watch_space * 2 : 8;
		struct vc_watch **watches = realloc(loop->watches, space * sizeof(struct vc_watch *));
		if (!watches)
			return vc_fail(ENOMEM, "no memory for %u watches", space);
		loop->watches = watches;
		loop->watch_space = space;
	}
	w->key = loop->next_key++;
	loop->watches[loop->watch_count++] = w;
	return 0;
}

static void drop_watch(struct vc_loop *loop, struct vc_watch *w)
{
	uint32_t i = 0;

	while (loop->watches[i] != w)
		i++;
	loop->watch_count--;
	memmove(&loop->watches[i], &loop->watches[i + 1], (loop->watch_count - i) * sizeof(struct vc_watch *));
}

int vc_watch_new(struct vc_loop *loop, int fd, uint32_t events, vc_watch_fn fn, void *ctx, struct vc_watch **out)
{
	struct vc_watch *w = malloc(sizeof *w);
	int r;

	if (!w)
		return vc_fail(ENOMEM, "no memory for a watch of descriptor %d", fd);
	*w = (struct vc_watch){.loop = loop, .fn = fn, .ctx = ctx, .fd = fd};
	pthread_mutex_lock(&loop->lock);
	r = vc_loop_start_thread(loop);
	if (!r)
		r = append_watch(loop, w);
	if (!r) {
		/* set before the first callback can run: it may use the watch */
		*out = w;
		r = apply_events(w, events);
		if (r < 0)
			drop_watch(loop, w);
	}
	pthread_mutex_unlock(&loop->lock);
	if (r < 0) {
		*out = NULL;
		free(w);
	}
	return r;
}

int vc_watch_set_events(struct vc_watch *w, uint32_t events)
{
	int r = 0;

	pthread_mutex_lock(&w->loop->lock);
	if (events != w->events)
		r = apply_events(w, events);
	pthread_mutex_unlock(&w->loop->lock);
	return r;
}

void vc_watch_free(struct vc_watch *w)
{
	if (!w)
		return;
	struct vc_loop *loop = w->loop;
	pthread_mutex_lock(&loop->lock);
	drop_watch(loop, w); /* from here on no event finds it */
	while (vc_loop_wait_callback(loop, w))
		;
	if (w->always)
		loop->always_ready -= !!w->events;
	else if (w->events)
		epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL); /* fails when the caller has closed it: as good */
	pthread_mutex_unlock(&loop->lock);
	free(w);
}

/* ---- posted calls ---- */

int vc_loop_post(struct vc_loop *loop, vc_loop_fn fn, void *ctx)
{
	struct vc_post *p = malloc(sizeof *p);
	int r;

	if (!p)
		return vc_fail(ENOMEM, "no memory for a posted call");
	pthread_mutex_lock(&loop->lock);
	r = vc_loop_start_thread(loop);
	if (!r) {
		bool first = !loop->posts;
		*p = (struct vc_post){.fn = fn, .ctx = ctx, .sequence = ++loop->sequence};
		*loop->posts_end = p;
		loop->posts_end = &p->next;
		if (first && !loop->serving)
			wake(loop);
	}
	pthread_mutex_unlock(&loop->lock);
	if (r < 0)
		free(p);
	return r;
}

void vc_loop_cancel_post(struct vc_loop *loop, vc_loop_fn fn, void *ctx)
{
	pthread_mutex_lock(&loop->lock);
	do { /* the call that we wait for may post itself again */
		for (struct vc_post **p = &loop->posts; *p;) {
			struct vc_post *gone = *p;
			if (gone->fn != fn || gone->ctx != ctx) {
				p = &gone->next;
				continue;
			}
			*p = gone->next;
			if (!gone->next)
				loop->posts_end = p;
			free(gone);
		}
	} while (loop->running_post && loop->running_post->fn == fn && loop->running_post->ctx == ctx &&
	         vc_loop_wait_callback(loop, loop->running));
	pthread_mutex_unlock(&loop->lock);
}
