/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The Linux zero page: Documentation/arch/x86/zero-page.rst and boot.rst of the kernel. */
#include "core/error.h"
#include "core/util.h"
#include "loader/internal.h"

enum {
	/* struct boot_params */
	ZP_ACPI_RSDP_ADDR = 0x070,
	ZP_E820_ENTRIES = 0x1e8,
	ZP_E820_TABLE = 0x2d0,
	ZP_E820_ENTRY = 20,
	/* setup header */
	ZP_TYPE_OF_LOADER = 0x210,
	ZP_RAMDISK_IMAGE = 0x218,
	ZP_RAMDISK_SIZE = 0x21c,
	ZP_CMD_LINE_PTR = 0x228,
};

_Static_assert(ZP_E820_TABLE + VC_BOOT_E820_MAX * ZP_E820_ENTRY <= sizeof(struct vc_zero_page),
               "e820 table beyond the zero page");

static void put_e820(uint8_t *page, const struct vc_e820 *entry, unsigned index)
{
	uint8_t *at = page + ZP_E820_TABLE + index * ZP_E820_ENTRY;

	vc_st64(at, entry->start);
	vc_st64(at + 8, entry->length);
	vc_st32(at + 16, entry->type);
	page[ZP_E820_ENTRIES] = (uint8_t)(index + 1);
}

int vc_boot_write_zero_page(struct vc_mem *mem, const struct vc_boot_input *input, struct vc_zero_page *page,
                            const struct vc_boot_blob *initrd)
{
	uint8_t *bytes = page->bytes;
	const struct vc_e820 plain[] = {{0, input->ram_low, 1}, {VC_GIB(4), input->ram_high, 1}};

	for (uint32_t i = 0; i < input->e820_count; i++)
		put_e820(bytes, &input->e820[i], i);
	for (uint32_t i = 0; !input->e820_count && i < VC_ARRAY_SIZE(plain) && plain[i].length; i++)
		put_e820(bytes, &plain[i], i);
	bytes[ZP_TYPE_OF_LOADER] = 0xff; /* a loader without an assigned number */
	vc_st32(bytes + ZP_CMD_LINE_PTR, VC_BOOT_CMDLINE);
	vc_st64(bytes + ZP_ACPI_RSDP_ADDR, input->rsdp_gpa);
	if (initrd) {
		vc_st32(bytes + ZP_RAMDISK_IMAGE, (uint32_t)initrd->gpa);
		vc_st32(bytes + ZP_RAMDISK_SIZE, (uint32_t)initrd->length);
	}
	return vc_mem_write(mem, VC_BOOT_INFO, bytes, sizeof page->bytes);
}
