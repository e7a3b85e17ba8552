/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Firecracker's API: snapshots. The memory file is a snapshot of the library's, devices' states and all. The other file
 * is JSON: the configuration, and which snapshot it belongs to.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api.h"

#define FORMAT     "libvirtcore-api"
#define VERSION    1
#define STATE_MAX  (1 << 20)
#define ID_LETTERS 33

/* ---- the state file ---- */

static void print_id(const vcore_snapshot *snapshot, char text[ID_LETTERS])
{
	struct vcore_snapshot_info info = {.size = sizeof info};

	text[0] = '\0';
	if (vcore_snapshot_get_info(snapshot, &info) < 0)
		return;
	for (size_t i = 0; i < sizeof info.id; i++)
		snprintf(text + 2 * i, 3, "%02x", info.id[i]);
}

/* Written beside the path and renamed: it is whole or what it was. */
static bool write_state(struct api *api, const vcore_snapshot *snapshot, const char *path, struct api_reply *reply)
{
	struct json_object *state = json_object_new_object();
	char id[ID_LETTERS], beside[API_TEXT_MAX + 16];
	int fd = -1, error = 0;
	const char *text;
	size_t length;

	print_id(snapshot, id);
	json_object_object_add(state, "format", json_object_new_string(FORMAT));
	json_object_object_add(state, "version", json_object_new_int(VERSION));
	json_object_object_add(state, "snapshot", json_object_new_string(id));
	json_object_object_add(state, "config", json_object_get(api->config));
	text = json_object_to_json_string_length(state, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE, &length);
	snprintf(beside, sizeof beside, "%s.XXXXXX", path);
	fd = mkostemp(beside, O_CLOEXEC);
	if (fd < 0 || write(fd, text, length) != (ssize_t)length)
		error = errno;
	if (fd >= 0 && close(fd) < 0 && !error)
		error = errno;
	if (!error && rename(beside, path) < 0)
		error = errno;
	if (error && fd >= 0)
		unlink(beside);
	json_object_put(state);
	return !error || api_fault(reply, "Create snapshot error: %.200s: %s", path, strerror(error));
}

static struct json_object *read_state(const char *path, struct api_reply *reply)
{
	char *text = malloc(STATE_MAX);
	struct json_object *state = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = fd >= 0 && text ? read(fd, text, STATE_MAX) : -1;

	if (n < 0)
		api_fault(reply, "Load snapshot error: %.200s: %s", path, strerror(errno));
	else if (n == STATE_MAX)
		api_fault(reply, "Load snapshot error: %.200s is too long for a state file", path);
	else
		state = api_parse_json(text, (size_t)n, reply);
	if (fd >= 0)
		close(fd);
	free(text);
	return state;
}

/* The file may be anybody's: what it holds is looked at like a request. */
static const struct {
	const char *section;
	const struct api_object *object;
	bool is_list, required;
} sections[] = {
    {"machine-config", &api_machine, false, true},
    {"boot-source", &api_boot},
    {"cpu-config", &api_cpu},
    {"drives", &api_drive, true, true},
    {"network-interfaces", &api_net, true, true},
    {"pmem", &api_pmem, true, true},
    {"vsock", &api_vsock},
    {"balloon", &api_balloon},
    {"entropy", &api_entropy},
    {"memory-hotplug", &api_memory},
    {"mmds-config", &api_mmds},
};

static bool take_list(struct json_object *list, const struct api_object *object, struct api_reply *reply)
{
	if (!json_object_is_type(list, json_type_array) || json_object_array_length(list) > API_DEVICES_MAX)
		return api_fault(reply, "Load snapshot error: the state file's list of devices is none, or too long");
	for (size_t i = 0; i < json_object_array_length(list); i++)
		if (!api_check(object, json_object_array_get_idx(list, i), reply))
			return false;
	return true;
}

/* What of the file's configuration counts; NULL with the reply set. */
static struct json_object *take_config(struct json_object *state, struct api_reply *reply)
{
	struct json_object *from = api_member(state, "config"), *to = json_object_new_object();
	const char *format = api_string(state, "format");
	bool good = true;

	if (!format || strcmp(format, FORMAT) != 0 || api_int(state, "version", 0) != VERSION ||
	    !json_object_is_type(from, json_type_object))
		good = api_fault(reply, "Load snapshot error: the file is no state file of version %d", VERSION);
	for (size_t i = 0; good && i < sizeof sections / sizeof sections[0]; i++) {
		struct json_object *section = api_member(from, sections[i].section);

		if (!section && sections[i].required)
			good = api_fault(reply, "Load snapshot error: the state file lacks %s", sections[i].section);
		if (!good || !section)
			continue;
		good = sections[i].is_list ? take_list(section, sections[i].object, reply)
		                           : api_check(sections[i].object, section, reply);
		json_object_object_add(to, sections[i].section, json_object_get(section));
	}
	if (good)
		return to;
	json_object_put(to);
	return NULL;
}

/* ---- making one ---- */

void api_snapshot_make(struct api *api, const struct api_handler *handler, const struct api_call *call,
                       struct api_reply *reply)
{
	const char *type = api_string(call->body, "snapshot_type");
	const char *path = api_string(call->body, "snapshot_path"), *memory = api_string(call->body, "mem_file_path");
	vcore_snapshot *snapshot = NULL;

