/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The balloon as the program sees it. */
#include "virtio/balloon.h"

#include "vm/vm.h"

/* NULL with the error set. */
static struct vc_balloon *find_balloon(vcore_device *device, const char *call)
{
	const struct vc_dev *dev = (const struct vc_dev *)device;

	if (dev && !strcmp(dev->type, "virtio-balloon") && dev->frontend)
		return dev->frontend;
	vc_fail(EINVAL, "%s: the device is a %s: expected a virtio-balloon", call, dev ? dev->type : "NULL");
	return NULL;
}

uint64_t vc_vm_ballooned(struct vcore_vm *vm)
{
	uint64_t sum = 0;

	pthread_mutex_lock(&vm->buses.lock);
	for (const struct vc_dev *d = vm->buses.devices; d; d = d->next)
		if (!d->removing && d->frontend && !strcmp(d->type, "virtio-balloon"))
			sum += vc_balloon_actual(d->frontend);
	pthread_mutex_unlock(&vm->buses.lock);
	return sum;
}

int vcore_balloon_set_target(vcore_device *device, uint64_t bytes)
{
	struct vc_balloon *balloon = find_balloon(device, "vcore_balloon_set_target");

	return balloon ? vc_balloon_set_target(balloon, bytes) : -EINVAL;
}

int vcore_balloon_get_stats(vcore_device *device, struct vcore_balloon_stats *out)
{
	struct vc_balloon *balloon = find_balloon(device, "vcore_balloon_get_stats");
	struct vcore_balloon_stats stats;

	if (!balloon)
		return -EINVAL;
	if (!out || out->size < sizeof out->size)
		return vc_fail(EINVAL, "vcore_balloon_get_stats: stats with their size set are needed");
	vc_balloon_get_stats(balloon, &stats);
	return vc_struct_out(out, &stats, sizeof stats);
}

int vcore_balloon_reclaim(vcore_device *device)
{
	struct vc_balloon *balloon = find_balloon(device, "vcore_balloon_reclaim");

	return balloon ? vc_balloon_reclaim(balloon) : -EINVAL;
}
