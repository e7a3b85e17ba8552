/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Loads and stores that are all an instruction does with memory, and that the TLB does not let through: of devices, and
 * of memory that hooks watch. The short way to them; whatever else has a part in an access takes that of access.c.
 */
#include "backend/emu/hook.h"
#include "backend/emu/mmu/mmu.h"
#include "backend/emu/vcpu.h"

/* The page, if it is one and nothing but its device or hooks needs to see the access. */
static const struct emu_l2_entry *page_of(const struct emu_vcpu *c, uint64_t linear, unsigned size, uint64_t need)
{
	const struct emu_mmu *m = c->mmu;

	if (m->watch_count || m->slow_data || c->shadow || (linear & (VC_PAGE_SIZE - 1)) + size > VC_PAGE_SIZE)
		return NULL;
	return emu_l2_find(m, linear, m->context[linear >> 63], need);
}

static uint64_t gpa_of(const struct emu_l2_entry *l, uint64_t linear)
{
	return (l->gpa & VC_PAGE_MASK) | (linear & (VC_PAGE_SIZE - 1));
}

static uint64_t read_memory(const uint8_t *host, unsigned size)
{
	switch (size) {
	case 1:
		return *(const volatile emu_mem8 *)host;
	case 2:
		return *(const volatile emu_mem16 *)host;
	case 4:
		return *(const volatile emu_mem32 *)host;
	default:
		return *(const volatile emu_mem64 *)host;
	}
}

static void write_memory(uint8_t *host, unsigned size, uint64_t value)
{
	switch (size) {
	case 1:
		*(volatile emu_mem8 *)host = (uint8_t)value;
		break;
	case 2:
		*(volatile emu_mem16 *)host = (uint16_t)value;
		break;
	case 4:
		*(volatile emu_mem32 *)host = (uint32_t)value;
		break;
	default:
		*(volatile emu_mem64 *)host = value;
	}
}

/* False: it is read-only, or has code that the store may change. */
static bool store_memory(struct emu_vcpu *c, struct vc_slot *slot, uint64_t gpa, unsigned size, uint64_t value)
{
	struct vc_page_info *info = emu_page_info(slot, gpa);

	if (!(slot->flags & VCORE_MEM_W) ||
	    (info && atomic_load_explicit(&info->code_mask, memory_order_relaxed) & emu_chunks(gpa, size)))
		return false;
	write_memory(slot->hva + (gpa - slot->gpa), size, value);
	/* another vcpu may have made it code just now */
	if (info && c->bvm->vcpus > 1)
		emu_code_stored(c->bvm, info, gpa, size);
	if (atomic_load_explicit(&slot->dirty, memory_order_acquire))
		vc_mem_mark_dirty(slot, gpa, size);
	return true;
}

/* After a callback of a device too, which may have added a hook: it is told of that very access. */
static void tell_hooks(struct emu_vcpu *c, uint64_t gpa, uint64_t linear, uint64_t value, unsigned size, bool write)
{
	if (vc_unlikely(c->bvm->hooks.list[VCORE_HOOK_MEMORY] != NULL))
		emu_hook_memory(c, gpa, linear, &value, size, write);
}

uint64_t emu_load_sole(struct emu_vcpu *c, uint64_t linear, unsigned size)
{
	const struct emu_l2_entry *l = page_of(c, linear, size, 0);
	uint64_t gpa, value;

	if (!l)
		return emu_load_slow(c, linear, size);
	gpa = gpa_of(l, linear);
	if (l->slot)
		value = read_memory(l->slot->hva + (gpa - l->slot->gpa), size);
	else if (emu_is_lapic_page(c, gpa))
		value = emu_mmio_read(c, gpa, size);
	else
		value = emu_bus_sole(c, VCORE_BUS_MMIO, gpa, size, false, 0);
	tell_hooks(c, gpa, linear, value, size, false);
	return value;
}

void emu_store_sole(struct emu_vcpu *c, uint64_t linear, unsigned size, uint64_t value)
{
	const struct emu_l2_entry *l = page_of(c, linear, size, EMU_L2_W | EMU_L2_D);
	uint64_t gpa = l ? gpa_of(l, linear) : 0;

	if (!l || (l->slot && !store_memory(c, l->slot, gpa, size, value))) {
		emu_store_slow(c, linear, size, value);
		return;
	}
	if (!l->slot && emu_is_lapic_page(c, gpa))
		emu_mmio_write(c, gpa, size, value);
	else if (!l->slot)
		emu_bus_sole(c, VCORE_BUS_MMIO, gpa, size, true, value);
	tell_hooks(c, gpa, linear, value, size, true);
}
