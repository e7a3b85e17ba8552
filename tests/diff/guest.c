/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ring 3 of a guest, by the public API: no machine, one vcpu, the arena's regions mapped as they are natively. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <virtcore/virtcore.h>

#include "diff.h"

#define BATCH_NS 120000000000ll

struct diff_guest {
	vcore_vm *vm;
	vcore_vcpu *vcpu;
	struct vcore_sregs sregs;
};

static int failed(const char *what)
{
	fprintf(stderr, "diff-test: %s: %s\n", what, vcore_error_message());
	return -1;
}

static int write64(struct diff_guest *g, uint64_t address, uint64_t value)
{
	return vcore_memory_write(g->vm, address, &value, 8);
}

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_LARGE = 0x80 };
#define PTE_NX (1ull << 63)

/* Of the identity map that set_mode made, keep the arena only, with the rights that the host's pages have. */
static int restrict_tables(struct diff_guest *g)
{
	static const struct {
		uint64_t address, flags;
	} regions[] = {
	    {DIFF_READONLY, PTE_P | PTE_U | PTE_LARGE | PTE_NX},
	    {DIFF_DATA, PTE_P | PTE_W | PTE_U | PTE_LARGE | PTE_NX},
	    {DIFF_CODE, PTE_P | PTE_W | PTE_U | PTE_LARGE},
	    {DIFF_OUT, PTE_P | PTE_W | PTE_U | PTE_LARGE | PTE_NX},
	    {DIFF_SYSTEM, PTE_P | PTE_W | PTE_LARGE},
	    {DIFF_FINISH, PTE_P | PTE_W | PTE_U | PTE_LARGE | PTE_NX},
	};
	uint64_t pdpt, directory;

	if (vcore_memory_read(g->vm, SYS_TABLES, &pdpt, 8) < 0)
		return -1;
	pdpt &= 0xffffffff000;
	if (vcore_memory_read(g->vm, pdpt, &directory, 8) < 0)
		return -1;
	directory &= 0xffffffff000;
	for (unsigned n = 1; n < 4; n++)
		if (write64(g, pdpt + 8 * n, 0) < 0)
			return -1;
	for (unsigned n = 0; n < 512; n++)
		if (write64(g, directory + 8 * n, 0) < 0)
			return -1;
	for (size_t n = 0; n < sizeof regions / sizeof regions[0]; n++)
		if (write64(g, directory + regions[n].address / DIFF_REGION * 8, regions[n].address | regions[n].flags) < 0)
			return -1;
	return 0;
}

static int write_gate(struct diff_guest *g, unsigned vector, unsigned dpl)
{
	uint64_t handler = RUNNER_ADDRESS(diff_runner_handlers) + vector * HANDLER_SIZE;
	uint64_t low = (handler & 0xffff) | (uint64_t)SEL_KERNEL_CS << 16 | (uint64_t)(0x8e | dpl << 5) << 40 |
	               (handler >> 16 & 0xffff) << 48;

	return write64(g, SYS_IDT + vector * 16, low) < 0 || write64(g, SYS_IDT + vector * 16 + 8, handler >> 32) < 0 ? -1
	                                                                                                              : 0;
}

static int write_descriptors(struct diff_guest *g)
{
	/* the order of 64-bit Linux: 32-bit kernel code, kernel code and data, user 32-bit code, data, 64-bit code */
	static const uint64_t gdt[] = {0,
	                               0x00cf9b000000ffff,
	                               0x00af9b000000ffff,
	                               0x00cf93000000ffff,
	                               0x00cffb000000ffff,
	                               0x00cff3000000ffff,
	                               0x00affb000000ffff,
	                               0};
	uint64_t tss = 0x0000890000000067 | (uint64_t)(SYS_TSS & 0xffffff) << 16 | (uint64_t)(SYS_TSS >> 24) << 56;

	if (vcore_memory_write(g->vm, SYS_GDT, gdt, sizeof gdt) < 0 || write64(g, SYS_GDT + SEL_TSS, tss) < 0)
		return -1;
	for (unsigned vector = 0; vector < IDT_GATES; vector++)
		if (write_gate(g, vector, vector == 3 || vector == 4 ? 3 : 0) < 0)
			return -1;
	return write64(g, SYS_TSS + 4, SYS_STACK); /* RSP0; the I/O map's base, 0, lies inside the limit, so fill it */
}

static struct vcore_segment segment(uint16_t selector, uint16_t attributes)
{
	return (struct vcore_segment){.limit = 0xffffffff, .selector = selector, .attributes = attributes};
}

