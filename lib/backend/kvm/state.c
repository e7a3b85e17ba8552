/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The architectural state to and from KVM. */
#include <stdlib.h>

#include "backend/kvm/kvm.h"

/* MSRs that have a field in struct vc_cpu_state. */
#define FIELD(index, member)                         \
	{                                                \
		index, offsetof(struct vc_cpu_state, member) \
	}
static const struct {
	uint32_t index;
	size_t offset;
} msr_fields[] = {
    FIELD(0xc0000081, star),
    FIELD(0xc0000082, lstar),
    FIELD(0xc0000083, cstar),
    FIELD(0xc0000084, sfmask),
    FIELD(0xc0000102, kernel_gs_base),
    FIELD(0xc0000103, tsc_aux),
    FIELD(0x174, sysenter_cs),
    FIELD(0x175, sysenter_esp),
    FIELD(0x176, sysenter_eip),
    FIELD(0x277, pat),
    FIELD(0x1a0, misc_enable),
    FIELD(0x48, spec_ctrl),
    FIELD(0xda0, xss),
    FIELD(0x3b, tsc_adjust),
    FIELD(0x17a, mcg_status),
    FIELD(0x17b, mcg_ctl),
    FIELD(0x4b564d01, kvm_system_time),
    FIELD(0x4b564d00, kvm_wall_clock),
    FIELD(0x4b564d03, kvm_steal_time),
    FIELD(0x4b564d04, kvm_pv_eoi),
    FIELD(0x4b564d02, kvm_async_pf),
    FIELD(0x4b564d05, kvm_poll_control),
    FIELD(0x2ff, mtrr_def_type),
    FIELD(0x250, mtrr_fixed[0]),
    FIELD(0x258, mtrr_fixed[1]),
    FIELD(0x259, mtrr_fixed[2]),
    FIELD(0x268, mtrr_fixed[3]),
    FIELD(0x269, mtrr_fixed[4]),
    FIELD(0x26a, mtrr_fixed[5]),
    FIELD(0x26b, mtrr_fixed[6]),
    FIELD(0x26c, mtrr_fixed[7]),
    FIELD(0x26d, mtrr_fixed[8]),
    FIELD(0x26e, mtrr_fixed[9]),
    FIELD(0x26f, mtrr_fixed[10]),
};
#undef FIELD
#define MTRR_VAR_FIRST 0x200
#define MTRR_VAR_COUNT 16
#define MSRS_MAX       (VC_ARRAY_SIZE(msr_fields) + MTRR_VAR_COUNT)

struct msrs {
	struct kvm_msrs head;
	struct kvm_msr_entry entries[MSRS_MAX];
};

/* ---- one MSR ---- */

int kvm_get_msr(struct vc_bvcpu *v, uint32_t index, uint64_t *value)
{
	struct msrs m = {.head.nmsrs = 1, .entries[0].index = index};
	int r = kvm_ioctl_p(kvm_of(v)->fd, KVM_GET_MSRS, &m);

	*value = m.entries[0].data;
	return r == 1 ? 0 : -ENOENT;
}

int kvm_set_msr(struct vc_bvcpu *v, uint32_t index, uint64_t value)
{
	struct msrs m = {.head.nmsrs = 1, .entries[0] = {.index = index, .data = value}};
	uint64_t old;

	if (kvm_ioctl_p(kvm_of(v)->fd, KVM_SET_MSRS, &m) == 1)
		return 0;
	return kvm_get_msr(v, index, &old) < 0 ? -ENOENT : -EINVAL;
}

/* ---- all of them ---- */

static bool host_has(const struct kvm_vm *k, uint32_t index)
{
	/* variable MTRRs are always there, but the list names only the others */
	if (index >= MTRR_VAR_FIRST && index < MTRR_VAR_FIRST + MTRR_VAR_COUNT)
		return true;
	for (uint32_t i = 0; i < k->msr_list->nmsrs; i++)
		if (k->msr_list->indices[i] == index)
			return true;
	/* MTRRs, which every KVM with that feature has */
	return (index >= 0x250 && index <= 0x26f) || index == 0x2ff;
}

/* The guest's own model decides too: MSRs of hidden features answer nothing. */
static void msr_indices(const struct vc_bvcpu *v, struct msrs *m, uint64_t *fields[MSRS_MAX],
                        struct vc_cpu_state *state)
{
	const struct kvm_vm *k = kvm_vm_of(v->vm);
	uint32_t n = 0;

