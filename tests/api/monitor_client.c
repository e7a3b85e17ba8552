/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "monitor_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

int client_dial(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	ck_assert_int_ge(fd, 0);
	snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&un, sizeof un), 0);
	return fd;
}

void transmit(int fd, const void *bytes, size_t length)
{
	ck_assert_int_eq(send(fd, bytes, length, MSG_NOSIGNAL), (ssize_t)length);
}

const char *receive(struct line *l)
{
	static char text[sizeof l->bytes];
	struct pollfd fd = {l->fd, POLLIN, 0};
	char *end;
	ssize_t n;

	while (!(end = memchr(l->bytes, '\n', l->length))) {
		ck_assert_msg(poll(&fd, 1, 30000) == 1, "the monitor does not answer");
		n = recv(l->fd, l->bytes + l->length, sizeof l->bytes - l->length, 0);
		if (n <= 0)
			return "closed";
		l->length += (size_t)n;
	}
	memcpy(text, l->bytes, (size_t)(end - l->bytes));
	text[end - l->bytes] = '\0';
	l->length -= (size_t)(end + 1 - l->bytes);
	memmove(l->bytes, end + 1, l->length);
	return text;
}

const char *ask(struct line *l, const char *request)
{
	transmit(l->fd, request, strlen(request));
	transmit(l->fd, "\n", 1);
	return receive(l);
}

void says(const char *text, const char *expected)
{
	ck_assert_msg(strstr(text, expected), "\"%.300s\" does not say %s", text, expected);
}

void command(struct line *l, const char *name, const char *expected)
{
	char request[100];

	snprintf(request, sizeof request, "{\"execute\":\"%s\"}", name);
	says(ask(l, request), expected);
}

void until_command(struct line *l, const char *name, const char *expected)
{
	char request[100];

	snprintf(request, sizeof request, "{\"execute\":\"%s\"}", name);
	while (!strstr(ask(l, request), expected))
		api_pause_ms(1);
}

void client_greet(struct line *l, const char *path)
{
	l->fd = client_dial(path);
	l->length = 0;
	says(receive(l), "{\"QMP\":{\"version\":{\"virtcore\":\"");
}

void client_call(struct line *l, const char *path)
{
	client_greet(l, path);
	command(l, "capabilities", "{\"return\":{}}");
}

const char *until_says(struct line *l, const char *expected)
{
	const char *text;

	do {
		text = receive(l);
		ck_assert_str_ne(text, "closed");
	} while (!strstr(text, expected));
	return text;
}
