/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The device types that another process serves: rows for lib/vm/device_types.c. */
#ifndef VC_VHOST_TYPES_H
#define VC_VHOST_TYPES_H

#include "device/device.h"

extern const struct vc_device_type vc_vhost_user_blk_type;
extern const struct vc_device_type vc_vhost_user_fs_type;
extern const struct vc_device_type vc_vhost_user_net_type;

#endif
