/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Physical and virtual functions (Documentation/PCI/pci-iov-howto.rst, Documentation/ABI/testing/sysfs-bus-pci). */
#include "passthrough/sriov.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "core/util.h"

static uint64_t number_of(const char *root, const char *address, const char *file)
{
	uint64_t number = 0;

	vc_sysfs_read_number(root, address, file, &number);
	return number;
}

void vc_sriov_describe(const char *root, const char *address, struct vcore_sriov_function *f)
{
	char name[VC_SYSFS_NAME];

	*f = (struct vcore_sriov_function){
	    .size = sizeof *f,
	    .class_code = (uint32_t)number_of(root, address, "class"),
	    .vendor = (uint16_t)number_of(root, address, "vendor"),
	    .device = (uint16_t)number_of(root, address, "device"),
	    .group = -1,
	    .total = (uint32_t)number_of(root, address, "sriov_totalvfs"),
	    .count = (uint32_t)number_of(root, address, "sriov_numvfs"),
	};
	snprintf(f->address, sizeof f->address, "%s", address);
	if (vc_sysfs_link(root, address, "iommu_group", name) >= 0)
		f->group = atoi(name);
	if (vc_sysfs_link(root, address, "driver", name) >= 0)
		snprintf(f->driver, sizeof f->driver, "%.*s", (int)sizeof f->driver - 1, name);
	if (vc_sysfs_first(root, address, "net", name) >= 0)
		snprintf(f->interface, sizeof f->interface, "%.*s", (int)sizeof f->interface - 1, name);
}

static bool is_physical(const char *root, const char *address)
{
	return number_of(root, address, "sriov_totalvfs") > 0;
}

int vc_sriov_list(const char *root, uint32_t index, struct vcore_sriov_function *f)
{
	char(*addresses)[VC_SYSFS_ADDRESS];
	int count = vc_sysfs_functions(root, is_physical, &addresses);

	if (count < 0)
		return count;
	if (index < (uint32_t)count)
		vc_sriov_describe(root, addresses[index], f);
	free(addresses);
	return index < (uint32_t)count ? 0 : vc_fail(ENOENT, "the host has no more functions with SR-IOV");
}

static int check_physical(const char *root, const char *physical)
{
	int r = vc_sysfs_exists(root, physical);

	if (r < 0 || is_physical(root, physical))
		return r;
	return vc_fail(ENOTSUP, "%s: it can have no virtual functions: it has no SR-IOV, or its driver does not support it",
	               physical);
}

int vc_sriov_virtual(const char *root, const char *physical, uint32_t index, char address[VC_SYSFS_ADDRESS])
{
	char link[32], name[VC_SYSFS_NAME];
	int r = check_physical(root, physical);

	if (r < 0)
		return r;
	snprintf(link, sizeof link, "virtfn%u", index);
	if (vc_sysfs_link(root, physical, link, name) < 0)
		return vc_fail(ENOENT, "%s: it has no virtual function %u: it has %llu of them", physical, index,
		               (unsigned long long)number_of(root, physical, "sriov_numvfs"));
	return vc_sysfs_address(name, address);
}

/* ---- creating and destroying ---- */

static int fail_write(int err, const char *physical, const char *what)
{
	if (err == EACCES || err == EPERM || err == EROFS)
		return vc_fail(EACCES, "%s: %s takes root: its files in /sys/bus/pci/devices cannot be written", physical,
		               what);
	return vc_fail_errno(err, "%s: %s: its driver refuses (see the host's kernel log)", physical, what);
}

static int set_count(const char *root, const char *physical, uint32_t count, const char *what)
{
	char text[16];
	int r;

	snprintf(text, sizeof text, "%u", count);
	r = vc_sysfs_write_file(root, physical, "sriov_numvfs", text);
	return r < 0 ? fail_write(-r, physical, what) : 0;
}

int vc_sriov_create(const char *root, const char *physical, uint32_t count)
{
	uint64_t total, now;
	int r = check_physical(root, physical);

	if (r < 0)
		return r;
	total = number_of(root, physical, "sriov_totalvfs");
	now = number_of(root, physical, "sriov_numvfs");
	if (!count || count > total)
		return vc_fail(EINVAL, "%s: %u virtual functions: expected 1 to %llu", physical, count,
		               (unsigned long long)total);
	if (now == count)
		return 0;
	if (now)
		return vc_fail(EBUSY, "%s: it has %llu virtual functions: they must be destroyed before there can be %u",
		               physical, (unsigned long long)now, count);
	/* kernels before 4.12 have no such file */
	vc_sysfs_write_file(root, physical, "sriov_drivers_autoprobe", "0");
	return set_count(root, physical, count, "creating virtual functions");
}

/* The kernel would wait for whoever has it open, for as long as that takes. */
static int check_idle(const char *root, const char *physical, uint32_t index)
{
	char address[VC_SYSFS_ADDRESS], driver[VC_SYSFS_NAME], path[64];
	unsigned group;
	int fd;

	if (vc_sriov_virtual(root, physical, index, address) < 0 || vc_sysfs_link(root, address, "driver", driver) < 0 ||
	    strcmp(driver, "vfio-pci") || vc_sysfs_group(root, address, &group) < 0)
		return 0;
	snprintf(path, sizeof path, "/dev/vfio/%u", group);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 && errno == EBUSY)
		return vc_fail(EBUSY, "%s: its virtual function %u (%s) is in use by a vm or another process", physical, index,
		               address);
	if (fd >= 0)
		close(fd);
	return 0;
}

int vc_sriov_destroy(const char *root, const char *physical)
{
	uint64_t now;
	int r = check_physical(root, physical);

	if (r < 0)
		return r;
	now = number_of(root, physical, "sriov_numvfs");
	for (uint32_t i = 0; r >= 0 && i < now; i++)
		r = check_idle(root, physical, i);
	if (r >= 0)
		r = set_count(root, physical, 0, "destroying virtual functions");
	if (r >= 0)
		vc_sysfs_write_file(root, physical, "sriov_drivers_autoprobe", "1");
	return r;
}

int vc_sriov_interface(const char *root, const char *physical, char name[VC_SYSFS_NAME])
{
	int r = check_physical(root, physical);

	if (r < 0)
		return r;
	return vc_sysfs_first(root, physical, "net", name) < 0
	           ? vc_fail(ENODEV, "%s: it is no network card, or its driver has made no interface", physical)
	           : 0;
}
