/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/io.h"

#include <errno.h>
#include <unistd.h>

int vc_pread_all(int fd, void *buffer, size_t length, uint64_t offset)
{
	for (uint8_t *at = buffer; length;) {
		ssize_t n = pread(fd, at, length, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		length -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int vc_pwrite_all(int fd, const void *data, size_t length, uint64_t offset)
{
	for (const uint8_t *at = data; length;) {
		ssize_t n = pwrite(fd, at, length, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		length -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}
