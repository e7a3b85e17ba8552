/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Devices of the program, accesses nobody answers, and the library's device types by name. */
#include "api.h"

#define MMIO 0x10000000u

static const struct vcore_device_ops empty_ops = {.size = sizeof empty_ops};

static vcore_device *add(vcore_vm *vm, enum vcore_bus bus, uint64_t start, uint64_t length, struct api_device *d)
{
	vcore_device *device = NULL;

	OK(vcore_io_add(vm, bus, start, length, &api_device_ops, d, &device));
	ck_assert_ptr_nonnull(device);
	return device;
}

/* ---- widths, regions, values ---- */

START_TEST(mmio_widths)
{
	/* rbx = MMIO + 8; read 1, 2, 4, 8 bytes into al, cx, edx, rsi; write them back */
	static const uint8_t code[] = {0xbb, 0x08, 0x00, 0x00, 0x10,  /* mov ebx, MMIO + 8 */
	                               0x8a, 0x03,                    /* mov al, [rbx] */
	                               0x66, 0x8b, 0x4b, 0x08,        /* mov cx, [rbx + 8] */
	                               0x8b, 0x53, 0x10,              /* mov edx, [rbx + 16] */
	                               0x48, 0x8b, 0x73, 0x18,        /* mov rsi, [rbx + 24] */
	                               0xf4,                          /* hlt */
	                               0x88, 0x03, 0xf4,              /* mov [rbx], al; hlt */
	                               0x66, 0x89, 0x4b, 0x08, 0xf4,  /* mov [rbx + 8], cx; hlt */
	                               0x89, 0x53, 0x10, 0xf4,        /* mov [rbx + 16], edx; hlt */
	                               0x48, 0x89, 0x73, 0x18, 0xf4}; /* mov [rbx + 24], rsi; hlt */
	struct api_device d = {.value = 0x1122334455667788};
	struct vcore_regs regs = {.size = sizeof regs};
	vcore_vm *vm = api_vm(_i, 1);

	add(vm, VCORE_BUS_MMIO, MMIO, 0x1000, &d);
	api_load(vm, 0, VCORE_MODE_LONG64, CODE, code, sizeof code);
	api_run(vm, VCORE_EXIT_HALT);
	OK(vcore_vcpu_get_regs(vcore_vm_vcpu(vm, 0), &regs));
	ck_assert_uint_eq(regs.rax, 0x88);
	ck_assert_uint_eq(regs.rcx, 0x7788);
	ck_assert_uint_eq(regs.rdx, 0x55667788);
	ck_assert_uint_eq(regs.rsi, 0x1122334455667788);
	for (unsigned width = 1, i = 0; width <= 8; width *= 2, i++) {
		api_run(vm, VCORE_EXIT_HALT);
		ck_assert_uint_eq(d.last_width, width);
		ck_assert_uint_eq(d.last_offset, 8 + 8 * i);
		ck_assert_uint_eq(d.last_address, MMIO + 8 + 8 * i);
		ck_assert_uint_eq(d.last, 0x1122334455667788 & (width == 8 ? ~0ull : (1ull << 8 * width) - 1));
	}
	ck_assert_uint_eq(d.reads, 4);
	ck_assert_uint_eq(d.writes, 4);
	vcore_vm_unref(vm);
	ck_assert_uint_eq(d.destroyed, 1);
}
END_TEST

START_TEST(ports)
{
	/* in al, 0x40; out 0x41, al; mov dx, 0x1234; in ax, dx; in eax, dx; out dx, eax; hlt */
	static const uint8_t code[] = {0xe4, 0x40, 0xe6, 0x41, 0x66, 0xba, 0x34, 0x12, 0x66, 0xed, 0xed, 0xef, 0xf4};
	struct api_device low = {.value = 0xfff5a}, high = {.value = 0x99887766};
	vcore_vm *vm = api_vm(_i, 1);
	vcore_device *device = add(vm, VCORE_BUS_PIO, 0x40, 2, &low);

	add(vm, VCORE_BUS_PIO, 0x1234, 4, &high);
	ck_assert_str_eq(vcore_device_type(device), "custom");
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, code, sizeof code);
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(low.last, 0x5a);
	ck_assert_uint_eq(low.last_offset, 1);
	ck_assert_uint_eq(high.reads, 2);
	ck_assert_uint_eq(high.last, 0x99887766);
	ck_assert_uint_eq(api_rax(vm), 0x99887766);
	vcore_vm_unref(vm);
}
END_TEST

