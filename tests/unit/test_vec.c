/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* MMX, SSE and AVX: every row of the tables, in all its forms, against the host CPU executing the same bytes. */
#include "vec_harness.h"

#include "backend/emu/decode/vec_rows.h"

#define ROUNDS 24

static const struct {
	const struct emu_vec_row *rows;
	const unsigned *count;
} tables[] = {
    {NULL, NULL},
    {emu_vec_rows_0f, &emu_vec_rows_0f_count},
    {emu_vec_rows_0f38, &emu_vec_rows_0f38_count},
    {emu_vec_rows_0f3a, &emu_vec_rows_0f3a_count},
};

static void setup(void)
{
	harness_setup();
	native_setup();
}

/* An instruction of a row: random registers; the memory operand, if any, is [base] + disp8. */
struct encoding {
	uint8_t bytes[16];
	unsigned length;
	unsigned reg, vvvv, rm;
	bool memory, w, l;
};

static void put8(struct encoding *e, unsigned byte)
{
	e->bytes[e->length++] = (uint8_t)byte;
}

static bool is_gather(unsigned map, const struct emu_vec_row *row)
{
	return map == 2 && row->opcode >= 0x90 && row->opcode <= 0x93;
}

static void choose_operands(struct encoding *e, const struct emu_vec_row *row, unsigned map, bool memory_form, bool l)
{
	const struct emu_vec *vec = &row->desc.vec;
	uint32_t attr = row->desc.attr;

	*e = (struct encoding){.memory = memory_form, .l = l, .reg = below(16), .vvvv = below(16), .rm = below(16)};
	e->w = attr & EMU_A_VEX_W1 || (!(attr & (EMU_A_VEX_W0 | EMU_A_VEX_W1)) && below(2));
	/* RSP keeps being the stack pointer */
	if (vec->reg_file == EMU_VR_GPR && e->reg == VC_RSP)
		e->reg = VC_RAX;
	if ((vec->rm_file == EMU_VR_GPR || memory_form) && e->rm == VC_RSP)
		e->rm = VC_RAX;
	if (vec->reg_file == EMU_VR_MMX)
		e->reg &= 7;
	if (vec->reg_file == EMU_VR_NONE && row->digit != EMU_NO_DIGIT)
		e->reg = row->digit;
	if (vec->rm_file == EMU_VR_MMX && !memory_form)
		e->rm &= 7;
	if (!(vec->roles & (EMU_V_VVVV_R | EMU_V_VVVV_W)))
		e->vvvv = 0;
	if (is_gather(map, row)) { /* three different ones; the base is R10 */
		e->reg = below(5);
		e->vvvv = 5 + below(5);
		e->rm = VC_R10;
	}
}

static void encode(struct encoding *e, const struct emu_vec_row *row, unsigned map)
{
	static const uint8_t prefixes[] = {0, 0x66, 0xf3, 0xf2};
	bool gather = is_gather(map, row);

	if (row->desc.attr & EMU_A_VEX) {
		put8(e, 0xc4);
		put8(e, (e->reg < 8 ? 0x80 : 0) | (gather ? 0 : 0x40) | (e->rm < 8 ? 0x20 : 0) | map);
		put8(e, (unsigned)e->w << 7 | (~e->vvvv & 15) << 3 | (unsigned)e->l << 2 | row->pp);
	} else {
		unsigned rex = 0x40 | (unsigned)e->w << 3 | (e->reg >= 8) << 2 | (e->rm >= 8);
		if (row->pp)
			put8(e, prefixes[row->pp]);
		if (rex != 0x40)
			put8(e, rex);
		put8(e, 0x0f);
		if (map > 1)
			put8(e, map == 2 ? 0x38 : 0x3a);
	}
	put8(e, row->opcode);
	if (row->opcode == 0x77 && map == 1)
		return;
	if (!e->memory) {
		put8(e, 0xc0 | (e->reg & 7) << 3 | (e->rm & 7));
	} else {
		bool sib = gather || (e->rm & 7) == 4;
		put8(e, 0x40 | (e->reg & 7) << 3 | (sib ? 4 : e->rm & 7));
		if (sib) /* gathers: XMM12, scale 4 */
			put8(e, gather ? 2 << 6 | 4 << 3 | (e->rm & 7) : 4 << 3 | (e->rm & 7));
		put8(e, 0x10); /* disp8 */
	}
	if (row->desc.imm != EMU_IMM_NONE)
		put8(e, (unsigned)rnd());
	if (row->desc.imm == EMU_IMM_8_8)
		put8(e, (unsigned)rnd());
}

