/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lifecycle [ROUNDS]: create vm + vcpu + 128 MiB slot, first guest instruction, destroy: the library on kvm, on emu,
 * and the bare ioctls, in turn. Prints JSON.
 */
#include <stdio.h>
#include <virtcore/virtcore.h>

#include "bare.h"

#define MEMORY (128u << 20)

static const uint8_t code[] = {0xf4}; /* hlt */

static double bare_once(void)
{
	uint64_t start = now_ns();
	struct bare b;

	if (bare_open(&b, MEMORY, code, sizeof code, 0x1000) < 0 || ioctl(b.vcpu, KVM_RUN, 0) < 0 ||
	    b.run->exit_reason != KVM_EXIT_HLT)
		return -1;
	bare_close(&b);
	return (double)(now_ns() - start) / 1000;
}

static double library_once(enum vcore_backend backend)
{
	struct vcore_options o = {.size = sizeof o, .backend = backend, .memory = MEMORY};
	struct vcore_regs regs = {.size = sizeof regs, .rip = 0x1000, .rflags = 2};
	struct vcore_exit exit = {.size = sizeof exit};
	uint64_t start = now_ns();
	vcore_vcpu *vcpu;
	vcore_vm *vm;

	if (vcore_vm_new(&o, &vm) < 0)
		return -1;
	vcpu = vcore_vm_vcpu(vm, 0);
	if (vcore_memory_write(vm, 0x1000, code, sizeof code) < 0 ||
	    vcore_vcpu_set_mode(vcpu, VCORE_MODE_PROTECTED32, 0) < 0 || vcore_vcpu_set_regs(vcpu, &regs) < 0 ||
	    vcore_vcpu_run(vcpu, -1, &exit) < 0 || exit.reason != VCORE_EXIT_HALT)
		return -1;
	vcore_vm_unref(vm);
	return (double)(now_ns() - start) / 1000;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 51;
	double *v[4];

	for (int k = 0; k < 4; k++)
		v[k] = calloc((size_t)rounds, sizeof(double));
	for (int i = -2; i < rounds; i++) {
		int at = i < 0 ? 0 : i;

		v[0][at] = bare_once();
		v[1][at] = library_once(VCORE_BACKEND_KVM);
		v[2][at] = library_once(VCORE_BACKEND_EMU);
		v[3][at] = v[1][at] / v[0][at];
	}
	for (int k = 0; k < 4; k++)
		qsort(v[k], (size_t)rounds, sizeof(double), compare_doubles);
	printf("{\"name\": \"lifecycle\", \"bare_us\": %.1f, \"kvm_us\": %.1f, \"emu_us\": %.1f, \"ratio\": %.3f}\n",
	       v[0][rounds / 2], v[1][rounds / 2], v[2][rounds / 2], v[3][rounds / 2]);
	for (int k = 0; k < 4; k++)
		free(v[k]);
	return 0;
}
