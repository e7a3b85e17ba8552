/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The slot table: adding, removing, look-up, copies. */
#include "memory/memory.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "core/error.h"
#include "core/util.h"
#include "memory/backing.h"
#include "memory/image.h"
#include "memory/missing.h"

#define GPA_MAX (1ull << 52)
#define FLAGS_ALL                                                                                 \
	(VCORE_MEM_RWX | VCORE_MEM_HUGE_2M | VCORE_MEM_HUGE_1G | VCORE_MEM_THP | VCORE_MEM_PREALLOC | \
	 VCORE_MEM_MERGEABLE | VCORE_MEM_LOCKED | VCORE_MEM_LOG_DIRTY)

int vc_mem_init(struct vc_mem *mem, struct vc_gate *gate)
{
	int r;

	*mem = (struct vc_mem){.gate = gate, .gpa_limit = GPA_MAX};
	r = pthread_rwlock_init(&mem->lock, NULL);
	if (r)
		return vc_fail_errno(r, "memory: cannot make a lock");
	pthread_mutex_init(&mem->watchers_lock, NULL);
	return 0;
}

static uint64_t dirty_words(const struct vc_slot *slot)
{
	return (slot->length / VC_PAGE_SIZE + 63) / 64;
}

static void slot_free(struct vc_slot *slot)
{
	if (slot->pages)
		munmap(slot->pages, slot->length / VC_PAGE_SIZE * sizeof *slot->pages);
	free((void *)atomic_load(&slot->dirty));
	for (unsigned i = 0; i < VC_LOG_READERS; i++)
		free(slot->unread[i]);
	vc_backing_unmap(slot);
	vc_image_unref(slot->image);
	vc_image_file_unref(slot->own);
	free(slot->changed);
	free(slot);
}

void vc_mem_fini(struct vc_mem *mem)
{
	for (uint32_t i = 0; i < mem->count; i++)
		slot_free(mem->slots[i]);
	free(mem->slots);
	while (mem->ranges)
		vc_mem_unreserve(mem, mem->ranges->gpa);
	pthread_mutex_destroy(&mem->watchers_lock);
	pthread_rwlock_destroy(&mem->lock);
}

/* ---- look-up ---- */

