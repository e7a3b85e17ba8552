/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file What a guest shows: the picture of a display device such as "virtio-gpu", which the program may copy out at any
 * time, be told of, and save to a file. One display a device.
 *
 * The picture is what the guest has flushed, in one format whatever the guest uses. A mouse pointer that the guest has
 * the device draw is not in it: see vcore_display_get_cursor().
 */
#ifndef VIRTCORE_DISPLAY_H
#define VIRTCORE_DISPLAY_H

#include <virtcore/types.h>

VCORE_BEGIN_DECLS

/** A display. Reference-counted: it may outlive its device and the vm, and shows nothing then. */
typedef struct vcore_display vcore_display;

/** Format of a pixel. */
enum vcore_pixel {
	VCORE_PIXEL_XRGB8888 = 0, /**< 4 bytes: blue, green, red, 0xff */
};

/** Format of a file. */
enum vcore_picture {
	VCORE_PICTURE_PPM = 0, /**< binary, P6 */
	VCORE_PICTURE_PNG = 1, /**< needs a library built with zlib */
};

enum {
	VCORE_DISPLAY_MIN = 32,   /**< pixels: the least width and height that can be asked for */
	VCORE_DISPLAY_MAX = 4095, /**< and the most */
	VCORE_CURSOR_SIZE = 64,   /**< pixels: width and height of a mouse pointer */
};

/** A part of a picture, in pixels. */
struct vcore_rect {
	uint32_t x, y, width, height;
};

struct vcore_display_info {
	uint32_t size;
	uint32_t width, height; /**< pixels; 0: the guest shows nothing */
	uint32_t stride;        /**< bytes from one row to the next in a copy of the whole picture */
	uint32_t format;        /**< enum vcore_pixel */
	uint32_t wanted_width;  /**< what the guest was asked for last */
	uint32_t wanted_height;
	uint32_t pad;
	uint64_t generation; /**< grows whenever the picture changes */
};

/**
 * The n-th display of the vm, in the order in which the devices were added.
 * @param display out; a reference, to be given back
 * @return 0; -ENOENT when there are not so many
 */
VCORE_API int vcore_vm_find_display(vcore_vm *vm, uint32_t index, vcore_display **display);
/** Take one more reference. @return display */
VCORE_API vcore_display *vcore_display_ref(vcore_display *display);
/** Give a reference back. NULL is allowed. */
VCORE_API void vcore_display_unref(vcore_display *display);

/** @return 0; -EINVAL when info->size is not set */
VCORE_API int vcore_display_get_info(vcore_display *display, struct vcore_display_info *info);

/**
 * Copy the picture out, or a part of it.
 *
 * @param rect   NULL: all of it
 * @param buffer gets rect->height rows of rect->width pixels
 * @param length bytes of room in it
 * @param stride bytes from one row to the next in it; 0: rows follow one another
 * @param info   out, may be NULL, else info->size set: of the picture that was copied
 * @return 0; -ENODATA when the guest shows nothing; -ERANGE when rect is not within the picture; -ENOSPC when the
 *         buffer is too small; -EINVAL for a stride that is less than a row
 */
VCORE_API int vcore_display_copy(vcore_display *display, const struct vcore_rect *rect, void *buffer, size_t length,
                                 size_t stride, struct vcore_display_info *info);

/**
 * Save the picture to a file, which is made or overwritten.
 * @return 0; -ENODATA when the guest shows nothing; -ENOTSUP PNG without zlib; -EINVAL another format; errno of the
 * file
 */
VCORE_API int vcore_display_save(vcore_display *display, const char *path, enum vcore_picture format);

/**
 * Ask the guest for another size, as if its monitor had been exchanged. It follows at its own pace, if at all.
 * @param width, height VCORE_DISPLAY_MIN to VCORE_DISPLAY_MAX
 * @return 0; -EINVAL; -ENODEV when the device is gone
 */
VCORE_API int vcore_display_request_size(vcore_display *display, uint32_t width, uint32_t height);

/** The mouse pointer that the guest has set. */
struct vcore_cursor {
	uint32_t size;
	uint32_t visible;
	int32_t x, y;        /**< where it points in the picture, as the guest says */
	uint32_t hot_x;      /**< the pixel of it that points */
	uint32_t hot_y;      /**< */
	uint64_t generation; /**< grows whenever any of this or the pixels change */
};

/**
 * @param pixels may be NULL; VCORE_CURSOR_SIZE rows of as many pixels of 4 bytes: blue, green, red, opacity
 * @return 0; -EINVAL when cursor->size is not set
 */
VCORE_API int vcore_display_get_cursor(vcore_display *display, struct vcore_cursor *cursor, uint32_t *pixels);

/** What became of a display since its callback was called last. */
struct vcore_display_event {
	uint32_t size;
	uint32_t flags;            /**< VCORE_DISPLAY_* */
	struct vcore_rect changed; /**< DRAWN: everything new lies in it */
};
enum {
	VCORE_DISPLAY_DRAWN = 1u << 0,   /**< there are new pixels */
	VCORE_DISPLAY_RESIZED = 1u << 1, /**< another width or height, perhaps 0; all pixels are new */
	VCORE_DISPLAY_CURSOR = 1u << 2,  /**< the mouse pointer */
};
typedef void (*vcore_display_fn)(void *ctx, vcore_display *display, const struct vcore_display_event *event);

/**
 * Have a callback called when the display changes, on the vm's loop (its thread, or inside vcore_vm_loop_run()), with
 * no lock held. Several changes may come as one. It replaces the callback before; NULL: none. Returns once the one
 * before does not run any more, unless called from it.
 */
VCORE_API void vcore_display_set_callback(vcore_display *display, vcore_display_fn fn, void *ctx);

VCORE_END_DECLS
#endif
