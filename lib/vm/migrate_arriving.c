/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The thread that serves who waits for memory, and takes it as it comes. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/util.h"
#include "memory/missing.h"
#include "vm/migrate_arrival_priv.h"

/* So many pages are asked for at a time: what is not asked for comes all the same. */
#define ASKED_MAX 64u
#define FAULTS    16u

void vc_arrival_close_faults(struct vc_arrival *a)
{
	if (a->faults >= 0)
		close(a->faults);
	a->faults = -1;
}

/* ---- telling ---- */

static void note_state(struct vc_arrival *a, uint32_t state)
{
	a->info.state = state;
	a->info.remaining = a->left * VC_PAGE_SIZE;
	a->info.total_ns = vc_host_ns() - a->begun;
	a->info.sent = a->stream.bytes_out;
	a->untold = false;
}

static void publish(struct vc_arrival *a, uint32_t state)
{
	note_state(a, state);
	vc_migrate_publish(a->vm, &a->info);
}

void vc_arrival_publish(struct vc_arrival *a, uint32_t state)
{
	note_state(a, state);
	a->untold = !vc_migrate_try_publish(a->vm, &a->info);
}

void vc_arrival_set_phase(struct vc_arrival *a, enum vc_arrival_phase phase)
{
	pthread_mutex_lock(&a->lock);
	a->phase = phase;
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
}

/* ---- faults ---- */

/* Vcpus that wait outside of the kernel look again by VC_REQ_IRQ, which asks for nothing more. */
static void request_all(struct vc_arrival *a, uint32_t request)
{
	for (uint32_t i = 0; i < a->vm->bvm.vcpus; i++)
		vc_bvcpu_request(&a->vm->vcpus[i].b, request);
}

static struct vc_arriving_slot *find_slot(struct vc_arrival *a, uint64_t address, uint64_t *page)
{
	for (uint32_t i = 0; i < a->count; i++) {
		struct vc_arriving_slot *s = &a->slot[i];
		uint64_t at = address - (uintptr_t)s->slot->hva;

		*page = at / VC_PAGE_SIZE;
		if (at < s->slot->length)
			return s;
	}
	return NULL;
}

int vc_arrival_ask(struct vc_arrival *a, const struct vc_arriving_slot *s, uint64_t page)
{
	uint8_t payload[8];

	vc_st64(payload, page);
	return vc_mig_send(&a->stream, VC_MIG_WANT, (uint32_t)(s - a->slot), payload, sizeof payload);
}

/* Without a connection it is asked for on the next one. */
static int want(struct vc_arrival *a, struct vc_arriving_slot *s, uint64_t page)
{
	if (!vc_test_bit(s->absent, page) || vc_test_bit(s->asked, page))
		return 0;
	s->asked[page / 64] |= 1ull << (page % 64);
	a->outstanding++;
	a->info.wanted++;
	return a->phase == VC_ARRIVAL_INTERRUPTED ? 0 : vc_arrival_ask(a, s, page);
}

/* Somebody waits there. */
static int serve_fault(struct vc_arrival *a, uint64_t address)
{
	uint64_t page;
	struct vc_arriving_slot *s = find_slot(a, address, &page);

	if (!s)
		return 0;
	/* never written by the guest, or emptied since */
	if (!vc_test_bit(s->absent, page))
		return vc_missing_fill(a->faults, s->slot, page, 1, NULL);
	return a->outstanding < ASKED_MAX ? want(a, s, page) : 0;
}

int vc_arrival_serve_wants(struct vc_arrival *a)
{
	struct vc_arrival_want wants[VC_ARRIVAL_WANTS];
	bool wake = false;
	uint32_t count;
	int r = 0;

	pthread_mutex_lock(&a->lock);
	count = a->wants;
	memcpy(wants, a->want, sizeof wants);
	a->wants = 0;
	pthread_mutex_unlock(&a->lock);
	a->wake_always |= wake = count > VC_ARRIVAL_WANTS;
	for (uint32_t i = 0; i < count && i < VC_ARRIVAL_WANTS; i++) {
		int sent = want(a, wants[i].slot, wants[i].page);

		/* it came before it was known that somebody waits */
		wake |= !vc_test_bit(wants[i].slot->absent, wants[i].page);
		r = r < 0 ? r : sent;
	}
	if (wake)
		request_all(a, VC_REQ_IRQ);
	return r;
}

