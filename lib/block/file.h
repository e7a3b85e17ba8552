/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A host file or block device that holds an image, waiting calls; any thread. */
#ifndef VC_BLOCK_FILE_H
#define VC_BLOCK_FILE_H

#include <pthread.h>
#include <stdbool.h>

#include "block/block.h"
#include "block/span.h"

struct vc_file {
	int fd;
	char *path;
	bool read_only, block_device;
	bool ignore_discard, unsafe; /* unsafe: flushes are ignored */
	uint32_t align;              /* that O_DIRECT asks of offsets, lengths and addresses; 1: none */
	uint32_t sector_size;        /* physical, as far as known */
	pthread_mutex_t edge_lock;   /* held while a write that covers a part of an aligned block reads and rewrites it */
};

/* Opens and locks; nothing but regular files and block devices. With a message. */
int vc_file_open(const struct vc_block_options *options, bool read_only, struct vc_file **file);
/* A temporary file without a name, whose flushes do nothing. */
int vc_file_open_temporary(struct vc_file **file);
void vc_file_close(struct vc_file *file); /* NULL is allowed */

/* 0 or -errno, without a message: these serve requests. What lies beyond the end reads as zeroes. */
int vc_file_read(struct vc_file *file, uint64_t offset, const struct vc_span *span);
int vc_file_write(struct vc_file *file, uint64_t offset, const struct vc_span *span);
int vc_file_pread(struct vc_file *file, uint64_t offset, void *data, size_t length);
int vc_file_pwrite(struct vc_file *file, uint64_t offset, const void *data, size_t length);
int vc_file_flush(struct vc_file *file);
/* Advice: a host that cannot is no error. */
int vc_file_discard(struct vc_file *file, uint64_t offset, uint64_t length);
int vc_file_zero(struct vc_file *file, uint64_t offset, uint64_t length, bool may_unmap);
int64_t vc_file_size(const struct vc_file *file);
/* Can this go to the kernel as it is? */
bool vc_file_aligned(const struct vc_file *file, uint64_t offset, const struct vc_span *span);

/* lock.c: -EAGAIN with a message when somebody else's use of the file is in the way. */
int vc_file_lock(int fd, const char *path, bool writer);

#endif
