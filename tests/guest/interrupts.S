/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PIC, IOAPIC and LAPIC: masking, priority, levels, IF and its shadow, NMI. Lines are driven through PORT_LINE, so nothing depends on time. */
#include "catch.h"

/* Self IPI of a vector; LAPIC base in R15. */
.macro SELF vector
	movl $(0x44000 | \vector), LAPIC_ICR(%r15)
.endm
.macro COUNT_IS vector, count, number
	cmpl $\count, irq_count + 4 * \vector
	REQUIRE e, \number
.endm
.macro CLEAR_COUNTS
	movl $irq_log, %edi /* irq_count is behind it */
	xorl %eax, %eax
	movl $(64 / 4 + 256), %ecx
	rep stosl
	movq $0, irq_log_length
.endm
/* An interrupt that this CPU sends to itself comes soon, not at once. Clobbers ECX. */
.macro SETTLE
	movl $20, %ecx
94:	pause
	decl %ecx
	jnz 94b
.endm
/* Let what waits in. */
.macro WINDOW
	sti
	nop
	nop
	cli
.endm

	.globl _start
_start:
	ENTER_PROTECTED
	ENTER_LONG
	CATCH_ALL64
	PIC_INIT
	movl $LAPIC_BASE, %r15d
	movl $IOAPIC_REGS, %ebx
	movl $0x1ff, LAPIC_SVR(%r15)
	movl $0, LAPIC_TPR(%r15)

	/* ---- PIC through LINT0 ---- */
	movl $0x700, LAPIC_LVT_LINT0(%r15)
	OUT 0x21, 0xd3 /* open: 2 (cascade), 3, 5 */
	OUT 0xa1, 0xef /* 12 */
	/* IF = 0 holds it back, the request shows in the IRR */
	LINE 5, 1
	LINE 5, 0
	LINE 5, 1
	OUT 0x20, 0x0a
	inb $0x20, %al
	testb $0x20, %al
	REQUIRE nz, 1
	COUNT_IS 0x25, 0, 2
	WINDOW
	COUNT_IS 0x25, 1, 3
	/* an edge is one interrupt, however long the line stays up */
	WINDOW
	COUNT_IS 0x25, 1, 4
	LINE 5, 0
	/* IMR */
	OUT 0x21, 0xff
	LINE 5, 1
	WINDOW
	COUNT_IS 0x25, 1, 5
	OUT 0x21, 0xd3
	WINDOW
	COUNT_IS 0x25, 2, 6
	LINE 5, 0
	/* priority: the cascade comes before 3, 3 before 5 */
	movq $0, irq_log_length
	LINE 5, 1
	LINE 3, 1
	LINE 12, 1
	sti
	.rept 8
	nop
	.endr
	cli
	cmpl $0x25232c, irq_log
	REQUIRE e, 7
	LINE 5, 0
	LINE 3, 0
	LINE 12, 0
	/* STI lets exactly one more instruction by: CLI right after it keeps everything out */
	CLEAR_COUNTS
	LINE 3, 1
	sti
	cli
	nop
	COUNT_IS 0x23, 0, 8
	sti
	movl $1, %edx
