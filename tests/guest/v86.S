/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Virtual-8086 mode: entry by IRET, what traps with IOPL below 3, addresses, and the virtual interrupt flag and redirection map of VME. */
#include "catch.h"
#define CODE86 0x20000 /* where the 8086 code lies: 2000:0000 */
#define FLAGS_VM 0x20002
/* Run code at 2000:offset with these flags (VM is added) until an exception. */
.macro ENTER86 offset, flags
	movl $92f, resume_at
	movl %esp, resume_rsp
	movl $-1, caught_vector
	pushl $0x6000 /* GS */
	pushl $0x5000 /* FS */
	pushl $0x4000 /* DS */
	pushl $0x3000 /* ES */
	pushl $0x1000 /* SS */
	pushl $0x0800 /* ESP */
	pushl $(FLAGS_VM | \flags)
	pushl $0x2000
	pushl $(\offset - code86)
	iretl
92:	movl $0, resume_at
.endm
.macro CAUGHT86 vector, error, place, number
	cmpl $\vector, caught_vector
	REQUIRE e, \number
	cmpl $(\place - code86), caught_rip
	REQUIRE e, \number
.if \error >= 0
	cmpl $\error, caught_error
	REQUIRE e, \number
.endif
.endm
	.globl _start
_start:
	ENTER_PROTECTED
	CATCH_ALL32
	movl $(STACK_TOP - 0x800), tss + 4
	movl $SEL_DATA, tss + 8
	movw $0x68, tss + 0x66
	/* a TSS with a redirection map of 32 bytes before an I/O map of none */
	movw $(0x68 + 32 + 32), gdt + SEL_TSS
	movw $(0x68 + 32), tss + 0x66
	movl $SEL_TSS, %eax
	ltr %ax
	movl $code86, %esi
	movl $CODE86, %edi
	movl $(code86_end - code86), %ecx
	cld
	rep movsb
	/* ---- IOPL 3 ---- */
	ENTER86 hello, 0x3200
	CAUGHT86 6, -1, hello_end, 1
	cmpl $0x2000, caught_cs
	REQUIRE e, 2
	testl $0x20000, caught_flags
	REQUIRE nz, 3
	cmpl $0x1000, caught_ss
	REQUIRE e, 4
	cmpl $0x07fe, caught_rsp
	REQUIRE e, 5
	cmpw $0x4000, 0x10800 - 2 /* PUSH DS at 1000:07fe */
	REQUIRE e, 6
	cmpb $0x5a, 0x40010 /* 4000:0010 */
	REQUIRE e, 7
	/* the frame holds the data segments above SS; in the handler they were null */
	movl caught_handler_esp, %ebp
	cmpl $0x3000, 40(%ebp)
	REQUIRE e, 8
	cmpl $0x4000, 44(%ebp)
	REQUIRE e, 9
	cmpl $0x5000, 48(%ebp)
	REQUIRE e, 10
	cmpl $0x6000, 52(%ebp)
	REQUIRE e, 11
	cmpl $0, (%ebp) /* DS as the handler found it */
	REQUIRE e, 12
	/* flags: PUSHF shows IOPL and IF as they are, CLI works */
	ENTER86 flags3, 0x3200
	CAUGHT86 6, -1, flags3_end, 13
	cmpw $0x3202, 0x10800 - 2
	REQUIRE e, 13
	testl $0x200, caught_flags
	REQUIRE z, 14
	/* INT n goes through the IDT: DPL 3 wanted, then to ring 0 */
	ENTER86 soft_int, 0x3200
	CAUGHT86 13, (0x40*8+2), soft_int, 15
	/* limits are 64 KiB */
	ENTER86 wrap, 0x3200
	CAUGHT86 13, 0, wrap_here, 16
	/* privileged instructions, and ports by the I/O map */
	ENTER86 halt, 0x3200
	CAUGHT86 13, 0, halt, 17
	ENTER86 move_cr, 0x3200
	CAUGHT86 13, 0, move_cr, 18
	ENTER86 port, 0x3200
	CAUGHT86 13, 0, port, 19
	ENTER86 arpl86, 0x3200
	CAUGHT86 6, -1, arpl86, 20

	/* ---- IOPL 0: CLI, STI, PUSHF, POPF, INT n, IRET all trap ---- */
	ENTER86 do_cli, 0x0200
	CAUGHT86 13, 0, do_cli, 21
	ENTER86 do_sti, 0x0200
	CAUGHT86 13, 0, do_sti, 22
	ENTER86 do_pushf, 0x0200
	CAUGHT86 13, 0, do_pushf, 23
	ENTER86 do_popf, 0x0200
	CAUGHT86 13, 0, do_popf, 24
	ENTER86 soft_int, 0x0200
	CAUGHT86 13, 0, soft_int, 25
	ENTER86 do_iret, 0x0200
	CAUGHT86 13, 0, do_iret, 26
	/* INT3 is no INT n */
	movb $0xee, IDT_BASE + 8 * 3 + 5
	ENTER86 do_int3, 0x0200
	CAUGHT86 3, -1, do_int3_end, 27

	/* ---- VME ---- */
	movl $1, %eax
	cpuid
	testl $2, %edx
	jz no_vme
	movl %cr4, %eax
	orl $1, %eax
	movl %eax, %cr4
	/* CLI and STI move VIF, IF stays */
	ENTER86 do_cli, 0x80200
	CAUGHT86 6, -1, do_cli_end, 30
	testl $0x80000, caught_flags
	REQUIRE z, 30
	testl $0x200, caught_flags
	REQUIRE nz, 31
	ENTER86 do_sti, 0x0200
	CAUGHT86 6, -1, do_sti_end, 32
	testl $0x80000, caught_flags
	REQUIRE nz, 32
	/* STI with an interrupt pending (VIP) is #GP */
	ENTER86 do_sti, 0x100200
	CAUGHT86 13, 0, do_sti, 33
	/* PUSHF shows VIF as IF, and IOPL 3 */
	ENTER86 do_pushf, 0x0200
	CAUGHT86 6, -1, do_pushf_end, 34
	cmpw $0x3002, 0x10800 - 2
	REQUIRE e, 34
	ENTER86 do_pushf, 0x80000
	cmpw $0x3202, 0x10800 - 2
	REQUIRE e, 35
	/* POPF sets VIF; TF is #GP */
	ENTER86 pop_if, 0x0200
	CAUGHT86 6, -1, pop_if_end, 36
	testl $0x80000, caught_flags
	REQUIRE nz, 36
	ENTER86 pop_tf, 0x0200
	CAUGHT86 13, 0, pop_tf_here, 37
	/* INT n by the redirection map: bit clear means the 8086 vector table */
	movl $((CODE86 << 12) + redirected - code86), 0x40 * 4
	ENTER86 soft_int, 0x80200
	CAUGHT86 6, -1, redirected_end, 38
	cmpw $0x3202, 0x10800 - 2 /* FLAGS: VIF as IF */
	REQUIRE e, 39
	cmpw $0x2000, 0x10800 - 4
	REQUIRE e, 39
	cmpw $(soft_int_end - code86), 0x10800 - 6
	REQUIRE e, 39
	testl $0x80000, caught_flags /* cleared on the way, IF kept */
	REQUIRE z, 40
	testl $0x200, caught_flags
	REQUIRE nz, 40
	/* bit set: as without VME, so IOPL 0 traps */
	orb $1, tss + 0x68 + 8
	ENTER86 soft_int, 0x80200
	CAUGHT86 13, 0, soft_int, 41
	/* protected-mode virtual interrupts (PVI): CLI in ring 3 with IOPL 0 */
	movl %cr4, %eax
	xorl $3, %eax
	movl %eax, %cr4
	movl $92f, resume_at
	movl %esp, resume_rsp
	pushl $SEL_UDATA
	pushl $0x7000
	pushl $0x80202
	pushl $SEL_UCODE32
	pushl $pvi
	iretl
