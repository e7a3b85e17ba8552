/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parts of a migration's destination. */
#ifndef VC_VM_MIGRATE_RECEIVE_H
#define VC_VM_MIGRATE_RECEIVE_H

#include "core/address.h"
#include "vm/migrate_arrival.h"
#include "vm/migrate_crew.h"
#include "vm/migrate_stream.h"
#include "vm/snapshot.h"

struct vc_mig_receiving;

/* A connection; used by one thread at a time. */
struct vc_mig_inlet {
	struct vc_mig_stream stream;
	struct vc_mig_receiving *whole;
	uint8_t *unpacked; /* room for the contents of a frame; NULL: nothing is packed */
	_Atomic uint64_t pages, zero_pages, delta_pages;
	pthread_t thread;
};

struct vc_mig_receiving {
	struct vcore_migrate_receive_options o;
	struct vc_mig_crew crew;
	/* the first one has the states too. Found before threads are started */
	struct vc_mig_inlet inlet[VC_MIG_STREAMS];
	uint32_t inlets;
	uint32_t features;
	uint8_t number[VC_MIG_NUMBER_BYTES];
	/* where connections are taken; -1: nowhere */
	int listener;
	union vc_address address;
	struct vcore_vm *vm; /* NULL: not made yet */
	struct vc_still still;
	bool held;
	struct vc_arrival *arrival;            /* memory may come by post-copy; NULL: it will not */
	struct vcore_migrate_info info;        /* of the calling thread */
	uint64_t begun, told, told_bytes;      /* host time; of the last progress */
	uint64_t round_pages, round_looked_at; /* in this round; taken before it */
};

/* migrate_accept.c: where a source is to connect to. A descriptor, to be closed, and vc_address_unlisten() to follow;
 * -errno */
int vc_mig_listen(const char *text, union vc_address *address);
/* One connection; wait_ms 0: no limit; cancel_fd: polls readable: give up; -1: nobody can. A descriptor or -errno */
int vc_mig_accept_one(int listener, uint32_t wait_ms, int cancel_fd);

/* migrate_accept.c: all connections, with their greetings. 0 or -errno; vc_mig_accept_end() in any case. */
int vc_mig_accept(struct vc_mig_receiving *receiving);
void vc_mig_accept_end(struct vc_mig_receiving *receiving);

/* migrate_take.c: memory, over all connections, up to the end of the last round. READY is sent meanwhile. */
int vc_mig_take_memory(struct vc_mig_receiving *receiving);

#endif
