/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fills of the software TLB: from the second level, or by a walk. See mmu.h for how they hang together. */
#include "backend/emu/hook.h"
#include "backend/emu/mmu/mmu_priv.h"
#include "backend/emu/promote/promote.h"
#include "backend/emu/vcpu.h"
#include "memory/missing.h"

struct vc_slot *emu_find_slot(struct emu_vcpu *c, uint64_t gpa)
{
	struct vc_slot *s = c->mmu->last_slot;

	if (!s || gpa - s->gpa >= s->length) {
		s = vc_mem_find(c->bvm->env.mem, gpa);
		if (s)
			c->mmu->last_slot = s;
	}
	return s;
}

/* Where nobody could take up the instruction again it is waited for by touching it. */
bool emu_awaits(void *ctx, struct vc_slot *slot, uint64_t gpa)
{
	struct emu_vcpu *c = ctx;

	if (vc_likely(!slot || !atomic_load_explicit(&slot->presence, memory_order_relaxed)))
		return false;
	if (!c->unwind || c->sys->never_leave || c->sys->restarting || c->mmu->exclusive ||
	    !vc_missing_is_absent(slot, gpa))
		return false;
	c->sys->awaited = slot;
	c->sys->awaited_gpa = gpa;
	return true;
}

/* The PDPTEs are loaded with CR3; after a state came from outside, at the first walk. */
static void need_pdptes(struct emu_vcpu *c)
{
	struct emu_mmu *m = c->mmu;

	if (m->paging.mode != VC_PAGING_PAE || m->pdptes_loaded)
		return;
	/* Only a state from outside can have bad ones: they are as good as not present. */
	if (!emu_mmu_load_pdptes(c, c->s.cr3))
		memset(m->paging.pdpte, 0, sizeof m->paging.pdpte);
	m->pdptes_loaded = true;
}

/* Walk, by the cached page table or large page when there is one. */
bool emu_walk(struct emu_vcpu *c, uint64_t linear, uint32_t access, bool ac, struct vc_walk *w)
{
	struct emu_mmu *m = c->mmu;
	struct emu_table_entry *t = &m->table[(linear >> 21) & (EMU_TABLES - 1)];
	uint64_t tag = (linear & LARGE_MASK) | (m->fetch_context[0] & 0xfff);

	m->fills++;
	need_pdptes(c);
	if (m->paging.mode == VC_PAGING_NONE)
		return vc_page_walk(&m->paging, linear, access, ac, true, w);
	if (t->tag == tag && t->large) {
		if (vc_page_allows(&m->paging, t->rights, access, ac) && (t->dirty || !(access & VC_PF_W))) {
			*w = (struct vc_walk){.gpa = t->gpa | (linear & (LARGE_SIZE - 1)),
			                      .rights = t->rights,
			                      .shift = 21,
			                      .global = t->global,
			                      .dirty = t->dirty};
			return true;
		}
	} else if (t->tag == tag && vc_page_walk_from_table(&m->paging, t->gpa, t->rights, linear, access, ac, true, w)) {
		return true;
	}
	/* A fault is only raised by a walk from the root: what was cached may be out of date. */
	if (!vc_page_walk(&m->paging, linear, access, ac, true, w))
		return false;
	if (w->shift == 12) {
		*t = (struct emu_table_entry){.tag = tag, .gpa = w->table, .rights = w->table_rights};
	} else {
		*t = (struct emu_table_entry){.tag = tag,
		                              .gpa = w->gpa & LARGE_MASK,
		                              .rights = w->rights,
		                              .large = true,
		                              .global = w->global,
		                              .dirty = w->dirty};
		if (w->shift == 30)
			filter_set(m->huge_filter, huge_hash(linear));
		else
			filter_set(m->large_filter, large_hash(linear & LARGE_MASK));
	}
	return true;
}

static bool watched(const struct emu_mmu *m, uint64_t linear)
{
	for (unsigned i = 0; i < m->watch_count; i++)
		if (!((m->watch[i].address ^ linear) & VC_PAGE_MASK))
			return true;
	return false;
}

