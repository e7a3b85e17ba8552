/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Paging of backend emu: every mode and permission, A and D bits, reserved bits, and what flushes what. */
#include "emu_world.h"

#define P  0x1ull
#define W  0x2ull
#define U  0x4ull
#define A  0x20ull
#define D  0x40ull
#define PS 0x80ull
#define G  0x100ull
#define XD (1ull << 63)

#define TABLES_GPA VC_MIB(16)
#define DATA_GPA   VC_MIB(4)

/* Page tables under construction. */
struct tables {
	struct world *w;
	struct emu_vcpu *c;
	enum vc_paging_mode mode;
	uint64_t root, next;
};

static struct tables tables_new(struct world *w, enum vc_paging_mode mode)
{
	struct tables t = {.w = w, .c = world_cpu(w, 0), .mode = mode, .root = TABLES_GPA, .next = TABLES_GPA + 0x1000};

	memset(w->ram->hva + TABLES_GPA, 0, VC_MIB(1));
	return t;
}

static unsigned top_level(enum vc_paging_mode mode)
{
	return mode == VC_PAGING_5 ? 5 : mode == VC_PAGING_4 ? 4 : mode == VC_PAGING_PAE ? 3 : 2;
}

static unsigned entry_size(enum vc_paging_mode mode)
{
	return mode == VC_PAGING_32 ? 4 : 8;
}

static void *entry_at(struct tables *t, uint64_t linear, unsigned level)
{
	uint64_t table = t->root;
	void *e = NULL;

	for (unsigned l = top_level(t->mode); l >= level; l--) {
		unsigned bits = t->mode == VC_PAGING_32 ? 10 : 9;
		uint64_t index = linear >> (12 + bits * (l - 1)) & ((1u << bits) - 1);
		uint64_t value = 0;

		if (t->mode == VC_PAGING_PAE && l == 3)
			index &= 3;
		e = t->w->ram->hva + table + index * entry_size(t->mode);
		if (l == level)
			break;
		memcpy(&value, e, entry_size(t->mode));
		if (!(value & P)) {
			value = t->next | P | (t->mode == VC_PAGING_PAE && l == 3 ? 0 : W | U);
			t->next += 0x1000;
			memcpy(e, &value, entry_size(t->mode));
		}
		table = value & 0xffffff000ull;
	}
	return e;
}

static uint64_t get(struct tables *t, uint64_t linear, unsigned level)
{
	uint64_t v = 0;

	memcpy(&v, entry_at(t, linear, level), entry_size(t->mode));
	return v;
}

static void put(struct tables *t, uint64_t linear, unsigned level, uint64_t value)
{
	memcpy(entry_at(t, linear, level), &value, entry_size(t->mode));
}

static void set_cpl(struct emu_vcpu *c, unsigned cpl)
{
	c->s.seg[VC_SS].attr = (uint16_t)(0xc093 | cpl << 5);
	emu_mode_changed(c);
}

static void turn_on(struct tables *t, uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	struct emu_vcpu *c = t->c;
	bool wide = t->mode >= VC_PAGING_4;

	c->s.cr0 = VC_CR0_PE | VC_CR0_PG | cr0;
	c->s.cr3 = t->root;
	c->s.cr4 = cr4 | (t->mode == VC_PAGING_32 ? 0 : VC_CR4_PAE) | (t->mode == VC_PAGING_5 ? VC_CR4_LA57 : 0);
	c->s.efer = efer | (wide ? VC_EFER_LMA | VC_EFER_LME : 0);
	c->s.seg[VC_CS] = (struct vc_segment){.limit = UINT32_MAX, .attr = wide ? 0xa09b : 0xc09b};
	c->s.seg[VC_SS] = (struct vc_segment){.limit = UINT32_MAX, .attr = 0xc093};
	emu_mmu_state_changed(c);
	emu_mode_changed(c);
}

enum how { READ, WRITE, FETCH };

static void touch(struct emu_vcpu *c, uint64_t linear, enum how how)
{
	struct vc_page_info *page;
	unsigned available;
	uint64_t gpa;

	if (how == READ)
		emu_ld32(c, linear);
	else if (how == WRITE)
		emu_st32(c, linear, 0x12345678);
	else
		emu_fetch(c, linear, &available, &gpa, &page);
}

