/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/migrate_stream.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <virtcore/error.h>

#include "core/clock.h"
#include "core/crc32c.h"
#include "core/error.h"
#include "core/util.h"

enum {
	HEAD_MAGIC = 0,
	HEAD_KIND = 4,
	HEAD_NUMBER = 8,
	HEAD_LENGTH = 12,
	HEAD_PAYLOAD_CRC = 16,
	HEAD_ARGUMENT = 20,
	HEAD_ZERO = 24,
	HEAD_CRC = 28,
	HEAD_BYTES = 32,
};
#define MAGIC 0x474d4356u /* "VCMG" */

#define SENTENCE_MAX 200u
#define LAST_FRAMES  64u /* on a connection, before what was said last: more than sockets hold */
#define STATE_MAX    (uint32_t) VC_MIB(64)

static const struct {
	const char *name;
	uint32_t max; /* bytes of payload */
} kinds[VC_MIG_KINDS] = {
    [VC_MIG_HELLO] = {"HELLO", VC_MIG_HELLO_MAX},
    [VC_MIG_MACHINE] = {"MACHINE", STATE_MAX},
    [VC_MIG_READY] = {"READY", 0},
    [VC_MIG_PAGES_FRAME] = {"PAGES", VC_MIG_TABLE_BYTES + VC_MIG_CONTENTS_BYTES},
    [VC_MIG_STATE] = {"STATE", STATE_MAX},
    [VC_MIG_LOADED] = {"LOADED", 0},
    [VC_MIG_GO] = {"GO", 0},
    [VC_MIG_RUNS_FRAME] = {"RUNS", 0},
    [VC_MIG_FAILED] = {"FAILED", SENTENCE_MAX},
    [VC_MIG_ROUND] = {"ROUND", 8},
    [VC_MIG_PACKED] = {"PACKED", VC_MIG_TABLE_BYTES + VC_MIG_CONTENTS_BYTES},
    [VC_MIG_ABSENT] = {"ABSENT", VC_MIG_ABSENT_MAX},
    [VC_MIG_WANT] = {"WANT", 8},
    [VC_MIG_END] = {"END", 0},
    [VC_MIG_WHOLE] = {"WHOLE", 0},
    [VC_MIG_RECOVER] = {"RECOVER", VC_MIG_HELLO_MAX},
};

int vc_mig_stream_open(struct vc_mig_stream *s, int fd, uint32_t timeout_ms)
{
	socklen_t length = sizeof(int);
	int type = 0;

	*s = (struct vc_mig_stream){
	    .fd = -1, .cancel_fd = -1, .stop_fd = -1, .takes = VC_MIG_TAKES_ALL, .deadline = UINT64_MAX};
	s->idle_ns = (uint64_t)(timeout_ms ? timeout_ms : VC_MIG_TIMEOUT_MS) * 1000000;
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0)
		return vc_fail_errno(errno, "migration: descriptor %d", fd);
	if (type != SOCK_STREAM)
		return vc_fail(EINVAL, "migration: descriptor %d is a socket of type %d: expected a stream", fd, type);
	s->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return s->fd < 0 ? vc_fail_errno(errno, "migration: descriptor %d", fd) : 0;
}

