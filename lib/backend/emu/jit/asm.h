/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writing host instructions.
 *
 * Code is written through the writable mapping; addresses inside it are those of the executable one (emit.delta apart).
 */
#ifndef VC_EMU_JIT_ASM_H
#define VC_EMU_JIT_ASM_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/util.h"

enum host_reg {
	H_RAX,
	H_RCX,
	H_RDX,
	H_RBX,
	H_RSP,
	H_RBP,
	H_RSI,
	H_RDI,
	H_R8,
	H_R9,
	H_R10,
	H_R11,
	H_R12,
	H_R13,
	H_R14,
	H_R15,
	H_NONE = 0xff,
};

enum host_condition { H_O, H_NO, H_B, H_AE, H_E, H_NE, H_BE, H_A, H_S, H_NS, H_P, H_NP, H_L, H_GE, H_LE, H_G };

/* ALU operations by their digit in group 1. */
enum host_alu { H_ADD, H_OR, H_ADC, H_SBB, H_AND, H_SUB, H_XOR, H_CMP };

struct jit_asm {
	uint8_t *p, *end; /* writable */
	intptr_t delta;   /* executable address = writable address + delta */
	bool full;        /* `end` was reached: what was written is worth nothing */
};

/* [base + (index << scale) + disp] */
struct host_mem {
	uint8_t base, index, scale;
	int32_t disp;
};

/* What an instruction is encoded from. */
struct host_insn {
	uint8_t pp; /* mandatory or operand-size prefix: 0, 0x66, 0xf3, 0xf2 */
	bool lock;
	bool opsize; /* 66, besides a mandatory prefix */
	bool w;
	bool vex, l;
	uint8_t vvvv; /* VEX */
	uint8_t map;  /* 0: one byte, 1: 0F, 2: 0F38, 3: 0F3A */
	uint8_t opcode;
	uint8_t reg, rm;        /* rm: when mem is NULL */
	bool byte_reg, byte_rm; /* they are byte registers: SPL... need REX */
	const struct host_mem *mem;
	uint64_t imm;
	uint8_t imm_size; /* 0, 1, 2, 4, 8 */
};

static inline void jit_put8(struct jit_asm *a, unsigned byte)
{
	if (vc_likely(a->p < a->end))
		*a->p++ = (uint8_t)byte;
	else
		a->full = true;
}
static inline void jit_put(struct jit_asm *a, const void *bytes, unsigned count)
{
	if (vc_unlikely((size_t)(a->end - a->p) < count)) {
		a->full = true;
		return;
	}
	memcpy(a->p, bytes, count);
	a->p += count;
}
static inline void jit_put32(struct jit_asm *a, uint32_t value)
{
	jit_put(a, &value, 4);
}
static inline void jit_put64(struct jit_asm *a, uint64_t value)
{
	jit_put(a, &value, 8);
}
#define JIT_PUT(a, ...)                         \
	do {                                        \
		const uint8_t bytes_[] = {__VA_ARGS__}; \
		jit_put((a), bytes_, sizeof bytes_);    \
	} while (0)

/* Executable address of what is written next. */
static inline uint8_t *jit_here(const struct jit_asm *a)
{
	return a->p + a->delta;
}

void jit_encode(struct jit_asm *a, const struct host_insn *i);
/* No operation of so many bytes. */
void jit_nop(struct jit_asm *a, unsigned bytes);
/* So that the next byte but `offset` is at a multiple of `to`. */
void jit_align(struct jit_asm *a, unsigned to, unsigned offset);

/* ---- the instructions that the translator itself uses ---- */
void jit_op_rr(struct jit_asm *a, unsigned opcode, bool w, unsigned reg, unsigned rm); /* op r/m, reg by opcode */
void jit_op_rm(struct jit_asm *a, unsigned opcode, bool w, unsigned reg, const struct host_mem *m);
void jit_alu_imm(struct jit_asm *a, enum host_alu op, bool w, unsigned reg, int32_t imm);
void jit_alu_mem(struct jit_asm *a, enum host_alu op, bool w, unsigned reg,
                 const struct host_mem *m); /* reg op= [m]; CMP too */
void jit_shift_imm(struct jit_asm *a, unsigned digit, bool w, unsigned reg,
                   unsigned count);                                /* 4: SHL, 5: SHR, 7: SAR */
void jit_mov_imm64(struct jit_asm *a, unsigned reg, uint64_t imm); /* the shortest form */

/* Fields of the vcpu: [rsp + offset]. */
static inline struct host_mem jit_field(uint32_t offset)
{
	return (struct host_mem){.base = H_RSP, .index = H_NONE, .disp = (int32_t)offset};
}
static inline struct host_mem jit_field_indexed(uint32_t offset, unsigned index)
{
	return (struct host_mem){.base = H_RSP, .index = (uint8_t)index, .disp = (int32_t)offset};
}
static inline void jit_mov_rr(struct jit_asm *a, bool w, unsigned to, unsigned from)
{
	jit_op_rr(a, 0x8b, w, to, from);
}
static inline void jit_load(struct jit_asm *a, bool w, unsigned reg, struct host_mem m)
{
	jit_op_rm(a, 0x8b, w, reg, &m);
}
static inline void jit_store(struct jit_asm *a, bool w, struct host_mem m, unsigned reg)
{
	jit_op_rm(a, 0x89, w, reg, &m);
}
static inline void jit_lea(struct jit_asm *a, bool w, unsigned reg, struct host_mem m)
{
	jit_op_rm(a, 0x8d, w, reg, &m);
}

/* Jumps whose target comes later. */
struct jit_label {
	uint8_t *at; /* the 32-bit displacement */
};
struct jit_label jit_jcc(struct jit_asm *a, enum host_condition cc);
struct jit_label jit_jmp(struct jit_asm *a);
void jit_land(struct jit_asm *a, struct jit_label label); /* here */
void jit_jmp_to(struct jit_asm *a, const uint8_t *executable);
void jit_call_to(struct jit_asm *a, const uint8_t *executable);
void jit_jcc_to(struct jit_asm *a, enum host_condition cc, const uint8_t *executable);

#endif
