/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory operands.
 *
 * A check compares the tag of the access's last byte with the TLB entry of its first, so that a page crossing never
 * matches. Accesses off one base register are checked together: R11 then keeps the addend, or jit_addend when others
 * come in between.
 */
#include "backend/emu/jit/trans.h"

#define TLB_SHIFT 7 /* from a linear address to the offset of its entry */
#define TLB_MASK  ((EMU_TLB_SIZE - 1) * (uint32_t)sizeof(struct emu_tlb_entry))
_Static_assert(sizeof(struct emu_tlb_entry) == 1u << (12 - TLB_SHIFT), "index by shift and mask");
/* Accesses further apart than this are not checked together. */
#define GROUP_SPAN 512

struct jit_access jit_operand(const struct jit_trans *t, const struct emu_insn *n)
{
	struct jit_access x = {
	    .base = n->base,
	    .index = n->index,
	    .scale = n->scale,
	    .seg = n->seg,
	    .disp = n->disp,
	    .address32 = n->addrsize == 4,
	    .bit_base = -1,
	};
	unsigned k = (unsigned)(n - t->s->insn);

	if (n->desc->imm == EMU_IMM_MOFFS) {
		x.base = x.index = EMU_REG_NONE;
		x.disp = (int64_t)n->imm;
	}
	if (x.base == EMU_REG_RIP) {
		unsigned at = 0;

		for (unsigned m = 0; m <= k; m++)
			at += t->s->insn[m].len;
		x.disp += (int64_t)(t->s->page_offset + at);
	}
	x.simple = x.index == EMU_REG_NONE && x.seg < VC_FS && !x.address32;
	return x;
}

struct jit_access jit_stack_access(const struct jit_trans *t, int64_t disp, unsigned size, bool write)
{
	return (struct jit_access){.simple = t->long_mode,
	                           .base = VC_RSP,
	                           .index = EMU_REG_NONE,
	                           .seg = VC_SS,
	                           .disp = disp,
	                           .address32 = !t->long_mode,
	                           .size = size,
	                           .write = write,
	                           .bit_base = -1};
}

/* ---- addresses ---- */

/* Displacement as it is in the instruction stream: guest RSP is R15 + delta. */
static int64_t settled_disp(const struct jit_trans *t, const struct jit_access *x)
{
	return x->base == VC_RSP ? x->disp + t->delta : x->disp;
}

void jit_effective(struct jit_trans *t, const struct jit_access *x, unsigned to)
{
	struct jit_asm *a = &t->a;
	struct host_mem m = {.base = H_NONE, .index = H_NONE, .scale = x->scale};
	bool w = !x->address32;
	int64_t disp = settled_disp(t, x);

	if (x->base == EMU_REG_RIP) {
		jit_load(a, true, to, jit_field(FIELD(jit_page)));
		m.base = (uint8_t)to;
	} else if (x->base != EMU_REG_NONE) {
		m.base = (uint8_t)jit_get(t, x->base, to);
	}
	if (x->index != EMU_REG_NONE) {
		unsigned other = to == H_R10 ? H_R11 : H_R10;

		m.index = (uint8_t)(m.base == to ? jit_get(t, x->index, other) : jit_get(t, x->index, to));
	}
	if (disp != (int32_t)disp) {
		/* an absolute 64-bit address */
		jit_mov_imm64(a, to, (uint64_t)disp);
	} else {
		m.disp = (int32_t)disp;
		if (m.base == to && m.index == H_NONE && !m.disp && w)
			;
		else if (m.base != H_NONE && m.index == H_NONE && !m.disp)
			jit_mov_rr(a, w, to, m.base);
		else
			jit_lea(a, w, to, m);
	}
	if (x->seg >= VC_FS) {
		uint32_t at = x->seg == VC_FS ? FIELD(s.seg[VC_FS].base) : FIELD(s.seg[VC_GS].base);
		struct host_mem base = jit_field(at);

		jit_alu_mem(a, H_ADD, t->long_mode, to, &base);
	}
	if (x->bit_base >= 0) { /* BT: bit offsets reach beyond the operand (SDM vol. 2, 3.1.1.9) */
		unsigned other = to == H_R10 ? H_R11 : H_R10, log = x->bit_size == 8 ? 6 : 5, reg;

		jit_lose_addend(t);
		reg = jit_get(t, (unsigned)x->bit_base, other);
		if (x->bit_size == 8)
			jit_mov_rr(a, true, other, reg);
		else
			jit_op_rr(a, 0x63, true, other, reg); /* MOVSXD */
		jit_shift_imm(a, 7, true, other, log);
		jit_lea(a, true, to,
		        (struct host_mem){.base = (uint8_t)to, .index = (uint8_t)other, .scale = (uint8_t)(log - 3)});
		if (x->address32)
			jit_mov_rr(a, false, to, to);
	}
}

