/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Model-specific registers (SDM vol. 4; AMD APM vol. 2, appendix A; KVM ABI). One table; a register with rules of its
 * own has functions. */
#include <errno.h>
#include <stddef.h>

#include "backend/emu/mmu/mmu.h"
#include "backend/emu/segment.h"
#include "backend/emu/vcpu.h"

enum {
	MSR_TSC = 0x10,
	MSR_APIC_BASE = 0x1b,
	MSR_SPEC_CTRL = 0x48,
	MSR_PRED_CMD = 0x49,
	MSR_MTRR_CAP = 0xfe,
	MSR_ARCH_CAPABILITIES = 0x10a,
	MSR_TSC_DEADLINE = 0x6e0,
	MSR_X2APIC_FIRST = 0x800,
	MSR_X2APIC_LAST = 0x8ff,
};

/*
 * IA32_ARCH_CAPABILITIES: RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, IF_PSCHANGE_MC_NO, TAA_NO,
 * SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO. Nothing of the guest is executed ahead
 * under its own rights, so its kernel need not defend itself.
 */
#define ARCH_CAPABILITIES_VALUE 0x400000000d10e17bull
#define SPEC_CTRL_BITS          0x407u /* IBRS, STIBP, SSBD, BHI_DIS_S: there is nothing to restrain */
#define PRED_CMD_IBPB           1u
#define MTRR_CAP_VALUE          0x508u /* 8 variable ranges, fixed ranges, write combining */
#define MTRR_TYPES              0x73u  /* UC, WC, WT, WP, WB: bit n: type n is one */
#define PAT_TYPES               0xf3u  /* and UC- */

enum kind {
	PLAIN,     /* a field; `mask`: bits that may be set */
	CANONICAL, /* a linear address */
	CONSTANT,  /* reads `mask`; writing anything but it is #GP */
	IGNORED,   /* reads `mask`; writes vanish */
	TYPES,     /* bytes, each a memory type of the set `mask` */
	CUSTOM,    /* write(); and read(), or a field */
};

struct msr {
	uint32_t first, count;
	uint8_t kind;
	uint8_t feature; /* enum vc_feature: without it there is no such MSR */
	uint16_t offset; /* of the first in struct vc_cpu_state; the others follow */
	uint64_t mask;
	int (*read)(struct emu_vcpu *c, uint32_t index, uint64_t *value);
	int (*write)(struct emu_vcpu *c, uint32_t index, uint64_t value);
};

/* ---- registers with rules of their own ---- */

void emu_set_tsc_offset(struct emu_vcpu *c, uint64_t offset)
{
	c->s.tsc_offset = offset;
	emu_tsc_changed(c);
	if (c->bvcpu->lapic)
		vc_lapic_set_tsc_offset(c->bvcpu->lapic, offset);
	emu_pv_write_clock(c);
}

static int read_tsc(struct emu_vcpu *c, uint32_t index, uint64_t *value)
{
	*value = emu_tsc(c);
	return 0;
}

/* SDM vol. 3, 17.17.3: a write of either register moves the other by the same amount. */
static void move_tsc(struct emu_vcpu *c, uint64_t by)
{
	c->s.tsc_adjust += by;
	emu_set_tsc_offset(c, c->s.tsc_offset + by);
}

static int write_tsc(struct emu_vcpu *c, uint32_t index, uint64_t value)
{
	move_tsc(c, value - emu_tsc(c));
	return 0;
}

static int write_tsc_adjust(struct emu_vcpu *c, uint32_t index, uint64_t value)
{
	move_tsc(c, value - c->s.tsc_adjust);
	return 0;
}

/* Write-only. */
static int read_nothing(struct emu_vcpu *c, uint32_t index, uint64_t *value)
{
	return -EINVAL;
}

static int write_pred_cmd(struct emu_vcpu *c, uint32_t index, uint64_t value)
{
	return value & ~(uint64_t)PRED_CMD_IBPB ? -EINVAL : 0;
}

static int read_apic_base(struct emu_vcpu *c, uint32_t index, uint64_t *value)
{
	*value = c->bvcpu->lapic ? vc_lapic_base(c->bvcpu->lapic) : c->s.apic_base;
	return 0;
}

static int write_apic_base(struct emu_vcpu *c, uint32_t index, uint64_t value)
{
	uint64_t allowed = EMU_APIC_BSP | EMU_APIC_ENABLE | (((1ull << c->bvcpu->cpuid.phys_bits) - 1) & VC_PAGE_MASK);

	if (value & ~(allowed | (emu_has(c, VC_F_X2APIC) ? EMU_APIC_X2 : 0)))
		return -EINVAL;
	if (c->bvcpu->lapic) {
		if (vc_lapic_msr_write(c->bvcpu->lapic, MSR_APIC_BASE, value) < 0)
			return -EINVAL;
		value = vc_lapic_base(c->bvcpu->lapic);
	}
	c->s.apic_base = value;
	/* The register page moved over, or away from, what was translated. */
	emu_tlb_flush_all(c);
	return 0;
}

