/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where BARs are: their addresses at first, and the bus regions that follow their registers. */
#include "bus/pci_priv.h"
#include "core/error.h"
#include "core/util.h"

#define ADDRESS_LAST ((1ull << 52) - 1)
#define PORT_LAST    0xffffull

static enum vcore_bus bus_of(const struct pci_bar *bar)
{
	return bar->flags & VCORE_PCI_BAR_IO ? VCORE_BUS_PIO : VCORE_BUS_MMIO;
}

uint64_t pci_bar_address(const struct vc_pci_function *f, const uint8_t *config, unsigned bar)
{
	const uint8_t *reg = config + PCI_BAR + 4 * bar;
	uint64_t value = f->bars[bar].flags & VCORE_PCI_BAR_64 ? vc_ld64(reg) : vc_ld32(reg);

	return value & ~(f->bars[bar].size - 1); /* no size is so small that flags remain */
}

/* ---- placing ---- */

/* Two ranges share an address. */
static bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
	return a - b < b_size || b - a < a_size;
}

/* If something of g's overlaps [start, start+size): where that ends; else 0. */
static uint64_t taken_by(struct vc_pci_function *g, const struct pci_bar *bar, uint64_t start)
{
	uint64_t end = 0;

	pthread_mutex_lock(&g->lock);
	for (unsigned i = 0; i < VCORE_PCI_BARS; i++) {
		const struct pci_bar *other = &g->bars[i];
		/* where it is, and where it will be after a reset; 0: it has no place yet */
		const uint64_t places[2] = {other->size ? pci_bar_address(g, g->config, i) : 0,
		                            other->size ? pci_bar_address(g, g->initial, i) : 0};

		for (unsigned k = 0; k < 2 && bus_of(other) == bus_of(bar); k++)
			if (places[k] && overlap(start, bar->size, places[k], other->size) && places[k] + other->size > end)
				end = places[k] + other->size;
	}
	pthread_mutex_unlock(&g->lock);
	return end;
}

static uint64_t taken(struct vc_pci *pci, struct vc_pci_function *f, const struct pci_bar *bar, uint64_t start)
{
	uint64_t end = taken_by(f, bar, start);

	for (struct vc_pci_function *g = pci->all; g && !end; g = g->next)
		end = taken_by(g, bar, start);
	return end;
}

/* The lowest free place in a window; 0: there is none. */
static uint64_t find_place(struct vc_pci *pci, struct vc_pci_function *f, const struct pci_bar *bar,
                           struct vc_pci_window window)
{
	/* memory in pages of its own, so that a guest can hand it on */
	uint64_t alignment = bar->flags & VCORE_PCI_BAR_IO || bar->size > VC_PAGE_SIZE ? bar->size : VC_PAGE_SIZE;
	uint64_t end = window.start + window.length, at = VC_ALIGN_UP(window.start, alignment), next;

	while (at < end && end - at >= bar->size) {
		next = taken(pci, f, bar, at);
		if (!next)
			return at;
		at = VC_ALIGN_UP(next > at ? next : at + 1, alignment);
	}
	return 0;
}

static int place_bar(struct vc_pci *pci, struct vc_pci_function *f, unsigned i)
{
	const struct pci_bar *bar = &f->bars[i];
	bool wide = bar->flags & VCORE_PCI_BAR_64;
	uint64_t at = 0;

	if (wide && pci->window64.length)
		at = find_place(pci, f, bar, pci->window64);
	if (!at)
		at = find_place(pci, f, bar, bar->flags & VCORE_PCI_BAR_IO ? pci->config.io : pci->config.memory);
	if (!at)
		return vc_fail(ENOSPC, "PCI function %s: no room for %#llx bytes of BAR %u", f->dev->type,
		               (unsigned long long)bar->size, i);
	pthread_mutex_lock(&f->lock);
	vc_st32(f->initial + PCI_BAR + 4 * i, vc_ld32(f->initial + PCI_BAR + 4 * i) | (uint32_t)at);
	if (wide)
		vc_st32(f->initial + PCI_BAR + 4 * i + 4, (uint32_t)(at >> 32));
	memcpy(f->config + PCI_BAR, f->initial + PCI_BAR, PCI_BARS_END - PCI_BAR);
	pthread_mutex_unlock(&f->lock);
	return 0;
}

