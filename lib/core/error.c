/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The sentence behind a negative errno, one a thread. */
#include "core/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <virtcore/error.h>

#define MESSAGE_SIZE 512

static _Thread_local char message[MESSAGE_SIZE];

/* Formats beside the message first: the old one may be among the arguments. */
static void set_message(const char *suffix, const char *format, va_list args)
{
	char text[MESSAGE_SIZE];
	int n = vsnprintf(text, sizeof text, format, args);

	if (n < 0)
		n = 0;
	if ((size_t)n < sizeof text && suffix)
		snprintf(text + n, sizeof text - (size_t)n, ": %s", suffix);
	memcpy(message, text, sizeof text);
}

int vc_fail(int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	set_message(NULL, format, args);
	va_end(args);
	return -err;
}

int vc_fail_errno(int err, const char *format, ...)
{
	char name[128];
	va_list args;

	va_start(args, format);
	set_message(strerror_r(err, name, sizeof name), format, args);
	va_end(args);
	return -err;
}

const char *vcore_error_message(void)
{
	return message;
}
