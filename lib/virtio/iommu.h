/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the IOMMU device share. */
#ifndef VC_VIRTIO_IOMMU_H
#define VC_VIRTIO_IOMMU_H

#include <pthread.h>

#include "bus/iommu.h"
#include "virtio/virtio.h"

#define VIOMMU_F_INPUT_RANGE   (1ull << 0)
#define VIOMMU_F_DOMAIN_RANGE  (1ull << 1)
#define VIOMMU_F_MAP_UNMAP     (1ull << 2)
#define VIOMMU_F_PROBE         (1ull << 4)
#define VIOMMU_F_MMIO          (1ull << 5)
#define VIOMMU_F_BYPASS_CONFIG (1ull << 6)

enum { VIOMMU_REQUESTQ, VIOMMU_EVENTQ, VIOMMU_QUEUES };
/* room for the MSI window and what an endpoint's hardware cannot do, 24 bytes each */
enum { VIOMMU_PROBE_SIZE = 512, VIOMMU_FAULTS_MAX = 64 };

struct viommu {
	struct vc_env *env;
	struct vc_virtio *v;
	struct vc_iommu *iommu;
	bool bypass_at_first;
	pthread_mutex_t lock; /* protects all below */
	struct vc_iommu_fault faults[VIOMMU_FAULTS_MAX];
	unsigned first, count; /* of those that wait for a buffer */
	uint64_t lost;
};

/* iommu_request.c: do what a chain asks for, and give it back. */
void viommu_request(struct viommu *m, struct vc_virtq_chain *chain);

#endif
