/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Accesses that the TLB check does not settle: page crossings, devices, the restart after an exit, ROM, decoded code,
 * dirty log, alignment. */
#include <pthread.h>

#include "emu_world.h"

#define MMIO   0xd0000000ull
#define NOBODY 0xe0000000ull
#define ROM    0xf0000000ull

/* Unpaged, 32-bit, flat. */
static void flat32(struct emu_vcpu *c)
{
	c->s.cr0 = VC_CR0_PE;
	c->s.seg[VC_CS] = (struct vc_segment){.limit = UINT32_MAX, .attr = 0xc09b};
	c->s.seg[VC_SS] = (struct vc_segment){.limit = UINT32_MAX, .attr = 0xc093};
	emu_mode_changed(c);
}

static void set_cpl(struct emu_vcpu *c, unsigned cpl)
{
	c->s.seg[VC_SS].attr = (uint16_t)(0xc093 | cpl << 5);
	emu_mode_changed(c);
}

/* A 32-bit page table over the first 4 MiB, one to one, at 1 MiB. */
static uint32_t *paged32(struct world *w)
{
	struct emu_vcpu *c = world_cpu(w, 0);
	uint32_t *pd = (uint32_t *)(void *)(w->ram->hva + VC_MIB(1)), *pt = pd + 1024;

	memset(pd, 0, 8192);
	pd[0] = (uint32_t)VC_MIB(1) + 0x1000 + 7;
	for (uint32_t i = 0; i < 1024; i++)
		pt[i] = i << 12 | 7;
	flat32(c);
	c->s.cr3 = VC_MIB(1);
	c->s.cr0 |= VC_CR0_PG | VC_CR0_WP;
	emu_mode_changed(c);
	return pt;
}

static void enter(struct world *w)
{
	vc_gate_enter(&w->vcpu[0].pass);
}
static void leave(struct world *w)
{
	vc_gate_leave(&w->vcpu[0].pass);
}

/* ---- crossings ---- */

START_TEST(crossing)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct emu_vcpu *c = world_cpu(w, 0);
	uint32_t *pt = paged32(w);
	uint8_t *ram = w->ram->hva, bytes[48], back[48];

	/* Linear neighbours that are no physical ones. */
	pt[5] = 0x20000 | 7;
	pt[6] = 0x30000 | 7;
	enter(w);
	for (unsigned size = 2; size <= 8; size *= 2)
		for (unsigned before = 1; before < size; before++) {
			uint64_t linear = 0x6000 - before, value = 0x8877665544332211ull & vc_width_mask(size), got = 0;

			for (unsigned twice = 0; twice < 2; twice++) {
				ck_assert_int_eq(WORLD_CATCH(c, emu_store_slow(c, linear, size, value)), 0);
				ck_assert(!memcmp(ram + 0x21000 - before, &value, before));
				ck_assert(!memcmp(ram + 0x30000, (uint8_t *)&value + before, size - before));
				got = emu_load_slow(c, linear, size);
				ck_assert_uint_eq(got, value);
			}
		}
	emu_st32(c, 0x5ffe, 0xa1b2c3d4);
	ck_assert_uint_eq(emu_ld32(c, 0x5ffe), 0xa1b2c3d4);
	for (unsigned i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 3 + 1);
	emu_st_bytes(c, 0x5ff0, bytes, sizeof bytes);
	emu_ld_bytes(c, 0x5ff0, back, sizeof back);
	ck_assert(!memcmp(bytes, back, sizeof bytes));
	ck_assert(!memcmp(ram + 0x30000, bytes + 16, 32));
	leave(w);
	world_free(w);
}
END_TEST