/* All callbacks may be NULL: reads give all ones. The ops struct is a copy, and may be an older, shorter one. */
START_TEST(empty_and_short_ops)
{
	struct vcore_device_ops ops = api_device_ops;
	struct api_device d = {.value = 3};
	vcore_vm *vm = api_vm(_i, 1);

	OK(vcore_io_add(vm, VCORE_BUS_PIO, 0x10, 1, &empty_ops, NULL, NULL));
	ops.size = offsetof(struct vcore_device_ops, write);
	OK(vcore_io_add(vm, VCORE_BUS_PIO, 0x20, 1, &ops, &d, NULL));
	memset(&ops, 0, sizeof ops);
	/* out 0x10, al; out 0x20, al; in al, 0x20; mov ah, al; in al, 0x10; hlt */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE,
	         CODE_BYTES(0xe6, 0x10, 0xe6, 0x20, 0xe4, 0x20, 0x88, 0xc4, 0xe4, 0x10, 0xf4));
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(api_rax(vm), 0x03ff);
	ck_assert_uint_eq(d.writes, 0);
	vcore_vm_unref(vm);
	ck_assert_uint_eq(d.destroyed, 0); /* not among the fields that caller knew */
}
END_TEST

START_TEST(several_regions)
{
	struct api_device d = {0};
	vcore_vm *vm = api_vm(_i, 1);
	vcore_device *device = add(vm, VCORE_BUS_MMIO, MMIO, 0x1000, &d);

	OK(vcore_io_add_region(device, VCORE_BUS_MMIO, MMIO + 0x2000, 0x1000));
	OK(vcore_io_add_region(device, VCORE_BUS_PIO, 0x60, 1));
	REFUSED(vcore_io_add_region(device, VCORE_BUS_PIO, 0x60, 1), EEXIST, "overlaps");
	REFUSED(vcore_io_add_region(device, VCORE_BUS_PIO, 0xffff, 2), EINVAL, "0xffff");
	REFUSED(vcore_io_add_region(device, 9, 0, 1), EINVAL, "bus 9");
	REFUSED(vcore_io_add_region(NULL, VCORE_BUS_PIO, 0, 1), EINVAL, "no device");
	ck_assert_uint_eq(d.destroyed, 0); /* a region that fails leaves the device alone */
	/* mov [MMIO + 0x2004], eax; out 0x60, al; hlt */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xa3, 4, 0x20, 0, 0x10, 0xf4, 0xe6, 0x60, 0xf4));
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(d.last_address, MMIO + 0x2004);
	ck_assert_uint_eq(d.last_offset, 4);
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(d.last_address, 0x60);
	OK(vcore_device_remove(device));
	ck_assert_uint_eq(d.destroyed, 1);
	vcore_vm_unref(vm);
	ck_assert_uint_eq(d.destroyed, 1);
}
END_TEST

/* ---- refusals; destroy exactly once ---- */

