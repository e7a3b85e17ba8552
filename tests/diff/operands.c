/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Operands for a decoded instruction: registers such that its memory operands lie in the window (or, sometimes, where
 * they fault), and contents that let it do what it is for: branch targets, selectors, images, counts.
 */
#include <string.h>

#include "core/util.h"
#include "diff.h"

struct placing {
	struct diff_rng *rng;
	struct diff_case *c;
	struct diff_encoding *e;
	const struct emu_insn *insn;
	uint64_t address;
};

#define WINDOW_END (DIFF_WINDOW + DIFF_WINDOW_SIZE)

static bool pin(struct diff_case *c, unsigned reg, uint64_t value)
{
	if (c->mode32)
		value = (uint32_t)value;
	if (c->pinned >> reg & 1)
		return c->in.gpr[reg] == value;
	c->pinned |= 1ull << reg;
	c->in.gpr[reg] = value;
	return true;
}

/* Into the window; what lies elsewhere stays as it is. */
static void poke(struct diff_case *c, uint64_t address, const void *data, size_t length)
{
	if (address >= DIFF_WINDOW && address + length <= WINDOW_END)
		memcpy(c->in.window + (address - DIFF_WINDOW), data, length);
}

static uint64_t peek(const struct diff_case *c, uint64_t address)
{
	uint64_t value = 0;

	if (address >= DIFF_WINDOW && address + 8 <= WINDOW_END)
		memcpy(&value, c->in.window + (address - DIFF_WINDOW), 8);
	return value;
}

static void patch(struct placing *p, unsigned at, unsigned size, uint64_t value)
{
	memcpy(p->e->bytes + at, &value, size);
}

/* ---- where memory operands lie ---- */

static uint64_t choose_target(struct placing *p, unsigned align, unsigned room)
{
	unsigned offset = 64 + diff_below(p->rng, room);
	bool far_away = p->insn->base < 16 && p->insn->addrsize == 8;

	switch (diff_below(p->rng, 25)) {
	case 0:
	case 1:
	case 2:
		return DIFF_WINDOW + offset;
	case 3:
		return WINDOW_END - diff_below(p->rng, 40); /* across the end */
	case 4:
		return DIFF_GUARD + diff_below(p->rng, 4096);
	case 5:
		return DIFF_READONLY + diff_below(p->rng, 4096);
	case 6:
		if (far_away && diff_chance(p->rng, 30))
			/* aligned, as #GP for alignment or #SS may come first */
			return 0x0000800000000000 + VC_ALIGN_DOWN(diff_below(p->rng, 4096), align) +
			       ((uint64_t)diff_below(p->rng, 2) << 62);
		return WINDOW_END - align;
	default:
		return DIFF_WINDOW + VC_ALIGN_DOWN(offset, align);
	}
}

static uint64_t segment_base(const struct emu_insn *insn)
{
	return insn->seg == VC_FS ? CASE_FS_BASE : insn->seg == VC_GS ? CASE_GS_BASE : 0;
}

static bool is_gather(const struct emu_insn *insn)
{
	return insn->prefixes & EMU_P_VEX && insn->map == 2 && (insn->opcode & 0xfc) == 0x90;
}

/* Make the memory operand's address `target`. */
static bool aim(struct placing *p, uint64_t target)
{
	const struct emu_insn *insn = p->insn;
	uint64_t rest = target - segment_base(insn);
	bool wide = insn->addrsize == 8;
	uint64_t fixed;

	if (insn->addrsize == 2)
		return true; /* below 64 KiB, where nothing is: it faults */
	if (insn->index != EMU_REG_NONE && !is_gather(insn)) {
		if (!(p->c->pinned >> insn->index & 1))
			pin(p->c, insn->index, (uint64_t)((int64_t)diff_below(p->rng, 17) - 8));
		rest -= p->c->in.gpr[insn->index] << insn->scale;
	}
	if (insn->base < 16 && !(p->c->pinned >> insn->base & 1)) {
		rest -= (uint64_t)(int64_t)insn->disp;
		if (!wide)
			rest = (uint32_t)rest | (diff_chance(p->rng, 30) ? diff_random(p->rng) << 32 : 0);
		return pin(p->c, insn->base, rest);
	}

	/* no register is free: the displacement has to do it */
	if (insn->base == EMU_REG_RIP)
		rest -= p->address + insn->len;
	else if (insn->base < 16)
		rest -= p->c->in.gpr[insn->base];
	fixed = wide ? (uint64_t)(int32_t)rest : (uint32_t)rest;
	if (p->e->disp_size != 4 || fixed != (wide ? rest : (uint32_t)rest))
		return false;
	patch(p, p->e->disp_at, 4, rest);
	return true;
}

