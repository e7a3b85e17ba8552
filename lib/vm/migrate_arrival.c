/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/migrate_arrival_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/thread.h"
#include "memory/missing.h"
#include "vm/migrate_absent.h"

static uint64_t words_of(const struct vc_arriving_slot *s)
{
	return (s->pages + 63) / 64;
}

/* ---- making and freeing ---- */

void vc_arrival_signal(int fd)
{
	static const uint64_t one = 1;

	/* the counter of an eventfd that is full says the same */
	if (write(fd, &one, sizeof one) < 0)
		return;
}

/* On a vcpu's thread. What is asked for twice is sent once. */
static void want(struct vc_missing *missing, uint64_t page)
{
	struct vc_arriving_slot *s = VC_CONTAINER_OF(missing, struct vc_arriving_slot, missing);
	struct vc_arrival *a = s->arrival;

	pthread_mutex_lock(&a->lock);
	if (a->wants < VC_ARRIVAL_WANTS)
		a->want[a->wants] = (struct vc_arrival_want){s, page};
	a->wants += a->wants <= VC_ARRIVAL_WANTS;
	pthread_mutex_unlock(&a->lock);
	vc_arrival_signal(a->again);
}

static int add_slot(struct vc_arrival *a, struct vc_slot *slot)
{
	struct vc_arriving_slot *s = &a->slot[a->count++];
	int r = vc_missing_check(slot);

	atomic_fetch_add_explicit(&slot->pins, 1, memory_order_relaxed);
	s->slot = slot;
	s->pages = slot->length / VC_PAGE_SIZE;
	s->absent = calloc(words_of(s), 8);
	s->asked = calloc(words_of(s), 8);
	s->arrival = a;
	s->missing.absent = s->absent;
	s->missing.want = want;
	if (r >= 0 && (!s->absent || !s->asked))
		r = vc_fail(ENOMEM, "migration: no memory for bitmaps of %llu pages", (unsigned long long)s->pages);
	return r;
}

static int add_slots(struct vc_arrival *a)
{
	struct vc_mem *mem = &a->vm->mem;
	int r = 0;

	vc_mem_rdlock(mem);
	a->slot = calloc(mem->count + 1, sizeof *a->slot);
	if (!a->slot)
		r = vc_fail(ENOMEM, "migration: no memory for a list of slots");
	for (uint32_t i = 0; r >= 0 && i < mem->count; i++)
		r = add_slot(a, mem->slots[i]);
	vc_mem_unlock(mem);
	return r;
}

static int open_all(struct vc_arrival *a)
{
	a->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	a->loaded = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	a->again = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (a->stop < 0 || a->loaded < 0 || a->again < 0)
		return vc_fail_errno(errno, "an eventfd for a migration");
	a->faults = vc_missing_open();
	return a->faults;
}

