/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Backend emu as lib/vm sees it: the vm's part, what follows changes of the memory map, and what guest CPUs can be had.
 */
#include <stdlib.h>

#include "backend/emu/jit/jit.h"
#include "backend/emu/lockstep.h"
#include "backend/emu/mmu/mmu.h"
#include "backend/emu/vcpu.h"

#define PHYS_BITS       46u
#define DEFAULT_TSC_KHZ 1000000u

/* ---- changes of the memory map: everybody is outside the gate, so TLBs of other vcpus may be touched ---- */

static struct emu_vcpu *vcpu_at(const struct vc_bvm *vm, uint32_t i)
{
	return vm->vcpu && vm->vcpu[i] ? emu_of(vm->vcpu[i]) : NULL;
}

static void flush_all(struct vc_bvm *vm)
{
	for (uint32_t i = 0; i < vm->vcpus; i++) {
		struct emu_vcpu *c = vcpu_at(vm, i);

		if (!c)
			continue;
		emu_tlb_flush_all(c);
		/* Decoded blocks point to page info of slots: the vcpu drops them before it looks at the next one. */
		vc_bvcpu_request(vm->vcpu[i], VC_REQ_TLB);
	}
	jit_flush(vm);
}

static int slot_added(void *ctx, struct vc_slot *slot)
{
	flush_all(ctx);
	return 0;
}

static void slot_removed(void *ctx, struct vc_slot *slot)
{
	flush_all(ctx);
}

/* Write tags hide stores from the dirty log. */
static int drop_writes(struct vc_bvm *vm)
{
	for (uint32_t i = 0; i < vm->vcpus; i++)
		if (vcpu_at(vm, i))
			emu_drop_writes(vcpu_at(vm, i));
	return 0;
}

static int log_dirty(void *ctx, struct vc_slot *slot, bool enable)
{
	return drop_writes(ctx);
}

/* The log is about to be cleared. */
static int sync_dirty(void *ctx, struct vc_slot *slot)
{
	return drop_writes(ctx);
}

static void written(void *ctx, struct vc_slot *slot, uint64_t gpa, uint64_t length)
{
	uint64_t end = gpa + length, next;

	/* once for all: a device of the host may have written anywhere in a slot */
	atomic_thread_fence(memory_order_seq_cst);
	for (; slot->pages && gpa < end; gpa = next) {
		struct vc_page_info *page = emu_page_info(slot, gpa);

		next = (gpa & VC_PAGE_MASK) + VC_PAGE_SIZE;
		if (next > end)
			next = end;
		if (atomic_load_explicit(&page->code_mask, memory_order_relaxed))
			emu_code_stored(ctx, page, gpa, (unsigned)(next - gpa));
	}
}

static const struct vc_mem_listener listener = {
    .add = slot_added,
    .remove = slot_removed,
    .log_dirty = log_dirty,
    .sync_dirty = sync_dirty,
    .written = written,
};

/* Hooks on memory are in the TLBs, by tags that are not there; those on code are in decoded blocks. */
static void hooks_changed(struct vc_bvm *vm, enum vcore_hook_kind kind)
{
	if (kind != VCORE_HOOK_PORT)
		flush_all(vm);
}

/* ---- the vm ---- */

static int vm_create(struct vc_bvm *vm)
{
	struct emu_vm *e;

	int r;

	e = calloc(1, sizeof *e);
	if (!e)
		return vc_fail(ENOMEM, "no memory for the vm");
	if (!vm->tsc_khz)
		vm->tsc_khz = DEFAULT_TSC_KHZ;
	vm->env.tsc_khz = vm->tsc_khz;
	if (vm->engine != VCORE_ENGINE_INTERP) {
		r = jit_vm_new(vm, &e->jit);
		if (r < 0) {
			free(e);
			return r;
		}
		e->jit->lockstep = vm->engine == VCORE_ENGINE_LOCKSTEP;
		e->promote = vm->engine == VCORE_ENGINE_PROMOTE ? EMU_PROMOTE_ALWAYS
		             : vm->engine == VCORE_ENGINE_AUTO  ? EMU_PROMOTE_HOT
		                                                : EMU_PROMOTE_NEVER;
		if (vm->engine == VCORE_ENGINE_AUTO)
			vm->engine = VCORE_ENGINE_JIT;
	}
	pthread_mutex_init(&e->tsc.lock, NULL);
	e->tsc.steady = emu_tsc_is_steady();
	vm->priv = e;
	vm->env.mem->gpa_limit = 1ull << PHYS_BITS;
	vm->env.mem->max_slots = 0;
	vm->env.mem->want_pages = true;
	vm->env.mem->listener_ctx = vm;
	vm->env.mem->listener = &listener;
	return 0;
}

