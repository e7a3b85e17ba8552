/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Contexts and flushes of the software TLB. See mmu.h for how they hang together. */
#include <stdlib.h>

#include "backend/emu/hook.h"
#include "backend/emu/jit/jit.h"
#include "backend/emu/mmu/mmu_priv.h"
#include "backend/emu/promote/promote.h"
#include "backend/emu/vcpu.h"

#define HUGE_MASK    (~(VC_GIB(1) - 1))
#define FETCH_USER   (1ull << 62) /* canonical addresses have bit 62 = bit 63: free to mark user fetches */
#define CONTROL_CR0  (VC_CR0_PG | VC_CR0_WP)
#define CONTROL_CR4  (VC_CR4_PSE | VC_CR4_PAE | VC_CR4_PGE | VC_CR4_LA57 | VC_CR4_PCIDE | VC_CR4_SMEP | VC_CR4_SMAP)
#define CONTROL_EFER (VC_EFER_LMA | VC_EFER_NXE)

int emu_mmu_new(struct emu_vcpu *c)
{
	struct emu_mmu *m = vc_pages_new(sizeof *m);

	if (!m)
		return vc_fail(ENOMEM, "no memory for the MMU of vcpu %u", c->bvcpu->index);
	m->paging.missing = emu_awaits;
	m->paging.missing_ctx = c;
	m->next_context = 1;
	m->contexts_version = 1;
	m->key = ~0ull;
	m->current = &m->space[0];
	m->current->used = true;
	c->mmu = m;
	return 0;
}

void emu_mmu_free(struct emu_vcpu *c)
{
	vc_pages_free(c->mmu, sizeof *c->mmu);
	c->mmu = NULL;
}

/* ---- contexts ---- */

static void forget_space(struct emu_space *s)
{
	s->walk = s->user = s->super = s->smap = s->upper_user = s->upper_super = s->jit = 0;
}

static void forget_everything(struct emu_mmu *m)
{
	for (unsigned i = 0; i < EMU_SPACES; i++)
		forget_space(&m->space[i]);
	m->upper_user = m->upper_super = m->jit_upper = 0;
	m->local_count = 0;
	memset(m->fetch_filter, 0, sizeof m->fetch_filter);
	memset(m->large_filter, 0, sizeof m->large_filter);
	memset(m->huge_filter, 0, sizeof m->huge_filter);
}

/* The context numbers are used up: clear the tables for real and begin anew. */
static void renew_contexts(struct emu_vcpu *c)
{
	struct emu_mmu *m = c->mmu;

	forget_everything(m);
	memset(c->tlb, 0, sizeof c->tlb);
	memset(m->l2, 0, sizeof m->l2);
	memset(m->table, 0, sizeof m->table);
	memset(m->itlb, 0, sizeof m->itlb);
	if (c->jit)
		jit_forget_paths(c);
	m->first_super = m->lower_context = m->upper_context = 0;
	m->lower_count = 0;
	m->next_context = 1;
	m->contexts_version++;
	m->epoch++;
}

static uint16_t context(struct emu_vcpu *c, uint16_t *number)
{
	if (!*number) {
		if (c->mmu->next_context == EMU_CTX_LIMIT)
			renew_contexts(c);
		*number = c->mmu->next_context++;
	}
	return *number;
}

/* Lower half as the supervisor sees it; implicit accesses are under SMAP whatever AC says. */
static uint16_t lower_super(struct emu_vcpu *c, bool ac)
{
	struct emu_mmu *m = c->mmu;
	struct emu_space *s = m->current;

	if (m->paging.smap && !ac)
		return context(c, &s->smap);
	return context(c, m->user_shares && !s->split ? &s->user : &s->super);
}

/* Lower-half pages that the supervisor's first level has. */
void emu_tlb_kill_lower(struct emu_vcpu *c)
{
	struct emu_mmu *m = c->mmu;

	for (unsigned i = 0; i < m->lower_count; i++) {
		struct emu_tlb_entry *e = emu_tlb_at(c, m->lower[i]);

		e->read = e->write = EMU_NO_TAG;
	}
	m->lower_count = 0;
}

