/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Saved state of an IOMMU: who is attached where, and what is mapped. */
#include "bus/iommu_priv.h"
#include "core/error.h"
#include "core/util.h"

#define STATE_VERSION 1u

struct iommu_state {
	uint32_t version, bypass;
	uint32_t endpoints, pad;
	uint64_t mappings;
};

struct endpoint_state {
	uint32_t place, domain, bypass, pad;
};

struct mapping_state {
	uint64_t first, last, gpa;
	uint32_t domain, flags;
};

/* All with `change` held. */

static struct iommu_state count(const struct vc_iommu *iommu)
{
	struct iommu_state s = {.version = STATE_VERSION, .bypass = iommu->bypass};

	for (const struct vc_iommu_endpoint *e = iommu->endpoints; e; e = e->next)
		s.endpoints += e->domain != NULL;
	for (const struct iommu_domain *d = iommu->domains; d; d = d->next)
		for (const struct vc_iommu_mapping *m = iommu_tree_from(d->root, 0); m;
		     m = iommu_tree_from(d->root, m->range.last + 1))
			s.mappings++;
	return s;
}

static uint8_t *put(uint8_t *to, const void *data, size_t size)
{
	memcpy(to, data, size);
	return to + size;
}

static uint8_t *put_domain(uint8_t *to, const struct iommu_domain *d)
{
	for (const struct vc_iommu_mapping *m = iommu_tree_from(d->root, 0); m;
	     m = iommu_tree_from(d->root, m->range.last + 1))
		to = put(to, &(struct mapping_state){m->range.first, m->range.last, m->range.gpa, d->id, m->range.flags},
		         sizeof(struct mapping_state));
	return to;
}

static int64_t save(const struct vc_iommu *iommu, uint8_t *to, size_t length)
{
	struct iommu_state s = count(iommu);
	size_t size =
	    sizeof s + s.endpoints * sizeof(struct endpoint_state) + (size_t)s.mappings * sizeof(struct mapping_state);

	if (!to)
		return (int64_t)size;
	if (length < size)
		return vc_fail(ENOSPC, "a buffer of %zu bytes is too small for the state of an IOMMU of %zu", length, size);
	to = put(to, &s, sizeof s);
	for (const struct vc_iommu_endpoint *e = iommu->endpoints; e; e = e->next)
		if (e->domain)
			to = put(to,
			         &(struct endpoint_state){
			             .place = vc_pci_place(e->function), .domain = e->domain->id, .bypass = e->domain->bypass},
			         sizeof(struct endpoint_state));
	for (const struct iommu_domain *d = iommu->domains; d; d = d->next)
		to = put_domain(to, d);
	return (int64_t)size;
}

int64_t vc_iommu_save(struct vc_iommu *iommu, void *buffer, size_t length)
{
	int64_t r;

	pthread_mutex_lock(&iommu->change);
	r = save(iommu, buffer, length);
	pthread_mutex_unlock(&iommu->change);
	return r;
}

/* ---- loading ---- */

static int load_endpoint(struct vc_pci *pci, const uint8_t *from)
{
	struct vc_iommu_endpoint *e;
	struct endpoint_state s;

	memcpy(&s, from, sizeof s);
	e = vc_pci_endpoint_at(pci, s.place);
	return e && s.bypass <= 1 ? vc_iommu_attach(e, s.domain, s.bypass) : -EINVAL;
}

static int load_mapping(struct vc_iommu *iommu, const uint8_t *from)
{
	struct mapping_state s;

	memcpy(&s, from, sizeof s);
	return s.flags & ~(uint32_t)(VC_IOMMU_READ | VC_IOMMU_WRITE | VC_IOMMU_MMIO)
	           ? -EINVAL
	           : vc_iommu_map(iommu, s.domain, &(struct vc_iommu_range){s.first, s.last, s.gpa, s.flags});
}

static int load(struct vc_iommu *iommu, struct vc_pci *pci, const uint8_t *from, size_t length)
{
	struct iommu_state s;
	size_t left = length - sizeof s;
	int r = 0;

	if (length < sizeof s)
		return -EINVAL;
	memcpy(&s, from, sizeof s);
	from += sizeof s;
	if (s.version != STATE_VERSION || s.bypass > 1 || s.endpoints > left / sizeof(struct endpoint_state) ||
	    s.mappings != (left - s.endpoints * sizeof(struct endpoint_state)) / sizeof(struct mapping_state) ||
	    left != s.endpoints * sizeof(struct endpoint_state) + s.mappings * sizeof(struct mapping_state))
		return -EINVAL;
	vc_iommu_set_bypass(iommu, s.bypass);
	for (; r >= 0 && s.endpoints; s.endpoints--, from += sizeof(struct endpoint_state))
		r = load_endpoint(pci, from);
	for (; r >= 0 && s.mappings; s.mappings--, from += sizeof(struct mapping_state))
		r = load_mapping(iommu, from);
	return r;
}

int vc_iommu_load(struct vc_iommu *iommu, struct vc_pci *pci, const void *buffer, size_t length)
{
	int r;

	vc_iommu_clear(iommu);
	r = load(iommu, pci, buffer, length);
	if (r < 0)
		vc_iommu_clear(iommu);
	return r >= 0 ? 0 : vc_fail(EINVAL, "the saved state of an IOMMU holds what it cannot be in");
}
