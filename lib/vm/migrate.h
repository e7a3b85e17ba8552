/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parts of a migration's source. */
#ifndef VC_VM_MIGRATE_H
#define VC_VM_MIGRATE_H

#include "vm/migrate_stream.h"
#include "vm/snapshot.h"

/* ---- memory (migrate_memory.c) ---- */

struct vc_mig_slot {
	struct vc_slot *slot; /* pinned */
	uint64_t pages;
	uint64_t *todo; /* one bit a page: to be sent */
	uint64_t *sent; /* was sent with contents, so that zeroes must be sent too */
	bool logged;
};

/* What is to be sent of a vm's memory. */
struct vc_mig_memory {
	struct vcore_vm *vm;
	struct vc_mig_stream *stream;
	uint64_t version; /* of the map, which may not change */
	uint32_t count;
	struct vc_mig_slot *slot; /* by address */
	uint64_t *bitmap;         /* room for one slot's */
	uint64_t bandwidth;       /* bytes a second; 0: no limit */
	uint64_t pages, zero_pages;
	/* after the switch to post-copy: pages asked for, and what is sent next */
	uint64_t wanted, cursor_page;
	uint32_t cursor_slot;
	uint64_t total; /* bytes in all slots */
	/* called after each frame; anything but 0 ends it. NULL: nobody */
	int (*after_frame)(void *ctx);
	void *ctx;
	/* the frame that is being made */
	uint32_t runs, data_pages;
	uint8_t *frame;
};

/* The dirty log is on from here on, and everything is to be sent. 0 or -errno; vc_mig_memory_end() in any case. */
int vc_mig_memory_begin(struct vc_mig_memory *memory, struct vcore_vm *vm, struct vc_mig_stream *stream);
void vc_mig_memory_end(struct vc_mig_memory *memory);
/* Ask what was written: how many pages are to be sent; -EBUSY the map has changed; -errno of the log. */
int64_t vc_mig_memory_look(struct vc_mig_memory *memory);
/* Send what is to be sent. 0 or -errno. */
int vc_mig_memory_send(struct vc_mig_memory *memory);
/* Pages that are to be sent now. */
uint64_t vc_mig_memory_left(const struct vc_mig_memory *memory);

/* ---- the vm's side (migrate_control.c) ---- */

/* The vm is being sent until vc_migrate_leave(), perhaps by post-copy; *cancel_fd: polls readable when it is to end.
 * -EALREADY, -ECANCELED. */
int vc_migrate_enter(struct vcore_vm *vm, bool postcopy, int *cancel_fd);
void vc_migrate_leave(struct vcore_vm *vm);
/* vcore_migrate_postcopy() was called for it. */
bool vc_migrate_wants_postcopy(struct vcore_vm *vm);
/* How far it is: for vcore_migrate_get_info(), and an event when the state is another. */
void vc_migrate_publish(struct vcore_vm *vm, const struct vcore_migrate_info *info);
/*
 * Send it, to an address, on a thread of the vm's own, which the last vcore_vm_unref() cancels and waits for. What
 * becomes of it is told by events. -EALREADY, -EAGAIN, -ENOMEM.
 */
int vc_migrate_start(struct vcore_vm *vm, const struct vcore_migrate_options *options);
/* Cancel it and wait for that thread; nobody uses the vm any more. */
void vc_migrate_fini(struct vcore_vm *vm);

#endif
