/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How fast backend emu is here: short guest loops in ring 0 and ring 3 of a throw-away vcpu without a vm around it. */
#include <stdio.h>
#include <stdlib.h>
#include <virtcore/error.h>

#include "backend/emu/vcpu.h"

#define MEMORY_SIZE VC_KIB(64)
#define TABLES_GPA  0x1000u
#define CODE_GPA    0x8000u
#define LOOPS       200000u
#define EXITS       1000u

/* A bare machine: flat 64-bit mode over 64 KiB, no devices. */
struct bench {
	struct vc_gate gate;
	struct vc_mem mem;
	struct vc_buses buses;
	struct vc_irqs irqs;
	struct vc_clock clock;
	struct vc_bvm vm;
	struct vc_bvcpu vcpu, *vcpus[1];
	bool has_gate, has_mem, has_buses, has_vm, has_vcpu;
};

static void kick(void *ctx)
{
	vc_bvcpu_request(ctx, VC_REQ_GATE);
}

static int bench_memory(struct bench *b)
{
	/* One to one with a 2 MiB page, for both rings. */
	static const uint64_t entries[3] = {(TABLES_GPA + 0x1000) | 7, (TABLES_GPA + 0x2000) | 7, 0x87};
	int r = vc_mem_add(&b->mem, NULL, 0, MEMORY_SIZE, VCORE_MEM_RWX, NULL, NULL);

	for (unsigned i = 0; r >= 0 && i < VC_ARRAY_SIZE(entries); i++)
		r = vc_mem_write(&b->mem, TABLES_GPA + i * 0x1000, &entries[i], sizeof entries[i]);
	return r;
}

static int bench_new(struct bench *b)
{
	int r;

	*b = (struct bench){
	    .vm = {.irqchip = VCORE_IRQCHIP_NONE, .unhandled = VCORE_UNHANDLED_EXIT, .vcpus = 1, .ops = &vc_backend_emu},
	    .vcpu = {.vm = &b->vm}};
	b->vcpus[0] = &b->vcpu;
	b->vm.vcpu = b->vcpus;
	b->vm.gate = &b->gate;
	b->vm.env = (struct vc_env){.buses = &b->buses, .mem = &b->mem, .irqs = &b->irqs, .clock = &b->clock, .vcpus = 1};
	vc_clock_init(&b->clock);
	r = vc_gate_init(&b->gate);
	b->has_gate = r >= 0;
	if (r >= 0)
		b->has_mem = (r = vc_mem_init(&b->mem, &b->gate)) >= 0;
	if (r >= 0)
		b->has_buses = (r = vc_buses_init(&b->buses, &b->gate)) >= 0;
	if (r >= 0)
		b->has_vm = (r = vc_backend_emu.vm_create(&b->vm)) >= 0;
	if (r >= 0)
		r = vc_backend_emu.cpu_features(&b->vcpu.cpuid.features, &b->vcpu.cpuid.phys_bits);
	if (r >= 0)
		b->has_vcpu = (r = vc_backend_emu.vcpu_create(&b->vcpu)) >= 0;
	if (r < 0)
		return r;
	vc_gate_add(&b->gate, &b->vcpu.pass, kick, &b->vcpu);
	return bench_memory(b);
}

static void bench_free(struct bench *b)
{
	if (b->has_vcpu) {
		vc_gate_remove(&b->gate, &b->vcpu.pass);
		vc_backend_emu.vcpu_destroy(&b->vcpu);
	}
	if (b->has_vm)
		vc_backend_emu.vm_destroy(&b->vm);
	if (b->has_buses)
		vc_buses_fini(&b->buses);
	if (b->has_mem)
		vc_mem_fini(&b->mem);
	if (b->has_gate)
		vc_gate_fini(&b->gate);
}