/* Registers that hold addresses. */
static void set_addresses(const struct encoding *e, const struct emu_vec_row *row, unsigned map)
{
	unsigned offset = row->desc.vec.roles & EMU_V_ALIGNED ? 32 * below(100) : below(4000);

	if (e->memory)
		cpu->s.gpr[e->rm] = (uintptr_t)memory + offset + 32 - 0x10; /* disp8 */
	if (map == 1 && row->opcode == 0xf7)
		cpu->s.gpr[VC_RDI] = (uintptr_t)memory + offset;
	if (is_gather(map, row)) {
		cpu->s.gpr[e->rm] = (uintptr_t)memory + 4096;
		for (unsigned n = 0; n < 4; n++) {
			int64_t at = row->opcode & 1
			                 ? (int64_t)below(1600) - 800
			                 : (int64_t)(((uint64_t)(below(1600) - 800u) << 32) | (uint32_t)(below(1600) - 800));
			memcpy((n < 2 ? cpu->s.xsave.xmm[12] : cpu->s.xsave.ymm_hi[12]) + n % 2 * 8, &at, 8);
		}
	}
	cpu->s.rip = 0x1000;
}

static void compare_once(const struct emu_vec_row *row, unsigned map, bool memory_form, bool l, bool tlb)
{
	static uint8_t before[MEMORY_SIZE], natively[MEMORY_SIZE];
	struct encoding e;
	const char *text;
	int vector;

	random_state();
	choose_operands(&e, row, map, memory_form, l);
	encode(&e, row, map);
	random_bytes(before, sizeof before);
	set_addresses(&e, row, map);
	set_tlb(tlb);

	memcpy(memory, before, MEMORY_SIZE);
	int sig = run_native(e.bytes, e.length);
	ck_assert_msg(sig == 0, "%s: %s: signal %d natively", row->desc.name, hex(e.bytes, e.length), sig);
	memcpy(natively, memory, MEMORY_SIZE);
	memcpy(memory, before, MEMORY_SIZE);
	vector = emulate(e.bytes, e.length);
	ck_assert_msg(vector == -1, "%s: %s: vector %d", row->desc.name, hex(e.bytes, e.length), vector);
	text = difference(0xffff);
	ck_assert_msg(!text, "%s: %s: %s", row->desc.name, hex(e.bytes, e.length), text);
	ck_assert_msg(memcmp(memory, natively, MEMORY_SIZE) == 0, "%s: %s: memory differs", row->desc.name,
	              hex(e.bytes, e.length));
}

/* All forms of a row: memory and register, both lengths. Returns how many there are. */
static unsigned compare_row(const struct emu_vec_row *row, unsigned map)
{
	unsigned roles = row->desc.vec.roles, forms = 0;

	for (unsigned form = 0; form < 4; form++) {
		bool memory_form = form & 1, l = form & 2;
		if (roles & (memory_form ? EMU_V_REG_ONLY : EMU_V_MEM_ONLY))
			continue;
		if (l && !(row->desc.attr & EMU_A_VEX))
			continue;
		if (row->desc.attr & (l ? EMU_A_VEX_L0 : EMU_A_VEX_L1))
			continue;
		/* VEX.L is ignored by scalar instructions; not all processors agree on all of them */
		if (l && row->desc.vec.mem && !(row->desc.attr & EMU_A_VEX_L1))
			continue;
		for (unsigned n = 0; n < ROUNDS; n++)
			compare_once(row, map, memory_form, l, n & 1);
		forms++;
	}
	return forms;
}

