/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In real mode too: a vector beyond the limit of the vector table, for the #GP and #DF that follow as well. */
#include "guest.h"
	.globl _start
_start:
	.code16
	cli
	lidt nothing
	int $3
	FAIL 1
nothing:
	.word 0
	.long 0
