/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Several vcpus: INIT and SIPI, IPIs, locked counters, TLB shootdown, memory order, code written by another vcpu. */
#include "catch.h"
#define TRAMPOLINE 0x10000
#define TURNS 3000
#define SHARED 0x1400000 /* 20 MiB: shot down; PD 0 entry 10 */

/* All vcpus at the same place; clobbers EAX, ECX. Each call is a meeting of its own. */
.macro MEET
	movl $1, %eax
	lock xaddl %eax, arrived
	xorl %edx, %edx
	movl vcpus, %ecx
	divl %ecx
	incl %eax
	imull %ecx, %eax
94:	pause
	cmpl %eax, arrived
	jl 94b
.endm
.macro IPI_OTHERS vector
	movl $(0xc4000 | \vector), LAPIC_ICR(%r15)
.endm

	.globl _start
_start:
	ENTER_PROTECTED
	ENTER_LONG
	CATCH_ALL64
	GATE 0x51, shootdown
	GATE 2, nmi
	movl $LAPIC_BASE, %r15d
	movl $0x1ff, LAPIC_SVR(%r15)
	inb $(PORT_WORLD + WORLD_VCPUS), %al
	movzbl %al, %eax
	movl %eax, vcpus
	/* INIT and SIPI to all others */
	movl $(ap_end - ap_start), %ecx
	movl $ap_start, %esi
	movl $TRAMPOLINE, %edi
	rep movsb
	movl $0xc4500, LAPIC_ICR(%r15)
	movl $(0xc4600 | TRAMPOLINE >> 12), LAPIC_ICR(%r15)
1:	pause
	movl online, %eax
	incl %eax
	cmpl vcpus, %eax
	jne 1b
	/* a second SIPI to a running vcpu is nothing */
	movl $(0xc4600 | TRAMPOLINE >> 12), LAPIC_ICR(%r15)
	MEET
	movl online, %eax
	incl %eax
	cmpl vcpus, %eax
	REQUIRE e, 1
	movl $1, %r14d /* the first vcpu */
	call work
	/* what the counters must be */
	movl vcpus, %eax
	imull $TURNS, %eax
	cmpl %eax, xadd_counter
	REQUIRE e, 2
	cmpl %eax, cmpxchg_counter
	REQUIRE e, 3
	cmpl %eax, locked_counter
	REQUIRE e, 4
	cmpl %eax, inc_counter
	REQUIRE e, 5
	cmpq %rax, wide_counter
	REQUIRE e, 6
	cmpq %rax, wide_counter + 8
	REQUIRE e, 6

	/* ---- IPIs: to all others, to all, to one after the other ---- */
	MEET
	sti
	IPI_OTHERS 0x60
	movl $0x84061, LAPIC_ICR(%r15)
	movl $1, %ebx
2:	cmpl vcpus, %ebx
	je 3f
	movl %ebx, %eax
	shll $24, %eax
	movl %eax, LAPIC_ICR_HIGH(%r15)
	movl $0x4062, LAPIC_ICR(%r15)
	incl %ebx
	jmp 2b
3:	movl vcpus, %eax
	leal -1(%rax), %ebx
4:	pause
	cmpl %ebx, irq_count + 4 * 0x60
	jne 4b
	cmpl %eax, irq_count + 4 * 0x61
	jne 4b
	cmpl %ebx, irq_count + 4 * 0x62
	jne 4b
	/* NMI to all others */
	movl $0xc4400, LAPIC_ICR(%r15)
5:	pause
	cmpl %ebx, nmis
	jne 5b
	MEET

	/* ---- TLB shootdown ---- */
	movl $50, %r13d
shoot:
	/* the page moves between two frames; both hold their own number */
	movl $0x1600000, %eax
	testl $1, %r13d
	jz 1f
	movl $0x1800000, %eax
1:	movl %eax, (%rax)
	movl %eax, expected
	orl $0x87, %eax
	movl %eax, PAGE_TABLES + 0x2000 + 8 * 10
	invlpg SHARED
	movl $0, shot
	IPI_OTHERS 0x51
2:	pause
	cmpl %ebx, shot
	jne 2b
	MEET /* all look */
	movl SHARED, %eax
	cmpl expected, %eax
	REQUIRE e, 10
	MEET
	decl %r13d
	jnz shoot

	/* ---- message passing: who sees the flag sees the data ---- */
	xorl %ebx, %ebx
1:	incl %ebx
	movl %ebx, message
	movl %ebx, message_flag
	cmpl $TURNS, %ebx
	jne 1b
	MEET

	/* ---- code written here, executed there ---- */
	movl $30, %ebx
