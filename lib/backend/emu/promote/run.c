/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* When address spaces are promoted, and how the vcpu goes in and comes out. */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "backend/emu/hook.h"
#include "backend/emu/jit/jit.h"
#include "backend/emu/mmu/mmu.h"
#include "backend/emu/promote/promote.h"
#include "backend/emu/vcpu.h"

#define CANDIDATES   16u
#define CHILDREN     4u
#define TICK_NS      1000000u     /* interruptions closer to each other count as one */
#define HOT_TICKS    3u           /* interruptions in ring 3 that make a space worth it */
#define WINDOW       512u         /* stops after which it is asked whether it still is */
#define WORTH_NS     20000u       /* mean time between stops that it takes */
#define SLEEP_TICKS  64u          /* how long it is left alone, if not; doubled each time */
#define SHORT_NS     300000u      /* so often stopped, it stays on the vcpu's CPU */
#define FLUSHES      16u          /* of code in a second: it writes its own */
#define ROOT_MASK    0x000ffffffffff000ull
#define FLAGS_SHARED ((uint64_t)VC_FLAGS_ARITH | VC_FLAG_DF)
#define TRAP_PF      14

struct candidate {
	uint64_t root;
	unsigned ticks;
	unsigned asleep; /* ticks */
	unsigned failures;
};

struct promote {
	_Atomic int running; /* process that executes, to be kicked; 0: none */
	struct candidate candidate[CANDIDATES];
	unsigned next_candidate;
	struct promoted *child[CHILDREN];
	unsigned next_child;
	uint64_t last_tick;
	bool impossible; /* on this host */
	bool pinned;     /* the vcpu's thread stays where it is; where else it may run: */
	cpu_set_t cpus;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- CPUs: who is stopped often must not wake another one each time ---- */

static void unpin(struct promote *m)
{
	if (m->pinned)
		sched_setaffinity(0, sizeof m->cpus, &m->cpus);
	m->pinned = false;
}

static void place_on_cpus(struct promote *m, struct promoted *p)
{
	bool together = p->slice_ns < SHORT_NS;
	cpu_set_t here;
	int cpu;

	if (!together) {
		unpin(m);
		if (p->cpu >= 0)
			sched_setaffinity(p->child.pid, sizeof m->cpus, &m->cpus);
		p->cpu = -1;
		return;
	}
	if (m->pinned && p->cpu >= 0)
		return;
	cpu = sched_getcpu();
	if (cpu < 0 || (!m->pinned && sched_getaffinity(0, sizeof m->cpus, &m->cpus) < 0))
		return;
	CPU_ZERO(&here);
	CPU_SET((unsigned)cpu, &here);
	if (!m->pinned && sched_setaffinity(0, sizeof here, &here) == 0)
		m->pinned = true;
	if (sched_setaffinity(p->child.pid, sizeof here, &here) == 0)
		p->cpu = cpu;
}

/* ---- which spaces ---- */

static uint64_t root_of(const struct emu_vcpu *c)
{
	return c->s.cr3 & ROOT_MASK;
}

static enum emu_promote policy(const struct emu_vcpu *c)
{
	return ((const struct emu_vm *)c->bvm->priv)->promote;
}

static struct candidate *find_candidate(struct promote *m, uint64_t root)
{
	struct candidate *k;

