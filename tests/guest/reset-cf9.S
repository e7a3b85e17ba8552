/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reset by the reset control register: a hard reset is a rising edge of bit 2. */
#include "guest.h"
	.globl _start
_start:
	.code16
	movw $0xcf9, %dx
	movb $2, %al
	outb %al, %dx
	movb $6, %al
	outb %al, %dx
1:	hlt
	jmp 1b
