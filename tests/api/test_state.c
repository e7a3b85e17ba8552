/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The vcpu's state: round trips, what no CPU can be in, modes, translation in every paging mode, CPUID. */
#include "api.h"

static vcore_vm *vm;
static vcore_vcpu *vcpu;

static void make(int backend)
{
	vm = api_vm(backend, 1);
	vcpu = vcore_vm_vcpu(vm, 0);
}

static void drop(void)
{
	vcore_vm_unref(vm);
}

static struct vcore_sregs get_sregs(void)
{
	struct vcore_sregs s = {.size = sizeof s};

	OK(vcore_vcpu_get_sregs(vcpu, &s));
	return s;
}

/* ---- registers ---- */

START_TEST(regs_round_trip)
{
	struct vcore_regs in = {.size = sizeof in, .rip = 0x1234, .rflags = 0x246}, out = {.size = sizeof out};
	uint64_t *gpr = &in.rax;

	make(_i);
	for (int i = 0; i < 16; i++)
		gpr[i] = 0x0101010101010101u * (unsigned)(i + 1);
	OK(vcore_vcpu_set_regs(vcpu, &in));
	OK(vcore_vcpu_get_regs(vcpu, &out));
	ck_assert_mem_eq(&in.rax, &out.rax, sizeof in - offsetof(struct vcore_regs, rax));
	in.rflags &= ~2ull; /* bit 1 is always set */
	OK(vcore_vcpu_set_regs(vcpu, &in));
	OK(vcore_vcpu_get_regs(vcpu, &out));
	ck_assert_uint_eq(out.rflags, 0x246);
	in.rflags = 1ull << 40;
	REFUSED(vcore_vcpu_set_regs(vcpu, &in), EINVAL, "RFLAGS is 0x10000000002");
	in.rflags = 1 << 17 | 2;
	REFUSED(vcore_vcpu_set_regs(vcpu, &in), EINVAL, "RFLAGS.VM");
	in.rflags = 2;
	in.rip = 0x100001234;
	REFUSED(vcore_vcpu_set_regs(vcpu, &in), EINVAL, "RIP is 0x100001234");
	OK(vcore_vcpu_set_mode(vcpu, VCORE_MODE_LONG64, TABLES));
	OK(vcore_vcpu_set_regs(vcpu, &in));
	in.rip = 0x8000000000000000;
	REFUSED(vcore_vcpu_set_regs(vcpu, &in), EINVAL, "not a canonical address");
	in.rip = 0xffff800000000000;
	OK(vcore_vcpu_set_regs(vcpu, &in));
	in.size = 0;
	REFUSED(vcore_vcpu_set_regs(vcpu, &in), EINVAL, "size");
	REFUSED(vcore_vcpu_get_regs(vcpu, &in), EINVAL, "size");
	REFUSED(vcore_vcpu_get_regs(NULL, &out), EINVAL, "vcpu");
	/* what was refused changed nothing */
	OK(vcore_vcpu_get_regs(vcpu, &out));
	ck_assert_uint_eq(out.rip, 0xffff800000000000);
	drop();
}
END_TEST

START_TEST(sregs_round_trip)
{
	struct vcore_sregs in, out;

	make(_i);
	OK(vcore_vcpu_set_mode(vcpu, VCORE_MODE_LONG64, TABLES));
	in = get_sregs();
	in.gdtr = (struct vcore_table){.base = 0x1000, .limit = 0x7f};
	in.idtr = (struct vcore_table){.base = 0xffff800000002000, .limit = 0xfff};
	in.fs.base = 0x7fff12345678;
	in.gs.base = 0xffffffff80000000;
	in.cr2 = 0xdeadb000;
	in.cr8 = 5;
	in.dr[0] = 0x1000;
	in.dr[3] = 0x3000;
	in.ds.selector = 0x2b;
	OK(vcore_vcpu_set_sregs(vcpu, &in));
	out = get_sregs();
	ck_assert_mem_eq(&in.gdtr.base, &out.gdtr.base, 10);
	ck_assert_mem_eq(&in.idtr.base, &out.idtr.base, 10);
	ck_assert_uint_eq(out.fs.base, in.fs.base);
	ck_assert_uint_eq(out.gs.base, in.gs.base);
	ck_assert_uint_eq(out.cr2, in.cr2);
	ck_assert_uint_eq(out.cr8, in.cr8);
	ck_assert_uint_eq(out.dr[0], in.dr[0]);
	ck_assert_uint_eq(out.dr[3], in.dr[3]);
	ck_assert_uint_eq(out.ds.selector, 0x2b);
	ck_assert_uint_eq(out.cr0, in.cr0);
	ck_assert_uint_eq(out.cr4, in.cr4);
	ck_assert_uint_eq(out.efer, in.efer);
	ck_assert_uint_eq(out.cs.attributes, in.cs.attributes);
	drop();
}
END_TEST

