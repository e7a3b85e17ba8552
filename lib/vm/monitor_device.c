/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The monitor's commands about devices. */
#include <virtcore/block.h>
#include <virtcore/net.h>

#include "device/device.h"
#include "vm/monitor.h"

static void describe_regions(struct vc_buses *buses, const struct vc_dev *dev, struct json_object *out)
{
	static const char *const names[VC_BUS_COUNT] = {
	    [VCORE_BUS_PIO] = "pio", [VCORE_BUS_MMIO] = "mmio", [VCORE_BUS_HYPERCALL] = "hypercall"};

	for (unsigned bus = 0; bus < VC_BUS_COUNT; bus++) {
		const struct vc_bus_map *map = buses->map[bus];

		for (uint32_t i = 0; map && i < map->count; i++) {
			struct json_object *region;

			if (map->regions[i].dev != dev)
				continue;
			region = json_object_new_object();
			vc_mon_add_string(region, "bus", names[bus]);
			vc_mon_add_number(region, "start", map->regions[i].start);
			vc_mon_add_number(region, "length", map->regions[i].length);
			vc_mon_append(out, region);
		}
	}
}

static struct json_object *describe_statistics(const struct vc_dev *dev)
{
	struct json_object *object = json_object_new_object();
	struct vc_stat stats[VC_STATS_MAX];
	unsigned count = dev->statistics(dev->frontend, stats);

	for (unsigned i = 0; i < count; i++)
		vc_mon_add_number(object, stats[i].name, stats[i].value);
	return object;
}

/* The device is visited: it stays, and its counters may be asked for. */
static struct json_object *describe_device(struct vc_buses *buses, const struct vc_dev *dev)
{
	struct json_object *device = json_object_new_object(), *regions = json_object_new_array();
	bool counts;

	pthread_mutex_lock(&buses->lock);
	vc_mon_add_number(device, "id", dev->id);
	vc_mon_add_string(device, "type", dev->type);
	vc_mon_add_bool(device, "removable", dev->removable);
	if (dev->leaving)
		vc_mon_add_bool(device, "leaving", true);
	describe_regions(buses, dev, regions);
	counts = dev->statistics != NULL;
	pthread_mutex_unlock(&buses->lock);
	vc_mon_add(device, "regions", regions);
	if (counts)
		vc_mon_add(device, "statistics", describe_statistics(dev));
	return device;
}

static int query_devices(struct vc_mon_call *call)
{
	struct vc_buses *buses = &call->vm->buses;
	struct vc_visit visit;
	struct vc_dev *dev;

	call->result = json_object_new_array();
	for (uint32_t id = 0; (dev = vc_dev_visit_from(buses, &visit, id));) {
		vc_mon_append(call->result, describe_device(buses, dev));
		id = dev->id + 1;
		vc_dev_leave(buses, &visit);
	}
	return 0;
}

/* Do something with the device that the argument `id` names, which stays meanwhile. */
static int with_device(struct vc_mon_call *call, int (*act)(struct vc_mon_call *call, vcore_device *device))
{
	struct vc_buses *buses = &call->vm->buses;
	uint32_t id = (uint32_t)vc_mon_number(call, "id", 0);
	struct vc_visit visit;
	struct vc_dev *dev = vc_dev_visit_from(buses, &visit, id);
	int r;

	if (!dev)
		return vc_fail(ENOENT, "there is no device %u", id);
	r = dev->id == id ? act(call, (vcore_device *)dev) : vc_fail(ENOENT, "there is no device %u", id);
	vc_dev_leave(buses, &visit);
	return r;
}

/* "name  summary" a line, as device types have it. */
static struct json_object *describe_properties(const char *text)
{
	struct json_object *array = json_object_new_array();

	while (text && *text) {
		size_t line = strcspn(text, "\n"), name = strcspn(text, " \n");
		size_t summary = name + strspn(text + name, " ");
		struct json_object *property = json_object_new_object();

		vc_mon_add(property, "name", json_object_new_string_len(text, (int)name));
		vc_mon_add(property, "help", json_object_new_string_len(text + summary, (int)(line - summary)));
		vc_mon_append(array, property);
		text += line + (text[line] == '\n');
	}
	return array;
}

