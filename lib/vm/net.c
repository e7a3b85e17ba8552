/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Switches and network cards as the program sees them. */
#include <virtcore/net.h>
#include <virtcore/switch.h>

#include "virtio/net.h"
#include "vm/snapshot.h"

int vcore_vm_add_switch(vcore_vm *vm, const char *name, vcore_switch *sw)
{
	vcore_switch *made = NULL;
	int r;

	if (!vm || !name || !*name)
		return vc_fail(EINVAL, "vcore_vm_add_switch: a vm and a name are needed");
	if (!sw) {
		r = vcore_switch_new(&made);
		if (r < 0)
			return r;
		sw = made;
	}
	r = vc_switch_names_add(&vm->switches, name, sw);
	vcore_switch_unref(made);
	return r;
}

/* NULL with the error set. */
static struct vc_net *find_net(vcore_device *device, const char *call)
{
	static const struct {
		const char *type;
		struct vc_net *(*backing)(void *frontend);
	} cards[] = {{"virtio-net", vnet_backing}};
	const struct vc_dev *dev = (const struct vc_dev *)device;

	for (size_t i = 0; dev && i < VC_ARRAY_SIZE(cards); i++)
		if (!strcmp(dev->type, cards[i].type) && dev->frontend)
			return cards[i].backing(dev->frontend);
	vc_fail(EINVAL, "%s: the device is a %s: expected a network card", call, dev ? dev->type : "NULL");
	return NULL;
}

int vcore_net_set_link(vcore_device *device, bool up)
{
	struct vc_net *net = find_net(device, "vcore_net_set_link");

	if (!net)
		return -EINVAL;
	vc_net_set_link(net, up);
	return 0;
}

int vcore_net_get_stats(vcore_device *device, struct vcore_net_stats *out)
{
	struct vc_net *net = find_net(device, "vcore_net_get_stats");
	struct vcore_net_stats stats = {.size = sizeof stats};
	struct vc_net_counters c;

	if (!net)
		return -EINVAL;
	if (!out || out->size < sizeof out->size)
		return vc_fail(EINVAL, "vcore_net_get_stats: stats with their size set are needed");
	vc_net_get_counters(net, &c);
	stats.link = vc_net_link(net);
	stats.tx_frames = c.tx_frames;
	stats.tx_bytes = c.tx_bytes;
	stats.tx_dropped = c.tx_dropped;
	stats.rx_frames = c.rx_frames;
	stats.rx_bytes = c.rx_bytes;
	stats.rx_dropped = c.rx_dropped;
	return vc_struct_out(out, &stats, sizeof stats);
}

static bool has_mac(const struct vc_dev *dev)
{
	return dev->frontend && !strcmp(dev->type, "virtio-net");
}

int vcore_net_set_mac(vcore_device *device, const uint8_t *mac)
{
	const struct vc_dev *dev = (const struct vc_dev *)device;

	if (!dev || !has_mac(dev))
		return vc_fail(EINVAL, "vcore_net_set_mac: the device is a %s: expected a virtio-net",
		               dev ? dev->type : "NULL");
	return vnet_set_mac(dev->frontend, mac);
}

int vc_vm_new_macs(struct vcore_vm *vm)
{
	int count = 0, r = 0;

	for (struct vc_dev *d = vm->buses.devices; r >= 0 && d; d = d->next) {
		if (!has_mac(d))
			continue;
		r = vnet_set_mac(d->frontend, NULL);
		count++;
	}
	return r < 0 ? r : count;
}

int vcore_net_new_macs(vcore_vm *vm)
{
	struct vc_still still;
	int r;

	if (!vm)
		return vc_fail(EINVAL, "vcore_net_new_macs: no vm given");
	r = vc_still_begin(vm, "vcore_net_new_macs", false, &still);
	if (r < 0)
		return r;
	r = vc_vm_new_macs(vm);
	vc_still_end(&still);
	return r;
}
