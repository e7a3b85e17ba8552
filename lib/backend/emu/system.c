/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* System instructions: the table of handlers, operands, port access rights. */
#include "backend/emu/system.h"

/* ---- operands ---- */

uint64_t emu_effective_address(const struct emu_vcpu *c, const struct emu_insn *i)
{
	uint64_t a = (uint64_t)(int64_t)i->disp;

	if (i->base == EMU_REG_RIP)
		a += c->s.rip + i->len;
	else if (i->base != EMU_REG_NONE)
		a += c->s.gpr[i->base];
	if (i->index != EMU_REG_NONE)
		a += c->s.gpr[i->index] << i->scale;
	return a & vc_width_mask(i->addrsize);
}

uint64_t emu_operand_linear(struct emu_vcpu *c, const struct emu_insn *i, unsigned offset, unsigned size,
                            enum vcore_access access)
{
	uint64_t a = (emu_effective_address(c, i) + offset) & vc_width_mask(i->addrsize);

	return emu_seg_linear(c, i->seg, a, size, access);
}

uint64_t emu_load_linear(struct emu_vcpu *c, uint64_t linear, unsigned size)
{
	switch (size) {
	case 1:
		return emu_ld8(c, linear);
	case 2:
		return emu_ld16(c, linear);
	case 4:
		return emu_ld32(c, linear);
	default:
		return emu_ld64(c, linear);
	}
}

void emu_store_linear(struct emu_vcpu *c, uint64_t linear, unsigned size, uint64_t value)
{
	switch (size) {
	case 2:
		emu_st16(c, linear, (uint16_t)value);
		break;
	case 4:
		emu_st32(c, linear, (uint32_t)value);
		break;
	default:
		emu_st64(c, linear, value);
	}
}

uint64_t emu_load_operand(struct emu_vcpu *c, const struct emu_insn *i, unsigned offset, unsigned size)
{
	return emu_load_linear(c, emu_operand_linear(c, i, offset, size, VCORE_ACCESS_READ), size);
}

uint16_t emu_rm16(struct emu_vcpu *c, const struct emu_insn *i)
{
	return (uint16_t)(emu_has_memory(i) ? emu_load_operand(c, i, 0, 2) : c->s.gpr[i->rm]);
}

void emu_store_rm16(struct emu_vcpu *c, const struct emu_insn *i, uint64_t value)
{
	if (emu_has_memory(i))
		emu_store_linear(c, emu_operand_linear(c, i, 0, 2, VCORE_ACCESS_WRITE), 2, value);
	else
		emu_set_gpr(c, i->rm, i->opsize, value);
}

void emu_push(struct emu_vcpu *c, unsigned size, uint64_t value)
{
	struct emu_stack st = emu_stack_current(c);

	emu_stack_push(c, &st, size, value);
	emu_stack_commit(c, &st);
}

bool emu_vendor_is_amd(const struct emu_vcpu *c)
{
	const struct vc_cpuid *cpuid = &c->bvcpu->cpuid;

	for (uint32_t n = 0; n < cpuid->count; n++) {
		const struct vc_cpuid_entry *e = &cpuid->entries[n];
		if (!e->leaf)
			/* AuthenticAMD, HygonGenuine */
			return e->regs[VC_EBX] == 0x68747541 || e->regs[VC_EBX] == 0x6f677948;
	}
	return false;
}

/* ---- ports ---- */

/* SDM vol. 1, 19.5: below IOPL, and always in virtual-8086 mode, the TSS says which ports may be used. */
void emu_io_check(struct emu_vcpu *c, uint16_t port, unsigned width)
{
	uint64_t base = c->s.tr.base;
	uint32_t at, bits;

	if (!(c->s.cr0 & VC_CR0_PE) || (c->cpl <= emu_iopl(c) && !emu_virtual_8086(c)))
		return;
	if (c->s.tr.unusable || !(VC_SEG_TYPE(c->s.tr.attr) & 8) || c->s.tr.limit < 0x67)
		emu_raise_error(c, VC_GP, 0);
	at = (uint32_t)emu_ld_system(c, base + 0x66, 2) + port / 8;
	if (at + 1 > c->s.tr.limit)
		emu_raise_error(c, VC_GP, 0);
	bits = (uint32_t)emu_ld_system(c, base + at, 2) >> port % 8;
	if (bits & ((1u << width) - 1))
		emu_raise_error(c, VC_GP, 0);
}

/* SDM vol. 3, 17.2.4: breakpoints on ports are traps, behind the instruction, and need CR4.DE. */
static void check_port_breakpoints(struct emu_vcpu *c, uint16_t port, unsigned width)
{
	static const uint8_t lengths[4] = {1, 2, 8, 4};
	struct emu_sys *sys = c->sys;

	if (vc_likely(!(sys->dr7 & EMU_DR7_ENABLED)) || !(c->s.cr4 & VC_CR4_DE))
		return;
	for (unsigned i = 0; i < 4; i++) {
		unsigned length = lengths[sys->dr7 >> (18 + 4 * i) & 3];
		uint64_t start = sys->dr[i] & ~(uint64_t)(length - 1);
		bool is_port = (sys->dr7 >> (2 * i) & 3) && (sys->dr7 >> (16 + 4 * i) & 3) == 2;

		if (is_port && port < start + length && start < (uint64_t)port + width)
			sys->db_pending |= 1ull << i;
	}
}

uint32_t emu_io_in(struct emu_vcpu *c, uint16_t port, unsigned width, bool sole)
{
	uint32_t value;

	emu_io_check(c, port, width);
	value = (uint32_t)(sole ? emu_bus_sole : emu_bus_access)(c, VCORE_BUS_PIO, port, width, false, 0);
	check_port_breakpoints(c, port, width);
	return value;
}

