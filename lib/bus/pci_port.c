/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ports: bridges (type 1 header, PCI-to-PCI Bridge 1.2) to a bus with one device. The windows of a bridge are there for
 * the guest to set; what lies behind it answers wherever its own BARs say.
 */
#include <stdlib.h>

#include "bus/pci_priv.h"
#include "core/error.h"
#include "core/util.h"

enum {
	HEADER_BRIDGE = 1,
	BUS_NUMBERS = 0x18,
	SUBORDINATE = 0x1a,
	IO_BASE = 0x1c,
	MEMORY_BASE = 0x20,
	PREFETCH_BASE = 0x24,
	PREFETCH_BASE_HIGH = 0x28,
	PREFETCH_LIMIT_HIGH = 0x2c,
	BRIDGE_CONTROL = 0x3e,
	PREFETCH_IS_64 = 1,
	BRIDGE_CONTROL_WRITABLE = 0x43,
};

int pci_make_port(struct vc_pci_function *f, void (*presence)(void *ctx, bool present))
{
	f->child = calloc(1, sizeof *f->child);
	if (!f->child)
		return vc_fail(ENOMEM, "no memory for the bus behind a PCI port");
	f->presence = presence;
	f->initial[PCI_HEADER_TYPE] = HEADER_BRIDGE;
	memset(f->writable + BUS_NUMBERS, 0xff, 3);
	/* each window's base, writable in the upper bits, and its limit, which is below: closed */
	f->initial[IO_BASE] = 0xf0;
	vc_st16(f->writable + IO_BASE, 0xf0f0);
	vc_st16(f->initial + MEMORY_BASE, 0xfff0);
	vc_st32(f->writable + MEMORY_BASE, 0xfff0fff0);
	vc_st32(f->initial + PREFETCH_BASE, 0xfff0 | PREFETCH_IS_64 | PREFETCH_IS_64 << 16);
	vc_st32(f->writable + PREFETCH_BASE, 0xfff0fff0);
	vc_st32(f->initial + PREFETCH_BASE_HIGH, UINT32_MAX);
	vc_st64(f->writable + PREFETCH_BASE_HIGH, UINT64_MAX);
	vc_st16(f->writable + BRIDGE_CONTROL, BRIDGE_CONTROL_WRITABLE);
	return 0;
}

/* As firmware would. */
void pci_number_port(struct vc_pci *pci, struct vc_pci_function *f)
{
	uint8_t last = 0;

	for (const struct vc_pci_function *g = pci->all; g; g = g->next)
		if (g->child && g->initial[PCI_SECONDARY_BUS] > last)
			last = g->initial[PCI_SECONDARY_BUS];
	/* at most 255 other functions are on bus 0, and ports stay */
	f->initial[PCI_SECONDARY_BUS] = f->initial[SUBORDINATE] = (uint8_t)(last + 1);
}

struct pci_bus *pci_find_bus(struct vc_pci *pci, unsigned number)
{
	struct pci_bus *found = NULL;

	if (!number)
		return &pci->root;
	for (struct vc_pci_function *g = pci->all; g && !found; g = g->next) {
		if (!g->child)
			continue;
		pthread_mutex_lock(&g->lock);
		if (g->config[PCI_SECONDARY_BUS] == number)
			found = g->child;
		pthread_mutex_unlock(&g->lock);
	}
	return found;
}

void pci_tell_port(struct vc_pci *pci, struct vc_pci_function *port)
{
	struct vc_visit visit;
	bool present;

	if (!port || !vc_dev_visit(pci->config.buses, &visit, port->dev))
		return;
	pthread_mutex_lock(&pci->lock);
	present = port->child->functions[0] != NULL;
	pthread_mutex_unlock(&pci->lock);
	port->presence(port->ctx, present);
	vc_dev_leave(pci->config.buses, &visit);
}
