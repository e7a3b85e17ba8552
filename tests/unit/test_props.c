/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Properties of devices as text and as JSON, and the table of device types. */
#include <virtcore/error.h>

#include "config.h"
#include "device/device.h"
#include "platform_env.h"

static struct vc_props *parse(const char *text)
{
	struct vc_props *props = NULL;

	ck_assert_msg(vc_props_parse(text, &props) == 0, "'%s': %s", text, vcore_error_message());
	return props;
}

static void refuse(const char *text, const char *said)
{
	struct vc_props *props = NULL;

	ck_assert_msg(vc_props_parse(text, &props) == -EINVAL, "'%s' was taken", text);
	ck_assert_ptr_null(props);
	ck_assert_msg(strstr(vcore_error_message(), said) != NULL, "'%s': %s", text, vcore_error_message());
}

START_TEST(plain_text)
{
	struct vc_props *props = parse("path=/a,,b=c,flag,empty=,x-1.y_2=z");

	ck_assert_str_eq(vc_props_string(props, "path", ""), "/a,b=c");
	ck_assert_str_eq(vc_props_string(props, "flag", ""), "on");
	ck_assert_str_eq(vc_props_string(props, "empty", "?"), "");
	ck_assert_str_eq(vc_props_string(props, "x-1.y_2", ""), "z");
	ck_assert_ptr_null(vc_props_string(props, "other", NULL));
	ck_assert_int_eq(vc_props_finish(props, "t"), 0);
	vc_props_free(props);
}
END_TEST

START_TEST(nothing)
{
	const char *const texts[] = {NULL, "", "  "};

	for (unsigned i = 0; i < VC_ARRAY_SIZE(texts); i++) {
		struct vc_props *props = parse(texts[i]);

		ck_assert_int_eq(vc_props_finish(props, "t"), 0);
		vc_props_free(props);
	}
	vc_props_free(NULL);
}
END_TEST

START_TEST(bad_text)
{
	refuse("a=1,a=2", "twice");
	refuse("a=1,", "name");
	refuse(",a=1", "name");
	refuse("=1", "name");
	refuse("a b=1", "'a b'");
}
END_TEST

START_TEST(numbers)
{
	struct vc_props *props =
	    parse("d=12,h=0xfF,k=4K,m=2m,g=1G,big=18446744073709551615,over=18446744073709551616,wrap=17179869184G,"
	          "neg=-1,plus=+1,blank= 1,word=ten,unit=1T,tail=1KB,none=,hex=0x");
	static const struct {
		const char *key;
		uint64_t value;
	} good[] = {{"d", 12}, {"h", 255}, {"k", 4096}, {"m", 2 << 20}, {"g", 1 << 30}, {"big", UINT64_MAX}, {"absent", 7}};
	static const char *const bad[] = {"over", "wrap", "neg", "plus", "blank", "word", "unit", "tail", "none", "hex"};
	uint64_t value;

	for (unsigned i = 0; i < VC_ARRAY_SIZE(good); i++) {
		ck_assert_int_eq(vc_props_u64(props, good[i].key, 7, 0, UINT64_MAX, &value), 0);
		ck_assert_uint_eq(value, good[i].value);
	}
	for (unsigned i = 0; i < VC_ARRAY_SIZE(bad); i++) {
		ck_assert_msg(vc_props_u64(props, bad[i], 7, 0, UINT64_MAX, &value) == -EINVAL, "%s", bad[i]);
		ck_assert_ptr_nonnull(strstr(vcore_error_message(), bad[i]));
	}
	ck_assert_int_eq(vc_props_u64(props, "d", 7, 13, 20, &value), -EINVAL);
	ck_assert_int_eq(vc_props_u64(props, "d", 7, 0, 11, &value), -EINVAL);
	ck_assert_ptr_nonnull(strstr(vcore_error_message(), "d=12"));
	vc_props_free(props);
}
END_TEST

START_TEST(booleans)
{
	struct vc_props *props = parse("a,b=off,c=yes,d=0,e=maybe");
	bool value;

	ck_assert_int_eq(vc_props_bool(props, "a", false, &value), 0);
	ck_assert(value);
	ck_assert_int_eq(vc_props_bool(props, "b", true, &value), 0);
	ck_assert(!value);
	ck_assert_int_eq(vc_props_bool(props, "c", false, &value), 0);
	ck_assert(value);
	ck_assert_int_eq(vc_props_bool(props, "d", true, &value), 0);
	ck_assert(!value);
	ck_assert_int_eq(vc_props_bool(props, "absent", true, &value), 0);
	ck_assert(value);
	ck_assert_int_eq(vc_props_bool(props, "e", true, &value), -EINVAL);
	vc_props_free(props);
}
END_TEST

START_TEST(unknown_key)
{
	struct vc_props *props = parse("addr=1,colour=red");
	uint64_t value;

	ck_assert_int_eq(vc_props_u64(props, "addr", 0, 0, 10, &value), 0);
	ck_assert_ptr_nonnull(vc_props_string(props, "output", "null"));
	ck_assert_int_eq(vc_props_finish(props, "uart"), -EINVAL);
	ck_assert_str_eq(vcore_error_message(), "device 'uart' has no property 'colour'; it has: addr, output");
	vc_props_free(props);
}
END_TEST