/* Index of the first slot that ends above gpa. */
static uint32_t first_above(const struct vc_mem *mem, uint64_t gpa)
{
	uint32_t low = 0, high = mem->count;

	while (low < high) {
		uint32_t mid = (low + high) / 2;

		if (mem->slots[mid]->gpa + mem->slots[mid]->length <= gpa)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct vc_slot *vc_mem_find(const struct vc_mem *mem, uint64_t gpa)
{
	uint32_t i = first_above(mem, gpa);

	return i < mem->count && mem->slots[i]->gpa <= gpa ? mem->slots[i] : NULL;
}

void *vc_mem_ptr(const struct vc_mem *mem, uint64_t gpa, uint64_t length)
{
	const struct vc_slot *slot = vc_mem_find(mem, gpa);

	if (!slot || length > slot->length - (gpa - slot->gpa))
		return NULL;
	return slot->hva + (gpa - slot->gpa);
}

/* ---- adding and removing ---- */

static int check_range(const struct vc_mem *mem, uint64_t gpa, uint64_t length, uint32_t flags)
{
	uint64_t align = flags & VCORE_MEM_HUGE_1G ? VC_GIB(1) : flags & VCORE_MEM_HUGE_2M ? VC_MIB(2) : VC_PAGE_SIZE;

	if (!length)
		return vc_fail(EINVAL, "memory: the slot at %#llx is empty", (unsigned long long)gpa);
	if (!VC_IS_ALIGNED(gpa, align) || !VC_IS_ALIGNED(length, align))
		return vc_fail(EINVAL, "memory: slot [%#llx, +%#llx): expected multiples of %#llx", (unsigned long long)gpa,
		               (unsigned long long)length, (unsigned long long)align);
	if (gpa >= mem->gpa_limit || length > mem->gpa_limit - gpa)
		return vc_fail(EINVAL, "memory: slot [%#llx, +%#llx): expected an end of at most %#llx",
		               (unsigned long long)gpa, (unsigned long long)length, (unsigned long long)mem->gpa_limit);
	if (!(flags & VCORE_MEM_R) || (flags & ~(uint32_t)FLAGS_ALL))
		return vc_fail(EINVAL, "memory: flags are %#x: expected VCORE_MEM_R and known bits", flags);
	if ((flags & VCORE_MEM_HUGE_2M) && (flags & VCORE_MEM_HUGE_1G))
		return vc_fail(EINVAL, "memory: flags ask for 2 MiB and for 1 GiB pages");
	return 0;
}

/* What can be told about a new slot by looking at the table. Inside the exclusive section or under the read lock. */
static int check_room(const struct vc_mem *mem, uint64_t gpa, uint64_t length)
{
	uint32_t at = first_above(mem, gpa);

	if (at < mem->count && mem->slots[at]->gpa < gpa + length)
		return vc_fail(EEXIST, "memory: slot [%#llx, +%#llx) overlaps slot [%#llx, +%#llx)", (unsigned long long)gpa,
		               (unsigned long long)length, (unsigned long long)mem->slots[at]->gpa,
		               (unsigned long long)mem->slots[at]->length);
	if (mem->max_slots && mem->count >= mem->max_slots)
		return vc_fail(ENOSPC, "memory: the backend has no more than %u slots", mem->max_slots);
	return 0;
}

static void *new_dirty_log(const struct vc_slot *slot)
{
	void *bits = calloc(dirty_words(slot), sizeof(uint64_t));

	if (!bits)
		vc_fail(ENOMEM, "memory: no memory for the dirty log of slot %#llx", (unsigned long long)slot->gpa);
	return bits;
}

static int fill_slot(struct vc_slot *slot, const struct vcore_memory_options *o)
{
	int r = vc_backing_map(slot, o);

	if (r >= 0 && slot->mem->want_pages) {
		void *p = mmap(NULL, slot->length / VC_PAGE_SIZE * sizeof *slot->pages, PROT_READ | PROT_WRITE,
		               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (p == MAP_FAILED)
			r = vc_fail_errno(errno, "memory: page infos of slot %#llx", (unsigned long long)slot->gpa);
		else
			slot->pages = p;
	}
	if (r >= 0 && (slot->flags & VCORE_MEM_LOG_DIRTY)) {
		atomic_init(&slot->dirty, (_Atomic uint64_t *)new_dirty_log(slot));
		slot->unread[VC_LOG_PROGRAM] = new_dirty_log(slot);
		r = atomic_load(&slot->dirty) && slot->unread[VC_LOG_PROGRAM] ? 0 : -ENOMEM;
	}
	return r;
}

static int make_slot(struct vc_mem *mem, uint64_t gpa, uint64_t length, uint32_t flags,
                     const struct vcore_memory_options *o, struct vc_slot **out)
{
	struct vc_slot *slot = calloc(1, sizeof *slot);
	int r;

	if (!slot)
		return vc_fail(ENOMEM, "memory: no memory for a slot");
	slot->gpa = gpa;
	slot->length = length;
	slot->flags = flags;
	slot->kind = o->kind;
	slot->fd = -1;
	slot->mem = mem;
	atomic_init(&slot->pins, 1);
	r = fill_slot(slot, o);
	if (r < 0)
		slot_free(slot);
	else
		*out = slot;
	return r;
}

/* The lowest number no slot has: among count + 1 numbers one is free. */
static int free_id(const struct vc_mem *mem, uint32_t *id)
{
	uint8_t *used = calloc(mem->count + 1u, 1);

	if (!used)
		return vc_fail(ENOMEM, "memory: no memory for the slot table");
	for (uint32_t i = 0; i < mem->count; i++)
		if (mem->slots[i]->id < mem->count)
			used[mem->slots[i]->id] = 1;
	*id = 0;
	while (used[*id])
		++*id;
	free(used);
	return 0;
}

/* The backend's word about a new slot. */
static int tell_added(struct vc_mem *mem, struct vc_slot *slot)
{
	const struct vc_mem_listener *l = mem->listener;
	int r = l && l->add ? l->add(mem->listener_ctx, slot) : 0;

	if (r < 0 || !atomic_load(&slot->dirty) || !l || !l->log_dirty)
		return r;
	r = l->log_dirty(mem->listener_ctx, slot, true);
	if (r < 0 && l->remove)
		l->remove(mem->listener_ctx, slot);
	return r;
}

/* Inside the exclusive section. */
static int insert(struct vc_mem *mem, struct vc_slot *slot)
{
	uint32_t at = first_above(mem, slot->gpa);
	struct vc_slot **grown;
	int r = check_room(mem, slot->gpa, slot->length);

	if (r < 0 || (r = free_id(mem, &slot->id)) < 0)
		return r;
	grown = malloc((mem->count + 1u) * sizeof *grown);
	if (!grown)
		return vc_fail(ENOMEM, "memory: no memory for the slot table");
	r = tell_added(mem, slot);
	if (r < 0) {
		free(grown);
		return r;
	}
	if (mem->count) {
		memcpy(grown, mem->slots, at * sizeof *grown);
		memcpy(grown + at + 1, mem->slots + at, (mem->count - at) * sizeof *grown);
	}
	grown[at] = slot;
	pthread_rwlock_wrlock(&mem->lock);
	free(mem->slots);
	mem->slots = grown;
	mem->count++;
	pthread_rwlock_unlock(&mem->lock);
	atomic_fetch_add(&mem->version, 1);
	return 0;
}

int vc_mem_add(struct vc_mem *mem, struct vc_pass *self, uint64_t gpa, uint64_t length, uint32_t flags,
               const struct vcore_memory_options *options, struct vc_slot **out)
{
	struct vcore_memory_options o = {.size = sizeof o, .fd = -1};
	struct vc_slot *slot = NULL;
	int r = check_range(mem, gpa, length, flags);

	if (r >= 0 && options)
		r = vc_struct_in(&o, sizeof o, options);
	if (r < 0)
		return r;
	/* before the backing, which may take long to make; insert() looks again */
	vc_mem_rdlock(mem);
	r = check_room(mem, gpa, length);
	vc_mem_unlock(mem);
	if (r < 0 || (r = make_slot(mem, gpa, length, flags, &o, &slot)) < 0)
		return r;
	vc_gate_begin(mem->gate, self);
	r = insert(mem, slot);
	vc_gate_end(mem->gate, self);
	if (r < 0) {
		slot_free(slot);
		return r;
	}
	if (out)
		*out = slot;
	vc_mem_tell_changed(mem);
	return 0;
}

void vc_mem_remove(struct vc_mem *mem, struct vc_pass *self, struct vc_slot *slot)
{
	uint32_t at;

	vc_gate_begin(mem->gate, self);
	pthread_rwlock_wrlock(&mem->lock);
	at = first_above(mem, slot->gpa);
	mem->count--;
	memmove(mem->slots + at, mem->slots + at + 1, (mem->count - at) * sizeof(struct vc_slot *));
	pthread_rwlock_unlock(&mem->lock);
	atomic_fetch_add(&mem->version, 1);
	if (mem->listener && mem->listener->remove)
		mem->listener->remove(mem->listener_ctx, slot);
	vc_gate_end(mem->gate, self);
	vc_mem_tell_changed(mem);
	/* giving much memory back takes long, and nobody can find it any more */
	vc_mem_unpin(slot);
}

/* ---- pins ---- */

struct vc_slot *vc_mem_pin(struct vc_mem *mem, uint64_t gpa)
{
	struct vc_slot *slot;

	vc_mem_rdlock(mem);
	slot = vc_mem_find(mem, gpa);
	if (slot)
		atomic_fetch_add_explicit(&slot->pins, 1, memory_order_relaxed);
	vc_mem_unlock(mem);
	return slot;
}

void vc_mem_unpin(struct vc_slot *slot)
{
	if (atomic_fetch_sub_explicit(&slot->pins, 1, memory_order_acq_rel) == 1)
		slot_free(slot);
}

void vc_mem_wrote(struct vc_slot *slot, uint64_t gpa, uint64_t length)
{
	struct vc_mem *mem = slot->mem;

	if (!length)
		return;
	if (mem->listener && mem->listener->written)
		mem->listener->written(mem->listener_ctx, slot, gpa, length);
	else
		atomic_thread_fence(memory_order_seq_cst); /* a log that is switched on now shows the page with the write */
	if (vc_likely(!atomic_load_explicit(&slot->dirty, memory_order_relaxed)))
		return;
	vc_mem_rdlock(mem);
	vc_mem_mark_dirty(slot, gpa, length);
	vc_mem_unlock(mem);
}

/* ---- copies ---- */

/* Whether every byte of the range is in some slot, and can be written. Caller holds the read lock. */
static int check_covered(const struct vc_mem *mem, uint64_t gpa, uint64_t length, bool write)
{
	while (length) {
		const struct vc_slot *slot = vc_mem_find(mem, gpa);
		uint64_t piece;

		if (!slot)
			return vc_fail(EFAULT, "memory: guest-physical address %#llx is in no slot", (unsigned long long)gpa);
		if (write && slot->host_readonly)
			return vc_fail(EFAULT, "memory: guest-physical address %#llx is backed by a file opened for reading only",
			               (unsigned long long)gpa);
		piece = slot->length - (gpa - slot->gpa);
		if (piece >= length)
			return 0;
		gpa += piece;
		length -= piece;
	}
	return 0;
}

enum copy { COPY_OUT, COPY_IN, COPY_FILL };

static int copy_out(const struct vc_slot *slot, uint64_t at, uint8_t *buffer, uint64_t length)
{
	memcpy(buffer, slot->hva + at, length);
	/* what was missing may be zeroes in place of what never came */
	if (vc_unlikely(atomic_load(&slot->presence) == VC_LOST))
		return vc_fail(EFAULT, "the memory at %#llx is lost: it was to follow by post-copy",
		               (unsigned long long)(slot->gpa + at));
	return 0;
}

static int copy(struct vc_mem *mem, uint64_t gpa, uint8_t *buffer, uint8_t fill, uint64_t length, enum copy what)
{
	int r;

	vc_mem_rdlock(mem);
	r = check_covered(mem, gpa, length, what != COPY_OUT);
	while (r >= 0 && length) {
		struct vc_slot *slot = vc_mem_find(mem, gpa);
		uint64_t at = gpa - slot->gpa, piece = slot->length - at;

		if (piece > length)
			piece = length;
		if (vc_missing_is_stalled(slot, at, piece))
			r = vc_fail(EAGAIN, "the memory at %#llx is not here yet, and the migration that brings it is interrupted",
			            (unsigned long long)gpa);
		else if (what == COPY_OUT)
			r = copy_out(slot, at, buffer, piece);
		else if (what == COPY_IN)
			memcpy(slot->hva + at, buffer, piece);
		else
			memset(slot->hva + at, fill, piece);
		if (r >= 0 && what != COPY_OUT) {
			vc_mem_mark_dirty(slot, gpa, piece);
			if (mem->listener && mem->listener->written)
				mem->listener->written(mem->listener_ctx, slot, gpa, piece);
		}
		gpa += piece;
		length -= piece;
		buffer = buffer ? buffer + piece : NULL;
	}
	vc_mem_unlock(mem);
	return r;
}

int vc_mem_read(struct vc_mem *mem, uint64_t gpa, void *buffer, uint64_t length)
{
	return copy(mem, gpa, buffer, 0, length, COPY_OUT);
}

int vc_mem_write(struct vc_mem *mem, uint64_t gpa, const void *buffer, uint64_t length)
{
	return copy(mem, gpa, (uint8_t *)(uintptr_t)buffer, 0, length, COPY_IN);
}

int vc_mem_fill(struct vc_mem *mem, uint64_t gpa, uint8_t byte, uint64_t length)
{
	return copy(mem, gpa, NULL, byte, length, COPY_FILL);
}

/* ---- dirty log ---- */

void vc_mem_mark_dirty(struct vc_slot *slot, uint64_t gpa, uint64_t length)
{
	_Atomic uint64_t *bits = atomic_load_explicit(&slot->dirty, memory_order_acquire);
	uint64_t page, last;

	if (vc_likely(!bits) || !length)
		return;
	last = (gpa + length - 1 - slot->gpa) / VC_PAGE_SIZE;
	for (page = (gpa - slot->gpa) / VC_PAGE_SIZE; page <= last;) {
		uint64_t end = page / 64 == last / 64 ? last % 64 : 63; /* last bit in this word */
		uint64_t mask = (~0ull >> (63 - end)) & (~0ull << (page % 64));

		/* bits that are set already stay so until we are done: spread_dirty() keeps out whoever may come here */
		if ((atomic_load_explicit(&bits[page / 64], memory_order_relaxed) & mask) != mask)
			atomic_fetch_or_explicit(&bits[page / 64], mask, memory_order_relaxed);
		page += end - page % 64 + 1;
	}
}

/* Inside the exclusive section: the backend first learns of a log that exists, and forgets it before it goes. */
static int switch_log(struct vc_mem *mem, struct vc_slot *slot, _Atomic uint64_t **bits)
{
	bool enable = *bits != NULL;
	int r = 0;

	if (enable == (atomic_load(&slot->dirty) != NULL))
		return 0;
	if (enable)
		*bits = atomic_exchange(&slot->dirty, *bits);
	if (mem->listener && mem->listener->log_dirty)
		r = mem->listener->log_dirty(mem->listener_ctx, slot, enable);
	if (enable == (r >= 0))
		return r;
	/* writers outside the gate hold the read lock */
	pthread_rwlock_wrlock(&mem->lock);
	*bits = atomic_exchange(&slot->dirty, NULL);
	pthread_rwlock_unlock(&mem->lock);
	return r;
}

static bool is_read(const struct vc_slot *slot)
{
	for (unsigned i = 0; i < VC_LOG_READERS; i++)
		if (slot->unread[i])
			return true;
	return false;
}

/*
 * Move what was written into the readers' own bits. Inside the exclusive section, and with the lock for writing: a page
 * whose write has begun is either moved here with its new contents visible, or marked afterwards.
 */
static int spread_dirty(struct vc_mem *mem, struct vc_slot *slot)
{
	_Atomic uint64_t *bits = atomic_load(&slot->dirty);
	int r = 0;

	if (mem->listener && mem->listener->sync_dirty)
		r = mem->listener->sync_dirty(mem->listener_ctx, slot);
	if (r < 0)
		return r;
	vc_mem_tell_sync(mem, slot);
	pthread_rwlock_wrlock(&mem->lock);
	for (uint64_t i = 0; i < dirty_words(slot); i++) {
		uint64_t word = atomic_load_explicit(&bits[i], memory_order_relaxed);

		if (!word)
			continue;
		atomic_store_explicit(&bits[i], 0, memory_order_relaxed);
		for (unsigned reader = 0; reader < VC_LOG_READERS; reader++)
			if (slot->unread[reader])
				slot->unread[reader][i] |= word;
	}
	pthread_rwlock_unlock(&mem->lock);
	return 0;
}

/* A reader that comes or goes; *bits and *unread: before, what it needs; after, what is to be freed. */
static int change_readers(struct vc_mem *mem, struct vc_slot *slot, enum vc_log_reader reader, uint64_t **unread,
                          _Atomic uint64_t **bits)
{
	uint64_t *mine = slot->unread[reader];
	int r = 0;

	if (!*unread == !mine)
		return 0;
	/* those who read already keep what they have not seen */
	if (is_read(slot))
		r = spread_dirty(mem, slot);
	if (r < 0)
		return r;
	slot->unread[reader] = *unread;
	*unread = mine;
	if (is_read(slot) == (atomic_load(&slot->dirty) != NULL))
		return 0;
	r = switch_log(mem, slot, bits);
	if (r < 0 && !mine) {
		*unread = slot->unread[reader];
		slot->unread[reader] = NULL;
	}
	return r;
}

int vc_mem_log_dirty(struct vc_mem *mem, struct vc_pass *self, struct vc_slot *slot, enum vc_log_reader reader,
                     bool enable)
{
	_Atomic uint64_t *bits = enable ? (_Atomic uint64_t *)new_dirty_log(slot) : NULL;
	uint64_t *unread = enable ? new_dirty_log(slot) : NULL;
	int r = enable && (!bits || !unread) ? -ENOMEM : 0;

	if (r >= 0) {
		vc_gate_begin(mem->gate, self);
		r = change_readers(mem, slot, reader, &unread, &bits);
		vc_mem_tell_logs(mem);
		vc_gate_end(mem->gate, self);
	}
	free((void *)bits);
	free(unread);
	return r < 0 ? r : 0;
}

static int64_t fetch_dirty(struct vc_mem *mem, struct vc_slot *slot, uint64_t *unread, uint8_t *bitmap)
{
	int64_t dirty = 0;
	int r;

	if (!unread)
		return vc_fail(EINVAL, "memory: the dirty log of slot %#llx is off", (unsigned long long)slot->gpa);
	r = spread_dirty(mem, slot);
	if (r < 0)
		return r;
	for (uint64_t i = 0; i < dirty_words(slot); i++) {
		vc_st64(bitmap + i * 8, unread[i]);
		dirty += __builtin_popcountll(unread[i]);
		unread[i] = 0;
	}
	return dirty;
}

int64_t vc_mem_get_dirty(struct vc_mem *mem, struct vc_pass *self, struct vc_slot *slot, enum vc_log_reader reader,
                         void *bitmap, size_t bytes)
{
	int64_t dirty;

	if (!bitmap || bytes < dirty_words(slot) * 8)
		return vc_fail(EINVAL, "memory: a dirty bitmap of %zu bytes: expected %llu", bitmap ? bytes : 0,
		               (unsigned long long)dirty_words(slot) * 8);
	vc_gate_begin(mem->gate, self);
	dirty = fetch_dirty(mem, slot, slot->unread[reader], bitmap);
	vc_gate_end(mem->gate, self);
	return dirty;
}
