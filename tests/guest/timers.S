/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * All clocks count the same time: TSC, PM timer, PIT, LAPIC timer, RTC, HPET. A measurement may be spoilt by a host that is busy, so each has
 * many tries, one of which must be right; two clocks that really differ never agree. What may never be is a timer that fires early.
 */
#include "catch.h"
#define PM_TIMER 0x608
#define PM_HZ 3579545
#define TRIES 1000

/* PM timer into EAX. */
.macro PM
	movl $PM_TIMER, %edx
	inl %dx, %eax
.endm
/* TSC into RAX. */
.macro TSC
	rdtsc
	shlq $32, %rdx
	orq %rdx, %rax
.endm
/* RAX within RBX - RBX/2^slack ... RBX + RBX/2^slack, else go on at the label while R13 counts down to failure. */
.macro AGREE number, again, slack=5
	movq %rbx, %rcx
	shrq $\slack, %rcx
	leaq (%rbx,%rcx), %rdx
	subq %rcx, %rbx
	cmpq %rbx, %rax
	jb 1f
	cmpq %rdx, %rax
	jbe 2f
1:	decl %r13d
	jnz \again
	FAIL \number
2:
.endm
/* Wait for the PIT's channel 2 to count COUNT of its cycles: reads port 0x61 until OUT2. */
.macro PIT2_START count
	inb $0x61, %al
	andb $~3, %al
	outb %al, $0x61 /* gate off */
	OUT 0x43, 0xb0 /* channel 2, both bytes, mode 0 */
	OUT 0x42, (\count & 0xff)
	OUT 0x42, (\count >> 8)
	inb $0x61, %al
	orb $1, %al
	outb %al, $0x61
.endm
.macro PIT2_WAIT
94:	inb $0x61, %al
	testb $0x20, %al
	jz 94b
.endm

	.globl _start
_start:
	ENTER_PROTECTED
	ENTER_LONG
	CATCH_ALL64
	PIC_INIT
	movl $LAPIC_BASE, %r15d
	movl $0x1ff, LAPIC_SVR(%r15)

	/* ---- TSC by the PM timer: what is taken for the truth from here on, TSC cycles in 2^16 PM ticks (18 ms) in R14 ---- */
	movl $TRIES, %r13d
calibrate:
	call measure_tsc
	movq %rax, %r14
	call measure_tsc
	movq %r14, %rbx
	AGREE 1, calibrate

	/* ---- PIT channel 2: 11932 cycles are 10 ms, 35796 PM ticks ---- */
	movl $TRIES, %r13d
pit2:
	PIT2_START 11932
	PM
	movl %eax, %r12d
	PIT2_WAIT
	PM
	subl %r12d, %eax
	movl $35796, %ebx
	AGREE 2, pit2
	/*
	 * Its count goes down as it is read: 3 PM ticks a count. Both times the PM timer is read first and the count is latched next: where each
	 * access leaves the virtual machine, and slowly, any other order adds the same error to every try.
	 */
	movl $TRIES, %r13d
pit2_read:
	PIT2_START 0xffff
	PM
	movl %eax, %ebp
	call read_pit2
	movl %eax, %r12d
1:	PM
	subl %ebp, %eax
	cmpl $30000, %eax
	jb 1b
	movl %eax, %ebx
	call read_pit2
	subl %eax, %r12d
	leal (%r12,%r12,2), %eax
	AGREE 3, pit2_read

	/* ---- PIT channel 0 as an interrupt, rate generator: 8 periods of 2386 (2 ms) ---- */
	movl $0x700, LAPIC_LVT_LINT0(%r15)
	OUT 0x21, 0xfe
	movl $TRIES, %r13d
pit0:
	OUT 0x43, 0x34
	OUT 0x40, (2386 & 0xff)
	OUT 0x40, (2386 >> 8)
	movl irq_count + 4 * 0x20, %ebp
	sti
1:	hlt
	cmpl %ebp, irq_count + 4 * 0x20
	je 1b
	PM
	movl %eax, %r12d
	addl $9, %ebp
2:	hlt
	cmpl %ebp, irq_count + 4 * 0x20
	jb 2b
	cli
	PM
	subl %r12d, %eax
	andl $0xffffff, %eax
	movl $(2386 * 8 * 3), %ebx
	AGREE 4, pit0
	/* one-shot: not early; what the periods left behind may come up to a millisecond after the count, as KVM goes on with them until then */
	OUT 0x43, 0x30
	PM
	movl %eax, %r12d
	OUT 0x40, 0x00
	OUT 0x40, 0x10 /* 4096: 12288 PM ticks */
	sti
