/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Loaders: tiny images of every kind made here, whole and damaged; a real Debian kernel when there is one. */
#include <elf.h>
#include <glob.h>
#include <sys/stat.h>
#include <virtcore/error.h>

#include "loader/loader.h"
#include "platform_env.h"

enum { RAM = 64 << 20, IMAGE = 64 << 10 };

static struct platform_env p;
static struct vc_cpu_state state;
static struct vc_boot_input input;
static uint8_t image[IMAGE];
static const uint8_t initrd[5000] = "initrd";

static const struct vc_e820 e820[] = {
    {0, 0x9fc00, 1},
    {0x9fc00, 0x400, 2},
    {0xe0000, 0x20000, 2},
    {0x100000, RAM - 0x100000 - 0x10000, 1},
    {RAM - 0x10000, 0x10000, 3},
};

static void setup(void)
{
	platform_init(&p, RAM);
	vc_cpu_state_reset(&state, true);
	memset(image, 0, sizeof image);
	input = (struct vc_boot_input){.kernel = image,
	                               .kernel_length = sizeof image,
	                               .cmdline = "console=ttyS0 quiet",
	                               .rsdp_gpa = 0xe0000,
	                               .ram_low = RAM,
	                               .e820 = e820,
	                               .e820_count = VC_ARRAY_SIZE(e820)};
}

static void teardown(void)
{
	platform_fini(&p);
}

static uint64_t mem(uint64_t gpa, unsigned width)
{
	uint64_t value = 0;

	ck_assert_int_eq(vc_mem_read(&p.mem, gpa, &value, width), 0);
	return value;
}

static void expect_text(uint64_t gpa, const char *text)
{
	char got[128];

	ck_assert_int_eq(vc_mem_read(&p.mem, gpa, got, strlen(text) + 1), 0);
	ck_assert_str_eq(got, text);
}

static void load(enum vcore_image kind)
{
	ck_assert_msg(vc_load(&p.mem, kind, &input, &state) == 0, "%s", vcore_error_message());
}

/* Loading must fail with this error, and the message speak of that. */
static void refuse(enum vcore_image kind, int error, const char *said)
{
	int r = vc_load(&p.mem, kind, &input, &state);

	ck_assert_msg(r == error, "got %d, expected %d (%s)", r, error, said);
	ck_assert_msg(strstr(vcore_error_message(), said) != NULL, "%s", vcore_error_message());
}

/* ---- what all kinds have in common ---- */

static void check_descriptor(uint16_t selector, const struct vc_segment *segment)
{
	uint64_t d = mem(state.gdtr.base + selector, 8);

	ck_assert_uint_eq(segment->selector, selector);
	ck_assert_uint_eq(d >> 40 & 0xff, segment->attr & 0xff);
	ck_assert_uint_eq(d >> 52 & 0xf, segment->attr >> 12);
	ck_assert_uint_eq((d >> 16 & 0xffffff) | (d >> 56) << 24, segment->base);
	ck_assert_uint_eq((d & 0xffff) | (d >> 32 & 0xf0000), segment->limit >> (segment->attr & VC_SEG_G ? 12 : 0));
}

static void check_entry(bool is64, uint64_t rip)
{
	ck_assert_uint_eq(state.rip, rip);
	ck_assert_uint_eq(state.rflags, 2);
	ck_assert_uint_ne(state.cr0 & VC_CR0_PE, 0);
	ck_assert_uint_eq(!!(state.cr0 & VC_CR0_PG), is64);
	ck_assert_uint_eq(!!(state.efer & VC_EFER_LMA), is64);
	ck_assert_uint_eq(state.seg[VC_CS].attr & (VC_SEG_L | VC_SEG_DB), is64 ? VC_SEG_L : VC_SEG_DB);
	check_descriptor(0x10, &state.seg[VC_CS]);
	for (unsigned i = 0; i < VC_SEG_COUNT; i++) {
		if (i != VC_CS)
			check_descriptor(0x18, &state.seg[i]);
	}
	check_descriptor(0x20, &state.tr);
	ck_assert_uint_eq(state.gdtr.base, VC_BOOT_GDT);
	ck_assert_uint_ge(state.gdtr.limit, 0x2f);
	if (is64) {
		uint64_t pdpt = mem(state.cr3, 8) & VC_PAGE_MASK, pd = mem(pdpt + 3 * 8, 8) & VC_PAGE_MASK;

		ck_assert_uint_ne(state.cr4 & VC_CR4_PAE, 0);
		ck_assert_uint_eq(mem(state.cr3 + 8, 8), 0);
		ck_assert_uint_eq(mem(pdpt + 4 * 8, 8), 0);
		ck_assert_uint_eq(mem(pd + 511 * 8, 8), 0xffe00087);
		ck_assert_uint_eq(mem((mem(pdpt, 8) & VC_PAGE_MASK), 8), 0x87);
	}
}