1:	movb %bl, patched + 1
	MEET
	MEET
	decl %ebx
	jnz 1b
	cmpl $0, code_errors
	REQUIRE e, 12

	/* ---- a vcpu that got INIT starts anew ---- */
	MEET
	cli
	movl $0x01000000, LAPIC_ICR_HIGH(%r15)
	movl $0x4500, LAPIC_ICR(%r15)
	movl $(0x4600 | TRAMPOLINE >> 12), LAPIC_ICR(%r15)
1:	pause
	movl online, %eax
	cmpl vcpus, %eax
	jne 1b
	PASS

/* What all of them do at once: count in every locked way. */
work:
	movl $TURNS, %ebx
1:	movl $1, %eax
	lock xaddl %eax, xadd_counter
	movl cmpxchg_counter, %eax
2:	leal 1(%rax), %ecx
	lock cmpxchgl %ecx, cmpxchg_counter
	jne 2b
	lock incl inc_counter
	/* a lock by XCHG around a plain increment */
3:	movl $1, %eax
	xchgl %eax, lock_word
	testl %eax, %eax
	jz 4f
	pause
	jmp 3b
4:	incl locked_counter
	movl $0, lock_word
	/* 16 bytes at once, where the CPU can */
	cmpb $0, has_cx16
	je 6f
	pushq %rbx
	movq wide_counter, %rax
	movq wide_counter + 8, %rdx
5:	leaq 1(%rax), %rbx
	leaq 1(%rdx), %rcx
	lock cmpxchg16b wide_counter
	jne 5b
	popq %rbx
	jmp 7f
6:	lock incq wide_counter
	lock incq wide_counter + 8
7:	decl %ebx
	jnz 1b
	MEET
	ret

/* The other vcpus from here on; their number in R14 (2...). */
ap_main:
	movl $LAPIC_BASE, %r15d
	movl $0x1ff, LAPIC_SVR(%r15)
	lock incl online
	cmpb $0, restarted
	jne park
	MEET
	call work
	MEET
	sti
	MEET
	movl $50, %r13d
1:	MEET
	movl SHARED, %eax
	cmpl expected, %eax
	REQUIRE e, 11
	MEET
	decl %r13d
	jnz 1b
2:	movl message_flag, %eax
	movl message, %ecx
	cmpl %eax, %ecx
	REQUIRE ae, 13
	cmpl $TURNS, %eax
	jne 2b
	MEET
	movl $30, %ebx
3:	MEET
	xorl %eax, %eax
	pushq %rbx
	cpuid
	popq %rbx
	call patched
	cmpl %ebx, %eax
	je 4f
	lock incl code_errors
4:	MEET
	decl %ebx
	jnz 3b
	cli
	movb $1, restarted
	MEET
park:
	cli
	hlt
	jmp park

patched:
	movl $0, %eax
	ret
shootdown:
	invlpg SHARED
	lock incl shot
	movl $0, LAPIC_EOI(%r15)
	iretq
nmi:
	lock incl nmis
	iretq

/* From real mode at a page of its own; addresses inside are relative to CS. */
	.code16
ap_start:
	cli
	movw %cs, %ax
	movw %ax, %ds
	lgdtl ap_gdt_pointer - ap_start
	movl %cr0, %eax
	orb $1, %al
	movl %eax, %cr0
	ljmpl $SEL_CODE32, $ap_protected
ap_gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
ap_end:
	.code32
ap_protected:
	movw $SEL_DATA, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movl $0x620, %eax
	movl %eax, %cr4
	movl $PAGE_TABLES, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x901, %eax
	wrmsr
	movl %cr0, %eax
	orl $0x80010002, %eax
	andl $~0x60000004, %eax
	movl %eax, %cr0
	ljmpl $SEL_CODE64, $ap_long
	.code64
ap_long:
	movl $2, %r14d
	movl $1, %eax
	lock xaddl %eax, stacks
	shll $12, %eax
	leal 0x40000(%rax), %esp
	lidt idt_pointer
	jmp ap_main

	.balign 64
xadd_counter: .long 0
cmpxchg_counter: .long 0
inc_counter: .long 0
locked_counter: .long 0
lock_word: .long 0
arrived: .long 0
	.balign 64
wide_counter: .quad 0, 0
vcpus: .long 0
online: .long 0
stacks: .long 1
nmis: .long 0
shot: .long 0
expected: .long 0
code_errors: .long 0
has_cx16: .byte 1
restarted: .byte 0
	.balign 64
message: .long 0
	.balign 64
message_flag: .long 0
	CATCHERS64
	TABLES
