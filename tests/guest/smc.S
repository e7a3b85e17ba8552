/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Code that writes code: the same page, through another mapping, the next instruction, over a page's end, by a string instruction. */
#include "catch.h"
#define CODE 0x300000   /* in the second 2 MiB page */
#define ALIAS 0x1300000 /* maps the same frames: PD 0 entry 9 */
	.globl _start
/* mov $imm32, %eax; ret at an address in RDI. */
.macro EMIT value
	movb $0xb8, (%rdi)
	movl $\value, 1(%rdi)
	movb $0xc3, 5(%rdi)
.endm
_start:
	ENTER_PROTECTED
	ENTER_LONG
	CATCH_ALL64
	/* written, run, written again, many times */
	movl $CODE, %edi
	EMIT 0
	movl $200, %ebx
1:	movl %ebx, 1(%rdi)
	call *%rdi
	cmpl %ebx, %eax
	REQUIRE e, 1
	decl %ebx
	jnz 1b
	/* through another address of the same frame */
	movl $0x200087, PAGE_TABLES + 0x2000 + 8 * 9
	invlpg ALIAS
	movl $ALIAS, %esi
	movl $50, %ebx
1:	movl %ebx, 1(%rsi)
	call *%rdi
	cmpl %ebx, %eax
	REQUIRE e, 2
	decl %ebx
	jnz 1b
	/* the very next instruction, in the same straight line */
	movl $20, %ebx
1:	movb %bl, next + 1
next:
	movb $0, %al
	cmpb %bl, %al
	REQUIRE e, 3
	decl %ebx
	jnz 1b
	/* the instruction itself becomes another one */
	movl $5, %ebx
	xorl %eax, %eax
1:	movb $0xc0, turn + 1  /* inc %eax */
	movb $0xff, turn
turn:
	incl %eax
	movb $0xc8, turn + 1 /* dec %eax */
	decl %ebx
	jnz 1b
	cmpl $5, %eax
	REQUIRE e, 4
	/* over the end of a page: the immediate lies in the next one */
	movl $(CODE + 0x1ffe), %edi
	EMIT 7
	call *%rdi
	cmpl $7, %eax
	REQUIRE e, 5
	movb $9, CODE + 0x2001 /* third byte of the immediate */
	call *%rdi
	cmpl $0x090007, %eax
	REQUIRE e, 6
	movw $0x1234, CODE + 0x1fff /* both pages at once */
	call *%rdi
	cmpl $0x091234, %eax
	REQUIRE e, 7
	/* by REP MOVS */
	movl $CODE, %edi
	EMIT 1
	call *%rdi
	cmpl $1, %eax
	REQUIRE e, 8
	movl $template, %esi
	movl $6, %ecx
	rep movsb
	movl $CODE, %edi
	call *%rdi
	cmpl $0xabcdef, %eax
	REQUIRE e, 9
	/* the page's frame changes under the code */
	movl $0x1700000, %edi /* PD 0 entry 11, 22 MiB */
	EMIT 21
	call *%rdi
	cmpl $21, %eax
	REQUIRE e, 10
	movb $0xb8, 0x1900000 /* entry 12 */
	movl $22, 0x1900001
	movb $0xc3, 0x1900005
	movl $0x1800087, PAGE_TABLES + 0x2000 + 8 * 11
	invlpg (%rdi)
	call *%rdi
	cmpl $22, %eax
	REQUIRE e, 11
	/* a page that loses its execute right */
	movl $0x80000000, PAGE_TABLES + 0x2000 + 8 * 11 + 4
	invlpg (%rdi)
	movq $92f, resume_at
	movq %rsp, resume_rsp
	call *%rdi
	FAIL 12
92:	movq $0, resume_at
	cmpq $14, caught_vector
	REQUIRE e, 12
	/* a loop that changes its own step */
	movl $CODE, %edi
	movl $template_loop, %esi
	movl $(template_loop_end - template_loop), %ecx
	rep movsb
	movl $CODE, %eax
	call *%rax
	cmpl $55, %eax /* 1 + 2 + ... + 10 */
	REQUIRE e, 13
	PASS
template:
	movl $0xabcdef, %eax
	ret
/* Runs at CODE: adds an immediate that it counts up itself. */
template_loop:
	xorl %eax, %eax
	movl $10, %ecx
1:	incb 2f + 1 - template_loop + CODE
2:	.byte 0x04, 0 /* add $0, %al */
	decl %ecx
	jnz 1b
	/* back to the first state */
	movb $0, 2b + 1 - template_loop + CODE
	ret
template_loop_end:
	CATCHERS64
	TABLES
