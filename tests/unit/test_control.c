/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* System instructions: control, debug, table and task registers, fast system calls, what stands alone. */
#include "system_rows.h"

/* ---- control registers ---- */

static struct outcome write_cr(unsigned cr, uint64_t value)
{
	*gpr(m, VC_RBX) = value;
	return cr < 8 ? RUN(m, 0x0f, 0x22, 0xc3 | cr << 3) : RUN(m, 0x44, 0x0f, 0x22, 0xc3 | (cr & 7) << 3);
}

START_TEST(cr0_rules)
{
	enter_protected(m, 0);
	ck_raised(write_cr(0, VC_CR0_PG), VC_GP, 0);             /* PG without PE */
	ck_raised(write_cr(0, VC_CR0_PE | VC_CR0_NW), VC_GP, 0); /* NW without CD */
	ck_ran(write_cr(0, VC_CR0_PE | VC_CR0_NW | VC_CR0_CD | 0x1ffaff00));
	ck_assert_uint_eq(m->c->s.cr0,
	                  VC_CR0_PE | VC_CR0_NW | VC_CR0_CD | VC_CR0_ET); /* reserved bits are ignored, but AM, WP.. */
	ck_ran(write_cr(0, VC_CR0_TS));
	ck_assert(!m->c->protected_mode);
	enter_protected(m, 3);
	ck_raised(write_cr(0, VC_CR0_PE), VC_GP, 0);
	ck_raised(RUN(m, 0x0f, 0x20, 0xc3), VC_GP, 0);
	ck_raised(RUN(m, 0x0f, 0x06), VC_GP, 0);
	enter_v86(m, 3);
	ck_raised(RUN(m, 0x0f, 0x20, 0xc3), VC_GP, 0);
	enter_long(m, 0);
	ck_raised(write_cr(0, m->c->s.cr0 | 1ull << 32), VC_GP, 0);
	ck_raised(write_cr(0, VC_CR0_PE | VC_CR0_ET), VC_GP, 0); /* paging off in 64-bit mode */
	ck_raised(write_cr(1, 0), VC_UD, 0);
	ck_raised(write_cr(5, 0), VC_UD, 0);
	ck_raised(write_cr(9, 0), VC_UD, 0);
	ck_ran(write_cr(0, m->c->s.cr0 | VC_CR0_TS));
	ck_ran(RUN(m, 0x0f, 0x06)); /* CLTS */
	ck_assert(!(m->c->s.cr0 & VC_CR0_TS));
	ck_ran(write_cr(2, 0x123456789abcdef0));
	ck_ran(RUN(m, 0x0f, 0x20, 0xd0)); /* MOV RAX, CR2 */
	ck_assert_uint_eq(*gpr(m, VC_RAX), 0x123456789abcdef0);
}
END_TEST

START_TEST(into_long_mode_and_out)
{
	enter_protected(m, 0);
	ck_ran(write_cr(3, PML4));
	m->c->s.efer = VC_EFER_LME;
	ck_raised(write_cr(0, VC_CR0_PE | VC_CR0_PG), VC_GP, 0); /* PAE is missing */
	ck_ran(write_cr(4, VC_CR4_PAE));
	m->c->s.seg[VC_CS].attr |= VC_SEG_L;
	ck_raised(write_cr(0, VC_CR0_PE | VC_CR0_PG), VC_GP, 0); /* CS.L */
	m->c->s.seg[VC_CS].attr &= ~VC_SEG_L;
	m->c->s.tr.attr = 0x83;
	ck_raised(write_cr(0, VC_CR0_PE | VC_CR0_PG), VC_GP, 0); /* 16-bit TSS */
	m->c->s.tr.attr = 0x8b;
	ck_ran(write_cr(0, VC_CR0_PE | VC_CR0_PG));
	ck_assert_uint_eq(m->c->s.efer, VC_EFER_LME | VC_EFER_LMA);
	ck_assert(m->c->long_mode);
	ck_assert_uint_eq(m->c->mode, EMU_MODE_32);
	ck_raised(write_cr(4, 0), VC_GP, 0); /* PAE stays while LMA */
	ck_raised(write_cr(4, VC_CR4_PAE | VC_CR4_LA57), VC_GP, 0);
	ck_ran(write_cr(0, VC_CR0_PE)); /* from compatibility mode */
	ck_assert_uint_eq(m->c->s.efer, VC_EFER_LME);
	ck_assert(!m->c->long_mode);
}
END_TEST