/* The supervisor's context of the first level; see struct emu_mmu. */
static void update_first_super(struct emu_vcpu *c, uint64_t lower, uint64_t upper)
{
	struct emu_mmu *m = c->mmu;

	if (upper != m->upper_context || !m->first_super) {
		uint16_t number = 0;

		m->first_super = context(c, &number);
		m->upper_context = upper;
		m->lower_count = 0;
	} else if (lower != m->lower_context) {
		emu_tlb_kill_lower(c);
	}
	m->lower_context = lower;
}

static struct emu_contexts *kept_for(struct emu_vcpu *c)
{
	return &c->mmu->kept[c->cpl == 3 ? 2 : c->s.rflags & VC_FLAG_AC ? 1 : 0];
}

/* What follows from the contexts in emu_mmu. */
static void set_contexts(struct emu_vcpu *c)
{
	struct emu_mmu *m = c->mmu;
	uint64_t upper_super = m->super_context[1];

	c->ctx_super[0] = EMU_CTX_NONE;
	c->ctx_super[1] = upper_super == m->upper_context && m->first_super ? m->first_super : EMU_CTX_NONE;
	m->slow_data = c->cpl == 3 && c->s.rflags & VC_FLAG_AC && c->s.cr0 & VC_CR0_AM;
	c->ctx = m->slow_data ? EMU_CTX_NONE : m->first;
}

/* Nothing but the privilege has changed, and it has been seen before. */
static bool use_kept(struct emu_vcpu *c)
{
	struct emu_mmu *m = c->mmu;
	const struct emu_contexts *k = kept_for(c);

	if (k->version != m->contexts_version)
		return false;
	/* the supervisor's first level is that of other contexts now */
	if (c->cpl != 3 &&
	    (k->context[0] != m->lower_context || k->context[1] != m->upper_context || k->first != m->first_super))
		return false;
	memcpy(m->context, k->context, sizeof m->context);
	memcpy(m->super_context, k->super_context, sizeof m->super_context);
	memcpy(m->fetch_context, k->fetch_context, sizeof m->fetch_context);
	memcpy(m->jit_number, k->jit_number, sizeof m->jit_number);
	m->first = k->first;
	set_contexts(c);
	return true;
}

static void keep(struct emu_vcpu *c)
{
	const struct emu_mmu *m = c->mmu;
	struct emu_contexts *k = kept_for(c);

	*k = (struct emu_contexts){.version = m->contexts_version, .first = m->first};
	memcpy(k->context, m->context, sizeof m->context);
	memcpy(k->super_context, m->super_context, sizeof m->super_context);
	memcpy(k->fetch_context, m->fetch_context, sizeof m->fetch_context);
	memcpy(k->jit_number, m->jit_number, sizeof m->jit_number);
}

static void find_contexts(struct emu_vcpu *c)
{
	struct emu_mmu *m = c->mmu;
	struct emu_space *s = m->current;
	bool user = c->cpl == 3;
	bool ac = c->s.rflags & VC_FLAG_AC;
	uint64_t upper_super, user_bit = user ? FETCH_USER : 0;
	uint32_t epoch;

	do {
		epoch = m->epoch;
		upper_super = context(c, m->upper_private ? &s->upper_super : &m->upper_super);
		m->super_context[0] = lower_super(c, false);
		m->super_context[1] = upper_super;
		if (user) {
			m->context[0] = context(c, &s->user);
			m->context[1] = context(c, m->upper_private ? &s->upper_user : &m->upper_user);
			m->first = m->context[0];
		} else {
			m->context[0] = lower_super(c, ac);
			m->context[1] = upper_super;
			update_first_super(c, m->context[0], upper_super);
			m->first = m->first_super;
		}
		m->fetch_context[0] = context(c, &s->walk) | user_bit;
		m->fetch_context[1] = upper_super | user_bit;
		if (c->jit) {
			m->jit_number[0] = context(c, &s->jit);
			m->jit_number[1] = context(c, &m->jit_upper);
		}
	} while (epoch != m->epoch);
	set_contexts(c);
	keep(c);
}

/* Spaces, contexts or what they stand for have changed. */
void emu_mmu_update_contexts(struct emu_vcpu *c)
{
	c->mmu->contexts_version++;
	find_contexts(c);
}

static struct emu_space *find_space(struct emu_mmu *m, uint16_t pcid)
{
	for (unsigned i = 0; i < EMU_SPACES; i++)
		if (m->space[i].used && m->space[i].pcid == pcid)
			return &m->space[i];
	return NULL;
}

