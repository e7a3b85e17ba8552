/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Taking a snapshot. */
#include "vm/snapshot.h"

#include <stdlib.h>
#include <sys/random.h>

#include "memory/missing.h"

/* ---- the object ---- */

vcore_snapshot *vcore_snapshot_ref(vcore_snapshot *s)
{
	if (s)
		atomic_fetch_add(&s->refs, 1);
	return s;
}

void vcore_snapshot_unref(vcore_snapshot *s)
{
	if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	for (uint32_t i = 0; i < s->devices; i++) {
		free(s->device[i].properties);
		free(s->device[i].state);
	}
	for (uint32_t i = 0; i < s->slots; i++)
		vc_image_unref(s->slot[i].image);
	free(s->vcpu);
	free(s->device);
	free(s->slot);
	free(s);
}

int vcore_snapshot_get_info(const vcore_snapshot *s, struct vcore_snapshot_info *out)
{
	struct vcore_snapshot_info info = {.size = sizeof info};

	if (!s || !out || out->size < sizeof out->size)
		return vc_fail(EINVAL, "vcore_snapshot_get_info: a snapshot and an info with its size set are needed");
	info.machine = s->machine;
	info.backend = s->backend;
	info.vcpus = s->vcpus;
	info.devices = s->devices;
	info.slots = s->slots;
	for (uint32_t i = 0; i < s->slots; i++)
		info.memory += s->slot[i].length;
	info.memory_copied = s->memory_copied;
	info.time_ns = s->time_ns;
	memcpy(info.id, s->id, sizeof info.id);
	vc_struct_out(out, &info, sizeof info);
	return 0;
}

/* ---- a vm that is kept as it is ---- */

void vc_vm_hold_devices(struct vcore_vm *vm, bool on)
{
	struct vc_visit visit;
	struct vc_dev *d;
	uint32_t id = 0;

	while ((d = vc_dev_visit_from(&vm->buses, &visit, id))) {
		id = d->id + 1;
		if (d->hold)
			d->hold(d->hold_ctx, on);
		vc_dev_leave(&vm->buses, &visit);
	}
}

