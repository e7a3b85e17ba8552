/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A fault with no gate for it, nor for the double fault, ends the vm. */
#include "guest.h"
	.globl _start
_start:
	ENTER_PROTECTED
	ENTER_LONG
	lidt nothing
	ud2
	FAIL 1
nothing:
	.word 0
	.quad 0
	TABLES
