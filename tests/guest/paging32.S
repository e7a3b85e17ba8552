/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Paging of 32-bit mode: 4 KiB and 4 MiB pages, PSE-36, then PAE with its four pointers, and NX there. */
#include "catch.h"
#define DIR 0x110000
#define PT 0x111000
#define PDPT 0x112000 /* 32 bytes */
#define PAE_DIR 0x114000 /* 4 pages */
#define PAE_PT 0x118000
#define SPACE 0x1000000 /* 16 MiB */
.macro FLUSH
	movl %cr3, %eax
	movl %eax, %cr3
.endm
.macro PAGING_OFF
	movl %cr0, %eax
	andl $0x7fffffff, %eax
	movl %eax, %cr0
.endm
.macro PAGING_ON
	movl %cr0, %eax
	orl $0x80010000, %eax
	movl %eax, %cr0
.endm
	.globl _start
_start:
	ENTER_PROTECTED
	CATCH_ALL32
	/* 32-bit TSS for ring 3 */
	movl $STACK_TOP - 0x800, tss + 4
	movl $SEL_DATA, tss + 8
	movl $SEL_TSS, %eax
	ltr %ax

	/* ---- 4 MiB pages one to one, but for SPACE ---- */
	movl $DIR, %edi
	movl $0x87, %eax
1:	movl %eax, (%edi)
	addl $4, %edi
	addl $0x400000, %eax
	jnc 1b
	movl $PT, %edi
	movl $(SPACE + 7), %eax
	movl $1024, %ecx
2:	stosl
	addl $0x1000, %eax
	loop 2b
	movl $(PT + 7), DIR + 4 * 4
	movl $DIR, %eax
	movl %eax, %cr3
	movl %cr4, %eax
	orl $0x10, %eax /* PSE */
	movl %eax, %cr4
	PAGING_ON
	movl $0x11111111, SPACE + 0x3000
	movl $0x22222222, SPACE + 0x4000
	/* pages change places */
	movl $(SPACE + 0x4007), PT + 4 * 3
	invlpg SPACE + 0x3000
	cmpl $0x22222222, SPACE + 0x3000
	REQUIRE e, 1
	/* rights */
	movl $(SPACE + 0x5005), PT + 4 * 5
	movl $0, PT + 4 * 6
	movl $(SPACE + 0x7003), PT + 4 * 7
	FLUSH
	EXPECT32 14, 3, 2, movl %eax, SPACE + 0x5000
	EXPECT32 14, 2, 3, movl %eax, SPACE + 0x6000
	movl %cr2, %eax
	cmpl $(SPACE + 0x6000), %eax
	REQUIRE e, 4
	USER32 user_read
	CAUGHT32 14, 5, 5, user_read
	/* an access over two pages, the second of which is not there */
	movl $(SPACE + 0x5007), PT + 4 * 5
	FLUSH
	movl $0x33333333, SPACE + 0x5ffc
	EXPECT32 14, 2, 6, movl %eax, SPACE + 0x5ffe
	cmpl $0x33333333, SPACE + 0x5ffc
	REQUIRE e, 7
	movl %cr2, %eax
	cmpl $(SPACE + 0x6000), %eax
	REQUIRE e, 8
	/* A and D of a 4 MiB page */
	movl $0x1400087, DIR + 4 * 5
	FLUSH
	movl 0x1400000, %eax
	movb DIR + 4 * 5, %al
	andb $0x60, %al
	cmpb $0x20, %al
	REQUIRE e, 9
	movl %eax, 0x1400000
	testb $0x40, DIR + 4 * 5
	REQUIRE nz, 10
	/* PSE-36: bits 16:13 are address bits 35:32; bit 21 is reserved */
	movl $0x1600087, DIR + 4 * 5
	FLUSH
	SKIP_ON_TCG 8f /* does not look at it */
	EXPECT32 14, 9, 11, movl 0x1400000, %eax