/*
 * Under which tag the first level may have the page; EMU_NO_TAG: not at all. Implicit accesses to the lower half have
 * no context there: RFLAGS.AC says nothing to them.
 */
static uint64_t first_tag(struct emu_vcpu *c, uint64_t linear, enum emu_privilege by)
{
	struct emu_mmu *m = c->mmu;

	if (by == EMU_SUPERVISOR && c->cpl == 3)
		return linear >> 63 && c->ctx_super[1] != EMU_CTX_NONE ? (linear & VC_PAGE_MASK) | c->ctx_super[1] : EMU_NO_TAG;
	if (c->cpl != 3 && !(linear >> 63)) {
		if (by == EMU_SUPERVISOR)
			return EMU_NO_TAG;
		if (m->lower_count == EMU_LOWER_MAX)
			emu_tlb_kill_lower(c);
		m->lower[m->lower_count++] = linear;
	}
	return (linear & VC_PAGE_MASK) | m->first;
}

static void fill_first_level(struct emu_vcpu *c, uint64_t linear, enum emu_privilege by, bool write, unsigned l2_flags,
                             const struct emu_page *page)
{
	uint64_t tag;
	struct emu_tlb_entry *e = emu_tlb_at(c, linear);
	struct vc_slot *slot = page->slot;
	bool logged;

	if (!slot || watched(c->mmu, linear) || emu_hooks_page(c, page->gpa))
		return;
	tag = first_tag(c, linear, by);
	if (tag == EMU_NO_TAG)
		return;
	e->read = tag;
	e->write = EMU_NO_TAG;
	e->addend = (uintptr_t)page->host - (uintptr_t)(linear & VC_PAGE_MASK);
	e->gpa = page->gpa;
	if (l2_flags != (EMU_L2_W | EMU_L2_D) || !(slot->flags & VCORE_MEM_W) || c->shadow)
		return;
	/* A write tag hides later stores from the dirty log: give it to writers only, and mark the page now. */
	logged = atomic_load_explicit(&slot->dirty, memory_order_acquire);
	if ((logged && !write) || !emu_may_write_freely(c, page->info))
		return;
	if (logged)
		vc_mem_mark_dirty(slot, page->gpa, VC_PAGE_SIZE);
	e->write = tag;
}

static void locate(struct emu_vcpu *c, uint64_t gpa, struct vc_slot *slot, struct emu_page *page)
{
	page->gpa = gpa;
	page->slot = slot;
	page->host = slot ? slot->hva + (gpa - slot->gpa) : NULL;
	page->info = slot ? emu_page_info(slot, gpa) : NULL;
}

/* The LAPIC's page lies over memory. */
static struct vc_slot *slot_for(struct emu_vcpu *c, uint64_t gpa)
{
	if (emu_is_lapic_page(c, gpa))
		return NULL;
	return emu_find_slot(c, gpa);
}

void emu_note_local(struct emu_vcpu *c, uint64_t linear)
{
	struct emu_mmu *m = c->mmu;

	if (m->upper_private || m->local_count > EMU_LOCAL_MAX)
		return;
	if (m->local_count == EMU_LOCAL_MAX) {
		m->local_count++;
		return;
	}
	m->local[m->local_count++] = linear & VC_PAGE_MASK;
}

static void insert(struct emu_mmu *m, uint64_t linear, const struct emu_l2_entry *entry)
{
	unsigned index = (linear >> 12) & (EMU_L2_SETS - 1);
	struct emu_l2_entry *set = m->l2[index];

	for (unsigned i = 0; i < EMU_L2_WAYS; i++)
		if (set[i].tag == entry->tag) {
			set[i] = *entry;
			return;
		}
	set[m->l2_next[index]++ % EMU_L2_WAYS] = *entry;
}

