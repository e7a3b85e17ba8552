/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The vm as KVM has it: slots, dirty log, doorbells. */
#include <stdlib.h>
#include <unistd.h>

#include "backend/kvm/kvm.h"

#define TSS_ADDRESS          0xfffbd000u /* three pages that VMX without unrestricted guest needs, below the firmware */
#define IDENTITY_MAP_ADDRESS 0xfffbc000ull

/* ---- slots ---- */

static int set_region(struct kvm_vm *k, const struct vc_slot *slot, bool dirty, bool remove)
{
	struct kvm_userspace_memory_region region = {
	    .slot = slot->id,
	    .flags = (dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0) | (slot->flags & VCORE_MEM_W ? 0 : KVM_MEM_READONLY),
	    .guest_phys_addr = slot->gpa,
	    .memory_size = remove ? 0 : slot->length,
	    .userspace_addr = (uintptr_t)slot->hva,
	};

	return kvm_ioctl_p(k->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? -errno : 0;
}

static int slot_add(void *ctx, struct vc_slot *slot)
{
	struct kvm_vm *k = kvm_vm_of(ctx);
	int r;

	if (!(slot->flags & VCORE_MEM_W) && !(k->features & VCORE_FEATURE_READONLY_MEM))
		return vc_fail(ENOTSUP, "this /dev/kvm has no read-only memory (KVM_CAP_READONLY_MEM)");
	r = set_region(k, slot, false, false);
	return r < 0 ? vc_fail_errno(-r, "KVM_SET_USER_MEMORY_REGION [%#llx, +%#llx)", (unsigned long long)slot->gpa,
	                             (unsigned long long)slot->length)
	             : 0;
}

static void slot_remove(void *ctx, struct vc_slot *slot)
{
	set_region(kvm_vm_of(ctx), slot, false, true);
}

static int slot_log_dirty(void *ctx, struct vc_slot *slot, bool enable)
{
	int r = set_region(kvm_vm_of(ctx), slot, enable, false);

	return r < 0 ? vc_fail_errno(-r, "KVM_MEM_LOG_DIRTY_PAGES for slot %#llx", (unsigned long long)slot->gpa) : 0;
}

static int slot_sync_dirty(void *ctx, struct vc_slot *slot)
{
	uint64_t words = (slot->length / VC_PAGE_SIZE + 63) / 64;
	uint64_t *bitmap = calloc(words, sizeof *bitmap);
	struct kvm_dirty_log log = {.slot = slot->id, .dirty_bitmap = bitmap};
	_Atomic uint64_t *bits = atomic_load(&slot->dirty);
	int r = 0;

	if (!bitmap)
		return vc_fail(ENOMEM, "kvm: no memory for a dirty log");
	if (kvm_ioctl_p(kvm_vm_of(ctx)->vm_fd, KVM_GET_DIRTY_LOG, &log) < 0)
		r = vc_fail_errno(errno, "KVM_GET_DIRTY_LOG");
	for (uint64_t i = 0; r >= 0 && i < words; i++)
		if (bitmap[i])
			atomic_fetch_or(&bits[i], bitmap[i]);
	free(bitmap);
	return r;
}

static const struct vc_mem_listener listener = {
    .add = slot_add,
    .remove = slot_remove,
    .log_dirty = slot_log_dirty,
    .sync_dirty = slot_sync_dirty,
};

int kvm_registers(struct vc_bvm *vm, const struct vc_registers *registers, bool add)
{
	struct kvm_vm *k = kvm_vm_of(vm);
	uint64_t wanted = add ? 0 : registers->gpa | 1;
	struct vc_slot slot = {.gpa = registers->gpa,
	                       .length = registers->length,
	                       .hva = registers->hva,
	                       .flags = registers->writable ? VCORE_MEM_RWX : VCORE_MEM_RX};
	uint32_t i = 0;
	int r;

	pthread_mutex_lock(&k->lock);
	while (i < KVM_REGISTER_SLOTS && k->registers[i] != wanted)
		i++;
	slot.id = vm->env.mem->max_slots + i;
	r = i == KVM_REGISTER_SLOTS ? -ENOSPC : set_region(k, &slot, false, !add);
	if (r >= 0)
		k->registers[i] = add ? registers->gpa | 1 : 0;
	pthread_mutex_unlock(&k->lock);
	return r < 0 ? vc_fail_errno(-r, "KVM_SET_USER_MEMORY_REGION for registers at %#llx, +%#llx",
	                             (unsigned long long)registers->gpa, (unsigned long long)registers->length)
	             : 0;
}

/* ---- birth ---- */

static int read_msr_list(struct kvm_vm *k)
{
	struct kvm_msr_list count = {.nmsrs = 0};

	/* fails with E2BIG and tells how many there are */
	kvm_ioctl_p(k->kvm_fd, KVM_GET_MSR_INDEX_LIST, &count);
	k->msr_list = calloc(1, sizeof *k->msr_list + count.nmsrs * sizeof k->msr_list->indices[0]);
	if (!k->msr_list)
		return vc_fail(ENOMEM, "kvm: no memory for the list of MSRs");
	k->msr_list->nmsrs = count.nmsrs;
	return kvm_ioctl_p(k->kvm_fd, KVM_GET_MSR_INDEX_LIST, k->msr_list) < 0
	           ? vc_fail_errno(errno, "KVM_GET_MSR_INDEX_LIST")
	           : 0;
}

static int choose_tsc(struct vc_bvm *vm)
{
	struct kvm_vm *k = kvm_vm_of(vm);
	int khz;

	k->tsc_control = kvm_has(k->vm_fd, KVM_CAP_VM_TSC_CONTROL);
	if (vm->tsc_khz) {
		if (k->tsc_control && kvm_ioctl(k->vm_fd, KVM_SET_TSC_KHZ, (unsigned long)vm->tsc_khz) == 0)
			return 0;
		khz = kvm_ioctl(k->vm_fd, KVM_GET_TSC_KHZ, 0);
		if (khz > 0 && (uint64_t)khz == vm->tsc_khz)
			return 0;
		return vc_fail(ENOTSUP, "options.tsc_khz is %llu: this host cannot scale its TSC of %d kHz",
		               (unsigned long long)vm->tsc_khz, khz);
	}
	khz = kvm_ioctl(k->vm_fd, KVM_GET_TSC_KHZ, 0);
	if (khz <= 0)
		return vc_fail(ENOTSUP, "this /dev/kvm does not tell its TSC frequency (KVM_GET_TSC_KHZ of a vm)");
	vm->tsc_khz = (uint64_t)khz;
	return 0;
}

static int open_vm(struct vc_bvm *vm)
{
	struct kvm_vm *k = kvm_vm_of(vm);
	uint64_t identity = IDENTITY_MAP_ADDRESS;

	k->kvm_fd = kvm_open();
	if (k->kvm_fd < 0)
		return k->kvm_fd;
	k->features = kvm_features(k->kvm_fd);
	if (!(k->features & VCORE_FEATURE_IMMEDIATE_EXIT))
		return vc_fail(ENOTSUP, "this /dev/kvm is too old: it has no KVM_CAP_IMMEDIATE_EXIT (Linux 4.13)");
	k->run_size = (size_t)kvm_ioctl(k->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	k->vm_fd = kvm_ioctl(k->kvm_fd, KVM_CREATE_VM, 0);
	if (k->vm_fd < 0)
		return vc_fail_errno(errno, "KVM_CREATE_VM");
	if (kvm_ioctl_p(k->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0 ||
	    kvm_ioctl(k->vm_fd, KVM_SET_TSS_ADDR, TSS_ADDRESS) < 0)
		return vc_fail_errno(errno, "KVM_SET_TSS_ADDR");
	k->coalesced_page = (uint32_t)kvm_ioctl(k->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO);
#ifdef KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL
	k->xen_hypercalls = kvm_ioctl(k->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XEN_HVM) & KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL;
#endif
	return 0;
}

int kvm_vm_create(struct vc_bvm *vm)
{
	struct kvm_vm *k = calloc(1, sizeof *k);
	int r;

	if (!k)
		return vc_fail(ENOMEM, "no memory for a KVM vm");
	k->kvm_fd = k->vm_fd = -1;
	pthread_mutex_init(&k->lock, NULL);
	vm->priv = k;
	r = open_vm(vm);
	if (r >= 0)
		r = choose_tsc(vm);
	if (r >= 0)
		r = read_msr_list(k);
	if (r >= 0)
		r = kvm_irq_create(vm);
	if (r < 0) {
		kvm_vm_destroy(vm);
		return r;
	}
	vm->env.mem->max_slots = (uint32_t)kvm_ioctl(k->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);
	if (vm->env.mem->max_slots > 2 * KVM_REGISTER_SLOTS)
		vm->env.mem->max_slots -= KVM_REGISTER_SLOTS; /* else there is no number for them, and the kernel says so */
	vm->env.mem->listener = &listener;
	vm->env.mem->listener_ctx = vm;
	return 0;
}

void kvm_vm_destroy(struct vc_bvm *vm)
{
	struct kvm_vm *k = vm->priv;

	vm->env.mem->listener = NULL;
	if (k->vm_fd >= 0)
		close(k->vm_fd);
	if (k->kvm_fd >= 0)
		close(k->kvm_fd);
	pthread_mutex_destroy(&k->lock);
	free(k->msr_list);
	free(k);
	vm->priv = NULL;
}

/* ---- doorbells ---- */

int kvm_coalesce(struct vc_bvm *vm, enum vcore_bus bus, uint64_t start, uint64_t length, bool add)
{
	struct kvm_vm *k = kvm_vm_of(vm);
	struct kvm_coalesced_mmio_zone zone = {.addr = start, .size = (uint32_t)length, .pio = bus == VCORE_BUS_PIO};

	/* a hint: without it every write exits, which is right too */
	if (!k->coalesced_page || length > UINT32_MAX || (zone.pio && !kvm_has(k->vm_fd, KVM_CAP_COALESCED_PIO)))
		return 0;
	if (kvm_ioctl_p(k->vm_fd, add ? KVM_REGISTER_COALESCED_MMIO : KVM_UNREGISTER_COALESCED_MMIO, &zone) < 0)
		return vc_fail_errno(errno, "coalescing writes to [%#llx, +%#llx)", (unsigned long long)start,
		                     (unsigned long long)length);
	return 0;
}

int kvm_ioeventfd(struct vc_bvm *vm, const struct vc_ioeventfd *e, bool add)
{
	struct kvm_ioeventfd kernel = {
	    .datamatch = e->match,
	    .addr = e->address,
	    .len = e->width,
	    .fd = e->fd,
	    .flags = (e->has_match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0) |
	             (e->bus == VCORE_BUS_PIO ? KVM_IOEVENTFD_FLAG_PIO : 0) | (add ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	/* the kernel takes "any width" for MMIO only; on ports the bus serves it after the exit */
	if (e->bus == VCORE_BUS_PIO && !e->width)
		return 0;
	return kvm_ioctl_p(kvm_vm_of(vm)->vm_fd, KVM_IOEVENTFD, &kernel) < 0
	           ? vc_fail_errno(errno, "KVM_IOEVENTFD at %#llx", (unsigned long long)e->address)
	           : 0;
}

/* Hypercalls of a guest end in the kernel unless it takes us for a Xen host. */
int kvm_hypercalls(struct vc_bvm *vm, bool on)
{
#ifdef KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL
	struct kvm_vm *k = kvm_vm_of(vm);
	struct kvm_xen_hvm_config config = {.flags = on ? KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL : 0};

	if (k->xen_hypercalls && kvm_ioctl_p(k->vm_fd, KVM_XEN_HVM_CONFIG, &config) == 0) {
		k->hypercalls_on = on;
		return 0;
	}
#endif
	return on ? vc_fail(ENOTSUP, "this /dev/kvm does not hand hypercalls to programs (KVM_CAP_XEN_HVM)") : 0;
}

/* ---- power-on ---- */

int kvm_vcpu_reset(struct vc_bvcpu *v)
{
	struct kvm_vcpu *k = kvm_of(v);

	atomic_store(&k->interrupt, -1);
	if (k->io_open)
		kvm_abandon_access(v);
	if (kvm_in_kernel_lapic(v->vm) && kvm_ioctl_p(k->fd, KVM_SET_LAPIC, &k->lapic) < 0)
		return vc_fail_errno(errno, "KVM_SET_LAPIC of vcpu %u", v->index);
	return 0;
}

int kvm_reset(struct vc_bvm *vm)
{
	struct kvm_vm *k = kvm_vm_of(vm);

	for (uint32_t i = 0; vm->irqchip == VCORE_IRQCHIP_FULL && i < VC_ARRAY_SIZE(k->chips); i++)
		if (kvm_ioctl_p(k->vm_fd, KVM_SET_IRQCHIP, &k->chips[i]) < 0)
			return vc_fail_errno(errno, "KVM_SET_IRQCHIP %u", i);
	if (vm->irqchip == VCORE_IRQCHIP_FULL && vm->has_pit && kvm_ioctl_p(k->vm_fd, KVM_SET_PIT2, &k->pit) < 0)
		return vc_fail_errno(errno, "KVM_SET_PIT2");
	for (uint32_t i = 0; i < vm->vcpus; i++) {
		int r = kvm_vcpu_reset(vm->vcpu[i]);

		if (r < 0)
			return r;
	}
	return 0;
}
