/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages of the vfio-user protocol (version 0.1) on a unix socket: a header, a payload, descriptors beside it. */
#ifndef VC_PASSTHROUGH_USER_MESSAGE_H
#define VC_PASSTHROUGH_USER_MESSAGE_H

#include "core/channel.h"

/* Commands, by the numbers of the protocol. */
enum {
	VC_VFIO_USER_VERSION = 1,
	VC_VFIO_USER_DMA_MAP = 2,
	VC_VFIO_USER_DMA_UNMAP = 3,
	VC_VFIO_USER_GET_INFO = 4,
	VC_VFIO_USER_GET_REGION_INFO = 5,
	VC_VFIO_USER_GET_IRQ_INFO = 7,
	VC_VFIO_USER_SET_IRQS = 8,
	VC_VFIO_USER_REGION_READ = 9,
	VC_VFIO_USER_REGION_WRITE = 10,
	VC_VFIO_USER_DMA_READ = 11, /* these two the server sends */
	VC_VFIO_USER_DMA_WRITE = 12,
	VC_VFIO_USER_RESET = 13,
};

enum {
	VC_VFIO_USER_MAJOR = 0,
	VC_VFIO_USER_MINOR = 1,

	/* Flags of a message */
	VC_VFIO_USER_TYPE = 0xf,
	VC_VFIO_USER_REPLY = 1, /* a type; a command has 0 */
	VC_VFIO_USER_NO_REPLY = 0x10,
	VC_VFIO_USER_ERROR = 0x20,

	/* Flags of DMA_MAP */
	VC_VFIO_USER_DMA_READABLE = 1,
	VC_VFIO_USER_DMA_WRITABLE = 2,

	VC_VFIO_USER_DATA_MAX = 1 << 20, /* of one transfer: what holds where nothing is said */
	VC_VFIO_USER_FDS_MAX = 8,        /* beside a message that we take */
};

struct vc_vfio_user_header {
	uint16_t id, command;
	uint32_t size, flags, error; /* size: with the header */
};

struct vc_vfio_user_version {
	uint16_t major, minor; /* JSON text with its NUL follows, or nothing */
};

struct vc_vfio_user_dma_map {
	uint32_t argsz, flags;
	uint64_t offset, address, size;
};

struct vc_vfio_user_dma_unmap {
	uint32_t argsz, flags;
	uint64_t address, size;
};

struct vc_vfio_user_device_info {
	uint32_t argsz, flags, regions, irqs;
};

struct vc_vfio_user_region_access {
	uint64_t offset;
	uint32_t region, count; /* data follows */
};

struct vc_vfio_user_dma_access {
	uint64_t address, count; /* data follows */
};

/* A message that is being received, or was: room for the largest that there is. */
struct vc_vfio_user_inbox {
	struct vc_vfio_user_header *header;
	uint8_t *payload; /* behind the header */
	uint32_t length;  /* of the payload */
	int fds[VC_VFIO_USER_FDS_MAX];
	unsigned fd_count;
};

int vc_vfio_user_inbox_init(struct vc_vfio_user_inbox *in);
void vc_vfio_user_inbox_fini(struct vc_vfio_user_inbox *in);
void vc_vfio_user_inbox_close_fds(struct vc_vfio_user_inbox *in);

/* 0 or -errno with a sentence, as vc_channel_send(). The header lies before the payload; size is filled in. */
int vc_vfio_user_send(const struct vc_channel *c, struct vc_vfio_user_header *header, size_t payload, const int *fds,
                      unsigned count, uint64_t deadline_ns);
/* The next message. -EPROTO: it is none. Its descriptors are the inbox' then; on failure there are none. */
int vc_vfio_user_receive(const struct vc_channel *c, struct vc_vfio_user_inbox *in, uint64_t deadline_ns);

#endif
