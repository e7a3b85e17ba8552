/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The interpreter's loop: entering and leaving blocks, single instructions, unwinding. */
#include <stdlib.h>

#include "backend/emu/hook.h"
#include "backend/emu/interp/interp.h"
#include "backend/emu/vcpu.h"

int interp_new(struct emu_vcpu *c)
{
	int err;
	c->interp = vc_pages_new(sizeof *c->interp);
	if (!c->interp)
		return vc_fail(ENOMEM, "no memory for the interpreter of vcpu %u", c->bvcpu->index);
	c->zero = 0;
	c->k8192 = 8192;
	err = interp_cache_new(c->interp);
	if (err < 0)
		interp_free(c);
	return err;
}

void interp_free(struct emu_vcpu *c)
{
	if (!c->interp)
		return;
	interp_cache_free(c->interp);
	vc_pages_free(c->interp, sizeof *c->interp);
	c->interp = NULL;
}

/* Later, when no block is being executed. */
void interp_flush(struct emu_vcpu *c)
{
	c->interp->want_flush = true;
}

static bool overlaps(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a < b + b_len && b < a + a_len;
}

bool interp_in_current_block(struct emu_vcpu *c, uint64_t gpa, unsigned len)
{
	const struct interp_block *b;
	if (!c->in_block)
		return false;
	b = interp_block_of(VC_CONTAINER_OF(c->cur, const struct interp_op, head));
	return overlaps(gpa, len, b->gpa, b->bytes) || (b->cross && overlaps(gpa, len, b->cross->gpa, b->cross->bytes));
}

/* ---- entering and leaving blocks ---- */

static interp_ret leave(struct emu_vcpu *c, uint64_t rip)
{
	c->s.rip = rip;
	c->in_block = false;
	c->cur = NULL;
	return NULL;
}

static interp_ret enter(struct emu_vcpu *c, struct interp_block *b)
{
	c->block_rip = c->s.rip;
	c->in_block = true;
	c->icount += b->insns;
	INTERP_GO(c, b->op);
}

interp_ret interp_enter_slow(struct emu_vcpu *c, uint64_t rip)
{
	struct interp_block *b;
	leave(c, rip);
	if (interp_wanted(c))
		return NULL;
	b = interp_find(c);
	if (!b)
		return NULL;
	return enter(c, b);
}

interp_ret interp_resume(struct emu_vcpu *c)
{
	c->cur = NULL;
	if (interp_wanted(c))
		return NULL;
	interp_mode(c);
	return interp_enter_slow(c, c->s.rip);
}

interp_ret interp_branch_slow(struct emu_vcpu *c, const struct interp_op *i, unsigned k, uint64_t rip)
{
	struct interp *it = c->interp;
	struct interp_block *from = interp_block_of(i), *to;
	uint64_t from_rip = c->block_rip;
	uint32_t flushes = it->flushes;
	leave(c, rip);
	if (interp_wanted(c))
		return NULL;
	to = interp_find(c);
	if (!to)
		return NULL;
	/* in the same page, so whoever gets to `from` may go on to `to` without a look at the translation */
	if (it->flushes == flushes && it->linear_is_rip && !((rip ^ from_rip) & VC_PAGE_MASK) &&
	    !((from->gpa ^ to->gpa) & VC_PAGE_MASK))
		from->link[k] = to;
	return enter(c, to);
}

interp_ret interp_end_near(struct emu_vcpu *c, const struct interp_op *i)
{
	INTERP_BRANCH(c, i, 0, i->head.offset);
}
interp_ret interp_end_far(struct emu_vcpu *c, const struct interp_op *i)
{
	return interp_goto(c, (c->block_rip + i->head.offset) & c->ip_mask);
}

interp_ret interp_check_cross(struct emu_vcpu *c, const struct interp_op *i)
{
	struct interp_block *b = interp_block_of(i);
	c->s.rip = c->block_rip;
	c->in_block = false; /* a fault of the fetch is one at the instruction */
	c->cur = &i->head;
	if (vc_unlikely(!interp_cross_current(c, b))) {
		c->icount -= b->insns;
		return interp_enter_slow(c, c->s.rip);
	}
	c->in_block = true;
	INTERP_NEXT;
}

/* ---- hooks ---- */

/* Instructions before operation i of its block, as far as icount has them when the block is entered. */
static unsigned insns_before(const struct interp_block *b, const struct interp_op *i)
{
	unsigned n = i->head.index;
	if (b->cross)
		return 0;
	if (b->key & INTERP_KEY_HOOKS)
		for (const struct interp_op *k = b->op; k < i; k++)
			n -= k->fn == interp_hook;
	return n;
}

static bool events_wait(const struct emu_vcpu *c)
{
	return c->attention || atomic_load_explicit(c->requests, memory_order_relaxed);
}

interp_ret interp_hook(struct emu_vcpu *c, const struct interp_op *i)
{
	const struct interp_block *b = interp_block_of(i);
	uint64_t rip = (c->block_rip + i->head.offset) & c->ip_mask;
	bool alone = b == c->interp->alone, called = false;
	uint64_t count = alone ? c->icount : c->icount - b->insns + insns_before(b, i);
	c->cur = &i->head;
	if (i->reg & INTERP_HOOK_BLOCK)
		called = emu_hook_block(c, rip, (unsigned)i->imm, count);
	if (i->reg & INTERP_HOOK_CODE)
		called |= emu_hook_code(c, rip, i->head.len, count);
	/*
	 * The code may be another now. As in interp_call(): requests first, which come with changes of memory that the
	 * block's page was in.
	 */
	if (called && (alone || b->cross || events_wait(c) || !interp_block_current(b)))
		emu_come_again(c);
	INTERP_NEXT;
}

