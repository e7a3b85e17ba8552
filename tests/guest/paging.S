/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * 4-level paging: rights, error codes, A and D, page sizes, reserved bits, INVLPG, global pages, PCID, SMEP and SMAP (SDM volume 3, chapter 5).
 * That a translation stays in the TLB is never required, so only what must be visible after an invalidation is checked.
 */
#include "catch.h"

#define PD 0x106000
#define PT 0x107000
/* PDPT entries 4, the window, and 5 */
#define PDPTE(n) PAGE_TABLES+0x1000+n*8
#define WINDOW 0x100000000 /* linear: 512 pages of PT */
#define FRAMES 0x1000000   /* physical, behind it */
#define FRAMES_LINEAR 0x1000000

/* PT entry: the frame of this number, with attributes. INVLPG follows: RBX is the page. */
.macro PAGE number, frame, attributes, high=0
	movl $(FRAMES + \frame * 0x1000 + \attributes), PT + 8 * \number
	movl $\high, PT + 8 * \number + 4
	movabsq $(WINDOW + \number * 0x1000), %rbx
	invlpg (%rbx)
.endm
.macro ENTRY_IS address, mask, value, number
	movl \address, %eax
	andl $\mask, %eax
	cmpl $\value, %eax
	REQUIRE e, \number
.endm
/* TCG leaves P out of the error code of a reserved bit. */
.macro EXPECT_RESERVED error, number, instruction:vararg
	SKIP_ON_TCG 88f
	EXPECT64 14, \error, \number, \instruction
88:
.endm
/* A fetch from (RBX) must fault there. */
.macro EXPECT_FETCH error, number
	movq $92f, resume_at
	movq %rsp, resume_rsp
	movq $-1, caught_vector
	call *%rbx
	FAIL \number
92:	movq $0, resume_at
	cmpq $14, caught_vector
	REQUIRE e, \number
	cmpq %rbx, caught_rip
	REQUIRE e, \number
	cmpq $\error, caught_error
	REQUIRE e, \number
	movq %cr2, %rax
	cmpq %rax, %rbx
	REQUIRE e, \number
.endm
.macro EXPECT_USER error, number, instruction:vararg
	jmp 90f
89:	\instruction
	hlt
90:	USER64 89b
	CAUGHT 14, \error, \number, 89b
.endm
/* Without this bit of this leaf to the label. Clobbers RAX, RCX, RDX, not RBX. */
.macro WITHOUT leaf, register, bit, label
	movl $\leaf, %eax
	xorl %ecx, %ecx
	pushq %rbx
	cpuid
	movl %ebx, %esi
	popq %rbx
	btl $\bit, \register
	jnc \label
.endm
.macro CR4_SET bits
	movq %cr4, %rax
	orl $\bits, %eax
	movq %rax, %cr4
.endm
.macro CR4_CLEAR bits
	movq %cr4, %rax
	andl $~\bits, %eax
	movq %rax, %cr4
.endm

	.globl _start
