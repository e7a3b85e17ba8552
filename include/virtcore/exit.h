/* SPDX-License-Identifier: LGPL-2.1-or-later */
/** @file Exits: why a vcpu, or a whole vm, came back to the embedding program. */
#ifndef VIRTCORE_EXIT_H
#define VIRTCORE_EXIT_H

#include <virtcore/types.h>

VCORE_BEGIN_DECLS

enum vcore_exit_reason {
	VCORE_EXIT_NONE = 0,
	VCORE_EXIT_HALT = 1, /**< HLT with no interrupt controller that could end it */
	VCORE_EXIT_PIO = 2,  /**< IN/OUT on a port no device answers: address, width, count, is_write, data */
	VCORE_EXIT_MMIO = 3, /**< access to an address neither slot nor device covers: address, width, is_write, data */
	VCORE_EXIT_HYPERCALL = 4,   /**< VMCALL/VMMCALL nobody handles: address is the number, args[] */
	VCORE_EXIT_KICKED = 5,      /**< vcore_vcpu_kick() */
	VCORE_EXIT_TIMEOUT = 6,     /**< the time given to run is over */
	VCORE_EXIT_DEBUG = 7,       /**< single step or breakpoint: address is the guest RIP, dr6 */
	VCORE_EXIT_CRASH = 8,       /**< the guest cannot go on: crash tells why, message says it */
	VCORE_EXIT_POWEROFF = 9,    /**< the guest asked for power off (ACPI S5) */
	VCORE_EXIT_RESET = 10,      /**< the guest asked for a reset */
	VCORE_EXIT_STOPPED = 11,    /**< vcore_vm_stop() */
	VCORE_EXIT_DEBUG_EXIT = 12, /**< the debug-exit device was written: code */
	VCORE_EXIT_MIGRATED = 13,   /**< it goes on elsewhere: vcore_migrate_send() */
};

enum vcore_crash {
	VCORE_CRASH_NONE = 0,
	VCORE_CRASH_TRIPLE_FAULT = 1,
	VCORE_CRASH_INTERNAL = 2,    /**< the backend could not execute the guest; message says what */
	VCORE_CRASH_PANIC = 3,       /**< reported by a paravirtual panic device */
	VCORE_CRASH_MEMORY_LOST = 4, /**< memory that was to follow by post-copy never came; message says why */
};

struct vcore_exit {
	uint32_t size;
	uint32_t reason;    /**< enum vcore_exit_reason */
	uint32_t vcpu;      /**< index of the vcpu that ended the run; 0 when it was none */
	uint32_t crash;     /**< enum vcore_crash */
	uint64_t address;   /**< port, guest-physical address, hypercall number or RIP */
	uint64_t data;      /**< written value; for a read: put the answer here before the next run */
	uint32_t width;     /**< bytes of an access: 1, 2, 4, 8 */
	uint32_t is_write;  /**< 1: the guest wrote */
	uint32_t code;      /**< debug-exit: the value written */
	uint32_t exception; /**< debug: vector, 1 (#DB) or 3 (#BP) */
	uint64_t dr6;       /**< debug: what DR6 would hold */
	uint64_t args[4];   /**< hypercall: RBX, RCX, RDX, RSI */
	char message[192];  /**< crash: a sentence */
};

/** @return the name of an exit reason ("halt", "mmio", ...), "?" for an unknown one; static storage. */
VCORE_API const char *vcore_exit_name(uint32_t reason);

VCORE_END_DECLS
#endif
