/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Multiboot Specification 0.6.96 (Multiboot 1): 32-bit protected mode, modules, memory map. */
#include "core/error.h"
#include "core/util.h"
#include "loader/internal.h"

#define MULTIBOOT_HEADER_MAGIC     0x1badb002u
#define MULTIBOOT_BOOTLOADER_MAGIC 0x2badb002u
#define MULTIBOOT_SEARCH           8192u /* the header lies in the image's first 8 KiB */

/* Bits of the header's flags. 0-15: what a loader must understand, or refuse the image. */
#define MULTIBOOT_PAGE_ALIGN  (1u << 0) /* modules are page-aligned always */
#define MULTIBOOT_MEMORY_INFO (1u << 1) /* given always */
#define MULTIBOOT_VIDEO_MODE  (1u << 2) /* there is no video: the info's flags say so, which kernels have to check */
#define MULTIBOOT_KNOWN       (MULTIBOOT_PAGE_ALIGN | MULTIBOOT_MEMORY_INFO | MULTIBOOT_VIDEO_MODE)
#define MULTIBOOT_ADDRESSES   (1u << 16)

/* Bits of the info's flags: which of its fields are valid. */
#define MULTIBOOT_INFO_MEMORY  (1u << 0)
#define MULTIBOOT_INFO_CMDLINE (1u << 2)
#define MULTIBOOT_INFO_MODS    (1u << 3)
#define MULTIBOOT_INFO_MMAP    (1u << 6)
#define MULTIBOOT_INFO_NAME    (1u << 9)

struct header {
	uint32_t magic, flags, checksum;
	uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr; /* valid with MULTIBOOT_ADDRESSES */
};

struct info {
	uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4];
	uint32_t mmap_length, mmap_addr, drives_length, drives_addr, config_table, boot_loader_name, apm_table;
	uint32_t vbe[4];
};

struct module {
	uint32_t mod_start, mod_end, string, reserved;
};

struct mmap_entry {
	uint32_t size; /* of the rest */
	uint64_t base, length;
	uint32_t type;
} __attribute__((packed));

static const char loader_name[] = "libvirtcore";

/* Where the parts go. */
enum {
	INFO = VC_BOOT_INFO,
	MODULES = VC_BOOT_INFO + 0x80,
	MEMORY_MAP = VC_BOOT_INFO + 0x200,
	LOADER_NAME = VC_BOOT_PAGE_TABLES - 0x40,
};
_Static_assert(sizeof(struct info) <= MODULES - INFO, "info");
_Static_assert(VC_BOOT_BLOB_MAX * sizeof(struct module) <= MEMORY_MAP - MODULES, "module list");
_Static_assert(MEMORY_MAP + VC_BOOT_E820_MAX * sizeof(struct mmap_entry) <= LOADER_NAME, "memory map");

/* Finds the header, 4-byte aligned. Address fields that lie beyond the image's end read as zero. */
static bool find_header(const uint8_t *image, uint64_t length, struct header *header, uint64_t *offset)
{
	const uint64_t short_header = offsetof(struct header, header_addr);

	for (uint64_t at = 0; at < MULTIBOOT_SEARCH && at + short_header <= length; at += 4) {
		if (vc_ld32(image + at) != MULTIBOOT_HEADER_MAGIC ||
		    vc_ld32(image + at) + vc_ld32(image + at + 4) + vc_ld32(image + at + 8) != 0)
			continue;
		memset(header, 0, sizeof *header);
		memcpy(header, image + at, length - at < sizeof *header ? length - at : sizeof *header);
		*offset = at;
		return true;
	}
	return false;
}

static bool match(const uint8_t *image, uint64_t length)
{
	struct header header;
	uint64_t offset;

	return find_header(image, length, &header, &offset);
}

/* Loads by the header's address fields: text and data from the file, then zeros up to bss_end_addr. */
static int load_addresses(struct vc_mem *mem, const struct vc_boot_input *input, const struct header *header,
                          uint64_t offset, uint64_t *end)
{
	uint64_t before = (uint64_t)header->header_addr - header->load_addr; /* bytes of the image in front of the header */
	uint64_t start, available, length, memory;
	int r;

	if (header->load_addr > header->header_addr || before > offset)
		return vc_fail(EINVAL, "Multiboot load_addr %#x does not fit header_addr %#x with the header at offset %#llx",
		               header->load_addr, header->header_addr, (unsigned long long)offset);
	start = offset - before;
	available = input->kernel_length - start;
	length = header->load_end_addr ? (uint64_t)header->load_end_addr - header->load_addr : available;
	if ((header->load_end_addr && header->load_end_addr < header->load_addr) || length > available)
		return vc_fail(
		    EINVAL, "Multiboot load_end_addr %#x takes more than the %#llx bytes that the image has from load_addr %#x",
		    header->load_end_addr, (unsigned long long)available, header->load_addr);
	memory = length;
	if (header->bss_end_addr) {
		if (header->bss_end_addr < header->load_addr + length)
			return vc_fail(EINVAL, "Multiboot bss_end_addr %#x lies before the end of the loaded data at %#llx",
			               header->bss_end_addr, (unsigned long long)(header->load_addr + length));
		memory = header->bss_end_addr - header->load_addr;
	}
	if (header->entry_addr < header->load_addr || header->entry_addr - header->load_addr >= memory)
		return vc_fail(EINVAL, "Multiboot entry_addr %#x lies outside of what is loaded (%#llx bytes at %#x)",
		               header->entry_addr, (unsigned long long)memory, header->load_addr);
	*end = header->load_addr + memory;
	r = vc_boot_check_target(input, "the Multiboot image", header->load_addr, memory);
	if (!r)
		r = vc_mem_write(mem, header->load_addr, input->kernel + start, length);
	if (!r && memory > length)
		r = vc_mem_fill(mem, header->load_addr + length, 0, memory - length);
	return r;
}

