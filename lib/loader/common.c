/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Choosing a loader, and what all of them need. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/util.h"
#include "loader/internal.h"

const struct vc_loader *const vc_loaders[] = {
    &vc_loader_bzimage, &vc_loader_pvh, &vc_loader_multiboot, &vc_loader_elf, &vc_loader_flat, NULL,
};

static const struct vc_loader *choose(enum vcore_image image, const struct vc_boot_input *input)
{
	for (unsigned i = 0; vc_loaders[i]; i++) {
		const struct vc_loader *loader = vc_loaders[i];

		if (image == VCORE_IMAGE_AUTO ? loader->match(input->kernel, input->kernel_length) : loader->image == image)
			return loader;
	}
	return NULL;
}

int vc_load(struct vc_mem *mem, enum vcore_image image, const struct vc_boot_input *input, struct vc_cpu_state *state)
{
	const struct vc_loader *loader;

	if (!input->kernel || !input->kernel_length)
		return vc_fail(EINVAL, "the kernel image is empty");
	loader = choose(image, input);
	if (!loader && image == VCORE_IMAGE_AUTO)
		return vc_fail(EINVAL, "the kernel image is none of the known kinds: bzImage, ELF (PVH or direct), Multiboot");
	if (!loader)
		return vc_fail(EINVAL, "image kind %d is unknown", (int)image);
	return loader->load(mem, input, state);
}

int vc_boot_check_input(const struct vc_loader *loader, const struct vc_boot_input *input, unsigned takes)
{
	if (input->initrd && !(takes & VC_BOOT_TAKES_INITRD))
		return vc_fail(EINVAL, "a %s image takes no initrd", loader->name);
	if (*input->cmdline && !(takes & VC_BOOT_TAKES_CMDLINE))
		return vc_fail(EINVAL, "a %s image takes no command line", loader->name);
	if (input->module_count && !(takes & VC_BOOT_TAKES_MODULES))
		return vc_fail(EINVAL, "a %s image takes no modules", loader->name);
	if (input->module_count > VC_ARRAY_SIZE(input->modules))
		return vc_fail(E2BIG, "%u modules were given, at most %zu fit", input->module_count,
		               VC_ARRAY_SIZE(input->modules));
	if (input->e820_count > VC_BOOT_E820_MAX)
		return vc_fail(E2BIG, "the memory map has %u entries, at most %u fit", input->e820_count, VC_BOOT_E820_MAX);
	return 0;
}

/*
 * The n-th area of RAM, from the e820 map or, without one, from the two RAM sizes. False past the last. Entries that
 * are not RAM have length 0.
 */
static bool ram_area(const struct vc_boot_input *input, uint32_t n, uint64_t *start, uint64_t *end)
{
	const struct vc_e820 plain[] = {{0, input->ram_low, 1}, {VC_GIB(4), input->ram_high, 1}};
	const struct vc_e820 *entries = input->e820_count ? input->e820 : plain;
	uint32_t count = input->e820_count ? input->e820_count : VC_ARRAY_SIZE(plain);

	if (n >= count)
		return false;
	*start = *end = entries[n].start;
	if (entries[n].type == 1 && __builtin_add_overflow(entries[n].start, entries[n].length, end))
		*end = UINT64_MAX;
	return true;
}

uint64_t vc_boot_ram_from(const struct vc_boot_input *input, uint64_t gpa)
{
	uint64_t reached = gpa, start, end;
	bool grown;

	/* Entries may be adjacent and come in any order: extend until none helps. */
	do {
		grown = false;
		for (uint32_t i = 0; ram_area(input, i, &start, &end); i++) {
			if (start <= reached && reached < end) {
				reached = end;
				grown = true;
			}
		}
	} while (grown);
	return reached - gpa;
}

int vc_boot_place(const struct vc_boot_input *input, const char *what, uint64_t length, uint64_t floor,
                  uint64_t ceiling, uint64_t *gpa)
{
	uint64_t best = 0, start, end;
	bool found = false;

	for (uint32_t i = 0; ram_area(input, i, &start, &end); i++) {
		uint64_t candidate;

		if (start < floor)
			start = floor;
		if (end > ceiling)
			end = ceiling;
		if (end <= start || end - start < length)
			continue;
		candidate = VC_ALIGN_DOWN(end - length, VC_PAGE_SIZE);
		if (candidate >= start && candidate >= best) {
			best = candidate;
			found = true;
		}
	}
	if (!found)
		return vc_fail(ENOMEM, "%s of %#llx bytes does not fit the RAM between %#llx and %#llx", what,
		               (unsigned long long)length, (unsigned long long)floor, (unsigned long long)ceiling);
	*gpa = best;
	return 0;
}

int vc_boot_check_target(const struct vc_boot_input *input, const char *name, uint64_t gpa, uint64_t length)
{
	static const struct {
		uint64_t start, length;
		const char *what;
	} ours[] = {
	    {VC_BOOT_GDT, 0x100, "the GDT"},
	    {VC_BOOT_INFO, VC_BOOT_PAGE_TABLES - VC_BOOT_INFO, "the boot information"},
	    {VC_BOOT_PAGE_TABLES, 6 * VC_PAGE_SIZE, "the page tables"},
	    {VC_BOOT_CMDLINE, VC_BOOT_CMDLINE_MAX, "the command line"},
	};

	if (length > vc_boot_ram_from(input, gpa))
		return vc_fail(ENOMEM, "%s of %#llx bytes at %#llx does not lie in the guest's RAM", name,
		               (unsigned long long)length, (unsigned long long)gpa);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(ours); i++) {
		if (vc_ranges_overlap(gpa, length, ours[i].start, ours[i].length))
			return vc_fail(EINVAL, "%s of %#llx bytes at %#llx lies where the loader puts %s (%#llx)", name,
			               (unsigned long long)length, (unsigned long long)gpa, ours[i].what,
			               (unsigned long long)ours[i].start);
	}
	return 0;
}

