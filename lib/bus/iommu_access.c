/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Accesses of endpoints: where they go, and what becomes of those that go nowhere. */
#include "bus/iommu_priv.h"
#include "core/error.h"
#include "core/util.h"

enum { LOGGED_MAX = 8 }; /* faults of an endpoint, until it is attached anew: a guest makes as many as it likes */

/* Caller holds `lock`. NULL: the access is not allowed. */
static struct vc_iommu_mapping *find(struct vc_iommu_endpoint *e, uint64_t iova, uint32_t access)
{
	struct vc_iommu_mapping *m = NULL;

	if (iommu_is_identity(e))
		m = &e->identity;
	else if (e->domain)
		m = iommu_tree_below(e->domain->root, iova);
	return m && iova <= m->range.last && !(access & ~m->range.flags) ? m : NULL;
}

/* ---- faults ---- */

static void log_fault(struct vc_iommu_endpoint *e, const struct vc_iommu_fault *fault)
{
	if (atomic_load(&e->logged) >= LOGGED_MAX || atomic_fetch_add(&e->logged, 1) >= LOGGED_MAX)
		return;
	vc_log(e->iommu->log, VCORE_LOG_WARN, "%s at PCI %02x:%02x.%x: DMA %s %#llx is blocked: %s", e->dev->type,
	       fault->endpoint >> 8, fault->endpoint >> 3 & 31, fault->endpoint & 7,
	       fault->access & VC_IOMMU_WRITE ? "to" : "from", (unsigned long long)fault->iova,
	       fault->reason == VC_IOMMU_FAULT_DOMAIN ? "the IOMMU has it in no domain"
	                                              : "its IOMMU domain does not map that");
}

/* No lock is held. */
static void report(struct vc_iommu_endpoint *e, uint64_t iova, uint32_t access)
{
	struct vc_iommu *iommu = e->iommu;
	struct vc_iommu_fault fault = {.endpoint = vc_pci_requester(e->function), .access = access, .iova = iova};

	atomic_fetch_add(&iommu->faults, 1);
	pthread_rwlock_rdlock(&iommu->lock);
	fault.reason = e->domain ? VC_IOMMU_FAULT_MAPPING : VC_IOMMU_FAULT_DOMAIN;
	if (iommu->driver.function)
		iommu->driver.fault(iommu->driver.ctx, &fault);
	pthread_rwlock_unlock(&iommu->lock);
	log_fault(e, &fault);
}

/* ---- holding ---- */

static void fill_piece(struct vc_iommu_piece *piece, struct vc_iommu_mapping *mapping,
                       const struct vc_iommu_range *range, uint64_t iova)
{
	*piece = (struct vc_iommu_piece){mapping, range->gpa + (iova - range->first), range->last - iova + 1};
}

static void remember(struct vc_iommu_cache *cache, uint64_t version, struct vc_iommu_mapping *m)
{
	if (cache->version != version)
		*cache = (struct vc_iommu_cache){.version = version};
	cache->ways[cache->next].mapping = m;
	cache->ways[cache->next].range = m->range;
	cache->next = (cache->next + 1) % VC_IOMMU_CACHE_WAYS;
}

static bool hold_slow(struct vc_iommu_endpoint *e, struct vc_iommu_cache *cache, uint64_t iova, uint32_t access,
                      struct vc_iommu_piece *piece)
{
	struct vc_iommu_mapping *m;

	pthread_rwlock_rdlock(&e->iommu->lock);
	m = find(e, iova, access);
	if (m) {
		vc_iommu_hold_again(m);
		remember(cache, atomic_load(&e->version), m);
		fill_piece(piece, m, &m->range, iova);
	}
	pthread_rwlock_unlock(&e->iommu->lock);
	if (!m)
		report(e, iova, access);
	return m != NULL;
}

bool vc_iommu_hold(struct vc_iommu_endpoint *e, struct vc_iommu_cache *cache, uint64_t iova, uint32_t access,
                   struct vc_iommu_piece *piece)
{
	uint64_t version = atomic_load(&e->version);

	for (unsigned i = 0; cache->version == version && i < VC_IOMMU_CACHE_WAYS; i++) {
		struct vc_iommu_mapping *m = cache->ways[i].mapping;
		const struct vc_iommu_range *range = &cache->ways[i].range;

		if (!m || iova < range->first || iova > range->last || access & ~range->flags)
			continue;
		vc_iommu_hold_again(m);
		/* whoever takes it away changes the version before looking whether somebody holds it */
		if (vc_likely(atomic_load(&e->version) == version)) {
			fill_piece(piece, m, range, iova);
			return true;
		}
		vc_iommu_let_go(m);
		break;
	}
	return hold_slow(e, cache, iova, access, piece);
}

/* ---- copying ---- */

/* As much as goes the same way; the lock keeps the mapping there meanwhile. */
static int copy_piece(struct vc_iommu_endpoint *e, struct vc_mem *mem, uint64_t iova, void *buffer, uint64_t *length,
                      bool write)
{
	const struct vc_iommu_mapping *m;
	int r = -EACCES;

	pthread_rwlock_rdlock(&e->iommu->lock);
	m = find(e, iova, write ? VC_IOMMU_WRITE : VC_IOMMU_READ);
	if (m) {
		uint64_t gpa = m->range.gpa + (iova - m->range.first);

		if (*length > m->range.last - iova)
			*length = m->range.last - iova + 1;
		r = write ? vc_mem_write(mem, gpa, buffer, *length) : vc_mem_read(mem, gpa, buffer, *length);
	}
	pthread_rwlock_unlock(&e->iommu->lock);
	return r;
}

static int fail_copy(int r, uint64_t iova, uint64_t length, bool write)
{
	return vc_fail(EFAULT, "DMA %s [%#llx, +%#llx): %s", write ? "to" : "from", (unsigned long long)iova,
	               (unsigned long long)length,
	               r == -EACCES ? "the IOMMU blocks it" : "there is no memory at some of it, or not for that");
}

int vc_iommu_copy(struct vc_iommu_endpoint *e, struct vc_mem *mem, uint64_t iova, void *buffer, uint64_t length,
                  bool write)
{
	uint8_t *at = buffer;
	int r = 0;

	if (!e) {
		r = write ? vc_mem_write(mem, iova, buffer, length) : vc_mem_read(mem, iova, buffer, length);
		return r < 0 ? fail_copy(r, iova, length, write) : 0;
	}
	while (length) {
		uint64_t piece = length;

		r = copy_piece(e, mem, iova, at, &piece, write);
		if (r == -EACCES)
			report(e, iova, write ? VC_IOMMU_WRITE : VC_IOMMU_READ);
		if (r < 0)
			return fail_copy(r, iova, length, write);
		at += piece;
		iova += piece;
		length -= piece;
	}
	return 0;
}