1:	PM
	subl %r12d, %eax
	andl $0xffffff, %eax
	cmpl $3580, %eax
	jb 1b
	cli
	movl irq_count + 4 * 0x20, %ebp
	PM
	subl %r12d, %eax
	andl $0xffffff, %eax
	cmpl $12284, %eax
	jae 2f /* a host that was busy for so long: it may have come */
	sti
1:	hlt
	cmpl %ebp, irq_count + 4 * 0x20
	je 1b
	cli
	PM
	subl %r12d, %eax
	andl $0xffffff, %eax
	cmpl $12284, %eax
	REQUIRE ae, 5
2:
	OUT 0x21, 0xff
	OUT 0x43, 0x30

	/* ---- LAPIC timer: its rate first (divide 1), cycles in 2^16 PM ticks in [lapic_rate] ---- */
	movl $0x10080, LAPIC_LVT_TIMER(%r15)
	movl $0xb, LAPIC_DIVIDE(%r15)
	movl $TRIES, %r13d
lapic:
	call measure_lapic
	movq %rax, lapic_rate
	call measure_lapic
	movq lapic_rate, %rbx
	AGREE 6, lapic
	/* divide 16 is a sixteenth */
	movl $3, LAPIC_DIVIDE(%r15)
	movl $TRIES, %r13d
lapic16:
	call measure_lapic
	shlq $4, %rax
	movq lapic_rate, %rbx
	AGREE 7, lapic16
	/* one-shot of 2^16 PM ticks: not early, once, and in time; the count is 0 then */
	movl $0xb, LAPIC_DIVIDE(%r15)
	movl $0x80, LAPIC_LVT_TIMER(%r15)
	movl $TRIES, %r13d
lapic_shot:
	movl irq_count + 4 * 0x80, %ebp
	PM
	movl %eax, %r12d
	movq lapic_rate, %rax
	movl %eax, LAPIC_INITIAL(%r15)
	sti
1:	hlt
	cmpl %ebp, irq_count + 4 * 0x80
	je 1b
	cli
	PM
	subl %r12d, %eax
	cmpl $(0x10000 - 0x800), %eax /* as exact as the rate was measured */
	REQUIRE ae, 8
	cmpl $0, LAPIC_CURRENT(%r15)
	REQUIRE e, 9
	movl $0x10000, %ebx
	AGREE 10, lapic_shot, 2 /* an interrupt takes its time */
	/* periodic: 8 periods of 2^13 ticks */
	movl $0x20081, LAPIC_LVT_TIMER(%r15)
	movq lapic_rate, %rax
	shrq $3, %rax
	movl %eax, LAPIC_INITIAL(%r15)
	movl $TRIES, %r13d
lapic_periodic:
	movl irq_count + 4 * 0x81, %ebp
	sti
1:	hlt
	cmpl %ebp, irq_count + 4 * 0x81
	je 1b
	PM
	movl %eax, %r12d
	addl $9, %ebp
2:	hlt
	cmpl %ebp, irq_count + 4 * 0x81
	jb 2b
	cli
	PM
	subl %r12d, %eax
	movl $0x10000, %ebx
	AGREE 11, lapic_periodic
	/* initial count 0 stops it */
	movl $0, LAPIC_INITIAL(%r15)
	sti
	nop
	cli
	movl irq_count + 4 * 0x81, %ebp
	call measure_tsc
	sti
	nop
	cli
	cmpl %ebp, irq_count + 4 * 0x81
	REQUIRE e, 12
	/* masked: nothing is delivered, but it counts */
	movl $0x10082, LAPIC_LVT_TIMER(%r15)
	movl $1000, LAPIC_INITIAL(%r15)
1:	cmpl $0, LAPIC_CURRENT(%r15)
	jne 1b
	sti
	nop
	cli
	cmpl $0, irq_count + 4 * 0x82
	REQUIRE e, 13

	/* ---- TSC deadline ---- */
	movl $1, %eax
	cpuid
	btl $24, %ecx
	jnc no_deadline
	movl $0x40083, LAPIC_LVT_TIMER(%r15)
	mfence
	TSC
	movq %r14, %rcx
	shrq $3, %rcx /* 2^13 PM ticks */
	leaq (%rax,%rcx), %r12
	movl irq_count + 4 * 0x83, %ebp
	movq %r12, %rax
	movq %r12, %rdx
	shrq $32, %rdx
	movl $0x6e0, %ecx
	wrmsr
	sti
1:	hlt
	cmpl %ebp, irq_count + 4 * 0x83
	je 1b
	cli
	TSC
	cmpq %r12, %rax
	REQUIRE ae, 14
	rdmsr
	orl %edx, %eax
	REQUIRE z, 15
	/* the past fires at once */
	movl $1, %eax
	xorl %edx, %edx
	wrmsr
	sti
