/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Segmentation in 32-bit protected mode: limits, expand-down, types, privilege, null, LDT, and the instructions that look at descriptors. */
#include "catch.h"
#define OWN 0x58 /* the guest's own descriptors */
#define LDT 0x7400
#define DATA 0x400000
/* Descriptor n of our own: its two halves. */
.macro DESCRIPTOR n, low, high
	movl $\low, gdt + OWN + 8 * \n
	movl $\high, gdt + OWN + 8 * \n + 4
.endm
.macro LOAD register, n, rpl=0
	movl $(OWN + 8 * \n + \rpl), %eax
	movl %eax, %\register
.endm
	.globl _start
_start:
	ENTER_PROTECTED
	CATCH_ALL32
	movl $STACK_TOP - 0x800, tss + 4
	movl $SEL_DATA, tss + 8
	movl $SEL_TSS, %eax
	ltr %ax
	/* ---- limits: bytes 0-0xfff at DATA ---- */
	DESCRIPTOR 0, 0x00000fff, 0x00409240
	LOAD fs, 0
	movl $0x12345678, %fs:0xffc
	cmpl $0x12345678, DATA + 0xffc
	REQUIRE e, 1
	EXPECT32 13, 0, 2, movl %fs:0xffd, %eax
	EXPECT32 13, 0, 3, movl %eax, %fs:0xffd
	EXPECT32 13, 0, 4, movb %fs:0x1000, %al
	EXPECT32 13, 0, 5, movl %fs:0xffffffff, %eax
	movb %fs:0xfff, %al
	/* the accessed bit is set by the load */
	testb $1, gdt + OWN + 5
	REQUIRE nz, 6
	/* page granularity: limit 1 is bytes 0-0x1fff */
	DESCRIPTOR 1, 0x00000001, 0x00c09240
	LOAD fs, 1
	movl %fs:0x1ffc, %eax
	EXPECT32 13, 0, 7, movl %fs:0x1ffd, %eax
	/* expand-down, 16 bits: valid from limit + 1 to 0xffff */
	DESCRIPTOR 2, 0x00000fff, 0x00009640
	LOAD fs, 2
	EXPECT32 13, 0, 8, movb %fs:0xfff, %al
	movb %fs:0x1000, %al
	movl %fs:0xfffc, %eax
	EXPECT32 13, 0, 9, movl %fs:0xfffd, %eax
	/* with B to 4 GiB */
	DESCRIPTOR 3, 0x00000fff, 0x00409640
	LOAD fs, 3
	movl %fs:0x10000, %eax
	EXPECT32 13, 0, 10, movl %fs:0xffd, %eax
	/* ---- types ---- */
	DESCRIPTOR 4, 0x0000ffff, 0x00409040 /* read-only data */
	LOAD fs, 4
	movl %fs:0, %eax
	EXPECT32 13, 0, 11, movl %eax, %fs:0
	movl $(OWN + 32), %eax
	EXPECT32 13, 0x78, 12, movl %eax, %ss
	EXPECT32 13, 0, 13, movl %eax, %cs:0x8000
	DESCRIPTOR 5, 0x0000ffff, 0x00409840 /* execute-only code */
	movl $(OWN + 40), %eax
	EXPECT32 13, (0x58+40), 14, movl %eax, %fs
	EXPECT32 13, (0x58+40), 15, movl %eax, %ss
	DESCRIPTOR 6, 0x0000ffff, 0x00401240 /* not present */
	movl $(OWN + 48), %eax
	EXPECT32 11, (0x58+48), 16, movl %eax, %fs
	EXPECT32 12, (0x58+48), 17, movl %eax, %ss
	movl $SEL_TSS, %eax
	EXPECT32 13, 0x48, 18, movl %eax, %es
	movl $0x1000, %eax /* beyond the table */
	EXPECT32 13, 0x1000, 19, movl %eax, %gs
	/* a failed load leaves the register */
	LOAD fs, 0
	movl $0x1000, %eax
	EXPECT32 13, 0x1000, 20, movl %eax, %fs
	movl %fs, %eax
	cmpl $OWN, %eax
	REQUIRE e, 21
	/* null: may be loaded, not used; not into SS or CS */
	xorl %eax, %eax
	movl %eax, %fs
	EXPECT32 13, 0, 22, movb %fs:0, %al
	movl $3, %eax
	movl %eax, %gs
	EXPECT32 13, 0, 23, movb %gs:0, %al
	xorl %eax, %eax
	EXPECT32 13, 0, 24, movl %eax, %ss
	EXPECT32 6, -1, 25, .byte 0x8e, 0xc8 /* mov %eax, %cs */
	/* SS: limits give #SS */
	DESCRIPTOR 0, 0x00007fff, 0x00409200 /* base 0, bytes 0-0x7fff */
	movl %esp, %ebp
	movl $OWN, %eax
	movl %eax, %ss
	movl $92f, resume_at
	movl %ebp, resume_rsp
	movl $0x8010, %ebx
	movl %ss:(%ebx), %eax
	FAIL 26
92:	cmpl $12, caught_vector
	REQUIRE e, 26
	cmpl $0, caught_error
	REQUIRE e, 26
	movl $0, resume_at
	/* ---- privilege of data segments ---- */
	movl $(SEL_UDATA & ~3), %eax /* RPL 0, DPL 3 */
	movl %eax, %fs
	movl $(OWN + 3), %eax /* RPL 3, DPL 0 */
	EXPECT32 13, 0x58, 27, movl %eax, %fs
	movl $SEL_UDATA, %eax
	EXPECT32 13, 0x30, 28, movl %eax, %ss /* DPL is not CPL */
	USER32 user_load
	CAUGHT32 13, 0x10, 29, user_load_here
	/* a return to ring 3 takes away what it may not keep */
	movl $SEL_DATA, %eax
	movl %eax, %gs
	USER32 user_gs
	CAUGHT32 6, -1, 30, user_gs_end
	testl %ebx, %ebx
	REQUIRE z, 30
	/* ---- code segments: limit, conforming, privilege ---- */
	DESCRIPTOR 5, 0x0000ffff, 0x00409a00
	ljmpl $(OWN + 40), $in_own
