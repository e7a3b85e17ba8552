/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The interpreter's engine: blocks, code that changes, precise state at faults. What instructions compute:
 * test_interp_host.c.
 */
#include "interp_guest.h"

/* ---- blocks ---- */

GUEST(count_loop, "1: inc rax; dec rcx; jnz 1b; ud2");
START_TEST(test_loop_counts_instructions)
{
	uint64_t before = c->icount;
	PUT(count_loop, CODE);
	*gpr(VC_RAX) = 0;
	*gpr(VC_RCX) = 1000;
	run_to(CODE + 8);
	ck_assert_uint_eq(*gpr(VC_RAX), 1000);
	ck_assert_uint_eq(c->icount - before, 3000);
}
END_TEST

START_TEST(test_loop_again_from_the_middle)
{
	for (int k = 0; k < 3; k++) {
		PUT(count_loop, CODE);
		*gpr(VC_RCX) = 5;
		c->s.rip = CODE + 3;
		*gpr(VC_RAX) = 0;
		run_to(CODE + 8);
		ck_assert_uint_eq(*gpr(VC_RAX), 4);
	}
}
END_TEST

GUEST(forever, "1: inc qword ptr [rdi]; jmp 1b");
START_TEST(test_request_stops_loop)
{
	pthread_t thread;
	PUT(forever, CODE);
	*gpr(VC_RDI) = DATA;
	ck_assert_int_eq(pthread_create(&thread, NULL, kick_once_counted, bytes(DATA)), 0);
	ck_assert_int_eq(world_run(w), EMU_STOP_EVENTS);
	pthread_join(thread, NULL);
	ck_assert(c->s.rip == CODE || c->s.rip == CODE + 3);
}
END_TEST

START_TEST(test_stepping)
{
	uint64_t before = c->icount;
	PUT(count_loop, CODE);
	*gpr(VC_RCX) = 2;
	static const unsigned at[] = {3, 6, 0, 3, 6, 8};
	for (unsigned k = 0; k < VC_ARRAY_SIZE(at); k++) {
		ck_assert_int_eq(world_step(w), EMU_STOP_EVENTS);
		ck_assert_uint_eq(c->s.rip, CODE + at[k]);
	}
	ck_assert_uint_eq(c->icount - before, 6);
	expect_fault(world_step(w), VC_UD, CODE + 8);
	ck_assert_uint_eq(c->icount - before, 6);
}
END_TEST

GUEST(long_run, ".rept 300; inc rax; .endr; ud2");
START_TEST(test_block_longer_than_most)
{
	uint64_t before = c->icount;
	PUT(long_run, CODE);
	*gpr(VC_RAX) = 0;
	run_to(CODE + 900);
	ck_assert_uint_eq(*gpr(VC_RAX), 300);
	ck_assert_uint_eq(c->icount - before, 300);
	PUT(long_run, CODE2 - 450); /* over a page's end, in the middle of no instruction */
	*gpr(VC_RAX) = 0;
	run_to(CODE2 + 450);
	ck_assert_uint_eq(*gpr(VC_RAX), 300);
}
END_TEST

/* Every branch form within a page, to the next page and back. */
GUEST(far_branches, "1: call 2f; add rax, 1; jmp 3f; .skip 0x1000; 2: ret; 3: dec rcx; jz 4f; jmp 1b; 4: ud2");
START_TEST(test_branches_between_pages)
{
	PUT(far_branches, CODE + 0x100);
	*gpr(VC_RAX) = 0;
	*gpr(VC_RCX) = 1000;
	ck_assert_int_eq(world_run(w), EMU_STOP_EXCEPTION);
	ck_assert_uint_eq(c->exc.vector, VC_UD);
	ck_assert_uint_eq(*gpr(VC_RAX), 1000);
	ck_assert_uint_eq(*gpr(VC_RSP), STACK);
}
END_TEST

/* Code far larger than the arena: blocks are made, given up and made again. */
START_TEST(test_arena_fills)
{
	uint8_t *at = (uint8_t *)(DATA + 0x100000);
	unsigned count = 0x400000 / 16;
	for (unsigned k = 0; k < count; k++, at += 16) {
		static const uint8_t piece[16] = {0x48, 0xff, 0xc0, 0x48, 0x83, 0xc3, 0x02, 0x48,
		                                  0x39, 0xc0, 0x74, 0x04, 0x0f, 0x0b, 0x90, 0x90};
		memcpy(at, piece, 16); /* inc rax; add rbx, 2; cmp rax, rax; jz next; ud2 */
	}
	memcpy(at, "\x0f\x0b", 2);
	for (unsigned round = 0; round < 2; round++) {
		*gpr(VC_RAX) = *gpr(VC_RBX) = 0;
		c->s.rip = DATA + 0x100000;
		run_to((uintptr_t)at);
		ck_assert_uint_eq(*gpr(VC_RAX), count);
		ck_assert_uint_eq(*gpr(VC_RBX), 2 * count);
	}
}
END_TEST