_start:
	ENTER_PROTECTED
	ENTER_LONG
	CATCH_ALL64
	movl $PD, %edi
	xorl %eax, %eax
	movl $(0x2000 / 4), %ecx
	rep stosl
	movl $(PD + 7), PDPTE(4)
	movl $(PT + 7), PD
	movl $0xaaaa0000, FRAMES_LINEAR
	movl $0xaaaa0001, FRAMES_LINEAR + 0x1000
	movb $0xc3, FRAMES_LINEAR + 0x2000
	movl $0xaaaa0001, FRAMES_LINEAR + 0x1000

	/* ---- rights of ring 0 and ring 3 ---- */
	PAGE 0, 0, 3
	cmpl $0xaaaa0000, (%rbx)
	REQUIRE e, 1
	EXPECT_USER 5, 2, movb (%rbx), %al
	EXPECT_USER 7, 3, movb %al, (%rbx)
	PAGE 0, 0, 5
	EXPECT64 14, 3, 4, movb %al, (%rbx)
	EXPECT_USER 7, 5, movb %al, (%rbx)
	PAGE 0, 0, 6
	EXPECT64 14, 0, 6, movb (%rbx), %al
	EXPECT64 14, 2, 7, movb %al, (%rbx)
	EXPECT_USER 4, 8, movb (%rbx), %al
	EXPECT_USER 6, 9, movb %al, 5(%rbx)
	movq %cr2, %rax
	subq %rbx, %rax
	cmpq $5, %rax
	REQUIRE e, 10
	/* rights are those of all levels together */
	PAGE 0, 0, 7
	movl $(PT + 5), PD
	invlpg (%rbx)
	EXPECT64 14, 3, 11, movb %al, (%rbx)
	movl $(PT + 3), PD
	invlpg (%rbx)
	EXPECT_USER 5, 12, movb (%rbx), %al
	movl $(PT + 7), PD
	movl $0, PDPTE(4)
	invlpg (%rbx)
	EXPECT64 14, 0, 13, movb (%rbx), %al
	movl $(PD + 7), PDPTE(4)
	/* CR0.WP = 0 is for ring 0 only */
	PAGE 0, 0, 5
	movq %cr0, %rax
	andl $~0x10000, %eax
	movq %rax, %cr0
	movl $0xaaaa1000, (%rbx)
	EXPECT_USER 7, 14, movb %al, (%rbx)
	movq %cr0, %rax
	orl $0x10000, %eax
	movq %rax, %cr0
	EXPECT64 14, 3, 15, movb %al, (%rbx)
	cmpl $0xaaaa1000, FRAMES_LINEAR
	REQUIRE e, 16
	movl $0xaaaa0000, FRAMES_LINEAR

	/* ---- A and D ---- */
	PAGE 1, 1, 7
	ENTRY_IS PT + 8, 0x60, 0, 20
	movl $(PT + 7), PD
	movl $(PD + 7), PDPTE(4)
	movq %cr3, %rax
	movq %rax, %cr3
	movb (%rbx), %al
	ENTRY_IS PT + 8, 0x60, 0x20, 21
	ENTRY_IS PD, 0x60, 0x20, 22
	ENTRY_IS PDPTE(4), 0x60, 0x20, 23
	movb %al, (%rbx)
	ENTRY_IS PT + 8, 0x60, 0x60, 24
	ENTRY_IS PD, 0x60, 0x20, 25
	/* a write that faults makes nothing dirty */
	PAGE 1, 1, 5
	EXPECT64 14, 3, 26, movb %al, (%rbx)
	ENTRY_IS PT + 8, 0x40, 0, 27
	/* CMPXCHG writes also when it does not match */
	PAGE 1, 1, 7
	xorl %eax, %eax
	lock cmpxchgl %eax, (%rbx)
	REQUIRE nz, 28
	ENTRY_IS PT + 8, 0x60, 0x60, 28
	/* a fetch sets A */
	PAGE 2, 2, 7
	call *%rbx
	ENTRY_IS PT + 16, 0x60, 0x20, 29
	/* of an access over two pages, both */
	PAGE 2, 2, 7
	PAGE 1, 1, 7
	movl $0, 0xffe(%rbx)
	ENTRY_IS PT + 8, 0x60, 0x60, 30
	ENTRY_IS PT + 16, 0x60, 0x60, 31
	movb $0xc3, FRAMES_LINEAR + 0x2000
	movl $0xaaaa0001, FRAMES_LINEAR + 0x1000

	/* ---- NX ---- */
	PAGE 2, 2, 7, 0x80000000
	EXPECT_FETCH 0x11, 35
	movb (%rbx), %al
	/* also of a table above */
	PAGE 2, 2, 7
	movl $0x80000000, PD + 4
	invlpg (%rbx)
	EXPECT_FETCH 0x11, 36
	jmp 2f
