/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vfio-edu BACKEND HOST [wanted|assign|iommu]: drives QEMU's edu device (docs/specs/edu) through a vm that has it, as a
 * guest's driver would: registers, DMA both ways, also of memory that was added later and of memory that a balloon gave
 * up, MSI, removal. With `iommu`: behind the guest's IOMMU, what that maps and nothing else. With `wanted`: only has
 * it, and loses it when the host unbinds its driver. With `assign`: HOST is a physical function, whose first virtual
 * one is made, given to the vm, given back and destroyed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <virtcore/virtcore.h>

#include "bus/iommu.h"
#include "vm/vm.h"

enum {
	DEVFN = 3 << 3,
	CAP_MSI = 5,
	ID = 0x00,
	INVERT = 0x04,
	STATUS = 0x24,
	ACKNOWLEDGE = 0x64,
	SOURCE = 0x80,
	TARGET = 0x88,
	COUNT = 0x90,
	COMMAND = 0x98,
	START = 1,
	TO_RAM = 2,
	INTERRUPT = 4,
	BUFFER = 0x40000, /* in the device */
	RAM = 0x100000,
	LATER = 0x8000000,
	IOVA = 0xa000000, /* edu has 28 bits of addresses */
	LENGTH = 256,
};

static vcore_vm *vm;
static uint64_t bar;

static void check(bool good, const char *what)
{
	if (good)
		return;
	printf("vfio-edu: %s: %s\n", what, vcore_error_message());
	exit(1);
}

static uint32_t config(uint32_t offset, unsigned width)
{
	return (uint32_t)vc_pci_config_read(vm->bvm.env.pci, 0, DEVFN, offset, width);
}

static void set_config(uint32_t offset, unsigned width, uint32_t value)
{
	vc_pci_config_write(vm->bvm.env.pci, 0, DEVFN, offset, width, value);
}

static uint64_t access_bar(uint64_t offset, unsigned width, bool write, uint64_t data)
{
	struct vcore_io io = {.size = sizeof io,
	                      .bus = VCORE_BUS_MMIO,
	                      .address = bar + offset,
	                      .width = width,
	                      .is_write = write,
	                      .data = data};

	check(vc_bus_dispatch(&vm->buses, NULL, &io), "nobody answers at its BAR");
	return io.data & vc_width_mask(width);
}

static void dma(uint64_t source, uint64_t target, uint32_t command)
{
	access_bar(SOURCE, 8, true, source);
	access_bar(TARGET, 8, true, target);
	access_bar(COUNT, 8, true, LENGTH);
	access_bar(COMMAND, 8, true, START | command);
	for (unsigned i = 0; access_bar(COMMAND, 8, false, 0) & START; i++) {
		check(i < 10000, "DMA does not end");
		usleep(1000);
	}
}

/* There and back again. */
static void copy_through(uint64_t from, uint64_t to, const char *what)
{
	uint8_t data[LENGTH], back[LENGTH];

	for (unsigned i = 0; i < LENGTH; i++)
		data[i] = (uint8_t)(i * 7 + from / 4096);
	check(vcore_memory_write(vm, from, data, LENGTH) >= 0, what);
	dma(from, BUFFER, 0);
	dma(BUFFER, to, TO_RAM);
	check(vcore_memory_read(vm, to, back, LENGTH) >= 0 && !memcmp(data, back, LENGTH), what);
}

static uint64_t statistic(vcore_device *device, unsigned n)
{
	struct vc_dev *dev = (struct vc_dev *)device;
	struct vc_stat stats[VC_STATS_MAX];

	check(dev->statistics(dev->frontend, stats) > n, "statistics");
	return stats[n].value;
}

static void enable_msi(void)
{
	uint32_t at = config(0x34, 1);

	while (at && config(at, 1) != CAP_MSI)
		at = config(at + 1, 1);
	check(at, "it has no MSI");
	set_config(at + 4, 4, 0xfee00000);
	if (config(at + 2, 2) & 1 << 7) {
		set_config(at + 8, 4, 0);
		set_config(at + 12, 2, 0x41);
	} else {
		set_config(at + 8, 2, 0x41);
	}
	set_config(at + 2, 2, config(at + 2, 2) | 1);
}

