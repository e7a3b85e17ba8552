/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every clock of the machine against the TSC, and every timer interrupt: it comes, it does not come early, it comes no more than asked for.
 *
 * Nothing depends on how long the host lets us wait: a clock is read between two reads of the TSC, so that what the TSC did between two such
 * readings has bounds that hold however often this vcpu was put aside; a reading with wide bounds is taken again.
 */
#include "catch.h"

#define RTC_VECTOR (PIC_FIRST + 8)
#define PIT_VECTOR PIC_FIRST
#define PIT_HZ 1193182
#define PM_TIMER 0x608
#define PM_HZ 3579545
#define LAPIC_HZ 1000000000 /* ours and KVM's */
#define HPET 0xfed00000
#define TRIES 400

	.globl _start
_start:
	ENTER_PROTECTED
	ENTER_LONG
	CATCH_ALL64
	PIC_INIT
	movl $LAPIC_BASE, %r15d
	movl $0x1ff, LAPIC_SVR(%r15)
	movl $0, LAPIC_TPR(%r15)

	/* ---- how fast the TSC is, by the PM timer ---- */
	movl $read_pm, %r12d
	movl $0xffffffff, %r13d
	movl $(PM_HZ / 50), %r11d
	movq $-1, %rbp
	call measure
	leaq (%rcx,%rdx), %rax
	shrq $1, %rax
	movl $PM_HZ, %edx
	mulq %rdx
	divq %rbx
	movq %rax, tsc_hz
	/* longer than this, and a clock of 16 bits at the PIT's rate may have wrapped: 40 ms */
	xorl %edx, %edx
	movl $25, %ecx
	divq %rcx
	movq %rax, limit
	/* what the hypervisor's leaf says of it */
	movl $0x40000000, %eax
	cpuid
	cmpl $0x40000010, %eax
	jb 1f
	movl $0x40000010, %eax
	cpuid
	testl %eax, %eax
	jz 1f
	imulq $1000, %rax
	movq tsc_hz, %rcx
	movq %rcx, %rdx
	call near
	REQUIRE e, 1
1:
	/* ---- counters ---- */
	/* LAPIC, divided by 16, then by 128 */
	movl $0x10040, LAPIC_LVT_TIMER(%r15)
	movl $3, LAPIC_DIVIDE(%r15)
	movl $-1, LAPIC_INITIAL(%r15)
	movl $read_lapic, %r12d
	movl $0xffffffff, %r13d
	movl $(LAPIC_HZ / 16), %r14d
	call compare
	REQUIRE e, 2
	movl $0, LAPIC_INITIAL(%r15)
	movl $0xa, LAPIC_DIVIDE(%r15)
	movl $-1, LAPIC_INITIAL(%r15)
	movl $(LAPIC_HZ / 128), %r14d
	call compare
	REQUIRE e, 3
	movl $0, LAPIC_INITIAL(%r15)
	cmpl $0, LAPIC_CURRENT(%r15)
	REQUIRE e, 4
	/* PIT channel 0, mode 2, from 65536 down */
	OUT 0x43, 0x34
	OUT 0x40, 0
	OUT 0x40, 0
	movl $read_pit, %r12d
	movl $0xffff, %r13d
	movl $PIT_HZ, %r14d
	call compare
	REQUIRE e, 5
	/* HPET; not everywhere */
	movl $HPET, %ebx
	movl 4(%rbx), %ecx /* femtoseconds a tick */
	leal -1(%rcx), %eax
	cmpl $100000000, %eax
	jae 1f
	movl $0, 0x10(%rbx)
	movq $0, 0xf0(%rbx)
	movl $1, 0x10(%rbx)
	movabsq $1000000000000000, %rax
	xorl %edx, %edx
	divq %rcx
	movl %eax, %r14d
	movl %eax, hpet_hz
	movl $read_hpet, %r12d
	movl $0xffffffff, %r13d
	call compare
	REQUIRE e, 6
	movl $HPET, %ebx
	movl $0, 0x10(%rbx)
	movl 0xf0(%rbx), %eax /* and now it stands */
	cmpl %eax, 0xf0(%rbx)
	REQUIRE e, 7
