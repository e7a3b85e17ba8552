/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Between vcpu.c, vm.c, msr.c, pv.c, bus.c, mmu/ and event.c, segment.c, task.c, far.c, system*.c: what the engine's
 * contract (emu.h) does not need.
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

/* One access to a bus that an instruction has completed; see emu_bus_access(). */
struct emu_done_access {
	uint64_t address, data;
	uint8_t bus, width;
	bool write;
	bool told; /* to hooks, as far as they want to know */
};
#define EMU_DONE_MAX 512u

/* The last execution of an instruction or block that hooks were called for; see emu_hook_code(). */
struct emu_hook_told {
	uint64_t linear, count;
	uint64_t next; /* number of the first hook that was not there yet */
};

/* An instruction that jit_plain() has decoded: by its bytes in a block, which are there until the next eviction. */
struct emu_plain {
	const uint8_t *code; /* NULL: none */
	uint64_t evictions;
	struct emu_insn insn;
};

/* Which address spaces are promoted (promote/). */
enum emu_promote { EMU_PROMOTE_NEVER, EMU_PROMOTE_HOT, EMU_PROMOTE_ALWAYS };

/* See tsc.c. */
struct emu_tsc_line {
	pthread_mutex_t lock; /* protects what follows */
	uint64_t host, guest, ratio;
	uint64_t first_host, first_guest;
	int64_t clock_offset; /* of the vm's clock: another one means that it stood still or was set */
	bool steady;          /* the host's TSC is */
};
bool emu_tsc_is_steady(void);

#define EMU_MARKERS 64u
/* bvm->priv */
struct emu_vm {
	/* by a hash of the page: vcpus that wait for write tags to be dropped, see emu_code_mark() */
	_Atomic uint32_t markers[EMU_MARKERS];
	struct jit_vm *jit; /* NULL: engine interp */
	enum emu_promote promote;
	struct emu_tsc_line tsc;
};

struct emu_sys {
	/* debugging */
	uint64_t db_pending;      /* DR6 bits of debug traps to deliver behind the current instruction */
	struct vcore_debug debug; /* vcore_vcpu_set_debug(); flags 0: off */
	uint64_t dr[4], dr7;      /* breakpoints in force: the guest's, or the program's */
	bool step_always;         /* breakpoints are armed: one instruction at a time */
	bool trap_flag_spent;     /* the instruction cleared TF by entering a handler (INT n, SYSCALL): no single-step trap
	                             behind it */
	bool skip_break;          /* the instruction breakpoint at s.rip was reported to the program already */

	/* interrupts */
	bool pv_eoi_set;          /* the PV EOI flag in guest memory is set */
	_Atomic uint32_t waiting; /* asleep in wait_for_event() */
	_Atomic uint32_t kicked;  /* KVM_HC_KICK_CPU came */
	_Atomic int32_t injected; /* vector by vcore_vcpu_interrupt(); -1: none */

	/* accesses completed by an instruction that had to leave for the program */
	struct emu_done_access *done; /* EMU_DONE_MAX entries, made at the first use */
	unsigned done_count, done_next;
	bool answer_wanted; /* the last entry's answer comes with the next run */
	bool restarting;    /* the next instruction is the one that left */
	bool never_leave;   /* vc_emu_step(): nobody could take the exit */
	struct {            /* which execution of which instruction they are of */
		uint64_t icount, rip, rcx;
	} done_by;

	struct emu_hook_told told[2]; /* VCORE_HOOK_CODE, VCORE_HOOK_BLOCK */
	struct emu_plain plain[16];

	unsigned pauses;         /* PAUSE instructions since the thread last gave way */
	struct vc_slot *awaited; /* a page of it is still to come, at awaited_gpa; NULL: none is waited for */
	uint64_t awaited_gpa;
	bool give_way;        /* ... enough of them: let another thread run */
	unsigned yields;      /* times in a row, with nothing but spinning in between */
	uint64_t spin_icount; /* icount at the last of them */

	/* steal time: host clocks when it was last looked at */
	uint64_t steal_wall, steal_cpu;
};

/* ---- vcpu.c ---- */
/* After a write of DR0-DR3 or DR7, by the guest or from outside: arms breakpoints. Sets attention. */
void emu_debug_changed(struct emu_vcpu *c);
/* Set a request of a running vcpu and have its engine look at it soon. Any thread. */
void emu_ask(struct vc_bvcpu *v, uint32_t request);
/* PAUSE: what the vcpu spins for may be up to another one whose thread does not get the CPU. */
void emu_spinning(struct emu_vcpu *c);
/* What must be served as soon as the vcpu is inside the gate again, wherever it is. */
void emu_inside_again(struct emu_vcpu *c);
static inline bool emu_has(const struct emu_vcpu *c, enum vc_feature feature)
{
	return vc_feature_has(&c->bvcpu->cpuid.features, feature);
}
/* ---- state.c ---- */
/* A new emulated vcpu around v, for emu_set_state(); and its end. Does not touch v->priv. */
int emu_vcpu_new(struct vc_bvcpu *v, struct emu_vcpu **vcpu);
void emu_vcpu_free(struct emu_vcpu *c);
/* The whole architectural state in and out; derived state follows. */
void emu_set_state(struct emu_vcpu *c, const struct vc_cpu_state *state);
void emu_get_state(struct emu_vcpu *c, struct vc_cpu_state *state);

