/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Interrupt routing: lines (GSI) and messages (MSI) from devices to whoever controls interrupts: the controllers in
 * lib/chipset or those in the kernel.
 */
#ifndef VC_BUS_IRQ_H
#define VC_BUS_IRQ_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define VC_GSI_COUNT 24

/* A descriptor, and what happens when somebody writes to it. */
struct vc_irq_route {
	int fd;       /* eventfd */
	int resample; /* eventfd that is written to when the guest is done with the line, which stays up until then; -1 */
	int gsi;      /* -1: a message */
	uint64_t address;
	uint32_t data;
};

struct vc_irq_sink {
	/* level changes of a line; called without locks, from any thread */
	void (*set)(void *ctx, unsigned gsi, bool level);
	/* 0 or -errno */
	int (*msi)(void *ctx, uint64_t address, uint32_t data);
};

struct vc_irqs {
	const struct vc_irq_sink *sink; /* NULL: no interrupt controller */
	void *ctx;
};

/* -EINVAL, -ENOTSUP with a message. */
int vc_irq_set(struct vc_irqs *irqs, unsigned gsi, bool level);
int vc_irq_pulse(struct vc_irqs *irqs, unsigned gsi);
int vc_msi_send(struct vc_irqs *irqs, uint64_t address, uint32_t data);

#endif