static int load_elf(struct vc_mem *mem, const struct vc_boot_input *input, uint64_t *entry, uint64_t *end)
{
	struct vc_elf elf;
	int r = vc_elf_open(&elf, input->kernel, input->kernel_length);

	if (!r)
		r = vc_elf_load(&elf, mem, input, end);
	if (!r)
		r = vc_elf_entry(&elf, elf.entry, entry);
	if (!r && *entry >= VC_GIB(4))
		r = vc_fail(EINVAL, "the Multiboot entry point %#llx is beyond the first 4 GiB", (unsigned long long)*entry);
	return r;
}

static int write_modules(struct vc_mem *mem, const struct vc_boot_blob *blobs, int count, uint64_t empty_string)
{
	struct module modules[VC_BOOT_BLOB_MAX] = {0};

	for (int i = 0; i < count; i++) {
		modules[i].mod_start = (uint32_t)blobs[i].gpa;
		modules[i].mod_end = (uint32_t)(blobs[i].gpa + blobs[i].length);
		modules[i].string = (uint32_t)(blobs[i].string_gpa ? blobs[i].string_gpa : empty_string);
	}
	return vc_mem_write(mem, MODULES, modules, sizeof modules);
}

static int write_memory_map(struct vc_mem *mem, const struct vc_boot_input *input, uint32_t *bytes)
{
	struct mmap_entry map[VC_BOOT_E820_MAX] = {0};
	const uint32_t rest = sizeof map[0] - sizeof map[0].size;
	uint32_t n = 0;

	for (uint32_t i = 0; i < input->e820_count; i++, n++)
		map[n] = (struct mmap_entry){rest, input->e820[i].start, input->e820[i].length, input->e820[i].type};
	if (!n)
		map[n++] = (struct mmap_entry){rest, 0, input->ram_low, 1};
	*bytes = n * (uint32_t)sizeof map[0];
	return vc_mem_write(mem, MEMORY_MAP, map, sizeof map);
}

static int write_info(struct vc_mem *mem, const struct vc_boot_input *input, const struct vc_boot_blob *blobs,
                      int count, uint64_t empty_string)
{
	uint64_t lower = vc_boot_ram_from(input, 0) >> 10, upper = vc_boot_ram_from(input, VC_MIB(1)) >> 10;
	struct info info = {
	    .flags = MULTIBOOT_INFO_MEMORY | MULTIBOOT_INFO_CMDLINE | MULTIBOOT_INFO_MODS | MULTIBOOT_INFO_MMAP |
	             MULTIBOOT_INFO_NAME,
	    .mem_lower = lower > 640 ? 640 : (uint32_t)lower,
	    .mem_upper = upper > UINT32_MAX ? UINT32_MAX : (uint32_t)upper,
	    .cmdline = VC_BOOT_CMDLINE,
	    .mods_count = (uint32_t)count,
	    .mods_addr = MODULES,
	    .mmap_addr = MEMORY_MAP,
	    .boot_loader_name = LOADER_NAME,
	};
	int r = write_modules(mem, blobs, count, empty_string);

	if (!r)
		r = write_memory_map(mem, input, &info.mmap_length);
	if (!r)
		r = vc_mem_write(mem, LOADER_NAME, loader_name, sizeof loader_name);
	return r ? r : vc_mem_write(mem, INFO, &info, sizeof info);
}

static int load(struct vc_mem *mem, const struct vc_boot_input *input, struct vc_cpu_state *state)
{
	struct vc_boot_blob blobs[VC_BOOT_BLOB_MAX];
	uint64_t offset, entry, end, strings;
	struct header header;
	int r, count;

	r = vc_boot_check_input(&vc_loader_multiboot, input,
	                        VC_BOOT_TAKES_INITRD | VC_BOOT_TAKES_CMDLINE | VC_BOOT_TAKES_MODULES);
	if (r)
		return r;
	if (!find_header(input->kernel, input->kernel_length, &header, &offset))
		return vc_fail(EINVAL,
		               "no Multiboot header (magic 0x1badb002 with a right checksum) in the image's first 8 KiB");
	if (header.flags & 0xffff & ~MULTIBOOT_KNOWN)
		return vc_fail(EINVAL, "the Multiboot header demands what this loader does not know (flags %#x)", header.flags);
	entry = header.entry_addr;
	r = header.flags & MULTIBOOT_ADDRESSES ? load_addresses(mem, input, &header, offset, &end)
	                                       : load_elf(mem, input, &entry, &end);
	if (!r)
		r = vc_boot_write_cmdline(mem, input, UINT64_MAX, &strings);
	if (r)
		return r;
	count = vc_boot_write_blobs(mem, input, end, VC_GIB(4), &strings, blobs);
	if (count < 0)
		return count;
	/* A module without a string gets the empty one at the end of the command line. */
	r = write_info(mem, input, blobs, count, VC_BOOT_CMDLINE + strlen(input->cmdline));
	if (!r)
		r = vc_boot_enter32(mem, state, entry);
	if (r)
		return r;
	state->gpr[VC_RAX] = MULTIBOOT_BOOTLOADER_MAGIC;
	state->gpr[VC_RBX] = INFO;
	return 0;
}

const struct vc_loader vc_loader_multiboot = {"Multiboot", VCORE_IMAGE_MULTIBOOT, match, load};
