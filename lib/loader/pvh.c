/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ELF with a XEN_ELFNOTE_PHYS32_ENTRY note: the PVH entry of the Xen "x86/HVM direct boot ABI" (docs/misc/pvh.pandoc),
 * with struct hvm_start_info version 1 (xen/include/public/arch-x86/hvm/start_info.h).
 */
#include <elf.h>

#include "core/error.h"
#include "core/util.h"
#include "loader/internal.h"

#define XEN_ELFNOTE_PHYS32_ENTRY  18
#define XEN_HVM_START_MAGIC_VALUE 0x336ec578u

struct hvm_start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
	uint32_t memmap_entries, reserved;
};

struct hvm_modlist_entry {
	uint64_t paddr, size, cmdline_paddr, reserved;
};

struct hvm_memmap_table_entry {
	uint64_t addr, size;
	uint32_t type, reserved;
};

/* Where the parts go. */
enum {
	START_INFO = VC_BOOT_INFO,
	MODULES = VC_BOOT_INFO + 0x40,
	MEMORY_MAP = VC_BOOT_INFO + 0x400,
};
_Static_assert(sizeof(struct hvm_start_info) <= MODULES - START_INFO, "hvm_start_info");
_Static_assert(VC_BOOT_BLOB_MAX * sizeof(struct hvm_modlist_entry) <= MEMORY_MAP - MODULES, "module list");
_Static_assert(MEMORY_MAP + VC_BOOT_E820_MAX * sizeof(struct hvm_memmap_table_entry) <= VC_BOOT_PAGE_TABLES,
               "memory map");

/* Looks for the entry note among the notes of one segment. 1: found, 0: not here. */
static int find_in_notes(const uint8_t *notes, uint64_t length, uint64_t alignment, uint64_t *entry)
{
	const uint64_t pad = alignment == 8 ? 8 : 4;
	uint64_t at = 0;

	while (at < length && length - at >= sizeof(Elf32_Nhdr)) {
		uint32_t name_size = vc_ld32(notes + at), desc_size = vc_ld32(notes + at + 4), type = vc_ld32(notes + at + 8);
		uint64_t name = at + sizeof(Elf32_Nhdr), desc = VC_ALIGN_UP(name + name_size, pad);

		if (desc > length || desc_size > length - desc)
			return 0;
		if (type == XEN_ELFNOTE_PHYS32_ENTRY && name_size == 4 && !memcmp(notes + name, "Xen", 4) && desc_size >= 4) {
			*entry = vc_ld32(notes + desc);
			return 1;
		}
		at = VC_ALIGN_UP(desc + desc_size, pad);
	}
	return 0;
}

/* 1: the file has a PVH entry, 0: it has none. */
static int find_entry(const struct vc_elf *elf, uint64_t *entry)
{
	for (unsigned i = 0; i < elf->segment_count; i++) {
		struct vc_elf_segment segment;
		int r = vc_elf_segment(elf, i, &segment);

		if (r)
			return r;
		if (segment.type == PT_NOTE &&
		    find_in_notes(elf->data + segment.offset, segment.file_size, segment.align, entry))
			return 1;
	}
	return 0;
}

static bool match(const uint8_t *image, uint64_t length)
{
	struct vc_elf elf;
	uint64_t entry;

	return vc_elf_match(image, length) && !vc_elf_open(&elf, image, length) && find_entry(&elf, &entry) == 1;
}

static int write_modules(struct vc_mem *mem, const struct vc_boot_blob *blobs, int count)
{
	struct hvm_modlist_entry modules[VC_BOOT_BLOB_MAX] = {0};

	for (int i = 0; i < count; i++)
		modules[i] = (struct hvm_modlist_entry){blobs[i].gpa, blobs[i].length, blobs[i].string_gpa, 0};
	return vc_mem_write(mem, MODULES, modules, sizeof modules);
}

static int write_memory_map(struct vc_mem *mem, const struct vc_boot_input *input, uint32_t *count)
{
	struct hvm_memmap_table_entry map[VC_BOOT_E820_MAX] = {0};
	uint32_t n = 0;

	for (uint32_t i = 0; i < input->e820_count; i++, n++)
		map[n] = (struct hvm_memmap_table_entry){input->e820[i].start, input->e820[i].length, input->e820[i].type, 0};
	if (!n)
		map[n++] = (struct hvm_memmap_table_entry){0, input->ram_low, 1, 0};
	*count = n;
	return vc_mem_write(mem, MEMORY_MAP, map, sizeof map);
}

static int write_start_info(struct vc_mem *mem, const struct vc_boot_input *input, const struct vc_boot_blob *blobs,
                            int count)
{
	struct hvm_start_info info = {
	    .magic = XEN_HVM_START_MAGIC_VALUE,
	    .version = 1,
	    .nr_modules = (uint32_t)count,
	    .modlist_paddr = count ? MODULES : 0,
	    .cmdline_paddr = VC_BOOT_CMDLINE,
	    .rsdp_paddr = input->rsdp_gpa,
	    .memmap_paddr = MEMORY_MAP,
	};
	int r = write_modules(mem, blobs, count);

	if (!r)
		r = write_memory_map(mem, input, &info.memmap_entries);
	return r ? r : vc_mem_write(mem, START_INFO, &info, sizeof info);
}

static int load(struct vc_mem *mem, const struct vc_boot_input *input, struct vc_cpu_state *state)
{
	struct vc_boot_blob blobs[VC_BOOT_BLOB_MAX];
	uint64_t end, note = 0, entry, strings;
	struct vc_elf elf;
	int r, count;

	r = vc_boot_check_input(&vc_loader_pvh, input,
	                        VC_BOOT_TAKES_INITRD | VC_BOOT_TAKES_CMDLINE | VC_BOOT_TAKES_MODULES);
	if (!r)
		r = vc_elf_open(&elf, input->kernel, input->kernel_length);
	if (r)
		return r;
	r = find_entry(&elf, &note);
	if (r == 0)
		return vc_fail(EINVAL, "the ELF file has no Xen PHYS32_ENTRY note: not a PVH kernel");
	if (r < 0)
		return r;
	r = vc_elf_load(&elf, mem, input, &end);
	if (!r)
		r = vc_elf_entry(&elf, note, &entry);
	if (!r && entry != note)
		r = vc_fail(EINVAL, "the PVH entry %#llx is not a physical address inside a segment", (unsigned long long)note);
	if (!r)
		r = vc_boot_write_cmdline(mem, input, UINT64_MAX, &strings);
	if (r)
		return r;
	count = vc_boot_write_blobs(mem, input, end, VC_GIB(4), &strings, blobs);
	if (count < 0)
		return count;
	r = write_start_info(mem, input, blobs, count);
	if (!r)
		r = vc_boot_enter32(mem, state, entry);
	if (!r)
		state->gpr[VC_RBX] = START_INFO;
	return r;
}

const struct vc_loader vc_loader_pvh = {"PVH", VCORE_IMAGE_PVH, match, load};
