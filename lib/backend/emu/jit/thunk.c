/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The code between C and translated code. */
#include "backend/emu/jit/trans.h"

/* Guest registers that live in the host's. */
static const uint8_t homes[] = {VC_RAX, VC_RCX, VC_RDX, VC_RBX, VC_RBP, VC_RSI, VC_RDI,
                                VC_R8,  VC_R9,  VC_R12, VC_R13, VC_R14, VC_RSP};
/* Those that a C function does not keep. */
static const uint8_t volatile_homes[] = {VC_RAX, VC_RCX, VC_RDX, VC_RSI, VC_RDI, VC_R8, VC_R9};

#define XMM_AT(n) (FIELD(s.xsave.xmm) + (n)*16u)
#define YMM_AT(n) (FIELD(s.xsave.ymm_hi) + (n)*16u)

/* A field, with RSP `pushed` bytes below the vcpu. */
static struct host_mem at(uint32_t field, uint32_t pushed)
{
	return jit_field(field + pushed);
}

static void move_homes(struct jit_asm *a, const uint8_t *regs, unsigned count, bool store, uint32_t pushed)
{
	for (unsigned k = 0; k < count; k++) {
		struct host_mem m = at(GPR_AT(regs[k]), pushed);

		if (store)
			jit_store(a, true, m, jit_home(regs[k]));
		else
			jit_load(a, true, jit_home(regs[k]), m);
	}
}

static uint8_t *begin(struct jit_asm *a)
{
	jit_align(a, 16, 0);
	return jit_here(a);
}

static void mxcsr(struct jit_asm *a, unsigned digit, struct host_mem m) /* 2: LDMXCSR, 3: STMXCSR */
{
	jit_encode(a, &(struct host_insn){.map = 1, .opcode = 0xae, .reg = (uint8_t)digit, .mem = &m});
}

static void xmm(struct jit_asm *a, bool store, unsigned n, struct host_mem m)
{
	jit_encode(a, &(struct host_insn){.map = 1, .opcode = store ? 0x29 : 0x28, .reg = (uint8_t)n, .mem = &m});
}

/* VEXTRACTF128, VINSERTF128 */
static void upper(struct jit_asm *a, bool store, unsigned n, struct host_mem m)
{
	jit_encode(a, &(struct host_insn){.vex = true,
	                                  .l = true,
	                                  .pp = 0x66,
	                                  .map = 3,
	                                  .opcode = store ? 0x19 : 0x18,
	                                  .reg = (uint8_t)n,
	                                  .vvvv = store ? 0 : (uint8_t)n,
	                                  .mem = &m,
	                                  .imm = 1,
	                                  .imm_size = 1});
}

static void compare_live(struct jit_asm *a, uint32_t pushed, unsigned value)
{
	struct host_mem m = at(FIELD(vec_live), pushed);

	jit_encode(a, &(struct host_insn){.opcode = 0x80, .reg = H_CMP, .mem = &m, .imm = value, .imm_size = 1});
}

static void set_live(struct jit_asm *a, uint32_t pushed, unsigned value)
{
	struct host_mem m = at(FIELD(vec_live), pushed);

	jit_encode(a, &(struct host_insn){.opcode = 0xc6, .mem = &m, .imm = value, .imm_size = 1});
}

/* The guest's vector registers to s.xsave, the host's MXCSR back. */
static void save_vectors(struct jit_asm *a, uint32_t pushed)
{
	struct jit_label sse;

	for (unsigned n = 0; n < 16; n++)
		xmm(a, true, n, at(XMM_AT(n), pushed));
	mxcsr(a, 3, at(FIELD(s.xsave.mxcsr), pushed));
	mxcsr(a, 2, at(FIELD(jit_host_mxcsr), pushed));
	compare_live(a, pushed, JIT_VEC_AVX);
	sse = jit_jcc(a, H_B);
	for (unsigned n = 0; n < 16; n++)
		upper(a, true, n, at(YMM_AT(n), pushed));
	JIT_PUT(a, 0xc5, 0xf8, 0x77); /* VZEROUPPER */
	jit_land(a, sse);
}

/* By EAX, a JIT_VEC_*. Sets vec_live. */
static void load_vectors(struct jit_asm *a, uint32_t pushed)
{
	struct jit_label sse, zero, avx;

	jit_alu_imm(a, H_CMP, false, H_RAX, JIT_VEC_SSE);
	sse = jit_jcc(a, H_E);
	set_live(a, pushed, JIT_VEC_AVX);
	JIT_PUT(a, 0xc5, 0xf8, 0x77);
	avx = jit_jmp(a);
	jit_land(a, sse);
	set_live(a, pushed, JIT_VEC_SSE);
	jit_land(a, avx);
	mxcsr(a, 2, at(FIELD(s.xsave.mxcsr), pushed));
	for (unsigned n = 0; n < 16; n++)
		xmm(a, false, n, at(XMM_AT(n), pushed));
	jit_alu_imm(a, H_CMP, false, H_RAX, JIT_VEC_AVX);
	zero = jit_jcc(a, H_NE);
	for (unsigned n = 0; n < 16; n++)
		upper(a, false, n, at(YMM_AT(n), pushed));
	jit_land(a, zero);
}

