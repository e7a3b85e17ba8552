/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Delivery of exceptions and interrupts in every mode, IRET, double and triple faults. */
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

static uint64_t stack32(unsigned slot)
{
	return peek(m, (uint32_t)*gpr(m, VC_RSP) + 4 * slot, 4);
}
static uint64_t stack64(unsigned slot)
{
	return peek(m, (uint32_t)*gpr(m, VC_RSP) + 8 * slot, 8);
}
static uint32_t handler(unsigned vector)
{
	return HANDLER + 16 * vector;
}

#define EXCEPTION(v, ...) (&(struct emu_exception){.vector = v, __VA_ARGS__})

/* ---- real mode ---- */

START_TEST(real_mode_interrupt)
{
	enter_real(m);
	poke(m, 0x80 * 4, 4, 0x20001234);
	m->c->s.rflags |= VC_FLAG_IF | VC_FLAG_TF | VC_FLAG_AC;
	m->c->aflags = VC_FLAG_CF;
	ck_ran(RUN(m, 0xcd, 0x80));
	ck_assert_uint_eq(m->c->s.rip, 0x1234);
	ck_assert_uint_eq(sel(m, VC_CS), 0x2000);
	ck_assert_uint_eq(m->c->s.seg[VC_CS].base, 0x20000);
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK0 - 6);
	ck_assert_uint_eq(peek(m, STACK0 - 6, 2), 0x102);
	ck_assert_uint_eq(peek(m, STACK0 - 4, 2), CODE >> 4);
	ck_assert_uint_eq(peek(m, STACK0 - 2, 2), 0x303);
	ck_assert_uint_eq(emu_rflags(m->c), 2 | VC_FLAG_CF);
	ck_ran(RUN(m, 0xcf)); /* IRET */
	ck_assert_uint_eq(m->c->s.rip, 0x102);
	ck_assert_uint_eq(emu_rflags(m->c), 0x303);
	ck_assert_uint_eq(sel(m, VC_CS), CODE >> 4);
}
END_TEST

START_TEST(real_mode_exceptions_have_no_error_code)
{
	enter_real(m);
	poke(m, VC_GP * 4, 4, 0x00005678);
	ck_assert(raise_and_deliver(m, EXCEPTION(VC_GP, .has_error = true, .error = 4)));
	ck_assert_uint_eq(m->c->s.rip, 0x5678);
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK0 - 6);
	ck_assert_uint_eq(peek(m, STACK0 - 6, 2), 0x100); /* the fault's own instruction */
}
END_TEST

/* An IVT too short for the vector: #GP, then #DF, then the end. */
START_TEST(real_mode_short_table)
{
	struct outcome o;

	enter_real(m);
	m->c->s.idtr.limit = 4 * 0x80 + 2;
	o = RUN(m, 0xcd, 0x80);
	ck_raised(o, VC_GP, 0x402);
	m->c->s.idtr.limit = 4 * VC_DF + 3;
	poke(m, VC_DF * 4, 4, 0x0000abcd);
	ck_assert(raise_and_deliver(m, EXCEPTION(VC_GP, .has_error = true)));
	ck_assert_uint_eq(m->c->s.rip, 0xabcd);
	m->c->s.idtr.limit = 4 * VC_UD + 3;
	ck_assert(!raise_and_deliver(m, EXCEPTION(VC_GP, .has_error = true)));
}
END_TEST

/* ---- protected mode ---- */

START_TEST(same_privilege_32)
{
	enter_protected(m, 0);
	set_gate(m, 0x30, CODE32, 0x8e, 0);  /* interrupt gate */
	set_gate(m, VC_GP, CODE32, 0x8f, 0); /* trap gate */
	m->c->s.rflags |= VC_FLAG_IF | VC_FLAG_NT | VC_FLAG_TF;
	ck_assert(emu_deliver_interrupt(m->c, 0x30));
	ck_assert_uint_eq(m->c->s.rip, handler(0x30));
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK0 - 12);
	ck_assert_uint_eq(stack32(0), CODE);
	ck_assert_uint_eq(stack32(1), CODE32);
	ck_assert_uint_eq(stack32(2), 0x4302);
	ck_assert_uint_eq(emu_rflags(m->c), 2);

	m->c->s.rflags |= VC_FLAG_IF;
	ck_assert(raise_and_deliver(m, EXCEPTION(VC_GP, .has_error = true, .error = 0x18)));
	ck_assert_uint_eq(stack32(0), 0x18);
	ck_assert_uint_eq(stack32(3), 2 | VC_FLAG_IF | VC_FLAG_RF); /* a fault saves RF */
	ck_assert_uint_eq(emu_rflags(m->c), 2 | VC_FLAG_IF);        /* a trap gate leaves IF */
}
END_TEST

