/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bytes -> struct emu_insn. The format: SDM vol. 2 chapter 2. */
#include <string.h>

#include "backend/emu/decode/rows.h"
#include "core/util.h"

#define MAX_LENGTH 15u /* SDM vol. 2, 2.3.11: a longer one is #GP(0) */

/* REX bits, and those of VEX in the same places. */
enum { REX_B = 1, REX_X = 2, REX_R = 4, REX_W = 8 };

struct decoder {
	const uint8_t *next, *end;
	const struct emu_decode_mode *mode;
	struct emu_insn *insn;
	uint8_t rex;
	uint8_t pp;
	uint8_t vvvv;      /* VEX.vvvv as a register number; 0 also when it is 1111b, which stands for none */
	uint8_t sib_index; /* of the SIB byte, REX.X included; EMU_REG_NONE without one */
};

static const struct emu_opdesc invalid_row = {.name = "(bad)", .op = EMU_INVALID};

static inline bool in_64bit(const struct decoder *d)
{
	return d->mode->mode == EMU_MODE_64;
}

/* Takes `size` little-endian bytes; false when there are fewer. */
static inline bool take(struct decoder *d, unsigned size, uint64_t *value)
{
	if (vc_unlikely((size_t)(d->end - d->next) < size))
		return false;
	*value = 0;
	memcpy(value, d->next, size);
	d->next += size;
	return true;
}

static inline bool take_byte(struct decoder *d, uint8_t *value)
{
	if (vc_unlikely(d->next == d->end))
		return false;
	*value = *d->next++;
	return true;
}

/* ---- prefixes and opcode ---- */

static void apply_prefix(struct decoder *d, const struct emu_slot *slot)
{
	struct emu_insn *insn = d->insn;

	if (slot->prefix & (EMU_P_REP | EMU_P_REPNE))
		insn->prefixes &= (uint16_t) ~(EMU_P_REP | EMU_P_REPNE); /* the last one counts */
	if (slot->prefix & EMU_P_SEG) {
		if (in_64bit(d) && slot->seg < VC_FS)
			return; /* ES, CS, SS, DS: null prefixes in 64-bit mode */
		insn->seg = slot->seg;
	}
	insn->prefixes |= slot->prefix;
}

/* Prefixes up to the first opcode byte, whose slot is returned; NULL when the bytes end before. */
static const struct emu_slot *take_prefixes(struct decoder *d)
{
	struct emu_insn *insn = d->insn;
	const struct emu_slot *slot;
	uint8_t byte;

	for (;;) {
		if (!take_byte(d, &byte))
			return NULL;
		if (in_64bit(d) && (byte & 0xf0) == 0x40) {
			d->rex = byte;
			continue;
		}
		slot = &emu_map_one[byte];
		if (vc_likely(slot->kind != EMU_SLOT_PREFIX))
			break;
		d->rex = 0; /* a REX that is not the last prefix is ignored */
		apply_prefix(d, slot);
	}
	insn->opcode = byte;
	if (d->rex)
		insn->prefixes |= EMU_P_REX | (d->rex & REX_W ? EMU_P_W : 0);
	if (insn->prefixes & EMU_P_REPNE)
		d->pp = EMU_PP_F2;
	else if (insn->prefixes & EMU_P_REP)
		d->pp = EMU_PP_F3;
	else
		d->pp = insn->prefixes & EMU_P_66 ? EMU_PP_66 : EMU_PP_NONE;
	return slot;
}

/* Behind 0F: the slot in map 1, 2 or 3. */
static int take_0f(struct decoder *d, const struct emu_slot **slot)
{
	static const struct emu_slot vec = {.kind = EMU_SLOT_VEC, .modrm = true};
	struct emu_insn *insn = d->insn;

	if (!take_byte(d, &insn->opcode))
		return EMU_DECODE_MORE;
	insn->map = EMU_MAP_0F;
	*slot = &emu_map_0f[insn->opcode];
	if ((insn->opcode & 0xfd) != 0x38)
		return EMU_DECODE_OK;

	insn->map = insn->opcode == 0x38 ? EMU_MAP_0F38 : EMU_MAP_0F3A;
	if (!take_byte(d, &insn->opcode))
		return EMU_DECODE_MORE;
	*slot = insn->map == EMU_MAP_0F38 ? &emu_map_0f38[insn->opcode] : &vec;
	return EMU_DECODE_OK;
}

