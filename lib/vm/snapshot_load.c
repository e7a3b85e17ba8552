/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A vm becomes what a snapshot says: a new one, or one that is there. */
#include <stdlib.h>

#include "device/device.h"
#include "memory/missing.h"
#include "vm/snapshot.h"

/* ---- states ---- */

static int load_vcpus(struct vcore_vm *vm, const struct vcore_snapshot *s)
{
	int r = 0;

	for (uint32_t i = 0; r >= 0 && i < s->vcpus; i++) {
		struct vcore_vcpu *v = &vm->vcpus[i];

		atomic_fetch_and(&v->b.requests, ~(uint32_t)(VC_REQ_INIT | VC_REQ_SIPI | VC_REQ_NMI | VC_REQ_SMI));
		r = vc_vcpu_put_state(v, &s->vcpu[i].state);
		/* after the state, which has some of the same registers */
		if (r >= 0 && vm->lapics)
			r = vc_lapic_load(vc_lapics_get(vm->lapics, i), &s->vcpu[i].lapic);
		else if (r >= 0 && vm->machine->has_chipset)
			r = vm->bvm.ops->set_lapic(&v->b, &s->vcpu[i].lapic);
		vc_bvcpu_request(&v->b, VC_REQ_IRQ);
	}
	return r;
}

/* The vm's device that this one is, of those that are not taken yet. */
static struct vc_dev *match(struct vcore_vm *vm, const struct vc_snapshot_device *device, bool *taken)
{
	uint32_t n = 0;

	for (struct vc_dev *d = vm->buses.devices; d; d = d->next, n++) {
		if (taken[n] || strcmp(d->type, device->type) != 0 || d->fixed != device->fixed)
			continue;
		taken[n] = true;
		return d;
	}
	return NULL;
}

static int check_device(const struct vc_dev *d, const struct vc_snapshot_device *device)
{
	if (d->gsi != device->gsi || d->base != device->base)
		return vc_fail(EINVAL,
		               "device %u (%s) has interrupt %u and registers at %#llx: the snapshot's has %u and %#llx; name "
		               "them in its properties",
		               d->id, d->type, d->gsi, (unsigned long long)d->base, device->gsi,
		               (unsigned long long)device->base);
	return d->ops.load ? 0 : vc_fail(ENOTSUP, "device %u (%s) cannot be loaded", d->id, d->type);
}

/* devs[n]: the vm's device for the n-th of the snapshot. */
static int match_devices(struct vcore_vm *vm, const struct vcore_snapshot *s, struct vc_dev **devs)
{
	uint32_t count = 0;
	bool *taken;
	int r = 0;

	for (struct vc_dev *d = vm->buses.devices; d; d = d->next)
		count++;
	taken = calloc(count + 1, sizeof *taken);
	if (!taken)
		return vc_fail(ENOMEM, "no memory to compare %u devices", count);
	for (uint32_t i = 0; r >= 0 && i < s->devices; i++) {
		devs[i] = match(vm, &s->device[i], taken);
		r = devs[i] ? check_device(devs[i], &s->device[i])
		            : vc_fail(EINVAL, "the snapshot has a device %s that the vm has not", s->device[i].type);
	}
	count = 0;
	for (struct vc_dev *d = vm->buses.devices; r >= 0 && d; d = d->next)
		if (!taken[count++])
			r = vc_fail(EINVAL, "device %u (%s) of the vm is not in the snapshot", d->id, d->type);
	free(taken);
	return r;
}

static int load_devices(struct vc_dev *const *devs, const struct vcore_snapshot *s)
{
	int r = 0;

	for (uint32_t i = 0; r >= 0 && i < s->devices; i++)
		r = devs[i]->ops.load(devs[i]->ctx, s->device[i].state, s->device[i].length);
	return r;
}

/* ---- memory ---- */

static int check_slots(struct vcore_vm *vm, const struct vcore_snapshot *s)
{
	for (uint32_t i = 0; i < s->slots || i < vm->mem.count; i++) {
		const struct vc_snapshot_slot *there = i < s->slots ? &s->slot[i] : NULL;
		const struct vc_slot *here = i < vm->mem.count ? vm->mem.slots[i] : NULL;

		if (!there || !here || there->gpa != here->gpa || there->length != here->length)
			return vc_fail(EINVAL, "the vm's memory slot %u is [%#llx, +%#llx), the snapshot's [%#llx, +%#llx)", i,
			               here ? (unsigned long long)here->gpa : 0, here ? (unsigned long long)here->length : 0,
			               there ? (unsigned long long)there->gpa : 0, there ? (unsigned long long)there->length : 0);
	}
	return 0;
}

