/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A vm from a JSON description. Every key is a row of a table; unknown keys and wrong values are refused by name. */
#include <inttypes.h>
#include <json.h>
#include <stdio.h>
#include <stdlib.h>

#include "vm/json.h"

#define TEXT_MAX  (1u << 20)
#define DEPTH_MAX 16

const struct vc_json_word vc_json_machine_words[] = {
    {"none", VCORE_MACHINE_NONE}, {"microvm", VCORE_MACHINE_MICROVM}, {"pc", VCORE_MACHINE_PC}, {0}};
const struct vc_json_word vc_json_backend_words[] = {
    {"auto", VCORE_BACKEND_AUTO}, {"kvm", VCORE_BACKEND_KVM}, {"emu", VCORE_BACKEND_EMU}, {0}};
const struct vc_json_word vc_json_engine_words[] = {
    {"auto", VCORE_ENGINE_AUTO},         {"interp", VCORE_ENGINE_INTERP},   {"jit", VCORE_ENGINE_JIT},
    {"lockstep", VCORE_ENGINE_LOCKSTEP}, {"promote", VCORE_ENGINE_PROMOTE}, {0}};
const struct vc_json_word vc_json_irqchip_words[] = {{"auto", VCORE_IRQCHIP_AUTO}, {"none", VCORE_IRQCHIP_NONE},
                                                     {"user", VCORE_IRQCHIP_USER}, {"split", VCORE_IRQCHIP_SPLIT},
                                                     {"full", VCORE_IRQCHIP_FULL}, {0}};
const struct vc_json_word vc_json_unhandled_words[] = {
    {"exit", VCORE_UNHANDLED_EXIT}, {"ignore", VCORE_UNHANDLED_IGNORE}, {0}};
static const struct vc_json_word kind_words[] = {{"anon", VCORE_MEMORY_ANON}, {"memfd", VCORE_MEMORY_MEMFD}, {0}};
static const struct vc_json_word flag_words[] = {{"huge-2m", VCORE_MEM_HUGE_2M},
                                                 {"huge-1g", VCORE_MEM_HUGE_1G},
                                                 {"thp", VCORE_MEM_THP},
                                                 {"prealloc", VCORE_MEM_PREALLOC},
                                                 {"mergeable", VCORE_MEM_MERGEABLE},
                                                 {"locked", VCORE_MEM_LOCKED},
                                                 {"log-dirty", VCORE_MEM_LOG_DIRTY},
                                                 {0}};
static const struct vc_json_word image_words[] = {{"auto", VCORE_IMAGE_AUTO},
                                                  {"bzimage", VCORE_IMAGE_BZIMAGE},
                                                  {"pvh", VCORE_IMAGE_PVH},
                                                  {"elf", VCORE_IMAGE_ELF},
                                                  {"multiboot", VCORE_IMAGE_MULTIBOOT},
                                                  {"flat", VCORE_IMAGE_FLAT},
                                                  {0}};

#define AT(member) offsetof(struct vcore_options, member)
const struct vc_json_key vc_json_vm_keys[] = {
    {"machine", VC_JSON_WORD, AT(machine), vc_json_machine_words, 0},
    {"backend", VC_JSON_WORD, AT(backend), vc_json_backend_words, 0},
    {"engine", VC_JSON_WORD, AT(engine), vc_json_engine_words, 0},
    {"irqchip", VC_JSON_WORD, AT(irqchip), vc_json_irqchip_words, 0},
    {"cpus", VC_JSON_U32, AT(vcpus), NULL, VC_MAX_VCPUS},
    {"max_cpus", VC_JSON_U32, AT(max_vcpus), NULL, VC_MAX_VCPUS},
    {"vcpu_places", VC_JSON_STRINGS, AT(vcpu_places), NULL, 0},
    {"cpu", VC_JSON_STRING, AT(cpu), NULL, 0},
    {"memory", VC_JSON_SIZE, AT(memory), NULL, 0},
    {"memory_kind", VC_JSON_WORD, AT(memory_kind), kind_words, 0},
    {"memory_flags", VC_JSON_FLAGS, AT(memory_flags), flag_words, 0},
    {"memory_numa", VC_JSON_STRING, AT(memory_numa), NULL, 0},
    {"memory_threads", VC_JSON_U32, AT(memory_threads), NULL, 64},
    {"unhandled", VC_JSON_WORD, AT(unhandled), vc_json_unhandled_words, 0},
    {"tsc_khz", VC_JSON_U64, AT(tsc_khz), NULL, 100000000},
    {"legacy", VC_JSON_BOOL_NOT, AT(no_legacy), NULL, 0},
    {"switches", VC_JSON_ELSEWHERE, 0, NULL, 0},
    {"devices", VC_JSON_ELSEWHERE, 0, NULL, 0},
    {"boot", VC_JSON_ELSEWHERE, 0, NULL, 0},
    {0},
};
#undef AT

