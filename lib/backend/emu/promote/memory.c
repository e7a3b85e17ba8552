/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The guest's pages in the process of a promoted address space. */
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "backend/emu/mmu/mmu.h"
#include "backend/emu/promote/promote.h"
#include "backend/emu/vcpu.h"

#define LARGE VC_MIB(2)

bool promoted_must_wait(const struct emu_vcpu *c)
{
	const struct vc_mem *mem = c->bvm->env.mem;

	for (uint32_t i = 0; i < mem->count; i++)
		if (atomic_load(&mem->slots[i]->presence) != VC_PRESENT)
			return true;
	return false;
}

int promoted_memory_new(struct emu_vcpu *c, struct promoted *p)
{
	const struct vc_mem *mem = c->bvm->env.mem;

	for (uint32_t i = 0; i < mem->count; i++) {
		struct vc_slot *s = mem->slots[i];

		if (s->fd < 0 || s->host_readonly || s->kind == VCORE_MEMORY_PRIVATE_FILE || p->slots == CHILD_SLOTS_MAX)
			continue;
		p->slot[p->slots++] = s;
	}
	if (!p->slots)
		return -ENOTSUP;
	p->page = calloc(PROMOTE_PAGES, sizeof *p->page);
	return p->page ? 0 : -ENOMEM;
}

/* ---- the table of what is mapped ---- */

static struct promoted_page *place(const struct promoted *p, uint64_t linear)
{
	unsigned i = (unsigned)((linear >> 12) * 0x9e3779b1u >> 7) & (PROMOTE_PAGES - 1);

	while (p->page[i].linear && p->page[i].linear != (linear | 1))
		i = (i + 1) & (PROMOTE_PAGES - 1);
	return &p->page[i];
}

static bool note(struct promoted *p, uint64_t linear, uint64_t gpa, unsigned slot, bool write)
{
	struct promoted_page *page = place(p, linear);

	if (!page->linear && p->pages >= PROMOTE_PAGES / 4 * 3)
		return false;
	p->pages += !page->linear;
	*page = (struct promoted_page){.linear = linear | 1,
	                               .info = (uint32_t)((gpa - p->slot[slot]->gpa) >> 12),
	                               .slot = (uint8_t)slot,
	                               .write = write};
	return true;
}

/* ---- orders ---- */

static void add(struct child_order *o, uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                uint64_t f)
{
	o->call[o->count++] = (struct child_call){number, {a, b, c, d, e, f}};
}

/* All that the guest can have mapped: around what stays. */
static bool unmap_all(struct promoted *p)
{
	uint64_t own_end = CHILD_OWN + CHILD_OWN_SIZE, code_end = p->child.code + CHILD_CODE_SIZE;
	struct child_order o = {0};

	add(&o, SYS_munmap, CHILD_GUEST_LOW, CHILD_OWN - CHILD_GUEST_LOW, 0, 0, 0, 0);
	add(&o, SYS_munmap, own_end, p->child.code - own_end, 0, 0, 0, 0);
	add(&o, SYS_munmap, code_end, CHILD_TASK_END - code_end, 0, 0, 0, 0);
	memset(p->page, 0, PROMOTE_PAGES * sizeof *p->page);
	p->pages = 0;
	p->kills = 0;
	p->kill_all = p->drop_writes = false;
	return child_order(&p->child, &o, false);
}

/* A page stays in the table: what is in the way of others is only looked at again. */
static bool unmap_some(struct promoted *p)
{
	struct child_order o = {0};

	for (unsigned i = 0; i < p->kills; i++)
		add(&o, SYS_munmap, p->kill[i], VC_PAGE_SIZE, 0, 0, 0, 0);
	p->kills = 0;
	return !o.count || child_order(&p->child, &o, false);
}

static bool must_be_seen(struct vc_slot *slot, uint32_t page)
{
	return atomic_load(&slot->pages[page].code_mask) || atomic_load(&slot->dirty);
}

/* Pages that hold code now, or are in a dirty log, must not be written to unseen. */
static bool protect(struct promoted *p)
{
	struct child_order o = {0};

	p->drop_writes = false;
	for (unsigned i = 0; i < PROMOTE_PAGES; i++) {
		struct promoted_page *page = &p->page[i];

		if (!page->linear || !page->write || !must_be_seen(p->slot[page->slot], page->info))
			continue;
		page->write = false;
		if (o.count == CHILD_CALLS_MAX) {
			if (!child_order(&p->child, &o, false))
				return false;
			o.count = 0;
		}
		add(&o, SYS_munmap, page->linear & VC_PAGE_MASK, VC_PAGE_SIZE, 0, 0, 0, 0);
	}
	return !o.count || child_order(&p->child, &o, false);
}

