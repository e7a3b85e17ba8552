/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A device becomes what it is, by way of its saved state. */
#ifndef FUZZ_SAVED_H
#define FUZZ_SAVED_H

#include <stdlib.h>

#include "bus/bus.h"

static inline void save_and_load(struct vc_dev *dev)
{
	int64_t size = dev->ops.save(dev->ctx, NULL, 0);
	uint8_t *state;

	if (size < 0)
		return;
	state = malloc((size_t)size);
	if (!state || dev->ops.save(dev->ctx, state, (size_t)size) != size)
		abort();
	dev->ops.load(dev->ctx, state, (size_t)size);
	free(state);
}

#endif
