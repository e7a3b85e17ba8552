/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * snapshot [-n ROUNDS] [-m MIB] [-b BACKEND] [-k KERNEL -i INITRD]
 *
 * What cloning, going back, taking, saving and loading of a vm cost: a line of JSON each, with min, median, p90, p99,
 * max. The vm is a microvm with a few devices and MIB (512) of memory, a third of it written, whose guest is a loop
 * that leaves by a port, and writes 100 pages between two times. With KERNEL and INITRD (of tests/linux/snapshot.sh) it
 * is a Linux guest that computes, whose first instruction is a single step.
 *
 *   clone          vcore_snapshot_clone() alone
 *   clone-run      that, and the first instruction of the guest
 *   clone-free     the last reference given back
 *   private        KiB that a clone has for itself at that moment, page tables included
 *   rewind         vcore_vm_reset_to() after 100 pages were written
 *   take           vcore_snapshot_take() after 100 pages were written
 *   save           vcore_snapshot_save() to a file, not synced
 *   load           vcore_snapshot_load() of it, in page cache, without looking at the checksums of memory
 *   load-run       that, a clone, and the first instruction of the guest
 *   load-verified  vcore_snapshot_load() with checksums
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <virtcore/virtcore.h>

#define CODE        0x1000u
#define DIRTY_PAGES 100u
#define DIRTY_FROM  0x200000u
#define DIRTY_STEP  (37u * 4096u)
#define DEBUG_PORT  0x80u

struct bench {
	int rounds;
	uint64_t memory;
	enum vcore_backend backend;
	const char *kernel, *initrd;
	int in, out; /* of the Linux guest's serial port */
};

struct samples {
	const char *name, *unit;
	double *v;
	int count;
};

static void fail(const char *what)
{
	fprintf(stderr, "snapshot: %s: %s\n", what, vcore_error_message());
	exit(1);
}

static void check(int r, const char *what)
{
	if (r < 0)
		fail(what);
}