START_TEST(identity_tables)
{
	ck_assert_int_eq(vc_write_identity_tables(&p.mem, 0x9008), -EINVAL);
	ck_assert_int_eq(vc_write_identity_tables(&p.mem, RAM - 0x5000), -EFAULT);
	ck_assert_int_eq(vc_write_identity_tables(&p.mem, RAM - 0x6000), 0);
}
END_TEST

START_TEST(nothing_known)
{
	refuse(VCORE_IMAGE_AUTO, -EINVAL, "none of the known kinds");
	input.kernel_length = 0;
	refuse(VCORE_IMAGE_AUTO, -EINVAL, "empty");
	input.kernel_length = 1;
	refuse(VCORE_IMAGE_AUTO, -EINVAL, "none of the known kinds");
	refuse((enum vcore_image)77, -EINVAL, "77");
}
END_TEST

START_TEST(read_file)
{
	uint8_t *data = NULL;
	uint64_t length;
	char path[] = "/tmp/test_loader.XXXXXX";
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(vc_read_file(path, 10, &data, &length), 0);
	ck_assert_uint_eq(length, 0);
	free(data);
	ck_assert_int_eq(write(fd, "0123456789", 10), 10);
	ck_assert_int_eq(vc_read_file(path, 10, &data, &length), 0);
	ck_assert_uint_eq(length, 10);
	ck_assert_mem_eq(data, "0123456789", 10);
	free(data);
	ck_assert_int_eq(vc_read_file(path, 9, &data, &length), -EFBIG);
	close(fd);
	unlink(path);
	ck_assert_int_eq(vc_read_file(path, 9, &data, &length), -ENOENT);
	ck_assert_ptr_nonnull(strstr(vcore_error_message(), path));
	ck_assert_int_eq(vc_read_file("/tmp", 9, &data, &length), -EINVAL);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_int_eq(vc_read_file(path, 9, &data, &length), -EINVAL);
	unlink(path);
}
END_TEST

/* ---- bzImage ---- */

static void make_bzimage(void)
{
	image[0x1f1] = 1; /* setup sectors: the kernel begins at 0x400 */
	vc_st16(image + 0x1fe, 0xaa55);
	image[0x200] = 0xeb;
	image[0x201] = 0x268 - 0x202;
	memcpy(image + 0x202, "HdrS", 4);
	vc_st16(image + 0x206, 0x020f);
	image[0x211] = 1;                   /* loadflags: LOADED_HIGH */
	vc_st32(image + 0x22c, 0x7fffffff); /* initrd_addr_max */
	vc_st32(image + 0x230, 0x200000);   /* kernel_alignment */
	image[0x234] = 1;                   /* relocatable */
	vc_st16(image + 0x236, 1);          /* xloadflags: 64-bit entry */
	vc_st32(image + 0x238, 2047);       /* cmdline_size */
	vc_st32(image + 0x248, 0x300);      /* payload */
	vc_st32(image + 0x24c, 0x1000);
	vc_st64(image + 0x258, 0x1000000);  /* pref_address */
	vc_st32(image + 0x260, 0x800000);   /* init_size */
	vc_st32(image + 0x264, 0xdeadbeef); /* handover_offset: copied along */
	memcpy(image + 0x400 + 0x200, "entry64", 7);
}

START_TEST(bzimage)
{
	uint64_t ramdisk;

	make_bzimage();
	input.initrd = initrd;
	input.initrd_length = sizeof initrd;
	load(VCORE_IMAGE_AUTO);
	check_entry(true, 0x1000200);
	ck_assert_uint_eq(state.gpr[VC_RSI], VC_BOOT_INFO);
	expect_text(0x1000200, "entry64");
	/* the zero page */
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 0x1fe, 2), 0xaa55);
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 0x264, 4), 0xdeadbeef);
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 0x268, 8), 0); /* behind the header that the image has */
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 0x1ef, 1), 0); /* sentinel and what else lies in front of it */
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 0x210, 1), 0xff);
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 0x214, 4), 0x1000000);
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 0x070, 8), 0xe0000);
	expect_text(mem(VC_BOOT_INFO + 0x228, 4), "console=ttyS0 quiet");
	ramdisk = mem(VC_BOOT_INFO + 0x218, 4);
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 0x21c, 4), sizeof initrd);
	ck_assert_uint_eq(ramdisk, RAM - 0x10000 - 0x2000); /* below the ACPI area */
	expect_text(ramdisk, "initrd");
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 0x1e8, 1), VC_ARRAY_SIZE(e820));
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 0x2d0 + 3 * 20, 8), 0x100000);
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 0x2d0 + 4 * 20 + 16, 4), 3);
}
END_TEST

