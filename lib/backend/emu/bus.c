/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Accesses to devices, and those that nobody answers.
 *
 * An access that the program must answer ends the run in the middle of an instruction. The next run executes the
 * instruction again from its start; the accesses it had completed, the answered one included, are then taken from a
 * record instead of being repeated.
 */
#include <stdio.h>
#include <stdlib.h>

#include "backend/emu/vcpu.h"

#define KVM_ENOSYS 1000

void emu_bus_forget(struct emu_vcpu *c)
{
	c->sys->done_count = c->sys->done_next = 0;
	c->sys->answer_wanted = c->sys->restarting = false;
}

void emu_bus_answer(struct emu_vcpu *c, const struct vcore_exit *exit)
{
	struct emu_sys *sys = c->sys;
	struct emu_done_access *last;

	if (!sys->answer_wanted)
		return;
	last = &sys->done[sys->done_count - 1];
	if (!last->write)
		last->data = exit->data;
	sys->answer_wanted = false;
	sys->restarting = true;
	sys->done_next = 0;
}

/* Records are of one execution of one instruction (one iteration of a REP, which is committed as it ends). */
static void begin_instruction(struct emu_vcpu *c)
{
	struct emu_sys *sys = c->sys;
	uint64_t rip = emu_rip(c), rcx = c->s.gpr[VC_RCX];

	if (sys->restarting || (sys->done_by.icount == c->icount && sys->done_by.rip == rip && sys->done_by.rcx == rcx))
		return;
	emu_bus_forget(c);
	sys->done_by.icount = c->icount;
	sys->done_by.rip = rip;
	sys->done_by.rcx = rcx;
}

static void tell_hooks(struct emu_vcpu *c, const struct vcore_io *io)
{
	if (vc_unlikely(c->bvm->hooks.list[VCORE_HOOK_PORT] != NULL) && vc_hooks_port(c->bvcpu, io))
		emu_inside_again(c);
}

/* The access was completed before. Hooks have not heard of a read yet that the program answered. */
static bool replay(struct emu_vcpu *c, struct vcore_io *io, uint64_t *value)
{
	struct emu_sys *sys = c->sys;
	struct emu_done_access *d;

	if (!sys->restarting || sys->done_next >= sys->done_count)
		return false;
	d = &sys->done[sys->done_next];
	if (d->bus != io->bus || d->address != io->address || d->width != io->width || d->write != !!io->is_write) {
		/* The program changed registers or memory: it is another instruction now. */
		sys->done_count = sys->done_next;
		return false;
	}
	sys->done_next++;
	*value = io->data = d->data;
	if (!d->told)
		tell_hooks(c, io);
	d->told = true;
	return true;
}

static bool record(struct emu_sys *sys, const struct vcore_io *io, bool is_write, bool told)
{
	if (!sys->done)
		sys->done = calloc(EMU_DONE_MAX, sizeof *sys->done);
	if (!sys->done || sys->done_count == EMU_DONE_MAX)
		return false;
	sys->done[sys->done_count++] = (struct emu_done_access){.address = io->address,
	                                                        .data = io->data,
	                                                        .bus = (uint8_t)io->bus,
	                                                        .width = (uint8_t)io->width,
	                                                        .write = is_write,
	                                                        .told = told};
	sys->done_next = sys->done_count;
	return true;
}

/* write: as the program sees it, to whom a hypercall is none. */
static void leave_for_program(struct emu_vcpu *c, const struct vcore_io *io, bool write)
    __attribute__((noreturn, cold));
static void leave_for_program(struct emu_vcpu *c, const struct vcore_io *io, bool write)
{
	static const enum vcore_exit_reason reasons[] = {[VCORE_BUS_PIO] = VCORE_EXIT_PIO,
	                                                 [VCORE_BUS_MMIO] = VCORE_EXIT_MMIO,
	                                                 [VCORE_BUS_HYPERCALL] = VCORE_EXIT_HYPERCALL};
	struct vcore_exit *exit = c->exit;

	exit->reason = reasons[io->bus];
	exit->vcpu = c->bvcpu->index;
	exit->address = io->address;
	exit->width = io->width;
	exit->is_write = write;
	exit->data = write ? io->data : 0;
	memcpy(exit->args, io->args, sizeof exit->args);
	if (record(c->sys, io, write, write)) {
		c->sys->answer_wanted = true;
	} else {
		exit->reason = VCORE_EXIT_CRASH;
		exit->crash = VCORE_CRASH_INTERNAL;
		snprintf(exit->message, sizeof exit->message, "one instruction makes too many accesses that nobody answers");
	}
	emu_leave(c);
}