sti_here:
	nop
	cli
	COUNT_IS 0x23, 1, 9
	cmpq $sti_here, irq_rip
	REQUIRE e, 10
	LINE 3, 0
	/* HLT waits for an interrupt that comes at once */
	LINE 3, 1
	sti
	hlt
	cli
	COUNT_IS 0x23, 2, 11
	LINE 3, 0
	/* a masked LINT0 shuts the PIC out */
	movl $0x10700, LAPIC_LVT_LINT0(%r15)
	LINE 3, 1
	WINDOW
	COUNT_IS 0x23, 2, 12
	movl $0x700, LAPIC_LVT_LINT0(%r15)
	SELF 0x40 /* KVM does not look at the PIC when LINT0 is unmasked, but does for any other interrupt */
	WINDOW
	COUNT_IS 0x23, 3, 13
	LINE 3, 0
	/* level-triggered by ELCR: comes again after EOI as long as the line is up */
	movw $0x4d0, %dx
	movb $0x08, %al
	outb %al, %dx
	GATE 0x23, pic_level
	CLEAR_COUNTS
	movl $3, %r14d /* the handler lowers the line at the third time */
	LINE 3, 1
	WINDOW
	COUNT_IS 0x23, 3, 14
	movw $0x4d0, %dx
	xorl %eax, %eax
	outb %al, %dx
	OUT 0x21, 0xff
	OUT 0xa1, 0xff

	/* ---- LAPIC ---- */
	CLEAR_COUNTS
	SELF 0x40
	COUNT_IS 0x40, 0, 20
	/* IRR bit of vector 0x40: register 2, bit 0 */
	testl $1, LAPIC_IRR + 0x20(%r15)
	REQUIRE nz, 21
	WINDOW
	COUNT_IS 0x40, 1, 22
	testl $1, LAPIC_IRR + 0x20(%r15)
	REQUIRE z, 23
	/* priority */
	CLEAR_COUNTS
	SELF 0x41
	SELF 0x61
	SELF 0x51
	sti
	.rept 8
	nop
	.endr
	cli
	cmpl $0x415161, irq_log
	REQUIRE e, 24
	/* TPR */
	CLEAR_COUNTS
	movl $0x50, LAPIC_TPR(%r15)
	cmpl $0x50, LAPIC_PPR(%r15)
	REQUIRE e, 25
	SELF 0x41
	SELF 0x5f
	SELF 0x60
	WINDOW
	COUNT_IS 0x60, 1, 26
	COUNT_IS 0x5f, 0, 27
	movl $0x4f, LAPIC_TPR(%r15)
	WINDOW
	COUNT_IS 0x5f, 1, 28
	COUNT_IS 0x41, 0, 29
	/* CR8 is the TPR's class */
	movq %cr8, %rax
	cmpq $4, %rax
	REQUIRE e, 30
	movl $3, %eax
	movq %rax, %cr8
	cmpl $0x30, LAPIC_TPR(%r15)
	REQUIRE e, 31
	WINDOW
	COUNT_IS 0x41, 1, 32
	xorl %eax, %eax
	movq %rax, %cr8
	SKIP_ON_TCG 1f /* it takes any value */
	movl $16, %eax
	EXPECT64 13, 0, 33, movq %rax, %cr8