1:	jmp *%rbx
2:	USER64 1b
	cmpq $14, caught_vector
	REQUIRE e, 37
	cmpq %rbx, caught_rip
	REQUIRE e, 37
	cmpq $0x15, caught_error
	REQUIRE e, 37
	movl $0, PD + 4
	/* bit 63 is reserved without EFER.NXE, and a fetch is not told apart then */
	PAGE 2, 2, 7, 0x80000000
	movl $0xc0000080, %ecx
	rdmsr
	andl $~0x800, %eax
	wrmsr
	invlpg (%rbx)
	EXPECT_RESERVED 9, 38, movb (%rbx), %al
	EXPECT_RESERVED 0xb, 38, movb %al, (%rbx)
	PAGE 2, 2, 6
	EXPECT_FETCH 0, 39
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x800, %eax
	wrmsr
	PAGE 2, 2, 6
	EXPECT_FETCH 0x10, 40

	/* ---- reserved bits ---- */
	PAGE 3, 3, 7, 0x80000 /* bit 51 */
	movl $0x80000008, %eax
	pushq %rbx
	cpuid
	popq %rbx
	movzbl %al, %ebp
	cmpl $52, %ebp
	je 1f
	EXPECT_RESERVED 9, 45, movb (%rbx), %al
	SKIP_ON_TCG 2f
	EXPECT_USER 0xd, 46, movb (%rbx), %al
2:	/* the first bit over the width */
	PAGE 3, 3, 7
	xorl %eax, %eax
	leal -32(%rbp), %ecx
	btsl %ecx, %eax
	movl %eax, PT + 3 * 8 + 4
	invlpg (%rbx)
	EXPECT_RESERVED 0xb, 47, movb %al, (%rbx)
	ENTRY_IS PT+24, 0x60, 0, 48
	/* CR3 has the same width */
	SKIP_ON_TCG 1f /* takes it, and KVM cannot enter the guest again */
	movq %cr3, %rax
	btsq %rbp, %rax
	EXPECT64 13, 0, 49, movq %rax, %cr3
1:	PAGE 3, 3, 7, 0x7f00000 /* bits 52-58 are free */
	movb (%rbx), %al
	/* bit 7 of a PML4 entry */
	movl $(PAGE_TABLES + 0x1087), PAGE_TABLES + 8
	movabsq $0x8000000000, %rbx
	EXPECT_RESERVED 9, 50, movb (%rbx), %al
	movl $0, PAGE_TABLES + 8
	/* bits 13-20 of a 2 MiB page, 12 is PAT */
	movl $(FRAMES + 0x2087), PD + 8
	movabsq $(WINDOW + 0x200000), %rbx
	EXPECT_RESERVED 9, 51, movb (%rbx), %al
	movl $(FRAMES + 0x100087), PD + 8
	EXPECT_RESERVED 9, 52, movb (%rbx), %al
	movl $(FRAMES + 0x1087), PD + 8
	cmpl $0xaaaa0000, (%rbx)
	REQUIRE e, 53
	/* ---- 2 MiB ---- */
	movl $(FRAMES + 0x87), PD + 8
	invlpg (%rbx)
	cmpl $0xaaaa0001, 0x1000(%rbx)
	REQUIRE e, 54
	ENTRY_IS PD + 8, 0x60, 0x20, 55
	movb $0x77, 0x1fffff(%rbx)
	ENTRY_IS PD + 8, 0x60, 0x60, 56
	cmpb $0x77, FRAMES_LINEAR + 0x1fffff
	REQUIRE e, 57
	/* INVLPG of any address in it */
	movl $(FRAMES + 0x200087), PD + 8
	movl $0xbbbb0002, FRAMES_LINEAR + 0x200000
	invlpg 0x12345(%rbx)
	cmpl $0xbbbb0002, (%rbx)
	REQUIRE e, 58
	/* to 4 KiB pages and back */
	movl $(PT + 7), PD + 8
	PAGE 0, 1, 7
	movabsq $(WINDOW + 0x200000), %rbx
	invlpg (%rbx)
	cmpl $0xaaaa0001, (%rbx)
	REQUIRE e, 59

	/* ---- 1 GiB ---- */
	WITHOUT 0x80000001, %edx, 26, 1f
	movl $0x87, PDPTE(5)
	movabsq $0x140000000, %rbx
	cmpl $0xaaaa0001, FRAMES + 0x1000(%rbx)
	REQUIRE e, 60
	ENTRY_IS PDPTE(5), 0x60, 0x20, 61
	movl $0x11, FRAMES + 0x5000(%rbx)
	ENTRY_IS PDPTE(5), 0x60, 0x60, 62
	cmpl $0x11, FRAMES_LINEAR + 0x5000
	REQUIRE e, 63
	movl $0x2087, PDPTE(5)
	invlpg (%rbx)
	EXPECT_RESERVED 9, 64, movb (%rbx), %al
	movl $0, PDPTE(5)
