/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The qcow2 driver: opening, and the way of a request. What lies in one piece of a file goes there directly from the
 * submitting thread; everything else is done by a thread of the pool, which may wait.
 */
#include "block/qcow2.h"

#include <stdlib.h>

/* ---- requests on the pool ---- */

static void release(struct qcow2 *q, struct vc_block_state *state, int result)
{
	vc_ranges_release(&q->ranges, &state->range);
	vc_block_complete(state->block, state->request, result);
}

static void set_alone(struct vc_block_state *state);

/* Can it all be overwritten where it is? */
static bool all_in_place(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	struct qcow2_extent extent;

	while (length) {
		if (qcow2_lookup(q, offset, length, true, &extent) || extent.kind != QCOW2_DATA || !extent.in_place)
			return false;
		offset += extent.length;
		length -= extent.length;
	}
	return true;
}

static int serve(struct qcow2 *q, const struct vc_block_request *request)
{
	struct vc_span span = vc_block_span(request);

	/* the image may have shrunk while the request waited */
	if (request->offset + request->length > vc_block_size(q->block))
		return -EINVAL;
	switch (request->op) {
	case VC_BLOCK_READ:
		return qcow2_read(q, request->offset, &span);
	case VC_BLOCK_WRITE:
		return qcow2_write(q, request->offset, &span);
	case VC_BLOCK_DISCARD:
		return qcow2_discard(q, request->offset, request->length);
	case VC_BLOCK_WRITE_ZEROES:
		return qcow2_zero(q, request->offset, request->length, request->may_unmap);
	case VC_BLOCK_FLUSH:
		break;
	}
	return qcow2_flush(q);
}

static void run(struct vc_job *job)
{
	struct vc_block_state *state = VC_CONTAINER_OF(job, struct vc_block_state, aio.job);
	struct vc_block_request *request = state->request;
	struct vc_block *block = state->block;
	struct qcow2 *q = block->priv;
	int r;

	if (request->op == VC_BLOCK_WRITE && !state->range.exclusive &&
	    !all_in_place(q, request->offset, request->length)) {
		set_alone(state);
		return;
	}
	r = serve(q, request);
	if (!r && block->cache == VC_BLOCK_WRITETHROUGH && request->op != VC_BLOCK_READ)
		r = qcow2_flush(q);
	release(q, state, r);
}

static void flush(struct vc_job *job)
{
	struct vc_block_state *state = VC_CONTAINER_OF(job, struct vc_block_state, aio.job);

	vc_block_complete(state->block, state->request, qcow2_flush(state->block->priv));
}

static void to_pool(struct vc_block_state *state, void (*fn)(struct vc_job *job))
{
	state->aio.job.run = fn;
	vc_pool_run(vc_aio_pool(state->block->aio), &state->aio.job);
}

/* A resize, which waits for the whole image. */
struct all_ranges {
	struct vc_range range;
	sem_t granted;
};

static void granted(struct vc_range *range)
{
	if (range->last == UINT64_MAX)
		sem_post(&VC_CONTAINER_OF(range, struct all_ranges, range)->granted);
	else
		to_pool(VC_CONTAINER_OF(range, struct vc_block_state, range), run);
}

static bool acquire(struct vc_block_state *state, bool exclusive)
{
	struct qcow2 *q = state->block->priv;
	const struct vc_block_request *request = state->request;

	return vc_ranges_acquire(&q->ranges, &state->range, request->offset >> q->cluster_bits,
	                         (request->offset + request->length - 1) >> q->cluster_bits, exclusive);
}

/* What was shared until now goes on with the clusters to itself. */
static void set_alone(struct vc_block_state *state)
{
	struct qcow2 *q = state->block->priv;

	vc_ranges_release(&q->ranges, &state->range);
	if (acquire(state, true))
		to_pool(state, run);
}

/* ---- requests that need not wait ---- */

static enum vc_block_where find(struct qcow2 *q, uint64_t offset, uint64_t length, struct vc_block_place *place)
{
	struct vc_block *backing = q->block->backing;
	struct qcow2_extent extent;
	uint64_t size;

	if (qcow2_lookup(q, offset, length, false, &extent))
		return VC_BLOCK_ELSEWHERE;
	*place = (struct vc_block_place){extent.length, q->file, extent.host};
	if (extent.kind == QCOW2_DATA)
		return VC_BLOCK_AT;
	if (extent.kind == QCOW2_PACKED)
		return VC_BLOCK_ELSEWHERE;
	if (extent.kind == QCOW2_ZEROED || !backing)
		return VC_BLOCK_ZEROES;
	size = vc_block_size(backing);
	if (offset >= size)
		return VC_BLOCK_ZEROES;
	if (extent.length > size - offset)
		extent.length = size - offset;
	return backing->driver->where(backing, offset, extent.length, place);
}

static void fast_done(struct vc_aio_request *aio, int result)
{
	struct vc_block_state *state = VC_CONTAINER_OF(aio, struct vc_block_state, aio);

	release(state->block->priv, state, result);
}

static bool read_fast(struct qcow2 *q, struct vc_block_request *request)
{
	struct vc_block_place place;
	enum vc_block_where where = find(q, request->offset, request->length, &place);

	if (where == VC_BLOCK_ELSEWHERE || place.length < request->length)
		return false;
	if (where == VC_BLOCK_AT) {
		vc_block_to_file(q->block, request, place.file, place.offset, fast_done);
	} else {
		struct vc_span span = vc_block_span(request);

		vc_span_zero(&span);
		release(q, vc_block_state(request), 0);
	}
	return true;
}