START_TEST(cr3_rules)
{
	enter_long(m, 0);
	ck_raised(write_cr(3, 1ull << 40), VC_GP, 0);
	ck_raised(write_cr(3, 1ull << 63 | PML4), VC_GP, 0);
	ck_ran(write_cr(4, VC_CR4_PAE | VC_CR4_PCIDE));
	ck_ran(write_cr(3, 1ull << 63 | PML4 | 5));
	ck_assert_uint_eq(m->c->s.cr3, PML4 | 5);
	ck_raised(write_cr(3, 1ull << 62 | PML4), VC_GP, 0);
	ck_raised(write_cr(0, VC_CR0_PE), VC_GP, 0);
	ck_ran(write_cr(4, VC_CR4_PAE));
	ck_raised(write_cr(4, VC_CR4_PAE | VC_CR4_PCIDE), VC_GP, 0); /* CR3 11:0 is not zero */
	/* PAE: bad PDPTEs */
	enter_protected(m, 0);
	memset(m->ram + PML4, 0, 32);
	ck_ran(write_cr(3, PML4));
	ck_ran(write_cr(4, VC_CR4_PAE));
	poke(m, PML4, 8, PDPT | 1);
	poke(m, PML4 + 8, 8, 0x7);  /* reserved bits */
	poke(m, PDPT, 8, 0 | 0xe3); /* 2 MiB page */
	ck_raised(write_cr(0, VC_CR0_PE | VC_CR0_PG), VC_GP, 0);
	ck_assert_uint_eq(m->c->s.cr0 & VC_CR0_PG, 0);
	poke(m, PML4 + 8, 8, 0);
	ck_ran(write_cr(0, VC_CR0_PE | VC_CR0_PG));
	poke(m, DATA, 8, 0);
	poke(m, 0x2800, 8, 1ull << 41 | 1);
	ck_raised(write_cr(3, 0x2800), VC_GP, 0);
	ck_assert_uint_eq(m->c->s.cr3, PML4);
}
END_TEST

START_TEST(cr4_rules)
{
	enter_long(m, 0);
	ck_raised(write_cr(4, VC_CR4_PAE | 1u << 15), VC_GP, 0);
	ck_raised(write_cr(4, VC_CR4_PAE | 1ull << 32), VC_GP, 0);
	ck_ran(write_cr(4, VC_CR4_PAE | VC_CR4_SMEP | VC_CR4_UMIP));
	vc_feature_put(&m->vcpu.cpuid.features, VC_F_SMEP, false);
	ck_raised(write_cr(4, VC_CR4_PAE | VC_CR4_SMEP), VC_GP, 0);
	enter_protected(m, 0);
	ck_raised(write_cr(4, VC_CR4_PCIDE), VC_GP, 0); /* long mode only */
	ck_ran(write_cr(4, VC_CR4_LA57));
}
END_TEST

START_TEST(cr8_and_smsw)
{
	enter_long(m, 0);
	ck_ran(write_cr(8, 15));
	ck_assert_uint_eq(m->c->s.cr8, 15);
	ck_raised(write_cr(8, 16), VC_GP, 0);
	ck_ran(RUN(m, 0x44, 0x0f, 0x20, 0xc0));
	ck_assert_uint_eq(*gpr(m, VC_RAX), 15);

	enter_protected(m, 0);
	*gpr(m, VC_RAX) = 0xfffe; /* LMSW sets but never clears PE */
	ck_ran(RUN(m, 0x0f, 0x01, 0xf0));
	ck_assert_uint_eq(m->c->s.cr0, VC_CR0_PE | VC_CR0_ET | 0xe);
	enter_protected(m, 3);
	ck_ran(RUN(m, 0x0f, 0x01, 0xe0)); /* SMSW EAX */
	ck_assert_uint_eq(*gpr(m, VC_RAX), VC_CR0_PE | VC_CR0_ET);
	m->c->s.cr4 |= VC_CR4_UMIP;
	ck_raised(RUN(m, 0x0f, 0x01, 0xe0), VC_GP, 0);
	ck_raised(RUN(m, 0x0f, 0x01, 0xf0), VC_GP, 0);
}
END_TEST

START_TEST(xcr0)
{
	enter_long(m, 0);
	*gpr(m, VC_RCX) = 0;
	*gpr(m, VC_RDX) = 0;
	*gpr(m, VC_RAX) = 7;
	ck_raised(RUN(m, 0x0f, 0x01, 0xd1), VC_UD, 0);
	m->c->s.cr4 |= VC_CR4_OSXSAVE;
	ck_ran(RUN(m, 0x0f, 0x01, 0xd1));
	ck_assert_uint_eq(m->c->s.xcr0, 7);
	*gpr(m, VC_RAX) = 5; /* AVX without SSE */
	ck_raised(RUN(m, 0x0f, 0x01, 0xd1), VC_GP, 0);
	*gpr(m, VC_RAX) = 2; /* without x87 */
	ck_raised(RUN(m, 0x0f, 0x01, 0xd1), VC_GP, 0);
	*gpr(m, VC_RAX) = 0x207;
	ck_raised(RUN(m, 0x0f, 0x01, 0xd1), VC_GP, 0);
	*gpr(m, VC_RAX) = 3;
	*gpr(m, VC_RCX) = 1;
	ck_raised(RUN(m, 0x0f, 0x01, 0xd1), VC_GP, 0);
	*gpr(m, VC_RCX) = 2;
	ck_raised(RUN(m, 0x0f, 0x01, 0xd0), VC_GP, 0);
	*gpr(m, VC_RCX) = 0;
	ck_ran(RUN(m, 0x0f, 0x01, 0xd0));
	ck_assert_uint_eq(*gpr(m, VC_RAX), 7);
}
END_TEST

