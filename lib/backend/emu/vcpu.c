/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The run loop of backend emu: requests, events, halts, breakpoints, and handing over to the engine. */
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <xmmintrin.h>

#include "backend/emu/hook.h"
#include "backend/emu/jit/jit.h"
#include "backend/emu/lockstep.h"
#include "backend/emu/mmu/mmu.h"
#include "backend/emu/promote/promote.h"
#include "backend/emu/vcpu.h"
#include "memory/missing.h"

/* So many PAUSEs take some microseconds, about what giving way costs when nobody else wants the CPU. */
#define PAUSES_TO_GIVE_WAY 512u
/* No more instructions than these to so many PAUSEs: the guest does nothing but spin. */
#define SPIN_INSTRUCTIONS (16 * PAUSES_TO_GIVE_WAY)
/*
 * A guest that still spins after so many times waits for a vcpu whose thread has no CPU. Yielding does not help that
 * one: the host's scheduler takes the spinners first, who have used so little. They stay away for a while instead, as
 * long as no request comes.
 */
#define YIELDS_TO_WAIT 4u
#define SPIN_WAIT_NS   100000

/* ---- breakpoints ---- */

void emu_debug_changed(struct emu_vcpu *c)
{
	struct emu_sys *sys = c->sys;
	bool by_program = sys->debug.flags & VCORE_DEBUG_HW_BREAK;

	memcpy(sys->dr, by_program ? sys->debug.dr : c->s.dr, sizeof sys->dr);
	sys->dr7 = by_program ? sys->debug.dr7 : c->s.dr7;
	sys->step_always = (sys->dr7 & EMU_DR7_ENABLED) || (sys->debug.flags & VCORE_DEBUG_SINGLE_STEP);
	sys->skip_break = false;
	c->attention = true;
	emu_mmu_watch(c);
}

int emu_backend_set_debug(struct vc_bvcpu *v, const struct vcore_debug *debug)
{
	struct emu_vcpu *c = emu_of(v);

	vc_gate_enter(&v->pass);
	c->sys->debug = *debug;
	emu_debug_changed(c);
	vc_gate_leave(&v->pass);
	return 0;
}

/* Instruction breakpoints at s.rip: DR6 bits. */
static uint64_t instruction_breaks(const struct emu_vcpu *c)
{
	const struct emu_sys *sys = c->sys;
	uint64_t linear = c->mode == EMU_MODE_64 ? c->s.rip : (uint32_t)(c->s.seg[VC_CS].base + c->s.rip);
	uint64_t hit = 0;

	for (unsigned i = 0; i < 4; i++)
		if ((sys->dr7 >> (2 * i) & 3) && !(sys->dr7 >> (16 + 4 * i) & 3) && sys->dr[i] == linear)
			hit |= 1ull << i;
	return hit;
}

/* ---- the run loop: each step says whether the run goes on ---- */

enum go { GO_ON, GO_AGAIN /* look at everything again */, RUN_ENDS };

static enum go end_run(struct emu_vcpu *c, enum vcore_exit_reason reason)
{
	c->exit->reason = reason;
	return RUN_ENDS;
}

static enum go end_by_request(struct emu_vcpu *c, enum vcore_exit_reason reason)
{
	vc_bvcpu_left(c->bvcpu, VC_LEFT_REQUEST);
	return end_run(c, reason);
}

static enum go debug_exit(struct emu_vcpu *c, uint32_t exception, uint64_t dr6)
{
	vc_bvcpu_left(c->bvcpu, VC_LEFT_DEBUG);
	c->exit->address = c->s.rip;
	c->exit->exception = exception;
	c->exit->dr6 = dr6;
	return end_run(c, VCORE_EXIT_DEBUG);
}

void emu_inside_again(struct emu_vcpu *c)
{
	if (vc_likely(!(atomic_load(c->requests) & EMU_REQ_DROP_WRITES)) || c->sys->never_leave)
		return;
	emu_drop_writes(c);
	/* Last: who waits for it goes on now. */
	atomic_fetch_and(c->requests, ~EMU_REQ_DROP_WRITES);
}

static void enter(struct emu_vcpu *c)
{
	vc_gate_enter(&c->bvcpu->pass);
	emu_inside_again(c);
}

/* Those of the bits that are set; they are not any more. */
static uint32_t take(struct emu_vcpu *c, uint32_t bits)
{
	if (!(atomic_load_explicit(c->requests, memory_order_relaxed) & bits))
		return 0;
	return atomic_fetch_and(c->requests, ~bits) & bits;
}

