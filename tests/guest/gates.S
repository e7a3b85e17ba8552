/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Gates and tasks of 32-bit protected mode: privilege of INT n, interrupt gates with a change of ring, call gates with parameters, task switches. */
#include "catch.h"
#define OWN 0x58
#define TSS2 0x7400
#define STACK2 0x6f00
.macro DESCRIPTOR n, low, high
	movl $\low, gdt + OWN + 8 * \n
	movl $\high, gdt + OWN + 8 * \n + 4
.endm
/* A call gate in descriptor n: target below 64 KiB in SEL_CODE32; access: 8c + DPL << 5; count of parameters. */
.macro CALL_GATE n, target, access, count=0, selector=SEL_CODE32
	movl $\target, %eax
	andl $0xffff, %eax
	orl $(\selector << 16), %eax
	movl %eax, gdt + OWN + 8 * \n
	movl $(\access << 8 | \count), gdt + OWN + 8 * \n + 4
.endm
/* IDT entry: selector, offset and access byte as given. */
.macro IDT_GATE vector, target, access, selector=SEL_CODE32
	movl $\target, %eax
	andl $0xffff, %eax
	orl $(\selector << 16), %eax
	movl %eax, IDT_BASE + 8 * \vector
	movl $(\access << 8), IDT_BASE + 8 * \vector + 4
.endm
	.globl _start
_start:
	ENTER_PROTECTED
	CATCH_ALL32
	movl $(STACK_TOP - 0x800), tss + 4
	movl $SEL_DATA, tss + 8
	movw $0x68, tss + 0x66
	movl $SEL_TSS, %eax
	ltr %ax

	/* ---- INT n from ring 3: DPL of the gate ---- */
	USER32 user_int60
	CAUGHT32 13, (0x60*8+2), 1, user_int60
	IDT_GATE 0x61, soft_int, 0xee
	USER32 user_int61
	CAUGHT32 6, -1, 2, user_int61_end
	cmpl $1, soft_count
	REQUIRE e, 2
	/* it ran on the stack of the TSS, five words deep, with the caller's SS and ESP on it */
	cmpl $(STACK_TOP - 0x800 - 20), soft_esp
	REQUIRE e, 3
	cmpl $0x7000, soft_user_esp
	REQUIRE e, 4
	cmpl $SEL_UDATA, soft_user_ss
	REQUIRE e, 5
	testl $0x200, soft_flags /* cleared by an interrupt gate */
	REQUIRE z, 6
	/* a 16-bit gate pushes words */
	IDT_GATE 0x62, soft_int16, 0x86
	movl %esp, %ebp
	int $0x62
	cmpl %ebp, %esp
	REQUIRE e, 7
	subl soft_esp, %ebp
	cmpl $6, %ebp
	REQUIRE e, 7
	/* gates to data, to null, to a segment that is not present */
	IDT_GATE 0x63, soft_int, 0x8e, SEL_DATA
	EXPECT32 13, SEL_DATA, 8, int $0x63
	IDT_GATE 0x63, soft_int, 0x8e, 0
	EXPECT32 13, 0, 9, int $0x63
	IDT_GATE 0x63, soft_int, 0x8c /* a call gate in the IDT */
	EXPECT32 13, (0x63*8+2), 10, int $0x63
	/* ---- call gates ---- */
