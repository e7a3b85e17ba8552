/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "passthrough/sysfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"

#define DEVICES "/sys/bus/pci/devices"

int vc_sysfs_address(const char *text, char address[VC_SYSFS_ADDRESS])
{
	unsigned domain = 0, bus, device, function;
	int end = 0;
	bool good = sscanf(text, "%4x:%2x:%2x.%1x%n", &domain, &bus, &device, &function, &end) == 4 && !text[end];

	if (!good) {
		domain = 0;
		end = 0;
		good = sscanf(text, "%2x:%2x.%1x%n", &bus, &device, &function, &end) == 3 && !text[end];
	}
	if (!good || device > 31 || function > 7)
		return vc_fail(EINVAL, "\"%s\" is no PCI address of the host: expected one like 0000:01:00.0 or 01:00.0", text);
	snprintf(address, VC_SYSFS_ADDRESS, "%04x:%02x:%02x.%x", domain & 0xffff, bus & 0xff, device & 0x1f, function & 7);
	return 0;
}

/* ---- files ---- */

static void path_of(char path[PATH_MAX], const char *root, const char *address, const char *file)
{
	snprintf(path, PATH_MAX, "%s" DEVICES "/%s/%s", root, address, file);
}

int vc_sysfs_exists(const char *root, const char *address)
{
	char path[PATH_MAX];

	path_of(path, root, address, "");
	return access(path, F_OK) == 0 ? 0 : vc_fail(ENODEV, "%s: this host has no such PCI function", address);
}

int vc_sysfs_read(const char *root, const char *address, const char *file, char *text, size_t size)
{
	char path[PATH_MAX];
	ssize_t n;
	int fd, err;

	path_of(path, root, address, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, text, size - 1);
	err = errno;
	close(fd);
	if (n < 0)
		return -err;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return 0;
}

int vc_sysfs_read_number(const char *root, const char *address, const char *file, uint64_t *number)
{
	char text[32], *end;
	int r = vc_sysfs_read(root, address, file, text, sizeof text);

	if (r < 0)
		return r;
	*number = strtoull(text, &end, 0);
	return end == text ? -EINVAL : 0;
}

int vc_sysfs_write(const char *root, const char *path, const char *text)
{
	char whole[PATH_MAX];
	ssize_t n;
	int fd, err;

	snprintf(whole, sizeof whole, "%s%s", root, path);
	fd = open(whole, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = write(fd, text, strlen(text));
	err = errno;
	close(fd);
	return n < 0 ? -err : 0;
}

int vc_sysfs_write_file(const char *root, const char *address, const char *file, const char *text)
{
	char path[PATH_MAX];

	path_of(path, "", address, file);
	return vc_sysfs_write(root, path, text);
}

int vc_sysfs_link(const char *root, const char *address, const char *link, char name[VC_SYSFS_NAME])
{
	char path[PATH_MAX], target[PATH_MAX];
	const char *last;
	ssize_t n;

	path_of(path, root, address, link);
	n = readlink(path, target, sizeof target - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	last = strrchr(target, '/');
	snprintf(name, VC_SYSFS_NAME, "%.*s", VC_SYSFS_NAME - 1, last ? last + 1 : target);
	return 0;
}

int vc_sysfs_group(const char *root, const char *address, unsigned *group)
{
	char name[VC_SYSFS_NAME], *end;

	if (vc_sysfs_link(root, address, "iommu_group", name) < 0)
		return vc_fail(ENODEV,
		               "%s: it is in no IOMMU group: the host has no IOMMU, or it is off: switch VT-d or AMD-Vi on in "
		               "the firmware's setup, and boot the host with intel_iommu=on if it has an Intel CPU",
		               address);
	*group = (unsigned)strtoul(name, &end, 10);
	return *end || end == name ? vc_fail(EINVAL, "%s: its IOMMU group is \"%s\": expected a number", address, name) : 0;
}

/* ---- directories ---- */

static bool is_entry(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

int vc_sysfs_first(const char *root, const char *address, const char *directory, char name[VC_SYSFS_NAME])
{
	char path[PATH_MAX];
	struct dirent *entry;
	int r = -ENOENT;
	DIR *dir;

	path_of(path, root, address, directory);
	dir = opendir(path);
	while (dir && r < 0 && (entry = readdir(dir))) {
		if (!is_entry(entry))
			continue;
		snprintf(name, VC_SYSFS_NAME, "%.*s", VC_SYSFS_NAME - 1, entry->d_name);
		r = 0;
	}
	if (dir)
		closedir(dir);
	return r;
}

/* A bridge of the host's takes part in no DMA of its own: the kernel lets it keep its driver. */
static bool is_bridge(const char *root, const char *address)
{
	uint64_t class_code;

	return vc_sysfs_read_number(root, address, "class", &class_code) >= 0 && class_code >> 8 == 0x0604;
}

int vc_sysfs_others(const char *root, unsigned group, const char *address, char *text, size_t size)
{
	char path[PATH_MAX], driver[VC_SYSFS_NAME];
	struct dirent *entry;
	size_t used = 0;
	int count = 0;
	DIR *dir;

	text[0] = '\0';
	snprintf(path, sizeof path, "%s/sys/kernel/iommu_groups/%u/devices", root, group);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		const char *other = entry->d_name;

		if (!is_entry(entry) || !strcmp(other, address) || is_bridge(root, other) ||
		    vc_sysfs_link(root, other, "driver", driver) < 0 || !strcmp(driver, "vfio-pci"))
			continue;
		if (used < size)
			used += (size_t)snprintf(text + used, size - used, "%s%s (driver %s)", count ? ", " : "", other, driver);
		count++;
	}
	if (dir)
		closedir(dir);
	return count;
}

static int compare(const void *a, const void *b)
{
	return strcmp(a, b);
}

int vc_sysfs_functions(const char *root, bool (*wanted)(const char *root, const char *address),
                       char (**addresses)[VC_SYSFS_ADDRESS])
{
	char path[PATH_MAX], (*list)[VC_SYSFS_ADDRESS] = NULL, (*grown)[VC_SYSFS_ADDRESS];
	struct dirent *entry;
	int count = 0;
	DIR *dir;

	snprintf(path, sizeof path, "%s" DEVICES, root);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (!is_entry(entry) || strlen(entry->d_name) != VC_SYSFS_ADDRESS - 1 || !wanted(root, entry->d_name))
			continue;
		grown = realloc(list, ((size_t)count + 1) * sizeof *list);
		if (!grown) {
			free(list);
			closedir(dir);
			return vc_fail(ENOMEM, "no memory for a list of PCI functions");
		}
		list = grown;
		memcpy(list[count++], entry->d_name, VC_SYSFS_ADDRESS);
	}
	if (dir)
		closedir(dir);
	if (list)
		qsort(list, (size_t)count, sizeof *list, compare);
	*addresses = list;
	return count;
}
