/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bytes on their way from one descriptor to another, on the host and in the guest alike. */
#ifndef MICROVM_PUMP_H
#define MICROVM_PUMP_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PUMP_BUFFER = 32768 };

/* Descriptors may be in blocking mode: each call reads or writes once, where poll says that it can be done. */
struct pump {
	int from, to;    /* -1: ended, closed */
	uint64_t taken;  /* bytes read */
	uint64_t length; /* of the whole stream: it ends there; UINT64_MAX: where reading says so */
	bool closed;     /* nobody reads `to`: what still comes is dropped */
	size_t at, have; /* in the buffer: waiting to be written */
	char buffer[PUMP_BUFFER];
};

void pump_init(struct pump *p, int from, int to);
/* Two entries for poll(). */
void pump_prepare(const struct pump *p, struct pollfd fds[2]);
/* After it. */
void pump_run(struct pump *p, const struct pollfd fds[2]);
/* Nothing comes any more. */
bool pump_ended(const struct pump *p);
/* ... and all of it is written. */
bool pump_done(const struct pump *p);

#endif
