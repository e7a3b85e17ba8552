/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * VFIO: devices that the kernel lets a process drive, by the groups in which the IOMMU can tell them apart. A group can
 * be opened once, so those that a vm has are shared by its devices; each has an address space of its own: a container,
 * or one of /dev/iommu.
 */
#ifndef VC_PASSTHROUGH_VFIO_H
#define VC_PASSTHROUGH_VFIO_H

#include <pthread.h>
#include <stdint.h>

#include "passthrough/peers.h"
#include "passthrough/vfio_reset.h"

struct vc_vfio_group;
struct vc_vfio_groups {
	pthread_mutex_t lock; /* protects first, and all of the groups but their descriptors */
	struct vc_vfio_group *first;
	int iommufd;           /* -1: it is not open; under lock, constant while a group has an address space of it */
	struct vc_peers peers; /* the devices, for each other */
	struct vc_vfio_members members; /* the same, for resets */
};

void vc_vfio_groups_init(struct vc_vfio_groups *groups);
/* All devices are gone. */
void vc_vfio_groups_fini(struct vc_vfio_groups *groups);

/* By which file of the kernel's */
enum vc_vfio_way { VC_VFIO_ANY_WAY, VC_VFIO_IOMMUFD, VC_VFIO_CONTAINER };

/*
 * A new reference to a host device's group, with an address space; fails with a sentence that says what to do: no
 * IOMMU, the device or others of its group bound to other drivers, permissions, somebody else's.
 */
int vc_vfio_group_get(struct vc_vfio_groups *groups, const char *address, enum vc_vfio_way way,
                      struct vc_vfio_group **group);
void vc_vfio_group_put(struct vc_vfio_groups *groups, struct vc_vfio_group *group);
/* -EBUSY: another device has a reference to it as well: the two cannot be told apart by the guest's IOMMU. */
int vc_vfio_group_check_alone(struct vc_vfio_groups *groups, struct vc_vfio_group *group, const char *address);
/* For a device that has a reference: its number, its descriptor (-1: by /dev/iommu), and the way in words. */
unsigned vc_vfio_group_number(const struct vc_vfio_group *group);
int vc_vfio_group_fd(const struct vc_vfio_group *group);
const char *vc_vfio_group_way(const struct vc_vfio_group *group);
/* The device's own descriptor. */
int vc_vfio_group_open_device(struct vc_vfio_group *group, const char *address);

struct vc_physical_dma;
/* As vc_physical_ops; several devices of a group may map the same. */
int vc_vfio_group_map(struct vc_vfio_groups *groups, struct vc_vfio_group *group, const struct vc_physical_dma *dma);
int vc_vfio_group_unmap(struct vc_vfio_groups *groups, struct vc_vfio_group *group, uint64_t iova, uint64_t length);
struct vc_iommu_windows;
/* As vc_physical_ops.dma_windows. */
int vc_vfio_group_windows(struct vc_vfio_group *group, const char *address, struct vc_iommu_windows *windows);

#endif
