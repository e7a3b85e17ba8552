/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* String instructions: direction, sizes, address sizes, faults and interrupts in the midst of REP. */
#include "catch.h"
#define BUFFER 0x400000
#define HOLE 0x1600000 /* not present: PD 0 entry 11 */
	.globl _start
_start:
	ENTER_PROTECTED
	ENTER_LONG
	CATCH_ALL64
	cld
	/* STOS of all sizes */
	movl $BUFFER, %edi
	movabsq $0x1122334455667788, %rax
	movl $3, %ecx
	rep stosq
	cmpl $(BUFFER + 24), %edi
	REQUIRE e, 1
	testl %ecx, %ecx
	REQUIRE z, 2
	cmpq %rax, BUFFER + 16
	REQUIRE e, 3
	stosb
	stosw
	stosl
	cmpl $(BUFFER + 31), %edi
	REQUIRE e, 4
	movl BUFFER + 24, %ebx
	cmpl $0x88778888, %ebx
	REQUIRE e, 5
	/* MOVS forward over itself spreads; backward it moves */
	movl $BUFFER, %edi
	movb $0x5a, (%rdi)
	leal 1(%rdi), %edi
	movl $BUFFER, %esi
	movl $100, %ecx
	rep movsb
	cmpb $0x5a, BUFFER + 100
	REQUIRE e, 6
	movl $100, %ecx
1:	movb %cl, BUFFER(%rcx)
	decl %ecx
	jnz 1b
	std
	movl $(BUFFER + 100), %esi
	movl $(BUFFER + 102), %edi
	movl $100, %ecx
	rep movsb
	cld
	cmpb $100, BUFFER + 102
	REQUIRE e, 7
	cmpb $1, BUFFER + 3
	REQUIRE e, 8
	cmpl $BUFFER, %esi
	REQUIRE e, 9
	/* SCAS and CMPS stop where they should, with flags of the last comparison */
	movl $(BUFFER + 3), %edi
	movb $50, %al
	movl $200, %ecx
	repne scasb
	REQUIRE e, 10
	cmpl $(BUFFER + 53), %edi
	REQUIRE e, 11
	cmpl $150, %ecx
	REQUIRE e, 12
	movl $BUFFER, %esi
	movl $(BUFFER + 0x1000), %edi
	movl $25, %ecx
	rep movsl
	movb $0, BUFFER + 0x1000 + 60
	movl $BUFFER, %esi
	movl $(BUFFER + 0x1000), %edi
	movl $100, %ecx
	repe cmpsb
	REQUIRE a, 13
	cmpl $(BUFFER + 61), %esi
	REQUIRE e, 14
	/* a count of 0 leaves everything, flags as well */
	xorl %ecx, %ecx
	cmpb $1, %cl /* CF */
	repe cmpsb
	REQUIRE c, 15
	/* LODS */
	movl $BUFFER + 3, %esi
	xorl %eax, %eax
	lodsb
	cmpl $1, %eax
	REQUIRE e, 16
	/* 32-bit addresses: ECX, ESI, EDI alone count and are written */
	movabsq $0xffffffff00000004, %rcx
	movabsq $0xffffffff00400000, %rdi
	movabsq $0xffffffff00400003, %rsi
	.byte 0x67
	rep movsb
	testq %rcx, %rcx
	REQUIRE z, 17
	movl $(BUFFER + 4), %eax
	cmpq %rax, %rdi
	REQUIRE e, 18
	cmpb $4, BUFFER + 3
	REQUIRE e, 19
	/* the 32-bit index wraps at 4 GiB: EDI = 0xfffffffe is no memory of ours, so with ECX 0 only */
	xorl %ecx, %ecx
	movabsq $0x1fffffffe, %rdi
	.byte 0x67
	rep stosb
	movabsq $0x1fffffffe, %rax
	cmpq %rax, %rdi
	REQUIRE e, 20

	/* ---- a fault in the midst: registers tell how far it came, and it goes on from there ---- */
	movq $0, PAGE_TABLES + 0x2000 + 8 * 11
	invlpg HOLE
	movl $(HOLE - 32), %edi
	movl $100, %ecx
	movl $0xcc, %eax
	cld
	EXPECT64 14, 2, 21, rep stosb
	cmpl $HOLE, %edi
	REQUIRE e, 22
	cmpl $68, %ecx
	REQUIRE e, 23
	movq %cr2, %rbx
	cmpq $HOLE, %rbx
	REQUIRE e, 24
	movq $0x1600087, PAGE_TABLES + 0x2000 + 8 * 11
	rep stosb
	cmpl $(HOLE + 68), %edi
	REQUIRE e, 25
	cmpb $0xcc, HOLE + 67
	REQUIRE e, 26
	movq $0, PAGE_TABLES + 0x2000 + 8 * 11
	invlpg HOLE
	/* MOVS: the read faults first; the elements before it are there */
	movl $(HOLE - 16), %esi
	movl $BUFFER, %edi
	movl $10, %ecx
	EXPECT64 14, 0, 27, rep movsq
	cmpl $HOLE, %esi
	REQUIRE e, 28
	cmpl $(BUFFER + 16), %edi
	REQUIRE e, 29
	cmpl $8, %ecx
	REQUIRE e, 30
	/* an element that crosses into the hole leaves nothing of itself */
	movl $0, HOLE - 4
	movl $(HOLE - 4), %edi
	movl $2, %ecx
	movq $-1, %rax
	EXPECT64 14, 2, 31, rep stosq
	cmpl $0, HOLE - 4
	REQUIRE e, 32
	cmpl $2, %ecx
	REQUIRE e, 33
	/* backward into it from above */
	movq $0x1600087, PAGE_TABLES + 0x2000 + 8 * 11
	movq $0, PAGE_TABLES + 0x2000 + 8 * 12
	movq %cr3, %rax
	movq %rax, %cr3
	movl $0x1a00007, %edi
	movl $50, %ecx
	std
	EXPECT64 14, 2, 34, rep stosb
	cld
	cmpl $0x19fffff, %edi
	REQUIRE e, 35
	cmpl $42, %ecx
	REQUIRE e, 36

	/* ---- interrupted: the saved RIP is the instruction's own, and it ends right ---- */
	movl $LAPIC_BASE, %r15d
	movl $0x1ff, LAPIC_SVR(%r15)
	movl $0xb, LAPIC_DIVIDE(%r15)
	movl $0x20070, LAPIC_LVT_TIMER(%r15)
	movl $20000, LAPIC_INITIAL(%r15)
	sti
