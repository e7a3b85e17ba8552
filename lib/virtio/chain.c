/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Descriptor chains: from what a driver wrote to checked vectors of host memory. */
#include <errno.h>
#include <stdlib.h>

#include "memory/missing.h"
#include "virtio/queue.h"

/* ---- chains and their room ---- */

struct vc_chain *vc_chain_take(struct vc_virtq *q)
{
	struct vc_chain *chain = q->free_chains;

	if (vc_unlikely(!chain))
		return NULL;
	q->free_chains = chain->next;
	q->busy++;
	chain->busy = true;
	chain->replay = false;
	chain->sequence = q->sequence++;
	chain->descs = 0;
	chain->count = 0;
	chain->room = VC_CHAIN_INLINE;
	chain->iov = chain->inline_iov;
	chain->segs = chain->inline_segs;
	chain->c = (struct vc_virtq_chain){.queue = q, .out = chain->iov, .in = chain->iov};
	return chain;
}

/* Whoever found no room goes on. */
static void give_big(struct vc_virtq *q, struct vc_chain *chain)
{
	chain->big->next = q->free_bigs;
	q->free_bigs = chain->big;
	chain->big = NULL;
	if (q->starved) {
		q->starved = false;
		vc_virtio_wake(q->v, q->index);
	}
}

void vc_chain_free(struct vc_virtq *q, struct vc_chain *chain)
{
	for (uint32_t i = 0; i < chain->count; i++)
		vc_pin_put(q, chain->segs[i].pin);
	if (vc_unlikely(q->endpoint != NULL))
		vc_chain_let_go(chain);
	chain->busy = false;
	q->busy--;
	chain->next = q->free_chains;
	q->free_chains = chain;
	if (vc_unlikely(chain->big != NULL))
		give_big(q, chain);
}

static struct vc_big *take_big(struct vc_virtq *q)
{
	struct vc_big *big = q->free_bigs;

	if (big) {
		q->free_bigs = big->next;
		return big;
	}
	big = q->bigs < VC_BIG_MAX ? malloc(sizeof *big) : NULL;
	q->bigs += big != NULL;
	return big;
}

/* Out of the room inside the chain. */
static int grow(struct vc_virtq *q, struct vc_chain *chain)
{
	struct vc_big *big;

	if (chain->big) {
		vc_virtio_broken(q->v, "queue %u: a chain of more than %u pieces", q->index, VC_VIRTQ_MAX_SIZE);
		return -EPROTO;
	}
	big = take_big(q);
	if (!big && !q->bigs) {
		vc_virtio_broken(q->v, "queue %u: no memory for a chain", q->index);
		return -EPROTO;
	}
	if (!big) {
		q->starved = true;
		return -EAGAIN;
	}
	memcpy(big->iov, chain->iov, chain->count * sizeof big->iov[0]);
	memcpy(big->segs, chain->segs, chain->count * sizeof big->segs[0]);
	if (q->endpoint)
		memcpy(big->translated, chain->inline_translated, chain->count * sizeof big->translated[0]);
	chain->big = big;
	chain->iov = big->iov;
	chain->segs = big->segs;
	chain->room = VC_VIRTQ_MAX_SIZE;
	return 0;
}

/* ---- descriptors ---- */

int vc_chain_fail(struct vc_virtq *q, const struct vc_desc *desc, const char *what)
{
	vc_virtio_broken(q->v, "queue %u: descriptor of [%#llx, +%#x), flags %#x: %s", q->index,
	                 (unsigned long long)desc->address, desc->length, desc->flags, what);
	return -EPROTO;
}

/* Account for a descriptor; NULL, or what is wrong with it. */
static const char *count_bytes(struct vc_virtq_chain *c, const struct vc_desc *desc)
{
	bool write = desc->flags & VC_DESC_WRITE;
	uint32_t *total = write ? &c->in_bytes : &c->out_bytes;

	if (vc_unlikely(!desc->length))
		return "it is empty";
	if (vc_unlikely(!write && c->in_bytes))
		return "to be read, behind one to be written";
	if (vc_unlikely(desc->length > UINT32_MAX - *total))
		return "the chain is longer than 4 GiB";
	*total += desc->length;
	return NULL;
}

int vc_chain_add_memory(struct vc_virtq *q, struct vc_chain *chain, const struct vc_desc *desc, uint64_t gpa,
                        uint32_t length)
{
	bool write = desc->flags & VC_DESC_WRITE;

	while (length) {
		struct vc_pin *pin = vc_virtq_pin(q, gpa);
		uint32_t piece = length;

		if (vc_unlikely(!pin))
			return vc_chain_fail(q, desc, "there is no memory at some of it");
		if (vc_unlikely(write && !pin->writable))
			return vc_chain_fail(q, desc, "the memory there cannot be written");
		if (vc_unlikely(piece > pin->length - (gpa - pin->gpa)))
			piece = (uint32_t)(pin->length - (gpa - pin->gpa));
		if (vc_unlikely(chain->count == chain->room)) {
			int r = grow(q, chain);

			if (r < 0)
				return r;
		}
		/* what is handed on to others, such as a disk's write, does not wait for memory by itself */
		if (vc_unlikely(!write && !vc_slot_touch(pin->slot, gpa - pin->gpa, piece)))
			return vc_chain_fail(q, desc, "the memory there is lost");
		pin->users++;
		chain->segs[chain->count] = (struct vc_seg){pin, gpa, piece};
		chain->iov[chain->count++] = (struct iovec){pin->hva + (gpa - pin->gpa), piece};
		chain->c.in_count += write;
		chain->c.out_count += !write;
		gpa += piece;
		length -= piece;
	}
	return 0;
}