/* ---- numbers ---- */

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static struct samples samples_new(const char *name, const char *unit, int room)
{
	struct samples s = {name, unit, calloc((size_t)room, sizeof(double)), 0};

	if (!s.v)
		fail("no memory for samples");
	return s;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void report(struct samples *s)
{
	int n = s->count;

	qsort(s->v, (size_t)n, sizeof(double), compare_doubles);
	printf(
	    "{\"name\": \"snapshot-%s\", \"unit\": \"%s\", \"count\": %d, \"min\": %.1f, \"median\": %.1f, \"p90\": %.1f, "
	    "\"p99\": %.1f, \"max\": %.1f}\n",
	    s->name, s->unit, n, s->v[0], s->v[n / 2], s->v[(n - 1) * 90 / 100], s->v[(n - 1) * 99 / 100], s->v[n - 1]);
	free(s->v);
}

/* KiB that are this process's alone, shared pages by their share, and its page tables. */
static double memory_kib(void)
{
	static const struct {
		const char *file, *format;
	} places[] = {{"/proc/self/smaps_rollup", "Pss: %lf"}, {"/proc/self/status", "VmPTE: %lf"}};
	double sum = 0, value;
	char line[256];

	for (int i = 0; i < 2; i++) {
		FILE *f = fopen(places[i].file, "re");

		while (f && fgets(line, sizeof line, f))
			if (sscanf(line, places[i].format, &value) == 1)
				sum += value;
		if (f)
			fclose(f);
	}
	return sum;
}

/* ---- the guest ---- */

static void make_loop(vcore_vm *vm)
{
	static const uint8_t code[] = {
	    0xe6, DEBUG_PORT,                          /* 1: out %al, $0x80 */
	    0xbf, 0x00,        0x00, 0x20, 0x00,       /* mov $DIRTY_FROM, %edi */
	    0xb9, DIRTY_PAGES, 0x00, 0x00, 0x00,       /* mov $DIRTY_PAGES, %ecx */
	    0xff, 0x07,                                /* 2: incl (%edi) */
	    0x81, 0xc7,        0x00, 0x50, 0x02, 0x00, /* add $DIRTY_STEP, %edi */
	    0x49,                                      /* dec %ecx */
	    0x75, 0xf5,                                /* jnz 2b */
	    0xeb, 0xe7,                                /* jmp 1b */
	};
	struct vcore_regs regs = {.size = sizeof regs, .rip = CODE, .rflags = 2};
	vcore_vcpu *vcpu = vcore_vm_vcpu(vm, 0);

	check(vcore_memory_write(vm, CODE, code, sizeof code), "code");
	check(vcore_vcpu_set_mode(vcpu, VCORE_MODE_PROTECTED32, 0), "mode");
	check(vcore_vcpu_set_regs(vcpu, &regs), "registers");
}

/* A third of the memory has been written, as after a boot. */
static void fill(vcore_vm *vm, uint64_t memory)
{
	uint8_t page[4096];

	for (uint64_t at = DIRTY_FROM; at < memory / 3; at += sizeof page) {
		memset(page, (int)(at >> 12 | 1), sizeof page);
		check(vcore_memory_write(vm, at, page, sizeof page), "filling memory");
	}
}

/* One leaving of the loop. */
static void run_loop(vcore_vm *vm)
{
	struct vcore_exit exit = {.size = sizeof exit};

	check(vcore_vcpu_run(vcore_vm_vcpu(vm, 0), -1, &exit), "run");
	if (exit.reason != VCORE_EXIT_PIO) {
		fprintf(stderr, "snapshot: the guest left for reason %u\n", exit.reason);
		_exit(1);
	}
}

static void run_step(vcore_vm *vm)
{
	struct vcore_debug debug = {.size = sizeof debug, .flags = VCORE_DEBUG_SINGLE_STEP};
	struct vcore_exit exit = {.size = sizeof exit};

	check(vcore_vcpu_set_debug(vcore_vm_vcpu(vm, 0), &debug), "single step");
	check(vcore_vcpu_run(vcore_vm_vcpu(vm, 0), -1, &exit), "run");
}

static void first_instruction(const struct bench *b, vcore_vm *vm)
{
	if (b->kernel)
		run_step(vm);
	else
		run_loop(vm);
}

/* What it does between two snapshots. */
static void work(const struct bench *b, vcore_vm *vm)
{
	uint8_t byte = 1;

	if (!b->kernel) {
		run_loop(vm);
		run_loop(vm);
		return;
	}
	for (uint32_t i = 0; i < DIRTY_PAGES; i++)
		check(vcore_memory_write(vm, DIRTY_FROM + i * DIRTY_STEP, &byte, 1), "writing");
}

static vcore_vm *make_vm(const struct bench *b)
{
	struct vcore_options o = {.size = sizeof o,
	                          .machine = VCORE_MACHINE_MICROVM,
	                          .backend = b->backend,
	                          .memory = b->memory,
	                          .unhandled = b->kernel ? VCORE_UNHANDLED_DEFAULT : VCORE_UNHANDLED_EXIT};
	vcore_vm *vm;

	check(vcore_vm_new(&o, &vm), "vm");
	return vm;
}

static void add_devices(vcore_vm *vm, const char *uart)
{
	check(vcore_device_add(vm, "uart", uart, NULL), "uart");
	check(vcore_device_add(vm, "virtio-rng", NULL, NULL), "rng");
	check(vcore_device_add(vm, "virtio-blk", "image=null:1M", NULL), "blk");
	check(vcore_device_add(vm, "virtio-net", "net=none", NULL), "net");
}

static void wait_for(struct bench *b, const char *text)
{
	struct pollfd p = {.fd = b->out, .events = POLLIN};
	char heard[65536];
	size_t length = 0;

	for (heard[0] = '\0'; !strstr(heard, text); heard[length] = '\0') {
		ssize_t n = poll(&p, 1, 60000) == 1 ? read(b->out, heard + length, sizeof heard - 1 - length) : 0;

		if (n <= 0)
			fail("the guest does not answer");
		length += (size_t)n;
	}
}

/* A Linux guest whose shell counts for ever, stopped. */
static vcore_vm *boot_linux(struct bench *b)
{
	static const char command[] = "stty -echo; echo cou''nts; while :; do x=$((x+1)); done\n";
	vcore_vm *vm = make_vm(b);
	int to[2], from[2];
	char uart[64];

	if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0)
		fail("pipes");
	b->in = to[1];
	b->out = from[0];
	snprintf(uart, sizeof uart, "input=fd:%d,output=fd:%d", to[0], from[1]);
	add_devices(vm, uart);
	check(vcore_boot_linux(vm, b->kernel, b->initrd, "console=ttyS0 quiet panic=-1"), "boot");
	check(vcore_vm_start(vm), "start");
	wait_for(b, "/ # ");
	if (write(b->in, command, sizeof command - 1) < 0)
		fail("telling the guest");
	wait_for(b, "counts");
	usleep(300000);
	check(vcore_vm_pause(vm), "pause");
	return vm;
}