static int read_lapic(struct emu_vcpu *c, uint32_t index, uint64_t *value)
{
	return c->bvcpu->lapic ? vc_lapic_msr_read(c->bvcpu->lapic, index, value) : -EINVAL;
}

static int write_lapic(struct emu_vcpu *c, uint32_t index, uint64_t value)
{
	/* What the write lets through is looked at before the next block. */
	c->attention = true;
	return c->bvcpu->lapic ? vc_lapic_msr_write(c->bvcpu->lapic, index, value) : -EINVAL;
}

static int write_efer(struct emu_vcpu *c, uint32_t index, uint64_t value)
{
	uint64_t allowed = VC_EFER_LMA | (emu_has(c, VC_F_SYSCALL) ? VC_EFER_SCE : 0) |
	                   (emu_has(c, VC_F_LM) ? VC_EFER_LME : 0) | (emu_has(c, VC_F_NX) ? VC_EFER_NXE : 0);

	if (value & ~allowed)
		return -EINVAL;
	if (((value ^ c->s.efer) & VC_EFER_LME) && (c->s.cr0 & VC_CR0_PG))
		return -EINVAL;
	c->s.efer = (value & ~(uint64_t)VC_EFER_LMA) | (c->s.efer & VC_EFER_LMA);
	emu_mode_changed(c);
	return 0;
}

static enum vc_sreg base_segment(uint32_t index)
{
	return index == 0xc0000100 ? VC_FS : VC_GS;
}

static int read_base(struct emu_vcpu *c, uint32_t index, uint64_t *value)
{
	*value = c->s.seg[base_segment(index)].base;
	return 0;
}

static int write_base(struct emu_vcpu *c, uint32_t index, uint64_t value)
{
	if (!emu_canonical_register(c, value))
		return -EINVAL;
	c->s.seg[base_segment(index)].base = value;
	emu_mode_changed(c);
	return 0;
}

/* Bases have a memory type in the low byte, masks a valid bit 11 (SDM vol. 3, 11.11.2.3). */
static int write_mtrr_var(struct emu_vcpu *c, uint32_t index, uint64_t value)
{
	uint64_t address = ((1ull << c->bvcpu->cpuid.phys_bits) - 1) & VC_PAGE_MASK;
	bool is_mask = index & 1;

	if (is_mask ? value & ~(address | 0x800)
	            : (value & ~(address | 0xff)) || (value & 0xff) > 7 || !(MTRR_TYPES >> (value & 7) & 1))
		return -EINVAL;
	c->s.mtrr_var[index - 0x200] = value;
	return 0;
}

static int write_mtrr_def(struct emu_vcpu *c, uint32_t index, uint64_t value)
{
	if ((value & ~0xcffull) || (value & 0xff) > 7 || !(MTRR_TYPES >> (value & 7) & 1))
		return -EINVAL;
	c->s.mtrr_def_type = value;
	return 0;
}

static int write_steal_time(struct emu_vcpu *c, uint32_t index, uint64_t value)
{
	if (value & 0x3e)
		return -EINVAL;
	c->s.kvm_steal_time = value;
	emu_pv_steal_start(c);
	return 0;
}

static int write_pv_eoi(struct emu_vcpu *c, uint32_t index, uint64_t value)
{
	if (value & 2 || !c->bvcpu->lapic)
		return -EINVAL;
	emu_pv_eoi_collect(c);
	c->s.kvm_pv_eoi = value;
	return 0;
}

static int write_system_time(struct emu_vcpu *c, uint32_t index, uint64_t value)
{
	c->s.kvm_system_time = value;
	emu_pv_write_clock(c);
	return 0;
}

static int write_wall_clock(struct emu_vcpu *c, uint32_t index, uint64_t value)
{
	c->s.kvm_wall_clock = value;
	emu_pv_write_wall_clock(c);
	return 0;
}

/* ---- the table ---- */

#define AT(field) offsetof(struct vc_cpu_state, field)