START_TEST(test_flush)
{
	PUT(count_loop, CODE);
	*gpr(VC_RCX) = 3;
	run_to(CODE + 8);
	((uint8_t *)CODE)[2] = 0xc3; /* inc rbx, behind everybody's back */
	interp_flush(c);
	*gpr(VC_RBX) = 0;
	*gpr(VC_RCX) = 3;
	c->s.rip = CODE;
	run_to(CODE + 8);
	ck_assert_uint_eq(*gpr(VC_RBX), 3);
}
END_TEST

/* ---- code that changes ---- */

/* The store hits the next instruction of its own block: mov eax, 1 becomes mov eax, 2. */
GUEST(modify_next, "mov byte ptr [rip + patched_next + 1], 2; patched_next: mov eax, 1; ud2");
START_TEST(test_modify_own_block)
{
	for (int k = 0; k < 3; k++) {
		PUT(modify_next, CODE);
		run_to(CODE + 12);
		ck_assert_uint_eq(*gpr(VC_RAX), 2);
	}
}
END_TEST

/* REP STOS over the rest of its own block: NOPs instead of INC RAX. */
GUEST(modify_by_string,
      "lea rdi, [rip + patched_string]; mov ecx, 6; mov al, 0x90; rep stosb; patched_string: inc rax; inc rax; ud2");
START_TEST(test_modify_own_block_by_string)
{
	*gpr(VC_RAX) = 0;
	PUT(modify_by_string, CODE);
	run_to((uintptr_t)CODE + (size_t)(modify_by_string_end - modify_by_string) - 2);
	ck_assert_uint_eq(*gpr(VC_RAX), 0x90);
}
END_TEST

/* PUSHFQ, a called handler, onto the code behind it: RFLAGS' low byte 02 5f -> what it writes is executed. */
GUEST(modify_by_call, "lea rsp, [rip + patched_call + 8]; pushfq; patched_call: .skip 8, 0x90; ud2");
START_TEST(test_modify_own_block_by_handler)
{
	PUT(modify_by_call, CODE);
	c->aflags = 0;
	c->s.rflags = 0x3202; /* 02 32 00 00...: add dh, [rdx]; add [rax], al (3 times) */
	*gpr(VC_RAX) = *gpr(VC_RDX) = DATA;
	*(uint8_t *)DATA = 1;
	*gpr(VC_RDX) = DATA;
	run_to(CODE + 7 + 1 + 8);
	ck_assert_uint_eq(*gpr(VC_RDX) >> 8 & 0xff, ((DATA >> 8) + 1) & 0xff);
}
END_TEST

/* A loop that counts in its own page, next to the code (another chunk) and then in the same chunk. */
GUEST(data_in_page, "1: inc qword ptr [rip + counter]; dec rcx; jnz 1b; ud2; .skip 48; counter: .quad 0");
GUEST(data_in_chunk, "1: inc qword ptr [rip + counter2]; dec rcx; jnz 1b; ud2; counter2: .quad 0");
START_TEST(test_data_beside_code)
{
	for (int k = 0; k < 2; k++) {
		*gpr(VC_RCX) = 1000;
		PUT(data_in_page, CODE);
		run_to(CODE + 12);
		ck_assert_uint_eq(vc_ld64(bytes(CODE + 62)), 1000);
		*gpr(VC_RCX) = 1000;
		PUT(data_in_chunk, CODE);
		run_to(CODE + 12);
		ck_assert_uint_eq(vc_ld64(bytes(CODE + 14)), 1000);
	}
}
END_TEST

/* A function is rewritten between calls by the guest itself. */
GUEST(rewrite, "mov rbx, 10; 1: mov [rip + patched_function + 1], ebx; call patched_function; add rdx, rax; dec rbx; "
               "jnz 1b; ud2; .skip 0x200; patched_function: "
               "mov eax, 0; ret");