static void interrupt(vcore_device *device, bool kernel)
{
	enable_msi();
	check(statistic(device, 2) == kernel, "MSI goes to the kernel on kvm, and there only");
	dma(RAM, BUFFER, INTERRUPT);
	for (unsigned i = 0; !kernel && !statistic(device, 1); i++) {
		check(i < 10000, "no interrupt comes");
		usleep(1000);
	}
	check(access_bar(STATUS, 4, false, 0) != 0, "the device has not interrupted");
	access_bar(ACKNOWLEDGE, 4, true, access_bar(STATUS, 4, false, 0));
	check(statistic(device, 1) == !kernel, "interrupts through the loop");
}

static void discard(void)
{
	uint8_t before[LENGTH], after[LENGTH];

	vcore_memory_read(vm, RAM, before, LENGTH);
	check(vc_mem_discard(&vm->mem, RAM, 4096) >= 0, "discard");
	vcore_memory_read(vm, RAM, after, LENGTH);
	check(!memcmp(before, after, LENGTH), "memory under DMA was discarded");
}

/* The kernel waits in unbind until we have let go of the device. */
static void lose(const char *host)
{
	char line[32];
	FILE *f = fopen("/sys/bus/pci/drivers/vfio-pci/unbind", "w");

	snprintf(line, sizeof line, "0000:%s", host);
	check(f && fputs(line, f) >= 0 && fclose(f) == 0, "unbinding it");
	check(vcore_device_add(vm, "vfio-pci", "host=00:05.0", NULL) == -EBUSY, "it is still bound");
}

static void assign(const char *physical)
{
	struct vcore_sriov_function f = {.size = sizeof f}, parent = {.size = sizeof parent};
	vcore_device *device;

	check(vcore_sriov_assign(vm, physical, 0, "addr=3", &device) >= 0, "assigning");
	check(vcore_sriov_list(0, &parent) >= 0 && parent.count == 1, "it was made");
	check(vcore_sriov_list_virtual(physical, 0, &f) >= 0 && !strcmp(f.driver, "vfio-pci"), "it is bound");
	check(config(0, 2) == parent.vendor, "the guest sees it");
	check(vcore_sriov_destroy(physical) == -EBUSY, "one in use is not destroyed");
	check(vcore_device_remove(device) >= 0, "removal");
	check(vcore_sriov_list_virtual(physical, 0, &f) >= 0 && !f.driver[0], "it is given back");
	check(vcore_sriov_destroy(physical) >= 0, "destroying");
}

/* The device is driven by the endpoint's number, as the guest's driver would. */
static void map(struct vc_iommu *iommu, uint64_t iova, uint64_t gpa, uint64_t length, uint32_t flags)
{
	check(vc_iommu_map(iommu, 1, &(struct vc_iommu_range){iova, iova + length - 1, gpa, flags}) >= 0, "mapping");
}

/* The host's IOMMU stops what goes from `from` to `to`: what is at gpa stays. */
static void expect_blocked(uint64_t to, uint64_t gpa, const char *what)
{
	uint8_t before[LENGTH], after[LENGTH];

	memset(before, 0x5a, LENGTH);
	check(vcore_memory_write(vm, gpa, before, LENGTH) >= 0, what);
	dma(BUFFER, to, TO_RAM);
	check(vcore_memory_read(vm, gpa, after, LENGTH) >= 0 && !memcmp(before, after, LENGTH), what);
}