/* clang-format off */
static const struct msr msrs[] = {
	{MSR_TSC, 1, CUSTOM, VC_F_TSC, .read = read_tsc, .write = write_tsc},
	{0x11, 1, CUSTOM, VC_F_KVM_CLOCKSOURCE2, AT(kvm_wall_clock), .write = write_wall_clock},
	{0x12, 1, CUSTOM, VC_F_KVM_CLOCKSOURCE2, AT(kvm_system_time), .write = write_system_time},
	{0x17, 1, CONSTANT},                                                   /* IA32_PLATFORM_ID */
	{MSR_APIC_BASE, 1, CUSTOM, VC_F_APIC, .read = read_apic_base, .write = write_apic_base},
	{0x2a, 1, IGNORED},                                                    /* EBL_CR_POWERON */
	{0x3b, 1, CUSTOM, VC_F_TSC_ADJUST, AT(tsc_adjust), .write = write_tsc_adjust},
	{MSR_SPEC_CTRL, 1, PLAIN, VC_F_SPEC_CTRL, offsetof(struct vc_cpu_state, spec_ctrl), SPEC_CTRL_BITS},
	{MSR_PRED_CMD, 1, CUSTOM, VC_F_SPEC_CTRL, .read = read_nothing, .write = write_pred_cmd},
	{0x79, 1, IGNORED},                                                    /* IA32_BIOS_UPDT_TRIG */
	{0x8b, 1, IGNORED, .mask = 0x100000000},                               /* IA32_BIOS_SIGN_ID */
	{0xcd, 1, CONSTANT, .mask = 3},                                        /* FSB_FREQ */
	{MSR_MTRR_CAP, 1, CONSTANT, VC_F_MTRR, .mask = MTRR_CAP_VALUE},
	{MSR_ARCH_CAPABILITIES, 1, CONSTANT, VC_F_ARCH_CAPABILITIES, .mask = ARCH_CAPABILITIES_VALUE},
	{0x174, 1, PLAIN, VC_F_SEP, AT(sysenter_cs), .mask = UINT32_MAX},
	{0x175, 1, CANONICAL, VC_F_SEP, AT(sysenter_esp)},
	{0x176, 1, CANONICAL, VC_F_SEP, AT(sysenter_eip)},
	{0x179, 1, PLAIN, VC_F_MCA, AT(mcg_cap), .mask = 0},
	{0x17a, 1, PLAIN, VC_F_MCA, AT(mcg_status), .mask = 7},
	{0x1a0, 1, PLAIN, VC_F_NONE, AT(misc_enable), .mask = 0x400c51889},    /* IA32_MISC_ENABLE */
	{0x1d9, 1, CONSTANT},                                                  /* IA32_DEBUGCTL: no LBR, no BTF */
	{0x200, 16, CUSTOM, VC_F_MTRR, AT(mtrr_var[0]), .write = write_mtrr_var},
	{0x250, 1, TYPES, VC_F_MTRR, AT(mtrr_fixed[0]), MTRR_TYPES},
	{0x258, 2, TYPES, VC_F_MTRR, AT(mtrr_fixed[1]), MTRR_TYPES},
	{0x268, 8, TYPES, VC_F_MTRR, AT(mtrr_fixed[3]), MTRR_TYPES},
	{0x277, 1, TYPES, VC_F_PAT, AT(pat), PAT_TYPES},
	{0x2ff, 1, CUSTOM, VC_F_MTRR, AT(mtrr_def_type), .write = write_mtrr_def},
	{MSR_TSC_DEADLINE, 1, CUSTOM, VC_F_TSC_DEADLINE, .read = read_lapic, .write = write_lapic},
	{MSR_X2APIC_FIRST, MSR_X2APIC_LAST - MSR_X2APIC_FIRST + 1, CUSTOM, VC_F_X2APIC, .read = read_lapic, .write = write_lapic},
	{0xda0, 1, PLAIN, VC_F_XSAVES, AT(xss), .mask = 0},
	{0x4b564d00, 1, CUSTOM, VC_F_KVM_CLOCKSOURCE2, AT(kvm_wall_clock), .write = write_wall_clock},
	{0x4b564d01, 1, CUSTOM, VC_F_KVM_CLOCKSOURCE2, AT(kvm_system_time), .write = write_system_time},
	{0x4b564d03, 1, CUSTOM, VC_F_KVM_STEAL_TIME, AT(kvm_steal_time), .write = write_steal_time},
	{0x4b564d04, 1, CUSTOM, VC_F_KVM_PV_EOI, AT(kvm_pv_eoi), .write = write_pv_eoi},
	{0xc0000080, 1, CUSTOM, VC_F_NONE, AT(efer), .write = write_efer},
	{0xc0000081, 1, PLAIN, VC_F_SYSCALL, AT(star), .mask = UINT64_MAX},
	{0xc0000082, 1, CANONICAL, VC_F_LM, AT(lstar)},
	{0xc0000083, 1, CANONICAL, VC_F_LM, AT(cstar)},
	{0xc0000084, 1, PLAIN, VC_F_LM, AT(sfmask), .mask = UINT32_MAX},
	{0xc0000100, 2, CUSTOM, VC_F_LM, .read = read_base, .write = write_base},
	{0xc0000102, 1, CANONICAL, VC_F_LM, AT(kernel_gs_base)},
	{0xc0000103, 1, PLAIN, VC_F_RDTSCP, AT(tsc_aux), .mask = UINT32_MAX},
	/* AMD: what Linux touches on such a CPU without asking CPUID first */
	{0xc0010010, 1, IGNORED},                                              /* SYSCFG */
	{0xc0010015, 1, IGNORED},                                              /* HWCR */
	{0xc001001f, 1, IGNORED},                                              /* NB_CFG */
	{0xc0010020, 1, IGNORED},                                              /* PATCH_LOADER */
	{0xc0010055, 1, IGNORED},                                              /* interrupt pending message */
	{0xc0010058, 1, CONSTANT},                                             /* MMIO configuration base: none */
	{0xc0010114, 1, CONSTANT, .mask = 0x10},                               /* VM_CR: SVM disabled */
	{0xc0011022, 1, IGNORED},                                              /* DC_CFG */
	{0xc0011029, 1, IGNORED, .mask = 2},                                   /* DE_CFG: LFENCE serialises */
};
/* clang-format on */

