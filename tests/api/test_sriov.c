/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The host's functions as the program sees them: what is refused, on any host. What works needs devices:
 * tests/linux/nested-vfio.sh. */
#include "api.h"

#define NOWHERE "ffff:ff:1f.7" /* a function that no host has */

static vcore_vm *new_vm(void)
{
	struct vcore_options o = {.size = sizeof o, .machine = VCORE_MACHINE_MICROVM, .memory = RAM};
	vcore_vm *vm;

	OK(vcore_vm_new(&o, &vm));
	return vm;
}

START_TEST(functions)
{
	struct vcore_sriov_function f = {.size = sizeof f};
	const uint8_t mac[6] = {0x52, 0x54}, group[6] = {0xff};
	uint32_t count = 0;
	char driver[32];

	while (vcore_sriov_list(count, &f) >= 0) {
		ck_assert_uint_gt(f.total, 0);
		count++;
	}
	REFUSED(vcore_sriov_list(count, &f), ENOENT, "no more");
	REFUSED(vcore_sriov_list_virtual(NOWHERE, 0, &f), ENODEV, NOWHERE);
	REFUSED(vcore_sriov_list_virtual("1", 0, &f), EINVAL, "\"1\"");
	REFUSED(vcore_sriov_create(NULL, 1), EINVAL, "address");
	REFUSED(vcore_sriov_create(NOWHERE, 1), ENODEV, NOWHERE);
	REFUSED(vcore_sriov_destroy(NOWHERE), ENODEV, NOWHERE);
	REFUSED(vcore_sriov_set_mac(NOWHERE, 0, mac), ENODEV, NOWHERE);
	REFUSED(vcore_sriov_set_mac(NOWHERE, 0, group), EINVAL, "group");
	REFUSED(vcore_sriov_set_vlan(NOWHERE, 0, 4095, 0), EINVAL, "4095");
	REFUSED(vcore_sriov_set_vlan(NOWHERE, 0, 1, 8), EINVAL, "8");
	REFUSED(vcore_sriov_bind(NOWHERE, driver, sizeof driver), ENODEV, NOWHERE);
	REFUSED(vcore_sriov_release(NOWHERE, NULL), ENODEV, NOWHERE);
}
END_TEST

START_TEST(devices)
{
	vcore_vm *vm = new_vm();

	REFUSED(vcore_device_add(vm, "vfio-pci", NULL, NULL), EINVAL, "host");
	REFUSED(vcore_device_add(vm, "vfio-pci", "host=here", NULL), EINVAL, "here");
	REFUSED(vcore_device_add(vm, "vfio-pci", "host=" NOWHERE, NULL), ENODEV, NOWHERE);
	REFUSED(vcore_device_add(vm, "vfio-pci", "rebind=on,host=" NOWHERE, NULL), ENODEV, NOWHERE);
	REFUSED(vcore_sriov_assign(vm, NOWHERE, 0, NULL, NULL), ENODEV, NOWHERE);
	REFUSED(vcore_sriov_assign(vm, NOWHERE, 0, "{}", NULL), EINVAL, "key=value");
	REFUSED(vcore_sriov_assign(NULL, NOWHERE, 0, NULL, NULL), EINVAL, "vm");
	vcore_vm_unref(vm);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sriov");
	TCase *tcase = tcase_create("sriov");

	tcase_add_test(tcase, functions);
	tcase_add_test(tcase, devices);
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