START_TEST(refused_adds)
{
	struct api_device first = {0}, second = {0};
	struct vcore_device_ops unsized = {0};
	vcore_vm *vm = api_vm(_i, 1);
	vcore_device *device = NULL;
	uint32_t destroyed = 0;

	add(vm, VCORE_BUS_MMIO, MMIO, 0x1000, &first);
	REFUSED(vcore_io_add(vm, VCORE_BUS_MMIO, MMIO + 0xfff, 8, &api_device_ops, &second, &device), EEXIST, "0x10000fff");
	ck_assert_uint_eq(second.destroyed, ++destroyed);
	REFUSED(vcore_io_add(vm, VCORE_BUS_MMIO, MMIO, 0, &api_device_ops, &second, &device), EINVAL, "empty");
	ck_assert_uint_eq(second.destroyed, ++destroyed);
	REFUSED(vcore_io_add(vm, VCORE_BUS_PIO, 0x10000, 1, &api_device_ops, &second, &device), EINVAL, "0x10000");
	ck_assert_uint_eq(second.destroyed, ++destroyed);
	REFUSED(vcore_io_add(vm, VCORE_BUS_MMIO, UINT64_MAX, 2, &api_device_ops, &second, &device), EINVAL, "region");
	ck_assert_uint_eq(second.destroyed, ++destroyed);
	REFUSED(vcore_io_add(vm, 3, 0, 1, &api_device_ops, &second, &device), EINVAL, "bus 3");
	ck_assert_uint_eq(second.destroyed, ++destroyed);
	REFUSED(vcore_io_add(NULL, VCORE_BUS_PIO, 0, 1, &api_device_ops, &second, &device), EINVAL, "no vm");
	ck_assert_uint_eq(second.destroyed, ++destroyed);
	REFUSED(vcore_io_add(vm, VCORE_BUS_PIO, 0, 1, &unsized, &second, &device), EINVAL, "size");
	REFUSED(vcore_io_add(vm, VCORE_BUS_PIO, 0, 1, NULL, &second, &device), EINVAL, "ops");
	ck_assert_ptr_null(device);
	ck_assert_uint_eq(first.destroyed, 0);
	REFUSED(vcore_device_remove(NULL), EINVAL, "no device");
	vcore_vm_unref(vm);
	ck_assert_uint_eq(first.destroyed, 1);
	ck_assert_uint_eq(second.destroyed, destroyed);
}
END_TEST

/* ---- from callbacks, and while the guest is at it ---- */

struct in_callback {
	vcore_vm *vm;
	vcore_device *self, *victim, *added;
	int own, other, add;
	struct api_device fresh;
};

static void change_devices(struct api_device *d, struct vcore_io *io)
{
	struct in_callback *c = d->hook_ctx;

	c->own = vcore_device_remove(c->self);
	if (c->victim)
		c->other = vcore_device_remove(c->victim);
	c->victim = NULL;
	if (!c->added)
		c->add = vcore_io_add(c->vm, VCORE_BUS_PIO, 0x90, 1, &api_device_ops, &c->fresh, &c->added);
}

START_TEST(changes_from_a_callback)
{
	struct in_callback c = {.vm = api_vm(_i, 1), .fresh.value = 0x5c};
	struct api_device changer = {.hook = change_devices, .hook_ctx = &c}, victim = {0};

	c.self = add(c.vm, VCORE_BUS_PIO, 0x80, 1, &changer);
	c.victim = add(c.vm, VCORE_BUS_PIO, 0x88, 1, &victim);
	/* out 0x80, al; in al, 0x90; hlt */
	api_load(c.vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xe6, 0x80, 0xe4, 0x90, 0xf4));
	api_run(c.vm, VCORE_EXIT_HALT);
	ck_assert_int_eq(c.own, -EDEADLK);
	ck_assert_int_eq(c.other, 0);
	ck_assert_int_eq(c.add, 0);
	ck_assert_uint_eq(victim.destroyed, 1);
	ck_assert_uint_eq(api_rax(c.vm), 0x5c);
	OK(vcore_device_remove(c.self)); /* now it may go */
	ck_assert_uint_eq(changer.destroyed, 1);
	vcore_vm_unref(c.vm);
	ck_assert_uint_eq(c.fresh.destroyed, 1);
}
END_TEST

static void dead_devices_are_not_called(struct api_device *d, struct vcore_io *io)
{
	if (atomic_load(&d->destroyed))
		*(_Atomic uint32_t *)d->hook_ctx = 1;
	api_pause_ms(0);
	if (atomic_load(&d->destroyed))
		*(_Atomic uint32_t *)d->hook_ctx = 1;
}