START_TEST(bzimage_placement)
{
	make_bzimage();
	/* the initrd keeps below the kernel's limit */
	input.initrd = initrd;
	input.initrd_length = sizeof initrd;
	vc_st32(image + 0x22c, 0x1ffffff);
	load(VCORE_IMAGE_BZIMAGE);
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 0x218, 4), 0x2000000 - 0x2000);
	vc_st32(image + 0x22c, 0x17fffff);
	refuse(VCORE_IMAGE_BZIMAGE, -ENOMEM, "initrd");
	vc_st32(image + 0x22c, 0xffffffff);
	load(VCORE_IMAGE_BZIMAGE);
	/* where it would rather be there is no RAM */
	vc_st64(image + 0x258, 0x10000000);
	load(VCORE_IMAGE_BZIMAGE);
	check_entry(true, 0x200200);
	vc_st64(image + 0x258, UINT64_MAX - 0x100);
	load(VCORE_IMAGE_BZIMAGE);
	image[0x234] = 0; /* and it cannot go elsewhere */
	refuse(VCORE_IMAGE_BZIMAGE, -ENOMEM, "the kernel needs");
	vc_st64(image + 0x258, 0x10000);
	refuse(VCORE_IMAGE_BZIMAGE, -ENOMEM, "the kernel needs");
	image[0x234] = 1;
	vc_st32(image + 0x260, RAM);
	refuse(VCORE_IMAGE_BZIMAGE, -ENOMEM, "the kernel needs");
	vc_st32(image + 0x260, 0);
	load(VCORE_IMAGE_BZIMAGE);
	/* without an e820 map the RAM sizes count */
	input.e820_count = 0;
	load(VCORE_IMAGE_BZIMAGE);
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 0x1e8, 1), 1);
	input.ram_low = 0x100000;
	refuse(VCORE_IMAGE_BZIMAGE, -ENOMEM, "the kernel needs");
}
END_TEST

START_TEST(bzimage_damaged)
{
	static const struct {
		unsigned at, width;
		uint64_t value;
		const char *said;
	} damage[] = {
	    {0x1fe, 2, 0xaa56, "boot flag"},      {0x202, 4, 0x53726449, "HdrS"},   {0x206, 2, 0x020b, "2.11"},
	    {0x236, 2, 0, "64-bit entry"},        {0x211, 1, 0, "loaded at 1 MiB"}, {0x230, 4, 0, "kernel_alignment"},
	    {0x230, 4, 0x300000, "power of two"}, {0x1f1, 1, 255, "setup part"},    {0x24c, 4, 0x10000, "cut off"},
	    {0x248, 4, 0xffffffff, "cut off"},    {0x1f1, 1, 126, "setup part"},
	};

	for (unsigned i = 0; i < VC_ARRAY_SIZE(damage); i++) {
		make_bzimage();
		memcpy(image + damage[i].at, &damage[i].value, damage[i].width);
		refuse(VCORE_IMAGE_BZIMAGE, -EINVAL, damage[i].said);
	}
	make_bzimage();
	image[0x1f1] = 0; /* old images: means 4, here in front of the end all the same */
	load(VCORE_IMAGE_BZIMAGE);
	make_bzimage();
	for (input.kernel_length = 1; input.kernel_length < 0x1800; input.kernel_length += 7) {
		if (input.kernel_length <= 0x400 + 0x1300 - 1)
			ck_assert_int_eq(vc_load(&p.mem, VCORE_IMAGE_BZIMAGE, &input, &state), -EINVAL);
	}
}
END_TEST