/* ---- instructions that functions execute ---- */

/* Run it, with s.rip right and not in a block, so that it may change s.rip and the mode as it likes. */
static enum emu_next call(struct emu_vcpu *c, const struct interp_op *i)
{
	const struct emu_insn *n = (const struct emu_insn *)(uintptr_t)i->imm;
	c->cur = &i->head;
	c->s.rip = (c->block_rip + i->head.offset) & c->ip_mask;
	c->in_block = false;
	return ((emu_system_fn)n->fn)(c, n);
}

static void advance(struct emu_vcpu *c, const struct interp_op *i)
{
	c->s.rip = (c->s.rip + i->head.len) & c->ip_mask;
}

interp_ret interp_call(struct emu_vcpu *c, const struct interp_op *i)
{
	if (call(c, i) == EMU_JUMP)
		return interp_resume(c);
	/*
	 * It may have changed this very block; or let others remove the memory that the block's page was in, which comes
	 * with a request.
	 */
	if (vc_unlikely(events_wait(c) || !interp_block_current(interp_block_of(i)) || interp_block_of(i)->cross)) {
		advance(c, i);
		return interp_resume(c);
	}
	c->in_block = true;
	INTERP_NEXT;
}

interp_ret interp_call_end(struct emu_vcpu *c, const struct interp_op *i)
{
	if (call(c, i) == EMU_NEXT)
		advance(c, i);
	return interp_resume(c);
}

interp_ret interp_raise_ud(struct emu_vcpu *c, const struct interp_op *i)
{
	c->cur = &i->head;
	emu_raise(c, VC_UD);
}

interp_ret interp_raise_gp(struct emu_vcpu *c, const struct interp_op *i)
{
	c->cur = &i->head;
	emu_raise_error(c, VC_GP, 0);
}

/* ---- the loop ---- */

/* Until the engine is to stop. Where handlers call each other, the first call does it all. */
static void proceed(struct emu_vcpu *c, interp_ret i)
{
	while (i)
		i = i->fn(c, i);
}

/* The instruction at s.rip as a block of its own that is not cached: a store to it is no store to the current block. */
static void run_alone(struct emu_vcpu *c)
{
	const struct interp_op *i;
	c->cur = NULL;
	i = interp_prepare_alone(c);
	c->block_rip = c->s.rip;
	c->once = true;
	proceed(c, i);
	c->once = false;
	c->icount++;
}

static void run_block(struct emu_vcpu *c)
{
	struct interp_block *b;
	interp_mode(c);
	c->cur = NULL;
	b = interp_find(c);
	if (!b) {
		run_alone(c);
		return;
	}
	c->once = true;
	proceed(c, enter(c, b));
	c->once = false;
}

static void run(struct emu_vcpu *c, bool alone)
{
	struct interp_block *b;
	interp_mode(c);
	if (alone || c->stepping)
		run_alone(c);
	while (!c->stepping && !interp_wanted(c)) {
		interp_mode(c);
		c->cur = NULL;
		b = interp_find(c);
		if (!b)
			run_alone(c);
		else
			proceed(c, enter(c, b));
	}
}

/* s.rip and icount at an instruction that did not complete. */
static void unwound(struct emu_vcpu *c)
{
	if (c->in_block)
		c->s.rip = emu_rip(c) & c->ip_mask;
	if (c->cur) {
		const struct interp_op *i = VC_CONTAINER_OF(c->cur, const struct interp_op, head);
		const struct interp_block *b = interp_block_of(i);
		if (b != c->interp->alone) /* which is counted when it is over */
			c->icount -= b->insns - insns_before(b, i);
	}
	c->cur = NULL;
	c->in_block = c->once = false;
}

static void run_on(struct emu_vcpu *c)
{
	run(c, false);
}

static void run_one(struct emu_vcpu *c)
{
	interp_mode(c);
	run_alone(c);
}

/* body, and what unwinds from it. */
static enum emu_stop guarded(struct emu_vcpu *c, void (*body)(struct emu_vcpu *c))
{
	jmp_buf here, *const outer = c->unwind;
	enum emu_stop stop = EMU_STOP_EVENTS;

	c->unwind = &here;
	switch (setjmp(here)) {
	case 0:
		body(c);
		break;
	case EMU_UNWIND_RETRY:
		unwound(c);
		if (body == run_on)
			run(c, true);
		else
			run_one(c);
		break;
	case EMU_UNWIND_EXCEPTION:
		unwound(c);
		stop = EMU_STOP_EXCEPTION;
		break;
	case EMU_UNWIND_AGAIN:
		unwound(c);
		stop = EMU_STOP_AGAIN;
		break;
	default:
		unwound(c);
		stop = EMU_STOP_EXIT;
	}
	c->unwind = outer;
	return stop;
}

enum emu_stop interp_run(struct emu_vcpu *c)
{
	return guarded(c, run_on);
}

enum emu_stop interp_run_one(struct emu_vcpu *c)
{
	return guarded(c, run_one);
}

enum emu_stop interp_run_block(struct emu_vcpu *c)
{
	return guarded(c, run_block);
}
