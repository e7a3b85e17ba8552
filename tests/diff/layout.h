/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where everything lives, natively and in the guest alike: one arena of 2 MiB regions below 2 GiB, so that 64-bit code
 * reaches all of it with absolute 32-bit addresses that need no register, and 32-bit code can run there at all.
 * For C and for runner.S.
 */
#ifndef DIFF_LAYOUT_H
#define DIFF_LAYOUT_H

#define DIFF_REGION   0x200000
#define DIFF_READONLY 0x20000000 /* a region that may only be read */
#define DIFF_DATA     0x20200000 /* memory operands; the window is its last KiB */
#define DIFF_GUARD    0x20400000 /* nothing is mapped here */
#define DIFF_CODE     0x20600000 /* runner, variables, cases and their code */
#define DIFF_OUT      0x20800000 /* results */
#define DIFF_SYSTEM   0x20a00000 /* guest only, supervisor only: page tables, descriptor tables, ring-0 stack */
#define DIFF_END      0x20c00000 /* of the guest's memory */
#define DIFF_FINISH   0x20c00000 /* guest only: no memory, a write there ends the batch */

#define DIFF_WINDOW_SIZE 0x400
#define DIFF_WINDOW      0x203ffc00

/* In DIFF_CODE. Variables have pages of their own, away from code. */
#define DIFF_RUNNER 0x20600000
#define DIFF_VARS   0x20610000
#define DIFF_SLOTS  0x20640000
#define DIFF_IN     0x20680000
#define DIFF_CASES  512  /* cases a batch */
#define DIFF_RECORD 2048 /* bytes of an input or output record */
#define DIFF_SLOT   0xb0 /* bytes of a case's code: not a power of two, so that some instructions cross a page */

#define VAR_CUR     0x20610000 /* the case's input record */
#define VAR_LAST    0x20610008 /* behind the last one */
#define VAR_OUT     0x20610010 /* the case's output record */
#define VAR_FINISH  0x20610018 /* where the runner goes in the end */
#define VAR_ENTRY   0x20610020 /* far pointer to the case's code */
#define VAR_FS_BASE 0x20610028 /* the host program's, to be put back */
#define VAR_GS_BASE 0x20610030
#define VAR_RSP     0x20610038
#define VAR_STACK   0x20612000 /* top of the runner's own stack */
#define VAR_STAGE   0x20613000 /* the first half of an output record is made here */

/* A record: general registers in encoding order, flags, then (input) where to go or (output) what happened. */
#define REC_FLAGS   128
#define REC_ENTRY   136 /* input: 32-bit offset, 16-bit selector */
#define REC_RIP     136 /* of an exception */
#define REC_CR2     144
#define REC_ERROR   152
#define REC_VECTOR  156 /* 16 bits */
#define REC_LANDING 158
#define REC_SREGS   160 /* DS ES SS FS GS, 16 bits each */
#define REC_FSBASE  176
#define REC_GSBASE  184
#define REC_XSAVE   192
#define REC_WINDOW  1024
#define NO_VECTOR   0x100

/* FS and GS bases of every case. */
#define CASE_FS_BASE 0x1000
#define CASE_GS_BASE 0x2340

/* Selectors: those of 64-bit Linux. */
#define SEL_KERNEL_CS 0x10
#define SEL_KERNEL_DS 0x18
#define SEL_USER32    0x23
#define SEL_DATA      0x2b
#define SEL_USER64    0x33
#define SEL_TSS       0x40

/* Landing places in a case's slot, and the numbers they leave. */
#define SLOT_BACK      0x00
#define SLOT_OTHER     0x10 /* for the other code size: far transfers */
#define SLOT_CODE      0x20
#define SLOT_FORWARD   0x90
#define LANDED_NEXT    1
#define LANDED_BACK    2
#define LANDED_FORWARD 3
#define LANDED_OTHER   4

/* In DIFF_SYSTEM. */
#define SYS_TABLES   0x20a00000
#define SYS_GDT      0x20a10000
#define SYS_IDT      0x20a11000
#define SYS_TSS      0x20a12000
#define SYS_STACK    0x20a20000 /* top */
#define IDT_GATES    32
#define HANDLER_SIZE 16

#define CASE_RFLAGS_DEFAULT 0x202

#endif
