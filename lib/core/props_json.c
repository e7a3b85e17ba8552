/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Properties from a JSON object: strings, whole numbers and booleans. */
#include <json-c/json.h>

#include "core/error.h"
#include "core/props_priv.h"
#include "core/util.h"

enum { MAX_DEPTH = 4 }; /* the values are flat: more is refused before it is built */

/* The text of a value; NULL: of a kind that no property takes. */
static const char *value_text(struct json_object *value)
{
	switch (json_object_get_type(value)) {
	case json_type_boolean:
		return json_object_get_boolean(value) ? "on" : "off";
	case json_type_int:
		return json_object_to_json_string(value);
	case json_type_string:
		/* a string with \u0000 inside would be cut there */
		if (strlen(json_object_get_string(value)) != (size_t)json_object_get_string_len(value))
			return NULL;
		return json_object_get_string(value);
	default:
		return NULL;
	}
}

static int take_object(struct vc_props *props, struct json_object *object)
{
	struct json_object_iterator at = json_object_iter_begin(object), end = json_object_iter_end(object);

	for (; !json_object_iter_equal(&at, &end); json_object_iter_next(&at)) {
		const char *key = json_object_iter_peek_name(&at);
		const char *text = value_text(json_object_iter_peek_value(&at));
		int r;

		if (!text)
			return vc_fail(EINVAL, "property '%s' is not a string, a whole number or a boolean", key);
		r = vc_props_put(props, key, text);
		if (r)
			return r;
	}
	return 0;
}

int vc_props_parse_json(struct vc_props *props, const char *text)
{
	struct json_tokener *tokener = json_tokener_new_ex(MAX_DEPTH);
	struct json_object *object;
	size_t length = strlen(text);
	int r;

	if (!tokener)
		return vc_fail(ENOMEM, "no memory to parse JSON");
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
	/* With its NUL, so that an unfinished text is an error rather than a request for more. */
	object = length < INT32_MAX ? json_tokener_parse_ex(tokener, text, (int)length + 1) : NULL;
	if (object && json_object_is_type(object, json_type_object))
		r = take_object(props, object);
	else
		r = vc_fail(EINVAL, "the properties are not a JSON object: %s at character %zu",
		            json_tokener_error_desc(json_tokener_get_error(tokener)), json_tokener_get_parse_end(tokener));
	json_object_put(object);
	json_tokener_free(tokener);
	return r;
}