START_TEST(test_rows)
{
	unsigned tested = 0, total = 0, forms = 0;
	struct vc_feature_set host;

	vc_cpuid_host(&host);

	for (unsigned map = 1; map <= 3; map++) {
		for (unsigned n = 0; n < *tables[map].count; n++) {
			const struct emu_vec_row *row = &tables[map].rows[n];
			if (row->desc.op != EMU_VEC)
				continue;
			total++;
			if (!vc_feature_has(&host, row->desc.feature))
				continue;
			forms += compare_row(row, map);
			tested++;
		}
	}
	printf("vector rows: %u of %u, %u forms, %u runs each\n", tested, total, forms, ROUNDS);
}
END_TEST

/* ---- SIMD floating-point exceptions ---- */

static unsigned exceptions; /* how many the host raised */

static void unmasked_once(const struct emu_vec_row *row, unsigned map, bool memory_form, bool l)
{
	static uint8_t before[MEMORY_SIZE], natively[MEMORY_SIZE];
	struct vc_xsave *x = &cpu->s.xsave;
	struct encoding e;

	random_state();
	x->fsw &= (uint16_t)~FSW_TOP; /* entering MMX state is no part of this */
	x->ftw = 0xff;
	x->mxcsr = (uint32_t)(rnd() & MXCSR_VALID);
	x->mxcsr &= ~MXCSR_FLAGS | (uint32_t)rnd();
	choose_operands(&e, row, map, memory_form, l);
	encode(&e, row, map);
	random_bytes(before, sizeof before);
	set_addresses(&e, row, map);
	set_tlb(below(2));

	struct vc_xsave old = *x;
	memcpy(memory, before, MEMORY_SIZE);
	int sig = run_native(e.bytes, e.length);
	memcpy(natively, memory, MEMORY_SIZE);
	memcpy(memory, before, MEMORY_SIZE);
	int vector = emulate(e.bytes, e.length);
	const char *what = hex(e.bytes, e.length);
	ck_assert_msg(vector == (sig == SIGFPE ? VC_XM : -1), "%s: %s: vector %d, signal %d (mxcsr %#x, now %#x)",
	              row->desc.name, what, vector, sig, old.mxcsr, x->mxcsr);
	ck_assert_msg(memcmp(memory, natively, MEMORY_SIZE) == 0, "%s: %s: memory differs", row->desc.name, what);
	if (sig == 0) {
		const char *text = difference(0xffff);
		ck_assert_msg(!text, "%s: %s: %s (mxcsr %#x)", row->desc.name, what, text, old.mxcsr);
		return;
	}
	exceptions++;
	uint32_t host_mxcsr = vc_ld32(signal_fx + offsetof(struct vc_xsave, mxcsr)), ignored = 0;
	if (x->mxcsr & ~(x->mxcsr >> 7) & (MXCSR_OE | MXCSR_UE)) /* whether the result is inexact too: see run_unmasked() */
		ignored = MXCSR_PE;
	if (map == 3 && (row->opcode & 0xfe) == 0x40) /* DPPS, DPPD: flags of the stages behind the one that raised it */
		ignored = MXCSR_FLAGS;
	ck_assert_msg(((x->mxcsr ^ host_mxcsr) & ~ignored) == 0, "%s: %s: mxcsr %#x, natively %#x, before %#x",
	              row->desc.name, what, x->mxcsr, host_mxcsr, old.mxcsr);
	ck_assert_msg(memcmp(x->xmm, old.xmm, sizeof x->xmm) == 0 && memcmp(x->ymm_hi, old.ymm_hi, sizeof x->ymm_hi) == 0 &&
	                  memcmp(x->st, old.st, sizeof x->st) == 0 && cpu->aflags == (native->flags_in & VC_FLAGS_ARITH),
	              "%s: %s: the destination was written", row->desc.name, what);
}

