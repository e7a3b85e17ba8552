/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Guest-physical memory: slots, their host backing, look-up, dirty log.
 *
 * Threads: slots change only inside an exclusive section of the gate plus `lock` held for writing. A vcpu that is
 * inside the gate may use vc_mem_find() and pointers from it without a lock; everybody else uses vc_mem_read/write or
 * holds vc_mem_rdlock().
 */
#ifndef VC_MEMORY_MEMORY_H
#define VC_MEMORY_MEMORY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <virtcore/memory.h>

#include "core/gate.h"

/*
 * One entry a 4 KiB page of a slot, for backend emu: where decoded guest code lives, so that writes to it are noticed.
 * Lazily backed (MAP_NORESERVE).
 */
struct vc_page_info {
	_Atomic uint64_t code_mask;  /* bit n: the n-th 64-byte chunk holds decoded code */
	_Atomic uint32_t generation; /* grows whenever a chunk in code_mask was written */
	_Atomic uint32_t flags;      /* for the backend */
};

struct vc_image;
struct vc_missing;

/* Who reads the dirty log: each finds what was written since it looked last. */
enum vc_log_reader { VC_LOG_PROGRAM, VC_LOG_IMAGE, VC_LOG_MIGRATION, VC_LOG_READERS };

/* Whether a slot's pages are all there, see missing.h. */
enum vc_presence { VC_PRESENT, VC_ARRIVING, VC_LOST };

struct vc_slot {
	uint64_t gpa, length;
	uint8_t *hva;
	uint32_t flags; /* VCORE_MEM_* */
	uint32_t kind;
	int fd; /* our duplicate; -1 */
	uint64_t offset;
	uint32_t id;         /* small number, unique in the vm, reused: KVM's slot number */
	uint64_t map_length; /* what munmap needs; 0 for the caller's own memory */
	bool host_readonly;  /* mapped without PROT_WRITE (a file opened for reading): nobody can write there */
	struct vc_mem *mem;
	_Atomic uint32_t
	    pins;          /* the table's, while it is there, and those of vc_mem_pin(): the last to go frees the slot */
	_Atomic bool keep; /* the guest's storage: nothing of it is discarded */
	/* How many devices have given its memory to another process: it must stay the very same shared memory meanwhile. */
	_Atomic uint32_t sharers;
	_Atomic uint32_t presence;         /* enum vc_presence */
	struct vc_missing *missing;        /* while it is VC_ARRIVING; set before, and valid as long as the vm is */
	uint32_t fixed;                    /* vc_slot_fix(); under vc_mem.lock */
	_Atomic(_Atomic uint64_t *) dirty; /* one bit a page while the log is on; NULL: off */
	/* What others fetched from there that this reader has not seen; NULL: it does not read. Inside the exclusive
	 * section. */
	uint64_t *unread[VC_LOG_READERS];
	/* The memory is a private mapping of this, with what was written since, or with fd >= 0 a copy of its own; NULL: it
	 * is neither. While nobody executes. */
	struct vc_image *image;
	/* memory of its own in the making, and how far it is mapped from there, see vc_image_own(). Likewise */
	struct vc_image_file *own;
	uint64_t owned;
	_Atomic bool given;         /* the program has its address, and may write at any time */
	uint64_t *changed;          /* pages that differ from it, see vc_image_track(); NULL: not known. Likewise */
	struct vc_page_info *pages; /* length / 4096 entries; NULL unless vc_mem.want_pages */
};

/*
 * Told about changes, inside the exclusive section and without mem->lock: the backend. add may refuse (then the slot is
 * not added); a slot that is born with a dirty log has slot->dirty then already, and log_dirty(true) follows. remove:
 * the slot is no longer found, its memory is still there.
 */
