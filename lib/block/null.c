/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* null: reads as zeroes, forgets writes. What remains is the cost of the path to it. */
#include <stdlib.h>

#include "block/impl.h"

/* "null:SIZE", with K, M, G, T. */
static int null_open(struct vc_block *block, const struct vc_block_options *options)
{
	static const char suffixes[] = "KMGT";
	const char *text = strncmp(options->path, "null:", 5) ? options->path : options->path + 5;
	char *end;
	unsigned long long size;
	unsigned shift = 0;

	errno = 0;
	size = strtoull(text, &end, 0);
	if (*end && strchr(suffixes, *end)) {
		shift = 10 * (unsigned)(strchr(suffixes, *end) - suffixes + 1);
		end++;
	}
	if (errno || end == text || *end || size > (uint64_t)INT64_MAX >> shift || (size << shift) % VC_BLOCK_SECTOR)
		return vc_fail(EINVAL, "null: size \"%s\": expected a multiple of 512, as 10G", text);
	atomic_store(&block->size, (uint64_t)size << shift);
	return 0;
}

static void null_close(struct vc_block *block) {}

static void null_submit(struct vc_block *block, struct vc_block_request *request)
{
	if (request->op == VC_BLOCK_READ) {
		struct vc_span span = vc_block_span(request);

		vc_span_zero(&span);
	}
	vc_block_complete(block, request, 0);
}

static int null_read(struct vc_block *block, uint64_t offset, const struct vc_span *span)
{
	vc_span_zero(span);
	return 0;
}

static enum vc_block_where null_where(struct vc_block *block, uint64_t offset, uint64_t length,
                                      struct vc_block_place *place)
{
	*place = (struct vc_block_place){.length = length};
	return VC_BLOCK_ZEROES;
}

static int null_resize(struct vc_block *block, uint64_t size)
{
	atomic_store(&block->size, size);
	return 0;
}

const struct vc_block_driver vc_block_null = {
    .name = "null",
    .no_file = true,
    .open = null_open,
    .close = null_close,
    .submit = null_submit,
    .read = null_read,
    .where = null_where,
    .resize = null_resize,
};