/* -1: went through; otherwise the error code of #PF, with CR2 checked. */
static int try(struct emu_vcpu *c, uint64_t linear, enum how how)
{
	int why;

	vc_gate_enter(&c->bvcpu->pass);
	why = WORLD_CATCH(c, touch(c, linear, how));
	vc_gate_leave(&c->bvcpu->pass);
	if (!why)
		return -1;
	ck_assert_int_eq(why, EMU_UNWIND_EXCEPTION);
	ck_assert_int_eq(c->exc.vector, VC_PF);
	ck_assert_uint_eq(c->exc.cr2, linear);
	return (int)c->exc.error;
}

/* SDM 4.6.1 and 4.7, said once more and otherwise than in paging.c. */
struct rules {
	bool wp, smep, smap, ac, nxe, user;
};

static int expected(const struct rules *r, bool w, bool u, bool xd, enum how how)
{
	int code = P | (how == WRITE ? W : 0) | (r->user ? U : 0) | (how == FETCH && (r->nxe || r->smep) ? 0x10 : 0);
	bool ok;

	if (r->user)
		ok = u && (how != WRITE || w) && (how != FETCH || !xd);
	else if (how == FETCH)
		ok = !xd && !(u && r->smep);
	else
		ok = !(u && r->smap && !r->ac) && (how == READ || w || !r->wp);
	return ok ? -1 : code;
}

static const enum vc_paging_mode modes[] = {VC_PAGING_32, VC_PAGING_PAE, VC_PAGING_4, VC_PAGING_5};

/* All rights at two levels, all control bits, both privileges, all accesses; A and D. */
static void check_rights(struct tables *t, unsigned leaf, unsigned bits)
{
	uint64_t linear = 0x40201000, size = PS * (leaf > 1), page = leaf == 3 ? 0 : DATA_GPA;
	unsigned parent = leaf == 2 && t->mode <= VC_PAGING_PAE ? 0 : leaf + 1;
	bool nxe = bits & 16 && t->mode != VC_PAGING_32;
	struct rules r = {.wp = bits & 1, .smep = bits & 2, .smap = bits & 4, .ac = bits & 8, .nxe = nxe};

	turn_on(t, r.wp ? VC_CR0_WP : 0, VC_CR4_PSE | (r.smep ? VC_CR4_SMEP : 0) | (r.smap ? VC_CR4_SMAP : 0),
	        r.nxe ? VC_EFER_NXE : 0);
	t->c->s.rflags = r.ac ? VC_FLAG_AC : 0;
	for (unsigned flags = 0; flags < 64; flags++) {
		uint64_t up = P | (flags & 1 ? W : 0) | (flags & 2 ? U : 0) | (flags & 4 && nxe ? XD : 0);
		uint64_t low = P | (flags & 8 ? W : 0) | (flags & 16 ? U : 0) | (flags & 32 && nxe ? XD : 0);

		if (!parent)
			up = P | W | U;
		for (unsigned n = 0; n < 6; n++) {
			enum how how = n % 3;
			int want;

			r.user = n >= 3;
			put(t, linear, leaf, page | size | low);
			if (parent)
				put(t, linear, parent, (get(t, linear, parent) & 0xffffff000ull) | up);
			emu_tlb_flush_all(t->c);
			set_cpl(t->c, r.user ? 3 : 0);
			want = expected(&r, up & low & W, up & low & U, (up | low) & XD, how);
			ck_assert_msg(try(t->c, linear, how) == want, "mode %d leaf %u bits %u flags %u n %u: want %d", t->mode,
			              leaf, bits, flags, n, want);
			/* Again, now from the TLB. */
			ck_assert_int_eq(try(t->c, linear, how), want);
			ck_assert_uint_eq(!!(get(t, linear, leaf) & D), want < 0 && how == WRITE);
			ck_assert_uint_eq(!!(get(t, linear, leaf) & A), want < 0);
			if (parent)
				ck_assert_uint_eq(!!(get(t, linear, parent) & A), want < 0);
		}
	}
	t->c->s.rflags = 0;
}

START_TEST(rights)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	enum vc_paging_mode mode = modes[_i];

	for (unsigned leaf = 1; leaf <= (mode >= VC_PAGING_4 ? 3 : 2); leaf++)
		for (unsigned bits = 0; bits < 32; bits++) {
			struct tables t = tables_new(w, mode);

			check_rights(&t, leaf, bits);
		}
	world_free(w);
}
END_TEST

