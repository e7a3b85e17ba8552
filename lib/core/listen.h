/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sockets that the library itself listens on. `what` is for error messages: "gdb", "the monitor". */
#ifndef VC_CORE_LISTEN_H
#define VC_CORE_LISTEN_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

union vc_sockaddr {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

/* The address of a unix socket at a path; *un is all zeros before. -EINVAL: empty or too long. */
int vc_sockaddr_unix(const char *what, const char *path, struct sockaddr_un *un);
/* A listening, non-blocking socket; or -errno. A unix socket is for its owner alone (mode 0600). */
int vc_listen(const char *what, const union vc_sockaddr *address, int backlog);
/* Remove what vc_listen() has made in the file system. */
void vc_unlisten(const union vc_sockaddr *address);
/* Remove a unix socket on which nobody listens any more. */
void vc_unlisten_stale(const union vc_sockaddr *address);

#endif
