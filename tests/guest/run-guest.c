/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* run-guest BACKEND IMAGE [VCPUS [EXPECTED]]: runs a tiny guest on a microvm. EXPECTED: the debug-exit value (default
 * 0), "crash" or "reset". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <virtcore/virtcore.h>

#define GUEST_BASE 0x8000
#define SECONDS    60

static void print_log(void *ctx, enum vcore_log_level level, const char *message)
{
	fprintf(stderr, "log: %s\n", message);
}

static int fail(const char *what)
{
	fprintf(stderr, "run-guest: %s: %s\n", what, vcore_error_message());
	return 1;
}

static int judge(const struct vcore_exit *exit, const char *expected)
{
	char got[32];

	if (exit->reason == VCORE_EXIT_DEBUG_EXIT)
		snprintf(got, sizeof got, "%u", exit->code);
	else
		snprintf(got, sizeof got, "%s", vcore_exit_name(exit->reason));
	if (!strcmp(got, expected))
		return 0;
	fprintf(stderr, "run-guest: ended with %s (%s), expected %s\n", got, exit->message, expected);
	return 1;
}

/* A machine without /dev/kvm, or without one kind of controllers, is no failure of the guest. */
static int skip_without(const struct vcore_options *o)
{
	struct vcore_backend_info info = {.size = sizeof info};

	if (vcore_backend_probe(o->backend, &info) < 0 || info.available)
		return 0;
	printf("SKIP: backend %s: %s\n", vcore_backend_name(o->backend), info.reason);
	return 77;
}

int main(int argc, char **argv)
{
	struct vcore_options o = {.size = sizeof o,
	                          .machine = VCORE_MACHINE_MICROVM,
	                          .memory = 64 << 20,
	                          .log = print_log,
	                          .log_level = VCORE_LOG_WARN};
	struct vcore_boot_options boot = {.size = sizeof boot, .image = VCORE_IMAGE_FLAT, .address = GUEST_BASE};
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vm *vm;
	int r;

	if (argc < 3)
		return fprintf(stderr, "usage: run-guest emu|kvm|kvm-split|kvm-user IMAGE [VCPUS [EXPECTED]]\n"), 2;
	o.backend = !strncmp(argv[1], "kvm", 3) ? VCORE_BACKEND_KVM : VCORE_BACKEND_EMU;
	o.irqchip = !strcmp(argv[1], "kvm-split")  ? VCORE_IRQCHIP_SPLIT
	            : !strcmp(argv[1], "kvm-user") ? VCORE_IRQCHIP_USER
	                                           : VCORE_IRQCHIP_AUTO;
	o.vcpus = argc > 3 ? (uint32_t)atoi(argv[3]) : 1;
	boot.kernel = argv[2];
	r = skip_without(&o);
	if (r)
		return r;
	if (vcore_vm_new(&o, &vm) < 0)
		return fail("making the vm");
	if (vcore_device_add(vm, "debug-exit", NULL, NULL) < 0 ||
	    vcore_device_add(vm, "debugcon", "output=stderr", NULL) < 0 || vcore_boot(vm, &boot) < 0 ||
	    vcore_vm_start(vm) < 0)
		return fail(argv[2]);
	if (vcore_vm_wait(vm, SECONDS * 1000000000ll, &exit) < 0)
		r = fail("the guest hangs");
	else
		r = judge(&exit, argc > 4 ? argv[4] : "0");
	vcore_vm_unref(vm);
	return r;
}
