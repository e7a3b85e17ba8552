/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Boot a Linux kernel: boot-linux VMLINUZ [INITRD [CMDLINE]] */
#include <stdio.h>
#include <virtcore/virtcore.h>

static int fail(const char *what)
{
	fprintf(stderr, "boot-linux: %s: %s\n", what, vcore_error_message());
	return 1;
}

int main(int argc, char **argv)
{
	struct vcore_options options = {
	    .size = sizeof options, .machine = VCORE_MACHINE_MICROVM, .memory = 512 << 20, .vcpus = 1};
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vm *vm;

	if (argc < 2)
		return fprintf(stderr, "usage: boot-linux VMLINUZ [INITRD [CMDLINE]]\n"), 2;
	if (vcore_vm_new(&options, &vm) < 0)
		return fail("no vm");
	if (vcore_device_add(vm, "uart", "input=stdin,output=stdout", NULL) < 0 ||
	    vcore_boot_linux(vm, argv[1], argc > 2 ? argv[2] : NULL, argc > 3 ? argv[3] : "console=ttyS0") < 0)
		return fail(argv[1]);
	if (vcore_vm_start(vm) < 0 || vcore_vm_wait(vm, -1, &exit) < 0)
		return fail("running");
	fprintf(stderr, "boot-linux: the guest ended with %s %s\n", vcore_exit_name(exit.reason), exit.message);
	vcore_vm_unref(vm);
	return exit.reason != VCORE_EXIT_POWEROFF;
}
