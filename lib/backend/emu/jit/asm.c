/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Encoding of host instructions (SDM vol. 2, chapter 2). */
#include "backend/emu/jit/asm.h"

static void put_modrm(struct jit_asm *a, unsigned reg, const struct host_mem *m)
{
	unsigned r = (reg & 7) << 3, mod;
	bool sib;

	if (m->base == H_NONE) { /* [disp32] or [index * scale + disp32], never RIP-relative */
		jit_put8(a, r | 4);
		jit_put8(a, m->scale << 6 | (m->index == H_NONE ? 4 : m->index & 7) << 3 | 5);
		jit_put32(a, (uint32_t)m->disp);
		return;
	}
	sib = m->index != H_NONE || (m->base & 7) == 4;
	mod = m->disp == 0 && (m->base & 7) != 5 ? 0 : m->disp == (int8_t)m->disp ? 1 : 2;
	jit_put8(a, mod << 6 | r | (sib ? 4 : m->base & 7));
	if (sib)
		jit_put8(a, m->scale << 6 | (m->index == H_NONE ? 4 : m->index & 7) << 3 | (m->base & 7));
	if (mod == 1)
		jit_put8(a, (uint8_t)m->disp);
	else if (mod == 2)
		jit_put32(a, (uint32_t)m->disp);
}

static bool high(unsigned reg)
{
	return reg != H_NONE && reg >= 8;
}

static void put_legacy(struct jit_asm *a, const struct host_insn *i, bool x, bool b)
{
	unsigned rex = (i->w ? 8u : 0) | (high(i->reg) ? 4u : 0) | (x ? 2u : 0) | (b ? 1u : 0);
	bool force = (i->byte_reg && i->reg >= 4 && i->reg < 8) || (i->byte_rm && !i->mem && i->rm >= 4 && i->rm < 8);

	if (i->lock)
		jit_put8(a, 0xf0);
	if (i->opsize && i->pp != 0x66)
		jit_put8(a, 0x66);
	if (i->pp)
		jit_put8(a, i->pp);
	if (rex || force)
		jit_put8(a, 0x40 | rex);
	if (i->map)
		jit_put8(a, 0x0f);
	if (i->map >= 2)
		jit_put8(a, i->map == 2 ? 0x38 : 0x3a);
	jit_put8(a, i->opcode);
}

static void put_vex(struct jit_asm *a, const struct host_insn *i, bool x, bool b)
{
	unsigned pp = i->pp == 0x66 ? 1 : i->pp == 0xf3 ? 2 : i->pp == 0xf2 ? 3 : 0;
	unsigned tail = (~i->vvvv & 15u) << 3 | (i->l ? 4u : 0) | pp;

	if (!x && !b && !i->w && i->map == 1) {
		jit_put8(a, 0xc5);
		jit_put8(a, (high(i->reg) ? 0 : 0x80u) | tail);
	} else {
		jit_put8(a, 0xc4);
		jit_put8(a, (high(i->reg) ? 0 : 0x80u) | (x ? 0 : 0x40u) | (b ? 0 : 0x20u) | i->map);
		jit_put8(a, (i->w ? 0x80u : 0) | tail);
	}
	jit_put8(a, i->opcode);
}

void jit_encode(struct jit_asm *a, const struct host_insn *i)
{
	bool x = i->mem && high(i->mem->index), b = i->mem ? high(i->mem->base) : high(i->rm);

	if (i->vex)
		put_vex(a, i, x, b);
	else
		put_legacy(a, i, x, b);
	if (i->mem)
		put_modrm(a, i->reg, i->mem);
	else
		jit_put8(a, 0xc0 | (i->reg & 7) << 3 | (i->rm & 7));
	jit_put(a, &i->imm, i->imm_size);
}

