/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From a row to bytes: one of its forms, with random registers, prefixes, addressing form, displacement, immediate. */
#include <string.h>

#include "core/util.h"
#include "diff.h"

struct encoder {
	struct diff_rng *rng;
	const struct diff_form *form;
	const struct emu_opdesc *desc;
	struct diff_encoding *e;
	bool long_mode;
	bool plain; /* memory only by an absolute or RIP-relative address, no index either */
	bool small; /* 67 */
	uint8_t modrm;
};

static void put(struct encoder *c, unsigned byte)
{
	if (c->e->length < sizeof c->e->bytes)
		c->e->bytes[c->e->length] = (uint8_t)byte;
	c->e->length++;
}

static const struct diff_form *pick_form(struct diff_rng *rng, const struct diff_row *row)
{
	const struct diff_form *form;

	for (unsigned n = 0; n < 20; n++) {
		form = &row->forms[diff_below(rng, row->count)];
		if (!form->idle_prefix || diff_chance(rng, 5))
			break;
	}
	return form;
}

static bool has_modrm(const struct encoder *c, unsigned modrm)
{
	return c->form->modrm[modrm >> 6] >> (modrm & 63) & 1;
}

/* A ModRM byte of the form: memory and registers alike often, where there are both. */
static bool pick_modrm(struct encoder *c)
{
	bool memory = diff_chance(c->rng, 50);

	for (unsigned n = 0; n < 400; n++) {
		unsigned modrm = diff_below(c->rng, 256);
		if (n < 200 && (modrm < 0xc0) != memory)
			continue;
		if (c->plain && modrm < 0xc0)
			modrm = (modrm & 0x38) | (c->long_mode && diff_chance(c->rng, 50) ? 4 : 5);
		if (has_modrm(c, modrm)) {
			c->modrm = (uint8_t)modrm;
			return true;
		}
	}
	for (unsigned modrm = 0; modrm < 256; modrm++)
		if (has_modrm(c, modrm) && (!c->plain || modrm >= 0xc0)) {
			c->modrm = (uint8_t)modrm;
			return true;
		}
	return false;
}

static void put_prefixes(struct encoder *c)
{
	static const uint8_t segments[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65}, pp_bytes[] = {0, 0x66, 0xf3, 0xf2};
	const struct diff_form *f = c->form;
	bool memory = f->has_modrm && c->modrm < 0xc0;

	/* ARPL that changes nothing does not need a writable segment, on AMD's CPUs at least; the SDM leaves no room for
	 * that */
	if (c->desc->op != EMU_ARPL && diff_chance(c->rng, c->plain ? 0 : 10))
		put(c, segments[diff_below(c->rng, sizeof segments)]);
	c->small = !c->plain && diff_chance(c->rng, 8);
	if (c->small)
		put(c, 0x67);
	if (c->desc->attr & EMU_A_LOCK && memory && diff_chance(c->rng, 35)) {
		put(c, 0xf0);
	} else if (!f->vex && !(c->desc->attr & (EMU_A_LOCK | EMU_A_CPL0)) && !c->plain && diff_chance(c->rng, 1)) {
		put(c, 0xf0);
		c->e->must_fault = true;
	}
	if (f->vex)
		return;
	if (f->pp >= 2 && c->desc->op != EMU_X87 && c->desc->op != EMU_MOVSX && !(c->desc->attr & EMU_A_F64) &&
	    diff_chance(c->rng, c->desc->op == EMU_VEC ? 2 : 25))
		put(c, 0x66);
	if (f->pp)
		put(c, pp_bytes[f->pp]);
}

static void put_vex(struct encoder *c)
{
	const struct diff_form *f = c->form;
	unsigned rxb = c->long_mode ? diff_below(c->rng, 8) | (c->plain ? 2 : 0) : 7,
	         vvvv = diff_below(c->rng, c->long_mode ? 16 : 8);

	if (c->desc->attr & EMU_A_VEX_NOVVVV) {
		vvvv = 0;
		if (!c->plain && diff_chance(c->rng, 1)) {
			vvvv = 5;
			c->e->must_fault = true;
		}
	}
	vvvv = 15 - vvvv;
	if (f->map == 1 && !f->w && (rxb & 3) == 3 && diff_chance(c->rng, 50)) {
		put(c, 0xc5);
		put(c, (rxb & 4) << 5 | vvvv << 3 | f->l << 2 | f->pp);
	} else {
		put(c, 0xc4);
		put(c, rxb << 5 | f->map);
		put(c, f->w << 7 | vvvv << 3 | f->l << 2 | f->pp);
	}
}