static void vm_destroy(struct vc_bvm *vm)
{
	struct emu_vm *e = vm->priv;

	vm->env.mem->listener = NULL;
	jit_vm_free(e->jit);
	pthread_mutex_destroy(&e->tsc.lock);
	free(e);
	vm->priv = NULL;
}

/* The TSC is computed from the guest's clock, so only the copies in guest memory must be put right. */
static void clock_changed(struct vc_bvm *vm)
{
	for (uint32_t i = 0; i < vm->vcpus; i++)
		if (vcpu_at(vm, i))
			emu_pv_write_clock(vcpu_at(vm, i));
}

/* ---- the guest CPU ---- */

/* Given by the interpreter alone, whatever the host has. */
/* clang-format off */
static const uint8_t software_features[] = {
	VC_F_FPU, VC_F_VME, VC_F_DE, VC_F_PSE, VC_F_TSC, VC_F_MSR, VC_F_PAE, VC_F_MCE, VC_F_CX8, VC_F_APIC, VC_F_SEP,
	VC_F_MTRR, VC_F_PGE, VC_F_MCA, VC_F_CMOV, VC_F_PAT, VC_F_PSE36, VC_F_CLFSH, VC_F_FXSR, VC_F_HTT,
	VC_F_PCID, VC_F_X2APIC, VC_F_MOVBE, VC_F_TSC_DEADLINE, VC_F_HYPERVISOR, VC_F_ARAT,
	VC_F_FSGSBASE, VC_F_TSC_ADJUST, VC_F_SMEP, VC_F_ERMS, VC_F_INVPCID, VC_F_SMAP, VC_F_CLFLUSHOPT, VC_F_CLWB,
	VC_F_UMIP, VC_F_LA57, VC_F_RDPID, VC_F_FSRM, VC_F_POPCNT, VC_F_BMI1, VC_F_BMI2, VC_F_ADX, VC_F_LZCNT,
	VC_F_RDRAND, VC_F_RDSEED, VC_F_XSAVE, VC_F_XSAVEOPT, VC_F_XSAVEC, VC_F_XGETBV1, VC_F_XSAVES,
	VC_F_LAHF, VC_F_PREFETCHW, VC_F_SYSCALL, VC_F_NX, VC_F_PDPE1GB, VC_F_RDTSCP, VC_F_LM, VC_F_INVTSC,
	VC_F_KVM_CLOCKSOURCE2, VC_F_KVM_NOP_IO, VC_F_KVM_STEAL_TIME, VC_F_KVM_PV_EOI, VC_F_KVM_PV_UNHALT,
	VC_F_KVM_PV_SEND_IPI, VC_F_KVM_STABLE_CLOCK, VC_F_SPEC_CTRL,
	VC_F_ARCH_CAPABILITIES, VC_F_BHI_CTRL,
};
/* clang-format on */

/* The host has them, the interpreter does not: no protection keys; MWAIT would not see stores of other vcpus. */
static const uint8_t missing_features[] = {VC_F_PKU, VC_F_MONITOR};

static int cpu_features(struct vc_feature_set *features, uint32_t *phys_bits)
{
	vc_cpuid_host(features);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(software_features); i++)
		vc_feature_put(features, software_features[i], true);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(missing_features); i++)
		vc_feature_put(features, missing_features[i], false);
	*phys_bits = PHYS_BITS;
	return 0;
}

const struct vc_backend vc_backend_emu = {
    .name = "emu",
    .id = VCORE_BACKEND_EMU,
    .probe = emu_backend_probe,
    .cpu_features = cpu_features,
    .vm_create = vm_create,
    .vm_destroy = vm_destroy,
    .vcpu_create = emu_backend_vcpu_create,
    .vcpu_destroy = emu_backend_vcpu_destroy,
    .run = emu_backend_run,
    .notify = emu_backend_notify,
    .settle = emu_backend_settle,
    .get_state = emu_backend_get_state,
    .set_state = emu_backend_set_state,
    .get_msr = emu_backend_get_msr,
    .set_msr = emu_backend_set_msr,
    .set_debug = emu_backend_set_debug,
    .interrupt = emu_backend_interrupt,
    .op_count = jit_op_count,
    .clock_changed = clock_changed,
    .hook_kinds = 1u << VCORE_HOOK_CODE | 1u << VCORE_HOOK_BLOCK | 1u << VCORE_HOOK_MEMORY | 1u << VCORE_HOOK_PORT,
    .hooks_changed = hooks_changed,
    .reset = emu_backend_reset,
};
