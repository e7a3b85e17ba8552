/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hotplug VMLINUZ INITRD [emu|kvm [CPU]]: a Linux guest with a PCI Express slot. When the guest's console says
 * "hotplug: ready" a virtio-rng is put in; at "hotplug: works" the slot's button is pressed, and once the power is off
 * the card is pulled out; it is put in once more. 0 when the guest powered off after that.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <virtcore/virtcore.h>

static int fail(const char *what)
{
	fprintf(stderr, "hotplug: %s: %s\n", what, vcore_error_message());
	return 1;
}

/* The guest lets go when it likes. */
static int take_card(vcore_device *card)
{
	struct vcore_pci_info info = {.size = sizeof info};
	int r = vcore_pci_unplug(card);

	while (r >= 0 && !info.slot_off) {
		usleep(20000);
		r = vcore_pci_get_info(card, &info);
	}
	return r < 0 ? r : vcore_device_remove(card);
}

/* The guest says a line; 0 or an error. */
static int answer(vcore_vm *vm, const char *line, vcore_device **card)
{
	if (!strncmp(line, "hotplug: ready", 14) || !strncmp(line, "hotplug: gone", 13))
		return vcore_device_add(vm, "virtio-rng", "addr=1/0", card);
	return strncmp(line, "hotplug: works", 14) ? 0 : take_card(*card);
}

static int talk(vcore_vm *vm, FILE *console)
{
	vcore_device *card = NULL;
	char line[512];

	while (fgets(line, sizeof line, console)) {
		fputs(line, stdout);
		if (answer(vm, line, &card) < 0)
			return fail(line);
		if (!strncmp(line, "hotplug: end", 12))
			return 0;
	}
	return 1;
}

static int run(vcore_vm *vm, char **argv)
{
	struct vcore_exit exit = {.size = sizeof exit};
	char properties[64];
	FILE *console;
	int ends[2];

	if (pipe(ends) < 0 || !(console = fdopen(ends[0], "r")))
		return 1;
	snprintf(properties, sizeof properties, "input=null,output=fd:%d", ends[1]);
	if (vcore_device_add(vm, "uart", properties, NULL) < 0 ||
	    vcore_device_add(vm, "pci-root-port", "addr=1,slot=7", NULL) < 0 ||
	    vcore_boot_linux(vm, argv[1], argv[2], "console=ttyS0 quiet panic=-1") < 0 || vcore_vm_start(vm) < 0)
		return fail("starting");
	if (talk(vm, console))
		return 1;
	return vcore_vm_wait(vm, 60000000000ll, &exit) < 0 || exit.reason != VCORE_EXIT_POWEROFF;
}

int main(int argc, char **argv)
{
	struct vcore_options options = {.size = sizeof options,
	                                .machine = VCORE_MACHINE_MICROVM,
	                                .backend =
	                                    argc > 3 && !strcmp(argv[3], "kvm") ? VCORE_BACKEND_KVM : VCORE_BACKEND_EMU,
	                                .cpu = argc > 4 ? argv[4] : NULL,
	                                .memory = 384 << 20,
	                                .vcpus = 2};
	vcore_vm *vm;
	int status;

	if (argc < 3)
		return 2;
	alarm(300); /* a guest that says nothing more */
	if (vcore_vm_new(&options, &vm) < 0)
		return fail("no vm");
	status = run(vm, argv);
	vcore_vm_unref(vm);
	return status;
}
