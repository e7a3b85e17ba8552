/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests of Firecracker's API: where they lead, and whether what they bring has the right form. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api.h"

bool api_fault(struct api_reply *reply, const char *format, ...)
{
	char text[1024];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	json_object_put(reply->body);
	reply->status = 400;
	reply->body = json_object_new_object();
	json_object_object_add(reply->body, "fault_message", json_object_new_string(text));
	return false;
}

/* ---- members ---- */

struct json_object *api_member(struct json_object *object, const char *name)
{
	struct json_object *value;

	return json_object_object_get_ex(object, name, &value) ? value : NULL;
}

const char *api_string(struct json_object *object, const char *name)
{
	struct json_object *value = api_member(object, name);

	return value ? json_object_get_string(value) : NULL;
}

int64_t api_int(struct json_object *object, const char *name, int64_t otherwise)
{
	struct json_object *value = api_member(object, name);

	return value ? json_object_get_int64(value) : otherwise;
}

bool api_bool(struct json_object *object, const char *name, bool otherwise)
{
	struct json_object *value = api_member(object, name);

	return value ? json_object_get_boolean(value) : otherwise;
}

/* ---- fields ---- */

static bool misfit(struct api_reply *reply, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* False: the body is JSON, but not what belongs here. */
static bool misfit(struct api_reply *reply, const char *format, ...)
{
	char text[800];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	return api_fault(reply, "An error occurred when deserializing the json body of a request: %s.", text);
}

static bool is_text(struct json_object *value)
{
	size_t length;

	if (!json_object_is_type(value, json_type_string))
		return false;
	length = (size_t)json_object_get_string_len(value);
	/* it becomes a C string */
	return length <= API_TEXT_MAX && strlen(json_object_get_string(value)) == length;
}

static bool check_string(const struct api_field *field, struct json_object *value, struct api_reply *reply)
{
	return is_text(value) || misfit(reply, "`%s`: expected a string of at most %d bytes", field->name, API_TEXT_MAX);
}

static bool check_word(const struct api_field *field, struct json_object *value, struct api_reply *reply)
{
	const char *text = is_text(value) ? json_object_get_string(value) : "";
	char known[256] = "";
	size_t used = 0;

	for (const char *const *word = field->words; *word; word++) {
		if (!(field->any_case ? strcasecmp(*word, text) : strcmp(*word, text)))
			return true;
		if (used < sizeof known)
			used += (size_t)snprintf(known + used, sizeof known - used, "%s`%s`", used ? ", " : "", *word);
	}
	return misfit(reply, "`%s`: unknown variant `%.60s`, expected one of %s", field->name, text, known);
}

static bool check_bool(const struct api_field *field, struct json_object *value, struct api_reply *reply)
{
	return json_object_is_type(value, json_type_boolean) || misfit(reply, "`%s`: expected a boolean", field->name);
}

static bool check_int(const struct api_field *field, struct json_object *value, struct api_reply *reply)
{
	bool good = json_object_is_type(value, json_type_int);
	int64_t number = good ? json_object_get_int64(value) : 0;

	return (good && number >= field->min && number <= field->max) ||
	       misfit(reply, "`%s`: invalid value: %.40s, expected an integer from %lld to %lld", field->name,
	              json_object_get_string(value), (long long)field->min, (long long)field->max);
}

static bool check_object(const struct api_field *field, struct json_object *value, struct api_reply *reply)
{
	return api_check(field->object, value, reply);
}

static bool check_list(const struct api_field *field, struct json_object *value, struct api_reply *reply)
{
	if (!json_object_is_type(value, json_type_array) || json_object_array_length(value) > (size_t)field->max)
		return misfit(reply, "`%s`: expected an array of at most %lld", field->name, (long long)field->max);
	for (size_t i = 0; i < json_object_array_length(value); i++) {
		struct json_object *element = json_object_array_get_idx(value, i);

		if (field->object ? !api_check(field->object, element, reply) : !check_string(field, element, reply))
			return false;
	}
	return true;
}

static bool check_labels(const struct api_field *field, struct json_object *value, struct api_reply *reply)
{
	if (!json_object_is_type(value, json_type_object) || json_object_object_length(value) > field->max)
		return misfit(reply, "`%s`: expected an object of at most %lld strings", field->name, (long long)field->max);
	json_object_object_foreach(value, name, label)
	{
		(void)name;
		if (!check_string(field, label, reply))
			return false;
	}
	return true;
}

static bool (*const checks[])(const struct api_field *field, struct json_object *value, struct api_reply *reply) = {
    [API_STRING] = check_string, [API_WORD] = check_word,    [API_BOOL] = check_bool,    [API_INT] = check_int,
    [API_OBJECT] = check_object, [API_OBJECTS] = check_list, [API_STRINGS] = check_list, [API_LABELS] = check_labels,
};

static bool is_known(const struct api_object *object, const char *name)
{
	for (const struct api_field *field = object->fields; field->name; field++)
		if (!strcmp(field->name, name))
			return true;
	return false;
}

static bool unknown(const struct api_object *object, const char *name, struct api_reply *reply)
{
	char known[512] = "";
	size_t used = 0;

	for (const struct api_field *field = object->fields; field->name && used < sizeof known; field++)
		used += (size_t)snprintf(known + used, sizeof known - used, "%s`%s`", field == object->fields ? "" : ", ",
		                         field->name);
	return misfit(reply, "unknown field `%.60s`, expected one of %s", name, known);
}

bool api_check(const struct api_object *object, struct json_object *json, struct api_reply *reply)
{
	if (!json_object_is_type(json, json_type_object))
		return misfit(reply, "expected an object");
	json_object_object_foreach(json, name, ignored)
	{
		(void)ignored;
		if (!is_known(object, name))
			return unknown(object, name, reply);
	}
	for (const struct api_field *field = object->fields; field->name; field++) {
		struct json_object *value = api_member(json, field->name);

		if (value && !checks[field->type](field, value, reply))
			return false;
		if (!value && field->required && !object->partial)
			return misfit(reply, "missing field `%s`", field->name);
		if (!value)
			json_object_object_del(json, field->name);
	}
	return true;
}

/* ---- JSON ---- */

struct json_object *api_parse_json(const char *text, size_t length, struct api_reply *reply)
{
	struct json_tokener *tokener = json_tokener_new_ex(API_DEPTH_MAX);
	struct json_object *json = NULL;
	enum json_tokener_error error = json_tokener_error_size;

	if (tokener) {
		json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
		json = json_tokener_parse_ex(tokener, text, (int)length);
		error = json_tokener_get_error(tokener);
		/* a number may go on: the end of the text ends it */
		if (error == json_tokener_continue) {
			json = json_tokener_parse_ex(tokener, "", 1);
			error = json_tokener_get_error(tokener);
		}
		json_tokener_free(tokener);
	}
	if (error != json_tokener_success) {
		json_object_put(json);
		json = NULL;
		misfit(reply, "%s", json_tokener_error_desc(error));
	} else if (!json) {
		misfit(reply, "it is null");
	}
	return json;
}

/* ---- routes ---- */

struct route {
	const char *method, *path; /* a last part of * is an ID */
	enum api_op op;
	enum api_when when;
	const struct api_object *body; /* NULL: any */
	const char *id_field;          /* which must be the ID of the path */
};

static const struct route routes[] = {
    {"GET", "", API_GET_INFO, API_ANY},
    {"GET", "version", API_GET_VERSION, API_ANY},
    {"GET", "vm/config", API_GET_CONFIG, API_ANY},
    {"PATCH", "vm", API_PATCH_VM, API_POST_BOOT, &api_vm_update},
    {"GET", "machine-config", API_GET_MACHINE, API_ANY},
    {"PUT", "machine-config", API_PUT_MACHINE, API_PRE_BOOT, &api_machine},
    {"PATCH", "machine-config", API_PATCH_MACHINE, API_PRE_BOOT, &api_machine_update},
    {"PUT", "boot-source", API_PUT_BOOT, API_PRE_BOOT, &api_boot},
    {"PUT", "cpu-config", API_PUT_CPU, API_PRE_BOOT, &api_cpu},
    {"PUT", "drives/*", API_PUT_DRIVE, API_PRE_BOOT, &api_drive, "drive_id"},
    {"PATCH", "drives/*", API_PATCH_DRIVE, API_POST_BOOT, &api_drive_update, "drive_id"},
    {"DELETE", "drives/*", API_UNPLUG, API_POST_BOOT},
    {"PUT", "network-interfaces/*", API_PUT_NET, API_PRE_BOOT, &api_net, "iface_id"},
    {"PATCH", "network-interfaces/*", API_PATCH_NET, API_POST_BOOT, &api_net_update, "iface_id"},
    {"DELETE", "network-interfaces/*", API_UNPLUG, API_POST_BOOT},
    {"PUT", "pmem/*", API_PUT_PMEM, API_PRE_BOOT, &api_pmem, "id"},
    {"PATCH", "pmem/*", API_PATCH_PMEM, API_POST_BOOT, &api_pmem_update, "id"},
    {"DELETE", "pmem/*", API_UNPLUG, API_POST_BOOT},
    {"PUT", "vsock", API_PUT_VSOCK, API_PRE_BOOT, &api_vsock},
    {"GET", "balloon", API_GET_BALLOON, API_ANY},
    {"PUT", "balloon", API_PUT_BALLOON, API_PRE_BOOT, &api_balloon},
    {"PATCH", "balloon", API_PATCH_BALLOON, API_POST_BOOT, &api_balloon_update},
    {"GET", "balloon/statistics", API_GET_BALLOON_STATS, API_POST_BOOT},
    {"PATCH", "balloon/statistics", API_PATCH_BALLOON_STATS, API_POST_BOOT, &api_balloon_stats_update},
    {"PATCH", "balloon/hinting/start", API_HINTING, API_POST_BOOT, &api_balloon_start},
    {"GET", "balloon/hinting/status", API_HINTING, API_POST_BOOT},
    {"PATCH", "balloon/hinting/stop", API_HINTING, API_POST_BOOT},
    {"PUT", "entropy", API_PUT_ENTROPY, API_PRE_BOOT, &api_entropy},
    {"PUT", "serial", API_PUT_SERIAL, API_PRE_BOOT, &api_serial},
    {"PUT", "logger", API_PUT_LOGGER, API_PRE_BOOT, &api_logger},
    {"PUT", "metrics", API_PUT_METRICS, API_PRE_BOOT, &api_metrics},
    {"GET", "mmds", API_GET_MMDS, API_ANY},
    {"PUT", "mmds", API_PUT_MMDS, API_ANY},
    {"PATCH", "mmds", API_PATCH_MMDS, API_ANY},
    {"PUT", "mmds/config", API_PUT_MMDS_CONFIG, API_PRE_BOOT, &api_mmds},
    {"PUT", "hotplug/memory", API_PUT_MEMORY, API_PRE_BOOT, &api_memory},
    {"GET", "hotplug/memory", API_GET_MEMORY, API_POST_BOOT},
    {"PATCH", "hotplug/memory", API_PATCH_MEMORY, API_POST_BOOT, &api_memory_update},
    {"PUT", "actions", API_PUT_ACTION, API_ANY, &api_action},
    {"PUT", "snapshot/create", API_SNAPSHOT_CREATE, API_POST_BOOT, &api_snapshot_create},
    {"PUT", "snapshot/load", API_SNAPSHOT_LOAD, API_PRE_BOOT, &api_snapshot_load},
};

/* Where the ID of such a path begins; NULL: it is another path. At the end of a path without one. */
static const char *match(const char *pattern, const char *path, size_t length)
{
	size_t fixed = strcspn(pattern, "*");

	if (!pattern[fixed])
		return length == fixed && !memcmp(pattern, path, length) ? path + length : NULL;
	/* without its ID it is that path, too */
	if (length + 1 == fixed && !memcmp(pattern, path, length))
		return path + length;
	return length >= fixed && !memcmp(pattern, path, fixed) && !memchr(path + fixed, '/', length - fixed) ? path + fixed
	                                                                                                      : NULL;
}

static bool take_id(const char *id, size_t length, struct api_call *call, struct api_reply *reply)
{
	if (!length)
		return api_fault(reply, "The ID cannot be empty.");
	for (size_t i = 0; i < length; i++)
		if (!strchr("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_", id[i]))
			return api_fault(reply, "API Resource IDs can only contain alphanumeric characters and underscores.");
	if (length > API_ID_MAX)
		return api_fault(reply, "API Resource IDs can only be of at most %d characters.", API_ID_MAX);
	memcpy(call->id, id, length);
	return true;
}

static const struct route *find(const char *method, const char *path, struct api_call *call, struct api_reply *reply)
{
	const char *all = path;
	size_t length;

	path += strspn(path, "/");
	length = strlen(path);
	if (length && path[length - 1] == '/')
		length--;
	for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
		const struct route *route = &routes[i];
		const char *id = strcmp(route->method, method) != 0 ? NULL : match(route->path, path, length);

		if (!id)
			continue;
		return !strchr(route->path, '*') || take_id(id, length - (size_t)(id - path), call, reply) ? route : NULL;
	}
	api_fault(reply, "Invalid request method and/or path: %.10s %.100s.", method, all);
	return NULL;
}