START_TEST(not_present)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct tables t = tables_new(w, modes[_i]);

	put(&t, 0x5000, 1, DATA_GPA | P | W | U);
	turn_on(&t, VC_CR0_WP, VC_CR4_PSE, 0);
	for (unsigned level = 1; level < top_level(t.mode) + (t.mode != VC_PAGING_PAE); level++) {
		uint64_t old = get(&t, 0x5000, level);

		put(&t, 0x5000, level, old & ~P);
		emu_tlb_flush_all(t.c);
		ck_assert_int_eq(try(t.c, 0x5004, READ), 0);
		ck_assert_int_eq(try(t.c, 0x5004, WRITE), (int)W);
		ck_assert_int_eq(try(t.c, 0x5004, FETCH), 0);
		set_cpl(t.c, 3);
		ck_assert_int_eq(try(t.c, 0x5004, WRITE), (int)(W | U));
		set_cpl(t.c, 0);
		put(&t, 0x5000, level, old);
	}
	emu_tlb_flush_all(t.c);
	ck_assert_int_eq(try(t.c, 0x5004, WRITE), -1);
	world_free(w);
}
END_TEST

START_TEST(reserved_bits)
{
	static const struct {
		enum vc_paging_mode mode;
		unsigned level;
		uint64_t bits;
		bool nxe;
	} cases[] = {
	    {VC_PAGING_32, 2, PS | 1u << 21, false},
	    {VC_PAGING_PAE, 1, 1ull << 46, true},
	    {VC_PAGING_PAE, 1, 1ull << 51, true},
	    {VC_PAGING_PAE, 1, 1ull << 52, true},
	    {VC_PAGING_PAE, 1, 1ull << 62, true},
	    {VC_PAGING_PAE, 1, XD, false},
	    {VC_PAGING_PAE, 2, XD, false},
	    {VC_PAGING_PAE, 2, PS | 1u << 13, true},
	    {VC_PAGING_PAE, 2, PS | 1u << 20, true},
	    {VC_PAGING_4, 1, 1ull << 46, true},
	    {VC_PAGING_4, 1, 1ull << 51, true},
	    {VC_PAGING_4, 1, XD, false},
	    {VC_PAGING_4, 2, 1ull << 50, true},
	    {VC_PAGING_4, 2, PS | 1u << 13, true},
	    {VC_PAGING_4, 3, 1ull << 47, true},
	    {VC_PAGING_4, 3, PS | 1u << 29, true},
	    {VC_PAGING_4, 4, PS, true},
	    {VC_PAGING_4, 4, 1ull << 48, true},
	    {VC_PAGING_4, 4, XD, false},
	    {VC_PAGING_5, 5, PS, true},
	    {VC_PAGING_5, 5, 1ull << 51, true},
	};

	for (unsigned i = 0; i < VC_ARRAY_SIZE(cases); i++) {
		struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
		struct tables t = tables_new(w, cases[i].mode);
		uint64_t old;

		put(&t, 0x5000, 1, DATA_GPA | P | W | U);
		turn_on(&t, 0, VC_CR4_PSE, cases[i].nxe ? VC_EFER_NXE : 0);
		ck_assert_int_eq(try(t.c, 0x5000, READ), -1);
		old = get(&t, 0x5000, cases[i].level);
		if (cases[i].bits & PS)
			old &= 0xfff;
		put(&t, 0x5000, cases[i].level, old | cases[i].bits);
		emu_tlb_flush_page(t.c, 0x5000);
		ck_assert_msg(try(t.c, 0x5000, WRITE) == (VC_PF_P | VC_PF_W | VC_PF_RSVD), "case %u", i);
		/* A reserved bit counts only in a present entry. */
		put(&t, 0x5000, cases[i].level, (old | cases[i].bits) & ~P);
		emu_tlb_flush_page(t.c, 0x5000);
		ck_assert_int_eq(try(t.c, 0x5000, WRITE), VC_PF_W);
		world_free(w);
	}
}
END_TEST

/* Bits 62:52 are the system's own in 4-level paging; 1 GiB pages need the CPU's feature. */
START_TEST(ignored_bits)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct tables t = tables_new(w, VC_PAGING_4);

	put(&t, 0x5000, 1, DATA_GPA | P | W | U | 0x7ffull << 52 | 0xe00);
	turn_on(&t, 0, 0, 0);
	ck_assert_int_eq(try(t.c, 0x5000, WRITE), -1);
	put(&t, VC_GIB(1), 3, P | W | PS);
	ck_assert_int_eq(try(t.c, VC_GIB(1) + DATA_GPA, READ), -1);
	vc_feature_put(&w->vcpu[0].cpuid.features, VC_F_PDPE1GB, false);
	turn_on(&t, 0, 0, 0);
	ck_assert_int_eq(try(t.c, VC_GIB(1) + DATA_GPA, READ), VC_PF_P | VC_PF_RSVD);
	world_free(w);
}
END_TEST

