/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Hooks on memory: every way in which an instruction, or the CPU of itself, reads and writes. */
#include "hook.h"

/* ---- memory ---- */

GUEST(accesses, "mov rax, 0x1122334455667788\n"
                "mov [0x6000], rax\n"
                "mov cl, [0x6003]\n"
                "mov dx, [0x5fff]\n"  /* its second byte */
                "mov [0x6008], eax\n" /* just behind */
                "mov edx, [0x5ffc]\n" /* just before */
                "xchg [0x6004], ecx\n"
                "lock xadd [0x6000], rax\n"
                "inc word ptr [0x6006]\n"
                "bts dword ptr [0x6000], 31\n"
                "hlt");

START_TEST(memory_of_all_sizes)
{
	if (is_kvm(_i))
		return;
	start(_i);
	LOAD(vm, accesses);
	api_run(vm, VCORE_EXIT_HALT); /* fills the TLB */
	LOAD(vm, accesses);
	OK(vcore_memory_write(vm, DATA, "\0\0\0\0\0\0\0", 8));
	add(a, VCORE_HOOK_MEMORY, DATA, 8, 0);
	add(b, VCORE_HOOK_MEMORY, DATA + 5, 1, VCORE_HOOK_WRITES);
	api_run(vm, VCORE_EXIT_HALT);
	told(a, 0, 0x6000, 8, 0x1122334455667788, true);
	ck_assert_uint_eq(a->event[0].linear, 0x6000);
	ck_assert(!memcmp(a->data[0], "\x88\x77\x66\x55\x44\x33\x22\x11", 8));
	told(a, 1, 0x6003, 1, 0x55, false);
	told(a, 2, 0x6000, 1, 0x88, false); /* of the next page's piece */
	told(a, 3, 0x6004, 4, 0x11223344, false);
	told(a, 4, 0x6004, 4, 0x55, true);
	told(a, 5, 0x6000, 8, 0x0000005555667788, false);
	told(a, 6, 0x6000, 8, 0x112233 * 0x10000000000ull + 0x99aaccef10, true);
	told(a, 7, 0x6006, 2, 0x1122, false);
	told(a, 8, 0x6006, 2, 0x1123, true);
	told(a, 9, 0x6000, 4, 0xaaccef10, false);
	told(a, 10, 0x6000, 4, 0xaaccef10, true);
	ck_assert_uint_eq(a->count, 11);
	ck_assert_uint_eq(b->count, 3);
	told(b, 0, 0x6000, 8, 0x1122334455667788, true);
	told(b, 1, 0x6004, 4, 0x55, true);
	vcore_vm_unref(vm);
}
END_TEST

GUEST(stacks, "mov esp, 0x6010\n"
              "push 7\n"
              "call 1f\n"
              "pop rax\n"
              "movups xmm0, [0x6ff8]\n"
              "movups [0x6ff0], xmm0\n"
              "mov rax, [0x6ffd]\n"
              "xor eax, eax\n"
              "xor edx, edx\n"
              "mov ebx, 5\n"
              "mov ecx, 6\n"
              "lock cmpxchg16b [0x6ff0]\n"
              "hlt\n"
              "1: ret");

START_TEST(memory_of_stacks_and_vectors)
{
	uint8_t bytes[16];

	if (is_kvm(_i))
		return;
	start(_i);
	for (int i = 0; i < 16; i++)
		bytes[i] = (uint8_t)(i + 1);
	LOAD(vm, stacks);
	OK(vcore_memory_write(vm, 0x6ff8, bytes, 16));
	add(a, VCORE_HOOK_MEMORY, 0x6000, 0x2000, 0);
	api_run(vm, VCORE_EXIT_HALT);
	told(a, 0, 0x6008, 8, 7, true);
	ck_assert_uint_eq(a->event[1].address, 0x6000);
	ck_assert(a->event[1].is_write);
	ck_assert_uint_eq(a->event[2].value, a->event[1].value); /* the return address */
	told(a, 3, 0x6008, 8, 7, false);
	/* across the page's end: two pieces */
	told(a, 4, 0x6ff8, 8, 0x0807060504030201, false);
	told(a, 5, 0x7000, 8, 0x100f0e0d0c0b0a09, false);
	told(a, 6, 0x6ff0, 16, 0x0807060504030201, true);
	ck_assert(!memcmp(a->data[6], bytes, 16));
	told(a, 7, 0x6ffd, 3, 0x100f0e, false);
	told(a, 8, 0x7000, 5, 0x0d0c0b0a09, false);
	/* CMPXCHG16B: not equal, and written back */
	told(a, 9, 0x6ff0, 8, 0x0807060504030201, false);
	told(a, 10, 0x6ff8, 8, 0x100f0e0d0c0b0a09, false);
	told(a, 11, 0x6ff8, 8, 0x100f0e0d0c0b0a09, true);
	told(a, 12, 0x6ff0, 8, 0x0807060504030201, true);
	ck_assert_uint_eq(a->count, 13);
	vcore_vm_unref(vm);
}
END_TEST

