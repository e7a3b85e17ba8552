/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Debug exceptions: single steps, breakpoints on execution, data and ports, DR6 and DR7, RF, INT3, INT1, general detect. */
#include "catch.h"
#define DATA 0x400000
/* In debug_log: the RIP of each #DB, and its DR6 in the entry's second half. */
.macro LOG_IS index, place, dr6, number
	cmpl $\place, debug_log + 16 * \index
	REQUIRE e, \number
	movl debug_log + 16 * \index + 8, %eax
	andl $0xe00f, %eax
	cmpl $\dr6, %eax
	REQUIRE e, \number
.endm
.macro COUNT_IS count, number
	cmpl $\count, debug_count
	REQUIRE e, \number
	movl $0, debug_count
.endm
.macro SET_DR n, value
	movl $\value, %eax
	movq %rax, %dr\n
.endm
.macro TF_ON
	pushfq
	orl $0x100, (%rsp)
	popfq
.endm
	.globl _start
_start:
	ENTER_PROTECTED
	ENTER_LONG
	CATCH_ALL64
	GATE 1, debug
	/* ---- registers: what reads as ones ---- */
	xorl %eax, %eax
	movq %rax, %dr6
	movq %rax, %dr7
	movq %dr6, %rax
	andl $~0x10000, %eax /* RTM */
	cmpl $0xfffe0ff0, %eax
	REQUIRE e, 1
	movq %dr7, %rax
	cmpl $0x400, %eax
	REQUIRE e, 2
	movabsq $0x100000000, %rax
	EXPECT64 13, 0, 3, movq %rax, %dr7
	EXPECT64 13, 0, 4, movq %rax, %dr6
	/* DR4 and DR5 are DR6 and DR7 without CR4.DE, #UD with it */
	.byte 0x0f, 0x21, 0xe8 /* mov %dr5, %rax */
	cmpl $0x400, %eax
	REQUIRE e, 5
	movq %cr4, %rax
	orl $8, %eax
	movq %rax, %cr4
	EXPECT64 6, -1, 6, .byte 0x0f, 0x21, 0xe8
	/* ---- TF: a trap behind each instruction but the one that sets it ---- */
	TF_ON
step0:
	nop
step1:
	movl $1, %ebx
step2:
	pushfq
	andl $~0x100, (%rsp)
step3:
	popfq
step4:
	nop
	COUNT_IS 5, 10
	LOG_IS 0, step1, 0x4000, 11
	LOG_IS 1, step2, 0x4000, 12
	LOG_IS 4, step4, 0x4000, 13
	/* MOV SS and POP SS hold it back until behind the next instruction */
	movl $SEL_DATA, %ebx
	TF_ON
	movl %ebx, %ss
	nop
ss1:
	andl $0, %ecx
	pushfq
	andl $~0x100, (%rsp)
	popfq
	LOG_IS 0, ss1, 0x4000, 14
	movl $0, debug_count
	/* REP: a trap behind each turn, at the instruction itself */
	movl $DATA, %edi
	movl $3, %ecx
	TF_ON
rep0:
	rep stosb
rep1:
	pushfq
	andl $~0x100, (%rsp)
	popfq
	LOG_IS 0, rep0, 0x4000, 15
	LOG_IS 1, rep0, 0x4000, 15
	LOG_IS 2, rep1, 0x4000, 15
	movl $0, debug_count
	/* an instruction that faults makes no trap; the handler runs without TF */
	movq $92f, resume_at
	movq %rsp, resume_rsp
	TF_ON
	ud2
92:	movq $0, resume_at
	COUNT_IS 0, 16
	testl $0x100, caught_flags
	REQUIRE nz, 17
	/* INT n clears TF; IRET brings it back and the trap comes behind the next instruction */
	TF_ON
	int $0x50
int1:
	nop
int2:
	pushfq
	andl $~0x100, (%rsp)
	popfq
	LOG_IS 0, int2, 0x4000, 18
	movl $0, debug_count

	/* ---- execution breakpoints: a fault, before the instruction; RF lets it by ---- */
	SET_DR 0, here0
	SET_DR 1, here1
	SET_DR 7, 0x40a /* G0, G1 */
	xorl %ebx, %ebx
here0:
	incl %ebx
	nop
here1:
	incl %ebx
	COUNT_IS 2, 20
	LOG_IS 0, here0, 1, 21
	LOG_IS 1, here1, 2, 22
	cmpl $2, %ebx
	REQUIRE e, 23
	testl $0x10000, debug_flags /* to set RF is left to the handler, unlike with all other faults */
	REQUIRE z, 24
	/* disabled: nothing, but DR6 stays writable */
	SET_DR 7, 0x400
	jmp 1f
