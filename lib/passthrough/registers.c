/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * BARs in guest-physical memory. The library itself never touches what is mapped here: an access while the device does
 * not decode it, or is gone, would be a SIGBUS. In the guest it ends in the kernel.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include <virtcore/error.h>

#include "core/error.h"
#include "core/util.h"

#include "passthrough/passed.h"

_Static_assert(VCORE_PCI_BARS *VC_PASSED_PIECES_MAX <= VC_PEER_REGISTERS_MAX, "all pieces of all BARs");

#define NOWHERE UINT64_MAX

/* ---- which parts ---- */

/* A range that must come as a call. */
struct hole {
	uint64_t start, end;
};

static unsigned find_holes(const struct vc_passed *passed, unsigned bar, struct hole holes[2])
{
	const struct vc_pci_image *image = &passed->config.image;
	uint32_t vectors = passed->config.description.msix_vectors;
	unsigned count = 0;

	if (vectors && image->table.bar == bar)
		holes[count++] = (struct hole){image->table.at, image->table.at + vectors * 16ull};
	if (vectors && image->pending.bar == bar)
		holes[count++] = (struct hole){image->pending.at, image->pending.at + (vectors + 63) / 64 * 8ull};
	for (unsigned i = 0; i < count; i++) {
		holes[i].start = VC_ALIGN_DOWN(holes[i].start, VC_PAGE_SIZE);
		holes[i].end = VC_ALIGN_UP(holes[i].end, VC_PAGE_SIZE);
	}
	if (count == 2 && holes[1].start < holes[0].start) {
		struct hole first = holes[1];

		holes[1] = holes[0];
		holes[0] = first;
	}
	return count;
}

static int map_piece(struct vc_passed *passed, struct vc_passed_bar *bar, uint64_t start, uint64_t end)
{
	const struct vc_physical_region *region = &bar->region;
	int protection =
	    (region->flags & VC_PHYSICAL_READ ? PROT_READ : 0) | (region->flags & VC_PHYSICAL_WRITE ? PROT_WRITE : 0);
	void *hva;

	if (start >= end || bar->count == VC_ARRAY_SIZE(bar->pieces))
		return 0;
	hva = mmap(NULL, end - start, protection, MAP_SHARED, region->fd, (off_t)(region->fd_offset + start));
	if (hva == MAP_FAILED)
		return vc_fail_errno(errno, "%s: mapping [%#llx, %#llx) of a BAR", passed->physical->name,
		                     (unsigned long long)start, (unsigned long long)end);
	bar->pieces[bar->count++] = (struct vc_passed_piece){start, end - start, hva, NOWHERE};
	return 0;
}

/* An area without its holes. */
static int map_area(struct vc_passed *passed, unsigned i, const struct vc_physical_area *area)
{
	uint64_t start = area->offset, end = area->offset + area->length;
	struct hole holes[2];
	unsigned count = find_holes(passed, i, holes);
	int r = 0;

	for (unsigned k = 0; r >= 0 && k < count; k++) {
		if (holes[k].end <= start || holes[k].start >= end)
			continue;
		r = map_piece(passed, &passed->registers.bars[i], start, holes[k].start);
		start = holes[k].end;
	}
	return r < 0 ? r : map_piece(passed, &passed->registers.bars[i], start, end);
}

int vc_passed_registers_init(struct vc_passed *passed)
{
	bool direct = passed->env->registers || passed->physical->peers;
	int r = 0;

	for (unsigned i = 0; i < VCORE_PCI_BARS; i++) {
		struct vc_passed_bar *bar = &passed->registers.bars[i];

		bar->at = NOWHERE;
		/* what cannot be read is no memory */
		if (!direct || !(bar->region.flags & VC_PHYSICAL_READ))
			continue;
		for (uint32_t k = 0; r >= 0 && k < bar->region.area_count; k++)
			r = map_area(passed, i, &bar->region.areas[k]);
	}
	return r;
}

/* ---- where ---- */