static void isolate(const char *host)
{
	struct vc_iommu_endpoint *endpoint;
	struct vc_iommu *iommu;
	vcore_device *device;
	char properties[64];

	check(vcore_device_add(vm, "virtio-iommu", NULL, NULL) >= 0, "IOMMU");
	snprintf(properties, sizeof properties, "host=%s,addr=3", host);
	check(vcore_device_add(vm, "vfio-pci", properties, &device) >= 0, "device behind it");
	iommu = vc_pci_iommu(vm->bvm.env.pci);
	endpoint = vc_pci_endpoint(vc_pci_function_of((struct vc_dev *)device));
	check(vc_iommu_last(iommu) < VC_IOMMU_LAST, "what the host's IOMMU can address");
	set_config(4, 2, 0x406);
	bar = config(0x10, 4) & ~15u;
	copy_through(RAM, RAM + 0x2000, "DMA before anybody takes charge");
	check(vc_iommu_attach(endpoint, 1, false) >= 0, "attaching it");
	expect_blocked(RAM, RAM, "DMA of a domain without mappings");
	map(iommu, IOVA, RAM, 0x4000, VC_IOMMU_READ | VC_IOMMU_WRITE);
	map(iommu, IOVA + 0x4000, RAM + 0x6000, 0x1000, VC_IOMMU_READ);
	check(vcore_memory_write(vm, RAM, "mapped", 7) >= 0, "memory");
	dma(IOVA, BUFFER, 0);
	dma(BUFFER, IOVA + 0x3000, TO_RAM);
	check(!memcmp((uint8_t *)vc_mem_ptr(&vm->mem, RAM + 0x3000, LENGTH), "mapped", 7), "DMA through a mapping");
	expect_blocked(RAM + 0x2000, RAM + 0x2000, "DMA to where nothing is mapped");
	expect_blocked(IOVA + 0x4000, RAM + 0x6000, "DMA to what can only be read");
	check(vc_iommu_unmap(iommu, 1, IOVA, IOVA + 0x3fff) >= 0, "unmapping");
	expect_blocked(IOVA + 0x1000, RAM + 0x1000, "DMA to what was mapped");
	check(vc_iommu_map(iommu, 1, &(struct vc_iommu_range){VC_IOMMU_LAST - 0xfff, VC_IOMMU_LAST, RAM, 3}) == -EIO,
	      "an IOVA that the host's IOMMU does not have");
	vc_iommu_clear(iommu);
	copy_through(RAM, RAM + 0x2000, "DMA after all was let go of");
	check(vcore_device_remove(device) >= 0, "removal");
}

int main(int argc, char **argv)
{
	struct vcore_options o = {.size = sizeof o, .machine = VCORE_MACHINE_MICROVM, .memory = 64 << 20, .vcpus = 1};
	char properties[64];
	vcore_snapshot *snapshot;
	vcore_device *device;
	bool kernel;
	static const struct {
		const char *name;
		void (*act)(const char *host);
	} acts[] = {{"assign", assign}, {"iommu", isolate}};

	if (argc < 3)
		return 64;
	setvbuf(stdout, NULL, _IOLBF, 0);
	kernel = !strcmp(argv[1], "kvm");
	o.backend = kernel ? VCORE_BACKEND_KVM : VCORE_BACKEND_EMU;
	check(vcore_vm_new(&o, &vm) >= 0, "vm");
	for (unsigned i = 0; argc > 3 && i < VC_ARRAY_SIZE(acts); i++)
		if (!strcmp(argv[3], acts[i].name)) {
			acts[i].act(argv[2]);
			vcore_vm_unref(vm);
			return 0;
		}
	snprintf(properties, sizeof properties, "host=%s,addr=3", argv[2]);
	check(vcore_device_add(vm, "vfio-pci", properties, argc > 3 ? NULL : &device) >= 0, "device");
	if (argc > 3) {
		lose(argv[2]);
		vcore_vm_unref(vm);
		return 0;
	}
	set_config(4, 2, 0x406);
	bar = config(0x10, 4) & ~15u;
	check((access_bar(ID, 4, false, 0) & 0xff) == 0xed, "its identification");
	access_bar(INVERT, 4, true, 0x12345678);
	check(access_bar(INVERT, 4, false, 0) == ~0x12345678u, "its register");
	copy_through(RAM, RAM + 0x2000, "DMA of memory that was there");
	check(vcore_memory_add(vm, LATER, 1 << 20, VCORE_MEM_RWX, NULL, NULL) >= 0, "more memory");
	copy_through(LATER, RAM + 0x3000, "DMA of memory that was added");
	interrupt(device, kernel);
	discard();
	check(vcore_snapshot_take(vm, &snapshot) == -ENOTSUP && strstr(vcore_error_message(), "vfio-pci"),
	      "a snapshot is refused by name");
	check(vcore_device_remove(device) >= 0, "removal");
	vcore_vm_unref(vm);
	printf("vfio-edu: good on %s\n", argv[1]);
	return 0;
}
