/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file
 * Words every other header uses: opaque handles, fixed-width enums, export macro.
 *
 * Conventions that hold for the whole API:
 * - A function that can fail returns int: 0 or positive is success, negative is -errno. The sentence for a human is
 *   then in vcore_error_message() of the same thread.
 * - A struct that crosses the border starts with `uint32_t size`; set it to sizeof the struct. Fields that an older
 *   caller did not know are taken as zero, and zero always means the default.
 * - Handles of vcpus, slots, devices and hooks are borrowed from their vm and die with it.
 * - Unless a function says otherwise it may be called from any thread.
 * - Strings, ops structs and file descriptors handed in are copied or duplicated before the call returns.
 */
#ifndef VIRTCORE_TYPES_H
#define VIRTCORE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define VCORE_BEGIN_DECLS extern "C" {
#define VCORE_END_DECLS   }
#else
#define VCORE_BEGIN_DECLS
#define VCORE_END_DECLS
#endif

#define VCORE_API __attribute__((visibility("default")))

#define VCORE_VERSION_MAJOR 0
#define VCORE_VERSION_MINOR 1
#define VCORE_VERSION_PATCH 0

VCORE_BEGIN_DECLS

/** A whole virtual machine: memory map, port map, interrupt routing, vcpus, devices, one backend. */
typedef struct vcore_vm vcore_vm;
/** One virtual CPU. Borrowed from its vm. */
typedef struct vcore_vcpu vcore_vcpu;
/** A range of guest-physical addresses backed by host memory. Borrowed from its vm until removed. */
typedef struct vcore_slot vcore_slot;
/** Anything that answers on ports, MMIO or hypercalls. Borrowed from its vm until removed. */
typedef struct vcore_device vcore_device;
/** A callback on what a guest does. Borrowed from its vm until removed. */
typedef struct vcore_hook vcore_hook;

/** Address spaces a device can answer in. */
enum vcore_bus {
	VCORE_BUS_PIO = 0,       /**< x86 I/O ports, 0x0000-0xffff */
	VCORE_BUS_MMIO = 1,      /**< guest-physical addresses that no memory slot covers */
	VCORE_BUS_HYPERCALL = 2, /**< VMCALL/VMMCALL numbers (RAX) */
};

/** @return the version of the library in use, "major.minor.patch"; static storage. */
VCORE_API const char *vcore_version(void);

VCORE_END_DECLS
#endif
