/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ring 3 and back: SYSCALL/SYSRET, SYSENTER/SYSEXIT, SWAPGS, FSGSBASE, IOPL and the I/O bitmap, UMIP. */
#include "catch.h"
.macro WRITE index, value
	movl $\index, %ecx
	movq $\value, %rax
	movq %rax, %rdx
	shrq $32, %rdx
	wrmsr
.endm
/* To ring 3 at a label with IOPL 0. */
.macro USER_NOIO label
	movq $92f, resume_at
	movq %rsp, resume_rsp
	pushq $SEL_UDATA
	pushq $0x7000
	pushq $0x0202
	pushq $SEL_UCODE64
	pushq $\label
	iretq
92:	movq $0, resume_at
.endm
	.globl _start
_start:
	ENTER_PROTECTED
	ENTER_LONG
	CATCH_ALL64
	/* STAR: SYSRET takes SS = 0x2b + 8 = 0x33, CS = 0x2b + 16 = 0x3b; SYSCALL CS = 8, SS = 0x10 */
	WRITE 0xc0000081, 0x002b000800000000
	WRITE 0xc0000082, entry
	WRITE 0xc0000084, 0x40500 /* DF, TF, AC go */
	/* ---- SYSCALL, SYSRET ---- */
	movq %rsp, kernel_rsp
	movl $user1, %ecx
	movl $0x3246, %r11d
	movl $0x7000, %esp
	sysretq
user1:
	movl %cs, %eax
	cmpl $SEL_UCODE64, %eax
	REQUIRE e, 1
	movl %ss, %eax
	cmpl $SEL_UDATA, %eax
	REQUIRE e, 2
	pushfq
	popq %rax
	cmpl $0x3246, %eax
	REQUIRE e, 3
	pushq $0x3ec7 /* DF, SF, ZF, CF... */
	popfq
	movl $0x1234, %eax
	syscall
after_syscall:
	ud2
entry:
	movq %rsp, %r10
	movq kernel_rsp, %rsp
	pushfq
	popq %rdx
	cmpl $after_syscall, %ecx
	REQUIRE e, 4
	cmpl $0x7000, %r10d
	REQUIRE e, 5
	cmpl $0x3ec7, %r11d
	REQUIRE e, 6
	movl %edx, %r9d
	andl $0x3700, %edx
	cmpl $0x3200, %edx /* R11 without the masked bits; IF is kept */
	REQUIRE e, 7
	SKIP_ON_TCG 1f /* loses the arithmetic flags */
	cmpl $0x3ac7, %r9d
	REQUIRE e, 7
1:
	cld
	movl %cs, %eax
	cmpl $SEL_CODE64, %eax
	REQUIRE e, 8
	movl %ss, %eax
	cmpl $SEL_DATA, %eax
	REQUIRE e, 9
	cli
	/* SYSRET to a non-canonical address faults (in ring 0 on Intel, in ring 3 on AMD: both are seen here as #GP) */
	SKIP_ON_TCG 1f
	movq kernel_rsp, %rsp
	movq $0x3002, %r11
	movabsq $0x8000000000000000, %rcx
	movq $92f, resume_at
	movq %rsp, resume_rsp
	sysretq
	FAIL 10
92:	movq $0, resume_at
	cmpq $13, caught_vector
	REQUIRE e, 10
1:	/* without SCE there is no SYSCALL */
	movl $0xc0000080, %ecx
	rdmsr
	andl $~1, %eax
	wrmsr
	EXPECT64 6, -1, 11, syscall
	EXPECT64 6, -1, 12, sysretq
	movl $0xc0000080, %ecx
	rdmsr
	orl $1, %eax
	wrmsr
	/* SYSRET is for ring 0 */
	USER64 user_sysret
	CAUGHT 13, 0, 13, user_sysret
	/* to compatibility mode */
	movl $user32, %ecx
	movl $0x3002, %r11d
	movq $92f, resume_at
	movq %rsp, resume_rsp
	sysretl
	FAIL 14
92:	movq $0, resume_at
	cmpq $user32_end, caught_rip
	REQUIRE e, 14
	cmpq $0x2b, caught_cs
	REQUIRE e, 15

	/* ---- SYSENTER, SYSEXIT: 64-bit, where the CPU has it there (AMD's does not) ---- */
	xorl %eax, %eax
	cpuid
	cmpl $0x68747541, %ebx /* "Auth" */
	je no_sysenter
	WRITE 0x174, SEL_CODE64
	WRITE 0x175, 0x7f00
	WRITE 0x176, sysenter_entry
	/* SYSEXIT takes CS = 8 + 32 | 3 = 0x2b for 64-bit code: a descriptor is put there */
	movq gdt + 0x38, %rax
	movq %rax, gdt + 0x28
	movl $user_sysenter, %edx
	movl $0x7000, %ecx
	movl $0, sysenter_done
	movq $92f, resume_at
	movq %rsp, resume_rsp
	pushq $0x3002
	popfq
	sysexitq
92:	movq $0, resume_at
	cmpl $1, sysenter_done
	REQUIRE e, 20
	WRITE 0x174, 0
	EXPECT64 13, 0, 21, sysenter
