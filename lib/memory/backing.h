/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Host memory behind a slot. */
#ifndef VC_MEMORY_BACKING_H
#define VC_MEMORY_BACKING_H

#include "memory/memory.h"

/* Fill slot->hva, fd (-1 before), map_length, host_readonly from its gpa, length, flags, kind and the options. 0 or
 * -errno with a sentence; on failure nothing is left. */
int vc_backing_map(struct vc_slot *slot, const struct vcore_memory_options *options);
/* options->numa, before a page is touched. */
int vc_backing_numa(const struct vc_slot *slot, const char *policy);
/* VCORE_MEM_PREALLOC. */
int vc_backing_populate(const struct vc_slot *slot, const struct vcore_memory_options *options);
/*
 * Give [at, at+length) of a slot's memory back to the host; it reads as zeroes then, or as in the image it derives
 * from. What is no whole page of the backing, and memory that is not the library's own to empty (the caller's, private
 * mappings of files), stays as it is.
 */
void vc_backing_discard(struct vc_slot *slot, uint64_t at, uint64_t length);
/* NULL pointers and descriptors of -1 are fine. */
void vc_backing_unmap(struct vc_slot *slot);

#endif
