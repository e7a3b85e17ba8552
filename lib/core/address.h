/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Addresses of stream sockets as text, and the socket that listens there. */
#ifndef VC_CORE_ADDRESS_H
#define VC_CORE_ADDRESS_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

union vc_address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

/*
 * "tcp:HOST:PORT", "HOST:PORT" or ":PORT" with a numeric host, or "unix:PATH". what: whose address it is, for messages.
 * -EINVAL, with what was expected.
 */
int vc_address_parse(const char *what, const char *text, union vc_address *address);
/* That of a unix socket at a path. */
int vc_address_unix(const char *what, const char *path, union vc_address *address);
socklen_t vc_address_length(const union vc_address *address);
/* A listening, non-blocking socket; or -errno. A unix socket is for its owner alone (mode 0600). */
int vc_address_listen(const char *what, const union vc_address *address, int backlog);
/* What a peer is to connect to; the port from the socket itself. The length of the whole, as snprintf(). */
int vc_address_show(int fd, char *text, size_t length);
/* Remove what vc_address_listen() has made in the file system. */
void vc_address_unlisten(const union vc_address *address);
/* Remove a unix socket on which nobody listens any more. */
void vc_address_unlisten_stale(const union vc_address *address);

#endif
