/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guest of the interpreter benchmark: a boot sector that goes to 64-bit mode and runs an integer loop over memory. The same bytes run
 * under libvirtcore (flat image at 0x7c00) and under Bochs (floppy). TURNS is set when it is assembled.
 *
 * An inner turn: 12 instructions over 64 KiB of quadwords: loads, stores, shifts, adds, a compare, two branches.
 */
	.code16
	.globl start
start:
	cli
	xorw %ax, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movw $0x7000, %sp
	inb $0x92, %al
	orb $2, %al
	outb %al, $0x92
	/* page tables: PML4 0x8000, PDPT 0x9000, PD 0xa000: 1 GiB in 2 MiB pages */
	movl $0x8000, %edi
	xorl %eax, %eax
	movl $0xc00, %ecx
	cld
	rep stosl
	movl $0x9003, 0x8000
	movl $0xa003, 0x9000
	movl $0xa000, %edi
	movl $0x83, %eax
	movw $512, %cx
1:	movl %eax, (%edi)
	addl $0x200000, %eax
	addl $8, %edi
	loop 1b
	lgdt gdt_pointer - start + 0x7c00
	movl $0x8000, %eax
	movl %eax, %cr3
	movl $0x20, %eax
	movl %eax, %cr4
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x100, %eax
	wrmsr
	movl $0x80000011, %eax
	movl %eax, %cr0
	ljmp $8, $(long_mode - start + 0x7c00)

	.code64
long_mode:
	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movq $TURNS, %r8
	movq $0x9e3779b97f4a7c15, %r10
	xorq %rax, %rax
outer:
	movl $0x100000, %esi
	movl $8192, %ecx
inner:
	movq (%rsi), %rdx
	addq %r10, %rdx
	movq %rdx, %rbx
	shrq $29, %rbx
	xorq %rbx, %rdx
	movq %rdx, (%rsi)
	addq %rdx, %rax
	cmpq $0, %rdx
	je skip
	incq %rax
skip:
	addq $8, %rsi
	decl %ecx
	jnz inner
	decq %r8
	jnz outer
	/* the sum in hexadecimal on port 0xe9, then the end: debug-exit here, the shutdown port under Bochs */
	movl $16, %ecx
digit:
	rolq $4, %rax
	movb %al, %dl
	andb $15, %dl
	addb $'0', %dl
	cmpb $'9', %dl
	jbe 2f
	addb $39, %dl
2:	xchgb %al, %dl
	outb %al, $0xe9
	xchgb %al, %dl
	decl %ecx
	jnz digit
	movb $10, %al
	outb %al, $0xe9
	xorl %eax, %eax
	outb %al, $0xf4
	movw $0x8900, %dx
	leaq shutdown(%rip), %rsi
3:	lodsb
	testb %al, %al
	jz 4f
	outb %al, %dx
	jmp 3b
4:	hlt
	jmp 4b
shutdown:
	.asciz "Shutdown"

	.balign 8
gdt:
	.quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
	.word 23
	.long gdt - start + 0x7c00
	.org 510
	.word 0xaa55