START_TEST(test_unmasked)
{
	struct vc_feature_set host;

	vc_cpuid_host(&host);
	for (unsigned map = 1; map <= 3; map++) {
		for (unsigned n = 0; n < *tables[map].count; n++) {
			const struct emu_vec_row *row = &tables[map].rows[n];
			if (!(row->desc.vec.roles & EMU_V_FP) || !vc_feature_has(&host, row->desc.feature))
				continue;
			for (unsigned round = 0; round < 2 * ROUNDS; round++) {
				bool memory_form =
				    row->desc.vec.roles & EMU_V_MEM_ONLY || (!(row->desc.vec.roles & EMU_V_REG_ONLY) && (round & 1));
				unmasked_once(row, map, memory_form, row->desc.attr & EMU_A_VEX_L1);
			}
		}
	}
	printf("SIMD exceptions: %u\n", exceptions);
	ck_assert_uint_gt(exceptions, 1000);
}
END_TEST

START_TEST(test_tables_sorted)
{
	for (unsigned map = 1; map <= 3; map++)
		for (unsigned n = 1; n < *tables[map].count; n++)
			ck_assert_msg(tables[map].rows[n - 1].opcode <= tables[map].rows[n].opcode, "map %u: %s out of order", map,
			              tables[map].rows[n].desc.name);
}
END_TEST

/* ---- rules around the instructions ---- */

static const uint8_t i_addps[] = {0x0f, 0x58, 0x08}, i_vaddps[] = {0xc5, 0xf0, 0x58, 0x08},
                     i_paddb[] = {0x0f, 0xfc, 0x08}, i_movups[] = {0x0f, 0x11, 0x08},
                     i_vmovups[] = {0xc5, 0xfc, 0x11, 0x08}, i_cvtpi2ps[] = {0x0f, 0x2a, 0xc1},
                     i_vmovaps[] = {0xc5, 0xfc, 0x28, 0x08}, i_pcmpistri[] = {0x66, 0x0f, 0x3a, 0x63, 0x08, 0x0c};
#define EMULATE(bytes) emulate(bytes, sizeof(bytes))

static void at_memory(unsigned offset)
{
	random_state();
	cpu->s.gpr[VC_RAX] = (uintptr_t)memory + offset;
	set_tlb(true);
}

START_TEST(test_enabling)
{
	at_memory(0);
	cpu->s.cr0 |= VC_CR0_TS;
	ck_assert_int_eq(EMULATE(i_addps), VC_NM);
	ck_assert_int_eq(EMULATE(i_vaddps), VC_NM);
	ck_assert_int_eq(EMULATE(i_paddb), VC_NM);
	cpu->s.cr0 |= VC_CR0_EM; /* #UD comes before #NM; VEX does not look at EM */
	ck_assert_int_eq(EMULATE(i_addps), VC_UD);
	ck_assert_int_eq(EMULATE(i_vaddps), VC_NM);
	ck_assert_int_eq(EMULATE(i_paddb), VC_UD);
	cpu->s.cr0 &= ~(uint64_t)(VC_CR0_TS | VC_CR0_EM);
	cpu->s.cr4 &= ~(uint64_t)VC_CR4_OSFXSR;
	ck_assert_int_eq(EMULATE(i_addps), VC_UD);
	ck_assert_int_eq(EMULATE(i_cvtpi2ps), VC_UD);
	ck_assert_int_eq(EMULATE(i_paddb), -1); /* MMX alone needs no OSFXSR */
	ck_assert_int_eq(EMULATE(i_vaddps), -1);
	cpu->s.xcr0 = 3;
	ck_assert_int_eq(EMULATE(i_vaddps), VC_UD);
	cpu->s.xcr0 = 7;
	cpu->s.cr4 &= ~(uint64_t)VC_CR4_OSXSAVE;
	ck_assert_int_eq(EMULATE(i_vaddps), VC_UD);
}
END_TEST

START_TEST(test_alignment)
{
	at_memory(8);
	ck_assert_int_eq(EMULATE(i_addps), VC_GP);
	ck_assert_uint_eq(raised_error, 0);
	ck_assert_int_eq(EMULATE(i_vaddps), -1);
	ck_assert_int_eq(EMULATE(i_movups), -1);
	ck_assert_int_eq(EMULATE(i_pcmpistri), -1);
	at_memory(16);
	ck_assert_int_eq(EMULATE(i_addps), -1);
	ck_assert_int_eq(EMULATE(i_vmovaps), VC_GP);
}
END_TEST