START_TEST(impossible_states)
{
	static const struct {
		size_t offset;
		uint64_t set, clear;
		const char *sentence;
	} wrong[] = {
#define AT(member) offsetof(struct vcore_sregs, member)
	    {AT(cr0), 1ull << 32, 0, "CR0"},
	    {AT(cr0), 0, 1, "CR0.PG is set without CR0.PE"},
	    {AT(cr4), 1ull << 40, 0, "CR4"},
	    {AT(cr4), 0, 1 << 5, "CR4.PAE"},
	    {AT(efer), 0, 1 << 8, "EFER"},
	    {AT(efer), 1ull << 50, 0, "EFER"},
	    {AT(cr8), 16, 0, "CR8"},
	    {AT(cr3), 1ull << 60, 0, "CR3"},
	    {AT(dr7), 1ull << 33, 0, "DR7"},
	    {AT(xcr0), 0, 1, "XCR0"},
	    {AT(xcr0), 1ull << 40, 0, "XCR0"},
	    {AT(fs.base), 1ull << 60, 0, "FS.base"},
	    {AT(gdtr.base), 1ull << 58, 0, "GDTR.base"},
	    {AT(ds.base), 1ull << 32, 0, "base of ES, CS, SS and DS"},
#undef AT
	};

	make(_i);
	OK(vcore_vcpu_set_mode(vcpu, VCORE_MODE_LONG64, TABLES));
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		struct vcore_sregs s = get_sregs(), before = s, after;
		uint64_t *field = (uint64_t *)((char *)&s + wrong[i].offset);

		*field = (*field & ~wrong[i].clear) | wrong[i].set;
		REFUSED(vcore_vcpu_set_sregs(vcpu, &s), EINVAL, wrong[i].sentence);
		after = get_sregs();
		ck_assert_mem_eq(&before, &after, sizeof before);
	}
	drop();
}
END_TEST

START_TEST(xsave)
{
	uint8_t area[4096] = {0}, back[4096], out[4096];
	int size;

	make(_i);
	size = vcore_vcpu_get_xsave(vcpu, area, sizeof area);
	ck_assert_int_ge(size, 576);
	ck_assert_int_eq(vcore_vcpu_get_xsave(vcpu, area, 576), size);
	REFUSED(vcore_vcpu_get_xsave(vcpu, area, 575), EINVAL, "575");
	REFUSED(vcore_vcpu_set_xsave(vcpu, area, 100), EINVAL, "100");
	memset(area, 0, sizeof area);
	area[0] = 0x7f; /* FCW 0x37f */
	area[1] = 0x03;
	area[24] = 0x80; /* MXCSR 0x1f80 */
	area[25] = 0x1f;
	for (int i = 0; i < 256; i++)
		area[160 + i] = (uint8_t)(i + 1); /* XMM0-15 */
	for (int i = 0; i < 8; i++)
		memcpy(area + 32 + 16 * i, "\1\2\3\4\5\6\7\x88\x01\x40", 10); /* ST0-7 */
	area[512] = 3;                                                    /* x87 and SSE */
	OK(vcore_vcpu_set_xsave(vcpu, area, 576));
	OK(vcore_vcpu_get_xsave(vcpu, back, sizeof back));
	ck_assert_mem_eq(area + 32, back + 32, 128);
	ck_assert_mem_eq(area + 160, back + 160, 256);
	ck_assert_mem_eq(area, back, 2);
	ck_assert_mem_eq(area + 24, back + 24, 4);
	/* refused, and nothing changes */
	area[512] = 7;
	REFUSED(vcore_vcpu_set_xsave(vcpu, area, 576), EINVAL, "XSTATE_BV is 0x7");
	area[512] = 3;
	area[513] = 0x10;
	REFUSED(vcore_vcpu_set_xsave(vcpu, area, sizeof area), EINVAL, "XSTATE_BV");
	area[513] = 0;
	area[27] = 1;
	REFUSED(vcore_vcpu_set_xsave(vcpu, area, sizeof area), EINVAL, "MXCSR");
	area[27] = 0;
	area[527] = 0x80;
	REFUSED(vcore_vcpu_set_xsave(vcpu, area, sizeof area), EINVAL, "XCOMP_BV");
	area[527] = 0;
	area[530] = 1;
	REFUSED(vcore_vcpu_set_xsave(vcpu, area, sizeof area), EINVAL, "XSAVE header");
	OK(vcore_vcpu_get_xsave(vcpu, out, sizeof out));
	ck_assert_mem_eq(out, back, sizeof back);
	drop();
}
END_TEST