	if (type && !strcmp(type, "Diff"))
		api_fault(reply, "The requested operation is not supported: snapshot_type Diff; Full is");
	else if (!strcmp(path, memory))
		api_fault(reply, "Create snapshot error: snapshot_path and mem_file_path are the same");
	else if (api->state != API_PAUSED)
		api_fault(reply, "Create snapshot error: Cannot save the microVM state: it is not paused");
	else if (vcore_snapshot_take(api->vm, &snapshot) < 0 || vcore_snapshot_save(snapshot, memory, NULL) < 0)
		api_fault(reply, "Create snapshot error: %s", vcore_error_message());
	else
		write_state(api, snapshot, path, reply);
	vcore_snapshot_unref(snapshot);
}

/* ---- going on from one ---- */

/* The next device of that type. */
static const char *properties(void *ctx, uint32_t index, const char *type, const char *given)
{
	struct api_plan *plan = ctx;

	for (unsigned i = 0; i < plan->count; i++) {
		struct api_device *device = &plan->devices[i];

		if (device->used || strcmp(device->type, type) != 0)
			continue;
		device->used = true;
		return device->properties;
	}
	return NULL;
}

static bool override(struct json_object *config, struct json_object *body, struct api_reply *reply)
{
	struct json_object *nics = api_member(config, "network-interfaces"), *vsock = api_member(config, "vsock");
	struct json_object *list = api_member(body, "network_overrides"), *path = api_member(body, "vsock_override");

	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *one = json_object_array_get_idx(list, i);
		int index = api_index_of(nics, "iface_id", api_string(one, "iface_id"));

		if (index < 0)
			return api_fault(reply, "Load snapshot error: network_overrides: there is no interface %.64s",
			                 api_string(one, "iface_id"));
		json_object_object_add(json_object_array_get_idx(nics, (size_t)index), "host_dev_name",
		                       json_object_get(api_member(one, "host_dev_name")));
	}
	if (path && !vsock)
		return api_fault(reply, "Load snapshot error: vsock_override: the snapshot has no vsock device");
	if (path)
		json_object_object_add(vsock, "uds_path", json_object_get(api_member(path, "uds_path")));
	return true;
}

/* What this does otherwise than Firecracker is refused. */
static bool check_load(struct json_object *body, struct api_reply *reply)
{
	struct json_object *backend = api_member(body, "mem_backend");
	const char *pages = api_string(body, "huge_pages");

	if (!backend == !api_member(body, "mem_file_path"))
		return api_fault(reply,
		                 "An error occurred when deserializing the json body of a request: %s fields: either "
		                 "`mem_backend` or `mem_file_path` is required.",
		                 backend ? "too many" : "missing");
	if (backend && !strcmp(api_string(backend, "backend_type"), "Uffd"))
		return api_fault(reply, "The requested operation is not supported: mem_backend of type Uffd; File is");
	if (api_bool(body, "clock_realtime", false))
		return api_fault(reply, "The requested operation is not supported: clock_realtime");
	if (pages && strcmp(pages, "Snapshot") != 0 && strcmp(pages, "None") != 0)
		return api_fault(reply, "The requested operation is not supported: huge_pages: memory is mapped from the file");
	return true;
}

static const char *memory_path(struct json_object *body)
{
	struct json_object *backend = api_member(body, "mem_backend");

	return backend ? api_string(backend, "backend_path") : api_string(body, "mem_file_path");
}

/* With api->config being the snapshot's. */
static bool make_vm(struct api *api, const char *memory, const char *id, struct api_reply *reply)
{
	struct api_plan plan;
	struct vcore_clone_options options = {
	    .size = sizeof options,
	    .backend = api->settings->vm.backend,
	    .engine = api->settings->vm.engine,
	    .log = api_log_line,
	    .log_ctx = api,
	    .log_level = api->log.level,
	    .properties = properties,
	    .ctx = &plan,
	};
	vcore_snapshot *snapshot = NULL;
	char found[ID_LETTERS] = "";
	bool good = api_plan_make(api, &plan, reply);

	if (good && vcore_snapshot_load(memory, NULL, &snapshot) < 0)
		good = api_fault(reply, "Load snapshot error: %s", vcore_error_message());
	if (good)
		print_id(snapshot, found);
	if (good && (!id || strcmp(found, id) != 0))
		good = api_fault(reply, "Load snapshot error: the memory file belongs to another snapshot");
	if (good && vcore_snapshot_clone(snapshot, &options, &api->vm) < 0)
		good = api_fault(reply, "Load snapshot error: %s", vcore_error_message());
	vcore_snapshot_unref(snapshot);
	api_plan_free(&plan);
	return good;
}

static void swap_config(struct api *api, struct json_object *config)
{
	static const char *const kept[] = {"logger", "metrics", "serial"};

	for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
		if (api_member(api->config, kept[i]))
			json_object_object_add(config, kept[i], json_object_get(api_member(api->config, kept[i])));
	api->config = config;
}

void api_snapshot_take_in(struct api *api, const struct api_handler *handler, const struct api_call *call,
                          struct api_reply *reply)
{
	struct json_object *before = api->config, *state = NULL, *config = NULL;
	bool good = check_load(call->body, reply);

	if (good && api->configured)
		good = api_fault(reply,
		                 "Load snapshot error: Loading a microVM snapshot not allowed after configuring boot-specific "
		                 "resources.");
	if (good)
		state = read_state(api_string(call->body, "snapshot_path"), reply);
	if (state)
		config = take_config(state, reply);
	if (config && override(config, call->body, reply)) {
		swap_config(api, config);
		good = make_vm(api, memory_path(call->body), api_string(state, "snapshot"), reply);
		api->config = good ? config : before;
		json_object_put(good ? before : config);
	} else {
		json_object_put(config);
		good = false;
	}
	json_object_put(state);
	if (!good)
		return;
	api->state = API_PAUSED;
	if (api_bool(call->body, "resume_vm", false))
		api_resume(api, reply);
}