8:
	movl $0x1400087, DIR + 4 * 5
	/* without PSE bit 7 means nothing: the entry points to a page table */
	movl $(SPACE + 0x40c7), 0x1000 /* the first entry of page table 0x1000 */
	movl $0x1087, DIR + 4 * 6
	PAGING_OFF
	movl %cr4, %eax
	andl $~0x10, %eax
	movl %eax, %cr4
	/* 4 KiB tables for the code too */
	movl $0x119000, %edi
	movl $7, %eax
	movl $1024, %ecx
3:	stosl
	addl $0x1000, %eax
	loop 3b
	movl $0x119007, DIR
	PAGING_ON
	cmpl $0x22222222, 0x1800000
	REQUIRE e, 12
	PAGING_OFF

	/* ---- PAE ---- */
	movl $1, %eax
	cpuid
	testl $0x40, %edx
	jz no_pae
	movl $PAE_DIR, %edi
	movl $0x87, %eax
	xorl %edx, %edx
4:	movl %eax, (%edi)
	movl $0, 4(%edi)
	addl $8, %edi
	addl $0x200000, %eax
	jnc 4b
	movl $PDPT, %edi
	movl $(PAE_DIR + 1), %eax
	movl $4, %ecx
5:	movl %eax, (%edi)
	movl $0, 4(%edi)
	addl $8, %edi
	addl $0x1000, %eax
	loop 5b
	movl $PAE_PT, %edi
	movl $(SPACE + 7), %eax
	movl $512, %ecx
6:	movl %eax, (%edi)
	movl $0, 4(%edi)
	addl $8, %edi
	addl $0x1000, %eax
	loop 6b
	movl $(PAE_PT + 7), PAE_DIR + 8 * 8
	movl %cr4, %eax
	orl $0x20, %eax
	movl %eax, %cr4
	movl $PDPT, %eax
	movl %eax, %cr3
	PAGING_ON
	cmpl $0x22222222, SPACE + 0x4000
	REQUIRE e, 20
	movl $(SPACE + 0x4007), PAE_PT + 8 * 3
	invlpg SPACE + 0x3000
	cmpl $0x22222222, SPACE + 0x3000
	REQUIRE e, 21
	SKIP_ON_TCG 7f
	/* the pointers are read when CR3 is written, and at no other time (but for AMD's nested paging) */
	movl $0, PDPT + 8 * 3
	movl 0xfee00030, %eax
	movl $(PAE_DIR + 0x3001), PDPT + 8 * 3
	/* a reserved bit in one of them is #GP at that time, and CR3 stays */
	movl $(PAE_DIR + 0x1003), PDPT + 8
	movl $PDPT, %eax
	EXPECT32 13, 0, 22, movl %eax, %cr3
	movl $(PAE_DIR + 0x1001), PDPT + 8
7:	/* one that is not present */
	movl $0, PDPT + 8
	FLUSH
	EXPECT32 14, 0, 23, movl 0x40000000, %eax
	movl $(PAE_DIR + 0x1001), PDPT + 8
	FLUSH
	/* NX */
	movl $0x80000001, %eax
	cpuid
	btl $20, %edx
	jnc no_nx
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x800, %eax
	wrmsr
	movl $0x80000000, PAE_PT + 8 * 4 + 4
	FLUSH
	movl SPACE + 0x4000, %eax
	movl $92f, resume_at
	movl %esp, resume_rsp
	movl $SPACE + 0x4000, %eax
	call *%eax
	FAIL 24
92:	movl $0, resume_at
	cmpl $0x11, caught_error
	REQUIRE e, 24
no_nx:
	/* frames above 4 GiB can be named: nothing is there, reads give ones */
	movl $1, PAE_PT + 8 * 10 + 4
	FLUSH
	cmpl $-1, SPACE + 0xa000
	REQUIRE e, 25
	PAGING_OFF
no_pae:
	PASS
user_read: movl SPACE + 0x7000, %eax
	CATCHERS32
	TABLES
