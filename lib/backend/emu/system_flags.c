/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* RFLAGS and software interrupts: INT, PUSHF, POPF, CLI, STI, with the rules of IOPL, VME and PVI (SDM vol.
 * 3, 20.3-20.4). */
#include "backend/emu/system.h"

/* ---- software interrupts ---- */

/* Raised, not delivered, so that a debugger may take it: s.rip stays at the instruction. */
static void raise_soft(struct emu_vcpu *c, const struct emu_insn *i, enum vc_vector vector, bool soft)
    __attribute__((noreturn));
static void raise_soft(struct emu_vcpu *c, const struct emu_insn *i, enum vc_vector vector, bool soft)
{
	c->exc = (struct emu_exception){.vector = (uint8_t)vector, .soft = soft, .len = i->len};
	longjmp(*c->unwind, EMU_UNWIND_EXCEPTION);
}

enum emu_next emu_sys_int3(struct emu_vcpu *c, const struct emu_insn *i)
{
	raise_soft(c, i, VC_BP, true);
}

/* Not subject to the gate's DPL. */
enum emu_next emu_sys_int1(struct emu_vcpu *c, const struct emu_insn *i)
{
	raise_soft(c, i, VC_DB, false);
}

enum emu_next emu_sys_into(struct emu_vcpu *c, const struct emu_insn *i)
{
	if (c->aflags & VC_FLAG_OF)
		raise_soft(c, i, VC_OF, true);
	return EMU_NEXT;
}

/* Whether the TSS sends this INT n of a virtual-8086 task to the task's own table. */
static bool redirected(struct emu_vcpu *c, uint8_t vector)
{
	uint32_t at;

	if (c->s.tr.limit < 0x67)
		emu_raise_error(c, VC_GP, 0);
	/* The map is the 32 bytes below the I/O map. */
	at = (uint32_t)emu_ld_system(c, c->s.tr.base + 0x66, 2) - 32 + vector / 8;
	if (at > c->s.tr.limit)
		emu_raise_error(c, VC_GP, 0);
	return !(emu_ld_system(c, c->s.tr.base + at, 1) >> vector % 8 & 1);
}

enum emu_next emu_sys_int_n(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct emu_event e = {.vector = (uint8_t)i->imm,
	                      .soft = true,
	                      .rip = emu_next_rip(c, i),
	                      .rflags = emu_rflags(c) & ~(uint64_t)VC_FLAG_RF};

	if (emu_virtual_8086(c)) {
		bool iopl3 = emu_iopl(c) == 3;

		if (c->s.cr4 & VC_CR4_VME && redirected(c, e.vector)) {
			if (!iopl3)
				e.rflags =
				    (e.rflags & ~(uint64_t)VC_FLAG_IF) | VC_FLAG_IOPL | (e.rflags & VC_FLAG_VIF ? VC_FLAG_IF : 0);
			emu_deliver_ivt(c, 0, &e, VC_FLAG_TF | (iopl3 ? VC_FLAG_IF : VC_FLAG_VIF));
			return EMU_JUMP;
		}
		if (!iopl3)
			emu_raise_error(c, VC_GP, 0);
	}
	emu_deliver(c, &e);
	return EMU_JUMP;
}

enum emu_next emu_sys_bound(struct emu_vcpu *c, const struct emu_insn *i)
{
	unsigned size = i->opsize;
	uint64_t low = emu_load_operand(c, i, 0, size), high = emu_load_operand(c, i, size, size), index = c->s.gpr[i->reg];
	bool out = size == 2 ? (int16_t)index < (int16_t)low || (int16_t)index > (int16_t)high
	                     : (int32_t)index < (int32_t)low || (int32_t)index > (int32_t)high;

	if (out)
		emu_raise(c, VC_BR);
	return EMU_NEXT;
}

/* ---- PUSHF, POPF ---- */