/*
 * C4 and C5. Outside 64-bit mode they are LES and LDS unless what follows would be a register ModRM, which those lack;
 * in real and virtual-8086 mode, where VEX is #UD, that is one as well. *slot stays as it is for LES and LDS.
 */
static int take_vex(struct decoder *d, const struct emu_slot **slot)
{
	static const struct emu_slot *const maps[4] = {NULL, emu_map_vex_0f, emu_map_vex_0f38, emu_map_vex_0f3a};
	static const uint16_t pp_prefix[4] = {0, EMU_P_66, EMU_P_REP, EMU_P_REPNE};
	bool three = (*slot)->kind == EMU_SLOT_VEX3;
	struct emu_insn *insn = d->insn;
	uint8_t first, last;

	if (d->next == d->end)
		return EMU_DECODE_MORE;
	if (!in_64bit(d) && (*d->next & 0xc0) != 0xc0)
		return EMU_DECODE_OK;
	if (!in_64bit(d) && !d->mode->protected_mode)
		return EMU_DECODE_UD;
	if (insn->prefixes & (EMU_P_66 | EMU_P_REP | EMU_P_REPNE | EMU_P_LOCK | EMU_P_REX))
		return EMU_DECODE_UD;

	if (!take_byte(d, &first))
		return EMU_DECODE_MORE;
	last = first;
	if (three && !take_byte(d, &last))
		return EMU_DECODE_MORE;
	if (!take_byte(d, &insn->opcode))
		return EMU_DECODE_MORE;

	/* R, X, B and vvvv are stored inverted; W is not, and only the long form has X, B, W and the map. */
	insn->map = three ? first & 31 : EMU_MAP_0F;
	if (insn->map < EMU_MAP_0F || insn->map > EMU_MAP_0F3A)
		return EMU_DECODE_UD;
	d->vvvv = (uint8_t)(~last >> 3) & 15;
	d->pp = last & 3;
	if (in_64bit(d))
		d->rex = (first & 0x80 ? 0 : REX_R) | (three ? ((~first >> 5) & (REX_X | REX_B)) : 0);
	insn->prefixes |=
	    EMU_P_VEX | pp_prefix[d->pp] | (last & 4 ? EMU_P_VEX_L : 0) | (three && last & 0x80 ? EMU_P_W : 0);
	*slot = &maps[insn->map][insn->opcode];
	return EMU_DECODE_OK;
}

/* ---- from slot to row ---- */

static const struct emu_opdesc *vector_row(const struct decoder *d)
{
	const struct emu_insn *insn = d->insn;
	bool w = insn->prefixes & EMU_P_W;

	return emu_vec_lookup(insn->map, insn->opcode, d->pp, insn->prefixes & EMU_P_VEX, w, insn->prefixes & EMU_P_VEX_L,
	                      insn->modrm);
}

static inline bool has_feature(const struct decoder *d, const struct emu_opdesc *desc)
{
	return !d->mode->features || desc->feature == VC_F_NONE || vc_feature_has(d->mode->features, desc->feature);
}

