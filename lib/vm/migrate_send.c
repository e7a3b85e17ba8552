/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The source of a migration. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "core/address.h"
#include "memory/missing.h"
#include "vm/migrate_postcopy.h"
#include "vm/snapshot_codec.h"

#define FLAGS           (VCORE_MIGRATE_AUTO_CONVERGE | VCORE_MIGRATE_BY_POSTCOPY)
#define DOWNTIME_US     50000u
#define THROTTLE_PERIOD 20000000u /* ns */
#define PROGRESS_NS     250000000u
/* What is taken for the rate as long as there was too little to measure. */
#define RATE_GUESS   1000000000u
#define RATE_MEASURE VC_MIB(1)

struct sending {
	struct vcore_vm *vm;
	struct vcore_migrate_options o;
	struct vc_mig_stream stream;
	struct vc_mig_memory memory;
	struct vc_still still; /* while `stopped` */
	bool stopped;
	struct vcore_migrate_info info; /* ours; the vm's copy is under its lock */
	uint64_t begun, told;           /* host time; of the last progress */
	uint64_t state_ns;              /* what taking and encoding the states took */
	/* the limit */
	uint64_t slice_begin, slice_bytes;
	/* of the round */
	uint64_t round_begin, round_pages;
	bool throttled;
	bool postcopy; /* the rest follows when the other side runs */
	bool lost;     /* it did not */
};

/* ---- throttle: on the thread that sends, between frames and while it waits ---- */

static uint64_t throttle_tick(void *ctx, uint64_t now)
{
	struct sending *m = ctx;
	uint64_t phase = (now - m->begun) % THROTTLE_PERIOD, off = THROTTLE_PERIOD / 100 * m->info.throttle;
	bool hold = phase < off;

	if (!m->info.throttle)
		return UINT64_MAX;
	if (hold != m->throttled)
		vc_vm_throttle(m->vm, hold);
	m->throttled = hold;
	return now - phase + (hold ? off : THROTTLE_PERIOD);
}

static void throttle_end(struct sending *m)
{
	m->info.throttle = 0;
	if (m->throttled)
		vc_vm_throttle(m->vm, false);
	m->throttled = false;
}

/* ---- telling ---- */

static void update(struct sending *m)
{
	m->info.sent = m->stream.bytes_out;
	m->info.pages = m->memory.pages;
	m->info.zero_pages = m->memory.zero_pages;
	m->info.wanted = m->memory.wanted;
	m->info.total_ns = vc_host_ns() - m->begun;
	vc_migrate_publish(m->vm, &m->info);
}

static int tell(struct sending *m)
{
	update(m);
	m->told = vc_host_ns();
	return m->o.progress && m->o.progress(m->o.ctx, &m->info)
	           ? vc_fail(ECANCELED, "the migration was cancelled by the progress callback")
	           : 0;
}

/* ---- pre-copy ---- */

static int keep_bandwidth(struct sending *m)
{
	uint64_t bytes = m->stream.bytes_out - m->slice_bytes;

	if (!m->o.bandwidth)
		return 0;
	return vc_mig_wait_until(&m->stream, m->slice_begin + vc_muldiv64(bytes, 1000000000, m->o.bandwidth));
}

/* After each frame while the guest runs. */
static int after_frame(void *ctx)
{
	struct sending *m = ctx;
	int r = 0;

	if (vc_mig_has_word(&m->stream)) {
		r = vc_mig_expect(&m->stream, VC_MIG_FAILED);
		return r < 0 ? r : vc_fail(EPROTO, "migration: the other side speaks out of turn");
	}
	/* sending does not look at it unless it has to wait */
	r = vc_mig_look_up(&m->stream);
	if (r >= 0)
		r = keep_bandwidth(m);
	if (r >= 0 && vc_host_ns() - m->told > PROGRESS_NS)
		r = tell(m);
	m->postcopy |= r >= 0 && vc_migrate_wants_postcopy(m->vm);
	return r >= 0 && m->postcopy ? -EINPROGRESS : r;
}