START_TEST(pse36)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct tables t = tables_new(w, VC_PAGING_32);
	struct vc_slot *high;

	ck_assert_int_eq(vc_mem_add(&w->mem, NULL, 0x1200000000, VC_MIB(4), VCORE_MEM_RWX, NULL, &high), 0);
	/* Bits 39:32 of the address lie in bits 20:13. */
	put(&t, 0x800000, 2, 0x12u << 13 | PS | P | W);
	turn_on(&t, 0, VC_CR4_PSE, 0);
	ck_assert_int_eq(try(t.c, 0x800000 + 0x123450, WRITE), -1);
	ck_assert_uint_eq(vc_ld32(high->hva + 0x123450), 0x12345678);
	/* Without CR4.PSE the bit means nothing and the entry names a page table. */
	put(&t, 0x800000, 2, DATA_GPA | PS | P | W);
	vc_st32(w->ram->hva + DATA_GPA, (uint32_t)(DATA_GPA + 0x3000) | P | W);
	turn_on(&t, 0, 0, 0);
	ck_assert_int_eq(try(t.c, 0x800000, WRITE), -1);
	ck_assert_uint_eq(vc_ld32(w->ram->hva + DATA_GPA + 0x3000), 0x12345678);
	world_free(w);
}
END_TEST

START_TEST(pae_pdptes)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct tables t = tables_new(w, VC_PAGING_PAE);
	struct emu_vcpu *c = t.c;
	int why;

	put(&t, 0x5000, 1, DATA_GPA | P | W | U);
	turn_on(&t, 0, 0, 0);
	ck_assert_int_eq(try(c, 0x5000, READ), -1);
	/* PDPTEs are registers: memory may change. */
	put(&t, 0x5000, 3, 0);
	emu_tlb_flush_all(c);
	ck_assert_int_eq(try(c, 0x5000, READ), -1);
	/* Reserved bits are looked at when CR3 is loaded: #GP(0), nothing changed. */
	put(&t, 0x5000, 3, P | W);
	why = WORLD_CATCH(c, emu_mmu_cr3_written(c, t.root, false));
	ck_assert_int_eq(why, EMU_UNWIND_EXCEPTION);
	ck_assert_int_eq(c->exc.vector, VC_GP);
	ck_assert_uint_eq(c->s.cr3, t.root);
	ck_assert_int_eq(try(c, 0x5000, READ), -1);
	put(&t, 0x5000, 3, 0);
	emu_mmu_cr3_written(c, t.root, false);
	ck_assert_int_eq(try(c, 0x5000, READ), 0);
	world_free(w);
}
END_TEST

START_TEST(not_canonical)
{
	static const uint64_t bad4[] = {1ull << 47, 0xffff7fffffffffffull, 0x8000000000000000ull};
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct tables t = tables_new(w, _i ? VC_PAGING_5 : VC_PAGING_4);
	struct emu_vcpu *c = t.c;

	turn_on(&t, 0, 0, 0);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(bad4); i++)
		for (enum how how = READ; how <= FETCH; how++) {
			int why = WORLD_CATCH(c, touch(c, bad4[i], how));

			ck_assert_int_eq(why, EMU_UNWIND_EXCEPTION);
			if (_i && i < 2) {
				ck_assert_int_eq(c->exc.vector, VC_PF); /* canonical with 57 bits */
			} else {
				ck_assert_int_eq(c->exc.vector, VC_GP);
				ck_assert_uint_eq(c->exc.error, 0);
			}
		}
	world_free(w);
}
END_TEST

/* ---- what flushes what ---- */

static uint32_t read_at(struct emu_vcpu *c, uint64_t linear)
{
	volatile uint32_t v = 0;

	vc_gate_enter(&c->bvcpu->pass);
	ck_assert_int_eq(WORLD_CATCH(c, v = emu_ld32(c, linear)), 0);
	vc_gate_leave(&c->bvcpu->pass);
	return v;
}

/* Each page of data holds its own number. */
static void number_pages(struct world *w)
{
	for (uint64_t gpa = 0; gpa < TABLES_GPA; gpa += 4)
		vc_st32(w->ram->hva + gpa, (uint32_t)(gpa >> 12));
}

