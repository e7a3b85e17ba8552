/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "block/span.h"

#include <string.h>

enum { PIECES = 16 };

struct vc_span vc_span_part(const struct vc_span *span, size_t at, size_t length)
{
	return (struct vc_span){span->iov, span->count, span->at + at, length};
}

unsigned vc_span_slice(const struct vc_span *span, struct iovec *out, unsigned max, size_t *length)
{
	size_t skip = span->at, left = span->length;
	unsigned n = 0;

	for (unsigned i = 0; i < span->count && left && n < max; i++) {
		size_t size = span->iov[i].iov_len;

		if (skip >= size) {
			skip -= size;
			continue;
		}
		size -= skip;
		if (size > left)
			size = left;
		out[n++] = (struct iovec){(char *)span->iov[i].iov_base + skip, size};
		skip = 0;
		left -= size;
	}
	*length = span->length - left;
	return n;
}

/* Calls fn for every piece of memory of the span. */
static void each_piece(const struct vc_span *span, void (*fn)(void *memory, size_t length, char *data), char *data)
{
	struct vc_span rest = *span;
	struct iovec pieces[PIECES];
	size_t length;

	while (rest.length) {
		unsigned n = vc_span_slice(&rest, pieces, PIECES, &length);

		if (!n)
			return;
		for (unsigned i = 0; i < n; i++) {
			fn(pieces[i].iov_base, pieces[i].iov_len, data);
			data = data ? data + pieces[i].iov_len : NULL;
		}
		rest = vc_span_part(&rest, length, rest.length - length);
	}
}

static void zero_piece(void *memory, size_t length, char *data)
{
	memset(memory, 0, length);
}

static void fill_piece(void *memory, size_t length, char *data)
{
	memcpy(memory, data, length);
}

static void copy_piece(void *memory, size_t length, char *data)
{
	memcpy(data, memory, length);
}

void vc_span_zero(const struct vc_span *span)
{
	each_piece(span, zero_piece, NULL);
}

void vc_span_fill(const struct vc_span *span, const void *data)
{
	each_piece(span, fill_piece, (char *)data);
}

void vc_span_copy(const struct vc_span *span, void *data)
{
	each_piece(span, copy_piece, data);
}
