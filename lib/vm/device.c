/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Devices as the program sees them: a vcore_device is a struct vc_dev. */
#include "device/device.h"

#include <stdio.h>
#include <stdlib.h>

#include "vm/vm.h"

static struct vc_dev *dev_of(vcore_device *device)
{
	return (struct vc_dev *)device;
}

static void tell(struct vcore_vm *vm, enum vc_vm_event_kind kind, uint32_t id, const char *type)
{
	vc_vm_tell(vm, &(struct vc_vm_event){.kind = kind, .device = id, .type = type});
}

/* The library's own ops struct, whatever size the caller's has; fails without having called destroy. */
static int copy_ops(struct vcore_device_ops *to, const struct vcore_device_ops *from)
{
	return vc_struct_in(to, sizeof *to, from) < 0 ? vc_fail(EINVAL, "vcore_io_add: ops.size is not set") : 0;
}

static int add_region(struct vcore_vm *vm, struct vc_dev *dev, enum vcore_bus bus, uint64_t start, uint64_t length)
{
	const struct vc_backend *ops = vm->bvm.ops;
	int r = bus == VCORE_BUS_HYPERCALL && ops->hypercalls ? ops->hypercalls(&vm->bvm, true) : 0;

	return r < 0 ? r : vc_dev_add_region(&vm->buses, NULL, dev, bus, start, length);
}

int vcore_io_add(vcore_vm *vm, enum vcore_bus bus, uint64_t start, uint64_t length, const struct vcore_device_ops *ops,
                 void *ctx, vcore_device **device)
{
	struct vcore_device_ops copy;
	struct vc_dev *dev;
	int r = copy_ops(&copy, ops);

	if (r < 0)
		return r;
	if (!vm) {
		if (copy.destroy)
			copy.destroy(ctx);
		return vc_fail(EINVAL, "vcore_io_add: no vm given");
	}
	r = vc_dev_add(&vm->buses, "custom", &copy, ctx, &dev);
	if (r < 0)
		return r;
	dev->owner = vm;
	r = add_region(vm, dev, bus, start, length);
	if (r < 0) {
		vc_dev_remove(&vm->buses, NULL, dev);
		return r;
	}
	if (device)
		*device = (vcore_device *)dev;
	tell(vm, VC_EVENT_DEVICE_ADDED, dev->id, "custom");
	return 0;
}

int vcore_io_add_region(vcore_device *device, enum vcore_bus bus, uint64_t start, uint64_t length)
{
	struct vcore_vm *vm;

	if (!device)
		return vc_fail(EINVAL, "vcore_io_add_region: no device given");
	vm = dev_of(device)->owner;
	return add_region(vm, dev_of(device), bus, start, length);
}

/* Whether [start, start+length) lies inside one region of dev. */
static bool inside_region(struct vcore_vm *vm, const struct vc_dev *dev, enum vcore_bus bus, uint64_t start,
                          uint64_t length)
{
	bool found = false;

	pthread_mutex_lock(&vm->buses.lock);
	for (uint32_t i = 0; vm->buses.map[bus] && i < vm->buses.map[bus]->count; i++) {
		const struct vc_region *r = &vm->buses.map[bus]->regions[i];

		if (r->dev == dev && start >= r->start && length <= r->length && start - r->start <= r->length - length)
			found = true;
	}
	pthread_mutex_unlock(&vm->buses.lock);
	return found;
}

/* Tell the backend of a range, once. */
static int add_zone(struct vcore_vm *vm, const struct vc_zone *model)
{
	struct vc_zone *zone = malloc(sizeof *zone);
	int r = 0;

	if (!zone)
		return vc_fail(ENOMEM, "vcore_io_coalesce: no memory");
	*zone = *model;
	pthread_mutex_lock(&vm->doorbells);
	for (const struct vc_zone *z = vm->zones; z; z = z->next)
		if (z->dev == zone->dev && z->bus == zone->bus && z->start == zone->start && z->length == zone->length)
			r = 1;
	if (!r)
		r = vm->bvm.ops->coalesce(&vm->bvm, zone->bus, zone->start, zone->length, true);
	if (!r) {
		zone->next = vm->zones;
		vm->zones = zone;
		zone = NULL;
	}
	pthread_mutex_unlock(&vm->doorbells);
	free(zone);
	return r < 0 ? r : 0;
}

/* The backend forgets the ranges of a device that goes, or its address would swallow writes; what waits is delivered.
 */
static void forget_zones(struct vcore_vm *vm, const struct vc_dev *dev)
{
	bool any = false;

	pthread_mutex_lock(&vm->doorbells);
	for (struct vc_zone **p = &vm->zones; *p;) {
		struct vc_zone *zone = *p;

		if (zone->dev != dev) {
			p = &zone->next;
			continue;
		}
		vm->bvm.ops->coalesce(&vm->bvm, zone->bus, zone->start, zone->length, false);
		*p = zone->next;
		free(zone);
		any = true;
	}
	pthread_mutex_unlock(&vm->doorbells);
	/* not from inside a callback, which may hold a lock of the program's that the device's write wants */
	if (any && vm->bvm.ops->flush_coalesced && !vc_vm_is_own_thread(vm))
		vm->bvm.ops->flush_coalesced(&vm->bvm);
}

