/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory that goes back to the host, and memory that must not. */
#include "core/error.h"
#include "memory/backing.h"

void vc_slot_fix(struct vc_slot *slot, bool on)
{
	/* whoever discards holds the lock for reading */
	pthread_rwlock_wrlock(&slot->mem->lock);
	slot->fixed += on ? 1 : (uint32_t)-1;
	pthread_rwlock_unlock(&slot->mem->lock);
	atomic_fetch_add(&slot->sharers, on ? 1 : (uint32_t)-1);
}

static bool may_discard(const struct vc_slot *slot)
{
	return slot->flags & VCORE_MEM_W && !atomic_load(&slot->keep) && !slot->fixed;
}

int vc_mem_discard(struct vc_mem *mem, uint64_t gpa, uint64_t length)
{
	while (length) {
		struct vc_slot *slot = vc_mem_pin(mem, gpa);
		uint64_t piece;
		bool gone;

		if (!slot)
			return vc_fail(EFAULT, "memory: guest-physical address %#llx is in no slot", (unsigned long long)gpa);
		piece = slot->length - (gpa - slot->gpa);
		if (piece > length)
			piece = length;
		vc_mem_rdlock(mem);
		gone = may_discard(slot);
		if (gone)
			vc_backing_discard(slot, gpa - slot->gpa, piece);
		vc_mem_unlock(mem);
		if (gone)
			vc_mem_wrote(slot, gpa, piece);
		vc_mem_unpin(slot);
		gpa += piece;
		length -= piece;
	}
	return 0;
}
