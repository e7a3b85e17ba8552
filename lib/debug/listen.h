/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The address of the stub as text, and the socket that listens there. */
#ifndef VC_DEBUG_LISTEN_H
#define VC_DEBUG_LISTEN_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

union vc_gdb_sockaddr {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

/* NULL: the default. -EINVAL, with what was expected. */
int vc_gdb_parse_address(const char *text, union vc_gdb_sockaddr *address);
/* A listening, non-blocking socket; or -errno. */
int vc_gdb_listen(const union vc_gdb_sockaddr *address);
/* What gdb is to connect to; the port from the socket itself. The length of the whole, as snprintf(). */
int vc_gdb_show_address(int fd, char *text, size_t length);
/* Remove what vc_gdb_listen() has made in the file system. */
void vc_gdb_unlisten(const union vc_gdb_sockaddr *address);

#endif
