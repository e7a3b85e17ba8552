/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who serves a request: the page cache at once, io_uring, or a thread of the pool. */
#include "block/aio.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/util.h"

enum { INLINE_WRITE = 128 * 1024 /* longer ones might keep the caller from its other work for long */ };

struct vc_aio {
	struct vc_pool *pool;
	struct vc_uring *ring; /* NULL: threads */
};

static int serve(struct vc_aio_request *request)
{
	struct vc_span span = {request->iov, request->iov_count, 0, (size_t)request->length};

	switch (request->op) {
	case VC_BLOCK_READ:
		return vc_file_read(request->file, request->offset, &span);
	case VC_BLOCK_WRITE:
		return vc_file_write(request->file, request->offset, &span);
	case VC_BLOCK_FLUSH:
		return vc_file_flush(request->file);
	case VC_BLOCK_DISCARD:
		return vc_file_discard(request->file, request->offset, request->length);
	case VC_BLOCK_WRITE_ZEROES:
		return vc_file_zero(request->file, request->offset, request->length, request->may_unmap);
	}
	return -EINVAL;
}

static void serve_job(struct vc_job *job)
{
	struct vc_aio_request *request = VC_CONTAINER_OF(job, struct vc_aio_request, job);

	request->done(request, serve(request));
}

static void to_pool(void *ctx, struct vc_aio_request *request)
{
	struct vc_aio *aio = ctx;

	request->job.run = serve_job;
	vc_pool_run(aio->pool, &request->job);
}

/* What the page cache has, or takes, needs no other thread: that would cost more than the copy. */
static bool through_cache(struct vc_aio_request *request)
{
	bool write = request->op == VC_BLOCK_WRITE;
	struct vc_file *file = request->file;
	int count = (int)request->iov_count;
	ssize_t n;

	if (file->align != 1 || request->iov_count > IOV_MAX || (!write && request->op != VC_BLOCK_READ) ||
	    (write && request->length > INLINE_WRITE))
		return false;
	if (write)
		n = pwritev(file->fd, request->iov, count, (off_t)request->offset);
	else
		n = preadv2(file->fd, request->iov, count, (off_t)request->offset, RWF_NOWAIT);
	/* in part, or not at all: whoever does it now finds out why */
	if (n < 0 || (uint64_t)n != request->length)
		return false;
	request->done(request, 0);
	return true;
}

static bool fits_ring(const struct vc_aio_request *request)
{
	struct vc_span span = {request->iov, request->iov_count, 0, (size_t)request->length};

	return (request->op == VC_BLOCK_READ || request->op == VC_BLOCK_WRITE) && request->iov_count <= IOV_MAX &&
	       vc_file_aligned(request->file, request->offset, &span);
}

void vc_aio_submit(struct vc_aio *aio, struct vc_aio_request *request)
{
	if (through_cache(request))
		return;
	if (aio->ring && fits_ring(request))
		vc_uring_submit(aio->ring, request);
	else
		to_pool(aio, request);
}

void vc_aio_plug(struct vc_aio *aio)
{
	if (aio->ring)
		vc_uring_plug(aio->ring);
}

void vc_aio_unplug(struct vc_aio *aio)
{
	if (aio->ring)
		vc_uring_unplug(aio->ring);
}

struct vc_pool *vc_aio_pool(struct vc_aio *aio)
{
	return aio->pool;
}

const char *vc_aio_engine(const struct vc_aio *aio)
{
	return aio->ring ? "io_uring" : "threads";
}

static int choose_engine(struct vc_aio *aio, const char *engine)
{
	bool uring = engine && !strcmp(engine, "io_uring");
	int r;

	if (engine && !uring && strcmp(engine, "threads"))
		return vc_fail(EINVAL, "aio \"%s\": expected io_uring or threads", engine);
	if (engine && !uring)
		return 0;
	r = vc_uring_new(to_pool, aio, &aio->ring);
	/* many hosts refuse it; who did not ask for it gets threads */
	return uring ? r : 0;
}

int vc_aio_new(const char *engine, unsigned threads, struct vc_aio **out)
{
	struct vc_aio *aio = calloc(1, sizeof *aio);
	int r;

	if (!aio)
		return vc_fail(ENOMEM, "no memory for disk I/O");
	r = vc_pool_new(threads, &aio->pool);
	if (!r)
		r = choose_engine(aio, engine);
	if (r) {
		vc_aio_free(aio);
		return r;
	}
	*out = aio;
	return 0;
}

void vc_aio_free(struct vc_aio *aio)
{
	if (!aio)
		return;
	vc_uring_free(aio->ring);
	vc_pool_free(aio->pool);
	free(aio);
}