call_gates:
	CALL_GATE 0, gate_same, 0x8c
	movl $5, %ebx
	lcall $OWN, $0x12345678 /* the offset means nothing */
	cmpl $6, %ebx
	REQUIRE e, 12
	USER32 user_gate_dpl0
	CAUGHT32 13, 0x58, 13, user_gate_dpl0
	CALL_GATE 0, gate_same, 0x0c
	EXPECT32 11, 0x58, 14, lcall $OWN, $0
	/* from ring 3 inward with two parameters, and back by RETF 8 */
	CALL_GATE 1, gate_inner, 0xec, 2
	USER32 user_gate
	CAUGHT32 6, -1, 15, user_gate_end
	cmpl $0x33334444, gate_sum
	REQUIRE e, 15
	cmpl $0x6ff8, gate_user_esp /* below the parameters */
	REQUIRE e, 16
	cmpl $0x7000, caught_rsp /* RETF 8 released them on both stacks */
	REQUIRE e, 17
	cmpl $(STACK_TOP - 0x800 - 24), gate_esp
	REQUIRE e, 18
	/* JMP through a gate cannot change the ring */
	USER32 user_gate_jmp
	CAUGHT32 13, (SEL_CODE32 & 0xf8), 19, user_gate_jmp
	/* RETF to an inner ring */
	USER32 user_retf
	CAUGHT32 13, (SEL_CODE32 & 0xf8), 20, user_retf_here

	/* ---- tasks ---- */
	call make_task
	/* CALL: the old TSS is linked and stays busy, NT is set; IRET goes back */
	movl $0x11, %ebx
	lcall $(OWN + 16), $0
	cmpl $0x11, %ebx
	REQUIRE e, 30
	cmpl $1, task_count
	REQUIRE e, 31
	cmpw $SEL_TSS, TSS2
	REQUIRE e, 32
	testl $0x4000, task_flags
	REQUIRE nz, 33
	cmpl $0x22, task_ebx
	REQUIRE e, 34
	cmpl $(OWN + 16), task_tr
	REQUIRE e, 35
	pushfl
	popl %eax
	testl $0x4000, %eax
	REQUIRE z, 36
	testb $2, gdt + OWN + 16 + 5 /* no longer busy */
	REQUIRE z, 37
	str %ax
	cmpw $SEL_TSS, %ax
	REQUIRE e, 38
	movl %cr0, %eax
	testl $8, %eax /* TS */
	REQUIRE nz, 39
	clts
	/* the second time it goes on behind its IRET */
	lcall $(OWN + 16), $0
	cmpl $2, task_count
	REQUIRE e, 40
	/* a task gate in the IDT, with the error code on the new task's stack */
	call make_task
	movl $fault_task, TSS2 + 0x20
	movl $0, IDT_BASE + 8 * 10
	movl $((OWN + 16) << 16), IDT_BASE + 8 * 13
	movl $0x8500, IDT_BASE + 8 * 13 + 4
	movl $0x1000, %eax
	xorl %ecx, %ecx
bad_load:
	movl %eax, %fs
	cmpl $0x77, %ecx
	REQUIRE e, 41
	cmpl $0x1000, task_error
	REQUIRE e, 42
	cmpl $(bad_load + 2), tss + 0x20 /* the fault's own place, and what the handler added */
	REQUIRE e, 43
	/* a task gate of the GDT by JMP, and back by JMP: nothing is linked */
	CATCH_ALL32
	call make_task
	movl $jump_task, TSS2 + 0x20
	movl $((OWN + 16) << 16), gdt + OWN + 24
	movl $0x8500, gdt + OWN + 28
	ljmpl $(OWN + 24), $0
	cmpl $0x33, task_ebx
	REQUIRE e, 44
	testl $0x4000, task_flags
	REQUIRE z, 45
	/* to a busy task: #GP by CALL and JMP; to itself */
	EXPECT32 13, SEL_TSS, 46, ljmpl $SEL_TSS, $0
	EXPECT32 13, SEL_TSS, 47, lcall $SEL_TSS, $0
	/* not present, too short */
	call make_task
	andb $0x7f, gdt + OWN + 16 + 5
	EXPECT32 11, (0x58+16), 48, ljmpl $(OWN + 16), $0
	orb $0x80, gdt + OWN + 16 + 5
	movw $0x66, gdt + OWN + 16
	EXPECT32 10, (0x58+16), 49, ljmpl $(OWN + 16), $0
	/* a bad segment in the new TSS: #TS in the new task, told by its selector */
	call make_task
	movl $0x1000, TSS2 + 0x54 /* DS */
	movl $ts_task, TSS2 + 0x20
	IDT_GATE 10, ts_handler, 0x8e
	lcall $(OWN + 16), $0
	cmpl $0x1000, task_error
	REQUIRE e, 50
	PASS

