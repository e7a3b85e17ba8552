/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * For tiny guests in assembly. Each is a flat image that is entered in real mode at GUEST_BASE with CS = 0 and nothing else set up; it says what it
 * finds by PASS or FAIL n, where n is the number of the check that failed. Text goes to port 0xe9.
 */
#ifndef GUEST_H
#define GUEST_H

#define GUEST_BASE 0x8000
#define STACK_TOP 0x7ff0
#define PAGE_TABLES 0x100000 /* PML4, PDPT, 4 PDs: 4 GiB one to one in 2 MiB pages, user-accessible; PD 0 at +0x2000 */
#define IDT_BASE 0x180000
#define PORT_EXIT 0xf4
#define PORT_TEXT 0xe9

/* One byte a port: what the guest may want to know of the world it runs in. */
#define PORT_WORLD 0xf8
#define WORLD_VCPUS 0
#define WORLD_IS_TCG 1      /* kvm on a CPU that is QEMU's TCG: some faults are left out there */
#define WORLD_IS_EMULATED 2 /* kvm whose ring 0 is the host kernel's instruction emulator */
#define WORLD_PORTS 3
#define PORT_LINE 0xfc /* write: drives a GSI; bits 4:0 which, bit 7 the level */

#define SEL_CODE64 0x08
#define SEL_DATA 0x10
#define SEL_CODE32 0x18
#define SEL_CODE16 0x20
#define SEL_DATA16 0x28
#define SEL_UDATA 0x33   /* order as SYSRET wants: user 32-bit code (none), data, 64-bit code */
#define SEL_UCODE64 0x3b
#define SEL_UCODE32 0x43
#define SEL_TSS 0x48

#ifdef __ASSEMBLER__
/* The guest's end, in any mode: AL is clobbered. */
.macro PASS
	movb $0, %al
	outb %al, $PORT_EXIT
97:	hlt
	jmp 97b
.endm
.macro FAIL number
	movb $\number, %al
	outb %al, $PORT_EXIT
98:	hlt
	jmp 98b
.endm
/* Leaves out what the CPU of QEMU's TCG gets wrong. AL is clobbered. */
.macro SKIP_ON_TCG label
	inb $(PORT_WORLD + WORLD_IS_TCG), %al
	testb %al, %al
	jnz \label
.endm

/* Fails unless the condition holds. */
.macro REQUIRE condition, number
	j\condition 95f
	FAIL \number
95:
.endm

/* From real mode at GUEST_BASE to flat 32-bit protected mode; interrupts off. */
.macro ENTER_PROTECTED
	.code16
	cli
	xorw %ax, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movw $STACK_TOP, %sp
	inb $0x92, %al
	orb $2, %al
	outb %al, $0x92
	lgdtl gdt_pointer
	movl %cr0, %eax
	orb $1, %al
	movl %eax, %cr0
	ljmpl $SEL_CODE32, $99f
	.code32
99:	movw $SEL_DATA, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movw %ax, %fs
	movw %ax, %gs
	movl $STACK_TOP, %esp
.endm

/* From flat 32-bit protected mode to 64-bit mode with 4 GiB mapped one to one. */
.macro ENTER_LONG
	.code32
	movl $PAGE_TABLES, %edi
	xorl %eax, %eax
	movl $(6 * 1024), %ecx
	cld
	rep stosl
	movl $(PAGE_TABLES + 0x1007), PAGE_TABLES
	movl $(PAGE_TABLES + 0x2007), PAGE_TABLES + 0x1000
	movl $(PAGE_TABLES + 0x3007), PAGE_TABLES + 0x1008
	movl $(PAGE_TABLES + 0x4007), PAGE_TABLES + 0x1010
	movl $(PAGE_TABLES + 0x5007), PAGE_TABLES + 0x1018
	movl $(PAGE_TABLES + 0x2000), %edi
	movl $0x87, %eax
	movl $2048, %ecx
96:	movl %eax, (%edi)
	addl $0x200000, %eax
	addl $8, %edi
	decl %ecx
	jnz 96b
	/* where the processes of promoted address spaces have their own pages (CHILD_OWN of promote/child.h) */
	movl $0, PAGE_TABLES + 0x2000 + 8 * (0x7fc00000 >> 21)
	movl $PAGE_TABLES, %eax
	movl %eax, %cr3
	movl $0x620, %eax /* PAE, OSFXSR, OSXMMEXCPT */
	movl %eax, %cr4
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x901, %eax /* SCE, LME, NXE */
	wrmsr
	movl %cr0, %eax
	orl $0x80010002, %eax /* PG, WP, MP */
	andl $~4, %eax
	movl %eax, %cr0
	ljmpl $SEL_CODE64, $99f
	.code64
99:	movl $STACK_TOP, %esp
	leaq tss(%rip), %rax
	movq %rsp, 4(%rax)
	movw $SEL_TSS, %ax
	ltr %ax
	lidt idt_pointer(%rip)
.endm

/* A 64-bit interrupt gate. ist 0: none. Clobbers RAX, RDI. */
.macro GATE vector, handler, ist=0, dpl=0
	leaq \handler(%rip), %rax
	movl $(IDT_BASE + \vector * 16), %edi
	movw %ax, (%rdi)
	movw $SEL_CODE64, 2(%rdi)
	movb $\ist, 4(%rdi)
	movb $(0x8e | \dpl << 5), 5(%rdi)
	shrq $16, %rax
	movw %ax, 6(%rdi)
	shrq $16, %rax
	movl %eax, 8(%rdi)
	movl $0, 12(%rdi)
.endm

/* At the end of every guest: descriptor tables and the TSS. */
.macro TABLES
	.balign 16
gdt:
	.quad 0
	.quad 0x00af9b000000ffff /* 08 64-bit code */
	.quad 0x00cf93000000ffff /* 10 data */
	.quad 0x00cf9b000000ffff /* 18 32-bit code */
	.quad 0x00009b000000ffff /* 20 16-bit code */
	.quad 0x000093000000ffff /* 28 16-bit data */
	.quad 0x00cff3000000ffff /* 30 user data */
	.quad 0x00affb000000ffff /* 38 user 64-bit code */
	.quad 0x00cffb000000ffff /* 40 user 32-bit code */
	.word 0x67, tss - _start + GUEST_BASE, 0x8900, 0 /* 48 TSS, 16 bytes */
	.quad 0
	.fill 8, 8, 0 /* 58...: the guest's own */
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
idt_pointer:
	.word 0xfff
	.quad IDT_BASE
	.balign 16
tss:
	.fill 0x68, 1, 0
.endm
#endif
#endif
