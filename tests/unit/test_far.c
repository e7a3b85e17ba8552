/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Far jumps, calls and returns, call gates, task switches. */
#include "emu_machine.h"

static struct machine *m;

static void setup(void)
{
	m = machine_new();
}
static void teardown(void)
{
	machine_free(m);
}

#define LE32(v) (uint8_t)(v), (uint8_t)((v) >> 8), (uint8_t)((v) >> 16), (uint8_t)((v) >> 24)
#define LE16(v) (uint8_t)(v), (uint8_t)((v) >> 8)

static struct outcome jmp(uint16_t selector, uint32_t offset)
{
	return RUN(m, 0xea, LE32(offset), LE16(selector));
}
static struct outcome call(uint16_t selector, uint32_t offset)
{
	return RUN(m, 0x9a, LE32(offset), LE16(selector));
}
/* By the pointer at DATA, in 64-bit mode: m16:32, or m16:64 with REX.W. */
static struct outcome far_by_memory(bool is_call, bool wide, uint16_t selector, uint64_t offset)
{
	uint8_t modrm = is_call ? 0x1c : 0x2c;

	poke(m, DATA, 8, offset);
	poke(m, DATA + (wide ? 8 : 4), 2, selector);
	if (wide)
		return RUN(m, 0x48, 0xff, modrm, 0x25, LE32(DATA));
	return RUN(m, 0xff, modrm, 0x25, LE32(DATA));
}
static uint64_t stack(unsigned at, unsigned size)
{
	return peek(m, (uint32_t)*gpr(m, VC_RSP) + at, size);
}

/* ---- real and virtual-8086 mode ---- */

START_TEST(real_mode)
{
	enter_real(m);
	ck_ran(RUN(m, 0xea, 0x34, 0x12, 0x00, 0xf0));
	ck_assert_uint_eq(m->c->s.rip, 0x1234);
	ck_assert_uint_eq(m->c->s.seg[VC_CS].base, 0xf0000);
	ck_ran(RUN(m, 0x9a, 0x78, 0x56, 0x00, 0x20));
	ck_assert_uint_eq(stack(0, 2), 0x1239);
	ck_assert_uint_eq(stack(2, 2), 0xf000);
	ck_assert_uint_eq(sel(m, VC_CS), 0x2000);
	ck_ran(RUN(m, 0xca, 0x02, 0x00)); /* RETF 2 */
	ck_assert_uint_eq(m->c->s.rip, 0x1239);
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK0 + 2);
	/* the limit of CS holds */
	ck_raised(RUN(m, 0x66, 0xea, LE32(0x10000), 0x00, 0xf0), VC_GP, 0);
	/* and stays as protected mode left it */
	m->c->s.seg[VC_CS].limit = 0xffffffff;
	ck_ran(RUN(m, 0x66, 0xea, LE32(0x10000), 0x00, 0xf0));
	ck_assert_uint_eq(m->c->s.seg[VC_CS].limit, 0xffffffff);

	enter_v86(m, 0);
	ck_ran(RUN(m, 0xea, 0x34, 0x12, 0x00, 0xf0));
	ck_assert_uint_eq(m->c->s.seg[VC_CS].attr, 0xf3);
	ck_assert_uint_eq(m->c->cpl, 3);
}
END_TEST

/* ---- protected mode ---- */

