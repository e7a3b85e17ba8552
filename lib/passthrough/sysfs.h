/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the host tells of its PCI functions in /sys. root: in front of every path, "" but for tests. address:
 * "0000:01:00.0".
 */
#ifndef VC_PASSTHROUGH_SYSFS_H
#define VC_PASSTHROUGH_SYSFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VC_SYSFS_ADDRESS 13 /* "0000:01:00.0" and its end */
#define VC_SYSFS_NAME    64

/* "1:0.0", "01:00.0" or with a domain, made whole. -EINVAL */
int vc_sysfs_address(const char *text, char address[VC_SYSFS_ADDRESS]);
/* -ENODEV: the host has no such function. */
int vc_sysfs_exists(const char *root, const char *address);
/* A file of the function's, without the end of its line. -errno without a sentence. */
int vc_sysfs_read(const char *root, const char *address, const char *file, char *text, size_t size);
int vc_sysfs_read_number(const char *root, const char *address, const char *file, uint64_t *number);
/* -errno without a sentence. */
int vc_sysfs_write(const char *root, const char *path, const char *text);
int vc_sysfs_write_file(const char *root, const char *address, const char *file, const char *text);
/* The name that a link of the function's ends with: "driver", "iommu_group", "physfn", "virtfn0". -ENOENT: none. */
int vc_sysfs_link(const char *root, const char *address, const char *link, char name[VC_SYSFS_NAME]);
/* -ENODEV with a sentence: there is no IOMMU. */
int vc_sysfs_group(const char *root, const char *address, unsigned *group);
/* The first entry of a directory of the function's, such as "net". -ENOENT */
int vc_sysfs_first(const char *root, const char *address, const char *directory, char name[VC_SYSFS_NAME]);
/*
 * "0000:00:1f.2 (driver ahci), 0000:00:1f.3 (driver snd_hda_intel)": who else is in a group, but for bridges, and
 * those that are bound to vfio-pci or to nothing. The number of them.
 */
int vc_sysfs_others(const char *root, unsigned group, const char *address, char *text, size_t size);
/* Addresses of the functions for which wanted() says so, sorted; freed by the caller. The number of them, or -errno. */
int vc_sysfs_functions(const char *root, bool (*wanted)(const char *root, const char *address),
                       char (**addresses)[VC_SYSFS_ADDRESS]);

#endif
