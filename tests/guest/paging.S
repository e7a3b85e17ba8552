/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 4-level paging: rights of both rings, WP, NX, SMEP, SMAP, A and D bits, reserved bits, large pages, what flushes the TLB, global pages, PCID. */
#include "catch.h"
#define PD0 (PAGE_TABLES + 0x2000)
#define PT 0x110000   /* a page table for 16 MiB: PD 0 entry 8 */
#define PML4_B 0x111000 /* a second root that differs at SPACE */
#define PDPT_B 0x112000
#define PD_B 0x113000
#define PT_B 0x114000
#define SPACE 0x1000000 /* 4 KiB pages: VA = PA at first */
#define FRAME_A 0x1200000
#define FRAME_B 0x1201000
#define PTE(n) (PT + 8 * (n))
/* Map page n of SPACE: frame and bits. No flush. */
.macro MAP page, entry
	movl $\entry, PTE(\page)
	movl $0, PTE(\page) + 4
.endm
.macro FLUSH
	movq %cr3, %rax
	movq %rax, %cr3
.endm
.macro CR4_SET mask
	movq %cr4, %rax
	orq $\mask, %rax
	movq %rax, %cr4
.endm
.macro CR4_CLEAR mask
	movq %cr4, %rax
	andq $~\mask, %rax
	movq %rax, %cr4
.endm
.macro SEES value, page, number
	cmpl $\value, SPACE + 0x1000 * \page
	REQUIRE e, \number
.endm
.macro CR2_IS address, number
	movq %cr2, %rax
	cmpq $(\address), %rax
	REQUIRE e, \number
.endm

	.globl _start
_start:
	ENTER_PROTECTED
	ENTER_LONG
	CATCH_ALL64
	/* SPACE gets a page table, one to one */
	movl $PT, %edi
	movl $(SPACE + 7), %eax
	xorl %ecx, %ecx
1:	movl %eax, (%rdi,%rcx,8)
	movl $0, 4(%rdi,%rcx,8)
	addl $0x1000, %eax
	incl %ecx
	cmpl $512, %ecx
	jne 1b
	movq $(PT + 7), PD0 + 8 * 8
	movl $0xaaaa, FRAME_A
	movl $0xbbbb, FRAME_B
	FLUSH

	/* ---- rights ---- */
	MAP 1, SPACE + 0x1005 /* user, read-only */
	MAP 2, SPACE + 0x2003 /* supervisor */
	MAP 3, 0
	FLUSH
	EXPECT64 14, 3, 1, movl %eax, SPACE + 0x1010
	CR2_IS SPACE + 0x1010, 2
	USER64 user_write
	CAUGHT 14, 7, 3, user_write
	USER64 user_read_kernel
	CAUGHT 14, 5, 4, user_read_kernel
	USER64 user_write_kernel
	CAUGHT 14, 7, 5, user_write_kernel
	USER64 user_read_hole
	CAUGHT 14, 4, 6, user_read_hole
	USER64 SPACE + 0x2000
	cmpq $0x15, caught_error
	REQUIRE e, 7
	CR2_IS SPACE + 0x2000, 8
	/* without WP ring 0 writes anywhere, ring 3 does not */
	movq %cr0, %rax
	andq $~0x10000, %rax
	movq %rax, %cr0
	movl $0x99, SPACE + 0x1010
	cmpl $0x99, SPACE + 0x1010
	REQUIRE e, 9
	USER64 user_write
	CAUGHT 14, 7, 10, user_write
	movq %cr0, %rax
	orq $0x10000, %rax
	movq %rax, %cr0
	EXPECT64 14, 3, 11, movl %eax, SPACE + 0x1010
	/* rights add up over the levels */
	andb $~4, PD0 + 8 * 8
	FLUSH
	USER64 user_read_own
	CAUGHT 14, 5, 12, user_read_own
	orb $4, PD0 + 8 * 8
	andb $~2, PD0 + 8 * 8
	FLUSH
	EXPECT64 14, 3, 13, movl %eax, SPACE
	orb $2, PD0 + 8 * 8
	FLUSH
	movl %eax, SPACE

	/* ---- NX ---- */
	movb $0xc3, SPACE + 0x4000
	movl $0x80000000, PTE(4) + 4
	FLUSH
	movq $92f, resume_at
	movq %rsp, resume_rsp
	movl $SPACE + 0x4000, %eax
	call *%rax
	FAIL 14