#define AT(member) offsetof(struct vcore_boot_options, member)
const struct vc_json_key vc_json_boot_keys[] = {
    {"kernel", VC_JSON_STRING, AT(kernel), NULL, 0},
    {"initrd", VC_JSON_STRING, AT(initrd), NULL, 0},
    {"cmdline", VC_JSON_STRING, AT(cmdline), NULL, 0},
    {"image", VC_JSON_WORD, AT(image), image_words, 0},
    {"modules", VC_JSON_STRINGS, AT(modules), NULL, 0},
    {"address", VC_JSON_SIZE, AT(address), NULL, 0},
    {0},
};
#undef AT

static int wrong(const char *key, struct json_object *value, const char *expected)
{
	return vc_fail(EINVAL, "description: \"%s\" is %.80s: expected %s", key,
	               json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN), expected);
}

static void list_words(const struct vc_json_word *words, char *text, size_t length)
{
	size_t used = 0;

	for (text[0] = '\0'; words->name && used < length; words++)
		used += (size_t)snprintf(text + used, length - used, "%s\"%s\"", used ? ", " : "", words->name);
}

static int word_value(const char *key, struct json_object *value, const struct vc_json_word *words, uint32_t *out)
{
	char expected[200];

	if (json_object_is_type(value, json_type_string))
		for (const struct vc_json_word *w = words; w->name; w++)
			if (!strcmp(w->name, json_object_get_string(value))) {
				*out = w->value;
				return 0;
			}
	list_words(words, expected, sizeof expected);
	return wrong(key, value, expected);
}

static int flags_value(const char *key, struct json_object *value, const struct vc_json_word *words, uint32_t *out)
{
	int r = 0;

	if (!json_object_is_type(value, json_type_array))
		return wrong(key, value, "an array of words");
	*out = 0;
	for (size_t i = 0; r >= 0 && i < json_object_array_length(value); i++) {
		uint32_t bit = 0;

		r = word_value(key, json_object_array_get_idx(value, i), words, &bit);
		*out |= bit;
	}
	return r;
}

static int number_value(const char *key, struct json_object *value, uint64_t max, uint64_t *out)
{
	char expected[64];

	if (json_object_is_type(value, json_type_int)) {
		errno = 0;
		*out = json_object_get_uint64(value);
		if (!errno && json_object_get_int64(value) >= 0 && *out <= max)
			return 0;
	}
	snprintf(expected, sizeof expected, "a number from 0 to %" PRIu64, max);
	return wrong(key, value, expected);
}

/* Bytes: a number, or a string with K, M, G or T. */
static int size_value(const char *key, struct json_object *value, uint64_t *out)
{
	static const char suffixes[] = "KMGT";
	const char *text, *suffix;
	unsigned shift = 0;
	char *end;

	if (!json_object_is_type(value, json_type_string))
		return number_value(key, value, INT64_MAX, out);
	text = json_object_get_string(value);
	errno = 0;
	*out = strtoull(text, &end, 0);
	suffix = *end ? strchr(suffixes, *end) : NULL;
	if (suffix) {
		shift = 10 * (unsigned)(suffix - suffixes + 1);
		end++;
	}
	if (errno || text[0] < '0' || text[0] > '9' || *end || *out > UINT64_MAX >> shift)
		return wrong(key, value, "bytes, as a number or like \"512M\"");
	*out <<= shift;
	return 0;
}