1:
	/* CR8 holds back and lets in with interrupts on */
	sti
	movl $7, %eax
	movq %rax, %cr8
	SELF 0x42
	SETTLE
	COUNT_IS 0x42, 0, 34
	xorl %eax, %eax
	movq %rax, %cr8
	SETTLE
	COUNT_IS 0x42, 1, 35
	cli
	/* a handler is interrupted by a higher class only */
	CLEAR_COUNTS
	GATE 0x52, nesting
	SELF 0x52
	WINDOW
	COUNT_IS 0x63, 1, 36
	COUNT_IS 0x45, 1, 37
	cmpb $0x63, irq_log
	REQUIRE e, 38
	cmpb $0x52, irq_log + 1
	REQUIRE e, 38
	cmpb $0x45, irq_log + 2
	REQUIRE e, 38
	/* logical destination, flat */
	CLEAR_COUNTS
	movl $-1, LAPIC_DFR(%r15)
	movl $0x04000000, LAPIC_LDR(%r15)
	movl $0x04000000, LAPIC_ICR_HIGH(%r15)
	movl $0x4843, LAPIC_ICR(%r15)
	movl $0x02000000, LAPIC_ICR_HIGH(%r15)
	movl $0x4844, LAPIC_ICR(%r15)
	WINDOW
	COUNT_IS 0x43, 1, 40
	COUNT_IS 0x44, 0, 41
	/* all excluding self is nobody here */
	movl $0xc4046, LAPIC_ICR(%r15)
	movl $0x84047, LAPIC_ICR(%r15)
	WINDOW
	COUNT_IS 0x46, 0, 42
	COUNT_IS 0x47, 1, 43

	/* ---- IOAPIC ---- */
	CLEAR_COUNTS
	movl $1, (%rbx)
	movl 0x10(%rbx), %eax
	shrl $16, %eax
	cmpb $23, %al /* 24 pins */
	REQUIRE e, 50
	IOAPIC_PIN 10, 0x48
	LINE 10, 1
	WINDOW
	COUNT_IS 0x48, 1, 51
	WINDOW
	COUNT_IS 0x48, 1, 52
	LINE 10, 0
	LINE 10, 1
	WINDOW
	COUNT_IS 0x48, 2, 53
	LINE 10, 0
	IOAPIC_PIN 10, 0x10048
	LINE 10, 1
	WINDOW
	COUNT_IS 0x48, 2, 54
	LINE 10, 0
	/* level: remote IRR from delivery to EOI, and again while the line is up */
	IOAPIC_PIN 11, 0x8049
	GATE 0x49, level
	movl $3, %r14d /* the handler lowers the line at the third time */
	LINE 11, 1
	WINDOW
	COUNT_IS 0x49, 3, 55
	movl $(0x10 + 22), (%rbx)
	testl $0x4000, 0x10(%rbx)
	REQUIRE z, 56
	/* logical destination of a pin */
	IOAPIC_PIN 10, 0x84a, 0x04000000
	LINE 10, 1
	LINE 10, 0
	IOAPIC_PIN 10, 0x84b, 0x01000000
	LINE 10, 1
	LINE 10, 0
	WINDOW
	COUNT_IS 0x4a, 1, 57
	COUNT_IS 0x4b, 0, 58

	/* ---- NMI: to ourselves, once while blocked, the second after IRET ---- */
	GATE 2, nmi
	movl LAPIC_ID(%r15), %eax
	movl %eax, LAPIC_ICR_HIGH(%r15)
	movl $0x4400, LAPIC_ICR(%r15)
	SETTLE
	cmpl $2, nmi_count
	REQUIRE e, 60
	cmpl $1, nmi_nested
	REQUIRE e, 61

	/* ---- INT n is not an interrupt of the LAPIC ---- */
	CLEAR_COUNTS
	movq $1, irq_eoi_off
	int $0x55
	COUNT_IS 0x55, 1, 62
	testl $0x200000, LAPIC_ISR + 0x20(%r15)
	REQUIRE z, 63
	movq $0, irq_eoi_off
	/* IF: an interrupt gate clears it, IRET brings it back */
	GATE 0x56, see_flags
	sti
	int $0x56
	pushfq
	cli
	popq %rax
	testl $0x200, %eax
	REQUIRE nz, 64
	testl $0x200, %ebp
	REQUIRE z, 65
	/* a trap gate leaves it */
	movb $0x8f, IDT_BASE + 0x56 * 16 + 5
	sti
	int $0x56
	cli
	testl $0x200, %ebp
	REQUIRE nz, 66

	/* ---- x2APIC where there is one ---- */
	movl $1, %eax
	cpuid
	btl $21, %ecx
	jnc no_x2apic
	CLEAR_COUNTS
	movl $0x1b, %ecx
	rdmsr
	orl $0x400, %eax
	wrmsr
	GATE 0x58, x2apic_handler
	movl $0x83f, %ecx /* self IPI */
	xorl %edx, %edx
	movl $0x58, %eax
	wrmsr
	WINDOW
	COUNT_IS 0x58, 1, 70
	movl $0x802, %ecx
	rdmsr
	testl %eax, %eax
	REQUIRE z, 71
	/* the ICR is one register, with a destination of 32 bits */
	movl $0x830, %ecx
	xorl %edx, %edx
	movl $0x4058, %eax
	wrmsr
	WINDOW
	COUNT_IS 0x58, 2, 72
	/* there is no way back to xAPIC but through off */
	movl $0x1b, %ecx
	rdmsr
	andl $~0x400, %eax
	EXPECT64 13, 0, 73, wrmsr
no_x2apic:
	PASS

x2apic_handler:
	pushq %rax
	pushq %rcx
	pushq %rdx
	incl irq_count + 4 * 0x58
	movl $0x80b, %ecx
	xorl %eax, %eax
	xorl %edx, %edx
	wrmsr
	popq %rdx
	popq %rcx
	popq %rax
	iretq
see_flags:
	pushfq
	popq %rbp
	iretq
/* Vector 0x52: a lower class waits until the EOI, a higher one comes in between. */
nesting:
	SELF 0x45
	SELF 0x63
	cmpl $0x50, LAPIC_PPR(%r15)
	REQUIRE e, 39
	sti
	.rept 8
	nop
	.endr
	cli
	movq irq_log_length, %rax
	movb $0x52, irq_log(%rax)
	incq irq_log_length
	movl $0, LAPIC_EOI(%r15)
	iretq
pic_level:
	incl irq_count + 4 * 0x23
	decl %r14d
	jnz 1f
	LINE 3, 0
1:	OUT 0x20, 0x20
	iretq
level:
	incl irq_count + 4 * 0x49
	movl $(0x10 + 22), (%rbx)
	testl $0x4000, 0x10(%rbx)
	REQUIRE nz, 59
	decl %r14d
	jnz 1f
	LINE 11, 0
1:	movl $0, LAPIC_EOI(%r15)
	iretq
nmi:
	incl nmi_count
	cmpl $1, nmi_count
	jne 1f
	movl $0x4400, LAPIC_ICR(%r15)
	SETTLE
	movl nmi_count, %eax
	movl %eax, nmi_nested
1:	iretq
nmi_count: .long 0
nmi_nested: .long 0
	CATCHERS64
	TABLES