START_TEST(inner_privilege_32)
{
	enter_protected(m, 3);
	set_gate(m, 0x80, CODE32, 0xee, 0);
	m->c->s.rflags |= VC_FLAG_IF;
	ck_ran(RUN(m, 0xcd, 0x80));
	ck_assert_uint_eq(m->c->cpl, 0);
	ck_assert_uint_eq(m->c->s.rip, handler(0x80));
	ck_assert_uint_eq(sel(m, VC_SS), DATA0);
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK0 - 20);
	ck_assert_uint_eq(stack32(0), CODE + 2);
	ck_assert_uint_eq(stack32(1), UCODE32);
	ck_assert_uint_eq(stack32(2), 0x202);
	ck_assert_uint_eq(stack32(3), STACK3);
	ck_assert_uint_eq(stack32(4), UDATA);
	/* and back: DS of ring 0 must not leak out */
	ck_ran(RUN(m, 0x8e, 0xd8)); /* MOV DS, AX = 0 */
	emu_segment_fill(&m->c->s.seg[VC_ES], DATA0, get_desc(m, DATA0));
	ck_ran(RUN(m, 0xcf));
	ck_assert_uint_eq(m->c->cpl, 3);
	ck_assert_uint_eq(m->c->s.rip, CODE + 2);
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK3);
	ck_assert_uint_eq(sel(m, VC_ES), 0);
	ck_assert_uint_eq(m->c->s.seg[VC_ES].unusable, 1);
	ck_assert_uint_eq(sel(m, VC_FS), UDATA);
	ck_assert_uint_eq(emu_rflags(m->c), 0x202);
}
END_TEST

/* Ring 3 to a 16-bit interrupt gate: ten bytes on the inner stack. */
START_TEST(inner_privilege_16_bit_gate)
{
	enter_protected(m, 3);
	poke(m, IDT + 8 * 0x21, 8, gate_descriptor(CODE32, 0x4321, 0xe6, 0));
	m->c->s.rip = 0x12345;
	ck_ran(RUN(m, 0xcd, 0x21));
	ck_assert_uint_eq(m->c->s.rip, 0x4321);
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK0 - 10);
	ck_assert_uint_eq(peek(m, STACK0 - 10, 2), 0x2347);
	ck_assert_uint_eq(peek(m, STACK0 - 8, 2), UCODE32);
	ck_assert_uint_eq(peek(m, STACK0 - 6, 2), 2);
	ck_assert_uint_eq(peek(m, STACK0 - 4, 2), STACK3);
	ck_assert_uint_eq(peek(m, STACK0 - 2, 2), UDATA);
	ck_ran(RUN(m, 0x66, 0xcf)); /* IRET, 16-bit */
	ck_assert_uint_eq(m->c->s.rip, 0x2347);
	ck_assert_uint_eq(sel(m, VC_CS), UCODE32);
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK3);
}
END_TEST

/* Return to a 16-bit stack segment changes only SP. */
START_TEST(iret_to_16_bit_stack)
{
	enter_protected(m, 0);
	*gpr(m, VC_RSP) = STACK0 - 20;
	poke(m, STACK0 - 20, 4, 0x1000);
	poke(m, STACK0 - 16, 4, UCODE16);
	poke(m, STACK0 - 12, 4, 2);
	poke(m, STACK0 - 8, 4, 0x12345678);
	poke(m, STACK0 - 4, 4, UDATA16);
	ck_ran(RUN(m, 0xcf));
	ck_assert_uint_eq(*gpr(m, VC_RSP) & 0xffff, 0x5678);
	ck_assert_uint_eq(m->c->mode, EMU_MODE_16);
	ck_assert_uint_eq(m->c->stack_size, 2);
}
END_TEST

START_TEST(faults_of_idt_delivery)
{
	static const struct {
		const char *what;
		unsigned cpl, vector;
		uint16_t selector;
		uint8_t access;
		unsigned fault;
		uint32_t error;
	} row[] = {
	    {"works", 3, 0x40, CODE32, 0xee, 0, 0},
	    {"beyond the limit", 0, 0x41, CODE32, 0x8e, VC_GP, 0x41 * 8 + 2},
	    {"gate DPL below CPL", 3, 0x40, CODE32, 0x8e, VC_GP, 0x202},
	    {"gate absent", 3, 0x40, CODE32, 0x6e, VC_NP, 0x202},
	    {"DPL goes before absence", 3, 0x40, CODE32, 0x0e, VC_GP, 0x202},
	    {"not a gate", 3, 0x40, CODE32, 0xe9, VC_GP, 0x202},
	    {"a call gate", 3, 0x40, CODE32, 0xec, VC_GP, 0x202},
	    {"null code selector", 3, 0x40, 3, 0xee, VC_GP, 0},
	    {"code outside the GDT", 3, 0x40, 0x100, 0xee, VC_GP, 0x100},
	    {"data as code", 3, 0x40, DATA0, 0xee, VC_GP, DATA0},
	    {"less privileged code", 0, 0x40, UCODE32, 0x8e, VC_GP, UCODE32 & ~3},
	    {"code absent", 3, 0x40, ABSENT_CODE, 0xee, VC_NP, ABSENT_CODE},
	    {"RPL of the selector does not matter", 3, 0x40, CODE32 | 3, 0xee, 0, 0},
	    {"in the LDT there is none", 3, 0x40, 0x0c, 0xee, VC_GP, 0x0c},
	};

	for (unsigned n = 0; n < VC_ARRAY_SIZE(row); n++) {
		struct outcome o;

		enter_protected(m, row[n].cpl);
		m->c->s.idtr.limit = 8 * 0x41 - 1;
		set_gate(m, row[n].vector, row[n].selector, row[n].access, 0);
		o = RUN(m, 0xcd, (uint8_t)row[n].vector);
		if (row[n].fault)
			ck_assert_msg(o.what == RAISED && o.vector == row[n].fault && o.error == row[n].error,
			              "%s: vector %u error %#x", row[n].what, o.vector, o.error);
		else
			ck_assert_msg(o.what == RAN, "%s: vector %u error %#x", row[n].what, o.vector, o.error);
		if (o.what == RAISED)
			ck_assert_uint_eq(m->c->s.rip, CODE);
	}
}
END_TEST