/* The second page faults: CR2 is its first byte, nothing was stored. */
START_TEST(crossing_fault)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct emu_vcpu *c = world_cpu(w, 0);
	uint32_t *pt = paged32(w);

	pt[6] = 0x6000 | 5; /* read-only */
	vc_st32(w->ram->hva + 0x5ffc, 0x11111111);
	enter(w);
	ck_assert_int_eq(WORLD_CATCH(c, emu_st32(c, 0x5ffe, 0x22222222)), EMU_UNWIND_EXCEPTION);
	ck_assert_uint_eq(c->exc.cr2, 0x6000);
	ck_assert_uint_eq(c->exc.error, VC_PF_P | VC_PF_W);
	ck_assert_uint_eq(vc_ld32(w->ram->hva + 0x5ffc), 0x11111111);
	ck_assert_int_eq(WORLD_CATCH(c, emu_rmw_slow_begin(c, 0x5ffe, 4, true)), EMU_UNWIND_EXCEPTION);
	/* The first page faults first. */
	pt[5] = 0;
	emu_tlb_flush_all(c);
	ck_assert_int_eq(WORLD_CATCH(c, emu_ld64(c, 0x5ffe)), EMU_UNWIND_EXCEPTION);
	ck_assert_uint_eq(c->exc.cr2, 0x5ffe);
	ck_assert_int_eq(WORLD_CATCH(c, emu_probe(c, 0x5ffe, 8, true)), EMU_UNWIND_EXCEPTION);
	leave(w);
	world_free(w);
}
END_TEST

/* At the end of the 32-bit space an access goes on at 0. */
START_TEST(wrap)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct emu_vcpu *c = world_cpu(w, 0);
	struct vc_slot *top;

	ck_assert_int_eq(vc_mem_add(&w->mem, NULL, 0xffff0000, 0x10000, VCORE_MEM_RWX, NULL, &top), 0);
	flat32(c);
	enter(w);
	emu_st32(c, 0xfffffffe, 0x44332211);
	ck_assert_uint_eq(vc_ld16(top->hva + 0xfffe), 0x2211);
	ck_assert_uint_eq(vc_ld16(w->ram->hva), 0x4433);
	ck_assert_uint_eq(emu_ld32(c, 0xfffffffe), 0x44332211);
	leave(w);
	world_free(w);
}
END_TEST

START_TEST(alignment)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct emu_vcpu *c = world_cpu(w, 0);

	paged32(w);
	c->s.cr0 |= VC_CR0_AM;
	enter(w);
	for (unsigned n = 0; n < 8; n++) {
		bool checked = n == 7;

		c->s.cr0 = (c->s.cr0 & ~(uint64_t)VC_CR0_AM) | (n & 1 ? VC_CR0_AM : 0);
		c->s.rflags = n & 2 ? VC_FLAG_AC : 0;
		set_cpl(c, n & 4 ? 3 : 0);
		emu_ld32(c, 0x5000);
		ck_assert_int_eq(WORLD_CATCH(c, emu_ld32(c, 0x5002)), checked ? EMU_UNWIND_EXCEPTION : 0);
		if (checked) {
			ck_assert_int_eq(c->exc.vector, VC_AC);
			ck_assert(c->exc.has_error && c->exc.error == 0);
		}
		ck_assert_int_eq(WORLD_CATCH(c, emu_st64(c, 0x5004, 1)), checked ? EMU_UNWIND_EXCEPTION : 0);
		ck_assert_int_eq(WORLD_CATCH(c, emu_st16(c, 0x5002, 1)), 0);
		/* Descriptor tables are not checked. */
		ck_assert_int_eq(WORLD_CATCH(c, emu_ld_super(c, 0x5001, 8)), 0);
	}
	leave(w);
	world_free(w);
}
END_TEST

/* Descriptor tables are read by supervisor privilege whatever the CPL, and SMAP keeps them out of user pages even with
 * AC. */
