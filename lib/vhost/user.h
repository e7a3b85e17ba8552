/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The front-end's side of a vhost-user connection: the requests.
 *
 * Nothing here takes a lock; a connection is used by one thread at a time. Every request fails with -errno and a
 * sentence that names the socket when the back-end refuses, is silent for too long, answers with what is no answer, or
 * is gone. After such a failure (but -EREMOTEIO: refused) the connection is of no use any more.
 */
#ifndef VC_VHOST_USER_H
#define VC_VHOST_USER_H

#include <stdbool.h>
#include <stdint.h>

#include "vhost/protocol.h"

struct vc_vhost_user {
	const char *path; /* of the socket; the caller's, for messages */
	uint32_t timeout_ms;
	int fd;                      /* -1: there is no connection */
	int backend_fd;              /* our end of the back-end's own channel; -1: it has none */
	uint64_t features, protocol; /* what the back-end offers; protocol features: what both have */
	uint64_t queues;             /* it can serve */
	uint64_t slots;              /* regions of memory it can have */
};

/* A region of memory that the back-end is given. */
struct vc_vhost_region {
	uint64_t gpa, length, address, offset; /* address: ours, by which rings are named; offset: into the file fd */
	int fd;
};

/* A queue, ready to be served from its first entry on. */
struct vc_vhost_vring {
	uint32_t index, size;
	uint64_t desc, avail, used; /* our addresses */
	int kick, call;
};

/* Says what both ends know of each other; takes fd over, also on failure. */
int vc_vhost_user_begin(struct vc_vhost_user *u, int fd);
int vc_vhost_user_connect(struct vc_vhost_user *u); /* to u->path, and begin */
void vc_vhost_user_close(struct vc_vhost_user *u);
/* Whoever waits for the connection sees it end; it is to be closed still. */
void vc_vhost_user_hang_up(struct vc_vhost_user *u);

/* After this all that was told before is done. */
int vc_vhost_user_settle(struct vc_vhost_user *u);
int vc_vhost_user_set_features(struct vc_vhost_user *u, uint64_t features);
/* All regions in place of the ones before; at most VC_VHOST_REGIONS_MAX. */
int vc_vhost_user_set_memory(struct vc_vhost_user *u, const struct vc_vhost_region *regions, unsigned count);
/* With VC_VHOST_P_MEM_SLOTS. */
int vc_vhost_user_add_region(struct vc_vhost_user *u, const struct vc_vhost_region *region);
int vc_vhost_user_remove_region(struct vc_vhost_user *u, const struct vc_vhost_region *region);
int vc_vhost_user_start_vring(struct vc_vhost_user *u, const struct vc_vhost_vring *vring);
int vc_vhost_user_enable_vring(struct vc_vhost_user *u, uint32_t index, bool on);
/* The back-end takes nothing more from the queue. */
int vc_vhost_user_stop_vring(struct vc_vhost_user *u, uint32_t index);
/* With VC_VHOST_P_CONFIG; length at most VC_VHOST_CONFIG_MAX. */
int vc_vhost_user_get_config(struct vc_vhost_user *u, void *data, uint32_t length);
int vc_vhost_user_set_config(struct vc_vhost_user *u, uint32_t offset, const void *data, uint32_t length);
int vc_vhost_user_set_status(struct vc_vhost_user *u, uint8_t status); /* 0 without VC_VHOST_P_STATUS */
/* A message has come on backend_fd: answer it. 1: the configuration has changed; 0; or -errno. */
int vc_vhost_user_serve_backend(struct vc_vhost_user *u);

#endif