/* SDM vol. 3, 9.4.1 and 8.4.2: the bootstrap processor starts over, the others wait for a SIPI. */
static void take_init(struct emu_vcpu *c)
{
	vc_cpu_state_init(&c->s);
	if (c->bvcpu->lapic)
		vc_lapic_reset(c->bvcpu->lapic, true);
	c->s.mp_state = c->s.apic_base & EMU_APIC_BSP ? VC_MP_RUNNABLE : VC_MP_WAIT_SIPI;
	c->sys->db_pending = 0;
	c->sys->pv_eoi_set = false;
	c->interrupt_waiting = false;
	emu_bus_forget(c);
	emu_set_state(c, &c->s);
}

static void take_sipi(struct emu_vcpu *c)
{
	if (c->s.mp_state != VC_MP_WAIT_SIPI)
		return;
	vc_cpu_state_sipi(&c->s, (uint8_t)atomic_load(&c->bvcpu->sipi_vector));
	emu_set_state(c, &c->s);
}

static enum go serve_requests(struct emu_vcpu *c)
{
	uint32_t startup;

	if (!atomic_load_explicit(c->requests, memory_order_acquire))
		return GO_ON;
	emu_inside_again(c);
	if (take(c, VC_REQ_GATE)) {
		vc_gate_leave(&c->bvcpu->pass);
		enter(c);
	}
	if (take(c, VC_REQ_TLB)) {
		interp_flush(c);
		emu_tlb_flush_all(c);
	}
	take(c, VC_REQ_IRQ);
	take(c, VC_REQ_SMI); /* no system management mode: as if it did nothing */
	if (take(c, VC_REQ_NMI))
		c->s.nmi_pending = 1;
	/* In one look: a SIPI that came behind an INIT must not be taken before it. */
	startup = take(c, VC_REQ_INIT | VC_REQ_SIPI);
	if (startup & VC_REQ_INIT)
		take_init(c);
	if (startup & VC_REQ_SIPI)
		take_sipi(c);
	if (c->sys->restarting)
		return GO_ON;
	if (take(c, VC_REQ_PAUSE))
		return end_by_request(c, VCORE_EXIT_NONE);
	if (take(c, VC_REQ_KICK))
		return end_by_request(c, VCORE_EXIT_KICKED);
	if (take(c, VC_REQ_TIMEOUT))
		return end_by_request(c, VCORE_EXIT_TIMEOUT);
	return GO_ON;
}

static bool pic_waits(const struct emu_vcpu *c)
{
	struct vc_lapic *lapic = c->bvcpu->lapic;

	if (!c->bvm->pic || (lapic ? !vc_lapic_accepts_pic(lapic) : c->bvcpu->index != 0))
		return false;
	return vc_pic_pending(c->bvm->pic);
}

static bool interrupt_waits(struct emu_vcpu *c)
{
	emu_pv_eoi_collect(c);
	return atomic_load(&c->sys->injected) >= 0 || (c->bvcpu->lapic && vc_lapic_pending(c->bvcpu->lapic) >= 0) ||
	       pic_waits(c);
}

/* The vector to deliver, taken from whoever has it; -1: gone meanwhile. */
static int accept_interrupt(struct emu_vcpu *c)
{
	int vector = atomic_exchange(&c->sys->injected, -1);

	if (vector < 0 && pic_waits(c))
		vector = vc_pic_accept(c->bvm->pic);
	if (vector < 0 && c->bvcpu->lapic) {
		vector = vc_lapic_accept(c->bvcpu->lapic);
		if (vector >= 0)
			emu_pv_eoi_offer(c);
	}
	return vector;
}

static bool shadowed(const struct emu_vcpu *c)
{
	return c->s.shadow_sti || c->s.shadow_mov_ss;
}

/* Delivery has ended: the guest goes on, is dead, or the program must answer an access first. */
static enum go delivered(struct emu_vcpu *c, bool alive)
{
	emu_hook_forget(c);
	if (!alive) {
		vc_bvcpu_left(c->bvcpu, VC_LEFT_OTHER);
		c->exit->crash = VCORE_CRASH_TRIPLE_FAULT;
		snprintf(c->exit->message, sizeof c->exit->message, "triple fault at %#llx:%#llx",
		         (unsigned long long)c->s.seg[VC_CS].selector, (unsigned long long)c->s.rip);
		return end_run(c, VCORE_EXIT_CRASH);
	}
	return c->exit->reason != VCORE_EXIT_NONE ? RUN_ENDS : GO_AGAIN;
}

