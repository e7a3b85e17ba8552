/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Exceptions and interrupts of an emulated vcpu: how they are raised (see also emu.h) and how they reach the guest.
 */
#ifndef VC_EMU_EVENT_H
#define VC_EMU_EVENT_H

#include "backend/emu/emu.h"

/* #DB: bits for DR6. trap: s.rip already points behind the instruction and c->in_block is ignored. */
void emu_raise_debug(struct emu_vcpu *c, uint64_t dr6, bool trap) __attribute__((noreturn, cold));

/*
 * Deliver an event between instructions: s.rip is where it goes back to (for an exception with exc.len: the instruction
 * itself). A fault on the way is delivered instead, by the rules for double faults (SDM vol. 3, 6.15).
 *
 * False: triple fault. True: the guest's state is that at the handler's first instruction, or, when an access on the
 * way had to leave for the program, c->exit is filled and the event waits in s.exception_pending, s.interrupt_injected
 * or s.nmi_pending to be delivered again.
 *
 * emu_deliver_exception() takes c->exc and writes CR2 and DR6 from it.
 */
bool emu_deliver_exception(struct emu_vcpu *c);
bool emu_deliver_interrupt(struct emu_vcpu *c, uint8_t vector);
bool emu_deliver_nmi(struct emu_vcpu *c); /* masks NMIs until IRET */

/* ---- between event.c, delivery.c, task.c and the system instructions ---- */

#define EMU_DR6_B  0xfu    /* B0-B3 */
#define EMU_DR7_GD 0x2000u /* general detect */

/* One event on its way through the IDT. */
struct emu_event {
	uint8_t vector;
	bool has_error;
	bool soft; /* INT n, INT3, INTO */
	uint32_t error;
	uint64_t rip;    /* return address */
	uint64_t rflags; /* image to be saved */
};

/* Through the IVT or IDT, in the current mode. Raises what delivery raises, with nothing committed; error codes without
 * the EXT bit. */
void emu_deliver(struct emu_vcpu *c, const struct emu_event *e);
/* Through a table of real-mode vectors: the IVT, or that of a virtual-8086 task (VME). clear: flags to clear after
 * saving. */
void emu_deliver_ivt(struct emu_vcpu *c, uint64_t table, const struct emu_event *e, uint64_t clear);

#endif