START_TEST(implicit_supervisor)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct emu_vcpu *c = world_cpu(w, 0);
	uint32_t *pt = paged32(w);

	pt[5] = 0x5000 | 3;
	vc_st32(w->ram->hva + 0x5000, 77);
	set_cpl(c, 3);
	enter(w);
	for (unsigned twice = 0; twice < 2; twice++) {
		ck_assert_int_eq(WORLD_CATCH(c, emu_ld32(c, 0x5000)), EMU_UNWIND_EXCEPTION);
		ck_assert_uint_eq(emu_ld_super(c, 0x5000, 4), 77);
		emu_st_super(c, 0x5000, 4, 77);
	}
	ck_assert_int_eq(WORLD_CATCH(c, emu_ld_super(c, 0x6000, 4)), 0);
	c->s.cr4 |= VC_CR4_SMAP;
	c->s.rflags |= VC_FLAG_AC;
	emu_mode_changed(c);
	ck_assert_int_eq(WORLD_CATCH(c, emu_ld_super(c, 0x6000, 4)), EMU_UNWIND_EXCEPTION);
	ck_assert_uint_eq(c->exc.error, VC_PF_P);
	ck_assert_uint_eq(emu_ld_super(c, 0x5000, 4), 77);
	leave(w);
	world_free(w);
}
END_TEST

/* ---- devices ---- */

struct device {
	unsigned reads, writes;
	uint64_t address[16], data[16];
	uint32_t width[16];
};

static void device_read(void *ctx, struct vcore_io *io)
{
	struct device *d = ctx;

	d->reads++;
	io->data = 0x8000000000000000ull + io->offset;
}

static void device_write(void *ctx, struct vcore_io *io)
{
	struct device *d = ctx;
	unsigned n = d->writes++ % 16;

	d->address[n] = io->address;
	d->data[n] = io->data;
	d->width[n] = io->width;
}

static void add_device(struct world *w, struct device *d, uint64_t start, uint64_t length)
{
	struct vcore_device_ops ops = {.size = sizeof ops, .read = device_read, .write = device_write};
	struct vc_dev *dev;

	ck_assert_int_eq(vc_dev_add(&w->buses, "test", &ops, d, &dev), 0);
	ck_assert_int_eq(vc_dev_add_region(&w->buses, NULL, dev, VCORE_BUS_MMIO, start, length), 0);
}

START_TEST(mmio)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct emu_vcpu *c = world_cpu(w, 0);
	struct device d = {0};
	uint8_t bytes[16];

	add_device(w, &d, MMIO, 0x1000);
	flat32(c);
	enter(w);
	ck_assert_uint_eq(emu_ld32(c, MMIO + 0x10), 0x10);
	ck_assert_uint_eq(emu_ld64(c, MMIO + 0x18), 0x8000000000000018ull);
	ck_assert_uint_eq(d.reads, 2);
	emu_st16(c, MMIO + 2, 0xbeef);
	ck_assert_uint_eq(d.address[0], MMIO + 2);
	ck_assert_uint_eq(d.data[0], 0xbeef);
	ck_assert_uint_eq(d.width[0], 2);
	emu_ld_bytes(c, MMIO, bytes, 16);
	ck_assert_uint_eq(vc_ld64(bytes + 8), 0x8000000000000008ull);
	ck_assert_uint_eq(d.reads, 4);
	/* Read-modify-write: one read, one write. */
	ck_assert_ptr_null(emu_rmw_ptr(c, MMIO + 4, 4));
	ck_assert_uint_eq(emu_rmw_slow_begin(c, MMIO + 4, 4, true), 4);
	emu_rmw_slow_end(c, MMIO + 4, 4, 5, true);
	ck_assert_uint_eq(d.reads, 5);
	ck_assert_uint_eq(d.writes, 2);
	ck_assert_uint_eq(d.data[1], 5);
	/* Nobody there. */
	ck_assert_uint_eq(emu_ld16(c, NOBODY), 0xffff);
	emu_st32(c, NOBODY, 1);
	/* From memory into a device. */
	emu_st32(c, MMIO - 2, 0x44332211);
	ck_assert_uint_eq(d.data[2], 0x4433);
	leave(w);
	world_free(w);
}
END_TEST

