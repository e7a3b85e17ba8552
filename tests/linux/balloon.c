/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * balloon KERNEL INITRD inflate|report|reclaim [emu|kvm]: boots a guest that fills most of its memory and frees it.
 * Memory must come back to the host, by the way named, which the resident size of this process shows; and the guest can
 * use it again.
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

enum { MEMORY = 256, BALLOON = 150, FALL = 120 /* MiB that must come back */, PATIENCE_S = 60 };

struct guest {
	vcore_vm *vm;
	vcore_device *balloon;
	int console_in, console_out; /* our ends */
	char text[1 << 16];
	size_t length;
};

static void fail(const char *what)
{
	fprintf(stderr, "balloon: %s: %s\n", what, vcore_error_message());
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

static void await_text(struct guest *g, const char *text)
{
	double end = now() + PATIENCE_S;

	while (!strstr(g->text, text)) {
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
}

static void next_step(const struct guest *g)
{
	if (write(g->console_in, "\n", 1) != 1)
		fail("console");
}

static void start(struct guest *g, char **argv)
{
	const char *kernel = argv[1], *initrd = argv[2], *way = argv[3];
	struct vcore_options o = {.size = sizeof o,
	                          .machine = VCORE_MACHINE_MICROVM,
	                          .memory = MEMORY * MIB,
	                          .backend = argv[4] && !strcmp(argv[4], "kvm") ? VCORE_BACKEND_KVM : VCORE_BACKEND_EMU};
	int in[2], out[2];
	char uart[64], balloon[64];

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		fail("pipes");
	snprintf(uart, sizeof uart, "input=fd:%d,output=fd:%d", in[0], out[1]);
	snprintf(balloon, sizeof balloon, "transport=mmio,reporting=%s", strcmp(way, "report") ? "off" : "on");
	if (vcore_vm_new(&o, &g->vm) < 0 || vcore_device_add(g->vm, "uart", uart, NULL) < 0 ||
	    vcore_device_add(g->vm, "virtio-balloon", balloon, &g->balloon) < 0 ||
	    vcore_boot_linux(g->vm, kernel, initrd, "console=ttyS0 panic=-1") < 0 || vcore_vm_start(g->vm) < 0)
		fail("starting");
	g->console_in = in[1];
	g->console_out = out[0];
	close(in[0]);
	close(out[1]);
}

static void await_fall(unsigned before)
{
	double end = now() + PATIENCE_S;

	while (resident() + FALL > before) {
		if (now() > end)
			fail("the memory does not come back");
		usleep(20000);
	}
}

static void await_actual(struct guest *g, uint64_t target)
{
	struct vcore_balloon_stats s = {.size = sizeof s};
	double end = now() + PATIENCE_S;

	if (vcore_balloon_set_target(g->balloon, target) < 0)
		fail("vcore_balloon_set_target");
	do {
		if (vcore_balloon_get_stats(g->balloon, &s) < 0 || now() > end)
			fail("the balloon does not follow");
		usleep(20000);
	} while (s.actual != target || !s.updates || s.total_memory == UINT64_MAX);
}

int main(int argc, char **argv)
{
	struct guest g = {0};
	struct vcore_exit end = {.size = sizeof end};
	unsigned before;

	if (argc < 4)
		return 2;
	start(&g, argv);
	await_text(&g, "balloon: filled");
	before = resident();
	next_step(&g);
	await_text(&g, "balloon: freed");
	if (!strcmp(argv[3], "inflate"))
		await_actual(&g, BALLOON * MIB);
	else if (!strcmp(argv[3], "reclaim") && vcore_balloon_reclaim(g.balloon) < 0)
		fail("vcore_balloon_reclaim");
	await_fall(before);
	printf("balloon %s: %u MiB resident before, %u after\n", argv[3], before, resident());
	if (!strcmp(argv[3], "inflate"))
		await_actual(&g, 0);
	next_step(&g);
	await_text(&g, "balloon: used again");
	next_step(&g);
	if (vcore_vm_wait(g.vm, PATIENCE_S * 1000000000ll, &end) < 0 || end.reason != VCORE_EXIT_POWEROFF)
		fail("the guest does not power off");
	vcore_vm_unref(g.vm);
	return 0;
}
