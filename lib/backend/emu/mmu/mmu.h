/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Inside mmu/: address spaces, contexts, and the tables behind the engine's TLB.
 *
 * A context is a number from 1 to EMU_CTX_LIMIT - 1 that stands in a tag for an address space seen with a privilege. To
 * flush is to forget the number and take a new one; when they run out, every table is cleared. 0 is never a context, so
 * a zeroed table is an empty one.
 *
 * Lower-half addresses have contexts of their space (a PCID). Upper-half ones are shared by all spaces, because kernels
 * map themselves there with global pages: the few translations that are not global are listed and killed when the space
 * changes. A guest that has too many of those is switched to upper contexts per space.
 */
#ifndef VC_EMU_MMU_H
#define VC_EMU_MMU_H

#include "backend/emu/emu.h"
#include "backend/emu/mmu/access.h"
#include "backend/paging.h"

#define EMU_CTX_LIMIT 0xffeu
#define EMU_CTX_NONE  0xffeu /* matches nothing */
#define EMU_NO_TAG    (~0ull)

/* IA32_APIC_BASE */
#define EMU_APIC_BSP    0x100u
#define EMU_APIC_X2     0x400u
#define EMU_APIC_ENABLE 0x800u

#define EMU_SPACES 16
struct emu_space {
	uint16_t pcid;
	bool used;
	bool split;     /* supervisor pages in the lower half: user and supervisor cannot share a context there */
	uint16_t walk;  /* context of page tables (struct emu_table_entry) and of lower-half fetches */
	uint16_t user;  /* lower half, CPL 3; also supervisor where rights to user pages are the same */
	uint16_t super; /* lower half, supervisor, user pages allowed */
	uint16_t smap;  /* lower half, supervisor, user pages forbidden */
	uint16_t upper_user, upper_super; /* while upper contexts are per space */
	uint16_t jit;                     /* tags of translated code in the lower half */
};

/* Second-level TLB: 4 ways a set, the set chosen by the page alone. */
#define EMU_L2_SETS 256u
#define EMU_L2_WAYS 4u
#define EMU_L2_W    1u /* in the low bits of gpa: this context may write */
#define EMU_L2_D    2u /* ... and the dirty bit is set */
struct emu_l2_entry {
	uint64_t tag;
	uint64_t gpa;         /* of the page | EMU_L2_* */
	struct vc_slot *slot; /* NULL: no memory there */
};

/* Page tables and large pages by 2 MiB of linear address: what makes a fill one memory access or none. */
#define EMU_TABLES 64u
struct emu_table_entry {
	uint64_t tag; /* linear & ~(2 MiB - 1) | space's walk context */
	uint64_t gpa; /* page table, or the 2 MiB piece of a large page */
	uint8_t rights;
	bool large, global, dirty;
};

#define EMU_ITLB_SIZE 1024u
struct emu_itlb_entry {
	uint64_t tag; /* emu_fetch_tag() */
	uint64_t gpa;
	const uint8_t *host;
	struct vc_page_info *page;
};

/* Both halves of CMPXCHG16B, or both pieces of an access across a page's end, read and written. */
#define EMU_HOOK_LATER 4u

#define EMU_LOCAL_MAX    16u
#define EMU_LARGE_FILTER 4096u
#define EMU_HUGE_FILTER  512u
#define EMU_FETCH_FILTER 32768u
#define EMU_LOWER_MAX    32u

/* What update_contexts() found for a privilege, for the next change to it; good while nothing else has changed. */
struct emu_contexts {
	uint64_t version; /* = emu_mmu.contexts_version */
	uint64_t context[2], super_context[2], first, fetch_context[2], jit_number[2];
};

struct emu_mmu {
	struct vc_paging paging;
	uint64_t contexts_version;
	struct emu_contexts kept[3]; /* supervisor, with AC, user */
	uint64_t key;                /* of the control bits that translations depend on; a change flushes */
	bool pdptes_loaded;
	bool user_shares; /* WP: a supervisor that may touch user pages has the user's rights to them */
	bool slow_data;   /* alignment checks: no tags, so that every access comes to the slow path */

