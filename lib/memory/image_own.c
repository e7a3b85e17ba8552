/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory of its own for a slot that derives from an image. What is written to a private mapping is this process's
 * alone; to be mapped by others too, all of the slot has to be in a file of its own. It is copied piece by piece, so
 * that the guest is never stopped for long; the slot still derives from its image, by what is known to differ.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/error.h"
#include "core/io.h"
#include "core/util.h"
#include "memory/image_priv.h"
#include "memory/memory.h"

#define PIECE VC_MIB(2)

bool vc_image_may_own(const struct vc_slot *slot)
{
	return slot->image && slot->fd < 0 && vc_image_may_map(slot) && !slot->host_readonly &&
	       !atomic_load(&slot->given) && atomic_load(&slot->presence) == VC_PRESENT;
}

void vc_image_disown(struct vc_slot *slot)
{
	vc_image_file_unref(slot->own);
	slot->own = NULL;
	slot->owned = 0;
	if (slot->fd >= 0)
		close(slot->fd);
	slot->fd = -1;
	slot->offset = 0;
}

/* ---- what it takes ---- */

static uint64_t data_in(const struct vc_extent *e)
{
	off_t at = (off_t)e->offset, end = at + (off_t)(e->count * VC_PAGE_SIZE), hole;
	uint64_t bytes = 0;

	while (at < end && (at = lseek(e->file->fd, at, SEEK_DATA)) >= 0 && at < end) {
		hole = lseek(e->file->fd, at, SEEK_HOLE);
		hole = hole < 0 || hole > end ? end : hole;
		bytes += (uint64_t)(hole - at);
		at = hole;
	}
	return bytes;
}

uint64_t vc_image_data(const struct vc_image *image)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < image->count; i++)
		bytes += data_in(&image->extent[i]);
	return bytes;
}

/* ---- pieces ---- */

/* The log is fetched while writers outside the gate may still come: what they wrote since is in the log itself. */
static bool is_changed(const struct vc_slot *slot, uint64_t page)
{
	_Atomic uint64_t *dirty = atomic_load(&slot->dirty);

	return (slot->changed[page / 64] | atomic_load(&dirty[page / 64])) >> (page % 64) & 1;
}

/* What the slot has there now, without looking at pages that nobody wrote: that would make the host give them memory.
 * 1; 0: zeroes; -errno */
static int read_piece(const struct vc_slot *slot, uint64_t at, uint8_t *buffer, uint64_t length)
{
	int any = vc_image_read(slot->image, at, buffer, length);

	for (uint64_t i = 0; any >= 0 && i < length; i += VC_PAGE_SIZE) {
		if (!is_changed(slot, (at + i) / VC_PAGE_SIZE))
			continue;
		memcpy(buffer + i, slot->hva + at + i, VC_PAGE_SIZE);
		any = 1;
	}
	return any;
}

static int write_piece(const struct vc_slot *slot, uint64_t at, const uint8_t *buffer, uint64_t length)
{
	int r = 0;

	for (uint64_t i = 0; r >= 0 && i < length; i += VC_PAGE_SIZE)
		if (!vc_is_zero(buffer + i, VC_PAGE_SIZE))
			r = vc_pwrite_all(slot->own->fd, buffer + i, VC_PAGE_SIZE, at + i);
	return r < 0 ? vc_fail_errno(-r, "copying the memory at %#llx", (unsigned long long)(slot->gpa + at)) : 0;
}

/* The caller has the lock for writing. 1: there was something to be copied; 0; -errno */
static int own_piece(struct vc_slot *slot, uint8_t *buffer)
{
	uint64_t at = slot->owned, length = slot->length - at < PIECE ? slot->length - at : PIECE;
	int any = read_piece(slot, at, buffer, length), r = any;

	if (r > 0)
		r = write_piece(slot, at, buffer, length);
	if (r < 0)
		return r;
	if (mmap(slot->hva + at, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, slot->own->fd,
	         (off_t)at) == MAP_FAILED)
		return vc_fail_errno(errno, "mapping %#llx bytes of memory", (unsigned long long)length);
	slot->owned += length;
	return any;
}

static int begin(struct vc_slot *slot)
{
	int r = vc_image_track(slot);

	return r < 0 || slot->own ? r : vc_image_memfd(slot->length, &slot->own);
}

/* All of it is its own. */
static int end(struct vc_slot *slot)
{
	int fd = fcntl(slot->own->fd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return vc_fail_errno(errno, "memory: the memfd of the slot at %#llx", (unsigned long long)slot->gpa);
	vc_image_file_unref(slot->own);
	slot->own = NULL;
	slot->owned = 0;
	slot->offset = 0;
	slot->fd = fd;
	return 0;
}

int vc_image_own(struct vc_slot *slot)
{
	uint8_t *buffer = malloc(PIECE);
	int r = buffer ? begin(slot) : vc_fail(ENOMEM, "no memory to copy memory");

	if (r >= 0) {
		/* whoever writes without being inside the gate holds it for reading */
		pthread_rwlock_wrlock(&slot->mem->lock);
		for (r = 0; r == 0 && slot->owned < slot->length;)
			r = own_piece(slot, buffer);
		if (r >= 0 && slot->owned == slot->length)
			r = end(slot);
		pthread_rwlock_unlock(&slot->mem->lock);
	}
	free(buffer);
	return r < 0 ? r : 0;
}