START_TEST(bzimage_input)
{
	char *line = malloc(VC_BOOT_CMDLINE_MAX + 1);

	make_bzimage();
	memset(line, 'x', VC_BOOT_CMDLINE_MAX);
	line[2048] = '\0';
	input.cmdline = line;
	refuse(VCORE_IMAGE_BZIMAGE, -E2BIG, "2048 bytes");
	line[2047] = '\0';
	load(VCORE_IMAGE_BZIMAGE);
	vc_st32(image + 0x238, 0xffffffff);
	line[2047] = line[2048] = 'x';
	line[VC_BOOT_CMDLINE_MAX] = '\0';
	refuse(VCORE_IMAGE_BZIMAGE, -E2BIG, "command line");
	line[VC_BOOT_CMDLINE_MAX - 1] = '\0';
	load(VCORE_IMAGE_BZIMAGE);
	input.module_count = 1;
	refuse(VCORE_IMAGE_BZIMAGE, -EINVAL, "no modules");
	input.module_count = 0;
	input.e820_count = 129;
	refuse(VCORE_IMAGE_BZIMAGE, -E2BIG, "129");
	free(line);
}
END_TEST

/* ---- ELF ---- */

/* One PT_LOAD of 0x100 bytes (0x300 in memory) and, at index 1, a PT_NOTE with the PVH entry. */
static void make_elf64(uint64_t entry, uint64_t vaddr, uint64_t paddr)
{
	Elf64_Ehdr header = {.e_type = ET_EXEC,
	                     .e_machine = EM_X86_64,
	                     .e_entry = entry,
	                     .e_phoff = 64,
	                     .e_phentsize = sizeof(Elf64_Phdr),
	                     .e_phnum = 2};
	Elf64_Phdr segments[2] = {
	    {.p_type = PT_LOAD,
	     .p_offset = 0x1000,
	     .p_vaddr = vaddr,
	     .p_paddr = paddr,
	     .p_filesz = 0x100,
	     .p_memsz = 0x300},
	    {.p_type = PT_NOTE, .p_offset = 0x2000, .p_filesz = 0x48, .p_align = 4},
	};

	memcpy(header.e_ident, "\177ELF\2\1\1", 7);
	memcpy(image, &header, sizeof header);
	memcpy(image + 64, segments, sizeof segments);
	memcpy(image + 0x1000, "code64", 6);
}

static void make_elf32(uint32_t entry, uint32_t vaddr, uint32_t paddr)
{
	Elf32_Ehdr header = {.e_type = ET_EXEC,
	                     .e_machine = EM_386,
	                     .e_entry = entry,
	                     .e_phoff = 64,
	                     .e_phentsize = sizeof(Elf32_Phdr),
	                     .e_phnum = 1};
	Elf32_Phdr segment = {
	    .p_type = PT_LOAD, .p_offset = 0x1000, .p_vaddr = vaddr, .p_paddr = paddr, .p_filesz = 0x100, .p_memsz = 0x300};

	memcpy(header.e_ident, "\177ELF\1\1\1", 7);
	memcpy(image, &header, sizeof header);
	memcpy(image + 64, &segment, sizeof segment);
	memcpy(image + 0x1000, "code32", 6);
}

/* Another note, and then the entry. */
static void make_notes(uint32_t entry)
{
	static const uint32_t other[] = {4, 6, 1, 0x006e6558, 0x11111111, 0x2222};
	const uint32_t note[] = {4, 4, 18, 0x006e6558, entry};

	memcpy(image + 0x2000, other, sizeof other);
	memcpy(image + 0x2000 + sizeof other, note, sizeof note);
}

START_TEST(elf64)
{
	make_elf64(0x100010, 0x100000, 0x100000);
	input.initrd = initrd;
	input.initrd_length = sizeof initrd;
	ck_assert_int_eq(vc_mem_fill(&p.mem, 0x100000, 0xee, 0x400), 0);
	load(VCORE_IMAGE_AUTO);
	check_entry(true, 0x100010);
	expect_text(0x100000, "code64");
	ck_assert_uint_eq(mem(0x100100, 8), 0);
	ck_assert_uint_eq(mem(0x1002f8, 8), 0);
	ck_assert_uint_eq(mem(0x100300, 1), 0xee);
	/* the Linux boot protocol's part */
	ck_assert_uint_eq(state.gpr[VC_RSI], VC_BOOT_INFO);
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 0x202, 4), 0x53726448);
	expect_text(mem(VC_BOOT_INFO + 0x228, 4), "console=ttyS0 quiet");
	expect_text(mem(VC_BOOT_INFO + 0x218, 4), "initrd");
	/* an entry given as a virtual address */
	make_elf64(0xffffffff80000010, 0xffffffff80000000, 0x200000);
	load(VCORE_IMAGE_ELF);
	check_entry(true, 0x200010);
}
END_TEST

