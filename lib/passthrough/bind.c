/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Drivers by driver_override (Documentation/ABI/testing/sysfs-bus-pci). */
#include "passthrough/bind.h"

#include <stdio.h>
#include <string.h>

#include "core/error.h"

#define VFIO_PCI "vfio-pci"

static int fail_write(int err, const char *address, const char *what)
{
	return vc_fail_errno(err, "%s: %s%s", address, what,
	                     err == EACCES || err == EPERM || err == EROFS ? " takes root (CAP_SYS_ADMIN), or write access "
	                                                                     "to its files in /sys/bus/pci"
	                                                                   : "");
}

/* Only that driver may have it; "": whoever knows it. */
static int set_override(const char *root, const char *address, const char *driver)
{
	char line[VC_SYSFS_NAME + 2];
	int r;

	snprintf(line, sizeof line, "%s\n", driver);
	r = vc_sysfs_write_file(root, address, "driver_override", line);
	return r < 0 ? fail_write(-r, address, "changing its driver") : 0;
}

static int unbind(const char *root, const char *address)
{
	char driver[VC_SYSFS_NAME];
	int r;

	if (vc_sysfs_link(root, address, "driver", driver) < 0)
		return 0;
	r = vc_sysfs_write_file(root, address, "driver/unbind", address);
	return r < 0 ? fail_write(-r, address, "taking it from its driver") : 0;
}

static int probe(const char *root, const char *address)
{
	int r = vc_sysfs_write(root, "/sys/bus/pci/drivers_probe", address);

	return r < 0 ? fail_write(-r, address, "giving it to a driver") : 0;
}

static int expect(const char *root, const char *address, const char *driver)
{
	char now[VC_SYSFS_NAME] = "none";

	vc_sysfs_link(root, address, "driver", now);
	if (!strcmp(now, driver))
		return 0;
	return vc_fail(ENODEV, "%s: driver %s has not taken it (it has %s)%s", address, driver, now,
	               strcmp(driver, VFIO_PCI) ? "" : ": is it loaded? \"modprobe vfio-pci\"");
}

/* From whatever driver it has to another. */
static int move(const char *root, const char *address, const char *driver)
{
	int r = set_override(root, address, driver);

	if (r >= 0)
		r = unbind(root, address);
	if (r >= 0)
		r = probe(root, address);
	return r < 0 ? r : expect(root, address, driver);
}

int vc_bind_to_vfio(const char *root, const char *address, char driver[VC_SYSFS_NAME])
{
	int r = vc_sysfs_exists(root, address);

	if (r < 0)
		return r;
	driver[0] = '\0';
	vc_sysfs_link(root, address, "driver", driver);
	if (!strcmp(driver, VFIO_PCI))
		return 0;
	r = move(root, address, VFIO_PCI);
	return r < 0 ? r : 1;
}

int vc_bind_release(const char *root, const char *address, const char *driver)
{
	int r = vc_sysfs_exists(root, address);

	if (r < 0)
		return r;
	/* a virtual function that no driver may probe goes to one by override alone */
	r = driver ? move(root, address, driver) : unbind(root, address);
	return r < 0 ? r : set_override(root, address, "");
}