/* Two vcpus write to an address where a device comes and goes. */
START_TEST(removal_while_hammered)
{
	struct vcore_options o = {.vcpus = 2, .memory = RAM, .unhandled = VCORE_UNHANDLED_IGNORE};
	_Atomic uint32_t wrong = 0;
	vcore_vm *vm = api_vm_with(_i, &o);
	uint32_t called = 0;

	for (uint32_t i = 0; i < 2; i++) /* mov [MMIO], eax; out 0x70, al; jmp */
		api_load(vm, i, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xa3, 0, 0, 0, 0x10, 0xe6, 0x70, 0xeb, 0xf7));
	OK(vcore_vm_start(vm));
	for (int round = 0; round < 200; round++) {
		struct api_device d = {.hook = dead_devices_are_not_called, .hook_ctx = &wrong};
		vcore_device *device = add(vm, VCORE_BUS_MMIO, MMIO, 0x1000, &d);

		if (round % 2)
			OK(vcore_io_add_region(device, VCORE_BUS_PIO, 0x70, 1));
		if (round % 4 == 0)
			api_until(&d.writes, 2);
		OK(vcore_device_remove(device));
		ck_assert_uint_eq(d.destroyed, 1);
		called += d.writes;
	}
	OK(vcore_vm_stop(vm));
	OK(vcore_vm_wait(vm, LONG, NULL));
	ck_assert_uint_eq(wrong, 0);
	ck_assert_uint_gt(called, 99);
	vcore_vm_unref(vm);
}
END_TEST

/* Devices are reset with the vm, in order, once. */
START_TEST(reset_reaches_devices)
{
	struct api_device d = {0};
	vcore_vm *vm = api_vm(_i, 1);

	add(vm, VCORE_BUS_MMIO, MMIO, 0x1000, &d);
	OK(vcore_vm_reset(vm));
	OK(vcore_vm_reset(vm));
	ck_assert_uint_eq(d.resets, 2);
	vcore_vm_unref(vm);
}
END_TEST

/* ---- coalesced writes ---- */

START_TEST(coalesced)
{
	struct api_device d = {0};
	vcore_vm *vm = api_vm(_i, 1);
	vcore_device *device = add(vm, VCORE_BUS_MMIO, MMIO, 0x1000, &d);

	REFUSED(vcore_io_coalesce(device, VCORE_BUS_MMIO, MMIO + 0xff0, 0x20), EINVAL, "0x10000ff0");
	REFUSED(vcore_io_coalesce(device, VCORE_BUS_PIO, 0x10, 1), EINVAL, "not inside");
	REFUSED(vcore_io_coalesce(device, VCORE_BUS_HYPERCALL, 0, 1), EINVAL, "bus");
	REFUSED(vcore_io_coalesce(NULL, VCORE_BUS_MMIO, MMIO, 1), EINVAL, "device");
	OK(vcore_io_coalesce(device, VCORE_BUS_MMIO, MMIO, 0x100));
	OK(vcore_io_coalesce(device, VCORE_BUS_MMIO, MMIO, 0x100));
	/* 100 writes to a range that waits, then one that does not; hlt */
	/* mov ecx, 100; l: mov [MMIO + 8], ecx; dec ecx; jnz l; mov [MMIO + 0x200], ecx; hlt; mov [MMIO], eax; hlt */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE,
	         CODE_BYTES(0xb9, 100, 0, 0, 0, 0x89, 0x0d, 8, 0, 0, 0x10, 0x49, 0x75, 0xf7, 0x89, 0x0d, 0, 2, 0, 0x10,
	                    0xf4, 0xa3, 0, 0, 0, 0x10, 0xf4));
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(d.writes, 101);
	ck_assert_uint_eq(d.last_offset, 0x200); /* and in order */
	/* once the device is gone, nothing is swallowed at its address */
	OK(vcore_device_remove(device));
	ck_assert_uint_eq(d.destroyed, 1);
	ck_assert_uint_eq(api_run(vm, VCORE_EXIT_MMIO).address, MMIO);
	ck_assert_uint_eq(d.writes, 101);
	vcore_vm_unref(vm);
}
END_TEST