	for (size_t i = 0; i < VC_ARRAY_SIZE(msr_fields); i++)
		if (host_has(k, msr_fields[i].index)) {
			m->entries[n].index = msr_fields[i].index;
			fields[n++] = (uint64_t *)((char *)state + msr_fields[i].offset);
		}
	for (uint32_t i = 0; i < MTRR_VAR_COUNT; i++) {
		m->entries[n].index = MTRR_VAR_FIRST + i;
		fields[n++] = &state->mtrr_var[i];
	}
	m->head.nmsrs = n;
}

/* KVM stops at the first MSR it refuses: take that one out and go on. */
static void transfer_msrs(struct vc_bvcpu *v, unsigned long request, struct msrs *m, uint64_t *fields[MSRS_MAX])
{
	for (;;) {
		uint32_t n = m->head.nmsrs;
		int done = n ? kvm_ioctl_p(kvm_of(v)->fd, request, m) : 0;

		if (done < 0 || (uint32_t)done >= n)
			return;
		memmove(&m->entries[done], &m->entries[done + 1], (n - (uint32_t)done - 1) * sizeof m->entries[0]);
		memmove(&fields[done], &fields[done + 1], (n - (uint32_t)done - 1) * sizeof fields[0]);
		m->head.nmsrs = n - 1;
	}
}

static void get_msrs(struct vc_bvcpu *v, struct vc_cpu_state *state)
{
	uint64_t *fields[MSRS_MAX];
	struct msrs m = {0};

	msr_indices(v, &m, fields, state);
	transfer_msrs(v, KVM_GET_MSRS, &m, fields);
	for (uint32_t i = 0; i < m.head.nmsrs; i++)
		*fields[i] = m.entries[i].data;
	if (kvm_in_kernel_lapic(v->vm))
		state->tsc_deadline = kvm_get_deadline(v);
	state->tsc_offset = kvm_get_tsc_ahead(v);
	kvm_of(v)->tsc_seen = state->tsc_offset;
}

static void set_msrs(struct vc_bvcpu *v, struct vc_cpu_state *state)
{
	struct kvm_vcpu *k = kvm_of(v);
	uint64_t *fields[MSRS_MAX];
	struct msrs m = {0};

	msr_indices(v, &m, fields, state);
	for (uint32_t i = 0; i < m.head.nmsrs; i++)
		m.entries[i].data = *fields[i];
	transfer_msrs(v, KVM_SET_MSRS, &m, fields);
	/* written only when somebody changed it: a rewrite would lose the time in between */
	if (kvm_vm_of(v->vm)->stopped || state->tsc_offset != k->tsc_seen) {
		kvm_set_tsc_ahead(v, state->tsc_offset);
		k->tsc_seen = state->tsc_offset;
	}
	/* by the TSC that is now right */
	kvm_set_deadline(v, state->tsc_deadline);
}

/* ---- registers ---- */

/* Our order is that of the encoding; KVM's is rax rbx rcx rdx rsi rdi rsp rbp r8... */
static void gpr_from_kvm(uint64_t gpr[16], const struct kvm_regs *k)
{
	const uint64_t in[16] = {k->rax, k->rcx, k->rdx, k->rbx, k->rsp, k->rbp, k->rsi, k->rdi,
	                         k->r8,  k->r9,  k->r10, k->r11, k->r12, k->r13, k->r14, k->r15};

	memcpy(gpr, in, sizeof in);
}

static void gpr_to_kvm(struct kvm_regs *k, const uint64_t gpr[16], uint64_t rip, uint64_t rflags)
{
	*k = (struct kvm_regs){
	    .rax = gpr[VC_RAX],
	    .rcx = gpr[VC_RCX],
	    .rdx = gpr[VC_RDX],
	    .rbx = gpr[VC_RBX],
	    .rsp = gpr[VC_RSP],
	    .rbp = gpr[VC_RBP],
	    .rsi = gpr[VC_RSI],
	    .rdi = gpr[VC_RDI],
	    .r8 = gpr[VC_R8],
	    .r9 = gpr[VC_R9],
	    .r10 = gpr[VC_R10],
	    .r11 = gpr[VC_R11],
	    .r12 = gpr[VC_R12],
	    .r13 = gpr[VC_R13],
	    .r14 = gpr[VC_R14],
	    .r15 = gpr[VC_R15],
	    .rip = rip,
	    .rflags = rflags,
	};
}

