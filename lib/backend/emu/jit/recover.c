/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Arithmetic flags computed a second time, from what an instruction left in its registers. */
#include "backend/emu/interp/interp.h"
#include "backend/emu/jit/trans.h"

static bool is_logic(unsigned op)
{
	return op == EMU_AND || op == EMU_OR || op == EMU_XOR;
}

/* ADD and SUB of an immediate to RSP. */
bool jit_is_rsp_move(const struct emu_insn *n)
{
	return (n->op == EMU_ADD || n->op == EMU_SUB) && n->desc->enc == EMU_ENC_RM_IMM && !(n->prefixes & EMU_P_MEM) &&
	       n->rm == VC_RSP && n->opsize == 8;
}

/* The registers that n's flags follow from; AH to BH are left out, as they are not where they seem to be. */
static bool operands(const struct emu_insn *n, unsigned *dest, unsigned *source, bool *has_source)
{
	const struct emu_opdesc *d = n->desc;

	if (!(n->op == EMU_ADD || n->op == EMU_SUB || n->op == EMU_CMP || n->op == EMU_TEST || is_logic(n->op)) ||
	    n->prefixes & EMU_P_MEM || n->opsize < 4)
		return false;
	*has_source = d->enc == EMU_ENC_RM_REG || d->enc == EMU_ENC_REG_RM;
	if (d->enc == EMU_ENC_ACC_IMM)
		*dest = VC_RAX;
	else if (d->enc == EMU_ENC_RM_IMM || d->enc == EMU_ENC_RM_REG)
		*dest = n->rm;
	else if (d->enc == EMU_ENC_REG_RM)
		*dest = n->reg;
	else
		return false;
	*source = !*has_source ? *dest : d->enc == EMU_ENC_RM_REG ? n->reg : n->rm;
	if (*dest == VC_RSP || *source == VC_RSP)
		return jit_is_rsp_move(n);
	/* ADD and SUB of a register to itself lose what it was */
	return !(*has_source && *dest == *source && (n->op == EMU_ADD || n->op == EMU_SUB));
}

static bool changes(const struct emu_insn *n, unsigned gpr)
{
	return jit_writes_gpr(n, gpr) || (gpr == VC_RSP && n->desc->attr & EMU_A_STACK);
}

/* Does n leave the block at a site, where flags are taken to be saved? */
static bool calls_out(const struct jit_trans *t, const struct emu_insn *n)
{
	return !jit_is_native(t, n) || n->op == EMU_RDTSC || n->op == EMU_RDTSCP || n->op == EMU_STI;
}

bool jit_may_fault(const struct jit_trans *t, const struct emu_insn *n)
{
	return n->prefixes & EMU_P_MEM || n->desc->attr & EMU_A_STACK || n->desc->imm == EMU_IMM_MOFFS ||
	       n->op == EMU_VEC || calls_out(t, n);
}

bool jit_recoverable(const struct jit_trans *t)
{
	unsigned dest, source;
	bool has_source, changed = false;

	if (t->setter >= t->i || !operands(&t->s->insn[t->setter], &dest, &source, &has_source))
		return false;
	for (unsigned k = t->setter + 1; k < t->s->count; k++) {
		const struct emu_insn *n = &t->s->insn[k];

		if (calls_out(t, n) || (changed && jit_may_fault(t, n)))
			return false;
		if (k >= t->i && jit_flags_killed(n) == EMU_FL_ALL)
			return true;
		if (n->desc->flags_written | n->desc->flags_undefined)
			return false; /* the others must be there for it to keep */
		changed = changed || changes(n, dest) || changes(n, source);
		if (changed && k < t->i)
			return false;
	}
	return false;
}

bool jit_rsp_may_lag(const struct jit_trans *t)
{
	for (unsigned k = t->i + 1; k < t->s->count; k++) {
		const struct emu_insn *n = &t->s->insn[k];

		if (calls_out(t, n) || n->desc->attr & EMU_A_STACK)
			return false;
		if (jit_flags_killed(n) == EMU_FL_ALL)
			return true;
		if (n->desc->flags_written | n->desc->flags_undefined || changes(n, VC_RSP))
			return false;
	}
	return false;
}

static uint32_t common_flags(uint64_t result, unsigned size)
{
	uint64_t sign = 1ull << (size * 8 - 1);

	result &= vc_width_mask(size);
	return (result ? 0 : VC_FLAG_ZF) | (result & sign ? VC_FLAG_SF : 0) |
	       (__builtin_parity((unsigned)result & 0xff) ? 0 : VC_FLAG_PF);
}

static uint32_t flags_of_add(uint64_t a, uint64_t b, unsigned size)
{
	uint64_t mask = vc_width_mask(size), sign = 1ull << (size * 8 - 1), sum = (a + b) & mask;

	return common_flags(sum, size) | (sum < (a & mask) ? VC_FLAG_CF : 0) |
	       ((a ^ sum) & (b ^ sum) & sign ? VC_FLAG_OF : 0) | ((a ^ b ^ sum) & 0x10 ? VC_FLAG_AF : 0);
}

void jit_recover_flags(struct emu_vcpu *c, uint64_t linear)
{
	const struct emu_decode_mode mode = {c->mode, c->protected_mode, &c->bvcpu->cpuid.features};
	unsigned available, dest, source;
	struct vc_page_info *page;
	struct emu_insn n;
	uint64_t gpa, a, b;
	bool has_source;
	const uint8_t *host = emu_fetch(c, linear, &available, &gpa, &page);

	if (emu_decode(host, available, &mode, &n) != EMU_DECODE_OK || !operands(&n, &dest, &source, &has_source))
		return; /* the code has been replaced since */
	a = c->s.gpr[dest];
	b = has_source ? c->s.gpr[source] : n.imm;
	switch (n.op) {
	case EMU_ADD: /* a is the sum */
		c->aflags = flags_of_add(a - b, b, n.opsize);
		break;
	case EMU_SUB:
		c->aflags = interp_compare(a + b, b, n.opsize);
		break;
	case EMU_CMP:
		c->aflags = interp_compare(a, b, n.opsize);
		break;
	case EMU_TEST:
		c->aflags = common_flags(a & b, n.opsize);
		break;
	default:
		c->aflags = common_flags(a, n.opsize);
	}
}
