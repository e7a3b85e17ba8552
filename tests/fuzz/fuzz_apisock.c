/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests to microvm --api-sock: "METHOD PATH", a line's end, and the body. Nothing is done; what is good has all that
 * is needed. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

/* The first line's two words; false: there are none. */
static bool cut(char *text, char **method, char **path, char **body)
{
	char *end = strchr(text, '\n'), *blank;

	if (!end)
		return false;
	*end = '\0';
	blank = strchr(text, ' ');
	if (!blank)
		return false;
	*blank = '\0';
	*method = text;
	*path = blank + 1;
	*body = end + 1;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	char *text = malloc(length + 1), *method, *path, *body;
	struct api_reply reply = {0};
	struct api_call call;

	if (!text)
		return 0;
	memcpy(text, data, length);
	text[length] = '\0';
	if (cut(text, &method, &path, &body)) {
		bool good = api_parse(method, path, body, length - (size_t)(body - text), &call, &reply);

		if (good == (reply.body != NULL) || call.op >= API_OPS || strlen(call.id) > API_ID_MAX)
			abort();
		if (good && call.body)
			json_object_to_json_string(call.body);
		api_call_free(&call);
		json_object_put(reply.body);
	}
	free(text);
	return 0;
}
