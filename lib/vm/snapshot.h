/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a snapshot holds. */
#ifndef VC_VM_SNAPSHOT_H
#define VC_VM_SNAPSHOT_H

#include "memory/image.h"
#include "vm/vm.h"

struct vc_snapshot_vcpu {
	struct vc_cpu_state state;
	struct vc_lapic_state lapic; /* unless the machine has no interrupt controllers */
};

struct vc_snapshot_device {
	char type[32];
	char *properties; /* as it was added; NULL: a part of the machine type, or the program's own */
	bool fixed;
	uint32_t gsi;
	uint64_t base;
	size_t length;
	uint8_t *state;
};

struct vc_snapshot_slot {
	uint64_t gpa, length;
	uint32_t flags, kind;
	struct vc_image *image;
};

struct vcore_snapshot {
	_Atomic uint32_t refs;
	uint8_t id[16]; /* random: tells it from all others, also in files */
	/* the machine */
	enum vcore_machine machine;
	enum vcore_backend backend;
	enum vcore_engine engine;
	enum vcore_irqchip irqchip;
	enum vcore_unhandled unhandled;
	bool no_legacy, has_hpet, has_cpu_hotplug;
	uint64_t ram_low, ram_high, tsc_khz;
	struct vc_cpuid cpuid; /* of vcpu 0 */
	/* its state */
	uint64_t time_ns, memory_copied;
	uint32_t vcpus, devices, slots;
	struct vc_snapshot_vcpu *vcpu;
	struct vc_snapshot_device *device; /* in order of adding */
	struct vc_snapshot_slot *slot;     /* by address */
};

/*
 * A vm that is kept as it is: its vcpus do not execute, its devices and its loop do nothing, its time stands. Who runs
 * it is held, and goes on at the end.
 */
struct vc_still {
	struct vcore_vm *vm;
	bool resume; /* it ran */
};
/* -EBUSY, -EDEADLK; exited: one that has exited may be had too, and is CREATED then. */
int vc_still_begin(struct vcore_vm *vm, const char *who, bool exited, struct vc_still *still);
void vc_still_end(struct vc_still *still);
/* All devices that can be held are, or are let go; on the loop's thread, or with the loop held. */
void vc_vm_hold_devices(struct vcore_vm *vm, bool on);

/* All but the contents of memory, of a still vm: its slots have no images. 0; errors as vcore_snapshot_take() */
int vc_snapshot_of_states(struct vcore_vm *vm, struct vcore_snapshot **snapshot);
/*
 * A vm with the devices and slots of a snapshot, newborn, but without its memory and its states; options: NULL or as
 * for vcore_snapshot_clone(), whose errors it has.
 */
int vc_snapshot_build(const struct vcore_snapshot *snapshot, const struct vcore_clone_options *options,
                      struct vcore_vm **vm);
/* Make a still vm what the snapshot says; memory: also that, from its images. */
int vc_snapshot_become(struct vcore_vm *vm, const struct vcore_snapshot *snapshot, bool memory);
/* Whether it can: same machine, devices and slots, after virtio-mem's are plugged in. 0; -EINVAL, -ENOTSUP with what is
 * different */
int vc_snapshot_match(struct vcore_vm *vm, const struct vcore_snapshot *snapshot);

#endif