static int string_value(const char *key, struct json_object *value, const char **out)
{
	if (value && !json_object_is_type(value, json_type_string))
		return wrong(key, value, "a string");
	*out = json_object_get_string(value);
	return 0;
}

/* The caller frees *out. */
static int strings_value(const char *key, struct json_object *value, const char *const **out)
{
	const char **list;
	int r = 0;

	if (!json_object_is_type(value, json_type_array))
		return wrong(key, value, "an array of strings");
	list = calloc(json_object_array_length(value) + 1, sizeof *list);
	if (!list)
		return vc_fail(ENOMEM, "no memory for \"%s\"", key);
	for (size_t i = 0; r >= 0 && i < json_object_array_length(value); i++)
		r = json_object_array_get_idx(value, i) ? string_value(key, json_object_array_get_idx(value, i), &list[i])
		                                        : wrong(key, value, "an array of strings");
	if (r < 0)
		free(list);
	else
		*out = list;
	return r;
}

static int take_value(const struct vc_json_key *key, struct json_object *value, void *options)
{
	void *to = (char *)options + key->offset;
	uint64_t number = 0;
	int r = 0;

	switch (key->kind) {
	case VC_JSON_WORD:
		return word_value(key->name, value, key->words, to);
	case VC_JSON_FLAGS:
		return flags_value(key->name, value, key->words, to);
	case VC_JSON_BOOL:
	case VC_JSON_BOOL_NOT:
		if (!json_object_is_type(value, json_type_boolean))
			return wrong(key->name, value, "true or false");
		*(uint32_t *)to = json_object_get_boolean(value) == (key->kind == VC_JSON_BOOL);
		return 0;
	case VC_JSON_U32:
		r = number_value(key->name, value, key->max, &number);
		*(uint32_t *)to = (uint32_t)number;
		return r;
	case VC_JSON_U64:
		return number_value(key->name, value, key->max, to);
	case VC_JSON_SIZE:
		return size_value(key->name, value, to);
	case VC_JSON_STRING:
		return string_value(key->name, value, to);
	case VC_JSON_STRINGS:
		return strings_value(key->name, value, to);
	case VC_JSON_ELSEWHERE:
		break;
	}
	return 0;
}

static int unknown_key(const char *name, const struct vc_json_key *keys)
{
	char known[400] = "";
	size_t used = 0;

	for (; keys->name && used < sizeof known; keys++)
		used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", keys->name);
	return vc_fail(EINVAL, "description: unknown key \"%.64s\": expected one of %s", name, known);
}

int vc_json_take(struct json_object *object, const struct vc_json_key *keys, void *options)
{
	struct json_object_iterator i = json_object_iter_begin(object), end = json_object_iter_end(object);

	for (; !json_object_iter_equal(&i, &end); json_object_iter_next(&i)) {
		const char *name = json_object_iter_peek_name(&i);
		const struct vc_json_key *k = keys;
		int r;

		while (k->name && strcmp(k->name, name))
			k++;
		if (!k->name)
			return unknown_key(name, keys);
		r = take_value(k, json_object_iter_peek_value(&i), options);
		if (r < 0)
			return r;
	}
	return 0;
}

int vc_json_check_devices(struct json_object *devices)
{
	struct json_object *type;

	if (!json_object_is_type(devices, json_type_array))
		return wrong("devices", devices, "an array of objects");
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		struct json_object *device = json_object_array_get_idx(devices, i);

		if (!json_object_is_type(device, json_type_object) || !json_object_object_get_ex(device, "type", &type) ||
		    !json_object_is_type(type, json_type_string))
			return wrong("devices", device, "an object with a \"type\"");
	}
	return 0;
}

