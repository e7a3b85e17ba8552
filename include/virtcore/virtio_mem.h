/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file Memory that a guest gets and gives back while it runs: device "virtio-mem". The device has a region of
 * guest-physical addresses above RAM; the program says how much of it there should be, and the guest's driver plugs
 * blocks in and out to get there. Memory of blocks that are out goes back to the host.
 */
#ifndef VIRTCORE_VIRTIO_MEM_H
#define VIRTCORE_VIRTIO_MEM_H

#include <virtcore/types.h>

VCORE_BEGIN_DECLS

/** All in bytes, but for the address. */
struct vcore_virtio_mem_info {
	uint32_t size;
	uint32_t pad;
	uint64_t address;        /**< guest-physical, of the region */
	uint64_t region_size;    /**< the most there can be */
	uint64_t block_size;     /**< the unit */
	uint64_t requested_size; /**< as last asked for */
	uint64_t plugged_size;   /**< what the guest has plugged in */
};

/** Ask the guest to have so much of the region. It follows at its own pace and as far as it can: the monitor's event
 *  MEMORY_DEVICE_SIZE_CHANGE and plugged_size tell.
 *  @return 0; -EINVAL when the device is no virtio-mem, for what is no multiple of its block size, or larger than its
 *          region */
VCORE_API int vcore_virtio_mem_resize(vcore_device *device, uint64_t bytes);

/** @return 0; -EINVAL when the device is no virtio-mem or info->size is not set */
VCORE_API int vcore_virtio_mem_get_info(vcore_device *device, struct vcore_virtio_mem_info *info);

VCORE_END_DECLS
#endif
