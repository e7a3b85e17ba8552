/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "backend/paging.h"

#define PTE_P       0x1u
#define PTE_W       0x2u
#define PTE_U       0x4u
#define PTE_A       0x20u
#define PTE_D       0x40u
#define PTE_PS      0x80u
#define PTE_G       0x100u
#define PTE_XD      (1ull << 63)
#define PTE_ADDRESS 0x000ffffffffff000ull

#define MAX_LEVELS 5

/* An entry that the walk has used, to set A and D in at its end. */
struct used_entry {
	uint64_t gpa, value;
};

struct walker {
	const struct vc_paging *paging;
	uint64_t linear;
	unsigned level; /* 1: page table */
	uint64_t table;
	uint8_t rights;
	struct used_entry used[MAX_LEVELS];
	unsigned used_count;
	bool missing; /* the last entry is still to come */
};

void vc_paging_init(struct vc_paging *paging, struct vc_mem *mem, const struct vc_cpu_state *state, uint32_t phys_bits,
                    bool pages_1g)
{
	bool pae = state->cr4 & VC_CR4_PAE;

	paging->mem = mem;
	paging->cr3 = state->cr3;
	paging->reserved_high = phys_bits >= 52 ? 0 : PTE_ADDRESS & ~((1ull << phys_bits) - 1);
	if (!(state->cr0 & VC_CR0_PG))
		paging->mode = VC_PAGING_NONE;
	else if (!pae)
		paging->mode = VC_PAGING_32;
	else if (!(state->efer & VC_EFER_LMA))
		paging->mode = VC_PAGING_PAE;
	else
		paging->mode = state->cr4 & VC_CR4_LA57 ? VC_PAGING_5 : VC_PAGING_4;
	paging->pse = state->cr4 & VC_CR4_PSE;
	paging->pge = state->cr4 & VC_CR4_PGE;
	paging->nxe = pae && (state->efer & VC_EFER_NXE);
	paging->wp = state->cr0 & VC_CR0_WP;
	paging->smep = state->cr4 & VC_CR4_SMEP;
	paging->smap = state->cr4 & VC_CR4_SMAP;
	paging->pages_1g = pages_1g;
}

/* Host address of a paging-structure entry, or NULL where no memory answers. */
static void *entry_ptr(const struct vc_paging *p, uint64_t gpa, struct vc_slot **slot)
{
	*slot = vc_mem_find(p->mem, gpa);
	return *slot ? (*slot)->hva + (gpa - (*slot)->gpa) : NULL;
}

/* An entry where no memory is reads as all ones, as a bus that nobody drives does. */
static uint64_t load_entry(const void *ptr, unsigned size)
{
	if (!ptr)
		return size == 4 ? UINT32_MAX : UINT64_MAX;
	return size == 4 ? *(const volatile uint32_t *)ptr : *(const volatile uint64_t *)ptr;
}

static uint64_t read_entry(const struct vc_paging *p, uint64_t gpa, unsigned size)
{
	struct vc_slot *slot;

	return load_entry(entry_ptr(p, gpa, &slot), size);
}

bool vc_paging_load_pdptes(struct vc_paging *paging, uint64_t cr3)
{
	uint64_t base = cr3 & 0xffffffe0u;
	uint64_t reserved = 0x1e6u | paging->reserved_high | ~(PTE_ADDRESS | 0xfff);
	uint64_t value[4];

	for (unsigned i = 0; i < 4; i++) {
		value[i] = read_entry(paging, base + i * 8, 8);
		if ((value[i] & PTE_P) && (value[i] & reserved))
			return false;
	}
	memcpy(paging->pdpte, value, sizeof value);
	return true;
}

bool vc_paging_canonical(const struct vc_paging *paging, uint64_t linear)
{
	unsigned unused = paging->mode == VC_PAGING_5 ? 64 - 57 : 64 - 48;

	return (uint64_t)((int64_t)(linear << unused) >> unused) == linear;
}

bool vc_page_allows(const struct vc_paging *p, uint8_t rights, uint32_t access, bool ac)
{
	bool user_page = rights & VC_PAGE_U;

	if ((access & VC_PF_I) && !(rights & VC_PAGE_X))
		return false;
	if (access & VC_PF_U)
		return user_page && (!(access & VC_PF_W) || (rights & VC_PAGE_W));
	if (access & VC_PF_I)
		return !(user_page && p->smep);
	if (user_page && p->smap && !ac)
		return false;
	return !(access & VC_PF_W) || (rights & VC_PAGE_W) || !p->wp;
}

static uint32_t error_code(const struct vc_paging *p, uint32_t access, uint32_t bits)
{
	/* SDM 4.7: the I/D flag is there only where fetches are told apart. */
	if (!p->nxe && !p->smep)
		access &= ~VC_PF_I;
	return access | bits;
}

