/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parts of a migration's source. */
#ifndef VC_VM_MIGRATE_H
#define VC_VM_MIGRATE_H

#include "vm/migrate_crew.h"
#include "vm/migrate_delta.h"
#include "vm/migrate_stream.h"
#include "vm/snapshot.h"

/* ---- memory (migrate_memory.c) ---- */

struct vc_mig_channel;
struct vc_mig_sending;

struct vc_mig_slot {
	struct vc_slot *slot; /* pinned */
	uint64_t pages;
	uint64_t *todo; /* one bit a page: to be sent. Does not change during a round */
	uint8_t *sent;  /* was sent with contents, so that zeroes must be sent too */
	bool logged;
};

/* What is to be sent of a vm's memory. */
struct vc_mig_memory {
	struct vcore_vm *vm;
	uint64_t version; /* of the map, which may not change */
	uint32_t count;
	struct vc_mig_slot *slot; /* by address */
	uint64_t *bitmap;         /* room for one slot's */
	uint64_t total;           /* bytes in all slots */
	_Atomic bool enough;      /* channels end their round early: what they have not sent is to follow by post-copy */
};

/* The dirty log is on from here on, and everything is to be sent. 0 or -errno; vc_mig_memory_end() in any case. */
int vc_mig_memory_begin(struct vc_mig_memory *memory, struct vcore_vm *vm);
void vc_mig_memory_end(struct vc_mig_memory *memory);
/* Ask what was written: how many pages are to be sent; -EBUSY the map has changed; -errno of the log. */
int64_t vc_mig_memory_look(struct vc_mig_memory *memory);
/* Pages that are to be sent now. */
uint64_t vc_mig_memory_left(const struct vc_mig_memory *memory);
/* All of them were. */
void vc_mig_memory_sent(struct vc_mig_memory *memory);
/* So many channels have ended a round early: what they have sent is to be sent no more. */
void vc_mig_memory_sent_some(struct vc_mig_memory *memory, const struct vc_mig_channel *channel, uint32_t channels);

/* ---- a connection, and the pages that go over it (migrate_pages.c) ---- */

/* What is read of it while another thread sends. */
struct vc_mig_counts {
	uint64_t pages, zero_pages, delta_pages; /* as in struct vcore_migrate_info */
	uint64_t saved;
	uint64_t looked_at; /* pages */
	uint64_t bytes;     /* on the connection */
};

/*
 * Of each slot, every so manieth group of 8 pages belongs to a channel, always to the same one: what it sends and
 * remembers is its own, so are the bytes of vc_mig_slot.sent. Used by one thread at a time.
 */
struct vc_mig_channel {
	struct vc_mig_stream stream;
	struct vc_mig_memory *memory;
	uint32_t index, ways; /* which one of how many */
	uint32_t features;    /* enum vc_mig_feature */
	uint64_t bandwidth;   /* of this one, bytes a second; 0: no limit */
	/* called after each frame; anything but 0 ends it. NULL: nobody */
	int (*after_frame)(void *ctx);
	void *ctx;
	struct vc_mig_cache cache;
	/* the frame that is being made: a table, and room for a full one; contents behind that */
	uint32_t runs, contents; /* in the table; bytes */
	uint32_t frame_pages, pages_max;
	uint8_t *frame, *packed;
	uint64_t slice_begin, slice_bytes; /* from where on the limit counts */
	uint32_t end_slot;                 /* where its last round ended: all of its own before it was sent */
	uint64_t end_page;                 /* likewise; a multiple of 64 */
	_Atomic uint64_t pages, zero_pages, delta_pages, saved, looked_at;
	/* migrate_round.c */
	struct vc_mig_round *round;
	pthread_t thread;
};

/* Which one of how many it is, and what its pages go through; its stream is open. vc_mig_channel_fini() in any case. */
int vc_mig_channel_init(struct vc_mig_channel *channel, struct vc_mig_memory *memory, uint64_t cache_bytes);
void vc_mig_channel_fini(struct vc_mig_channel *channel);
/* Send what is to be sent of its own, or less once memory->enough. 0 or -errno. */
int vc_mig_channel_send(struct vc_mig_channel *channel);
/* Those pages of a word of a bitmap that are its own. */
uint64_t vc_mig_channel_own(const struct vc_mig_channel *channel, uint64_t word, uint64_t bits);
void vc_mig_channel_add_counts(struct vc_mig_channel *channel, struct vc_mig_counts *counts);

