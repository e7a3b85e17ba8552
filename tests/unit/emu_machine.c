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

static void port_access(void *ctx, struct vcore_io *io)
{
	struct machine *m = ctx;

	m->port = *io;
	m->port_accesses++;
	if (!io->is_write)
		io->data = 0x89abcdef;
}

static void add_ports(struct machine *m)
{
	const struct vcore_device_ops ops = {.size = sizeof ops, .read = port_access, .write = port_access};
	struct vc_dev *dev;

	ck_assert_int_eq(vc_buses_init(&m->buses, &m->gate), 0);
	ck_assert_int_eq(vc_dev_add(&m->buses, "ports", &ops, m, &dev), 0);
	ck_assert_int_eq(vc_dev_add_region(&m->buses, NULL, dev, VCORE_BUS_PIO, 0, 0x10000), 0);
}

static void add_vcpu(struct machine *m)
{
	struct vc_feature_set all = {{0}};
	struct vc_cpu_model_request request = {
	    .model = "host", .offered = &all, .vcpus = 1, .phys_bits = 40, .tsc_khz = 1000000};

	for (unsigned f = 1; f < VC_F_COUNT; f++)
		vc_feature_put(&all, f, true);
	m->vcpu.vm = &m->vm;
	ck_assert_int_eq(vc_cpuid_build(&request, &m->vcpu.cpuid, NULL, 0), 0);
	ck_assert_int_eq(emu_vcpu_new(&m->vcpu, &m->c), 0);
	m->vcpu.priv = m->c;
	vc_gate_add(&m->gate, &m->vcpu.pass, NULL, NULL);
	vc_gate_enter(&m->vcpu.pass);
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
	add_ports(m);
	m->vm.gate = &m->gate;
	m->vm.env.mem = &m->mem;
	m->vm.env.buses = &m->buses;
	vc_clock_init(&m->clock);
	m->vm.env.clock = &m->clock;
	m->vm.tsc_khz = 1000000;
	m->vm.irqchip = VCORE_IRQCHIP_NONE;
	add_vcpu(m);
	fill_gdt(m);
	fill_page_tables(m);
	enter_real(m);
	return m;
}

void machine_free(struct machine *m)
{
	vc_gate_leave(&m->vcpu.pass);
	vc_gate_remove(&m->gate, &m->vcpu.pass);
	emu_vcpu_free(m->c);
	vc_buses_fini(&m->buses);
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

static struct outcome caught(struct machine *m, int why)
{
	if (!why)
		return (struct outcome){.what = RAN};
	if (why != EMU_UNWIND_EXCEPTION)
		return (struct outcome){.what = LEFT};
	return (struct outcome){
	    .what = RAISED, .vector = m->c->exc.vector, .error = m->c->exc.error, .has_error = m->c->exc.has_error};
}

/* Run something that may raise. */
typedef void (*action)(struct machine *m, void *ctx);
static struct outcome attempt(struct machine *m, action act, void *ctx)
{
	jmp_buf here;
	int why;

	m->c->unwind = &here;
	why = setjmp(here);
	if (!why)
		act(m, ctx);
	m->c->unwind = NULL;
	return caught(m, why);
}

static void run_handler(struct machine *m, void *ctx)
{
	const struct emu_insn *insn = ctx;

	if (emu_system_handler(insn->op)(m->c, insn) == EMU_NEXT)
		m->c->s.rip = (m->c->s.rip + insn->len) & emu_ip_mask(m->c);
}

struct outcome execute(struct machine *m, const uint8_t *bytes, unsigned length)
{
	struct emu_decode_mode mode = {
	    .mode = m->c->mode, .protected_mode = m->c->protected_mode, .features = &m->vcpu.cpuid.features};
	struct emu_insn insn;

	switch (emu_decode(bytes, length, &mode, &insn)) {
	case EMU_DECODE_OK:
		break;
	case EMU_DECODE_UD:
		return (struct outcome){.what = RAISED, .vector = VC_UD};
	default:
		ck_abort_msg("the decoder wants more bytes");
	}
	ck_assert_uint_eq(insn.len, length);
	ck_assert_msg(emu_system_handler(insn.op) != NULL, "no handler of %s", emu_op_name(insn.op));
	m->c->in_block = false;
	return attempt(m, run_handler, &insn);
}

struct linear_args {
	enum vc_sreg seg;
	uint64_t offset, *linear;
	unsigned size;
	enum vcore_access access;
};

static void call_seg_linear(struct machine *m, void *ctx)
{
	const struct linear_args *a = ctx;

	*a->linear = emu_seg_linear(m->c, a->seg, a->offset, a->size, a->access);
}

struct outcome seg_linear(struct machine *m, enum vc_sreg seg, uint64_t offset, unsigned size, enum vcore_access access,
                          uint64_t *linear)
{
	struct linear_args a = {.seg = seg, .offset = offset, .linear = linear, .size = size, .access = access};

	return attempt(m, call_seg_linear, &a);
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