/* Without SIMD exceptions enabled by the OS, they are #UD. */
START_TEST(test_osxmmexcpt)
{
	at_memory(0);
	memset(cpu->s.xsave.xmm[1], 0xff, 16); /* quiet NaNs */
	memset(memory, 0, 16);
	vc_st32(memory, 0x7f800001); /* signalling */
	cpu->s.xsave.mxcsr = MXCSR_DEFAULT & ~0x80u;
	ck_assert_int_eq(EMULATE(i_addps), VC_XM);
	cpu->s.cr4 &= ~(uint64_t)VC_CR4_OSXMMEXCPT;
	ck_assert_int_eq(EMULATE(i_addps), VC_UD);
	ck_assert_uint_eq(cpu->s.xsave.mxcsr, (MXCSR_DEFAULT & ~0x80u) | 1);
}
END_TEST

/* A fault in the second page: nothing was read, written or changed. */
START_TEST(test_faults)
{
	static const uint8_t i_movntq[] = {0x0f, 0xe7, 0x08}, i_vcvtps2ph[] = {0xc4, 0xe3, 0x7d, 0x1d, 0x08, 0x00};
	static const struct {
		const uint8_t *bytes;
		unsigned length;
	} cases[] = {{i_vaddps, 4}, {i_movups, 3},    {i_vmovups, 4},  {i_paddb, 3},
	             {i_movntq, 3}, {i_vcvtps2ph, 6}, {i_pcmpistri, 6}};
	static uint8_t before[MEMORY_SIZE];

	for (unsigned n = 0; n < VC_ARRAY_SIZE(cases); n++) {
		at_memory(4092);
		set_tlb(false);
		random_bytes(memory, MEMORY_SIZE);
		memcpy(before, memory, MEMORY_SIZE);
		fault_from = memory + 4096;
		fault_to = memory + MEMORY_SIZE;
		struct vc_cpu_state old = cpu->s;
		uint32_t old_flags = cpu->aflags;
		ck_assert_int_eq(emulate(cases[n].bytes, cases[n].length), VC_PF);
		ck_assert_int_eq(memcmp(&old, &cpu->s, sizeof old), 0);
		ck_assert_uint_eq(old_flags, cpu->aflags);
		ck_assert_int_eq(memcmp(before, memory, MEMORY_SIZE), 0);
	}
}
END_TEST

/* A gather that faults has cleared the mask of what it loaded, and goes on from there. */
START_TEST(test_gather_restart)
{
	static const uint8_t i_gather[] = {0xc4, 0xe2, 0x75,
	                                   0x90, 0x04, 0x90}; /* vpgatherdd ymm0, [rax + ymm2 * 4], ymm1 */

	at_memory(0);
	set_tlb(false);
	memset(cpu->s.xsave.xmm[1], 0xff, 16);
	memset(cpu->s.xsave.ymm_hi[1], 0xff, 16);
	vc_st32(cpu->s.xsave.xmm[1] + 4, 0x7fffffff); /* not element 1 */
	for (unsigned n = 0; n < 4; n++) {
		vc_st32(cpu->s.xsave.xmm[2] + 4 * n, n * 600);
		vc_st32(cpu->s.xsave.ymm_hi[2] + 4 * n, (n + 4) * 250);
		vc_st32(memory + n * 2400, 100 + n);
		vc_st32(memory + (n + 4) * 1000, 104 + n);
	}
	vc_st32(cpu->s.xsave.xmm[0] + 4, 7);
	fault_from = memory + 4096;
	fault_to = memory + MEMORY_SIZE;
	ck_assert_int_eq(EMULATE(i_gather), VC_PF); /* at element 2 */
	ck_assert_uint_eq(vc_ld32(cpu->s.xsave.xmm[0]), 100);
	ck_assert_uint_eq(vc_ld32(cpu->s.xsave.xmm[1]), 0);
	ck_assert_uint_eq(vc_ld32(cpu->s.xsave.xmm[1] + 8), 0xffffffff);
	fault_from = fault_to = NULL;
	vc_st32(memory, 1); /* not read again */
	ck_assert_int_eq(EMULATE(i_gather), -1);
	for (unsigned n = 0; n < 4; n++) {
		ck_assert_uint_eq(vc_ld32(cpu->s.xsave.xmm[0] + 4 * n), n == 1 ? 7 : 100 + n);
		ck_assert_uint_eq(vc_ld32(cpu->s.xsave.ymm_hi[0] + 4 * n), 104 + n);
	}
	ck_assert_uint_eq(vc_ld64(cpu->s.xsave.xmm[1]) | vc_ld64(cpu->s.xsave.ymm_hi[1] + 8), 0);
}
END_TEST

