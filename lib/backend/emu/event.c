/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Raising of exceptions, and the serial, double- and triple-fault rules of their delivery (SDM vol. 3, chapter 6). */
#include "backend/emu/vcpu.h"
#include "backend/paging.h"

/* ---- raising ---- */

/* Vectors that push an error code. */
#define WITH_ERROR (1u << VC_DF | 1u << VC_TS | 1u << VC_NP | 1u << VC_SSF | 1u << VC_GP | 1u << VC_PF | 1u << VC_AC)

static void raise_exception(struct emu_vcpu *c, const struct emu_exception *e) __attribute__((noreturn));
static void raise_exception(struct emu_vcpu *c, const struct emu_exception *e)
{
	c->exc = *e;
	longjmp(*c->unwind, EMU_UNWIND_EXCEPTION);
}

void emu_raise(struct emu_vcpu *c, enum vc_vector vector)
{
	raise_exception(c, &(struct emu_exception){.vector = (uint8_t)vector, .has_error = WITH_ERROR >> vector & 1});
}

void emu_raise_error(struct emu_vcpu *c, enum vc_vector vector, uint32_t error)
{
	raise_exception(c, &(struct emu_exception){.vector = (uint8_t)vector, .has_error = true, .error = error});
}

void emu_raise_pf(struct emu_vcpu *c, uint64_t cr2, uint32_t error)
{
	/* nothing of the guest's: run_loop() waits for it */
	if (vc_unlikely(error == VC_PF_MISSING))
		emu_leave(c);
	raise_exception(c, &(struct emu_exception){.vector = VC_PF, .has_error = true, .error = error, .cr2 = cr2});
}

void emu_raise_debug(struct emu_vcpu *c, uint64_t dr6, bool trap)
{
	if (trap)
		c->in_block = false;
	raise_exception(c, &(struct emu_exception){.vector = VC_DB, .trap = trap, .dr6 = dr6});
}

void emu_leave(struct emu_vcpu *c)
{
	longjmp(*c->unwind, EMU_UNWIND_EXIT);
}

void emu_retry_single(struct emu_vcpu *c)
{
	longjmp(*c->unwind, EMU_UNWIND_RETRY);
}

void emu_come_again(struct emu_vcpu *c)
{
	longjmp(*c->unwind, EMU_UNWIND_AGAIN);
}

/* ---- delivery ---- */

