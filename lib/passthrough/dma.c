/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guest's memory as the device reaches it. Ranges of IOVAs lead to guest-physical addresses: one that leads
 * everywhere, or those that the guest has its IOMMU map; what is mapped is the part of each memory slot that lies in
 * one, and of the registers of other devices where that is wanted. Slots that come are mapped before whoever adds them
 * goes on, and so before the guest is told of them. Memory that is mapped stays what it is: pages that a balloon or
 * virtio-mem gives back remain (vc_slot_fix()).
 */
#include <search.h>
#include <stdio.h>
#include <stdlib.h>

#include <virtcore/error.h>

#include "core/error.h"
#include "core/util.h"

#include "passthrough/passed.h"

_Static_assert((int)VC_PHYSICAL_READ == (int)VC_IOMMU_READ && (int)VC_PHYSICAL_WRITE == (int)VC_IOMMU_WRITE,
               "flags of ranges are flags of mappings");

/* ---- one mapping; all with the lock held ---- */

/* Whether failing to map it leaves the device fit for use: files need not lend themselves to DMA, nor peers' registers
 * unless the guest says that it wants such. */
static bool may_miss(const struct vc_iommu_range *range, const struct vc_passed_target *target)
{
	const struct vc_slot *slot = target->slot;

	if (!slot)
		return !(range->flags & VC_IOMMU_MMIO);
	return !(slot->flags & VCORE_MEM_W) || slot->kind == VCORE_MEMORY_FILE || slot->kind == VCORE_MEMORY_PRIVATE_FILE;
}

static void use(struct vc_passed_target *target, bool on)
{
	if (target->slot && target->users == (on ? 0 : 1))
		vc_slot_fix(target->slot, on);
	target->users += on ? 1 : (uint32_t)-1;
}

/* What of the target lies in the range; false: nothing that can be reached. */
static bool intersect(const struct vc_iommu_range *range, struct vc_passed_target *target, struct vc_passed_mapping *m)
{
	uint64_t last = range->gpa + (range->last - range->first), end = target->gpa + (target->length - 1);
	uint64_t gpa = target->gpa > range->gpa ? target->gpa : range->gpa;

	last = last < end ? last : end;
	if (gpa > last)
		return false;
	*m = (struct vc_passed_mapping){
	    .target = target,
	    .iova = range->first + (gpa - range->gpa),
	    .gpa = gpa,
	    .length = last - gpa + 1,
	    .flags = range->flags & target->flags,
	};
	return m->flags != 0;
}

static int map(struct vc_passed *passed, const struct vc_passed_mapping *m)
{
	struct vc_physical *p = passed->physical;
	struct vc_slot *slot = m->target->slot;
	const struct vc_physical_dma dma = {
	    .iova = m->iova,
	    .length = m->length,
	    .hva = (uint8_t *)m->target->hva + (m->gpa - m->target->gpa),
	    .fd = slot && vc_slot_is_shareable(slot) ? slot->fd : -1,
	    .offset = slot ? slot->offset + (m->gpa - slot->gpa) : 0,
	    .slot = slot,
	    .gpa = m->gpa,
	    .flags = m->flags,
	};
	int r;

	use(m->target, true);
	r = p->ops->dma_map(p, &dma);
	if (r < 0) {
		use(m->target, false);
		return r;
	}
	passed->dma.count++;
	atomic_store(&passed->dma.mapped, passed->dma.count);
	atomic_fetch_add(&passed->dma.bytes, m->length);
	return 0;
}

/* Tell who must know of writes that the vcpus did not do. */
static void tell_written(struct vc_passed *passed, const struct vc_passed_mapping *m)
{
	if (passed->env->mem->want_pages && m->target->slot && m->flags & VC_PHYSICAL_WRITE)
		vc_mem_wrote(m->target->slot, m->gpa, m->length);
}

static void unmap(struct vc_passed *passed, const struct vc_passed_mapping *m)
{
	struct vc_physical *p = passed->physical;

	if (p->ops->dma_unmap(p, m->iova, m->length) < 0 && !atomic_load(&passed->gone))
		vc_log(passed->env->log, VCORE_LOG_WARN, "%s", vcore_error_message());
	tell_written(passed, m);
	passed->dma.count--;
	atomic_store(&passed->dma.mapped, passed->dma.count);
	atomic_fetch_sub(&passed->dma.bytes, m->length);
	use(m->target, false);
}

/* ---- ranges; with the lock held ---- */

