/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file Hooks: see what a guest does, by callback: the code it executes, its memory and port accesses.
 *
 * Hooks are added and removed at any time, also while vcpus run. Where none is, guest code is executed as if there were
 * no hooks at all. Backend emu has all kinds; kvm, where the CPU itself executes the guest, has ports only.
 *
 * A callback runs on the thread of the vcpu, with no library lock held, possibly on several threads at once, as a
 * device's callback does, and may call the same functions: the vcpu's get functions, vcore_vcpu_translate(), _read()
 * and _write(), those of memory, hooks and devices, and vcore_vcpu_kick(), but none that change the vcpu's registers
 * (-EBUSY). What the program itself does to guest memory calls no hook.
 */
#ifndef VIRTCORE_HOOK_H
#define VIRTCORE_HOOK_H

#include <virtcore/types.h>

VCORE_BEGIN_DECLS

enum vcore_hook_kind {
	/**
	 * Before an instruction is executed whose first byte has a linear address in the range; RIP is that instruction.
	 * One that does not complete (a fault, a repetition that an interrupt breaks) is told again when it is begun again.
	 * After vcore_vcpu_kick() in the callback the run ends before the instruction; the next run executes it without
	 * telling it again.
	 */
	VCORE_HOOK_CODE = 0,
	/**
	 * The same, before a basic block that begins in the range: instructions that follow one another, of which only the
	 * last may be a branch. Where else blocks end is the engine's affair, but each instruction belongs to a block that
	 * was told. A block that was left early (fault, interrupt) is gone on with as another that begins there.
	 */
	VCORE_HOOK_BLOCK = 1,
	/**
	 * After a data access by a vcpu that touches the range of guest-physical addresses, be it memory or a device: also
	 * those that the CPU makes of itself to descriptor tables, task segments and stacks, but not its walks of page
	 * tables and fetches of code. An access across a page's end is told as two; an instruction that is begun again
	 * (fault, exit to the program) tells its accesses again. Registers are as they were before the instruction. After
	 * vcore_vcpu_kick() the run ends soon behind the instruction.
	 */
	VCORE_HOOK_MEMORY = 2,
	/**
	 * An access to a port in the range: a read when its value is known, also one that the program answered; a write
	 * before the device gets it. On kvm not those that stay in the kernel: in-kernel interrupt controllers and timers,
	 * doorbells, coalesced writes.
	 */
	VCORE_HOOK_PORT = 3,
};

/** Accesses that a hook of kind MEMORY or PORT is for. */
enum {
	VCORE_HOOK_READS = 1u << 0,
	VCORE_HOOK_WRITES = 1u << 1,
};

/** What the guest does. */
struct vcore_hook_event {
	uint32_t size;
	uint32_t kind;     /**< enum vcore_hook_kind */
	vcore_hook *hook;  /**< whose callback this is */
	vcore_vcpu *vcpu;  /**< who does it */
	uint64_t address;  /**< CODE, BLOCK: linear address; MEMORY: guest-physical address; PORT: port */
	uint64_t linear;   /**< CODE, BLOCK, MEMORY: linear (guest-virtual) address; PORT: 0 */
	uint32_t length;   /**< bytes of the instruction, of the block, of the access */
	uint32_t is_write; /**< MEMORY, PORT */
	uint64_t value;    /**< MEMORY, PORT: what was read or written; of more than 8 bytes the first 8 */
	const void *data;  /**< MEMORY: all of it, `length` bytes, good until the callback returns; else NULL */
};

struct vcore_hook_options {
	uint32_t size;
	uint32_t kind;   /**< enum vcore_hook_kind */
	uint64_t start;  /**< linear address, guest-physical address or port */
	uint64_t length; /**< 0: to the end of the address space */
	uint32_t access; /**< MEMORY, PORT: VCORE_HOOK_READS, _WRITES; 0: both. Else 0 */
	uint32_t pad;
	void (*callback)(void *ctx, const struct vcore_hook_event *event);
	void *ctx; /**< given to callback and destroy */
	/** The hook is gone and none of its callbacks runs. May be NULL. Exactly once, also when adding failed. */
	void (*destroy)(void *ctx);
};

/**
 * Add a hook. Vcpus are held for the moment it takes; each sees the hook at the latest with the next block that it
 * begins. Hooks on the same place are called in the order in which they were added.
 *
 * @param options copied
 * @param hook    out, may be NULL; borrowed from the vm until it is removed
 * @return 0; -EINVAL unknown kind or access, no callback, a range beyond the address space; -ENOTSUP a kind that the
 *         backend does not have; -ENOMEM. On failure options->destroy has been called.
 */
VCORE_API int vcore_hook_add(vcore_vm *vm, const struct vcore_hook_options *options, vcore_hook **hook);

/**
 * Remove a hook. No callback of it begins after this has returned, and none runs any more. Called inside a callback on
 * one of the vm's vcpus, the hook's own for example, it does not wait for those that have begun: destroy tells when the
 * last one is over.
 * @return 0; -EINVAL for NULL; -EALREADY while another thread removes it
 */
VCORE_API int vcore_hook_remove(vcore_hook *hook);

VCORE_END_DECLS
#endif