static int add_device(struct vcore_vm *vm, struct json_object *device)
{
	char *name = strdup(json_object_get_string(json_object_object_get(device, "type")));
	int r;

	if (!name)
		return vc_fail(ENOMEM, "no memory for a device's type");
	json_object_object_del(device, "type");
	r = vcore_device_add(vm, name, json_object_to_json_string_ext(device, JSON_C_TO_STRING_PLAIN), NULL);
	free(name);
	return r;
}

static int add_devices(struct vcore_vm *vm, struct json_object *root)
{
	struct json_object *devices;
	int r = 0;

	if (!json_object_object_get_ex(root, "devices", &devices))
		return 0;
	r = vc_json_check_devices(devices);
	for (size_t i = 0; r >= 0 && i < json_object_array_length(devices); i++)
		r = add_device(vm, json_object_array_get_idx(devices, i));
	return r;
}

static int add_switches(struct vcore_vm *vm, struct json_object *root)
{
	struct json_object *switches;
	const char *name = NULL;
	int r = 0;

	if (!json_object_object_get_ex(root, "switches", &switches))
		return 0;
	if (!json_object_is_type(switches, json_type_array))
		return wrong("switches", switches, "an array of names");
	for (size_t i = 0; r >= 0 && i < json_object_array_length(switches); i++) {
		r = string_value("switches", json_object_array_get_idx(switches, i), &name);
		if (r >= 0)
			r = vcore_vm_add_switch(vm, name, NULL);
	}
	return r;
}

static int boot(struct vcore_vm *vm, struct json_object *root)
{
	struct vcore_boot_options o = {.size = sizeof o};
	struct json_object *object;
	int r;

	if (!json_object_object_get_ex(root, "boot", &object))
		return 0;
	if (!json_object_is_type(object, json_type_object))
		return wrong("boot", object, "an object");
	r = vc_json_take(object, vc_json_boot_keys, &o);
	if (r >= 0)
		r = vcore_boot(vm, &o);
	free((void *)(uintptr_t)o.modules);
	return r;
}

static int build(struct json_object *root, vcore_vm **out)
{
	struct vcore_options o = {.size = sizeof o, .machine = VCORE_MACHINE_MICROVM};
	struct vcore_vm *vm;
	int r;

	r = vc_json_take(root, vc_json_vm_keys, &o);
	if (r >= 0)
		r = vcore_vm_new(&o, &vm);
	free((void *)(uintptr_t)o.vcpu_places);
	if (r < 0)
		return r;
	r = add_switches(vm, root);
	if (r >= 0)
		r = add_devices(vm, root);
	if (r >= 0)
		r = boot(vm, root);
	if (r < 0)
		vcore_vm_unref(vm);
	else
		*out = vm;
	return r;
}

int vc_json_parse(const char *text, struct json_object **root)
{
	size_t length = strlen(text);
	struct json_tokener *tokener;
	int r = 0;

	if (length > TEXT_MAX)
		return vc_fail(EINVAL, "description: %zu bytes: expected at most %u", length, TEXT_MAX);
	tokener = json_tokener_new_ex(DEPTH_MAX);
	if (!tokener)
		return vc_fail(ENOMEM, "no memory for the JSON parser");
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
	*root = json_tokener_parse_ex(tokener, text, (int)length + 1);
	if (json_tokener_get_error(tokener) != json_tokener_success)
		r = vc_fail(EINVAL, "description: JSON error at byte %zu: %s", json_tokener_get_parse_end(tokener),
		            json_tokener_error_desc(json_tokener_get_error(tokener)));
	else if (!json_object_is_type(*root, json_type_object))
		r = vc_fail(EINVAL, "description: expected a JSON object");
	if (r < 0)
		json_object_put(*root);
	json_tokener_free(tokener);
	return r;
}

int vcore_vm_new_from_json(const char *text, vcore_vm **vm)
{
	struct json_object *root;
	int r;

	if (!text || !vm)
		return vc_fail(EINVAL, "vcore_vm_new_from_json: a text and a place for the vm are needed");
	*vm = NULL;
	r = vc_json_parse(text, &root);
	if (r < 0)
		return r;
	r = build(root, vm);
	json_object_put(root);
	return r;
}
