/* SPDX-License-Identifier: LGPL-2.1-or-later */
/** @file Loading something to run. */
#ifndef VIRTCORE_BOOT_H
#define VIRTCORE_BOOT_H

#include <virtcore/types.h>

VCORE_BEGIN_DECLS

enum vcore_image {
	VCORE_IMAGE_AUTO = 0,      /**< told from the file's first bytes */
	VCORE_IMAGE_BZIMAGE = 1,   /**< Linux boot protocol >= 2.12, 64-bit entry */
	VCORE_IMAGE_PVH = 2,       /**< ELF with a XEN_ELFNOTE_PHYS32_ENTRY note */
	VCORE_IMAGE_ELF = 3,       /**< ELF, entered directly: ELF64 in 64-bit mode, ELF32 in 32-bit protected mode */
	VCORE_IMAGE_MULTIBOOT = 4, /**< Multiboot 1 */
	VCORE_IMAGE_FLAT = 5,      /**< bytes at an address, entered in real mode there; never told by AUTO */
};

struct vcore_boot_options {
	uint32_t size;
	uint32_t image;             /**< enum vcore_image */
	const char *kernel;         /**< path */
	const char *initrd;         /**< path; NULL: none. Multiboot: the first module */
	const char *cmdline;        /**< NULL: "" */
	const char *const *modules; /**< Multiboot: further modules "path arguments", NULL-terminated */
	const void *kernel_data;    /**< in place of `kernel`: the image in memory */
	uint64_t kernel_length;
	const void *initrd_data; /**< in place of `initrd` */
	uint64_t initrd_length;
	uint64_t address; /**< FLAT: where to load and enter */
};

/**
 * Load a kernel, its initrd and command line into memory and set vcpu 0 to enter it.
 * @return 0; -EINVAL for a damaged or unsupported image (a sentence says which field); -ENOMEM/-E2BIG when it does not
 * fit the vm's memory or a field; errno of opening or reading the files; -EBUSY while the vm runs
 */
VCORE_API int vcore_boot(vcore_vm *vm, const struct vcore_boot_options *options);

/** vcore_boot() with three paths. initrd and cmdline may be NULL. */
VCORE_API int vcore_boot_linux(vcore_vm *vm, const char *kernel, const char *initrd, const char *cmdline);

VCORE_END_DECLS
#endif
