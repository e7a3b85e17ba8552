/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Interrupts: lines, messages, descriptors, injected vectors, NMI; and doorbells. */
#include "api.h"

#include <sys/eventfd.h>
#include <unistd.h>

/* mov dword [address], value */
#define STORE(address, value)                                                                                        \
	0xc7, 0x05, (address)&0xff, (address) >> 8 & 0xff, (address) >> 16 & 0xff, (address) >> 24 & 0xff, (value)&0xff, \
	    (value) >> 8 & 0xff, (value) >> 16 & 0xff, (value) >> 24 & 0xff
#define IOAPIC_SET(reg, value) STORE(0xfec00000u, reg), STORE(0xfec00010u, value)
/* IOAPIC pin: vector, fixed, to APIC 0 */
#define IOAPIC_PIN(pin, vector) IOAPIC_SET(0x11 + 2 * (pin), 0), IOAPIC_SET(0x10 + 2 * (pin), vector)

/* Pins 5, 9 and 2 edge-triggered, 10 level-triggered; the local APIC on; then "sti; hlt" for ever. */
static const uint8_t controllers_on[] = {STORE(0xfee000f0u, 0x1ff),
                                         IOAPIC_PIN(5, 0x45),
                                         IOAPIC_PIN(9, 0x49),
                                         IOAPIC_PIN(2, 0x42),
                                         IOAPIC_PIN(10, 0x804a),
                                         STORE(0x6000u, 1),
                                         0xfb,
                                         0xf4,
                                         0xeb,
                                         0xfd};

/* Which controllers a backend has: an index into this for loop tests. */
static const struct {
	uint32_t backend, irqchip;
} kinds[] = {{VCORE_BACKEND_EMU, VCORE_IRQCHIP_USER},
             {VCORE_BACKEND_KVM, VCORE_IRQCHIP_FULL},
             {VCORE_BACKEND_KVM, VCORE_IRQCHIP_SPLIT},
             {VCORE_BACKEND_KVM, VCORE_IRQCHIP_USER}};
#define KINDS ((int)(sizeof kinds / sizeof kinds[0]))

/* A running microvm that waits for interrupts. NULL: not here. */
static vcore_vm *waiting_vm(int kind)
{
	vcore_vm *vm = NULL;
	uint32_t ready = 0;

	for (int b = 0; b < api_backend_count(); b++)
		if (api_backend(b) == kinds[kind].backend)
			vm = api_microvm(b, kinds[kind].irqchip, 1);
	if (!vm)
		return NULL;
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, controllers_on, sizeof controllers_on);
	api_tables(vm, 0, true);
	OK(vcore_vm_start(vm));
	for (int i = 0; i < 10000 && !ready; i++) {
		api_pause_ms(1);
		OK(vcore_memory_read(vm, 0x6000, &ready, sizeof ready));
	}
	ck_assert_uint_eq(ready, 1);
	api_pause_ms(5);
	return vm;
}

static void end(vcore_vm *vm)
{
	OK(vcore_vm_stop(vm));
	OK(vcore_vm_wait(vm, LONG, NULL));
	vcore_vm_unref(vm);
}

static void pulse(vcore_vm *vm, uint32_t gsi)
{
	OK(vcore_irq_set(vm, gsi, true));
	OK(vcore_irq_set(vm, gsi, false));
}

START_TEST(lines)
{
	vcore_vm *vm = waiting_vm(_i);
	uint32_t before;

	if (!vm)
		return;
	for (uint32_t n = 1; n <= 5; n++) {
		pulse(vm, 5);
		api_until_count(vm, 0x45, n);
	}
	/* an edge is the change, not the level */
	OK(vcore_irq_set(vm, 9, true));
	api_until_count(vm, 0x49, 1);
	OK(vcore_irq_set(vm, 9, true));
	api_pause_ms(10);
	ck_assert_uint_eq(api_count(vm, 0x49), 1);
	OK(vcore_irq_set(vm, 9, false));
	/* a level-triggered line comes again until it is let go */
	OK(vcore_irq_set(vm, 10, true));
	api_until_count(vm, 0x4a, 3);
	OK(vcore_irq_set(vm, 10, false));
	pulse(vm, 5);
	api_until_count(vm, 0x45, 6); /* one that was on its way is of higher priority */
	before = api_count(vm, 0x4a);
	pulse(vm, 5);
	api_until_count(vm, 0x45, 7);
	ck_assert_uint_eq(api_count(vm, 0x4a), before);
	/* the timer's line is wired to pin 2 */
	pulse(vm, 0);
	api_until_count(vm, 0x42, 1);
	REFUSED(vcore_irq_set(vm, 24, true), EINVAL, "24");
	REFUSED(vcore_vcpu_interrupt(vcore_vm_vcpu(vm, 0), 0x30), ENOTSUP, "controllers");
	end(vm);
}
END_TEST

