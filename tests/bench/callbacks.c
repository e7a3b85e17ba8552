/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How often a second a guest can call the program, by kind of callback: backend emu beside Unicorn's C API where this
 * build has it. The same 32-bit loop and the same callback, which counts, in turn.
 *
 * Arguments: callbacks a round (default 2000000), rounds (5). One JSON object a line: medians in ns of CPU time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <virtcore/virtcore.h>

#ifdef BENCH_HAVE_UNICORN
#include <unicorn/unicorn.h>
#endif

#define CODE       0x1000
#define MEMORY     (2u << 20)
#define DATA       0x100000
#define MMIO       0x10000000
#define PORT       0x10
#define HYPERCALL  100
#define MAX_ROUNDS 99u

enum kind { INSTRUCTION, BLOCK, PORT_WRITE, PORT_READ, MMIO_READ, MMIO_WRITE, MEM_READ, MEM_WRITE, CALL, KINDS };

/* What the loop does besides DEC ECX and JNZ, and how often a turn it calls; Unicorn's body is another where it has no
 * such instruction. */
static const struct {
	const char *name;
	uint8_t body[8], length, calls;
	uint8_t other[8], other_length;
} kinds[KINDS] = {
    [INSTRUCTION] = {"each instruction", {0}, 0, 2, {0}, 0},
    [BLOCK] = {"each block", {0}, 0, 1, {0}, 0},
    [PORT_WRITE] = {"port write", {0xe6, PORT}, 2, 1, {0}, 0},
    [PORT_READ] = {"port read", {0xe4, PORT}, 2, 1, {0}, 0},
    [MMIO_READ] = {"MMIO read", {0xa1, 0, 0, 0, 0x10}, 5, 1, {0}, 0},
    [MMIO_WRITE] = {"MMIO write", {0xa3, 0, 0, 0, 0x10}, 5, 1, {0}, 0},
    [MEM_READ] = {"memory read hook", {0xa1, 0, 0, 0x10, 0}, 5, 1, {0}, 0},
    [MEM_WRITE] = {"memory write hook", {0xa3, 0, 0, 0x10, 0}, 5, 1, {0}, 0},
    [CALL] = {"hypercall / INT hook", {0xb0, HYPERCALL, 0x0f, 0x01, 0xc1}, 5, 1, {0xb0, HYPERCALL, 0xcd, 0x80}, 4},
};

static uint64_t counted;

static double cpu_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* mov ecx, turns; l: BODY; dec ecx; jnz l; hlt. Its length, HLT not counted. */
static size_t make_loop(uint8_t *code, const uint8_t *body, size_t length, uint32_t turns)
{
	code[0] = 0xb9;
	memcpy(code + 1, &turns, sizeof turns);
	memcpy(code + 5, body, length);
	memcpy(code + 5 + length, (uint8_t[]){0x49, 0x75, (uint8_t) - (length + 3), 0xf4}, 4);
	return 8 + length;
}

/* ---- ours ---- */

static void on_read(void *ctx, struct vcore_io *io)
{
	(void)ctx;
	counted++;
	io->data = 0;
}

static void on_write(void *ctx, struct vcore_io *io)
{
	(void)ctx;
	(void)io;
	counted++;
}

static void on_hook(void *ctx, const struct vcore_hook_event *event)
{
	(void)ctx;
	(void)event;
	counted++;
}

static int add_hook(vcore_vm *vm, enum vcore_hook_kind kind, uint64_t start, uint64_t length, uint32_t access)
{
	const struct vcore_hook_options o = {
	    .size = sizeof o, .kind = kind, .start = start, .length = length, .access = access, .callback = on_hook};

	return vcore_hook_add(vm, &o, NULL);
}

static int add_io(vcore_vm *vm, enum vcore_bus bus, uint64_t start, uint64_t length)
{
	const struct vcore_device_ops ops = {.size = sizeof ops, .read = on_read, .write = on_write};

	return vcore_io_add(vm, bus, start, length, &ops, NULL, NULL);
}