int kvm_get_regs(struct vc_bvcpu *v, uint64_t gpr[16], uint64_t *rip, uint64_t *rflags)
{
	struct kvm_regs k;

	if (kvm_ioctl_p(kvm_of(v)->fd, KVM_GET_REGS, &k) < 0)
		return vc_fail_errno(errno, "KVM_GET_REGS of vcpu %u", v->index);
	gpr_from_kvm(gpr, &k);
	*rip = k.rip;
	*rflags = k.rflags;
	return 0;
}

int kvm_set_regs(struct vc_bvcpu *v, const uint64_t gpr[16], uint64_t rip, uint64_t rflags)
{
	struct kvm_run *run = kvm_of(v)->run;
	struct kvm_regs k;

	if (kvm_of(v)->io_open && kvm_ioctl_p(kvm_of(v)->fd, KVM_GET_REGS, &k) == 0 && k.rip != rip)
		kvm_abandon_access(v);
	/* what the last exit said of interrupts is no longer so */
	run->ready_for_interrupt_injection = run->if_flag = 0;
	gpr_to_kvm(&k, gpr, rip, rflags);
	return kvm_ioctl_p(kvm_of(v)->fd, KVM_SET_REGS, &k) < 0 ? vc_fail_errno(errno, "KVM_SET_REGS of vcpu %u", v->index)
	                                                        : 0;
}

static void segment_from_kvm(struct vc_segment *s, const struct kvm_segment *k)
{
	*s = (struct vc_segment){
	    .base = k->base,
	    .limit = k->limit,
	    .selector = k->selector,
	    .attr = (uint16_t)(k->type | k->s << 4 | k->dpl << 5 | k->present << 7 | k->avl << 12 | k->l << 13 |
	                       k->db << 14 | k->g << 15),
	    .unusable = k->unusable,
	};
}

static void segment_to_kvm(struct kvm_segment *k, const struct vc_segment *s)
{
	*k = (struct kvm_segment){
	    .base = s->base,
	    .limit = s->limit,
	    .selector = s->selector,
	    .type = VC_SEG_TYPE(s->attr),
	    .s = !!(s->attr & VC_SEG_S),
	    .dpl = VC_SEG_DPL(s->attr),
	    .present = !!(s->attr & VC_SEG_P),
	    .avl = s->attr >> 12 & 1,
	    .l = !!(s->attr & VC_SEG_L),
	    .db = !!(s->attr & VC_SEG_DB),
	    .g = !!(s->attr & VC_SEG_G),
	    .unusable = (uint8_t)(s->unusable != 0),
	};
}

/* Pairs of a segment in our state and in KVM's. */
#define SEGMENTS(X)   \
	X(seg[VC_ES], es) \
	X(seg[VC_CS], cs) X(seg[VC_SS], ss) X(seg[VC_DS], ds) X(seg[VC_FS], fs) X(seg[VC_GS], gs) X(ldtr, ldt) X(tr, tr)

static void sregs_from_kvm(struct vc_cpu_state *s, const struct kvm_sregs *k)
{
#define X(ours, theirs) segment_from_kvm(&s->ours, &k->theirs);
	SEGMENTS(X)
#undef X
	s->gdtr = (struct vc_table){.base = k->gdt.base, .limit = k->gdt.limit};
	s->idtr = (struct vc_table){.base = k->idt.base, .limit = k->idt.limit};
	s->cr0 = k->cr0;
	s->cr2 = k->cr2;
	s->cr3 = k->cr3;
	s->cr4 = k->cr4;
	s->cr8 = k->cr8;
	s->efer = k->efer;
	s->apic_base = k->apic_base;
}

static void sregs_to_kvm(struct kvm_sregs *k, const struct vc_cpu_state *s)
{
	*k = (struct kvm_sregs){0};
#define X(ours, theirs) segment_to_kvm(&k->theirs, &s->ours);
	SEGMENTS(X)
#undef X
	k->gdt = (struct kvm_dtable){.base = s->gdtr.base, .limit = s->gdtr.limit};
	k->idt = (struct kvm_dtable){.base = s->idtr.base, .limit = s->idtr.limit};
	k->cr0 = s->cr0;
	k->cr2 = s->cr2;
	k->cr3 = s->cr3;
	k->cr4 = s->cr4;
	k->cr8 = s->cr8;
	k->efer = s->efer;
	k->apic_base = s->apic_base;
}

/* ---- x87, SSE, AVX ---- */

_Static_assert(sizeof(struct kvm_xsave) == VC_XSAVE_SIZE, "KVM_GET_XSAVE's area");