START_TEST(read_only_slot)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_EXIT);
	struct emu_vcpu *c = world_cpu(w, 0);
	struct vcore_exit exit = {.size = sizeof exit};
	struct vc_slot *rom;

	ck_assert_int_eq(vc_mem_add(&w->mem, NULL, ROM, 0x1000, VCORE_MEM_RX, NULL, &rom), 0);
	vc_st32(rom->hva, 0x1234);
	flat32(c);
	c->exit = &exit;
	enter(w);
	ck_assert_uint_eq(emu_ld32(c, ROM), 0x1234);
	ck_assert_int_eq(WORLD_CATCH(c, emu_st32(c, ROM, 1)), EMU_UNWIND_EXIT);
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_MMIO);
	ck_assert_uint_eq(exit.address, ROM);
	ck_assert_uint_eq(vc_ld32(rom->hva), 0x1234);
	leave(w);
	world_free(w);
}
END_TEST

/* ---- restart ---- */

/* An "instruction" that reads two places nobody answers, then a device, then writes one. */
static uint64_t busy_instruction(struct emu_vcpu *c)
{
	uint64_t a = emu_ld32(c, NOBODY);
	uint64_t b = emu_ld64(c, MMIO + 8);
	uint64_t d = emu_ld16(c, NOBODY + 8);

	emu_st32(c, NOBODY + 16, (uint32_t)(a + d));
	return a + b + d;
}

START_TEST(restart)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_EXIT);
	struct emu_vcpu *c = world_cpu(w, 0);
	struct vcore_exit exit = {.size = sizeof exit};
	struct device dev = {0};
	volatile uint64_t result = 0;

	add_device(w, &dev, MMIO, 0x1000);
	flat32(c);
	c->exit = &exit;
	for (unsigned rounds = 0; rounds < 3; rounds++) {
		dev.reads = 0;
		enter(w);
		ck_assert_int_eq(WORLD_CATCH(c, busy_instruction(c)), EMU_UNWIND_EXIT);
		ck_assert(exit.reason == VCORE_EXIT_MMIO && exit.address == NOBODY && exit.width == 4 && !exit.is_write);
		exit.data = 0x100;
		emu_bus_answer(c, &exit);
		ck_assert_int_eq(WORLD_CATCH(c, busy_instruction(c)), EMU_UNWIND_EXIT);
		ck_assert(exit.address == NOBODY + 8 && exit.width == 2);
		ck_assert_uint_eq(dev.reads, 1);
		exit.data = 0x20;
		emu_bus_answer(c, &exit);
		ck_assert_int_eq(WORLD_CATCH(c, busy_instruction(c)), EMU_UNWIND_EXIT);
		ck_assert(exit.address == NOBODY + 16 && exit.is_write && exit.data == 0x120);
		emu_bus_answer(c, &exit);
		ck_assert_int_eq(WORLD_CATCH(c, result = busy_instruction(c)), 0);
		ck_assert_uint_eq(result, 0x8000000000000128ull);
		/* The device was asked once. */
		ck_assert_uint_eq(dev.reads, 1);
		emu_bus_forget(c);
		leave(w);
	}
	world_free(w);
}
END_TEST

/* The program moved on to something else: what was recorded is not used for it. */
START_TEST(restart_elsewhere)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_EXIT);
	struct emu_vcpu *c = world_cpu(w, 0);
	struct vcore_exit exit = {.size = sizeof exit};

	flat32(c);
	c->exit = &exit;
	enter(w);
	ck_assert_int_eq(WORLD_CATCH(c, emu_ld32(c, NOBODY)), EMU_UNWIND_EXIT);
	exit.data = 1;
	emu_bus_answer(c, &exit);
	ck_assert_int_eq(WORLD_CATCH(c, emu_ld32(c, NOBODY + 4)), EMU_UNWIND_EXIT);
	ck_assert_uint_eq(exit.address, NOBODY + 4);
	leave(w);
	world_free(w);
}
END_TEST

/* ---- code pages ---- */

