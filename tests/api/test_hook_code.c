/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Hooks on code and blocks: what is told is what a single-step trace has; stops; code that changes. */
#include "hook.h"

/* ---- code ---- */

GUEST(loops, "mov ecx, 3\n"
             "1: call 2f\n"
             "dec ecx\n"
             "jnz 1b\n"
             "lea rax, [rip + 3f]\n"
             "cmp eax, 5\n"
             "jb 4f\n"
             "jmp rax\n"
             "2: test ecx, 1\n"
             "jz 4f\n"
             "inc rbx\n"
             "4: ret\n"
             "3: pxor xmm0, xmm0\n"
             "nop\n"
             "hlt");

/* The rips of a run of the guest at CODE, one instruction at a time, from another vm. Returns how many. */
static uint32_t trace(int choice, const uint8_t *code, size_t length, uint64_t *rips)
{
	struct vcore_debug debug = {.size = sizeof debug, .flags = VCORE_DEBUG_SINGLE_STEP};
	vcore_vm *other = new_vm(choice, 1);
	struct vcore_exit exit = {.size = sizeof exit};
	uint32_t n = 0;

	api_load(other, 0, VCORE_MODE_LONG64, CODE, code, length);
	OK(vcore_vcpu_set_debug(vcore_vm_vcpu(other, 0), &debug));
	do {
		ck_assert_uint_lt(n, LOG_MAX);
		rips[n++] = api_rip(other);
		OK(vcore_vcpu_run(vcore_vm_vcpu(other, 0), LONG, &exit));
	} while (exit.reason == VCORE_EXIT_DEBUG);
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_HALT);
	vcore_vm_unref(other);
	return n - 1; /* HLT is a step too: the last rip is behind it */
}

static uint64_t rips[LOG_MAX];

/* A log of code is the single-step trace. */
static void is_trace(const struct log *log, uint32_t n)
{
	ck_assert_uint_eq(log->count, n);
	for (uint32_t i = 0; i < n; i++) {
		ck_assert_uint_eq(log->event[i].address, rips[i]);
		ck_assert_uint_eq(log->event[i].linear, rips[i]);
	}
}

/* Blocks told, expanded to instructions by what was told of code, give the same trace. */
static void covers(const struct log *blocks, const struct log *code)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < blocks->count; i++) {
		uint64_t address = blocks->event[i].address, end = address + blocks->event[i].length;

		while (address < end) {
			ck_assert_uint_lt(at, code->count);
			ck_assert_uint_eq(code->event[at].address, address);
			address += code->event[at++].length;
		}
		ck_assert_uint_eq(address, end);
	}
	ck_assert_uint_eq(at, code->count);
}

START_TEST(code_and_blocks_are_the_trace)
{
	uint32_t n;

	if (is_kvm(_i))
		return;
	n = trace(_i, loops, (size_t)(loops_end - loops), rips);
	start(_i);
	LOAD(vm, loops);
	/* before any hook there is decoded code, which must not be used */
	api_run(vm, VCORE_EXIT_HALT);
	LOAD(vm, loops);
	add(a, VCORE_HOOK_CODE, 0, 0, 0);
	add(b, VCORE_HOOK_BLOCK, 0, 0, 0);
	api_run(vm, VCORE_EXIT_HALT);
	is_trace(a, n);
	covers(b, a);
	ck_assert_uint_eq(a->event[0].length, 5);
	ck_assert_uint_eq(a->event[0].kind, VCORE_HOOK_CODE);
	ck_assert_uint_eq(b->event[0].kind, VCORE_HOOK_BLOCK);
	ck_assert(is_lockstep(_i) || b->count < n);
	/* and none when they are gone */
	OK(vcore_hook_remove(a->hook));
	OK(vcore_hook_remove(b->hook));
	LOAD(vm, loops);
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(a->count, n);
	vcore_vm_unref(vm);
}
END_TEST

