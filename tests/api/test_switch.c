/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A switch as the program sees it: who holds it, what names mean, its ports. */
#include "api.h"

static vcore_vm *new_vm(void)
{
	struct vcore_options o = {
	    .size = sizeof o, .machine = VCORE_MACHINE_MICROVM, .backend = VCORE_BACKEND_EMU, .memory = RAM};
	vcore_vm *vm;

	OK(vcore_vm_new(&o, &vm));
	return vm;
}

START_TEST(shared)
{
	struct vcore_switch_port port = {.size = sizeof port};
	vcore_vm *one = new_vm(), *two = new_vm();
	vcore_device *nic;
	vcore_switch *sw;

	OK(vcore_switch_new(&sw));
	OK(vcore_vm_add_switch(one, "lan", sw));
	OK(vcore_vm_add_switch(two, "other-name", sw));
	OK(vcore_device_add(one, "virtio-net", "net=switch,switch=lan,mac=52:54:00:00:00:01", NULL));
	OK(vcore_device_add(two, "virtio-net", "net=switch,switch=other-name,mac=52:54:00:00:00:02,vlan=7", &nic));
	OK(vcore_switch_get_port(sw, 0, &port));
	ck_assert_uint_eq(port.mac[5], 1);
	ck_assert_uint_eq(port.vlan, 1);
	ck_assert_uint_eq(port.running, 0);
	OK(vcore_switch_get_port(sw, 1, &port));
	ck_assert_uint_eq(port.mac[5], 2);
	ck_assert_uint_eq(port.vlan, 7);
	REFUSED(vcore_switch_get_port(sw, 2, &port), ENOENT, "2");
	OK(vcore_device_remove(nic));
	REFUSED(vcore_switch_get_port(sw, 1, &port), ENOENT, "1");
	/* it lives as long as somebody has it */
	vcore_vm_unref(one);
	ck_assert_ptr_eq(vcore_switch_ref(sw), sw);
	vcore_switch_unref(sw);
	vcore_switch_unref(sw);
	OK(vcore_device_add(two, "virtio-net", "net=switch,switch=other-name", NULL));
	vcore_vm_unref(two);
}
END_TEST

START_TEST(cards)
{
	struct vcore_net_stats stats = {.size = sizeof stats}, unsized = {0};
	vcore_vm *vm = new_vm();
	vcore_device *nic, *uart;

	OK(vcore_device_add(vm, "virtio-net", NULL, &nic));
	OK(vcore_device_add(vm, "uart", NULL, &uart));
	OK(vcore_net_get_stats(nic, &stats));
	ck_assert_uint_eq(stats.link, 1);
	ck_assert_uint_eq(stats.tx_frames + stats.tx_dropped + stats.rx_frames + stats.rx_dropped, 0);
	OK(vcore_net_set_link(nic, false));
	OK(vcore_net_get_stats(nic, &stats));
	ck_assert_uint_eq(stats.link, 0);
	OK(vcore_net_set_link(nic, true));
	REFUSED(vcore_net_set_link(uart, true), EINVAL, "uart");
	REFUSED(vcore_net_set_link(NULL, true), EINVAL, "NULL");
	REFUSED(vcore_net_get_stats(uart, &stats), EINVAL, "uart");
	REFUSED(vcore_net_get_stats(nic, &unsized), EINVAL, "size");
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(refusals)
{
	struct vcore_switch_port port = {0};
	vcore_vm *vm = new_vm();
	vcore_switch *sw;

	REFUSED(vcore_switch_new(NULL), EINVAL, "vcore_switch_new");
	OK(vcore_switch_new(&sw));
	REFUSED(vcore_vm_add_switch(NULL, "lan", sw), EINVAL, "vm");
	REFUSED(vcore_vm_add_switch(vm, "", sw), EINVAL, "name");
	REFUSED(vcore_vm_add_switch(vm, NULL, sw), EINVAL, "name");
	OK(vcore_vm_add_switch(vm, "own", NULL));
	REFUSED(vcore_vm_add_switch(vm, "own", NULL), EEXIST, "own");
	REFUSED(vcore_vm_add_switch(vm, "own", sw), EEXIST, "own");
	REFUSED(vcore_switch_get_port(sw, 0, &port), EINVAL, "size");
	REFUSED(vcore_switch_get_port(NULL, 0, &port), EINVAL, "switch");
	REFUSED(vcore_device_add(vm, "virtio-net", "net=switch", NULL), EINVAL, "switch=NAME");
	REFUSED(vcore_device_add(vm, "virtio-net", "net=switch,switch=lan", NULL), ENOENT, "lan");
	REFUSED(vcore_device_add(vm, "virtio-net", "net=switch,switch=own,subnet=10.0.0.0/8", NULL), EINVAL, "subnet");
	OK(vcore_device_add(vm, "virtio-net", "net=switch,switch=own", NULL));
	vcore_vm_unref(vm);
	vcore_switch_unref(sw);
	vcore_switch_unref(NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("switch");
	TCase *tcase = tcase_create("switch");

	tcase_add_test(tcase, shared);
	tcase_add_test(tcase, cards);
	tcase_add_test(tcase, refusals);
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
