/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The architectural state of one x86-64 vcpu: the struct that both backends speak and that snapshots will hold. */
#ifndef VC_CPU_STATE_H
#define VC_CPU_STATE_H

#include <stdbool.h>
#include <stdint.h>

enum vc_gpr {
	VC_RAX,
	VC_RCX,
	VC_RDX,
	VC_RBX,
	VC_RSP,
	VC_RBP,
	VC_RSI,
	VC_RDI,
	VC_R8,
	VC_R9,
	VC_R10,
	VC_R11,
	VC_R12,
	VC_R13,
	VC_R14,
	VC_R15
};
enum vc_sreg { VC_ES, VC_CS, VC_SS, VC_DS, VC_FS, VC_GS, VC_SEG_COUNT };

/* A segment register with its descriptor cache. attr as in SDM 24.4.1: type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, DB
 * 14, G 15. */
struct vc_segment {
	uint64_t base;
	uint32_t limit; /* bytes, granularity applied */
	uint16_t selector;
	uint16_t attr;
	uint32_t unusable;
	uint32_t pad;
};
#define VC_SEG_TYPE(attr) ((attr)&0xf)
#define VC_SEG_DPL(attr)  (((attr) >> 5) & 3)
#define VC_SEG_S          0x0010u
#define VC_SEG_P          0x0080u
#define VC_SEG_L          0x2000u
#define VC_SEG_DB         0x4000u
#define VC_SEG_G          0x8000u

struct vc_table {
	uint64_t base;
	uint16_t limit;
	uint16_t pad[3];
};

/* RFLAGS */
#define VC_FLAG_CF     0x1u
#define VC_FLAG_PF     0x4u
#define VC_FLAG_AF     0x10u
#define VC_FLAG_ZF     0x40u
#define VC_FLAG_SF     0x80u
#define VC_FLAG_TF     0x100u
#define VC_FLAG_IF     0x200u
#define VC_FLAG_DF     0x400u
#define VC_FLAG_OF     0x800u
#define VC_FLAG_IOPL   0x3000u
#define VC_FLAG_NT     0x4000u
#define VC_FLAG_RF     0x10000u
#define VC_FLAG_VM     0x20000u
#define VC_FLAG_AC     0x40000u
#define VC_FLAG_VIF    0x80000u
#define VC_FLAG_VIP    0x100000u
#define VC_FLAG_ID     0x200000u
#define VC_FLAGS_ARITH 0x8d5u /* CF PF AF ZF SF OF */

/* CR0 */
#define VC_CR0_PE 0x1u
#define VC_CR0_MP 0x2u
#define VC_CR0_EM 0x4u
#define VC_CR0_TS 0x8u
#define VC_CR0_ET 0x10u
#define VC_CR0_NE 0x20u
#define VC_CR0_WP 0x10000u
#define VC_CR0_AM 0x40000u
#define VC_CR0_NW 0x20000000u
#define VC_CR0_CD 0x40000000u
#define VC_CR0_PG 0x80000000u
/* CR4 */
#define VC_CR4_VME        0x1u
#define VC_CR4_PVI        0x2u
#define VC_CR4_TSD        0x4u
#define VC_CR4_DE         0x8u
#define VC_CR4_PSE        0x10u
#define VC_CR4_PAE        0x20u
#define VC_CR4_MCE        0x40u
#define VC_CR4_PGE        0x80u
#define VC_CR4_PCE        0x100u
#define VC_CR4_OSFXSR     0x200u
#define VC_CR4_OSXMMEXCPT 0x400u
#define VC_CR4_UMIP       0x800u
#define VC_CR4_LA57       0x1000u
#define VC_CR4_FSGSBASE   0x10000u
#define VC_CR4_PCIDE      0x20000u
#define VC_CR4_OSXSAVE    0x40000u
#define VC_CR4_SMEP       0x100000u
#define VC_CR4_SMAP       0x200000u
#define VC_CR4_PKE        0x400000u
/* EFER */
#define VC_EFER_SCE 0x1u
#define VC_EFER_LME 0x100u
#define VC_EFER_LMA 0x400u
#define VC_EFER_NXE 0x800u

