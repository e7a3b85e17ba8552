/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Power off by PM1a_CNT: SLP_TYP 5 with SLP_EN. */
#include "guest.h"
	.globl _start
_start:
	.code16
	movw $0x604, %dx
	inw %dx, %ax
	andw $0x1fff, %ax
	andw $~0x3c00, %ax
	orw $0x3400, %ax
	outw %ax, %dx
1:	hlt
	jmp 1b