enum emu_next emu_sys_pushf(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint64_t flags = emu_rflags(c) & ~(uint64_t)(VC_FLAG_VM | VC_FLAG_RF);

	if (emu_virtual_8086(c) && emu_iopl(c) < 3) {
		if (!(c->s.cr4 & VC_CR4_VME) || i->stacksize != 2)
			emu_raise_error(c, VC_GP, 0);
		flags = (flags & ~(uint64_t)VC_FLAG_IF) | VC_FLAG_IOPL | (flags & VC_FLAG_VIF ? VC_FLAG_IF : 0);
	}
	emu_push(c, i->stacksize, flags);
	return EMU_NEXT;
}

enum emu_next emu_sys_popf(struct emu_vcpu *c, const struct emu_insn *i)
{
	struct emu_stack st = emu_stack_current(c);
	uint64_t old = emu_rflags(c), mask = VC_FLAGS_ARITH | VC_FLAG_TF | VC_FLAG_DF | VC_FLAG_NT, image;
	bool vme = emu_virtual_8086(c) && emu_iopl(c) < 3;

	if (vme && (!(c->s.cr4 & VC_CR4_VME) || i->stacksize != 2))
		emu_raise_error(c, VC_GP, 0);
	image = emu_stack_pop(c, &st, i->stacksize);
	if (vme) {
		emu_check_vme_flags(c, (uint16_t)image);
		emu_stack_commit(c, &st);
		emu_set_vme_flags(c, (uint16_t)image);
		return EMU_NEXT;
	}
	if (i->stacksize > 2)
		mask |= VC_FLAG_AC | VC_FLAG_ID;
	if (!c->cpl)
		mask |= VC_FLAG_IOPL;
	if (c->cpl <= emu_iopl(c))
		mask |= VC_FLAG_IF;
	emu_stack_commit(c, &st);
	emu_set_rflags(c, (image & mask) | (old & ~mask & ~(uint64_t)VC_FLAG_RF));
	emu_flags_popped(c, old);
	return EMU_NEXT;
}

/* ---- IF, AC ---- */

/* Below IOPL: whether IF is virtual here. */
static bool has_virtual_if(const struct emu_vcpu *c)
{
	if (emu_virtual_8086(c))
		return c->s.cr4 & VC_CR4_VME;
	return c->cpl == 3 && c->s.cr4 & VC_CR4_PVI;
}

enum emu_next emu_sys_cli(struct emu_vcpu *c, const struct emu_insn *i)
{
	if (vc_likely(c->cpl <= emu_iopl(c))) {
		c->s.rflags &= ~(uint64_t)VC_FLAG_IF;
		c->s.shadow_sti = 0;
	} else if (has_virtual_if(c)) {
		c->s.rflags &= ~(uint64_t)VC_FLAG_VIF;
	} else {
		emu_raise_error(c, VC_GP, 0);
	}
	return EMU_NEXT;
}

enum emu_next emu_sys_sti(struct emu_vcpu *c, const struct emu_insn *i)
{
	if (vc_likely(c->cpl <= emu_iopl(c))) {
		if (c->s.rflags & VC_FLAG_IF)
			return EMU_NEXT;
		c->s.rflags |= VC_FLAG_IF;
		/* Where nothing waits, the shadow may outlast its instruction: it would delay a later interrupt by one more. */
		c->s.shadow_sti = 1;
		if (c->interrupt_waiting)
			c->attention = true;
	} else {
		if (!has_virtual_if(c) || c->s.rflags & VC_FLAG_VIP)
			emu_raise_error(c, VC_GP, 0);
		c->s.rflags |= VC_FLAG_VIF;
	}
	return EMU_NEXT;
}

static enum emu_next set_ac(struct emu_vcpu *c, uint64_t ac)
{
	if (c->cpl)
		emu_raise(c, VC_UD);
	if ((c->s.rflags & VC_FLAG_AC) != ac) {
		c->s.rflags ^= VC_FLAG_AC;
		emu_mode_changed(c);
	}
	return EMU_NEXT;
}

enum emu_next emu_sys_clac(struct emu_vcpu *c, const struct emu_insn *i)
{
	return set_ac(c, 0);
}

enum emu_next emu_sys_stac(struct emu_vcpu *c, const struct emu_insn *i)
{
	return set_ac(c, VC_FLAG_AC);
}
