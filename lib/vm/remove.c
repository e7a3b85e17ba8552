/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Removing devices by their id: those that nobody has a handle of. The guest may have to agree to it first. */
#include "vm/vm.h"

/* Caller holds the buses' lock. */
static int find_removable(struct vcore_vm *vm, uint32_t id, struct vc_dev **out)
{
	struct vc_dev *dev = vm->buses.devices;

	while (dev && dev->id != id)
		dev = dev->next;
	*out = dev;
	if (!dev)
		return vc_fail(ENOENT, "there is no device %u", id);
	return dev->removable
	           ? 0
	           : vc_fail(ENOTSUP, "device %u (%s) is a part of the machine type, or the program's own to remove", id,
	                     dev->type);
}

/* Whoever takes `removable` away removes it, and nobody else. */
static int remove_now(struct vcore_vm *vm, uint32_t id, bool only_leaving)
{
	struct vc_dev *dev;
	bool mine;
	int r;

	pthread_mutex_lock(&vm->buses.lock);
	r = find_removable(vm, id, &dev);
	mine = r >= 0 && (dev->leaving || !only_leaving);
	if (mine)
		dev->removable = false;
	pthread_mutex_unlock(&vm->buses.lock);
	return mine ? vcore_device_remove((vcore_device *)dev) : r;
}

/* Returns what it was. */
static bool set_leaving(struct vcore_vm *vm, struct vc_dev *dev, bool leaving)
{
	bool was;

	pthread_mutex_lock(&vm->buses.lock);
	was = dev->leaving;
	dev->leaving = leaving;
	pthread_mutex_unlock(&vm->buses.lock);
	return was;
}

/* The device is visited. 1: it goes when the guest has let go of it; 0: the guest need not, or cannot, be asked. */
static int ask_guest(struct vcore_vm *vm, struct vc_dev *dev)
{
	struct vc_pci_function *f = vc_pci_function_of(dev);
	struct vcore_pci_info info;
	int r;

	if (!f || !vc_pci_is_behind_port(f))
		return 0;
	vc_pci_get_info(f, &info);
	if (info.slot_off)
		return 0;
	/* first, for the guest may be quick */
	if (set_leaving(vm, dev, true))
		return vc_fail(EBUSY, "the guest has been asked already to let go of device %u (%s)", dev->id, dev->type);
	r = vc_pci_unplug(f);
	if (r >= 0)
		return 1;
	set_leaving(vm, dev, false);
	return r == -EAGAIN ? 0 : r;
}

int vc_vm_remove_device(struct vcore_vm *vm, uint32_t id, bool force)
{
	struct vc_visit visit;
	struct vc_dev *dev;
	int r;

	pthread_mutex_lock(&vm->buses.lock);
	r = find_removable(vm, id, &dev);
	pthread_mutex_unlock(&vm->buses.lock);
	if (r < 0)
		return r;
	if (!force && (dev = vc_dev_visit_from(&vm->buses, &visit, id))) {
		if (dev->id == id)
			r = ask_guest(vm, dev);
		vc_dev_leave(&vm->buses, &visit);
	}
	return r ? r : remove_now(vm, id, false);
}

void vc_vm_slot_off(void *ctx, uint32_t id)
{
	remove_now(ctx, id, true);
}

void vc_vm_wanted(void *ctx, uint32_t id)
{
	struct vcore_vm *vm = ctx;

	if (vc_vm_remove_device(vm, id, false) < 0)
		vc_log(&vm->log, VCORE_LOG_WARN, "%s", vcore_error_message());
}

void vc_vm_forget_leaving(struct vcore_vm *vm)
{
	pthread_mutex_lock(&vm->buses.lock);
	for (struct vc_dev *dev = vm->buses.devices; dev; dev = dev->next)
		dev->leaving = false;
	pthread_mutex_unlock(&vm->buses.lock);
}