START_TEST(code_pages)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct emu_vcpu *c = world_cpu(w, 0);
	struct vc_page_info *page;
	unsigned available;
	uint32_t generation;
	uint64_t gpa;

	flat32(c);
	enter(w);
	emu_st32(c, 0x5000, 0x90909090); /* a write tag is there now */
	ck_assert_ptr_eq(emu_fetch(c, 0x5010, &available, &gpa, &page), w->ram->hva + 0x5010);
	ck_assert_uint_eq(gpa, 0x5010);
	ck_assert_uint_eq(available, 0xff0);
	generation = emu_code_mark(c, page, 0x5010, 0x40);
	ck_assert_uint_eq(atomic_load(&page->code_mask), 3);
	/* Other chunks may be stored to. */
	emu_st32(c, 0x5080, 1);
	emu_st8(c, 0x5fff, 1);
	ck_assert_uint_eq(atomic_load(&page->generation), generation);
	/* A hit, by every kind of store. */
	for (unsigned kind = 0; kind < 5; kind++) {
		uint8_t bytes[64] = {0};

		generation = emu_code_mark(c, page, 0x5010, 0x40);
		ck_assert_uint_eq(atomic_load(&page->generation), generation);
		if (kind == 0)
			emu_st8(c, 0x5040, 1);
		else if (kind == 1)
			emu_st_bytes(c, 0x4fd0, bytes, 64);
		else if (kind == 2)
			emu_st_super(c, 0x5010, 8, 1);
		else if (kind == 3)
			vc_mem_write(&w->mem, 0x4fff, bytes, 2);
		else {
			ck_assert_ptr_null(emu_rmw_ptr(c, 0x5020, 4));
			emu_rmw_slow_end(c, 0x5020, 4, emu_rmw_slow_begin(c, 0x5020, 4, true) + 1, true);
		}
		ck_assert_uint_ne(atomic_load(&page->generation), generation);
		/* Nothing of the page counts as code any more, so stores may be fast again. */
		ck_assert_uint_eq(atomic_load(&page->code_mask), 0);
	}
	generation = emu_code_mark(c, page, 0x5000, 1);
	ck_assert_ptr_null(emu_span(c, 0x5800, true, &available));
	ck_assert_ptr_nonnull(emu_span(c, 0x5800, false, &available));
	ck_assert_uint_eq(available, 0x800);
	leave(w);
	world_free(w);
}
END_TEST

/* A fetch by a mapping that does not allow it; execution from where no memory is. */
START_TEST(fetches)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct emu_vcpu *c = world_cpu(w, 0);
	struct vc_page_info *page;
	const uint8_t *volatile code = NULL;
	unsigned available;
	uint64_t gpa;

	flat32(c);
	enter(w);
	ck_assert_int_eq(WORLD_CATCH(c, code = emu_fetch(c, NOBODY + 0xff8, &available, &gpa, &page)), 0);
	ck_assert_ptr_null(page);
	ck_assert_uint_eq(available, 8);
	ck_assert_uint_eq(code[0], 0xff);
	leave(w);
	world_free(w);
}
END_TEST

/* One vcpu stores; another one decodes, again and again. No store may be missed: what was read under a generation is
 * what is there as long as it holds. */
struct race {
	struct world *w;
	_Atomic bool stop;
	_Atomic uint64_t stores;
};

static void *storing_vcpu(void *arg)
{
	struct race *r = arg;
	struct emu_vcpu *c = world_cpu(r->w, 1);
	uint32_t n = 0;

	vc_gate_enter(&r->w->vcpu[1].pass);
	while (!atomic_load(&r->stop)) {
		for (unsigned i = 0; i < 100; i++)
			emu_st32(c, 0x5000, ++n);
		atomic_fetch_add(&r->stores, 100);
		emu_inside_again(c);
		if (atomic_load(c->requests) & VC_REQ_GATE) {
			atomic_fetch_and(c->requests, ~VC_REQ_GATE);
			vc_gate_leave(&r->w->vcpu[1].pass);
			vc_gate_enter(&r->w->vcpu[1].pass);
			emu_inside_again(c);
		}
	}
	vc_gate_leave(&r->w->vcpu[1].pass);
	return NULL;
}

