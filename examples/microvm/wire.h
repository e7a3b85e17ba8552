/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What `microvm run` and the init of its guest say to each other.
 *
 * The initial RAM disk has the task in the file CONFIG_PATH: strings "key=value", each ended by a zero byte. Streams
 * are ports of a virtio console, a port each: the bytes of standard input, output and error as they are, and messages
 * on the control port. How long a stream is comes as a message, for a port has no end.
 */
#ifndef MICROVM_WIRE_H
#define MICROVM_WIRE_H

#include <stdint.h>

#define CONFIG_PATH "/task"
#define ROOT_TAG    "root"

/* Ports by name; the host adds them in this order, from port 1 on. */
enum port { PORT_CONTROL, PORT_IN, PORT_OUT, PORT_ERR, PORTS };
#define PORT_NAMES                                                        \
	{                                                                     \
		"virtcore.control", "virtcore.in", "virtcore.out", "virtcore.err" \
	}

/* Exit statuses of timeout(1), env(1) and others. */
enum { RUN_TIMEOUT = 124, RUN_FAILED = 125, RUN_NOT_EXECUTABLE = 126, RUN_NOT_FOUND = 127, RUN_SIGNAL = 128 };

enum message_type {
	/* host to guest */
	MESSAGE_IN_END = 1, /* total: standard input has so many bytes */
	MESSAGE_SIGNAL,     /* value: for the command */
	MESSAGE_SIZE,       /* rows, columns of the terminal */
	MESSAGE_CLOSED,     /* value: a port whose reader is gone */
	/* guest to host */
	MESSAGE_STARTED, /* the command is there */
	MESSAGE_FAILED,  /* value: exit status; text: why the command does not run */
	MESSAGE_EXITED,  /* value: exit status; out, err: bytes of its output */
	MESSAGE_KILLED,  /* likewise; value: the signal */
};

/* All of a message: every type has the same size. */
struct message {
	uint32_t type, value;
	uint16_t rows, columns;
	uint32_t pad;
	uint64_t out, err, total;
	char text[216]; /* ended by a zero byte */
};
_Static_assert(sizeof(struct message) == 256, "the same on both sides");

#endif
