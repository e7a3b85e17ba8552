/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the IOMMU share. */
#ifndef VC_BUS_IOMMU_PRIV_H
#define VC_BUS_IOMMU_PRIV_H

#include "bus/iommu.h"

#define VC_IOMMU_CHUNK 64u /* mappings that are taken from the host at once */

struct iommu_chunk {
	struct iommu_chunk *next;
	struct vc_iommu_mapping mappings[VC_IOMMU_CHUNK];
};

struct iommu_domain {
	struct iommu_domain *next;
	uint32_t id;
	bool bypass;
	struct vc_iommu_mapping *root; /* by first */
};

struct vc_iommu_endpoint {
	struct vc_iommu *iommu;
	struct vc_iommu_endpoint *next; /* list of all, by growing id of the device */
	struct vc_pci_function *function;
	struct vc_dev *dev;
	void (*revoke)(void *ctx); /* constant once set, as is: */
	void *revoke_ctx;
	const struct vc_iommu_listener *listener; /* these three under `change` */
	void *listener_ctx;
	bool told;                        /* of what the endpoint reaches now */
	struct vc_iommu_windows windows;  /* under `lock` */
	struct iommu_domain *domain;      /* NULL: none */
	struct vc_iommu_mapping identity; /* what bypass is */
	_Atomic uint64_t version;         /* grows, under `lock` held for writing, whenever something is taken away */
	_Atomic uint32_t logged;          /* faults that were logged since it was attached */
};

struct vc_iommu {
	struct vc_buses *buses;
	const struct vc_log *log;
	pthread_mutex_t change; /* held over every change, with what listeners are told of it */
	pthread_rwlock_t lock;  /* protects driver, bypass, domains, and what endpoints are; written with `change` held */
	struct vc_iommu_driver driver; /* fault NULL: there is none */
	bool bypass;
	struct iommu_domain *domains;
	struct vc_iommu_endpoint *endpoints;
	pthread_mutex_t pool_lock; /* protects all below */
	pthread_cond_t let_go;     /* some of `held` is free again */
	struct iommu_chunk *chunks;
	struct vc_iommu_mapping *free, *held; /* held: taken away, and waited for */
	uint32_t mappings, max_mappings;      /* those in domains and held */
	uint64_t random, changes;
	_Atomic uint64_t faults;
};

/* ---- iommu_map.c: mappings; with `lock` held for writing where they change ---- */

/* NULL: there are too many, or no memory. */
struct vc_iommu_mapping *iommu_mapping_new(struct vc_iommu *iommu, const struct vc_iommu_range *range);
/* Not in a tree any more. Somebody may hold it. */
void iommu_mapping_retire(struct vc_iommu *iommu, struct vc_iommu_mapping *mapping);
/* A change begins, of that number: what is retired from now on is of it. */
uint64_t iommu_change(struct vc_iommu *iommu);
/* Whether nobody holds what that change has retired, and until it is so. With no lock. */
bool iommu_settled(struct vc_iommu *iommu, uint64_t change);
void iommu_settle(struct vc_iommu *iommu, uint64_t change);

/* The last mapping that begins at or below iova; NULL: there is none. */
struct vc_iommu_mapping *iommu_tree_below(struct vc_iommu_mapping *root, uint64_t iova);
void iommu_tree_insert(struct vc_iommu_mapping **root, struct vc_iommu_mapping *mapping);
/* Those that begin in [first, last], as a tree of their own. */
struct vc_iommu_mapping *iommu_tree_cut(struct vc_iommu_mapping **root, uint64_t first, uint64_t last);
/* The first that begins at or above iova, in order; NULL: none. */
struct vc_iommu_mapping *iommu_tree_from(struct vc_iommu_mapping *root, uint64_t iova);
/* Any of a tree, taken out; NULL: it is empty. */
struct vc_iommu_mapping *iommu_tree_pop(struct vc_iommu_mapping **root);

/* ---- iommu.c ---- */

/* For pci_iommu.c. The function is whole but not placed yet; -ENOMEM. And gone: its device is in no domain any more. */
int iommu_endpoint_new(struct vc_iommu *iommu, struct vc_pci_function *f, struct vc_dev *dev,
                       struct vc_iommu_endpoint **e);
void iommu_endpoint_free(struct vc_iommu_endpoint *e);

/* With `lock`. */
static inline bool iommu_is_identity(const struct vc_iommu_endpoint *e)
{
	return e->domain ? e->domain->bypass : e->iommu->bypass;
}

#endif
