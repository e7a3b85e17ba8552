/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* x87 control instructions, and the environment in memory: SDM vol. 1, 8.1.10 and figures 8-9 to 8-12. */
#include "backend/emu/decode/x87_rows.h"
#include "backend/emu/interp/vec.h"

enum { TAG_VALID = 0, TAG_ZERO = 1, TAG_SPECIAL = 2, TAG_EMPTY = 3 };

static unsigned tag_of(const uint8_t st[16])
{
	uint64_t mantissa = vc_ld64(st);
	unsigned exponent = vc_ld16(st + 8) & 0x7fff;

	if (exponent == 0 && mantissa == 0)
		return TAG_ZERO;
	/* infinity, NaN, denormal, or no leading one */
	return exponent == 0x7fff || exponent == 0 || !(mantissa >> 63) ? TAG_SPECIAL : TAG_VALID;
}

uint16_t emu_x87_tags(const struct vc_xsave *x)
{
	unsigned top = emu_x87_top(x), tags = 0;

	for (unsigned n = 0; n < 8; n++)
		tags |= (x->ftw >> n & 1 ? tag_of(x->st[(n - top) & 7]) : TAG_EMPTY) << (2 * n);
	return (uint16_t)tags;
}

void emu_x87_set_tags(struct vc_xsave *x, uint16_t tags)
{
	x->ftw = 0;
	for (unsigned n = 0; n < 8; n++)
		if ((tags >> (2 * n) & 3) != TAG_EMPTY)
			x->ftw |= (uint8_t)(1u << n);
}

void emu_x87_init(struct vc_xsave *x)
{
	emu_x87_set_top(x, 0);
	x->fcw = FCW_DEFAULT;
	x->fsw = 0;
	x->ftw = 0;
	x->fop = 0;
	x->fip = x->fdp = 0;
}

/* ---- the environment ---- */

/* Offsets and parts by operand size; in real and virtual-8086 mode pointers are linear and share words with FOP. */
static unsigned environment_size(const struct emu_insn *i)
{
	return i->opsize == 2 ? 14 : 28;
}

/* Its words are aligned by the operand size (SDM vol. 3, table 6-7). */
static uint64_t environment_linear(struct emu_vcpu *c, const struct emu_insn *i, unsigned size,
                                   enum vcore_access access)
{
	uint64_t linear = emu_vec_linear(c, i, size, access);

	emu_check_alignment(c, linear, i->opsize == 2 ? 2 : 4);
	return linear;
}

static void put_environment32(const struct emu_vcpu *c, uint8_t *p)
{
	const struct vc_xsave *x = &c->s.xsave;

	/* the upper halves of the first three and of the last are reserved: ones, as processors store them */
	vc_st32(p, 0xffff0000u | x->fcw);
	vc_st32(p + 4, 0xffff0000u | x->fsw);
	vc_st32(p + 8, 0xffff0000u | emu_x87_tags(x));
	if (c->protected_mode) {
		vc_st32(p + 12, (uint32_t)x->fip);
		vc_st32(p + 16, (uint32_t)(x->fop & 0x7ff) << 16);
		vc_st32(p + 20, (uint32_t)x->fdp);
		vc_st32(p + 24, 0xffff0000u);
		return;
	}
	vc_st32(p + 12, 0xffff0000u | (uint16_t)x->fip);
	vc_st32(p + 16, (uint32_t)((x->fip >> 16 & 0xffff) << 12) | (x->fop & 0x7ff));
	vc_st32(p + 20, 0xffff0000u | (uint16_t)x->fdp);
	vc_st32(p + 24, (uint32_t)((x->fdp >> 16 & 0xffff) << 12));
}

static void put_environment16(const struct emu_vcpu *c, uint8_t *p)
{
	const struct vc_xsave *x = &c->s.xsave;

	vc_st16(p, x->fcw);
	vc_st16(p + 2, x->fsw);
	vc_st16(p + 4, emu_x87_tags(x));
	vc_st16(p + 6, (uint16_t)x->fip);
	vc_st16(p + 10, (uint16_t)x->fdp);
	if (c->protected_mode) {
		vc_st16(p + 8, 0);
		vc_st16(p + 12, 0);
		return;
	}
	vc_st16(p + 8, (uint16_t)((x->fip >> 16 & 0xf) << 12) | (x->fop & 0x7ff));
	vc_st16(p + 12, (uint16_t)((x->fdp >> 16 & 0xf) << 12));
}

static void put_environment(const struct emu_vcpu *c, const struct emu_insn *i, uint8_t *p)
{
	if (i->opsize == 2)
		put_environment16(c, p);
	else
		put_environment32(c, p);
}

static void get_pointers32(struct emu_vcpu *c, const uint8_t *p)
{
	struct vc_xsave *x = &c->s.xsave;

	if (c->protected_mode) {
		x->fip = vc_ld32(p + 12);
		x->fop = vc_ld16(p + 18) & 0x7ff;
		x->fdp = vc_ld32(p + 20);
		return;
	}
	x->fip = vc_ld16(p + 12) | (vc_ld32(p + 16) >> 12 & 0xffff) << 16;
	x->fop = vc_ld16(p + 16) & 0x7ff;
	x->fdp = vc_ld16(p + 20) | (vc_ld32(p + 24) >> 12 & 0xffff) << 16;
}

