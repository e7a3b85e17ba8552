/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The driver's registers on the PCI transport. */
#include <stdio.h>
#include <stdlib.h>

#include "core/util.h"
#include "virtio_driver.h"

enum { VENDOR_CAP = 9, BAR = 0x10, COMMAND = 4, MEMORY_AND_MASTER = 6 };

/* Where the common configuration structure has what a register of the MMIO transport is. */
static const struct {
	uint32_t reg, at, width;
} fields[] = {
    {VDRV_DEVICE_FEATURES_SEL, 0, 4}, {VDRV_DEVICE_FEATURES, 4, 4},   {VDRV_DRIVER_FEATURES_SEL, 8, 4},
    {VDRV_DRIVER_FEATURES, 12, 4},    {VDRV_STATUS, 20, 1},           {VDRV_GENERATION, 21, 1},
    {VDRV_QUEUE_SEL, 22, 2},          {VDRV_QUEUE_SIZE_MAX, 24, 2},   {VDRV_QUEUE_SIZE, 24, 2},
    {VDRV_QUEUE_READY, 28, 2},        {VDRV_QUEUE_DESC, 32, 4},       {VDRV_QUEUE_DESC + 4, 36, 4},
    {VDRV_QUEUE_DRIVER, 40, 4},       {VDRV_QUEUE_DRIVER + 4, 44, 4}, {VDRV_QUEUE_DEVICE, 48, 4},
    {VDRV_QUEUE_DEVICE + 4, 52, 4},   {VDRV_QUEUE_RESET, 58, 2},
};

static uint32_t config32(struct vdrv *d, uint32_t offset)
{
	return (uint32_t)vc_pci_config_read(d->env->pci, 0, d->devfn, offset, 4);
}

static void take_capability(struct vdrv *d, uint32_t at)
{
	uint32_t offset = config32(d, at + 8);

	switch (config32(d, at) >> 24) {
	case 1:
		d->common = offset;
		break;
	case 2:
		d->notify = offset;
		d->notify_step = config32(d, at + 16);
		break;
	case 3:
		d->isr = offset;
		break;
	case 4:
		d->config = offset;
		break;
	}
}

bool vdrv_pci_attach(struct vdrv *d, struct vc_dev *dev)
{
	struct vc_pci_function *f = vc_pci_function_of(dev);
	struct vcore_pci_info info;

	if (!f)
		return false;
	vc_pci_get_info(f, &info);
	d->devfn = VC_PCI_DEVFN(info.device, info.function);
	if ((config32(d, 0) & 0xffff) != 0x1af4)
		return false;
	d->pci = true;
	d->base = (config32(d, BAR + 16) & ~15u) | (uint64_t)config32(d, BAR + 20) << 32;
	vc_pci_config_write(d->env->pci, 0, d->devfn, COMMAND, 2, MEMORY_AND_MASTER);
	for (uint32_t at = config32(d, 0x34) & 0xff; at; at = config32(d, at) >> 8 & 0xff)
		if ((config32(d, at) & 0xff) == VENDOR_CAP)
			take_capability(d, at);
	return true;
}

static uint64_t access_bar(struct vdrv *d, uint32_t at, unsigned width, bool write, uint64_t data)
{
	struct vcore_io io = {.size = sizeof io,
	                      .bus = VCORE_BUS_MMIO,
	                      .address = d->base + at,
	                      .width = width,
	                      .data = data,
	                      .is_write = write};

	if (!vc_bus_dispatch(d->env->buses, NULL, &io)) {
		fprintf(stderr, "virtio driver: nobody answers in the BAR\n");
		abort();
	}
	return io.data;
}

uint64_t vdrv_pci_access(struct vdrv *d, uint32_t reg, unsigned width, bool write, uint64_t data)
{
	if (reg >= VDRV_CONFIG)
		return access_bar(d, d->config + reg - VDRV_CONFIG, width, write, data);
	if (reg == VDRV_QUEUE_NOTIFY)
		return access_bar(d, d->notify + d->notify_step * (uint32_t)data, 2, true, data);
	if (reg == VDRV_ISR)
		return access_bar(d, d->isr, 1, false, 0);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(fields); i++)
		if (fields[i].reg == reg)
			return access_bar(d, d->common + fields[i].at, fields[i].width, write, data);
	return 0; /* reading the ISR has acknowledged it */
}