static const struct emu_opdesc *find_row(const struct decoder *d, const struct emu_slot *slot)
{
	const struct emu_insn *insn = d->insn;
	unsigned reg = (insn->modrm >> 3) & 7;
	bool mod3 = insn->modrm >= 0xc0;

	switch ((enum emu_slot_kind)slot->kind) {
	case EMU_SLOT_VEC:
	case EMU_SLOT_VEC_PLAIN:
		return vector_row(d);
	case EMU_SLOT_ROW:
	case EMU_SLOT_VEX2:
	case EMU_SLOT_VEX3:
		return slot->rows;
	case EMU_SLOT_GROUP:
		return &slot->rows[reg];
	case EMU_SLOT_GROUP_MOD:
		return &slot->rows[mod3 * 8 + reg];
	case EMU_SLOT_GROUP_RM:
		return &slot->rows[mod3 ? 8 + (insn->modrm & 63u) : reg];
	case EMU_SLOT_GROUP_PP:
		return &slot->rows[d->pp * 16 + mod3 * 8 + reg];
	case EMU_SLOT_PP:
		return &slot->rows[d->pp];
	case EMU_SLOT_PP_OLD:
		return has_feature(d, &slot->rows[d->pp]) ? &slot->rows[d->pp] : &slot->rows[0];
	case EMU_SLOT_MODE:
		return &slot->rows[in_64bit(d)];
	case EMU_SLOT_NOP90:
		return &slot->rows[d->rex & REX_B ? 2 : !!(insn->prefixes & EMU_P_REP)];
	case EMU_SLOT_X87:
		return emu_x87_lookup(insn->opcode, insn->modrm);
	case EMU_SLOT_PREFIX:
	case EMU_SLOT_0F:
	case EMU_SLOT_UD:
		break;
	}
	return NULL;
}

/* ---- what makes it #UD ---- */

#define RARE_ATTRIBUTES                                                                                           \
	(EMU_A_NO64 | EMU_A_ONLY64 | EMU_A_PROT | EMU_A_NP | EMU_A_VEX | EMU_A_VEX_L0 | EMU_A_VEX_L1 | EMU_A_VEX_W0 | \
	 EMU_A_VEX_W1 | EMU_A_VEX_NOVVVV)

static bool rare_attributes_allow(const struct decoder *d, uint32_t attr)
{
	uint16_t prefixes = d->insn->prefixes;
	bool vex = prefixes & EMU_P_VEX;

	if (attr & (in_64bit(d) ? EMU_A_NO64 : EMU_A_ONLY64))
		return false;
	if (attr & EMU_A_PROT && !d->mode->protected_mode)
		return false;
	if (attr & EMU_A_NP && d->pp != EMU_PP_NONE)
		return false;
	if (attr & EMU_A_VEX && !vex)
		return false;
	return !vex ||
	       !((attr & EMU_A_VEX_L0 && prefixes & EMU_P_VEX_L) || (attr & EMU_A_VEX_L1 && !(prefixes & EMU_P_VEX_L)) ||
	         (attr & EMU_A_VEX_W0 && prefixes & EMU_P_W) || (attr & EMU_A_VEX_W1 && !(prefixes & EMU_P_W)) ||
	         (attr & EMU_A_VEX_NOVVVV && d->vvvv != 0));
}

/* Whether ModRM's form, memory or register, is one that the row has. */
static bool form_allowed(const struct emu_opdesc *desc, bool memory)
{
	switch (desc->enc) {
	case EMU_ENC_M:
	case EMU_ENC_REG_M:
	case EMU_ENC_M_REG:
		return memory;
	case EMU_ENC_VEC:
		return !(desc->vec.roles & (memory ? EMU_V_REG_ONLY : EMU_V_MEM_ONLY));
	default:
		return true;
	}
}

static bool row_allowed(const struct decoder *d, const struct emu_opdesc *desc)
{
	uint16_t prefixes = d->insn->prefixes;

	if (vc_unlikely(desc->attr & RARE_ATTRIBUTES) && !rare_attributes_allow(d, desc->attr))
		return false;
	if (vc_unlikely(!has_feature(d, desc)) && !(desc->attr & EMU_A_FEATURE64 && !in_64bit(d)))
		return false;
	if (vc_unlikely(prefixes & EMU_P_LOCK) && !(desc->attr & EMU_A_LOCK && prefixes & EMU_P_MEM))
		return false;
	return form_allowed(desc, prefixes & EMU_P_MEM);
}