START_TEST(direct_targets)
{
	static const struct {
		const char *what;
		unsigned cpl;
		uint16_t selector;
		uint32_t offset;
		unsigned fault;
		uint32_t error;
		uint16_t cs;
	} row[] = {
	    {"same level", 0, CODE32, 0x1234, 0, 0, CODE32},
	    {"RPL above CPL", 0, CODE32 | 3, 0, VC_GP, CODE32, 0},
	    {"RPL below CPL", 3, UCODE32 & ~3, 0, 0, 0, UCODE32},
	    {"inner code", 3, CODE32, 0, VC_GP, CODE32, 0},
	    {"outer code", 0, UCODE32, 0, VC_GP, UCODE32 & ~3, 0},
	    {"conforming from outside", 3, CONF32, 0, 0, 0, CONF32 | 3},
	    {"conforming, any RPL", 0, CONF32 | 3, 0, 0, 0, CONF32},
	    {"null", 0, 3, 0, VC_GP, 0, 0},
	    {"outside the GDT", 0, 0x100, 0, VC_GP, 0x100, 0},
	    {"empty LDT", 0, 0x0c, 0, VC_GP, 0x0c, 0},
	    {"data", 0, DATA0, 0, VC_GP, DATA0, 0},
	    {"absent", 0, ABSENT_CODE, 0, VC_NP, ABSENT_CODE, 0},
	    {"execute-only", 0, EXEC_ONLY, 0, 0, 0, EXEC_ONLY},
	    {"beyond the limit", 0, CODE16, 0x10000, VC_GP, 0, 0},
	    {"at the limit", 0, CODE16, 0xffff, 0, 0, CODE16},
	    {"L means nothing outside long mode", 0, CODE64, 0, 0, 0, CODE64},
	    {"an LDT", 0, LDT_SEL, 0, VC_GP, LDT_SEL, 0},
	    {"busy TSS", 0, TSS_SEL, 0, VC_GP, TSS_SEL, 0},
	};

	for (unsigned n = 0; n < VC_ARRAY_SIZE(row) * 2; n++) {
		unsigned r = n / 2;
		struct outcome o;

		enter_protected(m, row[r].cpl);
		o = n & 1 ? call(row[r].selector, row[r].offset) : jmp(row[r].selector, row[r].offset);
		ck_assert_msg(row[r].fault ? o.what == RAISED && o.vector == row[r].fault && o.error == row[r].error
		                           : o.what == RAN,
		              "%s: vector %u error %#x", row[r].what, o.vector, o.error);
		if (row[r].fault) {
			ck_assert_uint_eq(m->c->s.rip, CODE);
			continue;
		}
		ck_assert_uint_eq(sel(m, VC_CS), row[r].cs);
		ck_assert_uint_eq(m->c->s.rip, row[r].offset);
		ck_assert_uint_eq(m->c->cpl, row[r].cpl);
		if (n & 1) {
			ck_assert_uint_eq(stack(0, 4), CODE + 7);
			ck_assert_uint_eq(stack(4, 4), row[r].cpl ? UCODE32 : CODE32);
		}
	}
}
END_TEST

START_TEST(accessed_bit)
{
	enter_protected(m, 0);
	set_desc(m, CODE1, descriptor(0, 0xfffff, 0x9a, 0xc));
	ck_ran(jmp(CODE1 & ~3, 0x10));
	ck_assert_uint_eq(get_desc(m, CODE1) >> 40 & 1, 1);
	ck_assert_uint_eq(m->c->s.seg[VC_CS].attr & 1, 1);
}
END_TEST

START_TEST(call_needs_stack)
{
	enter_protected(m, 0);
	emu_segment_fill(&m->c->s.seg[VC_SS], DATA16, descriptor(0, 0xfff, 0x93, 0x4));
	emu_mode_changed(m->c);
	*gpr(m, VC_RSP) = 7;
	ck_raised(call(CODE32, 0), VC_SSF, 0);
	*gpr(m, VC_RSP) = 8;
	ck_ran(call(CODE32, 0));
}
END_TEST

