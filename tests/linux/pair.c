/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pair KERNEL INITRD MEMORY-MIB ADDRESS SERVER-COMMANDS [PROPERTIES]: two guests of this process on one switch, backend
 * emu. The first has ADDRESS.1/24 and runs the commands (run= on its kernel's command line); its console goes to
 * standard error. The second has ADDRESS.2/24 and standard input and output. Ends once that one has.
 */
#include <stdio.h>
#include <stdlib.h>
#include <virtcore/virtcore.h>

enum { GUESTS = 2 };

static int fail(const char *what)
{
	fprintf(stderr, "pair: %s: %s\n", what, vcore_error_message());
	return 1;
}

static int make(unsigned n, vcore_switch *sw, char **argv, vcore_vm **vm)
{
	static const char *const consoles[GUESTS] = {"output=stderr", "input=stdin,output=stdout"};
	struct vcore_options o = {.size = sizeof o,
	                          .machine = VCORE_MACHINE_MICROVM,
	                          .backend = VCORE_BACKEND_EMU,
	                          .memory = (uint64_t)atoi(argv[3]) << 20,
	                          .vcpus = 1};
	char cmdline[400], nic[400];

	snprintf(cmdline, sizeof cmdline, "console=ttyS0 quiet panic=-1 address=%s.%u/24 %s%s", argv[4], n + 1,
	         n ? "" : "run=", n ? "" : argv[5]);
	snprintf(nic, sizeof nic, "net=switch,switch=lan%s%s", argv[6] ? "," : "", argv[6] ? argv[6] : "");
	if (vcore_vm_new(&o, vm) < 0)
		return fail("a vm");
	if (vcore_vm_add_switch(*vm, "lan", sw) < 0 || vcore_device_add(*vm, "uart", consoles[n], NULL) < 0 ||
	    vcore_device_add(*vm, "virtio-net", nic, NULL) < 0)
		return fail("devices");
	if (vcore_boot_linux(*vm, argv[1], argv[2], cmdline) < 0)
		return fail("the kernel");
	return vcore_vm_start(*vm) < 0 ? fail("starting") : 0;
}

int main(int argc, char **argv)
{
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vm *vms[GUESTS] = {NULL};
	vcore_switch *sw;
	int r = 0;

	if (argc < 6 || argc > 7 || vcore_switch_new(&sw) < 0)
		return 2;
	for (unsigned n = 0; !r && n < GUESTS; n++)
		r = make(n, sw, argv, &vms[n]);
	if (!r)
		r = vcore_vm_wait(vms[1], -1, &exit) < 0 ? fail("waiting") : exit.reason != VCORE_EXIT_POWEROFF;
	for (unsigned n = 0; n < GUESTS; n++)
		vcore_vm_unref(vms[n]);
	vcore_switch_unref(sw);
	return r;
}
