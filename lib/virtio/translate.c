/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Queues of a device behind an IOMMU: from the driver's addresses to guest memory, which is held while it is used. */
#include <errno.h>

#include "core/error.h"
#include "virtio/device_priv.h"

static uint32_t least(uint32_t length, uint64_t other)
{
	return length < other ? length : (uint32_t)other;
}

bool vc_area_translate(struct vc_virtq *q, struct vc_area *area, bool written)
{
	uint32_t access = written ? VC_IOMMU_READ | VC_IOMMU_WRITE : VC_IOMMU_READ;
	struct vc_iommu_piece piece;

	for (uint32_t done = 0, n = 0; done < area->length; n++) {
		if (n == VC_AREA_MAPPINGS || !vc_iommu_hold(q->endpoint, &q->cache, area->address + done, access, &piece))
			return false;
		area->mappings[n] = piece.mapping;
		if (!done)
			area->gpa = piece.gpa;
		if (piece.gpa != area->gpa + done)
			return false;
		done += least(area->length - done, piece.length);
	}
	return true;
}

void vc_area_let_go(struct vc_area *area)
{
	for (unsigned i = 0; i < VC_AREA_MAPPINGS; i++) {
		if (area->mappings[i])
			vc_iommu_let_go(area->mappings[i]);
		area->mappings[i] = NULL;
	}
}

/* Segments from `from` on are all of one mapping, which is held once. */
static void note_segments(struct vc_chain *chain, uint32_t from, uint64_t iova, struct vc_iommu_mapping *mapping)
{
	struct vc_translated *translated = vc_chain_translated(chain);

	for (uint32_t i = from; i < chain->count; i++) {
		if (i > from)
			vc_iommu_hold_again(mapping);
		translated[i] = (struct vc_translated){iova, mapping};
		iova += chain->segs[i].length;
	}
	if (from == chain->count)
		vc_iommu_let_go(mapping);
}

int vc_chain_add_translated(struct vc_virtq *q, struct vc_chain *chain, const struct vc_desc *desc)
{
	uint32_t access = desc->flags & VC_DESC_WRITE ? VC_IOMMU_WRITE : VC_IOMMU_READ;
	struct vc_iommu_piece piece;
	int r = 0;

	for (uint32_t done = 0, length; r >= 0 && done < desc->length; done += length) {
		uint32_t before = chain->count;

		if (!vc_iommu_hold(q->endpoint, &q->cache, desc->address + done, access, &piece))
			return vc_chain_fail(q, desc, "the IOMMU blocks some of it");
		length = least(desc->length - done, piece.length);
		r = vc_chain_add_memory(q, chain, desc, piece.gpa, length);
		note_segments(chain, before, desc->address + done, piece.mapping);
	}
	return r;
}

void vc_chain_let_go(struct vc_chain *chain)
{
	const struct vc_translated *translated = vc_chain_translated(chain);

	for (uint32_t i = 0; i < chain->count; i++)
		vc_iommu_let_go(translated[i].mapping);
}

bool vc_virtq_read_translated(struct vc_virtq *q, uint64_t iova, void *buffer, uint32_t length)
{
	struct vc_iommu_piece piece;
	bool good = true;

	for (uint32_t done = 0, part; good && done < length; done += part) {
		if (!vc_iommu_hold(q->endpoint, &q->cache, iova + done, VC_IOMMU_READ, &piece))
			return false;
		part = least(length - done, piece.length);
		good = vc_virtq_read_memory(q, piece.gpa, (uint8_t *)buffer + done, part);
		vc_iommu_let_go(piece.mapping);
	}
	return good;
}

/* ---- the device ---- */

/* What is in flight is kept, and looked up anew. */
static void revoke(void *ctx)
{
	struct vc_virtio *v = ctx;

	vc_virtio_take_turn(v);
	if (vc_virtio_pause(v))
		vc_virtio_start(v);
	vc_virtio_give_turn(v);
}

void vc_virtio_set_endpoint(struct vc_virtio *v, struct vc_iommu_endpoint *endpoint)
{
	vc_virtio_take_turn(v);
	v->endpoint = endpoint;
	vc_virtio_give_turn(v);
	if (v->ring_features & VC_VIRTIO_F_ACCESS_PLATFORM)
		vc_iommu_on_revoke(endpoint, revoke, v);
}

struct vc_iommu_endpoint *vc_virtio_endpoint(const struct vc_virtio *v)
{
	return vc_virtio_has(v, VC_VIRTIO_F_ACCESS_PLATFORM) ? v->endpoint : NULL;
}

int vc_virtio_dma_read(struct vc_virtio *v, uint64_t address, void *buffer, uint64_t length)
{
	return vc_iommu_copy(vc_virtio_endpoint(v), v->env->mem, address, buffer, length, false);
}