static bool write_fast(struct qcow2 *q, struct vc_block_request *request)
{
	struct qcow2_extent extent;

	if (q->block->cache == VC_BLOCK_WRITETHROUGH || atomic_load_explicit(&q->corrupt, memory_order_relaxed) ||
	    qcow2_lookup(q, request->offset, request->length, false, &extent) || extent.length < request->length ||
	    extent.kind != QCOW2_DATA || !extent.in_place)
		return false;
	vc_block_to_file(q->block, request, q->file, extent.host, fast_done);
	return true;
}

static void submit(struct vc_block *block, struct vc_block_request *request)
{
	struct qcow2 *q = block->priv;
	struct vc_block_state *state = vc_block_state(request);
	bool rw = request->op == VC_BLOCK_READ || request->op == VC_BLOCK_WRITE;

	if (request->op == VC_BLOCK_FLUSH) {
		to_pool(state, flush);
		return;
	}
	if (request->op == VC_BLOCK_DISCARD && q->file->ignore_discard) {
		vc_block_complete(block, request, 0);
		return;
	}
	if (!acquire(state, !rw))
		return;
	if (request->op == VC_BLOCK_READ && read_fast(q, request))
		return;
	if (request->op == VC_BLOCK_WRITE && write_fast(q, request))
		return;
	to_pool(state, run);
}

/* ---- below another image ---- */

static int read_below(struct vc_block *block, uint64_t offset, const struct vc_span *span)
{
	return qcow2_read(block->priv, offset, span);
}

static enum vc_block_where where(struct vc_block *block, uint64_t offset, uint64_t length, struct vc_block_place *place)
{
	return find(block->priv, offset, length, place);
}

/* ---- open, close, resize ---- */

static void free_qcow2(struct qcow2 *q)
{
	qcow2_cache_fini(&q->l2_cache);
	qcow2_cache_fini(&q->refcount_cache);
	free(q->l1.entries);
	free(q->reftable.entries);
	free(q->freed);
	for (unsigned i = 0; i < QCOW2_UNPACKED; i++)
		free(q->unpacked.clusters[i]);
	pthread_mutex_destroy(&q->unpacked.lock);
	vc_ranges_fini(&q->ranges);
	pthread_mutex_destroy(&q->table_lock);
	pthread_mutex_destroy(&q->meta_lock);
	free(q);
}

static int measure(struct qcow2 *q)
{
	int64_t size = vc_file_size(q->file);

	if (size < 0)
		return vc_fail_errno((int)-size, "%s: asking for its size", q->block->path);
	atomic_store(&q->limit, qcow2_clusters(q, (uint64_t)size));
	q->end = q->file->block_device ? UINT64_MAX : qcow2_clusters(q, (uint64_t)size);
	return 0;
}

static int make_caches(struct qcow2 *q)
{
	uint64_t l2 = q->l1.count << q->cluster_bits, refcounts = q->reftable.count << q->cluster_bits;
	int r = qcow2_cache_init(&q->l2_cache, q, l2 < QCOW2_L2_CACHE ? l2 : QCOW2_L2_CACHE, qcow2_before_l2);

	if (r || q->block->read_only)
		return r;
	return qcow2_cache_init(&q->refcount_cache, q, refcounts < QCOW2_REFCOUNT_CACHE ? refcounts : QCOW2_REFCOUNT_CACHE,
	                        NULL);
}

static int open_qcow2(struct vc_block *block, const struct vc_block_options *options)
{
	struct qcow2 *q = calloc(1, sizeof *q);
	int r;

	if (!q)
		return vc_fail(ENOMEM, "%s: no memory", block->path);
	q->block = block;
	q->file = block->file;
	vc_ranges_init(&q->ranges, granted);
	pthread_mutex_init(&q->meta_lock, NULL);
	pthread_mutex_init(&q->table_lock, NULL);
	pthread_mutex_init(&q->unpacked.lock, NULL);
	r = qcow2_read_header(q, options);
	if (!r)
		r = measure(q);
	if (!r)
		r = make_caches(q);
	if (!r && q->dirty && !block->read_only)
		r = qcow2_repair(q);
	if (r) {
		free_qcow2(q);
		return r;
	}
	block->priv = q;
	return 0;
}

static void close_qcow2(struct vc_block *block)
{
	struct qcow2 *q = block->priv;

	/* the second time writes the refcounts of what the first one set free; what fails leaves clusters unused */
	if (!block->read_only && !qcow2_flush(q))
		(void)!qcow2_flush(q);
	free_qcow2(q);
}

static int resize(struct vc_block *block, uint64_t size)
{
	struct qcow2 *q = block->priv;
	struct all_ranges all;
	int r;

	sem_init(&all.granted, 0, 0);
	if (!vc_ranges_acquire(&q->ranges, &all.range, 0, UINT64_MAX, true)) {
		while (sem_wait(&all.granted) < 0 && errno == EINTR)
			;
	}
	r = qcow2_resize(q, size);
	vc_ranges_release(&q->ranges, &all.range);
	sem_destroy(&all.granted);
	return r;
}

static bool probe(const uint8_t head[VC_BLOCK_HEAD])
{
	return be32toh(vc_ld32(head)) == QCOW2_MAGIC;
}

const struct vc_block_driver vc_block_qcow2 = {
    .name = "qcow2",
    .probe = probe,
    .open = open_qcow2,
    .close = close_qcow2,
    .submit = submit,
    .read = read_below,
    .where = where,
    .resize = resize,
};
