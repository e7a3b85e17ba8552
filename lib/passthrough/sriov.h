/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What <virtcore/sriov.h> does, with a root as in sysfs.h, and addresses that are whole. */
#ifndef VC_PASSTHROUGH_SRIOV_H
#define VC_PASSTHROUGH_SRIOV_H

#include <virtcore/sriov.h>

#include "passthrough/sysfs.h"

int vc_sriov_list(const char *root, uint32_t index, struct vcore_sriov_function *f);
/* Its address alone: -ENODEV, -ENOENT */
int vc_sriov_virtual(const char *root, const char *physical, uint32_t index, char address[VC_SYSFS_ADDRESS]);
void vc_sriov_describe(const char *root, const char *address, struct vcore_sriov_function *f);
int vc_sriov_create(const char *root, const char *physical, uint32_t count);
int vc_sriov_destroy(const char *root, const char *physical);
/* The interface to which the two below are to be told. -ENODEV */
int vc_sriov_interface(const char *root, const char *physical, char name[VC_SYSFS_NAME]);

/* netlink.c: mac or vlan of a virtual function. mac: NULL: it is the VLAN. */
int vc_netlink_set_vf(const char *interface, uint32_t index, const uint8_t *mac, uint32_t vlan, uint32_t priority);

#endif
