/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Real -> protected -> long -> compatibility -> long -> protected -> real, with data carried through. */
#include "guest.h"
	.globl _start
_start:
	ENTER_PROTECTED
	movl $0x12345678, 0x6000
	pushl $0x11223344
	popl %ebx
	cmpl $0x11223344, %ebx
	jne fail1
	ENTER_LONG
	movabsq $0x1122334455667788, %r15
	cmpl $0x12345678, 0x6000
	jne fail2
	movl $1, %r14d
	negq %r14
	movl %r14d, %r14d /* zero-extends */
	movl $0xffffffff, %eax
	cmpq %rax, %r14
	jne fail3
	/* to compatibility mode by a far return */
	pushq $SEL_CODE32
	leaq compatibility(%rip), %rax
	pushq %rax
	lretq
	.code32
compatibility:
	movl $SEL_DATA, %eax
	movl %eax, %ss
	incl %eax /* 0x40 is INC here, a REX prefix in 64-bit mode */
	cmpl $(SEL_DATA + 1), %eax
	jne fail4
	ljmpl $SEL_CODE64, $again64
	.code64
again64:
	/* R15 is kept on every CPU although compatibility mode cannot see it */
	movabsq $0x1122334455667788, %rax
	cmpq %rax, %r15
	jne fail5
	pushq $SEL_CODE32
	leaq leave_long(%rip), %rax
	pushq %rax
	lretq
	.code32
leave_long:
	movl %cr0, %eax
	andl $0x7fffffff, %eax
	movl %eax, %cr0
	movl $0xc0000080, %ecx
	rdmsr
	testl $0x400, %eax /* LMA went with PG */
	jnz fail6
	andl $~0x100, %eax
	wrmsr
	ljmpl $SEL_CODE16, $code16
	.code16
code16:
	movw $SEL_DATA16, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movl %cr0, %eax
	andb $0xfe, %al
	movl %eax, %cr0
	ljmpw $0, $real
real:
	xorw %ax, %ax
	movw %ax, %ds
	movw %ax, %ss
	movw $STACK_TOP, %sp
	/* a software interrupt through the vector table */
	lidt real_idt
	movw $real_handler, 0x80 * 4
	movw $0, 0x80 * 4 + 2
	movw $0, %bx
	int $0x80
	cmpw $0x5555, %bx
	jne fail7
	PASS
real_handler:
	movw $0x5555, %bx
	iretw
real_idt:
	.word 0x3ff
	.long 0
fail7:	FAIL 7
	.code32
fail1:	FAIL 1
fail4:	FAIL 4
fail6:	FAIL 6
	.code64
fail2:	FAIL 2
fail3:	FAIL 3
fail5:	FAIL 5
	TABLES