START_TEST(call_gates)
{
	static const struct {
		const char *what;
		unsigned cpl;
		uint16_t selector; /* the CALL's */
		uint16_t target;
		uint8_t access;
		bool is_call;
		unsigned fault;
		uint32_t error;
		uint16_t cs;
	} row[] = {
	    {"inwards", 3, GATE | 3, CODE32, 0xec, true, 0, 0, CODE32},
	    {"JMP cannot go inwards", 3, GATE | 3, CODE32, 0xec, false, VC_GP, CODE32, 0},
	    {"JMP, same level", 3, GATE, UCODE32, 0xec, false, 0, 0, UCODE32},
	    {"JMP to conforming", 3, GATE, CONF32, 0xec, false, 0, 0, CONF32 | 3},
	    {"CALL to conforming stays", 3, GATE, CONF32, 0xec, true, 0, 0, CONF32 | 3},
	    {"gate DPL below CPL", 3, GATE, CODE32, 0x8c, true, VC_GP, GATE, 0},
	    {"gate DPL below RPL", 0, GATE | 3, CODE32, 0x8c, true, VC_GP, GATE, 0},
	    {"gate absent", 0, GATE, CODE32, 0x6c, true, VC_NP, GATE, 0},
	    {"target null", 0, GATE, 0, 0xec, true, VC_GP, 0, 0},
	    {"target outside", 0, GATE, 0x100, 0xec, true, VC_GP, 0x100, 0},
	    {"target is data", 0, GATE, DATA0, 0xec, true, VC_GP, DATA0, 0},
	    {"outer target", 0, GATE, UCODE32, 0xec, true, VC_GP, UCODE32 & ~3, 0},
	    {"target absent", 0, GATE, ABSENT_CODE, 0xec, true, VC_NP, ABSENT_CODE, 0},
	    {"to ring 1", 3, GATE, CODE1, 0xec, true, 0, 0, CODE1},
	};

	for (unsigned n = 0; n < VC_ARRAY_SIZE(row); n++) {
		struct outcome o;

		enter_protected(m, row[n].cpl);
		set_desc(m, GATE, gate_descriptor(row[n].target, 0x54321, row[n].access, 0));
		o = row[n].is_call ? call(row[n].selector, 0xdead) : jmp(row[n].selector, 0xdead);
		ck_assert_msg(row[n].fault ? o.what == RAISED && o.vector == row[n].fault && o.error == row[n].error
		                           : o.what == RAN,
		              "%s: vector %u error %#x", row[n].what, o.vector, o.error);
		if (!row[n].fault) {
			ck_assert_uint_eq(m->c->s.rip, 0x54321);
			ck_assert_uint_eq(sel(m, VC_CS), row[n].cs);
			ck_assert_uint_eq(m->c->cpl, row[n].cs & 3);
		}
	}
}
END_TEST

START_TEST(call_gate_parameters)
{
	enter_protected(m, 3);
	set_desc(m, GATE, gate_descriptor(CODE32, 0x54321, 0xec, 2));
	poke(m, STACK3 - 8, 4, 0x11111111);
	poke(m, STACK3 - 4, 4, 0x22222222);
	*gpr(m, VC_RSP) = STACK3 - 8;
	ck_ran(call(GATE | 3, 0));
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK0 - 24);
	ck_assert_uint_eq(stack(0, 4), CODE + 7);
	ck_assert_uint_eq(stack(4, 4), UCODE32);
	ck_assert_uint_eq(stack(8, 4), 0x11111111);
	ck_assert_uint_eq(stack(12, 4), 0x22222222);
	ck_assert_uint_eq(stack(16, 4), STACK3 - 8);
	ck_assert_uint_eq(stack(20, 4), UDATA);
	ck_assert_uint_eq(sel(m, VC_SS), DATA0);
	/* RETF 8 takes them off both stacks, and ring 0's segments away */
	emu_segment_fill(&m->c->s.seg[VC_GS], DATA0, get_desc(m, DATA0));
	ck_ran(RUN(m, 0xca, 0x08, 0x00));
	ck_assert_uint_eq(m->c->cpl, 3);
	ck_assert_uint_eq(m->c->s.rip, CODE + 7);
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK3);
	ck_assert_uint_eq(sel(m, VC_GS), 0);
	ck_assert_uint_eq(sel(m, VC_DS), UDATA);

	/* 16-bit gate: words */
	enter_protected(m, 3);
	set_desc(m, GATE, gate_descriptor(CODE32, 0x54321, 0xe4, 1));
	*gpr(m, VC_RSP) = STACK3 - 2;
	poke(m, STACK3 - 2, 2, 0x7777);
	ck_ran(call(GATE | 3, 0));
	ck_assert_uint_eq(m->c->s.rip, 0x4321);
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK0 - 10);
	ck_assert_uint_eq(stack(4, 2), 0x7777);
	ck_assert_uint_eq(stack(6, 2), STACK3 - 2);
}
END_TEST

