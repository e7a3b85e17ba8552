/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Firecracker's API before the vm starts: each request is looked at as a whole, and kept until then. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api.h"

/* ---- what several of them ask ---- */

int api_index_of(struct json_object *list, const char *key, const char *id)
{
	for (size_t i = 0; i < json_object_array_length(list); i++)
		if (!strcmp(api_string(json_object_array_get_idx(list, i), key), id))
			return (int)i;
	return -1;
}

/* The ID of the list's element, other than that one's, that has the flag set; NULL. */
static const char *flagged(struct json_object *list, const char *key, const char *flag, const char *but)
{
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *object = json_object_array_get_idx(list, i);

		if (api_bool(object, flag, false) && (!but || strcmp(api_string(object, key), but) != 0))
			return api_string(object, key);
	}
	return NULL;
}

bool api_no_limit(struct json_object *object, const char *name, struct api_reply *reply)
{
	struct json_object *limiter = api_member(object, name);

	if (!limiter)
		return true;
	json_object_object_foreach(limiter, kind, bucket)
	{
		if (api_int(bucket, "size", 0) && api_int(bucket, "refill_time", 0))
			return api_fault(reply, "The requested operation is not supported: %s.%s: there are no rate limiters", name,
			                 kind);
	}
	return true;
}

static bool can_open(const char *path, int flags, const char *what, struct api_reply *reply)
{
	int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	bool good;

	if (fd < 0)
		return api_fault(reply, "%s: %.200s: %s", what, path, strerror(errno));
	good = fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
	close(fd);
	return good || api_fault(reply, "%s: %.200s: expected a file or a block device", what, path);
}

static bool is_made_of(const char *text, const char *letters)
{
	return text[strspn(text, letters)] == '\0';
}

static int64_t memory_mib(struct api *api)
{
	return api_int(api_member(api->config, "machine-config"), "mem_size_mib", 0);
}

/* ---- each of them ---- */

bool api_check_machine(struct api *api, struct json_object *body, struct api_reply *reply)
{
	int64_t vcpus = api_int(body, "vcpu_count", 1), memory = api_int(body, "mem_size_mib", 1);
	const char *template = api_string(body, "cpu_template"), *pages = api_string(body, "huge_pages");

	if (api_bool(body, "smt", false) && vcpus > 1 && vcpus % 2)
		return api_fault(reply, "The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even "
		                        "number if SMT is enabled.");
	if (strcmp(pages, "None") != 0 && memory % 2)
		return api_fault(reply, "The memory size (MiB) is either 0, or not a multiple of the configured page size.");
	if (template && !strcmp(template, "V1N1"))
		return api_fault(reply, "The requested operation is not supported: cpu_template V1N1 is for ARM");
	if (memory < api_int(api_member(api->config, "balloon"), "amount_mib", 0))
		return api_fault(reply, "The memory size (MiB) is smaller than the previously set balloon device target size.");
	return true;
}

bool api_check_boot(struct api *api, struct json_object *body, struct api_reply *reply)
{
	const char *initrd = api_string(body, "initrd_path");

	return can_open(api_string(body, "kernel_image_path"), O_RDONLY, "The kernel file cannot be opened", reply) &&
	       (!initrd || can_open(initrd, O_RDONLY, "The initrd file cannot be opened", reply));
}

bool api_check_cpu(struct api *api, struct json_object *body, struct api_reply *reply)
{
	json_object_object_foreach(body, name, list)
	{
		if (json_object_array_length(list))
			return api_fault(
			    reply, "The requested operation is not supported: %s: choose the CPU by --cpu MODEL,-FEATURE", name);
	}
	return true;
}

static bool check_root(struct api *api, const char *drive, const char *pmem, struct api_reply *reply)
{
	if (flagged(api_member(api->config, "drives"), "drive_id", "is_root_device", drive))
		return api_fault(reply, "A root block device already exists!");
	if (flagged(api_member(api->config, "pmem"), "id", "root_device", pmem))
		return api_fault(reply, "Attempt to add block as a root device while the root device defined as a pmem device");
	return true;
}

