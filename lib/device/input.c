/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "device/input.h"

#include <linux/input-event-codes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/error.h"
#include "core/notice.h"
#include "core/util.h"

struct vcore_input {
	_Atomic uint32_t refs;
	const struct vc_input_dev_model *model;
	struct vc_notice notice;
	pthread_mutex_t device;             /* held during wake; protects ops and ctx. Before the device's locks */
	const struct vc_input_dev_ops *ops; /* NULL: the device is gone */
	void *ctx;
	pthread_mutex_t lock; /* protects all below. After the device's locks */
	bool ready;
	uint32_t leds;
	uint32_t first, count; /* of the events that wait */
	uint64_t sent;
	struct vcore_input_event events[VC_INPUT_QUEUE];
};

#define BUTTONS                     \
	{                               \
		EV_KEY, BTN_LEFT, BTN_EXTRA \
	}
#define WHEELS                        \
	{EV_REL, REL_HWHEEL, REL_HWHEEL}, \
	{                                 \
		EV_REL, REL_WHEEL, REL_WHEEL  \
	}

const struct vc_input_dev_model vc_input_dev_models[] = {
    {VCORE_INPUT_KEYBOARD,
     "virtcore keyboard",
     {{EV_KEY, KEY_ESC, KEY_MICMUTE}, {EV_LED, LED_NUML, LED_SCROLLL}, {EV_REP, REP_DELAY, REP_PERIOD}}},
    {VCORE_INPUT_MOUSE, "virtcore mouse", {BUTTONS, {EV_REL, REL_X, REL_Y}, WHEELS}},
    {VCORE_INPUT_TABLET, "virtcore tablet", {BUTTONS, {EV_ABS, ABS_X, ABS_Y}, WHEELS}},
};

static void deliver(void *owner)
{
	vcore_input *input = vcore_input_ref(owner);
	vc_notice_fn fn;
	uint32_t leds;
	void *ctx;

	if (vc_notice_begin(&input->notice, &fn, &ctx)) {
		pthread_mutex_lock(&input->lock);
		leds = input->leds;
		pthread_mutex_unlock(&input->lock);
		((vcore_input_fn)fn)(ctx, input, leds);
		vc_notice_end(&input->notice);
	}
	vcore_input_unref(input);
}

void vcore_input_set_callback(vcore_input *input, vcore_input_fn fn, void *ctx)
{
	vc_notice_set(&input->notice, (vc_notice_fn)fn, ctx);
}

/* ---- for the device ---- */

int vc_input_dev_new(struct vc_loop *loop, enum vcore_input_kind kind, const struct vc_input_dev_ops *ops, void *ctx,
                     vcore_input **out)
{
	vcore_input *input = calloc(1, sizeof *input);

	if (!input)
		return vc_fail(ENOMEM, "no memory for a %s", vc_input_dev_models[kind].name);
	atomic_store(&input->refs, 1);
	input->model = &vc_input_dev_models[kind];
	input->ops = ops;
	input->ctx = ctx;
	pthread_mutex_init(&input->device, NULL);
	pthread_mutex_init(&input->lock, NULL);
	vc_notice_init(&input->notice, loop, deliver, input);
	*out = input;
	return 0;
}

void vc_input_dev_close(vcore_input *input)
{
	if (!input)
		return;
	pthread_mutex_lock(&input->device);
	input->ops = NULL;
	pthread_mutex_unlock(&input->device);
	vc_notice_close(&input->notice);
	vc_input_dev_set_ready(input, false);
	vcore_input_unref(input);
}

void vc_input_dev_set_ready(vcore_input *input, bool ready)
{
	bool dark;

	pthread_mutex_lock(&input->lock);
	dark = !ready && input->leds;
	input->ready = ready;
	if (!ready)
		input->count = input->leds = 0;
	pthread_mutex_unlock(&input->lock);
	if (dark)
		vc_notice_raise(&input->notice);
}

bool vc_input_dev_take(vcore_input *input, struct vcore_input_event *event)
{
	bool any;

	pthread_mutex_lock(&input->lock);
	any = input->count;
	if (any) {
		*event = input->events[input->first];
		input->first = (input->first + 1) % VC_INPUT_QUEUE;
		input->count--;
		input->sent++;
	}
	pthread_mutex_unlock(&input->lock);
	return any;
}

void vc_input_dev_set_led(vcore_input *input, uint32_t led, bool on)
{
	uint32_t before, after;

	if (led > LED_SCROLLL)
		return;
	pthread_mutex_lock(&input->lock);
	before = input->leds;
	after = input->leds = on ? before | 1u << led : before & ~(1u << led);
	pthread_mutex_unlock(&input->lock);
	if (after != before)
		vc_notice_raise(&input->notice);
}

/* ---- events ---- */

static bool has_code(const struct vc_input_dev_model *model, uint16_t type, uint16_t code)
{
	for (size_t i = 0; i < VC_ARRAY_SIZE(model->ranges) && model->ranges[i].type; i++)
		if (model->ranges[i].type == type && code >= model->ranges[i].first && code <= model->ranges[i].last)
			return true;
	return false;
}