/* The same while the program steps. */
START_TEST(code_in_single_steps)
{
	struct vcore_debug debug = {.size = sizeof debug, .flags = VCORE_DEBUG_SINGLE_STEP};
	struct vcore_exit exit = {.size = sizeof exit};
	uint32_t n;

	if (is_kvm(_i))
		return;
	n = trace(_i, loops, (size_t)(loops_end - loops), rips);
	start(_i);
	LOAD(vm, loops);
	add(a, VCORE_HOOK_CODE, 0, 0, 0);
	add(b, VCORE_HOOK_BLOCK, 0, 0, 0);
	OK(vcore_vcpu_set_debug(vcpu, &debug));
	do
		OK(vcore_vcpu_run(vcpu, LONG, &exit));
	while (exit.reason == VCORE_EXIT_DEBUG);
	is_trace(a, n);
	is_trace(b, n);
	covers(b, a);
	vcore_vm_unref(vm);
}
END_TEST

/* Real mode with a segment base, and 32 bits: addresses are linear. */
START_TEST(code_in_other_modes)
{
	struct vcore_sregs s = {.size = sizeof s};
	struct vcore_regs regs = {.size = sizeof regs, .rip = 0x10, .rflags = 2};

	if (is_kvm(_i))
		return;
	start(_i);
	api_load(vm, 0, VCORE_MODE_REAL, 0x2018, CODE_BYTES(0x90, 0x40, 0xf4));
	OK(vcore_vcpu_get_sregs(vcpu, &s));
	s.cs.base = 0x2008;
	OK(vcore_vcpu_set_sregs(vcpu, &s));
	OK(vcore_vcpu_set_regs(vcpu, &regs));
	add(a, VCORE_HOOK_CODE, 0x2019, 1, 0);
	add(b, VCORE_HOOK_BLOCK, 0x2018, 1, 0);
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(a->count, 1);
	ck_assert_uint_eq(a->event[0].address, 0x2019);
	ck_assert_uint_eq(b->count, 1);
	ck_assert_uint_eq(b->event[0].length, is_lockstep(_i) ? 1 : 3);
	api_load(vm, 0, VCORE_MODE_PROTECTED32, 0x2018, CODE_BYTES(0x90, 0x40, 0xf4));
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(a->count, 2);
	ck_assert_uint_eq(b->count, 2);
	vcore_vm_unref(vm);
}
END_TEST

static void stop_here(struct log *log, const struct vcore_hook_event *event)
{
	struct vcore_regs regs = {.size = sizeof regs};

	OK(vcore_vcpu_get_regs(event->vcpu, &regs));
	ck_assert_uint_eq(regs.rip, event->address);
	log->seen = regs.rcx;
	vcore_vcpu_kick(event->vcpu);
}

/* mov ecx, 3; l: nop; add rax, rcx; dec ecx; jnz l; hlt */
GUEST(counting, "mov ecx, 3; 1: nop; add rax, rcx; dec ecx; jnz 1b; hlt");
#define ADDITION (CODE + 6)

/* A kick stops before the instruction, with precise state, and it is not told again. */
START_TEST(code_that_stops)
{
	static const uint64_t sums[] = {0, 3, 5};

	if (is_kvm(_i))
		return;
	start(_i);
	LOAD(vm, counting);
	add(a, VCORE_HOOK_CODE, ADDITION, 1, 0);
	a->also = stop_here;
	for (uint32_t n = 0; n < 3; n++) {
		api_run(vm, VCORE_EXIT_KICKED);
		ck_assert_uint_eq(a->count, n + 1);
		ck_assert_uint_eq(api_rip(vm), ADDITION);
		ck_assert_uint_eq(api_rax(vm), sums[n]);
		ck_assert_uint_eq(a->seen, 3 - n);
	}
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(a->count, 3);
	ck_assert_uint_eq(api_rax(vm), 6);
	vcore_vm_unref(vm);
}
END_TEST

/* The first block goes on over the loop's head. */
START_TEST(blocks_that_stop)
{
	static const uint64_t sums[] = {3, 5};

	if (is_kvm(_i))
		return;
	start(_i);
	LOAD(vm, counting);
	add(a, VCORE_HOOK_BLOCK, CODE + 5, 1, 0);
	a->also = stop_here;
	for (uint32_t n = 0; n < 2; n++) {
		api_run(vm, VCORE_EXIT_KICKED);
		ck_assert_uint_eq(a->count, n + 1);
		ck_assert_uint_eq(api_rip(vm), CODE + 5);
		ck_assert_uint_eq(api_rax(vm), sums[n]);
	}
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(a->count, 2);
	ck_assert_uint_eq(api_rax(vm), 6);
	vcore_vm_unref(vm);
}
END_TEST

