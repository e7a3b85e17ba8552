/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Addresses for memory that devices bring along. */
#include <stdlib.h>

#include "core/error.h"
#include "core/util.h"
#include "memory/memory.h"

/* Below lies what firmware and kernels expect to be RAM or registers. */
#define PLACE_START VC_GIB(4)

static bool overlap(uint64_t a, uint64_t a_length, uint64_t b, uint64_t b_length)
{
	return a < b + b_length && b < a + a_length;
}

/* Where the first thing in the way ends; 0: nothing is. Caller holds the lock. */
static uint64_t end_of_obstacle(const struct vc_mem *mem, uint64_t gpa, uint64_t length)
{
	for (uint32_t i = 0; i < mem->count; i++)
		if (overlap(gpa, length, mem->slots[i]->gpa, mem->slots[i]->length))
			return mem->slots[i]->gpa + mem->slots[i]->length;
	for (const struct vc_mem_range *range = mem->ranges; range; range = range->next)
		if (overlap(gpa, length, range->gpa, range->length))
			return range->gpa + range->length;
	return 0;
}

/* Above are the BARs of PCI, or nothing that can be addressed. */
static uint64_t end_of_places(const struct vc_mem *mem)
{
	return mem->place_end ? mem->place_end : mem->gpa_limit;
}

static int check_place(const struct vc_mem *mem, uint64_t gpa, uint64_t length, uint64_t align)
{
	if (!VC_IS_ALIGNED(gpa, align))
		return vc_fail(EINVAL, "memory: address %#llx: expected a multiple of %#llx", (unsigned long long)gpa,
		               (unsigned long long)align);
	if (gpa >= end_of_places(mem) || length > end_of_places(mem) - gpa)
		return vc_fail(EINVAL, "memory: [%#llx, +%#llx): expected an end of at most %#llx", (unsigned long long)gpa,
		               (unsigned long long)length, (unsigned long long)end_of_places(mem));
	if (end_of_obstacle(mem, gpa, length))
		return vc_fail(EEXIST, "memory: [%#llx, +%#llx) is taken", (unsigned long long)gpa, (unsigned long long)length);
	return 0;
}

static int find_place(const struct vc_mem *mem, uint64_t length, uint64_t align, uint64_t *gpa)
{
	uint64_t end = end_of_places(mem), at = VC_ALIGN_UP(PLACE_START, align), next;

	while (length <= end && at <= end - length) {
		next = end_of_obstacle(mem, at, length);
		if (!next) {
			*gpa = at;
			return 0;
		}
		at = VC_ALIGN_UP(next, align);
	}
	return vc_fail(ENOSPC, "memory: no room for %#llx bytes below address %#llx", (unsigned long long)length,
	               (unsigned long long)end);
}

int vc_mem_reserve(struct vc_mem *mem, uint64_t length, uint64_t align, bool hotplug, uint64_t *gpa)
{
	struct vc_mem_range *range = malloc(sizeof *range);
	int r;

	if (!range)
		return vc_fail(ENOMEM, "memory: no memory for a range of addresses");
	pthread_rwlock_wrlock(&mem->lock);
	r = *gpa ? check_place(mem, *gpa, length, align) : find_place(mem, length, align, gpa);
	if (r >= 0) {
		*range = (struct vc_mem_range){*gpa, length, hotplug, mem->ranges};
		mem->ranges = range;
	}
	pthread_rwlock_unlock(&mem->lock);
	if (r < 0)
		free(range);
	return r;
}

void vc_mem_unreserve(struct vc_mem *mem, uint64_t gpa)
{
	struct vc_mem_range **p = &mem->ranges, *range;

	pthread_rwlock_wrlock(&mem->lock);
	while (*p && (*p)->gpa != gpa)
		p = &(*p)->next;
	range = *p;
	if (range)
		*p = range->next;
	pthread_rwlock_unlock(&mem->lock);
	free(range);
}