unsigned jit_mem_size(const struct emu_insn *n)
{
	const struct emu_vec *vec = &n->desc->vec;

	if (n->op == EMU_VEC && vec->roles & EMU_V_SPECIAL)
		return 16; /* PCMPESTRM and its like */
	if (n->op == EMU_VEC)
		return vec->mem ? vec->mem : n->prefixes & EMU_P_VEX_L ? 32 : 16;
	if (n->desc->attr & EMU_A_SRC8)
		return 1;
	if (n->desc->attr & EMU_A_SRC16)
		return 2;
	if (n->desc->attr & EMU_A_SRC32)
		return 4;
	if (n->op == EMU_CMPXCHG8B || n->op == EMU_CMPXCHG16B)
		return n->op == EMU_CMPXCHG8B ? 8 : 16;
	return n->opsize;
}

/* ---- groups ---- */

bool jit_writes_gpr(const struct emu_insn *n, unsigned reg)
{
	if (n->opsize == 1 && !(n->prefixes & EMU_P_REX) && reg < 4 && (n->reg == reg + 4 || n->rm == reg + 4))
		return true; /* AH to BH */
	switch (n->desc->enc) {
	case EMU_ENC_REG_RM:
	case EMU_ENC_REG_RM_IMM:
	case EMU_ENC_REG_M:
		return !(n->desc->attr & EMU_A_RO) && (n->reg & 15) == reg;
	case EMU_ENC_RM_REG:
	case EMU_ENC_RM_IMM:
	case EMU_ENC_RM_REG_IMM:
	case EMU_ENC_RM_REG_CL:
	case EMU_ENC_RM:
	case EMU_ENC_RM_1:
	case EMU_ENC_RM_CL:
		if (n->op == EMU_MUL || n->op == EMU_IMUL1 || n->op == EMU_DIV || n->op == EMU_IDIV)
			return reg == VC_RAX || reg == VC_RDX;
		if ((n->op == EMU_XCHG || n->op == EMU_XADD) && n->reg == reg)
			return true;
		if (n->op == EMU_CMPXCHG || n->op == EMU_CMPXCHG8B || n->op == EMU_CMPXCHG16B)
			return true;
		return !(n->prefixes & EMU_P_MEM) && !(n->desc->attr & EMU_A_RO) && (n->rm & 15) == reg;
	case EMU_ENC_OREG:
	case EMU_ENC_OREG_IMM:
		return n->op != EMU_PUSH && n->reg == reg;
	case EMU_ENC_ACC_IMM:
	case EMU_ENC_ACC_MOFFS:
		return reg == VC_RAX;
	case EMU_ENC_VEC:
		return (n->desc->vec.reg_file == EMU_VR_GPR && n->reg == reg) ||
		       (n->desc->vec.rm_file == EMU_VR_GPR && n->rm == reg) || n->desc->vec.roles & EMU_V_SPECIAL;
	case EMU_ENC_MOFFS_ACC:
		return false;
	case EMU_ENC_NONE:
		return n->op != EMU_NOP && n->op != EMU_CLC && n->op != EMU_STC && n->op != EMU_CMC;
	default:
		return true;
	}
}

/* The stack pointer's way through instruction n, when it is a plain one. */
static bool moves_rsp(const struct emu_insn *n, int64_t *by)
{
	if (n->op == EMU_PUSH && n->stacksize == 8) {
		*by = -8;
		return !(n->prefixes & EMU_P_MEM);
	}
	if (n->op == EMU_POP && n->stacksize == 8 && n->desc->enc == EMU_ENC_OREG && n->reg != VC_RSP) {
		*by = 8;
		return true;
	}
	return false;
}