/* A 32-bit TSS at TSS2, its descriptor in our own entry 2. */
make_task:
	movl $TSS2, %edi
	xorl %eax, %eax
	movl $26, %ecx
	cld
	rep stosl
	movl $task, TSS2 + 0x20
	movl $2, TSS2 + 0x24
	movl $0x22, TSS2 + 0x34 /* EBX */
	movl $STACK2, TSS2 + 0x38
	movl $SEL_DATA, TSS2 + 0x48
	movl $SEL_CODE32, TSS2 + 0x4c
	movl $SEL_DATA, TSS2 + 0x50
	movl $SEL_DATA, TSS2 + 0x54
	movl $SEL_DATA, TSS2 + 0x58
	movl $SEL_DATA, TSS2 + 0x5c
	movw $0x68, TSS2 + 0x66
	DESCRIPTOR 2, (TSS2 << 16 | 0x67), 0x00008900
	ret
.macro NOTE_TASK
	pushfl
	popl task_flags
	movl %ebx, task_ebx
	xorl %eax, %eax
	str %ax
	movl %eax, task_tr
.endm
task:
	NOTE_TASK
	incl task_count
	iretl
	incl task_count
	iretl
	FAIL 60
fault_task:
	popl task_error
	/* the interrupted task goes on behind its load, and sees that we were here */
	addl $2, tss + 0x20
	movl $0x77, tss + 0x2c /* ECX */
	iretl
	FAIL 61
jump_task:
	movl $0x33, %ebx
	NOTE_TASK
	ljmpl $SEL_TSS, $0
	FAIL 62
ts_task:
	FAIL 63
/* In the new task, with the error code. */
ts_handler:
	movl $SEL_DATA, %eax
	movl %eax, %ds
	popl task_error
	addl $8, %esp
	popfl /* with NT, which the gate had cleared */
	iretl /* back to the first task */

gate_same:
	incl %ebx
	lret
/* Stack: EIP, CS, second parameter (pushed last), first, ESP, SS. */
gate_inner:
	movl %esp, %ss:gate_esp
	movl 8(%esp), %eax
	addl 12(%esp), %eax
	movl %eax, %ss:gate_sum
	movl 16(%esp), %eax
	movl %eax, %ss:gate_user_esp
	lret $8
soft_int:
	pushl %eax
	movl $SEL_DATA, %eax
	movl %eax, %ds
	popl %eax
	movl %esp, soft_esp
	incl soft_count
	pushfl
	popl soft_flags
	movl 12(%esp), %eax
	movl %eax, soft_user_esp
	movl 16(%esp), %eax
	movl %eax, soft_user_ss
	iretl
soft_int16:
	movl %esp, soft_esp
	iretw

user_int60: int $0x60
user_int61: int $0x61
user_int61_end: ud2
user_gate_dpl0: lcall $(OWN + 3), $0
user_gate:
	pushl $0x11111111
	pushl $0x22223333
	lcall $(OWN + 8 + 3), $0
user_gate_end: ud2
user_gate_jmp: ljmpl $(OWN + 8 + 3), $0
user_retf:
	pushl $SEL_CODE32
	pushl $call_gates
user_retf_here: lret

	.balign 4
soft_count: .long 0
soft_esp: .long 0
soft_user_esp: .long 0
soft_user_ss: .long 0
soft_flags: .long 0
gate_sum: .long 0
gate_esp: .long 0
gate_user_esp: .long 0
task_count: .long 0
task_flags: .long 0
task_ebx: .long 0
task_tr: .long 0
task_error: .long 0
	CATCHERS32
	TABLES