static bool has_slot(const struct vcore_snapshot *s, const struct vc_slot *slot)
{
	for (uint32_t i = 0; i < s->slots; i++)
		if (s->slot[i].gpa == slot->gpa && s->slot[i].length == slot->length)
			return true;
	return false;
}

/* A slot where a device plugs memory in and out that the snapshot has not; NULL: there is none. */
static struct vc_slot *find_plugged(struct vcore_vm *vm, const struct vcore_snapshot *s)
{
	struct vc_slot *found = NULL;

	vc_mem_rdlock(&vm->mem);
	for (const struct vc_mem_range *range = vm->mem.ranges; range; range = range->next)
		for (uint32_t i = 0; range->hotplug && i < vm->mem.count; i++)
			if (vm->mem.slots[i]->gpa - range->gpa < range->length && !has_slot(s, vm->mem.slots[i]))
				found = vm->mem.slots[i];
	vc_mem_unlock(&vm->mem);
	return found;
}

static bool is_pluggable(struct vcore_vm *vm, uint64_t gpa)
{
	bool found = false;

	vc_mem_rdlock(&vm->mem);
	for (const struct vc_mem_range *range = vm->mem.ranges; range; range = range->next)
		found |= range->hotplug && gpa - range->gpa < range->length;
	vc_mem_unlock(&vm->mem);
	return found;
}

/* Memory that devices had plugged in then, and no other; they find it there when they are loaded. */
static int plug_slots(struct vcore_vm *vm, const struct vcore_snapshot *s)
{
	const struct vcore_memory_options o = {.size = sizeof o, .kind = vm->bvm.env.ram.kind, .fd = -1};
	struct vc_slot *slot;
	int r = 0;

	while ((slot = find_plugged(vm, s)))
		vc_mem_remove(&vm->mem, NULL, slot);
	for (uint32_t i = 0; r >= 0 && i < s->slots; i++) {
		vc_mem_rdlock(&vm->mem);
		slot = vc_mem_find(&vm->mem, s->slot[i].gpa);
		vc_mem_unlock(&vm->mem);
		if (!slot && is_pluggable(vm, s->slot[i].gpa))
			r = vc_mem_add(&vm->mem, NULL, s->slot[i].gpa, s->slot[i].length, s->slot[i].flags, &o, NULL);
	}
	return r;
}

/* Memory that is not mapped anew: the program's, or what others see too. */
static int copy_in(struct vc_slot *slot, struct vc_image *image)
{
	const uint8_t *view = vc_image_view(image);

	if (!view)
		return -ENOMEM;
	if (slot->host_readonly)
		return 0;
	memcpy(slot->hva, view, slot->length);
	vc_mem_wrote(slot, slot->gpa, slot->length);
	return 0;
}

static int load_slot(struct vcore_vm *vm, struct vc_slot *slot, struct vc_image *image)
{
	int r;

	if (!vc_image_may_map(slot))
		return copy_in(slot, image);
	if (slot->image == image)
		return vc_image_restore(slot);
	r = vc_image_map(image, slot);
	/* what is known of descriptors is out of date */
	atomic_fetch_add(&vm->mem.version, 1);
	if (r >= 0 && !vm->newborn)
		vc_mem_wrote(slot, slot->gpa, slot->length);
	return r;
}

static int load_memory(struct vcore_vm *vm, const struct vcore_snapshot *s)
{
	int r = 0;

	vc_gate_begin(&vm->gate, NULL);
	for (uint32_t i = 0; r >= 0 && i < s->slots; i++)
		r = load_slot(vm, vm->mem.slots[i], s->slot[i].image);
	vc_gate_end(&vm->gate, NULL);
	return r;
}

/* ---- one that is there ---- */

static void set_time(struct vcore_vm *vm, uint64_t ns)
{
	vc_clock_set(&vm->clock, ns);
	vc_loop_clock_changed(vm->loop);
	if (vm->bvm.ops->clock_changed)
		vm->bvm.ops->clock_changed(&vm->bvm);
}