/* Reserved bits of a present entry at this level. */
static uint64_t reserved_bits(const struct vc_paging *p, unsigned level, uint64_t entry, bool *leaf)
{
	uint64_t reserved = p->reserved_high;

	if (!p->nxe)
		reserved |= PTE_XD;
	if (p->mode == VC_PAGING_PAE)
		reserved |= 0x7ff0000000000000ull;
	*leaf = level == 1;
	if (level == 1 || !(entry & PTE_PS))
		return reserved;
	if (level == 2) {
		*leaf = true;
		return reserved | 0x1fe000u;
	}
	if (level == 3 && p->pages_1g) {
		*leaf = true;
		return reserved | 0x3fffe000u;
	}
	return reserved | PTE_PS;
}

/* One used entry gets A (and D): false when it changed meanwhile, and the walk must begin again. */
static bool set_bits(const struct vc_paging *p, const struct used_entry *e, uint32_t bits)
{
	struct vc_slot *slot;
	void *ptr;
	bool done;

	if ((e->value & bits) == bits)
		return true;
	ptr = entry_ptr(p, e->gpa, &slot);
	if (!ptr || !(slot->flags & VCORE_MEM_W))
		return true;
	if (p->marking)
		p->marking(p->marking_ctx, e->gpa, ptr, p->mode == VC_PAGING_32 ? 4 : 8);
	if (p->mode == VC_PAGING_32) {
		uint32_t old = (uint32_t)e->value;

		done =
		    __atomic_compare_exchange_n((uint32_t *)ptr, &old, old | bits, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	} else {
		uint64_t old = e->value;

		done =
		    __atomic_compare_exchange_n((uint64_t *)ptr, &old, old | bits, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	}
	if (done) {
		vc_mem_mark_dirty(slot, e->gpa, 8);
		if (slot->pages && p->mem->listener && p->mem->listener->written)
			p->mem->listener->written(p->mem->listener_ctx, slot, e->gpa, 8);
	}
	return done;
}

static bool set_accessed_dirty(const struct walker *k, bool write)
{
	for (unsigned i = 0; i < k->used_count; i++)
		if (!set_bits(k->paging, &k->used[i], PTE_A | (write && i == k->used_count - 1 ? PTE_D : 0)))
			return false;
	return true;
}

enum step { STEP_DOWN, STEP_LEAF, STEP_FAULT };

/* One that is still to come is as one that is not present, but for the error. */
static uint64_t take_entry(struct walker *k, uint64_t gpa, unsigned size)
{
	const struct vc_paging *p = k->paging;
	struct vc_slot *slot;
	void *ptr = entry_ptr(p, gpa, &slot);

	k->missing = ptr && vc_unlikely(atomic_load_explicit(&slot->presence, memory_order_relaxed)) && p->missing &&
	             p->missing(p->missing_ctx, slot, gpa);
	return k->missing ? 0 : load_entry(ptr, size);
}

static uint32_t not_present(const struct walker *k, uint32_t access)
{
	return k->missing ? VC_PF_MISSING : error_code(k->paging, access, 0);
}

/* 32-bit paging: 4-byte entries, two levels, 4 MiB pages with PSE-36 (SDM 4.3). */
static enum step step_32(struct walker *k, struct vc_walk *w, uint32_t access)
{
	const struct vc_paging *p = k->paging;
	uint64_t gpa = k->table + ((k->linear >> (k->level == 2 ? 22 : 12) & 0x3ff) * 4);
	uint32_t e = (uint32_t)take_entry(k, gpa, 4);

	if (!(e & PTE_P)) {
		w->error = not_present(k, access);
		return STEP_FAULT;
	}
	k->used[k->used_count++] = (struct used_entry){gpa, e};
	k->rights &= (uint8_t)((e & PTE_W ? VC_PAGE_W : 0) | (e & PTE_U ? VC_PAGE_U : 0) | VC_PAGE_X);
	if (k->level == 2 && (e & PTE_PS) && p->pse) {
		uint64_t high = (uint64_t)(e >> 13 & 0xff) << 32;

		if ((e & 0x200000u) || (high & p->reserved_high)) {
			w->error = error_code(p, access, VC_PF_P | VC_PF_RSVD);
			return STEP_FAULT;
		}
		w->shift = 22;
		w->gpa = high | (e & 0xffc00000u) | (k->linear & 0x3fffff);
	} else if (k->level == 2) {
		k->table = e & 0xfffff000u;
		return STEP_DOWN;
	} else {
		w->shift = 12;
		w->gpa = (e & 0xfffff000u) | (k->linear & 0xfff);
	}
	w->global = (e & PTE_G) && p->pge;
	w->dirty = e & PTE_D;
	return STEP_LEAF;
}

/* PAE, 4-level and 5-level paging: 8-byte entries, 9 bits of address a level (SDM 4.4, 4.5). */
static enum step step_64(struct walker *k, struct vc_walk *w, uint32_t access)
{
	const struct vc_paging *p = k->paging;
	unsigned shift = 12 + 9 * (k->level - 1);
	uint64_t gpa = k->table + (k->linear >> shift & 0x1ff) * 8;
	uint64_t e = take_entry(k, gpa, 8);
	bool leaf;

	if (!(e & PTE_P)) {
		w->error = not_present(k, access);
		return STEP_FAULT;
	}
	if (e & reserved_bits(p, k->level, e, &leaf)) {
		w->error = error_code(p, access, VC_PF_P | VC_PF_RSVD);
		return STEP_FAULT;
	}
	k->used[k->used_count++] = (struct used_entry){gpa, e};
	k->rights &= (uint8_t)((e & PTE_W ? VC_PAGE_W : 0) | (e & PTE_U ? VC_PAGE_U : 0) | (e & PTE_XD ? 0 : VC_PAGE_X));
	if (!leaf) {
		k->table = e & PTE_ADDRESS;
		return STEP_DOWN;
	}
	w->shift = (uint8_t)shift;
	w->gpa = (e & PTE_ADDRESS & ~((1ull << shift) - 1)) | (k->linear & ((1ull << shift) - 1));
	w->global = (e & PTE_G) && p->pge;
	w->dirty = e & PTE_D;
	return STEP_LEAF;
}

/* Down from k->level to the leaf; permission check; A and D. again: an entry changed under the walk. */
static bool walk_down(struct walker *k, uint32_t access, bool ac, bool update, struct vc_walk *w, bool *again)
{
	const struct vc_paging *p = k->paging;
	enum step step;

	do {
		w->table = k->table;
		w->table_rights = k->rights;
		step = p->mode == VC_PAGING_32 ? step_32(k, w, access) : step_64(k, w, access);
		k->level--;
	} while (step == STEP_DOWN);
	if (step == STEP_FAULT)
		return false;
	w->rights = k->rights;
	if (!vc_page_allows(p, k->rights, access, ac)) {
		w->error = error_code(p, access, VC_PF_P);
		return false;
	}
	if (update) {
		*again = !set_accessed_dirty(k, access & VC_PF_W);
		w->dirty |= !!(access & VC_PF_W);
	}
	return true;
}

/* Where the walk begins. False: a PDPTE is not present. */
static bool begin(struct walker *k, const struct vc_paging *p, uint64_t linear)
{
	static const uint8_t levels[] = {[VC_PAGING_32] = 2, [VC_PAGING_PAE] = 2, [VC_PAGING_4] = 4, [VC_PAGING_5] = 5};
	uint64_t pdpte;

	k->paging = p;
	k->linear = linear;
	k->rights = VC_PAGE_W | VC_PAGE_U | VC_PAGE_X;
	k->used_count = 0;
	k->level = levels[p->mode];
	if (p->mode == VC_PAGING_32) {
		k->table = p->cr3 & 0xfffff000u;
	} else if (p->mode == VC_PAGING_PAE) {
		pdpte = p->pdpte[linear >> 30 & 3];
		k->table = pdpte & PTE_ADDRESS;
		return pdpte & PTE_P;
	} else {
		k->table = p->cr3 & PTE_ADDRESS;
	}
	return true;
}

static void unpaged(uint64_t linear, struct vc_walk *w)
{
	*w = (struct vc_walk){.gpa = linear & UINT32_MAX,
	                      .rights = VC_PAGE_W | VC_PAGE_U | VC_PAGE_X,
	                      .shift = 12,
	                      .global = true,
	                      .dirty = true};
}

bool vc_page_walk(const struct vc_paging *paging, uint64_t linear, uint32_t access, bool ac, bool update,
                  struct vc_walk *walk)
{
	struct walker k;
	bool again = false;

	if (paging->mode == VC_PAGING_NONE) {
		unpaged(linear, walk);
		return true;
	}
	do {
		if (!begin(&k, paging, linear)) {
			walk->error = error_code(paging, access, 0);
			return false;
		}
		again = false;
		if (!walk_down(&k, access, ac, update, walk, &again))
			return false;
	} while (again);
	return true;
}

bool vc_page_walk_from_table(const struct vc_paging *paging, uint64_t table, uint8_t table_rights, uint64_t linear,
                             uint32_t access, bool ac, bool update, struct vc_walk *walk)
{
	struct walker k = {.paging = paging, .linear = linear, .level = 1, .table = table, .rights = table_rights};
	bool again = false;

	if (!walk_down(&k, access, ac, update, walk, &again))
		return false;
	return !again || vc_page_walk(paging, linear, access, ac, update, walk);
}
