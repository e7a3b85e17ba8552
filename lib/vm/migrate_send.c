/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The source of a migration. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "memory/missing.h"
#include "vm/migrate_sending.h"
#include "vm/snapshot_codec.h"
#include "vm/snapshot_file.h"

#define DOWNTIME_US     50000u
#define THROTTLE_PERIOD 20000000u /* ns */
#define DELTA_CACHE     VC_MIB(64)
/* What is taken for the rate as long as there was too little to measure. */
#define RATE_GUESS   1000000000u
#define RATE_MEASURE VC_MIB(1)

/* ---- throttle: on the thread that sends, between frames and while it waits ---- */

static uint64_t throttle_tick(void *ctx, uint64_t now)
{
	struct vc_mig_sending *m = ctx;
	uint64_t phase = (now - m->begun) % THROTTLE_PERIOD, off = THROTTLE_PERIOD / 100 * m->info.throttle;
	bool hold = phase < off;

	if (!m->info.throttle)
		return UINT64_MAX;
	if (hold != m->throttled)
		vc_vm_throttle(m->vm, hold);
	m->throttled = hold;
	return now - phase + (hold ? off : THROTTLE_PERIOD);
}

static void throttle_end(struct vc_mig_sending *m)
{
	m->info.throttle = 0;
	vc_mig_sending_let_run(m);
}

/* ---- pre-copy ---- */

/* After each frame while the guest runs. */
static int after_frame(void *ctx)
{
	struct vc_mig_sending *m = ctx;

	if (vc_mig_has_word(&m->channel->stream)) {
		int r = vc_mig_expect(&m->channel->stream, VC_MIG_FAILED);

		return r < 0 ? r : vc_fail(EPROTO, "migration: the other side speaks out of turn");
	}
	if (!m->postcopy && vc_migrate_wants_postcopy(m->vm)) {
		m->postcopy = true;
		atomic_store(&m->memory.enough, true);
	}
	return vc_host_ns() - m->told > VC_MIG_PROGRESS_NS ? vc_mig_sending_tell(m) : 0;
}

static void measure(struct vc_mig_sending *m)
{
	/* short rounds are measured together: one that met a busy host does not count for ever */
	m->measured_bytes += (vc_mig_sending_counts(m).pages - m->round_pages) * VC_PAGE_SIZE;
	m->measured_ns += vc_host_ns() - m->round_begin;
	if (m->measured_bytes < RATE_MEASURE && m->info.rate)
		return;
	m->info.rate = vc_muldiv64(m->measured_bytes, 1000000000, m->measured_ns + 1);
	m->measured_bytes = m->measured_ns = 0;
}

static int round_of_memory(struct vc_mig_sending *m, bool last)
{
	struct vc_mig_counts counts = vc_mig_sending_counts(m);
	struct vc_mig_round round = {.crew = &m->crew,
	                             .channel = m->channel,
	                             .channels = m->channels,
	                             .number = ++m->info.rounds,
	                             .last = last,
	                             .pages = vc_mig_memory_left(&m->memory)};
	int r;

	m->round_begin = vc_host_ns();
	m->round_pages = counts.pages;
	m->round_looked_at = counts.looked_at;
	m->round_left = round.pages;
	r = vc_mig_round_run(&round);
	m->round_left = 0;
	if (r < 0)
		return r;
	if (m->postcopy)
		vc_mig_memory_sent_some(&m->memory, m->channel, m->channels);
	else
		vc_mig_memory_sent(&m->memory);
	measure(m);
	return 0;
}

static uint64_t estimate(const struct vc_mig_sending *m, uint64_t pages)
{
	return m->state_ns + vc_muldiv64(pages * VC_PAGE_SIZE, 1000000000, m->info.rate ? m->info.rate : RATE_GUESS);
}

/* The guest wrote more than half of what was sent meanwhile: that will not end soon. */
static void converge(struct vc_mig_sending *m, uint64_t left)
{
	uint64_t sent = vc_mig_sending_counts(m).pages - m->round_pages;

	if (!(m->o.flags & VCORE_MIGRATE_AUTO_CONVERGE) || left * 2 < sent)
		return;
	m->info.throttle = m->info.throttle ? (m->info.throttle > 89 ? 99 : m->info.throttle + 10) : 20;
}