static int serve_faults(struct vc_arrival *a)
{
	uint64_t address[FAULTS];
	int n = vc_missing_who(a->faults, address, FAULTS), r = n < 0 ? n : 0;

	for (int i = 0; r >= 0 && i < n; i++)
		r = serve_fault(a, address[i]);
	return r;
}

/* ---- pages ---- */

static bool all_absent(const struct vc_arriving_slot *s, uint64_t page, uint32_t count)
{
	for (uint64_t i = page; i < page + count; i++)
		if (!vc_test_bit(s->absent, i))
			return false;
	return true;
}

static void note_arrived(struct vc_arrival *a, struct vc_arriving_slot *s, uint64_t page, uint32_t count)
{
	uint32_t asked = a->outstanding;

	for (uint64_t i = page; i < page + count; i++) {
		uint64_t bit = 1ull << (i % 64);

		a->outstanding -= (s->asked[i / 64] & bit) != 0;
		s->asked[i / 64] &= ~bit;
	}
	vc_missing_came(s->absent, page, count);
	a->left -= count;
	if ((asked != a->outstanding || a->wake_always) && atomic_load(&s->missing.waiting))
		request_all(a, VC_REQ_IRQ);
}

/* One run; *data: the contents that are left, of *left pages. */
static int take_run(struct vc_arrival *a, const uint8_t *run, const uint8_t **data, uint32_t *left)
{
	uint32_t index = vc_ld32(run), kind = vc_ld32(run + 4), count = kind & ~VC_MIG_ZEROES;
	struct vc_arriving_slot *s = index < a->count ? &a->slot[index] : NULL;
	bool zeroes = kind & VC_MIG_ZEROES;
	uint64_t page = vc_ld64(run + 8);
	int r = 0;

	if (!s || !count || page >= s->pages || count > s->pages - page || (!zeroes && count > *left) ||
	    !all_absent(s, page, count))
		return vc_fail(EPROTO, "migration: %u pages from %llu on for slot %u, which are not awaited", count,
		               (unsigned long long)page, index);
	if (!s->slot->host_readonly) /* the same file, as for a snapshot */
		r = vc_missing_fill(a->faults, s->slot, page, count, zeroes ? NULL : *data);
	if (r < 0)
		return r;
	*data += zeroes ? 0 : (size_t)count * VC_PAGE_SIZE;
	*left -= zeroes ? 0 : count;
	*(zeroes ? &a->info.zero_pages : &a->info.pages) += count;
	note_arrived(a, s, page, count);
	return 0;
}

static int take_pages(struct vc_arrival *a, const struct vc_mig_frame *f)
{
	uint32_t runs = f->argument, table = runs * VC_MIG_RUN_BYTES, left;
	const uint8_t *data;
	int r = 0;

	if (!runs || runs > VC_MIG_RUNS || f->length < table || (f->length - table) % VC_PAGE_SIZE)
		return vc_fail(EPROTO, "migration: %u runs of pages in %u bytes", runs, f->length);
	data = f->payload + table;
	left = (f->length - table) / VC_PAGE_SIZE;
	for (uint32_t i = 0; r >= 0 && i < runs; i++)
		r = take_run(a, f->payload + i * VC_MIG_RUN_BYTES, &data, &left);
	return r >= 0 && left ? vc_fail(EPROTO, "migration: %u pages that no run has", left) : r;
}

/* ---- the thread ---- */

static int take_go(struct vc_arrival *a)
{
	int r;

	if (a->phase != VC_ARRIVAL_WAITING)
		return vc_fail(EPROTO, "migration: the source gave up what was not taken");
	r = vc_mig_send(&a->stream, VC_MIG_RUNS_FRAME, 0, NULL, 0);
	if (r < 0)
		return r;
	publish(a, VCORE_MIGRATE_POSTCOPY);
	vc_arrival_set_phase(a, VC_ARRIVAL_FILLING);
	return 0;
}

