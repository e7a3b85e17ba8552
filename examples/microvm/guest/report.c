/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages to the host and from it; the kernel's log where there is no way to the host. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "guest.h"

static int control = -1;

void set_control(int fd)
{
	control = fd;
}

void send_message(const struct message *m)
{
	struct pollfd p = {control, POLLOUT, 0};

	/* one write is one buffer of the console's: it goes whole or not at all */
	while (write(control, m, sizeof *m) < 0 && (errno == EAGAIN || errno == EINTR))
		poll(&p, 1, -1);
}

bool receive_message(struct message *m)
{
	static char buffer[sizeof *m];
	static size_t have;
	ssize_t n = read(control, buffer + have, sizeof buffer - have);

	if (n > 0)
		have += (size_t)n;
	if (have < sizeof buffer)
		return false;
	memcpy(m, buffer, sizeof *m);
	have = 0;
	return true;
}

void fail(int status, const char *format, ...)
{
	struct message m = {.type = MESSAGE_FAILED, .value = (uint32_t)status};
	va_list args;

	va_start(args, format);
	vsnprintf(m.text, sizeof m.text, format, args);
	va_end(args);
	if (control >= 0) {
		send_message(&m);
		for (;;)
			pause();
	}
	dprintf(STDERR_FILENO, "microvm's init: %s\n", m.text);
	reboot(RB_POWER_OFF);
	_exit(status);
}