1:
	/* ---- global pages ---- */
	CR4_SET 0x80
	PAGE 4, 0, 0x107
	cmpl $0xaaaa0000, (%rbx)
	REQUIRE e, 70
	movl $(FRAMES + 0x1107), PT + 4 * 8
	invlpg (%rbx) /* also a global one */
	cmpl $0xaaaa0001, (%rbx)
	REQUIRE e, 71
	movl $(FRAMES + 0x0107), PT + 4 * 8
	CR4_CLEAR 0x80
	cmpl $0xaaaa0000, (%rbx)
	REQUIRE e, 72
	movl $(FRAMES + 0x1107), PT + 4 * 8
	CR4_SET 0x80
	cmpl $0xaaaa0001, (%rbx)
	REQUIRE e, 73
	PAGE 5, 0, 7
	cmpl $0xaaaa0000, (%rbx)
	REQUIRE e, 74
	movl $(FRAMES + 0x1007), PT + 5 * 8
	movq %cr3, %rax
	movq %rax, %cr3
	cmpl $0xaaaa0001, (%rbx)
	REQUIRE e, 75
	/* INVLPG: not for ring 3, harmless at addresses that are not canonical */
	movabsq $0x8000000000000000, %rax
	invlpg (%rax)
	jmp 2f
1:	invlpg (%rbx)
2:	USER64 1b
	CAUGHT 13, 0, 76, 1b

	/* ---- PCID ---- */
	WITHOUT 1, %ecx, 17, no_pcid
	movq %cr3, %rax
	orl $8, %eax
	movq %rax, %cr3
	movq %cr4, %rax
	orl $0x20000, %eax
	EXPECT64 13, 0, 80, movq %rax, %cr4
	movl $PAGE_TABLES, %eax
	movq %rax, %cr3
	CR4_SET 0x20000
	movl $(PAGE_TABLES + 1), %eax
	movq %rax, %cr3
	movq %cr3, %rcx
	cmpq %rax, %rcx
	REQUIRE e, 81
	/* an entry of context 1, changed while in 2: seen in 1 after a switch that does not keep, or INVLPG */
	PAGE 5, 0, 7
	cmpl $0xaaaa0000, (%rbx)
	REQUIRE e, 82
	incl %eax
	movq %rax, %cr3
	movl $(FRAMES + 0x1007), PT + 5 * 8
	decl %eax
	movq %rax, %cr3
	cmpl $0xaaaa0001, (%rbx)
	REQUIRE e, 83
	/* bit 63 keeps, and is not kept itself */
	btsq $63, %rax
	movq %rax, %cr3
	movq %cr3, %rcx
	btrq $63, %rax
	cmpq %rax, %rcx
	REQUIRE e, 84
	/* an address space of its own for each */
	movl $(FRAMES + 0x0007), PT + 5 * 8
	btsq $63, %rax
	incl %eax
	movq %rax, %cr3
	invlpg (%rbx)
	cmpl $0xaaaa0000, (%rbx)
	REQUIRE e, 85
	/* no leaving of paging with it */
	movq %cr0, %rax
	btrl $31, %eax
	EXPECT64 13, 0, 86, movq %rax, %cr0
	movl $PAGE_TABLES, %eax
	movq %rax, %cr3
	CR4_CLEAR 0x20000
	/* bit 63 is reserved again */
	movl $PAGE_TABLES, %eax
	btsq $63, %rax
	EXPECT64 13, 0, 87, movq %rax, %cr3
