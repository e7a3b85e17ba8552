/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "emu_machine.h"

#define ALL_RIGHTS 7u /* present, writable, user */

void set_gate(struct machine *m, unsigned vector, uint16_t selector, unsigned access, unsigned ist)
{
	uint64_t raw = gate_descriptor(selector, HANDLER + 16 * vector, access, ist);

	if (m->c->long_mode) {
		poke(m, IDT + 16 * vector, 8, raw);
		poke(m, IDT + 16 * vector + 8, 8, 0);
	} else {
		poke(m, IDT + 8 * vector, 8, raw);
	}
}

static void fill_gdt(struct machine *m)
{
	memset(m->ram + GDT, 0, GDT_LIMIT + 1);
	set_desc(m, CODE32, descriptor(0, 0xfffff, 0x9b, 0xc));
	set_desc(m, DATA0, descriptor(0, 0xfffff, 0x93, 0xc));
	set_desc(m, UCODE32, descriptor(0, 0xfffff, 0xfb, 0xc));
	set_desc(m, UDATA, descriptor(0, 0xfffff, 0xf3, 0xc));
	set_desc(m, TSS_SEL, descriptor(TSS, 0x3ff, 0x8b, 0));
	set_desc(m, CODE64, descriptor(0, 0xfffff, 0x9b, 0xa));
	set_desc(m, UCODE64, descriptor(0, 0xfffff, 0xfb, 0xa));
	set_desc(m, CONF32, descriptor(0, 0xfffff, 0x9f, 0xc));
	set_desc(m, CONF64, descriptor(0, 0xfffff, 0x9f, 0xa));
	set_desc(m, LDT_SEL, descriptor(LDT_AT, 0x1f, 0x82, 0));
	set_desc(m, ABSENT, descriptor(0, 0xfffff, 0x13, 0xc));
	set_desc(m, DOWN, descriptor(0, 0xfff, 0x97, 0x4));
	set_desc(m, CODE16, descriptor(0, 0xffff, 0x9b, 0));
	set_desc(m, DATA16, descriptor(0, 0xffff, 0x93, 0));
	set_desc(m, TSS2_SEL, descriptor(TSS2, 0x67, 0x89, 0));
	set_desc(m, TASK_GATE, gate_descriptor(TSS2_SEL, 0, 0x85, 0));
	set_desc(m, EXEC_ONLY, descriptor(0, 0xfffff, 0x99, 0xc));
	set_desc(m, READ_ONLY, descriptor(0, 0xfffff, 0x91, 0xc));
	set_desc(m, CODE1, descriptor(0, 0xfffff, 0xbb, 0xc));
	set_desc(m, DATA1, descriptor(0, 0xfffff, 0xb3, 0xc));
	set_desc(m, UCODE16, descriptor(0, 0xffff, 0xfb, 0));
	set_desc(m, UDATA16, descriptor(0, 0xffff, 0xf3, 0));
	set_desc(m, ABSENT_CODE, descriptor(0, 0xfffff, 0x1b, 0xc));
	set_desc(m, CODE_LD, descriptor(0, 0xfffff, 0x9b, 0xe));
}

static void fill_page_tables(struct machine *m)
{
	poke(m, PML4, 8, PDPT | ALL_RIGHTS);
	poke(m, PDPT, 8, PD | ALL_RIGHTS);
	poke(m, PD, 8, PT | ALL_RIGHTS);
	for (unsigned n = 0; n < MEMORY / 4096; n++)
		poke(m, PT + 8 * n, 8, n * 4096 | ALL_RIGHTS);
}

struct machine *machine_new(void)
{
	struct machine *m = calloc(1, sizeof *m);
	struct vc_slot *slot;

