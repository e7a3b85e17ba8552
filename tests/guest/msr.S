/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* MSRs: unknown ones, refused values, what is kept, TSC, APIC_BASE. */
#include "catch.h"
.macro READ index
	movl $\index, %ecx
	rdmsr
.endm
/* Writes RBX. */
.macro SET index
	movl $\index, %ecx
	movl %ebx, %eax
	movq %rbx, %rdx
	shrq $32, %rdx
.endm
/* The value goes in and comes out again. */
.macro KEEPS index, value, number
	movabsq $\value, %rbx
	SET \index
	wrmsr
	READ \index
	shlq $32, %rdx
	orq %rdx, %rax
	cmpq %rbx, %rax
	REQUIRE e, \number
.endm
.macro REFUSES index, value, number
	movabsq $\value, %rbx
	SET \index
	EXPECT64 13, 0, \number, wrmsr
.endm
	.globl _start
_start:
	ENTER_PROTECTED
	ENTER_LONG
	CATCH_ALL64
	movl $0xdeadbeef, %ecx
	EXPECT64 13, 0, 1, rdmsr
	EXPECT64 13, 0, 2, wrmsr
	KEEPS 0xc0000082, 0xffff800000001234, 3
	KEEPS 0xc0000081, 0x0013000800000000, 4
	KEEPS 0xc0000102, 0x00007fffffffffff, 5
	KEEPS 0x174, 0x10, 6
	KEEPS 0x176, 0xffff800000001234, 7
	KEEPS 0x277, 0x0007040600070406, 8
	KEEPS 0xc0000100, 0x12345678, 9
	READ 0xc0000100
	movl $0, %eax
	wrmsr
	/* undefined bits of EFER; leaving long mode with paging on */
	REFUSES 0xc0000080, 0x100000d01, 12
	REFUSES 0xc0000080, 0x801, 13
	/* a memory type that does not exist */
	REFUSES 0x277, 0x0007040600070402, 14
	SKIP_ON_TCG 1f /* takes any address */
	REFUSES 0xc0000082, 0x8000000000000000, 10
	REFUSES 0xc0000102, 0x0000800000000000, 11
1:
	/* user code has no business here */
	USER64 user_rdmsr
	CAUGHT 13, 0, 15, user_rdmsr
	USER64 user_rdtsc
	CAUGHT 6, -1, 16, user_rdtsc_end
	movq %cr4, %rax
	orq $4, %rax /* TSD */
	movq %rax, %cr4
	USER64 user_rdtsc
	CAUGHT 13, 0, 17, user_rdtsc
	rdtsc
	movq %cr4, %rax
	andq $~4, %rax
	movq %rax, %cr4
	/* TSC: counts; a written value is where it goes on */
	rdtsc
	shlq $32, %rdx
	orq %rdx, %rax
	movq %rax, %rsi
	rdtsc
	shlq $32, %rdx
	orq %rdx, %rax
	cmpq %rsi, %rax
	REQUIRE a, 18
	movabsq $0x5000000000, %rbx
	SET 0x10
	wrmsr
	rdtsc
	cmpl $0x50, %edx
	REQUIRE e, 19
	READ 0x10
	cmpl $0x50, %edx
	REQUIRE e, 20
	/* TSC_AUX by RDTSCP and RDPID's MSR */
	movl $0x80000001, %eax
	cpuid
	btl $27, %edx
	jnc 1f
	KEEPS 0xc0000103, 0x77, 21
	rdtscp
	cmpl $0x77, %ecx
	REQUIRE e, 22
1:	/* the base of the LAPIC, the bootstrap processor, enabled */
	READ 0x1b
	andl $0xfffffd00, %eax
	cmpl $0xfee00900, %eax
	REQUIRE e, 23
	/* off: CPUID has no APIC any more */
	READ 0x1b
	andl $~0x800, %eax
	wrmsr
	movl $1, %eax
	cpuid
	btl $9, %edx
	REQUIRE nc, 24
	READ 0x1b
	orl $0x800, %eax
	wrmsr
	movl $1, %eax
	cpuid
	btl $9, %edx
	REQUIRE c, 25
	/* reserved bits */
	READ 0x1b
	orl $1, %eax
	EXPECT64 13, 0, 26, wrmsr
	PASS
user_rdmsr:
	rdmsr
user_rdtsc:
	rdtsc
user_rdtsc_end:
	ud2
	CATCHERS64
	TABLES