/* Host nanoseconds from the start of code to its `count`-th exit at a port; 0: something else came. */
static uint64_t measure(struct bench *b, const void *code, size_t length, unsigned ring, unsigned count)
{
	struct vc_cpu_state *state = malloc(sizeof *state);
	struct vcore_exit exit = {.size = sizeof exit};
	uint64_t start, end = 0;

	if (!state || vc_mem_write(&b->mem, CODE_GPA, code, length) < 0) {
		free(state);
		return 0;
	}
	vc_cpu_state_reset(state, true);
	vc_cpu_state_long64(state, TABLES_GPA);
	state->rip = CODE_GPA;
	state->gpr[VC_RSP] = CODE_GPA;
	/* IOPL 3: ring 3 ends with OUT, too. */
	state->rflags = VC_FLAG_IOPL | 2;
	if (ring == 3) {
		state->seg[VC_CS].selector = state->seg[VC_SS].selector = 3;
		state->seg[VC_CS].attr |= 0x60;
		state->seg[VC_SS].attr |= 0x60;
	}
	vc_backend_emu.set_state(&b->vcpu, state);
	free(state);
	start = vc_host_ns();
	for (unsigned i = 0; i < count; i++)
		if (vc_backend_emu.run(&b->vcpu, &exit) < 0 || exit.reason != VCORE_EXIT_PIO)
			return 0;
	end = vc_host_ns();
	return end > start ? end - start : 1;
}

void emu_backend_probe(struct vcore_backend_info *info)
{
	/* mov ecx, LOOPS; 1: add eax, ecx; xor edx, eax; mov [rsp-8], rax; dec ecx; jnz 1b; out 0x80, al */
	static const uint8_t loop[] = {0xb9,
	                               LOOPS & 0xff,
	                               LOOPS >> 8 & 0xff,
	                               LOOPS >> 16 & 0xff,
	                               LOOPS >> 24 & 0xff,
	                               0x01,
	                               0xc8,
	                               0x31,
	                               0xc2,
	                               0x48,
	                               0x89,
	                               0x44,
	                               0x24,
	                               0xf8,
	                               0xff,
	                               0xc9,
	                               0x75,
	                               0xf3,
	                               0xe6,
	                               0x80};
	/* 1: out 0x80, al; jmp 1b */
	static const uint8_t exits[] = {0xe6, 0x80, 0xeb, 0xfc};
	const uint64_t instructions = 5ull * LOOPS;
	uint64_t ring0 = 0, ring3 = 0, exit_ns = 0;
	struct bench *b = malloc(sizeof *b);

	if (b && bench_new(b) >= 0) {
		ring0 = measure(b, loop, sizeof loop, 0, 1);
		ring3 = measure(b, loop, sizeof loop, 3, 1);
		exit_ns = measure(b, exits, sizeof exits, 0, EXITS) / EXITS;
	}
	if (b)
		bench_free(b);
	free(b);
	if (!ring0 || !ring3) {
		snprintf(info->reason, sizeof info->reason, "a test loop did not run: %s", vcore_error_message());
		return;
	}
	info->available = 1;
	info->features = VCORE_FEATURE_MSI | VCORE_FEATURE_DIRTY_LOG | VCORE_FEATURE_READONLY_MEM | VCORE_FEATURE_XSAVE |
	                 VCORE_FEATURE_DEBUG | VCORE_FEATURE_TSC_DEADLINE | VCORE_FEATURE_X2APIC | VCORE_FEATURE_IOEVENTFD |
	                 VCORE_FEATURE_IRQFD | VCORE_FEATURE_JIT;
	info->max_vcpus = 255;
	info->ring0_ps = (uint32_t)(ring0 * 1000 / instructions);
	info->ring3_ps = (uint32_t)(ring3 * 1000 / instructions);
	info->exit_ns = (uint32_t)exit_ns;
	snprintf(info->reason, sizeof info->reason,
	         "software emulation: %u.%02u ns an instruction in ring 0, %u.%02u ns in ring 3", info->ring0_ps / 1000,
	         info->ring0_ps % 1000 / 10, info->ring3_ps / 1000, info->ring3_ps % 1000 / 10);
}