1:
	/* ---- LAPIC timer ---- */
	movl $0xb, LAPIC_DIVIDE(%r15)
	movl $0x40, LAPIC_LVT_TIMER(%r15)
	movl $0x40, %ebx
	call start
	movl $(LAPIC_HZ / 500), LAPIC_INITIAL(%r15)
	movl $1, %ecx
	call wait_irqs
	movl $2000, %ecx
	call not_early
	REQUIRE ae, 10
	cmpl $0, LAPIC_CURRENT(%r15)
	REQUIRE e, 11
	movl $6000, %ecx
	call pass_time
	cmpl $1, irq_count + 4 * 0x40
	REQUIRE e, 12
	/* masked it counts and says nothing */
	movl $0x10040, LAPIC_LVT_TIMER(%r15)
	movl $(LAPIC_HZ / 1000), LAPIC_INITIAL(%r15)
	movl $3000, %ecx
	call pass_time
	cmpl $1, irq_count + 4 * 0x40
	REQUIRE e, 13
	/* periodic */
	movl $0x20041, LAPIC_LVT_TIMER(%r15)
	movl $0x41, %ebx
	call start
	movl $(LAPIC_HZ / 1000), LAPIC_INITIAL(%r15)
	movl $10, %ecx
	call wait_irqs
	movl $10000, %ecx
	call not_early
	REQUIRE ae, 14
	movl $0, LAPIC_INITIAL(%r15)
	call drain
	call start
	movl $4000, %ecx
	call pass_time
	cmpl $0, irq_count + 4 * 0x41
	REQUIRE e, 15
	/* TSC deadline */
	movl $1, %eax
	cpuid
	btl $24, %ecx
	jnc no_deadline
	movl $0x40042, LAPIC_LVT_TIMER(%r15)
	mfence
	movl $0x42, %ebx
	call start
	movl $2000, %ecx
	call set_deadline
	movl $1, %ecx
	call wait_irqs
	movl $2000, %ecx
	call not_early
	REQUIRE ae, 16
	movl $0x6e0, %ecx
	rdmsr
	orl %edx, %eax
	REQUIRE z, 17
	/* one that is past already comes at once */
	movl $0, %edx
	movl $1, %eax
	wrmsr
	movl $2, %ecx
	call wait_irqs
	/* 0 calls it off; again if that was so slow that it expired before */
1:	call start
	movl $5000, %ecx
	call set_deadline
	movq %rax, %rsi
	xorl %eax, %eax
	xorl %edx, %edx
	movl $0x6e0, %ecx
	wrmsr
	call tsc
	cmpq %rsi, %rax
	jae 1b
	movl $8000, %ecx
	call pass_time
	cmpl $0, irq_count + 4 * 0x42
	REQUIRE e, 18
	/* the initial count means nothing in this mode */
	movl $-1, LAPIC_INITIAL(%r15)
	cmpl $0, LAPIC_CURRENT(%r15)
	REQUIRE e, 19
no_deadline:
	movl $0x10040, LAPIC_LVT_TIMER(%r15)

	/* ---- PIT by the PIC: mode 2 at 1 kHz, then mode 0 ---- */
	movl $0x700, LAPIC_LVT_LINT0(%r15)
	OUT 0x43, 0x34
	OUT 0x40, (1193 & 0xff)
	OUT 0x40, (1193 >> 8)
	OUT 0x21, 0xfa /* open: 0, 2 */
	sti
	/* KVM makes up for ticks that its host was late with, ours brings late what a thread was put aside with: so there are tries. */
	movl $PIT_VECTOR, %ebx
	movl $20, %ebp
1:	decl %ebp
	REQUIRE ns, 20
	call start
	movl $10, %ecx
	call wait_irqs
	movl $7900, %ecx /* the first may be one that was due, the second under way */
	call not_early
	jb 1b
	movl $20, %ebp
