/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <check.h>
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <virtcore/error.h>

#include "core/util.h"
#include "cpu/cpuid.h"
#include "cpu/state.h"

#define APIC_ON 0xfee00900u

static const struct vc_feature_set everything = {{~1ull, ~0ull}};
static struct vc_cpuid c;
static char missing[1024];

static int build_with(const char *model, const struct vc_feature_set *offered, uint32_t vcpus)
{
	const struct vc_cpu_model_request request = {.model = model,
	                                             .fallback = "x86-64-v3",
	                                             .offered = offered,
	                                             .vcpus = vcpus,
	                                             .phys_bits = 46,
	                                             .tsc_khz = 2596120};

	return vc_cpuid_build(&request, &c, missing, sizeof missing);
}

static void build(const char *model)
{
	ck_assert_msg(build_with(model, &everything, 4) == 0, "%s: %s", model ? model : "(fallback)",
	              vcore_error_message());
}

static uint32_t *query(uint32_t leaf, uint32_t subleaf)
{
	static uint32_t out[4];

	vc_cpuid_query(&c, 0, 1, APIC_ON, leaf, subleaf, out);
	return out;
}

static bool has(enum vc_feature f)
{
	return vc_feature_has(&c.features, f);
}

/* ---- names and models ---- */

START_TEST(test_names)
{
	for (unsigned f = 1; f < VC_F_COUNT; f++) {
		ck_assert_str_ne(vc_feature_name(f), "?");
		for (unsigned g = 1; g < f; g++)
			ck_assert_str_ne(vc_feature_name(f), vc_feature_name(g));
	}
	ck_assert_str_eq(vc_feature_name(VC_F_SSE41), "sse4.1");
	ck_assert_str_eq(vc_feature_name(VC_F_NONE), "?");
	ck_assert_str_eq(vc_feature_name(VC_F_COUNT), "?");
}
END_TEST

START_TEST(test_models)
{
	static const char *const expected[] = {"qemu64", "x86-64-v2", "x86-64-v3", "host", "max"};
	const char *name, *summary;
	struct vc_feature_set set;

	for (unsigned n = 0; n < VC_ARRAY_SIZE(expected); n++) {
		ck_assert_int_eq(vc_cpu_model_at(n, &name, &summary), 0);
		ck_assert_str_eq(name, expected[n]);
		ck_assert_uint_gt(strlen(summary), 10);
		ck_assert_int_eq(vc_cpu_model_features(name, &everything, &set), 0);
		ck_assert(vc_feature_has(&set, VC_F_LM) && vc_feature_has(&set, VC_F_SSE2));
		build(name);
	}
	ck_assert_int_eq(vc_cpu_model_at(VC_ARRAY_SIZE(expected), &name, &summary), -ENOENT);
	ck_assert_int_eq(vc_cpu_model_at(UINT32_MAX, NULL, NULL), -ENOENT);
}
END_TEST

START_TEST(test_psabi_levels)
{
	static const uint8_t v2[] = {VC_F_CX16, VC_F_LAHF, VC_F_POPCNT, VC_F_SSE3, VC_F_SSE41, VC_F_SSE42, VC_F_SSSE3};
	static const uint8_t v3[] = {VC_F_AVX, VC_F_AVX2,  VC_F_BMI1,  VC_F_BMI2, VC_F_F16C,
	                             VC_F_FMA, VC_F_LZCNT, VC_F_MOVBE, VC_F_XSAVE};
	static const uint8_t vm[] = {
	    VC_F_APIC, VC_F_X2APIC,  VC_F_TSC_DEADLINE, VC_F_SYSCALL, VC_F_NX,   VC_F_HYPERVISOR, VC_F_KVM_CLOCKSOURCE2,
	    VC_F_PCID, VC_F_INVPCID, VC_F_FSGSBASE,     VC_F_SMEP,    VC_F_SMAP, VC_F_UMIP,       VC_F_XSAVES};

	build("x86-64-v2");
	for (size_t n = 0; n < sizeof v2; n++)
		ck_assert(has(v2[n]));
	for (size_t n = 0; n < sizeof vm; n++)
		ck_assert(has(vm[n]));
	ck_assert(!has(VC_F_AVX));
	ck_assert(!has(VC_F_BMI1));
	build("x86-64-v3");
	for (size_t n = 0; n < sizeof v2; n++)
		ck_assert(has(v2[n]));
	for (size_t n = 0; n < sizeof v3; n++)
		ck_assert(has(v3[n]));
	for (size_t n = 0; n < sizeof vm; n++)
		ck_assert(has(vm[n]));
	build("qemu64");
	ck_assert(has(VC_F_CX16) && !has(VC_F_SSSE3) && !has(VC_F_XSAVE));
}
END_TEST

