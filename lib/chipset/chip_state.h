/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The saved forms of the interrupt controllers and the PIT: the same when the kernel has them (backend kvm). */
#ifndef VC_CHIPSET_CHIP_STATE_H
#define VC_CHIPSET_CHIP_STATE_H

#include "chipset/pit_channel.h"

#define VC_IOAPIC_STATE_VERSION 1u
#define VC_IOAPIC_PINS          24u

/* Bits of a redirection entry */
#define VC_RTE_REMOTE_IRR 0x4000ull
#define VC_RTE_LEVEL      0x8000ull
#define VC_RTE_WRITABLE   0xfffe00000001afffull /* destination with its extension in 55:49; not status, remote IRR */

struct vc_ioapic_state {
	uint32_t version;
	uint8_t select, id, pad[2];
	uint32_t lines, pad2; /* asserted pins */
	uint64_t rte[VC_IOAPIC_PINS];
};

#define VC_PIC_STATE_VERSION 1u
#define VC_PIC_CASCADE_IR    2u

/* Registers of one 8259A. */
struct vc_pic_chip {
	uint8_t lines; /* levels of the pins */
	uint8_t irr, imr, isr;
	uint8_t elcr;
	uint8_t base;    /* ICW2 */
	uint8_t highest; /* IR with the highest priority */
	uint8_t expect;  /* which word the data port takes next: OCW1, ICW2, ICW3, ICW4 */
	uint8_t single, need_icw4, sfnm, aeoi;
	uint8_t rotate_on_aeoi, special_mask, poll, read_isr;
};

struct vc_pic_state {
	uint32_t version;
	struct vc_pic_chip chip[2]; /* master, slave */
};

/* Pins of each that may be level-triggered: not the timer, keyboard, cascade, RTC, coprocessor. */
#define VC_PIC_ELCR_MASTER 0xf8u
#define VC_PIC_ELCR_SLAVE  0xdeu

#define VC_PIT_STATE_VERSION 1u
/* Port 0x61 */
#define VC_PIT_GATE2   0x01u
#define VC_PIT_SPEAKER 0x02u

struct vc_pit_state {
	uint32_t version;
	uint8_t system, level, pad[2]; /* what was written to port 0x61; of OUT0's line */
	int64_t edges_until;           /* rising edges of OUT0 up to this tick have been sent */
	struct vc_pit_channel channel[3];
};

#endif
