/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the handlers of system instructions share: operands, privilege checks, and the handlers that system.c's table
 * names. */
#ifndef VC_EMU_SYSTEM_H
#define VC_EMU_SYSTEM_H

#include "backend/emu/event.h"
#include "backend/emu/segment.h"
#include "backend/emu/vcpu.h"

/* ---- checks ---- */

static inline void emu_require_cpl0(struct emu_vcpu *c)
{
	if (vc_unlikely(c->cpl))
		emu_raise_error(c, VC_GP, 0);
}
static inline void emu_require_protected(struct emu_vcpu *c)
{
	if (vc_unlikely(!c->protected_mode))
		emu_raise(c, VC_UD);
}

/* ---- operands ---- */

static inline bool emu_has_memory(const struct emu_insn *i)
{
	return i->prefixes & EMU_P_MEM;
}
/* Linear address of the memory operand, `offset` bytes into it. */
uint64_t emu_operand_linear(struct emu_vcpu *c, const struct emu_insn *i, unsigned offset, unsigned size,
                            enum vcore_access access);
uint64_t emu_load_linear(struct emu_vcpu *c, uint64_t linear, unsigned size);
void emu_store_linear(struct emu_vcpu *c, uint64_t linear, unsigned size, uint64_t value);
/* The memory operand, `offset` bytes into it. */
uint64_t emu_load_operand(struct emu_vcpu *c, const struct emu_insn *i, unsigned offset, unsigned size);
/* r/m as a 16-bit source. */
uint16_t emu_rm16(struct emu_vcpu *c, const struct emu_insn *i);
/* Write a general register as an operand of 2, 4 or 8 bytes. */
static inline void emu_set_gpr(struct emu_vcpu *c, unsigned reg, unsigned size, uint64_t value)
{
	if (size == 2)
		c->s.gpr[reg] = (c->s.gpr[reg] & ~(uint64_t)0xffff) | (value & 0xffff);
	else
		c->s.gpr[reg] = value & vc_width_mask(size);
}
/* r/m as a destination: 16 bits in memory, the operand size in a register (SLDT, STR, SMSW, MOV from segment). */
void emu_store_rm16(struct emu_vcpu *c, const struct emu_insn *i, uint64_t value);
/* EDX:EAX */
static inline uint64_t emu_edx_eax(const struct emu_vcpu *c)
{
	return (uint32_t)c->s.gpr[VC_RAX] | c->s.gpr[VC_RDX] << 32;
}
static inline void emu_set_edx_eax(struct emu_vcpu *c, uint64_t value)
{
	c->s.gpr[VC_RAX] = (uint32_t)value;
	c->s.gpr[VC_RDX] = value >> 32;
}
/* Push one value on the current stack. */
void emu_push(struct emu_vcpu *c, unsigned size, uint64_t value);
/*
 * iret.c. The code segment that RETF or IRET goes back to, with every check, and the stack segment for its privilege
 * level, *ss.
 */
void emu_return_code(struct emu_vcpu *c, uint16_t selector, struct emu_desc *d);
void emu_return_stack(struct emu_vcpu *c, uint16_t selector, const struct vc_segment *cs, struct vc_segment *ss);
/*
 * FLAGS of a virtual-8086 IRET or POPF below IOPL 3 with CR4.VME, where IF is virtual. check: #GP(0) where the monitor
 * must see to it; set may not raise.
 */
void emu_check_vme_flags(struct emu_vcpu *c, uint16_t image);
void emu_set_vme_flags(struct emu_vcpu *c, uint16_t image);
/* Far jump, real and virtual-8086 mode included. */
enum emu_next emu_jump_8086(struct emu_vcpu *c, uint16_t selector, uint64_t rip);
/* RFLAGS were popped: events that new bits allow. old: RFLAGS before. */
static inline void emu_flags_popped(struct emu_vcpu *c, uint64_t old)
{
	if (c->s.rflags & VC_FLAG_TF || (c->s.rflags & ~old & VC_FLAG_IF && c->interrupt_waiting))
		c->attention = true;
	if ((c->s.rflags ^ old) & (VC_FLAG_AC | VC_FLAG_VM))
		emu_mode_changed(c);
}
/* CPUID says this is an AMD (or Hygon) model. */
bool emu_vendor_is_amd(const struct emu_vcpu *c);

/* ---- handlers ---- */

#define EMU_SYSTEM_HANDLERS(X)                                                                                       \
	/* far.c, iret.c */ X(jmp_far) X(jmp_far_ind) X(call_far) X(call_far_ind) X(retf)                                \
	    X(iret) /* system_flags.c */ X(int3) X(int1) X(int_n) X(into) X(pushf) X(popf) X(cli) X(sti) X(clac) X(stac) \
	        X(bound) /* system_segment.c */ X(lds) X(mov_from_sreg) X(mov_to_sreg) X(push_sreg) X(pop_sreg) X(arpl)  \
	            X(lar) X(lsl) X(verr) X(verw) X(rdfsbase) X(rdgsbase) X(wrfsbase) X(wrgsbase)                        \
	                X(swapgs) /* system_table.c */ X(lgdt) X(lidt) X(sgdt) X(sidt) X(lldt) X(sldt) X(ltr)            \
	                    X(str) /* system_control.c */ X(mov_from_cr) X(mov_to_cr) X(lmsw) X(smsw) X(clts) X(invlpg)  \
	                        X(invpcid) X(xgetbv) X(xsetbv) /* system_debug.c */ X(mov_from_dr)                       \
	                            X(mov_to_dr) /* system_call.c */ X(syscall) X(sysret) X(sysenter)                    \
	                                X(sysexit) /* system_misc.c */ X(hlt) X(pause) X(in) X(out) X(invd) X(rdmsr)     \
	                                    X(wrmsr) X(rdtsc) X(rdtscp) X(rdpmc) X(cpuid) X(rdpid) X(rdrand) X(monitor)  \
	                                        X(mwait) X(vmcall) X(clflush) X(ud)

#define X(name) enum emu_next emu_sys_##name(struct emu_vcpu *c, const struct emu_insn *i);
EMU_SYSTEM_HANDLERS(X)
#undef X

#endif