void jit_nop(struct jit_asm *a, unsigned bytes)
{
	/* SDM vol. 2, NOP: recommended sequences */
	static const uint8_t nops[9][9] = {
	    {0x90},
	    {0x66, 0x90},
	    {0x0f, 0x1f, 0x00},
	    {0x0f, 0x1f, 0x40, 0x00},
	    {0x0f, 0x1f, 0x44, 0x00, 0x00},
	    {0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00},
	    {0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00},
	    {0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
	    {0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
	};

	while (bytes) {
		unsigned n = bytes < 9 ? bytes : 9;

		jit_put(a, nops[n - 1], n);
		bytes -= n;
	}
}

void jit_align(struct jit_asm *a, unsigned to, unsigned offset)
{
	jit_nop(a, (unsigned)(-((uintptr_t)a->p + offset) & (to - 1)));
}

void jit_op_rr(struct jit_asm *a, unsigned opcode, bool w, unsigned reg, unsigned rm)
{
	jit_encode(a, &(struct host_insn){.opcode = (uint8_t)opcode, .w = w, .reg = (uint8_t)reg, .rm = (uint8_t)rm});
}

void jit_op_rm(struct jit_asm *a, unsigned opcode, bool w, unsigned reg, const struct host_mem *m)
{
	jit_encode(a, &(struct host_insn){.opcode = (uint8_t)opcode, .w = w, .reg = (uint8_t)reg, .mem = m});
}

void jit_alu_imm(struct jit_asm *a, enum host_alu op, bool w, unsigned reg, int32_t imm)
{
	bool small = imm == (int8_t)imm;

	jit_encode(a, &(struct host_insn){.opcode = small ? 0x83 : 0x81,
	                                  .w = w,
	                                  .reg = (uint8_t)op,
	                                  .rm = (uint8_t)reg,
	                                  .imm = (uint32_t)imm,
	                                  .imm_size = small ? 1 : 4});
}

void jit_alu_mem(struct jit_asm *a, enum host_alu op, bool w, unsigned reg, const struct host_mem *m)
{
	jit_op_rm(a, (unsigned)op << 3 | 3, w, reg, m);
}

void jit_shift_imm(struct jit_asm *a, unsigned digit, bool w, unsigned reg, unsigned count)
{
	jit_encode(a, &(struct host_insn){
	                  .opcode = 0xc1, .w = w, .reg = (uint8_t)digit, .rm = (uint8_t)reg, .imm = count, .imm_size = 1});
}

void jit_mov_imm64(struct jit_asm *a, unsigned reg, uint64_t imm)
{
	if (imm >> 32) {
		if ((int64_t)imm == (int32_t)imm) {
			jit_encode(a,
			           &(struct host_insn){.opcode = 0xc7, .w = true, .rm = (uint8_t)reg, .imm = imm, .imm_size = 4});
			return;
		}
		JIT_PUT(a, 0x48 | (reg >= 8), 0xb8 | (reg & 7));
		jit_put64(a, imm);
		return;
	}
	if (reg >= 8)
		jit_put8(a, 0x41);
	jit_put8(a, 0xb8 | (reg & 7));
	jit_put32(a, (uint32_t)imm);
}

struct jit_label jit_jcc(struct jit_asm *a, enum host_condition cc)
{
	JIT_PUT(a, 0x0f, 0x80 | (uint8_t)cc);
	jit_put32(a, 0);
	return (struct jit_label){a->p - 4};
}

struct jit_label jit_jmp(struct jit_asm *a)
{
	jit_put8(a, 0xe9);
	jit_put32(a, 0);
	return (struct jit_label){a->p - 4};
}

void jit_land(struct jit_asm *a, struct jit_label label)
{
	if (!a->full)
		vc_st32(label.at, (uint32_t)(a->p - (label.at + 4)));
}

static void put_rel(struct jit_asm *a, const uint8_t *executable)
{
	jit_put32(a, (uint32_t)(executable - (jit_here(a) + 4)));
}

void jit_jmp_to(struct jit_asm *a, const uint8_t *executable)
{
	jit_put8(a, 0xe9);
	put_rel(a, executable);
}

void jit_call_to(struct jit_asm *a, const uint8_t *executable)
{
	jit_put8(a, 0xe8);
	put_rel(a, executable);
}

void jit_jcc_to(struct jit_asm *a, enum host_condition cc, const uint8_t *executable)
{
	JIT_PUT(a, 0x0f, 0x80 | (uint8_t)cc);
	put_rel(a, executable);
}
