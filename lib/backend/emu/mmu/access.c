/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The slow paths of guest memory accesses: what the inline TLB check in access.h does not settle. */
#include "backend/emu/hook.h"
#include "backend/emu/lockstep.h"
#include "backend/emu/mmu/mmu.h"
#include "backend/emu/vcpu.h"

/* An access that lies in at most two pages. */
struct span {
	unsigned count;
	struct {
		uint64_t linear;
		unsigned size;
		struct emu_page page;
	} part[2];
};

/* Linear addresses are 32 bits wide outside 64-bit mode; descriptor tables have 64-bit bases in all of IA-32e mode. */
static uint64_t linear_mask(const struct emu_vcpu *c, enum emu_privilege by)
{
	return c->mode == EMU_MODE_64 || (by == EMU_SUPERVISOR && c->long_mode) ? UINT64_MAX : UINT32_MAX;
}

/* Accesses by SS were checked with their segment (#SS); what comes here is #GP(0). */
static void check_canonical(struct emu_vcpu *c, uint64_t linear)
{
	if (c->mmu->paging.mode >= VC_PAGING_4 && !vc_paging_canonical(&c->mmu->paging, linear))
		emu_raise_error(c, VC_GP, 0);
}

/* #AC is checked at CPL 3 with CR0.AM and RFLAGS.AC (SDM vol. 3, 6.15). */
void emu_check_alignment(struct emu_vcpu *c, uint64_t linear, unsigned alignment)
{
	if (vc_likely(!c->mmu->slow_data || !(linear & (alignment - 1))))
		return;
	check_canonical(c, linear);
	emu_raise_error(c, VC_AC, 0);
}

/* Integers are aligned to their size. */
static void check_integer(struct emu_vcpu *c, uint64_t linear, unsigned size)
{
	if (!(size & (size - 1)))
		emu_check_alignment(c, linear, size);
}

static void translate_or_raise(struct emu_vcpu *c, uint64_t linear, bool write, enum emu_privilege by,
                               struct emu_page *page)
{
	uint32_t error;

	if (!emu_translate(c, linear, write, by, page, &error))
		emu_raise_pf(c, linear, error);
}

static void split(struct emu_vcpu *c, uint64_t linear, unsigned size, enum emu_privilege by, struct span *s)
{
	uint64_t mask = linear_mask(c, by);
	unsigned first = VC_PAGE_SIZE - (linear & (VC_PAGE_SIZE - 1));

	s->part[0].linear = linear & mask;
	s->part[0].size = size < first ? size : first;
	s->count = 1;
	if (size > first) {
		s->part[1].linear = (linear + first) & mask;
		s->part[1].size = size - first;
		s->count = 2;
	}
}

/* Translate all of an access, or raise its fault: nothing has happened then. */
static void resolve(struct emu_vcpu *c, uint64_t linear, unsigned size, bool write, enum emu_privilege by,
                    struct span *s)
{
	split(c, linear, size, by, s);
	for (unsigned i = 0; i < s->count; i++)
		check_canonical(c, s->part[i].linear);
	for (unsigned i = 0; i < s->count; i++)
		translate_or_raise(c, s->part[i].linear, write, by, &s->part[i].page);
}

/* Data breakpoints: #DB comes behind the instruction (SDM 17.3.1.2). */
static void check_watch(struct emu_vcpu *c, uint64_t linear, unsigned size, bool write)
{
	const struct emu_mmu *m = c->mmu;

	for (unsigned i = 0; i < m->watch_count; i++) {
		bool hit = linear < m->watch[i].address + m->watch[i].length && m->watch[i].address < linear + size;

		if (hit && (write || m->watch[i].read))
			c->sys->db_pending |= 1ull << m->watch[i].index;
	}
}

/* ---- MMIO ---- */

/* xAPIC registers are 32 bits wide, one every 16 bytes (SDM 10.4.1). */
static uint64_t lapic_read(struct emu_vcpu *c, uint32_t offset, unsigned size)
{
	uint64_t value = vc_lapic_mmio_read(c->bvcpu->lapic, offset & ~3u);

	if (size == 8)
		value |= (uint64_t)vc_lapic_mmio_read(c->bvcpu->lapic, (offset & ~3u) + 4) << 32;
	return (value >> (offset & 3) * 8) & vc_width_mask(size);
}

static void lapic_write(struct emu_vcpu *c, uint32_t offset, unsigned size, uint64_t value)
{
	if (offset & 3 || size < 4)
		return;
	vc_lapic_mmio_write(c->bvcpu->lapic, offset, (uint32_t)value);
	if (size == 8)
		vc_lapic_mmio_write(c->bvcpu->lapic, offset + 4, value >> 32);
}