bool promoted_sync(struct emu_vcpu *c, struct promoted *p)
{
	const struct emu_mmu *m = c->mmu;

	if (p->context != m->context[0] || p->epoch != m->epoch) {
		p->kill_all = true;
		p->context = (uint16_t)m->context[0];
		p->epoch = m->epoch;
	}
	if (p->kill_all || p->kills)
		p->check_sources = true;
	if (p->kill_all)
		return unmap_all(p);
	if (p->kills && !unmap_some(p))
		return false;
	return !p->drop_writes || protect(p);
}

/* ---- mapping ---- */

/* May all pages be stored to without a look? The vcpu is their writer from now on. */
static bool freely(struct emu_vcpu *c, struct vc_slot *slot, uint64_t gpa, uint64_t size)
{
	bool free_to = true;

	for (uint64_t at = 0; at < size; at += VC_PAGE_SIZE)
		free_to &= emu_may_write_freely(c, emu_page_info(slot, gpa + at));
	return free_to;
}

enum promoted_map promoted_map(struct emu_vcpu *c, struct promoted *p, uint64_t linear, bool write)
{
	struct child_order o = {0};
	struct vc_slot *slot;
	struct vc_walk w;
	uint64_t start, gpa, size = VC_PAGE_SIZE;
	bool writable, logged;
	unsigned n = 0;

	if (linear >= CHILD_TASK_END || linear < CHILD_GUEST_LOW ||
	    !emu_walk(c, linear, VC_PF_U | (write ? VC_PF_W : 0), false, &w) || emu_is_lapic_page(c, w.gpa))
		return PROMOTED_NOT_MAPPED;
	slot = emu_find_slot(c, w.gpa);
	while (n < p->slots && p->slot[n] != slot)
		n++;
	if (n == p->slots)
		return PROMOTED_NOT_MAPPED;
	logged = atomic_load(&slot->dirty);
	start = linear & VC_PAGE_MASK;
	gpa = w.gpa & VC_PAGE_MASK;
	writable = w.rights & VC_PAGE_W && w.dirty && slot->flags & VCORE_MEM_W;
	/* a writable page hides later stores from the log: it is for writers only, and marked now */
	writable = writable && (write || !logged);
	if (w.shift == 21 && !logged) {
		uint64_t large = gpa & ~(LARGE - 1);

		if (large >= slot->gpa && large + LARGE <= slot->gpa + slot->length &&
		    (!writable || freely(c, slot, large, LARGE))) {
			start = linear & ~(LARGE - 1);
			gpa = large;
			size = LARGE;
		}
	}
	writable = writable && freely(c, slot, gpa, size);
	if (write && !writable)
		return PROMOTED_NOT_MAPPED;
	if (writable && logged)
		vc_mem_mark_dirty(slot, gpa, VC_PAGE_SIZE);
	for (uint64_t at = 0; at < size; at += VC_PAGE_SIZE)
		if (!note(p, start + at, gpa + at, n, writable)) {
			p->kill_all = true;
			return promoted_sync(c, p) ? promoted_map(c, p, linear, write) : PROMOTED_DIED;
		}
	add(&o, SYS_mmap, start, size, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED | MAP_FIXED, CHILD_FD_SLOT + n,
	    slot->offset + gpa - slot->gpa);
	if (child_order(&p->child, &o, true))
		return PROMOTED_MAPPED;
	return PROMOTED_DIED;
}

/* ---- addresses that the process needs itself ---- */

/* Whether the guest has a table or page at that level (4: 512 GiB ... 2: 2 MiB) for linear. */
static bool present(struct emu_vcpu *c, uint64_t linear, unsigned level)
{
	uint64_t table = c->s.cr3 & 0x000ffffffffff000ull, entry;

	for (unsigned l = 4; l >= level; l--) {
		const uint64_t *at = vc_mem_ptr(c->bvm->env.mem, table + ((linear >> (12 + 9 * (l - 1))) & 511) * 8, 8);

		if (!at)
			return true;
		entry = *(const volatile uint64_t *)at;
		if (!(entry & 1))
			return false;
		if (entry & 0x80)
			return true;
		table = entry & 0x000ffffffffff000ull;
	}
	return true;
}

bool promoted_fits(struct emu_vcpu *c, const struct promoted *p)
{
	return c->mmu->paging.mode == VC_PAGING_4 && !present(c, CHILD_OWN, 2) && !present(c, p->child.code, 3);
}
