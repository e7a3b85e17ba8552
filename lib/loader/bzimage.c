/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Linux bzImage, 64-bit boot protocol (Documentation/arch/x86/boot.rst of the kernel): version 2.12 or later, entered
 * at +0x200. */
#include "core/error.h"
#include "core/util.h"
#include "loader/internal.h"

enum {
	HDR_SETUP_SECTS = 0x1f1,
	HDR_BOOT_FLAG = 0x1fe,
	HDR_JUMP = 0x201, /* operand of the short jump over the header: tells where it ends */
	HDR_MAGIC = 0x202,
	HDR_VERSION = 0x206,
	HDR_LOADFLAGS = 0x211,
	HDR_CODE32_START = 0x214,
	HDR_INITRD_ADDR_MAX = 0x22c,
	HDR_KERNEL_ALIGNMENT = 0x230,
	HDR_RELOCATABLE = 0x234,
	HDR_XLOADFLAGS = 0x236,
	HDR_CMDLINE_SIZE = 0x238,
	HDR_PAYLOAD_OFFSET = 0x248,
	HDR_PAYLOAD_LENGTH = 0x24c,
	HDR_SETUP_DATA = 0x250,
	HDR_PREF_ADDRESS = 0x258,
	HDR_INIT_SIZE = 0x260,
	HDR_MIN_END = 0x264, /* a 2.12 header reaches here */

	LOADED_HIGH = 1u << 0, /* loadflags */
	KERNEL_64 = 1u << 0,   /* xloadflags: has the 64-bit entry point */
	ENTRY64_OFFSET = 0x200,
	SECTOR = 512,
};

struct kernel {
	const uint8_t *code; /* the protected-mode part */
	uint64_t code_length;
	uint64_t init_size; /* bytes it needs from where it is loaded, until it has found its own memory */
	uint64_t load;      /* GPA */
};

static bool match(const uint8_t *image, uint64_t length)
{
	return length >= HDR_MIN_END && vc_ld16(image + HDR_BOOT_FLAG) == 0xaa55 && !memcmp(image + HDR_MAGIC, "HdrS", 4);
}

/* The header fields that decide whether we can boot this at all. */
static int check_header(const uint8_t *image, uint64_t length)
{
	uint64_t alignment;

	if (!match(image, length))
		return vc_fail(EINVAL, "not a bzImage: no boot flag 0xaa55 and 'HdrS' at 0x1fe, or shorter than its header");
	if (vc_ld16(image + HDR_VERSION) < 0x020c)
		return vc_fail(EINVAL, "the bzImage speaks boot protocol %u.%02u, 2.12 or later is needed",
		               image[HDR_VERSION + 1], image[HDR_VERSION]);
	if (!(vc_ld16(image + HDR_XLOADFLAGS) & KERNEL_64))
		return vc_fail(EINVAL, "the bzImage has no 64-bit entry point (xloadflags %#x)",
		               vc_ld16(image + HDR_XLOADFLAGS));
	if (!(image[HDR_LOADFLAGS] & LOADED_HIGH))
		return vc_fail(EINVAL, "the bzImage is not made to be loaded at 1 MiB or above (loadflags %#x)",
		               image[HDR_LOADFLAGS]);
	alignment = vc_ld32(image + HDR_KERNEL_ALIGNMENT);
	if (!alignment || (alignment & (alignment - 1)))
		return vc_fail(EINVAL, "kernel_alignment %#llx of the bzImage is not a power of two",
		               (unsigned long long)alignment);
	return 0;
}

static int find_code(const struct vc_boot_input *input, struct kernel *kernel)
{
	const uint8_t *image = input->kernel;
	unsigned sectors = image[HDR_SETUP_SECTS] ? image[HDR_SETUP_SECTS] : 4;
	uint64_t offset = (sectors + 1) * SECTOR, payload_end;

	if (offset >= input->kernel_length || input->kernel_length - offset <= ENTRY64_OFFSET)
		return vc_fail(EINVAL, "the bzImage ends at %#llx, inside its setup part of %u sectors",
		               (unsigned long long)input->kernel_length, sectors);
	kernel->code = image + offset;
	kernel->code_length = input->kernel_length - offset;
	payload_end = (uint64_t)vc_ld32(image + HDR_PAYLOAD_OFFSET) + vc_ld32(image + HDR_PAYLOAD_LENGTH);
	if (payload_end > kernel->code_length)
		return vc_fail(EINVAL, "the bzImage is cut off: its payload ends at %#llx, the file at %#llx",
		               (unsigned long long)(offset + payload_end), (unsigned long long)input->kernel_length);
	kernel->init_size = vc_ld32(image + HDR_INIT_SIZE);
	if (kernel->init_size < kernel->code_length)
		kernel->init_size = kernel->code_length;
	return 0;
}

