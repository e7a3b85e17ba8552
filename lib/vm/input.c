/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Input devices as the program finds them. */
#include "virtio/input.h"

#include "device/device.h"
#include "vm/vm.h"

static const struct {
	const char *type;
	enum vcore_input_kind kind;
	vcore_input *(*input)(void *frontend);
} rows[] = {
    {"virtio-keyboard", VCORE_INPUT_KEYBOARD, vinput_input},
    {"virtio-mouse", VCORE_INPUT_MOUSE, vinput_input},
    {"virtio-tablet", VCORE_INPUT_TABLET, vinput_input},
};

/* Caller holds buses->lock. */
static vcore_input *input_of(const struct vc_dev *dev, enum vcore_input_kind kind)
{
	for (size_t i = 0; i < VC_ARRAY_SIZE(rows); i++)
		if (rows[i].kind == kind && dev->frontend && !strcmp(dev->type, rows[i].type))
			return rows[i].input(dev->frontend);
	return NULL;
}

int vcore_vm_find_input(vcore_vm *vm, enum vcore_input_kind kind, uint32_t index, vcore_input **out)
{
	vcore_input *found = NULL;
	uint32_t count = 0;

	if (!vm || !out || (uint32_t)kind > VCORE_INPUT_TABLET)
		return vc_fail(EINVAL, "vcore_vm_find_input: a vm, a kind from 0 to 2, and room for the input, are needed");
	pthread_mutex_lock(&vm->buses.lock);
	for (const struct vc_dev *dev = vm->buses.devices; dev && !found; dev = dev->next) {
		vcore_input *input = input_of(dev, kind);

		if (input && count++ == index)
			found = vcore_input_ref(input);
	}
	pthread_mutex_unlock(&vm->buses.lock);
	if (!found)
		return vc_fail(ENOENT, "there is no %s %u: the vm has %u", vc_input_dev_models[kind].name, index, count);
	*out = found;
	return 0;
}

int vcore_vm_send_ctrl_alt_del(vcore_vm *vm)
{
	struct vc_dev *dev;

	if (!vm)
		return vc_fail(EINVAL, "vcore_vm_send_ctrl_alt_del: no vm given");
	pthread_mutex_lock(&vm->buses.lock);
	for (dev = vm->buses.devices; dev && !(dev->fixed && !strcmp(dev->type, "i8042"));)
		dev = dev->next;
	pthread_mutex_unlock(&vm->buses.lock);
	/* a part of the machine type stays as long as the vm does */
	return dev ? vc_i8042_ctrl_alt_del(dev->ctx) : vc_fail(ENOENT, "the vm has no keyboard controller (i8042)");
}