#define PAGE(n) ((uint64_t)(n) << 12)
#define UPPER   0xffff800000000000ull

START_TEST(invlpg)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct tables t = tables_new(w, modes[_i]);
	struct emu_vcpu *c = t.c;

	number_pages(w);
	put(&t, 0x5000, 1, PAGE(0x10) | P | W);
	put(&t, 0x7000, 1, PAGE(0x11) | P | W);
	turn_on(&t, 0, VC_CR4_PSE, 0);
	ck_assert_uint_eq(read_at(c, 0x5000), 0x10);
	ck_assert_uint_eq(read_at(c, 0x7000), 0x11);
	put(&t, 0x5000, 1, PAGE(0x20) | P | W);
	emu_tlb_flush_page(c, 0x5fff);
	ck_assert_uint_eq(read_at(c, 0x5000), 0x20);
	ck_assert_uint_eq(read_at(c, 0x7000), 0x11);
	/* Rights: a cached translation with fewer rights never raises a fault that the tables do not ask for. */
	put(&t, 0x7000, 1, PAGE(0x11) | P);
	emu_tlb_flush_page(c, 0x7000);
	ck_assert_uint_eq(read_at(c, 0x7000), 0x11);
	put(&t, 0x7000, 1, PAGE(0x11) | P | W);
	ck_assert_int_eq(try(c, 0x7000, WRITE), -1);
	world_free(w);
}
END_TEST

/* All 4 KiB pieces of a large page go with one INVLPG of any address in it; also what was fetched. */
START_TEST(invlpg_large)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	enum vc_paging_mode mode = modes[_i % 4];
	unsigned leaf = _i >= 4 ? 3 : 2;
	struct tables t = tables_new(w, mode);
	struct emu_vcpu *c = t.c;
	uint64_t linear = VC_GIB(1), size = mode == VC_PAGING_32 ? VC_MIB(4) : leaf == 3 ? VC_GIB(1) : VC_MIB(2);
	uint64_t span = leaf == 3 ? VC_MIB(8) : size;
	uint32_t base = leaf == 3 ? 0 : (uint32_t)(size >> 12);

	number_pages(w);
	put(&t, linear, leaf, (leaf == 3 ? 0 : size) | PS | P | W);
	turn_on(&t, 0, VC_CR4_PSE, 0);
	for (uint64_t at = 0; at < span; at += 0x1000) {
		ck_assert_uint_eq(read_at(c, linear + at), base + (at >> 12));
		ck_assert_int_eq(try(c, linear + at, FETCH), -1);
	}
	put(&t, linear, leaf, 0);
	emu_tlb_flush_page(c, linear + span / 2 + 0x123);
	for (uint64_t at = 0; at < span; at += 0x1000) {
		ck_assert_int_eq(try(c, linear + at, READ), 0);
		ck_assert_int_eq(try(c, linear + at, FETCH), 0);
	}
	world_free(w);
}
END_TEST

static void load_cr3(struct emu_vcpu *c, uint64_t cr3, bool no_flush)
{
	uint64_t old = c->s.cr3;

	c->s.cr3 = cr3;
	emu_mmu_cr3_written(c, old, no_flush);
}

START_TEST(cr3_load)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct tables t = tables_new(w, VC_PAGING_4);
	struct emu_vcpu *c = t.c;

	number_pages(w);
	put(&t, 0x5000, 1, PAGE(0x10) | P);
	put(&t, UPPER, 1, PAGE(0x11) | P);
	put(&t, UPPER + 0x1000, 1, PAGE(0x12) | P | G);
	for (unsigned i = 0; i < 40; i++)
		put(&t, UPPER + 0x100000 + PAGE(i), 1, PAGE(0x100 + i) | P);
	for (unsigned locals = 0; locals <= 40; locals += 8) {
		turn_on(&t, 0, VC_CR4_PGE, 0);
		put(&t, 0x5000, 1, PAGE(0x10) | P);
		put(&t, UPPER, 1, PAGE(0x11) | P);
		emu_tlb_flush_all(c);
		ck_assert_uint_eq(read_at(c, 0x5000), 0x10);
		ck_assert_uint_eq(read_at(c, UPPER), 0x11);
		ck_assert_uint_eq(read_at(c, UPPER + 0x1000), 0x12);
		for (unsigned i = 0; i < locals; i++)
			read_at(c, UPPER + 0x100000 + PAGE(i));
		put(&t, 0x5000, 1, PAGE(0x20) | P);
		put(&t, UPPER, 1, PAGE(0x21) | P);
		load_cr3(c, t.root, false);
		ck_assert_uint_eq(read_at(c, 0x5000), 0x20);
		ck_assert_uint_eq(read_at(c, UPPER), 0x21);
		ck_assert_uint_eq(read_at(c, UPPER + 0x1000), 0x12);
	}
	/* A toggle of CR4.PGE drops global ones, too. */
	turn_on(&t, 0, VC_CR4_PGE, 0);
	ck_assert_uint_eq(read_at(c, UPPER + 0x1000), 0x12);
	put(&t, UPPER + 0x1000, 1, PAGE(0x22) | P | G);
	c->s.cr4 &= ~(uint64_t)VC_CR4_PGE;
	emu_mode_changed(c);
	c->s.cr4 |= VC_CR4_PGE;
	emu_mode_changed(c);
	ck_assert_uint_eq(read_at(c, UPPER + 0x1000), 0x22);
	world_free(w);
}
END_TEST