/* Elements that are masked off lie in a page that is not there; then one that is not masked off. */
START_TEST(test_masked_moves)
{
	static const uint8_t i_load[] = {0xc4, 0xe2, 0x75, 0x8c, 0x00}, i_store[] = {0xc4, 0xe2, 0x75, 0x8e, 0x00},
	                     i_maskmov[] = {0x66, 0x0f, 0xf7, 0xc1};

	at_memory(4096 - 16);
	cpu->s.gpr[VC_RDI] = (uintptr_t)memory + 4096 - 8;
	set_tlb(false);
	fault_from = memory + 4096;
	fault_to = memory + MEMORY_SIZE;
	memset(cpu->s.xsave.ymm_hi[1], 0x7f, 16);
	memset(cpu->s.xsave.xmm[1], 0x7f, 16);
	memset(cpu->s.xsave.xmm[1], 0xff, 8);
	memset(memory, 0x55, MEMORY_SIZE);
	ck_assert_int_eq(EMULATE(i_load), -1);
	ck_assert_uint_eq(vc_ld64(cpu->s.xsave.xmm[0]), 0x5555555555555555ull);
	ck_assert_uint_eq(vc_ld64(cpu->s.xsave.xmm[0] + 8) | vc_ld64(cpu->s.xsave.ymm_hi[0]), 0);
	memset(cpu->s.xsave.xmm[0], 0x66, 16);
	ck_assert_int_eq(EMULATE(i_store), -1);
	ck_assert_int_eq(EMULATE(i_maskmov), -1);
	ck_assert_uint_eq(vc_ld64(memory + 4080), 0x6666666666666666ull);
	ck_assert_uint_eq(vc_ld64(memory + 4088), 0x6666666666666666ull);
	ck_assert_uint_eq(memory[4079] | memory[4096], 0x55);

	cpu->s.xsave.ymm_hi[1][3] = 0x80;
	cpu->s.xsave.xmm[1][9] = 0x80;
	memset(cpu->s.xsave.xmm[0], 0x77, 16);
	ck_assert_int_eq(EMULATE(i_load), VC_PF);
	ck_assert_int_eq(EMULATE(i_store), VC_PF);
	ck_assert_int_eq(EMULATE(i_maskmov), VC_PF);
	ck_assert_uint_eq(vc_ld64(memory + 4080), 0x6666666666666666ull);
	ck_assert_uint_eq(vc_ld64(memory + 4088), 0x6666666666666666ull);
	ck_assert_uint_eq(vc_ld64(cpu->s.xsave.xmm[0]), 0x7777777777777777ull);
}
END_TEST

/* In 32-bit code eight registers exist, and VEX.W does not make a general register 64 bits wide. */
START_TEST(test_32bit)
{
	static const uint8_t i_vzeroall[] = {0xc5, 0xfc, 0x77}, i_vmovq[] = {0xc4, 0xe1, 0xf9, 0x7e, 0xc9};

	random_state();
	cpu->mode = EMU_MODE_32;
	cpu->s.gpr[VC_RCX] = 0x55;
	ck_assert_int_eq(EMULATE(i_vmovq), -1);
	ck_assert_uint_eq(cpu->s.gpr[VC_RCX], vc_ld32(cpu->s.xsave.xmm[1]));
	vc_st64(cpu->s.xsave.xmm[8], 5);
	vc_st64(cpu->s.xsave.ymm_hi[8], 6);
	ck_assert_int_eq(EMULATE(i_vzeroall), -1);
	ck_assert_uint_eq(vc_ld64(cpu->s.xsave.xmm[7]) | vc_ld64(cpu->s.xsave.ymm_hi[7]), 0);
	ck_assert_uint_eq(vc_ld64(cpu->s.xsave.xmm[8]), 5);
	ck_assert_uint_eq(vc_ld64(cpu->s.xsave.ymm_hi[8]), 6);
}
END_TEST

