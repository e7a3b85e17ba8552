/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The VFIO devices of a vm, and the reset that several of them share: of their slot or bus. */
#ifndef VC_PASSTHROUGH_VFIO_RESET_H
#define VC_PASSTHROUGH_VFIO_RESET_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "passthrough/sysfs.h"

struct vc_vfio_members {
	pthread_mutex_t lock; /* protects first; held over a reset, so that nobody comes or goes meanwhile */
	struct vc_vfio_member *first;
};

/* Embedded in its owner's struct. */
struct vc_vfio_member {
	const char *address;
	uint32_t group;              /* its number */
	int group_fd;                /* open as long; -1: by /dev/iommu */
	_Atomic bool quiet;          /* the guest has it neither decode nor master anything: others may have it reset */
	struct vc_vfio_members *all; /* NULL: it has not joined */
	struct vc_vfio_member *next;
};

void vc_vfio_members_init(struct vc_vfio_members *all);
/* All have left. */
void vc_vfio_members_fini(struct vc_vfio_members *all);
void vc_vfio_join(struct vc_vfio_members *all, struct vc_vfio_member *member);
/* One that has not joined: nothing. */
void vc_vfio_leave(struct vc_vfio_member *member);

/* Reset what is in the slot, or on the bus, of a device, whose descriptor that is. -ENOTSUP: see below, or it has none.
 */
int vc_vfio_hot_reset(struct vc_vfio_member *self, int fd);

/* A function that the reset would reach. */
struct vc_vfio_affected {
	char address[VC_SYSFS_ADDRESS];
	bool ours; /* its group is one of the vm's */
};
/* -ENOTSUP, with their names: some are not ours, or in the guest's hands. Caller holds the lock. */
int vc_vfio_check_affected(const struct vc_vfio_member *self, const struct vc_vfio_affected *affected, unsigned count);

#endif
