/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Between vcpu.c, msr.c, hypercall.c, pv.c, mmu/ and event.c, segment.c, task.c, far.c, system*.c: what the engine's contract (emu.h) does not need.
 */
#ifndef VC_EMU_VCPU_H
#define VC_EMU_VCPU_H

#include "backend/emu/emu.h"
#include "backend/emu/event.h"

/* DR7, DR6 (SDM vol. 3, 17.2) */
#define EMU_DR7_ENABLED    0xffu /* L0-L3, G0-G3 */
#define EMU_DR6_BD         0x2000u
#define EMU_DR6_BS         0x4000u
#define EMU_DR6_BT         0x8000u
#define EMU_DR6_FIXED_ONES 0xffff0ff0u

/* Backend's own request: drop every write tag, because some page became a code page. */
#define EMU_REQ_DROP_WRITES ((uint32_t)VC_REQ_BACKEND)

/* One access to a bus that this instruction has completed; see emu_bus_access(). */
struct emu_done_access {
	uint64_t address, data;
	uint8_t bus, width;
	bool write;
};
#define EMU_DONE_MAX 128

/* bvm->priv */
struct emu_vm {
	_Atomic uint32_t markers; /* vcpus that wait for write tags to be dropped, see emu_code_mark() */
};

struct emu_sys {
	/* debugging */
	uint64_t db_pending;      /* DR6 bits of debug traps to deliver behind the current instruction */
	struct vcore_debug debug; /* vcore_vcpu_set_debug(); flags 0: off */
	uint64_t dr[4], dr7;      /* breakpoints in force: the guest's, or the program's */
	bool step_always;         /* breakpoints are armed: one instruction at a time */
	bool skip_break;          /* the instruction breakpoint at s.rip was reported already */

	/* interrupts */
	bool interrupt_waiting;      /* something is deliverable once IF and the shadow allow: handlers that set IF then set attention */
	_Atomic uint32_t waiting;    /* asleep in wait_for_event() */
	_Atomic uint32_t unhalted;   /* KVM_HC_KICK_CPU arrived */
	_Atomic int32_t injected;    /* vector by vcore_vcpu_interrupt(); -1: none */
	bool pv_eoi_set;             /* the PV EOI flag in guest memory is set */

	/* accesses completed by an instruction that had to leave for the program */
	struct emu_done_access *done; /* EMU_DONE_MAX entries, made at the first use */
	unsigned done_count, done_next;
	bool answer_wanted; /* the last entry's answer comes with the next run */
	bool restarting;    /* the next instruction is the one that left */
	uint64_t done_icount, done_rcx;
	const struct emu_insn *done_cur;

	/* time */
	uint64_t steal_checked, steal_wall, steal_cpu;
};

/* ---- vcpu.c ---- */
/* After a write of DR0-DR3 or DR7, by the guest or from outside: arms breakpoints. Sets attention. */
void emu_debug_changed(struct emu_vcpu *c);
/* Requests that must be served as soon as the vcpu is inside the gate again, wherever it is. */
void emu_inside_again(struct emu_vcpu *c);
bool emu_has(const struct emu_vcpu *c, enum vc_feature feature);

/* ---- bus.c ---- */
/*
 * One access to a bus, for port and MMIO accesses and hypercalls (args: RBX, RCX, RDX, RSI; else NULL). Reads (and hypercalls) return the value. Steps out of the gate, so no
 * pointer into guest memory may be kept across it. May leave for the program (emu_leave): then the instruction is executed again with the
 * program's answer, and accesses that it has completed are not repeated.
 */
uint64_t emu_bus_access(struct emu_vcpu *c, enum vcore_bus bus, uint64_t address, unsigned width, bool write, uint64_t value,
                        const uint64_t *args);
/* The instruction is over: forget its accesses. */
void emu_bus_forget(struct emu_vcpu *c);

/* ---- msr.c ---- */
/* 0, or -EINVAL for what raises #GP(0): no such MSR, reserved bits, a non-canonical address. */
int emu_rdmsr(struct emu_vcpu *c, uint32_t index, uint64_t *value);
int emu_wrmsr(struct emu_vcpu *c, uint32_t index, uint64_t value);

/* ---- hypercall.c ---- */
/* VMCALL/VMMCALL: reads the arguments from registers, sets RAX. May leave for the program. */
void emu_hypercall(struct emu_vcpu *c);

/* ---- interp/ ---- */
/* [gpa, gpa+len) holds bytes of the block that is being executed. */
bool interp_in_current_block(struct emu_vcpu *c, uint64_t gpa, unsigned len);

#endif
