/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A small client of the monitor. */
#ifndef MONITOR_CLIENT_H
#define MONITOR_CLIENT_H

#include "api.h"

struct line {
	int fd;
	size_t length;
	char bytes[1 << 18];
};

int client_dial(const char *path);
/* Connected, with the greeting read; with the capabilities negotiated as well. */
void client_greet(struct line *l, const char *path);
void client_call(struct line *l, const char *path);
void transmit(int fd, const void *bytes, size_t length);
/* The next line, or "closed"; until the next call. */
const char *receive(struct line *l);
/* The line behind a request. */
const char *ask(struct line *l, const char *request);
void says(const char *text, const char *expected);
/* A command without arguments, whose answer has this. */
void command(struct line *l, const char *name, const char *expected);
/* The same of what comes about soon. */
void until_command(struct line *l, const char *name, const char *expected);
/* The next line that has this; others, which are events, are let pass. */
const char *until_says(struct line *l, const char *expected);

#endif
