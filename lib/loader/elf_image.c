/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ELF files: headers checked against the file, segments copied to guest memory. */
#include <elf.h>

#include "core/error.h"
#include "core/util.h"
#include "loader/internal.h"

bool vc_elf_match(const uint8_t *image, uint64_t length)
{
	return length >= sizeof(Elf32_Ehdr) && !memcmp(image, ELFMAG, SELFMAG);
}

static int read_header64(struct vc_elf *elf)
{
	Elf64_Ehdr header;

	if (elf->length < sizeof header)
		return vc_fail(EINVAL, "the ELF file ends inside its header");
	memcpy(&header, elf->data, sizeof header);
	if (header.e_machine != EM_X86_64)
		return vc_fail(EINVAL, "the ELF64 file is for machine %u, not x86-64 (62)", header.e_machine);
	if (header.e_phentsize < sizeof(Elf64_Phdr))
		return vc_fail(EINVAL, "the ELF file's e_phentsize is %u, at least %zu expected", header.e_phentsize,
		               sizeof(Elf64_Phdr));
	elf->entry = header.e_entry;
	elf->segments = header.e_phoff;
	elf->segment_count = header.e_phnum;
	elf->segment_size = header.e_phentsize;
	return 0;
}

static int read_header32(struct vc_elf *elf)
{
	Elf32_Ehdr header;

	memcpy(&header, elf->data, sizeof header);
	if (header.e_machine != EM_386)
		return vc_fail(EINVAL, "the ELF32 file is for machine %u, not i386 (3)", header.e_machine);
	if (header.e_phentsize < sizeof(Elf32_Phdr))
		return vc_fail(EINVAL, "the ELF file's e_phentsize is %u, at least %zu expected", header.e_phentsize,
		               sizeof(Elf32_Phdr));
	elf->entry = header.e_entry;
	elf->segments = header.e_phoff;
	elf->segment_count = header.e_phnum;
	elf->segment_size = header.e_phentsize;
	return 0;
}

int vc_elf_open(struct vc_elf *elf, const uint8_t *image, uint64_t length)
{
	uint16_t type;
	int r;

	*elf = (struct vc_elf){.data = image, .length = length};
	if (!vc_elf_match(image, length))
		return vc_fail(EINVAL, "not an ELF file: no 0x7f 'ELF' at its start, or shorter than its header");
	if (image[EI_DATA] != ELFDATA2LSB || (image[EI_CLASS] != ELFCLASS32 && image[EI_CLASS] != ELFCLASS64))
		return vc_fail(EINVAL, "the ELF file has class %u and byte order %u, expected 32 or 64 bits little-endian",
		               image[EI_CLASS], image[EI_DATA]);
	type = vc_ld16(image + EI_NIDENT);
	if (type != ET_EXEC && type != ET_DYN)
		return vc_fail(EINVAL, "the ELF file has type %u, expected an executable (2 or 3)", type);
	elf->is64 = image[EI_CLASS] == ELFCLASS64;
	r = elf->is64 ? read_header64(elf) : read_header32(elf);
	if (r)
		return r;
	if (!elf->segment_count)
		return vc_fail(EINVAL, "the ELF file has no program headers: nothing to load");
	if (elf->segments > length || (uint64_t)elf->segment_count * elf->segment_size > length - elf->segments)
		return vc_fail(EINVAL, "the ELF file's %u program headers at %#llx lie beyond its end", elf->segment_count,
		               (unsigned long long)elf->segments);
	return 0;
}

int vc_elf_segment(const struct vc_elf *elf, unsigned index, struct vc_elf_segment *segment)
{
	const uint8_t *at = elf->data + elf->segments + (uint64_t)index * elf->segment_size;

	if (elf->is64) {
		Elf64_Phdr header;

		memcpy(&header, at, sizeof header);
		*segment = (struct vc_elf_segment){header.p_type,   header.p_offset, header.p_vaddr, header.p_paddr,
		                                   header.p_filesz, header.p_memsz,  header.p_align};
	} else {
		Elf32_Phdr header;

		memcpy(&header, at, sizeof header);
		*segment = (struct vc_elf_segment){header.p_type,   header.p_offset, header.p_vaddr, header.p_paddr,
		                                   header.p_filesz, header.p_memsz,  header.p_align};
	}
	if (segment->type != PT_LOAD && segment->type != PT_NOTE)
		return 0;
	if (segment->offset > elf->length || segment->file_size > elf->length - segment->offset)
		return vc_fail(EINVAL, "ELF segment %u (%#llx bytes at file offset %#llx) lies beyond the file's end", index,
		               (unsigned long long)segment->file_size, (unsigned long long)segment->offset);
	if (segment->type == PT_LOAD && segment->file_size > segment->memory_size)
		return vc_fail(EINVAL, "ELF segment %u has %#llx bytes in the file but only %#llx in memory", index,
		               (unsigned long long)segment->file_size, (unsigned long long)segment->memory_size);
	return 0;
}

static int load_segment(const struct vc_elf *elf, const struct vc_elf_segment *segment, struct vc_mem *mem,
                        const struct vc_boot_input *input)
{
	uint64_t zeros = segment->memory_size - segment->file_size;
	int r = vc_boot_check_target(input, "an ELF segment", segment->paddr, segment->memory_size);

	if (!r && segment->file_size)
		r = vc_mem_write(mem, segment->paddr, elf->data + segment->offset, segment->file_size);
	if (!r && zeros)
		r = vc_mem_fill(mem, segment->paddr + segment->file_size, 0, zeros);
	return r;
}

int vc_elf_load(const struct vc_elf *elf, struct vc_mem *mem, const struct vc_boot_input *input, uint64_t *end)
{
	*end = 0;
	for (unsigned i = 0; i < elf->segment_count; i++) {
		struct vc_elf_segment segment;
		int r = vc_elf_segment(elf, i, &segment);

		if (!r && segment.type == PT_LOAD && segment.memory_size) {
			r = load_segment(elf, &segment, mem, input);
			if (segment.paddr + segment.memory_size > *end)
				*end = segment.paddr + segment.memory_size;
		}
		if (r)
			return r;
	}
	if (!*end)
		return vc_fail(EINVAL, "the ELF file has no segment to load");
	return 0;
}

int vc_elf_entry(const struct vc_elf *elf, uint64_t address, uint64_t *entry)
{
	bool found = false;

	for (unsigned i = 0; i < elf->segment_count; i++) {
		struct vc_elf_segment segment;
		int r = vc_elf_segment(elf, i, &segment);

		if (r)
			return r;
		if (segment.type != PT_LOAD)
			continue;
		if (address - segment.paddr < segment.memory_size) {
			*entry = address;
			return 0;
		}
		if (!found && address - segment.vaddr < segment.memory_size) {
			*entry = segment.paddr + (address - segment.vaddr);
			found = true;
		}
	}
	if (!found)
		return vc_fail(EINVAL, "the entry point %#llx lies in none of the ELF file's segments",
		               (unsigned long long)address);
	return 0;
}