/* As many rounds as there were to be before post-copy. */
static bool rounds_are_over(const struct vc_mig_sending *m)
{
	return m->o.flags & VCORE_MIGRATE_BY_POSTCOPY && m->info.rounds >= m->o.postcopy_rounds;
}

/* ---- the states ---- */

/* free() */
static int encode_states(struct vc_mig_sending *m, uint8_t **data, size_t *length)
{
	struct vcore_snapshot *s;
	int r = vc_snapshot_of_states(m->vm, &s);

	if (r < 0)
		return r;
	r = vc_snapshot_encode(s, data, length);
	vcore_snapshot_unref(s);
	return r;
}

static int send_states(struct vc_mig_sending *m, enum vc_mig_kind kind)
{
	uint8_t *data;
	size_t length;
	int r = encode_states(m, &data, &length);

	if (r < 0)
		return r;
	r = length > UINT32_MAX ? vc_fail(E2BIG, "migration: states of %zu bytes", length)
	                        : vc_mig_send(&m->channel->stream, kind, 0, data, (uint32_t)length);
	free(data);
	return r;
}

/* What the other side is to make; also what that costs. */
static int introduce(struct vc_mig_sending *m)
{
	struct vc_still still;
	uint64_t from = vc_host_ns();
	int r = vc_still_begin(m->vm, "vcore_migrate_send", false, &still);
	if (r < 0)
		return r;
	r = send_states(m, VC_MIG_MACHINE);
	vc_still_end(&still);
	m->state_ns = vc_host_ns() - from;
	return r < 0 ? r : vc_mig_expect(&m->channel->stream, VC_MIG_READY);
}

/*
 * What taking the states costs was measured once, perhaps while the host had other things to do: if that alone keeps
 * the guest from being stopped, it is measured again now and then.
 */
static void measure_states(struct vc_mig_sending *m)
{
	uint64_t from = vc_host_ns(), took;
	struct vc_still still;
	uint8_t *data = NULL;
	size_t length;
	int r;

	if (m->info.expected_ns - m->state_ns > m->o.downtime_us * 500 || from - m->states_measured < VC_MIG_PROGRESS_NS)
		return;
	m->states_measured = from;
	/* of no worth when that cannot be done now: what is known stays */
	if (vc_still_begin(m->vm, "vcore_migrate_send", false, &still) < 0)
		return;
	r = encode_states(m, &data, &length);
	vc_still_end(&still);
	took = vc_host_ns() - from;
	if (r < 0)
		return;
	free(data);
	m->info.expected_ns -= m->state_ns;
	m->state_ns = took < m->state_ns ? took : m->state_ns;
	m->info.expected_ns += m->state_ns;
}

/* ---- rounds ---- */

/* Until the rest is little enough, or is to follow. */
static int precopy(struct vc_mig_sending *m)
{
	int64_t left;
	int r;

	m->info.state = VCORE_MIGRATE_ACTIVE;
	m->channel->after_frame = after_frame;
	m->channel->ctx = m;
	m->channel->stream.tick = throttle_tick;
	m->channel->stream.ctx = m;
	m->postcopy = rounds_are_over(m);
	while (!m->postcopy) {
		r = round_of_memory(m, false);
		left = r < 0 ? r : vc_mig_memory_look(&m->memory);
		if (left < 0)
			return (int)left;
		m->info.remaining = (uint64_t)left * VC_PAGE_SIZE;
		m->info.expected_ns = estimate(m, (uint64_t)left);
		if (m->info.expected_ns > m->o.downtime_us * 1000)
			measure_states(m);
		converge(m, (uint64_t)left);
		r = vc_mig_sending_tell(m);
		if (r < 0 || m->info.expected_ns <= m->o.downtime_us * 1000)
			return r;
		m->postcopy |= rounds_are_over(m) || vc_migrate_wants_postcopy(m->vm);
	}
	return vc_mig_sending_tell(m);
}

/* ---- the handover ---- */

