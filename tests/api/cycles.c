/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cycles N [BACKEND]: N times create, boot, run and destroy a vm in one process, in turn with every machine and
 * threading mode. Neither descriptors nor resident memory may grow.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <virtcore/virtcore.h>

#define WARM_UP      20
#define GROWTH_LIMIT (2 << 10) /* KiB, for allocators */

static int fail(const char *what)
{
	fprintf(stderr, "cycles: %s: %s\n", what, vcore_error_message());
	return 1;
}

static unsigned open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static long resident_kib(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (!f || fscanf(f, "%*d %ld", &pages) != 1)
		pages = 0;
	if (f)
		fclose(f);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* A microvm whose vcpu the library runs. */
static int whole(uint32_t backend, int turn)
{
	static const uint8_t image[] = {0xb0, 0x2a, 0xe6, 0xf4, 0xf4}; /* mov al, 42; out 0xf4, al; hlt */
	struct vcore_options o = {.size = sizeof o,
	                          .machine = VCORE_MACHINE_MICROVM,
	                          .backend = backend,
	                          .memory = 8 << 20,
	                          .vcpus = 1 + (uint32_t)turn % 3};
	struct vcore_boot_options boot = {.size = sizeof boot,
	                                  .image = VCORE_IMAGE_FLAT,
	                                  .address = 0x7c00,
	                                  .kernel_data = image,
	                                  .kernel_length = sizeof image};
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vm *vm;
	int r = 0;

	if (vcore_vm_new(&o, &vm) < 0)
		return fail("making a microvm");
	if (vcore_device_add(vm, "debug-exit", NULL, NULL) < 0 || vcore_device_add(vm, "uart", "output=null", NULL) < 0 ||
	    vcore_boot(vm, &boot) < 0 || vcore_vm_start(vm) < 0 || vcore_vm_wait(vm, 30000000000ll, &exit) < 0)
		r = fail("running a microvm");
	else if (exit.reason != VCORE_EXIT_DEBUG_EXIT || exit.code != 42)
		r = fail(vcore_exit_name(exit.reason));
	vcore_vm_unref(vm);
	return r;
}

static void swallow(void *ctx, struct vcore_io *io)
{
	++*(int *)ctx;
}

/* A bare machine whose vcpu we run. */
static int bare(uint32_t backend)
{
	static const uint8_t code[] = {0xe6, 0x10, 0xf4}; /* out 0x10, al; hlt */
	struct vcore_options o = {.size = sizeof o, .backend = backend};
	struct vcore_device_ops ops = {.size = sizeof ops, .write = swallow};
	struct vcore_regs regs = {.size = sizeof regs, .rip = 0x1000, .rflags = 2};
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vcpu *vcpu;
	vcore_vm *vm;
	int writes = 0, r = 0;

	if (vcore_vm_new(&o, &vm) < 0)
		return fail("making a bare vm");
	vcpu = vcore_vm_vcpu(vm, 0);
	if (vcore_memory_add(vm, 0, 2 << 20, VCORE_MEM_RWX, NULL, NULL) < 0 ||
	    vcore_io_add(vm, VCORE_BUS_PIO, 0x10, 1, &ops, &writes, NULL) < 0 ||
	    vcore_memory_write(vm, 0x1000, code, sizeof code) < 0 ||
	    vcore_vcpu_set_mode(vcpu, VCORE_MODE_PROTECTED32, 0) < 0 || vcore_vcpu_set_regs(vcpu, &regs) < 0 ||
	    vcore_vcpu_run(vcpu, 30000000000ll, &exit) < 0)
		r = fail("running a bare vm");
	else if (exit.reason != VCORE_EXIT_HALT || writes != 1)
		r = fail(vcore_exit_name(exit.reason));
	vcore_vm_unref(vm);
	return r;
}

int main(int argc, char **argv)
{
	struct vcore_backend_info info = {.size = sizeof info};
	uint32_t backend = argc > 2 && !strcmp(argv[2], "kvm") ? VCORE_BACKEND_KVM : VCORE_BACKEND_EMU;
	int turns = argc > 1 ? atoi(argv[1]) : 100;
	unsigned fds = 0;
	long kib = 0;

	if (vcore_backend_probe(backend, &info) < 0 || !info.available) {
		printf("SKIP: backend %s: %s\n", vcore_backend_name(backend), info.reason);
		return 77;
	}
	for (int i = 0; i < turns; i++) {
		if (i == WARM_UP) {
			fds = open_fds();
			kib = resident_kib();
		}
		if (i % 2 ? bare(backend) : whole(backend, i))
			return 1;
	}
	printf("%d cycles on %s: %u descriptors before, %u after; %ld KiB resident before, %ld after\n", turns, argv[2],
	       fds, open_fds(), kib, resident_kib());
	/* a checker of memory keeps what is freed for a while; it finds leaks by itself */
	if (turns <= WARM_UP || getenv("CYCLES_ANY_MEMORY"))
		return turns > WARM_UP && open_fds() != fds;
	return open_fds() != fds || resident_kib() > kib + GROWTH_LIMIT;
}