/* A segment that is not flat goes through the segment check, with the segment of the instruction. */
START_TEST(test_segment)
{
	static const uint8_t i_fs[] = {0x64, 0x0f, 0x10, 0x08};

	at_memory(0);
	memset(memory, 0x42, 64);
	cpu->flat = 0x3f & ~(1 << VC_FS);
	cpu->s.seg[VC_FS].base = 32;
	cpu->s.gpr[VC_RAX] -= 16;
	ck_assert_int_eq(EMULATE(i_fs), -1);
	ck_assert_int_eq(used_segment, VC_FS);
	ck_assert_uint_eq(cpu->s.xsave.xmm[1][0], 0x42);
}
END_TEST

/* More stubs than the cache holds: handles of flushed ones are noticed, and memory stays bounded. */
START_TEST(test_flush)
{
	struct emu_decode_mode mode = {.mode = EMU_MODE_64, .protected_mode = true};
	static const uint8_t i_pshufd[] = {0x66, 0x0f, 0x70, 0xca, 0x1b};
	struct emu_insn insn;
	uint32_t generation = cpu->vec->generation;

	at_memory(0);
	ck_assert_int_eq(emu_decode(i_pshufd, 5, &mode, &insn), EMU_DECODE_OK);
	emu_system_fn fn = emu_vec_handler(cpu, &insn);
	for (unsigned n = 0; n < 20 * 256; n++) { /* roundps, pshufhw, insertps ... with every immediate */
		static const uint8_t opcodes[] = {0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x21, 0x40, 0x41, 0x42, 0x44};
		uint8_t bytes[] = {0x66, 0x0f, 0x3a, opcodes[n / 256 % VC_ARRAY_SIZE(opcodes)], 0xca, (uint8_t)n};
		ck_assert_int_eq(EMULATE(bytes), -1);
		if (n % 64 == 0) {
			memcpy(cpu->s.xsave.xmm[2], "0123456789abcdef", 16);
			ck_assert_int_eq(fn(cpu, &insn), EMU_NEXT);
			ck_assert_int_eq(memcmp(cpu->s.xsave.xmm[1], "cdef89ab45670123", 16), 0);
		}
	}
	ck_assert_uint_gt(cpu->vec->generation, generation + 1);
	ck_assert_uint_le(cpu->vec->used, EMU_STUB_CODE_SIZE);
	/* after the last generation, none is taken for valid */
	cpu->vec->generation = (1u << (32 - EMU_STUB_UNIT_BITS)) - 1;
	for (unsigned n = 0; n < 8 * 256; n++) {
		uint8_t bytes[] = {0x66, 0x0f, 0x3a, (uint8_t)(0x08 + n / 256), 0xca, (uint8_t)n};
		ck_assert_int_eq(EMULATE(bytes), -1);
	}
	ck_assert_int_eq(EMULATE(i_pshufd), -1);
	ck_assert_int_eq(memcmp(cpu->s.xsave.xmm[1], "cdef89ab45670123", 16), 0);
}
END_TEST

/* The thread's own control registers survive, whatever the guest's are. */
START_TEST(test_host_control)
{
	static const uint8_t i_divps[] = {0x0f, 0x5e, 0xca}, i_fdiv[] = {0xd8, 0xf1};
	uint32_t mine = 0x3f80 | MXCSR_FTZ, after;
	uint16_t cw = 0x0f7f, cw_after;

	at_memory(0);
	cpu->s.xsave.ftw = 0xff;
	cpu->s.xsave.mxcsr = MXCSR_DEFAULT | 0x4000;
	cpu->s.xsave.fcw = FCW_DEFAULT;
	__asm__ volatile("ldmxcsr %0; fldcw %1" : : "m"(mine), "m"(cw));
	emu_vec_enter(cpu);
	int first = EMULATE(i_divps), second = EMULATE(i_fdiv);
	__asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(after), "=m"(cw_after));
	ck_assert_int_eq(first, -1);
	ck_assert_int_eq(second, -1);
	ck_assert_uint_eq(after & ~MXCSR_FLAGS, mine);
	ck_assert_uint_eq(cw_after, cw);
}
END_TEST

