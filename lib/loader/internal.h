/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the loaders share: where RAM is, placing blobs in it, the Linux zero page, entry states, ELF files. */
#ifndef VC_LOADER_INTERNAL_H
#define VC_LOADER_INTERNAL_H

#include "loader/loader.h"

extern const struct vc_loader vc_loader_bzimage;
extern const struct vc_loader vc_loader_pvh;
extern const struct vc_loader vc_loader_multiboot;
extern const struct vc_loader vc_loader_elf;
extern const struct vc_loader vc_loader_flat;

/* The most e820 entries a loader passes on: the size of the table in the Linux zero page. */
#define VC_BOOT_E820_MAX 128

/* Does [start, start + length) overlap [other, other + other_length)? Neither wraps. */
static inline bool vc_ranges_overlap(uint64_t start, uint64_t length, uint64_t other, uint64_t other_length)
{
	return length && other_length && start < other + other_length && other < start + length;
}

/* Bytes of RAM from gpa to the first address that is not RAM; 0 when gpa is not RAM. */
uint64_t vc_boot_ram_from(const struct vc_boot_input *input, uint64_t gpa);

/*
 * The highest page-aligned address below `ceiling` where length bytes of RAM lie, all of them at or above `floor`.
 * -ENOMEM naming `what` when there is none.
 */
int vc_boot_place(const struct vc_boot_input *input, const char *what, uint64_t length, uint64_t floor,
                  uint64_t ceiling, uint64_t *gpa);

/* Refuses input that this kind of image has no way to receive: -EINVAL with a sentence. */
enum { VC_BOOT_TAKES_INITRD = 1u << 0, VC_BOOT_TAKES_CMDLINE = 1u << 1, VC_BOOT_TAKES_MODULES = 1u << 2 };
int vc_boot_check_input(const struct vc_loader *loader, const struct vc_boot_input *input, unsigned takes);

/* Writes the command line, NUL included, at VC_BOOT_CMDLINE. limit: the longest the kernel takes. *end: first free byte
 * behind it. */
int vc_boot_write_cmdline(struct vc_mem *mem, const struct vc_boot_input *input, uint64_t limit, uint64_t *end);

/* One more blob in guest memory: initrd or module. */
struct vc_boot_blob {
	uint64_t gpa, length;
	uint64_t string_gpa; /* its NUL-terminated string; 0: none */
};
#define VC_BOOT_BLOB_MAX 17 /* the initrd and 16 modules */

/*
 * Places and copies the initrd (first) and the modules, page-aligned, from `ceiling` downwards and not below `floor`.
 * Their strings go to *strings, which moves on, inside the command line area. Returns their number or -errno.
 */
int vc_boot_write_blobs(struct vc_mem *mem, const struct vc_boot_input *input, uint64_t floor, uint64_t ceiling,
                        uint64_t *strings, struct vc_boot_blob blobs[VC_BOOT_BLOB_MAX]);

/*
 * Linux: the "zero page" (struct boot_params, Documentation/arch/x86/zero-page.rst) with e820 table, command line,
 * initrd and RSDP. header: the image's setup header, which lies at VC_ZERO_PAGE_HEADER; bytes outside it are zero.
 */
#define VC_ZERO_PAGE_HEADER     0x1f1
#define VC_ZERO_PAGE_HEADER_END 0x290
struct vc_zero_page {
	uint8_t bytes[4096];
};
int vc_boot_write_zero_page(struct vc_mem *mem, const struct vc_boot_input *input, struct vc_zero_page *page,
                            const struct vc_boot_blob *initrd);

/*
 * Entry states of vcpu 0, ring 0, flat segments, interrupts off; the GDT that goes with them is written at VC_BOOT_GDT
 * with code at selector 0x10, data at 0x18 and a TSS at 0x20, as the Linux boot protocols ask for.
 */
int vc_boot_enter32(struct vc_mem *mem, struct vc_cpu_state *state, uint64_t entry);
int vc_boot_enter64(struct vc_mem *mem, struct vc_cpu_state *state, uint64_t entry);

/* An ELF file whose headers have been checked against its length. */
struct vc_elf {
	const uint8_t *data;
	uint64_t length;
	bool is64;
	uint16_t segment_count, segment_size;
	uint64_t entry;
	uint64_t segments; /* file offset of the program headers */
};
struct vc_elf_segment {
	uint32_t type;
	uint64_t offset, vaddr, paddr, file_size, memory_size, align;
};
bool vc_elf_match(const uint8_t *image, uint64_t length);
int vc_elf_open(struct vc_elf *elf, const uint8_t *image, uint64_t length);
/* index < segment_count. -EINVAL when its bytes are not in the file. */
int vc_elf_segment(const struct vc_elf *elf, unsigned index, struct vc_elf_segment *segment);
/* Copies the PT_LOAD segments to their physical addresses. *end: first byte behind the highest. */
int vc_elf_load(const struct vc_elf *elf, struct vc_mem *mem, const struct vc_boot_input *input, uint64_t *end);
/* The physical address of the entry point, which may be given as a virtual or a physical one. Must lie in a segment. */
int vc_elf_entry(const struct vc_elf *elf, uint64_t address, uint64_t *entry);

/* Memory an image is to be copied to: RAM, and not where the loaders put their own things. name: of the part, for the
 * message. */
int vc_boot_check_target(const struct vc_boot_input *input, const char *name, uint64_t gpa, uint64_t length);

#endif