static void select_space(struct emu_mmu *m, uint16_t pcid)
{
	struct emu_space *s = find_space(m, pcid);

	if (!s) {
		s = &m->space[m->next_space++ % EMU_SPACES];
		*s = (struct emu_space){.pcid = pcid, .used = true};
	}
	m->current = s;
}

static uint16_t current_pcid(const struct emu_vcpu *c)
{
	return c->s.cr4 & VC_CR4_PCIDE ? c->s.cr3 & 0xfff : 0;
}

static uint64_t control_key(const struct vc_cpu_state *s)
{
	return (s->cr0 & CONTROL_CR0) | (s->efer & CONTROL_EFER) | (s->cr4 & CONTROL_CR4) << 32;
}

/* A change of any bit that decides how entries are read or what they grant drops all translations. */
static void control_changed(struct emu_vcpu *c)
{
	struct emu_mmu *m = c->mmu;

	m->changes++;
	m->key = control_key(&c->s);
	vc_paging_init(&m->paging, c->bvm->env.mem, &c->s, c->bvcpu->cpuid.phys_bits, emu_has(c, VC_F_PDPE1GB));
	m->user_shares = m->paging.wp;
	m->pdptes_loaded = false;
	m->upper_private = false;
	forget_everything(m);
	select_space(m, current_pcid(c));
}

void emu_mmu_mode_changed(struct emu_vcpu *c)
{
	if (control_key(&c->s) != c->mmu->key) {
		control_changed(c);
		emu_mmu_update_contexts(c);
	} else if (!use_kept(c)) {
		find_contexts(c);
	}
}

void emu_mmu_state_changed(struct emu_vcpu *c)
{
	c->mmu->key = ~0ull;
}

/* ---- flushes ---- */

void emu_tlb_flush_all(struct emu_vcpu *c)
{
	c->mmu->last_slot = NULL;
	c->mmu->changes++;
	forget_everything(c->mmu);
	emu_mmu_update_contexts(c);
}

static bool filter_has(const uint64_t *filter, unsigned bit)
{
	return filter[bit / 64] >> (bit % 64) & 1;
}
static unsigned fetch_hash(uint64_t linear)
{
	return (unsigned)(linear >> 12 ^ linear >> 27) & (EMU_FETCH_FILTER - 1);
}

void emu_note_fetch(struct emu_vcpu *c, uint64_t linear)
{
	filter_set(c->mmu->fetch_filter, fetch_hash(linear));
}

/* No tag of translated code matches any more; emu_mmu_update_contexts() must follow. */
static void close_paths(struct emu_mmu *m)
{
	for (unsigned i = 0; i < EMU_SPACES; i++)
		m->space[i].jit = 0;
	m->jit_upper = 0;
	memset(m->fetch_filter, 0, sizeof m->fetch_filter);
}

/* Every translation of one page, whatever its context. */
static void kill_page(struct emu_vcpu *c, uint64_t linear)
{
	struct emu_mmu *m = c->mmu;
	struct emu_tlb_entry *e = emu_tlb_at(c, linear);
	struct emu_l2_entry *set = m->l2[(linear >> 12) & (EMU_L2_SETS - 1)];
	struct emu_itlb_entry *f = &m->itlb[(linear >> 12) & (EMU_ITLB_SIZE - 1)];

	e->read = e->write = EMU_NO_TAG;
	for (unsigned i = 0; i < EMU_L2_WAYS; i++)
		if (!((set[i].tag ^ linear) & VC_PAGE_MASK))
			set[i].tag = EMU_NO_TAG;
	f->tag = EMU_NO_TAG;
	if (c->jit && filter_has(m->fetch_filter, fetch_hash(linear)))
		close_paths(m);
	if (c->promote)
		promote_kill_page(c, linear);
}

