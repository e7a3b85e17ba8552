/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Virtio devices that another process serves (vhost-user): what the device types share.
 *
 * The guest's own rings are given to the host's kernel alone (kernel.h), which does not die with requests in flight. So
 * the back-end does not see the guest's queues. Chains are popped from them as by every other device, checked, and put
 * on rings of our own (ring.h), which the back-end serves; what it gives back is pushed. So the guest's writes to
 * packed and split queues come to the same, memory that the back-end wrote is marked dirty and searched for translated
 * code before the guest is told of it, a stopped device keeps its chains as every other, and when the back-end dies,
 * what it has not given back is known exactly: it is put on the ring of the next one. The guest sees a pause.
 *
 * Threads. The connection and the back-end's signals are served by a loop of the device's own, with its thread, for a
 * request may have to wait for the back-end. Queues are used on the virtio worker and on that loop. Nothing is freed
 * but on that loop, or when it is gone: whoever finds the connection broken hangs up.
 */
#ifndef VC_VHOST_VHOST_H
#define VC_VHOST_VHOST_H

#include <pthread.h>
#include <virtcore/error.h>

#include "core/error.h"
#include "core/util.h"
#include "vhost/ring.h"

enum { VC_VHOST_QUEUES_MAX = 64, VC_VHOST_OWN_QUEUES_MAX = 1 };

/* What a device type is besides. */
struct vc_vhost_kind {
	const struct vc_virtio_ops *ops;
	uint64_t features;          /* of the device type, that may be offered where the back-end has them */
	uint32_t config_size;       /* of the configuration that the back-end has; 0: it is ours */
	uint32_t queues_counted_as; /* in the back-end's GET_QUEUE_NUM: so many of ours are one; 0: 1 */
	bool waits;                 /* a stop waits for what is in flight: every chain comes back soon */
};

struct vc_vhost_queue {
	struct vc_vhost *h;
	uint32_t index;
	int kick, call;         /* eventfds */
	struct vc_watch *watch; /* of call */
	pthread_mutex_t lock;   /* protects the virtqueue and all below; after vc_vhost.lock */
	pthread_cond_t idle;    /* nothing is in flight, or nothing will come back */
	struct vc_virtq *q;     /* NULL: the driver has not set it up, or the device is stopped */
	bool enabled;           /* the driver uses it */
	bool live;              /* a back-end serves the ring */
	bool stopping;          /* nothing more is put on the ring */
	struct vc_vhost_ring ring;
};

struct vc_vhost {
	struct vc_env *env;
	const struct vc_vhost_kind *kind;
	struct vc_virtio *v; /* the loop may use it once the driver has started the device */
	char tag[36];        /* vhost-user-fs: constant */
	uint8_t mac[6];      /* vhost-user-net: constant */
	char *path;
	uint64_t reconnect_ns;         /* 0: never */
	int listener;                  /* the back-end connects to us here; -1: we to it */
	struct vc_watch *listen_watch; /* of listener; heeded while there is no connection */
	uint32_t queue_count, queue_size, ring_size;
	struct vc_vhost_queue *queues;
	uint8_t *rings; /* all of them, shared with the back-end */
	uint64_t rings_length;
	int rings_fd;
	uint64_t offered; /* features of the device type; constant */
	struct vc_clock clock;
	struct vc_loop *loop;
	struct vc_timer *again;
	struct vc_mem_watcher watcher;
	_Atomic uint64_t version; /* of the memory map that the back-end knows */
	_Atomic uint64_t connections;

	pthread_rwlock_t config_lock; /* protects config */
	uint8_t config[VC_VHOST_CONFIG_MAX];

	pthread_mutex_t lock; /* protects all below; held during requests to the back-end */
	struct vc_vhost_user user;
	struct vc_watch *watch, *backend_watch; /* changed on the loop only */
	/* Read under a queue's lock as well: changed with all of those. */
	struct vc_vhost_table table;
	bool started;        /* the driver is there */
	bool config_changed; /* and it does not know yet */
	bool absent;         /* it has been said that no back-end is there */
	bool closing;        /* callbacks do nothing any more */
};

