/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The client's side of a vfio-user connection: requests to the process that serves a PCI device, and answers to what it
 * asks of the guest's memory.
 *
 * Every request fails with -errno and a sentence that names the socket: -EREMOTEIO: the server refuses. After any other
 * failure the connection is broken: it is hung up, and all that follows fails at once. So a server that is silent costs
 * one timeout, not one an access.
 *
 * Threads: any; requests go one after the other. Whoever waits for a reply answers meanwhile what the server asks;
 * while nobody waits, vc_vfio_user_serve() and _serve_twin() do.
 */
#ifndef VC_PASSTHROUGH_USER_H
#define VC_PASSTHROUGH_USER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "passthrough/user_message.h"

/* The memory that the server asks for: length is at most VC_VFIO_USER_DATA_MAX. 0 or -errno: nothing is done. */
struct vc_vfio_user_memory {
	int (*read)(void *ctx, uint64_t address, void *data, uint64_t length);
	int (*write)(void *ctx, uint64_t address, const void *data, uint64_t length);
};

enum {
	VC_VFIO_USER_PAYLOAD_MAX = 4096 + 64, /* of a request of ours */
	VC_VFIO_USER_CHUNK = 4096,            /* of a region, in one message */
	VC_VFIO_USER_AREAS_MAX = 64,          /* of a region that we look at */
};

/* What the server says of itself; what it says nothing about is as here. */
struct vc_vfio_user_limits {
	uint64_t fds;  /* beside one message; 1 */
	uint64_t data; /* in one transfer; VC_VFIO_USER_DATA_MAX */
	int twin;      /* which descriptor is the channel for the server's own commands; -1: none is */
};

struct vc_vfio_user {
	/* Constant from connecting on */
	const char *path; /* of the socket; the caller's */
	uint32_t timeout_ms;
	const struct vc_vfio_user_memory *memory;
	void *ctx;
	struct vc_channel main, twin; /* twin.fd -1: the server's commands come on the main channel */
	struct vc_vfio_user_limits limits;
	_Atomic bool broken;

	pthread_mutex_t lock; /* protects what goes over main, and all below */
	uint16_t id;          /* of the last request */
	struct vc_vfio_user_inbox in;
	struct {
		struct vc_vfio_user_header header;
		uint8_t payload[VC_VFIO_USER_PAYLOAD_MAX];
	} out;
	pthread_mutex_t twin_lock; /* protects what goes over twin, and twin_in; after lock */
	struct vc_vfio_user_inbox twin_in;
};

struct vc_vfio_user_area {
	uint64_t offset, length;
};

struct vc_vfio_user_region {
	uint32_t flags; /* VFIO_REGION_INFO_FLAG_* */
	uint64_t size;
	int fd; /* the caller's then; -1: it cannot be mapped */
	uint64_t fd_offset;
	bool sparse; /* only the areas can be mapped */
	unsigned area_count;
	struct vc_vfio_user_area areas[VC_VFIO_USER_AREAS_MAX]; /* as the server says: not checked */
};

/* The caller has set the first four fields. Takes fd over, also on failure; then nothing is left. */
int vc_vfio_user_begin(struct vc_vfio_user *u, int fd);
int vc_vfio_user_connect(struct vc_vfio_user *u); /* to u->path, and begin */
void vc_vfio_user_close(struct vc_vfio_user *u);
/* Break it: whoever waits for the connection sees it end; it is to be closed still. */
void vc_vfio_user_hang_up(struct vc_vfio_user *u);

int vc_vfio_user_get_info(struct vc_vfio_user *u, struct vc_vfio_user_device_info *info);
int vc_vfio_user_get_region(struct vc_vfio_user *u, uint32_t index, struct vc_vfio_user_region *region);
int vc_vfio_user_get_irqs(struct vc_vfio_user *u, uint32_t index, uint32_t *count);
/* Vectors from start on have these eventfds, at most limits.fds; fds NULL: none. */
int vc_vfio_user_set_irqs(struct vc_vfio_user *u, uint32_t index, uint32_t start, uint32_t count, const int *fds);
int vc_vfio_user_disable_irqs(struct vc_vfio_user *u, uint32_t index);
int vc_vfio_user_unmask_irq(struct vc_vfio_user *u, uint32_t index);
/* In several messages where one is not enough. */
int vc_vfio_user_read(struct vc_vfio_user *u, uint32_t region, uint64_t offset, void *data, uint32_t length);
int vc_vfio_user_write(struct vc_vfio_user *u, uint32_t region, uint64_t offset, const void *data, uint32_t length);
/* fd -1: the server has to ask for every byte. */
int vc_vfio_user_dma_map(struct vc_vfio_user *u, const struct vc_vfio_user_dma_map *map, int fd);
int vc_vfio_user_dma_unmap(struct vc_vfio_user *u, uint64_t address, uint64_t size);
int vc_vfio_user_reset(struct vc_vfio_user *u);

/* Answer what has come on the main channel, or the twin, if nobody else has done it. 0 or -errno: it is broken. */
int vc_vfio_user_serve(struct vc_vfio_user *u);
int vc_vfio_user_serve_twin(struct vc_vfio_user *u);

#endif