/* All is there: 1. */
static int take_end(struct vc_arrival *a)
{
	int r;

	if (a->phase != VC_ARRIVAL_FILLING || a->left)
		return vc_fail(EPROTO, "migration: the source is at its end, where %llu pages are to come",
		               (unsigned long long)a->left);
	r = vc_mig_send(&a->stream, VC_MIG_WHOLE, 0, NULL, 0);
	/* the vm is whole, whether the source hears of it or not */
	return r < 0 && r == -ECANCELED ? r : 1;
}

static int take_frame(struct vc_arrival *a)
{
	struct vc_mig_frame f;
	int r = vc_mig_receive(&a->stream, &f);

	if (r < 0)
		return r;
	a->heard = vc_host_ns();
	if (f.kind == VC_MIG_PAGES_FRAME)
		r = take_pages(a, &f);
	else if (f.kind == VC_MIG_GO)
		r = take_go(a);
	else if (f.kind == VC_MIG_END)
		r = take_end(a);
	else
		r = vc_fail(EPROTO, "migration: a frame of kind %u came where pages were expected", f.kind);
	free(f.payload);
	return r;
}

static int tell_loaded(struct vc_arrival *a)
{
	uint64_t count;

	if (read(a->loaded, &count, sizeof count) < 0)
		return errno == EAGAIN ? 0 : vc_fail_errno(errno, "migration: an eventfd");
	/* before the source can answer */
	vc_arrival_set_phase(a, VC_ARRIVAL_WAITING);
	a->heard = vc_host_ns();
	return vc_mig_send(&a->stream, VC_MIG_LOADED, 0, NULL, 0);
}

static int check_idle(const struct vc_arrival *a)
{
	uint64_t idle = vc_host_ns() - a->heard;

	/* while the states are loaded the source has nothing to say, unless it is asked */
	if (idle < a->stream.idle_ns || (a->phase == VC_ARRIVAL_LOADING && !a->outstanding) ||
	    a->phase == VC_ARRIVAL_INTERRUPTED)
		return 0;
	return vc_fail(ETIMEDOUT, "migration: nothing has come for %llu ms", (unsigned long long)(idle / 1000000));
}

/*
 * One that has ended does not wait for what may never come: its vcpus would not see that it has. Whoever has the lock
 * may wait for a page: then it is looked at again.
 */
static int check_ended(struct vc_arrival *a)
{
	bool ended;

	if (a->phase != VC_ARRIVAL_INTERRUPTED || pthread_mutex_trylock(&a->vm->lock))
		return 0;
	ended = a->vm->ending;
	pthread_mutex_unlock(&a->vm->lock);
	return ended ? vc_fail(ECANCELED, "the vm has ended") : 0;
}

/* One look at all there is. 1: the end; 0; -errno */
static int step(struct vc_arrival *a)
{
	struct pollfd fds[] = {{a->stop, POLLIN, 0},
	                       {a->faults, POLLIN, 0},
	                       {a->loaded, POLLIN, 0},
	                       {a->stream.fd, POLLIN, 0}, /* -1: looked over */
	                       {a->again, POLLIN, 0}};
	int n = poll(fds, VC_ARRAY_SIZE(fds), 100), r = 0;

	if (n < 0 && errno != EINTR)
		return vc_fail_errno(errno, "migration: waiting");
	if (n > 0 && fds[0].revents)
		return vc_fail(ECANCELED, "the migration was cancelled");
	if (n > 0 && fds[1].revents)
		r = serve_faults(a);
	if (r >= 0 && n > 0 && fds[2].revents)
		r = tell_loaded(a);
	if (r >= 0 && n > 0 && fds[3].revents)
		r = take_frame(a);
	if (r == 0 && n > 0 && fds[4].revents)
		r = vc_arrival_go_on(a);
	if (a->untold)
		vc_arrival_publish(a, a->info.state);
	if (r == 0)
		r = check_ended(a);
	return r != 0 ? r : check_idle(a);
}