92:	movl $0, resume_at
	cmpl $pvi_end, caught_rip
	REQUIRE e, 42
	testl $0x80000, caught_flags
	REQUIRE z, 43
no_vme:
	PASS
pvi:
	cli
pvi_end:
	ud2
	.code16
code86:
hello:
	pushw %ds
	movb $0x5a, 0x10
hello_end:
	ud2
flags3:
	pushfw
	cli
flags3_end:
	ud2
soft_int:
	int $0x40
soft_int_end:
	ud2
wrap:
	movw $0xffff, %bx
wrap_here:
	movw (%bx), %ax
halt:
	hlt
move_cr:
	movl %cr0, %eax
port:
	inb $0x80, %al
arpl86:
	.byte 0x63, 0xc0
do_cli:
	cli
do_cli_end:
	ud2
do_sti:
	sti
do_sti_end:
	ud2
do_pushf:
	pushfw
do_pushf_end:
	ud2
do_popf:
	popfw
do_iret:
	iretw
do_int3:
	int3
do_int3_end:
	ud2
pop_if:
	pushw $0x0202
	popfw
pop_if_end:
	ud2
pop_tf:
	pushw $0x0102
pop_tf_here:
	popfw
redirected:
	nop
redirected_end:
	ud2
code86_end:
	.code32
	CATCHERS32
	TABLES
	/* behind the TSS: the redirection map, then an I/O map that opens nothing */
	.fill 32, 1, 0
	.fill 33, 1, 0xff