START_TEST(far_return_faults)
{
	static const struct {
		const char *what;
		uint16_t cs, ss;
		uint32_t eip;
		unsigned fault;
		uint32_t error;
	} row[] = {
	    {"outwards", UCODE32, UDATA, 0x1000, 0, 0},
	    {"same level", CODE32, 0, 0x1000, 0, 0},
	    {"null CS", 0, UDATA, 0x1000, VC_GP, 0},
	    {"CS outside", 0x103, UDATA, 0x1000, VC_GP, 0x100},
	    {"CS is data", UDATA, UDATA, 0x1000, VC_GP, UDATA & ~3},
	    {"DPL differs from RPL", CODE32 | 3, UDATA, 0x1000, VC_GP, CODE32},
	    {"conforming, outwards", CONF32 | 3, UDATA, 0x1000, 0, 0},
	    {"absent", ABSENT_CODE, UDATA, 0x1000, VC_NP, ABSENT_CODE},
	    {"null SS", UCODE32, 3, 0x1000, VC_GP, 0},
	    {"SS of another level", UCODE32, DATA0, 0x1000, VC_GP, DATA0},
	    {"SS with another RPL", UCODE32, UDATA & ~3, 0x1000, VC_GP, UDATA & ~3},
	    {"beyond the limit", UCODE16, UDATA, 0x10000, VC_GP, 0},
	};

	for (unsigned n = 0; n < VC_ARRAY_SIZE(row); n++) {
		struct outcome o;

		enter_protected(m, 0);
		*gpr(m, VC_RSP) = STACK0 - 16;
		poke(m, STACK0 - 16, 4, row[n].eip);
		poke(m, STACK0 - 12, 4, row[n].cs);
		poke(m, STACK0 - 8, 4, STACK3);
		poke(m, STACK0 - 4, 4, row[n].ss);
		o = RUN(m, 0xcb);
		ck_assert_msg(row[n].fault ? o.what == RAISED && o.vector == row[n].fault && o.error == row[n].error
		                           : o.what == RAN,
		              "%s: vector %u error %#x", row[n].what, o.vector, o.error);
		ck_assert_uint_eq(*gpr(m, VC_RSP), row[n].fault ? STACK0 - 16 : row[n].cs & 3 ? STACK3 : STACK0 - 8);
	}
	/* inwards is never possible */
	enter_protected(m, 3);
	*gpr(m, VC_RSP) = STACK3 - 16;
	poke(m, STACK3 - 16, 4, 0x1000);
	poke(m, STACK3 - 12, 4, CODE32);
	ck_raised(RUN(m, 0xcb), VC_GP, CODE32);
}
END_TEST

/* ---- long mode ---- */

START_TEST(long_mode_transfers)
{
	enter_long(m, 0);
	ck_ran(far_by_memory(false, false, CODE32, 0x2000));
	ck_assert_uint_eq(m->c->mode, EMU_MODE_32);
	ck_ran(jmp(CODE64, 0x3000));
	ck_assert_uint_eq(m->c->mode, EMU_MODE_64);
	ck_ran(far_by_memory(false, true, CODE64, 0x3000));
	ck_raised(far_by_memory(false, true, CODE64, 0x800000000000), VC_GP, 0);
	ck_raised(far_by_memory(false, true, CODE32, 0x100000000), VC_GP, 0);
	ck_raised(far_by_memory(false, false, CODE_LD, 0), VC_GP, CODE_LD);
	ck_raised(far_by_memory(false, false, TSS2_SEL, 0), VC_GP, TSS2_SEL);
	ck_raised(far_by_memory(false, false, TASK_GATE, 0), VC_GP, TASK_GATE);
	m->c->s.rip = CODE;
	ck_ran(far_by_memory(true, true, CODE64, 0x3000));
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK0 - 16);
	ck_assert_uint_eq(stack(0, 8), CODE + 8);
	ck_ran(RUN(m, 0x48, 0xcb));
	ck_assert_uint_eq(m->c->s.rip, CODE + 8);
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK0);
}
END_TEST

START_TEST(long_mode_call_gate)
{
	enter_long(m, 3);
	set_desc(m, GATE, gate_descriptor(CODE64, 0x54321, 0xec, 0));
	set_desc(m, GATE + 8, 0);
	ck_ran(far_by_memory(true, false, GATE | 3, 0));
	ck_assert_uint_eq(m->c->cpl, 0);
	ck_assert_uint_eq(m->c->s.rip, 0x54321);
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK0 - 32);
	ck_assert_uint_eq(stack(0, 8), CODE + 7);
	ck_assert_uint_eq(stack(8, 8), UCODE64);
	ck_assert_uint_eq(stack(16, 8), STACK3);
	ck_assert_uint_eq(stack(24, 8), UDATA);
	ck_assert_uint_eq(sel(m, VC_SS), 0);
	ck_ran(RUN(m, 0x48, 0xcb));
	ck_assert_uint_eq(m->c->cpl, 3);
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK3);
	/* bad ones */
	set_desc(m, GATE + 8, 0x0100ull << 32); /* type of the upper half */
	ck_raised(far_by_memory(true, false, GATE | 3, 0), VC_GP, GATE);
	set_desc(m, GATE + 8, 0x8000); /* not canonical */
	ck_raised(far_by_memory(true, false, GATE | 3, 0), VC_GP, 0);
	set_desc(m, GATE + 8, 0);
	set_desc(m, GATE, gate_descriptor(CODE32, 0x54321, 0xec, 0));
	ck_raised(far_by_memory(true, false, GATE | 3, 0), VC_GP, CODE32);
	set_desc(m, GATE, gate_descriptor(CODE64, 0x54321, 0xe4, 0));
	ck_raised(far_by_memory(true, false, GATE | 3, 0), VC_GP, GATE);
}
END_TEST