void vc_mig_stream_close(struct vc_mig_stream *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

void vc_mig_stream_shutdown(struct vc_mig_stream *s)
{
	if (s->fd >= 0)
		shutdown(s->fd, SHUT_RDWR);
}

/* ---- waiting ---- */

static uint64_t sooner(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static int poll_until(struct vc_mig_stream *s, int fd, short events, uint64_t now, uint64_t until)
{
	struct pollfd fds[] = {{fd, events, 0}, {s->cancel_fd, POLLIN, 0}, {s->stop_fd, POLLIN, 0}};
	uint64_t left = until > now ? until - now : 0;
	struct timespec time = {(time_t)(left / 1000000000), (long)(left % 1000000000)};
	int n = ppoll(fds, VC_ARRAY_SIZE(fds), until == UINT64_MAX ? NULL : &time, NULL);

	if (n < 0 && errno != EINTR)
		return vc_fail_errno(errno, "migration: waiting");
	if (n > 0 && fds[1].revents)
		return vc_fail(ECANCELED, "the migration was cancelled");
	/* what has come already may tell why */
	if (n > 0 && fds[2].revents && !fds[0].revents)
		return vc_fail(ECANCELED, "migration: another connection has failed");
	return n > 0 && fds[0].revents;
}

/* Something of `events` (or the end of the connection): 1; `until` has come: 0. */
static int wait_for(struct vc_mig_stream *s, int fd, short events, uint64_t until)
{
	for (;;) {
		uint64_t now = vc_host_ns(), next = s->tick ? s->tick(s->ctx, now) : UINT64_MAX;
		int r;

		if (now >= s->deadline)
			return vc_fail(ETIMEDOUT, "the migration took longer than it may");
		r = poll_until(s, fd, events, now, sooner(until, sooner(next, s->deadline)));
		if (r != 0)
			return r;
		if (vc_host_ns() >= until)
			return 0;
	}
}

static void note_moved(struct vc_mig_stream *s)
{
	if (s->moved)
		atomic_store_explicit(s->moved, vc_host_ns(), memory_order_relaxed);
}

/* The socket is ready for it: 0. */
static int wait_ready(struct vc_mig_stream *s, short events)
{
	uint64_t from = vc_host_ns(), last;
	int r;

	do {
		r = wait_for(s, s->fd, events, from + s->idle_ns);
		last = s->moved ? atomic_load_explicit(s->moved, memory_order_relaxed) : 0;
		if (r || last <= from)
			break;
		from = last;
	} while (true);
	return r == 0 ? vc_fail(ETIMEDOUT, "migration: nothing has moved for %llu ms",
	                        (unsigned long long)(s->idle_ns / 1000000))
	              : (r < 0 ? r : 0);
}

int vc_mig_wait_until(struct vc_mig_stream *s, uint64_t then)
{
	int r = wait_for(s, s->fd, 0, then);

	return r > 0 ? vc_fail(ECONNRESET, "migration: the connection has ended") : r;
}

int vc_mig_wait_readable(struct vc_mig_stream *s, int fd, uint64_t then)
{
	return wait_for(s, fd, POLLIN, then);
}

int vc_mig_wait_connected(struct vc_mig_stream *s)
{
	socklen_t length = sizeof(int);
	int error = 0, r = wait_ready(s, POLLOUT);

	if (r < 0)
		return r;
	getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &length);
	return error ? vc_fail_errno(error, "migration: connecting") : 0;
}

int vc_mig_look_up(struct vc_mig_stream *s)
{
	uint64_t now = vc_host_ns();
	int r = now >= s->deadline ? vc_fail(ETIMEDOUT, "the migration took longer than it may")
	                           : poll_until(s, s->fd, 0, now, now);

	/* the connection's end is found by who uses it */
	return r < 0 ? r : 0;
}

bool vc_mig_has_word(const struct vc_mig_stream *s)
{
	uint8_t byte;

	return recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
}

/* ---- bytes ---- */

static int read_all(struct vc_mig_stream *s, uint8_t *to, size_t length)
{
	while (length) {
		ssize_t n = recv(s->fd, to, length, MSG_DONTWAIT);
		int r;

		if (n == 0)
			return vc_fail(ECONNRESET, "migration: the other side has closed the connection");
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return vc_fail_errno(errno, "migration: reading");
		if (n > 0) {
			to += n;
			length -= (size_t)n;
			atomic_fetch_add_explicit(&s->bytes_in, (uint64_t)n, memory_order_relaxed);
			note_moved(s);
			continue;
		}
		r = wait_ready(s, POLLIN);
		if (r < 0)
			return r;
	}
	return 0;
}

static int write_all(struct vc_mig_stream *s, const uint8_t *from, size_t length, int flags)
{
	while (length) {
		ssize_t n = send(s->fd, from, length, MSG_DONTWAIT | MSG_NOSIGNAL | flags);
		int r;

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return vc_fail_errno(errno, "migration: writing");
		if (n > 0) {
			from += n;
			length -= (size_t)n;
			atomic_fetch_add_explicit(&s->bytes_out, (uint64_t)n, memory_order_relaxed);
			note_moved(s);
			continue;
		}
		r = wait_ready(s, POLLOUT);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- frames ---- */

static void make_head(struct vc_mig_stream *s, uint8_t *head, enum vc_mig_kind kind, uint32_t argument,
                      const void *payload, uint32_t length)
{
	vc_st32(head + HEAD_MAGIC, MAGIC);
	vc_st32(head + HEAD_KIND, kind);
	vc_st32(head + HEAD_NUMBER, s->frames_out++);
	vc_st32(head + HEAD_LENGTH, length);
	vc_st32(head + HEAD_PAYLOAD_CRC, vc_crc32c(0, payload, length));
	vc_st32(head + HEAD_ARGUMENT, argument);
	vc_st32(head + HEAD_ZERO, 0);
	vc_st32(head + HEAD_CRC, vc_crc32c(0, head, HEAD_CRC));
}

int vc_mig_peer_reason(struct vc_mig_stream *s, int error)
{
	static const int gone[] = {EPIPE, ECONNRESET, ECONNREFUSED, ENOENT};
	struct vc_mig_frame frame;
	char message[160];
	bool is_gone = false;
	int r = 0;

	for (size_t i = 0; i < VC_ARRAY_SIZE(gone); i++)
		is_gone |= error == -gone[i];
	if (!is_gone || s->fd < 0)
		return error;
	snprintf(message, sizeof message, "%s", vcore_error_message());
	/* behind what was on its way */
	for (unsigned n = 0; r >= 0 && n < LAST_FRAMES && vc_mig_has_word(s); n++) {
		r = vc_mig_receive(s, &frame);
		if (r >= 0)
			free(frame.payload);
	}
	return r == -EREMOTEIO ? r : vc_fail(-error, "%s", message);
}

int vc_mig_send(struct vc_mig_stream *s, enum vc_mig_kind kind, uint32_t argument, const void *payload, uint32_t length)
{
	uint8_t head[HEAD_BYTES];
	int r;

	if (length > kinds[kind].max)
		return vc_fail(E2BIG, "migration: %u bytes for %s: at most %u can be sent", length, kinds[kind].name,
		               kinds[kind].max);
	if (s->tick)
		s->tick(s->ctx, vc_host_ns());
	make_head(s, head, kind, argument, payload, length);
	r = write_all(s, head, sizeof head, length ? MSG_MORE : 0);
	if (r >= 0)
		r = write_all(s, payload, length, 0);
	return r < 0 ? vc_mig_peer_reason(s, r) : 0;
}

static int check_head(const struct vc_mig_stream *s, const uint8_t *head)
{
	uint32_t kind = vc_ld32(head + HEAD_KIND), number = vc_ld32(head + HEAD_NUMBER),
	         length = vc_ld32(head + HEAD_LENGTH);

	if (vc_ld32(head + HEAD_MAGIC) != MAGIC)
		return vc_fail(EPROTO, "migration: what came is no frame of a migration");
	if (vc_ld32(head + HEAD_CRC) != vc_crc32c(0, head, HEAD_CRC) || vc_ld32(head + HEAD_ZERO) != 0)
		return vc_fail(EPROTO, "migration: the head of frame %u was altered", s->frames_in);
	if (number != s->frames_in)
		return vc_fail(EPROTO, "migration: frame %u came where %u was expected", number, s->frames_in);
	if (kind >= VC_MIG_KINDS)
		return vc_fail(EPROTO, "migration: a frame of kind %u: expected less than %u", kind, VC_MIG_KINDS);
	if (kind != VC_MIG_FAILED && !(s->takes >> kind & 1))
		return vc_fail(EPROTO, "migration: %s came out of turn", kinds[kind].name);
	if (length > kinds[kind].max)
		return vc_fail(EPROTO, "migration: %s of %u bytes: at most %u are expected", kinds[kind].name, length,
		               kinds[kind].max);
	return 0;
}

/* Text of the peer's for our own message. */
static int remote_failure(const struct vc_mig_frame *frame)
{
	char text[SENTENCE_MAX + 1] = {0};

	for (uint32_t i = 0; i < frame->length; i++)
		text[i] = isprint(frame->payload[i]) ? (char)frame->payload[i] : '?';
	return vc_fail(EREMOTEIO, "migration: the other side gave up: %s", text);
}

int vc_mig_receive(struct vc_mig_stream *s, struct vc_mig_frame *frame)
{
	uint8_t head[HEAD_BYTES];
	int r = read_all(s, head, sizeof head);

	*frame = (struct vc_mig_frame){0};
	if (r >= 0)
		r = check_head(s, head);
	if (r < 0)
		return r;
	frame->kind = vc_ld32(head + HEAD_KIND);
	frame->argument = vc_ld32(head + HEAD_ARGUMENT);
	frame->length = vc_ld32(head + HEAD_LENGTH);
	s->frames_in++;
	if (frame->length && !(frame->payload = malloc(frame->length)))
		return vc_fail(ENOMEM, "migration: no memory for %u bytes", frame->length);
	r = read_all(s, frame->payload, frame->length);
	if (r >= 0 && vc_crc32c(0, frame->payload, frame->length) != vc_ld32(head + HEAD_PAYLOAD_CRC))
		r = vc_fail(EPROTO, "migration: the contents of frame %u (%s) were altered", s->frames_in - 1,
		            kinds[frame->kind].name);
	if (r >= 0 && frame->kind == VC_MIG_FAILED)
		r = remote_failure(frame);
	if (r < 0) {
		free(frame->payload);
		frame->payload = NULL;
	}
	return r;
}

int vc_mig_expect(struct vc_mig_stream *s, enum vc_mig_kind kind)
{
	struct vc_mig_frame frame;
	int r = vc_mig_receive(s, &frame);

	if (r < 0)
		return r;
	free(frame.payload);
	if (frame.kind != kind || frame.argument)
		return vc_fail(EPROTO, "migration: %s (%u) came where %s was expected", kinds[frame.kind].name, frame.argument,
		               kinds[kind].name);
	return 0;
}

void vc_mig_tell_failure(struct vc_mig_stream *s)
{
	const char *message = vcore_error_message();
	uint32_t length = (uint32_t)strnlen(message, SENTENCE_MAX);
	uint8_t frame[HEAD_BYTES + SENTENCE_MAX];

	if (s->fd < 0)
		return;
	make_head(s, frame, VC_MIG_FAILED, 0, message, length);
	memcpy(frame + HEAD_BYTES, message, length);
	/* a frame that was cut off before makes it unreadable: then the end of the connection says it */
	if (send(s->fd, frame, HEAD_BYTES + length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return;
}
