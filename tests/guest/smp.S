/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Several vcpus: INIT and SIPI, locked instructions, IPIs to one, many and all, NMI to all, TLB shootdown, INIT of a running vcpu. */
#include "catch.h"

#define ROUNDS 5000
#define SPLIT_ROUNDS 50 /* a lock over two cache lines: some hosts make that slow on purpose */
#define SHOTS 20
#define AP_STACKS 0x200000
#define WINDOW_VA 0x3000000 /* 48 MiB; shows one of 8 frames from 32 MiB on */
#define WINDOW_PDE (PAGE_TABLES + 0x2000 + 24 * 8)
#define FRAMES 0x2000000

/* Where everybody goes through, by the count of those who came; R14D is the number of vcpus. */
.macro BARRIER
	lock incl barrier
	incl %r13d
	movl %r13d, %eax
	imull %r14d, %eax
93:	pause
	cmpl %eax, barrier
	jb 93b
.endm
/* Waits for memory to reach a value; what hangs here is told by the time limit and RIP. */
.macro AWAIT value, place
93:	pause
	cmpl \value, \place
	jne 93b
.endm
.macro SETTLE_ICR
93:	pause
	testl $0x1000, LAPIC_ICR(%r15)
	jnz 93b
.endm
.macro SIPI_ALL
	movl $(0xc4600 | ap_start_page), LAPIC_ICR(%r15)
	SETTLE_ICR
.endm

	.globl _start
_start:
	ENTER_PROTECTED
	ENTER_LONG
	CATCH_ALL64
	GATE 2, nmi
	GATE 0x60, shoot
	GATE 0x61, halted_handler
	movl $LAPIC_BASE, %r15d
	movl $0x1ff, LAPIC_SVR(%r15)
	xorl %r13d, %r13d
	inb $(PORT_WORLD + WORLD_VCPUS), %al
	movzbl %al, %r14d
	movl %r14d, vcpus
	/* fw_cfg key 5 says the same */
	movw $0x510, %dx
	movw $5, %ax
	outw %ax, %dx
	incl %edx
	inb %dx, %al
	cmpb %r14b, %al
	REQUIRE e, 1
	/* the others wait for SIPI, and only for that */
	movl $0xc4040, LAPIC_ICR(%r15)
	SETTLE_ICR
	movl $0xc4500, LAPIC_ICR(%r15) /* INIT */
	SETTLE_ICR
	movl $2000, %ecx
1:	pause
	decl %ecx
	jnz 1b
	cmpl $0, online
	REQUIRE e, 2
	SIPI_ALL
	leal -1(%r14), %ebp
	AWAIT %ebp, online
	/* one that runs ignores SIPI */
	SIPI_ALL
	/* all of them, each once */
	movl $1, %eax
	movl %r14d, %ecx
	shll %cl, %eax
	decl %eax
	movl LAPIC_ID(%r15), %ecx
	shrl $24, %ecx
	lock btsl %ecx, apic_ids
	cmpl %eax, apic_ids
	REQUIRE e, 3
	xorl %r12d, %r12d
	movl $0xffffffff, LAPIC_DFR(%r15)
	movl $0x01000000, LAPIC_LDR(%r15)
	call together

	/* ---- what the counters came to ---- */
	movl $ROUNDS, %eax
	mull %r14d
	cmpl %eax, by_xadd
	REQUIRE e, 10
	cmpl %eax, by_cmpxchg
	REQUIRE e, 11
	cmpl %eax, by_spinlock
	REQUIRE e, 12
	cmpw %ax, by_inc
	REQUIRE e, 13
	cmpl %eax, by_cmpxchg16b
	REQUIRE e, 14
	cmpl %eax, by_cmpxchg16b + 8
	REQUIRE e, 14
	movl %eax, %ecx /* every value from 0 on was seen once */
	leaq -1(%rcx), %rdx
	imulq %rdx, %rcx
	shrq $1, %rcx
	cmpq %rcx, xadd_sum
	REQUIRE e, 15
	movl $SPLIT_ROUNDS, %eax
	mull %r14d
	cmpl %eax, line_end - 2
	REQUIRE e, 16
	cmpl %eax, page_end - 2
	REQUIRE e, 17
	testl $1, bits /* even: every vcpu has toggled it an even number of times */
	REQUIRE z, 18

	/* ---- IPIs: the others are in HLT with interrupts on ---- */
	AWAIT %ebp, halting
	movl $0xc4061, LAPIC_ICR(%r15)
	AWAIT %ebp, "irq_count + 4 * 0x61"
	/* each of them by its physical ID, then by its logical one */
	movl $1, %esi