START_TEST(test_feature_lists)
{
	build("x86-64-v3,+aes,-rdrand");
	ck_assert(has(VC_F_AES) && !has(VC_F_RDRAND) && has(VC_F_AVX2));
	build("x86-64-v3,-aes,+aes");
	ck_assert(has(VC_F_AES));
	build(NULL); /* the fallback */
	ck_assert(has(VC_F_AVX2));
	build("x86-64-v3,-xsave"); /* what hangs on it goes too */
	ck_assert(!has(VC_F_XSAVE) && !has(VC_F_AVX) && !has(VC_F_AVX2) && !has(VC_F_FMA) && !has(VC_F_XSAVES) &&
	          has(VC_F_BMI2));
	ck_assert_uint_eq(query(0xd, 0)[VC_EAX], 0);
	build("x86-64-v2,-sse2");
	ck_assert(!has(VC_F_SSE42) && has(VC_F_SSE));
	build("qemu64,+xsave,+sse4.2,+sse4.1,+ssse3,+avx");
	ck_assert(has(VC_F_AVX));
}
END_TEST

START_TEST(test_bad_requests)
{
	static const struct {
		const char *model, *word;
	} bad[] = {{"pentium", "'pentium'"},
	           {"", "''"},
	           {"x86-64-v3,+frobnicate", "'frobnicate'"},
	           {"x86-64-v3,aes", "'aes'"},
	           {"x86-64-v3,", "''"},
	           {"x86-64-v3,+", "'+'"},
	           {"x86-64-v3,,+aes", "''"},
	           {"+aes", "'+aes'"},
	           {"x86-64-v3 ", "'x86-64-v3 '"},
	           {"X86-64-V3", "'X86-64-V3'"},
	           {"qemu64,+avx", "'avx'"},
	           {"x86-64-v3,+avx2,-xsave", "'avx"}};
	struct vc_feature_set set;

	for (size_t n = 0; n < VC_ARRAY_SIZE(bad); n++) {
		ck_assert_int_eq(build_with(bad[n].model, &everything, 1), -EINVAL);
		ck_assert_msg(strstr(vcore_error_message(), bad[n].word) != NULL, "%s: %s", bad[n].model,
		              vcore_error_message());
		ck_assert_int_eq(vc_cpu_model_features(bad[n].model, &everything, &set), -EINVAL);
	}
	ck_assert_int_eq(build_with("qemu64", &everything, 0), -EINVAL);
	ck_assert_int_eq(build_with("qemu64", &everything, 256), -EINVAL);
	ck_assert_int_eq(build_with("qemu64", &everything, 255), 0);
}
END_TEST

START_TEST(test_offered)
{
	struct vc_feature_set offered = everything;
	char tiny[8];
	const struct vc_cpu_model_request request = {.model = "x86-64-v3", .offered = &offered, .vcpus = 1};

	vc_feature_put(&offered, VC_F_AVX, false);
	vc_feature_put(&offered, VC_F_SMAP, false);
	ck_assert_int_eq(build_with("x86-64-v3", &offered, 1), 0);
	ck_assert(!has(VC_F_AVX) && !has(VC_F_AVX2) && !has(VC_F_SMAP) && has(VC_F_BMI2));
	ck_assert_str_eq(missing, "fma,avx,f16c,avx2,smap");

	ck_assert_int_eq(build_with("qemu64,+avx,+ssse3,+sse4.1,+sse4.2,+xsave", &offered, 1), -ENOTSUP);
	ck_assert_ptr_nonnull(strstr(vcore_error_message(), "'avx'"));
	ck_assert_int_eq(build_with("x86-64-v3,+avx2", &offered, 1), -ENOTSUP); /* avx2 is offered, avx is not */
	ck_assert_int_eq(build_with("x86-64-v3,-avx,-smap", &offered, 1), 0);
	ck_assert_str_eq(missing, "");
	ck_assert_int_eq(build_with("host", &offered, 1), 0);
	ck_assert_str_eq(missing, "");
	ck_assert(has(VC_F_SHA) && !has(VC_F_AVX2));

	ck_assert_int_eq(vc_cpuid_build(&request, &c, tiny, sizeof tiny), 0); /* cut */
	ck_assert_uint_lt(strlen(tiny), sizeof tiny);
	ck_assert_int_eq(vc_cpuid_build(&request, &c, NULL, 0), 0);
}
END_TEST

