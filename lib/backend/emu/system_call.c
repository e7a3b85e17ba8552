/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SYSCALL, SYSRET, SYSENTER, SYSEXIT: flat segments without a look at any descriptor. */
#include "backend/emu/system.h"

/* Attributes of the segments they load: present, accessed, 4 GiB; code is readable, data writable. */
#define CODE32 (uint16_t)(0x9b | VC_SEG_DB | VC_SEG_G)
#define CODE64 (uint16_t)(0x9b | VC_SEG_L | VC_SEG_G)
#define DATA   (uint16_t)(0x93 | VC_SEG_DB | VC_SEG_G)

static void load_flat(struct vc_segment *seg, uint32_t selector, uint16_t attr, unsigned cpl)
{
	*seg = (struct vc_segment){
	    .limit = 0xffffffffu, .selector = (uint16_t)((selector & ~3u) | cpl), .attr = (uint16_t)(attr | cpl << 5)};
}

/* CS and SS at once; the privilege level changes. */
static void load_code_and_stack(struct emu_vcpu *c, uint32_t cs, uint32_t ss, bool long64, unsigned cpl)
{
	load_flat(&c->s.seg[VC_CS], cs, long64 ? CODE64 : CODE32, cpl);
	load_flat(&c->s.seg[VC_SS], ss, DATA, cpl);
}

/* Outside 64-bit mode only AMD's processors have SYSCALL and SYSRET. */
static void require_syscall(struct emu_vcpu *c)
{
	if (!(c->s.efer & VC_EFER_SCE) || !c->protected_mode || (c->mode != EMU_MODE_64 && !emu_vendor_is_amd(c)))
		emu_raise(c, VC_UD);
}

enum emu_next emu_sys_syscall(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint32_t selector = c->s.star >> 32 & 0xffff;
	uint64_t next = emu_next_rip(c, i);

	require_syscall(c);
	c->s.gpr[VC_RCX] = next;
	if (c->long_mode) {
		uint64_t flags = emu_rflags(c);

		c->s.gpr[VC_R11] = flags & ~(uint64_t)VC_FLAG_RF;
		c->s.rip = c->mode == EMU_MODE_64 ? c->s.lstar : c->s.cstar;
		emu_set_rflags(c, flags & ~(c->s.sfmask | VC_FLAG_RF));
		c->sys->trap_flag_spent = c->s.sfmask & VC_FLAG_TF;
	} else {
		c->s.rip = (uint32_t)c->s.star;
		c->s.rflags &= ~(uint64_t)(VC_FLAG_IF | VC_FLAG_VM | VC_FLAG_RF);
	}
	load_code_and_stack(c, selector, selector + 8, c->long_mode, 0);
	emu_mode_changed(c);
	return EMU_JUMP;
}

enum emu_next emu_sys_sysret(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint32_t selector = c->s.star >> 48;
	bool long64 = i->opsize == 8;
	uint64_t rip = c->s.gpr[VC_RCX], old = emu_rflags(c);

	require_syscall(c);
	emu_require_cpl0(c);
	if (long64 && !emu_canonical(c, rip))
		emu_raise_error(c, VC_GP, 0);
	c->s.rip = long64 ? rip : (uint32_t)rip;
	load_code_and_stack(c, long64 ? selector + 16 : selector, selector + 8, long64, 3);
	if (c->long_mode)
		emu_set_rflags(c, c->s.gpr[VC_R11] & 0x3c7fd7);
	else
		c->s.rflags |= VC_FLAG_IF;
	if (c->s.rflags & VC_FLAG_TF || (c->s.rflags & ~old & VC_FLAG_IF && c->interrupt_waiting))
		c->attention = true;
	/* A TF that SYSRET sets traps before the first instruction of the user. */
	if (c->s.rflags & VC_FLAG_TF)
		c->sys->db_pending |= EMU_DR6_BS;
	emu_mode_changed(c);
	return EMU_JUMP;
}

enum emu_next emu_sys_sysenter(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint32_t selector = (uint32_t)c->s.sysenter_cs;

	if (!(c->s.cr0 & VC_CR0_PE) || !(selector & 0xfffc))
		emu_raise_error(c, VC_GP, 0);
	c->s.rflags &= ~(uint64_t)(VC_FLAG_VM | VC_FLAG_IF | VC_FLAG_RF);
	c->s.gpr[VC_RSP] = c->long_mode ? c->s.sysenter_esp : (uint32_t)c->s.sysenter_esp;
	c->s.rip = c->long_mode ? c->s.sysenter_eip : (uint32_t)c->s.sysenter_eip;
	load_code_and_stack(c, selector, (selector & 0xfffc) + 8, c->long_mode, 0);
	emu_mode_changed(c);
	return EMU_JUMP;
}

enum emu_next emu_sys_sysexit(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint32_t selector = (uint32_t)c->s.sysenter_cs & 0xfffc;
	uint64_t rip = c->s.gpr[VC_RDX], rsp = c->s.gpr[VC_RCX];
	bool long64 = i->opsize == 8;

	if (!c->protected_mode || !selector)
		emu_raise_error(c, VC_GP, 0);
	emu_require_cpl0(c);
	if (long64 && (!emu_canonical(c, rip) || !emu_canonical(c, rsp)))
		emu_raise_error(c, VC_GP, 0);
	c->s.gpr[VC_RSP] = long64 ? rsp : (uint32_t)rsp;
	c->s.rip = long64 ? rip : (uint32_t)rip;
	selector += long64 ? 32 : 16;
	load_code_and_stack(c, selector, selector + 8, long64, 3);
	emu_mode_changed(c);
	return EMU_JUMP;
}