START_TEST(elf32)
{
	make_elf32(0xc0100010, 0xc0100000, 0x100000);
	load(VCORE_IMAGE_AUTO);
	check_entry(false, 0x100010);
	expect_text(0x100000, "code32");
	ck_assert_uint_eq(state.gpr[VC_RSI], VC_BOOT_INFO);
}
END_TEST

START_TEST(elf_damaged)
{
	static const struct {
		unsigned at, width;
		uint64_t value;
		int error;
		const char *said;
	} damage[] = {
	    {0, 1, 0x7e, -EINVAL, "not an ELF"},
	    {4, 1, 3, -EINVAL, "class 3"},
	    {5, 1, 2, -EINVAL, "byte order 2"},
	    {16, 2, ET_REL, -EINVAL, "type 1"},
	    {18, 2, EM_AARCH64, -EINVAL, "machine 183"},
	    {24, 8, 0x100300, -EINVAL, "entry point"},
	    {24, 8, 0xfffff, -EINVAL, "entry point"},
	    {32, 8, IMAGE - 10, -EINVAL, "beyond its end"},
	    {32, 8, UINT64_MAX, -EINVAL, "beyond its end"},
	    {54, 2, 8, -EINVAL, "e_phentsize"},
	    {56, 2, 0, -EINVAL, "no program headers"},
	    {56, 2, 0xffff, -EINVAL, "beyond its end"},
	    {64, 4, PT_NULL, -EINVAL, "no segment"},
	    {64 + 8, 8, IMAGE, -EINVAL, "beyond the file's end"},
	    {64 + 8, 8, UINT64_MAX - 0x10, -EINVAL, "beyond the file's end"},
	    {64 + 32, 8, UINT64_MAX, -EINVAL, "beyond the file's end"},
	    {64 + 32, 8, 0x400, -EINVAL, "only 0x300 in memory"},
	    {64 + 40, 8, RAM, -ENOMEM, "RAM"},
	    {64 + 40, 8, UINT64_MAX, -ENOMEM, "RAM"},
	    {64 + 24, 8, UINT64_MAX - 0x10, -ENOMEM, "RAM"},
	    {64 + 24, 8, 0xa0000, -ENOMEM, "RAM"},
	    {64 + 24, 8, 0x9fb00, -ENOMEM, "RAM"},
	    {64 + 24, 8, RAM - 0x10000 - 0x200, -ENOMEM, "RAM"},
	    {64 + 24, 8, 0x400, -EINVAL, "the GDT"},
	    {64 + 24, 8, 0x7f00, -EINVAL, "the boot information"},
	    {64 + 24, 8, 0xef00, -EINVAL, "the page tables"},
	    {64 + 24, 8, 0x20000, -EINVAL, "the command line"},
	};

	for (unsigned i = 0; i < VC_ARRAY_SIZE(damage); i++) {
		make_elf64(0x100010, 0x100000, 0x100000);
		memcpy(image + damage[i].at, &damage[i].value, damage[i].width);
		refuse(VCORE_IMAGE_ELF, damage[i].error, damage[i].said);
	}
	make_elf64(0x100010, 0x100000, 0x100000);
	for (input.kernel_length = 1; input.kernel_length < 0x1100; input.kernel_length++)
		ck_assert_int_eq(vc_load(&p.mem, VCORE_IMAGE_ELF, &input, &state), -EINVAL);
	make_elf32(0x100010, 0x100000, 0x100000);
	for (input.kernel_length = 1; input.kernel_length < 0x1100; input.kernel_length++)
		ck_assert_int_eq(vc_load(&p.mem, VCORE_IMAGE_ELF, &input, &state), -EINVAL);
}
END_TEST

/* ---- PVH ---- */

START_TEST(pvh)
{
	uint64_t modules, map;

	make_elf64(0x100010, 0xffffffff80100000, 0x100000);
	make_notes(0x100020);
	input.initrd = initrd;
	input.initrd_length = sizeof initrd;
	input.module_count = 1;
	input.modules[0].data = (const uint8_t *)"module";
	input.modules[0].length = 7;
	input.modules[0].string = "second";
	load(VCORE_IMAGE_AUTO);
	check_entry(false, 0x100020);
	ck_assert_uint_eq(state.gpr[VC_RBX], VC_BOOT_INFO);
	ck_assert_uint_eq(state.cr4, 0);
	ck_assert_uint_eq(mem(VC_BOOT_INFO, 4), 0x336ec578);
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 4, 4), 1);
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 12, 4), 2);
	expect_text(mem(VC_BOOT_INFO + 24, 8), "console=ttyS0 quiet");
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 32, 8), 0xe0000);
	modules = mem(VC_BOOT_INFO + 16, 8);
	expect_text(mem(modules, 8), "initrd");
	ck_assert_uint_eq(mem(modules + 8, 8), sizeof initrd);
	ck_assert_uint_eq(mem(modules + 16, 8), 0);
	expect_text(mem(modules + 32, 8), "module");
	expect_text(mem(modules + 32 + 16, 8), "second");
	map = mem(VC_BOOT_INFO + 40, 8);
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 48, 4), VC_ARRAY_SIZE(e820));
	ck_assert_uint_eq(mem(map + 4 * 24, 8), RAM - 0x10000);
	ck_assert_uint_eq(mem(map + 4 * 24 + 16, 4), 3);
}
END_TEST

