/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The interpreter's engine: blocks, self-modifying code, faults with precise state, string instructions, modes. What
 * instructions compute is test_interp_host's.
 */
#include <check.h>

#include "interp_world.h"

/* Guest code in GNU assembly: `name` and `name`_end in this program's memory. */
#define GUEST_BITS(bits, name, text)                                                          \
	__asm__(".pushsection .rodata\n.code" #bits "\n" #name ":\n.intel_syntax noprefix\n" text \
	        "\n.att_syntax prefix\n" #name "_end:\n"                                          \
	        ".code64\n.popsection");                                                          \
	extern const uint8_t name[], name##_end[]
#define GUEST(name, text) GUEST_BITS(64, name, text)

enum {
	CODE = WORLD_CODE,
	CODE2 = CODE + 0x1000,
	DATA = WORLD_DATA,
	STACK = WORLD_DATA + 0x80000,
	ABSENT = 0x40000000, /* linear 2 MiB that tests unmap */
};

static struct world *w;
static struct emu_vcpu *c;

static void setup(void)
{
	w = world_new();
	c = w->c;
	world_long64(w);
	c->s.gpr[VC_RSP] = STACK;
}
static void teardown(void)
{
	world_free(w);
}

static uint8_t *bytes(uint64_t at)
{
	return (uint8_t *)at;
}
static uint64_t *gpr(enum vc_gpr r)
{
	return &c->s.gpr[r];
}
static void put(const uint8_t *code, const uint8_t *end, uint64_t at)
{
	world_write(w, at, code, (size_t)(end - code));
	c->s.rip = at;
}
#define PUT(name, at) put(name, name##_end, at)

/* 4 KiB pages for [at, at + 2 MiB), one to one, so that single ones can be changed. */
static uint64_t *small_pages(uint64_t at)
{
	uint64_t *pd = (uint64_t *)WORLD_TABLES + 1024, *pt = (uint64_t *)(WORLD_TABLES + 0x8000);
	for (uint64_t i = 0; i < 512; i++)
		pt[i] = ((at & ~0x1fffffull) + i * 4096) | 0x67;
	pd[at >> 21] = (uintptr_t)pt | 0x67;
	emu_tlb_flush_all(c);
	return &pt[at >> 12 & 511];
}
static void unmap(uint64_t at)
{
	*small_pages(at) = 0;
	emu_tlb_flush_all(c);
}

static void expect_fault(enum emu_stop stop, unsigned vector, uint64_t rip)
{
	ck_assert_int_eq(stop, EMU_STOP_EXCEPTION);
	ck_assert_uint_eq(c->exc.vector, vector);
	ck_assert_uint_eq(c->s.rip, rip);
	ck_assert(!c->in_block && !c->once);
}
/* Run to a UD2 at rip. */
static void run_to(uint64_t rip)
{
	expect_fault(world_run(w), VC_UD, rip);
}

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

