/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The host's virtual functions, as programs see them. */
#include <virtcore/sriov.h>

#include <stdio.h>

#include "passthrough/bind.h"
#include "passthrough/sriov.h"
#include "vm/vm.h"

static int take_address(const char *text, char address[VC_SYSFS_ADDRESS])
{
	return text ? vc_sysfs_address(text, address) : vc_fail(EINVAL, "the address of a PCI function is needed");
}

static int give_out(struct vcore_sriov_function *to, const struct vcore_sriov_function *f)
{
	return vc_struct_out(to, f, sizeof *f) < 0 ? vc_fail(EINVAL, "vcore_sriov_list: f.size is not set") : 0;
}

int vcore_sriov_list(uint32_t index, struct vcore_sriov_function *to)
{
	struct vcore_sriov_function f;
	int r = vc_sriov_list("", index, &f);

	return r < 0 ? r : give_out(to, &f);
}

int vcore_sriov_list_virtual(const char *physical, uint32_t index, struct vcore_sriov_function *to)
{
	char address[VC_SYSFS_ADDRESS], vf[VC_SYSFS_ADDRESS];
	struct vcore_sriov_function f;
	int r = take_address(physical, address);

	if (r >= 0)
		r = vc_sriov_virtual("", address, index, vf);
	if (r < 0)
		return r;
	vc_sriov_describe("", vf, &f);
	return give_out(to, &f);
}

int vcore_sriov_create(const char *physical, uint32_t count)
{
	char address[VC_SYSFS_ADDRESS];
	int r = take_address(physical, address);

	return r < 0 ? r : vc_sriov_create("", address, count);
}

int vcore_sriov_destroy(const char *physical)
{
	char address[VC_SYSFS_ADDRESS];
	int r = take_address(physical, address);

	return r < 0 ? r : vc_sriov_destroy("", address);
}

static int set_port(const char *physical, uint32_t index, const uint8_t *mac, uint32_t vlan, uint32_t priority)
{
	char address[VC_SYSFS_ADDRESS], interface[VC_SYSFS_NAME];
	int r = take_address(physical, address);

	if (r >= 0)
		r = vc_sriov_interface("", address, interface);
	return r < 0 ? r : vc_netlink_set_vf(interface, index, mac, vlan, priority);
}

int vcore_sriov_set_mac(const char *physical, uint32_t index, const uint8_t mac[6])
{
	if (!mac || mac[0] & 1)
		return vc_fail(EINVAL, "vcore_sriov_set_mac: expected a MAC address of one card, not of a group");
	return set_port(physical, index, mac, 0, 0);
}

int vcore_sriov_set_vlan(const char *physical, uint32_t index, uint32_t vlan, uint32_t priority)
{
	if (vlan > 4094 || priority > 7)
		return vc_fail(EINVAL, "vcore_sriov_set_vlan: VLAN %u with priority %u: expected 0 to 4094, and 0 to 7", vlan,
		               priority);
	return set_port(physical, index, NULL, vlan, priority);
}

int vcore_sriov_bind(const char *function, char *driver, size_t size)
{
	char address[VC_SYSFS_ADDRESS], before[VC_SYSFS_NAME] = "";
	int r = take_address(function, address);

	if (r >= 0)
		r = vc_bind_to_vfio("", address, before);
	if (r >= 0 && driver && size)
		snprintf(driver, size, "%s", before);
	return r;
}

int vcore_sriov_release(const char *function, const char *driver)
{
	char address[VC_SYSFS_ADDRESS];
	int r = take_address(function, address);

	return r < 0 ? r : vc_bind_release("", address, driver && *driver ? driver : NULL);
}

/* The virtual function's address; it is created if there is none at all. */
static int have_virtual(const char *physical, uint32_t index, char address[VC_SYSFS_ADDRESS])
{
	char whole[VC_SYSFS_ADDRESS];
	struct vcore_sriov_function f;
	int r = take_address(physical, whole);

	if (r < 0)
		return r;
	vc_sriov_describe("", whole, &f);
	if (!f.count && index < UINT32_MAX)
		r = vc_sriov_create("", whole, index + 1);
	return r < 0 ? r : vc_sriov_virtual("", whole, index, address);
}

int vcore_sriov_assign(vcore_vm *vm, const char *physical, uint32_t index, const char *properties,
                       vcore_device **device)
{
	char address[VC_SYSFS_ADDRESS], all[1024];
	bool more = properties && *properties;
	int r;

	if (!vm || (more && (*properties == '{' || strlen(properties) > sizeof all - 64)))
		return vc_fail(EINVAL, "vcore_sriov_assign: a vm is needed, and properties as \"key=value,key=value\" if any");
	r = have_virtual(physical, index, address);
	if (r < 0)
		return r;
	snprintf(all, sizeof all, "host=%s,rebind=on%s%s", address, more ? "," : "", more ? properties : "");
	return vcore_device_add(vm, "vfio-pci", all, device);
}