	for (unsigned i = 0; i < CANDIDATES; i++)
		if (m->candidate[i].root == root)
			return &m->candidate[i];
	k = &m->candidate[m->next_candidate++ % CANDIDATES];
	*k = (struct candidate){.root = root};
	return k;
}

static void promoted_free(struct promoted *p)
{
	if (!p)
		return;
	child_free(&p->child);
	free(p->page);
	free(p->mark);
	free(p->block);
	free(p->source);
	free(p->first);
	free(p);
}

static unsigned index_of(const struct promote *m, uint64_t root)
{
	unsigned i = 0;

	while (i < CHILDREN && (!m->child[i] || m->child[i]->root != root))
		i++;
	return i;
}

static void demote(struct promote *m, struct promoted *p)
{
	struct candidate *k = find_candidate(m, p->root);
	unsigned i = index_of(m, p->root);

	k->ticks = 0;
	k->asleep = SLEEP_TICKS << (k->failures < 8 ? k->failures : 8);
	k->failures++;
	unpin(m);
	m->child[i] = NULL;
	promoted_free(p);
}

/* The policy is the vm's; whether it can be done turns out here. */
static void promote(struct emu_vcpu *c, uint64_t root)
{
	struct promote *m = c->promote;
	struct promoted *p = calloc(1, sizeof *p);
	int fds[CHILD_SLOTS_MAX], r = -ENOMEM;

	if (!p)
		return;
	p->root = root;
	p->version = atomic_load(&c->bvm->env.mem->version);
	p->cpu = -1;
	p->child.orders = p->child.messages = -1;
	r = promoted_memory_new(c, p);
	for (unsigned i = 0; i < p->slots; i++)
		fds[i] = p->slot[i]->fd;
	if (r >= 0)
		r = child_new(&p->child, fds, p->slots);
	if (r >= 0)
		r = promoted_code_new(p);
	if (r < 0) {
		m->impossible = true;
		promoted_free(p);
		return;
	}
	p->context = 0;
	p->kill_all = true;
	if (m->child[m->next_child])
		unpin(m);
	promoted_free(m->child[m->next_child]);
	m->child[m->next_child] = p;
	m->next_child = (m->next_child + 1) % CHILDREN;
}

static void wake(struct promoted *p)
{
	p->dormant = false;
	p->flushes = p->stops = p->windows = 0;
	p->window_ns = p->slice_ns = 0;
}

void promote_tick(struct emu_vcpu *c)
{
	struct promote *m = c->promote;
	uint64_t now = now_ns(), root = root_of(c);
	struct candidate *k;
	unsigned i;

	if (m->impossible || now - m->last_tick < TICK_NS || policy(c) != EMU_PROMOTE_HOT)
		return;
	m->last_tick = now;
	i = index_of(m, root);
	if (i < CHILDREN && !m->child[i]->dormant)
		return;
	unpin(m);
	k = find_candidate(m, root);
	if (k->asleep)
		k->asleep--;
	else if (++k->ticks >= HOT_TICKS && i < CHILDREN)
		wake(m->child[i]);
	else if (k->ticks >= HOT_TICKS)
		promote(c, root);
}

int promote_new(struct emu_vcpu *c)
{
	if (policy(c) == EMU_PROMOTE_NEVER)
		return 0;
	c->promote = calloc(1, sizeof *c->promote);
	return c->promote ? 0 : vc_fail(ENOMEM, "no memory for promoted address spaces");
}

void promote_free(struct emu_vcpu *c)
{
	struct promote *m = c->promote;

	if (!m)
		return;
	for (unsigned i = 0; i < CHILDREN; i++)
		promoted_free(m->child[i]);
	free(m);
	c->promote = NULL;
}

void promote_kick(struct emu_vcpu *c)
{
	struct promote *m = c->promote;
	int pid = m ? atomic_load(&m->running) : 0;

	if (pid)
		syscall(SYS_tgkill, pid, pid, CHILD_SIGNAL_KICK);
}

/* ---- translations that are gone ---- */

void promote_kill_page(struct emu_vcpu *c, uint64_t linear)
{
	for (unsigned i = 0; i < CHILDREN; i++) {
		struct promoted *p = c->promote->child[i];

		if (!p || linear >> 47)
			continue;
		if (p->kills < PROMOTE_KILLS)
			p->kill[p->kills++] = linear & VC_PAGE_MASK;
		else
			p->kill_all = true;
	}
}

void promote_kill_all(struct emu_vcpu *c)
{
	for (unsigned i = 0; i < CHILDREN; i++)
		if (c->promote->child[i])
			c->promote->child[i]->kill_all = true;
}

void promote_drop_writes(struct emu_vcpu *c)
{
	for (unsigned i = 0; i < CHILDREN; i++)
		if (c->promote->child[i])
			c->promote->child[i]->drop_writes = true;
}

/* ---- registers ---- */

static const uint8_t greg_of[16] = {
    [VC_RAX] = REG_RAX, [VC_RCX] = REG_RCX, [VC_RDX] = REG_RDX, [VC_RBX] = REG_RBX, [VC_RSP] = REG_RSP, [VC_RBP] = REG_RBP,
    [VC_RSI] = REG_RSI, [VC_RDI] = REG_RDI, [VC_R8] = REG_R8,   [VC_R9] = REG_R9,   [VC_R10] = REG_R10, [VC_R11] = REG_R11,
    [VC_R12] = REG_R12, [VC_R13] = REG_R13, [VC_R14] = REG_R14, [VC_R15] = REG_R15,
};

static const uint64_t *slots_of(const struct promoted *p)
{
	return (const uint64_t *)(const void *)(p->child.object + CHILD_AT_SLOTS);
}

static greg_t *gregs_of(const struct promoted *p)
{
	return p->child.frame->uc_mcontext.gregs;
}

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

static void state_in(const struct emu_vcpu *c, struct promoted *p, uint32_t entry)
{
	greg_t *g = gregs_of(p);

	for (unsigned i = 0; i < 16; i++)
		g[greg_of[i]] = (greg_t)c->s.gpr[i];
	g[REG_RIP] = (greg_t)(p->child.code + entry);
	g[REG_EFL] = (greg_t)(((uint64_t)g[REG_EFL] & ~FLAGS_SHARED) | (emu_rflags(c) & FLAGS_SHARED));
	vectors_in(c, p);
}

static void state_out(struct emu_vcpu *c, const struct promoted *p, const struct promoted_mark *m)
{
	static const struct {
		uint8_t fix, reg, slot;
	} fixes[] = {
	    {PROMOTED_FIX_R11, VC_R11, PROMOTED_SLOT_R11},  {PROMOTED_FIX_RCX, VC_RCX, PROMOTED_SLOT_RCX},
	    {PROMOTED_FIX_RSI, VC_RSI, PROMOTED_SLOT_BASE}, {PROMOTED_FIX_RDI, VC_RDI, PROMOTED_SLOT_BASE},
	    {PROMOTED_FIX_RBX, VC_RBX, PROMOTED_SLOT_BASE},
	};
	const greg_t *g = gregs_of(p);

	for (unsigned i = 0; i < 16; i++)
		c->s.gpr[i] = (uint64_t)g[greg_of[i]];
	c->s.rip = m->fix & PROMOTED_FIX_PC ? c->s.gpr[VC_R11] : m->pc;
	for (unsigned i = 0; i < VC_ARRAY_SIZE(fixes); i++)
		if (m->fix & fixes[i].fix)
			c->s.gpr[fixes[i].reg] = slots_of(p)[fixes[i].slot];
	emu_set_rflags(c, (emu_rflags(c) & ~FLAGS_SHARED) | ((uint64_t)g[REG_EFL] & FLAGS_SHARED));
	vectors_out(c, p);
	x87_pointer_out(c, p);
}

/* ---- running ---- */

static bool wanted(const struct emu_vcpu *c)
{
	return atomic_load(c->requests) || c->attention;
}

/* Nothing is on that only the other engines look at. */
static bool plain(const struct emu_vcpu *c)
{
	return c->mode == EMU_MODE_64 && !(emu_rflags(c) & (VC_FLAG_TF | VC_FLAG_AC)) && !c->mmu->slow_data && !c->mmu->watch_count &&
	       !c->stepping && !c->once && !c->shadow && !c->lockstep && !c->sys->step_always && !emu_hooks_on(c) &&
	       !c->bvm->hooks.list[VCORE_HOOK_MEMORY];
}

/* Vector registers as the guest may use them. False: it may not. */
static bool choose_vectors(struct emu_vcpu *c, struct promoted *p)
{
	uint32_t ready = jit_vec_ready(c);
	bool avx = ready == JIT_VEC_AVX || ready == JIT_VEC_AVX_ZERO;

	if (ready == JIT_VEC_NONE)
		return false;
	if (avx != p->avx) {
		p->avx = avx;
		promoted_code_flush(p);
	}
	return true;
}

/* FS of the process is the guest's. */
static bool set_fs(const struct emu_vcpu *c, struct promoted *p)
{
	struct child_order o = {.count = 1, .call = {{SYS_arch_prctl, {0x1002 /* ARCH_SET_FS */, c->s.seg[VC_FS].base}}}};

	if (p->fs_base == c->s.seg[VC_FS].base)
		return true;
	p->fs_base = c->s.seg[VC_FS].base;
	return child_order(&p->child, &o, false);
}

static bool resume(struct promoted *p)
{
	struct child_order o = {0};

	return child_order(&p->child, &o, true);
}

/* Too many stops for what it does. */
static bool not_worth_it(struct promoted *p)
{
	bool not_worth;

	if (p->stops < WINDOW)
		return false;
	not_worth = (p->window_ns / p->stops < WORTH_NS && p->windows > 3) || p->flushes > FLUSHES;
	p->windows++;
	p->stops = 0;
	p->window_ns = 0;
	return not_worth;
}

/* The process is gone, and the guest's registers with it. */
static enum promote_next died(struct emu_vcpu *c, struct promoted *p)
{
	atomic_store(&c->promote->running, 0);
	demote(c->promote, p);
	c->promote->impossible = true;
	c->exit->reason = VCORE_EXIT_CRASH;
	c->exit->crash = VCORE_CRASH_INTERNAL;
	snprintf(c->exit->message, sizeof c->exit->message, "the host process of a promoted address space was killed");
	emu_leave(c);
}

static enum promote_next leave(struct emu_vcpu *c, struct promoted *p, const struct promoted_mark *m, enum promote_next next)
{
	uint64_t slice = now_ns() - p->entered;

