/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A fuzzer's loop: go back to a snapshot, put another input in place, run, look how it ended. Stops at the first crash.
 */
#include <stdio.h>
#include <time.h>
#include <virtcore/virtcore.h>

static int fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, vcore_error_message());
	return 1;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The input is at 0x2000; what is to be found is that it crashes at 20000. */
static vcore_vm *target(void)
{
	static const uint8_t code[] = {
	    0xa1, 0x00, 0x20, 0x00, 0x00, /* mov eax, [0x2000] */
	    0x3d, 0x20, 0x4e, 0x00, 0x00, /* cmp eax, 20000 */
	    0x75, 0x02, 0x0f, 0x0b,       /* jne l; ud2 */
	    0xf4,                         /* l: hlt */
	};
	struct vcore_options options = {.size = sizeof options, .memory = 2 << 20};
	struct vcore_regs regs = {.size = sizeof regs, .rip = 0x1000, .rflags = 2};
	vcore_vm *vm;

	if (vcore_vm_new(&options, &vm) < 0)
		return NULL;
	if (vcore_memory_write(vm, 0x1000, code, sizeof code) < 0 ||
	    vcore_vcpu_set_mode(vcore_vm_vcpu(vm, 0), VCORE_MODE_PROTECTED32, 0) < 0 ||
	    vcore_vcpu_set_regs(vcore_vm_vcpu(vm, 0), &regs) < 0) {
		vcore_vm_unref(vm);
		return NULL;
	}
	return vm;
}

int main(void)
{
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_snapshot *start;
	vcore_vm *vm = target();
	uint32_t input = 0;
	double began;

	if (!vm || vcore_snapshot_take(vm, &start) < 0)
		return fail("fuzz-loop");
	began = now();
	do {
		input++;
		if (vcore_vm_reset_to(vm, start) < 0 || vcore_memory_write(vm, 0x2000, &input, sizeof input) < 0 ||
		    vcore_vcpu_run(vcore_vm_vcpu(vm, 0), -1, &exit) < 0)
			return fail("fuzz-loop");
	} while (exit.reason != VCORE_EXIT_CRASH && input < 1000000);
	printf("input %u: %s; %.0f runs a second\n", input, vcore_exit_name(exit.reason), input / (now() - began));
	vcore_snapshot_unref(start);
	vcore_vm_unref(vm);
	return input != 20000;
}
