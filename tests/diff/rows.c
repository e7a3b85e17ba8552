/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The rows of the decoder's tables, found by asking the decoder: every opcode of every map, with every prefix that
 * selects a row and every ModRM byte, is decoded, and what row it gives is noted.
 */
#include <stdlib.h>
#include <string.h>

#include "core/util.h"
#include "diff.h"

static void *grown(void *array, unsigned count, unsigned *capacity, size_t size)
{
	if (count < *capacity)
		return array;
	*capacity = *capacity ? *capacity * 2 : 8;
	array = realloc(array, *capacity * size);
	if (!array)
		abort();
	return array;
}

/* Instructions that cannot be run in a test program's ring 3, or whose outcome is not the instruction's own. */
static const char *excluded(const struct emu_opdesc *desc)
{
	switch (desc->op) {
	case EMU_SYSCALL:
	case EMU_SYSENTER:
		return "enters the host's kernel";
	case EMU_SYSEXIT:
		return "AMD: #UD in long mode, Intel: #GP";
	case EMU_VMCALL:
	case EMU_VMMCALL:
		return "asks the hypervisor below the host";
	case EMU_RDPMC:
		return "allowed or not by the host's CR4.PCE";
	case EMU_XGETBV:
		return "shows the host's XCR0";
	case EMU_SGDT:
	case EMU_SIDT:
	case EMU_SLDT:
	case EMU_STR:
	case EMU_SMSW:
		return "shows the host's tables, or UMIP makes it #GP";
	default:
		return NULL;
	}
}

/* Whether sequences may contain it: no fixed operands in memory, no control transfer, a defined result. */
static bool is_simple(const struct emu_opdesc *desc)
{
	static const uint16_t ops[] = {
	    EMU_ADD,   EMU_OR,     EMU_ADC,    EMU_SBB,   EMU_AND,    EMU_SUB,  EMU_XOR,  EMU_CMP,  EMU_TEST,
	    EMU_MOV,   EMU_LEA,    EMU_XCHG,   EMU_INC,   EMU_DEC,    EMU_NEG,  EMU_NOT,  EMU_MUL,  EMU_IMUL1,
	    EMU_IMUL2, EMU_IMUL3,  EMU_ROL,    EMU_ROR,   EMU_RCL,    EMU_RCR,  EMU_SHL,  EMU_SHR,  EMU_SAR,
	    EMU_TZCNT, EMU_LZCNT,  EMU_POPCNT, EMU_MOVZX, EMU_MOVSX,  EMU_CBW,  EMU_CWD,  EMU_XADD, EMU_CMPXCHG,
	    EMU_SETCC, EMU_CMOVCC, EMU_LAHF,   EMU_SAHF,  EMU_CLC,    EMU_STC,  EMU_CMC,  EMU_NOP,  EMU_MOVBE,
	    EMU_CRC32, EMU_ANDN,   EMU_BEXTR,  EMU_BLSI,  EMU_BLSMSK, EMU_BLSR, EMU_BZHI, EMU_MULX, EMU_PDEP,
	    EMU_PEXT,  EMU_RORX,   EMU_SARX,   EMU_SHLX,  EMU_SHRX,   EMU_ADCX, EMU_ADOX, EMU_JCC,
	};

	if (desc->op == EMU_VEC)
		return !(desc->vec.roles & EMU_V_SPECIAL);
	if (desc->enc == EMU_ENC_ACC_MOFFS || desc->enc == EMU_ENC_MOFFS_ACC)
		return false;
	for (size_t n = 0; n < VC_ARRAY_SIZE(ops); n++)
		if (desc->op == ops[n])
			return true;
	return false;
}

static struct diff_row *row_of(struct diff_rows *rows, const struct emu_opdesc *desc)
{
	for (unsigned n = rows->count; n-- > 0;)
		if (rows->rows[n].desc == desc)
			return &rows->rows[n];
	rows->rows = grown(rows->rows, rows->count, &rows->capacity, sizeof *rows->rows);
	rows->rows[rows->count] = (struct diff_row){.desc = desc, .excluded = excluded(desc)};
	return &rows->rows[rows->count++];
}

static bool same_form(const struct diff_form *a, const struct diff_form *b)
{
	return a->map == b->map && a->opcode == b->opcode && a->pp == b->pp && a->vex == b->vex && a->w == b->w &&
	       a->l == b->l;
}

static void note(struct diff_rows *rows, const struct emu_opdesc *desc, const struct diff_form *form, uint8_t modrm)
{
	struct diff_row *row = row_of(rows, desc);
	struct diff_form *f = row->count ? &row->forms[row->count - 1] : NULL;

	if (!f || !same_form(f, form)) {
		row->forms = grown(row->forms, row->count, &row->capacity, sizeof *row->forms);
		f = &row->forms[row->count++];
		*f = *form;
	}
	f->modrm[modrm >> 6] |= 1ull << (modrm & 63);
}

