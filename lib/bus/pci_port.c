/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ports: bridges (type 1 header, PCI-to-PCI Bridge 1.2) to a bus with one device. What lies behind one is reached
 * where the guest has opened a window, and under the bus numbers that it has given. Closed at first, for no firmware
 * runs that would open them. DMA and messages from behind pass whatever the bridge's bus master bit says.
 */
#include <stdlib.h>

#include "bus/pci_priv.h"
#include "core/error.h"
#include "core/util.h"

enum {
	HEADER_BRIDGE = 1,
	BUS_NUMBERS = 0x18,
	SUBORDINATE = 0x1a,
	WINDOW_UNIT = 1 << 20, /* of memory */
	IO_BASE = 0x1c,
	MEMORY_BASE = 0x20,
	PREFETCH_BASE = 0x24,
	PREFETCH_BASE_HIGH = 0x28,
	PREFETCH_LIMIT_HIGH = 0x2c,
	BRIDGE_CONTROL = 0x3e,
	PREFETCH_IS_64 = 1,
	BRIDGE_CONTROL_WRITABLE = 0x43,
};

int pci_make_port(struct vc_pci_function *f, const struct vc_pci_port_ops *ops)
{
	f->child = calloc(1, sizeof *f->child);
	if (!f->child)
		return vc_fail(ENOMEM, "no memory for the bus behind a PCI port");
	f->port_ops = ops;
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
		if (g->config[PCI_SECONDARY_BUS] == number && g->config[SUBORDINATE] >= number)
			found = g->child;
		pthread_mutex_unlock(&g->lock);
	}
	return found;
}

/* The range is inside [base, limit], and that is not empty. */
static bool inside(uint64_t base, uint64_t limit, uint64_t start, uint64_t size)
{
	return base <= limit && start >= base && start <= limit && size - 1 <= limit - start;
}

bool pci_port_passes(struct vc_pci_function *port, bool io, uint64_t start, uint64_t size)
{
	const uint8_t *c = port->config;
	bool passes;

	pthread_mutex_lock(&port->lock);
	/* 3.2.5.6, 3.2.5.8, 3.2.5.9: the low bits of a base are 0, those of a limit 1 */
	if (io)
		passes = inside((c[IO_BASE] & 0xf0u) << 8, (c[IO_BASE + 1] & 0xf0u) << 8 | 0xfff, start, size);
	else
		passes = inside((uint64_t)(vc_ld16(c + MEMORY_BASE) & 0xfff0u) << 16,
		                ((uint64_t)(vc_ld16(c + MEMORY_BASE + 2) & 0xfff0u) << 16) + WINDOW_UNIT - 1, start, size) ||
		         inside((uint64_t)vc_ld32(c + PREFETCH_BASE_HIGH) << 32 |
		                    (uint64_t)(vc_ld16(c + PREFETCH_BASE) & 0xfff0u) << 16,
		                ((uint64_t)vc_ld32(c + PREFETCH_LIMIT_HIGH) << 32 |
		                 (uint64_t)(vc_ld16(c + PREFETCH_BASE + 2) & 0xfff0u) << 16) +
		                    WINDOW_UNIT - 1,
		                start, size);
	passes = passes && vc_ld16(c + PCI_COMMAND) & (io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY);
	pthread_mutex_unlock(&port->lock);
	return passes;
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
	port->port_ops->presence(port->ctx, present);
	vc_dev_leave(pci->config.buses, &visit);
}

bool vc_pci_is_behind_port(const struct vc_pci_function *f)
{
	return f->bus && f->bus->port;
}

int vc_pci_unplug(struct vc_pci_function *f)
{
	struct vc_pci_function *port = f->bus->port;
	struct vc_visit visit;
	int r;

	if (!port)
		return vc_fail(ENOTSUP, "device %s is not behind a pci-root-port: guests do not expect it to go", f->dev->type);
	if (!vc_dev_visit(f->pci->config.buses, &visit, port->dev))
		return vc_fail(ENODEV, "the port of device %s is being removed", f->dev->type);
	r = port->port_ops->attention(port->ctx);
	vc_dev_leave(f->pci->config.buses, &visit);
	return r;
}

/* The n-th function behind a port, kept there by a visit; NULL: there is none. */
static struct vc_pci_function *visit_behind(struct vc_pci_function *port, unsigned n, struct vc_visit *visit)
{
	struct vc_pci_function *f;

	pthread_mutex_lock(&port->pci->lock);
	f = port->child->functions[n];
	if (f && !vc_dev_visit(port->pci->config.buses, visit, f->dev))
		f = NULL;
	pthread_mutex_unlock(&port->pci->lock);
	return f;
}

void vc_pci_port_power(struct vc_pci_function *port, bool on)
{
	struct vc_pci *pci = port->pci;
	struct vc_visit visit;

	if (atomic_exchange(&port->slot_off, !on) == !on || on)
		return;
	for (unsigned n = 0; n < 8; n++) {
		struct vc_pci_function *f = visit_behind(port, n, &visit);
		uint32_t id;

		if (!f)
			continue;
		pci_function_ops.reset(f);
		id = f->dev->id;
		vc_dev_leave(pci->config.buses, &visit);
		if (pci->config.slot_off)
			pci->config.slot_off(pci->config.ctx, id);
	}
}
