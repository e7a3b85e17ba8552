/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Interrupt controllers in the kernel, and the routing between lines, messages and them. */
#include <stdlib.h>

#include "backend/kvm/kvm.h"

#define ROUTES_MAX (16 + VC_GSI_COUNT + VC_GSI_COUNT + KVM_MSI_ROUTES)

struct routing {
	struct kvm_irq_routing head;
	struct kvm_irq_routing_entry entries[ROUTES_MAX];
};

static void add_chip(struct routing *r, uint32_t gsi, uint32_t chip, uint32_t pin)
{
	r->entries[r->head.nr++] = (struct kvm_irq_routing_entry){
	    .gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = {.irqchip = chip, .pin = pin}};
}

static void add_msi(struct routing *r, uint32_t gsi, const struct kvm_route *m)
{
	r->entries[r->head.nr++] = (struct kvm_irq_routing_entry){
	    .gsi = gsi,
	    .type = KVM_IRQ_ROUTING_MSI,
	    .u.msi = {.address_lo = (uint32_t)m->address, .address_hi = (uint32_t)(m->address >> 32), .data = m->data}};
}

/* Give the whole table to the kernel. Caller holds k->lock. */
static int set_routing(struct vc_bvm *vm)
{
	struct kvm_vm *k = kvm_vm_of(vm);
	struct routing *r = calloc(1, sizeof *r);
	int result;

	if (!r)
		return vc_fail(ENOMEM, "kvm: no memory for interrupt routes");
	for (uint32_t gsi = 0; gsi < VC_GSI_COUNT; gsi++) {
		if (vm->irqchip == VCORE_IRQCHIP_FULL) {
			if (gsi < 16 && gsi != 2)
				add_chip(r, gsi, gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, gsi & 7);
			/* the timer's IRQ 0 is wired to IOAPIC pin 2, as the MADT says */
			if (gsi != 2)
				add_chip(r, gsi, KVM_IRQCHIP_IOAPIC, gsi == 0 ? 2 : gsi);
		} else if (k->pins[gsi].used) {
			add_msi(r, gsi, &k->pins[gsi]);
		}
	}
	for (uint32_t i = 0; i < KVM_MSI_ROUTES; i++)
		if (k->msis[i].used)
			add_msi(r, VC_GSI_COUNT + i, &k->msis[i]);
	result = kvm_ioctl_p(k->vm_fd, KVM_SET_GSI_ROUTING, r) < 0 ? vc_fail_errno(errno, "KVM_SET_GSI_ROUTING") : 0;
	free(r);
	return result;
}

static int create_full(struct vc_bvm *vm)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	/* late ticks are one, as the library's PIT has it: the other way waits for an EOI that a state loaded may lack */
	struct kvm_reinject_control reinject = {.pit_reinject = 0};
	struct kvm_vm *k = kvm_vm_of(vm);
	int r;

	if (kvm_ioctl(k->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return vc_fail_errno(errno, "KVM_CREATE_IRQCHIP");
	if (vm->has_pit && kvm_ioctl_p(k->vm_fd, KVM_CREATE_PIT2, &pit) < 0)
		return vc_fail_errno(errno, "KVM_CREATE_PIT2");
	if (vm->has_pit)
		kvm_ioctl_p(k->vm_fd, KVM_REINJECT_CONTROL, &reinject);
	r = set_routing(vm);
	for (uint32_t i = 0; r >= 0 && i < VC_ARRAY_SIZE(k->chips); i++) {
		k->chips[i].chip_id = i;
		if (kvm_ioctl_p(k->vm_fd, KVM_GET_IRQCHIP, &k->chips[i]) < 0)
			r = vc_fail_errno(errno, "KVM_GET_IRQCHIP %u", i);
	}
	if (r >= 0 && vm->has_pit && kvm_ioctl_p(k->vm_fd, KVM_GET_PIT2, &k->pit) < 0)
		r = vc_fail_errno(errno, "KVM_GET_PIT2");
	return r;
}

static int create_split(struct vc_bvm *vm)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {VC_GSI_COUNT}};
	struct kvm_vm *k = kvm_vm_of(vm);

	if (!(k->features & VCORE_FEATURE_IRQCHIP_SPLIT))
		return vc_fail(ENOTSUP, "this /dev/kvm has no split interrupt controllers (KVM_CAP_SPLIT_IRQCHIP)");
	return kvm_ioctl_p(k->vm_fd, KVM_ENABLE_CAP, &cap) < 0 ? vc_fail_errno(errno, "KVM_CAP_SPLIT_IRQCHIP") : 0;
}