/* The vcpu stands before an instruction that one hook was told of: another, added now, is told of it too. */
START_TEST(code_hook_added_at_a_stop)
{
	if (is_kvm(_i))
		return;
	start(_i);
	LOAD(vm, counting);
	add(a, VCORE_HOOK_CODE, ADDITION, 1, 0);
	a->also = stop_here;
	api_run(vm, VCORE_EXIT_KICKED);
	OK(vcore_hook_remove(a->hook));
	add(b, VCORE_HOOK_CODE, ADDITION, 1, 0);
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(a->count, 1);
	ck_assert_uint_eq(b->count, 3);
	vcore_vm_unref(vm);
}
END_TEST

/* While the program steps, or an instruction of its own runs alone for another reason, a kick stops before it too. */
START_TEST(code_that_stops_in_steps)
{
	struct vcore_debug debug = {.size = sizeof debug, .flags = VCORE_DEBUG_SINGLE_STEP};

	if (is_kvm(_i))
		return;
	start(_i);
	LOAD(vm, counting);
	add(a, VCORE_HOOK_CODE, ADDITION, 1, 0);
	a->also = stop_here;
	OK(vcore_vcpu_set_debug(vcpu, &debug));
	for (int n = 0; n < 3; n++) {
		api_run(vm, VCORE_EXIT_DEBUG);
		if (!n)
			api_run(vm, VCORE_EXIT_DEBUG);
		api_run(vm, VCORE_EXIT_KICKED);
		ck_assert_uint_eq(api_rip(vm), ADDITION);
		api_run(vm, VCORE_EXIT_DEBUG);
		ck_assert_uint_eq(api_rip(vm), ADDITION + 3);
		api_run(vm, VCORE_EXIT_DEBUG);
		api_run(vm, VCORE_EXIT_DEBUG);
	}
	OK(vcore_vcpu_set_debug(vcpu, &(struct vcore_debug){.size = sizeof debug}));
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(a->count, 3);
	ck_assert_uint_eq(api_rax(vm), 6);
	vcore_vm_unref(vm);
}
END_TEST

/* An instruction across a page's end, and hooks on either side of it. */
START_TEST(code_across_pages)
{
	static const uint8_t code[] = {0x90, 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 0xf4}; /* nop; mov rax, imm64; hlt */

	if (is_kvm(_i))
		return;
	start(_i);
	for (int turn = 0; turn < 2; turn++) {
		api_load(vm, 0, VCORE_MODE_LONG64, 0x2ffb, code, sizeof code);
		api_run(vm, VCORE_EXIT_HALT);
		ck_assert_uint_eq(api_rax(vm), 0x0807060504030201);
		if (turn)
			break;
		add(a, VCORE_HOOK_CODE, 0x2ffc, 0x1000, 0);
		add(b, VCORE_HOOK_BLOCK, 0x2ffc, 0x1000, 0);
	}
	ck_assert_uint_eq(a->count, 2);
	ck_assert_uint_eq(a->event[0].address, 0x2ffc);
	ck_assert_uint_eq(a->event[0].length, 10);
	ck_assert_uint_eq(a->event[1].address, 0x3006);
	covers(b, a);
	/* a stop before it */
	a->also = stop_here;
	api_load(vm, 0, VCORE_MODE_LONG64, 0x2ffb, code, sizeof code);
	api_run(vm, VCORE_EXIT_KICKED);
	ck_assert_uint_eq(api_rip(vm), 0x2ffc);
	api_run(vm, VCORE_EXIT_KICKED);
	ck_assert_uint_eq(api_rip(vm), 0x3006);
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(a->count, 4);
	vcore_vm_unref(vm);
}
END_TEST

