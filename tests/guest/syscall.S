/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The ways between ring 0 and ring 3: SYSCALL/SYSRET, SYSENTER/SYSEXIT, INT/IRETQ; SWAPGS and the FS and GS bases. */
#include "catch.h"

.macro WRITE_MSR msr, low, high=0
	movl $\msr, %ecx
	movl $\low, %eax
	movl $\high, %edx
	wrmsr
.endm
#define STAR 0xc0000081
#define LSTAR 0xc0000082
#define CSTAR 0xc0000083
#define SFMASK 0xc0000084
#define FS_BASE 0xc0000100
#define GS_BASE 0xc0000101
#define KERNEL_GS_BASE 0xc0000102
#define USER_STACK 0x7000

	.globl _start
_start:
	ENTER_PROTECTED
	ENTER_LONG
	CATCH_ALL64

	/* ---- SYSCALL, SYSRET ---- */
	/* SYSRET: CS = STAR[63:48] + 16 (64-bit) or + 0, SS = + 8; SYSCALL: CS = STAR[47:32], SS = + 8 */
	WRITE_MSR STAR, 0, ((SEL_DATA - 8) | ((SEL_UDATA - 8) << 16))
	WRITE_MSR LSTAR, from_syscall
	WRITE_MSR SFMASK, 0x4700 /* NT, DF, IF, TF */
	movq %rsp, %r15
	movl $1f, %ecx
	movl $0x3ed7, %r11d /* with DF; bits that do not exist or are not to be set are left out */
	movl $USER_STACK, %esp
	sysretq
1:	pushfq
	popq %r12
	movl %cs, %r13d
	movl %ss, %r14d
	movl $0x1234, %ebx
	syscall
2:	hlt
from_syscall:
	movq %rsp, %rbp
	movq %r15, %rsp
	cmpq $2b, %rcx
	REQUIRE e, 1
	andl $~0x10000, %r11d
	cmpl $0x3ed7, %r11d /* with bit 1, without 3, 5 */
	REQUIRE e, 2
	cmpl $0x3ed7, %r12d
	REQUIRE e, 3
	cmpl $SEL_UCODE64, %r13d
	REQUIRE e, 4
	cmpl $SEL_UDATA, %r14d
	REQUIRE e, 5
	pushfq
	popq %rax
	testl $0x4700, %eax
	REQUIRE z, 6
	movl %cs, %eax
	cmpl $SEL_CODE64, %eax
	REQUIRE e, 7
	movl %ss, %eax
	cmpl $SEL_DATA, %eax
	REQUIRE e, 8
	cmpq $(USER_STACK), %rbp
	REQUIRE e, 9
	cmpl $0x1234, %ebx
	REQUIRE e, 10
	cld

	/* a SYSRET to 32-bit code: its selector is STAR[63:48] | 3 */
	WRITE_MSR STAR, 0, ((SEL_DATA - 8) | (SEL_UCODE32 << 16))
	movq $1f, resume_at
	movq %rsp, resume_rsp
	movl $2f, %ecx
	movl $0x3002, %r11d
	sysretl
	.code32
2:	movl %cs, %ebx
	movl %ss, %ebp
	/* in 32-bit code, this byte is DEC EAX and no prefix */
	movl $5, %eax
	.byte 0x48
3:	hlt
	.code64
1:	CAUGHT 13, 0, 12, 3b
	cmpl $SEL_UCODE32, %ebx
	REQUIRE e, 13
	cmpl $(SEL_UCODE32 + 8), %ebp
	REQUIRE e, 14
	cmpl $4, %eax
	REQUIRE e, 15
	WRITE_MSR STAR, 0, ((SEL_DATA - 8) | ((SEL_UDATA - 8) << 16))
	/* SYSRET is of ring 0 */
	jmp 2f
1:	sysretq
2:	USER64 1b
	CAUGHT 13, 0, 16, 1b
	/* a return address that is not canonical faults before anything changes */
	movabsq $0x800000000000, %rcx
	movl $0x3002, %r11d
	SKIP_ON_TCG 1f /* as AMD, it faults in ring 3 */
	EXPECT64 13, 0, 17, sysretq
	testl $3, caught_cs
	REQUIRE z, 17
1:	/* nothing of it without SCE */
	movl $0xc0000080, %ecx
	rdmsr
	andl $~1, %eax
	wrmsr
	EXPECT64 6, -1, 18, syscall
	EXPECT64 6, -1, 19, sysretq
	movl $0xc0000080, %ecx
	rdmsr
	orl $1, %eax
	wrmsr
	/* the MSRs take canonical addresses only */
	movl $LSTAR, %ecx
	movl $0x8000, %edx
	EXPECT64 13, 0, 20, wrmsr
	movl $CSTAR, %ecx
	EXPECT64 13, 0, 21, wrmsr
	/* SYSCALL in ring 0 is allowed; SYSRET then goes to ring 3 */
	WRITE_MSR LSTAR, 1f
	syscall