1:	cmpl %r14d, %esi
	je 2f
	movl %esi, %eax
	shll $24, %eax
	movl %eax, LAPIC_ICR_HIGH(%r15)
	movl $0x4061, LAPIC_ICR(%r15)
	leal (%rbp,%rsi), %ebx
	AWAIT %ebx, "irq_count + 4 * 0x61"
	cmpl %esi, last_halted
	REQUIRE e, 20
	incl %esi
	jmp 1b
2:	movl $0xfe000000, LAPIC_ICR_HIGH(%r15)
	movl $0x4861, LAPIC_ICR(%r15)
	imull $3, %ebp, %ebx
	AWAIT %ebx, "irq_count + 4 * 0x61"
	/* all including self */
	sti
	movl $0x84061, LAPIC_ICR(%r15)
	leal 1(,%rbp,4), %ebx
	AWAIT %ebx, "irq_count + 4 * 0x61"
	cli
	/* lowest priority: one of them, whoever */
	movl $0xfe000000, LAPIC_ICR_HIGH(%r15)
	movl $0x4962, LAPIC_ICR(%r15)
	AWAIT $1, "irq_count + 4 * 0x62"
	/* NMI */
	movl $0xc4400, LAPIC_ICR(%r15)
	AWAIT %ebp, nmis
	/* nobody has got more than was sent */
	cmpl %ebx, irq_count + 4 * 0x61
	REQUIRE e, 21
	cmpl $1, irq_count + 4 * 0x62
	REQUIRE e, 22

	/* ---- TLB shootdown ---- */
	movl $1, stage
	movl $0xc4063, LAPIC_ICR(%r15) /* out of HLT */
	AWAIT %ebp, looking
	movl $1, %esi
1:	movl %esi, %eax
	andl $7, %eax
	shll $21, %eax
	addl $FRAMES, %eax
	movl %esi, (%rax)
	orl $0x87, %eax
	movl %eax, WINDOW_PDE
	invlpg WINDOW_VA
	cmpl %esi, WINDOW_VA
	REQUIRE e, 30
	movl $0, acknowledged
	movl $0xc4060, LAPIC_ICR(%r15)
	AWAIT %ebp, acknowledged
	movl %esi, generation /* older than this nobody may see now */
	incl %esi
	cmpl $(SHOTS + 1), %esi
	jne 1b
	movl $2, stage
	AWAIT %ebp, looked
	cmpl $0, stale
	REQUIRE e, 31

	/* ---- INIT takes a vcpu that runs out of what it does; SIPI brings it back from the start ---- */
	movl $0x01000000, LAPIC_ICR_HIGH(%r15)
	movl $0x4500, LAPIC_ICR(%r15)
	SETTLE_ICR
	movl $2000, %ecx
1:	pause
	decl %ecx
	jnz 1b
	movl $3, stage
	movl $(0x4600 | ap_start_page), LAPIC_ICR(%r15)
	leal 1(%rbp), %ebx
	AWAIT %ebx, online
	AWAIT $1, again
	PASS

/* ---- what all do, this vcpu's index in R12D ---- */
together:
	BARRIER
	movl $ROUNDS, %ebx
	xorl %esi, %esi
1:	movl $1, %eax
	lock xaddl %eax, by_xadd
	addq %rax, %rsi
	lock incw by_inc
	lock btcl $0, bits
	movl by_cmpxchg, %eax
2:	leal 1(%rax), %ecx
	lock cmpxchgl %ecx, by_cmpxchg
	jne 2b
3:	movb $1, %al
	xchgb %al, spinlock
	testb %al, %al
	jz 4f
	pause
	jmp 3b
4:	incl by_spinlock
	movb $0, spinlock
	pushq %rbx
	movq by_cmpxchg16b, %rax
	movq by_cmpxchg16b + 8, %rdx
