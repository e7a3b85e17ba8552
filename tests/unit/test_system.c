/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* System instructions: segment registers, privilege of flags and of ports. */
#include "system_rows.h"

/* ---- segment registers ---- */

START_TEST(segment_loads)
{
	static const struct {
		enum mode mode;
		enum vc_sreg seg;
		uint16_t selector;
		unsigned fault;
		uint32_t error;
	} row[] = {
	    {PROT0, VC_DS, DATA0, 0, 0},
	    {PROT0, VC_DS, 0, 0, 0},
	    {PROT0, VC_DS, 3, 0, 0},
	    {PROT0, VC_DS, DATA0 | 3, VC_GP, DATA0}, /* RPL 3 on DPL 0 */
	    {PROT0, VC_DS, UDATA, 0, 0},
	    {PROT0, VC_ES, CODE32, 0, 0}, /* readable code */
	    {PROT0, VC_ES, EXEC_ONLY, VC_GP, EXEC_ONLY},
	    {PROT0, VC_FS, TSS_SEL, VC_GP, TSS_SEL}, /* a system segment */
	    {PROT0, VC_GS, ABSENT, VC_NP, ABSENT},
	    {PROT0, VC_GS, 0x100, VC_GP, 0x100},
	    {PROT0, VC_GS, 0x0c, VC_GP, 0x0c}, /* no LDT */
	    {PROT3, VC_DS, DATA0, VC_GP, DATA0},
	    {PROT3, VC_DS, UDATA, 0, 0},
	    {PROT3, VC_DS, CONF32, 0, 0}, /* conforming code: any level */
	    {PROT3, VC_DS, CODE32, VC_GP, CODE32},
	    {PROT0, VC_SS, DATA0, 0, 0},
	    {PROT0, VC_SS, 0, VC_GP, 0},
	    {PROT0, VC_SS, DATA0 | 3, VC_GP, DATA0},
	    {PROT0, VC_SS, UDATA, VC_GP, UDATA & ~3},
	    {PROT0, VC_SS, CODE32, VC_GP, CODE32},
	    {PROT0, VC_SS, READ_ONLY, VC_GP, READ_ONLY},
	    {PROT0, VC_SS, ABSENT, VC_SSF, ABSENT},
	    {PROT3, VC_SS, UDATA, 0, 0},
	    {LONG0, VC_SS, 0, 0, 0}, /* null SS below CPL 3 */
	    {LONG0, VC_SS, 1, VC_GP, 0},
	    {LONG3, VC_SS, 3, VC_GP, 0},
	    {LONG3, VC_SS, UDATA, 0, 0},
	    {LONG3, VC_GS, 0, 0, 0},
	    {LONG3, VC_FS, DATA0, VC_GP, DATA0},
	    {REAL, VC_DS, 0xffff, 0, 0},
	};

	for (unsigned n = 0; n < VC_ARRAY_SIZE(row); n++) {
		struct outcome o;

		enter(row[n].mode);
		*gpr(m, VC_RBX) = row[n].selector;
		o = RUN(m, 0x8e, 0xc3 | row[n].seg << 3); /* MOV seg, BX */
		ck_row(o, row, n);
		if (!row[n].fault) {
			ck_assert_uint_eq(sel(m, row[n].seg), row[n].selector);
			ck_assert_uint_eq(m->c->s.shadow_mov_ss, row[n].seg == VC_SS);
			m->c->s.shadow_mov_ss = 0;
		}
	}
	ck_raised(RUN(m, 0x8e, 0xcb), VC_UD, 0); /* CS */
	ck_raised(RUN(m, 0x8e, 0xf3), VC_UD, 0);
}
END_TEST

