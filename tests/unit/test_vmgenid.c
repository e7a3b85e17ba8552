/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The VM generation ID: in memory, changed with an event, and saved. */
#include "platform_env.h"

static struct platform_env p;
static struct vc_vmgenid *v;

static void begin(uint64_t ram)
{
	platform_init(&p, ram);
	ck_assert_int_eq(vc_vmgenid_new(&p.env, &v), 0);
}

static const uint8_t *in_memory(void)
{
	return vc_mem_ptr(&p.mem, VC_VMGENID_GPA, VC_VMGENID_SIZE);
}

START_TEST(changes)
{
	static const uint8_t mine[VC_VMGENID_SIZE] = {1, 2, 3, [15] = 16};
	uint8_t first[VC_VMGENID_SIZE], second[VC_VMGENID_SIZE];

	begin(VC_MIB(1));
	vc_vmgenid_get(v, first);
	ck_assert_int_eq(vc_vmgenid_write(v), 0);
	ck_assert_mem_eq(in_memory(), first, sizeof first);
	ck_assert_uint_eq(p.edges[VC_VMGENID_GSI], 0);
	ck_assert_int_eq(vc_vmgenid_set(v, NULL), 0);
	vc_vmgenid_get(v, second);
	ck_assert_mem_ne(first, second, sizeof first);
	ck_assert_mem_eq(in_memory(), second, sizeof second);
	ck_assert_uint_eq(p.edges[VC_VMGENID_GSI], 1);
	ck_assert(!p.level[VC_VMGENID_GSI]);
	ck_assert_int_eq(vc_vmgenid_set(v, mine), 0);
	ck_assert_mem_eq(in_memory(), mine, sizeof mine);
	ck_assert_uint_eq(p.edges[VC_VMGENID_GSI], 2);
	platform_fini(&p);
	memset(&p.edges, 0, sizeof p.edges);
	begin(0);
	ck_assert_int_eq(vc_vmgenid_write(v), -EFAULT);
	ck_assert_int_eq(vc_vmgenid_set(v, mine), 0);
	platform_fini(&p);
	/* memory of which no table tells is the guest's own */
	begin(VC_MIB(1));
	ck_assert_int_eq(vc_vmgenid_set(v, mine), 0);
	ck_assert_uint_eq(in_memory()[0], 0);
	ck_assert_int_eq(vc_vmgenid_write(v), 0);
	vc_buses_reset(&p.buses);
	ck_assert_int_eq(vc_vmgenid_set(v, first), 0);
	ck_assert_mem_eq(in_memory(), mine, sizeof mine);
	ck_assert_uint_eq(p.edges[VC_VMGENID_GSI], 0);
	platform_fini(&p);
}
END_TEST

START_TEST(state)
{
	uint8_t id[VC_VMGENID_SIZE], other[VC_VMGENID_SIZE], saved[256];
	size_t size;

	begin(VC_MIB(1));
	ck_assert_int_eq(vc_vmgenid_write(v), 0);
	platform_check_load(&p);
	vc_vmgenid_get(v, id);
	size = platform_save(&p, saved, sizeof saved);
	ck_assert_int_eq(vc_vmgenid_set(v, NULL), 0);
	ck_assert_int_eq(platform_load(&p, saved, size), 0);
	vc_vmgenid_get(v, other);
	ck_assert_mem_eq(id, other, sizeof id);
	ck_assert_uint_eq(p.edges[VC_VMGENID_GSI], 1);
	platform_fini(&p);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("vmgenid");

	tcase_add_test(tc, changes);
	tcase_add_test(tc, state);
	return platform_run("vmgenid", tc);
}
