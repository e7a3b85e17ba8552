/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The monitor's commands about devices. */
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

static int query_devices(struct vc_mon_call *call)
{
	struct vc_buses *buses = &call->vm->buses;

	call->result = json_object_new_array();
	pthread_mutex_lock(&buses->lock);
	for (const struct vc_dev *dev = buses->devices; dev; dev = dev->next) {
		struct json_object *device = json_object_new_object(), *regions = json_object_new_array();

		vc_mon_add_number(device, "id", dev->id);
		vc_mon_add_string(device, "type", dev->type);
		vc_mon_add_bool(device, "removable", dev->removable);
		describe_regions(buses, dev, regions);
		vc_mon_add(device, "regions", regions);
		vc_mon_append(call->result, device);
	}
	pthread_mutex_unlock(&buses->lock);
	return 0;
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
	return vc_vm_remove_device(call->vm, (uint32_t)vc_mon_number(call, "id", 0));
}

static const struct vc_mon_arg add_args[] = {
    {"type", VC_MON_STRING, true, 0, "a name of device-types"},
    {"properties", VC_MON_OBJECT, false, 0, "the device's own, by name"},
    {0},
};
static const struct vc_mon_arg remove_args[] = {
    {"id", VC_MON_NUMBER, true, UINT32_MAX, "as query-devices and DEVICE_ADDED tell it"}, {0}};

const struct vc_mon_command vc_mon_device_commands[] = {
    {"query-devices", "the devices, where they answer, and which can be removed", NULL, query_devices},
    {"device-types", "what devices there could be, with their properties", NULL, device_types},
    {"device-add", "add a device; its id is returned", add_args, device_add},
    {"device-remove", "remove a device", remove_args, device_remove},
    {0},
};
