/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Firecracker's API in a file: each part is a PUT, and then the vm starts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"

static const struct {
	const char *section, *path;
	const char *key; /* of a list: each element is PUT by its own */
} parts[] = {
    {"logger", "/logger"},
    {"metrics", "/metrics"},
    {"machine-config", "/machine-config"},
    {"cpu-config", "/cpu-config"},
    {"boot-source", "/boot-source"},
    {"drives", "/drives", "drive_id"},
    {"pmem", "/pmem", "id"},
    {"network-interfaces", "/network-interfaces", "iface_id"},
    {"vsock", "/vsock"},
    {"balloon", "/balloon"},
    {"entropy", "/entropy"},
    {"serial", "/serial"},
    {"memory-hotplug", "/hotplug/memory"},
    {"mmds-config", "/mmds/config"},
};
#define PARTS (sizeof parts / sizeof parts[0])

static bool put(struct api *api, const char *path, struct json_object *body, struct api_reply *reply)
{
	size_t length;
	const char *text = json_object_to_json_string_length(body, JSON_C_TO_STRING_PLAIN, &length);

	api_handle(api, "PUT", path, text, length, reply);
	return reply->status < 400;
}

static bool put_list(struct api *api, size_t part, struct json_object *list, struct api_reply *reply)
{
	char path[256];
	bool good =
	    json_object_is_type(list, json_type_array) || api_fault(reply, "%s: expected an array", parts[part].section);

	for (size_t i = 0; good && i < json_object_array_length(list); i++) {
		struct json_object *element = json_object_array_get_idx(list, i);
		const char *id = api_string(element, parts[part].key);

		snprintf(path, sizeof path, "%s/%.100s", parts[part].path, id ? id : "");
		good = put(api, path, element, reply);
	}
	return good;
}

static bool check_names(struct json_object *file, struct api_reply *reply)
{
	if (!json_object_is_type(file, json_type_object))
		return api_fault(reply, "expected an object");
	json_object_object_foreach(file, name, value)
	{
		size_t i = 0;

		while (i < PARTS && strcmp(parts[i].section, name) != 0)
			i++;
		if (i == PARTS && value)
			return api_fault(reply, "unknown field `%.60s`", name);
	}
	return true;
}

bool api_load_config(struct api *api, const char *path, struct api_reply *reply)
{
	char *text = read_config(path);
	struct json_object *file = text ? api_parse_json(text, strlen(text), reply) : NULL;
	struct json_object *start = json_tokener_parse("{\"action_type\":\"InstanceStart\"}");
	bool good = file && check_names(file, reply);

	for (size_t i = 0; good && i < PARTS; i++) {
		struct json_object *part = api_member(file, parts[i].section);

		if (part)
			good = parts[i].key ? put_list(api, i, part, reply) : put(api, parts[i].path, part, reply);
	}
	if (good)
		good = put(api, "/actions", start, reply);
	json_object_put(start);
	json_object_put(file);
	free(text);
	return good;
}
