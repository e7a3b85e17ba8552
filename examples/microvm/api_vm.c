/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Firecracker's API: the vm is made of its configuration, started, held, and changed as it runs. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api.h"

#define DEFAULT_ARGS "reboot=k panic=1 8250.nr_uarts=0 i8042.noaux i8042.nomux"

/* ---- making it ---- */

/* The CPU that hosts of such a template have in common. */
static const struct {
	const char *template, *cpu;
} cpus[] = {
    {"C3", "x86-64-v2"}, {"T2", "x86-64-v3"}, {"T2S", "x86-64-v3"}, {"T2CL", "x86-64-v3"}, {"T2A", "x86-64-v3"}};

static const struct {
	const char *name;
	uint32_t flags;
} pages[] = {{"None", 0}, {"Transparent", VCORE_MEM_THP}, {"2M", VCORE_MEM_HUGE_2M}};

static bool shares_memory(struct api *api)
{
	struct json_object *drives = api_member(api->config, "drives");

	for (size_t i = 0; i < json_object_array_length(drives); i++)
		if (api_member(json_object_array_get_idx(drives, i), "socket"))
			return true;
	return false;
}

static struct vcore_options options_of(struct api *api)
{
	struct json_object *machine = api_member(api->config, "machine-config");
	const char *template = api_string(machine, "cpu_template"), *huge = api_string(machine, "huge_pages");
	struct vcore_options options = api->settings->vm;

	options.machine = VCORE_MACHINE_MICROVM;
	options.memory = (uint64_t)api_int(machine, "mem_size_mib", 128) << 20;
	options.vcpus = (uint32_t)api_int(machine, "vcpu_count", 1);
	options.log = api_log_line;
	options.log_ctx = api;
	options.log_level = api->log.level;
	if (shares_memory(api))
		options.memory_kind = VCORE_MEMORY_MEMFD;
	for (size_t i = 0; template && !options.cpu && i < sizeof cpus / sizeof cpus[0]; i++)
		if (!strcmp(cpus[i].template, template))
			options.cpu = cpus[i].cpu;
	for (size_t i = 0; huge && i < sizeof pages / sizeof pages[0]; i++)
		if (!strcmp(pages[i].name, huge))
			options.memory_flags = pages[i].flags;
	return options;
}

static const char *root_device(struct api *api, char *text, size_t length)
{
	struct json_object *drive = json_object_array_get_idx(api_member(api->config, "drives"), 0);
	struct json_object *pmem = api_member(api->config, "pmem");
	const char *uuid = api_string(drive, "partuuid");

	text[0] = '\0';
	if (api_bool(drive, "is_root_device", false))
		snprintf(text, length, " root=%s%s %s", uuid ? "PARTUUID=" : "/dev/vda", uuid ? uuid : "",
		         api_bool(drive, "is_read_only", false) ? "ro" : "rw");
	for (size_t i = 0; i < json_object_array_length(pmem); i++) {
		struct json_object *device = json_object_array_get_idx(pmem, i);

		if (api_bool(device, "root_device", false))
			snprintf(text, length, " root=/dev/pmem%zu %s", i, api_bool(device, "read_only", false) ? "ro" : "rw");
	}
	return text;
}

static int boot(struct api *api, vcore_vm *vm)
{
	struct json_object *source = api_member(api->config, "boot-source");
	const char *args = api_string(source, "boot_args");
	char root[API_TEXT_MAX + 64], line[2 * API_TEXT_MAX + 128];

	snprintf(line, sizeof line, "%s%s", args ? args : DEFAULT_ARGS, root_device(api, root, sizeof root));
	return vcore_boot_linux(vm, api_string(source, "kernel_image_path"), api_string(source, "initrd_path"), line);
}

static int add_devices(vcore_vm *vm, const struct api_plan *plan)
{
	int r = 0;

	for (unsigned i = 0; r >= 0 && i < plan->count; i++)
		r = vcore_device_add(vm, plan->devices[i].type, plan->devices[i].properties, NULL);
	return r;
}

static int run(struct api *api, vcore_vm *vm)
{
	uint64_t one = 1;
	int r = vcore_vm_start(vm);

	if (r >= 0) {
		api->started = true;
		api->state = API_RUNNING;
		r = write(api->event, &one, sizeof one) < 0 ? -errno : 0;
	}
	return r;
}