START_TEST(pvh_damaged)
{
	static const uint32_t sizes[] = {0xffffffff, 0x80000000, 0x7ffffffc, 0x40, 0xfffffff0};

	make_elf64(0x100010, 0x100000, 0x100000);
	make_notes(0x100300);
	refuse(VCORE_IMAGE_PVH, -EINVAL, "entry point");
	make_elf64(0x100010, 0x300000, 0x100000);
	make_notes(0x300020); /* virtual */
	refuse(VCORE_IMAGE_PVH, -EINVAL, "not a physical address");
	make_notes(0x100020);
	image[0x2000 + 24 + 8] = 17;
	refuse(VCORE_IMAGE_PVH, -EINVAL, "no Xen PHYS32_ENTRY note");
	/* without the note it is an ELF to be entered directly */
	load(VCORE_IMAGE_AUTO);
	check_entry(true, 0x100010);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(sizes); i++) {
		for (unsigned field = 0; field < 8; field += 4) {
			make_notes(0x100020);
			vc_st32(image + 0x2000 + field, sizes[i]);
			refuse(VCORE_IMAGE_PVH, -EINVAL, "no Xen PHYS32_ENTRY note");
		}
	}
	make_notes(0x100020);
	vc_st64(image + 64 + 56 + 32, UINT64_MAX); /* size of the notes */
	refuse(VCORE_IMAGE_PVH, -EINVAL, "beyond the file's end");
}
END_TEST

/* ---- Multiboot ---- */

static void put_multiboot(unsigned at, uint32_t flags)
{
	vc_st32(image + at, 0x1badb002);
	vc_st32(image + at + 4, flags);
	vc_st32(image + at + 8, -(0x1badb002 + flags));
}

/* Header at 0x100 of an image whose first byte goes to 1 MiB. */
static void make_multiboot(void)
{
	put_multiboot(0x100, 0x10003);
	vc_st32(image + 0x10c, 0x100100); /* header_addr */
	vc_st32(image + 0x110, 0x100000); /* load_addr */
	vc_st32(image + 0x114, 0x102000); /* load_end_addr */
	vc_st32(image + 0x118, 0x103000); /* bss_end_addr */
	vc_st32(image + 0x11c, 0x100200); /* entry_addr */
	memcpy(image + 0x200, "multi", 5);
}

START_TEST(multiboot)
{
	uint64_t mods, map;

	make_multiboot();
	input.initrd = initrd;
	input.initrd_length = sizeof initrd;
	input.module_count = 1;
	input.modules[0].data = (const uint8_t *)"module";
	input.modules[0].length = 7;
	input.modules[0].string = "mod.bin arg";
	image[0x2000] = 'X'; /* behind load_end_addr */
	ck_assert_int_eq(vc_mem_fill(&p.mem, 0x100000, 0xee, 0x4000), 0);
	load(VCORE_IMAGE_AUTO);
	check_entry(false, 0x100200);
	ck_assert_uint_eq(state.gpr[VC_RAX], 0x2badb002);
	ck_assert_uint_eq(state.gpr[VC_RBX], VC_BOOT_INFO);
	expect_text(0x100200, "multi");
	ck_assert_uint_eq(mem(0x102000, 1), 0);
	ck_assert_uint_eq(mem(0x102fff, 1), 0);
	ck_assert_uint_eq(mem(0x103000, 1), 0xee);
	ck_assert_uint_eq(mem(VC_BOOT_INFO, 4), 0x24d);
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 4, 4), 639);
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 8, 4), (RAM - 0x100000 - 0x10000) / 1024);
	expect_text(mem(VC_BOOT_INFO + 16, 4), "console=ttyS0 quiet");
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 20, 4), 2);
	mods = mem(VC_BOOT_INFO + 24, 4);
	expect_text(mem(mods, 4), "initrd");
	ck_assert_uint_eq(mem(mods, 4) % 4096, 0);
	ck_assert_uint_eq(mem(mods + 4, 4) - mem(mods, 4), sizeof initrd);
	expect_text(mem(mods + 8, 4), "");
	expect_text(mem(mods + 16, 4), "module");
	expect_text(mem(mods + 16 + 8, 4), "mod.bin arg");
	ck_assert_uint_eq(mem(VC_BOOT_INFO + 44, 4), VC_ARRAY_SIZE(e820) * 24);
	map = mem(VC_BOOT_INFO + 48, 4);
	ck_assert_uint_eq(mem(map + 24, 4), 20);
	ck_assert_uint_eq(mem(map + 24 + 4, 8), 0x9fc00);
	ck_assert_uint_eq(mem(map + 24 + 20, 4), 2);
	expect_text(mem(VC_BOOT_INFO + 64, 4), "libvirtcore");
}
END_TEST

