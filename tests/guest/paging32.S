/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 32-bit paging with and without PSE, and PAE: rights, A and D, 4 MiB and 2 MiB pages, PSE-36, reserved bits, the PDPTE registers. */
#include "catch.h"

#define PD 0x110000
#define PT 0x111000
#define PDPT 0x112000
#define PAE_PD 0x113000 /* four of them */
#define PAE_PT 0x117000
#define FRAMES 0x1000000
#define WINDOW 0x40000000

.macro RELOAD
	movl %cr3, %eax
	movl %eax, %cr3
.endm
.macro ENTRY_IS address, mask, value, number
	movl \address, %eax
	andl $\mask, %eax
	cmpl $\value, %eax
	REQUIRE e, \number
.endm
.macro SET register, bits
	movl %\register, %eax
	orl $\bits, %eax
	movl %eax, %\register
.endm
.macro CLEAR register, bits
	movl %\register, %eax
	andl $~(\bits), %eax
	movl %eax, %\register
.endm
.macro EXPECT_USER error, number, instruction:vararg
	jmp 90f
89:	\instruction
	hlt
90:	movl $SEL_UDATA, %eax
	movl %eax, %ds
	USER32 89b
	CAUGHT32 14, \error, \number, 89b
.endm
/* TCG leaves P out of the error code of a reserved bit. */
.macro EXPECT_RESERVED error, number, instruction:vararg
	SKIP_ON_TCG 88f
	EXPECT32 14, \error, \number, \instruction
88:
.endm
/* The checks that both formats share. entry: the PT's for WINDOW; table: what leads to it; EDI is WINDOW. */
.macro SHARED entry, table, first
	movl $WINDOW, %edi
	movl $(FRAMES + 7), \entry
	RELOAD
	cmpl $0xaaaa0000, (%edi)
	REQUIRE e, \first
	ENTRY_IS \entry, 0x60, 0x20, \first + 1
	ENTRY_IS \table, 0x60, 0x20, \first + 1
	movl $0xaaaa0000, (%edi)
	ENTRY_IS \entry, 0x60, 0x60, \first + 2
	/* no write: no D */
	movl $(FRAMES + 5), \entry
	invlpg (%edi)
	EXPECT32 14, 3, \first + 3, movb %al, (%edi)
	ENTRY_IS \entry, 0x40, 0, \first + 3
	EXPECT_USER 7, \first + 4, movb %al, (%edi)
	CLEAR cr0, 0x10000
	movl $0xaaaa0000, (%edi)
	EXPECT_USER 7, \first + 5, movb %al, (%edi)
	SET cr0, 0x10000
	EXPECT32 14, 3, \first + 6, movb %al, (%edi)
	movl $(FRAMES + 3), \entry
	invlpg (%edi)
	EXPECT_USER 5, \first + 7, movb (%edi), %al
	movl $0, \entry
	invlpg (%edi)
	EXPECT32 14, 0, \first + 8, movb 3(%edi), %al
	movl %cr2, %eax
	subl %edi, %eax
	cmpl $3, %eax
	REQUIRE e, \first + 8
	EXPECT32 14, 2, \first + 9, movb %al, (%edi)
	EXPECT_USER 4, \first + 10, movb (%edi), %al
	EXPECT_USER 6, \first + 10, movb %al, (%edi)
	/* global pages, and what takes them away */
	SET cr4, 0x80
	movl $(FRAMES + 0x107), \entry
	cmpl $0xaaaa0000, (%edi)
	REQUIRE e, \first + 11
	movl $(FRAMES + 0x1107), \entry
	invlpg (%edi)
	cmpl $0xaaaa0001, (%edi)
	REQUIRE e, \first + 11
	movl $(FRAMES + 0x107), \entry
	CLEAR cr4, 0x80
	cmpl $0xaaaa0000, (%edi)
	REQUIRE e, \first + 12
.endm

	.globl _start
_start:
	ENTER_PROTECTED
	CATCH_ALL32
	movl $STACK_TOP, tss + 4
	movl $SEL_DATA, tss + 8
	movl $SEL_TSS, %eax
	ltr %ax
	movl $PD, %edi
	xorl %eax, %eax
	movl $(0x8000 / 4), %ecx
	rep stosl
	movl $0xaaaa0000, FRAMES
	movl $0xaaaa0001, FRAMES + 0x1000
	movl $0xaaaa0002, FRAMES + 0x400000
	movl $0xaaaa0003, FRAMES + 0x200000

	/* ---- 32-bit: the first 4 MiB by a table, which need no PSE ---- */
	movl $PT, %edi
	movl $7, %eax
