/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The device types that are devices of others: rows for lib/vm/device_types.c. */
#ifndef VC_PASSTHROUGH_TYPES_H
#define VC_PASSTHROUGH_TYPES_H

#include "device/device.h"

extern const struct vc_device_type vc_vfio_user_type;

#endif
