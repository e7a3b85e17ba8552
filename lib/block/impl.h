/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the image formats share. A new format is one file plus one row in block.c's table. */
#ifndef VC_BLOCK_IMPL_H
#define VC_BLOCK_IMPL_H

#include <semaphore.h>
#include <stdatomic.h>

#include "block/aio.h"
#include "block/ranges.h"
#include "core/error.h"
#include "core/util.h"

enum {
	VC_BLOCK_SECTOR = 512,
	VC_BLOCK_CHAIN_MAX = 64, /* images on top of each other */
	VC_BLOCK_HEAD = 512,     /* bytes of a file that a probe sees */
};

/* Where the bytes of an image lie. */
enum vc_block_where {
	VC_BLOCK_ELSEWHERE, /* not to be told without waiting, or in no file as they are: read them with driver->read */
	VC_BLOCK_AT,        /* in a file, at an offset */
	VC_BLOCK_ZEROES,
};
struct vc_block_place {
	uint64_t length; /* that this is true for */
	struct vc_file *file;
	uint64_t offset;
};

struct vc_block_driver {
	const char *name;
	bool (*probe)(const uint8_t head[VC_BLOCK_HEAD]); /* NULL: only by name */
	bool no_file;
	/* block->file is open, block->backing set if somebody else chose it. On failure close is not called. */
	int (*open)(struct vc_block *block, const struct vc_block_options *options);
	/* Nothing is in flight. */
	void (*close)(struct vc_block *block);
	/* The request is valid. Ends in vc_block_complete(). */
	void (*submit)(struct vc_block *block, struct vc_block_request *request);
	/* Waiting, without a message: for an image on top. The range lies within the size. */
	int (*read)(struct vc_block *block, uint64_t offset, const struct vc_span *span);
	/* Does not wait. Of [offset, offset + length) at least the first byte; for images that nobody writes. */
	enum vc_block_where (*where)(struct vc_block *block, uint64_t offset, uint64_t length,
	                             struct vc_block_place *place);
	int (*resize)(struct vc_block *block, uint64_t size);
};

extern const struct vc_block_driver vc_block_raw, vc_block_qcow2, vc_block_null;

struct vc_block {
	const struct vc_block_driver *driver;
	void *priv; /* the driver's */
	struct vc_file *file;
	struct vc_block *backing;
	struct vc_block *above; /* what this one is the backing of, while it is opened: against loops */
	struct vc_aio *aio;     /* NULL in a backing, which has only waiting reads */
	char *path;
	bool read_only, probed; /* probed: the format is a guess */
	enum vc_block_cache cache;
	_Atomic uint64_t size;
	_Atomic uint64_t users; /* requests in flight, and one until it is closed */
	sem_t unused;           /* posted by who takes users to 0 */
	pthread_mutex_t lock;   /* protects on_error and its ctx */
	void (*on_error)(void *ctx, enum vc_block_op op, uint64_t offset, int error);
	void *error_ctx;
};

/* What a request carries while it is in flight, in its priv. */
struct vc_block_state {
	struct vc_block *block;
	struct vc_block_request *request;
	struct vc_aio_request aio; /* its job serves for work of the format's own as well */
	struct vc_range range;
	uint64_t offset;
};
_Static_assert(sizeof(struct vc_block_state) <= sizeof(((struct vc_block_request *)0)->priv), "priv is too small");

static inline struct vc_block_state *vc_block_state(struct vc_block_request *request)
{
	return (struct vc_block_state *)request->priv;
}

void vc_block_complete(struct vc_block *block, struct vc_block_request *request, int result);
/* The whole request to a file, from offset on; completes it unless done is given. */
void vc_block_to_file(struct vc_block *block, struct vc_block_request *request, struct vc_file *file, uint64_t offset,
                      void (*done)(struct vc_aio_request *aio, int result));
static inline struct vc_span vc_block_span(const struct vc_block_request *request)
{
	return (struct vc_span){request->iov, request->iov_count, 0, (size_t)request->length};
}

/* Opens what lies below `above`; path relative to above's. Read-only. */
int vc_block_open_backing(struct vc_block *above, const char *path, const char *format,
                          const struct vc_block_options *options, struct vc_block **backing);
/* Of a block that lies below, whatever its size: zeroes beyond its end. */
int vc_block_read_backing(struct vc_block *backing, uint64_t offset, const struct vc_span *span);
/* Writes header, tables and nothing else into an empty file. backing: its path, NULL: none or not by name. */
int vc_qcow2_format(struct vc_file *file, uint64_t size, const char *backing, const char *backing_format);

#endif
