/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The monitor's commands that type and point. */
#include <linux/input-event-codes.h>
#include <stdio.h>
#include <virtcore/input.h>

#include "vm/monitor.h"

enum { KINDS = VCORE_INPUT_TABLET + 1, KEYS_MAX = 16, EVENTS_MAX = 256 };

/* What goes to each kind of device. */
struct batch {
	uint32_t count;
	struct vcore_input_event events[EVENTS_MAX];
};

static void put(struct batch *batch, uint16_t type, uint16_t code, int32_t value)
{
	batch->events[batch->count++] = (struct vcore_input_event){type, code, value};
}

/* To the first device of that kind. */
static int send_batch(struct vcore_vm *vm, enum vcore_input_kind kind, struct batch *batch)
{
	vcore_input *input;
	int r;

	if (!batch->count)
		return 0;
	put(batch, EV_SYN, SYN_REPORT, 0);
	r = vcore_vm_find_input(vm, kind, 0, &input);
	if (r < 0)
		return r;
	r = vcore_input_send(input, batch->events, batch->count);
	vcore_input_unref(input);
	return r;
}

/* ---- JSON ---- */

static struct json_object *member(struct json_object *object, const char *name, enum json_type type)
{
	struct json_object *value;

	return json_object_is_type(object, json_type_object) && json_object_object_get_ex(object, name, &value) &&
	               json_object_is_type(value, type)
	           ? value
	           : NULL;
}

/* "name", or {"type": "qcode", "data": "name"}. The code, or an error. */
static int key_code(struct json_object *key)
{
	struct json_object *type = member(key, "type", json_type_string);
	struct json_object *data = member(key, "data", json_type_string);

	if (json_object_is_type(key, json_type_string))
		return vcore_input_code(json_object_get_string(key));
	if (!type || !data || strcmp(json_object_get_string(type), "qcode"))
		return vc_fail(EINVAL, "a key is %.80s: expected its name, or {\"type\":\"qcode\",\"data\":name}",
		               json_object_to_json_string_ext(key, JSON_C_TO_STRING_PLAIN));
	return vcore_input_code(json_object_get_string(data));
}

/* ---- send-key ---- */

/* All go down, then up, the last one first. */
static int send_key(struct vc_mon_call *call)
{
	struct json_object *keys = json_object_object_get(call->arguments, "keys");
	size_t count = json_object_array_length(keys);
	struct batch batch = {0};
	int codes[KEYS_MAX];

	if (!count || count > KEYS_MAX)
		return vc_fail(EINVAL, "send-key: %zu keys: expected 1 to %d", count, KEYS_MAX);
	for (size_t i = 0; i < count; i++) {
		codes[i] = key_code(json_object_array_get_idx(keys, i));
		if (codes[i] < 0)
			return codes[i];
		put(&batch, EV_KEY, (uint16_t)codes[i], 1);
		put(&batch, EV_SYN, SYN_REPORT, 0);
	}
	while (count-- > 0) {
		put(&batch, EV_KEY, (uint16_t)codes[count], 0);
		if (count)
			put(&batch, EV_SYN, SYN_REPORT, 0);
	}
	return send_batch(call->vm, VCORE_INPUT_KEYBOARD, &batch);
}

/* ---- input-send-event ---- */

/* One command while it runs; pointer: where buttons go. */
struct sending {
	struct batch batch[KINDS];
	enum vcore_input_kind pointer;
};

static int wrong(struct json_object *data, const char *expected)
{
	return vc_fail(EINVAL, "input-send-event: data %.80s: expected %s",
	               json_object_to_json_string_ext(data, JSON_C_TO_STRING_PLAIN), expected);
}

static int add_key(struct sending *s, struct json_object *data)
{
	struct json_object *down = member(data, "down", json_type_boolean), *key;
	int code;

	if (!down || !json_object_object_get_ex(data, "key", &key))
		return wrong(data, "{\"down\":bool,\"key\":key}");
	code = key_code(key);
	if (code >= 0)
		put(&s->batch[VCORE_INPUT_KEYBOARD], EV_KEY, (uint16_t)code, json_object_get_boolean(down));
	return code;
}

static int add_button(struct sending *s, struct json_object *data)
{
	struct json_object *down = member(data, "down", json_type_boolean);
	struct json_object *button = member(data, "button", json_type_string);
	char name[32];
	int code;

	if (!down || !button)
		return wrong(data, "{\"down\":bool,\"button\":name}");
	snprintf(name, sizeof name, "btn-%s", json_object_get_string(button));
	code = vcore_input_code(name);
	if (code >= 0)
		put(&s->batch[s->pointer], EV_KEY, (uint16_t)code, json_object_get_boolean(down));
	return code;
}

/* axes: names of the codes, in order; the value is checked when it is sent. */
static int add_axis(struct json_object *data, struct batch *batch, uint16_t type, const char *const *axes)
{
	struct json_object *axis = member(data, "axis", json_type_string), *value = member(data, "value", json_type_int);
	uint16_t code = 0;

	while (axis && axes[code] && strcmp(axes[code], json_object_get_string(axis)))
		code++;
	if (!axis || !value || !axes[code])
		return wrong(data, "{\"axis\":\"x\" or \"y\" (rel: or \"wheel\", \"hwheel\"),\"value\":number}");
	put(batch, type, code, json_object_get_int(value));
	return 0;
}

