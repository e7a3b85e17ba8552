/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A CPU and some memory, by hand: five instructions add two numbers and store the sum to a device of ours. */
#include <stdio.h>
#include <virtcore/virtcore.h>

static void on_write(void *ctx, struct vcore_io *io)
{
	printf("the guest wrote %llu to MMIO address %#llx\n", (unsigned long long)io->data,
	       (unsigned long long)io->address);
}

static int fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, vcore_error_message());
	return 1;
}

int main(void)
{
	static const uint8_t code[] = {
	    0x01, 0xd8,                   /* add eax, ebx */
	    0xba, 0x00, 0x00, 0x00, 0x10, /* mov edx, 0x10000000 */
	    0x89, 0x02,                   /* mov [edx], eax */
	    0xf4,                         /* hlt */
	};
	struct vcore_device_ops ops = {.size = sizeof ops, .write = on_write};
	struct vcore_regs regs = {.size = sizeof regs, .rip = 0x1000, .rax = 40, .rbx = 2, .rflags = 2};
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vcpu *vcpu;
	vcore_vm *vm;

	if (vcore_vm_new(NULL, &vm) < 0)
		return fail("vcore_vm_new");
	vcpu = vcore_vm_vcpu(vm, 0);
	if (vcore_memory_add(vm, 0, 2 << 20, VCORE_MEM_RWX, NULL, NULL) < 0 ||
	    vcore_io_add(vm, VCORE_BUS_MMIO, 0x10000000, 0x1000, &ops, NULL, NULL) < 0 ||
	    vcore_memory_write(vm, 0x1000, code, sizeof code) < 0 ||
	    vcore_vcpu_set_mode(vcpu, VCORE_MODE_PROTECTED32, 0) < 0 || vcore_vcpu_set_regs(vcpu, &regs) < 0 ||
	    vcore_vcpu_run(vcpu, -1, &exit) < 0)
		return fail("raw-code");
	printf("the guest ended with exit \"%s\"\n", vcore_exit_name(exit.reason));
	vcore_vm_unref(vm);
	return exit.reason != VCORE_EXIT_HALT;
}