START_TEST(faults_of_the_inner_stack)
{
	static const struct {
		const char *what;
		uint16_t ss;
		uint32_t esp;
		uint16_t tss_limit;
		unsigned fault;
		uint32_t error;
	} row[] = {
	    {"works", DATA0, STACK0, 0x67, 0, 0},
	    {"TSS too short", DATA0, STACK0, 8, VC_TS, TSS_SEL},
	    {"TSS just long enough", DATA0, STACK0, 9, 0, 0},
	    {"null SS", 0, STACK0, 0x67, VC_TS, 0},
	    {"SS outside the GDT", 0x100, STACK0, 0x67, VC_TS, 0x100},
	    {"wrong RPL", DATA0 | 3, STACK0, 0x67, VC_TS, DATA0},
	    {"wrong DPL", UDATA & ~3, STACK0, 0x67, VC_TS, UDATA & ~3},
	    {"code", CODE32, STACK0, 0x67, VC_TS, CODE32},
	    {"read-only", READ_ONLY, STACK0, 0x67, VC_TS, READ_ONLY},
	    {"absent", ABSENT, STACK0, 0x67, VC_SSF, ABSENT},
	    {"no room", DATA16, 0x10, 0x67, VC_SSF, DATA16},
	    {"just enough room", DATA16, 0x14, 0x67, 0, 0},
	    {"expand-down, below its end", DOWN, 0x1010, 0x67, VC_SSF, DOWN},
	    {"expand-down", DOWN, 0x1014, 0x67, 0, 0},
	};

	for (unsigned n = 0; n < VC_ARRAY_SIZE(row); n++) {
		struct outcome o;

		enter_protected(m, 3);
		set_desc(m, DATA16, descriptor(0x8000, 0x13, 0x93, 0));
		set_gate(m, 0x40, CODE32, 0xee, 0);
		poke(m, TSS + 4, 4, row[n].esp);
		poke(m, TSS + 8, 2, row[n].ss);
		set_desc(m, ABSENT, descriptor(0, 0xfffff, 0x13, 0xc));
		m->c->s.tr.limit = row[n].tss_limit;
		o = RUN(m, 0xcd, 0x40);
		ck_assert_msg(row[n].fault ? o.what == RAISED && o.vector == row[n].fault && o.error == row[n].error
		                           : o.what == RAN,
		              "%s: vector %u error %#x", row[n].what, o.vector, o.error);
		if (row[n].fault) {
			ck_assert_uint_eq(sel(m, VC_SS), UDATA);
			ck_assert_uint_eq(*gpr(m, VC_RSP), STACK3);
		}
	}
}
END_TEST

/* External events set EXT in the error codes of what goes wrong on the way; INT n does not. */
START_TEST(ext_bit)
{
	enter_protected(m, 0);
	set_gate(m, VC_GP, CODE32, 0x8e, 0);
	set_gate(m, VC_NP, CODE32, 0x8e, 0);
	set_gate(m, 0x30, CODE32, 0x0e, 0); /* absent */
	ck_assert(emu_deliver_interrupt(m->c, 0x30));
	ck_assert_uint_eq(m->c->s.rip, handler(VC_NP));
	ck_assert_uint_eq(stack32(0), 0x30 * 8 + 3);
	ck_assert_uint_eq(stack32(1), CODE);

	enter_protected(m, 0);
	set_gate(m, VC_GP, CODE32, 0x8e, 0);
	set_gate(m, VC_UD, ABSENT, 0x8e, 0);
	ck_assert(raise_and_deliver(m, EXCEPTION(VC_UD)));
	ck_assert_uint_eq(m->c->s.rip, handler(VC_GP));
	ck_assert_uint_eq(stack32(0), ABSENT | 1);

	/* INT3 from ring 3 through a gate that is not for it */
	enter_protected(m, 3);
	set_gate(m, VC_GP, CODE32, 0x8e, 0);
	set_gate(m, VC_BP, CODE32, 0x8e, 0);
	ck_raised(RUN(m, 0xcc), VC_BP, 0);
	ck_assert(emu_deliver_exception(m->c));
	ck_assert_uint_eq(m->c->s.rip, handler(VC_GP));
	ck_assert_uint_eq(stack32(0), VC_BP * 8 + 2);
	ck_assert_uint_eq(stack32(1), CODE); /* a fault of the INT3 itself */
}
END_TEST