static uint64_t choose_stack(struct placing *p)
{
	switch (diff_below(p->rng, 20)) {
	case 0:
		return DIFF_GUARD + diff_below(p->rng, 24);
	case 1:
		return DIFF_READONLY + 1024;
	case 2:
	case 3:
		return DIFF_WINDOW + 384 + diff_below(p->rng, 64);
	default:
		return DIFF_WINDOW + 256 + 8 * diff_below(p->rng, 32);
	}
}

/* ---- contents ---- */

/* Selectors for segment loads; all name the same descriptors natively and in the guest. */
static uint16_t choose_selector(struct placing *p, uint16_t usual)
{
	static const uint16_t others[] = {0,    1,          3,        4,    7,    0x10,       0x13,   0x18,
	                                  0x20, SEL_USER32, SEL_DATA, 0x28, 0x30, SEL_USER64, 0xfff8, 0xffff};

	uint16_t selector = diff_chance(p->rng, 60) ? usual : others[diff_below(p->rng, VC_ARRAY_SIZE(others))];

	return p->c->no32 && (selector & ~3) == (SEL_USER32 & ~3) ? SEL_DATA : selector;
}

static uint64_t slot_place(const struct placing *p, unsigned place)
{
	return p->c->address - SLOT_CODE + place;
}

/* Where a branch may go. */
static uint64_t choose_place(struct placing *p)
{
	return slot_place(p, diff_chance(p->rng, 50) ? SLOT_BACK : SLOT_FORWARD);
}

struct far_target {
	uint16_t selector;
	uint64_t offset;
};

/* A code segment, and a place where code of its kind lies. */
static struct far_target choose_far(struct placing *p)
{
	bool other = !p->c->no32 && diff_chance(p->rng, 30);
	uint16_t usual = p->c->mode32 != other ? SEL_USER32 : SEL_USER64;
	struct far_target t = {choose_selector(p, usual), 0};

	other = t.selector == (p->c->mode32 ? 0x33 : 0x23) || t.selector == (p->c->mode32 ? 0x30 : 0x20);
	t.offset = other ? slot_place(p, SLOT_OTHER) : choose_place(p);
	return t;
}

static uint64_t choose_flags(struct placing *p)
{
	uint64_t flags = 2 | (diff_random(p->rng) & (VC_FLAGS_ARITH | VC_FLAG_DF | VC_FLAG_IF));

	if (diff_chance(p->rng, 10))
		flags |= diff_random(p->rng) &
		         (VC_FLAG_NT | VC_FLAG_IOPL | VC_FLAG_ID | VC_FLAG_AC | VC_FLAG_RF | VC_FLAG_VIF | VC_FLAG_VIP);
	if (p->c->no32) /* the KVMs without 32-bit code take these two from IRET's image, and keep them */
		flags &= ~(uint64_t)(VC_FLAG_VIF | VC_FLAG_VIP);
	if (diff_chance(p->rng, 3))
		flags |= VC_FLAG_TF;
	return flags;
}

static void poke_far(struct placing *p, uint64_t address, unsigned size, struct far_target t)
{
	poke(p->c, address, &t.offset, size);
	poke(p->c, address + size, &t.selector, 2);
}

static void poke_xsave(struct placing *p, uint64_t target)
{
	uint8_t image[832];

	memcpy(image, p->c->in.xsave, sizeof image);
	for (unsigned n = 0; n < 512; n++)
		image[n + (n >= 256 ? 320 : XS_ST)] ^= (uint8_t)(diff_random(p->rng) & (n & 1 ? 1 : 0));
	image[XS_BV] = (uint8_t)diff_below(p->rng, 8);
	if (p->insn->op == EMU_FXRSTOR)
		poke(p->c, target, image, 512);
	else
		poke(p->c, target, image, sizeof image);
}

