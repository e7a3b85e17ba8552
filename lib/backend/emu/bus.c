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

static void leave_for_program(struct emu_vcpu *c, const struct vcore_io *io, const uint64_t *args)
    __attribute__((noreturn, cold));
static void leave_for_program(struct emu_vcpu *c, const struct vcore_io *io, const uint64_t *args)
{
	static const enum vcore_exit_reason reasons[] = {[VCORE_BUS_PIO] = VCORE_EXIT_PIO,
	                                                 [VCORE_BUS_MMIO] = VCORE_EXIT_MMIO,
	                                                 [VCORE_BUS_HYPERCALL] = VCORE_EXIT_HYPERCALL};
	struct vcore_exit *exit = c->exit;

	exit->reason = reasons[io->bus];
	exit->vcpu = c->bvcpu->index;
	exit->address = io->address;
	exit->width = io->width;
	exit->is_write = io->bus != VCORE_BUS_HYPERCALL && io->is_write;
	exit->data = exit->is_write ? io->data : 0;
	if (args)
		memcpy(exit->args, args, sizeof exit->args);
	if (record(c->sys, io, exit->is_write, exit->is_write)) {
		c->sys->answer_wanted = true;
	} else {
		exit->reason = VCORE_EXIT_CRASH;
		exit->crash = VCORE_CRASH_INTERNAL;
		snprintf(exit->message, sizeof exit->message, "one instruction makes too many accesses that nobody answers");
	}
	emu_leave(c);
}

uint64_t emu_bus_access(struct emu_vcpu *c, enum vcore_bus bus, uint64_t address, unsigned width, bool write,
                        uint64_t value, const uint64_t *args)
{
	struct vcore_io io = {.size = sizeof io,
	                      .bus = bus,
	                      .address = address,
	                      .data = write ? value : 0,
	                      .width = width,
	                      .is_write = write || args,
	                      .vcpu = c->bvcpu->handle};
	bool may_leave = c->bvm->unhandled == VCORE_UNHANDLED_EXIT && !c->sys->never_leave;
	bool answered;

	if (args)
		memcpy(io.args, args, sizeof io.args);
	if (may_leave) {
		begin_instruction(c);
		if (replay(c, &(struct vcore_io){.bus = bus, .address = address, .width = width, .is_write = write}, &value))
			return value;
	}
	if (write)
		tell_hooks(c, &io);
	vc_count(&c->bvcpu->exits);
	vc_bvcpu_left(c->bvcpu, (enum vc_exit_kind)(VC_LEFT_PIO + bus));
	answered = vc_bus_dispatch(c->bvm->env.buses, &c->bvcpu->pass, &io);
	vc_trace_access(c->bvcpu, &io, answered);
	emu_inside_again(c);
	if (!answered && may_leave)
		leave_for_program(c, &io, args);
	if (!answered)
		io.data = args ? (uint64_t)-KVM_ENOSYS : UINT64_MAX;
	io.data &= vc_width_mask(width);
	if (!write)
		tell_hooks(c, &io);
	if (may_leave)
		record(c->sys, &io, write, true);
	return io.data;
}
