/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disks as the program sees them. */
#include <virtcore/block.h>

#include "virtio/blk.h"
#include "vm/vm.h"

int vcore_block_resize(vcore_device *device, uint64_t bytes)
{
	const struct vc_dev *dev = (const struct vc_dev *)device;

	if (!dev || strcmp(dev->type, "virtio-blk") || !dev->frontend)
		return vc_fail(ENOTSUP, "vcore_block_resize: the device is a %s: expected a virtio-blk",
		               dev ? dev->type : "NULL");
	return vc_blk_resize(dev->frontend, bytes);
}