	atomic_store(&c->promote->running, 0);
	state_out(c, p, m);
	p->stops++;
	p->slice_ns = slice;
	p->window_ns += slice;
	if (policy(c) == EMU_PROMOTE_HOT && not_worth_it(p)) {
		demote(c->promote, p);
		return next == PROMOTE_INTERPRET ? next : PROMOTE_AGAIN;
	}
	return next;
}

/* A branch to a block that is not linked or in the table yet: go on there, when it can be translated. */
static bool go_on_at(struct emu_vcpu *c, struct promoted *p, const struct promoted_mark *mark)
{
	const struct promoted_mark m = *mark;
	greg_t *g = gregs_of(p);
	uint64_t target = m.kind == PROMOTED_MISS ? (uint64_t)g[REG_R11] : m.pc;
	uint32_t entry = promoted_code(c, p, target);

	if (!entry)
		return false;
	if (m.kind == PROMOTED_LINK) {
		promoted_link(p, &m, entry);
	} else {
		g[REG_R11] = (greg_t)slots_of(p)[PROMOTED_SLOT_R11];
		g[REG_RCX] = (greg_t)slots_of(p)[PROMOTED_SLOT_RCX];
	}
	g[REG_RIP] = (greg_t)(p->child.code + entry);
	return promoted_sync(c, p) && resume(p);
}

static enum promote_next serve(struct emu_vcpu *c, struct promoted *p)
{
	struct emu_child *child = &p->child;

