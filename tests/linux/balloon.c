/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * balloon KERNEL INITRD inflate|report|reclaim [emu|kvm]: boots a guest that fills most of its memory and frees it.
 * Memory must come back to the host, by the way named, which the resident size of this process shows; and the guest can
 * use it again.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shell.h"

#define MIB (1ull << 20)

enum { MEMORY = 256, BALLOON = 150, FALL = 120 /* MiB that must come back */ };

#define PATIENCE_US 60e6 /* that only a failing test waits for */

struct guest {
	struct shell shell;
	vcore_device *balloon;
};

static void next_step(const struct guest *g)
{
	if (write(g->shell.in, "\n", 1) != 1)
		shell_fail("console");
}

static void start(struct guest *g, char **argv)
{
	const char *kernel = argv[1], *initrd = argv[2], *way = argv[3];
	struct vcore_options o = {.size = sizeof o,
	                          .machine = VCORE_MACHINE_MICROVM,
	                          .memory = MEMORY * MIB,
	                          .backend = shell_backend(argv[4] ? argv[4] : "emu")};
	char balloon[64];

	shell_pipes(&g->shell);
	snprintf(balloon, sizeof balloon, "transport=mmio,reporting=%s", strcmp(way, "report") ? "off" : "on");
	if (vcore_vm_new(&o, &g->shell.vm) < 0 || vcore_device_add(g->shell.vm, "uart", shell_uart(&g->shell), NULL) < 0 ||
	    vcore_device_add(g->shell.vm, "virtio-balloon", balloon, &g->balloon) < 0 ||
	    vcore_boot_linux(g->shell.vm, kernel, initrd, "console=ttyS0 panic=-1") < 0 || vcore_vm_start(g->shell.vm) < 0)
		shell_fail("starting");
}

static void await_fall(unsigned before)
{
	double end = shell_now_us() + PATIENCE_US;

	while (shell_resident_mib() + FALL > before) {
		if (shell_now_us() > end)
			shell_fail("the memory does not come back");
		usleep(20000);
	}
}

static void await_actual(struct guest *g, uint64_t target)
{
	struct vcore_balloon_stats s = {.size = sizeof s};
	double end = shell_now_us() + PATIENCE_US;

	if (vcore_balloon_set_target(g->balloon, target) < 0)
		shell_fail("vcore_balloon_set_target");
	do {
		if (vcore_balloon_get_stats(g->balloon, &s) < 0 || shell_now_us() > end)
			shell_fail("the balloon does not follow");
		usleep(20000);
	} while (s.actual != target || !s.updates || s.total_memory == UINT64_MAX);
}

int main(int argc, char **argv)
{
	struct guest g = {0};
	unsigned before;

	if (argc < 4)
		return 2;
	start(&g, argv);
	shell_expect(&g.shell, "balloon", "balloon: filled");
	before = shell_resident_mib();
	next_step(&g);
	shell_expect(&g.shell, "balloon", "balloon: freed");
	if (!strcmp(argv[3], "inflate"))
		await_actual(&g, BALLOON * MIB);
	else if (!strcmp(argv[3], "reclaim") && vcore_balloon_reclaim(g.balloon) < 0)
		shell_fail("vcore_balloon_reclaim");
	await_fall(before);
	printf("balloon %s: %u MiB resident before, %u after\n", argv[3], before, shell_resident_mib());
	if (!strcmp(argv[3], "inflate"))
		await_actual(&g, 0);
	next_step(&g);
	shell_expect(&g.shell, "balloon", "balloon: used again");
	next_step(&g);
	shell_await_poweroff(&g.shell);
	shell_end(&g.shell);
	return 0;
}