bool api_check_drive(struct api *api, struct json_object *body, struct api_reply *reply)
{
	const char *path = api_string(body, "path_on_host"), *uuid = api_string(body, "partuuid");
	const char *socket = api_string(body, "socket");

	if (!path == !socket || (path && !api_member(body, "is_read_only")))
		return api_fault(reply, "A drive needs either path_on_host and is_read_only, or socket");
	if (socket && (api_member(body, "is_read_only") || api_member(body, "io_engine")))
		return api_fault(reply, "A drive with a socket has neither is_read_only nor io_engine");
	if (uuid && !is_made_of(uuid, "0123456789abcdefABCDEF-"))
		return api_fault(reply, "partuuid: expected hexadecimal digits and hyphens");
	if (api_bool(body, "is_root_device", false) && !check_root(api, api_string(body, "drive_id"), NULL, reply))
		return false;
	if (!api_no_limit(body, "rate_limiter", reply))
		return false;
	return socket || can_open(path, api_bool(body, "is_read_only", false) ? O_RDONLY : O_RDWR,
	                          "Unable to create the virtio block device", reply);
}

bool api_check_pmem(struct api *api, struct json_object *body, struct api_reply *reply)
{
	if (api_bool(body, "root_device", false) && !check_root(api, NULL, api_string(body, "id"), reply))
		return false;
	return api_no_limit(body, "rate_limiter", reply) &&
	       can_open(api_string(body, "path_on_host"), api_bool(body, "read_only", false) ? O_RDONLY : O_RDWR,
	                "Unable to create the virtio pmem device", reply);
}

static bool is_mac(const char *text)
{
	unsigned bytes[6];
	int end = 0;

	return is_made_of(text, "0123456789abcdefABCDEF:") && strlen(text) == 17 &&
	       sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &bytes[0], &bytes[1], &bytes[2], &bytes[3], &bytes[4], &bytes[5],
	              &end) == 6 &&
	       end == 17;
}

bool api_check_net(struct api *api, struct json_object *body, struct api_reply *reply)
{
	struct json_object *list = api_member(api->config, "network-interfaces");
	const char *mac = api_string(body, "guest_mac"), *id = api_string(body, "iface_id");

	if (mac && !is_mac(mac))
		return api_fault(reply, "guest_mac: `%.40s` is no MAC address", mac);
	for (size_t i = 0; mac && i < json_object_array_length(list); i++) {
		struct json_object *other = json_object_array_get_idx(list, i);
		const char *others = api_string(other, "guest_mac");

		if (others && !strcasecmp(others, mac) && strcmp(api_string(other, "iface_id"), id) != 0)
			return api_fault(reply, "The MAC address is already in use: %s", mac);
	}
	return api_no_limit(body, "rx_rate_limiter", reply) && api_no_limit(body, "tx_rate_limiter", reply);
}

bool api_check_vsock(struct api *api, struct json_object *body, struct api_reply *reply)
{
	const char *path = api_string(body, "uds_path");

	return access(path, F_OK) < 0 || api_fault(reply, "Cannot create backend for vsock device: %.200s exists", path);
}

bool api_check_balloon(struct api *api, struct json_object *body, struct api_reply *reply)
{
	if (api_int(body, "amount_mib", 0) > memory_mib(api))
		return api_fault(reply, "Amount of pages requested is too large.");
	if (api_bool(body, "free_page_hinting", false))
		return api_fault(reply, "The requested operation is not supported: free_page_hinting; free_page_reporting is");
	return true;
}

bool api_check_entropy(struct api *api, struct json_object *body, struct api_reply *reply)
{
	struct json_object *ops = api_member(api_member(body, "rate_limiter"), "ops");

	return !(api_int(ops, "size", 0) && api_int(ops, "refill_time", 0)) ||
	       api_fault(reply, "The requested operation is not supported: rate_limiter.ops: there is only bandwidth");
}

bool api_check_serial(struct api *api, struct json_object *body, struct api_reply *reply)
{
	struct json_object *limiter = api_member(body, "rate_limiter");

	return !(api_int(limiter, "size", 0) && api_int(limiter, "refill_time", 0)) ||
	       api_fault(reply, "The requested operation is not supported: rate_limiter of the serial port");
}

