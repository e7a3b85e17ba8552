/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Entropy device (5.4): fills what the driver gives it with the host's random bytes, so many a second if told. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "core/error.h"
#include "virtio/types.h"
#include "virtio/virtio.h"

enum { REQUESTQ, QUEUES, PERIOD_NS = 1000000000, PIECE = 256 /* what getrandom() never gives less of */ };

struct rng {
	struct vc_env *env;
	struct vc_virtio *v;
	struct vc_timer *timer; /* the next period; NULL: no limit */
	uint64_t limit;         /* bytes a period */
	_Atomic uint64_t given; /* bytes */
	/* belong to the queue's worker */
	uint64_t period_end, left;
};

static size_t fill(const struct iovec *iov, size_t room)
{
	size_t done = 0;

	while (done < iov->iov_len && done < room) {
		size_t want = iov->iov_len - done < room - done ? iov->iov_len - done : room - done;
		ssize_t n = getrandom((uint8_t *)iov->iov_base + done, want < PIECE ? want : PIECE, GRND_NONBLOCK);

		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

static void answer(struct rng *rng, struct vc_virtq_chain *chain)
{
	size_t done = 0;

	for (uint32_t i = 0; i < chain->in_count; i++) {
		size_t n = fill(&chain->in[i], (size_t)(rng->left - done));

		done += n;
		if (n < chain->in[i].iov_len)
			break;
	}
	rng->left -= rng->timer ? done : 0;
	atomic_fetch_add_explicit(&rng->given, done, memory_order_relaxed);
	vc_virtq_push(chain, (uint32_t)done);
}

/* Is there something left to give in this period? If not, the timer wakes us in the next. */
static bool may_give(struct rng *rng)
{
	uint64_t now;

	if (rng->left)
		return true;
	now = vc_clock_now(rng->env->clock);
	if (now < rng->period_end) {
		vc_timer_arm(rng->timer, rng->period_end);
		return false;
	}
	rng->left = rng->limit;
	rng->period_end = now + PERIOD_NS;
	return true;
}

static void rng_notify(void *ctx, struct vc_virtq *q)
{
	struct rng *rng = ctx;
	struct vc_virtq_chain *chain;

	do {
		vc_virtq_notify_off(q);
		while (may_give(rng) && vc_virtq_pop(q, &chain) > 0)
			answer(rng, chain);
		vc_virtq_flush(q);
		if (!rng->left)
			return;
	} while (vc_virtq_notify_on(q));
}

static void next_period(void *ctx)
{
	struct rng *rng = ctx;

	vc_virtio_wake(rng->v, REQUESTQ);
}

static void rng_stop(void *ctx)
{
	struct rng *rng = ctx;

	if (rng->timer)
		vc_timer_cancel(rng->timer);
}

static unsigned rng_statistics(void *ctx, struct vc_stat stats[VC_STATS_MAX])
{
	struct rng *rng = ctx;

	stats[0] = (struct vc_stat){"bytes", atomic_load(&rng->given)};
	return 1;
}

static void rng_destroy(void *ctx)
{
	struct rng *rng = ctx;

	vc_timer_free(rng->timer);
	free(rng);
}

static const struct vc_virtio_ops rng_ops = {
    .type = "virtio-rng",
    .id = VC_VIRTIO_RNG,
    .pci_class = 0x00ff00,
    .legacy_device = 0x1005,
    .in_order = true,
    .notify = rng_notify,
    .stop = rng_stop,
    .statistics = rng_statistics,
    .destroy = rng_destroy,
};

static int rng_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	struct rng *rng = calloc(1, sizeof *rng);
	struct vc_virtio_config config = {.ops = &rng_ops, .ctx = rng, .queues = QUEUES};
	uint64_t limit;
	int r = rng ? vc_props_u64(props, "rate", 0, 1, UINT32_MAX, &limit) : vc_fail(ENOMEM, "no memory for a virtio-rng");

	if (r < 0) {
		free(rng);
		return r;
	}
	rng->env = env;
	rng->limit = limit;
	rng->left = limit ? 0 : UINT64_MAX; /* the first period begins with the first request */
	r = limit ? vc_timer_new(env->loop, next_period, rng, &rng->timer) : 0;
	if (r < 0) {
		free(rng);
		return r;
	}
	return vc_virtio_add(env, props, &config, &rng->v, dev);
}

const struct vc_device_type vc_virtio_rng_type = {
    .name = "virtio-rng",
    .summary = "random numbers from the host",
    .properties = "rate       bytes a second (no limit)\n" VC_VIRTIO_PROPERTIES,
    .create = rng_create,
};
