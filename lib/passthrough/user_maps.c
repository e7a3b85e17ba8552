/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "passthrough/user_maps.h"

#include <stdlib.h>

#include "core/error.h"
#include "core/util.h"
#include "memory/memory.h"

void vc_vfio_user_maps_init(struct vc_vfio_user_maps *m)
{
	*m = (struct vc_vfio_user_maps){0};
	pthread_rwlock_init(&m->lock, NULL);
}

void vc_vfio_user_maps_fini(struct vc_vfio_user_maps *m)
{
	free(m->maps);
	pthread_rwlock_destroy(&m->lock);
}

/* The first that ends behind iova. */
static unsigned find(const struct vc_vfio_user_maps *m, uint64_t iova)
{
	unsigned low = 0, high = m->count;

	while (low < high) {
		unsigned middle = low + (high - low) / 2;

		if (m->maps[middle].iova + (m->maps[middle].length - 1) < iova)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool make_room(struct vc_vfio_user_maps *m)
{
	unsigned room = m->room ? m->room * 2 : 16;
	struct vc_physical_dma *maps;

	if (m->count < m->room)
		return true;
	maps = realloc(m->maps, room * sizeof maps[0]);
	if (!maps)
		return false;
	m->maps = maps;
	m->room = room;
	return true;
}

static int add(struct vc_vfio_user_maps *m, const struct vc_physical_dma *dma)
{
	unsigned at = find(m, dma->iova);

	if (at < m->count && m->maps[at].iova <= dma->iova + (dma->length - 1))
		return vc_fail(EEXIST, "the range %#llx, %#llx bytes, overlaps one at %#llx", (unsigned long long)dma->iova,
		               (unsigned long long)dma->length, (unsigned long long)m->maps[at].iova);
	if (!make_room(m))
		return vc_fail(ENOMEM, "no memory for a range of memory");
	memmove(&m->maps[at + 1], &m->maps[at], (m->count - at) * sizeof m->maps[0]);
	m->maps[at] = *dma;
	m->count++;
	return 0;
}

int vc_vfio_user_maps_add(struct vc_vfio_user_maps *m, const struct vc_physical_dma *dma)
{
	int r;

	if (!dma->length || dma->iova + (dma->length - 1) < dma->iova || (dma->iova | dma->length) % VC_PAGE_SIZE)
		return vc_fail(EINVAL, "%#llx bytes at %#llx: expected whole pages", (unsigned long long)dma->length,
		               (unsigned long long)dma->iova);
	pthread_rwlock_wrlock(&m->lock);
	r = add(m, dma);
	pthread_rwlock_unlock(&m->lock);
	return r;
}

bool vc_vfio_user_maps_remove(struct vc_vfio_user_maps *m, uint64_t iova, uint64_t length)
{
	bool found;
	unsigned at;

	pthread_rwlock_wrlock(&m->lock);
	at = find(m, iova);
	found = at < m->count && m->maps[at].iova == iova && m->maps[at].length == length;
	if (found) {
		memmove(&m->maps[at], &m->maps[at + 1], (m->count - at - 1) * sizeof m->maps[0]);
		m->count--;
	}
	pthread_rwlock_unlock(&m->lock);
	return found;
}

/* ---- accesses ---- */

/* How much of it lies in the range that holds its first byte. */
static uint64_t piece_of(const struct vc_physical_dma *dma, uint64_t iova, uint64_t length)
{
	uint64_t left = dma->length - (iova - dma->iova);

	return left < length ? left : length;
}

/* The range of the first byte, when all is in such ranges, one behind the other; NULL: it is not. */
static const struct vc_physical_dma *check(const struct vc_vfio_user_maps *m, uint64_t iova, uint64_t length,
                                           uint32_t flag)
{
	unsigned first = find(m, iova);

	for (unsigned at = first; length; at++) {
		uint64_t piece;

		if (at == m->count || iova < m->maps[at].iova || !(m->maps[at].flags & flag))
			return NULL;
		piece = piece_of(&m->maps[at], iova, length);
		iova += piece;
		length -= piece;
	}
	return first < m->count ? &m->maps[first] : NULL;
}

int vc_vfio_user_maps_read(struct vc_vfio_user_maps *m, uint64_t iova, void *data, uint64_t length)
{
	const struct vc_physical_dma *dma;
	uint8_t *to = data;

	pthread_rwlock_rdlock(&m->lock);
	dma = check(m, iova, length, VC_PHYSICAL_READ);
	for (; dma && length; dma++) {
		uint64_t piece = piece_of(dma, iova, length);

		memcpy(to, (const uint8_t *)dma->hva + (iova - dma->iova), piece);
		to += piece;
		iova += piece;
		length -= piece;
	}
	pthread_rwlock_unlock(&m->lock);
	return dma ? 0 : -EFAULT;
}

int vc_vfio_user_maps_write(struct vc_vfio_user_maps *m, uint64_t iova, const void *data, uint64_t length)
{
	const struct vc_physical_dma *dma;
	const uint8_t *from = data;

	pthread_rwlock_rdlock(&m->lock);
	dma = check(m, iova, length, VC_PHYSICAL_WRITE);
	for (; dma && length; dma++) {
		uint64_t piece = piece_of(dma, iova, length);

		memcpy((uint8_t *)dma->hva + (iova - dma->iova), from, piece);
		if (dma->slot)
			vc_mem_wrote(dma->slot, dma->gpa + (iova - dma->iova), piece);
		from += piece;
		iova += piece;
		length -= piece;
	}
	pthread_rwlock_unlock(&m->lock);
	return dma ? 0 : -EFAULT;
}
