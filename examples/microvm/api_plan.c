/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Firecracker's API: the devices that its configuration stands for, as the library's types with their properties. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "api_mmds.h"

static bool add_text(struct api_plan *plan, const char *type, const char *properties, struct api_reply *reply)
{
	char *copy = strdup(properties);

	if (!copy || plan->count == sizeof plan->devices / sizeof plan->devices[0]) {
		free(copy);
		return api_fault(reply, "Too many devices, or no memory for one more");
	}
	plan->devices[plan->count++] = (struct api_device){.type = type, .properties = copy};
	return true;
}

/* Takes the properties. The transport is Firecracker's. */
static bool add(struct api_plan *plan, const char *type, struct json_object *properties, struct api_reply *reply)
{
	bool good;

	json_object_object_add(properties, "transport", json_object_new_string("mmio"));
	good = add_text(plan, type, json_object_to_json_string_ext(properties, JSON_C_TO_STRING_PLAIN), reply);
	json_object_put(properties);
	return good;
}

static void set(struct json_object *properties, const char *name, const char *value)
{
	if (value)
		json_object_object_add(properties, name, json_object_new_string(value));
}

static void set_flag(struct json_object *properties, const char *name, bool on)
{
	set(properties, name, on ? "on" : "off");
}

static void set_number(struct json_object *properties, const char *name, int64_t value)
{
	json_object_object_add(properties, name, json_object_new_int64(value));
}

/* ---- of each kind ---- */

static bool add_drive(struct api *api, struct json_object *drive, struct api_plan *plan, struct api_reply *reply)
{
	struct json_object *properties = json_object_new_object();
	const char *id = api_string(drive, "drive_id"), *cache = api_string(drive, "cache_type");
	const char *socket = api_string(drive, "socket");
	char serial[21];

	if (socket) {
		set(properties, "socket", socket);
		return add(plan, "vhost-user-blk", properties, reply);
	}
	snprintf(serial, sizeof serial, "%s", id);
	set(properties, "image", api_string(drive, "path_on_host"));
	/* a guest must not make its raw disk look like another format */
	set(properties, "format", "raw");
	set_flag(properties, "readonly", api_bool(drive, "is_read_only", false));
	set(properties, "cache", cache && !strcmp(cache, "Writeback") ? "writeback" : "unsafe");
	set(properties, "serial", serial);
	return add(plan, "virtio-blk", properties, reply);
}

static bool add_net(struct api *api, struct json_object *nic, struct api_plan *plan, struct api_reply *reply)
{
	struct json_object *properties = json_object_new_object();
	const char *tap = api_string(nic, "host_dev_name");
	struct json_object *mmds = api_member(api->config, "mmds-config");
	char number[16];
	int fd;

	set(properties, "mac", api_string(nic, "guest_mac"));
	if (api_member(nic, "mtu"))
		set_number(properties, "mtu", api_int(nic, "mtu", 0));
	if (mmds_serves(mmds, api_string(nic, "iface_id"))) {
		fd = mmds_net_open(api->mmds, mmds, tap);
		if (fd < 0) {
			json_object_put(properties);
			return api_fault(reply, "Cannot open/create the tap device: %.40s: %s", tap, mmds_error(api->mmds));
		}
		snprintf(number, sizeof number, "%d", fd);
		set(properties, "net", "socket");
		set(properties, "fd", number);
	} else {
		set(properties, "net", "tap");
		set(properties, "ifname", tap);
	}
	return add(plan, "virtio-net", properties, reply);
}

static bool add_pmem(struct api *api, struct json_object *pmem, struct api_plan *plan, struct api_reply *reply)
{
	struct json_object *properties = json_object_new_object();

	set(properties, "image", api_string(pmem, "path_on_host"));
	set_flag(properties, "share", !api_bool(pmem, "read_only", false));
	return add(plan, "virtio-pmem", properties, reply);
}

static bool add_vsock(struct api *api, struct json_object *vsock, struct api_plan *plan, struct api_reply *reply)
{
	struct json_object *properties = json_object_new_object();

	set_number(properties, "cid", api_int(vsock, "guest_cid", 3));
	set(properties, "path", api_string(vsock, "uds_path"));
	return add(plan, "virtio-vsock", properties, reply);
}