/* The instruction's memory operand holds what makes it work. */
static void fill_target(struct placing *p, uint64_t target)
{
	struct diff_case *c = p->c;
	uint64_t value;
	uint32_t mxcsr;

	switch (p->insn->op) {
	case EMU_JMP_IND:
	case EMU_CALL_IND:
		value = choose_place(p);
		poke(c, target, &value, p->insn->opsize);
		break;
	case EMU_JMP_FAR_IND:
	case EMU_CALL_FAR_IND:
		poke_far(p, target, p->insn->opsize, choose_far(p));
		break;
	case EMU_LDS:
		poke_far(p, target, p->insn->opsize, (struct far_target){choose_selector(p, SEL_DATA), diff_random(p->rng)});
		break;
	case EMU_MOV_TO_SREG:
	case EMU_LAR:
	case EMU_LSL:
	case EMU_VERR:
	case EMU_VERW:
		value = choose_selector(p, SEL_DATA);
		poke(c, target, &value, 2);
		break;
	case EMU_LDMXCSR:
		mxcsr = (uint32_t)diff_random(p->rng) & (diff_chance(p->rng, 90) ? 0xffff : 0xfffdffff);
		poke(c, target, &mxcsr, 4);
		break;
	case EMU_FXRSTOR:
	case EMU_XRSTOR:
		poke_xsave(p, target);
		break;
	case EMU_CMPXCHG:
		if (diff_chance(p->rng, 50))
			pin(c, VC_RAX, peek(c, target));
		break;
	case EMU_CMPXCHG8B:
		if (diff_chance(p->rng, 50) && pin(c, VC_RAX, (uint32_t)peek(c, target)))
			pin(c, VC_RDX, peek(c, target) >> 32);
		break;
	case EMU_CMPXCHG16B:
		if (diff_chance(p->rng, 50) && pin(c, VC_RAX, peek(c, target)))
			pin(c, VC_RDX, peek(c, target + 8));
		break;
	default:
		break;
	}
}

/* ---- fixed operands ---- */

static bool place_string(struct placing *p)
{
	const struct emu_insn *insn = p->insn;
	bool edge = diff_chance(p->rng, 15);
	uint64_t high = insn->addrsize == 4 && !p->c->mode32 && diff_chance(p->rng, 30) ? diff_random(p->rng) << 32 : 0;
	uint64_t source = DIFF_WINDOW + 256 + diff_below(p->rng, 256),
	         destination = DIFF_WINDOW + 256 + diff_below(p->rng, 256);
	uint64_t count = diff_below(p->rng, 9);

	if (diff_chance(p->rng, 60)) { /* aligned, and equal memory for CMPS and SCAS */
		source &= ~7ull;
		destination &= ~7ull;
		if (insn->op == EMU_CMPS)
			memcpy(p->c->in.window + (destination - DIFF_WINDOW), p->c->in.window + (source - DIFF_WINDOW), 16);
	}
	if (edge && diff_chance(p->rng, 50))
		source = DIFF_GUARD - diff_below(p->rng, 40);
	else if (edge)
		destination = diff_chance(p->rng, 30) ? DIFF_READONLY : DIFF_GUARD - diff_below(p->rng, 40);
	if (insn->addrsize == 4 && !p->c->mode32)
		count |= high;
	return pin(p->c, VC_RSI, (source - segment_base(insn)) | high) && pin(p->c, VC_RDI, destination | high) &&
	       pin(p->c, VC_RCX, count);
}

