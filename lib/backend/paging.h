/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The page-table walk of the architecture (SDM vol. 3, chapter 4), for backend emu's TLB fills and for vc_translate()
 * on every backend.
 */
#ifndef VC_BACKEND_PAGING_H
#define VC_BACKEND_PAGING_H

#include <stdbool.h>
#include <stdint.h>

#include "core/util.h"
#include "cpu/state.h"
#include "memory/memory.h"

/* Error code of #PF; VC_PF_W, VC_PF_U, VC_PF_I also say what an access is. */
#define VC_PF_P    0x1u
#define VC_PF_W    0x2u
#define VC_PF_U    0x4u
#define VC_PF_RSVD 0x8u
#define VC_PF_I    0x10u
/* In place of an error code: none, but the page that is needed is still to come; see struct vc_paging. */
#define VC_PF_MISSING 0x80000000u

enum vc_paging_mode { VC_PAGING_NONE, VC_PAGING_32, VC_PAGING_PAE, VC_PAGING_4, VC_PAGING_5 };

/* Everything of the state that a walk depends on. */
struct vc_paging {
	struct vc_mem *mem;
	uint64_t cr3;
	uint64_t pdpte[4];      /* PAE: loaded with CR3 */
	uint64_t reserved_high; /* bits MAXPHYADDR to 51 */
	uint8_t mode;           /* enum vc_paging_mode */
	bool pse, pge, nxe, wp, smep, smap, pages_1g;
	/* Called before A or D is set in an entry, by who must know; NULL: nobody. Kept by vc_paging_init(). */
	void (*marking)(void *ctx, uint64_t gpa, void *entry, unsigned size);
	void *marking_ctx;
	/* Called before an entry is read whose page may be still to come (memory/missing.h). True: the walk ends with
	 * VC_PF_MISSING. NULL: it waits for it. Likewise */
	bool (*missing)(void *ctx, struct vc_slot *slot, uint64_t gpa);
	void *missing_ctx;
};

/* Rights of a page: what every level grants. */
#define VC_PAGE_W 0x1u
#define VC_PAGE_U 0x2u
#define VC_PAGE_X 0x4u

struct vc_walk {
	uint64_t gpa;   /* of the byte */
	uint8_t rights; /* VC_PAGE_* */
	uint8_t shift;  /* size of the page: 12, 21, 22, 30 */
	bool global;    /* and CR4.PGE */
	bool dirty;     /* D is set (no paging: true) */
	uint64_t table; /* shift 12: the page table's GPA; a walk may start here again */
	uint8_t table_rights;
	uint32_t error; /* of the #PF, when it failed */
};

/*
 * mem, paging mode and flags from a state; the PDPTEs are left alone. phys_bits: MAXPHYADDR. pages_1g: the CPU has 1
 * GiB pages.
 */
void vc_paging_init(struct vc_paging *paging, struct vc_mem *mem, const struct vc_cpu_state *state, uint32_t phys_bits,
                    bool pages_1g);
/* Read the four PDPTEs at cr3. False: a present one has reserved bits set, which is #GP(0) when CR3 is loaded. */
bool vc_paging_load_pdptes(struct vc_paging *paging, uint64_t cr3);
bool vc_paging_canonical(const struct vc_paging *paging, uint64_t linear);

/*
 * Walk. access: VC_PF_W, VC_PF_U (user privilege), VC_PF_I. ac: supervisor data accesses to user pages are allowed
 * although SMAP is on. update: set accessed and dirty bits. True, or false with walk->error. Caller is inside the gate
 * or holds the memory's read lock.
 */
bool vc_page_walk(const struct vc_paging *paging, uint64_t linear, uint32_t access, bool ac, bool update,
                  struct vc_walk *walk);
/* The same from a page table known by an earlier walk's `table` and `table_rights`. */
bool vc_page_walk_from_table(const struct vc_paging *paging, uint64_t table, uint8_t table_rights, uint64_t linear,
                             uint32_t access, bool ac, bool update, struct vc_walk *walk);
/* Whether a page with these rights allows the access (SDM 4.6.1). */
bool vc_page_allows(const struct vc_paging *paging, uint8_t rights, uint32_t access, bool ac);

#endif