/* May the host send that? */
static bool is_event(const struct vc_input_dev_model *model, const struct vcore_input_event *e)
{
	switch (e->type) {
	case EV_SYN:
		return e->code == SYN_REPORT && !e->value;
	case EV_KEY:
		return has_code(model, EV_KEY, e->code) && (e->value == 0 || e->value == 1);
	case EV_REL:
		return has_code(model, EV_REL, e->code);
	case EV_ABS:
		return has_code(model, EV_ABS, e->code) && e->value >= 0 && e->value <= VCORE_TABLET_MAX;
	default:
		return false;
	}
}

void vc_input_dev_save(vcore_input *input, struct vc_input_dev_state *state)
{
	*state = (struct vc_input_dev_state){0};
	pthread_mutex_lock(&input->lock);
	state->count = input->count;
	state->leds = input->leds;
	for (uint32_t i = 0; i < input->count; i++)
		state->events[i] = input->events[(input->first + i) % VC_INPUT_QUEUE];
	pthread_mutex_unlock(&input->lock);
}

int vc_input_dev_load(vcore_input *input, const struct vc_input_dev_state *state)
{
	bool good = state->count <= VC_INPUT_QUEUE && !(state->leds >> (LED_SCROLLL + 1));

	for (uint32_t i = 0; good && i < state->count; i++)
		good = is_event(input->model, &state->events[i]);
	if (!good)
		return vc_fail(EINVAL, "the saved state of a %s holds what it cannot be in", input->model->name);
	pthread_mutex_lock(&input->lock);
	input->first = 0;
	input->count = state->count;
	input->leds = state->leds;
	memcpy(input->events, state->events, sizeof input->events);
	pthread_mutex_unlock(&input->lock);
	vc_notice_raise(&input->notice);
	return 0;
}

/* ---- for the program ---- */

vcore_input *vcore_input_ref(vcore_input *input)
{
	atomic_fetch_add(&input->refs, 1);
	return input;
}

void vcore_input_unref(vcore_input *input)
{
	if (!input || atomic_fetch_sub(&input->refs, 1) != 1)
		return;
	vc_notice_fini(&input->notice);
	pthread_mutex_destroy(&input->lock);
	pthread_mutex_destroy(&input->device);
	free(input);
}

int vcore_input_get_info(vcore_input *input, struct vcore_input_info *out)
{
	struct vcore_input_info info = {0};

	if (!input || !out || out->size < sizeof out->size)
		return vc_fail(EINVAL, "vcore_input_get_info: an input, and an info with its size set, are needed");
	pthread_mutex_lock(&input->lock);
	info.kind = input->model->kind;
	info.ready = input->ready;
	info.room = input->ready ? VC_INPUT_QUEUE - input->count : 0;
	info.leds = input->leds;
	info.sent = input->sent;
	pthread_mutex_unlock(&input->lock);
	return vc_struct_out(out, &info, sizeof info);
}

static int enqueue(vcore_input *input, const struct vcore_input_event *events, uint32_t count)
{
	int r = 0;

	pthread_mutex_lock(&input->lock);
	if (!input->ready) {
		r = vc_fail(ENOTCONN, "%s: no driver of the guest's listens", input->model->name);
	} else if (count > VC_INPUT_QUEUE - input->count) {
		r = vc_fail(EAGAIN, "%s: the guest does not take its events: room for %u more, there are %u",
		            input->model->name, VC_INPUT_QUEUE - input->count, count);
	} else {
		for (uint32_t i = 0; i < count; i++)
			input->events[(input->first + input->count++) % VC_INPUT_QUEUE] = events[i];
	}
	pthread_mutex_unlock(&input->lock);
	return r;
}

int vcore_input_send(vcore_input *input, const struct vcore_input_event *events, uint32_t count)
{
	int r;

	if (!input || (count && !events) || count > VC_INPUT_QUEUE)
		return vc_fail(EINVAL, "vcore_input_send: an input and at most %u events are needed", VC_INPUT_QUEUE);
	for (uint32_t i = 0; i < count; i++)
		if (!is_event(input->model, &events[i]))
			return vc_fail(EINVAL, "%s: it has no event of type %u, code %u, value %d", input->model->name,
			               events[i].type, events[i].code, events[i].value);
	pthread_mutex_lock(&input->device);
	r = input->ops ? enqueue(input, events, count) : vc_fail(ENODEV, "the %s is gone", input->model->name);
	if (r >= 0)
		input->ops->wake(input->ctx);
	pthread_mutex_unlock(&input->device);
	return r;
}

int vcore_input_key(vcore_input *input, uint16_t code, bool down)
{
	const struct vcore_input_event events[] = {{EV_KEY, code, down}, {EV_SYN, SYN_REPORT, 0}};

	return vcore_input_send(input, events, VC_ARRAY_SIZE(events));
}

int vcore_input_move(vcore_input *input, int32_t dx, int32_t dy)
{
	const struct vcore_input_event events[] = {{EV_REL, REL_X, dx}, {EV_REL, REL_Y, dy}, {EV_SYN, SYN_REPORT, 0}};

	return vcore_input_send(input, events, VC_ARRAY_SIZE(events));
}

int vcore_input_move_to(vcore_input *input, int32_t x, int32_t y)
{
	const struct vcore_input_event events[] = {{EV_ABS, ABS_X, x}, {EV_ABS, ABS_Y, y}, {EV_SYN, SYN_REPORT, 0}};

	return vcore_input_send(input, events, VC_ARRAY_SIZE(events));
}
