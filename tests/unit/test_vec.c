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
			int64_t at = row->opcode & 1 ? (int64_t)below(1600) - 800 : (int64_t)(((uint64_t)(below(1600) - 800u) << 32) | (uint32_t)(below(1600) - 800));
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
	ck_assert_msg(memcmp(memory, natively, MEMORY_SIZE) == 0, "%s: %s: memory differs", row->desc.name, hex(e.bytes, e.length));
}

static bool host_has(const struct emu_vec_row *row)
{
	switch (row->desc.feature) {
	case VC_F_SSE4A:
		return __builtin_cpu_supports("sse4a");
	case VC_F_SHA:
		return __builtin_cpu_supports("avx512vl") || __builtin_cpu_supports("sse4a"); /* newer than SHA on all makes */
	case VC_F_GFNI:
		return __builtin_cpu_supports("gfni");
	case VC_F_VAES:
	case VC_F_VPCLMUL:
		return __builtin_cpu_supports("vpclmulqdq");
	default:
		return true;
	}
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

	for (unsigned map = 1; map <= 3; map++) {
		for (unsigned n = 0; n < *tables[map].count; n++) {
			const struct emu_vec_row *row = &tables[map].rows[n];
			if (row->desc.op != EMU_VEC)
				continue;
			total++;
			if (!host_has(row))
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
	ck_assert_msg(vector == (sig == SIGFPE ? VC_XM : -1), "%s: %s: vector %d, signal %d (mxcsr %#x, now %#x)", row->desc.name, what, vector,
	              sig, old.mxcsr, x->mxcsr);
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
	ck_assert_msg(((x->mxcsr ^ host_mxcsr) & ~ignored) == 0, "%s: %s: mxcsr %#x, natively %#x, before %#x", row->desc.name, what, x->mxcsr,
	              host_mxcsr, old.mxcsr);
	ck_assert_msg(memcmp(x->xmm, old.xmm, sizeof x->xmm) == 0 && memcmp(x->ymm_hi, old.ymm_hi, sizeof x->ymm_hi) == 0 &&
	                  memcmp(x->st, old.st, sizeof x->st) == 0 && cpu->aflags == (native->flags_in & VC_FLAGS_ARITH),
	              "%s: %s: the destination was written", row->desc.name, what);
}

START_TEST(test_unmasked)
{
	for (unsigned map = 1; map <= 3; map++) {
		for (unsigned n = 0; n < *tables[map].count; n++) {
			const struct emu_vec_row *row = &tables[map].rows[n];
			if (!(row->desc.vec.roles & EMU_V_FP))
				continue;
			for (unsigned round = 0; round < 2 * ROUNDS; round++) {
				bool memory_form = row->desc.vec.roles & EMU_V_MEM_ONLY || (!(row->desc.vec.roles & EMU_V_REG_ONLY) && (round & 1));
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
	tcase_add_test(rows, test_speed);
	suite_add_tcase(suite, rows);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
