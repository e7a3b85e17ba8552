/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Kernel images. A loader is pure: it reads the image from memory, writes guest memory through vc_mem, and says how
 * vcpu 0 is to enter it. Every field of an image is hostile: checked against the image's length and the guest's memory
 * before use.
 */
#ifndef VC_LOADER_LOADER_H
#define VC_LOADER_LOADER_H

#include <virtcore/boot.h>

#include "cpu/state.h"
#include "memory/memory.h"

struct vc_e820 {
	uint64_t start, length;
	uint32_t type; /* 1 RAM, 2 reserved, 3 ACPI */
};

struct vc_boot_input {
	const uint8_t *kernel;
	uint64_t kernel_length;
	const uint8_t *initrd; /* NULL: none */
	uint64_t initrd_length;
	const char *cmdline; /* never NULL */
	struct {
		const uint8_t *data;
		uint64_t length;
		const char *string;
	} modules[16];
	uint32_t module_count;
	uint64_t address;  /* FLAT */
	uint64_t rsdp_gpa; /* 0: no ACPI */
	uint64_t ram_low;  /* bytes of RAM from 0 (below 3 GiB) */
	uint64_t ram_high; /* bytes of RAM from 4 GiB */
	const struct vc_e820 *e820;
	uint32_t e820_count;
};

/* Areas below 1 MiB that loaders use; the ACPI tables keep out of them. */
#define VC_BOOT_GDT         0x500u
#define VC_BOOT_INFO        0x7000u /* boot_params, hvm_start_info, multiboot info */
#define VC_BOOT_PAGE_TABLES 0x9000u /* 6 pages */
#define VC_BOOT_CMDLINE     0x20000u
#define VC_BOOT_CMDLINE_MAX 0x10000u

struct vc_loader {
	const char *name;
	enum vcore_image image;
	/* Does the image look like mine? */
	bool (*match)(const uint8_t *image, uint64_t length);
	/* Load; fill state (already in reset state) for entry. 0 or -errno with a sentence. */
	int (*load)(struct vc_mem *mem, const struct vc_boot_input *input, struct vc_cpu_state *state);
};
extern const struct vc_loader *const vc_loaders[]; /* NULL-terminated, in order of AUTO's matching */

/* Choose (AUTO: by match) and load. */
int vc_load(struct vc_mem *mem, enum vcore_image image, const struct vc_boot_input *input, struct vc_cpu_state *state);
/* Identity map of the first 4 GiB with 2 MiB pages, 6 pages at gpa: PML4, PDPT, 4 x PD. */
int vc_write_identity_tables(struct vc_mem *mem, uint64_t gpa);
/* Reads a whole file. *data is malloc'ed. 0 or -errno with a sentence; -EFBIG above max. */
int vc_read_file(const char *path, uint64_t max, uint8_t **data, uint64_t *length);

#endif