/* ---- leaves ---- */

START_TEST(test_basic_leaves)
{
	uint32_t *r;

	build("x86-64-v3");
	r = query(0, 0);
	ck_assert_uint_eq(r[VC_EAX], 0x16);
	ck_assert_int_eq(memcmp(&r[VC_EBX], "Genu", 4) | memcmp(&r[VC_EDX], "ineI", 4) | memcmp(&r[VC_ECX], "ntel", 4), 0);
	r = query(1, 0);
	ck_assert_uint_eq(r[VC_EBX] >> 16 & 0xff, 4);
	ck_assert_uint_eq(r[VC_EBX] >> 8 & 0xff, 8);
	ck_assert(r[VC_EDX] & 1u << 28);             /* HTT: more than one */
	ck_assert(r[VC_ECX] & 1u << 31);             /* hypervisor */
	ck_assert_uint_eq(r[VC_EDX] & 0x3ff, 0x3ff); /* FPU ... APIC */
	ck_assert_uint_eq(query(4, 0)[VC_EAX] & 0x1f, 1);
	ck_assert_uint_eq(query(4, 0)[VC_EAX] >> 26, 3);
	ck_assert_uint_eq(query(4, 3)[VC_EAX] >> 14 & 0xfff, 3);
	ck_assert_uint_eq(query(4, 4)[VC_EAX] & 0x1f, 0);
	ck_assert(query(6, 0)[VC_EAX] & 4);
	ck_assert(query(7, 0)[VC_EBX] & 1u << 5);
	ck_assert_uint_eq(query(7, 1)[VC_EBX], 0);
	ck_assert_uint_eq(query(3, 0)[VC_EAX], 0);
	ck_assert_uint_eq(query(0xa, 0)[VC_EAX], 0);
}
END_TEST

START_TEST(test_topology)
{
	static const struct {
		uint32_t vcpus, bits;
	} cases[] = {{1, 0}, {2, 1}, {3, 2}, {4, 2}, {8, 3}, {65, 7}, {255, 8}};

	for (size_t n = 0; n < VC_ARRAY_SIZE(cases); n++) {
		uint32_t id = cases[n].vcpus - 1;

		ck_assert_int_eq(build_with("x86-64-v3", &everything, cases[n].vcpus), 0);
		vc_cpuid_set_apic_id(&c, id, cases[n].vcpus);
		ck_assert_uint_eq(query(1, 0)[VC_EBX] >> 24, id);
		ck_assert_uint_eq(query(0xb, 0)[VC_ECX], 0x100);
		ck_assert_uint_eq(query(0xb, 0)[VC_EBX], 1);
		ck_assert_uint_eq(query(0xb, 1)[VC_EAX], cases[n].bits);
		ck_assert_uint_eq(query(0xb, 1)[VC_EBX], cases[n].vcpus);
		ck_assert_uint_eq(query(0xb, 1)[VC_EDX], id);
		/* levels that are not there: type 0, the subleaf and the ID echoed */
		ck_assert_uint_eq(query(0xb, 2)[VC_ECX], 2);
		ck_assert_uint_eq(query(0xb, 2)[VC_EDX], id);
		ck_assert_uint_eq(query(0xb, 2)[VC_EBX], 0);
		ck_assert_uint_eq(!!(query(1, 0)[VC_EDX] & 1u << 28), cases[n].vcpus > 1);
	}
	ck_assert_int_eq(build_with("qemu64", &everything, 6), 0);
	ck_assert_uint_eq(query(0x80000008, 0)[VC_ECX], 3u << 12 | 5);
	ck_assert(query(0x80000001, 0)[VC_ECX] & 2);
}
END_TEST

