/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Debug registers (SDM vol. 3, 17.2). */
#include "backend/emu/system.h"

#define DR7_ONES 0x400u
#define DR7_BITS 0xffff23ffu /* that can be written; RTM is not there */
#define DR6_BITS 0xe00fu

/* Which register an instruction's number means; raises what an access raises before it. */
static unsigned debug_register(struct emu_vcpu *c, unsigned number)
{
	if (number > 7)
		emu_raise(c, VC_UD);
	if (number == 4 || number == 5) {
		if (c->s.cr4 & VC_CR4_DE)
			emu_raise(c, VC_UD);
		number += 2;
	}
	emu_require_cpl0(c);
	if (c->s.dr7 & EMU_DR7_GD)
		emu_raise_debug(c, EMU_DR6_BD, false);
	return number;
}

enum emu_next emu_sys_mov_from_dr(struct emu_vcpu *c, const struct emu_insn *i)
{
	unsigned n = debug_register(c, i->reg);
	uint64_t value = n < 4 ? c->s.dr[n] : n == 6 ? c->s.dr6 : c->s.dr7;

	c->s.gpr[i->rm] = c->mode == EMU_MODE_64 ? value : (uint32_t)value;
	return EMU_NEXT;
}

enum emu_next emu_sys_mov_to_dr(struct emu_vcpu *c, const struct emu_insn *i)
{
	unsigned n = debug_register(c, i->reg);
	uint64_t value = c->s.gpr[i->rm];

	if (c->mode != EMU_MODE_64)
		value = (uint32_t)value;
	if (n >= 6 && value >> 32)
		emu_raise_error(c, VC_GP, 0);
	if (n == 6) {
		c->s.dr6 = (value & DR6_BITS) | EMU_DR6_FIXED_ONES;
		return EMU_NEXT;
	}
	if (n == 7)
		c->s.dr7 = (value & DR7_BITS) | DR7_ONES;
	else
		c->s.dr[n] = value;
	emu_debug_changed(c);
	return EMU_NEXT;
}
