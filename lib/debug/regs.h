/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The registers as gdb numbers and sees them, of a vcpu's architectural state. */
#ifndef VC_DEBUG_REGS_H
#define VC_DEBUG_REGS_H

#include "cpu/state.h"
#include "debug/rsp.h"

#define VC_GDB_REG_BYTES_MAX 16

/* Those gdb wants to see in every description, by number: the order of the table. */
enum { VC_GDB_RBP = 6, VC_GDB_RSP = 7, VC_GDB_RIP = 16 };

/* How many there are, of a CPU with AVX or without. */
unsigned vc_gdb_reg_count(bool avx);
/* Bytes of a register; 0: there is none of that number. */
unsigned vc_gdb_reg_size(unsigned number);
/* Its value, little-endian. Components of the XSAVE area that are in their initial state are written out there. */
void vc_gdb_reg_get(struct vc_cpu_state *state, unsigned number, uint8_t value[VC_GDB_REG_BYTES_MAX]);
/*
 * Change it. *general: false is stored when more than the general registers, RIP and RFLAGS has changed. -EINVAL: a
 * selector in protected mode, which nothing but the guest's own load makes a segment.
 */
int vc_gdb_reg_set(struct vc_cpu_state *state, unsigned number, const uint8_t value[VC_GDB_REG_BYTES_MAX],
                   bool *general);

#define VC_GDB_DESCRIPTION_MAX 12288
/* describe.c: target.xml. Returns its length. */
size_t vc_gdb_describe(bool avx, char text[VC_GDB_DESCRIPTION_MAX]);

/* What describe.c knows of a register. */
enum vc_gdb_feature { VC_GDB_CORE, VC_GDB_SSE, VC_GDB_SEGMENTS, VC_GDB_SYSTEM, VC_GDB_AVX, VC_GDB_FEATURES };
struct vc_gdb_reg {
	const char *name, *type;
	uint8_t feature;
	uint8_t kind;   /* regs.c */
	uint8_t bytes;  /* as gdb has it */
	uint8_t stored; /* in the state, at offset: the rest reads 0 */
	uint16_t offset;
};
extern const struct vc_gdb_reg vc_gdb_regs[];

#endif
