/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Asynchronous I/O on host files: a pool of threads, and io_uring where the host has it. */
#ifndef VC_BLOCK_AIO_H
#define VC_BLOCK_AIO_H

#include "block/file.h"

/* Work for the pool; embedded in what it works on. */
struct vc_job {
	void (*run)(struct vc_job *job);
	struct vc_job *next;
};

struct vc_pool;
int vc_pool_new(unsigned threads, struct vc_pool **pool);
void vc_pool_free(struct vc_pool *pool); /* once all jobs are done; NULL is allowed */
void vc_pool_run(struct vc_pool *pool, struct vc_job *job);

/* One request to a file, in flight. */
struct vc_aio_request {
	struct vc_job job; /* the engine's */
	struct vc_file *file;
	uint64_t offset; /* in the file */
	enum vc_block_op op;
	bool may_unmap;
	unsigned iov_count;
	const struct iovec *iov; /* READ and WRITE; stays until done */
	uint64_t length;
	void (*done)(struct vc_aio_request *request, int result); /* any thread, also the submitting one */
};

struct vc_aio;
/* engine: "io_uring", "threads", NULL for the best one. With a message. */
int vc_aio_new(const char *engine, unsigned threads, struct vc_aio **aio);
void vc_aio_free(struct vc_aio *aio); /* nothing is in flight; NULL is allowed */
struct vc_pool *vc_aio_pool(struct vc_aio *aio);
const char *vc_aio_engine(const struct vc_aio *aio);
void vc_aio_submit(struct vc_aio *aio, struct vc_aio_request *request);
void vc_aio_plug(struct vc_aio *aio);
void vc_aio_unplug(struct vc_aio *aio);

/* aio_uring.c. submit takes READ and WRITE; a request that it cannot serve comes back through fallback. */
struct vc_uring;
int vc_uring_new(void (*fallback)(void *ctx, struct vc_aio_request *request), void *ctx, struct vc_uring **ring);
void vc_uring_free(struct vc_uring *ring);
void vc_uring_submit(struct vc_uring *ring, struct vc_aio_request *request);
void vc_uring_plug(struct vc_uring *ring);
void vc_uring_unplug(struct vc_uring *ring);

#endif
