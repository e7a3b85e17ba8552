/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The runner: takes case after case, loads its state, jumps to its code, and stores the state that the code left. The
 * same bytes run natively and in ring 3 of a guest; they are copied to DIFF_RUNNER and use no address of the program.
 */
#include "layout.h"

#define AT(label) (DIFF_RUNNER + (label - diff_runner))

	.section .rodata
	.balign 64
	.globl diff_runner, diff_runner_end, diff_runner_next, diff_runner_epilogue, diff_runner_return, diff_runner_finish
	.globl diff_runner_handlers

	.code64
/* Native: called as a function. */
diff_runner:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, VAR_RSP
	rdfsbase %rax
	mov %rax, VAR_FS_BASE
	rdgsbase %rax
	mov %rax, VAR_GS_BASE

/* Guest: entered here. */
diff_runner_next:
	mov VAR_CUR, %rbx
	cmp VAR_LAST, %rbx
	jae 1f

	/* what no case may inherit from the one before */
	xor %eax, %eax
	mov %rax, VAR_STAGE + REC_RIP
	mov %rax, VAR_STAGE + REC_CR2
	movl $0, VAR_STAGE + REC_ERROR
	movl $NO_VECTOR, VAR_STAGE + REC_VECTOR
	mov $SEL_DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov %eax, %fs
	mov %eax, %gs
	mov $CASE_FS_BASE, %eax
	wrfsbase %rax
	mov $CASE_GS_BASE, %eax
	wrgsbase %rax

	lea REC_WINDOW(%rbx), %rsi
	mov $DIFF_WINDOW, %edi
	mov $DIFF_WINDOW_SIZE / 8, %ecx
	rep movsq
	xor %edx, %edx
	mov $7, %eax
	xrstor64 REC_XSAVE(%rbx)
	mov REC_ENTRY(%rbx), %rax
	mov %rax, VAR_ENTRY
	mov $VAR_STACK, %esp
	push REC_FLAGS(%rbx)
	popfq
	mov 0(%rbx), %rax
	mov 8(%rbx), %rcx
	mov 16(%rbx), %rdx
	mov 32(%rbx), %rsp
	mov 40(%rbx), %rbp
	mov 48(%rbx), %rsi
	mov 56(%rbx), %rdi
	mov 64(%rbx), %r8
	mov 72(%rbx), %r9
	mov 80(%rbx), %r10
	mov 88(%rbx), %r11
	mov 96(%rbx), %r12
	mov 104(%rbx), %r13
	mov 112(%rbx), %r14
	mov 120(%rbx), %r15
	mov 24(%rbx), %rbx
	ljmp *VAR_ENTRY
1:	jmp *VAR_FINISH

/* Every landing place and exception handler comes here, in 64-bit mode. */
diff_runner_epilogue:
	mov %rax, VAR_STAGE + 0
	mov %rcx, VAR_STAGE + 8
	mov %rdx, VAR_STAGE + 16
	mov %rbx, VAR_STAGE + 24
	mov %rsp, VAR_STAGE + 32
	mov %rbp, VAR_STAGE + 40
	mov %rsi, VAR_STAGE + 48
	mov %rdi, VAR_STAGE + 56
	mov %r8, VAR_STAGE + 64
	mov %r9, VAR_STAGE + 72
	mov %r10, VAR_STAGE + 80
	mov %r11, VAR_STAGE + 88
	mov %r12, VAR_STAGE + 96
	mov %r13, VAR_STAGE + 104
	mov %r14, VAR_STAGE + 112
	mov %r15, VAR_STAGE + 120
	mov $VAR_STACK, %esp
	pushfq
	pop VAR_STAGE + REC_FLAGS
	push $CASE_RFLAGS_DEFAULT
	popfq
	mov %ds, VAR_STAGE + REC_SREGS
	mov %es, VAR_STAGE + REC_SREGS + 2
	mov %ss, VAR_STAGE + REC_SREGS + 4
	mov %fs, VAR_STAGE + REC_SREGS + 6
	mov %gs, VAR_STAGE + REC_SREGS + 8
	rdfsbase %rax
	mov %rax, VAR_STAGE + REC_FSBASE
	rdgsbase %rax
	mov %rax, VAR_STAGE + REC_GSBASE
	xor %edx, %edx
	mov $7, %eax
	xsave64 VAR_STAGE + REC_XSAVE
	mov VAR_OUT, %rdi
	mov $VAR_STAGE, %esi
	mov $REC_WINDOW / 8, %ecx
	rep movsq
	mov $DIFF_WINDOW, %esi
	mov $DIFF_WINDOW_SIZE / 8, %ecx
	rep movsq
	mov %rdi, VAR_OUT
	addq $DIFF_RECORD, VAR_CUR
	jmp diff_runner_next

/* Native: back to C, with the state that the calling convention wants. */
diff_runner_return:
	xor %eax, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %fs
	mov %eax, %gs
	mov VAR_FS_BASE, %rax
	wrfsbase %rax
	mov VAR_GS_BASE, %rax
	wrgsbase %rax
	vzeroall
	fninit
	movl $0x1f80, VAR_STAGE
	ldmxcsr VAR_STAGE
	mov VAR_RSP, %rsp
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret

/* Guest: the batch is done. */
diff_runner_finish:
	mov %eax, DIFF_FINISH
	jmp diff_runner_finish

/*
 * Guest, ring 0: the state of an exception is noted, and the case ends. TF is cleared, as the native handler does, or
 * the epilogue would trap.
 */
exception:
	push %rax
	mov 8(%rsp), %rax
	mov %ax, VAR_STAGE + REC_VECTOR
	mov 16(%rsp), %rax
	mov %eax, VAR_STAGE + REC_ERROR
	mov 24(%rsp), %rax
	mov %rax, VAR_STAGE + REC_RIP
	mov %cr2, %rax
	mov %rax, VAR_STAGE + REC_CR2
	movq $AT(diff_runner_epilogue), 24(%rsp)
	movq $SEL_USER64, 32(%rsp)
	andq $~0x100, 40(%rsp)
	pop %rax
	add $16, %rsp
	iretq

	.balign HANDLER_SIZE
diff_runner_handlers:
	.set vector, 0
	.rept IDT_GATES
	.balign HANDLER_SIZE
	/* those with an error code: 8, 10-14, 17 */
	.if !((0x27d00 >> vector) & 1)
	push $0
	.endif
	push $vector
	jmp exception
	.set vector, vector + 1
	.endr
diff_runner_end:

	.section .note.GNU-stack, "", @progbits
