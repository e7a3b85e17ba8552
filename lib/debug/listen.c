/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "debug/listen.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

#define DEFAULT "127.0.0.1:1234"

static int bad(const char *text)
{
	return vc_fail(EINVAL, "gdb address \"%.80s\": expected tcp:HOST:PORT with a numeric host, :PORT or unix:PATH",
	               text);
}

static int parse_port(const char *text, const char *digits, in_port_t *port)
{
	char *end;
	unsigned long n = strtoul(digits, &end, 10);

	if (*digits < '0' || *digits > '9' || *end || n > 65535)
		return bad(text);
	*port = htons((uint16_t)n);
	return 0;
}

static int parse_v6(const char *text, const char *host, struct sockaddr_in6 *in6)
{
	const char *close = strstr(host, "]:");
	char name[INET6_ADDRSTRLEN];

	if (!close || (size_t)(close - host - 1) >= sizeof name)
		return bad(text);
	snprintf(name, sizeof name, "%.*s", (int)(close - host - 1), host + 1);
	in6->sin6_family = AF_INET6;
	return inet_pton(AF_INET6, name, &in6->sin6_addr) == 1 ? parse_port(text, close + 2, &in6->sin6_port) : bad(text);
}

static int parse_v4(const char *text, const char *host, struct sockaddr_in *in)
{
	const char *colon = strchr(host, ':');
	char name[INET_ADDRSTRLEN];

	if (!colon || (size_t)(colon - host) >= sizeof name)
		return bad(text);
	snprintf(name, sizeof name, "%.*s", (int)(colon - host), host);
	in->sin_family = AF_INET;
	in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (*name && strcmp(name, "localhost") && inet_pton(AF_INET, name, &in->sin_addr) != 1)
		return bad(text);
	return parse_port(text, colon + 1, &in->sin_port);
}

int vc_gdb_parse_address(const char *text, union vc_sockaddr *address)
{
	const char *host;

	memset(address, 0, sizeof *address);
	if (!text)
		text = DEFAULT;
	if (!strncmp(text, "unix:", 5))
		return vc_sockaddr_unix("gdb", text + 5, &address->un);
	host = strncmp(text, "tcp:", 4) ? text : text + 4;
	return *host == '[' ? parse_v6(text, host, &address->in6) : parse_v4(text, host, &address->in);
}

int vc_gdb_show_address(int fd, char *text, size_t length)
{
	union vc_sockaddr address = {0};
	socklen_t size = sizeof address;
	char host[INET6_ADDRSTRLEN];

	if (getsockname(fd, &address.any, &size) < 0)
		return vc_fail_errno(errno, "the address for gdb");
	if (address.any.sa_family == AF_UNIX)
		return snprintf(text, length, "%s", address.un.sun_path);
	if (address.any.sa_family == AF_INET6)
		return snprintf(text, length, "[%s]:%u",
		                inet_ntop(AF_INET6, &address.in6.sin6_addr, host, sizeof host) ? host : "",
		                ntohs(address.in6.sin6_port));
	return snprintf(text, length, "%s:%u", inet_ntop(AF_INET, &address.in.sin_addr, host, sizeof host) ? host : "",
	                ntohs(address.in.sin_port));
}
