/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libFuzzer target: any bytes as a qcow2 image, opened, read, written, resized. The first byte chooses what is done. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "block/block.h"
#include "core/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST = 16384, READ_ONLY = 1, SNAPSHOT = 2, WRITE_THROUGH = 4, RESIZE = 8 };

/* The places in a disk where tables begin and end, more or less. */
static uint64_t place(uint64_t size, unsigned n)
{
	static const uint64_t places[] = {0, 512, 4096, 32768, 65536, 1 << 20, 1ull << 29};
	uint64_t at = n < VC_ARRAY_SIZE(places) ? places[n] : n == VC_ARRAY_SIZE(places) ? size / 2 : size - 512;

	return VC_ALIGN_DOWN(at, 512);
}

static void use(struct vc_block *block, uint8_t mode)
{
	static uint8_t buffer[MOST];

	for (unsigned turn = 0; turn < 2; turn++) {
		for (unsigned n = 0; n < 9; n++) {
			uint64_t size = vc_block_size(block), at = place(size, n), length;

			if (at >= size)
				continue;
			length = size - at < MOST ? size - at : MOST;
			vc_block_rw(block, VC_BLOCK_READ, at, buffer, length);
			memset(buffer, (int)n + 1, length);
			vc_block_rw(block, VC_BLOCK_WRITE, at, buffer, length < 1024 ? length : 1024);
			vc_block_rw(block, n % 2 ? VC_BLOCK_DISCARD : VC_BLOCK_WRITE_ZEROES, at, NULL, length);
			if (n % 4 == 3)
				vc_block_rw(block, VC_BLOCK_FLUSH, 0, NULL, 0);
		}
		if (mode & RESIZE && vc_block_size(block) < VC_GIB(1))
			vc_block_resize(block, turn ? 512 : vc_block_size(block) * 2 + 512);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[64];
	uint8_t mode = size ? data[0] : 0;
	struct vc_block_options options = {.path = path,
	                                   .format = "qcow2",
	                                   .read_only = mode & READ_ONLY,
	                                   .snapshot = mode & SNAPSHOT ? "1" : NULL,
	                                   .cache = mode & WRITE_THROUGH ? VC_BLOCK_WRITETHROUGH : VC_BLOCK_WRITEBACK,
	                                   .threads = 1,
	                                   .aio = "threads"};
	struct vc_block *block;
	int fd = memfd_create("image", MFD_CLOEXEC);

	if (!size) {
		close(fd);
		return 0;
	}
	if (fd < 0 || write(fd, data + 1, size - 1) != (ssize_t)(size - 1))
		abort();
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	if (vc_block_open(&options, &block) == 0) {
		use(block, mode);
		vc_block_close(block);
	}
	close(fd);
	return 0;
}