#ifdef VC_HAVE_JSON
START_TEST(json)
{
	struct vc_props *props = parse(
	    " {\"addr\": 760, \"flag\": true, \"no\": false, \"path\": \"file:/a,b\", \"big\": 18446744073709551615} ");
	uint64_t value;
	bool flag;

	ck_assert_int_eq(vc_props_u64(props, "addr", 0, 0, 1000, &value), 0);
	ck_assert_uint_eq(value, 760);
	ck_assert_int_eq(vc_props_u64(props, "big", 0, 0, UINT64_MAX, &value), 0);
	ck_assert_uint_eq(value, UINT64_MAX);
	ck_assert_int_eq(vc_props_bool(props, "flag", false, &flag), 0);
	ck_assert(flag);
	ck_assert_int_eq(vc_props_bool(props, "no", true, &flag), 0);
	ck_assert(!flag);
	ck_assert_str_eq(vc_props_string(props, "path", ""), "file:/a,b");
	ck_assert_int_eq(vc_props_finish(props, "t"), 0);
	vc_props_free(props);
	vc_props_free(parse("{}"));
}
END_TEST

START_TEST(bad_json)
{
	refuse("{", "JSON");
	refuse("{\"a\":1", "JSON");
	refuse("{\"a\":1} x", "JSON");
	refuse("{\"a\":1,}", "JSON");
	refuse("{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":1}}}}}", "JSON");
	refuse("{\"a\":{}}", "'a'");
	refuse("{\"a\":[1]}", "'a'");
	refuse("{\"a\":1.5}", "'a'");
	refuse("{\"a\":null}", "'a'");
	refuse("{\"a\":\"x\\u0000y\"}", "'a'");
	refuse("{\"a b\":1}", "'a b'");
}
END_TEST
#else
START_TEST(no_json)
{
	struct vc_props *props;

	ck_assert_int_eq(vc_props_parse("{\"a\":1}", &props), -ENOTSUP);
}
END_TEST
#endif

START_TEST(types)
{
	static const char *const names[] = {"uart", "i8042", "debug-exit", "debugcon"};

	for (unsigned i = 0; i < VC_ARRAY_SIZE(names); i++) {
		const struct vc_device_type *type = vc_device_type_find(names[i]);

		ck_assert_ptr_nonnull(type);
		ck_assert_str_eq(type->name, names[i]);
		ck_assert_ptr_nonnull(type->summary);
		ck_assert_ptr_nonnull(type->properties);
	}
	ck_assert_ptr_null(vc_device_type_find("toaster"));
}
END_TEST

static struct vc_dev *create(struct platform_env *p, const char *type, const char *text, int expected)
{
	struct vc_props *props = parse(text);
	struct vc_dev *dev = NULL;

	ck_assert_int_eq(vc_device_type_find(type)->create(&p->env, props, &dev), expected);
	vc_props_free(props);
	return dev;
}

START_TEST(debug_exit)
{
	struct platform_env p;

	platform_init(&p, 0);
	create(&p, "debug-exit", "", 0);
	platform_out(&p, 0xf4, 4, 0x12345678);
	ck_assert_uint_eq(p.debug_code, 0x12345678);
	platform_out(&p, 0xf4, 1, 3);
	ck_assert_uint_eq(p.debug_code, 3);
	ck_assert_uint_eq(p.debug_exits, 2);
	create(&p, "debug-exit", "", -EEXIST);
	create(&p, "debug-exit", "addr=0xfffd", -EINVAL);
	create(&p, "debug-exit", "addr=0x501", 0);
	platform_fini(&p);
}
END_TEST

START_TEST(debugcon)
{
	struct platform_env p;
	char text[8] = "", spec[64];
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	platform_init(&p, 0);
	snprintf(spec, sizeof spec, "addr=0x402,output=fd:%d", fds[1]);
	create(&p, "debugcon", spec, 0);
	ck_assert_uint_eq(platform_in(&p, 0x402, 1), 0xe9);
	platform_out(&p, 0x402, 1, 'h');
	platform_out(&p, 0x402, 1, 'i');
	ck_assert_int_eq(read(fds[0], text, sizeof text), 2);
	ck_assert_str_eq(text, "hi");
	create(&p, "debugcon", "output=fd:x", -EINVAL);
	create(&p, "debugcon", "output=fd:1000000", -EBADF);
	create(&p, "debugcon", "output=stdin", -EINVAL);
	create(&p, "debugcon", "output=file:/nonexistent/x", -ENOENT);
	create(&p, "debugcon", "", 0);
	ck_assert_uint_eq(platform_in(&p, 0xe9, 1), 0xe9);
	platform_out(&p, 0xe9, 1, 'x');
	platform_fini(&p);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("props");

	tcase_add_test(cases, plain_text);
	tcase_add_test(cases, nothing);
	tcase_add_test(cases, bad_text);
	tcase_add_test(cases, numbers);
	tcase_add_test(cases, booleans);
	tcase_add_test(cases, unknown_key);
#ifdef VC_HAVE_JSON
	tcase_add_test(cases, json);
	tcase_add_test(cases, bad_json);
#else
	tcase_add_test(cases, no_json);
#endif
	tcase_add_test(cases, types);
	tcase_add_test(cases, debug_exit);
	tcase_add_test(cases, debugcon);
	return platform_run("props", cases);
}