START_TEST(test_dynamic_bits)
{
	uint32_t r[4];

	build("x86-64-v3");
	vc_cpuid_query(&c, 0, 1, APIC_ON, 1, 0, r);
	ck_assert(!(r[VC_ECX] & 1u << 27) && r[VC_EDX] & 1u << 9);
	vc_cpuid_query(&c, VC_CR4_OSXSAVE, 1, 0xfee00000, 1, 0, r);
	ck_assert(r[VC_ECX] & 1u << 27 && !(r[VC_EDX] & 1u << 9));

	vc_cpuid_query(&c, VC_CR4_OSXSAVE, 1, APIC_ON, 0xd, 0, r);
	ck_assert_uint_eq(r[VC_EAX], 7);
	ck_assert_uint_eq(r[VC_EBX], 576);
	ck_assert_uint_eq(r[VC_ECX], 832);
	vc_cpuid_query(&c, VC_CR4_OSXSAVE, 7, APIC_ON, 0xd, 0, r);
	ck_assert_uint_eq(r[VC_EBX], 832);
	vc_cpuid_query(&c, VC_CR4_OSXSAVE, 7, APIC_ON, 0xd, 1, r);
	ck_assert_uint_eq(r[VC_EAX], 15);
	ck_assert_uint_eq(r[VC_EBX], 832);
	vc_cpuid_query(&c, VC_CR4_OSXSAVE, 7, APIC_ON, 0xd, 2, r);
	ck_assert_uint_eq(r[VC_EAX], 256);
	ck_assert_uint_eq(r[VC_EBX], 576);
	vc_cpuid_query(&c, VC_CR4_OSXSAVE, 7, APIC_ON, 0xd, 3, r);
	ck_assert_uint_eq(r[VC_EAX] | r[VC_EBX] | r[VC_ECX] | r[VC_EDX], 0);

	build("x86-64-v2");
	ck_assert_uint_eq(query(0xd, 0)[VC_EAX], 3);
	ck_assert_uint_eq(query(0xd, 0)[VC_ECX], 576);
	build("x86-64-v3,+pku");
	vc_cpuid_query(&c, VC_CR4_PKE, 1, APIC_ON, 7, 0, r);
	ck_assert_uint_eq(r[VC_ECX] & 0x18, 0x18);
	ck_assert_uint_eq(query(7, 0)[VC_ECX] & 0x18, 8);
}
END_TEST

START_TEST(test_tsc)
{
	static const uint32_t speeds[] = {800000, 1000000, 1995379, 2596120, 2999999, 4200000};

	for (size_t n = 0; n < VC_ARRAY_SIZE(speeds); n++) {
		const struct vc_cpu_model_request request = {
		    .model = "x86-64-v3", .offered = &everything, .vcpus = 1, .tsc_khz = speeds[n]};
		uint32_t *r, khz;

		ck_assert_int_eq(vc_cpuid_build(&request, &c, NULL, 0), 0);
		r = query(0x15, 0);
		ck_assert_uint_ne(r[VC_EAX], 0);
		khz = r[VC_ECX] / 1000 * r[VC_EBX] / r[VC_EAX]; /* in 32 bits, as Linux does */
		ck_assert_msg(abs((int)(khz - speeds[n])) <= 2, "%u instead of %u", khz, speeds[n]);
		ck_assert_uint_eq(query(0x16, 0)[VC_EAX], speeds[n] / 1000);
		ck_assert_uint_eq(query(0x40000010, 0)[VC_EAX], speeds[n]);
	}
}
END_TEST

START_TEST(test_hypervisor_leaves)
{
	uint32_t *r;

	build("x86-64-v3");
	r = query(0x40000000, 0);
	ck_assert_uint_eq(r[VC_EAX], 0x40000010);
	ck_assert_int_eq(memcmp(&r[VC_EBX], "KVMKVMKVM\0\0\0", 12), 0);
	ck_assert(query(0x40000001, 0)[VC_EAX] & 1u << 3);
	ck_assert(query(0x40000001, 0)[VC_EAX] & 1u << 24);
	ck_assert_uint_eq(query(0x40000005, 0)[VC_EAX], 0);

	build("x86-64-v3,-hypervisor"); /* then there is nothing at 0x40000000 */
	ck_assert(!has(VC_F_KVM_CLOCKSOURCE2));
	ck_assert_uint_eq(query(0x40000000, 0)[VC_EAX], query(0x16, 0)[VC_EAX]);
}
END_TEST

START_TEST(test_extended_leaves)
{
	char brand[49] = "";
	uint32_t *r;

	build("x86-64-v3");
	ck_assert_uint_eq(query(0x80000000, 0)[VC_EAX], 0x80000008);
	r = query(0x80000001, 0);
	ck_assert(r[VC_EDX] & 1u << 29 && r[VC_EDX] & 1u << 20 && r[VC_EDX] & 1u << 11);
	ck_assert(!(r[VC_EDX] & 1)); /* Intel does not repeat leaf 1 */
	for (unsigned n = 0; n < 3; n++)
		memcpy(brand + n * 16, query(0x80000002 + n, 0), 16);
	ck_assert_str_eq(brand, "libvirtcore x86-64-v3");
	ck_assert_uint_eq(query(0x80000008, 0)[VC_EAX], 46 | 48 << 8);
	build("x86-64-v3,+la57,+invtsc");
	ck_assert_uint_eq(query(0x80000008, 0)[VC_EAX], 46 | 57 << 8);
	ck_assert(query(0x80000007, 0)[VC_EDX] & 1u << 8);

	build("qemu64");
	r = query(0x80000000, 0);
	ck_assert_int_eq(memcmp(&r[VC_EBX], "Auth", 4), 0);
	ck_assert(query(0x80000001, 0)[VC_EDX] & 1);
}
END_TEST

