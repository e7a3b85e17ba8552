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

VCORE_END_DECLS
#endif
