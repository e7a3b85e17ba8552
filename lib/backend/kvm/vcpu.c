/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A vcpu as KVM has it: birth, CPUID, debugging, injection. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend/kvm/kvm.h"

static uint32_t *find_register(struct vc_cpuid *c, uint32_t leaf, enum vc_cpuid_reg reg)
{
	for (uint32_t i = 0; i < c->count; i++)
		if (c->entries[i].leaf == leaf && c->entries[i].subleaf == 0)
			return &c->entries[i].regs[reg];
	return NULL;
}

/* Without a LAPIC in the kernel these MSRs end nowhere. */
static void hide_kernel_lapic(struct vc_cpuid *c)
{
	uint32_t *ecx = find_register(c, 1, VC_ECX), *pv = find_register(c, 0x40000001, VC_EAX);

	vc_feature_put(&c->features, VC_F_X2APIC, false);
	vc_feature_put(&c->features, VC_F_TSC_DEADLINE, false);
	vc_feature_put(&c->features, VC_F_KVM_PV_EOI, false);
	if (ecx)
		*ecx &= ~(1u << 21 | 1u << 24);
	if (pv)
		*pv &= ~(1u << 6);
}

static int set_cpuid(struct vc_bvcpu *v)
{
	const struct vc_cpuid *c = &v->cpuid;
	struct kvm_cpuid2 *k;
	int r;

	if (!kvm_in_kernel_lapic(v->vm))
		hide_kernel_lapic(&v->cpuid);
	k = calloc(1, sizeof *k + c->count * sizeof k->entries[0]);
	if (!k)
		return vc_fail(ENOMEM, "kvm: no memory for the CPUID table");
	k->nent = c->count;
	for (uint32_t i = 0; i < c->count; i++)
		k->entries[i] = (struct kvm_cpuid_entry2){
		    .function = c->entries[i].leaf,
		    .index = c->entries[i].subleaf,
		    .flags = c->entries[i].has_subleaf ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
		    .eax = c->entries[i].regs[VC_EAX],
		    .ebx = c->entries[i].regs[VC_EBX],
		    .ecx = c->entries[i].regs[VC_ECX],
		    .edx = c->entries[i].regs[VC_EDX],
		};
	r = kvm_ioctl_p(kvm_of(v)->fd, KVM_SET_CPUID2, k) < 0 ? vc_fail_errno(errno, "KVM_SET_CPUID2") : 0;
	free(k);
	return r;
}

static int open_vcpu(struct vc_bvcpu *v)
{
	struct kvm_vm *vm = kvm_vm_of(v->vm);
	struct kvm_vcpu *k = kvm_of(v);
	void *p;

	k->fd = kvm_ioctl(vm->vm_fd, KVM_CREATE_VCPU, v->index);
	if (k->fd < 0)
		return vc_fail_errno(errno, "KVM_CREATE_VCPU %u", v->index);
	p = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, k->fd, 0);
	if (p == MAP_FAILED)
		return vc_fail_errno(errno, "mapping vcpu %u", v->index);
	k->run = p;
	if (kvm_in_kernel_lapic(v->vm) && kvm_ioctl_p(k->fd, KVM_GET_LAPIC, &k->lapic) < 0)
		return vc_fail_errno(errno, "KVM_GET_LAPIC");
	return 0;
}

int kvm_vcpu_create(struct vc_bvcpu *v)
{
	struct vc_cpu_state *state = malloc(sizeof *state);
	struct kvm_vcpu *k = calloc(1, sizeof *k);
	int r;

	if (!k || !state) {
		free(k);
		free(state);
		return vc_fail(ENOMEM, "no memory for a KVM vcpu");
	}
	k->fd = -1;
	k->interrupt = -1;
	v->priv = k;
	r = open_vcpu(v);
	if (r >= 0)
		r = set_cpuid(v);
	if (r >= 0) {
		vc_cpu_state_reset(state, v->index == 0);
		r = kvm_set_state(v, state);
	}
	free(state);
	if (r < 0)
		kvm_vcpu_destroy(v);
	return r;
}

void kvm_vcpu_destroy(struct vc_bvcpu *v)
{
	struct kvm_vcpu *k = kvm_of(v);

	if (k->run)
		munmap(k->run, kvm_vm_of(v->vm)->run_size);
	if (k->fd >= 0)
		close(k->fd);
	free(k);
	v->priv = NULL;
}

int kvm_set_debug(struct vc_bvcpu *v, const struct vcore_debug *debug)
{
	struct kvm_guest_debug d = {0};

	if (debug->flags)
		d.control = KVM_GUESTDBG_ENABLE | (debug->flags & VCORE_DEBUG_SINGLE_STEP ? KVM_GUESTDBG_SINGLESTEP : 0) |
		            (debug->flags & VCORE_DEBUG_SW_BREAK ? KVM_GUESTDBG_USE_SW_BP : 0) |
		            (debug->flags & VCORE_DEBUG_HW_BREAK ? KVM_GUESTDBG_USE_HW_BP : 0);
	memcpy(d.arch.debugreg, debug->dr, sizeof debug->dr);
	d.arch.debugreg[7] = debug->dr7;
	if (kvm_ioctl_p(kvm_of(v)->fd, KVM_SET_GUEST_DEBUG, &d) < 0)
		return vc_fail_errno(errno == EINVAL ? ENOTSUP : errno, "KVM_SET_GUEST_DEBUG %#x", d.control);
	kvm_of(v)->debug = *debug;
	return 0;
}

int kvm_interrupt(struct vc_bvcpu *v, uint8_t vector)
{
	int none = -1;

	if (!atomic_compare_exchange_strong(&kvm_of(v)->interrupt, &none, vector))
		return -EBUSY;
	vc_bvcpu_request(v, VC_REQ_IRQ);
	return 0;
}

/* Whether an instruction breakpoint is among those that DR6 names. */
static bool breaks_before(const struct vcore_debug *debug, uint64_t dr6)
{
	for (unsigned i = 0; i < 4; i++)
		if ((dr6 >> i & 1) && !(debug->dr7 >> (16 + 4 * i) & 3))
			return true;
	return false;
}

void kvm_debug_exit(struct vc_bvcpu *v, uint32_t exception, uint64_t dr6, struct vcore_exit *exit)
{
	const struct vcore_debug *debug = &kvm_of(v)->debug;
	struct kvm_regs regs = {0};

	/* KVM's own address is linear: with the base of CS */
	kvm_ioctl_p(kvm_of(v)->fd, KVM_GET_REGS, &regs);
	exit->reason = VCORE_EXIT_DEBUG;
	exit->address = regs.rip;
	exit->exception = exception;
	exit->dr6 = dr6;
	if (exception != VC_DB || !(debug->flags & VCORE_DEBUG_HW_BREAK) || !breaks_before(debug, dr6))
		return;
	/* the next run gets past it (SDM vol. 3, 18.3.1.1) */
	regs.rflags |= VC_FLAG_RF;
	kvm_ioctl_p(kvm_of(v)->fd, KVM_SET_REGS, &regs);
}
