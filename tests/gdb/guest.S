/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The guest of the gdb tests: an ELF64 entered in 64-bit mode, whose symbols gdb knows. Two vcpus. Ends by writing 21 to debug-exit. */
#define LAPIC 0xfee00000
#define TRAMPOLINE 0x10000 /* where a second vcpu starts */
#define ONLINE 0x7800
#define CODE64 0x08
#define DATA 0x10

	.globl _start, tick, counter, secret, wide, trapped, own_int3, behind_int3, finish, looked, spin
	.text
_start:
	leaq stack_end(%rip), %rsp
	lgdt gdt_pointer(%rip)
	movl $DATA, %eax
	movw %ax, %ss
	pushq $CODE64
	leaq 1f(%rip), %rax
	pushq %rax
	lretq
1:	leaq on_int3(%rip), %rax
	leaq idt + 3 * 16(%rip), %rdi
	movw %ax, (%rdi)
	movw $CODE64, 2(%rdi)
	movw $0x8e00, 4(%rdi)
	shrq $16, %rax
	movw %ax, 6(%rdi)
	shrq $16, %rax
	movl %eax, 8(%rdi)
	lidt idt_pointer(%rip)
	/* INIT and SIPI to the second vcpu, which says so and halts */
	leaq trampoline(%rip), %rsi
	movl $TRAMPOLINE, %edi
	movl $(trampoline_end - trampoline), %ecx
	rep movsb
	movl $LAPIC, %ebx
	movl $0x1ff, 0xf0(%rbx)
	movl $0xc4500, 0x300(%rbx)
	movl $(0xc4600 | TRAMPOLINE >> 12), 0x300(%rbx)
5:	pause
	cmpb $0, ONLINE
	je 5b
	/* vector registers */
	movups pattern(%rip), %xmm0
	movups pattern + 16(%rip), %xmm15
	fld1
	fldpi
	movq $0x1122334455667788, %r15
	movl $3, %ebp
2:	call tick
	decl %ebp
	jnz 2b
	movl secret(%rip), %eax
looked:
	nop
own_int3:
	int3
behind_int3:
	nop
finish:
	movb $21, %al
	outb %al, $0xf4
3:	hlt
	jmp 3b

/* says that it is there, and stays */
spin:
	movw $0x3f8, %dx
	movb $'s', %al
	outb %al, %dx
6:	incl counter(%rip)
	jmp 6b

tick:
	incl counter(%rip)
	movq %rbp, wide + 8(%rip)
	ret

on_int3:
	incl trapped(%rip)
	iretq

	.code16
trampoline:
	xorw %ax, %ax
	movw %ax, %ds
	incb ONLINE
4:	hlt
	jmp 4b
trampoline_end:
	.code64

	.data
	.balign 16
pattern:
	.long 0x01020304, 0x05060708, 0x090a0b0c, 0x0d0e0f10
	.float 1.5, 2.5, 3.5, 4.5
counter:
	.long 0
secret:
	.long 0x5ec4e7
trapped:
	.long 0
	.balign 16
wide:
	.fill 4, 8, 0
gdt:
	.quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
	.word . - gdt - 1
	.quad gdt
idt_pointer:
	.word 0xff
	.quad idt
	.bss
	.balign 16
idt:
	.fill 256, 1, 0
stack:
	.fill 4096, 1, 0
stack_end:
