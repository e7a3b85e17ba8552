/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VC_VIRTIO_INPUT_H
#define VC_VIRTIO_INPUT_H

#include "device/input.h"

/* For lib/vm: of a device's frontend; the device's own reference. */
vcore_input *vinput_input(void *frontend);

#endif
