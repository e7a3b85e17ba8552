/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hotplug VMLINUZ INITRD [emu|kvm [CPU]]: a Linux guest with a PCI Express slot. When the guest's console says
 * "hotplug: ready" a virtio-rng is put in; at "hotplug: works" the slot's button is pressed, and once the power is off
 * the card is pulled out; it is put in once more. 0 when the guest powered off after that.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "talk.h"

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

static int answer(struct talk *t, const char *line)
{
	if (!strncmp(line, "hotplug: ready", 14) || !strncmp(line, "hotplug: gone", 13))
		return vcore_device_add(t->vm, "virtio-rng", "addr=1/0", &t->card);
	return strncmp(line, "hotplug: works", 14) ? 0 : take_card(t->card);
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
	struct talk t = {.name = "hotplug", .end = "hotplug: end", .answer = answer};
	int status;

	if (argc < 3)
		return 2;
	alarm(300); /* a guest that says nothing more */
	if (vcore_vm_new(&options, &t.vm) < 0 || vcore_device_add(t.vm, "pci-root-port", "addr=1,slot=7", NULL) < 0)
		return talk_fail(&t, "no vm");
	status = talk_run(&t, argv[1], argv[2]);
	vcore_vm_unref(t.vm);
	return status;
}
