/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A peer on a unix socket, out of a fuzzer's bytes. */
#ifndef FUZZ_FEED_H
#define FUZZ_FEED_H

#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

/* Pieces of up to 63 bytes: a byte for length and descriptors, then the bytes. */
static inline void feed(int to, int fd, const uint8_t *data, size_t length)
{
	while (length > 1) {
		size_t piece = *data & 0x3f;
		unsigned count = *data >> 6;
		struct iovec iov;
		union {
			struct cmsghdr align;
			char bytes[CMSG_SPACE(3 * sizeof(int))];
		} c = {0};
		struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};

		data++;
		length--;
		if (piece > length)
			piece = length;
		iov = (struct iovec){(uint8_t *)(uintptr_t)data, piece};
		if (count && piece) {
			header.msg_control = c.bytes;
			header.msg_controllen = CMSG_SPACE(count * sizeof(int));
			c.align = (struct cmsghdr){CMSG_LEN(count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
			for (unsigned i = 0; i < count; i++)
				memcpy(CMSG_DATA(&c.align) + i * sizeof fd, &fd, sizeof fd);
		}
		if (piece && sendmsg(to, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			return;
		data += piece;
		length -= piece;
	}
}

#endif