int kvm_irq_create(struct vc_bvm *vm)
{
	if (vm->irqchip == VCORE_IRQCHIP_FULL)
		return create_full(vm);
	return vm->irqchip == VCORE_IRQCHIP_SPLIT ? create_split(vm) : 0;
}

/* ---- lines and messages ---- */

static void sink_set(void *ctx, unsigned gsi, bool level)
{
	struct vc_bvm *vm = ctx;
	struct kvm_irq_level line = {.irq = gsi, .level = level};

	if (kvm_ioctl_p(kvm_vm_of(vm)->vm_fd, KVM_IRQ_LINE, &line) < 0)
		vc_log(vm->env.log, VCORE_LOG_WARN, "KVM_IRQ_LINE %u: %s", gsi, strerror(errno));
}

static int sink_msi(void *ctx, uint64_t address, uint32_t data)
{
	struct vc_bvm *vm = ctx;
	struct kvm_msi msi = {.address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), .data = data};

	return kvm_ioctl_p(kvm_vm_of(vm)->vm_fd, KVM_SIGNAL_MSI, &msi) < 0 ? vc_fail_errno(errno, "KVM_SIGNAL_MSI") : 0;
}

const struct vc_irq_sink kvm_irq_sink = {.set = sink_set, .msi = sink_msi};

/* SPLIT: the kernel must know the pins' vectors, to tell us of the EOI of level-triggered ones. */
void kvm_ioapic_changed(void *bvm, unsigned pin)
{
	struct vc_bvm *vm = bvm;
	struct kvm_vm *k = kvm_vm_of(vm);
	struct kvm_route *route = &k->pins[pin], now = {0};
	bool level;
	int r = 0;

	pthread_mutex_lock(&k->lock);
	now.used = vc_ioapic_pin_msi(vm->ioapic, pin, &now.address, &now.data, &level);
	/* the table is dear, and a reset or a load that changes nothing says so of all pins */
	if (now.used != route->used || now.address != route->address || now.data != route->data) {
		*route = now;
		r = set_routing(vm);
	}
	pthread_mutex_unlock(&k->lock);
	if (r < 0)
		vc_log(vm->env.log, VCORE_LOG_WARN, "%s", vcore_error_message());
}

/* ---- irqfd ---- */

static int take_route(struct vc_bvm *vm, const struct vc_irq_route *route)
{
	struct kvm_vm *k = kvm_vm_of(vm);

	for (int i = 0; i < KVM_MSI_ROUTES; i++) {
		int r;

		if (k->msis[i].used)
			continue;
		k->msis[i] = (struct kvm_route){true, route->fd, route->address, route->data};
		r = set_routing(vm);
		if (r < 0)
			k->msis[i].used = false;
		return r < 0 ? r : VC_GSI_COUNT + i;
	}
	return vc_fail(ENOSPC, "irqfd: more than %d messages", KVM_MSI_ROUTES);
}

static int find_route(const struct kvm_vm *k, const struct vc_irq_route *route)
{
	for (int i = 0; i < KVM_MSI_ROUTES; i++)
		if (k->msis[i].used && k->msis[i].fd == route->fd && k->msis[i].address == route->address &&
		    k->msis[i].data == route->data)
			return VC_GSI_COUNT + i;
	return -ENOENT;
}

int kvm_irqfd(struct vc_bvm *vm, const struct vc_irq_route *route, bool add)
{
	struct kvm_vm *k = kvm_vm_of(vm);
	struct kvm_irqfd irqfd = {.fd = (uint32_t)route->fd, .flags = add ? 0 : KVM_IRQFD_FLAG_DEASSIGN};
	bool message = route->gsi < 0;
	int r = 0, gsi = route->gsi;

	if (add && route->resample >= 0) {
		irqfd.flags |= KVM_IRQFD_FLAG_RESAMPLE;
		irqfd.resamplefd = (uint32_t)route->resample;
	}
	pthread_mutex_lock(&k->lock);
	if (message)
		gsi = add ? take_route(vm, route) : find_route(k, route);
	irqfd.gsi = (uint32_t)gsi;
	if (gsi < 0)
		r = gsi;
	else if (kvm_ioctl_p(k->vm_fd, KVM_IRQFD, &irqfd) < 0)
		r = vc_fail_errno(errno, "KVM_IRQFD");
	if (message && gsi >= 0 && (!add || r < 0)) {
		k->msis[gsi - VC_GSI_COUNT].used = false;
		if (set_routing(vm) < 0 && r >= 0)
			r = -EIO;
	}
	pthread_mutex_unlock(&k->lock);
	return r;
}
