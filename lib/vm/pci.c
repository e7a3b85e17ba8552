/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PCI functions as the program sees them. */
#include "bus/iommu.h"
#include "vm/vm.h"

static struct vc_pci_function *function_of(vcore_device *device)
{
	return vc_pci_function_of((const struct vc_dev *)device);
}

static int fail_device(const char *who)
{
	return vc_fail(EINVAL, "%s: the device is no PCI function", who);
}

/* The program's ops never make it into a function: its destroy is due all the same. */
static int refuse(const struct vcore_pci_ops *ops, void *ctx, int error, const char *why)
{
	struct vcore_pci_ops copy;

	if (vc_struct_in(&copy, sizeof copy, ops) >= 0 && copy.destroy)
		copy.destroy(ctx);
	return vc_fail(error, "vcore_pci_add: %s", why);
}

int vcore_pci_add(vcore_vm *vm, const struct vcore_pci_description *description, const struct vcore_pci_ops *ops,
                  void *ctx, vcore_device **device)
{
	struct vc_dev *dev;
	int r;

	if (!vm)
		return refuse(ops, ctx, EINVAL, "no vm given");
	if (!vm->bvm.env.pci)
		return refuse(ops, ctx, ENOTSUP, "this vm's machine type has no PCI");
	r = vc_pci_add(vm->bvm.env.pci, description, ops, ctx, &dev);
	if (r < 0)
		return r;
	dev->owner = vm;
	if (device)
		*device = (vcore_device *)dev;
	return 0;
}

int vcore_pci_irq_set(vcore_device *device, bool level)
{
	struct vc_pci_function *f = function_of(device);

	if (!f)
		return fail_device("vcore_pci_irq_set");
	if (!vc_pci_has_pin(f))
		return vc_fail(EINVAL, "vcore_pci_irq_set: the function has no interrupt pin");
	vc_pci_irq_set(f, level);
	vc_pci_irq_flush(f);
	return 0;
}

int vcore_pci_msix_send(vcore_device *device, uint32_t vector)
{
	struct vc_pci_function *f = function_of(device);
	uint32_t vectors;

	if (!f)
		return fail_device("vcore_pci_msix_send");
	vectors = vc_pci_vectors(f);
	if (vector >= vectors)
		return vc_fail(EINVAL, "vcore_pci_msix_send: vector %u: the function has %u", vector, vectors);
	return vc_pci_msi_send(f, vector) ? 0 : vc_fail(EAGAIN, "vcore_pci_msix_send: the guest uses INTx");
}

int vcore_pci_get_info(vcore_device *device, struct vcore_pci_info *info)
{
	struct vc_pci_function *f = function_of(device);
	struct vcore_pci_info own;

	if (!f)
		return fail_device("vcore_pci_get_info");
	vc_pci_get_info(f, &own);
	return vc_struct_out(info, &own, sizeof own) < 0 ? vc_fail(EINVAL, "vcore_pci_get_info: info.size is not set") : 0;
}

int vcore_pci_unplug(vcore_device *device)
{
	struct vc_pci_function *f = function_of(device);

	return f ? vc_pci_unplug(f) : fail_device("vcore_pci_unplug");
}

static int dma(vcore_device *device, const char *who, uint64_t address, void *buffer, uint64_t length, bool write)
{
	struct vc_pci_function *f = function_of(device);
	struct vcore_vm *vm;

	if (!f)
		return fail_device(who);
	vm = ((struct vc_dev *)device)->owner;
	return vc_iommu_copy(vc_pci_endpoint(f), &vm->mem, address, buffer, length, write);
}

int vcore_pci_dma_read(vcore_device *device, uint64_t address, void *buffer, uint64_t length)
{
	return dma(device, "vcore_pci_dma_read", address, buffer, length, false);
}

int vcore_pci_dma_write(vcore_device *device, uint64_t address, const void *buffer, uint64_t length)
{
	return dma(device, "vcore_pci_dma_write", address, (void *)(uintptr_t)buffer, length, true);
}