/* The guest sees the registers that were set, and the program those that the guest set. */
START_TEST(xsave_and_guest)
{
	uint8_t area[4096] = {0};
	struct vcore_sregs s;

	make(_i);
	/* movaps xmm1, xmm0; hlt */
	api_load(vm, 0, VCORE_MODE_LONG64, CODE, CODE_BYTES(0x0f, 0x28, 0xc8, 0xf4));
	s = get_sregs();
	s.cr4 |= 0x200;
	OK(vcore_vcpu_set_sregs(vcpu, &s));
	OK(vcore_vcpu_get_xsave(vcpu, area, sizeof area));
	memcpy(area + 160, "0123456789abcdef", 16);
	area[512] |= 3;
	OK(vcore_vcpu_set_xsave(vcpu, area, sizeof area));
	api_run(vm, VCORE_EXIT_HALT);
	OK(vcore_vcpu_get_xsave(vcpu, area, sizeof area));
	ck_assert_mem_eq(area + 176, "0123456789abcdef", 16);
	drop();
}
END_TEST

START_TEST(msrs)
{
	static const struct {
		uint32_t index;
		uint64_t value;
	} good[] = {{0x174, 0x10},        {0x175, 0xffff800000001000}, {0x176, 0x2000},      {0xc0000081, 0x23001000000000},
	            {0xc0000082, 0x1000}, {0xc0000084, 0x4700},        {0xc0000100, 0x9000}, {0xc0000101, 0xa000},
	            {0xc0000102, 0xb000}, {0x277, 0x0007040600070406}};
	uint64_t value, later;

	make(_i);
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		OK(vcore_vcpu_set_msr(vcpu, good[i].index, good[i].value));
		OK(vcore_vcpu_get_msr(vcpu, good[i].index, &value));
		ck_assert_uint_eq(value, good[i].value);
	}
	REFUSED(vcore_vcpu_get_msr(vcpu, 0x12345678, &value), ENOENT, "0x12345678");
	REFUSED(vcore_vcpu_set_msr(vcpu, 0x12345678, 0), ENOENT, "0x12345678");
	if (!api_is_poor_kvm(_i, "values of MSRs"))
		REFUSED(vcore_vcpu_set_msr(vcpu, 0x277, 2), EINVAL, "0x277");
	REFUSED(vcore_vcpu_get_msr(vcpu, 0x277, NULL), EINVAL, "place");
	REFUSED(vcore_vcpu_get_msr(NULL, 0x277, &value), EINVAL, "vcpu");
	/* the TSC goes with guest time */
	OK(vcore_vcpu_get_msr(vcpu, 0x10, &value));
	api_pause_ms(2);
	OK(vcore_vcpu_get_msr(vcpu, 0x10, &later));
	ck_assert_uint_gt(later, value);
	drop();
}
END_TEST

/* ---- modes ---- */

