/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Input device (5.8): keyboard, mouse and tablet. No chain is ever held: without an event it is popped again. */
#include "virtio/input.h"

#include <linux/input-event-codes.h>
#include <stdio.h>
#include <stdlib.h>

#include "chipset/dev_state.h"
#include "virtio/types.h"
#include "virtio/virtio.h"

enum { EVENTQ, STATUSQ, QUEUES, STATE_VERSION = 1, BUS_VIRTUAL = 6 };

/* Values of `select` (5.8.4) */
enum {
	SELECT_NAME = 0x01,
	SELECT_DEVIDS = 0x03,
	SELECT_EV_BITS = 0x11,
	SELECT_ABS_INFO = 0x12,
};

struct input_config {
	uint8_t select, subsel, size, reserved[5];
	uint8_t u[128];
};

struct input_state {
	uint32_t version;
	uint8_t select, subsel, pad[2];
	struct vc_input_dev_state input;
};

struct input_device {
	struct vc_virtio *v;
	const struct vc_input_dev_model *model;
	vcore_input *input;
	_Atomic uint8_t select, subsel;
};

vcore_input *vinput_input(void *frontend)
{
	return ((struct input_device *)frontend)->input;
}

/* ---- queues ---- */

/* An event comes. */
static void input_wake(void *ctx)
{
	vc_virtio_wake(((struct input_device *)ctx)->v, EVENTQ);
}

static const struct vc_input_dev_ops input_ops = {.wake = input_wake};

/* Without an event to give, wake() calls again; without a buffer, the driver does. */
static void give_events(struct input_device *device, struct vc_virtq *q)
{
	struct vcore_input_event event;
	struct vc_virtq_chain *chain;

	do {
		vc_virtq_notify_off(q);
		while (vc_virtq_pop(q, &chain) > 0) {
			if (chain->in_bytes < sizeof event) {
				vc_virtio_broken(device->v, "a buffer of %u bytes for an event: expected %zu or more", chain->in_bytes,
				                 sizeof event);
				vc_virtq_push(chain, 0);
				return;
			}
			if (!vc_input_dev_take(device->input, &event)) {
				vc_virtq_unpop(chain);
				vc_virtq_flush(q);
				return;
			}
			vc_virtq_push(chain, (uint32_t)vc_iov_from_buffer(chain->in, chain->in_count, 0, &event, sizeof event));
		}
		vc_virtq_flush(q);
	} while (vc_virtq_notify_on(q));
}

/* Of what the driver may say only lights mean something. */
static void take_status(struct input_device *device, struct vc_virtq *q)
{
	struct vcore_input_event event;
	struct vc_virtq_chain *chain;

	do {
		vc_virtq_notify_off(q);
		while (vc_virtq_pop(q, &chain) > 0) {
			if (vc_iov_to_buffer(chain->out, chain->out_count, 0, &event, sizeof event) == sizeof event &&
			    event.type == EV_LED && device->model->kind == VCORE_INPUT_KEYBOARD)
				vc_input_dev_set_led(device->input, event.code, event.value);
			vc_virtq_push(chain, 0);
		}
		vc_virtq_flush(q);
	} while (vc_virtq_notify_on(q));
}

static void input_notify(void *ctx, struct vc_virtq *q)
{
	if (vc_virtq_index(q) == EVENTQ)
		give_events(ctx, q);
	else
		take_status(ctx, q);
}

/* ---- configuration ---- */

/* The codes of a type; how many bytes. */
static uint8_t put_bits(const struct vc_input_dev_model *model, uint8_t type, uint8_t *bits)
{
	uint32_t size = 0;

	for (size_t i = 0; type && i < VC_ARRAY_SIZE(model->ranges); i++) {
		const struct vc_input_dev_range *range = &model->ranges[i];

		for (uint32_t code = range->first; range->type == type && code <= range->last; code++) {
			bits[code / 8] |= (uint8_t)(1u << code % 8);
			size = size > code / 8 + 1 ? size : code / 8 + 1;
		}
	}
	return (uint8_t)size;
}

static uint8_t put_name(const struct vc_input_dev_model *model, uint8_t *to)
{
	memcpy(to, model->name, strlen(model->name));
	return (uint8_t)strlen(model->name);
}

/* Bus, vendor, product, version. */
static uint8_t put_ids(const struct vc_input_dev_model *model, uint8_t *to)
{
	vc_st16(to, BUS_VIRTUAL);
	vc_st16(to + 4, (uint16_t)(model->kind + 1));
	vc_st16(to + 6, 1);
	return 8;
}

/* Least, most, fuzz, flat, resolution of an axis. */
static uint8_t put_axis(const struct vc_input_dev_model *model, uint8_t axis, uint8_t *to)
{
	if (model->kind != VCORE_INPUT_TABLET || axis > ABS_Y)
		return 0;
	vc_st32(to + 4, VCORE_TABLET_MAX);
	return 20;
}

static void fill_config(const struct input_device *device, struct input_config *config)
{
	const struct vc_input_dev_model *model = device->model;

	config->select = atomic_load(&device->select);
	config->subsel = atomic_load(&device->subsel);
	if (config->select == SELECT_EV_BITS)
		config->size = put_bits(model, config->subsel, config->u);
	else if (config->select == SELECT_ABS_INFO)
		config->size = put_axis(model, config->subsel, config->u);
	else if (config->select == SELECT_NAME && !config->subsel)
		config->size = put_name(model, config->u);
	else if (config->select == SELECT_DEVIDS && !config->subsel)
		config->size = put_ids(model, config->u);
}