/* The context that a translation may be kept under, or 0. */
static uint64_t context_for(struct emu_vcpu *c, uint64_t linear, bool supervisor, enum emu_privilege by,
                            const struct vc_walk *w)
{
	struct emu_mmu *m = c->mmu;
	unsigned half = linear >> 63;

	if (supervisor && half && m->paging.smap && (w->rights & VC_PAGE_U))
		return 0; /* allowed by AC only, and upper contexts do not tell AC */
	if (supervisor && !half && !(w->rights & VC_PAGE_U) && !m->current->split && m->paging.mode != VC_PAGING_NONE) {
		m->current->split = true;
		emu_mmu_update_contexts(c);
	}
	if (half && !w->global)
		emu_note_local(c, linear);
	return by == EMU_SUPERVISOR ? m->super_context[half] : m->context[half];
}

static bool fill(struct emu_vcpu *c, uint64_t linear, bool write, enum emu_privilege by, struct emu_page *page,
                 uint32_t *error)
{
	struct emu_mmu *m = c->mmu;
	bool supervisor = by == EMU_SUPERVISOR || c->cpl != 3;
	bool ac = by == EMU_BY_CPL && (c->s.rflags & VC_FLAG_AC);
	uint32_t user = supervisor ? 0 : VC_PF_U;
	struct emu_l2_entry entry;
	struct vc_walk w;
	uint64_t number;
	unsigned flags;

	if (!emu_walk(c, linear, user | (write ? VC_PF_W : 0), ac, &w)) {
		*error = w.error;
		return false;
	}
	flags = (vc_page_allows(&m->paging, w.rights, user | VC_PF_W, ac) ? EMU_L2_W : 0) | (w.dirty ? EMU_L2_D : 0);
	locate(c, w.gpa & VC_PAGE_MASK, slot_for(c, w.gpa), page);
	if (emu_awaits(c, page->slot, page->gpa)) {
		*error = VC_PF_MISSING;
		return false;
	}
	number = context_for(c, linear, supervisor, by, &w);
	if (!number)
		return true;
	entry =
	    (struct emu_l2_entry){.tag = (linear & VC_PAGE_MASK) | number, .gpa = page->gpa | flags, .slot = page->slot};
	insert(m, linear, &entry);
	fill_first_level(c, linear, by, write, flags, page);
	return true;
}

bool emu_translate(struct emu_vcpu *c, uint64_t linear, bool write, enum emu_privilege by, struct emu_page *page,
                   uint32_t *error)
{
	struct emu_mmu *m = c->mmu;
	unsigned half = linear >> 63;
	uint64_t context = by == EMU_SUPERVISOR ? m->super_context[half] : m->context[half];
	const struct emu_l2_entry *l = emu_l2_find(m, linear, context, write ? EMU_L2_W | EMU_L2_D : 0);

	if (!l)
		return fill(c, linear, write, by, page, error);
	locate(c, l->gpa & VC_PAGE_MASK, l->slot, page);
	fill_first_level(c, linear, by, write, l->gpa & (EMU_L2_W | EMU_L2_D), page);
	return true;
}

/* ---- data breakpoints ---- */

void emu_mmu_watch(struct emu_vcpu *c)
{
	static const uint8_t lengths[4] = {1, 2, 8, 4}; /* SDM 17.2.4: LEN */
	const struct emu_sys *sys = c->sys;
	struct emu_mmu *m = c->mmu;
	unsigned kind;

	m->watch_count = 0;
	for (unsigned i = 0; i < 4; i++) {
		kind = sys->dr7 >> (16 + 4 * i) & 3;
		if (!(sys->dr7 >> (2 * i) & 3) || !(kind & 1))
			continue;
		m->watch[m->watch_count].length = lengths[sys->dr7 >> (18 + 4 * i) & 3];
		m->watch[m->watch_count].address = sys->dr[i] & ~(uint64_t)(m->watch[m->watch_count].length - 1);
		m->watch[m->watch_count].index = (uint8_t)i;
		m->watch[m->watch_count++].read = kind == 3;
	}
	emu_tlb_flush_all(c);
}
