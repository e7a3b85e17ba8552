/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PCI functions of the program: adding and removing, the guest's accesses, interrupts, BARs that move while used. */
#include "api.h"

#define ECAM(device, offset) (0xe0000000u + ((uint32_t)(device) << 15) + (offset))
#define BAR0                 0xf0000000u /* where the first function's lies at first */
#define BAR1                 0xf0001000u
#define ELSEWHERE            0xf8000000u
#define READY                0x6000u

/* mov dword [address], value */
#define STORE(address, value)                                                                                        \
	0xc7, 0x05, (address)&0xff, (address) >> 8 & 0xff, (address) >> 16 & 0xff, (address) >> 24 & 0xff, (value)&0xff, \
	    (value) >> 8 & 0xff, (value) >> 16 & 0xff, (value) >> 24 & 0xff
/* mov eax, [address] */
#define LOAD(address) 0xa1, (address)&0xff, (address) >> 8 & 0xff, (address) >> 16 & 0xff, (address) >> 24 & 0xff
#define AGAIN(bytes)  0xe9, (uint8_t)(-(bytes)-5), 0xff, 0xff, 0xff /* jmp back over so many bytes */

struct function {
	_Atomic uint32_t reads, writes, resets, destroyed;
	_Atomic uint64_t last, last_offset;
	_Atomic uint32_t last_bar;
};

static void function_read(void *ctx, uint32_t bar, struct vcore_io *io)
{
	struct function *f = ctx;

	atomic_store(&f->last_bar, bar);
	atomic_store(&f->last_offset, io->offset);
	io->data = 0x11223344;
	atomic_fetch_add(&f->reads, 1);
}

static void function_write(void *ctx, uint32_t bar, struct vcore_io *io)
{
	struct function *f = ctx;

	atomic_store(&f->last_bar, bar);
	atomic_store(&f->last_offset, io->offset);
	atomic_store(&f->last, io->data);
	atomic_fetch_add(&f->writes, 1);
}

static void function_reset(void *ctx)
{
	atomic_fetch_add(&((struct function *)ctx)->resets, 1);
}

static void function_destroy(void *ctx)
{
	atomic_fetch_add(&((struct function *)ctx)->destroyed, 1);
}

static const struct vcore_pci_ops ops = {.size = sizeof ops,
                                         .read = function_read,
                                         .write = function_write,
                                         .reset = function_reset,
                                         .destroy = function_destroy};

static const struct vcore_pci_description description = {.size = sizeof description,
                                                         .vendor = 0x1234,
                                                         .device = 0x5678,
                                                         .class_code = 0xff0000,
                                                         .interrupt_pin = 1,
                                                         .msix_vectors = 2,
                                                         .bars = {{.size = 0x1000}, {.flags = VCORE_PCI_BAR_MSIX}}};

static vcore_vm *machine(int backend, uint32_t vcpus)
{
	vcore_vm *vm = api_microvm(backend, VCORE_IRQCHIP_AUTO, vcpus);

	ck_assert_ptr_nonnull(vm);
	return vm;
}

static vcore_device *add(vcore_vm *vm, struct function *f)
{
	vcore_device *device = NULL;

	OK(vcore_pci_add(vm, &description, &ops, f, &device));
	ck_assert_str_eq(vcore_device_type(device), "custom-pci");
	return device;
}

static void until_ready(vcore_vm *vm)
{
	uint32_t ready = 0;

	for (int i = 0; i < 10000 && !ready; i++) {
		api_pause_ms(1);
		OK(vcore_memory_read(vm, READY, &ready, sizeof ready));
	}
	ck_assert_uint_eq(ready, 1);
}

static void end(vcore_vm *vm)
{
	OK(vcore_vm_stop(vm));
	OK(vcore_vm_wait(vm, LONG, NULL));
	vcore_vm_unref(vm);
}