1:	stosl
	addl $0x1000, %eax
	cmpl $(PT + 0x1000), %edi
	jne 1b
	movl $(PT + 7), PD
	movl $(PD + 0x7007), PD + WINDOW / 0x400000 * 4
	movl $PD, %eax
	movl %eax, %cr3
	SET cr0, 0x80010000
	SHARED PD+0x7000, PD+WINDOW/0x400000*4, 1
	/* rights of both levels together */
	movl $(FRAMES + 7), PD + 0x7000
	movl $(PD + 0x7005), PD + WINDOW / 0x400000 * 4
	RELOAD
	EXPECT32 14, 3, 20, movb %al, (%edi)
	movl $(PD + 0x7003), PD + WINDOW / 0x400000 * 4
	RELOAD
	EXPECT_USER 5, 21, movb (%edi), %al
	/* without PSE, bit 7 of a directory entry is nothing */
	movl $(PD + 0x7087), PD + WINDOW / 0x400000 * 4
	RELOAD
	cmpl $0xaaaa0000, (%edi)
	REQUIRE e, 22
	/* with PSE, it is a page of 4 MiB */
	movl $(FRAMES + 0x87), PD + WINDOW / 0x400000 * 4
	SET cr4, 0x10
	cmpl $0xaaaa0001, 0x1000(%edi)
	REQUIRE e, 23
	ENTRY_IS PD+WINDOW/0x400000*4, 0x60, 0x20, 24
	movb $0x55, 0x3fffff(%edi)
	ENTRY_IS PD+WINDOW/0x400000*4, 0x60, 0x60, 25
	CLEAR cr0, 0x80000000
	cmpb $0x55, FRAMES + 0x3fffff
	REQUIRE e, 26
	SET cr0, 0x80000000
	movl $(FRAMES + 0x400085), PD + WINDOW / 0x400000 * 4
	invlpg 0x3ff000(%edi)
	cmpl $0xaaaa0002, (%edi)
	REQUIRE e, 27
	EXPECT32 14, 3, 28, movb %al, (%edi)
	/* bit 21 is reserved; bits 13-20 are address bits 32-39 */
	movl $(FRAMES + 0x200087), PD + WINDOW / 0x400000 * 4
	RELOAD
	EXPECT_RESERVED 9, 29, movb (%edi), %al
	SKIP_ON_TCG 1f
	EXPECT_USER 0xf, 30, movb %al, (%edi)
1:	movl $(FRAMES + 0x1087), PD + WINDOW / 0x400000 * 4
	RELOAD
	cmpl $0xaaaa0000, (%edi)
	REQUIRE e, 31

	/* ---- PAE ---- */
	CLEAR cr0, 0x80000000
	movl $(PAE_PD + 1), PDPT
	movl $(PAE_PD + 0x1001), PDPT + 8
	movl $0x87, PAE_PD
	movl $(PAE_PT + 7), PAE_PD + 0x1000
	movl $0, PAE_PT
	CLEAR cr4, 0x10
	SET cr4, 0x20
	movl $PDPT, %eax
	movl %eax, %cr3
	SET cr0, 0x80000000
	SHARED PAE_PT, PAE_PD+0x1000, 40
	/* 2 MiB pages, PSE or not */
	movl $(FRAMES + 0x200087), PAE_PD + 0x1000
	RELOAD
	cmpl $0xaaaa0003, (%edi)
	REQUIRE e, 60
	ENTRY_IS PAE_PD+0x1000, 0x60, 0x20, 61
	movl %eax, 4(%edi)
	ENTRY_IS PAE_PD+0x1000, 0x60, 0x60, 62
	movl $(FRAMES + 0x2087), PAE_PD + 0x1000
	RELOAD
	EXPECT_RESERVED 9, 63, movb (%edi), %al
	/* bits over the address width, 62-52 too; 63 without NXE */
	movl $(PAE_PT + 7), PAE_PD + 0x1000
	movl $(FRAMES + 7), PAE_PT
	movl $0x40000000, PAE_PT + 4
	RELOAD
	EXPECT_RESERVED 9, 64, movb (%edi), %al
	movl $0x80000000, PAE_PT + 4
	RELOAD
	EXPECT_RESERVED 9, 65, movb (%edi), %al
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x800, %eax
	wrmsr
	RELOAD
	cmpl $0xaaaa0000, (%edi)
	REQUIRE e, 66
	/* NX */
	movl $1f, resume_at
	movl %esp, resume_rsp
	jmp *%edi
1:	movl $0, resume_at
	CAUGHT32 14, 0x11, 67, WINDOW
	movl $0, PAE_PT + 4
	/* the PDPTEs are read when CR3 is written; a change alone does nothing */
	RELOAD
	movl $0, PDPT + 8
	invlpg (%edi)
	cmpl $0xaaaa0000, (%edi)
	REQUIRE e, 68
	RELOAD
	EXPECT32 14, 0, 69, movb (%edi), %al
	/* they have neither A nor rights; reserved bits are #GP at MOV to CR3, which then does nothing */
	movl $(PAE_PD + 0x1001), PDPT + 8
	RELOAD
	cmpl $0xaaaa0000, (%edi)
	REQUIRE e, 70
	ENTRY_IS PDPT+8, 0xfff, 1, 71
	movl $(PAE_PD + 0x1007), PDPT + 8
	movl %cr3, %eax
	EXPECT32 13, 0, 72, movl %eax, %cr3
	cmpl $0xaaaa0000, (%edi)
	REQUIRE e, 73
	/* not checked when not present */
	movl $(PAE_PD + 0x1006), PDPT + 8
	RELOAD
	movl $(PAE_PD + 0x1001), PDPT + 8
	/* CR3 is aligned to 32 */
	movl $(PAE_PD + 1), PDPT + 0x820
	movl $(PAE_PD + 0x1001), PDPT + 0x828
	movl $(PDPT + 0x820), %eax
	movl %eax, %cr3
	cmpl $0xaaaa0000, (%edi)
	REQUIRE e, 74
	/* and back */
	CLEAR cr0, 0x80000000
	CLEAR cr4, 0x20
	movl $PD, %eax
	movl %eax, %cr3
	SET cr4, 0x10
	SET cr0, 0x80000000
	cmpl $0xaaaa0000, (%edi)
	REQUIRE e, 75
	PASS
	CATCHERS32
	TABLES