2:	FAIL 22
1:	cmpq $2b, %rcx
	REQUIRE e, 22

	/* ---- SYSENTER, SYSEXIT ---- */
	/* CS = MSR, SS = + 8; out: CS + 16 and + 24 of 32-bit code, + 32 and + 40 of 64-bit */
	WRITE_MSR 0x174, 0
	EXPECT64 13, 0, 30, sysexit
	EXPECT64 13, 0, 31, sysenter
	/* 58: code, 60: data, 68: user code, 70: user data, 78: user 64-bit code, 80: user data */
	movq gdt + SEL_CODE64, %rax
	movq %rax, gdt + 0x58
	movq gdt + SEL_DATA, %rax
	movq %rax, gdt + 0x60
	movq gdt + (SEL_UCODE32 & ~3), %rax
	movq %rax, gdt + 0x68
	movq gdt + (SEL_UDATA & ~3), %rax
	movq %rax, gdt + 0x70
	movq %rax, gdt + 0x80
	movq gdt + (SEL_UCODE64 & ~3), %rax
	movq %rax, gdt + 0x78
	WRITE_MSR 0x174, 0x58
	WRITE_MSR 0x175, 0x6800
	WRITE_MSR 0x176, from_sysenter
	movq %rsp, %r15
	movl $1f, %edx
	movl $USER_STACK, %ecx
	pushq $0x3202
	popfq
	.byte 0x48 /* to 64-bit code */
	sysexit
1:	movl %cs, %ebx
	movl %ss, %ebp
	pushfq
	popq %r12
	movq %rsp, %r13
	sysenter
	hlt
from_sysenter:
	movl %cs, %r8d
	movl %ss, %r9d
	movq %rsp, %r10
	pushfq
	popq %r11
	movq %r15, %rsp
	cmpl $0x7b, %ebx
	REQUIRE e, 32
	cmpl $0x83, %ebp
	REQUIRE e, 33
	testl $0x200, %r12d
	REQUIRE nz, 34
	cmpq $USER_STACK, %r13
	REQUIRE e, 35
	cmpl $0x58, %r8d
	REQUIRE e, 36
	cmpl $0x60, %r9d
	REQUIRE e, 37
	cmpq $0x6800, %r10
	REQUIRE e, 38
	testl $0x200, %r11d
	REQUIRE z, 39
	/* out to 32-bit code */
	movq $1f, resume_at
	movq %rsp, resume_rsp
	movl $2f, %edx
	movl $USER_STACK, %ecx
	sysexit
	.code32
2:	movl %cs, %ebx
	movl %ss, %ebp
3:	hlt
	.code64
1:	CAUGHT 13, 0, 40, 3b
	cmpl $0x6b, %ebx
	REQUIRE e, 41
	cmpl $0x73, %ebp
	REQUIRE e, 42
	jmp 2f
1:	sysexit
2:	USER64 1b
	CAUGHT 13, 0, 43, 1b

	/* ---- IRETQ, INT ---- */
	GATE 0x60, from_int, 0, 3
	movq %rsp, %r15
	pushq $SEL_UDATA
	pushq $(USER_STACK + 3)
	pushq $0x3202
	pushq $SEL_UCODE64
	pushq $1f
	iretq
1:	movq %rsp, %r12
	int $0x60
2:	hlt
from_int:
	movq %rsp, %rax
	/* RSP0 of the TSS, with the frame of five */
	movl $(STACK_TOP - 40), %ecx
	cmpq %rcx, %rax
	REQUIRE e, 50
	cmpq $2b, (%rsp)
	REQUIRE e, 51
	cmpq $SEL_UCODE64, 8(%rsp)
	REQUIRE e, 52
	testq $0x200, 16(%rsp)
	REQUIRE nz, 53
	cmpq $(USER_STACK + 3), 24(%rsp)
	REQUIRE e, 54
	cmpq $(USER_STACK + 3), %r12
	REQUIRE e, 54
	cmpq $SEL_UDATA, 32(%rsp)
	REQUIRE e, 55
	movl %ss, %eax
	testl %eax, %eax /* null after a change of rings */
	REQUIRE z, 56
	movl $SEL_DATA, %eax
	movl %eax, %ss
	movq %r15, %rsp
	/* a frame in ring 0 lies at a stack that was aligned to 16 */
	GATE 0x61, same_ring
	movq %rsp, %r15
	orq $8, %rsp
	movq %rsp, %r12
	int $0x61
	cmpq %r12, %rsp
	REQUIRE e, 57
	movq %r12, %rax
	andq $~15, %rax
	subq $40, %rax
	cmpq %rax, %r13
	REQUIRE e, 58
	movq %r15, %rsp
	/* INT from ring 3 through a gate of ring 0: #GP with the vector, IDT bit */
	jmp 2f