void vc_vm_free_zones(struct vcore_vm *vm)
{
	while (vm->zones) {
		struct vc_zone *zone = vm->zones;

		vm->zones = zone->next;
		free(zone);
	}
}

int vcore_io_coalesce(vcore_device *device, enum vcore_bus bus, uint64_t start, uint64_t length)
{
	struct vcore_vm *vm;

	if (!device || bus > VCORE_BUS_MMIO || !length)
		return vc_fail(EINVAL, "vcore_io_coalesce: a device, a bus of 0 (ports) or 1 (MMIO) and a length are needed");
	vm = dev_of(device)->owner;
	if (!inside_region(vm, dev_of(device), bus, start, length))
		return vc_fail(EINVAL, "vcore_io_coalesce: [%#llx, +%#llx) is not inside a region of the device",
		               (unsigned long long)start, (unsigned long long)length);
	return vm->bvm.ops->coalesce ? add_zone(vm, &(struct vc_zone){NULL, dev_of(device), bus, start, length}) : 0;
}

static int unknown_type(const char *type)
{
	char known[512] = "";
	size_t used = 0;

	for (const struct vc_device_type *const *t = vc_device_types; *t && used < sizeof known; t++)
		used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", (*t)->name);
	return vc_fail(ENOENT, "there is no device type \"%s\": expected one of %s", type, known);
}

/* The device is whole. Who is given no handle leaves it to others to remove. */
static uint32_t announce(struct vcore_vm *vm, struct vc_dev *dev, const struct vc_device_type *type, bool handle)
{
	/* as soon as it is removable it may be gone */
	uint32_t id = dev->id;

	tell(vm, VC_EVENT_DEVICE_ADDED, id, type->name);
	pthread_mutex_lock(&vm->buses.lock);
	dev->removable = !handle && !dev->fixed;
	pthread_mutex_unlock(&vm->buses.lock);
	return id;
}

int vc_vm_add_device(struct vcore_vm *vm, const char *name, const char *properties, vcore_device **device, uint32_t *id)
{
	const struct vc_device_type *type;
	struct vc_props *props;
	struct vc_dev *dev = NULL;
	int r;

	if (!vm || !name)
		return vc_fail(EINVAL, "vcore_device_add: a vm and a device type are needed");
	type = vc_device_type_find(name);
	if (!type)
		return unknown_type(name);
	r = vc_props_parse(properties, &props);
	if (r < 0)
		return r;
	r = type->create(&vm->bvm.env, props, &dev);
	if (r >= 0) {
		dev->owner = vm;
		dev->properties = strdup(properties ? properties : "");
		r = dev->properties ? vc_props_finish(props, name) : vc_fail(ENOMEM, "no memory for a device's properties");
		if (r < 0)
			vc_dev_remove(&vm->buses, NULL, dev);
	}
	vc_props_free(props);
	if (r < 0)
		return r;
	if (device)
		*device = (vcore_device *)dev;
	*id = announce(vm, dev, type, device != NULL);
	return 0;
}

int vcore_device_add(vcore_vm *vm, const char *name, const char *properties, vcore_device **device)
{
	uint32_t id;

	return vc_vm_add_device(vm, name, properties, device, &id);
}

int vcore_vm_find_device(vcore_vm *vm, const char *type, uint32_t index, vcore_device **device)
{
	struct vc_dev *dev;
	uint32_t count = 0;

	if (!vm || !type || !device)
		return vc_fail(EINVAL, "vcore_vm_find_device: a vm, a type and room for the device are needed");
	pthread_mutex_lock(&vm->buses.lock);
	for (dev = vm->buses.devices; dev; dev = dev->next)
		if (!dev->removing && !strcmp(dev->type, type) && count++ == index)
			break;
	if (dev)
		dev->removable = false;
	pthread_mutex_unlock(&vm->buses.lock);
	if (!dev)
		return vc_fail(ENOENT, "there is no device %.40s %u: the vm has %u", type, index, count);
	*device = (vcore_device *)dev;
	return 0;
}

int vcore_device_remove(vcore_device *device)
{
	struct vcore_vm *vm;
	char type[sizeof dev_of(device)->type];
	uint32_t id;
	int r;

	if (!device)
		return vc_fail(EINVAL, "vcore_device_remove: no device given");
	if (dev_of(device)->fixed)
		return vc_fail(ENOTSUP, "device %s is a part of the machine type and cannot be removed", dev_of(device)->type);
	vm = dev_of(device)->owner;
	id = dev_of(device)->id;
	memcpy(type, dev_of(device)->type, sizeof type);
	forget_zones(vm, dev_of(device));
	r = vc_dev_remove(&vm->buses, NULL, dev_of(device));
	if (r >= 0)
		tell(vm, VC_EVENT_DEVICE_REMOVED, id, type);
	return r;
}

const char *vcore_device_type(vcore_device *device)
{
	return device ? dev_of(device)->type : "";
}

int vcore_device_describe(uint32_t index, const char **type, const char **summary, const char **properties)
{
	const struct vc_device_type *const *t = vc_device_types;

	while (*t && index-- > 0)
		t++;
	if (!*t)
		return vc_fail(ENOENT, "there are no more device types");
	if (type)
		*type = (*t)->name;
	if (summary)
		*summary = (*t)->summary;
	if (properties)
		*properties = (*t)->properties;
	return 0;
}