/* ---- accesses nobody answers ---- */

START_TEST(unhandled_exits)
{
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vm *vm = api_vm(_i, 1);
	vcore_vcpu *vcpu = vcore_vm_vcpu(vm, 0);

	/* mov eax, [MMIO]; mov [MMIO + 4], ax; in al, 0x33; out 0x34, eax; hlt */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE,
	         CODE_BYTES(0xa1, 0, 0, 0, 0x10, 0x66, 0xa3, 4, 0, 0, 0x10, 0xe4, 0x33, 0xe7, 0x34, 0xf4));
	exit = api_run(vm, VCORE_EXIT_MMIO);
	ck_assert(exit.address == MMIO && exit.width == 4 && !exit.is_write && exit.data == 0);
	exit.data = 0xcafe1234deadbeef;
	OK(vcore_vcpu_run(vcpu, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_MMIO);
	ck_assert(exit.address == MMIO + 4 && exit.width == 2 && exit.is_write && exit.data == 0xbeef);
	OK(vcore_vcpu_run(vcpu, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_PIO);
	ck_assert(exit.address == 0x33 && exit.width == 1 && !exit.is_write);
	exit.data = 0x77;
	OK(vcore_vcpu_run(vcpu, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_PIO);
	ck_assert(exit.address == 0x34 && exit.width == 4 && exit.is_write && exit.data == 0xdeadbe77);
	OK(vcore_vcpu_run(vcpu, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_HALT);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(unhandled_ignored)
{
	struct vcore_options o = {.memory = RAM, .unhandled = VCORE_UNHANDLED_IGNORE};
	vcore_vm *vm = api_vm_with(_i, &o);

	/* out 0x34, eax; mov [MMIO], eax; in al, 0x33; mov ebx, [MMIO]; and eax, ebx; hlt */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE,
	         CODE_BYTES(0xe7, 0x34, 0xa3, 0, 0, 0, 0x10, 0xe4, 0x33, 0x8b, 0x1d, 0, 0, 0, 0x10, 0x21, 0xd8, 0xf4));
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(api_rax(vm), 0xff);
	vcore_vm_unref(vm);
}
END_TEST

/* Read-modify-write on an address nobody answers: one read, one write, the second from the answer to the first. */
START_TEST(unhandled_read_modify_write)
{
	struct vcore_exit exit;
	vcore_vm *vm = api_vm(_i, 1);
	vcore_vcpu *vcpu = vcore_vm_vcpu(vm, 0);

	/* add dword [MMIO], 5; hlt */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0x83, 0x05, 0, 0, 0, 0x10, 5, 0xf4));
	exit = api_run(vm, VCORE_EXIT_MMIO);
	ck_assert(!exit.is_write && exit.width == 4);
	exit.data = 0x100;
	OK(vcore_vcpu_run(vcpu, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_MMIO);
	ck_assert(exit.is_write && exit.data == 0x105);
	OK(vcore_vcpu_run(vcpu, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_HALT);
	vcore_vm_unref(vm);
}
END_TEST

/* REP INSB and REP OUTSB on a port nobody answers: an exit for each element, in order. */
START_TEST(unhandled_string_io)
{
	static const char text[] = "string";
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vm *vm = api_vm(_i, 1);
	vcore_vcpu *vcpu = vcore_vm_vcpu(vm, 0);
	char got[8] = "";

	/* mov edi, 0x6000; mov ecx, 6; mov edx, 0x99; cld; rep insb; mov esi, 0x6000; mov ecx, 6; rep outsb; hlt */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE,
	         CODE_BYTES(0xbf, 0, 0x60, 0, 0, 0xb9, 6, 0, 0, 0, 0xba, 0x99, 0, 0, 0, 0xfc, 0xf3, 0x6c, 0xbe, 0, 0x60, 0,
	                    0, 0xb9, 6, 0, 0, 0, 0xf3, 0x6e, 0xf4));
	for (int i = 0; i < 6; i++) {
		OK(vcore_vcpu_run(vcpu, LONG, &exit));
		ck_assert_uint_eq(exit.reason, VCORE_EXIT_PIO);
		ck_assert(!exit.is_write && exit.width == 1 && exit.address == 0x99);
		exit.data = (uint8_t)text[i];
	}
	for (int i = 0; i < 6; i++) {
		OK(vcore_vcpu_run(vcpu, LONG, &exit));
		ck_assert_uint_eq(exit.reason, VCORE_EXIT_PIO);
		ck_assert(exit.is_write && exit.width == 1);
		ck_assert_int_eq((int)exit.data, text[i]);
	}
	OK(vcore_vcpu_run(vcpu, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_HALT);
	OK(vcore_memory_read(vm, 0x6000, got, 6));
	ck_assert_str_eq(got, text);
	vcore_vm_unref(vm);
}
END_TEST

/* The program leaves an unanswered access alone and sends the vcpu elsewhere: nothing of the old instruction follows
 * it. */
START_TEST(unanswered_and_moved)
{
	struct vcore_regs regs = {
	    .size = sizeof regs, .rip = 0x2000, .rax = 0x1111, .rbx = 0x2222, .rsp = 0x8000, .rflags = 2};
	vcore_vm *vm = api_vm(_i, 1);

	/* mov eax, [MMIO]; in eax, 0x33 */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, 0x2000, CODE_BYTES(0x43, 0xf4)); /* inc ebx; hlt */
	for (int port = 0; port < 2; port++) {
		api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xa1, 0, 0, 0, 0x10, 0xf4));
		if (port)
			api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xe5, 0x33, 0xf4));
		api_run(vm, port ? VCORE_EXIT_PIO : VCORE_EXIT_MMIO);
		OK(vcore_vcpu_set_regs(vcore_vm_vcpu(vm, 0), &regs));
		api_run(vm, VCORE_EXIT_HALT);
		ck_assert_uint_eq(api_rax(vm), 0x1111);
		ck_assert_uint_eq(api_rip(vm), 0x2002);
	}
	/* the same by a reset */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xa1, 0, 0, 0, 0x10, 0xf4));
	api_run(vm, VCORE_EXIT_MMIO);
	OK(vcore_vm_reset(vm));
	api_load(vm, 0, VCORE_MODE_PROTECTED32, 0x2000, CODE_BYTES(0x43, 0xf4));
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(api_rax(vm), 0);
	ck_assert_uint_eq(api_rip(vm), 0x2002);
	vcore_vm_unref(vm);
}
END_TEST

