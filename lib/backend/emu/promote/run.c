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
#include "memory/image.h"

#define CANDIDATES  16u
#define CHILDREN    4u
#define TICK_NS     1000000u /* interruptions closer to each other count as one */
#define HOT_TICKS   3u       /* interruptions in ring 3 that make a space worth it */
#define OWN_TICKS   50u      /* ... and a copy of memory that is a snapshot's: a quarter of a second at 200 Hz */
#define ASK_NS      100000000u
#define WINDOW      256u    /* stops, but for translation, after which it is asked whether it still is */
#define STOP_NS     8000u   /* what a stop costs besides being served */
#define SLEEP_TICKS 8u      /* how long it is left alone, if not; doubled each time */
#define SHORT_NS    300000u /* so often stopped, it stays on the vcpu's CPU */
#define FLUSHES     4u      /* of code since it was last woken: it writes its own */
#define ROOT_MASK   0x000ffffffffff000ull
#define TRAP_PF     14

struct candidate {
	uint64_t root;
	uint64_t identity; /* see identity_of() */
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
	uint64_t count, stops;
	uint64_t asked;  /* when memory of the vm's own was asked for */
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

void promote_unpin(struct emu_vcpu *c)
{
	if (c->promote)
		unpin(c->promote);
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

/*
 * What the root maps of the lower half, in one number. Guests use the page of a process that has ended as the root of
 * the next one, for which nothing holds that was found out about the last.
 */
static uint64_t identity_of(struct emu_vcpu *c, uint64_t root)
{
	const struct vc_slot *slot = emu_find_slot(c, root);
	uint64_t sum = 0, entry;

	if (!slot)
		return 0;
	for (unsigned i = 0; i < 256; i++) {
		memcpy(&entry, slot->hva + (root - slot->gpa) + i * sizeof entry, sizeof entry);
		sum = (sum ^ (entry & ROOT_MASK)) * 0x9e3779b97f4a7c15u;
	}
	return sum;
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

/* Leave it to the translator for a while. What was translated stays. */
static void rest(struct promote *m, struct promoted *p)
{
	struct candidate *k = find_candidate(m, p->root);

	k->ticks = 0;
	k->asleep = SLEEP_TICKS << (k->failures < 8 ? k->failures : 8);
	k->failures++;
	p->dormant = true;
	unpin(m);
}

/* It cannot go on, or may not. */
static void demote(struct promote *m, struct promoted *p)
{
	unsigned i = index_of(m, p->root);

	rest(m, p);
	m->child[i] = NULL;
	promoted_free(p);
}

/*
 * Memory that derives from a snapshot is this process's alone, until it has been copied. That takes long, and much
 * memory: it is asked for when it would have paid already.
 */
static bool must_own(struct emu_vcpu *c, bool ask)
{
	struct promote *m = c->promote;
	const struct vc_mem *mem = c->bvm->env.mem;
	bool must = false;

	for (uint32_t i = 0; i < mem->count; i++)
		must |= vc_image_may_own(mem->slots[i]);
	if (!must || !ask || !c->bvm->want_own_memory || now_ns() - m->asked < ASK_NS)
		return must;
	m->asked = now_ns();
	c->bvm->want_own_memory(c->bvm);
	return true;
}

/* The policy is the vm's; whether it can be done turns out here. */
static void promote(struct emu_vcpu *c, uint64_t root)
{
	struct promote *m = c->promote;
	struct promoted *p;
	int fds[CHILD_SLOTS_MAX], r = -ENOMEM;

	/* pages that are still to come are missing in this process alone */
	if (promoted_must_wait(c) || !(p = calloc(1, sizeof *p)))
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
		vc_log(c->bvm->env.log, VCORE_LOG_INFO, "no address space can be promoted here: %s", strerror(-r));
		m->impossible = true;
		promoted_free(p);
		return;
	}
	m->count++;
	p->context = 0;
	p->kill_all = true;
	if (m->child[m->next_child])
		unpin(m);
	promoted_free(m->child[m->next_child]);
	m->child[m->next_child] = p;
	m->next_child = (m->next_child + 1) % CHILDREN;
}

/* What its process executed for since it was last asked. Time on the clock would count waiting for a CPU. */
static uint64_t cpu_time(struct promoted *p)
{
	uint64_t before = p->cpu_ns;
	struct timespec t;
	clockid_t clock;

	if (clock_getcpuclockid(p->child.pid, &clock) != 0 || clock_gettime(clock, &t) < 0)
		return 0;
	p->cpu_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	return p->cpu_ns - before;
}

static void wake(struct promote *m, struct promoted *p)
{
	m->count++;
	p->dormant = false;
	p->flushes = p->stops = p->past_stops = 0;
	p->executed_ns = p->served_ns = p->slice_ns = 0;
	cpu_time(p);
}

void promote_tick(struct emu_vcpu *c)
{
	struct promote *m = c->promote;
	uint64_t now = now_ns(), root = root_of(c), identity;
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
	identity = identity_of(c, root);
	if (k->identity != identity)
		*k = (struct candidate){.root = root, .identity = identity};
	if (k->asleep)
		k->asleep--;
	else if (++k->ticks >= HOT_TICKS && i < CHILDREN)
		wake(m, m->child[i]);
	else if (k->ticks >= HOT_TICKS && !must_own(c, k->ticks >= OWN_TICKS))
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

void promote_publish_counters(struct emu_vcpu *c)
{
	atomic_store_explicit(&c->bvcpu->promoted, c->promote->count, memory_order_relaxed);
	atomic_store_explicit(&c->bvcpu->promoted_stops, c->promote->stops, memory_order_relaxed);
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

/* ---- running ---- */

static bool wanted(const struct emu_vcpu *c)
{
	return atomic_load(c->requests) || c->attention;
}

/* Nothing is on that only the other engines look at. */
static bool plain(const struct emu_vcpu *c)
{
	return c->mode == EMU_MODE_64 && !(emu_rflags(c) & (VC_FLAG_TF | VC_FLAG_AC)) && !c->mmu->slow_data &&
	       !c->mmu->watch_count && !c->stepping && !c->once && !c->shadow && !c->lockstep && !c->sys->step_always &&
	       !emu_hooks_on(c) && !c->bvm->hooks.list[VCORE_HOOK_MEMORY];
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

/* More is spent on stops than on executing, where the translator would take two or three times as long for that; or its
 * code does not last. */
static bool not_worth_it(struct promote *m, struct promoted *p)
{
	bool not_worth;

	if (p->stops < WINDOW)
		return p->flushes > FLUSHES;
	p->executed_ns += cpu_time(p);
	not_worth = p->executed_ns < p->served_ns + 2 * (p->stops + p->past_stops) * STOP_NS;
	/* what was weighs half: a program that reads its next block is as hot as before */
	p->past_stops = (p->past_stops + p->stops) / 2;
	p->stops = 0;
	p->executed_ns /= 2;
	p->served_ns /= 2;
	if (!not_worth)
		find_candidate(m, p->root)->failures = 0;
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

static enum promote_next leave(struct emu_vcpu *c, struct promoted *p, const struct promoted_mark *m,
                               enum promote_next next)
{
	atomic_store(&c->promote->running, 0);
	p->stops++;
	promoted_state_out(c, p, m);
	if (policy(c) == EMU_PROMOTE_HOT && not_worth_it(c->promote, p))
		rest(c->promote, p);
	return next;
}

/* A branch to a block that is not linked or in the table yet: go on there, when it can be translated. */
static bool go_on_at(struct emu_vcpu *c, struct promoted *p, const struct promoted_mark *mark)
{
	const struct promoted_mark m = *mark;
	greg_t *g = promoted_gregs(p);
	uint64_t target = m.kind == PROMOTED_MISS ? (uint64_t)g[REG_R11] : m.pc;
	uint32_t entry = promoted_code(c, p, target);

	if (!entry)
		return false;
	if (m.kind == PROMOTED_LINK) {
		promoted_link(p, &m, entry);
	} else {
		g[REG_R11] = (greg_t)promoted_slots(p)[PROMOTED_SLOT_R11];
		g[REG_RCX] = (greg_t)promoted_slots(p)[PROMOTED_SLOT_RCX];
	}
	g[REG_RIP] = (greg_t)(p->child.code + entry);
	return promoted_sync(c, p) && resume(p);
}

static enum promote_next serve(struct emu_vcpu *c, struct promoted *p)
{
	struct emu_child *child = &p->child;
	uint64_t stopped = 0;

	for (;;) {
		const struct promoted_mark *m;
		struct promoted_mark at;
		uint64_t started;
		enum promoted_map mapped;
		const greg_t *g;

		started = now_ns();
		p->served_ns += stopped ? started - stopped : 0;
		if (!child_wait(child))
			return died(c, p);
		stopped = now_ns();
		p->slice_ns = stopped - started;
		c->promote->stops++;
		g = promoted_gregs(p);
		m = promoted_mark_at(p, (uint64_t)g[REG_RIP] - (child->stopped_by == SIGTRAP));
		if (!m)
			return died(c, p);
		at = *m;
		switch (child->stopped_by) {
		case SIGTRAP:
			if (at.kind == PROMOTED_INSN)
				return leave(c, p, &at, PROMOTE_INTERPRET);
			if (go_on_at(c, p, &at)) {
				stopped = 0; /* the translation stays: it says nothing about what is to come */
				continue;
			}
			return child->alive ? leave(c, p, &at, PROMOTE_INTERPRET) : died(c, p);
		case SIGSEGV:
			if (g[REG_TRAPNO] != TRAP_PF)
				return leave(c, p, &at, PROMOTE_INTERPRET);
			mapped = promoted_map(c, p, (uint64_t)g[REG_CR2], g[REG_ERR] & VC_PF_W);
			if (mapped == PROMOTED_MAPPED) {
				p->stops++;
				continue;
			}
			return mapped == PROMOTED_DIED ? died(c, p) : leave(c, p, &at, PROMOTE_INTERPRET);
		case SIGALRM:
		case CHILD_SIGNAL_KICK:
			return leave(c, p, &at, PROMOTE_AGAIN);
		default:
			/* the host maps no more pages: begin anew with those that are used */
			p->kill_all |= child->stopped_by < 0;
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
	if (i == CHILDREN && policy(c) == EMU_PROMOTE_ALWAYS && !m->impossible && !must_own(c, true)) {
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
	if (!choose_vectors(c, p))
		return PROMOTE_NO;
	if (!promoted_sync(c, p)) {
		demote(m, p);
		return PROMOTE_NO;
	}
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
	promoted_state_in(c, p, entry);
	atomic_store(&m->running, p->child.pid);
	if (wanted(c)) {
		atomic_store(&m->running, 0);
		return PROMOTE_AGAIN;
	}
	if (!resume(p))
		return died(c, p);
	return serve(c, p);
}