static void measure(struct sending *m)
{
	uint64_t bytes = (m->memory.pages - m->round_pages) * VC_PAGE_SIZE, took = vc_host_ns() - m->round_begin;

	if (bytes >= RATE_MEASURE || !m->info.rate)
		m->info.rate = bytes ? vc_muldiv64(bytes, 1000000000, took + 1) : 0;
}

static int round_of_memory(struct sending *m)
{
	int r;

	m->info.rounds++;
	m->round_begin = m->slice_begin = vc_host_ns();
	m->slice_bytes = m->stream.bytes_out;
	m->round_pages = m->memory.pages;
	r = vc_mig_memory_send(&m->memory);
	if (r >= 0)
		measure(m);
	return r;
}

static uint64_t estimate(const struct sending *m, uint64_t pages)
{
	return m->state_ns + vc_muldiv64(pages * VC_PAGE_SIZE, 1000000000, m->info.rate ? m->info.rate : RATE_GUESS);
}

/* The guest wrote more than half of what was sent meanwhile: that will not end soon. */
static void converge(struct sending *m, uint64_t left)
{
	uint64_t sent = m->memory.pages - m->round_pages;

	if (!(m->o.flags & VCORE_MIGRATE_AUTO_CONVERGE) || left * 2 < sent)
		return;
	m->info.throttle = m->info.throttle ? (m->info.throttle > 89 ? 99 : m->info.throttle + 10) : 20;
}

/* As many rounds as there were to be before post-copy. */
static bool rounds_are_over(const struct sending *m)
{
	return m->o.flags & VCORE_MIGRATE_BY_POSTCOPY && m->info.rounds >= m->o.postcopy_rounds;
}

/* Until the rest is little enough, or is to follow. */
static int precopy(struct sending *m)
{
	int64_t left;
	int r;

	m->info.state = VCORE_MIGRATE_ACTIVE;
	m->memory.after_frame = after_frame;
	m->memory.ctx = m;
	m->stream.tick = throttle_tick;
	m->stream.ctx = m;
	m->postcopy = rounds_are_over(m);
	while (!m->postcopy) {
		r = round_of_memory(m);
		/* the round was broken off */
		if (r < 0 && m->postcopy)
			return 0;
		left = r < 0 ? r : vc_mig_memory_look(&m->memory);
		if (left < 0)
			return (int)left;
		m->info.remaining = (uint64_t)left * VC_PAGE_SIZE;
		m->info.expected_ns = estimate(m, (uint64_t)left);
		converge(m, (uint64_t)left);
		r = tell(m);
		if (r < 0 || m->info.expected_ns <= m->o.downtime_us * 1000)
			return r;
		m->postcopy = rounds_are_over(m) || vc_migrate_wants_postcopy(m->vm);
	}
	return tell(m);
}

/* ---- the states ---- */

static int send_states(struct sending *m, enum vc_mig_kind kind, uint32_t argument)
{
	struct vcore_snapshot *s;
	uint8_t *data;
	size_t length;
	int r = vc_snapshot_of_states(m->vm, &s);

	if (r < 0)
		return r;
	r = vc_snapshot_encode(s, &data, &length);
	vcore_snapshot_unref(s);
	if (r < 0)
		return r;
	r = length > UINT32_MAX ? vc_fail(E2BIG, "migration: states of %zu bytes", length)
	                        : vc_mig_send(&m->stream, kind, argument, data, (uint32_t)length);
	free(data);
	return r;
}

/* What the other side is to make; also what that costs. */
static int introduce(struct sending *m)
{
	struct vc_still still;
	uint8_t number[16];
	uint64_t from;
	int r;

	if (getrandom(number, sizeof number, 0) != sizeof number)
		return vc_fail_errno(errno, "migration: random bytes");
	r = vc_mig_send(&m->stream, VC_MIG_HELLO, VC_MIG_VERSION, number, sizeof number);
	if (r < 0)
		return r;
	from = vc_host_ns();
	r = vc_still_begin(m->vm, "vcore_migrate_send", false, &still);
	if (r < 0)
		return r;
	r = send_states(m, VC_MIG_MACHINE, m->o.flags & VCORE_MIGRATE_BY_POSTCOPY ? VC_MIG_POSTCOPY : 0);
	vc_still_end(&still);
	m->state_ns = vc_host_ns() - from;
	return r < 0 ? r : vc_mig_expect(&m->stream, VC_MIG_READY);
}

