/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of post-copy share: a guest, both sides on threads, and a connection that ends where it is told to. */
#ifndef POSTCOPYING_H
#define POSTCOPYING_H

#include "migrating.h"

#define MORE       0x400000u
#define MORE_BYTES (8u << 20)

/* A writer that runs, and 8 MiB that it leaves alone, each page different. */
vcore_vm *postcopying_guest(int backend);
void postcopying_check(vcore_vm *vm);

/* Frames, as in lib/vm/migrate_stream.h. */
enum {
	PAGES_FRAME = 3,
	STATE_FRAME = 4,
	GO_FRAME = 6,
	RUNS_FRAME = 7,
	ABSENT_FRAME = 11,
	END_FRAME = 13,
	WHOLE_FRAME = 14
};

/* A connection that ends, or stands still, at some frame of the source's. */
struct relay {
	int in, out;   /* the source's and the destination's side */
	uint32_t kind; /* of the frame that does not pass; UINT32_MAX: all do */
	unsigned nth;  /* after so many of its kind that come behind GO */
	uint32_t part; /* bytes of it that pass all the same */
	bool gone;     /* GO has passed */
	bool stands;   /* the connection stays */
	uint32_t mute; /* it ends at this frame of the destination's, too; 0: at none */
	_Atomic uint32_t reached;
	pthread_t thread, back;
};
/* Between the two sockets, which are the caller's. */
void relay_start(struct relay *relay, int *source, int *destination);
/* Cut it if it still is, and join its threads. */
void relay_end(struct relay *relay);

struct move {
	struct vcore_migrate_options o;
	struct vcore_clone_options clone;
	struct relay relay;
	vcore_vm *from, *to; /* to: NULL, it is not there */
	int source, destination, sent, received;
	struct migrating_sockets more; /* further connections, which nobody cuts */
	char why[256], why_not[256];   /* the sentences of the source and the destination */
	pthread_t sender, receiver;
};
/* Post-copy with these options between two threads; m->receiver is to be joined. */
void move_begin(struct move *move, int backend);
void move_end_sending(struct move *move);
void move_until_state(vcore_vm *vm, uint32_t state);

/* main() of a test program, which is left out where the host has no userfaultfd. */
int postcopying_main(Suite *suite);

#endif