in_own:
	ljmpl $SEL_CODE32, $back
back:
	EXPECT32 13, (0x58), 31, ljmpl $OWN, $in_own /* data */
	EXPECT32 13, 0, 32, ljmpl $0, $in_own
	EXPECT32 13, 0x40, 33, ljmpl $SEL_UCODE32, $in_own
	EXPECT32 13, 0, 34, ljmpl $(OWN + 40), $0x10000 /* beyond the limit */
	DESCRIPTOR 5, 0x0000ffff, 0x00401a00
	EXPECT32 11, (0x58+40), 35, ljmpl $(OWN + 40), $in_own
	DESCRIPTOR 5, 0x0000ffff, 0x00409e00 /* conforming: runs at the caller's CPL */
	USER32 user_conforming
	CAUGHT32 6, -1, 36, conforming_end
	movl caught_cs, %eax
	cmpw $(OWN + 40 + 3), %ax
	REQUIRE e, 37
	/* falling off the end of a code segment */
	DESCRIPTOR 5, (7), 0x00409a40 /* 8 bytes at DATA */
	movl $0x90909090, DATA
	movl $0x90909090, DATA + 4
	movl $92f, resume_at
	movl %esp, resume_rsp
	ljmpl $(OWN + 40), $0
	FAIL 38
92:	movl $0, resume_at
	cmpl $13, caught_vector
	REQUIRE e, 38
	cmpl $8, caught_rip
	REQUIRE e, 38

	/* ---- LDT ---- */
	movl $0x00000000, LDT
	movl $0, LDT + 4
	movl $0x0000ffff, LDT + 8
	movl $0x00409240, LDT + 12
	DESCRIPTOR 6, (0x74000000 + 15), 0x00008200
	movl $(OWN + 48), %eax
	lldt %ax
	sldt %ax
	cmpw $(OWN + 48), %ax
	REQUIRE e, 40
	movl $(8 + 4), %eax
	movl %eax, %fs
	movl $0x5555, %fs:0x100
	cmpl $0x5555, DATA + 0x100
	REQUIRE e, 41
	movl $(16 + 4), %eax
	EXPECT32 13, 20, 42, movl %eax, %fs
	movl $OWN, %eax
	EXPECT32 13, 0x58, 43, lldt %ax
	xorl %eax, %eax
	lldt %ax
	movl $(8 + 4), %eax
	EXPECT32 13, 12, 44, movl %eax, %fs

	/* ---- LAR, LSL, VERR, VERW, ARPL ---- */
	DESCRIPTOR 5, 0x0000ffff, 0x00409840 /* execute-only */
	movl $SEL_DATA, %ecx
	lar %ecx, %eax
	REQUIRE z, 50
	andl $~0x100, %eax
	cmpl $0x00cf9200, %eax
	REQUIRE e, 51
	lsl %ecx, %eax
	REQUIRE z, 52
	cmpl $-1, %eax
	REQUIRE e, 53
	movl $0x1000, %ecx
	movl $0x77, %eax
	lar %ecx, %eax
	REQUIRE nz, 54
	cmpl $0x77, %eax
	REQUIRE e, 55
	movl $(SEL_DATA + 3), %ecx /* RPL 3, DPL 0 */
	lsl %ecx, %eax
	REQUIRE nz, 56
	verr %cx
	REQUIRE nz, 57
	movl $SEL_DATA, %ecx
	verr %cx
	REQUIRE z, 58
	verw %cx
	REQUIRE z, 59
	movl $(OWN + 32), %ecx /* read-only */
	verr %cx
	REQUIRE z, 60
	verw %cx
	REQUIRE nz, 61
	movl $(OWN + 40), %ecx /* execute-only */
	verr %cx
	REQUIRE nz, 62
	movl $SEL_CODE32, %ecx
	verr %cx
	REQUIRE z, 63
	verw %cx
	REQUIRE nz, 64
	xorl %ecx, %ecx
	verr %cx
	REQUIRE nz, 65
	movl $SEL_TSS, %ecx /* system descriptors: LAR and LSL, not VERR */
	lar %ecx, %eax
	REQUIRE z, 66
	lsl %ecx, %eax
	REQUIRE z, 67
	cmpl $0x67, %eax
	REQUIRE e, 68
	verr %cx
	REQUIRE nz, 69
	movl $0x1230, %eax
	movl $0x0003, %ecx
	arpl %cx, %ax
	REQUIRE z, 70
	cmpw $0x1233, %ax
	REQUIRE e, 71
	arpl %cx, %ax
	REQUIRE nz, 72
	/* SGDT and LGDT; LTR of a busy TSS */
	sgdt 0x7300
	movl 0x7302, %eax
	cmpl $gdt, %eax
	REQUIRE e, 73
	movl $SEL_TSS, %eax
	EXPECT32 13, 0x48, 74, ltr %ax
	PASS

user_load:
	movl $SEL_DATA, %eax
user_load_here:
	movl %eax, %es
user_gs:
	movl %gs, %ebx
user_gs_end:
	ud2
user_conforming:
	ljmpl $(OWN + 40 + 3), $conforming
conforming:
	nop
conforming_end:
	ud2
	CATCHERS32
	TABLES