1:	decl %ebp
	REQUIRE ns, 21
	OUT 0x43, 0x30
	OUT 0x40, 0xff /* KVM's goes on with the old mode until there is a count */
	OUT 0x40, 0x01
	call drain
	OUT 0x43, 0x30
	call drain
	call start
	OUT 0x40, (2386 & 0xff)
	OUT 0x40, (2386 >> 8)
	movl $1, %ecx
	call wait_irqs
	movl $2000, %ecx
	call not_early
	jb 1b
	movl $6000, %ecx
	call pass_time
	cmpl $1, irq_count + 4 * PIT_VECTOR
	jne 1b

	/* ---- RTC: periodic, 1024 Hz ---- */
	GATE RTC_VECTOR, rtc_tick
	OUT 0x21, 0xfb
	OUT 0xa1, 0xfe
	OUT 0x70, 0x0a
	OUT 0x71, 0x26
	OUT 0x70, 0x0b
	inb $0x71, %al
	orb $0x40, %al
	outb %al, $0x71
	OUT 0x70, 0x0c
	inb $0x71, %al
	movl $RTC_VECTOR, %ebx
	call start
	movl $10, %ecx
	call wait_irqs
	movl $7800, %ecx /* 8 whole periods: the first may have been due, the second was under way */
	call not_early
	REQUIRE ae, 23
	OUT 0x70, 0x0b
	inb $0x71, %al
	andb $~0x40, %al
	outb %al, $0x71
	OUT 0xa1, 0xff

	/* ---- HPET comparator 0 in the PIT's place ---- */
	movl hpet_hz, %r14d
	testl %r14d, %r14d
	jz no_hpet
	movl $HPET, %ebp
	movl $0x4, 0x100(%rbp)
	movl $3, 0x10(%rbp)
	OUT 0x21, 0xfa
	call drain
	movl $PIT_VECTOR, %ebx
	call start
	movl %r14d, %eax
	xorl %edx, %edx
	movl $500, %ecx
	divl %ecx
	addl 0xf0(%rbp), %eax
	movq %rax, 0x108(%rbp)
	/* A host slow enough to let the comparator be passed before it was written would have us wait for a wrap. */
1:	cli
	cmpl $0, irq_count + 4 * PIT_VECTOR
	jne 2f
	movl 0xf0(%rbp), %edx
	subl 0x108(%rbp), %edx
	js 3f
	sti
	movl $1000, %ecx
	call pass_time
	cmpl $0, irq_count + 4 * PIT_VECTOR
	REQUIRE ne, 24
	jmp 2f
3:	sti
	pause
	jmp 1b
2:	movl $1, %ecx
	call wait_irqs
	movl $2000, %ecx
	call not_early
	REQUIRE ae, 25
	movl $6000, %ecx
	call pass_time
	cmpl $1, irq_count + 4 * PIT_VECTOR
	REQUIRE e, 26
no_hpet:
	PASS

/* EAX: a clock's count now, going up. Clobbers RDX. */
read_pm:
	movl $PM_TIMER, %edx
	inl %dx, %eax
	ret
read_lapic:
	movl LAPIC_CURRENT(%r15), %eax
	negl %eax
	ret
read_pit:
	OUT 0x43, 0
	inb $0x40, %al
	movb %al, %dl
	inb $0x40, %al
	movb %al, %dh
	movzwl %dx, %eax
	negl %eax
	ret
read_hpet:
	movl HPET + 0xf0, %eax
	ret

/* RAX: the TSC. Clobbers RDX. */
tsc:
	lfence
	rdtsc
	lfence
	shlq $32, %rdx
	orq %rdx, %rax
	ret
/* The clock of R12: RDI the TSC before, ESI the count, RAX the TSC after. Clobbers RDX. */
sample:
	call tsc
	movq %rax, %rdi
	call *%r12
	movl %eax, %esi
	jmp tsc