START_TEST(modes)
{
	struct vcore_regs before = {.size = sizeof before}, after = {.size = sizeof after};
	struct vcore_sregs s;

	make(_i);
	before.rcx = 77;
	before.rip = CODE;
	OK(vcore_vcpu_set_regs(vcpu, &before));
	OK(vcore_vcpu_set_mode(vcpu, VCORE_MODE_PROTECTED32, 0));
	s = get_sregs();
	ck_assert(s.cr0 & 1);
	ck_assert(!(s.cr0 & 0x80000000));
	ck_assert_uint_eq(s.cs.limit, 0xffffffff);
	OK(vcore_vcpu_set_mode(vcpu, VCORE_MODE_LONG64, TABLES));
	s = get_sregs();
	ck_assert_uint_eq(s.efer & 0x500, 0x500);
	ck_assert_uint_eq(s.cr3, TABLES);
	OK(vcore_vcpu_set_mode(vcpu, VCORE_MODE_REAL, 0));
	s = get_sregs();
	ck_assert_uint_eq(s.cr0 & 0x80000001, 0);
	ck_assert_uint_eq(s.cs.base, 0);
	OK(vcore_vcpu_get_regs(vcpu, &after));
	ck_assert_uint_eq(after.rcx, 77);
	REFUSED(vcore_vcpu_set_mode(vcpu, 3, 0), EINVAL, "mode 3");
	REFUSED(vcore_vcpu_set_mode(vcpu, VCORE_MODE_LONG64, 0x123), EINVAL, "0x123");
	REFUSED(vcore_vcpu_set_mode(vcpu, VCORE_MODE_LONG64, RAM - 4096), EFAULT, "0x200000");
	REFUSED(vcore_vcpu_set_mode(vcpu, VCORE_MODE_LONG64, 1u << 30), EFAULT, "0x40000000");
	ck_assert_uint_eq(get_sregs().cr0 & 0x80000001, 0);
	/* code in each: mov al, 5 (6, 7); hlt */
	for (enum vcore_mode mode = VCORE_MODE_REAL; mode <= VCORE_MODE_LONG64; mode++) {
		api_load(vm, 0, mode, CODE, CODE_BYTES(0xb0, (uint8_t)(5 + mode), 0xf4));
		api_run(vm, VCORE_EXIT_HALT);
		ck_assert_uint_eq(api_rax(vm), 5 + mode);
	}
	drop();
}
END_TEST

/* ---- translation ---- */

#define PT(n) (0x20000u + 0x1000u * (n))

static void entry64(uint64_t table, unsigned index, uint64_t value)
{
	OK(vcore_memory_write(vm, table + 8 * index, &value, 8));
}

static void entry32(uint64_t table, unsigned index, uint32_t value)
{
	OK(vcore_memory_write(vm, table + 4 * index, &value, 4));
}

static void translates(uint64_t gva, enum vcore_access access, uint64_t expected)
{
	uint64_t gpa = 0;

	OK(vcore_vcpu_translate(vcpu, gva, access, &gpa));
	ck_assert_uint_eq(gpa, expected);
}

static void faults(uint64_t gva, enum vcore_access access, const char *code)
{
	uint64_t gpa = 0x5a;

	REFUSED(vcore_vcpu_translate(vcpu, gva, access, &gpa), EFAULT, code);
	ck_assert_uint_eq(gpa, 0x5a);
}

START_TEST(translate_unpaged)
{
	uint64_t gpa;

	make(_i);
	translates(0x12345, VCORE_ACCESS_READ, 0x12345);
	OK(vcore_vcpu_set_mode(vcpu, VCORE_MODE_PROTECTED32, 0));
	translates(0xfffff123, VCORE_ACCESS_FETCH, 0xfffff123);
	REFUSED(vcore_vcpu_translate(vcpu, 0, 3, &gpa), EINVAL, "access");
	REFUSED(vcore_vcpu_translate(vcpu, 0, 0, NULL), EINVAL, "place");
	drop();
}
END_TEST

