/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* All of a buffer from and to a file. */
#ifndef VC_CORE_IO_H
#define VC_CORE_IO_H

#include <stddef.h>
#include <stdint.h>

/* 0 or -errno, without a sentence; -EIO: the file ends before. */
int vc_pread_all(int fd, void *buffer, size_t length, uint64_t offset);
int vc_pwrite_all(int fd, const void *data, size_t length, uint64_t offset);

#endif
