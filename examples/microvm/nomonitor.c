/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In builds without json-c. */
#include <stdio.h>

#include "microvm.h"

int monitor_main(int argc, char **argv)
{
	fprintf(stderr, "microvm: this build has no monitor (json-c was switched off)\n");
	return STATUS_ERROR;
}