/* Each turn waits for the other thread, on one CPU that is shared with others for many time slices. */
#define RACE_NS 5000000000ull

START_TEST(code_race)
{
	uint64_t begun = vc_host_ns();
	struct race r = {.w = world_new(2, VCORE_UNHANDLED_IGNORE)};
	struct emu_vcpu *c = world_cpu(r.w, 0);
	struct vc_page_info *page;
	pthread_t thread;
	unsigned available;
	uint64_t gpa;

	flat32(c);
	flat32(world_cpu(r.w, 1));
	ck_assert_int_eq(pthread_create(&thread, NULL, storing_vcpu, &r), 0);
	enter(r.w);
	emu_fetch(c, 0x5000, &available, &gpa, &page);
	for (unsigned n = 0; n < 20000 && vc_host_ns() - begun < RACE_NS; n++) {
		uint32_t generation = emu_code_mark(c, page, 0x5000, 4);
		uint32_t first = *(volatile uint32_t *)(r.w->ram->hva + 0x5000);

		for (unsigned i = 0; i < n % 64; i++)
			__builtin_ia32_pause();
		uint32_t second = *(volatile uint32_t *)(r.w->ram->hva + 0x5000);

		/* The generation grows behind the store, so it is looked at after a store that was seen had time to end. */
		for (unsigned i = 0; first != second && atomic_load(&page->generation) == generation; i++) {
			ck_assert_msg(i < 1000000, "a store went unnoticed");
			if (i > 100)
				sched_yield();
		}
		emu_inside_again(c);
	}
	leave(r.w);
	atomic_store(&r.stop, true);
	pthread_join(thread, NULL);
	world_free(r.w);
}
END_TEST

/* ---- locked accesses over a page boundary stop the others ---- */

struct adding {
	struct world *w;
	unsigned vcpu;
};

#define ADDITIONS 2000

static void *adding_vcpu(void *arg)
{
	struct adding *a = arg;
	struct vc_bvcpu *v = &a->w->vcpu[a->vcpu];
	struct emu_vcpu *c = emu_of(v);

	vc_gate_enter(&v->pass);
	for (unsigned i = 0; i < ADDITIONS; i++) {
		emu_rmw_slow_end(c, 0x5ffc, 8, emu_rmw_slow_begin(c, 0x5ffc, 8, true) + 0x100000001ull, true);
		if (atomic_load(c->requests) & VC_REQ_GATE) {
			atomic_fetch_and(c->requests, ~VC_REQ_GATE);
			vc_gate_leave(&v->pass);
			vc_gate_enter(&v->pass);
		}
	}
	vc_gate_leave(&v->pass);
	return NULL;
}