static int compare(const void *a, const void *b)
{
	const struct vc_passed_range *one = a, *other = b;

	return (one->range.first > other->range.first) - (one->range.first < other->range.first);
}

static bool is_mapped(const struct vc_passed_range *range, const struct vc_passed_target *target)
{
	for (uint32_t i = 0; i < range->count; i++)
		if (range->mappings[i].target == target)
			return true;
	return false;
}

static int map_target(struct vc_passed *passed, struct vc_passed_range *range, struct vc_passed_target *target)
{
	struct vc_passed_mapping m, *grown;
	int r;

	if (!intersect(&range->range, target, &m) || is_mapped(range, target))
		return 0;
	if (passed->dma.count >= VC_PASSED_MAPPINGS_MAX)
		return vc_fail(ENOSPC, "there are %u DMA mappings of it already", passed->dma.count);
	grown = realloc(range->mappings, (range->count + 1u) * sizeof *grown);
	if (!grown)
		return vc_fail(ENOMEM, "no memory for a DMA mapping");
	range->mappings = grown;
	r = map(passed, &m);
	if (r >= 0)
		range->mappings[range->count++] = m;
	return r;
}

/* A guest can have that as often as it likes. */
static void log_failure(struct vc_passed *passed, enum vcore_log_level level, const char *what, uint64_t at,
                        uint64_t length)
{
	uint32_t before = atomic_fetch_add(&passed->dma.logged, 1);

	if (before < VC_PASSED_LOGGED_MAX)
		vc_log(passed->env->log, level, "%s: no DMA to %s [%#llx, +%#llx): %s%s", passed->physical->name, what,
		       (unsigned long long)at, (unsigned long long)length, vcore_error_message(),
		       before + 1 == VC_PASSED_LOGGED_MAX ? " (no more of these is told)" : "");
}

static void log_missing(struct vc_passed *passed, const struct vc_passed_target *target)
{
	char what[64] = "memory";

	if (target->peer)
		snprintf(what, sizeof what, "the registers of %s,", target->peer);
	log_failure(passed, target->peer ? VCORE_LOG_WARN : VCORE_LOG_INFO, what, target->gpa, target->length);
}

static int map_missing(struct vc_passed *passed, struct vc_passed_range *range)
{
	struct vc_passed_dma *dma = &passed->dma;

	for (uint32_t i = 0; i < dma->target_count; i++) {
		struct vc_passed_target *target = dma->targets[i];
		int r = map_target(passed, range, target);

		if (r < 0 && !may_miss(&range->range, target))
			return r;
		if (r < 0)
			log_missing(passed, target);
	}
	return 0;
}

static void remove_range(struct vc_passed *passed, struct vc_passed_range *range)
{
	for (uint32_t i = 0; i < range->count; i++)
		unmap(passed, &range->mappings[i]);
	tdelete(range, &passed->dma.tree, compare);
	*range->at = range->next;
	if (range->next)
		range->next->at = range->at;
	free(range->mappings);
	free(range);
}

static int add_range(struct vc_passed *passed, const struct vc_iommu_range *what)
{
	struct vc_passed_dma *dma = &passed->dma;
	struct vc_passed_range *range = calloc(1, sizeof *range);
	int r;

	if (range)
		range->range = *what;
	if (!range || !tsearch(range, &dma->tree, compare)) {
		free(range);
		return vc_fail(ENOMEM, "no memory for a DMA mapping");
	}
	range->next = dma->ranges;
	range->at = &dma->ranges;
	if (range->next)
		range->next->at = &range->next;
	dma->ranges = range;
	r = map_missing(passed, range);
	if (r < 0)
		remove_range(passed, range);
	return r;
}

static struct vc_passed_range *find_range(const struct vc_passed_dma *dma, const struct vc_iommu_range *what)
{
	const struct vc_passed_range key = {.range = *what};
	struct vc_passed_range *const *found = tfind(&key, &dma->tree, compare);

	return found ? *found : NULL;
}

/* ---- following the memory map; with the lock held ---- */

struct found {
	struct vc_passed_target **targets;
	uint32_t count;
	uint64_t version, peers;
};

static void free_target(struct vc_passed_target *target)
{
	if (target->slot)
		vc_mem_unpin(target->slot);
	free(target);
}

static void free_found(struct found *found)
{
	for (uint32_t i = 0; i < found->count; i++)
		free_target(found->targets[i]);
	free(found->targets);
}

