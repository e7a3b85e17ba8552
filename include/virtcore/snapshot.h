/* SPDX-License-Identifier: LGPL-2.1-or-later */
/** @file Snapshots: a machine as a value, to be cloned, gone back to, and kept. */
#ifndef VIRTCORE_SNAPSHOT_H
#define VIRTCORE_SNAPSHOT_H

#include <virtcore/types.h>
#include <virtcore/vm.h>

VCORE_BEGIN_DECLS

/**
 * What a vm was at one moment: vcpus, devices, memory and guest time. Immutable and reference-counted; independent of
 * the vm it was taken of. Any number of threads may use one.
 */
typedef struct vcore_snapshot vcore_snapshot;

/**
 * Take a snapshot of a vm that runs, is paused, or was never started. One that runs is held meanwhile and goes on.
 *
 * Memory in a memfd or anonymous memory, without huge or locked pages, is not copied but shared with the snapshot from
 * then on, copy on write; anonymous memory is copied once, at the first snapshot. Later snapshots copy what was written
 * since the one before. A descriptor that vcore_memory_get_info() gave for such a slot before belongs to the snapshot
 * then. Other memory is copied whole each time: huge or locked pages, files, the program's own, and what other
 * processes have mapped.
 *
 * Requests that devices are at work on are finished or will be done again by whoever continues from the snapshot. What
 * is outside the machine is not in it: the contents of disk images, peers on the network, hooks, the debugger.
 *
 * Host processes of promoted address spaces (VCORE_ENGINE_AUTO) need memory that they can map. A vm that derives from a
 * snapshot, by taking it or as its clone, gets a copy of its own when a guest process has computed for about a quarter
 * of a second: in pieces, while it runs, if the host has eight times as much memory available. Memory whose address the
 * program has (vcore_memory_hva(), vcore_memory_get_info()) is not copied, for the program may write to it at any time.
 *
 * @param snapshot out: a new reference, to be given back with vcore_snapshot_unref()
 * @return 0; -ENOTSUP a device cannot be saved (named), or this backend cannot save its interrupt controllers; nothing
 *         has changed then; -EBUSY the vm has exited, a vcpu is inside vcore_vcpu_run(), or another thread boots or
 *         resets it; -EDEADLK from a vcpu's own callback; -ENOMEM; errno of what the host refuses
 */
VCORE_API int vcore_snapshot_take(vcore_vm *vm, vcore_snapshot **snapshot);

/** Take one more reference. @return snapshot */
VCORE_API vcore_snapshot *vcore_snapshot_ref(vcore_snapshot *snapshot);

/** Give a reference back; NULL is allowed. Clones do not depend on it. */
VCORE_API void vcore_snapshot_unref(vcore_snapshot *snapshot);

struct vcore_snapshot_info {
	uint32_t size;
	uint32_t machine; /**< enum vcore_machine */
	uint32_t backend; /**< on which it was taken */
	uint32_t vcpus;
	uint32_t devices; /**< with a state in it, those of the machine type included */
	uint32_t slots;
	uint64_t memory;        /**< bytes in all slots */
	uint64_t memory_copied; /**< of these, bytes that were copied when it was taken */
	uint64_t time_ns;       /**< guest time */
	uint8_t id[16];         /**< random: tells it from all others; kept in files */
};

/** @return 0; -EINVAL */
VCORE_API int vcore_snapshot_get_info(const vcore_snapshot *snapshot, struct vcore_snapshot_info *info);

enum vcore_clone_flags {
	/** The clone keeps what tells machines apart. Without it, its VM generation ID is a new one, so
	 *  that the guest's random numbers are its own. */
	VCORE_CLONE_SAME_IDENTITY = 1u << 0,
	/** Its virtio-nets have new random addresses, locally administered: see vcore_net_set_mac() about what a guest has
	 *  to do whose driver runs. Not those that somebody else serves (vhost-user-net), and no other cards: give them
	 *  others by `properties`. */
	VCORE_CLONE_NEW_MACS = 1u << 1,
};

struct vcore_clone_options {
	uint32_t size;
	uint32_t backend; /**< AUTO: that of the snapshot */
	uint32_t engine;  /**< AUTO: that of the snapshot, where its backend is the same */
	uint32_t loop;    /**< enum vcore_loop_mode */
	uint32_t flags;   /**< enum vcore_clone_flags */
	uint32_t log_level;
	vcore_log_fn log; /**< NULL: no log */
	void *log_ctx;
	void *ctx; /**< for the following */
	/**
	 * With which properties a device is added to the clone. What the original has open, such as a disk image, a port
	 * or a file for the console's output, mostly cannot be its clone's too. NULL: all as the original.
	 * @param index of the device among those of the snapshot that were added by type, in order, from 0
	 * @return properties as for vcore_device_add(), copied; NULL: those that were given
	 */
	const char *(*properties)(void *ctx, uint32_t index, const char *type, const char *properties);
	/**
	 * Add to the clone what the program itself added to the original: devices by vcore_io_add() in the same order,
	 * slots of its own memory. Called before any state is loaded. @return 0, or negative errno, which ends the clone
	 */
	int (*prepare)(void *ctx, vcore_vm *vm);
};