/* ---- the handover ---- */

/* The rest, with the guest stopped, until the other side is whole. */
static int complete(struct sending *m)
{
	int64_t left = vc_mig_memory_look(&m->memory);
	int r;

	if (left < 0)
		return (int)left;
	m->memory.after_frame = NULL;
	m->postcopy = m->postcopy && left;
	r = m->postcopy ? vc_mig_postcopy_announce(&m->memory) : round_of_memory(m);
	if (r >= 0)
		r = send_states(m, VC_MIG_STATE, 0);
	if (r >= 0)
		r = vc_mig_look_up(&m->stream);
	return r < 0 ? r : vc_mig_postcopy_until(&m->memory, VC_MIG_LOADED);
}

/* From here on nobody can take it back. */
static int give_up_vm(struct sending *m)
{
	char why[160];
	int r;

	m->stream.cancel_fd = -1;
	r = vc_mig_send(&m->stream, VC_MIG_GO, 0, NULL, 0);
	if (r >= 0)
		r = vc_mig_postcopy_until(&m->memory, VC_MIG_RUNS_FRAME);
	/* the other side says itself that it does not: it cannot have got GO, or has not taken the vm */
	if (r >= 0 || r == -EREMOTEIO)
		return r;
	snprintf(why, sizeof why, "%s", vcore_error_message());
	return vc_fail(ENOTRECOVERABLE, "migration: whether the other side runs is not known: %s", why);
}

/* What its devices still had to do is the other side's to do. */
static void end_vm(struct sending *m)
{
	struct vcore_exit exit = {.size = sizeof exit, .reason = VCORE_EXIT_MIGRATED};

	vc_buses_reset(&m->vm->buses);
	vc_vm_end(m->vm, &exit);
	m->still.resume = false;
}

static void told_of_push(void *ctx)
{
	struct sending *m = ctx;

	if (vc_host_ns() - m->told <= PROGRESS_NS)
		return;
	m->info.remaining = vc_mig_memory_left(&m->memory) * VC_PAGE_SIZE;
	/* it cannot be cancelled any more */
	tell(m);
}

/* The other side runs, and has not all that is here. */
static int follow(struct sending *m)
{
	char why[160];
	int r;

	m->info.state = VCORE_MIGRATE_POSTCOPY;
	m->stream.deadline = UINT64_MAX;
	update(m);
	r = vc_mig_postcopy_push(&m->memory, told_of_push, m);
	if (r >= 0)
		return 0;
	m->lost = true;
	snprintf(why, sizeof why, "%s", vcore_error_message());
	return vc_fail(ENOTRECOVERABLE, "migration: the other side ran when its memory could not follow: %s", why);
}

static int switch_over(struct sending *m)
{
	uint64_t from = vc_host_ns();
	int r;

	throttle_end(m);
	m->stream.tick = NULL;
	m->stream.deadline = from + m->stream.idle_ns;
	r = vc_still_begin(m->vm, "vcore_migrate_send", false, &m->still);
	if (r < 0)
		return r;
	m->info.state = VCORE_MIGRATE_STOPPED;
	update(m);
	r = complete(m);
	if (r >= 0)
		r = give_up_vm(m);
	m->info.downtime_ns = r < 0 ? 0 : vc_host_ns() - from;
	if (r >= 0 && m->postcopy)
		r = follow(m);
	/* who hears that the vm has ended asks for this */
	update(m);
	if (r >= 0)
		end_vm(m);
	else if (r == -ENOTRECOVERABLE)
		m->still.resume = false;
	vc_still_end(&m->still);
	return r;
}

/* ---- all of it ---- */

static int start_connecting(const char *text)
{
	union vc_address address;
	int fd, r = vc_address_parse("migration", text, &address);

	if (r < 0)
		return r;
	fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return vc_fail_errno(errno, "migration: a socket");
	if (connect(fd, &address.any, vc_address_length(&address)) < 0 && errno != EINPROGRESS) {
		r = vc_fail_errno(errno, "migration: connecting to %s", text);
		close(fd);
		return r;
	}
	return fd;
}

