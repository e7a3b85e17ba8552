/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The address of the stub as text. */
#ifndef VC_DEBUG_LISTEN_H
#define VC_DEBUG_LISTEN_H

#include <stddef.h>

#include "core/listen.h"

/* NULL: the default. -EINVAL, with what was expected. */
int vc_gdb_parse_address(const char *text, union vc_sockaddr *address);
/* What gdb is to connect to; the port from the socket itself. The length of the whole, as snprintf(). */
int vc_gdb_show_address(int fd, char *text, size_t length);

#endif