struct vc_mem_listener {
	int (*add)(void *ctx, struct vc_slot *slot);
	void (*remove)(void *ctx, struct vc_slot *slot);
	int (*log_dirty)(void *ctx, struct vc_slot *slot, bool enable);
	/* Move what the backend logged itself (KVM's log or ring) into slot->dirty. */
	int (*sync_dirty)(void *ctx, struct vc_slot *slot);
	/*
	 * Host code wrote [gpa, gpa+len) behind the vcpus' back: decoded code there is stale. This one comes from any
	 * thread, outside the exclusive section, with mem->lock held for reading or the slot pinned (it may have been
	 * removed by then). It makes the write visible before it looks for code: a full fence.
	 */
	void (*written)(void *ctx, struct vc_slot *slot, uint64_t gpa, uint64_t length);
};

/* Somebody outside of the backend who follows the memory map, such as a device that has given it to another process. */
struct vc_mem_watcher {
	/*
	 * It has changed. On the thread that did it, perhaps inside the gate, with the watchers' lock held: posts, or does
	 * what the guest must not run ahead of, under no lock that is held while watching or changing memory.
	 */
	void (*changed)(void *ctx);
	/*
	 * For who has memory written to without vc_mem_wrote(), and logs that itself: dirty logs were switched on or off;
	 * a slot's is about to be fetched, and vc_mem_mark_dirty() is to be called for what has been logged of it. Inside
	 * the exclusive section, with the watchers' lock held. NULL allowed.
	 */
	void (*logs_changed)(void *ctx);
	void (*sync_dirty)(void *ctx, struct vc_slot *slot);
	void *ctx;
	struct vc_mem_watcher *next;
};

/* Registers of a real device that the process has mapped, and where the guest has them. */
struct vc_registers {
	uint64_t gpa, length; /* multiples of 4096 */
	void *hva;
	bool writable;
};

/* Addresses that a device keeps for memory of its own, whether there are slots now or not. */
struct vc_mem_range {
	uint64_t gpa, length;
	bool hotplug; /* memory comes and goes there: firmware tables tell of it */
	struct vc_mem_range *next;
};

struct vc_mem {
	struct vc_gate *gate;
	pthread_rwlock_t lock;  /* protects slots/count for threads that are not inside the gate */
	struct vc_slot **slots; /* sorted by gpa */
	uint32_t count;
	uint32_t max_slots;          /* of the backend; 0: no limit */
	uint64_t gpa_limit;          /* first address that no slot may reach */
	uint64_t place_end;          /* no range that vc_mem_reserve() gives reaches it; 0: gpa_limit */
	struct vc_mem_range *ranges; /* newest first; under lock */
	bool want_pages;             /* backend emu */
	const struct vc_mem_listener *listener;
	void *listener_ctx;
	_Atomic uint64_t version;      /* grows with every change of the map */
	pthread_mutex_t watchers_lock; /* protects watchers; before those of the watchers */
	struct vc_mem_watcher *watchers;
};

int vc_mem_init(struct vc_mem *mem, struct vc_gate *gate);
/* Removes all slots without telling the listener (the backend is gone by then). */
void vc_mem_fini(struct vc_mem *mem);

/* Arguments and errors as vcore_memory_add/remove. self: the caller's pass when it is inside the gate, else NULL. */
int vc_mem_add(struct vc_mem *mem, struct vc_pass *self, uint64_t gpa, uint64_t length, uint32_t flags,
               const struct vcore_memory_options *options, struct vc_slot **slot);
void vc_mem_remove(struct vc_mem *mem, struct vc_pass *self, struct vc_slot *slot);

void vc_mem_watch(struct vc_mem *mem, struct vc_mem_watcher *watcher);
/* Nothing is told any more when this returns. One that does not watch is left alone. */
void vc_mem_unwatch(struct vc_mem *mem, struct vc_mem_watcher *watcher);
/* For whoever changes the map; the last two inside the exclusive section. */
void vc_mem_tell_changed(struct vc_mem *mem);
void vc_mem_tell_logs(struct vc_mem *mem);
void vc_mem_tell_sync(struct vc_mem *mem, struct vc_slot *slot);

/*
 * Keep a range: at *gpa, or with 0 the lowest place from 4 GiB on. It overlaps no slot and no other range; slots may be
 * added there all the same, by whoever reserved it. align is a power of 2. -EINVAL, -EEXIST, -ENOSPC, -ENOMEM.
 * reserve.c
 */
