/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A snapshot as bytes: the same again, and nothing else. */
#include <check.h>
#include <errno.h>
#include <json.h>
#include <stdlib.h>
#include <string.h>
#include <virtcore/error.h>

#include "core/crc32c.h"
#include "core/util.h"
#include "cpu/state_codec.h"
#include "vm/sections.h"
#include "vm/snapshot_codec.h"

static uint32_t seed = 1;

static uint8_t random_byte(void)
{
	seed = seed * 1664525 + 1013904223;
	return (uint8_t)(seed >> 24);
}

static void fill(void *at, size_t length)
{
	for (uint8_t *p = at; length--; p++)
		*p = random_byte();
}

START_TEST(test_crc32c)
{
	uint8_t zeroes[32] = {0};

	/* RFC 3720, B.4 */
	ck_assert_uint_eq(vc_crc32c(0, zeroes, 32), 0x8a9136aa);
	ck_assert_uint_eq(vc_crc32c(0, "123456789", 9), 0xe3069283);
	ck_assert_uint_eq(vc_crc32c(vc_crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
	ck_assert_uint_eq(vc_crc32c(0, zeroes, 0), 0);
}
END_TEST

/* ---- vcpus ---- */

static void clear_pads(struct vc_cpu_state *s)
{
	const size_t end = offsetof(struct vc_cpu_state, exception_error) + sizeof s->exception_error;

	for (int i = 0; i < VC_SEG_COUNT; i++)
		s->seg[i].pad = 0;
	s->ldtr.pad = s->tr.pad = 0;
	memset(s->gdtr.pad, 0, sizeof s->gdtr.pad);
	memset(s->idtr.pad, 0, sizeof s->idtr.pad);
	memset((uint8_t *)s + offsetof(struct vc_cpu_state, interrupt_soft) + 1, 0,
	       offsetof(struct vc_cpu_state, exception_error) - offsetof(struct vc_cpu_state, interrupt_soft) - 1);
	memset((uint8_t *)s + end, 0, offsetof(struct vc_cpu_state, xsave) - end);
}

/* No field is forgotten: whatever is not padding comes back. */
START_TEST(test_cpu_state)
{
	static struct vc_cpu_state from, to;
	uint8_t *bytes = malloc(vc_cpu_state_bytes());

	fill(&from, sizeof from);
	clear_pads(&from);
	vc_cpu_state_encode(&from, bytes);
	fill(&to, sizeof to);
	vc_cpu_state_decode(bytes, &to);
	ck_assert_mem_eq(&from, &to, sizeof from);
	ck_assert_uint_eq(vc_ld64(bytes + 3 * 8), from.gpr[VC_RBX]);
	free(bytes);
}
END_TEST

/* ---- sections ---- */

START_TEST(test_sections)
{
	struct vc_sections_out out = {0};
	struct vc_sections in;
	const uint8_t *at;
	uint8_t *data;
	size_t length, size;

	memcpy(vc_sections_add(&out, 7, 3, 5), "hello", 5);
	ck_assert_ptr_nonnull(vc_sections_add(&out, 8, 1, 0));
	ck_assert_int_eq(vc_sections_end(&out, &data, &length), 0);
	ck_assert_uint_eq(length, 32 + 32 + 8 + 32);

	ck_assert_int_eq(vc_sections_open(&in, data, length), 0);
	ck_assert_int_eq(vc_sections_take(&in, 8, 1, &at, &size), -EINVAL);
	ck_assert_int_eq(vc_sections_take(&in, 7, 4, &at, &size), -EINVAL);
	ck_assert_ptr_nonnull(strstr(vcore_error_message(), "version 3"));
	ck_assert_int_eq(vc_sections_take(&in, 7, 3, &at, &size), 0);
	ck_assert_uint_eq(size, 5);
	ck_assert_mem_eq(at, "hello", 5);
	ck_assert_int_eq(vc_sections_close(&in), -EINVAL);
	ck_assert_int_eq(vc_sections_take(&in, 8, 1, &at, &size), 0);
	ck_assert_uint_eq(size, 0);
	ck_assert_int_eq(vc_sections_close(&in), 0);
	ck_assert_int_eq(vc_sections_take(&in, 8, 1, &at, &size), -EINVAL);
	free(data);
}
END_TEST

/* ---- all of it ---- */

static struct vcore_snapshot *make(void)
{
	struct vcore_snapshot *s = calloc(1, sizeof *s);
	struct vc_cpu_model_request request = {.model = "x86-64-v2", .vcpus = 2, .phys_bits = 40, .tsc_khz = 1000000};
	struct vc_feature_set all;

	memset(&all, 0xff, sizeof all);
	request.offered = &all;
	s->refs = 1;
	fill(s->id, sizeof s->id);
	s->machine = VCORE_MACHINE_MICROVM;
	s->backend = VCORE_BACKEND_EMU;
	s->engine = VCORE_ENGINE_JIT;
	s->irqchip = VCORE_IRQCHIP_USER;
	s->unhandled = VCORE_UNHANDLED_IGNORE;
	s->no_legacy = s->has_hpet = s->has_cpu_hotplug = true;
	s->ram_low = VC_MIB(512);
	s->ram_high = VC_GIB(1);
	s->tsc_khz = 2400000;
	s->time_ns = 123456789012345;
	ck_assert_int_eq(vc_cpuid_build(&request, &s->cpuid, NULL, 0), 0);
	s->vcpus = 2;
	s->vcpu = calloc(2, sizeof *s->vcpu);
	for (int i = 0; i < 2; i++) {
		vc_cpu_state_reset(&s->vcpu[i].state, i == 0);
		s->vcpu[i].state.gpr[VC_R9] = 0x1122334455667788 + (uint64_t)i;
		s->vcpu[i].lapic = (struct vc_lapic_state){1, 2, 0xfee00800, 77 + (uint64_t)i, {1, 2, 3}};
	}
	s->devices = 3;
	s->device = calloc(3, sizeof *s->device);
	s->device[0] = (struct vc_snapshot_device){"hpet", NULL, true, 0, 0xfed00000, 5, malloc(6)};
	s->device[1] =
	    (struct vc_snapshot_device){"uart", strdup("input=null,output=\"x\\y/\xc3\xa4"), false, 4, 0x3f8, 0, malloc(1)};
	s->device[2] = (struct vc_snapshot_device){"mine", strdup(""), false, 0, UINT64_MAX, 300, malloc(301)};
	fill(s->device[0].state, 5);
	fill(s->device[2].state, 300);
	s->slots = 2;
	s->slot = calloc(2, sizeof *s->slot);
	s->slot[0] = (struct vc_snapshot_slot){0, VC_MIB(512), VCORE_MEM_RWX | VCORE_MEM_THP, VCORE_MEMORY_MEMFD, NULL};
	s->slot[1] = (struct vc_snapshot_slot){VC_GIB(4), VC_GIB(1), VCORE_MEM_R, VCORE_MEMORY_POINTER, NULL};
	return s;
}

static void compare_devices(const struct vcore_snapshot *a, const struct vcore_snapshot *b)
{
	for (uint32_t i = 0; i < a->devices; i++) {
		const struct vc_snapshot_device *x = &a->device[i], *y = &b->device[i];

		ck_assert_str_eq(x->type, y->type);
		ck_assert_pstr_eq(x->properties, y->properties);
		ck_assert_int_eq(x->fixed, y->fixed);
		ck_assert_uint_eq(x->gsi, y->gsi);
		ck_assert_uint_eq(x->base, y->base);
		ck_assert_uint_eq(x->length, y->length);
		ck_assert(!memcmp(x->state, y->state, x->length));
	}
}

static void compare(const struct vcore_snapshot *a, const struct vcore_snapshot *b)
{
	ck_assert_mem_eq(a->id, b->id, sizeof a->id);
	ck_assert_uint_eq(a->machine, b->machine);
	ck_assert_uint_eq(a->backend, b->backend);
	ck_assert_uint_eq(a->engine, b->engine);
	ck_assert_uint_eq(a->irqchip, b->irqchip);
	ck_assert_uint_eq(a->unhandled, b->unhandled);
	ck_assert_int_eq(a->no_legacy, b->no_legacy);
	ck_assert_int_eq(a->has_hpet, b->has_hpet);
	ck_assert_int_eq(a->has_cpu_hotplug, b->has_cpu_hotplug);
	ck_assert_uint_eq(a->ram_low, b->ram_low);
	ck_assert_uint_eq(a->ram_high, b->ram_high);
	ck_assert_uint_eq(a->tsc_khz, b->tsc_khz);
	ck_assert_uint_eq(a->time_ns, b->time_ns);
	ck_assert_mem_eq(&a->cpuid, &b->cpuid, sizeof a->cpuid);
	ck_assert_uint_eq(a->vcpus, b->vcpus);
	ck_assert_uint_eq(a->devices, b->devices);
	ck_assert_uint_eq(a->slots, b->slots);
	ck_assert_mem_eq(a->vcpu, b->vcpu, a->vcpus * sizeof *a->vcpu);
	compare_devices(a, b);
	for (uint32_t i = 0; i < a->slots; i++)
		ck_assert_mem_eq(&a->slot[i], &b->slot[i], sizeof a->slot[i]);
}

START_TEST(test_round_trip)
{
	struct vcore_snapshot *from = make(), *to;
	uint8_t *data, *longer;
	size_t length;

	ck_assert_int_eq(vc_snapshot_encode(from, &data, &length), 0);
	ck_assert_int_eq(vc_snapshot_decode(data, length, &to), 0);
	compare(from, to);
	vcore_snapshot_unref(to);
	/* something of the caller's behind it */
	longer = calloc(1, length + 100);
	memcpy(longer, data, length);
	ck_assert_int_eq(vc_snapshot_decode(longer, length + 100, &to), 0);
	vcore_snapshot_unref(to);
	free(longer);
	free(data);
	vcore_snapshot_unref(from);
}
END_TEST

START_TEST(test_cut)
{
	struct vcore_snapshot *from = make(), *to;
	uint8_t *data;
	size_t length;

	ck_assert_int_eq(vc_snapshot_encode(from, &data, &length), 0);
	for (size_t cut = 0; cut < length; cut++) {
		/* of its own size, so that the address sanitizer sees a read behind the end */
		uint8_t *part = malloc(cut + !cut);

		memcpy(part, data, cut);
		ck_assert_int_eq(vc_snapshot_decode(part, cut, &to), -EINVAL);
		free(part);
	}
	free(data);
	vcore_snapshot_unref(from);
}
END_TEST

/* No bit changes without being noticed. */
START_TEST(test_bits)
{
	struct vcore_snapshot *from = make(), *to;
	uint8_t *data;
	size_t length;

	ck_assert_int_eq(vc_snapshot_encode(from, &data, &length), 0);
	for (size_t i = 0; i < length; i++) {
		data[i] ^= 1 << (i % 8);
		ck_assert_int_eq(vc_snapshot_decode(data, length, &to), -EINVAL);
		data[i] ^= 1 << (i % 8);
	}
	ck_assert_int_eq(vc_snapshot_decode(data, length, &to), 0);
	vcore_snapshot_unref(to);
	free(data);
	vcore_snapshot_unref(from);
}
END_TEST

/* ---- headers that no snapshot has ---- */

/* The header with `path` (keys and indices, like a.0.b) made `value`; an empty value: taken away. */
static char *header_with(const struct vcore_snapshot *s, const char *path, const char *value)
{
	char *text = vc_snapshot_header_write(s), *keys = strdup(path), *rest = keys, *key;
	struct json_object *root = json_tokener_parse(text), *at = root;

	while ((key = strsep(&rest, "."))) {
		if (rest) {
			at = json_object_is_type(at, json_type_array) ? json_object_array_get_idx(at, strtoul(key, NULL, 10))
			                                              : json_object_object_get(at, key);
			ck_assert_ptr_nonnull(at);
		} else if (json_object_is_type(at, json_type_array)) {
			json_object_array_put_idx(at, strtoul(key, NULL, 10), json_tokener_parse(value));
		} else if (value[0]) {
			json_object_object_add(at, key, json_tokener_parse(value));
		} else {
			json_object_object_del(at, key);
		}
	}
	free(text);
	free(keys);
	text = strdup(json_object_to_json_string(root));
	json_object_put(root);
	return text;
}

static const struct {
	const char *path, *value, *sentence;
	int error;
} wrongs[] = {
    {"id", "\"12\"", "hexadecimal digits", EINVAL},
    {"id", "\"0123456789abcdef0123456789abcdeg\"", "hexadecimal digits", EINVAL},
    {"id", "null", "hexadecimal digits", EINVAL},
    {"id", "", "no \"id\"", EINVAL},
    {"machine", "\"toaster\"", "\"microvm\"", EINVAL},
    {"machine", "1", "\"microvm\"", EINVAL},
    {"backend", "\"qemu\"", "\"emu\"", EINVAL},
    {"engine", "\"steam\"", "\"jit\"", EINVAL},
    {"irqchip", "\"fish\"", "\"split\"", EINVAL},
    {"unhandled", "\"panic\"", "\"ignore\"", EINVAL},
    {"legacy", "1", "true or false", EINVAL},
    {"hpet", "null", "true or false", EINVAL},
    {"cpu_hotplug", "\"no\"", "true or false", EINVAL},
    {"vcpus", "0", "expected 1 to 255", EINVAL},
    {"vcpus", "256", "from 0 to 255", EINVAL},
    {"vcpus", "-1", "from 0 to 255", EINVAL},
    {"vcpus", "1.5", "from 0 to 255", EINVAL},
    {"ram_low", "4503599627370497", "ram_low", EINVAL},
    {"ram_high", "\"1G\"", "ram_high", EINVAL},
    {"tsc_khz", "0", "tsc_khz", EINVAL},
    {"tsc_khz", "4294967296", "tsc_khz", EINVAL},
    {"time_ns", "9223372036854775808", "time_ns", EINVAL},
    {"more", "1", "unknown key \"more\"", EINVAL},
    {"cpu", "[]", "cpu is no object", EINVAL},
    {"cpu", "", "no \"cpu\"", EINVAL},
    {"cpu.features", "{}", "\"features\" is no array", EINVAL},
    {"cpu.features.0", "\"warp\"", "\"warp\"", ENOTSUP},
    {"cpu.features.0", "7", "does not know", ENOTSUP},
    {"cpu.phys_bits", "31", "31", EINVAL},
    {"cpu.phys_bits", "53", "53", EINVAL},
    {"cpu.max_basic", "\"x\"", "max_basic", EINVAL},
    {"cpu.max_extended", "4294967296", "max_extended", EINVAL},
    {"cpu.leaves.0", "5", "leaf is no object", EINVAL},
    {"cpu.leaves.0.eax", "", "no \"eax\"", EINVAL},
    {"cpu.leaves.0.edx", "4294967296", "edx", EINVAL},
    {"cpu.leaves.99", "{}", "expected at most 80", EINVAL},
    {"slots", "5", "\"slots\" is no array", EINVAL},
    {"slots.0.gpa", "1", "whole pages", EINVAL},
    {"slots.0.length", "0", "whole pages", EINVAL},
    {"slots.0.length", "4097", "whole pages", EINVAL},
    {"slots.0.length", "4503599627370496", "slot 1", EINVAL},
    {"slots.0.flags", "[\"q\"]", "\"huge-2m\"", EINVAL},
    {"slots.0.kind", "\"cheese\"", "\"memfd\"", EINVAL},
    {"slots.1.gpa", "4096", "slot 1", EINVAL},
    {"slots.5000", "{}", "expected at most 4096", EINVAL},
    {"devices", "null", "\"devices\" is no array", EINVAL},
    {"devices.0.type", "\"\"", "1 to 31 characters", EINVAL},
    {"devices.0.type", "null", "1 to 31 characters", EINVAL},
    {"devices.0.type", "\"a type that has thirty-two letters\"", "1 to 31 characters", EINVAL},
    {"devices.1.properties", "7", "a string", EINVAL},
    {"devices.1.fixed", "\"yes\"", "true or false", EINVAL},
    {"devices.1.gsi", "-4", "gsi", EINVAL},
    {"devices.1.base", "-1", "base", EINVAL},
    {"devices.1.state", "1073741825", "state", EINVAL},
    {"devices.5000", "{}", "expected at most 4096", EINVAL},
};

START_TEST(test_header)
{
	struct vcore_snapshot *from = make(), *to = calloc(1, sizeof *to);
	char *text = header_with(from, wrongs[_i].path, wrongs[_i].value);

	to->refs = 1;
	ck_assert_int_eq(vc_snapshot_header_read(text, to), -wrongs[_i].error);
	ck_assert_msg(strstr(vcore_error_message(), wrongs[_i].sentence), "%s = %s: %s", wrongs[_i].path, wrongs[_i].value,
	              vcore_error_message());
	free(text);
	vcore_snapshot_unref(to);
	vcore_snapshot_unref(from);
}
END_TEST

START_TEST(test_header_text)
{
	static const char *const texts[] = {"", "{", "[]", "null", "{}", "7", "{\"id\":", "\xff"};
	struct vcore_snapshot *s = calloc(1, sizeof *s);

	s->refs = 1;
	for (size_t i = 0; i < VC_ARRAY_SIZE(texts); i++)
		ck_assert_int_eq(vc_snapshot_header_read(texts[i], s), -EINVAL);
	vcore_snapshot_unref(s);
}
END_TEST

/* A state that no CPU is in, with checksums that are right. */
START_TEST(test_vcpu)
{
	struct vcore_snapshot *from = make(), *to;
	uint8_t *data;
	size_t length;

	from->vcpu[1].state.cr0 = VC_CR0_PG;
	ck_assert_int_eq(vc_snapshot_encode(from, &data, &length), 0);
	ck_assert_int_eq(vc_snapshot_decode(data, length, &to), -EINVAL);
	ck_assert_ptr_nonnull(strstr(vcore_error_message(), "vcpu 1"));
	ck_assert_ptr_nonnull(strstr(vcore_error_message(), "CR0.PG"));
	free(data);
	vcore_snapshot_unref(from);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("snapshot_codec");
	TCase *c = tcase_create("codec");
	SRunner *r;
	int failed;

	tcase_add_test(c, test_crc32c);
	tcase_add_test(c, test_cpu_state);
	tcase_add_test(c, test_sections);
	tcase_add_test(c, test_round_trip);
	tcase_add_test(c, test_cut);
	tcase_add_test(c, test_bits);
	tcase_add_loop_test(c, test_header, 0, VC_ARRAY_SIZE(wrongs));
	tcase_add_test(c, test_header_text);
	tcase_add_test(c, test_vcpu);
	tcase_set_timeout(c, 60);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