static enum go deliver_exception(struct emu_vcpu *c)
{
	const struct emu_exception *x = &c->exc;

	/* Debug traps that a load of SS held back come behind INT3 and INTO, and are lost with a fault. */
	if (!x->trap && !x->soft)
		c->sys->db_pending = 0;
	if (x->vector == VC_BP && x->len == 1 && (c->sys->debug.flags & VCORE_DEBUG_SW_BREAK))
		return debug_exit(c, VC_BP, 0);
	return delivered(c, emu_deliver_exception(c));
}

/* Debug traps of the instruction before: single step, data breakpoints, task switch (SDM vol. 3, 17.3.1). */
static enum go deliver_debug_trap(struct emu_vcpu *c)
{
	uint64_t dr6 = c->sys->db_pending;

	c->sys->db_pending = 0;
	if ((dr6 & 0xf) && (c->sys->debug.flags & VCORE_DEBUG_HW_BREAK))
		return debug_exit(c, VC_DB, dr6);
	c->exc = (struct emu_exception){.vector = VC_DB, .trap = true, .dr6 = dr6};
	return delivered(c, emu_deliver_exception(c));
}

/* What was on its way into the guest when the vcpu left, or when the state was set. */
static enum go deliver_started(struct emu_vcpu *c)
{
	struct vc_cpu_state *s = &c->s;

	if (s->exception_pending) {
		/* #BP and #OF come from INT3 and INTO alone, and RIP is still that of the instruction, as in KVM's state */
		bool soft = s->exception_vector == VC_BP || s->exception_vector == VC_OF;

		s->exception_pending = 0;
		c->exc = (struct emu_exception){.vector = s->exception_vector,
		                                .has_error = s->exception_has_error,
		                                .soft = soft,
		                                .len = soft,
		                                .error = s->exception_error,
		                                .cr2 = s->cr2};
		return delivered(c, emu_deliver_exception(c));
	}
	if (s->interrupt_injected) {
		s->interrupt_injected = 0;
		return delivered(c, emu_deliver_interrupt(c, s->interrupt_vector));
	}
	return GO_ON;
}

/* Events at an instruction boundary by priority (SDM vol. 3, table 6-2). */
static enum go deliver_events(struct emu_vcpu *c)
{
	struct emu_sys *sys = c->sys;
	enum go go = deliver_started(c);
	int vector;

	if (go != GO_ON)
		return go;
	if (sys->db_pending && !c->s.shadow_mov_ss)
		return deliver_debug_trap(c);
	if (c->s.nmi_pending && !c->s.nmi_masked && !shadowed(c)) {
		c->s.nmi_pending = 0;
		return delivered(c, emu_deliver_nmi(c));
	}
	c->interrupt_waiting = interrupt_waits(c);
	if (!c->interrupt_waiting || !(c->s.rflags & VC_FLAG_IF) || shadowed(c))
		return GO_ON;
	vector = accept_interrupt(c);
	if (vector < 0)
		return GO_ON;
	atomic_fetch_add_explicit(&c->bvcpu->interrupts, 1, memory_order_relaxed);
	return delivered(c, emu_deliver_interrupt(c, (uint8_t)vector));
}

/* ---- halted ---- */

/* What ends HLT (SDM vol. 2, HLT): an interrupt that is let through, NMI, a debug exception; KVM's hypercall KICK_CPU.
 */
static bool wakes(struct emu_vcpu *c)
{
	return c->s.exception_pending || c->s.interrupt_injected || c->sys->db_pending ||
	       (c->s.nmi_pending && !c->s.nmi_masked) || atomic_exchange(&c->sys->kicked, 0) ||
	       ((c->s.rflags & VC_FLAG_IF) && interrupt_waits(c));
}

