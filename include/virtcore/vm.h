/* SPDX-License-Identifier: LGPL-2.1-or-later */
/** @file The vm: birth, running, death. */
#ifndef VIRTCORE_VM_H
#define VIRTCORE_VM_H

#include <virtcore/backend.h>
#include <virtcore/boot.h>
#include <virtcore/exit.h>
#include <virtcore/log.h>
#include <virtcore/types.h>

VCORE_BEGIN_DECLS

enum vcore_machine {
	VCORE_MACHINE_NONE = 0,    /**< bare: vcpus and what the program adds */
	VCORE_MACHINE_MICROVM = 1, /**< direct kernel boot, interrupt controllers, timers, minimal ACPI */
	VCORE_MACHINE_PC = 2,      /**< -ENOTSUP in a build without it */
};

/** What happens to a port or MMIO access that nobody answers. */
enum vcore_unhandled {
	VCORE_UNHANDLED_DEFAULT = 0, /**< EXIT for machine `none`, IGNORE otherwise */
	VCORE_UNHANDLED_EXIT = 1,    /**< the vcpu exits with VCORE_EXIT_PIO or _MMIO */
	VCORE_UNHANDLED_IGNORE = 2,  /**< reads give all ones, writes vanish, as on a PC */
};

/** Who drives the vm's event loop (timers and file descriptors of its devices). */
enum vcore_loop_mode {
	VCORE_LOOP_THREAD = 0,  /**< a thread of the library, started when first needed */
	VCORE_LOOP_PROGRAM = 1, /**< the program: vcore_vm_loop_fd() and vcore_vm_loop_run() */
};

struct vcore_options {
	uint32_t size;
	uint32_t machine;      /**< enum vcore_machine */
	uint32_t backend;      /**< enum vcore_backend */
	uint32_t engine;       /**< enum vcore_engine */
	uint32_t irqchip;      /**< enum vcore_irqchip */
	uint32_t vcpus;        /**< 0: 1; at most 255 */
	uint64_t memory;       /**< bytes of RAM, multiple of 4 KiB; 0: none (`none`), 128 MiB otherwise */
	uint32_t memory_kind;  /**< VCORE_MEMORY_MEMFD or _ANON for that RAM; with _ANON, backend emu takes a memfd all the
	                          same where  its engine promotes address spaces and memory_flags ask for nothing that only
	                          anonymous memory has */
	uint32_t memory_flags; /**< VCORE_MEM_* attributes for that RAM */
	const char *cpu;       /**< CPU model with +feature,-feature; NULL: "host" on kvm, "x86-64-v3" on emu */
	uint32_t unhandled;    /**< enum vcore_unhandled */
	uint32_t loop;         /**< enum vcore_loop_mode */
	uint64_t tsc_khz;      /**< guest TSC frequency; 0: the host's on kvm, 1,000,000 (1 GHz) on emu */
	vcore_log_fn log;      /**< NULL: no log */
	void *log_ctx;
	uint32_t log_level; /**< enum vcore_log_level */
	uint32_t no_legacy; /**< microvm: 1 leaves out PIC, PIT, RTC and keyboard controller (hardware-reduced ACPI) */
	uint32_t max_vcpus; /**< those beyond vcpus can be plugged in later, see vcore_vcpu_plug(); 0: as vcpus; at most
	                       255. Machine `none` has no way to */
	uint32_t pad;
	const char *memory_numa; /**< for that RAM: struct vcore_memory_options' numa, */
	int (*memory_progress)(void *ctx, uint64_t done, uint64_t total); /**< ... progress, once a slot, */
	void *memory_progress_ctx;
	uint32_t memory_threads; /**< ... and prealloc_threads */
	uint32_t pad2;
	const char *const *vcpu_places; /**< where the host runs vcpus: "N,properties" or "all,properties" each, with those
	                                   of vcore_vcpu_place(); NULL-terminated; NULL: none */
};

enum vcore_vm_state {
	VCORE_VM_CREATED = 0, /**< never started, or the program runs the vcpus itself */
	VCORE_VM_RUNNING = 1,
	VCORE_VM_PAUSED = 2,
	VCORE_VM_EXITED = 3, /**< a final exit has happened; vcore_vm_wait() gives it at once */
};