/* ---- speed ---- */

static void time_one(const char *name, const uint8_t *bytes, unsigned length)
{
	struct emu_decode_mode mode = {.mode = EMU_MODE_64, .protected_mode = true};
	struct emu_insn insn;
	const unsigned count = 2000000;

	ck_assert_int_eq(emu_decode(bytes, length, &mode, &insn), EMU_DECODE_OK);
	emu_system_fn fn = emu_vec_handler(cpu, &insn);
	cpu->s.xsave.mxcsr = 0x1fa0;
	cpu->s.gpr[VC_RAX] = (uintptr_t)memory;
	double start = now_ns();
	for (unsigned n = 0; n < count; n++)
		fn(cpu, &insn);
	printf("%-24s %5.1f ns\n", name, (now_ns() - start) / count);
}

START_TEST(test_speed)
{
	if (!getenv("VC_TEST_SPEED"))
		return;
	set_tlb(true);
	time_one("addps xmm1, xmm2", (const uint8_t[]){0x0f, 0x58, 0xca}, 3);
	time_one("addps xmm1, [rax]", (const uint8_t[]){0x0f, 0x58, 0x08}, 3);
	time_one("mulsd xmm1, xmm2", (const uint8_t[]){0xf2, 0x0f, 0x59, 0xca}, 4);
	time_one("pshufb xmm1, xmm2", (const uint8_t[]){0x66, 0x0f, 0x38, 0x00, 0xca}, 5);
	time_one("movups xmm1, [rax]", (const uint8_t[]){0x0f, 0x10, 0x08}, 3);
	time_one("movups [rax], xmm1", (const uint8_t[]){0x0f, 0x11, 0x08}, 3);
	time_one("movq rcx, xmm1", (const uint8_t[]){0x66, 0x48, 0x0f, 0x7e, 0xc9}, 5);
	time_one("ucomisd xmm1, xmm2", (const uint8_t[]){0x66, 0x0f, 0x2e, 0xca}, 4);
	time_one("vpaddd ymm1, ymm2, ymm3", (const uint8_t[]){0xc5, 0xed, 0xfe, 0xcb}, 4);
	time_one("paddb mm1, mm2", (const uint8_t[]){0x0f, 0xfc, 0xca}, 3);
	cpu->s.xsave.fcw = FCW_DEFAULT;
	cpu->s.xsave.fsw = 0x20;
	cpu->s.xsave.ftw = 0xff;
	time_one("fadd st, st(1)", (const uint8_t[]){0xd8, 0xc1}, 2);
	time_one("fmul qword [rax]", (const uint8_t[]){0xdc, 0x08}, 2);
	time_one("fxch st(1)", (const uint8_t[]){0xd9, 0xc9}, 2);
	time_one("fxam", (const uint8_t[]){0xd9, 0xe5}, 2);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vec");
	TCase *rows = tcase_create("vec");

	tcase_add_checked_fixture(rows, setup, harness_teardown);
	tcase_set_timeout(rows, 100);
	tcase_add_test(rows, test_tables_sorted);
	tcase_add_test(rows, test_rows);
	tcase_add_test(rows, test_unmasked);
	tcase_add_test(rows, test_enabling);
	tcase_add_test(rows, test_alignment);
	tcase_add_test(rows, test_osxmmexcpt);
	tcase_add_test(rows, test_faults);
	tcase_add_test(rows, test_gather_restart);
	tcase_add_test(rows, test_masked_moves);
	tcase_add_test(rows, test_32bit);
	tcase_add_test(rows, test_segment);
	tcase_add_test(rows, test_flush);
	tcase_add_test(rows, test_host_control);
	tcase_add_test(rows, test_speed);
	suite_add_tcase(suite, rows);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
