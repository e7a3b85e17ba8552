/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Backend kvm: the contract's row. */
#include "backend/kvm/kvm.h"

const struct vc_backend vc_backend_kvm = {
    .name = "kvm",
    .id = VCORE_BACKEND_KVM,
    .probe = kvm_probe,
    .cpu_features = kvm_cpu_features,
    .vm_create = kvm_vm_create,
    .vm_destroy = kvm_vm_destroy,
    .vcpu_create = kvm_vcpu_create,
    .vcpu_destroy = kvm_vcpu_destroy,
    .run = kvm_run,
    .notify = kvm_notify,
    .get_state = kvm_get_state,
    .set_state = kvm_set_state,
    .get_regs = kvm_get_regs,
    .set_regs = kvm_set_regs,
    .get_msr = kvm_get_msr,
    .set_msr = kvm_set_msr,
    .set_debug = kvm_set_debug,
    .interrupt = kvm_interrupt,
    .irq_sink = &kvm_irq_sink,
    .ioapic_changed = kvm_ioapic_changed,
    .ioeventfd = kvm_ioeventfd,
    .irqfd = kvm_irqfd,
    .coalesce = kvm_coalesce,
    .flush_coalesced = kvm_flush_coalesced,
    .hypercalls = kvm_hypercalls,
    .clock_changed = kvm_clock_changed,
    .hook_kinds = 1u << VCORE_HOOK_PORT,
    .reset = kvm_reset,
};
