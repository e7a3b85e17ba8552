/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A vm from a JSON description. */
#include "api.h"

#include <unistd.h>

static vcore_vm *from(const char *text)
{
	vcore_vm *vm = NULL;

	OK(vcore_vm_new_from_json(text, &vm));
	ck_assert_ptr_nonnull(vm);
	return vm;
}

static struct vcore_vm_info info_of(vcore_vm *vm)
{
	struct vcore_vm_info info = {.size = sizeof info};

	OK(vcore_vm_get_info(vm, &info));
	return info;
}

static bool without_json(void)
{
	vcore_vm *vm = (vcore_vm *)&vm;
	int r = vcore_vm_new_from_json("{}", &vm);

	if (r == -ENOTSUP) {
		ck_assert_ptr_nonnull(strstr(vcore_error_message(), "json-c"));
		ck_assert_ptr_null(vm);
		printf("SKIP: %s\n", vcore_error_message());
		return true;
	}
	OK(r);
	vcore_vm_unref(vm);
	return false;
}

START_TEST(all_keys)
{
	struct vcore_vm_info info;
	uint32_t out[4];
	vcore_vm *vm;

	if (without_json())
		return;
	vm = from(
	    "{ \"machine\": \"microvm\", \"backend\": \"emu\", \"engine\": \"interp\", \"irqchip\": \"user\", \"cpus\": 3,"
	    "  \"cpu\": \"x86-64-v2,-popcnt\", \"memory\": \"64M\", \"memory_kind\": \"memfd\","
	    "  \"memory_flags\": [\"thp\", \"mergeable\", \"prealloc\", \"log-dirty\"], \"unhandled\": \"ignore\","
	    "  \"tsc_khz\": 2000000, \"legacy\": false,"
	    "  \"devices\": [{\"type\": \"uart\", \"output\": \"null\"}, {\"type\": \"debug-exit\", \"addr\": \"0x501\"}] "
	    "}");
	info = info_of(vm);
	ck_assert_uint_eq(info.machine, VCORE_MACHINE_MICROVM);
	ck_assert_uint_eq(info.backend, VCORE_BACKEND_EMU);
	ck_assert_uint_eq(info.irqchip, VCORE_IRQCHIP_USER);
	ck_assert_uint_eq(info.vcpus, 3);
	ck_assert_uint_eq(info.memory, 64u << 20);
	ck_assert_uint_eq(info.tsc_khz, 2000000);
	OK(vcore_vcpu_cpuid(vcore_vm_vcpu(vm, 0), 1, 0, out));
	ck_assert_uint_eq(out[2] >> 23 & 1, 0);
	REFUSED(vcore_device_add(vm, "debug-exit", "addr=0x501", NULL), EEXIST, "overlaps");
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(defaults_and_numbers)
{
	vcore_vm *vm;

	if (without_json())
		return;
	vm = from("{\"backend\":\"emu\"}");
	ck_assert_uint_eq(info_of(vm).machine, VCORE_MACHINE_MICROVM);
	ck_assert_uint_eq(info_of(vm).memory, 128u << 20);
	vcore_vm_unref(vm);
	vm = from("{\"backend\":\"emu\",\"machine\":\"none\",\"memory\":8192,\"unhandled\":\"exit\"}");
	ck_assert_uint_eq(info_of(vm).memory, 8192);
	ck_assert_uint_eq(info_of(vm).machine, VCORE_MACHINE_NONE);
	vcore_vm_unref(vm);
	vm = from("{\"backend\":\"emu\",\"machine\":\"none\",\"memory\":\"0x2000\"}");
	ck_assert_uint_eq(info_of(vm).memory, 8192);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(boots)
{
	char path[] = "/tmp/virtcore-json-XXXXXX", text[400];
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vm *vm;
	int fd;

	if (without_json())
		return;
	fd = mkstemp(path);
	ck_assert_int_eq(write(fd, "\xb0\x2a\xe6\xf4\xf4", 5), 5);
	close(fd);
	snprintf(text, sizeof text,
	         "{\"backend\":\"%s\",\"memory\":\"4M\",\"devices\":[{\"type\":\"debug-exit\"}],"
	         "\"boot\":{\"kernel\":\"%s\",\"image\":\"flat\",\"address\":\"31K\"}}",
	         api_backend_word(_i), path);
	vm = from(text);
	OK(vcore_vm_start(vm));
	OK(vcore_vm_wait(vm, LONG, &exit));
	ck_assert_uint_eq(exit.code, 42);
	unlink(path);
	vcore_vm_unref(vm);
}
END_TEST

/* The description; what the sentence must name. */
static const struct {
	const char *text, *names;
	int error;
} wrong[] = {
    {"{\"backend\": \"emu\", \"switches\": \"lan\"}", "switches", EINVAL},
    {"{\"backend\": \"emu\", \"switches\": [5]}", "switches", EINVAL},
    {"{\"backend\": \"emu\", \"switches\": [\"\"]}", "name", EINVAL},
    {"{\"backend\": \"emu\", \"switches\": [\"a\", \"a\"]}", "a", EEXIST},
    {"{\"backend\": \"emu\", \"devices\": [{\"type\": \"virtio-net\", \"net\": \"switch\", \"switch\": \"lan\"}]}",
     "lan", ENOENT},
    {"", "description", EINVAL},
    {"{", "byte", EINVAL},
    {"{} x", "byte", EINVAL},
    {"[]", "object", EINVAL},
    {"{\"memori\": 1}", "memori", EINVAL},
    {"{\"memory\": \"lots\"}", "\"memory\" is \"lots\"", EINVAL},
    {"{\"memory\": \"512MB\"}", "512MB", EINVAL},
    {"{\"memory\": \" -4096\"}", "memory", EINVAL},
    {"{\"memory\": -4096}", "-4096", EINVAL},
    {"{\"memory\": 5}", "memory is 0x5", EINVAL},
    {"{\"memory\": null}", "memory", EINVAL},
    {"{\"memory\": \"99999999999T\"}", "99999999999T", EINVAL},
    {"{\"cpus\": 256}", "\"cpus\" is 256", EINVAL},
    {"{\"cpus\": \"two\"}", "two", EINVAL},
    {"{\"cpus\": 1.5}", "1.5", EINVAL},
    {"{\"cpus\": 18446744073709551617}", "cpus", EINVAL},
    {"{\"cpu\": 5}", "\"cpu\" is 5", EINVAL},
    {"{\"backend\":\"emu\",\"cpu\": \"z80\"}", "z80", EINVAL},
    {"{\"machine\": \"toaster\"}", "toaster", EINVAL},
    {"{\"machine\": \"pc\"}", "pc", ENOTSUP},
    {"{\"backend\": \"xen\"}", "\"auto\", \"kvm\", \"emu\"", EINVAL},
    {"{\"engine\": 1}", "engine", EINVAL},
    {"{\"irqchip\": true}", "irqchip", EINVAL},
    {"{\"memory_kind\": \"file\"}", "memory_kind", EINVAL},
    {"{\"memory_flags\": \"thp\"}", "memory_flags", EINVAL},
    {"{\"memory_flags\": [\"huge\"]}", "huge-2m", EINVAL},
    {"{\"unhandled\": \"panic\"}", "unhandled", EINVAL},
    {"{\"tsc_khz\": 100000001}", "tsc_khz", EINVAL},
    {"{\"legacy\": 1}", "\"legacy\" is 1", EINVAL},
    {"{\"backend\":\"emu\",\"devices\": {}}", "devices", EINVAL},
    {"{\"backend\":\"emu\",\"devices\": [5]}", "devices", EINVAL},
    {"{\"backend\":\"emu\",\"devices\": [{}]}", "type", EINVAL},
    {"{\"backend\":\"emu\",\"devices\": [{\"type\": 5}]}", "type", EINVAL},
    {"{\"backend\":\"emu\",\"devices\": [{\"type\": \"warp\"}]}", "warp", ENOENT},
    {"{\"backend\":\"emu\",\"devices\": [{\"type\": \"debug-exit\", \"port\": 1}]}", "port", EINVAL},
    {"{\"backend\":\"emu\",\"devices\": [{\"type\": \"debug-exit\", \"addr\": []}]}", "addr", EINVAL},
    {"{\"backend\":\"emu\",\"boot\": 5}", "boot", EINVAL},
    {"{\"backend\":\"emu\",\"boot\": {\"kernal\": \"x\"}}", "kernal", EINVAL},
    {"{\"backend\":\"emu\",\"boot\": {\"kernel\": 5}}", "kernel", EINVAL},
    {"{\"backend\":\"emu\",\"boot\": {\"image\": \"zip\"}}", "zip", EINVAL},
    {"{\"backend\":\"emu\",\"boot\": {\"modules\": \"a\"}}", "modules", EINVAL},
    {"{\"backend\":\"emu\",\"boot\": {\"modules\": [1]}}", "modules", EINVAL},
    {"{\"backend\":\"emu\",\"boot\": {\"modules\": [\"a\"], \"address\": false}}", "address", EINVAL},
    {"{\"backend\":\"emu\",\"boot\": {}}", "no kernel", EINVAL},
    {"{\"backend\":\"emu\",\"boot\": {\"kernel\": \"/no/such\"}}", "/no/such", ENOENT},
    {"{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{"
     "\"a\":1}}}}}}}}}}}}}}}}}",
     "description", EINVAL},
};

/* A switch of the vm's own between two of its NICs. */
START_TEST(switches)
{
	vcore_vm *vm;

	if (without_json())
		return;
	vm = from("{ \"backend\": \"emu\", \"memory\": \"2M\", \"switches\": [\"lan\", \"dmz\"], \"devices\": ["
	          "{\"type\": \"virtio-net\", \"net\": \"switch\", \"switch\": \"lan\", \"vlan\": 5},"
	          "{\"type\": \"virtio-net\", \"net\": \"switch\", \"switch\": \"dmz\", \"queues\": 4}] }");
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(refusals)
{
	vcore_vm *vm = NULL;

	if (without_json())
		return;
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		vm = (vcore_vm *)&vm;
		REFUSED(vcore_vm_new_from_json(wrong[i].text, &vm), wrong[i].error, wrong[i].names);
		ck_assert_ptr_null(vm);
	}
	REFUSED(vcore_vm_new_from_json(NULL, &vm), EINVAL, "text");
	REFUSED(vcore_vm_new_from_json("{}", NULL), EINVAL, "place");
}
END_TEST

/* The full description of `from`, taken back, is the same again. */
static void described(const char *from, const char *expected)
{
	char text[4000], again[4000], small[10];
	int length;

	OK(length = vcore_describe(from, NULL, NULL, NULL, text, sizeof text));
	ck_assert_uint_eq((size_t)length, strlen(text));
	ck_assert_msg(strstr(text, expected), "\"%s\" does not say %s", text, expected);
	OK(vcore_describe(text, NULL, NULL, NULL, again, sizeof again));
	ck_assert_str_eq(again, text);
	ck_assert_int_eq(vcore_describe(from, NULL, NULL, NULL, NULL, 0), length);
	ck_assert_int_eq(vcore_describe(from, NULL, NULL, NULL, small, sizeof small), length);
	ck_assert_uint_eq(strlen(small), sizeof small - 1);
}

START_TEST(describing)
{
	static const char *const devices[] = {"debug-exit,addr=0xf4", "uart", NULL}, *const odd[] = {"uart,a=1,a=2", NULL};
	struct vcore_options o = {.size = sizeof o, .machine = VCORE_MACHINE_NONE, .vcpus = 3, .memory = 4096};
	struct vcore_boot_options b = {.size = sizeof b, .kernel = "/a/b", .cmdline = "\"x\""};
	char text[4000];
	vcore_vm *vm;

	if (without_json())
		return;
	described("{}", "\"memory\": 134217728");
	described("{\"memory\": \"1G\", \"memory_flags\": [\"thp\", \"log-dirty\"]}", "\"log-dirty\"");
	described("{\"machine\": \"none\"}", "\"unhandled\": \"exit\"");
	described("{\"boot\": {\"kernel\": \"k\", \"modules\": [\"a b\"]}}", "\"a b\"");
	described("{\"devices\": [{\"type\": \"uart\", \"addr\": 1016}]}", "\"addr\": 1016");
	OK(vcore_describe(NULL, &o, &b, devices, text, sizeof text));
	ck_assert_ptr_nonnull(strstr(text, "\"cpus\": 3"));
	ck_assert_ptr_nonnull(strstr(text, "\"kernel\": \"/a/b\""));
	ck_assert_ptr_nonnull(strstr(text, "\"cmdline\": \"\\\"x\\\"\""));
	ck_assert_ptr_nonnull(strstr(text, "\"addr\": \"0xf4\""));
	/* nulls are taken, too, by what makes a vm */
	OK(vcore_describe("{\"backend\": \"emu\", \"machine\": \"none\"}", NULL, NULL, NULL, text, sizeof text));
	OK(vcore_vm_new_from_json(text, &vm));
	vcore_vm_unref(vm);
	REFUSED(vcore_describe("{\"cqus\": 1}", NULL, NULL, NULL, text, sizeof text), EINVAL, "cqus");
	REFUSED(vcore_describe("[]", NULL, NULL, NULL, text, sizeof text), EINVAL, "object");
	REFUSED(vcore_describe("{\"devices\": [{}]}", NULL, NULL, NULL, text, sizeof text), EINVAL, "type");
	REFUSED(vcore_describe("{\"devices\": [1]}", NULL, NULL, devices, text, sizeof text), EINVAL, "type");
	REFUSED(vcore_describe("{\"boot\": 1}", NULL, NULL, NULL, text, sizeof text), EINVAL, "boot");
	REFUSED(vcore_describe("{\"boot\": {\"modules\": [null]}}", NULL, NULL, NULL, text, sizeof text), EINVAL,
	        "modules");
	REFUSED(vcore_describe(NULL, NULL, NULL, odd, text, sizeof text), EINVAL, "twice");
	REFUSED(vcore_describe(NULL, NULL, NULL, NULL, NULL, 1), EINVAL, "room");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("json");
	TCase *tcase = tcase_create("json");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, all_keys);
	tcase_add_test(tcase, defaults_and_numbers);
	EACH(tcase, boots);
	tcase_add_test(tcase, switches);
	tcase_add_test(tcase, refusals);
	tcase_add_test(tcase, describing);
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
