/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guest's memory as the device reaches it: every slot where the guest has it. Slots that come are mapped before
 * whoever adds them goes on, and so before the guest is told of them. Memory that is mapped stays what it is: pages
 * that a balloon or virtio-mem gives back remain (vc_slot_fix()).
 */
#include <stdlib.h>

#include <virtcore/error.h>

#include "core/error.h"
#include "core/util.h"

#include "passthrough/passed.h"

/* Whether failing to map it leaves the device fit for use: files need not lend themselves to DMA. */
static bool may_miss(const struct vc_slot *slot)
{
	return !(slot->flags & VCORE_MEM_W) || slot->kind == VCORE_MEMORY_FILE || slot->kind == VCORE_MEMORY_PRIVATE_FILE;
}

static int map(struct vc_passed *passed, struct vc_slot *slot)
{
	struct vc_physical *p = passed->physical;
	const struct vc_physical_dma dma = {
	    .iova = slot->gpa,
	    .length = slot->length,
	    .hva = slot->hva,
	    .fd = vc_slot_is_shareable(slot) ? slot->fd : -1,
	    .offset = slot->offset,
	    .slot = slot,
	    .gpa = slot->gpa,
	    .flags = VC_PHYSICAL_READ | (slot->flags & VCORE_MEM_W && !slot->host_readonly ? VC_PHYSICAL_WRITE : 0),
	};
	int r;

	vc_slot_fix(slot, true);
	r = p->ops->dma_map(p, &dma);
	if (r >= 0)
		atomic_fetch_add(&passed->dma.bytes, slot->length);
	else
		vc_slot_fix(slot, false);
	return r;
}

static void unmap(struct vc_passed *passed, struct vc_slot *slot)
{
	struct vc_physical *p = passed->physical;

	if (p->ops->dma_unmap(p, slot->gpa, slot->length) < 0 && !atomic_load(&passed->gone))
		vc_log(passed->env->log, VCORE_LOG_WARN, "%s", vcore_error_message());
	atomic_fetch_sub(&passed->dma.bytes, slot->length);
	vc_slot_fix(slot, false);
	vc_mem_unpin(slot);
}

/* ---- following the memory map, with the lock held ---- */

struct found {
	struct vc_slot **slots; /* pinned */
	uint32_t count;
	uint64_t version;
};

static int collect(struct vc_mem *mem, struct found *found)
{
	int r = 0;

	vc_mem_rdlock(mem);
	found->version = atomic_load(&mem->version);
	found->slots = calloc(mem->count + 1u, sizeof found->slots[0]);
	if (!found->slots)
		r = vc_fail(ENOMEM, "no memory for the list of %u slots", mem->count);
	for (uint32_t i = 0; r >= 0 && i < mem->count; i++) {
		atomic_fetch_add(&mem->slots[i]->pins, 1);
		found->slots[found->count++] = mem->slots[i];
	}
	vc_mem_unlock(mem);
	return r;
}

static bool has(const struct found *found, const struct vc_slot *slot)
{
	for (uint32_t i = 0; i < found->count; i++)
		if (found->slots[i] == slot)
			return true;
	return false;
}

static bool is_mapped(const struct vc_passed_dma *dma, const struct vc_slot *slot)
{
	for (uint32_t i = 0; i < dma->count; i++)
		if (dma->mappings[i].slot == slot)
			return true;
	return false;
}

static void drop_gone(struct vc_passed *passed, const struct found *found)
{
	struct vc_passed_dma *dma = &passed->dma;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < dma->count; i++) {
		if (has(found, dma->mappings[i].slot))
			dma->mappings[kept++] = dma->mappings[i];
		else
			unmap(passed, dma->mappings[i].slot);
	}
	dma->count = kept;
}

/* Takes the pins of what it maps over. The first failure is told of, once all has been tried. */
static int map_new(struct vc_passed *passed, struct found *found)
{
	struct vc_passed_dma *dma = &passed->dma;
	int result = 0;

	for (uint32_t i = 0; i < found->count && result >= 0; i++) {
		struct vc_slot *slot = found->slots[i];
		int r;

		if (is_mapped(dma, slot))
			continue;
		r = map(passed, slot);
		if (r >= 0) {
			dma->mappings[dma->count++].slot = slot;
			atomic_fetch_add(&slot->pins, 1);
		} else if (may_miss(slot)) {
			vc_log(passed->env->log, VCORE_LOG_INFO, "%s: no DMA to [%#llx, +%#llx): %s", passed->physical->name,
			       (unsigned long long)slot->gpa, (unsigned long long)slot->length, vcore_error_message());
		} else {
			result = r;
		}
	}
	return result;
}

static int follow(struct vc_passed *passed)
{
	struct vc_passed_dma *dma = &passed->dma;
	struct found found = {0};
	struct vc_passed_mapping *grown;
	int r;

	if (dma->version == atomic_load(&passed->env->mem->version))
		return 0;
	r = collect(passed->env->mem, &found);
	if (r >= 0) {
		drop_gone(passed, &found);
		grown = realloc(dma->mappings, (found.count + 1u) * sizeof *grown);
		dma->mappings = grown ? grown : dma->mappings;
		r = grown ? map_new(passed, &found) : vc_fail(ENOMEM, "no memory for the list of %u slots", found.count);
		dma->version = found.version;
	}
	for (uint32_t i = 0; i < found.count; i++)
		vc_mem_unpin(found.slots[i]);
	free(found.slots);
	return r;
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

/* ---- */

int vc_passed_dma_begin(struct vc_passed *passed)
{
	struct vc_passed_dma *dma = &passed->dma;
	int r;

	dma->version = UINT64_MAX;
	pthread_mutex_lock(&dma->lock);
	r = follow(passed);
	pthread_mutex_unlock(&dma->lock);
	if (r < 0)
		return r;
	dma->watcher = (struct vc_mem_watcher){.changed = changed, .ctx = passed};
	vc_mem_watch(passed->env->mem, &dma->watcher);
	dma->watching = true;
	/* what was added in between */
	pthread_mutex_lock(&dma->lock);
	r = follow(passed);
	pthread_mutex_unlock(&dma->lock);
	return r;
}

void vc_passed_dma_end(struct vc_passed *passed)
{
	struct vc_passed_dma *dma = &passed->dma;

	if (dma->watching)
		vc_mem_unwatch(passed->env->mem, &dma->watcher);
	for (uint32_t i = 0; i < dma->count; i++)
		unmap(passed, dma->mappings[i].slot);
	free(dma->mappings);
	dma->mappings = NULL;
	dma->count = 0;
}

void vc_passed_dma_wrote(struct vc_passed *passed)
{
	struct vc_passed_dma *dma = &passed->dma;

	if (!passed->env->mem->want_pages)
		return;
	pthread_mutex_lock(&dma->lock);
	for (uint32_t i = 0; i < dma->count; i++)
		if (dma->mappings[i].slot->flags & VCORE_MEM_W)
			vc_mem_wrote(dma->mappings[i].slot, dma->mappings[i].slot->gpa, dma->mappings[i].slot->length);
	pthread_mutex_unlock(&dma->lock);
}
