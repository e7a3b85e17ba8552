/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/migrate_sending.h"

#include <stdio.h>
#include <stdlib.h>

struct vc_mig_stream vc_mig_sending_model(const struct vc_mig_sending *m, int cancel_fd)
{
	return (struct vc_mig_stream){.cancel_fd = cancel_fd,
	                              .stop_fd = m->crew.stop_fd,
	                              .moved = (_Atomic uint64_t *)&m->crew.moved,
	                              .deadline = UINT64_MAX,
	                              .idle_ns =
	                                  (uint64_t)(m->o.timeout_ms ? m->o.timeout_ms : VC_MIG_TIMEOUT_MS) * 1000000};
}

/* ---- telling ---- */

void vc_mig_sending_let_run(struct vc_mig_sending *m)
{
	if (m->throttled)
		vc_vm_throttle(m->vm, false);
	m->throttled = false;
}

struct vc_mig_counts vc_mig_sending_counts(struct vc_mig_sending *m)
{
	struct vc_mig_counts counts = m->before;

	for (uint32_t i = 0; i < m->channels; i++)
		vc_mig_channel_add_counts(&m->channel[i], &counts);
	return counts;
}

static void refresh(struct vc_mig_sending *m)
{
	struct vc_mig_counts counts = vc_mig_sending_counts(m);
	uint64_t looked_at = counts.looked_at - m->round_looked_at;

	m->info.sent = counts.bytes;
	m->info.pages = counts.pages + m->follow.pages;
	m->info.zero_pages = counts.zero_pages + m->follow.zero_pages;
	m->info.wanted = m->follow.wanted;
	m->info.delta_pages = counts.delta_pages;
	m->info.saved = counts.saved;
	m->info.streams = m->channels;
	if (looked_at < m->round_left)
		m->info.remaining = (m->round_left - looked_at) * VC_PAGE_SIZE;
	m->info.total_ns = vc_host_ns() - m->begun;
}

void vc_mig_sending_update(struct vc_mig_sending *m)
{
	refresh(m);
	vc_migrate_publish(m->vm, &m->info);
}

int vc_mig_sending_tell(struct vc_mig_sending *m)
{
	vc_mig_sending_update(m);
	m->told = vc_host_ns();
	/* the callback may take its time: the guest is not held for as long */
	if (m->o.progress)
		vc_mig_sending_let_run(m);
	return m->o.progress && m->o.progress(m->o.ctx, &m->info)
	           ? vc_fail(ECANCELED, "the migration was cancelled by the progress callback")
	           : 0;
}

/* ---- the other side runs ---- */

/* What its devices still had to do is the other side's to do. */
void vc_mig_sending_end_vm(struct vc_mig_sending *m)
{
	struct vcore_exit exit = {.size = sizeof exit, .reason = VCORE_EXIT_MIGRATED};

	vc_buses_reset(&m->vm->buses);
	vc_vm_end(m->vm, &exit);
	m->still.resume = false;
}

static void told_of_push(void *ctx)
{
	struct vc_mig_sending *m = ctx;

	if (vc_host_ns() - m->told <= VC_MIG_PROGRESS_NS)
		return;
	m->info.remaining = vc_mig_memory_left(&m->memory) * VC_PAGE_SIZE;
	/* it cannot be cancelled any more */
	vc_mig_sending_tell(m);
}

/* The other side runs, and has not all that is here. */
int vc_mig_sending_follow(struct vc_mig_sending *m)
{
	char why[160];
	int r;

	m->info.state = VCORE_MIGRATE_POSTCOPY;
	m->channel->stream.deadline = UINT64_MAX;
	vc_mig_sending_update(m);
	r = vc_mig_follow_push(&m->follow, told_of_push, m);
	if (r >= 0)
		return 0;
	m->kept = VCORE_MIGRATE_INTERRUPTED;
	m->info.remaining = vc_mig_memory_left(&m->memory) * VC_PAGE_SIZE;
	snprintf(why, sizeof why, "%s", vcore_error_message());
	return vc_fail(ENOLINK, "migration: the other side runs, and its memory could not follow: %s", why);
}

/* ---- its end ---- */

void vc_mig_sending_hang_up(struct vc_mig_sending *m, int error)
{
	if (error != -EREMOTEIO)
		vc_mig_tell_failure(&m->channel->stream);
	for (uint32_t i = 0; i < m->channels; i++)
		vc_mig_stream_shutdown(&m->channel[i].stream);
}

static void close_channels(struct vc_mig_sending *m)
{
	m->before = vc_mig_sending_counts(m);
	for (uint32_t i = 0; i < m->channels; i++) {
		vc_mig_channel_fini(&m->channel[i]);
		m->channel[i] = (struct vc_mig_channel){.stream.fd = -1};
	}
	m->channels = 0;
	vc_mig_crew_fini(&m->crew);
}

static void finish(struct vc_mig_sending *m, int r)
{
	m->info.state = r >= 0                  ? VCORE_MIGRATE_COMPLETED
	                : m->kept               ? m->kept
	                : r == -ECANCELED       ? VCORE_MIGRATE_CANCELED
	                : r == -ENOTRECOVERABLE ? VCORE_MIGRATE_UNDECIDED
	                                        : VCORE_MIGRATE_FAILED;
	m->info.remaining = r >= 0 ? 0 : m->info.remaining;
	if (r < 0)
		snprintf(m->info.error, sizeof m->info.error, "%s", vcore_error_message());
}

void vc_mig_sending_end(struct vc_mig_sending *m, int r)
{
	struct vcore_vm *vm = m->vm;
	struct vcore_migrate_info info;
	bool kept;

	finish(m, r);
	refresh(m);
	info = m->info;
	close_channels(m);
	kept = m->kept;
	if (!kept)
		vc_mig_memory_end(&m->memory);
	/* from here on it may be another thread's */
	vc_migrate_leave(vm, &info, kept ? m : NULL);
	if (!kept)
		free(m);
}

void vc_mig_sending_drop(struct vc_mig_sending *m)
{
	vc_mig_memory_end(&m->memory);
	vc_still_end(&m->still);
	free(m);
}