static void put_opcode(struct encoder *c)
{
	const struct diff_form *f = c->form;

	if (f->vex) {
		put_vex(c);
	} else {
		if (c->long_mode && (f->w || diff_chance(c->rng, 50)))
			put(c, 0x40 | f->w << 3 | (diff_below(c->rng, 8) & (c->plain ? 5 : 7)));
		if (f->map)
			put(c, 0x0f);
		if (f->map > 1)
			put(c, f->map == 2 ? 0x38 : 0x3a);
	}
	put(c, f->opcode);
}

static void put_memory(struct encoder *c)
{
	unsigned mod = c->modrm >> 6, rm = c->modrm & 7, size = mod == 1 ? 1 : mod == 2 ? 4 : 0;

	if (c->small && !c->long_mode) {
		size = mod == 1 ? 1 : mod == 2 || rm == 6 ? 2 : 0;
	} else if (rm == 4) {
		unsigned sib = c->plain ? 0x25 : diff_below(c->rng, 256);
		put(c, sib);
		if (mod == 0 && (sib & 7) == 5)
			size = 4;
	} else if (mod == 0 && rm == 5) {
		size = 4;
	}
	c->e->disp_at = c->e->length;
	c->e->disp_size = size;
	for (unsigned n = 0, disp = (unsigned)diff_random(c->rng); n < size; n++)
		put(c, disp >> 8 * n);
}

/* What processors of Intel and AMD do not do alike. */
static bool vendor_specific(const struct encoder *c)
{
	const struct diff_form *f = c->form;

	/* AMD lets a REP prefix decide what LOOPE and LOOPNE wait for */
	if (f->idle_prefix && (c->desc->op == EMU_LOOPE || c->desc->op == EMU_LOOPNE))
		return true;
	/* outside 64-bit mode: AMD has #UD for VEX.W where Intel ignores it, and #GP for SYSRET where Intel has #UD */
	if (!c->long_mode)
		return c->desc->op == EMU_SYSRET || (f->vex && f->w && f->map == 3 && (f->opcode == 0x16 || f->opcode == 0x22));
	/* near branches: AMD heeds 66 and truncates RIP to 16 bits, Intel ignores it */
	if (f->pp == 1 && c->desc->attr & EMU_A_F64 && c->desc->attr & EMU_A_END)
		return true;
	/* MOVSXD r16: AMD reads a doubleword, Intel a word */
	if (f->pp == 1 && !f->vex && !f->map && f->opcode == 0x63)
		return true;
	/* far pointers of 64 bits: AMD has none and ignores REX.W */
	return f->w && (c->desc->op == EMU_JMP_FAR_IND || c->desc->op == EMU_CALL_FAR_IND || c->desc->op == EMU_LDS);
}

bool diff_encode(struct diff_rng *rng, const struct diff_rows *rows, const struct diff_row *row, bool plain,
                 struct diff_encoding *e)
{
	struct encoder c = {.rng = rng,
	                    .form = pick_form(rng, row),
	                    .desc = row->desc,
	                    .e = e,
	                    .long_mode = rows->mode == EMU_MODE_64,
	                    .plain = plain};
	uint64_t imm = diff_edge(rng), more = diff_random(rng);

	*e = (struct diff_encoding){0};
	if ((c.form->has_modrm && !pick_modrm(&c)) || vendor_specific(&c))
		return false;
	put_prefixes(&c);
	put_opcode(&c);
	if (c.form->has_modrm) {
		put(&c, c.modrm);
		if (c.modrm < 0xc0)
			put_memory(&c);
	}
	e->imm_at = e->length;
	/* more than any immediate takes: the decoder says how many are used */
	for (unsigned n = 0; n < 10 && e->length < sizeof e->bytes; n++)
		put(&c, (unsigned)(n < 8 ? imm >> 8 * n : more >> 8 * (n - 8)));
	return e->length <= sizeof e->bytes;
}
