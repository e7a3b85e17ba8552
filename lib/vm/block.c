/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disks as the program sees them. */
#include <virtcore/block.h>

#include "vm/vm.h"

int vcore_block_resize(vcore_device *device, uint64_t bytes)
{
	struct vc_dev *dev = (struct vc_dev *)device;

	if (!dev)
		return vc_fail(EINVAL, "vcore_block_resize: no device given");
	if (!dev->controls || !dev->controls->resize)
		return vc_fail(ENOTSUP, "device %s is no disk whose size can change", dev->type);
	return dev->controls->resize(dev->controls_ctx, bytes);
}
