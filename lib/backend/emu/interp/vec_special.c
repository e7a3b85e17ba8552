/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Vector instructions that a stub alone cannot run: their memory accesses depend on their operands, or they touch more
 * than one register. */
#include "backend/emu/interp/vec.h"

/* A YMM register gathered from, or to be scattered to, its two halves in the live state. */
struct ymm {
	uint8_t bytes[32];
};

static struct ymm read_ymm(struct emu_vcpu *c, unsigned n)
{
	struct ymm v;
	const uint8_t *x = emu_vec_xmm(c, n);

	memcpy(v.bytes, x, 16);
	memcpy(v.bytes + 16, x + VEC_YMM_HI, 16);
	return v;
}

static void write_ymm(struct emu_vcpu *c, unsigned n, const struct ymm *v)
{
	uint8_t *x = emu_vec_xmm(c, n);

	memcpy(x, v->bytes, 16);
	memcpy(x + VEC_YMM_HI, v->bytes + 16, 16);
}

static unsigned vector_size(const struct emu_insn *i)
{
	return i->prefixes & EMU_P_VEX_L ? 32 : 16;
}

/* The mask of an element is its highest bit. */
static bool masked_in(const struct ymm *mask, unsigned element, unsigned size)
{
	return mask->bytes[element * size + size - 1] & 0x80;
}

/* An address cut to the address size: that of each element of a gather, and of an operand's first byte. */
static uint64_t cut(const struct emu_insn *i, uint64_t offset)
{
	return i->addrsize == 8 ? offset : i->addrsize == 4 ? (uint32_t)offset : (uint16_t)offset;
}

/* Neither gathers nor masked moves check alignment. */
static uint64_t load_element(struct emu_vcpu *c, uint64_t linear, unsigned size)
{
	uint64_t value = 0;

	emu_ld_bytes(c, linear, &value, size);
	return value;
}

/* ---- VMASKMOVPS, VMASKMOVPD, VPMASKMOVD, VPMASKMOVQ: an element that is masked off is not accessed ---- */

static unsigned masked_element_size(const struct emu_insn *i)
{
	if (i->opcode >= 0x8c)
		return i->prefixes & EMU_P_W ? 8 : 4;
	return i->opcode & 1 ? 8 : 4;
}

static enum emu_next masked_load(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_vec_check_vex(c);
	unsigned size = masked_element_size(i), count = vector_size(i) / size;
	uint64_t offset = emu_effective_address(c, i);
	struct ymm mask = read_ymm(c, i->reg2), result = {{0}};

	for (unsigned n = 0; n < count; n++) {
		if (!masked_in(&mask, n, size))
			continue;
		uint64_t v = load_element(c, emu_vec_segment_linear(c, i, offset + n * size, size, VCORE_ACCESS_READ), size);
		memcpy(result.bytes + n * size, &v, size);
	}
	write_ymm(c, i->reg, &result);
	return EMU_NEXT;
}

static enum emu_next masked_store(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_vec_check_vex(c);
	unsigned size = masked_element_size(i), count = vector_size(i) / size;
	uint64_t offset = emu_effective_address(c, i);
	struct ymm mask = read_ymm(c, i->reg2), value = read_ymm(c, i->reg);

	for (unsigned n = 0; n < count; n++)
		if (masked_in(&mask, n, size))
			emu_probe(c, emu_vec_segment_linear(c, i, offset + n * size, size, VCORE_ACCESS_WRITE), size, true);
	for (unsigned n = 0; n < count; n++)
		if (masked_in(&mask, n, size))
			emu_st_bytes(c, emu_vec_segment_linear(c, i, offset + n * size, size, VCORE_ACCESS_WRITE),
			             value.bytes + n * size, size);
	return EMU_NEXT;
}

/* ---- gathers ---- */

/*
 * Element by element, each committed together with its mask: a fault leaves what was done and a mask of what is left,
 * and the instruction starts again there (SDM vol. 2, VGATHERDPS). The decoder has refused equal registers.
 */
static enum emu_next gather(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_vec_check_vex(c);
	unsigned size = i->prefixes & EMU_P_W ? 8 : 4, index_size = i->opcode & 1 ? 8 : 4;
	unsigned count = vector_size(i) / (size > index_size ? size : index_size);
	struct ymm index = read_ymm(c, i->index), mask = read_ymm(c, i->reg2), result = read_ymm(c, i->reg);
	uint64_t base = (i->base == EMU_REG_NONE ? 0 : c->s.gpr[i->base]) + (uint64_t)(int64_t)i->disp;

	for (unsigned n = 0; n < count; n++) {
		if (!masked_in(&mask, n, size))
			continue;
		int64_t at = index_size == 8 ? (int64_t)vc_ld64(index.bytes + n * 8) : (int32_t)vc_ld32(index.bytes + n * 4);
		uint64_t v = load_element(
		    c, emu_vec_segment_linear(c, i, cut(i, base + ((uint64_t)at << i->scale)), size, VCORE_ACCESS_READ), size);
		memcpy(result.bytes + n * size, &v, size);
		memset(mask.bytes + n * size, 0, size);
		write_ymm(c, i->reg, &result);
		write_ymm(c, i->reg2, &mask);
	}
	memset(result.bytes + count * size, 0, sizeof result - count * size);
	memset(&mask, 0, sizeof mask);
	write_ymm(c, i->reg, &result);
	write_ymm(c, i->reg2, &mask);
	return EMU_NEXT;
}

