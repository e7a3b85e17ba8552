/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The serial port's other end: terminal in raw mode with an escape key, file, pty, or nothing. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "microvm.h"

#define CTRL_A 1

/* For the atexit handler, which has no argument. */
static struct termios saved;
static int must_restore;

void end_raw(void)
{
	if (must_restore)
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	must_restore = 0;
}

bool begin_raw(void)
{
	struct termios raw;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &saved) < 0)
		return false;
	raw = saved;
	cfmakeraw(&raw);
	must_restore = 1;
	atexit(end_raw);
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	return true;
}

static int open_stdio(struct console *c, char *text, size_t length)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		perror("microvm: socketpair");
		return -1;
	}
	c->input = pair[0];
	c->guest_fd = pair[1];
	c->reading = 1;
	/* a guest that does not read must not stop us from seeing Ctrl-A x */
	fcntl(c->input, F_SETFL, O_NONBLOCK);
	c->terminal = begin_raw();
	snprintf(text, length, "input=fd:%d,output=stdout", c->guest_fd);
	return 0;
}

static int open_pty(struct console *c, char *text, size_t length)
{
	struct termios raw;

	c->guest_fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (c->guest_fd < 0 || grantpt(c->guest_fd) < 0 || unlockpt(c->guest_fd) < 0) {
		perror("microvm: --serial pty");
		return -1;
	}
	if (tcgetattr(c->guest_fd, &raw) == 0) {
		cfmakeraw(&raw);
		tcsetattr(c->guest_fd, TCSANOW, &raw);
	}
	fprintf(stderr, "microvm: the serial port is %s\n", ptsname(c->guest_fd));
	snprintf(text, length, "input=fd:%d,output=fd:%d", c->guest_fd, c->guest_fd);
	return 0;
}

int console_open(struct console *c, const char *serial, char *text, size_t length)
{
	*c = (struct console){.input = -1, .guest_fd = -1};
	if (!strcmp(serial, "none"))
		return 1;
	if (!strcmp(serial, "stdio"))
		return open_stdio(c, text, length);
	if (!strcmp(serial, "pty"))
		return open_pty(c, text, length);
	if (!strncmp(serial, "file:", 5) && serial[5] && !strchr(serial, ',')) {
		snprintf(text, length, "output=%s", serial);
		return 0;
	}
	fprintf(stderr, "microvm: --serial %s: expected stdio, file:PATH, pty or none\n", serial);
	return -1;
}

int console_input(struct console *c)
{
	char in[256], out[256];
	ssize_t n = read(STDIN_FILENO, in, sizeof in);
	size_t used = 0;

	if (n <= 0) {
		if (n == 0 || errno != EINTR)
			c->reading = 0;
		return 0;
	}
	for (ssize_t i = 0; i < n; i++) {
		if (c->terminal && !c->escape && in[i] == CTRL_A) {
			c->escape = 1;
			continue;
		}
		if (c->escape && in[i] == 'x')
			return 1;
		c->escape = 0;
		out[used++] = in[i];
	}
	/* what a guest that never reads cannot take is dropped, as a real line would */
	if (used && write(c->input, out, used) < 0 && errno != EAGAIN)
		c->reading = 0;
	return 0;
}

void console_close(struct console *c)
{
	end_raw();
	if (c->input >= 0)
		close(c->input);
	if (c->guest_fd >= 0)
		close(c->guest_fd);
}
