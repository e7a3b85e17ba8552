/* SPDX-License-Identifier: LGPL-2.1-or-later */
/** @file Memory slots: guest-physical ranges backed by host memory. */
#ifndef VIRTCORE_MEMORY_H
#define VIRTCORE_MEMORY_H

#include <virtcore/types.h>

VCORE_BEGIN_DECLS

/** Access rights of the guest to a slot, and attributes of its backing. */
enum {
	VCORE_MEM_R = 1u << 0,
	VCORE_MEM_W = 1u << 1,
	VCORE_MEM_X = 1u << 2,
	VCORE_MEM_RWX = 7,           /**< ordinary RAM */
	VCORE_MEM_RX = 5,            /**< ROM: guest writes go to the MMIO bus */
	VCORE_MEM_HUGE_2M = 1u << 8, /**< 2 MiB pages from hugetlbfs; -ENOMEM when the host has none reserved */
	VCORE_MEM_HUGE_1G = 1u << 9,
	VCORE_MEM_THP = 1u << 10,       /**< ask for transparent huge pages (madvise) */
	VCORE_MEM_PREALLOC = 1u << 11,  /**< touch every page now, on several threads */
	VCORE_MEM_MERGEABLE = 1u << 12, /**< offer to kernel same-page merging (KSM) */
	VCORE_MEM_LOCKED = 1u << 13,    /**< mlock; -EPERM or -ENOMEM by RLIMIT_MEMLOCK */
	VCORE_MEM_LOG_DIRTY = 1u << 14, /**< keep a dirty log from the start */
};

enum vcore_memory_kind {
	VCORE_MEMORY_ANON = 0,  /**< private anonymous memory */
	VCORE_MEMORY_MEMFD = 1, /**< shared memfd, so that other processes can map it */
	VCORE_MEMORY_FILE = 2,  /**< fd + offset, MAP_SHARED; with VCORE_MEMORY_PRIVATE_FILE copy on write */
	VCORE_MEMORY_PRIVATE_FILE = 3,
	VCORE_MEMORY_POINTER = 4, /**< the caller's own memory: must outlive the slot, page-aligned */
};

