/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* resident BACKEND: KiB of memory that one more vm costs beyond the guest pages it touched (128 MiB slot, a loop over 1
 * MiB of it). Prints JSON. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <virtcore/virtcore.h>

#define VMS     8
#define TOUCHED (1 << 20)

/* mov ecx, 0x40000; mov edi, 0x100000; rep stosd; hlt: 1 MiB from 1 MiB */
static const uint8_t code[] = {0xb9, 0x00, 0x00, 0x04, 0x00, 0xbf, 0x00, 0x00, 0x10, 0x00, 0xf3, 0xab, 0xf4};

static long resident_kib(void)
{
	long total = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (!f || fscanf(f, "%ld %ld", &total, &resident) != 2)
		resident = 0;
	if (f)
		fclose(f);
	return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static vcore_vm *run_one(enum vcore_backend backend)
{
	struct vcore_options o = {.size = sizeof o, .backend = backend, .memory = 128 << 20};
	struct vcore_regs regs = {.size = sizeof regs, .rip = 0x1000, .rflags = 2};
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vcpu *vcpu;
	vcore_vm *vm;

	if (vcore_vm_new(&o, &vm) < 0)
		return NULL;
	vcpu = vcore_vm_vcpu(vm, 0);
	if (vcore_memory_write(vm, 0x1000, code, sizeof code) < 0 ||
	    vcore_vcpu_set_mode(vcpu, VCORE_MODE_PROTECTED32, 0) < 0 || vcore_vcpu_set_regs(vcpu, &regs) < 0 ||
	    vcore_vcpu_run(vcpu, -1, &exit) < 0 || exit.reason != VCORE_EXIT_HALT)
		return NULL;
	return vm;
}

int main(int argc, char **argv)
{
	enum vcore_backend backend = argc > 1 && !strcmp(argv[1], "kvm") ? VCORE_BACKEND_KVM : VCORE_BACKEND_EMU;
	vcore_vm *first = run_one(backend), *vms[VMS];
	long before = resident_kib(), after;

	for (int i = 0; i < VMS; i++)
		vms[i] = run_one(backend);
	if (!first || !vms[VMS - 1]) {
		fprintf(stderr, "resident: %s\n", vcore_error_message());
		return 1;
	}
	after = resident_kib();
	printf("{\"name\": \"resident-%s\", \"kib\": %ld}\n", vcore_backend_name(backend),
	       (after - before) / VMS - TOUCHED / 1024 - 4);
	for (int i = 0; i < VMS; i++)
		vcore_vm_unref(vms[i]);
	vcore_vm_unref(first);
	return 0;
}