static void put(struct vc_passed *passed, const struct vc_passed_bar *bar, struct vc_passed_piece *piece, uint64_t at)
{
	struct vc_registers registers = {
	    .length = piece->length, .hva = piece->hva, .writable = bar->region.flags & VC_PHYSICAL_WRITE};

	if (piece->at == at)
		return;
	if (piece->at != NOWHERE) {
		registers.gpa = piece->at;
		passed->env->registers(passed->env->machine_ctx, &registers, false);
		piece->at = NOWHERE;
	}
	if (at == NOWHERE)
		return;
	registers.gpa = at;
	if (passed->env->registers(passed->env->machine_ctx, &registers, true) >= 0)
		piece->at = at;
	else
		vc_log(passed->env->log, VCORE_LOG_INFO, "%s: every access to registers at %#llx is a call: %s",
		       passed->physical->name, (unsigned long long)at, vcore_error_message());
}

/* Caller holds the lock. */
static void place(struct vc_passed *passed, struct vc_passed_bar *bar)
{
	bool direct = passed->env->registers && !passed->registers.trapped && !atomic_load(&passed->gone) &&
	              bar->at != NOWHERE && VC_IS_ALIGNED(bar->at, VC_PAGE_SIZE);

	for (unsigned i = 0; i < bar->count; i++)
		put(passed, bar, &bar->pieces[i], direct ? bar->at + bar->pieces[i].offset : NOWHERE);
}

/* ---- for the vm's other devices ---- */

unsigned vc_passed_registers_list(void *ctx, struct vc_peer_registers registers[VC_PEER_REGISTERS_MAX])
{
	struct vc_passed *passed = ctx;
	unsigned count = 0;

	pthread_mutex_lock(&passed->registers.lock);
	for (unsigned i = 0; i < VCORE_PCI_BARS && !passed->registers.ended && atomic_load(&passed->registers.decoding);
	     i++) {
		const struct vc_passed_bar *bar = &passed->registers.bars[i];

		if (bar->at == NOWHERE || !VC_IS_ALIGNED(bar->at, VC_PAGE_SIZE))
			continue;
		for (unsigned k = 0; k < bar->count; k++)
			registers[count++] = (struct vc_peer_registers){bar->at + bar->pieces[k].offset, bar->pieces[k].length,
			                                                bar->pieces[k].hva, bar->region.flags};
	}
	pthread_mutex_unlock(&passed->registers.lock);
	return count;
}

static void update_peers(struct vc_passed *passed)
{
	if (passed->physical->peers)
		vc_peers_update(passed->physical->peers, &passed->dma.peer);
}

void vc_passed_registers_moved(void *ctx, uint32_t bar, uint64_t at)
{
	struct vc_passed *passed = ctx;

	pthread_mutex_lock(&passed->registers.lock);
	passed->registers.bars[bar].at = at;
	place(passed, &passed->registers.bars[bar]);
	pthread_mutex_unlock(&passed->registers.lock);
	update_peers(passed);
}

void vc_passed_registers_decode(struct vc_passed *passed, bool on)
{
	if (atomic_exchange(&passed->registers.decoding, on) != on)
		update_peers(passed);
}

void vc_passed_registers_trap(struct vc_passed *passed, bool on)
{
	pthread_mutex_lock(&passed->registers.lock);
	passed->registers.trapped = on;
	for (unsigned i = 0; i < VCORE_PCI_BARS; i++)
		place(passed, &passed->registers.bars[i]);
	pthread_mutex_unlock(&passed->registers.lock);
}

void vc_passed_registers_fini(struct vc_passed *passed)
{
	pthread_mutex_lock(&passed->registers.lock);
	passed->registers.ended = true;
	pthread_mutex_unlock(&passed->registers.lock);
	update_peers(passed);
	vc_passed_registers_trap(passed, true);
	for (unsigned i = 0; i < VCORE_PCI_BARS; i++) {
		struct vc_passed_bar *bar = &passed->registers.bars[i];

		for (unsigned k = 0; k < bar->count; k++)
			munmap(bar->pieces[k].hva, bar->pieces[k].length);
	}
}
