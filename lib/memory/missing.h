/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pages that are not there yet: whoever touches one waits in the kernel, by userfaultfd, until it is filled. That holds
 * for all threads of this process, and for what the kernel does for it (KVM, system calls); not for other processes
 * that map the same memory. Who must be able to stop waiting looks first, and waits elsewhere.
 */
#ifndef VC_MEMORY_MISSING_H
#define VC_MEMORY_MISSING_H

#include "core/util.h"
#include "memory/memory.h"

/* A userfaultfd that the kernel's own accesses wait for too. A descriptor; -EPERM, -ENOSYS, with what is needed. */
int vc_missing_open(void);
/* Whether pages of that slot can be missing. 0; -ENOTSUP with why not */
int vc_missing_check(const struct vc_slot *slot);
/* Pages of the slot that have no memory are missing from now on. 0 or -errno. */
int vc_missing_begin(int fd, struct vc_slot *slot);
/* No longer: those that are missing still are zeroes. Wakes who waits. */
void vc_missing_end(int fd, struct vc_slot *slot);
/* Make pages missing, whatever they hold. 0 or -errno. */
int vc_missing_drop(struct vc_slot *slot, uint64_t page, uint64_t count);
/* Fill missing pages and wake who waits for them; from NULL: with zeroes. Those that are there stay as they are. 0 or
 * -errno. */
int vc_missing_fill(int fd, const struct vc_slot *slot, uint64_t page, uint64_t count, const uint8_t *from);
/* Who waits: up to `room` addresses of this process. How many; -errno. */
int vc_missing_who(int fd, uint64_t *address, unsigned room);

/* What others may know of a slot's missing pages. */
struct vc_missing {
	const uint64_t *absent;   /* one bit a page; cleared one by one, by vc_missing_came() */
	_Atomic bool stalled;     /* nobody knows whether any will come */
	_Atomic uint32_t waiting; /* how many look at `absent` until it changes, and are to be told */
	/* Somebody waits for a page. Any thread */
	void (*want)(struct vc_missing *missing, uint64_t page);
};

/* Whether the page at gpa is still to come. */
bool vc_missing_is_absent(const struct vc_slot *slot, uint64_t gpa);
/* Ask for it. From here to vc_missing_leave() who fills pages tells of each. */
void vc_missing_await(struct vc_slot *slot, uint64_t gpa);
void vc_missing_leave(struct vc_slot *slot);
/* Pages are filled. */
void vc_missing_came(uint64_t *absent, uint64_t page, uint64_t count);
/* Something of [at, at + length) of a slot may never come. */
bool vc_missing_is_stalled(const struct vc_slot *slot, uint64_t at, uint64_t length);

/* Whether all memory is there: 0; -EBUSY it is still coming; -EIO it will never come. */
int vc_missing_none(struct vc_mem *mem, const char *who);
bool vc_slot_touch_slow(const struct vc_slot *slot, uint64_t at, uint64_t length);
/*
 * Wait for [at, at + length) of a slot here, so that nothing that is handed on waits for it. False: what is there is
 * not what the guest has, as it will never come.
 */
static inline bool vc_slot_touch(const struct vc_slot *slot, uint64_t at, uint64_t length)
{
	return vc_likely(atomic_load_explicit(&slot->presence, memory_order_relaxed) == VC_PRESENT) ||
	       vc_slot_touch_slow(slot, at, length);
}

#endif
