/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The interpreter: segments and address sizes, 16-bit and 32-bit modes, and instructions that 64-bit mode lacks. */
#include "interp_guest.h"

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
	const TTest *const tests[] = {
	    test_fs_gs_and_address_size,
	    test_absolute_addresses,
	    test_flat_32,
	    test_addresses_wrap_at_32_bits,
	    test_segment_limit_32,
	    test_code_segment_limit,
	    test_real_mode,
	    test_16_bit_wraps,
	    test_decimal,
	    test_old_stack_instructions,
	};
	return run_tests("interp_modes", tests, VC_ARRAY_SIZE(tests));
}
