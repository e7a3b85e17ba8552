/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The monitor's commands about memory that devices give and take, and about the generation ID. */
#include <inttypes.h>
#include <stdio.h>

#include "virtio/balloon.h"
#include "virtio/mem.h"
#include "vm/monitor.h"

/* The device that the argument "id" names, or the first of the type. It stays until vc_dev_leave(). */
static int visit(struct vc_mon_call *call, const char *type, struct vc_visit *visit)
{
	uint32_t id = (uint32_t)vc_mon_number(call, "id", 0);

	if (vc_dev_visit_type(&call->vm->buses, visit, id, type))
		return 0;
	return id ? vc_fail(ENOENT, "device %u is no %s", id, type) : vc_fail(ENOENT, "the vm has no %s", type);
}

static void leave(struct vc_mon_call *call, struct vc_visit *visit)
{
	vc_dev_leave(&call->vm->buses, visit);
}

static int balloon(struct vc_mon_call *call)
{
	struct vc_visit v;
	int r = visit(call, "virtio-balloon", &v);

	if (r < 0)
		return r;
	r = vc_balloon_set_target(v.dev->frontend, vc_mon_number(call, "target", 0));
	leave(call, &v);
	return r;
}

static int query_balloon(struct vc_mon_call *call)
{
#define MEMBER(name)                                      \
	{                                                     \
#name, offsetof(struct vcore_balloon_stats, name) \
	}
	static const struct {
		const char *name;
		size_t offset;
	} members[] = {MEMBER(target),
	               MEMBER(actual),
	               MEMBER(discarded),
	               MEMBER(updates),
	               MEMBER(swap_in),
	               MEMBER(swap_out),
	               MEMBER(major_faults),
	               MEMBER(minor_faults),
	               MEMBER(free_memory),
	               MEMBER(total_memory),
	               MEMBER(available_memory),
	               MEMBER(disk_caches),
	               MEMBER(hugetlb_allocations),
	               MEMBER(hugetlb_failures)};
#undef MEMBER
	struct vcore_balloon_stats stats;
	struct vc_visit v;
	int r = visit(call, "virtio-balloon", &v);

	if (r < 0)
		return r;
	vc_balloon_get_stats(v.dev->frontend, &stats);
	call->result = json_object_new_object();
	vc_mon_add_number(call->result, "id", v.dev->id);
	leave(call, &v);
	/* what the guest did not tell is left out */
	for (size_t i = 0; i < VC_ARRAY_SIZE(members); i++) {
		uint64_t value = *(const uint64_t *)((const char *)&stats + members[i].offset);

		if (value != UINT64_MAX)
			vc_mon_add_number(call->result, members[i].name, value);
	}
	return 0;
}

static int resize_memory(struct vc_mon_call *call)
{
	struct vc_visit v;
	int r = visit(call, "virtio-mem", &v);

	if (r < 0)
		return r;
	r = vc_vmem_resize(v.dev->frontend, vc_mon_number(call, "size", 0));
	leave(call, &v);
	return r;
}

static int query_virtio_mem(struct vc_mon_call *call)
{
	struct vcore_virtio_mem_info info;
	struct vc_visit v;
	int r = visit(call, "virtio-mem", &v);

	if (r < 0)
		return r;
	vc_vmem_get_info(v.dev->frontend, &info);
	call->result = json_object_new_object();
	vc_mon_add_number(call->result, "id", v.dev->id);
	leave(call, &v);
	vc_mon_add_number(call->result, "address", info.address);
	vc_mon_add_number(call->result, "region_size", info.region_size);
	vc_mon_add_number(call->result, "block_size", info.block_size);
	vc_mon_add_number(call->result, "requested_size", info.requested_size);
	vc_mon_add_number(call->result, "plugged_size", info.plugged_size);
	return 0;
}

static int query_generation_id(struct vc_mon_call *call)
{
	uint8_t id[VC_VMGENID_SIZE];
	char text[2 * sizeof id + 1];
	int r = vcore_vm_get_generation_id(call->vm, id);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < sizeof id; i++)
		snprintf(text + (size_t)2 * i, 3, "%02x", id[i]);
	call->result = json_object_new_object();
	vc_mon_add_string(call->result, "generation_id", text);
	return 0;
}

static int set_generation_id(struct vc_mon_call *call)
{
	const char *text = vc_mon_string(call, "generation_id", NULL);
	uint8_t id[VC_VMGENID_SIZE];

	if (!text)
		return vcore_vm_set_generation_id(call->vm, NULL);
	if (strlen(text) != 2 * sizeof id || strspn(text, "0123456789abcdefABCDEF") != 2 * sizeof id)
		return vc_fail(EINVAL, "set-generation-id: \"generation_id\" is %.80s: expected 32 hexadecimal digits", text);
	for (unsigned i = 0; i < sizeof id; i++)
		sscanf(text + (size_t)2 * i, "%2" SCNx8, &id[i]);
	return vcore_vm_set_generation_id(call->vm, id);
}

#define ARG_ID                                                                                                 \
	{                                                                                                          \
		"id", VC_MON_NUMBER, false, UINT32_MAX, "the device, as query-devices tells it; or the first there is" \
	}
static const struct vc_mon_arg id_args[] = {ARG_ID, {0}};
static const struct vc_mon_arg balloon_args[] = {
    {"target", VC_MON_NUMBER, true, UINT64_MAX, "bytes that are to be in the balloon"}, ARG_ID, {0}};
static const struct vc_mon_arg resize_args[] = {
    {"size", VC_MON_NUMBER, true, UINT64_MAX, "bytes that the guest is to have plugged in"}, ARG_ID, {0}};
static const struct vc_mon_arg generation_args[] = {
    {"generation_id", VC_MON_STRING, false, 0, "32 hexadecimal digits; random ones when left out"}, {0}};

const struct vc_mon_command vc_mon_guest_memory_commands[] = {
    {"balloon", "ask the guest to give up memory, or to take it back", balloon_args, balloon},
    {"query-balloon", "the balloon and the guest's statistics, in bytes; new ones come a little later", id_args,
     query_balloon},
    {"virtio-mem", "ask the guest to plug memory of a virtio-mem in or out", resize_args, resize_memory},
    {"query-virtio-mem", "a virtio-mem's region, in bytes", id_args, query_virtio_mem},
    {"query-generation-id", "the VM generation ID", NULL, query_generation_id},
    {"set-generation-id", "tell the guest that it is a copy", generation_args, set_generation_id},
    {0},
};
