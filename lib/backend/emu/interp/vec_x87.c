/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * x87 numeric instructions and moves.
 *
 * Two ways. With every exception masked and no empty register among the operands (nor a full one where a push goes), an
 * instruction runs on just the registers that it names, and the stack is kept here. Otherwise it runs on the whole
 * state with the guest's own control word, which gives stack faults and unmasked responses as the processor has them.
 * Either way the host never waits on an exception.
 *
 * FIP, FDP and FOP are written by every numeric instruction and move; FCS and FDS do not exist (as on processors with
 * CPUID.7.EBX[13]). A pending exception raises #MF whatever CR0.NE says: FERR# and IRQ 13 are not modelled.
 */
#include "backend/emu/decode/x87_rows.h"
#include "backend/emu/interp/vec.h"

/* ---- the stack ---- */

struct st {
	uint64_t low, high;
} __attribute__((may_alias));

static inline struct st *st_at(struct vc_xsave *x, unsigned i)
{
	return (struct st *)x->st[i];
}

static inline unsigned st_bit(const struct vc_xsave *x, unsigned i)
{
	return 1u << ((emu_x87_top(x) + i) & 7);
}

static inline bool st_valid(const struct vc_xsave *x, unsigned i)
{
	return x->ftw & st_bit(x, i);
}

static inline void move_top(struct vc_xsave *x, int by)
{
	x->fsw = (uint16_t)((x->fsw & ~FSW_TOP) | (((emu_x87_top(x) + (unsigned)by) & 7) << 11));
}

static void turn_up(struct vc_xsave *x)
{
	struct st last = *st_at(x, 7);

	for (unsigned n = 7; n > 0; n--)
		*st_at(x, n) = *st_at(x, n - 1);
	*st_at(x, 0) = last;
	move_top(x, -1);
}

static void turn_down(struct vc_xsave *x)
{
	struct st first = *st_at(x, 0);

	for (unsigned n = 0; n < 7; n++)
		*st_at(x, n) = *st_at(x, n + 1);
	*st_at(x, 7) = first;
	move_top(x, 1);
}

static void push(struct vc_xsave *x, const struct st *value)
{
	turn_up(x);
	*st_at(x, 0) = *value;
	x->ftw |= st_bit(x, 0);
}

static void pop(struct vc_xsave *x)
{
	x->ftw &= (uint8_t)~st_bit(x, 0);
	turn_down(x);
}

void emu_x87_set_top(struct vc_xsave *x, unsigned top)
{
	while (emu_x87_top(x) != (top & 7))
		turn_down(x);
}

/* ---- what instructions have in common ---- */

static inline bool has_memory(const struct emu_insn *i)
{
	return i->prefixes & EMU_P_MEM;
}

/* The i of ST(i); instructions of D9 that take a second operand take ST(1), but for FLD and FXCH. */
static inline unsigned st_i(const struct emu_insn *i)
{
	return i->opcode == 0xd9 && i->modrm >= 0xe0 ? 1 : i->modrm & 7;
}

static inline enum emu_next done(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct vc_xsave *x = &c->s.xsave;

	x->fop = (uint16_t)((i->opcode & 7) << 8 | i->modrm);
	x->fip = c->s.rip;
	if (has_memory(i))
		x->fdp = emu_effective_address(c, i);
	return EMU_NEXT;
}

static inline void clear_c1(struct vc_xsave *x)
{
	x->fsw &= (uint16_t)~FSW_C1;
}

/* Are the registers that the row reads in use, and is there room to push? */
static bool operands_valid(const struct vc_xsave *x, const struct emu_insn *i)
{
	const struct emu_vec *vec = &i->desc->vec;

	if ((vec->roles & EMU_V_REG_R) && !st_valid(x, 0))
		return false;
	if ((vec->roles & EMU_V_RM_R) && !has_memory(i) && !st_valid(x, st_i(i)))
		return false;
	return vec->reg_file != EMU_X87_PUSH || !st_valid(x, 7);
}

/* ---- on the whole state ---- */

/* The image of FRSTOR and FNSAVE in 32-bit protected-mode format. */
struct image {
	uint32_t cw, sw, tw, ip, cs_op, dp, ds;
	uint8_t st[8][10];
} __attribute__((packed));

static void image_from_state(struct image *image, const struct vc_xsave *x)
{
	*image = (struct image){.cw = x->fcw, .sw = x->fsw, .tw = emu_x87_tags(x)};
	for (unsigned n = 0; n < 8; n++)
		memcpy(image->st[n], x->st[n], 10);
}

static void state_from_image(struct vc_xsave *x, const struct image *image)
{
	x->fsw = (uint16_t)image->sw;
	emu_x87_set_tags(x, (uint16_t)image->tw);
	for (unsigned n = 0; n < 8; n++)
		memcpy(x->st[n], image->st[n], 10);
}

/* A store is not made when an unmasked exception other than inexact result came up. */
static bool stored(const struct vc_xsave *x, const struct image *after)
{
	return !(after->sw & ~x->fcw & FSW_FLAGS & ~0x20u);
}

