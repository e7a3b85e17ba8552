/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The JSON header of a snapshot. Every key must be there, and no others:
 *
 *   id                   32 hexadecimal digits that tell this snapshot from all others
 *   machine              machine type: "none", "microvm", "pc"
 *   backend, engine      on which it was taken; engine "auto" unless the backend is "emu"
 *   irqchip              where the interrupt controllers were
 *   unhandled            what becomes of accesses that nobody answers: "exit", "ignore"
 *   legacy               whether the microvm has PIC, PIT, RTC and keyboard controller
 *   hpet                 whether it has an HPET
 *   cpu_hotplug          whether vcpus can be plugged in and out
 *   vcpus                their number, with those that are not plugged in
 *   ram_low, ram_high    bytes of the machine type's RAM from 0 and from 4 GiB
 *   tsc_khz              frequency of the TSC
 *   time_ns              guest time
 *   cpu                  what vcpu 0 answers to CPUID:
 *     features             names of all the features the CPU has, as in CPU models
 *     phys_bits            width of physical addresses
 *     max_basic, max_extended  highest leaves
 *     leaves               array of {leaf, subleaf, indexed, eax, ebx, ecx, edx}; indexed: the leaf has subleaves
 *   slots                array, by address, of {gpa, length, flags, kind}: as in vcore_memory_add(); flags "r", "w" and
 *                        "x", and attributes as in a machine's description
 *   devices              array, in the order in which they were added, of
 *     type                 as for vcore_device_add(), or what the program or the machine type calls it
 *     properties           as for vcore_device_add(); null: it was not added by its type
 *     fixed                whether it is a part of the machine type
 *     gsi                  its interrupt line; 0: none
 *     base                 address of its registers; 0: none
 *     state                bytes of its section
 */
#include <json.h>
#include <stdio.h>
#include <stdlib.h>

#include "vm/json.h"
#include "vm/snapshot_codec.h"

#define DEVICES_MAX 4096u
#define SLOTS_MAX   4096u
#define STATE_MAX   VC_GIB(1)
#define PHYS_MIN    32u
#define PHYS_MAX    52u

static const struct vc_json_word flag_words[] = {{"r", VCORE_MEM_R},
                                                 {"w", VCORE_MEM_W},
                                                 {"x", VCORE_MEM_X},
                                                 {"huge-2m", VCORE_MEM_HUGE_2M},
                                                 {"huge-1g", VCORE_MEM_HUGE_1G},
                                                 {"thp", VCORE_MEM_THP},
                                                 {"prealloc", VCORE_MEM_PREALLOC},
                                                 {"mergeable", VCORE_MEM_MERGEABLE},
                                                 {"locked", VCORE_MEM_LOCKED},
                                                 {"log-dirty", VCORE_MEM_LOG_DIRTY},
                                                 {0}};
static const struct vc_json_word kind_words[] = {
    {"anon", VCORE_MEMORY_ANON},       {"memfd", VCORE_MEMORY_MEMFD},
    {"file", VCORE_MEMORY_FILE},       {"private-file", VCORE_MEMORY_PRIVATE_FILE},
    {"pointer", VCORE_MEMORY_POINTER}, {0}};

/* What the tables of keys speak of, where the snapshot's own fields are of other types. */
struct header {
	const char *id;
	uint32_t machine, backend, engine, irqchip, unhandled, no_legacy, has_hpet, has_cpu_hotplug, vcpus;
	uint64_t ram_low, ram_high, tsc_khz, time_ns;
};
struct device {
	const char *type, *properties;
	uint32_t fixed, gsi;
	uint64_t base, length;
};

#define AT(member) offsetof(struct header, member)
static const struct vc_json_key header_keys[] = {
    {"id", VC_JSON_STRING, AT(id), NULL, 0},
    {"machine", VC_JSON_WORD, AT(machine), vc_json_machine_words, 0},
    {"backend", VC_JSON_WORD, AT(backend), vc_json_backend_words, 0},
    {"engine", VC_JSON_WORD, AT(engine), vc_json_engine_words, 0},
    {"irqchip", VC_JSON_WORD, AT(irqchip), vc_json_irqchip_words, 0},
    {"unhandled", VC_JSON_WORD, AT(unhandled), vc_json_unhandled_words, 0},
    {"legacy", VC_JSON_BOOL_NOT, AT(no_legacy), NULL, 0},
    {"hpet", VC_JSON_BOOL, AT(has_hpet), NULL, 0},
    {"cpu_hotplug", VC_JSON_BOOL, AT(has_cpu_hotplug), NULL, 0},
    {"vcpus", VC_JSON_U32, AT(vcpus), NULL, VC_MAX_VCPUS},
    {"ram_low", VC_JSON_U64, AT(ram_low), NULL, 1ull << PHYS_MAX},
    {"ram_high", VC_JSON_U64, AT(ram_high), NULL, 1ull << PHYS_MAX},
    {"tsc_khz", VC_JSON_U64, AT(tsc_khz), NULL, UINT32_MAX},
    {"time_ns", VC_JSON_U64, AT(time_ns), NULL, 1ull << 62},
    {"cpu", VC_JSON_ELSEWHERE, 0, NULL, 0},
    {"slots", VC_JSON_ELSEWHERE, 0, NULL, 0},
    {"devices", VC_JSON_ELSEWHERE, 0, NULL, 0},
    {0},
};
#undef AT

