/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The destination of a post-copy migration: a vm whose memory comes while it runs. */
#ifndef VC_VM_MIGRATE_ARRIVAL_H
#define VC_VM_MIGRATE_ARRIVAL_H

#include "vm/migrate_stream.h"
#include "vm/vm.h"

struct vc_arrival;

/* Whether this host and the vm's memory can do it, before anything moves. number: of VC_MIG_NUMBER_BYTES. 0 or -errno
 */
int vc_arrival_new(struct vcore_vm *vm, const uint8_t *number, struct vc_arrival **arrival);
/* A frame ABSENT: those pages are missing from now on. Nobody may touch memory before vc_arrival_start(). 0 or -errno
 */
int vc_arrival_absent(struct vc_arrival *arrival, const struct vc_mig_frame *frame);
/* Something is absent. */
bool vc_arrival_is_needed(const struct vc_arrival *arrival);
/* A thread serves who touches what is missing. The stream is the arrival's from here on, if 0 is returned. */
int vc_arrival_start(struct vc_arrival *arrival, struct vc_mig_stream *stream);
/* The vm's states are loaded. Returns when the source has given it up; the arrival is the vm's then. 0 or -errno */
int vc_arrival_take_over(struct vc_arrival *arrival);
/* One that is not the vm's: the source is told vcore_error_message(), and frees nothing of its own. NULL is allowed. */
void vc_arrival_give_up(struct vc_arrival *arrival);

/* vcore_migrate_recover() of the vm's; cancel_fd: polls readable when it is to end. */
int vc_arrival_recover(struct vc_arrival *arrival, const struct vcore_migrate_recover_options *options, int cancel_fd);
/* What was interrupted is lost, and the vm ends. False: it is not. NULL is allowed. */
bool vc_arrival_abandon(struct vc_arrival *arrival);

/* Nobody wants the vm any more: it ends, and what is missing is lost. NULL is allowed. */
void vc_arrival_stop(struct vc_arrival *arrival);
/* After the vm's threads were joined. NULL is allowed. */
void vc_arrival_free(struct vc_arrival *arrival);

#endif
