/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A part of an I/O vector. */
#ifndef VC_BLOCK_SPAN_H
#define VC_BLOCK_SPAN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct vc_span {
	const struct iovec *iov;
	unsigned count;
	size_t at, length; /* bytes from the vector's start; at + length lies within it */
};

struct vc_span vc_span_part(const struct vc_span *span, size_t at, size_t length);
void vc_span_zero(const struct vc_span *span);
void vc_span_fill(const struct vc_span *span, const void *data);
void vc_span_copy(const struct vc_span *span, void *data);
/* The first pieces of the span as a vector of at most max elements; their number, and their bytes in *length. */
unsigned vc_span_slice(const struct vc_span *span, struct iovec *out, unsigned max, size_t *length);

#endif
