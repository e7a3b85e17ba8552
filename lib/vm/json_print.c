/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The full JSON description of a machine, written by the tables it is read by. */
#include <stdio.h>
#include <stdlib.h>

#include "device/device.h"
#include "vm/json.h"

static struct json_object *words_of(uint32_t bits, const struct vc_json_word *words)
{
	struct json_object *array = json_object_new_array();

	for (; words->name; words++)
		if (bits & words->value)
			json_object_array_add(array, json_object_new_string(words->name));
	return array;
}

static struct json_object *word_of(uint32_t value, const struct vc_json_word *words)
{
	while (words->name && words->value != value)
		words++;
	return words->name ? json_object_new_string(words->name) : NULL;
}

static struct json_object *strings_of(const char *const *strings)
{
	struct json_object *array = json_object_new_array();

	for (; strings && *strings; strings++)
		json_object_array_add(array, json_object_new_string(*strings));
	return array;
}

static struct json_object *value_of(const struct vc_json_key *key, const void *options)
{
	const void *at = (const char *)options + key->offset;

	switch (key->kind) {
	case VC_JSON_WORD:
		return word_of(*(const uint32_t *)at, key->words);
	case VC_JSON_FLAGS:
		return words_of(*(const uint32_t *)at, key->words);
	case VC_JSON_BOOL:
		return json_object_new_boolean(!!*(const uint32_t *)at);
	case VC_JSON_BOOL_NOT:
		return json_object_new_boolean(!*(const uint32_t *)at);
	case VC_JSON_U32:
		return json_object_new_uint64(*(const uint32_t *)at);
	case VC_JSON_U64:
	case VC_JSON_SIZE:
		return json_object_new_uint64(*(const uint64_t *)at);
	case VC_JSON_STRING:
		return *(const char *const *)at ? json_object_new_string(*(const char *const *)at) : NULL;
	case VC_JSON_STRINGS:
		return strings_of(*(const char *const *const *)at);
	case VC_JSON_ELSEWHERE:
		break;
	}
	return NULL;
}

void vc_json_put(struct json_object *to, const struct vc_json_key *keys, const void *options)
{
	for (; keys->name; keys++)
		if (keys->kind != VC_JSON_ELSEWHERE)
			json_object_object_add(to, keys->name, value_of(keys, options));
}

/* What vcore_vm_new() makes of zeros, where it does not depend on the host. */
static void fill_defaults(struct vcore_options *o)
{
	const struct vc_machine *const *m = vc_machines;

	while (*m && (*m)->id != o->machine)
		m++;
	if (!o->vcpus)
		o->vcpus = 1;
	if (!o->memory && *m)
		o->memory = (*m)->default_memory;
	if (!o->unhandled)
		o->unhandled = o->machine == VCORE_MACHINE_NONE ? VCORE_UNHANDLED_EXIT : VCORE_UNHANDLED_IGNORE;
}

static struct json_object *device_of(const char *type, size_t length, const struct vc_props *props)
{
	struct json_object *device = json_object_new_object();
	struct vc_prop property;

	json_object_object_add(device, "type", json_object_new_string_len(type, (int)length));
	for (unsigned i = 0; vc_props_at(props, i, &property); i++)
		json_object_object_add(device, property.key, json_object_new_string(property.value));
	return device;
}

static int append_device(struct json_object *devices, const char *text)
{
	size_t length = strcspn(text, ",");
	struct vc_props *props;
	int r = vc_props_parse(text[length] ? text + length + 1 : NULL, &props);

	if (r < 0)
		return r;
	json_object_array_add(devices, device_of(text, length, props));
	vc_props_free(props);
	return 0;
}

/* The description's own devices, and the further ones. */
static int print_devices(struct json_object *to, struct json_object *from, const char *const *more)
{
	struct json_object *devices = NULL;
	int r = 0;

	if (json_object_object_get_ex(from, "devices", &devices))
		r = vc_json_check_devices(devices);
	if (r < 0)
		return r;
	devices = devices ? json_object_get(devices) : json_object_new_array();
	for (; r >= 0 && more && *more; more++)
		r = append_device(devices, *more);
	json_object_object_add(to, "devices", devices);
	return r;
}

static int print_boot(struct json_object *to, struct json_object *from, const struct vcore_boot_options *given)
{
	struct vcore_boot_options o = {.size = sizeof o};
	struct json_object *boot = NULL, *full;
	int r = 0;

	json_object_object_get_ex(from, "boot", &boot);
	if (given && given->kernel)
		o = *given;
	else if (boot)
		r = json_object_is_type(boot, json_type_object) ? vc_json_take(boot, vc_json_boot_keys, &o)
		                                                : vc_fail(EINVAL, "description: \"boot\": expected an object");
	else
		return 0;
	if (r >= 0) {
		full = json_object_new_object();
		vc_json_put(full, vc_json_boot_keys, &o);
		json_object_object_add(to, "boot", full);
	}
	if (!given || !given->kernel)
		free((void *)(uintptr_t)o.modules);
	return r;
}

static int describe(struct json_object *to, struct json_object *from, struct vcore_options *o,
                    const struct vcore_boot_options *boot, const char *const *devices)
{
	const char *const *given = o->vcpu_places;
	int r = vc_json_take(from, vc_json_vm_keys, o);

	if (r >= 0) {
		fill_defaults(o);
		vc_json_put(to, vc_json_vm_keys, o);
	}
	if (o->vcpu_places != given)
		free((void *)(uintptr_t)o->vcpu_places);
	if (r < 0)
		return r;
	r = print_devices(to, from, devices);
	return r < 0 ? r : print_boot(to, from, boot);
}

int vcore_describe(const char *description, const struct vcore_options *options, const struct vcore_boot_options *boot,
                   const char *const *devices, char *text, size_t length)
{
	struct vcore_options o = {.size = sizeof o, .machine = VCORE_MACHINE_MICROVM};
	struct vcore_boot_options b = {.size = sizeof b};
	struct json_object *from, *to;
	int r;

	if ((length && !text) || (options && vc_struct_in(&o, sizeof o, options) < 0) ||
	    (boot && vc_struct_in(&b, sizeof b, boot) < 0))
		return vc_fail(EINVAL, "vcore_describe: options with their size set, and room for the text, are needed");
	r = vc_json_parse(description ? description : "{}", &from);
	if (r < 0)
		return r;
	to = json_object_new_object();
	r = describe(to, from, &o, &b, devices);
	if (r >= 0)
		r = snprintf(text, length, "%s\n",
		             json_object_to_json_string_ext(to, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
		                                                    JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(to);
	json_object_put(from);
	return r;
}
