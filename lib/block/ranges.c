/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "block/ranges.h"

#include <stddef.h>

void vc_ranges_init(struct vc_ranges *ranges, void (*granted)(struct vc_range *range))
{
	*ranges = (struct vc_ranges){.granted = granted};
	pthread_mutex_init(&ranges->lock, NULL);
}

void vc_ranges_fini(struct vc_ranges *ranges)
{
	pthread_mutex_destroy(&ranges->lock);
}

static bool must_wait(const struct vc_range *range)
{
	for (const struct vc_range *other = range->previous; other; other = other->previous) {
		if ((range->exclusive || other->exclusive) && range->first <= other->last && other->first <= range->last)
			return true;
	}
	return false;
}

bool vc_ranges_acquire(struct vc_ranges *ranges, struct vc_range *range, uint64_t first, uint64_t last, bool exclusive)
{
	bool granted;

	pthread_mutex_lock(&ranges->lock);
	*range = (struct vc_range){.previous = ranges->tail, .first = first, .last = last, .exclusive = exclusive};
	if (ranges->tail)
		ranges->tail->next = range;
	else
		ranges->head = range;
	ranges->tail = range;
	granted = range->granted = !must_wait(range);
	ranges->waiting += !granted;
	pthread_mutex_unlock(&ranges->lock);
	return granted;
}

static void unlink_range(struct vc_ranges *ranges, struct vc_range *range)
{
	if (range->previous)
		range->previous->next = range->next;
	else
		ranges->head = range->next;
	if (range->next)
		range->next->previous = range->previous;
	else
		ranges->tail = range->previous;
}

void vc_ranges_release(struct vc_ranges *ranges, struct vc_range *range)
{
	struct vc_range *ready = NULL, **last = &ready;

	pthread_mutex_lock(&ranges->lock);
	unlink_range(ranges, range);
	for (struct vc_range *r = ranges->waiting ? ranges->head : NULL; r; r = r->next) {
		if (r->granted || must_wait(r))
			continue;
		r->granted = true;
		ranges->waiting--;
		r->ready = NULL;
		*last = r;
		last = &r->ready;
	}
	pthread_mutex_unlock(&ranges->lock);
	while (ready) {
		struct vc_range *next = ready->ready;

		ranges->granted(ready);
		ready = next;
	}
}