	ck_assert_int_eq(vc_gate_init(&m->gate), 0);
	ck_assert_int_eq(vc_mem_init(&m->mem, &m->gate), 0);
	m->mem.want_pages = true;
	ck_assert_int_eq(vc_mem_add(&m->mem, NULL, 0, MEMORY, VCORE_MEM_RWX, NULL, &slot), 0);
	m->ram = slot->hva;
	m->vm.gate = &m->gate;
	m->vm.env.mem = &m->mem;
	m->vcpu.vm = &m->vm;
	m->vcpu.cpuid.phys_bits = 40;
	for (unsigned f = 1; f < VC_F_COUNT; f++)
		vc_feature_put(&m->vcpu.cpuid.features, f, true);
	m->c = aligned_alloc(64, VC_ALIGN_UP(sizeof *m->c, 64));
	memset(m->c, 0, sizeof *m->c);
	m->c->bvcpu = &m->vcpu;
	m->c->bvm = &m->vm;
	m->c->requests = &m->vcpu.requests;
	m->c->sys = calloc(1, sizeof *m->c->sys);
	m->vcpu.priv = m->c;
	ck_assert_int_eq(emu_mmu_new(m->c), 0);
	fill_gdt(m);
	fill_page_tables(m);
	vc_gate_add(&m->gate, &m->vcpu.pass, NULL, NULL);
	vc_gate_enter(&m->vcpu.pass);
	enter_real(m);
	return m;
}

void machine_free(struct machine *m)
{
	vc_gate_leave(&m->vcpu.pass);
	vc_gate_remove(&m->gate, &m->vcpu.pass);
	emu_mmu_free(m->c);
	free(m->c->sys);
	free(m->c);
	vc_mem_fini(&m->mem);
	vc_gate_fini(&m->gate);
	free(m);
}

/* ---- modes ---- */

static void load(struct machine *m, enum vc_sreg s, uint16_t selector)
{
	emu_segment_fill(&m->c->s.seg[s], selector, get_desc(m, selector));
}

static void tables(struct machine *m, unsigned entry)
{
	struct vc_cpu_state *s = &m->c->s;

	s->gdtr = (struct vc_table){.base = GDT, .limit = GDT_LIMIT};
	s->idtr = (struct vc_table){.base = IDT, .limit = (uint16_t)(256 * entry - 1)};
	memset(m->ram + IDT, 0, 0x1000);
	emu_segment_fill(&s->tr, TSS_SEL, get_desc(m, TSS_SEL));
	emu_segment_null(&s->ldtr, 0, 0);
	m->c->aflags = 0;
	s->rflags = 2;
	s->rip = CODE;
}

static void finish(struct machine *m)
{
	emu_mmu_state_changed(m->c);
	emu_mode_changed(m->c);
	m->c->attention = false;
}

void enter_real(struct machine *m)
{
	struct vc_cpu_state *s = &m->c->s;

	tables(m, 4);
	s->idtr.base = 0;
	s->idtr.limit = 0x3ff;
	s->cr0 = VC_CR0_ET;
	s->cr4 = s->efer = 0;
	for (unsigned n = 0; n < VC_SEG_COUNT; n++)
		s->seg[n] = (struct vc_segment){.limit = 0xffff, .attr = n == VC_CS ? 0x9b : 0x93};
	s->seg[VC_CS].selector = CODE >> 4;
	s->seg[VC_CS].base = CODE;
	s->rip = 0x100;
	s->gpr[VC_RSP] = STACK0;
	finish(m);
}

static void flat(struct machine *m, uint16_t cs, unsigned cpl)
{
	uint16_t data = cpl ? UDATA : DATA0;

	load(m, VC_CS, cs);
	for (unsigned n = 0; n < VC_SEG_COUNT; n++) {
		if (n != VC_CS)
			load(m, n, data);
	}
	m->c->s.gpr[VC_RSP] = cpl ? STACK3 : STACK0;
}

void enter_protected(struct machine *m, unsigned cpl)
{
	struct vc_cpu_state *s = &m->c->s;

	tables(m, 8);
	s->cr0 = VC_CR0_PE | VC_CR0_ET;
	s->cr4 = s->efer = 0;
	flat(m, cpl ? UCODE32 : CODE32, cpl);
	memset(m->ram + TSS, 0, 0x400);
	poke(m, TSS + 4, 4, STACK0);
	poke(m, TSS + 8, 2, DATA0);
	poke(m, TSS + 12, 4, STACK1);
	poke(m, TSS + 16, 2, DATA1);
	poke(m, TSS + 0x66, 2, 0x88);
	set_desc(m, TSS_SEL, descriptor(TSS, 0x3ff, 0x8b, 0));
	finish(m);
}