START_TEST(refusals)
{
	vcore_vm *vm = machine(_i, 1), *bare = api_vm(_i, 1);
	struct vcore_pci_description wrong = description;
	struct vcore_pci_ops unsized = ops;
	struct vcore_pci_info info = {0};
	struct function f = {0};
	struct api_device port = {0};
	vcore_device *device, *other;

	REFUSED(vcore_pci_add(NULL, &description, &ops, &f, NULL), EINVAL, "no vm");
	REFUSED(vcore_pci_add(bare, &description, &ops, &f, NULL), ENOTSUP, "no PCI");
	REFUSED(vcore_pci_add(vm, NULL, &ops, &f, NULL), EINVAL, "struct");
	wrong.vendor = 0xffff;
	REFUSED(vcore_pci_add(vm, &wrong, &ops, &f, NULL), EINVAL, "0xffff");
	wrong = description;
	wrong.address = "0";
	REFUSED(vcore_pci_add(vm, &wrong, &ops, &f, NULL), EEXIST, "pci-host-bridge");
	ck_assert_uint_eq(f.destroyed, 5);
	unsized.size = 0;
	REFUSED(vcore_pci_add(vm, &description, &unsized, &f, NULL), EINVAL, "ops.size");
	ck_assert_uint_eq(f.destroyed, 5);

	device = add(vm, &f);
	REFUSED(vcore_pci_get_info(device, &info), EINVAL, "info.size");
	info.size = sizeof info;
	OK(vcore_pci_get_info(device, &info));
	ck_assert_uint_eq(info.device, 1);
	ck_assert_uint_eq(info.gsi, 17);
	ck_assert_uint_eq(info.bars[0], UINT64_MAX);
	REFUSED(vcore_pci_msix_send(device, 2), EINVAL, "vector 2");
	REFUSED(vcore_pci_msix_send(device, 0), EAGAIN, "INTx");
	REFUSED(vcore_pci_irq_set(NULL, true), EINVAL, "no PCI function");
	REFUSED(vcore_pci_unplug(NULL), EINVAL, "no PCI function");
	REFUSED(vcore_pci_unplug(device), ENOTSUP, "pci-root-port");
	OK(vcore_device_add(vm, "pci-root-port", "addr=9", &other));
	REFUSED(vcore_device_remove(other), ENOTSUP, "pci-root-port");
	REFUSED(vcore_device_add(vm, "pci-root-port", "addr=9", NULL), EEXIST, "pci-root-port");
	REFUSED(vcore_device_add(vm, "pci-root-port", "slot=256", NULL), EINVAL, "slot");
	REFUSED(vcore_device_add(vm, "pci-root-port", "irq=3", NULL), EINVAL, "irq");
	REFUSED(vcore_device_add(bare, "pci-root-port", NULL, NULL), ENOTSUP, "no PCI");
	wrong = description;
	wrong.address = "9/0";
	OK(vcore_pci_add(vm, &wrong, &ops, &f, &other));
	REFUSED(vcore_pci_unplug(other), EAGAIN, "button");
	OK(vcore_device_remove(other));
	ck_assert_uint_eq(f.destroyed, 6);
	OK(vcore_io_add(vm, VCORE_BUS_PIO, 0x10, 1, &api_device_ops, &port, &other));
	REFUSED(vcore_pci_msix_send(other, 0), EINVAL, "no PCI function");
	REFUSED(vcore_pci_get_info(other, &info), EINVAL, "no PCI function");
	wrong = description;
	wrong.interrupt_pin = 0;
	OK(vcore_pci_add(vm, &wrong, &ops, &f, &other));
	REFUSED(vcore_pci_irq_set(other, true), EINVAL, "no interrupt pin");
	OK(vcore_device_remove(device));
	ck_assert_uint_eq(f.destroyed, 7);
	vcore_vm_unref(vm);
	vcore_vm_unref(bare);
	ck_assert_uint_eq(f.destroyed, 8);
}
END_TEST