/* source: memory operand that is read; linear: of one that is written. */
static enum emu_next run_whole(struct emu_vcpu *c, const struct emu_insn *i, void *source, uint64_t linear)
{
	struct vc_xsave *x = &c->s.xsave;
	const struct emu_vec *vec = &i->desc->vec;
	bool writes = has_memory(i) && (vec->roles & EMU_V_RM_W);
	struct image before, after;

	image_from_state(&before, x);
	emu_vec_stub stub = emu_stub_at(c->vec, emu_stub_handle(c, i, EMU_STUB_X87_WHOLE));
	stub(&before, &after, writes ? c->vec->scratch : source, c, NULL, c->vec);
	if (writes && stored(x, &after))
		emu_st_bytes(c, linear, c->vec->scratch, vec->mem);
	state_from_image(x, &after);
	return done(c, i);
}

static enum emu_next whole(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_x87_check(c);
	return run_whole(c, i, NULL, 0);
}

/* ---- numeric instructions ---- */

/* The operand is checked before the instruction runs, and whether or not an exception then keeps it from being stored.
 */
static inline void probe_store(struct emu_vcpu *c, uint64_t linear, unsigned size)
{
	emu_vec_check_alignment(c, linear, size);
	emu_probe(c, linear, size, true);
}

static inline enum emu_next numeric(struct emu_vcpu *c, const struct emu_insn *i, const unsigned class)
{
	struct vc_xsave *x = &c->s.xsave;
	struct emu_vec_state *v = c->vec;
	const struct emu_vec *vec = &i->desc->vec;
	const bool stores = class == EMU_X87_STORE;
	/* condition codes that come from the host: the others keep their values, whether the manual calls them undefined or
	 * not */
	const unsigned codes = class == EMU_X87_COMPARE ? FSW_CC : class == EMU_X87_COMPARE_FLAGS ? 0 : FSW_C1;
	struct st pushed = {0, 0};
	void *memory = v->scratch;
	uint64_t linear = 0;

	emu_x87_check(c);
	if (has_memory(i)) {
		linear = emu_vec_linear(c, i, vec->mem, stores ? VCORE_ACCESS_WRITE : VCORE_ACCESS_READ);
		if (stores)
			probe_store(c, linear, vec->mem);
		else
			memory = emu_vec_load(c, linear, vec->mem);
	}
	if (vc_unlikely((~x->fcw & FSW_FLAGS) || !operands_valid(x, i)))
		return run_whole(c, i, memory, linear);
	emu_stub_of(c, i, EMU_STUB_X87)(class == EMU_X87_PUSH ? (void *)&pushed : x->st[0], x->st[st_i(i)], memory, c, NULL,
	                                v);
	if (stores)
		emu_st_bytes(c, linear, v->scratch, vec->mem);
	x->fsw = (uint16_t)((x->fsw & ~codes) | (v->fsw & (codes | FSW_FLAGS)));
	if (class == EMU_X87_PUSH)
		push(x, &pushed);
	for (unsigned n = vec->rm_file; n > 0; n--)
		pop(x);
	return done(c, i);
}

static enum emu_next arith(struct emu_vcpu *c, const struct emu_insn *i)
{
	return numeric(c, i, EMU_X87_ARITH);
}

static enum emu_next compare(struct emu_vcpu *c, const struct emu_insn *i)
{
	return numeric(c, i, EMU_X87_COMPARE);
}

static enum emu_next compare_flags(struct emu_vcpu *c, const struct emu_insn *i)
{
	return numeric(c, i, EMU_X87_COMPARE_FLAGS);
}

static enum emu_next load(struct emu_vcpu *c, const struct emu_insn *i)
{
	return numeric(c, i, EMU_X87_PUSH);
}

static enum emu_next store(struct emu_vcpu *c, const struct emu_insn *i)
{
	return numeric(c, i, EMU_X87_STORE);
}

/* ---- moves: no exception but a stack fault ---- */

static enum emu_next load80(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct vc_xsave *x = &c->s.xsave;
	struct st value = {0, 0};
	uint64_t linear;

	emu_x87_check(c);
	linear = emu_vec_linear(c, i, 10, VCORE_ACCESS_READ);
	emu_vec_check_alignment(c, linear, 10);
	emu_ld_bytes(c, linear, &value, 10);
	if (vc_unlikely(st_valid(x, 7)))
		return run_whole(c, i, &value, 0);
	push(x, &value);
	clear_c1(x);
	return done(c, i);
}

static enum emu_next store80(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct vc_xsave *x = &c->s.xsave;
	uint64_t linear;

	emu_x87_check(c);
	linear = emu_vec_linear(c, i, 10, VCORE_ACCESS_WRITE);
	probe_store(c, linear, 10);
	if (vc_unlikely(!st_valid(x, 0)))
		return run_whole(c, i, NULL, linear);
	emu_st_bytes(c, linear, x->st[0], 10);
	clear_c1(x);
	pop(x);
	return done(c, i);
}