static int open_stream(struct sending *m, int cancel_fd)
{
	int fd = m->o.address ? start_connecting(m->o.address) : m->o.fd, r;

	if (fd < 0)
		return m->o.address ? fd : vc_fail(EINVAL, "vcore_migrate_send: neither an address nor a descriptor");
	r = vc_mig_stream_open(&m->stream, fd, m->o.timeout_ms);
	if (m->o.address)
		close(fd);
	m->stream.cancel_fd = cancel_fd;
	if (m->o.max_time_ms)
		m->stream.deadline = m->begun + m->o.max_time_ms * 1000000;
	return r >= 0 && m->o.address ? vc_mig_wait_connected(&m->stream) : r;
}

static int migrate(struct sending *m, int cancel_fd)
{
	int r = open_stream(m, cancel_fd);

	if (r >= 0)
		r = introduce(m);
	if (r >= 0)
		r = vc_mig_memory_begin(&m->memory, m->vm, &m->stream);
	m->info.memory = m->memory.total;
	if (r >= 0)
		r = precopy(m);
	throttle_end(m);
	if (r >= 0)
		r = switch_over(m);
	if (r < 0 && r != -EREMOTEIO)
		vc_mig_tell_failure(&m->stream);
	return r;
}

static void finish(struct sending *m, int r)
{
	m->info.state = r >= 0                  ? VCORE_MIGRATE_COMPLETED
	                : m->lost               ? VCORE_MIGRATE_LOST
	                : r == -ECANCELED       ? VCORE_MIGRATE_CANCELED
	                : r == -ENOTRECOVERABLE ? VCORE_MIGRATE_UNDECIDED
	                                        : VCORE_MIGRATE_FAILED;
	m->info.remaining = r >= 0 ? 0 : m->info.remaining;
	if (r < 0)
		snprintf(m->info.error, sizeof m->info.error, "%s", vcore_error_message());
	update(m);
}

static int check_options(struct vcore_vm *vm, const struct vcore_migrate_options *options,
                         struct vcore_migrate_options *o)
{
	if (!vm || vc_struct_in(o, sizeof *o, options) < 0)
		return vc_fail(EINVAL, "vcore_migrate_send: a vm, and options with their size set, are needed");
	if (o->flags & ~(uint32_t)FLAGS || o->reserved)
		return vc_fail(EINVAL, "vcore_migrate_send: flags are %#x, reserved is %u: expected none but %#x, and 0",
		               o->flags, o->reserved, FLAGS);
	if (o->downtime_us > 3600000000u || o->max_time_ms > 1000000000000u)
		return vc_fail(EINVAL,
		               "vcore_migrate_send: a downtime of %llu us, at most %llu ms: expected an hour or less, "
		               "and no more than 10^12 ms",
		               (unsigned long long)o->downtime_us, (unsigned long long)o->max_time_ms);
	if (!o->downtime_us)
		o->downtime_us = DOWNTIME_US;
	return 0;
}

int vcore_migrate_send(vcore_vm *vm, const struct vcore_migrate_options *options)
{
	struct sending *m = calloc(1, sizeof *m);
	int r, cancel_fd = -1;

	if (!m)
		return vc_fail(ENOMEM, "vcore_migrate_send: no memory");
	m->vm = vm;
	m->info = (struct vcore_migrate_info){.size = sizeof m->info, .state = VCORE_MIGRATE_SETUP};
	m->stream.fd = -1;
	m->begun = m->told = vc_host_ns();
	r = check_options(vm, options, &m->o);
	if (r >= 0)
		r = vc_missing_none(&vm->mem, "vcore_migrate_send");
	if (r >= 0 && m->o.flags & VCORE_MIGRATE_BY_POSTCOPY)
		r = vc_mig_postcopy_check(vm);
	if (r >= 0)
		r = vc_migrate_enter(vm, m->o.flags & VCORE_MIGRATE_BY_POSTCOPY, &cancel_fd);
	if (r >= 0) {
		update(m);
		r = migrate(m, cancel_fd);
		vc_mig_memory_end(&m->memory);
		finish(m, r);
		vc_mig_stream_close(&m->stream);
		vc_migrate_leave(vm);
	}
	free(m);
	return r;
}
