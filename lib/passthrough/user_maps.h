/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a vfio-user server may reach of the guest's memory, for the accesses that we make for it. */
#ifndef VC_PASSTHROUGH_USER_MAPS_H
#define VC_PASSTHROUGH_USER_MAPS_H

#include <pthread.h>

#include "passthrough/physical.h"

struct vc_vfio_user_maps {
	pthread_rwlock_t lock;        /* protects all below; held while memory of theirs is used */
	struct vc_physical_dma *maps; /* sorted by iova, disjoint */
	unsigned count, room;
};

void vc_vfio_user_maps_init(struct vc_vfio_user_maps *m);
void vc_vfio_user_maps_fini(struct vc_vfio_user_maps *m);
/* -EINVAL: no range of whole pages; -EEXIST: it overlaps another; -ENOMEM */
int vc_vfio_user_maps_add(struct vc_vfio_user_maps *m, const struct vc_physical_dma *dma);
/* Of that very iova and length. Nothing is reached there any more when this returns. False: there is none. */
bool vc_vfio_user_maps_remove(struct vc_vfio_user_maps *m, uint64_t iova, uint64_t length);
/* -EFAULT, nothing was copied: a byte is in no range, or may not be read or written. */
int vc_vfio_user_maps_read(struct vc_vfio_user_maps *m, uint64_t iova, void *data, uint64_t length);
int vc_vfio_user_maps_write(struct vc_vfio_user_maps *m, uint64_t iova, const void *data, uint64_t length);

#endif