bool api_start(struct api *api, struct api_reply *reply)
{
	struct vcore_options options = options_of(api);
	struct api_plan plan;
	vcore_vm *vm = NULL;
	int r;

	if (!api_member(api->config, "boot-source"))
		return api_fault(reply, "Cannot start microvm without kernel configuration.");
	if (!api_plan_make(api, &plan, reply)) {
		api_plan_free(&plan);
		return false;
	}
	r = vcore_vm_new(&options, &vm);
	if (r >= 0)
		r = add_devices(vm, &plan);
	if (r >= 0)
		r = boot(api, vm);
	if (r >= 0)
		r = run(api, vm);
	api_plan_free(&plan);
	if (r < 0) {
		api_fault(reply, "Start microvm error: %s", vcore_error_message());
		vcore_vm_unref(vm);
		return false;
	}
	api->vm = vm;
	return true;
}

/* ---- holding it ---- */

void api_resume(struct api *api, struct api_reply *reply)
{
	int r;

	if (api->state == API_RUNNING)
		return;
	r = api->started ? vcore_vm_resume(api->vm) : run(api, api->vm);
	if (r < 0)
		api_fault(reply, "Internal VMM error: %s", vcore_error_message());
	else
		api->state = API_RUNNING;
}

void api_pause(struct api *api, struct api_reply *reply)
{
	if (api->state == API_PAUSED)
		return;
	if (vcore_vm_pause(api->vm) < 0)
		api_fault(reply, "Internal VMM error: %s", vcore_error_message());
	else
		api->state = API_PAUSED;
}

/* ---- changing it ---- */

/* The element that the call is about; NULL with the reply set. */
static struct json_object *listed(struct api *api, const struct api_handler *handler, const struct api_call *call,
                                  struct api_reply *reply)
{
	struct json_object *list = api_member(api->config, handler->section);
	int index = api_index_of(list, handler->key, call->id);

	if (index >= 0)
		return json_object_array_get_idx(list, (size_t)index);
	api_fault(reply, "Device not found: there is no %s of %s", call->id, handler->section);
	return NULL;
}

/* The disk of a drive. */
static vcore_device *disk_of(struct api *api, const struct json_object *drive)
{
	struct json_object *list = api_member(api->config, "drives");
	vcore_device *device;
	uint32_t index = 0;

	for (size_t i = 0; json_object_array_get_idx(list, i) != drive; i++)
		index += !api_member(json_object_array_get_idx(list, i), "socket");
	return vcore_vm_find_device(api->vm, "virtio-blk", index, &device) < 0 ? NULL : device;
}

/* The file has another size now. */
static bool tell_size(struct api *api, const struct json_object *drive, const char *path, struct api_reply *reply)
{
	vcore_device *disk = disk_of(api, drive);
	struct stat st;

	if (!disk || stat(path, &st) < 0)
		return api_fault(reply, "Unable to patch the block device: %.200s: %s", path,
		                 disk ? strerror(errno) : vcore_error_message());
	if (vcore_block_resize(disk, (uint64_t)st.st_size & ~511ull) < 0)
		return api_fault(reply, "Unable to patch the block device: %s", vcore_error_message());
	return true;
}

void api_patch_drive(struct api *api, const struct api_handler *handler, const struct api_call *call,
                     struct api_reply *reply)
{
	struct json_object *drive = listed(api, handler, call, reply);
	const char *path = api_string(call->body, "path_on_host"), *before = api_string(drive, "path_on_host");

	if (!drive || !api_no_limit(call->body, "rate_limiter", reply) || !path)
		return;
	if (!before || strcmp(path, before) != 0)
		api_fault(reply,
		          "The requested operation is not supported: path_on_host: a drive keeps its file; the same path "
		          "tells the guest of its new size");
	else
		tell_size(api, drive, path, reply);
}

void api_patch_limits(struct api *api, const struct api_handler *handler, const struct api_call *call,
                      struct api_reply *reply)
{
	static const char *const names[] = {"rate_limiter", "rx_rate_limiter", "tx_rate_limiter"};

	if (!listed(api, handler, call, reply))
		return;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (!api_no_limit(call->body, names[i], reply))
			return;
}

/* The only device of its type; NULL with the reply set. */
static vcore_device *only(struct api *api, const struct api_handler *handler, const char *type, struct api_reply *reply)
{
	vcore_device *device;

	if (api_member(api->config, handler->section) && vcore_vm_find_device(api->vm, type, 0, &device) >= 0)
		return device;
	api_fault(reply, "No %s device found.", handler->section);
	return NULL;
}