/* The rest, with the guest stopped, until the other side is whole. */
static int complete(struct vc_mig_sending *m)
{
	int64_t left = vc_mig_memory_look(&m->memory);
	int r;

	if (left < 0)
		return (int)left;
	for (uint32_t i = 0; i < m->channels; i++)
		m->channel[i].bandwidth = 0;
	m->channel->after_frame = NULL;
	m->follow = (struct vc_mig_follow){.memory = &m->memory, .stream = &m->channel->stream};
	m->postcopy = m->postcopy && left;
	/* then the round is that there are no more */
	atomic_store(&m->memory.enough, m->postcopy);
	r = round_of_memory(m, true);
	if (r >= 0 && m->postcopy)
		r = vc_mig_follow_announce(&m->follow);
	if (r >= 0)
		r = send_states(m, VC_MIG_STATE);
	if (r >= 0)
		r = vc_mig_look_up(&m->channel->stream);
	return r < 0 ? r : vc_mig_follow_until(&m->follow, VC_MIG_LOADED);
}

/* From here on nobody can take it back. */
static int give_up_vm(struct vc_mig_sending *m)
{
	char why[160];
	int r;

	m->channel->stream.cancel_fd = -1;
	r = vc_mig_send(&m->channel->stream, VC_MIG_GO, 0, NULL, 0);
	if (r >= 0)
		r = vc_mig_follow_until(&m->follow, VC_MIG_RUNS_FRAME);
	/* the other side says itself that it does not: it cannot have got GO, or has not taken the vm */
	if (r >= 0 || r == -EREMOTEIO)
		return r;
	m->kept = m->postcopy ? VCORE_MIGRATE_UNDECIDED : VCORE_MIGRATE_NONE;
	snprintf(why, sizeof why, "%s", vcore_error_message());
	return vc_fail(ENOTRECOVERABLE, "migration: whether the other side runs is not known: %s", why);
}

static int switch_over(struct vc_mig_sending *m)
{
	uint64_t from = vc_host_ns();
	int r;

	throttle_end(m);
	m->channel->stream.tick = NULL;
	for (uint32_t i = 0; i < m->channels; i++)
		m->channel[i].stream.deadline = from + m->channel->stream.idle_ns;
	r = vc_still_begin(m->vm, "vcore_migrate_send", false, &m->still);
	if (r < 0)
		return r;
	m->info.state = VCORE_MIGRATE_STOPPED;
	vc_mig_sending_update(m);
	r = complete(m);
	if (r >= 0)
		r = give_up_vm(m);
	m->info.downtime_ns = r < 0 ? 0 : vc_host_ns() - from;
	if (r >= 0 && m->postcopy)
		r = vc_mig_sending_follow(m);
	/* who hears that the vm has ended asks for this */
	vc_mig_sending_update(m);
	if (r >= 0)
		vc_mig_sending_end_vm(m);
	else if (r == -ENOTRECOVERABLE || r == -ENOLINK)
		m->still.resume = false;
	/* one that may be taken up again stays as it is: nothing may write its memory */
	if (!m->kept)
		vc_still_end(&m->still);
	return r;
}

/* ---- all of it ---- */

static int open_channels(struct vc_mig_sending *m, int cancel_fd)
{
	struct vc_mig_stream model = vc_mig_sending_model(m, cancel_fd);
	int r;

	if (m->o.max_time_ms)
		model.deadline = m->begun + m->o.max_time_ms * 1000000;
	r = vc_mig_connect(&m->o, &model, m->number, m->channel, &m->channels);
	for (uint32_t i = 0; r >= 0 && i < m->channels; i++)
		r = vc_mig_channel_init(&m->channel[i], &m->memory, m->o.delta_cache);
	return r < 0 ? vc_mig_peer_reason(&m->channel->stream, r) : 0;
}

static int migrate(struct vc_mig_sending *m, int cancel_fd)
{
	int r = open_channels(m, cancel_fd);

	if (r >= 0)
		r = introduce(m);
	if (r >= 0)
		r = vc_mig_memory_begin(&m->memory, m->vm);
	m->info.memory = m->memory.total;
	if (r >= 0)
		r = precopy(m);
	throttle_end(m);
	if (r >= 0)
		r = switch_over(m);
	if (r < 0 && r != -EREMOTEIO)
		vc_mig_tell_failure(&m->channel->stream);
	for (uint32_t i = 0; r < 0 && i < m->channels; i++)
		vc_mig_stream_shutdown(&m->channel[i].stream);
	return r;
}