static bool add_balloon(struct api *api, struct json_object *balloon, struct api_plan *plan, struct api_reply *reply)
{
	struct json_object *properties = json_object_new_object();

	set_number(properties, "target", api_int(balloon, "amount_mib", 0) << 20);
	set_flag(properties, "deflate_on_oom", api_bool(balloon, "deflate_on_oom", false));
	set_flag(properties, "reporting", api_bool(balloon, "free_page_reporting", false));
	return add(plan, "virtio-balloon", properties, reply);
}

static bool add_entropy(struct api *api, struct json_object *entropy, struct api_plan *plan, struct api_reply *reply)
{
	struct json_object *properties = json_object_new_object();
	struct json_object *bucket = api_member(api_member(entropy, "rate_limiter"), "bandwidth");
	int64_t size = api_int(bucket, "size", 0), ms = api_int(bucket, "refill_time", 0);
	double rate = ms ? (double)size * 1000 / (double)ms : 0;

	if (rate > 0)
		set_number(properties, "rate", rate < 1 ? 1 : rate > 1e15 ? (int64_t)1e15 : (int64_t)rate);
	return add(plan, "virtio-rng", properties, reply);
}

static bool add_memory(struct api *api, struct json_object *memory, struct api_plan *plan, struct api_reply *reply)
{
	struct json_object *properties = json_object_new_object();

	set_number(properties, "size", api_int(memory, "total_size_mib", 0) << 20);
	set_number(properties, "block_size", api_int(memory, "block_size_mib", 2) << 20);
	return add(plan, "virtio-mem", properties, reply);
}

/* Opened once, for a start that fails may be tried again. */
static bool add_uart(struct api *api, struct api_plan *plan, struct api_reply *reply)
{
	const char *path = api_string(api_member(api->config, "serial"), "serial_out_path");
	char text[4200];

	if (path) {
		struct json_object *properties = json_object_new_object();
		bool good;

		snprintf(text, sizeof text, "file:%s", path);
		set(properties, "output", text);
		good = add_text(plan, "uart", json_object_to_json_string_ext(properties, JSON_C_TO_STRING_PLAIN), reply);
		json_object_put(properties);
		return good;
	}
	if (!api->uart) {
		int r = console_open(api->console, api->settings->serial ? api->settings->serial : "stdio", text, sizeof text);

		if (r < 0)
			return api_fault(reply, "The serial port cannot be opened");
		api->uart = strdup(r == 1 ? "input=null,output=null" : text);
	}
	return api->uart && add_text(plan, "uart", api->uart, reply);
}

static const struct {
	const char *section;
	bool is_list;
	bool (*add)(struct api *api, struct json_object *object, struct api_plan *plan, struct api_reply *reply);
} kinds[] = {
    {"drives", true, add_drive},           {"network-interfaces", true, add_net}, {"pmem", true, add_pmem},
    {"vsock", false, add_vsock},           {"balloon", false, add_balloon},       {"entropy", false, add_entropy},
    {"memory-hotplug", false, add_memory},
};

bool api_plan_make(struct api *api, struct api_plan *plan, struct api_reply *reply)
{
	bool good;

	*plan = (struct api_plan){0};
	mmds_net_close(api->mmds);
	good = add_uart(api, plan, reply);
	for (size_t k = 0; good && k < sizeof kinds / sizeof kinds[0]; k++) {
		struct json_object *section = api_member(api->config, kinds[k].section);
		size_t count = !section ? 0 : kinds[k].is_list ? json_object_array_length(section) : 1;

		for (size_t i = 0; good && i < count; i++)
			good = kinds[k].add(api, kinds[k].is_list ? json_object_array_get_idx(section, i) : section, plan, reply);
	}
	return good;
}

void api_plan_free(struct api_plan *plan)
{
	for (unsigned i = 0; i < plan->count; i++)
		free(plan->devices[i].properties);
	plan->count = 0;
}