/* ---- tasks ---- */

static void fill_tss32(uint32_t at, uint16_t cs, uint16_t ss, uint32_t eip, uint32_t eflags)
{
	memset(m->ram + at, 0, 0x68);
	poke(m, at + 0x20, 4, eip);
	poke(m, at + 0x24, 4, eflags);
	for (unsigned n = 0; n < 8; n++)
		poke(m, at + 0x28 + 4 * n, 4, 0x01010101 * (n + 1));
	poke(m, at + 0x38, 4, STACK1);
	poke(m, at + 0x48, 2, ss);
	poke(m, at + 0x4c, 2, cs);
	poke(m, at + 0x50, 2, ss);
	poke(m, at + 0x54, 2, ss);
}

static unsigned type_of(uint16_t selector)
{
	return get_desc(m, selector) >> 40 & 15;
}

static void task_machine(void)
{
	enter_protected(m, 0);
	fill_tss32(TSS2, CODE32, DATA0, 0x5000, 2);
	set_desc(m, TSS2_SEL, descriptor(TSS2, 0x67, 0x89, 0));
	set_desc(m, TASK_GATE, gate_descriptor(TSS2_SEL, 0, 0xe5, 0));
	*gpr(m, VC_RBX) = 0xb0b0b0b0;
}

START_TEST(task_jmp)
{
	task_machine();
	m->c->s.dr7 = 0x5ff;
	ck_ran(jmp(TSS2_SEL, 0x1234));
	ck_assert_uint_eq(m->c->s.rip, 0x5000);
	ck_assert_uint_eq(*gpr(m, VC_RDX), 0x03030303);
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK1);
	ck_assert_uint_eq(sel(m, VC_CS), CODE32);
	ck_assert_uint_eq(sel(m, VC_DS), DATA0);
	ck_assert_uint_eq(m->c->s.seg[VC_FS].unusable, 1);
	ck_assert_uint_eq(sel(m, VC_FS), 0);
	ck_assert_uint_eq(m->c->s.tr.selector, TSS2_SEL);
	ck_assert_uint_eq(m->c->s.tr.base, TSS2);
	ck_assert(m->c->s.cr0 & VC_CR0_TS);
	ck_assert_uint_eq(m->c->s.dr7, 0x5ff & ~0x155u);
	ck_assert_uint_eq(type_of(TSS2_SEL), 0xb);
	ck_assert_uint_eq(type_of(TSS_SEL), 0x9);
	ck_assert_uint_eq(emu_rflags(m->c), 2);
	ck_assert_uint_eq(peek(m, TSS + 0x20, 4), CODE + 7);
	ck_assert_uint_eq(peek(m, TSS + 0x34, 4), 0xb0b0b0b0);
	ck_assert_uint_eq(peek(m, TSS + 0x4c, 2), CODE32);
	/* and back */
	ck_ran(jmp(TSS_SEL, 0));
	ck_assert_uint_eq(m->c->s.rip, CODE + 7);
	ck_assert_uint_eq(*gpr(m, VC_RBX), 0xb0b0b0b0);
}
END_TEST

