/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Code: fetching it, and noticing when it is written.
 *
 * A page with decoded code has bits set in its code_mask, and then no vcpu holds a write tag for it, so that every
 * store to it takes the slow path. That makes decoded blocks stale (generation) when it hits a marked chunk. No store
 * may slip through between marking and reading the bytes:
 *   - a store through a write tag: the marker waits until every vcpu has dropped its tags. A filler sets
 * its bit in vc_page_info.flags, then reads the mask; a marker sets the mask, then reads the flags. One of them sees
 * the other.
 *   - a store in the slow path: it stores, then reads the mask; the marker sets the mask, then reads the bytes.
 */
#include <sched.h>

#include "backend/emu/jit/jit.h"
#include "backend/emu/mmu/mmu.h"
#include "backend/emu/promote/promote.h"
#include "backend/emu/vcpu.h"

static uint64_t fetch_tag(const struct emu_vcpu *c, uint64_t linear)
{
	return (linear & VC_PAGE_MASK) ^ c->mmu->fetch_context[linear >> 63];
}

/* Code on a device or where nothing is: up to 16 bytes, read through the bus. */
static const uint8_t *fetch_from_bus(struct emu_vcpu *c, uint64_t gpa, unsigned *available)
{
	uint64_t value;

	if (*available > sizeof c->mmu->fetch_bytes)
		*available = sizeof c->mmu->fetch_bytes;
	for (unsigned at = 0; at < *available; at++) {
		value = emu_mmio_read(c, gpa + at, 1);
		c->mmu->fetch_bytes[at] = (uint8_t)value;
	}
	return c->mmu->fetch_bytes;
}

static struct emu_itlb_entry *fill(struct emu_vcpu *c, uint64_t linear, struct emu_itlb_entry *entry)
{
	struct emu_mmu *m = c->mmu;
	struct vc_slot *slot;
	struct vc_walk w;

	if (m->paging.mode >= VC_PAGING_4 && !vc_paging_canonical(&m->paging, linear))
		emu_raise_error(c, VC_GP, 0);
	if (!emu_walk(c, linear, VC_PF_I | (c->cpl == 3 ? VC_PF_U : 0), false, &w))
		emu_raise_pf(c, linear, w.error);
	if (linear >> 63 && !w.global)
		emu_note_local(c, linear);
	if (c->jit)
		emu_note_fetch(c, linear);
	slot = emu_is_lapic_page(c, w.gpa) ? NULL : emu_find_slot(c, w.gpa);
	if (emu_awaits(c, slot, w.gpa))
		emu_raise_pf(c, linear, VC_PF_MISSING);
	*entry = (struct emu_itlb_entry){.tag = fetch_tag(c, linear), .gpa = w.gpa & VC_PAGE_MASK};
	if (slot) {
		entry->host = slot->hva + (entry->gpa - slot->gpa);
		entry->page = emu_page_info(slot, entry->gpa);
	}
	return entry;
}

const uint8_t *emu_fetch(struct emu_vcpu *c, uint64_t linear, unsigned *available, uint64_t *gpa,
                         struct vc_page_info **page)
{
	struct emu_itlb_entry *e = &c->mmu->itlb[(linear >> 12) & (EMU_ITLB_SIZE - 1)];
	unsigned offset = linear & (VC_PAGE_SIZE - 1);

	if (vc_unlikely(e->tag != fetch_tag(c, linear)))
		e = fill(c, linear, e);
	*available = VC_PAGE_SIZE - offset;
	*gpa = e->gpa + offset;
	*page = e->page;
	if (vc_unlikely(!e->host))
		return fetch_from_bus(c, *gpa, available);
	return e->host + offset;
}

/* ---- stores to code ---- */

uint64_t emu_chunks(uint64_t gpa, unsigned len)
{
	unsigned first = (gpa & (VC_PAGE_SIZE - 1)) / 64;
	unsigned last = ((gpa & (VC_PAGE_SIZE - 1)) + len - 1) / 64;

	return (last >= 63 ? ~0ull : (1ull << (last + 1)) - 1) & ~((1ull << first) - 1);
}

void emu_code_stored(struct vc_bvm *vm, struct vc_page_info *page, uint64_t gpa, unsigned len)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (!(atomic_load_explicit(&page->code_mask, memory_order_relaxed) & emu_chunks(gpa, len)))
		return;
	/* All blocks of the page become stale, so no chunk of it holds decoded code any more. */
	atomic_store(&page->code_mask, 0);
	atomic_fetch_add(&page->generation, 1);
	jit_page_stored(vm, gpa);
}

/* Write tags of one page. */
static void drop_write(struct emu_vcpu *c, uint64_t gpa)
{
	for (unsigned i = 0; i < EMU_TLB_SIZE; i++)
		if (c->tlb[i].gpa == gpa)
			c->tlb[i].write = EMU_NO_TAG;
	if (c->promote)
		promote_drop_writes(c);
}

static void pause_a_little(unsigned round)
{
	if (round < 64)
		__builtin_ia32_pause();
	else
		sched_yield();
}

/* A vcpu that was asked to drop its write tags has done so, or is outside the gate, where it does before it comes in.
 */
static void wait_until_dropped(struct emu_vcpu *c, const struct vc_bvcpu *other)
{
	bool outside = false;

	for (unsigned round = 0; atomic_load(&other->requests) & EMU_REQ_DROP_WRITES; round++) {
		if (!atomic_load(&other->pass.inside)) {
			/* it may be coming in and not have seen the request: not if it is still outside behind a fence */
			if (outside)
				return;
			outside = true;
			vc_gate_fence(c->bvm->gate);
			continue;
		}
		outside = false;
		emu_inside_again(c);
		pause_a_little(round);
	}
}

/* Have the vcpus of these bits drop their write tags. */
static void drop_write_of(struct emu_vcpu *c, uint32_t writers)
{
	struct vc_bvm *vm = c->bvm;

	for (unsigned i = 0; i < vm->vcpus; i++)
		if (vm->vcpu[i] && vm->vcpu[i] != c->bvcpu && (writers & emu_writer_bit(vm->vcpu[i])))
			emu_ask(vm->vcpu[i], EMU_REQ_DROP_WRITES);
	for (unsigned i = 0; i < vm->vcpus; i++)
		if (vm->vcpu[i] && vm->vcpu[i] != c->bvcpu && (writers & emu_writer_bit(vm->vcpu[i])))
			wait_until_dropped(c, vm->vcpu[i]);
}

uint32_t emu_code_mark(struct emu_vcpu *c, struct vc_page_info *page, uint64_t gpa, unsigned len)
{
	struct emu_vm *vm = c->bvm->priv;
	_Atomic uint32_t *markers = &vm->markers[gpa / VC_PAGE_SIZE % EMU_MARKERS];
	/* First, so that whoever clears the marks after this makes the block stale. */
	uint32_t generation = atomic_load(&page->generation), writers;

	atomic_fetch_or(&page->code_mask, emu_chunks(gpa, len));
	if (!atomic_load(&page->flags) && !atomic_load(markers))
		return generation;
	/* `markers` first: another marker that finds the flags clear must not go on before the tags are dropped, and waits
	 * for everybody. */
	writers = atomic_fetch_add(markers, 1) ? UINT32_MAX : 0;
	writers |= atomic_exchange(&page->flags, 0);
	drop_write(c, gpa & VC_PAGE_MASK);
	drop_write_of(c, writers);
	atomic_fetch_sub(markers, 1);
	return generation;
}
