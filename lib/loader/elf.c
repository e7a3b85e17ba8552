/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ELF entered directly at e_entry: ELF64 in 64-bit mode, ELF32 in 32-bit protected mode. RSI points to a Linux zero
 * page, so that a vmlinux without a PVH note boots by the 64-bit or 32-bit boot protocol; other images find command
 * line, initrd and memory map there.
 */
#include "core/error.h"
#include "core/util.h"
#include "loader/internal.h"

enum {
	/* setup header of the zero page, as a bzImage would bring it */
	HDR_BOOT_FLAG = 0x1fe,
	HDR_MAGIC = 0x202,
	HDR_KERNEL_ALIGNMENT = 0x230,
	HDR_CMDLINE_SIZE = 0x238,
};

static void make_header(struct vc_zero_page *page)
{
	memset(page, 0, sizeof *page);
	vc_st16(page->bytes + HDR_BOOT_FLAG, 0xaa55);
	memcpy(page->bytes + HDR_MAGIC, "HdrS", 4);
	vc_st32(page->bytes + HDR_KERNEL_ALIGNMENT, 0x1000000);
	vc_st32(page->bytes + HDR_CMDLINE_SIZE, VC_BOOT_CMDLINE_MAX - 1);
}

static int load(struct vc_mem *mem, const struct vc_boot_input *input, struct vc_cpu_state *state)
{
	struct vc_boot_blob blobs[VC_BOOT_BLOB_MAX];
	struct vc_zero_page page;
	struct vc_elf elf;
	uint64_t end, entry, strings;
	int r, count;

	r = vc_boot_check_input(&vc_loader_elf, input, VC_BOOT_TAKES_INITRD | VC_BOOT_TAKES_CMDLINE);
	if (!r)
		r = vc_elf_open(&elf, input->kernel, input->kernel_length);
	if (!r)
		r = vc_elf_load(&elf, mem, input, &end);
	if (!r)
		r = vc_elf_entry(&elf, elf.entry, &entry);
	if (!r && entry >= VC_GIB(4))
		r = vc_fail(EINVAL, "the ELF entry point %#llx is beyond the first 4 GiB", (unsigned long long)entry);
	if (!r)
		r = vc_boot_write_cmdline(mem, input, UINT64_MAX, &strings);
	if (r)
		return r;
	count = vc_boot_write_blobs(mem, input, end, VC_GIB(4), &strings, blobs);
	if (count < 0)
		return count;
	make_header(&page);
	r = vc_boot_write_zero_page(mem, input, &page, count ? &blobs[0] : NULL);
	if (!r)
		r = elf.is64 ? vc_boot_enter64(mem, state, entry) : vc_boot_enter32(mem, state, entry);
	if (!r)
		state->gpr[VC_RSI] = VC_BOOT_INFO;
	return r;
}

const struct vc_loader vc_loader_elf = {"ELF", VCORE_IMAGE_ELF, vc_elf_match, load};