START_TEST(multiboot_elf)
{
	make_elf32(0x100010, 0x100000, 0x100000);
	put_multiboot(0x800, 0x00003);
	load(VCORE_IMAGE_AUTO);
	check_entry(false, 0x100010);
	ck_assert_uint_eq(state.gpr[VC_RAX], 0x2badb002);
	/* the whole file, no bss */
	memset(image, 0, sizeof image);
	make_multiboot();
	vc_st32(image + 0x114, 0);
	vc_st32(image + 0x118, 0);
	image[IMAGE - 1] = 0x5a;
	load(VCORE_IMAGE_MULTIBOOT);
	ck_assert_uint_eq(mem(0x100000 + IMAGE - 1, 1), 0x5a);
}
END_TEST

START_TEST(multiboot_damaged)
{
	static const struct {
		unsigned at;
		uint32_t value;
		int error;
		const char *said;
	} damage[] = {
	    {0x108, 0, -EINVAL, "no Multiboot header"},    {0x10c, 0x100101, -EINVAL, "header_addr"},
	    {0x10c, 0xfffff, -EINVAL, "header_addr"},      {0x110, 0, -EINVAL, "header_addr"},
	    {0x110, 0xffffffff, -EINVAL, "header_addr"},   {0x114, 0xfffff, -EINVAL, "load_end_addr"},
	    {0x114, 0xffffffff, -EINVAL, "load_end_addr"}, {0x114, 0x100000 + IMAGE + 1, -EINVAL, "load_end_addr"},
	    {0x118, 0x101fff, -EINVAL, "bss_end_addr"},    {0x118, 0xffffffff, -ENOMEM, "RAM"},
	    {0x11c, 0xfffff, -EINVAL, "entry_addr"},       {0x11c, 0x103000, -EINVAL, "entry_addr"},
	};

	for (unsigned i = 0; i < VC_ARRAY_SIZE(damage); i++) {
		make_multiboot();
		vc_st32(image + damage[i].at, damage[i].value);
		refuse(VCORE_IMAGE_MULTIBOOT, damage[i].error, damage[i].said);
	}
	put_multiboot(0x100, 0x10008);
	refuse(VCORE_IMAGE_MULTIBOOT, -EINVAL, "demands");
	memset(image, 0, sizeof image);
	put_multiboot(8192 - 4, 0x10000); /* begins inside the first 8 KiB: found, and wants to be loaded at 0 */
	refuse(VCORE_IMAGE_MULTIBOOT, -EINVAL, "the GDT");
	memset(image, 0, sizeof image);
	put_multiboot(8192, 0x10000);
	refuse(VCORE_IMAGE_AUTO, -EINVAL, "none of the known kinds");
	/* no address fields and not an ELF either */
	put_multiboot(0, 0);
	refuse(VCORE_IMAGE_AUTO, -EINVAL, "not an ELF");
	/* nothing is read behind the end (ASan watches) */
	make_multiboot();
	for (uint64_t length = 1; length < 0x2000; length += 3) {
		uint8_t *exact = malloc(length);

		memcpy(exact, image, length);
		input.kernel = exact;
		input.kernel_length = length;
		ck_assert_int_lt(vc_load(&p.mem, VCORE_IMAGE_MULTIBOOT, &input, &state), 0);
		free(exact);
	}
}
END_TEST