/* ---- hypercalls ---- */

static void answer_hypercall(struct api_device *d, struct vcore_io *io)
{
	if (io->bus == VCORE_BUS_HYPERCALL)
		io->data = io->address + io->args[0] + io->args[1] + io->args[2] + io->args[3];
}

START_TEST(hypercalls)
{
	struct api_device d = {.hook = answer_hypercall};
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vm *vm = api_vm(_i, 1);
	int r = vcore_io_add(vm, VCORE_BUS_HYPERCALL, 0x4000, 0x10, &api_device_ops, &d, NULL);

	if (r == -ENOTSUP) {
		ck_assert_uint_eq(d.destroyed, 1);
		printf("%s: %s\n", api_backend_word(_i), vcore_error_message());
		vcore_vm_unref(vm);
		return;
	}
	OK(r);
	/* mov eax, 0x4005; mov ebx, 1; mov ecx, 2; mov edx, 3; mov esi, 4; vmcall; hlt; mov eax, 0x5000; vmcall; hlt */
	api_load(vm, 0, VCORE_MODE_LONG64, CODE,
	         CODE_BYTES(0xb8, 5, 0x40, 0, 0, 0xbb, 1, 0, 0, 0, 0xb9, 2, 0, 0, 0, 0xba, 3, 0, 0, 0, 0xbe, 4, 0, 0, 0,
	                    0x0f, 0x01, 0xc1, 0xf4, 0xb8, 0, 0x50, 0, 0, 0x0f, 0x01, 0xc1, 0xf4));
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(api_rax(vm), 0x4005 + 10);
	ck_assert_uint_eq(d.last_offset, 5);
	ck_assert_uint_eq(d.last_width, 8);
	exit = api_run(vm, VCORE_EXIT_HYPERCALL);
	ck_assert_uint_eq(exit.address, 0x5000);
	ck_assert_uint_eq(exit.args[3], 4);
	exit.data = 99;
	OK(vcore_vcpu_run(vcore_vm_vcpu(vm, 0), LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_HALT);
	ck_assert_uint_eq(api_rax(vm), 99);
	vcore_vm_unref(vm);
}
END_TEST

/* ---- the library's own by name ---- */

START_TEST(device_types)
{
	const char *type, *summary, *properties;
	vcore_vm *vm = api_vm(_i, 1);
	vcore_device *device = NULL;
	uint32_t n = 0;

	while (vcore_device_describe(n, &type, &summary, &properties) == 0) {
		ck_assert(type[0] && summary[0] && properties);
		n++;
	}
	ck_assert_uint_ge(n, 3);
	REFUSED(vcore_device_describe(n, NULL, NULL, NULL), ENOENT, "no more");
	REFUSED(vcore_device_add(vm, "uartt", NULL, NULL), ENOENT, "uart, ");
	REFUSED(vcore_device_add(vm, NULL, NULL, NULL), EINVAL, "type");
	REFUSED(vcore_device_add(NULL, "uart", NULL, NULL), EINVAL, "vm");
	REFUSED(vcore_device_add(vm, "debug-exit", "prot=5", NULL), EINVAL, "prot");
	REFUSED(vcore_device_add(vm, "debug-exit", "addr=abc", NULL), EINVAL, "abc");
	OK(vcore_device_add(vm, "debug-exit", "addr=0x501", &device));
	ck_assert_str_eq(vcore_device_type(device), "debug-exit");
	REFUSED(vcore_device_add(vm, "debug-exit", "addr=0x501", NULL), EEXIST, "overlaps");
	OK(vcore_device_remove(device));
	OK(vcore_device_add(vm, "debug-exit", "addr=0x501", NULL));
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(balloon)
{
	vcore_vm *vm = api_microvm(_i, VCORE_IRQCHIP_AUTO, 1);
	struct vcore_balloon_stats stats = {.size = sizeof stats};
	uint64_t small[2] = {sizeof small, 0};
	vcore_device *device, *other;

	ck_assert_ptr_nonnull(vm);
	OK(vcore_device_add(vm, "virtio-balloon", "target=8M", &device));
	OK(vcore_device_add(vm, "virtio-rng", NULL, &other));
	OK(vcore_balloon_get_stats(device, &stats));
	ck_assert_uint_eq(stats.target, 8 << 20);
	ck_assert_uint_eq(stats.actual, 0);
	ck_assert_uint_eq(stats.total_memory, UINT64_MAX);
	OK(vcore_balloon_set_target(device, (16 << 20) + 1));
	OK(vcore_balloon_get_stats(device, (struct vcore_balloon_stats *)small));
	ck_assert_uint_eq(small[1], 16 << 20);
	REFUSED(vcore_balloon_set_target(device, 1ull << 45), EINVAL, "16 TiB");
	REFUSED(vcore_balloon_set_target(other, 0), EINVAL, "virtio-rng");
	REFUSED(vcore_balloon_set_target(NULL, 0), EINVAL, "NULL");
	REFUSED(vcore_balloon_get_stats(other, &stats), EINVAL, "virtio-rng");
	REFUSED(vcore_balloon_get_stats(device, NULL), EINVAL, "size");
	REFUSED(vcore_balloon_reclaim(other), EINVAL, "virtio-rng");
	REFUSED(vcore_balloon_reclaim(device), ENOTSUP, "driver");
	OK(vcore_device_remove(device));
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(found)
{
	vcore_vm *vm = api_microvm(_i, VCORE_IRQCHIP_AUTO, 1);
	vcore_device *first, *second, *device;

	ck_assert_ptr_nonnull(vm);
	OK(vcore_device_add(vm, "virtio-rng", NULL, &first));
	OK(vcore_device_add(vm, "virtio-rng", NULL, &second));
	OK(vcore_vm_find_device(vm, "virtio-rng", 1, &device));
	ck_assert_ptr_eq(device, second);
	OK(vcore_device_remove(first));
	OK(vcore_vm_find_device(vm, "virtio-rng", 0, &device));
	ck_assert_ptr_eq(device, second);
	REFUSED(vcore_vm_find_device(vm, "virtio-rng", 1, &device), ENOENT, "the vm has 1");
	REFUSED(vcore_vm_find_device(vm, "warp", 0, &device), ENOENT, "warp");
	REFUSED(vcore_vm_find_device(vm, NULL, 0, &device), EINVAL, "type");
	OK(vcore_vm_find_device(vm, "i8042", 0, &device));
	REFUSED(vcore_device_remove(device), ENOTSUP, "machine type");
	OK(vcore_vm_send_ctrl_alt_del(vm));
	while (vcore_vm_send_ctrl_alt_del(vm) >= 0)
		; /* nobody reads: its queue is full some time */
	REFUSED(vcore_vm_send_ctrl_alt_del(vm), EAGAIN, "i8042");
	REFUSED(vcore_vm_send_ctrl_alt_del(NULL), EINVAL, "no vm");
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(machine_parts_stay)
{
	vcore_vm *vm = api_microvm(_i, VCORE_IRQCHIP_AUTO, 1);
	struct api_device d = {0};

	ck_assert_ptr_nonnull(vm);
	REFUSED(vcore_io_add(vm, VCORE_BUS_PIO, 0xcf8, 1, &api_device_ops, &d, NULL), EEXIST, "overlaps");
	ck_assert_uint_eq(d.destroyed, 1);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(disks)
{
	vcore_vm *vm = api_microvm(_i, VCORE_IRQCHIP_AUTO, 1);
	vcore_device *disk, *uart;

	ck_assert_ptr_nonnull(vm);
	OK(vcore_device_add(vm, "virtio-blk", "image=null:1M", &disk));
	OK(vcore_device_add(vm, "uart", "addr=0x2f8", &uart));
	OK(vcore_block_resize(disk, 2 << 20));
	REFUSED(vcore_block_resize(disk, 1000), EINVAL, "1000");
	REFUSED(vcore_block_resize(uart, 1024), ENOTSUP, "uart");
	REFUSED(vcore_block_resize(NULL, 1024), ENOTSUP, "virtio-blk");
	REFUSED(vcore_device_add(vm, "virtio-blk", NULL, NULL), EINVAL, "image");
	OK(vcore_device_remove(disk));
	vcore_vm_unref(vm);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("device");
	TCase *tcase = tcase_create("device");

	tcase_set_timeout(tcase, 60);
	EACH(tcase, mmio_widths);
	EACH(tcase, ports);
	EACH(tcase, empty_and_short_ops);
	EACH(tcase, several_regions);
	EACH(tcase, refused_adds);
	EACH(tcase, changes_from_a_callback);
	EACH(tcase, removal_while_hammered);
	EACH(tcase, reset_reaches_devices);
	EACH(tcase, coalesced);
	EACH(tcase, unhandled_exits);
	EACH(tcase, unhandled_ignored);
	EACH(tcase, unhandled_read_modify_write);
	EACH(tcase, unhandled_string_io);
	EACH(tcase, unanswered_and_moved);
	EACH(tcase, hypercalls);
	EACH(tcase, device_types);
	EACH(tcase, balloon);
	EACH(tcase, found);
	EACH(tcase, machine_parts_stay);
	EACH(tcase, disks);
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