/* ---- MASKMOVQ, MASKMOVDQU: bytes to [rDI], where each is selected by the highest bit of a byte ---- */

static void store_bytes(struct emu_vcpu *c, const struct emu_insn *i, const uint8_t *value, const uint8_t *mask,
                        unsigned count)
{
	uint64_t offset = cut(i, c->s.gpr[VC_RDI]);

	for (unsigned n = 0; n < count; n++)
		if (mask[n] & 0x80)
			emu_probe(c, emu_vec_segment_linear(c, i, offset + n, 1, VCORE_ACCESS_WRITE), 1, true);
	for (unsigned n = 0; n < count; n++)
		if (mask[n] & 0x80)
			emu_st8(c, emu_vec_segment_linear(c, i, offset + n, 1, VCORE_ACCESS_WRITE), value[n]);
}

static enum emu_next maskmovdqu(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_vec_check(c, i);
	store_bytes(c, i, emu_vec_xmm(c, i->reg), emu_vec_xmm(c, i->rm), 16);
	return EMU_NEXT;
}

static enum emu_next maskmovq(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct vc_xsave *x = &c->s.xsave;
	unsigned top = emu_x87_top(x);

	emu_vec_check_mmx(c);
	/* before MMX state is entered, MMn is ST(n - TOP) */
	store_bytes(c, i, x->st[(i->reg - top) & 7], x->st[(i->rm - top) & 7], 8);
	emu_x87_enter_mmx(x);
	return EMU_NEXT;
}

/* ---- PCMPESTRM, PCMPESTRI, PCMPISTRM, PCMPISTRI ---- */

static enum emu_next compare_strings(struct emu_vcpu *c, const struct emu_insn *i)
{
	void *rm;

	emu_vec_check(c, i);
	if (i->prefixes & EMU_P_MEM)
		rm = emu_vec_load(c, emu_vec_linear(c, i, 16, VCORE_ACCESS_READ), 16); /* need not be aligned */
	else
		rm = emu_vec_xmm(c, i->rm);
	emu_stub_of(c, i, EMU_STUB_STRING)(emu_vec_xmm(c, i->reg), NULL, rm, c, c->s.gpr, c->vec);
	return EMU_NEXT;
}

/* ---- the rest ---- */

static enum emu_next vzero(struct emu_vcpu *c, const struct emu_insn *i)
{
	unsigned registers = emu_vec_registers(c);

	emu_vec_check_vex(c);
	if (i->prefixes & EMU_P_VEX_L)
		memset(c->s.xsave.xmm, 0, 16 * registers);
	memset(c->s.xsave.ymm_hi, 0, 16 * registers);
	return EMU_NEXT;
}

static enum emu_next emms(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_vec_check_mmx(c);
	/* TOP too: SDM vol. 3, table 12-2 */
	emu_x87_set_top(&c->s.xsave, 0);
	c->s.xsave.ftw = 0;
	return EMU_NEXT;
}

emu_system_fn emu_vec_special_handler(struct emu_vcpu *c, struct emu_insn *i)
{
	bool vex = i->prefixes & EMU_P_VEX;

	switch (i->map << 8 | i->opcode) {
	case EMU_MAP_0F << 8 | 0x77:
		return vex ? vzero : emms;
	case EMU_MAP_0F << 8 | 0xf7:
		return i->desc->vec.reg_file == EMU_VR_MMX ? maskmovq : maskmovdqu;
	case EMU_MAP_0F38 << 8 | 0x2c:
	case EMU_MAP_0F38 << 8 | 0x2d:
	case EMU_MAP_0F38 << 8 | 0x8c:
		return masked_load;
	case EMU_MAP_0F38 << 8 | 0x2e:
	case EMU_MAP_0F38 << 8 | 0x2f:
	case EMU_MAP_0F38 << 8 | 0x8e:
		return masked_store;
	case EMU_MAP_0F38 << 8 | 0x90:
	case EMU_MAP_0F38 << 8 | 0x91:
	case EMU_MAP_0F38 << 8 | 0x92:
	case EMU_MAP_0F38 << 8 | 0x93:
		return gather;
	default: /* 0F3A 60-63 */
		i->stub = emu_stub_handle(c, i, EMU_STUB_STRING);
		return compare_strings;
	}
}