START_TEST(split_lock)
{
	struct world *w = world_new(3, VCORE_UNHANDLED_IGNORE);
	struct adding a[3];
	pthread_t thread[3];

	for (unsigned i = 0; i < 3; i++) {
		flat32(world_cpu(w, i));
		a[i] = (struct adding){w, i};
		ck_assert_int_eq(pthread_create(&thread[i], NULL, adding_vcpu, &a[i]), 0);
	}
	for (unsigned i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	ck_assert_uint_eq(vc_ld64(w->ram->hva + 0x5ffc), 3 * ADDITIONS * 0x100000001ull);
	world_free(w);
}
END_TEST

/* ---- dirty log, changes of the map ---- */

static unsigned dirty_pages(struct world *w, uint64_t gpa)
{
	static uint64_t bitmap[WORLD_RAM / 4096 / 64];
	int64_t n;

	leave(w);
	n = vc_mem_get_dirty(&w->mem, NULL, w->ram, VC_LOG_PROGRAM, bitmap, sizeof bitmap);
	enter(w);
	ck_assert_int_ge(n, 0);
	if (n)
		ck_assert(bitmap[gpa >> 12 >> 6] >> (gpa >> 12 & 63) & 1);
	return (unsigned)n;
}

START_TEST(dirty_log)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct emu_vcpu *c = world_cpu(w, 0);
	unsigned bytes;

	flat32(c);
	enter(w);
	emu_st32(c, 0x5000, 1);
	leave(w);
	ck_assert_int_eq(vc_mem_log_dirty(&w->mem, NULL, w->ram, VC_LOG_PROGRAM, true), 0);
	enter(w);
	for (unsigned rounds = 0; rounds < 3; rounds++) {
		ck_assert_uint_eq(dirty_pages(w, 0), 0);
		emu_ld32(c, 0x5000);
		ck_assert_uint_eq(dirty_pages(w, 0), 0);
		emu_st32(c, 0x5000, 1);
		emu_st32(c, 0x5004, 1);
		ck_assert_uint_eq(dirty_pages(w, 0x5000), 1);
		*(uint8_t *)emu_span(c, 0x7000, true, &bytes) = 1;
		ck_assert_uint_eq(dirty_pages(w, 0x7000), 1);
		*(uint8_t *)emu_rmw_ptr(c, 0x8000, 1) += 1;
		ck_assert_uint_eq(dirty_pages(w, 0x8000), 1);
		emu_st64(c, 0x9ffc, 1);
		ck_assert_uint_eq(dirty_pages(w, 0xa000), 2);
	}
	leave(w);
	ck_assert_int_eq(vc_mem_log_dirty(&w->mem, NULL, w->ram, VC_LOG_PROGRAM, false), 0);
	enter(w);
	emu_st32(c, 0x5000, 2);
	leave(w);
	world_free(w);
}
END_TEST

/* Page tables are guest memory, too: A and D bits are writes. */
START_TEST(dirty_tables)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct emu_vcpu *c = world_cpu(w, 0);

	paged32(w);
	ck_assert_int_eq(vc_mem_log_dirty(&w->mem, NULL, w->ram, VC_LOG_PROGRAM, true), 0);
	enter(w);
	emu_ld32(c, 0x5000);
	ck_assert_uint_eq(dirty_pages(w, VC_MIB(1) + 0x1000), 2);
	emu_ld32(c, 0x5000);
	ck_assert_uint_eq(dirty_pages(w, 0), 0);
	emu_st32(c, 0x5000, 1);
	ck_assert_uint_eq(dirty_pages(w, 0x5000), 2);
	leave(w);
	world_free(w);
}
END_TEST

START_TEST(slots_change)
{
	struct world *w = world_new(1, VCORE_UNHANDLED_IGNORE);
	struct emu_vcpu *c = world_cpu(w, 0);
	struct vc_slot *slot;

	flat32(c);
	for (unsigned i = 0; i < 3; i++) {
		enter(w);
		ck_assert_uint_eq(emu_ld32(c, NOBODY), UINT32_MAX);
		leave(w);
		ck_assert_int_eq(vc_mem_add(&w->mem, NULL, NOBODY, 0x1000, VCORE_MEM_RWX, NULL, &slot), 0);
		enter(w);
		ck_assert_uint_eq(emu_ld32(c, NOBODY), 0);
		emu_st32(c, NOBODY, 5);
		ck_assert_uint_eq(emu_ld32(c, NOBODY), 5);
		leave(w);
		vc_mem_remove(&w->mem, NULL, slot);
		ck_assert(atomic_load(&w->vcpu[0].requests) & VC_REQ_TLB);
	}
	world_free(w);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("emu_access");
	TCase *t = tcase_create("access");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, crossing);
	tcase_add_test(t, crossing_fault);
	tcase_add_test(t, wrap);
	tcase_add_test(t, alignment);
	tcase_add_test(t, implicit_supervisor);
	tcase_add_test(t, mmio);
	tcase_add_test(t, read_only_slot);
	tcase_add_test(t, restart);
	tcase_add_test(t, restart_elsewhere);
	tcase_add_test(t, code_pages);
	tcase_add_test(t, fetches);
	tcase_add_test(t, code_race);
	tcase_add_test(t, split_lock);
	tcase_add_test(t, dirty_log);
	tcase_add_test(t, dirty_tables);
	tcase_add_test(t, slots_change);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
