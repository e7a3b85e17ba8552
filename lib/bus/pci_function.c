/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The device that a PCI function is. */
#include <stdlib.h>

#include "bus/pci_priv.h"
#include "core/error.h"
#include "core/util.h"

#define VECTOR_MASKED 1u

static void function_read(void *ctx, struct vcore_io *io)
{
	struct vc_pci_function *f = ctx;
	int bar = pci_bar_find(f, io);

	if (bar < 0)
		return;
	if (pci_msix_has(f, (unsigned)bar, io))
		pci_msix_read(f, (unsigned)bar, io);
	else if (f->ops.read)
		f->ops.read(f->ctx, (uint32_t)bar, io);
}

static void function_write(void *ctx, struct vcore_io *io)
{
	struct vc_pci_function *f = ctx;
	int bar = pci_bar_find(f, io);

	if (bar < 0)
		return;
	if (pci_msix_has(f, (unsigned)bar, io))
		pci_msix_write(f, (unsigned)bar, io);
	else if (f->ops.write)
		f->ops.write(f->ctx, (uint32_t)bar, io);
}

void pci_function_to_initial(struct vc_pci_function *f)
{
	memcpy(f->config, f->initial, sizeof f->config);
	f->intx = false;
	for (uint32_t i = 0; i < f->vectors; i++)
		f->table[i] = (struct pci_vector){.control = VECTOR_MASKED};
	for (uint32_t i = 0; i < (f->vectors + 63) / 64; i++)
		f->pending[i] = 0;
}

static void function_reset(void *ctx)
{
	struct vc_pci_function *f = ctx;

	pthread_mutex_lock(&f->lock);
	pci_function_to_initial(f);
	pci_line_update(f);
	pthread_mutex_unlock(&f->lock);
	vc_pci_irq_flush(f);
	pci_bars_sync(f->pci);
	if (f->ops.reset)
		f->ops.reset(f->ctx);
}

static void function_destroy(void *ctx)
{
	struct vc_pci_function *f = ctx;

	pci_forget(f->pci, f);
	/* until this returns the device may still ask for interrupts */
	if (f->ops.destroy)
		f->ops.destroy(f->ctx);
	pci_leave_iommu(f);
	/* the lock also waits for a configuration access that found f before it was taken out */
	vc_pci_irq_set(f, false);
	vc_pci_irq_flush(f);
	pthread_mutex_destroy(&f->lock);
	free(f->child);
	free(f->table);
	free(f->pending);
	vc_pages_free(f, sizeof *f);
}

const struct vcore_device_ops pci_function_ops = {
    .size = sizeof pci_function_ops,
    .read = function_read,
    .write = function_write,
    .reset = function_reset,
    .save = pci_function_save,
    .load = pci_function_load,
    .destroy = function_destroy,
};

struct vc_pci_function *vc_pci_function_of(const struct vc_dev *dev)
{
	return dev && dev->ops.destroy == function_destroy ? dev->ctx : NULL;
}

void vc_pci_own_config(struct vc_pci_function *f, uint32_t offset, void *data, uint32_t length)
{
	pthread_mutex_lock(&f->lock);
	memcpy(data, f->config + offset, length);
	pthread_mutex_unlock(&f->lock);
}

/* As the guest numbers it now. */
static uint32_t bus_number(struct vc_pci_function *f)
{
	struct vc_pci_function *port = f->bus ? f->bus->port : NULL;
	uint32_t number = 0;

	if (port) {
		pthread_mutex_lock(&port->lock);
		number = port->config[PCI_SECONDARY_BUS];
		pthread_mutex_unlock(&port->lock);
	}
	return number;
}

void vc_pci_get_info(struct vc_pci_function *f, struct vcore_pci_info *info)
{
	*info = (struct vcore_pci_info){
	    .size = sizeof *info,
	    .bus = bus_number(f),
	    .device = f->devfn >> 3,
	    .function = f->devfn & 7,
	    .gsi = f->pci->config.gsi + f->line,
	};
	pthread_mutex_lock(&f->lock);
	info->command = vc_ld16(f->config + PCI_COMMAND);
	info->msi = pci_msix_enabled(f) ? 2 : pci_msi_enabled(f);
	pthread_mutex_unlock(&f->lock);
	info->slot_off = f->bus && f->bus->port && atomic_load(&f->bus->port->slot_off);
	for (unsigned i = 0; i < VCORE_PCI_BARS; i++)
		info->bars[i] = f->bars[i].size ? atomic_load(&f->bars[i].mapped) : PCI_UNMAPPED;
}