no_sysenter:
	/* ---- SWAPGS ---- */
	WRITE 0xc0000101, 0x1111
	WRITE 0xc0000102, 0x2222
	swapgs
	movl $0xc0000101, %ecx
	rdmsr
	cmpl $0x2222, %eax
	REQUIRE e, 30
	movl $0xc0000102, %ecx
	rdmsr
	cmpl $0x1111, %eax
	REQUIRE e, 31
	USER64 user_swapgs
	CAUGHT 13, 0, 32, user_swapgs
	/* a null selector in GS keeps nothing of the base on Intel; the shadow is never touched */
	movl $0xc0000102, %ecx
	rdmsr
	cmpl $0x1111, %eax
	REQUIRE e, 33
	/* ---- FSGSBASE ---- */
	movl $7, %eax
	xorl %ecx, %ecx
	cpuid
	testl $1, %ebx
	jz no_fsgsbase
	EXPECT64 6, -1, 34, rdfsbase %rax
	movq %cr4, %rax
	orl $0x10000, %eax
	movq %rax, %cr4
	movabsq $0xffff800012345678, %rax
	wrfsbase %rax
	rdfsbase %rbx
	cmpq %rax, %rbx
	REQUIRE e, 35
	movl $0xc0000100, %ecx
	rdmsr
	cmpl $0x12345678, %eax
	REQUIRE e, 36
	movl $0x9000, %eax
	wrgsbase %eax
	movq $-1, %rbx
	rdgsbase %ebx
	cmpq $0x9000, %rbx
	REQUIRE e, 37
	SKIP_ON_TCG 1f
	movabsq $0x0000800000000000, %rax
	EXPECT64 13, 0, 38, wrfsbase %rax
1:	movl $table, %eax
	wrgsbase %rax
	cmpl $0x87654321, %gs:4
	REQUIRE e, 39
no_fsgsbase:
	/* ---- I/O permission: the TSS has no bitmap; then one that opens 0x80 ---- */
	movw $0x68, tss + 0x66
	USER_NOIO user_in
	CAUGHT 13, 0, 40, user_in
	USER_NOIO user_cli
	CAUGHT 13, 0, 41, user_cli
	USER_NOIO user_hlt
	CAUGHT 13, 0, 42, user_hlt
	/* POPF in ring 3 cannot change IF or IOPL */
	USER_NOIO user_popf
	CAUGHT 6, -1, 43, user_popf_end
	andl $0x3200, caught_flags
	cmpl $0x0200, caught_flags
	REQUIRE e, 43
	/* a TSS large enough for a bitmap of ports 0-0x87 */
	movw $(0x68 + 0x12 - 1), gdt + SEL_TSS
	andb $~2, gdt + SEL_TSS + 5
	movw $SEL_TSS, %ax
	ltr %ax
	USER_NOIO user_in
	CAUGHT 6, -1, 44, user_in_end
	USER_NOIO user_in81
	CAUGHT 13, 0, 45, user_in81
	/* a word over both */
	USER_NOIO user_in16
	CAUGHT 13, 0, 46, user_in16
	/* UMIP */
	movl $7, %eax
	xorl %ecx, %ecx
	cpuid
	btl $2, %ecx
	jnc 1f
	movq %cr4, %rax
	orl $0x800, %eax
	movq %rax, %cr4
	movl $0x7000, %ebx
	USER64 user_sgdt
	CAUGHT 13, 0, 47, user_sgdt
	USER64 user_smsw
	CAUGHT 13, 0, 48, user_smsw
1:	/* #AC comes before #PF, of repeated string instructions too */
	SKIP_ON_TCG 1f /* has no #AC */
	movq %cr0, %rax
	orl $0x40000, %eax
	movq %rax, %cr0
	USER64 user_stos
	CAUGHT 17, 0, 49, user_stos_at
	USER64 user_scas
	CAUGHT 17, 0, 50, user_scas_at
1:	PASS

user_sysret: sysretq
user_swapgs: swapgs
user_cli: cli
user_hlt: hlt
user_in: inb $0x80, %al
user_in_end: ud2
user_in81: inb $0x81, %al
user_in16: inw $0x80, %ax
user_sgdt: sgdt (%rbx)
user_smsw: smsw %eax
user_popf:
	pushq $0x3002
	popfq
user_popf_end: ud2
/* nothing is there */
.macro USER_MISALIGNED
	pushq $0x43002
	popfq
	movabsq $0x1000000001, %rdi
	movl $3, %ecx
.endm
user_stos: USER_MISALIGNED
user_stos_at: rep stosl
user_scas: USER_MISALIGNED
user_scas_at: repe scasl
user_sysenter:
	sysenter
	FAIL 22
sysenter_entry:
	cmpq $0x7f00, %rsp
	REQUIRE e, 23
	movl %cs, %eax
	cmpl $SEL_CODE64, %eax
	REQUIRE e, 24
	pushfq
	popq %rax
	testl $0x200, %eax
	REQUIRE z, 25
	movl $1, sysenter_done
	ud2
	.code32
user32:
	incl %eax
user32_end:
	ud2
	.code64
	.balign 8
kernel_rsp: .quad 0
sysenter_done: .long 0
table: .long 0, 0x87654321
	CATCHERS64
	TABLES
	/* behind the TSS: the I/O bitmap of ports 0-0x87 and its last byte of ones */
	.fill 0x10, 1, 0xff
	.byte 0xfe, 0xff