/**
 * A new vm that is what the snapshot says: memory shared with it until written, devices of the same types, vcpus about
 * to go on. It is VCORE_VM_CREATED, and its guest time stands until it is started or a vcpu is run.
 *
 * @param options NULL: as the original
 * @param vm      out: a new reference
 * @return 0; -ENOTSUP the backend lacks CPU features of the snapshot (named); -EINVAL devices or slots differ from the
 *         snapshot's (named); otherwise as vcore_vm_new(), vcore_device_add() and prepare
 */
VCORE_API int vcore_snapshot_clone(vcore_snapshot *snapshot, const struct vcore_clone_options *options, vcore_vm **vm);

/**
 * Make a vm what the snapshot says, in place: the vm that it was taken of, a clone of it, or one with the same devices
 * and memory. Takes as long as there are pages written since the vm was last the same as the snapshot. A vm that runs
 * is held meanwhile and goes on; one that has exited is VCORE_VM_CREATED then. Devices and slots that came since must
 * be removed before. Its VM generation ID is the snapshot's: vcore_vm_set_generation_id() where the guest is to notice.
 *
 * @return 0; -EINVAL devices or slots differ (named); -ENOTSUP as vcore_snapshot_clone(), nothing has changed then;
 *         -EBUSY, -EDEADLK as vcore_snapshot_take(); other errors, of a device's load, leave the vm in a state in
 *         between, from which vcore_vm_reset() or another vcore_vm_reset_to() leads out
 */
VCORE_API int vcore_vm_reset_to(vcore_vm *vm, vcore_snapshot *snapshot);

enum vcore_snapshot_file_flags {
	VCORE_SNAPSHOT_ZSTD = 1u << 0,      /**< save: memory is compressed; -ENOTSUP in a build without zstd */
	VCORE_SNAPSHOT_SYNC = 1u << 1,      /**< save: returns when the file is on its disk */
	VCORE_SNAPSHOT_NO_VERIFY = 1u << 2, /**< load: the checksums of memory are not looked at */
};

struct vcore_snapshot_save_options {
	uint32_t size;
	uint32_t flags; /**< VCORE_SNAPSHOT_ZSTD, VCORE_SNAPSHOT_SYNC */
	/** The file is to hold only what differs from this snapshot, which must be given to load it too. NULL: all. */
	vcore_snapshot *parent;
	/** Told now and then, on the calling thread, how many bytes of memory are saved, and of how many. Anything but 0
	 *  gives up. NULL: nobody is. */
	int (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
};

/**
 * Save a snapshot to a file. It is written beside the path under a temporary name and renamed when it is whole: at all
 * times the path is what it was or the new file. Only its owner may read it (mode 0600): the guest's memory is in it.
 * Pages of zeroes take no room. From any thread; it takes as long as writing what there is, and holds no vm.
 *
 * @param options NULL: a complete file, not compressed
 * @return 0; -ECANCELED progress gave up; -ENOTSUP a build without json-c, or ZSTD without zstd; -EINVAL; -ENOMEM;
 *         errno of writing (the path's old file is still there then, no temporary one)
 */
VCORE_API int vcore_snapshot_save(vcore_snapshot *snapshot, const char *path,
                                  const struct vcore_snapshot_save_options *options);

struct vcore_snapshot_load_options {
	uint32_t size;
	uint32_t flags;         /**< VCORE_SNAPSHOT_NO_VERIFY */
	vcore_snapshot *parent; /**< of an incremental file; not looked at for others */
};

/**
 * A snapshot from a file. Memory is not read but mapped: clones read from the file what they touch, all of them share
 * it, and the file must not be written or cut while the snapshot or a clone lives (deleted or replaced by a new save it
 * may be). It is read once to look at checksums, unless NO_VERIFY; of a compressed file it is unpacked into host
 * memory, and the file is done with.
 *
 * The file may be anybody's: what is cut off, altered or contradictory is refused. But it names devices with their
 * properties, and those name files and addresses of the host: of a file that is not trusted give clones properties of
 * your own (struct vcore_clone_options).
 *
 * @param options  NULL: verified, complete
 * @param snapshot out: a new reference, to be given back with vcore_snapshot_unref()
 * @return 0; -EINVAL no snapshot, cut off, altered, of another version, or the parent is missing or another one; -EIO a
 *         compressed part cannot be unpacked; -ENOTSUP a CPU feature this library does not know (named), a build
 *         without json-c, or a compressed file without zstd; -ENOMEM; errno of reading
 */
VCORE_API int vcore_snapshot_load(const char *path, const struct vcore_snapshot_load_options *options,
                                  vcore_snapshot **snapshot);

VCORE_END_DECLS
#endif