START_TEST(test_rewrite_function)
{
	PUT(rewrite, CODE);
	*gpr(VC_RDX) = 0;
	ck_assert_int_eq(world_run(w), EMU_STOP_EXCEPTION);
	ck_assert_uint_eq(c->exc.vector, VC_UD);
	ck_assert_uint_eq(*gpr(VC_RDX), 55);
}
END_TEST

/* The instruction lies 3 bytes before the page's end; its second part is in the next page, and is rewritten there. */
GUEST(crossing, "mov rax, 0x11223344; ud2");
START_TEST(test_crossing_instruction)
{
	PUT(crossing, CODE2 - 3);
	for (int k = 0; k < 3; k++) {
		c->s.rip = CODE2 - 3;
		run_to(CODE2 + 4);
		ck_assert_uint_eq(*gpr(VC_RAX), 0x11223344u);
	}
	world_write(w, CODE2 + 1, "\x55", 1);
	c->s.rip = CODE2 - 3;
	run_to(CODE2 + 4);
	ck_assert_uint_eq(*gpr(VC_RAX), 0x11225544u);
	world_write(w, CODE2 - 1, "\xc3", 1); /* mov rbx */
	c->s.rip = CODE2 - 3;
	run_to(CODE2 + 4);
	ck_assert_uint_eq(*gpr(VC_RBX), 0x11225544u);
}
END_TEST

GUEST(crossing_loop, "1: add rbx, 0x100; dec rcx; jnz 1b; ud2");
START_TEST(test_crossing_instruction_in_loop)
{
	PUT(crossing_loop, CODE2 - 2);
	*gpr(VC_RBX) = 0;
	*gpr(VC_RCX) = 1000;
	run_to(CODE2 - 2 + 12);
	ck_assert_uint_eq(*gpr(VC_RBX), 1000 * 0x100);
	/* the second page goes away: #PF at the instruction, for the address of the second page */
	*small_pages(CODE2) = 0;
	emu_tlb_flush_all(c);
	c->s.rip = CODE2 - 2;
	expect_fault(world_run(w), VC_PF, CODE2 - 2);
	ck_assert_uint_eq(c->exc.cr2, CODE2);
	/* and comes back as another one */
	uint64_t *pte = small_pages(CODE2);
	*pte = DATA | 0x67;
	emu_tlb_flush_all(c);
	world_write(w, DATA, "\x02\x00\x00\x00\x00\x0f\x0b", 7);
	world_write(w, CODE2 - 2, "\x48\x81", 2);
	world_write(w, DATA, "\xc3\x00\x02\x00\x00\x0f\x0b", 7);
	*gpr(VC_RBX) = 0;
	c->s.rip = CODE2 - 2;
	run_to(CODE2 + 5);
	ck_assert_uint_eq(*gpr(VC_RBX), 0x200);
}
END_TEST

/* A page of code is mapped elsewhere: linked blocks must not be followed into the old one. */
GUEST(page_a, "mov eax, 1; jmp 1f; 1: ud2");
GUEST(page_b, "mov eax, 2; jmp 1f; 1: ud2");
GUEST(jump_to_page, ".byte 0xe9; .long 0xffb"); /* jmp to its own address + 0x1000 */
START_TEST(test_remapped_code)
{
	uint64_t *pte = small_pages(CODE2);
	PUT(page_b, DATA);
	PUT(page_a, CODE2);
	for (int k = 0; k < 4; k++) {
		PUT(jump_to_page, CODE);
		*pte = (k & 1 ? DATA : CODE2) | 0x67;
		emu_tlb_flush_page(c, CODE2);
		run_to(CODE2 + 7);
		ck_assert_uint_eq(*gpr(VC_RAX), k & 1 ? 2 : 1);
	}
}
END_TEST

/* One physical page at two linear addresses: RIP-relative addresses and return addresses follow the linear one. */
GUEST(position, "lea rax, [rip]; call 1f; 1: pop rbx; ud2");
START_TEST(test_aliased_code)
{
	*small_pages(ABSENT) = CODE | 0x67;
	emu_tlb_flush_all(c);
	PUT(position, CODE);
	for (int k = 0; k < 4; k++) {
		uint64_t at = k & 1 ? ABSENT : CODE;
		c->s.rip = at;
		run_to(at + 13);
		ck_assert_uint_eq(*gpr(VC_RAX), at + 7);
		ck_assert_uint_eq(*gpr(VC_RBX), at + 12);
	}
}
END_TEST