int pci_bars_place(struct vc_pci *pci, struct vc_pci_function *f)
{
	int r = 0;

	for (unsigned i = 0; i < VCORE_PCI_BARS && r >= 0; i++)
		if (f->bars[i].size)
			r = place_bar(pci, f, i);
	return r;
}

/* ---- regions ---- */

/* Where the BAR should answer; PCI_UNMAPPED: nowhere. */
static uint64_t wanted(struct vc_pci_function *f, unsigned i)
{
	const struct pci_bar *bar = &f->bars[i];
	bool io = bar->flags & VCORE_PCI_BAR_IO;
	uint64_t last = io ? PORT_LAST : ADDRESS_LAST, at;
	bool enabled;

	pthread_mutex_lock(&f->lock);
	enabled = vc_ld16(f->config + PCI_COMMAND) & (io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY);
	at = pci_bar_address(f, f->config, i);
	pthread_mutex_unlock(&f->lock);
	if (!enabled || !at || at > last || bar->size - 1 > last - at)
		return PCI_UNMAPPED;
	return !f->bus->port || pci_port_passes(f->bus->port, io, at, bar->size) ? at : PCI_UNMAPPED;
}

/* Under mapping. */
static void tell(struct vc_pci_function *f, unsigned bar, uint64_t at)
{
	if (f->moved)
		f->moved(f->ctx, bar, at);
}

static void unmap_stale(struct vc_buses *buses, struct vc_pci_function *f)
{
	for (unsigned i = 0; i < VCORE_PCI_BARS; i++) {
		struct pci_bar *bar = &f->bars[i];
		uint64_t now = atomic_load(&bar->mapped);

		if (!bar->size || now == PCI_UNMAPPED || now == wanted(f, i))
			continue;
		tell(f, i, PCI_UNMAPPED);
		vc_dev_remove_region(buses, NULL, f->dev, bus_of(bar), now);
		atomic_store(&bar->mapped, PCI_UNMAPPED);
	}
}

/* What overlaps something else stays out until that is gone and registers change again. */
static void map_missing(struct vc_buses *buses, struct vc_pci_function *f)
{
	for (unsigned i = 0; i < VCORE_PCI_BARS; i++) {
		struct pci_bar *bar = &f->bars[i];
		uint64_t at = bar->size ? wanted(f, i) : PCI_UNMAPPED;

		if (at == PCI_UNMAPPED || atomic_load(&bar->mapped) != PCI_UNMAPPED)
			continue;
		/* first, so that whoever finds the region finds the BAR */
		atomic_store(&bar->mapped, at);
		if (vc_dev_add_region(buses, NULL, f->dev, bus_of(bar), at, bar->size) < 0)
			atomic_store(&bar->mapped, PCI_UNMAPPED);
		else
			tell(f, i, at);
	}
}

static struct vc_pci_function *first_function(struct vc_pci *pci)
{
	struct vc_pci_function *f;

	pthread_mutex_lock(&pci->lock);
	f = pci->all;
	pthread_mutex_unlock(&pci->lock);
	return f;
}

void pci_bars_sync(struct vc_pci *pci)
{
	struct vc_pci_function *first;

	/* under mapping no function goes away; new ones come in front of the first */
	pthread_mutex_lock(&pci->mapping);
	first = first_function(pci);
	for (struct vc_pci_function *f = first; f; f = f->next)
		unmap_stale(pci->config.buses, f);
	for (struct vc_pci_function *f = first; f; f = f->next)
		map_missing(pci->config.buses, f);
	pthread_mutex_unlock(&pci->mapping);
}

void vc_pci_on_move(struct vc_pci_function *f, void (*moved)(void *ctx, uint32_t bar, uint64_t at))
{
	pthread_mutex_lock(&f->pci->mapping);
	f->moved = moved;
	for (unsigned i = 0; i < VCORE_PCI_BARS; i++)
		if (f->bars[i].size && atomic_load(&f->bars[i].mapped) != PCI_UNMAPPED)
			tell(f, i, atomic_load(&f->bars[i].mapped));
	pthread_mutex_unlock(&f->pci->mapping);
}

int pci_bar_find(const struct vc_pci_function *f, const struct vcore_io *io)
{
	for (unsigned i = 0; i < VCORE_PCI_BARS; i++) {
		const struct pci_bar *bar = &f->bars[i];
		uint64_t at = atomic_load_explicit(&bar->mapped, memory_order_relaxed);

		if (at != PCI_UNMAPPED && bus_of(bar) == io->bus && io->address - at < bar->size)
			return (int)i;
	}
	return -1;
}