/* What every type reads: socket, listen, wait_ms, reconnect_ms, timeout_ms, queue_size. */
#define VC_VHOST_PROPERTIES                                                                           \
	"socket       path of the unix socket on which the back-end listens\n"                            \
	"listen       on: we listen there, and the back-end connects, also again when it is gone (off)\n" \
	"wait_ms      listen: how long making the device waits for its first connection (30000)\n"        \
	"reconnect_ms milliseconds until a back-end that is gone is called again (1000; 0: never)\n"      \
	"timeout_ms   how long the back-end may take to answer (5000)\n"                                  \
	"queue_size   entries of each queue, a power of 2 from 32 to 1024 (256)\n"

/* Reads those, connects, and makes what the device needs. On failure nothing is left. */
int vc_vhost_new(struct vc_env *env, struct vc_props *props, const struct vc_vhost_kind *kind, uint32_t queues,
                 struct vc_vhost **out);
void vc_vhost_free(void *ctx); /* of a vc_vhost, for kind->ops; NULL is allowed */
/* The last that create() of a type calls: as vc_virtio_add(), with h as the ctx of kind->ops. On failure
 * kind->ops->destroy has been called. own_queues: behind those that the back-end serves. */
int vc_vhost_add(struct vc_vhost *h, uint32_t own_queues, struct vc_props *props, struct vc_dev **dev);

/* For kind->ops, with the vc_vhost as ctx. */
uint64_t vc_vhost_features(void *ctx);
void vc_vhost_start(void *ctx);
void vc_vhost_stop(void *ctx);
void vc_vhost_notify(void *ctx, struct vc_virtq *q);
unsigned vc_vhost_statistics(void *ctx, struct vc_stat stats[VC_STATS_MAX]);
/* Whether the back-end shall serve a queue at all: at first it shall. */
void vc_vhost_enable(struct vc_vhost_queue *queue, bool on);
bool vc_vhost_is_enabled(struct vc_vhost_queue *queue);
/* What the back-end has said of itself, out of a buffer of its own. */
void vc_vhost_get_config(struct vc_vhost *h, void *config, uint32_t length);
/* Write through to the back-end. */
void vc_vhost_set_config(struct vc_vhost *h, uint32_t offset, const void *data, uint32_t length);

/* ---- relay.c ---- */

int vc_vhost_queue_init(struct vc_vhost_queue *queue, struct vc_vhost *h, uint32_t index, uint8_t *ring);
void vc_vhost_queue_fini(struct vc_vhost_queue *queue);
/* Between the guest's queue and the ring, both ways. -ESTALE: first the memory table has to be made anew; -EPROTO with
 * a sentence: the back-end broke a rule. */
int vc_vhost_relay(struct vc_vhost_queue *queue);
/* The back-end is done with the ring, or gone: what it has not given back stays there. Errors as the former's last. */
int vc_vhost_relay_end(struct vc_vhost_queue *queue);
/* Nothing more is put on the ring; until all has come back, or nothing will. False: time is up. */
bool vc_vhost_drain(struct vc_vhost_queue *queue, uint64_t deadline_ns);

/* ---- session.c: with h->lock ---- */

/* Connect and learn what the back-end is; it must have what is offered to the driver. */
int vc_vhost_session_open(struct vc_vhost *h);
/* Have the back-end serve the queues that are set up, and do what waits in them. */
int vc_vhost_session_start(struct vc_vhost *h);
/* Have it stop. What it has not given back then stays on the rings. */
int vc_vhost_session_stop(struct vc_vhost *h);
/* The memory map has changed. */
int vc_vhost_session_update_memory(struct vc_vhost *h);
/* On the loop, soon after: the worker does it, or this where no driver is there. Takes the lock itself. */
void vc_vhost_session_follow_memory(void *ctx);
int vc_vhost_session_read_config(struct vc_vhost *h);
/* The driver is told of a change, as soon as it is there. */
void vc_vhost_session_tell_config(struct vc_vhost *h);
/* The connection is of no use: log the calling thread's error message, and see it closed on the loop. */
void vc_vhost_session_fail(struct vc_vhost *h);
/* Connect again, if there is no connection; takes the lock itself. */
void vc_vhost_session_again(void *ctx);
/* Somebody has connected to the listener: likewise. */
void vc_vhost_session_accept(void *ctx, uint32_t events);

#endif
