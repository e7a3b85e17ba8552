/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Requests of a block device (5.2.6): from the ring to the image and back. The queue's worker takes chains out in
 * batches; whichever thread an answer comes on gives its chain back.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/error.h"
#include "core/util.h"
#include "virtio/blk.h"

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };
enum { RANGE_UNMAP = 1 };
enum { BATCH = 64, TURNS = 32 };
enum {
	LINGER_NS = 30000, /* for the next request */
	TOO_LONG_NS = 4 * LINGER_NS,
	GO_NS = 500000, /* in all: others want the worker, too */
	HELD_MAX = 16,  /* answers that wait for an interrupt */
	LUCK_MAX = 32,
	LUCK_LOST = 4, /* by waiting in vain; finding a request is worth 1 */
	/* batches until it is tried again: more each time that it is in vain */
	REST_MIN = 16,
	REST_MAX = 256,
};

struct header {
	uint32_t type, reserved;
	uint64_t sector;
};

struct range {
	uint64_t sector;
	uint32_t sectors, flags;
};

/* ---- the queue's requests ---- */

int blk_queue_init(struct blk_queue *queue, struct blk *blk)
{
	queue->requests = calloc(blk->queue_size, sizeof queue->requests[0]);
	if (!queue->requests)
		return vc_fail(ENOMEM, "no memory for a virtio-blk");
	queue->blk = blk;
	queue->rest = REST_MIN;
	pthread_mutex_init(&queue->lock, NULL);
	pthread_cond_init(&queue->idle, NULL);
	for (uint32_t i = 0; i < blk->queue_size; i++) {
		queue->requests[i].queue = queue;
		queue->requests[i].next = queue->free;
		queue->free = &queue->requests[i];
	}
	return 0;
}

void blk_queue_fini(struct blk_queue *queue)
{
	pthread_cond_destroy(&queue->idle);
	pthread_mutex_destroy(&queue->lock);
	free(queue->requests);
}

void blk_queue_drain(struct blk_queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	while (queue->in_flight)
		pthread_cond_wait(&queue->idle, &queue->lock);
	pthread_mutex_unlock(&queue->lock);
}

/* Caller holds the lock: the driver may see the answer. */
static void give_back(struct blk_request *request)
{
	struct blk_queue *queue = request->queue;

	*request->status = request->result;
	/* the status is the last of all bytes */
	vc_virtq_push(request->chain, request->chain->in_bytes);
	request->next = queue->free;
	queue->free = request;
	if (!--queue->in_flight)
		pthread_cond_broadcast(&queue->idle);
}

static void answer(struct blk_request *request, uint8_t result)
{
	struct blk_queue *queue = request->queue;
	struct vc_virtq *q = request->chain->queue;

	request->result = result;
	if (pthread_equal(atomic_load_explicit(&queue->submitting, memory_order_relaxed), pthread_self())) {
		request->next = queue->done;
		queue->done = request;
		return;
	}
	pthread_mutex_lock(&queue->lock);
	give_back(request);
	vc_virtq_flush(q);
	pthread_mutex_unlock(&queue->lock);
}

/* ---- requests ---- */

static void count(_Atomic uint64_t *counter, uint64_t more)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more, memory_order_relaxed);
}

static void done(struct vc_block_request *io, int result)
{
	answer(io->ctx, result == 0 ? S_OK : result == -EOPNOTSUPP ? S_UNSUPP : S_IOERR);
}

static bool in_disk(const struct blk *blk, uint64_t sector, uint64_t length)
{
	uint64_t size = vc_block_size(blk->block);

	return !(length % BLK_SECTOR) && sector <= size / BLK_SECTOR && length <= size - sector * BLK_SECTOR;
}

static void submit(struct blk_request *request)
{
	request->io.ctx = request;
	vc_block_submit(request->queue->blk->block, &request->io);
}

static void transfer(struct blk_request *request, const struct header *header, bool write)
{
	struct blk *blk = request->queue->blk;
	struct blk_counters *counters = &request->queue->counters;
	const struct vc_virtq_chain *chain = request->chain;
	uint64_t length = write ? chain->out_bytes - sizeof *header : chain->in_bytes - 1;

	if (!in_disk(blk, header->sector, length) || (write && vc_block_read_only(blk->block))) {
		answer(request, S_IOERR);
		return;
	}
	count(write ? &counters->writes : &counters->reads, 1);
	count(write ? &counters->write_bytes : &counters->read_bytes, length);
	request->io.op = write ? VC_BLOCK_WRITE : VC_BLOCK_READ;
	request->io.offset = header->sector * BLK_SECTOR;
	request->io.length = length;
	request->io.iov = write ? chain->out : chain->in;
	request->io.iov_count = write ? chain->out_count : chain->in_count;
	request->io.done = done;
	submit(request);
}