START_TEST(segment_contents)
{
	enter_protected(m, 0);
	set_desc(m, DATA1, descriptor(0x12345678, 0xabcde, 0x92, 0xc));
	*gpr(m, VC_RAX) = DATA1 & ~3;
	ck_ran(RUN(m, 0x8e, 0xe0)); /* MOV FS, AX */
	ck_assert_uint_eq(m->c->s.seg[VC_FS].base, 0x12345678);
	ck_assert_uint_eq(m->c->s.seg[VC_FS].limit, 0xabcdefff);
	ck_assert_uint_eq(m->c->s.seg[VC_FS].attr, 0xc093);
	ck_assert_uint_eq(get_desc(m, DATA1) >> 40 & 0xff, 0x93); /* accessed */

	/* from the LDT, at CPL 3: the accessed bit needs no rights of the user's */
	enter_long(m, 3);
	poke(m, PT + 8 * (LDT_AT >> 12), 8, (LDT_AT & ~0xfff) | 3);
	emu_tlb_flush_all(m->c);
	m->c->s.ldtr = (struct vc_segment){.base = LDT_AT, .limit = 15, .selector = LDT_SEL, .attr = 0x82};
	poke(m, LDT_AT + 8, 8, descriptor(0x7000, 0xff, 0xf2, 0));
	*gpr(m, VC_RAX) = 0x0f;
	ck_ran(RUN(m, 0x8e, 0xe8)); /* MOV GS, AX */
	ck_assert_uint_eq(peek(m, LDT_AT + 8, 8) >> 40 & 0xff, 0xf3);
	ck_assert_uint_eq(m->c->s.seg[VC_GS].base, 0x7000);
	*gpr(m, VC_RAX) = 0x17;
	ck_raised(RUN(m, 0x8e, 0xe8), VC_GP, 0x14);
	/* but a page that nobody may write faults */
	poke(m, LDT_AT + 8, 8, descriptor(0x7000, 0xff, 0xf2, 0));
	poke(m, PT + 8 * (LDT_AT >> 12), 8, (LDT_AT & ~0xfff) | 1);
	emu_tlb_flush_all(m->c);
	*gpr(m, VC_RAX) = 0x0f;
	ck_raised(RUN(m, 0x8e, 0xe8), VC_PF, 3);
	ck_assert_uint_eq(m->c->exc.cr2, LDT_AT + 8 + 5);

	/* real mode keeps limit and size */
	enter_real(m);
	m->c->s.seg[VC_DS].limit = 0xffffffff;
	*gpr(m, VC_RAX) = 0x1234;
	ck_ran(RUN(m, 0x8e, 0xd8));
	ck_assert_uint_eq(m->c->s.seg[VC_DS].base, 0x12340);
	ck_assert_uint_eq(m->c->s.seg[VC_DS].limit, 0xffffffff);
}
END_TEST

START_TEST(segment_limits)
{
	static const struct {
		enum vc_sreg seg;
		uint64_t raw; /* descriptor */
		uint64_t offset;
		unsigned size;
		enum vcore_access access;
		unsigned fault;
		uint32_t error;
	} row[] = {
	    {VC_DS, 0x004093000000fffful, 0xfffc, 4, VCORE_ACCESS_READ, 0, 0},
	    {VC_DS, 0x004093000000fffful, 0xfffd, 4, VCORE_ACCESS_READ, VC_GP, 0},
	    {VC_SS, 0x004093000000fffful, 0xfffd, 4, VCORE_ACCESS_READ, VC_SSF, 0},
	    {VC_DS, 0x004091000000fffful, 0, 4, VCORE_ACCESS_WRITE, VC_GP, 0}, /* read-only */
	    {VC_DS, 0x004091000000fffful, 0, 4, VCORE_ACCESS_READ, 0, 0},
	    {VC_CS, 0x004099000000fffful, 0, 4, VCORE_ACCESS_READ, VC_GP, 0}, /* execute-only */
	    {VC_CS, 0x00409b000000fffful, 0, 4, VCORE_ACCESS_READ, 0, 0},
	    {VC_CS, 0x00409b000000fffful, 0, 4, VCORE_ACCESS_WRITE, VC_GP, 0},
	    {VC_DS, 0x0040970000000ffful, 0xfff, 1, VCORE_ACCESS_READ, VC_GP, 0}, /* expand-down, 32-bit */
	    {VC_DS, 0x0040970000000ffful, 0x1000, 1, VCORE_ACCESS_READ, 0, 0},
	    {VC_DS, 0x0040970000000ffful, 0xffffffff, 1, VCORE_ACCESS_READ, 0, 0},
	    {VC_DS, 0x0040970000000ffful, 0xffffffff, 2, VCORE_ACCESS_READ, VC_GP, 0},
	    {VC_DS, 0x0000970000000ffful, 0x10000, 1, VCORE_ACCESS_READ, VC_GP, 0}, /* expand-down, 16-bit */
	    {VC_DS, 0x0000970000000ffful, 0xffff, 1, VCORE_ACCESS_READ, 0, 0},
	};

	uint64_t linear = 0;

	for (unsigned n = 0; n < VC_ARRAY_SIZE(row); n++) {
		struct outcome o;

		enter_protected(m, 0);
		emu_segment_fill(&m->c->s.seg[row[n].seg], 8, row[n].raw);
		o = seg_linear(m, row[n].seg, row[n].offset, row[n].size, row[n].access, &linear);
		ck_row(o, row, n);
		if (!row[n].fault)
			ck_assert_uint_eq(linear, row[n].offset);
	}
	enter_protected(m, 0);
	emu_segment_null(&m->c->s.seg[VC_DS], 0, 0);
	ck_raised(seg_linear(m, VC_DS, 0, 1, VCORE_ACCESS_READ, &linear), VC_GP, 0);
	enter_long(m, 3);
	emu_segment_null(&m->c->s.seg[VC_DS], 0, 0);
	ck_ran(seg_linear(m, VC_DS, 0x7fffffffffff, 1, VCORE_ACCESS_READ, &linear));
	ck_raised(seg_linear(m, VC_DS, 0x7fffffffffff, 2, VCORE_ACCESS_READ, &linear), VC_GP, 0);
	ck_raised(seg_linear(m, VC_SS, 0x800000000000, 1, VCORE_ACCESS_READ, &linear), VC_SSF, 0);
	m->c->s.cr4 |= VC_CR4_LA57;
	ck_ran(seg_linear(m, VC_SS, 0x800000000000, 1, VCORE_ACCESS_READ, &linear));
}
END_TEST

