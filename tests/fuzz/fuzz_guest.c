/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Any bytes as a guest on emu: the first four choose mode, vcpu state and what faults do, the rest is code. Whatever it
 * does, the run ends with an exit and the program's memory is whole.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <virtcore/virtcore.h>

enum {
	RAM = 256 << 10,
	CODE = 0x8000,
	TABLES = 0x20000, /* 6 pages */
	GDT = 0x28000,
	IDT = 0x29000,
	TSS = 0x2a000,
	STACK = 0x7000,
	RUNS_PER_VM = 500,
	EXITS_MAX = 32,
};
#define RUN_NS 300000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static vcore_vm *vm;
static unsigned runs;

static void check(int truth)
{
	if (truth)
		return;
	fprintf(stderr, "fuzz_guest: %s\n", vcore_error_message());
	abort();
}

static void make_vm(void)
{
	struct vcore_options options = {.size = sizeof options, .backend = VCORE_BACKEND_EMU, .cpu = "max", .vcpus = 1};

	check(vcore_vm_new(&options, &vm) == 0);
	check(vcore_memory_add(vm, 0, RAM, VCORE_MEM_RWX, NULL, NULL) == 0);
	/* a ROM and a hole further up */
	check(vcore_memory_add(vm, 0x100000, 0x4000, VCORE_MEM_RX, NULL, NULL) == 0);
}

/* Descriptors of every kind, and gates that lead back into the code. */
static void write_tables(bool long_mode, uint8_t seed)
{
	static const uint64_t gdt[] = {
	    0,
	    0x00af9b000000ffff,
	    0x00cf93000000ffff,
	    0x00cf9b000000ffff,
	    0x00009b000000ffff,
	    0x00cffb000000ffff,
	    0x00cff3000000ffff,
	    0x00affb000000ffff,
	    0x0000890000000067 | (uint64_t)TSS << 16,
	    0,
	    0x0000820000000fff | (uint64_t)GDT << 16,
	    0,
	    0x0000ec0000081000 | CODE,
	    0,
	    0x0000850000180000,
	    0x00cf9f000000ffff,
	};
	uint64_t stack = STACK - 256;

	check(vcore_memory_write(vm, GDT, gdt, sizeof gdt) == 0);
	for (unsigned vector = 0; vector < 256; vector++) {
		uint64_t address = CODE + (vector * seed & 63), gate[2];

		gate[0] =
		    (address & 0xffff) | 0x8ull << 16 | (uint64_t)(vector & 1 ? 0xee : 0x8f) << 40 | (address >> 16) << 48;
		gate[1] = 0;
		if (!long_mode)
			gate[0] = (gate[0] & ~0xffff0000ull) | 0x18ull << 16;
		check(vcore_memory_write(vm, IDT + vector * (long_mode ? 16 : 8), gate, long_mode ? 16 : 8) == 0);
	}
	check(vcore_memory_write(vm, TSS + 4, &stack, 8) == 0);
}

static void set_up(const uint8_t *head)
{
	static const enum vcore_mode modes[] = {VCORE_MODE_REAL, VCORE_MODE_PROTECTED32, VCORE_MODE_LONG64,
	                                        VCORE_MODE_LONG64};
	struct vcore_regs regs = {.size = sizeof regs, .rip = CODE, .rsp = STACK, .rflags = 2};
	struct vcore_sregs sregs = {.size = sizeof sregs};
	vcore_vcpu *vcpu = vcore_vm_vcpu(vm, 0);
	enum vcore_mode mode = modes[head[0] & 3];
	uint64_t *gpr = &regs.rax;

	check(vcore_vcpu_set_mode(vcpu, mode, TABLES) == 0);
	for (unsigned n = 0; n < 16; n++)
		if (n != 4)
			gpr[n] = head[1] & 1 ? (uint64_t)head[2] * n * 0x10101 : CODE + n * head[2] * 16;
	if (head[1] & 2)
		regs.rflags |= 0x200;
	if (head[1] & 4)
		regs.rflags |= 0x100;
	check(vcore_vcpu_get_sregs(vcpu, &sregs) == 0);
	if (mode != VCORE_MODE_REAL && head[1] & 8) {
		write_tables(mode == VCORE_MODE_LONG64, head[3]);
		sregs.gdtr = (struct vcore_table){.base = GDT, .limit = 0x7f};
		sregs.idtr = (struct vcore_table){.base = IDT, .limit = 0xfff};
		sregs.tr = (struct vcore_segment){.base = TSS, .limit = 0x67, .selector = 0x40, .attributes = 0x8b};
		if (head[1] & 16) { /* ring 3 */
			sregs.cs.selector = mode == VCORE_MODE_LONG64 && !(head[1] & 32) ? 0x3b : 0x2b;
			sregs.cs.attributes = mode == VCORE_MODE_LONG64 && !(head[1] & 32) ? 0xa0fb : 0xc0fb;
			sregs.ss.selector = sregs.ds.selector = sregs.es.selector = 0x33;
			sregs.ss.attributes = sregs.ds.attributes = sregs.es.attributes = 0xc0f3;
		}
	}
	sregs.cr4 |= head[1] & 64 ? 0x50600 : 0; /* OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE */
	if (head[1] & 64)
		sregs.xcr0 = 7;
	check(vcore_vcpu_set_sregs(vcpu, &sregs) == 0 && vcore_vcpu_set_regs(vcpu, &regs) == 0);
}

static void run(void)
{
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vcpu *vcpu = vcore_vm_vcpu(vm, 0);

	for (unsigned n = 0; n < EXITS_MAX; n++) {
		check(vcore_vcpu_run(vcpu, RUN_NS, &exit) == 0);
		check(exit.reason != VCORE_EXIT_NONE && *vcore_exit_name(exit.reason) != '?');
		if (exit.reason == VCORE_EXIT_CRASH || exit.reason == VCORE_EXIT_TIMEOUT || exit.reason == VCORE_EXIT_HALT)
			break;
		exit.data = 0x5a5a5a5a5a5a5a5a;
	}
}

/* What the program may ask about any state a guest got itself into. */
static void look(void)
{
	struct vcore_regs regs = {.size = sizeof regs};
	struct vcore_sregs sregs = {.size = sizeof sregs};
	vcore_vcpu *vcpu = vcore_vm_vcpu(vm, 0);
	uint64_t gpa, value;

	check(vcore_vcpu_get_regs(vcpu, &regs) == 0 && vcore_vcpu_get_sregs(vcpu, &sregs) == 0);
	vcore_vcpu_translate(vcpu, regs.rsp, VCORE_ACCESS_WRITE, &gpa);
	vcore_vcpu_read(vcpu, regs.rip, &value, sizeof value);
	/* a state that the guest got into is one that a program may put a vcpu in */
	check(vcore_vcpu_set_sregs(vcpu, &sregs) == 0 && vcore_vcpu_set_regs(vcpu, &regs) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t blank[RAM];
	uint8_t head[4] = {0};

	if (size < 5 || size > 4096)
		return -1;
	if (vm && ++runs % RUNS_PER_VM == 0) {
		vcore_vm_unref(vm);
		vm = NULL;
	}
	if (!vm)
		make_vm();
	check(vcore_vm_reset(vm) == 0);
	check(vcore_memory_write(vm, 0, blank, sizeof blank) == 0);
	memcpy(head, data, sizeof head);
	check(vcore_memory_write(vm, CODE, data + 4, size - 4) == 0);
	set_up(head);
	run();
	look();
	return 0;
}