/* The bus knows accesses of 1, 2, 4 and 8 bytes. */
static unsigned bus_width(unsigned left)
{
	return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

uint64_t emu_mmio_read(struct emu_vcpu *c, uint64_t gpa, unsigned size)
{
	uint64_t value = 0;
	unsigned width;

	if (vc_unlikely(c->shadow != NULL))
		emu_leave(c);
	if (emu_is_lapic_page(c, gpa))
		return lapic_read(c, gpa & 0xfff, size);
	for (unsigned at = 0; at < size; at += width) {
		width = bus_width(size - at);
		value |= emu_bus_access(c, VCORE_BUS_MMIO, gpa + at, width, false, 0) << at * 8;
	}
	return value;
}

void emu_mmio_write(struct emu_vcpu *c, uint64_t gpa, unsigned size, uint64_t value)
{
	unsigned width;

	if (vc_unlikely(c->shadow != NULL))
		emu_leave(c);
	if (emu_is_lapic_page(c, gpa)) {
		lapic_write(c, gpa & 0xfff, size, value);
		return;
	}
	for (unsigned at = 0; at < size; at += width) {
		width = bus_width(size - at);
		emu_bus_access(c, VCORE_BUS_MMIO, gpa + at, width, true, (value >> at * 8) & vc_width_mask(width));
	}
}

/* ---- pieces inside one page ---- */

static bool is_memory(const struct emu_page *p, bool write)
{
	return p->slot && (!write || (p->slot->flags & VCORE_MEM_W));
}

/* One machine access where there is one of that size: other vcpus must not see half of it. */
static void copy_in(void *to, const uint8_t *host, unsigned size)
{
	switch (size) {
	case 1:
		*(uint8_t *)to = *(const volatile emu_mem8 *)host;
		break;
	case 2:
		*(emu_mem16 *)to = *(const volatile emu_mem16 *)host;
		break;
	case 4:
		*(emu_mem32 *)to = *(const volatile emu_mem32 *)host;
		break;
	case 8:
		*(emu_mem64 *)to = *(const volatile emu_mem64 *)host;
		break;
	default:
		memcpy(to, host, size);
	}
}

static void copy_out(uint8_t *host, const void *from, unsigned size)
{
	switch (size) {
	case 1:
		*(volatile emu_mem8 *)host = *(const uint8_t *)from;
		break;
	case 2:
		*(volatile emu_mem16 *)host = *(const emu_mem16 *)from;
		break;
	case 4:
		*(volatile emu_mem32 *)host = *(const emu_mem32 *)from;
		break;
	case 8:
		*(volatile emu_mem64 *)host = *(const emu_mem64 *)from;
		break;
	default:
		memcpy(host, from, size);
	}
}

static void read_part(struct emu_vcpu *c, const struct emu_page *p, uint64_t linear, void *buffer, unsigned size)
{
	unsigned offset = linear & (VC_PAGE_SIZE - 1), n;
	uint64_t value;

	if (is_memory(p, false)) {
		copy_in(buffer, p->host + offset, size);
		return;
	}
	for (unsigned at = 0; at < size; at += n) {
		n = size - at < 8 ? size - at : 8;
		value = emu_mmio_read(c, p->gpa + offset + at, n);
		memcpy((uint8_t *)buffer + at, &value, n);
	}
}

static void write_part(struct emu_vcpu *c, const struct emu_page *p, uint64_t linear, const void *buffer, unsigned size)
{
	unsigned offset = linear & (VC_PAGE_SIZE - 1), n;
	uint64_t value;

	if (vc_unlikely(c->shadow != NULL) && is_memory(p, true)) {
		emu_shadow_store(c, p->gpa + offset, p->host + offset, buffer, size);
		return;
	}
	if (is_memory(p, true)) {
		copy_out(p->host + offset, buffer, size);
		if (p->info)
			emu_code_stored(c->bvm, p->info, p->gpa + offset, size);
		if (atomic_load_explicit(&p->slot->dirty, memory_order_acquire))
			vc_mem_mark_dirty(p->slot, p->gpa + offset, size);
		return;
	}
	for (unsigned at = 0; at < size; at += n) {
		n = size - at < 8 ? size - at : 8;
		value = 0;
		memcpy(&value, (const uint8_t *)buffer + at, n);
		emu_mmio_write(c, p->gpa + offset + at, n, value);
	}
}

/* A store into the block that is being executed: nothing of that block behind this instruction may be executed any
 * more. */
static void check_own_code(struct emu_vcpu *c, const struct span *s)
{
	for (unsigned i = 0; i < s->count && !c->stepping; i++) {
		const struct emu_page *p = &s->part[i].page;
		uint64_t gpa = p->gpa | (s->part[i].linear & (VC_PAGE_SIZE - 1));

		if (is_memory(p, true) && p->info && (atomic_load(&p->info->code_mask) & emu_chunks(gpa, s->part[i].size)) &&
		    interp_in_current_block(c, gpa, s->part[i].size))
			emu_retry_single(c);
	}
}

/* Hooks are told of an access that has happened. */
static void tell_hooks(struct emu_vcpu *c, const struct span *s, const void *buffer, bool write)
{
	const uint8_t *data = buffer;

	for (unsigned i = 0; i < s->count; i++) {
		uint64_t linear = s->part[i].linear;

		emu_hook_memory(c, s->part[i].page.gpa | (linear & (VC_PAGE_SIZE - 1)), linear, data, s->part[i].size, write);
		data += s->part[i].size;
	}
}

static bool hooked(const struct emu_vcpu *c)
{
	return vc_unlikely(c->bvm->hooks.list[VCORE_HOOK_MEMORY] != NULL) && !c->shadow;
}

/* ---- whole accesses ---- */

static void read_span(struct emu_vcpu *c, struct span *s, enum emu_privilege by, void *buffer)
{
	/* Looked at now: a device callback may change the memory map under the second part. */
	bool again = !is_memory(&s->part[0].page, false);
	uint8_t *to = buffer;

	for (unsigned i = 0; i < s->count; i++) {
		if (i && again)
			translate_or_raise(c, s->part[i].linear, false, by, &s->part[i].page);
		read_part(c, &s->part[i].page, s->part[i].linear, to, s->part[i].size);
		to += s->part[i].size;
	}
}

static void write_span(struct emu_vcpu *c, struct span *s, enum emu_privilege by, const void *buffer)
{
	bool again = !is_memory(&s->part[0].page, true);
	const uint8_t *from = buffer;

	for (unsigned i = 0; i < s->count; i++) {
		if (i && again)
			translate_or_raise(c, s->part[i].linear, true, by, &s->part[i].page);
		write_part(c, &s->part[i].page, s->part[i].linear, from, s->part[i].size);
		from += s->part[i].size;
	}
}

static void load(struct emu_vcpu *c, uint64_t linear, void *buffer, unsigned size, enum emu_privilege by)
{
	struct span s;

	resolve(c, linear, size, false, by, &s);
	if (vc_unlikely(c->mmu->watch_count))
		check_watch(c, linear, size, false);
	read_span(c, &s, by, buffer);
	if (hooked(c))
		tell_hooks(c, &s, buffer, false);
}

static void store(struct emu_vcpu *c, uint64_t linear, const void *buffer, unsigned size, enum emu_privilege by)
{
	struct span s;

	resolve(c, linear, size, true, by, &s);
	check_own_code(c, &s);
	if (vc_unlikely(c->mmu->watch_count))
		check_watch(c, linear, size, true);
	write_span(c, &s, by, buffer);
	if (hooked(c))
		tell_hooks(c, &s, buffer, true);
}

uint64_t emu_load_slow(struct emu_vcpu *c, uint64_t linear, unsigned size)
{
	uint64_t value = 0;

	check_integer(c, linear, size);
	load(c, linear, &value, size, EMU_BY_CPL);
	return value;
}

void emu_store_slow(struct emu_vcpu *c, uint64_t linear, unsigned size, uint64_t value)
{
	check_integer(c, linear, size);
	store(c, linear, &value, size, EMU_BY_CPL);
}

static uint64_t super_tag(const struct emu_vcpu *c, uint64_t linear)
{
	return (linear & VC_PAGE_MASK) | c->ctx_super[linear >> 63];
}

uint64_t emu_ld_super(struct emu_vcpu *c, uint64_t linear, unsigned size)
{
	const struct emu_tlb_entry *e = emu_tlb_at(c, linear);
	uint64_t value = 0;

	if (vc_likely(e->read == super_tag(c, linear + size - 1)))
		copy_in(&value, (const uint8_t *)(linear + e->addend), size);
	else
		load(c, linear, &value, size, EMU_SUPERVISOR);
	return value;
}

void emu_st_super(struct emu_vcpu *c, uint64_t linear, unsigned size, uint64_t value)
{
	const struct emu_tlb_entry *e = emu_tlb_at(c, linear);

	if (vc_likely(e->write == super_tag(c, linear + size - 1)))
		copy_out((uint8_t *)(linear + e->addend), &value, size);
	else
		store(c, linear, &value, size, EMU_SUPERVISOR);
}

void emu_ld_bytes(struct emu_vcpu *c, uint64_t linear, void *buffer, unsigned size)
{
	const struct emu_tlb_entry *e = emu_tlb_at(c, linear);

	if (vc_likely(e->read == emu_tag(c, linear + size - 1)))
		memcpy(buffer, (const void *)(linear + e->addend), size);
	else
		load(c, linear, buffer, size, EMU_BY_CPL);
}

void emu_st_bytes(struct emu_vcpu *c, uint64_t linear, const void *buffer, unsigned size)
{
	const struct emu_tlb_entry *e = emu_tlb_at(c, linear);

	if (vc_likely(e->write == emu_tag(c, linear + size - 1)))
		memcpy((void *)(linear + e->addend), buffer, size);
	else
		store(c, linear, buffer, size, EMU_BY_CPL);
}

void emu_probe(struct emu_vcpu *c, uint64_t linear, unsigned size, bool write)
{
	const struct emu_tlb_entry *e = emu_tlb_at(c, linear);
	struct span s;

	if (vc_likely((write ? e->write : e->read) == emu_tag(c, linear + size - 1)))
		return;
	resolve(c, linear, size, write, EMU_BY_CPL, &s);
}

/* After a translation: whether the TLB now lets the whole access through. */
static bool has_tag(struct emu_vcpu *c, uint64_t linear, unsigned size, bool write)
{
	const struct emu_tlb_entry *e = emu_tlb_at(c, linear);
	uint64_t last = linear + size - 1;

	return (write ? e->write : e->read) == ((last & VC_PAGE_MASK) | c->mmu->first);
}

void *emu_rmw_ptr_slow(struct emu_vcpu *c, uint64_t linear, unsigned size)
{
	struct span s;

	check_integer(c, linear, size);
	resolve(c, linear, size, true, EMU_BY_CPL, &s);
	return has_tag(c, linear, size, true) ? (void *)(linear + emu_tlb_at(c, linear)->addend) : NULL;
}

void *emu_span(struct emu_vcpu *c, uint64_t linear, bool write, unsigned *bytes)
{
	struct span s;

	*bytes = VC_PAGE_SIZE - (linear & (VC_PAGE_SIZE - 1));
	if (!has_tag(c, linear, 1, write) || c->mmu->slow_data) {
		resolve(c, linear, 1, write, EMU_BY_CPL, &s);
		if (!has_tag(c, linear, 1, write) || c->mmu->slow_data)
			return NULL;
	}
	return (void *)(linear + emu_tlb_at(c, linear)->addend);
}

/* ---- read-modify-write, the slow way ---- */

/*
 * Hold the gate while a locked access that needs several machine accesses goes on. The wait for it lets others change
 * anything: translate again, and if that faults now, let go and begin anew.
 */
static bool hold_gate(struct emu_vcpu *c, struct span *s)
{
	uint32_t error;

	vc_gate_begin(c->bvm->gate, &c->bvcpu->pass);
	emu_inside_again(c);
	for (unsigned i = 0; i < s->count; i++) {
		if (!emu_translate(c, s->part[i].linear, true, EMU_BY_CPL, &s->part[i].page, &error) ||
		    !is_memory(&s->part[i].page, true)) {
			vc_gate_end(c->bvm->gate, &c->bvcpu->pass);
			emu_inside_again(c);
			return false;
		}
	}
	c->mmu->exclusive = true;
	return true;
}

static bool all_memory(const struct span *s)
{
	return is_memory(&s->part[0].page, true) && (s->count == 1 || is_memory(&s->part[1].page, true));
}

uint64_t emu_rmw_slow_begin(struct emu_vcpu *c, uint64_t linear, unsigned size, bool locked)
{
	uint64_t value = 0;
	struct span s;

	check_integer(c, linear, size);
	do {
		resolve(c, linear, size, true, EMU_BY_CPL, &s);
		check_own_code(c, &s);
	} while (locked && c->bvm->vcpus > 1 && all_memory(&s) && !hold_gate(c, &s));
	if (vc_unlikely(c->mmu->watch_count))
		check_watch(c, linear, size, true);
	read_span(c, &s, EMU_BY_CPL, &value);
	if (hooked(c))
		tell_hooks(c, &s, &value, false);
	return value;
}

void emu_rmw_slow_end(struct emu_vcpu *c, uint64_t linear, unsigned size, uint64_t value, bool locked)
{
	struct span s;

	resolve(c, linear, size, true, EMU_BY_CPL, &s);
	write_span(c, &s, EMU_BY_CPL, &value);
	if (hooked(c))
		tell_hooks(c, &s, &value, true);
	if (c->mmu->exclusive) {
		c->mmu->exclusive = false;
		vc_gate_end(c->bvm->gate, &c->bvcpu->pass);
		emu_inside_again(c);
		emu_hook_memory_later(c);
	}
}
