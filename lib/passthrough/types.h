/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The device types of this room. */
#ifndef VC_PASSTHROUGH_TYPES_H
#define VC_PASSTHROUGH_TYPES_H

#include "device/device.h"

extern const struct vc_device_type vc_vfio_pci_type;  /* host= rebind= p2p= iommufd= */
extern const struct vc_device_type vc_vfio_user_type; /* socket= timeout_ms= map_bars= dma= */

#endif