START_TEST(int3_into_int1)
{
	enter_protected(m, 3);
	set_gate(m, VC_BP, CODE32, 0xee, 0);
	ck_raised(RUN(m, 0xcc), VC_BP, 0);
	ck_assert_uint_eq(m->c->s.rip, CODE);
	ck_assert(emu_deliver_exception(m->c));
	ck_assert_uint_eq(stack32(0), CODE + 1);
	ck_assert_uint_eq(stack32(2) & VC_FLAG_RF, 0);

	enter_protected(m, 3);
	set_gate(m, VC_OF, CODE32, 0xee, 0);
	ck_ran(RUN(m, 0xce));
	ck_assert_uint_eq(m->c->s.rip, CODE + 1);
	m->c->aflags = VC_FLAG_OF;
	ck_raised(RUN(m, 0xce), VC_OF, 0);
	ck_assert(emu_deliver_exception(m->c));
	ck_assert_uint_eq(stack32(0), CODE + 2);

	/* INT1 passes a gate that INT 1 may not */
	enter_protected(m, 3);
	set_gate(m, VC_DB, CODE32, 0x8e, 0);
	ck_raised(RUN(m, 0xcd, 0x01), VC_GP, 0x0a);
	ck_raised(RUN(m, 0xf1), VC_DB, 0);
	ck_assert(emu_deliver_exception(m->c));
	ck_assert_uint_eq(m->c->s.rip, handler(VC_DB));
	ck_assert_uint_eq(stack32(0), CODE + 1);
}
END_TEST

/* ---- double and triple faults ---- */

START_TEST(double_fault_classes)
{
	/* second: what delivery of the first runs into: 0 #GP (by a bad gate), 1 #PF (by an absent page of the stack) */
	static const struct {
		unsigned first;
		bool has_error;
		unsigned second, expect;
	} row[] = {
	    {VC_UD, false, VC_GP, VC_GP}, {VC_BP, false, VC_GP, VC_GP}, {VC_DB, false, VC_GP, VC_GP},
	    {VC_NM, false, VC_GP, VC_GP}, {VC_DE, false, VC_GP, VC_DF}, {VC_TS, true, VC_GP, VC_DF},
	    {VC_NP, true, VC_GP, VC_DF},  {VC_SSF, true, VC_GP, VC_DF}, {VC_GP, true, VC_GP, VC_DF},
	    {VC_PF, true, VC_GP, VC_DF},  {VC_AC, true, VC_GP, VC_GP},  {VC_MF, false, VC_GP, VC_GP},
	    {VC_UD, false, VC_PF, VC_PF}, {VC_GP, true, VC_PF, VC_PF},  {VC_DE, false, VC_PF, VC_PF},
	    {VC_PF, true, VC_PF, VC_DF},  {VC_TS, true, VC_PF, VC_PF},
	};

	for (unsigned n = 0; n < VC_ARRAY_SIZE(row); n++) {
		struct emu_exception exc = {.vector = (uint8_t)row[n].first, .has_error = row[n].has_error, .cr2 = 0x1234};

		enter_long(m, 3);
		/* Sound gates have a stack of their own; a gate without one runs into the unmapped page. */
		for (unsigned v = 0; v < 32; v++)
			set_gate(m, v, CODE64, 0x8e, 1);
		set_gate(m, row[n].first, row[n].second == VC_PF ? CODE64 : DATA0, 0x8e, row[n].second == VC_PF ? 0 : 1);
		poke(m, TSS + 4, 8, 0x80000);
		unmap(m, 0x7f000);
		ck_assert(raise_and_deliver(m, &exc));
		ck_assert_msg(m->c->s.rip == handler(row[n].expect), "vector %u then %u: at %#lx", row[n].first, row[n].second,
		              (unsigned long)m->c->s.rip);
		if (row[n].second == VC_PF)
			ck_assert_uint_eq(m->c->s.cr2, 0x7fff8);
		if (row[n].expect == VC_DF) {
			ck_assert_uint_eq(stack64(0), 0);
			ck_assert_uint_eq(stack64(1), CODE);
		}
		poke(m, PT + 8 * 0x7f, 8, 0x7f007);
		emu_tlb_flush_all(m->c);
	}
}
END_TEST

START_TEST(triple_fault)
{
	enter_protected(m, 0);
	ck_assert(!raise_and_deliver(m, EXCEPTION(VC_GP, .has_error = true)));
	/* whatever comes first when nothing can be delivered */
	ck_assert(!raise_and_deliver(m, EXCEPTION(VC_UD)));
	ck_assert(!emu_deliver_interrupt(m->c, 0x20));
	ck_assert(!emu_deliver_nmi(m->c));
	m->c->s.idtr.limit = 0;
	ck_assert(!raise_and_deliver(m, EXCEPTION(VC_PF, .has_error = true, .cr2 = 5)));
}
END_TEST