static bool place_stack(struct placing *p)
{
	const struct emu_insn *insn = p->insn;
	uint64_t stack = choose_stack(p), value;
	unsigned size = insn->opsize;
	struct far_target t;

	if (insn->op == EMU_PUSH_SREG) /* AMD writes the whole slot, Intel a word: let both fault or neither */
		stack &= ~7ull;
	if (!pin(p->c, VC_RSP, stack))
		return false;
	switch (insn->op) {
	case EMU_RET:
		value = choose_place(p);
		poke(p->c, stack, &value, size);
		if (insn->desc->imm == EMU_IMM_16 && diff_chance(p->rng, 80))
			patch(p, p->e->imm_at, 2, diff_below(p->rng, 64));
		break;
	case EMU_RETF:
	case EMU_IRET:
		t = choose_far(p);
		poke_far(p, stack, size, t);
		if (insn->op == EMU_RETF) {
			/* AMD reads the outer stack before it looks at the selector: let that not fault */
			if (insn->desc->imm == EMU_IMM_16)
				patch(p, p->e->imm_at, 2, diff_below(p->rng, 8) * 8);
			break;
		}
		value = choose_flags(p);
		poke(p->c, stack + 2 * size, &value, size);
		value = DIFF_WINDOW + 512;
		poke(p->c, stack + 3 * size, &value, size);
		value = choose_selector(p, SEL_DATA);
		poke(p->c, stack + 4 * size, &value, 2);
		break;
	case EMU_POPF:
		value = choose_flags(p);
		poke(p->c, stack, &value, size);
		break;
	case EMU_POP_SREG:
		value = choose_selector(p, SEL_DATA);
		poke(p->c, stack, &value, 2);
		break;
	case EMU_ENTER:
		patch(p, p->e->imm_at, 2, diff_chance(p->rng, 80) ? diff_below(p->rng, 128) : diff_random(p->rng));
		return pin(p->c, VC_RBP, DIFF_WINDOW + 512 + diff_below(p->rng, 32));
	case EMU_LEAVE:
		return pin(p->c, VC_RBP, choose_stack(p));
	default:
		break;
	}
	return true;
}

/* Dividends for which the quotient often fits. */
static bool place_division(struct placing *p)
{
	if (p->insn->opsize == 1) {
		if (diff_chance(p->rng, 60))
			return pin(p->c, VC_RAX, p->c->in.gpr[VC_RAX] & 0xff);
		return true;
	}
	if (diff_chance(p->rng, 60))
		return pin(p->c, VC_RDX,
		           p->insn->op == EMU_IDIV && p->c->in.gpr[VC_RAX] >> (p->insn->opsize * 8 - 1) & 1 ? ~0ull : 0);
	return true;
}

/* Indices that keep all elements in the window. */
static void place_gather(struct placing *p)
{
	unsigned size = p->insn->opcode & 1 ? 8 : 4;

	for (unsigned n = 0; n < 32; n += size) {
		int64_t index = ((int64_t)diff_below(p->rng, 32) - 16) >> p->insn->scale;
		memcpy(p->c->in.xsave + (n < 16 ? XS_XMM : XS_YMMH - 16) + p->insn->index * 16 + n, &index, size);
	}
}

/* Register operands with a meaning. */
static bool place_register(struct placing *p)
{
	const struct emu_insn *insn = p->insn;
	bool reg_form = insn->prefixes & EMU_P_MODRM && !(insn->prefixes & EMU_P_MEM);

	switch (insn->op) {
	case EMU_JMP_IND:
	case EMU_CALL_IND:
		return !reg_form || pin(p->c, insn->rm, choose_place(p));
	case EMU_MOV_TO_SREG:
	case EMU_LAR:
	case EMU_LSL:
	case EMU_VERR:
	case EMU_VERW:
		return !reg_form || pin(p->c, insn->rm, choose_selector(p, SEL_DATA) | (diff_random(p->rng) & 0xffff0000));
	case EMU_BT:
	case EMU_BTS:
	case EMU_BTR:
	case EMU_BTC:
		/* a bit string: the bit's number moves the operand */
		return insn->desc->enc != EMU_ENC_RM_REG || reg_form ||
		       pin(p->c, insn->reg, (uint64_t)((int64_t)diff_below(p->rng, 1024) - 512));
	case EMU_DIV:
	case EMU_IDIV:
		return place_division(p);
	case EMU_XLAT:
		return pin(p->c, VC_RBX, choose_target(p, 1, 512) - segment_base(insn));
	case EMU_FXSAVE:
	case EMU_FXRSTOR: /* misaligned, #AC may come instead of #GP (SDM vol. 2, FXSAVE) */
		p->c->in.rflags &= ~(uint64_t)VC_FLAG_AC;
		return true;
	case EMU_XSAVE:
	case EMU_XSAVEOPT:
	case EMU_XSAVEC:
	case EMU_XRSTOR:
		p->c->in.rflags &= ~(uint64_t)VC_FLAG_AC;
		return pin(p->c, VC_RAX, diff_below(p->rng, 8) | (diff_chance(p->rng, 20) ? diff_random(p->rng) << 32 : 0)) &&
		       pin(p->c, VC_RDX, 0);
	case EMU_CMPXCHG:
		return !reg_form || !diff_chance(p->rng, 50) || pin(p->c, VC_RAX, p->c->in.gpr[insn->rm]);
	case EMU_LOOP:
	case EMU_LOOPE:
	case EMU_LOOPNE:
	case EMU_JCXZ:
		return pin(p->c, VC_RCX, diff_chance(p->rng, 60) ? diff_below(p->rng, 3) : diff_edge(p->rng));
	case EMU_VEC:
		if (insn->map == 1 && insn->opcode == 0xf7 &&
		    insn->desc->vec.roles & EMU_V_SPECIAL) { /* MASKMOVQ, MASKMOVDQU */
			/* bytes have no alignment; AMD has #AC for the whole operand */
			p->c->in.rflags &= ~(uint64_t)VC_FLAG_AC;
			/* and it enters MMX state even when it faults */
			return insn->addrsize > 2 && insn->seg != VC_CS &&
			       pin(p->c, VC_RDI, DIFF_WINDOW + 128 + diff_below(p->rng, 512) - segment_base(insn));
		}
		return true;
	default:
		return true;
	}
}