START_TEST(translate_32)
{
	struct vcore_sregs s;
	uint32_t pte;

	if (api_is_poor_kvm(_i, "32-bit paging"))
		return;
	make(_i);
	OK(vcore_vcpu_set_mode(vcpu, VCORE_MODE_PROTECTED32, 0));
	entry32(PT(0), 1, PT(1) | 7);
	entry32(PT(1), 2, 0x7000 | 7);        /* 0x402000: user, writable */
	entry32(PT(1), 3, 0x8000 | 5);        /* 0x403000: user, read-only */
	entry32(PT(0), 2, 0x00c00000 | 0x83); /* 0x800000: a 4 MiB page */
	s = get_sregs();
	s.cr3 = PT(0);
	s.cr4 |= 0x10;
	s.cr0 |= 0x80000000 | 0x10000;
	OK(vcore_vcpu_set_sregs(vcpu, &s));
	translates(0x402123, VCORE_ACCESS_WRITE, 0x7123);
	translates(0x403fff, VCORE_ACCESS_READ, 0x8fff);
	faults(0x403fff, VCORE_ACCESS_WRITE, "error code 0x3");
	faults(0x404000, VCORE_ACCESS_READ, "error code 0");
	translates(0x8abcde, VCORE_ACCESS_WRITE, 0xcabcde);
	/* without side effects */
	OK(vcore_memory_read(vm, PT(1) + 8, &pte, 4));
	ck_assert_uint_eq(pte, 0x7000 | 7);
	drop();
}
END_TEST

START_TEST(translate_pae)
{
	struct vcore_sregs s;

	if (api_is_poor_kvm(_i, "32-bit paging"))
		return;
	make(_i);
	OK(vcore_vcpu_set_mode(vcpu, VCORE_MODE_PROTECTED32, 0));
	entry64(PT(0), 3, PT(1) | 1);
	entry64(PT(1), 0, PT(2) | 7);
	entry64(PT(1), 1, 0x10200000 | 0x87); /* 0xc0200000: 2 MiB, beyond what has memory */
	entry64(PT(2), 5, 0x9000 | 3);
	s = get_sregs();
	s.cr3 = PT(0);
	s.cr4 |= 0x20;
	s.cr0 |= 0x80000000 | 0x10000;
	OK(vcore_vcpu_set_sregs(vcpu, &s));
	translates(0xc0005010, VCORE_ACCESS_WRITE, 0x9010);
	translates(0xc0345678, VCORE_ACCESS_READ, 0x10345678);
	faults(0x1000, VCORE_ACCESS_READ, "error code 0");
	faults(0xc0006000, VCORE_ACCESS_WRITE, "error code 0x2");
	drop();
}
END_TEST

START_TEST(translate_64)
{
	struct vcore_sregs s;
	uint64_t text = 0x6f6c6c6568; /* "hello" */
	char back[16] = "";

	make(_i);
	OK(vcore_vcpu_set_mode(vcpu, VCORE_MODE_LONG64, TABLES));
	entry64(PT(0), 256, PT(1) | 7); /* 0xffff800000000000 */
	entry64(PT(1), 0, PT(2) | 7);
	entry64(PT(1), 1, 0x40000000 | 0x83); /* 1 GiB page */
	entry64(PT(2), 0, PT(3) | 7);
	entry64(PT(3), 0, 0x1c000 | 3);              /* supervisor */
	entry64(PT(3), 1, 0x1e000 | 7);              /* user */
	entry64(PT(3), 2, 0x1f000 | 5 | 1ull << 63); /* user, read-only, no execute */
	s = get_sregs();
	s.cr3 = PT(0);
	s.efer |= 0x800;
	s.cr0 |= 0x10000;
	OK(vcore_vcpu_set_sregs(vcpu, &s));
	translates(0xffff800000000ffe, VCORE_ACCESS_WRITE, 0x1cffe);
	translates(0xffff800000001234, VCORE_ACCESS_READ, 0x1e234);
	translates(0xffff800040000055, VCORE_ACCESS_READ, 0x40000055);
	faults(0xffff800000002000, VCORE_ACCESS_FETCH, "error code 0x11");
	faults(0xffff800000002000, VCORE_ACCESS_WRITE, "error code 0x3");
	faults(0x1000, VCORE_ACCESS_READ, "error code 0");
	faults(0x1000000000000000, VCORE_ACCESS_READ, "0x1000000000000000");
	/* virtual copies: over a page border that is none in physical memory; the read-only page too */
	OK(vcore_vcpu_write(vcpu, 0xffff800000000ffd, &text, 5));
	OK(vcore_vcpu_read(vcpu, 0xffff800000000ffd, back, 5));
	ck_assert_str_eq(back, "hello");
	OK(vcore_memory_read(vm, 0x1e000, back, 2));
	ck_assert_mem_eq(back, "lo", 2);
	OK(vcore_vcpu_write(vcpu, 0xffff800000002ff0, "x", 1));
	REFUSED(vcore_vcpu_read(vcpu, 0xffff800000002fff, back, 2), EFAULT, "0xffff800000003000");
	REFUSED(vcore_vcpu_read(vcpu, 0x10, back, 1), EFAULT, "0x10");
	REFUSED(vcore_vcpu_read(vcpu, 0x10, NULL, 1), EINVAL, "buffer");
	OK(vcore_vcpu_read(vcpu, 0x10, NULL, 0));
	/* ring 3 */
	s.cs.attributes |= 0x60;
	s.cs.selector |= 3;
	s.ss.attributes |= 0x60;
	s.ss.selector |= 3;
	OK(vcore_vcpu_set_sregs(vcpu, &s));
	faults(0xffff800000000000, VCORE_ACCESS_READ, "error code 0x5");
	translates(0xffff800000001000, VCORE_ACCESS_WRITE, 0x1e000);
	OK(vcore_vcpu_read(vcpu, 0xffff800000000ffd, back, 5)); /* ignores privilege */
	drop();
}
END_TEST

