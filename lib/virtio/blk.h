/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Block device (5.2): what its two halves share, the device (blk.c) and its requests (blk_request.c). */
#ifndef VC_VIRTIO_BLK_H
#define VC_VIRTIO_BLK_H

#include <pthread.h>

#include "block/block.h"
#include "virtio/virtio.h"

/* Feature bits (5.2.3) */
enum {
	BLK_F_SIZE_MAX = 1,
	BLK_F_SEG_MAX = 2,
	BLK_F_RO = 5,
	BLK_F_BLK_SIZE = 6,
	BLK_F_FLUSH = 9,
	BLK_F_TOPOLOGY = 10,
	BLK_F_MQ = 12,
	BLK_F_DISCARD = 13,
	BLK_F_WRITE_ZEROES = 14,
};

#define BLK_TELL_NS 1000000000ull /* a full disk fails very often: who is told is told once in that time */

enum {
	BLK_SECTOR = 512,
	BLK_SERIAL = 20,
	BLK_MAX_SECTORS = 0x3fffff, /* of one discard, one write of zeroes */
	BLK_MAX_RANGES = 32,        /* of one such request */
};

struct blk_queue;

/* A request of the driver, from pop to push. */
struct blk_request {
	struct vc_block_request io;
	struct blk_queue *queue;
	struct vc_virtq_chain *chain;
	uint8_t *status;
	uint8_t result;           /* what goes there */
	uint32_t range, ranges;   /* of a discard or write of zeroes: the one under way, how many there are */
	struct blk_request *next; /* in the queue's lists */
};

struct blk_counters {
	_Atomic uint64_t reads, writes, flushes, discards, read_bytes, write_bytes;
};

struct blk_queue {
	struct blk *blk;
	struct blk_request *requests; /* as many as the queue has entries */
	/* Protects the virtqueue and all below, but for what says otherwise. */
	pthread_mutex_t lock;
	pthread_cond_t idle;
	struct blk_request *free;
	uint32_t in_flight;
	/* Set by the worker while it submits; what completes on its thread meanwhile is collected in done, without lock. */
	_Atomic(pthread_t) submitting; /* 0: nobody */
	struct blk_request *done;
	/* Of lingers(): answers that the driver has not been told of, how well waiting went, for how many batches it was
	 * not tried, and is not to be. */
	unsigned held, luck, rested, rest;
	struct blk_counters counters; /* written by the worker only */
};

struct blk {
	struct vc_env *env;
	struct vc_virtio *v;
	struct vc_block *block;
	struct blk_queue *queues;
	uint32_t queue_count, queue_size, block_size, size_max;
	bool discard, write_through;
	char serial[BLK_SERIAL + 1];
	/* Of the host, by enum vc_block_op; and when one was last told of, on the host's clock: 0 never. */
	_Atomic uint64_t errors[VC_BLOCK_OPS], told_ns[VC_BLOCK_OPS];
};

/* For lib/vm: another size of the disk, of which the driver is told. Errors as vc_block_resize(). */
int vc_blk_resize(struct blk *blk, uint64_t bytes);

/* blk_request.c */
int blk_queue_init(struct blk_queue *queue, struct blk *blk);
void blk_queue_fini(struct blk_queue *queue);
void blk_notify(void *ctx, struct vc_virtq *q);
void blk_queue_drain(struct blk_queue *queue); /* until nothing is in flight */

#endif