92:	cmpq $0x11, caught_error
	REQUIRE e, 14
	movq $0, resume_at
	/* without EFER.NXE bit 63 is reserved */
	movl $0xc0000080, %ecx
	rdmsr
	andl $~0x800, %eax
	wrmsr
	FLUSH
	SKIP_ON_TCG 1f /* takes the host's NXE under nested paging */
	EXPECT64 14, 9, 15, movl SPACE + 0x4000, %eax
1:	movl $0xc0000080, %ecx
	rdmsr
	orl $0x800, %eax
	wrmsr
	FLUSH
	movl SPACE + 0x4000, %eax
	/* reserved address bits: beyond the physical width, in a 2 MiB and a PML4 entry */
	movl $0x80000008, %eax
	cpuid
	cmpb $52, %al
	jae 1f
	movl $0x80000, PTE(5) + 4 /* bit 51 */
	FLUSH
	SKIP_ON_TCG 1f /* nested paging gives the guest more bits than the CPU has */
	EXPECT64 14, 9, 16, movl SPACE + 0x5000, %eax
	EXPECT64 14, 0xb, 17, movl %eax, SPACE + 0x5000
1:	movl $0, PTE(5) + 4
	orl $0x2000, PD0 + 9 * 8
	FLUSH
	SKIP_ON_TCG 1f /* does not look at these */
	EXPECT64 14, 9, 18, movl FRAME_A, %eax
1:
	andl $~0x2000, PD0 + 9 * 8
	FLUSH

	/* ---- A and D at all levels ---- */
	MAP 6, SPACE + 0x6007
	andb $~0x20, PD0 + 8 * 8
	FLUSH
	movl SPACE + 0x6000, %eax
	movb PTE(6), %al
	andb $0x60, %al
	cmpb $0x20, %al
	REQUIRE e, 20
	testb $0x20, PD0 + 8 * 8
	REQUIRE nz, 21
	movl %eax, SPACE + 0x6000
	testb $0x40, PTE(6)
	REQUIRE nz, 22
	testb $0x40, PD0 + 8 * 8
	REQUIRE z, 23
	/* D is set by the first write after the bit was cleared and the page flushed */
	andb $~0x40, PTE(6)
	invlpg SPACE + 0x6000
	movl %eax, SPACE + 0x6000
	testb $0x40, PTE(6)
	REQUIRE nz, 24
	/* a write that faults sets no D */
	MAP 6, SPACE + 0x6005
	FLUSH
	EXPECT64 14, 3, 25, movl %eax, SPACE + 0x6000
	testb $0x40, PTE(6)
	REQUIRE z, 26

	/* ---- what flushes ---- */
	MAP 7, FRAME_A + 7
	FLUSH
	SEES 0xaaaa, 7, 30
	MAP 7, FRAME_B + 7
	invlpg SPACE + 0x7000
	SEES 0xbbbb, 7, 31
	MAP 7, FRAME_A + 7
	FLUSH
	SEES 0xaaaa, 7, 32
	/* a page that was not there needs no flush */
	MAP 8, 0
	FLUSH
	EXPECT64 14, 0, 33, movl SPACE + 0x8000, %eax
	MAP 8, FRAME_B + 7
	SEES 0xbbbb, 8, 34
	/* a fault drops its own translation: more rights need no flush either */
	MAP 9, FRAME_A + 5
	FLUSH
	movl SPACE + 0x9000, %eax
	MAP 9, FRAME_A + 7
	movl $0xaaaa, SPACE + 0x9000
	/* global pages: INVLPG and a change of CR4.PGE reach them */
	CR4_SET 0x80
	MAP 10, FRAME_A + 0x107
	FLUSH
	SEES 0xaaaa, 10, 35
	MAP 10, FRAME_B + 0x107
	invlpg SPACE + 0xa000
	SEES 0xbbbb, 10, 36
	MAP 10, FRAME_A + 0x107
	CR4_CLEAR 0x80
	SEES 0xaaaa, 10, 37
	/* INVLPG inside a large page drops all of it */
	movl 0x1400000, %eax
	movl $0x1200087, PD0 + 10 * 8
	invlpg 0x15ff000
	cmpl $0xaaaa, 0x1400000
	REQUIRE e, 38
	/* a non-canonical address is no fault for INVLPG */
	movabsq $0x8000000000000000, %rbx
	invlpg (%rbx)

	/* ---- 1 GiB pages ---- */
	movl $0x80000001, %eax
	cpuid
	btl $26, %edx
	jnc no_1g
	movq PAGE_TABLES + 0x1008, %r12
	movq $0x87, PAGE_TABLES + 0x1008 /* 1 GiB -> 0 */
	FLUSH
	cmpl $0xaaaa, 0x40000000 + FRAME_A
	REQUIRE e, 40
	movl $0x1234, 0x40000000 + FRAME_A + 8
	cmpl $0x1234, FRAME_A + 8
	REQUIRE e, 41
	testb $0x40, PAGE_TABLES + 0x1008
	REQUIRE nz, 42
	movl $0x2087, PAGE_TABLES + 0x1008 /* reserved */
	FLUSH
	SKIP_ON_TCG 1f
	EXPECT64 14, 9, 43, movl 0x40000000, %eax
