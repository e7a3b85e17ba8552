/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include "api_mmds.h"

int mmds_net_open(struct mmds *mmds, struct json_object *config, const char *tap)
{
	snprintf(mmds->error, sizeof mmds->error, "guests do not reach the metadata service in this build");
	return -1;
}

void mmds_net_close(struct mmds *mmds) {}