static int get_xsave(struct vc_bvcpu *v, struct vc_cpu_state *s)
{
	struct kvm_xcrs xcrs = {0};
	int fd = kvm_of(v)->fd;

	if (kvm_ioctl_p(fd, KVM_GET_XSAVE, &s->xsave) < 0)
		return vc_fail_errno(errno, "KVM_GET_XSAVE");
	s->xcr0 = VC_XSTATE_X87;
	if (kvm_ioctl_p(fd, KVM_GET_XCRS, &xcrs) == 0 && xcrs.nr_xcrs)
		s->xcr0 = xcrs.xcrs[0].value;
	return 0;
}

static int set_xsave(struct vc_bvcpu *v, const struct vc_cpu_state *s)
{
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0] = {.xcr = 0, .value = s->xcr0}};
	int fd = kvm_of(v)->fd;

	if (vc_feature_has(&v->cpuid.features, VC_F_XSAVE) && kvm_ioctl_p(fd, KVM_SET_XCRS, &xcrs) < 0)
		return vc_fail_errno(errno, "KVM_SET_XCRS %#llx", (unsigned long long)s->xcr0);
	return kvm_ioctl_p(fd, KVM_SET_XSAVE, &s->xsave) < 0 ? vc_fail_errno(errno, "KVM_SET_XSAVE") : 0;
}

/* ---- events and the rest ---- */

static int get_events(struct vc_bvcpu *v, struct vc_cpu_state *s)
{
	struct kvm_vcpu_events e = {0};

	if (kvm_ioctl_p(kvm_of(v)->fd, KVM_GET_VCPU_EVENTS, &e) < 0)
		return vc_fail_errno(errno, "KVM_GET_VCPU_EVENTS");
	s->shadow_sti = !!(e.interrupt.shadow & KVM_X86_SHADOW_INT_STI);
	s->shadow_mov_ss = !!(e.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS);
	s->nmi_masked = e.nmi.masked;
	s->nmi_pending = e.nmi.pending || e.nmi.injected;
	s->exception_pending = e.exception.injected;
	s->exception_vector = e.exception.nr;
	s->exception_has_error = e.exception.has_error_code;
	s->exception_error = e.exception.error_code;
	s->interrupt_injected = e.interrupt.injected;
	s->interrupt_vector = e.interrupt.nr;
	s->interrupt_soft = e.interrupt.soft;
	s->sipi_vector = (uint8_t)e.sipi_vector;
	return 0;
}

static int set_events(struct vc_bvcpu *v, const struct vc_cpu_state *s)
{
	struct kvm_vcpu_events e = {
	    .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SIPI_VECTOR,
	    .interrupt.shadow = (uint8_t)((s->shadow_sti ? KVM_X86_SHADOW_INT_STI : 0) |
	                                  (s->shadow_mov_ss ? KVM_X86_SHADOW_INT_MOV_SS : 0)),
	    .nmi.masked = s->nmi_masked,
	    .nmi.pending = s->nmi_pending,
	    .exception.injected = s->exception_pending,
	    .exception.nr = s->exception_vector,
	    .exception.has_error_code = s->exception_has_error,
	    .exception.error_code = s->exception_error,
	    .interrupt.injected = s->interrupt_injected,
	    .interrupt.nr = s->interrupt_vector,
	    .interrupt.soft = s->interrupt_soft,
	    .sipi_vector = s->sipi_vector,
	};

	return kvm_ioctl_p(kvm_of(v)->fd, KVM_SET_VCPU_EVENTS, &e) < 0 ? vc_fail_errno(errno, "KVM_SET_VCPU_EVENTS") : 0;
}

static int get_debug_regs(struct vc_bvcpu *v, struct vc_cpu_state *s)
{
	struct kvm_debugregs d = {0};

	if (kvm_ioctl_p(kvm_of(v)->fd, KVM_GET_DEBUGREGS, &d) < 0)
		return vc_fail_errno(errno, "KVM_GET_DEBUGREGS");
	memcpy(s->dr, d.db, sizeof s->dr);
	s->dr6 = d.dr6;
	s->dr7 = d.dr7;
	return 0;
}

static int set_debug_regs(struct vc_bvcpu *v, const struct vc_cpu_state *s)
{
	struct kvm_debugregs d = {.dr6 = s->dr6, .dr7 = s->dr7};

	memcpy(d.db, s->dr, sizeof d.db);
	return kvm_ioctl_p(kvm_of(v)->fd, KVM_SET_DEBUGREGS, &d) < 0 ? vc_fail_errno(errno, "KVM_SET_DEBUGREGS") : 0;
}