static int add_target(struct found *found, const struct vc_passed_target *what)
{
	struct vc_passed_target **grown = realloc(found->targets, (found->count + 1u) * sizeof *grown);
	struct vc_passed_target *target = malloc(sizeof *target);

	found->targets = grown ? grown : found->targets;
	if (!grown || !target) {
		free(target);
		return vc_fail(ENOMEM, "no memory for the list of what a device reaches");
	}
	*target = *what;
	if (target->slot)
		atomic_fetch_add(&target->slot->pins, 1);
	found->targets[found->count++] = target;
	return 0;
}

static int add_slot(struct found *found, struct vc_slot *slot)
{
	return add_target(found, &(struct vc_passed_target){
	                             .gpa = slot->gpa,
	                             .length = slot->length,
	                             .hva = slot->hva,
	                             .flags = VC_PHYSICAL_READ |
	                                      (slot->flags & VCORE_MEM_W && !slot->host_readonly ? VC_PHYSICAL_WRITE : 0),
	                             .slot = slot});
}

static int add_registers(void *ctx, const char *name, const struct vc_peer_registers *registers)
{
	return add_target(ctx, &(struct vc_passed_target){.gpa = registers->gpa,
	                                                  .length = registers->length,
	                                                  .hva = registers->hva,
	                                                  .flags = registers->flags,
	                                                  .peer = name});
}

static uint64_t peers_version(const struct vc_passed *passed)
{
	return passed->physical->reaches_peers ? atomic_load(&passed->physical->peers->version) : 0;
}

static int collect(struct vc_passed *passed, struct found *found)
{
	struct vc_mem *mem = passed->env->mem;
	int r = 0;

	vc_mem_rdlock(mem);
	found->version = atomic_load(&mem->version);
	for (uint32_t i = 0; r >= 0 && i < mem->count; i++)
		r = add_slot(found, mem->slots[i]);
	vc_mem_unlock(mem);
	found->peers = peers_version(passed);
	if (r >= 0 && passed->physical->reaches_peers)
		r = vc_peers_each(passed->physical->peers, &passed->dma.peer, add_registers, found);
	return r;
}

/* The place of the same target in a list; NULL: it is not there. */
static struct vc_passed_target **find_same(struct vc_passed_target **targets, uint32_t count,
                                           const struct vc_passed_target *target)
{
	for (uint32_t i = 0; i < count; i++)
		if (targets[i]->slot == target->slot && targets[i]->peer == target->peer && targets[i]->gpa == target->gpa &&
		    targets[i]->hva == target->hva && targets[i]->length == target->length &&
		    targets[i]->flags == target->flags)
			return &targets[i];
	return NULL;
}

static void unmap_target(struct vc_passed *passed, const struct vc_passed_target *target)
{
	for (struct vc_passed_range *range = passed->dma.ranges; range && target->users; range = range->next)
		for (uint32_t i = 0; i < range->count; i++)
			if (range->mappings[i].target == target) {
				unmap(passed, &range->mappings[i]);
				range->mappings[i] = range->mappings[--range->count];
				break;
			}
}

/* Targets that are there still stay the same, with what is mapped of them. */
static void replace_targets(struct vc_passed *passed, const struct found *found)
{
	struct vc_passed_dma *dma = &passed->dma;

	for (uint32_t i = 0; i < dma->target_count; i++) {
		struct vc_passed_target *old = dma->targets[i], **same = find_same(found->targets, found->count, old);

		if (same) {
			free_target(*same);
			*same = old;
		} else {
			unmap_target(passed, old);
			free_target(old);
		}
	}
	free(dma->targets);
	dma->targets = found->targets;
	dma->target_count = found->count;
	dma->version = found->version;
	dma->peers = found->peers;
}

static int follow(struct vc_passed *passed)
{
	struct vc_passed_dma *dma = &passed->dma;
	struct found found = {0};
	int r, result = 0;

	if (dma->version == atomic_load(&passed->env->mem->version) && dma->peers == peers_version(passed))
		return 0;
	r = collect(passed, &found);
	if (r < 0) {
		free_found(&found);
		return r;
	}
	replace_targets(passed, &found);
	for (struct vc_passed_range *range = dma->ranges; range; range = range->next) {
		r = map_missing(passed, range);
		if (r < 0)
			result = r;
	}
	return result;
}

static void changed(void *ctx)
{
	struct vc_passed *passed = ctx;

	pthread_mutex_lock(&passed->dma.lock);
	if (follow(passed) < 0)
		vc_log(passed->env->log, VCORE_LOG_ERROR, "%s: it does not reach memory that has been added: %s",
		       passed->physical->name, vcore_error_message());
	pthread_mutex_unlock(&passed->dma.lock);
}

