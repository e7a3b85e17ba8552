/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In builds without json-c or libmicrohttpd. */
#include <stdio.h>

#include "microvm.h"

int api_main(struct settings *s, struct console *console, int signals)
{
	fprintf(stderr, "microvm: this build has no --api-sock (json-c or libmicrohttpd was switched off)\n");
	return STATUS_ERROR;
}
