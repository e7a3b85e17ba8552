/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parts of an arrival: what it is made of, and its thread. */
#ifndef VC_VM_MIGRATE_ARRIVAL_PRIV_H
#define VC_VM_MIGRATE_ARRIVAL_PRIV_H

#include "memory/missing.h"
#include "vm/migrate.h"
#include "vm/migrate_arrival.h"

enum vc_arrival_phase {
	VC_ARRIVAL_LOADING,     /* the states are being loaded */
	VC_ARRIVAL_WAITING,     /* for the source to give the vm up */
	VC_ARRIVAL_FILLING,     /* the vm is ours */
	VC_ARRIVAL_INTERRUPTED, /* likewise, and there is no connection */
	VC_ARRIVAL_DONE,
};

struct vc_arriving_slot {
	struct vc_slot *slot; /* pinned */
	uint64_t pages;
	uint64_t *absent; /* one bit a page: still to come */
	uint64_t *asked;
	bool registered;
	struct vc_arrival *arrival;
	struct vc_missing missing;
};

/* A page for which a vcpu waits. */
struct vc_arrival_want {
	struct vc_arriving_slot *slot;
	uint64_t page;
};
#define VC_ARRIVAL_WANTS 64u /* what does not fit comes all the same, and is not known */

/* Used by the thread alone from vc_arrival_start() on, but for what a lock protects. */
struct vc_arrival {
	struct vcore_vm *vm;
	struct vc_mig_stream stream;
	int faults; /* userfaultfd */
	int stop;   /* eventfd: the thread is to end */
	int loaded; /* eventfd: vc_arrival_take_over() waits */
	int again;  /* eventfd: `offering`, `abandoned` or `wants` */
	uint8_t number[VC_MIG_NUMBER_BYTES];
	uint32_t count;
	struct vc_arriving_slot *slot;
	uint64_t left; /* pages that are absent */
	uint32_t outstanding;
	bool wake_always; /* who waits for what is not known */
	uint64_t heard;   /* host time of the last frame */
	bool started;
	pthread_t thread;
	struct vcore_migrate_info info;
	bool untold; /* the vm was not told of it yet */
	uint64_t begun;
	struct vcore_exit exit; /* of the vm, if it is lost */
	_Atomic bool ended;     /* the vm had ended when it was dropped; before `stop` is signalled */

	pthread_mutex_t lock; /* protects what follows; innermost */
	pthread_cond_t changed;
	enum vc_arrival_phase phase; /* written by the thread */
	int error;                   /* VC_ARRIVAL_DONE: 0 or -errno, with its sentence */
	char message[256];
	uint32_t wants; /* more than VC_ARRIVAL_WANTS: some are not in `want` */
	struct vc_arrival_want want[VC_ARRIVAL_WANTS];
	bool whole;     /* VC_ARRIVAL_DONE: all of it came */
	bool abandoned; /* nobody will take it up again */
	bool offering;  /* `offered` waits to be taken; once it is not, offer_error says what came of it */
	struct vc_mig_stream offered;
	int offer_error;
	char offer_message[256];
};

/* migrate_arrival.c: an eventfd becomes readable. */
void vc_arrival_signal(int fd);

/* migrate_arriving.c: the thread's, with the arrival. */
void *vc_arrival_run(void *ctx);
/* Closing the descriptor wakes who waits: for zeroes. */
void vc_arrival_close_faults(struct vc_arrival *arrival);
/* Tell the vm, now or, if somebody has its lock, who may wait for a page, in a later step. */
void vc_arrival_publish(struct vc_arrival *arrival, uint32_t state);
void vc_arrival_set_phase(struct vc_arrival *arrival, enum vc_arrival_phase phase);
int vc_arrival_ask(struct vc_arrival *arrival, const struct vc_arriving_slot *slot, uint64_t page);
int vc_arrival_serve_wants(struct vc_arrival *arrival);

/* migrate_arrival_again.c: likewise. */
/* The connection has failed, with vcore_error_message(): wait for another one. */
void vc_arrival_interrupt(struct vc_arrival *arrival, int error);
/* `again` is readable. 0; -ECONNABORTED: it is given up */
int vc_arrival_go_on(struct vc_arrival *arrival);
/* It has ended: whoever offers a connection is told. */
void vc_arrival_refuse(struct vc_arrival *arrival);

#endif
