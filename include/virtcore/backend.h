/* SPDX-License-Identifier: LGPL-2.1-or-later */
/** @file Backends: what executes vcpus, and what each can do on this host. */
#ifndef VIRTCORE_BACKEND_H
#define VIRTCORE_BACKEND_H

#include <virtcore/types.h>

VCORE_BEGIN_DECLS

enum vcore_backend {
	VCORE_BACKEND_AUTO = 0, /**< kvm where its ring 0 runs natively, else emu; the log says why */
	VCORE_BACKEND_KVM = 1,  /**< /dev/kvm */
	VCORE_BACKEND_EMU = 2,  /**< software, no kernel help */
};

/** Engines of the emu backend. */
enum vcore_engine {
	/**
	 * The translator; and ring 3 of guest processes that compute for long runs in host processes of its own, where
	 * their pages lie at their own addresses and code is hardly changed ("promoted address spaces"). Those are forked
	 * from the calling process, hold nothing of it, raise no SIGCHLD and end with the vm. It takes RAM that is shared:
	 * a memfd.
	 */
	VCORE_ENGINE_AUTO = 0,
	VCORE_ENGINE_INTERP = 1, /**< interpreter */
	VCORE_ENGINE_JIT = 2,    /**< same-ISA binary translator alone */
	/**
	 * For tests of the translator: every block is interpreted as well, and the first difference in registers, flags or
	 * memory is logged with a disassembly and ends the run with VCORE_CRASH_INTERNAL. Some million instructions a
	 * second; nothing but the vcpus may write guest memory while they run.
	 */
	VCORE_ENGINE_LOCKSTEP = 3,
	/** For tests: as AUTO, but every address space is promoted at its first instruction in ring 3. */
	VCORE_ENGINE_PROMOTE = 4,
};

/** Where interrupt controllers live. */
enum vcore_irqchip {
	VCORE_IRQCHIP_AUTO = 0,  /**< full in the kernel where offered, else user; none for machine `none` */
	VCORE_IRQCHIP_NONE = 1,  /**< no controllers: the program injects with vcore_vcpu_interrupt() */
	VCORE_IRQCHIP_USER = 2,  /**< LAPIC, IOAPIC, PIC and PIT of the library */
	VCORE_IRQCHIP_SPLIT = 3, /**< LAPIC in the kernel, the rest in the library (KVM_CAP_SPLIT_IRQCHIP) */
	VCORE_IRQCHIP_FULL = 4,  /**< LAPIC, IOAPIC, PIC and PIT in the kernel */
};

/** Features of a backend on this host (bits of vcore_backend_info.features). */
enum vcore_backend_feature {
	VCORE_FEATURE_IRQCHIP_FULL = 1u << 0,
	VCORE_FEATURE_IRQCHIP_SPLIT = 1u << 1,
	VCORE_FEATURE_PIT = 1u << 2, /**< in-kernel PIT (KVM_CREATE_PIT2) */
	VCORE_FEATURE_IOEVENTFD = 1u << 3,
	VCORE_FEATURE_IRQFD = 1u << 4,
	VCORE_FEATURE_MSI = 1u << 5,
	VCORE_FEATURE_DIRTY_LOG = 1u << 6,
	VCORE_FEATURE_DIRTY_RING = 1u << 7,
	VCORE_FEATURE_COALESCED_MMIO = 1u << 8,
	VCORE_FEATURE_IMMEDIATE_EXIT = 1u << 9,
	VCORE_FEATURE_READONLY_MEM = 1u << 10,
	VCORE_FEATURE_SYNC_REGS = 1u << 11,
	VCORE_FEATURE_XSAVE = 1u << 12,
	VCORE_FEATURE_DEBUG = 1u << 13,
	VCORE_FEATURE_TSC_DEADLINE = 1u << 14,
	VCORE_FEATURE_X2APIC = 1u << 15,
	VCORE_FEATURE_JIT = 1u << 16,
};

struct vcore_backend_info {
	uint32_t size;
	uint32_t available; /**< 1: a vm can be made with it here */
	uint64_t features;  /**< VCORE_FEATURE_* */
	uint32_t max_vcpus;
	uint32_t max_slots;
	uint32_t ring0_ps;        /**< measured: picoseconds per simple ring-0 instruction; 0 when unavailable */
	uint32_t ring3_ps;        /**< measured: picoseconds per simple ring-3 instruction; 0 when unavailable */
	uint32_t exit_ns;         /**< measured: nanoseconds per port exit handled by the program */
	uint32_t ring0_is_native; /**< 1: guest kernel code runs at CPU speed, so `auto` would take it */
	char reason[256];         /**< a sentence: why it is unavailable, or what the measurement says */
};

/**
 * Ask what a backend can do on this host and how well: runs a short guest loop in ring 0 and in ring 3.
 *
 * Takes some milliseconds; nothing is cached.
 * @param backend KVM or EMU (AUTO: what auto would take)
 * @param info    out; info->size set by the caller
 * @return 0 (an unavailable backend is not an error: info->available is 0 and info->reason says why); the
 *         VCORE_BACKEND_* chosen when asked with AUTO; -EINVAL for an unknown backend or a NULL or unsized info.
 */
VCORE_API int vcore_backend_probe(enum vcore_backend backend, struct vcore_backend_info *info);

/** @return "kvm", "emu", "auto", or "?" for an unknown value. */
VCORE_API const char *vcore_backend_name(enum vcore_backend backend);

VCORE_END_DECLS
#endif
