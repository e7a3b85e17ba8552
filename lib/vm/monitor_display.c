/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The monitor's commands about displays. */
#include <virtcore/display.h>

#include "vm/monitor.h"

static const char *const formats[] = {[VCORE_PICTURE_PPM] = "ppm", [VCORE_PICTURE_PNG] = "png"};

/* Without a word the name's end tells. */
static int find_format(const char *word, const char *path, enum vcore_picture *format)
{
	size_t length = strlen(path);

	if (!word) {
		*format = length > 4 && !strcmp(path + length - 4, ".png") ? VCORE_PICTURE_PNG : VCORE_PICTURE_PPM;
		return 0;
	}
	for (size_t i = 0; i < VC_ARRAY_SIZE(formats); i++) {
		if (!strcmp(word, formats[i])) {
			*format = (enum vcore_picture)i;
			return 0;
		}
	}
	return vc_fail(EINVAL, "screendump: format \"%.32s\": expected ppm or png", word);
}

static int screendump(struct vc_mon_call *call)
{
	const char *path = vc_mon_string(call, "filename", "");
	enum vcore_picture format = VCORE_PICTURE_PPM;
	vcore_display *display;
	int r = find_format(vc_mon_string(call, "format", NULL), path, &format);

	if (r >= 0)
		r = vcore_vm_find_display(call->vm, (uint32_t)vc_mon_number(call, "display", 0), &display);
	if (r < 0)
		return r;
	r = vcore_display_save(display, path, format);
	vcore_display_unref(display);
	return r;
}

static int display_resize(struct vc_mon_call *call)
{
	vcore_display *display;
	int r = vcore_vm_find_display(call->vm, (uint32_t)vc_mon_number(call, "display", 0), &display);

	if (r < 0)
		return r;
	r = vcore_display_request_size(display, (uint32_t)vc_mon_number(call, "width", 0),
	                               (uint32_t)vc_mon_number(call, "height", 0));
	vcore_display_unref(display);
	return r;
}

static struct json_object *describe(vcore_display *display)
{
	struct vcore_display_info info = {.size = sizeof info};
	struct vcore_cursor cursor = {.size = sizeof cursor};
	struct json_object *object = json_object_new_object();

	vcore_display_get_info(display, &info);
	vcore_display_get_cursor(display, &cursor, NULL);
	vc_mon_add_number(object, "width", info.width);
	vc_mon_add_number(object, "height", info.height);
	vc_mon_add_number(object, "wanted-width", info.wanted_width);
	vc_mon_add_number(object, "wanted-height", info.wanted_height);
	vc_mon_add_number(object, "generation", info.generation);
	vc_mon_add_bool(object, "cursor", cursor.visible);
	return object;
}

static int query_displays(struct vc_mon_call *call)
{
	vcore_display *display;

	call->result = json_object_new_array();
	for (uint32_t i = 0; vcore_vm_find_display(call->vm, i, &display) >= 0; i++) {
		vc_mon_append(call->result, describe(display));
		vcore_display_unref(display);
	}
	return 0;
}

#define DISPLAY_ARG                                                                        \
	{                                                                                      \
		"display", VC_MON_NUMBER, false, UINT32_MAX, "which, as query-displays counts (0)" \
	}

static const struct vc_mon_arg dump_args[] = {
    {"filename", VC_MON_STRING, true, 0, "where it goes, on the host"},
    {"format", VC_MON_STRING, false, 0, "ppm or png; by the end of the name when left out"},
    DISPLAY_ARG,
    {0},
};
static const struct vc_mon_arg resize_args[] = {
    {"width", VC_MON_NUMBER, true, VCORE_DISPLAY_MAX, "pixels"},
    {"height", VC_MON_NUMBER, true, VCORE_DISPLAY_MAX, "pixels"},
    DISPLAY_ARG,
    {0},
};

const struct vc_mon_command vc_mon_display_commands[] = {
    {"query-displays", "the displays and the size of their pictures", NULL, query_displays},
    {"screendump", "save what a display shows to a file", dump_args, screendump},
    {"display-resize", "ask the guest for a picture of another size", resize_args, display_resize},
    {0},
};
