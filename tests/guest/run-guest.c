/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * run-guest BACKEND IMAGE [VCPUS [EXPECTED [MARK...]]]: runs a tiny guest on a microvm.
 * EXPECTED: the debug-exit value (default 0), "crash" (a triple fault), "reset" or "poweroff".
 * Marks: `native` (wants a CPU that executes ring 0 itself), `exact` (wants a CPU that leaves nothing of the SDM out,
 * which the one of QEMU's TCG does), `reduced` (a machine without legacy devices).
 */
#include <cpuid.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <virtcore/virtcore.h>

#include "guest.h"

#define SECONDS  60
#define SKIP     77
#define NS_PER_S 1000000000ll

struct marks {
	bool native, exact, reduced;
};

/* What the guest can ask at PORT_WORLD. */
static uint8_t world[WORLD_PORTS];

static void print_log(void *ctx, enum vcore_log_level level, const char *message)
{
	fprintf(stderr, "log: %s\n", message);
}

static int fail(const char *what)
{
	fprintf(stderr, "run-guest: %s: %s\n", what, vcore_error_message());
	return 1;
}

static void world_read(void *ctx, struct vcore_io *io)
{
	io->data = world[io->offset];
}

static void line_write(void *ctx, struct vcore_io *io)
{
	vcore_irq_set(ctx, io->data & 0x1f, (io->data & 0x80) != 0);
}

static int judge(const struct vcore_exit *exit, const char *expected)
{
	char got[32];

	if (exit->reason == VCORE_EXIT_DEBUG_EXIT)
		snprintf(got, sizeof got, "%u", exit->code);
	else if (exit->reason == VCORE_EXIT_CRASH && exit->crash != VCORE_CRASH_TRIPLE_FAULT)
		snprintf(got, sizeof got, "a crash of kind %u", exit->crash);
	else
		snprintf(got, sizeof got, "%s", vcore_exit_name(exit->reason));
	if (!strcmp(got, expected))
		return 0;
	fprintf(stderr, "run-guest: ended with %s (%s), expected %s\n", got, exit->message, expected);
	return 1;
}

/* Where every vcpu is. */
static void tell_where(vcore_vm *vm, unsigned vcpus)
{
	struct vcore_sregs sregs = {.size = sizeof sregs};
	struct vcore_regs regs = {.size = sizeof regs};

	vcore_vm_pause(vm); /* fails when the vm has ended, and they stand still */
	for (unsigned i = 0; i < vcpus; i++) {
		vcore_vcpu *vcpu = vcore_vm_vcpu(vm, i);

		if (vcpu && vcore_vcpu_get_regs(vcpu, &regs) == 0 && vcore_vcpu_get_sregs(vcpu, &sregs) == 0)
			fprintf(stderr, "vcpu %u: CS %#x RIP %#" PRIx64 " RSP %#" PRIx64 " RFLAGS %#" PRIx64 " CR0 %#" PRIx64 "\n",
			        i, sregs.cs.selector, regs.rip, regs.rsp, regs.rflags, sregs.cr0);
	}
}

/* Whether the CPU under us is QEMU's TCG, by the signature of its hypervisor leaf. */
static bool cpu_is_tcg(void)
{
	unsigned a, b, c, d;
	char signature[12];

	__cpuid(0x40000000, a, b, c, d);
	memcpy(signature, &b, 4);
	memcpy(signature + 4, &c, 4);
	memcpy(signature + 8, &d, 4);
	return !memcmp(signature, "TCGTCGTCGTCG", sizeof signature);
}

/* What this host cannot do is no failure of the guest. */
static int skip(const struct vcore_options *o, const struct marks *marks)
{
	struct vcore_backend_info info = {.size = sizeof info};
	const char *name = vcore_backend_name(o->backend);
	bool tcg = o->backend == VCORE_BACKEND_KVM && cpu_is_tcg();

	if (vcore_backend_probe(o->backend, &info) < 0)
		return fail("probing the backend");
	if (!info.available) {
		printf("SKIP: backend %s: %s\n", name, info.reason);
		return SKIP;
	}
	if (o->irqchip == VCORE_IRQCHIP_SPLIT && !(info.features & VCORE_FEATURE_IRQCHIP_SPLIT)) {
		printf("SKIP: backend %s has no split interrupt controllers here\n", name);
		return SKIP;
	}
	if (marks->native && o->backend == VCORE_BACKEND_KVM && !info.ring0_is_native) {
		printf("SKIP: needs a KVM that lets the CPU execute ring 0: %s\n", info.reason);
		return SKIP;
	}
	if (marks->exact && tcg) {
		printf("SKIP: the CPU under this KVM is QEMU's TCG, which leaves out what this guest checks\n");
		return SKIP;
	}
	world[WORLD_IS_TCG] = tcg;
	world[WORLD_IS_EMULATED] = o->backend == VCORE_BACKEND_KVM && !info.ring0_is_native;
	return 0;
}

static int build(vcore_vm *vm)
{
	struct vcore_device_ops world_ops = {.size = sizeof world_ops, .read = world_read};
	struct vcore_device_ops line_ops = {.size = sizeof line_ops, .write = line_write};
	int r = vcore_device_add(vm, "debug-exit", NULL, NULL);

	if (r >= 0)
		r = vcore_device_add(vm, "debugcon", "output=stderr", NULL);
	if (r >= 0)
		r = vcore_io_add(vm, VCORE_BUS_PIO, PORT_WORLD, WORLD_PORTS, &world_ops, NULL, NULL);
	return r < 0 ? r : vcore_io_add(vm, VCORE_BUS_PIO, PORT_LINE, 1, &line_ops, vm, NULL);
}

static int run(const struct vcore_options *o, const char *image, const char *expected)
{
	struct vcore_boot_options boot = {
	    .size = sizeof boot, .kernel = image, .image = VCORE_IMAGE_FLAT, .address = GUEST_BASE};
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vm *vm;
	int r = 0;

	if (vcore_vm_new(o, &vm) < 0)
		return fail("making the vm");
	if (build(vm) < 0 || vcore_boot(vm, &boot) < 0 || vcore_vm_start(vm) < 0) {
		r = fail(image);
	} else if (vcore_vm_wait(vm, SECONDS * NS_PER_S, &exit) < 0) {
		r = fail("the guest hangs");
		tell_where(vm, o->vcpus);
	} else {
		r = judge(&exit, expected);
		if (r)
			tell_where(vm, o->vcpus);
	}
	vcore_vm_unref(vm);
	/* processes of promoted address spaces end with the vm, and are of those that only __WALL finds */
	if (waitpid(-1, NULL, WNOHANG | __WALL) != -1)
		r = fail("a process is left");
	return r;
}

int main(int argc, char **argv)
{
	struct vcore_options o = {.size = sizeof o,
	                          .machine = VCORE_MACHINE_MICROVM,
	                          .vcpus = 1,
	                          .memory = 64 << 20,
	                          .log = print_log,
	                          .log_level = VCORE_LOG_WARN};
	struct marks marks = {0};
	int r;

	if (argc < 3) {
		fprintf(stderr,
		        "usage: run-guest emu|lockstep|promote|kvm|kvm-split|kvm-user IMAGE [VCPUS [EXPECTED [MARK...]]]\n");
		return 2;
	}
	o.backend = !strncmp(argv[1], "kvm", 3) ? VCORE_BACKEND_KVM : VCORE_BACKEND_EMU;
	o.engine = !strcmp(argv[1], "lockstep")  ? VCORE_ENGINE_LOCKSTEP
	           : !strcmp(argv[1], "promote") ? VCORE_ENGINE_PROMOTE
	                                         : VCORE_ENGINE_AUTO;
	o.irqchip = !strcmp(argv[1], "kvm-split")  ? VCORE_IRQCHIP_SPLIT
	            : !strcmp(argv[1], "kvm-user") ? VCORE_IRQCHIP_USER
	                                           : VCORE_IRQCHIP_AUTO;
	if (argc > 3)
		o.vcpus = (uint32_t)atoi(argv[3]);
	for (int i = 5; i < argc; i++) {
		marks.native |= !strcmp(argv[i], "native");
		marks.exact |= !strcmp(argv[i], "exact");
		marks.reduced |= !strcmp(argv[i], "reduced");
	}
	o.no_legacy = marks.reduced;
	world[WORLD_VCPUS] = (uint8_t)o.vcpus;
	r = skip(&o, &marks);
	return r ? r : run(&o, argv[2], argc > 4 ? argv[4] : "0");
}
