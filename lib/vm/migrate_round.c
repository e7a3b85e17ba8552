/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory is gone through once, over all connections. */
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/thread.h"
#include "vm/migrate.h"

#define LOOK_NS 100000000u

static int send_mark(struct vc_mig_channel *c, uint32_t number, uint64_t pages)
{
	uint8_t payload[8];

	vc_st64(payload, pages);
	return vc_mig_send(&c->stream, VC_MIG_ROUND, number, payload, sizeof payload);
}

/* A channel's share. */
static int send_share(struct vc_mig_channel *c)
{
	const struct vc_mig_round *round = c->round;
	int r = send_mark(c, round->number, round->pages);

	if (r >= 0)
		r = vc_mig_channel_send(c);
	if (r >= 0 && round->last)
		r = send_mark(c, VC_MIG_NO_ROUND, 0);
	if (r < 0)
		vc_mig_crew_fail(round->crew, r);
	return r;
}

static void *run_share(void *ctx)
{
	static const uint64_t one = 1;
	struct vc_mig_channel *c = ctx;

	send_share(c);
	while (write(c->round->done_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
	return NULL;
}

/* Until all threads are at their end; the caller's channel lives on meanwhile. */
static int wait_for_threads(struct vc_mig_round *round, uint32_t threads)
{
	struct vc_mig_channel *c = round->channel;

	for (uint64_t done = 0, n; done < threads; done += n) {
		int r = vc_mig_wait_readable(&c->stream, round->done_fd, vc_host_ns() + LOOK_NS);

		if (r >= 0 && c->after_frame)
			r = c->after_frame(c->ctx);
		if (r < 0)
			return r;
		if (read(round->done_fd, &n, sizeof n) < 0)
			n = 0;
	}
	return 0;
}

static uint32_t start_threads(struct vc_mig_round *round)
{
	uint32_t i;
	int r = 0;

	for (i = 1; i < round->channels; i++) {
		round->channel[i].round = round;
		r = vc_thread_new(&round->channel[i].thread, run_share, &round->channel[i]);
		if (r)
			break;
	}
	if (r)
		vc_mig_crew_fail(round->crew, vc_fail_errno(r, "migration: a thread for a connection"));
	return i - 1;
}

int vc_mig_round_run(struct vc_mig_round *round)
{
	uint32_t threads;
	int r;

	round->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (round->done_fd < 0)
		return vc_fail_errno(errno, "an eventfd for a migration");
	round->channel->round = round;
	threads = start_threads(round);
	r = send_share(round->channel);
	if (r >= 0)
		r = wait_for_threads(round, threads);
	if (r < 0) /* wakes them */
		vc_mig_crew_fail(round->crew, r);
	for (uint32_t i = 1; i <= threads; i++)
		pthread_join(round->channel[i].thread, NULL);
	close(round->done_fd);
	r = vc_mig_crew_result(round->crew);
	return r < 0 ? vc_mig_peer_reason(&round->channel->stream, r) : 0;
}