int vc_mem_reserve(struct vc_mem *mem, uint64_t length, uint64_t align, bool hotplug, uint64_t *gpa);
void vc_mem_unreserve(struct vc_mem *mem, uint64_t gpa);

/* The slot that holds gpa, or NULL. Caller inside the gate or holding the read lock. */
struct vc_slot *vc_mem_find(const struct vc_mem *mem, uint64_t gpa);
/* Host address of [gpa, gpa+len) when it lies in one slot, else NULL. Same condition. */
void *vc_mem_ptr(const struct vc_mem *mem, uint64_t gpa, uint64_t length);
/* Whoever holds the read lock neither enters the gate nor begins an exclusive section. */
static inline void vc_mem_rdlock(struct vc_mem *mem)
{
	pthread_rwlock_rdlock(&mem->lock);
}
static inline void vc_mem_unlock(struct vc_mem *mem)
{
	pthread_rwlock_unlock(&mem->lock);
}

/*
 * For who keeps host addresses without being inside the gate, such as requests to devices: the slot that holds gpa, or
 * NULL. Its memory stays mapped until vc_mem_unpin(), also when the slot is removed meanwhile; removal does not wait.
 * mem->version tells whether what was found is still the map. Any thread.
 */
struct vc_slot *vc_mem_pin(struct vc_mem *mem, uint64_t gpa);
void vc_mem_unpin(struct vc_slot *slot);
/*
 * Whether another process can be given its memory: the same bytes for both, in a memfd that it cannot shrink, for an
 * access behind the end would be our SIGBUS, and all of them there. backing.c
 */
bool vc_slot_is_shareable(const struct vc_slot *slot);
/*
 * A device of the host reaches the slot's memory by DMA, from now on or no more: its pages stay where they are, so that
 * none is discarded or made another. Calls add up. The slot is pinned, and the lock not held. discard.c
 */
void vc_slot_fix(struct vc_slot *slot, bool on);
/* Host code wrote into a pinned slot through its address: the dirty log and the backend are told. After the write. */
void vc_mem_wrote(struct vc_slot *slot, uint64_t gpa, uint64_t length);

/*
 * Copies, across slots; any thread. write marks pages dirty and tells the listener. -EFAULT, nothing was copied: a byte
 * is in no slot, or is to be written in a slot that the host itself may only read.
 */
int vc_mem_read(struct vc_mem *mem, uint64_t gpa, void *buffer, uint64_t length);
int vc_mem_write(struct vc_mem *mem, uint64_t gpa, const void *buffer, uint64_t length);
int vc_mem_fill(struct vc_mem *mem, uint64_t gpa, uint8_t byte, uint64_t length);

/*
 * The guest has no use for what is there: whole pages go back to the host where they can, and read as zeroes then.
 * Slots that the guest may not write, that are to be kept or are fixed, are left alone. -EFAULT: a byte is in no slot.
 * Any thread.
 */
int vc_mem_discard(struct vc_mem *mem, uint64_t gpa, uint64_t length);

/* What these slots take of the host, added to stats, one a slot, of zeros. Whoever calls holds the read lock. */
int vc_mem_usage(struct vc_slot *const *slots, uint32_t count, struct vcore_memory_stats *stats);

/* Mark written pages in the dirty log, after the write, inside the gate or holding the read lock; cheap when the log is
 * off. */
void vc_mem_mark_dirty(struct vc_slot *slot, uint64_t gpa, uint64_t length);
/* The log is on while anybody reads it. enable: from now on; bits start clear. 0, -ENOMEM, errno of the backend. */
int vc_mem_log_dirty(struct vc_mem *mem, struct vc_pass *self, struct vc_slot *slot, enum vc_log_reader reader,
                     bool enable);
/* Fetch and clear what is new to the reader, words of 64 pages: how many pages; -EINVAL: it does not read, or no room.
 */
int64_t vc_mem_get_dirty(struct vc_mem *mem, struct vc_pass *self, struct vc_slot *slot, enum vc_log_reader reader,
                         void *bitmap, size_t bytes);

#endif
