/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file Memory that a guest gives up: device "virtio-balloon". What the guest's driver puts into the balloon goes back
 * to the host, and comes again as zeroes when the guest takes it out. Free pages that the guest reports by itself (page
 * reporting) go back without any call.
 */
#ifndef VIRTCORE_BALLOON_H
#define VIRTCORE_BALLOON_H

#include <virtcore/types.h>

VCORE_BEGIN_DECLS

/** In bytes unless said otherwise; UINT64_MAX: the guest did not tell. */
struct vcore_balloon_stats {
	uint32_t size;
	uint32_t pad;
	uint64_t target;       /**< as last set */
	uint64_t actual;       /**< in the balloon, as the guest says */
	uint64_t discarded;    /**< given back to the host since the device was made, by any of the ways */
	uint64_t updates;      /**< how often the guest has told what follows */
	uint64_t swap_in;      /**< read from swap */
	uint64_t swap_out;     /**< written to swap */
	uint64_t major_faults; /**< how many */
	uint64_t minor_faults; /**< how many */
	uint64_t free_memory;  /**< unused */
	uint64_t total_memory;
	uint64_t available_memory;    /**< for new programs without swapping */
	uint64_t disk_caches;         /**< that can be given up without swapping */
	uint64_t hugetlb_allocations; /**< how many */
	uint64_t hugetlb_failures;    /**< how many */
};

/** Ask the guest to have so much of its memory in the balloon, rounded down to pages. It follows at its own pace, and
 *  as far as it can.
 *  @return 0; -EINVAL when the device is no balloon, or for more than 16 TiB */
VCORE_API int vcore_balloon_set_target(vcore_device *device, uint64_t bytes);

/** What is known now; it also asks the guest for new statistics, which come a little later (updates tells).
 *  @return 0; -EINVAL when the device is no balloon or stats->size is not set */
VCORE_API int vcore_balloon_get_stats(vcore_device *device, struct vcore_balloon_stats *stats);

/** Have the guest name the pages that are free now, once, and give them back to the host (free page hinting).
 *  @return 0; -EINVAL when the device is no balloon; -ENOTSUP when the guest's driver cannot or has not started */
VCORE_API int vcore_balloon_reclaim(vcore_device *device);

VCORE_END_DECLS
#endif