/* struct vc_backend */
int emu_backend_vcpu_create(struct vc_bvcpu *v);
void emu_backend_vcpu_destroy(struct vc_bvcpu *v);
int emu_backend_run(struct vc_bvcpu *v, struct vcore_exit *exit);
void emu_backend_notify(struct vc_bvcpu *v);
int emu_backend_get_state(struct vc_bvcpu *v, struct vc_cpu_state *state);
int emu_backend_set_state(struct vc_bvcpu *v, const struct vc_cpu_state *state);
void emu_backend_settle(struct vc_bvm *vm);
int emu_backend_reset(struct vc_bvm *vm);
int emu_backend_set_debug(struct vc_bvcpu *v, const struct vcore_debug *debug);
int emu_backend_interrupt(struct vc_bvcpu *v, uint8_t vector);
void emu_backend_probe(struct vcore_backend_info *info);

/* ---- bus.c ---- */
/*
 * One access to a bus, for port and MMIO accesses. Reads return the value. Steps out of the gate, so no pointer into
 * guest memory may be kept across it. May leave for the program (emu_leave): then the instruction is executed again
 * with the program's answer, and accesses that it has completed are not repeated.
 */
uint64_t emu_bus_access(struct emu_vcpu *c, enum vcore_bus bus, uint64_t address, unsigned width, bool write,
                        uint64_t value);
/* The same where the instruction makes no other, and nothing but the commitment of its result follows. */
uint64_t emu_bus_sole(struct emu_vcpu *c, enum vcore_bus bus, uint64_t address, unsigned width, bool write,
                      uint64_t value);
/* mask: of the registers that are the arguments, RBX, RCX, RDX, RSI. */
uint64_t emu_bus_hypercall(struct emu_vcpu *c, uint64_t number, uint64_t mask);
/* The program's answer to the access that the last run left for. */
void emu_bus_answer(struct emu_vcpu *c, const struct vcore_exit *exit);
/* The instruction is over: forget its accesses. */
void emu_bus_forget(struct emu_vcpu *c);

/* ---- msr.c ---- */
/* 0, or -EINVAL for what raises #GP(0): no such MSR, reserved bits, a non-canonical address. */
int emu_rdmsr(struct emu_vcpu *c, uint32_t index, uint64_t *value);
int emu_wrmsr(struct emu_vcpu *c, uint32_t index, uint64_t value);
/* The same for the program; -ENOENT: no such MSR. */
int emu_backend_get_msr(struct vc_bvcpu *v, uint32_t index, uint64_t *value);
int emu_backend_set_msr(struct vc_bvcpu *v, uint32_t index, uint64_t value);
/* IA32_TSC and IA32_TSC_ADJUST move the guest's TSC. */
void emu_set_tsc_offset(struct emu_vcpu *c, uint64_t offset);

/* ---- pv.c: what guests of KVM expect ---- */
/* VMCALL/VMMCALL: reads the arguments from registers, sets RAX. May leave for the program. */
void emu_hypercall(struct emu_vcpu *c);
void emu_pv_write_clock(struct emu_vcpu *c);      /* the page of MSR_KVM_SYSTEM_TIME */
void emu_pv_write_wall_clock(struct emu_vcpu *c); /* ... MSR_KVM_WALL_CLOCK_NEW */
/* Time from here on counts (the vcpu's thread wants to run), or what went by does not (it slept or was outside). */
void emu_pv_steal_start(struct emu_vcpu *c);
/* Account for time since then; at most every few milliseconds. */
void emu_pv_steal_update(struct emu_vcpu *c);
/* Before interrupts are looked at: the EOI that the guest left to the flag. */
void emu_pv_eoi_collect(struct emu_vcpu *c);
/* The LAPIC's interrupt was just accepted: let the guest skip the EOI where that is allowed. */
void emu_pv_eoi_offer(struct emu_vcpu *c);

/* ---- interp/ ---- */
/* [gpa, gpa+len) holds bytes of the block that is being executed. */
bool interp_in_current_block(struct emu_vcpu *c, uint64_t gpa, unsigned len);

#endif
