/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A virtio device for tests of queues: it holds what it pops, until the test says which chain is done. */
#ifndef VIRTIO_ECHO_H
#define VIRTIO_ECHO_H

#include <stdlib.h>

#include "core/util.h"
#include "virtio/virtio.h"

#define ECHO_MAX 1024u

struct echo {
	struct vc_virtio *v;
	struct vc_dev *dev;
	struct vc_virtq_chain *held[ECHO_MAX]; /* in the order of popping */
	unsigned count;
	unsigned starts, stops, destroys;
	unsigned *destroyed; /* counted there too, for the struct may be gone */
	uint32_t config;
	int refuse; /* what negotiated() returns */
};

static inline void echo_notify(void *ctx, struct vc_virtq *q)
{
	struct echo *e = ctx;

	do {
		vc_virtq_notify_off(q);
		while (e->count < ECHO_MAX && vc_virtq_pop(q, &e->held[e->count]) > 0)
			e->count++;
	} while (vc_virtq_notify_on(q));
}

static inline void echo_start(void *ctx)
{
	((struct echo *)ctx)->starts++;
}

static inline void echo_stop(void *ctx)
{
	struct echo *e = ctx;

	e->stops++;
	while (e->count)
		vc_virtq_drop(e->held[--e->count]);
}

static inline void echo_config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
	memcpy(data, (const uint8_t *)&((struct echo *)ctx)->config + offset, length);
}

static inline void echo_config_write(void *ctx, uint32_t offset, const void *data, uint32_t length)
{
	memcpy((uint8_t *)&((struct echo *)ctx)->config + offset, data, length);
}

static inline int echo_negotiated(void *ctx, uint64_t features)
{
	return ((struct echo *)ctx)->refuse;
}

static inline void echo_destroy(void *ctx)
{
	struct echo *e = ctx;

	e->destroys++;
	if (e->destroyed)
		++*e->destroyed;
}

static const struct vc_virtio_ops echo_ops = {
    .type = "virtio-echo",
    .id = VC_VIRTIO_RNG,
    .config_size = 4,
    .negotiated = echo_negotiated,
    .config_read = echo_config_read,
    .config_write = echo_config_write,
    .start = echo_start,
    .stop = echo_stop,
    .notify = echo_notify,
    .destroy = echo_destroy,
};

/* text: properties as vc_virtio_add() reads them. */
static inline int echo_add_ops(struct echo *e, struct vc_env *env, const char *text, uint32_t queues,
                               const uint16_t *sizes, const struct vc_virtio_ops *ops)
{
	struct vc_virtio_config config = {.ops = ops, .ctx = e, .queues = queues, .sizes = sizes};
	struct vc_props *props;
	int r = vc_props_parse(text, &props);

	if (r < 0)
		return r;
	r = vc_virtio_add(env, props, &config, &e->v, &e->dev);
	vc_props_free(props);
	return r;
}

static inline int echo_add(struct echo *e, struct vc_env *env, const char *text, uint32_t queues, const uint16_t *sizes)
{
	return echo_add_ops(e, env, text, queues, sizes, &echo_ops);
}

/* Give back the n-th chain that is held. */
static inline void echo_done(struct echo *e, unsigned n, uint32_t written)
{
	struct vc_virtq_chain *chain = e->held[n];

	e->count--;
	memmove(&e->held[n], &e->held[n + 1], (e->count - n) * sizeof e->held[0]);
	vc_virtq_push(chain, written);
}

#endif
