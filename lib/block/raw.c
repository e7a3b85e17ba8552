/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* raw: the file's bytes are the disk's. */
#include <unistd.h>

#include "block/impl.h"

static int raw_open(struct vc_block *block, const struct vc_block_options *options)
{
	int64_t size = vc_file_size(block->file);

	if (size < 0)
		return vc_fail_errno((int)-size, "%s: asking for its size", block->path);
	/* a last sector that the file has only in part reads as zeroes from there on */
	atomic_store(&block->size, VC_ALIGN_UP((uint64_t)size, VC_BLOCK_SECTOR));
	return 0;
}

static void raw_close(struct vc_block *block) {}

/*
 * Nobody said that this is raw, it only did not look like anything else. A guest that makes it look like qcow2 would
 * have any file of the host as its disk the next time.
 */
static bool fakes_format(const struct vc_block *block, const struct vc_block_request *request)
{
	struct vc_span head = vc_block_span(request);
	uint8_t bytes[VC_BLOCK_HEAD];

	if (!block->probed || request->op != VC_BLOCK_WRITE || request->offset || !request->length)
		return false;
	head.length = sizeof bytes;
	vc_span_copy(&head, bytes);
	return vc_block_qcow2.probe(bytes);
}

static void write_through(struct vc_aio_request *aio, int result)
{
	struct vc_block_state *state = VC_CONTAINER_OF(aio, struct vc_block_state, aio);

	if (!result && aio->op != VC_BLOCK_FLUSH) {
		aio->op = VC_BLOCK_FLUSH;
		vc_aio_submit(state->block->aio, aio);
		return;
	}
	vc_block_complete(state->block, state->request, result);
}

static void raw_submit(struct vc_block *block, struct vc_block_request *request)
{
	bool changes = request->op != VC_BLOCK_READ && request->op != VC_BLOCK_FLUSH;

	if (fakes_format(block, request))
		vc_block_complete(block, request, -EPERM);
	else
		vc_block_to_file(block, request, block->file, request->offset,
		                 changes && block->cache == VC_BLOCK_WRITETHROUGH ? write_through : NULL);
}

static int raw_read(struct vc_block *block, uint64_t offset, const struct vc_span *span)
{
	return vc_file_read(block->file, offset, span);
}

static enum vc_block_where raw_where(struct vc_block *block, uint64_t offset, uint64_t length,
                                     struct vc_block_place *place)
{
	*place = (struct vc_block_place){length, block->file, offset};
	return VC_BLOCK_AT;
}

static int raw_resize(struct vc_block *block, uint64_t size)
{
	if (block->file->block_device)
		return vc_fail(ENOTSUP, "%s: a block device keeps its size", block->path);
	if (ftruncate(block->file->fd, (off_t)size) < 0)
		return vc_fail_errno(errno, "%s: setting its size to %llu", block->path, (unsigned long long)size);
	atomic_store(&block->size, size);
	return 0;
}

const struct vc_block_driver vc_block_raw = {
    .name = "raw",
    .open = raw_open,
    .close = raw_close,
    .submit = raw_submit,
    .read = raw_read,
    .where = raw_where,
    .resize = raw_resize,
};
