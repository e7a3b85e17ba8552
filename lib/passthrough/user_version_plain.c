/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A library without JSON says what it always says, and takes every server for one that says nothing. */
#include "core/util.h"
#include "passthrough/user_priv.h"

const char vc_vfio_user_capabilities[] = "{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576}}";

int vc_vfio_user_read_capabilities(const char *text, size_t length, struct vc_vfio_user_limits *limits)
{
	return 0;
}