int vc_chain_add(struct vc_virtq *q, struct vc_chain *chain, const struct vc_desc *desc)
{
	const char *wrong = count_bytes(&chain->c, desc);

	if (vc_unlikely(wrong != NULL))
		return vc_chain_fail(q, desc, wrong);
	return vc_likely(!q->endpoint) ? vc_chain_add_memory(q, chain, desc, desc->address, desc->length)
	                               : vc_chain_add_translated(q, chain, desc);
}

/* An indirect table: where all of it lies in one slot, its address. */
struct table {
	uint64_t address;
	const uint8_t *hva;
	uint32_t count;
	struct vc_iommu_mapping *mapping; /* held; NULL: none is needed */
};

/* Where it lies as a whole, if it does so. */
static void find_table(struct vc_virtq *q, struct table *table, uint64_t gpa, uint32_t length)
{
	const struct vc_pin *pin = vc_virtq_pin(q, gpa);

	table->hva = pin && length <= pin->length - (gpa - pin->gpa) ? pin->hva + (gpa - pin->gpa) : NULL;
}

/* Behind an IOMMU what lies in several mappings is read piece by piece. */
static bool find_translated_table(struct vc_virtq *q, struct table *table, uint32_t length)
{
	struct vc_iommu_piece piece;

	if (!vc_iommu_hold(q->endpoint, &q->cache, table->address, VC_IOMMU_READ, &piece))
		return false;
	table->mapping = piece.mapping;
	if (length <= piece.length)
		find_table(q, table, piece.gpa, length);
	return true;
}

static int open_table(struct vc_virtq *q, const struct vc_desc *desc, struct table *table)
{
	if (!q->indirect)
		return vc_chain_fail(q, desc, "indirect descriptors were not negotiated");
	if (desc->flags & VC_DESC_NEXT)
		return vc_chain_fail(q, desc, "an indirect one that has a next one");
	if (!desc->length || desc->length % VC_DESC_BYTES || desc->length / VC_DESC_BYTES > VC_VIRTQ_MAX_SIZE)
		return vc_chain_fail(q, desc, "an indirect table is 1 to 1024 times 16 bytes");
	*table = (struct table){.address = desc->address, .count = desc->length / VC_DESC_BYTES};
	if (vc_likely(!q->endpoint))
		find_table(q, table, desc->address, desc->length);
	else if (!find_translated_table(q, table, desc->length))
		return vc_chain_fail(q, desc, "the IOMMU blocks the indirect table");
	return 0;
}

static bool read_entry(struct vc_virtq *q, const struct table *table, uint32_t at, uint64_t words[2])
{
	const uint8_t *p;

	if (vc_unlikely(!table->hva))
		return vc_virtq_read(q, table->address + at * VC_DESC_BYTES, words, VC_DESC_BYTES);
	p = table->hva + at * VC_DESC_BYTES;
	words[0] = vc_guest_ld64(p);
	words[1] = vc_guest_ld64(p + 8);
	return true;
}

/* One entry of a table; next: the index of the one behind it, or the table's count when it was the last. */
static int add_entry(struct vc_virtq *q, struct vc_chain *chain, const struct table *table, uint32_t *next)
{
	uint64_t words[2];
	struct vc_desc desc;

	if (!read_entry(q, table, *next, words)) {
		vc_virtio_broken(q->v, "queue %u: part of the indirect table at %#llx is nowhere", q->index,
		                 (unsigned long long)table->address);
		return -EPROTO;
	}
	desc = (struct vc_desc){words[0], (uint32_t)words[1], (uint16_t)(words[1] >> (q->packed ? 48 : 32))};
	if (desc.flags & VC_DESC_INDIRECT)
		return vc_chain_fail(q, &desc, "indirect, inside an indirect table");
	if (q->packed) { /* all of them, in order; NEXT means nothing here (2.8.7) */
		++*next;
	} else if (desc.flags & VC_DESC_NEXT) {
		*next = (uint16_t)(words[1] >> 48);
		if (*next >= table->count)
			return vc_chain_fail(q, &desc, "the next one is not in the indirect table");
	} else {
		*next = table->count;
	}
	return vc_chain_add(q, chain, &desc);
}

static int add_entries(struct vc_virtq *q, struct vc_chain *chain, const struct vc_desc *desc,
                       const struct table *table)
{
	uint32_t at = 0, n = 0;
	int r = 0;

	while (r >= 0 && at < table->count) {
		if (vc_unlikely(n++ == table->count))
			return vc_chain_fail(q, desc, "the indirect table has a cycle");
		r = add_entry(q, chain, table, &at);
	}
	return r;
}

int vc_chain_add_indirect(struct vc_virtq *q, struct vc_chain *chain, const struct vc_desc *desc)
{
	struct table table;
	int r = open_table(q, desc, &table);

	if (r < 0)
		return r;
	r = add_entries(q, chain, desc, &table);
	if (vc_unlikely(table.mapping != NULL))
		vc_iommu_let_go(table.mapping);
	return r;
}