START_TEST(task_call_and_return)
{
	task_machine();
	m->c->aflags = VC_FLAG_ZF;
	ck_ran(call(TASK_GATE, 0));
	ck_assert_uint_eq(emu_rflags(m->c), 2 | VC_FLAG_NT);
	ck_assert_uint_eq(peek(m, TSS2, 2), TSS_SEL);
	ck_assert_uint_eq(type_of(TSS2_SEL), 0xb);
	ck_assert_uint_eq(type_of(TSS_SEL), 0xb);
	ck_ran(RUN(m, 0xcf)); /* IRET with NT */
	ck_assert_uint_eq(m->c->s.rip, CODE + 7);
	ck_assert_uint_eq(emu_rflags(m->c), 2 | VC_FLAG_ZF);
	ck_assert_uint_eq(m->c->s.tr.selector, TSS_SEL);
	ck_assert_uint_eq(type_of(TSS2_SEL), 0x9);
	ck_assert_uint_eq(type_of(TSS_SEL), 0xb);
	ck_assert_uint_eq(peek(m, TSS2 + 0x24, 4) & VC_FLAG_NT, 0);
	ck_assert_uint_eq(peek(m, TSS2 + 0x20, 4), 0x5001);
	/* the link must name a busy TSS */
	m->c->s.rflags |= VC_FLAG_NT;
	poke(m, TSS, 2, TSS2_SEL);
	ck_raised(RUN(m, 0xcf), VC_TS, TSS2_SEL);
	poke(m, TSS, 2, 4);
	ck_raised(RUN(m, 0xcf), VC_TS, 4);
}
END_TEST

/* An exception through a task gate: the error code is pushed on the new stack. */
START_TEST(task_by_exception)
{
	task_machine();
	poke(m, IDT + 8 * VC_DF, 8, gate_descriptor(TSS2_SEL, 0, 0x85, 0));
	ck_assert(raise_and_deliver(m, &(struct emu_exception){.vector = VC_DF, .has_error = true}));
	ck_assert_uint_eq(m->c->s.rip, 0x5000);
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK1 - 4);
	ck_assert_uint_eq(stack(0, 4), 0);
	ck_assert_uint_eq(peek(m, TSS + 0x20, 4), CODE);
	ck_assert_uint_eq(emu_rflags(m->c), 2 | VC_FLAG_NT);
	ck_assert_uint_eq(m->c->s.tr.selector, TSS2_SEL);

	/* external interrupt: none; its faults carry EXT */
	task_machine();
	set_desc(m, TSS_SEL, descriptor(TSS, 0x3ff, 0x8b, 0));
	poke(m, IDT + 8 * 0x30, 8, gate_descriptor(TSS2_SEL, 0, 0x85, 0));
	set_gate(m, VC_TS, CODE32, 0x8e, 0);
	poke(m, TSS2 + 0x54, 2, EXEC_ONLY); /* DS cannot be that */
	ck_assert(emu_deliver_interrupt(m->c, 0x30));
	/* #TS in the context of the new task */
	ck_assert_uint_eq(m->c->s.tr.selector, TSS2_SEL);
	ck_assert_uint_eq(m->c->s.rip, HANDLER + 16 * VC_TS);
}
END_TEST

START_TEST(task_faults_before_the_switch)
{
	task_machine();
	set_desc(m, TSS2_SEL, descriptor(TSS2, 0x66, 0x89, 0));
	ck_raised(jmp(TSS2_SEL, 0), VC_TS, TSS2_SEL);
	set_desc(m, TSS2_SEL, descriptor(TSS2, 0x67, 0x09, 0));
	ck_raised(jmp(TSS2_SEL, 0), VC_NP, TSS2_SEL);
	set_desc(m, TSS2_SEL, descriptor(TSS2, 0x67, 0x8b, 0));
	ck_raised(jmp(TASK_GATE, 0), VC_GP, TSS2_SEL);
	set_desc(m, TASK_GATE, gate_descriptor(TSS2_SEL, 0, 0x05, 0));
	ck_raised(jmp(TASK_GATE, 0), VC_NP, TASK_GATE);
	set_desc(m, TASK_GATE, gate_descriptor(TSS2_SEL | 4, 0, 0x85, 0));
	ck_raised(jmp(TASK_GATE, 0), VC_GP, TSS2_SEL | 4);
	ck_assert_uint_eq(m->c->s.rip, CODE);
	ck_assert_uint_eq(m->c->s.tr.selector, TSS_SEL);
	enter_protected(m, 3);
	set_desc(m, TSS2_SEL, descriptor(TSS2, 0x67, 0x89, 0));
	ck_raised(jmp(TSS2_SEL, 0), VC_GP, TSS2_SEL);
}
END_TEST