/* The bytes of a form; registers of VEX.vvvv and the SIB byte differ from each other and from reg, as gathers need. */
static unsigned form_bytes(const struct diff_form *f, uint8_t mode, uint8_t modrm, bool vvvv, uint8_t *out)
{
	static const uint8_t pp_bytes[4] = {0, 0x66, 0xf3, 0xf2};
	unsigned n = 0, reg = modrm >> 3 & 7;

	if (f->vex) {
		out[n++] = 0xc4;
		out[n++] = 0xe0 | f->map;
		out[n++] = (uint8_t)(f->w << 7 | (vvvv ? 15 - ((reg + 2) & 7) : 15) << 3 | f->l << 2 | f->pp);
	} else {
		if (f->pp)
			out[n++] = pp_bytes[f->pp];
		if (f->w)
			out[n++] = 0x48;
		if (f->map)
			out[n++] = 0x0f;
		if (f->map > 1)
			out[n++] = f->map == 2 ? 0x38 : 0x3a;
	}
	out[n++] = f->opcode;
	out[n++] = modrm;
	out[n++] = (uint8_t)(((reg + 1) & 7) << 3);
	memset(out + n, 0, 15 - n);
	return 15;
}

static void try_form(struct diff_rows *rows, const struct emu_decode_mode *mode, struct diff_form *f)
{
	struct emu_insn insn;
	uint8_t bytes[16];

	for (unsigned modrm = 0; modrm < 256; modrm++) {
		for (int vvvv = 0; vvvv < 2; vvvv++) {
			unsigned length = form_bytes(f, mode->mode, (uint8_t)modrm, vvvv, bytes);
			if (emu_decode(bytes, length, mode, &insn) == EMU_DECODE_OK || !f->vex)
				break;
		}
		if (insn.op == EMU_INVALID || insn.opcode != f->opcode || insn.map != f->map ||
		    !!(insn.prefixes & EMU_P_VEX) != f->vex)
			continue;
		f->has_modrm = insn.prefixes & EMU_P_MODRM;
		f->idle_prefix = !f->vex && f->pp >= 2 && insn.op != EMU_VEC && !(insn.desc->attr & EMU_A_REP);
		note(rows, insn.desc, f, f->has_modrm ? (uint8_t)modrm : 0);
		if (!f->has_modrm)
			break;
	}
}

static bool has_row(const struct diff_rows *rows, const struct emu_opdesc *desc)
{
	for (unsigned n = 0; n < rows->count; n++)
		if (rows->rows[n].desc == desc)
			return true;
	return false;
}

void diff_rows_find(struct diff_rows *rows, uint8_t mode, const struct vc_feature_set *features,
                    const struct diff_rows *other)
{
	const struct emu_decode_mode m = {.mode = mode, .protected_mode = true, .features = features};

	*rows = (struct diff_rows){.mode = mode, .features = features};
	for (unsigned vex = 0; vex < 2; vex++)
		for (unsigned map = vex; map < 4; map++)
			for (unsigned opcode = 0; opcode < 256; opcode++)
				for (unsigned pp = 0; pp < 4; pp++)
					for (unsigned w = 0; w < (vex || mode == EMU_MODE_64 ? 2 : 1); w++)
						for (unsigned l = 0; l <= vex; l++)
							try_form(rows, &m,
							         &(struct diff_form){.map = (uint8_t)map,
							                             .opcode = (uint8_t)opcode,
							                             .pp = (uint8_t)pp,
							                             .vex = vex,
							                             .w = w,
							                             .l = l});
	for (unsigned n = 0; n < rows->count; n++) {
		const struct diff_row *row = &rows->rows[n];

		if (row->desc->op == EMU_NOP && row->forms[0].map == 1 && row->forms[0].opcode == 0x0d)
			rows->rows[n].excluded = "PREFETCH with a register: a NOP of Intel's, #UD of AMD's";
		if (row->excluded)
			continue;
		rows->runnable[rows->runnable_count++] = n;
		if (is_simple(rows->rows[n].desc))
			rows->simple[rows->simple_count++] = n;
		if (other && !has_row(other, rows->rows[n].desc))
			rows->preferred[rows->preferred_count++] = n;
	}
}

void diff_rows_free(struct diff_rows *rows)
{
	for (unsigned n = 0; n < rows->count; n++)
		free(rows->rows[n].forms);
	free(rows->rows);
}