/* Without an IOMMU a function reaches memory at its addresses; behind one that no guest has programmed, what its
 * property says. */
START_TEST(dma)
{
	static const char *const iommus[] = {NULL, "", "bypass=off"};
	char out[] = "0123456789", in[sizeof out] = {0};

	for (unsigned i = 0; i < 3; i++) {
		vcore_vm *vm = machine(_i, 1);
		struct function f = {0};
		vcore_device *device;

		if (iommus[i])
			OK(vcore_device_add(vm, "virtio-iommu", iommus[i], NULL));
		device = add(vm, &f);
		if (i == 2) {
			REFUSED(vcore_pci_dma_write(device, 0x5000, out, sizeof out), EFAULT, "the IOMMU blocks it");
			REFUSED(vcore_pci_dma_read(device, 0x5000, in, sizeof in), EFAULT, "the IOMMU blocks it");
		} else {
			OK(vcore_pci_dma_write(device, 0x5000, out, sizeof out));
			OK(vcore_pci_dma_read(device, 0x5000, in, sizeof in));
			ck_assert_mem_eq(in, out, sizeof out);
			memset(in, 0, sizeof in);
			OK(vcore_memory_read(vm, 0x5000, in, sizeof in));
			ck_assert_mem_eq(in, out, sizeof out);
			REFUSED(vcore_pci_dma_write(device, 1ull << 45, out, sizeof out), EFAULT, "no memory");
		}
		vcore_vm_unref(vm);
	}
	REFUSED(vcore_pci_dma_read(NULL, 0, in, 1), EINVAL, "no PCI function");
}
END_TEST

START_TEST(accesses)
{
	static const uint8_t code[] = {STORE(ECAM(1, 4), 2),
	                               LOAD(BAR0 + 0x10),
	                               0x89,
	                               0xc3, /* mov ebx, eax */
	                               STORE(BAR0 + 0x20, 0xabcd),
	                               STORE(ECAM(1, 0x10), ELSEWHERE),
	                               LOAD(BAR0),
	                               0x89,
	                               0xc1, /* mov ecx, eax */
	                               LOAD(ELSEWHERE + 0xffc),
	                               STORE(READY, 1),
	                               0xeb,
	                               0xfe}; /* jmp $ */
	struct vcore_pci_info info = {.size = sizeof info};
	struct vcore_regs regs = {.size = sizeof regs};
	vcore_vm *vm = machine(_i, 1);
	struct function f = {0};
	vcore_device *device = add(vm, &f);

	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, code, sizeof code);
	OK(vcore_vm_start(vm));
	until_ready(vm);
	OK(vcore_vm_pause(vm));
	OK(vcore_vcpu_get_regs(vcore_vm_vcpu(vm, 0), &regs));
	ck_assert_uint_eq(regs.rbx, 0x11223344);
	ck_assert_uint_eq(regs.rcx, 0xffffffff);
	ck_assert_uint_eq(regs.rax, 0x11223344);
	ck_assert_uint_eq(f.reads, 2);
	ck_assert_uint_eq(f.last_offset, 0xffc);
	ck_assert_uint_eq(f.writes, 1);
	ck_assert_uint_eq(f.last, 0xabcd);
	OK(vcore_pci_get_info(device, &info));
	ck_assert_uint_eq(info.command, 2);
	ck_assert_uint_eq(info.bars[0], ELSEWHERE);
	ck_assert_uint_eq(info.bars[1], BAR1);
	ck_assert_uint_eq(info.bars[2], UINT64_MAX);
	OK(vcore_vm_resume(vm));
	end(vm);
	ck_assert_uint_eq(f.destroyed, 1);
}
END_TEST

