/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A vhost-user back-end in the test, on a thread of its own: it turns what a chain holds for it into what it writes,
 * each byte inverted, and can be told to misbehave. What must not happen aborts with a sentence.
 */
#ifndef VHOST_BACKEND_H
#define VHOST_BACKEND_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum fake_fault {
	FAKE_NONE,
	FAKE_WRONG_SIZE,
	FAKE_WRONG_REQUEST,
	FAKE_NO_REPLY_FLAG,
	FAKE_WRONG_VERSION,
	FAKE_HUGE,         /* a size that no message has */
	FAKE_CLOSE,        /* instead of an answer */
	FAKE_CLOSE_INSIDE, /* in the middle of it */
	FAKE_SILENT,
	FAKE_MANY_FDS, /* with it */
	FAKE_REFUSE,
	/* on the rings */
	FAKE_BAD_ID,
	FAKE_NOT_IN_FLIGHT,
	FAKE_INDEX_JUMP,
	FAKE_LONG,     /* says that it has written more than there is room for */
	FAKE_SCRIBBLE, /* writes all over the rings, then answers as it should */
	FAKE_HOLD,     /* takes chains and gives none back */
	FAKE_COUNT,
};

enum { FAKE_QUEUES = 4, FAKE_REGIONS = 16 };

struct fake_region {
	uint64_t gpa, length, address, offset;
	uint8_t *map;
};

struct fake_queue {
	uint32_t size;
	uint8_t *desc, *avail, *used;
	uint16_t last_avail, used_index;
	int kick, call;
	bool enabled;
};

struct fake {
	char path[108];
	int listener, connection, wake;
	int backend_fd; /* the channel for our own requests; -1 */
	pthread_t thread;
	_Atomic bool quit, drop; /* drop: close the connection */
	bool calls;              /* the front-end listens */
	/* How it is: set before fake_start(), or while nothing happens */
	uint64_t features, protocol;
	uint64_t queues, slots;
	uint8_t config[256];
	_Atomic uint32_t fault_at; /* the request at which it misbehaves; 0: on the rings */
	_Atomic enum fake_fault fault;
	/* What it has seen */
	_Atomic unsigned connections, requests[64];
	_Atomic unsigned served, held; /* chains */
	_Atomic unsigned region_count;
	struct fake_region regions[FAKE_REGIONS];
	struct fake_queue queue[FAKE_QUEUES];
};

/* With a name of its own for the socket, all features, a configuration of 0x5a. */
void fake_init(struct fake *f);
void fake_start(struct fake *f);
/* Closes the connection and goes away; the socket's name too. It may be started again. */
void fake_stop(struct fake *f);
void fake_fini(struct fake *f);
/* Ask the front-end to read the configuration again. */
void fake_change_config(struct fake *f, uint8_t value);

#endif