/* Register numbers that exist, for the encodings in which not all of them do. */
static bool special_register_exists(const struct emu_insn *insn)
{
	enum { CRS = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 8 };

	switch (insn->op) {
	case EMU_MOV_FROM_CR:
	case EMU_MOV_TO_CR:
		return CRS >> insn->reg & 1;
	case EMU_MOV_FROM_DR:
	case EMU_MOV_TO_DR:
		return insn->reg < 8;
	case EMU_MOV_FROM_SREG:
		return insn->reg < VC_SEG_COUNT;
	case EMU_MOV_TO_SREG:
		return insn->reg < VC_SEG_COUNT && insn->reg != VC_CS;
	default:
		return true;
	}
}

/* VEX.0F38 90-93: the SIB byte's index is a vector register. */
static inline bool is_gather(const struct emu_insn *insn)
{
	return insn->prefixes & EMU_P_VEX && insn->map == EMU_MAP_0F38 && (insn->opcode & 0xfc) == 0x90;
}

/* Destination, index and mask of a gather must be three registers (SDM vol. 2, VGATHERDPD). */
static bool gather_allowed(struct decoder *d)
{
	struct emu_insn *insn = d->insn;

	insn->index = d->sib_index;
	return insn->index != EMU_REG_NONE && insn->index != insn->reg && insn->index != insn->reg2 &&
	       insn->reg != insn->reg2;
}

/* ---- sizes ---- */

static uint8_t operand_size(const struct decoder *d, const struct emu_opdesc *desc)
{
	uint16_t prefixes = d->insn->prefixes;
	uint32_t attr = desc->attr;
	bool long_mode = in_64bit(d), small = prefixes & EMU_P_66;

	if (attr & EMU_A_BYTE)
		return 1;
	if (vc_unlikely(attr & (EMU_A_WORD | EMU_A_NATIVE)))
		return attr & EMU_A_WORD ? 2 : long_mode ? 8 : 4;
	if (long_mode) {
		if (attr & EMU_A_F64)
			return 8;
		if (prefixes & EMU_P_W)
			return attr & EMU_A_NOW || desc->op == EMU_X87 ? 4 : 8;
		if (attr & EMU_A_D64)
			return small ? 2 : 8;
	}
	if (attr & EMU_A_NO16 || prefixes & EMU_P_VEX || desc->op == EMU_VEC)
		return 4;
	return small != (d->mode->mode == EMU_MODE_16) ? 2 : 4;
}

static uint8_t address_size(const struct decoder *d)
{
	bool other = d->insn->prefixes & EMU_P_67;

	switch (d->mode->mode) {
	case EMU_MODE_64:
		return other ? 4 : 8;
	case EMU_MODE_32:
		return other ? 2 : 4;
	default:
		return other ? 4 : 2;
	}
}

/* ---- operands ---- */

static bool take_displacement(struct decoder *d, unsigned size)
{
	uint64_t value;

	if (!take(d, size, &value))
		return false;
	d->insn->disp = (int32_t)vc_sign_extend(value, size);
	return true;
}

/* 16-bit addressing: SDM vol. 2 table 2-1. */
static bool take_memory16(struct decoder *d)
{
	static const uint8_t bases[8] = {VC_RBX, VC_RBX, VC_RBP, VC_RBP, VC_RSI, VC_RDI, VC_RBP, VC_RBX};
	static const uint8_t indices[4] = {VC_RSI, VC_RDI, VC_RSI, VC_RDI};
	struct emu_insn *insn = d->insn;
	unsigned mod = insn->modrm >> 6, rm = insn->modrm & 7;

	if (mod == 0 && rm == 6)
		return take_displacement(d, 2);
	insn->base = bases[rm];
	if (rm < 4)
		insn->index = indices[rm];
	return mod == 0 || take_displacement(d, mod);
}