void emu_io_out(struct emu_vcpu *c, uint16_t port, unsigned width, uint32_t value, bool sole)
{
	emu_io_check(c, port, width);
	(sole ? emu_bus_sole : emu_bus_access)(c, VCORE_BUS_PIO, port, width, true, value);
	check_port_breakpoints(c, port, width);
}

/* ---- the table ---- */

/* clang-format off */
static const emu_system_fn handlers[EMU_OP_COUNT] = {
	[EMU_JMP_FAR] = emu_sys_jmp_far,       [EMU_JMP_FAR_IND] = emu_sys_jmp_far_ind,
	[EMU_CALL_FAR] = emu_sys_call_far,     [EMU_CALL_FAR_IND] = emu_sys_call_far_ind,
	[EMU_RETF] = emu_sys_retf,             [EMU_IRET] = emu_sys_iret,
	[EMU_INT3] = emu_sys_int3,             [EMU_INT1] = emu_sys_int1,
	[EMU_INT] = emu_sys_int_n,             [EMU_INTO] = emu_sys_into,
	[EMU_PUSHF] = emu_sys_pushf,           [EMU_POPF] = emu_sys_popf,
	[EMU_CLI] = emu_sys_cli,               [EMU_STI] = emu_sys_sti,
	[EMU_CLAC] = emu_sys_clac,             [EMU_STAC] = emu_sys_stac,
	[EMU_BOUND] = emu_sys_bound,           [EMU_ARPL] = emu_sys_arpl,
	[EMU_LDS] = emu_sys_lds,
	[EMU_MOV_FROM_SREG] = emu_sys_mov_from_sreg, [EMU_MOV_TO_SREG] = emu_sys_mov_to_sreg,
	[EMU_PUSH_SREG] = emu_sys_push_sreg,   [EMU_POP_SREG] = emu_sys_pop_sreg,
	[EMU_LAR] = emu_sys_lar,               [EMU_LSL] = emu_sys_lsl,
	[EMU_VERR] = emu_sys_verr,             [EMU_VERW] = emu_sys_verw,
	[EMU_RDFSBASE] = emu_sys_rdfsbase,     [EMU_RDGSBASE] = emu_sys_rdgsbase,
	[EMU_WRFSBASE] = emu_sys_wrfsbase,     [EMU_WRGSBASE] = emu_sys_wrgsbase,
	[EMU_SWAPGS] = emu_sys_swapgs,
	[EMU_LGDT] = emu_sys_lgdt,             [EMU_LIDT] = emu_sys_lidt,
	[EMU_SGDT] = emu_sys_sgdt,             [EMU_SIDT] = emu_sys_sidt,
	[EMU_LLDT] = emu_sys_lldt,             [EMU_SLDT] = emu_sys_sldt,
	[EMU_LTR] = emu_sys_ltr,               [EMU_STR] = emu_sys_str,
	[EMU_MOV_FROM_CR] = emu_sys_mov_from_cr, [EMU_MOV_TO_CR] = emu_sys_mov_to_cr,
	[EMU_MOV_FROM_DR] = emu_sys_mov_from_dr, [EMU_MOV_TO_DR] = emu_sys_mov_to_dr,
	[EMU_LMSW] = emu_sys_lmsw,             [EMU_SMSW] = emu_sys_smsw,
	[EMU_CLTS] = emu_sys_clts,
	[EMU_INVLPG] = emu_sys_invlpg,         [EMU_INVPCID] = emu_sys_invpcid,
	[EMU_XGETBV] = emu_sys_xgetbv,         [EMU_XSETBV] = emu_sys_xsetbv,
	[EMU_SYSCALL] = emu_sys_syscall,       [EMU_SYSRET] = emu_sys_sysret,
	[EMU_SYSENTER] = emu_sys_sysenter,     [EMU_SYSEXIT] = emu_sys_sysexit,
	[EMU_HLT] = emu_sys_hlt,               [EMU_PAUSE] = emu_sys_pause,
	[EMU_IN] = emu_sys_in,                 [EMU_OUT] = emu_sys_out,
	[EMU_INVD] = emu_sys_invd,             [EMU_WBINVD] = emu_sys_invd,
	[EMU_RDMSR] = emu_sys_rdmsr,           [EMU_WRMSR] = emu_sys_wrmsr,
	[EMU_RDTSC] = emu_sys_rdtsc,           [EMU_RDTSCP] = emu_sys_rdtscp,
	[EMU_RDPMC] = emu_sys_rdpmc,           [EMU_CPUID] = emu_sys_cpuid,
	[EMU_RDPID] = emu_sys_rdpid,
	[EMU_RDRAND] = emu_sys_rdrand,         [EMU_RDSEED] = emu_sys_rdrand,
	[EMU_MONITOR] = emu_sys_monitor,       [EMU_MWAIT] = emu_sys_mwait,
	[EMU_VMCALL] = emu_sys_vmcall,         [EMU_VMMCALL] = emu_sys_vmcall,
	[EMU_CLFLUSH] = emu_sys_clflush,
	/* There is neither a system-management mode nor, in any model, memory protection keys. */
	[EMU_UD] = emu_sys_ud,                 [EMU_RSM] = emu_sys_ud,
	[EMU_RDPKRU] = emu_sys_ud,             [EMU_WRPKRU] = emu_sys_ud,
};
/* clang-format on */

emu_system_fn emu_system_handler(enum emu_op op)
{
	return handlers[op];
}