GUEST(strings, "mov esi, 0x6000; mov edi, 0x9ff0; mov ecx, 0x20; rep movsb\n"
               "mov edi, 0x9000; mov eax, 0x1234; mov ecx, 0x1004; rep stosw\n"
               "mov esi, 0x9ffe; lodsw\n"
               "mov esi, 0xa002; mov edi, 0xa000; mov ecx, 9; repe cmpsb\n"
               "mov edi, 0xa000; mov al, 0x34; mov ecx, 9; repne scasb\n"
               "hlt");

/* Repeated instructions into a range across two pages; the pages' other bytes are as fast, or slow, but not told. */
START_TEST(memory_of_strings)
{
	uint8_t bytes[0x20];

	if (is_kvm(_i))
		return;
	start(_i);
	for (unsigned i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(0x40 + i);
	LOAD(vm, strings);
	OK(vcore_memory_write(vm, DATA, bytes, sizeof bytes));
	add(a, VCORE_HOOK_MEMORY, 0x9ffe, 4, 0);
	api_run(vm, VCORE_EXIT_HALT);
	for (uint32_t i = 0; i < 4; i++)
		told(a, i, 0x9ffe + i, 1, 0x4e + i, true);
	told(a, 4, 0x9ffe, 2, 0x1234, true);
	told(a, 5, 0xa000, 2, 0x1234, true);
	told(a, 6, 0x9ffe, 2, 0x1234, false);
	told(a, 7, 0xa000, 1, 0x34, false); /* CMPSB: 0xa000, 0xa001 by its destination */
	told(a, 8, 0xa001, 1, 0x12, false);
	told(a, 9, 0xa000, 1, 0x34, false); /* SCASB ends at once */
	ck_assert_uint_eq(a->count, 10);
	OK(vcore_memory_read(vm, 0x9000 + 0x1004 * 2 - 2, bytes, 4));
	ck_assert(!memcmp(bytes, "\x34\x12", 2));
	vcore_vm_unref(vm);
}
END_TEST

GUEST(devices, "mov eax, [0x10000000]; mov [0x10000004], eax; add dword ptr [0x10000008], 1; hlt");

START_TEST(memory_of_devices)
{
	struct api_device d = {.value = 0x77};
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_device *device;

	if (is_kvm(_i))
		return;
	start(_i);
	LOAD(vm, devices);
	OK(vcore_io_add(vm, VCORE_BUS_MMIO, 0x10000000, 0x1000, &api_device_ops, &d, &device));
	add(a, VCORE_HOOK_MEMORY, 0x10000000, 0x100, 0);
	for (int turn = 0; turn < 2; turn++) {
		a->count = 0;
		LOAD(vm, devices);
		OK(vcore_vcpu_run(vcpu, LONG, &exit));
		/* the second time there is nobody, and the program answers */
		for (int n = 0; n < 4 && turn; n++) {
			ck_assert_uint_eq(exit.reason, VCORE_EXIT_MMIO);
			ck_assert_uint_eq(a->count, (unsigned)n);
			exit.data = 0x77;
			OK(vcore_vcpu_run(vcpu, LONG, &exit));
		}
		ck_assert_uint_eq(exit.reason, VCORE_EXIT_HALT);
		told(a, 0, 0x10000000, 4, 0x77, false);
		told(a, 1, 0x10000004, 4, 0x77, true);
		told(a, 2, 0x10000008, 4, 0x77, false);
		told(a, a->count - 1, 0x10000008, 4, 0x78, true);
		if (!turn)
			OK(vcore_device_remove(device));
	}
	vcore_vm_unref(vm);
}
END_TEST

/* Accesses the CPU makes of itself: an interrupt's gate, its segment descriptor and the frame. */
START_TEST(memory_of_an_interrupt)
{
	if (is_kvm(_i))
		return;
	start(_i);
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xcd, 0x40, 0xf4)); /* int 0x40; hlt */
	api_tables(vm, 0, false);
	add(a, VCORE_HOOK_MEMORY, 0x3000 + 0x40 * 8, 8, 0); /* its gate, see api_tables() */
	add(b, VCORE_HOOK_MEMORY, 0x7ff4, 12, 0);           /* its frame */
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_ge(a->count, 1);
	ck_assert(!a->event[0].is_write);
	ck_assert_uint_eq(b->count, 6); /* pushed by INT, popped by IRET */
	told(b, 2, 0x7ff4, 4, CODE + 2, true);
	told(b, 3, 0x7ff4, 4, CODE + 2, false);
	vcore_vm_unref(vm);
}
END_TEST