void enter_v86(struct machine *m, unsigned iopl)
{
	enter_protected(m, 3);
	for (unsigned n = 0; n < VC_SEG_COUNT; n++)
		emu_segment_v86(&m->c->s.seg[n], n == VC_CS ? CODE >> 4 : 0x100);
	m->c->s.rflags = 2 | VC_FLAG_VM | iopl << 12;
	m->c->s.rip = 0x100;
	m->c->s.gpr[VC_RSP] = 0x8000;
	finish(m);
}

static void long_tables(struct machine *m)
{
	struct vc_cpu_state *s = &m->c->s;

	s->cr0 = VC_CR0_PE | VC_CR0_ET | VC_CR0_PG | VC_CR0_WP;
	s->cr4 = VC_CR4_PAE;
	s->efer = VC_EFER_LME | VC_EFER_LMA | VC_EFER_NXE;
	s->cr3 = PML4;
	tables(m, 16);
	memset(m->ram + TSS, 0, 0x400);
	poke(m, TSS + 4, 8, STACK0);
	poke(m, TSS + 12, 8, STACK1);
	poke(m, TSS + 0x24, 8, STACK_IST);
	poke(m, TSS + 0x66, 2, 0x88);
	set_desc(m, TSS_SEL + 8, 0);
	set_desc(m, LDT_SEL + 8, 0);
}

void enter_long(struct machine *m, unsigned cpl)
{
	long_tables(m);
	flat(m, cpl ? UCODE64 : CODE64, cpl);
	finish(m);
}

void enter_compat(struct machine *m, unsigned cpl)
{
	long_tables(m);
	flat(m, cpl ? UCODE32 : CODE32, cpl);
	finish(m);
}

void unmap(struct machine *m, uint32_t at)
{
	poke(m, PT + 8 * (at >> 12), 8, 0);
	emu_tlb_flush_all(m->c);
}

/* ---- executing ---- */

struct outcome caught(struct machine *m, int why)
{
	if (why != EMU_UNWIND_EXCEPTION)
		return (struct outcome){.what = LEFT};
	return (struct outcome){
	    .what = RAISED, .vector = m->c->exc.vector, .error = m->c->exc.error, .has_error = m->c->exc.has_error};
}

struct outcome execute(struct machine *m, const uint8_t *bytes, unsigned length)
{
	struct emu_decode_mode mode = {
	    .mode = m->c->mode, .protected_mode = m->c->protected_mode, .features = &m->vcpu.cpuid.features};
	struct emu_insn insn;
	struct outcome o;
	emu_system_fn fn;

	switch (emu_decode(bytes, length, &mode, &insn)) {
	case EMU_DECODE_OK:
		break;
	case EMU_DECODE_UD:
		return (struct outcome){.what = RAISED, .vector = VC_UD};
	default:
		ck_abort_msg("the decoder wants more bytes");
	}
	ck_assert_uint_eq(insn.len, length);
	fn = emu_system_handler(insn.op);
	ck_assert_msg(fn != NULL, "no handler of %s", emu_op_name(insn.op));
	m->c->in_block = false;
	CATCH(m, o, {
		if (fn(m->c, &insn) == EMU_NEXT)
			m->c->s.rip = (m->c->s.rip + insn.len) & emu_ip_mask(m->c);
	});
	return o;
}

bool raise_and_deliver(struct machine *m, const struct emu_exception *exc)
{
	m->c->exc = *exc;
	return emu_deliver_exception(m->c);
}

int run_tests(const char *name, const TTest *const *tests, unsigned count, SFun setup, SFun teardown)
{
	Suite *suite = suite_create(name);
	TCase *tcase = tcase_create(name);
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	for (unsigned n = 0; n < count; n++)
		tcase_add_test(tcase, tests[n]);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