START_TEST(task_faults_after_the_switch)
{
	static const struct {
		unsigned at;
		uint16_t value;
		unsigned fault;
		uint32_t error;
	} row[] = {
	    {0x60, ABSENT, VC_TS, ABSENT},
	    {0x60, 4, VC_TS, 4},
	    {0x4c, 0, VC_TS, 0},
	    {0x4c, DATA0, VC_TS, DATA0},
	    {0x4c, ABSENT_CODE, VC_NP, ABSENT_CODE},
	    {0x50, 0, VC_TS, 0},
	    {0x50, UDATA, VC_TS, UDATA & ~3},
	    {0x50, ABSENT, VC_SSF, ABSENT},
	    {0x48, EXEC_ONLY, VC_TS, EXEC_ONLY},
	    {0x5c, ABSENT, VC_NP, ABSENT},
	    {0x58, 0x100, VC_TS, 0x100},
	};

	for (unsigned n = 0; n < VC_ARRAY_SIZE(row); n++) {
		task_machine();
		poke(m, TSS2 + row[n].at, 2, row[n].value);
		ck_raised(jmp(TSS2_SEL, 0), row[n].fault, row[n].error);
		ck_assert_uint_eq(m->c->s.rip, 0x5000);
		ck_assert_uint_eq(m->c->s.tr.selector, TSS2_SEL);
		set_desc(m, TSS_SEL, descriptor(TSS, 0x3ff, 0x8b, 0));
	}
}
END_TEST

START_TEST(task_trap_bit_and_v86)
{
	task_machine();
	poke(m, TSS2 + 0x64, 2, 1);
	ck_raised(jmp(TSS2_SEL, 0), VC_DB, 0);
	ck_assert(m->c->exc.trap);
	ck_assert_uint_eq(m->c->exc.dr6, EMU_DR6_BT);
	ck_assert_uint_eq(m->c->s.rip, 0x5000);

	task_machine();
	fill_tss32(TSS2, 0x1234, 0x100, 0x5678, 2 | VC_FLAG_VM | VC_FLAG_IOPL);
	ck_ran(jmp(TSS2_SEL, 0));
	ck_assert_uint_eq(m->c->s.seg[VC_CS].base, 0x12340);
	ck_assert_uint_eq(m->c->cpl, 3);
	ck_assert(!m->c->protected_mode);
}
END_TEST

START_TEST(task_16_bit)
{
	task_machine();
	set_desc(m, TSS2_SEL, descriptor(TSS2, 0x2b, 0x81, 0));
	memset(m->ram + TSS2, 0, 0x68);
	poke(m, TSS2 + 0x0e, 2, 0x6000);
	poke(m, TSS2 + 0x10, 2, 2);
	poke(m, TSS2 + 0x12, 2, 0xaaaa);
	poke(m, TSS2 + 0x1a, 2, 0x9000);
	poke(m, TSS2 + 0x24, 2, CODE16);
	poke(m, TSS2 + 0x26, 2, DATA16);
	ck_ran(call(TSS2_SEL, 0));
	ck_assert_uint_eq(m->c->s.rip, 0x6000);
	ck_assert_uint_eq(*gpr(m, VC_RAX) & 0xffff, 0xaaaa);
	ck_assert_uint_eq(m->c->mode, EMU_MODE_16);
	ck_assert_uint_eq(type_of(TSS2_SEL), 3);
	ck_assert_uint_eq(peek(m, TSS2, 2), TSS_SEL);
	ck_ran(RUN(m, 0xcf));
	ck_assert_uint_eq(m->c->s.rip, CODE + 7);
	ck_assert_uint_eq(peek(m, TSS2 + 0x0e, 2), 0x6001);
	ck_assert_uint_eq(type_of(TSS2_SEL), 1);
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
	    real_mode,
	    direct_targets,
	    accessed_bit,
	    call_needs_stack,
	    call_gates,
	    call_gate_parameters,
	    far_return_faults,
	    long_mode_transfers,
	    long_mode_call_gate,
	    task_jmp,
	    task_call_and_return,
	    task_by_exception,
	    task_faults_before_the_switch,
	    task_faults_after_the_switch,
	    task_trap_bit_and_v86,
	    task_16_bit,
	};

	return run_tests("far", tests, VC_ARRAY_SIZE(tests), setup, teardown);
}