/* ---- exceptions' own registers ---- */

START_TEST(page_fault_and_debug_registers)
{
	enter_protected(m, 0);
	set_gate(m, VC_PF, CODE32, 0x8e, 0);
	set_gate(m, VC_DB, CODE32, 0x8e, 0);
	ck_assert(raise_and_deliver(m, EXCEPTION(VC_PF, .has_error = true, .error = 6, .cr2 = 0xdeadb000)));
	ck_assert_uint_eq(m->c->s.cr2, 0xdeadb000);
	ck_assert_uint_eq(stack32(0), 6);

	/* B0-B3 are replaced, the others accumulate; GD goes off */
	m->c->s.dr6 = EMU_DR6_FIXED_ONES | 0x8001;
	m->c->s.dr7 = 0x2400;
	ck_assert(raise_and_deliver(m, EXCEPTION(VC_DB, .trap = true, .dr6 = EMU_DR6_BS | 2)));
	ck_assert_uint_eq(m->c->s.dr6, EMU_DR6_FIXED_ONES | 0xc002);
	ck_assert_uint_eq(m->c->s.dr7, 0x400);
	ck_assert_uint_eq(stack32(2) & VC_FLAG_RF, 0);
}
END_TEST

START_TEST(nmi_is_masked_until_iret)
{
	enter_protected(m, 0);
	set_gate(m, VC_NMI, CODE32, 0x8e, 0);
	ck_assert(emu_deliver_nmi(m->c));
	ck_assert_uint_eq(m->c->s.nmi_masked, 1);
	ck_assert_uint_eq(m->c->s.rip, handler(VC_NMI));
	ck_ran(RUN(m, 0xcf));
	ck_assert_uint_eq(m->c->s.nmi_masked, 0);
	ck_assert(m->c->attention);
	/* also by an IRET that faults */
	m->c->s.nmi_masked = 1;
	poke(m, (uint32_t)*gpr(m, VC_RSP) + 4, 4, 0);
	ck_raised(RUN(m, 0xcf), VC_GP, 0);
	ck_assert_uint_eq(m->c->s.nmi_masked, 0);
}
END_TEST

/* ---- virtual-8086 mode ---- */

START_TEST(from_v86_and_back)
{
	static const uint16_t selectors[VC_SEG_COUNT] = {
	    [VC_ES] = 0x1111, [VC_CS] = CODE >> 4, [VC_SS] = 0x100, [VC_DS] = 0x2222, [VC_FS] = 0x3333, [VC_GS] = 0x4444};

	enter_v86(m, 3);
	for (unsigned n = 0; n < VC_SEG_COUNT; n++)
		emu_segment_v86(&m->c->s.seg[n], selectors[n]);
	set_gate(m, 0x21, CODE32, 0xee, 0);
	ck_ran(RUN(m, 0xcd, 0x21));
	ck_assert_uint_eq(m->c->cpl, 0);
	ck_assert(m->c->protected_mode);
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK0 - 36);
	ck_assert_uint_eq(stack32(0), 0x102);
	ck_assert_uint_eq(stack32(1), CODE >> 4);
	ck_assert_uint_eq(stack32(2), 2 | VC_FLAG_VM | VC_FLAG_IOPL);
	ck_assert_uint_eq(stack32(3), 0x8000);
	ck_assert_uint_eq(stack32(4), 0x100);
	ck_assert_uint_eq(stack32(5), 0x1111);
	ck_assert_uint_eq(stack32(6), 0x2222);
	ck_assert_uint_eq(stack32(7), 0x3333);
	ck_assert_uint_eq(stack32(8), 0x4444);
	ck_assert_uint_eq(m->c->s.seg[VC_DS].unusable, 1);
	ck_ran(RUN(m, 0xcf));
	ck_assert_uint_eq(emu_rflags(m->c), 2 | VC_FLAG_VM | VC_FLAG_IOPL);
	ck_assert_uint_eq(m->c->cpl, 3);
	ck_assert_uint_eq(m->c->s.rip, 0x102);
	for (unsigned n = 0; n < VC_SEG_COUNT; n++) {
		ck_assert_uint_eq(sel(m, n), selectors[n]);
		ck_assert_uint_eq(m->c->s.seg[n].base, (uint32_t)selectors[n] << 4);
		ck_assert_uint_eq(m->c->s.seg[n].limit, 0xffff);
	}
	ck_assert_uint_eq(*gpr(m, VC_RSP), 0x8000);
}
END_TEST

START_TEST(v86_needs_a_ring_0_handler)
{
	enter_v86(m, 3);
	set_gate(m, 0x21, CODE1, 0xee, 0);
	ck_raised(RUN(m, 0xcd, 0x21), VC_GP, CODE1 & ~3);
	set_gate(m, 0x21, CONF32, 0xee, 0);
	ck_raised(RUN(m, 0xcd, 0x21), VC_GP, CONF32);
}
END_TEST