static int check_connections(const struct vcore_migrate_options *o)
{
	if (!o->address && o->fd < 0)
		return vc_fail(EINVAL, "vcore_migrate_send: neither an address nor a descriptor");
	if (o->streams > VC_MIG_STREAMS || o->more_fd_count >= VC_MIG_STREAMS || (o->more_fd_count && !o->more_fds))
		return vc_fail(EINVAL, "vcore_migrate_send: %u connections, %u more descriptors: expected %u in all at most",
		               o->streams, o->more_fd_count, VC_MIG_STREAMS);
	if (o->bandwidth && o->bandwidth / VC_MIG_BANDWIDTH_MIN < vc_mig_ways(o))
		return vc_fail(EINVAL, "vcore_migrate_send: %llu bytes a second: expected %u or more for each connection, or 0",
		               (unsigned long long)o->bandwidth, VC_MIG_BANDWIDTH_MIN);
	return 0;
}

static int check_options(struct vcore_vm *vm, const struct vcore_migrate_options *options,
                         struct vcore_migrate_options *o)
{
	const uint32_t flags =
	    VCORE_MIGRATE_AUTO_CONVERGE | VCORE_MIGRATE_ZSTD | VCORE_MIGRATE_DELTA | VCORE_MIGRATE_BY_POSTCOPY;

	if (!vm || vc_struct_in(o, sizeof *o, options) < 0)
		return vc_fail(EINVAL, "vcore_migrate_send: a vm, and options with their size set, are needed");
	if (o->flags & ~flags || o->reserved)
		return vc_fail(EINVAL, "vcore_migrate_send: flags are %#x, reserved is %u: expected none but %#x, and 0",
		               o->flags, o->reserved, flags);
	if (o->downtime_us > 3600000000u || o->max_time_ms > 1000000000000u)
		return vc_fail(EINVAL,
		               "vcore_migrate_send: a downtime of %llu us, at most %llu ms: expected an hour or less, "
		               "and no more than 10^12 ms",
		               (unsigned long long)o->downtime_us, (unsigned long long)o->max_time_ms);
	if ((o->flags & VCORE_MIGRATE_ZSTD) && !vc_snapshot_pack_room(VC_PAGE_SIZE))
		return -ENOTSUP;
	if (!o->downtime_us)
		o->downtime_us = DOWNTIME_US;
	if (!o->delta_cache)
		o->delta_cache = DELTA_CACHE;
	return check_connections(o);
}

int vc_migrate_check(struct vcore_vm *vm, const struct vcore_migrate_options *options, struct vcore_migrate_options *o)
{
	int r = check_options(vm, options, o);

	if (r >= 0)
		r = vc_missing_none(&vm->mem, "vcore_migrate_send");
	if (r >= 0 && o->flags & VCORE_MIGRATE_BY_POSTCOPY)
		r = vc_mig_follow_check(vm);
	return r;
}

int vcore_migrate_send(vcore_vm *vm, const struct vcore_migrate_options *options)
{
	struct vc_mig_sending *m = calloc(1, sizeof *m);
	int cancel_fd, r;

	if (!m)
		return vc_fail(ENOMEM, "vcore_migrate_send: no memory");
	m->vm = vm;
	m->info = (struct vcore_migrate_info){.size = sizeof m->info, .state = VCORE_MIGRATE_SETUP};
	for (uint32_t i = 0; i < VC_MIG_STREAMS; i++)
		m->channel[i].stream.fd = -1;
	m->begun = m->told = vc_host_ns();
	r = vc_migrate_check(vm, options, &m->o);
	if (r >= 0)
		r = vc_mig_crew_init(&m->crew);
	if (r < 0) {
		free(m);
		return r;
	}
	r = vc_migrate_enter(vm, m->o.flags & VCORE_MIGRATE_BY_POSTCOPY, &cancel_fd);
	if (r < 0) {
		vc_mig_crew_fini(&m->crew);
		free(m);
		return r;
	}
	vc_mig_sending_update(m);
	r = migrate(m, cancel_fd);
	vc_mig_sending_end(m, r);
	return r;
}