/* Exception vectors */
enum vc_vector {
	VC_DE = 0,
	VC_DB = 1,
	VC_NMI = 2,
	VC_BP = 3,
	VC_OF = 4,
	VC_BR = 5,
	VC_UD = 6,
	VC_NM = 7,
	VC_DF = 8,
	VC_TS = 10,
	VC_NP = 11,
	VC_SSF = 12,
	VC_GP = 13,
	VC_PF = 14,
	VC_MF = 16,
	VC_AC = 17,
	VC_MC = 18,
	VC_XM = 19,
};

enum vc_mp_state {
	VC_MP_RUNNABLE = 0,
	VC_MP_HALTED = 1,
	VC_MP_WAIT_SIPI = 2, /* an AP after reset or INIT */
	VC_MP_UNINITIALIZED = 3,
};

/* Standard-format XSAVE area, SDM vol. 1, 13.4: legacy region at 0, header at 512, AVX high halves at 576. */
#define VC_XSAVE_SIZE 4096 /* room for what KVM_GET_XSAVE gives */
struct vc_xsave {
	union {
		uint8_t bytes[VC_XSAVE_SIZE];
		struct {
			uint16_t fcw, fsw;
			uint8_t ftw, reserved0;
			uint16_t fop;
			uint64_t fip, fdp;
			uint32_t mxcsr, mxcsr_mask;
			uint8_t st[8][16];
			uint8_t xmm[16][16];
			uint8_t reserved1[96];
			uint64_t xstate_bv, xcomp_bv, header_reserved[6];
			uint8_t ymm_hi[16][16];
		};
	};
} __attribute__((aligned(64)));
#define VC_XSTATE_X87 1u
#define VC_XSTATE_SSE 2u
#define VC_XSTATE_AVX 4u

struct vc_cpu_state {
	/* hot */
	uint64_t gpr[16];
	uint64_t rip;
	uint64_t rflags;
	struct vc_segment seg[VC_SEG_COUNT];
	uint64_t cr0, cr2, cr3, cr4, cr8;
	uint64_t efer, xcr0;
	struct vc_segment ldtr, tr;
	struct vc_table gdtr, idtr;
	uint64_t dr[4], dr6, dr7;

	/* MSRs with a field of their own */
	uint64_t apic_base;
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, tsc_aux, tsc_deadline, misc_enable, spec_ctrl, xss;
	uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_var[16];
	uint64_t mcg_status, mcg_ctl, mcg_cap;
	uint64_t kvm_system_time, kvm_wall_clock, kvm_steal_time, kvm_pv_eoi, kvm_async_pf, kvm_poll_control;
	uint64_t tsc_offset; /* guest TSC = vc TSC of the vm + offset (IA32_TSC writes, IA32_TSC_ADJUST) */
	uint64_t tsc_adjust;

	/* events */
	uint32_t mp_state; /* enum vc_mp_state */
	uint8_t sipi_vector;
	uint8_t shadow_sti, shadow_mov_ss; /* interrupt shadow */
	uint8_t nmi_masked, nmi_pending;
	uint8_t exception_pending, exception_vector, exception_has_error; /* raised, not yet delivered */
	uint8_t interrupt_injected, interrupt_vector, interrupt_soft;     /* accepted, not yet delivered */
	uint32_t exception_error;

	struct vc_xsave xsave;
};

/* Power-on (RESET) state, SDM vol. 3 table 9-1; bsp: runs from 0xfffffff0, otherwise waits for SIPI. */
void vc_cpu_state_reset(struct vc_cpu_state *state, bool bsp);
/* After INIT: as reset but x87/SSE/MSRs kept. */
void vc_cpu_state_init(struct vc_cpu_state *state);
/* After SIPI: CS = vector << 8, IP 0, runnable. */
void vc_cpu_state_sipi(struct vc_cpu_state *state, uint8_t vector);
/* Flat modes, see vcore_vcpu_set_mode(); page tables are the caller's matter. */
void vc_cpu_state_flat_real(struct vc_cpu_state *state);
void vc_cpu_state_flat32(struct vc_cpu_state *state);
void vc_cpu_state_long64(struct vc_cpu_state *state, uint64_t cr3);
/* 0, or -EINVAL with a sentence for a state no CPU can be in (PG without PE, LMA without PG, reserved bits...). */
int vc_cpu_state_check(const struct vc_cpu_state *state);

#endif
