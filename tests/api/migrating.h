/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of migration share: a guest that writes memory, and connections that somebody spoils. */
#ifndef MIGRATING_H
#define MIGRATING_H

#include "api.h"

#define COUNT        0x5000u
#define MIRROR       0x5004u
#define BUFFER       0x40000u
#define WRITER_PAGES 64u

/*
 * Guests for the vcpu in PROTECTED32, of a vm of machine none. The writer never rests: each turn, COUNT goes up, and is
 * written into every page of a buffer; at the end of a turn, into MIRROR.
 */
void migrating_load(vcore_vm *vm);
vcore_vm *migrating_writer(int backend);
/* It runs, what it wrote is all there, and it writes more. Its count then. */
uint32_t migrating_goes_on(vcore_vm *vm, uint32_t from);
/* It runs for some turns more. */
void migrating_turns(vcore_vm *vm);
struct vcore_migrate_info migrating_info(vcore_vm *vm);

/* ---- connections ---- */

#define STREAMS_MAX 4

/* Connected to each other. */
struct migrating_sockets {
	uint32_t count;
	int source[STREAMS_MAX], destination[STREAMS_MAX];
};
void migrating_connect(struct migrating_sockets *s, uint32_t count);
void migrating_close(int *fds, uint32_t count);
/* The options' descriptors become these. */
void migrating_source(struct vcore_migrate_options *options, const struct migrating_sockets *s);
void migrating_destination(struct vcore_migrate_receive_options *options, const struct migrating_sockets *s);

enum spoil { CUT, STALL, ALTER };

/* Somebody between the two sides of a connection, on a thread. */
struct proxy {
	enum spoil how;
	bool backwards; /* what the destination says */
	uint64_t at;    /* byte; UINT64_MAX: nothing is spoilt */
	/* its own */
	int in, out; /* the source's and the destination's side */
	uint64_t passed[2];
	/* what it has seen: bytes at most that were ahead of a rate, of a second, from its start on */
	uint64_t rate;
	double ahead;
	pthread_t thread;
};
/* It puts itself before the destination, whose descriptor is another one then. */
void proxy_start(struct proxy *p, int *destination);
void proxy_join(struct proxy *p);

#endif