/* A debugger reads user pages of a kernel with SMAP. */
START_TEST(read_under_smap)
{
	struct vcore_sregs s;
	uint32_t out[4];
	char c;

	make(_i);
	OK(vcore_vcpu_set_mode(vcpu, VCORE_MODE_LONG64, TABLES));
	OK(vcore_vcpu_cpuid(vcpu, 7, 0, out));
	s = get_sregs();
	s.cr4 |= 1 << 21;
	if (out[1] >> 20 & 1) {
		OK(vcore_vcpu_set_sregs(vcpu, &s));
		faults(0x5000, VCORE_ACCESS_READ, "error code 0x1"); /* the identity tables are for users */
		OK(vcore_vcpu_read(vcpu, 0x5000, &c, 1));
		OK(vcore_vcpu_write(vcpu, 0x5000, &c, 1));
	}
	drop();
}
END_TEST

/* ---- CPUID ---- */

/* What the API says is what the guest's instruction says. */
START_TEST(cpuid)
{
	static const uint32_t leaves[][2] = {{0, 0},          {1, 0},          {7, 0},          {0xd, 0},
	                                     {0x40000000, 0}, {0x80000000, 0}, {0x80000001, 0}, {0x80000002, 0}};
	struct vcore_regs regs = {.size = sizeof regs};
	uint32_t out[4];

	if (api_is_poor_kvm(_i, "CPUID as set"))
		return;
	make(_i);
	for (size_t i = 0; i < sizeof leaves / sizeof leaves[0]; i++) {
		api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0x0f, 0xa2, 0xf4));
		OK(vcore_vcpu_get_regs(vcpu, &regs));
		regs.rax = leaves[i][0];
		regs.rcx = leaves[i][1];
		OK(vcore_vcpu_set_regs(vcpu, &regs));
		OK(vcore_vcpu_cpuid(vcpu, leaves[i][0], leaves[i][1], out));
		api_run(vm, VCORE_EXIT_HALT);
		OK(vcore_vcpu_get_regs(vcpu, &regs));
		ck_assert_msg(regs.rax == out[0] && regs.rbx == out[1] && regs.rcx == out[2] && regs.rdx == out[3],
		              "leaf %#x: guest %#lx %#lx %#lx %#lx, API %#x %#x %#x %#x", leaves[i][0], regs.rax, regs.rbx,
		              regs.rcx, regs.rdx, out[0], out[1], out[2], out[3]);
	}
	REFUSED(vcore_vcpu_cpuid(vcpu, 0, 0, NULL), EINVAL, "place");
	drop();
}
END_TEST