/* 32-bit and 64-bit addressing: SDM vol. 2 tables 2-2 and 2-3. */
static bool take_memory(struct decoder *d)
{
	struct emu_insn *insn = d->insn;
	unsigned mod = insn->modrm >> 6, base = insn->modrm & 7;

	if (base == 4) {
		uint8_t sib;

		if (!take_byte(d, &sib))
			return false;
		base = sib & 7;
		d->sib_index = ((sib >> 3) & 7) | (d->rex & REX_X ? 8 : 0);
		insn->scale = sib >> 6;
		if (d->sib_index != 4)
			insn->index = d->sib_index;
	} else if (mod == 0 && base == 5 && in_64bit(d)) {
		insn->base = EMU_REG_RIP;
		return take_displacement(d, 4);
	}
	if (mod == 0 && base == 5)
		return take_displacement(d, 4);
	insn->base = base | (d->rex & REX_B ? 8 : 0);
	return mod == 0 || take_displacement(d, mod == 1 ? 1 : 4);
}

static bool take_memory_operand(struct decoder *d)
{
	struct emu_insn *insn = d->insn;

	if (!(insn->addrsize == 2 ? take_memory16(d) : take_memory(d)))
		return false;
	if (!(insn->prefixes & EMU_P_SEG) && (insn->base == VC_RSP || insn->base == VC_RBP))
		insn->seg = VC_SS;
	return true;
}

static bool take_immediate(struct decoder *d, enum emu_imm kind)
{
	struct emu_insn *insn = d->insn;
	unsigned z = insn->opsize == 2 ? 2 : 4;
	uint64_t second = 0;

	switch (kind) {
	case EMU_IMM_NONE:
		return true;
	case EMU_IMM_8:
		if (!take(d, 1, &insn->imm))
			return false;
		insn->imm = (uint64_t)vc_sign_extend(insn->imm, 1);
		return true;
	case EMU_IMM_U8:
		return take(d, 1, &insn->imm);
	case EMU_IMM_16:
		return take(d, 2, &insn->imm);
	case EMU_IMM_Z:
		if (!take(d, z, &insn->imm))
			return false;
		insn->imm = (uint64_t)vc_sign_extend(insn->imm, z);
		return true;
	case EMU_IMM_V:
		return take(d, insn->opsize, &insn->imm);
	case EMU_IMM_MOFFS:
		return take(d, insn->addrsize, &insn->imm);
	case EMU_IMM_FAR:
		if (!take(d, z, &insn->imm) || !take(d, 2, &second))
			return false;
		break;
	case EMU_IMM_ENTER:
		if (!take(d, 2, &insn->imm) || !take(d, 1, &second))
			return false;
		break;
	case EMU_IMM_8_8:
		if (!take(d, 1, &insn->imm) || !take(d, 1, &second))
			return false;
		break;
	}
	insn->imm2 = (uint16_t)second;
	return true;
}

/* The registers that ModRM, VEX.vvvv or the opcode name. */
static void set_registers(struct decoder *d, const struct emu_opdesc *desc)
{
	struct emu_insn *insn = d->insn;
	bool long_mode = in_64bit(d);

	insn->reg = ((insn->modrm >> 3) & 7) | (d->rex & REX_R ? 8 : 0);
	insn->rm = (insn->modrm & 7) | (d->rex & REX_B ? 8 : 0);
	/* outside 64-bit mode the top bit of VEX.vvvv is ignored */
	insn->reg2 = insn->prefixes & EMU_P_VEX ? d->vvvv & (long_mode ? 15 : 7) : insn->opcode & 15;

	switch (desc->enc) {
	case EMU_ENC_OREG:
	case EMU_ENC_OREG_IMM:
	case EMU_ENC_ACC_OREG:
		insn->reg = (insn->opcode & 7) | (d->rex & REX_B ? 8 : 0);
		break;
	case EMU_ENC_SREG: /* 06 0E 16 1E, 0F A0, 0F A8 */
		insn->reg = (insn->opcode >> 3) & 7;
		break;
	case EMU_ENC_SREG_RM:
	case EMU_ENC_RM_SREG:
		insn->reg &= 7; /* REX.R is ignored */
		break;
	default:
		if (desc->op == EMU_LDS)
			insn->reg2 = insn->opcode == 0xc4 ? VC_ES : insn->opcode == 0xc5 ? VC_DS : insn->opcode & 7;
		break;
	}
}

