/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What /sys says of the host's functions, in a made-up tree. */
#include <check.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <virtcore/error.h>

#include "core/util.h"
#include "passthrough/bind.h"
#include "passthrough/sriov.h"
#include "platform_env.h"

#define CARD  "0000:01:00.0"
#define FIRST "0000:01:00.4"
#define OTHER "0000:00:1f.2"

static char root[] = "/tmp/virtcore-sysfs-XXXXXX";

static void path_of(char path[PATH_MAX], const char *address, const char *file)
{
	snprintf(path, PATH_MAX, "%s/sys/bus/pci/devices/%s/%s", root, address, file);
}

static void make_directories(const char *path)
{
	char at[PATH_MAX];

	snprintf(at, sizeof at, "%s", path);
	for (char *slash = strchr(at + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(at, 0755);
		*slash = '/';
	}
}

static void put_text(const char *path, const char *text)
{
	FILE *f;

	make_directories(path);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

static void put_file(const char *address, const char *file, const char *text)
{
	char path[PATH_MAX];

	path_of(path, address, file);
	put_text(path, text);
}

static void put_link(const char *address, const char *file, const char *target)
{
	char path[PATH_MAX];

	path_of(path, address, file);
	make_directories(path);
	ck_assert_int_eq(symlink(target, path), 0);
}

static void put_function(const char *address, const char *class_code, unsigned group, const char *driver)
{
	char target[PATH_MAX];

	put_file(address, "vendor", "0x8086\n");
	put_file(address, "device", "0x10c9\n");
	put_file(address, "class", class_code);
	put_file(address, "driver_override", "(null)\n");
	snprintf(target, sizeof target, "../../../../kernel/iommu_groups/%u", group);
	put_link(address, "iommu_group", target);
	if (driver) {
		snprintf(target, sizeof target, "../../../../bus/pci/drivers/%s", driver);
		put_link(address, "driver", target);
	}
	snprintf(target, sizeof target, "%s/sys/kernel/iommu_groups/%u/devices/%s", root, group, address);
	put_text(target, "");
}

static void check_file(const char *address, const char *file, const char *text)
{
	char is[64];

	ck_assert_int_eq(vc_sysfs_read(root, address, file, is, sizeof is), 0);
	ck_assert_str_eq(is, text);
}

static void begin(void)
{
	char path[PATH_MAX];

	memcpy(root + sizeof root - 7, "XXXXXX", 6);
	ck_assert_ptr_nonnull(mkdtemp(root));
	put_function(CARD, "0x020000\n", 7, "igb");
	put_file(CARD, "sriov_totalvfs", "7\n");
	put_file(CARD, "sriov_numvfs", "0\n");
	put_file(CARD, "sriov_drivers_autoprobe", "1\n");
	put_file(CARD, "net/enp1s0/address", "");
	put_function("0000:00:1f.0", "0x060400\n", 9, "pcieport");
	put_function(OTHER, "0x010601\n", 9, "ahci");
	put_function("0000:00:1f.3", "0x040300\n", 9, "snd_hda_intel");
	put_function("0000:00:1f.4", "0x0c0500\n", 9, NULL);
	put_function("0000:00:1f.5", "0x0c8000\n", 9, "vfio-pci");
	snprintf(path, sizeof path, "%s/sys/bus/pci/drivers_probe", root);
	put_text(path, "");
}

static void end(void)
{
	char command[PATH_MAX];

	snprintf(command, sizeof command, "rm -rf '%s'", root);
	ck_assert_int_eq(system(command), 0);
}

START_TEST(addresses)
{
	static const char *const bad[] = {"", "1", "01:00", "01:00.8", "01:20.0", "01:00.0x", "10000:01:00.0", "zz:00.0"};
	char address[VC_SYSFS_ADDRESS];

	ck_assert_int_eq(vc_sysfs_address("1:0.0", address), 0);
	ck_assert_str_eq(address, CARD);
	ck_assert_int_eq(vc_sysfs_address("abcd:ef:1f.7", address), 0);
	ck_assert_str_eq(address, "abcd:ef:1f.7");
	for (unsigned i = 0; i < VC_ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(vc_sysfs_address(bad[i], address), -EINVAL);
}
END_TEST

START_TEST(groups)
{
	char text[256];
	unsigned group;

	ck_assert_int_eq(vc_sysfs_group(root, OTHER, &group), 0);
	ck_assert_uint_eq(group, 9);
	ck_assert_int_eq(vc_sysfs_others(root, 9, "0000:00:1f.4", text, sizeof text), 2);
	ck_assert(strstr(text, "0000:00:1f.2 (driver ahci)"));
	ck_assert(strstr(text, "0000:00:1f.3 (driver snd_hda_intel)"));
	ck_assert(!strstr(text, "pcieport") && !strstr(text, "vfio-pci"));
	ck_assert_int_eq(vc_sysfs_others(root, 9, "0000:00:1f.4", text, 8), 2);
	ck_assert_int_eq(vc_sysfs_others(root, 7, CARD, text, sizeof text), 0);
	put_file("0000:02:00.0", "vendor", "0x1234\n");
	ck_assert_int_eq(vc_sysfs_group(root, "0000:02:00.0", &group), -ENODEV);
	ck_assert(strstr(vcore_error_message(), "has no IOMMU"));
	ck_assert_int_eq(vc_sysfs_exists(root, "0000:03:00.0"), -ENODEV);
}
END_TEST

START_TEST(physical)
{
	struct vcore_sriov_function f;
	char address[VC_SYSFS_ADDRESS], name[VC_SYSFS_NAME];

	ck_assert_int_eq(vc_sriov_list(root, 0, &f), 0);
	ck_assert_str_eq(f.address, CARD);
	ck_assert_str_eq(f.driver, "igb");
	ck_assert_str_eq(f.interface, "enp1s0");
	ck_assert_uint_eq(f.total, 7);
	ck_assert_uint_eq(f.count, 0);
	ck_assert_int_eq(f.group, 7);
	ck_assert_uint_eq(f.vendor, 0x8086);
	ck_assert_int_eq(vc_sriov_list(root, 1, &f), -ENOENT);
	ck_assert_int_eq(vc_sriov_interface(root, CARD, name), 0);
	ck_assert_str_eq(name, "enp1s0");

	ck_assert_int_eq(vc_sriov_create(root, OTHER, 1), -ENOTSUP);
	ck_assert_int_eq(vc_sriov_create(root, CARD, 8), -EINVAL);
	ck_assert_int_eq(vc_sriov_create(root, CARD, 0), -EINVAL);
	ck_assert_int_eq(vc_sriov_virtual(root, CARD, 0, address), -ENOENT);
	ck_assert_int_eq(vc_sriov_create(root, CARD, 2), 0);
	check_file(CARD, "sriov_drivers_autoprobe", "0");
	check_file(CARD, "sriov_numvfs", "2");
	ck_assert_int_eq(vc_sriov_create(root, CARD, 2), 0);
	ck_assert_int_eq(vc_sriov_create(root, CARD, 3), -EBUSY);
	put_function(FIRST, "0x020000\n", 11, NULL);
	put_link(CARD, "virtfn0", "../" FIRST);
	ck_assert_int_eq(vc_sriov_virtual(root, CARD, 0, address), 0);
	ck_assert_str_eq(address, FIRST);
	vc_sriov_describe(root, FIRST, &f);
	ck_assert_str_eq(f.driver, "");
	ck_assert_int_eq(f.group, 11);
	ck_assert_int_eq(vc_sriov_destroy(root, CARD), 0);
	check_file(CARD, "sriov_numvfs", "0");
	check_file(CARD, "sriov_drivers_autoprobe", "1");
}
END_TEST

START_TEST(drivers)
{
	char driver[VC_SYSFS_NAME];

	put_function(FIRST, "0x020000\n", 11, NULL);
	/* nobody is there who would take it */
	ck_assert_int_eq(vc_bind_to_vfio(root, FIRST, driver), -ENODEV);
	ck_assert_str_eq(driver, "");
	ck_assert(strstr(vcore_error_message(), "modprobe vfio-pci"));
	check_file(FIRST, "driver_override", "vfio-pci");
	put_link(FIRST, "driver", "../../drivers/vfio-pci");
	ck_assert_int_eq(vc_bind_to_vfio(root, FIRST, driver), 0);
	ck_assert_int_eq(vc_bind_to_vfio(root, "0000:03:00.0", driver), -ENODEV);
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("sriov");

	tcase_set_timeout(cases, 60);
	tcase_add_checked_fixture(cases, begin, end);
	tcase_add_test(cases, addresses);
	tcase_add_test(cases, groups);
	tcase_add_test(cases, physical);
	tcase_add_test(cases, drivers);
	return platform_run("sriov", cases);
}