static vcore_vm *make_guest(struct bench *b)
{
	vcore_vm *vm;

	if (b->kernel)
		return boot_linux(b);
	vm = make_vm(b);
	add_devices(vm, "output=null");
	fill(vm, b->memory);
	make_loop(vm);
	run_loop(vm);
	return vm;
}

/* ---- what is measured ---- */

static const char *null_uart(void *ctx, uint32_t index, const char *type, const char *properties)
{
	return strcmp(type, "uart") == 0 ? "output=null" : NULL;
}

static vcore_vm *clone(vcore_snapshot *s)
{
	struct vcore_clone_options o = {.size = sizeof o, .properties = null_uart};
	vcore_vm *vm;

	check(vcore_snapshot_clone(s, &o, &vm), "clone");
	return vm;
}

static void measure_clones(const struct bench *b, vcore_snapshot *s)
{
	struct samples made = samples_new("clone", "us", b->rounds), ran = samples_new("clone-run", "us", b->rounds),
	               freed = samples_new("clone-free", "us", b->rounds);

	for (int i = -2; i < b->rounds; i++) {
		double from = now_us(), cloned, run;
		vcore_vm *vm = clone(s);

		cloned = now_us();
		first_instruction(b, vm);
		run = now_us();
		vcore_vm_unref(vm);
		if (i < 0)
			continue;
		made.v[made.count++] = cloned - from;
		ran.v[ran.count++] = run - from;
		freed.v[freed.count++] = now_us() - run;
	}
	report(&made);
	report(&ran);
	report(&freed);
}

/* All clones live, so that none gets what another gave back. */
static void measure_private(const struct bench *b, vcore_snapshot *s)
{
	struct samples kib = samples_new("private", "KiB", b->rounds);
	vcore_vm **vms = calloc((size_t)b->rounds, sizeof(vcore_vm *));
	double before = memory_kib();

	for (int i = 0; i < b->rounds; i++) {
		double after;

		vms[i] = clone(s);
		first_instruction(b, vms[i]);
		after = memory_kib();
		kib.v[kib.count++] = after - before;
		before = after;
	}
	for (int i = 0; i < b->rounds; i++)
		vcore_vm_unref(vms[i]);
	free(vms);
	report(&kib);
}

static void measure_rewind(const struct bench *b, vcore_snapshot *s)
{
	struct samples us = samples_new("rewind", "us", b->rounds);
	vcore_vm *vm = clone(s);

	for (int i = -2; i < b->rounds; i++) {
		double from;

		work(b, vm);
		from = now_us();
		check(vcore_vm_reset_to(vm, s), "going back");
		if (i >= 0)
			us.v[us.count++] = now_us() - from;
	}
	vcore_vm_unref(vm);
	report(&us);
}

static void measure_take(const struct bench *b, vcore_snapshot *s)
{
	struct samples us = samples_new("take", "us", b->rounds);
	vcore_vm *vm = clone(s);

	for (int i = -2; i < b->rounds; i++) {
		vcore_snapshot *next;
		double from;

		work(b, vm);
		from = now_us();
		check(vcore_snapshot_take(vm, &next), "taking");
		if (i >= 0)
			us.v[us.count++] = now_us() - from;
		vcore_snapshot_unref(next);
	}
	vcore_vm_unref(vm);
	report(&us);
}

