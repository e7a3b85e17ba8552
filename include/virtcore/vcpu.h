/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file The vcpu: state, running, interrupts, debugging, address translation.
 *
 * State functions may be called when the vcpu is not executing: before it was started, while its vm is paused or has
 * exited, or from the thread that runs it between two runs. Inside a callback of the running vcpu only the get
 * functions and translation may be called. Otherwise they return -EBUSY. Names and formats are those of the Intel SDM.
 */
#ifndef VIRTCORE_VCPU_H
#define VIRTCORE_VCPU_H

#include <virtcore/exit.h>
#include <virtcore/types.h>

VCORE_BEGIN_DECLS

struct vcore_regs {
	uint32_t size, pad;
	uint64_t rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi; /* in encoding order */
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rip, rflags;
};

struct vcore_segment {
	uint64_t base;
	uint32_t limit; /**< in bytes, granularity applied */
	uint16_t selector;
	uint16_t attributes; /**< SDM 24.4.1 layout: type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15 */
	uint32_t unusable;   /**< 1: loaded with a null selector */
	uint32_t pad;
};

struct vcore_table {
	uint64_t base;
	uint16_t limit;
	uint16_t pad[3];
};

struct vcore_sregs {
	uint32_t size, pad;
	struct vcore_segment es, cs, ss, ds, fs, gs; /* in encoding order */
	struct vcore_segment ldtr, tr;
	struct vcore_table gdtr, idtr;
	uint64_t cr0, cr2, cr3, cr4, cr8;
	uint64_t efer, apic_base, xcr0;
	uint64_t dr[4], dr6, dr7;
};

/** @return the vcpu's index in its vm. */
VCORE_API uint32_t vcore_vcpu_index(vcore_vcpu *vcpu);
/** @return the vcpu's vm; borrowed. */
VCORE_API vcore_vm *vcore_vcpu_vm(vcore_vcpu *vcpu);

/** General registers, RIP, RFLAGS. size set by the caller.
 *  @return 0; -EINVAL, also for flags or a RIP that the vcpu's mode cannot have; -EBUSY while it executes */
VCORE_API int vcore_vcpu_get_regs(vcore_vcpu *vcpu, struct vcore_regs *regs);
VCORE_API int vcore_vcpu_set_regs(vcore_vcpu *vcpu, const struct vcore_regs *regs);

/** Segment, table, control, debug registers. @return 0; -EINVAL (also: a combination no CPU can be in, named in the
 *  message); -EBUSY */
VCORE_API int vcore_vcpu_get_sregs(vcore_vcpu *vcpu, struct vcore_sregs *sregs);
VCORE_API int vcore_vcpu_set_sregs(vcore_vcpu *vcpu, const struct vcore_sregs *sregs);

/**
 * x87, SSE, AVX state in the standard (non-compacted) XSAVE format, SDM vol. 1 chapter 13.
 * @param area   legacy region, XSAVE header, then components at their CPUID offsets
 * @param length bytes; at least 576. Get: filled up to length. Set: XSTATE_BV may name only components inside length
 * @return bytes the state takes; -EINVAL; -EBUSY
 */
VCORE_API int vcore_vcpu_get_xsave(vcore_vcpu *vcpu, void *area, size_t length);
VCORE_API int vcore_vcpu_set_xsave(vcore_vcpu *vcpu, const void *area, size_t length);

/** One MSR. @return 0; -ENOENT when the vcpu has no such MSR; -EINVAL when the value is not allowed; -EBUSY */
VCORE_API int vcore_vcpu_get_msr(vcore_vcpu *vcpu, uint32_t index, uint64_t *value);
VCORE_API int vcore_vcpu_set_msr(vcore_vcpu *vcpu, uint32_t index, uint64_t value);

