/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cpu/state_codec.h"

#include "core/util.h"

/* `count` numbers of `width` bytes each, little-endian as the host is, one after the other. */
struct field {
	size_t offset;
	uint16_t width, count;
};

#define MANY(member, of)                                                                                         \
	{                                                                                                            \
		offsetof(struct vc_cpu_state, member), sizeof(of), sizeof((struct vc_cpu_state *)0)->member / sizeof(of) \
	}
#define ONE(member)   MANY(member, ((struct vc_cpu_state *)0)->member)
#define ARRAY(member) MANY(member, ((struct vc_cpu_state *)0)->member[0])
#define SEGMENT(member) \
	ONE(member.base), ONE(member.limit), ONE(member.selector), ONE(member.attr), ONE(member.unusable)
#define TABLE(member) ONE(member.base), ONE(member.limit)

/* The order is that of the bytes: a change of it, or a further field, is a new VC_CPU_STATE_VERSION. */
static const struct field fields[] = {
    ARRAY(gpr),
    ONE(rip),
    ONE(rflags),
    SEGMENT(seg[VC_ES]),
    SEGMENT(seg[VC_CS]),
    SEGMENT(seg[VC_SS]),
    SEGMENT(seg[VC_DS]),
    SEGMENT(seg[VC_FS]),
    SEGMENT(seg[VC_GS]),
    ONE(cr0),
    ONE(cr2),
    ONE(cr3),
    ONE(cr4),
    ONE(cr8),
    ONE(efer),
    ONE(xcr0),
    SEGMENT(ldtr),
    SEGMENT(tr),
    TABLE(gdtr),
    TABLE(idtr),
    ARRAY(dr),
    ONE(dr6),
    ONE(dr7),
    ONE(apic_base),
    ONE(star),
    ONE(lstar),
    ONE(cstar),
    ONE(sfmask),
    ONE(kernel_gs_base),
    ONE(sysenter_cs),
    ONE(sysenter_esp),
    ONE(sysenter_eip),
    ONE(pat),
    ONE(tsc_aux),
    ONE(tsc_deadline),
    ONE(misc_enable),
    ONE(spec_ctrl),
    ONE(xss),
    ONE(mtrr_def_type),
    ARRAY(mtrr_fixed),
    ARRAY(mtrr_var),
    ONE(mcg_status),
    ONE(mcg_ctl),
    ONE(mcg_cap),
    ONE(kvm_system_time),
    ONE(kvm_wall_clock),
    ONE(kvm_steal_time),
    ONE(kvm_pv_eoi),
    ONE(kvm_async_pf),
    ONE(kvm_poll_control),
    ONE(tsc_offset),
    ONE(tsc_adjust),
    ONE(mp_state),
    ONE(sipi_vector),
    ONE(shadow_sti),
    ONE(shadow_mov_ss),
    ONE(nmi_masked),
    ONE(nmi_pending),
    ONE(exception_pending),
    ONE(exception_vector),
    ONE(exception_has_error),
    ONE(interrupt_injected),
    ONE(interrupt_vector),
    ONE(interrupt_soft),
    ONE(exception_error),
    ARRAY(xsave.bytes),
};

size_t vc_cpu_state_bytes(void)
{
	size_t sum = 0;

	for (size_t i = 0; i < VC_ARRAY_SIZE(fields); i++)
		sum += (size_t)fields[i].width * fields[i].count;
	return sum;
}

void vc_cpu_state_encode(const struct vc_cpu_state *state, uint8_t *bytes)
{
	for (size_t i = 0; i < VC_ARRAY_SIZE(fields); i++) {
		size_t length = (size_t)fields[i].width * fields[i].count;

		memcpy(bytes, (const uint8_t *)state + fields[i].offset, length);
		bytes += length;
	}
}

void vc_cpu_state_decode(const uint8_t *bytes, struct vc_cpu_state *state)
{
	memset(state, 0, sizeof *state);
	for (size_t i = 0; i < VC_ARRAY_SIZE(fields); i++) {
		size_t length = (size_t)fields[i].width * fields[i].count;

		memcpy((uint8_t *)state + fields[i].offset, bytes, length);
		bytes += length;
	}
}
