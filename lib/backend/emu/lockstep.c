/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lockstep: the engine. */
#include "backend/emu/lockstep.h"

#include <stdio.h>
#include <stdlib.h>

#include "backend/emu/mmu/mmu.h"
#include "backend/emu/vcpu.h"

/* Blocks for which other vcpus are held out at once. */
#define BLOCKS_AT_ONCE 64u

int emu_lockstep_new(struct emu_vcpu *c, const struct emu_translator *translator)
{
	struct emu_lockstep *ls = calloc(1, sizeof *ls);
	int r;

	if (!ls)
		return vc_fail(ENOMEM, "no memory for engine lockstep of vcpu %u", c->bvcpu->index);
	r = emu_vcpu_new(c->bvcpu, &ls->second);
	if (r < 0) {
		free(ls);
		return r;
	}
	ls->second->jit = NULL;
	ls->translator = translator;
	ls->c = c;
	ls->shadow.c = ls->second;
	ls->second->shadow = &ls->shadow;
	ls->second->sys->never_leave = true;
	ls->followed = ~0ull;
	c->lockstep = ls;
	return 0;
}

void emu_lockstep_free(struct emu_vcpu *c)
{
	if (!c->lockstep)
		return;
	emu_vcpu_free(c->lockstep->second);
	free(c->lockstep);
	c->lockstep = NULL;
}

/* ---- flags that the translator did not keep ---- */

/* Others than native code may look at them now. */
static void settle(struct emu_lockstep *ls)
{
	ls->c->aflags = (ls->c->aflags & ~ls->unkept) | (ls->right & ls->unkept);
	ls->unkept = 0;
}

/* Go on with the interpreter's flags; those that the translator did not keep are inverted, so that nothing may use
 * them. */
static void adopt_flags(struct emu_lockstep *ls)
{
	const struct emu_lockstep_insn *at = &ls->insn[ls->stopped_at];

	ls->unkept = (ls->unkept & ~at->flags_set) | ls->dead;
	ls->right = at->aflags;
	ls->c->aflags = at->aflags ^ ls->unkept;
}

/* ---- blocks ---- */

enum next { NEXT_BLOCK, NEXT_ALONE /* the next instruction is not native */, NEXT_END /* a difference */ };

static bool wanted(const struct emu_vcpu *c)
{
	return c->attention || atomic_load_explicit(c->requests, memory_order_relaxed);
}

static void count(struct emu_lockstep *ls, uint64_t icount)
{
	struct emu_vcpu *c = ls->c;

	c->icount = icount + ls->stopped_at;
	ls->compared += ls->stopped_at;
	atomic_store_explicit(&c->bvcpu->compared, ls->compared, memory_order_relaxed);
	/* What the shadow has seen of page tables that were not written then. */
	if (ls->stopped_at < ls->done)
		ls->followed = ~0ull;
}

/* One block by both. */
static enum next pair(struct emu_lockstep *ls)
{
	struct emu_vcpu *c = ls->c;
	uint64_t icount = c->icount;
	bool left;

	ls->native = ls->translator->native(c);
	if (!ls->native || ls->native > EMU_LOCKSTEP_INSNS)
		return NEXT_ALONE;
	emu_lockstep_follow(ls);
	if (!emu_lockstep_interpret(ls))
		return NEXT_ALONE;
	left = ls->translator->run(c);
	ls->dead = ls->translator->dead_flags(c) & VC_FLAGS_ARITH;
	if (!emu_lockstep_compare(ls, left))
		return NEXT_END;
	if (!ls->stopped_at)
		ls->dead = 0; /* nothing was run that could lose a flag */
	adopt_flags(ls);
	count(ls, icount);
	return left ? NEXT_BLOCK : NEXT_ALONE;
}

/* Several, with nobody else in guest code. */
static enum next pairs(struct emu_lockstep *ls)
{
	struct emu_vcpu *c = ls->c;
	enum next next = NEXT_BLOCK;
	bool others = c->bvm->vcpus > 1;

	if (others) {
		vc_gate_begin(c->bvm->gate, &c->bvcpu->pass);
		emu_inside_again(c);
	}
	for (unsigned i = 0; i < BLOCKS_AT_ONCE && next == NEXT_BLOCK && !wanted(c); i++)
		next = pair(ls);
	if (others) {
		vc_gate_end(c->bvm->gate, &c->bvcpu->pass);
		emu_inside_again(c);
	}
	return next;
}

static enum emu_stop end_with_difference(struct emu_lockstep *ls)
{
	struct vcore_exit *exit = ls->c->exit;

	emu_lockstep_report(ls);
	exit->reason = VCORE_EXIT_CRASH;
	exit->crash = VCORE_CRASH_INTERNAL;
	exit->address = ls->insn[0].rip;
	snprintf(exit->message, sizeof exit->message, "lockstep, block at %#llx: %s", (unsigned long long)ls->insn[0].rip,
	         ls->difference);
	return EMU_STOP_EXIT;
}

enum emu_stop emu_lockstep_run(struct emu_vcpu *c)
{
	struct emu_lockstep *ls = c->lockstep;
	enum emu_stop stop = EMU_STOP_EVENTS;
	enum next next;

	emu_vec_enter(ls->second);
	while (stop == EMU_STOP_EVENTS && !wanted(c)) {
		next = pairs(ls);
		if (next == NEXT_END)
			stop = end_with_difference(ls);
		if (next != NEXT_ALONE || wanted(c))
			continue;
		settle(ls);
		stop = interp_run_one(c);
	}
	settle(ls);
	return stop;
}