/** Counters and facts of a vm; see vcore_vm_get_info(). */
struct vcore_vm_info {
	uint32_t size;
	uint32_t backend; /**< the one in use */
	uint32_t engine;
	uint32_t irqchip; /**< the one in use */
	uint32_t machine;
	uint32_t vcpus; /**< that are plugged in */
	uint32_t state; /**< enum vcore_vm_state */
	uint32_t slots;
	uint64_t memory; /**< bytes in all slots */
	uint64_t tsc_khz;
	uint64_t time_ns;   /**< guest time since creation, without pauses */
	uint64_t exits;     /**< times a vcpu left guest code for the library */
	uint64_t pio, mmio; /**< accesses dispatched to devices */
	uint64_t hypercalls;
	uint64_t interrupts;   /**< injected by the library; 0 where the kernel delivers them */
	uint64_t instructions; /**< executed by emu, by its engine jit only those that are not translated; 0 on kvm */
	uint64_t emulated;     /**< kvm: instructions executed by the interpreter in its place */
	uint64_t tlb_fills;    /**< emu */
	uint64_t blocks;       /**< emu: decoded or translated blocks */
	uint64_t compared;     /**< emu, engine lockstep: instructions that were compared */
	uint64_t calls;        /**< emu, engine jit: instructions for which translated code called a C function */
	uint64_t bails;        /**< ... accesses (devices, page crossings, code, faults) that it left to the interpreter */
	uint64_t untranslated; /**< ... blocks of code that the interpreter had because it is not translated */
	uint64_t promoted;     /**< emu: times that an address space was promoted, see VCORE_ENGINE_AUTO */
	uint64_t promoted_stops; /**< ... the processes of such spaces stopped, for whatever reason */
	uint32_t max_vcpus;      /**< with those that are not plugged in */
	uint32_t pad;
};

/** How often instructions of one kind were not executed by translated code. */
struct vcore_op_count {
	char name[16]; /**< "cpuid"; forms of one operation share a name */
	uint64_t count;
};

/**
 * Make a vm.
 *
 * @param options NULL: machine none, backend auto, one vcpu, no memory
 * @param vm      out: a new reference, to be given back with vcore_vm_unref()
 * @return 0; -EINVAL for a value out of range; -ENOTSUP for something this build or host lacks; -ENODEV, -EACCES when
 *         backend kvm was asked for and /dev/kvm does not exist or may not be opened; -ENOMEM
 */
VCORE_API int vcore_vm_new(const struct vcore_options *options, vcore_vm **vm);

/**
 * Make a vm from a JSON description, up to a loaded kernel. Needs json-c.
 *
 * Keys, all optional: "machine" ("microvm"), "backend", "engine", "irqchip", "cpus", "max_cpus", "cpu", "vcpu_places"
 * (array), "memory" (bytes, or like "512M"), "memory_kind", "memory_flags" (array), "memory_numa", "memory_threads",
 * "unhandled", "tsc_khz", "legacy" (bool) as in struct vcore_options; "switches": array of names, each a switch for
 * NICs of this vm; "devices": array of objects with "type" and the device's properties; "boot": object with "kernel",
 * "initrd", "cmdline", "image", "modules" (array), "address" as in struct vcore_boot_options.
 * @return as vcore_vm_new(); -EINVAL with the key's name for an unknown key or a wrong value; -ENOTSUP without json-c
 */
VCORE_API int vcore_vm_new_from_json(const char *text, vcore_vm **vm);

/**
 * The full description of a machine: every key of vcore_vm_new_from_json() with the value it would have, which that
 * function takes back. A value of null is the library's choice when the vm is made. Nothing is made or opened.
 *
 * @param description what to begin with; NULL: `options`
 * @param options     in place of a description; NULL: machine microvm. What is no key of a description is left out
 * @param boot        in place of the description's "boot"; NULL, or without a `kernel`: that
 * @param devices     further ones "type,key=value,...", NULL-terminated; NULL: none
 * @param text        out: cut to length, always ended by a zero byte; NULL with length 0: only the length is wanted
 * @return its whole length; errors as vcore_vm_new_from_json()
 */
VCORE_API int vcore_describe(const char *description, const struct vcore_options *options,
                             const struct vcore_boot_options *boot, const char *const *devices, char *text,
                             size_t length);

/**
 * Change where the vm's log lines go from now on; for a vm made from a description.
 * @param fn NULL: no log
 * @return 0; -EINVAL for an unknown level; -EBUSY once the vm was started
 */
VCORE_API int vcore_vm_set_log(vcore_vm *vm, vcore_log_fn fn, void *ctx, enum vcore_log_level level);

/** Take one more reference. @return vm */
VCORE_API vcore_vm *vcore_vm_ref(vcore_vm *vm);

