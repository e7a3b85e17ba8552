/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Local APICs (SDM vol. 3 chapter 10), xAPIC and x2APIC, one a vcpu; used by emu, and by kvm without an in-kernel
 * LAPIC.
 *
 * Threads: a register access comes from the owning vcpu's thread; delivery (IPI, IOAPIC, MSI, timer) from any thread.
 * The registers are atomics; the timer is protected by the APIC's lock. notify and eoi run without locks, possibly on
 * the thread that makes the call.
 */
#ifndef VC_CHIPSET_LAPIC_H
#define VC_CHIPSET_LAPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/loop.h"

#define VC_LAPIC_BASE 0xfee00000u

enum vc_lapic_event {
	VC_LAPIC_IRQ, /* something may be deliverable now: look at vc_lapic_pending() */
	VC_LAPIC_NMI,
	VC_LAPIC_INIT,
	VC_LAPIC_SIPI, /* arg: vector */
	VC_LAPIC_SMI,
	VC_LAPIC_EXTINT, /* LINT0 in ExtINT mode: ask the PIC */
};
typedef void (*vc_lapic_notify)(void *ctx, unsigned vcpu, enum vc_lapic_event event, uint8_t arg);

struct vc_lapic;
struct vc_lapics; /* all LAPICs of a vm */

struct vc_lapics_config {
	unsigned count;
	struct vc_loop *loop; /* timers */
	struct vc_clock *clock;
	uint64_t tsc_khz;
	vc_lapic_notify notify;
	void *ctx;
	/* a level-triggered vector got its EOI: for the IOAPIC; any thread */
	void (*eoi)(void *ctx, uint8_t vector);
	const struct vc_log *log;
};
int vc_lapics_new(const struct vc_lapics_config *config, struct vc_lapics **lapics);
void vc_lapics_free(struct vc_lapics *lapics);
struct vc_lapic *vc_lapics_get(struct vc_lapics *lapics, unsigned index);

/*
 * Power-on / INIT state. keep_base: INIT leaves IA32_APIC_BASE alone. At power-on LINT0 of the first vcpu is open for
 * the 8259 (ExtINT), as a firmware would leave it; all other LVT registers are masked.
 */
void vc_lapic_reset(struct vc_lapic *lapic, bool keep_base);

/* xAPIC page access; offset 0-0xfff; width 4 normally. */
uint32_t vc_lapic_mmio_read(struct vc_lapic *lapic, uint32_t offset);
void vc_lapic_mmio_write(struct vc_lapic *lapic, uint32_t offset, uint32_t value);
/* x2APIC MSRs 0x800-0x8ff, IA32_APIC_BASE (0x1b), IA32_TSC_DEADLINE (0x6e0). 0, or -EINVAL for what raises #GP. */
int vc_lapic_msr_read(struct vc_lapic *lapic, uint32_t msr, uint64_t *value);
int vc_lapic_msr_write(struct vc_lapic *lapic, uint32_t msr, uint64_t value);
uint64_t vc_lapic_base(const struct vc_lapic *lapic); /* IA32_APIC_BASE */
/* CR8 is TPR 7:4. */
uint8_t vc_lapic_get_cr8(const struct vc_lapic *lapic);
void vc_lapic_set_cr8(struct vc_lapic *lapic, uint8_t cr8);
/* The vcpu's IA32_TSC_ADJUST/IA32_TSC offset, in ticks, for TSC-deadline mode. */
void vc_lapic_set_tsc_offset(struct vc_lapic *lapic, uint64_t offset);

/* Highest deliverable vector by IRR, ISR and TPR; -1: none. Cheap: called at every chance. Does not change anything. */
int vc_lapic_pending(const struct vc_lapic *lapic);
/* Accept: moves the vector from IRR to ISR and returns it; -1 when nothing is deliverable any more. */
int vc_lapic_accept(struct vc_lapic *lapic);
/* Whether LINT0 lets an 8259 interrupt through (APIC disabled, or LVT0 ExtINT and unmasked). */
bool vc_lapic_accepts_pic(const struct vc_lapic *lapic);
/* EOI as a register write does it; used by PV EOI. */
void vc_lapic_eoi(struct vc_lapic *lapic);
/* PV EOI: true when the interrupt just accepted needs no EOI broadcast and nothing else waits, so the guest may skip
 * the write. */
bool vc_lapic_pv_eoi_allowed(const struct vc_lapic *lapic);

/* Interrupt message in MSI format (SDM 10.11): address 0xfeeXXXXX, data. */
int vc_lapics_msi(struct vc_lapics *lapics, uint64_t address, uint32_t data);
/* dest_mode: 0 physical, 1 logical; delivery as in the ICR: 0 fixed, 1 lowest priority, 2 SMI, 4 NMI, 5 INIT, 6 SIPI, 7
 * ExtINT. */
struct vc_lapic_message {
	uint32_t dest;
	uint8_t dest_mode, delivery, vector, level_triggered, assert;
	uint8_t shorthand; /* 0 none, 1 self, 2 all, 3 all but self */
	int32_t source;    /* vcpu index for shorthand; -1 */
};
int vc_lapics_deliver(struct vc_lapics *lapics, const struct vc_lapic_message *message);
/* The LINT pins of all APICs, wired together as on a PC: 0 is the 8259's INTR output, 1 is the NMI line. Any thread. */
void vc_lapics_set_lint(struct vc_lapics *lapics, unsigned pin, bool level);

/* Versioned state without host pointers, for snapshots and for handing over to KVM: registers in the KVM_GET_LAPIC page
 * layout. */
#define VC_LAPIC_STATE_VERSION 1u
struct vc_lapic_state {
	uint32_t version;
	uint32_t errors; /* collected since the last write of the error status register */
	uint64_t base, tsc_deadline;
	uint8_t regs[1024];
};
void vc_lapic_save(struct vc_lapic *lapic, struct vc_lapic_state *state);
int vc_lapic_load(struct vc_lapic *lapic, const struct vc_lapic_state *state);

#endif
