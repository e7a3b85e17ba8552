/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "device/stream.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "core/error.h"
#include "core/util.h"

enum { BUFFER_SIZE = 4096 };

/* ---- opening ---- */

static int duplicate(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3); /* 0 to 2 may be closed and are not ours to fill */

	return copy < 0 ? vc_fail_errno(errno, "cannot duplicate descriptor %d", fd) : copy;
}

/* "fd:N" */
static int duplicate_numbered(const char *number)
{
	char *end;
	long fd;

	errno = 0;
	fd = strtol(number, &end, 10);
	if (end == number || *end || errno || fd < 0 || fd > INT_MAX)
		return vc_fail(EINVAL, "'fd:%s' does not name a descriptor: expected fd:N", number);
	return duplicate((int)fd);
}

/* "file:PATH"; never waits for the other end of a FIFO, nor becomes our terminal. */
static int open_file(const char *path, bool output)
{
	int flags = output ? O_WRONLY | O_CREAT | O_TRUNC : O_RDONLY;
	int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);

	return fd < 0 ? vc_fail_errno(errno, "cannot open '%s' for %s", path, output ? "output" : "input") : fd;
}

/* A descriptor of our own for spec; -1 in *fd: null. */
static int open_spec(const char *spec, bool output, int *fd)
{
	int r;

	*fd = -1;
	if (!strcmp(spec, "null"))
		return 0;
	if (!strncmp(spec, "fd:", 3))
		r = duplicate_numbered(spec + 3);
	else if (!strncmp(spec, "file:", 5))
		r = open_file(spec + 5, output);
	else if (output && !strcmp(spec, "stdout"))
		r = duplicate(STDOUT_FILENO);
	else if (output && !strcmp(spec, "stderr"))
		r = duplicate(STDERR_FILENO);
	else if (!output && !strcmp(spec, "stdin"))
		r = duplicate(STDIN_FILENO);
	else
		r = vc_fail(EINVAL, "'%s' is no %s: expected null, %s, fd:N or file:PATH", spec, output ? "output" : "input",
		            output ? "stdout, stderr" : "stdin");
	if (r >= 0)
		*fd = r;
	return r < 0 ? r : 0;
}

static int open_slave(struct vc_pty *pty)
{
	struct termios raw;

	if (grantpt(pty->master) || unlockpt(pty->master) || ptsname_r(pty->master, pty->path, sizeof pty->path))
		return vc_fail_errno(errno, "cannot set up a pty");
	pty->slave = open(pty->path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (pty->slave < 0)
		return vc_fail_errno(errno, "cannot open pty '%s'", pty->path);
	/* raw: what the guest writes must not come back as its input */
	if (tcgetattr(pty->slave, &raw) == 0) {
		cfmakeraw(&raw);
		tcsetattr(pty->slave, TCSANOW, &raw);
	}
	return 0;
}

int vc_pty_open(struct vc_pty *pty)
{
	int r;

	*pty = (struct vc_pty){.slave = -1};
	pty->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (pty->master < 0)
		return vc_fail_errno(errno, "cannot make a pty");
	r = open_slave(pty);
	if (r)
		vc_pty_close(pty);
	return r;
}

void vc_pty_close(struct vc_pty *pty)
{
	if (pty->slave >= 0)
		close(pty->slave);
	if (pty->master >= 0)
		close(pty->master);
	pty->master = pty->slave = -1;
}

/* ---- output ---- */

enum kind { KIND_FILE, KIND_TTY, KIND_PIPE, KIND_SOCKET };

struct vc_output {
	struct vc_env *env;
	vc_loop_fn ready;
	void *ctx;
	enum kind kind;
	_Atomic int error;      /* why fd was given up, until that has been logged */
	bool drop;              /* rather than wait for a reader */
	pthread_mutex_t lock;   /* protects all below */
	int fd;                 /* -1: null, or the other end is gone: everything vanishes */
	bool starved;           /* somebody was told that there is no room */
	struct vc_watch *watch; /* made when first needed */
	size_t start, count;
	uint8_t buffer[BUFFER_SIZE];
};

static enum kind kind_of(int fd)
{
	struct stat st;

	if (isatty(fd))
		return KIND_TTY;
	if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode))
		return KIND_PIPE;
	return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) ? KIND_SOCKET : KIND_FILE;
}

/* A write to a pipe that nobody reads must not send SIGPIPE to the program: hold it back, and take it away if it was
 * ours. */