	for (;;) {
		const struct promoted_mark *m;
		struct promoted_mark at;
		enum promoted_map mapped;
		const greg_t *g;

		if (!child_wait(child))
			return died(c, p);
		g = gregs_of(p);
		m = promoted_mark_at(p, (uint64_t)g[REG_RIP] - (child->stopped_by == SIGTRAP));
		if (!m)
			return died(c, p);
		at = *m;
		switch (child->stopped_by) {
		case SIGTRAP:
			if (at.kind == PROMOTED_INSN)
				return leave(c, p, &at, PROMOTE_INTERPRET);
			if (go_on_at(c, p, &at))
				continue;
			return child->alive ? leave(c, p, &at, PROMOTE_INTERPRET) : died(c, p);
		case SIGSEGV:
			if (g[REG_TRAPNO] != TRAP_PF)
				return leave(c, p, &at, PROMOTE_INTERPRET);
			mapped = promoted_map(c, p, (uint64_t)g[REG_CR2], g[REG_ERR] & VC_PF_W);
			p->stops++;
			if (mapped == PROMOTED_MAPPED)
				continue;
			return mapped == PROMOTED_DIED ? died(c, p) : leave(c, p, &at, PROMOTE_INTERPRET);
		case SIGALRM:
		case CHILD_SIGNAL_KICK:
			return leave(c, p, &at, PROMOTE_AGAIN);
		default:
			return leave(c, p, &at, PROMOTE_INTERPRET);
		}
	}
}

enum promote_next promote_run(struct emu_vcpu *c)
{
	struct promote *m = c->promote;
	unsigned i = index_of(m, root_of(c));
	struct promoted *p;
	uint32_t entry;

	if (!plain(c))
		return PROMOTE_NO;
	if (i == CHILDREN && policy(c) == EMU_PROMOTE_ALWAYS && !m->impossible) {
		promote(c, root_of(c));
		i = index_of(m, root_of(c));
	}
	if (i == CHILDREN || m->child[i]->dormant)
		return PROMOTE_NO;
	p = m->child[i];
	if (p->version != atomic_load(&c->bvm->env.mem->version) || !promoted_fits(c, p)) {
		demote(m, p);
		return PROMOTE_NO;
	}
	if (!choose_vectors(c, p) || !promoted_sync(c, p))
		return PROMOTE_NO;
	if (!promoted_code_check(c, p) && policy(c) == EMU_PROMOTE_HOT) {
		p->dormant = true;
		find_candidate(m, p->root)->ticks = 0;
		return PROMOTE_NO;
	}
	entry = promoted_code(c, p, c->s.rip);
	if (!entry)
		return PROMOTE_INTERPRET;
	/* what was translated may not be written to from now on */
	if (!promoted_sync(c, p) || !set_fs(c, p)) {
		demote(m, p);
		return PROMOTE_NO;
	}
	place_on_cpus(m, p);
	state_in(c, p, entry);
	atomic_store(&m->running, p->child.pid);
	if (wanted(c)) {
		atomic_store(&m->running, 0);
		return PROMOTE_AGAIN;
	}
	p->entered = now_ns();
	if (!resume(p))
		return died(c, p);
	return serve(c, p);
}