START_TEST(multiboot_modules)
{
	char *string = malloc(VC_BOOT_CMDLINE_MAX);

	make_multiboot();
	for (unsigned i = 0; i < 16; i++) {
		input.modules[i].data = image;
		input.modules[i].length = 4097;
		input.modules[i].string = "m";
	}
	input.module_count = 16;
	load(VCORE_IMAGE_MULTIBOOT);
	for (unsigned i = 1; i < 16; i++) {
		uint64_t mods = mem(VC_BOOT_INFO + 24, 4) + 16 * i;

		ck_assert_uint_le(mem(mods + 4, 4), mem(mods - 16, 4)); /* none overlaps the one before */
	}
	input.module_count = 17;
	refuse(VCORE_IMAGE_MULTIBOOT, -E2BIG, "17");
	input.module_count = 16;
	memset(string, 'x', VC_BOOT_CMDLINE_MAX - 1);
	string[VC_BOOT_CMDLINE_MAX - 1] = '\0';
	input.modules[15].string = string;
	refuse(VCORE_IMAGE_MULTIBOOT, -E2BIG, "strings");
	input.modules[15].string = "";
	input.modules[15].length = RAM;
	refuse(VCORE_IMAGE_MULTIBOOT, -ENOMEM, "module");
	input.modules[15].length = UINT64_MAX;
	refuse(VCORE_IMAGE_MULTIBOOT, -ENOMEM, "module");
	free(string);
}
END_TEST

/* ---- flat ---- */

START_TEST(flat)
{
	input.cmdline = "";
	memcpy(image, "flat", 4);
	input.address = 0x7c00;
	load(VCORE_IMAGE_FLAT);
	expect_text(0x7c00, "flat");
	ck_assert_uint_eq(state.rip, 0x7c00);
	ck_assert_uint_eq(state.seg[VC_CS].selector, 0);
	ck_assert_uint_eq(state.cr0 & (VC_CR0_PE | VC_CR0_PG), 0);
	input.address = 0x81234;
	load(VCORE_IMAGE_FLAT);
	ck_assert_uint_eq(state.rip, 0x1234);
	ck_assert_uint_eq(state.seg[VC_CS].selector, 0x8000);
	ck_assert_uint_eq(state.seg[VC_CS].base, 0x80000);
	input.address = 0x100000;
	refuse(VCORE_IMAGE_FLAT, -EINVAL, "below 1 MiB");
	input.address = 0;
	input.cmdline = "x";
	refuse(VCORE_IMAGE_FLAT, -EINVAL, "no command line");
	input.cmdline = "";
	input.initrd = initrd;
	refuse(VCORE_IMAGE_FLAT, -EINVAL, "no initrd");
	input.initrd = NULL;
	input.kernel_length = (uint64_t)RAM + 1;
	ck_assert_int_eq(vc_load(&p.mem, VCORE_IMAGE_FLAT, &input, &state), -EFAULT);
}
END_TEST

/* ---- the kernel of this machine ---- */

START_TEST(debian_kernel)
{
	uint8_t *data;
	glob_t found;
	uint64_t length;

	if (glob("/boot/vmlinuz-*-cloud-amd64", 0, NULL, &found))
		return;
	if (vc_read_file(found.gl_pathv[0], VC_MIB(64), &data, &length)) {
		globfree(&found);
		return; /* not ours to read */
	}
	globfree(&found);
	input.kernel = data;
	input.kernel_length = length;
	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, RAM, VC_MIB(512) - RAM, VCORE_MEM_RWX, NULL, NULL), 0);
	input.ram_low = VC_MIB(512);
	input.e820_count = 0;
	load(VCORE_IMAGE_AUTO);
	check_entry(true, 0x1000200);
	input.kernel_length = length / 2;
	refuse(VCORE_IMAGE_AUTO, -EINVAL, "cut off");
	free(data);
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("loader");

	tcase_set_timeout(cases, 60);
	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, identity_tables);
	tcase_add_test(cases, nothing_known);
	tcase_add_test(cases, read_file);
	tcase_add_test(cases, bzimage);
	tcase_add_test(cases, bzimage_placement);
	tcase_add_test(cases, bzimage_damaged);
	tcase_add_test(cases, bzimage_input);
	tcase_add_test(cases, elf64);
	tcase_add_test(cases, elf32);
	tcase_add_test(cases, elf_damaged);
	tcase_add_test(cases, pvh);
	tcase_add_test(cases, pvh_damaged);
	tcase_add_test(cases, multiboot);
	tcase_add_test(cases, multiboot_elf);
	tcase_add_test(cases, multiboot_damaged);
	tcase_add_test(cases, multiboot_modules);
	tcase_add_test(cases, flat);
	tcase_add_test(cases, debian_kernel);
	return platform_run("loader", cases);
}