struct vcore_memory_options {
	uint32_t size;
	uint32_t kind; /**< enum vcore_memory_kind */
	void *pointer; /**< POINTER */
	int32_t fd;    /**< FILE, PRIVATE_FILE: duplicated */
	uint32_t pad;
	uint64_t offset; /**< FILE, PRIVATE_FILE: page-aligned */
	/**
	 * NUMA nodes of the host whose memory it takes: "bind:0-1", "interleave:0,2" or "preferred:1"; NULL: as the
	 * process. -EINVAL for nodes that the host has not, or not for this process; -ENOTSUP for a kernel without NUMA
	 */
	const char *numa;
	/** VCORE_MEM_PREALLOC: called on the thread that adds the slot, every 16 MiB or so; anything but 0 ends it with
	 * -ECANCELED. NULL: nobody is told */
	int (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *progress_ctx;
	uint32_t prealloc_threads; /**< VCORE_MEM_PREALLOC; 0: one a CPU of this process, at most 16; at most 64 */
	uint32_t pad2;
};

/**
 * Add a slot.
 *
 * The host commits nothing before it is touched, and may swap it out (huge pages and VCORE_MEM_LOCKED excepted): slots
 * may well add up to more than the host has (under vm.overcommit_memory=2 as far as the host lets them).
 *
 * @param gpa     guest-physical start, multiple of 4 KiB (of the huge page size with VCORE_MEM_HUGE_*)
 * @param length  bytes, likewise; gpa + length at most 2^52 and what the backend's CPU model addresses
 * @param flags   VCORE_MEM_R plus W, X and attributes
 * @param options NULL: anonymous memory
 * @param slot    out, may be NULL; borrowed
 * @return 0; -EINVAL misaligned, empty, out of range, bad flags; -EEXIST when it overlaps a slot (the message names
 *         both ranges); -ENOSPC when the backend has no slot left; -ENOMEM; errno of mmap/mlock
 */
VCORE_API int vcore_memory_add(vcore_vm *vm, uint64_t gpa, uint64_t length, uint32_t flags,
                               const struct vcore_memory_options *options, vcore_slot **slot);

/** Remove a slot. Vcpus are held for the moment it takes; memory the library made is freed, the caller's is not.
 *  Requests that devices are at work on keep it until they end: the caller's own memory must stay until then as well.
 *  @return 0; -EINVAL for NULL */
VCORE_API int vcore_memory_remove(vcore_slot *slot);

/** Copy out of guest memory. @return 0; -EFAULT (message names the first address) when a byte is not in a slot */
VCORE_API int vcore_memory_read(vcore_vm *vm, uint64_t gpa, void *buffer, size_t length);

/** Copy into guest memory, also into a read-only slot; cached translations and dirty log see it.
 *  @return 0; -EFAULT, nothing written, when a byte is not in a slot */
VCORE_API int vcore_memory_write(vcore_vm *vm, uint64_t gpa, const void *buffer, size_t length);

/**
 * GPA -> HVA: a host pointer to guest memory, valid until the slot is removed.
 * Writes through it are not seen by the dirty log and, on emu, are not noticed as code modification.
 * @return 0; -EFAULT when [gpa, gpa+length) is not inside one slot
 */
VCORE_API int vcore_memory_hva(vcore_vm *vm, uint64_t gpa, size_t length, void **pointer);

/** HVA -> GPA. @return 0; -EFAULT when the pointer is in no slot */
VCORE_API int vcore_memory_gpa(vcore_vm *vm, const void *pointer, uint64_t *gpa);

struct vcore_slot_info {
	uint32_t size;
	uint32_t flags;
	uint64_t gpa, length;
	void *hva;
	int32_t fd; /**< memfd or file; -1: none. Owned by the slot */
	uint32_t kind;
	uint64_t offset; /**< of the slot's first byte in fd */
};

/** @return 0; -EINVAL */
VCORE_API int vcore_memory_get_info(vcore_slot *slot, struct vcore_slot_info *info);

/** Start or stop the dirty log of a slot. @return 0; -ENOTSUP */
VCORE_API int vcore_memory_log_dirty(vcore_slot *slot, bool enable);

/**
 * Fetch and clear the dirty log: one bit a 4 KiB page, bit 0 of byte 0 first.
 * @param bitmap out: at least (length / 4096 + 63) / 64 * 8 bytes
 * @param bytes  its size
 * @return number of dirty pages; -EINVAL when the log is off or the bitmap too small
 */
VCORE_API int64_t vcore_memory_get_dirty(vcore_slot *slot, void *bitmap, size_t bytes);

/** What host memory slots take, in bytes. */
struct vcore_memory_stats {
	uint32_t size, pad;
	uint64_t total;     /**< the slots' length */
	uint64_t resident;  /**< there, in this process's page tables */
	uint64_t shared;    /**< of that, mapped by others as well: other processes, other vms of this one */
	uint64_t swapped;   /**< in swap */
	uint64_t huge;      /**< of resident, in huge pages, transparent or of hugetlbfs */
	uint64_t locked;    /**< of resident, by mlock */
	uint64_t merged;    /**< of resident, by KSM; 0 where the kernel does not tell (before 6.8) */
	uint64_t ballooned; /**< given up by the guest to virtio-balloon; of a slot alone: 0 */
};

/**
 * For all slots of a vm. stats->size set by the caller.
 *
 * It comes from /proc/self/smaps and costs what the kernel takes to walk the page tables of the whole process: about a
 * millisecond for each GiB of small pages in it. Where the kernel has joined a slot with a mapping beside it, such as
 * other memory of the caller's, the figures are divided by length.
 * @return 0; -EINVAL; errno of reading /proc
 */
VCORE_API int vcore_vm_memory_stats(vcore_vm *vm, struct vcore_memory_stats *stats);

/** Likewise for one slot, at the same cost. */
VCORE_API int vcore_memory_get_stats(vcore_slot *slot, struct vcore_memory_stats *stats);

VCORE_END_DECLS
#endif