#define AT(member) offsetof(struct vc_cpuid, member)
static const struct vc_json_key cpu_keys[] = {
    {"features", VC_JSON_ELSEWHERE, 0, NULL, 0},
    {"phys_bits", VC_JSON_U32, AT(phys_bits), NULL, PHYS_MAX},
    {"max_basic", VC_JSON_U32, AT(max_basic), NULL, UINT32_MAX},
    {"max_extended", VC_JSON_U32, AT(max_extended), NULL, UINT32_MAX},
    {"leaves", VC_JSON_ELSEWHERE, 0, NULL, 0},
    {0},
};
#undef AT

#define AT(member) offsetof(struct vc_cpuid_entry, member)
static const struct vc_json_key leaf_keys[] = {
    {"leaf", VC_JSON_U32, AT(leaf), NULL, UINT32_MAX},        {"subleaf", VC_JSON_U32, AT(subleaf), NULL, UINT32_MAX},
    {"indexed", VC_JSON_BOOL, AT(has_subleaf), NULL, 0},      {"eax", VC_JSON_U32, AT(regs[VC_EAX]), NULL, UINT32_MAX},
    {"ebx", VC_JSON_U32, AT(regs[VC_EBX]), NULL, UINT32_MAX}, {"ecx", VC_JSON_U32, AT(regs[VC_ECX]), NULL, UINT32_MAX},
    {"edx", VC_JSON_U32, AT(regs[VC_EDX]), NULL, UINT32_MAX}, {0},
};
#undef AT

#define AT(member) offsetof(struct vc_snapshot_slot, member)
static const struct vc_json_key slot_keys[] = {
    {"gpa", VC_JSON_U64, AT(gpa), NULL, 1ull << PHYS_MAX},
    {"length", VC_JSON_U64, AT(length), NULL, 1ull << PHYS_MAX},
    {"flags", VC_JSON_FLAGS, AT(flags), flag_words, 0},
    {"kind", VC_JSON_WORD, AT(kind), kind_words, 0},
    {0},
};
#undef AT

#define AT(member) offsetof(struct device, member)
static const struct vc_json_key device_keys[] = {
    {"type", VC_JSON_STRING, AT(type), NULL, 0},
    {"properties", VC_JSON_STRING, AT(properties), NULL, 0},
    {"fixed", VC_JSON_BOOL, AT(fixed), NULL, 0},
    {"gsi", VC_JSON_U32, AT(gsi), NULL, UINT32_MAX},
    {"base", VC_JSON_U64, AT(base), NULL, UINT64_MAX},
    {"state", VC_JSON_U64, AT(length), NULL, STATE_MAX},
    {0},
};
#undef AT

/* ---- writing ---- */

static struct json_object *write_cpu(const struct vc_cpuid *cpuid)
{
	struct json_object *cpu = json_object_new_object(), *features = json_object_new_array();
	struct json_object *leaves = json_object_new_array();

	vc_json_put(cpu, cpu_keys, cpuid);
	for (unsigned f = VC_F_NONE + 1; f < VC_F_COUNT; f++)
		if (vc_feature_has(&cpuid->features, f))
			json_object_array_add(features, json_object_new_string(vc_feature_name(f)));
	for (uint32_t i = 0; i < cpuid->count; i++) {
		struct json_object *leaf = json_object_new_object();

		vc_json_put(leaf, leaf_keys, &cpuid->entries[i]);
		json_object_array_add(leaves, leaf);
	}
	json_object_object_add(cpu, "features", features);
	json_object_object_add(cpu, "leaves", leaves);
	return cpu;
}

static struct json_object *write_slots(const struct vcore_snapshot *s)
{
	struct json_object *slots = json_object_new_array();

	for (uint32_t i = 0; i < s->slots; i++) {
		struct json_object *slot = json_object_new_object();

		vc_json_put(slot, slot_keys, &s->slot[i]);
		json_object_array_add(slots, slot);
	}
	return slots;
}

static struct json_object *write_devices(const struct vcore_snapshot *s)
{
	struct json_object *devices = json_object_new_array();

