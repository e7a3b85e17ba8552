/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* resident BACKEND: what one idle vm with a vcpu and 128 MiB costs in resident memory beyond the guest pages touched.
 */
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <virtcore/virtcore.h>

#define VMS 8

/* Anonymous and file-backed pages of our own: Rss of the process. */
static long rss_kib(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (!f || fscanf(f, "%*d %ld", &pages) != 1)
		pages = 0;
	if (f)
		fclose(f);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static int fail(const char *what)
{
	fprintf(stderr, "resident: %s: %s\n", what, vcore_error_message());
	return 1;
}

/* "hlt; jmp" in a microvm: it has run, and sleeps. */
static vcore_vm *idle(uint32_t backend)
{
	static const uint8_t image[] = {0xfa, 0xf4, 0xeb, 0xfd};
	struct vcore_options o = {.size = sizeof o, .machine = VCORE_MACHINE_MICROVM, .backend = backend};
	struct vcore_boot_options boot = {.size = sizeof boot,
	                                  .image = VCORE_IMAGE_FLAT,
	                                  .address = 0x7c00,
	                                  .kernel_data = image,
	                                  .kernel_length = sizeof image};
	vcore_vm *vm;

	if (vcore_vm_new(&o, &vm) < 0)
		return NULL;
	if (vcore_boot(vm, &boot) < 0 || vcore_vm_start(vm) < 0 || vcore_vm_wait(vm, 200000000, NULL) >= 0) {
		vcore_vm_unref(vm);
		return NULL;
	}
	return vm;
}

int main(int argc, char **argv)
{
	uint32_t backend = argc > 1 && !strcmp(argv[1], "kvm") ? VCORE_BACKEND_KVM : VCORE_BACKEND_EMU;
	long limit = backend == VCORE_BACKEND_KVM ? 1 << 10 : 4 << 10, before, each;
	struct vcore_backend_info info = {.size = sizeof info};
	vcore_vm *first, *vm[VMS];

	if (vcore_backend_probe(backend, &info) < 0 || !info.available) {
		printf("SKIP: backend %s: %s\n", vcore_backend_name(backend), info.reason);
		return 77;
	}
	first = idle(backend); /* the library's own code, once */
	if (!first)
		return fail("the first vm");
	before = rss_kib();
	for (int i = 0; i < VMS; i++)
		if (!(vm[i] = idle(backend)))
			return fail("a vm");
	each = (rss_kib() - before) / VMS;
	printf("backend %s: an idle vm of 128 MiB takes %ld KiB, its touched guest pages (about 48 KiB) included; limit "
	       "%ld KiB\n",
	       vcore_backend_name(backend), each, limit);
	for (int i = 0; i < VMS; i++)
		vcore_vm_unref(vm[i]);
	vcore_vm_unref(first);
	return each > limit;
}
