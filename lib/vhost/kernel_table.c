/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <linux/vhost.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/error.h"
#include "core/util.h"
#include "vhost/kernel.h"

enum { PAGES_A_WORD = 64 };

/* ROM and files that cannot be written are no place for what the kernel receives; nothing else ever lies there. */
static bool is_given(const struct vc_slot *slot)
{
	return slot->flags & VCORE_MEM_W && !slot->host_readonly;
}

/* Caller holds mem's lock for reading. */
static int collect(struct vc_kernel_table *t, const struct vc_mem *mem)
{
	t->slots = calloc(mem->count + 1u, sizeof t->slots[0]);
	t->memory = calloc(1, sizeof *t->memory + mem->count * sizeof t->memory->regions[0]);
	if (!t->slots || !t->memory)
		return vc_fail(ENOMEM, "vhost: no memory for the memory table");
	for (uint32_t i = 0; i < mem->count; i++) {
		struct vc_slot *slot = mem->slots[i];

		if (!is_given(slot))
			continue;
		atomic_fetch_add(&slot->pins, 1);
		t->slots[t->count] = slot;
		t->memory->regions[t->count++] = (struct vhost_memory_region){
		    .guest_phys_addr = slot->gpa, .memory_size = slot->length, .userspace_addr = (uintptr_t)slot->hva};
	}
	t->memory->nregions = t->count;
	return t->count <= VC_KERNEL_REGIONS_MAX
	           ? 0
	           : vc_fail(ENOSPC, "vhost: %u regions of memory: the kernel takes at most %d", t->count,
	                     VC_KERNEL_REGIONS_MAX);
}

int vc_kernel_table_make(struct vc_kernel_table *t, struct vc_mem *mem)
{
	int r;

	vc_kernel_table_drop(t);
	t->version = atomic_load(&mem->version);
	vc_mem_rdlock(mem);
	r = collect(t, mem);
	vc_mem_unlock(mem);
	if (r < 0)
		vc_kernel_table_drop(t);
	return r;
}

int vc_kernel_table_make_log(struct vc_kernel_table *t)
{
	const struct vc_slot *last = t->count ? t->slots[t->count - 1] : NULL;
	uint64_t pages = last ? (last->gpa + last->length) / VC_PAGE_SIZE : 0;
	void *log;

	if (t->log)
		return 0;
	t->log_bytes = VC_ALIGN_UP(pages / 8 + 8, (uint64_t)VC_PAGE_SIZE);
	/* of its pages only those are ever touched that stand for memory */
	log = mmap(NULL, t->log_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (log == MAP_FAILED)
		return vc_fail_errno(errno, "vhost: memory for a dirty log of %llu bytes", (unsigned long long)t->log_bytes);
	t->log = log;
	return 0;
}

void vc_kernel_table_drop(struct vc_kernel_table *t)
{
	for (unsigned i = 0; i < t->count; i++)
		vc_mem_unpin(t->slots[i]);
	if (t->log)
		munmap((void *)t->log, t->log_bytes);
	free(t->slots);
	free(t->memory);
	*t = (struct vc_kernel_table){0};
}

bool vc_kernel_table_is_logged(const struct vc_kernel_table *t)
{
	for (unsigned i = 0; i < t->count; i++)
		if (atomic_load(&t->slots[i]->dirty))
			return true;
	return false;
}

static struct vc_slot *find_slot(const struct vc_kernel_table *t, uint64_t gpa, uint64_t length)
{
	for (unsigned i = 0; i < t->count; i++) {
		uint64_t at = gpa - t->slots[i]->gpa;

		if (at < t->slots[i]->length && length <= t->slots[i]->length - at)
			return t->slots[i];
	}
	return NULL;
}

void *vc_kernel_table_find(const struct vc_kernel_table *t, uint64_t gpa, uint64_t length)
{
	const struct vc_slot *slot = find_slot(t, gpa, length);

	return slot ? slot->hva + (gpa - slot->gpa) : NULL;
}

void vc_kernel_table_tell(const struct vc_kernel_table *t, const struct vc_slot *slot, uint64_t gpa, uint64_t length,
                          void (*wrote)(struct vc_slot *slot, uint64_t gpa, uint64_t length))
{
	struct vc_slot *found = find_slot(t, gpa, length);

	if (found && (!slot || slot == found))
		wrote(found, gpa, length);
}

static void fetch_word(struct vc_kernel_table *t, struct vc_slot *slot, uint64_t word,
                       void (*wrote)(struct vc_slot *slot, uint64_t gpa, uint64_t length))
{
	uint64_t bits = atomic_load_explicit(&t->log[word], memory_order_relaxed) ? atomic_exchange(&t->log[word], 0) : 0;

	for (; bits; bits &= bits - 1) {
		uint64_t gpa = (word * PAGES_A_WORD + (uint64_t)__builtin_ctzll(bits)) * VC_PAGE_SIZE;

		/* the first and the last word may be another slot's as well */
		if (gpa - slot->gpa < slot->length)
			wrote(slot, gpa, VC_PAGE_SIZE);
		else
			atomic_fetch_or(&t->log[word], bits & -bits);
	}
}

void vc_kernel_table_fetch(struct vc_kernel_table *t, const struct vc_slot *slot,
                           void (*wrote)(struct vc_slot *slot, uint64_t gpa, uint64_t length))
{
	for (unsigned i = 0; t->log && i < t->count; i++) {
		uint64_t first = t->slots[i]->gpa / VC_PAGE_SIZE, last = first + t->slots[i]->length / VC_PAGE_SIZE - 1;

		if (slot && slot != t->slots[i])
			continue;
		for (uint64_t word = first / PAGES_A_WORD; word <= last / PAGES_A_WORD; word++)
			fetch_word(t, t->slots[i], word, wrote);
	}
}
