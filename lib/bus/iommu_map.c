/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Mappings: where they come from, and the trees that domains keep them in: treaps, balanced by numbers that no guest
 * knows. */
#include <stdlib.h>

#include "bus/iommu_priv.h"

/* ---- the pool ---- */

/* Caller holds pool_lock, as for the next. */
static bool refill(struct vc_iommu *iommu)
{
	struct iommu_chunk *chunk = calloc(1, sizeof *chunk);

	if (!chunk)
		return false;
	chunk->next = iommu->chunks;
	iommu->chunks = chunk;
	for (unsigned i = 0; i < VC_IOMMU_CHUNK; i++) {
		chunk->mappings[i].iommu = iommu;
		chunk->mappings[i].next = iommu->free;
		iommu->free = &chunk->mappings[i];
	}
	return true;
}

/* xorshift64: what it is for is that a guest cannot choose. */
static uint32_t next_random(struct vc_iommu *iommu)
{
	iommu->random ^= iommu->random << 13;
	iommu->random ^= iommu->random >> 7;
	iommu->random ^= iommu->random << 17;
	return (uint32_t)(iommu->random >> 32);
}

struct vc_iommu_mapping *iommu_mapping_new(struct vc_iommu *iommu, const struct vc_iommu_range *range)
{
	struct vc_iommu_mapping *m = NULL;

	pthread_mutex_lock(&iommu->pool_lock);
	if (iommu->mappings < iommu->max_mappings && (iommu->free || refill(iommu))) {
		m = iommu->free;
		iommu->free = m->next;
		iommu->mappings++;
		/* users stays: whoever held it in vain a moment ago has yet to let go */
		atomic_store(&m->dead, false);
		m->range = *range;
		m->left = m->right = m->next = NULL;
		m->priority = next_random(iommu);
	}
	pthread_mutex_unlock(&iommu->pool_lock);
	return m;
}

/* Caller holds pool_lock. */
static void give_back(struct vc_iommu *iommu, struct vc_iommu_mapping *m)
{
	m->next = iommu->free;
	iommu->free = m;
	iommu->mappings--;
}

void iommu_mapping_retire(struct vc_iommu *iommu, struct vc_iommu_mapping *m)
{
	pthread_mutex_lock(&iommu->pool_lock);
	/* before we look: the last to let go sees that it was the last, or we do */
	atomic_store(&m->dead, true);
	m->change = iommu->changes;
	if (atomic_load(&m->users)) {
		m->next = iommu->held;
		iommu->held = m;
	} else {
		give_back(iommu, m);
	}
	pthread_mutex_unlock(&iommu->pool_lock);
}

void vc_iommu_let_go_slow(struct vc_iommu *iommu)
{
	pthread_mutex_lock(&iommu->pool_lock);
	for (struct vc_iommu_mapping **at = &iommu->held; *at;) {
		struct vc_iommu_mapping *m = *at;

		if (atomic_load(&m->users)) {
			at = &m->next;
			continue;
		}
		*at = m->next;
		give_back(iommu, m);
	}
	pthread_cond_broadcast(&iommu->let_go);
	pthread_mutex_unlock(&iommu->pool_lock);
}

uint64_t iommu_change(struct vc_iommu *iommu)
{
	uint64_t change;

	pthread_mutex_lock(&iommu->pool_lock);
	change = ++iommu->changes;
	pthread_mutex_unlock(&iommu->pool_lock);
	return change;
}

/* Caller holds pool_lock. */
static bool is_settled(const struct vc_iommu *iommu, uint64_t change)
{
	const struct vc_iommu_mapping *m = iommu->held;

	while (m && m->change != change)
		m = m->next;
	return !m;
}

bool iommu_settled(struct vc_iommu *iommu, uint64_t change)
{
	bool settled;

	pthread_mutex_lock(&iommu->pool_lock);
	settled = is_settled(iommu, change);
	pthread_mutex_unlock(&iommu->pool_lock);
	return settled;
}

void iommu_settle(struct vc_iommu *iommu, uint64_t change)
{
	pthread_mutex_lock(&iommu->pool_lock);
	while (!is_settled(iommu, change))
		pthread_cond_wait(&iommu->let_go, &iommu->pool_lock);
	pthread_mutex_unlock(&iommu->pool_lock);
}

/* ---- trees ---- */

/* Those that begin below iova, and the rest. */
static void split(struct vc_iommu_mapping *root, uint64_t iova, struct vc_iommu_mapping **below,
                  struct vc_iommu_mapping **rest)
{
	while (root) {
		if (root->range.first < iova) {
			*below = root;
			below = &root->right;
			root = root->right;
		} else {
			*rest = root;
			rest = &root->left;
			root = root->left;
		}
	}
	*below = *rest = NULL;
}

/* All of a lie below all of b. */
static struct vc_iommu_mapping *merge(struct vc_iommu_mapping *a, struct vc_iommu_mapping *b)
{
	struct vc_iommu_mapping *root, **at = &root;

	while (a && b) {
		if (a->priority >= b->priority) {
			*at = a;
			at = &a->right;
			a = a->right;
		} else {
			*at = b;
			at = &b->left;
			b = b->left;
		}
	}
	*at = a ? a : b;
	return root;
}

struct vc_iommu_mapping *iommu_tree_below(struct vc_iommu_mapping *root, uint64_t iova)
{
	struct vc_iommu_mapping *found = NULL;

	while (root) {
		if (root->range.first <= iova) {
			found = root;
			root = root->right;
		} else {
			root = root->left;
		}
	}
	return found;
}

struct vc_iommu_mapping *iommu_tree_from(struct vc_iommu_mapping *root, uint64_t iova)
{
	struct vc_iommu_mapping *found = NULL;

	while (root) {
		if (root->range.first >= iova) {
			found = root;
			root = root->left;
		} else {
			root = root->right;
		}
	}
	return found;
}

void iommu_tree_insert(struct vc_iommu_mapping **root, struct vc_iommu_mapping *mapping)
{
	struct vc_iommu_mapping *below, *rest;

	split(*root, mapping->range.first, &below, &rest);
	*root = merge(merge(below, mapping), rest);
}

/* last is not the last of all addresses. */
struct vc_iommu_mapping *iommu_tree_cut(struct vc_iommu_mapping **root, uint64_t first, uint64_t last)
{
	struct vc_iommu_mapping *below, *rest, *cut, *above;

	split(*root, first, &below, &rest);
	split(rest, last + 1, &cut, &above);
	*root = merge(below, above);
	return cut;
}

struct vc_iommu_mapping *iommu_tree_pop(struct vc_iommu_mapping **root)
{
	struct vc_iommu_mapping *m = *root;

	if (m)
		*root = merge(m->left, m->right);
	return m;
}