START_TEST(int_n_in_v86)
{
	enter_v86(m, 0);
	set_gate(m, 0x21, CODE32, 0xee, 0);
	set_gate(m, VC_BP, CODE32, 0xee, 0);
	ck_raised(RUN(m, 0xcd, 0x21), VC_GP, 0);
	/* INT3 is not sensitive to IOPL */
	ck_raised(RUN(m, 0xcc), VC_BP, 0);
	ck_assert(emu_deliver_exception(m->c));
	ck_assert_uint_eq(m->c->s.rip, handler(VC_BP));

	/* VME: the bit map lies below the I/O map at 0x88 */
	enter_v86(m, 0);
	m->c->s.cr4 = VC_CR4_VME;
	m->c->s.rflags |= VC_FLAG_VIF;
	poke(m, 0x21 * 4, 4, 0x1800abcd);
	poke(m, TSS + 0x68, 8, 0);
	ck_ran(RUN(m, 0xcd, 0x21));
	ck_assert_uint_eq(sel(m, VC_CS), 0x1800);
	ck_assert_uint_eq(m->c->s.rip, 0xabcd);
	ck_assert_uint_eq(*gpr(m, VC_RSP), 0x8000 - 6);
	ck_assert_uint_eq(peek(m, 0x1000 + 0x8000 - 2, 2), 0x3202); /* IOPL 3, IF = VIF */
	ck_assert_uint_eq(emu_rflags(m->c), 2 | VC_FLAG_VM);        /* VIF is off */
	ck_ran(RUN(m, 0xcf));
	ck_assert_uint_eq(emu_rflags(m->c), 2 | VC_FLAG_VM | VC_FLAG_VIF);
	ck_assert_uint_eq(m->c->s.rip, 0x102);
	/* not redirected */
	poke(m, TSS + 0x68 + 0x21 / 8, 1, 1u << 0x21 % 8);
	ck_raised(RUN(m, 0xcd, 0x21), VC_GP, 0);
	/* with IOPL 3 the real IF is used */
	enter_v86(m, 3);
	m->c->s.cr4 = VC_CR4_VME;
	m->c->s.rflags |= VC_FLAG_IF;
	poke(m, TSS + 0x68 + 0x21 / 8, 1, 0);
	ck_ran(RUN(m, 0xcd, 0x21));
	ck_assert_uint_eq(emu_rflags(m->c), 2 | VC_FLAG_VM | VC_FLAG_IOPL);
	ck_assert_uint_eq(peek(m, 0x1000 + 0x8000 - 2, 2), 0x3202);
}
END_TEST

/* ---- long mode ---- */

START_TEST(long_mode_same_privilege)
{
	enter_long(m, 0);
	set_gate(m, 0x30, CODE64, 0x8e, 0);
	*gpr(m, VC_RSP) = STACK0 - 4;
	m->c->s.rflags |= VC_FLAG_IF;
	ck_assert(emu_deliver_interrupt(m->c, 0x30));
	ck_assert_uint_eq(m->c->s.rip, handler(0x30));
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK0 - 16 - 40);
	ck_assert_uint_eq(stack64(0), CODE);
	ck_assert_uint_eq(stack64(1), CODE64);
	ck_assert_uint_eq(stack64(2), 0x202);
	ck_assert_uint_eq(stack64(3), STACK0 - 4);
	ck_assert_uint_eq(stack64(4), DATA0);
	ck_assert_uint_eq(sel(m, VC_SS), DATA0);
	ck_ran(RUN(m, 0x48, 0xcf));
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK0 - 4);
	ck_assert_uint_eq(m->c->s.rip, CODE);
	ck_assert_uint_eq(emu_rflags(m->c), 0x202);
}
END_TEST

START_TEST(long_mode_inner)
{
	enter_long(m, 3);
	set_gate(m, VC_PF, CODE64, 0x8e, 0);
	m->c->s.rflags |= VC_FLAG_IF;
	ck_assert(raise_and_deliver(m, EXCEPTION(VC_PF, .has_error = true, .error = 7, .cr2 = 0x7fff00001234)));
	ck_assert_uint_eq(m->c->cpl, 0);
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK0 - 48);
	ck_assert_uint_eq(stack64(0), 7);
	ck_assert_uint_eq(stack64(2), UCODE64);
	ck_assert_uint_eq(stack64(5), UDATA);
	ck_assert_uint_eq(sel(m, VC_SS), 0); /* null, RPL = new CPL */
	ck_assert_uint_eq(m->c->s.seg[VC_SS].unusable, 1);
	ck_assert_uint_eq(m->c->s.cr2, 0x7fff00001234);

	/* a nested one saves the null SS, and IRET loads it again */
	set_gate(m, 0x30, CODE64, 0x8e, 1);
	ck_assert(emu_deliver_interrupt(m->c, 0x30));
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK_IST - 40);
	ck_assert_uint_eq(stack64(4), 0);
	ck_ran(RUN(m, 0x48, 0xcf));
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK0 - 48);
	ck_assert_uint_eq(m->c->s.seg[VC_SS].unusable, 1);
	ck_assert_uint_eq(m->c->cpl, 0);

	/* GS of ring 0 is taken away, but not its base, which is another matter in 64-bit mode */
	emu_segment_fill(&m->c->s.seg[VC_GS], DATA0, get_desc(m, DATA0));
	m->c->s.seg[VC_GS].base = 0xffff800000001000;
	*gpr(m, VC_RSP) += 8;
	ck_ran(RUN(m, 0x48, 0xcf));
	ck_assert_uint_eq(m->c->cpl, 3);
	ck_assert_uint_eq(sel(m, VC_GS), 0);
	ck_assert_uint_eq(m->c->s.seg[VC_GS].base, 0xffff800000001000);
	ck_assert_uint_eq(sel(m, VC_SS), UDATA);
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK3);
}
END_TEST