static void close_all(struct vc_arrival *a)
{
	const int fds[] = {a->stop, a->loaded, a->again};

	vc_arrival_close_faults(a);
	for (size_t i = 0; i < VC_ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	vc_mig_stream_close(&a->stream);
}

static void free_all(struct vc_arrival *a)
{
	close_all(a);
	for (uint32_t i = 0; i < a->count; i++) {
		a->slot[i].slot->missing = NULL;
		free(a->slot[i].absent);
		free(a->slot[i].asked);
		vc_mem_unpin(a->slot[i].slot);
	}
	free(a->slot);
	pthread_cond_destroy(&a->changed);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

int vc_arrival_new(struct vcore_vm *vm, const uint8_t *number, struct vc_arrival **arrival)
{
	struct vc_arrival *a = calloc(1, sizeof *a);
	int r;

	if (!a)
		return vc_fail(ENOMEM, "no memory for a migration");
	a->vm = vm;
	a->stream.fd = a->faults = a->stop = a->loaded = a->again = -1;
	memcpy(a->number, number, sizeof a->number);
	a->begun = vc_host_ns();
	a->info = (struct vcore_migrate_info){.size = sizeof a->info, .state = VCORE_MIGRATE_POSTCOPY};
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->changed, NULL);
	r = add_slots(a);
	if (r >= 0)
		r = open_all(a);
	/* the kernel says now whether it can */
	for (uint32_t i = 0; r >= 0 && i < a->count; i++) {
		struct vc_slot *slot = a->slot[i].slot;

		a->info.memory += slot->length;
		if (slot->host_readonly)
			continue;
		r = vc_missing_begin(a->faults, slot);
		vc_missing_end(a->faults, slot);
		atomic_store(&slot->presence, VC_PRESENT);
	}
	if (r < 0) {
		free_all(a);
		return r;
	}
	*arrival = a;
	return 0;
}

/* ---- what is absent ---- */

static int drop_runs(struct vc_arriving_slot *s)
{
	uint64_t page = 0, count;
	int r = 0;

	while (r >= 0 && (count = vc_image_next_run(s->absent, s->pages, 0, &page))) {
		r = vc_missing_drop(s->slot, page, count);
		page += count;
	}
	return r;
}

static int begin_slots(struct vc_arrival *a)
{
	int r = 0;

	for (uint32_t i = 0; r >= 0 && i < a->count; i++) {
		struct vc_arriving_slot *s = &a->slot[i];

		if (s->slot->host_readonly)
			continue;
		s->slot->missing = &s->missing;
		r = vc_missing_begin(a->faults, s->slot);
		s->registered = r >= 0;
		/* with nobody between: what is dropped is missing at once */
		if (r >= 0)
			r = drop_runs(s);
	}
	return r;
}

int vc_arrival_absent(struct vc_arrival *a, const struct vc_mig_frame *f)
{
	struct vc_arriving_slot *s = f->argument < a->count ? &a->slot[f->argument] : NULL;
	int64_t added = vc_mig_absent_take(f, a->count, s ? s->absent : NULL, s ? s->pages : 0);

	a->left += added > 0 ? (uint64_t)added : 0;
	return added < 0 ? (int)added : 0;
}

bool vc_arrival_is_needed(const struct vc_arrival *a)
{
	return a && a->left;
}

/* ---- for those who receive ---- */

int vc_arrival_start(struct vc_arrival *a, struct vc_mig_stream *stream)
{
	int r = begin_slots(a);

	if (r < 0)
		return r;
	a->stream = *stream;
	/* what others of its migration have to do with it ends here */
	a->stream.cancel_fd = a->stop;
	a->stream.stop_fd = -1;
	a->stream.moved = NULL;
	a->stream.tick = NULL;
	a->stream.deadline = UINT64_MAX;
	a->heard = vc_host_ns();
	r = vc_thread_new(&a->thread, vc_arrival_run, a);
	if (r) {
		a->stream.fd = -1;
		return vc_fail_errno(r, "migration: a thread");
	}
	a->started = true;
	stream->fd = -1;
	return 0;
}

int vc_arrival_take_over(struct vc_arrival *a)
{
	char message[256];
	int r = 0;

	vc_arrival_signal(a->loaded);
	pthread_mutex_lock(&a->lock);
	while (a->phase < VC_ARRIVAL_FILLING)
		pthread_cond_wait(&a->changed, &a->lock);
	/* one that is at its end already may have been ours for a moment: then the vm has ended, and says so */
	r = a->phase == VC_ARRIVAL_DONE && !atomic_load(&a->vm->lost) ? a->error : 0;
	snprintf(message, sizeof message, "%s", a->message);
	pthread_mutex_unlock(&a->lock);
	if (r < 0)
		return vc_fail(-r, "%s", message);
	a->vm->arrival = a;
	return 0;
}

static void stop(struct vc_arrival *a)
{
	vc_arrival_signal(a->stop);
	if (a->started)
		pthread_join(a->thread, NULL);
	a->started = false;
}

void vc_arrival_give_up(struct vc_arrival *a)
{
	if (!a)
		return;
	stop(a);
	vc_mig_tell_failure(&a->stream);
	vc_mig_stream_shutdown(&a->stream);
	free_all(a);
}

void vc_arrival_stop(struct vc_arrival *a)
{
	if (!a)
		return;
	pthread_mutex_lock(&a->vm->lock);
	a->ended = a->vm->ending;
	pthread_mutex_unlock(&a->vm->lock);
	stop(a);
}

void vc_arrival_free(struct vc_arrival *a)
{
	if (a)
		free_all(a);
}