static int decode_operands(struct decoder *d, const struct emu_opdesc *desc)
{
	struct emu_insn *insn = d->insn;

	insn->opsize = operand_size(d, desc);
	insn->addrsize = address_size(d);
	if (vc_unlikely(desc->op == EMU_CMPXCHG8B && insn->opsize == 8)) {
		desc = &emu_row_cmpxchg16b;
		if (!has_feature(d, desc))
			return EMU_DECODE_UD;
	}
	insn->desc = desc;
	insn->op = desc->op;
	insn->stacksize = desc->attr & EMU_A_STACK ? insn->opsize : 0;
	set_registers(d, desc);
	if (!special_register_exists(insn))
		return EMU_DECODE_UD;
	if (insn->prefixes & EMU_P_MEM && !take_memory_operand(d))
		return EMU_DECODE_MORE;
	if (vc_unlikely(is_gather(insn)) && !gather_allowed(d))
		return EMU_DECODE_UD;
	return take_immediate(d, desc->imm) ? EMU_DECODE_OK : EMU_DECODE_MORE;
}

/* ---- all of it ---- */

static int decode(struct decoder *d)
{
	struct emu_insn *insn = d->insn;
	const struct emu_slot *slot = take_prefixes(d);
	const struct emu_opdesc *desc;
	int status = EMU_DECODE_OK;
	bool modrm;

	if (!slot)
		return EMU_DECODE_MORE;
	if (slot->kind == EMU_SLOT_0F)
		status = take_0f(d, &slot);
	else if (slot->kind == EMU_SLOT_VEX2 || slot->kind == EMU_SLOT_VEX3)
		status = take_vex(d, &slot);
	if (status != EMU_DECODE_OK)
		return status;

	/* MOV CR and DR (0F 20-23) take every ModRM for a register form */
	modrm = slot->modrm || slot->kind == EMU_SLOT_VEC || slot->kind == EMU_SLOT_VEX2 || slot->kind == EMU_SLOT_VEX3;
	insn->modrm = 0xc0;
	if (modrm) {
		if (!take_byte(d, &insn->modrm))
			return EMU_DECODE_MORE;
		insn->prefixes |= EMU_P_MODRM;
		if (insn->modrm < 0xc0 && !(insn->map == EMU_MAP_0F && (insn->opcode & 0xfc) == 0x20))
			insn->prefixes |= EMU_P_MEM;
	}

	desc = find_row(d, slot);
	if (!desc || desc->op == EMU_INVALID || !row_allowed(d, desc))
		return EMU_DECODE_UD;
	return decode_operands(d, desc);
}

int emu_decode(const uint8_t *bytes, unsigned length, const struct emu_decode_mode *mode, struct emu_insn *insn)
{
	struct decoder d = {
	    .next = bytes,
	    .end = bytes + (length < MAX_LENGTH ? length : MAX_LENGTH),
	    .mode = mode,
	    .insn = insn,
	    .sib_index = EMU_REG_NONE,
	};
	int status;

	*insn = (struct emu_insn){.seg = VC_DS, .base = EMU_REG_NONE, .index = EMU_REG_NONE};
	insn->desc = &invalid_row;
	status = decode(&d);
	insn->len = (uint8_t)(d.next - bytes);
	if (status == EMU_DECODE_MORE && length >= MAX_LENGTH)
		status = EMU_DECODE_TOO_LONG;
	if (status != EMU_DECODE_OK) {
		insn->desc = &invalid_row;
		insn->op = EMU_INVALID;
	}
	return status;
}
