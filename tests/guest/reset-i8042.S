/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reset by the keyboard controller: pulse line 0 of the output port. */
#include "guest.h"
	.globl _start
_start:
	.code16
1:	inb $0x64, %al
	testb $2, %al
	jnz 1b
	movb $0xfe, %al
	outb %al, $0x64
1:	hlt
	jmp 1b
