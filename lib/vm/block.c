/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disks as the program sees them. */
#include <virtcore/block.h>

#include "virtio/blk.h"
#include "vm/vm.h"

_Static_assert((int)VCORE_BLOCK_WRITE_ZEROES == (int)VC_BLOCK_WRITE_ZEROES && VC_BLOCK_OPS == 5,
               "operations are numbered alike");

int vcore_block_resize(vcore_device *device, uint64_t bytes)
{
	const struct vc_dev *dev = (const struct vc_dev *)device;

	if (!dev || strcmp(dev->type, "virtio-blk") || !dev->frontend)
		return vc_fail(ENOTSUP, "vcore_block_resize: the device is a %s: expected a virtio-blk",
		               dev ? dev->type : "NULL");
	return vc_blk_resize(dev->frontend, bytes);
}

/* ---- errors ---- */

const char *vcore_block_operation_name(enum vcore_block_operation operation)
{
	return (unsigned)operation < VC_BLOCK_OPS ? vc_block_op_names[operation] : "unknown";
}

int vcore_vm_set_block_error(vcore_vm *vm, vcore_block_error_fn fn, void *ctx)
{
	enum vcore_vm_state state;

	if (!vm)
		return vc_fail(EINVAL, "vcore_vm_set_block_error: no vm given");
	pthread_mutex_lock(&vm->lock);
	state = vm->state;
	if (state == VCORE_VM_CREATED) {
		vm->block_error = fn;
		vm->block_error_ctx = ctx;
	}
	pthread_mutex_unlock(&vm->lock);
	return state == VCORE_VM_CREATED ? 0 : vc_fail(EBUSY, "vcore_vm_set_block_error: the vm was started already");
}

/* The disk that has failed: it stays, for a request of its is not done yet. NULL: it is still being made. */
static struct vc_dev *find(struct vcore_vm *vm, const void *frontend)
{
	struct vc_dev *dev;

	pthread_mutex_lock(&vm->buses.lock);
	for (dev = vm->buses.devices; dev && dev->frontend != frontend;)
		dev = dev->next;
	pthread_mutex_unlock(&vm->buses.lock);
	return dev;
}

void vc_vm_block_error(void *ctx, const void *frontend, const struct vcore_block_error *error)
{
	struct vcore_vm *vm = ctx;
	struct vc_dev *dev = find(vm, frontend);
	vcore_block_error_fn fn;
	void *fn_ctx;

	pthread_mutex_lock(&vm->lock);
	fn = vm->block_error;
	fn_ctx = vm->block_error_ctx;
	pthread_mutex_unlock(&vm->lock);
	vc_vm_tell(vm, &(struct vc_vm_event){.kind = VC_EVENT_BLOCK_ERROR,
	                                     .device = dev ? dev->id : 0,
	                                     .type = dev ? dev->type : NULL,
	                                     .block = error});
	if (fn)
		fn(fn_ctx, (vcore_device *)dev, error);
}