1:
	movq %r12, PAGE_TABLES + 0x1008
	FLUSH
no_1g:
	/* ---- control registers ---- */
	movq %cr0, %rax
	andl $0x7fffffff, %eax
	EXPECT64 13, 0, 44, movq %rax, %cr0
	movq %cr4, %rax
	andl $~0x20, %eax
	EXPECT64 13, 0, 45, movq %rax, %cr4
	SKIP_ON_TCG 1f
	movq %cr3, %rax
	btsq $63, %rax
	EXPECT64 13, 0, 46, movq %rax, %cr3
1:	movq %cr4, %rax
	btsq $31, %rax
	EXPECT64 13, 0, 47, movq %rax, %cr4

	/* ---- SMEP and SMAP: this code's own pages are the supervisor's now ---- */
	movl $7, %eax
	xorl %ecx, %ecx
	cpuid
	movl %ebx, %r13d
	andb $~4, PD0
	FLUSH
	btl $7, %r13d
	jnc no_smep
	movb $0xc3, SPACE + 0x5000
	MAP 5, SPACE + 0x5007
	FLUSH
	CR4_SET 0x100000
	movq $92f, resume_at
	movq %rsp, resume_rsp
	movl $SPACE + 0x5000, %ebx
	call *%rbx
	FAIL 50
92:	movq $0, resume_at
	cmpq $0x11, caught_error
	REQUIRE e, 50
	movl (%rbx), %eax
	CR4_CLEAR 0x100000
	call *%rbx
no_smep:
	btl $20, %r13d
	jnc no_smap
	CR4_SET 0x200000
	EXPECT64 14, 1, 51, movl SPACE, %eax
	EXPECT64 14, 3, 52, movl %eax, SPACE
	stac
	movl SPACE, %eax
	clac
	EXPECT64 14, 1, 53, movl SPACE, %eax
	/* POPF moves AC as well */
	pushq $0x40002
	popfq
	movl SPACE, %eax
	pushq $2
	popfq
	EXPECT64 14, 1, 54, movl SPACE, %eax
	/* the supervisor's pages stay open */
	movl SPACE + 0x2000, %eax
	/* STAC is for ring 0 */
	orb $4, PD0
	CR4_CLEAR 0x200000
	FLUSH
	USER64 user_stac
	CAUGHT 6, -1, 55, user_stac