START_TEST(messages)
{
	vcore_vm *vm = waiting_vm(_i);

	if (!vm)
		return;
	for (uint32_t n = 1; n <= 5; n++) {
		OK(vcore_msi_send(vm, 0xfee00000, 0x61));
		api_until_count(vm, 0x61, n);
	}
	REFUSED(vcore_msi_send(vm, 0xfed00000, 0x61), EINVAL, "0xfed00000");
	REFUSED(vcore_msi_send(vm, 0x1fee00000, 0x61), EINVAL, "0x1fee00000");
	end(vm);
}
END_TEST

static void signal_fd(int fd)
{
	uint64_t one = 1;

	ck_assert_int_eq(write(fd, &one, sizeof one), sizeof one);
}

START_TEST(irqfds)
{
	vcore_vm *vm = waiting_vm(_i);
	int line = eventfd(0, EFD_CLOEXEC), message = eventfd(0, EFD_CLOEXEC), pair[2];

	if (!vm)
		return;
	OK(vcore_irqfd_add(vm, 5, line));
	OK(vcore_irqfd_add_msi(vm, 0xfee00000, 0x62, message));
	REFUSED(vcore_irqfd_add(vm, 9, line), EEXIST, "in use");
	REFUSED(vcore_irqfd_add(vm, 24, line), EINVAL, "24");
	REFUSED(vcore_irqfd_add_msi(vm, 0xfe000000, 1, line), EINVAL, "0xfe000000");
	REFUSED(vcore_irqfd_add(vm, 9, -1), EBADF, "-1");
	ck_assert_int_eq(pipe(pair), 0);
	REFUSED(vcore_irqfd_add(vm, 9, pair[0]), EINVAL, "no eventfd");
	for (uint32_t n = 1; n <= 5; n++) {
		signal_fd(line);
		api_until_count(vm, 0x45, n);
		signal_fd(message);
		api_until_count(vm, 0x62, n);
	}
	OK(vcore_irqfd_remove(vm, line));
	OK(vcore_irqfd_remove(vm, message));
	REFUSED(vcore_irqfd_remove(vm, line), ENOENT, "not in use");
	signal_fd(line);
	signal_fd(message);
	api_pause_ms(20);
	ck_assert_uint_eq(api_count(vm, 0x45), 5);
	ck_assert_uint_eq(api_count(vm, 0x62), 5);
	OK(vcore_irqfd_add_msi(vm, 0xfee00000, 0x63, message)); /* signalled already: fires now or with the next */
	signal_fd(message);
	api_until_count(vm, 0x63, 1);
	close(message); /* duplicated */
	close(line);
	end(vm); /* still connected */
}
END_TEST

/* An NMI ends a halt; one that comes while its handler runs waits. */
START_TEST(nmi_ends_halt)
{
	vcore_vm *vm = waiting_vm(_i);

	if (!vm)
		return;
	for (uint32_t n = 1; n <= 5; n++) {
		OK(vcore_vcpu_nmi(vcore_vm_vcpu(vm, 0)));
		api_until_count(vm, 2, n);
	}
	end(vm);
}
END_TEST