/* What the program does is not what the guest does. */
START_TEST(memory_of_the_program)
{
	uint32_t value = 1;

	if (is_kvm(_i))
		return;
	start(_i);
	LOAD(vm, accesses);
	add(a, VCORE_HOOK_MEMORY, 0, RAM, 0);
	OK(vcore_memory_write(vm, DATA, &value, 4));
	OK(vcore_memory_read(vm, DATA, &value, 4));
	OK(vcore_vcpu_write(vcpu, DATA, &value, 4));
	ck_assert_uint_eq(a->count, 0);
	vcore_vm_unref(vm);
}
END_TEST

/* Memory that a hook watches goes away under the vcpu that is being told. */
static void take_memory(struct log *log, const struct vcore_hook_event *event)
{
	OK(vcore_memory_remove((vcore_slot *)(uintptr_t)log->seen));
}

START_TEST(memory_removed_by_its_hook)
{
	struct vcore_exit exit;
	vcore_slot *slot;

	if (is_kvm(_i))
		return;
	start(_i);
	/* mov eax, [0x400000]; l: mov ebx, [0x400000]; jmp l */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE,
	         CODE_BYTES(0xa1, 0, 0, 0x40, 0, 0x8b, 0x1d, 0, 0, 0x40, 0, 0xeb, 0xf8));
	OK(vcore_memory_add(vm, 0x400000, 0x1000, VCORE_MEM_RWX, NULL, &slot));
	add(a, VCORE_HOOK_MEMORY, 0x400000, 4, 0);
	a->also = take_memory;
	a->seen = (uintptr_t)slot;
	exit = api_run(vm, VCORE_EXIT_MMIO);
	ck_assert_uint_eq(exit.address, 0x400000);
	ck_assert_uint_eq(a->count, 1);
	vcore_vm_unref(vm);
}
END_TEST

/* A device's callback adds a hook, which is in force for the next instruction's access. */
static void add_from_device(struct api_device *d, struct vcore_io *io)
{
	if (!d->reads)
		add(a, VCORE_HOOK_MEMORY, 0x10000000, 16, 0);
}

START_TEST(adding_in_a_device)
{
	struct api_device d = {.hook = add_from_device};

	if (is_kvm(_i))
		return;
	start(_i);
	LOAD(vm, devices);
	OK(vcore_io_add(vm, VCORE_BUS_MMIO, 0x10000000, 0x1000, &api_device_ops, &d, NULL));
	api_run(vm, VCORE_EXIT_HALT);
	/* even of the access that it came from: it was told when that was over */
	ck_assert_uint_eq(a->count, 4);
	vcore_vm_unref(vm);
}
END_TEST

int main(void)
{
	return RUN_TESTS("hook memory", memory_of_all_sizes, memory_of_stacks_and_vectors, memory_of_strings,
	                 memory_of_devices, memory_of_an_interrupt, memory_of_the_program, memory_removed_by_its_hook,
	                 adding_in_a_device);
}
