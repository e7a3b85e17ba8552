/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * For tiny guests: handlers of all vectors. An exception is noted in caught_* and control goes on at resume_at in ring 0; one that nobody
 * expected is told by its vector and RIP on the text port and fails as 200 + vector. Vectors from 32 on are interrupts: they are counted in
 * irq_count, appended to irq_log, and answered by an EOI where they came from.
 */
#ifndef GUEST_CATCH_H
#define GUEST_CATCH_H

#include "guest.h"

#define LAPIC_BASE 0xfee00000
#define LAPIC_ID 0x20
#define LAPIC_TPR 0x80
#define LAPIC_PPR 0xa0
#define LAPIC_EOI 0xb0
#define LAPIC_LDR 0xd0
#define LAPIC_DFR 0xe0
#define LAPIC_SVR 0xf0
#define LAPIC_ISR 0x100
#define LAPIC_IRR 0x200
#define LAPIC_ICR 0x300
#define LAPIC_ICR_HIGH 0x310
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_LVT_LINT0 0x350
#define LAPIC_INITIAL 0x380
#define LAPIC_CURRENT 0x390
#define LAPIC_DIVIDE 0x3e0
#define PIC_FIRST 0x20 /* vectors 0x20-0x2f after PIC_INIT */

#ifdef __ASSEMBLER__
/* One stub a vector, 16 bytes apart; each pushes the vector above an error code, its own or 0. */
.macro CATCH_STUBS
	.balign 16
catch_stubs:
	.set catch_vector, 0
	.rept 256
	.balign 16
	.if !(catch_vector == 8 || (catch_vector >= 10 && catch_vector <= 14) || catch_vector == 17 || catch_vector == 21)
	pushq $0 /* also PUSH in 32-bit code */
	.endif
	.byte 0x68
	.long catch_vector
	jmp catch_common
	.set catch_vector, catch_vector + 1
	.endr
.endm

.macro CATCH_DATA
	.balign 8
caught_vector: .quad 0
caught_error: .quad 0
caught_rip: .quad 0
caught_cs: .quad 0
caught_flags: .quad 0
caught_rsp: .quad 0
caught_ss: .quad 0
caught_count: .quad 0
resume_at: .quad 0
resume_rsp: .quad 0
irq_log_length: .quad 0
irq_eoi_off: .quad 0
irq_rip: .quad 0
irq_log: .fill 64, 1, 0
irq_count: .fill 256, 4, 0
.endm

/* "!vv pppppppp": AL vector, ECX place; falls through to the exit with 200 + vector. */
.macro CATCH_REPORT
catch_report:
	movl %eax, %ebx
	movb $'!', %al
	outb %al, $PORT_TEXT
	movl %ebx, %edx
	shll $24, %edx
	movl $2, %edi
	call catch_hex
	movb $' ', %al
	outb %al, $PORT_TEXT
	movl %ecx, %edx
	movl $8, %edi
	call catch_hex
	movb $10, %al
	outb %al, $PORT_TEXT
	leal 200(%ebx), %eax
	outb %al, $PORT_EXIT
94:	hlt
	jmp 94b
catch_hex:
	roll $4, %edx
	movl %edx, %eax
	andb $15, %al
	cmpb $10, %al
	jb 94f
	addb $('a' - '0' - 10), %al
94:	addb $'0', %al
	outb %al, $PORT_TEXT
	decl %edi
	jnz catch_hex
	ret
.endm

/* ---- 64-bit ---- */

/* All 256 vectors, LAPIC software-enabled with spurious vector 0xff. Clobbers RAX, RCX, RDI. */
.macro CATCH_ALL64
	xorl %ecx, %ecx
94:	movl %ecx, %eax
	shll $4, %eax
	leal IDT_BASE(%rax), %edi
	addl $catch_stubs, %eax
	movw %ax, (%rdi)
	movw $SEL_CODE64, 2(%rdi)
	movw $0x8e00, 4(%rdi)
	shrl $16, %eax
	movl %eax, 6(%rdi)
	movw $0, 10(%rdi)
	movl $0, 12(%rdi)
	incl %ecx
	cmpl $256, %ecx
	jne 94b
.endm

.macro CATCHERS64
	.code64
	CATCH_STUBS
