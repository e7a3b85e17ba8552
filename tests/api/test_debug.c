/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Debugging from outside, and what the guest sees of its own debugging meanwhile. */
#include "api.h"

static vcore_vm *vm;
static vcore_vcpu *vcpu;

static void make(int backend, enum vcore_mode mode, const uint8_t *code, size_t length)
{
	vm = api_vm(backend, 1);
	vcpu = vcore_vm_vcpu(vm, 0);
	api_load(vm, 0, mode, CODE, code, length);
}

static void debug(uint32_t flags, uint64_t dr0, uint64_t dr7)
{
	struct vcore_debug d = {.size = sizeof d, .flags = flags, .dr = {dr0}, .dr7 = dr7};

	OK(vcore_vcpu_set_debug(vcpu, &d));
}

static void steps_to(uint64_t address)
{
	struct vcore_exit exit = api_run(vm, VCORE_EXIT_DEBUG);

	ck_assert_uint_eq(exit.exception, 1);
	ck_assert_uint_eq(exit.address, address);
	ck_assert(exit.dr6 & 0x4000);
	ck_assert_uint_eq(api_rip(vm), address);
}

START_TEST(single_step)
{
	for (enum vcore_mode mode = VCORE_MODE_REAL; mode <= VCORE_MODE_LONG64; mode++) {
		/* nop; mov al, 5; add al, 1; jmp +1; (ud2's half); nop; hlt */
		make(_i, mode, CODE_BYTES(0x90, 0xb0, 5, 0x04, 1, 0xeb, 1, 0x0f, 0x90, 0xf4));
		debug(VCORE_DEBUG_SINGLE_STEP, 0, 0);
		steps_to(CODE + 1);
		steps_to(CODE + 3);
		steps_to(CODE + 5);
		ck_assert_uint_eq(api_rax(vm), 6);
		steps_to(CODE + 8);
		steps_to(CODE + 9);
		debug(0, 0, 0);
		api_run(vm, VCORE_EXIT_HALT);
		vcore_vm_unref(vm);
	}
}
END_TEST