START_TEST(test_out_of_range)
{
	static const uint32_t leaves[] = {0x17,       0x1000,     0x3fffffff, 0x40000011, 0x4fffffff,
	                                  0x80000009, 0xbfffffff, 0xc0000000, UINT32_MAX};
	uint32_t last[4];

	build("x86-64-v3");
	memcpy(last, query(0x16, 0), sizeof last);
	for (size_t n = 0; n < VC_ARRAY_SIZE(leaves); n++)
		ck_assert_msg(memcmp(query(leaves[n], 7), last, sizeof last) == 0, "leaf %x", leaves[n]);
	build("qemu64"); /* AMD: zeros */
	for (size_t n = 0; n < VC_ARRAY_SIZE(leaves); n++)
		ck_assert_uint_eq(query(leaves[n], 0)[VC_EAX] | query(leaves[n], 0)[VC_EBX], 0);
	memset(&c, 0, sizeof c); /* a table that was never built */
	ck_assert_uint_eq(query(0, 0)[VC_EAX] | query(0xb, 5)[VC_ECX] | query(0xd, 0)[VC_EBX], 0);
}
END_TEST

/* ---- the host ---- */

START_TEST(test_host)
{
	struct vc_feature_set host;
	uint32_t r[4], signature, rest[3];

	vc_cpuid_host(&host);
	__cpuid(1, signature, rest[0], rest[1], rest[2]);
	ck_assert(vc_feature_has(&host, VC_F_LM) && vc_feature_has(&host, VC_F_SSE2) && vc_feature_has(&host, VC_F_FPU));
	ck_assert_int_eq(vc_feature_has(&host, VC_F_AVX2), !!__builtin_cpu_supports("avx2"));
	ck_assert_int_eq(vc_feature_has(&host, VC_F_SSE42), !!__builtin_cpu_supports("sse4.2"));
	ck_assert_int_eq(vc_feature_has(&host, VC_F_BMI2), !!__builtin_cpu_supports("bmi2"));
	ck_assert(!vc_feature_has(&host, VC_F_KVM_CLOCKSOURCE2));

	ck_assert_int_eq(build_with("host", &host, 2), 0);
	vc_cpuid_query(&c, 0, 1, APIC_ON, 1, 0, r);
	ck_assert_uint_eq(r[VC_EAX], signature);
	__cpuid(0, signature, rest[0], rest[1], rest[2]);
	ck_assert_uint_eq(query(0, 0)[VC_EBX], rest[0]);
	ck_assert_int_eq(vc_cpu_model_features("host", NULL, &c.features), 0);
}
END_TEST

START_TEST(test_xcr0_mask)
{
	struct vc_feature_set set = {{0, 0}};

	ck_assert_uint_eq(vc_cpuid_xcr0_mask(&set), 0);
	vc_feature_put(&set, VC_F_XSAVE, true);
	ck_assert_uint_eq(vc_cpuid_xcr0_mask(&set), 3);
	vc_feature_put(&set, VC_F_AVX, true);
	ck_assert_uint_eq(vc_cpuid_xcr0_mask(&set), 7);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cpuid");
	TCase *tc = tcase_create("cpuid");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, test_names);
	tcase_add_test(tc, test_models);
	tcase_add_test(tc, test_psabi_levels);
	tcase_add_test(tc, test_feature_lists);
	tcase_add_test(tc, test_bad_requests);
	tcase_add_test(tc, test_offered);
	tcase_add_test(tc, test_basic_leaves);
	tcase_add_test(tc, test_topology);
	tcase_add_test(tc, test_dynamic_bits);
	tcase_add_test(tc, test_tsc);
	tcase_add_test(tc, test_hypervisor_leaves);
	tcase_add_test(tc, test_extended_leaves);
	tcase_add_test(tc, test_out_of_range);
	tcase_add_test(tc, test_host);
	tcase_add_test(tc, test_xcr0_mask);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
