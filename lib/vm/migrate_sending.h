/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A migration as its source has it: while it is sent, and while it waits to be taken up again. */
#ifndef VC_VM_MIGRATE_SENDING_H
#define VC_VM_MIGRATE_SENDING_H

#include "vm/migrate_postcopy.h"

#define VC_MIG_PROGRESS_NS 250000000u

/* Used by one thread at a time; between two by none, but under the vm's lock. */
struct vc_mig_sending {
	struct vcore_vm *vm;
	struct vcore_migrate_options o;
	struct vc_mig_crew crew;
	struct vc_mig_channel channel[VC_MIG_STREAMS]; /* the first one has the states too */
	uint32_t channels;
	struct vc_mig_memory memory;
	struct vc_still still;          /* from the switch-over on */
	struct vcore_migrate_info info; /* ours; the vm's copy is under its lock */
	uint64_t begun, told;           /* host time; of the last progress */
	uint64_t state_ns;              /* what taking and encoding the states took */
	uint64_t states_measured;       /* host time of the last time but the first */
	/* of the round: when it began, pages to be looked at, and counters at its begin */
	uint64_t round_begin, round_left, round_pages, round_looked_at;
	uint64_t measured_bytes, measured_ns; /* for the rate */
	bool throttled;
	bool postcopy; /* the rest follows when the other side runs */
	/* the connection was lost, after which it may be taken up again: UNDECIDED or INTERRUPTED, enum
	 * vcore_migrate_state; NONE: it was not */
	uint32_t kept;
	struct vc_mig_follow follow;
	uint8_t number[VC_MIG_NUMBER_BYTES]; /* says on another connection which one it is */
	struct vc_mig_counts before;         /* of connections that were lost */
};

/* What all of its connections have in common. */
struct vc_mig_stream vc_mig_sending_model(const struct vc_mig_sending *sending, int cancel_fd);
struct vc_mig_counts vc_mig_sending_counts(struct vc_mig_sending *sending);
/* Let the vcpus run if they are throttled, up to the next tick. */
void vc_mig_sending_let_run(struct vc_mig_sending *sending);
/* Tell how far it is: the vm; and who has options.progress called. 0; -ECANCELED */
void vc_mig_sending_update(struct vc_mig_sending *sending);
int vc_mig_sending_tell(struct vc_mig_sending *sending);
/* The other side runs, and has not all that is here: send it. 0; -ENOLINK, and it is kept */
int vc_mig_sending_follow(struct vc_mig_sending *sending);
/* The other side has all. */
void vc_mig_sending_end_vm(struct vc_mig_sending *sending);
/* The connections have failed: the other side sees the end. */
void vc_mig_sending_hang_up(struct vc_mig_sending *sending, int error);
/* What came of it, with its sentence if r is negative: free it, or leave it to the vm if it is kept. */
void vc_mig_sending_end(struct vc_mig_sending *sending, int r);
/* One that was kept is given up. Keeps vcore_error_message(). */
void vc_mig_sending_drop(struct vc_mig_sending *sending);

#endif