static enum emu_next load_register(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct vc_xsave *x = &c->s.xsave;
	struct st value = *st_at(x, st_i(i));

	emu_x87_check(c);
	if (vc_unlikely(!st_valid(x, st_i(i)) || st_valid(x, 7)))
		return run_whole(c, i, NULL, 0);
	push(x, &value);
	clear_c1(x);
	return done(c, i);
}

static enum emu_next store_register(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct vc_xsave *x = &c->s.xsave;

	emu_x87_check(c);
	if (vc_unlikely(!st_valid(x, 0)))
		return run_whole(c, i, NULL, 0);
	*st_at(x, st_i(i)) = *st_at(x, 0);
	x->ftw |= st_bit(x, st_i(i));
	clear_c1(x);
	if (i->desc->vec.rm_file)
		pop(x);
	return done(c, i);
}

static enum emu_next exchange(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct vc_xsave *x = &c->s.xsave;
	struct st value = *st_at(x, 0);

	emu_x87_check(c);
	if (vc_unlikely(!operands_valid(x, i)))
		return run_whole(c, i, NULL, 0);
	*st_at(x, 0) = *st_at(x, st_i(i));
	*st_at(x, st_i(i)) = value;
	clear_c1(x);
	return done(c, i);
}

static enum emu_next change_sign(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct vc_xsave *x = &c->s.xsave;

	emu_x87_check(c);
	if (vc_unlikely(!st_valid(x, 0)))
		return run_whole(c, i, NULL, 0);
	if (i->desc->vec.reg_file == EMU_X87_CHS)
		x->st[0][9] ^= 0x80;
	else
		x->st[0][9] &= 0x7f;
	clear_c1(x);
	return done(c, i);
}

static enum emu_next conditional_move(struct emu_vcpu *c, const struct emu_insn *i)
{
	static const uint32_t conditions[4] = {VC_FLAG_CF, VC_FLAG_ZF, VC_FLAG_CF | VC_FLAG_ZF, VC_FLAG_PF};
	struct vc_xsave *x = &c->s.xsave;
	bool negated = i->opcode == 0xdb;

	emu_x87_check(c);
	if (vc_unlikely(!operands_valid(x, i)))
		return run_whole(c, i, NULL, 0);
	if (!!(c->aflags & conditions[i->modrm >> 3 & 3]) != negated)
		*st_at(x, 0) = *st_at(x, st_i(i));
	return done(c, i);
}

static enum emu_next free_register(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct vc_xsave *x = &c->s.xsave;

	emu_x87_check(c);
	x->ftw &= (uint8_t)~st_bit(x, st_i(i));
	clear_c1(x);
	if (i->desc->vec.rm_file)
		pop(x);
	return done(c, i);
}

static enum emu_next turn_stack(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct vc_xsave *x = &c->s.xsave;

	emu_x87_check(c);
	if (i->desc->vec.reg_file == EMU_X87_INCSTP)
		turn_down(x);
	else
		turn_up(x);
	clear_c1(x);
	return done(c, i);
}

static enum emu_next nop(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_x87_check(c);
	return done(c, i);
}

/* FWAIT looks at TS only when MP is set. */
static enum emu_next fwait(struct emu_vcpu *c, const struct emu_insn *i)
{
	const uint64_t both = VC_CR0_MP | VC_CR0_TS;

	if ((c->s.cr0 & both) == both)
		emu_raise(c, VC_NM);
	if (emu_x87_pending(&c->s.xsave))
		emu_raise(c, VC_MF);
	return EMU_NEXT;
}

emu_system_fn emu_x87_handler(struct emu_vcpu *c, struct emu_insn *i)
{
	static const emu_system_fn handlers[EMU_X87_CLASSES] = {
	    [EMU_X87_ARITH] = arith,
	    [EMU_X87_COMPARE] = compare,
	    [EMU_X87_COMPARE_FLAGS] = compare_flags,
	    [EMU_X87_PUSH] = load,
	    [EMU_X87_STORE] = store,
	    [EMU_X87_WHOLE] = whole,
	    [EMU_X87_LOAD80] = load80,
	    [EMU_X87_STORE80] = store80,
	    [EMU_X87_LOAD_REG] = load_register,
	    [EMU_X87_STORE_REG] = store_register,
	    [EMU_X87_XCH] = exchange,
	    [EMU_X87_CHS] = change_sign,
	    [EMU_X87_ABS] = change_sign,
	    [EMU_X87_CMOV] = conditional_move,
	    [EMU_X87_FREE] = free_register,
	    [EMU_X87_INCSTP] = turn_stack,
	    [EMU_X87_DECSTP] = turn_stack,
	    [EMU_X87_NOP] = nop,
	};

	if (i->op == EMU_FWAIT)
		return fwait;
	unsigned class = i->desc->vec.reg_file;
	if (!handlers[class])
		return emu_x87_control_handler(i);
	if (class <= EMU_X87_STORE)
		i->stub = emu_stub_handle(c, i, EMU_STUB_X87);
	return handlers[class];
}
