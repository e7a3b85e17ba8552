/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vfio-bus BACKEND FIRST SECOND EDU: two functions of one bus that have no reset of their own (QEMU's e1000), and edu,
 * in a vm: the functions are reset together or not at all, and edu reaches the registers of one of them when it may.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <virtcore/virtcore.h>

#include "vm/vm.h"

enum {
	VET = 0x38, /* a register that keeps what is written, and its value after a reset */
	VET_RESET = 0x8100,
	VET_OURS = 0x1234,
	FIRST = 3 << 3,
	SECOND = 4 << 3,
	EDU = 5 << 3,
	REGISTERS = 0xa000000, /* where edu, with its 28 bits of addresses, reaches them */
	MORE_REGISTERS = 0xb000000,
	EDU_SOURCE = 0x80,
	EDU_TARGET = 0x88,
	EDU_COUNT = 0x90,
	EDU_COMMAND = 0x98,
	EDU_START = 1,
	EDU_TO_RAM = 2,
	EDU_BUFFER = 0x40000,
	RAM = 0x100000,
};

static vcore_vm *vm;
static char logged[4096];

static void take_line(void *ctx, enum vcore_log_level level, const char *line)
{
	size_t used = strlen(logged);

	snprintf(logged + used, sizeof logged - used, "%s\n", line);
}

static void check(bool good, const char *what)
{
	if (good)
		return;
	printf("vfio-bus: %s: %s\n%s", what, vcore_error_message(), logged);
	exit(1);
}

static uint64_t access_at(uint64_t address, unsigned width, bool write, uint64_t data)
{
	struct vcore_io io = {
	    .size = sizeof io, .bus = VCORE_BUS_MMIO, .address = address, .width = width, .is_write = write, .data = data};

	check(vc_bus_dispatch(&vm->buses, NULL, &io), "nobody answers at a BAR");
	return io.data & vc_width_mask(width);
}

static vcore_device *add(const char *host, unsigned devfn, const char *more)
{
	char properties[80];
	vcore_device *device;

	snprintf(properties, sizeof properties, "host=%s,addr=%u%s", host, devfn >> 3, more);
	check(vcore_device_add(vm, "vfio-pci", properties, &device) >= 0, host);
	return device;
}

static void enable(unsigned devfn, uint64_t at)
{
	if (at)
		vc_pci_config_write(vm->bvm.env.pci, 0, devfn, 0x10, 4, at);
	vc_pci_config_write(vm->bvm.env.pci, 0, devfn, 4, 2, 0x406);
}

static void dma(uint64_t bar, uint64_t source, uint64_t target, uint32_t command)
{
	access_at(bar + EDU_SOURCE, 8, true, source);
	access_at(bar + EDU_TARGET, 8, true, target);
	access_at(bar + EDU_COUNT, 8, true, 4);
	access_at(bar + EDU_COMMAND, 8, true, EDU_START | command);
	for (unsigned i = 0; access_at(bar + EDU_COMMAND, 8, false, 0) & EDU_START; i++) {
		check(i < 10000, "DMA does not end");
		usleep(1000);
	}
}

/* What edu reads at the first one's register. */
static uint32_t by_edu(const char *edu, const char *choice)
{
	vcore_device *device = add(edu, EDU, choice);
	uint32_t value = 0;
	uint64_t bar;

	enable(EDU, 0);
	bar = vc_pci_config_read(vm->bvm.env.pci, 0, EDU, 0x10, 4) & ~15u;
	check(vcore_memory_write(vm, RAM, &value, sizeof value) >= 0, "memory");
	dma(bar, RAM, EDU_BUFFER, 0);
	dma(bar, REGISTERS + VET, EDU_BUFFER, 0);
	dma(bar, EDU_BUFFER, RAM, EDU_TO_RAM);
	check(vcore_memory_read(vm, RAM, &value, sizeof value) >= 0, "memory");
	check(vcore_device_remove(device) >= 0, "removal of edu");
	return value;
}

static void set_up(void)
{
	enable(FIRST, REGISTERS);
	enable(SECOND, MORE_REGISTERS);
}

int main(int argc, char **argv)
{
	struct vcore_options o = {.size = sizeof o,
	                          .machine = VCORE_MACHINE_MICROVM,
	                          .memory = 64 << 20,
	                          .vcpus = 1,
	                          .log = take_line,
	                          .log_level = VCORE_LOG_INFO};
	vcore_device *first;

	if (argc != 5)
		return 64;
	o.backend = strcmp(argv[1], "kvm") ? VCORE_BACKEND_EMU : VCORE_BACKEND_KVM;
	check(vcore_vm_new(&o, &vm) >= 0, "vm");
	first = add(argv[2], FIRST, "");
	add(argv[3], SECOND, "");
	check(!strstr(logged, "stays as it is"), "both are reset at first");
	set_up();
	check(access_at(REGISTERS + VET, 4, false, 0) == VET_RESET, "its register after a reset");
	access_at(REGISTERS + VET, 4, true, VET_OURS);
	access_at(MORE_REGISTERS + VET, 4, true, VET_OURS);

	/* all of the vm */
	vc_buses_reset(&vm->buses);
	set_up();
	check(access_at(REGISTERS + VET, 4, false, 0) == VET_RESET, "the first one is reset with the vm");
	check(access_at(MORE_REGISTERS + VET, 4, false, 0) == VET_RESET, "the second one is reset with the vm");
	access_at(REGISTERS + VET, 4, true, VET_OURS);
	access_at(MORE_REGISTERS + VET, 4, true, VET_OURS);

	check(by_edu(argv[4], ",p2p=on") == VET_OURS, "edu reaches registers with p2p=on");
	check(by_edu(argv[4], "") != VET_OURS, "edu does not reach them without");

	/* one goes while the other is in use */
	logged[0] = '\0';
	check(vcore_device_remove(first) >= 0, "removal");
	check(strstr(logged, "which the guest uses") && strstr(logged, argv[3]), "the reset of the first is refused");
	check(access_at(MORE_REGISTERS + VET, 4, false, 0) == VET_OURS, "the second one stays as it is");
	vcore_vm_unref(vm);
	printf("vfio-bus: good on %s\n", argv[1]);
	return 0;
}
