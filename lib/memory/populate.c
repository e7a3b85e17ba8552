/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Touching every page of a slot now, on several threads. */
#include <limits.h>
#include <sched.h>
#include <sys/mman.h>

#include "core/error.h"
#include "core/thread.h"
#include "core/util.h"
#include "memory/backing.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif

#define PIECE       VC_MIB(16)
#define THREADS_MAX 64u
/* More threads than these hold each other up in the kernel's page allocator, unless the program knows better. */
#define THREADS_DEFAULT 16u

struct work {
	const struct vc_slot *slot;
	bool advise;           /* the kernel knows MADV_POPULATE_* (5.14) */
	_Atomic uint64_t next; /* first byte that nobody has taken */
	_Atomic uint64_t done; /* bytes */
	_Atomic int error;     /* the first; who sees it stops */
};

static int advise(const struct work *w, uint64_t at, uint64_t length)
{
	int advice = w->slot->host_readonly ? MADV_POPULATE_READ : MADV_POPULATE_WRITE;

	while (madvise(w->slot->hva + at, length, advice) < 0)
		if (errno != EINTR && errno != EAGAIN)
			return errno;
	return 0;
}

/* Without changing it: other processes, or a guest in another slot, may be writing there. */
static void touch(const struct work *w, uint64_t start, uint64_t length)
{
	for (uint64_t at = start; at < start + length; at += VC_PAGE_SIZE) {
		_Atomic uint8_t *byte = (_Atomic uint8_t *)(w->slot->hva + at);

		if (w->slot->host_readonly)
			(void)atomic_load(byte);
		else
			atomic_fetch_or(byte, 0);
	}
}

/* The next piece. False: there is none, or one has failed. */
static bool do_piece(struct work *w)
{
	uint64_t at = atomic_fetch_add(&w->next, PIECE), length;
	int error = 0, none = 0;

	if (at >= w->slot->length || atomic_load(&w->error))
		return false;
	length = w->slot->length - at < PIECE ? w->slot->length - at : PIECE;
	if (w->advise)
		error = advise(w, at, length);
	else
		touch(w, at, length);
	if (error)
		atomic_compare_exchange_strong(&w->error, &none, error);
	else
		atomic_fetch_add(&w->done, length);
	return !error;
}

static void *help(void *ctx)
{
	while (do_piece(ctx))
		;
	return NULL;
}

static unsigned helpers_wanted(const struct vc_slot *slot, unsigned threads)
{
	uint64_t pieces = (slot->length + PIECE - 1) / PIECE;
	cpu_set_t cpus;

	if (!threads) {
		threads = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? (unsigned)CPU_COUNT(&cpus) : 1;
		threads = threads < THREADS_DEFAULT ? threads : THREADS_DEFAULT;
	}
	return (unsigned)(threads < pieces ? threads : pieces) - 1;
}

int vc_backing_populate(const struct vc_slot *slot, const struct vcore_memory_options *o)
{
	struct work w = {.slot = slot, .advise = madvise(slot->hva, 0, MADV_POPULATE_WRITE) == 0};
	unsigned wanted, helpers = 0;
	pthread_t threads[THREADS_MAX];
	int none = 0;

	if (o->prealloc_threads > THREADS_MAX)
		return vc_fail(EINVAL, "memory: prealloc_threads is %u: expected 0 to %u", o->prealloc_threads, THREADS_MAX);
	/* fewer than wanted do as well */
	wanted = helpers_wanted(slot, o->prealloc_threads);
	while (helpers < wanted && vc_thread_new(&threads[helpers], help, &w) == 0)
		helpers++;
	while (do_piece(&w))
		if (o->progress && o->progress(o->progress_ctx, atomic_load(&w.done), slot->length))
			atomic_compare_exchange_strong(&w.error, &none, ECANCELED);
	while (helpers > 0)
		pthread_join(threads[--helpers], NULL);
	if (o->progress && !w.error && o->progress(o->progress_ctx, slot->length, slot->length))
		w.error = ECANCELED;
	if (w.error == ECANCELED)
		return vc_fail(ECANCELED, "memory: allocating %#llx bytes now: cancelled", (unsigned long long)slot->length);
	return w.error ? vc_fail_errno(w.error, "memory: allocating %#llx bytes now", (unsigned long long)slot->length) : 0;
}
