/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An IOMMU group's address space, and the two ways to have one from the kernel. Between vfio_group.c and the files of
 * those. */
#ifndef VC_PASSTHROUGH_VFIO_SPACE_H
#define VC_PASSTHROUGH_VFIO_SPACE_H

#include "passthrough/physical.h"
#include "passthrough/vfio.h"

struct vc_vfio_group {
	struct vc_vfio_groups *groups;
	const struct vc_vfio_space_ops *ops;
	unsigned number;
	uint32_t users;
	int fd;         /* vfio_container.c: the group's; -1: it has none */
	int container;  /* the same; -1 */
	uint32_t ioas;  /* vfio_iommufd.c: its number; 0: none */
	void *mappings; /* a tree for tsearch(): they do not overlap */
	struct vc_vfio_group *next;
};

/* With the groups' lock held. An error is -errno with a sentence. */
struct vc_vfio_space_ops {
	const char *name;
	/* For that device, which the group is to be opened for. What was made before an error, close() ends. */
	int (*open)(struct vc_vfio_group *group, const char *address);
	void (*close)(struct vc_vfio_group *group);
	/* A descriptor. Without the lock. */
	int (*open_device)(struct vc_vfio_group *group, const char *address);
	/* -errno without a sentence. */
	int (*map)(struct vc_vfio_group *group, const struct vc_physical_dma *dma);
	int (*unmap)(struct vc_vfio_group *group, uint64_t iova, uint64_t length);
	/* As vc_physical_ops.dma_windows. */
	int (*windows)(struct vc_vfio_group *group, const char *address, struct vc_iommu_windows *windows);
};

extern const struct vc_vfio_space_ops vc_vfio_container_ops, vc_vfio_iommufd_ops;
/* Whether the host has what the latter needs, for this device and this user. */
bool vc_vfio_iommufd_is_possible(const char *address);

/* What is said when others of the device's group are the host's. Returns -EBUSY. */
int vc_vfio_fail_others(const struct vc_vfio_group *group, const char *address);
/* What is said when a device file cannot be opened. Returns -err. */
int vc_vfio_fail_open(const struct vc_vfio_group *group, const char *address, const char *path, int err);
int vc_vfio_fail_use(const char *address, int err);

#endif