START_TEST(push_pop_segment_and_lds)
{
	enter_protected(m, 0);
	poke(m, STACK0 - 4, 4, 0xeeeeeeee);
	ck_ran(RUN(m, 0x0e)); /* PUSH CS: 16 bits of a 32-bit slot */
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK0 - 4);
	ck_assert_uint_eq(peek(m, STACK0 - 4, 4), 0xeeee0000 | CODE32);
	poke(m, STACK0 - 4, 4, UDATA);
	ck_ran(RUN(m, 0x07)); /* POP ES */
	ck_assert_uint_eq(sel(m, VC_ES), UDATA);
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK0);
	*gpr(m, VC_RSP) = STACK0 - 4;
	poke(m, STACK0 - 4, 4, EXEC_ONLY);
	ck_raised(RUN(m, 0x07), VC_GP, EXEC_ONLY);
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK0 - 4);
	poke(m, STACK0 - 4, 4, DATA0);
	ck_ran(RUN(m, 0x17)); /* POP SS */
	ck_assert_uint_eq(m->c->s.shadow_mov_ss, 1);

	poke(m, DATA, 4, 0x11223344);
	poke(m, DATA + 4, 2, UDATA);
	ck_ran(RUN(m, 0xc4, 0x1d, LE32(DATA))); /* LES EBX */
	ck_assert_uint_eq(*gpr(m, VC_RBX), 0x11223344);
	ck_assert_uint_eq(sel(m, VC_ES), UDATA);
	poke(m, DATA, 4, 0x55667788);
	poke(m, DATA + 4, 2, ABSENT);
	ck_raised(RUN(m, 0x0f, 0xb4, 0x1d, LE32(DATA)), VC_NP, ABSENT); /* LFS EBX */
	ck_assert_uint_eq(*gpr(m, VC_RBX), 0x11223344);

	enter_long(m, 3);
	*gpr(m, VC_RBX) = ~0ull;
	ck_ran(RUN(m, 0x8c, 0xdb)); /* MOV EBX, DS */
	ck_assert_uint_eq(*gpr(m, VC_RBX), UDATA);
	*gpr(m, VC_RBX) = ~0ull;
	ck_ran(RUN(m, 0x66, 0x8c, 0xdb));
	ck_assert_uint_eq(*gpr(m, VC_RBX), 0xffffffffffff0000 | UDATA);
}
END_TEST

/* ---- flags ---- */

