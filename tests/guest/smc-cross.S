/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One vcpu patches a function by way of INT3 while the other runs it: first byte to INT3, rest, first byte, all vcpus serialized in between. */
#include "catch.h"

#define PATCHES 100
#define AP_STACK 0x201000

/* The other vcpu takes an interrupt and comes back by IRET, which serializes (SDM vol. 3, 8.1.3). */
.macro SERIALIZE
	movl $0, acknowledged
	movl $0xc4060, LAPIC_ICR(%r15)
92:	pause
	cmpl $1, acknowledged
	jne 92b
.endm

	.globl _start
_start:
	ENTER_PROTECTED
	ENTER_LONG
	CATCH_ALL64
	GATE 3, breakpoint
	GATE 0x60, serialize
	movl $LAPIC_BASE, %r15d
	movl $0x1ff, LAPIC_SVR(%r15)
	movl $0xc4500, LAPIC_ICR(%r15) /* INIT */
	movl $2000, %ecx
1:	pause
	decl %ecx
	jnz 1b
	movl $(0xc4600 | ap_start_page), LAPIC_ICR(%r15)
1:	pause
	cmpl $1, online
	jne 1b
	movl $1, %esi
2:	movb $0xcc, victim
	SERIALIZE
	imull $0x01010101, %esi, %eax
	movl %eax, victim + 1
	SERIALIZE
	movl %esi, oldest /* what came before cannot be met any more */
	movb $0xb8, victim /* MOV EAX, imm32 */
	SERIALIZE
	/* let the other one get on */
	movl calls, %eax
3:	pause
	cmpl %eax, calls
	je 3b
	incl %esi
	cmpl $(PATCHES + 1), %esi
	jne 2b
	PASS

	.balign 4096
ap_start:
	.set ap_start_page, (ap_start - _start + GUEST_BASE) >> 12
	.code16
	cli
	xorw %ax, %ax
	movw %ax, %ds
	lgdtl gdt_pointer
	movl $0x11, %eax
	movl %eax, %cr0
	ljmpl $SEL_CODE32, $ap32
	.code32
ap32:
	movl $SEL_DATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl $PAGE_TABLES, %eax
	movl %eax, %cr3
	movl $0x620, %eax
	movl %eax, %cr4
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x900, %eax
	wrmsr
	movl $0x80010013, %eax
	movl %eax, %cr0
	ljmpl $SEL_CODE64, $ap64
	.code64
ap64:
	lidt idt_pointer
	movl $LAPIC_BASE, %r15d
	movl $0x1ff, LAPIC_SVR(%r15)
	movl $AP_STACK, %esp
	sti
	movl $1, online
1:	movl oldest, %ebx
	call victim
	incl calls
	cmpl $-1, %eax /* met INT3 */
	je 1b
	/* all of one patch, and none that was over before the call */
	movzbl %al, %ecx
	imull $0x01010101, %ecx, %edx
	cmpl %edx, %eax
	REQUIRE e, 1
	cmpl %ebx, %ecx
	REQUIRE ae, 2
	jmp 1b

breakpoint:
	cmpq $(victim + 1), (%rsp)
	REQUIRE e, 3
	movl $-1, %eax
	addq $4, (%rsp)
	iretq
serialize:
	pushq %rax
	movl $LAPIC_BASE, %eax
	movl $0, LAPIC_EOI(%rax)
	movl $1, acknowledged
	popq %rax
	iretq

	.balign 4096
victim:
	movl $0, %eax
	ret
	.balign 4096, 0
online: .long 0
oldest: .long 0
calls: .long 0
acknowledged: .long 0
	CATCHERS64
	TABLES