bool api_check_memory(struct api *api, struct json_object *body, struct api_reply *reply)
{
	int64_t block = api_int(body, "block_size_mib", 2), slot = api_int(body, "slot_size_mib", 128);

	if (block & (block - 1) || slot % block || api_int(body, "total_size_mib", 0) % slot)
		return api_fault(reply,
		                 "total_size_mib must be a multiple of slot_size_mib, and that of block_size_mib, a power "
		                 "of 2");
	return true;
}

bool api_check_mmds_config(struct api *api, struct json_object *body, struct api_reply *reply)
{
	struct json_object *names = api_member(body, "network_interfaces");
	const char *address = api_string(body, "ipv4_address");
	struct in_addr in;
	uint32_t host;

	if (!json_object_array_length(names))
		return api_fault(reply, "The list of network interface IDs that allow forwarding MMDS requests is empty.");
	for (size_t i = 0; i < json_object_array_length(names); i++)
		if (api_index_of(api_member(api->config, "network-interfaces"), "iface_id",
		                 json_object_get_string(json_object_array_get_idx(names, i))) < 0)
			return api_fault(reply, "The list of network interface IDs provided contains at least one ID that does not "
			                        "correspond to any existing network interface.");
	if (!address)
		return true;
	host = inet_pton(AF_INET, address, &in) == 1 ? ntohl(in.s_addr) : 0;
	/* RFC 3927: the first and the last 256 of 169.254.0.0/16 are reserved */
	return (host >= 0xa9fe0100 && host < 0xa9feff00) || api_fault(reply, "The MMDS IPv4 address is not link local.");
}

/* ---- keeping them ---- */

void api_put_section(struct api *api, const struct api_handler *handler, const struct api_call *call,
                     struct api_reply *reply)
{
	if (handler->check && !handler->check(api, call->body, reply))
		return;
	json_object_object_add(api->config, handler->section, json_object_get(call->body));
	api->configured |= !handler->harmless;
}

/* The root device is the first one: /dev/vda. */
static void root_first(struct api *api, const char *section)
{
	struct json_object *list = api_member(api->config, section), *sorted = json_object_new_array();

	for (int pass = 1; pass >= 0; pass--)
		for (size_t i = 0; i < json_object_array_length(list); i++) {
			struct json_object *object = json_object_array_get_idx(list, i);

			if (api_bool(object, "is_root_device", false) == pass)
				json_object_array_add(sorted, json_object_get(object));
		}
	json_object_object_add(api->config, section, sorted);
}

void api_put_listed(struct api *api, const struct api_handler *handler, const struct api_call *call,
                    struct api_reply *reply)
{
	struct json_object *list = api_member(api->config, handler->section);
	int index = api_index_of(list, handler->key, call->id);

	if (!handler->check(api, call->body, reply))
		return;
	if (index < 0 && json_object_array_length(list) >= API_DEVICES_MAX) {
		api_fault(reply, "There are %d %s already, which is the most there can be", API_DEVICES_MAX, handler->section);
		return;
	}
	if (index < 0)
		json_object_array_add(list, json_object_get(call->body));
	else
		json_object_array_put_idx(list, (size_t)index, json_object_get(call->body));
	root_first(api, handler->section);
	api->configured = true;
}

static void copy_members(struct json_object *to, struct json_object *from)
{
	json_object_object_foreach(from, name, value)
	{
		json_object_object_add(to, name, json_object_get(value));
	}
}

/* PUT begins with the defaults, PATCH with what there is. */
void api_change_machine(struct api *api, const struct api_handler *handler, const struct api_call *call,
                        struct api_reply *reply)
{
	static const char defaults[] = "{\"vcpu_count\":1,\"mem_size_mib\":128,\"smt\":false,\"track_dirty_pages\":false,"
	                               "\"huge_pages\":\"None\"}";
	struct json_object *machine = json_object_new_object();
	struct json_object *base = call->op == API_PATCH_MACHINE
	                               ? json_object_get(api_member(api->config, handler->section))
	                               : json_tokener_parse(defaults);
	const char *template;

	copy_members(machine, base);
	json_object_put(base);
	if (call->body)
		copy_members(machine, call->body);
	template = api_string(machine, "cpu_template");
	if (template && !strcmp(template, "None"))
		json_object_object_del(machine, "cpu_template");
	if (!api_check_machine(api, machine, reply)) {
		json_object_put(machine);
		return;
	}
	json_object_object_add(api->config, handler->section, machine);
	api->configured = true;
}