START_TEST(tlb_instructions)
{
	enter_long(m, 0);
	*gpr(m, VC_RAX) = 0x800000000000;
	ck_ran(RUN(m, 0x0f, 0x01, 0x38)); /* INVLPG of no address at all */
	poke(m, DATA, 8, 0);
	poke(m, DATA + 8, 8, 0x5000);
	for (unsigned type = 0; type < 6; type++) {
		*gpr(m, VC_RBX) = type;
		if (type < 4)
			ck_ran(RUN(m, 0x66, 0x0f, 0x38, 0x82, 0x1c, 0x25, LE32(DATA)));
		else
			ck_raised(RUN(m, 0x66, 0x0f, 0x38, 0x82, 0x1c, 0x25, LE32(DATA)), VC_GP, 0);
	}
	*gpr(m, VC_RBX) = 0;
	poke(m, DATA, 8, 1);
	ck_raised(RUN(m, 0x66, 0x0f, 0x38, 0x82, 0x1c, 0x25, LE32(DATA)), VC_GP, 0); /* PCID without PCIDE */
	poke(m, DATA, 8, 0x1000);
	*gpr(m, VC_RBX) = 2;
	ck_raised(RUN(m, 0x66, 0x0f, 0x38, 0x82, 0x1c, 0x25, LE32(DATA)), VC_GP, 0); /* reserved bits */
	enter_long(m, 3);
	ck_raised(RUN(m, 0x0f, 0x01, 0x38), VC_GP, 0);
	ck_raised(RUN(m, 0x66, 0x0f, 0x38, 0x82, 0x1c, 0x25, LE32(DATA)), VC_GP, 0);
}
END_TEST

/* ---- debug registers ---- */

START_TEST(debug_registers)
{
	enter_long(m, 0);
	*gpr(m, VC_RBX) = 0xffffffff;
	ck_ran(RUN(m, 0x0f, 0x23, 0xf3)); /* DR6 */
	ck_assert_uint_eq(m->c->s.dr6, 0xffffefff);
	*gpr(m, VC_RBX) = 0xffffdc00;
	ck_ran(RUN(m, 0x0f, 0x23, 0xfb)); /* DR7, no GD */
	ck_assert_uint_eq(m->c->s.dr7, 0xffff0400);
	ck_ran(RUN(m, 0x0f, 0x23, 0xeb)); /* DR5 is DR7 */
	m->c->s.cr4 |= VC_CR4_DE;
	ck_raised(RUN(m, 0x0f, 0x23, 0xeb), VC_UD, 0);
	*gpr(m, VC_RBX) = 1ull << 32;
	ck_raised(RUN(m, 0x0f, 0x23, 0xfb), VC_GP, 0);
	*gpr(m, VC_RBX) = 0x123456789;
	ck_ran(RUN(m, 0x0f, 0x23, 0xcb)); /* DR1 */
	ck_ran(RUN(m, 0x0f, 0x21, 0xc8));
	ck_assert_uint_eq(*gpr(m, VC_RAX), 0x123456789);
	/* general detect */
	m->c->s.dr7 |= EMU_DR7_GD;
	ck_raised(RUN(m, 0x0f, 0x21, 0xc8), VC_DB, 0);
	ck_assert_uint_eq(m->c->exc.dr6, EMU_DR6_BD);
	ck_assert(!m->c->exc.trap);
	set_gate(m, VC_DB, CODE64, 0x8e, 0);
	ck_assert(emu_deliver_exception(m->c));
	ck_assert_uint_eq(m->c->s.dr7 & EMU_DR7_GD, 0);
	ck_assert(m->c->s.dr6 & EMU_DR6_BD);
	enter_long(m, 3);
	ck_raised(RUN(m, 0x0f, 0x21, 0xc8), VC_GP, 0);
}
END_TEST

/* ---- tables ---- */