1:	pause
	cmpl $2, irq_count + 4 * 0x83
	jb 1b
	cli
	/* 0 disarms; not where a host was busy until the deadline */
	movl $TRIES, %r13d
disarm:
	sti
	nop
	cli
	movl irq_count + 4 * 0x83, %ebp
	TSC
	leaq (%rax,%r14), %r12
	movq %r12, %rax
	movq %r12, %rdx
	shrq $32, %rdx
	movl $0x6e0, %ecx
	wrmsr
	rdmsr
	orl %edx, %eax
	movl %eax, %r8d
	xorl %eax, %eax
	xorl %edx, %edx
	wrmsr
	TSC
	cmpq %r12, %rax
	jb 1f
	decl %r13d
	jnz disarm
	FAIL 16
1:	testl %r8d, %r8d
	REQUIRE nz, 16
	call measure_tsc
	call measure_tsc
	sti
	nop
	cli
	cmpl %ebp, irq_count + 4 * 0x83
	REQUIRE e, 17
	movl $0x10000, LAPIC_LVT_TIMER(%r15)
no_deadline:

	/* ---- RTC: periodic flag at 64 Hz, 4 of them are 223722 PM ticks. Faster ones are lost on a busy host ---- */
	OUT 0x70, 0x0a
	OUT 0x71, 0x2a
	OUT 0x70, 0x0b
	inb $0x71, %al
	orb $0x40, %al /* PIE: some clocks tick only then */
	movb %al, %bl
	OUT 0x70, 0x0b
	movb %bl, %al
	outb %al, $0x71
	movl $TRIES, %r13d
rtc:
	OUT 0x70, 0x0c
	inb $0x71, %al
	call rtc_tick
	PM
	movl %eax, %r12d
	movl $4, %ebp
1:	call rtc_tick
	decl %ebp
	jnz 1b
	PM
	subl %r12d, %eax
	movl $223722, %ebx
	AGREE 18, rtc, 4

	/* ---- HPET, where there is one ---- */
	movl $0xfed00000, %esi
	movl 4(%rsi), %r8d /* femtoseconds a tick */
	leal -1(%r8), %eax
	cmpl $100000000, %eax
	jae no_hpet
	movl $1, 0x10(%rsi)
	movl $TRIES, %r13d
hpet:
	PM
	movl %eax, %r12d
	movq 0xf0(%rsi), %r9
1:	PM
	subl %r12d, %eax
	cmpl $0x8000, %eax
	jb 1b
	movq 0xf0(%rsi), %rbp
	movl %eax, %eax
	movabsq $279365115, %rbx /* femtoseconds a PM tick */
	imulq %rax, %rbx
	movq %rbp, %rax
	subq %r9, %rax
	imulq %r8, %rax
	AGREE 19, hpet
no_hpet:
	/* ---- the TSC never goes back; read twice within one of its ticks it is the same ---- */
	movl $1000, %ecx
	TSC
	movq %rax, %rsi
1:	TSC
	cmpq %rsi, %rax
	REQUIRE ae, 20
	movq %rax, %rsi
	decl %ecx
	jnz 1b
	PASS

/* TSC cycles in 2^16 PM ticks. */
measure_tsc:
	PM
	movl %eax, %r12d
	TSC
	movq %rax, %r10
1:	PM
	subl %r12d, %eax
	cmpl $0x8000, %eax
	jb 1b
	movl %eax, %ebx
	TSC
	subq %r10, %rax
	shlq $16, %rax
	xorl %edx, %edx
	divq %rbx
	ret
/* LAPIC timer cycles in 2^16 PM ticks. */
measure_lapic:
	movl $-1, LAPIC_INITIAL(%r15)
	PM
	movl %eax, %r12d
	movl LAPIC_CURRENT(%r15), %r10d
1:	PM
	subl %r12d, %eax
	cmpl $0x8000, %eax
	jb 1b
	movl %eax, %ebx
	movl %r10d, %eax
	subl LAPIC_CURRENT(%r15), %eax
	shlq $16, %rax
	xorl %edx, %edx
	divq %rbx
	ret
read_pit2:
	OUT 0x43, 0x80 /* latch channel 2 */
	inb $0x42, %al
	movb %al, %cl
	inb $0x42, %al
	movb %al, %ch
	movzwl %cx, %eax
	ret
rtc_tick:
	OUT 0x70, 0x0c
1:	inb $0x71, %al
	testb $0x40, %al
	jz 1b
	ret
	.balign 8
lapic_rate: .quad 0
	CATCHERS64
	TABLES