no_pcid:
	WITHOUT 7, %esi, 10, no_invpcid
	.irp type, 0, 1, 2, 3
	PAGE 4, 0, 0x107
	PAGE 5, 0, 7
	movb (%rbx), %al
	movl $(FRAMES + 0x1007), PT + 5 * 8
	movq $0, descriptor
	movq %rbx, descriptor + 8
	movl $\type, %eax
	invpcid descriptor, %rax
	cmpl $0xaaaa0001, (%rbx)
	REQUIRE e, (90 + \type)
	.endr
	/* type 2 also takes global ones */
	PAGE 4, 0, 0x107
	movb (%rbx), %al
	movl $(FRAMES + 0x1107), PT + 4 * 8
	movl $2, %eax
	invpcid descriptor, %rax
	cmpl $0xaaaa0001, (%rbx)
	REQUIRE e, 94
	movl $4, %eax
	EXPECT64 13, 0, 95, invpcid descriptor, %rax
	movl $2, %eax
	movq $0x1000, descriptor
	EXPECT64 13, 0, 96, invpcid descriptor, %rax
	/* a PCID where there are none */
	xorl %eax, %eax
	movq $1, descriptor
	EXPECT64 13, 0, 97, invpcid descriptor, %rax
	movq $0, descriptor
	btcq $63, descriptor + 8
	EXPECT64 13, 0, 98, invpcid descriptor, %rax
	jmp 2f
1:	invpcid descriptor, %rax
2:	USER64 1b
	CAUGHT 13, 0, 99, 1b
no_invpcid:

	/* ---- SMEP and SMAP: everything of ours becomes a page of ring 0 ---- */
	PAGE 6, 1, 7
	PAGE 2, 2, 7
	EXPECT_USER 4, 100, movb 0x1fff0000(%rbx), %al
	jmp 2f
1:	stac
2:	WITHOUT 7, %esi, 20, 3f
	USER64 1b
	CAUGHT 6, -1, 101, 1b
3:	movb $0x83, PAGE_TABLES + 0x2000
	movq %cr3, %rax
	movq %rax, %cr3
	WITHOUT 7, %esi, 7, no_smep
	call *%rbx
	CR4_SET 0x100000
	EXPECT_FETCH 0x11, 105
	movb (%rbx), %al
	/* one level of ring 0 is enough for it to be a page of ring 0 */
	movl $(PT + 3), PD
	invlpg (%rbx)
	call *%rbx
	movl $(PT + 7), PD
	invlpg (%rbx)
	EXPECT_FETCH 0x11, 106
	CR4_CLEAR 0x100000
	call *%rbx
no_smep:
	WITHOUT 7, %esi, 20, no_smap
	movabsq $(WINDOW + 0x6000), %rbx
	cmpl $0xaaaa0001, (%rbx)
	REQUIRE e, 110
	CR4_SET 0x200000
	EXPECT64 14, 1, 111, movb (%rbx), %al
	EXPECT64 14, 3, 112, movb %al, (%rbx)
	stac
	pushfq
	popq %rax
	btl $18, %eax
	REQUIRE c, 113
	cmpl $0xaaaa0001, (%rbx)
	REQUIRE e, 114
	movl $0xaaaa2001, (%rbx)
	clac
	EXPECT64 14, 1, 115, movb (%rbx), %al
	/* by POPF as well */
	pushfq
	orl $0x40000, (%rsp)
	popfq
	cmpl $0xaaaa2001, (%rbx)
	REQUIRE e, 116
	/* a fetch is none of its business */
	clac
	movabsq $(WINDOW + 0x2000), %rbx
	call *%rbx
	/* an access of the CPU's own to a descriptor table is held back whatever AC is */
	SKIP_ON_TCG 1f /* it asks AC there too */
	stac
	movl $0x0000ffff, FRAMES_LINEAR + 0x7000 /* a page of ring 3 also there */
	movl $0x00cf9300, FRAMES_LINEAR + 0x7004
	PAGE 7, 7, 0x67
	movl $0x7000000f, gdt + 0x58 /* an LDT at WINDOW + 0x7000 */
	movl $0x00008200, gdt + 0x5c
	movl $1, gdt + 0x60
	movl $0x58, %eax
	lldt %ax
	movl $4, %eax
	EXPECT64 14, 1, 117, movl %eax, %ds
1:
	CR4_CLEAR 0x200000
	clac
no_smap:
	PASS

	.balign 8
descriptor:
	.quad 0, 0
	CATCHERS64
	TABLES
