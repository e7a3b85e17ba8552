/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mem KERNEL INITRD mmio|pci [emu|kvm]: a guest gets memory while it runs, uses it, and gives it back. Its own total
 * must show it, and the resident size of this process that the memory really came back to the host.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <virtcore/virtcore.h>

#define MIB (1ull << 20)

enum { MEMORY = 256, MORE = 512, LESS = 128, USED = 300 /* MiB */, PATIENCE_S = 60 };

struct guest {
	vcore_vm *vm;
	vcore_device *memory;
	int console_in, console_out; /* our ends */
	unsigned orders;
	char text[1 << 16];
	size_t length;
};

static void fail(const char *what)
{
	fprintf(stderr, "mem: %s: %s\n", what, vcore_error_message());
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Resident MiB of this process. */
static unsigned resident(void)
{
	unsigned long total, pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (!f || fscanf(f, "%lu %lu", &total, &pages) != 2)
		fail("reading /proc/self/statm");
	fclose(f);
	return (unsigned)(pages * (unsigned long)sysconf(_SC_PAGESIZE) / MIB);
}

static const char *await_text(struct guest *g, const char *text)
{
	double end = now() + PATIENCE_S;
	const char *found;

	while (!(found = strstr(g->text, text)) || !strchr(found, '\n')) {
		struct pollfd p = {.fd = g->console_out, .events = POLLIN};
		ssize_t n = 0;

		if (now() > end || g->length + 1 >= sizeof g->text) {
			fputs(g->text, stderr);
			fail(text);
		}
		if (poll(&p, 1, 100) > 0)
			n = read(g->console_out, g->text + g->length, sizeof g->text - 1 - g->length);
		g->length += n > 0 ? (size_t)n : 0;
	}
	return found;
}

/* The guest does it; the MiB that it has then. */
static unsigned order(struct guest *g, const char *word)
{
	unsigned long kib = 0;
	char text[40];

	if (dprintf(g->console_in, "%s\n", word) < 0)
		fail("console");
	snprintf(text, sizeof text, "mem: %u %s ", ++g->orders, word);
	if (sscanf(await_text(g, text) + strlen(text), "%lu", &kib) != 1)
		fail("what the guest says");
	return (unsigned)(kib >> 10);
}

static void start(struct guest *g, char **argv)
{
	struct vcore_options o = {.size = sizeof o,
	                          .machine = VCORE_MACHINE_MICROVM,
	                          .memory = MEMORY * MIB,
	                          .backend = argv[4] && !strcmp(argv[4], "kvm") ? VCORE_BACKEND_KVM : VCORE_BACKEND_EMU};
	int in[2], out[2];
	char uart[64], memory[64];

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		fail("pipes");
	snprintf(uart, sizeof uart, "input=fd:%d,output=fd:%d", in[0], out[1]);
	snprintf(memory, sizeof memory, "transport=%s,size=2G", argv[3]);
	if (vcore_vm_new(&o, &g->vm) < 0 || vcore_device_add(g->vm, "uart", uart, NULL) < 0 ||
	    vcore_device_add(g->vm, "virtio-mem", memory, &g->memory) < 0 ||
	    vcore_boot_linux(g->vm, argv[1], argv[2], "console=ttyS0 quiet panic=-1") < 0 || vcore_vm_start(g->vm) < 0)
		fail("starting");
	g->console_in = in[1];
	g->console_out = out[0];
	close(in[0]);
	close(out[1]);
}

static void resize(struct guest *g, uint64_t size)
{
	struct vcore_virtio_mem_info info = {.size = sizeof info};
	double end = now() + PATIENCE_S;

	if (vcore_virtio_mem_resize(g->memory, size) < 0)
		fail("vcore_virtio_mem_resize");
	do {
		if (vcore_virtio_mem_get_info(g->memory, &info) < 0 || now() > end) {
			fprintf(stderr, "%llu of %llu MiB\n", (unsigned long long)info.plugged_size >> 20,
			        (unsigned long long)size >> 20);
			fail("the guest does not follow");
		}
		usleep(20000);
	} while (info.plugged_size != size);
}

/* The guest's total follows a little after the blocks. */
static void await_total(struct guest *g, unsigned least, unsigned most)
{
	double end = now() + PATIENCE_S;
	unsigned total;

	while ((total = order(g, "total")) < least || total > most) {
		if (now() > end) {
			fprintf(stderr, "%u MiB, expected %u to %u\n", total, least, most);
			fail("the guest has another total");
		}
		usleep(50000);
	}
}

/* Back to when the guest had its memory: it has it again, with what is in it. */
static void go_back(struct guest *g, vcore_snapshot *snapshot, unsigned orders)
{
	struct vcore_virtio_mem_info info = {.size = sizeof info};

	if (vcore_vm_reset_to(g->vm, snapshot) < 0 || vcore_virtio_mem_get_info(g->memory, &info) < 0)
		fail("vcore_vm_reset_to");
	if (info.plugged_size != MORE * MIB)
		fail("the snapshot has other memory plugged in");
	g->orders = orders;
	g->length = 0;
	memset(g->text, 0, sizeof g->text);
}

int main(int argc, char **argv)
{
	struct guest g = {0};
	vcore_snapshot *snapshot;
	unsigned orders;
	struct vcore_exit end = {.size = sizeof end};
	unsigned total, full, after;

	if (argc < 4)
		return 2;
	start(&g, argv);
	await_text(&g, "mem: ready");
	total = order(&g, "total");
	resize(&g, MORE * MIB);
	await_total(&g, total + MORE - 16, total + MORE);
	order(&g, "fill");
	full = resident();
	if (full < USED)
		fail("the guest does not use its memory");
	if (vcore_snapshot_take(g.vm, &snapshot) < 0)
		fail("vcore_snapshot_take");
	orders = g.orders;
	order(&g, "free");
	resize(&g, LESS * MIB);
	await_total(&g, total + LESS - 32, total + LESS);
	/* the rest goes, and comes again */
	resize(&g, 0);
	await_total(&g, total - 32, total);
	after = resident();
	printf("mem %s: %u MiB resident with it, %u without\n", argv[3], full, after);
	if (after + USED / 2 > full)
		fail("the memory does not come back");
	go_back(&g, snapshot, orders);
	vcore_snapshot_unref(snapshot);
	order(&g, "sum");
	await_total(&g, total + MORE - 16, total + MORE);
	order(&g, "free");
	resize(&g, 0);
	resize(&g, MORE * MIB);
	order(&g, "fill");
	if (dprintf(g.console_in, "off\n") < 0 || vcore_vm_wait(g.vm, PATIENCE_S * 1000000000ll, &end) < 0 ||
	    end.reason != VCORE_EXIT_POWEROFF)
		fail("the guest does not power off");
	vcore_vm_unref(g.vm);
	return 0;
}
