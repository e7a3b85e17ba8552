/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The vcpu's registers to and from the signal frame of the process. */
#include "backend/emu/promote/promote.h"
#include "backend/emu/vcpu.h"

#define FLAGS_SHARED ((uint64_t)VC_FLAGS_ARITH | VC_FLAG_DF)

static const uint8_t greg_of[16] = {
    [VC_RAX] = REG_RAX, [VC_RCX] = REG_RCX, [VC_RDX] = REG_RDX, [VC_RBX] = REG_RBX,
    [VC_RSP] = REG_RSP, [VC_RBP] = REG_RBP, [VC_RSI] = REG_RSI, [VC_RDI] = REG_RDI,
    [VC_R8] = REG_R8,   [VC_R9] = REG_R9,   [VC_R10] = REG_R10, [VC_R11] = REG_R11,
    [VC_R12] = REG_R12, [VC_R13] = REG_R13, [VC_R14] = REG_R14, [VC_R15] = REG_R15,
};

/* The XSAVE area of the frame; NULL: there is none that makes sense. */
static struct vc_xsave *vectors_of(const struct promoted *p)
{
	uint64_t at = (uint64_t)(uintptr_t)p->child.frame->uc_mcontext.fpregs;
	const uint64_t room = offsetof(struct vc_xsave, ymm_hi) + sizeof(((struct vc_xsave *)0)->ymm_hi);

	if (at < CHILD_STACK || at > CHILD_STACK + CHILD_STACK_SIZE - room || at & 15)
		return NULL;
	return (struct vc_xsave *)(void *)(p->child.object + CHILD_AT_STACK + (at - CHILD_STACK));
}

#define LEGACY_USED offsetof(struct vc_xsave, reserved1) /* behind it the kernel keeps something of its own */

static void vectors_in(const struct emu_vcpu *c, struct promoted *p)
{
	struct vc_xsave *x = vectors_of(p);
	uint32_t mask;

	if (!x)
		return;
	mask = x->mxcsr_mask;
	memcpy(x, &c->s.xsave, LEGACY_USED);
	x->mxcsr_mask = mask;
	x->xstate_bv = VC_XSTATE_X87 | VC_XSTATE_SSE;
	if (p->avx) {
		x->xstate_bv |= VC_XSTATE_AVX;
		memcpy(x->ymm_hi, c->s.xsave.ymm_hi, sizeof x->ymm_hi);
	}
}

/* What is in its initial state may not have been written. */
static void vectors_out(struct emu_vcpu *c, const struct promoted *p)
{
	const struct vc_xsave *x = vectors_of(p);
	struct vc_xsave *to = &c->s.xsave;
	uint32_t mask = to->mxcsr_mask;

	if (!x)
		return;
	memcpy(to, x, LEGACY_USED);
	to->mxcsr_mask = mask;
	if (!(x->xstate_bv & VC_XSTATE_X87)) {
		memset(to, 0, offsetof(struct vc_xsave, mxcsr));
		memset(to->st, 0, sizeof to->st);
		to->fcw = 0x37f;
	}
	if (!(x->xstate_bv & VC_XSTATE_SSE))
		memset(to->xmm, 0, sizeof to->xmm);
	if (!p->avx)
		return;
	if (x->xstate_bv & VC_XSTATE_AVX)
		memcpy(to->ymm_hi, x->ymm_hi, sizeof to->ymm_hi);
	else
		memset(to->ymm_hi, 0, sizeof to->ymm_hi);
}

/* The x87 unit notes where its last instruction was. */
static void x87_pointer_out(struct emu_vcpu *c, const struct promoted *p)
{
	const struct promoted_mark *m = promoted_mark_at(p, c->s.xsave.fip);

	if (m)
		c->s.xsave.fip = m->pc;
}

void promoted_state_in(const struct emu_vcpu *c, struct promoted *p, uint32_t entry)
{
	greg_t *g = promoted_gregs(p);

	for (unsigned i = 0; i < 16; i++)
		g[greg_of[i]] = (greg_t)c->s.gpr[i];
	g[REG_RIP] = (greg_t)(p->child.code + entry);
	g[REG_EFL] = (greg_t)(((uint64_t)g[REG_EFL] & ~FLAGS_SHARED) | (emu_rflags(c) & FLAGS_SHARED));
	vectors_in(c, p);
}

void promoted_state_out(struct emu_vcpu *c, const struct promoted *p, const struct promoted_mark *m)
{
	static const struct {
		uint8_t fix, reg, slot;
	} fixes[] = {
	    {PROMOTED_FIX_R11, VC_R11, PROMOTED_SLOT_R11},  {PROMOTED_FIX_RCX, VC_RCX, PROMOTED_SLOT_RCX},
	    {PROMOTED_FIX_RSI, VC_RSI, PROMOTED_SLOT_BASE}, {PROMOTED_FIX_RDI, VC_RDI, PROMOTED_SLOT_BASE},
	    {PROMOTED_FIX_RBX, VC_RBX, PROMOTED_SLOT_BASE},
	};
	const greg_t *g = promoted_gregs(p);

	for (unsigned i = 0; i < 16; i++)
		c->s.gpr[i] = (uint64_t)g[greg_of[i]];
	c->s.rip = m->fix & PROMOTED_FIX_PC ? c->s.gpr[VC_R11] : m->pc;
	for (unsigned i = 0; i < VC_ARRAY_SIZE(fixes); i++)
		if (m->fix & fixes[i].fix)
			c->s.gpr[fixes[i].reg] = promoted_slots(p)[fixes[i].slot];
	emu_set_rflags(c, (emu_rflags(c) & ~FLAGS_SHARED) | ((uint64_t)g[REG_EFL] & FLAGS_SHARED));
	vectors_out(c, p);
	x87_pointer_out(c, p);
}
