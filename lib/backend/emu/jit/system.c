/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* System instructions that kernels execute all the time, in 64-bit mode at CPL 0. All others call their C function. */
#include "backend/emu/jit/trans.h"

bool jit_system_native(const struct emu_vcpu *c, const struct emu_insn *n)
{
	switch (n->op) {
	case EMU_CLD:
	case EMU_STD:
		return true;
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
 * Interrupts are looked at where blocks begin, so the instruction behind is executed before one is taken, if it is in this
 * block; unless one waits, when the C function sees to the rest.
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

	jit_drop_group(t);
	jit_load(&t->a, true, H_R10, base);
	jit_load(&t->a, true, H_R11, other);
	jit_store(&t->a, true, other, H_R10);
	jit_store(&t->a, true, base, H_R11);
}

bool jit_emit_system(struct jit_trans *t)
{
	if (!jit_system_native(t->c, t->n))
		return false;
	if (t->n->op != EMU_SWAPGS)
		jit_spoil_flags(t, t->live[t->i]);
	switch (t->n->op) {
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
