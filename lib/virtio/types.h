/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The virtio device types: rows for lib/vm/device_types.c. */
#ifndef VC_VIRTIO_TYPES_H
#define VC_VIRTIO_TYPES_H

#include "device/device.h"

extern const struct vc_device_type vc_virtio_9p_type;
extern const struct vc_device_type vc_virtio_balloon_type;
extern const struct vc_device_type vc_virtio_blk_type;
extern const struct vc_device_type vc_virtio_console_type;
extern const struct vc_device_type vc_virtio_gpu_type;
extern const struct vc_device_type vc_virtio_iommu_type;
extern const struct vc_device_type vc_virtio_keyboard_type;
extern const struct vc_device_type vc_virtio_mouse_type;
extern const struct vc_device_type vc_virtio_mem_type;
extern const struct vc_device_type vc_virtio_net_type;
extern const struct vc_device_type vc_virtio_pmem_type;
extern const struct vc_device_type vc_virtio_rng_type;
extern const struct vc_device_type vc_virtio_tablet_type;
extern const struct vc_device_type vc_virtio_vsock_type;

#endif