START_TEST(table_registers)
{
	enter_long(m, 0);
	poke(m, DATA, 2, 0x1234);
	poke(m, DATA + 2, 8, 0xffff800012345678);
	ck_ran(RUN(m, 0x0f, 0x01, 0x14, 0x25, LE32(DATA))); /* LGDT */
	ck_assert_uint_eq(m->c->s.gdtr.base, 0xffff800012345678);
	ck_assert_uint_eq(m->c->s.gdtr.limit, 0x1234);
	memset(m->ram + DATA, 0, 16);
	ck_ran(RUN(m, 0x0f, 0x01, 0x04, 0x25, LE32(DATA))); /* SGDT */
	ck_assert_uint_eq(peek(m, DATA, 2), 0x1234);
	ck_assert_uint_eq(peek(m, DATA + 2, 8), 0xffff800012345678);
	poke(m, DATA + 2, 8, 0x100000000000000);
	ck_raised(RUN(m, 0x0f, 0x01, 0x1c, 0x25, LE32(DATA)), VC_GP, 0); /* LIDT, not canonical */
	enter_long(m, 3);
	ck_raised(RUN(m, 0x0f, 0x01, 0x14, 0x25, LE32(DATA)), VC_GP, 0);
	ck_ran(RUN(m, 0x0f, 0x01, 0x0c, 0x25, LE32(DATA))); /* SIDT */
	m->c->s.cr4 |= VC_CR4_UMIP;
	ck_raised(RUN(m, 0x0f, 0x01, 0x0c, 0x25, LE32(DATA)), VC_GP, 0);
	ck_raised(RUN(m, 0x0f, 0x00, 0xc0), VC_GP, 0); /* SLDT EAX */
	ck_raised(RUN(m, 0x0f, 0x00, 0xc8), VC_GP, 0); /* STR EAX */

	enter_real(m);
	poke(m, 0x200, 2, 0xff);
	poke(m, 0x202, 4, 0x12345678);
	ck_ran(RUN(m, 0x0f, 0x01, 0x16, 0x00, 0x02)); /* 16-bit: 24 bits of base */
	ck_assert_uint_eq(m->c->s.gdtr.base, 0x345678);
	ck_ran(RUN(m, 0x66, 0x0f, 0x01, 0x16, 0x00, 0x02));
	ck_assert_uint_eq(m->c->s.gdtr.base, 0x12345678);
	ck_raised(RUN(m, 0x0f, 0x00, 0xd8), VC_UD, 0); /* LTR */
}
END_TEST

START_TEST(ldt_and_task_register)
{
	static const struct {
		bool ltr, long_mode;
		uint16_t selector;
		unsigned fault;
		uint32_t error;
	} row[] = {
	    {false, false, LDT_SEL, 0, 0},
	    {false, false, 0, 0, 0},
	    {false, false, LDT_SEL | 4, VC_GP, LDT_SEL | 4},
	    {false, false, TSS2_SEL, VC_GP, TSS2_SEL},
	    {false, false, 0x100, VC_GP, 0x100},
	    {false, false, DATA0, VC_GP, DATA0},
	    {true, false, TSS2_SEL, 0, 0},
	    {true, false, TSS_SEL, VC_GP, TSS_SEL}, /* busy */
	    {true, false, 0, VC_GP, 0},
	    {true, false, LDT_SEL, VC_GP, LDT_SEL},
	    {true, true, TSS2_SEL, 0, 0},
	    {false, true, LDT_SEL, 0, 0},
	};

	for (unsigned n = 0; n < VC_ARRAY_SIZE(row); n++) {
		struct outcome o;

		if (row[n].long_mode)
			enter_long(m, 0);
		else
			enter_protected(m, 0);
		set_desc(m, TSS2_SEL, descriptor(TSS2, 0x67, 0x89, 0));
		set_desc(m, TSS2_SEL + 8, 0xffff8000);
		set_desc(m, LDT_SEL + 8, 0xffff8000);
		*gpr(m, VC_RAX) = row[n].selector;
		o = RUN(m, 0x0f, 0x00, row[n].ltr ? 0xd8 : 0xd0);
		ck_row(o, row, n);
		if (row[n].fault)
			continue;
		if (row[n].ltr) {
			ck_assert_uint_eq(m->c->s.tr.selector, TSS2_SEL);
			ck_assert_uint_eq(m->c->s.tr.base, row[n].long_mode ? 0xffff800000000000 | TSS2 : TSS2);
			ck_assert_uint_eq(m->c->s.tr.attr & 15, 11);
			ck_assert_uint_eq(get_desc(m, TSS2_SEL) >> 40 & 15, 11);
		} else {
			ck_assert_uint_eq(m->c->s.ldtr.selector, row[n].selector);
			ck_assert_uint_eq(m->c->s.ldtr.unusable, !row[n].selector);
		}
	}
	enter_protected(m, 0);
	set_desc(m, TSS2_SEL, descriptor(TSS2, 0x67, 0x09, 0));
	*gpr(m, VC_RAX) = TSS2_SEL;
	ck_raised(RUN(m, 0x0f, 0x00, 0xd8), VC_NP, TSS2_SEL);
	enter_long(m, 0);
	set_desc(m, TSS2_SEL, descriptor(TSS2, 0x67, 0x89, 0));
	set_desc(m, TSS2_SEL + 8, 0x1000000); /* base is not canonical */
	ck_raised(RUN(m, 0x0f, 0x00, 0xd8), VC_GP, TSS2_SEL);
	set_desc(m, TSS2_SEL, descriptor(TSS2, 0x67, 0x81, 0)); /* 16-bit */
	ck_raised(RUN(m, 0x0f, 0x00, 0xd8), VC_GP, TSS2_SEL);
	enter_protected(m, 3);
	ck_raised(RUN(m, 0x0f, 0x00, 0xd8), VC_GP, 0);
}
END_TEST