static const uint32_t mp_to_kvm[] = {
    [VC_MP_RUNNABLE] = KVM_MP_STATE_RUNNABLE,
    [VC_MP_HALTED] = KVM_MP_STATE_HALTED,
    [VC_MP_WAIT_SIPI] =
        KVM_MP_STATE_UNINITIALIZED, /* KVM takes a SIPI there only after INIT, which is what software sends */
    [VC_MP_UNINITIALIZED] = KVM_MP_STATE_UNINITIALIZED,
};

static int get_mp_state(struct vc_bvcpu *v, struct vc_cpu_state *s)
{
	struct kvm_mp_state mp = {0};

	s->mp_state = kvm_of(v)->mp_state;
	if (!kvm_in_kernel_lapic(v->vm))
		return 0;
	if (kvm_ioctl_p(kvm_of(v)->fd, KVM_GET_MP_STATE, &mp) < 0)
		return vc_fail_errno(errno, "KVM_GET_MP_STATE");
	s->mp_state = mp.mp_state == KVM_MP_STATE_HALTED          ? VC_MP_HALTED
	              : mp.mp_state == KVM_MP_STATE_UNINITIALIZED ? VC_MP_UNINITIALIZED
	              : mp.mp_state == KVM_MP_STATE_INIT_RECEIVED ? VC_MP_WAIT_SIPI
	                                                          : VC_MP_RUNNABLE;
	return 0;
}

static int set_mp_state(struct vc_bvcpu *v, const struct vc_cpu_state *s)
{
	struct kvm_mp_state mp = {.mp_state = mp_to_kvm[s->mp_state]};

	kvm_of(v)->mp_state = s->mp_state;
	if (!kvm_in_kernel_lapic(v->vm))
		return 0;
	return kvm_ioctl_p(kvm_of(v)->fd, KVM_SET_MP_STATE, &mp) < 0
	           ? vc_fail_errno(errno, "KVM_SET_MP_STATE %u", mp.mp_state)
	           : 0;
}

int kvm_get_state(struct vc_bvcpu *v, struct vc_cpu_state *s)
{
	struct kvm_sregs sregs;
	int r;

	memset(s, 0, sizeof *s);
	r = kvm_get_regs(v, s->gpr, &s->rip, &s->rflags);
	if (r < 0)
		return r;
	if (kvm_ioctl_p(kvm_of(v)->fd, KVM_GET_SREGS, &sregs) < 0)
		return vc_fail_errno(errno, "KVM_GET_SREGS");
	sregs_from_kvm(s, &sregs);
	r = get_xsave(v, s);
	if (r >= 0)
		r = get_debug_regs(v, s);
	if (r >= 0)
		r = get_mp_state(v, s);
	if (r >= 0)
		r = get_events(v, s);
	if (r >= 0)
		get_msrs(v, s);
	return r;
}

/*
 * SPLIT: what the kernel would say after an exit. A vcpu that is halted inside it makes none by itself, and an
 * interrupt of the library's 8259s would wait for ever.
 */
static void allow_injection(struct vc_bvcpu *v, const struct vc_cpu_state *s)
{
	struct kvm_run *run = kvm_of(v)->run;

	run->if_flag = !!(s->rflags & VC_FLAG_IF);
	run->ready_for_interrupt_injection =
	    run->if_flag && !s->shadow_sti && !s->shadow_mov_ss && !s->interrupt_injected && !s->exception_pending;
}

int kvm_set_state(struct vc_bvcpu *v, const struct vc_cpu_state *state)
{
	struct vc_cpu_state *s = (struct vc_cpu_state *)(uintptr_t)state; /* only read */
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	int r;

	/* before anything is set, for it ends an instruction */
	if (kvm_of(v)->io_open && kvm_ioctl_p(kvm_of(v)->fd, KVM_GET_REGS, &regs) == 0 && regs.rip != s->rip)
		kvm_abandon_access(v);
	r = set_xsave(v, s);
	if (r < 0)
		return r;
	sregs_to_kvm(&sregs, s);
	if (kvm_ioctl_p(kvm_of(v)->fd, KVM_SET_SREGS, &sregs) < 0)
		return vc_fail_errno(errno, "KVM_SET_SREGS");
	r = kvm_set_regs(v, s->gpr, s->rip, s->rflags);
	if (r >= 0)
		set_msrs(v, s);
	if (r >= 0)
		r = set_debug_regs(v, s);
	if (r >= 0)
		r = set_mp_state(v, s);
	if (r >= 0)
		r = set_events(v, s);
	if (r >= 0 && kvm_in_kernel_lapic(v->vm))
		allow_injection(v, s);
	return r;
}