1:	movl $2, %ebp
2:	incl %ebx
	decl %ebp
	jnz 2b
	COUNT_IS 0, 25
	/* IRET with RF set passes one instruction */
	SET_DR 0, here2
	SET_DR 7, 0x402
	movq %rsp, %rax
	pushq $SEL_DATA
	pushq %rax
	pushq $0x10002
	pushq $SEL_CODE64
	pushq $here2
	iretq
here2:
	nop
	COUNT_IS 0, 26
	/* ---- data: a trap, behind the access ---- */
	SET_DR 0, DATA
	SET_DR 7, 0xd0402 /* write, 4 bytes */
	movl DATA, %eax
	COUNT_IS 0, 30
	movl %eax, DATA
data1:
	nop
	COUNT_IS 1, 31
	LOG_IS 0, data1, 1, 32
	movb %al, DATA + 3 /* any byte of it */
data2:
	COUNT_IS 1, 33
	movb %al, DATA + 4
	COUNT_IS 0, 34
	movq %rax, DATA - 4 /* overlaps */
	COUNT_IS 1, 35
	SET_DR 7, 0xf0402 /* read and write */
	movl DATA, %eax
data3:
	COUNT_IS 1, 36
	LOG_IS 0, data3, 1, 36
	lock incl DATA
	COUNT_IS 1, 37
	/* 8 bytes; two at once */
	SET_DR 1, DATA + 8
	SET_DR 7, 0x9d040a
	movq %rax, DATA + 8
data4:
	COUNT_IS 1, 38
	LOG_IS 0, data4, 2, 39
	/* PUSH through it */
	SET_DR 0, (STACK_TOP - 8)
	SET_DR 7, 0x10402 + 0xc0000
	pushq %rax
	popq %rbx
	COUNT_IS 1, 40
	/* string: behind the turn that did it */
	SET_DR 0, DATA + 2
	SET_DR 7, 0x10402 /* write, 1 byte */
	movl $DATA, %edi
	movl $4, %ecx
rep2:
	rep stosb
	COUNT_IS 1, 41
	LOG_IS 0, rep2, 1, 42
	/* ---- ports, with CR4.DE ---- */
	SET_DR 0, PORT_WORLD
	SET_DR 7, 0x20402
	inb $PORT_WORLD, %al
port1:
	nop
	COUNT_IS 1, 43
	LOG_IS 0, port1, 1, 44
	SET_DR 7, 0x400
	/* ---- INT3 is a trap: RIP behind it; ICEBP too, with no DR6 bit; both ignore the gate's DPL where INT n does not ---- */
	movq $92f, resume_at
	movq %rsp, resume_rsp
	int3
int3_end:
	FAIL 50
92:	movq $0, resume_at
	cmpq $3, caught_vector
	REQUIRE e, 50
	cmpq $int3_end, caught_rip
	REQUIRE e, 51
	xorl %eax, %eax
	movq %rax, %dr6
	.byte 0xf1
ice1:
	COUNT_IS 1, 52
	LOG_IS 0, ice1, 0, 53
	int $1
	COUNT_IS 1, 54
	/* ---- general detect: the next MOV of a debug register faults, and the handler runs without GD ---- */
	SET_DR 7, 0x2400
gd1:
	movq %dr0, %rax
	COUNT_IS 1, 55
	LOG_IS 0, gd1, 0x2000, 56
	movq %dr7, %rax
	testl $0x2000, %eax
	REQUIRE z, 57
	/* DR registers are for ring 0 */
	USER64 user_dr
	CAUGHT 13, 0, 58, user_dr
	/* in ring 3 INT3 needs a gate of DPL 3, INT1 by opcode F1 does not */
	USER64 user_int3
	CAUGHT 13, (3*8+2), 59, user_int3
	USER64 user_ice
	COUNT_IS 1, 60
	CAUGHT 6, -1, 60, user_ice_end
	PASS
user_dr: movq %dr0, %rax
user_int3: int3
user_ice: .byte 0xf1
user_ice_end: ud2
debug:
	pushq %rax
	pushq %rbx
	movl debug_count, %ebx
	incl debug_count
	andl $15, %ebx
	shll $4, %ebx
	movq 16(%rsp), %rax
	movq %rax, debug_log(%rbx)
	movq %dr6, %rax
	movq %rax, debug_log + 8(%rbx)
	xorl %eax, %eax
	movq %rax, %dr6
	movq 32(%rsp), %rax
	movq %rax, debug_flags
	/* an execution breakpoint would come again at once */
	testl $0x0f, debug_log + 8(%rbx)
	jz 1f
	orl $0x10000, 32(%rsp)
1:	popq %rbx
	popq %rax
	iretq
	.balign 8
debug_count: .quad 0
debug_flags: .quad 0
debug_log: .fill 16, 16, 0
	CATCHERS64
	TABLES
