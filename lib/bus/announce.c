/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is known of devices besides their regions: by the guest where no bus can enumerate them, and by lib/vm. */
#include "bus/irq.h"

#include "bus/bus.h"
#include "core/error.h"
#include "core/util.h"

/* GSIs that nothing on a PC has, best ones first: beyond PCI's, then ISA's free ones. */
static const uint8_t free_gsis[] = {20, 21, 22, 23, 5, 6, 7, 10, 11, 13, 14, 15};

/* Caller holds the lock. */
static bool gsi_taken(const struct vc_buses *buses, uint32_t gsi)
{
	for (const struct vc_dev *d = buses->devices; d; d = d->next)
		if (d->gsi == gsi)
			return true;
	return false;
}

int vc_dev_take_gsi(struct vc_buses *buses, struct vc_dev *dev, uint32_t wanted)
{
	uint32_t gsi = wanted;

	pthread_mutex_lock(&buses->lock);
	for (unsigned i = 0; !gsi && i < VC_ARRAY_SIZE(free_gsis); i++)
		gsi = gsi_taken(buses, free_gsis[i]) ? 0 : free_gsis[i];
	if (gsi && !gsi_taken(buses, gsi))
		dev->gsi = gsi;
	pthread_mutex_unlock(&buses->lock);
	if (!gsi)
		return vc_fail(ENOSPC, "device %s: no interrupt line is free", dev->type);
	return dev->gsi ? (int)gsi : vc_fail(EEXIST, "device %s: interrupt line %u is taken", dev->type, gsi);
}

void vc_dev_announce(struct vc_buses *buses, struct vc_dev *dev, const char *hid, enum vcore_bus bus, uint64_t base,
                     uint64_t length)
{
	pthread_mutex_lock(&buses->lock);
	dev->bus = bus;
	dev->base = base;
	dev->length = length;
	dev->hid = hid;
	pthread_mutex_unlock(&buses->lock);
}

void vc_dev_set_frontend(struct vc_buses *buses, struct vc_dev *dev, void *frontend,
                         unsigned (*statistics)(void *frontend, struct vc_stat stats[VC_STATS_MAX]))
{
	pthread_mutex_lock(&buses->lock);
	dev->frontend = frontend;
	dev->statistics = statistics;
	pthread_mutex_unlock(&buses->lock);
}