/* Does the request bring a body where one belongs? Hinting does without. */
static bool check_presence(const struct route *route, size_t length, struct api_reply *reply)
{
	bool wanted = *route->method == 'P';

	if (length && !wanted)
		return api_fault(reply, "%s request cannot have a body.", route->method);
	if (!length && wanted && route->op != API_HINTING)
		return api_fault(reply, "Empty %s request.", route->method);
	return true;
}

static bool check_body(const struct route *route, struct api_call *call, struct api_reply *reply)
{
	if (route->body && !api_check(route->body, call->body, reply))
		return false;
	if (route->body && route->body->partial && !json_object_object_length(call->body))
		return api_fault(reply, "Empty %s request.", route->method);
	if (route->id_field && strcmp(api_string(call->body, route->id_field), call->id) != 0)
		return api_fault(reply, "The id from the path does not match the id from the body!");
	return true;
}

bool api_parse(const char *method, const char *path, const char *body, size_t length, struct api_call *call,
               struct api_reply *reply)
{
	const struct route *route;

	*call = (struct api_call){0};
	route = find(method, path, call, reply);
	if (!route || !check_presence(route, length, reply))
		return false;
	call->op = route->op;
	call->when = route->when;
	if (!length)
		return true;
	call->body = api_parse_json(body, length, reply);
	return call->body && check_body(route, call, reply);
}

void api_call_free(struct api_call *call)
{
	json_object_put(call->body);
	call->body = NULL;
}