1:	movl $BUFFER, %edi
	movl $0x100000, %ecx
	movb %bl, %al
rep_here:
	rep stosb
	cmpl $(BUFFER + 0x100000), %edi
	REQUIRE e, 40
	testl %ecx, %ecx
	REQUIRE z, 41
	cmpb %bl, BUFFER + 0xfffff
	REQUIRE e, 42
	incl %ebx
	cmpq $rep_here, irq_rip
	jne 1b
	cli

	/* ---- INS and OUTS ---- */
	movl $0x10000, LAPIC_LVT_TIMER(%r15)
	movl $text, %esi
	movl $(text_end - text), %ecx
	movw $PORT_TEXT, %dx
	rep outsb
	cmpl $text_end, %esi
	REQUIRE e, 43
	movw $(PORT_WORLD + WORLD_VCPUS), %dx
	movl $BUFFER, %edi
	movl $3, %ecx
	rep insb
	cmpl $(BUFFER + 3), %edi
	REQUIRE e, 44
	cmpw $0x0101, BUFFER + 1
	REQUIRE e, 45
	/* the page is checked before the port is read: all or nothing for one element */
	movl $0x1800000, %edi
	movl $1, %ecx
	EXPECT64 14, 2, 46, insb
	PASS
text:
	.ascii "text by REP OUTSB\n"
text_end:
	CATCHERS64
	TABLES