5:	leaq 1(%rax), %rbx
	leaq 1(%rdx), %rcx
	lock cmpxchg16b by_cmpxchg16b
	jne 5b
	popq %rbx
	decl %ebx
	jnz 1b
	lock addq %rsi, xadd_sum
	movl $SPLIT_ROUNDS, %ebx
1:	lock incl line_end - 2
	lock incl page_end - 2
	decl %ebx
	jnz 1b
	BARRIER
	ret

	.balign 4096
ap_start:
	.set ap_start_page, (ap_start - _start + GUEST_BASE) >> 12
	.code16
	cli
	xorw %ax, %ax
	movw %ax, %ds
	lgdtl gdt_pointer
	movl %cr0, %eax
	/* INIT leaves CD and NW as they are, and clears all but ET */
	andl $~0x60000000, %eax
	cmpl $0x10, %eax
	jne 1f
	orl $1, %eax
	movl %eax, %cr0
	ljmpl $SEL_CODE32, $ap32
1:	FAIL 40
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
	orl $0x901, %eax
	wrmsr
	movl $0x80010013, %eax
	movl %eax, %cr0
	ljmpl $SEL_CODE64, $ap64
	.code64
ap64:
	lidt idt_pointer
	movl $LAPIC_BASE, %r15d
	movl $0x1ff, LAPIC_SVR(%r15)
	movl LAPIC_ID(%r15), %r12d
	shrl $24, %r12d
	leal 1(%r12), %eax
	shll $12, %eax
	leal AP_STACKS(%rax), %esp
	cmpl $3, stage
	je ap_again
	movl $0xffffffff, LAPIC_DFR(%r15)
	movl $0x1000000, %eax
	movl %r12d, %ecx
	shll %cl, %eax
	movl %eax, LAPIC_LDR(%r15)
	lock btsl %r12d, apic_ids
	jnc 1f
	FAIL 41
1:	/* the initial APIC ID of CPUID is the LAPIC's */
	movl $1, %eax
	cpuid
	shrl $24, %ebx
	cmpl %r12d, %ebx
	REQUIRE e, 42
	/* the bootstrap processor is another one */
	movl $0x1b, %ecx
	rdmsr
	testl $0x100, %eax
	REQUIRE z, 43
	xorl %r13d, %r13d
	movl vcpus, %r14d
	lock incl online
	call together
	lock incl halting
1:	sti
	hlt
	cli
	cmpl $0, stage
	je 1b
	/* the window, again and again */
	sti
	movl WINDOW_VA, %eax
	lock incl looking
1:	movl generation, %eax
	movl WINDOW_VA, %ecx
	cmpl %eax, %ecx
	jae 2f
	lock incl stale
2:	pause
	cmpl $1, stage
	je 1b
	cli
	lock incl looked
1:	pause
	jmp 1b
ap_again:
	lock incl online
	cmpl $1, %r12d
	REQUIRE e, 44
	movl $1, again
1:	hlt
	jmp 1b

nmi:
	lock incl nmis
	iretq
shoot:
	pushq %rax
	invlpg WINDOW_VA
	movl $LAPIC_BASE, %eax
	movl $0, LAPIC_EOI(%rax)
	lock incl acknowledged
	popq %rax
	iretq
halted_handler:
	pushq %rax
	movl %r12d, last_halted
	movl $LAPIC_BASE, %eax
	movl $0, LAPIC_EOI(%rax)
	lock incl irq_count + 4 * 0x61
	popq %rax
	iretq

	.balign 16
by_cmpxchg16b: .quad 0, 0
xadd_sum: .quad 0
vcpus: .long 0
online: .long 0
apic_ids: .long 0
barrier: .long 0
by_xadd: .long 0
by_cmpxchg: .long 0
by_spinlock: .long 0
by_inc: .long 0
bits: .long 0
spinlock: .long 0
halting: .long 0
last_halted: .long 0
nmis: .long 0
stage: .long 0
looking: .long 0
looked: .long 0
stale: .long 0
acknowledged: .long 0
generation: .long 0
again: .long 0
	.balign 64
	.fill 64, 1, 0
line_end:
	.fill 64, 1, 0
	.balign 4096, 0
page_end:
	.fill 64, 1, 0
	CATCHERS64
	TABLES