/* The same physical code at two linear addresses: hooks tell them apart. */
START_TEST(code_by_linear_address)
{
	struct vcore_regs regs = {.size = sizeof regs, .rflags = 2};
	uint64_t alias = 0xe7; /* linear 4 MiB: physical 0, 2 MiB page */

	if (is_kvm(_i))
		return;
	start(_i);
	api_load(vm, 0, VCORE_MODE_LONG64, CODE, CODE_BYTES(0x90, 0x90, 0xf4));
	OK(vcore_memory_write(vm, TABLES + 0x2000 + 2 * 8, &alias, 8));
	add(a, VCORE_HOOK_CODE, 0x400000 + CODE, 0x100, 0);
	add(b, VCORE_HOOK_BLOCK, CODE, 1, 0);
	for (int n = 0; n < 4; n++) {
		regs.rip = n & 1 ? 0x400000 + CODE : CODE;
		OK(vcore_vcpu_set_regs(vcpu, &regs));
		api_run(vm, VCORE_EXIT_HALT);
		ck_assert_uint_eq(a->count, 3u * (unsigned)((n + 1) / 2));
		ck_assert_uint_eq(b->count, (unsigned)(n / 2 + 1));
	}
	ck_assert_uint_eq(a->event[1].address, 0x400000 + CODE + 1);
	vcore_vm_unref(vm);
}
END_TEST

/* The guest writes into its own block, ahead and behind; another time into a block that it comes to next. */
GUEST(modifies, "mov ecx, 4\n"
                "1: inc byte ptr [rip + 2f + 1]\n" /* the immediate of: */
                "2: mov al, 0\n"
                "add ebx, eax\n"
                "inc byte ptr [rip + 3f + 1]\n"
                "dec ecx\n"
                "jnz 1b\n"
                "3: mov al, 0\n"
                "hlt");

START_TEST(code_that_modifies_itself)
{
	struct vcore_regs regs = {.size = sizeof regs};
	uint32_t n;

	if (is_kvm(_i))
		return;
	n = trace(_i, modifies, (size_t)(modifies_end - modifies), rips);
	start(_i);
	LOAD(vm, modifies);
	add(a, VCORE_HOOK_CODE, 0, 0, 0);
	add(b, VCORE_HOOK_BLOCK, 0, 0, 0);
	api_run(vm, VCORE_EXIT_HALT);
	is_trace(a, n);
	OK(vcore_vcpu_get_regs(vcpu, &regs));
	ck_assert_uint_eq(regs.rbx, 1 + 2 + 3 + 4);
	ck_assert_uint_eq(regs.rax, 4);
	vcore_vm_unref(vm);
}
END_TEST

/* The program patches the very instruction it is told of: the new one is executed, and not told. */
static void patch(struct log *log, const struct vcore_hook_event *event)
{
	OK(vcore_memory_write(vm, event->address, "\x29", 1)); /* sub eax, ebx */
}

START_TEST(code_patched_by_its_hook)
{
	if (is_kvm(_i))
		return;
	start(_i);
	/* mov eax, 5; mov ebx, 3; add eax, ebx; hlt */
	api_load(vm, 0, VCORE_MODE_LONG64, CODE, CODE_BYTES(0xb8, 5, 0, 0, 0, 0xbb, 3, 0, 0, 0, 0x01, 0xd8, 0xf4));
	add(a, VCORE_HOOK_CODE, CODE + 10, 1, 0);
	a->also = patch;
	api_run(vm, VCORE_EXIT_HALT);
	ck_assert_uint_eq(api_rax(vm), 2);
	ck_assert_uint_eq(a->count, 1);
	vcore_vm_unref(vm);
}
END_TEST

/* Faults: an instruction that is begun again is told again, and the state is precise. */
GUEST(faulting, "mov ebx, 1\n"
                "mov eax, [0x6000]\n"
                "div ebx\n"
                "ud2\n"
                "hlt");

START_TEST(code_of_faulting_instructions)
{
	struct vcore_exit exit;

	if (is_kvm(_i))
		return;
	start(_i);
	LOAD(vm, faulting);
	add(a, VCORE_HOOK_CODE, CODE, 0x100, 0);
	exit = api_run(vm, VCORE_EXIT_CRASH);
	ck_assert_uint_eq(exit.crash, VCORE_CRASH_TRIPLE_FAULT);
	ck_assert_uint_eq(a->count, 4);
	ck_assert_uint_eq(api_rip(vm), a->event[3].address);
	vcore_vm_unref(vm);
}
END_TEST

int main(void)
{
	return RUN_TESTS("hook code", code_and_blocks_are_the_trace, code_in_single_steps, code_in_other_modes,
	                 code_that_stops, blocks_that_stop, code_hook_added_at_a_stop, code_that_stops_in_steps,
	                 code_across_pages, code_by_linear_address, code_that_modifies_itself, code_patched_by_its_hook,
	                 code_of_faulting_instructions);
}
