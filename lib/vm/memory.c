/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory slots as the program sees them: a vcore_slot is a struct vc_slot. */
#include "vm/vm.h"

#include <stdlib.h>

static struct vc_slot *slot_of(vcore_slot *slot)
{
	return (struct vc_slot *)slot;
}

int vcore_memory_add(vcore_vm *vm, uint64_t gpa, uint64_t length, uint32_t flags,
                     const struct vcore_memory_options *options, vcore_slot **out)
{
	struct vcore_memory_options o = {.size = sizeof o, .fd = -1};
	struct vc_slot *slot;
	int r;

	if (!vm)
		return vc_fail(EINVAL, "vcore_memory_add: no vm given");
	if (options && vc_struct_in(&o, sizeof o, options) < 0)
		return vc_fail(EINVAL, "vcore_memory_add: options.size is not set");
	r = vc_mem_add(&vm->mem, NULL, gpa, length, flags, &o, &slot);
	if (r >= 0 && out)
		*out = (vcore_slot *)slot;
	return r;
}

int vcore_memory_remove(vcore_slot *slot)
{
	if (!slot)
		return vc_fail(EINVAL, "vcore_memory_remove: no slot given");
	vc_mem_remove(slot_of(slot)->mem, NULL, slot_of(slot));
	return 0;
}

int vcore_memory_read(vcore_vm *vm, uint64_t gpa, void *buffer, size_t length)
{
	if (!vm || (length && !buffer))
		return vc_fail(EINVAL, "vcore_memory_read: a vm and a buffer are needed");
	return vc_mem_read(&vm->mem, gpa, buffer, length);
}

int vcore_memory_write(vcore_vm *vm, uint64_t gpa, const void *buffer, size_t length)
{
	if (!vm || (length && !buffer))
		return vc_fail(EINVAL, "vcore_memory_write: a vm and a buffer are needed");
	return vc_mem_write(&vm->mem, gpa, buffer, length);
}

int vcore_memory_hva(vcore_vm *vm, uint64_t gpa, size_t length, void **pointer)
{
	void *p;

	if (!vm || !pointer)
		return vc_fail(EINVAL, "vcore_memory_hva: a vm and a place for the pointer are needed");
	vc_mem_rdlock(&vm->mem);
	p = vc_mem_ptr(&vm->mem, gpa, length);
	if (p)
		atomic_store(&vc_mem_find(&vm->mem, gpa)->given, true);
	vc_mem_unlock(&vm->mem);
	if (!p)
		return vc_fail(EFAULT, "[%#llx, +%#zx) does not lie in one memory slot", (unsigned long long)gpa, length);
	*pointer = p;
	return 0;
}

int vcore_memory_gpa(vcore_vm *vm, const void *pointer, uint64_t *gpa)
{
	const uint8_t *p = pointer;
	int r = -EFAULT;

	if (!vm || !gpa)
		return vc_fail(EINVAL, "vcore_memory_gpa: a vm and a place for the address are needed");
	vc_mem_rdlock(&vm->mem);
	for (uint32_t i = 0; r < 0 && i < vm->mem.count; i++) {
		const struct vc_slot *s = vm->mem.slots[i];

		if (p >= s->hva && p < s->hva + s->length) {
			*gpa = s->gpa + (uint64_t)(p - s->hva);
			r = 0;
		}
	}
	vc_mem_unlock(&vm->mem);
	return r < 0 ? vc_fail(EFAULT, "host address %p is in no memory slot", pointer) : 0;
}

int vcore_memory_get_info(vcore_slot *slot, struct vcore_slot_info *out)
{
	const struct vc_slot *s = slot_of(slot);
	struct vcore_slot_info info = {.size = sizeof info};

	if (!slot || !out || out->size < sizeof out->size)
		return vc_fail(EINVAL, "vcore_memory_get_info: a slot and an info with its size set are needed");
	info.flags = s->flags;
	info.gpa = s->gpa;
	info.length = s->length;
	info.hva = s->hva;
	atomic_store(&slot_of(slot)->given, true);
	info.fd = s->fd;
	info.kind = s->kind;
	info.offset = s->offset;
	vc_struct_out(out, &info, sizeof info);
	return 0;
}

/* Sums up what lies between total and ballooned. */
static void add_stats(struct vcore_memory_stats *to, const struct vcore_memory_stats *one)
{
	const size_t first = offsetof(struct vcore_memory_stats, total);

	for (size_t at = first; at < offsetof(struct vcore_memory_stats, ballooned); at += sizeof(uint64_t))
		*(uint64_t *)((char *)to + at) += *(const uint64_t *)((const char *)one + at);
}

/* Caller holds the read lock. */
static int sum_usage(const struct vc_mem *mem, struct vcore_memory_stats *sum)
{
	struct vcore_memory_stats *each = calloc(mem->count ? mem->count : 1, sizeof *each);
	int r;

	if (!each)
		return vc_fail(ENOMEM, "no memory for the statistics of %u slots", mem->count);
	r = vc_mem_usage(mem->slots, mem->count, each);
	for (uint32_t i = 0; i < mem->count; i++)
		add_stats(sum, &each[i]);
	free(each);
	return r;
}

int vcore_vm_memory_stats(vcore_vm *vm, struct vcore_memory_stats *out)
{
	struct vcore_memory_stats sum = {.size = sizeof sum};
	int r;

	if (!vm || !out || out->size < sizeof out->size)
		return vc_fail(EINVAL, "vcore_vm_memory_stats: a vm and stats with their size set are needed");
	vc_mem_rdlock(&vm->mem);
	r = sum_usage(&vm->mem, &sum);
	vc_mem_unlock(&vm->mem);
	if (r < 0)
		return r;
	sum.ballooned = vc_vm_ballooned(vm);
	return vc_struct_out(out, &sum, sizeof sum);
}

int vcore_memory_get_stats(vcore_slot *slot, struct vcore_memory_stats *out)
{
	struct vcore_memory_stats stats = {.size = sizeof stats};
	struct vc_slot *s = slot_of(slot);
	int r;

	if (!slot || !out || out->size < sizeof out->size)
		return vc_fail(EINVAL, "vcore_memory_get_stats: a slot and stats with their size set are needed");
	vc_mem_rdlock(s->mem);
	r = vc_mem_usage(&s, 1, &stats);
	vc_mem_unlock(s->mem);
	return r < 0 ? r : vc_struct_out(out, &stats, sizeof stats);
}

int vcore_memory_log_dirty(vcore_slot *slot, bool enable)
{
	if (!slot)
		return vc_fail(EINVAL, "vcore_memory_log_dirty: no slot given");
	return vc_mem_log_dirty(slot_of(slot)->mem, NULL, slot_of(slot), VC_LOG_PROGRAM, enable);
}

int64_t vcore_memory_get_dirty(vcore_slot *slot, void *bitmap, size_t bytes)
{
	if (!slot || !bitmap)
		return vc_fail(EINVAL, "vcore_memory_get_dirty: a slot and a bitmap are needed");
	return vc_mem_get_dirty(slot_of(slot)->mem, NULL, slot_of(slot), VC_LOG_PROGRAM, bitmap, bytes);
}
