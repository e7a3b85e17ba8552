/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The source of a post-copy migration: what is left is sent while the guest runs on the other side. */
#ifndef VC_VM_MIGRATE_POSTCOPY_H
#define VC_VM_MIGRATE_POSTCOPY_H

#include "vm/migrate.h"

/* Used by the thread that sends, on the first connection. */
struct vc_mig_follow {
	struct vc_mig_memory *memory;
	struct vc_mig_stream *stream;
	uint64_t pages, zero_pages; /* that were sent */
	uint64_t wanted;            /* that were asked for */
	uint64_t cursor_page;       /* what is sent next */
	uint32_t cursor_slot;
};

/* Whether this vm's memory may stay behind, before anything moves. 0; -ENOTSUP */
int vc_mig_follow_check(struct vcore_vm *vm);
/* The guest is stopped, and vc_mig_memory_look() was called: tell what is not there. 0 or -errno */
int vc_mig_follow_announce(struct vc_mig_follow *follow);
/* On another connection: what the other side still waits for is to be sent, and nothing else. 0 or -errno */
int vc_mig_follow_again(struct vc_mig_follow *follow);
/* Send what is asked for until a frame of that kind comes. 0 or -errno */
int vc_mig_follow_until(struct vc_mig_follow *follow, enum vc_mig_kind kind);
/* Send all the rest, what is asked for first, until the other side says that it is whole. told: between frames */
int vc_mig_follow_push(struct vc_mig_follow *follow, void (*told)(void *ctx), void *ctx);

#endif