/*
 * Watches the clock of R12 (mask R13) for R11 counts or more, and no longer than RBP of the TSC: RBX counts took at least RCX and at most RDX of
 * the TSC.
 */
measure:
	movl $TRIES, tries
1:	decl tries
	REQUIRE ns, 90
	call sample
	movq %rdi, %r8
	movl %esi, %r9d
	movq %rax, %r10
2:	pause
	call sample
	movl %esi, %ebx
	subl %r9d, %ebx
	andl %r13d, %ebx
	movq %rax, %rdx
	subq %r8, %rdx
	movq %rdi, %rcx
	subq %r10, %rcx
	cmpq %rbp, %rdx
	ja 1b
	cmpl %r11d, %ebx
	jb 2b
	movq %rdx, %rax
	subq %rcx, %rax
	shlq $6, %rax
	cmpq %rcx, %rax
	ja 1b
	ret

/* ZF: the clock of R12, which runs at R14 Hz, agrees with the TSC. */
compare:
	movl %r14d, %eax
	xorl %edx, %edx
	movl $50, %ecx
	divl %ecx
	movl %eax, %r11d
	movq limit, %rbp
	call measure
	pushq %rdx
	movq %rbx, %rax
	mulq tsc_hz
	divq %r14
	popq %rdx
/* ZF: RAX is between RCX and RDX, give or take 3 %. */
near:
	movq %rcx, %rsi
	shrq $5, %rsi
	subq %rsi, %rcx
	movq %rdx, %rsi
	shrq $5, %rsi
	addq %rsi, %rdx
	cmpq %rcx, %rax
	jb 1f
	cmpq %rdx, %rax
	ja 1f
	cmpl %eax, %eax
1:	ret

/* RAX: ECX microseconds of the TSC. Clobbers RDX. */
microseconds:
	movq tsc_hz, %rax
	mulq %rcx
	movl $1000000, %ecx
	divq %rcx
	ret
/* The vector in EBX is counted from here on. */
start:
	movl $0, irq_count(,%rbx,4)
	call tsc
	movq %rax, started
	ret
/* Sleeps until the vector in EBX has come ECX times. */
wait_irqs:
	cli
	cmpl %ecx, irq_count(,%rbx,4)
	jae 1f
	sti
	hlt
	jmp wait_irqs
1:	call tsc
	subq started, %rax
	movq %rax, elapsed
	sti
	ret
/* CF: from start to the end of wait_irqs was shorter than ECX microseconds less 3 %. */
not_early:
	call microseconds
	movq %rax, %rdx
	shrq $5, %rdx
	subq %rdx, %rax
	cmpq %rax, elapsed
	ret
/* Lets ECX microseconds pass with interrupts on. */
pass_time:
	call microseconds
	movq %rax, %r8
	sti
	call tsc
	addq %rax, %r8
1:	pause
	call tsc
	cmpq %r8, %rax
	jb 1b
	ret
/* Lets what was under way in, until nothing has come for a millisecond. */
drain:
	movq irq_log_length, %rsi
	movl $1000, %ecx
	call pass_time
	cmpq %rsi, irq_log_length
	jne drain
	ret
/* The TSC deadline in ECX microseconds, which is left in RAX. */
set_deadline:
	call microseconds
	movq %rax, %rcx
	call tsc
	addq %rcx, %rax
	movq %rax, %rdx
	shrq $32, %rdx
	movl %eax, %eax
	movl $0x6e0, %ecx
	wrmsr
	shlq $32, %rdx
	orq %rdx, %rax
	ret
rtc_tick:
	pushq %rax
	OUT 0x70, 0x0c
	inb $0x71, %al
	incl irq_count + 4 * RTC_VECTOR
	OUT 0xa0, 0x20
	OUT 0x20, 0x20
	popq %rax
	iretq

	.balign 8
tsc_hz: .quad 0
limit: .quad 0
started: .quad 0
elapsed: .quad 0
tries: .long 0
hpet_hz: .long 0
	CATCHERS64
	TABLES
