/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From struct emu_insn to struct interp_op: the handler and its operands. */
#include "backend/emu/hook.h"
#include "backend/emu/interp/interp.h"

static enum interp_kind kind_of(const struct emu_vcpu *c, const struct emu_insn *n)
{
	if (!(n->prefixes & EMU_P_MEM))
		return n->op == EMU_MOV && n->desc->imm == EMU_IMM_MOFFS ? INTERP_ANY : INTERP_REG;
	if (n->prefixes & EMU_P_LOCK)
		return INTERP_LOCK;
	if (!(c->flat >> n->seg & 1) || n->addrsize == 2)
		return INTERP_ANY;
	if (n->addrsize == 4)
		return INTERP_A32;
	return n->index == EMU_REG_NONE ? INTERP_BD : INTERP_BIS;
}

static uint16_t place_of(unsigned reg)
{
	return (uint16_t)(reg == EMU_REG_NONE ? offsetof(struct emu_vcpu, zero) : INTERP_GPR(reg));
}
/* A register operand of one byte may be AH to BH. */
static uint8_t operand_of(const struct emu_insn *n, unsigned reg, bool byte)
{
	return (uint8_t)(byte && reg >= 4 && reg < 8 && !(n->prefixes & EMU_P_REX) ? INTERP_GPR(reg - 4) + 1
	                                                                           : INTERP_GPR(reg & 15));
}

static void set_memory(const struct emu_insn *n, unsigned offset, struct interp_op *op)
{
	int64_t disp = n->disp;
	op->seg = (uint8_t)(n->seg | (n->addrsize == 8 ? 2 : n->addrsize == 4 ? 1 : 0) << 4);
	op->scale = n->scale;
	op->index = place_of(n->index);
	op->base = place_of(n->base);
	if (n->base == EMU_REG_RIP) {
		op->base = offsetof(struct emu_vcpu, block_rip);
		disp += offset + n->len;
		if (disp != (int32_t)disp) { /* 2 GiB away already: a constant as index makes room */
			op->index = offsetof(struct emu_vcpu, k8192);
			op->scale = 0;
			disp -= 8192;
		}
	}
	op->disp = (int32_t)disp;
}

static void set_operands(const struct emu_insn *n, struct interp_op *op)
{
	bool byte = n->opsize == 1, byte_rm = byte || n->desc->attr & EMU_A_SRC8;
	op->reg = operand_of(n, n->reg, byte);
	op->rm = operand_of(n, n->rm, byte_rm);
	op->imm = n->imm;
	switch (n->desc->enc) {
	case EMU_ENC_RM_REG: /* of two registers, handlers have the destination in `reg` */
	case EMU_ENC_M_REG:
		if (!(n->prefixes & EMU_P_MEM) && n->op != EMU_XADD && n->op != EMU_CMPXCHG && n->op != EMU_XCHG &&
		    !(n->op >= EMU_BT && n->op <= EMU_BTC)) {
			op->reg = operand_of(n, n->rm, byte);
			op->rm = operand_of(n, n->reg, byte);
		}
		break;
	case EMU_ENC_RM_IMM:
		if (n->op == EMU_CMP || n->op == EMU_TEST)
			op->reg = op->rm; /* where fused handlers look */
		break;
	case EMU_ENC_RM_1:
		op->imm = 1;
		break;
	case EMU_ENC_ACC_IMM:
	case EMU_ENC_ACC_MOFFS:
	case EMU_ENC_MOFFS_ACC:
		op->reg = op->rm = INTERP_GPR(VC_RAX);
		break;
	case EMU_ENC_OREG:
	case EMU_ENC_OREG_IMM:
		op->rm = op->reg;
		break;
	case EMU_ENC_ACC_OREG:
		op->rm = INTERP_GPR(VC_RAX);
		break;
	case EMU_ENC_VEX_REG_VVVV_RM:
	case EMU_ENC_VEX_REG_RM_VVVV:
	case EMU_ENC_VEX_VVVV_RM:
		op->imm = INTERP_GPR(n->reg2);
		break;
	default:
		break;
	}
	if (n->op == EMU_SETCC || n->op == EMU_CMOVCC || n->op == EMU_JCC)
		op->imm = n->reg2 & 15;
}

/* Stack operations and branches: the operand size is an operand, too. */
static void set_sizes(const struct emu_insn *n, struct interp_op *op)
{
	switch (n->op) {
	case EMU_PUSH:
	case EMU_POP:
	case EMU_LEAVE:
	case EMU_RET:
	case EMU_JMP_IND:
	case EMU_CALL_IND:
		op->reg = n->opsize;
		break;
	case EMU_JMP:
	case EMU_JCC:
	case EMU_CALL:
	case EMU_LOOP:
	case EMU_LOOPE:
	case EMU_LOOPNE:
	case EMU_JCXZ:
		op->rm = n->opsize;
		break;
	default:
		break;
	}
}

static bool is_direct_branch(const struct emu_insn *n)
{
	return n->desc->enc == EMU_ENC_REL;
}

/* Whether every place that a direct branch may go to is in the block's page and reached without cutting addresses. */
static bool branch_is_near(const struct emu_vcpu *c, const struct emu_insn *n, const struct interp_place *place)
{
	uint64_t behind = place->page_offset + place->offset + n->len;
	if (place->page_offset == VC_PAGE_SIZE || !c->interp->linear_is_rip || (n->opsize == 2 && c->mode != EMU_MODE_16))
		return false;
	return behind < VC_PAGE_SIZE && behind + n->imm < VC_PAGE_SIZE;
}