static bool fits(const struct vc_boot_input *input, const struct kernel *kernel, uint64_t gpa)
{
	/* The identity map that we enter with covers 4 GiB. */
	return gpa >= VC_MIB(1) && gpa < VC_GIB(4) && kernel->init_size <= VC_GIB(4) - gpa &&
	       kernel->init_size <= vc_boot_ram_from(input, gpa);
}

/* At its preferred address, or if it is relocatable at the lowest aligned one from 1 MiB. */
static int place_code(const struct vc_boot_input *input, struct kernel *kernel)
{
	const uint8_t *image = input->kernel;
	uint64_t preferred = vc_ld64(image + HDR_PREF_ADDRESS), alignment = vc_ld32(image + HDR_KERNEL_ALIGNMENT);

	kernel->load = preferred;
	if (fits(input, kernel, preferred))
		return 0;
	kernel->load = VC_ALIGN_UP(VC_MIB(1), alignment);
	if (image[HDR_RELOCATABLE] && fits(input, kernel, kernel->load))
		return 0;
	return vc_fail(ENOMEM, "the kernel needs %#llx bytes of RAM at %#llx%s, the vm has %#llx from 1 MiB",
	               (unsigned long long)kernel->init_size, (unsigned long long)preferred,
	               image[HDR_RELOCATABLE] ? " or at 1 MiB" : "",
	               (unsigned long long)vc_boot_ram_from(input, VC_MIB(1)));
}

static void copy_header(struct vc_zero_page *page, const uint8_t *image, uint64_t load)
{
	unsigned end = HDR_MAGIC + image[HDR_JUMP];

	if (end > VC_ZERO_PAGE_HEADER_END)
		end = VC_ZERO_PAGE_HEADER_END;
	if (end < HDR_MIN_END)
		end = HDR_MIN_END;
	memset(page, 0, sizeof *page);
	memcpy(page->bytes + VC_ZERO_PAGE_HEADER, image + VC_ZERO_PAGE_HEADER, end - VC_ZERO_PAGE_HEADER);
	vc_st32(page->bytes + HDR_CODE32_START, (uint32_t)load);
	vc_st64(page->bytes + HDR_SETUP_DATA, 0); /* a list of ours, if anybody's: the image has none */
}

static int load(struct vc_mem *mem, const struct vc_boot_input *input, struct vc_cpu_state *state)
{
	const uint8_t *image = input->kernel;
	struct vc_boot_blob blobs[VC_BOOT_BLOB_MAX];
	struct vc_zero_page page;
	struct kernel kernel = {0};
	uint64_t strings;
	int r, count;

	r = vc_boot_check_input(&vc_loader_bzimage, input, VC_BOOT_TAKES_INITRD | VC_BOOT_TAKES_CMDLINE);
	if (!r)
		r = check_header(image, input->kernel_length);
	if (!r)
		r = find_code(input, &kernel);
	if (!r)
		r = place_code(input, &kernel);
	if (!r)
		r = vc_boot_write_cmdline(mem, input, vc_ld32(image + HDR_CMDLINE_SIZE), &strings);
	if (r)
		return r;

	/* initrd_addr_max is the last address that the initrd may take */
	count = vc_boot_write_blobs(mem, input, kernel.load + kernel.init_size, vc_ld32(image + HDR_INITRD_ADDR_MAX) + 1ull,
	                            &strings, blobs);
	if (count < 0)
		return count;
	r = vc_mem_write(mem, kernel.load, kernel.code, kernel.code_length);
	if (r)
		return r;
	copy_header(&page, image, kernel.load);
	r = vc_boot_write_zero_page(mem, input, &page, count ? &blobs[0] : NULL);
	if (!r)
		r = vc_boot_enter64(mem, state, kernel.load + ENTRY64_OFFSET);
	if (!r)
		state->gpr[VC_RSI] = VC_BOOT_INFO;
	return r;
}

const struct vc_loader vc_loader_bzimage = {"bzImage", VCORE_IMAGE_BZIMAGE, match, load};
