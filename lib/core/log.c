/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void vc_log_write(const struct vc_log *log, enum vcore_log_level level, const char *format, ...)
{
	char line[512] = "";
	size_t length;
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof line, format, args);
	va_end(args);
	length = strlen(line);
	while (length && line[length - 1] == '\n')
		line[--length] = 0;
	log->fn(log->ctx, level, line);
}