static vcore_snapshot *load(const char *path, uint32_t flags)
{
	struct vcore_snapshot_load_options o = {.size = sizeof o, .flags = flags};
	vcore_snapshot *s;

	check(vcore_snapshot_load(path, &o, &s), "loading");
	return s;
}

static void measure_load(const struct bench *b, const char *path)
{
	struct samples loaded = samples_new("load", "us", b->rounds), ran = samples_new("load-run", "us", b->rounds);

	for (int i = -2; i < b->rounds; i++) {
		double from = now_us(), read, run;
		vcore_snapshot *s = load(path, VCORE_SNAPSHOT_NO_VERIFY);
		vcore_vm *vm;

		read = now_us();
		vm = clone(s);
		first_instruction(b, vm);
		run = now_us();
		vcore_vm_unref(vm);
		vcore_snapshot_unref(s);
		if (i < 0)
			continue;
		loaded.v[loaded.count++] = read - from;
		ran.v[ran.count++] = run - from;
	}
	report(&loaded);
	report(&ran);
}

/* By itself: whoever has just used the CPU for long is the next to wait for it. */
static void measure_verified(const char *path, int rounds)
{
	struct samples us = samples_new("load-verified", "us", rounds);

	for (int i = 0; i < rounds; i++) {
		double from = now_us();
		vcore_snapshot *s = load(path, 0);

		us.v[us.count++] = now_us() - from;
		vcore_snapshot_unref(s);
	}
	report(&us);
}

static void measure_files(const struct bench *b, vcore_snapshot *s)
{
	char directory[] = "/tmp/snapshot-bench.XXXXXX", path[64];
	int rounds = b->rounds < 5 ? b->rounds : 5;
	struct samples us = samples_new("save", "us", rounds);
	int r = 0;

	if (!mkdtemp(directory))
		fail("a directory for files");
	snprintf(path, sizeof path, "%s/vm", directory);
	for (int i = 0; r >= 0 && i < rounds; i++) {
		double from = now_us();

		r = vcore_snapshot_save(s, path, NULL);
		us.v[us.count++] = now_us() - from;
	}
	if (r >= 0) {
		report(&us);
		/* what is on its way to the disk would be in the way of what is measured */
		sync();
		measure_load(b, path);
		measure_verified(path, rounds);
	}
	unlink(path);
	rmdir(directory);
	/* a build without JSON has no files */
	if (r != -ENOTSUP)
		check(r, "saving");
}

static void take_options(struct bench *b, int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "n:m:b:k:i:")) != -1) {
		if (c == 'n')
			b->rounds = atoi(optarg);
		else if (c == 'm')
			b->memory = strtoull(optarg, NULL, 10) << 20;
		else if (c == 'b')
			b->backend = strcmp(optarg, "kvm") == 0 ? VCORE_BACKEND_KVM : VCORE_BACKEND_EMU;
		else if (c == 'k')
			b->kernel = optarg;
		else if (c == 'i')
			b->initrd = optarg;
		else
			exit(64);
	}
	if (b->rounds < 1 || b->memory < (64u << 20) || !b->kernel != !b->initrd) {
		fprintf(stderr, "snapshot: 1 round and 64 MiB at least, and a kernel with its initrd or neither\n");
		exit(64);
	}
}

int main(int argc, char **argv)
{
	struct bench b = {.rounds = 51, .memory = 512u << 20, .backend = VCORE_BACKEND_EMU};
	vcore_snapshot *s;
	vcore_vm *vm;

	take_options(&b, argc, argv);
	vm = make_guest(&b);
	check(vcore_snapshot_take(vm, &s), "snapshot");
	measure_clones(&b, s);
	measure_private(&b, s);
	measure_rewind(&b, s);
	measure_take(&b, s);
	measure_files(&b, s);
	vcore_vm_unref(vm);
	vcore_snapshot_unref(s);
	return 0;
}
