/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside the common half of a virtio device. */
#ifndef VC_VIRTIO_DEVICE_PRIV_H
#define VC_VIRTIO_DEVICE_PRIV_H

#include <pthread.h>

#include "virtio/queue.h"

#define VC_VIRTIO_QUEUES_MAX 1024u

/* Who serves queues [first, first + count): the vm's loop or a thread. */
struct vc_worker {
	struct vc_virtio *v;
	uint32_t first, count;
	_Atomic uint64_t asked[VC_VIRTIO_QUEUES_MAX / 64]; /* bit n: notify of queue first + n is wanted */
	pthread_mutex_t lock;                              /* protects all below */
	pthread_cond_t changed;
	bool running; /* the device is started */
	bool serving; /* a notify may run, on thread `server` */
	bool quit;
	pthread_t server;
	struct vc_watch *watch; /* on the loop; NULL: a thread of its own */
	int fd;                 /* eventfd that wakes it */
	_Atomic bool rings;     /* the kernel signals fd by itself, for any of the queues */
	pthread_t thread;
};

/* A queue that somebody else serves: served.h. */
struct vc_served {
	struct vc_virtio *v;
	uint32_t index;
	int bell, call;
	struct vc_watch *watch; /* of call, where its interrupts do not go past us */
	pthread_mutex_t lock;   /* protects all below; before those of the transport */
	bool routed;            /* the kernel sends this message: */
	uint64_t address;
	uint32_t data;
};

struct vc_virtio {
	struct vc_env *env;
	const struct vc_virtio_ops *ops;
	void *ctx;
	struct vc_virtio_transport transport;
	uint64_t ring_features;
	uint32_t queue_count, worker_count, served_count;
	struct vc_virtq *queues;
	struct vc_worker *workers;
	struct vc_iommu_endpoint *endpoint; /* NULL: behind no IOMMU; with the turn */
	struct vc_served *served; /* of the first so many queues */
	_Atomic uint64_t calls;   /* of those, that came through the loop */

	_Atomic uint8_t status;
	_Atomic uint64_t driver_features; /* as written */
	_Atomic uint64_t features;        /* negotiated; 0 before FEATURES_OK */
	_Atomic uint32_t generation;
	_Atomic bool broken;
	_Atomic bool started;   /* between ops->start and ops->stop */
	bool held, start_later; /* vc_virtio_hold(), and whether its end starts the device; with the turn */
	_Atomic bool pausing;   /* ops->stop runs, but the driver does not know: chains are kept */

	pthread_mutex_t lock; /* protects turn */
	pthread_cond_t changed;
	/*
	 * Somebody starts, stops, negotiates or sets up queues: one at a time. No lock, for frontends are called meanwhile,
	 * which may call whatever does not want the turn itself.
	 */
	bool turn;
};

void vc_virtio_take_turn(struct vc_virtio *v);
void vc_virtio_give_turn(struct vc_virtio *v);

/* With the turn. */
void vc_virtio_start(struct vc_virtio *v);
void vc_virtio_stop(struct vc_virtio *v);
/* Stop, but what is in flight will be there when it starts again. True: it was started. */
bool vc_virtio_pause(struct vc_virtio *v);
/* To how it was made; stopped. */
void vc_virtio_clear(struct vc_virtio *v);

void vc_virtio_interrupt(struct vc_virtio *v, uint32_t n);

/* ---- served.c ---- */

int vc_served_init(struct vc_virtio *v, uint32_t count);
void vc_served_fini(struct vc_virtio *v);
/* Nobody serves the queues: interrupts that are on their way arrive, or are forgotten where the driver is gone. */
void vc_served_settle(struct vc_virtio *v);
void vc_served_ring(const struct vc_served *s);

/* ---- worker.c ---- */

int vc_worker_init(struct vc_worker *w, struct vc_virtio *v, uint32_t first, uint32_t count, bool thread);
void vc_worker_fini(struct vc_worker *w);
void vc_worker_start(struct vc_worker *w);
/* Returns once no notify runs, unless called from it. */
void vc_worker_stop(struct vc_worker *w);
void vc_worker_ask(struct vc_worker *w, uint32_t n);

static inline bool vc_virtio_is_broken(const struct vc_virtio *v)
{
	return atomic_load_explicit(&v->broken, memory_order_relaxed);
}

static inline bool vc_virtio_is_pausing(const struct vc_virtio *v)
{
	return atomic_load_explicit(&v->pausing, memory_order_relaxed);
}

#endif