START_TEST(cpu_models)
{
	struct vcore_options o = {.size = sizeof o, .backend = api_backend(_i)};
	const char *name, *summary;
	char missing[256];
	uint32_t n = 0, out[4];

	while (vcore_cpu_model(n, &name, &summary) == 0) {
		ck_assert(name[0] && summary[0]);
		OK(vcore_cpu_missing(name, api_backend(_i), missing, sizeof missing));
		o.cpu = name;
		OK(vcore_vm_new(&o, &vm));
		drop();
		n++;
	}
	ck_assert_uint_ge(n, 4);
	REFUSED(vcore_cpu_model(n, &name, NULL), ENOENT, "no CPU model");
	ck_assert_int_eq(vcore_cpu_missing("qemu64", api_backend(_i), NULL, 0),
	                 vcore_cpu_missing("qemu64", api_backend(_i), missing, 9));
	REFUSED(vcore_cpu_missing("z80", VCORE_BACKEND_EMU, missing, sizeof missing), EINVAL, "z80");
	REFUSED(vcore_cpu_missing(NULL, VCORE_BACKEND_EMU, missing, sizeof missing), EINVAL, "model");
	o.cpu = "x86-64-v2,-sse4.2,+nonsense";
	REFUSED(vcore_vm_new(&o, &vm), EINVAL, "nonsense");
	ck_assert_ptr_null(vm);
	o.cpu = "x86-64-v2,-popcnt";
	OK(vcore_vm_new(&o, &vm));
	OK(vcore_vcpu_cpuid(vcore_vm_vcpu(vm, 0), 1, 0, out));
	ck_assert_uint_eq(out[2] >> 23 & 1, 0);
	drop();
}
END_TEST

START_TEST(cpu_features)
{
	struct vcore_options o = {.size = sizeof o, .backend = api_backend(_i), .cpu = "x86-64-v2,+aes,-rdrand"};
	const char *name;
	char missing[1024], text[64];
	uint32_t n = 0, out[4];

	/* each name there is can be taken back in a model's text */
	for (; vcore_cpu_feature(n, &name) == 0; n++) {
		snprintf(text, sizeof text, "qemu64,-%s", name);
		OK(vcore_cpu_missing(text, api_backend(_i), missing, sizeof missing));
	}
	ck_assert_uint_gt(n, 60);
	REFUSED(vcore_cpu_feature(n, &name), ENOENT, "no CPU feature");
	REFUSED(vcore_cpu_feature(0, NULL), EINVAL, "place");
	REFUSED(vcore_cpu_missing("x86-64-v2,+sse9", api_backend(_i), missing, sizeof missing), EINVAL, "sse9");
	REFUSED(vcore_cpu_missing("x86-64-v2,aes", api_backend(_i), missing, sizeof missing), EINVAL, "+name or -name");
	REFUSED(vcore_cpu_missing("qemu64,+avx2", api_backend(_i), missing, sizeof missing), EINVAL, "needs 'avx'");
	/* what is missing is named, and only that */
	if (vcore_cpu_missing(o.cpu, api_backend(_i), missing, sizeof missing) > 0 && strstr(missing, "aes")) {
		REFUSED(vcore_vm_new(&o, &vm), ENOTSUP, "aes");
		return;
	}
	OK(vcore_vm_new(&o, &vm));
	OK(vcore_vcpu_cpuid(vcore_vm_vcpu(vm, 0), 1, 0, out));
	ck_assert_uint_eq(out[2] >> 25 & 1, 1);
	ck_assert_uint_eq(out[2] >> 30 & 1, 0);
	ck_assert_uint_eq(out[2] >> 28 & 1, 0); /* AVX is level 3 */
	drop();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("state");
	TCase *tcase = tcase_create("state");

	tcase_set_timeout(tcase, 60);
	EACH(tcase, regs_round_trip);
	EACH(tcase, sregs_round_trip);
	EACH(tcase, impossible_states);
	EACH(tcase, xsave);
	EACH(tcase, xsave_and_guest);
	EACH(tcase, msrs);
	EACH(tcase, modes);
	EACH(tcase, translate_unpaged);
	EACH(tcase, translate_32);
	EACH(tcase, translate_pae);
	EACH(tcase, translate_64);
	EACH(tcase, read_under_smap);
	EACH(tcase, cpuid);
	EACH(tcase, cpu_models);
	EACH(tcase, cpu_features);
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
