/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copies between vectors and buffers. */
#include "core/util.h"
#include "virtio/virtio.h"

static size_t copy(const struct iovec *iov, unsigned count, size_t at, uint8_t *buffer, size_t length, bool to_iov)
{
	size_t done = 0;

	for (unsigned i = 0; i < count && done < length; i++) {
		size_t piece = iov[i].iov_len;
		uint8_t *p = iov[i].iov_base;

		if (at >= piece) {
			at -= piece;
			continue;
		}
		p += at;
		piece -= at;
		at = 0;
		if (piece > length - done)
			piece = length - done;
		if (to_iov)
			memcpy(p, buffer + done, piece);
		else
			memcpy(buffer + done, p, piece);
		done += piece;
	}
	return done;
}

size_t vc_iov_to_buffer(const struct iovec *iov, unsigned count, size_t at, void *buffer, size_t length)
{
	return copy(iov, count, at, buffer, length, false);
}

size_t vc_iov_from_buffer(const struct iovec *iov, unsigned count, size_t at, const void *buffer, size_t length)
{
	return copy(iov, count, at, (uint8_t *)(uintptr_t)buffer, length, true);
}

unsigned vc_iov_slice(const struct iovec *iov, unsigned count, size_t at, size_t length, struct iovec *piece,
                      unsigned room)
{
	unsigned n = 0;

	for (unsigned i = 0; i < count && length && n < room; i++) {
		size_t size = iov[i].iov_len;

		if (at >= size) {
			at -= size;
			continue;
		}
		size = size - at < length ? size - at : length;
		piece[n++] = (struct iovec){(uint8_t *)iov[i].iov_base + at, size};
		length -= size;
		at = 0;
	}
	return n;
}
