/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Exceptions in 64-bit mode: vector, error code, saved RIP, CR2; and a page fault that is repaired and restarted. */
#include "guest.h"
	.globl _start
/* One handler for all: leaves vector in R8, error code in R9, saved RIP in R10, saved RFLAGS in R15, and goes on at R11. */
.macro HANDLER vector, has_error
handler_\vector:
	movl $\vector, %r8d
.if \has_error
	popq %r9
.endif
	movq (%rsp), %r10
	movq 16(%rsp), %r15
	movq %r11, (%rsp)
	iretq
.endm
/* Run an instruction that must fault. */
.macro EXPECT vector, error, number, instruction:vararg
	leaq 2f(%rip), %r11
	movl $-1, %r8d
	movq $-1, %r9
	leaq 1f(%rip), %r12
1:	\instruction
	jmp fail\number
2:	cmpl $\vector, %r8d
	jne fail\number
	cmpq %r10, %r12
	jne fail\number
.if \error >= 0
	cmpq $\error, %r9
	jne fail\number
.endif
.endm
_start:
	ENTER_PROTECTED
	ENTER_LONG
	GATE 0, handler_0
	GATE 6, handler_6
	GATE 11, handler_11
	GATE 13, handler_13
	GATE 14, handler_14
	GATE 12, handler_12
	/* #DE */
	xorl %edx, %edx
	movl $1, %eax
	xorl %ecx, %ecx
	EXPECT 0, -1, 1, divl %ecx
	movl $2, %edx
	movl $2, %ecx
	EXPECT 0, -1, 2, divl %ecx
	EXPECT 6, -1, 3, ud2
	/* #GP: non-canonical, bad selector, privileged register values */
	movabsq $0x8000000000000000, %rbx
	EXPECT 13, 0, 4, movq (%rbx), %rax
	movl $0x1000, %eax
	EXPECT 13, 0x1000, 5, movl %eax, %ds
	SKIP_ON_TCG 5f /* #GP there */
	movabsq $0x8000000000000000, %rbp
	EXPECT 12, 0, 6, movq (%rbp), %rax
5:
	movl $0xc0000080, %ecx
	movl $-1, %edx
	movl $0x900, %eax
	EXPECT 13, 0, 7, wrmsr
	movl $0x12345, %ecx
	EXPECT 13, 0, 8, rdmsr
	movq $0x1000000000, %rax
	EXPECT 13, 0, 9, movq %rax, %cr0
	/* #PF: not present; CR2 */
	movabsq $0x123456789abc, %rbx
	EXPECT 14, 0, 10, movb (%rbx), %al
	movq %cr2, %rax
	cmpq %rax, %rbx
	jne fail11
	EXPECT 14, 2, 12, movb %al, (%rbx)
	SKIP_ON_TCG 5f /* takes the read for itself */
	EXPECT 14, 2, 13, incb (%rbx)
5:
	/* a read-only page: write with WP set; then execute from a page without rights (NX) */
	andb $~2, PAGE_TABLES + 0x2000 + 8 * 8 /* 16 MiB */
	movq %cr3, %rax
	movq %rax, %cr3
	movl $0x1000000, %ebx
	EXPECT 14, 3, 14, movb %al, (%rbx)
	movb (%rbx), %al
	movl $0x80000000, PAGE_TABLES + 0x2000 + 9 * 8 + 4 /* 18 MiB: NX */
	movq %cr3, %rax
	movq %rax, %cr3
	movb $0xc3, 0x1200000
	movl $0x1200000, %ebx
	/* the fault is at the target */
	leaq 3f(%rip), %r11
	movl $-1, %r8d
	call *%rbx
	jmp fail15
3:	addq $8, %rsp
	cmpl $14, %r8d
	jne fail15
	cmpq $0x11, %r9
	jne fail15
	cmpq %r10, %rbx
	jne fail15
	/* an access that crosses into a page that is not there commits nothing */
	movq $0, PAGE_TABLES + 0x2000 + 11 * 8 /* 22 MiB */
	movq %cr3, %rax
	movq %rax, %cr3
	movl $0x15ffffc, %ebx
	movl $0x11111111, (%rbx)
	movq $-1, %rax
	EXPECT 14, 2, 16, movq %rax, (%rbx)
	movq %cr2, %rax
	cmpq $0x1600000, %rax
	jne fail17
	cmpl $0x11111111, (%rbx)
	jne fail18
	/* PUSH that faults leaves RSP alone */
	movq %rsp, %r13
	movl $0x1600004, %esp
	movq %rsp, %r14
	leaq 4f(%rip), %r11
	GATE 14, handler_14_ist, 1
	movq %r13, tss + 0x24
	subq $0x1000, tss + 0x24
	pushq %rax
	jmp fail19
4:	movq %r13, %rsp
	cmpq %r10, %r14
	jne fail19
	/* A and D bits */
	movl $0x1a00000, %ebx
	movq PAGE_TABLES + 0x2000 + 13 * 8, %rax
	testb $0x60, %al
	jnz fail20
	movb (%rbx), %al
	movq PAGE_TABLES + 0x2000 + 13 * 8, %rax
	andb $0x60, %al
	cmpb $0x20, %al
	jne fail20
	movb %al, (%rbx)
	movq PAGE_TABLES + 0x2000 + 13 * 8, %rax
	andb $0x60, %al
	cmpb $0x60, %al
	jne fail20
	/* a displacement that leads far from a page that is there to one that is not */
	GATE 14, handler_14
	movq $0, PAGE_TABLES + 0x3000 + 385 * 8 /* 0x70200000 */
	movq %cr3, %rax
	movq %rax, %cr3
	movl $0x200000, %ebx
	movb (%rbx), %al
	EXPECT 14, 0, 21, movb 0x70000000(%rbx), %al
	/* flags that nothing reads before they are overwritten show in the frame all the same */
	movl $0x70200000, %ebx
	leaq 6f(%rip), %r11
	movl $-1, %r8d
	cmpl %eax, %eax
	subq $8, %rsp
	orl $1, (%rbx)
	jmp fail22
6:	leaq 8(%rsp), %rsp
	cmpl $14, %r8d
	jne fail22
	testl $0x40, %r15d
	jnz fail22
	leaq 6f(%rip), %r11
	xorl %eax, %eax
	addl $1, %eax
	xorl %ecx, (%rbx)
	jmp fail23
6:	testl $0x40, %r15d
	jnz fail23
	movq %cr2, %rax
	cmpq $0x70200000, %rax
	jne fail21
	PASS
	HANDLER 0, 0
	HANDLER 6, 0
	HANDLER 11, 1
	HANDLER 12, 1
	HANDLER 13, 1
	HANDLER 14, 1
/* On a stack of its own: the interrupted RSP goes to R10. */
handler_14_ist:
	addq $8, %rsp
	movq 24(%rsp), %r10
	movq %r11, (%rsp)
	movq %r13, 24(%rsp)
	iretq
.irp number, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23
fail\number:
	FAIL \number
.endr
	TABLES