START_TEST(looking_at_descriptors)
{
	static const struct {
		enum mode mode;
		uint16_t selector;
		bool lar, lsl, verr, verw;
	} row[] = {
	    {PROT0, 0, false, false, false, false},        {PROT0, DATA0, true, true, true, true},
	    {PROT0, CODE32, true, true, true, false},      {PROT0, EXEC_ONLY, true, true, false, false},
	    {PROT0, READ_ONLY, true, true, true, false},   {PROT0, DATA0 | 3, false, false, false, false},
	    {PROT3, DATA0, false, false, false, false},    {PROT3, CONF32, true, true, true, false},
	    {PROT3, UDATA, true, true, true, true},        {PROT0, 0x100, false, false, false, false},
	    {PROT0, TSS_SEL, true, true, false, false},    {PROT0, LDT_SEL, true, true, false, false},
	    {PROT0, TASK_GATE, true, false, false, false}, {LONG0, TASK_GATE, false, false, false, false},
	    {PROT0, GATE, true, false, false, false},      {LONG0, TSS_SEL, true, true, false, false},
	    {PROT0, ABSENT, true, true, true, true}, /* presence does not matter */
	};

	for (unsigned n = 0; n < VC_ARRAY_SIZE(row); n++) {
		enter(row[n].mode);
		set_desc(m, GATE, gate_descriptor(CODE32, 0, 0xec, 0));
		*gpr(m, VC_RAX) = 0x77777777;
		*gpr(m, VC_RBX) = row[n].selector;
		ck_ran(RUN(m, 0x0f, 0x02, 0xc3)); /* LAR EAX, EBX */
		ck_assert_msg(!(m->c->aflags & VC_FLAG_ZF) == !row[n].lar, "LAR, row %u", n);
		ck_assert_uint_eq(*gpr(m, VC_RAX), row[n].lar ? get_desc(m, row[n].selector) >> 32 & 0xffff00 : 0x77777777);
		ck_ran(RUN(m, 0x0f, 0x03, 0xc3));
		ck_assert_msg(!(m->c->aflags & VC_FLAG_ZF) == !row[n].lsl, "LSL, row %u", n);
		if (row[n].selector == DATA0)
			ck_assert_uint_eq(*gpr(m, VC_RAX), row[n].lsl ? 0xffffffff : 0x77777777);
		ck_ran(RUN(m, 0x0f, 0x00, 0xe3));
		ck_assert_msg(!(m->c->aflags & VC_FLAG_ZF) == !row[n].verr, "VERR, row %u", n);
		ck_ran(RUN(m, 0x0f, 0x00, 0xeb));
		ck_assert_msg(!(m->c->aflags & VC_FLAG_ZF) == !row[n].verw, "VERW, row %u", n);
	}
	enter_v86(m, 3);
	ck_raised(RUN(m, 0x0f, 0x02, 0xc3), VC_UD, 0);

	enter_protected(m, 3);
	*gpr(m, VC_RAX) = 0x12340010;
	*gpr(m, VC_RBX) = 3;
	ck_ran(RUN(m, 0x63, 0xd8)); /* ARPL AX, BX */
	ck_assert_uint_eq(*gpr(m, VC_RAX), 0x12340013);
	ck_assert(m->c->aflags & VC_FLAG_ZF);
	ck_ran(RUN(m, 0x63, 0xd8));
	ck_assert(!(m->c->aflags & VC_FLAG_ZF));
	poke(m, DATA, 4, 0xffff0021);
	ck_ran(RUN(m, 0x63, 0x1d, LE32(DATA)));
	ck_assert_uint_eq(peek(m, DATA, 4), 0xffff0023);
}
END_TEST

/* ---- fast system calls ---- */

static void msrs(void)
{
	struct vc_cpu_state *s = &m->c->s;

	s->efer |= VC_EFER_SCE;
	s->star = (uint64_t)CODE64 << 32 | (uint64_t)0x23 << 48;
	s->lstar = 0xffff800000001000;
	s->cstar = 0x3000;
	s->sfmask = VC_FLAG_IF | VC_FLAG_TF | VC_FLAG_AC;
	s->sysenter_cs = CODE32;
	s->sysenter_esp = 0xffff800000009000;
	s->sysenter_eip = 0xffff800000002000;
}

