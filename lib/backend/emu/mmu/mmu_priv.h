/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the MMU share. */
#ifndef VC_EMU_MMU_PRIV_H
#define VC_EMU_MMU_PRIV_H

#include "backend/emu/mmu/mmu.h"

#define LARGE_SIZE VC_MIB(2)
#define LARGE_MASK (~(LARGE_SIZE - 1))

/* Filters: a bit is set when something was filled from a large page in a region with that hash. */
static inline unsigned large_hash(uint64_t linear)
{
	return (unsigned)(linear >> 21 ^ linear >> 33) & (EMU_LARGE_FILTER - 1);
}
static inline unsigned huge_hash(uint64_t linear)
{
	return (unsigned)(linear >> 30 ^ linear >> 39) & (EMU_HUGE_FILTER - 1);
}
static inline void filter_set(uint64_t *filter, unsigned bit)
{
	filter[bit / 64] |= 1ull << (bit % 64);
}

/* Lower-half pages that the supervisor's first level has go. */
void emu_tlb_kill_lower(struct emu_vcpu *c);
/* Privilege, address space or what contexts stand for has changed. */
void emu_mmu_update_contexts(struct emu_vcpu *c);

#endif