GUEST(forever, "1: inc rax; jmp 1b");
static void *kick_later(void *arg)
{
	struct timespec t = {0, 20000000};
	nanosleep(&t, NULL);
	atomic_fetch_or(&w->vcpu.requests, VC_REQ_KICK);
	return arg;
}
START_TEST(test_request_stops_loop)
{
	pthread_t thread;
	PUT(forever, CODE);
	ck_assert_int_eq(pthread_create(&thread, NULL, kick_later, NULL), 0);
	ck_assert_int_eq(world_run(w), EMU_STOP_EVENTS);
	pthread_join(thread, NULL);
	ck_assert(c->s.rip == CODE || c->s.rip == CODE + 3);
	ck_assert_uint_gt(*gpr(VC_RAX), 0);
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

/* ---- addressing ---- */

GUEST(segments, "mov rax, fs:[0x10]; mov gs:[rcx], rax; mov edx, [ecx + 0x10]; mov r8, [rip + rip_data]; ud2; "
                "rip_data: .quad 0x5566");
START_TEST(test_fs_gs_and_address_size)
{
	c->s.seg[VC_FS].base = DATA;
	c->s.seg[VC_GS].base = DATA + 0x1000;
	emu_mode_changed(c);
	*(uint64_t *)(DATA + 0x10) = 0xabcdef;
	*(uint32_t *)(DATA + 0x30) = 0x777;
	PUT(segments, CODE);
	*gpr(VC_RCX) = 0x20;
	ck_assert_int_eq(world_step(w), EMU_STOP_EVENTS);
	ck_assert_int_eq(world_step(w), EMU_STOP_EVENTS);
	ck_assert_uint_eq(*(uint64_t *)(DATA + 0x1020), 0xabcdef);
	*gpr(VC_RCX) = 0xffffffff00000020 + DATA;
	ck_assert_int_eq(world_run(w), EMU_STOP_EXCEPTION);
	ck_assert_uint_eq(*gpr(VC_RDX), 0x777);
	ck_assert_uint_eq(*gpr(VC_R8), 0x5566);
}
END_TEST

GUEST(moffs, "movabs al, [0x10100020]; movabs [0x10100028], rax; movabs rax, [0x1234567890]; ud2");
START_TEST(test_absolute_addresses)
{
	*gpr(VC_RAX) = 0x1111111111111111;
	*(uint64_t *)(DATA + 0x20) = 0x99;
	PUT(moffs, CODE);
	expect_fault(world_run(w), VC_PF, CODE + 19);
	ck_assert_uint_eq(c->exc.cr2, 0x1234567890);
	ck_assert_uint_eq(*(uint64_t *)(DATA + 0x28), 0x1111111111111199);
}
END_TEST

/* ---- string instructions ---- */

static void fill(uint64_t at, size_t n)
{
	for (size_t k = 0; k < n; k++)
		bytes(at)[k] = (uint8_t)(k * 7 + (k >> 8));
}

GUEST(rep_movsb, "rep movsb; ud2");
GUEST(rep_movsq, "rep movsq; ud2");
/* Against a loop over bytes: every distance and direction, over several pages. */
START_TEST(test_rep_movs_overlaps)
{
	static uint8_t model[0x8000];
	static const int distances[] = {0, 1, 3, 7, 8, 9, 64, 100, 4096, 5000, -1, -8, -13, -4097};
	for (unsigned k = 0; k < 4 * VC_ARRAY_SIZE(distances); k++) {
		bool down = k & 1, wide = k & 2;
		unsigned size = wide ? 8 : 1, count = wide ? 1501 : 12003;
		uint64_t from = DATA + 0x4000 + 13, to = from + (uint64_t)(int64_t)distances[k / 4];
		int64_t step = down ? -(int64_t)size : size;
		fill(DATA, 0x8000 * 2);
		if (down) {
			from += (count - 1) * size;
			to += (count - 1) * size;
		}
		memcpy(model, (void *)(DATA + 0x2000), sizeof model);
		for (unsigned e = 0; e < count; e++) {
			uint64_t v = 0;
			memcpy(&v, model + (from + (uint64_t)(step * e) - DATA - 0x2000), size);
			memcpy(model + (to + (uint64_t)(step * e) - DATA - 0x2000), &v, size);
		}
		put(wide ? rep_movsq : rep_movsb, wide ? rep_movsq_end : rep_movsb_end, CODE);
		*gpr(VC_RSI) = from;
		*gpr(VC_RDI) = to;
		*gpr(VC_RCX) = count;
		c->s.rflags = 2 | (down ? VC_FLAG_DF : 0);
		run_to(CODE + (wide ? 3 : 2));
		ck_assert_uint_eq(*gpr(VC_RCX), 0);
		ck_assert_uint_eq(*gpr(VC_RSI), from + (uint64_t)(step * count));
		ck_assert_uint_eq(*gpr(VC_RDI), to + (uint64_t)(step * count));
		ck_assert_msg(!memcmp(model, (void *)(DATA + 0x2000), sizeof model), "distance %d, %s, size %u",
		              distances[k / 4], down ? "down" : "up", size);
	}
}
END_TEST

/* A fault in the middle leaves what was done, and the instruction can go on. */
START_TEST(test_rep_movs_fault)
{
	uint64_t *pte = small_pages(ABSENT);
	for (unsigned k = 0; k < 8; k++)
		pte[k] = k < 2 ? (DATA + 0x10000 + k * 4096) | 0x67 : 0;
	emu_tlb_flush_all(c);
	fill(DATA, 0x4000);
	PUT(rep_movsb, CODE);
	*gpr(VC_RSI) = DATA;
	*gpr(VC_RDI) = ABSENT + 0x10;
	*gpr(VC_RCX) = 0x3000;
	expect_fault(world_run(w), VC_PF, CODE);
	ck_assert_uint_eq(c->exc.cr2, ABSENT + 0x2000);
	ck_assert_uint_eq(*gpr(VC_RDI), ABSENT + 0x2000);
	ck_assert_uint_eq(*gpr(VC_RSI), DATA + 0x1ff0);
	ck_assert_uint_eq(*gpr(VC_RCX), 0x3000 - 0x1ff0);
	pte[2] = (DATA + 0x12000) | 0x67;
	pte[3] = (DATA + 0x13000) | 0x67;
	run_to(CODE + 2);
	ck_assert(!memcmp(bytes(DATA), bytes(DATA + 0x10010), 0x3000));
}
END_TEST

START_TEST(test_rep_movs_stepping)
{
	PUT(rep_movsb, CODE);
	*gpr(VC_RSI) = DATA;
	*gpr(VC_RDI) = DATA + 0x100;
	*gpr(VC_RCX) = 3;
	for (unsigned k = 1; k <= 3; k++) {
		ck_assert_int_eq(world_step(w), EMU_STOP_EVENTS);
		ck_assert_uint_eq(c->s.rip, k < 3 ? CODE : CODE + 2);
		ck_assert_uint_eq(*gpr(VC_RCX), 3 - k);
		ck_assert_uint_eq(*gpr(VC_RSI), DATA + k);
	}
}
END_TEST

GUEST(rep_lods, "rep lodsb; ud2");
START_TEST(test_rep_is_interruptible)
{
	pthread_t thread;
	PUT(rep_lods, CODE);
	*gpr(VC_RSI) = DATA;
	*gpr(VC_RCX) = ~0ull >> 1; /* a wrapping read of the mapped 4 GiB would fault much later than the kick */
	ck_assert_int_eq(pthread_create(&thread, NULL, kick_later, NULL), 0);
	enum emu_stop stop = world_run(w);
	pthread_join(thread, NULL);
	if (stop == EMU_STOP_EVENTS)
		ck_assert_uint_eq(c->s.rip, CODE);
	ck_assert_uint_eq(*gpr(VC_RCX) + (*gpr(VC_RSI) - DATA), ~0ull >> 1);
}
END_TEST

GUEST(compare_strings, "repe cmpsb; ud2");
GUEST(scan_string, "repne scasw; ud2");
START_TEST(test_compare_and_scan)
{
	memset(bytes(DATA), 'a', 0x4000);
	memset(bytes(DATA + 0x8000), 'a', 0x4000);
	bytes(DATA)[0x2345] = 'b';
	PUT(compare_strings, CODE);
	*gpr(VC_RSI) = DATA;
	*gpr(VC_RDI) = DATA + 0x8000;
	*gpr(VC_RCX) = 0x4000;
	run_to(CODE + 2);
	ck_assert_uint_eq(*gpr(VC_RSI), DATA + 0x2346);
	ck_assert_uint_eq(*gpr(VC_RCX), 0x4000 - 0x2346);
	ck_assert_uint_eq(c->aflags & (VC_FLAG_ZF | VC_FLAG_CF), 0);
	PUT(scan_string, CODE);
	vc_st16(bytes(DATA + 0x8001 + 0x1fff), 0x1234); /* crosses a page */
	*gpr(VC_RDI) = DATA + 0x8000 + 0x1000;
	*gpr(VC_RAX) = 0x1234;
	*gpr(VC_RCX) = 0x4000;
	bytes(DATA + 0x8000)[0x2000] = 0x34;
	bytes(DATA + 0x8000)[0x2001] = 0x12;
	run_to(CODE + 3);
	ck_assert_uint_eq(*gpr(VC_RDI), DATA + 0x8000 + 0x2002);
	ck_assert(c->aflags & VC_FLAG_ZF);
	/* a count of zero does nothing */
	*gpr(VC_RCX) = 0;
	c->aflags = VC_FLAG_CF;
	c->s.rip = CODE;
	run_to(CODE + 3);
	ck_assert_uint_eq(c->aflags, VC_FLAG_CF);
}
END_TEST

GUEST(movs32, "rep movsb es:[edi], ds:[esi]; ud2");
START_TEST(test_string_address_size_32)
{
	fill(DATA, 0x2000);
	PUT(movs32, CODE);
	*gpr(VC_RSI) = 0x1111111100000000 | DATA;
	*gpr(VC_RDI) = 0x2222222200000000 | (DATA + 0x4000);
	*gpr(VC_RCX) = 0x3333333300001234;
	run_to(CODE + 3);
	ck_assert_uint_eq(*gpr(VC_RSI), DATA + 0x1234);
	ck_assert_uint_eq(*gpr(VC_RDI), DATA + 0x4000 + 0x1234);
	ck_assert_uint_eq(*gpr(VC_RCX), 0);
	ck_assert(!memcmp(bytes(DATA), bytes(DATA + 0x4000), 0x1234));
}
END_TEST

/* ---- ports ---- */

struct port_log {
	unsigned reads, writes;
	uint64_t last;
};
static void port_read(void *ctx, struct vcore_io *io)
{
	struct port_log *p = ctx;
	io->data = 0xa0 + p->reads++;
}
static void port_write(void *ctx, struct vcore_io *io)
{
	struct port_log *p = ctx;
	p->writes++;
	p->last = io->data;
}
GUEST(ports, "mov dx, 0x80; mov rdi, rbx; mov ecx, 3; rep insb; mov rsi, rbx; mov ecx, 3; rep outsb; ud2");
GUEST(port_fault, "insb");
START_TEST(test_string_ports)
{
	struct port_log log = {0};
	struct vcore_device_ops ops = {.size = sizeof ops, .read = port_read, .write = port_write};
	struct vc_dev *dev;
	ck_assert_int_eq(vc_dev_add(&w->buses, "ports", &ops, &log, &dev), 0);
	ck_assert_int_eq(vc_dev_add_region(&w->buses, NULL, dev, VCORE_BUS_PIO, 0x80, 1), 0);
	*gpr(VC_RBX) = DATA;
	PUT(ports, CODE);
	ck_assert_int_eq(world_run(w), EMU_STOP_EXCEPTION);
	ck_assert_uint_eq(c->exc.vector, VC_UD);
	ck_assert_uint_eq(log.reads, 3);
	ck_assert_uint_eq(log.writes, 3);
	ck_assert_uint_eq(log.last, 0xa2);
	ck_assert(!memcmp(bytes(DATA), "\xa0\xa1\xa2", 3));
	/* no port is read for a store that would fault */
	unmap(ABSENT);
	*gpr(VC_RDI) = ABSENT;
	PUT(port_fault, CODE);
	expect_fault(world_run(w), VC_PF, CODE);
	ck_assert_uint_eq(log.reads, 3);
}
END_TEST

/* ---- other modes ---- */

GUEST_BITS(32, flat32,
           "mov eax, 0x12345678; push eax; pop ebx; mov ecx, 100; 1: add edx, [esi + ecx * 4 - 4]; loop 1b; call 2f; "
           "ud2; 2: enter 8, 0; leave; ret");
START_TEST(test_flat_32)
{
	world_flat32(w);
	PUT(flat32, CODE);
	for (unsigned k = 0; k < 100; k++)
		((uint32_t *)DATA)[k] = k;
	*gpr(VC_RSP) = STACK;
	*gpr(VC_RSI) = DATA;
	*gpr(VC_RDX) = 0xffffffff00000000;
	run_to(CODE + 23);
	ck_assert_uint_eq(*gpr(VC_RDX), 4950);
	ck_assert_uint_eq(*gpr(VC_RBX), 0x12345678);
	ck_assert_uint_eq(*gpr(VC_RSP), STACK);
}
END_TEST

GUEST_BITS(32, negative32, "mov eax, [esi - 16]; mov ebx, [esi + edi * 4]; ud2");
START_TEST(test_addresses_wrap_at_32_bits)
{
	world_flat32(w);
	PUT(negative32, CODE);
	*(uint32_t *)DATA = 0x99;
	*(uint32_t *)(DATA + 0x20) = 0x77;
	*gpr(VC_RSI) = DATA + 16;
	*gpr(VC_RDI) = 0xc0000004; /* * 4 = 0x10 with a carry that is dropped */
	run_to(CODE + 6);
	ck_assert_uint_eq(*gpr(VC_RAX), 0x99);
	ck_assert_uint_eq(*gpr(VC_RBX), 0x77);
}
END_TEST

GUEST_BITS(32, limit32, "mov al, es:[ebx]; ud2");
START_TEST(test_segment_limit_32)
{
	world_flat32(w);
	c->s.seg[VC_ES].base = DATA;
	c->s.seg[VC_ES].limit = 0xfff;
	emu_mode_changed(c);
	bytes(DATA)[0xfff] = 0x42;
	PUT(limit32, CODE);
	*gpr(VC_RBX) = 0xfff;
	run_to(CODE + 3);
	ck_assert_uint_eq(*gpr(VC_RAX) & 0xff, 0x42);
	c->s.rip = CODE;
	*gpr(VC_RBX) = 0x1000;
	expect_fault(world_run(w), VC_GP, CODE);
}
END_TEST

GUEST_BITS(32, code_limit, "nop; jmp 1f; .skip 0x20; 1: ud2");
START_TEST(test_code_segment_limit)
{
	world_flat32(w);
	c->s.seg[VC_CS].limit = CODE + 0x10;
	emu_mode_changed(c);
	PUT(code_limit, CODE);
	expect_fault(world_run(w), VC_GP, CODE + 1);
	/* the same code, with more of it inside */
	c->s.seg[VC_CS].limit = CODE + 0x100;
	emu_mode_changed(c);
	c->s.rip = CODE;
	run_to(CODE + 3 + 0x20);
	/* running into the limit: #GP at the instruction that is not all there */
	c->s.seg[VC_CS].limit = CODE + 1;
	emu_mode_changed(c);
	c->s.rip = CODE;
	expect_fault(world_run(w), VC_GP, CODE + 1);
}
END_TEST

GUEST_BITS(16, real16,
           "mov ax, 0x1234; push ax; mov bp, sp; mov bx, [bp]; mov cx, 4; xor dx, dx; 1: add dx, cx; loop 1b; call 2f; "
           "pop ax; ud2; 2: pusha; popa; ret");
START_TEST(test_real_mode)
{
	uint8_t *low = w->low->hva;
	world_real(w);
	c->s.seg[VC_SS].base = 0x400;
	c->s.seg[VC_SS].selector = 0x40;
	c->s.seg[VC_SS].limit = 0xffff;
	emu_mode_changed(c);
	*gpr(VC_RSP) = 0x11110000; /* SP 0: the first push wraps to FFFE */
	*gpr(VC_RDX) = 0xdddd0000;
	PUT(real16, 0x1000);
	*gpr(VC_RSP) = 0x11110100;
	ck_assert_int_eq(world_run(w), EMU_STOP_EXCEPTION);
	ck_assert_uint_eq(c->exc.vector, VC_UD);
	ck_assert_uint_eq(*gpr(VC_RSP), 0x11110100);
	ck_assert_uint_eq(*gpr(VC_RBX) & 0xffff, 0x1234);
	ck_assert_uint_eq(*gpr(VC_RDX), 0xdddd000a);
	ck_assert_uint_eq(vc_ld16(low + 0x400 + 0xfe), 0x1234);
}
END_TEST

GUEST_BITS(16, at_zero, "mov dx, 0x77; ud2");
START_TEST(test_16_bit_wraps)
{
	world_real(w);
	world_write(w, 0, at_zero, 5);
	/* code at 7ff0 of a segment based so that IP wraps: use IP FFF0 with base -8000h */
	c->s.seg[VC_CS].base = 0x7000 - 0xf000;
	c->s.seg[VC_CS].base &= 0xffffffff;
	c->s.seg[VC_CS].limit = 0xffff;
	emu_mode_changed(c);
	world_write(w, 0x7000, "\xe9\xfd\x0f", 3); /* at IP F000: jmp F000 + 3 + 0FFD = 10000 -> 0 */
	c->s.rip = 0xf000;
	/* IP 0 is linear base + 0 = FFFF8000: nothing is there, so the fetch is from no memory */
	ck_assert_int_eq(world_step(w), EMU_STOP_EVENTS);
	ck_assert_uint_eq(c->s.rip, 0);
}
END_TEST

/* ---- decimal ---- */

GUEST_BITS(32, decimal, "daa; ud2; das; ud2; aaa; ud2; aas; ud2; aam; ud2; aad; ud2");
START_TEST(test_decimal)
{
	static const struct {
		unsigned at, ax, flags, ax_after, flags_after, mask;
	} cases[] = {
	    /* 79h + 35h = AEh -> 14 with carry */
	    {0, 0xae, VC_FLAG_SF | VC_FLAG_OF | VC_FLAG_PF, 0x14, VC_FLAG_CF | VC_FLAG_AF | VC_FLAG_PF, 0xd5},
	    {0, 0x2e, 0, 0x34, VC_FLAG_AF, 0xd5},
	    {0, 0x9a, 0, 0x00, VC_FLAG_CF | VC_FLAG_AF | VC_FLAG_ZF | VC_FLAG_PF, 0xd5},
	    {0, 0x10, VC_FLAG_AF, 0x16, VC_FLAG_AF, 0xd5},
	    /* 35h - 47h = EEh */
	    {3, 0xee, VC_FLAG_CF | VC_FLAG_AF | VC_FLAG_SF, 0x88, VC_FLAG_CF | VC_FLAG_AF | VC_FLAG_SF | VC_FLAG_PF, 0xd5},
	    {3, 0x05, VC_FLAG_AF, 0xff, VC_FLAG_CF | VC_FLAG_AF | VC_FLAG_SF | VC_FLAG_PF, 0xd5},
	    {6, 0x000c, 0, 0x0102, VC_FLAG_CF | VC_FLAG_AF, 0x11},
	    {6, 0x01fa, 0, 0x0300, VC_FLAG_CF | VC_FLAG_AF, 0x11},
	    {6, 0x0105, 0, 0x0105, 0, 0x11},
	    {9, 0x02ff, VC_FLAG_AF, 0x0109, VC_FLAG_CF | VC_FLAG_AF, 0x11},
	    {9, 0x0200, VC_FLAG_AF, 0x000a, VC_FLAG_CF | VC_FLAG_AF, 0x11},
	    {12, 0x0037, 0, 0x0505, VC_FLAG_PF, 0xc4},
	    {16, 0x0505, 0, 0x0037, 0, 0xc4},
	};
	world_flat32(w);
	PUT(decimal, CODE);
	for (unsigned k = 0; k < VC_ARRAY_SIZE(cases); k++) {
		c->s.rip = CODE + cases[k].at;
		*gpr(VC_RAX) = cases[k].ax;
		c->aflags = cases[k].flags;
		ck_assert_int_eq(world_step(w), EMU_STOP_EVENTS);
		ck_assert_msg(*gpr(VC_RAX) == cases[k].ax_after, "case %u: ax %lx", k, (unsigned long)*gpr(VC_RAX));
		ck_assert_msg((c->aflags & cases[k].mask) == (cases[k].flags_after & cases[k].mask), "case %u: flags %x", k,
		              c->aflags);
	}
}
END_TEST

GUEST_BITS(32, aam_zero, "aam 0");
GUEST_BITS(32, old_stack, "pusha; popa; enter 0x20, 2; leave; ud2");
START_TEST(test_old_stack_instructions)
{
	uint64_t before[16];
	world_flat32(w);
	PUT(aam_zero, CODE);
	expect_fault(world_run(w), VC_DE, CODE);
	for (unsigned r = 0; r < 8; r++)
		*gpr(r) = 0x11111111u * (r + 1);
	*gpr(VC_RSP) = STACK;
	*gpr(VC_RBP) = STACK + 0x100;
	memcpy(before, c->s.gpr, sizeof before);
	PUT(old_stack, CODE);
	ck_assert_int_eq(world_step(w), EMU_STOP_EVENTS);
	ck_assert_uint_eq(*gpr(VC_RSP), STACK - 32);
	ck_assert_uint_eq(((uint32_t *)STACK)[-1], before[VC_RAX]);
	ck_assert_uint_eq(((uint32_t *)STACK)[-5], STACK);
	ck_assert_uint_eq(((uint32_t *)STACK)[-8], before[VC_RDI]);
	memset(c->s.gpr, 0, VC_RSP * 8);
	ck_assert_int_eq(world_step(w), EMU_STOP_EVENTS);
	ck_assert(!memcmp(before, c->s.gpr, 8 * 8));
	*(uint32_t *)(STACK + 0xfc) = 0xfeed;
	ck_assert_int_eq(world_step(w), EMU_STOP_EVENTS); /* enter 0x20, 2 */
	ck_assert_uint_eq(*gpr(VC_RBP), STACK - 4);
	ck_assert_uint_eq(*gpr(VC_RSP), STACK - 12 - 0x20);
	ck_assert_uint_eq(((uint32_t *)STACK)[-1], STACK + 0x100);
	ck_assert_uint_eq(((uint32_t *)STACK)[-2], 0xfeed);
	ck_assert_uint_eq(((uint32_t *)STACK)[-3], STACK - 4);
	run_to(CODE + 7);
	ck_assert_uint_eq(*gpr(VC_RSP), STACK);
	ck_assert_uint_eq(*gpr(VC_RBP), STACK + 0x100);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("interp");
	TCase *t = tcase_create("interp");
	int failed;
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
	    test_fault_changes_nothing,
	    test_pop_addresses_with_new_rsp,
	    test_push_rsp,
	    test_branch_to_non_canonical,
	    test_non_canonical_access,
	    test_jump_to_absent_page,
	    test_cmpxchg16b_alignment,
	    test_divide_error,
	    test_locked_everywhere,
	    test_fs_gs_and_address_size,
	    test_absolute_addresses,
	    test_rep_movs_overlaps,
	    test_rep_movs_fault,
	    test_rep_movs_stepping,
	    test_rep_is_interruptible,
	    test_compare_and_scan,
	    test_string_address_size_32,
	    test_string_ports,
	    test_flat_32,
	    test_addresses_wrap_at_32_bits,
	    test_segment_limit_32,
	    test_code_segment_limit,
	    test_real_mode,
	    test_16_bit_wraps,
	    test_decimal,
	    test_old_stack_instructions,
	};
	tcase_add_checked_fixture(t, setup, teardown);
	for (unsigned k = 0; k < VC_ARRAY_SIZE(tests); k++)
		tcase_add_test(t, tests[k]);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
