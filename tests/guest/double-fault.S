/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which pairs of exceptions make a double fault (SDM vol. 3, table 6-5); its error code is 0, and IST gives it a stack. */
#include "catch.h"
	.globl _start
_start:
	ENTER_PROTECTED
	ENTER_LONG
	CATCH_ALL64
	movq $0x6000, tss + 0x24 /* IST1 */
	movb $1, IDT_BASE + 8 * 16 + 4
	/* #GP while #GP is delivered: its gate is not present, which is #NP: contributory after contributory */
	movb $0x0e, IDT_BASE + 13 * 16 + 5
	movabsq $0x8000000000000000, %rbx
	EXPECT64 8, 0, 1, movq (%rbx), %rax
	movb $0x8e, IDT_BASE + 13 * 16 + 5
	/* #PF with a stack that is not there: #PF after #PF */
	movq %rsp, %r15
	movq $92f, resume_at
	movq %rsp, resume_rsp
	movl $0x12345678, %esp
	shlq $10, %rsp
	pushq %rax
	FAIL 2
92:	movq $0, resume_at
	cmpq $8, caught_vector
	REQUIRE e, 3
	cmpq $0, caught_error
	REQUIRE e, 4
	/* the double fault came on the stack of its IST */
	cmpq %r15, %rsp
	REQUIRE e, 5
	/* #PF after #GP is served one after the other: the IDT entry of #GP lies in a page that is not there */
	movb $0x0e, IDT_BASE + 14 * 16 + 5
	EXPECT64 8, 0, 6, movq 0x1000000000, %rax
	movb $0x8e, IDT_BASE + 14 * 16 + 5
	/* a benign first exception: the second is delivered by itself. #UD through a gate that is not present is #NP, with EXT */
	movb $0x0e, IDT_BASE + 6 * 16 + 5
	SKIP_ON_TCG 1f /* its error codes here are the offset into the IDT, and have no EXT */
	EXPECT64 11, (6*8+3), 7, ud2
	movb $0x8e, IDT_BASE + 6 * 16 + 5
	/* INT n through a gate that is not present: EXT is 0; beyond the IDT's limit: #GP */
	movb $0x0e, IDT_BASE + 0x60 * 16 + 5
	EXPECT64 11, (0x60*8+2), 8, int $0x60
	movb $0x8e, IDT_BASE + 0x60 * 16 + 5
	lidt short_idt
	EXPECT64 13, (0x60*8+2), 9, int $0x60
1:	PASS
short_idt:
	.word 0x20 * 16 - 1
	.quad IDT_BASE
	CATCHERS64
	TABLES
