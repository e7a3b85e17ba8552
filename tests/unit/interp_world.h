/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A bare machine for tests and benchmarks of the interpreter: one emulated vcpu with the real MMU, and memory that lies
 * at the same address for the guest (physical and linear) and for the host, so that the same code can run on both.
 */
#ifndef TEST_INTERP_WORLD_H
#define TEST_INTERP_WORLD_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "backend/emu/mmu/mmu.h"
#include "backend/emu/vcpu.h"

enum {
	WORLD_BASE = 0x10000000,
	WORLD_SIZE = 0x1000000,
	WORLD_TABLES = WORLD_BASE + 0x1000, /* page tables, identity */
	WORLD_CODE = WORLD_BASE + 0x10000,
	WORLD_DATA = WORLD_BASE + 0x100000, /* to the end */
	WORLD_LOW = 0x8000,                 /* 32 KiB of memory at 0 for 16-bit code */
};

struct world {
	struct vc_gate gate;
	struct vc_mem mem;
	struct vc_buses buses;
	struct vc_irqs irqs;
	struct vc_clock clock;
	struct vc_bvm vm;
	struct vc_bvcpu vcpu, *vcpus[1];
	struct vcore_exit exit;
	struct vc_slot *low;
	struct emu_vcpu *c;
};

static inline void world_kick(void *ctx)
{
	vc_bvcpu_request(ctx, VC_REQ_GATE);
}

#define WORLD_NEED(condition)                                               \
	do {                                                                    \
		if (!(condition)) {                                                 \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			exit(1);                                                        \
		}                                                                   \
	} while (0)

/* Identity page tables of 2 MiB pages for the first 4 GiB. */
static inline void world_tables(void)
{
	uint64_t *pml4 = (uint64_t *)WORLD_TABLES, *pdpt = pml4 + 512, *pd = pdpt + 512;
	memset(pml4, 0, 2 * VC_PAGE_SIZE);
	pml4[0] = (uintptr_t)pdpt | 7;
	for (unsigned i = 0; i < 4; i++)
		pdpt[i] = (uintptr_t)(pd + 512 * i) | 7;
	for (uint64_t i = 0; i < 2048; i++)
		pd[i] = i << 21 | 0xe7;
}

static inline struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof *w);
	struct vcore_memory_options own = {.size = sizeof own, .kind = VCORE_MEMORY_POINTER};

	own.pointer = mmap((void *)WORLD_BASE, WORLD_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
	                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	WORLD_NEED(w && own.pointer == (void *)WORLD_BASE);
	WORLD_NEED(vc_gate_init(&w->gate) == 0 && vc_mem_init(&w->mem, &w->gate) == 0 &&
	           vc_buses_init(&w->buses, &w->gate) == 0);
	vc_clock_init(&w->clock);
	w->vm = (struct vc_bvm){
	    .gate = &w->gate, .irqchip = VCORE_IRQCHIP_NONE, .vcpus = 1, .ops = &vc_backend_emu, .vcpu = w->vcpus};
	w->vm.env = (struct vc_env){.buses = &w->buses, .mem = &w->mem, .irqs = &w->irqs, .clock = &w->clock, .vcpus = 1};
	WORLD_NEED(vc_backend_emu.vm_create(&w->vm) == 0);
	w->vcpus[0] = &w->vcpu;
	w->vcpu.vm = &w->vm;
	vc_gate_add(&w->gate, &w->vcpu.pass, world_kick, &w->vcpu);
	vc_backend_emu.cpu_features(&w->vcpu.cpuid.features, &w->vcpu.cpuid.phys_bits);
	WORLD_NEED(vc_backend_emu.vcpu_create(&w->vcpu) == 0);
	WORLD_NEED(vc_mem_add(&w->mem, NULL, WORLD_BASE, WORLD_SIZE, VCORE_MEM_RWX, &own, NULL) == 0);
	WORLD_NEED(vc_mem_add(&w->mem, NULL, 0, WORLD_LOW, VCORE_MEM_RWX, NULL, &w->low) == 0);
	w->c = emu_of(&w->vcpu);
	w->exit.size = sizeof w->exit;
	w->c->exit = &w->exit;
	world_tables();
	return w;
}

static inline void world_free(struct world *w)
{
	vc_gate_remove(&w->gate, &w->vcpu.pass);
	vc_backend_emu.vcpu_destroy(&w->vcpu);
	vc_mem_fini(&w->mem);
	vc_backend_emu.vm_destroy(&w->vm);
	vc_buses_fini(&w->buses);
	vc_gate_fini(&w->gate);
	munmap((void *)WORLD_BASE, WORLD_SIZE);
	free(w);
}

/* Code or data, so that decoded code there is dropped. */
static inline void world_write(struct world *w, uint64_t at, const void *bytes, size_t length)
{
	WORLD_NEED(vc_mem_write(&w->mem, at, bytes, length) == 0);
}

/* Enter guest code at s.rip until something stops the engine. */
static inline enum emu_stop world_run(struct world *w)
{
	enum emu_stop stop;
	vc_gate_enter(&w->vcpu.pass);
	atomic_store(&w->vcpu.requests, 0);
	w->c->attention = false;
	emu_vec_enter(w->c);
	stop = interp_run(w->c);
	vc_gate_leave(&w->vcpu.pass);
	return stop;
}
static inline enum emu_stop world_step(struct world *w)
{
	enum emu_stop stop;
	w->c->stepping = true;
	stop = world_run(w);
	w->c->stepping = false;
	return stop;
}

static inline void world_mode(struct world *w, void (*mode)(struct vc_cpu_state *))
{
	struct vc_cpu_state s;
	vc_cpu_state_reset(&s, true);
	mode(&s);
	emu_set_state(w->c, &s);
}
static inline void world_long64_state(struct vc_cpu_state *s)
{
	vc_cpu_state_long64(s, WORLD_TABLES);
}
static inline void world_long64(struct world *w)
{
	world_mode(w, world_long64_state);
}
static inline void world_flat32(struct world *w)
{
	world_mode(w, vc_cpu_state_flat32);
}
static inline void world_real(struct world *w)
{
	world_mode(w, vc_cpu_state_flat_real);
}

#endif