static void end_missing(struct vc_arrival *a, bool lost)
{
	for (uint32_t i = 0; i < a->count; i++)
		if (a->slot[i].registered)
			atomic_store(&a->slot[i].slot->presence, lost ? VC_LOST : VC_PRESENT);
}

/* The vm is ours, and cannot go on, or is not wanted any more. */
static void lose(struct vc_arrival *a, int error)
{
	a->exit = (struct vcore_exit){.size = sizeof a->exit, .reason = VCORE_EXIT_STOPPED};
	if (error != -ECANCELED) {
		a->exit.reason = VCORE_EXIT_CRASH;
		a->exit.crash = VCORE_CRASH_MEMORY_LOST;
	}
	snprintf(a->exit.message, sizeof a->exit.message, "%llu pages that were to follow by post-copy are lost: %.120s",
	         (unsigned long long)a->left, vcore_error_message());
	snprintf(a->info.error, sizeof a->info.error, "%s", a->exit.message);
	end_missing(a, true);
	/* Who waits for a page goes on with zeroes, vcpus for no more than an instruction or a few. Only then can the vm's
	 * lock be taken: a thread may hold it and wait. */
	atomic_store(&a->vm->lost, &a->exit);
	request_all(a, VC_REQ_PAUSE);
	vc_arrival_close_faults(a);
	vc_vm_end(a->vm, &a->exit);
	publish(a, VCORE_MIGRATE_LOST);
}

static void complete(struct vc_arrival *a)
{
	end_missing(a, false);
	/* for what came with the last frames, of which it was not known yet */
	request_all(a, VC_REQ_IRQ);
	vc_arrival_close_faults(a);
	/* who could not use this memory so far may look again */
	atomic_fetch_add(&a->vm->mem.version, 1);
	publish(a, VCORE_MIGRATE_COMPLETED);
}

/*
 * A vm that has ended needs no more, which is no loss to the source. It closes the connection when it has heard of it;
 * what comes until then may begin in the midst of a frame.
 */
static void need_no_more(struct vc_arrival *a)
{
	struct pollfd from = {a->stream.fd, POLLIN, 0};
	uint8_t scrap[4096];
	int r;

	a->stream.cancel_fd = -1;
	a->stream.deadline = vc_host_ns() + a->stream.idle_ns;
	r = vc_mig_send(&a->stream, VC_MIG_WHOLE, 0, NULL, 0);
	while (r >= 0 && vc_host_ns() < a->stream.deadline &&
	       (poll(&from, 1, 100) == 0 || read(a->stream.fd, scrap, sizeof scrap) > 0))
		;
}

static void end(struct vc_arrival *a, int r)
{
	char message[sizeof a->message] = "";
	bool interrupted = a->phase == VC_ARRIVAL_INTERRUPTED, ours = interrupted || a->phase == VC_ARRIVAL_FILLING;

	if (r < 0)
		snprintf(message, sizeof message, "%s", vcore_error_message());
	if (r == -ECANCELED && ours && a->ended)
		need_no_more(a);
	else if (r < 0 && ours)
		vc_mig_tell_failure(&a->stream);
	if (r < 0 && ours)
		vc_mig_stream_shutdown(&a->stream);
	if (r > 0)
		complete(a);
	else if (ours)
		lose(a, r);
	else
		end_missing(a, true);
	vc_arrival_close_faults(a);
	pthread_mutex_lock(&a->lock);
	a->error = r < 0 ? r : 0;
	memcpy(a->message, message, sizeof message);
	a->phase = VC_ARRIVAL_DONE;
	a->whole = r > 0;
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
	vc_arrival_refuse(a);
	/* nor waits for a connection */
	if (interrupted)
		vcore_migrate_cancel(a->vm);
}

void *vc_arrival_run(void *ctx)
{
	struct vc_arrival *a = ctx;
	int r;

	do {
		r = step(a);
		if (r < 0 && r != -ECANCELED && a->phase == VC_ARRIVAL_FILLING) {
			vc_arrival_interrupt(a, r);
			r = 0;
		}
	} while (r == 0);
	end(a, r);
	return NULL;
}
