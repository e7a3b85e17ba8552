/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Displays as the program finds them. */
#include <virtcore/display.h>

#include "virtio/gpu.h"
#include "vm/vm.h"

/* Which devices have one. */
static const struct {
	const char *type;
	vcore_display *(*display)(void *frontend);
} cards[] = {{"virtio-gpu", vgpu_display}};

/* Caller holds buses->lock. */
static vcore_display *display_of(const struct vc_dev *dev)
{
	for (size_t i = 0; i < VC_ARRAY_SIZE(cards); i++)
		if (dev->frontend && !strcmp(dev->type, cards[i].type))
			return cards[i].display(dev->frontend);
	return NULL;
}

int vcore_vm_find_display(vcore_vm *vm, uint32_t index, vcore_display **out)
{
	vcore_display *found = NULL;
	uint32_t count = 0;

	if (!vm || !out)
		return vc_fail(EINVAL, "vcore_vm_find_display: a vm, and room for the display, are needed");
	pthread_mutex_lock(&vm->buses.lock);
	for (const struct vc_dev *dev = vm->buses.devices; dev && !found; dev = dev->next) {
		vcore_display *display = display_of(dev);

		if (display && count++ == index)
			found = vcore_display_ref(display);
	}
	pthread_mutex_unlock(&vm->buses.lock);
	if (!found)
		return vc_fail(ENOENT, "there is no display %u: the vm has %u", index, count);
	*out = found;
	return 0;
}