static const struct msr *find(const struct emu_vcpu *c, uint32_t index)
{
	unsigned low = 0, high = VC_ARRAY_SIZE(msrs);

	while (low < high) {
		unsigned middle = (low + high) / 2;
		const struct msr *m = &msrs[middle];

		if (index < m->first)
			high = middle;
		else if (index - m->first >= m->count)
			low = middle + 1;
		else
			return m->feature == VC_F_NONE || emu_has(c, m->feature) ? m : NULL;
	}
	return NULL;
}

static uint64_t *field(struct emu_vcpu *c, const struct msr *m, uint32_t index)
{
	return (uint64_t *)((char *)&c->s + m->offset) + (index - m->first);
}

static bool valid_types(uint64_t value, uint64_t types)
{
	for (unsigned i = 0; i < 8; i++, value >>= 8)
		if ((value & 0xff) > 7 || !(types >> (value & 7) & 1))
			return false;
	return true;
}

static int write_field(struct emu_vcpu *c, const struct msr *m, uint32_t index, uint64_t value)
{
	bool allowed;

	switch (m->kind) {
	case PLAIN:
		allowed = !(value & ~m->mask);
		break;
	case CANONICAL:
		allowed = emu_canonical_register(c, value);
		break;
	case TYPES:
		allowed = valid_types(value, m->mask);
		break;
	case CONSTANT:
		return value == m->mask ? 0 : -EINVAL;
	default:
		return 0;
	}
	if (!allowed)
		return -EINVAL;
	*field(c, m, index) = value;
	return 0;
}

static int read_msr(struct emu_vcpu *c, uint32_t index, uint64_t *value)
{
	const struct msr *m = find(c, index);

	if (!m)
		return -ENOENT;
	if (m->read)
		return m->read(c, index, value);
	*value = m->kind == CONSTANT || m->kind == IGNORED ? m->mask : *field(c, m, index);
	return 0;
}

static int write_msr(struct emu_vcpu *c, uint32_t index, uint64_t value)
{
	const struct msr *m = find(c, index);

	if (!m)
		return -ENOENT;
	return m->kind == CUSTOM ? m->write(c, index, value) : write_field(c, m, index, value);
}

int emu_rdmsr(struct emu_vcpu *c, uint32_t index, uint64_t *value)
{
	return read_msr(c, index, value) < 0 ? -EINVAL : 0;
}

int emu_wrmsr(struct emu_vcpu *c, uint32_t index, uint64_t value)
{
	return write_msr(c, index, value) < 0 ? -EINVAL : 0;
}

int emu_backend_get_msr(struct vc_bvcpu *v, uint32_t index, uint64_t *value)
{
	int r = read_msr(emu_of(v), index, value);

	if (r == -ENOENT)
		return vc_fail(ENOENT, "vcpu %u has no MSR %#x", v->index, index);
	return r < 0 ? vc_fail(EINVAL, "MSR %#x cannot be read now", index) : 0;
}

int emu_backend_set_msr(struct vc_bvcpu *v, uint32_t index, uint64_t value)
{
	int r;

	vc_gate_enter(&v->pass);
	r = write_msr(emu_of(v), index, value);
	vc_gate_leave(&v->pass);
	if (r == -ENOENT)
		return vc_fail(ENOENT, "vcpu %u has no MSR %#x", v->index, index);
	return r < 0 ? vc_fail(EINVAL, "MSR %#x does not take %#llx", index, (unsigned long long)value) : 0;
}
