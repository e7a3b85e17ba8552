/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The stack and near branches.
 *
 * A call leaves the return address and the code to go on with there on the vcpu's shadow stack (jit_returns); a return
 * whose address is the one on top goes there at once. Other indirect targets are looked up in the jump cache
 * (jit_jumps). Both are tagged with address space and mode (jit_ctx).
 */
#include "backend/emu/jit/trans.h"

#define JUMP_SIZE   ((uint32_t)sizeof(struct emu_jit_jump))
#define RETURN_MASK (EMU_JIT_RETURNS * JUMP_SIZE - 1)
_Static_assert(sizeof(struct emu_jit_jump) == 16, "indexed by a shift of 4");

static bool full_size(const struct jit_trans *t)
{
	return t->n->opsize == (t->long_mode ? 8 : 4);
}

/* ---- the stack ---- */

static unsigned width(const struct jit_trans *t)
{
	return t->long_mode ? 8 : 4;
}

bool jit_stack_native(const struct emu_insn *n)
{
	switch (n->op) {
	case EMU_POP:
		if (n->prefixes & EMU_P_MEM)
			return false;
		/* fall through */
	case EMU_PUSH:
		return n->opsize >= 4 && (n->stacksize == 8 || n->stacksize == 4) && n->opsize == n->stacksize;
	case EMU_LEAVE:
		return n->opsize >= 4 && n->opsize == n->stacksize;
	default:
		return false;
	}
}

/* Guest RSP changes by so much. */
static void move_rsp(struct jit_trans *t, int32_t by)
{
	if (t->long_mode)
		t->delta += by;
	else
		jit_lea(&t->a, false, H_R15, (struct host_mem){.base = H_R15, .index = H_NONE, .disp = by});
}

static void emit_push(struct jit_trans *t)
{
	const struct emu_insn *n = t->n;
	struct jit_asm *a = &t->a;

	if (n->desc->enc == EMU_ENC_IMM) {
		struct jit_access x = jit_stack_access(t, -(int)width(t), width(t), true);
		struct host_mem m = jit_access(t, &x, false);

		jit_encode(a, &(struct host_insn){.opcode = 0xc7, .w = t->long_mode, .mem = &m, .imm = n->imm, .imm_size = 4});
		move_rsp(t, -(int)width(t));
	} else if (n->prefixes & EMU_P_MEM) {
		struct jit_access x = jit_operand(t, n);
		struct host_mem m;

		x.size = n->opsize;
		m = jit_access(t, &x, false);
		jit_load(a, t->long_mode, H_R10, m);
		jit_store(a, true, jit_field(FIELD(jit_spill2)), H_R10);
		x = jit_stack_access(t, -(int)width(t), width(t), true);
		m = jit_access(t, &x, true);
		jit_load(a, true, H_R10, jit_field(FIELD(jit_spill2)));
		jit_store(a, t->long_mode, m, H_R10);
		move_rsp(t, -(int)width(t));
	} else {
		unsigned guest = n->desc->enc == EMU_ENC_OREG ? n->reg : n->rm;
		struct jit_access x;
		struct host_mem m;

		if (guest == VC_RSP)
			jit_settle_rsp(t);
		x = jit_stack_access(t, -(int)width(t), width(t), true);
		m = jit_access(t, &x, true);
		jit_store(a, t->long_mode, m, jit_get(t, guest, H_R10));
		move_rsp(t, -(int)width(t));
	}
}

static void emit_pop(struct jit_trans *t)
{
	const struct emu_insn *n = t->n;
	struct jit_access x = jit_stack_access(t, 0, width(t), false);
	struct host_mem m;
	unsigned guest = n->desc->enc == EMU_ENC_OREG ? n->reg : n->rm, to;

	m = jit_access(t, &x, false);
	to = jit_home(guest);
	if (guest == VC_RSP) {
		jit_load(&t->a, t->long_mode, H_R15, m);
		t->delta = 0;
		jit_forget_group(t, VC_RSP);
		return;
	}
	if (to == H_NONE)
		to = H_R10;
	jit_load(&t->a, t->long_mode, to, m);
	jit_put_back(t, guest, to);
	move_rsp(t, (int)width(t));
}

