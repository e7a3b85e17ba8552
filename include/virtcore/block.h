/* SPDX-License-Identifier: LGPL-2.1-or-later */
/** @file Disks. */
#ifndef VIRTCORE_BLOCK_H
#define VIRTCORE_BLOCK_H

#include <virtcore/types.h>

VCORE_BEGIN_DECLS

/**
 * Give a disk another size, also while the guest runs, which is told. Requests beyond the new end fail.
 *
 * @param device a disk of the library's, such as virtio-blk
 * @param bytes  a multiple of 512
 * @return 0; -EINVAL a wrong size; -ENOTSUP not a disk, or one whose image keeps its size (a block device, a version 2
 *         qcow2 image with snapshots); -EROFS opened read-only; errno of the file
 */
VCORE_API int vcore_block_resize(vcore_device *device, uint64_t bytes);

VCORE_END_DECLS
#endif