static int match_all(struct vcore_vm *vm, const struct vcore_snapshot *s, struct vc_dev **devs)
{
	int r = vm->bvm.vcpus == s->vcpus && vm->machine->id == s->machine
	            ? match_devices(vm, s, devs)
	            : vc_fail(EINVAL, "the vm is another machine, or has %u vcpus where the snapshot has %u", vm->bvm.vcpus,
	                      s->vcpus);

	if (r >= 0)
		r = plug_slots(vm, s);
	return r < 0 ? r : check_slots(vm, s);
}

static int load_states(struct vcore_vm *vm, const struct vcore_snapshot *s, struct vc_dev *const *devs)
{
	int r;

	set_time(vm, s->time_ns);
	r = load_devices(devs, s);
	vc_vm_forget_leaving(vm);
	return r < 0 ? r : load_vcpus(vm, s);
}

static int new_devs(const struct vcore_snapshot *s, struct vc_dev ***devs)
{
	*devs = calloc(s->devices + 1, sizeof(struct vc_dev *));
	return *devs ? 0 : vc_fail(ENOMEM, "no memory for %u devices", s->devices);
}

int vc_snapshot_match(struct vcore_vm *vm, const struct vcore_snapshot *s)
{
	struct vc_dev **devs;
	int r = new_devs(s, &devs);

	if (r < 0)
		return r;
	r = match_all(vm, s, devs);
	free(devs);
	return r;
}

int vc_snapshot_become(struct vcore_vm *vm, const struct vcore_snapshot *s, bool memory)
{
	struct vc_dev **devs;
	int r = new_devs(s, &devs);

	if (r < 0)
		return r;
	r = match_all(vm, s, devs);
	/* before the memory: an access that waited for its answer ends, and may write there */
	if (r >= 0 && vm->bvm.ops->reset)
		r = vm->bvm.ops->reset(&vm->bvm);
	if (r >= 0 && memory)
		r = load_memory(vm, s);
	if (r >= 0)
		r = load_states(vm, s, devs);
	free(devs);
	return r;
}

int vcore_vm_reset_to(vcore_vm *vm, vcore_snapshot *s)
{
	struct vc_still still;
	int r;

	if (!vm || !s)
		return vc_fail(EINVAL, "vcore_vm_reset_to: a vm and a snapshot are needed");
	r = vc_missing_none(&vm->mem, "vcore_vm_reset_to");
	if (r >= 0)
		r = vc_still_begin(vm, "vcore_vm_reset_to", true, &still);
	if (r < 0)
		return r;
	r = vc_snapshot_become(vm, s, true);
	vc_still_end(&still);
	return r;
}

/* ---- a new one ---- */

static enum vcore_irqchip irqchip_for(const struct vcore_snapshot *s, enum vcore_backend backend)
{
	if (s->irqchip == VCORE_IRQCHIP_NONE || backend == s->backend)
		return s->irqchip;
	if (backend == VCORE_BACKEND_EMU)
		return VCORE_IRQCHIP_USER;
	/* the PIT in the kernel goes without an HPET */
	return s->has_hpet ? VCORE_IRQCHIP_SPLIT : VCORE_IRQCHIP_FULL;
}

/* Memory that a process of its own maps is not mapped privately from the snapshot. */
static uint32_t memory_kind_for(const struct vcore_snapshot *s)
{
	for (uint32_t i = 0; i < s->devices; i++) {
		const struct vc_device_type *type = s->device[i].properties ? vc_device_type_find(s->device[i].type) : NULL;

		if (type && type->shares_memory)
			return VCORE_MEMORY_MEMFD;
	}
	return VCORE_MEMORY_ANON;
}

static int build(const struct vcore_snapshot *s, const struct vcore_clone_options *c, struct vcore_vm **vm)
{
	enum vcore_backend backend = c->backend ? c->backend : s->backend;
	struct vc_birth birth = {&s->cpuid, s->has_hpet};
	struct vcore_options o = {
	    .size = sizeof o,
	    .machine = s->machine,
	    .backend = backend,
	    .engine = c->engine               ? c->engine
	              : backend == s->backend ? s->engine
	                                      : VCORE_ENGINE_AUTO,
	    .irqchip = irqchip_for(s, backend),
	    /* who is plugged in is the controller's state */
	    .vcpus = s->has_cpu_hotplug ? 1 : s->vcpus,
	    .max_vcpus = s->vcpus,
	    .memory = s->ram_low + s->ram_high,
	    .memory_kind = memory_kind_for(s),
	    .unhandled = s->unhandled,
	    .loop = c->loop,
	    .tsc_khz = s->tsc_khz,
	    .log = c->log,
	    .log_ctx = c->log_ctx,
	    .log_level = c->log_level,
	    .no_legacy = s->no_legacy,
	};

	return vc_vm_new(&o, &birth, vm);
}