START_TEST(syscall_and_sysret)
{
	enter_long(m, 3);
	ck_raised(RUN(m, 0x0f, 0x05), VC_UD, 0); /* SCE is off */
	msrs();
	m->c->s.rflags |= VC_FLAG_IF | VC_FLAG_AC | VC_FLAG_ID;
	m->c->aflags = VC_FLAG_CF;
	ck_ran(RUN(m, 0x0f, 0x05));
	ck_assert_uint_eq(m->c->cpl, 0);
	ck_assert_uint_eq(m->c->s.rip, 0xffff800000001000);
	ck_assert_uint_eq(*gpr(m, VC_RCX), CODE + 2);
	ck_assert_uint_eq(*gpr(m, VC_R11), 0x240203);
	ck_assert_uint_eq(emu_rflags(m->c), 2 | VC_FLAG_ID | VC_FLAG_CF);
	ck_assert_uint_eq(sel(m, VC_CS), CODE64);
	ck_assert_uint_eq(m->c->s.seg[VC_CS].attr, 0xa09b);
	ck_assert_uint_eq(sel(m, VC_SS), CODE64 + 8);
	ck_assert_uint_eq(m->c->s.seg[VC_SS].attr, 0xc093);
	ck_assert_uint_eq(*gpr(m, VC_RSP), STACK3);

	*gpr(m, VC_RCX) = 0x800000000000;
	ck_raised(RUN(m, 0x48, 0x0f, 0x07), VC_GP, 0);
	*gpr(m, VC_RCX) = 0x7fffffffffff;
	*gpr(m, VC_R11) = ~0ull;
	ck_ran(RUN(m, 0x48, 0x0f, 0x07));
	ck_assert_uint_eq(m->c->cpl, 3);
	ck_assert_uint_eq(m->c->mode, EMU_MODE_64);
	ck_assert_uint_eq(sel(m, VC_CS), 0x33);
	ck_assert_uint_eq(sel(m, VC_SS), 0x2b);
	ck_assert_uint_eq(m->c->s.seg[VC_CS].attr, 0xa0fb);
	ck_assert_uint_eq(emu_rflags(m->c), 0x3c7fd7);
	ck_assert(m->c->attention); /* TF */
	ck_raised(RUN(m, 0x48, 0x0f, 0x07), VC_GP, 0);

	enter_long(m, 0);
	msrs();
	*gpr(m, VC_RCX) = 0x1122334455;
	*gpr(m, VC_R11) = 0x202;
	ck_ran(RUN(m, 0x0f, 0x07)); /* to compatibility mode */
	ck_assert_uint_eq(m->c->s.rip, 0x22334455);
	ck_assert_uint_eq(sel(m, VC_CS), 0x23);
	ck_assert_uint_eq(m->c->mode, EMU_MODE_32);
}
END_TEST

/* Outside 64-bit mode SYSCALL is AMD's. */
START_TEST(syscall_in_compatibility_mode)
{
	enter_compat(m, 3);
	msrs();
	for (unsigned n = 0; n < m->vcpu.cpuid.count; n++) {
		struct vc_cpuid_entry *e = &m->vcpu.cpuid.entries[n];
		if (e->leaf == 0)
			memcpy(&e->regs[VC_EBX], "Genu", 4);
	}
	ck_raised(RUN(m, 0x0f, 0x05), VC_UD, 0);
	for (unsigned n = 0; n < m->vcpu.cpuid.count; n++) {
		struct vc_cpuid_entry *e = &m->vcpu.cpuid.entries[n];
		if (e->leaf == 0)
			memcpy(&e->regs[VC_EBX], "Auth", 4);
	}
	ck_ran(RUN(m, 0x0f, 0x05));
	ck_assert_uint_eq(m->c->s.rip, 0x3000);
	ck_assert_uint_eq(m->c->mode, EMU_MODE_64);
	ck_assert_uint_eq(*gpr(m, VC_RCX), CODE + 2);
	enter_real(m);
	msrs();
	ck_raised(RUN(m, 0x0f, 0x05), VC_UD, 0);
}
END_TEST

