/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"

static int bad(const char *what, const char *text)
{
	return vc_fail(EINVAL, "%s address \"%.80s\": expected tcp:HOST:PORT with a numeric host, :PORT or unix:PATH", what,
	               text);
}

static int parse_unix(const char *what, const char *text, const char *path, struct sockaddr_un *un)
{
	if (!*path || strlen(path) >= sizeof un->sun_path)
		return vc_fail(EINVAL, "%s address \"%.80s\": expected a path of 1 to %zu bytes", what, text,
		               sizeof un->sun_path - 1);
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, path, strlen(path) + 1);
	return 0;
}

static int parse_port(const char *what, const char *text, const char *digits, in_port_t *port)
{
	char *end;
	unsigned long n = strtoul(digits, &end, 10);

	if (*digits < '0' || *digits > '9' || *end || n > 65535)
		return bad(what, text);
	*port = htons((uint16_t)n);
	return 0;
}

static int parse_v6(const char *what, const char *text, const char *host, struct sockaddr_in6 *in6)
{
	const char *close = strstr(host, "]:");
	char name[INET6_ADDRSTRLEN];

	if (!close || (size_t)(close - host - 1) >= sizeof name)
		return bad(what, text);
	snprintf(name, sizeof name, "%.*s", (int)(close - host - 1), host + 1);
	in6->sin6_family = AF_INET6;
	return inet_pton(AF_INET6, name, &in6->sin6_addr) == 1 ? parse_port(what, text, close + 2, &in6->sin6_port)
	                                                       : bad(what, text);
}

static int parse_v4(const char *what, const char *text, const char *host, struct sockaddr_in *in)
{
	const char *colon = strchr(host, ':');
	char name[INET_ADDRSTRLEN];

	if (!colon || (size_t)(colon - host) >= sizeof name)
		return bad(what, text);
	snprintf(name, sizeof name, "%.*s", (int)(colon - host), host);
	in->sin_family = AF_INET;
	in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (*name && strcmp(name, "localhost") && inet_pton(AF_INET, name, &in->sin_addr) != 1)
		return bad(what, text);
	return parse_port(what, text, colon + 1, &in->sin_port);
}

int vc_address_parse(const char *what, const char *text, union vc_address *address)
{
	const char *host;

	memset(address, 0, sizeof *address);
	if (!strncmp(text, "unix:", 5))
		return parse_unix(what, text, text + 5, &address->un);
	host = strncmp(text, "tcp:", 4) ? text : text + 4;
	return *host == '[' ? parse_v6(what, text, host, &address->in6) : parse_v4(what, text, host, &address->in);
}

int vc_address_unix(const char *what, const char *path, union vc_address *address)
{
	memset(address, 0, sizeof *address);
	return parse_unix(what, path, path, &address->un);
}

socklen_t vc_address_length(const union vc_address *address)
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

int vc_address_listen(const char *what, const union vc_address *address, int backlog)
{
	int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, r;

	if (fd < 0)
		return vc_fail_errno(errno, "a socket for %s", what);
	if (address->any.sa_family != AF_UNIX)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	else /* before bind(), which gives the file this mode: nobody else can connect in between */
		fchmod(fd, 0600);
	if (bind(fd, &address->any, vc_address_length(address)) == 0) {
		if (listen(fd, backlog) == 0)
			return fd;
		r = vc_fail_errno(errno, "listening for %s", what);
		vc_address_unlisten(address);
	} else {
		r = vc_fail_errno(errno, "the address for %s", what);
	}
	close(fd);
	return r;
}

int vc_address_show(int fd, char *text, size_t length)
{
	union vc_address address = {0};
	socklen_t size = sizeof address;
	char host[INET6_ADDRSTRLEN];

	if (getsockname(fd, &address.any, &size) < 0)
		return vc_fail_errno(errno, "the address of a listening socket");
	if (address.any.sa_family == AF_UNIX)
		return snprintf(text, length, "%s", address.un.sun_path);
	if (address.any.sa_family == AF_INET6)
		return snprintf(text, length, "[%s]:%u",
		                inet_ntop(AF_INET6, &address.in6.sin6_addr, host, sizeof host) ? host : "",
		                ntohs(address.in6.sin6_port));
	return snprintf(text, length, "%s:%u", inet_ntop(AF_INET, &address.in.sin_addr, host, sizeof host) ? host : "",
	                ntohs(address.in.sin_port));
}

void vc_address_unlisten(const union vc_address *address)
{
	if (address->any.sa_family == AF_UNIX)
		unlink(address->un.sun_path);
}

void vc_address_unlisten_stale(const union vc_address *address)
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
