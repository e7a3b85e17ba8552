/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Properties as text or JSON: parsed or refused, and then asked for. */
#include <stdlib.h>

#include "core/util.h"
#include "device/device.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	char *text = malloc(length + 1);
	struct vc_props *props;
	uint64_t number;
	bool flag;

	if (!text)
		return 0;
	memcpy(text, data, length);
	text[length] = '\0';
	if (vc_props_parse(text, &props) == 0) {
		if (vc_props_u64(props, "addr", 1, 1, 0xffff, &number) == 0 && (number < 1 || number > 0xffff))
			abort();
		vc_props_bool(props, "pty", false, &flag);
		vc_props_string(props, "input", "null");
		vc_props_finish(props, "uart");
		vc_props_free(props);
	}
	free(text);
	return 0;
}