/* Device accesses are steps like others. */
START_TEST(single_step_over_accesses)
{
	struct api_device d = {.value = 9};

	/* mov eax, [0x10000000]; out 0x10, al; nop */
	make(_i, VCORE_MODE_PROTECTED32, CODE_BYTES(0xa1, 0, 0, 0, 0x10, 0xe6, 0x10, 0x90));
	OK(vcore_io_add(vm, VCORE_BUS_MMIO, 0x10000000, 0x1000, &api_device_ops, &d, NULL));
	OK(vcore_io_add(vm, VCORE_BUS_PIO, 0x10, 1, &api_device_ops, &d, NULL));
	debug(VCORE_DEBUG_SINGLE_STEP, 0, 0);
	steps_to(CODE + 5);
	ck_assert_uint_eq(api_rax(vm), 9);
	steps_to(CODE + 7);
	steps_to(CODE + 8);
	ck_assert_uint_eq(d.reads, 1);
	ck_assert_uint_eq(d.writes, 1);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(int3)
{
	struct vcore_regs regs = {.size = sizeof regs};
	struct vcore_exit exit;

	/* nop; int3; nop; hlt */
	make(_i, VCORE_MODE_PROTECTED32, CODE_BYTES(0x90, 0xcc, 0x90, 0xf4));
	api_tables(vm, 0, false);
	debug(VCORE_DEBUG_SW_BREAK, 0, 0);
	for (int i = 0; i < 2; i++) { /* it stays there until the program does something about it */
		exit = api_run(vm, VCORE_EXIT_DEBUG);
		ck_assert_uint_eq(exit.exception, 3);
		ck_assert_uint_eq(exit.address, CODE + 1);
		ck_assert_uint_eq(api_rip(vm), CODE + 1);
	}
	OK(vcore_memory_write(vm, CODE + 1, "\x90", 1));
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(api_count(vm, 3), 0);
	/* without debugging it is the guest's */
	debug(0, 0, 0);
	OK(vcore_memory_write(vm, CODE + 1, "\xcc", 1));
	OK(vcore_vcpu_get_regs(vcpu, &regs));
	regs.rip = CODE;
	OK(vcore_vcpu_set_regs(vcpu, &regs));
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(api_count(vm, 3), 1);
	vcore_vm_unref(vm);
}
END_TEST

/* The exit names RIP, not the linear address. */
START_TEST(rip_with_a_segment_base)
{
	struct vcore_sregs s = {.size = sizeof s};
	struct vcore_regs regs = {.size = sizeof regs, .rip = 0x10, .rflags = 2};
	struct vcore_exit exit;

	if (api_is_poor_kvm(_i, "INT3 for the program"))
		return;
	make(_i, VCORE_MODE_REAL, CODE_BYTES(0x90));
	OK(vcore_memory_write(vm, 0x2010, "\xcc\xf4", 2));
	OK(vcore_vcpu_get_sregs(vcpu, &s));
	s.cs.base = 0x2000;
	s.cs.selector = 0x200;
	OK(vcore_vcpu_set_sregs(vcpu, &s));
	OK(vcore_vcpu_set_regs(vcpu, &regs));
	debug(VCORE_DEBUG_SW_BREAK, 0, 0);
	exit = api_run(vm, VCORE_EXIT_DEBUG);
	ck_assert_uint_eq(exit.address, 0x10);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(execution_breakpoint)
{
	struct vcore_exit exit;

	/* mov ecx, 3; l: nop; dec ecx; jnz l; hlt */
	if (api_is_poor_kvm(_i, "breakpoints"))
		return;
	make(_i, VCORE_MODE_PROTECTED32, CODE_BYTES(0xb9, 3, 0, 0, 0, 0x90, 0x49, 0x75, 0xfc, 0xf4));
	debug(VCORE_DEBUG_HW_BREAK, CODE + 5, 0x401);
	for (int i = 0; i < 3; i++) {
		exit = api_run(vm, VCORE_EXIT_DEBUG);
		ck_assert_uint_eq(exit.exception, 1);
		ck_assert_uint_eq(exit.address, CODE + 5);
		ck_assert_uint_eq(exit.dr6 & 15, 1);
	}
	api_run(vm, VCORE_EXIT_HALT);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(data_breakpoints)
{
	struct vcore_exit exit;

	/* mov eax, [0x6000]; mov [0x6004], eax; mov [0x6000], eax; hlt */
	if (api_is_poor_kvm(_i, "breakpoints"))
		return;
	make(_i, VCORE_MODE_PROTECTED32, CODE_BYTES(0xa1, 0, 0x60, 0, 0, 0xa3, 4, 0x60, 0, 0, 0xa3, 0, 0x60, 0, 0, 0xf4));
	debug(VCORE_DEBUG_HW_BREAK, 0x6000, 0xd0401); /* 4 bytes, writes */
	exit = api_run(vm, VCORE_EXIT_DEBUG);
	ck_assert_uint_eq(exit.address, CODE + 15); /* a trap: behind the instruction */
	ck_assert_uint_eq(exit.dr6 & 15, 1);
	api_run(vm, VCORE_EXIT_HALT);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(refusals)
{
	struct vcore_debug d = {.size = sizeof d, .flags = 8};

	make(_i, VCORE_MODE_PROTECTED32, CODE_BYTES(0xeb, 0xfe));
	REFUSED(vcore_vcpu_set_debug(vcpu, &d), EINVAL, "0x8");
	REFUSED(vcore_vcpu_set_debug(NULL, &d), EINVAL, "vcpu");
	d.size = d.flags = 0;
	REFUSED(vcore_vcpu_set_debug(vcpu, &d), EINVAL, "size");
	d.size = sizeof d;
	OK(vcore_vm_start(vm));
	REFUSED(vcore_vcpu_set_debug(vcpu, &d), EBUSY, "executing");
	OK(vcore_vm_pause(vm));
	OK(vcore_vcpu_set_debug(vcpu, &d));
	vcore_vm_unref(vm);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("debug");
	TCase *tcase = tcase_create("debug");

	tcase_set_timeout(tcase, 60);
	EACH(tcase, single_step);
	EACH(tcase, single_step_over_accesses);
	EACH(tcase, int3);
	EACH(tcase, rip_with_a_segment_base);
	EACH(tcase, execution_breakpoint);
	EACH(tcase, data_breakpoints);
	EACH(tcase, refusals);
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
