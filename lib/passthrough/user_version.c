/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What both ends of a vfio-user connection say of themselves: a JSON object. */
#include <json-c/json.h>

#include "core/error.h"
#include "core/util.h"
#include "passthrough/user_priv.h"

enum { MAX_DEPTH = 8 }; /* it has 3 levels */

const char vc_vfio_user_capabilities[] =
    "{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576,\"twin_socket\":{\"supported\":true}}}";

static int read_number(struct json_object *object, const char *key, uint64_t min, uint64_t max, uint64_t *value)
{
	struct json_object *number;
	int64_t n;

	if (!json_object_object_get_ex(object, key, &number))
		return 0;
	n = json_object_get_int64(number);
	if (!json_object_is_type(number, json_type_int) || n < 0 || (uint64_t)n < min)
		return vc_fail(EPROTO, "the server's %s is not a number from %llu on", key, (unsigned long long)min);
	*value = (uint64_t)n < max ? (uint64_t)n : max;
	return 0;
}

static int read_twin(struct json_object *capabilities, struct vc_vfio_user_limits *limits)
{
	struct json_object *twin, *supported;
	uint64_t index = UINT64_MAX;
	int r;

	if (!json_object_object_get_ex(capabilities, "twin_socket", &twin) || !json_object_is_type(twin, json_type_object))
		return 0;
	if (!json_object_object_get_ex(twin, "supported", &supported) || !json_object_get_boolean(supported))
		return 0;
	r = read_number(twin, "fd_index", 0, VC_VFIO_USER_FDS_MAX, &index);
	if (r < 0)
		return r;
	/* it would send its commands where we do not listen */
	if (index >= VC_VFIO_USER_FDS_MAX)
		return vc_fail(EPROTO, "the server has a twin socket, but does not say which");
	limits->twin = (int)index;
	return 0;
}

static int read_object(struct json_object *object, struct vc_vfio_user_limits *limits)
{
	struct json_object *capabilities;
	int r;

	if (!json_object_object_get_ex(object, "capabilities", &capabilities))
		return 0;
	if (!json_object_is_type(capabilities, json_type_object))
		return vc_fail(EPROTO, "the server's capabilities are not an object");
	r = read_number(capabilities, "max_msg_fds", 0, VC_CHANNEL_FDS_MAX, &limits->fds);
	if (r >= 0)
		r = read_number(capabilities, "max_data_xfer_size", 8, VC_VFIO_USER_DATA_MAX, &limits->data);
	return r < 0 ? r : read_twin(capabilities, limits);
}

int vc_vfio_user_read_capabilities(const char *text, size_t length, struct vc_vfio_user_limits *limits)
{
	struct json_tokener *tokener = json_tokener_new_ex(MAX_DEPTH);
	struct json_object *object = NULL;
	int r;

	if (!tokener)
		return vc_fail(ENOMEM, "no memory to parse JSON");
	/* with its NUL, so that an unfinished text is an error rather than a request for more */
	if (length <= 65536 && !text[length - 1])
		object = json_tokener_parse_ex(tokener, text, (int)length);
	if (object && json_object_is_type(object, json_type_object))
		r = read_object(object, limits);
	else
		r = vc_fail(EPROTO, "the server's capabilities are not a JSON object");
	json_object_put(object);
	json_tokener_free(tokener);
	return r;
}