/* The memory that the block lies in goes away in the middle of it, and other memory comes in its place. */
struct swapped {
	struct vc_slot *slot;
};
enum { SWAPPED = 0x30000000 };
GUEST(swap_me, "out 0x80, al; mov ebx, 1; ud2");
GUEST(swapped_in, "out 0x80, al; mov ebx, 2; ud2");
static void swap_memory(void *ctx, struct vcore_io *io)
{
	struct swapped *s = ctx;
	vc_mem_remove(&w->mem, NULL, s->slot);
	ck_assert_int_eq(vc_mem_add(&w->mem, NULL, SWAPPED, VC_PAGE_SIZE, VCORE_MEM_RWX, NULL, &s->slot), 0);
	world_write(w, SWAPPED, swapped_in, (size_t)(swapped_in_end - swapped_in));
}
START_TEST(test_memory_removed_under_block)
{
	struct swapped s;
	struct vcore_device_ops ops = {.size = sizeof ops, .write = swap_memory};
	struct vc_dev *dev;
	ck_assert_int_eq(vc_dev_add(&w->buses, "swap", &ops, &s, &dev), 0);
	ck_assert_int_eq(vc_dev_add_region(&w->buses, NULL, dev, VCORE_BUS_PIO, 0x80, 1), 0);
	ck_assert_int_eq(vc_mem_add(&w->mem, NULL, SWAPPED, VC_PAGE_SIZE, VCORE_MEM_RWX, NULL, &s.slot), 0);
	PUT(swap_me, SWAPPED);
	ck_assert_int_eq(world_run(w), EMU_STOP_EVENTS);
	ck_assert_uint_eq(c->s.rip, SWAPPED + 2);
	ck_assert(atomic_load(&w->vcpu.requests) & VC_REQ_TLB);
	interp_flush(c); /* as the run loop does for the request */
	run_to(SWAPPED + 7);
	ck_assert_uint_eq(*gpr(VC_RBX), 2);
}
END_TEST

/* ---- precise state at faults ---- */

struct fault_case {
	const char *name;
	const uint8_t *code, *end;
	uint64_t cr2;
	bool write;
};
GUEST(f_push, "push rax");
GUEST(f_push_mem, "push qword ptr [rbx]");
GUEST(f_pop_mem, "pop qword ptr [rsi]");
GUEST(f_call, ".byte 0xe8; .long 0x4b"); /* call */
GUEST(f_call_ind, "call rax");
GUEST(f_ret, "ret 8");
GUEST(f_pop, "pop rax");
GUEST(f_leave, "leave");
GUEST(f_enter, "enter 0x10, 3");
GUEST(f_add, "add [rsi], rax");
GUEST(f_lock_add, "lock add [rsi], eax");
GUEST(f_adc_reg, "adc rax, [rsi]");
GUEST(f_xchg, "xchg [rsi], rax");
GUEST(f_xadd, "lock xadd [rsi], rax");
GUEST(f_cmpxchg, "lock cmpxchg [rsi], rcx");
GUEST(f_cmpxchg8b, "lock cmpxchg8b [rsi]");
GUEST(f_cmpxchg16b, "lock cmpxchg16b [rsi]");
GUEST(f_shl, "shl dword ptr [rsi], 3");
GUEST(f_shld, "shld [rsi], rax, 3");
GUEST(f_bts, "lock bts [rsi], rax");
GUEST(f_movs, "movsq");
GUEST(f_stos, "rep stosb");
GUEST(f_lods, "lodsb");
GUEST(f_cmps, "repe cmpsb");
GUEST(f_mul, "mul qword ptr [rsi]");
GUEST(f_div, "div qword ptr [rsi]");
GUEST(f_setcc, "setz [rsi]");
GUEST(f_cmov, "cmovnz rax, [rsi]");
GUEST(f_movzx, "movzx eax, byte ptr [rsi]");
GUEST(f_mulx, "mulx rax, rbx, [rsi]");
GUEST(f_dec, "dec byte ptr [rsi]");
GUEST(f_not, "not word ptr [rsi]");
GUEST(f_xlat, "xlatb");
GUEST(f_jmp_mem, "jmp [rsi]");