int vc_still_begin(struct vcore_vm *vm, const char *who, bool exited, struct vc_still *still)
{
	enum vcore_vm_state state;
	int r;

	*still = (struct vc_still){.vm = vm};
	if (vc_vm_is_own_thread(vm))
		return vc_fail(EDEADLK, "%s: called from a vcpu's own callback", who);
	pthread_mutex_lock(&vm->lock);
	state = vm->state;
	pthread_mutex_unlock(&vm->lock);
	if (state == VCORE_VM_RUNNING) {
		r = vcore_vm_pause(vm);
		if (r < 0)
			return r;
		still->resume = true;
	}
	r = vc_vm_claim_ended(vm, who, exited);
	if (r < 0) {
		if (still->resume)
			vcore_vm_resume(vm);
		return r;
	}
	if (vm->bvm.ops->flush_coalesced)
		vm->bvm.ops->flush_coalesced(&vm->bvm);
	if (vm->bvm.ops->settle)
		vm->bvm.ops->settle(&vm->bvm);
	vc_loop_hold(vm->loop);
	vc_vm_hold_devices(vm, true);
	pthread_mutex_lock(&vm->lock);
	vc_vm_stop_time(vm);
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

void vc_still_end(struct vc_still *still)
{
	struct vcore_vm *vm = still->vm;

	vc_vm_hold_devices(vm, false);
	vc_loop_release(vm->loop);
	vc_vm_release(vm);
	if (still->resume)
		vcore_vm_resume(vm);
}

/* ---- vcpus ---- */

static int save_vcpus(struct vcore_vm *vm, struct vcore_snapshot *s)
{
	int r = 0;

	s->vcpu = calloc(vm->bvm.vcpus, sizeof *s->vcpu);
	if (!s->vcpu)
		return vc_fail(ENOMEM, "no memory for the state of %u vcpus", vm->bvm.vcpus);
	s->vcpus = vm->bvm.vcpus;
	for (uint32_t i = 0; r >= 0 && i < s->vcpus; i++) {
		struct vc_bvcpu *v = &vm->vcpus[i].b;

		r = vm->bvm.ops->get_state(v, &s->vcpu[i].state);
		if (r >= 0 && vm->lapics)
			vc_lapic_save(vc_lapics_get(vm->lapics, i), &s->vcpu[i].lapic);
		else if (r >= 0 && vm->machine->has_chipset)
			r = vm->bvm.ops->get_lapic(v, &s->vcpu[i].lapic);
	}
	return r;
}

/* ---- devices ---- */

/* Before anything is touched. */
static int check_devices(struct vcore_vm *vm)
{
	if (vm->machine->has_chipset && !vm->lapics && !vm->bvm.ops->get_lapic)
		return vc_fail(ENOTSUP, "backend %s cannot save interrupt controllers in the kernel", vm->bvm.ops->name);
	for (const struct vc_dev *d = vm->buses.devices; d; d = d->next)
		if (!d->ops.save)
			return vc_fail(ENOTSUP, "device %u (%s) cannot be saved", d->id, d->type);
	return 0;
}

static int save_device(struct vc_dev *d, struct vc_snapshot_device *to)
{
	int64_t length = d->ops.save(d->ctx, NULL, 0);

	memcpy(to->type, d->type, sizeof to->type);
	to->fixed = d->fixed;
	to->gsi = d->gsi;
	to->base = d->base;
	if (length < 0)
		return vc_fail_errno((int)-length, "device %u (%s) cannot be saved: %s", d->id, d->type, vcore_error_message());
	if (d->properties && !(to->properties = strdup(d->properties)))
		return vc_fail(ENOMEM, "no memory for the properties of a device");
	to->state = malloc((size_t)length + 1);
	if (!to->state)
		return vc_fail(ENOMEM, "no memory for %lld bytes of a device's state", (long long)length);
	length = d->ops.save(d->ctx, to->state, (size_t)length);
	to->length = length < 0 ? 0 : (size_t)length;
	return length < 0 ? (int)length : 0;
}

static int save_devices(struct vcore_vm *vm, struct vcore_snapshot *s)
{
	uint32_t count = 0;
	int r = 0;

	for (const struct vc_dev *d = vm->buses.devices; d; d = d->next)
		count++;
	s->device = calloc(count + 1, sizeof *s->device);
	if (!s->device)
		return vc_fail(ENOMEM, "no memory for the states of %u devices", count);
	for (struct vc_dev *d = vm->buses.devices; r >= 0 && d; d = d->next) {
		r = save_device(d, &s->device[s->devices++]);
		s->has_hpet |= !strcmp(d->type, "hpet");
	}
	return r;
}

/* ---- memory ---- */

static uint64_t count_bits(const uint64_t *bits, uint64_t words)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < words; i++)
		count += (uint64_t)__builtin_popcountll(bits[i]);
	return count;
}

/* The slot derives from an image: a new one with what was written since, from which it derives then. */
static int save_changes(struct vc_slot *slot, struct vcore_snapshot *s, struct vc_image **image)
{
	int r = vc_image_track(slot);

	if (r >= 0)
		r = vc_image_delta(slot, image);
	if (r < 0)
		return r;
	s->memory_copied += count_bits(slot->changed, (slot->length / VC_PAGE_SIZE + 63) / 64) * VC_PAGE_SIZE;
	if (*image != slot->image)
		r = vc_image_follow(*image, slot);
	return r;
}