START_TEST(privilege_of_flags)
{
	/* what POPF of all ones leaves of each privileged flag, and CLI/STI */
	static const struct {
		enum mode mode;
		unsigned iopl;
		uint64_t popped; /* of IF and IOPL */
		bool cli;
	} row[] = {
	    {REAL, 0, VC_FLAG_IF | VC_FLAG_IOPL, true},
	    {PROT0, 0, VC_FLAG_IF | VC_FLAG_IOPL, true},
	    {PROT3, 0, 0, false},
	    {PROT3, 3, VC_FLAG_IF | VC_FLAG_IOPL, true},
	    {PROT3, 2, 2 << 12, false},
	    {LONG0, 0, VC_FLAG_IF | VC_FLAG_IOPL, true},
	    {LONG3, 0, 0, false},
	};

	for (unsigned n = 0; n < VC_ARRAY_SIZE(row); n++) {
		struct outcome o;

		enter(row[n].mode);
		m->c->s.rflags |= row[n].iopl << 12;
		*gpr(m, VC_RSP) -= 8;
		poke(m, (uint32_t)*gpr(m, VC_RSP), 8, ~0ull);
		ck_ran(RUN(m, 0x9d));
		ck_assert_uint_eq(emu_rflags(m->c) & (VC_FLAG_IF | VC_FLAG_IOPL), row[n].popped);
		ck_assert_uint_eq(emu_rflags(m->c) & (VC_FLAG_RF | VC_FLAG_VM | VC_FLAG_VIF | VC_FLAG_VIP | 0x28), 0);
		ck_assert_uint_eq(emu_rflags(m->c) & 0x4dd5, 0x4dd5);
		ck_assert_uint_eq(!(emu_rflags(m->c) & VC_FLAG_ID), row[n].mode == REAL); /* a 16-bit POPF there */
		ck_assert(m->c->attention);
		enter(row[n].mode);
		m->c->s.rflags |= row[n].iopl << 12;
		o = RUN(m, 0xfb);
		ck_assert_int_eq(o.what == RAN, row[n].cli);
		if (row[n].cli) {
			ck_assert_uint_eq(m->c->s.shadow_sti, 1);
			ck_assert(m->c->s.rflags & VC_FLAG_IF);
			m->c->s.shadow_sti = 0;
			ck_ran(RUN(m, 0xfb)); /* already set: no shadow */
			ck_assert_uint_eq(m->c->s.shadow_sti, 0);
			ck_ran(RUN(m, 0xfa));
			ck_assert_uint_eq(m->c->s.rflags & VC_FLAG_IF, 0);
		} else {
			ck_raised(o, VC_GP, 0);
			ck_raised(RUN(m, 0xfa), VC_GP, 0);
		}
	}
}
END_TEST

START_TEST(attention_for_waiting_interrupts)
{
	enter_long(m, 0);
	ck_ran(RUN(m, 0xfb));
	ck_assert(!m->c->attention);
	enter_long(m, 0);
	m->c->interrupt_waiting = true;
	ck_ran(RUN(m, 0xfb));
	ck_assert(m->c->attention);
	enter_long(m, 0);
	*gpr(m, VC_RSP) = STACK0 - 8;
	poke(m, STACK0 - 8, 8, 0x202);
	ck_ran(RUN(m, 0x9d));
	ck_assert(m->c->attention);
}
END_TEST

START_TEST(virtual_interrupt_flag)
{
	enter_v86(m, 0);
	ck_raised(RUN(m, 0xfa), VC_GP, 0);
	ck_raised(RUN(m, 0x9c), VC_GP, 0);
	ck_raised(RUN(m, 0x9d), VC_GP, 0);
	ck_raised(RUN(m, 0xcf), VC_GP, 0);
	m->c->s.cr4 |= VC_CR4_VME;
	ck_ran(RUN(m, 0xfb));
	ck_assert_uint_eq(emu_rflags(m->c), 2 | VC_FLAG_VM | VC_FLAG_VIF);
	ck_ran(RUN(m, 0x9c)); /* PUSHF: IF = VIF, IOPL 3 */
	ck_assert_uint_eq(peek(m, 0x1000 + 0x7ffe, 2), 0x3202);
	ck_ran(RUN(m, 0xfa));
	ck_assert_uint_eq(emu_rflags(m->c), 2 | VC_FLAG_VM);
	ck_ran(RUN(m, 0x9d));
	ck_assert_uint_eq(emu_rflags(m->c), 2 | VC_FLAG_VM | VC_FLAG_VIF);
	ck_raised(RUN(m, 0x66, 0x9c), VC_GP, 0); /* 32-bit forms are for the monitor */
	/* with VIP, enabling is for the monitor too */
	m->c->s.rflags |= VC_FLAG_VIP;
	ck_raised(RUN(m, 0xfb), VC_GP, 0);
	*gpr(m, VC_RSP) = 0x7ffe;
	ck_raised(RUN(m, 0x9d), VC_GP, 0);
	poke(m, 0x1000 + 0x7ffe, 2, 0x100); /* TF */
	ck_raised(RUN(m, 0x9d), VC_GP, 0);

	/* PVI: CLI and STI at CPL 3 */
	enter_protected(m, 3);
	m->c->s.cr4 |= VC_CR4_PVI;
	ck_ran(RUN(m, 0xfb));
	ck_assert_uint_eq(emu_rflags(m->c), 2 | VC_FLAG_VIF);
	ck_ran(RUN(m, 0xfa));
	ck_assert_uint_eq(emu_rflags(m->c), 2);
	m->c->s.rflags |= VC_FLAG_VIP;
	ck_raised(RUN(m, 0xfb), VC_GP, 0);
}
END_TEST