START_TEST(sysenter_and_sysexit)
{
	enter_long(m, 3);
	msrs();
	m->c->s.rflags |= VC_FLAG_IF;
	ck_ran(RUN(m, 0x0f, 0x34));
	ck_assert_uint_eq(m->c->s.rip, 0xffff800000002000);
	ck_assert_uint_eq(*gpr(m, VC_RSP), 0xffff800000009000);
	ck_assert_uint_eq(emu_rflags(m->c), 2);
	ck_assert_uint_eq(sel(m, VC_CS), CODE32);
	ck_assert_uint_eq(m->c->mode, EMU_MODE_64);
	*gpr(m, VC_RDX) = 0x800000000000;
	*gpr(m, VC_RCX) = STACK3;
	ck_raised(RUN(m, 0x48, 0x0f, 0x35), VC_GP, 0);
	*gpr(m, VC_RDX) = CODE;
	ck_ran(RUN(m, 0x48, 0x0f, 0x35));
	ck_assert_uint_eq(sel(m, VC_CS), (CODE32 + 32) | 3);
	ck_assert_uint_eq(sel(m, VC_SS), (CODE32 + 40) | 3);
	ck_assert_uint_eq(m->c->cpl, 3);
	ck_raised(RUN(m, 0x48, 0x0f, 0x35), VC_GP, 0);
	m->c->s.sysenter_cs = 3;
	ck_raised(RUN(m, 0x0f, 0x34), VC_GP, 0);

	enter_protected(m, 3);
	msrs();
	ck_ran(RUN(m, 0x0f, 0x34));
	ck_assert_uint_eq(m->c->s.rip, 0x2000);
	ck_assert_uint_eq(*gpr(m, VC_RSP), 0x9000);
	ck_assert_uint_eq(m->c->mode, EMU_MODE_32);
	ck_ran(RUN(m, 0x0f, 0x35));
	ck_assert_uint_eq(sel(m, VC_CS), (CODE32 + 16) | 3);
	enter_real(m);
	msrs();
	ck_raised(RUN(m, 0x0f, 0x34), VC_GP, 0);
}
END_TEST

/* ---- the rest ---- */

START_TEST(bases)
{
	enter_long(m, 0);
	m->c->s.seg[VC_GS].base = 0x1111;
	m->c->s.kernel_gs_base = 0x2222;
	ck_ran(RUN(m, 0x0f, 0x01, 0xf8)); /* SWAPGS */
	ck_assert_uint_eq(m->c->s.seg[VC_GS].base, 0x2222);
	ck_assert_uint_eq(m->c->s.kernel_gs_base, 0x1111);
	ck_raised(RUN(m, 0xf3, 0x48, 0x0f, 0xae, 0xd3), VC_UD, 0); /* WRFSBASE without CR4.FSGSBASE */
	m->c->s.cr4 |= VC_CR4_FSGSBASE;
	*gpr(m, VC_RBX) = 0x100000000000000;
	ck_raised(RUN(m, 0xf3, 0x48, 0x0f, 0xae, 0xd3), VC_GP, 0);
	*gpr(m, VC_RBX) = 0xffff800012345678;
	ck_ran(RUN(m, 0xf3, 0x48, 0x0f, 0xae, 0xd3));
	ck_assert_uint_eq(m->c->s.seg[VC_FS].base, 0xffff800012345678);
	ck_ran(RUN(m, 0xf3, 0x0f, 0xae, 0xdb));       /* WRGSBASE EBX */
	ck_ran(RUN(m, 0xf3, 0x48, 0x0f, 0xae, 0xc8)); /* RDGSBASE RAX */
	ck_assert_uint_eq(*gpr(m, VC_RAX), 0x12345678);
	enter_long(m, 3);
	ck_raised(RUN(m, 0x0f, 0x01, 0xf8), VC_GP, 0);

	enter_long(m, 0);
	*gpr(m, VC_RCX) = 0xc0000101;
	*gpr(m, VC_RAX) = 0x1000;
	*gpr(m, VC_RDX) = 0xffff8000;
	ck_ran(RUN(m, 0x0f, 0x30));
	ck_assert_uint_eq(m->c->s.seg[VC_GS].base, 0xffff800000001000);
	*gpr(m, VC_RDX) = 0x1000000;
	ck_raised(RUN(m, 0x0f, 0x30), VC_GP, 0); /* not canonical */
	*gpr(m, VC_RDX) = 0x8000;                /* but for 57 bits, even while only 48 are in use */
	ck_ran(RUN(m, 0x0f, 0x30));
	vc_feature_put(&m->vcpu.cpuid.features, VC_F_LA57, false);
	ck_raised(RUN(m, 0x0f, 0x30), VC_GP, 0);
	*gpr(m, VC_RAX) = *gpr(m, VC_RDX) = 0;
	ck_ran(RUN(m, 0x0f, 0x32));
	ck_assert_uint_eq(*gpr(m, VC_RDX), 0x8000);
	*gpr(m, VC_RCX) = 0x12345678;
	ck_raised(RUN(m, 0x0f, 0x32), VC_GP, 0);
	ck_raised(RUN(m, 0x0f, 0x30), VC_GP, 0);
	enter_long(m, 3);
	ck_raised(RUN(m, 0x0f, 0x32), VC_GP, 0);
}
END_TEST

