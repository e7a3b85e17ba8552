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

/** What a disk was doing. */
enum vcore_block_operation {
	VCORE_BLOCK_READ = 0,
	VCORE_BLOCK_WRITE = 1,
	VCORE_BLOCK_FLUSH = 2,
	VCORE_BLOCK_DISCARD = 3,
	VCORE_BLOCK_WRITE_ZEROES = 4,
};

/** @return "read", "write", "flush", "discard", "write-zeroes"; "unknown" */
VCORE_API const char *vcore_block_operation_name(enum vcore_block_operation operation);

/** A request of the guest's that the host could not do: its driver has seen an I/O error, and the vm goes on. */
struct vcore_block_error {
	uint32_t size;
	uint32_t operation; /**< enum vcore_block_operation */
	uint64_t offset;    /**< byte of the disk; of no meaning for a flush */
	uint64_t errors;    /**< how many such operations of the disk have failed, this one included */
	int32_t error;      /**< an errno, positive */
	uint32_t pad;
	const char *image; /**< path; valid during the call */
};

/**
 * Told of such a request, on any thread and with no lock of the library held: at most once a second for each kind of
 * operation of a disk, so `errors` may have grown by more than one. It does not remove the device.
 * @param device borrowed, for the call; NULL while the disk is just being added
 */
typedef void (*vcore_block_error_fn)(void *ctx, vcore_device *device, const struct vcore_block_error *error);

/**
 * Have the program told of errors of the vm's disks, as monitors are by BLOCK_IO_ERROR and the log by a line.
 * @param fn NULL: nobody is told
 * @return 0; -EINVAL no vm; -EBUSY once the vm was started
 */
VCORE_API int vcore_vm_set_block_error(vcore_vm *vm, vcore_block_error_fn fn, void *ctx);

VCORE_END_DECLS
#endif