START_TEST(pcids)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct tables t = tables_new(w, VC_PAGING_4), t2 = t;
	struct emu_vcpu *c = t.c;
	uint64_t cr3[2];

	number_pages(w);
	put(&t, 0x5000, 1, PAGE(0x10) | P);
	put(&t, UPPER, 1, PAGE(0x11) | P);
	t2.root = t.next;
	t2.next = t.next + 0x1000;
	put(&t2, 0x5000, 1, PAGE(0x20) | P);
	put(&t2, UPPER, 1, PAGE(0x21) | P);
	turn_on(&t, 0, VC_CR4_PGE | VC_CR4_PCIDE, 0);
	cr3[0] = t.root | 1;
	cr3[1] = t2.root | 2;
	load_cr3(c, cr3[0], false);
	ck_assert_uint_eq(read_at(c, 0x5000), 0x10);
	ck_assert_uint_eq(read_at(c, UPPER), 0x11);
	load_cr3(c, cr3[1], true);
	ck_assert_uint_eq(read_at(c, 0x5000), 0x20);
	ck_assert_uint_eq(read_at(c, UPPER), 0x21);
	/* Back without a flush: the old translation may be used, and here it is. A fill count shows that it was kept. */
	load_cr3(c, cr3[0], true);
	uint64_t fills = c->mmu->fills;
	ck_assert_uint_eq(read_at(c, 0x5000), 0x10);
	ck_assert_uint_eq(c->mmu->fills, fills);
	ck_assert_uint_eq(read_at(c, UPPER), 0x11);
	/* With a flush it goes. */
	put(&t, 0x5000, 1, PAGE(0x12) | P);
	load_cr3(c, cr3[0], false);
	ck_assert_uint_eq(read_at(c, 0x5000), 0x12);
	/* INVPCID 1 of another PCID. */
	put(&t2, 0x5000, 1, PAGE(0x22) | P);
	emu_mmu_invpcid(c, 1, 2, 0);
	load_cr3(c, cr3[1], true);
	ck_assert_uint_eq(read_at(c, 0x5000), 0x22);
	/* INVPCID 0 of another PCID. */
	put(&t, 0x5000, 1, PAGE(0x13) | P);
	emu_mmu_invpcid(c, 0, 1, 0x5000);
	load_cr3(c, cr3[0], true);
	ck_assert_uint_eq(read_at(c, 0x5000), 0x13);
	/* INVPCID 3 and 2. */
	for (unsigned type = 3; type >= 2; type--) {
		put(&t2, 0x5000, 1, PAGE(0x30 + type) | P);
		put(&t, 0x5000, 1, PAGE(0x40 + type) | P);
		put(&t, UPPER, 1, PAGE(0x50 + type) | P);
		emu_mmu_invpcid(c, type, 0, 0);
		ck_assert_uint_eq(read_at(c, 0x5000), 0x40 + type);
		ck_assert_uint_eq(read_at(c, UPPER), 0x50 + type);
		load_cr3(c, cr3[1], true);
		ck_assert_uint_eq(read_at(c, 0x5000), 0x30 + type);
		load_cr3(c, cr3[0], true);
	}
	world_free(w);
}
END_TEST