1:	int $0x61
2:	USER64 1b
	CAUGHT 13, 0x61*8+2, 59, 1b
	/* IRETQ: NT is #GP in 64-bit mode; an RIP that is not canonical */
	pushfq
	orl $0x4000, (%rsp)
	popfq
	EXPECT64 13, 0, 60, iretq
	/* IRETQ to ring 3 clears data segments of ring 0 */
	movl $SEL_DATA, %eax
	movl %eax, %ds
	movl %eax, %fs
	movl $SEL_UDATA, %eax
	movl %eax, %es
	jmp 2f
1:	movl %ds, %ebx
	movl %es, %ecx
	movl %fs, %edx
3:	hlt
2:	USER64 1b
	CAUGHT 13, 0, 61, 3b
	testl %ebx, %ebx
	REQUIRE z, 62
	testl %edx, %edx
	REQUIRE z, 62
	cmpl $SEL_UDATA, %ecx
	REQUIRE e, 63
	/* ring 3 changes neither IOPL nor, with IOPL 0, IF */
	movq $1f, resume_at
	movq %rsp, resume_rsp
	pushq $SEL_UDATA
	pushq $USER_STACK
	pushq $0x202
	pushq $SEL_UCODE64
	pushq $2f
	iretq
2:	pushq $0x3002
	popfq
	pushfq
	popq %rbx
3:	cli
	hlt
1:	CAUGHT 13, 0, 64, 3b
	andl $0x3200, %ebx
	cmpl $0x200, %ebx
	REQUIRE e, 65

	/* ---- bases ---- */
	WRITE_MSR GS_BASE, 0x11110000, 0x1111
	WRITE_MSR KERNEL_GS_BASE, 0x22220000, 0xffff8888
	swapgs
	movl $GS_BASE, %ecx
	rdmsr
	cmpl $0x22220000, %eax
	REQUIRE e, 70
	cmpl $0xffff8888, %edx
	REQUIRE e, 71
	movl $KERNEL_GS_BASE, %ecx
	rdmsr
	cmpl $0x1111, %edx
	REQUIRE e, 72
	movl $0x80000000, %edx
	EXPECT64 13, 0, 73, wrmsr
	jmp 2f
1:	swapgs
2:	USER64 1b
	CAUGHT 13, 0, 74, 1b
	WRITE_MSR FS_BASE, target
	cmpl $0x600df00d, %fs:0
	REQUIRE e, 75
	/* a selector loads the base of its descriptor */
	movl $SEL_DATA, %eax
	movl %eax, %fs
	cmpl $0x600df00d, %fs:target
	REQUIRE e, 76
	/* RDFSBASE and the like: CR4.FSGSBASE, any ring */
	movl $7, %eax
	xorl %ecx, %ecx
	cpuid
	testl $1, %ebx
	jz 9f
	EXPECT64 6, -1, 80, rdfsbase %rax
	movq %cr4, %rax
	orl $0x10000, %eax
	movq %rax, %cr4
	movabsq $0x123456789000, %rbx
	wrfsbase %rbx
	rdfsbase %rax
	cmpq %rax, %rbx
	REQUIRE e, 81
	movq $-1, %rax
	rdfsbase %eax
	movl $0x56789000, %ebx
	cmpq %rax, %rbx
	REQUIRE e, 82
	movq $-1, %rax
	wrgsbase %eax
	rdgsbase %rax
	movl $-1, %ebx
	cmpq %rax, %rbx
	REQUIRE e, 83
	movabsq $0x8000000000000000, %rax
	EXPECT64 13, 0, 84, wrfsbase %rax
	jmp 2f
1:	movl $target, %eax
	wrfsbase %rax
	movl %fs:0, %ebx
	rdgsbase %rcx
3:	hlt
2:	USER64 1b
	CAUGHT 13, 0, 85, 3b
	cmpl $0x600df00d, %ebx
	REQUIRE e, 86
	movl $-1, %eax
	cmpq %rax, %rcx
	REQUIRE e, 87
9:	PASS
same_ring:
	movq %rsp, %r13
	iretq
	.balign 8
target:
	.long 0x600df00d
	CATCHERS64
	TABLES