static int add_ours(vcore_vm *vm, enum kind kind)
{
	switch (kind) {
	case INSTRUCTION:
		return add_hook(vm, VCORE_HOOK_CODE, 0, 0, 0);
	case BLOCK:
		return add_hook(vm, VCORE_HOOK_BLOCK, 0, 0, 0);
	case PORT_WRITE:
	case PORT_READ:
		return add_io(vm, VCORE_BUS_PIO, PORT, 1);
	case MMIO_READ:
	case MMIO_WRITE:
		return add_io(vm, VCORE_BUS_MMIO, MMIO, 0x1000);
	case MEM_READ:
		return add_hook(vm, VCORE_HOOK_MEMORY, DATA, 0x1000, VCORE_HOOK_READS);
	case MEM_WRITE:
		return add_hook(vm, VCORE_HOOK_MEMORY, DATA, 0x1000, VCORE_HOOK_WRITES);
	default:
		return add_io(vm, VCORE_BUS_HYPERCALL, HYPERCALL, 1);
	}
}

/* Nanoseconds a callback; negative: it failed. */
static double run_ours(enum kind kind, uint32_t turns)
{
	const struct vcore_options o = {
	    .size = sizeof o, .machine = VCORE_MACHINE_NONE, .backend = VCORE_BACKEND_EMU, .memory = MEMORY};
	struct vcore_exit exit = {.size = sizeof exit};
	struct vcore_regs regs = {.size = sizeof regs};
	uint8_t code[64];
	vcore_vm *vm;
	size_t length;
	double took;

	if (vcore_vm_new(&o, &vm) < 0)
		return -1;
	length = make_loop(code, kinds[kind].body, kinds[kind].length, turns) + 1;
	vcore_memory_write(vm, CODE, code, length);
	vcore_vcpu_set_mode(vcore_vm_vcpu(vm, 0), VCORE_MODE_PROTECTED32, 0);
	vcore_vcpu_get_regs(vcore_vm_vcpu(vm, 0), &regs);
	regs.rip = CODE;
	vcore_vcpu_set_regs(vcore_vm_vcpu(vm, 0), &regs);
	if (add_ours(vm, kind) < 0) {
		vcore_vm_unref(vm);
		return -1;
	}
	took = cpu_now();
	vcore_vcpu_run(vcore_vm_vcpu(vm, 0), -1, &exit);
	took = cpu_now() - took;
	vcore_vm_unref(vm);
	return exit.reason == VCORE_EXIT_HALT ? took : -1;
}

/* ---- theirs ---- */

#ifdef BENCH_HAVE_UNICORN
static void uc_code(uc_engine *uc, uint64_t address, uint32_t size, void *data)
{
	(void)uc, (void)address, (void)size, (void)data;
	counted++;
}

static void uc_out(uc_engine *uc, uint32_t port, int size, uint32_t value, void *data)
{
	(void)uc, (void)port, (void)size, (void)value, (void)data;
	counted++;
}

static uint32_t uc_in(uc_engine *uc, uint32_t port, int size, void *data)
{
	(void)uc, (void)port, (void)size, (void)data;
	counted++;
	return 0;
}

static uint64_t uc_mmio_read(uc_engine *uc, uint64_t offset, unsigned size, void *data)
{
	(void)uc, (void)offset, (void)size, (void)data;
	counted++;
	return 0;
}

static void uc_mmio_write(uc_engine *uc, uint64_t offset, unsigned size, uint64_t value, void *data)
{
	(void)uc, (void)offset, (void)size, (void)value, (void)data;
	counted++;
}

static void uc_memory(uc_engine *uc, uc_mem_type type, uint64_t address, int size, int64_t value, void *data)
{
	(void)uc, (void)type, (void)address, (void)size, (void)value, (void)data;
	counted++;
}

static void uc_interrupt(uc_engine *uc, uint32_t number, void *data)
{
	(void)uc, (void)number, (void)data;
	counted++;
}

static uc_err add_theirs(uc_engine *uc, enum kind kind)
{
	uc_hook hook;

	switch (kind) {
	case INSTRUCTION:
		return uc_hook_add(uc, &hook, UC_HOOK_CODE, (void *)(uintptr_t)uc_code, NULL, 1, 0);
	case BLOCK:
		return uc_hook_add(uc, &hook, UC_HOOK_BLOCK, (void *)(uintptr_t)uc_code, NULL, 1, 0);
	case PORT_WRITE:
		return uc_hook_add(uc, &hook, UC_HOOK_INSN, (void *)(uintptr_t)uc_out, NULL, 1, 0, UC_X86_INS_OUT);
	case PORT_READ:
		return uc_hook_add(uc, &hook, UC_HOOK_INSN, (void *)(uintptr_t)uc_in, NULL, 1, 0, UC_X86_INS_IN);
	case MMIO_READ:
	case MMIO_WRITE:
		return uc_mmio_map(uc, MMIO, 0x1000, uc_mmio_read, NULL, uc_mmio_write, NULL);
	case MEM_READ:
		return uc_hook_add(uc, &hook, UC_HOOK_MEM_READ, (void *)(uintptr_t)uc_memory, NULL, (uint64_t)DATA,
		                   (uint64_t)DATA + 0xfff);
	case MEM_WRITE:
		return uc_hook_add(uc, &hook, UC_HOOK_MEM_WRITE, (void *)(uintptr_t)uc_memory, NULL, (uint64_t)DATA,
		                   (uint64_t)DATA + 0xfff);
	default:
		return uc_hook_add(uc, &hook, UC_HOOK_INTR, (void *)(uintptr_t)uc_interrupt, NULL, 1, 0);
	}
}

static double run_theirs(enum kind kind, uint32_t turns)
{
	const uint8_t *body = kinds[kind].other_length ? kinds[kind].other : kinds[kind].body;
	size_t length = kinds[kind].other_length ? kinds[kind].other_length : kinds[kind].length;
	uint8_t code[64];
	uc_engine *uc;
	double took;
	uc_err e;

	if (uc_open(UC_ARCH_X86, UC_MODE_32, &uc) != UC_ERR_OK)
		return -1;
	length = make_loop(code, body, length, turns);
	uc_mem_map(uc, 0, MEMORY, UC_PROT_ALL);
	uc_mem_write(uc, CODE, code, length);
	e = add_theirs(uc, kind);
	took = cpu_now();
	if (e == UC_ERR_OK)
		e = uc_emu_start(uc, CODE, CODE + length, 0, 0);
	took = cpu_now() - took;
	uc_close(uc);
	return e == UC_ERR_OK ? took : -1;
}
#else
static double run_theirs(enum kind kind, uint32_t turns)
{
	(void)kind;
	(void)turns;
	return -1;
}
#endif

/* ---- both ---- */

/* Nanoseconds a callback; negative: it did not run, or not as often as it should. */
static double measure(double (*run)(enum kind, uint32_t), enum kind kind, uint32_t calls)
{
	double took;

	counted = 0;
	took = run(kind, calls / kinds[kind].calls);
	return counted >= calls - 1 && counted <= calls + 3u ? took / (double)counted : -1;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	uint32_t calls = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 0) : 2000000;
	unsigned rounds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 5;
	double ours[MAX_ROUNDS], theirs[MAX_ROUNDS];

	if (!rounds || rounds > MAX_ROUNDS || calls < 100) {
		fprintf(stderr, "callbacks [CALLBACKS [ROUNDS]]: at least 100, and 1 to %u\n", MAX_ROUNDS);
		return 2;
	}
	for (enum kind kind = 0; kind < KINDS; kind++) {
		for (unsigned k = 0; k < rounds; k++) {
			ours[k] = measure(run_ours, kind, calls);
			theirs[k] = measure(run_theirs, kind, calls);
		}
		qsort(ours, rounds, sizeof ours[0], by_size);
		qsort(theirs, rounds, sizeof theirs[0], by_size);
		if (ours[0] < 0) {
			fprintf(stderr, "%s: failed, or not called as often as it should be\n", kinds[kind].name);
			return 1;
		}
		printf("{\"name\": \"%s\", \"virtcore_ns\": %.1f", kinds[kind].name, ours[rounds / 2]);
		if (theirs[0] >= 0)
			printf(", \"unicorn_ns\": %.1f", theirs[rounds / 2]);
		printf("}\n");
		fflush(stdout);
	}
	return 0;
}