static void place_immediate(struct placing *p)
{
	const struct emu_insn *insn = p->insn;
	unsigned size = insn->len - p->e->imm_at;
	struct far_target t;
	unsigned vector;

	switch (insn->desc->enc) {
	case EMU_ENC_REL:
		patch(p, p->e->imm_at, size, choose_place(p) - (p->address + insn->len));
		break;
	case EMU_ENC_FAR:
		t = choose_far(p);
		patch(p, p->e->imm_at, size - 2, t.offset);
		patch(p, p->e->imm_at + size - 2, 2, t.selector);
		break;
	case EMU_ENC_ACC_MOFFS:
	case EMU_ENC_MOFFS_ACC:
		patch(p, p->e->imm_at, size, choose_target(p, insn->opsize, 512) - segment_base(insn));
		break;
	default:
		if (insn->op != EMU_INT)
			break;
		/* not the one that means something to the host's kernel */
		do
			vector = diff_chance(p->rng, 30) ? 3 + diff_below(p->rng, 2) : diff_below(p->rng, 256);
		while (vector == 0x80);
		patch(p, p->e->imm_at, 1, vector);
		break;
	}
}

static unsigned alignment_of(const struct emu_insn *insn, unsigned *room)
{
	*room = 512;
	switch (insn->op) {
	case EMU_FXSAVE:
	case EMU_FXRSTOR:
	case EMU_XSAVE:
	case EMU_XSAVEOPT:
	case EMU_XSAVEC:
	case EMU_XRSTOR:
		*room = 128;
		return 64;
	case EMU_VEC:
		return insn->desc->vec.mem && insn->desc->vec.mem < 0xff ? insn->desc->vec.mem : 32;
	case EMU_X87:
		return 8;
	case EMU_CMPXCHG16B:
		return 16;
	default:
		return insn->opsize;
	}
}

bool diff_place(struct diff_rng *rng, struct diff_case *c, struct diff_encoding *e, const struct emu_insn *insn,
                uint64_t address)
{
	struct placing p = {rng, c, e, insn, address};
	unsigned room, align;
	uint64_t target;

	place_immediate(&p);
	if ((insn->desc->enc == EMU_ENC_STR && !place_string(&p)) || (insn->desc->attr & EMU_A_STACK && !place_stack(&p)) ||
	    !place_register(&p))
		return false;
	if (!(insn->prefixes & EMU_P_MEM))
		return true;
	align = alignment_of(insn, &room);
	target = choose_target(&p, align, room);
	if (insn->desc->feature == VC_F_SHA) { /* SDM: #GP unless aligned; Zen 5 does not mind */
		if (insn->addrsize == 2)
			return false;
		target &= ~15ull;
	}
	if (is_gather(insn)) {
		place_gather(&p);
		target = DIFF_WINDOW + 256 + diff_below(rng, 256);
	}
	if (!aim(&p, target))
		return false;
	fill_target(&p, target);
	c->target = target;
	return true;
}