	uint64_t context[2];       /* by bit 63 of the address: of the second-level TLB */
	uint64_t super_context[2]; /* ... of implicit supervisor accesses */
	/*
	 * First-level TLB: one context for both halves. At CPL 3 it is the space's; the supervisor's is the same for all
	 * spaces, as they share the upper half, and the few lower-half pages in it are listed and killed when the space, or
	 * the right to touch user pages (RFLAGS.AC), changes.
	 */
	uint64_t first; /* c->ctx, or what it would be but for slow_data */
	uint64_t first_super;
	uint64_t lower_context, upper_context; /* second-level contexts that first_super stands for */
	uint64_t lower[EMU_LOWER_MAX];
	unsigned lower_count;
	/* Translated code: contexts of its tags, and a Bloom filter of the pages that code was fetched from */
	uint16_t jit_upper;
	uint64_t jit_number[2];
	uint64_t fetch_filter[EMU_FETCH_FILTER / 64];
	uint16_t next_context;
	uint32_t epoch; /* grows when contexts ran out and began anew */
	struct emu_space space[EMU_SPACES], *current;
	unsigned next_space;
	uint16_t upper_user, upper_super;
	bool upper_private;            /* upper contexts are per space */
	uint64_t local[EMU_LOCAL_MAX]; /* upper-half pages that are not global */
	unsigned local_count;          /* EMU_LOCAL_MAX + 1: more than fit */

	uint64_t fetch_context[2]; /* by bit 63 of the address; see emu_fetch_tag() */
	/* Bloom filters of the 2 MiB and 1 GiB regions that were filled from large pages: what INVLPG must look for */
	uint64_t large_filter[EMU_LARGE_FILTER / 64];
	uint64_t huge_filter[EMU_HUGE_FILTER / 64];

	unsigned watch_count; /* data breakpoints: pages that get no tags */
	struct {
		uint64_t address;
		uint8_t length, index;
		bool read;
	} watch[4];

	bool exclusive;        /* emu_rmw_slow_begin holds the gate */
	unsigned untold_count; /* accesses that hooks hear of when it does no more */
	struct vcore_hook_event untold[EMU_HOOK_LATER];
	uint64_t fills;
	uint64_t changes; /* grows with every flush and switch of spaces: for who keeps translations of its own */
	struct vc_slot *last_slot;

	struct emu_l2_entry l2[EMU_L2_SETS][EMU_L2_WAYS];
	uint8_t l2_next[EMU_L2_SETS];
	struct emu_table_entry table[EMU_TABLES];
	struct emu_itlb_entry itlb[EMU_ITLB_SIZE];
	uint8_t fetch_bytes[16]; /* code that is not in memory */
};

/* The second-level entry of the page of linear in a context that has all bits of `need` (EMU_L2_*); NULL: there is
 * none. */
static inline const struct emu_l2_entry *emu_l2_find(const struct emu_mmu *m, uint64_t linear, uint64_t context,
                                                     uint64_t need)
{
	const struct emu_l2_entry *set = m->l2[(linear >> 12) & (EMU_L2_SETS - 1)];
	uint64_t tag = (linear & VC_PAGE_MASK) | context;

	for (unsigned i = 0; i < EMU_L2_WAYS; i++)
		if (set[i].tag == tag && (set[i].gpa & need) == need)
			return &set[i];
	return NULL;
}

/* One page, translated. */
struct emu_page {
	uint64_t gpa;         /* of the page */
	struct vc_slot *slot; /* NULL: device or nothing */
	uint8_t *host;        /* of the page; NULL without slot */
	struct vc_page_info *info;
};

enum emu_privilege { EMU_BY_CPL, EMU_SUPERVISOR /* implicit: descriptor tables, TSS */ };