static void input_config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
	struct input_config config = {0};

	fill_config(ctx, &config);
	memcpy(data, (const uint8_t *)&config + offset, length);
}

/* The driver writes what it wants to be told of. */
static void input_config_write(void *ctx, uint32_t offset, const void *data, uint32_t length)
{
	struct input_device *device = ctx;
	const uint8_t *bytes = data;

	for (uint32_t i = 0; i < length; i++) {
		if (offset + i == offsetof(struct input_config, select))
			atomic_store(&device->select, bytes[i]);
		else if (offset + i == offsetof(struct input_config, subsel))
			atomic_store(&device->subsel, bytes[i]);
	}
}

/* ---- the device ---- */

static void input_start(void *ctx)
{
	vc_input_dev_set_ready(((struct input_device *)ctx)->input, true);
}

static void input_reset(void *ctx)
{
	struct input_device *device = ctx;

	vc_input_dev_set_ready(device->input, false);
	atomic_store(&device->select, 0);
	atomic_store(&device->subsel, 0);
}

static int64_t input_save(void *ctx, void *buffer, size_t length)
{
	struct input_device *device = ctx;
	struct input_state state = {
	    .version = STATE_VERSION, .select = atomic_load(&device->select), .subsel = atomic_load(&device->subsel)};

	vc_input_dev_save(device->input, &state.input);
	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int input_load(void *ctx, const void *buffer, size_t length)
{
	struct input_device *device = ctx;
	struct input_state state;
	int r = vc_dev_state_in(device->model->name, STATE_VERSION, &state, sizeof state, buffer, length);

	if (r >= 0)
		r = vc_input_dev_load(device->input, &state.input);
	if (r < 0)
		return r;
	atomic_store(&device->select, state.select);
	atomic_store(&device->subsel, state.subsel);
	return 0;
}

static unsigned input_statistics(void *ctx, struct vc_stat stats[VC_STATS_MAX])
{
	struct vcore_input_info info = {.size = sizeof info};

	vcore_input_get_info(((struct input_device *)ctx)->input, &info);
	stats[0] = (struct vc_stat){"events", info.sent};
	stats[1] = (struct vc_stat){"leds", info.leds};
	return 2;
}

static void input_destroy(void *ctx)
{
	struct input_device *device = ctx;

	vc_input_dev_close(device->input);
	free(device);
}

#define INPUT_OPS(name)                                                                                               \
	{                                                                                                                 \
		.type = name, .id = VC_VIRTIO_INPUT, .pci_class = 0x098000, .config_size = sizeof(struct input_config),       \
		.in_order = true, .config_read = input_config_read, .config_write = input_config_write, .start = input_start, \
		.reset = input_reset, .notify = input_notify, .save = input_save, .load = input_load,                         \
		.statistics = input_statistics, .destroy = input_destroy,                                                     \
	}

static const struct vc_virtio_ops device_ops[] = {
    [VCORE_INPUT_KEYBOARD] = INPUT_OPS("virtio-keyboard"),
    [VCORE_INPUT_MOUSE] = INPUT_OPS("virtio-mouse"),
    [VCORE_INPUT_TABLET] = INPUT_OPS("virtio-tablet"),
};

static int input_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev, enum vcore_input_kind kind)
{
	static const uint16_t sizes[QUEUES] = {64, 64};
	struct input_device *device = calloc(1, sizeof *device);
	struct vc_virtio_config config = {.ops = &device_ops[kind], .ctx = device, .queues = QUEUES, .sizes = sizes};
	int r;

	if (!device)
		return vc_fail(ENOMEM, "no memory for a %s", device_ops[kind].type);
	device->model = &vc_input_dev_models[kind];
	r = vc_input_dev_new(env->loop, kind, &input_ops, device, &device->input);
	if (r < 0) {
		free(device);
		return r;
	}
	return vc_virtio_add(env, props, &config, &device->v, dev);
}

static int create_keyboard(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	return input_create(env, props, dev, VCORE_INPUT_KEYBOARD);
}

static int create_mouse(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	return input_create(env, props, dev, VCORE_INPUT_MOUSE);
}

static int create_tablet(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	return input_create(env, props, dev, VCORE_INPUT_TABLET);
}

const struct vc_device_type vc_virtio_keyboard_type = {
    .name = "virtio-keyboard",
    .summary = "keyboard on which the host types (send-key)",
    .properties = VC_VIRTIO_PROPERTIES,
    .create = create_keyboard,
};

const struct vc_device_type vc_virtio_mouse_type = {
    .name = "virtio-mouse",
    .summary = "mouse that the host moves (input-send-event)",
    .properties = VC_VIRTIO_PROPERTIES,
    .create = create_mouse,
};

const struct vc_device_type vc_virtio_tablet_type = {
    .name = "virtio-tablet",
    .summary = "pointer that the host puts anywhere on the screen (input-send-event)",
    .properties = VC_VIRTIO_PROPERTIES,
    .create = create_tablet,
};