/* RSP = RBP, then POP RBP. */
static void emit_leave(struct jit_trans *t)
{
	struct jit_access x = jit_stack_access(t, 0, width(t), false);
	struct host_mem m;

	x.base = VC_RBP;
	m = jit_access(t, &x, true);
	jit_load(&t->a, t->long_mode, H_R10, m);
	jit_lea(&t->a, t->long_mode, H_R15, (struct host_mem){.base = H_RBP, .index = H_NONE, .disp = (int32_t)width(t)});
	jit_mov_rr(&t->a, t->long_mode, H_RBP, H_R10);
	t->delta = 0;
	jit_forget_group(t, EMU_REG_NONE);
}

bool jit_emit_stack(struct jit_trans *t)
{
	if (!jit_stack_native(t->n))
		return false;
	if (t->n->op == EMU_LEAVE)
		emit_leave(t);
	else if (t->n->op == EMU_POP)
		emit_pop(t);
	else
		emit_push(t);
	return true;
}

/* ---- branches ---- */

bool jit_branch_native(const struct emu_insn *n)
{
	switch (n->op) {
	case EMU_JCC:
	case EMU_JMP:
	case EMU_CALL:
	case EMU_RET:
	case EMU_JMP_IND:
	case EMU_CALL_IND:
		return n->opsize >= 4;
	default:
		return false;
	}
}

/* R10 = linear address of the instruction behind. */
static void load_next(struct jit_trans *t)
{
	jit_load(&t->a, true, H_R10, jit_field(FIELD(jit_page)));
	jit_lea(&t->a, t->long_mode, H_R10,
	        (struct host_mem){.base = H_R10, .index = H_NONE, .disp = (int32_t)jit_page_next(t)});
}

/* The return address in R10 goes to the shadow stack, with the code that goes on there. */
static void push_return(struct jit_trans *t)
{
	struct jit_asm *a = &t->a;
	struct host_mem ctx = jit_field(FIELD(jit_ctx));
	struct jit_cold *c;

	if (jit_page_next(t) >= 4096)
		return;
	c = jit_cold(t, JIT_COLD_RETURN);
	c->link = jit_new_link(t, jit_page_next(t));
	jit_lose_addend(t);
	jit_alu_mem(a, H_XOR, true, H_R10, &ctx);
	jit_load(a, false, H_R11, jit_field(FIELD(jit_top)));
	jit_alu_imm(a, H_ADD, false, H_R11, (int32_t)JUMP_SIZE);
	jit_alu_imm(a, H_AND, false, H_R11, (int32_t)RETURN_MASK);
	jit_store(a, false, jit_field(FIELD(jit_top)), H_R11);
	jit_store(a, true, jit_field_indexed(FIELD(jit_returns[0].tag), H_R11), H_R10);
	JIT_PUT(a, 0x4c, 0x8d, 0x15); /* LEA r10, [rip + disp32] */
	jit_put32(a, 0);
	c->from = (struct jit_label){a->p - 4};
	jit_store(a, true, jit_field_indexed(FIELD(jit_returns[0].code), H_R11), H_R10);
}

/* Push the address behind the instruction. */
static void push_next(struct jit_trans *t)
{
	struct jit_access x = jit_stack_access(t, -(int)width(t), width(t), true);
	struct host_mem m = jit_access(t, &x, true);

	load_next(t);
	jit_store(&t->a, t->long_mode, m, H_R10);
	move_rsp(t, -(int)width(t));
	jit_settle_rsp(t);
}

static void emit_call(struct jit_trans *t)
{
	jit_spoil_flags(t, EMU_FL_ALL);
	push_next(t);
	push_return(t);
	jit_exit_direct(t, jit_page_next(t) + (int64_t)t->n->imm);
}

/* R10 = the target; may be followed by a push, so it is kept in memory. */
static void load_target(struct jit_trans *t)
{
	const struct emu_insn *n = t->n;
	struct jit_asm *a = &t->a;

	if (n->prefixes & EMU_P_MEM) {
		struct jit_access x = jit_operand(t, n);
		struct host_mem m;

		x.size = n->opsize;
		m = jit_access(t, &x, false);
		jit_load(a, t->long_mode, H_R10, m);
	} else {
		if (n->rm == VC_RSP)
			jit_settle_rsp(t);
		jit_mov_rr(a, t->long_mode, H_R10, jit_get(t, n->rm, H_R10));
	}
}

/*
 * R10: target; jump to it by jump cache. A target that is not canonical has no entry there, and the C code raises the
 * fault of this instruction: RSP is then moved back.
 */
