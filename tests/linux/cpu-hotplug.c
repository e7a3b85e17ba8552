/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cpu-hotplug VMLINUZ INITRD legacy|no-legacy [emu|kvm [CPU]]: a Linux guest with one vcpu of three. At "cpus: ready"
 * the second is plugged in, at "cpus: worked" it is asked for back, at "cpus: gone" it comes once more. 0 when the
 * guest powered off after that.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "talk.h"

static void get_stats(vcore_vm *vm, struct vcore_vcpu_stats *stats)
{
	*stats = (struct vcore_vcpu_stats){.size = sizeof *stats};
	vcore_vcpu_get_stats(vcore_vm_vcpu(vm, 1), stats);
}

/* The guest lets go when it likes; its last instruction is long over when it says so. */
static int take(vcore_vm *vm)
{
	struct vcore_vcpu_stats stats;
	int r = vcore_vcpu_unplug(vcore_vm_vcpu(vm, 1));

	do {
		usleep(10000);
		get_stats(vm, &stats);
	} while (r >= 0 && stats.present);
	printf("vcpu 1: %llu ms run, %llu halts, present %u\n", (unsigned long long)stats.run_ns / 1000000,
	       (unsigned long long)stats.halts, stats.present);
	return r < 0 || !stats.run_ns ? -1 : 0;
}

static int answer(struct talk *t, const char *line)
{
	if (!strncmp(line, "cpus: ready", 11) || !strncmp(line, "cpus: gone", 10))
		return vcore_vcpu_plug(vcore_vm_vcpu(t->vm, 1));
	return strncmp(line, "cpus: worked", 12) ? 0 : take(t->vm);
}

int main(int argc, char **argv)
{
	struct vcore_options options = {.size = sizeof options,
	                                .machine = VCORE_MACHINE_MICROVM,
	                                .backend = VCORE_BACKEND_EMU,
	                                .memory = 256 << 20,
	                                .max_vcpus = 3};
	struct talk t = {.name = "cpu-hotplug", .end = "cpus: end", .answer = answer};
	int status;

	if (argc < 4)
		return 2;
	options.no_legacy = !strcmp(argv[3], "no-legacy");
	if (argc > 4 && !strcmp(argv[4], "kvm"))
		options.backend = VCORE_BACKEND_KVM;
	options.cpu = argc > 5 ? argv[5] : NULL;
	alarm(300); /* a guest that says nothing more */
	if (vcore_vm_new(&options, &t.vm) < 0)
		return talk_fail(&t, "no vm");
	status = talk_run(&t, argv[1], argv[2]);
	vcore_vm_unref(t.vm);
	return status;
}
