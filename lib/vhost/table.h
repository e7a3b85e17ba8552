/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The memory that a back-end is given: the rings, and every slot of the vm that other processes can map. */
#ifndef VC_VHOST_TABLE_H
#define VC_VHOST_TABLE_H

#include "memory/memory.h"
#include "vhost/user.h"

/* Where the rings are, as the back-end counts: behind all guest-physical addresses. */
#define VC_VHOST_RINGS_GPA (1ull << 52)

struct vc_vhost_entry {
	struct vc_slot *slot; /* pinned, and counted as shared; NULL: the rings */
	bool given;           /* the back-end that is connected has it */
	struct vc_vhost_region region;
};

struct vc_vhost_table {
	struct vc_vhost_entry *entries; /* the rings first */
	unsigned count;
	uint64_t version; /* of the memory map that it shows */
};

/* Without slots yet. */
int vc_vhost_table_init(struct vc_vhost_table *t, const struct vc_vhost_region *rings);
void vc_vhost_table_fini(struct vc_vhost_table *t);
/* Nobody has anything: another back-end is there. */
void vc_vhost_table_forget(struct vc_vhost_table *t);
/*
 * As the memory map is now. On failure it is unchanged: -EINVAL, with a sentence that names memory_kind, where there
 * is memory that cannot be shared.
 */
int vc_vhost_table_refresh(struct vc_vhost_table *t, struct vc_mem *mem, struct vc_vhost_user *u);
/* Have the back-end know it as a whole. With one that takes no single regions, no queue may be under way. */
int vc_vhost_table_give(struct vc_vhost_table *t, struct vc_vhost_user *u);
/* How the back-end calls host memory of ours; false: it does not have it. */
bool vc_vhost_table_gpa(const struct vc_vhost_table *t, const void *hva, uint64_t length, uint64_t *gpa);

#endif