void jit_exit_indirect(struct jit_trans *t)
{
	struct jit_asm *a = &t->a;
	struct host_mem ctx = jit_field(FIELD(jit_ctx)), tag = jit_field_indexed(FIELD(jit_jumps[0].tag), H_R11);
	struct host_mem code = jit_field_indexed(FIELD(jit_jumps[0].code), H_R11);
	struct jit_label miss;

	jit_lose_addend(t);
	jit_mov_rr(a, true, H_R11, H_R10);
	jit_shift_imm(a, 5, true, H_R11, 12);
	jit_op_rr(a, 0x33, true, H_R11, H_R10);
	jit_alu_imm(a, H_AND, false, H_R11, EMU_JIT_JUMPS - 1);
	jit_shift_imm(a, 4, false, H_R11, 4);
	jit_alu_mem(a, H_XOR, true, H_R10, &ctx);
	jit_alu_mem(a, H_CMP, true, H_R10, &tag);
	miss = jit_jcc(a, H_NE);
	jit_alu_mem(a, H_XOR, true, H_R10, &ctx);
	jit_alu_imm(a, H_AND, true, H_R10, -4096);
	jit_store(a, true, jit_field(FIELD(jit_page)), H_R10);
	jit_encode(a, &(struct host_insn){.opcode = 0xff, .reg = 4, .mem = &code});
	jit_land(a, miss);
	jit_mov_imm64(a, H_R11, (uint32_t)(t->s->page_offset + t->offset));
	jit_jmp_to(a, t->j->thunks.leave_indirect);
	t->ended = true;
}

static void emit_indirect(struct jit_trans *t)
{
	struct jit_asm *a = &t->a;

	jit_spoil_flags(t, EMU_FL_ALL);
	load_target(t);
	if (t->n->op == EMU_CALL_IND) {
		jit_store(a, true, jit_field(FIELD(jit_spill2)), H_R10);
		push_next(t);
		push_return(t);
		jit_load(a, true, H_R10, jit_field(FIELD(jit_spill2)));
	}
	jit_settle_rsp(t);
	jit_exit_indirect(t);
}

static void emit_ret(struct jit_trans *t)
{
	struct jit_asm *a = &t->a;
	struct host_mem ctx = jit_field(FIELD(jit_ctx)), tag = jit_field_indexed(FIELD(jit_returns[0].tag), H_R11), m;
	struct host_mem code = jit_field_indexed(FIELD(jit_returns[0].code), H_R11);
	struct jit_access x = jit_stack_access(t, 0, width(t), false);
	struct jit_label miss;
	bool has_imm = t->n->desc->enc == EMU_ENC_IMM;

	jit_spoil_flags(t, EMU_FL_ALL);
	m = jit_access(t, &x, false);
	jit_load(a, t->long_mode, H_R10, m);
	move_rsp(t, (int)width(t) + (has_imm ? (int)(t->n->imm & 0xffff) : 0));
	jit_settle_rsp(t);
	jit_lose_addend(t);
	jit_load(a, false, H_R11, jit_field(FIELD(jit_top)));
	jit_alu_mem(a, H_XOR, true, H_R10, &ctx);
	jit_alu_mem(a, H_CMP, true, H_R10, &tag);
	miss = jit_jcc(a, H_NE);
	jit_alu_mem(a, H_XOR, true, H_R10, &ctx);
	jit_alu_imm(a, H_AND, true, H_R10, -4096);
	jit_store(a, true, jit_field(FIELD(jit_page)), H_R10);
	jit_lea(a, false, H_R10, (struct host_mem){.base = H_R11, .index = H_NONE, .disp = -(int32_t)JUMP_SIZE});
	jit_alu_imm(a, H_AND, false, H_R10, (int32_t)RETURN_MASK);
	jit_store(a, false, jit_field(FIELD(jit_top)), H_R10);
	jit_encode(a, &(struct host_insn){.opcode = 0xff, .reg = 4, .mem = &code});
	jit_land(a, miss);
	jit_alu_mem(a, H_XOR, true, H_R10, &ctx);
	jit_exit_indirect(t);
}

bool jit_emit_branch(struct jit_trans *t)
{
	const struct emu_insn *n = t->n;

	if (!jit_branch_native(n) || (n->op != EMU_JCC && !full_size(t)))
		return false;
	switch (n->op) {
	case EMU_JCC:
		jit_exit_if(t, n->reg2 & 15, jit_page_next(t) + (int64_t)n->imm);
		break;
	case EMU_JMP:
		jit_exit_direct(t, jit_page_next(t) + (int64_t)n->imm);
		break;
	case EMU_CALL:
		emit_call(t);
		break;
	case EMU_RET:
		emit_ret(t);
		break;
	default:
		emit_indirect(t);
	}
	return true;
}