static int add_rel(struct sending *s, struct json_object *data)
{
	static const char *const axes[] = {
	    [REL_X] = "x", "y", "", "", "", "", [REL_HWHEEL] = "hwheel", "", [REL_WHEEL] = "wheel", NULL};

	return add_axis(data, &s->batch[VCORE_INPUT_MOUSE], EV_REL, axes);
}

static int add_abs(struct sending *s, struct json_object *data)
{
	static const char *const axes[] = {[ABS_X] = "x", [ABS_Y] = "y", NULL};

	return add_axis(data, &s->batch[VCORE_INPUT_TABLET], EV_ABS, axes);
}

static int add_event(struct sending *s, struct json_object *event)
{
	static const struct {
		const char *type;
		int (*add)(struct sending *s, struct json_object *data);
	} rows[] = {{"key", add_key}, {"btn", add_button}, {"rel", add_rel}, {"abs", add_abs}};
	struct json_object *type = member(event, "type", json_type_string), *data;

	for (size_t i = 0; type && i < VC_ARRAY_SIZE(rows); i++)
		if (!strcmp(json_object_get_string(type), rows[i].type) && json_object_object_get_ex(event, "data", &data))
			return rows[i].add(s, data);
	return vc_fail(EINVAL, "input-send-event: an event is %.80s: expected \"type\" key, btn, rel or abs, and \"data\"",
	               json_object_to_json_string_ext(event, JSON_C_TO_STRING_PLAIN));
}

/* Buttons are the tablet's where it is moved, or where there is no mouse. */
static enum vcore_input_kind find_pointer(struct vcore_vm *vm, struct json_object *events)
{
	vcore_input *mouse;

	for (size_t i = 0; i < json_object_array_length(events); i++) {
		struct json_object *type = member(json_object_array_get_idx(events, i), "type", json_type_string);

		if (type && !strcmp(json_object_get_string(type), "abs"))
			return VCORE_INPUT_TABLET;
	}
	if (vcore_vm_find_input(vm, VCORE_INPUT_MOUSE, 0, &mouse) < 0)
		return VCORE_INPUT_TABLET;
	vcore_input_unref(mouse);
	return VCORE_INPUT_MOUSE;
}

static int input_send_event(struct vc_mon_call *call)
{
	struct json_object *events = json_object_object_get(call->arguments, "events");
	size_t count = json_object_array_length(events);
	struct sending sending = {.pointer = find_pointer(call->vm, events)};
	int r = 0;

	if (count >= EVENTS_MAX)
		return vc_fail(EINVAL, "input-send-event: %zu events: expected less than %d", count, EVENTS_MAX);
	for (size_t i = 0; r >= 0 && i < count; i++)
		r = add_event(&sending, json_object_array_get_idx(events, i));
	for (unsigned kind = 0; r >= 0 && kind < KINDS; kind++)
		r = send_batch(call->vm, (enum vcore_input_kind)kind, &sending.batch[kind]);
	return r;
}

/* ---- query-inputs ---- */

static struct json_object *describe(vcore_input *input)
{
	static const char *const kinds[KINDS] = {
	    [VCORE_INPUT_KEYBOARD] = "keyboard", [VCORE_INPUT_MOUSE] = "mouse", [VCORE_INPUT_TABLET] = "tablet"};
	static const char *const lights[] = {[LED_NUML] = "num", [LED_CAPSL] = "caps", [LED_SCROLLL] = "scroll"};
	struct json_object *object = json_object_new_object(), *leds = json_object_new_array();
	struct vcore_input_info info = {.size = sizeof info};

	vcore_input_get_info(input, &info);
	vc_mon_add_string(object, "kind", kinds[info.kind]);
	vc_mon_add_bool(object, "ready", info.ready);
	vc_mon_add_number(object, "room", info.room);
	for (size_t i = 0; i < VC_ARRAY_SIZE(lights); i++)
		if (info.leds >> i & 1)
			vc_mon_append(leds, json_object_new_string(lights[i]));
	vc_mon_add(object, "leds", leds);
	return object;
}

static int query_inputs(struct vc_mon_call *call)
{
	vcore_input *input;

	call->result = json_object_new_array();
	for (unsigned kind = 0; kind < KINDS; kind++) {
		for (uint32_t i = 0; vcore_vm_find_input(call->vm, (enum vcore_input_kind)kind, i, &input) >= 0; i++) {
			vc_mon_append(call->result, describe(input));
			vcore_input_unref(input);
		}
	}
	return 0;
}

static const struct vc_mon_arg key_args[] = {
    {"keys", VC_MON_ARRAY, true, 0, "names as QMP has them, pressed together: ctrl,alt,delete"}, {0}};
static const struct vc_mon_arg event_args[] = {
    {"events", VC_MON_ARRAY, true, 0,
     "as QMP has them: {\"type\":\"key\",\"data\":{\"down\":true,\"key\":...}}, btn, rel, abs"},
    {0}};

const struct vc_mon_command vc_mon_input_commands[] = {
    {"query-inputs", "keyboards, mice and tablets, whether the guest listens, and their lights", NULL, query_inputs},
    {"send-key", "type a key, or several at once, on the keyboard", key_args, send_key},
    {"input-send-event", "events of keys, buttons, a mouse and a tablet", event_args, input_send_event},
    {0},
};