START_TEST(halting_and_time)
{
	enter_long(m, 0);
	m->c->s.shadow_sti = 1;
	ck_ran(RUN(m, 0xf4));
	ck_assert_uint_eq(m->c->s.mp_state, VC_MP_HALTED);
	ck_assert_uint_eq(m->c->s.rip, CODE + 1);
	ck_assert_uint_eq(m->c->s.shadow_sti, 0);
	ck_assert(m->c->attention);
	m->c->s.mp_state = VC_MP_RUNNABLE;
	ck_ran(RUN(m, 0xf3, 0x90));
	*gpr(m, VC_RCX) = 0;
	*gpr(m, VC_RAX) = DATA;
	ck_ran(RUN(m, 0x0f, 0x01, 0xc8)); /* MONITOR */
	ck_ran(RUN(m, 0x0f, 0x01, 0xc9)); /* MWAIT */
	*gpr(m, VC_RCX) = 2;
	ck_raised(RUN(m, 0x0f, 0x01, 0xc8), VC_GP, 0);
	ck_raised(RUN(m, 0x0f, 0x01, 0xc9), VC_GP, 0);
	ck_ran(RUN(m, 0x0f, 0x31)); /* RDTSC */
	m->c->s.tsc_aux = 77;
	ck_ran(RUN(m, 0x0f, 0x01, 0xf9)); /* RDTSCP */
	ck_assert_uint_eq(*gpr(m, VC_RCX), 77);
	ck_ran(RUN(m, 0xf3, 0x0f, 0xc7, 0xf8)); /* RDPID */
	ck_assert_uint_eq(*gpr(m, VC_RAX), 77);
	ck_ran(RUN(m, 0x0f, 0x09)); /* WBINVD */
	enter_long(m, 3);
	ck_raised(RUN(m, 0xf4), VC_GP, 0);
	ck_raised(RUN(m, 0x0f, 0x09), VC_GP, 0);
	ck_raised(RUN(m, 0x0f, 0x01, 0xc8), VC_UD, 0);
	ck_ran(RUN(m, 0x0f, 0x31));
	m->c->s.cr4 |= VC_CR4_TSD;
	ck_raised(RUN(m, 0x0f, 0x31), VC_GP, 0);
	ck_raised(RUN(m, 0x0f, 0x01, 0xf9), VC_GP, 0);
	ck_raised(RUN(m, 0x0f, 0x33), VC_GP, 0); /* RDPMC */
	ck_raised(RUN(m, 0x0f, 0xaa), VC_UD, 0); /* RSM */
	ck_raised(RUN(m, 0x0f, 0x0b), VC_UD, 0);
}
END_TEST

START_TEST(identification_and_random_numbers)
{
	uint32_t out[4];
	uint64_t first;

	enter_long(m, 3);
	*gpr(m, VC_RAX) = 0xffffffff00000000;
	*gpr(m, VC_RCX) = 0;
	ck_ran(RUN(m, 0x0f, 0xa2));
	vc_cpuid_query(&m->vcpu.cpuid, m->c->s.cr4, m->c->s.xcr0, m->c->s.apic_base, 0, 0, out);
	ck_assert_uint_eq(*gpr(m, VC_RAX), out[VC_EAX]);
	ck_assert_uint_eq(*gpr(m, VC_RBX), out[VC_EBX]);
	ck_assert_uint_eq(*gpr(m, VC_RCX), out[VC_ECX]);
	ck_assert_uint_eq(*gpr(m, VC_RDX), out[VC_EDX]);
	m->c->aflags = VC_FLAG_ZF | VC_FLAG_OF;
	ck_ran(RUN(m, 0x48, 0x0f, 0xc7, 0xf3)); /* RDRAND RBX */
	ck_assert_uint_eq(m->c->aflags, VC_FLAG_CF);
	first = *gpr(m, VC_RBX);
	ck_ran(RUN(m, 0x48, 0x0f, 0xc7, 0xfb)); /* RDSEED RBX */
	ck_assert_uint_ne(*gpr(m, VC_RBX), first);
	*gpr(m, VC_RBX) = ~0ull;
	ck_ran(RUN(m, 0x66, 0x0f, 0xc7, 0xf3));
	ck_assert_uint_eq(*gpr(m, VC_RBX) >> 16, ~0ull >> 16);
}
END_TEST

START_TEST(cache_line_flush)
{
	enter_long(m, 3);
	ck_ran(RUN(m, 0x0f, 0xae, 0x3c, 0x25, LE32(DATA)));
	unmap(m, DATA);
	ck_raised(RUN(m, 0x0f, 0xae, 0x3c, 0x25, LE32(DATA)), VC_PF, 4);
	*gpr(m, VC_RAX) = 0x800000000000;
	ck_raised(RUN(m, 0x0f, 0xae, 0x38), VC_GP, 0);
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
	    cr0_rules,
	    into_long_mode_and_out,
	    cr3_rules,
	    cr4_rules,
	    cr8_and_smsw,
	    xcr0,
	    tlb_instructions,
	    debug_registers,
	    table_registers,
	    ldt_and_task_register,
	    looking_at_descriptors,
	    syscall_and_sysret,
	    syscall_in_compatibility_mode,
	    sysenter_and_sysexit,
	    bases,
	    halting_and_time,
	    identification_and_random_numbers,
	    cache_line_flush,
	};

	return run_tests("control", tests, VC_ARRAY_SIZE(tests), setup, teardown);
}
