/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The library's devices: one row each. Here, because they come from several rooms. */
#include <string.h>

#include "device/device.h"
#include "passthrough/types.h"
#include "vhost/types.h"
#include "virtio/types.h"

const struct vc_device_type *const vc_device_types[] = {
    &vc_uart_type,
    &vc_i8042_type,
    &vc_debug_exit_type,
    &vc_debugcon_type,
    &vc_pci_root_port_type,
    &vc_i6300esb_type,
    &vc_pvpanic_type,
    &vc_virtio_9p_type,
    &vc_virtio_balloon_type,
    &vc_virtio_blk_type,
    &vc_virtio_console_type,
    &vc_virtio_gpu_type,
    &vc_virtio_iommu_type,
    &vc_virtio_keyboard_type,
    &vc_virtio_mouse_type,
    &vc_virtio_mem_type,
    &vc_virtio_net_type,
    &vc_virtio_pmem_type,
    &vc_virtio_rng_type,
    &vc_virtio_tablet_type,
    &vc_virtio_vsock_type,
    &vc_vhost_user_blk_type,
    &vc_vhost_user_fs_type,
    &vc_vhost_user_net_type,
    &vc_vfio_pci_type,
    &vc_vfio_user_type,
    NULL,
};

const struct vc_device_type *vc_device_type_find(const char *name)
{
	for (unsigned i = 0; vc_device_types[i]; i++) {
		if (!strcmp(vc_device_types[i]->name, name))
			return vc_device_types[i];
	}
	return NULL;
}