/* ---- what the guest's IOMMU says ---- */

static const struct vc_iommu_range everything = {.last = UINT64_MAX - 1, .flags = VC_IOMMU_READ | VC_IOMMU_WRITE};

static int add_locked(struct vc_passed *passed, const struct vc_iommu_range *range)
{
	int r;

	pthread_mutex_lock(&passed->dma.lock);
	r = add_range(passed, range);
	pthread_mutex_unlock(&passed->dma.lock);
	return r;
}

static void remove_locked(struct vc_passed *passed, const struct vc_iommu_range *what)
{
	struct vc_passed_range *range;

	pthread_mutex_lock(&passed->dma.lock);
	range = find_range(&passed->dma, what);
	if (range)
		remove_range(passed, range);
	pthread_mutex_unlock(&passed->dma.lock);
}

/* The guest hears of a lack of room; else, whatever the host says of its own IOMMU, it is the device that fails. */
static int on_map(void *ctx, const struct vc_iommu_range *range)
{
	struct vc_passed *passed = ctx;
	int r = add_locked(passed, range);

	if (r >= 0)
		return 0;
	log_failure(passed, VCORE_LOG_WARN, "IOVAs", range->first, range->last - range->first + 1);
	return r == -ENOMEM || r == -ENOSPC ? r : -EIO;
}

static void on_unmap(void *ctx, const struct vc_iommu_range *range)
{
	remove_locked(ctx, range);
}

static int on_bypass(void *ctx, bool on)
{
	struct vc_passed *passed = ctx;

	if (on) {
		atomic_store(&passed->dma.logged, 0);
		return add_locked(passed, &everything);
	}
	remove_locked(passed, &everything);
	return 0;
}

static const struct vc_iommu_listener listener = {.map = on_map, .unmap = on_unmap, .bypass = on_bypass};

static int listen_to(struct vc_passed *passed)
{
	struct vc_physical *p = passed->physical;
	struct vc_iommu_windows windows;
	int r = 0;

	if (p->ops->dma_windows) {
		r = p->ops->dma_windows(p, &windows);
		if (r >= 0)
			vc_iommu_set_windows(passed->dma.endpoint, &windows);
	}
	return r < 0 ? r : vc_iommu_listen(passed->dma.endpoint, &listener, passed);
}

/* ---- */

static void join_peers(struct vc_passed *passed)
{
	struct vc_physical *p = passed->physical;
	struct vc_peer *peer = &passed->dma.peer;

	if (!p->peers)
		return;
	peer->name = p->name;
	peer->ctx = passed;
	peer->list = vc_passed_registers_list;
	peer->changed = p->reaches_peers ? changed : NULL;
	vc_peers_join(p->peers, peer);
}

int vc_passed_dma_begin(struct vc_passed *passed, struct vc_iommu_endpoint *endpoint)
{
	struct vc_passed_dma *dma = &passed->dma;
	int r;

	dma->endpoint = endpoint;
	dma->version = UINT64_MAX;
	dma->watcher = (struct vc_mem_watcher){.changed = changed, .ctx = passed};
	vc_mem_watch(passed->env->mem, &dma->watcher);
	dma->watching = true;
	join_peers(passed);
	pthread_mutex_lock(&dma->lock);
	r = follow(passed);
	pthread_mutex_unlock(&dma->lock);
	if (r < 0)
		return r;
	return endpoint ? listen_to(passed) : add_locked(passed, &everything);
}

void vc_passed_dma_end(struct vc_passed *passed)
{
	struct vc_passed_dma *dma = &passed->dma;

	if (dma->endpoint)
		vc_iommu_unlisten(dma->endpoint);
	else
		remove_locked(passed, &everything);
	if (dma->watching)
		vc_mem_unwatch(passed->env->mem, &dma->watcher);
	if (passed->physical->peers)
		vc_peers_leave(passed->physical->peers, &dma->peer);
	for (uint32_t i = 0; i < dma->target_count; i++)
		free_target(dma->targets[i]);
	free(dma->targets);
}

void vc_passed_dma_wrote(struct vc_passed *passed)
{
	struct vc_passed_dma *dma = &passed->dma;

	if (!passed->env->mem->want_pages)
		return;
	pthread_mutex_lock(&dma->lock);
	for (const struct vc_passed_range *range = dma->ranges; range; range = range->next)
		for (uint32_t i = 0; i < range->count; i++)
			tell_written(passed, &range->mappings[i]);
	pthread_mutex_unlock(&dma->lock);
}
