/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From an opcode to its row in the tables of vector instructions. */
#include "backend/emu/decode/vec_rows.h"

static bool row_matches(const struct emu_vec_row *row, unsigned pp, bool vex, bool vex_w, bool vex_l, uint8_t modrm)
{
	uint32_t attr = row->desc.attr;
	uint16_t roles = row->desc.vec.roles;
	bool memory = modrm < 0xc0;

	if (row->pp != pp || !!(attr & EMU_A_VEX) != vex)
		return false;
	if (row->digit != EMU_NO_DIGIT && row->digit != (modrm >> 3 & 7))
		return false;
	if (roles & (memory ? EMU_V_REG_ONLY : EMU_V_MEM_ONLY))
		return false;
	if (attr & (vex_w ? EMU_A_VEX_W0 : EMU_A_VEX_W1))
		return false;
	return !(attr & (vex_l ? EMU_A_VEX_L0 : EMU_A_VEX_L1));
}

/* The first row of the opcode, or count. */
static unsigned first_row(const struct emu_vec_row *rows, unsigned count, uint8_t opcode)
{
	unsigned low = 0, high = count;

	while (low < high) {
		unsigned middle = (low + high) / 2;
		if (rows[middle].opcode < opcode)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct emu_opdesc *emu_vec_lookup(unsigned map, uint8_t opcode, unsigned pp, bool vex, bool vex_w, bool vex_l,
                                        uint8_t modrm)
{
	static const struct emu_vec_row *const maps[] = {
	    [EMU_MAP_0F] = emu_vec_rows_0f, [EMU_MAP_0F38] = emu_vec_rows_0f38, [EMU_MAP_0F3A] = emu_vec_rows_0f3a};
	const unsigned counts[] = {[EMU_MAP_0F] = emu_vec_rows_0f_count,
	                           [EMU_MAP_0F38] = emu_vec_rows_0f38_count,
	                           [EMU_MAP_0F3A] = emu_vec_rows_0f3a_count};

	if (map < EMU_MAP_0F || map > EMU_MAP_0F3A)
		return NULL;
	const struct emu_vec_row *rows = maps[map];
	for (unsigned n = first_row(rows, counts[map], opcode); n < counts[map] && rows[n].opcode == opcode; n++)
		if (row_matches(&rows[n], pp, vex, vex_w, vex_l, modrm))
			return &rows[n].desc;
	return NULL;
}
