/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The least that a virtio device needs around it, for programs without Check: buses, a loop that the caller turns,
 * interrupts that vanish. Memory is the caller's to add. */
#ifndef VIRTIO_MACHINE_H
#define VIRTIO_MACHINE_H

#include <stdlib.h>

#include "chipset/chipset.h"

struct machine {
	struct vc_gate gate;
	struct vc_mem mem;
	struct vc_buses buses;
	struct vc_clock clock;
	struct vc_irqs irqs;
	struct vc_env env;
};

static inline void machine_ignore_irq(void *ctx, unsigned gsi, bool level) {}

static inline void machine_init(struct machine *m)
{
	static const struct vc_irq_sink sink = {.set = machine_ignore_irq};

	*m = (struct machine){0};
	if (vc_gate_init(&m->gate) < 0 || vc_mem_init(&m->mem, &m->gate) < 0 || vc_buses_init(&m->buses, &m->gate) < 0)
		abort();
	m->mem.gpa_limit = 1ull << 46;
	vc_clock_init(&m->clock);
	m->irqs = (struct vc_irqs){&sink, m};
	m->env = (struct vc_env){.buses = &m->buses, .mem = &m->mem, .irqs = &m->irqs, .clock = &m->clock, .vcpus = 1};
	if (vc_loop_new(&m->clock, false, &m->env.loop) < 0)
		abort();
}

static inline void machine_add_memory(struct machine *m, uint64_t gpa, uint64_t length, uint32_t flags)
{
	if (vc_mem_add(&m->mem, NULL, gpa, length, flags, NULL, NULL) < 0)
		abort();
}

static inline void machine_fini(struct machine *m)
{
	vc_buses_fini(&m->buses);
	vc_loop_free(m->env.loop);
	vc_mem_fini(&m->mem);
	vc_gate_fini(&m->gate);
}

#endif