catch_common:
	pushq %rax
	pushq %rbx
	movq 16(%rsp), %rax
	cmpl $32, %eax
	jae catch_irq
	movq %rax, caught_vector
	movq 24(%rsp), %rbx
	movq %rbx, caught_error
	movq 32(%rsp), %rbx
	movq %rbx, caught_rip
	movq 40(%rsp), %rbx
	movq %rbx, caught_cs
	movq 48(%rsp), %rbx
	movq %rbx, caught_flags
	movq 56(%rsp), %rbx
	movq %rbx, caught_rsp
	movq 64(%rsp), %rbx
	movq %rbx, caught_ss
	incq caught_count
	movq resume_at, %rbx
	testq %rbx, %rbx
	jz catch_unexpected
	movq %rbx, 32(%rsp)
	movq $SEL_CODE64, 40(%rsp)
	andq $~0x14300, 48(%rsp) /* RF, NT, IF, TF */
	movq resume_rsp, %rbx
	movq %rbx, 56(%rsp)
	movq $SEL_DATA, 64(%rsp)
catch_return:
	popq %rbx
	popq %rax
	addq $16, %rsp
	iretq
catch_unexpected:
	movl 32(%rsp), %ecx
	jmp catch_report
catch_irq:
	lock incl irq_count(,%rax,4)
	movl $1, %ebx
	lock xaddq %rbx, irq_log_length
	andl $63, %ebx
	movb %al, irq_log(%rbx)
	movq 32(%rsp), %rbx
	movq %rbx, irq_rip
	cmpq $0, irq_eoi_off
	jne catch_return
	cmpl $0xff, %eax
	je catch_return
	cmpl $(PIC_FIRST + 16), %eax
	jae 94f
	cmpl $(PIC_FIRST + 8), %eax
	movb $0x20, %al
	jb 93f
	outb %al, $0xa0
93:	outb %al, $0x20
	jmp catch_return
94:	movl $LAPIC_BASE, %ebx
	movl $0, LAPIC_EOI(%rbx)
	jmp catch_return
	CATCH_REPORT
	CATCH_DATA
.endm

/* The instruction must raise this exception at its own address. error -1: none, or any. */
.macro EXPECT64 vector, error, number, instruction:vararg
	movq $92f, resume_at
	movq %rsp, resume_rsp
	movq $-1, caught_vector
91:	\instruction
	FAIL \number
92:	movq $0, resume_at
	cmpq $\vector, caught_vector
	REQUIRE e, \number
	cmpq $91b, caught_rip
	REQUIRE e, \number
.if \error >= 0
	cmpq $\error, caught_error
	REQUIRE e, \number
.endif
.endm

/* Go to ring 3 with IOPL 3 at a label; the exception that ends the stay is in caught_*. Data segments are null there. RAX is lost on the way in. */
.macro USER64 label, selector=SEL_UCODE64, stack=0x7000
	movq $92f, resume_at
	movq %rsp, resume_rsp
	movq $-1, caught_vector
	pushq $SEL_UDATA
	pushq $\stack
	pushq $0x3002
	pushq $\selector
	pushq $\label
	iretq
92:	movq $0, resume_at
.endm
.macro CAUGHT vector, error, number, place
	cmpq $\vector, caught_vector
	REQUIRE e, \number
	cmpq $\place, caught_rip
	REQUIRE e, \number
.if \error >= 0
	cmpq $\error, caught_error
	REQUIRE e, \number
.endif
.endm

/* ---- 32-bit ---- */

.macro CATCH_ALL32
	xorl %ecx, %ecx
94:	movl %ecx, %eax
	shll $4, %eax
	addl $catch_stubs, %eax
	movw %ax, IDT_BASE(,%ecx,8)
	movw $SEL_CODE32, IDT_BASE + 2(,%ecx,8)
	movw $0x8e00, IDT_BASE + 4(,%ecx,8)
	shrl $16, %eax
	movw %ax, IDT_BASE + 6(,%ecx,8)
	incl %ecx
	cmpl $256, %ecx
	jne 94b
	lidt idt_pointer32
.endm

/* A frame without privilege change has no RSP and SS; resume_at is then reached on the stack as it was. */
.macro CATCHERS32
	CATCH_STUBS32