/* More address spaces than the MMU keeps, and more context numbers than there are. */
START_TEST(contexts_run_out)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct tables t[24];
	struct emu_vcpu *c = world_cpu(w, 0);

	number_pages(w);
	t[0] = tables_new(w, VC_PAGING_4);
	for (unsigned i = 0; i < 24; i++) {
		if (i) {
			t[i] = t[0];
			t[i].root = t[i - 1].next;
			t[i].next = t[i].root + 0x1000;
		}
		put(&t[i], 0x5000, 1, PAGE(0x100 + i) | P | W | U);
	}
	turn_on(&t[0], VC_CR0_WP, VC_CR4_PCIDE | VC_CR4_SMAP, 0);
	for (unsigned n = 0; n < 12000; n++) {
		unsigned i = n * 7 % 24;

		load_cr3(c, t[i].root | (i + 1), n % 3);
		set_cpl(c, n % 5 ? 3 : 0);
		c->s.rflags = VC_FLAG_AC;
		emu_mode_changed(c);
		ck_assert_uint_eq(read_at(c, 0x5000), 0x100 + i);
	}
	ck_assert_uint_gt(c->mmu->epoch, 0);
	world_free(w);
}
END_TEST

/* ---- random: whatever is cached, accesses do what a walk of the tables says ---- */

#define SPACES      3
#define LOWER_PAGES 24
#define UPPER_PAGES 24

static uint64_t seed;
static uint32_t rnd(uint32_t n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(seed >> 33) % n;
}

struct fuzz {
	struct world *w;
	struct emu_vcpu *c;
	struct tables t[SPACES];
	unsigned current;
};

static uint64_t any_page(void)
{
	return rnd(2) ? PAGE(0x400 + rnd(LOWER_PAGES)) : UPPER + PAGE(rnd(UPPER_PAGES));
}

static uint64_t any_leaf(bool upper)
{
	uint64_t e = PAGE(0x100 + rnd(64)) | (rnd(8) ? P : 0) | (rnd(3) ? W : 0) | (rnd(4) ? 0 : XD);

	if (upper)
		return e | (rnd(3) ? G : 0) | (rnd(6) ? 0 : U);
	return e | (rnd(6) ? U : 0);
}

/* Change a leaf, then invalidate as the architecture asks of a system. */
static void change_leaf(struct fuzz *f)
{
	unsigned space = rnd(SPACES);
	uint64_t linear = any_page();
	bool upper = linear >> 63;

	put(&f->t[space], linear, 1, any_leaf(upper));
	if (upper)
		emu_mmu_invpcid(f->c, 2, 0, 0);
	else if (space == f->current)
		emu_tlb_flush_page(f->c, linear);
	else
		emu_mmu_invpcid(f->c, rnd(2), space + 1, linear);
}

static void change_mode(struct fuzz *f)
{
	struct vc_cpu_state *s = &f->c->s;

	switch (rnd(8)) {
	case 0:
		s->cr0 ^= VC_CR0_WP;
		break;
	case 1:
		s->cr4 ^= VC_CR4_SMAP;
		break;
	case 2:
		s->cr4 ^= VC_CR4_SMEP;
		break;
	case 3:
	case 4:
		s->rflags ^= VC_FLAG_AC;
		break;
	default:
		s->seg[VC_SS].attr ^= 0x60;
	}
	emu_mode_changed(f->c);
}

static void access_checked(struct fuzz *f)
{
	struct emu_vcpu *c = f->c;
	uint64_t linear = any_page() + rnd(1023) * 4;
	enum how how = rnd(3);
	uint32_t access = (c->cpl == 3 ? VC_PF_U : 0) | (how == WRITE ? VC_PF_W : 0) | (how == FETCH ? VC_PF_I : 0);
	struct vc_walk walk;
	struct vc_paging p = {0};
	int want = -1, got;

	vc_paging_init(&p, &f->w->mem, &c->s, 46, true);
	if (!vc_page_walk(&p, linear, access, c->s.rflags & VC_FLAG_AC, false, &walk))
		want = (int)walk.error;
	got = try(c, linear, how);
	ck_assert_msg(got == want, "linear %#llx how %d: %d, not %d", (unsigned long long)linear, how, got, want);
	if (want >= 0)
		return;
	if (how == READ)
		ck_assert_uint_eq(read_at(c, linear), walk.gpa >> 12);
	if (how == WRITE) {
		ck_assert_uint_eq(vc_ld32(f->w->ram->hva + walk.gpa), 0x12345678);
		ck_assert(get(&f->t[f->current], linear, 1) & D);
		vc_st32(f->w->ram->hva + walk.gpa, (uint32_t)(walk.gpa >> 12));
	}
	ck_assert(get(&f->t[f->current], linear, 1) & A);
}