/* Every translation in the aligned region that `mask` cuts out around start. */
static void kill_region(struct emu_vcpu *c, uint64_t start, uint64_t mask)
{
	struct emu_mmu *m = c->mmu;

	for (unsigned i = 0; i < EMU_TLB_SIZE; i++)
		if (!((c->tlb[i].read ^ start) & mask) || !((c->tlb[i].write ^ start) & mask))
			c->tlb[i].read = c->tlb[i].write = EMU_NO_TAG;
	for (unsigned i = 0; i < EMU_L2_SETS; i++)
		for (unsigned w = 0; w < EMU_L2_WAYS; w++)
			if (!((m->l2[i][w].tag ^ start) & mask))
				m->l2[i][w].tag = EMU_NO_TAG;
	for (unsigned i = 0; i < EMU_ITLB_SIZE; i++)
		if (!((m->itlb[i].tag ^ start) & mask & ~FETCH_USER))
			m->itlb[i].tag = EMU_NO_TAG;
	close_paths(m);
	if (c->promote)
		promote_kill_all(c);
}

/* INVLPG also drops all paging-structure caches of the PCID (SDM 4.10.4.1); and every piece of a large page that holds
 * the address. */
void emu_tlb_flush_page(struct emu_vcpu *c, uint64_t linear)
{
	struct emu_mmu *m = c->mmu;
	uint64_t region = linear & LARGE_MASK;

	m->changes++;
	memset(m->table, 0, sizeof m->table);
	kill_page(c, linear);
	if (filter_has(m->huge_filter, huge_hash(linear)))
		kill_region(c, linear, HUGE_MASK);
	if (filter_has(m->large_filter, large_hash(region)))
		kill_region(c, region, LARGE_MASK);
	if (m->paging.mode == VC_PAGING_32 && filter_has(m->large_filter, large_hash(region ^ LARGE_SIZE)))
		kill_region(c, region ^ LARGE_SIZE, LARGE_MASK);
	emu_mmu_update_contexts(c);
}

/* Upper-half translations that belong to the current space only. */
static void drop_local(struct emu_vcpu *c)
{
	struct emu_mmu *m = c->mmu;

	if (m->local_count > EMU_LOCAL_MAX) {
		m->upper_user = m->upper_super = 0;
		m->upper_private = m->key >> 32 & VC_CR4_PCIDE;
	} else {
		for (unsigned i = 0; i < m->local_count; i++)
			kill_page(c, m->local[i]);
	}
	m->local_count = 0;
}

void emu_mmu_cr3_written(struct emu_vcpu *c, uint64_t old, bool no_flush)
{
	struct emu_mmu *m = c->mmu;
	uint16_t pcid = current_pcid(c);

	if (m->paging.mode == VC_PAGING_PAE && !emu_mmu_load_pdptes(c, c->s.cr3)) {
		c->s.cr3 = old;
		emu_raise_error(c, VC_GP, 0);
	}
	m->changes++;
	m->paging.cr3 = c->s.cr3;
	if (!no_flush || pcid != m->current->pcid)
		drop_local(c);
	select_space(m, pcid);
	if (!no_flush)
		forget_space(m->current);
	emu_mmu_update_contexts(c);
}

/* INVPCID, SDM vol. 2: the caller has checked type, reserved bits and the address. */
void emu_mmu_invpcid(struct emu_vcpu *c, uint64_t type, uint64_t pcid, uint64_t linear)
{
	struct emu_mmu *m = c->mmu;
	struct emu_space *s;

	m->changes++;
	switch (type) {
	case 0: /* one address: to drop more than asked for is allowed */
		emu_tlb_flush_page(c, linear);
		return;
	case 1: /* one PCID without global translations */
		s = find_space(m, (uint16_t)pcid);
		if (s)
			forget_space(s);
		if (s == m->current)
			drop_local(c);
		break;
	case 2:
		forget_everything(m);
		break;
	default: /* 3: everything but global translations */
		for (unsigned i = 0; i < EMU_SPACES; i++)
			forget_space(&m->space[i]);
		drop_local(c);
	}
	emu_mmu_update_contexts(c);
}

bool emu_mmu_load_pdptes(struct emu_vcpu *c, uint64_t cr3)
{
	if (!vc_paging_load_pdptes(&c->mmu->paging, cr3))
		return false;
	c->mmu->pdptes_loaded = true;
	return true;
}

void emu_drop_writes(struct emu_vcpu *c)
{
	for (unsigned i = 0; i < EMU_TLB_SIZE; i++)
		c->tlb[i].write = EMU_NO_TAG;
	if (c->promote)
		promote_drop_writes(c);
}