catch_common:
	pushl %eax
	pushl %ebx
	pushl %ds
	movl $SEL_DATA, %eax
	movl %eax, %ds
	movl 12(%esp), %eax
	movl %eax, caught_vector
	movl 16(%esp), %ebx
	movl %ebx, caught_error
	movl 20(%esp), %ebx
	movl %ebx, caught_rip
	movl 24(%esp), %ebx
	movl %ebx, caught_cs
	movl 28(%esp), %ebx
	movl %ebx, caught_flags
	movl %esp, caught_handler_esp
	incl caught_count
	/* RSP and SS of an outer ring; garbage otherwise */
	movl 32(%esp), %ebx
	movl %ebx, caught_rsp
	movl 36(%esp), %ebx
	movl %ebx, caught_ss
	cmpl $0, resume_at
	je catch_unexpected
	movl 8(%esp), %eax
	movl %eax, caught_eax
	movl 4(%esp), %ebx
	movl $SEL_DATA, %eax
	movl %eax, %es
	movl %eax, %ss
	movl resume_rsp, %esp
	pushl resume_at
	pushl $2
	popfl
	movl caught_eax, %eax
	ret
catch_unexpected:
	movl 20(%esp), %ecx
	jmp catch_report
	CATCH_REPORT
	CATCH_DATA
caught_handler_esp: .quad 0
caught_eax: .quad 0
idt_pointer32:
	.word 0x7ff
	.long IDT_BASE
.endm
.macro CATCH_STUBS32
	.balign 16
catch_stubs:
	.set catch_vector, 0
	.rept 256
	.balign 16
	.if !(catch_vector == 8 || (catch_vector >= 10 && catch_vector <= 14) || catch_vector == 17 || catch_vector == 21)
	pushl $0
	.endif
	.byte 0x68
	.long catch_vector
	jmp catch_common
	.set catch_vector, catch_vector + 1
	.endr
.endm

.macro EXPECT32 vector, error, number, instruction:vararg
	movl $92f, resume_at
	movl %esp, resume_rsp
	movl $-1, caught_vector
91:	\instruction
	FAIL \number
92:	movl $0, resume_at
	cmpl $\vector, caught_vector
	REQUIRE e, \number
	cmpl $91b, caught_rip
	REQUIRE e, \number
.if \error >= 0
	cmpl $\error, caught_error
	REQUIRE e, \number
.endif
.endm
/* Ring 3 with IOPL 3 and data segments; the TSS must be loaded. */
.macro USER32 label, selector=SEL_UCODE32, stack=0x7000
	movl $92f, resume_at
	movl %esp, resume_rsp
	movl $-1, caught_vector
	movl $SEL_UDATA, %eax
	movl %eax, %ds
	movl %eax, %es
	pushl $SEL_UDATA
	pushl $\stack
	pushl $0x3002
	pushl $\selector
	pushl $\label
	iretl
92:	movl $0, resume_at
.endm
.macro CAUGHT32 vector, error, number, place
	cmpl $\vector, caught_vector
	REQUIRE e, \number
	cmpl $\place, caught_rip
	REQUIRE e, \number
.if \error >= 0
	cmpl $\error, caught_error
	REQUIRE e, \number
.endif
.endm

/* ---- controllers, any mode of at least 32 bits ---- */

.macro OUT port, value
	movb $\value, %al
	outb %al, $\port
.endm
/* Both PICs to PIC_FIRST, all lines masked. */
.macro PIC_INIT
	OUT 0x20, 0x11
	OUT 0xa0, 0x11
	OUT 0x21, PIC_FIRST
	OUT 0xa1, PIC_FIRST + 8
	OUT 0x21, 4
	OUT 0xa1, 2
	OUT 0x21, 1
	OUT 0xa1, 1
	OUT 0x21, 0xff
	OUT 0xa1, 0xff
.endm
/* Drive a GSI. */
.macro LINE gsi, level
	OUT PORT_LINE, \gsi | \level << 7
.endm
/* A redirection entry, IOAPIC base in EBX. Clobbers EAX. */
.macro IOAPIC_PIN pin, low, high=0
	movl $(0x10 + 2 * \pin), (%rbx)
	movl $\low, 0x10(%rbx)
	movl $(0x11 + 2 * \pin), (%rbx)
	movl $\high, 0x10(%rbx)
.endm
#define IOAPIC_REGS 0xfec00000
#endif
#endif
