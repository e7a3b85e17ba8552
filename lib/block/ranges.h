/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which requests are at which clusters. Reads and writes in place share a cluster; what changes its place has it alone.
 * First come, first served: a range waits for every earlier one that it overlaps and that it cannot share with.
 */
#ifndef VC_BLOCK_RANGES_H
#define VC_BLOCK_RANGES_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct vc_range {
	struct vc_range *previous, *next; /* in order of arrival */
	struct vc_range *ready;
	uint64_t first, last;
	bool exclusive, granted;
};

struct vc_ranges {
	pthread_mutex_t lock; /* protects the list; held for moments */
	struct vc_range *head, *tail;
	unsigned waiting;
	void (*granted)(struct vc_range *range); /* for one that had to wait; no lock held */
};

void vc_ranges_init(struct vc_ranges *ranges, void (*granted)(struct vc_range *range));
void vc_ranges_fini(struct vc_ranges *ranges);
/* True: it is granted. False: it waits, granted() will be called. */
bool vc_ranges_acquire(struct vc_ranges *ranges, struct vc_range *range, uint64_t first, uint64_t last, bool exclusive);
void vc_ranges_release(struct vc_ranges *ranges, struct vc_range *range);

#endif
