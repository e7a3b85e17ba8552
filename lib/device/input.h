/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the host types and points, on its way to an input device: a queue of limited length. The device takes from it,
 * and owns one reference; it has locks of its own that come before the input's.
 */
#ifndef VC_DEVICE_INPUT_H
#define VC_DEVICE_INPUT_H

#include <virtcore/input.h>

#include "core/loop.h"

#define VC_INPUT_QUEUE 1024u /* events */

/* Codes first to last of a type. */
struct vc_input_dev_range {
	uint16_t type, first, last;
};

/* What a kind of device has. */
struct vc_input_dev_model {
	enum vcore_input_kind kind;
	const char *name;
	struct vc_input_dev_range ranges[5]; /* up to type 0 */
};
extern const struct vc_input_dev_model vc_input_dev_models[]; /* by enum vcore_input_kind */

struct vc_input_dev_ops {
	/* There is something to take. Any thread. */
	void (*wake)(void *ctx);
};

/* What a snapshot holds of it. */
struct vc_input_dev_state {
	uint32_t count, leds;
	struct vcore_input_event events[VC_INPUT_QUEUE];
};

int vc_input_dev_new(struct vc_loop *loop, enum vcore_input_kind kind, const struct vc_input_dev_ops *ops, void *ctx,
                     vcore_input **input);
/* The device goes, with its reference. On return no wake runs or will. NULL is allowed. */
void vc_input_dev_close(vcore_input *input);
/* A driver listens. False: what it has not taken is gone, the lights are off. */
void vc_input_dev_set_ready(vcore_input *input, bool ready);
/* The next event; false: there is none. */
bool vc_input_dev_take(vcore_input *input, struct vcore_input_event *event);
void vc_input_dev_set_led(vcore_input *input, uint32_t led, bool on);
void vc_input_dev_save(vcore_input *input, struct vc_input_dev_state *state);
/* -EINVAL: it cannot be so; nothing has changed then. */
int vc_input_dev_load(vcore_input *input, const struct vc_input_dev_state *state);

#endif