/* SDM vol. 3, table 6-4 */
enum severity { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

static enum severity severity_of(uint8_t vector)
{
	switch (vector) {
	case VC_DE:
	case VC_TS:
	case VC_NP:
	case VC_SSF:
	case VC_GP:
		return CONTRIBUTORY;
	case VC_PF:
		return PAGE_FAULT;
	case VC_DF:
		return DOUBLE_FAULT;
	default:
		return BENIGN;
	}
}

/* SDM vol. 3, table 6-5 */
static bool makes_double_fault(enum severity first, enum severity second)
{
	return (first == CONTRIBUTORY && second == CONTRIBUTORY) || (first == PAGE_FAULT && second != BENIGN);
}

/* What is delivered at the moment. */
struct delivery {
	struct emu_event event;
	enum severity severity;
};

/*
 * Whether the saved image has RF set: a fault's does, so that its instruction breakpoint does not hit again on return;
 * that of a trap, and of the fault an instruction breakpoint itself is, has RF as it was (SDM vol. 3, 17.3.1.1).
 */
static bool sets_rf(const struct emu_exception *x)
{
	if (x->trap || x->vector == VC_DF)
		return false;
	return x->vector != VC_DB || x->dr6 & EMU_DR6_BD;
}

static uint64_t saved_flags(const struct emu_vcpu *c, const struct emu_exception *x)
{
	uint64_t rflags = emu_rflags(c);

	if (x->len) /* behind a completed instruction */
		return rflags & ~(uint64_t)VC_FLAG_RF;
	return sets_rf(x) ? rflags | VC_FLAG_RF : rflags;
}

/* c->exc as an event; its registers are written: CR2 and DR6 change even if its delivery fails. */
static void take_exception(struct emu_vcpu *c, struct delivery *d)
{
	const struct emu_exception *x = &c->exc;

	if (x->vector == VC_PF)
		c->s.cr2 = x->cr2;
	if (x->vector == VC_DB) {
		c->s.dr6 = (c->s.dr6 & ~(uint64_t)EMU_DR6_B) | x->dr6;
		c->s.dr7 &= ~(uint64_t)EMU_DR7_GD;
	}
	d->severity = severity_of(x->vector);
	d->event = (struct emu_event){
	    .vector = x->vector,
	    .has_error = x->has_error,
	    .soft = x->soft,
	    .error = x->error,
	    .rip = (c->s.rip + x->len) & (x->len ? emu_ip_mask(c) : ~0ull),
	    .rflags = saved_flags(c, x),
	};
}

/* c->exc came up during the delivery of d: what to deliver now. False: triple fault. */
static bool combine(struct emu_vcpu *c, struct delivery *d)
{
	struct emu_exception *x = &c->exc;
	enum severity second = severity_of(x->vector);

	if (!d->event.soft && (second == CONTRIBUTORY && x->has_error))
		x->error |= 1; /* EXT */
	if (d->severity == DOUBLE_FAULT && second != BENIGN)
		return false;
	if (makes_double_fault(d->severity, second)) {
		if (x->vector == VC_PF)
			c->s.cr2 = x->cr2;
		*x = (struct emu_exception){.vector = VC_DF, .has_error = true};
	}
	take_exception(c, d);
	return true;
}

/* 0, or what it was unwound with. */
static int attempt(struct emu_vcpu *c, const struct emu_event *event)
{
	jmp_buf *const outer = c->unwind;
	jmp_buf here;
	int why = setjmp(here);

	if (!why) {
		c->unwind = &here;
		emu_deliver(c, event);
	}
	c->unwind = outer;
	return why;
}

enum outcome { DELIVERED, REPLACED /* by another event */, LEFT /* for the program */, TRIPLE_FAULT };

/* One round: the event of d, or what comes of it. */
static enum outcome deliver_once(struct emu_vcpu *c, struct delivery *d)
{
	switch (attempt(c, &d->event)) {
	case 0:
		return DELIVERED;
	case EMU_UNWIND_EXIT:
		return LEFT;
	case EMU_UNWIND_RETRY:
		return REPLACED;
	default:
		return combine(c, d) ? REPLACED : TRIPLE_FAULT;
	}
}

/* Keep an exception for the next run; a soft one comes again with its instruction. */
static void keep_exception(struct emu_vcpu *c, const struct emu_event *e)
{
	c->s.exception_pending = !e->soft;
	c->s.exception_vector = e->vector;
	c->s.exception_has_error = e->has_error;
	c->s.exception_error = e->error;
}

static bool deliver_exceptions(struct emu_vcpu *c, struct delivery *d)
{
	enum outcome o;

	do {
		o = deliver_once(c, d);
	} while (o == REPLACED);
	if (o == LEFT)
		keep_exception(c, &d->event);
	return o != TRIPLE_FAULT;
}

bool emu_deliver_exception(struct emu_vcpu *c)
{
	struct delivery d;

	c->in_block = false;
	take_exception(c, &d);
	return deliver_exceptions(c, &d);
}

/* An external event; *left: it must be delivered again. */
static bool deliver_external(struct emu_vcpu *c, uint8_t vector, bool *left)
{
	struct delivery d = {
	    .event = {.vector = vector, .rip = c->s.rip, .rflags = emu_rflags(c)},
	    .severity = BENIGN,
	};

	*left = false;
	c->in_block = false;
	switch (deliver_once(c, &d)) {
	case DELIVERED:
		return true;
	case LEFT:
		*left = true;
		return true;
	case REPLACED:
		return deliver_exceptions(c, &d);
	default:
		return false;
	}
}

bool emu_deliver_interrupt(struct emu_vcpu *c, uint8_t vector)
{
	bool left, alive = deliver_external(c, vector, &left);

	c->s.interrupt_injected = left;
	c->s.interrupt_vector = vector;
	c->s.interrupt_soft = 0;
	return alive;
}

bool emu_deliver_nmi(struct emu_vcpu *c)
{
	bool left, alive;

	c->s.nmi_masked = 1;
	alive = deliver_external(c, VC_NMI, &left);
	if (left) {
		c->s.nmi_masked = 0;
		c->s.nmi_pending = 1;
	}
	return alive;
}
