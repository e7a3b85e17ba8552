/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * C that translated code calls with the guest's vector registers in the host's: compiled for general registers only,
 * and calling nothing that is not.
 */
#include "backend/emu/hook.h"
#include "backend/emu/jit/jit.h"
#include "backend/emu/mmu/mmu.h"

/* The first level's entry for linear, from that of the second level; see fill_first_level() in mmu/tlb.c. */
static bool quick_fill(struct emu_vcpu *c, const struct emu_l2_entry *l, uint64_t linear, bool write)
{
	struct emu_mmu *m = c->mmu;
	struct emu_tlb_entry *e = emu_tlb_at(c, linear);
	bool writable = (l->gpa & (EMU_L2_W | EMU_L2_D)) == (EMU_L2_W | EMU_L2_D);

	if (m->watch_count || m->slow_data || c->bvm->hooks.list[VCORE_HOOK_MEMORY] || (c->cpl != 3 && !(linear >> 63)))
		return false;
	if ((write && !writable) || atomic_load_explicit(&l->slot->dirty, memory_order_relaxed))
		return false;
	writable = writable && l->slot->flags & VCORE_MEM_W &&
	           emu_may_write_freely(c, emu_page_info(l->slot, l->gpa & VC_PAGE_MASK));
	if (write && !writable)
		return false;
	e->addend = (uintptr_t)l->slot->hva + ((l->gpa & VC_PAGE_MASK) - l->slot->gpa) - (uintptr_t)(linear & VC_PAGE_MASK);
	e->gpa = l->gpa & VC_PAGE_MASK;
	e->read = (linear & VC_PAGE_MASK) | c->ctx;
	e->write = writable ? e->read : EMU_NO_TAG;
	return true;
}

uint32_t jit_fill(struct emu_vcpu *c, uint64_t linear, uint32_t how)
{
	const struct emu_l2_entry *l;
	unsigned size = how & 0xffff;

	if ((linear & (VC_PAGE_SIZE - 1)) + size > VC_PAGE_SIZE || (how & JIT_HOW_ALIGNED && linear & (size - 1)))
		return JIT_FILL_NO;
	l = emu_l2_find(c->mmu, linear, c->mmu->context[linear >> 63], 0);
	/* the first level will not have the page of a device, nor one that hooks watch, whatever is done */
	if (l && (!l->slot || emu_hooks_page(c, l->gpa & VC_PAGE_MASK)))
		return JIT_FILL_NO;
	return l && quick_fill(c, l, linear, how & JIT_HOW_WRITE) ? JIT_FILL_DONE : JIT_FILL_SLOW;
}

uint32_t jit_vec_ready(struct emu_vcpu *c)
{
	const struct vc_cpu_state *s = &c->s;
	const uint64_t *high = (const uint64_t *)(const void *)s->xsave.ymm_hi;
	uint64_t any = 0;

	if ((s->cr0 & (VC_CR0_EM | VC_CR0_TS)) || !(s->cr4 & VC_CR4_OSFXSR) || (s->xsave.mxcsr & 0x1f80) != 0x1f80)
		return JIT_VEC_NONE;
	if (!c->jit_host_avx || !(s->cr4 & VC_CR4_OSXSAVE) || (s->xcr0 & 6) != 6)
		return JIT_VEC_SSE;
	for (unsigned i = 0; i < 32; i++)
		any |= high[i];
	return any ? JIT_VEC_AVX : JIT_VEC_AVX_ZERO;
}