START_TEST(reset_of_controllers)
{
	vcore_vm *vm = waiting_vm(_i);

	if (!vm)
		return;
	OK(vcore_irq_set(vm, 10, true)); /* left asserted */
	api_until_count(vm, 0x4a, 1);
	OK(vcore_vm_stop(vm));
	OK(vcore_vm_wait(vm, LONG, NULL));
	OK(vcore_irq_set(vm, 10, false));
	OK(vcore_vm_reset(vm));
	OK(vcore_memory_write(vm, API_COUNTS, (uint8_t[1024]){0}, 1024));
	OK(vcore_memory_write(vm, 0x6000, (uint8_t[4]){0}, 4));
	/* without programming the pins: nothing may come */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(STORE(0xfee000f0u, 0x1ff), 0xfb, 0xf4, 0xeb, 0xfd));
	api_tables(vm, 0, true);
	OK(vcore_vm_start(vm));
	api_pause_ms(10);
	pulse(vm, 5);
	pulse(vm, 9);
	api_pause_ms(20);
	ck_assert_uint_eq(api_count(vm, 0x45), 0);
	ck_assert_uint_eq(api_count(vm, 0x49), 0);
	OK(vcore_msi_send(vm, 0xfee00000, 0x61));
	api_until_count(vm, 0x61, 1);
	end(vm);
}
END_TEST

/* ---- machine none ---- */

START_TEST(injected)
{
	struct vcore_regs regs = {.size = sizeof regs};
	vcore_vm *vm = api_vm(_i, 1);
	vcore_vcpu *vcpu = vcore_vm_vcpu(vm, 0);

	/* nop; sti; hlt; hlt; cli; hlt; hlt */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0x90, 0xfb, 0xf4, 0xf4, 0xfa, 0xf4, 0xf4));
	api_tables(vm, 0, false);
	REFUSED(vcore_vcpu_interrupt(vcpu, 256), EINVAL, "256");
	REFUSED(vcore_irq_set(vm, 1, true), ENOTSUP, "no interrupt controllers");
	REFUSED(vcore_msi_send(vm, 0xfee00000, 1), ENOTSUP, "no interrupt controllers");
	OK(vcore_vcpu_interrupt(vcpu, 0x30));
	REFUSED(vcore_vcpu_interrupt(vcpu, 0x31), EBUSY, "waiting already");
	ck_assert_uint_eq(api_count(vm, 0x30), 0);
	/* delivered behind STI's shadow: in the halt, which it ends; then the next halt */
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(api_count(vm, 0x30), 1);
	ck_assert_uint_eq(api_rip(vm), CODE + 4);
	/* with IF = 0 it waits */
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(api_rip(vm), CODE + 6);
	OK(vcore_vcpu_interrupt(vcpu, 0x33));
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(api_rip(vm), CODE + 7);
	ck_assert_uint_eq(api_count(vm, 0x33), 0);
	/* until the program sets IF */
	OK(vcore_vcpu_get_regs(vcpu, &regs));
	regs.rip = CODE + 2;
	regs.rflags |= 0x200;
	OK(vcore_vcpu_set_regs(vcpu, &regs));
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(api_count(vm, 0x33), 1);
	/* and what the last exit said of IF does not count once the program has cleared it */
	OK(vcore_vcpu_get_regs(vcpu, &regs));
	regs.rip = CODE + 5;
	regs.rflags &= ~0x200ull;
	OK(vcore_vcpu_set_regs(vcpu, &regs));
	OK(vcore_vcpu_interrupt(vcpu, 0x34));
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(api_count(vm, 0x34), 0);
	/* a reset takes back what waits */
	OK(vcore_vm_reset(vm));
	OK(vcore_vcpu_interrupt(vcpu, 0x35));
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(nmi_without_controllers)
{
	vcore_vm *vm = api_vm(_i, 1);

	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0x90, 0xf4, 0xf4));
	api_tables(vm, 0, false);
	OK(vcore_vcpu_nmi(vcore_vm_vcpu(vm, 0)));
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(api_count(vm, 2), 1);
	REFUSED(vcore_vcpu_nmi(NULL), EINVAL, "vcpu");
	vcore_vm_unref(vm);
}
END_TEST

/* ---- doorbells ---- */

static uint64_t taken(int fd)
{
	uint64_t count = 0;

	return read(fd, &count, sizeof count) == sizeof count ? count : 0;
}

