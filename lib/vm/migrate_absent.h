/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames ABSENT: which pages of a slot are not there. */
#ifndef VC_VM_MIGRATE_ABSENT_H
#define VC_VM_MIGRATE_ABSENT_H

#include "vm/migrate_stream.h"

/* Tell of a slot whose bits are given, one a page; of one that has none set, nothing. 0 or -errno */
int vc_mig_absent_send(struct vc_mig_stream *stream, uint32_t slot, const uint64_t *bits, uint64_t pages);
/* A frame about a slot of so many pages, of which there are `slots`: its bits are set. How many of them were not;
 * -EPROTO */
int64_t vc_mig_absent_take(const struct vc_mig_frame *frame, uint32_t slots, uint64_t *bits, uint64_t pages);
/* The first page that a frame tells of, whatever it is worth. */
uint64_t vc_mig_absent_first(const struct vc_mig_frame *frame);

#endif