START_TEST(long_mode_from_compatibility)
{
	enter_compat(m, 3);
	set_gate(m, 0x80, CODE64, 0xee, 0);
	ck_ran(RUN(m, 0xcd, 0x80));
	ck_assert_uint_eq(m->c->mode, EMU_MODE_64);
	ck_assert_uint_eq(stack64(1), UCODE32);
	ck_ran(RUN(m, 0x48, 0xcf));
	ck_assert_uint_eq(m->c->mode, EMU_MODE_32);
	ck_assert_uint_eq(m->c->s.rip, CODE + 2);
	ck_assert_uint_eq(m->c->stack_size, 4);
}
END_TEST

START_TEST(long_mode_faults)
{
	static const struct {
		const char *what;
		uint16_t selector;
		uint8_t access, ist;
		uint64_t rsp0;
		uint32_t high; /* bits 63:32 of the handler's address */
		unsigned fault;
		uint32_t error;
	} row[] = {
	    {"works", CODE64, 0xee, 0, STACK0, 0, 0, 0},
	    {"a 16-bit gate", CODE64, 0xe6, 0, STACK0, 0, VC_GP, 0x402},
	    {"a task gate", CODE64, 0xe5, 0, STACK0, 0, VC_GP, 0x402},
	    {"DPL", CODE64, 0x8e, 0, STACK0, 0, VC_GP, 0x402},
	    {"absent", CODE64, 0x6e, 0, STACK0, 0, VC_NP, 0x402},
	    {"32-bit code", CODE32, 0xee, 0, STACK0, 0, VC_GP, CODE32},
	    {"L and D", CODE_LD, 0xee, 0, STACK0, 0, VC_GP, CODE_LD},
	    {"null code", 0, 0xee, 0, STACK0, 0, VC_GP, 0},
	    {"conforming: no change of stack", CONF64, 0xee, 0, 0x8000000000000000, 0, 0, 0},
	    {"RSP0 not canonical", CODE64, 0xee, 0, 0x800000000000, 0, VC_SSF, 0},
	    {"RIP not canonical", CODE64, 0xee, 0, STACK0, 0x8000, VC_GP, 0},
	};

	for (unsigned n = 0; n < VC_ARRAY_SIZE(row); n++) {
		struct outcome o;

		enter_long(m, 3);
		poke(m, TSS + 4, 8, row[n].rsp0);
		set_gate(m, 0x80, row[n].selector, row[n].access, row[n].ist);
		poke(m, IDT + 16 * 0x80 + 8, 4, row[n].high);
		o = RUN(m, 0xcd, 0x80);
		ck_assert_msg(row[n].fault ? o.what == RAISED && o.vector == row[n].fault && o.error == row[n].error
		                           : o.what == RAN,
		              "%s: vector %u error %#x", row[n].what, o.vector, o.error);
	}
	enter_long(m, 3);
	set_gate(m, 0x80, CODE64, 0xee, 7);
	m->c->s.tr.limit = 0x5a; /* IST7 ends at 0x5b */
	ck_raised(RUN(m, 0xcd, 0x80), VC_TS, TSS_SEL);
}
END_TEST

/* A fault in the middle of delivery leaves nothing behind. */
START_TEST(long_mode_fault_of_the_stack_is_restartable)
{
	struct vc_cpu_state before;

	enter_long(m, 3);
	set_gate(m, 0x80, CODE64, 0xee, 0);
	poke(m, TSS + 4, 8, 0x80010);
	unmap(m, 0x7f000);
	before = m->c->s;
	ck_raised(RUN(m, 0xcd, 0x80), VC_PF, 2); /* supervisor write */
	ck_assert_uint_eq(m->c->exc.cr2, 0x7fff8);
	ck_assert_mem_eq(&before, &m->c->s, offsetof(struct vc_cpu_state, cr2));
	ck_assert_uint_eq(m->c->cpl, 3);
	poke(m, PT + 8 * 0x7f, 8, 0x7f007);
	ck_ran(RUN(m, 0xcd, 0x80));
	ck_assert_uint_eq(*gpr(m, VC_RSP), 0x80010 - 40);
}
END_TEST

