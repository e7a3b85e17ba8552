/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* System instructions that kernels execute all the time, in 64-bit mode, most at CPL 0. All others call their C
 * function. */
#include "backend/emu/jit/trans.h"

bool jit_system_native(const struct emu_vcpu *c, const struct emu_insn *n)
{
	switch (n->op) {
	case EMU_CLD:
	case EMU_STD:
		return true;
	case EMU_PUSHF:
		return c->mode == EMU_MODE_64 && n->opsize == 8;
	case EMU_RDTSC:
	case EMU_RDTSCP:
		return c->mode == EMU_MODE_64 && !c->jit->lockstep;
	case EMU_CLI:
	case EMU_STI:
	case EMU_SWAPGS:
		return c->mode == EMU_MODE_64 && c->cpl == 0;
	default:
		return false;
	}
}

/* [field] op= imm, 4: AND, 1: OR */
static void change_flag(struct jit_trans *t, enum host_alu op, uint32_t imm)
{
	struct host_mem m = jit_field(FIELD(s.rflags));

	jit_encode(&t->a, &(struct host_insn){.opcode = 0x81, .reg = op, .mem = &m, .imm = imm, .imm_size = 4});
}

static void emit_cli(struct jit_trans *t)
{
	struct host_mem m = jit_field(FIELD(s.shadow_sti));

	change_flag(t, H_AND, ~VC_FLAG_IF);
	jit_encode(&t->a, &(struct host_insn){.opcode = 0xc6, .mem = &m, .imm = 0, .imm_size = 1});
}

/*
 * Interrupts are looked at where blocks begin, so the instruction behind is executed before one is taken, if it is in
 * this block; unless one waits, when the C function sees to the rest.
 */
static void emit_sti(struct jit_trans *t)
{
	struct host_mem m = jit_field(FIELD(interrupt_waiting));
	struct jit_cold *c = jit_cold(t, JIT_COLD_CALL);

	jit_settle_rsp(t);
	jit_encode(&t->a, &(struct host_insn){.opcode = 0x80, .reg = H_CMP, .mem = &m, .imm = 0, .imm_size = 1});
	c->delta = 0;
	c->from = jit_jcc(&t->a, H_NE);
	c->site = jit_new_site(t);
	change_flag(t, H_OR, VC_FLAG_IF);
}

static void emit_swapgs(struct jit_trans *t)
{
	struct host_mem base = jit_field(FIELD(s.seg[VC_GS].base)), other = jit_field(FIELD(s.kernel_gs_base));

	jit_lose_addend(t);
	jit_load(&t->a, true, H_R10, base);
	jit_load(&t->a, true, H_R11, other);
	jit_store(&t->a, true, other, H_R10);
	jit_store(&t->a, true, base, H_R11);
}

static void emit_pushf(struct jit_trans *t)
{
	struct host_mem flags = jit_field(FIELD(jit_flags)), others = jit_field(FIELD(s.rflags)), m;
	struct jit_access x = jit_stack_access(t, -8, 8, true);
	struct jit_asm *a = &t->a;
	struct jit_label no_overflow;

	m = jit_access(t, &x, true);
	jit_load_flags(a, H_R10);
	jit_shift_imm(a, 5, false, H_R10, 8);
	jit_alu_imm(a, H_AND, false, H_R10, VC_FLAGS_ARITH & 0xff);
	jit_encode(a, &(struct host_insn){.opcode = 0xf6, .mem = &flags, .imm = 1, .imm_size = 1}); /* TEST */
	no_overflow = jit_jcc(a, H_E);
	jit_alu_imm(a, H_OR, false, H_R10, VC_FLAG_OF);
	jit_land(a, no_overflow);
	jit_alu_mem(a, H_OR, true, H_R10, &others);
	jit_alu_imm(a, H_AND, true, H_R10, ~(int32_t)(VC_FLAG_RF | VC_FLAG_VM)); /* SDM vol. 2, PUSHF */
	jit_store(a, true, m, H_R10);
	t->delta -= 8;
}

/* The function does it when the line is not good any more, or CR4.TSD is against it. */
static void emit_rdtsc(struct jit_trans *t)
{
	unsigned user = t->c->cpl == 3;
	struct host_mem host = jit_field(FIELD(tsc_host)), span = jit_field(FIELD(tsc_span) + 8 * user);
	struct host_mem ratio = jit_field(FIELD(tsc_ratio)), guest = jit_field(FIELD(tsc_guest));
	struct jit_asm *a = &t->a;
	struct jit_cold *c = jit_cold(t, JIT_COLD_CALL);

	jit_settle_rsp(t);
	jit_encode(a, &(struct host_insn){.w = true, .opcode = 0x83, .reg = H_CMP, .mem = &span, .imm = 0, .imm_size = 1});
	c->from = jit_jcc(a, H_E);
	JIT_PUT(a, 0x0f, 0x31); /* RDTSC */
	jit_shift_imm(a, 4, true, H_RDX, 32);
	jit_op_rr(a, 0x0b, true, H_RDX, H_RAX); /* OR */
	jit_alu_mem(a, H_SUB, true, H_RDX, &host);
	jit_alu_mem(a, H_CMP, true, H_RDX, &span);
	c->from2 = jit_jcc(a, H_A);
	c->site = jit_new_site(t);
	jit_load(a, true, H_RAX, ratio);
	jit_encode(a, &(struct host_insn){.w = true, .opcode = 0xf7, .reg = 4, .rm = H_RDX}); /* MUL */
	JIT_PUT(a, 0x48, 0x0f, 0xac, 0xd0, 32);                                               /* SHRD rax, rdx, 32 */
	jit_alu_mem(a, H_ADD, true, H_RAX, &guest);
	jit_mov_rr(a, true, H_RDX, H_RAX);
	jit_shift_imm(a, 5, true, H_RDX, 32);
	jit_mov_rr(a, false, H_RAX, H_RAX);
	if (t->n->op == EMU_RDTSCP)
		jit_load(a, false, H_RCX, jit_field(FIELD(s.tsc_aux)));
}

bool jit_emit_system(struct jit_trans *t)
{
	if (!jit_system_native(t->c, t->n))
		return false;
	if (t->n->op == EMU_RDTSC || t->n->op == EMU_RDTSCP)
		jit_spoil_flags(t, EMU_FL_ALL); /* it may fault */
	else if (t->n->op != EMU_SWAPGS)
		jit_spoil_flags(t, t->seen[t->i]);
	switch (t->n->op) {
	case EMU_PUSHF:
		emit_pushf(t);
		break;
	case EMU_RDTSC:
	case EMU_RDTSCP:
		emit_rdtsc(t);
		break;
	case EMU_CLI:
		emit_cli(t);
		break;
	case EMU_STI:
		emit_sti(t);
		break;
	case EMU_SWAPGS:
		emit_swapgs(t);
		break;
	case EMU_CLD:
		change_flag(t, H_AND, ~VC_FLAG_DF);
		break;
	default:
		change_flag(t, H_OR, VC_FLAG_DF);
	}
	return true;
}