START_TEST(ioeventfds)
{
	const uint64_t seven = 7, nine = 9, wide = 0x100;
	int match = eventfd(0, EFD_NONBLOCK), any = eventfd(0, EFD_NONBLOCK), port = eventfd(0, EFD_NONBLOCK), pair[2];
	struct api_device d = {0};
	vcore_vm *vm = api_vm(_i, 1);

	OK(vcore_io_add(vm, VCORE_BUS_MMIO, 0x10000000, 0x1000, &api_device_ops, &d, NULL));
	OK(vcore_ioeventfd_add(vm, VCORE_BUS_MMIO, 0x10000000, 4, &seven, match));
	OK(vcore_ioeventfd_add(vm, VCORE_BUS_MMIO, 0x10000010, 0, NULL, any));
	OK(vcore_ioeventfd_add(vm, VCORE_BUS_PIO, 0x70, 0, NULL, port));
	REFUSED(vcore_ioeventfd_add(vm, VCORE_BUS_MMIO, 0x10000000, 4, &seven, any), EEXIST, "0x10000000");
	OK(vcore_ioeventfd_add(vm, VCORE_BUS_MMIO, 0x10000000, 4, &nine, any));
	REFUSED(vcore_ioeventfd_add(vm, VCORE_BUS_MMIO, 0x10000000, 3, NULL, any), EINVAL, "width is 3");
	REFUSED(vcore_ioeventfd_add(vm, VCORE_BUS_MMIO, 0x10000020, 1, &wide, any), EINVAL, "0x100");
	REFUSED(vcore_ioeventfd_add(vm, VCORE_BUS_PIO, 0x10000, 1, NULL, any), EINVAL, "0x10000");
	REFUSED(vcore_ioeventfd_add(vm, VCORE_BUS_HYPERCALL, 1, 0, NULL, any), EINVAL, "bus");
	REFUSED(vcore_ioeventfd_add(vm, VCORE_BUS_PIO, 1, 1, NULL, -1), EINVAL, "eventfd");
	ck_assert_int_eq(pipe(pair), 0);
	REFUSED(vcore_ioeventfd_add(vm, VCORE_BUS_PIO, 1, 1, NULL, pair[1]), EINVAL, "no eventfd");
	/*
	 * mov eax, 7; mov [..00], eax; mov [..00], ax; inc eax; mov [..00], eax; mov [..10], al; mov [..10], eax;
	 * out 0x70, al; out 0x70, eax; hlt
	 */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE,
	         CODE_BYTES(0xb8, 7, 0, 0, 0, 0xa3, 0, 0, 0, 0x10, 0x66, 0xa3, 0, 0, 0, 0x10, 0x40, 0xa3, 0, 0, 0, 0x10,
	                    0xa2, 0x10, 0, 0, 0x10, 0xa3, 0x10, 0, 0, 0x10, 0xe6, 0x70, 0xe7, 0x70, 0xf4));
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(taken(match), 1);
	ck_assert_uint_eq(taken(any), 2);
	ck_assert_uint_eq(taken(port), 2);
	ck_assert_uint_eq(d.writes, 2); /* of the wrong width, of the wrong value */
	OK(vcore_ioeventfd_remove(vm, VCORE_BUS_MMIO, 0x10000000, 4, &seven));
	REFUSED(vcore_ioeventfd_remove(vm, VCORE_BUS_MMIO, 0x10000000, 4, &seven), ENOENT, "0x10000000");
	OK(vcore_ioeventfd_remove(vm, VCORE_BUS_MMIO, 0x10000010, 0, NULL));
	OK(vcore_ioeventfd_remove(vm, VCORE_BUS_PIO, 0x70, 0, NULL));
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xb8, 7, 0, 0, 0, 0xa3, 0, 0, 0, 0x10, 0xe6, 0x70, 0xf4));
	ck_assert_uint_eq(api_run(vm, VCORE_EXIT_PIO).address, 0x70);
	ck_assert_uint_eq(d.writes, 3);
	ck_assert_uint_eq(taken(match), 0);
	vcore_vm_unref(vm);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("irq");
	TCase *tcase = tcase_create("irq");

	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, lines, 0, KINDS);
	tcase_add_loop_test(tcase, messages, 0, KINDS);
	tcase_add_loop_test(tcase, irqfds, 0, KINDS);
	tcase_add_loop_test(tcase, nmi_ends_halt, 0, KINDS);
	tcase_add_loop_test(tcase, reset_of_controllers, 0, KINDS);
	EACH(tcase, injected);
	EACH(tcase, nmi_without_controllers);
	EACH(tcase, ioeventfds);
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