static int device_types(struct vc_mon_call *call)
{
	const char *name, *summary, *properties;

	call->result = json_object_new_array();
	for (uint32_t i = 0; vcore_device_describe(i, &name, &summary, &properties) == 0; i++) {
		struct json_object *type = json_object_new_object();

		vc_mon_add_string(type, "name", name);
		vc_mon_add_string(type, "help", summary);
		vc_mon_add(type, "properties", describe_properties(properties));
		vc_mon_append(call->result, type);
	}
	return 0;
}

static int device_add(struct vc_mon_call *call)
{
	struct json_object *properties = NULL;

	uint32_t id;
	int r;

	json_object_object_get_ex(call->arguments, "properties", &properties);
	r = vc_vm_add_device(call->vm, vc_mon_string(call, "type", ""),
	                     properties ? json_object_to_json_string_ext(properties, JSON_C_TO_STRING_PLAIN) : NULL, NULL,
	                     &id);
	if (r < 0)
		return r;
	call->result = json_object_new_object();
	vc_mon_add_number(call->result, "id", id);
	return 0;
}

static int device_remove(struct vc_mon_call *call)
{
	int r = vc_vm_remove_device(call->vm, (uint32_t)vc_mon_number(call, "id", 0), vc_mon_bool(call, "force", false));

	if (r > 0) {
		call->result = json_object_new_object();
		vc_mon_add_bool(call->result, "leaving", true);
	}
	return r;
}

static int resize_device(struct vc_mon_call *call, vcore_device *device)
{
	return vcore_block_resize(device, vc_mon_number(call, "size", 0));
}

static int block_resize(struct vc_mon_call *call)
{
	return with_device(call, resize_device);
}

static int set_link(struct vc_mon_call *call, vcore_device *device)
{
	return vcore_net_set_link(device, vc_mon_bool(call, "up", true));
}

static int net_link(struct vc_mon_call *call)
{
	return with_device(call, set_link);
}

static int renew_mac(struct vc_mon_call *call, vcore_device *device)
{
	return vcore_net_set_mac(device, NULL);
}

static int net_new_mac(struct vc_mon_call *call)
{
	return with_device(call, renew_mac);
}

static const struct vc_mon_arg add_args[] = {
    {"type", VC_MON_STRING, true, 0, "a name of device-types"},
    {"properties", VC_MON_OBJECT, false, 0, "the device's own, by name"},
    {0},
};
#define ID_ARG                                                                             \
	{                                                                                      \
		"id", VC_MON_NUMBER, true, UINT32_MAX, "as query-devices and DEVICE_ADDED tell it" \
	}
static const struct vc_mon_arg remove_args[] = {
    ID_ARG, {"force", VC_MON_BOOL, false, 0, "at once, without asking the guest"}, {0}};
static const struct vc_mon_arg resize_args[] = {
    ID_ARG, {"size", VC_MON_NUMBER, true, INT64_MAX, "bytes, a multiple of 512"}, {0}};
static const struct vc_mon_arg link_args[] = {ID_ARG, {"up", VC_MON_BOOL, true, 0, "whether the cable is in"}, {0}};
static const struct vc_mon_arg id_args[] = {ID_ARG, {0}};
const struct vc_mon_command vc_mon_device_commands[] = {
    {"query-devices", "the devices, where they answer, which can be removed, and what they have counted", NULL,
     query_devices},
    {"device-types", "what devices there could be, with their properties", NULL, device_types},
    {"device-add", "add a device; its id is returned", add_args, device_add},
    {"device-remove",
     "remove a device, one in a hot-plug slot when the guest has let go of it: DEVICE_REMOVED tells when", remove_args,
     device_remove},
    {"block-resize", "give a disk another size, of which the guest is told", resize_args, block_resize},
    {"net-link", "pull a network card's cable, or put it in again", link_args, net_link},
    {"net-new-mac", "give a virtio-net another random address, which its driver takes when it is bound again", id_args,
     net_new_mac},
    {0},
};