/* Recompute c->ctx and the fetch contexts; flushes when paging's control bits changed. Part of emu_mode_changed(). */
void emu_mmu_mode_changed(struct emu_vcpu *c);
/*
 * Translate the page of a data access and fill the TLB with it. False: would fault; the error code of #PF is in *error.
 * The address must be canonical.
 */
bool emu_translate(struct emu_vcpu *c, uint64_t linear, bool write, enum emu_privilege by, struct emu_page *page,
                   uint32_t *error);
/* Read the PDPTEs at cr3 for PAE paging by `state`. False: #GP(0). */
bool emu_mmu_load_pdptes(struct emu_vcpu *c, uint64_t cr3);
/* The state was replaced from outside. */
void emu_mmu_state_changed(struct emu_vcpu *c);
/* Data breakpoints changed (sys->dr, dr7). */
void emu_mmu_watch(struct emu_vcpu *c);

/* Walk by the current tables, page tables of recent walks cached. access: VC_PF_*. A and D are set. */
bool emu_walk(struct emu_vcpu *c, uint64_t linear, uint32_t access, bool ac, struct vc_walk *walk);
/* An upper-half translation that is not global was cached. */
void emu_note_local(struct emu_vcpu *c, uint64_t linear);
struct vc_slot *emu_find_slot(struct emu_vcpu *c, uint64_t gpa);
/* Before memory of a slot, or NULL, is touched for the first time: whether it is still to come, and is waited for once
 * the instruction has left by emu_raise_pf() with VC_PF_MISSING. */
bool emu_awaits(void *ctx, struct vc_slot *slot, uint64_t gpa);
/* xAPIC registers lie at gpa. s.apic_base is what the LAPIC has. */
static inline bool emu_is_lapic_page(const struct emu_vcpu *c, uint64_t gpa)
{
	return c->bvcpu->lapic && (c->s.apic_base & (EMU_APIC_ENABLE | EMU_APIC_X2)) == EMU_APIC_ENABLE &&
	       !((gpa ^ c->s.apic_base) & VC_PAGE_MASK);
}

/* Code pages */
static inline struct vc_page_info *emu_page_info(const struct vc_slot *slot, uint64_t gpa)
{
	return slot->pages ? &slot->pages[(gpa - slot->gpa) >> 12] : NULL;
}
/* vc_page_info.flags: the vcpus that may hold a write tag; a vcpu's bit. Vcpus beyond 32 share bits. */
static inline uint32_t emu_writer_bit(const struct vc_bvcpu *v)
{
	return 1u << (v->index & 31);
}
/*
 * Whether stores may go to the page without being looked at. The vcpu's bit in the flags is set before the mask is
 * read, and a marker of code does it the other way round: one of them sees the other (see emu_code_mark).
 */
static inline bool emu_may_write_freely(const struct emu_vcpu *c, struct vc_page_info *info)
{
	if (!info)
		return true;
	if (!(atomic_load(&info->flags) & emu_writer_bit(c->bvcpu)))
		atomic_fetch_or(&info->flags, emu_writer_bit(c->bvcpu));
	return atomic_load(&info->code_mask) == 0;
}
/* Bits of the 64-byte chunks that [gpa, gpa+len) touches; it lies in one page. */
uint64_t emu_chunks(uint64_t gpa, unsigned len);
/* [gpa, gpa+len) of the page was stored to: blocks decoded from there become stale. Any thread. */
void emu_code_stored(struct vc_bvm *vm, struct vc_page_info *page, uint64_t gpa, unsigned len);
/* Code was fetched from the page: INVLPG of it must close the ways to translated code there. */
void emu_note_fetch(struct emu_vcpu *c, uint64_t linear);
/* Drop all write tags of this vcpu. */
void emu_drop_writes(struct emu_vcpu *c);

/* MMIO, the LAPIC's page included. width 1-8. */
uint64_t emu_mmio_read(struct emu_vcpu *c, uint64_t gpa, unsigned size);
void emu_mmio_write(struct emu_vcpu *c, uint64_t gpa, unsigned size, uint64_t value);

#endif