static int add_devices(struct vcore_vm *vm, const struct vcore_snapshot *s, const struct vcore_clone_options *c)
{
	uint32_t index = 0, id;
	int r = 0;

	for (uint32_t i = 0; r >= 0 && i < s->devices; i++) {
		const struct vc_snapshot_device *d = &s->device[i];
		const char *properties = NULL;

		if (!d->properties)
			continue;
		if (c->properties)
			properties = c->properties(c->ctx, index, d->type, d->properties);
		index++;
		r = vc_vm_add_device(vm, d->type, properties ? properties : d->properties, NULL, &id);
	}
	return r;
}

/* Slots that neither the machine type nor a device nor the program has made. */
static int add_slots(struct vcore_vm *vm, const struct vcore_snapshot *s)
{
	int r = 0;

	for (uint32_t i = 0; r >= 0 && i < s->slots; i++) {
		const struct vc_snapshot_slot *slot = &s->slot[i];
		const struct vc_slot *there;

		vc_mem_rdlock(&vm->mem);
		there = vc_mem_find(&vm->mem, slot->gpa);
		vc_mem_unlock(&vm->mem);
		if (!there && !is_pluggable(vm, slot->gpa))
			r = vc_mem_add(&vm->mem, NULL, slot->gpa, slot->length, slot->flags & VCORE_MEM_RWX, NULL, NULL);
	}
	return r;
}

static int add_parts(struct vcore_vm *vm, const struct vcore_snapshot *s, const struct vcore_clone_options *c)
{
	int r = add_devices(vm, s, c);

	if (r >= 0 && c->prepare)
		r = c->prepare(c->ctx, vm);
	return r < 0 ? r : add_slots(vm, s);
}

int vc_snapshot_build(const struct vcore_snapshot *s, const struct vcore_clone_options *options, struct vcore_vm **out)
{
	struct vcore_clone_options c = {.size = sizeof c};
	struct vcore_vm *vm;
	int r;

	if (options && vc_struct_in(&c, sizeof c, options) < 0)
		return vc_fail(EINVAL, "struct vcore_clone_options: its size is not set");
	if (c.flags & ~(uint32_t)(VCORE_CLONE_SAME_IDENTITY | VCORE_CLONE_NEW_MACS))
		return vc_fail(EINVAL, "struct vcore_clone_options: flags are %#x: expected none but %#x", c.flags,
		               VCORE_CLONE_SAME_IDENTITY | VCORE_CLONE_NEW_MACS);
	r = build(s, &c, &vm);
	if (r < 0)
		return r;
	r = add_parts(vm, s, &c);
	if (r < 0) {
		vcore_vm_unref(vm);
		return r;
	}
	vm->newborn = true;
	*out = vm;
	return 0;
}

int vcore_snapshot_clone(vcore_snapshot *s, const struct vcore_clone_options *options, vcore_vm **out)
{
	struct vc_still still;
	struct vcore_vm *vm;
	int r;

	if (!s || !out)
		return vc_fail(EINVAL, "vcore_snapshot_clone: a snapshot and a place for the vm are needed");
	*out = NULL;
	r = vc_snapshot_build(s, options, &vm);
	if (r < 0)
		return r;
	r = vc_still_begin(vm, "vcore_snapshot_clone", false, &still);
	if (r >= 0) {
		r = vc_snapshot_become(vm, s, true);
		if (r >= 0 && options && options->flags & VCORE_CLONE_NEW_MACS)
			r = vc_vm_new_macs(vm);
		vc_still_end(&still);
	}
	if (r >= 0 && vm->vmgenid && !(options && options->flags & VCORE_CLONE_SAME_IDENTITY))
		r = vc_vmgenid_set(vm->vmgenid, NULL);
	if (r < 0) {
		vcore_vm_unref(vm);
		return r;
	}
	*out = vm;
	return 0;
}
