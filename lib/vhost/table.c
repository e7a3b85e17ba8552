/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vhost/table.h"

#include <stdlib.h>

#include "core/error.h"

int vc_vhost_table_init(struct vc_vhost_table *t, const struct vc_vhost_region *rings)
{
	*t = (struct vc_vhost_table){.entries = calloc(1, sizeof t->entries[0]), .version = UINT64_MAX};
	if (!t->entries)
		return vc_fail(ENOMEM, "vhost-user: no memory for the memory table");
	t->entries[0].region = *rings;
	t->count = 1;
	return 0;
}

/* Entries from 1 on are slots. */
static void drop_slots(struct vc_vhost_entry *entries, unsigned count)
{
	for (unsigned i = 1; i < count; i++) {
		atomic_fetch_sub(&entries[i].slot->sharers, 1);
		vc_mem_unpin(entries[i].slot);
	}
}

void vc_vhost_table_fini(struct vc_vhost_table *t)
{
	drop_slots(t->entries, t->count);
	free(t->entries);
	*t = (struct vc_vhost_table){0};
}

void vc_vhost_table_forget(struct vc_vhost_table *t)
{
	for (unsigned i = 0; i < t->count; i++)
		t->entries[i].given = false;
}

/* ---- following the memory map ---- */

static struct vc_vhost_entry entry_of(struct vc_slot *slot)
{
	atomic_fetch_add(&slot->pins, 1);
	atomic_fetch_add(&slot->sharers, 1);
	return (struct vc_vhost_entry){
	    .slot = slot,
	    .region = {slot->gpa, slot->length, (uintptr_t)slot->hva, slot->offset, slot->fd},
	};
}

/* RAM that nobody else can map. ROM, files and the like the guest will not name as buffers, or has them refused. */
static int check_slot(const struct vc_slot *slot)
{
	bool file = slot->kind == VCORE_MEMORY_FILE || slot->kind == VCORE_MEMORY_PRIVATE_FILE;

	if (!(slot->flags & VCORE_MEM_W) || file || vc_slot_is_shareable(slot))
		return 0;
	return vc_fail(
	    EINVAL,
	    "vhost-user: the memory at %#llx is private (memory_kind %u, or from a snapshot), so that no other process can "
	    "map it: expected memory_kind %u (memfd)",
	    (unsigned long long)slot->gpa, slot->kind, VCORE_MEMORY_MEMFD);
}

/* Caller holds mem's lock for reading. */
static int collect(const struct vc_mem *mem, struct vc_vhost_entry *entries, unsigned *count)
{
	for (uint32_t i = 0; i < mem->count; i++) {
		int r = check_slot(mem->slots[i]);

		if (r < 0)
			return r;
		if (vc_slot_is_shareable(mem->slots[i]))
			entries[(*count)++] = entry_of(mem->slots[i]);
	}
	return 0;
}

static struct vc_vhost_entry *find_slot(const struct vc_vhost_table *t, const struct vc_slot *slot)
{
	for (unsigned i = 0; i < t->count; i++)
		if (t->entries[i].slot == slot)
			return &t->entries[i];
	return NULL;
}

static bool has_slots(const struct vc_vhost_user *u)
{
	return u->protocol & VC_VHOST_P_MEM_SLOTS;
}

/* Have the back-end forget what has gone. */
static int take_back(const struct vc_vhost_table *old, const struct vc_vhost_table *new, struct vc_vhost_user *u)
{
	int r = 0;

	for (unsigned i = 0; r >= 0 && has_slots(u) && i < old->count; i++)
		if (old->entries[i].given && !find_slot(new, old->entries[i].slot))
			r = vc_vhost_user_remove_region(u, &old->entries[i].region);
	return r;
}

static int replace(struct vc_vhost_table *t, struct vc_vhost_table *new, struct vc_vhost_user *u)
{
	int r = take_back(t, new, u);

	for (unsigned i = 0; i < new->count; i++) {
		const struct vc_vhost_entry *old = find_slot(t, new->entries[i].slot);

		new->entries[i].given = old && old->given;
	}
	drop_slots(t->entries, t->count);
	free(t->entries);
	*t = *new;
	return r;
}

int vc_vhost_table_refresh(struct vc_vhost_table *t, struct vc_mem *mem, struct vc_vhost_user *u)
{
	struct vc_vhost_table new = {.version = atomic_load(&mem->version)};
	int r;

	if (new.version == t->version)
		return 0;
	vc_mem_rdlock(mem);
	new.entries = calloc(mem->count + 1u, sizeof new.entries[0]);
	if (new.entries) {
		new.entries[new.count++] = t->entries[0];
		r = collect(mem, new.entries, &new.count);
	} else {
		r = vc_fail(ENOMEM, "vhost-user: no memory for the memory table");
	}
	vc_mem_unlock(mem);
	if (r >= 0)
		return replace(t, &new, u);
	if (new.entries)
		drop_slots(new.entries, new.count);
	free(new.entries);
	return r;
}

/* ---- telling the back-end ---- */

static int give_all(struct vc_vhost_table *t, struct vc_vhost_user *u)
{
	struct vc_vhost_region regions[VC_VHOST_REGIONS_MAX];
	int r;

	for (unsigned i = 0; i < t->count; i++)
		regions[i] = t->entries[i].region;
	r = vc_vhost_user_set_memory(u, regions, t->count);
	for (unsigned i = 0; r >= 0 && i < t->count; i++)
		t->entries[i].given = true;
	return r;
}

static int give_missing(struct vc_vhost_table *t, struct vc_vhost_user *u)
{
	int r = 0;

	for (unsigned i = 0; r >= 0 && i < t->count; i++) {
		if (t->entries[i].given)
			continue;
		r = vc_vhost_user_add_region(u, &t->entries[i].region);
		t->entries[i].given = r >= 0;
	}
	return r;
}

int vc_vhost_table_give(struct vc_vhost_table *t, struct vc_vhost_user *u)
{
	uint64_t most = has_slots(u) ? u->slots : VC_VHOST_REGIONS_MAX;

	if (t->count > most)
		return vc_fail(ENOSPC, "vhost-user %s: %u regions of memory: the back-end takes at most %llu", u->path,
		               t->count, (unsigned long long)most);
	return has_slots(u) ? give_missing(t, u) : give_all(t, u);
}

bool vc_vhost_table_gpa(const struct vc_vhost_table *t, const void *hva, uint64_t length, uint64_t *gpa)
{
	for (unsigned i = 1; i < t->count; i++) {
		const struct vc_vhost_region *r = &t->entries[i].region;
		uint64_t at = (uintptr_t)hva - r->address;

		if (at >= r->length || length > r->length - at)
			continue;
		*gpa = r->gpa + at;
		return t->entries[i].given;
	}
	return false;
}
