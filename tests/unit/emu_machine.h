/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A small machine for tests of backend emu's system part: 1 MiB of memory with descriptor tables, task segments and
 * stacks, one emulated vcpu with its real MMU, and a way to execute one instruction by its handler.
 */
#ifndef TEST_EMU_MACHINE_H
#define TEST_EMU_MACHINE_H

#include <check.h>
#include <stdlib.h>

#include "backend/emu/event.h"
#include "backend/emu/mmu/mmu.h"
#include "backend/emu/segment.h"
#include "backend/emu/system.h"

/* ---- where things are in guest memory ---- */
enum {
	PML4 = 0x1000,
	PDPT = 0x2000,
	PD = 0x3000,
	PT = 0x4000, /* one to one, 4 KiB pages, all of it user-accessible */
	GDT = 0x5000,
	IDT = 0x6000,
	TSS = 0x7000,  /* the current task's */
	TSS2 = 0x7400, /* another one */
	LDT_AT = 0x7800,
	STACK0 = 0x9000, /* tops of stacks */
	STACK3 = 0xb000,
	STACK_IST = 0xd000,
	STACK1 = 0xe000,
	DATA = 0xe800, /* scratch */
	CODE = 0x10000,
	HANDLER = 0x20000, /* of vector n: HANDLER + 16 * n */
	MEMORY = 0x100000,
};

/* ---- GDT ---- */
enum {
	CODE32 = 0x08,
	DATA0 = 0x10,
	UCODE32 = 0x1b,
	UDATA = 0x23,
	TSS_SEL = 0x28, /* and 0x30 in long mode */
	CODE64 = 0x38,
	UCODE64 = 0x43,
	CONF32 = 0x48,
	CONF64 = 0x50,
	LDT_SEL = 0x58 /* and 0x60 */,
	ABSENT = 0x68,
	DOWN = 0x70,
	CODE16 = 0x78,
	DATA16 = 0x80,
	GATE = 0x90 /* and 0x98 */,
	TSS2_SEL = 0xa0,
	TASK_GATE = 0xb0,
	EXEC_ONLY = 0xb8,
	READ_ONLY = 0xc0,
	CODE1 = 0xc9,
	DATA1 = 0xd1,
	UCODE16 = 0xdb,
	UDATA16 = 0xe3,
	ABSENT_CODE = 0xe8,
	CODE_LD = 0xf0,
	GDT_LIMIT = 0xff,
};

struct machine {
	struct vc_bvm vm;
	struct vc_bvcpu vcpu;
	struct vc_gate gate;
	struct vc_mem mem;
	struct vc_buses buses;
	struct vc_clock clock;
	struct emu_vcpu *c;
	uint8_t *ram;
	struct vcore_io port; /* what the device on all ports saw last; reads give 0x89abcdef */
	unsigned port_accesses;
};

static inline uint64_t descriptor(uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
	       (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
}
static inline uint64_t gate_descriptor(uint16_t selector, uint32_t offset, unsigned access, unsigned count)
{
	return (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)(count & 0xff) << 32 | (uint64_t)access << 40 |
	       (uint64_t)(offset >> 16) << 48;
}
static inline void poke(struct machine *m, uint32_t at, unsigned size, uint64_t value)
{
	memcpy(m->ram + at, &value, size);
}
static inline uint64_t peek(struct machine *m, uint32_t at, unsigned size)
{
	uint64_t value = 0;
	memcpy(&value, m->ram + at, size);
	return value;
}
static inline void set_desc(struct machine *m, uint16_t selector, uint64_t raw)
{
	poke(m, GDT + (selector & 0xfff8u), 8, raw);
}
static inline uint64_t get_desc(struct machine *m, uint16_t selector)
{
	return peek(m, GDT + (selector & 0xfff8u), 8);
}
/* Gate n of the IDT: 32-bit or, in long mode, 64-bit. */
void set_gate(struct machine *m, unsigned vector, uint16_t selector, unsigned access, unsigned ist);

struct machine *machine_new(void);
void machine_free(struct machine *m);
/* Modes, flat segments, stack at the top of the level's own. */
void enter_real(struct machine *m);
void enter_protected(struct machine *m, unsigned cpl);
void enter_v86(struct machine *m, unsigned iopl);
void enter_long(struct machine *m, unsigned cpl); /* 64-bit */
void enter_compat(struct machine *m, unsigned cpl);
/* Take a page out of the page tables (long mode). */
void unmap(struct machine *m, uint32_t at);

/* ---- executing ---- */
struct outcome {
	enum { RAN, RAISED, LEFT } what;
	unsigned vector;
	uint32_t error;
	bool has_error;
};
/* Decode the bytes in the current mode and run the handler; RIP advances as an engine would do it. */
struct outcome execute(struct machine *m, const uint8_t *bytes, unsigned length);
#define RUN(m, ...) execute(m, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
/* emu_seg_linear(); *linear is written when it does not raise. */
struct outcome seg_linear(struct machine *m, enum vc_sreg seg, uint64_t offset, unsigned size, enum vcore_access access,
                          uint64_t *linear);

#define ck_ran(o)                                                                                  \
	do {                                                                                           \
		const struct outcome ran_o = (o);                                                          \
		ck_assert_msg(ran_o.what == RAN, "raised vector %u error %#x", ran_o.vector, ran_o.error); \
	} while (0)
#define ck_raised(o, v, e)                                                                                            \
	do {                                                                                                              \
		const struct outcome raised_o = (o);                                                                          \
		ck_assert_msg(raised_o.what == RAISED && raised_o.vector == (unsigned)(v) && raised_o.error == (uint32_t)(e), \
		              "expected vector %u error %#x, got %s %u error %#x", (unsigned)(v), (uint32_t)(e),              \
		              raised_o.what == RAN ? "none," : "vector", raised_o.vector, raised_o.error);                    \
	} while (0)

/* The vcpu raises an exception by itself and it is delivered. */
bool raise_and_deliver(struct machine *m, const struct emu_exception *exc);

/* All of a program's tests; its exit status. */
int run_tests(const char *name, const TTest *const *tests, unsigned count, SFun setup, SFun teardown);

static inline uint64_t *gpr(struct machine *m, enum vc_gpr r)
{
	return &m->c->s.gpr[r];
}
static inline uint16_t sel(const struct machine *m, enum vc_sreg s)
{
	return m->c->s.seg[s].selector;
}

#endif
