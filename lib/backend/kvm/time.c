/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Guest time: the TSC, its deadlines and the kvmclock follow the vm's clock, which stands, goes on and is set.
 *
 * A vcpu's TSC is that of the vm, which follows from the clock, plus `tsc_ahead`. In the kernel both go on while the
 * clock stands, so what they were is kept here, and is given back when it goes on.
 */
#include "backend/kvm/kvm.h"

#define MSR_TSC          0x10
#define MSR_TSC_DEADLINE 0x6e0

uint64_t kvm_vm_tsc(const struct vc_bvm *vm)
{
	return vc_muldiv64(vc_clock_now(vm->env.clock), vm->tsc_khz, 1000000);
}

/* ---- the offset that the kernel adds to the host's TSC ---- */

/*
 * Written by its offset, a TSC is exactly what it should be, and those of several vcpus stay as far apart as they were:
 * a value written within a second of another one is taken for a try to make them equal (Linux Documentation/virt/kvm/
 * devices/vcpu.rst, KVM_VCPU_TSC_CTRL). False: not in this kernel.
 */
static bool tsc_offset(struct vc_bvcpu *v, unsigned long request, uint64_t *offset)
{
#ifdef KVM_VCPU_TSC_CTRL
	struct kvm_device_attr attr = {.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)offset};

	return kvm_ioctl_p(kvm_of(v)->fd, request, &attr) == 0;
#else
	return false;
#endif
}

/* The host's TSC as all vcpus of the vm see it, before their offsets. */
static bool host_tsc(struct vc_bvm *vm, uint64_t *tsc)
{
	uint64_t offset;

	if (!tsc_offset(vm->vcpu[0], KVM_GET_DEVICE_ATTR, &offset) || kvm_get_msr(vm->vcpu[0], MSR_TSC, tsc) < 0)
		return false;
	*tsc -= offset;
	return true;
}

static void stop_tscs(struct vc_bvm *vm)
{
	uint64_t host = 0, now = kvm_vm_tsc(vm), tsc = 0;
	bool exact = host_tsc(vm, &host);

	for (uint32_t i = 0; i < vm->vcpus; i++) {
		struct vc_bvcpu *v = vm->vcpu[i];
		uint64_t offset;

		if (exact && tsc_offset(v, KVM_GET_DEVICE_ATTR, &offset))
			tsc = host + offset;
		else
			kvm_get_msr(v, MSR_TSC, &tsc);
		kvm_of(v)->tsc_ahead = tsc - now;
	}
}

static void start_tscs(struct vc_bvm *vm)
{
	uint64_t host = 0, now;
	bool exact = host_tsc(vm, &host);

	now = kvm_vm_tsc(vm);
	for (uint32_t i = 0; i < vm->vcpus; i++) {
		struct vc_bvcpu *v = vm->vcpu[i];
		uint64_t tsc = now + kvm_of(v)->tsc_ahead, offset = tsc - host;

		if (!exact || !tsc_offset(v, KVM_SET_DEVICE_ATTR, &offset))
			kvm_set_msr(v, MSR_TSC, tsc);
	}
}

uint64_t kvm_get_tsc_ahead(struct vc_bvcpu *v)
{
	uint64_t tsc = 0;

	if (kvm_vm_of(v->vm)->stopped)
		return kvm_of(v)->tsc_ahead;
	kvm_get_msr(v, MSR_TSC, &tsc);
	return tsc - kvm_vm_tsc(v->vm);
}

void kvm_set_tsc_ahead(struct vc_bvcpu *v, uint64_t ahead)
{
	kvm_of(v)->tsc_ahead = ahead;
	if (!kvm_vm_of(v->vm)->stopped)
		kvm_set_msr(v, MSR_TSC, kvm_vm_tsc(v->vm) + ahead);
}

/* ---- deadlines: of a LAPIC in the kernel, which arms its timer by the TSC at that moment ---- */

uint64_t kvm_get_deadline(struct vc_bvcpu *v)
{
	uint64_t deadline = 0;

	if (kvm_vm_of(v->vm)->stopped)
		return kvm_of(v)->deadline;
	if (kvm_in_kernel_lapic(v->vm))
		kvm_get_msr(v, MSR_TSC_DEADLINE, &deadline);
	return deadline;
}

void kvm_set_deadline(struct vc_bvcpu *v, uint64_t deadline)
{
	bool stopped = kvm_vm_of(v->vm)->stopped;

	if (!kvm_in_kernel_lapic(v->vm))
		return;
	kvm_of(v)->deadline = deadline;
	/* 0 disarms; where that MSR is not known, there is nothing to disarm */
	kvm_set_msr(v, MSR_TSC_DEADLINE, stopped ? 0 : deadline);
}

/* ---- all of it ---- */

static void stop_time(struct vc_bvm *vm)
{
	struct kvm_vm *k = kvm_vm_of(vm);
	struct kvm_clock_data clock = {0};

	if (kvm_ioctl_p(k->vm_fd, KVM_GET_CLOCK, &clock) == 0)
		k->clock_ahead = clock.clock - vc_clock_now(vm->env.clock);
	stop_tscs(vm);
	for (uint32_t i = 0; i < vm->vcpus; i++)
		kvm_of(vm->vcpu[i])->deadline = kvm_get_deadline(vm->vcpu[i]);
	k->stopped = true;
}

static void start_time(struct vc_bvm *vm)
{
	struct kvm_vm *k = kvm_vm_of(vm);
	struct kvm_clock_data clock = {.clock = vc_clock_now(vm->env.clock) + k->clock_ahead};

	k->stopped = false;
	kvm_ioctl_p(k->vm_fd, KVM_SET_CLOCK, &clock);
	start_tscs(vm);
	/* what ended meanwhile by a TSC that went on did not end */
	for (uint32_t i = 0; i < vm->vcpus; i++)
		if (kvm_of(vm->vcpu[i])->deadline)
			kvm_set_deadline(vm->vcpu[i], kvm_of(vm->vcpu[i])->deadline);
}

void kvm_clock_changed(struct vc_bvm *vm)
{
	bool stopped = atomic_load(&vm->env.clock->frozen_at) != UINT64_MAX;

	if (stopped == kvm_vm_of(vm)->stopped)
		return;
	if (stopped)
		stop_time(vm);
	else
		start_time(vm);
}
