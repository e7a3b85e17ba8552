/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* System instructions that stand alone: halting, ports, MSRs, time, CPUID, random numbers, hypercalls. */
#include <sys/random.h>

#include "backend/emu/system.h"
#include "chipset/lapic.h"

enum emu_next emu_sys_ud(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_raise(c, VC_UD);
}

/* ---- halting ---- */

enum emu_next emu_sys_hlt(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_require_cpl0(c);
	c->s.rip = emu_next_rip(c, i);
	c->s.mp_state = VC_MP_HALTED;
	vc_bvcpu_left(c->bvcpu, VC_LEFT_HALT);
	/* The instruction that STI protects was this one. */
	c->s.shadow_sti = 0;
	c->s.shadow_mov_ss = 0;
	c->attention = true;
	return EMU_JUMP;
}

enum emu_next emu_sys_pause(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_spinning(c);
	return EMU_NEXT;
}

enum emu_next emu_sys_monitor(struct emu_vcpu *c, const struct emu_insn *i)
{
	enum vc_sreg seg = i->prefixes & EMU_P_SEG ? i->seg : VC_DS;
	uint64_t address = c->s.gpr[VC_RAX] & vc_width_mask(i->addrsize);

	if (c->cpl)
		emu_raise(c, VC_UD);
	if ((uint32_t)c->s.gpr[VC_RCX])
		emu_raise_error(c, VC_GP, 0);
	emu_ld8(c, emu_seg_linear(c, seg, address, 1, VCORE_ACCESS_READ));
	return EMU_NEXT;
}

/* Waiting may end at any time: here at once. */
enum emu_next emu_sys_mwait(struct emu_vcpu *c, const struct emu_insn *i)
{
	if (c->cpl)
		emu_raise(c, VC_UD);
	/* Extension 0: an interrupt ends it even with IF clear. */
	if ((uint32_t)c->s.gpr[VC_RCX] & ~1u)
		emu_raise_error(c, VC_GP, 0);
	return EMU_NEXT;
}

/* ---- ports ---- */

static uint16_t port_of(const struct emu_vcpu *c, const struct emu_insn *i)
{
	return i->desc->imm == EMU_IMM_NONE ? (uint16_t)c->s.gpr[VC_RDX] : (uint8_t)i->imm;
}

enum emu_next emu_sys_in(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint32_t value = emu_io_in(c, port_of(c, i), i->opsize, true);

	if (i->opsize == 1)
		c->s.gpr[VC_RAX] = (c->s.gpr[VC_RAX] & ~0xffull) | (uint8_t)value;
	else
		emu_set_gpr(c, VC_RAX, i->opsize, value);
	return EMU_NEXT;
}

enum emu_next emu_sys_out(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_io_out(c, port_of(c, i), i->opsize, (uint32_t)(c->s.gpr[VC_RAX] & vc_width_mask(i->opsize)), true);
	return EMU_NEXT;
}

/* ---- caches ---- */

/* Guest memory is coherent with everything: there is nothing to write back. */
enum emu_next emu_sys_invd(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_require_cpl0(c);
	return EMU_NEXT;
}

enum emu_next emu_sys_clflush(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_probe(c, emu_operand_linear(c, i, 0, 1, VCORE_ACCESS_READ), 1, false);
	return EMU_NEXT;
}

/* ---- MSRs ---- */

#define MSR_FS_BASE        0xc0000100u
#define MSR_GS_BASE        0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u

/* The three that change at every context switch of a guest kernel. */
static uint64_t *base_msr(struct emu_vcpu *c, uint32_t index)
{
	if (!emu_has(c, VC_F_LM))
		return NULL;
	switch (index) {
	case MSR_FS_BASE:
		return &c->s.seg[VC_FS].base;
	case MSR_GS_BASE:
		return &c->s.seg[VC_GS].base;
	case MSR_KERNEL_GS_BASE:
		return &c->s.kernel_gs_base;
	default:
		return NULL;
	}
}

enum emu_next emu_sys_rdmsr(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint32_t index = (uint32_t)c->s.gpr[VC_RCX];
	const uint64_t *base;
	uint64_t value;

	emu_require_cpl0(c);
	base = base_msr(c, index);
	if (base)
		value = *base;
	else if (emu_rdmsr(c, index, &value))
		emu_raise_error(c, VC_GP, 0);
	emu_set_edx_eax(c, value);
	return EMU_NEXT;
}

enum emu_next emu_sys_wrmsr(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint32_t index = (uint32_t)c->s.gpr[VC_RCX];
	uint64_t value = emu_edx_eax(c), *base;

	emu_require_cpl0(c);
	base = base_msr(c, index);
	if (base && c->mode == EMU_MODE_64 && emu_canonical_register(c, value))
		*base = value;
	else if (emu_wrmsr(c, index, value))
		emu_raise_error(c, VC_GP, 0);
	return EMU_NEXT;
}

/* ---- time ---- */

static void require_tsc(struct emu_vcpu *c)
{
	if (c->cpl && c->s.cr4 & VC_CR4_TSD)
		emu_raise_error(c, VC_GP, 0);
}

enum emu_next emu_sys_rdtsc(struct emu_vcpu *c, const struct emu_insn *i)
{
	require_tsc(c);
	emu_set_edx_eax(c, emu_tsc_look(c));
	return EMU_NEXT;
}

enum emu_next emu_sys_rdtscp(struct emu_vcpu *c, const struct emu_insn *i)
{
	require_tsc(c);
	emu_set_edx_eax(c, emu_tsc_look(c));
	c->s.gpr[VC_RCX] = (uint32_t)c->s.tsc_aux;
	return EMU_NEXT;
}

/* There are no performance counters. */
enum emu_next emu_sys_rdpmc(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_raise_error(c, VC_GP, 0);
}

enum emu_next emu_sys_rdpid(struct emu_vcpu *c, const struct emu_insn *i)
{
	c->s.gpr[i->rm] = (uint32_t)c->s.tsc_aux;
	return EMU_NEXT;
}

/* ---- CPUID ---- */

enum emu_next emu_sys_cpuid(struct emu_vcpu *c, const struct emu_insn *i)
{
	static const uint8_t order[] = {[VC_EAX] = VC_RAX, [VC_EBX] = VC_RBX, [VC_ECX] = VC_RCX, [VC_EDX] = VC_RDX};
	uint64_t apic_base = c->bvcpu->lapic ? vc_lapic_base(c->bvcpu->lapic) : c->s.apic_base;
	uint32_t out[4];

	vc_cpuid_query(&c->bvcpu->cpuid, c->s.cr4, c->s.xcr0, apic_base, (uint32_t)c->s.gpr[VC_RAX],
	               (uint32_t)c->s.gpr[VC_RCX], out);
	for (unsigned n = 0; n < VC_ARRAY_SIZE(order); n++)
		c->s.gpr[order[n]] = out[n];
	return EMU_NEXT;
}

/* ---- random numbers ---- */

/* RDSEED too: the host's generator is seeded. CF says whether there was one. */
enum emu_next emu_sys_rdrand(struct emu_vcpu *c, const struct emu_insn *i)
{
	uint64_t value = 0;
	bool good = getrandom(&value, sizeof value, GRND_NONBLOCK) == sizeof value;

	emu_set_gpr(c, i->rm, i->opsize, good ? value : 0);
	c->aflags = good ? VC_FLAG_CF : 0;
	return EMU_NEXT;
}

/* ---- hypercalls ---- */

enum emu_next emu_sys_vmcall(struct emu_vcpu *c, const struct emu_insn *i)
{
	emu_hypercall(c);
	return EMU_NEXT;
}