no_smap:
	orb $4, PD0
	FLUSH

	/* ---- PCID ---- */
	movl $1, %eax
	cpuid
	btl $17, %ecx
	jnc no_pcid
	CR4_SET 0x80
	/* a second address space with another page 11; page 12 is global and the same */
	movl $PAGE_TABLES, %esi
	movl $PML4_B, %edi
	movl $1024, %ecx
	rep movsl
	movl $(PAGE_TABLES + 0x1000), %esi
	movl $PDPT_B, %edi
	movl $1024, %ecx
	rep movsl
	movl $PD0, %esi
	movl $PD_B, %edi
	movl $1024, %ecx
	rep movsl
	movl $PT, %esi
	movl $PT_B, %edi
	movl $1024, %ecx
	rep movsl
	movl $(PDPT_B + 7), PML4_B
	movl $(PD_B + 7), PDPT_B
	movl $(PT_B + 7), PD_B + 8 * 8
	MAP 11, FRAME_A + 7
	movl $(FRAME_B + 7), PT_B + 8 * 11
	/* PCIDE wants PCID 0 at that time */
	movl $(PAGE_TABLES + 1), %eax
	movq %rax, %cr3
	movq %cr4, %rax
	orl $0x20000, %eax
	SKIP_ON_TCG 1f
	EXPECT64 13, 0, 60, movq %rax, %cr4
1:	movl $PAGE_TABLES, %ecx
	movq %rcx, %cr3
	movq %cr4, %rax
	orl $0x20000, %eax
	movq %rax, %cr4
	movl $(PAGE_TABLES + 1), %eax
	movq %rax, %cr3
	SEES 0xaaaa, 11, 61
	movl $(PML4_B + 2), %eax
	movq %rax, %cr3
	SEES 0xbbbb, 11, 62
	/* back and forth without a flush */
	movl $20, %ebx
2:	movl $(PAGE_TABLES + 1), %eax
	btsq $63, %rax
	movq %rax, %cr3
	SEES 0xaaaa, 11, 63
	movl $(PML4_B + 2), %eax
	btsq $63, %rax
	movq %rax, %cr3
	SEES 0xbbbb, 11, 64
	decl %ebx
	jnz 2b
	/* CR3 reads without bit 63 */
	movq %cr3, %rax
	cmpq $(PML4_B + 2), %rax
	REQUIRE e, 65
	/* a move without bit 63 flushes that PCID */
	movl $(FRAME_A + 7), PT_B + 8 * 11
	movl $(PML4_B + 2), %eax
	movq %rax, %cr3
	SEES 0xaaaa, 11, 66
	/* INVLPG is for the current PCID */
	movl $(FRAME_B + 7), PT_B + 8 * 11
	invlpg SPACE + 0xb000
	SEES 0xbbbb, 11, 67
	/* INVPCID */
	btl $10, %r13d
	jnc no_invpcid
	movl $1, %eax /* another's page: PCID 1 */
	movl $(FRAME_B + 7), PTE(11)
	invpcid invpcid_page, %rax
	xorl %eax, %eax
	invpcid invpcid_address, %rax
	movl $(PAGE_TABLES + 1), %eax
	btsq $63, %rax
	movq %rax, %cr3
	SEES 0xbbbb, 11, 68
	movl $1, %eax /* all of PCID 1 */
	movl $(FRAME_A + 7), PTE(11)
	invpcid invpcid_page, %rax
	SEES 0xaaaa, 11, 69
	movl $3, %eax /* all but global ones */
	movl $(FRAME_B + 7), PTE(11)
	invpcid invpcid_page, %rax
	SEES 0xbbbb, 11, 70
	movl $2, %eax /* all */
	movl $(FRAME_A + 7), PTE(11)
	invpcid invpcid_page, %rax
	SEES 0xaaaa, 11, 71
	movl $4, %eax
	EXPECT64 13, 0, 72, invpcid invpcid_page, %rax
	movl $1, %eax
	EXPECT64 13, 0, 73, invpcid invpcid_bad, %rax
no_invpcid:
	/* PCIDE may go with any PCID in CR3 */
	CR4_CLEAR 0x20000
no_pcid:
	PASS

user_write: movl %eax, SPACE + 0x1010
user_read_kernel: movl SPACE + 0x2000, %eax
user_write_kernel: movl %eax, SPACE + 0x2000
user_read_hole: movl SPACE + 0x3000, %eax
user_read_own: movl SPACE, %eax
user_stac: stac
	.balign 16
invpcid_page: .quad 1, SPACE + 0xb000
invpcid_address: .quad 1, SPACE + 0xb000
invpcid_bad: .quad 0x1001, 0
	CATCHERS64
	TABLES