/*
 * What following accesses off the same base need. again: others come in between, so that R11 will not last. Looks until
 * the base changes, the block may be left, or an access is too far away.
 */
struct group_span {
	uint8_t base;
	int64_t lo, hi;
	bool write;
	bool again;  /* another access of the group comes behind one of another base */
	bool others; /* there was one of another base */
	int64_t rsp; /* how far RSP has moved since the first access */
};

static bool widen(struct group_span *g, int64_t at, unsigned size, bool write)
{
	if ((at < g->lo ? g->hi - at : at + (int64_t)size - g->lo) > GROUP_SPAN)
		return false;
	if (at < g->lo)
		g->lo = at;
	if (at + (int64_t)size > g->hi)
		g->hi = at + size;
	g->write = g->write || write;
	g->again = g->again || g->others;
	return true;
}

static bool writes_memory(const struct emu_insn *n)
{
	if (n->op == EMU_VEC)
		return n->desc->vec.roles & EMU_V_RM_W;
	return n->desc->enc != EMU_ENC_REG_RM && !(n->desc->attr & EMU_A_RO);
}

/* The instruction's access joins the group, or is none of its base's. False: the group ends before the instruction. */
static bool join_group(const struct jit_trans *t, const struct emu_insn *n, struct group_span *g)
{
	int64_t by;

	if (!jit_is_native(t, n) || (n->desc->attr & EMU_A_END))
		return false;
	if (n->prefixes & EMU_P_MEM && n->op != EMU_LEA) {
		struct jit_access x = jit_operand(t, n);

		if (n->op == EMU_PUSH || n->op == EMU_POP)
			return false;
		if (x.simple && x.base == g->base && !(n->op >= EMU_BT && n->op <= EMU_BTC))
			return widen(g, x.disp + (g->base == VC_RSP ? g->rsp : 0), jit_mem_size(n), writes_memory(n));
		g->others = true;
		return true;
	}
	if (moves_rsp(n, &by)) {
		if (g->base == VC_RSP)
			return widen(g, by < 0 ? g->rsp - 8 : g->rsp, 8, by < 0);
		g->others = true;
		return true;
	}
	return !(n->desc->attr & EMU_A_STACK);
}

/* Whether the group ends behind the instruction, because its base changes. */
static bool ends_group(const struct emu_insn *n, struct group_span *g)
{
	int64_t by = 0;
	bool is_rsp_move = moves_rsp(n, &by);

	if (is_rsp_move && g->base == VC_RSP)
		g->rsp += by;
	if (n->op == EMU_POP && n->desc->enc == EMU_ENC_OREG && n->reg == g->base)
		return true;
	return jit_writes_gpr(n, g->base) && !is_rsp_move;
}

static void extend_group(const struct jit_trans *t, struct group_span *g)
{
	for (unsigned k = t->i; k < t->s->count; k++) {
		const struct emu_insn *n = &t->s->insn[k];

		if ((k > t->i && !join_group(t, n, g)) || ends_group(n, g))
			return;
	}
}

/* ---- the check ---- */

static struct host_mem tlb(unsigned field_offset)
{
	return jit_field_indexed(FIELD(tlb) + field_offset, H_R11);
}

/*
 * R11 holds the linear address of the first byte, R10 that of the last one.
 * Alignment is looked at apart: the low bits of an address and those of a context together may be another context.
 */
static void compare(struct jit_trans *t, struct jit_cold *c)
{
	struct jit_asm *a = &t->a;
	struct host_mem ctx = jit_field(FIELD(ctx));
	struct host_mem tag =
	    tlb(c->write ? offsetof(struct emu_tlb_entry, write) : (unsigned)offsetof(struct emu_tlb_entry, read));

	if (c->access.aligned) {
		JIT_PUT(a, 0x41, 0xf6, 0xc3, (uint8_t)(c->access.size - 1)); /* TEST r11b, imm8 */
		c->from2 = jit_jcc(a, H_NE);
	}
	jit_shift_imm(a, 5, true, H_R11, TLB_SHIFT);
	jit_alu_imm(a, H_AND, false, H_R11, (int32_t)TLB_MASK);
	jit_alu_imm(a, H_AND, true, H_R10, -4096);
	jit_alu_mem(a, H_OR, true, H_R10, &ctx);
	jit_alu_mem(a, H_CMP, true, H_R10, &tag);
	c->from = jit_jcc(a, H_NE);
	jit_load(a, true, H_R11, tlb(offsetof(struct emu_tlb_entry, addend)));
}

