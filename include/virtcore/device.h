/* SPDX-License-Identifier: LGPL-2.1-or-later */
/** @file Devices: the library's own by name, the program's by callback. */
#ifndef VIRTCORE_DEVICE_H
#define VIRTCORE_DEVICE_H

#include <virtcore/types.h>

VCORE_BEGIN_DECLS

/** One access by the guest. */
struct vcore_io {
	uint32_t size;
	uint32_t bus;     /**< enum vcore_bus */
	uint64_t address; /**< absolute: port, GPA, hypercall number */
	uint64_t offset;  /**< from the start of the region */
	uint64_t data;    /**< write: the value; read: put the answer here, low `width` bytes count */
	uint32_t width;   /**< 1, 2, 4 or 8; hypercall: 8 */
	uint32_t is_write;
	uint64_t args[4]; /**< hypercall: RBX, RCX, RDX, RSI; data becomes RAX */
	vcore_vcpu *vcpu; /**< who did it; NULL when it was not a vcpu */
};

/**
 * What a device does. Every callback may be NULL. Callbacks run on the thread of the vcpu that made the access, with no
 * library lock held, possibly on several threads at once.
 */
struct vcore_device_ops {
	uint32_t size;
	uint32_t pad;
	/** A read. NULL: reads give all ones. */
	void (*read)(void *ctx, struct vcore_io *io);
	/** A write or a hypercall. NULL: writes vanish. */
	void (*write)(void *ctx, struct vcore_io *io);
	/** The vm is reset. */
	void (*reset)(void *ctx);
	/** Save the state. Returns bytes written, or needed when buffer is NULL; negative errno: cannot be saved. */
	int64_t (*save)(void *ctx, void *buffer, size_t length);
	/** Load what save wrote, of this or an older version. 0 or negative errno. */
	int (*load)(void *ctx, const void *buffer, size_t length);
	/** The device goes away. Exactly once, also when adding it failed. */
	void (*destroy)(void *ctx);
};

/**
 * Add a device of the program's own, answering in [start, start+length) of a bus.
 *
 * @param ops    copied
 * @param ctx    given to every callback
 * @param device out, may be NULL; borrowed
 * @return 0; -EEXIST when it overlaps another device (the message names it); -EINVAL empty or beyond the bus; -ENOTSUP
 *         hypercalls on a KVM that does not hand them to programs; -ENOMEM. On failure ops->destroy has been called.
 */
VCORE_API int vcore_io_add(vcore_vm *vm, enum vcore_bus bus, uint64_t start, uint64_t length,
                           const struct vcore_device_ops *ops, void *ctx, vcore_device **device);

/** Let an existing device answer in one more region; its callbacks tell regions apart by io->bus and io->address.
 *  @return as vcore_io_add(); the device is not destroyed on failure */
VCORE_API int vcore_io_add_region(vcore_device *device, enum vcore_bus bus, uint64_t start, uint64_t length);

/**
 * Coalesce guest writes to a sub-range: they may be delivered later and in a batch, before the next other exit.
 * A hint: kvm uses coalesced MMIO, emu delivers at once. @return 0; -EINVAL outside the device's regions
 */
VCORE_API int vcore_io_coalesce(vcore_device *device, enum vcore_bus bus, uint64_t start, uint64_t length);

/**
 * Add one of the library's devices by type name ("uart", "debug-exit", ...; `microvm --device help` lists them).
 *
 * @param properties NULL, "key=value,key=value", or (with json-c) a JSON object
 * @param device     out, may be NULL; borrowed
 * @return 0; -ENOENT unknown type (message lists the known ones); -EINVAL unknown property or wrong value, by name;
 *         -EEXIST when its addresses are taken; -ENOTSUP JSON without json-c; errno of what it opens
 */
VCORE_API int vcore_device_add(vcore_vm *vm, const char *type, const char *properties, vcore_device **device);

/**
 * The n-th device of a type, in the order in which they were added: in a clone, or in a vm made from a description.
 * From then on the handle is the program's, and monitors do not remove that device.
 * @param device out; borrowed
 * @return 0; -ENOENT when there are not so many; -EINVAL
 */
VCORE_API int vcore_vm_find_device(vcore_vm *vm, const char *type, uint32_t index, vcore_device **device);

/** Remove a device. Returns once none of its callbacks runs, after its destroy.
 *  @return 0; -EDEADLK from one of its own callbacks; -ENOTSUP for a part of the machine type itself */
VCORE_API int vcore_device_remove(vcore_device *device);

/** @return the device's type name ("custom" for vcore_io_add); valid while the device is. */
VCORE_API const char *vcore_device_type(vcore_device *device);

/** Names and summaries of the library's device types. @return 0; -ENOENT when index is past the last.
 *  @param properties out, may be NULL: one line a property, "name  summary\n..." */
VCORE_API int vcore_device_describe(uint32_t index, const char **type, const char **summary, const char **properties);

VCORE_END_DECLS
#endif