/* Whatever is at ABSENT faults; RSP, RBP, RSI, RDI, RBX all point there. Nothing changes but CR2's value. */
START_TEST(test_fault_changes_nothing)
{
#define CASE(n)              \
	{                        \
#n, n, n##_end, 0, 0 \
	}
	static const struct fault_case cases[] = {
	    CASE(f_push), CASE(f_push_mem), CASE(f_pop_mem), CASE(f_call),      CASE(f_call_ind),   CASE(f_ret),
	    CASE(f_pop),  CASE(f_leave),    CASE(f_enter),   CASE(f_add),       CASE(f_lock_add),   CASE(f_adc_reg),
	    CASE(f_xchg), CASE(f_xadd),     CASE(f_cmpxchg), CASE(f_cmpxchg8b), CASE(f_cmpxchg16b), CASE(f_shl),
	    CASE(f_shld), CASE(f_bts),      CASE(f_movs),    CASE(f_stos),      CASE(f_lods),       CASE(f_cmps),
	    CASE(f_mul),  CASE(f_div),      CASE(f_setcc),   CASE(f_cmov),      CASE(f_movzx),      CASE(f_mulx),
	    CASE(f_dec),  CASE(f_not),      CASE(f_xlat),    CASE(f_jmp_mem),
	};
	uint64_t before[16];
	unmap(ABSENT + 0x1000);
	for (unsigned k = 0; k < 2 * VC_ARRAY_SIZE(cases); k++) {
		const struct fault_case *f = &cases[k / 2];
		bool stepping = k & 1;
		for (unsigned r = 0; r < 16; r++)
			*gpr(r) = 0x0101010101010101 * (r + 1);
		*gpr(VC_RSP) = *gpr(VC_RBP) = *gpr(VC_RSI) = *gpr(VC_RDI) = ABSENT + 0x1100;
		*gpr(VC_RBX) = ABSENT + 0x1000;
		*gpr(VC_RAX) = 5;
		if (f->code == f_push_mem)
			*gpr(VC_RBX) = DATA; /* the push faults, not the read */
		if (f->code == f_pop_mem)
			*gpr(VC_RSP) = STACK;
		memcpy(before, c->s.gpr, sizeof before);
		c->aflags = VC_FLAGS_ARITH;
		world_write(w, CODE, "\x90", 1); /* so that the fault is not at the block's start */
		put(f->code, f->end, CODE + 1);
		c->s.rip = stepping ? CODE + 1 : CODE;
		enum emu_stop stop = stepping ? world_step(w) : world_run(w);
		ck_assert_msg(stop == EMU_STOP_EXCEPTION && c->exc.vector == VC_PF, "%s: stop %d vector %u", f->name, stop,
		              c->exc.vector);
		ck_assert_msg(c->s.rip == CODE + 1, "%s: rip %lx", f->name, (unsigned long)c->s.rip);
		ck_assert_msg(!memcmp(before, c->s.gpr, sizeof before), "%s: registers changed", f->name);
		ck_assert_msg(c->aflags == VC_FLAGS_ARITH, "%s: flags changed", f->name);
	}
}
END_TEST

GUEST(pop_rsp_based, "pop qword ptr [rsp + 8]; ud2");
START_TEST(test_pop_addresses_with_new_rsp)
{
	PUT(pop_rsp_based, CODE);
	*(uint64_t *)STACK = 0x1234;
	run_to(CODE + 4);
	ck_assert_uint_eq(*gpr(VC_RSP), STACK + 8);
	ck_assert_uint_eq(*(uint64_t *)(STACK + 16), 0x1234);
}
END_TEST

GUEST(push_rsp, "push rsp; pop rax; push rax; pop rsp; ud2");
START_TEST(test_push_rsp)
{
	PUT(push_rsp, CODE);
	run_to(CODE + 4);
	ck_assert_uint_eq(*gpr(VC_RAX), STACK);
	ck_assert_uint_eq(*gpr(VC_RSP), STACK);
}
END_TEST

GUEST(bad_jump, "nop; jmp rax");
GUEST(bad_ret, "nop; ret");
GUEST(bad_call, "nop; call rax");
START_TEST(test_branch_to_non_canonical)
{
	*gpr(VC_RAX) = 0x800000000000;
	PUT(bad_jump, CODE);
	expect_fault(world_run(w), VC_GP, CODE + 1);
	PUT(bad_call, CODE);
	expect_fault(world_run(w), VC_GP, CODE + 1);
	ck_assert_uint_eq(*gpr(VC_RSP), STACK);
	*(uint64_t *)STACK = 0xffff000000000000;
	PUT(bad_ret, CODE);
	expect_fault(world_run(w), VC_GP, CODE + 1);
	ck_assert_uint_eq(*gpr(VC_RSP), STACK);
}
END_TEST

