/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/listen.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"

int vc_sockaddr_unix(const char *what, const char *path, struct sockaddr_un *un)
{
	if (!*path || strlen(path) >= sizeof un->sun_path)
		return vc_fail(EINVAL, "the socket \"%.80s\" for %s: expected a path of 1 to %zu bytes", path, what,
		               sizeof un->sun_path - 1);
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, path, strlen(path) + 1);
	return 0;
}

static socklen_t length_of(const union vc_sockaddr *address)
{
	switch (address->any.sa_family) {
	case AF_UNIX:
		return sizeof address->un;
	case AF_INET6:
		return sizeof address->in6;
	default:
		return sizeof address->in;
	}
}

int vc_listen(const char *what, const union vc_sockaddr *address, int backlog)
{
	int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, r;

	if (fd < 0)
		return vc_fail_errno(errno, "a socket for %s", what);
	if (address->any.sa_family != AF_UNIX)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	/* before bind(), which gives the file this mode: nobody else can connect in between */
	else
		fchmod(fd, 0600);
	if (bind(fd, &address->any, length_of(address)) == 0) {
		if (listen(fd, backlog) == 0)
			return fd;
		r = vc_fail_errno(errno, "listening for %s", what);
		vc_unlisten(address);
	} else {
		r = vc_fail_errno(errno, "the address for %s", what);
	}
	close(fd);
	return r;
}

void vc_unlisten(const union vc_sockaddr *address)
{
	if (address->any.sa_family == AF_UNIX)
		unlink(address->un.sun_path);
}

void vc_unlisten_stale(const union vc_sockaddr *address)
{
	struct stat info;
	int fd;

	if (address->any.sa_family != AF_UNIX || lstat(address->un.sun_path, &info) < 0 || !S_ISSOCK(info.st_mode))
		return;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, &address->any, sizeof address->un) < 0 && errno == ECONNREFUSED)
		unlink(address->un.sun_path);
	close(fd);
}
