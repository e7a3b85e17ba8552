/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The monitor's commands about memory. */
#include <stdlib.h>

#include "vm/monitor.h"

static struct json_object *slot_flags(uint32_t flags)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} names[] = {{VCORE_MEM_R, "read"},
	             {VCORE_MEM_W, "write"},
	             {VCORE_MEM_X, "execute"},
	             {VCORE_MEM_HUGE_2M, "huge-2m"},
	             {VCORE_MEM_HUGE_1G, "huge-1g"},
	             {VCORE_MEM_THP, "thp"},
	             {VCORE_MEM_PREALLOC, "prealloc"},
	             {VCORE_MEM_MERGEABLE, "mergeable"},
	             {VCORE_MEM_LOCKED, "locked"},
	             {VCORE_MEM_LOG_DIRTY, "log-dirty"}};
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < VC_ARRAY_SIZE(names); i++)
		if (flags & names[i].bit)
			vc_mon_append(array, json_object_new_string(names[i].name));
	return array;
}

/* Pairs "resident": bytes and so on. */
static void add_usage(struct json_object *object, const struct vcore_memory_stats *stats)
{
#define FIGURE(member)                                       \
	{                                                        \
#member, offsetof(struct vcore_memory_stats, member) \
	}
	static const struct {
		const char *name;
		size_t offset;
	} figures[] = {FIGURE(resident), FIGURE(shared), FIGURE(swapped), FIGURE(huge), FIGURE(locked), FIGURE(merged)};
#undef FIGURE

	for (size_t i = 0; i < VC_ARRAY_SIZE(figures); i++)
		vc_mon_add_number(object, figures[i].name, *(const uint64_t *)((const char *)stats + figures[i].offset));
}

static struct json_object *describe_slot(const struct vc_slot *s, const struct vcore_memory_stats *usage)
{
	static const char *const kinds[] = {[VCORE_MEMORY_ANON] = "anon",
	                                    [VCORE_MEMORY_MEMFD] = "memfd",
	                                    [VCORE_MEMORY_FILE] = "file",
	                                    [VCORE_MEMORY_PRIVATE_FILE] = "private-file",
	                                    [VCORE_MEMORY_POINTER] = "pointer"};
	struct json_object *slot = json_object_new_object();

	vc_mon_add_number(slot, "gpa", s->gpa);
	vc_mon_add_number(slot, "size", s->length);
	vc_mon_add_string(slot, "kind", s->kind < VC_ARRAY_SIZE(kinds) ? kinds[s->kind] : "?");
	vc_mon_add(slot, "flags", slot_flags(s->flags));
	add_usage(slot, usage);
	return slot;
}

static int query_memory(struct vc_mon_call *call)
{
	struct vc_mem *mem = &call->vm->mem;
	struct vcore_memory_stats *usage;
	int r;

	vc_mem_rdlock(mem);
	usage = calloc(mem->count ? mem->count : 1, sizeof *usage);
	r = usage ? vc_mem_usage(mem->slots, mem->count, usage) : vc_fail(ENOMEM, "no memory for query-memory");
	if (r >= 0)
		call->result = json_object_new_array();
	for (uint32_t i = 0; r >= 0 && i < mem->count; i++)
		vc_mon_append(call->result, describe_slot(mem->slots[i], &usage[i]));
	vc_mem_unlock(mem);
	free(usage);
	return r;
}

static int query_memory_total(struct vc_mon_call *call)
{
	struct vcore_memory_stats stats = {.size = sizeof stats};
	int r = vcore_vm_memory_stats(call->vm, &stats);

	if (r < 0)
		return r;
	call->result = json_object_new_object();
	vc_mon_add_number(call->result, "size", stats.total);
	add_usage(call->result, &stats);
	vc_mon_add_number(call->result, "ballooned", stats.ballooned);
	return 0;
}

const struct vc_mon_command vc_mon_memory_commands[] = {
    {"query-memory", "the memory slots, and what they take of the host, in bytes", NULL, query_memory},
    {"query-memory-total", "what all of the vm's memory takes of the host, and what a balloon holds", NULL,
     query_memory_total},
    {0},
};