static struct jit_cold *new_miss(struct jit_trans *t, const struct jit_access *x, int64_t lo, unsigned size, bool write)
{
	struct jit_cold *c = jit_cold(t, JIT_COLD_MISS);

	c->access = *x;
	c->lo = lo;
	c->size = size;
	c->write = write;
	c->delta = t->delta;
	c->page_offset = (uint16_t)(t->s->page_offset + t->offset);
	c->back = jit_here(&t->a);
	return c;
}

/* A page that is known to hold [at, end) off the base; -1: none. */
static int known_group(const struct jit_trans *t, const struct jit_access *x, int64_t at, int64_t end)
{
	if (x->aligned)
		return -1;
	for (int k = 0; k < (int)EMU_JIT_ADDENDS; k++) {
		const struct jit_group *g = &t->group[k];

		if (g->valid && g->base == x->base && at >= g->lo && end <= g->hi && (g->write || !x->write))
			return k;
	}
	return -1;
}

/* Note what was just checked; its addend is in R11. */
static void note_group(struct jit_trans *t, const struct jit_group *checked)
{
	unsigned k = t->next_group++ % EMU_JIT_ADDENDS;

	for (unsigned other = 0; other < EMU_JIT_ADDENDS; other++)
		if (t->group[other].valid && t->group[other].base == checked->base)
			k = other;
	t->group[k] = *checked;
	t->in_r11 = (int)k;
	if (checked->stored)
		jit_store(&t->a, true, jit_field(FIELD(jit_addend) + k * 8), H_R11);
}

static void check_simple(struct jit_trans *t, const struct jit_access *x, int64_t at)
{
	struct jit_group g = {.valid = true, .base = x->base, .write = x->write, .lo = at, .hi = at + x->size};
	struct jit_asm *a = &t->a;
	struct jit_cold *c;
	unsigned base;

	jit_lose_addend(t);
	if (!x->aligned && !t->no_groups && x->base < 16) {
		/* in coordinates of RSP as it is now; see moves_rsp() */
		int64_t first = at - (x->base == VC_RSP ? t->delta : 0);
		struct group_span span = {.base = x->base, .lo = first, .hi = first + x->size, .write = g.write};

		extend_group(t, &span);
		g.write = span.write;
		g.stored = span.again;
		g.lo = at + (span.lo - first);
		g.hi = at + (span.hi - first);
		if (g.lo < INT32_MIN || g.hi > INT32_MAX) {
			g.lo = at;
			g.hi = at + x->size;
		}
	}
	jit_spoil_for_check(t);
	c = new_miss(t, x, g.lo, (unsigned)(g.hi - g.lo), g.write);
	if (x->base == EMU_REG_RIP) {
		jit_load(a, true, H_R10, jit_field(FIELD(jit_page)));
		base = H_R10;
	} else {
		base = x->base == EMU_REG_NONE ? H_NONE : jit_get(t, x->base, H_R10);
	}
	jit_lea(a, true, H_R11, (struct host_mem){.base = (uint8_t)base, .index = H_NONE, .disp = (int32_t)g.lo});
	jit_lea(a, true, H_R10, (struct host_mem){.base = (uint8_t)base, .index = H_NONE, .disp = (int32_t)g.hi - 1});
	compare(t, c);
	if (x->base != EMU_REG_NONE && x->base != EMU_REG_RIP && !t->no_groups)
		note_group(t, &g);
}

static struct host_mem access_simple(struct jit_trans *t, const struct jit_access *x, bool spare)
{
	int64_t at = settled_disp(t, x);
	int known = known_group(t, x, at, at + x->size);
	struct jit_asm *a = &t->a;
	unsigned base;