/** What CPUID answers in this vcpu. @param out EAX, EBX, ECX, EDX. @return 0 */
VCORE_API int vcore_vcpu_cpuid(vcore_vcpu *vcpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/** Flat modes a program can put a vcpu into with one call; general registers but RIP and RSP are left alone. */
enum vcore_mode {
	VCORE_MODE_REAL = 0,        /**< CS.base 0, paging off */
	VCORE_MODE_PROTECTED32 = 1, /**< flat 4 GiB segments, ring 0, paging off */
	VCORE_MODE_LONG64 = 2,      /**< 64-bit, ring 0; page tables at page_tables */
};

/**
 * Put the vcpu in a flat mode.
 * @param page_tables LONG64: GPA of 4 KiB-aligned space inside a slot; 6 pages (24 KiB) are written there that map the
 *                    first 4 GiB one to one, user-accessible. Ignored otherwise.
 * @return 0; -EINVAL; -EFAULT when the page tables do not fit a slot; -EBUSY
 */
VCORE_API int vcore_vcpu_set_mode(vcore_vcpu *vcpu, enum vcore_mode mode, uint64_t page_tables);

/**
 * Run guest code on the calling thread until something happens that the program must see.
 *
 * After VCORE_EXIT_PIO/_MMIO reads, put the answer into exit->data and run again with the same exit struct.
 * @param timeout_ns negative: no limit. Otherwise the run ends with VCORE_EXIT_TIMEOUT after about that time
 * @param exit       in (answer of the last exit) and out; exit->size set by the caller
 * @return 0, whatever became of the guest; -EBUSY when another thread runs it or the vm was started; -EINVAL
 */
VCORE_API int vcore_vcpu_run(vcore_vcpu *vcpu, int64_t timeout_ns, struct vcore_exit *exit);

/** Make the current or, if none, the next run end with VCORE_EXIT_KICKED. From any thread, also from callbacks.
 *  Async-signal-safe. */
VCORE_API void vcore_vcpu_kick(vcore_vcpu *vcpu);

/** Inject an external interrupt; for vms without an interrupt controller. Delivered when RFLAGS.IF and the interrupt
 * shadow allow.
 *  @return 0; -EINVAL vector > 255; -EBUSY when one is already pending; -ENOTSUP when the vm has an interrupt
 * controller */
VCORE_API int vcore_vcpu_interrupt(vcore_vcpu *vcpu, uint32_t vector);

/** Inject an NMI. From any thread. @return 0 */
VCORE_API int vcore_vcpu_nmi(vcore_vcpu *vcpu);

enum {
	VCORE_DEBUG_SINGLE_STEP = 1u << 0, /**< exit after each instruction */
	VCORE_DEBUG_SW_BREAK = 1u << 1,    /**< INT3 exits instead of raising #BP */
	VCORE_DEBUG_HW_BREAK = 1u << 2,    /**< use dr[] and dr7 below in place of the guest's */
};

struct vcore_debug {
	uint32_t size;
	uint32_t flags; /**< VCORE_DEBUG_*; 0: off */
	uint64_t dr[4];
	uint64_t dr7;
};

/** Debug the guest from outside. @return 0; -ENOTSUP; -EBUSY, also while the vm has a gdb stub (vcore_gdb_new()) */
VCORE_API int vcore_vcpu_set_debug(vcore_vcpu *vcpu, const struct vcore_debug *debug);

enum vcore_access { VCORE_ACCESS_READ = 0, VCORE_ACCESS_WRITE = 1, VCORE_ACCESS_FETCH = 2 };

/**
 * GVA -> GPA by the vcpu's current paging mode and privilege, without side effects (A/D bits stay).
 * @return 0; -EFAULT when the access would fault (message: page-fault error code); -EBUSY
 */
VCORE_API int vcore_vcpu_translate(vcore_vcpu *vcpu, uint64_t gva, enum vcore_access access, uint64_t *gpa);

/** Read or write guest-virtual memory with the page tables of the vcpu, ignoring privilege. @return 0; -EFAULT; -EBUSY
 */
VCORE_API int vcore_vcpu_read(vcore_vcpu *vcpu, uint64_t gva, void *buffer, size_t length);
VCORE_API int vcore_vcpu_write(vcore_vcpu *vcpu, uint64_t gva, const void *buffer, size_t length);

/* ---- where the host runs it ---- */

/*
 * These concern the threads of vcore_vm_start(). Before there is such a thread they are kept, and vcore_vm_start()
 * fails with their error when the host refuses; while there is one they take effect at once, or fail and change
 * nothing. They stay for the threads of later starts. Of any thread, also of one that runs another vcpu. A program that
 * gives up privileges sets them, and starts the vm, before that.
 */

/**
 * Let the vcpu's thread run on these host CPUs only.
 * @param mask  bit n of byte m: CPU 8 * m + n; NULL: wherever the host likes
 * @param bytes of the mask, 1 to 1024
 * @return 0; -EINVAL no CPU in the mask, or none of them is online and allowed to this process; -EPERM; -ENOMEM
 */
VCORE_API int vcore_vcpu_set_affinity(vcore_vcpu *vcpu, const void *mask, size_t bytes);

/** As above, in words: "0-3,8"; "" is wherever the host likes. @return likewise; -EINVAL for what is no such list */
VCORE_API int vcore_vcpu_set_cpus(vcore_vcpu *vcpu, const char *list);

enum vcore_sched_policy {
	VCORE_SCHED_OTHER = 0, /**< the host's ordinary one; with nice */
	VCORE_SCHED_BATCH = 1, /**< likewise, for who need not run soon; with nice */
	VCORE_SCHED_IDLE = 2,  /**< when nobody else wants the CPU */
	VCORE_SCHED_FIFO = 3,  /**< real time, until it waits; with priority */
	VCORE_SCHED_RR = 4,    /**< real time, taking turns among equals; with priority */
};

struct vcore_schedule {
	uint32_t size;
	uint32_t policy;   /**< enum vcore_sched_policy */
	uint32_t priority; /**< FIFO, RR: 1 (least) to 99; else 0 */
	int32_t nice;      /**< OTHER, BATCH: -20 (most) to 19; else 0 */
};

/**
 * How the host schedules the vcpu's thread. A guest that spins under FIFO or RR takes its CPU away from everybody else.
 * @return 0; -EINVAL; -EPERM when this process may not (the message says what it lacks)
 */
VCORE_API int vcore_vcpu_set_schedule(vcore_vcpu *vcpu, const struct vcore_schedule *schedule);

/**
 * Put the vcpu's thread in a control group (cgroup v2), a threaded one below that of the process.
 * @param path of its directory; NULL: wherever its creator was; a thread that runs stays then
 * @return 0; -ENOENT no such directory; -EINVAL no directory of a cgroup v2; -EACCES, -EPERM; -EOPNOTSUPP not threaded,
 *         or not in the process's own domain. The message says what is missing
 */
VCORE_API int vcore_vcpu_set_cgroup(vcore_vcpu *vcpu, const char *path);

/**
 * All of these by one text, as devices have it, "cpus=0-1,,3,policy=fifo,priority=2" or a JSON object: "cpus",
 * "policy" ("other", "batch", "idle", "fifo", "rr"), "priority", "nice", "cgroup". What is not named stays.
 * @return as the functions above, the first that fails; -EINVAL naming a property that is unknown or has a wrong value
 */
VCORE_API int vcore_vcpu_place(vcore_vcpu *vcpu, const char *properties);

/**
 * What was set, as vcore_vcpu_place() takes it; "" for nothing.
 * @param text out: cut to length, always ended by a zero byte; NULL with length 0: only the length is wanted
 * @return its whole length; -EINVAL
 */
VCORE_API int vcore_vcpu_get_place(vcore_vcpu *vcpu, char *text, size_t length);

/* ---- coming and going ---- */

/**
 * Plug in a vcpu beyond struct vcore_options' vcpus, up to its max_vcpus. It is in its power-on state and waits for the
 * guest to start it: of a guest that runs ACPI's device check asks for that, and Linux wants
 * /sys/devices/system/cpu/cpuN/online written besides.
 *
 * Before the first start it is there from the beginning, for tables made by a later vcore_boot(). From any thread but
 * the vm's own vcpus.
 * @return 0; -EEXIST it is there; -EINVAL no vcpu; -EBUSY it has not stopped since it was unplugged, or the vm is being
 *         booted or reset; -EDEADLK from a vcpu's own callback; -EAGAIN no thread; errors of its place, see above
 */
VCORE_API int vcore_vcpu_plug(vcore_vcpu *vcpu);

/**
 * Ask the guest to let a vcpu go (ACPI's eject request); any but the first. It is gone once the guest has ejected it,
 * which struct vcore_vcpu_stats' present tells, or never. Before a kernel is booted it goes at once. One that the
 * program runs itself leaves vcore_vcpu_run() with VCORE_EXIT_KICKED, which fails with -ENODEV from then on.
 * @return 0; -ENODEV it is not there; -EINVAL no vcpu, or the first; -ENOTSUP the vm has max_vcpus of vcpus; -EBUSY
 */
VCORE_API int vcore_vcpu_unplug(vcore_vcpu *vcpu);

/* ---- statistics ---- */

/** Of one vcpu since its birth. */
struct vcore_vcpu_stats {
	uint32_t size;
	uint32_t present;   /**< 1: plugged in */
	uint32_t thread_id; /**< of the library's thread that runs it, as gettid() says; 0: none */
	uint32_t pad;
	uint64_t run_ns;     /**< CPU time of the library's threads that ran it */
	uint64_t steal_ns;   /**< time these were ready but had no CPU; 0 where the host does not count it (schedstat) */
	uint64_t halts;      /**< times it halted; what the kernel does by itself (irqchip full, split) is not seen here */
	uint64_t halted_ns;  /**< time it did, or waited to be started; likewise */
	uint64_t exits;      /**< times it left guest code, as in struct vcore_vm_info; of them for: */
	uint64_t pio, mmio;  /**< ... accesses */
	uint64_t hypercalls; /**< ... */
	uint64_t requests;   /**< ... kicks, pauses and, on kvm, interrupts of the library */
	uint64_t debug;      /**< ... breakpoints and single steps */
	uint64_t others;     /**< ... anything else */
	uint64_t interrupts; /**< as in struct vcore_vm_info, like those that follow */
	uint64_t instructions, emulated;
};

/** stats->size set by the caller. From any thread; while it runs, the figures are of about now. @return 0; -EINVAL */
VCORE_API int vcore_vcpu_get_stats(vcore_vcpu *vcpu, struct vcore_vcpu_stats *stats);

VCORE_END_DECLS
#endif
