/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The back-end's side of vhost-user: a device of the library's for another program's guest (server.c has the socket).
 *
 * The device is as in a vm; what it is plugged in here is the connection. The front-end's guest memory is a vc_mem,
 * filled by SET_MEM_TABLE, so that rings and chains are checked as those of a guest of ours. There is a driver as long
 * as any ring is live: started, and enabled.
 *
 * Threads. Messages, kicks and the device's queues are served on one loop with its thread. Whoever holds the loop, or
 * is on it, uses everything here; only the call descriptors are used by others too, where a device interrupts from a
 * thread of its own.
 */
#ifndef VC_VHOST_BACKEND_H
#define VC_VHOST_BACKEND_H

#include <pthread.h>
#include <virtcore/vhost_user.h>

#include "core/address.h"
#include "net/switch_names.h"
#include "vhost/message.h"
#include "vhost/protocol.h"
#include "virtio/virtio.h"

enum {
	VC_VHOST_BACKEND_QUEUES_MAX = 64,
	VC_VHOST_BACKEND_SLOTS_MAX = 64,    /* regions that are added one by one */
	VC_VHOST_BACKEND_MESSAGE_MS = 1000, /* that the rest of a message may take */
	VC_VHOST_BACKEND_CONFIG_MAX = 256,
};

/* What a device type is as a back-end. */
struct vc_vhost_served_kind {
	const char *type;
	uint64_t hidden;    /* features that need queues which the front-end keeps to itself */
	uint32_t counts_as; /* so many queues are one in GET_QUEUE_NUM */
	uint32_t own;       /* queues at the end that are not served */
};

/* A piece of a file that is shared with the front-end. */
struct vc_vhost_shared {
	uint8_t *at; /* NULL: nothing is mapped */
	uint64_t length;
	void *map;
	uint64_t mapped;
};

struct vc_vhost_backend_ring {
	struct vcore_vhost_user *server;
	uint32_t index;
	struct vc_virtq_setup setup; /* GPAs */
	uint32_t position;           /* where it begins, while it is not live */
	bool started, enabled;       /* as the front-end says */
	bool live;                   /* the device has it */
	int kick;                    /* eventfd; -1 */
	struct vc_watch *watch;      /* of kick */
	pthread_mutex_t lock;        /* protects call; innermost */
	int call;                    /* eventfd; -1 */
};

struct vcore_vhost_user {
	struct vc_log log;
	struct vc_gate gate;
	struct vc_mem mem;
	struct vc_buses buses;
	struct vc_clock clock;
	struct vc_loop *loop;
	struct vc_switch_names switches;
	struct vc_env env;
	bool allow_unsealed; /* memory that the front-end can shrink under us */

	const struct vc_vhost_served_kind *kind; /* constant, as the next two */
	struct vc_virtio *v;
	struct vc_dev *dev;
	uint32_t ring_count;
	struct vc_vhost_backend_ring rings[VC_VHOST_BACKEND_QUEUES_MAX];

	/* server.c */
	union vc_address address; /* of listener, if it is ours to remove */
	bool named;
	int listener; /* -1: there is the one connection only */
	struct vc_watch *listen_watch;
	struct vc_timer *again; /* heed the listener after the process had no descriptor left */

	/* of the connection */
	int fd; /* -1: there is none */
	struct vc_watch *watch;
	uint64_t features, protocol; /* that the front-end has chosen */
	uint8_t status;              /* of the device, as the front-end says */
	uint32_t region_count;
	struct vc_vhost_wire_region regions[VC_VHOST_BACKEND_SLOTS_MAX];
	struct vc_slot *slots[VC_VHOST_BACKEND_SLOTS_MAX];
	_Atomic bool logging;             /* features has VC_VHOST_F_LOG_ALL */
	struct vc_vhost_shared pages_log; /* a bit a page; changed while the device is held */
	struct vc_vhost_shared inflight;  /* the rings'; changed while none is live */
	pthread_mutex_t channel_lock;     /* protects channel; innermost */
	int channel;                      /* our requests to the front-end; -1 */
};

/* NULL: such a device cannot be served. */
const struct vc_vhost_served_kind *vc_vhost_served_kind(const char *type);

/* ---- backend.c: the device's transport, and its rings. 0 or -errno with a sentence. ---- */

extern const struct vc_virtio_host vc_vhost_backend_host;
void vc_vhost_backend_init(struct vcore_vhost_user *s);
/* What the device offers, as far as a front-end may have it. */
uint64_t vc_vhost_backend_features(const struct vcore_vhost_user *s);
/* What the front-end said about a ring has changed: it is taken up or let go. */
int vc_vhost_backend_update(struct vc_vhost_backend_ring *ring);
/* Nobody is there any more: all as in the beginning. */
void vc_vhost_backend_reset(struct vcore_vhost_user *s);
/* Take over a descriptor, -1: none. -EINVAL: it is no eventfd. */
int vc_vhost_backend_set_kick(struct vc_vhost_backend_ring *ring, int fd);
int vc_vhost_backend_set_call(struct vc_vhost_backend_ring *ring, int fd);

/* ---- backend_memory.c ---- */

/* In place of what there was; the descriptors stay the caller's. On failure there is none. */
int vc_vhost_backend_set_memory(struct vcore_vhost_user *s, const struct vc_vhost_wire_region *regions, const int *fds,
                                uint32_t count);
void vc_vhost_backend_drop_memory(struct vcore_vhost_user *s);
/* One more, or less. */
int vc_vhost_backend_add_region(struct vcore_vhost_user *s, const struct vc_vhost_wire_region *region, int fd);
int vc_vhost_backend_remove_region(struct vcore_vhost_user *s, const struct vc_vhost_wire_region *region);
/* The guest-physical address of what the front-end has at an address of its own. */
int vc_vhost_backend_translate(const struct vcore_vhost_user *s, uint64_t address, uint64_t *gpa);

/* what: "log", for messages. */
int vc_vhost_backend_share(const struct vcore_vhost_user *s, int fd, uint64_t offset, uint64_t length, const char *what,
                           struct vc_vhost_shared *shared);
void vc_vhost_backend_unshare(struct vc_vhost_shared *shared);

/* ---- backend_log.c ---- */

/* Tells it of writes to guest memory. */
extern const struct vc_mem_listener vc_vhost_backend_listener;
/* The log is there from now on; fd -1: there is none. */
int vc_vhost_backend_set_log(struct vcore_vhost_user *s, int fd, uint64_t offset, uint64_t length);

/* ---- backend_inflight.c ---- */

/* Of that many rings, of that many entries each. */
struct vc_vhost_wire_inflight {
	uint64_t length, offset;
	uint16_t rings, size;
};

/* New memory for what is in flight, as told; its descriptor. */
int vc_vhost_backend_new_inflight(const struct vcore_vhost_user *s, struct vc_vhost_wire_inflight *inflight);
int vc_vhost_backend_set_inflight(struct vcore_vhost_user *s, const struct vc_vhost_wire_inflight *inflight, int fd);
/* Of none any more. */
void vc_vhost_backend_drop_inflight(struct vcore_vhost_user *s);

/* ---- backend_channel.c ---- */

/* Takes over a descriptor, -1: none. */
void vc_vhost_backend_set_channel(struct vcore_vhost_user *s, int fd);
/* The configuration has changed. Any thread. */
void vc_vhost_backend_tell_config(struct vcore_vhost_user *s);

/* ---- backend_request.c ---- */

/* Read one message and do what it says. On failure the connection is of no use any more. */
int vc_vhost_backend_serve(struct vcore_vhost_user *s);

#endif