static int save_slots(struct vcore_vm *vm, struct vcore_snapshot *s)
{
	s->slot = calloc(vm->mem.count + 1, sizeof *s->slot);
	if (!s->slot)
		return vc_fail(ENOMEM, "no memory for %u slots", vm->mem.count);
	s->slots = vm->mem.count;
	for (uint32_t i = 0; i < s->slots; i++) {
		const struct vc_slot *slot = vm->mem.slots[i];

		s->slot[i] = (struct vc_snapshot_slot){slot->gpa, slot->length, slot->flags, slot->kind, NULL};
	}
	return 0;
}

static int save_contents(struct vc_slot *slot, struct vcore_snapshot *s, struct vc_image **image)
{
	if (slot->image)
		return save_changes(slot, s, image);
	s->memory_copied += vc_image_may_map(slot) && slot->fd >= 0 ? 0 : slot->length;
	return vc_image_may_map(slot) ? vc_image_freeze(slot, image) : vc_image_copy(slot, image);
}

static int save_memory(struct vcore_vm *vm, struct vcore_snapshot *s)
{
	int r = 0;

	vc_gate_begin(&vm->gate, NULL);
	for (uint32_t i = 0; r >= 0 && i < s->slots; i++) {
		struct vc_image *image = NULL;

		r = save_contents(vm->mem.slots[i], s, &image);
		s->slot[i].image = r < 0 ? NULL : image;
	}
	/* what is known of descriptors is out of date */
	atomic_fetch_add(&vm->mem.version, 1);
	vc_gate_end(&vm->gate, NULL);
	return r;
}

/* ---- all of it ---- */

static void describe(struct vcore_vm *vm, struct vcore_snapshot *s)
{
	s->machine = vm->machine->id;
	s->backend = vm->bvm.ops->id;
	s->engine = vm->bvm.engine;
	s->irqchip = vm->bvm.irqchip;
	s->unhandled = vm->bvm.unhandled;
	s->no_legacy = vm->no_legacy;
	s->has_cpu_hotplug = vm->cpu_hotplug != NULL;
	s->ram_low = vm->ram_low;
	s->ram_high = vm->ram_high;
	s->tsc_khz = vm->bvm.tsc_khz;
	s->cpuid = vm->vcpus[0].b.cpuid;
	s->time_ns = vc_clock_now(&vm->clock);
}

static int save_states(struct vcore_vm *vm, struct vcore_snapshot *s)
{
	int r = check_devices(vm);

	if (r < 0)
		return r;
	describe(vm, s);
	r = save_vcpus(vm, s);
	if (r >= 0)
		r = save_devices(vm, s);
	return r < 0 ? r : save_slots(vm, s);
}

int vc_snapshot_of_states(struct vcore_vm *vm, struct vcore_snapshot **out)
{
	struct vcore_snapshot *s = calloc(1, sizeof *s);
	int r;

	if (!s)
		return vc_fail(ENOMEM, "no memory for a snapshot");
	s->refs = 1;
	r = getrandom(s->id, sizeof s->id, 0) == sizeof s->id
	        ? save_states(vm, s)
	        : vc_fail_errno(errno, "random bytes for a snapshot's identity");
	if (r < 0) {
		vcore_snapshot_unref(s);
		return r;
	}
	*out = s;
	return 0;
}

int vcore_snapshot_take(vcore_vm *vm, vcore_snapshot **out)
{
	struct vcore_snapshot *s = NULL;
	struct vc_still still;
	int r;

	if (!vm || !out)
		return vc_fail(EINVAL, "vcore_snapshot_take: a vm and a place for the snapshot are needed");
	*out = NULL;
	r = vc_missing_none(&vm->mem, "vcore_snapshot_take");
	if (r >= 0)
		r = vc_still_begin(vm, "vcore_snapshot_take", false, &still);
	if (r < 0)
		return r;
	r = vc_snapshot_of_states(vm, &s);
	if (r >= 0)
		r = save_memory(vm, s);
	vc_still_end(&still);
	if (r < 0) {
		vcore_snapshot_unref(s);
		return r;
	}
	*out = s;
	return 0;
}