static void call_c(struct jit_asm *a, uintptr_t fn)
{
	jit_mov_imm64(a, H_RAX, fn);
	JIT_PUT(a, 0xff, 0xd0); /* CALL rax */
}

/* ---- entering and leaving ---- */

static const uint8_t callee_saved[] = {H_RBX, H_RBP, H_R12, H_R13, H_R14, H_R15};

static void push_pop(struct jit_asm *a, unsigned reg, bool push)
{
	if (reg >= 8)
		jit_put8(a, 0x41);
	jit_put8(a, (push ? 0x50 : 0x58) | (reg & 7));
}

static void make_enter(struct jit_vm *j, struct jit_asm *a)
{
	j->thunks.enter = (void (*)(struct emu_vcpu *, const void *))(uintptr_t)begin(a);
	for (unsigned k = 0; k < VC_ARRAY_SIZE(callee_saved); k++)
		push_pop(a, callee_saved[k], true);
	jit_store(a, true, (struct host_mem){.base = H_RDI, .index = H_NONE, .disp = (int32_t)FIELD(jit_host_rsp)}, H_RSP);
	jit_mov_rr(a, true, H_R11, H_RSI);
	jit_mov_rr(a, true, H_RSP, H_RDI);
	jit_load(a, false, H_RAX, at(FIELD(aflags), 0));
	jit_mov_rr(a, false, H_RCX, H_RAX);
	jit_shift_imm(a, 4, false, H_RAX, 8);
	jit_shift_imm(a, 5, false, H_RCX, 11);
	jit_alu_imm(a, H_AND, false, H_RAX, 0xff00);
	jit_op_rr(a, 0x0b, false, H_RAX, H_RCX);
	jit_store(a, false, at(FIELD(jit_flags), 0), H_RAX);
	move_homes(a, homes, VC_ARRAY_SIZE(homes), false, 0);
	JIT_PUT(a, 0x41, 0xff, 0xe3); /* JMP r11 */
}

/* R11: value, R10: extra. */
static uint8_t *make_leave_common(struct jit_asm *a)
{
	uint8_t *here = begin(a);
	struct jit_label none;

	jit_store(a, true, at(FIELD(jit_value), 0), H_R11);
	jit_store(a, true, at(FIELD(jit_extra), 0), H_R10);
	move_homes(a, homes, VC_ARRAY_SIZE(homes), true, 0);
	/* AH: flags as LAHF has them, AL: OF */
	jit_load_flags(a, H_RAX);
	jit_mov_rr(a, false, H_RCX, H_RAX);
	jit_shift_imm(a, 5, false, H_RCX, 8);
	jit_alu_imm(a, H_AND, false, H_RCX, VC_FLAGS_ARITH & 0xff);
	jit_alu_imm(a, H_AND, false, H_RAX, 1);
	jit_shift_imm(a, 4, false, H_RAX, 11);
	jit_op_rr(a, 0x0b, false, H_RAX, H_RCX);
	jit_store(a, false, at(FIELD(aflags), 0), H_RAX);
	compare_live(a, 0, JIT_VEC_NONE);
	none = jit_jcc(a, H_E);
	save_vectors(a, 0);
	set_live(a, 0, JIT_VEC_NONE);
	jit_land(a, none);
	jit_load(a, true, H_RSP, at(FIELD(jit_host_rsp), 0));
	for (unsigned k = VC_ARRAY_SIZE(callee_saved); k-- > 0;)
		push_pop(a, callee_saved[k], false);
	jit_put8(a, 0xc3);
	return here;
}

static uint8_t *make_leave(struct jit_asm *a, const uint8_t *common, enum jit_leave kind)
{
	uint8_t *here = begin(a);
	struct host_mem m = at(FIELD(jit_left), 0);

	jit_encode(a, &(struct host_insn){.opcode = 0xc7, .mem = &m, .imm = kind, .imm_size = 4});
	jit_jmp_to(a, common);
	return here;
}

/* Called by the entry of a stale block. host: flags are in RFLAGS. */
static uint8_t *make_stale(struct jit_asm *a, const uint8_t *common, bool host)
{
	uint8_t *here = begin(a);
	struct host_mem m = at(FIELD(jit_left), 0);

	push_pop(a, H_R11, false);
	if (host)
		jit_save_flags(a);
	jit_encode(a, &(struct host_insn){.opcode = 0xc7, .mem = &m, .imm = JIT_LEAVE_STALE, .imm_size = 4});
	jit_jmp_to(a, common);
	return here;
}