START_TEST(iret_faults_in_long_mode)
{
	static const struct {
		const char *what;
		uint64_t rip;
		uint16_t cs, ss;
		unsigned fault;
		uint32_t error;
	} row[] = {
	    {"to user", CODE, UCODE64, UDATA, 0, 0},
	    {"to compatibility", CODE, UCODE32, UDATA, 0, 0},
	    {"same level, null SS", CODE, CODE64, 0, 0, 0},
	    {"user with null SS", CODE, UCODE64, 3, VC_GP, 0},
	    {"compatibility kernel with null SS", CODE, CODE32, 0, VC_GP, 0},
	    {"null CS", CODE, 0, UDATA, VC_GP, 0},
	    {"not canonical", 0x800000000000, UCODE64, UDATA, VC_GP, 0},
	    {"beyond 4 GiB in compatibility mode", 0x100000000, UCODE32, UDATA, VC_GP, 0},
	    {"L and D", CODE, CODE_LD, DATA0, VC_GP, CODE_LD},
	    {"SS of another level", CODE, UCODE64, DATA0, VC_GP, DATA0},
	    {"SS read-only", CODE, CODE64, READ_ONLY, VC_GP, READ_ONLY},
	    {"SS absent", CODE, CODE64, ABSENT, VC_SSF, ABSENT},
	    {"CS absent", CODE, ABSENT_CODE, DATA0, VC_NP, ABSENT_CODE},
	    {"CS is data", CODE, DATA0, DATA0, VC_GP, DATA0},
	    {"RPL differs from DPL", CODE, CODE64 | 3, UDATA, VC_GP, CODE64},
	    {"CS outside", CODE, 0x103, UDATA, VC_GP, 0x100},
	};

	for (unsigned n = 0; n < VC_ARRAY_SIZE(row); n++) {
		struct outcome o;

		enter_long(m, 0);
		*gpr(m, VC_RSP) = STACK0 - 40;
		poke(m, STACK0 - 40, 8, row[n].rip);
		poke(m, STACK0 - 32, 8, row[n].cs);
		poke(m, STACK0 - 24, 8, 0x202);
		poke(m, STACK0 - 16, 8, STACK3);
		poke(m, STACK0 - 8, 8, row[n].ss);
		o = RUN(m, 0x48, 0xcf);
		ck_assert_msg(row[n].fault ? o.what == RAISED && o.vector == row[n].fault && o.error == row[n].error
		                           : o.what == RAN,
		              "%s: vector %u error %#x", row[n].what, o.vector, o.error);
		if (o.what == RAN)
			ck_assert_uint_eq(*gpr(m, VC_RSP), STACK3);
		else
			ck_assert_uint_eq(*gpr(m, VC_RSP), STACK0 - 40);
	}
	/* no tasks in long mode */
	enter_long(m, 0);
	m->c->s.rflags |= VC_FLAG_NT;
	ck_raised(RUN(m, 0x48, 0xcf), VC_GP, 0);
}
END_TEST

/* What IRET changes in RFLAGS depends on the level it comes from. */
START_TEST(iret_flags)
{
	enter_protected(m, 3);
	*gpr(m, VC_RSP) = STACK3 - 12;
	poke(m, STACK3 - 12, 4, CODE);
	poke(m, STACK3 - 8, 4, UCODE32);
	poke(m, STACK3 - 4, 4, 0x003f7fd7);
	ck_ran(RUN(m, 0xcf));
	/* not IF, IOPL, VM, VIF, VIP */
	ck_assert_uint_eq(emu_rflags(m->c),
	                  0x3f7fd7 & ~(uint64_t)(VC_FLAG_IF | VC_FLAG_IOPL | VC_FLAG_VM | VC_FLAG_VIF | VC_FLAG_VIP));
	ck_assert(m->c->attention); /* TF */

	enter_protected(m, 3);
	m->c->s.rflags |= VC_FLAG_IOPL;
	*gpr(m, VC_RSP) = STACK3 - 12;
	poke(m, STACK3 - 4, 4, 0x202);
	ck_ran(RUN(m, 0xcf));
	ck_assert_uint_eq(emu_rflags(m->c), 0x3202);
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
	    real_mode_interrupt,
	    real_mode_exceptions_have_no_error_code,
	    real_mode_short_table,
	    same_privilege_32,
	    inner_privilege_32,
	    inner_privilege_16_bit_gate,
	    iret_to_16_bit_stack,
	    faults_of_idt_delivery,
	    faults_of_the_inner_stack,
	    ext_bit,
	    int3_into_int1,
	    double_fault_classes,
	    triple_fault,
	    page_fault_and_debug_registers,
	    nmi_is_masked_until_iret,
	    from_v86_and_back,
	    v86_needs_a_ring_0_handler,
	    int_n_in_v86,
	    long_mode_same_privilege,
	    long_mode_inner,
	    long_mode_from_compatibility,
	    long_mode_faults,
	    long_mode_fault_of_the_stack_is_restartable,
	    iret_faults_in_long_mode,
	    iret_flags,
	};
	return run_tests("event", tests, VC_ARRAY_SIZE(tests), setup, teardown);
}
