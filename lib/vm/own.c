/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory that derives from a snapshot becomes the vm's own when the backend asks for it, so that other processes can
 * map it: piece by piece, on the vm's loop, while the guest runs. Who writes is kept out: vcpus by the gate, calls and
 * devices that copy by the memory's lock, devices that keep addresses by being held.
 */
#include <inttypes.h>
#include <stdio.h>

#include "memory/image.h"
#include "vm/snapshot.h"
#include "vm/vm.h"

/* Copied in one turn of the loop, which has timers to serve. */
#define TURN_BYTES VC_MIB(8)
/* Of what the host could give, no copy takes more than this part: many vms that ask cannot exhaust it. */
#define HOST_PART 8u

/* 0: not known. */
static uint64_t host_available(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	uint64_t kib = 0;
	char line[128];

	while (f && !kib && fgets(line, sizeof line, f))
		if (sscanf(line, "MemAvailable: %" SCNu64, &kib) != 1)
			kib = 0;
	if (f)
		fclose(f);
	return kib << 10;
}

/* What is begun goes on, without being looked at in each turn. */
static bool affordable(struct vcore_vm *vm)
{
	uint64_t bytes = 0;
	bool begun = false;

	vc_mem_rdlock(&vm->mem);
	for (uint32_t i = 0; i < vm->mem.count; i++)
		begun |= vm->mem.slots[i]->own != NULL;
	for (uint32_t i = 0; !begun && i < vm->mem.count; i++)
		if (vc_image_may_own(vm->mem.slots[i]))
			bytes += vc_image_data(vm->mem.slots[i]->image);
	vc_mem_unlock(&vm->mem);
	return begun || bytes <= host_available() / HOST_PART;
}

static bool is_sent(struct vcore_vm *vm)
{
	bool sending;

	pthread_mutex_lock(&vm->lock);
	sending = vm->migration.sending || vm->migration.kept;
	pthread_mutex_unlock(&vm->lock);
	return sending;
}

/* 1: there may be more; 0; -errno */
static int own_some(struct vcore_vm *vm)
{
	int r = 0;

	vc_gate_begin(&vm->gate, NULL);
	for (uint32_t i = 0; i < vm->mem.count; i++) {
		if (!vc_image_may_own(vm->mem.slots[i]))
			continue;
		r = vc_image_own(vm->mem.slots[i]);
		r = r < 0 ? r : 1;
		break;
	}
	vc_gate_end(&vm->gate, NULL);
	return r;
}

static void turn(void *ctx)
{
	struct vcore_vm *vm = ctx;
	bool may = !atomic_load(&vm->own_closed) && !is_sent(vm) && affordable(vm);
	int r = may ? 1 : 0;

	if (may) {
		vc_vm_hold_devices(vm, true);
		for (uint64_t n = 0; r > 0 && n < TURN_BYTES / VC_MIB(2); n++)
			r = own_some(vm);
		vc_vm_hold_devices(vm, false);
	}
	if (r < 0)
		vc_log(&vm->log, VCORE_LOG_WARN, "memory of a snapshot cannot be copied: %s", vcore_error_message());
	if (r <= 0 || vc_loop_post(vm->loop, turn, vm) < 0)
		atomic_store(&vm->own_asked, false);
}

void vc_vm_want_own_memory(struct vc_bvm *bvm)
{
	struct vcore_vm *vm = VC_CONTAINER_OF(bvm, struct vcore_vm, bvm);

	if (!atomic_exchange(&vm->own_asked, true) && vc_loop_post(vm->loop, turn, vm) < 0)
		atomic_store(&vm->own_asked, false);
}

void vc_vm_own_fini(struct vcore_vm *vm)
{
	atomic_store(&vm->own_closed, true);
	/* one that runs may post itself once more, behind the first call's back */
	vc_loop_cancel_post(vm->loop, turn, vm);
	vc_loop_cancel_post(vm->loop, turn, vm);
}