/* ---- calls of C that come back ---- */

/* Called: RSP is 8 below the vcpu, and 16 for the C function's alignment. */
#define PUSHED 16u

static void prologue(struct jit_asm *a)
{
	jit_alu_imm(a, H_SUB, true, H_RSP, 8);
	move_homes(a, volatile_homes, VC_ARRAY_SIZE(volatile_homes), true, PUSHED);
	jit_lea(a, true, H_RDI, at(0, PUSHED));
}

static void epilogue(struct jit_asm *a)
{
	move_homes(a, volatile_homes, VC_ARRAY_SIZE(volatile_homes), false, PUSHED);
	jit_alu_imm(a, H_ADD, true, H_RSP, 8);
	jit_put8(a, 0xc3);
}

/* R10: linear address, R11: JIT_HOW_*. Returns whether to try again in R11. */
static uint8_t *make_fill(struct jit_asm *a)
{
	uint8_t *here = begin(a);
	struct jit_label done, plain;

	prologue(a);
	jit_store(a, true, at(FIELD(jit_missed), PUSHED), H_R10);
	jit_store(a, true, at(FIELD(jit_extra), PUSHED), H_R11);
	jit_mov_rr(a, true, H_RSI, H_R10);
	jit_mov_rr(a, false, H_RDX, H_R11);
	call_c(a, (uintptr_t)jit_fill);
	jit_mov_rr(a, false, H_R11, H_RAX);
	jit_alu_imm(a, H_CMP, false, H_RAX, JIT_FILL_SLOW);
	done = jit_jcc(a, H_NE);
	compare_live(a, PUSHED, JIT_VEC_NONE);
	plain = jit_jcc(a, H_E);
	save_vectors(a, PUSHED);
	jit_land(a, plain);
	jit_lea(a, true, H_RDI, at(0, PUSHED));
	jit_load(a, true, H_RSI, at(FIELD(jit_missed), PUSHED));
	jit_load(a, false, H_RDX, at(FIELD(jit_extra), PUSHED));
	call_c(a, (uintptr_t)jit_fill_slow);
	jit_mov_rr(a, false, H_R11, H_RAX);
	compare_live(a, PUSHED, JIT_VEC_NONE);
	plain = jit_jcc(a, H_E);
	/* back as they were; their upper halves may well be zero, but that costs more to find out */
	{
		struct host_mem m = at(FIELD(vec_live), PUSHED);

		jit_encode(a, &(struct host_insn){.map = 1, .opcode = 0xb6, .reg = H_RAX, .mem = &m});
	}
	load_vectors(a, PUSHED);
	jit_land(a, plain);
	jit_land(a, done);
	epilogue(a);
	return here;
}

/* Returns whether the guest's vector registers can be used in R11. */
static uint8_t *make_vec_load(struct jit_asm *a, bool avx)
{
	uint8_t *here = begin(a);
	struct jit_label refused, live;

	prologue(a);
	/* the level may be there already, but not high enough: then it cannot be had */
	compare_live(a, PUSHED, JIT_VEC_NONE);
	jit_mov_imm64(a, H_R11, 0);
	live = jit_jcc(a, H_NE);
	call_c(a, (uintptr_t)jit_vec_ready);
	jit_mov_imm64(a, H_R11, 0);
	jit_alu_imm(a, H_CMP, false, H_RAX, avx ? JIT_VEC_AVX : JIT_VEC_SSE);
	refused = jit_jcc(a, H_B);
	load_vectors(a, PUSHED);
	jit_mov_imm64(a, H_R11, 1);
	jit_land(a, refused);
	jit_land(a, live);
	epilogue(a);
	return here;
}

void jit_make_thunks(struct jit_vm *j)
{
	struct jit_asm asm_ = jit_code_begin(j), *a = &asm_;
	struct jit_thunks *t = &j->thunks;
	uint8_t *common;

	make_enter(j, a);
	common = make_leave_common(a);
	t->leave_link = make_leave(a, common, JIT_LEAVE_LINK);
	t->leave_site = make_leave(a, common, JIT_LEAVE_SITE);
	t->leave_indirect = make_leave(a, common, JIT_LEAVE_INDIRECT);
	t->leave_bail = make_leave(a, common, JIT_LEAVE_BAIL);
	t->leave_poll = make_leave(a, common, JIT_LEAVE_POLL);
	t->leave_second = make_leave(a, common, JIT_LEAVE_SECOND);
	t->stale = make_stale(a, common, false);
	t->stale_host = make_stale(a, common, true);
	t->fill = make_fill(a);
	t->vec_load = make_vec_load(a, false);
	t->vec_load_avx = make_vec_load(a, true);
	jit_code_end(j, a);
	j->thunk_size = j->code_used;
}
