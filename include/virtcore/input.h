/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file Keyboards, mice and tablets of a guest: devices "virtio-keyboard", "virtio-mouse" and "virtio-tablet". Types,
 * codes and values of events are Linux' (<linux/input-event-codes.h>): EV_KEY with KEY_* and BTN_* and the values 0
 * (up), 1 (down), EV_REL with REL_*, EV_ABS with ABS_X and ABS_Y from 0 to VCORE_TABLET_MAX, EV_SYN with SYN_REPORT
 * after what belongs together.
 */
#ifndef VIRTCORE_INPUT_H
#define VIRTCORE_INPUT_H

#include <virtcore/types.h>

VCORE_BEGIN_DECLS

/** An input device. Reference-counted: it may outlive its device and the vm, and takes nothing then. */
typedef struct vcore_input vcore_input;

enum vcore_input_kind {
	VCORE_INPUT_KEYBOARD = 0, /**< keys up to KEY_MICMUTE; lights */
	VCORE_INPUT_MOUSE = 1,    /**< REL_X, REL_Y, REL_WHEEL, REL_HWHEEL, BTN_LEFT to BTN_EXTRA */
	VCORE_INPUT_TABLET = 2,   /**< ABS_X, ABS_Y, REL_WHEEL, REL_HWHEEL, BTN_LEFT to BTN_EXTRA */
};

enum {
	VCORE_TABLET_MAX = 32767, /**< right and bottom of a tablet */
};

struct vcore_input_event {
	uint16_t type;
	uint16_t code;
	int32_t value;
};

struct vcore_input_info {
	uint32_t size;
	uint32_t kind;  /**< enum vcore_input_kind */
	uint32_t ready; /**< 1: a driver of the guest's listens */
	uint32_t room;  /**< events that would be taken now */
	uint32_t leds;  /**< bit n: light n is on (LED_NUML, LED_CAPSL, LED_SCROLLL) */
	uint32_t pad;
	uint64_t sent; /**< events that the guest's driver was given */
};

/**
 * The n-th input device of a kind, in the order in which they were added.
 * @param input out; a reference, to be given back
 * @return 0; -ENOENT when there are not so many
 */
VCORE_API int vcore_vm_find_input(vcore_vm *vm, enum vcore_input_kind kind, uint32_t index, vcore_input **input);
/** Take one more reference. @return input */
VCORE_API vcore_input *vcore_input_ref(vcore_input *input);
/** Give a reference back. NULL is allowed. */
VCORE_API void vcore_input_unref(vcore_input *input);

/** @return 0; -EINVAL when info->size is not set */
VCORE_API int vcore_input_get_info(vcore_input *input, struct vcore_input_info *info);

/**
 * Send events, all or none. They wait until the guest takes them, in a queue of limited length.
 * @return 0; -EAGAIN the guest takes nothing at the moment and there is no room: try later; -EINVAL an event that the
 *         device has not, by type and code; -ENOTCONN no driver of the guest's listens; -ENODEV the device is gone
 */
VCORE_API int vcore_input_send(vcore_input *input, const struct vcore_input_event *events, uint32_t count);

/** A key or button goes down or up, with the SYN_REPORT. Errors as vcore_input_send(). */
VCORE_API int vcore_input_key(vcore_input *input, uint16_t code, bool down);
/** A mouse moves, with the SYN_REPORT. Errors as vcore_input_send(). */
VCORE_API int vcore_input_move(vcore_input *input, int32_t dx, int32_t dy);
/** A tablet's pen is there, 0 to VCORE_TABLET_MAX, with the SYN_REPORT. Errors as vcore_input_send(). */
VCORE_API int vcore_input_move_to(vcore_input *input, int32_t x, int32_t y);

/** The code of a key by the name that QMP has for it ("a", "ret", "ctrl", "f1", ...) or of a button ("left", "middle",
 *  "right", "side", "extra") prefixed by "btn-". @return the code; -ENOENT unknown */
VCORE_API int vcore_input_code(const char *name);

/**
 * Press Ctrl, Alt and Delete, and let them go, on the keyboard behind the machine type's keyboard controller (device
 * "i8042"): Linux restarts, or tells init.
 * @return 0; -ENOENT the vm has no such controller; -EAGAIN the guest has not taken what was typed before; -EINVAL no
 * vm
 */
VCORE_API int vcore_vm_send_ctrl_alt_del(vcore_vm *vm);

/** leds: as in vcore_input_info. */
typedef void (*vcore_input_fn)(void *ctx, vcore_input *input, uint32_t leds);

/**
 * Have a callback called when the guest switches lights, on the vm's loop (its thread, or inside vcore_vm_loop_run()),
 * with no lock held. It replaces the callback before; NULL: none. Returns once the one before does not run any more,
 * unless called from it.
 */
VCORE_API void vcore_input_set_callback(vcore_input *input, vcore_input_fn fn, void *ctx);

VCORE_END_DECLS
#endif
