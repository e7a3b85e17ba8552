/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What host memory slots take, by /proc/self/smaps: the kernel walks the page tables of the whole process for it, about
 * a millisecond a GiB of small pages that are there, next to nothing for what is not. Alone there it is told how much
 * is swapped out of a memfd, merged by KSM, or in huge pages.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/error.h"
#include "core/util.h"
#include "memory/memory.h"

/* One mapping's fields, of which several may add up to one of ours. */
static const struct {
	const char *name;
	size_t offset, also; /* in struct vcore_memory_stats; also 0: none */
} fields[] = {
#define AT(member) offsetof(struct vcore_memory_stats, member)
    {"Rss", AT(resident), 0},
    {"Shared_Clean", AT(shared), 0},
    {"Shared_Dirty", AT(shared), 0},
    {"Shared_Hugetlb", AT(resident), AT(shared)},
    {"Private_Hugetlb", AT(resident), 0},
    {"AnonHugePages", AT(huge), 0},
    {"ShmemPmdMapped", AT(huge), 0},
    {"FilePmdMapped", AT(huge), 0},
    {"Swap", AT(swapped), 0},
    {"Locked", AT(locked), 0},
    {"KSM", AT(merged), 0},
#undef AT
};

static uint64_t *at(struct vcore_memory_stats *stats, size_t offset)
{
	return (uint64_t *)((char *)stats + offset);
}

/* "Name:   12 kB" */
static void take_field(struct vcore_memory_stats *mapping, const char *line)
{
	size_t name = strcspn(line, ":");

	for (size_t i = 0; i < VC_ARRAY_SIZE(fields); i++) {
		uint64_t bytes;

		if (strlen(fields[i].name) != name || strncmp(fields[i].name, line, name))
			continue;
		bytes = strtoull(line + name + 1, NULL, 10) << 10;
		*at(mapping, fields[i].offset) += bytes;
		if (fields[i].also)
			*at(mapping, fields[i].also) += bytes;
		if (fields[i].also || !strcmp(fields[i].name, "Private_Hugetlb"))
			mapping->huge += bytes;
	}
}

/* The part of a mapping that lies in a slot. The kernel joins neighbours of the same kind: what is theirs cannot be
 * told apart, and counts by length. */
static void add_share(struct vcore_memory_stats *stats, const struct vc_slot *slot, uint64_t start, uint64_t end,
                      struct vcore_memory_stats *mapping)
{
	uint64_t first = (uintptr_t)slot->hva, last = first + slot->length, length = end - start;

	first = first > start ? first : start;
	last = last < end ? last : end;
	if (first >= last)
		return;
	for (size_t o = offsetof(struct vcore_memory_stats, resident); o < offsetof(struct vcore_memory_stats, ballooned);
	     o += sizeof(uint64_t))
		*at(stats, o) += vc_muldiv64(*at(mapping, o), last - first, length);
}

struct walk {
	struct vc_slot *const *slots;
	uint32_t count;
	struct vcore_memory_stats *stats; /* one a slot */
	uint64_t start, end;              /* the mapping whose fields are read now */
	struct vcore_memory_stats mapping;
};

static void end_mapping(struct walk *w)
{
	for (uint32_t i = 0; i < w->count; i++)
		add_share(&w->stats[i], w->slots[i], w->start, w->end, &w->mapping);
	w->mapping = (struct vcore_memory_stats){0};
	w->start = w->end = 0;
}

static void take_line(struct walk *w, const char *line)
{
	uint64_t start, end;

	/* fields begin with a capital letter, which no address has */
	if (line[0] >= 'A' && line[0] <= 'Z') {
		if (w->end)
			take_field(&w->mapping, line);
	} else if (sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) == 2) {
		end_mapping(w);
		w->start = start;
		w->end = end;
	}
}

int vc_mem_usage(struct vc_slot *const *slots, uint32_t count, struct vcore_memory_stats *stats)
{
	struct walk w = {.slots = slots, .count = count, .stats = stats};
	FILE *smaps = fopen("/proc/self/smaps", "re");
	bool begins = true; /* not the rest of a mapping with a long name */
	char line[512];
	int error;

	if (!smaps)
		return vc_fail_errno(errno, "/proc/self/smaps, which tells what memory is used");
	for (uint32_t i = 0; i < count; i++)
		stats[i].total = slots[i]->length;
	while (fgets(line, sizeof line, smaps)) {
		if (begins)
			take_line(&w, line);
		begins = strchr(line, '\n') != NULL;
	}
	error = ferror(smaps);
	end_mapping(&w);
	fclose(smaps);
	return error ? vc_fail(EIO, "/proc/self/smaps cannot be read") : 0;
}