static int set_up_cpu(struct diff_guest *g)
{
	struct vcore_sregs *s = &g->sregs;

	s->size = sizeof *s;
	if (vcore_vcpu_set_mode(g->vcpu, VCORE_MODE_LONG64, SYS_TABLES) < 0 || restrict_tables(g) < 0 ||
	    write_descriptors(g) < 0 || vcore_vcpu_get_sregs(g->vcpu, s) < 0)
		return -1;
	s->cs = segment(SEL_USER64, 0xa0fb);
	s->ss = s->ds = s->es = s->fs = s->gs = segment(SEL_DATA, 0xc0f3);
	s->tr = (struct vcore_segment){.base = SYS_TSS, .limit = 0x67, .selector = SEL_TSS, .attributes = 0x8b};
	s->ldtr = (struct vcore_segment){.unusable = 1};
	s->gdtr = (struct vcore_table){.base = SYS_GDT, .limit = 0x7f};
	s->idtr = (struct vcore_table){.base = SYS_IDT, .limit = IDT_GATES * 16 - 1};
	/* as Linux has them: alignment checks, native x87 errors, FSGSBASE, XSAVE */
	s->cr0 |= VC_CR0_WP | VC_CR0_AM | VC_CR0_NE | VC_CR0_MP;
	s->cr4 |= VC_CR4_OSFXSR | VC_CR4_OSXMMEXCPT | VC_CR4_FSGSBASE | VC_CR4_OSXSAVE;
	s->efer |= VC_EFER_NXE | VC_EFER_SCE;
	s->xcr0 = 7;
	return 0;
}

struct diff_guest *diff_guest_open(uint32_t backend, uint32_t engine)
{
	struct vcore_options options = {.size = sizeof options,
	                                .backend = backend,
	                                .engine = engine,
	                                .cpu = backend == VCORE_BACKEND_EMU ? "max,-la57" : "host",
	                                .unhandled = VCORE_UNHANDLED_EXIT};
	struct vcore_memory_options memory = {.size = sizeof memory, .kind = VCORE_MEMORY_MEMFD, .fd = -1};
	struct diff_guest *g = calloc(1, sizeof *g);
	uint16_t no_io_map = 0xffff;

	if (!g || vcore_vm_new(&options, &g->vm) < 0) {
		failed("making the vm");
		free(g);
		return NULL;
	}
	g->vcpu = vcore_vm_vcpu(g->vm, 0);
	if (vcore_memory_add(g->vm, DIFF_READONLY, DIFF_END - DIFF_READONLY, VCORE_MEM_RWX, &memory, NULL) < 0 ||
	    vcore_memory_write(g->vm, DIFF_RUNNER, diff_runner, (size_t)(diff_runner_end - diff_runner)) < 0 ||
	    set_up_cpu(g) < 0 || vcore_memory_write(g->vm, SYS_TSS + 102, &no_io_map, 2) < 0) {
		failed("setting the guest up");
		diff_guest_close(g);
		return NULL;
	}
	return g;
}

void diff_guest_close(struct diff_guest *g)
{
	if (!g)
		return;
	vcore_vm_unref(g->vm);
	free(g);
}

/* From the case that VAR_CUR names to the end, or until the guest derails. */
static int run_on(struct diff_guest *g, struct vcore_exit *exit)
{
	struct vcore_regs regs = {
	    .size = sizeof regs, .rip = RUNNER_ADDRESS(diff_runner_next), .rsp = VAR_STACK, .rflags = CASE_RFLAGS_DEFAULT};

	*exit = (struct vcore_exit){.size = sizeof *exit};
	return vcore_vcpu_set_sregs(g->vcpu, &g->sregs) < 0 || vcore_vcpu_set_regs(g->vcpu, &regs) < 0 ||
	               vcore_vcpu_run(g->vcpu, BATCH_NS, exit) < 0
	           ? failed("running the guest")
	           : 0;
}

int diff_guest_run(struct diff_guest *g, const struct diff_batch *batch, struct diff_record *out)
{
	uint64_t vars[4] = {DIFF_IN, DIFF_IN + batch->count * sizeof batch->in[0], DIFF_OUT,
	                    RUNNER_ADDRESS(diff_runner_finish)};
	uint64_t derailed[DIFF_CASES], count = 0;
	struct vcore_exit exit;

	if (vcore_memory_write(g->vm, DIFF_SLOTS, batch->slots, sizeof batch->slots) < 0 ||
	    vcore_memory_write(g->vm, DIFF_IN, batch->in, batch->count * sizeof batch->in[0]) < 0)
		return failed("writing a batch");
	for (;;) {
		struct vcore_regs regs = {.size = sizeof regs};
		uint64_t at;

		if (vcore_memory_write(g->vm, DIFF_VARS, vars, sizeof vars) < 0 || run_on(g, &exit) < 0 ||
		    vcore_memory_read(g->vm, DIFF_VARS, vars, sizeof vars) < 0 || vcore_vcpu_get_regs(g->vcpu, &regs) < 0)
			return failed("running a batch");
		at = (vars[0] - DIFF_IN) / DIFF_RECORD;
		if (exit.reason == VCORE_EXIT_MMIO && exit.address == DIFF_FINISH && at == batch->count)
			break;
		fprintf(stderr, "derailed: exit %s at RIP %#llx: %s\n", vcore_exit_name(exit.reason),
		        (unsigned long long)regs.rip, exit.message);
		if (at >= batch->count)
			return -1;
		derailed[count++] = at;
		vars[0] += DIFF_RECORD;
		vars[2] = DIFF_OUT + (at + 1) * DIFF_RECORD;
	}
	if (vcore_memory_read(g->vm, DIFF_OUT, out, batch->count * sizeof *out) < 0)
		return failed("reading a batch");
	while (count)
		out[derailed[--count]].vector = DIFF_DERAILED;
	return 0;
}
