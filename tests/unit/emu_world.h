/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A bare machine for tests of backend emu: gate, memory, buses, vcpus, without lib/vm. */
#ifndef TEST_EMU_WORLD_H
#define TEST_EMU_WORLD_H

#include <check.h>
#include <stdlib.h>

#include "backend/emu/mmu/mmu.h"
#include "backend/emu/vcpu.h"

/* Nothing that a caught expression changes is looked at after it was unwound, unless it is volatile. */
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wclobbered"
#endif

#define WORLD_RAM   VC_MIB(32)
#define WORLD_VCPUS 4

struct world {
	struct vc_gate gate;
	struct vc_mem mem;
	struct vc_buses buses;
	struct vc_irqs irqs;
	struct vc_clock clock;
	struct vc_bvm vm;
	struct vc_bvcpu vcpu[WORLD_VCPUS], *vcpus[WORLD_VCPUS];
	struct vc_slot *ram;
};

static inline void world_kick(void *ctx)
{
	vc_bvcpu_request(ctx, VC_REQ_GATE);
}

static inline struct world *world_new(unsigned vcpus, enum vcore_unhandled unhandled)
{
	struct world *w = calloc(1, sizeof *w);

	ck_assert_ptr_nonnull(w);
	ck_assert_int_eq(vc_gate_init(&w->gate), 0);
	ck_assert_int_eq(vc_mem_init(&w->mem, &w->gate), 0);
	ck_assert_int_eq(vc_buses_init(&w->buses, &w->gate), 0);
	vc_clock_init(&w->clock);
	w->vm = (struct vc_bvm){.gate = &w->gate,
	                        .irqchip = VCORE_IRQCHIP_NONE,
	                        .unhandled = unhandled,
	                        .vcpus = vcpus,
	                        .ops = &vc_backend_emu,
	                        .vcpu = w->vcpus};
	w->vm.env =
	    (struct vc_env){.buses = &w->buses, .mem = &w->mem, .irqs = &w->irqs, .clock = &w->clock, .vcpus = vcpus};
	ck_assert_int_eq(vc_backend_emu.vm_create(&w->vm), 0);
	for (unsigned i = 0; i < vcpus; i++) {
		w->vcpus[i] = &w->vcpu[i];
		w->vcpu[i].vm = &w->vm;
		w->vcpu[i].index = i;
		vc_backend_emu.cpu_features(&w->vcpu[i].cpuid.features, &w->vcpu[i].cpuid.phys_bits);
		ck_assert_int_eq(vc_backend_emu.vcpu_create(&w->vcpu[i]), 0);
		vc_gate_add(&w->gate, &w->vcpu[i].pass, world_kick, &w->vcpu[i]);
	}
	ck_assert_int_eq(vc_mem_add(&w->mem, NULL, 0, WORLD_RAM, VCORE_MEM_RWX, NULL, &w->ram), 0);
	return w;
}

static inline void world_free(struct world *w)
{
	for (unsigned i = 0; i < w->vm.vcpus; i++) {
		vc_gate_remove(&w->gate, &w->vcpu[i].pass);
		vc_backend_emu.vcpu_destroy(&w->vcpu[i]);
	}
	vc_backend_emu.vm_destroy(&w->vm);
	vc_buses_fini(&w->buses);
	vc_mem_fini(&w->mem);
	vc_gate_fini(&w->gate);
	free(w);
}

static inline struct emu_vcpu *world_cpu(struct world *w, unsigned i)
{
	return emu_of(&w->vcpu[i]);
}

/* Evaluate expr; 0, or what it was unwound with (enum emu_unwind). */
#define WORLD_CATCH(c, expr)                        \
	__extension__({                                 \
		jmp_buf here_, *const outer_ = (c)->unwind; \
		volatile int why_ = setjmp(here_);          \
		(c)->unwind = &here_;                       \
		if (!why_) {                                \
			expr;                                   \
		}                                           \
		(c)->unwind = outer_;                       \
		why_;                                       \
	})

#endif