START_TEST(ac_and_bound)
{
	enter_long(m, 0);
	ck_ran(RUN(m, 0x0f, 0x01, 0xcb));
	ck_assert(m->c->s.rflags & VC_FLAG_AC);
	ck_ran(RUN(m, 0x0f, 0x01, 0xca));
	ck_assert(!(m->c->s.rflags & VC_FLAG_AC));
	enter_long(m, 3);
	ck_raised(RUN(m, 0x0f, 0x01, 0xcb), VC_UD, 0);

	enter_protected(m, 3);
	poke(m, DATA, 4, (uint32_t)-5);
	poke(m, DATA + 4, 4, 5);
	*gpr(m, VC_RAX) = (uint32_t)-5;
	ck_ran(RUN(m, 0x62, 0x05, LE32(DATA)));
	*gpr(m, VC_RAX) = 6;
	ck_raised(RUN(m, 0x62, 0x05, LE32(DATA)), VC_BR, 0);
	*gpr(m, VC_RAX) = (uint32_t)-6;
	ck_raised(RUN(m, 0x62, 0x05, LE32(DATA)), VC_BR, 0);
}
END_TEST

/* ---- ports ---- */

START_TEST(ports)
{
	enter_long(m, 0);
	*gpr(m, VC_RAX) = ~0ull;
	ck_ran(RUN(m, 0xe4, 0x60)); /* IN AL, 60h */
	ck_assert_uint_eq(*gpr(m, VC_RAX), 0xffffffffffffffef);
	*gpr(m, VC_RDX) = 0x10cf8;
	ck_ran(RUN(m, 0xed)); /* IN EAX, DX */
	ck_assert_uint_eq(*gpr(m, VC_RAX), 0x89abcdef);
	ck_assert_uint_eq(m->port.address, 0xcf8);
	ck_ran(RUN(m, 0x66, 0xef)); /* OUT DX, AX */
	ck_assert_uint_eq(m->port.data, 0xcdef);
	ck_assert_uint_eq(m->port.width, 2);
}
END_TEST

START_TEST(port_permission)
{
	static const struct {
		unsigned port, width;
		unsigned fault;
		uint32_t error;
	} row[] = {
	    {0x40, 1, 0, 0},     {0x3f, 1, VC_GP, 0}, {0x3f, 2, VC_GP, 0}, {0x43, 1, 0, 0},
	    {0x43, 2, VC_GP, 0}, {0x44, 1, VC_GP, 0}, {0x40, 4, 0, 0},     {0x41, 4, VC_GP, 0},
	    {0x7f, 1, 0, 0},     {0x77, 4, 0, 0},     {0x80, 1, VC_GP, 0}, /* its second byte is beyond the limit */
	};

	for (unsigned n = 0; n < VC_ARRAY_SIZE(row) * 2; n++) {
		unsigned r = n / 2;
		struct outcome o;

		if (n & 1)
			enter_v86(m, 3); /* IOPL does not matter there */
		else
			enter_protected(m, 3);
		memset(m->ram + TSS + 0x88, 0xff, 8);
		memset(m->ram + TSS + 0x88 + 14, 0, 4);
		m->ram[TSS + 0x88 + 8] = 0xf0; /* 40h-43h */
		m->c->s.tr.limit = 0x88 + 16;
		*gpr(m, VC_RDX) = row[r].port;
		m->port_accesses = 0;
		if (row[r].width == 1)
			o = RUN(m, 0xec);
		else if ((row[r].width == 2) != (n & 1))
			o = RUN(m, 0x66, 0xed);
		else
			o = RUN(m, 0xed);
		ck_row(o, row, r);
		ck_assert_uint_eq(m->port_accesses, !row[r].fault);
	}
	enter_protected(m, 3);
	m->c->s.rflags |= VC_FLAG_IOPL;
	ck_ran(RUN(m, 0xec));
	m->c->s.rflags &= ~(uint64_t)VC_FLAG_IOPL;
	m->c->s.tr.limit = 0x66; /* no map */
	ck_raised(RUN(m, 0xec), VC_GP, 0);
	m->c->s.tr.limit = 0x3ff;
	m->c->s.tr.attr = 0x83; /* a 16-bit TSS has none */
	ck_raised(RUN(m, 0xec), VC_GP, 0);
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
	    segment_loads,
	    segment_contents,
	    segment_limits,
	    push_pop_segment_and_lds,
	    privilege_of_flags,
	    attention_for_waiting_interrupts,
	    virtual_interrupt_flag,
	    ac_and_bound,
	    ports,
	    port_permission,
	};

	return run_tests("system", tests, VC_ARRAY_SIZE(tests), setup, teardown);
}