static interp_fn select_handler(const struct emu_vcpu *c, const struct emu_insn *n, enum interp_kind kind, bool near)
{
	switch (n->op) {
	case EMU_ADD ... EMU_TEST:
		return interp_select_alu(n, kind);
	case EMU_INC:
	case EMU_DEC:
	case EMU_NEG:
	case EMU_NOT:
	case EMU_XADD:
	case EMU_CMPXCHG:
	case EMU_XCHG:
		return interp_select_unary(n, kind);
	case EMU_MOV:
	case EMU_LEA:
	case EMU_MOVZX:
	case EMU_MOVSX:
	case EMU_CBW:
	case EMU_CWD:
	case EMU_BSWAP:
	case EMU_SETCC:
	case EMU_CMOVCC:
	case EMU_MOVBE:
	case EMU_MOVNTI:
		return interp_select_move(n, kind);
	case EMU_ROL ... EMU_SHRD:
		return interp_select_shift(n, kind);
	case EMU_MUL ... EMU_IDIV:
		return interp_select_muldiv(n, kind);
	case EMU_BT ... EMU_POPCNT:
	case EMU_CRC32:
		return interp_select_bit(n, kind);
	case EMU_ANDN ... EMU_ADOX:
		return interp_select_bmi(n, kind);
	case EMU_PUSH:
	case EMU_POP:
	case EMU_LEAVE:
		return interp_select_stack(c, n, kind);
	case EMU_JCC:
	case EMU_JMP:
	case EMU_JMP_IND:
	case EMU_CALL:
	case EMU_CALL_IND:
	case EMU_RET:
	case EMU_LOOP ... EMU_JCXZ:
		return interp_select_branch(c, n, kind, near);
	default:
		return interp_select_flags(n, kind);
	}
}

/* A MOV with an absolute 64-bit address that does not fit a displacement. */
static bool is_wide_moffs(const struct emu_insn *n)
{
	return n->op == EMU_MOV && n->desc->imm == EMU_IMM_MOFFS && n->addrsize == 8 && (int64_t)n->imm != (int32_t)n->imm;
}

/* The function for an instruction that runs through interp_call(). */
static emu_system_fn select_called(struct emu_vcpu *c, struct emu_insn *n)
{
	emu_system_fn fn = interp_select_string(n);
	if (!fn)
		fn = interp_select_rare(n);
	if (!fn)
		fn = emu_system_handler((enum emu_op)n->op);
	return fn ? fn : emu_vec_handler(c, n);
}

emu_system_fn interp_called(struct emu_vcpu *c, struct emu_insn *n)
{
	if (!is_wide_moffs(n) && select_handler(c, n, kind_of(c, n), false))
		return NULL;
	return select_called(c, n);
}

bool interp_ends_block(const struct emu_insn *n)
{
	return n->op == EMU_INVALID || n->desc->attr & EMU_A_END;
}

bool interp_lower(struct emu_vcpu *c, const struct emu_insn *n, const struct interp_place *place, struct interp_op *op)
{
	emu_system_fn called;
	enum interp_kind kind = kind_of(c, n);

	*op = (struct interp_op){.head = {.offset = (uint16_t)place->offset, .len = n->len}};
	op->fn = n->op == EMU_INVALID ? interp_raise_ud
	         : is_wide_moffs(n)   ? NULL
	                              : select_handler(c, n, kind, branch_is_near(c, n, place));
	if (op->fn) {
		set_memory(n, place->offset, op);
		set_operands(n, op);
		set_sizes(n, op);
		if (n->op == EMU_MOV && n->desc->imm == EMU_IMM_MOFFS)
			op->disp = (int32_t)n->imm;
		if (is_direct_branch(n))
			op->disp = (int32_t)(place->offset + n->len + n->imm);
		return false;
	}
	*place->keep = *n;
	place->keep->offset = (uint16_t)place->offset;
	called = select_called(c, place->keep);
	place->keep->fn = (void *)called;
	op->imm = (uintptr_t)place->keep;
	op->fn = !called ? interp_raise_ud : interp_ends_block(n) ? interp_call_end : interp_call;
	return called;
}

bool interp_lower_hook(const struct emu_vcpu *c, const struct emu_insn *n, unsigned offset, unsigned page_offset,
                       unsigned bytes, struct interp_op *op)
{
	bool code = emu_hooks_code_wanted(c, page_offset, 1), block = bytes && emu_hooks_block_wanted(c, page_offset, 1);

	if (!code && !block)
		return false;
	*op = (struct interp_op){.head = {.offset = (uint16_t)offset, .len = n->len},
	                         .fn = interp_hook,
	                         .imm = bytes,
	                         .reg = (code ? INTERP_HOOK_CODE : 0) | (block ? INTERP_HOOK_BLOCK : 0)};
	return true;
}

bool interp_fuse(const struct emu_vcpu *c, const struct emu_insn *n, const struct emu_insn *jcc,
                 const struct interp_place *jcc_place, struct interp_op *op)
{
	interp_fn fn = interp_select_fused(n, jcc->reg2 & 15);
	if (!fn || !branch_is_near(c, jcc, jcc_place))
		return false;
	op->fn = fn;
	op->head.len = (uint8_t)(op->head.len + jcc->len);
	op->disp = (int32_t)(jcc_place->offset + jcc->len + jcc->imm);
	return true;
}
