/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file Network cards at run time. `microvm --device virtio-net,help` lists their properties; <virtcore/switch.h> has
 * the switch.
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

/**
 * Another address for a virtio-net, such as after vcore_vm_reset_to() made the vm one of several that are the same.
 *
 * The guest is told that the configuration has changed, where the new address stands from then on. What it makes of it
 * is its own: a driver that looks at the address again takes it at once; Linux's and most others read it when they are
 * bound to the device. Until then the guest goes on with the address it has, and what is sent to that still arrives. So
 * in a Linux guest that runs: `ip link set eth0 down; cd /sys/bus/virtio/drivers/virtio_net; echo virtio0 >unbind; echo
 * virtio0 >bind`; or `ip link set eth0 address ...`, if it knows it otherwise. A snapshot taken before that does not
 * know the new one.
 *
 * @param mac six bytes, of one station (bit 0 of the first is clear); NULL: a random one, locally administered
 * @return 0; -EINVAL the device is no virtio-net, or the address one of many stations
 */
VCORE_API int vcore_net_set_mac(vcore_device *device, const uint8_t *mac);

/** The same of all virtio-nets of a vm, with random addresses. One that runs is held meanwhile. @return how many there
 *  are; -EINVAL no vm; -EBUSY, -EDEADLK as vcore_snapshot_take() */
VCORE_API int vcore_net_new_macs(vcore_vm *vm);

/** @return 0; -EINVAL when the device is no network card or stats->size is not set */
VCORE_API int vcore_net_get_stats(vcore_device *device, struct vcore_net_stats *stats);

VCORE_END_DECLS
#endif