	if (known < 0) {
		check_simple(t, x, at);
	} else if (known != t->in_r11) {
		jit_lose_addend(t);
		jit_load(a, true, H_R11, jit_field(FIELD(jit_addend) + (unsigned)known * 8));
		t->in_r11 = known;
	}
	if (x->base == EMU_REG_NONE)
		return (struct host_mem){.base = H_R11, .index = H_NONE, .disp = (int32_t)at};
	if (x->base == EMU_REG_RIP) {
		jit_load(a, true, H_R10, jit_field(FIELD(jit_page)));
		base = H_R10;
	} else {
		base = jit_get(t, x->base, H_R10);
	}
	if (base == H_R10 && spare) {
		jit_lose_addend(t);
		jit_lea(a, true, H_R11, (struct host_mem){.base = H_R10, .index = H_R11});
		return (struct host_mem){.base = H_R11, .index = H_NONE, .disp = (int32_t)at};
	}
	return (struct host_mem){.base = (uint8_t)base, .index = H_R11, .disp = (int32_t)at};
}

static struct host_mem access_any(struct jit_trans *t, const struct jit_access *x, bool spare)
{
	struct jit_asm *a = &t->a;
	struct jit_cold *c;

	jit_lose_addend(t);
	jit_spoil_for_check(t);
	c = new_miss(t, x, 0, x->size, x->write);
	c->access.simple = false; /* the whole address is filled for, a far displacement included */
	jit_effective(t, x, H_R10);
	jit_mov_rr(a, true, H_R11, H_R10);
	if (!x->aligned && x->size > 1)
		jit_lea(a, true, H_R10, (struct host_mem){.base = H_R10, .index = H_NONE, .disp = (int32_t)x->size - 1});
	compare(t, c);
	/* R10 and R11 may both be used by the address: the addend waits */
	if ((x->base < 16 && jit_home(x->base) == H_NONE && x->index < 16 && jit_home(x->index) == H_NONE) ||
	    x->bit_base >= 0) {
		jit_store(a, true, jit_field(FIELD(jit_spill)), H_R11);
		jit_effective(t, x, H_R10);
		jit_load(a, true, H_R11, jit_field(FIELD(jit_spill)));
	} else {
		jit_effective(t, x, H_R10);
	}
	if (!spare)
		return (struct host_mem){.base = H_R10, .index = H_R11};
	jit_lea(a, true, H_R11, (struct host_mem){.base = H_R10, .index = H_R11});
	return (struct host_mem){.base = H_R11, .index = H_NONE};
}

struct host_mem jit_access(struct jit_trans *t, const struct jit_access *x, bool spare)
{
	int64_t disp = settled_disp(t, x);

	if (x->simple && disp > INT32_MIN / 2 && disp < INT32_MAX / 2)
		return access_simple(t, x, spare);
	return access_any(t, x, spare);
}

/* Try to fill the TLB; then once more, or the interpreter. */
void jit_emit_cold_miss(struct jit_trans *t, struct jit_cold *c)
{
	struct jit_asm *a = &t->a;
	int32_t delta = t->delta;

	jit_land(a, c->from);
	if (c->access.aligned)
		jit_land(a, c->from2);
	t->delta = c->delta;
	if (c->access.simple && c->access.base < 16) {
		unsigned base = jit_get(t, c->access.base, H_R10);

		jit_lea(a, true, H_R10, (struct host_mem){.base = (uint8_t)base, .index = H_NONE, .disp = (int32_t)c->lo});
	} else {
		jit_effective(t, &c->access, H_R10);
	}
	jit_mov_imm64(a, H_R11, c->size | (uint32_t)c->write << 16 | (uint32_t)c->access.aligned << 17);
	jit_call_to(a, t->j->thunks.fill);
	jit_op_rr(a, 0x85, false, H_R11, H_R11); /* TEST */
	jit_jcc_to(a, H_NE, c->back);
	if (c->delta)
		jit_lea(a, true, H_R15, (struct host_mem){.base = H_R15, .index = H_NONE, .disp = c->delta});
	jit_mov_imm64(a, H_R10, (uintptr_t)t->b);
	jit_mov_imm64(a, H_R11,
	              c->page_offset | (c->size > c->access.size ? JIT_BAIL_GROUP : 0) | (uint32_t)c->recover << 17 |
	                  JIT_BAIL_ACCESS);
	jit_jmp_to(a, t->j->thunks.leave_bail);
	t->delta = delta;
}