/* ---- all channels together (migrate_round.c) ---- */

struct vc_mig_round {
	struct vc_mig_crew *crew;
	struct vc_mig_channel *channel; /* the first one is the caller's, the others have threads for the time of a round */
	uint32_t channels;
	uint32_t number; /* from 1 */
	bool last;       /* the other side is told that there is none after it */
	uint64_t pages;
	int done_fd; /* eventfd: counts threads that are at their end */
};

/* Send what is to be sent, over all channels. 0 or -errno of the first one that failed; no thread is left. */
int vc_mig_round_run(struct vc_mig_round *round);

/* ---- connections (migrate_connect.c) ---- */

/* With less, bytes a second, the other side could take one for dead. */
#define VC_MIG_BANDWIDTH_MIN 16384u

/* How many the options ask for. */
uint32_t vc_mig_ways(const struct vcore_migrate_options *options);

/*
 * All connections that the options ask for, greeted. channel: VC_MIG_STREAMS of them, all zeros but for stream.fd, -1.
 * *count: how many were opened, also on failure. number: of VC_MIG_NUMBER_BYTES, made up here.
 */
int vc_mig_connect(const struct vcore_migrate_options *options, const struct vc_mig_stream *model, uint8_t *number,
                   struct vc_mig_channel *channel, uint32_t *count);
/* One connection for a migration of that number, which was interrupted. stream: may be open also on failure */
int vc_mig_connect_again(const struct vcore_migrate_options *options, const struct vc_mig_stream *model,
                         const uint8_t *number, struct vc_mig_stream *stream);

/* ---- the vm's side (migrate_control.c) ---- */

/* What vcore_migrate_send() refuses before anything is sent. *o: the options, with what they leave to us filled in. */
int vc_migrate_check(struct vcore_vm *vm, const struct vcore_migrate_options *options, struct vcore_migrate_options *o);

/* The vm is being sent until vc_migrate_leave(), perhaps by post-copy; *cancel_fd: polls readable when it is to end.
 * -EALREADY, -ECANCELED; -EBUSY it was interrupted. */
int vc_migrate_enter(struct vcore_vm *vm, bool postcopy, int *cancel_fd);
/* Likewise until vc_migrate_leave(), to take an interrupted one up again. *kept: the source's; NULL: this vm is not a
 * source that was interrupted. errors likewise */
int vc_migrate_enter_again(struct vcore_vm *vm, struct vc_mig_sending **kept, int *cancel_fd);
/* It has ended so, as far as is known; kept: it is the vm's until it is taken up again. NULL: it is not */
void vc_migrate_leave(struct vcore_vm *vm, const struct vcore_migrate_info *info, struct vc_mig_sending *kept);
/* vcore_vm_resume() of a vm of which nobody knows whether the other side runs: the program says that it does not. */
void vc_migrate_decide(struct vcore_vm *vm);
/* vcore_migrate_postcopy() was called for it. */
bool vc_migrate_wants_postcopy(struct vcore_vm *vm);
/* How far it is: for vcore_migrate_get_info(), and an event when the state is another. */
void vc_migrate_publish(struct vcore_vm *vm, const struct vcore_migrate_info *info);
/* From one state to another one, if it is in that. */
void vc_migrate_move(struct vcore_vm *vm, uint32_t from, uint32_t to, const char *error);
/* Likewise, without waiting for the vm's lock. False: somebody else has it */
bool vc_migrate_try_publish(struct vcore_vm *vm, const struct vcore_migrate_info *info);
/*
 * Send it, to an address, on a thread of the vm's own, which the last vcore_vm_unref() cancels and waits for. What
 * becomes of it is told by events, and by vcore_migrate_get_info() from now on. -EALREADY, -EAGAIN, -ENOMEM, and as
 * vc_migrate_check().
 */
int vc_migrate_start(struct vcore_vm *vm, const struct vcore_migrate_options *options);
/* Likewise vcore_migrate_recover(). -ENOENT: it is not interrupted */
int vc_migrate_start_recovery(struct vcore_vm *vm, const struct vcore_migrate_recover_options *options);
/* Cancel it and wait for that thread; nobody uses the vm any more. */
void vc_migrate_fini(struct vcore_vm *vm);

#endif