static void sleep_until_requested(struct emu_vcpu *c)
{
	struct emu_sys *sys = c->sys;
	uint64_t since = vc_host_ns();

	vc_gate_leave(&c->bvcpu->pass);
	atomic_store(&sys->waiting, 1);
	while (!atomic_load(c->requests) && !atomic_load(&sys->kicked))
		syscall(SYS_futex, c->requests, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	atomic_store(&sys->waiting, 0);
	atomic_fetch_add_explicit(&c->bvcpu->halted_ns, vc_host_ns() - since, memory_order_relaxed);
	enter(c);
}

static enum go wait_for_event(struct emu_vcpu *c)
{
	if (c->s.mp_state == VC_MP_HALTED && wakes(c)) {
		c->s.mp_state = VC_MP_RUNNABLE;
		return GO_AGAIN;
	}
	if (c->bvm->irqchip == VCORE_IRQCHIP_NONE) {
		c->s.mp_state = VC_MP_RUNNABLE;
		return end_run(c, VCORE_EXIT_HALT);
	}
	emu_pv_steal_update(c);
	promote_unpin(c);
	sleep_until_requested(c);
	emu_pv_steal_start(c);
	return GO_AGAIN;
}

/* Nothing but the bits a sleeper waits for, so that it can be called from a signal handler. */
void emu_backend_notify(struct vc_bvcpu *v)
{
	struct emu_vcpu *c = emu_of(v);

	if (!c)
		return;
	atomic_store(&c->jit_poll, 1);
	promote_kick(c);
	if (atomic_load(&c->sys->waiting))
		syscall(SYS_futex, &v->requests, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void emu_ask(struct vc_bvcpu *v, uint32_t request)
{
	struct emu_vcpu *c = emu_of(v);

	atomic_fetch_or(&v->requests, request);
	if (c) {
		atomic_store(&c->jit_poll, 1);
		promote_kick(c);
	}
}

/* ---- memory that is still to come ---- */

/* Until the page is there, or somebody wants something; both end the futex's wait. */
static void await_page(struct emu_vcpu *c)
{
	struct emu_sys *sys = c->sys;
	struct vc_slot *slot = sys->awaited;

	sys->awaited = NULL;
	promote_unpin(c);
	vc_gate_leave(&c->bvcpu->pass);
	vc_missing_await(slot, sys->awaited_gpa);
	atomic_store(&sys->waiting, 1);
	while (!atomic_load(c->requests) && vc_missing_is_absent(slot, sys->awaited_gpa))
		syscall(SYS_futex, c->requests, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	atomic_store(&sys->waiting, 0);
	vc_missing_leave(slot);
	enter(c);
}

/* The instruction left: for the program, or to wait for a page. */
static enum go left(const struct emu_vcpu *c)
{
	return c->sys->awaited && c->exit->reason == VCORE_EXIT_NONE ? GO_AGAIN : RUN_ENDS;
}

/* ---- executing ---- */

void emu_spinning(struct emu_vcpu *c)
{
	struct emu_sys *sys = c->sys;

	if (++sys->pauses < PAUSES_TO_GIVE_WAY || c->bvm->vcpus == 1)
		return;
	sys->pauses = 0;
	sys->yields = c->icount - sys->spin_icount <= SPIN_INSTRUCTIONS ? sys->yields + 1 : 0;
	sys->spin_icount = c->icount;
	sys->give_way = c->attention = true;
}

static void give_way(struct emu_vcpu *c)
{
	static const struct timespec limit = {.tv_nsec = SPIN_WAIT_NS};
	struct emu_sys *sys = c->sys;

	sys->give_way = false;
	vc_gate_leave(&c->bvcpu->pass);
	if (sys->yields < YIELDS_TO_WAIT) {
		sched_yield();
	} else {
		atomic_store(&sys->waiting, 1);
		syscall(SYS_futex, c->requests, FUTEX_WAIT_PRIVATE, 0, &limit, NULL, 0);
		atomic_store(&sys->waiting, 0);
	}
	enter(c);
}

/* One instruction is over, without a fault. */
static enum go stepped(struct emu_vcpu *c, bool trap_flag)
{
	struct emu_sys *sys = c->sys;

	emu_bus_forget(c);
	sys->skip_break = false;
	/* A load of SS holds back the trap until the instruction behind it (SDM vol. 3, 6.8.3). */
	if (trap_flag && !c->s.shadow_mov_ss && !sys->trap_flag_spent)
		sys->db_pending |= EMU_DR6_BS;
	if (!(sys->debug.flags & VCORE_DEBUG_SINGLE_STEP))
		return GO_AGAIN;
	/* Data breakpoints of the program's are told with the step; the guest's own traps wait for the next run. */
	return debug_exit(c, VC_DB, EMU_DR6_BS | (sys->debug.flags & VCORE_DEBUG_HW_BREAK ? sys->db_pending & 0xf : 0));
}

static enum go break_before(struct emu_vcpu *c)
{
	/* A load of SS holds back instruction breakpoints too (SDM vol. 3, 6.8.3). */
	bool looks = c->sys->step_always && !(c->s.rflags & VC_FLAG_RF) && !c->sys->skip_break && !c->s.shadow_mov_ss;
	uint64_t hit = looks ? instruction_breaks(c) : 0;

	if (!hit)
		return GO_ON;
	if (c->sys->debug.flags & VCORE_DEBUG_HW_BREAK) {
		c->sys->skip_break = true;
		return debug_exit(c, VC_DB, hit);
	}
	c->exc = (struct emu_exception){.vector = VC_DB, .dr6 = hit};
	return delivered(c, emu_deliver_exception(c));
}

/* One instruction by itself: in an interrupt shadow, with TF, with breakpoints, and after an answer of the program. */
static enum go step(struct emu_vcpu *c)
{
	struct vc_cpu_state *s = &c->s;
	uint8_t shadow_sti = s->shadow_sti, shadow_mov_ss = s->shadow_mov_ss;
	uint64_t flags = s->rflags;
	enum go go = break_before(c);
	enum emu_stop stop;

	if (go != GO_ON)
		return go;
	/* RF is for this instruction only; it may load RF itself. */
	s->rflags &= ~(uint64_t)VC_FLAG_RF;
	s->shadow_sti = s->shadow_mov_ss = 0;
	c->sys->trap_flag_spent = false;
	c->stepping = true;
	stop = interp_run(c);
	c->stepping = false;
	switch (stop) {
	case EMU_STOP_EVENTS:
		return stepped(c, flags & VC_FLAG_TF);
	case EMU_STOP_EXCEPTION:
		emu_bus_forget(c);
		return deliver_exception(c);
	default:
		s->shadow_sti = shadow_sti;
		s->shadow_mov_ss = shadow_mov_ss;
		s->rflags |= flags & VC_FLAG_RF;
		return stop == EMU_STOP_AGAIN ? GO_AGAIN : left(c);
	}
}

static enum go execute(struct emu_vcpu *c)
{
	const struct emu_sys *sys = c->sys;
	enum emu_stop stop;

	if (sys->restarting || sys->step_always || shadowed(c) || (c->s.rflags & VC_FLAG_TF))
		return step(c);
	c->s.rflags &= ~(uint64_t)VC_FLAG_RF;
	stop = c->lockstep ? emu_lockstep_run(c) : c->jit ? jit_run(c) : interp_run(c);
	if (stop == EMU_STOP_EXCEPTION)
		return deliver_exception(c);
	return stop == EMU_STOP_EXIT ? left(c) : GO_AGAIN;
}

static void publish_counters(struct emu_vcpu *c)
{
	atomic_store_explicit(&c->bvcpu->instructions, c->icount, memory_order_relaxed);
	atomic_store_explicit(&c->bvcpu->tlb_fills, c->mmu->fills, memory_order_relaxed);
	atomic_store_explicit(&c->bvcpu->calls, c->jit_called, memory_order_relaxed);
	atomic_store_explicit(&c->bvcpu->bails, c->jit_bails, memory_order_relaxed);
	atomic_store_explicit(&c->bvcpu->untranslated, c->jit_untranslated, memory_order_relaxed);
	if (c->promote)
		promote_publish_counters(c);
}

static void run_loop(struct emu_vcpu *c)
{
	enum go go;

	do {
		c->attention = false;
		publish_counters(c);
		if (c->sys->give_way)
			give_way(c);
		if (vc_unlikely(c->sys->awaited))
			await_page(c);
		go = serve_requests(c);
		if (go == GO_ON)
			emu_pv_steal_update(c);
		if (go == GO_ON && c->s.mp_state != VC_MP_RUNNABLE)
			go = wait_for_event(c);
		/* The instruction that left for the program is finished before anything else may come. */
		if (go == GO_ON && !c->sys->restarting)
			go = deliver_events(c);
		if (go == GO_ON)
			go = execute(c);
	} while (go != RUN_ENDS);
}

int emu_backend_run(struct vc_bvcpu *v, struct vcore_exit *exit)
{
	struct emu_vcpu *c = emu_of(v);

	emu_bus_answer(c, exit);
	*exit = (struct vcore_exit){.size = exit->size, .vcpu = v->index};
	c->exit = exit;
	atomic_store(&v->running, 1);
	enter(c);
	emu_vec_enter(c);
	c->jit_host_mxcsr = _mm_getcsr();
	emu_tsc_changed(c);
	emu_pv_steal_start(c);
	run_loop(c);
	promote_unpin(c);
	vc_gate_leave(&v->pass);
	atomic_store(&v->running, 0);
	vc_count(&v->exits);
	publish_counters(c);
	return 0;
}
