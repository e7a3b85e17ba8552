/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A PCI device of our own, which squares numbers, and a guest that finds its BAR and uses it. */
#include <stdio.h>
#include <virtcore/virtcore.h>

static uint64_t square;

static void on_write(void *ctx, uint32_t bar, struct vcore_io *io)
{
	square = io->data * io->data;
}

static void on_read(void *ctx, uint32_t bar, struct vcore_io *io)
{
	io->data = square;
}

static int fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, vcore_error_message());
	return 1;
}

int main(void)
{
	static const uint8_t code[] = {
	    0x66, 0xba, 0xf8, 0x0c, 0xb8, 0x04, 0x08, 0x00, 0x80, 0xef, /* outl 0x80000804, 0xcf8: the command register */
	    0x66, 0xba, 0xfc, 0x0c, 0xb8, 0x02, 0x00, 0x00, 0x00, 0xef, /* outl 2, 0xcfc: memory is on */
	    0x66, 0xba, 0xf8, 0x0c, 0xb8, 0x10, 0x08, 0x00, 0x80, 0xef, /* outl 0x80000810, 0xcf8: BAR 0 */
	    0x66, 0xba, 0xfc, 0x0c, 0xed, 0x24, 0xf0, 0x89, 0xc3,       /* inl 0xcfc, eax; and al, 0xf0; mov ebx, eax */
	    0xc7, 0x03, 0x07, 0x00, 0x00, 0x00,                         /* mov dword [ebx], 7 */
	    0x8b, 0x03, 0xe7, 0xf4,                                     /* mov eax, [ebx]; outl eax, 0xf4 */
	};
	struct vcore_options options = {.size = sizeof options, .machine = VCORE_MACHINE_MICROVM, .memory = 2 << 20};
	struct vcore_pci_description squarer = {.size = sizeof squarer,
	                                        .vendor = 0x1234,
	                                        .device = 0x5678,
	                                        .class_code = 0xff0000,
	                                        .bars = {{.size = 4096}},
	                                        .type = "squarer"};
	struct vcore_pci_ops ops = {.size = sizeof ops, .read = on_read, .write = on_write};
	struct vcore_regs regs = {.size = sizeof regs, .rip = 0x1000, .rflags = 2};
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vcpu *vcpu;
	vcore_vm *vm;

	if (vcore_vm_new(&options, &vm) < 0)
		return fail("vcore_vm_new");
	vcpu = vcore_vm_vcpu(vm, 0);
	if (vcore_pci_add(vm, &squarer, &ops, NULL, NULL) < 0 || vcore_device_add(vm, "debug-exit", NULL, NULL) < 0 ||
	    vcore_memory_write(vm, 0x1000, code, sizeof code) < 0 ||
	    vcore_vcpu_set_mode(vcpu, VCORE_MODE_PROTECTED32, 0) < 0 || vcore_vcpu_set_regs(vcpu, &regs) < 0 ||
	    vcore_vcpu_run(vcpu, -1, &exit) < 0)
		return fail("pci-device");
	printf("7 squared is %u\n", exit.code);
	vcore_vm_unref(vm);
	return exit.code != 49;
}