/**
 * Give a reference back. The last one stops the vm's threads, joins them and frees everything the vm owns.
 * NULL is allowed. The last reference must not be given back from inside a callback of the same vm.
 */
VCORE_API void vcore_vm_unref(vcore_vm *vm);

/**
 * Let the library run the vcpus, a thread each. Returns at once.
 * @return 0; -EBUSY when it already runs or a vcpu is inside vcore_vcpu_run(); -EAGAIN when a thread cannot be made
 */
VCORE_API int vcore_vm_start(vcore_vm *vm);

/**
 * Wait for the final exit of a started vm: poweroff, reset, crash, stopped, debug-exit, or on machine none also halt
 * and unhandled accesses.
 * @param timeout_ns negative: for ever; 0: only look
 * @param exit       out, may be NULL; exit->size set by the caller
 * @return 0; -ETIMEDOUT; -EINVAL when never started; -EDEADLK from one of the vm's own threads
 */
VCORE_API int vcore_vm_wait(vcore_vm *vm, int64_t timeout_ns, struct vcore_exit *exit);

/** Hold all vcpus; guest time stands still. Returns when none executes guest code. 0 also when already paused.
 *  @return 0; -EINVAL when not started; -EDEADLK from a vcpu's own callback */
VCORE_API int vcore_vm_pause(vcore_vm *vm);

/** Let a paused vm go on. @return 0; -EINVAL when not paused; -EBUSY while another thread boots or resets it */
VCORE_API int vcore_vm_resume(vcore_vm *vm);

/** End a started vm: its final exit becomes VCORE_EXIT_STOPPED unless it already had one. Does not wait.
 *  @return 0; -EINVAL when never started */
VCORE_API int vcore_vm_stop(vcore_vm *vm);

/**
 * Put vcpus, interrupt controllers and devices in their power-on state. Memory stays as it is; a kernel booted from
 * files is read and put in place again, one booted from memory must be booted again. A vm that has exited may then be
 * started anew.
 * @return 0; -EBUSY while it runs (stop and wait, or pause, first), a vcpu is inside vcore_vcpu_run(), or another
 * thread boots or resets it; as vcore_boot() when the kernel cannot be read again
 */
VCORE_API int vcore_vm_reset(vcore_vm *vm);

/** A descriptor that polls readable once the started vm has its final exit. Owned by the vm. @return fd */
VCORE_API int vcore_vm_fd(vcore_vm *vm);

/** With VCORE_LOOP_PROGRAM: a descriptor that polls readable when vcore_vm_loop_run() has work. Owned by the vm.
 *  @return fd; -EINVAL in the other mode */
VCORE_API int vcore_vm_loop_fd(vcore_vm *vm);

/**
 * With VCORE_LOOP_PROGRAM: serve timers and descriptors of the vm's devices.
 * @param timeout_ns how long to wait for the first event; negative: for ever
 * @return number of events served; -EINVAL in the other mode; -EBUSY while another thread is inside
 */
VCORE_API int vcore_vm_loop_run(vcore_vm *vm, int64_t timeout_ns);

/** The vcpu of that index, also one that is not plugged in; NULL (with an error message) when there is none. */
VCORE_API vcore_vcpu *vcore_vm_vcpu(vcore_vm *vm, uint32_t index);

/** Facts and counters; info->size set by the caller. @return 0; -EINVAL */
VCORE_API int vcore_vm_get_info(vcore_vm *vm, struct vcore_vm_info *info);

/**
 * Which instructions backend emu's engine jit called C functions for, the most frequent first, over all vcpus. From any
 * thread; while the vm runs, the figures are of about now.
 *
 * @param counts out: at most `room` of them, those with a count of 0 left out
 * @return how many were stored; 0 on another backend or engine; -EINVAL without a vm or a place
 */
VCORE_API int vcore_vm_get_op_counts(vcore_vm *vm, struct vcore_op_count *counts, uint32_t room);

/**
 * Give the vm another generation ID: 16 bytes in the guest's memory by which it notices that it is not the only one
 * with its past (a copy, an older state). Its driver is told, and Linux renews its random numbers. A vm is born with a
 * random one.
 * @param id 16 bytes; NULL: random ones
 * @return 0; -ENOTSUP on machine none; -EINVAL no vm
 */
VCORE_API int vcore_vm_set_generation_id(vcore_vm *vm, const uint8_t *id);

/** @param id out: 16 bytes. @return 0; -ENOTSUP on machine none; -EINVAL */
VCORE_API int vcore_vm_get_generation_id(vcore_vm *vm, uint8_t id[16]);

VCORE_END_DECLS
#endif