static void get_pointers16(struct emu_vcpu *c, const uint8_t *p)
{
	struct vc_xsave *x = &c->s.xsave;

	x->fip = vc_ld16(p + 6);
	x->fdp = vc_ld16(p + 10);
	x->fop = 0;
	if (c->protected_mode)
		return;
	x->fip |= (uint32_t)(vc_ld16(p + 8) >> 12) << 16;
	x->fop = vc_ld16(p + 8) & 0x7ff;
	x->fdp |= (uint32_t)(vc_ld16(p + 12) >> 12) << 16;
}

static void get_environment(struct emu_vcpu *c, const struct emu_insn *i, const uint8_t *p)
{
	struct vc_xsave *x = &c->s.xsave;
	unsigned unit = i->opsize == 2 ? 2 : 4;
	uint16_t sw = vc_ld16(p + unit);

	emu_x87_set_top(x, sw >> 11 & 7);
	x->fcw = emu_x87_cw(vc_ld16(p));
	x->fsw = sw;
	emu_x87_set_tags(x, vc_ld16(p + 2 * unit));
	if (i->opsize == 2)
		get_pointers16(c, p);
	else
		get_pointers32(c, p);
	emu_x87_summarize(x);
}

/* ---- instructions ---- */

/* For those that do not wait. */
static void check_present(struct emu_vcpu *c)
{
	if (c->s.cr0 & (VC_CR0_EM | VC_CR0_TS))
		emu_raise(c, VC_NM);
}

static enum emu_next fldcw(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_x87_check(c);
	c->s.xsave.fcw = emu_x87_cw(emu_ld16(c, emu_vec_linear(c, i, 2, VCORE_ACCESS_READ)));
	emu_x87_summarize(&c->s.xsave);
	return EMU_NEXT;
}

static enum emu_next fldenv(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint8_t buffer[28];
	unsigned size = environment_size(i);

	emu_x87_check(c);
	emu_ld_bytes(c, environment_linear(c, i, size, VCORE_ACCESS_READ), buffer, size);
	get_environment(c, i, buffer);
	return EMU_NEXT;
}

static enum emu_next frstor(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint8_t buffer[28 + 80];
	unsigned size = environment_size(i);

	emu_x87_check(c);
	emu_ld_bytes(c, environment_linear(c, i, size + 80, VCORE_ACCESS_READ), buffer, size + 80);
	get_environment(c, i, buffer);
	for (unsigned n = 0; n < 8; n++)
		memcpy(c->s.xsave.st[n], buffer + size + 10 * n, 10);
	return EMU_NEXT;
}

static enum emu_next fnstcw(struct emu_vcpu *c, const struct emu_insn *i)
{
	check_present(c);
	emu_st16(c, emu_vec_linear(c, i, 2, VCORE_ACCESS_WRITE), c->s.xsave.fcw);
	return EMU_NEXT;
}

static enum emu_next fnstsw(struct emu_vcpu *c, const struct emu_insn *i)
{
	check_present(c);
	emu_st16(c, emu_vec_linear(c, i, 2, VCORE_ACCESS_WRITE), c->s.xsave.fsw);
	return EMU_NEXT;
}

static enum emu_next fnstsw_ax(struct emu_vcpu *c, const struct emu_insn *i)
{
	check_present(c);
	c->s.gpr[VC_RAX] = (c->s.gpr[VC_RAX] & ~0xffffull) | c->s.xsave.fsw;
	return EMU_NEXT;
}

/* FNSTENV masks all exceptions afterwards. */
static enum emu_next fnstenv(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint8_t buffer[28];
	unsigned size = environment_size(i);

	check_present(c);
	put_environment(c, i, buffer);
	emu_st_bytes(c, environment_linear(c, i, size, VCORE_ACCESS_WRITE), buffer, size);
	c->s.xsave.fcw |= FSW_FLAGS;
	emu_x87_summarize(&c->s.xsave);
	return EMU_NEXT;
}

static enum emu_next fnsave(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint8_t buffer[28 + 80];
	unsigned size = environment_size(i);

	check_present(c);
	put_environment(c, i, buffer);
	for (unsigned n = 0; n < 8; n++)
		memcpy(buffer + size + 10 * n, c->s.xsave.st[n], 10);
	emu_st_bytes(c, environment_linear(c, i, size + 80, VCORE_ACCESS_WRITE), buffer, size + 80);
	emu_x87_init(&c->s.xsave);
	return EMU_NEXT;
}

/* FNENI, FNDISI, FNSETPM */
static enum emu_next ignored(struct emu_vcpu *c, const struct emu_insn *i)
{
	check_present(c);
	return EMU_NEXT;
}

static enum emu_next fnclex(struct emu_vcpu *c, const struct emu_insn *i)
{
	check_present(c);
	c->s.xsave.fsw &= FSW_CC | FSW_TOP;
	return EMU_NEXT;
}

static enum emu_next fninit(struct emu_vcpu *c, const struct emu_insn *i)
{
	check_present(c);
	emu_x87_init(&c->s.xsave);
	return EMU_NEXT;
}

emu_system_fn emu_x87_control_handler(const struct emu_insn *i)
{
	static const emu_system_fn handlers[EMU_X87_CLASSES] = {
	    [EMU_X87_LDCW] = fldcw,  [EMU_X87_LDENV] = fldenv,      [EMU_X87_RSTOR] = frstor,    [EMU_X87_STCW] = fnstcw,
	    [EMU_X87_STSW] = fnstsw, [EMU_X87_STSW_AX] = fnstsw_ax, [EMU_X87_STENV] = fnstenv,   [EMU_X87_SAVE] = fnsave,
	    [EMU_X87_CLEX] = fnclex, [EMU_X87_INIT] = fninit,       [EMU_X87_IGNORED] = ignored,
	};

	return handlers[i->desc->vec.reg_file];
}
