/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtio-mem as the program sees it. */
#include "virtio/mem.h"

#include "vm/vm.h"

/* NULL with the error set. */
static struct vc_vmem *find_vmem(vcore_device *device, const char *call)
{
	const struct vc_dev *dev = (const struct vc_dev *)device;

	if (dev && !strcmp(dev->type, "virtio-mem") && dev->frontend)
		return dev->frontend;
	vc_fail(EINVAL, "%s: the device is a %s: expected a virtio-mem", call, dev ? dev->type : "NULL");
	return NULL;
}

int vcore_virtio_mem_resize(vcore_device *device, uint64_t bytes)
{
	struct vc_vmem *vmem = find_vmem(device, "vcore_virtio_mem_resize");

	return vmem ? vc_vmem_resize(vmem, bytes) : -EINVAL;
}

int vcore_virtio_mem_get_info(vcore_device *device, struct vcore_virtio_mem_info *out)
{
	struct vc_vmem *vmem = find_vmem(device, "vcore_virtio_mem_get_info");
	struct vcore_virtio_mem_info info;

	if (!vmem)
		return -EINVAL;
	if (!out || out->size < sizeof out->size)
		return vc_fail(EINVAL, "vcore_virtio_mem_get_info: an info with its size set is needed");
	vc_vmem_get_info(vmem, &info);
	return vc_struct_out(out, &info, sizeof info);
}
