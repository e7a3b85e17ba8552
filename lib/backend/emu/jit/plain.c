/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Loads and stores that the TLB does not let through: of devices, and of memory that hooks watch. Drivers make them
 * with MOV almost always. That is executed here, without the interpreter, and its decoded form kept.
 */
#include "backend/emu/jit/trans.h"
#include "backend/emu/mmu/mmu.h"
#include "backend/emu/system.h"
#include "backend/emu/vcpu.h"

/* MOV, MOVZX, MOVSX between memory and a register, or of an immediate to memory. */
static bool is_plain(const struct emu_insn *n)
{
	bool memory = n->prefixes & EMU_P_MEM || n->desc->imm == EMU_IMM_MOFFS;

	return memory && (n->op == EMU_MOV || n->op == EMU_MOVZX || n->op == EMU_MOVSX) && !(n->prefixes & EMU_P_LOCK);
}

/* The instruction that begins `at` bytes behind the block's start; NULL: it is not plain. */
static const struct emu_insn *plain_at(struct emu_vcpu *c, const struct jit_block *b, unsigned at)
{
	const struct emu_decode_mode mode = {c->mode, c->protected_mode, &c->bvcpu->cpuid.features};
	const uint8_t *code = b->code + at;
	uint64_t evictions = atomic_load_explicit(&c->jit->evictions, memory_order_relaxed);
	struct emu_plain *p = &c->sys->plain[((uintptr_t)code ^ (uintptr_t)code >> 4) % VC_ARRAY_SIZE(c->sys->plain)];

	if (vc_likely(p->code == code && p->evictions == evictions))
		return &p->insn;
	if (emu_decode(code, b->bytes - at, &mode, &p->insn) != EMU_DECODE_OK || !is_plain(&p->insn)) {
		p->code = NULL;
		return NULL;
	}
	p->code = code;
	p->evictions = evictions;
	return &p->insn;
}

/* ---- operands ---- */

static unsigned register_of(const struct emu_insn *n)
{
	return n->desc->imm == EMU_IMM_MOFFS ? VC_RAX : n->reg;
}

/* AH to BH */
static bool is_high_byte(const struct emu_insn *n)
{
	return n->opsize == 1 && !(n->prefixes & EMU_P_REX) && register_of(n) >= 4;
}

static uint64_t get_register(const struct emu_vcpu *c, const struct emu_insn *n)
{
	unsigned reg = register_of(n);

	return is_high_byte(n) ? c->s.gpr[reg - 4] >> 8 : c->s.gpr[reg];
}

static void set_register(struct emu_vcpu *c, const struct emu_insn *n, uint64_t value)
{
	unsigned reg = register_of(n), shift = is_high_byte(n) ? 8 : 0;
	uint64_t *at = &c->s.gpr[shift ? reg - 4 : reg];

	if (n->opsize == 1)
		*at = (*at & ~(0xffull << shift)) | (value & 0xff) << shift;
	else
		emu_set_gpr(c, reg, n->opsize, value);
}

static uint64_t linear_of(struct emu_vcpu *c, const struct emu_insn *n, unsigned size, enum vcore_access access)
{
	if (n->desc->imm == EMU_IMM_MOFFS)
		return emu_seg_linear(c, (enum vc_sreg)n->seg, n->imm & vc_width_mask(n->addrsize), size, access);
	return emu_operand_linear(c, n, 0, size, access);
}

/* ---- execution ---- */

/* One that is not canonical raises #SS or #GP by its segment. */
static uint64_t address_of(struct emu_vcpu *c, const struct emu_insn *n, unsigned size, enum vcore_access access)
{
	bool canonical = vc_sign_extend(c->jit_missed, 6) == (int64_t)c->jit_missed;

	return c->jit_value & JIT_BAIL_GROUP || !canonical ? linear_of(c, n, size, access) : c->jit_missed;
}

static void load(struct emu_vcpu *c, const struct emu_insn *n)
{
	unsigned size = jit_mem_size(n);
	uint64_t value = emu_load_sole(c, address_of(c, n, size, VCORE_ACCESS_READ), size);

	set_register(c, n, n->op == EMU_MOVSX ? (uint64_t)vc_sign_extend(value, size) : value);
}

static void store(struct emu_vcpu *c, const struct emu_insn *n)
{
	uint64_t value = n->desc->enc == EMU_ENC_RM_IMM ? n->imm : get_register(c, n);
	uint64_t linear = address_of(c, n, n->opsize, VCORE_ACCESS_WRITE);

	emu_store_sole(c, linear, n->opsize, value & vc_width_mask(n->opsize));
}

bool jit_plain(struct emu_vcpu *c, const struct jit_block *b)
{
	const struct emu_insn *n = plain_at(c, b, (unsigned)(c->s.rip - b->gpa) & (VC_PAGE_SIZE - 1));

	if (!n)
		return false;
	if (n->desc->enc == EMU_ENC_REG_RM || n->desc->enc == EMU_ENC_ACC_MOFFS)
		load(c, n);
	else
		store(c, n);
	c->s.rip = (c->s.rip + n->len) & emu_ip_mask(c);
	c->icount++;
	return true;
}