static ssize_t write_without_signal(int fd, const uint8_t *data, size_t length)
{
	const struct timespec now = {0};
	sigset_t pipe_set, old, pending;
	bool was_pending;
	ssize_t n;
	int error;

	sigemptyset(&pipe_set);
	sigaddset(&pipe_set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_set, &old);
	sigpending(&pending);
	was_pending = sigismember(&pending, SIGPIPE) == 1;
	n = write(fd, data, length);
	error = errno;
	if (n < 0 && error == EPIPE && !was_pending) {
		while (sigtimedwait(&pipe_set, NULL, &now) < 0 && errno == EINTR)
			;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	errno = error;
	return n;
}

/*
 * One write that does not block although the descriptor may: the poll says that something fits. On a pipe that is a
 * page, on a terminal it may be a single character.
 */
static ssize_t write_some(struct vc_output *out, const uint8_t *data, size_t length)
{
	struct pollfd p = {.fd = out->fd, .events = POLLOUT};

	if (out->kind == KIND_SOCKET)
		return send(out->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (poll(&p, 1, 0) > 0 && p.revents & POLLNVAL) {
		errno = EBADF;
		return -1;
	}
	if (!(p.revents & (POLLOUT | POLLERR | POLLHUP))) {
		errno = EAGAIN;
		return -1;
	}
	if (out->kind == KIND_PIPE)
		return write_without_signal(out->fd, data, length < PIPE_BUF ? length : PIPE_BUF);
	return write(out->fd, data, out->kind == KIND_TTY ? 1 : length);
}

/* Nobody will ever read this. Under the lock, so that the log line has to wait. */
static void give_up(struct vc_output *out, int error)
{
	atomic_store(&out->error, error);
	if (out->watch)
		vc_watch_set_events(out->watch, 0);
	close(out->fd);
	out->fd = -1;
	out->count = 0;
}

void vc_output_report(struct vc_output *out)
{
	int error = atomic_exchange(&out->error, 0);

	if (error)
		vc_log(out->env->log, VCORE_LOG_WARN, "a device's output cannot be written any more: %s", strerror(error));
}

/* Under the lock. */
static void flush(struct vc_output *out)
{
	while (out->count && out->fd >= 0) {
		size_t length = out->count < BUFFER_SIZE - out->start ? out->count : BUFFER_SIZE - out->start;
		ssize_t n = write_some(out, out->buffer + out->start, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n < 0) {
			give_up(out, errno);
			return;
		}
		out->start = (out->start + (size_t)n) % BUFFER_SIZE;
		out->count -= (size_t)n;
	}
}

static bool has_room(const struct vc_output *out)
{
	return out->fd < 0 || out->count < BUFFER_SIZE;
}

static void output_event(void *ctx, uint32_t events)
{
	struct vc_output *out = ctx;
	bool tell;

	pthread_mutex_lock(&out->lock);
	flush(out);
	if (!out->count)
		vc_watch_set_events(out->watch, 0);
	tell = out->starved && has_room(out);
	out->starved &= !tell;
	pthread_mutex_unlock(&out->lock);
	vc_output_report(out);
	if (tell)
		out->ready(out->ctx);
}

/* Go on when the descriptor is writable. Under the lock. */
static void wait_writable(struct vc_output *out)
{
	int r = out->watch ? vc_watch_set_events(out->watch, EPOLLOUT)
	                   : vc_watch_new(out->env->loop, out->fd, EPOLLOUT, output_event, out, &out->watch);

	if (r < 0)
		give_up(out, -r);
}

/* As much as there is room for goes into the buffer. Under the lock. */
static size_t fill(struct vc_output *out, const uint8_t *data, size_t length)
{
	size_t n = 0;

	for (; n < length && out->count < BUFFER_SIZE; n++)
		out->buffer[(out->start + out->count++) % BUFFER_SIZE] = data[n];
	return n;
}

/* Under the lock; out->fd is there. */
static size_t put(struct vc_output *out, const uint8_t *data, size_t length)
{
	bool waiting = out->count > 0;
	size_t n = fill(out, data, length);

	while (!waiting && out->count) {
		flush(out);
		waiting = out->count == BUFFER_SIZE || n == length;
		if (out->fd >= 0)
			n += fill(out, data + n, length - n);
	}
	if (out->fd < 0 || out->drop) {
		out->count = 0;
		return length;
	}
	if (out->count)
		wait_writable(out);
	return n;
}

void vc_output_put(struct vc_output *out, uint8_t byte)
{
	pthread_mutex_lock(&out->lock);
	if (out->fd >= 0)
		put(out, &byte, 1);
	pthread_mutex_unlock(&out->lock);
}

size_t vc_output_write(struct vc_output *out, const void *data, size_t length)
{
	size_t n = length;

	pthread_mutex_lock(&out->lock);
	if (out->fd >= 0)
		n = put(out, data, length);
	out->starved |= n < length;
	pthread_mutex_unlock(&out->lock);
	return n;
}

bool vc_output_room(struct vc_output *out)
{
	bool room;

	pthread_mutex_lock(&out->lock);
	room = has_room(out);
	out->starved |= !room;
	pthread_mutex_unlock(&out->lock);
	return room;
}

/* Takes fd over, also when it fails. */
static int output_new(struct vc_env *env, int fd, vc_loop_fn ready, void *ctx, struct vc_output **result)
{
	struct vc_output *out = calloc(1, sizeof *out);

	if (!out) {
		if (fd >= 0)
			close(fd);
		return vc_fail(ENOMEM, "no memory for a device's output");
	}
	out->env = env;
	out->fd = fd;
	out->ready = ready;
	out->ctx = ctx;
	out->kind = fd < 0 ? KIND_FILE : kind_of(fd);
	pthread_mutex_init(&out->lock, NULL);
	*result = out;
	return 0;
}

int vc_output_open(struct vc_env *env, const char *spec, vc_loop_fn ready, void *ctx, struct vc_output **out)
{
	int fd, r = open_spec(spec, true, &fd);

	return r < 0 ? r : output_new(env, fd, ready, ctx, out);
}

int vc_output_open_pty(struct vc_env *env, const struct vc_pty *pty, struct vc_output **out)
{
	int fd = duplicate(pty->master), r;

	if (fd < 0)
		return fd;
	r = output_new(env, fd, NULL, NULL, out);
	if (!r)
		(*out)->drop = true;
	return r;
}

void vc_output_close(struct vc_output *out)
{
	if (!out)
		return;
	vc_watch_free(out->watch);
	out->watch = NULL;
	flush(out);
	if (out->fd >= 0)
		close(out->fd);
	pthread_mutex_destroy(&out->lock);
	free(out);
}

/* ---- input ---- */

struct vc_input {
	int fd; /* -1: null */
	vc_loop_fn ready;
	void *ctx;
	struct vc_watch *watch; /* NULL: null */
	/* under the owner's lock: */
	bool running, ended;
};

static void input_event(void *ctx, uint32_t events)
{
	struct vc_input *in = ctx;

	in->ready(in->ctx);
}

/* Takes fd over, also when it fails. */
static int input_new(struct vc_env *env, int fd, vc_loop_fn ready, void *ctx, struct vc_input **result)
{
	struct vc_input *in = calloc(1, sizeof *in);
	int r = 0;

	if (!in) {
		if (fd >= 0)
			close(fd);
		return vc_fail(ENOMEM, "no memory for a device's input");
	}
	*in = (struct vc_input){.fd = fd, .ready = ready, .ctx = ctx, .ended = fd < 0};
	if (fd >= 0)
		r = vc_watch_new(env->loop, fd, 0, input_event, in, &in->watch);
	if (r < 0) {
		close(fd);
		free(in);
		return r;
	}
	*result = in;
	return 0;
}

int vc_input_open(struct vc_env *env, const char *spec, vc_loop_fn ready, void *ctx, struct vc_input **in)
{
	int fd, r = open_spec(spec, false, &fd);

	return r < 0 ? r : input_new(env, fd, ready, ctx, in);
}

int vc_input_open_pty(struct vc_env *env, const struct vc_pty *pty, vc_loop_fn ready, void *ctx, struct vc_input **in)
{
	int fd = duplicate(pty->master);

	return fd < 0 ? fd : input_new(env, fd, ready, ctx, in);
}

void vc_input_close(struct vc_input *in)
{
	if (!in)
		return;
	vc_watch_free(in->watch);
	if (in->fd >= 0)
		close(in->fd);
	free(in);
}

size_t vc_input_read(struct vc_input *in, uint8_t *data, size_t length)
{
	struct pollfd p = {.fd = in->fd, .events = POLLIN};
	ssize_t n;

	/* the descriptor may be in blocking mode, and another reader may have been faster */
	if (in->ended || !length || poll(&p, 1, 0) <= 0)
		return 0;
	n = read(in->fd, data, length);
	if (n > 0)
		return (size_t)n;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	in->ended = true;
	vc_input_pause(in);
	return 0;
}

static void set_running(struct vc_input *in, bool running)
{
	if (in->running == running || !in->watch)
		return;
	if (vc_watch_set_events(in->watch, running ? EPOLLIN : 0) >= 0)
		in->running = running;
}

void vc_input_pause(struct vc_input *in)
{
	set_running(in, false);
}

void vc_input_resume(struct vc_input *in)
{
	if (!in->ended)
		set_running(in, true);
}