void api_patch_balloon(struct api *api, const struct api_handler *handler, const struct api_call *call,
                       struct api_reply *reply)
{
	vcore_device *balloon = only(api, handler, "virtio-balloon", reply);
	int64_t mib = api_int(call->body, "amount_mib", 0);

	if (!balloon)
		return;
	if (mib > api_int(api_member(api->config, "machine-config"), "mem_size_mib", 0))
		api_fault(reply, "Balloon update error: Amount of pages requested is too large.");
	else if (vcore_balloon_set_target(balloon, (uint64_t)mib << 20) < 0)
		api_fault(reply, "Balloon update error: %s", vcore_error_message());
	else
		json_object_object_add(api_member(api->config, handler->section), "amount_mib", json_object_new_int64(mib));
}

static int64_t polling(struct api *api)
{
	return api_int(api_member(api->config, "balloon"), "stats_polling_interval_s", 0);
}

void api_get_balloon_stats(struct api *api, const struct api_handler *handler, const struct api_call *call,
                           struct api_reply *reply)
{
	vcore_device *balloon = only(api, handler, "virtio-balloon", reply);
	struct vcore_balloon_stats s = {.size = sizeof s};

	if (!balloon)
		return;
	if (!polling(api)) {
		api_fault(reply, "Statistics for the balloon device are not enabled");
		return;
	}
	if (vcore_balloon_get_stats(balloon, &s) < 0) {
		api_fault(reply, "Internal VMM error: %s", vcore_error_message());
		return;
	}
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = {
	    {"target_pages", s.target >> 12},
	    {"actual_pages", s.actual >> 12},
	    {"target_mib", s.target >> 20},
	    {"actual_mib", s.actual >> 20},
	    {"swap_in", s.swap_in},
	    {"swap_out", s.swap_out},
	    {"major_faults", s.major_faults},
	    {"minor_faults", s.minor_faults},
	    {"free_memory", s.free_memory},
	    {"total_memory", s.total_memory},
	    {"available_memory", s.available_memory},
	    {"disk_caches", s.disk_caches},
	    {"hugetlb_allocations", s.hugetlb_allocations},
	    {"hugetlb_failures", s.hugetlb_failures},
	};
	reply->status = 200;
	reply->body = json_object_new_object();
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (rows[i].value != UINT64_MAX)
			json_object_object_add(reply->body, rows[i].name, json_object_new_int64((int64_t)rows[i].value));
}

void api_patch_balloon_stats(struct api *api, const struct api_handler *handler, const struct api_call *call,
                             struct api_reply *reply)
{
	int64_t seconds = api_int(call->body, "stats_polling_interval_s", 0);

	if (!only(api, handler, "virtio-balloon", reply))
		return;
	if (!polling(api) != !seconds)
		api_fault(reply, "Balloon update error: The statistics cannot be enabled/disabled after activation.");
	else
		json_object_object_add(api_member(api->config, handler->section), "stats_polling_interval_s",
		                       json_object_new_int64(seconds));
}

void api_get_memory(struct api *api, const struct api_handler *handler, const struct api_call *call,
                    struct api_reply *reply)
{
	vcore_device *memory = only(api, handler, "virtio-mem", reply);
	struct vcore_virtio_mem_info info = {.size = sizeof info};
	struct json_object *section = api_member(api->config, handler->section);

	if (!memory)
		return;
	if (vcore_virtio_mem_get_info(memory, &info) < 0) {
		api_fault(reply, "Internal VMM error: %s", vcore_error_message());
		return;
	}
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = {
	    {"total_size_mib", info.region_size >> 20},
	    {"slot_size_mib", (uint64_t)api_int(section, "slot_size_mib", 128)},
	    {"block_size_mib", info.block_size >> 20},
	    {"plugged_size_mib", info.plugged_size >> 20},
	    {"requested_size_mib", info.requested_size >> 20},
	};
	reply->status = 200;
	reply->body = json_object_new_object();
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		json_object_object_add(reply->body, rows[i].name, json_object_new_int64((int64_t)rows[i].value));
}

void api_patch_memory(struct api *api, const struct api_handler *handler, const struct api_call *call,
                      struct api_reply *reply)
{
	vcore_device *memory = only(api, handler, "virtio-mem", reply);
	uint64_t bytes = (uint64_t)api_int(call->body, "requested_size_mib", 0) << 20;

	if (memory && vcore_virtio_mem_resize(memory, bytes) < 0)
		api_fault(reply, "Memory hotplug update error: %s", vcore_error_message());
}