int vc_boot_write_cmdline(struct vc_mem *mem, const struct vc_boot_input *input, uint64_t limit, uint64_t *end)
{
	uint64_t length = strlen(input->cmdline);

	if (limit > VC_BOOT_CMDLINE_MAX - 1)
		limit = VC_BOOT_CMDLINE_MAX - 1;
	if (length > limit)
		return vc_fail(E2BIG, "the command line has %llu bytes, the kernel takes at most %llu",
		               (unsigned long long)length, (unsigned long long)limit);
	*end = VC_BOOT_CMDLINE + length + 1;
	return vc_mem_write(mem, VC_BOOT_CMDLINE, input->cmdline, length + 1);
}

static int write_string(struct vc_mem *mem, const char *string, uint64_t *strings, uint64_t *gpa)
{
	uint64_t length = strlen(string) + 1;

	if (length > VC_BOOT_CMDLINE + VC_BOOT_CMDLINE_MAX - *strings)
		return vc_fail(E2BIG, "command line and module strings take more than %u bytes", VC_BOOT_CMDLINE_MAX);
	*gpa = *strings;
	*strings += length;
	return vc_mem_write(mem, *gpa, string, length);
}

int vc_boot_write_blobs(struct vc_mem *mem, const struct vc_boot_input *input, uint64_t floor, uint64_t ceiling,
                        uint64_t *strings, struct vc_boot_blob blobs[VC_BOOT_BLOB_MAX])
{
	unsigned count = 0;

	for (unsigned i = 0; i <= input->module_count; i++) {
		bool is_initrd = i == 0;
		const uint8_t *data = is_initrd ? input->initrd : input->modules[i - 1].data;
		uint64_t length = is_initrd ? input->initrd_length : input->modules[i - 1].length;
		const char *string = is_initrd ? NULL : input->modules[i - 1].string;
		struct vc_boot_blob *blob = &blobs[count];
		int r;

		if (is_initrd && !data)
			continue;
		r = vc_boot_place(input, is_initrd ? "the initrd" : "a module", length, floor, ceiling, &blob->gpa);
		if (!r && length)
			r = vc_mem_write(mem, blob->gpa, data, length);
		blob->length = length;
		blob->string_gpa = 0;
		if (!r && string)
			r = write_string(mem, string, strings, &blob->string_gpa);
		if (r)
			return r;
		ceiling = blob->gpa;
		count++;
	}
	return (int)count;
}

int vc_write_identity_tables(struct vc_mem *mem, uint64_t gpa)
{
	const uint64_t present_write_user = 7, large = 0x80;
	uint64_t table[VC_PAGE_SIZE / 8];
	int r;

	if (!VC_IS_ALIGNED(gpa, VC_PAGE_SIZE))
		return vc_fail(EINVAL, "page tables at %#llx are not aligned to 4 KiB", (unsigned long long)gpa);
	memset(table, 0, sizeof table);
	table[0] = (gpa + VC_PAGE_SIZE) | present_write_user;
	r = vc_mem_write(mem, gpa, table, sizeof table);
	for (unsigned i = 0; i < 4; i++)
		table[i] = (gpa + (2 + i) * VC_PAGE_SIZE) | present_write_user;
	if (!r)
		r = vc_mem_write(mem, gpa + VC_PAGE_SIZE, table, sizeof table);
	for (unsigned pd = 0; !r && pd < 4; pd++) {
		for (unsigned i = 0; i < 512; i++)
			table[i] = (pd * 512ull + i) * VC_MIB(2) | present_write_user | large;
		r = vc_mem_write(mem, gpa + (2 + pd) * VC_PAGE_SIZE, table, sizeof table);
	}
	return r;
}

static int read_all(int fd, const char *path, uint8_t *data, uint64_t size, uint64_t *length)
{
	uint64_t done = 0;

	while (done < size) {
		ssize_t n = read(fd, data + done, size - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vc_fail_errno(errno, "cannot read '%s'", path);
		if (n == 0)
			break;
		done += (uint64_t)n;
	}
	*length = done;
	return 0;
}

static int read_fd(int fd, const char *path, uint64_t max, uint8_t **data, uint64_t *length)
{
	struct stat st;
	uint8_t *buffer;
	int r;

	if (fstat(fd, &st))
		return vc_fail_errno(errno, "cannot look at '%s'", path);
	if (!S_ISREG(st.st_mode))
		return vc_fail(EINVAL, "'%s' is not a regular file", path);
	if ((uint64_t)st.st_size > max)
		return vc_fail(EFBIG, "'%s' has %llu bytes, at most %llu are taken", path, (unsigned long long)st.st_size,
		               (unsigned long long)max);
	buffer = malloc(st.st_size ? (size_t)st.st_size : 1);
	if (!buffer)
		return vc_fail(ENOMEM, "no memory for the %llu bytes of '%s'", (unsigned long long)st.st_size, path);
	r = read_all(fd, path, buffer, (uint64_t)st.st_size, length);
	if (r) {
		free(buffer);
		return r;
	}
	*data = buffer;
	return 0;
}

int vc_read_file(const char *path, uint64_t max, uint8_t **data, uint64_t *length)
{
	/* O_NONBLOCK: opening a FIFO by mistake must not hang before fstat() can refuse it. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r;

	if (fd < 0)
		return vc_fail_errno(errno, "cannot open '%s'", path);
	r = read_fd(fd, path, max, data, length);
	close(fd);
	return r;
}