START_TEST(random_against_walk)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct fuzz f = {.w = w, .c = world_cpu(w, 0)};

	seed = 42 + (uint64_t)_i;
	number_pages(w);
	f.t[0] = tables_new(w, VC_PAGING_4);
	get(&f.t[0], UPPER, 1);
	for (unsigned i = 0; i < SPACES; i++) {
		if (i) {
			f.t[i] = f.t[0];
			f.t[i].root = f.t[i - 1].next;
			f.t[i].next = f.t[i].root + 0x1000;
			/* The upper half is the same in all. */
			memcpy(w->ram->hva + f.t[i].root + 256 * 8, w->ram->hva + f.t[0].root + 256 * 8, 8);
		}
		get(&f.t[i], PAGE(0x400), 1);
	}
	turn_on(&f.t[0], VC_CR0_WP, VC_CR4_PGE | (_i & 1 ? VC_CR4_PCIDE : 0), VC_EFER_NXE);
	for (unsigned n = 0; n < 60000; n++) {
		unsigned op = rnd(40);

		if (op == 0) {
			f.current = rnd(SPACES);
			load_cr3(f.c, f.t[f.current].root | (_i & 1 ? f.current + 1 : 0), (_i & 1) && rnd(4));
		} else if (op < 4) {
			change_leaf(&f);
			if (!(_i & 1))
				emu_mmu_invpcid(f.c, 2, 0, 0);
		} else if (op < 12) {
			change_mode(&f);
		} else {
			access_checked(&f);
		}
	}
	world_free(w);
}
END_TEST

/* ---- vc_translate() ---- */

START_TEST(translate)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct tables t = tables_new(w, modes[_i]);
	uint32_t error = 99;
	uint64_t gpa = 0;

	put(&t, 0x5000, 1, DATA_GPA | P | U);
	turn_on(&t, VC_CR0_WP, VC_CR4_PSE, 0);
	ck_assert_int_eq(vc_translate(&w->mem, &t.c->s, 0x5123, VCORE_ACCESS_READ, true, 46, &gpa, &error), 0);
	ck_assert_uint_eq(gpa, DATA_GPA + 0x123);
	ck_assert_int_eq(vc_translate(&w->mem, &t.c->s, 0x5123, VCORE_ACCESS_WRITE, true, 46, &gpa, &error), -EFAULT);
	ck_assert_uint_eq(error, VC_PF_P | VC_PF_W | VC_PF_U);
	ck_assert_int_eq(vc_translate(&w->mem, &t.c->s, 0x9000, VCORE_ACCESS_FETCH, false, 46, &gpa, &error), -EFAULT);
	ck_assert_uint_eq(error, 0);
	/* No side effects. */
	ck_assert_uint_eq(get(&t, 0x5000, 1) & (A | D), 0);
	t.c->s.cr0 = VC_CR0_PE;
	ck_assert_int_eq(vc_translate(&w->mem, &t.c->s, 0x5123, VCORE_ACCESS_WRITE, true, 46, &gpa, &error), 0);
	ck_assert_uint_eq(gpa, 0x5123);
	world_free(w);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mmu");
	TCase *walk = tcase_create("walk"), *flush = tcase_create("flush");
	SRunner *r;
	int failed;

	tcase_set_timeout(walk, 60);
	tcase_set_timeout(flush, 60);
	tcase_add_loop_test(walk, rights, 0, 4);
	tcase_add_loop_test(walk, not_present, 0, 4);
	tcase_add_test(walk, reserved_bits);
	tcase_add_test(walk, ignored_bits);
	tcase_add_test(walk, pse36);
	tcase_add_test(walk, pae_pdptes);
	tcase_add_loop_test(walk, not_canonical, 0, 2);
	tcase_add_loop_test(walk, translate, 0, 4);
	tcase_add_loop_test(flush, invlpg, 0, 4);
	tcase_add_loop_test(flush, invlpg_large, 0, 4);
	tcase_add_loop_test(flush, invlpg_large, 6, 8);
	tcase_add_test(flush, cr3_load);
	tcase_add_test(flush, pcids);
	tcase_add_test(flush, contexts_run_out);
	tcase_add_loop_test(flush, random_against_walk, 0, 8);
	suite_add_tcase(s, walk);
	suite_add_tcase(s, flush);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