static void do_in(struct blk_request *request, const struct header *header)
{
	transfer(request, header, false);
}

static void do_out(struct blk_request *request, const struct header *header)
{
	transfer(request, header, true);
}

static void do_flush(struct blk_request *request, const struct header *header)
{
	count(&request->queue->counters.flushes, 1);
	request->io.op = VC_BLOCK_FLUSH;
	request->io.offset = request->io.length = 0;
	request->io.done = done;
	submit(request);
}

static void do_get_id(struct blk_request *request, const struct header *header)
{
	const struct vc_virtq_chain *chain = request->chain;

	vc_iov_from_buffer(chain->in, chain->in_count, 0, request->queue->blk->serial, BLK_SERIAL);
	answer(request, S_OK);
}

/* The ranges of a discard or write of zeroes go one after the other. */
static void next_range(struct blk_request *request)
{
	struct blk *blk = request->queue->blk;
	bool zeroes = request->io.op == VC_BLOCK_WRITE_ZEROES;
	struct range range;

	vc_iov_to_buffer(request->chain->out, request->chain->out_count, request->range * sizeof range, &range,
	                 sizeof range);
	request->range++;
	if (range.flags & ~(zeroes ? RANGE_UNMAP : 0u)) {
		answer(request, S_UNSUPP);
		return;
	}
	if (range.sectors > BLK_MAX_SECTORS || !in_disk(blk, range.sector, (uint64_t)range.sectors * BLK_SECTOR)) {
		answer(request, S_IOERR);
		return;
	}
	request->io.may_unmap = range.flags & RANGE_UNMAP;
	request->io.offset = range.sector * BLK_SECTOR;
	request->io.length = (uint64_t)range.sectors * BLK_SECTOR;
	submit(request);
}

static void range_done(struct vc_block_request *io, int result)
{
	struct blk_request *request = io->ctx;

	if (result || request->range == request->ranges)
		done(io, result);
	else
		next_range(request);
}

static void do_ranges(struct blk_request *request, enum vc_block_op op)
{
	struct blk *blk = request->queue->blk;
	uint32_t bytes = request->chain->out_bytes - (uint32_t)sizeof(struct header);

	if (vc_block_read_only(blk->block) || !blk->discard) {
		answer(request, S_UNSUPP);
		return;
	}
	if (!bytes || bytes % sizeof(struct range) || bytes > BLK_MAX_RANGES * sizeof(struct range)) {
		answer(request, S_IOERR);
		return;
	}
	count(&request->queue->counters.discards, 1);
	request->range = 0;
	request->ranges = bytes / (uint32_t)sizeof(struct range);
	request->io.op = op;
	request->io.done = range_done;
	next_range(request);
}

static void do_discard(struct blk_request *request, const struct header *header)
{
	do_ranges(request, VC_BLOCK_DISCARD);
}

static void do_write_zeroes(struct blk_request *request, const struct header *header)
{
	do_ranges(request, VC_BLOCK_WRITE_ZEROES);
}

static void (*const handlers[])(struct blk_request *request, const struct header *header) = {
    [T_IN] = do_in,         [T_OUT] = do_out,         [T_FLUSH] = do_flush,
    [T_GET_ID] = do_get_id, [T_DISCARD] = do_discard, [T_WRITE_ZEROES] = do_write_zeroes,
};

static void handle(struct blk_request *request, const struct header *header)
{
	if (header->type < VC_ARRAY_SIZE(handlers) && handlers[header->type])
		handlers[header->type](request, header);
	else
		answer(request, S_UNSUPP);
}

/* ---- chains ---- */

/* Takes `bytes` off the start of a vector. */
static void skip(struct iovec **iov, uint32_t *count, size_t bytes)
{
	while (*count && bytes >= (*iov)->iov_len) {
		bytes -= (*iov)->iov_len;
		++*iov;
		--*count;
	}
	if (bytes) {
		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + bytes;
		(*iov)->iov_len -= bytes;
	}
}

/* Header at the start, status in the last byte: what lies between is data. False: they are not there. */
static bool take_apart(struct blk_request *request, struct header *header)
{
	struct vc_virtq_chain *chain = request->chain;
	struct iovec *last;

	if (chain->out_bytes < sizeof *header || !chain->in_bytes)
		return false;
	vc_iov_to_buffer(chain->out, chain->out_count, 0, header, sizeof *header);
	skip(&chain->out, &chain->out_count, sizeof *header);
	last = &chain->in[chain->in_count - 1];
	request->status = (uint8_t *)last->iov_base + --last->iov_len;
	if (!last->iov_len)
		chain->in_count--;
	return true;
}