/* False: nobody answers. What a read has given is in io->data. */
static inline bool dispatch(struct emu_vcpu *c, struct vcore_io *io, bool write)
{
	bool answered;

	if (write)
		tell_hooks(c, io);
	vc_count(&c->bvcpu->exits);
	vc_bvcpu_left(c->bvcpu, (enum vc_exit_kind)(VC_LEFT_PIO + io->bus));
	answered = vc_bus_dispatch(c->bvm->env.buses, &c->bvcpu->pass, io);
	vc_trace_access(c->bvcpu, io, answered);
	emu_inside_again(c);
	return answered;
}

static inline uint64_t finish(struct emu_vcpu *c, struct vcore_io *io, bool write, bool answered)
{
	if (!answered)
		io->data = io->bus == VCORE_BUS_HYPERCALL ? (uint64_t)-KVM_ENOSYS : UINT64_MAX;
	io->data &= vc_width_mask(io->width);
	if (!write)
		tell_hooks(c, io);
	return io->data;
}

static bool may_leave(const struct emu_vcpu *c)
{
	return c->bvm->unhandled == VCORE_UNHANDLED_EXIT && !c->sys->never_leave;
}

uint64_t emu_bus_access(struct emu_vcpu *c, enum vcore_bus bus, uint64_t address, unsigned width, bool write,
                        uint64_t value)
{
	struct vcore_io io = {.size = sizeof io,
	                      .bus = bus,
	                      .address = address,
	                      .data = write ? value : 0,
	                      .width = width,
	                      .is_write = write,
	                      .vcpu = c->bvcpu->handle};
	bool leaves = may_leave(c), answered;

	if (leaves) {
		begin_instruction(c);
		if (replay(c, &io, &value))
			return value;
	}
	answered = dispatch(c, &io, write);
	if (!answered && leaves)
		leave_for_program(c, &io, write);
	value = finish(c, &io, write, answered);
	if (leaves)
		record(c->sys, &io, write, true);
	return value;
}

/* Nothing need be recorded unless the program is to answer: when it is answered, the instruction is over. */
static inline uint64_t access_sole(struct emu_vcpu *c, struct vcore_io *io, bool write)
{
	bool answered = dispatch(c, io, write);

	if (!answered && may_leave(c)) {
		begin_instruction(c);
		leave_for_program(c, io, write);
	}
	return finish(c, io, write, answered);
}

uint64_t emu_bus_sole(struct emu_vcpu *c, enum vcore_bus bus, uint64_t address, unsigned width, bool write,
                      uint64_t value)
{
	struct vcore_io io = {
	    .bus = bus, .address = address, .data = value, .width = width, .is_write = write, .vcpu = c->bvcpu->handle};

	if (vc_unlikely(c->sys->restarting))
		return emu_bus_access(c, bus, address, width, write, value);
	return access_sole(c, &io, write);
}

uint64_t emu_bus_hypercall(struct emu_vcpu *c, uint64_t number, uint64_t mask)
{
	struct vcore_io io = {
	    .bus = VCORE_BUS_HYPERCALL,
	    .address = number,
	    .width = 8,
	    .vcpu = c->bvcpu->handle,
	    .args = {c->s.gpr[VC_RBX] & mask, c->s.gpr[VC_RCX] & mask, c->s.gpr[VC_RDX] & mask, c->s.gpr[VC_RSI] & mask}};
	uint64_t value;

	if (vc_unlikely(c->sys->restarting) && may_leave(c) && replay(c, &io, &value))
		return value;
	io.is_write = true; /* for its device */
	return access_sole(c, &io, false);
}
