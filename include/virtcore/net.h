/* SPDX-License-Identifier: LGPL-2.1-or-later */
/** @file Network cards at run time. `microvm --device help` lists their properties; <virtcore/switch.h> has the switch.
 */
#ifndef VIRTCORE_NET_H
#define VIRTCORE_NET_H

#include <virtcore/types.h>

VCORE_BEGIN_DECLS

/** Counted where the card meets its network: tx from the guest, rx to it. */
struct vcore_net_stats {
	uint32_t size;
	uint32_t link; /**< 1: there is a carrier, and the cable is in */
	uint64_t tx_frames, tx_bytes;
	uint64_t tx_dropped; /**< the network did not take them, or they were malformed */
	uint64_t rx_frames, rx_bytes;
	uint64_t rx_dropped; /**< the guest had no room, or its driver is not there */
};

/** Pull the cable out of a network card, or put it in again; the guest is told. Initially it is in.
 *  @return 0; -EINVAL when the device is no network card */
VCORE_API int vcore_net_set_link(vcore_device *device, bool up);

/** @return 0; -EINVAL when the device is no network card or stats->size is not set */
VCORE_API int vcore_net_get_stats(vcore_device *device, struct vcore_net_stats *stats);

VCORE_END_DECLS
#endif