/* Caller holds the lock. How many; the rest of the queue has to wait, or is broken. */
static unsigned pop_batch(struct blk_queue *queue, struct vc_virtq *q, struct blk_request *batch[BATCH],
                          struct header headers[BATCH])
{
	unsigned n = 0;

	while (n < BATCH && queue->free) {
		struct blk_request *request = queue->free;

		if (vc_virtq_pop(q, &request->chain) <= 0)
			break;
		if (!take_apart(request, &headers[n])) {
			vc_virtio_broken(queue->blk->v, "a request of %u + %u bytes: expected a header of 16 and a status of 1",
			                 request->chain->out_bytes, request->chain->in_bytes);
			vc_virtq_drop(request->chain);
			break;
		}
		queue->free = request->next;
		batch[n++] = request;
	}
	queue->in_flight += n;
	return n;
}

static void submit_batch(struct blk_queue *queue, struct blk_request *batch[BATCH], struct header headers[BATCH],
                         unsigned n)
{
	struct vc_block *block = queue->blk->block;

	atomic_store_explicit(&queue->submitting, pthread_self(), memory_order_relaxed);
	vc_block_plug(block);
	for (unsigned i = 0; i < n; i++)
		handle(batch[i], &headers[i]);
	vc_block_unplug(block);
	atomic_store_explicit(&queue->submitting, 0, memory_order_relaxed);
}

/* Caller holds the lock. */
static void tell_driver(struct blk_queue *queue, struct vc_virtq *q)
{
	queue->held = 0;
	vc_virtq_flush(q);
}

/* Caller holds the lock. */
static void give_back_done(struct blk_queue *queue)
{
	struct blk_request *request = queue->done, *next;

	queue->done = NULL;
	for (; request; request = next) {
		next = request->next;
		give_back(request);
		queue->held++;
	}
}

/*
 * A disk in the page cache answers faster than a driver asks, which would be interrupted for every request while it has
 * more of them. So its worker waits a moment before it tells of answers. A driver that asks only once it has an answer
 * would wait as well: waiting in vain soon ends it, and it is tried anew only now and then.
 */
static bool lingers(struct blk_queue *queue)
{
	if (queue->luck)
		return true;
	if (queue->rested++ < queue->rest)
		return false;
	queue->rested = 0;
	if (queue->rest < REST_MAX)
		queue->rest *= 2;
	queue->luck = LUCK_LOST;
	return true;
}

/* Caller holds the lock; nobody else is about to take it, as nothing is in flight. True: there is another request. */
static bool linger(struct blk_queue *queue, struct vc_virtq *q, uint64_t end)
{
	uint64_t start = vc_host_ns(), now = start;
	bool found = vc_virtq_waiting(q);

	while (!found && now - start < LINGER_NS && now < end) {
		sched_yield(); /* the driver's vcpu may want this very CPU */
		now = vc_host_ns();
		found = vc_virtq_waiting(q);
	}
	/* others had the CPU for long: on a host as busy as that nobody waits for the sake of speed */
	if (found && now - start < TOO_LONG_NS) {
		queue->luck += queue->luck < LUCK_MAX;
		queue->rest = REST_MIN;
	} else {
		queue->luck -= queue->luck < LUCK_LOST ? queue->luck : LUCK_LOST;
	}
	return found;
}

/* Caller holds the lock, which is given up meanwhile. False: there is more than one go's worth. */
static bool serve(struct blk_queue *queue, struct vc_virtq *q)
{
	uint64_t end = vc_host_ns() + GO_NS;
	struct blk_request *batch[BATCH];
	struct header headers[BATCH];

	for (unsigned turn = 0; turn < TURNS; turn++) {
		unsigned n = pop_batch(queue, q, batch, headers);

		if (!n)
			return true;
		pthread_mutex_unlock(&queue->lock);
		submit_batch(queue, batch, headers, n);
		pthread_mutex_lock(&queue->lock);
		give_back_done(queue);
		if (queue->held >= HELD_MAX || queue->in_flight || !lingers(queue))
			tell_driver(queue, q);
		else if (!linger(queue, q, end))
			return true;
	}
	return false;
}

void blk_notify(void *ctx, struct vc_virtq *q)
{
	struct blk *blk = ctx;
	struct blk_queue *queue = &blk->queues[vc_virtq_index(q)];
	bool all;

	pthread_mutex_lock(&queue->lock);
	do {
		vc_virtq_notify_off(q);
		all = serve(queue, q);
		if (queue->held)
			tell_driver(queue, q);
	} while (all && vc_virtq_notify_on(q));
	pthread_mutex_unlock(&queue->lock);
	/* a driver that never stops must not keep others from the loop */
	if (!all)
		vc_virtio_wake(blk->v, vc_virtq_index(q));
}