GUEST(non_canonical_stack, "push rax");
GUEST(non_canonical_base, "mov rax, [rbp]");
GUEST(non_canonical_data, "mov rax, [rbx]");
START_TEST(test_non_canonical_access)
{
	*gpr(VC_RSP) = *gpr(VC_RBX) = *gpr(VC_RBP) = 0x8000000000000000;
	PUT(non_canonical_stack, CODE);
	expect_fault(world_run(w), VC_SSF, CODE);
	PUT(non_canonical_base, CODE);
	expect_fault(world_run(w), VC_SSF, CODE);
	*gpr(VC_RSP) = *gpr(VC_RBP) = STACK;
	PUT(non_canonical_data, CODE);
	expect_fault(world_run(w), VC_GP, CODE);
}
END_TEST

START_TEST(test_jump_to_absent_page)
{
	unmap(ABSENT);
	*gpr(VC_RAX) = ABSENT + 0x10;
	PUT(bad_call, CODE);
	expect_fault(world_run(w), VC_PF, ABSENT + 0x10); /* the call itself is done */
	ck_assert_uint_eq(c->exc.cr2, ABSENT + 0x10);
	ck_assert_uint_eq(*gpr(VC_RSP), STACK - 8);
}
END_TEST

GUEST(misaligned16, "cmpxchg16b [rbx]");
START_TEST(test_cmpxchg16b_alignment)
{
	*gpr(VC_RBX) = DATA + 8;
	PUT(misaligned16, CODE);
	expect_fault(world_run(w), VC_GP, CODE);
}
END_TEST

GUEST(divide, "nop; div rcx");
START_TEST(test_divide_error)
{
	*gpr(VC_RCX) = 0;
	PUT(divide, CODE);
	expect_fault(world_run(w), VC_DE, CODE + 1);
}
END_TEST

GUEST(locked_ops,
      "lock add qword ptr [rbx], 1; lock xadd [rbx], rax; lock inc dword ptr [rbx]; lock bts qword ptr [rbx], 40;"
      "xchg [rbx], rcx; lock cmpxchg [rbx], rdx; lock btr dword ptr [rbx], 0; lock not word ptr [rbx]; lock neg dword "
      "ptr [rbx]; ud2");
START_TEST(test_locked_everywhere)
{
	/* in plain memory, across a cache line, across pages, in a page with code */
	static const uint64_t places[] = {DATA, DATA + 60, DATA + 0xffd, CODE + 0x800, CODE2 - 3};
	uint64_t expected[4] = {0};
	for (unsigned k = 0; k < VC_ARRAY_SIZE(places); k++) {
		*(emu_mem64 *)places[k] = 0x1122334455667788;
		*gpr(VC_RBX) = places[k];
		*gpr(VC_RAX) = 0x55;
		*gpr(VC_RCX) = *gpr(VC_RDX) = 0x99;
		PUT(locked_ops, CODE);
		ck_assert_int_eq(world_run(w), EMU_STOP_EXCEPTION);
		ck_assert_uint_eq(c->exc.vector, VC_UD);
		if (!k) {
			expected[0] = *(emu_mem64 *)places[0];
			expected[1] = *gpr(VC_RAX);
			expected[2] = *gpr(VC_RCX);
			expected[3] = c->aflags;
			ck_assert_uint_eq(expected[0],
			                  0xffff0099); /* 99; bit 0 off: 98; NOT of the word: ff67; NEG of the doubleword */
		}
		ck_assert_uint_eq(*(emu_mem64 *)places[k], expected[0]);
		ck_assert_uint_eq(*gpr(VC_RAX), expected[1]);
		ck_assert_uint_eq(*gpr(VC_RCX), expected[2]);
		ck_assert_uint_eq(c->aflags, expected[3]);
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
	    test_loop_counts_instructions,
	    test_loop_again_from_the_middle,
	    test_request_stops_loop,
	    test_stepping,
	    test_block_longer_than_most,
	    test_branches_between_pages,
	    test_arena_fills,
	    test_flush,
	    test_modify_own_block,
	    test_modify_own_block_by_string,
	    test_modify_own_block_by_handler,
	    test_data_beside_code,
	    test_rewrite_function,
	    test_crossing_instruction,
	    test_crossing_instruction_in_loop,
	    test_remapped_code,
	    test_aliased_code,
	    test_memory_removed_under_block,
	    test_fault_changes_nothing,
	    test_pop_addresses_with_new_rsp,
	    test_push_rsp,
	    test_branch_to_non_canonical,
	    test_non_canonical_access,
	    test_jump_to_absent_page,
	    test_cmpxchg16b_alignment,
	    test_divide_error,
	    test_locked_everywhere,
	};
	return run_tests("interp", tests, VC_ARRAY_SIZE(tests));
}