	for (uint32_t i = 0; i < s->devices; i++) {
		const struct vc_snapshot_device *d = &s->device[i];
		struct device values = {d->type, d->properties, d->fixed, d->gsi, d->base, d->length};
		struct json_object *device = json_object_new_object();

		vc_json_put(device, device_keys, &values);
		json_object_array_add(devices, device);
	}
	return devices;
}

char *vc_snapshot_header_write(const struct vcore_snapshot *s)
{
	struct json_object *root = json_object_new_object();
	struct header h = {
	    .machine = s->machine,
	    .backend = s->backend,
	    .engine = s->engine,
	    .irqchip = s->irqchip,
	    .unhandled = s->unhandled,
	    .no_legacy = s->no_legacy,
	    .has_hpet = s->has_hpet,
	    .has_cpu_hotplug = s->has_cpu_hotplug,
	    .vcpus = s->vcpus,
	    .ram_low = s->ram_low,
	    .ram_high = s->ram_high,
	    .tsc_khz = s->tsc_khz,
	    .time_ns = s->time_ns,
	};
	char id[2 * sizeof s->id + 1], *text;

	for (size_t i = 0; i < sizeof s->id; i++)
		snprintf(id + 2 * i, 3, "%02x", s->id[i]);
	h.id = id;
	vc_json_put(root, header_keys, &h);
	json_object_object_add(root, "cpu", write_cpu(&s->cpuid));
	json_object_object_add(root, "slots", write_slots(s));
	json_object_object_add(root, "devices", write_devices(s));
	text = (char *)json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	text = text ? strdup(text) : NULL;
	json_object_put(root);
	if (!text)
		vc_fail(ENOMEM, "no memory for the header of a snapshot");
	return text;
}

/* ---- reading ---- */

/* An object with all of the keys, and no others. */
static int take(const char *what, struct json_object *object, const struct vc_json_key *keys, void *values)
{
	int r;

	if (!json_object_is_type(object, json_type_object))
		return vc_fail(EINVAL, "the header's %s is no object", what);
	for (const struct vc_json_key *k = keys; k->name; k++)
		if (!json_object_object_get_ex(object, k->name, NULL))
			return vc_fail(EINVAL, "the header's %s has no \"%s\"", what, k->name);
	r = vc_json_take(object, keys, values);
	return r < 0 ? vc_fail(-r, "the header's %s: %s", what, vcore_error_message()) : 0;
}

/* An array of at most so many values. */
static int take_array(struct json_object *object, const char *key, size_t most, struct json_object **array,
                      size_t *count)
{
	*array = json_object_object_get(object, key);
	if (!json_object_is_type(*array, json_type_array))
		return vc_fail(EINVAL, "the header's \"%s\" is no array", key);
	*count = json_object_array_length(*array);
	return *count <= most ? 0 : vc_fail(EINVAL, "the header's \"%s\" are %zu: expected at most %zu", key, *count, most);
}

static int read_feature(struct json_object *value, struct vc_feature_set *set)
{
	const char *name = json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;

	for (unsigned f = VC_F_NONE + 1; name && f < VC_F_COUNT; f++)
		if (!strcmp(name, vc_feature_name(f))) {
			vc_feature_put(set, f, true);
			return 0;
		}
	return vc_fail(ENOTSUP, "the guest's CPU has the feature \"%.40s\", which this library does not know",
	               name ? name : "");
}

static int read_cpu(struct json_object *cpu, struct vc_cpuid *cpuid)
{
	struct json_object *array;
	size_t count = 0;
	int r = take("cpu", cpu, cpu_keys, cpuid);

	if (r >= 0 && cpuid->phys_bits < PHYS_MIN)
		r = vc_fail(EINVAL, "the header's phys_bits is %u: expected %u to %u", cpuid->phys_bits, PHYS_MIN, PHYS_MAX);
	if (r >= 0)
		r = take_array(cpu, "features", VC_F_COUNT, &array, &count);
	for (size_t i = 0; r >= 0 && i < count; i++)
		r = read_feature(json_object_array_get_idx(array, i), &cpuid->features);
	if (r >= 0)
		r = take_array(cpu, "leaves", VC_CPUID_MAX, &array, &count);
	for (size_t i = 0; r >= 0 && i < count; i++)
		r = take("leaf", json_object_array_get_idx(array, i), leaf_keys, &cpuid->entries[i]);
	cpuid->count = (uint32_t)count;
	return r;
}

/* Whole pages, one slot behind the other. */
static int check_slot(const struct vcore_snapshot *s, uint32_t index)
{
	const struct vc_snapshot_slot *slot = &s->slot[index], *before = index ? slot - 1 : NULL;
	uint64_t from = before ? before->gpa + before->length : 0;

	if (!slot->length || !VC_IS_ALIGNED(slot->gpa | slot->length, VC_PAGE_SIZE) || slot->gpa < from)
		return vc_fail(EINVAL, "the header's slot %u is [%#llx, +%#llx): expected whole pages from %#llx on", index,
		               (unsigned long long)slot->gpa, (unsigned long long)slot->length, (unsigned long long)from);
	return 0;
}

