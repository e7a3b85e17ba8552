/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* IOVAs that an endpoint cannot have, because the hardware that makes its accesses has none such. */
#include "bus/iommu_priv.h"

void vc_iommu_set_windows(struct vc_iommu_endpoint *e, const struct vc_iommu_windows *windows)
{
	pthread_rwlock_wrlock(&e->iommu->lock);
	e->windows = *windows;
	pthread_rwlock_unlock(&e->iommu->lock);
}

static unsigned add(struct vc_iommu_window *reserved, unsigned count, uint64_t first, uint64_t last)
{
	if (first <= last)
		reserved[count++] = (struct vc_iommu_window){first, last};
	return count;
}

/* [first, last] but for the MSI window, which is reserved by itself. */
static unsigned add_around_messages(struct vc_iommu_window *reserved, unsigned count, uint64_t first, uint64_t last)
{
	if (first > VC_IOMMU_MSI_LAST || last < VC_IOMMU_MSI_FIRST)
		return add(reserved, count, first, last);
	count = add(reserved, count, first, VC_IOMMU_MSI_FIRST - 1);
	return add(reserved, count, VC_IOMMU_MSI_LAST + 1ull, last);
}

unsigned vc_iommu_reserved(struct vc_iommu_endpoint *e, struct vc_iommu_window reserved[VC_IOMMU_WINDOWS_MAX + 2])
{
	uint64_t next = 0;
	unsigned count = 0;

	pthread_rwlock_rdlock(&e->iommu->lock);
	for (uint32_t i = 0; i < e->windows.count && next <= VC_IOMMU_LAST; i++) {
		const struct vc_iommu_window *w = &e->windows.at[i];

		if (w->first > next)
			count = add_around_messages(reserved, count, next, w->first - 1);
		next = w->last == UINT64_MAX ? UINT64_MAX : w->last + 1;
	}
	if (e->windows.count && next <= VC_IOMMU_LAST)
		count = add_around_messages(reserved, count, next, VC_IOMMU_LAST);
	pthread_rwlock_unlock(&e->iommu->lock);
	return count;
}

uint64_t vc_iommu_last(struct vc_iommu *iommu)
{
	uint64_t last = VC_IOMMU_LAST;

	pthread_rwlock_rdlock(&iommu->lock);
	for (const struct vc_iommu_endpoint *e = iommu->endpoints; e; e = e->next)
		if (e->windows.count && e->windows.at[e->windows.count - 1].last < last)
			last = e->windows.at[e->windows.count - 1].last;
	pthread_rwlock_unlock(&iommu->lock);
	return last;
}