START_TEST(interrupts)
{
	/* local APIC on; IOAPIC pin 17 level-triggered; MSI-X with vector 1; "sti; jmp $" */
	static const uint8_t code[] = {STORE(0xfee000f0u, 0x1ff),
	                               STORE(0xfec00000u, 0x11 + 2 * 17),
	                               STORE(0xfec00010u, 0),
	                               STORE(0xfec00000u, 0x10 + 2 * 17),
	                               STORE(0xfec00010u, 0x8051),
	                               STORE(ECAM(1, 4), 6),
	                               STORE(BAR1 + 16, 0xfee00000u),
	                               STORE(BAR1 + 20, 0),
	                               STORE(BAR1 + 24, 0x61),
	                               STORE(READY, 1),
	                               0xfb,
	                               0xeb,
	                               0xfe};
	/* the same vcpu, on: MSI-X enabled; then vector 1 unmasked */
	static const uint8_t enable[] = {STORE(ECAM(1, 0x40), 0x80010011u), STORE(READY, 1), 0xfb, 0xeb, 0xfe};
	static const uint8_t unmask[] = {STORE(BAR1 + 28, 0), STORE(READY, 1), 0xfb, 0xeb, 0xfe};
	static const struct {
		const uint8_t *code;
		size_t length;
	} more[] = {{enable, sizeof enable}, {unmask, sizeof unmask}};
	vcore_vm *vm = machine(_i, 1);
	struct function f = {0};
	vcore_device *device = add(vm, &f);
	struct vcore_regs regs = {.size = sizeof regs};
	uint32_t zero = 0;

	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, code, sizeof code);
	api_tables(vm, 0, true);
	OK(vcore_vm_start(vm));
	until_ready(vm);
	OK(vcore_pci_irq_set(device, true));
	api_until_count(vm, 0x51, 1);
	OK(vcore_pci_irq_set(device, false));
	for (unsigned i = 0; i < 2; i++) {
		OK(vcore_vm_pause(vm));
		OK(vcore_memory_write(vm, READY, &zero, sizeof zero));
		OK(vcore_memory_write(vm, CODE, more[i].code, more[i].length));
		OK(vcore_vcpu_get_regs(vcore_vm_vcpu(vm, 0), &regs));
		regs.rip = CODE;
		regs.rsp = 0x8000;
		OK(vcore_vcpu_set_regs(vcore_vm_vcpu(vm, 0), &regs));
		OK(vcore_vm_resume(vm));
		until_ready(vm);
		if (i == 0)
			OK(vcore_pci_msix_send(device, 1)); /* it waits */
	}
	api_until_count(vm, 0x61, 1);
	OK(vcore_pci_msix_send(device, 1));
	api_until_count(vm, 0x61, 2);
	ck_assert_uint_eq(api_count(vm, 0x61), 2);
	end(vm);
}
END_TEST

/* One vcpu moves the BAR to and fro, another reads at both places, the program takes the function away and adds it
 * again. */
START_TEST(moved_while_used)
{
	static const uint8_t mover[] = {STORE(ECAM(1, 4), 2), STORE(ECAM(1, 0x10), ELSEWHERE), STORE(ECAM(1, 0x10), BAR0),
	                                AGAIN(30)};
	static const uint8_t reader[] = {LOAD(BAR0), LOAD(ELSEWHERE), AGAIN(10)};
	vcore_vm *vm = machine(_i, 2);
	struct function f = {0};
	vcore_device *device;

	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, mover, sizeof mover);
	api_load(vm, 1, VCORE_MODE_PROTECTED32, CODE + 0x100, reader, sizeof reader);
	OK(vcore_vm_start(vm));
	for (uint32_t turn = 1; turn <= 5; turn++) {
		device = add(vm, &f);
		api_until(&f.reads, f.reads + 20);
		OK(vcore_device_remove(device));
		ck_assert_uint_eq(f.destroyed, turn);
	}
	end(vm);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pci");
	TCase *tcase = tcase_create("pci");

	tcase_set_timeout(tcase, 60);
	EACH(tcase, refusals);
	EACH(tcase, dma);
	EACH(tcase, accesses);
	EACH(tcase, interrupts);
	EACH(tcase, moved_while_used);
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
