/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mem KERNEL INITRD mmio|pci [emu|kvm]: a guest gets memory while it runs, uses it, and gives it back. Its own total
 * must show it, and the resident size of this process that the memory really came back to the host.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shell.h"

#define MIB (1ull << 20)

enum { MEMORY = 256, MORE = 512, LESS = 128, USED = 300 /* MiB */ };

#define PATIENCE_US 60e6 /* that only a failing test waits for */

struct guest {
	struct shell shell;
	vcore_device *memory;
	unsigned orders;
};

/* The guest does it; the MiB that it has then. */
static unsigned order(struct guest *g, const char *word)
{
	unsigned long kib = 0;
	char text[40];

	if (dprintf(g->shell.in, "%s\n", word) < 0)
		shell_fail("console");
	snprintf(text, sizeof text, "mem: %u %s ", ++g->orders, word);
	if (sscanf(shell_line(&g->shell, "mem", text) + strlen(text), "%lu", &kib) != 1)
		shell_fail("what the guest says");
	return (unsigned)(kib >> 10);
}

static void start(struct guest *g, char **argv)
{
	struct vcore_options o = {.size = sizeof o,
	                          .machine = VCORE_MACHINE_MICROVM,
	                          .memory = MEMORY * MIB,
	                          .backend = shell_backend(argv[4] ? argv[4] : "emu")};
	char memory[64];

	shell_pipes(&g->shell);
	snprintf(memory, sizeof memory, "transport=%s,size=2G", argv[3]);
	if (vcore_vm_new(&o, &g->shell.vm) < 0 || vcore_device_add(g->shell.vm, "uart", shell_uart(&g->shell), NULL) < 0 ||
	    vcore_device_add(g->shell.vm, "virtio-mem", memory, &g->memory) < 0 ||
	    vcore_boot_linux(g->shell.vm, argv[1], argv[2], "console=ttyS0 quiet panic=-1") < 0 ||
	    vcore_vm_start(g->shell.vm) < 0)
		shell_fail("starting");
}

static void resize(struct guest *g, uint64_t size)
{
	struct vcore_virtio_mem_info info = {.size = sizeof info};
	double end = shell_now_us() + PATIENCE_US;

	if (vcore_virtio_mem_resize(g->memory, size) < 0)
		shell_fail("vcore_virtio_mem_resize");
	do {
		if (vcore_virtio_mem_get_info(g->memory, &info) < 0 || shell_now_us() > end) {
			fprintf(stderr, "%llu of %llu MiB\n", (unsigned long long)info.plugged_size >> 20,
			        (unsigned long long)size >> 20);
			shell_fail("the guest does not follow");
		}
		usleep(20000);
	} while (info.plugged_size != size);
}

/* The guest's total follows a little after the blocks. */
static void await_total(struct guest *g, unsigned least, unsigned most)
{
	double end = shell_now_us() + PATIENCE_US;
	unsigned total;

	while ((total = order(g, "total")) < least || total > most) {
		if (shell_now_us() > end) {
			fprintf(stderr, "%u MiB, expected %u to %u\n", total, least, most);
			shell_fail("the guest has another total");
		}
		usleep(50000);
	}
}

/* Back to when the guest had its memory: it has it again, with what is in it. */
static void go_back(struct guest *g, vcore_snapshot *snapshot, unsigned orders)
{
	struct vcore_virtio_mem_info info = {.size = sizeof info};

	if (vcore_vm_reset_to(g->shell.vm, snapshot) < 0 || vcore_virtio_mem_get_info(g->memory, &info) < 0)
		shell_fail("vcore_vm_reset_to");
	if (info.plugged_size != MORE * MIB)
		shell_fail("the snapshot has other memory plugged in");
	g->orders = orders;
	shell_forget(&g->shell);
}

int main(int argc, char **argv)
{
	struct guest g = {0};
	vcore_snapshot *snapshot;
	unsigned orders;
	unsigned total, full, after;

	if (argc < 4)
		return 2;
	start(&g, argv);
	shell_expect(&g.shell, "mem", "mem: ready");
	total = order(&g, "total");
	resize(&g, MORE * MIB);
	await_total(&g, total + MORE - 16, total + MORE);
	order(&g, "fill");
	full = shell_resident_mib();
	if (full < USED)
		shell_fail("the guest does not use its memory");
	if (vcore_snapshot_take(g.shell.vm, &snapshot) < 0)
		shell_fail("vcore_snapshot_take");
	orders = g.orders;
	order(&g, "free");
	resize(&g, LESS * MIB);
	await_total(&g, total + LESS - 32, total + LESS);
	/* the rest goes, and comes again */
	resize(&g, 0);
	await_total(&g, total - 32, total);
	after = shell_resident_mib();
	printf("mem %s: %u MiB resident with it, %u without\n", argv[3], full, after);
	if (after + USED / 2 > full)
		shell_fail("the memory does not come back");
	go_back(&g, snapshot, orders);
	vcore_snapshot_unref(snapshot);
	order(&g, "sum");
	await_total(&g, total + MORE - 16, total + MORE);
	order(&g, "free");
	resize(&g, 0);
	resize(&g, MORE * MIB);
	order(&g, "fill");
	if (dprintf(g.shell.in, "off\n") < 0)
		shell_fail("console");
	shell_await_poweroff(&g.shell);
	shell_end(&g.shell);
	return 0;
}