static int read_slots(struct json_object *root, struct vcore_snapshot *s)
{
	struct json_object *array;
	size_t count;
	int r = take_array(root, "slots", SLOTS_MAX, &array, &count);

	if (r < 0)
		return r;
	s->slot = calloc(count + 1, sizeof *s->slot);
	if (!s->slot)
		return vc_fail(ENOMEM, "no memory for %zu slots", count);
	s->slots = (uint32_t)count;
	for (uint32_t i = 0; r >= 0 && i < s->slots; i++) {
		r = take("slot", json_object_array_get_idx(array, i), slot_keys, &s->slot[i]);
		if (r >= 0)
			r = check_slot(s, i);
	}
	return r;
}

static int read_device(struct json_object *object, struct vc_snapshot_device *to)
{
	struct device d = {0};
	int r = take("device", object, device_keys, &d);

	if (r < 0)
		return r;
	if (!d.type || !d.type[0] || strlen(d.type) >= sizeof to->type)
		return vc_fail(EINVAL, "the header has a device of type \"%.64s\": expected 1 to %zu characters",
		               d.type ? d.type : "", sizeof to->type - 1);
	if (d.properties && !(to->properties = strdup(d.properties)))
		return vc_fail(ENOMEM, "no memory for the properties of a device");
	snprintf(to->type, sizeof to->type, "%s", d.type);
	to->fixed = d.fixed;
	to->gsi = d.gsi;
	to->base = d.base;
	to->length = d.length;
	return 0;
}

static int read_devices(struct json_object *root, struct vcore_snapshot *s)
{
	struct json_object *array;
	size_t count;
	int r = take_array(root, "devices", DEVICES_MAX, &array, &count);

	if (r < 0)
		return r;
	s->device = calloc(count + 1, sizeof *s->device);
	if (!s->device)
		return vc_fail(ENOMEM, "no memory for the states of %zu devices", count);
	s->devices = (uint32_t)count;
	for (uint32_t i = 0; r >= 0 && i < s->devices; i++)
		r = read_device(json_object_array_get_idx(array, i), &s->device[i]);
	return r;
}

static int read_id(const char *text, struct vcore_snapshot *s)
{
	size_t digits = 2 * sizeof s->id;

	if (!text || strlen(text) != digits || strspn(text, "0123456789abcdef") != digits)
		return vc_fail(EINVAL, "the header's id is \"%.64s\": expected %zu hexadecimal digits", text ? text : "",
		               digits);
	for (size_t i = 0; i < sizeof s->id; i++)
		sscanf(text + 2 * i, "%2hhx", &s->id[i]);
	return 0;
}

static int read_machine(struct json_object *root, struct vcore_snapshot *s)
{
	struct header h = {0};
	int r = take("object", root, header_keys, &h);

	if (r >= 0)
		r = read_id(h.id, s);
	if (r < 0)
		return r;
	if (!h.vcpus)
		return vc_fail(EINVAL, "the header's vcpus is 0: expected 1 to %u", VC_MAX_VCPUS);
	if (!h.tsc_khz)
		return vc_fail(EINVAL, "the header's tsc_khz is 0");
	s->vcpu = calloc(h.vcpus, sizeof *s->vcpu);
	if (!s->vcpu)
		return vc_fail(ENOMEM, "no memory for the state of %u vcpus", h.vcpus);
	s->machine = h.machine;
	s->backend = h.backend;
	s->engine = h.engine;
	s->irqchip = h.irqchip;
	s->unhandled = h.unhandled;
	s->no_legacy = h.no_legacy;
	s->has_hpet = h.has_hpet;
	s->has_cpu_hotplug = h.has_cpu_hotplug;
	s->vcpus = h.vcpus;
	s->ram_low = h.ram_low;
	s->ram_high = h.ram_high;
	s->tsc_khz = h.tsc_khz;
	s->time_ns = h.time_ns;
	return 0;
}

int vc_snapshot_header_read(const char *text, struct vcore_snapshot *s)
{
	struct json_object *root;
	int r = vc_json_parse(text, &root);

	if (r < 0)
		return vc_fail(-r, "the header: %s", vcore_error_message());
	r = read_machine(root, s);
	if (r >= 0)
		r = read_cpu(json_object_object_get(root, "cpu"), &s->cpuid);
	if (r >= 0)
		r = read_slots(root, s);
	if (r >= 0)
		r = read_devices(root, s);
	json_object_put(root);
	return r;
}
